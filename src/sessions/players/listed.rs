//! The players of a session that was resumed, from the node's list of them. What has come while the list was under way
//! is newer than the list.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::json::{Change, PlayerObject};
use super::{Heard, MAX_PLAYER, Player, Players, UnderWay};
use crate::sessions::events::TrackId;

/// The most players of which something may come while the list is under way.
const MAX_SINCE: usize = 4096;

/// What is known of a session's players.
#[derive(Clone, Default)]
pub(super) enum Listing {
    /// All of them are known.
    #[default]
    Whole,
    /// The node must be asked for them.
    Missing,
    /// The node has been asked.
    Asked(Since),
}

/// What has come since the node was asked.
#[derive(Clone, Default)]
pub(super) struct Since {
    /// Players that a request has changed or removed.
    answered: BTreeSet<u64>,
    /// Players whose tracks have started or ended.
    tracks: BTreeMap<u64, UnderWay>,
}

impl Since {
    fn is_full(&self) -> bool {
        self.answered.len() + self.tracks.len() >= MAX_SINCE
    }
}

impl Listing {
    fn since(&mut self) -> Option<&mut Since> {
        match self {
            Self::Asked(since) if !since.is_full() => Some(since),
            _ => None,
        }
    }

    pub(super) fn note_answer(&mut self, guild: u64) {
        if let Some(since) = self.since() {
            since.answered.insert(guild);
        }
    }

    pub(super) fn note_start(&mut self, guild: u64, track: TrackId) {
        if let Some(since) = self.since() {
            since.tracks.entry(guild).or_default().note_start(track);
        }
    }

    pub(super) fn note_end(&mut self, guild: u64, track: TrackId) {
        if let Some(since) = self.since() {
            since.tracks.entry(guild).or_default().note_end(track);
        }
    }
}

#[derive(Deserialize)]
struct Named<'m> {
    #[serde(rename = "guildId")]
    guild: &'m str,
}

impl Players {
    /// Only the node knows them all.
    pub fn miss_list(&mut self) {
        self.listing = Listing::Missing;
    }

    /// True when all are known.
    pub fn are_whole(&self) -> bool {
        matches!(self.listing, Listing::Whole)
    }

    /// The node is asked for them now.
    pub fn begin_list(&mut self) {
        self.listing = Listing::Asked(Since::default());
    }

    /// Takes the node's answer to `GET /vN/sessions/ID/players`. False when it is not understood or a player is too
    /// large; then not all are known.
    ///
    /// Two things are in no answer. The place where a track must end is lost. A player that was paused before it played
    /// is said to be at 0.
    pub fn listed(&mut self, list: &[u8], now: Instant) -> bool {
        let Listing::Asked(since) = std::mem::replace(&mut self.listing, Listing::Missing) else { return false };
        let Ok(list) = serde_json::from_slice::<Vec<&RawValue>>(list) else { return false };
        let is_taken = !since.is_full() && list.iter().all(|player| self.take_listed(player.get(), &since, now));
        if is_taken {
            self.listing = Listing::Whole;
        }
        is_taken
    }

    fn take_listed(&mut self, json: &str, since: &Since, now: Instant) -> bool {
        let guild = serde_json::from_str::<Named>(json).ok().and_then(|named| named.guild.parse().ok());
        let (Some(guild), Ok(player)) = (guild, serde_json::from_str::<PlayerObject>(json)) else { return false };
        if since.answered.contains(&guild) {
            return true;
        }
        let before = self.take(guild);
        let seen = since.tracks.get(&guild).map(|tracks| (tracks.started, tracks.ended)).unwrap_or_default();
        let mut player = Player::answered(self.version, before, &Change::default(), false, player, seen, now);
        if let Some(track) = &mut player.track {
            // The node has sent its start before it answered.
            track.heard = Heard::Start;
        }
        let fits = json.len() <= MAX_PLAYER && player.bytes() <= MAX_PLAYER;
        self.bytes += player.bytes();
        self.of.insert(guild, player);
        fits
    }
}
