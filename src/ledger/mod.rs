//! Who used what: live connections, and usage per client address, bot, account and node, which is kept after its connections
//! end. It can be saved, restored and handed over to a successor.
//!
//! It knows nothing of HTTP or sockets: the proxy reports what happens, and the ledger decides nothing. Its mutex is
//! taken when a connection opens or closes, when it changes its version, client, bot, account or node, at each tick, and when
//! figures are copied, never where bytes pass.

mod attribution;
mod book;
mod client_addr;
mod entry;
mod handover;
mod meter;
mod rate;
mod rows;
mod saved;
mod snapshot;
mod sums;
mod tally;
mod traffic;

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::error::End;
use crate::unix_time::unix_millis;
use book::Book;
pub use client_addr::ClientAddr;
pub use entry::{ClientInfo, Entry};
use entry::{Live, Notes};
pub use meter::{Meter, Metered};
use rate::{Clock, Window};
pub use rows::{AccountUsageRow, BotRow, ConnectionRow, Snapshot, Totals, UsageRow};
pub use saved::{Counters, Saved, SavedBook, SavedRow, SavedUsage};
pub use sums::{Sum, Sums};
use tally::{Inherited, Reasons, Versions};
pub use tally::{Tallies, Tally};
pub use traffic::{Amount, Counted, Traffic, Used};

/// How many client addresses are remembered, how many bots, and how many accounts; the oldest idle ones beyond fold
/// into one row, `others`.
pub const MAX_ROWS: usize = 10_000;

/// The record of all connections to the listeners of one kind.
pub struct Ledger {
    started: Instant,
    started_at: u64,
    next_id: AtomicU64,
    refused: [AtomicU64; End::ALL.len()],
    state: Mutex<State>,
    /// What a predecessor reported last; the figures contain it.
    predecessor: Mutex<Saved>,
}

/// What the mutex protects. Sums over everything are not kept: they follow from `live`, `listeners` and `versions`.
struct State {
    live: HashMap<u64, Arc<Live>>,
    addresses: Book<IpAddr>,
    bots: Book<Arc<str>>,
    accounts: Book<Arc<str>>,
    nodes: Book<Arc<str>>,
    /// When the figures began.
    since: u64,
    ended: Reasons,
    /// The part of the counters that other processes have counted.
    inherited: Inherited,
    listeners: BTreeMap<Arc<str>, u64>,
    versions: Versions,
    /// The part of the counters that a successor counts already.
    handed_over: Counters,
    /// Of all connections together.
    rate: Window,
    clock: Clock,
}

impl Ledger {
    /// Without any connection.
    pub fn new() -> Arc<Self> {
        Self::bounded(MAX_ROWS)
    }

    /// Keeps so many rows of addresses, of bots and of accounts.
    fn bounded(rows: usize) -> Arc<Self> {
        let started_at = unix_millis();
        let state = State {
            live: HashMap::new(),
            addresses: Book::new(rows),
            bots: Book::new(rows),
            accounts: Book::new(rows),
            nodes: Book::new(rows),
            since: started_at,
            ended: Reasons::default(),
            inherited: Inherited::default(),
            listeners: BTreeMap::new(),
            versions: Versions::default(),
            handed_over: Counters::default(),
            rate: Window::default(),
            clock: Clock::new(Instant::now()),
        };
        Arc::new(Self {
            started: Instant::now(),
            started_at,
            next_id: AtomicU64::new(1),
            refused: Default::default(),
            state: Mutex::new(state),
            predecessor: Mutex::default(),
        })
    }

    fn add(&self, client: ClientAddr, listener: &'static str) -> Arc<Live> {
        let now = unix_millis();
        let connection = Arc::new(Live::new(self.next_id.fetch_add(1, Relaxed), client, now));
        let mut state = self.state.lock();
        match state.listeners.get_mut(listener) {
            Some(count) => *count = count.saturating_add(1),
            None => drop(state.listeners.insert(listener.into(), 1)),
        }
        let mut notes = connection.notes.lock();
        state.addresses.attribute(&mut notes.address, client.address, Amount::default(), now);
        drop(notes);
        state.live.insert(connection.id, Arc::clone(&connection));
        connection
    }

    fn close(&self, connection: &Live, end: End) {
        let now = unix_millis();
        let mut state = self.state.lock();
        state.live.remove(&connection.id);
        state.ended.count(end);
        let notes = connection.notes.lock();
        let used = connection.amount();
        state.versions.add(notes.version, used.less(notes.counted_by_version));
        state.addresses.close(&notes.address, used, now);
        state.bots.close(&notes.bot, used, now);
        state.accounts.close(&notes.account, used, now);
        state.nodes.close(&notes.by_node, used, now);
    }

    /// Takes the samples that rates are computed from; to be called once a second.
    pub fn tick(&self) {
        let mut state = self.state.lock();
        state.clock.tick(Instant::now());
        let versions = state.count_open(|_, notes, so_far| notes.rate.push(so_far.bytes()));
        state.addresses.push_rates();
        state.bots.push_rates();
        state.accounts.push_rates();
        state.rate.push(versions.sum().bytes());
    }
}

impl State {
    /// Adds up the open parts of live connections: for the rows, and for the sums by version, which it returns. `each`
    /// gets every connection with what it used.
    fn count_open(&mut self, mut each: impl FnMut(&Arc<Live>, &mut Notes, Amount)) -> Versions {
        self.addresses.clear_open();
        self.bots.clear_open();
        self.accounts.clear_open();
        self.nodes.clear_open();
        let Self { live, versions, addresses, bots, accounts, nodes, .. } = self;
        sum_open(live, *versions, |connection, notes, so_far| {
            addresses.add_open(&notes.address, so_far);
            bots.add_open(&notes.bot, so_far);
            accounts.add_open(&notes.account, so_far);
            nodes.add_open(&notes.by_node, so_far);
            each(connection, notes, so_far);
        })
    }
}

/// Adds the open parts of live connections to the sums by version. `each` gets every connection with what it used.
fn sum_open(
    live: &HashMap<u64, Arc<Live>>,
    mut versions: Versions,
    mut each: impl FnMut(&Arc<Live>, &mut Notes, Amount),
) -> Versions {
    for connection in live.values() {
        let so_far = connection.amount();
        let mut notes = connection.notes.lock();
        versions.add(notes.version, so_far.less(notes.counted_by_version));
        each(connection, &mut notes, so_far);
    }
    versions
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
