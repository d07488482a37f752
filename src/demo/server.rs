//! What the threads of one pretend node share: its version and password, its connections, and that it stops.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::behaviour::Behaviour;
use super::sessions::Sessions;
use super::wire::Wire;
use crate::config::Lavalink;

/// What the threads of a node share.
pub(super) struct Server {
    pub(super) version: Lavalink,
    pub(super) password: String,
    pub(super) behaviour: Arc<Behaviour>,
    pub(super) sessions: Sessions,
    pub(super) listening: AtomicBool,
    stopping: AtomicBool,
    connections: Mutex<Connections>,
    emptied: Condvar,
}

#[derive(Default)]
struct Connections {
    next: u64,
    open: HashMap<u64, Arc<Wire>>,
}

impl Server {
    pub(super) fn new(version: Lavalink, password: &str, behaviour: &Arc<Behaviour>) -> Self {
        Self {
            version,
            password: password.to_owned(),
            behaviour: Arc::clone(behaviour),
            sessions: Sessions::new(version, Instant::now(), behaviour),
            connections: Mutex::default(),
            emptied: Condvar::new(),
            listening: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
        }
    }

    /// Ends every pause. The connections are closed before, so that no answer comes early.
    pub(super) fn stop_pauses(&self) {
        self.stopping.store(true, Ordering::Relaxed);
        self.behaviour.wake();
    }

    /// Blocks for `length`, or until the node stops.
    pub(super) fn pause(&self, length: Duration) {
        self.behaviour.pause(length, &self.stopping);
    }

    pub(super) fn wires(&self) -> Vec<Arc<Wire>> {
        self.connections.lock().open.values().cloned().collect()
    }

    pub(super) fn wait_until_empty(&self, limit: Duration) {
        let until = Instant::now() + limit;
        let mut connections = self.connections.lock();
        while !connections.open.is_empty() && !self.emptied.wait_until(&mut connections, until).timed_out() {}
    }
}

/// A connection's entry in the list, removed on drop.
pub(super) struct Registration {
    pub(super) server: Arc<Server>,
    number: u64,
}

impl Registration {
    pub(super) fn new(server: &Arc<Server>, wire: &Arc<Wire>) -> Self {
        let mut connections = server.connections.lock();
        let number = connections.next;
        connections.next += 1;
        connections.open.insert(number, Arc::clone(wire));
        Self { server: Arc::clone(server), number }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let mut connections = self.server.connections.lock();
        connections.open.remove(&self.number);
        if connections.open.is_empty() {
            self.server.emptied.notify_all();
        }
    }
}
