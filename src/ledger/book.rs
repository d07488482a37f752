//! What each client address, bot, account or node used. All are kept in the same way and within the same bound.
//!
//! A connection counts for one key of a book at a time. When its key changes, what it used before stays with the
//! earlier key. The connection itself counts for the first key alone, so that the sums are the same as if each key had
//! its own connections.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use super::rate::{Clock, Window};
use super::saved::{SavedBook, SavedRow, SavedUsage};
use super::traffic::{Amount, Counted, Used};

/// The figures of each key. Rows beyond the bound are folded into one, `others`: the idle ones that were seen longest
/// ago. A row with a live connection stays, so connections bound the rest.
pub(super) struct Book<K> {
    rows: HashMap<K, Usage>,
    others: Usage,
    bound: usize,
    /// The number of rows at which idle ones are folded. It is above the bound while too few are idle, so that not
    /// every new key causes a search.
    fold_at: usize,
}

/// What one key used.
#[derive(Default)]
struct Usage {
    active: u64,
    /// Without the open part of live connections, which is added when they change their key or close.
    counted: Counted,
    /// The open part of its live connections, as of the last `add_open`.
    open: Amount,
    /// The part that a successor counts already.
    handed_over: Counted,
    last_seen: u64,
    /// The name that a bot sent last.
    client_name: Option<Arc<str>>,
    rate: Window,
}

impl Usage {
    fn add(&mut self, other: &Self) {
        self.active += other.active;
        self.counted.add(other.counted);
        self.handed_over.add(other.handed_over);
        self.last_seen = self.last_seen.max(other.last_seen);
        self.rate.add(&other.rate);
    }

    /// Everything, open parts included.
    fn so_far(&self) -> Counted {
        let mut so_far = self.counted;
        so_far.amount.add(self.open);
        so_far
    }

    /// When it last had a connection; now while one is open.
    fn seen(&self, now: u64) -> u64 {
        if self.active > 0 { now } else { self.last_seen }
    }

    fn used(&self, clock: &Clock, now: u64) -> Used {
        Used::new(self.active, self.so_far(), self.rate.per_second(clock), self.seen(now))
    }
}

/// What a connection counts for in one book.
pub(super) struct Share<K> {
    /// `None` until the connection has a key.
    pub key: Option<K>,
    /// The part of the connection that the rows contain already.
    attributed: Amount,
    /// True when a successor counts the connection for its key, which it cannot leave as a whole any more.
    handed_over: bool,
    /// True once the connection itself counts for a key.
    is_counted: bool,
    /// True while what the connection uses counts for no key.
    is_detached: bool,
}

impl<K> Share<K> {
    pub fn new() -> Self {
        let attributed = Amount::default();
        Self { key: None, attributed, handed_over: false, is_counted: false, is_detached: false }
    }
}

/// A row as it was copied.
pub(super) struct Copied<K> {
    /// `None` for those that were folded together.
    pub key: Option<K>,
    pub client_name: Option<Arc<str>>,
    pub used: Used,
}

impl<K: Clone + Eq + Hash> Book<K> {
    pub fn new(bound: usize) -> Self {
        Self { rows: HashMap::new(), others: Usage::default(), bound, fold_at: bound }
    }

    /// Attributes what a connection uses after `so_far` to this key.
    pub fn attribute(&mut self, share: &mut Share<K>, key: K, so_far: Amount, now: u64) {
        if share.key.as_ref() == Some(&key) {
            return;
        }
        if self.rows.len() >= self.fold_at && !self.rows.contains_key(&key) {
            self.fold_oldest();
        }
        // Bytes before the first request are a PROXY protocol header, which belongs to that request's client.
        let moves_whole = !share.is_counted || (so_far.requests == 0 && !share.handed_over);
        if let Some(known) = share.key.take() {
            self.leave(&known, share, so_far, moves_whole, now);
        }
        if share.is_detached {
            share.attributed = share.attributed.at_least(so_far);
        }
        (share.is_counted, share.is_detached) = (true, false);
        let after = self.rows.entry(key.clone()).or_default();
        after.active += 1;
        after.counted.connections = after.counted.connections.saturating_add(u64::from(moves_whole));
        after.last_seen = now;
        share.key = Some(key);
    }

    /// What a connection uses after `so_far` counts for no key until it has one again.
    pub fn detach(&mut self, share: &mut Share<K>, so_far: Amount, now: u64) {
        if let Some(known) = share.key.take() {
            self.leave(&known, share, so_far, false, now);
        }
        share.is_detached = true;
    }

    fn leave(&mut self, key: &K, share: &mut Share<K>, so_far: Amount, moves_whole: bool, now: u64) {
        let Some(before) = self.rows.get_mut(key) else { return };
        before.active = before.active.saturating_sub(1);
        before.last_seen = now;
        if moves_whole {
            before.counted.connections = before.counted.connections.saturating_sub(1);
        } else {
            before.counted.amount.add(so_far.less(share.attributed));
            share.attributed = share.attributed.at_least(so_far);
        }
        if before.active == 0 && before.counted.is_nothing() {
            self.rows.remove(key);
        }
    }

    /// Notes the name that a connection's bot sent.
    pub fn name(&mut self, share: &Share<K>, client_name: Arc<str>) {
        if let Some(usage) = self.row_of(share) {
            usage.client_name = Some(client_name);
        }
    }

