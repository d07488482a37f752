//! What a running lavaproxy does on a signal: SIGTERM and SIGINT stop it, SIGHUP makes it read its settings again, and
//! SIGUSR2 makes it start its successor.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use log::{error, info, warn};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR2};
use signal_hook::iterator::Signals as Incoming;
use signal_hook::low_level::signal_name;

use crate::config::{self, Settings};
use crate::logfmt::{self, Quoted};
use crate::process::notify::{Notify, State};
use crate::process::upgrade::{Binary, Follower, Successor};
use crate::server::Server;
use crate::state::saver::Saver;

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

/// Logs what is probably a mistake in the settings.
pub fn log_warnings(loaded: &config::Loaded) {
    for warning in &loaded.warnings {
        warn!("event=settings warning={}", Quoted(warning));
    }
    if loaded.settings.default_password_stands() {
        warn!("event=settings warning=\"PROXY_PASSWORD is the default, which the manual shows: set another\"");
    }
}

/// The signals that a running lavaproxy handles besides SIGTERM and SIGINT. The demo does not handle them.
pub const FURTHER: [i32; 2] = [SIGHUP, SIGUSR2];

/// The longest wait, in a stop, for a predecessor that is stopped too and reports what its last connections have used.
const LAST_REPORTS: Duration = Duration::from_secs(3);

/// A running lavaproxy, with all that acting on signals needs.
pub struct Running<'r> {
    /// The server.
    pub server: &'r Server,
    /// The settings in force.
    pub settings: Settings,
    /// The env file that the command named, if it named one.
    pub env_file: Option<PathBuf>,
    /// The env file that was read last, if there was one.
    pub read_file: Option<PathBuf>,
    /// The command to start again, or the reason why it is not known.
    pub binary: io::Result<Binary>,
    /// The supervisor, if there is one.
    pub notify: &'r Notify,
    /// The thread that saves the state, if there is a STATE_DIR.
    pub saver: Option<Saver>,
    /// The thread that follows a predecessor, if there was one.
    pub predecessor: Option<Follower>,
}

impl Running<'_> {
    /// Acts on signals until lavaproxy has stopped or its successor has taken over.
    pub fn run(mut self, signals: &mut Signals) {
        loop {
            match signals.incoming.forever().next() {
                Some(SIGHUP) => self.reload(),
                Some(SIGUSR2) => {
                    if let Some(successor) = self.start_successor() {
                        return self.hand_over(successor, signals);
                    }
                }
                signal => {
                    log_stop(signal);
                    self.notify.say(State::Stopping);
                    self.server.stop();
                    self.predecessor.iter().for_each(|predecessor| predecessor.wait_for(LAST_REPORTS));
                    return self.saver.into_iter().for_each(Saver::finish);
                }
            }
        }
    }

    /// Takes the new settings if all of them are valid, else none.
    fn reload(&mut self) {
        self.notify.say(State::Reloading);
        match config::reload(self.env_file.as_deref(), self.read_file.as_deref(), &self.settings) {
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
        log_warnings(&loaded);
        if !loaded.need_restart.is_empty() {
            let settings = loaded.need_restart.join(",");
            warn!("event=restart-needed settings={settings} hint=\"listeners and the state move only in a restart\"");
        }
        self.settings = loaded.settings;
        self.read_file = loaded.file;
    }

    /// Starts the successor, which goes on from the state of this moment. Returns it once it serves.
    fn start_successor(&self) -> Option<Successor> {
        info!("event=upgrade");
        match self.try_successor() {
            Ok(successor) => {
                info!("event=upgraded successor={}", successor.pid());
                self.notify.say(State::Successor(successor.pid()));
                Some(successor)
            }
            Err(error) => {
                error!("event=upgrade-failed error={} hint=\"this process goes on to serve\"", Quoted(error));
                None
            }
        }
    }

    /// From here on the successor saves the state. If there is none, this process goes on to save it.
    fn try_successor(&self) -> Result<Successor, String> {
        let binary = self.binary.as_ref();
        let binary = binary.map_err(|error| format!("the path of this process's binary is not known: {error}"))?;
        if let Some(file) = self.read_file.as_ref().filter(|file| !file.exists()) {
            return Err(format!("the env file {} is gone: put it back", file.display()));
        }
        if let Some(saver) = &self.saver {
            saver.pause().map_err(|error| error.to_string())?;
        }
        let state = self.server.lasting().hand_over();
        let started = binary.start_successor(&self.server.listeners(), &state);
        if started.is_err() {
            self.server.lasting().keep();
            self.saver.iter().for_each(Saver::resume);
        }
        started.map_err(|error| error.to_string())
    }

    /// Serves the remaining connections until they end, until DRAIN_TIMEOUT, or until a signal stops this process.
    /// Reports to the successor what they use, and what those of a predecessor use that is not at its end either.
    fn hand_over(&self, successor: Successor, signals: &mut Signals) {
        let handle = signals.incoming.handle();
        let (server, predecessor) = (self.server, self.predecessor.as_ref());
        let lasting = &server.lasting();
        let (sender, news) = mpsc::channel();
        lasting.announce_to(Some(sender));
        thread::scope(|scope| {
            let reporting =
                thread::Builder::new().spawn_scoped(scope, move || successor.report(|| lasting.remainder(), &news));
            if let Err(error) = reporting {
                warn!(
                    "event=report-failed error={} hint=\"the use of the last connections here is not counted\"",
                    Quoted(error)
                );
            }
            let leaving = thread::Builder::new().spawn_scoped(scope, move || {
                server.hand_over();
                predecessor.into_iter().for_each(Follower::wait);
                lasting.announce_to(None);
                handle.close();
            });
            if leaving.is_err() {
                server.stop();
                return lasting.announce_to(None);
            }
            let stopped = signals.incoming.forever().any(|signal| matches!(signal, SIGINT | SIGTERM));
            if stopped || signals.stop.load(SeqCst) {
                server.hurry();
                predecessor.into_iter().for_each(Follower::give_up);
            }
        });
    }
}
