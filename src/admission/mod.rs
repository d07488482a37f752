//! Who may come in: a limit on connections, and the table of those inside that stopping needs.
//!
//! It keeps its own count and never asks the ledger. Bots that come when all places are taken are refused; people
//! take the place of somebody who asks for nothing or gets nowhere, so that idlers cannot lock anybody out.

use std::collections::{HashMap, VecDeque};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};
use socket2::{SockRef, Socket};

use super::backend;
use super::capacity::Capacity;

/// How many refused clients are waited for at once, so that they can read their answer.
const MAX_REFUSING: usize = 32;
/// Who has sent no request for so long may be cut off for a newcomer,
const IDLE: Duration = Duration::from_millis(50);
/// and who has had one under way for so long.
const STALLED: Duration = Duration::from_millis(500);
/// How long a newcomer waits for a place that comes free or can be cleared, and how often it looks.
const CLEARING: Duration = Duration::from_millis(1500);
const LOOK: Duration = Duration::from_millis(10);
/// How long stopping waits for the first request of whoever has only just come in.
const FIRST_REQUEST: Duration = Duration::from_secs(1);
/// How long stopping waits for somebody to go who was told to.
const FAREWELL: Duration = Duration::from_secs(1);

/// The places behind one or more doors.
pub struct Admission {
    capacity: Capacity,
    clears: bool,
    epoch: Instant,
    inside: AtomicUsize,
    refusing: AtomicUsize,
    waiting: AtomicUsize,
    stopping: AtomicBool,
    hurried: AtomicBool,
    next_key: AtomicU64,
    table: Mutex<Table>,
    left: Condvar,
}

/// What a connection is doing, as far as stopping it is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// Its first request is on its way.
    New,
    /// It waits for another request; nothing is lost when it ends.
    Idle,
    /// A request is under way.
    Busy,
    /// It is a tunnel.
    Tunnel,
}

struct Place {
    client: Arc<TcpStream>,
    backend: Mutex<Option<Arc<Socket>>>,
    phase: AtomicU8,
    /// When it entered its phase, in milliseconds after the admission's epoch.
    since: AtomicU64,
    must_go: AtomicBool,
    ending: AtomicBool,
}

#[derive(Default)]
struct Table {
    places: HashMap<u64, Arc<Place>>,
    /// Newcomers that wait for a place, in the order in which they came.
    queue: VecDeque<u64>,
}

/// What becomes of tunnels when the rest has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tunnels {
    /// They end as well.
    End,
    /// They may live until the deadline.
    Keep,
}

impl Admission {
    /// As many places as `capacity` says, kept by those who have them.
    pub fn new(capacity: Capacity) -> Arc<Self> {
        Self::with(capacity, false)
    }

    /// The same, but when all are taken, the one that has done nothing for the longest must go.
    pub fn clearing(capacity: Capacity) -> Arc<Self> {
        Self::with(capacity, true)
    }

    fn with(capacity: Capacity, clears: bool) -> Arc<Self> {
        Arc::new(Self {
            capacity,
            clears,
            epoch: Instant::now(),
            inside: AtomicUsize::new(0),
            refusing: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            stopping: AtomicBool::new(false),
            hurried: AtomicBool::new(false),
            next_key: AtomicU64::new(0),
            table: Mutex::default(),
            left: Condvar::new(),
        })
    }

    /// The limit and where it comes from.
    pub fn capacity(&self) -> &Capacity {
        &self.capacity
    }

    /// How many workers there may be: where places are cleared, as many may be on their way out as are inside.
    pub fn max_workers(&self) -> usize {
        if self.clears { 2 * self.capacity.connections } else { usize::MAX }
    }

