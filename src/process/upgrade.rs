//! Replaces this process by the binary that is now at its path. The successor inherits the listening sockets and
//! reports whether it serves; only then does the predecessor stop. Starts one process.
//!
//! The two talk over a socket that is the successor's standard input. The predecessor sends its state, one line of
//! JSON; the successor reads it before it serves, and reports. Then the predecessor sends, once a second, when a takeover
//! has ended, and at its end, what its last connections have used since then, and where the sessions are that were taken
//! over.

use std::env;
use std::ffi::OsString;
use std::fmt::{self, Display};
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::parent_id;
use std::path::PathBuf;
use std::process::{self, Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use command_fds::{CommandFdExt, FdMapping};
use log::warn;
use parking_lot::Mutex;

use crate::error::{StartError, is_timeout};
use crate::logfmt::Quoted;
use crate::state::{MAX_SIZE, Remainder, State};

/// Holds the predecessor's process number in the successor's environment.
const PREDECESSOR: &str = "LAVAPROXY_PREDECESSOR";
/// How long a successor may take until it serves.
const START: Duration = Duration::from_secs(30);
/// The successor's report that it serves; any other text is the reason why it does not.
const READY: &str = "ready";
/// The longest report that is read, in bytes.
const MAX_REPORT: u64 = 4096;
/// The time between two reports of a predecessor whose last connections go on.
const REPORT_PAUSE: Duration = Duration::from_secs(1);
/// The longest wait for a successor that does not read such a report.
const REPORT_TIME: Duration = Duration::from_secs(5);
/// A line is sent in pieces of this size, so that a deadline holds for the whole of it.
const PIECE: usize = 64 * 1024;
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

    /// Starts the successor on these sockets with this state and waits until it serves.
    ///
    /// # Errors
    /// [`UpgradeError`]; no other process runs then.
    pub fn start_successor(
        &self,
        listeners: &[(&'static str, Arc<TcpListener>)],
        state: &State,
    ) -> Result<Successor, UpgradeError> {
        let failed = |error| UpgradeError::Start(self.path.clone(), error);
        let state = state.to_json().map_err(|error| failed(error.into()))?;
        let (ours, theirs) = UnixStream::pair().map_err(failed)?;
        let mut child = self.spawn(listeners, theirs).map_err(failed)?;
        let deadline = Instant::now() + START;
        let sent = match send_line(&ours, state, deadline) {
            // Its report says why.
            Err(error) if has_closed(&error) => Ok(()),
            sent => sent,
        };
        match sent.and_then(|()| read_report(&ours, deadline)) {
            Ok(report) if report == READY => Ok(Successor { pid: child.id(), stream: ours }),
            Ok(report) if report.is_empty() => Err(UpgradeError::Ended(child.wait())),
            Ok(report) => {
                end(&mut child);
                Err(UpgradeError::Refused(report))
            }
            Err(error) => {
                end(&mut child);
                Err(if is_timeout(&error) { UpgradeError::Late } else { failed(error) })
            }
        }
    }

    fn spawn(&self, listeners: &[(&'static str, Arc<TcpListener>)], input: UnixStream) -> io::Result<Child> {
        let mut names = Vec::new();
        let mut mappings = Vec::new();
        for (child_fd, (name, listener)) in (FIRST..).zip(listeners) {
            names.push(*name);
            mappings.push(FdMapping { parent_fd: listener.try_clone()?.into(), child_fd });
        }
        let mut command = Command::new(&self.path);
        command
            .args(&self.arguments)
            .stdin(Stdio::from(OwnedFd::from(input)))
            .env(PREDECESSOR, process::id().to_string())
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

fn send_line(mut to: &UnixStream, mut line: Vec<u8>, deadline: Instant) -> io::Result<()> {
    line.push(b'\n');
    for piece in line.chunks(PIECE) {
        to.set_write_timeout(Some(time_left(deadline)))?;
        to.write_all(piece)?;
    }
    Ok(())
}

/// The successor's whole report; empty when it ended without one.
fn read_report(from: &UnixStream, deadline: Instant) -> io::Result<String> {
    let mut report = Vec::new();
    from.set_read_timeout(Some(time_left(deadline)))?;
    match from.take(MAX_REPORT).read_to_end(&mut report) {
        Err(error) if !has_closed(&error) => Err(error),
        _ => Ok(String::from_utf8_lossy(&report).into_owned()),
    }
}

/// A socket's timeout must not be zero.
fn time_left(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1))
}

/// True for the errors of a peer that has closed its end with something unread, or that was killed.
fn has_closed(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset)
}

fn end(child: &mut Child) {
    // Fails when it has ended already.
    let _ = child.kill();
    let _ = child.wait();
}

/// The process that has taken over.
pub struct Successor {
    pid: u32,
    stream: UnixStream,
}

impl Successor {
    /// Its process number.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Sends what `remainder` returns: now, once a second, at once when there is `news`, and a last time when that has
    /// lost its senders.
    pub fn report(self, remainder: impl Fn() -> Remainder, news: &Receiver<()>) {
        let mut has_ended = false;
        loop {
            let deadline = Instant::now() + REPORT_TIME;
            let line = serde_json::to_vec(&remainder()).map_err(io::Error::from);
            if let Err(error) = line.and_then(|line| send_line(&self.stream, line, deadline)) {
                let hint = "the use of the last connections here is not counted";
                warn!("event=report-failed successor={} error={} hint=\"{hint}\"", self.pid, Quoted(error));
                return;
            }
            if has_ended {
                return;
            }
            has_ended = news.recv_timeout(REPORT_PAUSE) == Err(RecvTimeoutError::Disconnected);
            // One report has all of it.
            news.try_iter().for_each(drop);
        }
    }
}

/// The process that started this one and waits until it serves.
pub struct Predecessor {
    stream: UnixStream,
}

impl Predecessor {
    /// The predecessor, if this process was started by one in an upgrade.
    pub fn from_environment() -> Option<Self> {
        let pid = env::var(PREDECESSOR).ok()?.parse::<u32>().ok()?;
        let input = io::stdin().as_fd().try_clone_to_owned().ok().filter(|_| pid == parent_id())?;
        Some(Self { stream: UnixStream::from(input) })
    }

    /// The state that it leaves to this process.
    ///
    /// # Errors
    /// When it sends none in time, or one that this lavaproxy cannot read.
    pub fn state(&self) -> Result<State, StartError> {
        let failed = |error| {
            let hint = "restart lavaproxy instead";
            StartError::new("cannot read the state of the predecessor".to_owned(), error, hint)
        };
        self.stream.set_read_timeout(Some(START)).map_err(failed)?;
        match read_line(&mut BufReader::new(&self.stream)).map_err(failed)? {
            Some(line) => State::parse(&line).map_err(|error| failed(io::Error::new(ErrorKind::InvalidData, error))),
            None => Err(failed(ErrorKind::UnexpectedEof.into())),
        }
    }

    /// Starts a thread that gives `note` each report of the predecessor, and `None` at its end. To be called before
    /// [`tell_ready`](Self::tell_ready).
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn follow(&self, note: impl Fn(Option<Remainder>) + Send + 'static) -> Result<Follower, StartError> {
        self.try_follow(note).map_err(|error| {
            let what = "cannot follow the predecessor".to_owned();
            StartError::new(what, error, "raise the limits of open files and threads")
        })
    }

    fn try_follow(&self, note: impl Fn(Option<Remainder>) + Send + 'static) -> io::Result<Follower> {
        let (stream, from) = (self.stream.try_clone()?, self.stream.try_clone()?);
        from.set_read_timeout(None)?;
        let (ends, ended) = mpsc::channel();
        thread::Builder::new().name("follower".to_owned()).spawn(move || {
            follow(&from, &note);
            note(None);
            drop(ends);
        })?;
        Ok(Follower { stream, ended: Mutex::new(ended) })
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
        let _ = self.stream.write_all(text.as_bytes());
        let _ = self.stream.shutdown(Shutdown::Write);
    }
}

/// The next whole line; `None` at the end of the stream.
fn read_line(from: &mut impl BufRead) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    from.take(MAX_SIZE).read_until(b'\n', &mut line)?;
    Ok((line.last() == Some(&b'\n')).then_some(line))
}

/// Reads what the predecessor reports until it ends.
fn follow(from: &UnixStream, note: &impl Fn(Option<Remainder>)) {
    let mut from = BufReader::new(from);
    // An error means the same as the end: the predecessor was killed.
    while let Ok(Some(line)) = read_line(&mut from) {
        match serde_json::from_slice(&line) {
            Ok(remainder) => note(Some(remainder)),
            Err(error) => return warn!("event=report-unreadable error={}", Quoted(error)),
        }
    }
}

/// The thread that follows the predecessor's last connections.
pub struct Follower {
    stream: UnixStream,
    ended: Mutex<Receiver<()>>,
}

impl Follower {
    /// Waits until the predecessor has ended and all that it reported is counted.
    pub fn wait(&self) {
        // Nothing is ever sent; the sender is dropped.
        let _ = self.ended.lock().recv();
    }

    /// The same, for so long at the most.
    pub fn wait_for(&self, time: Duration) {
        let _ = self.ended.lock().recv_timeout(time);
    }

    /// Makes a [`wait`](Self::wait) that is under way return now.
    pub fn give_up(&self) {
        // Fails when the stream has ended.
        let _ = self.stream.shutdown(Shutdown::Read);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::sessions::table::Changing;

    #[test]
    fn news_are_reported_at_once() {
        const NEWS: u32 = 20;
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (sender, news) = mpsc::channel();
        let changing = vec![Changing { id: "abc".into(), node: "eu1".into() }];
        let (ledger, moved_sessions) = (crate::ledger::Saved::default(), Vec::new());
        let report = Remainder { ledger, moved_sessions, changing_sessions: changing.clone() };
        let reporting = thread::spawn(move || Successor { pid: 1, stream: ours }.report(|| report.clone(), &news));
        let started = Instant::now();
        let mut from = BufReader::new(&theirs);
        for _ in 0..NEWS {
            let line = read_line(&mut from).unwrap().unwrap();
            assert_eq!(serde_json::from_slice::<Remainder>(&line).unwrap().changing_sessions, changing);
            sender.send(()).unwrap();
        }
        assert!(started.elapsed() < REPORT_PAUSE * NEWS / 2, "{:?}", started.elapsed());
        drop(sender);
        reporting.join().unwrap();
    }
}
