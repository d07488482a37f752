//! Follows a stream of WebSocket frames (RFC 6455 section 5.2) and knows whether it is between two frames or within
//! one. Reads the frames' heads and skips their payloads. Pure.

/// A close frame of a server with this code (RFC 6455 sections 5.5.1 and 7.4.1).
pub fn close_frame(code: u16) -> [u8; 4] {
    let [high, low] = code.to_be_bytes();
    [0x88, 2, high, low]
}

const OPCODE: u8 = 0x0f;
const CLOSE: u8 = 8;
const MASKED: u8 = 0x80;

/// The position in one direction of a tunnel, followed from its first byte.
#[derive(Debug, Default)]
pub struct Frames {
    /// The part of the frame's head that has arrived: two bytes and the extended length.
    head: [u8; 10],
    known: usize,
    /// The bytes of masking key and payload that are still missing.
    left: u64,
    closed: bool,
}

impl Frames {
    /// Takes the next bytes of the stream.
    pub fn pass(&mut self, mut bytes: &[u8]) {
        while let Some(first) = bytes.first() {
            if self.left > 0 {
                let count = usize::try_from(self.left).map_or(bytes.len(), |left| left.min(bytes.len()));
                self.left -= count as u64;
                bytes = &bytes[count..];
                continue;
            }
            self.head[self.known] = *first;
            self.known += 1;
            bytes = &bytes[1..];
            if self.known >= 2 && self.known == self.head_length() {
                self.begin();
            }
        }
    }

    /// True when another frame may follow: the last one is complete, and it was no close frame.
    pub fn is_between_frames(&self) -> bool {
        self.known == 0 && self.left == 0 && !self.closed
    }

    fn head_length(&self) -> usize {
        match self.head[1] & !MASKED {
            126 => 4,
            127 => 10,
            _ => 2,
        }
    }

    fn begin(&mut self) {
        let extended = &self.head[2..self.known];
        let payload = match extended {
            [] => u64::from(self.head[1] & !MASKED),
            _ => extended.iter().fold(0, |length, byte| length << 8 | u64::from(*byte)),
        };
        let key = if self.head[1] & MASKED == 0 { 0 } else { 4 };
        self.left = payload.saturating_add(key);
        self.closed |= self.head[0] & OPCODE == CLOSE;
        self.known = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(first: u8, length: &[u8], payload: usize) -> Vec<u8> {
        [&[first], length, &vec![0x81; payload]].concat()
    }

    fn ends_between_frames(stream: &[u8], piece: usize) -> bool {
        let mut frames = Frames::default();
        stream.chunks(piece).for_each(|bytes| frames.pass(bytes));
        frames.is_between_frames()
    }

    #[test]
    fn only_the_ends_of_frames_are_between_frames() {
        let frames = [
            frame(0x81, &[0], 0),
            frame(0x81, &[5], 5),
            frame(0x82, &[0x80 | 5], 4 + 5),
            frame(0x01, &[126, 0, 200], 200),
            frame(0x80, &[0x80 | 126, 1, 0], 4 + 256),
            frame(0x89, &[125], 125),
            frame(0x81, &[127, 0, 0, 0, 0, 0, 1, 0, 1], 65_537),
        ];
        let ends: Vec<usize> =
            frames.iter().scan(0, |end, frame| Some(*end + frame.len()).inspect(|now| *end = *now)).collect();
        let stream = frames.concat();
        let check = |found: bool, length: usize, how: &str| {
            assert_eq!(found, length == 0 || ends.contains(&length), "{length} bytes {how}");
        };
        for length in (0..=1000).chain(stream.len() - 1000..=stream.len()) {
            check(ends_between_frames(&stream[..length], stream.len()), length, "at once");
        }
        // In pieces of one byte and of three, with the first cut anywhere.
        for (piece, first) in [(1, 0), (3, 0), (3, 1), (3, 2)] {
            let mut frames = Frames::default();
            frames.pass(&stream[..first]);
            let mut length = first;
            for bytes in stream[first..].chunks(piece) {
                frames.pass(bytes);
                length += bytes.len();
                check(frames.is_between_frames(), length, "in pieces");
            }
        }
    }

    #[test]
    fn nothing_follows_a_close_frame() {
        assert!(ends_between_frames(&[0x8a, 0], 1));
        assert_eq!(close_frame(1001), [0x88, 2, 0x03, 0xe9]);
        assert!(!ends_between_frames(&close_frame(1001), 1));
        assert!(!ends_between_frames(&[&close_frame(1012)[..], &[0x81, 0]].concat(), 9));
    }

    #[test]
    fn the_largest_length_does_not_overflow() {
        assert!(!ends_between_frames(&frame(0x82, &[0xff; 9], 100), 7));
    }
}
