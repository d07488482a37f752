//! The env file, and the example of one.

use std::collections::HashSet;

use super::*;

#[test]
fn the_environment_wins_over_the_file() {
    let directory = Directory::new();
    let path = directory.write("test.env", "PROXY_PORT=1\nWEB_PORT=2\nWEB_PASSWORD=from-file\n");
    let loaded = load_from(lookup(&[("PROXY_PORT", "3"), ("WEB_PASSWORD", "")]), Some(&path), &[], None).unwrap();
    assert_eq!((loaded.settings.proxy.port, loaded.settings.web.port), (3, 2));
    assert!(loaded.settings.web_password.is_none());
    assert_eq!(loaded.file, Some(path));
    assert!(loaded.warnings.is_empty());
}

#[test]
fn the_first_default_file_counts() {
    let directory = Directory::new();
    let (first, second) = (directory.0.join("lavaproxy.env"), directory.0.join(".env"));
    let load = |wanted: Option<&Path>| load_from(|_| None, wanted, &[&first, &second], None);
    let loaded = load(None).unwrap();
    assert_eq!((loaded.file, loaded.settings.proxy.port), (None, 6923));
    directory.write(".env", "PROXY_PORT=2\nWEB_PORT=22");
    let loaded = load(None).unwrap();
    assert_eq!((loaded.file.as_ref(), loaded.settings.proxy.port), (Some(&second), 2));
    directory.write("lavaproxy.env", "PROXY_PORT=1");
    let loaded = load(None).unwrap();
    assert_eq!((loaded.file.as_ref(), loaded.settings.proxy.port), (Some(&first), 1));
    assert_eq!(loaded.settings.web.port, 6980, "one file is read, not two");
    let third = directory.write("third", "PROXY_PORT=3");
    let loaded = load(Some(&third)).unwrap();
    assert_eq!((loaded.file.as_ref(), loaded.settings.proxy.port), (Some(&third), 3));
}

#[test]
fn a_file_that_cannot_be_read_is_a_fault() {
    let directory = Directory::new();
    let missing = directory.0.join("missing");
    let text = load_from(|_| None, Some(&missing), &[], None).unwrap_err().to_string();
    assert!(text.starts_with(&missing.display().to_string()) && text.ends_with(')'), "{text}");
    // A bind mount whose source is missing leaves a directory.
    load_from(|_| None, Some(&directory.0), &[], None).unwrap_err();
    load_from(|_| None, None, &[&directory.0], None).unwrap_err();
    load_from(|_| None, None, &[&missing], None).unwrap();
    let large = directory.write("large", vec![b'\n'; 2 << 20]);
    load_from(|_| None, Some(&large), &[], None).unwrap_err();
}

#[test]
fn an_unreadable_line_is_reported_by_its_number_only() {
    for (content, lines) in [
        ("hunter2\n", &[1][..]),
        ("\n# comment\n\nPROXY_PORT=1\nPROXY_PASSWORD=hunter2 hunter2\n", &[5]),
        ("=hunter2\nPROXY_PORT=1\n1=hunter2\r\nPROXY PORT=hunter2", &[1, 3, 4]),
        ("PROXY_PORT=1\nPROXY_PASSWORD='hunter2\nWEB_PORT=1\n\n\n", &[2]),
        ("PROXY_PORT=1\nPROXY_PASSWORD=\"hunter2", &[2]),
        ("A='one\ntwo'\nPROXY_PASSWORD='hunter2\nhunter2' hunter2\nB=1\nhunter2", &[3, 6]),
        ("PROXY_PASSWORD=hunter2\\x # hunter2\n", &[1]),
        ("A=${hunter2\n", &[1]),
        (&format!("A={}\nhunter2\n", "x".repeat(100_000)), &[2]),
        (&format!("hunter2 {}\n\nhunter2\n", "x".repeat(100_000)), &[1, 3]),
    ] {
        let faults = load_file(content).unwrap_err();
        let text = faults.to_string();
        assert!(!text.contains("hunter2"), "{text}");
        let text: Vec<String> = faults.iter().map(|fault| fault.reason.clone()).collect();
        assert_eq!(text.len(), lines.len(), "{content:.80}: {text:?}");
        for (reason, line) in text.iter().zip(lines) {
            assert!(reason.starts_with(&format!("line {line} ")), "{content:.80}: {text:?}");
        }
    }
    let faults = load_file(b"A=1\nPROXY_PASSWORD=hunter2\xff\nPROXY_PORT=nine\n").unwrap_err().to_string();
    assert!(faults.contains("line 2 is not UTF-8") && !faults.contains("hunter2"), "{faults}");
    assert!(
        faults.contains("PROXY_PORT=nine"),
        "the faults of the file and of the settings are reported together: {faults}"
    );
}

