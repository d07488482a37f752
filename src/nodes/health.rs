//! What is known of how the nodes are, from connections made for clients and from the [`prober`](super::prober).
//!
//! It keeps figures and touches no socket. It decides nothing: requests go to a node that is thought to be down as
//! to any other.

use std::fmt::Display;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use log::{info, warn};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::config::Lavalink;
use crate::error::Fault;
use crate::logfmt::Quoted;

/// The upper bounds of the connect times that are counted, in seconds.
pub const CONNECT_BOUNDS: [f64; 12] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];

/// What is known of a node.
#[derive(Default)]
pub struct Health(Mutex<State>);

#[derive(Default)]
struct State {
    reachable: Option<bool>,
    /// It takes connections but does not answer: another connection proves nothing.
    deaf: bool,
    since: Option<u64>,
    checked_at: Option<u64>,
    response_time: Option<f64>,
    lavalink_version: Option<String>,
    players: Option<u64>,
    playing_players: Option<u64>,
    error: Option<String>,
    connects: Connects,
}

/// How long the connections took that a node accepted.
#[derive(Clone, Copy, Debug, Default)]
pub struct Connects {
    /// How many took no longer than each of [`CONNECT_BOUNDS`] and longer than the one before it.
    pub buckets: [u64; CONNECT_BOUNDS.len()],
    /// All of them, the slower ones too.
    pub count: u64,
    /// The sum of their times, in seconds.
    pub sum: f64,
    /// Connections that were not to be had.
    pub failures: u64,
}

/// What is known of a node, as the API shows it. Times are milliseconds since the epoch.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The version it is configured as.
    pub version: &'static str,
    /// Its address as configured.
    pub address: Arc<str>,
    /// `None` until somebody has tried.
    pub reachable: Option<bool>,
    /// Since when it is reachable or not.
    pub since: Option<u64>,
    /// When it was tried last, by a check or for a client.
    pub checked_at: Option<u64>,
    /// From the connect to the whole answer of `GET /version`, in milliseconds.
    pub response_time: Option<f64>,
    /// What it says its version is.
    pub lavalink_version: Option<String>,
    /// Its players, all clients together.
    pub players: Option<u64>,
    /// Of these, how many play.
    pub playing_players: Option<u64>,
    /// What is wrong and what mends it.
    pub error: Option<String>,
}

/// What one check found out of a node that answers.
pub(super) struct Finding {
    pub(super) response_time: Duration,
    pub(super) version: Option<String>,
    pub(super) stats: Option<Stats>,
    pub(super) error: Option<String>,
}

/// The part of Lavalink's own figures that is shown.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Stats {
    players: u64,
    playing_players: u64,
}

impl Health {
    /// Notes a connection that was made or tried; `taken` is the time it took.
    pub(super) fn note_connect(&self, backend: impl Display, taken: Duration, failure: Option<&Fault>) {
        let mut state = self.0.lock();
        match failure {
            None => {
                state.connects.note(taken.as_secs_f64());
                if !state.deaf {
                    state.turn(backend, Ok(()));
                }
            }
            // Our own lack says nothing of the node.
            Some(Fault::NoDescriptor | Fault::NoThread) => {}
            Some(fault) => {
                state.connects.failures += 1;
                state.deaf = false;
                state.turn(backend, Err(fault.to_string()));
            }
        }
    }

    /// Notes what a check found out, or why there was no answer on a connection that was taken.
    pub(super) fn note_finding(&self, backend: impl Display, finding: Result<Finding, String>) {
        let mut state = self.0.lock();
        match finding {
            Ok(finding) => {
                state.deaf = false;
                state.turn(backend, Ok(()));
                state.response_time = Some(finding.response_time.as_micros() as f64 / 1000.0);
                state.lavalink_version = finding.version;
                state.players = finding.stats.as_ref().map(|stats| stats.players);
                state.playing_players = finding.stats.map(|stats| stats.playing_players);
                state.error = finding.error;
            }
            Err(error) => {
                state.deaf = true;
                state.turn(backend, Err(error));
            }
        }
    }

    pub(super) fn report(&self, version: Lavalink, address: &Arc<str>) -> Report {
        let state = self.0.lock();
        Report {
            version: version.name(),
            address: Arc::clone(address),
            reachable: state.reachable,
            since: state.since,
            checked_at: state.checked_at,
            response_time: state.response_time,
            lavalink_version: state.lavalink_version.clone(),
            players: state.players,
            playing_players: state.playing_players,
            error: state.error.clone(),
        }
    }

    /// The connect times so far.
    pub fn connects(&self) -> Connects {
        self.0.lock().connects
    }
}

impl State {
    /// One line when the node goes and one when it is back, not one per request.
    fn turn(&mut self, backend: impl Display, outcome: Result<(), String>) {
        let now = u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis());
        let now = now.unwrap_or(u64::MAX);
        let before = self.reachable.replace(outcome.is_ok());
        if before != self.reachable {
            self.since = Some(now);
        }
        self.checked_at = Some(now);
        match outcome {
            Ok(()) => {
                if before == Some(false) {
                    self.error = None;
                    info!("event=backend-up backend={backend}");
                }
            }
            Err(error) => {
                if before != Some(false) {
                    warn!("event=backend-down backend={backend} error={}", Quoted(&error));
                }
                (self.response_time, self.players, self.playing_players) = (None, None, None);
                self.error = Some(error);
            }
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
    fn connect_times_fall_into_their_buckets() {
        let mut connects = Connects::default();
        for seconds in [0.0, 0.0005, 0.0006, 0.7, 60.0] {
            connects.note(seconds);
        }
        assert_eq!(connects.buckets, [2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0]);
        assert_eq!(connects.count, 5);
    }
}
