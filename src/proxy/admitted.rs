//! A connection that has a slot: what its worker holds, and later the threads of its tunnel.

use std::net::TcpStream;
use std::sync::Arc;

use parking_lot::Mutex;

use super::limits::Holds;
use crate::admission::Permit;
use crate::error::End;
use crate::ledger::Entry;

/// A connection that has a slot. On drop its ledger row is closed first, then its slot is freed, then its socket closed.
pub struct Admitted {
    /// Its row in the ledger.
    pub entry: Entry,
    /// Its slot.
    pub permit: Permit,
    /// Its client's socket.
    pub stream: Arc<TcpStream>,
    /// What it counts for once it is a tunnel.
    pub holds: Mutex<[Holds; 2]>,
}

impl Admitted {
    /// The client is gone, and its session is still taken over: its row is closed, and it counts for nothing any more. It
    /// keeps its slot, as its tunnel keeps its threads.
    pub fn let_client_go(&self, end: End) {
        *self.holds.lock() = Default::default();
        self.entry.close(end);
    }
}
