//! A bot's side of HTTP and WebSocket, as plain as bots are. It opens connections to the address it is given.

use std::io::{self, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::frames::{self, Broken, Heard, Reader};
use crate::http::body::Body;
use crate::http::buffer::Buffer;
use crate::http::head::{Response, Scan, Slots};

/// How long a bot waits for a connection, and for the next bytes of an answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// The largest answer a bot reads, in bytes.
const MAX_ANSWER: u64 = 1 << 20;
const WINDOW: usize = 16 * 1024;

/// A connection that carries requests until it turns into a WebSocket.
pub(super) struct Http {
    stream: TcpStream,
    buffer: Buffer,
}

/// What came back.
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) body: Vec<u8>,
    /// The server takes another request.
    pub(super) keep_alive: bool,
}

impl Http {
    pub(super) fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { stream, buffer: Buffer::default() })
    }

    /// Sends a request as it stands and reads the answer.
    pub(super) fn call(&mut self, request: &[u8]) -> io::Result<Reply> {
        self.stream.write_all(request)?;
        let to_head = request.starts_with(b"HEAD ");
        loop {
            let head = self.read_head()?;
            let mut slots = Slots::new();
            let response = Response::parse(&head, &mut slots, to_head).map_err(invalid)?;
            if response.is_interim() && response.status != 101 {
                continue;
            }
            let body = Body::new(response.framing, MAX_ANSWER).map_err(invalid)?;
            let (status, keep_alive) = (response.status, response.keep_alive);
            return Ok(Reply { status, body: self.read_body(body.unchunked())?, keep_alive });
        }
    }

    fn read_head(&mut self) -> io::Result<Vec<u8>> {
        let mut scan = Scan::default();
        loop {
            if let Some(length) = scan.advance(self.buffer.data()).map_err(invalid)? {
                let head = self.buffer.data()[..length].to_vec();
                self.buffer.consume(length);
                return Ok(head);
            }
            if self.buffer.holds(WINDOW) {
                return Err(io::ErrorKind::InvalidData.into());
            }
            if self.buffer.fill(&mut self.stream, WINDOW)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    fn read_body(&mut self, mut body: Body) -> io::Result<Vec<u8>> {
        let mut content = Vec::new();
        loop {
            let step = body.step(self.buffer.data_mut()).map_err(invalid)?;
            content.extend_from_slice(&self.buffer.data()[..step.produced]);
            self.buffer.consume(step.consumed);
            if body.is_done() {
                return Ok(content);
            }
            if self.buffer.fill(&mut self.stream, WINDOW)? == 0 {
                return if body.may_end_here() { Ok(content) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
            }
        }
    }

    /// The WebSocket that follows a 101.
    pub(super) fn into_socket(self) -> Socket {
        Socket { stream: self.stream, reader: Reader::new(self.buffer, false) }
    }
}

/// The client's end of a WebSocket.
pub(super) struct Socket {
    stream: TcpStream,
    reader: Reader,
}

impl Socket {
    /// The next message, or `None` when none came within `limit`, which is not zero.
    pub(super) fn hear(&mut self, limit: Duration) -> io::Result<Option<Heard>> {
        self.stream.set_read_timeout(Some(limit))?;
        match self.reader.next(&mut self.stream) {
            Ok(heard) => Ok(Some(heard)),
            Err(Broken::Stream(error)) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(Broken::Stream(error)) => Err(error),
            Err(Broken::Fault(code, why)) => Err(io::Error::other(format!("a faulty frame: {code} {why}"))),
        }
    }

    pub(super) fn say(&mut self, opcode: u8, payload: &[u8]) -> io::Result<()> {
        self.stream.write_all(&frames::frame(opcode, payload, true))
    }
}

fn invalid(why: impl std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.to_string())
}
