//! A client's socket. Counts its bytes, sets its deadlines, and closes it so that the last answer still arrives.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use socket2::SockRef;

use crate::error::{End, is_timeout};
use crate::ledger::{Meter, Metered};
use crate::nodes::backend;

/// The longest wait for the client to end its side when much of a node's answer may still be on its way,
pub const LINGER: Duration = Duration::from_secs(30);
/// and when only answers of our own were sent, or lavaproxy is stopping.
pub const SHORT_LINGER: Duration = Duration::from_secs(2);

/// The most bytes that are read from a client after its last answer.
const MAX_LINGER_BYTES: usize = 16 * 1024 * 1024;

/// The socket of one client.
pub struct Client<'s> {
    stream: &'s TcpStream,
    metered: Metered<'s, &'s TcpStream>,
    read_timeout: Option<Duration>,
    /// True when the client has ended its side, or the connection has failed.
    has_ended: bool,
}

impl<'s> Client<'s> {
    /// A client whose bytes `meter` counts.
    pub fn new(stream: &'s TcpStream, meter: &'s Meter) -> Self {
        Self { stream, metered: Metered::new(stream, meter), read_timeout: None, has_ended: false }
    }

    /// The socket itself, for the tunnel.
    pub fn stream(&self) -> &'s TcpStream {
        self.stream
    }

    /// Sets how long one read may wait. Makes a system call only when the time changes.
    ///
    /// # Errors
    /// When the socket is dead.
    pub fn set_read_timeout(&mut self, time: Duration) -> io::Result<()> {
        if self.read_timeout != Some(time) {
            self.stream.set_read_timeout(Some(time))?;
            self.read_timeout = Some(time);
        }
        Ok(())
    }

    /// Makes the next read wait for `left`, the rest of a longer time.
    ///
    /// # Errors
    /// `TimedOut` when nothing is left.
    pub fn set_time_left(&mut self, left: Duration) -> io::Result<()> {
        if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { self.set_read_timeout(left) }
    }

    /// Makes reads and writes return at once.
    pub fn set_impatient(&self) {
        // An error means that the socket is dead. Then they return at once as well.
        let _ = self.stream.set_nonblocking(true);
    }

    /// Waits for bytes or for the end of the stream. True when neither arrives within `time`.
    pub fn is_silent_for(&mut self, time: Duration) -> bool {
        self.set_read_timeout(time).is_ok() && matches!(self.stream.peek(&mut [0]), Err(error) if is_timeout(&error))
    }

    /// How the client has ended its side. `None` also while bytes of it are unread.
    pub fn end(&self) -> Option<End> {
        match backend::peek(&SockRef::from(self.stream)) {
            Ok(0) => Some(End::ClientClosed),
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Some(End::of_client(&error)),
            _ => None,
        }
    }

    /// Ends our side, then reads until the client ends its side, for `time` and [`MAX_LINGER_BYTES`] at most. Closing a
    /// socket with unread bytes sends a reset, and a reset destroys what the client has not received yet (RFC 9112
    /// section 9.6). Every connection that got an answer ends here.
    pub fn linger(&mut self, time: Duration) {
        let deadline = Instant::now() + time;
        let mut sink = [0; 4096];
        let mut left = MAX_LINGER_BYTES;
        if self.has_ended || self.stream.shutdown(Shutdown::Write).is_err() {
            return;
        }
        while left > 0 && !self.has_ended {
            if self.set_time_left(deadline.saturating_duration_since(Instant::now())).is_err() {
                return;
            }
            match self.read(&mut sink) {
                Ok(count) => left = left.saturating_sub(count),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    }

    /// Makes the close of this socket a reset, which shows the client that its answer is incomplete.
    pub fn reset(&mut self) {
        backend::close_with_reset(self.stream);
        self.has_ended = true;
    }
}

impl Read for Client<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.metered.read(buffer);
        self.has_ended |= match &read {
            Ok(count) => *count == 0 && !buffer.is_empty(),
            Err(error) => !is_timeout(error) && error.kind() != io::ErrorKind::Interrupted,
        };
        read
    }
}

impl Write for Client<'_> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let written = self.metered.write(buffer);
        self.has_ended |= matches!(&written, Err(error) if error.kind() != io::ErrorKind::Interrupted);
        written
    }

    fn flush(&mut self) -> io::Result<()> {
        self.metered.flush()
    }
}
