//! Sessions on several nodes: ids that name their node, resumes, and keys.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/nodes.rs"]
mod nodes;
#[path = "support/process.rs"]
mod process;
mod support;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread;

use lavaproxy::config::Lavalink::{self, V3, V4};
use nodes::{Bot, FakeNode, Nodes, list, masked, ok, text_frame};
use process::{FREE, Running, SECRET, lavaproxy, signal, value};
use support::{Client, HANDSHAKE, PASSWORD, Proxy, SWITCHING, eventually};

const READY: &str = r#"{"op":"ready","resumed":false,"sessionId":"5fr7okxwgml5cack"}"#;
const READY_V3: &str = r#"{"resumed":false,"sessionId":"05rzx9zxnw0cbiz9","op":"ready"}"#;
const STATS: &str = r#"{"op":"stats","frameStats":null,"players":0,"playingPlayers":0,"uptime":1}"#;
/// The longest name that a node can have: `ready` then needs a longer head.
const LONG: &str = "long-name-of-16x";
/// What the node says at the end, so that the client knows that nothing else comes.
const LAST: &str = r#"{"op":"event","sessionId":"5fr7okxwgml5cack"}"#;

/// A node of this name that answers each handshake with pieces of the test's own, and another node.
struct Script {
    version: Lavalink,
    name: &'static str,
    proxy: Proxy,
    pieces: Arc<Mutex<Vec<Vec<u8>>>>,
    _nodes: [FakeNode; 2],
}

impl Script {
    fn start(version: Lavalink, name: &'static str) -> Self {
        let pieces: Arc<Mutex<Vec<Vec<u8>>>> = Arc::default();
        let own = Arc::clone(&pieces);
        let node = FakeNode::start(move |client, _| {
            own.lock().unwrap().iter().for_each(|piece| drop(client.try_send(piece)));
            client.half_close();
            client.rest_or_error();
            false
        });
        let other = FakeNode::start(|_, _| false);
        let list = list(&[(name, node.address()), ("other", other.address())]);
        // The node ends at once.
        let proxy = nodes::proxy(version, &list, &[nodes::UNASKED, ("SESSION_TAKEOVER", "off")]);
        Self { version, name, proxy, pieces, _nodes: [node, other] }
    }

    /// What a client gets behind its 101 when the node sends these pieces, each in a write of its own, and ends.
    fn through(&self, pieces: Vec<Vec<u8>>) -> Vec<u8> {
        *self.pieces.lock().unwrap() = pieces;
        let mut client = self.proxy.connect();
        let fields = format!("{HANDSHAKE}Lavalink-Node: {}\r\n", self.name);
        let answer = client.get(&format!("/{}/websocket", self.version.name()), &fields);
        assert_eq!((answer.status, answer.head.len()), (101, SWITCHING.len()), "{}", answer.head);
        let got = client.rest();
        let snapshot = self.proxy.server.ledger().snapshot();
        let used = &snapshot.connections[0].traffic.amount;
        assert_eq!((used.bytes_in, used.bytes_out), (client.sent, client.received), "the client's own wire counts");
        client.half_close();
        self.proxy.wait_until_empty();
        got
    }
}

fn bytes(messages: &[&str]) -> Vec<u8> {
    messages.iter().flat_map(|message| text_frame(message)).collect()
}

/// The address of a listener, from the log.
fn listening(running: &mut Running, name: &str) -> SocketAddr {
    value(&running.line(&["event=listening ", &format!("listener={name} ")]), "address").parse().unwrap()
}

