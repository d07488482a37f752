//! Replaces this process by the binary that is now at its path. The successor inherits the listening sockets and
//! reports whether it serves; only then does the predecessor stop. Starts one process, and reads its report from a
//! socket that is the successor's standard input.

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
/// Holds the names of the nodes that drain in the successor's environment.
const DRAINING: &str = "LAVAPROXY_DRAINING";
/// How long a successor may take until it serves.
const START: Duration = Duration::from_secs(30);
/// The successor's report that it serves; any other text is the reason why it does not.
const READY: &str = "ready";
/// The longest report that is read, in bytes.
const MAX_REPORT: u64 = 4096;
/// The number of the first inherited descriptor (sd_listen_fds(3)).
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
    /// It started, and reported why it cannot serve.
    Refused(String),
    /// It ended without a report.
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
                write!(out, "the new process ended before it served: {status}; see its log")
            }
            Self::Ended(Err(error)) => {
                write!(out, "the new process ended before it served, and its status is unknown: {error}")
            }
            Self::Late => write!(out, "the new process did not serve within {}s; see its log", START.as_secs()),
        }
    }
}

impl std::error::Error for UpgradeError {}

impl Binary {
    /// To be called at the start: later, the path of the running file may be gone or changed.
    ///
    /// # Errors
    /// Where the system does not give the path, as without /proc.
    pub fn of_this_process() -> io::Result<Self> {
        Ok(Self { path: env::current_exe()?, arguments: env::args_os().skip(1).collect() })
    }

    /// Starts the successor on these sockets and waits until it serves. Returns its process number.
    ///
    /// # Errors
    /// [`UpgradeError`]; no other process runs then.
    pub fn start_successor(
        &self,
        listeners: &[(&'static str, Arc<TcpListener>)],
        draining: &[Arc<str>],
    ) -> Result<u32, UpgradeError> {
        let failed = |error| UpgradeError::Start(self.path.clone(), error);
        let (ours, theirs) = UnixStream::pair().map_err(failed)?;
        let mut child = self.spawn(listeners, draining, theirs).map_err(failed)?;
        match read_report(ours) {
            Ok(report) if report == READY => Ok(child.id()),
            Ok(report) if report.is_empty() => Err(UpgradeError::Ended(child.wait())),
            Ok(report) => {
                end(&mut child);
                Err(UpgradeError::Refused(report))
            }
            Err(_) => {
                end(&mut child);
                Err(UpgradeError::Late)
            }
        }
    }

    fn spawn(
        &self,
        listeners: &[(&'static str, Arc<TcpListener>)],
        draining: &[Arc<str>],
        report: UnixStream,
    ) -> io::Result<Child> {
        let mut names = Vec::new();
        let mut mappings = Vec::new();
        for (child_fd, (name, listener)) in (FIRST..).zip(listeners) {
            names.push(*name);
            mappings.push(FdMapping { parent_fd: listener.try_clone()?.into(), child_fd });
        }
        let mut command = Command::new(&self.path);
        command
            .args(&self.arguments)
            .stdin(Stdio::from(OwnedFd::from(report)))
            .env(PREDECESSOR, process::id().to_string())
            .env(DRAINING, draining.join(","))
            .env("LISTEN_FDS", names.len().to_string())
            .env("LISTEN_FDNAMES", names.join(":"))
            // Their values are for this process alone.
            .env_remove("LISTEN_PID")
            .env_remove("LISTEN_FDS_FIRST_FD")
            .env_remove("WATCHDOG_PID")
            .fd_mappings(mappings)
            .map_err(io::Error::other)?;
        command.spawn()
    }
}

/// The successor's whole report; empty when it ended without one.
fn read_report(from: UnixStream) -> io::Result<String> {
    let mut report = String::new();
    from.set_read_timeout(Some(START))?;
    match from.take(MAX_REPORT).read_to_string(&mut report) {
        // It was killed in the middle of its report.
        Err(error) if !is_timeout(&error) => Ok(String::new()),
        read => read.map(|_| report),
    }
}

fn end(child: &mut Child) {
    // Fails when it has ended already.
    let _ = child.kill();
    let _ = child.wait();
}

/// The process that started this one and waits until it serves.
pub struct Predecessor {
    report: UnixStream,
    draining: Vec<String>,
}

impl Predecessor {
    /// The predecessor, if this process was started by one in an upgrade.
    pub fn from_environment() -> Option<Self> {
        let pid = env::var(PREDECESSOR).ok()?.parse::<u32>().ok()?;
        let input = io::stdin().as_fd().try_clone_to_owned().ok().filter(|_| pid == parent_id())?;
        let draining = env::var(DRAINING).unwrap_or_default();
        let draining = draining.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect();
        Some(Self { report: UnixStream::from(input), draining })
    }

    /// The names of the nodes that it was draining.
    pub fn draining(&self) -> &[String] {
        &self.draining
    }

    /// Reports that this process serves.
    pub fn tell_ready(self) {
        self.tell(READY);
    }

    /// Reports why it does not serve.
    pub fn tell_failure(self, why: &dyn Display) {
        self.tell(&why.to_string());
    }

    fn tell(mut self, text: &str) {
        // Fails when the predecessor is gone, and then no process waits. Standard input is another handle of this
        // stream, so dropping this one does not end it.
        let _ = self.report.write_all(text.as_bytes());
        let _ = self.report.shutdown(Shutdown::Write);
    }
}
