//! Slots for connections: limits their number, and keeps the table of connections that a stop needs.
//!
//! It keeps its own count and never asks the ledger. When all slots are taken, a proxy listener refuses a new client.
//! The web listener evicts a connection that is idle or stalled instead, so that idle clients cannot lock others out.

pub mod capacity;

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU16, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};
use socket2::{SockRef, Socket};

use crate::nodes::backend;
use capacity::Capacity;

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

/// What a connection is doing, as far as stopping it is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// It has sent no request yet.
    New,
    /// It waits for another request. It may end at any time.
    Idle,
    /// Its last answer is sent. It waits until the client ends its side.
    Lingering,
    /// A request is under way.
    Busy,
    /// It is a tunnel.
    Tunnel,
}

/// Whom a connection belongs to.
#[derive(Clone, Copy, Debug)]
pub struct Holder {
    /// The address of its client.
    pub address: IpAddr,
    /// The number of the account of its last request.
    pub account: u64,
}

struct Slot {
    client: Arc<TcpStream>,
    /// `None` while that is not known, and for a front's connection that carries requests of several clients.
    holder: Mutex<Option<Holder>>,
    tunnel: Mutex<Option<Tunnel>>,
    phase: AtomicU8,
    /// When it entered its phase, in milliseconds after the admission's epoch.
    since: AtomicU64,
    evicted: AtomicBool,
    /// The close code with which lavaproxy ends the tunnel; 0 until then.
    close_code: AtomicU16,
    /// True when its holder may not go on and has had time to end its side.
    is_overdue: AtomicBool,
}

