#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::*;

type Pairs<'a> = &'a [(&'a str, &'a str)];

fn settings(pairs: Pairs<'_>) -> Result<Settings, Faults> {
    Settings::from_lookup(lookup(pairs))
}

fn lookup(pairs: Pairs<'_>) -> impl Fn(&str) -> Option<OsString> {
    move |name| pairs.iter().find(|(known, _)| *known == name).map(|(_, value)| OsString::from(value))
}

fn good(pairs: Pairs<'_>) -> Settings {
    settings(pairs).unwrap_or_else(|faults| panic!("{pairs:?}: {faults}"))
}

/// The text of the faults, which must be those of `names` in this order.
fn bad(pairs: Pairs<'_>, names: &[&str]) -> String {
    match settings(pairs) {
        Ok(settings) => panic!("{pairs:?} was accepted: {settings:?}"),
        Err(faults) => {
            let found: Vec<&str> = faults.iter().map(|fault| fault.name.as_str()).collect();
            assert_eq!(found, names, "{pairs:?}: {faults}");
            faults.to_string()
        }
    }
}

fn described(settings: &Settings) -> BTreeMap<&'static str, String> {
    settings.describe().collect()
}

/// A directory for one test, removed at its end.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("lavaproxy-config-{}-{count}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, content).unwrap();
        path
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn load_file(content: impl AsRef<[u8]>) -> Result<Loaded, Faults> {
    let directory = Directory::new();
    let path = directory.write("test.env", content);
    load_from(|_| None, Some(&path), &[], None)
}

#[test]
fn the_defaults_are_those_of_the_manual() {
    let settings = good(&[]);
    assert_eq!(settings.proxy, Listen { host: "0.0.0.0".to_owned(), port: 6923 });
    assert_eq!(settings.proxy_password.expose(), "DevamOP");
    assert!(settings.default_password_stands());
    assert_eq!((settings.proxy_v3_port, settings.proxy_v4_port), (None, None));
    assert!(!settings.proxy_protocol && settings.trusted_proxies.is_empty());
    assert_eq!(settings.web, Listen { host: "127.0.0.1".to_owned(), port: 6980 });
    assert!(settings.web_password.is_none());
    for (version, port) in [(Lavalink::V3, 8806), (Lavalink::V4, 8807)] {
        let node = settings.node(version).unwrap();
        assert_eq!((node.host.as_str(), node.port, node.password.expose()), ("127.0.0.1", port, "DevamOP"));
    }
    assert_eq!(settings.default_version, Lavalink::V3);
    assert_eq!(settings.log_level, "info");
    let seconds = Duration::from_secs;
    let timeouts = Timeouts {
        head: seconds(10),
        keepalive: seconds(75),
        connect: seconds(5),
        response: seconds(120),
        drain: seconds(10),
    };
    assert_eq!(settings.timeouts, timeouts);
    assert_eq!(settings.max_body, 8 * 1024 * 1024);
}

#[test]
fn an_empty_value_is_the_default_unless_it_has_a_meaning() {
    let empty: Vec<(&str, &str)> =
        SETTINGS.iter().filter(|setting| !setting.empty_counts).map(|setting| (setting.name, "")).collect();
    assert_eq!(described(&good(&empty)), described(&good(&[])));
    bad(&[("PROXY_PASSWORD", "")], &["PROXY_PASSWORD"]);
    assert!(good(&[("WEB_PASSWORD", "")]).web_password.is_none());
    assert!(good(&[("LAVALINK_V3_HOST", "")]).v3.is_none());
    let settings = good(&[("LAVALINK_V3_PASSWORD", ""), ("PROXY_PASSWORD", "p")]);
    assert_eq!(settings.v3.unwrap().password.expose(), "p");
}

