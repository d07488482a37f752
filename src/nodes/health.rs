//! The health of a node, from the rounds of the [`prober`](super::prober) and from the connections that clients need.
//!
//! It keeps figures and touches no socket. The pool reads its state. When no node of a version is up, requests are
//! still tried, so that an old state never keeps a version down.

use std::fmt::Display;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use log::{info, warn};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::error::Fault;
use crate::logfmt::Quoted;
use crate::unix_time::unix_millis;

/// The upper bounds of the buckets for connect times, in seconds.
pub const CONNECT_BOUNDS: [f64; 12] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];

/// This many failed rounds in a row make a node down, and this many good ones make it up again.
const ROUNDS: u32 = 2;

/// The state of a node, for the pool, the pages, the API and the logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeState {
    /// It answers.
    Up,
    /// It does not answer, or refuses the password.
    Down,
    /// It answers, but gets no new sessions.
    Draining,
    /// No round has ended yet.
    Unknown,
}

impl NodeState {
    const ALL: [Self; 4] = [Self::Up, Self::Down, Self::Draining, Self::Unknown];

    /// The state of a version from those of its nodes: up while one of them answers. `None` without a node.
    pub fn of_version(nodes: impl Iterator<Item = Self>) -> Option<Self> {
        nodes.fold(None, |state, node| match (state, node) {
            (Some(Self::Up), _) | (_, Self::Up | Self::Draining) => Some(Self::Up),
            (Some(Self::Unknown), _) | (_, Self::Unknown) => Some(Self::Unknown),
            _ => Some(Self::Down),
        })
    }

    /// The name in logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
            Self::Draining => "draining",
            Self::Unknown => "unknown",
        }
    }
}

/// The health of one node.
pub struct Health {
    state: Mutex<State>,
    /// What each choice of a node reads without the lock: the shown state, and whether the node drains.
    shown: AtomicU8,
    draining: AtomicBool,
    password_refusals: AtomicU64,
}

struct State {
    /// `None` until a round has ended.
    is_up: Option<bool>,
    draining: bool,
    /// Milliseconds since the epoch.
    since: u64,
    good_rounds: u32,
    failed_rounds: u32,
    /// A connect has failed since the last round began.
    suspect: bool,
    /// When the node stopped answering; `None` while it answers, even with a refusal.
    silent_since: Option<Instant>,
    seen: Seen,
    error: Option<String>,
    connects: Connects,
}

/// The connect times of one node.
#[derive(Clone, Copy, Debug, Default)]
pub struct Connects {
    /// The number of connects up to each of [`CONNECT_BOUNDS`], without those of the bucket before.
    pub buckets: [u64; CONNECT_BOUNDS.len()],
    /// The number of all connects, including those over the last bound.
    pub count: u64,
    /// The sum of their times, in seconds.
    pub sum: f64,
    /// Connects that failed.
    pub failures: u64,
}

/// The findings of the last good round.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// From the connect to the whole answer of `GET /version`, in milliseconds.
    pub response_time: Option<f64>,
    /// The version in the node's answer.
    pub lavalink_version: Option<String>,
    /// The node's own figures.
    pub stats: Option<Stats>,
}

/// The part of Lavalink's own figures that lavaproxy uses.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Stats {
    /// The players of all clients.
    pub players: u64,
    /// The number of players that play.
    pub playing_players: u64,
    /// The processors of its machine.
    #[serde(default)]
    pub cpu: Cpu,
}

/// The load of the node's machine.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Cpu {
    /// From 0 to 1.
    #[serde(default)]
    pub system_load: f64,
}

/// A copy of a node's health.
#[derive(Clone, Debug)]
pub struct Report {
    /// The state that the pool reads.
    pub state: NodeState,
    /// Since when, in milliseconds since the epoch.
    pub since: u64,
    /// The findings of the last good round; empty while the node is down.
    pub seen: Seen,
    /// What is wrong, and what the operator can do about it.
    pub error: Option<String>,
}

