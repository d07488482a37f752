//! WebSockets after the handshake: messages, resuming, stops.
use super::*;
use crate::demo::behaviour::Behaviour;
use crate::demo::frames::{BINARY, CLOSE, PING, TEXT, closing, frame};
use crate::demo::players::{Playing, Voice};
use crate::demo::session::{Outbox, Session};
use crate::demo::track::Track;
use crate::demo::wire::Wire;
use serde_json::{Value, json};
use std::sync::Arc;

pub(super) const KEY: &str = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
pub(super) const UPGRADE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n";

pub(super) fn auth() -> String {
    format!("Authorization: {PASSWORD}\r\n")
}

pub(super) fn path(version: Lavalink) -> String {
    format!("/{}/websocket", version.name())
}

impl Raw {
    pub(super) fn handshake(&mut self, version: Lavalink, more: &str) -> String {
        let target = path(version);
        self.send(&format!("GET {target} HTTP/1.1\r\nHost: a\r\n{}User-Id: 1\r\n{UPGRADE}{KEY}{more}\r\n", auth()));
        self.head()
    }

    /// A frame's first byte and its payload.
    pub(super) fn frame(&mut self) -> (u8, Vec<u8>) {
        let head = self.bytes(2);
        let length = match head[1] {
            126 => self.bytes(2).iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)),
            127 => panic!("too long for a test"),
            length => usize::from(length),
        };
        (head[0], self.bytes(length))
    }

    pub(super) fn message(&mut self) -> Value {
        let (first, payload) = self.frame();
        assert_eq!(first, 0x81, "{}", String::from_utf8_lossy(&payload));
        serde_json::from_slice(&payload).unwrap()
    }

    fn say(&mut self, opcode: u8, payload: &[u8]) {
        self.0.write_all(&frame(opcode, payload, true)).unwrap();
    }

    fn op(&mut self, op: &Value) {
        self.say(TEXT, op.to_string().as_bytes());
    }

    /// A pong proves that everything said before was dealt with.
    pub(super) fn ping(&mut self) {
        self.say(PING, b"marco");
        assert_eq!(self.frame(), (0x8a, b"marco".to_vec()));
    }
}

/// A client behind its handshake, with its session id; ready and stats were read.
pub(super) fn connected(node: &Node, version: Lavalink, more: &str) -> (Raw, String) {
    let mut client = Raw::new(node);
    let head = client.handshake(version, more);
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    let id = client.message()["sessionId"].as_str().unwrap().to_owned();
    assert_eq!(client.message()["op"], "stats");
    (client, id)
}

/// The op of a message, or the type of an event.
pub(super) fn kind(message: &Value) -> &str {
    message.get("type").unwrap_or(&message["op"]).as_str().unwrap()
}

/// Waits for what another thread is about to do.
pub(super) fn wait_for(what: impl Fn() -> bool) {
    let limit = std::time::Instant::now() + Duration::from_secs(60);
    while !what() {
        assert!(std::time::Instant::now() < limit);
        std::thread::yield_now();
    }
}

#[test]
fn frames_are_answered_as_undertow_does() {
    for version in BOTH {
        let node = node(version);
        let cases: [(Vec<u8>, Vec<u8>); 6] = [
            (frame(CLOSE, &closing(1000, "bye"), true), closing(1000, "bye")),
            (frame(BINARY, b"x", true), closing(1003, "Binary messages not supported")),
            (frame(TEXT, b"{}", false), closing(1002, "UT002034: Web socket frame was not masked")),
            (b"\x81\x81\0\0\0\0\xff".to_vec(), closing(1007, "UT002003: Text frame contains non UTF-8 data")),
            (b"\xc1\x80\0\0\0\0".to_vec(), closing(1002, "UT002015: Extensions not allowed but received rsv of 4")),
            (b"\x83\x80\0\0\0\0".to_vec(), closing(1002, "UT002009: Unexpected WebSocket frame opcode 3")),
        ];
        for (sent, answer) in cases {
            let (mut client, _) = connected(&node, version, "");
            client.ping();
            client.say(TEXT, &[b"{\"op\":\"".as_slice(), &[b'x'; 2 << 20], b"\"}"].concat());
            client.ping();
            client.0.write_all(&sent).unwrap();
            assert_eq!(client.frame(), (0x88, answer));
            assert!(client.is_at_end());
        }
        wait_for(|| node.sessions() == 0);
    }
}

