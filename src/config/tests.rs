#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::*;

mod accounts;
mod files;
mod limits;
mod nodes;
mod values;

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

fn described(settings: &Settings) -> BTreeMap<String, String> {
    settings.describe().into_iter().collect()
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
        let [node] = settings.nodes(version) else { panic!("{version}: {settings:?}") };
        assert_eq!((&*node.name, node.to_string()), (version.name(), format!("127.0.0.1:{port}")));
        assert_eq!(node.password.expose(), "DevamOP");
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
    assert_eq!(settings.paths, PerVersion::default());
    assert_eq!((settings.health_interval, settings.failover_after), (seconds(5), Some(seconds(30))));
    assert!(settings.load_retry);
    let limits = LimitSettings {
        max_connections: None,
        connections_per_address: PerAddress::Share,
        connection_rate: Some(Rate { count: 50, period: seconds(1), burst: 200 }),
        request_rate: None,
        ban_after: Some(20),
        allowed: Networks::default(),
        blocked: Networks::default(),
    };
    assert_eq!(settings.limits, limits);
    assert_eq!((settings.accounts_file, settings.state_dir), (None, None));
}

#[test]
fn an_empty_value_is_the_default_unless_it_has_a_meaning() {
    let empty: Vec<(&str, &str)> =
        SETTINGS.iter().filter(|setting| !setting.empty_counts).map(|setting| (setting.name, "")).collect();
    assert_eq!(described(&good(&empty)), described(&good(&[])));
    bad(&[("PROXY_PASSWORD", "")], &["PROXY_PASSWORD"]);
    assert!(good(&[("WEB_PASSWORD", "")]).web_password.is_none());
    assert!(good(&[("LAVALINK_V3_HOST", "")]).nodes.v3.is_empty());
    let settings = good(&[("LAVALINK_V3_PASSWORD", ""), ("PROXY_PASSWORD", "p")]);
    assert_eq!(settings.nodes.v3[0].password.expose(), "p");
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
        ("STATUS_PAGE", "on"),
        ("LAVALINK_V3_HOST", "three"),
        ("LAVALINK_V3_PORT", "5"),
        ("LAVALINK_V3_PASSWORD", "three secret"),
        ("LAVALINK_V4_HOST", "four"),
        ("LAVALINK_V4_PORT", "6"),
        ("LAVALINK_V4_PASSWORD", "four secret"),
        ("LAVALINK_V3_NODES", ""),
        ("LAVALINK_V4_NODES", ""),
        ("DEFAULT_VERSION", "v4"),
        ("LAVALINK_V3_PATHS", "/old"),
        ("LAVALINK_V4_PATHS", "/youtube,/metrics"),
        ("HEALTH_INTERVAL", "7s"),
        ("FAILOVER_AFTER", "0s"),
        ("LOAD_RETRY", "off"),
        ("LOG_LEVEL", "debug"),
        ("HEAD_TIMEOUT", "11s"),
        ("KEEPALIVE_TIMEOUT", "12m"),
        ("CONNECT_TIMEOUT", "13ms"),
        ("RESPONSE_TIMEOUT", "14h"),
        ("DRAIN_TIMEOUT", "0s"),
        ("MAX_BODY", "16KiB"),
        ("MAX_CONNECTIONS", "900"),
        ("MAX_CONNECTIONS_PER_ADDRESS", "30"),
        ("CONNECTION_RATE", "20/m burst=7"),
        ("REQUEST_RATE", "100/s"),
        ("BAN_AFTER", "off"),
        ("ALLOWED_ADDRESSES", "192.0.2.0/24,2001:db8::/32"),
        ("BLOCKED_ADDRESSES", "192.0.2.7"),
        ("ACCOUNTS_FILE", "/etc/lavaproxy/accounts.json"),
        ("STATE_DIR", "state"),
        ("SESSION_TAKEOVER", "off"),
        ("TAKEOVER_TIMEOUT", "15s"),
        ("SESSION_MEMORY", "17MiB"),
        ("MOVE_RATE", "18"),
    ];
    let settings = good(&pairs);
    let text = described(&settings);
    for (setting, (name, value)) in SETTINGS.iter().zip(pairs) {
        assert_eq!(setting.name, name);
        assert_eq!(text[name], if setting.secret { "***" } else { value }, "{name}");
    }
    assert_eq!(settings.proxy_password.expose(), "proxy secret");
    assert_eq!(settings.web_password.as_ref().unwrap().expose(), "web secret");
    assert_eq!(settings.nodes(Lavalink::V3)[0].password.expose(), "three secret");
    assert_eq!(settings.nodes(Lavalink::V4)[0].password.expose(), "four secret");
    assert!(!settings.default_password_stands());
    assert!(settings.proxy_protocol && settings.trusted_proxies.contains("10.9.9.9".parse().unwrap()));
    assert_eq!(settings.proxy.to_string(), "[::1]:1");
    assert_eq!(settings.nodes.v3[0].to_string(), "three:5");

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
        assert!(!settings.nodes(version).is_empty(), "{pairs:?}");
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
