//! Several nodes of a version, and the paths of a version.

use super::*;
use crate::config::nodes::password_name;

const LIST: (&str, &str) = ("LAVALINK_V4_NODES", "eu1=10.0.0.5:2333, eu2=[2001:db8::6]:2333,us-1=lavalink.example:80");

fn passwords(nodes: &[Node]) -> Vec<&str> {
    nodes.iter().map(|node| node.password.expose()).collect()
}

#[test]
fn a_list_names_the_nodes_of_its_version() {
    let settings = good(&[LIST]);
    let found: Vec<_> = settings.nodes.v4.iter().map(|node| (&*node.name, &*node.host, node.port)).collect();
    assert_eq!(found, [("eu1", "10.0.0.5", 2333), ("eu2", "2001:db8::6", 2333), ("us-1", "lavalink.example", 80)]);
    assert_eq!(settings.nodes.v4[1].to_string(), "[2001:db8::6]:2333");
    assert_eq!(&*settings.nodes(Lavalink::V3)[0].name, "v3");
    for one in ["a=10.0.0.5:1", "a23456789-123456=x:65535", "4=[::1]:1"] {
        assert_eq!(good(&[("LAVALINK_V3_NODES", one)]).nodes.v3.len(), 1, "{one}");
    }
    // A version may be off while the other has a list, and two versions may share an address.
    let one_version = good(&[LIST, ("LAVALINK_V3_HOST", "")]);
    assert_eq!(one_version.default_version, Lavalink::V4);
    good(&[LIST, ("LAVALINK_V3_NODES", "old=10.0.0.5:2333")]);
}

#[test]
fn each_faulty_entry_is_a_fault_of_its_own() {
    for (entry, reason) in [
        ("", "empty entry"),
        ("10.0.0.5:2333", "without a name"),
        ("=10.0.0.5:2333", "not valid"),
        ("EU1=10.0.0.5:2333", "not valid"),
        ("eu_1=10.0.0.5:2333", "not valid"),
        ("-eu=10.0.0.5:2333", "not valid"),
        ("eu1 =10.0.0.5:2333", "not valid"),
        ("a2345678901234567=10.0.0.5:2333", "not valid"),
        ("v3=10.0.0.5:2333", "LAVALINK_V3_HOST"),
        ("v4=10.0.0.5:2333", "LAVALINK_V4_HOST"),
        ("eu1=10.0.0.5", "no port"),
        ("eu1=[::1]", "no port"),
        ("eu1=", "no port"),
        ("eu1=10.0.0.5:", "not a port"),
        ("eu1=10.0.0.5:0", "port 0"),
        ("eu1=10.0.0.5:x", "not a port"),
        ("eu1=10.0.0.5:65536", "too large"),
        ("eu1=::1:2333", "brackets"),
        ("eu1=[::1:2333", "brackets"),
        ("eu1=[x]:2333", "IPv6"),
        ("eu1=http://node:2333", "URL"),
        ("eu1=300.0.0.1:2333", "IPv4"),
        ("eu1= 10.0.0.5:2333", "space"),
        ("eu1=:2333", "address"),
        ("last=10.0.0.9:1", "name last"),
        ("again=10.0.0.9:1", "node last has the same address"),
        ("again=[::ffff:10.0.0.9]:1", "node last has the same address"),
    ] {
        let list = format!("first=10.0.0.1:1,last=10.0.0.9:1,{entry},other=Node.Example:1,same=node.example.:1");
        let text = bad(&[("LAVALINK_V4_NODES", &list)], &["LAVALINK_V4_NODES", "LAVALINK_V4_NODES"]);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].starts_with(&format!("LAVALINK_V4_NODES={entry}: ")), "{entry}: {text}");
        assert!(lines[0].contains(reason) && lines[0].ends_with(')'), "{entry}: {text}");
        assert!(lines[1].contains("node other has the same address"), "{entry}: {text}");
    }
    let text = bad(&[("LAVALINK_V4_NODES", "eu1=user:hunter2@node:1")], &["LAVALINK_V4_NODES"]);
    assert!(!text.contains("hunter2"), "{text}");
    let twice = [LIST, ("LAVALINK_V3_NODES", "eu2=10.0.0.7:1")];
    assert!(bad(&twice, &["LAVALINK_V4_NODES"]).contains("the name eu2"));
}

