//! How far the moves of a node's sessions to other nodes are: counters, and whether they go on. It touches no socket.

use parking_lot::Mutex;

/// The moves from one node.
#[derive(Default)]
pub struct MoveProgress(Mutex<State>);

#[derive(Default)]
struct State {
    figures: MoveFigures,
    /// An operator has stopped them.
    stopped: bool,
}

/// What has become of the moves from a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MoveFigures {
    /// They are under way.
    pub under_way: bool,
    /// They wait until another node is in rotation.
    pub waiting: bool,
    /// Sessions that have moved since the moves last began.
    pub moved: u64,
    /// Sessions that stay where they are since then: all tries to move them have failed.
    pub failed: u64,
    /// Sessions that have moved since the start.
    pub all_moved: u64,
    /// Sessions that could not be moved since the start.
    pub all_failed: u64,
    /// Players that play on after the moves since the start.
    pub players: u64,
    /// Players that the next node has refused since then.
    pub refused: u64,
}

impl MoveProgress {
    /// Moves begin: they are counted anew. False when they are under way already; then they go on.
    pub fn begin(&self) -> bool {
        let mut state = self.0.lock();
        state.stopped = false;
        if state.figures.under_way {
            return false;
        }
        state.figures = MoveFigures { under_way: true, moved: 0, failed: 0, ..state.figures };
        true
    }

    /// The moves are not wanted any more.
    pub fn stop(&self) {
        self.0.lock().stopped = true;
    }

    /// True while the moves go on. When they were stopped they have ended with this call.
    pub fn go_on(&self) -> bool {
        let mut state = self.0.lock();
        if state.stopped {
            state.end();
        }
        state.figures.under_way
    }

    /// They have ended.
    pub fn end(&self) {
        self.0.lock().end();
    }

    /// Notes whether they wait for a node. True when that is new.
    pub fn set_waiting(&self, waiting: bool) -> bool {
        std::mem::replace(&mut self.0.lock().figures.waiting, waiting) != waiting
    }

    /// Counts a session that has moved with its players.
    pub fn count_moved(&self, players: usize, refused: usize) {
        let figures = &mut self.0.lock().figures;
        figures.moved += 1;
        figures.all_moved += 1;
        figures.players += players as u64;
        figures.refused += refused as u64;
    }

    /// Counts a session whose last try to move has failed.
    pub fn count_failed(&self) {
        let figures = &mut self.0.lock().figures;
        figures.failed += 1;
        figures.all_failed += 1;
    }

    /// All figures.
    pub fn figures(&self) -> MoveFigures {
        self.0.lock().figures
    }
}

impl State {
    fn end(&mut self) {
        (self.figures.under_way, self.figures.waiting) = (false, false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moves_that_were_stopped_end_and_can_begin_again() {
        let progress = MoveProgress::default();
        assert!(progress.begin() && progress.go_on());
        progress.count_moved(3, 1);
        progress.count_failed();
        assert!(progress.set_waiting(true) && !progress.set_waiting(true));
        progress.stop();
        assert!(!progress.go_on() && !progress.go_on());
        let counted = MoveFigures { moved: 1, failed: 1, all_moved: 1, all_failed: 1, ..MoveFigures::default() };
        let ended = MoveFigures { players: 3, refused: 1, ..counted };
        assert_eq!(progress.figures(), ended);
        assert!(progress.begin() && progress.go_on());
        assert_eq!(progress.figures(), MoveFigures { under_way: true, moved: 0, failed: 0, ..ended });
    }

    #[test]
    fn moves_that_begin_again_before_they_have_ended_go_on() {
        let progress = MoveProgress::default();
        assert!(progress.begin());
        progress.count_moved(0, 0);
        progress.stop();
        assert!(!progress.begin() && progress.go_on());
        assert_eq!(progress.figures().moved, 1);
    }
}
