//! Where a client is, as far as that is known, and how a connection changes hands.
//!
//! A front may send the requests of many clients over one connection. What was used up to the request that changes
//! hands stays with the client that used it; the connection itself counts for the first client that asked for
//! something, so that all sums stay what they are without fronts.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use serde::{Serialize, Serializer};

use super::tally::Amount;
use super::{Ledger, Live, unix_millis};

/// A client's address, and its port where that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientAddr {
    /// An IPv4 address also where it came mapped into IPv6.
    pub address: IpAddr,
    /// `None` where a front told the address alone.
    pub port: Option<u16>,
}

impl ClientAddr {
    /// Of an address whose port, if any, is `port`.
    pub fn new(address: IpAddr, port: Option<u16>) -> Self {
        Self { address: address.to_canonical(), port }
    }
}

impl From<SocketAddr> for ClientAddr {
    fn from(client: SocketAddr) -> Self {
        Self::new(client.ip(), Some(client.port()))
    }
}

impl fmt::Display for ClientAddr {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => SocketAddr::new(self.address, port).fmt(out),
            None => self.address.fmt(out),
        }
    }
}

impl Serialize for ClientAddr {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Ledger {
    /// Hands a connection to the client that what comes after `so_far` is from.
    pub(super) fn attribute_to(&self, connection: &Live, client: ClientAddr, so_far: Amount) {
        let known = connection.notes.lock().client;
        if known == client {
            return;
        }
        let now = unix_millis();
        let mut state = self.state.lock();
        let state = &mut *state;
        let mut notes = connection.notes.lock();
        notes.client = client;
        if known.address == client.address {
            return;
        }
        state.make_room_for(client.address);
        // Bytes before the first request are the announcement of whom it is from.
        let is_unused = so_far.requests == 0;
        if let Some(before) = state.usage.get_mut(&known.address) {
            before.active = before.active.saturating_sub(1);
            before.last_seen = now;
            if is_unused {
                before.connections = before.connections.saturating_sub(1);
            } else {
                before.used.add(so_far.less(notes.attributed));
                notes.attributed = so_far;
            }
            if before.is_blank() {
                state.usage.remove(&known.address);
            }
        }
        let after = state.usage.entry(client.address).or_default();
        after.active += 1;
        after.connections += u64::from(is_unused);
        after.last_seen = now;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::ledger::tests::{address, pass};
    use crate::ledger::{Entry, Snapshot, UsageRow};

    fn client(number: u32) -> ClientAddr {
        ClientAddr::new(address(number).ip(), None)
    }

    fn row(snapshot: &Snapshot, number: u32) -> &UsageRow {
        let address = address(number).ip().to_string();
        snapshot.usage.iter().find(|row| row.address == address).expect("no such row")
    }

    /// A request of `client` with a head of so many bytes, and its answer.
    fn ask(entry: &Entry, client: ClientAddr, bytes_in: usize, bytes_out: usize) {
        pass(entry, bytes_in, 0);
        entry.count_request();
        entry.attribute_to(client, bytes_in);
        pass(entry, 0, bytes_out);
    }

    fn adds_up(snapshot: &Snapshot) {
        let totals = &snapshot.totals;
        let sum = |of: fn(&UsageRow) -> u64| snapshot.usage.iter().map(of).sum::<u64>();
        assert_eq!(sum(|row| row.active), totals.active);
        assert_eq!(sum(|row| row.connections), totals.connections);
        assert_eq!(sum(|row| row.requests), totals.requests);
        assert_eq!(sum(|row| row.bytes_in), totals.bytes_in);
        assert_eq!(sum(|row| row.bytes_out), totals.bytes_out);
    }

    #[test]
    fn an_origin_is_written_with_the_port_that_is_known() {
        for (origin, written) in [
            (ClientAddr::from("203.0.113.7:80".parse::<SocketAddr>().unwrap()), "203.0.113.7:80"),
            (ClientAddr::from("[::ffff:203.0.113.7]:80".parse::<SocketAddr>().unwrap()), "203.0.113.7:80"),
            (ClientAddr::from("[2001:db8::7]:80".parse::<SocketAddr>().unwrap()), "[2001:db8::7]:80"),
            (ClientAddr::new("203.0.113.7".parse().unwrap(), None), "203.0.113.7"),
            (ClientAddr::new("::ffff:203.0.113.7".parse().unwrap(), None), "203.0.113.7"),
            (ClientAddr::new("2001:db8::7".parse().unwrap(), None), "2001:db8::7"),
        ] {
            assert_eq!(origin.to_string(), written);
            assert_eq!(serde_json::to_string(&origin).unwrap(), format!("\"{written}\""));
        }
    }

    #[test]
    fn a_connection_that_was_announced_is_its_clients_from_the_start() {
        let ledger = Ledger::new();
        let entry = ledger.open(address(1), "proxy");
        pass(&entry, 28, 0);
        entry.attribute_to(ClientAddr::from(address(2)), 0);
        assert_eq!(entry.client(), ClientAddr::from(address(2)));
        ask(&entry, ClientAddr::from(address(2)), 100, 1000);
        let live = ledger.snapshot();
        assert_eq!(live.connections[0].client.to_string(), address(2).to_string());
        entry.ends_as(crate::error::End::ClientClosed);
        drop(entry);
        for (snapshot, active) in [(live, 1), (ledger.snapshot(), 0)] {
            adds_up(&snapshot);
            assert_eq!(snapshot.usage.len(), 1, "the front itself has used nothing");
            let row = row(&snapshot, 2);
            assert_eq!((row.active, row.connections, row.requests), (active, 1, 1));
            assert_eq!((row.bytes_in, row.bytes_out), (128, 1000));
        }
    }

    #[test]
    fn what_was_used_stays_with_who_used_it_when_a_connection_changes_hands() {
        let ledger = Ledger::new();
        let entry = ledger.open(address(1), "proxy");
        for (number, bytes_in, bytes_out) in [(2, 10, 100), (3, 20, 200), (2, 1, 3), (2, 1, 3), (3, 7, 9)] {
            ask(&entry, client(number), bytes_in, bytes_out);
            adds_up(&ledger.snapshot());
            ledger.tick();
        }
        let check = |active| {
            let snapshot = ledger.snapshot();
            adds_up(&snapshot);
            let (two, three) = (row(&snapshot, 2), row(&snapshot, 3));
            assert_eq!((two.active, two.connections, two.requests, two.bytes_in, two.bytes_out), (0, 1, 3, 12, 106));
            assert_eq!((three.active, three.connections, three.requests), (active, 0, 2));
            assert_eq!((three.bytes_in, three.bytes_out), (27, 209));
            assert_eq!(snapshot.usage.len(), 2);
        };
        check(1);
        drop(entry);
        check(0);
    }

    #[test]
    fn a_request_that_waits_behind_another_is_its_own_clients() {
        let ledger = Ledger::new();
        let entry = ledger.open(address(1), "proxy");
        // Two heads of 30 bytes in one read.
        pass(&entry, 60, 0);
        entry.count_request();
        entry.attribute_to(client(2), 60);
        pass(&entry, 0, 5);
        entry.count_request();
        entry.attribute_to(client(3), 30);
        let snapshot = ledger.snapshot();
        assert_eq!((row(&snapshot, 2).bytes_in, row(&snapshot, 3).bytes_in), (30, 30));
        adds_up(&snapshot);
    }

    #[test]
    fn rates_move_with_the_connection_and_never_backwards() {
        let ledger = Ledger::new();
        let entry = ledger.open(address(1), "proxy");
        ask(&entry, client(2), 1000, 5000);
        ledger.tick();
        ask(&entry, client(3), 1000, 5000);
        for _ in 0..6 {
            ledger.tick();
        }
        let snapshot = ledger.snapshot();
        assert_eq!(snapshot.usage.iter().map(|row| row.rate_in + row.rate_out).sum::<u64>(), 0);
    }

    #[test]
    fn clients_behind_fronts_are_bounded_too() {
        let ledger = Ledger::new();
        let entry = ledger.open(address(0), "proxy");
        for number in 1..=(super::super::MAX_ADDRESSES as u32 + 700) {
            ask(&entry, client(number), 1, 2);
        }
        let snapshot = ledger.snapshot();
        assert!(snapshot.usage.len() <= super::super::MAX_ADDRESSES + 1, "{}", snapshot.usage.len());
        adds_up(&snapshot);
    }
}
