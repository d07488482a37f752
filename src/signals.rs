//! What a running lavaproxy does when it is told something: SIGTERM and SIGINT stop it, SIGHUP has it read its settings
//! again, SIGUSR2 has it start its successor.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;

use log::{error, info, warn};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR2};
use signal_hook::iterator::Signals;
use signal_hook::low_level::signal_name;

use crate::config::{self, Settings};
use crate::logfmt::{self, Quoted};
use crate::notify::{Notify, State};
use crate::server::Server;
use crate::upgrade::Binary;

/// Registered signals; from then on a first SIGTERM or SIGINT is kept for [`Running`], and a second one ends the
/// process at once.
pub struct Told {
    signals: Signals,
    /// What becomes true with the first SIGTERM or SIGINT.
    stop: Arc<AtomicBool>,
}

impl Told {
    /// Takes SIGTERM and SIGINT, and these signals as well.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn register(further: &[i32]) -> io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            signal_hook::flag::register_conditional_shutdown(signal, 1, Arc::clone(&stop))?;
            signal_hook::flag::register(signal, Arc::clone(&stop))?;
        }
        Ok(Self { signals: Signals::new([&[SIGINT, SIGTERM], further].concat())?, stop })
    }

    /// Waits for SIGTERM or SIGINT, whatever else comes.
    pub fn wait_for_stop(&mut self) {
        log_stop(self.signals.forever().find(|signal| matches!(*signal, SIGINT | SIGTERM)));
    }
}

fn log_stop(signal: Option<i32>) {
    info!("event=stopping signal={}", signal.and_then(signal_name).unwrap_or("none"));
}

/// Those that only a lavaproxy that is no demo obeys.
pub const FURTHER: [i32; 2] = [SIGHUP, SIGUSR2];

/// A lavaproxy that serves, with what it needs to obey.
pub struct Running<'r> {
    /// Who serves.
    pub server: &'r Server,
    /// The settings in force.
    pub settings: Settings,
    /// The env file that the command named, if it named one.
    pub env_file: Option<PathBuf>,
    /// The command to start again, or why it is not known.
    pub binary: io::Result<Binary>,
    /// Who wants to know.
    pub notify: &'r Notify,
}

impl Running<'_> {
    /// Obeys until it has been stopped or its successor has taken over.
    pub fn obey(mut self, told: &mut Told) {
        loop {
            match told.signals.forever().next() {
                Some(SIGHUP) => self.reload(),
                Some(SIGUSR2) => {
                    if self.start_successor() {
                        return self.hand_over(told);
                    }
                }
                signal => {
                    log_stop(signal);
                    self.notify.say(State::Stopping);
                    return self.server.stop();
                }
            }
        }
    }

    /// Takes new settings when all of them are good, else none.
    fn reload(&mut self) {
        self.notify.say(State::Reloading);
        match config::reload(self.env_file.as_deref(), &self.settings) {
            Err(faults) => {
                for fault in faults.iter() {
                    error!(
                        "event=reload-refused fault={} hint=\"the settings before it stay in force\"",
                        Quoted(fault)
                    );
                }
            }
            Ok(loaded) => match self.server.reload(&loaded.settings) {
                Err(error) => error!("event=reload-refused fault={}", Quoted(error)),
                Ok(()) => self.reloaded(loaded),
            },
        }
        self.notify.say(State::Ready);
    }

    fn reloaded(&mut self, loaded: config::Loaded) {
        logfmt::set_filter(&loaded.settings.log_level);
        let changed = loaded.settings.differences(&self.settings);
        info!("event=reload changed={}", Quoted(changed.join(",")));
        for warning in &loaded.warnings {
            warn!("event=settings warning={}", Quoted(warning));
        }
        if !loaded.need_restart.is_empty() {
            let settings = loaded.need_restart.join(",");
            warn!("event=restart-needed settings={settings} hint=\"a door moves only in a restart\"");
        }
        self.settings = loaded.settings;
    }

    /// True when there is another process that serves.
    fn start_successor(&self) -> bool {
        info!("event=upgrade");
        let started = match &self.binary {
            Ok(binary) => binary.start_successor(&self.server.listeners()).map_err(|error| error.to_string()),
            Err(error) => Err(format!("the path of this process's binary is not known: {error}")),
        };
        match started {
            Ok(pid) => {
                info!("event=upgraded successor={pid}");
                self.notify.say(State::Successor(pid));
                true
            }
            Err(error) => {
                error!("event=upgrade-failed error={} hint=\"this process goes on to serve\"", Quoted(error));
                false
            }
        }
    }

    /// Lets connections live until DRAIN_TIMEOUT, or until this process, too, is told to stop.
    fn hand_over(&self, told: &mut Told) {
        let handle = told.signals.handle();
        thread::scope(|scope| {
            let leaving = thread::Builder::new().spawn_scoped(scope, || {
                self.server.hand_over();
                handle.close();
            });
            if leaving.is_err() {
                return self.server.stop();
            }
            let stopped = told.signals.forever().any(|signal| matches!(signal, SIGINT | SIGTERM));
            if stopped || told.stop.load(SeqCst) {
                self.server.hurry();
            }
        });
    }
}
