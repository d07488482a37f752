//! What the next process goes on from: collected for the state file and for a successor, and taken up at the start.

use std::sync::Arc;
use std::sync::mpsc::Sender;

use parking_lot::Mutex;

use super::{Current, NodeHandle};
use crate::history::History;
use crate::ledger::{Ledger, Saved};
use crate::limits::Limits;
use crate::sessions::table::Sessions;
use crate::state::{Remainder, State};

/// What the next process goes on from, for the thread that saves it and for a successor.
#[derive(Clone)]
pub struct Lasting {
    pub(super) ledger: Arc<Ledger>,
    pub(super) limits: Arc<Limits>,
    pub(super) sessions: Arc<Sessions>,
    pub(super) history: Arc<History>,
    pub(super) current: Arc<Mutex<Current>>,
}

impl Lasting {
    /// The state of this moment, to be saved.
    pub fn state(&self) -> State {
        self.with(self.ledger.save())
    }

    /// The state of this moment, for a successor. From then on the ledger keeps apart what it has not handed over, and no
    /// session is taken over any more.
    pub fn hand_over(&self) -> State {
        self.sessions.note_successor(true);
        let changing_sessions = self.sessions.save_changing();
        let mut state = self.with(self.ledger.hand_over());
        state.changing_sessions = changing_sessions;
        state
    }

    /// The successor did not start: this process goes on to take sessions over.
    pub fn keep(&self) {
        self.sessions.note_successor(false);
    }

    /// What came after [`hand_over`](Self::hand_over), for the successor.
    pub fn remainder(&self) -> Remainder {
        let changing_sessions = self.sessions.save_changing();
        Remainder { ledger: self.ledger.remainder(), moved_sessions: self.sessions.save_moved(), changing_sessions }
    }

    /// From now on the end of each takeover is announced there, to be reported at once. `None` ends that.
    pub fn announce_to(&self, news: Option<Sender<()>>) {
        self.sessions.announce_to(news);
    }

    /// Takes a report of the predecessor in place of the one before it. `None` when the predecessor has ended.
    pub fn note_predecessor(&self, report: Option<Remainder>) {
        match report {
            Some(Remainder { ledger, moved_sessions, changing_sessions }) => {
                self.ledger.set_predecessor(ledger);
                self.sessions.set_predecessor(moved_sessions, changing_sessions);
            }
            None => {
                self.ledger.keep_predecessor();
                self.sessions.set_predecessor(Vec::new(), Vec::new());
            }
        }
    }

    fn with(&self, ledger: Saved) -> State {
        let current = self.current.lock();
        let drains = |node: &&NodeHandle| node.backend.health().is_draining();
        let draining = current.nodes.iter().filter(drains).map(|node| Arc::clone(&node.node.name)).collect();
        drop(current);
        let (keys, moved) = (self.sessions.save_keys(), self.sessions.save_moved());
        let mut state = State::new(ledger, self.limits.bans().save(), draining, keys, moved);
        state.history = Some(self.history.save());
        state
    }
}

/// Goes on from this state. To be called before the first connection.
pub(super) fn restore(state: State, ledger: &Ledger, limits: &Limits, sessions: &Sessions, nodes: &[NodeHandle]) {
    ledger.restore(state.ledger);
    limits.bans().restore(state.bans);
    sessions.restore_keys(&state.resume_keys);
    sessions.restore_moved(state.moved_sessions);
    sessions.set_predecessor(Vec::new(), state.changing_sessions);
    for node in nodes.iter().filter(|node| state.draining.contains(&node.node.name)) {
        node.backend.set_draining(true, "the process before this one");
    }
}
