//! What is kept of a session's players: enough to make each of them anew on another node. It learns from the answers to
//! the client's requests and from the node's messages. Pure; the caller has the clock and bounds the memory.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::value::RawValue;

use super::events::{Event, Track, TrackId, millis};
use super::position::Position;
use crate::config::{Lavalink, Secret};

mod json;
mod listed;
mod replayed;

use json::{Change, PlayerObject, pace, read};
use listed::Listing;

/// The most bytes of one player's JSON that are looked at.
pub const MAX_PLAYER: usize = 64 * 1024;
/// What a player takes beside its texts.
const OVERHEAD: usize = 384;
/// After so long of play, all messages of a player that was made anew pass.
const LONGEST_SETTLING: Duration = Duration::from_secs(10);
/// How far a report may be from the player's place, in milliseconds.
const SLACK: u64 = 1500;

/// The players of one session, by guild.
#[derive(Clone)]
pub struct Players {
    version: Lavalink,
    pub(super) of: BTreeMap<u64, Player>,
    /// Those that the node of an attempt does not take.
    aside: BTreeMap<u64, Player>,
    /// The memory that they take.
    bytes: usize,
    /// The client's requests that change a player and are not answered yet.
    under_way: BTreeMap<u64, UnderWay>,
    listing: Listing,
}

#[derive(Clone, Default)]
struct UnderWay {
    count: u32,
    /// The track that has started since.
    started: Option<TrackId>,
    /// The track that has ended since, after its start.
    ended: Option<TrackId>,
}

impl UnderWay {
    fn note_start(&mut self, track: TrackId) {
        (self.started, self.ended) = (Some(track), None);
    }

    fn note_end(&mut self, track: TrackId) {
        self.ended = Some(track);
    }

    /// A start of the same track is still to come, if it is the one that replaces it.
    fn note_replaced(&mut self, track: TrackId) {
        self.started.take_if(|started| *started == track);
    }
}

/// One player.
#[derive(Clone)]
pub struct Player {
    pub(super) track: Option<Playing>,
    pub(super) volume: i64,
    pub(super) paused: bool,
    /// JSON; `None` without filters.
    pub(super) filters: Option<Box<str>>,
    /// JSON; `None` without a voice server.
    pub(super) voice: Option<Secret>,
    pub(super) position: Position,
    connected: bool,
    settling: Option<Settling>,
}

/// What a player plays.
#[derive(Clone)]
pub(super) struct Playing {
    pub(super) id: TrackId,
    pub(super) encoded: Box<str>,
    pub(super) user_data: Option<Box<str>>,
    pub(super) is_stream: bool,
    /// Where to stop, in milliseconds.
    pub(super) end: Option<u64>,
    heard: Heard,
}

/// What the client has heard last of a track.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Heard {
    /// Nothing: its start is still to come.
    Nothing,
    Start,
    /// Another track takes its place.
    Replaced,
}

/// A player that was made anew, until its messages say what the client knows already.
#[derive(Clone)]
struct Settling {
    since: Instant,
    /// The start that the client has heard of before.
    start: Option<TrackId>,
}

/// What a player that is made anew still plays: where it goes on and where it must stop, in milliseconds of what the new node
/// will report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    pub(super) position: u64,
    pub(super) end: Option<u64>,
}

impl Players {
    /// No players yet.
    pub fn new(version: Lavalink) -> Self {
        let (of, aside, under_way) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self { version, of, aside, bytes: 0, under_way, listing: Listing::Whole }
    }

    /// The version of their nodes.
    pub fn version(&self) -> Lavalink {
        self.version
    }

    /// The memory that they take.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// A request of the client that changes this player goes to the node.
    pub fn begin_request(&mut self, guild: u64) {
        self.under_way.entry(guild).or_default().count += 1;
    }

    /// That request is over, after [`answered`](Self::answered) if it was answered.
    pub fn end_request(&mut self, guild: u64) {
        if let Some(under_way) = self.under_way.get_mut(&guild) {
            under_way.count -= 1;
            if under_way.count == 0 {
                self.under_way.remove(&guild);
            }
        }
    }

