//! Conversations through lavaproxy, played at both ends in turn, with every byte that arrives at the node and at the
//! client.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::fmt;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::time::Duration;

use lavaproxy::config::Lavalink;

use crate::support::{PATIENCE, Proxy, find, reset};

/// What the node agrees to a handshake with.
pub const AGREED: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\n\
    Session-Resumed: false\r\nLavalink-Api-Version: 4\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// A lavaproxy before a node that is played by the test.
pub struct Setup {
    pub proxy: Proxy,
    pub node: TcpListener,
    pub version: Lavalink,
    /// What the client's session ids begin with.
    pub tag: &'static str,
}

/// A stream, and all that has come on it.
pub struct End {
    pub stream: TcpStream,
    bytes: Vec<u8>,
    /// How much of that was waited for.
    heard: usize,
    ended: Option<String>,
}

impl End {
    fn over(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Self { stream, bytes: Vec::new(), heard: 0, ended: None }
    }

    pub fn send(&mut self, bytes: &[u8]) -> &mut Self {
        self.stream.write_all(bytes).unwrap();
        self
    }

    /// Waits until these bytes come, behind what was waited for before.
    pub fn hear(&mut self, marker: &[u8]) -> &mut Self {
        loop {
            let at = if marker.is_empty() { Some(0) } else { find(&self.bytes[self.heard..], marker) };
            if let Some(at) = at {
                self.heard += at + marker.len();
                return self;
            }
            let came = self.bytes[self.heard..].escape_ascii().to_string();
            assert!(self.fill(), "{:?} instead of {}: {came}", self.ended, marker.escape_ascii());
        }
    }

    /// Reads to the end of the stream.
    pub fn hear_end(&mut self) -> &mut Self {
        while self.fill() {}
        assert_ne!(self.ended.as_deref(), Some("WouldBlock"), "no end after {}", self.bytes.escape_ascii());
        self
    }

    /// Takes what is there. Whether the stream has ended by now is chance, unless its end was waited for.
    fn take_rest(&mut self) {
        if self.ended.is_none() {
            self.stream.set_nonblocking(true).unwrap();
            while self.fill() {}
            self.ended = None;
        }
    }

    /// True when bytes came.
    fn fill(&mut self) -> bool {
        let mut piece = [0; 65536];
        match self.stream.read(&mut piece) {
            Ok(0) => self.ended = Some("end of stream".to_owned()),
            Ok(count) => self.bytes.extend_from_slice(&piece[..count]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => self.ended = Some(format!("{:?}", error.kind())),
        }
        self.ended.is_none()
    }

    pub fn half_close(&mut self) -> &mut Self {
        self.stream.shutdown(Shutdown::Write).unwrap();
        self
    }
}

/// What has come at one end of a connection.
#[derive(PartialEq, Eq)]
pub struct Recorded {
    who: String,
    pub bytes: Vec<u8>,
    ended: Option<String>,
}

impl fmt::Debug for Recorded {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}, {:?}: {}", self.who, self.ended, self.bytes.escape_ascii())
    }
}

/// One conversation: its connections at both ends, in the order in which they began.
pub struct Wire<'s> {
    pub setup: &'s Setup,
    recorded: Vec<Recorded>,
}

impl<'s> Wire<'s> {
    /// Plays a conversation, and returns what came.
    pub fn record(setup: &'s Setup, play: impl FnOnce(&mut Self)) -> Vec<Recorded> {
        let mut wire = Self { setup, recorded: Vec::new() };
        play(&mut wire);
        setup.proxy.wait_until_empty();
        wire.recorded
    }

    pub fn connect(&self) -> End {
        End::over(TcpStream::connect(self.setup.proxy.address()).unwrap())
    }

    /// The node's end of the next connection.
    pub fn accept(&self) -> End {
        let accepted = (0..PATIENCE.as_millis()).find_map(|_| match self.setup.node.accept() {
            Ok((stream, _)) => Some(stream),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                std::thread::sleep(Duration::from_millis(1));
                None
            }
            Err(error) => panic!("{error}"),
        });
        let stream = accepted.expect("the node gets no connection");
        stream.set_nonblocking(false).unwrap();
        End::over(stream)
    }

    /// Notes what has come at an end, and closes it.
    pub fn keep(&mut self, who: &str, mut end: End) {
        end.take_rest();
        let who = format!("{who} {}", self.recorded.len());
        self.recorded.push(Recorded { who, bytes: without_chance(end.bytes), ended: end.ended });
    }

    /// Closes an end with a reset, after what has come was noted.
    pub fn keep_and_reset(&mut self, who: &str, end: End) {
        reset(&end.stream);
        self.keep(who, end);
    }
}

/// Without what differs from one run to the next: when lavaproxy has answered by itself, and which process it is.
fn without_chance(mut bytes: Vec<u8>) -> Vec<u8> {
    for (marker, length) in [(&b"\"timestamp\":"[..], 13), (b"\r\nVia: 1.1 lavaproxy-", 16), (b"\r\nDate: ", 29)] {
        let mut from = 0;
        while let Some(at) = find(&bytes[from..], marker) {
            let start = from + at + marker.len();
            let end = bytes.len().min(start + length);
            bytes[start..end].fill(b'*');
            from = end;
        }
    }
    bytes
}
