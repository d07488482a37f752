//! What a node has to do for lavaproxy: sessions, requests under way, and what the choice of a node counts. Touches a
//! clock and no socket.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::backend::Backend;

/// A session that a node was given counts for its penalty for so long. By then the node's own figures know its players:
/// Lavalink v4 renews its load every 30 seconds only.
const GIVEN_TIME: Duration = Duration::from_secs(30);
const SLOTS: usize = 30;

/// The counters of one node.
#[derive(Default)]
pub struct Load {
    sessions: AtomicU64,
    requests: AtomicU64,
    loads_retried: AtomicU64,
    given: Mutex<Given>,
}

/// The sessions of the last [`GIVEN_TIME`], by the second. A count that the node's newest stats reset would send all
/// new sessions to the node whose stats came last.
#[derive(Default)]
struct Given {
    slots: [u64; SLOTS],
    started: Option<Instant>,
    /// The second that was counted last.
    now: u64,
}

impl Given {
    fn advance(&mut self) {
        let started = *self.started.get_or_insert_with(Instant::now);
        self.advance_to(started.elapsed().as_secs());
    }

    fn advance_to(&mut self, now: u64) {
        for second in self.now + 1..=now.min(self.now + GIVEN_TIME.as_secs()) {
            self.slots[slot(second)] = 0;
        }
        self.now = self.now.max(now);
    }
}

fn slot(second: u64) -> usize {
    usize::try_from(second % SLOTS as u64).unwrap_or(0)
}

impl Load {
    /// Counts a session that was given to the node.
    pub(super) fn give(&self) {
        let mut given = self.given.lock();
        given.advance();
        let now = slot(given.now);
        given.slots[now] += 1;
    }

    /// The sessions given within [`GIVEN_TIME`].
    pub(super) fn given(&self) -> u64 {
        let mut given = self.given.lock();
        given.advance();
        given.slots.iter().sum()
    }

    /// Sessions whose WebSocket is a tunnel now.
    pub fn sessions(&self) -> u64 {
        self.sessions.load(Relaxed)
    }

    /// Requests under way.
    pub fn requests(&self) -> u64 {
        self.requests.load(Relaxed)
    }

    /// Counts a load that failed on the node and was tried on another.
    pub fn count_load_retried(&self) {
        self.loads_retried.fetch_add(1, Relaxed);
    }

    /// Loads that failed on the node and were tried on another.
    pub fn loads_retried(&self) -> u64 {
        self.loads_retried.load(Relaxed)
    }
}

/// A request under way at a node.
pub struct UnderWay(Arc<Backend>);

impl UnderWay {
    /// Counts until it is dropped.
    pub fn at(backend: &Arc<Backend>) -> Self {
        backend.load().requests.fetch_add(1, Relaxed);
        Self(Arc::clone(backend))
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.load().requests.fetch_sub(1, Relaxed);
    }
}

/// A session at a node.
pub struct Session(Arc<Backend>);

impl Session {
    /// Counts until it is dropped.
    pub fn at(backend: &Arc<Backend>) -> Self {
        backend.load().sessions.fetch_add(1, Relaxed);
        Self(Arc::clone(backend))
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.0.load().sessions.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_sessions_are_forgotten_after_half_a_minute() {
        let mut given = Given::default();
        given.slots[0] = 5;
        given.advance_to(10);
        given.slots[slot(10)] = 2;
        given.advance_to(29);
        assert_eq!(given.slots.iter().sum::<u64>(), 7);
        given.advance_to(30);
        assert_eq!(given.slots.iter().sum::<u64>(), 2);
        given.advance_to(1_000_000);
        assert_eq!(given.slots.iter().sum::<u64>(), 0);
    }

    #[test]
    fn a_session_counts_at_once() {
        let load = Load::default();
        (0..3).for_each(|_| load.give());
        assert_eq!(load.given(), 3);
    }
}
