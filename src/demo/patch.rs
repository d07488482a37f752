//! PATCH of a session and of a player: <https://lavalink.dev/api/rest#update-player>. It touches the session it is given.

use std::time::Instant;

use serde_json::{Map, Value};

use super::loading::{self, Loaded};
use super::players::{Playing, Voice};
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

/// Updates a guild's player, in Lavalink's order, and gives its JSON.
pub(super) fn player(
    session: &mut Session,
    guild: i64,
    update: &Object,
    no_replace: bool,
    now: Instant,
) -> Result<String, Refused> {
    let version = session.version;
    let wanted = wanted(version, update)?;
    let (paused, volume) = (flag(update, "paused")?, number(update, "volume")?);
    let (position, end) = (number(update, "position")?, number(update, "endTime")?);
    let voice = update.get("voice").filter(|voice| !voice.is_null()).map(voice).transpose()?;
    let filters = match update.get("filters") {
        None => None,
        Some(filters @ Value::Object(_)) => Some(filters.clone()),
        Some(_) => return refused(400, "Bad Request"),
    };

    if let Some(voice) = voice {
        session.set_voice(guild, voice, now);
    }
    let player = session.player(guild, now);
    if let Some(volume) = volume {
        player.volume = volume;
    }
    if wanted.is_none() {
        if let Some(paused) = paused {
            player.set_paused(paused, now);
        }
        if let Some(position) = position {
            player.seek(position, now);
            session.send_position(guild, now);
        }
    }
    if let Some(filters) = filters {
        session.player(guild, now).filters = filters;
        session.send_position(guild, now);
    }
    let player = session.player(guild, now);
    match wanted {
        None => {
            let user_data = update.get("track").and_then(|track| track.get("userData"));
            if let (Some(playing), Some(user_data)) = (&mut player.playing, user_data) {
                playing.user_data = user_data.clone();
            }
        }
        Some(_) if no_replace && player.playing.is_some() => {}
        Some(wanted) => {
            let playing = wanted.load(version, position, end)?;
            player.set_paused(paused.unwrap_or(false), now);
            session.play(guild, playing, now);
        }
    }
    Ok(session.player(guild, now).json(version, now))
}

/// The track that an update names.
enum Wanted {
    Stop,
    Encoded(String, Value),
    Identifier(String, Value),
}

/// Both versions take `encodedTrack` and `identifier`, v4 as a leftover beside its `track`.
fn wanted(version: Lavalink, update: &Object) -> Result<Option<Wanted>, Refused> {
    let (source, encoded_name) = match update.get("track") {
        Some(Value::Object(track)) if version == Lavalink::V4 => (track, "encoded"),
        Some(_) if version == Lavalink::V4 => return refused(400, "Bad Request"),
        _ => (update, "encodedTrack"),
    };
    let user_data = match source.get("userData") {
        Some(user_data @ Value::Object(_)) => user_data.clone(),
        _ => Value::Object(Map::new()),
    };
    match (source.get(encoded_name), source.get("identifier")) {
        (None, None) => Ok(None),
        (Some(_), Some(_)) => refused(400, format!("Cannot specify both {encoded_name} and identifier")),
        (Some(Value::Null), None) => Ok(Some(Wanted::Stop)),
        (Some(Value::String(encoded)), None) => Ok(Some(Wanted::Encoded(encoded.clone(), user_data))),
        (None, Some(Value::String(identifier))) => Ok(Some(Wanted::Identifier(identifier.clone(), user_data))),
        _ => refused(400, "Bad Request"),
    }
}

impl Wanted {
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
