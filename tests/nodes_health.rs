//! How nodes are: what makes one up or down, what is logged of it, and what becomes of its sessions.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/logged.rs"]
mod logged;
#[path = "support/nodes.rs"]
mod nodes;
mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use lavaproxy::config::Lavalink::{V3, V4};
use lavaproxy::demo::{Close, Node};
use logged::{lines, logged};
use nodes::{Bot, Nodes, Refusing, UNASKED, check, list, row, see_state, state, wait_for_state};
use support::{Backend, PASSWORD, eventually};

#[test]
fn a_node_goes_from_unknown_to_up_to_down_and_back_with_one_line_each() {
    lines();
    let nodes = Nodes::start(V4, &["health1", "health2"]);
    nodes.named("health1").refuse();
    let proxy = nodes.proxy(&[]);
    let web = nodes::web(&proxy);
    wait_for_state(web, "health2", "up");
    wait_for_state(web, "health1", "down");
    let down = row(web, "health1");
    assert!(down["error"].as_str().unwrap().contains("LAVALINK_V4_NODES"), "{down}");
    assert!(down["responseTime"].is_null() && down["players"].is_null());
    nodes.named("health1").revive().unwrap();
    wait_for_state(web, "health1", "up");
    let up = row(web, "health1");
    assert!(up["since"].as_u64() > down["since"].as_u64() && up["error"].is_null(), "{up}");
    assert!(up["responseTime"].is_number() && up["lavalinkVersion"].as_str().unwrap().starts_with("4."), "{up}");
    nodes.named("health1").die(Close::Fin);
    wait_for_state(web, "health1", "down");
    for (words, count) in [
        (["event=node-up", "node=health2 ", "before=unknown", "reason="], 1),
        (["event=node-down", "node=health1 ", "before=unknown", "refused"], 1),
        (["event=node-up", "node=health1 ", "before=down", "reason="], 1),
        (["event=node-down", "node=health1 ", "before=up", "refused"], 1),
        (["event=node-", "node=health1 ", "before=", "reason="], 3),
    ] {
        assert_eq!(logged(&words), count, "{words:?}");
    }
    assert_eq!(state(web, "health2"), "up");
}

/// A node that answers `GET /version` with each of these statuses, and then with the last for ever; with 0 it closes
/// instead. It counts them.
fn rounds(statuses: &[u16]) -> (Backend, Arc<AtomicUsize>) {
    let (statuses, count) = (statuses.to_vec(), Arc::<AtomicUsize>::default());
    let own = Arc::clone(&count);
    let node = Backend::start(move |mut client, _| {
        let Some(request) = client.next_request() else { return };
        let status = match request.starts_with(b"GET /version") {
            true => statuses[own.fetch_add(1, SeqCst).min(statuses.len() - 1)],
            false => 404,
        };
        if status > 0 {
            client
                .send(format!("HTTP/1.1 {status} X\r\nContent-Length: 5\r\nConnection: close\r\n\r\n4.0.8").as_bytes());
        }
    });
    (node, count)
}

#[test]
fn two_rounds_in_a_row_change_a_state() {
    lines();
    // Each state that is seen, in its order.
    let states = |statuses: &[u16], name: &str| {
        let (node, count) = rounds(statuses);
        let other = Refusing::start();
        let list = list(&[(name, node.address), ("other", other.address())]);
        let proxy = nodes::proxy(V4, &list, &[]);
        eventually("all rounds are over", || {
            check(nodes::web(&proxy));
            count.load(SeqCst) > statuses.len()
        });
        drop(proxy);
        let word = format!(" node={name} ");
        let state = |line: &String| line.split("event=node-").nth(1)?.split(' ').next().map(str::to_owned);
        lines().iter().filter(|line| line.contains(&word)).filter_map(state).collect::<Vec<_>>()
    };
    let cases = [
        (&[200, 0, 200, 0, 200, 200][..], &["up"][..]),
        (&[200, 0, 0, 200, 0, 200, 0, 0], &["up", "down"]),
        (&[200, 0, 0, 200, 200, 200], &["up", "down", "up"]),
        (&[0, 200, 200, 200], &["up"]),
        (&[0, 0, 200, 0, 0, 0], &["down"]),
        // A node whose answer is an error stands, and says so.
        (&[500, 500, 500, 200], &["up"]),
    ];
    thread::scope(|scope| {
        for (number, (statuses, expected)) in cases.into_iter().enumerate() {
            scope.spawn(move || assert_eq!(states(statuses, &format!("rounds{number}")), expected, "{statuses:?}"));
        }
    });
}

