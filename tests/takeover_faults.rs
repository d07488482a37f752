//! What may go wrong at a takeover: nodes that die at any byte or during it, and clients that leave meanwhile.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/doomed.rs"]
mod doomed;
#[path = "support/logged.rs"]
mod logged;
#[path = "support/music.rs"]
mod music;
#[path = "support/nodes.rs"]
mod nodes;
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use doomed::Doomed;
use lavaproxy::config::Lavalink::{self, V3, V4};
use lavaproxy::demo::{Close, Node};
use music::{Musician, await_sessions, is_event, listen_for};
use nodes::{FakeNode, Nodes, list, masked, ok, text_frame};
use serde_json::{Value, json};
use support::{PASSWORD, Proxy, Response, SWITCHING, eventually, eventually_within};

/// A node that dies after a number of bytes, another one, and a lavaproxy before both.
struct Stage {
    nodes: Nodes,
    line: Doomed,
    proxy: Proxy,
}

impl Stage {
    fn new(version: Lavalink, set: &[(&str, &str)]) -> Self {
        let nodes = Nodes::start(version, &["eu1", "eu2"]);
        let line = Doomed::before(nodes.named("eu1").address());
        let list = list(&[("eu1", line.address), ("eu2", nodes.named("eu2").address())]);
        let proxy = nodes::proxy(version, &list, set);
        Self { nodes, line, proxy }
    }

    fn bot(&self) -> Musician {
        Musician::open(self.proxy.address(), self.nodes.version, "Lavalink-Node: eu1\r\n")
    }
}

/// Marsaglia's xorshift64.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

fn random_change(random: &mut Random, version: Lavalink) -> Value {
    let mut body = json!({});
    if random.below(2) == 0 {
        let name = format!("song {}", random.below(4));
        match version {
            V3 => body["identifier"] = name.into(),
            V4 => body["track"] = json!({"identifier": name, "userData": {"n": random.below(9)}}),
        }
    }
    for (name, value) in [
        ("position", json!(random.below(60_000))),
        ("volume", json!(random.below(200))),
        ("paused", json!(random.below(2) == 0)),
        ("filters", json!({"volume": 0.5})),
    ] {
        if random.below(3) == 0 {
            body[name] = value;
        }
    }
    body
}

/// The answer; `None` when it breaks off.
fn whole(request: impl FnOnce() -> Response) -> Option<Response> {
    catch_unwind(AssertUnwindSafe(request)).ok().filter(|answer| answer.status != 502)
}

/// What a takeover must keep of a player.
fn kept(player: &Value) -> Value {
    json!({
        "track": player["track"]["info"]["identifier"],
        "userData": player["track"]["userData"],
        "volume": player["volume"],
        "paused": player["paused"],
        "filters": player["filters"],
        "voice": player["voice"]["token"],
    })
}

/// No track ends that has not started, and no track starts while another plays. One end of each player may be lost with
/// the node.
fn is_legal_history(messages: &[Value], but: &BTreeSet<u64>, context: &str) {
    let mut playing: BTreeMap<u64, String> = BTreeMap::new();
    let mut lost = BTreeSet::new();
    for message in messages.iter().filter(|message| message["op"] == "event") {
        let guild: u64 = message["guildId"].as_str().unwrap().parse().unwrap();
        if but.contains(&guild) || message.get("track").is_none() {
            continue;
        }
        let track = match &message["track"] {
            Value::String(_) => String::new(),
            track => track["info"]["identifier"].as_str().unwrap().to_owned(),
        };
        if is_event(message, "TrackStartEvent") {
            let is_in_order = playing.insert(guild, track).is_none() || lost.insert(guild);
            assert!(is_in_order, "{context}: {message} while another plays");
        } else if is_event(message, "TrackEndEvent") {
            assert_eq!(playing.remove(&guild), Some(track), "{context}: {message}");
        }
    }
}

