//! The JSON of a player: a request that changes it, and a node's answer with its filters and its voice connection. Pure.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::config::{Lavalink, Secret};
use crate::sessions::events::{State, TrackObject, millis, or_default};

/// A request that changes a player.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Change {
    track: Option<ChangeOfTrack>,
    #[serde(deserialize_with = "is_there")]
    encoded_track: bool,
    #[serde(deserialize_with = "is_there")]
    identifier: bool,
    pub(super) position: Option<i64>,
    #[serde(deserialize_with = "maybe")]
    pub(super) end_time: Option<Option<i64>>,
    voice: Option<ChangeOfVoice>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ChangeOfVoice {
    #[serde(default)]
    channel_id: Value,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ChangeOfTrack {
    #[serde(deserialize_with = "is_there")]
    encoded: bool,
    #[serde(deserialize_with = "is_there")]
    identifier: bool,
}

fn is_there<'de, D: serde::Deserializer<'de>>(from: D) -> Result<bool, D::Error> {
    serde::de::IgnoredAny::deserialize(from).map(|_| true)
}

fn maybe<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Option<i64>>, D::Error> {
    Option::deserialize(from).map(Some)
}

/// JSON that is understood. Checking all of it for UTF-8 first costs less than checking each of its strings.
pub(super) fn read<'m, T: Deserialize<'m>>(json: &'m [u8]) -> Option<T> {
    serde_json::from_str(std::str::from_utf8(json).ok()?).ok()
}

impl Change {
    pub(super) fn names_track(&self) -> bool {
        let track = self.track.as_ref().is_some_and(|track| track.encoded || track.identifier);
        track || self.encoded_track || self.identifier
    }

    pub(super) fn end(&self) -> Option<u64> {
        self.end_time.flatten().map(millis)
    }
}

/// A player as a node answers it.
#[derive(Deserialize)]
pub(super) struct PlayerObject<'m> {
    #[serde(borrow)]
    pub(super) track: Option<TrackObject<'m>>,
    pub(super) volume: i64,
    pub(super) paused: bool,
    #[serde(default)]
    pub(super) state: Option<State>,
    #[serde(borrow)]
    pub(super) voice: Voice<'m>,
    #[serde(borrow, default)]
    pub(super) filters: Option<&'m RawValue>,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Voice<'m> {
    #[serde(borrow, default)]
    token: Cow<'m, str>,
    #[serde(borrow, default)]
    endpoint: Cow<'m, str>,
    #[serde(borrow, default)]
    session_id: Cow<'m, str>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    channel_id: Option<Cow<'m, str>>,
    /// v3 has the state of the connection here.
    #[serde(default, deserialize_with = "or_default", skip_serializing)]
    connected: bool,
}

impl PlayerObject<'_> {
    pub(super) fn is_connected(&self, version: Lavalink) -> bool {
        match version {
            Lavalink::V3 => self.voice.connected,
            Lavalink::V4 => self.state.is_some_and(|state| state.connected),
        }
    }
}

/// The filters that change how much of a track passes while it is played.
#[derive(Deserialize)]
struct Filters {
    #[serde(default)]
    timescale: Option<Timescale>,
}

#[derive(Deserialize)]
#[serde(default)]
struct Timescale {
    speed: f64,
    rate: f64,
}

impl Default for Timescale {
    fn default() -> Self {
        Self { speed: 1.0, rate: 1.0 }
    }
}

/// How much of a track passes while a second of it is played with these filters.
pub(super) fn pace(filters: &str) -> f64 {
    let timescale = serde_json::from_str::<Filters>(filters).ok().and_then(|filters| filters.timescale);
    let Timescale { speed, rate } = timescale.unwrap_or_default();
    let pace = speed * rate;
    if (0.01..=100.0).contains(&pace) { pace } else { 1.0 }
}

/// The voice channel that the client has named. Nodes before 4.2 answer none, and later ones want it.
fn channel<'m>(change: &Change, before: Option<Secret>) -> Option<Cow<'m, str>> {
    let named = match &change.voice {
        Some(voice) => voice.channel_id.as_str().map(str::to_owned),
        None => serde_json::from_str::<Voice>(before?.expose()).ok()?.channel_id.map(Cow::into_owned),
    };
    named.map(Cow::Owned)
}

impl Voice<'_> {
    /// With the channel that this request or the one before has named, where the node names none.
    pub(super) fn in_channel(self, change: &Change, before: Option<Secret>) -> Self {
        let channel_id = self.channel_id.or_else(|| channel(change, before));
        Self { channel_id, ..self }
    }

    /// As a request has it; `None` when no voice server is known.
    pub(super) fn to_request(&self) -> Option<Secret> {
        let is_whole = ![&self.token, &self.endpoint, &self.session_id].iter().any(|text| text.is_empty());
        is_whole.then(|| serde_json::to_string(self).ok().map(Secret::new)).flatten()
    }
}