#[test]
fn a_refused_connect_and_the_round_that_follows_make_a_node_down() {
    let nodes = Nodes::start(V4, &["refuses1", "refuses2"]);
    let proxy = nodes.proxy(&[UNASKED]);
    let web = nodes::web(&proxy);
    for name in ["refuses1", "refuses2"] {
        wait_for_state(web, name, "up");
    }
    nodes.named("refuses1").die(Close::Fin);
    assert_eq!(state(web, "refuses1"), "up", "no connect has failed yet");
    let started = Instant::now();
    // Each node has its turn, and no client notices.
    for _ in 0..2 {
        assert_eq!(proxy.connect().get("/v4/info", "").status, 200);
        drop(Bot::open(proxy.address(), V4));
    }
    see_state(web, "refuses1", "down");
    println!("down {:?} after the first refused connect, at a HEALTH_INTERVAL of 1h", started.elapsed());
    assert_eq!(state(web, "refuses2"), "up");
}

#[test]
fn one_failed_round_after_a_refused_connect_is_enough() {
    let nodes = Nodes::start(V4, &["enough1", "enough2"]);
    let proxy = nodes.proxy(&[UNASKED]);
    let web = nodes::web(&proxy);
    wait_for_state(web, "enough1", "up");
    // The next round comes a second after the last one, so that it finds a node that takes connections again.
    nodes.named("enough1").refuse();
    (0..2).for_each(|_| drop(Bot::open(proxy.address(), V4)));
    nodes.named("enough1").hang();
    nodes.named("enough1").revive().unwrap();
    see_state(web, "enough1", "down");
    nodes.named("enough1").resume();
}

#[test]
fn a_connect_that_is_refused_once_makes_no_node_down() {
    let nodes = Nodes::start(V4, &["once1", "once2"]);
    let proxy = nodes.proxy(&[UNASKED]);
    let web = nodes::web(&proxy);
    wait_for_state(web, "once1", "up");
    let rounds = || nodes.named("once1").counts().requests;
    let before = rounds();
    nodes.named("once1").refuse();
    (0..2).for_each(|_| drop(Bot::open(proxy.address(), V4)));
    nodes.named("once1").revive().unwrap();
    eventually("the round that it triggers is over", || rounds() >= before + 2);
    // Waits for the end of another round. One good round alone would not make the node up again.
    check(web);
    assert_eq!(state(web, "once1"), "up");
}

