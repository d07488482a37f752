//! Who used what: live connections, and usage per client address that outlives them.
//!
//! It knows nothing of HTTP or sockets and is told what happens; it never decides. Its mutex is taken when a
//! connection opens or closes, at each tick and for a snapshot, never where bytes pass.

mod meter;
mod origin;
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
pub use meter::{Meter, Metered};
pub use origin::Origin;
use rate::{Clock, Window};
pub use rows::{ConnectionRow, Snapshot, Totals, UsageRow};
use tally::{Amount, Versions};
pub use tally::{Tallies, Tally};

/// How many client addresses are remembered; the oldest idle ones beyond fold into one row, `others`.
pub const MAX_ADDRESSES: usize = 10_000;

/// How many of them are folded at once, so that a flood of new addresses does not pay for each.
const FOLD_AT_ONCE: usize = MAX_ADDRESSES / 16;

/// The books of one kind of door.
pub struct Ledger {
    started: Instant,
    started_at: u64,
    next_id: AtomicU64,
    refused: [AtomicU64; End::ALL.len()],
    books: Mutex<Books>,
}

struct Books {
    live: HashMap<u64, Arc<Connection>>,
    usage: HashMap<IpAddr, Usage>,
    others: Usage,
    total: Usage,
    ended: [u64; End::ALL.len()],
    doors: BTreeMap<&'static str, u64>,
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
struct Connection {
    id: u64,
    opened: Instant,
    connected_at: u64,
    meter: Meter,
    requests: AtomicU64,
    websocket: AtomicBool,
    notes: Mutex<Notes>,
}

impl Connection {
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
    client: Origin,
    backend: Option<Arc<str>>,
    version: Option<Lavalink>,
    user_id: String,
    client_name: String,
    user_agent: String,
    rate: Window,
    /// What was already added to versions that it used before this one.
    tallied: Amount,
    /// What was already added to clients that it was from before this one.
    settled: Amount,
}

impl Notes {
    fn of(client: Origin) -> Self {
        Self {
            client,
            backend: None,
            version: None,
            user_id: String::new(),
            client_name: String::new(),
            user_agent: String::new(),
            rate: Window::default(),
            tallied: Amount::default(),
            settled: Amount::default(),
        }
    }
}

/// What a request says of its sender; empty where it says nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Caller<'r> {
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
    /// Empty books.
    pub fn new() -> Arc<Self> {
        let books = Books {
            live: HashMap::new(),
            usage: HashMap::new(),
            others: Usage::default(),
            total: Usage::default(),
            ended: [0; End::ALL.len()],
            doors: BTreeMap::new(),
            versions: Versions::default(),
            clock: Clock::new(Instant::now()),
        };
        Arc::new(Self {
            started: Instant::now(),
            started_at: unix_millis(),
            next_id: AtomicU64::new(1),
            refused: Default::default(),
            books: Mutex::new(books),
        })
    }

    /// Enters a connection that was just accepted at this door.
    pub fn open(self: &Arc<Self>, client: SocketAddr, door: &'static str) -> Entry {
        let client = Origin::from(client);
        let now = unix_millis();
        let connection = Arc::new(Connection {
            id: self.next_id.fetch_add(1, Relaxed),
            opened: Instant::now(),
            connected_at: now,
            meter: Meter::default(),
            requests: AtomicU64::new(0),
            websocket: AtomicBool::new(false),
            notes: Mutex::new(Notes::of(client)),
        });
        let mut books = self.books.lock();
        let books = &mut *books;
        books.make_room_for(client.address);
        *books.doors.entry(door).or_default() += 1;
        for usage in [books.usage.entry(client.address).or_default(), &mut books.total] {
            usage.active += 1;
            usage.connections += 1;
            usage.last_seen = now;
        }
        books.live.insert(connection.id, Arc::clone(&connection));
        Entry { ledger: Arc::clone(self), connection, end: OnceLock::new() }
    }