#[test]
fn ready_names_its_node_wherever_it_is_cut() {
    for (version, name, ready) in [(V4, "eu1", READY), (V3, "eu1", READY_V3), (V4, LONG, READY), (V3, LONG, READY_V3)] {
        let script = Script::start(version, name);
        let named = ready.replace(r#"Id":""#, &format!(r#"Id":"{name}."#));
        for (sent, expected) in
            [([ready, STATS, LAST], [&*named, STATS, LAST]), ([STATS, ready, LAST], [STATS, &*named, LAST])]
        {
            let (sent, expected) = (bytes(&sent), bytes(&expected));
            let all = [SWITCHING, &sent].concat();
            let one_by_one = [SWITCHING].into_iter().chain(sent.chunks(1)).map(<[u8]>::to_vec).collect();
            let wholly_one_by_one = all.chunks(1).map(<[u8]>::to_vec).collect();
            let mut ways: Vec<Vec<Vec<u8>>> = vec![vec![all.clone()], one_by_one, wholly_one_by_one];
            for cut in [1, 2, 30, 62, 63, 64, 65, 100, sent.len() - 1] {
                let cut = SWITCHING.len() + cut;
                ways.push(vec![all[..cut].to_vec(), all[cut..].to_vec()]);
            }
            for pieces in ways {
                let got = script.through(pieces);
                assert_eq!(got, expected, "{}", got.escape_ascii());
            }
        }
    }
}

#[test]
fn what_is_not_understood_passes_unchanged() {
    let script = Script::start(V4, "eu1");
    for sent in [
        bytes(&[STATS, STATS, READY, LAST]),
        bytes(&["not json", READY]),
        bytes(&[r#"{"op":"ready","sessionId":"a\u0062c"}"#, READY]),
        b"\x82\x02hi".to_vec(),
        b"\x01\x02{\"".to_vec(),
        [&b"\x88\x02\x03\xe9"[..], &bytes(&[READY])].concat(),
        b"\xff\xff\xff\xff not a frame at all".to_vec(),
        // A frame that never ends.
        text_frame(READY)[..40].to_vec(),
        vec![0x81],
        Vec::new(),
    ] {
        for pieces in [vec![[SWITCHING, &sent].concat()], vec![SWITCHING.to_vec(), sent.clone()]] {
            let got = script.through(pieces);
            assert_eq!(got, sent, "{}", got.escape_ascii());
        }
    }
}

#[test]
fn the_name_is_taken_off_in_paths_and_in_session_id_and_nowhere_else() {
    let start = || FakeNode::start(|client, _| client.try_send(&ok("{}")).is_ok());
    let (a, b) = (start(), start());
    let proxy = nodes::proxy(V4, &list(&[("eu1", a.address()), ("eu2", b.address())]), &[nodes::UNASKED]);
    let mut client = proxy.connect();
    let other = "X-Session: eu2.abc\r\nResume-Key: eu2.abc\r\nX-Path: /v4/sessions/eu2.abc\r\n";
    let body = br#"{"sessionId":"eu2.abc","voice":{"sessionId":"eu2.abc"}}"#;
    for (sent, expected) in [
        ("/v4/sessions/eu2.abc/players/1?noReplace=eu2.abc", "/v4/sessions/abc/players/1?noReplace=eu2.abc"),
        ("/v4/sessions/eu2.abc", "/v4/sessions/abc"),
        ("/v4/sessions/eu2.abc/players/eu2.abc", "/v4/sessions/abc/players/eu2.abc"),
        ("/v4/sessions/%65u2%2eabc/players/1", "/v4/sessions/abc/players/1"),
        ("/v4/sessions/eu2.eu2.abc/players/1", "/v4/sessions/eu2.abc/players/1"),
    ] {
        let fields = format!(
            "{other}Session-Id: eu2.abc\r\nContent-Type: application/json\r\nContent-Length: {}\r\n",
            body.len()
        );
        assert_eq!(client.request("PATCH", sent, &fields, body).status, 200);
        let request = b.requests().pop().unwrap();
        assert!(request.starts_with(&format!("PATCH {expected} HTTP/1.1\r\n")), "{request}");
        assert!(request.contains(&format!("\r\n{other}Session-Id: abc\r\nContent-Type:")), "{request}");
        assert!(request.ends_with(std::str::from_utf8(body).unwrap()), "{request}");
    }
    assert!(a.requests().is_empty());
    // A name that is not known belongs to the id, which then is the first node's.
    for (sent, fields) in [("/v4/sessions/us1.abc/players", ""), ("/v4/sessions/abc/players", "Session-Id: eu3.x\r\n")]
    {
        assert_eq!(client.get(sent, fields).status, 200);
        let request = a.requests().pop().unwrap();
        assert!(request.starts_with(&format!("GET {sent} HTTP/1.1\r\n")) && request.contains(fields), "{request}");
    }
    // Elsewhere in a path it is no session.
    for sent in ["/v4/decodetrack/eu2.abc", "/v4/x/sessions/eu2.abc", "/v4/loadtracks?identifier=eu2.abc"] {
        client.get(sent, "Lavalink-Node: eu1\r\n");
        assert!(a.requests().pop().unwrap().starts_with(&format!("GET {sent} HTTP/1.1\r\n")));
    }
}

#[test]
fn equal_ids_of_two_nodes_are_told_apart_by_their_names() {
    let start = || {
        FakeNode::start(|client, request| {
            if !request.starts_with(b"GET /v4/websocket") {
                return client.try_send(&ok("{}")).is_ok();
            }
            let _ = client.try_send(&[SWITCHING, &text_frame(READY)].concat());
            client.rest_or_error();
            false
        })
    };
    let (a, b) = (start(), start());
    let proxy = nodes::proxy(V4, &list(&[("eu1", a.address()), ("eu2", b.address())]), &[]);
    let open = |name: &str| Bot::open_with(proxy.address(), V4, &format!("Lavalink-Node: {name}\r\n"));
    let (first, second) = (open("eu1"), open("eu2"));
    for (bot, node) in [(&first, &a), (&second, &b)] {
        assert_eq!(proxy.connect().get(&format!("/v4/sessions/{}/players", bot.id), "").status, 200);
        let request = node.requests().pop().unwrap();
        assert!(request.starts_with("GET /v4/sessions/5fr7okxwgml5cack/players "), "{} went astray: {request}", bot.id);
    }
}

fn patch(proxy: SocketAddr, password: &str, target: &str, body: &str) {
    let mut client = Client::connect(proxy);
    let head = format!(
        "PATCH {target} HTTP/1.1\r\nHost: x\r\nAuthorization: {password}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let answer = client.send(head.as_bytes()).response();
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[test]
fn a_v4_session_is_resumed_at_its_node_through_any_lavaproxy() {
    let nodes = Nodes::start(V4, &["eu1", "eu2", "eu3"]);
    let mut proxy = nodes.proxy(&[]);
    let second = nodes.proxy(&[]);
    for name in ["eu1", "eu2", "eu3", "eu2"] {
        let bot = Bot::open_with(proxy.address(), V4, &format!("Lavalink-Node: {name}\r\n"));
        assert_eq!(bot.node(), name);
        let id = bot.id.clone();
        patch(proxy.address(), PASSWORD, &format!("/v4/sessions/{id}"), r#"{"resuming":true,"timeout":60}"#);
        bot.leave();
        proxy.wait_until_empty();
        // Through the same lavaproxy, through another, and through one that was started later.
        for round in 0..3 {
            let address = if round == 1 { second.address() } else { proxy.address() };
            let resumed = Bot::open_with(address, V4, &format!("Session-Id: {id}\r\n"));
            assert_eq!(
                (resumed.resumed, resumed.answer.field("session-resumed")),
                (true, Some("true")),
                "round {round}"
            );
            assert_eq!(resumed.id, id, "the bot's id stays");
            resumed.leave();
            proxy.wait_until_empty();
            second.wait_until_empty();
            if round == 1 {
                proxy = nodes.proxy(&[]);
            }
        }
    }
    assert_eq!(nodes.all.iter().map(|node| node.counts().resumed).sum::<u64>(), 12);
}

/// How a bot's session gets its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// It used the key in its handshake.
    Handshake,
    /// By the op `configureResuming`.
    Op,
    /// By PATCH of the session.
    Patch,
    /// The same with a chunked body.
    ChunkedPatch,
}

fn set_key(bot: &mut Bot, proxy: SocketAddr, way: Way, key: &str) {
    let target = format!("/v3/sessions/{}", bot.id);
    let body = format!(r#"{{"resumingKey":"{key}","timeout":60}}"#);
    match way {
        Way::Op => {
            bot.say(&format!(r#"{{"op":"configureResuming","key":"{key}","timeout":60}}"#));
            // The answer to a ping behind it says that it has passed.
            assert!(bot.is_alive());
        }
        // lavaproxy knows the key already, the node does not.
        Way::Handshake | Way::Patch => patch(proxy, PASSWORD, &target, &body),
        Way::ChunkedPatch => {
            let (start, end) = body.split_at(9);
            let chunks = format!("{:x}\r\n{start}\r\n{:x}\r\n{end}\r\n0\r\n\r\n", start.len(), end.len());
            let fields = "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n";
            assert_eq!(Client::connect(proxy).request("PATCH", &target, fields, chunks.as_bytes()).status, 200);
        }
    }
}

#[test]
fn a_v3_session_is_resumed_at_its_node_by_its_key() {
    let nodes = Nodes::start(V3, &["old1", "old2", "old3"]);
    let proxy = nodes.proxy(&[]);
    let ways = [Way::Handshake, Way::Op, Way::Patch, Way::ChunkedPatch];
    for (number, way) in ways.into_iter().cycle().take(24).enumerate() {
        let key = format!("key-of-bot-{number}");
        // The first way uses the key from the beginning; with the others any node can have the session.
        let fields = match way {
            Way::Handshake => format!("Resume-Key: {key}\r\n"),
            _ => format!("Lavalink-Node: old{}\r\n", 1 + number / 4 % 3),
        };
        let mut bot = Bot::open_with(proxy.address(), V3, &fields);
        let node = bot.node().to_owned();
        set_key(&mut bot, proxy.address(), way, &key);
        let id = bot.id.clone();
        bot.leave();
        proxy.wait_until_empty();
        let again = Bot::open_with(proxy.address(), V3, &format!("Resume-Key: {key}\r\n"));
        assert_eq!((again.node(), again.resumed, &again.id), (&*node, true, &id), "{key} by {way:?}");
    }
}

#[test]
fn a_v3_key_that_was_used_from_the_beginning_leads_to_the_same_node_through_any_lavaproxy() {
    let nodes = Nodes::start(V3, &["old1", "old2", "old3"]);
    let (mut proxy, second) = (nodes.proxy(&[]), nodes.proxy(&[]));
    let mut counts: HashMap<String, usize> = HashMap::new();
    for number in 0..30 {
        let fields = format!("Resume-Key: key-{number}\r\n");
        let mut bot = Bot::open_with(proxy.address(), V3, &fields);
        *counts.entry(bot.node().to_owned()).or_default() += 1;
        set_key(&mut bot, proxy.address(), Way::Op, &format!("key-{number}"));
        let id = bot.id.clone();
        bot.leave();
        proxy.wait_until_empty();
        if number % 10 == 0 {
            proxy = nodes.proxy(&[]);
        }
        for address in [second.address(), proxy.address()] {
            let bot = Bot::open_with(address, V3, &fields);
            assert_eq!((bot.resumed, &bot.id), (true, &id));
            bot.leave();
            second.wait_until_empty();
            proxy.wait_until_empty();
        }
    }
    assert_eq!(counts.len(), 3, "keys are spread: {counts:?}");
}

/// A bot's player, with its guild.
fn player(password: &str, proxy: SocketAddr, version: Lavalink, bot: &Bot, guild: usize) {
    let target = format!("/{}/sessions/{}/players/{guild}", version.name(), bot.id);
    patch(proxy, password, &target, "{}");
}

/// Asks for players of random sessions; how many requests reached another node than the session's.
fn astray(password: &str, proxies: &[SocketAddr], version: Lavalink, bots: &[String], requests: usize) -> usize {
    const THREADS: usize = 8;
    let astray = AtomicUsize::new(0);
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let astray = &astray;
            scope.spawn(move || {
                let mut clients: Vec<Client> = proxies.iter().map(|address| Client::connect(*address)).collect();
                let mut random = 0x9E37_79B9_7F4A_7C15_u64.wrapping_mul(thread as u64 + 1);
                for number in 0..requests / THREADS {
                    random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    let which = (random >> 33) as usize % bots.len();
                    let head = format!(
                        "GET /{}/sessions/{}/players/{which} HTTP/1.1\r\nHost: x\r\nAuthorization: {password}\r\n\r\n",
                        version.name(),
                        bots[which]
                    );
                    let count = clients.len();
                    let answer = clients[number % count].send(head.as_bytes()).response();
                    if answer.status != 200 || answer.json()["guildId"].as_str() != Some(&*which.to_string()) {
                        astray.fetch_add(1, SeqCst);
                    }
                }
            });
        }
    });
    astray.into_inner()
}

#[test]
fn ten_thousand_requests_over_two_hundred_sessions_reach_their_nodes() {
    for version in [V4, V3] {
        let nodes = Nodes::start(version, &["one", "two", "three"]);
        let (proxy, second) = (nodes.proxy(&[]), nodes.proxy(&[]));
        let bots: Vec<Bot> = (0..200).map(|_| Bot::open(proxy.address(), version)).collect();
        for (guild, bot) in bots.iter().enumerate() {
            player(PASSWORD, proxy.address(), version, bot, guild);
        }
        let ids: Vec<String> = bots.iter().map(|bot| bot.id.clone()).collect();
        assert_eq!(nodes.all.iter().map(|node| node.players()).sum::<usize>(), 200);
        // The second lavaproxy has seen none of these sessions.
        let lost = astray(PASSWORD, &[proxy.address(), second.address()], version, &ids, 10_000);
        println!(
            "10,000 requests over 200 sessions of {version} on three nodes, half through another lavaproxy: {lost} astray"
        );
        assert_eq!(lost, 0);
        assert_eq!(nodes.all.iter().map(|node| node.players()).sum::<usize>(), 200, "no player was made elsewhere");
    }
}

/// A lavaproxy of its own in front of these nodes.
fn process(nodes: &Nodes) -> (Running, SocketAddr) {
    let mut command = lavaproxy(&FREE);
    command.envs([("LAVALINK_V4_NODES", &*nodes.list()), ("LAVALINK_V3_HOST", ""), ("LAVALINK_V4_PASSWORD", PASSWORD)]);
    command.env("LOG_LEVEL", "warn,lavaproxy::server=info");
    let mut running = Running::spawn(command);
    let address = listening(&mut running, "proxy");
    listening(&mut running, "web");
    (running, address)
}

#[test]
fn sessions_are_found_again_after_a_lavaproxy_was_killed() {
    let nodes = Nodes::start(V4, &["eu1", "eu2", "eu3"]);
    let (running, address) = process(&nodes);
    let bots: Vec<Bot> =
        (0..60).map(|_| Bot::try_open(address, V4, SECRET, "").unwrap_or_else(|why| panic!("{why}"))).collect();
    for bot in &bots {
        patch(address, SECRET, &format!("/v4/sessions/{}", bot.id), r#"{"resuming":true,"timeout":60}"#);
    }
    for (guild, bot) in bots.iter().enumerate() {
        player(SECRET, address, V4, bot, guild);
    }
    signal(running.child.id(), "KILL");
    running.end();
    let ids: Vec<String> = bots.iter().map(|bot| bot.id.clone()).collect();
    for mut bot in bots {
        bot.client.rest_or_error();
    }
    let (_running, address) = process(&nodes);
    let resumed: Vec<Bot> = ids
        .iter()
        .map(|id| {
            Bot::try_open(address, V4, SECRET, &format!("Session-Id: {id}\r\n")).unwrap_or_else(|why| panic!("{why}"))
        })
        .collect();
    for (bot, id) in resumed.iter().zip(&ids) {
        assert_eq!((bot.resumed, &bot.id), (true, id));
    }
    let lost = astray(SECRET, &[address], V4, &ids, 2000);
    println!("60 resumes and 2,000 requests after kill -9 and a new start: {lost} astray");
    assert_eq!(lost, 0);
}

#[test]
fn a_message_that_the_client_sends_with_its_handshake_sets_its_key_too() {
    let nodes = Nodes::start(V3, &["old1", "old2", "old3"]);
    let proxy = nodes.proxy(&[]);
    for name in ["old1", "old2", "old3"] {
        let mut client = proxy.connect();
        let key = format!("glued-{name}");
        let op = masked(0x81, format!(r#"{{"op":"configureResuming","key":"{key}","timeout":60}}"#).as_bytes());
        let head = format!(
            "GET /v3/websocket HTTP/1.1\r\nHost: x\r\nAuthorization: {PASSWORD}\r\n{HANDSHAKE}Lavalink-Node: {name}\r\n\r\n"
        );
        client.send(&[head.as_bytes(), &op].concat());
        assert_eq!(client.response().status, 101);
        let id = nodes::ready(&mut client)["sessionId"].as_str().unwrap().to_owned();
        let mut bot = Bot {
            client,
            answer: support::Response { status: 101, head: String::new(), body: Vec::new() },
            id,
            resumed: false,
        };
        assert!(bot.is_alive());
        let id = bot.id.clone();
        bot.leave();
        proxy.wait_until_empty();
        let again = Bot::open_with(proxy.address(), V3, &format!("Resume-Key: {key}\r\n"));
        assert_eq!((again.resumed, again.id), (true, id));
    }
}

#[test]
fn a_resume_whose_node_is_gone_gets_a_new_session_elsewhere() {
    let nodes = Nodes::start(V4, &["eu1", "eu2"]);
    let proxy = nodes.proxy(&[]);
    let bot = Bot::open_with(proxy.address(), V4, "Lavalink-Node: eu1\r\n");
    nodes.named("eu1").die(lavaproxy::demo::Close::Fin);
    let again = Bot::open_with(proxy.address(), V4, &format!("Session-Id: {}\r\n", bot.id));
    assert_eq!((again.node(), again.resumed), ("eu2", false));
    bot.leave();
    eventually("the first session's row is gone", || proxy.server.ledger().snapshot().totals.websockets == 1);
}
