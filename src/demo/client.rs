//! A bot's side of HTTP and WebSocket, kept simple. It opens connections to the address it is given.

use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use socket2::{Domain, Type};

use super::frames::{self, Broken, Incoming, Reader};
use crate::http::peer::{Peer, Reply};

/// How long a bot waits for a connection, and for the next bytes of an answer.
const TIMEOUT: Duration = Duration::from_secs(2);
/// The largest answer a bot reads, in bytes.
const MAX_ANSWER: u64 = 1 << 20;

/// A connection that carries requests until it turns into a WebSocket.
pub(super) struct Http(Peer<TcpStream>);

impl Http {
    /// Connects from `source` where this machine has that address, else from its default one. macOS has only
    /// 127.0.0.1 of the loopback network.
    pub(super) fn connect(address: SocketAddr, source: Option<Ipv4Addr>) -> io::Result<Self> {
        let socket = socket2::Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        if let Some(source) = source.filter(|_| address.is_ipv4()) {
            if let Err(error) = socket.bind(&SocketAddr::from((source, 0)).into()) {
                log::debug!("a pretend bot cannot connect from {source}: {error}");
            }
        }
        socket.connect_timeout(&address.into(), TIMEOUT)?;
        let stream = TcpStream::from(socket);
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        Ok(Self(Peer::new(stream)))
    }

    /// Sends a request as it stands and reads the answer.
    pub(super) fn call(&mut self, request: &[u8]) -> io::Result<Reply> {
        self.0.ask(request, MAX_ANSWER, |_| Ok(()))
    }

    /// The WebSocket that follows a 101.
    pub(super) fn into_socket(self) -> Socket {
        let (stream, buffer) = self.0.into_parts();
        Socket { stream, reader: Reader::new(buffer, false) }
    }
}

/// The client's end of a WebSocket.
pub(super) struct Socket {
    stream: TcpStream,
    reader: Reader,
}

impl Socket {
    /// The next message, or `None` when none came within `limit`, which is not zero.
    pub(super) fn receive(&mut self, limit: Duration) -> io::Result<Option<Incoming>> {
        self.stream.set_read_timeout(Some(limit))?;
        match self.reader.next(&mut self.stream) {
            Ok(message) => Ok(Some(message)),
            Err(Broken::Stream(error)) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(Broken::Stream(error)) => Err(error),
            Err(Broken::Fault(code, why)) => Err(io::Error::other(format!("a faulty frame: {code} {why}"))),
        }
    }

    pub(super) fn send(&mut self, opcode: u8, payload: &[u8]) -> io::Result<()> {
        self.stream.write_all(&frames::frame(opcode, payload, true))
    }
}
