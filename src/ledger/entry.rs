//! One connection's entry in the ledger: its counters, and what its last request says of its client.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::book::Share;
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
    /// How often another node has taken over its session.
    pub takeovers: AtomicU64,
    /// Its session has no node at present.
    pub taking_over: AtomicBool,
    pub notes: Mutex<Notes>,
}

impl Live {
    pub fn new(id: u64, client: ClientAddr, connected_at: u64) -> Self {
        let notes = Notes {
            client,
            node: None,
            backend: None,
            version: None,
            client_name: None,
            user_agent: Arc::default(),
            rate: Window::default(),
            before_request: Amount::default(),
            counted_by_version: Amount::default(),
            address: Share::new(),
            bot: Share::new(),
            account: Share::new(),
            by_node: Share::new(),
        };
        Self {
            id,
            opened: Instant::now(),
            connected_at,
            meter: Meter::default(),
            requests: AtomicU64::new(0),
            websocket: AtomicBool::new(false),
            takeovers: AtomicU64::new(0),
            taking_over: AtomicBool::new(false),
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
    pub client_name: Option<Arc<str>>,
    pub user_agent: Arc<str>,
    pub rate: Window,
    /// What it used before its current request.
    pub before_request: Amount,
    /// The part that the sums by version contain already.
    pub counted_by_version: Amount,
    pub address: Share<IpAddr>,
    pub bot: Share<Arc<str>>,
    pub account: Share<Arc<str>>,
    pub by_node: Share<Arc<str>>,
}

impl Notes {
    /// The part of what it used so far that counts for its version and that the sums do not contain yet.
    pub fn open_by_version(&self, so_far: Amount) -> Amount {
        match self.version {
            Some(_) => so_far.less(self.counted_by_version),
            None => Amount::default(),
        }
    }
}

/// The handle on a connection's entry. The connection counts as ended when it is dropped.
pub struct Entry {
    ledger: Arc<Ledger>,
    connection: Arc<Live>,
    end: OnceLock<End>,
    is_closed: AtomicBool,
}

impl Ledger {
    /// Adds a connection that was just accepted at this listener.
    pub fn open(self: &Arc<Self>, client: SocketAddr, listener: &'static str) -> Entry {
        let connection = self.add(ClientAddr::from(client), listener);
        Entry { ledger: Arc::clone(self), connection, end: OnceLock::new(), is_closed: AtomicBool::new(false) }
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
    /// request's and those after it. To be called for each request before anything else is noted of it.
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
        self.ledger.count_unrouted(&self.connection);
    }

    /// Attributes the current request to this account, and all that was used before if the connection had none.
    pub fn note_account(&self, account: &Arc<str>) {
        let is_known = self.connection.notes.lock().account.key.as_ref() == Some(account);
        if !is_known {
            self.ledger.attribute_to_account(&self.connection, Arc::clone(account));
        }
    }

    /// Notes where a request goes and what it says of its client. An empty field keeps the value of earlier requests.
    pub fn note_request(&self, version: Option<Lavalink>, node: &Arc<str>, backend: &Arc<str>, info: ClientInfo<'_>) {
        let mut notes = self.connection.notes.lock();
        if !notes.backend.as_ref().is_some_and(|known| Arc::ptr_eq(known, backend)) {
            notes.node = Some(Arc::clone(node));
            notes.backend = Some(Arc::clone(backend));
        }
        if let Some(user_agent) = change(&notes.user_agent, info.user_agent) {
            notes.user_agent = user_agent;
        }
        let renamed = change(notes.client_name.as_deref().unwrap_or_default(), info.client_name);
        let has_new_name = renamed.is_some();
        if has_new_name {
            notes.client_name = renamed;
        }
        let has_bot = notes.bot.key.is_some();
        let bot = change(notes.bot.key.as_deref().unwrap_or_default(), info.user_id);
        let is_bot_changed = bot.is_some() || (has_bot && has_new_name);
        // A name without a `Client-Name` in this request may be that of an earlier bot.
        let is_its_name = !has_bot || !info.client_name.is_empty();
        let client_name = if is_bot_changed && is_its_name { notes.client_name.clone() } else { None };
        let has_new_version = notes.version != version;
        let has_new_node = notes.by_node.key.as_ref() != Some(node);
        drop(notes);
        if has_new_version {
            self.ledger.change_version(&self.connection, version);
        }
        if is_bot_changed {
            self.ledger.attribute_to_bot(&self.connection, bot, client_name);
        }
        if has_new_node {
            self.ledger.attribute_to_node(&self.connection, Arc::clone(node));
        }
    }

    /// The session of this tunnel has lost its node.
    pub fn begin_takeover(&self) -> TakingOver<'_> {
        self.connection.taking_over.store(true, Relaxed);
        TakingOver(&self.connection)
    }

    /// Notes that the session of this tunnel is on another node.
    pub fn note_node(&self, node: &Arc<str>, backend: &Arc<str>) {
        if self.is_closed.load(Relaxed) {
            return;
        }
        let mut notes = self.connection.notes.lock();
        notes.node = Some(Arc::clone(node));
        notes.backend = Some(Arc::clone(backend));
        drop(notes);
        self.ledger.move_to_node(&self.connection, Arc::clone(node));
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

    /// Closes the row before the connection ends: its client is gone.
    pub fn close(&self, end: End) {
        self.ends_as(end);
        self.close_row();
    }

    fn close_row(&self) {
        if !self.is_closed.swap(true, Relaxed) {
            self.ledger.close(&self.connection, self.end.get().copied().unwrap_or(End::InternalError));
        }
    }

    /// Sets the reason of the end; without one it is an internal error.
    pub fn ends_as(&self, end: End) {
        // The first reason counts.
        let _ = self.end.set(end);
    }
}

/// A takeover of a tunnel's session, until it is dropped.
pub struct TakingOver<'e>(&'e Live);

impl TakingOver<'_> {
    /// A node has the session again.
    pub fn count(self) {
        self.0.takeovers.fetch_add(1, Relaxed);
    }
}

impl Drop for TakingOver<'_> {
    fn drop(&mut self) {
        self.0.taking_over.store(false, Relaxed);
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.close_row();
    }
}

/// The text that replaces `known`: what was sent, bounded; `None` when that is empty or the same.
fn change(known: &str, sent: &[u8]) -> Option<Arc<str>> {
    let sent = &sent[..sent.len().min(MAX_NAME)];
    if sent.is_empty() || known.as_bytes() == sent {
        return None;
    }
    let text = String::from_utf8_lossy(sent);
    (text != known).then(|| Arc::from(&*text))
}