#[test]
fn a_version_has_64_nodes_at_most() {
    let list = |count: u16| (1..=count).map(|port| format!("n{port}=node:{port}")).collect::<Vec<_>>().join(",");
    assert_eq!(good(&[("LAVALINK_V4_NODES", &list(64))]).nodes.v4.len(), 64);
    let text = bad(&[("LAVALINK_V4_NODES", &list(65))], &["LAVALINK_V4_NODES"]);
    assert!(text.contains("it has 65 nodes") && text.len() < 300, "{text}");
}

#[test]
fn a_list_excludes_the_host_and_port_of_its_version() {
    for (name, value) in [("LAVALINK_V4_HOST", "10.0.0.5"), ("LAVALINK_V4_HOST", ""), ("LAVALINK_V4_PORT", "2333")] {
        let text = bad(&[LIST, (name, value)], &[name]);
        assert!(text.contains("LAVALINK_V4_NODES is set as well"), "{text}");
    }
    bad(&[LIST, ("LAVALINK_V4_HOST", "x"), ("LAVALINK_V4_PORT", "1")], &["LAVALINK_V4_HOST", "LAVALINK_V4_PORT"]);
    good(&[LIST, ("LAVALINK_V3_HOST", "x"), ("LAVALINK_V3_PORT", "1"), ("LAVALINK_V4_PORT", "")]);
}

#[test]
fn a_node_may_have_its_own_password() {
    let own = [("LAVALINK_V4_PASSWORD_EU2", "two"), ("LAVALINK_V4_PASSWORD_US_1", "three")];
    assert_eq!(passwords(&good(&[LIST]).nodes.v4), ["DevamOP"; 3]);
    let all = [LIST, own[0], own[1], ("PROXY_PASSWORD", "p")];
    assert_eq!(passwords(&good(&all).nodes.v4), ["p", "two", "three"]);
    let all = [all.as_slice(), &[("LAVALINK_V4_PASSWORD", "four")]].concat();
    let settings = good(&all);
    assert_eq!(passwords(&settings.nodes.v4), ["four", "two", "three"]);
    assert_eq!(passwords(&settings.nodes.v3), ["p"]);
    // An empty one is none, one of the other version is of no use, and HOST's node has no other than its version's.
    let others =
        [LIST, ("LAVALINK_V4_PASSWORD_EU1", ""), ("LAVALINK_V3_PASSWORD_EU1", "x"), ("LAVALINK_V3_PASSWORD_V3", "x")];
    let settings = good(&others);
    assert_eq!((passwords(&settings.nodes.v4)[0], passwords(&settings.nodes.v3)), ("DevamOP", vec!["DevamOP"]));
    let text = bad(
        &[LIST, ("LAVALINK_V4_PASSWORD_EU1", "hunter2 "), ("LAVALINK_V4_PASSWORD", "hunter2\n")],
        &["LAVALINK_V4_PASSWORD", "LAVALINK_V4_PASSWORD_EU1"],
    );
    assert!(!text.contains("hunter2"), "{text}");
}

#[test]
fn no_two_nodes_share_the_setting_of_a_password() {
    let letters = ['a', 'b', '0', '-'];
    let names = letters.iter().flat_map(|first| letters.map(|second| format!("x{first}{second}")));
    let settings: Vec<String> = names.map(|name| password_name(Lavalink::V4, &name)).collect();
    assert_eq!(settings.iter().collect::<std::collections::HashSet<_>>().len(), letters.len() * letters.len());
    assert!(SETTINGS.iter().all(|setting| !settings.iter().any(|name| name == setting.name)));
    assert_eq!(password_name(Lavalink::V3, "us-1"), "LAVALINK_V3_PASSWORD_US_1");
}

