//! One guild's player: what it plays, where it is, and the JSON of both. It reads the clock and nothing else.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::text::{epoch_millis, quoted};
use super::track::Track;
use crate::config::Lavalink;

/// How often a playing player reports its position.
pub(super) const UPDATE_INTERVAL: Duration = Duration::from_secs(5);

/// A track that is played.
#[derive(Clone)]
pub(super) struct Playing {
    /// The serialised track that the bot sent or named.
    pub(super) encoded: String,
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

/// A guild's player.
pub(super) struct Player {
    pub(super) guild: i64,
    pub(super) playing: Option<Playing>,
    pub(super) volume: i64,
    pub(super) voice: Voice,
    pub(super) filters: Value,
    /// When the next `playerUpdate` is due, while it plays.
    pub(super) next_update: Instant,
    paused: bool,
    /// Milliseconds at `since`.
    position: i64,
    since: Instant,
}

impl Player {
    pub(super) fn new(guild: i64, now: Instant) -> Self {
        Self {
            guild,
            playing: None,
            volume: 100,
            voice: Voice::default(),
            filters: Value::Object(serde_json::Map::new()),
            next_update: now,
            paused: false,
            position: 0,
            since: now,
        }
    }

    /// True while it has a track that is not paused.
    pub(super) fn is_playing(&self) -> bool {
        self.playing.is_some() && !self.paused
    }

    /// Takes a track; its own position is where it starts.
    pub(super) fn set_track(&mut self, playing: Option<Playing>, now: Instant) {
        self.position = playing.as_ref().map_or(0, |playing| playing.track.position);
        self.since = now;
        self.next_update = now + UPDATE_INTERVAL;
        self.playing = playing;
    }

    pub(super) fn set_paused(&mut self, paused: bool, now: Instant) {
        self.seek(self.position(now), now);
        self.paused = paused;
    }

    pub(super) fn set_voice(&mut self, voice: Voice, now: Instant) {
        self.seek(self.position(now), now);
        self.voice = voice;
    }

    /// Milliseconds.
    pub(super) fn seek(&mut self, position: i64, now: Instant) {
        self.position = position.max(0);
        self.since = now;
    }

    /// Milliseconds; it only moves while somebody could listen.
    pub(super) fn position(&self, now: Instant) -> i64 {
        let Some(playing) = &self.playing else { return 0 };
        if !self.moves() {
            return self.position;
        }
        let played = i64::try_from(now.saturating_duration_since(self.since).as_millis()).unwrap_or(i64::MAX);
        self.position.saturating_add(played).min(playing.track.length.max(0))
    }

    /// When the track is over, if it ever is.
    pub(super) fn ends_at(&self) -> Option<Instant> {
        let playing = self.playing.as_ref().filter(|playing| !playing.track.is_stream && self.moves())?;
        let end = playing.end.filter(|end| *end > 0).unwrap_or(i64::MAX).min(playing.track.length);
        let left = Duration::from_millis(u64::try_from(end.saturating_sub(self.position)).unwrap_or(0));
        self.since.checked_add(left)
    }

    fn moves(&self) -> bool {
        self.is_playing() && self.connected()
    }

    fn connected(&self) -> bool {
        !self.voice.endpoint.is_empty()
    }

    /// Milliseconds to the voice server; there is none, so this is that of a near one.
    fn ping(&self) -> i64 {
        if self.connected() { 12 } else { -1 }
    }

    fn state(&self, now: Instant) -> String {
        format!(
            r#"{{"time":{},"position":{},"connected":{},"ping":{}}}"#,
            epoch_millis(),
            self.position(now),
            self.connected(),
            self.ping()
        )
    }

    /// The player object: <https://lavalink.dev/api/rest#player>.
    pub(super) fn json(&self, version: Lavalink, now: Instant) -> String {
        let track = self.playing.as_ref().map_or("null".to_owned(), |playing| {
            let track = Track { position: self.position(now), ..playing.track.clone() };
            track.json(version, &playing.encoded, &playing.user_data.to_string())
        });
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

    /// <https://lavalink.dev/api/websocket#player-update-op>.
    pub(super) fn update_message(&self, version: Lavalink, now: Instant) -> String {
        let members = format!(r#""state":{},"guildId":"{}""#, self.state(now), self.guild);
        match version {
            Lavalink::V3 => format!(r#"{{{members},"op":"playerUpdate"}}"#),
            Lavalink::V4 => format!(r#"{{"op":"playerUpdate",{members}}}"#),
        }
    }

    /// `TrackStartEvent`: <https://lavalink.dev/api/websocket#track-start-event>.
    pub(super) fn start_message(&self, version: Lavalink, playing: &Playing) -> String {
        self.event(version, "TrackStartEvent", playing, "")
    }

    /// `TrackEndEvent` with one of v4's reasons; v3 has them in capitals.
    pub(super) fn end_message(&self, version: Lavalink, playing: &Playing, reason: &str) -> String {
        let reason = match version {
            Lavalink::V3 => reason.to_ascii_uppercase(),
            Lavalink::V4 => reason.to_owned(),
        };
        self.event(version, "TrackEndEvent", playing, &format!(r#","reason":"{reason}""#))
    }

    fn event(&self, version: Lavalink, kind: &str, playing: &Playing, more: &str) -> String {
        let Playing { encoded, track, user_data, .. } = playing;
        match version {
            Lavalink::V3 => {
                let encoded = quoted(encoded);
                format!(
                    r#"{{"encodedTrack":{encoded},"track":{encoded}{more},"guildId":"{}","op":"event","type":"{kind}"}}"#,
                    self.guild
                )
            }
            Lavalink::V4 => format!(
                r#"{{"op":"event","type":"{kind}","guildId":"{}","track":{}{more}}}"#,
                self.guild,
                track.json(version, encoded, &user_data.to_string())
            ),
        }
    }
}