    /// The node has answered a request with the whole player. False when the answer is not understood; the player is
    /// then not kept.
    pub fn answered(&mut self, guild: u64, request: &[u8], no_replace: bool, answer: &[u8], now: Instant) -> bool {
        self.listing.note_answer(guild);
        let before = self.take(guild);
        let Some(answer) = read::<PlayerObject>(answer) else { return false };
        let change = read::<Change>(request).unwrap_or_default();
        let seen = self.under_way.get(&guild).map(|under_way| (under_way.started, under_way.ended)).unwrap_or_default();
        let player = Player::answered(self.version, before, &change, no_replace, answer, seen, now);
        let fits = player.bytes() <= MAX_PLAYER;
        if fits {
            self.bytes += player.bytes();
            self.of.insert(guild, player);
        }
        fits
    }

    fn take(&mut self, guild: u64) -> Option<Player> {
        let player = self.of.remove(&guild).or_else(|| self.aside.remove(&guild))?;
        self.bytes -= player.bytes();
        Some(player)
    }

    /// The player is gone.
    pub fn remove(&mut self, guild: u64) {
        self.listing.note_answer(guild);
        self.take(guild);
    }

    /// Forgets all of them.
    pub fn clear(&mut self) {
        self.listing = Listing::Missing;
        self.of.clear();
        self.aside.clear();
        self.bytes = 0;
    }

    /// Takes a message of the node. True when the client must not get it: it knows better already.
    pub fn note(&mut self, event: &Event<'_>, now: Instant) -> bool {
        match event {
            Event::Update { guild, position, connected } => match self.of.get_mut(guild) {
                Some(player) => player.note_update(*position, *connected, now),
                None => false,
            },
            Event::Start { guild, track } => {
                let is_known = self.change(*guild, |player| player.note_start(track, now)).unwrap_or(false);
                if let Some(under_way) = self.under_way.get_mut(guild).filter(|_| !is_known) {
                    under_way.note_start(track.id);
                }
                self.listing.note_start(*guild, track.id);
                is_known
            }
            Event::Stats => false,
            Event::End { guild, id, replaced: true } => {
                if let Some(under_way) = self.under_way.get_mut(guild) {
                    under_way.note_replaced(*id);
                }
                if let Some(player) = self.of.get_mut(guild) {
                    player.note_replaced(*id);
                }
                false
            }
            Event::End { guild, id, .. } => {
                if let Some(under_way) = self.under_way.get_mut(guild) {
                    under_way.note_end(*id);
                }
                self.listing.note_end(*guild, *id);
                self.change(*guild, |player| player.note_end(*id, now));
                false
            }
        }
    }

    /// Changes a player's track.
    fn change<T>(&mut self, guild: u64, change: impl FnOnce(&mut Player) -> T) -> Option<T> {
        let player = self.of.get_mut(&guild)?;
        self.bytes -= player.bytes();
        let result = change(player);
        self.bytes += player.bytes();
        Some(result)
    }
}

impl Playing {
    fn new(track: &Track<'_>, end: Option<u64>, heard: Heard) -> Self {
        Self {
            id: track.id,
            encoded: (&*track.encoded).into(),
            user_data: track.user_data.map(Into::into),
            is_stream: track.is_stream,
            end,
            heard,
        }
    }
}

