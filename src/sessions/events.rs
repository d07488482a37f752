//! The messages of a node that count for a takeover, and what they say. A message is parsed only when its first or last
//! bytes name one that counts. Pure.

use std::borrow::Cow;
use std::hash::{DefaultHasher, Hash, Hasher};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::config::Lavalink;

/// A message is recognized by so many bytes at its end when its beginning does not tell: v3 has the op last.
const TAIL: usize = 64;

/// What makes two tracks the same: what they are, without the position that is part of `encoded`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrackId(u64);

impl TrackId {
    /// v4 says what a track is.
    pub fn of_info(identifier: &str, source: &str) -> Self {
        Self(hash((identifier, source)))
    }

    /// v3's events have the serialized track alone. Its last eight bytes are the position.
    pub fn of_encoded(encoded: &str) -> Self {
        let bytes = STANDARD.decode(encoded).unwrap_or_default();
        Self(match bytes.len().checked_sub(size_of::<u64>()) {
            Some(end) => hash(&bytes[..end]),
            None => hash(encoded),
        })
    }
}

fn hash(value: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// A track as a node describes it.
#[derive(Clone, Debug)]
pub struct Track<'m> {
    /// What it is.
    pub id: TrackId,
    /// The serialized track.
    pub encoded: Cow<'m, str>,
    /// The client's own JSON, if it has set any.
    pub user_data: Option<&'m str>,
    /// It has no end, and no position to start at.
    pub is_stream: bool,
    /// Milliseconds.
    pub position: u64,
}

/// What a message says.
#[derive(Debug)]
pub enum Event<'m> {
    /// `playerUpdate`.
    Update {
        /// The player's guild.
        guild: u64,
        /// Milliseconds.
        position: u64,
        /// True when the player has its voice server.
        connected: bool,
    },
    /// `TrackStartEvent`.
    Start {
        /// The player's guild.
        guild: u64,
        /// What plays now.
        track: Track<'m>,
    },
    /// `TrackEndEvent`.
    End {
        /// The player's guild.
        guild: u64,
        /// What has ended.
        id: TrackId,
        /// True when another track takes its place at once.
        replaced: bool,
    },
    /// `stats`.
    Stats,
}

/// What the message says, if it counts.
pub fn read(version: Lavalink, payload: &[u8]) -> Option<Event<'_>> {
    let usual = usual_update(payload);
    if usual.is_some() {
        return usual;
    }
    match op(payload)? {
        Op::Update => update(payload),
        Op::Event => event(version, payload),
        Op::Stats => Some(Event::Stats),
    }
}

enum Op {
    Update,
    Event,
    Stats,
}

/// The op of a message that counts. v4 begins with it; v3 ends with it, but for the type of an event.
fn op(payload: &[u8]) -> Option<Op> {
    const NAME: &[u8; 6] = br#""op":""#;
    let value = match behind(payload, br#"{"op":""#) {
        Some(value) => value,
        None => {
            let tail = &payload[payload.len().saturating_sub(TAIL)..];
            let at = tail.windows(NAME.len()).rposition(|window| window.first_chunk() == Some(NAME))?;
            &tail[at + NAME.len()..]
        }
    };
    if behind(value, br#"playerUpdate""#).is_some() {
        Some(Op::Update)
    } else if behind(value, br#"event""#).is_some() {
        Some(Op::Event)
    } else {
        behind(value, br#"stats""#).map(|_| Op::Stats)
    }
}

/// What follows `start` if the text begins with it. A length that the compiler knows makes this cheaper than
/// `strip_prefix`.
fn behind<'t, const N: usize>(text: &'t [u8], start: &[u8; N]) -> Option<&'t [u8]> {
    let (first, rest) = text.split_first_chunk()?;
    (first == start).then_some(rest)
}

