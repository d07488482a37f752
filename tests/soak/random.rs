//! Seeded random, and the bytes that streams are made of; pure, so that one seed makes one load.

use std::time::Duration;

/// SplitMix64.
pub struct Random(u64);

/// One of SplitMix64's steps: numbers that are close to each other come out far apart.
pub fn mix(number: u64) -> u64 {
    let z = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        let number = mix(self.0);
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        number
    }

    /// From `least` to `most`, both included.
    pub fn between(&mut self, least: u64, most: u64) -> u64 {
        least + self.next() % (most - least + 1)
    }

    pub fn one_in(&mut self, count: u64) -> bool {
        self.next() % count == 0
    }

    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[usize::try_from(self.next() % from.len() as u64).unwrap()]
    }

    /// From 1 to `most`, each order of magnitude as often as another.
    pub fn size(&mut self, most: u64) -> u64 {
        let bits = self.between(1, u64::from(u64::BITS - most.leading_zeros()));
        (self.next() >> (64 - bits)).clamp(1, most)
    }

    pub fn millis(&mut self, least: u64, most: u64) -> Duration {
        Duration::from_millis(self.between(least, most))
    }
}

/// An endless stream of bytes of which none can be lost, doubled, moved or taken for another stream's unseen.
pub struct Pattern {
    seed: u64,
    at: u64,
}

impl Pattern {
    /// What goes to the backend under this nonce.
    pub fn up(nonce: u64) -> Self {
        Self { seed: mix(nonce ^ 1), at: 0 }
    }

    /// What comes from the backend under this nonce.
    pub fn down(nonce: u64) -> Self {
        Self { seed: mix(nonce ^ 2), at: 0 }
    }

    /// The next `count` bytes.
    pub fn make(&mut self, count: u64) -> Vec<u8> {
        let (first, last) = (self.at / 8, (self.at + count).div_ceil(8));
        let mut bytes = Vec::with_capacity(usize::try_from((last - first) * 8).unwrap());
        for word in first..last {
            let value = self.seed.wrapping_add(word).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            bytes.extend_from_slice(&(value ^ (value >> 29)).to_le_bytes());
        }
        bytes.drain(..usize::try_from(self.at % 8).unwrap());
        bytes.truncate(usize::try_from(count).unwrap());
        self.at += count;
        bytes
    }

    /// How far the stream was made or checked.
    pub fn at(&self) -> u64 {
        self.at
    }

    /// Compares what came with what is next.
    pub fn check(&mut self, came: &[u8]) -> Result<(), String> {
        let (start, expected) = (self.at, self.make(came.len() as u64));
        match came.iter().zip(&expected).position(|(came, expected)| came != expected) {
            None => Ok(()),
            Some(at) => {
                Err(format!("byte {} of stream {:x} is not the one that was sent", start + at as u64, self.seed))
            }
        }
    }
}
