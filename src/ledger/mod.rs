//! Who used what: live connections, and usage per client address that outlives them.
//!
//! It knows nothing of HTTP or sockets and is told what happens; it never decides. Its mutex is taken when a
//! connection opens or closes, at each tick and for a snapshot, never where bytes pass.

mod meter;
mod rate;

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use serde::Serialize;

use crate::config::Lavalink;
use crate::error::End;
pub use meter::{Meter, Metered};
use rate::{Clock, Window};

/// How many client addresses are remembered; the oldest idle ones beyond fold into one row, `others`.
pub const MAX_ADDRESSES: usize = 10_000;

/// How many of them are folded at once, so that a flood of new addresses does not pay for each.
const FOLD_AT_ONCE: usize = MAX_ADDRESSES / 16;

/// The books of one kind of door.
pub struct Ledger {
    started: Instant,
    started_at: u64,
    next_id: AtomicU64,
    books: Mutex<Books>,
}

struct Books {
    live: HashMap<u64, Arc<Connection>>,
    usage: HashMap<IpAddr, Usage>,
    others: Usage,
    total: Usage,
    ended: [u64; End::ALL.len()],
    clock: Clock,
}

/// What one address, or all of them, used. Bytes and requests of live connections are added when they close.
#[derive(Default)]
struct Usage {
    active: u64,
    connections: u64,
    requests: u64,
    bytes_in: u64,
    bytes_out: u64,
    last_seen: u64,
    rate: Window,
}

impl Usage {
    fn add(&mut self, other: &Self) {
        self.active += other.active;
        self.connections += other.connections;
        self.requests += other.requests;
        self.bytes_in += other.bytes_in;
        self.bytes_out += other.bytes_out;
        self.last_seen = self.last_seen.max(other.last_seen);
        self.rate.add(&other.rate);
    }
}

/// One live connection.
struct Connection {
    id: u64,
    client: SocketAddr,
    opened: Instant,
    connected_at: u64,
    meter: Meter,
    requests: AtomicU64,
    websocket: AtomicBool,
    notes: Mutex<Notes>,
}