/// An update as Lavalink v4 writes it. Most messages are updates, and this costs less than a parser.
fn usual_update(payload: &[u8]) -> Option<Event<'_>> {
    let (_, rest) = number(behind(payload, br#"{"op":"playerUpdate","state":{"time":"#)?)?;
    let (position, rest) = number(behind(rest, br#","position":"#)?)?;
    let rest = behind(rest, br#","connected":"#)?;
    let (connected, rest) = match behind(rest, b"true") {
        Some(rest) => (true, rest),
        None => (false, behind(rest, b"false")?),
    };
    let ping = behind(rest, br#","ping":"#)?;
    let (_, rest) = number(behind(ping, b"-").unwrap_or(ping))?;
    let (guild, rest) = number(behind(rest, br#"},"guildId":""#)?)?;
    (rest == br#""}"#).then_some(Event::Update { guild, position, connected })
}

/// The number without a sign that `text` begins with, and what follows it.
fn number(text: &[u8]) -> Option<(u64, &[u8])> {
    let (mut number, mut rest) = (0_u64, text);
    while let [digit @ b'0'..=b'9', more @ ..] = rest {
        number = number.checked_mul(10)?.checked_add(u64::from(digit - b'0'))?;
        rest = more;
    }
    (rest.len() < text.len()).then_some((number, rest))
}

fn update(payload: &[u8]) -> Option<Event<'_>> {
    let message: UpdateMessage = serde_json::from_slice(payload).ok()?;
    let State { position, connected } = message.state;
    Some(Event::Update { guild: message.guild.parse().ok()?, position: millis(position), connected })
}

fn event(version: Lavalink, payload: &[u8]) -> Option<Event<'_>> {
    let message: EventMessage = serde_json::from_slice(payload).ok()?;
    let track = || match version {
        Lavalink::V4 => track(message.track?.get()),
        Lavalink::V3 => encoded_track(message.encoded.or(message.track)?.get()),
    };
    let guild = message.guild.parse().ok()?;
    match &*message.kind {
        "TrackStartEvent" => Some(Event::Start { guild, track: track()? }),
        "TrackEndEvent" => {
            let replaced = message.reason.is_some_and(|reason| reason.eq_ignore_ascii_case("replaced"));
            Some(Event::End { guild, id: track()?.id, replaced })
        }
        _ => None,
    }
}

/// A v4 track object.
fn track(json: &str) -> Option<Track<'_>> {
    let track: TrackObject = serde_json::from_str(json).ok()?;
    Some(track.read(Lavalink::V4))
}

/// A v3 track: its text alone.
fn encoded_track(json: &str) -> Option<Track<'_>> {
    let Text(encoded) = serde_json::from_str(json).ok()?;
    let id = TrackId::of_encoded(&encoded);
    let position = position_of(&encoded);
    Some(Track { id, encoded, user_data: None, is_stream: false, position })
}

/// The position in a serialized track.
fn position_of(encoded: &str) -> u64 {
    let bytes = STANDARD.decode(encoded).unwrap_or_default();
    bytes.last_chunk().map_or(0, |last| millis(i64::from_be_bytes(*last)))
}

/// Java's numbers have a sign.
pub(super) fn millis(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

#[derive(Deserialize)]
struct Text<'m>(#[serde(borrow)] Cow<'m, str>);

#[derive(Deserialize)]
struct UpdateMessage<'m> {
    #[serde(borrow, rename = "guildId")]
    guild: Cow<'m, str>,
    state: State,
}

/// The state of a player.
#[derive(Clone, Copy, Default, Deserialize)]
pub(super) struct State {
    #[serde(default, deserialize_with = "or_default")]
    pub(super) position: i64,
    #[serde(default, deserialize_with = "or_default")]
    pub(super) connected: bool,
}

#[derive(Deserialize)]
struct EventMessage<'m> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'m, str>,
    #[serde(borrow, rename = "guildId")]
    guild: Cow<'m, str>,
    #[serde(borrow, default)]
    track: Option<&'m RawValue>,
    #[serde(borrow, default, rename = "encodedTrack")]
    encoded: Option<&'m RawValue>,
    #[serde(borrow, default)]
    reason: Option<Cow<'m, str>>,
}

/// A track object, as v4's events and both versions' players have it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct TrackObject<'m> {
    #[serde(borrow)]
    encoded: Cow<'m, str>,
    #[serde(borrow)]
    info: Info<'m>,
    #[serde(borrow, default)]
    user_data: Option<&'m RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Info<'m> {
    #[serde(borrow)]
    identifier: Cow<'m, str>,
    #[serde(borrow, default)]
    source_name: Option<Cow<'m, str>>,
    #[serde(default, deserialize_with = "or_default")]
    is_stream: bool,
    #[serde(default, deserialize_with = "or_default")]
    position: i64,
}

impl<'m> TrackObject<'m> {
    pub(super) fn read(self, version: Lavalink) -> Track<'m> {
        let Info { identifier, source_name, is_stream, position } = self.info;
        let id = match version {
            Lavalink::V3 => TrackId::of_encoded(&self.encoded),
            Lavalink::V4 => TrackId::of_info(&identifier, source_name.as_deref().unwrap_or_default()),
        };
        let user_data = self.user_data.map(RawValue::get).filter(|json| *json != "{}" && *json != "null");
        Track { id, encoded: self.encoded, user_data, is_stream, position: millis(position) }
    }
}

/// Takes `null` for the default.
pub(super) fn or_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(from: D) -> Result<T, D::Error> {
    Option::deserialize(from).map(Option::unwrap_or_default)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;
    use Lavalink::{V3, V4};

    const UPDATE: &str =
        r#"{"op":"playerUpdate","state":{"time":1,"position":61234,"connected":true,"ping":12},"guildId":"123"}"#;
    const UPDATE_V3: &str =
        r#"{"state":{"time":1,"position":61234,"connected":true,"ping":12},"guildId":"123","op":"playerUpdate"}"#;

    #[test]
    fn positions_are_read_in_both_orders_of_fields() {
        for (version, message) in [(V4, UPDATE), (V3, UPDATE_V3), (V3, UPDATE), (V4, UPDATE_V3)] {
            let Some(Event::Update { guild: 123, position: 61_234, connected: true }) =
                read(version, message.as_bytes())
            else {
                panic!("{message}")
            };
        }
    }

    #[test]
    fn an_update_as_lavalink_writes_it_is_read_as_by_a_parser() {
        const USUAL: &str = r#"{"op":"playerUpdate","state":{"time":1700000000000,"position":61234,"connected":true,"ping":-1},"guildId":"777"}"#;
        let said = |event: Option<Event<'_>>| event.map(|event| format!("{event:?}"));
        assert!(usual_update(USUAL.as_bytes()).is_some());
        for (part, other) in [
            ("", ""),
            ("true", "false"),
            ("777", "18446744073709551615"),
            ("61234", "0"),
            ("true", "1"),
            ("777", "18446744073709551616"),
            ("777", ""),
            ("777", "1x"),
            ("1700000000000", "null"),
            ("61234", "-5"),
            ("61234", "6.5"),
            ("61234", "null"),
        ] {
            let message = USUAL.replacen(part, other, 1);
            assert_eq!(said(read(V4, message.as_bytes())), said(update(message.as_bytes())), "{message}");
        }
        for end in 0..USUAL.len() {
            assert!(usual_update(&USUAL.as_bytes()[..end]).is_none(), "{end}");
        }
    }

    #[test]
    fn a_position_of_java_may_be_null_or_below_0() {
        for position in ["null", "-5"] {
            let message = UPDATE.replace("61234", position);
            assert!(matches!(read(V4, message.as_bytes()), Some(Event::Update { position: 0, .. })), "{position}");
        }
    }

    #[test]
    fn a_start_and_an_end_name_the_same_track_at_any_position() {
        let track = |position: u64, encoded: &str| {
            format!(
                r#"{{"encoded":"{encoded}","info":{{"identifier":"dQw4","isSeekable":true,"author":"A","length":9,"isStream":false,"position":{position},"title":"a \"b\"","uri":null,"sourceName":"youtube","artworkUrl":null,"isrc":null}},"pluginInfo":{{}},"userData":{{"by":1}}}}"#
            )
        };
        let start =
            format!(r#"{{"op":"event","type":"TrackStartEvent","guildId":"7","track":{}}}"#, track(1500, "QAAB"));
        let end = format!(
            r#"{{"op":"event","type":"TrackEndEvent","guildId":"7","track":{},"reason":"finished"}}"#,
            track(9, "QAAC")
        );
        let Some(Event::Start { guild: 7, track }) = read(V4, start.as_bytes()) else { panic!() };
        let Some(Event::End { guild: 7, id, replaced: false }) = read(V4, end.as_bytes()) else { panic!() };
        assert_eq!((track.id, track.position, track.is_stream), (id, 1500, false));
        assert_eq!((&*track.encoded, track.user_data), ("QAAB", Some(r#"{"by":1}"#)));
        let replaced = end.replace("finished", "replaced");
        assert!(matches!(read(V4, replaced.as_bytes()), Some(Event::End { replaced: true, .. })));
    }

    #[test]
    fn a_v3_track_is_told_by_all_but_its_position() {
        let encoded = |title: &[u8], position: i64| STANDARD.encode([title, &position.to_be_bytes()].concat());
        let message = |text: &str, kind: &str| {
            format!(
                r#"{{"encodedTrack":"{text}","track":"{text}","reason":"REPLACED","guildId":"7","op":"event","type":"{kind}"}}"#
            )
        };
        let start = message(&encoded(b"one song", 0), "TrackStartEvent");
        let end = message(&encoded(b"one song", 4242), "TrackEndEvent");
        let other = message(&encoded(b"another", 4242), "TrackEndEvent");
        let Some(Event::Start { track, .. }) = read(V3, start.as_bytes()) else { panic!() };
        let Some(Event::End { id, replaced: true, .. }) = read(V3, end.as_bytes()) else { panic!() };
        let Some(Event::End { id: different, .. }) = read(V3, other.as_bytes()) else { panic!() };
        assert_eq!(track.id, id);
        assert_ne!(track.id, different);
    }

    #[test]
    fn what_does_not_count_is_not_read() {
        for message in [
            "",
            "{}",
            r#"{"op":"ready","resumed":false,"sessionId":"x"}"#,
            r#"{"op":"event","type":"WebSocketClosedEvent","guildId":"1","code":4006,"reason":"","byRemote":true}"#,
            r#"{"op":"event","type":"TrackStartEvent","guildId":"one"}"#,
            r#"{"op":"event","type":"TrackStartEvent","guildId":"1","track":null}"#,
            r#"{"op":"playerUpdate","guildId":"1"}"#,
            r#"{"op":"playerUpdate"#,
            r#"{"op":"lyrics"}"#,
        ] {
            for version in [V3, V4] {
                assert!(read(version, message.as_bytes()).is_none(), "{message}");
            }
        }
        assert!(matches!(read(V3, br#"{"players":0,"op":"stats"}"#), Some(Event::Stats)));
        assert!(matches!(read(V4, br#"{"op":"stats","frameStats":null}"#), Some(Event::Stats)));
    }
}
