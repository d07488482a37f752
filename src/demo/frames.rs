//! WebSocket frames (RFC 6455 section 5), for both ends. It reads from whatever is `Read` and writes nothing itself.

use std::io::{self, Read};

use crate::http::buffer::Buffer;

/// Opcodes of RFC 6455 section 11.8.
pub(super) const TEXT: u8 = 1;
pub(super) const BINARY: u8 = 2;
pub(super) const CLOSE: u8 = 8;
pub(super) const PING: u8 = 9;
pub(super) const PONG: u8 = 10;

const CONTINUATION: u8 = 0;
const MAX_CONTROL: u64 = 125;
/// The largest message that is read, in bytes; Lavalink was seen to take 2 MiB.
const MAX_MESSAGE: u64 = 16 << 20;
const WINDOW: usize = 4096;

/// A message or control frame from the peer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Incoming {
    Text(String),
    Binary,
    Ping(Vec<u8>),
    Pong,
    /// With the payload as it came: nothing, or a code and a reason.
    Close(Vec<u8>),
}

/// Why nothing more can be read.
#[derive(Debug)]
pub(super) enum Broken {
    /// The peer's fault: the close code and the reason that Undertow gives.
    Fault(u16, String),
    /// The stream ended or failed; `WouldBlock` only means that nothing came in time.
    Stream(io::Error),
}

/// One frame with its payload as it goes out; a client's is masked, with the mask 0 that RFC 6455 allows in tests.
pub(super) fn frame(opcode: u8, payload: &[u8], masked: bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(payload.len() + 14);
    let mask_bit = if masked { 0x80 } else { 0 };
    out.push(0x80 | opcode);
    match payload.len() {
        length @ 0..=125 => out.push(mask_bit | length as u8),
        length @ 126..=0xffff => {
            out.push(mask_bit | 126);
            out.extend((length as u16).to_be_bytes());
        }
        length => {
            out.push(mask_bit | 127);
            out.extend((length as u64).to_be_bytes());
        }
    }
    if masked {
        out.extend([0; 4]);
    }
    out.extend(payload);
    out
}

/// A close frame's payload (RFC 6455 section 5.5.1).
pub(super) fn closing(code: u16, reason: &str) -> Vec<u8> {
    [code.to_be_bytes().as_slice(), reason.as_bytes()].concat()
}

/// Reads messages; a read that timed out can be taken up again where it stopped.
pub(super) struct Reader {
    buffer: Buffer,
    /// The peer must mask: it is a client.
    masked: bool,
    frame: Option<Frame>,
    payload: Vec<u8>,
    /// The opcode and the bytes of a message that comes in fragments.
    message: Option<(u8, Vec<u8>)>,
}

#[derive(Clone, Copy)]
struct Frame {
    last: bool,
    opcode: u8,
    length: usize,
    mask: [u8; 4],
}

impl Reader {
    /// `buffer` holds the bytes that came with the handshake.
    pub(super) fn new(buffer: Buffer, masked: bool) -> Self {
        Self { buffer, masked, frame: None, payload: Vec::new(), message: None }
    }