/// What is known of a connection beyond its bytes; changes with its requests.
#[derive(Default)]
struct Notes {
    backend: Option<Arc<str>>,
    version: Option<Lavalink>,
    user_id: String,
    client_name: String,
    user_agent: String,
    rate: Window,
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
            clock: Clock::new(Instant::now()),
        };
        Arc::new(Self {
            started: Instant::now(),
            started_at: unix_millis(),
            next_id: AtomicU64::new(1),
            books: Mutex::new(books),
        })
    }

    /// Enters a connection that was just accepted.
    pub fn open(self: &Arc<Self>, client: SocketAddr) -> Entry {
        let client = SocketAddr::new(client.ip().to_canonical(), client.port());
        let now = unix_millis();
        let connection = Arc::new(Connection {
            id: self.next_id.fetch_add(1, Relaxed),
            client,
            opened: Instant::now(),
            connected_at: now,
            meter: Meter::default(),
            requests: AtomicU64::new(0),
            websocket: AtomicBool::new(false),
            notes: Mutex::default(),
        });
        let mut books = self.books.lock();
        if books.usage.len() >= MAX_ADDRESSES && !books.usage.contains_key(&client.ip()) {
            books.fold_oldest();
        }
        let books = &mut *books;
        for usage in [books.usage.entry(client.ip()).or_default(), &mut books.total] {
            usage.active += 1;
            usage.connections += 1;
            usage.last_seen = now;
        }
        books.live.insert(connection.id, Arc::clone(&connection));
        Entry { ledger: Arc::clone(self), connection, end: End::InternalError }
    }

    /// Takes the samples that rates are made of; to be called once a second.
    pub fn tick(&self) {
        let mut books = self.books.lock();
        let books = &mut *books;
        books.clock.tick(Instant::now());
        let mut live: HashMap<IpAddr, (u64, u64)> = HashMap::new();
        let mut sum = (books.total.bytes_in, books.total.bytes_out);
        for connection in books.live.values() {
            let bytes = (connection.meter.bytes_in(), connection.meter.bytes_out());
            connection.notes.lock().rate.push(bytes);
            let address = live.entry(connection.client.ip()).or_default();
            *address = (address.0 + bytes.0, address.1 + bytes.1);
            sum = (sum.0 + bytes.0, sum.1 + bytes.1);
        }
        for (address, usage) in &mut books.usage {
            let (bytes_in, bytes_out) = live.get(address).copied().unwrap_or_default();
            usage.rate.push((usage.bytes_in + bytes_in, usage.bytes_out + bytes_out));
        }
        let others = (books.others.bytes_in, books.others.bytes_out);
        books.others.rate.push(others);
        books.total.rate.push(sum);
    }

    /// Everything as of now: exact counts, rates as of the last tick.
    pub fn snapshot(&self) -> Snapshot {
        let now = unix_millis();
        let books = self.books.lock();
        let clock = books.clock;
        let live: Vec<_> = books.live.values().cloned().collect();
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
        for connection in live {
            let row = ConnectionRow::new(&connection, &clock);
            websockets += u64::from(row.kind == "websocket");
            for sum in [Some(&mut total), usage.get_mut(&connection.client.ip())].into_iter().flatten() {
                sum.requests += row.requests;
                sum.bytes_in += row.bytes_in;
                sum.bytes_out += row.bytes_out;
                sum.last_seen = now;
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
        for usage in [books.usage.get_mut(&connection.client.ip()), Some(&mut books.total)].into_iter().flatten() {
            usage.active = usage.active.saturating_sub(1);
            usage.requests += connection.requests.load(Relaxed);
            usage.bytes_in += connection.meter.bytes_in();
            usage.bytes_out += connection.meter.bytes_out();
            usage.last_seen = now;
        }
    }
}

impl Books {
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
    end: End,
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

    /// The client's address, an IPv4 one also where it came mapped into IPv6.
    pub fn client(&self) -> SocketAddr {
        self.connection.client
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

    /// Notes where a request goes and who says to have sent it; silence leaves what was said before.
    pub fn note_request(&self, version: Option<Lavalink>, backend: &Arc<str>, caller: Caller<'_>) {
        let mut notes = self.connection.notes.lock();
        notes.version = version;
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

    /// Sets the reason that the books will carry.
    pub fn ends_as(&mut self, end: End) {
        self.end = end;
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.ledger.close(&self.connection, self.end);
    }
}

fn keep(known: &mut String, said: &[u8]) {
    let said = &said[..said.len().min(MAX_NAME)];
    if !said.is_empty() && known.as_bytes() != said {
        *known = String::from_utf8_lossy(said).into_owned();
    }
}

/// The ledger at one moment, as the API shows it. Times are milliseconds since the epoch, durations
/// milliseconds, rates bytes per second.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Snapshot {
    /// When the books were opened.
    pub started_at: u64,
    /// When the snapshot was taken.
    pub now: u64,
    /// The time between the two, by a clock that nobody sets.
    pub uptime: u64,
    /// All connections, live and ended.
    pub totals: Totals,
    /// The live ones, oldest first.
    pub connections: Vec<ConnectionRow>,
    /// Per client address, most bytes first.
    pub usage: Vec<UsageRow>,
    /// How many connections ended for each reason.
    pub ended: BTreeMap<&'static str, u64>,
}

/// Sums over all connections since the start.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Totals {
    /// Open now.
    pub active: u64,
    /// Of these, tunnels.
    pub websockets: u64,
    /// Ever opened.
    pub connections: u64,
    /// Requests read.
    pub requests: u64,
    /// Bytes from clients.
    pub bytes_in: u64,
    /// Bytes to clients.
    pub bytes_out: u64,
    /// Bytes per second from clients over the last seconds.
    pub rate_in: u64,
    /// Bytes per second to clients over the last seconds.
    pub rate_out: u64,
}

/// A live connection.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ConnectionRow {
    /// Unique since the start.
    pub id: u64,
    /// Address and port.
    pub client: SocketAddr,
    /// Address alone.
    pub address: IpAddr,
    /// Address of the last request's backend.
    pub backend: Option<Arc<str>>,
    /// `v3` or `v4`, of the last request.
    pub version: Option<&'static str>,
    /// `http`, or `websocket` once it is a tunnel.
    pub kind: &'static str,
    /// When it was accepted.
    pub connected_at: u64,
    /// Since then.
    pub uptime: u64,
    /// Requests read.
    pub requests: u64,
    /// Bytes from the client.
    pub bytes_in: u64,
    /// Bytes to the client.
    pub bytes_out: u64,
    /// Bytes per second from the client over the last seconds.
    pub rate_in: u64,
    /// Bytes per second to the client over the last seconds.
    pub rate_out: u64,
    /// The `User-Id` it sent last, or empty.
    pub user_id: String,
    /// The `Client-Name` it sent last, or empty.
    pub client_name: String,
    /// The `User-Agent` it sent last, or empty.
    pub user_agent: String,
}

impl ConnectionRow {
    fn new(connection: &Connection, clock: &Clock) -> Self {
        let notes = connection.notes.lock();
        let (rate_in, rate_out) = notes.rate.per_second(clock);
        Self {
            id: connection.id,
            client: connection.client,
            address: connection.client.ip(),
            backend: notes.backend.clone(),
            version: notes.version.map(Lavalink::name),
            kind: if connection.websocket.load(Relaxed) { "websocket" } else { "http" },
            connected_at: connection.connected_at,
            uptime: millis(connection.opened.elapsed()),
            requests: connection.requests.load(Relaxed),
            bytes_in: connection.meter.bytes_in(),
            bytes_out: connection.meter.bytes_out(),
            rate_in,
            rate_out,
            user_id: notes.user_id.clone(),
            client_name: notes.client_name.clone(),
            user_agent: notes.user_agent.clone(),
        }
    }
}

/// What one client address used since the start.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UsageRow {
    /// The address, or `others` for those that were folded together.
    pub address: String,
    /// Connections open now.
    pub active: u64,
    /// Connections ever opened.
    pub connections: u64,
    /// Requests read.
    pub requests: u64,
    /// Bytes from the client.
    pub bytes_in: u64,
    /// Bytes to the client.
    pub bytes_out: u64,
    /// Bytes per second from the client over the last seconds.
    pub rate_in: u64,
    /// Bytes per second to the client over the last seconds.
    pub rate_out: u64,
    /// When it last opened or closed a connection; now while one is open.
    pub last_seen: u64,
}

impl UsageRow {
    fn new(address: String, usage: &Usage, clock: &Clock) -> Self {
        let (rate_in, rate_out) = usage.rate.per_second(clock);
        Self {
            address,
            active: usage.active,
            connections: usage.connections,
            requests: usage.requests,
            bytes_in: usage.bytes_in,
            bytes_out: usage.bytes_out,
            rate_in,
            rate_out,
            last_seen: usage.last_seen,
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
