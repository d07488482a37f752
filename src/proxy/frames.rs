//! Follows a stream of WebSocket frames (RFC 6455 section 5.2) and knows whether it is between two frames or within
//! one. Reads the frames' heads and skips their payloads. Pure.

use crate::sessions::frame::{CLOSE, PartialHead};

/// A close frame of a server with this code (RFC 6455 sections 5.5.1 and 7.4.1).
pub fn close_frame(code: u16) -> [u8; 4] {
    let [high, low] = code.to_be_bytes();
    [0x88, 2, high, low]
}

/// The position in one direction of a tunnel, followed from its first byte.
#[derive(Debug, Default)]
pub struct Frames {
    head: PartialHead,
    /// The bytes of the payload that are still missing.
    left: u64,
    closed: bool,
}

impl Frames {
    /// Takes the next bytes of the stream.
    pub fn pass(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let count = if self.left > 0 { self.step_over(bytes.len()) } else { self.take_head(bytes) };
            bytes = &bytes[count..];
        }
    }

    /// True when another frame may follow: the last one is complete, and it was no close frame.
    pub fn is_between_frames(&self) -> bool {
        self.head.is_empty() && self.left == 0 && !self.closed
    }

    fn step_over(&mut self, available: usize) -> usize {
        let count = usize::try_from(self.left).map_or(available, |left| left.min(available));
        self.left -= count as u64;
        count
    }

    fn take_head(&mut self, bytes: &[u8]) -> usize {
        let (head, count) = self.head.take(bytes);
        if let Some(head) = head {
            self.left = head.payload;
            self.closed |= head.opcode == CLOSE;
        }
        count
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