/// The result of a round in which the node answered.
pub(super) struct Finding {
    pub(super) response_time: Duration,
    pub(super) version: Option<String>,
    pub(super) stats: Option<Stats>,
    pub(super) error: Option<String>,
}

/// Why a round failed.
pub(super) enum RoundError {
    /// There was no connection, or no answer.
    Silent(String),
    /// The answer was a refusal.
    Refused(String),
    /// The round lacked a descriptor or a thread of this process, which says nothing of the node.
    Shortage,
}

impl From<Fault> for RoundError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::NoDescriptor | Fault::NoThread => Self::Shortage,
            fault => Self::Silent(fault.to_string()),
        }
    }
}

impl Default for Health {
    fn default() -> Self {
        let state = State {
            is_up: None,
            draining: false,
            since: unix_millis(),
            good_rounds: 0,
            failed_rounds: 0,
            suspect: false,
            silent_since: None,
            seen: Seen::default(),
            error: None,
            connects: Connects::default(),
        };
        Self {
            state: Mutex::new(state),
            shown: AtomicU8::new(NodeState::Unknown as u8),
            draining: AtomicBool::new(false),
            password_refusals: AtomicU64::new(0),
        }
    }
}

impl Health {
    /// Notes a connect and the time that it took. True when a round should follow.
    pub(super) fn note_connect(&self, taken: Duration, failure: Option<&Fault>) -> bool {
        let mut state = self.state.lock();
        match failure {
            None => state.connects.note(taken.as_secs_f64()),
            // A shortage of this process is no fault of the node.
            Some(Fault::NoDescriptor | Fault::NoThread) => {}
            Some(_) => {
                state.connects.failures += 1;
                state.suspect = true;
                return state.is_up != Some(false);
            }
        }
        false
    }

    /// Must be called when a round begins. True when a connect has failed since the last round began.
    pub(super) fn begin_round(&self) -> bool {
        std::mem::take(&mut self.state.lock().suspect)
    }

    /// Notes the result of a round. `was_suspect` is the answer of [`begin_round`](Self::begin_round).
    pub(super) fn note_round(&self, node: impl Display, found: Result<Finding, RoundError>, was_suspect: bool) {
        let mut state = self.state.lock();
        match found {
            Ok(finding) => {
                (state.good_rounds, state.failed_rounds, state.silent_since) = (state.good_rounds + 1, 0, None);
                state.seen = Seen {
                    response_time: Some(finding.response_time.as_micros() as f64 / 1000.0),
                    lavalink_version: finding.version,
                    // A node that is too busy to tell its figures must not look idle.
                    stats: finding.stats.or(state.seen.stats),
                };
                if state.is_up.is_none() || state.good_rounds >= ROUNDS {
                    state.turn(node, true, "it answers");
                }
                if state.is_up == Some(true) {
                    state.error = finding.error;
                }
            }
            Err(error) => {
                let (reason, at_once) = match error {
                    RoundError::Shortage => {
                        state.suspect |= was_suspect;
                        return;
                    }
                    RoundError::Silent(reason) => {
                        state.silent_since.get_or_insert_with(Instant::now);
                        (reason, was_suspect)
                    }
                    RoundError::Refused(reason) => {
                        state.silent_since = None;
                        (reason, true)
                    }
                };
                (state.good_rounds, state.failed_rounds) = (0, state.failed_rounds + 1);
                if at_once || state.failed_rounds >= ROUNDS {
                    state.turn(node, false, &reason);
                    state.seen = Seen { lavalink_version: state.seen.lavalink_version.take(), ..Seen::default() };
                }
                state.error = Some(reason);
            }
        }
        self.publish(&state);
    }

    /// Takes the node out of rotation for new sessions, or back into it. False when nothing changes.
    pub(super) fn set_draining(&self, node: impl Display, draining: bool, by: &str) -> bool {
        let mut state = self.state.lock();
        if state.draining == draining {
            return false;
        }
        let before = state.shown();
        state.draining = draining;
        let word = if draining { "drain" } else { "activate" };
        state.note_change(node, before, &format!("{word} by {by}"));
        self.publish(&state);
        true
    }

