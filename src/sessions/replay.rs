//! The requests that make the players of a session anew on another node. Pure; the caller has the clock.

use std::time::Instant;

use serde::Serialize;
use serde_json::value::RawValue;

use super::players::{Player, Players, Span};
use crate::config::{Lavalink, Secret};

/// A track whose end was missed starts so many milliseconds before it: the node then tells the client of its end.
const BEFORE_END: u64 = 100;

/// A request for one player. Its body has the voice server's token, and cannot be printed.
pub struct Replay {
    /// The player's guild.
    pub guild: u64,
    /// Where it goes on.
    pub span: Span,
    /// The body of the PATCH.
    pub body: Secret,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Body<'p> {
    #[serde(skip_serializing_if = "Option::is_none")]
    track: Option<TrackBody<'p>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    encoded_track: Option<&'p str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    position: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    end_time: Option<u64>,
    volume: i64,
    paused: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    filters: Option<&'p RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    voice: Option<&'p RawValue>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TrackBody<'p> {
    encoded: &'p str,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_data: Option<&'p RawValue>,
}

/// The guilds in the order in which their players are made anew: those that play come first.
pub fn order(players: &Players) -> Vec<u64> {
    let with = |plays: bool| players.of.iter().filter(move |(_, player)| plays_now(player) == plays);
    with(true).chain(with(false)).map(|(guild, _)| *guild).collect()
}

fn plays_now(player: &Player) -> bool {
    player.track.is_some() && !player.paused
}

/// The request that makes this player as it is now. `None` when there is no such player.
pub fn request(players: &Players, guild: u64, now: Instant) -> Option<Replay> {
    let player = players.of.get(&guild)?;
    let span = span(player, now);
    let track = player.track.as_ref();
    let of_v4 = track.filter(|_| players.version() == Lavalink::V4);
    let body = Body {
        track: of_v4.map(|track| TrackBody { encoded: &track.encoded, user_data: json(track.user_data.as_deref()) }),
        encoded_track: track.filter(|_| players.version() == Lavalink::V3).map(|track| &*track.encoded),
        position: track.filter(|track| !track.is_stream).map(|_| span.position),
        end_time: span.end.filter(|end| *end > 0),
        volume: player.volume,
        paused: player.paused,
        filters: json(player.filters.as_deref()),
        voice: json(player.voice.as_ref().map(Secret::expose)),
    };
    let body = Secret::new(serde_json::to_string(&body).ok()?);
    Some(Replay { guild, span, body })
}

/// Where the player goes on: its place in the track, but never behind the place where it must stop. The new node begins to
/// count there, so that the end moves along.
fn span(player: &Player, now: Instant) -> Span {
    let ahead = player.position.ahead(now);
    let position = player.position.at(now).saturating_add_signed(ahead);
    match player.track.as_ref().and_then(|track| track.end).filter(|end| *end > 0) {
        Some(end) => {
            let end = end.saturating_add_signed(ahead);
            Span { position: position.min(end.saturating_sub(BEFORE_END)), end: Some(end) }
        }
        None => Span { position, end: None },
    }
}

/// What was JSON when it came.
fn json(text: Option<&str>) -> Option<&RawValue> {
    serde_json::from_str(text?).ok()
}
