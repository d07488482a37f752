//! Slots for connections: limits their number, and keeps the table of connections that a stop needs.
//!
//! It keeps its own count and never asks the ledger. When all slots are taken, a proxy listener refuses a new client.
//! The web listener evicts a connection that is idle or stalled instead, so that idle clients cannot lock others out.

pub mod capacity;
mod permit;
mod slot;

use std::collections::{HashMap, VecDeque};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU16, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};

use capacity::Capacity;
pub use permit::{LingerPermit, Permit};
use slot::Slot;
pub use slot::{Holder, Phase};

/// The close code of tunnels that end because lavaproxy stops (RFC 6455 section 7.4.1).
pub const GOING_AWAY: u16 = 1001;
/// The close code of tunnels whose client may not go on (RFC 6455 section 7.4.1).
pub const POLICY_VIOLATION: u16 = 1008;
/// The close code of tunnels whose node is lost (IANA's registry of close codes). The client should connect again.
pub const SERVICE_RESTART: u16 = 1012;
/// The most refused clients that lavaproxy lingers for at the same time, so that they can read their answer.
const MAX_LINGERING: usize = 32;
/// A connection that has sent no request for this long may be evicted.
const IDLE: Duration = Duration::from_millis(50);
/// A connection whose request has been under way for this long may be evicted.
const STALLED: Duration = Duration::from_millis(500);
/// The longest wait of a new client for a slot, and the pause between two looks at the table.
const SLOT_WAIT: Duration = Duration::from_millis(1500);
const LOOK: Duration = Duration::from_millis(10);
/// The longest wait, while stopping, for the first request of a new connection, and for the clients of idle ones to
/// end their side.
const FAREWELL: Duration = Duration::from_secs(1);
/// The longest wait for connections to end after each step of a stop.
const END_TIME: Duration = Duration::from_secs(1);

/// The slots of one or more listeners.
pub struct Admission {
    capacity: Mutex<Capacity>,
    evicts: bool,
    epoch: Instant,
    taken: AtomicUsize,
    lingering: AtomicUsize,
    stopping: AtomicBool,
    /// True once a successor accepts the new clients.
    succeeded: AtomicBool,
    hurried: AtomicBool,
    next_key: AtomicU64,
    table: Mutex<Table>,
    left: Condvar,
}

#[derive(Default)]
struct Table {
    slots: HashMap<u64, Arc<Slot>>,
    /// New clients that wait for a slot, in the order of their arrival.
    queue: VecDeque<u64>,
}

/// What happens to tunnels once all other connections have ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tunnels {
    /// They end as well.
    End,
    /// They may live until the deadline.
    Keep,
}

impl Admission {
    /// Admission with this capacity. A connection keeps its slot until it ends.
    pub fn new(capacity: Capacity) -> Arc<Self> {
        Self::with(capacity, false)
    }

    /// Admission with this capacity. When all slots are taken, a new client gets the slot of an idle or
    /// stalled connection.
    pub fn evicting(capacity: Capacity) -> Arc<Self> {
        Self::with(capacity, true)
    }

    fn with(capacity: Capacity, evicts: bool) -> Arc<Self> {
        Arc::new(Self {
            capacity: Mutex::new(capacity),
            evicts,
            epoch: Instant::now(),
            taken: AtomicUsize::new(0),
            lingering: AtomicUsize::new(0),
            stopping: AtomicBool::new(false),
            succeeded: AtomicBool::new(false),
            hurried: AtomicBool::new(false),
            next_key: AtomicU64::new(0),
            table: Mutex::default(),
            left: Condvar::new(),
        })
    }

    /// The limit and its reason.
    pub fn capacity(&self) -> Capacity {
        *self.capacity.lock()
    }

    /// How many slots are free.
    pub fn free(&self) -> usize {
        self.capacity().connections.saturating_sub(self.taken.load(SeqCst))
    }

    /// Changes the limit. Connections beyond a lower one stay.
    pub fn change_capacity(&self, capacity: Capacity) {
        *self.capacity.lock() = capacity;
    }