#[test]
fn a_password_of_no_node_is_a_warning() {
    let passwords = "LAVALINK_V4_PASSWORD_EU1=hunter2\nLAVALINK_V4_PASSWORD_EU9=hunter2\nLAVALINK_V4_PASSWORD_eu2=hunter2\n\
                     LAVALINK_V3_PASSWORD_EU1=hunter2\nLAVALINK_V4_PASSWORD_US_1=hunter2\n";
    let content = format!("{}='{}'\n{passwords}", LIST.0, LIST.1);
    let warnings = load_file(&content).unwrap().warnings;
    assert_eq!(warnings.len(), 3, "{warnings:?}");
    for name in ["LAVALINK_V3_PASSWORD_EU1 ", "LAVALINK_V4_PASSWORD_EU9 ", "LAVALINK_V4_PASSWORD_eu2 "] {
        assert!(warnings.iter().any(|warning| warning.contains(name)), "{name}: {warnings:?}");
    }
    assert!(!warnings.concat().contains("hunter2"));
    // The list may be in the environment, and another setting may have a fault.
    let directory = Directory::new();
    let path = directory.write("test.env", passwords);
    assert_eq!(
        load_from(lookup(&[LIST]), Some(&path), &[], None).unwrap().warnings,
        warnings
            .iter()
            .map(|text| text.replace(text.split(':').next().unwrap(), &path.display().to_string()))
            .collect::<Vec<_>>()
    );
    let faults = load_file(format!("{content}WEB_PORT=x\n")).unwrap_err().to_string();
    assert!(faults.contains("LAVALINK_V4_PASSWORD_EU9") && !faults.contains("PASSWORD_US_1"), "{faults}");
    let twice = load_file(format!("{content}LAVALINK_V4_PASSWORD_EU1=x\n")).unwrap().warnings;
    assert!(twice[0].contains("LAVALINK_V4_PASSWORD_EU1 is set twice"), "{twice:?}");
}

#[test]
fn a_listed_node_is_not_a_listener_of_ours() {
    let text = bad(
        &[("LAVALINK_V4_NODES", "eu1=10.0.0.5:6923,eu2=localhost:6923,eu3=[::1]:6980"), ("WEB_HOST", "::1")],
        &["LAVALINK_V4_NODES", "LAVALINK_V4_NODES"],
    );
    assert!(text.contains("LAVALINK_V4_NODES=eu2=localhost:6923: ") && text.contains("by PROXY_PORT"), "{text}");
    assert!(text.contains("LAVALINK_V4_NODES=eu3=[::1]:6980: ") && text.contains("by WEB_PORT"), "{text}");
}

#[test]
fn a_list_is_described_as_it_is_written() {
    let own = [LIST, ("LAVALINK_V4_PASSWORD_EU2", "hunter2"), ("FAILOVER_AFTER", "90s")];
    let settings = good(&own);
    let text = described(&settings);
    for (name, value) in [
        ("LAVALINK_V4_NODES", "eu1=10.0.0.5:2333, eu2=[2001:db8::6]:2333, us-1=lavalink.example:80"),
        ("LAVALINK_V4_PASSWORD_EU2", "***"),
        ("LAVALINK_V4_PASSWORD", "***"),
        ("LAVALINK_V4_HOST", ""),
        ("LAVALINK_V4_PORT", ""),
        ("LAVALINK_V3_HOST", "127.0.0.1"),
        ("LAVALINK_V3_NODES", ""),
        ("FAILOVER_AFTER", "90s"),
    ] {
        assert_eq!(text[name], value, "{name}");
    }
    assert!(!text.contains_key("LAVALINK_V4_PASSWORD_EU1"), "it has none of its own");
    assert!(!format!("{settings:?} {text:?}").contains("hunter2"));
    let written = text.iter().filter(|(_, value)| *value != "***").map(|(name, value)| (name.as_str(), value.as_str()));
    let written: Vec<_> = written.filter(|(_, value)| !value.is_empty()).chain(own).collect();
    assert_eq!(described(&good(&written)), text);
}