#[test]
fn a_node_that_refuses_the_password_is_down_and_the_log_names_the_setting() {
    lines();
    let nodes = Nodes::start(V4, &["refuser-1", "refuser2"]);
    let proxy = nodes.proxy(&[("LAVALINK_V4_PASSWORD_REFUSER_1", PASSWORD)]);
    let web = nodes::web(&proxy);
    wait_for_state(web, "refuser-1", "up");
    nodes.named("refuser-1").refuse_passwords(true);
    wait_for_state(web, "refuser-1", "down");
    let error = row(web, "refuser-1")["error"].as_str().unwrap().to_owned();
    assert!(error.contains("LAVALINK_V4_PASSWORD_REFUSER_1"), "{error}");
    let words = ["event=password-refused", "node=refuser-1 ", "setting=LAVALINK_V4_PASSWORD_REFUSER_1"];
    assert_eq!(logged(&words), 1);
    assert_eq!(Bot::open(proxy.address(), V4).node(), "refuser2");
    // More rounds and a request of a client log nothing more.
    let before = nodes.named("refuser-1").counts().requests;
    assert_eq!(proxy.connect().get("/v4/info", "Lavalink-Node: refuser-1\r\n").status, 502);
    eventually("three more rounds", || {
        check(web);
        nodes.named("refuser-1").counts().requests > before + 4
    });
    assert_eq!(logged(&words), 1, "at most one a minute");
    let refusals = |node: &str| {
        let metrics = nodes::metrics(web);
        let line = metrics
            .lines()
            .find(|line| line.starts_with("lavaproxy_node_password_refusals_total") && line.contains(node));
        line.and_then(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
    };
    assert!(refusals("refuser-1").is_some_and(|count| count >= 4), "each is counted");
    assert_eq!(refusals("refuser2"), Some(0));
    nodes.named("refuser-1").refuse_passwords(false);
    wait_for_state(web, "refuser-1", "up");
    assert!(!lines().iter().any(|line| line.contains(PASSWORD)));
}

#[test]
fn a_node_that_hangs_loses_its_tunnels_and_its_bots_reconnect_elsewhere() {
    lines();
    const INTERVAL: Duration = Duration::from_secs(2);
    for version in [V4, V3] {
        let names = if version == V4 { ["hangs1", "hangs2"] } else { ["hangs3", "hangs4"] };
        let nodes = Nodes::start(version, &names);
        let set = [("HEALTH_INTERVAL", "2s"), ("FAILOVER_AFTER", "1s"), ("SESSION_TAKEOVER", "off")];
        let proxy = nodes.proxy(&set);
        let web = nodes::web(&proxy);
        for name in names {
            wait_for_state(web, name, "up");
        }
        let mut bots: Vec<Bot> = (0..6).map(|_| Bot::open(proxy.address(), version)).collect();
        nodes.named(names[0]).hang();
        let started = Instant::now();
        see_state(web, names[0], "down");
        let taken = started.elapsed();
        println!("{version}: down {taken:?} after it hung, at a HEALTH_INTERVAL of 2s");
        // Three intervals, and what a busy machine takes.
        assert!(taken < 3 * INTERVAL + Duration::from_secs(3), "{taken:?}");
        for bot in &mut bots {
            if bot.node() == names[0] {
                let last = bot.client.rest();
                assert!(last.ends_with(&[0x88, 2, 0x03, 0xf4]), "{}", last.escape_ascii());
            }
        }
        println!("{version}: tunnels ended {:?} after it hung, with FAILOVER_AFTER 1s", started.elapsed());
        // It is logged when all of them are ended.
        let words = ["event=failover", &format!("node={} ", names[0]), "tunnels=3"];
        eventually("the failover is logged", || logged(&words) == 1);
        for mut bot in bots {
            match bot.node() == names[0] {
                true => assert_eq!(Bot::open(proxy.address(), version).node(), names[1]),
                false => assert!(bot.is_alive()),
            }
        }
        eventually("its sessions are counted no more", || row(web, names[0])["sessions"] == 0);
        nodes.named(names[0]).resume();
        wait_for_state(web, names[0], "up");
    }
}

#[test]
fn tunnels_stay_without_failover_and_without_another_node() {
    let nodes = Nodes::start(V4, &["stays1", "stays2"]);
    for (failover, other_dies) in [("0s", false), ("100ms", true)] {
        let proxy = nodes.proxy(&[("HEALTH_INTERVAL", "2s"), ("FAILOVER_AFTER", failover)]);
        let web = nodes::web(&proxy);
        let mut bot = Bot::open_with(proxy.address(), V4, "Lavalink-Node: stays1\r\n");
        if other_dies {
            nodes.named("stays2").die(Close::Fin);
            wait_for_state(web, "stays2", "down");
        }
        nodes.named("stays1").hang();
        wait_for_state(web, "stays1", "down");
        // Tunnels are looked at once a second.
        thread::sleep(Duration::from_millis(2500));
        nodes.named("stays1").resume();
        assert!(bot.is_alive());
        wait_for_state(web, "stays1", "up");
        drop(proxy);
        nodes.named("stays2").revive().unwrap();
    }
}

#[test]
fn requests_are_tried_also_when_no_node_is_up() {
    let nodes = Nodes::start(V4, &["tried1", "tried2"]);
    nodes.all.iter().for_each(Node::refuse);
    let proxy = nodes.proxy(&[]);
    let web = nodes::web(&proxy);
    for name in ["tried1", "tried2"] {
        wait_for_state(web, name, "down");
    }
    assert_eq!(proxy.connect().get("/v4/info", "").status, 502);
    for name in ["tried2", "tried1"] {
        nodes.named(name).revive().unwrap();
        // Before two good rounds can have passed.
        assert_eq!(proxy.connect().get("/v4/info", "").status, 200);
        assert_eq!(Bot::open(proxy.address(), V4).node(), name);
        nodes.named(name).refuse();
    }
}

#[test]
fn metrics_and_status_follow() {
    let nodes = Nodes::start(V4, &["metrics1", "metrics2"]);
    let proxy = nodes.proxy(&[]);
    let web = nodes::web(&proxy);
    wait_for_state(web, "metrics1", "up");
    wait_for_state(web, "metrics2", "up");
    nodes.named("metrics1").die(Close::Fin);
    wait_for_state(web, "metrics1", "down");
    let metrics = nodes::metrics(web);
    for line in [
        "lavaproxy_node_up{node=\"metrics1\",version=\"v4\"} 0\n",
        "lavaproxy_node_up{node=\"metrics2\",version=\"v4\"} 1\n",
    ] {
        assert!(metrics.contains(line), "{metrics}");
    }
    assert_eq!(nodes::health(web)["status"], "degraded");
}
