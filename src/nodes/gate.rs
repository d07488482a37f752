//! How many requests of takeovers a node gets at once, so that a thousand sessions that lose their node do not swamp the
//! next one. It counts, and touches no socket.

use std::sync::Arc;
use std::time::Instant;

use parking_lot::{Condvar, Mutex};

/// The most requests at once.
const WIDTH: usize = 16;

/// The gate of one node.
pub struct Gate {
    inside: Mutex<usize>,
    left: Condvar,
}

impl Default for Gate {
    fn default() -> Self {
        Self { inside: Mutex::new(0), left: Condvar::new() }
    }
}

/// A request that has passed the gate, until it is dropped.
pub struct Pass(Arc<Gate>);

impl Gate {
    /// Passes if there is room now.
    pub fn try_enter(self: &Arc<Self>) -> Option<Pass> {
        Self::take(&mut self.inside.lock()).then(|| Pass(Arc::clone(self)))
    }

    /// Waits for room until `deadline`. Who has passed already must not wait for another pass.
    pub fn enter(self: &Arc<Self>, deadline: Instant) -> Option<Pass> {
        let mut inside = self.inside.lock();
        while !Self::take(&mut inside) {
            if self.left.wait_until(&mut inside, deadline).timed_out() {
                return None;
            }
        }
        Some(Pass(Arc::clone(self)))
    }

    fn take(inside: &mut usize) -> bool {
        let has_room = *inside < WIDTH;
        *inside += usize::from(has_room);
        has_room
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        *self.0.inside.lock() -= 1;
        self.0.left.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn no_more_pass_than_there_is_room_for() {
        let gate: Arc<Gate> = Arc::default();
        let mut passes: Vec<_> = (0..WIDTH).filter_map(|_| gate.try_enter()).collect();
        assert_eq!(passes.len(), WIDTH);
        assert!(gate.try_enter().is_none() && gate.enter(Instant::now()).is_none());
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| gate.enter(Instant::now() + Duration::from_secs(20)).is_some());
            passes.pop();
            assert!(waiting.join().is_ok_and(|passed| passed));
        });
        drop(passes);
        assert_eq!(*gate.inside.lock(), 0);
    }
}
