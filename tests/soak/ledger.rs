//! What the clients counted on their side of the sockets, and the comparison with what lavaproxy counted.
//!
//! Of a connection that ended properly everything is known. Of one that was cut, a client knows only bounds: it
//! cannot tell how many of its last bytes were read before the cut, nor what was under way to it.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Mutex;

/// A group of clients. The address tells the kinds apart in lavaproxy's ledger too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Group {
    /// Ends every connection properly: known to the byte.
    Clean,
    /// Breaks off, resets, stalls, lies: known within bounds.
    Abrupt,
}

impl Group {
    pub const ALL: [Self; 2] = [Self::Clean, Self::Abrupt];

    pub fn address(self) -> Ipv4Addr {
        match self {
            Self::Clean => Ipv4Addr::new(127, 0, 0, 2),
            Self::Abrupt => Ipv4Addr::new(127, 0, 0, 3),
        }
    }

    pub fn of(address: IpAddr) -> Option<Self> {
        Self::ALL.into_iter().find(|group| group.address() == address)
    }
}

/// What can be known of a number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
    pub least: u64,
    pub most: u64,
}

impl Bounds {
    pub fn exactly(number: u64) -> Self {
        Self { least: number, most: number }
    }

    pub fn admits(self, number: u64) -> bool {
        (self.least..=self.most).contains(&number)
    }
}

impl std::ops::AddAssign for Bounds {
    fn add_assign(&mut self, other: Self) {
        self.least += other.least;
        self.most += other.most;
    }
}

impl fmt::Display for Bounds {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.least == self.most {
            write!(out, "{}", self.least)
        } else {
            write!(out, "{} to {}", self.least, self.most)
        }
    }
}

/// One connection as its client knows it, or several together.
#[derive(Clone, Copy, Debug, Default)]
pub struct Known {
    pub requests: Bounds,
    pub bytes_in: Bounds,
    pub bytes_out: Bounds,
}

/// One connection as lavaproxy counted it, or several together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    pub requests: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
}

impl std::ops::Add for Counted {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            requests: self.requests + other.requests,
            bytes_in: self.bytes_in + other.bytes_in,
            bytes_out: self.bytes_out + other.bytes_out,
        }
    }
}

impl Known {
    pub fn is_exact(&self) -> bool {
        [self.requests, self.bytes_in, self.bytes_out].iter().all(|bounds| bounds.least == bounds.most)
    }

    pub fn admits(&self, counted: &Counted) -> bool {
        self.requests.admits(counted.requests)
            && self.bytes_in.admits(counted.bytes_in)
            && self.bytes_out.admits(counted.bytes_out)
    }
}

/// A connection's name: no other connection has this port at the same time.
pub type Port = (Group, u16);

/// The clients' accounts, by connection.
#[derive(Default)]
pub struct Ledger(Mutex<HashMap<Port, Vec<Known>>>);

impl Ledger {
    pub fn enter(&self, port: Port, known: Known) {
        self.0.lock().unwrap().entry(port).or_default().push(known);
    }

    pub fn connections(&self, group: Group) -> u64 {
        self.0.lock().unwrap().iter().filter(|(port, _)| port.0 == group).map(|(_, known)| known.len() as u64).sum()
    }

    /// All of one kind together.
    pub fn sum(&self, group: Group) -> Known {
        let mut sum = Known::default();
        for known in self.0.lock().unwrap().iter().filter(|(port, _)| port.0 == group).flat_map(|(_, known)| known) {
            sum.requests += known.requests;
            sum.bytes_in += known.bytes_in;
            sum.bytes_out += known.bytes_out;
        }
        sum
    }

    /// What does not fit among single connections; a port may have been used by several, one after the other.
    pub fn differences(&self, counted: &HashMap<Port, Vec<Counted>>) -> Vec<String> {
        let mut differences = Vec::new();
        for (port, known) in &*self.0.lock().unwrap() {
            let mut open: Vec<Counted> = counted.get(port).cloned().unwrap_or_default();
            for known in known {
                match open.iter().position(|counted| known.admits(counted)) {
                    Some(at) => drop(open.remove(at)),
                    None => differences.push(format!("{port:?}: the client knows {known:?}, lavaproxy has {open:?}")),
                }
            }
        }
        differences
    }
}
