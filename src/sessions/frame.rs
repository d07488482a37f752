//! The head of a WebSocket frame (RFC 6455 section 5.2). Pure.

pub(super) const CONTINUATION: u8 = 0;
pub(super) const TEXT: u8 = 1;
pub(super) const BINARY: u8 = 2;
/// The opcode of a close frame.
pub const CLOSE: u8 = 8;
pub(super) const PING: u8 = 9;
pub(super) const PONG: u8 = 10;

/// The longest head: two bytes, a 64-bit length and a masking key.
const MAX_HEAD: usize = 14;
/// The largest payload of a control frame.
pub(super) const MAX_CONTROL: u64 = 125;

const FIN: u8 = 0x80;
const RESERVED: u8 = 0x70;
const OPCODE: u8 = 0x0f;
const MASKED: u8 = 0x80;

/// A frame without its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// The last frame of its message.
    pub fin: bool,
    /// A reserved bit is set, as in a compressed frame.
    pub reserved: bool,
    /// What kind of frame it is.
    pub opcode: u8,
    /// The masking key of a frame of a client.
    pub mask: Option<[u8; 4]>,
    /// Bytes of the head.
    pub length: usize,
    /// Bytes of the payload.
    pub payload: u64,
}

impl Head {
    /// The head that `bytes` begin with. `None` when more bytes are needed.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let &[first, second, ..] = bytes else { return None };
        let extended = match second & !MASKED {
            126 => bytes.get(2..4)?,
            127 => bytes.get(2..10)?,
            _ => &[],
        };
        let payload = match extended {
            [] => u64::from(second & !MASKED),
            _ => extended.iter().fold(0, |length, byte| length << 8 | u64::from(*byte)),
        };
        let (mask, length) = if second & MASKED == 0 {
            (None, 2 + extended.len())
        } else {
            (Some(*bytes.get(2 + extended.len()..)?.first_chunk()?), 6 + extended.len())
        };
        Some(Self {
            fin: first & FIN != 0,
            reserved: first & RESERVED != 0,
            opcode: first & OPCODE,
            mask,
            length,
            payload,
        })
    }
}

/// A head as far as it has come.
#[derive(Debug, Default)]
pub struct PartialHead {
    bytes: [u8; MAX_HEAD],
    known: usize,
}

impl PartialHead {
    /// True before the first byte of a head.
    pub fn is_empty(&self) -> bool {
        self.known == 0
    }

    /// Takes a whole head, or the next byte of one that comes in pieces. The head once it is whole, and how many bytes were
    /// taken. `bytes` must not be empty.
    pub fn take(&mut self, bytes: &[u8]) -> (Option<Head>, usize) {
        let whole = if self.known == 0 { Head::parse(bytes) } else { None };
        if let Some(head) = whole {
            return (whole, head.length);
        }
        self.bytes[self.known] = bytes[0];
        self.known += 1;
        let whole = Head::parse(&self.bytes[..self.known]);
        if whole.is_some() {
            self.known = 0;
        }
        (whole, 1)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const HEAD: Head = Head { fin: true, reserved: false, opcode: TEXT, mask: None, length: 2, payload: 0 };

    #[test]
    fn heads_of_every_length_are_read() {
        let mask = Some([9, 8, 7, 6]);
        for (bytes, head) in [
            (&[0x81, 0][..], HEAD),
            (&[0x81, 125], Head { payload: 125, ..HEAD }),
            (&[0x81, 126, 0, 126], Head { payload: 126, length: 4, ..HEAD }),
            (&[0x81, 126, 0, 5], Head { payload: 5, length: 4, ..HEAD }),
            (&[0x81, 127, 0, 0, 0, 0, 0, 1, 0, 1], Head { payload: 65_537, length: 10, ..HEAD }),
            (&[0x81, 127, 255, 255, 255, 255, 255, 255, 255, 255], Head { payload: u64::MAX, length: 10, ..HEAD }),
            (&[0x81, 0x85, 9, 8, 7, 6], Head { payload: 5, length: 6, mask, ..HEAD }),
            (&[0x81, 0xfe, 1, 0, 9, 8, 7, 6], Head { payload: 256, length: 8, mask, ..HEAD }),
            (
                &[0x81, 0xff, 0, 0, 0, 0, 0, 1, 0, 0, 9, 8, 7, 6],
                Head { payload: 65_536, length: MAX_HEAD, mask, ..HEAD },
            ),
            (&[0x01, 0], Head { fin: false, ..HEAD }),
            (&[0xc1, 0], Head { reserved: true, ..HEAD }),
            (&[0x89, 0], Head { opcode: PING, ..HEAD }),
        ] {
            assert_eq!(Head::parse(bytes), Some(head), "{bytes:02x?}");
            assert_eq!(Head::parse(&[bytes, &[0xff; 20]].concat()), Some(head), "{bytes:02x?} and more");
            for length in 0..bytes.len() {
                assert_eq!(Head::parse(&bytes[..length]), None, "{bytes:02x?} up to {length}");
            }
        }
    }
}