    /// The most workers that are needed. If connections are evicted, each slot may have an evicted connection besides
    /// its present one.
    pub fn max_workers(&self) -> usize {
        if self.evicts { 2 * self.capacity().connections } else { usize::MAX }
    }

    /// True once [`begin_to_stop`](Self::begin_to_stop) was called.
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(SeqCst)
    }

    /// Notes that a successor accepts new clients on the same sockets.
    pub fn note_successor(&self) {
        self.succeeded.store(true, SeqCst);
    }

    /// True while new clients are served, by this process or by its successor.
    pub fn is_serving(&self) -> bool {
        !self.is_stopping() || self.succeeded.load(SeqCst)
    }

    /// Takes a slot for this client until the permit is dropped. `None` when all are taken.
    pub fn admit(self: &Arc<Self>, client: Arc<TcpStream>) -> Option<Permit> {
        let key = self.next_key.fetch_add(1, SeqCst);
        let has_slot = if self.evicts { self.wait_for_slot(key) } else { self.take_slot() };
        if !has_slot {
            return None;
        }
        let slot = Arc::new(Slot {
            client,
            holder: Mutex::new(None),
            tunnel: Mutex::new(None),
            phase: AtomicU8::new(Phase::New as u8),
            since: AtomicU64::new(if self.evicts { self.millis() } else { 0 }),
            evicted: AtomicBool::new(false),
            close_code: AtomicU16::new(0),
            is_overdue: AtomicBool::new(false),
        });
        self.table.lock().slots.insert(key, Arc::clone(&slot));
        Some(Permit { admission: Arc::clone(self), key, slot })
    }

    fn take_slot(&self) -> bool {
        let free = self.taken.fetch_add(1, SeqCst) < self.capacity().connections;
        if !free {
            self.taken.fetch_sub(1, SeqCst);
        }
        free
    }

    fn wait_for_slot(&self, key: u64) -> bool {
        let mut table = self.table.lock();
        if table.queue.is_empty() && self.take_slot() {
            return true;
        }
        table.queue.push_back(key);
        let found = self.take_or_evict(&mut table, key);
        table.queue.retain(|waiting| *waiting != key);
        drop(table);
        // Wakes the next client in the queue, and the evicted connection if it is in a pause.
        self.left.notify_all();
        found
    }

    /// Once `key` is the first in the queue, takes a free slot or the slot of an evicted connection. The worker of the
    /// evicted one finds its socket shut down. The number of workers bounds how many can be on their way out.
    fn take_or_evict(&self, table: &mut MutexGuard<'_, Table>, key: u64) -> bool {
        let deadline = Instant::now() + SLOT_WAIT;
        loop {
            if table.queue.front() == Some(&key) {
                if self.take_slot() {
                    return true;
                }
                if let Some(slot) = self.eviction_candidate(table) {
                    slot.evicted.store(true, SeqCst);
                    slot.cut();
                    return true;
                }
            }
            if Instant::now() >= deadline {
                return false;
            }
            self.left.wait_for(table, LOOK);
        }
    }

    /// The connection that has sent no request for the longest time, else the one whose request has been under way for
    /// the longest. Bytes that its worker has not read yet count as a request: on a busy machine a worker may be late.
    fn eviction_candidate<'t>(&self, table: &'t Table) -> Option<&'t Slot> {
        let now = self.epoch.elapsed();
        let oldest = |is_idle: bool, age: Duration| {
            table
                .slots
                .values()
                .map(Arc::as_ref)
                .filter(|slot| !slot.is_evicted())
                .filter(|slot| now.saturating_sub(Duration::from_millis(slot.since())) >= age)
                .filter(|slot| (slot.waits() && !slot.has_sent()) == is_idle)
                .min_by_key(|slot| slot.since())
        };
        oldest(true, IDLE).or_else(|| oldest(false, STALLED))
    }

    fn millis(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Permission to linger for a refused client; `None` when lavaproxy lingers for too many already.
    pub fn linger_permit(&self) -> Option<LingerPermit<'_>> {
        if self.lingering.fetch_add(1, SeqCst) >= MAX_LINGERING {
            self.lingering.fetch_sub(1, SeqCst);
            return None;
        }
        Some(LingerPermit(self))
    }

    /// Ends our side of idle keep-alive connections now. A connection with a request under way, or without one so far,
    /// gets one more answer.
    pub fn begin_to_stop(&self) {
        self.stopping.store(true, SeqCst);
        let table = self.table.lock();
        table.slots.values().for_each(|slot| slot.end_if_idle());
        drop(table);
        self.left.notify_all();
    }

    /// Ends all connections, after [`begin_to_stop`](Self::begin_to_stop): those with a request after its answer,
    /// those without a request after a second, then the tunnels, and all of them at the deadline. Returns how many
    /// did not end.
    pub fn drain(&self, deadline: Instant, tunnels: Tunnels) -> usize {
        let hurried = || self.hurried.load(SeqCst);
        let mut table = self.table.lock();
        let moment = deadline.min(Instant::now() + FAREWELL);
        let silent = |slot: &Arc<Slot>| slot.waits();
        self.wait_while(&mut table, moment, |table| table.slots.values().any(silent));
        table.slots.values().filter(|slot| silent(slot)).for_each(|slot| slot.stop_reading());
        self.wait_while(&mut table, deadline, |table| {
            table.slots.values().any(|slot| !slot.is(Phase::Tunnel) || (tunnels == Tunnels::Keep && !hurried()))
        });
        table.slots.values().for_each(|slot| slot.end(GOING_AWAY));
        self.wait_for_ends(&mut table);
        table.slots.values().for_each(|slot| slot.cut());
        self.wait_for_ends(&mut table);
        table.slots.len()
    }

    /// Ends the tunnels to the node with this number with close 1012, so that their clients connect again. Returns how
    /// many it has ended.
    pub fn end_tunnels_of(&self, node: u64) -> usize {
        self.slots().iter().filter(|slot| slot.end_if_at(node)).count()
    }

    /// Ends the connections of holders that may not go on, tunnels with close 1008. Returns how many it has ended.
    pub fn end_those(&self, may_not_go_on: impl Fn(Holder) -> bool) -> usize {
        let is_meant = |slot: &&Arc<Slot>| !slot.is_kicked() && slot.holder.lock().is_some_and(&may_not_go_on);
        self.slots().iter().filter(is_meant).inspect(|slot| slot.end(POLICY_VIOLATION)).count()
    }

    /// Cuts the connections that [`end_those`](Self::end_those) has ended and whose clients go on. To be called once a
    /// second: a client has one to two seconds to end its side.
    pub fn cut_overdue(&self) {
        let table = self.table.lock();
        let overdue = table.slots.values().filter(|slot| slot.is_kicked());
        overdue.filter(|slot| slot.is_overdue.swap(true, SeqCst)).for_each(|slot| slot.cut());
    }

    /// All slots, to be gone through without the lock.
    fn slots(&self) -> Vec<Arc<Slot>> {
        self.table.lock().slots.values().cloned().collect()
    }

    /// Makes a [`drain`](Self::drain) that is under way end its tunnels now.
    pub fn hurry(&self) {
        self.hurried.store(true, SeqCst);
        drop(self.table.lock());
        self.left.notify_all();
    }

    fn wait_while(&self, table: &mut MutexGuard<'_, Table>, deadline: Instant, holds: impl Fn(&Table) -> bool) {
        while holds(table) {
            if self.left.wait_until(table, deadline).timed_out() {
                return;
            }
        }
    }

    /// Waits until all connections have ended, or none has ended for [`END_TIME`].
    fn wait_for_ends(&self, table: &mut MutexGuard<'_, Table>) {
        let mut before = usize::MAX;
        while !table.slots.is_empty() && table.slots.len() < before {
            before = table.slots.len();
            self.wait_while(table, Instant::now() + END_TIME, |table| !table.slots.is_empty());
        }
    }
}

#[cfg(test)]
mod tests;
