//! Requests that reach a node only after the session has left it, because the connect took so long.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/music.rs"]
mod music;
#[path = "support/nodes.rs"]
mod nodes;
#[path = "support/relay.rs"]
mod relay;
mod support;

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

#[test]
fn a_request_is_not_sent_a_second_time_to_a_node_that_the_session_has_left() {
    let first = FakeNode::start(|client, request| {
        let ready = text_frame(r#"{"op":"ready","resumed":false,"sessionId":"first"}"#);
        match request {
            [b'P', ..] => client.try_send(&ok("{}")).is_ok(),
            _ if support::find(request, b"Upgrade: websocket").is_some() => {
                client.try_send(&[SWITCHING, &ready].concat()).is_ok()
            }
            // The kept connection ends without an answer.
            _ => false,
        }
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
