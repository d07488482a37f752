//! All sessions of a node, and the clock that sends them stats and positions. It has one lock, which is
//! never held during a write.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};

use super::about::{self, Load};
use super::behaviour::{Behaviour, ReportedLoad};
use super::session::{Outbox, STATS_INTERVAL, Session};
use super::wire::Wire;
use crate::config::Lavalink;

/// The least time between two passes of the clock over all sessions.
const CLOCK_STEP: Duration = Duration::from_millis(5);

/// The sessions of a node.
pub(super) struct Sessions {
    version: Lavalink,
    started: Instant,
    behaviour: Arc<Behaviour>,
    table: Mutex<Table>,
    changed: Condvar,
}

#[derive(Default)]
struct Table {
    sessions: HashMap<String, Session>,
    /// Until when the clock waits, while it waits.
    clock_waits: Option<Instant>,
    stopped: bool,
}

impl Table {
    /// The session that waits to be resumed by that key.
    fn away(&mut self, key: &str) -> Option<&mut Session> {
        self.sessions
            .values_mut()
            .find(|session| session.outbox.is_none() && session.resume_key.as_deref() == Some(key))
    }
}

impl Sessions {
    pub(super) fn new(version: Lavalink, started: Instant, behaviour: &Arc<Behaviour>) -> Self {
        Self { version, started, behaviour: Arc::clone(behaviour), table: Mutex::default(), changed: Condvar::new() }
    }

    /// Opens a session on a socket whose handshake is done, or resumes the one that `key` names, and sends `ready`.
    /// Returns its id. `None` when the node stops.
    pub(super) fn open(&self, wire: &Arc<Wire>, key: Option<&str>) -> Option<(String, Arc<Outbox>)> {
        let outbox = Arc::new(Outbox::new(wire));
        let now = Instant::now();
        let mut table = self.table.lock();
        if table.stopped {
            return None;
        }
        let resumed = key.and_then(|key| table.away(key)).map(|session| {
            session.resume(Arc::clone(&outbox), now);
            session.id.clone()
        });
        self.behaviour.count(|counts| *if resumed.is_some() { &mut counts.resumed } else { &mut counts.sessions } += 1);
        let id = resumed.unwrap_or_else(|| {
            let id = new_id();
            let mut session = Session::new(id.clone(), self.version, Arc::clone(&outbox), now);
            session.send_ready(false);
            session.send(about::stats_message(self.version, self.load_of(&table, now)));
            table.sessions.insert(id.clone(), session);
            id
        });
        self.let_clock_see(table, &id);
        outbox.flush();
        Some((id, outbox))
    }

    /// Whether `key` names a session that can be resumed. As in Lavalink this already stops its expiry, and a
    /// second call says no although the session is still there.
    pub(super) fn claim(&self, key: &str) -> bool {
        self.table.lock().away(key).is_some_and(|session| session.expires.take().is_some())
    }

    /// The session's socket is gone.
    pub(super) fn close(&self, id: &str) {
        let now = Instant::now();
        let mut table = self.table.lock();
        let Some(mut session) = table.sessions.remove(id) else { return };
        if session.park(now) {
            // This session replaces one of the same key that is away already.
            if let Some(older) = session.resume_key.as_deref().and_then(|key| table.away(key)) {
                let older = older.id.clone();
                table.sessions.remove(&older);
            }
            table.sessions.insert(id.to_owned(), session);
        }
        self.let_clock_see(table, id);
    }

    /// Changes a connected session and sends the messages that result; `None` when there is no such session.
    pub(super) fn with<T>(&self, id: &str, work: impl FnOnce(&mut Session, Instant) -> T) -> Option<T> {
        let mut table = self.table.lock();
        let session = table.sessions.get_mut(id)?;
        let outbox = Arc::clone(session.outbox.as_ref()?);
        let result = work(session, Instant::now());
        self.let_clock_see(table, id);
        outbox.flush();
        Some(result)
    }

    /// Wakes the clock if it would wait beyond what a changed session has to send.
    fn let_clock_see(&self, mut table: MutexGuard<'_, Table>, id: &str) {
        let waits = table.clock_waits;
        if let Some(session) = table.sessions.get_mut(id) {
            session.schedule();
            if waits.is_some_and(|until| session.due < until) {
                self.changed.notify_all();
            }
        }
    }

    /// The ids of all, those that wait to be resumed included.
    pub(super) fn ids(&self) -> Vec<String> {
        self.table.lock().sessions.keys().cloned().collect()
    }

    /// How many players there are, whatever the node reports.
    pub(super) fn players(&self) -> usize {
        self.table.lock().sessions.values().map(|session| session.players.len()).sum()
    }

    /// How busy the node is, or says that it is.
    pub(super) fn load(&self) -> Load {
        self.load_of(&self.table.lock(), Instant::now())
    }

    fn load_of(&self, table: &Table, now: Instant) -> Load {
        let uptime = now.saturating_duration_since(self.started);
        if let Some(ReportedLoad { players, playing_players, system_load }) = self.behaviour.load() {
            return Load { players, playing: playing_players, system_load, uptime };
        }
        let players = || table.sessions.values().flat_map(|session| session.players.values());
        let playing = players().filter(|player| player.is_playing()).count();
        Load { players: players().count(), playing, system_load: 0.05 + playing as f64 / 1000.0, uptime }
    }

    /// Sends what is due until the node stops; it runs on a thread of its own.
    pub(super) fn run_clock(&self) {
        let mut table = self.table.lock();
        while !table.stopped {
            let now = Instant::now();
            table.sessions.retain(|_, session| session.expires.is_none_or(|expires| expires > now));
            let stats = match table.sessions.values().any(|session| session.wants_stats(now)) {
                true => about::stats_message(self.version, self.load_of(&table, now)),
                false => String::new(),
            };
            let mut due = now + STATS_INTERVAL;
            let mut outboxes = Vec::new();
            for session in table.sessions.values_mut() {
                if session.due <= now {
                    session.tick(now, &stats);
                    session.schedule();
                    outboxes.extend(session.outbox.clone());
                }
                due = due.min(session.due);
            }
            if outboxes.is_empty() {
                // One pass serves all that is due within a few milliseconds, however many players there are.
                let until = due.max(now + CLOCK_STEP);
                table.clock_waits = Some(until);
                self.changed.wait_until(&mut table, until);
                table.clock_waits = None;
            } else {
                drop(table);
                outboxes.iter().for_each(|outbox| outbox.flush());
                table = self.table.lock();
            }
        }
    }

    /// Ends all sessions; `with_close` sends each a close 1001, which is lost when the client does not read it.
    pub(super) fn stop(&self, with_close: bool) {
        let mut table = self.table.lock();
        table.stopped = true;
        let sessions = std::mem::take(&mut table.sessions);
        drop(table);
        self.changed.notify_all();
        for session in sessions.values().filter(|_| with_close) {
            session.send_close(1001);
            session.outbox.iter().for_each(|outbox| outbox.drain());
        }
    }
}

/// 16 characters of [a-z0-9]. The hasher's seed is the only randomness in std.
fn new_id() -> String {
    const CHARACTERS: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";
    let mut random = RandomState::new().build_hasher();
    (0..16u8)
        .map(|index| {
            random.write_u8(index);
            let index = usize::try_from(random.finish() % 36).unwrap_or(0);
            char::from(CHARACTERS[index])
        })
        .collect()
}
