//! One guild's player: what it plays, where it is, and the JSON of both. It reads the clock and nothing else.
//!
//! A real player reports the position of the last frame that it sent to Discord. So it reports 0, or the old
//! position after a seek, until frames of the new place have gone out; a player without a voice server or one
//! that is paused sends none.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::text::{epoch_millis, quoted};
use super::track::{self, Track};
use crate::config::Lavalink;

/// How often a playing player reports its position.
pub(super) const UPDATE_INTERVAL: Duration = Duration::from_secs(5);
/// How long frames from before a seek still go out.
const SEEK_LAG: Duration = Duration::from_millis(100);
/// How long a track plays at least, even one that starts beyond its end.
const SHORTEST_PLAY: Duration = Duration::from_millis(30);

/// A track that is played.
#[derive(Clone)]
pub(super) struct Playing {
    /// The serialised track that the bot sent or named; its last bytes hold the position where it started.
    pub(super) encoded: String,
    /// Its position is where it starts.
    pub(super) track: Track,
    pub(super) user_data: Value,
    /// Milliseconds; where to stop before the track's end.
    pub(super) end: Option<i64>,
}

/// The voice server that the bot names.
#[derive(Clone, Default)]
pub(super) struct Voice {
    pub(super) token: String,
    pub(super) endpoint: String,
    pub(super) session: String,
    pub(super) channel: Option<String>,
}

impl Voice {
    /// Whether both name the same voice connection.
    fn is_same(&self, other: &Self) -> bool {
        (&self.token, &self.endpoint, &self.session) == (&other.token, &other.endpoint, &other.session)
    }
}

/// The state of the voice connection.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Link {
    None,
    Connecting,
    Up,
}

/// A guild's player.
pub(super) struct Player {
    pub(super) guild: i64,
    pub(super) playing: Option<Playing>,
    pub(super) volume: i64,
    pub(super) filters: Value,
    /// When the next `playerUpdate` is due, while it has a track.
    pub(super) next_update: Instant,
    voice: Voice,
    link: Link,
    paused: bool,
    /// Milliseconds; where the player is at `since`.
    position: i64,
    since: Instant,
    /// Milliseconds; what is reported while no frames from `position` go out.
    last_frame: i64,
    /// When frames from `position` go out, if the player plays.
    frames_from: Instant,
    /// The track is new: its position is reported once, although no frame has gone out.
    fresh: bool,
}

impl Player {
    pub(super) fn new(guild: i64, now: Instant) -> Self {
        Self {
            guild,
            playing: None,
            volume: 100,
            filters: Value::Object(serde_json::Map::new()),
            next_update: now,
            voice: Voice::default(),
            link: Link::None,
            paused: false,
            position: 0,
            since: now,
            last_frame: 0,
            frames_from: now,
            fresh: false,
        }
    }

    /// True while it has a track that is not paused.
    pub(super) fn is_playing(&self) -> bool {
        self.playing.is_some() && !self.paused
    }

    /// Takes a track and starts it at the track's own position.
    pub(super) fn set_track(&mut self, playing: Option<Playing>, now: Instant) {
        self.position = playing.as_ref().map_or(0, |playing| playing.track.position);
        self.since = now;
        self.last_frame = 0;
        self.frames_from = now;
        // A player that waits for its voice server has reported 0 already.
        self.fresh = playing.is_some() && self.link != Link::Connecting;
        self.next_update = now + UPDATE_INTERVAL;
        self.playing = playing;
        let end = self.playing.as_ref().and_then(|playing| playing.end);
        self.set_end(end);
    }

    /// Sets where the track stops. An end that has passed already is ignored.
    pub(super) fn set_end(&mut self, end: Option<i64>) {
        let position = self.position;
        if let Some(playing) = &mut self.playing {
            playing.end = end.filter(|end| *end > position);
        }
    }

    pub(super) fn set_paused(&mut self, paused: bool, now: Instant) {
        self.hold(now);
        self.paused = paused;
    }

    /// Starts to connect to a voice server, unless the player has that connection. Returns whether it connects.
    pub(super) fn set_voice(&mut self, version: Lavalink, voice: Voice, now: Instant) -> bool {
        // Lavalink v3 connects anew in any case.
        if self.link == Link::None || version == Lavalink::V3 || !self.voice.is_same(&voice) {
            self.hold(now);
            self.link = Link::Connecting;
        }
        self.voice = voice;
        self.link == Link::Connecting
    }

    /// The voice server has answered.
    pub(super) fn finish_voice(&mut self, now: Instant) {
        self.hold(now);
        self.link = Link::Up;
    }

    /// Ends the voice connection; false when there was none.
    pub(super) fn close_voice(&mut self) -> bool {
        std::mem::replace(&mut self.link, Link::None) == Link::Up
    }

    /// Milliseconds.
    pub(super) fn seek(&mut self, position: i64, now: Instant) {
        self.last_frame = self.reported(now);
        self.fresh = false;
        self.position = position.max(0);
        self.since = now;
        self.frames_from = now + SEEK_LAG;
    }

    /// Notes where the player is, before it stops or starts to move.
    fn hold(&mut self, now: Instant) {
        if self.moves() {
            self.last_frame = self.reported(now);
        }
        self.position = self.actual(now);
        self.since = now;
    }

    /// Milliseconds; where the player really is. It moves only while it sends frames.
    fn actual(&self, now: Instant) -> i64 {
        let Some(playing) = &self.playing else { return 0 };
        if !self.moves() {
            return self.position;
        }
        let played = i64::try_from(now.saturating_duration_since(self.since).as_millis()).unwrap_or(i64::MAX);
        let end = playing.track.length.max(self.position);
        self.position.saturating_add(played).min(end)
    }