#[test]
fn what_editors_and_shells_write_is_read() {
    for content in [
        "PROXY_PASSWORD='a $b #c'\nPROXY_PORT=1",
        "\u{feff}PROXY_PASSWORD='a $b #c'\r\nPROXY_PORT=1\r\n",
        "export PROXY_PASSWORD='a $b #c' # comment\nexport PROXY_PORT=1 # comment",
        "PROXY_PASSWORD=\"a \\$b #c\"\nPROXY_PORT = \"1\"  ",
        "# it's a comment\nPROXY_PASSWORD='a $b #c'\n  PROXY_PORT=1\t\n",
    ] {
        let loaded = load_file(content).unwrap_or_else(|faults| panic!("{content:?}: {faults}"));
        assert_eq!(loaded.settings.proxy_password.expose(), "a $b #c", "{content:?}");
        assert_eq!(loaded.settings.proxy.port, 1, "{content:?}");
        assert!(loaded.warnings.is_empty(), "{content:?}");
    }
}

#[test]
fn names_that_look_misspelt_are_warnings() {
    let loaded = load_file(
        "LAVALINK_HOST=x\nPROXY_PASWORD=hunter2\nWEB_PORT=1\nWEB_PORT=2\nWEB_UI=1\nDISCORD_TOKEN=x\nDISCORD_TOKEN=y\n",
    )
    .unwrap();
    assert_eq!(loaded.settings.web.port, 2);
    let text = loaded.warnings.join("\n");
    assert_eq!(loaded.warnings.len(), 4, "{text}");
    for name in ["LAVALINK_HOST", "PROXY_PASWORD", "WEB_PORT", "WEB_UI"] {
        assert!(text.contains(name), "{text}");
    }
    assert!(!text.contains("hunter2"), "{text}");
    // They may be the cause of a fault, and are reported with it.
    let faults = load_file("WEB_HOST=0.0.0.0\nWEB_PASWORD=hunter2\n").unwrap_err().to_string();
    assert!(faults.contains("WEB_PASWORD is not a setting") && !faults.contains("hunter2"), "{faults}");
}

const EXAMPLE: &str = include_str!("../../../lavaproxy.env.example");

/// The lines `#NAME=value` of the example.
fn example_assignments() -> Vec<&'static str> {
    let is_name = |name: &str| {
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_' || byte.is_ascii_digit())
    };
    EXAMPLE
        .lines()
        .filter_map(|line| line.strip_prefix('#'))
        .filter(|line| line.split_once('=').is_some_and(|(name, _)| is_name(name)))
        .collect()
}

#[test]
fn the_example_has_every_setting_once_and_no_other() {
    let names: Vec<&str> = example_assignments().iter().map(|line| line.split('=').next().unwrap()).collect();
    assert_eq!(names, SETTINGS.map(|setting| setting.name));
    assert_eq!(names.iter().collect::<HashSet<_>>().len(), SETTINGS.len());
    for line in EXAMPLE.lines() {
        assert!(line.is_empty() || line.starts_with('#'), "it changes nothing as it stands: {line}");
        assert!(line.len() <= 120, "{line}");
    }
}

#[test]
fn the_example_is_the_defaults() {
    for content in [EXAMPLE.to_owned(), example_assignments().join("\n")] {
        let loaded = load_file(content).unwrap();
        assert_eq!(described(&loaded.settings), described(&good(&[])));
        assert!(loaded.settings.default_password_stands() && loaded.warnings.is_empty());
    }
    for (line, setting) in example_assignments().iter().zip(SETTINGS) {
        assert_eq!(*line, format!("{}={}", setting.name, setting.default));
    }
}

#[test]
fn each_example_in_the_example_is_valid() {
    let examples: Vec<&str> = EXAMPLE.lines().filter_map(|line| line.strip_prefix("#   Example: ")).collect();
    assert_eq!(examples.len(), SETTINGS.len() - 3, "two versions share theirs in three places");
    for example in &examples {
        if let Some(path) = example.strip_prefix("ACCOUNTS_FILE=") {
            // This reads no accounts: the machine of a test need not have that file.
            good(&[("ACCOUNTS_FILE", path)]);
            continue;
        }
        let context = match example.split('=').next() {
            Some("WEB_HOST") => "WEB_PASSWORD=x\n",
            Some("PROXY_PROTOCOL") => "TRUSTED_PROXIES=10.0.0.1\n",
            _ => "",
        };
        let loaded = load_file(format!("{context}{example}")).unwrap_or_else(|faults| panic!("{example}: {faults}"));
        assert!(loaded.warnings.is_empty(), "{example}: {:?}", loaded.warnings);
    }
    let quoted = load_file(r#"PROXY_PASSWORD="it's 5\$""#).unwrap();
    assert!(EXAMPLE.contains(r#"PROXY_PASSWORD="it's 5\$""#));
    assert_eq!(quoted.settings.proxy_password.expose(), "it's 5$");
    let quoted = load_file("PROXY_PASSWORD='correct horse $taple #1'").unwrap();
    assert_eq!(quoted.settings.proxy_password.expose(), "correct horse $taple #1");
}
