#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Duration;

use super::*;

/// Every password in these tests begins with this, so that one in a message is found.
const PASSWORD: &str = "hunter2";

fn accounts(text: &str) -> Vec<Account> {
    parse(text.as_bytes(), "DevamOP").unwrap_or_else(|faults| panic!("{text}: {faults:?}"))
}

fn faults(text: impl AsRef<[u8]>) -> Vec<String> {
    let faults = parse(text.as_ref(), "hunter2-proxy").expect_err("there is a fault");
    assert!(!faults.is_empty());
    for fault in &faults {
        assert!(!fault.contains(PASSWORD), "{fault}");
        assert!(fault.ends_with(')'), "each fault says what to do: {fault}");
    }
    faults
}

/// The only fault of an account with this field besides its name and password.
fn fault_of(field: &str) -> String {
    let found = faults(format!(r#"[{{"name":"alice","password":"hunter2",{field}}}]"#));
    let [fault] = &found[..] else { panic!("{field}: {found:?}") };
    fault.strip_prefix("entry 1 (alice): ").unwrap_or_else(|| panic!("{fault}")).to_owned()
}

#[test]
fn an_account_has_every_field() {
    let text = r#"[{"name":"alice","password":"hunter2","versions":["v4"],"connections":10,"requestsPerSecond":5,
        "expires":"2027-01-31","enabled":false},{"password":"hunter2 two","name":"Bob_2.x-y"}]"#;
    let [alice, bob] = &accounts(text)[..] else { panic!() };
    let first = Account {
        name: "alice".into(),
        password: Secret::new("hunter2".to_owned()),
        versions: PerVersion { v3: false, v4: true },
        connections: Some(10),
        requests_per_second: Some(5),
        expires: Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1_801_353_600)),
        enabled: false,
    };
    assert_eq!(*alice, first);
    let second = Account {
        name: "Bob_2.x-y".into(),
        password: Secret::new("hunter2 two".to_owned()),
        versions: PerVersion { v3: true, v4: true },
        connections: None,
        requests_per_second: None,
        expires: None,
        enabled: true,
    };
    assert_eq!(*bob, second);
    let both = &accounts(r#"[{"name":"a","password":"x","versions":["v4","v3"]}]"#)[0];
    assert_eq!(both.versions, PerVersion { v3: true, v4: true });
}

#[test]
fn no_format_shows_a_password() {
    let text = r#"[{"name":"alice","password":"hunter2"}]"#;
    let shown = format!("{0:?} {0:#?}", accounts(text));
    assert!(shown.contains("alice") && !shown.contains(PASSWORD), "{shown}");
}

#[test]
fn an_empty_list_has_no_accounts() {
    assert!(accounts("[]").is_empty());
    assert!(accounts("\u{feff}[ ]\r\n").is_empty());
}

