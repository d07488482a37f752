//! A node that dies, hangs, refuses, is slow, and what it counts.
use super::socket::{connected, rest_status, wait_for};
use super::*;
use crate::demo::frames::{PING, frame};
use crate::demo::session::Outbox;
use std::io::ErrorKind;
use std::time::Instant;

fn refuses(node: &Node) -> bool {
    matches!(TcpStream::connect(node.address()), Err(error) if error.kind() == ErrorKind::ConnectionRefused)
}

#[test]
fn a_node_dies_and_comes_back_without_its_sessions() {
    for (version, close) in BOTH.into_iter().flat_map(|version| [(version, Close::Fin), (version, Close::Reset)]) {
        let node = node(version);
        let (mut socket, id) = connected(&node, version, "");
        let mut idle = Raw::new(&node);
        idle.ask("GET", "/version");
        idle.status();
        node.die(close);
        for client in [&mut socket, &mut idle] {
            match (close, client.0.read(&mut [0])) {
                (Close::Fin, Ok(0)) => {}
                (Close::Reset, Err(error)) if error.kind() == ErrorKind::ConnectionReset => {}
                (_, end) => panic!("{end:?}"),
            }
        }
        assert!(refuses(&node));
        assert_eq!((node.sessions(), node.players()), (0, 0));
        node.die(close);
        node.revive().unwrap();
        node.revive().unwrap();
        assert_eq!(rest_status(&node, &format!("/{}/sessions/{id}/players", version.name())), 404);
        let (_socket, again) = connected(&node, version, &format!("Session-Id: {id}\r\n"));
        assert_ne!(again, id);
        assert_eq!(node.session_ids(), [again]);
    }
}

