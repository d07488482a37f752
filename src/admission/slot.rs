//! One slot: a connection's sockets, what it is doing, whom it belongs to, and how it is ended.

use std::net::{IpAddr, Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU16, AtomicU64, Ordering::SeqCst};

use parking_lot::Mutex;
use socket2::{SockRef, Socket};

use super::{POLICY_VIOLATION, SERVICE_RESTART};
use crate::nodes::backend;

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

pub(super) struct Slot {
    pub(super) client: Arc<TcpStream>,
    /// `None` while that is not known, and for a front's connection that carries requests of several clients.
    pub(super) holder: Mutex<Option<Holder>>,
    pub(super) tunnel: Mutex<Option<Tunnel>>,
    pub(super) phase: AtomicU8,
    /// When it entered its phase, in milliseconds after the admission's epoch. Kept where connections are evicted.
    pub(super) since: AtomicU64,
    pub(super) evicted: AtomicBool,
    /// The close code with which lavaproxy ends the tunnel; 0 until then.
    pub(super) close_code: AtomicU16,
    /// True when its holder may not go on and has had time to end its side.
    pub(super) is_overdue: AtomicBool,
}

/// The backend side of a tunnel.
pub(super) struct Tunnel {
    pub(super) backend: Arc<Socket>,
    /// The number of the node.
    pub(super) node: u64,
}

impl Slot {
    pub(super) fn is(&self, phase: Phase) -> bool {
        self.phase.load(SeqCst) == phase as u8
    }

    /// True while no request is under way.
    pub(super) fn waits(&self) -> bool {
        self.is(Phase::New) || self.is(Phase::Idle) || self.is(Phase::Lingering)
    }

    pub(super) fn since(&self) -> u64 {
        self.since.load(SeqCst)
    }

    pub(super) fn is_evicted(&self) -> bool {
        self.evicted.load(SeqCst)
    }

    /// True once its holder may not go on.
    pub(super) fn is_kicked(&self) -> bool {
        self.close_code.load(SeqCst) == POLICY_VIOLATION
    }

    /// True when its socket has unread bytes.
    pub(super) fn has_sent(&self) -> bool {
        backend::peek(&SockRef::from(&*self.client)).is_ok_and(|count| count > 0)
    }

    /// Ends our side of a connection that waits for a request. The reading side stays open, as an answer may be on its
    /// way: bytes that arrive after a `shutdown` of both sides would reset the connection. When the client ends its
    /// side, the worker wakes.
    pub(super) fn end_if_idle(&self) {
        let is_idle = !self.has_sent()
            && self.phase.compare_exchange(Phase::Idle as u8, Phase::Lingering as u8, SeqCst, SeqCst).is_ok();
        if is_idle {
            let _ = self.client.shutdown(Shutdown::Write);
        }
    }

    // A shutdown fails if the peer has closed the socket. Nothing is left to do then.
    pub(super) fn stop_reading(&self) {
        let _ = self.client.shutdown(Shutdown::Read);
    }

    /// Ends a tunnel from its backend's side, so that the client still gets a close frame. Ends anything else at once.
    pub(super) fn end(&self, code: u16) {
        // A tunnel whose node is lost may get another one. That must not save it from any other end.
        let replaced = |present| matches!(present, 0 | SERVICE_RESTART).then_some(code);
        let _ = self.close_code.fetch_update(SeqCst, SeqCst, replaced);
        let backend = self.tunnel.lock().as_ref().map(|tunnel| Arc::clone(&tunnel.backend));
        match backend.filter(|_| self.is(Phase::Tunnel)) {
            Some(backend) => {
                let _ = backend.shutdown(Shutdown::Read);
            }
            None => self.cut(),
        }
    }

    /// Ends a tunnel from its backend's side if it leads to the node with this number, and says whether it does. The
    /// tunnel cannot get another node meanwhile.
    pub(super) fn end_if_at(&self, node: u64) -> bool {
        let tunnel = self.tunnel.lock();
        let Some(tunnel) = tunnel.as_ref().filter(|tunnel| tunnel.node == node) else { return false };
        let _ = self.close_code.compare_exchange(0, SERVICE_RESTART, SeqCst, SeqCst);
        let _ = tunnel.backend.shutdown(Shutdown::Read);
        true
    }

    pub(super) fn cut(&self) {
        let _ = self.client.shutdown(Shutdown::Both);
        if let Some(tunnel) = &*self.tunnel.lock() {
            let _ = tunnel.backend.shutdown(Shutdown::Both);
        }
    }
}
