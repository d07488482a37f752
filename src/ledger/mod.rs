//! Who used what: live connections, and usage per client address, which is kept after its connections end.
//!
//! It knows nothing of HTTP or sockets: the proxy reports what happens, and the ledger decides nothing. Its mutex is
//! taken when a connection opens or closes, when it changes its version or its client, at each tick and for a
//! snapshot, never where bytes pass.

mod attribution;
mod client_addr;
mod entry;
mod meter;
mod rate;
mod rows;
mod snapshot;
mod tally;
mod traffic;

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;

use crate::error::End;
pub use client_addr::ClientAddr;
use entry::Live;
pub use entry::{ClientInfo, Entry};
pub use meter::{Meter, Metered};
use rate::{Clock, Window};
pub use rows::{ConnectionRow, Snapshot, Totals, UsageRow};
use tally::Versions;
pub use tally::{Tallies, Tally};
pub use traffic::{Amount, Traffic};

/// How many client addresses are remembered; the oldest idle ones beyond fold into one row, `others`.
pub const MAX_ADDRESSES: usize = 10_000;

/// How many of them are folded at once, so that not every new address of a flood causes a search.
const FOLD_AT_ONCE: usize = MAX_ADDRESSES / 16;

/// The record of all connections to the listeners of one kind.
pub struct Ledger {
    started: Instant,
    started_at: u64,
    next_id: AtomicU64,
    refused: [AtomicU64; End::ALL.len()],
    state: Mutex<State>,
}

/// What the mutex protects. Sums over everything are not kept: they follow from `live`, `listeners` and `versions`.
struct State {
    live: HashMap<u64, Arc<Live>>,
    usage: HashMap<IpAddr, Usage>,
    others: Usage,
    ended: [u64; End::ALL.len()],
    listeners: BTreeMap<&'static str, u64>,
    versions: Versions,
    /// Of all connections together.
    rate: Window,
    clock: Clock,
}

/// What one address used. Bytes and requests of live connections are added when they close.
#[derive(Default)]
struct Usage {
    active: u64,
    connections: u64,
    used: Amount,
    last_seen: u64,
    rate: Window,
}

impl Usage {
    fn add(&mut self, other: &Self) {
        self.active += other.active;
        self.connections += other.connections;
        self.used.add(other.used);
        self.last_seen = self.last_seen.max(other.last_seen);
        self.rate.add(&other.rate);
    }

    /// True when it holds no connection, request or byte.
    fn is_blank(&self) -> bool {
        self.active == 0 && self.connections == 0 && self.used == Amount::default()
    }
}

impl Ledger {
    /// Without any connection.
    pub fn new() -> Arc<Self> {
        let state = State {
            live: HashMap::new(),
            usage: HashMap::new(),
            others: Usage::default(),
            ended: [0; End::ALL.len()],
            listeners: BTreeMap::new(),
            versions: Versions::default(),
            rate: Window::default(),
            clock: Clock::new(Instant::now()),
        };
        Arc::new(Self {
            started: Instant::now(),
            started_at: unix_millis(),
            next_id: AtomicU64::new(1),
            refused: Default::default(),
            state: Mutex::new(state),
        })
    }

    fn add(&self, client: ClientAddr, listener: &'static str) -> Arc<Live> {
        let now = unix_millis();
        let connection = Arc::new(Live::new(self.next_id.fetch_add(1, Relaxed), client, now));
        let mut state = self.state.lock();
        state.make_room_for(client.address);
        *state.listeners.entry(listener).or_default() += 1;
        let usage = state.usage.entry(client.address).or_default();
        usage.active += 1;
        usage.connections += 1;
        usage.last_seen = now;
        state.live.insert(connection.id, Arc::clone(&connection));
        connection
    }

    fn close(&self, connection: &Live, end: End) {
        let now = unix_millis();
        let mut state = self.state.lock();
        state.live.remove(&connection.id);
        state.ended[end as usize] += 1;
        let notes = connection.notes.lock();
        let used = connection.amount();
        state.versions.add(notes.version, used.less(notes.counted_by_version));
        if let Some(usage) = state.usage.get_mut(&notes.client.address) {
            usage.active = usage.active.saturating_sub(1);
            usage.used.add(used.less(notes.attributed));
            usage.last_seen = now;
        }
    }

    /// Takes the samples that rates are computed from; to be called once a second.
    pub fn tick(&self) {
        let mut state = self.state.lock();
        let state = &mut *state;
        state.clock.tick(Instant::now());
        let mut live: HashMap<IpAddr, Amount> = HashMap::new();
        let mut sum = state.versions.sum();
        for connection in state.live.values() {
            let so_far = connection.amount();
            let mut notes = connection.notes.lock();
            notes.rate.push(so_far.bytes());
            live.entry(notes.client.address).or_default().add(so_far.less(notes.attributed));
            sum.add(so_far.less(notes.counted_by_version));
        }
        for (address, usage) in &mut state.usage {
            let mut so_far = live.get(address).copied().unwrap_or_default();
            so_far.add(usage.used);
            usage.rate.push(so_far.bytes());
        }
        state.others.rate.push(state.others.used.bytes());
        state.rate.push(sum.bytes());
    }
}

impl State {
    /// Keeps the number of addresses within its bound before this one is added.
    fn make_room_for(&mut self, address: IpAddr) {
        if self.usage.len() >= MAX_ADDRESSES && !self.usage.contains_key(&address) {
            self.fold_oldest();
        }
    }

    /// Moves the idle addresses that were seen longest ago into `others`. Addresses with a live connection stay.
    fn fold_oldest(&mut self) {
        let mut idle: Vec<(u64, IpAddr)> = self
            .usage
            .iter()
            .filter(|(_, usage)| usage.active == 0)
            .map(|(address, usage)| (usage.last_seen, *address))
            .collect();
        let count = FOLD_AT_ONCE.min(idle.len());
        if count < idle.len() {
            idle.select_nth_unstable(count);
        }
        for (_, address) in &idle[..count] {
            if let Some(usage) = self.usage.remove(address) {
                self.others.add(&usage);
            }
        }
    }
}

fn unix_millis() -> u64 {
    millis(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
