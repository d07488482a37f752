//! Who used what: live connections, and usage per client address that outlives them.
//!
//! It knows nothing of HTTP or sockets and is told what happens; it never decides. Its mutex is taken when a
//! connection opens or closes, at each tick and for a snapshot, never where bytes pass.

mod client_addr;
mod meter;
mod rate;
mod rows;
mod tally;

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;

use crate::config::Lavalink;
use crate::error::End;
pub use client_addr::ClientAddr;
pub use meter::{Meter, Metered};
use rate::{Clock, Window};
pub use rows::{ConnectionRow, Snapshot, Totals, UsageRow};
use tally::{Amount, Versions};
pub use tally::{Tallies, Tally};

/// How many client addresses are remembered; the oldest idle ones beyond fold into one row, `others`.
pub const MAX_ADDRESSES: usize = 10_000;

/// How many of them are folded at once, so that a flood of new addresses does not pay for each.
const FOLD_AT_ONCE: usize = MAX_ADDRESSES / 16;

/// The books of one kind of listener.
pub struct Ledger {
    started: Instant,
    started_at: u64,
    next_id: AtomicU64,
    refused: [AtomicU64; End::ALL.len()],
    state: Mutex<State>,
}

struct State {
    live: HashMap<u64, Arc<Live>>,
    usage: HashMap<IpAddr, Usage>,
    others: Usage,
    total: Usage,
    ended: [u64; End::ALL.len()],
    listeners: BTreeMap<&'static str, u64>,
    versions: Versions,
    clock: Clock,
}

/// What one address, or all of them, used. Bytes and requests of live connections are added when they close.
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

    /// True when nothing at all is known of it.
    fn is_blank(&self) -> bool {
        self.active == 0 && self.connections == 0 && self.used == Amount::default()
    }
}

/// One live connection.
struct Live {
    id: u64,
    opened: Instant,
    connected_at: u64,
    meter: Meter,
    requests: AtomicU64,
    websocket: AtomicBool,
    notes: Mutex<Notes>,
}

impl Live {
    fn amount(&self) -> Amount {
        Amount {
            requests: self.requests.load(Relaxed),
            bytes_in: self.meter.bytes_in(),
            bytes_out: self.meter.bytes_out(),
        }
    }
}

/// What is known of a connection beyond its bytes; changes with its requests.
struct Notes {
    client: ClientAddr,
    backend: Option<Arc<str>>,
    version: Option<Lavalink>,
    user_id: String,
    client_name: String,
    user_agent: String,
    rate: Window,
    /// What was already added to versions that it used before this one.
    counted_by_version: Amount,
    /// What was already added to clients that it was from before this one.
    attributed: Amount,
}

impl Notes {
    fn of(client: ClientAddr) -> Self {
        Self {
            client,
            backend: None,
            version: None,
            user_id: String::new(),
            client_name: String::new(),
            user_agent: String::new(),
            rate: Window::default(),
            counted_by_version: Amount::default(),
            attributed: Amount::default(),
        }
    }
}

/// What a request says of its sender; empty where it says nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct ClientInfo<'r> {
    /// The `User-Id` field: the bot's Discord user.
    pub user_id: &'r [u8],
    /// The `Client-Name` field.
    pub client_name: &'r [u8],
    /// The `User-Agent` field.
    pub user_agent: &'r [u8],
}

/// The longest name kept of a peer's own words, in bytes.
const MAX_NAME: usize = 256;

