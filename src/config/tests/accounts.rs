//! The accounts file as a part of the settings.

use std::fs::{Permissions, set_permissions};
use std::os::unix::fs::PermissionsExt;

use super::*;

const ALICE: &str = r#"[{"name":"alice","password":"hunter2"}]"#;

/// A file that only its owner can read.
fn private(directory: &Directory, content: impl AsRef<[u8]>) -> String {
    let path = directory.write("accounts.json", content);
    set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    path.to_str().unwrap().to_owned()
}

fn load(pairs: Pairs<'_>) -> Result<Loaded, Faults> {
    load_from(lookup(pairs), None, &[], None)
}

#[test]
fn the_accounts_are_those_of_the_file() {
    let directory = Directory::new();
    let path = private(&directory, ALICE);
    let loaded = load(&[("ACCOUNTS_FILE", &path)]).unwrap();
    let [alice] = &loaded.settings.accounts[..] else { panic!("{:?}", loaded.settings.accounts) };
    assert_eq!((&*alice.name, alice.password.expose()), ("alice", "hunter2"));
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    assert_eq!(described(&loaded.settings)["ACCOUNTS_FILE"], path);
    let shown = format!("{loaded:?} {:?}", described(&loaded.settings));
    assert!(!shown.contains("hunter2"), "{shown}");

    for unset in [&[][..], &[("ACCOUNTS_FILE", "")]] {
        assert!(load(unset).unwrap().settings.accounts.is_empty());
    }
    let env_file = directory.write("test.env", format!("ACCOUNTS_FILE={path}\n"));
    let loaded = load_from(|_| None, Some(&env_file), &[], None).unwrap();
    assert_eq!(loaded.settings.accounts.len(), 1);
}

#[test]
fn faults_of_the_settings_and_of_both_files_are_reported_together() {
    let directory = Directory::new();
    let accounts = private(&directory, r#"[{"name":"alice","password":"DevamOP"},{"name":"bob","expires":"hunter2"}]"#);
    let env_file = directory.write("test.env", format!("ACCOUNTS_FILE={accounts}\nhunter2\nPROXY_PORT=nine\n"));
    let faults = load_from(|_| None, Some(&env_file), &[], None).unwrap_err();
    let names: Vec<&str> = faults.iter().map(|fault| &*fault.name).collect();
    let file = env_file.to_str().unwrap();
    assert_eq!(names, [file, "PROXY_PORT", "ACCOUNTS_FILE", "ACCOUNTS_FILE", "ACCOUNTS_FILE"], "{faults}");
    let text = faults.to_string();
    let place = format!("ACCOUNTS_FILE={accounts}: entry 1 (alice): password: it is PROXY_PASSWORD");
    assert!(text.contains(&place) && !text.contains("hunter2"), "{text}");

    // Without a fault of the settings as well.
    let faults = load(&[("ACCOUNTS_FILE", &accounts), ("PROXY_PASSWORD", "hunter2")]).unwrap_err();
    assert_eq!(faults.iter().count(), 2, "alice does not have this PROXY_PASSWORD: {faults}");
}

#[test]
fn a_reload_reads_the_accounts_again() {
    let directory = Directory::new();
    let path = private(&directory, ALICE);
    let pairs = [("ACCOUNTS_FILE", &*path)];
    let present = load(&pairs).unwrap().settings;
    let reload = || load_from(lookup(&pairs), None, &[], Some(&present));
    assert!(reload().unwrap().settings.differences(&present).is_empty());

    private(&directory, ALICE.replace("hunter2", "hunter3"));
    let next = reload().unwrap().settings;
    assert_eq!(next.accounts[0].password.expose(), "hunter3");
    assert_eq!(next.differences(&present), ["ACCOUNTS_FILE"]);

    private(&directory, "[");
    assert_eq!(reload().unwrap_err().iter().count(), 1);
}

#[test]
fn a_file_of_accounts_that_cannot_be_read_is_a_fault() {
    let directory = Directory::new();
    let missing = directory.0.join("missing").display().to_string();
    let text = load(&[("ACCOUNTS_FILE", &missing)]).unwrap_err().to_string();
    assert!(text.starts_with(&format!("ACCOUNTS_FILE={missing}: it cannot be read: No such file")), "{text}");
    // It is relative to the working directory, which is the crate's in a test.
    let text = load(&[("ACCOUNTS_FILE", "Cargo.toml")]).unwrap_err().to_string();
    assert!(text.starts_with("ACCOUNTS_FILE=Cargo.toml: it is not JSON"), "{text}");

    let folder = directory.0.display().to_string();
    let text = load(&[("ACCOUNTS_FILE", &folder)]).unwrap_err().to_string();
    assert!(text.contains("it is not a file ("), "{text}");
    let path = |name: &str| directory.0.join(name).display().to_string();
    let pipe = path("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let text = load(&[("ACCOUNTS_FILE", &pipe)]).unwrap_err().to_string();
    assert!(text.contains("it is not a file ("), "{text}");

    let fill = |size: usize| {
        let mut content = ALICE.as_bytes().to_vec();
        content.resize(size, b' ');
        private(&directory, content)
    };
    let whole = fill(4 << 20);
    load(&[("ACCOUNTS_FILE", &whole)]).unwrap();
    let large = fill((4 << 20) + 1);
    let text = load(&[("ACCOUNTS_FILE", &large)]).unwrap_err().to_string();
    assert!(text.contains("it is larger than 4 MiB ("), "{text}");
}

#[test]
fn a_value_that_is_no_path_is_one_fault() {
    let faults = load(&[("ACCOUNTS_FILE", " accounts.json")]).unwrap_err();
    assert_eq!(faults.iter().count(), 1, "{faults}");
}

#[test]
fn a_file_of_accounts_that_others_can_read_is_a_warning() {
    let directory = Directory::new();
    let path = private(&directory, ALICE);
    for mode in [0o644, 0o604, 0o602, 0o660] {
        set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        let loaded = load(&[("ACCOUNTS_FILE", &path)]).unwrap();
        assert_eq!(loaded.settings.accounts.len(), 1);
        let [warning] = &loaded.warnings[..] else { panic!("{mode:o}: {:?}", loaded.warnings) };
        let start = format!("ACCOUNTS_FILE={path}: other users of this machine can read or change it (run chmod 600");
        assert!(warning.starts_with(&start), "{warning}");
    }
}
