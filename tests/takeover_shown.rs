//! What the API and the metrics show of takeovers and moves.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/music.rs"]
mod music;
#[path = "support/nodes.rs"]
mod nodes;
mod support;

use std::net::SocketAddr;

use lavaproxy::config::Lavalink::V4;
use lavaproxy::demo::{Close, Node};
use music::{Musician, await_sessions};
use nodes::{list, row, two_nodes};
use serde_json::{Value, json};
use support::{Client, PASSWORD, Proxy, eventually};

fn get(web: SocketAddr, target: &str) -> String {
    let mut client = Client::connect(web);
    client.send(format!("GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").as_bytes());
    client.response().text()
}

/// The value of a series of /metrics.
fn metric(web: SocketAddr, series: &str) -> f64 {
    let text = get(web, "/metrics");
    let value = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    value.unwrap_or_else(|| panic!("no {series} in {text}")).parse().unwrap()
}

/// Of the takeovers of `eu1`: those that have ended well, have failed, and were over.
fn results(web: SocketAddr) -> [f64; 3] {
    ["ok", "failed", "over"]
        .map(|result| metric(web, &format!(r#"lavaproxy_takeovers_total{{node="eu1",result="{result}"}}"#)))
}

/// The row of the only WebSocket.
fn connection(web: SocketAddr) -> Value {
    let stats: Value = serde_json::from_str(&get(web, "/api/stats")).unwrap();
    let rows = stats["connections"].as_array().unwrap();
    rows.iter().find(|row| row["kind"] == "websocket").unwrap_or_else(|| panic!("no WebSocket in {stats}")).clone()
}

/// A lavaproxy with `eu1` alone.
fn alone(set: &[(&str, &str)]) -> (Node, Proxy, SocketAddr) {
    let node = Node::start_named("eu1", V4, PASSWORD).unwrap();
    let proxy = nodes::proxy(V4, &list(&[("eu1", node.address())]), set);
    let web = nodes::web(&proxy);
    (node, proxy, web)
}

fn takeovers(under_way: u64, taken: u64, failed: u64, players: u64) -> Value {
    json!({"underWay": under_way, "taken": taken, "failed": failed, "players": players})
}

#[test]
fn a_takeover_is_shown_while_it_runs_and_counted_when_it_has_ended() {
    let (node, proxy, web) = alone(&[]);
    let bot = Musician::open(proxy.address(), V4, "");
    (1..=2).for_each(|guild| drop(bot.play(guild, "song", json!({}))));
    let shown = connection(web);
    assert_eq!((&shown["takeovers"], &shown["takingOver"]), (&json!(0), &json!(false)));
    assert_eq!((row(web, "eu1")["takeovers"].clone(), results(web)), (takeovers(0, 0, 0, 0), [0.0; 3]));
    for times in 1..=2 {
        node.die(Close::Fin);
        eventually("it is under way", || row(web, "eu1")["takeovers"]["underWay"] == 1);
        eventually("the connection says so", || connection(web)["takingOver"] == true);
        assert_eq!(connection(web)["takeovers"], times - 1);
        node.revive().unwrap();
        await_sessions(&node, 1);
        eventually("it is counted", || row(web, "eu1")["takeovers"] == takeovers(0, times, 0, 2 * times));
        eventually("the connection counts it", || connection(web)["takeovers"] == times);
        assert_eq!(connection(web)["takingOver"], false);
        assert_eq!(results(web), [times as f64, 0.0, 0.0]);
    }
    assert_eq!(metric(web, r#"lavaproxy_players_moved_total{node="eu1",result="ok"}"#), 4.0);
    assert_eq!(metric(web, r#"lavaproxy_players_moved_total{node="eu1",result="refused"}"#), 0.0);
    assert_eq!(metric(web, r#"lavaproxy_takeover_duration_seconds_count{node="eu1"}"#), 2.0);
    assert!(metric(web, r#"lavaproxy_takeover_duration_seconds_sum{node="eu1"}"#) > 0.0);
    bot.ping("alive");
}

#[test]
fn a_session_that_no_node_takes_has_failed() {
    let (node, proxy, web) = alone(&[("TAKEOVER_TIMEOUT", "1s")]);
    let bot = Musician::open(proxy.address(), V4, "");
    node.die(Close::Fin);
    assert_eq!(bot.await_end(), Some(1012));
    eventually("it is counted", || row(web, "eu1")["takeovers"] == takeovers(0, 0, 1, 0));
    assert_eq!(results(web), [0.0, 1.0, 0.0]);
}

#[test]
fn a_takeover_whose_client_leaves_is_over() {
    let (node, proxy, web) = alone(&[]);
    let bot = Musician::open(proxy.address(), V4, "");
    node.die(Close::Fin);
    eventually("it is under way", || row(web, "eu1")["takeovers"]["underWay"] == 1);
    drop(bot);
    eventually("it is counted", || results(web) == [0.0, 0.0, 1.0]);
    eventually("none is under way", || row(web, "eu1")["takeovers"] == takeovers(0, 0, 0, 0));
}

#[test]
fn moves_are_counted_as_moves() {
    let (_nodes, proxy, web) = two_nodes(V4, "20");
    let bot = Musician::open(proxy.address(), V4, "Lavalink-Node: eu1\r\n");
    bot.play(1, "song", json!({}));
    assert_eq!(nodes::act(web, "eu1", "drain?move=true", "").status, 200);
    eventually("it has moved", || row(web, "eu1")["moved"] == 1);
    let moves = ["ok", "failed"]
        .map(|result| metric(web, &format!(r#"lavaproxy_moves_total{{node="eu1",result="{result}"}}"#)));
    assert_eq!((moves, results(web)), ([1.0, 0.0], [0.0; 3]));
    assert_eq!(metric(web, r#"lavaproxy_players_moved_total{node="eu1",result="ok"}"#), 1.0);
    eventually("the connection is on the other node", || connection(web)["node"] == "eu2");
    assert_eq!((&connection(web)["takeovers"], &connection(web)["takingOver"]), (&json!(0), &json!(false)));
}