    /// Counts all that a connection used, which is over.
    pub fn close(&mut self, share: &Share<K>, used: Amount, now: u64) {
        if let Some(usage) = self.row_of(share) {
            usage.active = usage.active.saturating_sub(1);
            usage.counted.amount.add(used.less(share.attributed));
            usage.last_seen = now;
        }
    }

    fn row_of(&mut self, share: &Share<K>) -> Option<&mut Usage> {
        self.rows.get_mut(share.key.as_ref()?)
    }

    /// Forgets the open parts. Those of all live connections are to be added next.
    pub fn clear_open(&mut self) {
        self.rows.values_mut().for_each(|usage| usage.open = Amount::default());
    }

    /// Adds the open part of a live connection that used this much so far.
    pub fn add_open(&mut self, share: &Share<K>, so_far: Amount) {
        if let Some(usage) = self.row_of(share) {
            usage.open.add(so_far.less(share.attributed));
        }
    }

    /// Takes the samples that rates are computed from.
    pub fn push_rates(&mut self) {
        for usage in self.rows.values_mut().chain([&mut self.others]) {
            usage.rate.push(usage.so_far().amount.bytes());
        }
    }

    /// A copy of all rows.
    pub fn copy(&self, clock: &Clock, now: u64) -> Vec<Copied<K>> {
        let mut rows = Vec::with_capacity(self.rows.len() + 1);
        rows.extend(self.rows.iter().map(|(key, usage)| Copied {
            key: Some(key.clone()),
            client_name: usage.client_name.clone(),
            used: usage.used(clock, now),
        }));
        if !self.others.counted.is_nothing() {
            rows.push(Copied { key: None, client_name: None, used: self.others.used(clock, now) });
        }
        rows
    }

    /// The open connections of each key and what it used so far; no key for those that were folded together.
    pub fn sums(&self) -> impl Iterator<Item = (Option<&K>, u64, Amount)> {
        let of = |key, usage: &Usage| (key, usage.active, usage.so_far().amount);
        self.rows.iter().map(move |(key, usage)| of(Some(key), usage)).chain([of(None, &self.others)])
    }

    /// All figures.
    pub fn figures(&self, now: u64) -> SavedBook<K> {
        self.save(now, Usage::so_far)
    }

    /// The figures without the part that was handed over.
    pub fn remainder(&self, now: u64) -> SavedBook<K> {
        self.save(now, |usage| usage.so_far().less(usage.handed_over))
    }

    fn save(&self, now: u64, of: impl Fn(&Usage) -> Counted) -> SavedBook<K> {
        let saved = |usage: &Usage| SavedUsage { counted: of(usage), last_seen: usage.seen(now) };
        let rows = self.rows.iter().map(|(key, usage)| SavedRow {
            key: key.clone(),
            client_name: usage.client_name.clone(),
            usage: saved(usage),
        });
        SavedBook { rows: rows.filter(|row| !row.usage.counted.is_nothing()).collect(), others: saved(&self.others) }
    }

    /// Closes the open part of a live connection. A successor counts it for the connection's key.
    pub fn close_open(&mut self, share: &mut Share<K>, so_far: Amount) {
        if let Some(usage) = self.row_of(share) {
            usage.counted.amount.add(so_far.less(share.attributed));
            (share.attributed, share.handed_over) = (so_far, true);
        }
    }

    /// A successor counts all figures so far. No part may be open.
    pub fn hand_over(&mut self) {
        for usage in self.rows.values_mut().chain([&mut self.others]) {
            usage.handed_over = usage.counted;
        }
    }

    /// Adds figures from elsewhere.
    pub fn add(&mut self, saved: SavedBook<K>) {
        for SavedRow { key, client_name, usage: SavedUsage { counted, last_seen } } in saved.rows {
            let usage = self.rows.entry(key).or_default();
            usage.counted.add(counted);
            if client_name.is_some() && (usage.client_name.is_none() || usage.last_seen <= last_seen) {
                usage.client_name = client_name;
            }
            usage.last_seen = usage.last_seen.max(last_seen);
        }
        self.others.counted.add(saved.others.counted);
        self.others.last_seen = self.others.last_seen.max(saved.others.last_seen);
        if self.rows.len() > self.fold_at {
            self.fold_oldest();
        }
    }

    /// Makes all rates zero, as if everything so far had been used long ago.
    pub fn level_rates(&mut self) {
        for usage in self.rows.values_mut().chain([&mut self.others]) {
            usage.rate = Window::level(usage.counted.amount.bytes());
        }
    }

    /// Moves the idle rows that were seen longest ago into `others`, so that a sixteenth of the bound is free again.
    fn fold_oldest(&mut self) {
        let free = (self.bound / 16).max(1);
        let mut idle: Vec<(u64, K)> = self
            .rows
            .iter()
            .filter(|(_, usage)| usage.active == 0)
            .map(|(key, usage)| (usage.last_seen, key.clone()))
            .collect();
        let count = (self.rows.len() + free).saturating_sub(self.bound).min(idle.len());
        if count < idle.len() {
            idle.select_nth_unstable_by_key(count, |(last_seen, _)| *last_seen);
        }
        for (_, key) in &idle[..count] {
            if let Some(usage) = self.rows.remove(key) {
                self.others.add(&usage);
            }
        }
        self.fold_at = self.bound.max(self.rows.len() + free);
    }
}
