//! Reports lavaproxy's state to a supervisor with the datagrams of sd_notify(3). Reads NOTIFY_SOCKET, WATCHDOG_USEC and
//! WATCHDOG_PID, and opens one Unix socket. Without a supervisor nothing is sent.

use std::env;
use std::ffi::OsString;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use log::warn;

use crate::logfmt::Quoted;

/// What lavaproxy reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It serves; also after a reload that failed.
    Ready,
    /// It reads its settings again.
    Reloading,
    /// It accepts no more connections.
    Stopping,
    /// It is alive.
    Watchdog,
    /// The process with this number has taken over and serves.
    Successor(u32),
}

/// The connection to a supervisor, if there is one.
#[derive(Clone, Default)]
pub struct Notify(Option<Arc<Supervisor>>);

struct Supervisor {
    socket: UnixDatagram,
    address: SocketAddr,
    /// True once a successor reports instead of this process.
    silent: AtomicBool,
}

impl Notify {
    /// The supervisor that the environment names.
    ///
    /// # Errors
    /// When the name is not an address of a Unix socket, or no socket can be created.
    pub fn from_environment() -> io::Result<Self> {
        match env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()) {
            Some(name) => Self::to(&name),
            None => Ok(Self::default()),
        }
    }

    fn to(name: &OsString) -> io::Result<Self> {
        let address = match name.as_bytes().strip_prefix(b"@") {
            Some(name) => SocketAddr::from_abstract_name(name)?,
            None => SocketAddr::from_pathname(name)?,
        };
        let socket = UnixDatagram::unbound()?;
        // A supervisor that does not read must not block this process.
        socket.set_nonblocking(true)?;
        Ok(Self(Some(Arc::new(Supervisor { socket, address, silent: AtomicBool::new(false) }))))
    }

    /// Sends the state, unless a successor reports already. A failure is logged and is no reason to stop.
    pub fn say(&self, state: State) {
        let Some(Supervisor { socket, address, silent }) = self.0.as_deref() else { return };
        if silent.fetch_or(matches!(state, State::Successor(_)), Relaxed) {
            return;
        }
        let text = match state {
            State::Ready => "READY=1\nSTATUS=serving".to_owned(),
            State::Reloading => "RELOADING=1\nSTATUS=reading the settings again".to_owned(),
            State::Stopping => "STOPPING=1\nSTATUS=letting connections end".to_owned(),
            State::Watchdog => "WATCHDOG=1".to_owned(),
            State::Successor(pid) => format!("MAINPID={pid}\nREADY=1\nSTATUS=serving"),
        };
        if let Err(error) = socket.send_to_addr(text.as_bytes(), address) {
            warn!("event=notify-failed state={state:?} error={} hint=\"is NOTIFY_SOCKET right?\"", Quoted(error));
        }
    }

    /// The watchdog of this process, if the supervisor expects its messages.
    pub fn watchdog(&self) -> Option<Watchdog> {
        self.0.as_ref()?;
        let number = |name| env::var(name).ok()?.parse::<u64>().ok();
        let is_for_us = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(process::id()));
        let timeout = Duration::from_micros(number("WATCHDOG_USEC").filter(|_| is_for_us)?);
        Some(Watchdog { notify: self.clone(), pause: timeout / 2, last: None })
    }
}

/// Reports at half of the supervisor's timeout, or a little before, that lavaproxy is alive.
pub struct Watchdog {
    notify: Notify,
    pause: Duration,
    last: Option<Instant>,
}

impl Watchdog {
    /// To be called once a second.
    pub fn tick(&mut self) {
        let due = |last: Instant| last.elapsed() + Duration::from_secs(1) > self.pause;
        if self.last.is_none_or(due) {
            self.last = Some(Instant::now());
            self.notify.say(State::Watchdog);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn messages_reach_a_path_and_an_abstract_address() {
        let directory = env::temp_dir().join(format!("lavaproxy-notify-{}", process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let path = directory.join("socket");
        let name = format!("lavaproxy-notify-{}", process::id());
        let abstract_address = SocketAddr::from_abstract_name(&name).unwrap();
        for (supervisor, name) in [
            (UnixDatagram::bind(&path).unwrap(), path.into_os_string()),
            (UnixDatagram::bind_addr(&abstract_address).unwrap(), format!("@{name}").into()),
        ] {
            let notify = Notify::to(&name).unwrap();
            let mut text = [0; 256];
            for (state, expected) in
                [(State::Ready, "READY=1"), (State::Watchdog, "WATCHDOG=1"), (State::Successor(7), "MAINPID=7")]
            {
                notify.say(state);
                let length = supervisor.recv(&mut text).unwrap();
                assert_eq!(std::str::from_utf8(&text[..length]).unwrap().lines().next(), Some(expected));
            }
        }
        std::fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn a_missing_supervisor_is_not_an_error() {
        Notify::default().say(State::Ready);
        assert!(Notify::default().watchdog().is_none());
        assert!(Notify::to(&OsString::from("/no/such/supervisor")).is_ok_and(|notify| {
            notify.say(State::Ready);
            true
        }));
    }
}