/// The backend side of a tunnel.
struct Tunnel {
    backend: Arc<Socket>,
    /// The number of the node.
    node: u64,
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
            since: AtomicU64::new(self.millis()),
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
        self.end_where(SERVICE_RESTART, |slot| slot.tunnel.lock().as_ref().is_some_and(|tunnel| tunnel.node == node))
    }

    /// Ends the connections of holders that may not go on, tunnels with close 1008. Returns how many it has ended.
    pub fn end_those(&self, may_not_go_on: impl Fn(Holder) -> bool) -> usize {
        self.end_where(POLICY_VIOLATION, |slot| !slot.is_kicked() && slot.holder.lock().is_some_and(&may_not_go_on))
    }

    /// Cuts the connections that [`end_those`](Self::end_those) has ended and whose clients go on. To be called once a
    /// second: a client has one to two seconds to end its side.
    pub fn cut_overdue(&self) {
        let table = self.table.lock();
        let overdue = table.slots.values().filter(|slot| slot.is_kicked());
        overdue.filter(|slot| slot.is_overdue.swap(true, SeqCst)).for_each(|slot| slot.cut());
    }

    fn end_where(&self, code: u16, is_meant: impl Fn(&Slot) -> bool) -> usize {
        let table = self.table.lock();
        let ended: Vec<_> = table.slots.values().filter(|slot| is_meant(slot)).cloned().collect();
        drop(table);
        ended.iter().for_each(|slot| slot.end(code));
        ended.len()
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

impl Slot {
    fn is(&self, phase: Phase) -> bool {
        self.phase.load(SeqCst) == phase as u8
    }

    /// True while no request is under way.
    fn waits(&self) -> bool {
        self.is(Phase::New) || self.is(Phase::Idle) || self.is(Phase::Lingering)
    }

    fn since(&self) -> u64 {
        self.since.load(SeqCst)
    }

    fn is_evicted(&self) -> bool {
        self.evicted.load(SeqCst)
    }

    /// True once its holder may not go on.
    fn is_kicked(&self) -> bool {
        self.close_code.load(SeqCst) == POLICY_VIOLATION
    }

    /// True when its socket has unread bytes.
    fn has_sent(&self) -> bool {
        backend::peek(&SockRef::from(&*self.client)).is_ok_and(|count| count > 0)
    }

    /// Ends our side of a connection that waits for a request. The reading side stays open, as an answer may be on its
    /// way: bytes that arrive after a `shutdown` of both sides would reset the connection. When the client ends its
    /// side, the worker wakes.
    fn end_if_idle(&self) {
        let is_idle = !self.has_sent()
            && self.phase.compare_exchange(Phase::Idle as u8, Phase::Lingering as u8, SeqCst, SeqCst).is_ok();
        if is_idle {
            let _ = self.client.shutdown(Shutdown::Write);
        }
    }

    // A shutdown fails if the peer has closed the socket. Nothing is left to do then.
    fn stop_reading(&self) {
        let _ = self.client.shutdown(Shutdown::Read);
    }

    /// Ends a tunnel from its backend's side, so that the client still gets a close frame. Ends anything else at once.
    fn end(&self, code: u16) {
        let _ = self.close_code.compare_exchange(0, code, SeqCst, SeqCst);
        let backend = self.tunnel.lock().as_ref().map(|tunnel| Arc::clone(&tunnel.backend));
        match backend.filter(|_| self.is(Phase::Tunnel)) {
            Some(backend) => {
                let _ = backend.shutdown(Shutdown::Read);
            }
            None => self.cut(),
        }
    }

    fn cut(&self) {
        let _ = self.client.shutdown(Shutdown::Both);
        if let Some(tunnel) = &*self.tunnel.lock() {
            let _ = tunnel.backend.shutdown(Shutdown::Both);
        }
    }
}

/// A slot, given back on drop.
pub struct Permit {
    admission: Arc<Admission>,
    key: u64,
    slot: Arc<Slot>,
}

impl Permit {
    /// Notes the phase that the connection enters. False when lavaproxy is stopping and an idle connection should end.
    pub fn enter(&self, phase: Phase) -> bool {
        self.slot.phase.store(phase as u8, SeqCst);
        self.note_phase()
    }

    /// Notes the start of a request. False when a stop has ended the connection already: the request gets no answer.
    pub fn begin_request(&self) -> bool {
        let is_over = self.slot.phase.swap(Phase::Busy as u8, SeqCst) == Phase::Lingering as u8;
        self.note_phase();
        !is_over
    }

    fn note_phase(&self) -> bool {
        if self.admission.evicts {
            self.slot.since.store(self.admission.millis(), SeqCst);
        }
        let stopping = self.admission.is_stopping();
        if stopping {
            // With the lock taken, the waiter has either seen the new phase or waits for the notification.
            drop(self.admission.table.lock());
            self.admission.left.notify_all();
        }
        !stopping
    }

    /// True when a new client waits for a slot: this connection should end after its answer.
    pub fn is_wanted(&self) -> bool {
        self.admission.evicts && !self.admission.table.lock().queue.is_empty()
    }

    /// The close code if lavaproxy ends this tunnel; 0 until then.
    pub fn close_code(&self) -> &AtomicU16 {
        &self.slot.close_code
    }

    /// True when this connection may not serve a further request.
    pub fn is_last_call(&self) -> bool {
        self.admission.is_stopping()
    }

    /// True when this slot was given to another connection.
    pub fn is_evicted(&self) -> bool {
        self.slot.is_evicted()
    }

    /// True once the connection was ended because its holder may not go on.
    pub fn is_kicked(&self) -> bool {
        self.slot.is_kicked()
    }

    /// Notes whom the connection belongs to.
    pub fn belongs_to(&self, holder: Holder) {
        *self.slot.holder.lock() = Some(holder);
    }

    /// Waits for `time`, or until the connection is evicted or lavaproxy stops.
    pub fn pause(&self, time: Duration) {
        let deadline = Instant::now() + time;
        let mut table = self.admission.table.lock();
        while !self.is_evicted() && !self.admission.is_stopping() {
            if self.admission.left.wait_until(&mut table, deadline).timed_out() {
                return;
            }
        }
    }

    /// Notes the backend side of a tunnel, so that a stop can end it.
    pub fn attach(&self, backend: Arc<Socket>, node: u64) {
        *self.slot.tunnel.lock() = Some(Tunnel { backend, node });
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut table = self.admission.table.lock();
        table.slots.remove(&self.key);
        // Checked under the lock: the slot of an evicted connection belongs to another connection already.
        if !self.is_evicted() {
            self.admission.taken.fetch_sub(1, SeqCst);
        }
        drop(table);
        self.admission.left.notify_all();
    }
}

/// Permission to linger for one refused client, given back on drop.
pub struct LingerPermit<'a>(&'a Admission);

