//! A bounded window of bytes between a reader and a parser. It touches nothing but the reader it is given.

use std::io::{self, Read};

/// The first size of a buffer in bytes, and the factor by which it grows.
const FIRST: usize = 4096;
const GROWTH: usize = 4;

/// Bytes that were read and not consumed, in memory that grows only while reads fill it.
#[derive(Default)]
pub struct Buffer {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
    /// The last read filled all the room: the reader may have more.
    was_filled: bool,
}

impl Buffer {
    /// What was read and not consumed.
    pub fn data(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// What was read and not consumed, for a parser that rewrites it.
    pub fn data_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.end]
    }

    /// True when it holds no unread byte.
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Drops the first `count` bytes of [`data`](Self::data).
    pub fn consume(&mut self, count: usize) {
        self.start = self.start.saturating_add(count).min(self.end);
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
        }
    }

    /// Drops everything.
    pub fn clear(&mut self) {
        self.start = 0;
        self.end = 0;
    }

    /// True when it holds `capacity` unread bytes: [`fill`](Self::fill) with this capacity would read nothing.
    pub fn holds(&self, capacity: usize) -> bool {
        self.end - self.start >= capacity
    }

    /// How many bytes of memory it uses.
    pub fn capacity(&self) -> usize {
        self.bytes.len()
    }

    /// One read into the free part, which grows up to `capacity` bytes; 0 is the end of the stream.
    ///
    /// # Errors
    /// What the reader reports; an interrupted read is repeated.
    pub fn fill(&mut self, reader: &mut impl Read, capacity: usize) -> io::Result<usize> {
        let is_full = self.end == self.bytes.len();
        if is_full {
            self.move_to_front();
        }
        if (self.was_filled || is_full) && self.bytes.len() < capacity {
            let grown = (self.bytes.len() * GROWTH).max(FIRST);
            self.bytes.resize(grown.min(capacity), 0);
        }
        loop {
            match reader.read(&mut self.bytes[self.end..]) {
                Ok(count) => {
                    self.end += count;
                    self.was_filled = self.end == self.bytes.len();
                    return Ok(count);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Gives memory beyond `capacity` bytes back, unless more than that is unread.
    pub fn shrink(&mut self, capacity: usize) {
        if self.bytes.len() > capacity && self.end - self.start <= capacity {
            self.move_to_front();
            self.bytes.truncate(capacity);
            self.bytes.shrink_to_fit();
            self.was_filled = false;
        }
    }

    fn move_to_front(&mut self) {
        if self.start > 0 {
            self.bytes.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unconsumed_bytes_survive_a_fill() -> io::Result<()> {
        let mut buffer = Buffer::default();
        let mut source: &[u8] = b"0123456789";
        assert_eq!(buffer.fill(&mut source, 8)?, 8);
        assert!(buffer.holds(8));
        buffer.consume(6);
        assert_eq!(buffer.fill(&mut source, 8)?, 2);
        assert_eq!(buffer.data(), b"6789");
        assert_eq!(buffer.fill(&mut source, 16)?, 0);
        assert_eq!(buffer.data(), b"6789");
        buffer.shrink(4);
        assert_eq!(buffer.data(), b"6789");
        buffer.consume(99);
        assert!(buffer.is_empty());
        Ok(())
    }

    #[test]
    fn it_grows_only_when_a_read_filled_it() -> io::Result<()> {
        let mut buffer = Buffer::default();
        let mut reads = |length: usize| {
            let mut source = io::repeat(b'a').take(length as u64);
            let count = buffer.fill(&mut source, 10_000);
            buffer.consume(usize::MAX);
            count
        };
        for _ in 0..3 {
            assert_eq!(reads(FIRST - 1)?, FIRST - 1);
        }
        assert_eq!(reads(20_000)?, FIRST);
        assert_eq!(reads(20_000)?, 10_000);
        assert_eq!(reads(20_000)?, 10_000);
        buffer.shrink(FIRST);
        assert_eq!(buffer.fill(&mut io::repeat(b'a'), 10_000)?, FIRST);
        assert_eq!(buffer.fill(&mut io::repeat(b'a'), 10_000)?, 10_000 - FIRST);
        assert!(buffer.holds(10_000));
        Ok(())
    }
}
