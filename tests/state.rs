//! What a restart leaves as it was: figures, bans, draining nodes and v3's resume keys, after SIGTERM and after SIGKILL.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/nodes.rs"]
mod nodes;
#[path = "support/process.rs"]
mod process;
#[path = "support/state.rs"]
mod state;
mod support;

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use lavaproxy::config::Lavalink;
use nodes::{Bot, Nodes, act, wait_for_state};
use process::{FREE, Running, SECRET, Stray, directory, lavaproxy, signal, value};
use serde_json::{Value, json};
use state::{Site, figures, file, folder, node, request, saved, talk, tunnel};
use support::{Client, eventually};

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64
}

/// Requests, a refusal and a tunnel, all ended.
fn use_it(site: &Site) {
    for _ in 0..3 {
        request(site.bots);
    }
    let mut stranger = Client::connect(site.bots);
    stranger.send(b"GET /v4/info HTTP/1.1\r\nHost: bot\r\nAuthorization: wrong\r\nConnection: close\r\n\r\n");
    assert_eq!(stranger.response().status, 403);
    stranger.rest();
    let mut tunnel = tunnel(site.bots);
    talk(&mut tunnel);
    tunnel.half_close();
    assert!(tunnel.is_at_end());
}

#[test]
fn the_figures_go_on_after_a_stop() {
    let (node, folder) = (node(), folder("stop"));
    let port = node.address.port().to_string();
    let set = [("LAVALINK_V4_PORT", &*port)];
    let first = Site::start(&folder, &set);
    assert!(!first.running.seen.contains("event=state-read"), "there is no file yet: {}", first.running.seen);
    use_it(&first);
    let before = first.figures_at_rest();
    assert_eq!((&before["totals"]["connections"], &before["totals"]["requests"]), (&json!(5), &json!(5)));
    assert!(counters(&first).iter().any(|line| !line.ends_with(" 0")));
    first.stop();
    assert_eq!(saved(&folder)["version"], 1);
    assert!(saved(&folder)["savedAt"].as_u64().unwrap().abs_diff(now()) < 60_000);

    let second = Site::start(&folder, &set);
    assert!(second.running.seen.contains("event=state-read"), "{}", second.running.seen);
    assert_eq!(figures(&second.stats()), before);
    for line in counters(&second) {
        assert!(line.ends_with(" 0"), "metrics count the process alone: {line}");
    }
    assert_ne!(second.stats()["startedAt"], before["since"]);
    assert_eq!(second.stats()["totals"]["active"], 0);
    use_it(&second);
    let doubled = second.figures_at_rest();
    for field in ["connections", "requests", "bytesIn", "bytesOut"] {
        assert_eq!(doubled["totals"][field].as_u64(), before["totals"][field].as_u64().map(|once| 2 * once), "{field}");
    }
    second.stop();
    assert_eq!(figures(&Site::start(&folder, &set).stats()), doubled);
}

