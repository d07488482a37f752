//! The client's end of a tunnel while there is no node: what the client is sent, and what it must still get an answer to.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Write};
use std::net::{Shutdown, TcpStream};

use parking_lot::Mutex;
use socket2::SockRef;

use super::frame::{CLOSE, PONG};
use crate::ledger::{Meter, Metered};

/// The most pings that are remembered. Only the last one must be answered (RFC 6455 section 5.5.3).
const MAX_PINGS: usize = 16;
/// The most bytes that wait for a client that does not read.
const MAX_OWED: usize = 64 * 1024;
/// A whole frame.
const FIN: u8 = 0x80;

/// The client's socket.
#[derive(Clone, Copy)]
pub struct ClientSide<'t> {
    /// The socket.
    pub stream: &'t TcpStream,
    /// Where its bytes are counted.
    pub meter: &'t Meter,
}

impl ClientSide<'_> {
    /// Sends all of these bytes, however slowly the client reads.
    ///
    /// # Errors
    /// When the client is gone.
    pub(super) fn write_all(self, bytes: &[u8]) -> io::Result<()> {
        Metered::new(self.stream, self.meter).write_all(bytes)
    }

    /// Ends both sides of the connection. What was sent still arrives.
    pub(super) fn close(self) {
        // An error means that the client is gone.
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}

/// Writes what the socket takes at once.
struct Eager<'t>(&'t TcpStream);

impl Write for Eager<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        SockRef::from(self.0).send_with_flags(bytes, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What the client is owed. Both threads of a tunnel write to the client through it while there is no node, so that no
/// frame ends up within another.
#[derive(Default)]
pub(super) struct Debt(Mutex<Owed>);

#[derive(Default)]
struct Owed {
    bytes: Vec<u8>,
    /// Pings that are not answered.
    pings: VecDeque<Box<[u8]>>,
    /// The payload of the client's close frame.
    close: Option<Box<[u8]>>,
}

impl Debt {
    /// The client has sent a ping.
    pub(super) fn note_ping(&self, payload: &[u8]) {
        let mut owed = self.0.lock();
        if owed.pings.len() == MAX_PINGS {
            owed.pings.pop_front();
        }
        owed.pings.push_back(payload.into());
    }

    /// The node has answered a ping, and those before it.
    pub(super) fn note_pong(&self, payload: &[u8]) {
        let mut owed = self.0.lock();
        if let Some(at) = owed.pings.iter().position(|ping| **ping == *payload) {
            owed.pings.drain(..=at);
        }
    }

    /// The client has sent its close frame.
    pub(super) fn note_close(&self, payload: &[u8]) {
        self.0.lock().close = Some(payload.into());
    }

    /// Sends these bytes, as far as the client takes them at once. The rest waits.
    pub(super) fn add(&self, bytes: &[u8], client: ClientSide<'_>) {
        let mut owed = self.0.lock();
        owed.bytes.extend_from_slice(bytes);
        owed.send(client);
    }

    /// True when the client reads so slowly that it is sent nothing more for now.
    pub(super) fn is_too_large(&self, client: ClientSide<'_>) -> bool {
        let mut owed = self.0.lock();
        owed.send(client);
        owed.bytes.len() > MAX_OWED
    }

    /// Answers pings and the close frame, if `may` allows it: it is called under the lock.
    pub(super) fn answer(&self, client: ClientSide<'_>, may: impl FnOnce() -> bool) -> bool {
        let mut owed = self.0.lock();
        if !may() {
            return false;
        }
        let Owed { bytes, pings, close } = &mut *owed;
        let pongs = pings.drain(..).map(|payload| (PONG, payload));
        for (opcode, payload) in pongs.chain(close.take().map(|payload| (CLOSE, payload))) {
            // A control frame has at most 125 bytes.
            bytes.extend_from_slice(&[FIN | opcode, payload.len() as u8]);
            bytes.extend_from_slice(&payload);
        }
        owed.send(client);
        true
    }

    /// Returns what still waits. `then` is called under the lock.
    pub(super) fn take(&self, then: impl FnOnce()) -> Vec<u8> {
        let mut owed = self.0.lock();
        then();
        std::mem::take(&mut owed.bytes)
    }
}

impl Owed {
    fn send(&mut self, client: ClientSide<'_>) {
        while !self.bytes.is_empty() {
            match Metered::new(Eager(client.stream), client.meter).write(&self.bytes) {
                Ok(count) => drop(self.bytes.drain(..count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                // It is gone, which the thread that reads it finds out: nothing must keep that thread here.
                Err(_) => self.bytes.clear(),
            }
        }
    }
}
