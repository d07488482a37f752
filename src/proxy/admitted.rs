//! A connection that has a slot: what its worker holds, and later the threads of its tunnel.

use std::net::TcpStream;
use std::sync::Arc;

use crate::admission::Permit;
use crate::ledger::Entry;

/// A connection that has a slot. On drop its ledger row is closed first, then its slot is freed, then its socket closed.
pub struct Admitted {
    /// Its row in the ledger.
    pub entry: Entry,
    /// Its slot.
    pub permit: Permit,
    /// Its client's socket.
    pub stream: Arc<TcpStream>,
}
