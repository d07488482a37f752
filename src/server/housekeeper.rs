//! The thread that does what is due by time: once a second it looks at everything that ages.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use parking_lot::Mutex;

use super::{Current, NodeHandle, sample};
use crate::admission::Admission;
use crate::history::History;
use crate::ledger::Ledger;
use crate::limits::Limits;
use crate::process::notify::Watchdog;
use crate::sessions::table::Sessions;
use crate::unix_time::unix_millis;

/// What it looks at.
pub(super) struct Housekeeper {
    pub ledger: Arc<Ledger>,
    pub limits: Arc<Limits>,
    pub proxy: Arc<Admission>,
    pub current: Arc<Mutex<Current>>,
    pub sessions: Arc<Sessions>,
    pub history: Arc<History>,
    pub watchdog: Option<Watchdog>,
}

impl Housekeeper {
    /// Starts the thread. It ends when the sender is dropped.
    pub fn start(mut self) -> io::Result<(Sender<()>, JoinHandle<()>)> {
        let (stop, stopped) = mpsc::channel();
        let thread = thread::Builder::new().name("housekeeper".to_owned()).spawn(move || {
            while stopped.recv_timeout(Duration::from_secs(1)) == Err(RecvTimeoutError::Timeout) {
                self.tick();
            }
        })?;
        Ok((stop, thread))
    }

    /// Takes the samples for the rates and for the history, ends old bans, closes old idle connections to nodes, ends
    /// the tunnels of lost nodes and the connections of refused accounts, and notifies the watchdog. The watchdog is
    /// last: it is not notified when the ledger is stuck.
    fn tick(&mut self) {
        self.ledger.tick();
        self.limits.tick();
        let mut now = self.current.lock();
        now.nodes.iter().for_each(|node| node.backend.sweep());
        now.fail_over(&self.proxy);
        now.end_refused_accounts(&self.proxy);
        self.proxy.cut_overdue();
        now.leaving.retain(NodeHandle::has_sessions);
        drop(now);
        self.sessions.sweep();
        self.history.tick(unix_millis(), || sample::take(&self.ledger, &self.current.lock()));
        if let Some(watchdog) = &mut self.watchdog {
            watchdog.tick();
        }
    }
}
