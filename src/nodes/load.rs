//! The load of a node from lavaproxy: sessions, requests under way, and the new sessions that the choice of a node
//! counts. Touches a clock and no socket.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::gate::Gate;
use super::move_progress::MoveProgress;
use super::takeovers::Takeovers;

/// How long a new session counts in the penalty of its node. After that time the node's own figures include its
/// players: Lavalink v4 updates its load only every 30 seconds.
const GIVEN_TIME: Duration = Duration::from_secs(30);
const SLOTS: usize = 30;

/// The counters of one node.
#[derive(Default)]
pub struct Load {
    sessions: AtomicU64,
    requests: AtomicU64,
    loads_retried: AtomicU64,
    given: Mutex<Given>,
    gate: Arc<Gate>,
    moves: MoveProgress,
    takeovers: Takeovers,
}

/// The new sessions of the last [`GIVEN_TIME`], one count per second. If new stats reset the count instead, all new
/// sessions would go to the node with the newest stats.
#[derive(Default)]
struct Given {
    slots: [u64; SLOTS],
    started: Option<Instant>,
    /// The second of the newest count.
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
    /// Counts a new session.
    pub(super) fn give(&self) {
        let mut given = self.given.lock();
        given.advance();
        let now = slot(given.now);
        given.slots[now] += 1;
    }

    /// The new sessions within [`GIVEN_TIME`].
    pub(super) fn given(&self) -> u64 {
        let mut given = self.given.lock();
        given.advance();
        given.slots.iter().sum()
    }

    /// The sessions whose WebSocket is open as a tunnel.
    pub fn sessions(&self) -> u64 {
        self.sessions.load(Relaxed)
    }

    /// Requests under way.
    pub fn requests(&self) -> u64 {
        self.requests.load(Relaxed)
    }

    /// The gate for the requests of takeovers.
    pub fn gate(&self) -> &Arc<Gate> {
        &self.gate
    }

    /// What has become of its sessions when it was lost.
    pub fn takeovers(&self) -> &Takeovers {
        &self.takeovers
    }

    /// The moves of its sessions to other nodes.
    pub fn moves(&self) -> &MoveProgress {
        &self.moves
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
pub struct UnderWay(Arc<Load>);

impl UnderWay {
    /// Counts until it is dropped.
    pub fn at(load: &Arc<Load>) -> Self {
        load.requests.fetch_add(1, Relaxed);
        Self(Arc::clone(load))
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.requests.fetch_sub(1, Relaxed);
    }
}

/// A session at a node.
pub struct Session(Arc<Load>);

impl Session {
    /// Counts until it is dropped.
    pub fn at(load: &Arc<Load>) -> Self {
        load.sessions.fetch_add(1, Relaxed);
        Self(Arc::clone(load))
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.0.sessions.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_sessions_count_for_half_a_minute() {
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
    fn a_new_session_counts_at_once() {
        let load = Load::default();
        (0..3).for_each(|_| load.give());
        assert_eq!(load.given(), 3);
    }
}
