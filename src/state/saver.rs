//! The thread that saves the state: at its start, then every minute if anything has changed, and at the stop. A disk
//! that blocks it blocks nothing else.

use std::io;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::thread;
use std::time::Duration;

use log::{debug, error, warn};
use sha1_smol::{Digest, Sha1};

use super::State;
use super::file::{StateFile, hint};
use crate::error::StartError;
use crate::log_limit::LogLimit;
use crate::logfmt::Quoted;
use crate::unix_time::unix_millis;

/// The time between two saves.
pub const INTERVAL: Duration = Duration::from_secs(60);
/// The longest wait for a save that is under way, and for the last one.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two warnings.
const WARNING_PAUSE: Duration = Duration::from_secs(60);

/// What the thread shall do. The sender within is dropped once it is done.
enum Command {
    Pause(SyncSender<()>),
    Resume,
    SaveAndEnd(SyncSender<()>),
}

/// The handle on the thread. When it is dropped, the thread ends and saves nothing more.
pub struct Saver {
    commands: mpsc::Sender<Command>,
}

/// A save that was under way did not end in time.
#[derive(Debug)]
pub struct DiskBlocked;

impl std::fmt::Display for DiskBlocked {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "the disk of STATE_DIR has not taken the state within {}s", PATIENCE.as_secs())
    }
}

impl std::error::Error for DiskBlocked {}

impl Saver {
    /// Starts the thread, which saves what `collect` returns.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(
        file: StateFile,
        interval: Duration,
        collect: impl Fn() -> State + Send + 'static,
    ) -> Result<Self, StartError> {
        let (commands, incoming) = mpsc::channel();
        let work = Work { file, collect, saved: None, warnings: LogLimit::every(WARNING_PAUSE) };
        let started = thread::Builder::new().name("saver".to_owned()).spawn(move || work.run(interval, &incoming));
        started.map_err(|error| {
            let what = "cannot start the thread that saves the state".to_owned();
            StartError::new(what, error, "raise the limit of threads")
        })?;
        Ok(Self { commands })
    }

    /// Waits for a save that is under way, and keeps the thread from another one until [`resume`](Self::resume).
    ///
    /// # Errors
    /// When the save that is under way does not end.
    pub fn pause(&self) -> Result<(), DiskBlocked> {
        let paused = self.command(Command::Pause);
        if paused.is_err() {
            self.resume();
        }
        paused
    }

    /// Goes on after a [`pause`](Self::pause).
    pub fn resume(&self) {
        // Fails when the thread has ended by a panic, which was logged.
        let _ = self.commands.send(Command::Resume);
    }

    /// Saves a last time and ends the thread.
    pub fn finish(self) {
        if let Err(error) = self.command(Command::SaveAndEnd) {
            error!("event=state-not-saved error={} hint=\"look at the disk\"", Quoted(error));
        }
    }

    /// Returns once the thread has done it.
    fn command(&self, command: impl FnOnce(SyncSender<()>) -> Command) -> Result<(), DiskBlocked> {
        let (done, is_done) = mpsc::sync_channel(0);
        // Where the thread has ended by a panic, the sender is dropped here.
        let _ = self.commands.send(command(done));
        match is_done.recv_timeout(PATIENCE) {
            Err(RecvTimeoutError::Timeout) => Err(DiskBlocked),
            Ok(()) | Err(RecvTimeoutError::Disconnected) => Ok(()),
        }
    }
}

/// What the thread works with.
struct Work<C> {
    file: StateFile,
    collect: C,
    /// What the file holds, but for the time.
    saved: Option<Digest>,
    warnings: LogLimit,
}

impl<C: Fn() -> State> Work<C> {
    fn run(mut self, interval: Duration, commands: &Receiver<Command>) {
        self.save_or_warn();
        let mut is_paused = false;
        loop {
            match commands.recv_timeout(interval) {
                Err(RecvTimeoutError::Timeout) if is_paused => {}
                Err(RecvTimeoutError::Timeout) => self.save_or_warn(),
                Err(RecvTimeoutError::Disconnected) => return,
                Ok(Command::Pause(done)) => {
                    is_paused = true;
                    drop(done);
                }
                Ok(Command::Resume) => is_paused = false,
                Ok(Command::SaveAndEnd(done)) => {
                    // The last warning, whenever the one before it was.
                    if let Err(error) = self.save() {
                        self.warn(&error);
                    }
                    return drop(done);
                }
            }
        }
    }

    fn save_or_warn(&mut self) {
        if let Err(error) = self.save() {
            if self.warnings.count().is_some() {
                self.warn(&error);
            }
        }
    }

    fn warn(&self, error: &io::Error) {
        warn!(
            "event=state-not-saved file={} error={} hint=\"{}\"",
            Quoted(self.file.path().display()),
            Quoted(error),
            hint(error)
        );
    }

    /// Writes the state unless it is as it was.
    fn save(&mut self) -> io::Result<()> {
        let mut state = (self.collect)();
        let digest = Sha1::from(state.to_json()?).digest();
        if self.saved == Some(digest) {
            return Ok(());
        }
        state.saved_at = unix_millis();
        self.file.write(&state.to_json()?)?;
        debug!("event=state-saved file={}", Quoted(self.file.path().display()));
        self.saved = Some(digest);
        Ok(())
    }
}