#[test]
fn a_node_may_die_at_any_byte_of_any_history() {
    let seed = u64::from(std::process::id());
    let mut random = Random(seed << 20 | 1);
    for round in 0..24 {
        let version = if round % 4 == 3 { V3 } else { V4 };
        let context = format!("seed {seed}, round {round}");
        let stage = Stage::new(version, &[]);
        let bot = stage.bot();
        let mut expected: BTreeMap<u64, Value> = BTreeMap::new();
        let mut unknown = BTreeSet::new();
        stage.line.dies_after(i64::try_from(random.below(24_000)).unwrap());
        for _ in 0..30 {
            let guild = 1 + random.below(4);
            if random.below(8) == 0 {
                match whole(|| bot.rest("DELETE", &format!("/players/{guild}"), "")) {
                    Some(answer) if answer.status == 204 => drop(expected.remove(&guild)),
                    Some(answer) => panic!("{context}: {answer:?}"),
                    None => drop(unknown.insert(guild)),
                }
                continue;
            }
            let mut change = random_change(&mut random, version);
            if !expected.contains_key(&guild) {
                change["voice"] = music::voice(guild);
            }
            let query = if random.below(5) == 0 { "?noReplace=true" } else { "" };
            match whole(|| bot.patch(guild, query, &change)) {
                Some(answer) if answer.status == 200 => drop(expected.insert(guild, kept(&answer.json()))),
                Some(answer) => panic!("{context}: {answer:?}"),
                None => drop(unknown.insert(guild)),
            }
        }
        if !stage.line.is_dead() {
            stage.line.die();
        }
        await_sessions(stage.nodes.named("eu2"), 1);
        bot.ping("at the end");
        let players = bot.rest("GET", "/players", "").json();
        for player in players.as_array().unwrap() {
            let guild: u64 = player["guildId"].as_str().unwrap().parse().unwrap();
            if let Some(expected) = expected.remove(&guild).filter(|_| !unknown.contains(&guild)) {
                assert_eq!(kept(player), expected, "{context}, guild {guild}");
            }
        }
        expected.retain(|guild, _| !unknown.contains(guild));
        assert!(expected.is_empty(), "{context}: lost {expected:?} of {players}");
        assert!(bot.is_open(), "{context}");
        is_legal_history(&bot.since(0), &unknown, &context);
    }
}

