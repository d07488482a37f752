//! The memory that the players of all sessions may take (SESSION_MEMORY). Atomic counters.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// A budget of bytes.
#[derive(Debug)]
pub struct Memory {
    used: AtomicUsize,
    limit: AtomicUsize,
}

impl Default for Memory {
    fn default() -> Self {
        Self { used: AtomicUsize::new(0), limit: AtomicUsize::new(usize::MAX) }
    }
}

impl Memory {
    /// Changes the limit. What is over it stays until it is given back.
    pub fn set_limit(&self, bytes: u64) {
        self.limit.store(usize::try_from(bytes).unwrap_or(usize::MAX), Relaxed);
    }

    /// The bytes in use.
    pub fn used(&self) -> usize {
        self.used.load(Relaxed)
    }

    /// True when more than three quarters are in use.
    pub(super) fn is_scarce(&self) -> bool {
        self.used() > self.limit.load(Relaxed) / 4 * 3
    }

    /// Takes more bytes, or gives some back. False when they were to be taken and the limit allows no more.
    pub(super) fn change(&self, before: usize, after: usize) -> bool {
        let Some(more) = after.checked_sub(before) else {
            self.used.fetch_sub(before - after, Relaxed);
            return true;
        };
        let limit = self.limit.load(Relaxed);
        let fits = |used: usize| used.checked_add(more).filter(|sum| more == 0 || *sum <= limit);
        self.used.fetch_update(Relaxed, Relaxed, fits).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_the_limit_is_taken() {
        let memory = Memory::default();
        memory.set_limit(100);
        assert!(memory.change(0, 60) && memory.change(0, 40));
        assert!(!memory.change(0, 1) && memory.change(60, 60));
        assert!(memory.change(60, 50) && memory.change(40, 50));
        assert_eq!(memory.used(), 100);
        memory.set_limit(10);
        assert!(memory.change(100, 90) && !memory.change(90, 91));
        assert!(memory.change(90, 0));
        assert_eq!(memory.used(), 0);
    }
}
