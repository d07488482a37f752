//! What was used over time: by version, node and account in steps of 10 s for an hour, of a minute for a day and of an
//! hour for 30 days, and the up time of each version on 90 days.
//!
//! It takes samples and keeps figures; it knows neither the ledger nor a node, and touches no socket. Its mutex is taken
//! once in 10 s, and when figures are copied. A step in which nothing was measured is a gap, which is no zero. Sums are
//! differences between two samples, also where a restart was between them. All of it takes less than 1 MiB.

mod group;
mod packed;
mod saved;
mod series;
mod uptime;

use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::config::Lavalink;
pub use group::{Figure, Reading, Totals};
use group::{Group, Row};
pub use saved::Saved;
pub use series::Range;
use uptime::Uptime;
pub use uptime::{Answering, Day};

/// How many nodes have figures of their own.
const MAX_NODES: usize = 20;
/// How many accounts have figures of their own. Once an hour they are chosen anew: those with the most bytes.
const MAX_ACCOUNTS: usize = 8;
/// Versions, and connections without one.
const MAX_VERSIONS: usize = 3;
/// The length of a slot, in milliseconds.
const SLOT: u64 = 10_000;
/// A clock that was set back by no more than this many slots is waited for.
const PATIENCE: u64 = 6;
/// For so long after the figures were restored, a clock that is behind them is waited for, however far: a machine whose clock
/// has no battery sets it only once it has reached the network.
const PATIENCE_OF_START: Duration = Duration::from_secs(600);

const OF_ALL: &[Figure] = &[Figure::Refusals];
const OF_VERSION: &[Figure] =
    &[Figure::Connections, Figure::Requests, Figure::BytesIn, Figure::BytesOut, Figure::Players];
const OF_NODE: &[Figure] = &[
    Figure::Connections,
    Figure::Requests,
    Figure::BytesIn,
    Figure::BytesOut,
    Figure::Players,
    Figure::Load,
    Figure::ResponseTime,
];
const OF_ACCOUNT: &[Figure] = &[Figure::Connections, Figure::Requests, Figure::BytesIn, Figure::BytesOut];

/// What figures are split by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// `v3`, `v4`, and `none` for connections without a version.
    Version,
    /// The nodes of the settings, and those that were.
    Node,
    /// The accounts that use the most.
    Account,
}

impl By {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Version, Self::Node, Self::Account];

    /// The name in the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::Version => "version",
            Self::Node => "node",
            Self::Account => "account",
        }
    }
}

/// Everything at one moment.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    /// Of all connections together; only its refusals count.
    pub all: Reading,
    /// By version.
    pub versions: Vec<Reading>,
    /// By node, in the order of the settings.
    pub nodes: Vec<Reading>,
    /// By account, most bytes first.
    pub accounts: Vec<Reading>,
    /// The versions that have nodes.
    pub answering: Vec<(Lavalink, Answering)>,
}

/// The figures of one name: each has one value for each step, oldest first, and `None` for a gap.
pub type Values = Vec<(Figure, Vec<Option<f64>>)>;

/// The figures of a range.
pub struct View {
    /// When the first step began, in milliseconds since the epoch.
    pub start: u64,
    /// By name.
    pub series: Vec<(String, Values)>,
    /// Of all connections together.
    pub all: Values,
}

/// The figures over time.
pub struct History {
    state: Mutex<State>,
}

/// What the mutex protects.
struct State {
    /// The slot that was measured last. `None` before the first.
    newest: Option<u64>,
    /// When the figures of an earlier process were taken over.
    restored: Option<Instant>,
    all: Group,
    versions: Group,
    nodes: Group,
    accounts: Group,
    /// In the order of [`Lavalink::ALL`].
    uptime: [Uptime; Lavalink::ALL.len()],
}

impl Default for History {
    fn default() -> Self {
        let state = State {
            newest: None,
            restored: None,
            all: Group::new(OF_ALL, 1),
            versions: Group::new(OF_VERSION, MAX_VERSIONS),
            nodes: Group::new(OF_NODE, MAX_NODES),
            accounts: Group::new(OF_ACCOUNT, MAX_ACCOUNTS),
            uptime: Default::default(),
        };
        Self { state: Mutex::new(state) }
    }
}

