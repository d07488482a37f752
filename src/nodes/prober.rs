//! Checks the health of a node: `GET /version`, then `GET /vN/stats`, in a thread per node. The node's `schedule` says
//! when.
//!
//! It opens connections of its own, with bounds on time and size, and never touches those of clients.

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::backend::Backend;
use super::health::{Finding, RoundError};
use crate::config::Lavalink;
use crate::error::is_timeout;
use crate::http::peer::{Peer, Reply};

/// The longest time of one round. It is half an interval if that is shorter, so that a node that hangs is down within
/// three intervals.
const PATIENCE: Duration = Duration::from_secs(5);
/// The largest answer, in bytes.
const MAX_ANSWER: u64 = 64 * 1024;
/// The longest version that is shown, in characters.
const MAX_VERSION: usize = 64;
/// The stack of a prober.
const STACK: usize = 128 * 1024;

/// The prober of one node. It stops when it is dropped.
pub struct Prober(Arc<Backend>);

struct Rounds {
    backend: Arc<Backend>,
    version: Lavalink,
}

impl Prober {
    /// Starts the thread.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(backend: &Arc<Backend>, version: Lavalink) -> io::Result<Self> {
        let rounds = Rounds { backend: Arc::clone(backend), version };
        let name = format!("prober-{}", backend.name());
        thread::Builder::new().name(name).stack_size(STACK).spawn(move || rounds.run())?;
        Ok(Self(Arc::clone(backend)))
    }
}

impl Drop for Prober {
    fn drop(&mut self) {
        self.0.schedule().stop();
    }
}

impl Rounds {
    fn run(&self) {
        while self.backend.schedule().next() {
            self.round();
            self.backend.schedule().end();
        }
    }

    fn round(&self) {
        let health = self.backend.health();
        let was_suspect = health.begin_round();
        let started = Instant::now();
        let deadline = started + PATIENCE.min(self.backend.schedule().interval() / 2);
        let found = self.ask("/version", deadline);
        let found = found.and_then(|reply| self.judge(&reply, started.elapsed(), deadline));
        health.note_round(self.backend.label(), found, was_suspect);
    }

    fn judge(&self, reply: &Reply, response_time: Duration, deadline: Instant) -> Result<Finding, RoundError> {
        let mut finding = Finding { response_time, version: None, stats: None, error: None };
        match reply.status {
            200 => {
                let version = version_text(&reply.body);
                if is_another(&version, self.version) {
                    let address = self.backend.address_settings();
                    finding.error =
                        Some(format!("this is Lavalink {version}; let {address} name a Lavalink {}", self.version));
                }
                finding.version = Some(version);
                let stats = self.ask(&format!("/{}/stats", self.version), deadline);
                let stats = stats.ok().filter(|stats| stats.status == 200);
                finding.stats = stats.and_then(|stats| serde_json::from_slice(&stats.body).ok());
            }
            401 | 403 => {
                self.backend.password_refused();
                let setting = self.backend.password_setting();
                return Err(RoundError::Refused(format!(
                    "the node refuses the password; set {setting} to the one in its application.yml"
                )));
            }
            status => finding.error = Some(format!("the node answers GET /version with {status}; see its log")),
        }
        Ok(finding)
    }

    fn ask(&self, path: &str, deadline: Instant) -> Result<Reply, RoundError> {
        let backend = &self.backend;
        let time = deadline.saturating_duration_since(Instant::now());
        let link = backend.fresh_link(time)?;
        let password = backend.password().map_or("", |password| password.expose());
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {}\r\nAuthorization: {password}\r\nUser-Agent: lavaproxy/{}\r\nConnection: close\r\n\r\n",
            backend.address(),
            env!("CARGO_PKG_VERSION"),
        );
        let asked = Peer::new(&link).ask(request.as_bytes(), MAX_ANSWER, |link| link.read_until(deadline));
        asked.map_err(|error| {
            RoundError::Silent(match is_timeout(&error) {
                true => format!("{backend} takes connections but did not answer within {}ms", time.as_millis()),
                false => format!("{backend} takes connections but does not answer as Lavalink does: {error}"),
            })
        })
    }
}

/// The version in a node's answer, as one short line.
fn version_text(body: &[u8]) -> String {
    String::from_utf8_lossy(body).trim().chars().filter(|c| !c.is_control()).take(MAX_VERSION).collect()
}

/// True when `version` is clearly another major version.
fn is_another(version: &str, expected: Lavalink) -> bool {
    let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok());
    major.is_some_and(|major| format!("v{major}") != expected.name())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_one_line_and_show_another_major() {
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