#[test]
fn every_setting_is_read_and_described() {
    let pairs = [
        ("PROXY_HOST", "::1"),
        ("PROXY_PORT", "1"),
        ("PROXY_PASSWORD", "proxy secret"),
        ("PROXY_V3_PORT", "2"),
        ("PROXY_V4_PORT", "3"),
        ("PROXY_PROTOCOL", "on"),
        ("TRUSTED_PROXIES", "10.0.0.0/8,::1"),
        ("WEB_HOST", "10.0.0.1"),
        ("WEB_PORT", "4"),
        ("WEB_PASSWORD", "web secret"),
        ("LAVALINK_V3_HOST", "three"),
        ("LAVALINK_V3_PORT", "5"),
        ("LAVALINK_V3_PASSWORD", "three secret"),
        ("LAVALINK_V4_HOST", "four"),
        ("LAVALINK_V4_PORT", "6"),
        ("LAVALINK_V4_PASSWORD", "four secret"),
        ("DEFAULT_VERSION", "v4"),
        ("LOG_LEVEL", "debug"),
        ("HEAD_TIMEOUT", "11s"),
        ("KEEPALIVE_TIMEOUT", "12m"),
        ("CONNECT_TIMEOUT", "13ms"),
        ("RESPONSE_TIMEOUT", "14h"),
        ("DRAIN_TIMEOUT", "0s"),
        ("MAX_BODY", "16KiB"),
    ];
    let settings = good(&pairs);
    let text = described(&settings);
    for (setting, (name, value)) in SETTINGS.iter().zip(pairs) {
        assert_eq!(setting.name, name);
        assert_eq!(text[name], if setting.secret { "***" } else { value }, "{name}");
    }
    assert_eq!(settings.proxy_password.expose(), "proxy secret");
    assert_eq!(settings.web_password.as_ref().unwrap().expose(), "web secret");
    assert_eq!(settings.node(Lavalink::V3).unwrap().password.expose(), "three secret");
    assert_eq!(settings.node(Lavalink::V4).unwrap().password.expose(), "four secret");
    assert!(!settings.default_password_stands());
    assert!(settings.proxy_protocol && settings.trusted_proxies.contains("10.9.9.9".parse().unwrap()));
    assert_eq!(settings.proxy.to_string(), "[::1]:1");
    assert_eq!(settings.v3.as_ref().unwrap().to_string(), "three:5");

    let debug = format!("{settings:?} {:#?}", settings.proxy_password);
    assert!(!debug.contains("secret\""), "{debug}");
    assert!(!debug.contains(" secret"), "{debug}");
}

#[test]
fn all_faults_are_reported_at_once_without_secrets() {
    let text = bad(
        &[
            ("PROXY_PORT", "http"),
            ("PROXY_PASSWORD", "hunter2 "),
            ("WEB_HOST", "0.0.0.0"),
            ("LAVALINK_V4_HOST", "http://user:hunter2@node"),
            ("LAVALINK_V4_PASSWORD", "hunter2\u{e9}"),
            ("HEAD_TIMEOUT", "10"),
            ("MAX_BODY", "8MB"),
        ],
        &[
            "PROXY_PORT",
            "PROXY_PASSWORD",
            "LAVALINK_V4_HOST",
            "LAVALINK_V4_PASSWORD",
            "HEAD_TIMEOUT",
            "MAX_BODY",
            "WEB_HOST",
        ],
    );
    assert_eq!(text.lines().count(), 7, "{text}");
    assert!(!text.contains("hunter2"), "{text}");
    assert!(text.starts_with("PROXY_PORT=http: it is not a port (write a number from 0 to 65535)\n"), "{text}");
    for line in text.lines() {
        assert!(line.ends_with(')'), "says what to do: {line}");
    }
}

#[test]
fn a_fault_stays_on_one_short_line() {
    let text = bad(&[("LOG_LEVEL", &"x\n\u{1b}[31m".repeat(1000))], &["LOG_LEVEL"]);
    assert_eq!(text.lines().count(), 1);
    assert!(text.len() < 1000 && !text.contains('\u{1b}'), "{text}");
}

#[cfg(unix)]
#[test]
fn values_that_are_not_utf8_are_faults() {
    use std::os::unix::ffi::OsStringExt;
    for setting in &SETTINGS {
        let lookup = |name: &str| (name == setting.name).then(|| OsString::from_vec(b"value\xff".to_vec()));
        let faults = Settings::from_lookup(lookup).unwrap_err();
        let text = faults.to_string();
        assert_eq!(faults.iter().count(), 1, "{text}");
        assert!(text.starts_with(setting.name) && text.contains("UTF-8"), "{text}");
        assert_eq!(text.contains("value"), !setting.secret, "{text}");
    }
}

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
        ("0", "refuse"),
        ("0MiB", "refuse"),
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