#[test]
fn a_patch_plays_and_sends_events_before_its_answer() {
    for version in BOTH {
        let node = node(version);
        let (mut socket, id) = connected(&node, version, "");
        let mut rest = Raw::new(&node);
        let players = format!("/{}/sessions/{id}/players", version.name());
        let player = format!("{players}/1234567890123");
        rest.patch(&player, "{}");
        let (_, body) = rest.answer();
        let (start, end) = (
            r#"{"guildId":"1234567890123","track":null,"volume":100,"paused":false,"#,
            match version {
                Lavalink::V3 => {
                    r#""voice":{"token":"","endpoint":"","sessionId":"","connected":false,"ping":-1},"filters":{}}"#
                }
                Lavalink::V4 => {
                    r#""position":0,"connected":false,"ping":-1},"voice":{"token":"","endpoint":"","sessionId":"","channelId":null},"filters":{}}"#
                }
            },
        );
        assert!(body.starts_with(start) && body.ends_with(end), "{body}");

        let track = Track { title: "A".into(), length: 9000, source: "youtube".into(), ..Track::default() };
        let encoded = track.encode(version);
        let play = match version {
            Lavalink::V3 => json!({ "encodedTrack": encoded }),
            Lavalink::V4 => json!({ "track": { "encoded": encoded, "userData": { "by": "me" } } }),
        };
        for (target, kinds) in [
            (player.clone(), vec!["playerUpdate", "TrackStartEvent", "playerUpdate"]),
            (format!("{player}?noReplace=true"), vec![]),
            (player.clone(), vec!["TrackEndEvent", "playerUpdate", "TrackStartEvent", "playerUpdate"]),
        ] {
            rest.patch(&target, &play.to_string());
            assert_eq!(rest.json()["track"]["encoded"], encoded);
            for kind in kinds {
                let message = socket.message();
                assert_eq!(message.get("type").unwrap_or(&message["op"]), kind, "{message}");
                assert_eq!(message["guildId"], "1234567890123");
                if kind == "TrackEndEvent" {
                    let reason = if version == Lavalink::V3 { "REPLACED" } else { "replaced" };
                    assert_eq!(message["reason"], reason);
                }
                if kind == "TrackStartEvent" && version == Lavalink::V4 {
                    assert_eq!(message["track"]["userData"], json!({ "by": "me" }));
                }
            }
            socket.ping();
        }
        rest.ask("GET", &players);
        assert_eq!(rest.json()[0]["guildId"], "1234567890123");
        rest.ask("GET", &format!("{players}/1"));
        assert_eq!(rest.status(), 404);
        rest.ask("GET", &format!("{players}/x"));
        assert_eq!(rest.status(), 400);
        rest.ask("DELETE", &player);
        let number = &version.name()[1..];
        assert_eq!(rest.head(), format!("HTTP/1.1 204 No Content\r\nLavalink-Api-Version: {number}\r\n\r\n"));
        assert_eq!(socket.message()["type"], "TrackEndEvent");
        rest.ask("DELETE", &player);
        assert_eq!(rest.status(), 204);
        for (body, status) in [
            ("", 400),
            ("[", 400),
            (r#"{"volume":"loud"}"#, 400),
            (r#"{"voice":{"token":"t","endpoint":"","sessionId":"s"}}"#, 400),
            (r#"{"encodedTrack":"x","identifier":"y"}"#, 400),
            (r#"{"encodedTrack":"x"}"#, 500),
            (r#"{"identifier":"none"}"#, 500),
        ] {
            rest.patch(&player, body);
            assert_eq!(rest.status(), status, "{body}");
        }
    }
}

#[test]
fn a_track_with_a_voice_server_moves_and_finishes() {
    let node = node(Lavalink::V4);
    let (mut socket, id) = connected(&node, Lavalink::V4, "");
    let mut rest = Raw::new(&node);
    let track = Track { length: 60, source: "youtube".into(), ..Track::default() }.encode(Lavalink::V4);
    let update = json!({
        "track": { "encoded": track },
        "voice": { "token": "t", "endpoint": "e", "sessionId": "s", "channelId": "7" },
    });
    rest.patch(&format!("/v4/sessions/{id}/players/1"), &update.to_string());
    let player = rest.json();
    assert_eq!((&player["state"]["connected"], &player["voice"]["channelId"]), (&true.into(), &"7".into()));
    let ended = std::iter::repeat_with(|| socket.message()).find(|message| message["type"] == "TrackEndEvent").unwrap();
    assert_eq!(ended["reason"], "finished");
}

#[test]
fn a_session_is_resumed_by_its_key_once_its_socket_is_gone() {
    for version in BOTH {
        let node = node(version);
        let (socket, id) = connected(&node, version, "");
        let mut rest = Raw::new(&node);
        let session = format!("/{}/sessions/{id}", version.name());
        let (update, key) = match version {
            Lavalink::V3 => (r#"{"resumingKey":"my-key-1","timeout":10}"#, "Resume-Key: my-key-1\r\n".to_owned()),
            Lavalink::V4 => (r#"{"resuming":true,"timeout":10}"#, format!("Session-Id: {id}\r\n")),
        };
        rest.patch(&session, "{}");
        let plain = match version {
            Lavalink::V3 => r#"{"resumingKey":null,"timeout":60}"#,
            Lavalink::V4 => r#"{"resuming":false,"timeout":60}"#,
        };
        assert_eq!(rest.answer().1, plain);
        rest.patch(&session, update);
        assert_eq!(rest.answer().1, update);
        let track = Track { length: 150_000, source: "youtube".into(), ..Track::default() }.encode(version);
        let voice = r#"{"token":"t","endpoint":"e","sessionId":"s"}"#;
        rest.patch(&format!("{session}/players/5"), &format!(r#"{{"encodedTrack":"{track}","voice":{voice}}}"#));
        assert_eq!(rest.status(), 200);

        // A session that is still connected cannot be taken over.
        let (other, other_id) = connected(&node, version, &key);
        assert_ne!(other_id, id);
        drop((other, socket));
        wait_for(|| node.sessions() == 1);
        wait_for(|| rest_status(&node, &format!("{session}/players")) == 404);

        let mut client = Raw::new(&node);
        assert!(client.handshake(version, &key).contains("Session-Resumed: true\r\n"));
        let ready = client.message();
        assert_eq!((&ready["resumed"], &ready["sessionId"]), (&true.into(), &id.as_str().into()));
        while kind(&client.message()) != "playerUpdate" {}
        client.ping();
    }
}

#[test]
fn a_resumed_session_gets_what_it_missed_and_its_positions() {
    for version in BOTH {
        let now = std::time::Instant::now();
        let after = |seconds| now + Duration::from_secs(seconds);
        let mut session = Session::new("id".to_owned(), version, outbox().0, now);
        session.resume_key = Some("id".to_owned());
        let track = Track { length: 10_000, ..Track::default() };
        let playing = Playing { encoded: track.encode(version), track, user_data: json!({}), end: None };
        session.player(1, now).set_voice(version, Voice::default(), now);
        session.finish_voice(1, now);
        session.play(1, Some(playing.clone()), false, now);
        session.play(2, Some(playing), false, now);
        assert!(session.park(now));
        // What was sent before went to the socket that is gone. No positions are kept, but what ended and the stats of each minute are.
        for seconds in [5, 10, 15, 60] {
            session.tick(after(seconds), r#"{"op":"stats"}"#);
        }
        let (outbox, mut client) = outbox();
        session.resume(outbox, after(61));
        session.outbox.iter().for_each(|outbox| outbox.flush());
        let messages = [(); 5].map(|()| client.message());
        let kinds = messages.each_ref().map(kind);
        assert_eq!(kinds, ["ready", "TrackEndEvent", "stats", "playerUpdate", "playerUpdate"]);
        assert_eq!((&messages[0]["resumed"], &messages[0]["sessionId"]), (&true.into(), &"id".into()));
        assert_eq!(messages[1]["guildId"], "1");
    }
}

/// An outbox and the client that reads what it sends.
fn outbox() -> (Arc<Outbox>, Raw) {
    let (wire, client) = wire();
    (Arc::new(Outbox::new(&wire)), client)
}

/// An accepted socket and its client.
pub(super) fn wire() -> (Arc<Wire>, Raw) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let wire = Wire::new(listener.accept().unwrap().0, &Arc::new(Behaviour::new())).unwrap();
    (Arc::new(wire), Raw(client))
}

pub(super) fn rest_status(node: &Node, target: &str) -> u16 {
    let mut client = Raw::new(node);
    client.ask("GET", target);
    client.status()
}

#[test]
fn sessions_that_wait_end_in_time() {
    let node = node(Lavalink::V3);
    let (mut socket, _) = connected(&node, Lavalink::V3, "");
    socket.op(&json!({ "op": "configureResuming", "key": "k", "timeout": 1 }));
    socket.ping();
    drop(socket);
    wait_for(|| node.sessions() == 0);
    let (_, _) = connected(&node, Lavalink::V3, "Resume-Key: k\r\n");
}

#[test]
fn v3_takes_its_ops_over_the_socket() {
    let node = node(Lavalink::V3);
    let (mut socket, id) = connected(&node, Lavalink::V3, "");
    let track = Track { length: 9000, source: "youtube".into(), ..Track::default() }.encode(Lavalink::V3);
    let guild = "1";
    let steps = [
        (json!({ "op": "nonsense" }), vec![]),
        (
            json!({ "op": "voiceUpdate", "guildId": guild, "sessionId": "s", "event": { "endpoint": "e", "token": "t" } }),
            vec!["playerUpdate"],
        ),
        (
            json!({ "op": "play", "guildId": guild, "track": track, "startTime": "10", "volume": 50 }),
            vec!["playerUpdate", "TrackStartEvent", "playerUpdate"],
        ),
        (json!({ "op": "play", "guildId": guild, "track": track, "noReplace": true }), vec![]),
        (json!({ "op": "pause", "guildId": guild, "pause": true }), vec!["playerUpdate"]),
        (json!({ "op": "seek", "guildId": guild, "position": 77 }), vec!["playerUpdate"]),
        (json!({ "op": "filters", "guildId": guild, "timescale": { "speed": 2 } }), vec!["playerUpdate"]),
        (json!({ "op": "volume", "guildId": guild, "volume": 30 }), vec![]),
    ];
    for (op, kinds) in steps {
        socket.op(&op);
        for expected in kinds {
            assert_eq!(kind(&socket.message()), expected, "{op}");
        }
        socket.ping();
    }
    let mut rest = Raw::new(&node);
    rest.ask("GET", &format!("/v3/sessions/{id}/players/{guild}"));
    let player = rest.json();
    assert_eq!((&player["volume"], &player["paused"]), (&30.into(), &true.into()));
    assert_eq!(player["filters"], json!({ "timescale": { "speed": 2 } }));
    assert_eq!(player["voice"]["connected"], true);
    socket.op(&json!({ "op": "destroy", "guildId": guild }));
    let ended = socket.message();
    assert_eq!((kind(&ended), &ended["reason"]), ("TrackEndEvent", &"STOPPED".into()));
    assert_eq!([(); 2].map(|()| kind(&socket.message()).to_owned()), ["WebSocketClosedEvent", "playerUpdate"]);
    for bad in [json!({}), json!({ "op": "play", "guildId": guild, "track": "bad" })] {
        let (mut client, _) = connected(&node, Lavalink::V3, "");
        client.op(&bad);
        assert_eq!(client.frame(), (0x88, closing(1011, "")));
    }
}

#[test]
fn a_stop_closes_with_a_frame_in_v4_and_without_in_v3() {
    for version in BOTH {
        let node = node(version);
        let (mut socket, _) = connected(&node, version, "");
        node.stop();
        let mut rest = Vec::new();
        socket.0.read_to_end(&mut rest).unwrap();
        assert_eq!(rest, if version == Lavalink::V4 { b"\x88\x02\x03\xe9".to_vec() } else { Vec::new() });
    }
}
