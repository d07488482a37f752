//! Requests that meet the loss of their node: because the connect takes so long, or because the node stops.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/music.rs"]
mod music;
#[path = "support/nodes.rs"]
mod nodes;
#[path = "support/relay.rs"]
mod relay;
mod support;

use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use lavaproxy::config::Lavalink::V4;
use lavaproxy::demo::Node;
use music::{Musician, await_sessions};
use nodes::{FakeNode, list, ok, text_frame};
use relay::Relay;
use serde_json::json;
use support::{PASSWORD, Proxy, SWITCHING, eventually};

/// A lavaproxy that has patience with its nodes, and connects for requests alone once it has seen them.
fn proxy(first: &Relay, second: &Node) -> Proxy {
    let list = list(&[("eu1", first.address), ("eu2", second.address())]);
    nodes::proxy(V4, &list, &[("CONNECT_TIMEOUT", "30s"), ("HEALTH_INTERVAL", "60s")])
}

#[test]
fn a_request_whose_connect_outlasts_the_loss_goes_to_the_next_node() {
    let first = Node::start_named("eu1", V4, PASSWORD).unwrap();
    let second = Node::start_named("eu2", V4, PASSWORD).unwrap();
    let line = Relay::to(first.address(), Duration::ZERO);
    let proxy = proxy(&line, &second);
    let bot = Musician::open(proxy.address(), V4, "Lavalink-Node: eu1\r\n");
    let mut full = line.fill();
    thread::scope(|scope| {
        let play = scope.spawn(|| bot.play(1, "song", json!({})));
        eventually("its connect is under way", || full.is_wanted());
        full.cut();
        await_sessions(&second, 1);
        drop(full);
        assert_eq!(play.join().unwrap()["track"]["info"]["identifier"], "song");
    });
    assert_eq!(bot.player(1)["track"]["info"]["identifier"], "song");
}