    /// True while the node is out of rotation for new sessions, whether it answers or not.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Relaxed)
    }

    /// The state of the node.
    pub fn state(&self) -> NodeState {
        let shown = self.shown.load(Relaxed);
        NodeState::ALL.into_iter().find(|state| *state as u8 == shown).unwrap_or(NodeState::Unknown)
    }

    /// Lets [`state`](Self::state) and [`is_draining`](Self::is_draining) show what has changed.
    fn publish(&self, state: &State) {
        self.shown.store(state.shown() as u8, Relaxed);
        self.draining.store(state.draining, Relaxed);
    }

    /// How long a node has not answered; `None` unless it is down.
    pub fn silent_for(&self) -> Option<Duration> {
        let state = self.state.lock();
        state.silent_since.filter(|_| state.is_up == Some(false)).map(|since| since.elapsed())
    }

    /// Notes that the node refused lavaproxy's password.
    pub(super) fn note_password_refusal(&self) {
        self.password_refusals.fetch_add(1, Relaxed);
    }

    /// How often the node refused lavaproxy's password.
    pub fn password_refusals(&self) -> u64 {
        self.password_refusals.load(Relaxed)
    }

    /// The newest figures of the node itself.
    pub fn stats(&self) -> Option<Stats> {
        self.state.lock().seen.stats
    }

    /// All figures but the connect times.
    pub fn report(&self) -> Report {
        let state = self.state.lock();
        Report { state: state.shown(), since: state.since, seen: state.seen.clone(), error: state.error.clone() }
    }

    /// The connect times so far.
    pub fn connects(&self) -> Connects {
        self.state.lock().connects
    }
}

impl State {
    fn shown(&self) -> NodeState {
        match (self.is_up, self.draining) {
            (Some(false), _) => NodeState::Down,
            (_, true) => NodeState::Draining,
            (Some(true), false) => NodeState::Up,
            (None, false) => NodeState::Unknown,
        }
    }

    fn turn(&mut self, node: impl Display, is_up: bool, reason: &str) {
        let before = self.shown();
        self.is_up = Some(is_up);
        self.note_change(node, before, reason);
    }

    /// Logs a change of the state.
    fn note_change(&mut self, node: impl Display, before: NodeState, reason: &str) {
        let after = self.shown();
        if after == before {
            return;
        }
        self.since = unix_millis();
        let (before, reason) = (before.name(), Quoted(reason));
        match after {
            NodeState::Down => warn!("event=node-down {node} before={before} reason={reason}"),
            _ => info!("event=node-{} {node} before={before} reason={reason}", after.name()),
        }
    }
}

