//! A thread per node that asks it now and then how it is: `GET /version`, then `GET /vN/stats`.
//!
//! It opens links of its own, bounded in time and size, and never touches those of clients.

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};

use super::backend::Backend;
use super::health::{Connects, Finding, Report};
use crate::config::Lavalink;
use crate::error::is_timeout;
use crate::http::peer::{Peer, Reply};

/// How often a node is asked.
const INTERVAL: Duration = Duration::from_secs(15);
/// The least time between two rounds, however often `check now` is pressed.
const LEAST_INTERVAL: Duration = Duration::from_secs(1);
/// How long a node may take for one answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// The largest answer that is read, in bytes.
const MAX_ANSWER: u64 = 64 * 1024;
/// The longest version that is shown, in characters.
const MAX_VERSION: usize = 64;
/// The stack of a prober.
const STACK: usize = 128 * 1024;

/// Asks a node every 15 seconds, and when told to. Stops when dropped.
pub struct Prober(Arc<Rounds>);

struct Rounds {
    backend: Arc<Backend>,
    version: Lavalink,
    round: Mutex<Round>,
    changed: Condvar,
}

#[derive(Default)]
struct Round {
    wanted: bool,
    running: bool,
    ended: Option<Instant>,
    stop: bool,
}

impl Prober {
    /// The first round comes after one interval, unless somebody asks.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(backend: Arc<Backend>, version: Lavalink) -> io::Result<Self> {
        let rounds = Arc::new(Rounds { backend, version, round: Mutex::default(), changed: Condvar::new() });
        let its_own = Arc::clone(&rounds);
        thread::Builder::new().name(format!("prober-{version}")).stack_size(STACK).spawn(move || its_own.run())?;
        Ok(Self(rounds))
    }

    /// Asks for a round now. False when one is under way or has only just ended, which will do.
    pub fn check_now(&self) -> bool {
        let mut round = self.0.round.lock();
        let due = !round.wanted && !round.running && round.ended.is_none_or(|ended| ended.elapsed() >= LEAST_INTERVAL);
        if due {
            round.wanted = true;
            self.0.changed.notify_all();
        }
        due
    }

    /// False until the first round has ended.
    pub fn has_checked(&self) -> bool {
        self.0.round.lock().ended.is_some()
    }

    /// Waits until no round is due or under way, or until `deadline`.
    pub fn wait(&self, deadline: Instant) {
        let mut round = self.0.round.lock();
        while (round.wanted || round.running) && !round.stop {
            if self.0.changed.wait_until(&mut round, deadline).timed_out() {
                return;
            }
        }
    }

    /// The version this node is for.
    pub fn version(&self) -> Lavalink {
        self.0.version
    }

    /// What is known of the node.
    pub fn report(&self) -> Report {
        self.0.backend.health().report(self.0.version, self.0.backend.name())
    }

    /// How long connections to it took.
    pub fn connects(&self) -> Connects {
        self.0.backend.health().connects()
    }
}

impl Drop for Prober {
    fn drop(&mut self) {
        self.0.round.lock().stop = true;
        self.0.changed.notify_all();
    }
}

impl Rounds {
    fn run(&self) {
        let mut round = self.round.lock();
        while !round.stop {
            let next = Instant::now() + INTERVAL;
            while !round.wanted && !round.stop && !self.changed.wait_until(&mut round, next).timed_out() {}
            if round.stop {
                return;
            }
            (round.wanted, round.running) = (false, true);
            MutexGuard::unlocked(&mut round, || self.probe());
            (round.running, round.ended) = (false, Some(Instant::now()));
            self.changed.notify_all();
        }
    }

    fn probe(&self) {
        let started = Instant::now();
        let finding = match self.ask("/version") {
            // That no connection was to be had was noted where it was tried.
            Err(Failure::Connect) => return,
            Err(Failure::Answer(error)) => Err(error),
            Ok(reply) => Ok(self.judge(&reply, started.elapsed())),
        };
        self.backend.health().note_finding(&self.backend, finding);
    }

    fn judge(&self, reply: &Reply, response_time: Duration) -> Finding {
        let mut finding = Finding { response_time, version: None, stats: None, error: None };
        let name = self.version.name().to_ascii_uppercase();
        match reply.status {
            200 => {
                let version = version_text(&reply.body);
                if is_another(&version, self.version) {
                    finding.error = Some(format!(
                        "this is Lavalink {version}; set LAVALINK_{name}_PORT to a Lavalink {}",
                        self.version
                    ));
                }
                finding.version = Some(version);
                let stats = self.ask(&format!("/{}/stats", self.version)).ok().filter(|stats| stats.status == 200);
                finding.stats = stats.and_then(|stats| serde_json::from_slice(&stats.body).ok());
            }
            401 | 403 => {
                self.backend.password_refused();
                let setting = self.backend.password_setting();
                finding.error =
                    Some(format!("the node refuses the password; set {setting} to the one in its application.yml"));
            }
            status => finding.error = Some(format!("the node answers GET /version with {status}; see its log")),
        }
        finding
    }

    fn ask(&self, path: &str) -> Result<Reply, Failure> {
        let backend = &self.backend;
        let link = backend.link(true).map_err(|_| Failure::Connect)?;
        let password = backend.password().map_or("", |password| password.expose());
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {}\r\nAuthorization: {password}\r\nUser-Agent: lavaproxy/{}\r\nConnection: close\r\n\r\n",
            backend.name(),
            env!("CARGO_PKG_VERSION"),
        );
        let deadline = Instant::now() + PATIENCE;
        let asked = Peer::new(&link).ask(request.as_bytes(), MAX_ANSWER, |link| link.read_until(deadline));
        asked.map_err(|error| {
            Failure::Answer(match is_timeout(&error) {
                true => format!("{backend} takes connections but did not answer within {}s", PATIENCE.as_secs()),
                false => format!("{backend} takes connections but does not answer as Lavalink does: {error}"),
            })
        })
    }
}

enum Failure {
    Connect,
    Answer(String),
}

/// What a node says its version is, as one short line.
fn version_text(body: &[u8]) -> String {
    String::from_utf8_lossy(body).trim().chars().filter(|c| !c.is_control()).take(MAX_VERSION).collect()
}

/// True when `version` is clearly that of another major version.
fn is_another(version: &str, expected: Lavalink) -> bool {
    let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok());
    major.is_some_and(|major| format!("v{major}") != expected.name())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_lines_and_tell_their_major() {
        assert_eq!(version_text(b" 4.0.8\r\n"), "4.0.8");
        assert_eq!(version_text(&[b'x'; 1000]).len(), MAX_VERSION);
        for (version, expected, another) in [
            ("4.0.8", Lavalink::V4, false),
            ("4.0.8", Lavalink::V3, true),
            ("3.7.13-SNAPSHOT", Lavalink::V4, true),
            ("dev", Lavalink::V3, false),
            ("8e2f9b", Lavalink::V4, false),
        ] {
            assert_eq!(is_another(version, expected), another, "{version}");
        }
    }
}