#[test]
fn text_that_is_no_list_of_accounts_is_refused() {
    const NO_LIST: &str = r#"it is not a list (write such as [{"name":"alice","password":"..."}])"#;
    for text in ["{}", r#"{"name":"alice","password":"hunter2"}"#, r#""hunter2""#, "null", "7"] {
        assert_eq!(faults(text), [NO_LIST], "{text}");
    }
    for (text, place) in [
        ("", "line 1 column 0"),
        ("[", "line 1 column 1"),
        ("[\n  hunter2\n]", "line 2 column 3"),
        (r#"[{"name":"alice","password":"hunter2",}]"#, "line 1 column 39"),
        (r#"[{"name":"alice" "password":"hunter2"}]"#, "line 1 column 18"),
        ("[{\"name\":\"alice\",\"password\":\"hunter2\n\"}]", "line 2 column 0"),
        ("[] hunter2", "line 1 column 4"),
        ("hunter2", "line 1 column 1"),
    ] {
        let found = faults(text);
        assert_eq!(found.len(), 1, "{text}");
        assert!(found[0].starts_with("it is not JSON: ") && found[0].contains(place), "{text}: {found:?}");
    }
    assert!(faults(b"[{\"password\":\"hunter2\xff\"}]")[0].starts_with("it is not JSON: "));
    assert!(faults("[".repeat(100_000))[0].starts_with("it is not JSON: "), "deep nesting is refused");
}

#[test]
fn each_fault_of_a_field_has_its_text() {
    const LIMIT: &str = "it is not a whole number (write 1 or more without quotes, or remove the field for no limit)";
    const ZERO: &str = "it is 0, so the account could not be used (write 1 or more, or set enabled to false)";
    const LARGE: &str = "it is too large (the largest is 4294967295; remove the field for no limit)";
    const VERSIONS: &str = r#"write such as ["v4"] or ["v3","v4"]"#;
    for name in ["connections", "requestsPerSecond"] {
        for value in [r#""5""#, "1.5", "-1", "null", "true", "[1]", "{}", "1e300", "0.0"] {
            assert_eq!(fault_of(&format!(r#""{name}":{value}"#)), format!("{name}: {LIMIT}"), "{value}");
        }
        assert_eq!(fault_of(&format!(r#""{name}":0"#)), format!("{name}: {ZERO}"));
        assert_eq!(fault_of(&format!(r#""{name}":4294967296"#)), format!("{name}: {LARGE}"));
    }
    for value in [r#""v4""#, "4", "null", "{}"] {
        assert_eq!(fault_of(&format!(r#""versions":{value}"#)), format!("versions: it is not a list ({VERSIONS})"));
    }
    for value in [r#"["v5"]"#, r#"["v4","hunter2"]"#, "[4]", "[null]", r#"["V4"]"#] {
        let expected = format!("versions: it has an item that is not a version of Lavalink ({VERSIONS})");
        assert_eq!(fault_of(&format!(r#""versions":{value}"#)), expected, "{value}");
    }
    assert_eq!(
        fault_of(r#""versions":[]"#),
        format!("versions: it is empty, so the account could not be used ({VERSIONS}, or remove the field for both)")
    );
    for value in ["1", "null", r#""true""#, "[]"] {
        let expected = "enabled: it is neither true nor false (write one of them, without quotes)";
        assert_eq!(fault_of(&format!(r#""enabled":{value}"#)), expected, "{value}");
    }
    assert_eq!(
        fault_of(r#""expire":"hunter2""#),
        "there is no field \"expire\" (the fields are name, password, versions, connections, requestsPerSecond, \
         expires, enabled)"
    );
    assert_eq!(fault_of(r#""name":"alice""#), "the field name is there twice (remove one of the two)");
    assert_eq!(
        fault_of(r#""enabled":true,"enabled":false"#),
        "the field enabled is there twice (remove one of the two)"
    );
    let long = "x".repeat(10_000);
    assert!(fault_of(&format!(r#""{long}\n":1"#)).len() < 300, "a long name is cut");
}

#[test]
fn each_fault_of_a_name_has_its_text() {
    const FORM: &str =
        "name: it is not a name (write 64 characters at most: A-Z, a-z, 0-9, _, . and -, the first a letter or digit)";
    let of_name = |name: &str| faults(format!(r#"[{{"name":{name},"password":"hunter2"}}]"#));
    let long = format!(r#""{}""#, "x".repeat(65));
    for name in
        [r#""""#, r#""-a""#, r#"".a""#, r#""_a""#, r#""a b""#, r#""a\n""#, r#""ä""#, r#""a/b""#, &long, "7", "null"]
    {
        assert_eq!(of_name(name), [format!("entry 1: {FORM}")], "{name}");
    }
    assert_eq!(of_name(r#""hunter2 as name""#), [format!("entry 1: {FORM}")], "it may be a password");
    for name in ["a", "7", "A.b_c-d", &"x".repeat(64)] {
        assert_eq!(accounts(&format!(r#"[{{"name":"{name}","password":"x"}}]"#)).len(), 1, "{name}");
    }
    assert_eq!(
        of_name(r#""default""#),
        ["entry 1: name: the account of PROXY_PASSWORD has this name (write another name)"]
    );
    assert_eq!(
        of_name(r#""others""#),
        ["entry 1: name: the sum of forgotten accounts has this name (write another name)"]
    );
    assert_eq!(faults(r#"[{"password":"hunter2"}]"#), ["entry 1: it has no name (add the field name)"]);
}

#[test]
fn each_fault_of_a_password_has_its_text() {
    let of_password = |password: &str| {
        let found = faults(format!(r#"[{{"name":"alice","password":{password}}}]"#));
        let [fault] = &found[..] else { panic!("{password}: {found:?}") };
        fault.strip_prefix("entry 1 (alice): password: ").unwrap_or_else(|| panic!("{fault}")).to_owned()
    };
    for (password, reason) in [
        (r#""""#, "it is empty ("),
        ("1234", "it is not text ("),
        ("null", "it is not text ("),
        (r#""hunter2 ""#, "it begins or ends with a space"),
        (r#""hunter2\u0000""#, "it has a character that HTTP does not carry"),
        (r#""hunter2ä""#, "it has a character that HTTP does not carry"),
        (&format!(r#""hunter2{}""#, "x".repeat(1024)), "it is longer than 1024 characters"),
        (
            r#""Bearer hunter2""#,
            "it begins with \"Bearer \", which a client may send before any password (remove that)",
        ),
        (r#""hunter2-proxy""#, "it is PROXY_PASSWORD, which belongs to the account default (write another password)"),
    ] {
        let found = of_password(password);
        assert!(found.starts_with(reason), "{password}: {found}");
    }
    assert_eq!(faults(r#"[{"name":"alice"}]"#), ["entry 1 (alice): it has no password (add the field password)"]);
    // `Authorization: Bearer token` would be both passwords.
    let text = r#"[{"name":"alice","password":"token"}]"#;
    let found = parse(text.as_bytes(), "Bearer token").unwrap_err();
    assert!(found[0].starts_with("entry 1 (alice): password: it is PROXY_PASSWORD"), "{found:?}");
}

#[test]
fn names_and_passwords_are_unique() {
    let found = faults(
        r#"[{"name":"alice","password":"hunter2a"},{"name":"alice","password":"hunter2b"},
            {"name":"bob","password":"hunter2a"},{"name":"alice","password":"hunter2a","enabled":7},
            {"name":"Alice","password":"hunter2A"}]"#,
    );
    assert_eq!(
        found,
        [
            "entry 2 (alice): name: entry 1 has this name as well (give each account its own)",
            "entry 3 (bob): password: entry 1 has this password as well (give each account its own)",
            "entry 4 (alice): name: entry 1 has this name as well (give each account its own)",
            "entry 4 (alice): password: entry 1 has this password as well (give each account its own)",
            "entry 4 (alice): enabled: it is neither true nor false (write one of them, without quotes)",
        ]
    );
}

#[test]
fn all_faults_of_all_entries_are_found_at_once() {
    let found = faults(
        r#"[7,{"name":"alice","password":"hunter2","connections":0,"expires":"soon","size":1},
            {"name":"bob","password":"hunter2b"},{},null,["hunter2"],"hunter2",
            {"name":"-","password":" hunter2","versions":[],"requestsPerSecond":-1,"enabled":"no"}]"#,
    );
    let starts = [
        "entry 1: it is not an object",
        "entry 2 (alice): there is no field \"size\"",
        "entry 2 (alice): connections: it is 0",
        "entry 2 (alice): expires: it is not a date",
        "entry 4: it has no name",
        "entry 4: it has no password",
        "entry 5: it is not an object",
        "entry 6: it is not an object",
        "entry 7: it is not an object",
        "entry 8: name: it is not a name",
        "entry 8: password: it begins or ends",
        "entry 8: versions: it is empty",
        "entry 8: requestsPerSecond: it is not a whole number",
        "entry 8: enabled: it is neither",
    ];
    assert_eq!(found.len(), starts.len(), "{found:#?}");
    for (fault, start) in found.iter().zip(starts) {
        assert!(fault.starts_with(start), "{fault} is not {start}");
    }
}

#[test]
fn more_than_ten_thousand_accounts_are_one_fault() {
    let list = |count: usize| {
        let entry = |number| format!(r#"{{"name":"a{number}","password":"hunter2-{number}"}}"#);
        format!("[{}]", (0..count).map(entry).collect::<Vec<_>>().join(","))
    };
    assert_eq!(accounts(&list(10_000)).len(), 10_000);
    assert_eq!(faults(list(10_001)), ["it has 10001 accounts (write 10000 at most)"]);
}

#[test]
fn an_account_expires_at_a_date_or_time() {
    for (text, seconds) in [
        ("1970-01-01", 0),
        ("2027-01-31", 1_801_353_600),
        ("20270131", 1_801_353_600),
        ("2027-01-31T00:00:00Z", 1_801_353_600),
        ("2027-01-31T18:00:00", 1_801_418_400),
        ("2027-01-31T18:00", 1_801_418_400),
        ("2027-01-31 18:00", 1_801_418_400),
        ("2027-01-31T18:00:00Z", 1_801_418_400),
        ("2027-01-31t18:00:00z", 1_801_418_400),
        ("20270131T180000Z", 1_801_418_400),
        ("2027-01-31T18:00:00+00:00", 1_801_418_400),
        ("2027-01-31T18:00:00-00:00", 1_801_418_400),
        ("2027-01-31T18:00:00+02:00", 1_801_411_200),
        ("2027-01-31T18:00+0200", 1_801_411_200),
        ("2027-01-31T18:00:00-05:30", 1_801_438_200),
        ("2027-01-31T23:59:59+00:00", 1_801_439_999),
        ("2024-02-29", 1_709_164_800),
        ("2000-02-29T12:00Z", 951_825_600),
        ("2028-02-29", 1_835_395_200),
    ] {
        let expected = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        assert_eq!(moment(text), Some(expected), "{text}");
    }
    let half = SystemTime::UNIX_EPOCH + Duration::from_millis(500);
    assert_eq!(moment("1970-01-01T00:00:00.5Z"), Some(half));
    let day_before = SystemTime::UNIX_EPOCH - Duration::from_secs(86_400);
    assert_eq!(moment("1969-12-31"), Some(day_before), "it has expired");
    let last = SystemTime::UNIX_EPOCH + Duration::from_secs(253_402_300_799);
    assert_eq!(moment("9999-12-31T23:59:59Z"), Some(last));
}

#[test]
fn anything_but_a_date_or_time_is_refused() {
    for text in [
        "",
        "soon",
        "never",
        "2027",
        "2027-01",
        "2027-13-01",
        "2027-00-10",
        "2027-02-29",
        "2100-02-29",
        "1900-02-29",
        "2027-04-31",
        "2027-01-00",
        "2027-1-31",
        "31.01.2027",
        "01/31/2027",
        "2027-01-31T",
        "2027-01-31T25:00",
        "2027-01-31T18:60",
        "2027-01-31T18:00:61",
        "2027-01-31T18:00+25:99",
        "2027-01-31T18:00 CET",
        "2027-01-31T18:00[Europe/Berlin]",
        "2027-01-31T18:00+01:00[Europe/Berlin]",
        "2027-01-31[UTC]",
        "2027-01-31Z",
        "2027-01-31+02:00",
        "T18:00",
        "18:00",
        "2027-W04-7",
        "2027-031",
        "1801353600",
        " 2027-01-31",
        "2027-01-31 ",
        "2027-01-31T18:00Z hunter2",
        "Sun, 31 Jan 2027 18:00:00 GMT",
        "P1Y",
    ] {
        assert_eq!(moment(text), None, "{text}");
        assert!(fault_of(&format!(r#""expires":"{text}""#)).starts_with("expires: it is not a date or time"), "{text}");
    }
    for value in ["1801353600", "null", "true", "[]", r#"["2027-01-31"]"#] {
        assert!(fault_of(&format!(r#""expires":{value}"#)).starts_with("expires: it is not a date or time"), "{value}");
    }
}

#[test]
fn a_file_is_private_when_only_its_owner_and_a_group_of_roots_can_read_it() {
    for (mode, owner, private) in [
        (0o100600, 0, true),
        (0o100400, 0, true),
        (0o100640, 0, true),
        (0o100644, 0, false),
        (0o100660, 0, false),
        (0o100604, 0, false),
        (0o100601, 0, false),
        (0o100600, 1000, true),
        (0o100640, 1000, false),
        (0o100604, 1000, false),
        (0o100620, 1000, false),
    ] {
        assert_eq!(is_private(mode, owner), private, "{mode:o} {owner}");
    }
}
