//! Sums by version, node and account at one moment: what samples over time are made of.

use std::sync::Arc;

use super::book::Book;
use super::tally::{VERSIONS, index, name};
use super::traffic::Amount;
use super::{Ledger, State};

/// All sums since the figures began, those of earlier processes included.
#[derive(Debug)]
pub struct Sums {
    /// `none` for connections that have sent no request that could be routed, then `v3` and `v4`.
    pub versions: Vec<Sum>,
    /// By the node of the last request, in any order.
    pub nodes: Vec<Sum>,
    /// By account, most bytes first.
    pub accounts: Vec<Sum>,
    /// Requests and connections that got an error of our own.
    pub refused: u64,
}

/// What one of them used.
#[derive(Debug)]
pub struct Sum {
    /// `None` for those that were folded together.
    pub name: Option<Arc<str>>,
    /// Connections open now.
    pub active: u64,
    /// Of all its connections.
    pub amount: Amount,
}

impl Ledger {
    /// The sums as of now.
    pub fn sums(&self) -> Sums {
        let mut active = [0; VERSIONS.len()];
        let mut state = self.state.lock();
        let mut amounts = state.versions;
        state.count_open(|_, notes, so_far| {
            active[index(notes.version)] += 1;
            amounts.add(notes.version, notes.open_by_version(so_far));
        });
        let mut refused = state.inherited.refused.clone();
        let (nodes, mut accounts) = (of(&state, |state| &state.nodes), of(&state, |state| &state.accounts));
        drop(state);
        refused.add(&self.refused_here());
        accounts.sort_unstable_by_key(|sum| {
            let (bytes_in, bytes_out) = sum.amount.bytes();
            std::cmp::Reverse(bytes_in.saturating_add(bytes_out))
        });
        let version = |version| Sum {
            name: Some(name(version).into()),
            active: active[index(version)],
            amount: amounts.of(version),
        };
        Sums { versions: VERSIONS.map(version).into(), nodes, accounts, refused: refused.sum() }
    }
}

fn of(state: &State, book: impl Fn(&State) -> &Book<Arc<str>>) -> Vec<Sum> {
    let sums = book(state).sums();
    sums.map(|(name, active, amount)| Sum { name: name.cloned(), active, amount }).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::Lavalink;
    use crate::error::End;
    use crate::ledger::tests::{address, assert_adds_up, pass};
    use crate::ledger::{ClientAddr, ClientInfo, Entry};

    fn request(entry: &Entry, version: Lavalink, node: &str) {
        pass(entry, 10, 0);
        entry.count_request();
        entry.attribute_to(ClientAddr::from(address(1)), 10);
        entry.note_account(&"alice".into());
        entry.note_request(Some(version), &node.into(), &"127.0.0.1:1".into(), ClientInfo::default());
        pass(entry, 0, 100);
    }

    fn of<'s>(sums: &'s [Sum], name: &str) -> &'s Sum {
        sums.iter().find(|sum| sum.name.as_deref() == Some(name)).unwrap()
    }

    fn used(requests: u64) -> Amount {
        Amount { requests, bytes_in: 10 * requests, bytes_out: 100 * requests }
    }

    #[test]
    fn each_request_counts_for_its_node_and_its_version() {
        let ledger = Ledger::new();
        let entry = ledger.open(address(1), "proxy");
        for (version, node) in
            [(Lavalink::V4, "eu1"), (Lavalink::V4, "eu2"), (Lavalink::V3, "old"), (Lavalink::V4, "eu1")]
        {
            request(&entry, version, node);
            assert_adds_up(&ledger);
        }
        let sums = ledger.sums();
        assert_eq!([of(&sums.nodes, "eu1").amount, of(&sums.nodes, "eu2").amount], [used(2), used(1)]);
        assert_eq!([of(&sums.nodes, "eu1").active, of(&sums.nodes, "eu2").active], [1, 0]);
        assert_eq!([of(&sums.versions, "v3").amount, of(&sums.versions, "v4").amount], [used(1), used(3)]);
        assert_eq!([of(&sums.versions, "v3").active, of(&sums.versions, "v4").active], [0, 1]);
        assert_eq!(of(&sums.accounts, "alice").amount, used(4));
        entry.count_refusal(End::RejectedPassword);
        drop(entry);
        let sums = ledger.sums();
        assert_eq!((of(&sums.nodes, "eu1").active, of(&sums.nodes, "eu1").amount, sums.refused), (0, used(2), 1));
    }

    #[test]
    fn what_may_come_to_belong_to_a_version_does_not_count_for_none_meanwhile() {
        let ledger = Ledger::new();
        let none = || {
            let tally = ledger.tallies().versions[0].amount;
            assert_eq!(tally, of(&ledger.sums().versions, "none").amount);
            tally.requests
        };
        let entry = ledger.open(address(1), "proxy");
        for refused in 1..=2 {
            pass(&entry, 10, 0);
            entry.count_request();
            assert_eq!(none(), refused - 1, "under way");
            entry.attribute_to(ClientAddr::from(address(1)), 10);
            entry.count_refusal(End::RejectedPassword);
            assert_eq!(none(), refused);
            assert_adds_up(&ledger);
        }
        pass(&entry, 10, 0);
        entry.count_request();
        assert_eq!(none(), 2);
        entry.note_request(Some(Lavalink::V4), &"v4".into(), &"127.0.0.1:1".into(), ClientInfo::default());
        assert_eq!((none(), of(&ledger.sums().versions, "v4").amount.requests), (2, 1));
        assert_adds_up(&ledger);
        drop(entry);
        assert_eq!((none(), of(&ledger.sums().versions, "v4").amount.requests), (2, 1));
    }

    #[test]
    fn what_a_tunnel_uses_after_a_takeover_counts_for_the_next_node() {
        let ledger = Ledger::new();
        let entry = ledger.open(address(1), "proxy");
        request(&entry, Lavalink::V4, "eu1");
        entry.note_node(&"eu2".into(), &"127.0.0.1:2".into());
        pass(&entry, 7, 8);
        let next = Ledger::new();
        next.restore(ledger.save());
        for sums in [ledger.sums(), next.sums()] {
            assert_eq!(of(&sums.nodes, "eu1").amount, used(1));
            assert_eq!(of(&sums.nodes, "eu2").amount, Amount { requests: 0, bytes_in: 7, bytes_out: 8 });
        }
    }
}
