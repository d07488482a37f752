//! Reloads after sessions have left the node that opened them: their ids still lead to them, whatever nodes there are now.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/music.rs"]
mod music;
#[path = "support/nodes.rs"]
mod nodes;
mod support;

use lavaproxy::config::Lavalink::{V3, V4};
use lavaproxy::demo::Close;
use lavaproxy::server::Server;
use music::Musician;
use nodes::{Bot, Nodes, list, settings};
use serde_json::json;
use support::{Proxy, eventually};

/// A lavaproxy before these nodes, and what reloads it with some of them and more settings.
fn site(nodes: &Nodes) -> (Proxy, impl Fn(&Proxy, &[&str], &[(&str, &str)])) {
    let version = nodes.version;
    let addresses: Vec<_> = ["eu1", "eu2", "eu3"].map(|name| (name, nodes.named(name).address())).into();
    let with = move |names: &[&str], set: &[(&str, &str)]| {
        let listed: Vec<_> = addresses.iter().copied().filter(|(name, _)| names.contains(name)).collect();
        settings(&nodes::of(version, &list(&listed), set))
    };
    let proxy = Proxy { server: Server::start(&with(&["eu1", "eu2", "eu3"], &[])).unwrap() };
    (proxy, move |proxy, names, set| proxy.server.reload(&with(names, set)).unwrap())
}

#[test]
fn a_session_keeps_its_id_when_the_node_that_it_names_is_removed() {
    for version in [V4, V3] {
        let nodes = Nodes::start(version, &["eu1", "eu2", "eu3"]);
        let (proxy, reload) = site(&nodes);
        let bot = Musician::open(proxy.address(), version, "Lavalink-Node: eu1\r\n");
        let key = json!({"resuming": true, "resumingKey": "key", "timeout": 600});
        assert_eq!(bot.rest("PATCH", "", &key.to_string()).status, 200);
        bot.play(1, "song", json!({"volume": 30}));
        nodes.named("eu1").die(Close::Fin);
        eventually("it is taken over", || nodes.but("eu1").any(|node| node.sessions() == 1));
        let has = if nodes.named("eu2").sessions() == 1 { "eu2" } else { "eu3" };
        // Two nodes are left, then one, and then one that is removed twice.
        for names in [&["eu2", "eu3"][..], &[has], &[has]] {
            reload(&proxy, names, &[]);
            assert_eq!(bot.player(1)["volume"], 30, "{names:?}");
            assert_eq!(bot.patch(1, "", &json!({"volume": 31})).status, 200);
            assert_eq!(bot.patch(1, "", &json!({"volume": 30})).status, 200);
        }
        assert_eq!(nodes.named(has).players(), 1);
        let id = bot.id.clone();
        bot.half_close();
        bot.await_end();
        let fields = match version {
            V4 => format!("Session-Id: {id}\r\n"),
            V3 => "Resume-Key: key\r\n".to_owned(),
        };
        assert!(Bot::open_with(proxy.address(), version, &fields).resumed, "{version}");
    }
}

#[test]
fn a_session_that_was_taken_over_outlasts_the_end_of_takeovers() {
    let nodes = Nodes::start(V4, &["eu1", "eu2", "eu3"]);
    let (proxy, reload) = site(&nodes);
    let [moved, other] = [(); 2].map(|()| Musician::open(proxy.address(), V4, "Lavalink-Node: eu1\r\n"));
    moved.play(1, "song", json!({"volume": 30}));
    nodes.named("eu1").die(Close::Fin);
    eventually("both are taken over", || nodes.but("eu1").map(|node| node.sessions()).sum::<usize>() == 2);
    reload(&proxy, &["eu1", "eu2", "eu3"], &[("SESSION_TAKEOVER", "off")]);
    assert_eq!(moved.player(1)["volume"], 30);
    assert_eq!(moved.patch(1, "", &json!({"volume": 40})).status, 200);
    // What changed meanwhile is known when takeovers are on again.
    nodes.named("eu1").revive().unwrap();
    reload(&proxy, &["eu1", "eu2", "eu3"], &[]);
    let first = nodes.but("eu1").find(|node| node.players() == 1).unwrap();
    first.die(Close::Fin);
    eventually("it is taken over again", || moved.player(1)["volume"] == 40);
    assert!(moved.is_open());
    drop(other);

    // While they are off, a tunnel ends with its node.
    let late = Musician::open(proxy.address(), V4, "Lavalink-Node: eu1\r\n");
    reload(&proxy, &["eu1", "eu2", "eu3"], &[("SESSION_TAKEOVER", "off")]);
    nodes.named("eu1").die(Close::Fin);
    late.await_end();
    assert_ne!(late.rest("GET", "/players", "").status, 200);
}
