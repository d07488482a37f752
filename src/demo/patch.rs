//! PATCH of a session and of a player: <https://lavalink.dev/api/rest#update-player>. It changes the session that it is
//! given.

use std::time::Instant;

use serde_json::{Map, Value};

use super::loading::{self, Loaded};
use super::players::{Player, Playing, Voice};
use super::session::Session;
use super::text::quoted;
use super::track::Track;
use crate::config::Lavalink;

type Object = Map<String, Value>;

/// Why an update is not done.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refused {
    /// The HTTP status.
    pub(super) status: u16,
    pub(super) why: String,
}

fn refused<T>(status: u16, why: impl Into<String>) -> Result<T, Refused> {
    Err(Refused { status, why: why.into() })
}

/// Updates a session's resuming and gives its JSON.
pub(super) fn session(session: &mut Session, update: &Object) -> Result<String, Refused> {
    let timeout = number(update, "timeout")?.unwrap_or(session.timeout);
    let json = match session.version {
        Lavalink::V3 => {
            match update.get("resumingKey") {
                None => {}
                Some(Value::Null) => session.resume_key = None,
                Some(Value::String(key)) => session.resume_key = Some(key.clone()),
                Some(_) => return refused(400, "Bad Request"),
            }
            let key = session.resume_key.as_deref().map_or("null".to_owned(), quoted);
            format!(r#"{{"resumingKey":{key},"timeout":{timeout}}}"#)
        }
        Lavalink::V4 => {
            if let Some(resuming) = flag(update, "resuming")? {
                session.resume_key = resuming.then(|| session.id.clone());
            }
            format!(r#"{{"resuming":{},"timeout":{timeout}}}"#, session.resume_key.is_some())
        }
    };
    session.timeout = timeout;
    Ok(json)
}

/// What a PATCH of a player wants, checked before anything is changed.
pub(super) struct Update {
    track: Option<NewTrack>,
    /// For the track that plays already.
    user_data: Option<Value>,
    paused: Option<bool>,
    volume: Option<i64>,
    position: Option<i64>,
    /// `Some(None)` takes a set end away.
    end: Option<Option<i64>>,
    voice: Option<Voice>,
    filters: Option<Value>,
    no_replace: bool,
    /// Set by the first step, which started a voice handshake that the second one ends.
    connects: bool,
}

impl Update {
    /// Reads the body of a PATCH.
    pub(super) fn parse(version: Lavalink, body: &Object, no_replace: bool) -> Result<Self, Refused> {
        let filters = match body.get("filters") {
            None => None,
            Some(filters @ Value::Object(_)) => Some(filters.clone()),
            Some(_) => return refused(400, "Bad Request"),
        };
        let end = number(body, "endTime")?;
        if version == Lavalink::V4 && end.is_some_and(|end| end <= 0) {
            return refused(400, "End time must be greater than 0");
        }
        Ok(Self {
            track: NewTrack::parse(version, body)?,
            user_data: body.get("track").and_then(|track| track.get("userData")).cloned(),
            paused: flag(body, "paused")?,
            volume: number(body, "volume")?,
            position: number(body, "position")?,
            end: body.contains_key("endTime").then_some(end),
            voice: body.get("voice").filter(|voice| !voice.is_null()).map(voice).transpose()?,
            filters,
            no_replace,
            connects: false,
        })
    }

    /// The first step: names the voice server. True when the second step has to wait for its handshake. A player that
    /// is about to play reports meanwhile that it is not connected.
    pub(super) fn connect(&mut self, session: &mut Session, guild: i64, now: Instant) -> bool {
        let version = session.version;
        let player = session.player(guild, now);
        let Some(voice) = self.voice.take() else { return false };
        self.connects = player.set_voice(version, voice, now);
        if self.connects && self.plays(player) {
            session.send_position(guild, now);
        }
        self.connects
    }

    fn plays(&self, player: &Player) -> bool {
        matches!(self.track, Some(NewTrack::Encoded(..) | NewTrack::Identifier(..)))
            && !(self.no_replace && player.playing.is_some())
    }

    /// The second step: does the rest, in Lavalink's order, and gives the player's JSON.
    pub(super) fn apply(self, session: &mut Session, guild: i64, now: Instant) -> Result<String, Refused> {
        let version = session.version;
        let plays = self.plays(session.player(guild, now));
        if self.connects && !plays {
            session.finish_voice(guild, now);
        }
        let player = session.player(guild, now);
        if let Some(volume) = self.volume {
            player.volume = volume;
        }
        if self.track.is_none() {
            self.change_playing(session, guild, now);
        }
        if let Some(filters) = self.filters {
            session.player(guild, now).filters = filters;
            if !(self.connects && plays) {
                session.send_position(guild, now);
            }
        }
        match self.track {
            Some(track) if !(self.no_replace && session.player(guild, now).playing.is_some()) => {
                let playing = match track.load(version, self.position, self.end.flatten()) {
                    Ok(playing) => playing,
                    Err(refused) => {
                        if self.connects {
                            session.finish_voice(guild, now);
                        }
                        return Err(refused);
                    }
                };
                session.player(guild, now).set_paused(self.paused.unwrap_or(false), now);
                session.play(guild, playing, self.connects, now);
            }
            _ => {}
        }
        Ok(session.player(guild, now).json(version, now))
    }

    /// What an update without a track does to the one that plays.
    fn change_playing(&self, session: &mut Session, guild: i64, now: Instant) {
        let player = session.player(guild, now);
        if let Some(paused) = self.paused {
            player.set_paused(paused, now);
        }
        if let (Some(playing), Some(user_data)) = (&mut player.playing, &self.user_data) {
            playing.user_data = user_data.clone();
        }
        let seeks = self.position.filter(|_| player.playing.is_some());
        if let Some(position) = seeks {
            player.seek(position, now);
        }
        if let Some(end) = self.end {
            player.set_end(end);
        }
        if seeks.is_some() {
            session.send_position(guild, now);
        }
    }
}

/// The track that an update names.
enum NewTrack {
    Stop,
    Encoded(String, Value),
    Identifier(String, Value),
}

impl NewTrack {
    /// Both versions take `encodedTrack` and `identifier`, v4 as a leftover beside its `track`.
    fn parse(version: Lavalink, body: &Object) -> Result<Option<Self>, Refused> {
        let (source, encoded_name) = match body.get("track") {
            Some(Value::Object(track)) if version == Lavalink::V4 => (track, "encoded"),
            Some(_) if version == Lavalink::V4 => return refused(400, "Bad Request"),
            _ => (body, "encodedTrack"),
        };
        let user_data = match source.get("userData") {
            Some(user_data @ Value::Object(_)) => user_data.clone(),
            _ => Value::Object(Map::new()),
        };
        match (source.get(encoded_name), source.get("identifier")) {
            (None, None) => Ok(None),
            (Some(_), Some(_)) => refused(400, format!("Cannot specify both {encoded_name} and identifier")),
            (Some(Value::Null), None) => Ok(Some(Self::Stop)),
            (Some(Value::String(encoded)), None) => Ok(Some(Self::Encoded(encoded.clone(), user_data))),
            (None, Some(Value::String(identifier))) => Ok(Some(Self::Identifier(identifier.clone(), user_data))),
            _ => refused(400, "Bad Request"),
        }
    }

    fn load(self, version: Lavalink, position: Option<i64>, end: Option<i64>) -> Result<Option<Playing>, Refused> {
        let (encoded, mut track, user_data) = match self {
            Self::Stop => return Ok(None),
            Self::Encoded(encoded, user_data) => match Track::decode(&encoded) {
                Some(track) => (encoded, track, user_data),
                None => return refused(500, "Failed to decode track"),
            },
            Self::Identifier(identifier, user_data) => match loading::load(&identifier) {
                Loaded::Track(track) => (track.encode(version), track, user_data),
                Loaded::Nothing => return refused(500, format!("No track found for identifier {identifier}")),
                Loaded::Failed => return refused(500, "Something went wrong while looking up the track."),
                Loaded::Playlist(..) | Loaded::Search(_) | Loaded::Large(_) => {
                    return refused(500, "Cannot play a playlist");
                }
            },
        };
        if let Some(position) = position {
            track.position = position;
        }
        Ok(Some(Playing { encoded, track, user_data, end }))
    }
}

fn voice(value: &Value) -> Result<Voice, Refused> {
    let text = |name: &str| value.get(name).and_then(Value::as_str).unwrap_or("").to_owned();
    let voice = Voice {
        token: text("token"),
        endpoint: text("endpoint"),
        session: text("sessionId"),
        channel: value.get("channelId").and_then(Value::as_str).map(str::to_owned),
    };
    // Discord sends updates without an endpoint while it moves a guild to another voice server.
    if [&voice.token, &voice.endpoint, &voice.session].iter().any(|text| text.is_empty()) {
        return refused(400, "Partial voice state update");
    }
    Ok(voice)
}

fn number(update: &Object, name: &str) -> Result<Option<i64>, Refused> {
    match update.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Number(number)) => Ok(number.as_i64().or_else(|| number.as_f64().map(|float| float as i64))),
        Some(_) => refused(400, "Bad Request"),
    }
}

fn flag(update: &Object, name: &str) -> Result<Option<bool>, Refused> {
    match update.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Bool(flag)) => Ok(Some(*flag)),
        Some(_) => refused(400, "Bad Request"),
    }
}
