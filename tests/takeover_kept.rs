//! The WebSocket to a node breaks off, and the node lives: it keeps a session that can be resumed, and its players play on.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/music.rs"]
mod music;
#[path = "support/nodes.rs"]
mod nodes;
#[path = "support/relay.rs"]
mod relay;
mod support;

use std::collections::VecDeque;
use std::io::Write;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use lavaproxy::config::Lavalink::{self, V3, V4};
use lavaproxy::demo::{Close, Node};
use music::{Musician, await_sessions, position};
use nodes::{FakeNode, Nodes, list, ok, text_frame};
use relay::Relay;
use serde_json::{Value, json};
use support::{PASSWORD, Proxy, SWITCHING, eventually};

const RESUMING: [(Lavalink, &str); 2] =
    [(V3, r#"{"resumingKey":"my key","timeout":60}"#), (V4, r#"{"resuming":true,"timeout":60}"#)];

/// A bot whose session can be resumed and plays at `eu1`. There is an `eu2` too.
fn play(nodes: &Nodes, proxy: &Proxy, resuming: &str) -> Musician {
    let bot = Musician::open(proxy.address(), nodes.version, "Lavalink-Node: eu1\r\n");
    assert_eq!(bot.rest("PATCH", "", resuming).status, 200);
    bot.play(1, "song", json!({"position": 30_000, "volume": 42}));
    bot
}

/// Where this player is in its track.
fn place(player: &Value) -> i64 {
    player["track"]["info"]["position"].as_i64().unwrap()
}

/// Waits until a session of this node is taken over.
fn await_takeover(proxy: &Proxy, name: &str) {
    let web = nodes::web(proxy);
    eventually("it is taken over", || nodes::row(web, name)["takeovers"]["taken"] == 1);
}

#[test]
fn a_session_goes_on_where_it_was() {
    for (version, resuming) in RESUMING {
        let nodes = Nodes::start(version, &["eu1", "eu2"]);
        let proxy = nodes.proxy(&[]);
        let [first, second] = ["eu1", "eu2"].map(|name| nodes.named(name));
        let bot = play(&nodes, &proxy, resuming);
        let (ids, heard) = (first.session_ids(), bot.count());
        first.cut();
        await_takeover(&proxy, "eu1");
        assert_eq!(nodes::row(nodes::web(&proxy), "eu1")["takeovers"]["players"], 0, "none is made anew");
        assert_eq!((first.session_ids(), first.players(), second.sessions()), (ids, 1, 0), "{version}");
        let player = bot.player(1);
        assert!(place(&player) >= 30_000 && player["volume"] == 42, "{player}");
        bot.ping("alive");
        assert_eq!(proxy.stats()["connections"][0]["takeovers"], 1);
        let missed = bot.since(heard);
        assert!(missed.iter().all(|message| message["op"] != "ready" && message["op"] != "stats"), "{missed:?}");
        // What it plays is known, and its id leads to it wherever it goes.
        first.die(Close::Fin);
        await_sessions(second, 1);
        assert!(place(&bot.player(1)) >= 30_000);
        assert_eq!(bot.player(1)["volume"], 42);
    }
}

#[test]
fn a_session_that_was_taken_over_goes_on_where_it_is() {
    let nodes = Nodes::start(V4, &["eu1", "eu2"]);
    let proxy = nodes.proxy(&[]);
    let [first, second] = ["eu1", "eu2"].map(|name| nodes.named(name));
    let bot = play(&nodes, &proxy, RESUMING[1].1);
    first.die(Close::Fin);
    await_sessions(second, 1);
    first.revive().unwrap();
    assert_eq!(bot.player(1)["volume"], 42);
    second.cut();
    await_takeover(&proxy, "eu2");
    assert_eq!((first.sessions(), second.sessions()), (0, 1));
    assert_eq!(bot.player(1)["volume"], 42);
}

#[test]
fn a_node_that_has_not_kept_the_session_leaves_it_to_another_one() {
    let nodes = Nodes::start(V4, &["eu1", "eu2"]);
    let line = Relay::to(nodes.named("eu1").address(), Duration::ZERO);
    let list = list(&[("eu1", line.address), ("eu2", nodes.named("eu2").address())]);
    let proxy = nodes::proxy(V4, &list, &[]);
    let [first, second] = ["eu1", "eu2"].map(|name| nodes.named(name));
    let bot = play(&nodes, &proxy, RESUMING[1].1);
    line.cut_during(|| {
        first.die(Close::Fin);
        first.revive().unwrap();
    });
    await_sessions(second, 1);
    assert!(position(&bot.player(1)) >= 30_000);
    eventually("the first node has nothing of it", || first.sessions() == 0);
    bot.ping("alive");
}

/// A bot whose session can be resumed at `eu1`, and whose WebSocket there has ended.
struct Broken {
    first: FakeNode,
    second: Node,
    bot: Musician,
    _proxy: Proxy,
}

impl Broken {
    /// The WebSocket ends with these bytes. `eu1` answers each later handshake with the next of these answers, and none
    /// after that.
    fn new<const COUNT: usize>(ending: &[u8], answers: [Vec<u8>; COUNT]) -> Self {
        let answers = Mutex::new(VecDeque::from(answers));
        let second = Node::start_named("eu2", V4, PASSWORD).unwrap();
        let opening = opened(&[r#"{"op":"ready","resumed":false,"sessionId":"first"}"#]);
        let first_socket: Arc<Mutex<Option<TcpStream>>> = Arc::default();
        let websocket = Arc::clone(&first_socket);
        let first = FakeNode::start(move |client, request| {
            if support::find(request, b"Upgrade: websocket").is_none() {
                return client.try_send(&ok(RESUMING[1].1)).is_ok();
            }
            let mut first_socket = first_socket.lock().unwrap();
            if first_socket.is_some() {
                let answer = answers.lock().unwrap().pop_front();
                return answer.is_none_or(|answer| client.try_send(&answer).is_ok());
            }
            *first_socket = Some(client.stream.try_clone().unwrap());
            client.try_send(&opening).is_ok()
        });
        let proxy = nodes::proxy(V4, &list(&[("eu1", first.address()), ("eu2", second.address())]), &[]);
        let bot = Musician::open(proxy.address(), V4, "Lavalink-Node: eu1\r\n");
        assert_eq!(bot.rest("PATCH", "", RESUMING[1].1).status, 200);
        let mut websocket = websocket.lock().unwrap().as_ref().unwrap().try_clone().unwrap();
        websocket.write_all(ending).unwrap();
        websocket.shutdown(Shutdown::Both).unwrap();
        Self { first, second, bot, _proxy: proxy }
    }

    /// How often `eu1` was asked to resume the session.
    fn times_asked(&self) -> usize {
        let asked = self.first.requests();
        let again: Vec<&String> = asked.iter().filter(|request| request.contains("Session-Id: first\r\n")).collect();
        assert!(again.iter().all(|request| request.contains(&format!("Authorization: {PASSWORD}\r\n"))), "{again:?}");
        again.len()
    }

    fn goes_on_at_the_second_node(&self) {
        await_sessions(&self.second, 1);
        self.bot.ping("alive");
        assert!(self.bot.is_open());
    }
}

/// A 101, and these messages.
fn opened(texts: &[&str]) -> Vec<u8> {
    let frames: Vec<u8> = texts.iter().flat_map(|text| text_frame(text)).collect();
    [SWITCHING, &frames].concat()
}

const RESUMED: &str = r#"{"op":"ready","resumed":true,"sessionId":"first"}"#;
const ANOTHER: &str = r#"{"op":"ready","resumed":true,"sessionId":"other"}"#;
const NEW: &str = r#"{"op":"ready","resumed":false,"sessionId":"new"}"#;
const STATS: &str = r#"{"op":"stats","players":0}"#;
const UPDATE: &str = r#"{"op":"playerUpdate","guildId":"1","state":{"time":1,"position":7,"connected":true,"ping":1}}"#;

#[test]
fn a_bot_hears_what_it_has_missed() {
    let missed = opened(&[RESUMED, STATS, UPDATE]);
    hears_what_it_has_missed(&Broken::new(b"", [missed.clone()]), 1);
    // A node that sees the end of the WebSocket late opens another session first.
    hears_what_it_has_missed(&Broken::new(b"", [opened(&[NEW, STATS]), missed]), 2);
}

fn hears_what_it_has_missed(broken: &Broken, times_asked: usize) {
    let bot = &broken.bot;
    bot.await_message(0, "the place of its player", |message| message["op"] == "playerUpdate");
    let heard = bot.since(0);
    let ops: Vec<&Value> = heard.iter().map(|message| &message["op"]).collect();
    assert_eq!(ops, ["stats", "playerUpdate"]);
    assert_eq!((broken.times_asked(), broken.second.sessions()), (times_asked, 0));
}

/// The node breaks the WebSocket off when it gets a PATCH of a player, and answers that when it has resumed the session.
#[test]
fn a_change_that_is_answered_after_the_resume_is_kept() {
    let second = Node::start_named("eu2", V4, PASSWORD).unwrap();
    let websockets: Arc<Mutex<Vec<TcpStream>>> = Arc::default();
    let opened = Arc::clone(&websockets);
    let player = json!({
        "guildId": "1", "track": null, "volume": 10, "paused": false, "filters": {},
        "state": {"time": 1, "position": 0, "connected": false, "ping": -1},
        "voice": {"token": "", "endpoint": "", "sessionId": ""},
    });
    let web: Arc<OnceLock<SocketAddr>> = Arc::default();
    let pages = Arc::clone(&web);
    let first = FakeNode::start(move |client, request| {
        if support::find(request, b"Upgrade: websocket").is_some() {
            let mut opened = opened.lock().unwrap();
            opened.push(client.stream.try_clone().unwrap());
            let is_resumed = opened.len() == 2;
            let ready = format!(r#"{{"op":"ready","resumed":{is_resumed},"sessionId":"first"}}"#);
            return client.try_send(&[SWITCHING, &text_frame(&ready)].concat()).is_ok();
        }
        if support::find(request, b"/players/1").is_none() {
            return client.try_send(&ok(RESUMING[1].1)).is_ok();
        }
        opened.lock().unwrap()[0].shutdown(Shutdown::Both).unwrap();
        let web = *pages.get().unwrap();
        eventually("it is resumed", || nodes::row(web, "eu1")["takeovers"]["taken"] == 1);
        client.try_send(&ok(&player.to_string())).is_ok()
    });
    let proxy = nodes::proxy(V4, &list(&[("eu1", first.address()), ("eu2", second.address())]), &[]);
    web.set(nodes::web(&proxy)).unwrap();
    let bot = Musician::open(proxy.address(), V4, "Lavalink-Node: eu1\r\n");
    assert_eq!(bot.rest("PATCH", "", RESUMING[1].1).status, 200);
    let answer = bot.patch(1, "", &json!({"volume": 10}));
    assert_eq!(answer.status, 200, "{}", answer.text());
    websockets.lock().unwrap()[1].shutdown(Shutdown::Both).unwrap();
    await_sessions(&second, 1);
    assert_eq!(bot.player(1)["volume"], 10);
}

#[test]
fn a_node_that_has_not_kept_the_session_is_asked_twice() {
    for other in [NEW, ANOTHER] {
        let broken = Broken::new(b"", [opened(&[other, UPDATE]), opened(&[other, UPDATE]), opened(&[RESUMED])]);
        broken.goes_on_at_the_second_node();
        assert_eq!(broken.times_asked(), 2);
        assert!(broken.bot.since(0).iter().all(|message| message["op"] != "playerUpdate"));
    }
}

#[test]
fn a_bot_hears_what_a_node_sends_before_it_breaks_off_again() {
    let track = r#"{"encoded":"QAAA","info":{"identifier":"song","sourceName":"demo"}}"#;
    let end = format!(r#"{{"op":"event","type":"TrackEndEvent","guildId":"1","reason":"finished","track":{track}}}"#);
    let close = [0x88, 2, 0x03, 0xe9];
    let broken = Broken::new(b"", [[opened(&[RESUMED, &end]), close.to_vec()].concat()]);
    broken.goes_on_at_the_second_node();
    let heard = broken.bot.since(0);
    assert!(heard.iter().any(|message| music::is_event(message, "TrackEndEvent")), "{heard:?}");
}

#[test]
fn a_node_that_does_not_answer_is_not_waited_for() {
    let broken = Broken::new(b"", []);
    broken.goes_on_at_the_second_node();
    assert_eq!(broken.times_asked(), 1);
}

#[test]
fn a_node_that_has_said_that_it_stops_is_not_asked() {
    let broken = Broken::new(b"\x88\x02\x03\xe9", [opened(&[RESUMED])]);
    broken.goes_on_at_the_second_node();
    assert_eq!(broken.times_asked(), 0);
}
