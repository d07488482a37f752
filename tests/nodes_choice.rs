//! Which of several nodes a handshake or a request goes to.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/nodes.rs"]
mod nodes;
mod support;

use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use lavaproxy::config::Lavalink::{V3, V4};
use lavaproxy::demo::{Node, ReportedLoad};
use nodes::{Bot, FakeNode, IDLE, Nodes, UNASKED, act, health, list, ok, row, wait_for_state};
use support::{Proxy, eventually};

/// Two v4 nodes and two v3 nodes behind one lavaproxy.
fn two_of_each() -> (Nodes, Nodes, Proxy) {
    let (v3, v4) = (Nodes::start(V3, &["old1", "old2"]), Nodes::start(V4, &["eu1", "eu2"]));
    let proxy = nodes::start(&[("LAVALINK_V3_NODES", &v3.list()), ("LAVALINK_V4_NODES", &v4.list())]);
    (v3, v4, proxy)
}

#[test]
fn a_client_names_its_node() {
    let (v3, v4, proxy) = two_of_each();
    let mut client = proxy.connect();
    for name in ["eu2", "eu2", "eu2", "eu1"] {
        let before = v4.named(name).counts().requests;
        assert_eq!(client.get("/v4/info", &format!("lavalink-NODE: {name}\r\n")).status, 200);
        assert!(v4.named(name).counts().requests > before);
        let fields = format!("Lavalink-Node: {name}\r\n");
        assert_eq!(Bot::open_with(proxy.address(), V4, &fields).node(), name);
    }
    assert_eq!(v4.sessions_opened(), [1, 3]);
    // Where the path names no version, the node does, for this request alone or for those that follow.
    assert_eq!(proxy.connect().get("/version", "Lavalink-Node: eu1\r\n").text().split('.').next(), Some("4"));
    assert_eq!(proxy.connect().get("/version", "Lavalink-Node: old2\r\n").text().split('.').next(), Some("3"));
    for (target, fields, known) in [
        ("/v4/info", "Lavalink-Node: us1\r\n", "eu1, eu2"),
        ("/v4/info", "Lavalink-Node: old1\r\n", "eu1, eu2"),
        ("/v3/info", "Lavalink-Node: eu1\r\n", "old1, old2"),
        ("/v4/info", "Lavalink-Node: EU1\r\n", "eu1, eu2"),
        ("/v4/info", "Lavalink-Node:\r\n", "eu1, eu2"),
    ] {
        let answer = client.get(target, fields);
        assert_eq!(answer.status, 400, "{target} {fields}");
        let error = answer.json();
        assert_eq!((&error["status"], &error["path"]), (&400.into(), &target.into()));
        assert!(error["message"].as_str().unwrap().contains(known), "{error}");
    }
    assert_eq!(client.get("/v4/info", "").status, 200, "the connection goes on");
    drop(v3);
}

#[test]
fn the_name_of_a_node_is_taken_off_the_wire() {
    let start = || FakeNode::start(|client, _| client.try_send(&ok("{}")).is_ok());
    let (a, b) = (start(), start());
    let proxy = nodes::proxy(V4, &list(&[("a", a.address()), ("b", b.address())]), &[]);
    proxy.connect().get("/v4/info?Lavalink-Node=b", "X-A: 1\r\nLavalink-Node: b\r\nX-B: Lavalink-Node\r\n");
    let [request] = &b.requests()[..] else { panic!("{:?}", b.requests()) };
    assert!(request.starts_with("GET /v4/info?Lavalink-Node=b HTTP/1.1\r\n"), "{request}");
    assert!(request.contains("\r\nX-A: 1\r\nX-B: Lavalink-Node\r\n"), "{request}");
    assert!(!request.contains("Lavalink-Node: b"), "{request}");
    assert!(a.requests().is_empty());
}