    /// Takes the samples that rates are made of; to be called once a second.
    pub fn tick(&self) {
        let mut books = self.books.lock();
        let books = &mut *books;
        books.clock.tick(Instant::now());
        let mut live: HashMap<IpAddr, Amount> = HashMap::new();
        let mut sum = books.total.used;
        for connection in books.live.values() {
            let so_far = connection.amount();
            let mut notes = connection.notes.lock();
            notes.rate.push(so_far.bytes());
            live.entry(notes.client.address).or_default().add(so_far.less(notes.settled));
            sum.add(so_far);
        }
        for (address, usage) in &mut books.usage {
            let mut so_far = live.get(address).copied().unwrap_or_default();
            so_far.add(usage.used);
            usage.rate.push(so_far.bytes());
        }
        books.others.rate.push(books.others.used.bytes());
        books.total.rate.push(sum.bytes());
    }

    /// Everything as of now: exact counts, rates as of the last tick.
    pub fn snapshot(&self) -> Snapshot {
        let now = unix_millis();
        let books = self.books.lock();
        let clock = books.clock;
        // What is settled must be as of the same moment as the books.
        let live: Vec<_> = (books.live.values())
            .map(|connection| {
                let notes = connection.notes.lock();
                (Arc::clone(connection), notes.client.address, notes.settled)
            })
            .collect();
        let ended = End::ALL.iter().map(|end| (end.name(), books.ended[*end as usize])).collect();
        let mut total = UsageRow::new(String::new(), &books.total, &clock);
        let mut usage: HashMap<IpAddr, UsageRow> = HashMap::with_capacity(books.usage.len());
        for (address, used) in &books.usage {
            usage.insert(*address, UsageRow::new(String::new(), used, &clock));
        }
        let others = (books.others.connections > 0).then(|| UsageRow::new("others".to_owned(), &books.others, &clock));
        drop(books);

        let mut websockets = 0;
        let mut connections: Vec<ConnectionRow> = Vec::with_capacity(live.len());
        for (connection, address, settled) in live {
            let row = ConnectionRow::new(&connection, &clock);
            websockets += u64::from(row.kind == "websocket");
            let so_far = row.amount();
            total.add(so_far, now);
            if let Some(usage) = usage.get_mut(&address) {
                usage.add(so_far.less(settled), now);
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

    fn close(&self, connection: &Connection, end: End) {
        let now = unix_millis();
        let mut books = self.books.lock();
        let books = &mut *books;
        books.live.remove(&connection.id);
        books.ended[end as usize] += 1;
        let notes = connection.notes.lock();
        let used = connection.amount();
        books.versions.add(notes.version, used.less(notes.tallied));
        let last = books.usage.get_mut(&notes.client.address).map(|usage| (usage, used.less(notes.settled)));
        for (usage, used) in last.into_iter().chain([(&mut books.total, used)]) {
            usage.active = usage.active.saturating_sub(1);
            usage.used.add(used);
            usage.last_seen = now;
        }
    }
}

impl Books {
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
    connection: Arc<Connection>,
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
    pub fn client(&self) -> Origin {
        self.connection.notes.lock().client
    }

    /// Enters the current request under this client. Of what was read so far the last `unread` bytes are this
    /// request's and what comes behind it.
    pub fn hand_over(&self, client: Origin, unread: usize) {
        let so_far = self.connection.amount();
        let so_far = Amount {
            requests: so_far.requests.saturating_sub(1),
            bytes_in: so_far.bytes_in.saturating_sub(unread as u64),
            ..so_far
        };
        self.ledger.hand_over(&self.connection, client, so_far);
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
    pub fn note_request(&self, version: Option<Lavalink>, backend: &Arc<str>, caller: Caller<'_>) {
        self.ledger.change_version(&self.connection, version);
        let mut notes = self.connection.notes.lock();
        if !notes.backend.as_ref().is_some_and(|known| Arc::ptr_eq(known, backend)) {
            notes.backend = Some(Arc::clone(backend));
        }
        keep(&mut notes.user_id, caller.user_id);
        keep(&mut notes.client_name, caller.client_name);
        keep(&mut notes.user_agent, caller.user_agent);
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
