//! A node dies or restarts under bots that play, and they do not notice.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/music.rs"]
mod music;
#[path = "support/nodes.rs"]
mod nodes;
mod support;

use std::time::{Duration, Instant};

use lavaproxy::config::Lavalink::{V3, V4};
use lavaproxy::demo::{Close, Node};
use music::{Musician, await_sessions, is_event, listen_for, position};
use nodes::{Nodes, list};
use serde_json::{Value, json};
use support::{PASSWORD, eventually};

/// How far a player may be from its place.
const SLACK: i64 = 1500;

/// No start, no `ready`, and no position before `least`.
fn hears_nothing_of_it(messages: &[Value], least: i64) {
    for message in messages {
        assert!(message["op"] != "ready" && !is_event(message, "TrackStartEvent"), "{message}");
        assert!(message["op"] != "stats", "{message}");
        if message["op"] == "playerUpdate" {
            assert!(position(message) >= least, "{message} before {least}");
            assert_eq!(message["state"]["connected"], true, "{message}");
        }
    }
}

#[test]
fn players_go_on_at_another_node() {
    for close in [Close::Fin, Close::Reset] {
        let nodes = Nodes::start(V4, &["eu1", "eu2"]);
        let proxy = nodes.proxy(&[]);
        let bot = Musician::open(proxy.address(), V4, "Lavalink-Node: eu1\r\n");
        bot.rest("PATCH", "", r#"{"resuming":true,"timeout":77}"#);
        let more =
            json!({"position": 30_000, "volume": 42, "endTime": 100_000, "filters": {"timescale": {"speed": 1.0}}});
        let played = Instant::now();
        let before = bot.play(1, "song", more);
        bot.play(2, "paused", json!({"position": 50_000, "paused": true}));
        listen_for(Duration::from_millis(300));
        let heard = bot.count();
        nodes.named("eu1").die(close);
        await_sessions(nodes.named("eu2"), 1);
        bot.ping("alive");
        let after = bot.player(1);
        let expected = 30_000 + i64::try_from(played.elapsed().as_millis()).unwrap();
        assert!(position(&after).abs_diff(expected) <= SLACK as u64, "{after} instead of {expected}");
        for field in ["volume", "paused", "filters", "voice"] {
            assert_eq!(after[field], before[field], "{field}");
        }
        assert_eq!(after["track"]["userData"], json!({"guild": 1}));
        assert_eq!(bot.player(2)["paused"], true);
        assert_eq!(bot.rest("PATCH", "", "{}").json(), json!({"resuming": true, "timeout": 77}));
        bot.await_message(heard, "a later position", |message| message["op"] == "playerUpdate");
        hears_nothing_of_it(&bot.since(heard), 30_000);
        // The paused player goes on at its place.
        let resumed = Instant::now();
        assert_eq!(bot.patch(2, "", &json!({"paused": false})).status, 200);
        let later = bot.await_message(heard, "the other's position", |message| {
            message["op"] == "playerUpdate" && message["guildId"] == "2"
        });
        let expected = 50_000 + i64::try_from(resumed.elapsed().as_millis()).unwrap();
        assert!(position(&later).abs_diff(expected) <= SLACK as u64, "{later} instead of {expected}");
        assert!(bot.is_open());
        assert_eq!(bot.rest("DELETE", "/players/1", "").status, 204);
        let end = bot.await_message(heard, "the end", |message| is_event(message, "TrackEndEvent"));
        assert_eq!(end["guildId"], "1");
        assert_eq!(nodes.named("eu2").players(), 1);
    }
}

#[test]
fn players_go_on_at_the_same_node_when_it_is_back() {
    let node = Node::start_named("only", V4, PASSWORD).unwrap();
    let proxy = nodes::proxy(V4, &list(&[("only", node.address())]), &[]);
    let bot = Musician::open(proxy.address(), V4, "");
    bot.play(7, "song", json!({"position": 10_000}));
    let (heard, lost) = (bot.count(), Instant::now());
    node.die(Close::Fin);
    bot.ping("while it is away");
    listen_for(Duration::from_millis(700));
    node.revive().unwrap();
    await_sessions(&node, 1);
    let after = bot.player(7);
    let expected = 10_000 + i64::try_from(lost.elapsed().as_millis()).unwrap();
    assert!(position(&after).abs_diff(expected) <= SLACK as u64, "{after} instead of {expected}");
    bot.ping("again");
    hears_nothing_of_it(&bot.since(heard), 10_000);
}

#[test]
fn v3_sessions_that_use_rest_go_on_too() {
    let nodes = Nodes::start(V3, &["eu1", "eu2"]);
    let proxy = nodes.proxy(&[]);
    let bot = Musician::open(proxy.address(), V3, "Lavalink-Node: eu1\r\n");
    bot.rest("PATCH", "", r#"{"resumingKey":"my-key","timeout":77}"#);
    bot.play(1, "song", json!({"position": 30_000}));
    let heard = bot.count();
    nodes.named("eu1").die(Close::Fin);
    await_sessions(nodes.named("eu2"), 1);
    let player = bot.player(1);
    assert!(player["track"]["info"]["position"].as_i64().unwrap() >= 30_000, "{player}");
    bot.ping("alive");
    assert_eq!(bot.rest("PATCH", "", "{}").json(), json!({"resumingKey": "my-key", "timeout": 77}));
    hears_nothing_of_it(&bot.since(heard), 30_000);
    eventually("one session", || nodes.named("eu2").sessions() == 1);
}

#[test]
fn bytes_are_counted_as_they_are_on_the_wire_of_the_client() {
    let nodes = Nodes::start(V4, &["eu1", "eu2"]);
    let proxy = nodes.proxy(&[]);
    let bot = Musician::open(proxy.address(), V4, "Lavalink-Node: eu1\r\n");
    bot.play(1, "song", json!({}));
    nodes.named("eu1").die(Close::Fin);
    bot.send(&nodes::masked(0x89, b"meanwhile"));
    await_sessions(nodes.named("eu2"), 1);
    bot.await_pong("meanwhile");
    assert_eq!(bot.rest("DELETE", "/players/1", "").status, 204);
    bot.await_message(0, "the end", |message| is_event(message, "WebSocketClosedEvent"));
    let heard = bot.count();
    bot.ping("all has come");
    eventually("the last message", || bot.count() > heard || bot.heard.lock().unwrap().pongs.len() == 2);
    let rows = proxy.server.ledger().snapshot().connections;
    let row = rows.iter().find(|row| row.kind == "websocket").unwrap();
    assert_eq!(row.node.as_deref(), Some("eu2"));
    let counted = || {
        let used = proxy.server.ledger().snapshot().connections[0].traffic.amount;
        (used.bytes_in, used.bytes_out) == (*bot.sent.lock().unwrap(), bot.heard.lock().unwrap().received)
    };
    eventually("the counts are those of the client", counted);
}

#[test]
fn a_stop_during_a_takeover_ends_it() {
    let node = Node::start_named("only", V4, PASSWORD).unwrap();
    let proxy = nodes::proxy(V4, &list(&[("only", node.address())]), &[("DRAIN_TIMEOUT", "0s")]);
    let bot = Musician::open(proxy.address(), V4, "");
    bot.play(7, "song", json!({}));
    node.die(Close::Fin);
    bot.ping("while it is away");
    proxy.server.stop();
    assert_eq!(bot.await_end(), Some(1001));
}

#[test]
fn a_reload_during_a_takeover_brings_the_next_node() {
    let (first, second) =
        (Node::start_named("a", V4, PASSWORD).unwrap(), Node::start_named("b", V4, PASSWORD).unwrap());
    let proxy = nodes::proxy(V4, &list(&[("a", first.address())]), &[]);
    let bot = Musician::open(proxy.address(), V4, "");
    bot.play(7, "song", json!({"position": 10_000}));
    first.die(Close::Fin);
    bot.ping("while it is away");
    let both = list(&[("a", first.address()), ("b", second.address())]);
    proxy.server.reload(&nodes::settings(&nodes::of(V4, &both, &[]))).unwrap();
    await_sessions(&second, 1);
    assert!(position(&bot.player(7)) >= 10_000);
    assert!(bot.is_open());
}

#[test]
fn a_session_can_be_resumed_after_its_client_has_reset_the_connection() {
    let nodes = Nodes::start(V4, &["eu1", "eu2"]);
    let proxy = nodes.proxy(&[]);
    let bot = Musician::open(proxy.address(), V4, "Lavalink-Node: eu1\r\n");
    bot.rest("PATCH", "", r#"{"resuming":true,"timeout":60}"#);
    bot.play(1, "song", json!({"position": 10_000}));
    let field = format!("Session-Id: {}\r\n", bot.id);
    bot.reset();
    proxy.wait_until_empty();
    let again = nodes::Bot::open_with(proxy.address(), V4, &field);
    assert!(again.resumed, "{}", again.id);
    nodes.named("eu1").die(Close::Fin);
    await_sessions(nodes.named("eu2"), 1);
    let player = proxy.connect().get(&format!("/v4/sessions/{}/players/1", again.id), "").json();
    assert!(position(&player) >= 10_000, "what was known before it was resumed is known");
}

#[test]
fn a_session_can_be_resumed_after_it_was_taken_over() {
    let nodes = Nodes::start(V4, &["eu1", "eu2"]);
    let proxy = nodes.proxy(&[]);
    let bot = Musician::open(proxy.address(), V4, "Lavalink-Node: eu1\r\n");
    bot.rest("PATCH", "", r#"{"resuming":true,"timeout":60}"#);
    bot.play(1, "song", json!({"position": 10_000}));
    nodes.named("eu1").die(Close::Fin);
    await_sessions(nodes.named("eu2"), 1);
    nodes.named("eu1").revive().unwrap();
    let field = format!("Session-Id: {}\r\n", bot.id);
    assert_eq!(bot.player(1)["track"]["info"]["identifier"], "song");
    bot.half_close();
    bot.await_end();
    let again = nodes::Bot::open_with(proxy.address(), V4, &field);
    assert!(again.resumed && again.node() == "eu2", "{} {}", again.resumed, again.id);
    // Its players are known as before, also under its first id.
    let player = |id: &str| proxy.connect().get(&format!("/v4/sessions/{id}/players/1"), "").json();
    assert_eq!(player(&again.id)["track"]["info"]["identifier"], "song");
    nodes.named("eu2").die(Close::Fin);
    await_sessions(nodes.named("eu1"), 1);
    assert!(position(&player(&again.id)) >= 10_000);
}

#[test]
fn the_next_process_knows_where_a_session_is() {
    let nodes = Nodes::start(V4, &["eu1", "eu2"]);
    let proxy = nodes.proxy(&[("DRAIN_TIMEOUT", "0s")]);
    let bot = Musician::open(proxy.address(), V4, "Lavalink-Node: eu1\r\n");
    bot.rest("PATCH", "", r#"{"resuming":true,"timeout":60}"#);
    bot.play(1, "song", json!({"position": 10_000}));
    nodes.named("eu1").die(Close::Fin);
    await_sessions(nodes.named("eu2"), 1);
    nodes.named("eu1").revive().unwrap();
    assert!(position(&bot.player(1)) >= 10_000);
    let state = proxy.server.lasting().state().to_json().unwrap();
    let text = String::from_utf8_lossy(&state);
    assert!(!text.contains(music::VOICE_TOKEN), "{text}");
    let id = bot.id.clone();
    proxy.server.stop();
    drop((bot, proxy));

    let state = lavaproxy::state::State::parse(&state).unwrap();
    let settings = nodes::settings(&nodes::of(V4, &nodes.list(), &[]));
    let next = lavaproxy::server::Server::start_on(&settings, Default::default(), Some(state), None).unwrap();
    let field = format!("Session-Id: {id}\r\n");
    let again = nodes::Bot::open_with(next.address("proxy").unwrap(), V4, &field);
    assert!(again.resumed && again.node() == "eu2", "{} {}", again.resumed, again.id);
}
