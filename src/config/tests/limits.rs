//! Limits, and the paths of what outlasts the process.

use super::*;

fn rate(count: u32, seconds: u64, burst: u32) -> Rate {
    Rate { count, period: Duration::from_secs(seconds), burst }
}

#[test]
fn rates() {
    for (text, read, written) in [
        ("off", None, "off"),
        ("50/s", Some(rate(50, 1, 200)), "50/s"),
        ("300/m", Some(rate(300, 60, 1200)), "300/m"),
        ("1/h", Some(rate(1, 3600, 4)), "1/h"),
        ("50/s burst=1", Some(rate(50, 1, 1)), "50/s burst=1"),
        ("50/s burst=200", Some(rate(50, 1, 200)), "50/s"),
        ("050/s burst=0100", Some(rate(50, 1, 100)), "50/s burst=100"),
        ("1000000/s", Some(rate(1_000_000, 1, 1_000_000)), "1000000/s"),
        ("250001/s", Some(rate(250_001, 1, 1_000_000)), "250001/s"),
    ] {
        for name in ["CONNECTION_RATE", "REQUEST_RATE"] {
            let settings = good(&[(name, text)]);
            let limits = &settings.limits;
            let value = if name == "CONNECTION_RATE" { limits.connection_rate } else { limits.request_rate };
            assert_eq!(value, read, "{text}");
            assert_eq!(described(&settings)[name], written, "{text}");
            assert_eq!(described(&good(&[(name, written)]))[name], written, "{text}");
        }
    }
    for (text, reason) in [
        ("50", "not a rate"),
        ("/s", "not a rate"),
        ("-1/s", "not a rate"),
        ("+5/s", "not a rate"),
        ("1.5/s", "not a rate"),
        (" 50/s", "not a rate"),
        ("on", "not a rate"),
        ("50/s burst=", "not a rate"),
        ("50/s burst=many", "not a rate"),
        ("50/s  burst=5", "burst="),
        ("50/s 100", "burst="),
        ("50/s,burst=100", "period"),
        ("50/", "period"),
        ("50/S", "period"),
        ("50/d", "period"),
        ("50/sec", "period"),
        ("50/1s", "period"),
        ("0/s", "number is zero"),
        ("5/s burst=0", "burst is zero"),
        ("1000001/s", "number is too large"),
        ("99999999999999999999/s", "number is too large"),
        ("5/s burst=1000001", "burst is too large"),
    ] {
        let fault = bad(&[("REQUEST_RATE", text)], &["REQUEST_RATE"]);
        assert!(fault.contains(reason) && fault.ends_with(')'), "{text:?}: {fault}");
    }
}

#[test]
fn numbers_of_connections() {
    assert_eq!(good(&[("MAX_CONNECTIONS", "1")]).limits.max_connections, Some(1));
    assert_eq!(good(&[("MAX_CONNECTIONS", "1000000")]).limits.max_connections, Some(1_000_000));
    for (text, per_address) in [("", PerAddress::Share), ("off", PerAddress::Off), ("007", PerAddress::Number(7))] {
        assert_eq!(good(&[("MAX_CONNECTIONS_PER_ADDRESS", text)]).limits.connections_per_address, per_address);
    }
    for name in ["MAX_CONNECTIONS", "MAX_CONNECTIONS_PER_ADDRESS"] {
        for (text, reason) in [
            ("0", "zero"),
            ("1000001", "too large"),
            ("99999999999999999999", "too large"),
            ("-1", "number"),
            ("+1", "number"),
            ("1.5", "number"),
            ("many", "number"),
            ("OFF", "number"),
        ] {
            let fault = bad(&[(name, text)], &[name]);
            assert!(fault.contains(reason) && fault.ends_with(')'), "{text:?}: {fault}");
        }
    }
    bad(&[("MAX_CONNECTIONS", "off")], &["MAX_CONNECTIONS"]);
}

#[test]
fn the_share_of_one_address_follows_the_total() {
    for (total, share) in [(1, 1), (7, 1), (8, 1), (16, 2), (8000, 1000)] {
        assert_eq!(PerAddress::Share.of(total), Some(share), "{total}");
    }
    assert_eq!((PerAddress::Off.of(8), PerAddress::Number(9).of(8)), (None, Some(9)));
}

#[test]
fn a_limit_per_address_is_not_above_the_total() {
    let both = |per_address| [("MAX_CONNECTIONS", "100"), ("MAX_CONNECTIONS_PER_ADDRESS", per_address)];
    let fault = bad(&both("101"), &["MAX_CONNECTIONS_PER_ADDRESS"]);
    assert!(fault.contains("MAX_CONNECTIONS=100"), "{fault}");
    good(&both("100"));
    good(&both("off"));
    good(&[("MAX_CONNECTIONS_PER_ADDRESS", "101")]);
}

