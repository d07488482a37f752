//! A proxy whose clients connect without a front, each from an address that has limits. For tests in a network namespace.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use crate::refused::{guess, is_dropped, last_status, request};
use crate::support::*;

pub const ONE: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 11));
pub const OTHER: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 12));
pub const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 9));
/// So that the tests of other limits can connect as often as they like.
pub const ANY_RATE: (&str, &str) = ("CONNECTION_RATE", "off");

/// One of a /64 that has more addresses, and one of another.
pub fn of_first_network(last: &str) -> IpAddr {
    format!("2001:db8:1::{last}").parse().unwrap()
}

pub fn of_second_network() -> IpAddr {
    "2001:db8:2::1".parse().unwrap()
}

/// Counts and answers each request, and sends back what comes in tunnels.
fn backend(requests: Arc<AtomicUsize>) -> Backend {
    Backend::start(move |mut client, _| {
        while let Some(request) = client.next_request() {
            requests.fetch_add(1, SeqCst);
            if find(&request, b"Upgrade: websocket").is_some() {
                client.send(SWITCHING);
                return client.echo();
            }
            if client.try_send(OK).is_err() {
                return;
            }
        }
    })
}

pub struct Site {
    pub proxy: Proxy,
    pub backend: Backend,
    /// Requests that reached the backend.
    requests: Arc<AtomicUsize>,
}

impl Site {
    pub fn new(set: &[(&str, &str)]) -> Self {
        let requests = Arc::default();
        Self { requests: Arc::clone(&requests), ..Self::before(backend(requests), set) }
    }

    /// Before a backend of the test's own, whose requests are not counted.
    pub fn before(backend: Backend, set: &[(&str, &str)]) -> Self {
        Self { proxy: Proxy::before(backend.address, backend.address, set), backend, requests: Arc::default() }
    }

    pub fn requests(&self) -> usize {
        self.requests.load(SeqCst)
    }

    pub fn connect(&self, source: IpAddr) -> Client {
        self.try_connect(source).unwrap_or_else(|| panic!("{source} was reset at once"))
    }

    /// `None` for a client that was reset at once.
    pub fn try_connect(&self, source: IpAddr) -> Option<Client> {
        // Where it listens on every address, IPv4 clients connect to an IPv4 address.
        let address = match (self.proxy.address(), source) {
            (address, IpAddr::V4(_)) => SocketAddr::from((Ipv4Addr::LOCALHOST, address.port())),
            (address, IpAddr::V6(_)) => SocketAddr::new("::1".parse().unwrap(), address.port()),
        };
        match Client::try_connect_from(source, address) {
            Err(error) if error.kind() == ErrorKind::ConnectionReset => None,
            client => Some(client.unwrap()),
        }
    }

    /// A connection that was served and stays.
    pub fn served(&self, source: IpAddr) -> Client {
        let mut client = self.connect(source);
        let answer = client.get("/v4/info", "");
        assert_eq!(answer.status, 200, "{source}: {}", answer.text());
        client
    }

    /// The same, where an earlier connection of this address may count for a moment yet.
    pub fn served_at_last(&self, source: IpAddr) -> Client {
        let mut served = None;
        eventually("it is served", || {
            let mut client = self.connect(source);
            let status = client.get("/v4/info", "").status;
            served = (status == 200).then_some(client);
            served.is_some()
        });
        served.unwrap()
    }

    /// The answer to the first request of a new connection.
    pub fn first_answer(&self, source: IpAddr) -> Response {
        self.connect(source).get("/v4/info", "")
    }

    /// The answer to the only request of a new connection; `None` when it is closed without one.
    pub fn only_status(&self, source: IpAddr) -> Option<u16> {
        last_status(&mut self.try_connect(source)?, &request("Connection: close\r\n"))
    }

    pub fn drops(&self, source: IpAddr) -> bool {
        self.try_connect(source).is_none_or(is_dropped)
    }

    /// Sends so many wrong passwords on one connection.
    pub fn guess(&self, source: IpAddr, count: usize) -> Client {
        let mut client = self.connect(source);
        for number in 0..count {
            client.send(guess("").as_bytes());
            assert_eq!(client.response().status, 403, "{number}");
        }
        client
    }
}