impl Player {
    /// The player after a request. `before` is what was known of it; `seen` is the track that has started and the one
    /// that has ended since the request was sent.
    fn answered(
        version: Lavalink,
        before: Option<Self>,
        change: &Change,
        no_replace: bool,
        answer: PlayerObject<'_>,
        seen: (Option<TrackId>, Option<TrackId>),
        now: Instant,
    ) -> Self {
        let (started, ended) = seen;
        let reported = answer.state.map(|state| millis(state.position));
        let connected = answer.is_connected(version);
        let track = answer.track.map(|track| track.read(version)).filter(|track| ended != Some(track.id));
        let (was_at, old_track, old_voice, settling) = match before {
            Some(Self { position, track, voice, settling, .. }) => (Some(position), track, voice, settling),
            None => (None, None, None, None),
        };
        let voice = answer.voice.in_channel(change, old_voice);
        let is_replaced =
            !no_replace || old_track.is_none() || track.as_ref().is_some_and(|track| started == Some(track.id));
        let starts = change.names_track() && is_replaced;
        let changes = !change.names_track();
        let runs = track.is_some() && !answer.paused && connected;
        let mut position = match &track {
            None => Position::asked(0, false, now),
            Some(track) => match change.position.filter(|_| starts || changes) {
                Some(asked) => Position::asked(millis(asked), runs, now),
                None if starts => Position::asked(track.position, runs, now),
                None => {
                    let reported = reported.unwrap_or(track.position);
                    let mut position = was_at.unwrap_or(Position::asked(reported, runs, now));
                    position.report(reported, runs, now);
                    position
                }
            },
        };
        let is_same = |old: &Playing| track.as_ref().is_some_and(|track| track.id == old.id);
        let old_track = old_track.filter(is_same);
        let heard = match (&track, &old_track) {
            (Some(track), _) if starts && started == Some(track.id) => Heard::Start,
            (_, Some(old)) if !starts => old.heard,
            _ => Heard::Nothing,
        };
        let end = match change.end_time {
            _ if starts => change.end(),
            Some(_) if changes => change.end(),
            _ => old_track.and_then(|old| old.end),
        };
        let settling = settling.filter(|_| !starts).map(|settling| Settling { since: now, ..settling });
        let filters = answer.filters.map(RawValue::get).filter(|json| *json != "{}" && *json != "null");
        position.set_pace(filters.map_or(1.0, pace), now);
        Self {
            track: track.map(|track| Playing::new(&track, end, heard)),
            volume: answer.volume,
            paused: answer.paused,
            filters: filters.map(Into::into),
            voice: voice.to_request(),
            position,
            connected,
            settling,
        }
    }

    fn bytes(&self) -> usize {
        let text = |text: &Option<Box<str>>| text.as_deref().map_or(0, str::len);
        let track = self.track.as_ref().map_or(0, |track| track.encoded.len() + text(&track.user_data));
        let voice = self.voice.as_ref().map_or(0, |voice| voice.expose().len());
        OVERHEAD + track + text(&self.filters) + voice
    }

    /// True while it plays.
    fn runs(&self) -> bool {
        self.track.is_some() && !self.paused && self.connected
    }

    fn note_update(&mut self, position: u64, connected: bool, now: Instant) -> bool {
        self.connected = connected;
        let runs = self.runs();
        let expected = self.position.at(now);
        let is_believed = self.track.is_none() || self.position.report(position, runs, now);
        let Some(settling) = &self.settling else { return false };
        let is_near = is_believed || position.abs_diff(expected) <= SLACK;
        let is_in_place = is_near && (connected || self.voice.is_none());
        let is_old = !self.paused && now.saturating_duration_since(settling.since) >= LONGEST_SETTLING;
        let has_settled = is_in_place && settling.start.is_none() && (runs || self.track.is_none());
        if is_old || has_settled {
            self.settling = None;
        }
        !is_old && !is_in_place
    }

    fn note_start(&mut self, track: &Track<'_>, now: Instant) -> bool {
        if let Some(settling) = &mut self.settling {
            let is_young = now.saturating_duration_since(settling.since) < LONGEST_SETTLING;
            if settling.start.take_if(|id| *id == track.id).is_some() && is_young {
                return true;
            }
            self.settling = None;
        }
        match &mut self.track {
            Some(known) if known.id == track.id => known.heard = Heard::Start,
            // The answer to a request came before the messages about the tracks before it.
            Some(known) if known.heard == Heard::Nothing => return false,
            _ => self.track = Some(Playing::new(track, None, Heard::Start)),
        }
        self.position = self.position.asked_again(track.position, self.runs(), now);
        false
    }

    fn note_replaced(&mut self, id: TrackId) {
        if let Some(track) = self.track.as_mut().filter(|track| track.id == id && track.heard == Heard::Start) {
            track.heard = Heard::Replaced;
        }
    }

    fn note_end(&mut self, id: TrackId, now: Instant) {
        if self.track.take_if(|track| track.id == id).is_some() {
            self.position = self.position.asked_again(0, false, now);
            self.settling = None;
        }
    }
}

#[cfg(test)]
mod tests;
