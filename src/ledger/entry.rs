//! One connection's entry in the ledger: its counters, and what its last request says of its client.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::rate::Window;
use super::traffic::Amount;
use super::{ClientAddr, Ledger, Meter};
use crate::config::Lavalink;
use crate::error::End;

/// The longest text kept of each field that a client sends, in bytes.
pub(super) const MAX_NAME: usize = 256;

/// What a request says of its client; empty where it says nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct ClientInfo<'r> {
    /// The `User-Id` field: the bot's Discord user.
    pub user_id: &'r [u8],
    /// The `Client-Name` field.
    pub client_name: &'r [u8],
    /// The `User-Agent` field.
    pub user_agent: &'r [u8],
}

/// One live connection.
pub(super) struct Live {
    pub id: u64,
    pub opened: Instant,
    pub connected_at: u64,
    pub meter: Meter,
    pub requests: AtomicU64,
    pub websocket: AtomicBool,
    pub notes: Mutex<Notes>,
}

impl Live {
    pub fn new(id: u64, client: ClientAddr, connected_at: u64) -> Self {
        let notes = Notes {
            client,
            node: None,
            backend: None,
            version: None,
            user_id: String::new(),
            client_name: String::new(),
            user_agent: String::new(),
            rate: Window::default(),
            counted_by_version: Amount::default(),
            attributed: Amount::default(),
        };
        Self {
            id,
            opened: Instant::now(),
            connected_at,
            meter: Meter::default(),
            requests: AtomicU64::new(0),
            websocket: AtomicBool::new(false),
            notes: Mutex::new(notes),
        }
    }

    /// What it used so far.
    pub fn amount(&self) -> Amount {
        Amount {
            requests: self.requests.load(Relaxed),
            bytes_in: self.meter.bytes_in(),
            bytes_out: self.meter.bytes_out(),
        }
    }
}

/// What is known of a connection beyond its counters; changes with its requests.
pub(super) struct Notes {
    pub client: ClientAddr,
    pub node: Option<Arc<str>>,
    /// Its address as configured.
    pub backend: Option<Arc<str>>,
    pub version: Option<Lavalink>,
    pub user_id: String,
    pub client_name: String,
    pub user_agent: String,
    pub rate: Window,
    /// The part that the sums by version contain already.
    pub counted_by_version: Amount,
    /// The part that the usage of client addresses contains already.
    pub attributed: Amount,
}

/// The handle on a connection's entry. The connection counts as ended when it is dropped.
pub struct Entry {
    ledger: Arc<Ledger>,
    connection: Arc<Live>,
    end: OnceLock<End>,
}

impl Ledger {
    /// Adds a connection that was just accepted at this listener.
    pub fn open(self: &Arc<Self>, client: SocketAddr, listener: &'static str) -> Entry {
        let connection = self.add(ClientAddr::from(client), listener);
        Entry { ledger: Arc::clone(self), connection, end: OnceLock::new() }
    }
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

    /// The client that sent the current request.
    pub fn client(&self) -> ClientAddr {
        self.connection.notes.lock().client
    }

    /// Attributes the current request to this client. The last `unread` bytes of what was read so far are this
    /// request's and those after it.
    pub fn attribute_to(&self, client: ClientAddr, unread: usize) {
        let so_far = self.connection.amount();
        let before_this_request = Amount {
            requests: so_far.requests.saturating_sub(1),
            bytes_in: so_far.bytes_in.saturating_sub(unread as u64),
            ..so_far
        };
        self.ledger.attribute_to(&self.connection, client, before_this_request);
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

    /// Counts a request that was read, whatever its result.
    pub fn count_request(&self) {
        self.connection.requests.fetch_add(1, Relaxed);
    }

    /// Counts a request that was answered with an error of our own.
    pub fn count_refusal(&self, reason: End) {
        self.ledger.refused[reason as usize].fetch_add(1, Relaxed);
    }

    /// Notes where a request goes and what it says of its client. An empty field keeps the value of earlier requests.
    pub fn note_request(&self, version: Option<Lavalink>, node: &Arc<str>, backend: &Arc<str>, info: ClientInfo<'_>) {
        self.ledger.change_version(&self.connection, version);
        let mut notes = self.connection.notes.lock();
        if !notes.backend.as_ref().is_some_and(|known| Arc::ptr_eq(known, backend)) {
            notes.node = Some(Arc::clone(node));
            notes.backend = Some(Arc::clone(backend));
        }
        keep(&mut notes.user_id, info.user_id);
        keep(&mut notes.client_name, info.client_name);
        keep(&mut notes.user_agent, info.user_agent);
    }

    /// The version, the node and the backend of the last request.
    pub fn destination(&self) -> (Option<Lavalink>, Option<Arc<str>>, Option<Arc<str>>) {
        let notes = self.connection.notes.lock();
        (notes.version, notes.node.clone(), notes.backend.clone())
    }

    /// Notes that the connection is a WebSocket from here on.
    pub fn upgraded(&self) {
        self.connection.websocket.store(true, Relaxed);
    }

    /// Sets the reason of the end; without one it is an internal error.
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

/// Replaces `known` by what was sent, unless that is empty or the same.
fn keep(known: &mut String, sent: &[u8]) {
    let sent = &sent[..sent.len().min(MAX_NAME)];
    if !sent.is_empty() && known.as_bytes() != sent {
        *known = String::from_utf8_lossy(sent).into_owned();
    }
}
