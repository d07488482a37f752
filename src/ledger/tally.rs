//! Counters that only grow, by listener, version and reason: what metrics are made of.
//!
//! Metrics count what this process has counted itself. A counter that fell a little when another process goes on from
//! saved figures would look to Prometheus as if it had begun anew from zero.
//!
//! A connection's bytes count for the version it uses; when that changes, what it used so far stays with the old one.
//! Before its first request is routed, what it uses counts once a request is refused or the connection ends: until then it
//! may belong to a version. All of this happens under the ledger's lock, so that no sum ever decreases.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::entry::{Live, Notes};
use super::{Amount, Ledger, millis};
use crate::config::Lavalink;
use crate::error::End;
use crate::unix_time::unix_millis;

/// What connections used, by version: none, v3, v4. Bytes and requests of a live connection are added when it changes
/// its version or closes.
#[derive(Clone, Copy, Default)]
pub(super) struct Versions([Amount; 3]);

impl Versions {
    pub(super) fn add(&mut self, version: Option<Lavalink>, amount: Amount) {
        self.0[index(version)].add(amount);
    }

    /// Counts what a connection used so far for the version that it has.
    pub(super) fn count(&mut self, notes: &mut Notes, so_far: Amount) {
        self.add(notes.version, so_far.less(notes.counted_by_version));
        notes.counted_by_version = notes.counted_by_version.at_least(so_far);
    }

    pub(super) fn by_name(&self) -> BTreeMap<String, Amount> {
        let names = VERSIONS.iter().map(|version| name(*version).to_owned());
        names.zip(self.0).filter(|(_, amount)| *amount != Amount::default()).collect()
    }

    /// A version that is not known here counts for none, so that the sums are whole.
    pub(super) fn add_by_name(&mut self, amounts: &BTreeMap<String, Amount>) {
        for (known, amount) in amounts {
            let version = VERSIONS.into_iter().find(|version| name(*version) == known);
            self.add(version.flatten(), *amount);
        }
    }

    pub(super) fn of(&self, version: Option<Lavalink>) -> Amount {
        self.0[index(version)]
    }

    /// Of all versions together.
    pub(super) fn sum(&self) -> Amount {
        let mut sum = Amount::default();
        self.0.iter().for_each(|amount| sum.add(*amount));
        sum
    }
}

pub(super) const VERSIONS: [Option<Lavalink>; 3] = [None, Some(Lavalink::V3), Some(Lavalink::V4)];

pub(super) fn name(version: Option<Lavalink>) -> &'static str {
    version.map_or("none", Lavalink::name)
}

pub(super) fn index(version: Option<Lavalink>) -> usize {
    version.map_or(0, |version| 1 + version as usize)
}

/// Counts by reason. Reasons of another version of lavaproxy, which saved figures may contain, are kept by their names.
#[derive(Clone, Default)]
pub(super) struct Reasons {
    pub known: [u64; End::ALL.len()],
    unknown: BTreeMap<String, u64>,
}

impl Reasons {
    pub(super) fn count(&mut self, reason: End) {
        let sum = &mut self.known[reason as usize];
        *sum = sum.saturating_add(1);
    }

    pub(super) fn add(&mut self, counts: &[u64; End::ALL.len()]) {
        for (sum, count) in self.known.iter_mut().zip(counts) {
            *sum = sum.saturating_add(*count);
        }
    }

    pub(super) fn add_by_name(&mut self, counts: BTreeMap<String, u64>) {
        for (reason, count) in counts {
            let sum = match End::ALL.iter().find(|end| end.name() == reason) {
                Some(end) => &mut self.known[*end as usize],
                None => self.unknown.entry(reason).or_default(),
            };
            *sum = sum.saturating_add(count);
        }
    }

