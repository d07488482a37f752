//! For what may happen thousands of times a second and deserves one log line now and then; reads a clock.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Counts what happens between two log lines.
pub struct LogLimit {
    pause: Duration,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    count: u64,
    last: Option<Instant>,
}

impl LogLimit {
    /// One line in `pause` at most.
    pub fn every(pause: Duration) -> Self {
        Self { pause, state: Mutex::default() }
    }

    /// Counts one more. When a line is due, returns how many there were since the last one.
    pub fn count(&self) -> Option<u64> {
        let mut state = self.state.lock();
        state.count += 1;
        if state.last.is_some_and(|last| last.elapsed() < self.pause) {
            return None;
        }
        state.last = Some(Instant::now());
        Some(std::mem::take(&mut state.count))
    }
}

/// One line a second at most.
impl Default for LogLimit {
    fn default() -> Self {
        Self::every(Duration::from_secs(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_logged_at_once_and_the_next_are_counted() {
        let limit = LogLimit::every(Duration::from_secs(3600));
        assert_eq!(limit.count(), Some(1));
        assert_eq!((limit.count(), limit.count()), (None, None));
        limit.state.lock().last = None;
        assert_eq!(limit.count(), Some(3));
    }
}