#[test]
fn wrong_passwords_before_a_ban() {
    for (text, number, written) in
        [("1", Some(1), "1"), ("1000", Some(1000), "1000"), ("off", None, "off"), ("0", None, "off")]
    {
        let settings = good(&[("BAN_AFTER", text)]);
        assert_eq!(settings.limits.ban_after, number, "{text}");
        assert_eq!(described(&settings)["BAN_AFTER"], written, "{text}");
    }
    for text in ["1001", "99999999999999999999", "-1", "+1", "20/m", "never", "OFF"] {
        let fault = bad(&[("BAN_AFTER", text)], &["BAN_AFTER"]);
        assert!(fault.contains("off") && fault.ends_with(')'), "{fault}");
    }
}

#[test]
fn every_entry_of_the_address_lists_has_an_effect() {
    let trusted = ("TRUSTED_PROXIES", "10.0.0.0/8,fd00::1");
    for blocked in ["127.0.0.1", "127.0.0.0/8", "192.0.2.1,::1", "::ffff:127.0.0.1"] {
        let fault = bad(&[("BLOCKED_ADDRESSES", blocked)], &["BLOCKED_ADDRESSES"]);
        assert!(fault.contains("loopback") && fault.ends_with(')'), "{fault}");
    }
    for blocked in ["10.0.0.5", "10.0.0.0/8", "fd00::1"] {
        let fault = bad(&[trusted, ("BLOCKED_ADDRESSES", blocked)], &["BLOCKED_ADDRESSES"]);
        assert!(fault.contains("TRUSTED_PROXIES") && fault.ends_with(')'), "{fault}");
        good(&[("BLOCKED_ADDRESSES", blocked)]);
    }
    // A front inside a larger network stays served, and the rest of the network is blocked.
    good(&[trusted, ("BLOCKED_ADDRESSES", "0.0.0.0/0,fd00::/8")]);
    for allowed in ["192.0.2.0/24", "192.0.2.7", "192.0.2.0/25"] {
        let fault =
            bad(&[("ALLOWED_ADDRESSES", allowed), ("BLOCKED_ADDRESSES", "192.0.2.0/24")], &["ALLOWED_ADDRESSES"]);
        assert!(fault.contains("BLOCKED_ADDRESSES has 192.0.2.0/24") && fault.ends_with(')'), "{fault}");
    }
    good(&[("ALLOWED_ADDRESSES", "192.0.2.0/24"), ("BLOCKED_ADDRESSES", "192.0.2.7")]);
    for name in ["ALLOWED_ADDRESSES", "BLOCKED_ADDRESSES"] {
        bad(&[(name, "front.example")], &[name]);
    }
}

#[test]
fn the_state_folder_is_also_what_systemd_names() {
    let folder = |pairs: Pairs<'_>| good(pairs).state_dir.map(|path| path.display().to_string());
    let systemd = |folders| ("STATE_DIRECTORY", folders);
    assert_eq!(folder(&[("STATE_DIR", "/srv/state")]).as_deref(), Some("/srv/state"));
    assert_eq!(folder(&[systemd("/var/lib/lavaproxy")]).as_deref(), Some("/var/lib/lavaproxy"));
    assert_eq!(folder(&[systemd("/var/lib/lavaproxy:/var/lib/other")]).as_deref(), Some("/var/lib/lavaproxy"));
    assert_eq!(folder(&[("STATE_DIR", "/srv/state"), systemd("/var/lib/a")]).as_deref(), Some("/srv/state"));
    assert_eq!(folder(&[("STATE_DIR", ""), systemd("/var/lib/a")]).as_deref(), Some("/var/lib/a"));
    assert_eq!(folder(&[systemd("")]), None);
    // A colon in STATE_DIR is part of the path.
    assert_eq!(folder(&[("STATE_DIR", "/srv/a:b")]).as_deref(), Some("/srv/a:b"));
    bad(&[systemd("/var/lib/a ")], &["STATE_DIRECTORY"]);
}

#[test]
fn paths_of_files_have_no_stray_blank() {
    for name in ["ACCOUNTS_FILE", "STATE_DIR"] {
        for path in [" /a", "/a ", "/a\n", "/a\nb", " "] {
            let fault = bad(&[(name, path)], &[name]);
            assert!(fault.contains("remove it"), "{fault}");
        }
        assert_eq!(described(&good(&[(name, "/a b/c")]))[name], "/a b/c");
    }
}

#[test]
fn a_ban_by_hand_may_be_longer_than_a_day() {
    for (text, seconds) in [("1s", 1), ("10m", 600), ("24h", 86_400), ("168h", 604_800), ("8760h", 31_536_000)] {
        assert_eq!(ban_duration(text), Ok(Duration::from_secs(seconds)), "{text}");
    }
    for (text, reason) in
        [("0s", "1s or more"), ("999ms", "1s or more"), ("8761h", "8760h"), ("7d", "unit"), ("", "not a duration")]
    {
        let found = ban_duration(text).expect_err(text);
        assert!(found.contains(reason), "{text:?}: {found}");
    }
}
