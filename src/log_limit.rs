//! Limits the log lines of an event that may happen thousands of times a second. Reads a clock.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Counts the events between two log lines.
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
    /// At most one line in `pause`.
    pub fn every(pause: Duration) -> Self {
        Self { pause, state: Mutex::default() }
    }

    /// Counts one event. When a line is due, returns the number of events since the last line.
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

/// At most one line a second.
impl Default for LogLimit {
    fn default() -> Self {
        Self::every(Duration::from_secs(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_event_is_logged_at_once_and_later_ones_are_counted() {
        let limit = LogLimit::every(Duration::from_secs(3600));
        assert_eq!(limit.count(), Some(1));
        assert_eq!((limit.count(), limit.count()), (None, None));
        limit.state.lock().last = None;
        assert_eq!(limit.count(), Some(3));
    }
}
