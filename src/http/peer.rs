//! A request and its whole response in memory, for health checks and the demo's bots.

use std::fmt::Display;
use std::io::{self, ErrorKind, Read, Write};

use super::body::Body;
use super::buffer::Buffer;
use super::head::{self, MAX_READ_HEAD, ReadError, Response, Slots};

/// The other end of a connection that carries one request after the other.
pub struct Peer<S> {
    stream: S,
    buffer: Buffer,
}

/// A response.
pub struct Reply {
    /// Three digits, from 200, or 101.
    pub status: u16,
    /// The content, without its framing.
    pub body: Vec<u8>,
    /// True when the peer takes another request.
    pub keep_alive: bool,
}

impl<S: Read + Write> Peer<S> {
    /// Wraps a new connection.
    pub fn new(stream: S) -> Self {
        Self { stream, buffer: Buffer::default() }
    }

    /// Sends these bytes as a request and reads its response, whose body may have up to `limit` bytes.
    /// `before_read` is called before each read, to set or check a deadline.
    ///
    /// # Errors
    /// `InvalidData` when the response breaks the protocol or the limit, `UnexpectedEof` when it breaks off, and
    /// what the stream or `before_read` reports.
    pub fn ask(
        &mut self,
        request: &[u8],
        limit: u64,
        mut before_read: impl FnMut(&mut S) -> io::Result<()>,
    ) -> io::Result<Reply> {
        self.stream.write_all(request)?;
        let to_head = request.starts_with(b"HEAD ");
        loop {
            let length =
                head::read(&mut self.stream, &mut self.buffer, |stream, _| before_read(stream)).map_err(|error| {
                    match error {
                        ReadError::Head(error) => invalid(error),
                        ReadError::Closed { .. } => ErrorKind::UnexpectedEof.into(),
                        ReadError::Io { error, .. } => error,
                    }
                })?;
            let mut slots = Slots::new();
            let response = Response::parse(&self.buffer.data()[..length], &mut slots, to_head).map_err(invalid)?;
            let (status, keep_alive, framing) = (response.status, response.keep_alive, response.framing);
            let is_interim = response.is_interim() && status != 101;
            self.buffer.consume(length);
            if !is_interim {
                let body = Body::new(framing, limit).map_err(invalid)?.of_response().unchunked();
                return Ok(Reply { status, body: self.read_body(body, before_read)?, keep_alive });
            }
        }
    }

    fn read_body(
        &mut self,
        mut body: Body,
        mut before_read: impl FnMut(&mut S) -> io::Result<()>,
    ) -> io::Result<Vec<u8>> {
        let mut content = Vec::new();
        loop {
            let step = body.step(self.buffer.data_mut()).map_err(invalid)?;
            content.extend_from_slice(&self.buffer.data()[..step.produced]);
            self.buffer.consume(step.consumed);
            if body.is_done() {
                return Ok(content);
            }
            before_read(&mut self.stream)?;
            if self.buffer.fill(&mut self.stream, MAX_READ_HEAD)? == 0 {
                return if body.may_end_here() { Ok(content) } else { Err(ErrorKind::UnexpectedEof.into()) };
            }
        }
    }

    /// The stream, and what was read from it behind the last response.
    pub fn into_parts(self) -> (S, Buffer) {
        (self.stream, self.buffer)
    }
}

fn invalid(why: impl Display) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, why.to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    struct Script(&'static [u8], Vec<u8>);

    impl Read for Script {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            // A network may deliver small pieces.
            let count = buffer.len().min(self.0.len()).min(7);
            (&self.0[..count]).read(buffer).inspect(|count| self.0 = &self.0[*count..])
        }
    }

    impl Write for Script {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.1.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn ask(answer: &'static [u8]) -> io::Result<(u16, String)> {
        let mut peer = Peer::new(Script(answer, Vec::new()));
        let reply = peer.ask(b"GET / HTTP/1.1\r\n\r\n", 8, |_| Ok(()))?;
        assert_eq!(peer.into_parts().0.1, b"GET / HTTP/1.1\r\n\r\n");
        Ok((reply.status, String::from_utf8(reply.body).unwrap()))
    }

    #[test]
    fn each_framing_is_read_and_interim_responses_are_skipped() {
        for (answer, expected) in [
            (&b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n3.7.1"[..], (200, "3.7.1")),
            (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 404 \r\nContent-Length: 0\r\n\r\n", (404, "")),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n02\r\n4.\r\n1\r\n2\r\n0\r\n\r\n", (200, "4.2")),
            (b"HTTP/1.0 200 OK\r\n\r\n4.0.8", (200, "4.0.8")),
        ] {
            let (status, body) = ask(answer).unwrap();
            assert_eq!((status, body.as_str()), expected);
        }
    }

    #[test]
    fn a_response_that_breaks_off_or_breaks_the_rules_is_an_error() {
        for (answer, expected) in [
            (&b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n3.7"[..], ErrorKind::UnexpectedEof),
            (b"HTTP/1.1 200", ErrorKind::UnexpectedEof),
            (b"", ErrorKind::UnexpectedEof),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n123456789", ErrorKind::InvalidData),
            (b"HTTP/1.0 200 OK\r\n\r\n123456789", ErrorKind::InvalidData),
            (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", ErrorKind::InvalidData),
        ] {
            assert_eq!(ask(answer).unwrap_err().kind(), expected);
        }
    }
}
