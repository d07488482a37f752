//! The times of a node's health rounds: one in each interval, and one at once on request. Touches a clock and no
//! socket.

use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

/// The shortest time between two rounds, also when more are requested.
const LEAST_INTERVAL: Duration = Duration::from_secs(1);

/// The schedule of one node. Its prober runs the rounds. Others may request one and wait for its end.
pub struct Schedule {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    interval: Duration,
    wanted: bool,
    running: bool,
    begun: Instant,
    ended: Option<Instant>,
    stop: bool,
}

impl Schedule {
    /// A schedule whose first round is due after one interval.
    pub fn new(interval: Duration) -> Self {
        let state = State { interval, wanted: false, running: false, begun: Instant::now(), ended: None, stop: false };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    /// Changes the interval.
    pub fn set_interval(&self, interval: Duration) {
        self.state.lock().interval = interval;
        self.changed.notify_all();
    }

    /// The interval in force.
    pub fn interval(&self) -> Duration {
        self.state.lock().interval
    }

    /// Requests a round now. False when one is due or under way, or has just ended.
    pub fn ask(&self) -> bool {
        let mut state = self.state.lock();
        let due = !state.wanted && !state.running && state.ended.is_none_or(|ended| ended.elapsed() >= LEAST_INTERVAL);
        if due {
            state.wanted = true;
            self.changed.notify_all();
        }
        due
    }

    /// Requests a round that begins after this call, as soon as the last one is a second old.
    pub fn ask_for_another(&self) {
        let mut state = self.state.lock();
        if !state.wanted {
            state.wanted = true;
            self.changed.notify_all();
        }
    }

    /// True once a round has ended.
    pub fn has_ended_one(&self) -> bool {
        self.state.lock().ended.is_some()
    }

    /// Waits until no round is due or under way, or until `deadline`.
    pub fn wait(&self, deadline: Instant) {
        let mut state = self.state.lock();
        while (state.wanted || state.running) && !state.stop {
            if self.changed.wait_until(&mut state, deadline).timed_out() {
                return;
            }
        }
    }

    /// Ends the schedule: no round is due any more.
    pub fn stop(&self) {
        self.state.lock().stop = true;
        self.changed.notify_all();
    }

    /// Waits until a round is due. False when the schedule has ended.
    pub(super) fn next(&self) -> bool {
        let mut state = self.state.lock();
        loop {
            if state.stop {
                return false;
            }
            let usual = state.begun + state.interval;
            let earliest = state.ended.map_or(state.begun, |ended| ended + LEAST_INTERVAL);
            let due = if state.wanted { earliest.min(usual) } else { usual };
            if Instant::now() >= due {
                (state.wanted, state.running, state.begun) = (false, true, Instant::now());
                return true;
            }
            self.changed.wait_until(&mut state, due);
        }
    }

    /// Notes the end of a round.
    pub(super) fn end(&self) {
        let mut state = self.state.lock();
        (state.running, state.ended) = (false, Some(Instant::now()));
        self.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    #[test]
    fn a_requested_round_is_due_once_and_at_once() {
        let schedule = Schedule::new(LONG);
        assert!(!schedule.has_ended_one());
        assert!(schedule.ask());
        assert!(!schedule.ask(), "it is due already");
        assert!(schedule.next());
        assert!(!schedule.ask(), "it is under way");
        schedule.end();
        assert!(!schedule.ask(), "it has just ended");
        assert!(schedule.has_ended_one());
    }

    #[test]
    fn another_round_can_be_requested_during_a_round() {
        let schedule = Schedule::new(LONG);
        assert!(schedule.ask() && schedule.next());
        schedule.ask_for_another();
        schedule.end();
        assert!(schedule.next(), "it is due when the last one is a second old");
    }

    #[test]
    fn rounds_follow_the_interval_and_end_with_a_stop() {
        let schedule = Schedule::new(LONG);
        schedule.set_interval(Duration::from_millis(1));
        assert!(schedule.next());
        schedule.end();
        assert!(schedule.next());
        schedule.stop();
        assert!(!schedule.next());
    }
}
