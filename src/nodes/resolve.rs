//! Looks up the addresses of a backend's name, and never blocks a worker beyond its deadline.
//!
//! The system's resolver may block for any time and needs a large stack. It therefore runs in a thread of its own, one
//! at a time per name. Its last good answer is used until there is a newer one.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

/// The age at which an answer is looked up again.
const FRESH: Duration = Duration::from_secs(10);

/// The kind of the error of [`Resolver::addresses`] when no thread can be started.
pub const NO_THREAD: io::ErrorKind = io::ErrorKind::ResourceBusy;

/// A host and port whose addresses are looked up when they are needed.
pub struct Resolver {
    host: String,
    port: u16,
    fixed: Option<SocketAddr>,
    state: Mutex<State>,
    answered: Condvar,
}

#[derive(Default)]
struct State {
    addresses: Vec<SocketAddr>,
    failure: String,
    asked: Option<Instant>,
    running: bool,
}

impl Resolver {
    /// A resolver for this host. A literal address needs no look-up.
    pub fn new(host: &str, port: u16) -> Arc<Self> {
        let fixed = host.trim_matches(['[', ']']).parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, port));
        Arc::new(Self { host: host.to_owned(), port, fixed, state: Mutex::default(), answered: Condvar::new() })
    }

    /// Every address of the name, in the system's order. An old answer is used if there is no newer one.
    ///
    /// # Errors
    /// When there is no answer by the deadline (`TimedOut`), when the name has no address, or when no thread can be
    /// started ([`NO_THREAD`]).
    pub fn addresses(self: &Arc<Self>, deadline: Instant) -> io::Result<Vec<SocketAddr>> {
        if let Some(address) = self.fixed {
            return Ok(vec![address]);
        }
        let mut state = self.state.lock();
        if !state.running && state.asked.is_none_or(|asked| asked.elapsed() >= FRESH || state.addresses.is_empty()) {
            let resolver = Arc::clone(self);
            let started = thread::Builder::new().name("resolver".to_owned()).spawn(move || resolver.ask());
            // The system's error is `WouldBlock`, which a socket's deadline gives too.
            started.map_err(|error| io::Error::new(NO_THREAD, error))?;
            state.running = true;
        }
        while state.addresses.is_empty() && state.running {
            if self.answered.wait_until(&mut state, deadline).timed_out() {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "the name was not resolved in time"));
            }
        }
        if state.addresses.is_empty() {
            return Err(io::Error::new(io::ErrorKind::NotFound, state.failure.clone()));
        }
        Ok(state.addresses.clone())
    }

    fn ask(&self) {
        let found = (self.host.as_str(), self.port).to_socket_addrs().map(Vec::from_iter);
        let mut state = self.state.lock();
        match found {
            Ok(addresses) if !addresses.is_empty() => state.addresses = addresses,
            Ok(_) => state.failure = "the name has no address".to_owned(),
            Err(error) => state.failure = error.to_string(),
        }
        state.asked = Some(Instant::now());
        state.running = false;
        self.answered.notify_all();
    }
}

#[cfg(test)]
impl Resolver {
    /// A resolver with a fresh answer: these addresses.
    pub fn knowing(addresses: Vec<SocketAddr>) -> Arc<Self> {
        let state = State { addresses, asked: Some(Instant::now()), ..State::default() };
        let (host, answered) = ("name.invalid".to_owned(), Condvar::new());
        Arc::new(Self { host, port: 0, fixed: None, state: Mutex::new(state), answered })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(20)
    }

    #[test]
    fn literals_and_names_have_addresses() {
        assert_eq!(Resolver::new("::1", 7).addresses(soon()).unwrap(), ["[::1]:7".parse().unwrap()]);
        assert_eq!(Resolver::new("[::1]", 7).addresses(soon()).unwrap(), ["[::1]:7".parse().unwrap()]);
        let local = Resolver::new("localhost", 7);
        assert!(local.addresses(soon()).unwrap().iter().all(|address| address.ip().is_loopback()));
        assert!(local.addresses(Instant::now()).is_ok(), "an answer is kept");
    }

    #[test]
    fn a_name_without_address_is_an_error_each_time() {
        let nowhere = Resolver::new("no-such-host.invalid", 7);
        for _ in 0..2 {
            assert!(nowhere.addresses(soon()).is_err());
        }
    }
}