    /// True from the moment that [`begin_to_stop`](Self::begin_to_stop) was called.
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(SeqCst)
    }

    /// A place for this client, until the permit is dropped; `None` when all are taken.
    pub fn admit(self: &Arc<Self>, client: Arc<TcpStream>) -> Option<Permit> {
        let key = self.next_key.fetch_add(1, SeqCst);
        let has_place = if self.clears { self.wait_for_place(key) } else { self.take_place() };
        if !has_place {
            return None;
        }
        let place = Arc::new(Place {
            client,
            backend: Mutex::new(None),
            phase: AtomicU8::new(Phase::New as u8),
            since: AtomicU64::new(self.millis()),
            must_go: AtomicBool::new(false),
            ending: AtomicBool::new(false),
        });
        self.table.lock().places.insert(key, Arc::clone(&place));
        Some(Permit { admission: Arc::clone(self), key, place })
    }

    fn take_place(&self) -> bool {
        let free = self.inside.fetch_add(1, SeqCst) < self.capacity.connections;
        if !free {
            self.inside.fetch_sub(1, SeqCst);
        }
        free
    }

    fn wait_for_place(&self, key: u64) -> bool {
        let mut table = self.table.lock();
        if table.queue.is_empty() && self.take_place() {
            return true;
        }
        self.waiting.fetch_add(1, SeqCst);
        table.queue.push_back(key);
        let found = self.clear_place(&mut table, key);
        table.queue.retain(|waiting| *waiting != key);
        drop(table);
        self.waiting.fetch_sub(1, SeqCst);
        // Somebody else is the first in the queue now, and whose place was taken may be in a pause.
        self.left.notify_all();
        found
    }

    /// When it is this one's turn, takes a place that comes free, or somebody's. That one's worker finds out by itself;
    /// as there are only so many workers, only so many can be on their way out.
    fn clear_place(&self, table: &mut MutexGuard<'_, Table>, key: u64) -> bool {
        let deadline = Instant::now() + CLEARING;
        loop {
            if table.queue.front() == Some(&key) {
                if self.take_place() {
                    return true;
                }
                if let Some(place) = self.dispensable(table) {
                    place.must_go.store(true, SeqCst);
                    place.cut();
                    return true;
                }
            }
            if Instant::now() >= deadline {
                return false;
            }
            self.left.wait_for(table, LOOK);
        }
    }

    /// Who has sent no request for the longest, else whose request has been under way for the longest. What has
    /// come but was not read yet is a request too: on a busy machine its worker may be late.
    fn dispensable<'t>(&self, table: &'t Table) -> Option<&'t Place> {
        let now = self.epoch.elapsed();
        let oldest = |is_idle: bool, age: Duration| {
            table
                .places
                .values()
                .map(Arc::as_ref)
                .filter(|place| !place.must_go())
                .filter(|place| now.saturating_sub(Duration::from_millis(place.since())) >= age)
                .filter(|place| (place.waits() && !place.has_sent()) == is_idle)
                .min_by_key(|place| place.since())
        };
        oldest(true, IDLE).or_else(|| oldest(false, STALLED))
    }

    fn millis(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Leave to wait for a refused client; `None` when too many are waited for already.
    pub fn patience(&self) -> Option<Patience<'_>> {
        if self.refusing.fetch_add(1, SeqCst) >= MAX_REFUSING {
            self.refusing.fetch_sub(1, SeqCst);
            return None;
        }
        Some(Patience(self))
    }

    /// From here on nobody is idle: kept-alive connections end now, and whoever has a request under way, or has sent
    /// none yet, is answered once more.
    pub fn begin_to_stop(&self) {
        self.stopping.store(true, SeqCst);
        let table = self.table.lock();
        table.places.values().filter(|place| place.is(Phase::Idle)).for_each(|place| place.stop_reading());
        drop(table);
        self.left.notify_all();
    }

    /// Ends what is inside, after [`begin_to_stop`](Self::begin_to_stop): requests when they are answered, who has
    /// sent none yet after a moment, then the tunnels; all of it at the deadline. Returns how many would not go.
    pub fn drain(&self, deadline: Instant, tunnels: Tunnels) -> usize {
        let hurried = || self.hurried.load(SeqCst);
        let mut table = self.table.lock();
        let moment = deadline.min(Instant::now() + FIRST_REQUEST);
        let silent = |place: &Arc<Place>| place.is(Phase::New);
        self.wait_while(&mut table, moment, |table| table.places.values().any(silent));
        table.places.values().filter(|place| silent(place)).for_each(|place| place.stop_reading());
        self.wait_while(&mut table, deadline, |table| {
            table.places.values().any(|place| !place.is(Phase::Tunnel) || (tunnels == Tunnels::Keep && !hurried()))
        });
        table.places.values().for_each(|place| place.end());
        self.wait_while_they_go(&mut table);
        table.places.values().for_each(|place| place.cut());
        self.wait_while_they_go(&mut table);
        table.places.len()
    }

    /// Lets a [`drain`](Self::drain) that is under way keep tunnels no longer.
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

    /// Waits until all have gone, for as long as some still go.
    fn wait_while_they_go(&self, table: &mut MutexGuard<'_, Table>) {
        let mut inside = usize::MAX;
        while !table.places.is_empty() && table.places.len() < inside {
            inside = table.places.len();
            self.wait_while(table, Instant::now() + FAREWELL, |table| !table.places.is_empty());
        }
    }
}

impl Place {
    fn is(&self, phase: Phase) -> bool {
        self.phase.load(SeqCst) == phase as u8
    }

    /// True while it asks for nothing.
    fn waits(&self) -> bool {
        self.is(Phase::New) || self.is(Phase::Idle)
    }

    fn since(&self) -> u64 {
        self.since.load(SeqCst)
    }

    fn must_go(&self) -> bool {
        self.must_go.load(SeqCst)
    }

    /// True when something lies in its socket that nobody has read yet.
    fn has_sent(&self) -> bool {
        backend::peek(&SockRef::from(&*self.client)).is_ok_and(|count| count > 0)
    }

    // Shutting a socket down that its peer has closed fails, and then there is nothing left to do.
    fn stop_reading(&self) {
        let _ = self.client.shutdown(Shutdown::Read);
    }