#[test]
fn versions() {
    const V3_OFF: (&str, &str) = ("LAVALINK_V3_HOST", "");
    const V4_OFF: (&str, &str) = ("LAVALINK_V4_HOST", "");
    for (pairs, version) in [
        (&[][..], Lavalink::V3),
        (&[("DEFAULT_VERSION", "v4")], Lavalink::V4),
        (&[("DEFAULT_VERSION", "4")], Lavalink::V4),
        (&[("DEFAULT_VERSION", "3")], Lavalink::V3),
        (&[V3_OFF], Lavalink::V4),
        (&[V4_OFF], Lavalink::V3),
        (&[V3_OFF, ("DEFAULT_VERSION", "v4")], Lavalink::V4),
    ] {
        let settings = good(pairs);
        assert_eq!(settings.default_version, version, "{pairs:?}");
        assert!(settings.node(version).is_some(), "{pairs:?}");
    }
    for text in ["V4", "5", "v", "v3 ", "both"] {
        bad(&[("DEFAULT_VERSION", text)], &["DEFAULT_VERSION"]);
    }
    let text = bad(&[V3_OFF, ("DEFAULT_VERSION", "v3")], &["DEFAULT_VERSION"]);
    assert!(text.contains("LAVALINK_V3_HOST"), "{text}");
    bad(&[V4_OFF, ("DEFAULT_VERSION", "v4")], &["DEFAULT_VERSION"]);
    bad(&[V3_OFF, ("PROXY_V3_PORT", "7000")], &["PROXY_V3_PORT"]);
    bad(&[V4_OFF, ("PROXY_V4_PORT", "7000")], &["PROXY_V4_PORT"]);
    good(&[V4_OFF, ("PROXY_V3_PORT", "7000")]);
    let text = bad(&[V3_OFF, V4_OFF], &["LAVALINK_V3_HOST"]);
    assert!(text.contains("LAVALINK_V4_HOST"), "{text}");
    // A faulty host is not an empty one.
    bad(&[V3_OFF, ("LAVALINK_V4_HOST", "a b")], &["LAVALINK_V4_HOST"]);
    bad(&[("LAVALINK_V3_HOST", "a b"), ("DEFAULT_VERSION", "v3")], &["LAVALINK_V3_HOST"]);

    let off = good(&[V4_OFF]);
    let text = described(&off);
    for name in ["LAVALINK_V4_HOST", "LAVALINK_V4_PORT", "LAVALINK_V4_PASSWORD"] {
        assert_eq!(text[name], "");
    }
    assert_eq!(Lavalink::ALL.map(|version| version.to_string()), ["v3", "v4"]);
}

#[test]
fn web_pages_that_others_can_reach_need_a_password() {
    for host in
        ["127.0.0.1", "127.0.0.2", "127.255.255.254", "::1", "[::1]", "::ffff:127.0.0.1", "localhost", "LocalHost."]
    {
        good(&[("WEB_HOST", host)]);
    }
    for host in ["0.0.0.0", "::", "10.0.0.1", "128.0.0.1", "2001:db8::1", "example.com", "localhost.example.com"] {
        let text = bad(&[("WEB_HOST", host)], &["WEB_HOST"]);
        assert!(text.contains("WEB_PASSWORD") && text.contains("WEB_HOST=127.0.0.1"), "{text}");
        bad(&[("WEB_HOST", host), ("WEB_PASSWORD", "")], &["WEB_HOST"]);
        good(&[("WEB_HOST", host), ("WEB_PASSWORD", "x")]);
        // A faulty password is not a missing one.
        bad(&[("WEB_HOST", host), ("WEB_PASSWORD", "x ")], &["WEB_PASSWORD"]);
    }
}

#[test]
fn listeners_do_not_share_a_port() {
    for (proxy, web, meet) in [
        ("0.0.0.0", "127.0.0.1", true),
        ("127.0.0.1", "127.0.0.1", true),
        ("127.0.0.1", "localhost", true),
        ("localhost", "::1", true),
        ("::", "127.0.0.1", true),
        ("0.0.0.0", "::", true),
        ("::", "::1", true),
        ("0.0.0.0", "example.com", true),
        ("example.com", "EXAMPLE.com.", true),
        ("::1", "0:0:0:0:0:0:0:1", true),
        ("::ffff:127.0.0.1", "127.0.0.1", true),
        ("0.0.0.0", "::1", false),
        ("10.0.0.1", "127.0.0.1", false),
        ("127.0.0.1", "127.0.0.2", false),
        ("127.0.0.1", "::1", false),
        ("10.0.0.1", "localhost", false),
        ("a.example", "b.example", false),
        ("a.example", "localhost", false),
    ] {
        for (proxy, web) in [(proxy, web), (web, proxy)] {
            let hosts = [("PROXY_HOST", proxy), ("WEB_HOST", web), ("WEB_PASSWORD", "x")];
            let same = [hosts.as_slice(), &[("PROXY_PORT", "7000"), ("WEB_PORT", "7000")]].concat();
            match meet {
                true => drop(bad(&same, &["WEB_PORT"])),
                false => drop(good(&same)),
            }
            good(&[hosts.as_slice(), &[("PROXY_PORT", "7000"), ("WEB_PORT", "7001")]].concat());
            good(&[hosts.as_slice(), &[("PROXY_PORT", "0"), ("WEB_PORT", "0")]].concat());
        }
    }
    let text = bad(&[("PROXY_V3_PORT", "6923")], &["PROXY_V3_PORT"]);
    assert!(text.contains("PROXY_PORT listens on 0.0.0.0:6923"), "{text}");
    bad(&[("PROXY_V3_PORT", "7000"), ("PROXY_V4_PORT", "7000")], &["PROXY_V4_PORT"]);
    bad(&[("PROXY_V4_PORT", "6980")], &["WEB_PORT"]);
}

