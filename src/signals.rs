//! What a running lavaproxy does on a signal: SIGTERM and SIGINT stop it, SIGHUP makes it read its settings again, and
//! SIGUSR2 makes it start its successor.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;

use log::{error, info, warn};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR2};
use signal_hook::iterator::Signals as Incoming;
use signal_hook::low_level::signal_name;

use crate::config::{self, Settings};
use crate::logfmt::{self, Quoted};
use crate::process::notify::{Notify, State};
use crate::process::upgrade::Binary;
use crate::server::Server;

/// The registered signals. The first SIGTERM or SIGINT goes to [`Running`]; a second one ends the process at once.
pub struct Signals {
    incoming: Incoming,
    /// Becomes true with the first SIGTERM or SIGINT.
    stop: Arc<AtomicBool>,
}

impl Signals {
    /// Registers SIGTERM, SIGINT and the `further` signals.
    ///
    /// # Errors
    /// When the system refuses a signal.
    pub fn register(further: &[i32]) -> io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            signal_hook::flag::register_conditional_shutdown(signal, 1, Arc::clone(&stop))?;
            signal_hook::flag::register(signal, Arc::clone(&stop))?;
        }
        Ok(Self { incoming: Incoming::new([&[SIGINT, SIGTERM], further].concat())?, stop })
    }

    /// Waits for SIGTERM or SIGINT and ignores the others.
    pub fn wait_for_stop(&mut self) {
        log_stop(self.incoming.forever().find(|signal| matches!(*signal, SIGINT | SIGTERM)));
    }
}

fn log_stop(signal: Option<i32>) {
    info!("event=stopping signal={}", signal.and_then(signal_name).unwrap_or("none"));
}

/// The signals that a running lavaproxy handles besides SIGTERM and SIGINT. The demo does not handle them.
pub const FURTHER: [i32; 2] = [SIGHUP, SIGUSR2];

/// A running lavaproxy, with all that acting on signals needs.
pub struct Running<'r> {
    /// The server.
    pub server: &'r Server,
    /// The settings in force.
    pub settings: Settings,
    /// The env file that the command named, if it named one.
    pub env_file: Option<PathBuf>,
    /// The command to start again, or the reason why it is not known.
    pub binary: io::Result<Binary>,
    /// The supervisor, if there is one.
    pub notify: &'r Notify,
}

impl Running<'_> {
    /// Acts on signals until lavaproxy has stopped or its successor has taken over.
    pub fn run(mut self, signals: &mut Signals) {
        loop {
            match signals.incoming.forever().next() {
                Some(SIGHUP) => self.reload(),
                Some(SIGUSR2) => {
                    if self.start_successor() {
                        return self.hand_over(signals);
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

    /// Takes the new settings if all of them are valid, else none.
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
            warn!("event=restart-needed settings={settings} hint=\"a listener moves only in a restart\"");
        }
        self.settings = loaded.settings;
    }

    /// Starts the successor. True once it serves.
    fn start_successor(&self) -> bool {
        info!("event=upgrade");
        let started = match &self.binary {
            Ok(binary) => binary
                .start_successor(&self.server.listeners(), &self.server.draining())
                .map_err(|error| error.to_string()),
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

    /// Serves the remaining connections until they end, until DRAIN_TIMEOUT, or until a signal stops this process.
    fn hand_over(&self, signals: &mut Signals) {
        let handle = signals.incoming.handle();
        thread::scope(|scope| {
            let leaving = thread::Builder::new().spawn_scoped(scope, || {
                self.server.hand_over();
                handle.close();
            });
            if leaving.is_err() {
                return self.server.stop();
            }
            let stopped = signals.incoming.forever().any(|signal| matches!(signal, SIGINT | SIGTERM));
            if stopped || signals.stop.load(SeqCst) {
                self.server.hurry();
            }
        });
    }
}