    /// Ends a tunnel from its backend's side, so that it can take leave of the client; anything else at once.
    fn end(&self) {
        self.ending.store(true, SeqCst);
        let backend = self.backend.lock().clone().filter(|_| self.is(Phase::Tunnel));
        match backend {
            Some(backend) => {
                let _ = backend.shutdown(Shutdown::Read);
            }
            None => self.cut(),
        }
    }

    fn cut(&self) {
        let _ = self.client.shutdown(Shutdown::Both);
        if let Some(backend) = &*self.backend.lock() {
            let _ = backend.shutdown(Shutdown::Both);
        }
    }
}

/// A place inside, given back on drop.
pub struct Permit {
    admission: Arc<Admission>,
    key: u64,
    place: Arc<Place>,
}

impl Permit {
    /// Says what the connection does from here on. False when it should stop instead of becoming idle.
    pub fn enter(&self, phase: Phase) -> bool {
        self.place.phase.store(phase as u8, SeqCst);
        if self.admission.clears {
            self.place.since.store(self.admission.millis(), SeqCst);
        }
        let stopping = self.admission.is_stopping();
        if stopping {
            // Taking the lock orders this after the waiter's look at the phases.
            drop(self.admission.table.lock());
            self.admission.left.notify_all();
        }
        !stopping
    }

    /// True when somebody waits for a place: whoever has just been served should make room.
    pub fn is_wanted(&self) -> bool {
        self.admission.waiting.load(SeqCst) > 0
    }

    /// True from the moment that this connection's end is wanted, rather than being its peers'.
    pub fn is_ending(&self) -> &AtomicBool {
        &self.place.ending
    }

    /// True when there will be no further request on this connection.
    pub fn is_last_call(&self) -> bool {
        self.admission.is_stopping()
    }

    /// True when this place was given to somebody else.
    pub fn must_go(&self) -> bool {
        self.place.must_go()
    }

    /// Waits, but not when this place is wanted or everybody must stop.
    pub fn pause(&self, time: Duration) {
        let deadline = Instant::now() + time;
        let mut table = self.admission.table.lock();
        while !self.must_go() && !self.admission.is_stopping() {
            if self.admission.left.wait_until(&mut table, deadline).timed_out() {
                return;
            }
        }
    }

    /// Lets stopping reach the tunnel's other end too.
    pub fn attach(&self, backend: Arc<Socket>) {
        *self.place.backend.lock() = Some(backend);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut table = self.admission.table.lock();
        table.places.remove(&self.key);
        // Under the lock, as a place that is given to somebody else must not be given back as well.
        if !self.must_go() {
            self.admission.inside.fetch_sub(1, SeqCst);
        }
        drop(table);
        self.admission.left.notify_all();
    }
}

/// Leave to wait for one refused client, given back on drop.
pub struct Patience<'a>(&'a Admission);

impl Drop for Patience<'_> {
    fn drop(&mut self) {
        self.0.refusing.fetch_sub(1, SeqCst);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use std::io::Write as _;
    use std::net::TcpListener;

    use super::*;

    /// A client, and its place, which it may have to wait for.
    fn come_in(admission: &Arc<Admission>) -> (TcpStream, Permit) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (client, admission.admit(Arc::new(listener.accept().unwrap().0)).unwrap())
    }

    #[test]
    fn who_has_asked_is_not_cut_off_for_a_worker_that_is_late() {
        let admission = Admission::clearing(Capacity { connections: 2, rule: "a test" });
        let come_in = || come_in(&admission);
        let (mut asking, unread) = come_in();
        asking.write_all(b"GET / HTTP/1.1\r\n").unwrap();
        while !unread.place.has_sent() {}
        let (_silent, idle) = come_in();
        let _newcomer = come_in();
        assert!(idle.must_go() && !unread.must_go());
    }

    #[test]
    fn newcomers_get_places_in_the_order_in_which_they_came() {
        const NEWCOMERS: usize = 8;
        let admission = Admission::clearing(Capacity { connections: 1, rule: "a test" });
        let (first, admitted) = (come_in(&admission), Mutex::new(Vec::new()));
        first.1.enter(Phase::Busy);
        std::thread::scope(|scope| {
            for number in 0..NEWCOMERS {
                let (admitted, admission) = (&admitted, &admission);
                scope.spawn(move || {
                    let (_client, permit) = come_in(admission);
                    let at = permit.place.since();
                    // The next one's time is another.
                    while admission.millis() == at {}
                    admitted.lock().push((number, at));
                });
                while admission.table.lock().queue.len() + admitted.lock().len() <= number {}
            }
            drop(first);
        });
        let mut admitted = admitted.into_inner();
        admitted.sort_unstable();
        assert!(admitted.len() == NEWCOMERS && admitted.is_sorted_by_key(|(_, at)| *at), "{admitted:?}");
        assert!(admission.table.lock().queue.is_empty());
    }
}
