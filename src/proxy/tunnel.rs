//! The tunnel after a 101. Two threads copy one direction each until both directions have ended.
//!
//! It touches only the sockets and the meter. It takes no lock and allocates nothing per read. When the node is lost,
//! another one may take its place.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering::SeqCst};
use std::sync::{Arc, OnceLock};
use std::thread;

use parking_lot::Mutex;
use socket2::{SockRef, Socket};

use super::frames::{Frames, close_frame};
use crate::admission::SERVICE_RESTART;
use crate::error::End;
use crate::ledger::{Meter, Metered};
use crate::nodes::backend;
use crate::sessions::client_side::ClientSide;
use crate::sessions::kept::Kept;
use crate::sessions::node_side::NodeSide;
use crate::sessions::watch::Watch;

/// The size of the buffer for little traffic. It lies on the thread's stack.
const SMALL: usize = 4096;
/// The size of the buffer for much traffic. It lies on the heap and is freed after [`CALM`] small reads.
const LARGE: usize = 64 * 1024;
/// After this many small reads in a row the large buffer is freed.
const CALM: u32 = 16;

/// The stack of the thread that copies to the client: [`SMALL`] and a few frames, and a takeover's. Only what is used
/// of it takes memory.
const STACK: usize = 192 * 1024;

/// What the exchange hands to the tunnel when both sides have agreed to switch protocols.
pub struct Switch {
    /// The head of the 101, as the client gets it.
    pub answer: Vec<u8>,
    /// The bytes that the backend sent after its head.
    pub from_backend: Vec<u8>,
    /// The bytes that the client sent after its handshake.
    pub from_client: Vec<u8>,
}

/// The watch of each direction. It reads the frames and may change them.
pub struct Watches {
    /// From the node to the client.
    pub down: Watch,
    /// From the client to the node.
    pub up: Watch,
    /// What is kept of the session, if it can be taken over.
    pub kept: Option<Arc<Kept>>,
}

/// Finds another node for a session whose node is lost or that is to be moved, and returns the socket to the node that
/// has it then. It gets true when the tunnel has ended meanwhile.
pub type TakeOver<'t> = &'t (dyn Fn(&Arc<Kept>, &mut Watch, &(dyn Fn() -> bool + Sync)) -> Option<Arc<Socket>> + Sync);

/// Copies both directions until both have ended; a half-closed tunnel still delivers the other direction. To end a
/// tunnel, set `close_code` and then shut down reading from the backend: the client gets a close frame with that code.
///
/// The answer is sent at once in a write of its own: some clients lose bytes that arrive together with it.
///
/// # Errors
/// When the second thread cannot be started. Nothing was sent then.
pub fn run(
    client: &TcpStream,
    meter: &Meter,
    backend: Arc<Socket>,
    switch: &Switch,
    watches: &mut Watches,
    close_code: &AtomicU16,
    take_over: TakeOver<'_>,
) -> io::Result<End> {
    let Watches { down, up, kept } = watches;
    let node = NodeSide::new(&backend, kept.clone(), ClientSide { stream: client, meter });
    let (first, broken) = (OnceLock::new(), AtomicBool::new(false));
    let ending = Ending { client, backend: Mutex::new(backend), close_code, first, broken };
    thread::scope(|scope| -> io::Result<()> {
        let _wake_the_other = Wake(&ending);
        let copying = thread::Builder::new().stack_size(STACK).spawn_scoped(scope, || {
            let _wake_the_other = Wake(&ending);
            let mut frames = Frames::default();
            let mut client = Metered::new(client, meter);
            let copied = client.write_all(&switch.answer).map_err(Broken::Sink);
            let backend = ending.backend();
            let mut copied = copied
                .and_then(|()| copy(&*backend, &mut client, &switch.from_backend, down, |bytes| frames.pass(bytes)));
            while let Some(backend) = ending.take_over(&copied, down, take_over) {
                copied = copy(&*backend, &mut client, &[], down, |bytes| frames.pass(bytes));
            }
            let copied = copied.and_then(|()| finish(&mut client, down, |bytes| frames.pass(bytes)));
            let code = close_code.load(SeqCst);
            if code != 0 {
                send_close(&copied, &frames, client, code);
            }
            ending.note(copied, &BACKEND_TO_CLIENT);
        })?;
        let copied = copy(Metered::new(client, meter), node, &switch.from_client, up, |_| {});
        ending.note(copied, &CLIENT_TO_BACKEND);
        if copying.join().is_err() {
            ending.note_broken(End::InternalError);
        }
        Ok(())
    })?;
    if ending.broken.load(SeqCst) {
        backend::close_with_reset(client);
        backend::close_with_reset(&*ending.backend());
    }
    Ok(ending.first.into_inner().unwrap_or(End::InternalError))
}

/// Sends a close frame if the stream to the client is between two frames.
fn send_close(copied: &Result<(), Broken>, frames: &Frames, mut client: impl Write, code: u16) {
    if !matches!(copied, Err(Broken::Sink(_))) && frames.is_between_frames() {
        // An error means that the client is gone.
        let _ = client.write_all(&close_frame(code));
    }
}

/// How the tunnel ends: shared by both directions.
struct Ending<'t> {
    client: &'t TcpStream,
    /// The present one.
    backend: Mutex<Arc<Socket>>,
    close_code: &'t AtomicU16,
    first: OnceLock<End>,
    broken: AtomicBool,
}

/// How the ends of one direction are named.
struct Direction {
    closed: End,
    reset: End,
    of_source: fn(&io::Error) -> End,
    of_sink: fn(&io::Error) -> End,
    to_client: bool,
}