impl Connects {
    fn note(&mut self, seconds: f64) {
        self.count += 1;
        self.sum += seconds;
        if let Some(bucket) = CONNECT_BOUNDS.iter().position(|bound| seconds <= *bound) {
            self.buckets[bucket] += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connect_times_are_counted_in_buckets() {
        let mut connects = Connects::default();
        for seconds in [0.0, 0.0005, 0.0006, 0.7, 60.0] {
            connects.note(seconds);
        }
        assert_eq!(connects.buckets, [2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0]);
        assert_eq!(connects.count, 5);
    }

    fn good() -> Result<Finding, RoundError> {
        Ok(Finding { response_time: Duration::from_millis(2), version: None, stats: None, error: None })
    }

    fn silent() -> Result<Finding, RoundError> {
        Err(RoundError::Silent("no answer".to_owned()))
    }

    fn after(rounds: Vec<Result<Finding, RoundError>>) -> Health {
        let health = Health::default();
        for round in rounds {
            health.note_round("node=a", round, false);
        }
        health
    }

    #[test]
    fn the_first_round_decides_alone_and_later_two_in_a_row() {
        use NodeState::{Down, Unknown, Up};
        for (rounds, expected) in [
            (vec![], Unknown),
            (vec![good()], Up),
            (vec![silent()], Unknown),
            (vec![silent(), silent()], Down),
            (vec![good(), silent()], Up),
            (vec![good(), silent(), good(), silent()], Up),
            (vec![good(), silent(), silent()], Down),
            (vec![silent(), silent(), good()], Down),
            (vec![silent(), silent(), good(), silent(), good()], Down),
            (vec![silent(), silent(), good(), good()], Up),
            (vec![good(), Err(RoundError::Refused("403".to_owned()))], Down),
        ] {
            let count = rounds.len();
            assert_eq!(after(rounds).state(), expected, "{count} rounds");
        }
    }

    #[test]
    fn a_failed_connect_and_the_round_after_it_make_a_node_down() {
        let health = after(vec![good()]);
        let refused = Fault::Backend(crate::error::BackendFault::ResponseTimeout);
        assert!(health.note_connect(Duration::ZERO, Some(&refused)));
        let was_suspect = health.begin_round();
        assert_eq!(health.state(), NodeState::Up);
        health.note_round("node=a", silent(), was_suspect);
        assert_eq!(health.state(), NodeState::Down);
        assert!(!health.note_connect(Duration::ZERO, Some(&refused)), "a node that is down needs no further round");
        assert!(!health.note_connect(Duration::ZERO, Some(&Fault::NoDescriptor)));
    }

    #[test]
    fn a_round_without_a_descriptor_or_a_thread_says_nothing_of_the_node() {
        let lacking: [fn() -> Fault; 2] = [|| Fault::NoDescriptor, || Fault::NoThread];
        for lacking in lacking {
            let shortage = || Err(RoundError::from(lacking()));
            assert_eq!(after(vec![shortage(), shortage()]).state(), NodeState::Unknown);
            let health = after(vec![good(), shortage(), shortage(), silent(), shortage()]);
            assert_eq!((health.state(), health.report().error.as_deref()), (NodeState::Up, Some("no answer")));
            health.note_round("node=a", silent(), false);
            assert_eq!(health.state(), NodeState::Down, "two failed rounds with none that says anything between them");
            let health = after(vec![good()]);
            health.note_round("node=a", shortage(), true);
            assert!(health.begin_round(), "a failed connect still waits for its round");
        }
    }

    #[test]
    fn a_node_that_refuses_is_not_silent() {
        assert!(after(vec![good()]).silent_for().is_none());
        assert!(after(vec![silent()]).silent_for().is_none());
        assert!(after(vec![silent(), silent()]).silent_for().is_some());
        assert!(after(vec![Err(RoundError::Refused(String::new()))]).silent_for().is_none());
    }

    #[test]
    fn a_round_without_figures_keeps_the_last_ones_until_the_node_is_down() {
        let stats = Some(Stats { players: 9, playing_players: 7, cpu: Cpu { system_load: 0.5 } });
        let with_stats = || good().map(|finding| Finding { stats, ..finding });
        let playing = |health: &Health| health.stats().map(|stats| stats.playing_players);
        assert_eq!(playing(&after(vec![with_stats(), good()])), Some(7));
        assert_eq!(playing(&after(vec![with_stats(), silent()])), Some(7));
        assert_eq!(playing(&after(vec![with_stats(), silent(), silent()])), None);
    }

    #[test]
    fn draining_is_kept_while_the_node_is_down() {
        let health = after(vec![good()]);
        assert!(health.set_draining("node=a", true, "test") && !health.set_draining("node=a", true, "test"));
        assert_eq!(health.state(), NodeState::Draining);
        health.note_round("node=a", silent(), true);
        assert_eq!(health.state(), NodeState::Down);
        health.note_round("node=a", good(), false);
        health.note_round("node=a", good(), false);
        assert_eq!(health.state(), NodeState::Draining);
        assert!(health.set_draining("node=a", false, "test"));
        assert_eq!(health.state(), NodeState::Up);
    }
}