impl Ledger {
    /// Empty state.
    pub fn new() -> Arc<Self> {
        let state = State {
            live: HashMap::new(),
            usage: HashMap::new(),
            others: Usage::default(),
            total: Usage::default(),
            ended: [0; End::ALL.len()],
            listeners: BTreeMap::new(),
            versions: Versions::default(),
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

    /// Enters a connection that was just accepted at this listener.
    pub fn open(self: &Arc<Self>, client: SocketAddr, listener: &'static str) -> Entry {
        let client = ClientAddr::from(client);
        let now = unix_millis();
        let connection = Arc::new(Live {
            id: self.next_id.fetch_add(1, Relaxed),
            opened: Instant::now(),
            connected_at: now,
            meter: Meter::default(),
            requests: AtomicU64::new(0),
            websocket: AtomicBool::new(false),
            notes: Mutex::new(Notes::of(client)),
        });
        let mut state = self.state.lock();
        let state = &mut *state;
        state.make_room_for(client.address);
        *state.listeners.entry(listener).or_default() += 1;
        for usage in [state.usage.entry(client.address).or_default(), &mut state.total] {
            usage.active += 1;
            usage.connections += 1;
            usage.last_seen = now;
        }
        state.live.insert(connection.id, Arc::clone(&connection));
        Entry { ledger: Arc::clone(self), connection, end: OnceLock::new() }
    }

    /// Takes the samples that rates are made of; to be called once a second.
    pub fn tick(&self) {
        let mut state = self.state.lock();
        let state = &mut *state;
        state.clock.tick(Instant::now());
        let mut live: HashMap<IpAddr, Amount> = HashMap::new();
        let mut sum = state.total.used;
        for connection in state.live.values() {
            let so_far = connection.amount();
            let mut notes = connection.notes.lock();
            notes.rate.push(so_far.bytes());
            live.entry(notes.client.address).or_default().add(so_far.less(notes.attributed));
            sum.add(so_far);
        }
        for (address, usage) in &mut state.usage {
            let mut so_far = live.get(address).copied().unwrap_or_default();
            so_far.add(usage.used);
            usage.rate.push(so_far.bytes());
        }
        state.others.rate.push(state.others.used.bytes());
        state.total.rate.push(sum.bytes());
    }

    /// Everything as of now: exact counts, rates as of the last tick.
    pub fn snapshot(&self) -> Snapshot {
        let now = unix_millis();
        let state = self.state.lock();
        let clock = state.clock;
        // What is attributed must be as of the same moment as the state.
        let live: Vec<_> = (state.live.values())
            .map(|connection| {
                let notes = connection.notes.lock();
                (Arc::clone(connection), notes.client.address, notes.attributed)
            })
            .collect();
        let ended = End::ALL.iter().map(|end| (end.name(), state.ended[*end as usize])).collect();
        let mut total = UsageRow::new(String::new(), &state.total, &clock);
        let mut usage: HashMap<IpAddr, UsageRow> = HashMap::with_capacity(state.usage.len());
        for (address, used) in &state.usage {
            usage.insert(*address, UsageRow::new(String::new(), used, &clock));
        }
        let others = (state.others.connections > 0).then(|| UsageRow::new("others".to_owned(), &state.others, &clock));
        drop(state);

        let mut websockets = 0;
        let mut connections: Vec<ConnectionRow> = Vec::with_capacity(live.len());
        for (connection, address, attributed) in live {
            let row = ConnectionRow::new(&connection, &clock);
            websockets += u64::from(row.kind == "websocket");
            let so_far = row.amount();
            total.add(so_far, now);
            if let Some(usage) = usage.get_mut(&address) {
                usage.add(so_far.less(attributed), now);
            }
            connections.push(row);
        }
        connections.sort_unstable_by_key(|row| row.id);
        let mut usage: Vec<UsageRow> = usage
            .into_iter()
            .map(|(address, row)| UsageRow { address: address.to_string(), ..row })
            .chain(others)
            .collect();
        usage.sort_unstable_by(|a, b| {
            (b.bytes_in + b.bytes_out).cmp(&(a.bytes_in + a.bytes_out)).then_with(|| a.address.cmp(&b.address))
        });
        Snapshot {
            started_at: self.started_at,
            now,
            uptime: millis(self.started.elapsed()),
            totals: Totals {
                active: total.active,
                websockets,
                connections: total.connections,
                requests: total.requests,
                bytes_in: total.bytes_in,
                bytes_out: total.bytes_out,
                rate_in: total.rate_in,
                rate_out: total.rate_out,
            },
            connections,
            usage,
            ended,
        }
    }

    fn close(&self, connection: &Live, end: End) {
        let now = unix_millis();
        let mut state = self.state.lock();
        let state = &mut *state;
        state.live.remove(&connection.id);
        state.ended[end as usize] += 1;
        let notes = connection.notes.lock();
        let used = connection.amount();
        state.versions.add(notes.version, used.less(notes.counted_by_version));
        let last = state.usage.get_mut(&notes.client.address).map(|usage| (usage, used.less(notes.attributed)));
        for (usage, used) in last.into_iter().chain([(&mut state.total, used)]) {
            usage.active = usage.active.saturating_sub(1);
            usage.used.add(used);
            usage.last_seen = now;
        }
    }
}

impl State {
    /// Keeps the number of addresses in bounds before this one is entered.
    fn make_room_for(&mut self, address: IpAddr) {
        if self.usage.len() >= MAX_ADDRESSES && !self.usage.contains_key(&address) {
            self.fold_oldest();
        }
    }

    /// Moves the idle addresses that were seen longest ago into `others`. Live ones always stay.
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

/// A connection's place in the books, closed when dropped.
pub struct Entry {
    ledger: Arc<Ledger>,
    connection: Arc<Live>,
    end: OnceLock<End>,
}

impl Entry {
    /// The connection's number, unique since the start.
    pub fn id(&self) -> u64 {
        self.connection.id
    }

    /// Where this connection's bytes are counted.
    pub fn meter(&self) -> &Meter {
        &self.connection.meter
    }

    /// The client that the current request is from.
    pub fn client(&self) -> ClientAddr {
        self.connection.notes.lock().client
    }

    /// Enters the current request under this client. Of what was read so far the last `unread` bytes are this
    /// request's and what comes behind it.
    pub fn attribute_to(&self, client: ClientAddr, unread: usize) {
        let so_far = self.connection.amount();
        let so_far = Amount {
            requests: so_far.requests.saturating_sub(1),
            bytes_in: so_far.bytes_in.saturating_sub(unread as u64),
            ..so_far
        };
        self.ledger.attribute_to(&self.connection, client, so_far);
    }

    /// How long the connection has been open.
    pub fn age(&self) -> Duration {
        self.connection.opened.elapsed()
    }

    /// Requests that were read so far.
    pub fn requests(&self) -> u64 {
        self.connection.requests.load(Relaxed)
    }

    /// True once it is a tunnel.
    pub fn is_websocket(&self) -> bool {
        self.connection.websocket.load(Relaxed)
    }

    /// Counts a request that was read, whatever becomes of it.
    pub fn count_request(&self) {
        self.connection.requests.fetch_add(1, Relaxed);
    }

    /// Counts a request that was answered with an error of our own.
    pub fn count_refusal(&self, reason: End) {
        self.ledger.refused[reason as usize].fetch_add(1, Relaxed);
    }

    /// Notes where a request goes and who says to have sent it; silence leaves what was said before.
    pub fn note_request(&self, version: Option<Lavalink>, backend: &Arc<str>, info: ClientInfo<'_>) {
        self.ledger.change_version(&self.connection, version);
        let mut notes = self.connection.notes.lock();
        if !notes.backend.as_ref().is_some_and(|known| Arc::ptr_eq(known, backend)) {
            notes.backend = Some(Arc::clone(backend));
        }
        keep(&mut notes.user_id, info.user_id);
        keep(&mut notes.client_name, info.client_name);
        keep(&mut notes.user_agent, info.user_agent);
    }

    /// The version and the backend of the last request.
    pub fn destination(&self) -> (Option<Lavalink>, Option<Arc<str>>) {
        let notes = self.connection.notes.lock();
        (notes.version, notes.backend.clone())
    }

    /// Notes that the connection is a WebSocket from here on.
    pub fn upgraded(&self) {
        self.connection.websocket.store(true, Relaxed);
    }

    /// Sets the reason that the books will carry; without one it is an internal error.
    pub fn ends_as(&self, end: End) {
        // The first reason counts.
        let _ = self.end.set(end);
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.ledger.close(&self.connection, self.end.get().copied().unwrap_or(End::InternalError));
    }
}

fn keep(known: &mut String, said: &[u8]) {
    let said = &said[..said.len().min(MAX_NAME)];
    if !said.is_empty() && known.as_bytes() != said {
        *known = String::from_utf8_lossy(said).into_owned();
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
