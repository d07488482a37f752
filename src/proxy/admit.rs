//! Who may come in: a limit on connections, and the table of those inside that stopping needs.
//!
//! It keeps its own count and never asks the ledger.

use std::collections::HashMap;
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use socket2::Socket;

use super::capacity::Capacity;

/// How many refused clients are waited for at once, so that they can read their answer.
const MAX_REFUSING: usize = 32;

/// The places behind one or more doors.
pub struct Admission {
    capacity: Capacity,
    inside: AtomicUsize,
    refusing: AtomicUsize,
    stopping: AtomicBool,
    next_key: AtomicU64,
    table: Mutex<HashMap<u64, Arc<Place>>>,
    left: Condvar,
}

/// What a connection is doing, as far as stopping it is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// It waits for a request; nothing is lost when it ends.
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
}

impl Admission {
    /// As many places as `capacity` says.
    pub fn new(capacity: Capacity) -> Arc<Self> {
        Arc::new(Self {
            capacity,
            inside: AtomicUsize::new(0),
            refusing: AtomicUsize::new(0),
            stopping: AtomicBool::new(false),
            next_key: AtomicU64::new(0),
            table: Mutex::default(),
            left: Condvar::new(),
        })
    }

    /// The limit and where it comes from.
    pub fn capacity(&self) -> &Capacity {
        &self.capacity
    }

    /// True from the moment that [`drain`](Self::drain) was called.
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(SeqCst)
    }

    /// A place for this client, until the permit is dropped; `None` when all are taken.
    pub fn admit(self: &Arc<Self>, client: Arc<TcpStream>) -> Option<Permit> {
        if self.inside.fetch_add(1, SeqCst) >= self.capacity.connections {
            self.inside.fetch_sub(1, SeqCst);
            return None;
        }
        let key = self.next_key.fetch_add(1, SeqCst);
        let place = Arc::new(Place { client, backend: Mutex::new(None), phase: AtomicU8::new(Phase::Busy as u8) });
        self.table.lock().insert(key, Arc::clone(&place));
        Some(Permit { admission: Arc::clone(self), key, place })
    }

    /// Leave to wait for a refused client; `None` when too many are waited for already.
    pub fn patience(&self) -> Option<Patience<'_>> {
        if self.refusing.fetch_add(1, SeqCst) >= MAX_REFUSING {
            self.refusing.fetch_sub(1, SeqCst);
            return None;
        }
        Some(Patience(self))
    }

    /// Ends what is inside: idle connections now, requests when they are answered or at the deadline, then
    /// tunnels. Returns how many would not go.
    pub fn drain(&self, timeout: Duration) -> usize {
        let deadline = Instant::now() + timeout;
        self.stopping.store(true, SeqCst);
        let mut table = self.table.lock();
        for place in table.values().filter(|place| place.is(Phase::Idle)) {
            place.stop_reading();
        }
        while table.values().any(|place| place.is(Phase::Busy)) {
            if self.left.wait_until(&mut table, deadline).timed_out() {
                break;
            }
        }
        for place in table.values() {
            place.end();
        }
        let deadline = Instant::now() + Duration::from_secs(2);
        while !table.is_empty() {
            if self.left.wait_until(&mut table, deadline).timed_out() {
                break;
            }
        }
        table.len()
    }
}

impl Place {
    fn is(&self, phase: Phase) -> bool {
        self.phase.load(SeqCst) == phase as u8
    }

    // Shutting a socket down that its peer has closed fails, and then there is nothing left to do.
    fn stop_reading(&self) {
        let _ = self.client.shutdown(Shutdown::Read);
    }

    fn end(&self) {
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
        let stopping = self.admission.is_stopping();
        if stopping {
            // Taking the lock orders this after the waiter's look at the phases.
            drop(self.admission.table.lock());
            self.admission.left.notify_all();
        }
        !stopping
    }

    /// Lets stopping reach the tunnel's other end too.
    pub fn attach(&self, backend: Arc<Socket>) {
        *self.place.backend.lock() = Some(backend);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.admission.table.lock().remove(&self.key);
        self.admission.inside.fetch_sub(1, SeqCst);
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
