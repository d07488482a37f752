//! Moves on purpose: an operator empties a node that lives, and the bots do not notice.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/music.rs"]
mod music;
#[path = "support/nodes.rs"]
mod nodes;
mod support;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use lavaproxy::config::Lavalink::{V3, V4};
use lavaproxy::demo::Close;
use music::{Musician, await_sessions, is_event, listen_for, position};
use nodes::{FakeNode, Nodes, UNASKED, list, masked, ok, row, text_frame, two_nodes};
use serde_json::{Value, json};
use support::{Client, PATIENCE, Proxy, Response, SWITCHING, eventually};

/// `POST /api/nodes/NAME/drain?move=true`.
fn drain(web: SocketAddr, name: &str) -> u16 {
    let mut client = Client::connect(web);
    let target = format!("/api/nodes/{name}/drain?move=true");
    client.send(format!("POST {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").as_bytes());
    client.response().status
}

/// A lavaproxy that moves 20 sessions a second, before the node eu1 and this one, eu2, and its pages. Both are up.
fn before_both(nodes: &Nodes, second: &FakeNode) -> (Proxy, SocketAddr) {
    let both = list(&[("eu1", nodes.named("eu1").address()), ("eu2", second.address())]);
    let proxy = nodes::proxy(V4, &both, &[("MOVE_RATE", "20")]);
    let web = nodes::web(&proxy);
    nodes::wait_for_state(web, "eu2", "up");
    (proxy, web)
}

fn hears_nothing_of_it(messages: &[Value], least: i64) {
    for message in messages {
        assert!(message["op"] != "ready" && message["op"] != "stats" && message["op"] != "event", "{message}");
        assert!(message["op"] != "playerUpdate" || position(message) >= least, "{message}");
    }
}

#[test]
fn a_drain_moves_the_sessions_with_their_players() {
    for version in [V4, V3] {
        let (nodes, proxy, web) = two_nodes(version, "20");
        let bots: Vec<_> = (0..5).map(|_| Musician::open(proxy.address(), version, "Lavalink-Node: eu1\r\n")).collect();
        let mut heard = Vec::new();
        for (number, bot) in bots.iter().enumerate() {
            // A node keeps a session that can be resumed after its WebSocket has ended.
            if number % 2 == 0 {
                let key = format!("key-{number}");
                bot.rest("PATCH", "", &json!({"resuming": true, "resumingKey": key, "timeout": 600}).to_string());
            }
            for guild in 1..=3 {
                bot.play(guild, "song", json!({"position": 20_000, "volume": 30}));
            }
            heard.push(bot.count());
        }
        assert_eq!(drain(web, "eu1"), 200);
        await_sessions(nodes.named("eu2"), 5);
        eventually("all have moved", || row(web, "eu1")["moved"] == 5 && row(web, "eu1")["moving"] == false);
        await_sessions(nodes.named("eu1"), 0);
        assert_eq!((nodes.named("eu1").players(), nodes.named("eu2").players()), (0, 15));
        for (bot, heard) in bots.iter().zip(heard) {
            bot.ping("alive");
            let player = bot.player(2);
            assert_eq!(player["volume"], 30);
            hears_nothing_of_it(&bot.since(heard), 20_000);
            assert!(bot.is_open());
        }
        assert_eq!((&row(web, "eu1")["sessions"], &row(web, "eu2")["sessions"]), (&json!(0), &json!(5)));
        // The node can be stopped now.
        nodes.named("eu1").die(Close::Fin);
        bots.iter().for_each(|bot| bot.ping("still alive"));
    }
}

