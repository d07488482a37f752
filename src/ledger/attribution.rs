//! Which client a connection's requests and bytes count for.
//!
//! A front may send the requests of many clients over one connection. What was used before a request of another client
//! stays with the earlier client. The connection itself counts for the client of the first request, so that the sums
//! are the same as without a front.

use super::entry::Live;
use super::{Amount, ClientAddr, Ledger, unix_millis};

impl Ledger {
    /// Attributes what a connection uses after `so_far` to this client.
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
        // Bytes before the first request are a PROXY protocol header, which belongs to that request's client.
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
    use crate::ledger::{Entry, MAX_ADDRESSES, Snapshot, UsageRow};

    fn client(number: u32) -> ClientAddr {
        ClientAddr::new(address(number).ip(), None)
    }

    fn row(snapshot: &Snapshot, number: u32) -> &UsageRow {
        let address = address(number).ip().to_string();
        snapshot.usage.iter().find(|row| row.address == address).expect("no such row")
    }

    /// A request of `client` with a head of so many bytes, and its answer.
    fn exchange(entry: &Entry, client: ClientAddr, bytes_in: usize, bytes_out: usize) {
        pass(entry, bytes_in, 0);
        entry.count_request();
        entry.attribute_to(client, bytes_in);
        pass(entry, 0, bytes_out);
    }

    fn assert_adds_up(snapshot: &Snapshot) {
        let totals = &snapshot.totals;
        let sum = |of: fn(&UsageRow) -> u64| snapshot.usage.iter().map(of).sum::<u64>();
        assert_eq!(sum(|row| row.active), totals.active);
        assert_eq!(sum(|row| row.connections), totals.connections);
        assert_eq!(sum(|row| row.traffic.amount.requests), totals.traffic.amount.requests);
        assert_eq!(sum(|row| row.traffic.amount.bytes_in), totals.traffic.amount.bytes_in);
        assert_eq!(sum(|row| row.traffic.amount.bytes_out), totals.traffic.amount.bytes_out);
    }

    #[test]
    fn a_proxy_header_attributes_the_whole_connection_to_its_client() {
        let ledger = Ledger::new();
        let entry = ledger.open(address(1), "proxy");
        pass(&entry, 28, 0);
        entry.attribute_to(ClientAddr::from(address(2)), 0);
        assert_eq!(entry.client(), ClientAddr::from(address(2)));
        exchange(&entry, ClientAddr::from(address(2)), 100, 1000);
        let live = ledger.snapshot();
        assert_eq!(live.connections[0].client.to_string(), address(2).to_string());
        entry.ends_as(crate::error::End::ClientClosed);
        drop(entry);
        for (snapshot, active) in [(live, 1), (ledger.snapshot(), 0)] {
            assert_adds_up(&snapshot);
            assert_eq!(snapshot.usage.len(), 1, "the front itself has used nothing");
            let row = row(&snapshot, 2);
            assert_eq!((row.active, row.connections, row.traffic.amount.requests), (active, 1, 1));
            assert_eq!((row.traffic.amount.bytes_in, row.traffic.amount.bytes_out), (128, 1000));
        }
    }

    #[test]
    fn usage_stays_with_each_client_of_a_shared_connection() {
        let ledger = Ledger::new();
        let entry = ledger.open(address(1), "proxy");
        for (number, bytes_in, bytes_out) in [(2, 10, 100), (3, 20, 200), (2, 1, 3), (2, 1, 3), (3, 7, 9)] {
            exchange(&entry, client(number), bytes_in, bytes_out);
            assert_adds_up(&ledger.snapshot());
            ledger.tick();
        }
        let check = |active| {
            let snapshot = ledger.snapshot();
            assert_adds_up(&snapshot);
            let (two, three) = (row(&snapshot, 2), row(&snapshot, 3));
            assert_eq!(
                (
                    two.active,
                    two.connections,
                    two.traffic.amount.requests,
                    two.traffic.amount.bytes_in,
                    two.traffic.amount.bytes_out
                ),
                (0, 1, 3, 12, 106)
            );
            assert_eq!((three.active, three.connections, three.traffic.amount.requests), (active, 0, 2));
            assert_eq!((three.traffic.amount.bytes_in, three.traffic.amount.bytes_out), (27, 209));
            assert_eq!(snapshot.usage.len(), 2);
        };
        check(1);
        drop(entry);
        check(0);
    }

    #[test]
    fn a_pipelined_request_counts_for_its_own_client() {
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
        assert_eq!((row(&snapshot, 2).traffic.amount.bytes_in, row(&snapshot, 3).traffic.amount.bytes_in), (30, 30));
        assert_adds_up(&snapshot);
    }

    #[test]
    fn rates_are_zero_after_a_change_of_client() {
        let ledger = Ledger::new();
        let entry = ledger.open(address(1), "proxy");
        exchange(&entry, client(2), 1000, 5000);
        ledger.tick();
        exchange(&entry, client(3), 1000, 5000);
        for _ in 0..6 {
            ledger.tick();
        }
        let snapshot = ledger.snapshot();
        assert_eq!(snapshot.usage.iter().map(|row| row.traffic.rate_in + row.traffic.rate_out).sum::<u64>(), 0);
    }

    #[test]
    fn addresses_of_clients_behind_a_front_are_bounded() {
        let ledger = Ledger::new();
        let entry = ledger.open(address(0), "proxy");
        for number in 1..=(MAX_ADDRESSES as u32 + 700) {
            exchange(&entry, client(number), 1, 2);
        }
        let snapshot = ledger.snapshot();
        assert!(snapshot.usage.len() <= MAX_ADDRESSES + 1, "{}", snapshot.usage.len());
        assert_adds_up(&snapshot);
    }
}