/// What opens a WebSocket whose session is called `first`.
fn opening() -> Vec<u8> {
    [SWITCHING, &text_frame(r#"{"op":"ready","resumed":false,"sessionId":"first"}"#)].concat()
}

fn is_handshake(request: &[u8]) -> bool {
    support::find(request, b"Upgrade: websocket").is_some()
}

#[test]
fn a_node_that_stops_and_forgets_its_sessions_does_not_end_them() {
    let second = Arc::new(Node::start_named("eu2", V4, PASSWORD).unwrap());
    let websocket: Mutex<Option<TcpStream>> = Mutex::default();
    let other = Arc::clone(&second);
    let first = FakeNode::start(move |client, request| {
        if is_handshake(request) {
            *websocket.lock().unwrap() = Some(client.stream.try_clone().unwrap());
            return client.try_send(&opening()).is_ok();
        }
        if let Some(websocket) = websocket.lock().unwrap().take() {
            websocket.shutdown(Shutdown::Both).unwrap();
            await_sessions(&other, 1);
        }
        client.try_send(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n").is_ok()
    });
    let proxy = nodes::proxy(V4, &list(&[("eu1", first.address()), ("eu2", second.address())]), &[]);
    let bot = Musician::open(proxy.address(), V4, "Lavalink-Node: eu1\r\n");
    let volume = json!({"volume": 10});
    let answer = bot.patch(1, "", &volume);
    assert_eq!(answer.status, 502, "{}", answer.text());
    assert!(answer.text().contains("the node was lost while it had the request"), "{}", answer.text());
    assert_eq!(bot.patch(1, "", &volume).status, 200);
    assert!(bot.is_open());
}

/// A node that ends the WebSocket when it gets a PATCH, and answers that after `wait`.
fn node_that_is_lost_at_a_patch(wait: impl Fn() + Send + Sync + 'static) -> FakeNode {
    let websocket: Mutex<Option<TcpStream>> = Mutex::default();
    let player = json!({
        "guildId": "1", "track": null, "volume": 10, "paused": false, "filters": {},
        "state": {"time": 1, "position": 0, "connected": false, "ping": -1},
        "voice": {"token": "", "endpoint": "", "sessionId": ""},
    });
    FakeNode::start(move |client, request| {
        if is_handshake(request) {
            *websocket.lock().unwrap() = Some(client.stream.try_clone().unwrap());
            return client.try_send(&opening()).is_ok();
        }
        if let Some(websocket) = websocket.lock().unwrap().take() {
            websocket.shutdown(Shutdown::Both).unwrap();
            wait();
        }
        client.try_send(&ok(&player.to_string())).is_ok()
    })
}

#[test]
fn a_change_that_a_lost_node_has_answered_is_on_the_next_one() {
    let second = Arc::new(Node::start_named("eu2", V4, PASSWORD).unwrap());
    let first = node_that_is_lost_at_a_patch(|| music::listen_for(Duration::from_millis(50)));
    let proxy = nodes::proxy(V4, &list(&[("eu1", first.address()), ("eu2", second.address())]), &[]);
    let bot = Musician::open(proxy.address(), V4, "Lavalink-Node: eu1\r\n");
    let answer = bot.patch(1, "", &json!({"volume": 10}));
    await_sessions(&second, 1);
    bot.ping("it is taken over");
    let player = bot.rest("GET", "/players/1", "");
    match answer.status {
        200 => assert_eq!(player.json()["volume"], 10, "{}", player.text()),
        status => assert_eq!((status, player.status), (502, 404)),
    }
}

#[test]
fn a_change_that_a_lost_node_answers_too_late_is_none() {
    let second = Arc::new(Node::start_named("eu2", V4, PASSWORD).unwrap());
    let other = Arc::clone(&second);
    let first = node_that_is_lost_at_a_patch(move || await_sessions(&other, 1));
    let proxy = nodes::proxy(V4, &list(&[("eu1", first.address()), ("eu2", second.address())]), &[]);
    let bot = Musician::open(proxy.address(), V4, "Lavalink-Node: eu1\r\n");
    let answer = bot.patch(1, "", &json!({"volume": 10}));
    assert_eq!(answer.status, 502, "{}", answer.text());
    assert_eq!(bot.rest("GET", "/players/1", "").status, 404);
}

#[test]
fn a_404_of_a_node_that_has_the_session_is_passed_on() {
    let first = FakeNode::start(|client, request| {
        let missing = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_vec();
        client.try_send(&if is_handshake(request) { opening() } else { missing }).is_ok()
    });
    let proxy = nodes::proxy(V4, &list(&[("eu1", first.address())]), &[]);
    let bot = Musician::open(proxy.address(), V4, "");
    assert_eq!(bot.rest("GET", "/players/1", "").status, 404);
    assert!(bot.is_open());
}

#[test]
fn a_request_is_not_sent_a_second_time_to_a_node_that_the_session_has_left() {
    let first = FakeNode::start(|client, request| match request {
        [b'P', ..] => client.try_send(&ok("{}")).is_ok(),
        _ if is_handshake(request) => client.try_send(&opening()).is_ok(),
        // The kept connection ends without an answer.
        _ => false,
    });
    let second = Node::start_named("eu2", V4, PASSWORD).unwrap();
    let line = Relay::to(first.address(), Duration::ZERO);
    let proxy = proxy(&line, &second);
    let bot = Musician::open(proxy.address(), V4, "Lavalink-Node: eu1\r\n");
    assert_eq!(bot.rest("PATCH", "", "{}").status, 200);
    let mut full = line.fill();
    thread::scope(|scope| {
        let get = scope.spawn(|| bot.rest("GET", "/players", ""));
        eventually("its second connect is under way", || full.is_wanted());
        full.cut();
        await_sessions(&second, 1);
        drop(full);
        assert_eq!(get.join().unwrap().status, 502);
    });
    let asked = first.requests().iter().filter(|request| request.starts_with("GET /v4/sessions/")).count();
    assert_eq!(asked, 1, "{:?}", first.requests());
}
