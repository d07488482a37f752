//! Where a head ends, found while its bytes arrive.

use std::io::{self, Read};

use super::{HeadError, MAX_READ_HEAD};
use crate::http::buffer::Buffer;

/// How PROXY headers of version 1 begin; no head does.
const PROXY_V1: [&[u8]; 2] = [b"PROXY TCP", b"PROXY UNKNOWN"];

/// How far a head that arrives in pieces was checked. Each byte is looked at once.
#[derive(Default)]
pub struct Scan {
    checked: usize,
}

impl Scan {
    /// Checks what came since the last call; `data` starts with the head's first byte.
    /// Returns the head's length, its empty line included, once that line is there.
    ///
    /// # Errors
    /// On the first byte that may not stand there: a control, or a CR or LF on its own (RFC 9112 section 2.2).
    pub fn advance(&mut self, data: &[u8]) -> Result<Option<usize>, HeadError> {
        const TLS_HANDSHAKE: u8 = 0x16;
        if data.first() == Some(&TLS_HANDSHAKE) {
            return Err(HeadError::TlsHello);
        }
        if PROXY_V1.iter().any(|start| data.starts_with(start)) {
            return Err(HeadError::ProxyHeader);
        }
        loop {
            self.checked += plain(&data[self.checked..]);
            let Some(&byte) = data.get(self.checked) else { return Ok(None) };
            match byte {
                b'\n' if self.checked == 0 || data[self.checked - 1] != b'\r' => {
                    return Err(HeadError::Malformed("a line ends in LF without CR"));
                }
                b'\n' if self.checked >= 3 && data[self.checked - 2] == b'\n' => {
                    return Ok(Some(self.checked + 1));
                }
                b'\n' | b'\t' => {}
                b'\r' => match data.get(self.checked + 1) {
                    None => return Ok(None),
                    Some(b'\n') => {}
                    Some(_) => return Err(HeadError::Malformed("a CR without LF")),
                },
                _ => return Err(HeadError::Malformed("a control character")),
            }
            self.checked += 1;
        }
    }
}

/// How many bytes stand before the first control. It looks at eight bytes at once: the lines of a head are short, so
/// that every step counts.
fn plain(data: &[u8]) -> usize {
    let mut rest = data;
    while let Some((piece, after)) = rest.split_first_chunk() {
        let controls = controls(u64::from_le_bytes(*piece));
        if controls != 0 {
            return data.len() - rest.len() + controls.trailing_zeros() as usize / 8;
        }
        rest = after;
    }
    data.len() - rest.len() + rest.iter().take_while(|byte| !byte.is_ascii_control()).count()
}

/// Has the highest bit set in the lowest byte that is a control, and in none below it. What it says of the bytes above
/// that one is not exact, since the subtractions borrow from them.
const fn controls(piece: u64) -> u64 {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const HIGH: u64 = ONES << 7;
    const DELETE: u64 = 0x7f * ONES;
    let below_space = piece.wrapping_sub(0x20 * ONES) & !piece;
    let delete = (piece ^ DELETE).wrapping_sub(ONES) & !(piece ^ DELETE);
    (below_space | delete) & HIGH
}

/// Why no head could be read.
#[derive(Debug)]
pub enum ReadError {
    /// The bytes are not a head, or too many.
    Head(HeadError),
    /// The peer closed.
    Closed {
        /// True when bytes of a head had come.
        partial: bool,
    },
    /// The read failed or timed out.
    Io {
        /// What the system reported.
        error: io::Error,
        /// True when bytes of a head had come.
        partial: bool,
    },
}

/// Reads until `buffer` starts with a complete head and returns that head's length in bytes.
///
/// `before_read` is called before each read, with the reader and whether the head has begun, to set or check a
/// deadline.
///
/// # Errors
/// [`ReadError`]; `buffer` then holds the bytes that had come.
pub fn read<R: Read>(
    reader: &mut R,
    buffer: &mut Buffer,
    mut before_read: impl FnMut(&mut R, bool) -> io::Result<()>,
) -> Result<usize, ReadError> {
    let mut scan = Scan::default();
    loop {
        match scan.advance(buffer.data()).map_err(ReadError::Head)? {
            Some(length) if length <= MAX_READ_HEAD => return Ok(length),
            None if !buffer.holds(MAX_READ_HEAD) => {}
            _ if buffer.data().contains(&b'\n') => return Err(ReadError::Head(HeadError::TooLarge)),
            _ => return Err(ReadError::Head(HeadError::TargetTooLong)),
        }
        let partial = !buffer.is_empty();
        let count = before_read(reader, partial).and_then(|()| buffer.fill(reader, MAX_READ_HEAD));
        match count {
            Ok(0) => return Err(ReadError::Closed { partial }),
            Ok(_) => {}
            Err(error) => return Err(ReadError::Io { error, partial }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_control_is_found_at_every_place_of_a_piece() {
        let naive = |data: &[u8]| data.iter().take_while(|byte| !byte.is_ascii_control()).count();
        for filler in [b' ', b'A', b'~', 0x80, 0x9f, 0xa0, 0xff] {
            for at in 0..17 {
                for byte in 0..=255 {
                    let mut data = [filler; 20];
                    (data[at], data[18]) = (byte, b'\r');
                    for start in 0..=at {
                        let data = &data[start..];
                        assert_eq!(plain(data), naive(data), "{}", data.escape_ascii());
                    }
                }
            }
        }
    }
}
