//! A bot connects again, with the id or the key of its session, while the session is being taken over.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/music.rs"]
mod music;
#[path = "support/nodes.rs"]
mod nodes;
mod support;

use std::thread::{self, JoinHandle};
use std::time::Duration;

use lavaproxy::config::Lavalink::{self, V3, V4};
use lavaproxy::demo::{Close, Node};
use music::{Musician, await_sessions};
use nodes::{Bot, Nodes, list, masked};
use serde_json::json;
use support::{PASSWORD, Proxy, eventually};

/// One node, and a bot that plays there until the node dies.
struct Stage {
    node: Node,
    proxy: Proxy,
    bot: Musician,
}

impl Stage {
    fn new(version: Lavalink, resuming: &str) -> Self {
        let node = Node::start_named("only", version, PASSWORD).unwrap();
        let proxy = nodes::proxy(version, &list(&[("only", node.address())]), &[]);
        let bot = Musician::open(proxy.address(), version, "");
        bot.rest("PATCH", "", resuming);
        bot.play(1, "song", json!({"position": 10_000}));
        node.die(Close::Fin);
        bot.ping("the takeover is under way");
        Self { node, proxy, bot }
    }

    /// Begins to open another WebSocket. Returns once lavaproxy has the connection.
    fn connect_again(&self, field: &str) -> JoinHandle<Bot> {
        let (proxy, version) = (self.proxy.address(), self.bot.version);
        let field = format!("{field}\r\n");
        let requests = || self.proxy.stats()["totals"]["requests"].as_u64().unwrap();
        let before = requests();
        let again = thread::spawn(move || Bot::open_with(proxy, version, &field));
        eventually("the handshake has come", || requests() > before);
        again
    }
}

/// `leave` ends the bot's WebSocket.
fn a_bot_gets_its_session_back(version: Lavalink, resuming: &str, field: &str, leave: fn(Musician)) {
    let stage = Stage::new(version, resuming);
    let field = field.replace("ID", &stage.bot.id);
    let again = stage.connect_again(&field);
    let Stage { node, proxy, bot } = stage;
    leave(bot);
    node.revive().unwrap();
    let mut again = again.join().unwrap();
    assert!(again.resumed, "{version}: {}", again.id);
    let target = format!("/{version}/sessions/{}/players/1", again.id);
    let player = proxy.connect().get(&target, "").json();
    assert_eq!(player["track"]["info"]["identifier"], "song", "{player}");
    assert!(again.is_alive());
    assert_eq!(node.sessions(), 1);
}

const V4_RESUMING: (&str, &str) = (r#"{"resuming":true,"timeout":60}"#, "Session-Id: ID");
const V3_RESUMING: (&str, &str) = (r#"{"resumingKey":"my-key","timeout":60}"#, "Resume-Key: my-key");

#[test]
fn a_bot_that_has_sent_a_close_frame_gets_its_session_back() {
    for (version, (resuming, field)) in [(V4, V4_RESUMING), (V3, V3_RESUMING)] {
        a_bot_gets_its_session_back(version, resuming, field, |bot| {
            bot.send(&masked(0x88, &1000u16.to_be_bytes()));
            assert_eq!(bot.await_end(), Some(1000), "its close frame is answered while there is no node");
        });
    }
}

#[test]
fn a_bot_that_has_ended_its_side_gets_its_session_back() {
    for (version, (resuming, field)) in [(V4, V4_RESUMING), (V3, V3_RESUMING)] {
        a_bot_gets_its_session_back(version, resuming, field, |bot| {
            bot.half_close();
            assert_eq!(bot.await_end(), None);
        });
    }
}

#[test]
fn a_bot_that_has_reset_its_connection_gets_its_session_back() {
    for (version, (resuming, field)) in [(V4, V4_RESUMING), (V3, V3_RESUMING)] {
        a_bot_gets_its_session_back(version, resuming, field, Musician::reset);
    }
}

#[test]
fn a_player_whose_answer_comes_after_the_resume_is_known() {
    let nodes = Nodes::start(V4, &["eu1", "eu2"]);
    let proxy = nodes.proxy(&[]);
    let bot = Musician::open(proxy.address(), V4, "Lavalink-Node: eu1\r\n");
    bot.rest("PATCH", "", V4_RESUMING.0);
    nodes.named("eu1").slow_down(Duration::from_secs(3));
    let mut client = proxy.connect();
    let body = json!({"track": {"identifier": "song"}, "volume": 30, "voice": music::voice(1)}).to_string();
    let target = format!("/v4/sessions/{}/players/1", bot.id);
    let fields = format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len());
    client.send(
        format!("PATCH {target} HTTP/1.1\r\nHost: bot\r\nAuthorization: {PASSWORD}\r\n{fields}\r\n{body}").as_bytes(),
    );
    eventually("the node has the player", || nodes.named("eu1").players() == 1);
    let field = format!("Session-Id: {}\r\n", bot.id);
    bot.reset();
    // The node keeps the session once it has seen the end of its WebSocket.
    let mut again = None;
    eventually("it is resumed", || {
        again = Some(Bot::open_with(proxy.address(), V4, &field)).filter(|bot| bot.resumed);
        again.is_some()
    });
    let again = again.unwrap();
    assert_eq!(client.response_to("PATCH").status, 200);
    nodes.named("eu1").die(Close::Fin);
    await_sessions(nodes.named("eu2"), 1);
    let target = format!("/v4/sessions/{}/players/1", again.id);
    let player = proxy.connect().get(&target, "").json();
    assert_eq!((&player["volume"], &player["track"]["info"]["identifier"]), (&json!(30), &json!("song")), "{player}");
}

#[test]
fn a_second_websocket_does_not_take_the_session_of_one_that_is_open() {
    let stage = Stage::new(V4, V4_RESUMING.0);
    let again = stage.connect_again(&format!("Session-Id: {}", stage.bot.id));
    stage.node.revive().unwrap();
    let again = again.join().unwrap();
    assert!(!again.resumed);
    assert_eq!(stage.bot.player(1)["track"]["info"]["identifier"], "song");
    stage.bot.ping("alive");
    assert_eq!(stage.node.sessions(), 2);
}

#[test]
fn a_stop_ends_the_takeover_of_a_bot_that_has_left() {
    let Stage { proxy, bot, .. } = Stage::new(V4, V4_RESUMING.0);
    bot.half_close();
    bot.await_end();
    proxy.server.stop();
}

#[test]
fn a_key_that_is_set_over_the_websocket_after_a_takeover_leads_to_the_present_node() {
    let nodes = Nodes::start(V3, &["eu1", "eu2"]);
    let proxy = nodes.proxy(&[]);
    let bot = Musician::open(proxy.address(), V3, "Lavalink-Node: eu1\r\n");
    bot.rest("PATCH", "", V3_RESUMING.0);
    bot.play(1, "song", json!({"position": 10_000}));
    nodes.named("eu1").die(Close::Fin);
    await_sessions(nodes.named("eu2"), 1);
    assert_eq!(bot.rest("GET", "/players/1", "").status, 200);
    nodes.named("eu1").revive().unwrap();
    bot.send(&masked(0x81, br#"{"op":"configureResuming","key":"new-key","timeout":60}"#));
    bot.ping("the node has it");
    bot.half_close();
    bot.await_end();
    let again = Bot::open_with(proxy.address(), V3, "Resume-Key: new-key\r\n");
    assert!(again.resumed && again.node() == "eu2", "{} {}", again.resumed, again.id);
}
