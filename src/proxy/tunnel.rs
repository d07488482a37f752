//! The bytes of a tunnel after a 101, one direction in each of two threads.
//!
//! It touches only the client's socket and what it is given of the backend's. It takes no lock and allocates nothing per
//! read.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;

use socket2::SockRef;

use super::ending::{BACKEND_TO_CLIENT, Broken, CLIENT_TO_BACKEND, Ending};
use super::frames::{Frames, close_frame};
use crate::ledger::Metered;
use crate::sessions::client_side::ClientSide;

/// The size of the buffer for little traffic. It lies on the thread's stack.
const SMALL: usize = 4096;
/// The size of the buffer for much traffic. It lies on the heap and is freed after [`CALM`] small reads.
const LARGE: usize = 64 * 1024;
/// After this many small reads in a row the large buffer is freed.
const CALM: u32 = 16;

/// What the exchange hands to the tunnel when both sides have agreed to switch protocols.
pub struct Switch {
    /// The head of the 101, as the client gets it.
    pub answer: Vec<u8>,
    /// The bytes that the backend sent after its head. They come first of what is read from it.
    pub from_backend: Vec<u8>,
    /// The bytes that the client sent after its handshake.
    pub from_client: Vec<u8>,
}

/// Copies what the backend sends until it ends. A half-closed tunnel still delivers the other direction.
///
/// The answer is sent at once in a write of its own: some clients lose bytes that arrive together with it.
pub fn to_client(ending: &Ending, client: ClientSide<'_>, answer: &[u8], from_backend: impl Read) {
    let mut client = ToClient { stream: Metered::new(client.stream, client.meter), frames: Frames::default() };
    let answered = client.stream.write_all(answer).map_err(Broken::Sink);
    let copied = answered.and_then(|()| copy(from_backend, &mut client));
    match ending.close_code() {
        0 => {}
        code => client.send_close(&copied, code),
    }
    ending.note(copied, &BACKEND_TO_CLIENT);
}

/// Copies what the client sends until it ends, after what it has sent already.
pub fn to_backend(ending: &Ending, client: ClientSide<'_>, first: &[u8], mut to_backend: impl Write) {
    let begun = to_backend.write_all(first).map_err(Broken::Sink);
    ending.note(begun.and_then(|()| copy(Metered::new(client.stream, client.meter), to_backend)), &CLIENT_TO_BACKEND);
}

/// The stream to a client, whose frames are followed.
struct ToClient<'t> {
    stream: Metered<'t, &'t TcpStream>,
    frames: Frames,
}

impl Write for ToClient<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.stream.write(bytes)?;
        self.frames.pass(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

impl ToClient<'_> {
    /// Sends a close frame if the stream is between two frames.
    fn send_close(&mut self, copied: &Result<(), Broken>, code: u16) {
        if !matches!(copied, Err(Broken::Sink(_))) && self.frames.is_between_frames() {
            // An error means that the client is gone.
            let _ = self.stream.write_all(&close_frame(code));
        }
    }
}

/// Copies until the end of the stream.
fn copy(mut source: impl Read, mut sink: impl Write) -> Result<(), Broken> {
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
        sink.write_all(&buffer[..count]).map_err(Broken::Sink)?;
        calm = if count < SMALL { calm + 1 } else { 0 };
        if large.is_empty() && count == SMALL {
            large = vec![0; LARGE];
        } else if calm >= CALM && !large.is_empty() {
            large = Vec::new();
        }
    }
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