#[test]
fn a_message_that_cannot_be_sent_does_not_turn_a_reset_into_a_clean_end() {
    let (wire, mut client) = super::socket::wire();
    let outbox = Outbox::new(&wire);
    outbox.text("late");
    wire.reset();
    outbox.flush();
    drop((outbox, wire));
    assert_eq!(client.0.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[test]
fn a_node_that_hangs_accepts_and_says_nothing_until_it_goes_on() {
    let node = node(Lavalink::V4);
    let (mut socket, _) = connected(&node, Lavalink::V4, "");
    let mut before = Raw::new(&node);
    before.ask("GET", "/version");
    before.status();
    node.hang();
    let mut after = Raw::new(&node);
    for client in [&mut before, &mut after] {
        client.ask("GET", "/version");
    }
    socket.0.write_all(&frame(PING, b"x", true)).unwrap();
    for client in [&mut before, &mut after, &mut socket] {
        client.0.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        assert_eq!(client.0.read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
        client.0.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    }
    node.resume();
    assert_eq!((before.status(), after.status()), (200, 200));
    assert_eq!(socket.frame(), (0x8a, b"x".to_vec()));
}

#[test]
fn a_node_that_hangs_can_die_and_stop() {
    let node = node(Lavalink::V4);
    let mut client = Raw::new(&node);
    node.hang();
    client.ask("GET", "/version");
    wait_for(|| node.counts().connections == 1);
    node.die(Close::Fin);
    // The node read the request or not: a kernel resets a connection that is closed with unread bytes.
    assert!(matches!(client.0.read(&mut [0]), Ok(0) | Err(_)));
    node.revive().unwrap();
    assert_eq!(rest_status(&node, "/version"), 200);
    node.hang();
    let mut client = Raw::new(&node);
    client.ask("GET", "/version");
    let before = Instant::now();
    drop(node);
    assert!(before.elapsed() < Duration::from_secs(60));
}

#[test]
fn a_node_that_refuses_keeps_its_tunnels() {
    let node = node(Lavalink::V4);
    let (mut socket, _) = connected(&node, Lavalink::V4, "");
    node.refuse();
    assert!(refuses(&node));
    socket.0.write_all(&frame(PING, b"x", true)).unwrap();
    assert_eq!(socket.frame(), (0x8a, b"x".to_vec()));
    node.revive().unwrap();
    assert_eq!(rest_status(&node, "/version"), 200);
    assert_eq!(node.sessions(), 1);
    node.refuse();
    node.die(Close::Fin);
    assert!(socket.is_at_end());
    node.revive().unwrap();
    assert_eq!(rest_status(&node, "/version"), 200);
}

#[test]
fn a_slow_node_answers_late_but_dies_at_once() {
    let node = node(Lavalink::V4);
    node.slow_down(Duration::from_millis(120));
    let before = Instant::now();
    assert_eq!(rest_status(&node, "/version"), 200);
    assert!(before.elapsed() >= Duration::from_millis(120));
    node.slow_down(Duration::from_secs(600));
    let mut client = Raw::new(&node);
    client.ask("GET", "/version");
    wait_for(|| node.counts().requests == 2);
    node.die(Close::Fin);
    assert!(client.is_at_end());
    node.slow_down(Duration::ZERO);
    node.revive().unwrap();
    assert_eq!(rest_status(&node, "/version"), 200);
}

#[test]
fn loads_fail_as_lavalinks_do() {
    for version in BOTH {
        let node = node(version);
        node.fail_loads(true);
        let mut client = Raw::new(&node);
        let target = format!("/{}/loadtracks?identifier=a", version.name());
        client.ask("GET", &target);
        let (_, body) = client.answer();
        let start = match version {
            Lavalink::V3 => r#"{"loadType":"LOAD_FAILED","tracks":[],"playlistInfo":{},"exception":{"message":"#,
            Lavalink::V4 => r#"{"loadType":"error","data":{"message":"#,
        };
        assert!(body.starts_with(start), "{body}");
        node.fail_loads(false);
        client.ask("GET", &target);
        assert!(matches!(client.json()["loadType"].as_str(), Some("TRACK_LOADED" | "track")));
        assert_eq!(node.counts().loads, 2);
    }
}

#[test]
fn every_password_can_be_refused() {
    for version in BOTH {
        let node = node(version);
        node.refuse_passwords(true);
        assert_eq!(rest_status(&node, "/version"), 403);
        let mut client = Raw::new(&node);
        client.send("GET /version HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(client.status(), 401);
        assert!(client.handshake(version, "").starts_with("HTTP/1.1 401 "));
        node.refuse_passwords(false);
        assert_eq!(rest_status(&node, "/version"), 200);
    }
}

#[test]
fn a_load_that_is_set_is_reported_in_stats_and_messages() {
    for version in BOTH {
        let node = node(version);
        node.report_load(Some(ReportedLoad { players: 7, playing_players: 5, system_load: 0.25 }));
        let mut client = Raw::new(&node);
        client.handshake(version, "");
        client.message();
        let message = client.message();
        let mut rest = Raw::new(&node);
        rest.ask("GET", &format!("/{}/stats", version.name()));
        for stats in [message, rest.json()] {
            assert_eq!((&stats["players"], &stats["playingPlayers"]), (&7.into(), &5.into()));
            assert_eq!(stats["cpu"]["systemLoad"], 0.25);
        }
        node.report_load(None);
        rest.ask("GET", &format!("/{}/stats", version.name()));
        assert_eq!(rest.json()["players"], 0);
    }
}

#[test]
fn connections_requests_loads_and_sessions_are_counted() {
    let node = Node::start_named("eu1", Lavalink::V4, PASSWORD).unwrap();
    assert_eq!((node.name(), node.version(), node.counts()), ("eu1", Lavalink::V4, Counts::default()));
    let (_socket, id) = connected(&node, Lavalink::V4, "");
    let mut rest = Raw::new(&node);
    rest.ask("GET", "/v4/loadtracks?identifier=a");
    rest.json();
    rest.patch(&format!("/v4/sessions/{id}/players/1"), "{}");
    rest.json();
    let (most_updates, most_updates_of_session) = (1, 1);
    let received = Counts {
        connections: 2,
        requests: 3,
        loads: 1,
        sessions: 1,
        resumed: 0,
        most_updates,
        most_updates_of_session,
    };
    assert_eq!(node.counts(), received);
    assert_eq!((node.sessions(), node.players()), (1, 1));
}

#[test]
fn the_demo_has_two_nodes_of_version_four_and_one_of_version_three() {
    let nodes = Node::start_demo(PASSWORD).unwrap();
    let names: Vec<_> = nodes.iter().map(|node| (node.name(), node.version())).collect();
    assert_eq!(names, [("eu1", Lavalink::V4), ("eu2", Lavalink::V4), ("v3", Lavalink::V3)]);
}