#[test]
fn differences_name_every_changed_setting() {
    let base = [LIST, ("LAVALINK_V4_PASSWORD_EU2", "two")];
    for (changed, names) in [
        (vec![], &[][..]),
        (vec![("LAVALINK_V4_PASSWORD_EU2", "2")], &["LAVALINK_V4_PASSWORD_EU2"]),
        (vec![("LAVALINK_V4_PASSWORD_EU1", "1")], &["LAVALINK_V4_PASSWORD_EU1"]),
        (vec![("LAVALINK_V4_PASSWORD_EU2", "")], &["LAVALINK_V4_PASSWORD_EU2"]),
        (vec![("LAVALINK_V4_PASSWORD", "x")], &["LAVALINK_V4_PASSWORD"]),
        (vec![("LAVALINK_V4_NODES", "eu2=[2001:db8::6]:2333")], &["LAVALINK_V4_NODES"]),
        (
            vec![
                ("HEALTH_INTERVAL", "1s"),
                ("LOAD_RETRY", "off"),
                ("LAVALINK_V3_PATHS", "/x"),
                ("FAILOVER_AFTER", "0s"),
            ],
            &["LAVALINK_V3_PATHS", "HEALTH_INTERVAL", "FAILOVER_AFTER", "LOAD_RETRY"],
        ),
    ] {
        let pairs: Vec<_> = changed.iter().copied().chain(base).collect();
        assert_eq!(good(&pairs).differences(&good(&base)), names, "{changed:?}");
    }
}

#[test]
fn a_reload_takes_new_nodes_and_needs_no_restart() {
    let directory = Directory::new();
    let path = directory.write("test.env", "LAVALINK_V4_NODES='a=10.0.0.1:1'\nHEALTH_INTERVAL=1s\nPROXY_PORT=7000\n");
    let present = good(&[LIST]);
    let loaded = load_from(|_| None, Some(&path), &[], Some(&present)).unwrap();
    assert_eq!(loaded.need_restart, ["PROXY_PORT"]);
    assert_eq!(loaded.settings.proxy.port, 6923);
    assert_eq!(loaded.settings.nodes.v4[0].to_string(), "10.0.0.1:1");
    assert_eq!(loaded.settings.health_interval, Duration::from_secs(1));
}

#[test]
fn paths_belong_to_one_version() {
    let settings = good(&[("LAVALINK_V3_PATHS", "/old"), ("LAVALINK_V4_PATHS", "/youtube, /a/b ,/older")]);
    assert_eq!(settings.paths.v3, ["/old"]);
    assert_eq!(settings.paths.v4, ["/youtube", "/a/b", "/older"]);
    for text in [
        "youtube",
        "/",
        "/a/",
        "/a?b",
        "/a#b",
        "/a b",
        "/a\u{e4}",
        "/a\nb",
        "/a,,/b",
        ",",
        "/v4/x",
        "/x/v3",
        "https://x/a",
    ] {
        let fault = bad(&[("LAVALINK_V4_PATHS", text)], &["LAVALINK_V4_PATHS"]);
        assert!(fault.ends_with(')'), "{fault}");
    }
    for (v3, v4) in [("/a", "/a"), ("/a", "/a/b"), ("/a/b", "/a"), ("/x,/a", "/y,/a")] {
        let fault = bad(&[("LAVALINK_V3_PATHS", v3), ("LAVALINK_V4_PATHS", v4)], &["LAVALINK_V4_PATHS"]);
        assert!(fault.contains("LAVALINK_V3_PATHS has /a"), "{fault}");
    }
    good(&[("LAVALINK_V3_PATHS", "/a"), ("LAVALINK_V4_PATHS", "/ab,/A")]);
    let fault = bad(&[("LAVALINK_V3_HOST", ""), ("LAVALINK_V3_PATHS", "/a")], &["LAVALINK_V3_PATHS"]);
    assert!(fault.contains("v3 is off"), "{fault}");
}

#[test]
fn health_and_failover() {
    assert_eq!(good(&[("FAILOVER_AFTER", "0s")]).failover_after, None);
    assert_eq!(good(&[("FAILOVER_AFTER", "2m")]).failover_after, Some(Duration::from_secs(120)));
    assert!(!good(&[("LOAD_RETRY", "off")]).load_retry);
    bad(
        &[("HEALTH_INTERVAL", "0s"), ("FAILOVER_AFTER", "never"), ("LOAD_RETRY", "no")],
        &["HEALTH_INTERVAL", "FAILOVER_AFTER", "LOAD_RETRY"],
    );
}
