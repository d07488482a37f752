//! Counts bytes as they are read and written: atomics, and a wrapper around a client's stream.

use std::io::{self, Read, Write};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Bytes of one client's connection since it was accepted.
#[derive(Debug, Default)]
pub struct Meter {
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
}

impl Meter {
    /// Bytes that came from the client.
    pub fn bytes_in(&self) -> u64 {
        self.bytes_in.load(Relaxed)
    }

    /// Bytes that went to the client.
    pub fn bytes_out(&self) -> u64 {
        self.bytes_out.load(Relaxed)
    }
}

/// A client's stream with its bytes counted: reads as in, writes as out.
#[derive(Clone, Copy, Debug)]
pub struct Metered<'m, S> {
    stream: S,
    meter: &'m Meter,
}

impl<'m, S> Metered<'m, S> {
    /// Counts on `meter` from here on.
    pub fn new(stream: S, meter: &'m Meter) -> Self {
        Self { stream, meter }
    }
}

impl<S: Read> Read for Metered<'_, S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.stream.read(buffer)?;
        self.meter.bytes_in.fetch_add(count as u64, Relaxed);
        Ok(count)
    }
}

impl<S: Write> Write for Metered<'_, S> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let count = self.stream.write(buffer)?;
        self.meter.bytes_out.fetch_add(count as u64, Relaxed);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_bytes_that_were_read_or_written_are_counted() -> io::Result<()> {
        let meter = Meter::default();
        let mut half_full = [0u8; 4];
        let mut out = Metered::new(&mut half_full[..], &meter);
        assert_eq!(out.write(b"123456")?, 4);
        let mut rest = [0u8; 16];
        assert_eq!(Metered::new(&b"abc"[..], &meter).read(&mut rest)?, 3);
        assert_eq!((meter.bytes_in(), meter.bytes_out()), (3, 4));
        Ok(())
    }
}
