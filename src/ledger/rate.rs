//! Bytes per second over the last few seconds, from one sample a second.

use std::time::Instant;

/// How many samples a window spans; one more is kept.
const SPAN: usize = 5;

/// When the samples were taken; all windows share one clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock([Instant; SPAN + 1]);

impl Clock {
    pub(super) fn new(now: Instant) -> Self {
        Self([now; SPAN + 1])
    }

    pub(super) fn tick(&mut self, now: Instant) {
        self.0.rotate_left(1);
        self.0[SPAN] = now;
    }
}

/// The totals of bytes in and out at the last ticks, oldest first.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Window([(u64, u64); SPAN + 1]);

impl Window {
    /// The window of totals that have not changed for long.
    pub(super) fn level(total: (u64, u64)) -> Self {
        Self([total; SPAN + 1])
    }

    pub(super) fn push(&mut self, total: (u64, u64)) {
        self.0.rotate_left(1);
        self.0[SPAN] = total;
    }

    pub(super) fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.0.iter_mut().zip(other.0) {
            *mine = (mine.0.saturating_add(theirs.0), mine.1.saturating_add(theirs.1));
        }
    }

    /// Bytes per second in and out, over the time between the oldest and the newest sample.
    pub(super) fn per_second(&self, clock: &Clock) -> (u64, u64) {
        let millis = clock.0[SPAN].duration_since(clock.0[0]).as_millis();
        let rate =
            |bytes: u64| u64::try_from((u128::from(bytes) * 1000).checked_div(millis).unwrap_or(0)).unwrap_or(u64::MAX);
        let (old, new) = (self.0[0], self.0[SPAN]);
        (rate(new.0.saturating_sub(old.0)), rate(new.1.saturating_sub(old.1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_rate_is_that_of_the_window_and_falls_to_zero() {
        let start = Instant::now();
        let mut clock = Clock::new(start);
        let mut window = Window::default();
        assert_eq!(window.per_second(&clock), (0, 0));
        for second in 1..=10 {
            clock.tick(start + Duration::from_secs(second));
            window.push((second * 100, second * 7));
        }
        assert_eq!(window.per_second(&clock), (100, 7));
        for second in 11..=15 {
            clock.tick(start + Duration::from_secs(second));
            window.push((1000, 70));
        }
        assert_eq!(window.per_second(&clock), (0, 0));
    }
}
