//! Single values.

use super::*;

#[test]
fn hosts() {
    for (text, host) in [
        ("127.0.0.1", "127.0.0.1"),
        ("0.0.0.0", "0.0.0.0"),
        ("::", "::"),
        ("::1", "::1"),
        ("[::1]", "::1"),
        ("[2001:db8::7]", "2001:db8::7"),
        ("::ffff:10.0.0.1", "::ffff:10.0.0.1"),
        ("localhost", "localhost"),
        ("lavalink", "lavalink"),
        ("lavalink_v4", "lavalink_v4"),
        ("4you", "4you"),
        ("node-1.example.com", "node-1.example.com"),
        ("Node.Example.COM.", "Node.Example.COM."),
        ("1.2.3.4.example", "1.2.3.4.example"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        (&"a".repeat(63), &"a".repeat(63)),
    ] {
        assert_eq!(value::host(text).as_deref(), Ok(host), "{text}");
    }
    for (text, reason) in [
        ("", "address"),
        (" ", "space"),
        ("127.0.0.1 ", "space"),
        (" 127.0.0.1", "space"),
        ("my host", "space"),
        ("host\r", "line break"),
        ("host\0", "line break"),
        ("http://node", "URL"),
        ("ws://node:2333/", "URL"),
        ("tcp://10.0.0.1:2333", "URL"),
        ("node:2333", "port"),
        ("node:", "port"),
        ("127.0.0.1:2333", "port"),
        ("[::1]:2333", "port"),
        ("[::1", "brackets"),
        ("[::1]x", "brackets"),
        ("[127.0.0.1]", "brackets"),
        ("[]", "brackets"),
        ("[node]", "brackets"),
        ("fe80::1%eth0", "IPv6"),
        ("1:2:3", "IPv6"),
        (":::", "IPv6"),
        ("node/v4", "host only"),
        ("user@node", "host only"),
        ("*", "0.0.0.0"),
        ("256.0.0.1", "IPv4"),
        ("127.1", "IPv4"),
        ("1.2.3", "IPv4"),
        ("1.2.3.4.5", "IPv4"),
        ("127.0.0.01", "IPv4"),
        ("2130706433", "IPv4"),
        ("0x7f000001", "IPv4"),
        ("0x7f.1", "IPv4"),
        ("0X7F.0x1", "IPv4"),
        ("a..b", "host name"),
        (".a", "host name"),
        ("a..", "IPv4"),
        ("-a", "host name"),
        ("a-", "host name"),
        ("a,b", "host name"),
        ("b\u{fc}cher.example", "host name"),
        (&"a".repeat(64), "host name"),
        (&"a.".repeat(150), "host name"),
    ] {
        let found = value::host(text).expect_err(text);
        assert!(found.contains(reason), "{text:?}: {found}");
    }
}

#[test]
fn ports() {
    for (text, port) in [("0", 0), ("1", 1), ("80", 80), ("0080", 80), ("65535", 65535)] {
        assert_eq!(value::port(text), Ok(port), "{text}");
    }
    for text in
        ["", " ", "-1", "+80", "65536", "99999999999999999999", "8080 ", "http", "0x50", "80.0", "8_0", "\u{663}"]
    {
        assert!(value::port(text).is_err(), "{text}");
    }
    assert!(value::node_port("0").is_err());
    assert!(value::node_port("00").is_err());
    assert_eq!(value::node_port("2333"), Ok(2333));
    let text = bad(&[("LAVALINK_V4_PORT", "tcp://10.0.0.1:2333")], &["LAVALINK_V4_PORT"]);
    assert!(text.contains("enableServiceLinks"), "{text}");
    for name in ["PROXY_PORT", "WEB_PORT", "PROXY_V3_PORT", "PROXY_V4_PORT"] {
        good(&[(name, "0")]);
    }
    bad(&[("LAVALINK_V3_PORT", "0"), ("LAVALINK_V4_PORT", "0")], &["LAVALINK_V3_PORT", "LAVALINK_V4_PORT"]);
}

#[test]
fn passwords() {
    let every_visible: String = (b'!'..=b'~').map(char::from).collect();
    for text in ["x", "youshallnotpass", "two words", "a  b", "$#'\"\\`%,;=", &every_visible, &"x".repeat(1024)] {
        assert_eq!(value::password(text).unwrap().expose(), text);
    }
    for text in [
        "",
        " ",
        " x",
        "x ",
        "x\n",
        "x\r",
        "\tx",
        "x\u{a0}",
        "a\tb",
        "a\nb",
        "a\r\nX: y",
        "a\0b",
        "a\x7fb",
        "p\u{e4}ss",
        "\u{1f511}",
        &"x".repeat(1025),
    ] {
        assert!(value::password(text).is_err(), "{text:?}");
    }
    assert_eq!(format!("{0} {0:?} {0:#?}", Secret::new("x".to_owned())), "*** *** ***");
}

#[test]
fn durations() {
    for (text, milliseconds) in [
        ("250ms", 250),
        ("1ms", 1),
        ("10s", 10_000),
        ("5m", 300_000),
        ("2h", 7_200_000),
        ("24h", 86_400_000),
        ("86400s", 86_400_000),
        ("86400000ms", 86_400_000),
        ("010s", 10_000),
        ("0s", 0),
    ] {
        assert_eq!(value::duration(text), Ok(Duration::from_millis(milliseconds)), "{text}");
    }
    for (text, reason) in [
        ("", "not a duration"),
        ("s", "not a duration"),
        ("-1s", "not a duration"),
        ("+1s", "not a duration"),
        (".5s", "not a duration"),
        (" 10s", "not a duration"),
        ("forever", "not a duration"),
        ("0", "no unit"),
        ("10", "no unit"),
        ("99999999999999999999999", "no unit"),
        ("10 s", "not known"),
        ("10s ", "not known"),
        ("1.5s", "not known"),
        ("1h30m", "not known"),
        ("10S", "not known"),
        ("5M", "not known"),
        ("1d", "not known"),
        ("10sec", "not known"),
        ("10us", "not known"),
        ("25h", "too long"),
        ("86400001ms", "too long"),
        ("18446744073709551615h", "too long"),
        ("99999999999999999999999ms", "too long"),
    ] {
        let found = value::duration(text).expect_err(text);
        assert!(found.contains(reason), "{text:?}: {found}");
    }
    for name in ["HEAD_TIMEOUT", "KEEPALIVE_TIMEOUT", "CONNECT_TIMEOUT", "RESPONSE_TIMEOUT"] {
        bad(&[(name, "0s")], &[name]);
        bad(&[(name, "10")], &[name]);
    }
    assert_eq!(good(&[("DRAIN_TIMEOUT", "0ms")]).timeouts.drain, Duration::ZERO);
    bad(&[("DRAIN_TIMEOUT", "0")], &["DRAIN_TIMEOUT"]);
}

#[test]
fn sizes() {
    for (text, bytes) in [
        ("1", 1),
        ("1048576", 1 << 20),
        ("512B", 512),
        ("64KiB", 64 << 10),
        ("8MiB", 8 << 20),
        ("3GiB", 3 << 30),
        ("18446744073709551615", u64::MAX),
    ] {
        assert_eq!(value::size(text), Ok(bytes), "{text}");
    }
    for (text, reason) in [
        ("", "not a size"),
        ("MiB", "not a size"),
        ("-1", "not a size"),
        ("+1", "not a size"),
        ("unlimited", "not a size"),
        ("8M", "not known"),
        ("8MB", "not known"),
        ("8mib", "not known"),
        ("8 MiB", "not known"),
        ("1.5MiB", "not known"),
        ("0", "nothing"),
        ("0MiB", "nothing"),
        ("18446744073709551616", "too large"),
        ("17179869184GiB", "too large"),
    ] {
        let found = value::size(text).expect_err(text);
        assert!(found.contains(reason), "{text:?}: {found}");
    }
}

#[test]
fn a_written_value_can_be_read_back() {
    for milliseconds in [1, 999, 1000, 1001, 60_000, 90_000, 3_600_000, 5_400_000, 86_400_000, 0] {
        let duration = Duration::from_millis(milliseconds);
        assert_eq!(value::duration(&value::duration_text(duration)), Ok(duration));
    }
    for bytes in [1, 1023, 1024, 1025, 1 << 20, (1 << 20) + 1, 1 << 30, 5 << 30, u64::MAX] {
        assert_eq!(value::size(&value::size_text(bytes)), Ok(bytes));
    }
}

#[test]
fn log_levels() {
    for text in [
        "error",
        "warn",
        "info",
        "debug",
        "trace",
        "off",
        "INFO",
        "warn,lavaproxy=debug",
        "lavaproxy::proxy::session=trace",
        "off,my-crate=info",
    ] {
        assert_eq!(good(&[("LOG_LEVEL", text)]).log_level, text);
        assert_eq!(good(&[("RUST_LOG", text)]).log_level, text);
    }
    for text in [
        "inof",
        "verbose",
        "3",
        "info,",
        "info;debug",
        "lavaproxy",
        "lavaproxy=",
        "=info",
        "a=b=info",
        "info/x",
        " info",
    ] {
        let fault = bad(&[("LOG_LEVEL", text)], &["LOG_LEVEL"]);
        assert!(fault.contains("debug"), "{fault}");
        bad(&[("RUST_LOG", text)], &["RUST_LOG"]);
    }
    assert_eq!(good(&[("LOG_LEVEL", "warn"), ("RUST_LOG", "trace")]).log_level, "warn");
    assert_eq!(good(&[("LOG_LEVEL", ""), ("RUST_LOG", "trace")]).log_level, "trace");
    assert_eq!(good(&[("LOG_LEVEL", "warn"), ("RUST_LOG", "nonsense")]).log_level, "warn");
    assert_eq!(good(&[("RUST_LOG", "")]).log_level, "info");
}