/// The counters of the proxy listeners.
fn counters(site: &Site) -> Vec<String> {
    let mut client = Client::connect(site.web);
    client.send(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    let metrics = client.response().text();
    let names = [
        "lavaproxy_connections_total{listener=\"proxy\"}",
        "lavaproxy_received_bytes_total",
        "lavaproxy_connections_ended_total",
    ];
    let of_proxy = metrics.lines().filter(|line| names.iter().any(|name| line.starts_with(name)));
    let counters: Vec<String> = of_proxy.map(str::to_owned).collect();
    assert!(counters.len() > names.len(), "{metrics}");
    counters
}

#[test]
fn a_stop_saves_what_tunnels_used_until_it_ended_them() {
    let (node, folder) = (node(), folder("tunnels"));
    let port = node.address.port().to_string();
    let set = [("LAVALINK_V4_PORT", &*port)];
    let site = Site::start(&folder, &set);
    let mut tunnel = tunnel(site.bots);
    talk(&mut tunnel);
    site.running.signal("TERM");
    // The close frame is counted too.
    assert_eq!(tunnel.rest(), [0x88, 2, 0x03, 0xe9]);
    tunnel.half_close();
    assert!(site.running.end().0.success());
    let totals = &Site::start(&folder, &set).stats()["totals"];
    assert_eq!((totals["bytesIn"].as_u64(), totals["bytesOut"].as_u64()), (Some(tunnel.sent), Some(tunnel.received)));
}

#[test]
fn a_successor_saves_at_once_so_that_it_may_be_killed() {
    let (node, folder) = (node(), folder("kill"));
    let port = node.address.port().to_string();
    let set = [("LAVALINK_V4_PORT", &*port)];
    let mut site = Site::start(&folder, &set);
    use_it(&site);
    let before = site.figures_at_rest();
    site.running.signal("USR2");
    let successor = Stray(value(&site.running.line(&["event=upgraded "]), "successor").parse().unwrap());
    // The first save of its predecessor may have been late, and have some of the figures.
    let sum =
        |counts: &Value| counts.as_object().into_iter().flatten().filter_map(|(_, count)| count.as_u64()).sum::<u64>();
    let ended = sum(&before["ended"]);
    eventually("the successor has saved", || sum(&saved(&folder)["ledger"]["counters"]["ended"]) == ended);
    signal(successor.0, "KILL");
    eventually("it has ended", || process::has_ended(successor.0));
    let next = Site::start(&folder, &set);
    assert_eq!(figures(&next.stats()), before);
    next.kill();
    assert_eq!(figures(&Site::start(&folder, &set).stats()), before);
}

fn has_figures(state: &Value) -> bool {
    !state["ledger"]["addresses"]["rows"].as_array().unwrap().is_empty()
}

#[test]
fn drained_nodes_are_drained_after_a_restart() {
    let nodes = Nodes::start(Lavalink::V4, &["eu1", "eu2"]);
    let folder = folder("draining");
    let list = nodes.list();
    let set = [("LAVALINK_V4_NODES", &*list), ("LAVALINK_V4_PASSWORD", support::PASSWORD), ("LAVALINK_V3_HOST", "")];
    let site = Site::start(&folder, &set);
    assert_eq!(act(site.web, "eu1", "drain", "").status, 200);
    wait_for_state(site.web, "eu1", "draining");
    site.stop();
    let mut site = Site::start(&folder, &set);
    assert!(site.running.seen.contains("event=node-draining"), "{}", site.running.seen);
    wait_for_state(site.web, "eu1", "draining");
    wait_for_state(site.web, "eu2", "up");
    assert_eq!(act(site.web, "eu1", "activate", "").status, 200);
    site.running.line(&["event=node-"]);
    site.stop();
    wait_for_state(Site::start(&folder, &set).web, "eu1", "up");
}

#[test]
fn resume_keys_lead_to_their_nodes_after_a_restart() {
    let nodes = Nodes::start(Lavalink::V3, &["eu1", "eu2"]);
    let folder = folder("keys");
    let list = nodes.list();
    let set = [("LAVALINK_V3_NODES", &*list), ("LAVALINK_V3_PASSWORD", support::PASSWORD), ("LAVALINK_V4_HOST", "")];
    let open = |site: &Site, fields: &str| Bot::try_open(site.bots, Lavalink::V3, SECRET, fields).unwrap();
    let site = Site::start(&folder, &set);
    // Of ten keys some would lead to the other node if nothing were known of them.
    let keys: Vec<String> = (0..10).map(|number| format!("key-{number}")).collect();
    let bots = keys.iter().map(|key| open(&site, &format!("Lavalink-Node: eu1\r\nResume-Key: {key}\r\n")));
    bots.for_each(Bot::leave);
    site.stop();
    assert!(!fs::read_to_string(file(&folder)).unwrap().contains("key-"), "a key is a secret");
    let site = Site::start(&folder, &set);
    for key in &keys {
        assert_eq!(open(&site, &format!("Resume-Key: {key}\r\n")).node(), "eu1", "{key}");
    }
}

#[test]
fn bans_end_when_they_would_have_ended() {
    let folder = folder("bans");
    Site::start(&folder, &[]).stop();
    let ban = |address: &str, until: Value| json!({"address": address, "reason": "a test", "by": "api", "since": now() - 1000, "until": until});
    let in_force = [ban("203.0.113.7", Value::Null), ban("2001:db8::/32", json!(now() + 3_600_000))];
    let over = ban("203.0.113.8", json!(now() - 1));
    let mut state = saved(&folder);
    state["bans"]["bans"] = json!([&in_force[0], &in_force[1], over]);
    fs::write(file(&folder), state.to_string()).unwrap();
    for _ in 0..2 {
        Site::start(&folder, &[]).stop();
        let state = saved(&folder);
        let bans = state["bans"]["bans"].as_array().unwrap();
        assert!(bans.len() == 2 && in_force.iter().all(|ban| bans.contains(ban)), "{bans:?}");
    }
}

#[test]
fn a_ban_by_the_rule_outlives_a_restart() {
    let (node, folder) = (node(), folder("banned"));
    let port = node.address.port().to_string();
    let set = [("LAVALINK_V4_PORT", &*port), ("TRUSTED_PROXIES", "127.0.0.1"), ("BAN_AFTER", "3")];
    let status = |site: &Site, client: &str, password: &str| {
        let mut front = Client::connect(site.bots);
        let fields = format!("X-Forwarded-For: {client}\r\nAuthorization: {password}\r\nConnection: close\r\n");
        front.send(format!("GET /v4/info HTTP/1.1\r\nHost: bot\r\n{fields}\r\n").as_bytes());
        front.response().status
    };
    let site = Site::start(&folder, &set);
    for _ in 0..3 {
        assert_eq!(status(&site, "203.0.113.7", "guessed"), 403);
    }
    assert_eq!(status(&site, "203.0.113.7", SECRET), 403);
    site.stop();
    let site = Site::start(&folder, &set);
    assert_eq!((status(&site, "203.0.113.7", SECRET), status(&site, "203.0.113.8", SECRET)), (403, 200));
    assert_eq!(saved(&folder)["bans"]["bans"][0]["by"], "rule");
}

#[test]
fn systemds_folder_is_used_where_no_other_is_set() {
    let (node, folder) = (node(), folder("systemd"));
    let several = format!("{}:/no/such/folder", folder.display());
    let mut command = lavaproxy(&FREE);
    command.env("STATE_DIRECTORY", several).env("LAVALINK_V4_PORT", node.address.port().to_string());
    let mut running = Running::spawn(command);
    request(running.listener("proxy"));
    running.signal("TERM");
    assert!(running.end().0.success());
    assert!(has_figures(&saved(&folder)));
}

#[test]
fn without_a_folder_nothing_is_written() {
    let home = directory("no-state");
    let mut command = lavaproxy(&FREE);
    command.current_dir(&home);
    let mut running = Running::spawn(command);
    running.listener("web");
    running.signal("TERM");
    let (status, log) = running.end();
    assert!(status.success() && !log.contains("state"), "{log}");
    assert_eq!(fs::read_dir(home).unwrap().count(), 0);
}

#[test]
fn another_folder_takes_a_restart() {
    let (before, after) = (folder("before"), folder("after"));
    let settings = directory("other-folder").join("lavaproxy.env");
    let write = |folder: &std::path::Path| fs::write(&settings, format!("STATE_DIR={}\n", folder.display())).unwrap();
    write(&before);
    let mut command = lavaproxy(&FREE);
    command.arg("--env-file").arg(&settings);
    let mut running = Running::spawn(command);
    running.listener("web");
    write(&after);
    running.signal("HUP");
    assert!(!running.line(&["event=reload "]).contains("STATE_DIR"));
    running.line(&["event=restart-needed", "settings=STATE_DIR "]);
    running.signal("TERM");
    assert!(running.end().0.success());
    assert!(file(&before).exists() && !file(&after).exists());
}

#[test]
fn nothing_secret_is_in_the_file() {
    let (node, folder) = (node(), folder("secrets"));
    let port = node.address.port().to_string();
    let site = Site::start(&folder, &[("LAVALINK_V4_PORT", &port), ("WEB_PASSWORD", "for the pages")]);
    request(site.bots);
    let mut guess = Client::connect(site.bots);
    guess.send(b"GET /v4/info HTTP/1.1\r\nHost: bot\r\nAuthorization: guessed-password\r\n\r\n");
    assert_eq!(guess.response().status, 403);
    drop(guess);
    site.stop();
    let text = fs::read_to_string(file(&folder)).unwrap();
    for secret in [SECRET, "for the pages", "guessed-password"] {
        assert!(!text.contains(secret), "{text}");
    }
}