    /// Milliseconds; where the player says that it is.
    fn reported(&self, now: Instant) -> i64 {
        if self.playing.is_none() {
            return 0;
        }
        if self.fresh || (self.moves() && now >= self.frames_from) { self.actual(now) } else { self.last_frame }
    }

    /// When the track is over, if it ever is.
    pub(super) fn ends_at(&self) -> Option<Instant> {
        let playing = self.playing.as_ref().filter(|_| self.moves())?;
        let length = (!playing.track.is_stream).then_some(playing.track.length);
        let end = playing.end.into_iter().chain(length).min()?;
        let left = Duration::from_millis(u64::try_from(end.saturating_sub(self.position)).unwrap_or(0));
        self.since.checked_add(left.max(SHORTEST_PLAY))
    }

    fn moves(&self) -> bool {
        self.is_playing() && self.link == Link::Up
    }

    fn connected(&self) -> bool {
        self.link == Link::Up
    }

    /// Milliseconds to the voice server; there is none, so this is that of a near one.
    fn ping(&self) -> i64 {
        if self.connected() { 12 } else { -1 }
    }

    fn state(&self, now: Instant) -> String {
        format!(
            r#"{{"time":{},"position":{},"connected":{},"ping":{}}}"#,
            epoch_millis(),
            self.reported(now),
            self.connected(),
            self.ping()
        )
    }

    /// The player object: <https://lavalink.dev/api/rest#player>.
    pub(super) fn json(&self, version: Lavalink, now: Instant) -> String {
        let track = self
            .playing
            .as_ref()
            .map_or("null".to_owned(), |playing| self.track_json(version, playing, self.reported(now)));
        let Voice { token, endpoint, session, channel } = &self.voice;
        let voice =
            format!(r#""token":{},"endpoint":{},"sessionId":{}"#, quoted(token), quoted(endpoint), quoted(session));
        let (state, voice) = match version {
            Lavalink::V3 => {
                (String::new(), format!(r#"{{{voice},"connected":{},"ping":{}}}"#, self.connected(), self.ping()))
            }
            Lavalink::V4 => {
                let channel = channel.as_deref().map_or("null".to_owned(), quoted);
                (format!(r#""state":{},"#, self.state(now)), format!(r#"{{{voice},"channelId":{channel}}}"#))
            }
        };
        format!(
            r#"{{"guildId":"{}","track":{track},"volume":{},"paused":{},{state}"voice":{voice},"filters":{}}}"#,
            self.guild, self.volume, self.paused, self.filters
        )
    }

    /// The track object at a position, which is also the end of the serialised track.
    fn track_json(&self, version: Lavalink, playing: &Playing, position: i64) -> String {
        let track = Track { position, ..playing.track.clone() };
        let encoded = track::at_position(&playing.encoded, position);
        track.json(version, &encoded, &playing.user_data.to_string())
    }

    /// <https://lavalink.dev/api/websocket#player-update-op>. It uses up the one report of a fresh position.
    pub(super) fn update_message(&mut self, version: Lavalink, now: Instant) -> String {
        let members = format!(r#""state":{},"guildId":"{}""#, self.state(now), self.guild);
        self.fresh = false;
        match version {
            Lavalink::V3 => format!(r#"{{{members},"op":"playerUpdate"}}"#),
            Lavalink::V4 => format!(r#"{{"op":"playerUpdate",{members}}}"#),
        }
    }

    /// `TrackStartEvent`: <https://lavalink.dev/api/websocket#track-start-event>.
    pub(super) fn start_message(&self, version: Lavalink, playing: &Playing) -> String {
        self.track_event(version, "TrackStartEvent", (playing, playing.track.position), "")
    }

    /// `TrackEndEvent` with one of v4's reasons; v3 has them in capitals.
    pub(super) fn end_message(&self, version: Lavalink, playing: &Playing, reason: &str, now: Instant) -> String {
        let reason = match version {
            Lavalink::V3 => reason.to_ascii_uppercase(),
            Lavalink::V4 => reason.to_owned(),
        };
        self.track_event(version, "TrackEndEvent", (playing, self.reported(now)), &format!(r#","reason":"{reason}""#))
    }

    /// `WebSocketClosedEvent` of a voice connection that this side closed.
    pub(super) fn voice_closed_message(&self, version: Lavalink) -> String {
        let members = r#""code":1000,"reason":"","byRemote":false"#;
        match version {
            Lavalink::V3 => {
                format!(r#"{{{members},"guildId":"{}","op":"event","type":"WebSocketClosedEvent"}}"#, self.guild)
            }
            Lavalink::V4 => {
                format!(r#"{{"op":"event","type":"WebSocketClosedEvent","guildId":"{}",{members}}}"#, self.guild)
            }
        }
    }

    fn track_event(&self, version: Lavalink, kind: &str, (playing, at): (&Playing, i64), more: &str) -> String {
        match version {
            Lavalink::V3 => {
                let encoded = quoted(&track::at_position(&playing.encoded, at));
                format!(
                    r#"{{"encodedTrack":{encoded},"track":{encoded}{more},"guildId":"{}","op":"event","type":"{kind}"}}"#,
                    self.guild
                )
            }
            Lavalink::V4 => format!(
                r#"{{"op":"event","type":"{kind}","guildId":"{}","track":{}{more}}}"#,
                self.guild,
                self.track_json(version, playing, at)
            ),
        }
    }
}