const CLIENT_TO_BACKEND: Direction = Direction {
    closed: End::ClientClosed,
    reset: End::ClientReset,
    of_source: End::of_client,
    of_sink: End::of_backend,
    to_client: false,
};
const BACKEND_TO_CLIENT: Direction = Direction {
    closed: End::BackendClosed,
    reset: End::BackendReset,
    of_source: End::of_backend,
    of_sink: End::of_client,
    to_client: true,
};

/// The side on which a direction failed.
enum Broken {
    Source(io::Error),
    Sink(io::Error),
}

impl Ending<'_> {
    fn backend(&self) -> Arc<Socket> {
        Arc::clone(&self.backend.lock())
    }

    /// The socket to another node, if the node's side has ended and another node has taken its place. A tunnel that
    /// ends because its node is lost to the health checks may still find one.
    fn take_over(&self, copied: &Result<(), Broken>, down: &mut Watch, take_over: TakeOver<'_>) -> Option<Arc<Socket>> {
        let is_ended = || !matches!(self.close_code.load(SeqCst), 0 | SERVICE_RESTART);
        let is_over = || self.broken.load(SeqCst) || self.first.get().is_some() || is_ended();
        let is_lost = !matches!(copied, Err(Broken::Sink(_))) && !is_over();
        let session = down.session_to_take_over().filter(|_| is_lost)?;
        match take_over(&session, down, &is_over) {
            Some(backend) => {
                *self.backend.lock() = Arc::clone(&backend);
                let _ = self.close_code.compare_exchange(SERVICE_RESTART, 0, SeqCst, SeqCst);
                // What has ended the tunnel meanwhile may have met the old socket.
                if is_over() {
                    let _ = backend.shutdown(Shutdown::Read);
                }
                Some(backend)
            }
            None if session.client_left() => {
                let _ = self.first.set(End::ClientClosed);
                None
            }
            None if is_over() => None,
            None => {
                let _ = self.close_code.compare_exchange(0, SERVICE_RESTART, SeqCst, SeqCst);
                None
            }
        }
    }

    fn note(&self, copied: Result<(), Broken>, direction: &Direction) {
        match copied {
            // The other direction failed and woke this one. The peer has not ended its side: nothing is passed on.
            Ok(()) if self.broken.load(SeqCst) => {}
            // When lavaproxy ends the tunnel, an error of a peer does not count.
            _ if self.close_code.load(SeqCst) != 0 => self.close(direction),
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
            true => self.client.shutdown(Shutdown::Write),
            false => self.backend().shutdown(Shutdown::Write),
        };
    }

    /// True when the source has no peer any more and no direction had ended properly before. A half-closed connection
    /// still has its peer.
    fn was_reset(&self, direction: &Direction) -> bool {
        let gone = match direction.to_client {
            true => self.backend().peer_addr().is_err(),
            false => self.client.peer_addr().is_err(),
        };
        gone && !matches!(self.first.get(), Some(End::ClientClosed | End::BackendClosed))
    }

    fn note_broken(&self, end: End) {
        let _ = self.first.set(end);
        self.broken.store(true, SeqCst);
        // Wakes the other direction's read and sends nothing: the close of the sockets sends the reset.
        let _ = self.client.shutdown(Shutdown::Read);
        let _ = self.backend().shutdown(Shutdown::Read);
    }
}

/// Ends the tunnel if its thread panics, so that the other thread does not wait for ever.
struct Wake<'e, 't>(&'e Ending<'t>);

impl Drop for Wake<'_, '_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.note_broken(End::InternalError);
        }
    }
}

/// Writes `known`, then copies until the end of the stream, or until a move is due. `watch` gets what was read and returns what is written;
/// `passed` gets what was written.
fn copy(
    mut source: impl Read,
    mut sink: impl Write,
    known: &[u8],
    watch: &mut Watch,
    mut passed: impl FnMut(&[u8]),
) -> Result<(), Broken> {
    let mut write = |bytes: &[u8]| -> Result<(), Broken> {
        sink.write_all(bytes).map_err(Broken::Sink)?;
        passed(bytes);
        Ok(())
    };
    if !known.is_empty() {
        write(watch.pass(known))?;
    }
    let mut small = [0; SMALL];
    let mut large = Vec::new();
    let mut calm = 0;
    loop {
        let buffer = if large.is_empty() { &mut small[..] } else { &mut large[..] };
        let count = match source.read(buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(Broken::Source(error)),
        };
        write(watch.pass(&buffer[..count]))?;
        if watch.is_due() {
            return Ok(());
        }
        calm = if count < SMALL { calm + 1 } else { 0 };
        if large.is_empty() && count == SMALL {
            large = vec![0; LARGE];
        } else if calm >= CALM && !large.is_empty() {
            large = Vec::new();
        }
    }
}

/// Writes what `watch` has held back, at the end of the stream.
fn finish(mut sink: impl Write, watch: &mut Watch, mut passed: impl FnMut(&[u8])) -> Result<(), Broken> {
    let held = watch.finish();
    sink.write_all(held).map_err(Broken::Sink)?;
    passed(held);
    Ok(())
}

/// Removes the deadlines from a client's socket: a bot may be silent for any time.
///
/// # Errors
/// When the socket is dead.
pub fn without_deadlines(client: &TcpStream) -> io::Result<()> {
    let client = SockRef::from(client);
    client.set_read_timeout(None)?;
    client.set_write_timeout(None)
}
