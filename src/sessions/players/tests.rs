#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::*;
use crate::http::random::Random;
use crate::sessions::{events, replay};
use Lavalink::{V3, V4};

const HISTORIES: u64 = 3000;

/// What a node has of one player.
#[derive(Clone, Default)]
struct Model {
    /// Its number, and where to stop.
    track: Option<(u64, Option<u64>)>,
    /// What the node reports.
    position: u64,
    /// How far the place in the track is beyond that, and by how much of a second played it grows.
    ahead: f64,
    gain: f64,
    since: u64,
    paused: bool,
    volume: i64,
    filters: Value,
    voice: bool,
}

impl Model {
    fn runs(&self) -> bool {
        self.track.is_some() && !self.paused && self.voice
    }

    fn at(&self, now: u64) -> u64 {
        self.position + if self.runs() { now - self.since } else { 0 }
    }

    fn ahead(&self, now: u64) -> f64 {
        self.ahead + (self.at(now) - self.position) as f64 * self.gain
    }

    fn hold(&mut self, now: u64) {
        (self.ahead, self.position, self.since) = (self.ahead(now), self.at(now), now);
    }

    fn set_filters(&mut self, filters: Value) {
        let of = |name: &str| filters["timescale"][name].as_f64().unwrap_or(1.0);
        self.gain = of("speed") * of("rate") - 1.0;
        self.filters = filters;
    }
}

/// A node, its clock, and what is kept of it.
struct Stage {
    version: Lavalink,
    start: Instant,
    now: u64,
    models: BTreeMap<u64, Model>,
    players: Players,
}

fn encoded(number: u64, position: u64) -> String {
    STANDARD.encode([&number.to_be_bytes()[..], b"a title", &position.to_be_bytes()].concat())
}

fn track(number: u64, position: u64) -> Value {
    json!({
        "encoded": encoded(number, position),
        "info": {"identifier": format!("id-{number}"), "isSeekable": true, "author": "A", "length": 300_000, "isStream": false, "position": position, "title": "T", "uri": null, "sourceName": "youtube"},
        "pluginInfo": {},
        "userData": {"number": number},
    })
}

impl Stage {
    fn new(version: Lavalink) -> Self {
        let (start, models, players) = (Instant::now(), BTreeMap::new(), Players::new(version));
        Self { version, start, now: 0, models, players }
    }

    fn time(&self) -> Instant {
        self.start + Duration::from_millis(self.now)
    }