impl Drop for LingerPermit<'_> {
    fn drop(&mut self) {
        self.0.lingering.fetch_sub(1, SeqCst);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use std::io::Write as _;
    use std::net::TcpListener;

    use super::*;

    /// Connects a client and waits for its slot.
    fn connect(admission: &Arc<Admission>) -> (TcpStream, Permit) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (client, admission.admit(Arc::new(listener.accept().unwrap().0)).unwrap())
    }

    #[test]
    fn a_connection_with_unread_bytes_is_not_evicted() {
        let admission = Admission::evicting(Capacity { connections: 2, rule: "a test" });
        let connect = || connect(&admission);
        let (mut asking, unread) = connect();
        asking.write_all(b"GET / HTTP/1.1\r\n").unwrap();
        while !unread.slot.has_sent() {}
        let (_silent, idle) = connect();
        let _third = connect();
        assert!(idle.is_evicted() && !unread.is_evicted());
    }

    #[test]
    fn new_clients_get_slots_in_the_order_of_their_arrival() {
        const CLIENTS: usize = 8;
        let admission = Admission::evicting(Capacity { connections: 1, rule: "a test" });
        let (first, admitted) = (connect(&admission), Mutex::new(Vec::new()));
        first.1.enter(Phase::Busy);
        std::thread::scope(|scope| {
            for number in 0..CLIENTS {
                let (admitted, admission) = (&admitted, &admission);
                scope.spawn(move || {
                    let (_client, permit) = connect(admission);
                    let at = permit.slot.since();
                    // The next client arrives in a later millisecond.
                    while admission.millis() == at {}
                    admitted.lock().push((number, at));
                });
                while admission.table.lock().queue.len() + admitted.lock().len() <= number {}
            }
            drop(first);
        });
        let mut admitted = admitted.into_inner();
        admitted.sort_unstable();
        assert!(admitted.len() == CLIENTS && admitted.is_sorted_by_key(|(_, at)| *at), "{admitted:?}");
        assert!(admission.table.lock().queue.is_empty());
    }

    #[test]
    fn only_the_connections_of_the_holders_in_question_end() {
        let admission = Admission::new(Capacity { connections: 4, rule: "a test" });
        let connections = [1, 2, 2].map(|account| {
            let (client, permit) = connect(&admission);
            permit.belongs_to(Holder { address: [203, 0, 113, 7].into(), account });
            (client, permit)
        });
        let (_unknown, of_nobody) = connect(&admission);
        let end = || admission.end_those(|holder| holder.account == 2);
        assert_eq!((end(), end()), (2, 0), "an ended connection is ended once");
        let kicked = connections.each_ref().map(|(_, permit)| permit.is_kicked());
        assert_eq!((kicked, of_nobody.is_kicked()), ([false, true, true], false));
    }

    #[test]
    fn a_changed_capacity_holds_for_the_next_client() {
        let admission = Admission::new(Capacity { connections: 1, rule: "a test" });
        let _first = connect(&admission);
        let admit = || {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            admission.admit(Arc::new(listener.accept().unwrap().0))
        };
        assert!(admit().is_none());
        admission.change_capacity(Capacity { connections: 2, rule: "a test" });
        let second = admit();
        assert!(second.is_some() && admit().is_none());
    }
}
