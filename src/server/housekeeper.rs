//! The thread that does what is due by time: once a second it looks at everything that ages.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::{Lasting, NodeHandle, sample};
use crate::admission::Admission;
use crate::process::notify::Watchdog;
use crate::unix_time::unix_millis;

/// What it looks at.
pub(super) struct Housekeeper {
    pub lasting: Lasting,
    pub proxy: Arc<Admission>,
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
        let Lasting { ledger, limits, sessions, history, current } = &self.lasting;
        ledger.tick();
        limits.tick();
        let mut now = current.lock();
        now.nodes.iter().for_each(|node| node.backend.sweep());
        now.fail_over(&self.proxy);
        now.end_refused_accounts(&self.proxy);
        self.proxy.cut_overdue();
        now.leaving.retain(NodeHandle::has_sessions);
        drop(now);
        sessions.sweep();
        history.tick(unix_millis(), || sample::take(ledger, &current.lock()));
        if let Some(watchdog) = &mut self.watchdog {
            watchdog.tick();
        }
    }
}
