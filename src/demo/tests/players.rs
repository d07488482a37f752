//! What players send and answer while they are started, sought, paused, replayed and removed.
use super::socket::{connected, kind};
use super::*;
use crate::demo::players::{Player, Playing};
use crate::demo::track::Track;
use serde_json::{Value, json};
use std::time::Instant;

const LENGTH: i64 = 200_000;

fn track(length: i64) -> Track {
    Track { title: "A".into(), identifier: "a".into(), length, source: "youtube".into(), ..Track::default() }
}

/// A PATCH that starts a track, with more members.
fn start(version: Lavalink, length: i64, more: &Value) -> Value {
    let encoded = track(length).encode(version);
    let mut body = match version {
        Lavalink::V3 => json!({ "encodedTrack": encoded }),
        Lavalink::V4 => json!({ "track": { "encoded": encoded, "userData": { "by": "me" } } }),
    };
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

fn voice() -> Value {
    json!({ "token": "secret", "endpoint": "eu.discord.invalid", "sessionId": "s", "channelId": "7" })
}

fn path(version: Lavalink, id: &str) -> String {
    format!("/{}/sessions/{id}/players/1", version.name())
}

/// The position at the end of a serialised track.
fn encoded_position(encoded: &Value) -> i64 {
    Track::decode(encoded.as_str().unwrap()).unwrap().position
}

fn position(answer: &Value) -> i64 {
    answer["track"]["info"]["position"].as_i64().unwrap()
}

/// One session with its REST connection, and the path of its player.
fn session(node: &Node) -> (Raw, Raw, String) {
    let (socket, id) = connected(node, node.version(), "");
    (socket, Raw::new(node), path(node.version(), &id))
}

impl Raw {
    fn patched(&mut self, target: &str, body: &Value) -> Value {
        self.patch(target, &body.to_string());
        self.json()
    }

    fn got(&mut self, target: &str) -> Value {
        self.ask("GET", target);
        self.json()
    }

    fn messages<const N: usize>(&mut self, kinds: [&str; N]) -> [Value; N] {
        kinds.map(|expected| {
            let message = self.message();
            assert_eq!(kind(&message), expected, "{message}");
            message
        })
    }
}

#[test]
fn a_replayed_player_sends_three_updates_and_one_start_before_its_answer() {
    for version in BOTH {
        let node = node(version);
        let (mut socket, mut rest, player) = session(&node);
        let more = json!({
            "position": 61_000, "volume": 40, "paused": false, "voice": voice(), "filters": { "timescale": { "speed": 2 } },
            "endTime": 90_000,
        });
        let sent = start(version, LENGTH, &more);
        let answer = rest.patched(&player, &sent);
        let [first, second, started, third] =
            socket.messages(["playerUpdate", "playerUpdate", "TrackStartEvent", "playerUpdate"]);
        assert_eq!((&first["state"]["connected"], &first["state"]["position"]), (&false.into(), &0.into()));
        for update in [second, third] {
            assert_eq!(update["state"]["connected"], true);
            assert!(update["state"]["position"].as_i64().unwrap() >= 61_000);
        }
        match version {
            Lavalink::V3 => {
                assert_eq!(encoded_position(&started["encodedTrack"]), 61_000);
                assert_eq!(started["encodedTrack"], started["track"]);
            }
            Lavalink::V4 => {
                assert_eq!(started["track"]["info"]["position"], 61_000);
                assert_eq!(encoded_position(&started["track"]["encoded"]), 61_000);
                assert_eq!(started["track"]["userData"], json!({ "by": "me" }));
                assert_eq!(answer["track"]["userData"], json!({ "by": "me" }));
                assert_eq!(answer["state"]["position"], answer["track"]["info"]["position"]);
            }
        }
        assert!(position(&answer) >= 61_000);
        assert_eq!(encoded_position(&answer["track"]["encoded"]), position(&answer));
        assert_eq!((&answer["volume"], &answer["paused"]), (&40.into(), &false.into()));
        assert_eq!(answer["filters"], json!({ "timescale": { "speed": 2 } }));
        assert_eq!(answer.get("endTime"), None);
        socket.ping();
    }
}

#[test]
fn the_voice_is_kept_and_answered() {
    for version in BOTH {
        let node = node(version);
        let expected = match version {
            Lavalink::V3 => {
                json!({ "token": "secret", "endpoint": "eu.discord.invalid", "sessionId": "s", "connected": true, "ping": 12 })
            }
            Lavalink::V4 => voice(),
        };
        // A second session may use the same voice state.
        let sessions = [session(&node), session(&node)];
        for (mut socket, mut rest, player) in sessions {
            let answer = rest.patched(&player, &json!({ "voice": voice() }));
            assert_eq!(answer["voice"], expected);
            let [update] = socket.messages(["playerUpdate"]);
            assert_eq!(update["state"]["connected"], true);
            assert_eq!(rest.got(&player)["voice"], expected);
            socket.ping();
        }
    }
}

#[test]
fn a_voice_handshake_takes_its_time_once() {
    let node = node(Lavalink::V4);
    node.set_voice_handshake(Duration::from_millis(120));
    let (mut socket, mut rest, player) = session(&node);
    let before = Instant::now();
    let playing = start(Lavalink::V4, LENGTH, &json!({ "voice": voice() }));
    rest.patch(&player, &playing.to_string());
    let [update] = socket.messages(["playerUpdate"]);
    assert_eq!((&update["state"]["connected"], &update["state"]["position"]), (&false.into(), &0.into()));
    socket.messages(["playerUpdate", "TrackStartEvent", "playerUpdate"]);
    assert!(before.elapsed() >= Duration::from_millis(120));
    rest.json();
    node.set_voice_handshake(Duration::from_secs(600));
    assert_eq!(rest.patched(&player, &json!({ "voice": voice() }))["state"]["connected"], true);
    // Another voice server is a handshake again; a node that dies meanwhile leaves the request unanswered.
    rest.patch(&player, &json!({ "voice": { "token": "t", "endpoint": "e", "sessionId": "s" } }).to_string());
    super::socket::wait_for(|| node.counts().requests == 4);
    node.die(Close::Fin);
    assert!(rest.is_at_end());
}

#[test]
fn a_track_that_is_replayed_paused_reports_zero_and_resumes_where_it_was() {
    for version in BOTH {
        let node = node(version);
        let (mut socket, mut rest, player) = session(&node);
        let more = json!({ "position": 61_000, "paused": true, "voice": voice() });
        let answer = rest.patched(&player, &start(version, LENGTH, &more));
        let [_, second, started, third] =
            socket.messages(["playerUpdate", "playerUpdate", "TrackStartEvent", "playerUpdate"]);
        assert_eq!([&second, &third].map(|update| update["state"]["position"].as_i64()), [Some(0); 2]);
        if version == Lavalink::V4 {
            assert_eq!(started["track"]["info"]["position"], 61_000);
        }
        assert_eq!((position(&answer), &answer["paused"]), (0, &true.into()));
        let answer = rest.patched(&player, &json!({ "paused": false }));
        assert!(position(&answer) >= 61_000, "{answer}");
        socket.ping();
    }
}

#[test]
fn a_start_without_voice_reports_its_position_once() {
    let node = node(Lavalink::V4);
    let (mut socket, mut rest, player) = session(&node);
    let answer = rest.patched(&player, &start(Lavalink::V4, LENGTH, &json!({ "position": 61_000 })));
    let [first, started, second] = socket.messages(["playerUpdate", "TrackStartEvent", "playerUpdate"]);
    assert_eq!((&first["state"]["position"], &second["state"]["position"]), (&61_000.into(), &0.into()));
    assert_eq!(started["track"]["info"]["position"], 61_000);
    assert_eq!(position(&answer), 0);
    let answer = rest.patched(&player, &json!({ "voice": voice() }));
    assert!(position(&answer) >= 61_000);
}

#[test]
fn a_voice_handshake_is_ended_by_the_request_that_began_it() {
    let node = node(Lavalink::V4);
    node.set_voice_handshake(Duration::from_secs(600));
    let (mut socket, mut rest, player) = session(&node);
    let mut waiting = Raw::new(&node);
    waiting.patch(&player, &start(Lavalink::V4, LENGTH, &json!({ "voice": voice() })).to_string());
    socket.messages(["playerUpdate"]);
    let answer = rest.patched(&player, &json!({ "volume": 5 }));
    assert_eq!((&answer["state"]["connected"], &answer["track"]), (&false.into(), &Value::Null));
    socket.ping();
}

#[test]
fn a_position_beyond_the_end_starts_and_finishes() {
    for version in BOTH {
        let node = node(version);
        let (mut socket, mut rest, player) = session(&node);
        let more = json!({ "position": LENGTH + 5000, "voice": voice() });
        let answer = rest.patched(&player, &start(version, LENGTH, &more));
        assert_ne!(answer["track"], Value::Null);
        let [.., ended] =
            socket.messages(["playerUpdate", "playerUpdate", "TrackStartEvent", "playerUpdate", "TrackEndEvent"]);
        assert_eq!(ended["reason"], if version == Lavalink::V3 { "FINISHED" } else { "finished" });
        assert_eq!(rest.got(&player)["track"], Value::Null);
    }
}

#[test]
fn a_seek_is_answered_with_the_old_position() {
    for version in BOTH {
        let node = node(version);
        let (mut socket, mut rest, player) = session(&node);
        rest.patched(&player, &start(version, LENGTH, &json!({ "voice": voice() })));
        socket.messages(["playerUpdate", "playerUpdate", "TrackStartEvent", "playerUpdate"]);
        let answer = rest.patched(&player, &json!({ "position": 150_000 }));
        let [update] = socket.messages(["playerUpdate"]);
        assert!(position(&answer) < 150_000 && update["state"]["position"].as_i64().unwrap() < 150_000);
        super::socket::wait_for(|| {
            let mut rest = Raw::new(&node);
            position(&rest.got(&player)) >= 150_000
        });
    }
}

#[test]
fn an_end_time_ends_the_track() {
    for version in BOTH {
        let node = node(version);
        let (mut socket, mut rest, player) = session(&node);
        let before = Instant::now();
        let more = json!({ "position": 1000, "endTime": 1150, "voice": voice() });
        rest.patched(&player, &start(version, LENGTH, &more));
        socket.messages(["playerUpdate", "playerUpdate", "TrackStartEvent", "playerUpdate"]);
        let [ended] = socket.messages(["TrackEndEvent"]);
        assert!(before.elapsed() >= Duration::from_millis(150));
        assert_eq!(ended["reason"], if version == Lavalink::V3 { "FINISHED" } else { "finished" });
        if version == Lavalink::V4 {
            rest.patch(&player, r#"{"endTime":0}"#);
            assert_eq!(rest.status(), 400);
        }
    }
}

#[test]
fn a_removed_player_ends_its_track_and_its_voice_connection() {
    for version in BOTH {
        let node = node(version);
        let (mut socket, mut rest, player) = session(&node);
        rest.patched(&player, &start(version, LENGTH, &json!({ "voice": voice() })));
        socket.messages(["playerUpdate", "playerUpdate", "TrackStartEvent", "playerUpdate"]);
        rest.ask("DELETE", &player);
        assert_eq!(rest.status(), 204);
        let [ended, closed, update] = socket.messages(["TrackEndEvent", "WebSocketClosedEvent", "playerUpdate"]);
        assert_eq!(ended["reason"], if version == Lavalink::V3 { "STOPPED" } else { "stopped" });
        assert_eq!(
            (&closed["code"], &closed["byRemote"], &closed["guildId"]),
            (&1000.into(), &false.into(), &"1".into())
        );
        assert_eq!(update["state"]["connected"], false);
        socket.ping();
        assert_eq!(node.players(), 0);
    }
}

#[test]
fn filters_without_a_track_are_reported_at_once() {
    let node = node(Lavalink::V4);
    let (mut socket, mut rest, player) = session(&node);
    rest.patched(&player, &json!({ "filters": { "volume": 0.5 } }));
    socket.messages(["playerUpdate"]);
    rest.patched(&player, &json!({ "volume": 5, "paused": true, "position": 7 }));
    socket.ping();
}

fn playing(length: i64, position: i64, end: Option<i64>) -> Option<Playing> {
    let track = Track { position, ..track(length) };
    Some(Playing { encoded: track.encode(Lavalink::V4), track, user_data: Value::Null, end })
}

fn reported(player: &Player, now: Instant) -> i64 {
    let json: Value = serde_json::from_str(&player.json(Lavalink::V4, now)).unwrap();
    json["state"]["position"].as_i64().unwrap()
}

/// A player with a voice connection, and the time it was made at.
fn joined() -> (Player, Instant) {
    let now = Instant::now();
    let mut player = Player::new(1, now);
    player.set_voice(Lavalink::V4, super::super::players::Voice::default(), now);
    player.finish_voice(now);
    (player, now)
}

fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

#[test]
fn a_player_moves_with_the_clock() {
    let (mut player, now) = joined();
    player.set_track(playing(10_000, 2000, None), now);
    assert_eq!(reported(&player, now + millis(1500)), 3500);
    player.set_paused(true, now + millis(2000));
    assert_eq!(reported(&player, now + millis(60_000)), 4000);
    assert_eq!(player.ends_at(), None);
    player.set_paused(false, now + millis(60_000));
    assert_eq!(reported(&player, now + millis(60_500)), 4500);
    assert_eq!(player.ends_at(), Some(now + millis(66_000)));
}

#[test]
fn a_seek_shows_after_a_tenth_of_a_second() {
    let (mut player, now) = joined();
    player.set_track(playing(10_000, 0, None), now);
    let now = now + millis(1000);
    player.seek(5000, now);
    assert_eq!([0, 99, 100, 400].map(|after| reported(&player, now + millis(after))), [1000, 1000, 5100, 5400]);
    // A paused player sends no frame, so it reports the old position until it plays.
    player.set_paused(true, now + millis(400));
    player.seek(8000, now + millis(400));
    assert_eq!(reported(&player, now + millis(5000)), 5400);
    player.set_paused(false, now + millis(5000));
    assert_eq!(reported(&player, now + millis(5100)), 8100);
}

#[test]
fn an_end_before_the_position_is_ignored() {
    let (mut player, now) = joined();
    player.set_track(playing(10_000, 3000, Some(2000)), now);
    assert_eq!(player.ends_at(), Some(now + millis(7000)));
    player.set_end(Some(4000));
    assert_eq!(player.ends_at(), Some(now + millis(1000)));
    player.set_end(None);
    assert_eq!(player.ends_at(), Some(now + millis(7000)));
    player.set_end(Some(4000));
    player.seek(5000, now);
    assert_eq!(player.ends_at(), Some(now + millis(30)));
}

#[test]
fn a_start_beyond_the_end_lasts_thirty_milliseconds() {
    let (mut player, now) = joined();
    player.set_track(playing(10_000, 12_000, None), now);
    assert_eq!(player.ends_at(), Some(now + millis(30)));
}