    /// v4 has the op first, v3 has it last.
    fn say(&mut self, op: &str, fields: &Value) -> bool {
        let fields = fields.to_string();
        let text = match self.version {
            V3 => format!(r#"{},"op":"{op}"}}"#, fields.strip_suffix('}').unwrap()),
            V4 => format!(r#"{{"op":"{op}",{}"#, fields.strip_prefix('{').unwrap()),
        };
        let event = events::read(self.version, text.as_bytes()).unwrap_or_else(|| panic!("{text}"));
        self.players.note(&event, self.time())
    }

    fn event(&mut self, guild: u64, kind: &str, number: u64, position: u64, reason: &str) -> bool {
        let track = match self.version {
            V3 => encoded(number, position).into(),
            V4 => track(number, position),
        };
        self.say("event", &json!({"type": kind, "guildId": guild.to_string(), "track": track, "reason": reason}))
    }

    fn update(&mut self, guild: u64, position: u64, connected: bool) -> bool {
        let state = json!({"time": 1, "position": position, "connected": connected, "ping": 5});
        self.say("playerUpdate", &json!({"state": state, "guildId": guild.to_string()}))
    }

    /// The player as the node answers it, at a position that may be old.
    fn object(&self, guild: u64, position: u64) -> Value {
        let model = &self.models[&guild];
        let voice = match model.voice {
            true => json!({"token": "t", "endpoint": "e", "sessionId": "s", "channelId": null, "connected": true}),
            false => json!({"token": "", "endpoint": "", "sessionId": "", "channelId": null, "connected": false}),
        };
        let mut object = json!({
            "guildId": guild.to_string(),
            "track": model.track.map(|(number, _)| track(number, position)),
            "volume": model.volume,
            "paused": model.paused,
            "voice": voice,
            "filters": model.filters,
        });
        if self.version == V4 {
            object["state"] = json!({"time": 1, "position": position, "connected": model.voice, "ping": 5});
        }
        object
    }

    /// A request as Lavalink carries it out, with its messages and its answer.
    fn request(&mut self, random: &mut Random, guild: u64, body: &Value, no_replace: bool) {
        let (now, version) = (self.now, self.version);
        self.players.begin_request(guild);
        let model =
            self.models.entry(guild).or_insert_with(|| Model { volume: 100, filters: json!({}), ..Model::default() });
        let old_position = model.at(now);
        model.hold(now);
        model.voice |= body.get("voice").is_some();
        model.volume = body["volume"].as_i64().unwrap_or(model.volume);
        if let Some(filters) = body.get("filters") {
            model.set_filters(filters.clone());
        }
        let named = match version {
            V4 => body.get("track").and_then(|track| track.get("encoded")),
            V3 => body.get("encodedTrack"),
        };
        let end = body["endTime"].as_u64();
        let mut reported = model.at(now);
        let mut said = Vec::new();
        match named {
            Some(_) if no_replace && model.track.is_some() => {}
            Some(name) => {
                let number = name
                    .as_str()
                    .map(|text| u64::from_be_bytes(*STANDARD.decode(text).unwrap().first_chunk().unwrap()));
                if let Some((old, _)) = model.track {
                    let reason = if number.is_some() { "replaced" } else { "stopped" };
                    said.push(("TrackEndEvent", old, old_position, reason));
                }
                model.track = number.map(|number| (number, end));
                (model.position, model.ahead, model.since) = (body["position"].as_u64().unwrap_or(0), 0.0, now);
                model.paused = body["paused"].as_bool().unwrap_or(false);
                reported = model.position;
                said.extend(number.map(|number| ("TrackStartEvent", number, reported, "")));
            }
            None => {
                model.paused = body["paused"].as_bool().unwrap_or(model.paused);
                if let (Some((_, own)), Some(position)) = (&mut model.track, body["position"].as_u64()) {
                    (model.position, model.ahead) = (position, 0.0);
                    // The answer to a seek has the old position.
                    reported = old_position;
                    if body.get("endTime").is_some() {
                        *own = end;
                    }
                } else if let (Some((_, own)), true) = (&mut model.track, body.get("endTime").is_some()) {
                    *own = end;
                }
            }
        }
        let (voice, plays) = (model.voice, model.track.is_some());
        let answer = self.object(guild, reported).to_string();
        for (kind, number, position, reason) in said {
            self.event(guild, kind, number, position, reason);
        }
        // The update that the request causes may be old too, and may come before or after the answer.
        let early = random.below(2) == 0;
        if early && plays {
            self.update(guild, reported, voice);
        }
        assert!(self.players.answered(guild, body.to_string().as_bytes(), no_replace, answer.as_bytes(), self.time()));
        self.players.end_request(guild);
        if !early && plays {
            self.update(guild, reported, voice);
        }
    }

    /// Time passes: tracks end, and players report where they are.
    fn pass(&mut self, millis: u64) {
        let end = self.now + millis;
        while self.now < end {
            self.now = end.min(self.now + 1000 - self.now % 1000);
            let now = self.now;
            let guilds: Vec<u64> = self.models.keys().copied().collect();
            for guild in guilds {
                let model = self.models.get_mut(&guild).unwrap();
                let Some((number, stop)) = model.track else { continue };
                let position = model.at(now);
                let plays = model.runs();
                let voice = model.voice;
                if plays && position >= stop.unwrap_or(300_000) {
                    model.track = None;
                    self.event(guild, "TrackEndEvent", number, position, "finished");
                } else if now % 5000 == 0 && plays {
                    self.update(guild, position, voice);
                }
            }
        }
    }
}

fn random_body(random: &mut Random, version: Lavalink) -> Value {
    let mut body = json!({});
    let mut set = |name: &str, chance: usize, value: Value, random: &mut Random| {
        if random.below(chance) == 0 {
            body[name] = value;
        }
    };
    let position = random.below(200_000) as u64;
    let end = 1 + random.below(290_000) as u64;
    set("paused", 4, (random.below(3) == 0).into(), random);
    set("volume", 4, (random.below(1000) as u64).into(), random);
    let filters = [
        json!({}),
        json!({"volume": 0.5}),
        json!({"timescale": {"speed": 1.25}}),
        json!({"timescale": {"rate": 0.75}}),
    ];
    set("filters", 5, random.pick(&filters).clone(), random);
    set("position", 3, position.into(), random);
    set("voice", 3, json!({"token": "t", "endpoint": "e", "sessionId": "s"}), random);
    set("endTime", 5, if random.below(4) == 0 { Value::Null } else { end.into() }, random);
    if random.below(3) == 0 {
        let name = match random.below(6) {
            0 => Value::Null,
            number => encoded(number as u64, 0).into(),
        };
        match version {
            V3 => body["encodedTrack"] = name,
            V4 => body["track"] = json!({"encoded": name, "userData": {"number": 0}}),
        }
    }
    // A node would end the track at once.
    if body["endTime"].as_u64().is_some_and(|end| end <= body["position"].as_u64().unwrap_or(0) + 1000) {
        body["endTime"] = Value::Null;
    }
    body
}

fn check(stage: &Stage, seed: u64) {
    let expected: Vec<u64> = stage.models.keys().copied().collect();
    let mut order = replay::order(&stage.players);
    order.sort_unstable();
    assert_eq!(order, expected, "seed {seed}");
    assert_eq!(stage.players.bytes(), stage.players.of.values().map(Player::bytes).sum::<usize>(), "seed {seed}");
    for (guild, model) in &stage.models {
        let request = replay::request(&stage.players, *guild, stage.time()).unwrap();
        let body: Value = serde_json::from_str(request.body.expose()).unwrap();
        let context = format!("seed {seed}, guild {guild}: {body}");
        let name = match stage.version {
            V3 => body.get("encodedTrack"),
            V4 => body.get("track").map(|track| &track["encoded"]),
        };
        let number = name
            .map(|name| u64::from_be_bytes(*STANDARD.decode(name.as_str().unwrap()).unwrap().first_chunk().unwrap()));
        assert_eq!(number, model.track.map(|(number, _)| number), "{context}");
        assert_eq!(body["volume"], model.volume, "{context}");
        assert_eq!(body["paused"], model.paused, "{context}");
        assert_eq!(body.get("filters").cloned().unwrap_or(json!({})), model.filters, "{context}");
        assert_eq!(body.get("voice").is_some(), model.voice, "{context}");
        let Some((number, end)) = model.track else { continue };
        // The new node counts from the place in the track on.
        let ahead = model.ahead(stage.now).round() as i64;
        let end = end.map(|end| end.saturating_add_signed(ahead));
        let (asked, expected) = (request.span.end, end);
        assert_eq!(body.get("endTime").and_then(Value::as_u64), asked, "{context}");
        assert!(asked.unwrap_or(0).abs_diff(expected.unwrap_or(0)) <= SLACK, "{context} but its end is {expected:?}");
        let at = model.at(stage.now).saturating_add_signed(ahead).min(end.unwrap_or(u64::MAX));
        assert!(request.span.position.abs_diff(at) <= SLACK, "{context} but it is at {at}");
        if stage.version == V4 {
            assert_eq!(body["track"]["userData"], json!({"number": number}), "{context}");
        }
    }
}

#[test]
fn what_is_kept_equals_what_the_node_had_after_any_history() {
    for seed in 1..=HISTORIES {
        let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let mut stage = Stage::new(if seed % 3 == 0 { V3 } else { V4 });
        for _ in 0..random.below(25) {
            let guild = 1 + random.below(4) as u64;
            match random.below(8) {
                0 => {
                    stage.models.remove(&guild);
                    stage.players.remove(guild);
                }
                1 | 2 => stage.pass(random.below(60_000) as u64),
                _ => {
                    let body = random_body(&mut random, stage.version);
                    let no_replace = random.below(5) == 0;
                    stage.request(&mut random, guild, &body, no_replace);
                }
            }
            stage.pass(random.below(3000) as u64);
        }
        check(&stage, seed);
    }
}

/// A player that plays `number` from `position`.
fn playing(position: u64, paused: bool) -> Stage {
    let mut stage = Stage::new(V4);
    let body = json!({"track": {"encoded": encoded(5, 0)}, "position": position, "paused": paused, "voice": {}});
    stage.request(&mut Random(1), 1, &body, false);
    stage
}

/// Makes the player of a stage anew, and returns where.
fn replayed(stage: &mut Stage) -> u64 {
    let now = stage.time();
    let request = replay::request(&stage.players, 1, now).unwrap();
    stage.players.begin_replay(1, request.span, now);
    request.span.position
}

#[test]
fn the_client_hears_nothing_of_a_replay() {
    let mut stage = playing(30_000, false);
    stage.pass(5000);
    let position = replayed(&mut stage);
    assert_eq!(position, 35_000);
    assert!(stage.update(1, 0, false), "not connected yet");
    assert!(!stage.update(1, position, true), "in its place");
    assert!(stage.event(1, "TrackStartEvent", 5, position, ""));
    let answer = stage.object(1, position).to_string();
    stage.players.end_replay(1, position, answer.as_bytes(), stage.time());
    assert!(stage.update(1, 0, true), "an old position");
    stage.now += 5000;
    assert!(!stage.update(1, position + 4900, true));
    assert!(!stage.event(1, "TrackStartEvent", 5, 0, ""), "a second start is news");
    assert!(!stage.update(1, 0, false), "and so is all that follows");
}

#[test]
fn the_position_of_a_player_that_was_replayed_paused_is_not_heard() {
    let mut stage = playing(30_000, true);
    let position = replayed(&mut stage);
    let answer = stage.object(1, position).to_string();
    assert!(stage.event(1, "TrackStartEvent", 5, position, ""));
    stage.players.end_replay(1, position, answer.as_bytes(), stage.time());
    for _ in 0..20 {
        stage.now += 5000;
        assert!(stage.update(1, 0, true));
    }
    stage.request(&mut Random(2), 1, &json!({"paused": false}), false);
    stage.now += 300;
    assert!(!stage.update(1, position + 300, true));
    assert_eq!(replayed(&mut stage), position + 300);
}

#[test]
fn the_time_that_a_node_took_that_failed_too_is_made_up_for() {
    let mut stage = playing(30_000, false);
    assert_eq!(replayed(&mut stage), 30_000);
    stage.now += 7000;
    assert_eq!(replayed(&mut stage), 37_000);
    assert!(stage.event(1, "TrackStartEvent", 5, 37_000, ""));
}

#[test]
fn another_start_or_an_end_after_a_replay_is_news() {
    let mut stage = playing(30_000, false);
    let position = replayed(&mut stage);
    assert!(!stage.event(1, "TrackEndEvent", 5, position, "finished"));
    let now = stage.time();
    assert!(replay::request(&stage.players, 1, now).unwrap().body.expose().contains(r#""paused""#));
    assert!(!stage.update(1, 0, true));

    let mut stage = playing(30_000, false);
    replayed(&mut stage);
    assert!(!stage.event(1, "TrackStartEvent", 6, 0, ""));
}

#[test]
fn a_player_whose_voice_is_gone_is_heard_again_after_a_while() {
    let mut stage = playing(30_000, false);
    replayed(&mut stage);
    stage.now += 5000;
    assert!(stage.update(1, 0, false));
    stage.now += 5000;
    assert!(!stage.update(1, 0, false));
}

#[test]
fn a_track_that_ends_before_the_answer_to_its_start_has_ended() {
    let mut stage = Stage::new(V4);
    stage.models.insert(1, Model { track: Some((5, None)), volume: 100, filters: json!({}), ..Model::default() });
    let answer = stage.object(1, 0).to_string();
    stage.players.begin_request(1);
    stage.event(1, "TrackStartEvent", 5, 0, "");
    stage.event(1, "TrackEndEvent", 5, 0, "loadFailed");
    stage.players.answered(1, br#"{"track":{"encoded":"x"}}"#, false, answer.as_bytes(), stage.time());
    stage.players.end_request(1);
    assert!(stage.players.of[&1].track.is_none());
    // An end before the start is that of the track before.
    stage.players.begin_request(1);
    stage.event(1, "TrackEndEvent", 5, 0, "finished");
    stage.event(1, "TrackStartEvent", 5, 0, "");
    stage.players.answered(1, br#"{"track":{"encoded":"x"}}"#, false, answer.as_bytes(), stage.time());
    stage.players.end_request(1);
    assert!(stage.players.of[&1].track.is_some());
}

#[test]
fn what_is_too_large_or_not_understood_is_not_kept() {
    let mut stage = playing(0, false);
    let now = stage.time();
    let mut large = stage.object(1, 0);
    large["track"]["userData"] = "x".repeat(MAX_PLAYER).into();
    assert!(!stage.players.answered(1, b"{}", false, large.to_string().as_bytes(), now));
    assert_eq!(stage.players.bytes(), 0);
    let mut stage = playing(0, false);
    assert!(stage.players.bytes() > OVERHEAD);
    assert!(!stage.players.answered(1, b"{}", false, b"[]", now));
    assert!(stage.players.of.is_empty());
}

#[test]
fn the_channel_that_a_node_does_not_answer_is_the_one_that_the_client_has_named() {
    let mut stage = Stage::new(V4);
    let answer = |stage: &Stage| {
        let mut answer = stage.object(1, 0);
        answer["voice"].as_object_mut().unwrap().remove("channelId");
        answer.to_string()
    };
    stage.request(&mut Random(1), 1, &json!({"voice": {}}), false);
    for (request, channel) in [
        (json!({"voice": {"token": "t", "endpoint": "e", "sessionId": "s", "channelId": "7"}}), json!("7")),
        (json!({"volume": 20}), json!("7")),
        (json!({"voice": {"token": "t", "endpoint": "e", "sessionId": "s", "channelId": 8}}), Value::Null),
        (json!({"voice": {"token": "t", "endpoint": "e", "sessionId": "s", "channelId": "9"}}), json!("9")),
        (json!({"voice": {"token": "t", "endpoint": "e", "sessionId": "s"}}), Value::Null),
        (json!({}), Value::Null),
    ] {
        let (answer, now) = (answer(&stage), stage.time());
        assert!(stage.players.answered(1, request.to_string().as_bytes(), false, answer.as_bytes(), now));
        let body = replayed_body(&stage, 1);
        assert_eq!((&body["voice"]["channelId"], &body["voice"]["token"]), (&channel, &json!("t")), "{request}");
    }
}

/// Answers a request that starts this track. Its messages do not come.
fn starts(stage: &mut Stage, number: u64) {
    stage.models.get_mut(&1).unwrap().track = Some((number, None));
    let (body, answer, now) = (json!({"track": {"encoded": "x"}}), stage.object(1, 0), stage.time());
    stage.players.begin_request(1);
    assert!(stage.players.answered(1, body.to_string().as_bytes(), false, answer.to_string().as_bytes(), now));
    stage.players.end_request(1);
}

#[test]
fn messages_that_come_after_newer_answers_change_nothing() {
    let mut stage = playing(0, false);
    starts(&mut stage, 6);
    starts(&mut stage, 7);
    assert!(!stage.event(1, "TrackEndEvent", 5, 0, "replaced"));
    assert!(!stage.event(1, "TrackStartEvent", 6, 0, ""));
    assert!(!stage.event(1, "TrackEndEvent", 6, 0, "replaced"));
    // The start of 7 is lost with the node.
    assert_eq!(replayed_body(&stage, 1)["track"]["encoded"], encoded(7, 0));
    replayed(&mut stage);
    assert!(!stage.event(1, "TrackStartEvent", 7, 0, ""), "the client hears it from the next node");
    assert!(!stage.event(1, "TrackStartEvent", 8, 0, ""));
    assert_eq!(replayed_body(&stage, 1)["track"]["encoded"], encoded(8, 0), "a later start counts");
}

#[test]
fn the_start_of_a_track_that_takes_its_own_place_is_heard() {
    let mut stage = playing(0, false);
    starts(&mut stage, 5);
    // The start of the first one comes late, and that of the second one is lost.
    assert!(!stage.event(1, "TrackStartEvent", 5, 0, ""));
    assert!(!stage.event(1, "TrackEndEvent", 5, 0, "replaced"));
    replayed(&mut stage);
    assert!(!stage.event(1, "TrackStartEvent", 5, 0, ""), "the client hears it from the next node");
}

#[test]
fn a_missed_end_is_made_up_for() {
    let mut stage = Stage::new(V4);
    let body = json!({"track": {"encoded": encoded(5, 0)}, "endTime": 10_000, "voice": {}});
    stage.request(&mut Random(1), 1, &body, false);
    stage.now += 60_000;
    assert_eq!(replayed(&mut stage), 9_900);
}

/// Two players that this process does not know: 1 plays track 5 at 60 s, 2 is paused at 30 s.
fn resumed() -> (Stage, String) {
    let mut stage = Stage::new(V4);
    let model = Model { volume: 70, filters: json!({"a": 1}), voice: true, ..Model::default() };
    stage.models.insert(1, Model { track: Some((5, None)), ..model.clone() });
    stage.models.insert(2, Model { track: Some((6, None)), paused: true, ..model });
    stage.players.miss_list();
    let list = json!([stage.object(1, 60_000), stage.object(2, 30_000)]).to_string();
    (stage, list)
}

fn replayed_body(stage: &Stage, guild: u64) -> Value {
    let replay = replay::request(&stage.players, guild, stage.time()).unwrap();
    serde_json::from_str(replay.body.expose()).unwrap()
}

#[test]
fn the_players_of_a_list_are_known() {
    let (mut stage, list) = resumed();
    assert!(!stage.players.are_whole());
    stage.players.begin_list();
    assert!(stage.players.listed(list.as_bytes(), stage.time()) && stage.players.are_whole());
    stage.now += 4000;
    let (playing, paused) = (replayed_body(&stage, 1), replayed_body(&stage, 2));
    assert_eq!(
        (&playing["position"], &playing["volume"], &playing["paused"]),
        (&json!(64_000), &json!(70), &json!(false))
    );
    assert_eq!((&playing["track"]["userData"], &playing["filters"]), (&json!({"number": 5}), &json!({"a": 1})));
    assert_eq!(playing["voice"], json!({"token": "t", "endpoint": "e", "sessionId": "s"}));
    assert_eq!((&paused["position"], &paused["paused"]), (&json!(30_000), &json!(true)));
    // The client has heard of the start before.
    stage.players.begin_replay(1, Span { position: 64_000, end: None }, stage.time());
    assert!(stage.event(1, "TrackStartEvent", 5, 64_000, ""));
}

#[test]
fn what_comes_while_a_list_is_under_way_is_newer_than_the_list() {
    let (mut stage, list) = resumed();
    // This comes before the node is asked, so that the list is newer.
    stage.event(1, "TrackEndEvent", 5, 0, "finished");
    let mut old = stage.object(1, 10_000);
    old["volume"] = 1.into();
    stage.players.answered(1, b"{}", false, old.to_string().as_bytes(), stage.time());
    stage.players.begin_list();
    let mut before = stage.players.clone();
    assert!(before.listed(list.as_bytes(), stage.time()));
    assert_eq!(before.of[&1].volume, 70);
    // An answer.
    let mut before = stage.players.clone();
    old["volume"] = 2.into();
    before.answered(1, b"{}", false, old.to_string().as_bytes(), stage.time());
    assert!(before.listed(list.as_bytes(), stage.time()));
    assert_eq!((before.of[&1].volume, before.of[&2].volume), (2, 70));
    // A removal.
    let mut before = stage.players.clone();
    before.remove(2);
    assert!(before.listed(list.as_bytes(), stage.time()));
    assert!(before.of.contains_key(&1) && !before.of.contains_key(&2));
    // The end of a track.
    stage.event(2, "TrackEndEvent", 6, 0, "finished");
    assert!(stage.players.listed(list.as_bytes(), stage.time()));
    assert!(stage.players.of[&2].track.is_none() && stage.players.of[&1].track.is_some());
}

#[test]
fn a_list_that_is_not_understood_leaves_the_players_unknown() {
    let (mut stage, list) = resumed();
    let mut large = stage.object(1, 0);
    large["track"]["userData"] = "x".repeat(MAX_PLAYER).into();
    for bad in ["", "{}", "[1]", r#"[{"guildId":"1"}]"#, &format!("[{large}]"), &list[..list.len() - 1]] {
        stage.players.begin_list();
        assert!(!stage.players.listed(bad.as_bytes(), stage.time()) && !stage.players.are_whole());
    }
    // Nobody has asked.
    assert!(!stage.players.listed(list.as_bytes(), stage.time()));
    stage.players.begin_list();
    assert!(stage.players.listed(b"[]", stage.time()));
}

#[test]
fn a_player_that_was_set_aside_comes_back_unless_it_is_gone() {
    let mut stage = playing(30_000, false);
    let bytes = stage.players.bytes();
    stage.players.set_aside(1);
    assert!(stage.players.of.is_empty() && stage.players.bytes() == bytes);
    stage.players.put_back();
    assert_eq!((stage.players.of.len(), stage.players.bytes()), (1, bytes));
    stage.players.set_aside(1);
    stage.players.remove(1);
    stage.players.put_back();
    assert_eq!((stage.players.of.len(), stage.players.bytes()), (0, 0));
    let mut stage = playing(30_000, false);
    stage.players.set_aside(1);
    stage.players.forget_aside();
    stage.players.put_back();
    assert_eq!((stage.players.of.len(), stage.players.bytes()), (0, 0));
}
