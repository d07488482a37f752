//! How a tunnel ends: what its two directions share, and what each one's end does to the other. It touches only the
//! sockets.

use std::io;
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering::SeqCst};
use std::sync::{Arc, OnceLock};
use std::thread;

use parking_lot::Mutex;
use socket2::Socket;

use super::admitted::Admitted;
use crate::admission::SERVICE_RESTART;
use crate::error::End;
use crate::nodes::backend;
use crate::sessions::seat::CLOSING_TIME;

/// How the tunnel ends: shared by both directions. To end a tunnel from elsewhere, set `close_code` and then shut down
/// reading from the backend: the client gets a close frame with that code.
pub struct Ending {
    /// Whose tunnel it is: the client's socket and the close code.
    admitted: Arc<Admitted>,
    /// The socket to the present backend.
    backend: Mutex<Arc<Socket>>,
    first: OnceLock<End>,
    broken: AtomicBool,
}

/// How the ends of one direction are named.
pub(super) struct Direction {
    closed: End,
    reset: End,
    of_source: fn(&io::Error) -> End,
    of_sink: fn(&io::Error) -> End,
    to_client: bool,
}

pub(super) const CLIENT_TO_BACKEND: Direction = Direction {
    closed: End::ClientClosed,
    reset: End::ClientReset,
    of_source: End::of_client,
    of_sink: End::of_backend,
    to_client: false,
};
pub(super) const BACKEND_TO_CLIENT: Direction = Direction {
    closed: End::BackendClosed,
    reset: End::BackendReset,
    of_source: End::of_backend,
    of_sink: End::of_client,
    to_client: true,
};

/// The side on which a direction failed.
pub(super) enum Broken {
    Source(io::Error),
    Sink(io::Error),
}

impl Ending {
    pub fn new(admitted: &Arc<Admitted>, backend: &Arc<Socket>) -> Self {
        let (first, broken) = (OnceLock::new(), AtomicBool::new(false));
        Self { admitted: Arc::clone(admitted), backend: Mutex::new(Arc::clone(backend)), first, broken }
    }

    fn client(&self) -> &TcpStream {
        &self.admitted.stream
    }

    fn code(&self) -> &AtomicU16 {
        self.admitted.permit.close_code()
    }

    /// The code that the client must get in a close frame. 0 when it must get none.
    pub(super) fn close_code(&self) -> u16 {
        self.code().load(SeqCst)
    }

    /// True when the client has ended its direction, or has broken the tunnel off.
    pub fn client_left(&self) -> bool {
        matches!(self.first.get(), Some(End::ClientClosed | End::ClientReset | End::ClientTimeout))
    }

    /// How the client has left.
    pub fn client_end(&self) -> End {
        // A client that has sent a close frame may not have ended its direction yet.
        self.first.get().copied().unwrap_or(End::ClientClosed)
    }

    /// True when lavaproxy ends the tunnel, or a direction has ended for another reason than the client. A tunnel that
    /// ends because its node is lost to the health checks may still find another node.
    pub fn is_over(&self) -> bool {
        let is_ended = !matches!(self.close_code(), 0 | SERVICE_RESTART);
        is_ended || (self.first.get().is_some() && !self.client_left())
    }

    /// This is the present backend from now on.
    pub fn lead_to(&self, backend: &Arc<Socket>) {
        *self.backend.lock() = Arc::clone(backend);
        let _ = self.code().compare_exchange(SERVICE_RESTART, 0, SeqCst, SeqCst);
        // What has ended a direction meanwhile may have met the old socket. An error means that this one is dead.
        if self.is_over() {
            let _ = backend.shutdown(Shutdown::Read);
        } else if self.client_left() {
            let _ = backend.set_read_timeout(Some(CLOSING_TIME));
            let _ = backend.shutdown(Shutdown::Write);
        }
    }

    /// The backend is lost, and no other takes its place.
    pub fn note_loss(&self, client_left: bool) {
        if client_left {
            let _ = self.first.set(End::ClientClosed);
        } else if !self.is_over() && !self.client_left() {
            let _ = self.code().compare_exchange(0, SERVICE_RESTART, SeqCst, SeqCst);
        }
    }

    fn backend(&self) -> Arc<Socket> {
        Arc::clone(&self.backend.lock())
    }

    /// One direction has ended.
    pub(super) fn note(&self, copied: Result<(), Broken>, direction: &Direction) {
        match copied {
            // The other direction failed and woke this one. The peer has not ended its side: nothing is passed on.
            Ok(()) if self.broken.load(SeqCst) => {}
            // When lavaproxy ends the tunnel, an error of a peer does not count.
            _ if self.code().load(SeqCst) != 0 => self.close(direction),
            // A reset is an error in one direction only. The other direction reads an end of stream.
            Ok(()) if self.was_reset(direction) => self.note_broken(direction.reset),
            Ok(()) => self.close(direction),
            Err(Broken::Source(error)) => self.note_broken((direction.of_source)(&error)),
            Err(Broken::Sink(error)) => self.note_broken((direction.of_sink)(&error)),
        }
    }

    /// Passes the end of a direction on to its sink.
    fn close(&self, direction: &Direction) {
        let _ = self.first.set(direction.closed);
        // An error means that the sink is gone. The other direction finds that out by itself.
        let _ = match direction.to_client {
            true => self.client().shutdown(Shutdown::Write),
            false => self.backend().shutdown(Shutdown::Write),
        };
    }

    /// True when the source has no peer any more and no direction had ended properly before. A half-closed connection
    /// still has its peer.
    fn was_reset(&self, direction: &Direction) -> bool {
        let gone = match direction.to_client {
            true => self.backend().peer_addr().is_err(),
            false => self.client().peer_addr().is_err(),
        };
        gone && !matches!(self.first.get(), Some(End::ClientClosed | End::BackendClosed))
    }

    /// The tunnel is broken off.
    pub(super) fn note_broken(&self, end: End) {
        let _ = self.first.set(end);
        self.broken.store(true, SeqCst);
        // Wakes the other direction's read and sends nothing: the close of the sockets sends the reset.
        let _ = self.client().shutdown(Shutdown::Read);
        let _ = self.backend().shutdown(Shutdown::Read);
    }

    /// Both directions have ended. The close of the sockets of a broken tunnel sends a reset. Returns how it ended.
    pub(super) fn settle(&self) -> End {
        if self.broken.load(SeqCst) {
            backend::close_with_reset(self.client());
            backend::close_with_reset(&*self.backend());
        }
        self.first.get().copied().unwrap_or(End::InternalError)
    }
}

/// Ends the tunnel if its thread panics, so that the other thread does not wait for ever.
pub(super) struct Wake<'e>(pub(super) &'e Ending);

impl Drop for Wake<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.note_broken(End::InternalError);
        }
    }
}