#[test]
fn a_session_stays_where_it_is_when_it_cannot_move() {
    let nodes = Nodes::start(V4, &["eu1"]);
    // It is in rotation, and refuses each handshake.
    let refusing = FakeNode::start(|client, _| {
        client.send(b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n");
        true
    });
    let (proxy, web) = before_both(&nodes, &refusing);
    let bot = Musician::open(proxy.address(), V4, "Lavalink-Node: eu1\r\n");
    bot.play(1, "song", json!({"position": 20_000}));
    let heard = bot.count();
    for times in 1..=2 {
        assert_eq!(drain(web, "eu1"), 200);
        eventually("it is tried three times", || {
            row(web, "eu1")["moving"] == false && refusing.requests().len() == times * 3
        });
        let now = row(web, "eu1");
        let figures = ["moved", "movesFailed", "sessions"].map(|name| &now[name]);
        assert_eq!(figures, [&json!(0), &json!(1), &json!(1)]);
        let failed = format!("lavaproxy_moves_total{{node=\"eu1\",result=\"failed\"}} {times}\n");
        assert!(nodes::metrics(web).contains(&failed));
    }
    bot.ping("alive");
    assert!(position(&bot.player(1)) >= 20_000);
    assert_eq!(nodes.named("eu1").players(), 1);
    hears_nothing_of_it(&bot.since(heard), 20_000);
    assert_eq!(bot.rest("DELETE", "/players/1", "").status, 204);
    bot.await_message(heard, "what the node says", |message| is_event(message, "TrackEndEvent"));
}

#[test]
fn a_session_does_not_move_to_a_node_that_refuses_all_its_players() {
    let nodes = Nodes::start(V4, &["eu1"]);
    let refusing = FakeNode::start(|client, request| {
        let ready = text_frame(r#"{"op":"ready","resumed":false,"sessionId":"second"}"#);
        let refused = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n";
        let answer = if request.starts_with(b"GET ") { [SWITCHING, &ready].concat() } else { refused.to_vec() };
        client.try_send(&answer).is_ok()
    });
    let (proxy, web) = before_both(&nodes, &refusing);
    let bot = Musician::open(proxy.address(), V4, "Lavalink-Node: eu1\r\n");
    assert_eq!(bot.rest("PATCH", "", r#"{"resuming":true,"timeout":60}"#).status, 200);
    bot.play(1, "song", json!({"position": 20_000}));
    assert_eq!(drain(web, "eu1"), 200);
    eventually("it has been tried", || row(web, "eu1")["movesFailed"] == 1);
    assert!(position(&bot.player(1)) >= 20_000, "the player plays on where it was");
    assert_eq!(nodes.named("eu1").players(), 1);
    // That node would keep the session for a client that never comes.
    assert!(!refusing.requests().iter().any(|request| request.starts_with("PATCH /v4/sessions/second HTTP")));
}

#[test]
fn a_node_that_breaks_off_in_a_move_leaves_the_stream_of_the_present_one_alone() {
    let close = |code: u16| [&[0x88, 2][..], &code.to_be_bytes()].concat();
    for (what, piece) in [
        ("a part of a frame", text_frame(&"x".repeat(200))[..50].to_vec()),
        ("a part of a large frame", [&[0x81, 127, 0, 0, 0, 0, 0, 1, 0, 1][..], b"begun"].concat()),
        ("a binary frame", b"\x82\x01x".to_vec()),
        ("a node that stops", close(1001)),
        ("a node in trouble", close(1011)),
        ("an end", close(1000)),
    ] {
        let nodes = Nodes::start(V4, &["eu1"]);
        let handshakes = AtomicUsize::new(0);
        let breaking = FakeNode::start(move |client, request| {
            if !request.starts_with(b"GET /v4/websocket") {
                return client.try_send(&ok("{}")).is_ok();
            }
            let ready = text_frame(r#"{"op":"ready","resumed":false,"sessionId":"second"}"#);
            if handshakes.fetch_add(1, SeqCst) < 3 {
                let _ = client.try_send(&[SWITCHING, &ready, &piece].concat());
                return false;
            }
            client.try_send(&[SWITCHING, &ready].concat()).is_ok() && client.rest_or_error().1.is_none()
        });
        let (proxy, web) = before_both(&nodes, &breaking);
        let bot = Musician::open(proxy.address(), V4, "Lavalink-Node: eu1\r\n");
        bot.play(1, "song", json!({"position": 20_000}));
        let heard = bot.count();
        assert_eq!(drain(web, "eu1"), 200);
        eventually(&format!("{what}: the moves have ended"), || row(web, "eu1")["moving"] == false);
        assert_eq!(row(web, "eu1")["movesFailed"], 1, "{what}");
        bot.ping("alive");
        assert!(position(&bot.player(1)) >= 20_000, "{what}");
        assert_eq!(nodes.named("eu1").sessions(), 1, "{what}");
        hears_nothing_of_it(&bot.since(heard), 20_000);
        bot.play(2, "another", json!({}));
        assert!(bot.is_open(), "{what}");
        assert_eq!(drain(web, "eu1"), 200);
        eventually(&format!("{what}: it moves"), || row(web, "eu1")["moved"] == 1);
        assert!(bot.is_open(), "{what}");
    }
}

/// A node whose sessions say these messages behind `ready`, and that answers each other request so, if at all.
fn node_that_says(messages: &[Value], answer: &[u8]) -> FakeNode {
    let ready = json!({"op": "ready", "resumed": false, "sessionId": "second"});
    let frames: Vec<u8> = [&ready].into_iter().chain(messages).flat_map(|text| text_frame(&text.to_string())).collect();
    let (opened, answer) = ([SWITCHING, &frames].concat(), answer.to_vec());
    FakeNode::start(move |client, request| {
        let is_handshake = request.starts_with(b"GET /v4/websocket");
        if client.try_send(if is_handshake { &opened } else { &answer }).is_err() {
            return false;
        }
        !is_handshake && !answer.is_empty() || client.rest_or_error().1.is_none()
    })
}

#[test]
fn a_bot_hears_the_new_node_once_its_session_has_moved_and_not_before() {
    let song = json!({"encoded": "x", "info": {"identifier": "song", "sourceName": "demo", "position": 0}});
    let end = json!({"op": "event", "type": "TrackEndEvent", "guildId": "1", "track": song, "reason": "loadFailed"});
    let exception = json!({"op": "event", "type": "TrackExceptionEvent", "guildId": "1", "track": song});
    let own = json!({"op": "event", "type": "Custom", "guildId": "1"});
    let much = json!({"op": "event", "type": "Custom", "text": "x".repeat(60_000)});
    let gone = b"HTTP/1.1 404 Not Found\r\nContent-Length: 17\r\n\r\nSession not found".to_vec();
    let (too_much, two) = (vec![much; 40], vec![exception, end]);
    for (moves, messages, answer) in [(false, two, gone), (false, too_much, Vec::new()), (true, vec![own], ok("{}"))] {
        let nodes = Nodes::start(V4, &["eu1"]);
        let second = node_that_says(&messages, &answer);
        let (proxy, web) = before_both(&nodes, &second);
        let bot = Musician::open(proxy.address(), V4, "Lavalink-Node: eu1\r\n");
        bot.play(1, "song", json!({"position": 20_000}));
        let heard = bot.count();
        assert_eq!(drain(web, "eu1"), 200);
        eventually("the moves have ended", || row(web, "eu1")["moving"] == false);
        let figures = ["moved", "movesFailed"].map(|name| row(web, "eu1")[name] == 1);
        assert_eq!(figures, [moves, !moves], "{}", messages[0]);
        if moves {
            bot.await_message(heard, "what the new node says", |message| is_event(message, "Custom"));
        } else {
            bot.ping("alive");
            hears_nothing_of_it(&bot.since(heard), 20_000);
            assert!(position(&bot.player(1)) >= 20_000);
        }
    }
}

/// A node whose first answers to handshakes are errors. Later sessions have no players.
fn node_that_refuses_first(count: usize) -> FakeNode {
    let handshakes = AtomicUsize::new(0);
    FakeNode::start(move |client, _| {
        if handshakes.fetch_add(1, SeqCst) < count {
            return client.try_send(b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n").is_ok();
        }
        client.send(&[SWITCHING, &text_frame(r#"{"op":"ready","resumed":false,"sessionId":"late"}"#)].concat());
        client.rest_or_error();
        false
    })
}

#[test]
fn a_session_that_moves_at_its_last_try_is_no_failure() {
    let nodes = Nodes::start(V4, &["eu1"]);
    let refusing = node_that_refuses_first(2);
    let (proxy, web) = before_both(&nodes, &refusing);
    let bot = Musician::open(proxy.address(), V4, "Lavalink-Node: eu1\r\n");
    assert_eq!(drain(web, "eu1"), 200);
    eventually("the moves have ended", || row(web, "eu1")["moving"] == false);
    let now = row(web, "eu1");
    let figures = ["moved", "movesFailed", "sessions"].map(|name| &now[name]);
    assert_eq!(figures, [&json!(1), &json!(0), &json!(0)]);
    assert_eq!(refusing.requests().len(), 3);
    assert!(nodes::metrics(web).contains("lavaproxy_moves_total{node=\"eu1\",result=\"failed\"} 0\n"));
    assert!(bot.is_open());
}

#[test]
fn a_session_whose_players_are_still_asked_for_moves_too() {
    let nodes = Nodes::start(V4, &["eu1", "eu2"]);
    let [first, second] = [(); 2].map(|()| nodes.proxy(&[("MOVE_RATE", "20")]));
    let web = nodes::web(&second);
    nodes::wait_for_state(web, "eu2", "up");
    let bot = Musician::open(first.address(), V4, "Lavalink-Node: eu1\r\n");
    assert_eq!(bot.rest("PATCH", "", r#"{"resuming":true,"timeout":77}"#).status, 200);
    bot.play(1, "song", json!({"position": 20_000, "volume": 30}));
    drop(first);
    bot.await_end();
    nodes.named("eu1").slow_down(Duration::from_secs(1));
    let again = Musician::open(second.address(), V4, &format!("Session-Id: {}\r\n", bot.id));
    assert_eq!(drain(web, "eu1"), 200);
    eventually("the moves have ended", || row(web, "eu1")["moving"] == false);
    let now = row(web, "eu1");
    let figures = ["moved", "movesFailed", "sessions"].map(|name| &now[name]);
    assert_eq!(figures, [&json!(1), &json!(0), &json!(0)]);
    assert_eq!((again.player(1)["volume"].clone(), nodes.named("eu2").players()), (json!(30), 1));
    assert!(again.is_open());
}

#[test]
fn requests_wait_for_the_move_and_the_move_for_them() {
    let (nodes, proxy, web) = two_nodes(V4, "20");
    let bot = Musician::open(proxy.address(), V4, "Lavalink-Node: eu1\r\n");
    bot.play(1, "song", json!({"volume": 1}));
    nodes.named("eu1").slow_down(Duration::from_millis(300));
    let last = thread::scope(|scope| {
        let requests = scope.spawn(|| {
            let until = Instant::now() + Duration::from_secs(2);
            let mut volume = 1;
            while Instant::now() < until {
                volume += 1;
                let answer = bot.patch(1, "", &json!({"volume": volume}));
                assert_eq!((answer.status, &answer.json()["volume"]), (200, &json!(volume)), "{}", answer.text());
            }
            volume
        });
        listen_for(Duration::from_millis(100));
        assert_eq!(drain(web, "eu1"), 200);
        requests.join().unwrap()
    });
    await_sessions(nodes.named("eu2"), 1);
    eventually("the move is counted", || row(web, "eu1")["moved"] == 1);
    assert_eq!(bot.player(1)["volume"], last);
    assert!(bot.is_open());
}

/// Drains eu1 while this request of a bot is under way there, and returns when the moves have ended.
fn drain_during(nodes: &Nodes, web: SocketAddr, request: impl FnOnce() -> Response + Send) {
    let before = nodes.named("eu1").counts().requests;
    thread::scope(|scope| {
        let answer = scope.spawn(request);
        eventually("the node has the request", || nodes.named("eu1").counts().requests > before);
        assert_eq!(drain(web, "eu1"), 200);
        assert_eq!(answer.join().unwrap().status, 200);
    });
    eventually("the moves have ended", || row(web, "eu1")["moving"] == false);
}

#[test]
fn a_move_that_fails_undoes_no_request_that_was_under_way() {
    let nodes = Nodes::start(V4, &["eu1"]);
    let refusing = node_that_refuses_first(3);
    let (proxy, web) = before_both(&nodes, &refusing);
    let bot = Musician::open(proxy.address(), V4, "Lavalink-Node: eu1\r\n");
    bot.play(1, "song", json!({"volume": 10}));
    nodes.named("eu1").slow_down(Duration::from_secs(1));
    drain_during(&nodes, web, || bot.patch(1, "", &json!({"volume": 77})));
    assert_eq!(row(web, "eu1")["movesFailed"], 1);
    nodes.named("eu1").die(Close::Fin);
    eventually("eu2 gets the player as it was answered", || {
        refusing.requests().iter().any(|request| request.contains("/players/1 ") && request.contains(r#""volume":77"#))
    });
}

/// The next frame of a client: its first byte and its payload. `None` at the end of the stream.
fn unmasked(client: &mut Client) -> Option<(u8, Vec<u8>)> {
    while client.pending.len() < 6 {
        client.try_fill()?;
    }
    let head = client.exactly(6);
    let payload = client.exactly(usize::from(head[1] & 0x7f));
    Some((head[0], payload.iter().zip(head[2..].iter().cycle()).map(|(byte, mask)| byte ^ mask).collect()))
}

/// A node that answers pings, and tells its load before it answers one that asks for it.
fn node_that_is_asked_for_stats() -> FakeNode {
    FakeNode::start(|client, _| {
        client.send(&[SWITCHING, &text_frame(r#"{"op":"ready","resumed":false,"sessionId":"first"}"#)].concat());
        while let Some((first, payload)) = unmasked(client) {
            if payload == b"stats?" {
                client.send(&text_frame(r#"{"op":"stats"}"#));
            }
            if first == 0x89 {
                client.send(&[&[0x8a, payload.len() as u8], &payload[..]].concat());
            }
        }
        false
    })
}

#[test]
fn the_stats_of_the_old_node_are_heard_after_a_move_that_has_failed() {
    let first = node_that_is_asked_for_stats();
    let second = FakeNode::start(|client, _| {
        let ready = text_frame(r#"{"op":"ready","resumed":false,"sessionId":"second"}"#);
        client.try_send(&[SWITCHING, &ready, &[0x88, 2, 3, 243]].concat()).is_err()
    });
    let both = list(&[("eu1", first.address()), ("eu2", second.address())]);
    let proxy = nodes::proxy(V4, &both, &[("MOVE_RATE", "20")]);
    let web = nodes::web(&proxy);
    nodes::wait_for_state(web, "eu2", "up");
    let bot = Musician::open(proxy.address(), V4, "Lavalink-Node: eu1\r\n");
    assert_eq!(drain(web, "eu1"), 200);
    eventually("the moves have ended", || row(web, "eu1")["moving"] == false);
    assert_eq!(row(web, "eu1")["movesFailed"], 1);
    bot.ping("stats?");
    assert_eq!(bot.since(0), [json!({"op": "stats"})]);
}

#[test]
fn resuming_that_is_set_as_the_move_begins_ends_on_the_old_node() {
    let (nodes, proxy, web) = two_nodes(V4, "20");
    let bot = Musician::open(proxy.address(), V4, "Lavalink-Node: eu1\r\n");
    bot.play(1, "song", json!({}));
    nodes.named("eu1").slow_down(Duration::from_secs(1));
    drain_during(&nodes, web, || bot.rest("PATCH", "", r#"{"resuming":true,"timeout":600}"#));
    assert_eq!(row(web, "eu1")["moved"], 1);
    await_sessions(nodes.named("eu1"), 0);
    assert_eq!((nodes.named("eu1").players(), nodes.named("eu2").players()), (0, 1));
}

#[test]
fn what_the_old_node_says_of_a_request_that_was_under_way_is_heard() {
    let (nodes, proxy, web) = two_nodes(V4, "20");
    let bot = Musician::open(proxy.address(), V4, "Lavalink-Node: eu1\r\n");
    bot.play(1, "song", json!({}));
    let heard = bot.count();
    // Only then it stops the track, and answers.
    nodes.named("eu1").set_voice_handshake(Duration::from_secs(1));
    let stop = json!({"track": {"encoded": null}, "voice": music::voice(2)});
    drain_during(&nodes, web, || bot.patch(1, "", &stop));
    assert_eq!(row(web, "eu1")["moved"], 1);
    let end = bot.await_message(heard, "the end", |message| is_event(message, "TrackEndEvent"));
    assert_eq!(end["reason"], "stopped");
    assert_eq!(bot.player(1)["track"], Value::Null);
    assert!(bot.is_open());
}

#[test]
fn a_node_whose_websocket_ends_as_it_gets_the_session_keeps_nothing() {
    let (sender, receiver) = mpsc::sync_channel::<()>(10);
    let (ends, has_player) = (Mutex::new(receiver), Mutex::new(None::<Instant>));
    let waits: Arc<Mutex<Vec<Duration>>> = Arc::default();
    let own = Arc::clone(&waits);
    let last = FakeNode::start(move |client, request| {
        let text = String::from_utf8_lossy(request);
        if text.starts_with("GET ") {
            client.send(&[SWITCHING, &text_frame(r#"{"op":"ready","resumed":false,"sessionId":"second"}"#)].concat());
            return ends.lock().unwrap().recv_timeout(PATIENCE).is_err();
        }
        if text.contains("/players/") {
            *has_player.lock().unwrap() = Some(Instant::now());
            return client.try_send(&ok("{}")).is_ok();
        }
        if text.contains(r#""resuming":false"#) {
            return client.try_send(&ok("{}")).is_ok();
        }
        own.lock().unwrap().push(has_player.lock().unwrap().expect("no player").elapsed());
        sender.send(()).unwrap();
        client.rest_or_error();
        false
    });
    let nodes = Nodes::start(V4, &["eu1"]);
    let (proxy, web) = before_both(&nodes, &last);
    let bot = Musician::open(proxy.address(), V4, "Lavalink-Node: eu1\r\n");
    assert_eq!(bot.rest("PATCH", "", r#"{"resuming":true,"timeout":600}"#).status, 200);
    bot.play(1, "song", json!({}));
    assert_eq!(drain(web, "eu1"), 200);
    eventually("the moves have ended", || row(web, "eu1")["moving"] == false);
    assert_eq!(row(web, "eu1")["movesFailed"], 1);
    for body in [r#"{"resuming":true,"timeout":600}"#, r#"{"resuming":false}"#] {
        let times = last.requests().iter().filter(|request| request.ends_with(body)).count();
        assert_eq!(times, 3, "{body}: {:?}", last.requests());
    }
    // It has had the time to say that the player has started.
    let waits = waits.lock().unwrap();
    assert!(waits.iter().all(|waited| *waited >= Duration::from_millis(500)), "{waits:?}");
    bot.ping("alive");
}

#[test]
fn an_old_node_that_does_not_answer_holds_nothing_up() {
    let nodes = Nodes::start(V4, &["eu1", "eu2"]);
    let proxy = nodes.proxy(&[("MOVE_RATE", "20"), UNASKED]);
    let web = nodes::web(&proxy);
    nodes::wait_for_state(web, "eu2", "up");
    let bot = Musician::open(proxy.address(), V4, "Lavalink-Node: eu1\r\n");
    bot.rest("PATCH", "", r#"{"resuming":true,"timeout":600}"#);
    bot.play(1, "song", json!({}));
    nodes.named("eu1").slow_down(Duration::from_secs(15));
    let begun = Instant::now();
    assert_eq!(drain(web, "eu1"), 200);
    eventually("it has moved", || row(web, "eu1")["moved"] == 1);
    bot.ping("from the new node");
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    await_sessions(nodes.named("eu1"), 0);
    assert_eq!(nodes.named("eu2").players(), 1);
}

#[test]
fn an_activation_stops_the_moves() {
    let (nodes, proxy, web) = two_nodes(V4, "1");
    let bots: Vec<_> = (0..20).map(|_| Musician::open(proxy.address(), V4, "Lavalink-Node: eu1\r\n")).collect();
    assert_eq!(drain(web, "eu1"), 200);
    eventually("one has moved", || nodes.named("eu2").sessions() > 0);
    assert_eq!(row(web, "eu1")["moving"], true);
    assert_eq!(nodes::act(web, "eu1", "activate", "").status, 200);
    eventually("the moves have ended", || row(web, "eu1")["moving"] == false);
    assert!(nodes.named("eu1").sessions() > 5);
    bots.iter().for_each(|bot| bot.ping("alive"));
}

#[test]
fn moves_wait_until_another_node_is_in_rotation() {
    let (nodes, proxy, web) = two_nodes(V4, "20");
    let bots: Vec<_> = (0..3).map(|_| Musician::open(proxy.address(), V4, "Lavalink-Node: eu1\r\n")).collect();
    assert_eq!(nodes::act(web, "eu2", "drain", "").status, 200);
    assert_eq!(drain(web, "eu1"), 200);
    eventually("the moves wait", || row(web, "eu1")["movesWaiting"] == true);
    // More than the time of three tries of each session.
    listen_for(Duration::from_secs(2));
    let waiting = row(web, "eu1");
    let figures = ["moving", "movesWaiting", "moved", "movesFailed", "sessions"].map(|name| &waiting[name]);
    assert_eq!(figures, [&json!(true), &json!(true), &json!(0), &json!(0), &json!(3)]);
    assert_eq!(nodes::act(web, "eu2", "activate", "").status, 200);
    await_sessions(nodes.named("eu2"), 3);
    eventually("the moves have ended", || row(web, "eu1")["moving"] == false);
    assert_eq!(row(web, "eu1")["movesWaiting"], false);
    bots.iter().for_each(|bot| bot.ping("alive"));
}

#[test]
fn a_drain_without_moves_stops_them_and_goes_on_draining() {
    let (nodes, proxy, web) = two_nodes(V4, "1");
    let bots: Vec<_> = (0..20).map(|_| Musician::open(proxy.address(), V4, "Lavalink-Node: eu1\r\n")).collect();
    assert_eq!(drain(web, "eu1"), 200);
    eventually("one has moved", || nodes.named("eu2").sessions() > 0);
    assert_eq!(nodes::act(web, "eu1", "drain", "").status, 200);
    eventually("the moves have ended", || row(web, "eu1")["moving"] == false);
    assert_eq!(row(web, "eu1")["draining"], true);
    assert!(nodes.named("eu1").sessions() > 5);
    bots.iter().for_each(|bot| bot.ping("alive"));
}

#[test]
fn a_client_frame_that_is_cut_in_two_by_a_move_arrives() {
    let frame = masked(0x89, b"in two pieces");
    for cut in [1, 3, 6, 10, frame.len() - 1] {
        let (nodes, proxy, web) = two_nodes(V4, "20");
        let bot = Musician::open(proxy.address(), V4, "Lavalink-Node: eu1\r\n");
        bot.send(&frame[..cut]);
        bot.rest("GET", "/players", "");
        assert_eq!(drain(web, "eu1"), 200);
        listen_for(Duration::from_millis(200));
        bot.send(&frame[cut..]);
        bot.await_pong("in two pieces");
        await_sessions(nodes.named("eu2"), 1);
        bot.ping("and the next");
    }
}

#[test]
fn without_takeovers_nothing_moves() {
    let nodes = Nodes::start(V4, &["eu1", "eu2"]);
    let proxy = nodes.proxy(&[("SESSION_TAKEOVER", "off")]);
    assert_eq!(drain(nodes::web(&proxy), "eu1"), 400);
    assert_eq!(row(nodes::web(&proxy), "eu1")["draining"], false);
}
