//! Clients that leave, or must, while the next node keeps a takeover waiting: they are let go at once, and the node keeps
//! nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/music.rs"]
mod music;
#[path = "support/nodes.rs"]
mod nodes;
mod support;

use std::io::{ErrorKind, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use lavaproxy::config::Lavalink::V4;
use lavaproxy::config::{Account, PerVersion, Secret};
use lavaproxy::demo::{Close, Node};
use lavaproxy::server::Server;
use music::{Musician, await_sessions};
use nodes::{Bot, Deaf, FakeNode, list, masked, ok, text_frame};
use serde_json::json;
use support::{Client, PASSWORD, Proxy, SWITCHING, eventually};

/// Longer than a client that leaves may take, and shorter than any wait for a node.
const SOON: Duration = Duration::from_secs(8);
const LEAVING: [fn(Musician); 3] = [
    |bot| {
        bot.send(&masked(0x88, &1000u16.to_be_bytes()));
        assert_eq!(bot.await_end(), Some(1000), "its close frame is answered");
    },
    |bot| {
        bot.half_close();
        assert_eq!(bot.await_end(), None);
    },
    Musician::reset,
];

/// A bot that plays on `eu1`, and a lavaproxy that waits as long as it may for `eu2`.
fn play(first: &Node, second: SocketAddr) -> (Proxy, Musician) {
    let list = list(&[("eu1", first.address()), ("eu2", second)]);
    let proxy = nodes::proxy(V4, &list, &[("CONNECT_TIMEOUT", "60s"), ("TAKEOVER_TIMEOUT", "60s")]);
    let bot = Musician::open(proxy.address(), V4, "Lavalink-Node: eu1\r\n");
    bot.play(1, "song", json!({}));
    (proxy, bot)
}

fn are_let_go_soon(proxy: &Proxy, what: &str, leave: impl FnOnce()) {
    let left = Instant::now();
    leave();
    proxy.wait_until_empty();
    assert!(left.elapsed() < SOON, "{what}: {:?}", left.elapsed());
}

#[test]
fn clients_that_leave_during_a_connect_are_let_go() {
    for leave in LEAVING {
        let (first, second) = (Node::start_named("eu1", V4, PASSWORD).unwrap(), Deaf::start());
        let (proxy, bot) = play(&first, second.address);
        first.die(Close::Fin);
        bot.ping("the takeover is under way");
        are_let_go_soon(&proxy, "connect", || leave(bot));
    }
}

/// A node that answers the handshake with the first bytes and each PATCH of a player with the second, and then waits. It
/// counts its open connections with requests.
fn waiting_node(opening: &[u8], answer: Option<&'static [u8]>) -> (FakeNode, Arc<AtomicUsize>) {
    let open: Arc<AtomicUsize> = Arc::default();
    let (own, opening) = (Arc::clone(&open), opening.to_vec());
    let script = move |client: &mut Client, request: &[u8]| {
        own.fetch_add(1, SeqCst);
        let bytes = if request.starts_with(b"GET ") { Some(&opening[..]) } else { answer };
        if bytes.is_none_or(|bytes| client.try_send(bytes).is_ok()) {
            while client.try_fill().is_some() {}
        }
        own.fetch_sub(1, SeqCst);
        false
    };
    (FakeNode::start(script), open)
}

#[test]
fn clients_that_leave_while_an_answer_is_due_are_let_go() {
    let ready = [SWITCHING, &text_frame(r#"{"op":"ready","resumed":false,"sessionId":"second"}"#)].concat();
    let half = b"HTTP/1.1 200 OK\r\nContent-Length: 90\r\n\r\n{";
    let cases = [
        ("no answer to the handshake", &b""[..], None),
        ("a part of an answer to the handshake", b"HTTP/1.1 101 Switching", None),
        ("no ready", SWITCHING, None),
        ("a part of ready", &ready[..ready.len() - 9], None),
        ("no answer to a replay", &ready, None),
        ("a part of an answer to a replay", &ready, Some(&half[..])),
    ];
    for (what, opening, answer) in cases {
        // The WebSocket's, and that of the replay.
        let connections = if opening == ready { 2 } else { 1 };
        for leave in LEAVING {
            let first = Node::start_named("eu1", V4, PASSWORD).unwrap();
            let (second, open) = waiting_node(opening, answer);
            let (proxy, bot) = play(&first, second.address());
            first.die(Close::Fin);
            eventually(what, || open.load(SeqCst) == connections);
            bot.ping("the takeover is under way");
            are_let_go_soon(&proxy, what, || leave(bot));
            eventually(&format!("{what}: the next node's connections are closed"), || open.load(SeqCst) == 0);
        }
    }
}

#[test]
fn a_client_that_reads_nothing_and_resets_is_let_go() {
    let only = Node::start_named("only", V4, PASSWORD).unwrap();
    let proxy = nodes::proxy(V4, &list(&[("only", only.address())]), &[]);
    let bot = Bot::open(proxy.address(), V4);
    only.die(Close::Fin);
    let mut stream = bot.client.stream.try_clone().unwrap();
    stream.set_write_timeout(Some(Duration::from_secs(2))).unwrap();
    let pings = masked(0x89, &[b'x'; 100]).repeat(500);
    // Until lavaproxy reads no more, as nobody reads its answers.
    let full = (0..10_000).find_map(|_| stream.write_all(&pings).err());
    assert!(matches!(full.map(|error| error.kind()), Some(ErrorKind::WouldBlock | ErrorKind::TimedOut)));
    are_let_go_soon(&proxy, "reads nothing", || {
        support::reset(&stream);
        drop((bot, stream));
    });
}

/// A node that answers each PATCH once it may, and that never ends a WebSocket.
struct Endless {
    node: FakeNode,
    may_answer: Arc<AtomicBool>,
    /// The WebSocket was ended in order, and then given up.
    is_given_up: Arc<AtomicBool>,
}

impl Endless {
    fn start() -> Self {
        let [may_answer, is_given_up] = [(); 2].map(|()| Arc::<AtomicBool>::default());
        let (may, given_up) = (Arc::clone(&may_answer), Arc::clone(&is_given_up));
        let ready = text_frame(r#"{"op":"ready","resumed":false,"sessionId":"second"}"#);
        let node = FakeNode::start(move |client, request| {
            if request.starts_with(b"PATCH ") {
                eventually("it may answer", || may.load(SeqCst));
                return client.try_send(&ok("{}")).is_ok();
            }
            let _ = client.try_send(&[SWITCHING, &ready].concat());
            assert_eq!(client.rest_or_error().1, None);
            eventually("a reset", || client.stream.take_error().unwrap().is_some());
            given_up.store(true, SeqCst);
            false
        });
        Self { node, may_answer, is_given_up }
    }
}

#[test]
fn a_new_node_that_does_not_end_the_websocket_of_a_client_that_has_left_is_given_up() {
    for leave in LEAVING {
        let (first, second) = (Node::start_named("eu1", V4, PASSWORD).unwrap(), Endless::start());
        let (proxy, bot) = play(&first, second.node.address());
        bot.rest("PATCH", "", r#"{"resuming":true,"timeout":60}"#);
        first.die(Close::Fin);
        eventually("the replay", || second.node.requests().iter().any(|request| request.starts_with("PATCH ")));
        leave(bot);
        proxy.wait_until_empty();
        second.may_answer.store(true, SeqCst);
        eventually("the WebSocket is given up", || second.is_given_up.load(SeqCst));
    }
}

fn account(connections: usize) -> Account {
    Account {
        name: "bots".into(),
        password: Secret::new(PASSWORD.to_owned()),
        versions: PerVersion { v3: true, v4: true },
        connections: Some(connections),
        requests_per_second: None,
        expires: None,
        enabled: true,
    }
}

#[test]
fn a_client_whose_account_is_disabled_while_its_node_hangs_is_let_go() {
    let (first, (second, open)) = (Node::start_named("eu1", V4, PASSWORD).unwrap(), waiting_node(b"", None));
    let list = list(&[("eu1", first.address()), ("eu2", second.address())]);
    let set = [
        ("PROXY_PASSWORD", "another"),
        ("LAVALINK_V4_PASSWORD", PASSWORD),
        ("HEALTH_INTERVAL", "1s"),
        ("FAILOVER_AFTER", "1s"),
        ("TAKEOVER_TIMEOUT", "60s"),
    ];
    let mut settings = nodes::settings(&nodes::of(V4, &list, &set));
    settings.accounts = vec![account(8)];
    let proxy = Proxy { server: Server::start(&settings).unwrap() };
    let web = nodes::web(&proxy);
    nodes::wait_for_state(web, "eu1", "up");
    nodes::wait_for_state(web, "eu2", "up");
    let bot = Musician::open(proxy.address(), V4, "Lavalink-Node: eu1\r\n");
    bot.play(1, "song", json!({}));
    first.hang();
    eventually("the takeover is under way", || open.load(SeqCst) == 1);
    settings.accounts[0].enabled = false;
    are_let_go_soon(&proxy, "disabled", || {
        proxy.server.reload(&settings).unwrap();
        assert_eq!(bot.await_end(), Some(1008));
        drop(bot);
    });
    first.resume();
}

#[test]
fn a_client_whose_takeover_goes_on_without_it_is_let_go_and_gets_its_session_back() {
    /// More than there are at once: the connections of requests end later than their answers.
    const CONNECTIONS: usize = 8;
    for leave in LEAVING {
        let only = Node::start_named("only", V4, PASSWORD).unwrap();
        let list = list(&[("only", only.address())]);
        let set = [("PROXY_PASSWORD", "another"), ("LAVALINK_V4_PASSWORD", PASSWORD)];
        let mut settings = nodes::settings(&nodes::of(V4, &list, &set));
        settings.accounts = vec![account(CONNECTIONS)];
        let proxy = Proxy { server: Server::start(&settings).unwrap() };
        let bot = Musician::open(proxy.address(), V4, "");
        let id = bot.id.clone();
        bot.rest("PATCH", "", r#"{"resuming":true,"timeout":60}"#);
        bot.play(1, "song", json!({}));
        only.die(Close::Fin);
        bot.ping("the takeover is under way");
        are_let_go_soon(&proxy, "a session that can be resumed", || leave(bot));
        let mut clients = [(); CONNECTIONS].map(|()| proxy.connect());
        for client in &mut clients {
            assert_eq!(client.get("/v4/info", "").status, 502, "the account may have all its connections again");
        }
        drop(clients);
        only.revive().unwrap();
        await_sessions(&only, 1);
        let again = Bot::open_with(proxy.address(), V4, &format!("Session-Id: {id}\r\n"));
        assert!(again.resumed, "{}", again.id);
    }
}
