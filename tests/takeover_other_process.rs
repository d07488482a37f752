//! A bot resumes its session through a lavaproxy that did not see it open, and then its node dies.
//!
//! A process of its own, since it keeps all log lines.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/logged.rs"]
mod logged;
#[path = "support/music.rs"]
mod music;
#[path = "support/nodes.rs"]
mod nodes;
#[path = "support/process.rs"]
mod process;
mod support;

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use lavaproxy::config::Lavalink::{self, V3, V4};
use lavaproxy::demo::Close;
use logged::{lines, logged};
use music::{Musician, VOICE_TOKEN, await_sessions, is_event, listen_for, position};
use nodes::{FakeNode, Nodes, list, ok, text_frame};
use process::{Running, Stray, value};
use serde_json::{Value, json};
use support::{PASSWORD, eventually};

const SWITCHING: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
const SLACK: u64 = 1500;

/// What the bot has set, and when.
struct Set {
    session: &'static str,
    field: String,
    playing: Value,
    paused: Value,
    since: Instant,
}

/// A playing and a paused player, in a session that can be resumed.
fn play(bot: &Musician) -> Set {
    let (session, field) = match bot.version {
        V3 => (r#"{"resumingKey":"my-key","timeout":77}"#, "Resume-Key: my-key\r\n".to_owned()),
        V4 => (r#"{"resuming":true,"timeout":77}"#, format!("Session-Id: {}\r\n", bot.id)),
    };
    assert_eq!(bot.rest("PATCH", "", session).status, 200);
    let since = Instant::now();
    bot.play(1, "song", json!({"position": 30_000, "volume": 42, "filters": {"timescale": {"speed": 1.0}}}));
    bot.play(2, "paused", json!({"position": 50_000}));
    listen_for(Duration::from_millis(300));
    assert_eq!(bot.patch(2, "", &json!({"paused": true})).status, 200);
    Set { session, field, playing: bot.player(1), paused: bot.player(2), since }
}

fn place(player: &Value, version: Lavalink) -> u64 {
    let place = match version {
        V3 => player["track"]["info"]["position"].as_i64().unwrap(),
        V4 => position(player),
    };
    u64::try_from(place).unwrap()
}

/// Both players are at the present node as they were set, and the bot has heard nothing of it.
fn has_gone_on(bot: &Musician, set: &Set, heard: usize) {
    bot.ping("alive");
    let (playing, paused) = (bot.player(1), bot.player(2));
    for (now, before) in [(&playing, &set.playing), (&paused, &set.paused)] {
        for field in ["volume", "paused", "filters"] {
            assert_eq!(now[field], before[field], "{field}");
        }
        assert_eq!(now["voice"]["token"], VOICE_TOKEN);
        for field in ["identifier", "sourceName", "title"] {
            assert_eq!(now["track"]["info"][field], before["track"]["info"][field], "{field}");
        }
        assert_eq!(now["track"]["userData"], before["track"]["userData"]);
    }
    let expected = 30_000 + u64::try_from(set.since.elapsed().as_millis()).unwrap();
    assert!(place(&playing, bot.version).abs_diff(expected) <= SLACK, "{playing} instead of {expected}");
    assert_eq!(bot.rest("PATCH", "", "{}").json(), serde_json::from_str::<Value>(set.session).unwrap());
    // The paused player goes on at its place.
    let resumed = Instant::now();
    let count = bot.count();
    assert_eq!(bot.patch(2, "", &json!({"paused": false})).status, 200);
    let later = bot.await_message(count, "its position", |message| {
        message["op"] == "playerUpdate" && message["guildId"] == "2" && position(message) > 0
    });
    let expected = place(&set.paused, bot.version) + u64::try_from(resumed.elapsed().as_millis()).unwrap();
    let now = u64::try_from(position(&later)).unwrap();
    assert!(expected >= 50_000 && now.abs_diff(expected) <= SLACK, "{later} instead of {expected}");
    for message in bot.since(heard) {
        assert!(message["op"] != "ready" && !is_event(&message, "TrackStartEvent"), "{message}");
    }
    assert!(bot.is_open());
}

#[test]
fn players_go_on_after_a_resume_through_another_lavaproxy() {
    lines();
    for version in [V4, V3] {
        let nodes = Nodes::start(version, &["eu1", "eu2"]);
        let [first, second] = [(); 2].map(|()| nodes.proxy(&[]));
        let bot = Musician::open(first.address(), version, "Lavalink-Node: eu1\r\n");
        let set = play(&bot);
        drop(first);
        bot.await_end();
        // v3's key alone does not say which node has its session.
        let field = format!("{}Lavalink-Node: eu1\r\n", set.field);
        let again = Musician::open(second.address(), version, &field);
        let own_id = again.id.rsplit('.').next().unwrap();
        eventually("the players are known", || logged(&["event=session-known", own_id, "players=2"]) == 1);
        let heard = again.count();
        nodes.named("eu1").die(Close::Fin);
        await_sessions(nodes.named("eu2"), 1);
        has_gone_on(&again, &set, heard);
    }
    assert!(!lines().iter().any(|line| line.contains(VOICE_TOKEN) || line.contains("my-key")));
}

#[test]
fn players_go_on_after_an_upgrade() {
    let nodes = Nodes::start(V4, &["eu1", "eu2"]);
    let (list, password) = (nodes.list(), ("PROXY_PASSWORD", PASSWORD));
    let set = [
        ("LAVALINK_V4_NODES", list.as_str()),
        ("LAVALINK_V4_PASSWORD", PASSWORD),
        ("DRAIN_TIMEOUT", "0s"),
        ("HEALTH_INTERVAL", "10s"),
        password,
    ];
    let mut running = Running::start(&set);
    let proxy = running.listener("proxy");
    running.listener("web");
    let bot = Musician::open(proxy, V4, "Lavalink-Node: eu1\r\n");
    let set = play(&bot);
    running.signal("USR2");
    let _successor = Stray(value(&running.line(&["event=upgraded "]), "successor").parse().unwrap());
    bot.await_end();
    let mut again = None;
    eventually("the node has seen the end of the WebSocket", || {
        again = Some(Musician::open(proxy, V4, &set.field)).filter(|again| again.id == bot.id);
        again.is_some()
    });
    let again = again.unwrap();
    running.line(&["event=session-known ", "players=2"]);
    let heard = again.count();
    nodes.named("eu1").die(Close::Fin);
    await_sessions(nodes.named("eu2"), 1);
    has_gone_on(&again, &set, heard);
}

/// The threads that ask nodes for players.
fn asking_threads() -> usize {
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    let names = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.filter(|name| name.trim() == "players").count()
}

#[test]
fn few_threads_ask_about_many_sessions() {
    const BOTS: usize = 40;
    /// Up to 16 are these sessions', the others those of the tests that run at the same time.
    const MOST: usize = 24;
    lines();
    let nodes = Nodes::start(V4, &["eu1", "eu2"]);
    let [first, second] = [(); 2].map(|()| nodes.proxy(&[]));
    let resume = || {
        let bot = Musician::open(first.address(), V4, "Lavalink-Node: eu1\r\n");
        assert_eq!(bot.rest("PATCH", "", r#"{"resuming":true,"timeout":77}"#).status, 200);
        bot
    };
    let bots: Vec<_> = (0..BOTS).map(|_| resume()).collect();
    drop(first);
    for bot in &bots {
        bot.await_end();
    }
    nodes.named("eu1").slow_down(Duration::from_millis(500));
    let again: Vec<_> = thread::scope(|scope| {
        let resume = |bot: &Musician| Musician::open(second.address(), V4, &format!("Session-Id: {}\r\n", bot.id));
        let opening: Vec<_> = bots.iter().map(|bot| scope.spawn(move || resume(bot))).collect();
        opening.into_iter().map(|opened| opened.join().unwrap()).collect()
    });
    let own_ids: Vec<_> = again.iter().map(|bot| bot.id.rsplit('.').next().unwrap()).collect();
    eventually("all players are known", || {
        assert!(asking_threads() <= MOST);
        own_ids.iter().all(|id| logged(&["event=session-known", id, "players=0"]) == 1)
    });
}

#[test]
fn a_session_that_leaves_again_before_its_players_are_known_is_asked_about_again() {
    lines();
    let nodes = Nodes::start(V4, &["eu1", "eu2"]);
    let [first, second] = [(); 2].map(|()| nodes.proxy(&[]));
    let bot = Musician::open(first.address(), V4, "Lavalink-Node: eu1\r\n");
    let set = play(&bot);
    drop(first);
    bot.await_end();
    for _ in 0..3 {
        let again = Musician::open(second.address(), V4, &set.field);
        again.half_close();
        again.await_end();
    }
    let again = Musician::open(second.address(), V4, &set.field);
    let own_id = again.id.rsplit('.').next().unwrap();
    eventually("the players are known", || logged(&["event=session-known", own_id, "players=2"]) > 0);
    let heard = again.count();
    nodes.named("eu1").die(Close::Fin);
    await_sessions(nodes.named("eu2"), 1);
    has_gone_on(&again, &set, heard);
}

/// A node with a session that was resumed. It answers the list of its players with these bytes, or never.
fn node_with(id: &str, list: Option<Vec<u8>>) -> (FakeNode, Arc<AtomicBool>) {
    let ready = text_frame(&format!(r#"{{"op":"ready","resumed":true,"sessionId":"{id}"}}"#));
    let dies = Arc::new(AtomicBool::new(false));
    let own = Arc::clone(&dies);
    let node = FakeNode::start(move |client, request| {
        let answer = match request {
            request if request.starts_with(b"PATCH ") => ok(r#"{"resuming":true,"timeout":60}"#),
            request if request.starts_with(b"GET /v4/sessions/") => match &list {
                Some(list) => list.clone(),
                None => return client.rest_or_error().1.is_none(),
            },
            _ => {
                let _ = client.try_send(&[SWITCHING, &ready].concat());
                eventually("it dies", || own.load(SeqCst));
                return false;
            }
        };
        client.try_send(&answer).is_ok() && !answer.windows(5).any(|word| word == b"close")
    });
    (node, dies)
}

#[test]
fn a_session_whose_node_does_not_tell_its_players_ends_with_its_node() {
    lines();
    let error = |status: &str| Some(format!("HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\n{{}}").into_bytes());
    let player = |data: &str| {
        let voice = r#"{"token":"","endpoint":"","sessionId":""}"#;
        ok(&format!(
            r#"[{{"guildId":"1","track":null,"volume":1,"paused":false,"voice":{voice},"filters":{{"x":"{data}"}}}}]"#
        ))
    };
    let endless = [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n40000\r\n".to_vec(), vec![b' '; 0x40000]];
    let cases = [
        ("missing", error("404 Not Found"), "answers 404"),
        ("failing", error("500 Internal Server Error"), "answers 500"),
        ("garbage", Some(ok("<html>")), "not understood"),
        ("noplayer", Some(ok(r#"[{"guildId":"x"}]"#)), "not understood"),
        ("cut", Some(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\nConnection: close\r\n\r\n[]".to_vec()), "breaks off"),
        ("large", Some(player(&"x".repeat(65 * 1024))), "over 64 KiB"),
        ("huge", Some(endless.concat()), "SESSION_MEMORY is used up"),
        ("never", None, "does not answer"),
    ];
    let second = Nodes::start(V4, &["eu2"]);
    for (id, answer, why) in cases {
        let (first, dies) = node_with(id, answer);
        let list = list(&[("eu1", first.address()), ("eu2", second.named("eu2").address())]);
        let proxy = nodes::proxy(V4, &list, &[("SESSION_MEMORY", "128KiB")]);
        let bot = Musician::open(proxy.address(), V4, &format!("Session-Id: eu1.{id}\r\n"));
        let session = format!("session={id} ");
        eventually(id, || logged(&["event=session-not-kept", &session, why]) == 1);
        assert!(bot.is_open());
        dies.store(true, SeqCst);
        bot.await_end();
        assert_eq!(second.named("eu2").sessions(), 0, "{id}");
    }
}

/// What a node with a resumed session waits for before it answers, and what it was asked.
#[derive(Default)]
struct Gates {
    list_asked: AtomicBool,
    list_goes: AtomicBool,
    patch_asked: AtomicBool,
    patch_goes: AtomicBool,
    dies: AtomicBool,
}

fn await_set(what: &str, flag: &AtomicBool) {
    eventually(what, || flag.load(SeqCst));
}

/// A node with a session that was resumed and has these players. It answers a PATCH of player 1 with `patched`.
fn node_behind(gates: &Arc<Gates>, id: &str, players: &Value, patched: &Value) -> FakeNode {
    let ready = text_frame(&format!(r#"{{"op":"ready","resumed":true,"sessionId":"{id}"}}"#));
    let (list, patched, session) = (players.to_string(), patched.to_string(), format!("/v4/sessions/{id}"));
    let gates = Arc::clone(gates);
    FakeNode::start(move |client, request| {
        let head = String::from_utf8_lossy(request);
        let mut words = head.split(' ');
        let target = (words.next().unwrap(), words.next().unwrap().strip_prefix(session.as_str()));
        let answer = match target {
            ("PATCH", Some("")) => ok(r#"{"resuming":true,"timeout":60}"#),
            ("GET", Some("/players")) => {
                gates.list_asked.store(true, SeqCst);
                await_set("the list may go", &gates.list_goes);
                ok(&list)
            }
            ("PATCH", Some("/players/1")) => {
                gates.patch_asked.store(true, SeqCst);
                await_set("the answer to the PATCH may go", &gates.patch_goes);
                ok(&patched)
            }
            ("DELETE", Some("/players/2")) => b"HTTP/1.1 204 No Content\r\n\r\n".to_vec(),
            _ => {
                let _ = client.try_send(&[SWITCHING, &ready].concat());
                await_set("it dies", &gates.dies);
                return false;
            }
        };
        client.try_send(&answer).is_ok()
    })
}

/// A player as a node describes it.
fn player_that_plays() -> Value {
    let nodes = Nodes::start(V4, &["eu1"]);
    let proxy = nodes.proxy(&[]);
    let bot = Musician::open(proxy.address(), V4, "");
    bot.play(1, "song", json!({"position": 30_000, "volume": 42}))
}

#[test]
fn what_a_client_changes_while_its_players_are_asked_for_is_newer_than_the_list() {
    lines();
    let listed = player_that_plays();
    let of_guild = |guild: &str| {
        let mut player = listed.clone();
        player["guildId"] = guild.into();
        player
    };
    let players = json!([of_guild("1"), of_guild("2"), of_guild("3")]);
    let mut patched = of_guild("1");
    (patched["volume"], patched["paused"], patched["filters"]) = (7.into(), true.into(), json!({"volume": 0.5}));
    let change = json!({"volume": 7, "paused": true, "filters": {"volume": 0.5}});
    for (id, patch_first, known) in [("patchfirst", true, "players=2"), ("listfirst", false, "players=3")] {
        let (gates, second) = (Arc::new(Gates::default()), Nodes::start(V4, &["eu2"]));
        let first = node_behind(&gates, id, &players, &patched);
        let list = list(&[("eu1", first.address()), ("eu2", second.named("eu2").address())]);
        let proxy = nodes::proxy(V4, &list, &[]);
        let bot = Musician::open(proxy.address(), V4, &format!("Session-Id: eu1.{id}\r\n"));
        await_set("the node is asked for the players", &gates.list_asked);
        let session = format!("session={id} ");
        thread::scope(|scope| {
            let patch = scope.spawn(|| assert_eq!(bot.patch(1, "", &change).status, 200));
            await_set("the node has the PATCH", &gates.patch_asked);
            if patch_first {
                gates.patch_goes.store(true, SeqCst);
                patch.join().unwrap();
                assert_eq!(bot.rest("DELETE", "/players/2", "").status, 204);
            }
            gates.list_goes.store(true, SeqCst);
            eventually("the players are known", || logged(&["event=session-known", &session, known]) == 1);
            if !patch_first {
                gates.patch_goes.store(true, SeqCst);
            }
        });
        if !patch_first {
            assert_eq!(bot.rest("DELETE", "/players/2", "").status, 204);
        }
        gates.dies.store(true, SeqCst);
        await_sessions(second.named("eu2"), 1);
        bot.ping("alive");
        let (changed, unchanged) = (bot.player(1), bot.player(3));
        let values = |player: &Value| ["volume", "paused", "filters"].map(|name| player[name].clone());
        assert_eq!(values(&changed), values(&patched), "{id}");
        assert_eq!(values(&unchanged), values(&listed), "{id}");
        assert_eq!(bot.rest("GET", "/players/2", "").status, 404, "{id}");
        assert!(bot.is_open());
    }
}
