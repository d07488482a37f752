//! Refusals over the last hour, by reason and by prefix, and which of them are logged. Reads a clock.

use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde::Serialize;

use super::prefix::Prefix;
use super::table::Table;
use crate::error::End;
use crate::unix_time::unix_millis;

/// The prefixes whose refusals are known.
const MAX_PREFIXES: usize = 4096;
/// A prefix gets one line in this time.
const LINE_PAUSE: Duration = Duration::from_secs(1);
/// All prefixes together get this many lines in that time.
const MAX_LINES: u32 = 50;

const MINUTE: Duration = Duration::from_secs(60);
const TEN_MINUTES: Duration = Duration::from_secs(600);

/// The refusals of the last hour.
pub struct Refusals {
    start: Instant,
    state: Mutex<State>,
}

struct State {
    /// By the number of the reason, in minutes.
    reasons: [Slots<60>; End::ALL.len()],
    prefixes: Table<Row>,
    lines: Lines,
}

/// The refusals of one prefix.
#[derive(Default)]
struct Row {
    /// In tens of minutes.
    slots: Slots<6>,
    /// The last reason, and its time since the start.
    last: Option<(End, Duration)>,
    /// The time of the last line since the start.
    logged: Option<Duration>,
    /// The refusals after that line.
    since_line: u64,
}

/// The lines of the present second.
#[derive(Default)]
struct Lines {
    begin: Option<Duration>,
    count: u32,
}

/// Counts of the last slots of time. A slot is reused when its time is over.
#[derive(Clone, Copy)]
struct Slots<const N: usize> {
    counts: [u32; N],
    /// The number of the newest slot.
    newest: u64,
}

/// The refusals of one reason in the last hour, as the API has them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ReasonRow {
    /// The name of the [`End`].
    pub reason: &'static str,
    /// All of the hour.
    pub last_hour: u64,
    /// For each of its 60 minutes, the present one last.
    pub minutes: Vec<u32>,
}

/// The refusals of one prefix in the last hour, as the API has them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RefusedRow {
    /// The address, or the /64.
    pub address: String,
    /// All of the hour.
    pub last_hour: u64,
    /// The reason of the last one.
    pub reason: &'static str,
    /// The time of the last one, in milliseconds since the epoch.
    pub last_seen: u64,
}

impl Default for Refusals {
    fn default() -> Self {
        let reasons = [Slots::default(); End::ALL.len()];
        let state = State { reasons, prefixes: Table::new(MAX_PREFIXES), lines: Lines::default() };
        Self { start: Instant::now(), state: Mutex::new(state) }
    }
}

impl Refusals {
    /// Counts a refusal. When a line is due for the prefix, returns its refusals since its last line.
    pub(super) fn note(&self, reason: End, prefix: Prefix) -> Option<u64> {
        self.note_at(reason, prefix, self.start.elapsed())
    }

    fn note_at(&self, reason: End, prefix: Prefix, now: Duration) -> Option<u64> {
        let mut state = self.state.lock();
        let State { reasons, prefixes, lines } = &mut *state;
        reasons[reason as usize].add(slot(now, MINUTE));
        let ten_minutes = slot(now, TEN_MINUTES);
        let row = prefixes.row(prefix, |row| row.slots.sum(ten_minutes));
        row.slots.add(ten_minutes);
        row.last = Some((reason, now));
        row.since_line += 1;
        let is_due = row.logged.is_none_or(|logged| now.saturating_sub(logged) >= LINE_PAUSE);
        if !is_due || !lines.take(now) {
            return None;
        }
        row.logged = Some(now);
        Some(std::mem::take(&mut row.since_line))
    }

    /// Each reason that there was in the last hour, in the order of [`End::ALL`].
    pub fn by_reason(&self) -> Vec<ReasonRow> {
        self.by_reason_at(self.start.elapsed())
    }

    fn by_reason_at(&self, now: Duration) -> Vec<ReasonRow> {
        let (now, state) = (slot(now, MINUTE), self.state.lock());
        let row = |end: End| {
            let slots = &state.reasons[end as usize];
            ReasonRow { reason: end.name(), last_hour: slots.sum(now), minutes: slots.in_order(now) }
        };
        End::ALL.into_iter().map(row).filter(|row| row.last_hour > 0).collect()
    }

    /// The prefixes with the most refusals in the last hour, at most `limit`.
    pub fn most_refused(&self, limit: usize) -> Vec<RefusedRow> {
        self.most_refused_at(limit, self.start.elapsed(), unix_millis())
    }

    fn most_refused_at(&self, limit: usize, now: Duration, unix_now: u64) -> Vec<RefusedRow> {
        let ten_minutes = slot(now, TEN_MINUTES);
        let mut found: Vec<(u64, Prefix, (End, Duration))> = {
            let state = self.state.lock();
            let rows = state.prefixes.iter();
            rows.filter_map(|(prefix, row)| Some((row.slots.sum(ten_minutes), prefix, row.last?))).collect()
        };
        found.retain(|(last_hour, ..)| *last_hour > 0);
        found.sort_by_key(|(last_hour, prefix, _)| (std::cmp::Reverse(*last_hour), *prefix));
        let row = |(last_hour, prefix, (end, at)): (u64, Prefix, (End, Duration))| {
            let ago = u64::try_from(now.saturating_sub(at).as_millis()).unwrap_or(u64::MAX);
            RefusedRow {
                address: prefix.to_string(),
                last_hour,
                reason: end.name(),
                last_seen: unix_now.saturating_sub(ago),
            }
        };
        found.into_iter().take(limit).map(row).collect()
    }
}

/// The number of the slot of this length that the moment is in.
fn slot(now: Duration, length: Duration) -> u64 {
    now.as_secs() / length.as_secs()
}

impl Lines {
    fn take(&mut self, now: Duration) -> bool {
        if self.begin.is_none_or(|begin| now.saturating_sub(begin) >= LINE_PAUSE) {
            *self = Self { begin: Some(now), count: 0 };
        }
        self.count += 1;
        self.count <= MAX_LINES
    }
}

impl<const N: usize> Default for Slots<N> {
    fn default() -> Self {
        Self { counts: [0; N], newest: 0 }
    }
}

impl<const N: usize> Slots<N> {
    fn add(&mut self, slot: u64) {
        for passed in (self.newest + 1..=slot).rev().take(N) {
            *self.place(passed) = 0;
        }
        self.newest = self.newest.max(slot);
        let count = self.place(slot);
        *count = count.saturating_add(1);
    }

    fn place(&mut self, slot: u64) -> &mut u32 {
        &mut self.counts[(slot % N as u64) as usize]
    }

    /// The counts of the `N` slots up to `slot`, oldest first.
    fn in_order(&self, slot: u64) -> Vec<u32> {
        (0..N as u64).rev().map(|age| self.count(slot, age)).collect()
    }

    fn sum(&self, slot: u64) -> u64 {
        (0..N as u64).map(|age| u64::from(self.count(slot, age))).sum()
    }

    /// The count of the slot that many slots before `slot`.
    fn count(&self, slot: u64, age: u64) -> u32 {
        match slot.checked_sub(age) {
            Some(at) if at <= self.newest && self.newest - at < N as u64 => self.counts[(at % N as u64) as usize],
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests;
