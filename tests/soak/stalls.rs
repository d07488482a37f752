//! Moments at which the whole machine stood still, as a virtual one does while its host copies or moves it. Then every
//! request that is under way times out, whoever carries it.

use std::sync::Mutex;
use std::time::{Duration, Instant};

/// A thread that is to run again after a pause is never this late on a machine that runs.
const STALL: Duration = Duration::from_secs(2);

#[derive(Default)]
pub struct Stalls(Mutex<Seen>);

#[derive(Default)]
struct Seen {
    /// `None` while nobody looks.
    last: Option<Instant>,
    count: u64,
}

impl Stalls {
    /// How many there were. One that has just ended counts, whoever is the first to run again.
    pub fn count(&self) -> u64 {
        let mut seen = self.0.lock().unwrap();
        if seen.last.is_some_and(|last| last.elapsed() > STALL) {
            seen.count += 1;
            seen.last = Some(Instant::now());
        }
        seen.count
    }

    /// To be called several times a second.
    pub fn look(&self) {
        self.count();
        self.0.lock().unwrap().last = Some(Instant::now());
    }

    /// No look follows for a while.
    pub fn rest(&self) {
        self.0.lock().unwrap().last = None;
    }
}

#[test]
fn a_look_that_is_late_counts_once() {
    let stalls = Stalls(Mutex::new(Seen { last: Instant::now().checked_sub(2 * STALL), count: 0 }));
    assert_eq!((stalls.count(), stalls.count()), (1, 1));
    stalls.look();
    stalls.rest();
    assert_eq!(stalls.count(), 1);
}
