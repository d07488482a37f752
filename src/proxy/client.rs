//! A client's socket as the corridor sees it: counted, with a deadline, and closed so that answers arrive.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use crate::error::is_timeout;
use crate::ledger::{Meter, Metered};

/// How long, and for how many bytes, a client is waited for that still sends while its answer is under way.
const LINGER: Duration = Duration::from_secs(2);
const MAX_LINGER_BYTES: usize = 16 * 1024 * 1024;

/// One client's connection, borrowed for as long as its session lasts.
pub struct Client<'s> {
    stream: &'s TcpStream,
    metered: Metered<'s, &'s TcpStream>,
    read_timeout: Option<Duration>,
}

impl<'s> Client<'s> {
    /// Counts on `meter`. The socket's deadline for reads is taken as unknown.
    pub fn new(stream: &'s TcpStream, meter: &'s Meter) -> Self {
        Self { stream, metered: Metered::new(stream, meter), read_timeout: None }
    }

    /// The socket itself, for the tunnel.
    pub fn stream(&self) -> &'s TcpStream {
        self.stream
    }

    /// How long one read may wait; the system is asked only when that changes.
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

    /// Waits until something comes, the end of the stream included; true when nothing has within `time`.
    pub fn is_silent_for(&mut self, time: Duration) -> bool {
        self.set_read_timeout(time).is_ok() && matches!(self.stream.peek(&mut [0]), Err(error) if is_timeout(&error))
    }

    /// Ends our side, then reads what still comes, for a while: to close over unread bytes would be a reset, which
    /// can overtake the answer (RFC 9112 section 9.6). All failures mean that the client is gone, as it should be.
    pub fn close_gently(&mut self) {
        let deadline = Instant::now() + LINGER;
        let mut sink = [0; 4096];
        let mut left = MAX_LINGER_BYTES;
        if self.stream.shutdown(Shutdown::Write).is_err() {
            return;
        }
        while left > 0 {
            let time = deadline.saturating_duration_since(Instant::now());
            if time.is_zero() || self.set_read_timeout(time).is_err() {
                return;
            }
            match self.read(&mut sink) {
                Ok(0) | Err(_) => return,
                Ok(count) => left = left.saturating_sub(count),
            }
        }
    }
}

impl Read for Client<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.metered.read(buffer)
    }
}

impl Write for Client<'_> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.metered.write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.metered.flush()
    }
}