#[test]
fn a_frame_that_is_cut_is_never_heard_in_part() {
    let message = json!({"op": "event", "type": "Custom", "guildId": "1", "text": "x".repeat(200)}).to_string();
    let frame = text_frame(&message);
    for cut in [1, 2, 3, 4, 5, 100, frame.len() - 1, frame.len()] {
        let piece = frame[..cut].to_vec();
        let ready = text_frame(r#"{"op":"ready","resumed":false,"sessionId":"first"}"#);
        let has_died = AtomicBool::new(false);
        let first = FakeNode::start(move |client, _| {
            if !has_died.swap(true, SeqCst) {
                let _ = client.try_send(&[SWITCHING, &ready, &piece].concat());
            }
            false
        });
        let second = Node::start_named("eu2", V4, PASSWORD).unwrap();
        let proxy = nodes::proxy(V4, &list(&[("eu1", first.address()), ("eu2", second.address())]), &[]);
        let bot = Musician::open(proxy.address(), V4, "Lavalink-Node: eu1\r\n");
        await_sessions(&second, 1);
        bot.ping("alive");
        let whole = usize::from(cut == frame.len());
        assert_eq!(bot.since(0).len(), whole, "cut after {cut} bytes: {:?}", bot.since(0));
        assert!(bot.is_open());
    }
}

#[test]
fn a_large_frame_that_is_cut_ends_the_websocket() {
    let ready = text_frame(r#"{"op":"ready","resumed":false,"sessionId":"first"}"#);
    let large = [&[0x81, 127, 0, 0, 0, 0, 0, 2, 0, 0][..], &[b'x'; 100_000]].concat();
    let first = FakeNode::start(move |client, _| {
        let _ = client.try_send(&[SWITCHING, &ready, &large].concat());
        false
    });
    let second = Node::start_named("eu2", V4, PASSWORD).unwrap();
    let proxy = nodes::proxy(V4, &list(&[("eu1", first.address()), ("eu2", second.address())]), &[]);
    let bot = Musician::open(proxy.address(), V4, "Lavalink-Node: eu1\r\n");
    bot.await_end();
    assert_eq!(second.sessions(), 0);
}

#[test]
fn a_node_that_stops_in_order_is_taken_over_from_too() {
    let nodes = Nodes::start(V4, &["eu2"]);
    let first = Node::start_named("eu1", V4, PASSWORD).unwrap();
    let list = list(&[("eu1", first.address()), ("eu2", nodes.named("eu2").address())]);
    let proxy = nodes::proxy(V4, &list, &[]);
    let bot = Musician::open(proxy.address(), V4, "Lavalink-Node: eu1\r\n");
    bot.play(1, "song", json!({}));
    // It sends a close frame with code 1001.
    first.stop();
    await_sessions(nodes.named("eu2"), 1);
    assert_eq!(bot.player(1)["track"]["info"]["identifier"], "song");
    bot.ping("alive");
    assert!(bot.is_open());
}

#[test]
fn the_next_node_may_die_during_the_takeover_and_after_it() {
    let nodes = Nodes::start(V4, &["eu1", "eu2", "eu3"]);
    let line = Doomed::before(nodes.named("eu2").address());
    let address = |name: &str| nodes.named(name).address();
    let list = list(&[("eu1", address("eu1")), ("eu2", line.address), ("eu3", address("eu3"))]);
    // The one that dies is preferred.
    nodes.named("eu3").report_load(Some(lavaproxy::demo::ReportedLoad { playing_players: 500, ..nodes::IDLE }));
    for bytes in [100, 500, 1000, 2000, 5000, 9000] {
        line.revive();
        nodes.named("eu1").revive().unwrap();
        let proxy = nodes::proxy(V4, &list, &[]);
        nodes::wait_for_state(nodes::web(&proxy), "eu3", "up");
        let bot = Musician::open(proxy.address(), V4, "Lavalink-Node: eu1\r\n");
        for guild in 1..=6 {
            bot.play(guild, "song", json!({"position": 20_000}));
        }
        let heard = bot.count();
        line.dies_after(bytes);
        nodes.named("eu1").die(Close::Reset);
        eventually("the line has died", || {
            bot.send(&masked(0x89, b"?"));
            let answer = bot.rest("GET", "/players", "");
            assert!(matches!(answer.status, 200 | 502), "{}", answer.text());
            line.is_dead()
        });
        await_sessions(nodes.named("eu3"), 1);
        for guild in 1..=6 {
            assert!(music::position(&bot.player(guild)) >= 20_000);
        }
        for message in bot.since(heard) {
            assert!(!is_event(&message, "TrackStartEvent"), "{bytes}: {message}");
        }
        assert!(bot.is_open());
        drop(bot);
        await_sessions(nodes.named("eu3"), 0);
    }
}

#[test]
fn a_next_node_that_closes_the_websocket_leaves_the_third_one() {
    let ready = text_frame(r#"{"op":"ready","resumed":false,"sessionId":"second"}"#);
    for code in [1001_u16, 1011, 1000] {
        let nodes = Nodes::start(V4, &["eu1", "eu3"]);
        nodes.named("eu3").report_load(Some(lavaproxy::demo::ReportedLoad { playing_players: 500, ..nodes::IDLE }));
        let answer = [SWITCHING, &ready, &[0x88, 2], &code.to_be_bytes()].concat();
        let second = FakeNode::start(move |client, _| client.try_send(&answer).is_err());
        let address = |name: &str| nodes.named(name).address();
        let list = list(&[("eu1", address("eu1")), ("eu2", second.address()), ("eu3", address("eu3"))]);
        let proxy = nodes::proxy(V4, &list, &[]);
        nodes::wait_for_state(nodes::web(&proxy), "eu3", "up");
        let bot = Musician::open(proxy.address(), V4, "Lavalink-Node: eu1\r\n");
        bot.play(1, "song", json!({"position": 20_000}));
        nodes.named("eu1").die(Close::Reset);
        await_sessions(nodes.named("eu3"), 1);
        assert!(music::position(&bot.player(1)) >= 20_000);
        bot.ping("alive");
        assert!(bot.is_open(), "{code}");
        assert!(!second.requests().is_empty());
    }
}

#[test]
fn a_node_that_hangs_is_taken_over_from() {
    let nodes = Nodes::start(V4, &["eu1", "eu2"]);
    let proxy = nodes.proxy(&[("HEALTH_INTERVAL", "2s"), ("FAILOVER_AFTER", "1s")]);
    let web = nodes::web(&proxy);
    nodes::wait_for_state(web, "eu1", "up");
    nodes::wait_for_state(web, "eu2", "up");
    let bot = Musician::open(proxy.address(), V4, "Lavalink-Node: eu1\r\n");
    bot.play(1, "song", json!({"position": 20_000}));
    let heard = bot.count();
    nodes.named("eu1").hang();
    bot.send(&masked(0x89, b"to nobody"));
    await_sessions(nodes.named("eu2"), 1);
    bot.await_pong("to nobody");
    assert!(music::position(&bot.player(1)) >= 20_000);
    assert!(bot.is_open());
    assert!(!bot.since(heard).iter().any(|message| is_event(message, "TrackStartEvent")));
    assert_eq!(nodes::row(web, "eu1")["sessions"], 0);
    assert_eq!(nodes::row(web, "eu2")["sessions"], 1);
    nodes.named("eu1").resume();
}

#[test]
fn two_deaths_at_once_leave_the_third_node() {
    let nodes = Nodes::start(V4, &["eu1", "eu2", "eu3"]);
    let proxy = nodes.proxy(&[]);
    let bot = Musician::open(proxy.address(), V4, "Lavalink-Node: eu1\r\n");
    bot.play(1, "song", json!({"position": 20_000}));
    thread::scope(|scope| {
        scope.spawn(|| nodes.named("eu1").die(Close::Fin));
        scope.spawn(|| nodes.named("eu2").die(Close::Fin));
    });
    await_sessions(nodes.named("eu3"), 1);
    assert!(music::position(&bot.player(1)) >= 20_000);
    assert!(bot.is_open());
}

#[test]
fn without_a_node_the_client_is_told_to_connect_again() {
    let nodes = Nodes::start(V4, &["eu1"]);
    let proxy = nodes.proxy(&[("TAKEOVER_TIMEOUT", "1s")]);
    let bot = Musician::open(proxy.address(), V4, "");
    bot.play(1, "song", json!({}));
    let lost = Instant::now();
    nodes.named("eu1").die(Close::Fin);
    assert_eq!(bot.await_end(), Some(1012));
    assert!(lost.elapsed() >= Duration::from_millis(500), "{:?}", lost.elapsed());
    assert_eq!(bot.rest("GET", "/players", "").status, 502);
    drop(bot);
    proxy.wait_until_empty();
}

#[test]
fn a_node_that_stops_in_order_and_has_no_other_one_ends_the_websocket_as_a_restart() {
    let node = Node::start_named("only", V4, PASSWORD).unwrap();
    let proxy = nodes::proxy(V4, &list(&[("only", node.address())]), &[("TAKEOVER_TIMEOUT", "1s")]);
    let bot = Musician::open(proxy.address(), V4, "");
    // It sends a close frame with code 1001.
    node.stop();
    assert_eq!(bot.await_end(), Some(1012));
}

#[test]
fn a_client_that_leaves_meanwhile_is_let_go_at_once() {
    for how in ["close", "half-close", "reset"] {
        let node = Node::start_named("only", V4, PASSWORD).unwrap();
        let proxy = nodes::proxy(V4, &list(&[("only", node.address())]), &[]);
        let bot = Musician::open(proxy.address(), V4, "");
        bot.play(1, "song", json!({}));
        node.die(Close::Fin);
        bot.ping("away");
        match how {
            "close" => {
                bot.send(&masked(0x88, &[3, 232]));
                assert_eq!(bot.await_end(), Some(1000));
                drop(bot);
            }
            "half-close" => {
                bot.half_close();
                assert_eq!(bot.await_end(), None);
                drop(bot);
            }
            _ => bot.reset(),
        }
        proxy.wait_until_empty();
        let reason = if how == "reset" { "client-reset" } else { "client-closed" };
        eventually(&format!("{how}: {}", proxy.stats()["ended"]), || proxy.ended(reason) >= 1);
        node.revive().unwrap();
        listen_for(Duration::from_millis(100));
        assert_eq!(node.sessions(), 0, "{how}");
    }
}

#[test]
fn pings_are_answered_once_wherever_they_meet_the_loss() {
    let stage = Stage::new(V4, &[]);
    for round in 0..10 {
        let bot = stage.bot();
        bot.play(1, "song", json!({}));
        thread::scope(|scope| {
            scope.spawn(|| {
                for number in 0..40 {
                    bot.send(&masked(0x89, format!("{round}-{number}").as_bytes()));
                }
            });
            scope.spawn(|| stage.line.die());
        });
        await_sessions(stage.nodes.named("eu2"), 1);
        bot.ping("last");
        let pongs = bot.heard.lock().unwrap().pongs.clone();
        let unique: BTreeSet<_> = pongs.iter().collect();
        assert_eq!(unique.len(), pongs.len(), "none is answered twice: {pongs:?}");
        let last = format!("{round}-39").into_bytes();
        assert!(unique.contains(&last), "the last one is answered: {pongs:?}");
        drop(bot);
        stage.line.revive();
        await_sessions(stage.nodes.named("eu2"), 0);
        eventually("eu1 has no session", || stage.nodes.named("eu1").sessions() == 0);
    }
}

#[test]
fn a_ping_that_is_cut_in_two_by_the_loss_is_answered() {
    let frame = masked(0x89, b"in two pieces");
    for cut in 1..frame.len() {
        let stage = Stage::new(V4, &[]);
        let bot = stage.bot();
        bot.send(&frame[..cut]);
        bot.rest("GET", "/players", "");
        stage.line.die();
        await_sessions(stage.nodes.named("eu2"), 1);
        bot.send(&frame[cut..]);
        bot.await_pong("in two pieces");
        bot.ping("and the next");
    }
}

#[test]
fn a_client_that_reads_slowly_gets_everything_in_order() {
    const MESSAGES: usize = 4000;
    let message = |number: usize| json!({"op": "x", "number": number, "text": "x".repeat(1000)}).to_string();
    let second = FakeNode::start(move |client, _| {
        let ready = text_frame(r#"{"op":"ready","resumed":false,"sessionId":"second"}"#);
        let sent = client.try_send(&[SWITCHING, &ready].concat());
        let sent = (0..MESSAGES).try_fold(sent, |_, number| Some(client.try_send(&text_frame(&message(number)))));
        sent.is_some() && client.rest_or_error().1.is_none()
    });
    let first = Node::start_named("eu1", V4, PASSWORD).unwrap();
    let proxy = nodes::proxy(V4, &list(&[("eu1", first.address()), ("eu2", second.address())]), &[]);
    let mut bot = nodes::Bot::open_with(proxy.address(), V4, "Lavalink-Node: eu1\r\n");
    first.die(Close::Fin);
    // Nothing is read until the takeover has ended.
    eventually("eu2 has the session", || nodes::row(nodes::web(&proxy), "eu2")["sessions"] == 1);
    for number in 0..=MESSAGES {
        let (_, payload) = nodes::frame(&mut bot.client);
        let message: Value = serde_json::from_slice(&payload).unwrap();
        // The first one is what the first node has sent.
        assert!(number == 0 || message["number"] == number - 1, "{number}: {message}");
    }
}

#[test]
fn requests_wait_for_the_takeover() {
    let node = Node::start_named("only", V4, PASSWORD).unwrap();
    let proxy = nodes::proxy(V4, &list(&[("only", node.address())]), &[]);
    let bot = Musician::open(proxy.address(), V4, "");
    bot.play(1, "song", json!({"volume": 10}));
    let requests = node.counts().requests;
    node.die(Close::Fin);
    thread::scope(|scope| {
        let get = scope.spawn(|| bot.player(1));
        let patch = scope.spawn(|| bot.patch(1, "", &json!({"volume": 20})));
        let other = scope.spawn(|| bot.play(2, "other", json!({})));
        listen_for(Duration::from_millis(300));
        assert!(!get.is_finished() && !patch.is_finished() && !other.is_finished());
        node.revive().unwrap();
        assert_eq!(get.join().unwrap()["track"]["info"]["identifier"], "song");
        let patch = patch.join().unwrap();
        assert_eq!((patch.status, &patch.json()["volume"]), (200, &json!(20)));
        assert_eq!(other.join().unwrap()["track"]["info"]["identifier"], "other");
    });
    assert_eq!(bot.player(1)["volume"], 20);
    assert!(node.counts().requests > requests);
}

#[test]
fn sessions_that_play_over_the_websocket_end_with_their_node() {
    let nodes = Nodes::start(V3, &["eu1", "eu2"]);
    let proxy = nodes.proxy(&[]);
    let bot = Musician::open(proxy.address(), V3, "Lavalink-Node: eu1\r\n");
    bot.send(&masked(0x81, br#"{"op":"volume","guildId":"1","volume":50}"#));
    bot.ping("the node has it");
    nodes.named("eu1").die(Close::Fin);
    assert_eq!(bot.await_end(), None, "a bare end, as the node's own");
    assert_eq!(nodes.named("eu2").sessions(), 0);
}

#[test]
fn without_takeovers_a_websocket_ends_with_its_node() {
    let nodes = Nodes::start(V4, &["eu1", "eu2"]);
    let proxy = nodes.proxy(&[("SESSION_TAKEOVER", "off")]);
    let bot = Musician::open(proxy.address(), V4, "Lavalink-Node: eu1\r\n");
    bot.play(1, "song", json!({}));
    nodes.named("eu1").die(Close::Fin);
    assert_eq!(bot.await_end(), None);
    assert_eq!(nodes.named("eu2").sessions(), 0);
    assert_eq!(bot.rest("GET", "/players", "").status, 502);
}

#[test]
fn a_session_is_not_kept_when_the_memory_is_used_up() {
    let nodes = Nodes::start(V4, &["eu1", "eu2"]);
    let proxy = nodes.proxy(&[("SESSION_MEMORY", "4KiB")]);
    let bot = Musician::open(proxy.address(), V4, "Lavalink-Node: eu1\r\n");
    for guild in 1..=20 {
        bot.play(guild, "song", json!({}));
    }
    let other = Musician::open(proxy.address(), V4, "Lavalink-Node: eu1\r\n");
    other.play(1, "song", json!({}));
    nodes.named("eu1").die(Close::Fin);
    assert_eq!(bot.await_end(), None);
    await_sessions(nodes.named("eu2"), 1);
    assert!(other.is_open());
    assert_eq!(other.player(1)["track"]["info"]["identifier"], "song");
}

#[test]
fn a_session_with_a_player_that_is_too_large_is_not_kept() {
    logged::lines();
    // The request is too large, or its answer alone.
    for length in [70_000, 65_400] {
        let more = json!({"track": {"identifier": "song", "userData": {"text": "x".repeat(length)}}});
        let nodes = Nodes::start(V4, &["eu1", "eu2"]);
        let proxy = nodes.proxy(&[]);
        let bot = Musician::open(proxy.address(), V4, "Lavalink-Node: eu1\r\n");
        bot.play(1, "song", json!({}));
        for _ in 0..2 {
            assert_eq!(bot.patch(1, "", &more).status, 200);
        }
        let id = bot.id.rsplit('.').next().unwrap();
        assert_eq!(logged::logged(&["event=session-not-kept", id]), 1, "{length}");
        nodes.named("eu1").die(Close::Fin);
        assert_eq!(bot.await_end(), None);
        assert_eq!(nodes.named("eu2").sessions(), 0);
    }
}

#[test]
fn a_session_whose_player_is_not_understood_is_not_kept() {
    let ready = text_frame(r#"{"op":"ready","resumed":false,"sessionId":"odd-answers"}"#);
    let first = FakeNode::start(move |client, request| match request.starts_with(b"GET ") {
        true => client.try_send(&[SWITCHING, &ready].concat()).is_ok() && client.rest_or_error().1.is_some(),
        false => client.try_send(&ok("{}")).is_ok(),
    });
    logged::lines();
    let proxy = nodes::proxy(V4, &list(&[("eu1", first.address())]), &[]);
    let bot = Musician::open(proxy.address(), V4, "");
    assert_eq!(bot.patch(1, "", &json!({"volume": 10})).status, 200);
    assert_eq!(logged::logged(&["event=session-not-kept", "session=odd-answers"]), 1);
}

/// A node that opens the session `second`; `answer` serves all other requests.
fn second_node(answer: impl Fn(&mut support::Client, &str) -> bool + Send + Sync + 'static) -> FakeNode {
    FakeNode::start(move |client, request| {
        let text = String::from_utf8_lossy(request).into_owned();
        if text.starts_with("GET /v4/websocket") {
            let ready = text_frame(r#"{"op":"ready","resumed":false,"sessionId":"second"}"#);
            return client.try_send(&[SWITCHING, &ready].concat()).is_ok();
        }
        answer(client, &text)
    })
}

/// A node, a lavaproxy before it and this second one, and a bot on the first.
fn bot_before(second: &FakeNode) -> (Node, Proxy, Musician) {
    let first = Node::start_named("eu1", V4, PASSWORD).unwrap();
    let proxy = nodes::proxy(V4, &list(&[("eu1", first.address()), ("eu2", second.address())]), &[]);
    let bot = Musician::open(proxy.address(), V4, "Lavalink-Node: eu1\r\n");
    (first, proxy, bot)
}

#[test]
fn a_player_that_the_next_node_refuses_is_dropped_alone() {
    let second = second_node(|client, request| {
        let refused = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n".to_vec();
        client.try_send(&if request.contains("/players/1 ") { refused } else { ok("{}") }).is_ok()
    });
    let (first, _proxy, bot) = bot_before(&second);
    bot.play(1, "song", json!({}));
    bot.play(2, "song", json!({}));
    first.die(Close::Fin);
    assert_eq!(bot.rest("GET", "/players", "").text(), "{}");
    assert!(bot.is_open());
    let made: Vec<_> = second.requests().into_iter().filter(|request| request.starts_with("PATCH ")).collect();
    assert_eq!(made.len(), 2, "each is tried once: {made:?}");
    assert!(made.iter().all(|request| request.starts_with("PATCH /v4/sessions/second/players/")));
}

#[test]
fn a_player_that_a_node_refuses_before_it_fails_plays_on_the_next_one() {
    let second = second_node(|client, request| {
        let answer: &[u8] = match request.contains("/players/1 ") {
            true => b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n",
            false => b"HTTP/1.1 404 Not Found\r\nContent-Length: 17\r\n\r\nSession not found",
        };
        client.try_send(answer).is_ok()
    });
    let nodes = Nodes::start(V4, &["eu1", "eu3"]);
    nodes.named("eu3").report_load(Some(lavaproxy::demo::ReportedLoad { playing_players: 500, ..nodes::IDLE }));
    let address = |name: &str| nodes.named(name).address();
    let list = list(&[("eu1", address("eu1")), ("eu2", second.address()), ("eu3", address("eu3"))]);
    let proxy = nodes::proxy(V4, &list, &[]);
    nodes::wait_for_state(nodes::web(&proxy), "eu3", "up");
    let bot = Musician::open(proxy.address(), V4, "Lavalink-Node: eu1\r\n");
    for guild in 1..=9 {
        bot.play(guild, "song", json!({"position": 20_000}));
    }
    nodes.named("eu1").die(Close::Reset);
    await_sessions(nodes.named("eu3"), 1);
    for guild in 1..=9 {
        assert!(music::position(&bot.player(guild)) >= 20_000);
    }
    assert!(second.requests().iter().any(|request| request.contains("/players/1 ")));
}

#[test]
fn a_player_whose_replay_is_never_answered_is_dropped_alone() {
    let second = second_node(|client, request| match request.contains("/players/1 ") {
        // As a Lavalink whose voice server cannot be reached.
        true => client.rest_or_error().1.is_some(),
        false => client.try_send(&ok("{}")).is_ok(),
    });
    let (first, _proxy, bot) = bot_before(&second);
    for guild in 1..=9 {
        bot.play(guild, "song", json!({}));
    }
    first.die(Close::Fin);
    assert_eq!(bot.rest("GET", "/players", "").text(), "{}");
    assert!(bot.is_open());
    let requests = second.requests();
    assert_eq!(requests.iter().filter(|request| request.starts_with("GET /v4/websocket")).count(), 1, "{requests:?}");
    let made: BTreeSet<_> = requests.into_iter().filter(|request| request.starts_with("PATCH ")).collect();
    assert_eq!(made.len(), 9, "{made:?}");
}

#[test]
fn the_only_player_is_dropped_when_its_replay_is_never_answered() {
    let second = second_node(|client, request| match request.contains("/players/1 ") {
        true => client.rest_or_error().1.is_some(),
        false => client.try_send(&ok("{}")).is_ok(),
    });
    let (first, _proxy, bot) = bot_before(&second);
    bot.play(1, "song", json!({}));
    first.die(Close::Fin);
    assert_eq!(bot.rest("GET", "/players", "").text(), "{}");
    assert!(bot.is_open());
    let is_of = |request: &&String| request.contains("/players/1 ");
    assert_eq!(second.requests().iter().filter(is_of).count(), 1, "{:?}", second.requests());
}

#[test]
fn a_next_node_that_answers_nothing_leaves_the_third_one() {
    let second = second_node(|client, _| client.rest_or_error().1.is_some());
    let nodes = Nodes::start(V4, &["eu1", "eu3"]);
    nodes.named("eu3").report_load(Some(lavaproxy::demo::ReportedLoad { playing_players: 500, ..nodes::IDLE }));
    let address = |name: &str| nodes.named(name).address();
    let list = list(&[("eu1", address("eu1")), ("eu2", second.address()), ("eu3", address("eu3"))]);
    let proxy = nodes::proxy(V4, &list, &[]);
    nodes::wait_for_state(nodes::web(&proxy), "eu3", "up");
    let bot = Musician::open(proxy.address(), V4, "Lavalink-Node: eu1\r\n");
    bot.play(1, "song", json!({}));
    nodes.named("eu1").die(Close::Fin);
    eventually_within(Duration::from_secs(60), "eu3 has the session", || nodes.named("eu3").sessions() == 1);
    assert_eq!(bot.player(1)["track"]["info"]["identifier"], "song");
    assert!(bot.is_open() && second.requests().iter().any(|request| request.contains("/players/1 ")));
}
