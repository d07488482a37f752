//! For what may happen thousands of times a second and deserves a log line once a second; touches a clock.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// The least time between two lines.
const PAUSE: Duration = Duration::from_secs(1);

/// Counts what happens between two log lines.
#[derive(Default)]
pub struct Seldom(Mutex<State>);

#[derive(Default)]
struct State {
    count: u64,
    last: Option<Instant>,
}

impl Seldom {
    /// Counts one more. When it is time for a line, returns how many there were since the last one.
    pub fn count(&self) -> Option<u64> {
        let mut state = self.0.lock();
        state.count += 1;
        if state.last.is_some_and(|last| last.elapsed() < PAUSE) {
            return None;
        }
        state.last = Some(Instant::now());
        Some(std::mem::take(&mut state.count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_told_at_once_and_the_next_are_counted() {
        let seldom = Seldom::default();
        assert_eq!(seldom.count(), Some(1));
        assert_eq!((seldom.count(), seldom.count()), (None, None));
        seldom.0.lock().last = None;
        assert_eq!(seldom.count(), Some(3));
    }
}
