//! What the clients counted on their side of the sockets, and the comparison with what lavaproxy counted.
//!
//! Of a connection that ended properly everything is known. Of one that was cut, a client knows only bounds: it
//! cannot tell how many of its last bytes were read before the cut, nor what was under way to it.

use std::collections::{HashMap, HashSet};
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
            let counted = counted.get(port).map_or(&[][..], Vec::as_slice);
            let lost = without_partner(known, counted);
            let lost = lost.into_iter().map(|known| format!("{port:?}: the client knows {known:?} among {counted:?}"));
            differences.extend(lost);
        }
        differences
    }
}

/// The connections of a port that stay alone when as many as can be have one of lavaproxy's each. A client that was cut
/// admits many: it makes room for one that knows all (Kuhn's algorithm).
fn without_partner<'k>(known: &'k [Known], counted: &[Counted]) -> Vec<&'k Known> {
    let mut partners = vec![None; counted.len()];
    let numbers = 0..known.len();
    let alone = numbers.filter(|number| !find_partner(*number, known, counted, &mut partners, &mut HashSet::new()));
    alone.map(|number| &known[number]).collect()
}

/// Gives the connection with this number a partner, which may be another's that finds a new one. False without any.
fn find_partner(
    number: usize,
    known: &[Known],
    counted: &[Counted],
    partners: &mut [Option<usize>],
    tried: &mut HashSet<usize>,
) -> bool {
    (0..counted.len()).any(|at| {
        if !known[number].admits(&counted[at]) || !tried.insert(at) {
            return false;
        }
        let is_free = partners[at].is_none_or(|other| find_partner(other, known, counted, partners, tried));
        if is_free {
            partners[at] = Some(number);
        }
        is_free
    })
}

#[test]
fn a_client_that_was_cut_makes_room_for_one_that_knows_all() {
    let counted = |bytes_in| Counted { requests: 1, bytes_in, bytes_out: 0 };
    let known = |least, most| Known {
        requests: Bounds::exactly(1),
        bytes_in: Bounds { least, most },
        bytes_out: Bounds::exactly(0),
    };
    let (cut, sure) = (known(0, 9), known(5, 5));
    assert!(without_partner(&[cut, sure], &[counted(5), counted(9)]).is_empty());
    assert_eq!(without_partner(&[cut, sure], &[counted(9), counted(9)]).len(), 1);
    assert_eq!(without_partner(&[sure, cut, sure], &[counted(5), counted(0)]).len(), 1);
}