#[test]
fn a_node_is_not_a_listener_of_ours() {
    for (node, listener, loops) in [
        ("127.0.0.1", "0.0.0.0", true),
        ("127.0.0.9", "0.0.0.0", true),
        ("127.0.0.1", "127.0.0.1", true),
        ("127.0.0.1", "::", true),
        ("::1", "::", true),
        ("localhost", "0.0.0.0", true),
        ("localhost", "127.0.0.1", true),
        ("127.0.0.1", "localhost", true),
        ("0.0.0.0", "127.0.0.1", true),
        ("0.0.0.0", "0.0.0.0", true),
        ("::", "localhost", true),
        ("localhost", "localhost", true),
        ("10.0.0.1", "10.0.0.1", true),
        ("me.example", "Me.Example", true),
        ("10.0.0.1", "0.0.0.0", false),
        ("10.0.0.2", "10.0.0.1", false),
        ("127.0.0.1", "10.0.0.1", false),
        ("127.0.0.2", "127.0.0.1", false),
        ("lavalink", "0.0.0.0", false),
        ("lavalink", "localhost", false),
        ("10.0.0.1", "localhost", false),
    ] {
        let common = [("PROXY_HOST", listener), ("PROXY_PORT", "7000"), ("LAVALINK_V4_HOST", node)];
        let looping = [common.as_slice(), &[("LAVALINK_V4_PORT", "7000")]].concat();
        match loops {
            true => {
                let text = bad(&looping, &["LAVALINK_V4_PORT"]);
                assert!(text.contains("PROXY_PORT"), "{text}");
            }
            false => drop(good(&looping)),
        }
        good(&[common.as_slice(), &[("LAVALINK_V4_PORT", "7001")]].concat());
    }
    bad(&[("LAVALINK_V3_PORT", "6980")], &["LAVALINK_V3_PORT"]);
    bad(&[("LAVALINK_V3_PORT", "7000"), ("PROXY_V4_PORT", "7000")], &["LAVALINK_V3_PORT"]);
    good(&[("LAVALINK_V3_HOST", ""), ("LAVALINK_V3_PORT", "6923")]);
}

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

const EXAMPLE: &str = include_str!("../../lavaproxy.env.example");

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
    assert_eq!(examples.len(), SETTINGS.len() - 1, "the pinned listeners share theirs");
    for example in &examples {
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

#[test]
fn proxy_protocol_needs_trusted_proxies() {
    assert!(!good(&[("PROXY_PROTOCOL", "off")]).proxy_protocol);
    good(&[("TRUSTED_PROXIES", "10.0.0.0/8")]);
    good(&[("PROXY_PROTOCOL", "on"), ("TRUSTED_PROXIES", "10.0.0.0/8")]);
    let text = bad(&[("PROXY_PROTOCOL", "on")], &["PROXY_PROTOCOL"]);
    assert!(text.contains("set TRUSTED_PROXIES"), "{text}");
    for word in ["true", "1", "yes", "ON", "v2"] {
        let text = bad(&[("PROXY_PROTOCOL", word)], &["PROXY_PROTOCOL"]);
        assert!(text.ends_with("(write on or off)"), "{text}");
    }
    // A faulty list is not an empty one.
    let text = bad(&[("PROXY_PROTOCOL", "on"), ("TRUSTED_PROXIES", "front")], &["TRUSTED_PROXIES"]);
    assert!(text.contains("neither an address nor a network"), "{text}");
}
