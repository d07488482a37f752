//! Reloads after sessions have left the node that opened them: their ids still lead to them, whatever nodes there are now.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/music.rs"]
mod music;
#[path = "support/nodes.rs"]
mod nodes;
mod support;

use lavaproxy::config::Lavalink::{self, V3, V4};
use lavaproxy::config::Settings;
use lavaproxy::demo::Close;
use lavaproxy::server::Server;
use music::Musician;
use nodes::{Bot, Nodes, list, settings};
use serde_json::json;
use support::{Proxy, eventually};

const ALL: [&str; 3] = ["eu1", "eu2", "eu3"];

/// Nodes, and a lavaproxy that can be reloaded with some of them.
struct Site {
    nodes: Nodes,
    proxy: Proxy,
}

impl Site {
    fn new(version: Lavalink) -> Self {
        let nodes = Nodes::start(version, &ALL);
        let proxy = Proxy { server: Server::start(&with(&nodes, &ALL, &[])).unwrap() };
        Self { nodes, proxy }
    }

    fn bot(&self) -> Musician {
        Musician::open(self.proxy.address(), self.nodes.version, "Lavalink-Node: eu1\r\n")
    }

    fn reload(&self, names: &[&str], set: &[(&str, &str)]) {
        self.proxy.server.reload(&with(&self.nodes, names, set)).unwrap();
    }
}

fn with(nodes: &Nodes, names: &[&str], set: &[(&str, &str)]) -> Settings {
    let listed: Vec<_> = names.iter().map(|name| (*name, nodes.named(name).address())).collect();
    settings(&nodes::of(nodes.version, &list(&listed), set))
}

#[test]
fn a_session_keeps_its_id_when_the_node_that_it_names_is_removed() {
    for version in [V4, V3] {
        let site = Site::new(version);
        let (nodes, bot) = (&site.nodes, site.bot());
        let key = json!({"resuming": true, "resumingKey": "key", "timeout": 600});
        assert_eq!(bot.rest("PATCH", "", &key.to_string()).status, 200);
        bot.play(1, "song", json!({"volume": 30}));
        nodes.named("eu1").die(Close::Fin);
        eventually("it is taken over", || nodes.but("eu1").any(|node| node.sessions() == 1));
        let has = if nodes.named("eu2").sessions() == 1 { "eu2" } else { "eu3" };
        // Two nodes are left, then one, and then one that is removed twice.
        for names in [&["eu2", "eu3"][..], &[has], &[has]] {
            site.reload(names, &[]);
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
        assert!(Bot::open_with(site.proxy.address(), version, &fields).resumed, "{version}");
    }
}

#[test]
fn a_session_that_was_taken_over_outlasts_the_end_of_takeovers() {
    let site = Site::new(V4);
    let nodes = &site.nodes;
    let [moved, other] = [(); 2].map(|()| site.bot());
    moved.play(1, "song", json!({"volume": 30}));
    nodes.named("eu1").die(Close::Fin);
    eventually("both are taken over", || nodes.but("eu1").map(|node| node.sessions()).sum::<usize>() == 2);
    site.reload(&ALL, &[("SESSION_TAKEOVER", "off")]);
    assert_eq!(moved.player(1)["volume"], 30);
    assert_eq!(moved.patch(1, "", &json!({"volume": 40})).status, 200);
    // What changed meanwhile is known when takeovers are on again.
    nodes.named("eu1").revive().unwrap();
    site.reload(&ALL, &[]);
    let first = nodes.but("eu1").find(|node| node.players() == 1).unwrap();
    first.die(Close::Fin);
    eventually("it is taken over again", || moved.player(1)["volume"] == 40);
    assert!(moved.is_open());
    drop(other);

    // While they are off, a tunnel ends with its node.
    let late = site.bot();
    site.reload(&ALL, &[("SESSION_TAKEOVER", "off")]);
    nodes.named("eu1").die(Close::Fin);
    late.await_end();
    assert_ne!(late.rest("GET", "/players", "").status, 200);
}