#[test]
fn a_thousand_handshakes_at_once_spread_evenly_over_three_equal_nodes() {
    const BOTS: usize = 1000;
    const THREADS: usize = 20;
    let _ = rlimit::increase_nofile_limit(u64::MAX);
    let nodes = Nodes::start(V4, &["eu1", "eu2", "eu3"]);
    let proxy = nodes.proxy(&[UNASKED]);
    let (address, start) = (proxy.address(), Arc::new(Barrier::new(THREADS)));
    let threads: Vec<_> = (0..THREADS)
        .map(|_| {
            let start = Arc::clone(&start);
            thread::spawn(move || {
                start.wait();
                (0..BOTS / THREADS).map(|_| Bot::open(address, V4)).collect::<Vec<_>>()
            })
        })
        .collect();
    let bots: Vec<Bot> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
    let opened = nodes.sessions_opened();
    println!("1,000 handshakes at once on three equal nodes: {opened:?}");
    assert_eq!(opened.iter().sum::<u64>(), BOTS as u64);
    assert!(opened.iter().all(|count| (300..=367).contains(count)), "{opened:?}");
    for name in ["eu1", "eu2", "eu3"] {
        let by_id = bots.iter().filter(|bot| bot.node() == name).count() as u64;
        assert_eq!(by_id, nodes.named(name).counts().sessions);
        assert_eq!(row(nodes::web(&proxy), name)["sessions"], by_id);
    }
    drop(bots);
    eventually("no session is counted any more", || {
        health(nodes::web(&proxy))["nodes"].as_array().unwrap().iter().all(|row| row["sessions"] == 0)
    });
}

#[test]
fn a_node_with_more_to_do_gets_fewer_sessions() {
    let nodes = Nodes::start(V4, &["eu1", "eu2", "eu3"]);
    let load = |playing_players, system_load| Some(ReportedLoad { players: 500, playing_players, system_load });
    // A session counts as a player, so that of 90 the first 60 make all three equal.
    for (busy, calm, expected) in [(load(60, 0.0), load(30, 0.0), 8..=12), (load(0, 0.6), load(0, 0.3), 0..=0)] {
        nodes.all.iter().for_each(|node| node.report_load(calm));
        nodes.named("eu2").report_load(busy);
        let before = nodes.sessions_opened();
        let proxy = nodes.proxy(&[]);
        for node in &nodes.all {
            wait_for_state(nodes::web(&proxy), node.name(), "up");
        }
        let bots: Vec<Bot> = (0..90).map(|_| Bot::open(proxy.address(), V4)).collect();
        let given: Vec<u64> = nodes.sessions_opened().iter().zip(before).map(|(now, before)| now - before).collect();
        assert!(expected.contains(&given[1]), "{given:?}");
        assert!(given[0].abs_diff(given[2]) <= 2, "{given:?}");
        drop(bots);
    }
}

#[test]
fn requests_go_where_the_fewest_are_under_way() {
    let nodes = Nodes::start(V4, &["eu1", "eu2"]);
    // A health round of a node that is slow would fail.
    let proxy = nodes.proxy(&[UNASKED]);
    let web = nodes::web(&proxy);
    health(web);
    nodes.named("eu1").slow_down(Duration::from_secs(3));
    let mut slow: Vec<_> = (0..2).map(|_| proxy.connect()).collect();
    let request = |node: &str| {
        format!("GET /v4/info HTTP/1.1\r\nHost: x\r\nAuthorization: DevamOP\r\nLavalink-Node: {node}\r\n\r\n")
    };
    for client in &mut slow {
        client.send(request("eu1").as_bytes());
    }
    eventually("two requests are under way at eu1", || row(web, "eu1")["requests"] == 2);
    let before = nodes.named("eu2").counts().requests;
    let mut client = proxy.connect();
    for _ in 0..20 {
        assert_eq!(client.get("/v4/info", "").status, 200);
    }
    assert_eq!(nodes.named("eu2").counts().requests, before + 20);
    slow.iter_mut().for_each(|client| assert_eq!(client.response().status, 200));
    nodes.named("eu1").slow_down(Duration::ZERO);
    eventually("nothing is under way", || row(web, "eu1")["requests"] == 0 && row(web, "eu2")["requests"] == 0);
    // Equal ones take turns.
    let before: Vec<u64> = nodes.all.iter().map(|node| node.counts().requests).collect();
    for _ in 0..20 {
        assert_eq!(client.get("/v4/info", "").status, 200);
    }
    let after = nodes.all.iter().map(|node| node.counts().requests);
    assert_eq!(after.zip(before).map(|(now, before)| now - before).collect::<Vec<_>>(), [10, 10]);
}