    /// The next message or control frame.
    pub(super) fn next(&mut self, stream: &mut impl Read) -> Result<Incoming, Broken> {
        loop {
            if self.frame.is_none() {
                self.frame = self.parse_header()?;
            }
            if let Some(frame) = self.frame {
                let data = self.buffer.data();
                let count = data.len().min(frame.length - self.payload.len());
                self.payload.extend_from_slice(&data[..count]);
                self.buffer.consume(count);
                if self.payload.len() == frame.length {
                    self.frame = None;
                    let mut payload = std::mem::take(&mut self.payload);
                    payload.iter_mut().zip(frame.mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
                    if let Some(message) = self.complete(frame, payload)? {
                        return Ok(message);
                    }
                    continue;
                }
            }
            match self.buffer.fill(stream, WINDOW) {
                Ok(0) => return Err(Broken::Stream(io::ErrorKind::UnexpectedEof.into())),
                Ok(_) => {}
                Err(error) => return Err(Broken::Stream(error)),
            }
        }
    }

    fn parse_header(&mut self) -> Result<Option<Frame>, Broken> {
        let data = self.buffer.data();
        let &[first, second, ..] = data else { return Ok(None) };
        let (opcode, reserved) = (first & 0x0f, first >> 4 & 7);
        if reserved != 0 {
            return Err(fault(1002, format!("UT002015: Extensions not allowed but received rsv of {reserved}")));
        }
        if !matches!(opcode, CONTINUATION | TEXT | BINARY | CLOSE | PING | PONG) {
            return Err(fault(1002, format!("UT002009: Unexpected WebSocket frame opcode {opcode}")));
        }
        if self.masked && second & 0x80 == 0 {
            return Err(fault(1002, "UT002034: Web socket frame was not masked"));
        }
        let (length, mut at) = match second & 0x7f {
            126 => (data.get(2..4).map(|bytes| bytes.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte))), 4),
            127 => (data.get(2..10).map(|bytes| bytes.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte))), 10),
            short => (Some(u64::from(short)), 2),
        };
        let Some(length) = length else { return Ok(None) };
        let last = first & 0x80 != 0;
        if opcode >= CLOSE && length > MAX_CONTROL {
            let why = format!("UT002006: Invalid payload for PING (payload length must be <= 125, was {length})");
            return Err(fault(1002, why));
        }
        if opcode >= CLOSE && !last {
            return Err(fault(1002, "UT002016: Received fragmented control frame"));
        }
        let before = self.message.as_ref().map_or(0, |(_, bytes)| bytes.len() as u64);
        let length = match usize::try_from(length) {
            Ok(fits) if length.saturating_add(before) <= MAX_MESSAGE => fits,
            _ => return Err(fault(1009, "UT002052: message too large")),
        };
        let mut mask = [0; 4];
        if second & 0x80 != 0 {
            let Some(bytes) = data.get(at..at + 4) else { return Ok(None) };
            mask.copy_from_slice(bytes);
            at += 4;
        }
        self.buffer.consume(at);
        Ok(Some(Frame { last, opcode, length, mask }))
    }

    /// What a complete frame means; `None` while a message goes on.
    fn complete(&mut self, frame: Frame, payload: Vec<u8>) -> Result<Option<Incoming>, Broken> {
        match frame.opcode {
            PING => return Ok(Some(Incoming::Ping(payload))),
            PONG => return Ok(Some(Incoming::Pong)),
            CLOSE => return Ok(Some(Incoming::Close(payload))),
            _ => {}
        }
        let (opcode, message) = match (self.message.take(), frame.opcode) {
            (Some((opcode, mut message)), CONTINUATION) => {
                message.extend(payload);
                (opcode, message)
            }
            (None, opcode @ (TEXT | BINARY)) => (opcode, payload),
            _ => return Err(fault(1002, "UT002018: Received a continuation frame out of order")),
        };
        if !frame.last {
            self.message = Some((opcode, message));
            return Ok(None);
        }
        if opcode == BINARY {
            return Ok(Some(Incoming::Binary));
        }
        match String::from_utf8(message) {
            Ok(text) => Ok(Some(Incoming::Text(text))),
            Err(_) => Err(fault(1007, "UT002003: Text frame contains non UTF-8 data")),
        }
    }
}

fn fault(code: u16, reason: impl Into<String>) -> Broken {
    Broken::Fault(code, reason.into())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn read(mut bytes: &[u8]) -> Result<Incoming, Broken> {
        Reader::new(Buffer::default(), true).next(&mut bytes)
    }

    fn code(bytes: &[u8]) -> u16 {
        match read(bytes) {
            Err(Broken::Fault(code, _)) => code,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn reads_the_examples_of_the_rfc() {
        // RFC 6455 section 5.7.
        let hello = b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58";
        assert_eq!(read(hello).unwrap(), Incoming::Text("Hello".to_owned()));
        let mut fragments: &[u8] = b"\x01\x03Hel\x80\x02lo";
        let mut reader = Reader::new(Buffer::default(), false);
        assert_eq!(reader.next(&mut fragments).unwrap(), Incoming::Text("Hello".to_owned()));
        assert_eq!(frame(TEXT, b"Hello", false), b"\x81\x05Hello");
    }

    #[test]
    fn long_messages_come_back_as_they_went() {
        for length in [125, 126, 65_535, 65_536, 2 << 20] {
            let text = "x".repeat(length);
            assert_eq!(read(&frame(TEXT, text.as_bytes(), true)).unwrap(), Incoming::Text(text));
        }
    }

    #[test]
    fn faults_have_undertows_codes() {
        assert_eq!(code(&frame(PING, &[0; 126], true)), 1002);
        assert_eq!(code(&frame(TEXT, b"{}", false)), 1002);
        assert_eq!(code(b"\xc1\x80\0\0\0\0"), 1002);
        assert_eq!(code(b"\x83\x80\0\0\0\0"), 1002);
        assert_eq!(code(b"\x09\x80\0\0\0\0"), 1002);
        assert_eq!(code(b"\x80\x80\0\0\0\0"), 1002);
        assert_eq!(code(b"\x81\x82\0\0\0\0\xff\xff"), 1007);
        assert_eq!(code(b"\x81\xff\x7f\xff\xff\xff\xff\xff\xff\xff\0\0\0\0"), 1009);
    }
}
