//! One accepted socket: writes that give up when the node stops, silence while it hangs, a reset on demand.
//! It touches that socket only.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use socket2::SockRef;

use super::behaviour::Behaviour;

/// How long one `send` system call may block before it looks whether the node stops.
const WRITE_TICK: Duration = Duration::from_millis(100);
/// How long a peer may take nothing before its connection is given up.
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);

/// A connected socket that its own thread reads, and that any thread may write to or end.
pub(super) struct Wire {
    stream: TcpStream,
    behaviour: Arc<Behaviour>,
    /// The node stops: a write that would block is given up.
    ending: AtomicBool,
    /// Bytes that still arrive are not read.
    over: AtomicBool,
    is_reset: AtomicBool,
}

impl Wire {
    /// Takes over an accepted socket.
    pub(super) fn new(stream: TcpStream, behaviour: &Arc<Behaviour>) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(WRITE_TICK))?;
        let behaviour = Arc::clone(behaviour);
        Ok(Self {
            stream,
            behaviour,
            ending: AtomicBool::new(false),
            over: AtomicBool::new(false),
            is_reset: AtomicBool::new(false),
        })
    }

    /// Lets reads fail with `WouldBlock` after `limit`; `None` waits for ever.
    pub(super) fn set_read_timeout(&self, limit: Option<Duration>) -> io::Result<()> {
        self.stream.set_read_timeout(limit)
    }

    /// Writes all of `bytes`, however slowly the peer takes them. A node that hangs writes nothing.
    pub(super) fn send(&self, mut bytes: &[u8]) -> io::Result<()> {
        let mut progress = Instant::now();
        while !bytes.is_empty() {
            self.behaviour.wait_while_hanging(&self.ending);
            if self.over.load(Ordering::Relaxed) {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            match (&self.stream).write(bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    bytes = &bytes[count..];
                    progress = Instant::now();
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if self.ending.load(Ordering::Relaxed) || progress.elapsed() >= WRITE_TIMEOUT {
                        return Err(io::ErrorKind::TimedOut.into());
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Sends a FIN; what the peer still sends is read and thrown away for a moment, because closing with unread
    /// bytes would reset the connection and could take the last answer with it.
    pub(super) fn finish(&self) {
        const LINGER: Duration = Duration::from_millis(500);
        let until = Instant::now() + LINGER;
        if self.over.load(Ordering::Relaxed)
            || self.stream.shutdown(Shutdown::Write).is_err()
            || self.stream.set_read_timeout(Some(LINGER)).is_err()
        {
            return;
        }
        let mut rest = [0; 4096];
        while Instant::now() < until && matches!((&mut &*self).read(&mut rest), Ok(1..)) {}
    }

    /// From now on no write waits for a slow peer.
    pub(super) fn abandon_writes(&self) {
        self.ending.store(true, Ordering::Relaxed);
        self.behaviour.wake();
    }

    /// From now on nothing is read or written.
    pub(super) fn silence(&self) {
        self.over.store(true, Ordering::Relaxed);
        self.abandon_writes();
    }

    /// Ends both directions with a FIN, as a server that stops does; not after a reset.
    pub(super) fn end(&self) {
        self.silence();
        if self.is_reset.load(Ordering::Relaxed) {
            return;
        }
        // The peer may have gone first; then there is nothing to end.
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    /// Has the connection end in a reset as soon as its thread lets go of it.
    pub(super) fn reset(&self) {
        self.is_reset.store(true, Ordering::Relaxed);
        self.silence();
        // Both fail only when the connection is gone already. Shutting the read side down wakes the thread
        // without a byte on the wire; a FIN of the write side would look like a clean end.
        let _ = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
        let _ = self.stream.shutdown(Shutdown::Read);
    }
}

impl Read for &Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.over.load(Ordering::Relaxed) {
            return Ok(0);
        }
        let result = (&self.stream).read(buffer);
        self.behaviour.wait_while_hanging(&self.ending);
        if self.over.load(Ordering::Relaxed) { Ok(0) } else { result }
    }
}
