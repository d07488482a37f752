//! A bounded window of bytes between a reader and a parser. It touches nothing but the reader it is given.

use std::io::{self, Read};

/// Bytes that were read and not yet used, in a buffer that grows only when it is told to.
#[derive(Default)]
pub struct Buffer {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl Buffer {
    /// What was read and not yet consumed.
    pub fn data(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// The same, for a parser that rewrites in place.
    pub fn data_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.end]
    }

    /// True when nothing is waiting.
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Forgets the first `count` bytes of [`data`](Self::data).
    pub fn consume(&mut self, count: usize) {
        self.start = (self.start + count).min(self.end);
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
        }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.start = 0;
        self.end = 0;
    }

    /// True when `capacity` bytes are waiting: [`fill`](Self::fill) with this capacity would read nothing.
    pub fn holds(&self, capacity: usize) -> bool {
        self.end - self.start >= capacity
    }

    /// One read into the free part of a window of `capacity` bytes; 0 is the end of the stream.
    ///
    /// # Errors
    /// Whatever the reader reports, but for interruptions, which are retried.
    pub fn fill(&mut self, reader: &mut impl Read, capacity: usize) -> io::Result<usize> {
        if self.start > 0 && (self.end == self.bytes.len() || self.bytes.len() < capacity) {
            self.bytes.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if self.bytes.len() < capacity {
            self.bytes.resize(capacity, 0);
        }
        loop {
            match reader.read(&mut self.bytes[self.end..]) {
                Ok(count) => {
                    self.end += count;
                    return Ok(count);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Gives memory beyond `capacity` bytes back, as far as what is waiting allows.
    pub fn shrink(&mut self, capacity: usize) {
        if self.bytes.len() > capacity && self.end - self.start <= capacity {
            self.bytes.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
            self.bytes.truncate(capacity);
            self.bytes.shrink_to_fit();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_what_was_not_consumed_across_fills() -> io::Result<()> {
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
}
