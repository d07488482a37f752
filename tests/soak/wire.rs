//! One end of a connection: reads heads and checked streams, counts what its socket took and gave.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use crate::random::Pattern;
use crate::support::{find, reset};

/// Longer than anything waits here on a busy machine; reaching it is a failure.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Why something was not to be had.
#[derive(Debug)]
pub enum Trouble {
    /// The connection ended or broke.
    Broken(io::Error),
    /// Something came that must not come: a finding.
    Wrong(String),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => Self::wrong("nothing moved until the patience ended"),
            _ => Self::Broken(error),
        }
    }
}

impl Trouble {
    pub fn wrong(what: impl Into<String>) -> Self {
        Self::Wrong(what.into())
    }
}

/// What can fail for either reason.
pub type Tried<T> = Result<T, Trouble>;

pub struct Wire {
    pub stream: Arc<TcpStream>,
    pub sent: u64,
    pub received: u64,
    pending: Vec<u8>,
}

impl Wire {
    pub fn over(stream: Arc<TcpStream>) -> io::Result<Self> {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, sent: 0, received: 0, pending: Vec::new() })
    }

    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        send(&self.stream, bytes, &mut self.sent)
    }

    /// One read; 0 is the end of the stream.
    fn fill(&mut self) -> io::Result<usize> {
        let mut piece = [0; 16 * 1024];
        let count = (&*self.stream).read(&mut piece)?;
        self.received += count as u64;
        self.pending.extend_from_slice(&piece[..count]);
        Ok(count)
    }

    fn fill_some(&mut self) -> io::Result<()> {
        if self.fill()? == 0 { Err(ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
    }

    /// Everything up to an empty line; `None` at the end of the stream.
    pub fn head(&mut self) -> io::Result<Option<String>> {
        loop {
            if let Some(at) = find(&self.pending, b"\r\n\r\n") {
                let head = self.pending.drain(..at + 4).collect();
                return String::from_utf8(head).map(Some).map_err(|_| ErrorKind::InvalidData.into());
            }
            if self.fill()? == 0 {
                return if self.pending.is_empty() { Ok(None) } else { Err(ErrorKind::UnexpectedEof.into()) };
            }
        }
    }

    pub fn line(&mut self) -> io::Result<String> {
        loop {
            if let Some(at) = find(&self.pending, b"\r\n") {
                let line = self.pending.drain(..at + 2).take(at).collect();
                return String::from_utf8(line).map_err(|_| ErrorKind::InvalidData.into());
            }
            self.fill_some()?;
        }
    }

    pub fn exactly(&mut self, count: usize) -> io::Result<Vec<u8>> {
        while self.pending.len() < count {
            self.fill_some()?;
        }
        Ok(self.pending.drain(..count).collect())
    }

    /// The payload of a text frame as servers send it.
    pub fn text_frame(&mut self) -> Tried<Vec<u8>> {
        match self.frame()? {
            (0x81, payload) => Ok(payload),
            (first, _) => Err(Trouble::wrong(format!("{first:#x} begins no text frame"))),
        }
    }

    /// The body that this head announces.
    pub fn body(&mut self, head: &str) -> Tried<Vec<u8>> {
        if value(head, "transfer-encoding") != Some("chunked") {
            let length = value(head, "content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
            return Ok(self.exactly(length)?);
        }
        let mut body = Vec::new();
        loop {
            let line = self.line()?;
            let size = usize::from_str_radix(&line, 16).map_err(|_| Trouble::wrong(format!("chunk line {line:?}")))?;
            body.extend(self.exactly(size)?);
            self.line()?;
            if size == 0 {
                return Ok(body);
            }
        }
    }

    /// The next frame as servers send it: its first byte and its payload.
    pub fn frame(&mut self) -> Tried<(u8, Vec<u8>)> {
        let head = self.exactly(2)?;
        let length = match head[1] {
            length @ ..=125 => usize::from(length),
            126 => self.exactly(2)?.into_iter().fold(0, |length, byte| length << 8 | usize::from(byte)),
            _ => return Err(Trouble::wrong(format!("{head:?} begins a frame that no node sends"))),
        };
        Ok((head[0], self.exactly(length)?))
    }

    /// What has come and was not looked at.
    pub fn take_pending(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.pending)
    }

    /// Reads `count` bytes that must be the pattern's next ones; all that came is checked, also when more never does.
    pub fn expect(&mut self, pattern: &mut Pattern, count: u64) -> Tried<()> {
        let mut left = count;
        while left > 0 {
            if self.pending.is_empty() {
                self.fill_some()?;
            }
            let here = self.pending.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            pattern.check(&self.pending[..here]).map_err(Trouble::Wrong)?;
            self.pending.drain(..here);
            left -= here as u64;
        }
        Ok(())
    }

    /// Reads the pattern's next bytes up to the end of the stream.
    pub fn expect_all(&mut self, pattern: &mut Pattern) -> Tried<()> {
        loop {
            pattern.check(&self.pending).map_err(Trouble::Wrong)?;
            self.pending.clear();
            if self.fill()? == 0 {
                return Ok(());
            }
        }
    }

    /// True when the stream ends properly and nothing comes before that.
    pub fn is_at_end(&mut self) -> io::Result<bool> {
        Ok(self.pending.is_empty() && self.fill()? == 0)
    }

    /// Reads and forgets all up to the end of the stream.
    pub fn read_out(&mut self) -> io::Result<()> {
        self.pending.clear();
        while self.fill()? > 0 {
            self.pending.clear();
        }
        Ok(())
    }

    pub fn half_close(&self) -> io::Result<()> {
        self.stream.shutdown(Shutdown::Write)
    }

    /// Makes the coming close a reset.
    pub fn will_reset(&self) {
        reset(&self.stream);
    }
}

/// Sends all and counts what was taken, also when the rest was not.
pub fn send(mut stream: &TcpStream, mut bytes: &[u8], sent: &mut u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match stream.write(bytes) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(count) => {
                *sent += count as u64;
                bytes = &bytes[count..];
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The value of a field, or of a key in a request's query.
pub fn value<'h>(head: &'h str, name: &str) -> Option<&'h str> {
    head.lines().skip(1).find_map(|line| {
        let (key, value) = line.split_once(':')?;
        key.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

pub fn parameter<'h>(head: &'h str, key: &str) -> Option<&'h str> {
    let (_, query) = head.split(' ').nth(1)?.split_once('?')?;
    query.split('&').find_map(|pair| pair.strip_prefix(key)?.strip_prefix('='))
}

pub fn number(head: &str, key: &str) -> u64 {
    parameter(head, key).and_then(|text| text.parse().ok()).unwrap_or(0)
}
