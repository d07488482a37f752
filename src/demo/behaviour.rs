//! The faults that a pretend node shows on request, and the counters of what it received. It touches no socket.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

/// How long a voice handshake takes unless a test says otherwise; real ones take 40 to 140 ms.
const VOICE_HANDSHAKE: Duration = Duration::from_millis(2);

/// How busy a node says it is, in `/vN/stats` and in the stats messages.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ReportedLoad {
    /// `players`.
    pub players: usize,
    /// `playingPlayers`.
    pub playing_players: usize,
    /// `cpu.systemLoad`, from 0 to 1.
    pub system_load: f64,
}

/// What a node has received since it was started; a death and a revival do not set it back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// TCP connections accepted.
    pub connections: u64,
    /// HTTP requests whose head was complete, handshakes included.
    pub requests: u64,
    /// Those of them to `loadtracks`, with the right password and an identifier.
    pub loads: u64,
    /// WebSocket sessions opened.
    pub sessions: u64,
    /// WebSocket sessions resumed.
    pub resumed: u64,
    /// The most PATCHes of players that were under way at once.
    pub most_updates: usize,
    /// The most of one session.
    pub most_updates_of_session: usize,
}

/// A PATCH of a player that is under way, by the id of its session.
pub(super) struct Updating<'b> {
    behaviour: &'b Behaviour,
    session: &'b str,
}

impl Drop for Updating<'_> {
    fn drop(&mut self) {
        let mut updates = self.behaviour.updates.lock();
        if let Some(at) = updates.iter().position(|session| session == self.session) {
            updates.swap_remove(at);
        }
    }
}

#[derive(Clone, Copy)]
struct Faults {
    hanging: bool,
    refuses_passwords: bool,
    fails_loads: bool,
    answer_delay: Duration,
    voice_handshake: Duration,
    load: Option<ReportedLoad>,
}

/// A node's faults and counters. They outlive a death of the node.
pub(super) struct Behaviour {
    faults: Mutex<Faults>,
    changed: Condvar,
    counts: Mutex<Counts>,
    /// The sessions of the PATCHes of players that are under way.
    updates: Mutex<Vec<String>>,
}

impl Behaviour {
    /// A node without faults.
    pub(super) fn new() -> Self {
        let faults = Faults {
            hanging: false,
            refuses_passwords: false,
            fails_loads: false,
            answer_delay: Duration::ZERO,
            voice_handshake: VOICE_HANDSHAKE,
            load: None,
        };
        Self {
            faults: Mutex::new(faults),
            changed: Condvar::new(),
            counts: Mutex::default(),
            updates: Mutex::default(),
        }
    }

    pub(super) fn set_hanging(&self, hanging: bool) {
        self.faults.lock().hanging = hanging;
        self.changed.notify_all();
    }

    pub(super) fn set_refuses_passwords(&self, refuses: bool) {
        self.faults.lock().refuses_passwords = refuses;
    }

    pub(super) fn set_fails_loads(&self, fails: bool) {
        self.faults.lock().fails_loads = fails;
    }

    pub(super) fn set_answer_delay(&self, delay: Duration) {
        self.faults.lock().answer_delay = delay;
    }

    pub(super) fn set_voice_handshake(&self, length: Duration) {
        self.faults.lock().voice_handshake = length;
    }

    pub(super) fn set_load(&self, load: Option<ReportedLoad>) {
        self.faults.lock().load = load;
    }

    pub(super) fn refuses_passwords(&self) -> bool {
        self.faults.lock().refuses_passwords
    }

    pub(super) fn fails_loads(&self) -> bool {
        self.faults.lock().fails_loads
    }

    pub(super) fn answer_delay(&self) -> Duration {
        self.faults.lock().answer_delay
    }

    pub(super) fn voice_handshake(&self) -> Duration {
        self.faults.lock().voice_handshake
    }

    pub(super) fn load(&self) -> Option<ReportedLoad> {
        self.faults.lock().load
    }

    /// Blocks while the node hangs, but not once `over` is true; [`Self::wake`] follows that change.
    pub(super) fn wait_while_hanging(&self, over: &AtomicBool) {
        let mut faults = self.faults.lock();
        while faults.hanging && !over.load(Ordering::Relaxed) {
            self.changed.wait(&mut faults);
        }
    }

    /// Blocks for `length`, but not once `over` is true; [`Self::wake`] follows that change.
    pub(super) fn pause(&self, length: Duration, over: &AtomicBool) {
        let until = Instant::now() + length;
        let mut faults = self.faults.lock();
        while !over.load(Ordering::Relaxed) && Instant::now() < until {
            self.changed.wait_until(&mut faults, until);
        }
    }

    /// Lets blocked threads look at their `over` flags. The lock orders this after their last look.
    pub(super) fn wake(&self) {
        drop(self.faults.lock());
        self.changed.notify_all();
    }

    pub(super) fn count(&self, add: impl FnOnce(&mut Counts)) {
        add(&mut self.counts.lock());
    }

    /// Counts a PATCH of a player of this session until the guard is dropped.
    pub(super) fn begin_update<'b>(&'b self, session: &'b str) -> Updating<'b> {
        let mut updates = self.updates.lock();
        updates.push(session.to_owned());
        let (of_all, of_one) = (updates.len(), updates.iter().filter(|other| *other == session).count());
        drop(updates);
        self.count(|counts| {
            counts.most_updates = counts.most_updates.max(of_all);
            counts.most_updates_of_session = counts.most_updates_of_session.max(of_one);
        });
        Updating { behaviour: self, session }
    }

    pub(super) fn counts(&self) -> Counts {
        *self.counts.lock()
    }
}