#[test]
fn requests_that_end_badly_are_not_counted_for_ever() {
    let node = || {
        FakeNode::start(|client, request| {
            if request.starts_with(b"GET /v4/hang") {
                // Until the proxy or its client has gone.
                client.rest_or_error();
            } else if request.starts_with(b"GET /v4/cut") {
                let _ = client.try_send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf");
            }
            false
        })
    };
    let (a, b) = (node(), node());
    let list = list(&[("a", a.address()), ("b", b.address())]);
    let proxy = nodes::proxy(V4, &list, &[("RESPONSE_TIMEOUT", "500ms")]);
    let web = nodes::web(&proxy);
    for target in ["/v4/none", "/v4/cut", "/v4/hang"] {
        let mut client = proxy.connect();
        client.send(format!("GET {target} HTTP/1.1\r\nHost: x\r\nAuthorization: DevamOP\r\n\r\n").as_bytes());
        client.rest_or_error();
    }
    let count = |name: &str, what: &str| row(web, name)[what].as_u64().unwrap();
    eventually("nothing is counted", || {
        ["a", "b"].iter().all(|name| count(name, "requests") == 0 && count(name, "sessions") == 0)
    });
}

#[test]
fn a_session_decides_before_the_load_and_a_name_before_the_session() {
    let nodes = Nodes::start(V4, &["eu1", "eu2"]);
    let proxy = nodes.proxy(&[]);
    let web = nodes::web(&proxy);
    let bot = Bot::open_with(proxy.address(), V4, "Lavalink-Node: eu2\r\n");
    let mut client = proxy.connect();
    // Also when that node has more load and drains.
    nodes.named("eu2").report_load(Some(ReportedLoad { players: 900, playing_players: 900, system_load: 1.0 }));
    assert_eq!(act(web, "eu2", "drain", "").status, 200);
    for _ in 0..10 {
        assert_eq!(client.get(&format!("/v4/sessions/{}/players", bot.id), "").text(), "[]");
    }
    let field = format!("Session-Id: {}\r\n", bot.id);
    let before = nodes.named("eu2").counts().requests;
    assert_eq!(client.get("/v4/info", &field).status, 200);
    assert!(nodes.named("eu2").counts().requests > before, "the session in a field");
    let path = format!("/v4/sessions/{}/players", bot.id);
    assert_eq!(client.get(&path, "Lavalink-Node: eu1\r\n").status, 404, "the name comes first");
    // An id that names no node is known as well.
    assert_eq!(client.get(&format!("/v4/sessions/{}/players", bot.own_id()), "").status, 200);
    nodes.named("eu2").report_load(Some(IDLE));
}

#[test]
fn a_node_of_a_password_of_its_own_gets_it() {
    let (a, b) = (Node::start_named("a", V4, "of-a").unwrap(), Node::start_named("b", V4, "of-both").unwrap());
    let list = list(&[("a", a.address()), ("b", b.address())]);
    let set = [("LAVALINK_V4_PASSWORD", "of-both"), ("LAVALINK_V4_PASSWORD_A", "of-a")];
    let proxy = nodes::proxy(V4, &list, &set);
    for name in ["a", "b"] {
        wait_for_state(nodes::web(&proxy), name, "up");
        assert_eq!(proxy.connect().get("/v4/info", &format!("Lavalink-Node: {name}\r\n")).status, 200);
    }
}