    /// Of all reasons together.
    pub(super) fn sum(&self) -> u64 {
        self.known.iter().chain(self.unknown.values()).fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// Those that have happened.
    pub(super) fn by_name(&self) -> BTreeMap<String, u64> {
        let mut counts = self.all();
        counts.retain(|_, count| *count > 0);
        counts
    }

    /// All of them, with 0 for a reason that has not happened.
    pub(super) fn all(&self) -> BTreeMap<String, u64> {
        let known = End::ALL.iter().map(|end| (end.name().to_owned(), self.known[*end as usize]));
        self.unknown.clone().into_iter().chain(known).collect()
    }
}

/// One version's share.
#[derive(Clone, Copy, Debug)]
pub struct Tally {
    /// `None` for connections that have sent no request that could be routed.
    pub version: Option<Lavalink>,
    /// Live connections that are not tunnels.
    pub http: u64,
    /// Live tunnels.
    pub websockets: u64,
    /// So far, live connections too.
    pub amount: Amount,
}

/// What came from saved figures and from a predecessor.
#[derive(Default)]
pub(super) struct Inherited {
    pub listeners: BTreeMap<Arc<str>, u64>,
    pub versions: Versions,
    pub ended: Reasons,
    pub refused: Reasons,
}

/// All counters of this process at one moment.
#[derive(Debug)]
pub struct Tallies {
    /// When the process began to count, in milliseconds since the epoch.
    pub started_at: u64,
    /// When this was taken.
    pub now: u64,
    /// The time between the two in milliseconds, by a clock that is never set.
    pub uptime: u64,
    /// Connections ever opened, by listener.
    pub listeners: BTreeMap<Arc<str>, u64>,
    /// Without a version, then v3, then v4.
    pub versions: [Tally; 3],
    /// Ended connections, in the order of [`End::ALL`].
    pub ended: [u64; End::ALL.len()],
    /// Requests and connections answered with an error of our own, in the order of [`End::ALL`].
    pub refused: [u64; End::ALL.len()],
}

impl Ledger {
    /// The counters as of now.
    pub fn tallies(&self) -> Tallies {
        let state = self.state.lock();
        let inherited = &state.inherited;
        let mut versions = VERSIONS.map(|version| {
            let amount = state.versions.of(version).less(inherited.versions.of(version));
            Tally { version, http: 0, websockets: 0, amount }
        });
        for connection in state.live.values() {
            let notes = connection.notes.lock();
            let tally = &mut versions[index(notes.version)];
            tally.amount.add(notes.open_by_version(connection.amount()));
            match connection.websocket.load(Relaxed) {
                true => tally.websockets += 1,
                false => tally.http += 1,
            }
        }
        let less = |sum: u64, before: Option<&u64>| sum.saturating_sub(before.copied().unwrap_or_default());
        let listeners = state.listeners.iter();
        let listeners = listeners.map(|(name, sum)| (Arc::clone(name), less(*sum, inherited.listeners.get(name))));
        Tallies {
            started_at: self.started_at,
            now: unix_millis(),
            uptime: millis(self.started.elapsed()),
            listeners: listeners.collect(),
            versions,
            ended: std::array::from_fn(|at| less(state.ended.known[at], inherited.ended.known.get(at))),
            refused: self.refused_here(),
        }
    }

    /// Counts what a connection used so far for the version it used. The request that changes the version counts for
    /// the new one.
    pub(super) fn change_version(&self, connection: &Live, version: Option<Lavalink>) {
        let mut state = self.state.lock();
        let mut notes = connection.notes.lock();
        if notes.version.is_some() {
            let mut so_far = connection.amount();
            so_far.requests = so_far.requests.saturating_sub(1);
            state.versions.count(&mut notes, so_far);
        }
        notes.version = version;
    }

    /// Counts for none what a connection used so far, because a request was refused before any was routed.
    pub(super) fn count_unrouted(&self, connection: &Live) {
        if connection.notes.lock().version.is_some() {
            return;
        }
        let mut state = self.state.lock();
        state.versions.count(&mut connection.notes.lock(), connection.amount());
    }
}