impl History {
    /// To be called once a second or oftener. Takes a sample when 10 s have ended; `now` is in milliseconds since the
    /// epoch.
    pub fn tick(&self, now: u64, sample: impl FnOnce() -> Sample) {
        let Some(slot) = (now / SLOT).checked_sub(1) else { return };
        if self.state.lock().is_due(slot) {
            // The lock is not held while the other modules are read.
            let sample = sample();
            self.state.lock().put(slot, &sample, now);
        }
    }

    /// The figures of this range, which ends with the last sample, or `now` before the first.
    pub fn view(&self, range: Range, by: By, now: u64) -> View {
        let state = self.state.lock();
        let newest = state.newest.unwrap_or(now / SLOT);
        let group = match by {
            By::Version => &state.versions,
            By::Node => &state.nodes,
            By::Account => &state.accounts,
        };
        let first = range.ended(newest).saturating_sub(range.steps());
        View {
            start: first.saturating_mul(range.step() * 1000),
            series: group.rows().map(|row| (row.name.to_string(), row.values(range, newest))).collect(),
            all: state
                .all
                .rows()
                .next()
                .map_or_else(|| Row::new("all", OF_ALL, None).values(range, newest), |row| row.values(range, newest)),
        }
    }

    /// Whether a version is up and since when, and the days on which that was measured, oldest first.
    pub fn uptime(&self, version: Lavalink) -> (Option<(bool, u64)>, Vec<Day>) {
        let state = self.state.lock();
        let uptime = &state.uptime[version as usize];
        (uptime.state(), uptime.days().collect())
    }

    /// All of it, for the state file and for a successor.
    pub fn save(&self) -> Saved {
        let state = self.state.lock();
        let newest = state.newest.unwrap_or(0);
        let names = Lavalink::ALL.into_iter().map(|version| version.name().to_owned());
        let uptime = names.zip(state.uptime.iter().map(Uptime::save));
        Saved {
            newest,
            all: state.all.save(newest),
            versions: state.versions.save(newest),
            nodes: state.nodes.save(newest),
            accounts: state.accounts.save(newest),
            uptime: uptime.collect(),
        }
    }

    /// Goes on from what was saved.
    pub fn restore(&self, saved: &Saved) {
        let mut state = self.state.lock();
        let newest = saved.newest;
        state.newest = (newest > 0).then_some(newest);
        state.restored = Some(Instant::now());
        for (group, saved) in
            state.groups().into_iter().zip([&saved.all, &saved.versions, &saved.nodes, &saved.accounts])
        {
            group.restore(saved, newest);
        }
        state.uptime =
            Lavalink::ALL.map(|version| saved.uptime.get(version.name()).map(Uptime::restored).unwrap_or_default());
    }
}

impl State {
    fn is_due(&self, slot: u64) -> bool {
        let Some(newest) = self.newest else { return true };
        let is_waited_for = self.restored.is_some_and(|restored| restored.elapsed() < PATIENCE_OF_START);
        slot > newest || (!is_waited_for && slot.saturating_add(PATIENCE) < newest)
    }

    fn groups(&mut self) -> [&mut Group; 4] {
        [&mut self.all, &mut self.versions, &mut self.nodes, &mut self.accounts]
    }

    fn put(&mut self, slot: u64, sample: &Sample, now: u64) {
        self.go_to(slot);
        self.all.put(slot, std::slice::from_ref(&sample.all));
        self.versions.put(slot, &sample.versions);
        self.nodes.put(slot, &sample.nodes);
        self.accounts.put(slot, &sample.accounts);
        for version in Lavalink::ALL {
            let uptime = &mut self.uptime[version as usize];
            match sample.answering.iter().find(|(of, _)| *of == version) {
                Some((_, answering)) => uptime.note(slot, *answering, now),
                None => uptime.stop(),
            }
        }
        self.newest = Some(slot);
    }

    /// Leaves a gap between the last slot and this one, or forgets what came after it.
    fn go_to(&mut self, slot: u64) {
        let Some(newest) = self.newest else { return };
        for group in self.groups() {
            if slot <= newest {
                group.forget_after(slot.saturating_sub(1), newest);
                continue;
            }
            // What is older than all rings needs no gaps.
            let longest = (Range::Month.steps() + 1) * Range::Month.step() / Range::Hour.step();
            for missed in newest.saturating_add(1).max(slot.saturating_sub(longest))..slot {
                group.skip(missed);
            }
        }
    }
}

#[cfg(test)]
mod tests;
