//! Puts the binary that lies at this process's path now in its place: the successor inherits the listening sockets,
//! says whether it serves, and only then does the predecessor leave. Starts one process and talks with it over its
//! standard input.

use std::env;
use std::ffi::OsString;
use std::fmt::{self, Display};
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::parent_id;
use std::path::PathBuf;
use std::process::{self, Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use command_fds::{CommandFdExt, FdMapping};

use crate::error::is_timeout;

/// Holds the predecessor's process number in the successor's environment.
const PREDECESSOR: &str = "LAVAPROXY_PREDECESSOR";
/// How long a successor may take until it serves.
const START: Duration = Duration::from_secs(30);
/// The successor's word that it serves; anything else is why it does not.
const READY: &str = "ready";
/// The longest word that is listened to, in bytes.
const MAX_WORD: u64 = 4096;
/// The first descriptor that is handed over (sd_listen_fds(3)).
const FIRST: i32 = 3;

/// The command that started this process, to start it again.
pub struct Binary {
    path: PathBuf,
    arguments: Vec<OsString>,
}

/// Why there is no successor.
#[derive(Debug)]
pub enum UpgradeError {
    /// The binary could not be started.
    Start(PathBuf, io::Error),
    /// It started, and then said why it cannot serve.
    Refused(String),
    /// It ended without a word.
    Ended(io::Result<process::ExitStatus>),
    /// It did not serve in time.
    Late,
}

impl Display for UpgradeError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start(path, error) => {
                write!(out, "{} cannot be started: {error}; put a binary for this machine there", path.display())
            }
            Self::Refused(why) => write!(out, "the new process cannot serve: {why}"),
            Self::Ended(Ok(status)) => {
                write!(out, "the new process ended before it served: {status}; see what it logged")
            }
            Self::Ended(Err(error)) => write!(out, "the new process is lost: {error}"),
            Self::Late => write!(out, "the new process did not serve within {}s; see what it logged", START.as_secs()),
        }
    }
}

impl std::error::Error for UpgradeError {}

impl Binary {
    /// To be asked for at the start: later, another file may have taken the place of the one that runs.
    ///
    /// # Errors
    /// Where the system does not tell, as without /proc.
    pub fn of_this_process() -> io::Result<Self> {
        Ok(Self { path: env::current_exe()?, arguments: env::args_os().skip(1).collect() })
    }

    /// Starts the successor on these sockets and waits until it serves. Returns its process number.
    ///
    /// # Errors
    /// [`UpgradeError`]; there is no other process then.
    pub fn start_successor(&self, listeners: &[(&'static str, Arc<TcpListener>)]) -> Result<u32, UpgradeError> {
        let failed = |error| UpgradeError::Start(self.path.clone(), error);
        let (ours, theirs) = UnixStream::pair().map_err(failed)?;
        let mut child = self.spawn(listeners, theirs).map_err(failed)?;
        match hear(ours) {
            Ok(word) if word == READY => Ok(child.id()),
            Ok(word) if word.is_empty() => Err(UpgradeError::Ended(child.wait())),
            Ok(word) => {
                end(&mut child);
                Err(UpgradeError::Refused(word))
            }
            Err(_) => {
                end(&mut child);
                Err(UpgradeError::Late)
            }
        }
    }

    fn spawn(&self, listeners: &[(&'static str, Arc<TcpListener>)], word: UnixStream) -> io::Result<Child> {
        let mut names = Vec::new();
        let mut mappings = Vec::new();
        for (child_fd, (name, listener)) in (FIRST..).zip(listeners) {
            names.push(*name);
            mappings.push(FdMapping { parent_fd: listener.try_clone()?.into(), child_fd });
        }
        let mut command = Command::new(&self.path);
        command
            .args(&self.arguments)
            .stdin(Stdio::from(OwnedFd::from(word)))
            .env(PREDECESSOR, process::id().to_string())
            .env("LISTEN_FDS", names.len().to_string())
            .env("LISTEN_FDNAMES", names.join(":"))
            // What they say is true of this process alone.
            .env_remove("LISTEN_PID")
            .env_remove("LISTEN_FDS_FIRST_FD")
            .env_remove("WATCHDOG_PID")
            .fd_mappings(mappings)
            .map_err(io::Error::other)?;
        command.spawn()
    }
}

/// What the successor says, until it has no more to say.
fn hear(from: UnixStream) -> io::Result<String> {
    let mut word = String::new();
    from.set_read_timeout(Some(START))?;
    match from.take(MAX_WORD).read_to_string(&mut word) {
        // It was killed with its word half said.
        Err(error) if !is_timeout(&error) => Ok(String::new()),
        heard => heard.map(|_| word),
    }
}

fn end(child: &mut Child) {
    // Fails when it has ended by itself.
    let _ = child.kill();
    let _ = child.wait();
}

/// The process that waits for this one to serve.
pub struct Predecessor(UnixStream);

impl Predecessor {
    /// The one that started this process, if it did so to be replaced.
    pub fn from_environment() -> Option<Self> {
        let pid = env::var(PREDECESSOR).ok()?.parse::<u32>().ok()?;
        let input = io::stdin().as_fd().try_clone_to_owned().ok().filter(|_| pid == parent_id())?;
        Some(Self(UnixStream::from(input)))
    }

    /// Says that this process serves.
    pub fn tell_ready(self) {
        self.tell(READY);
    }

    /// Says why it does not.
    pub fn tell_failure(self, why: &dyn Display) {
        self.tell(&why.to_string());
    }

    fn tell(mut self, word: &str) {
        // Fails when the predecessor is gone, and then nobody waits. Standard input is another handle of this stream,
        // so that closing it would not end it.
        let _ = self.0.write_all(word.as_bytes());
        let _ = self.0.shutdown(Shutdown::Write);
    }
}
