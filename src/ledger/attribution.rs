//! Which client, bot, account and node a connection's requests and bytes count for.
//!
//! A front may send the requests of many clients over one connection. What was used before a request of another client
//! stays with the earlier client, and likewise with bots, accounts and nodes. The ledger is locked only when one of
//! them changes.

use std::sync::Arc;

use super::entry::Live;
use super::{Amount, ClientAddr, Ledger};
use crate::unix_time::unix_millis;

impl Ledger {
    /// Attributes what a connection uses after `so_far` to this client, and notes that its current request begins
    /// there.
    pub(super) fn attribute_to(&self, connection: &Live, client: ClientAddr, so_far: Amount) {
        {
            let mut notes = connection.notes.lock();
            notes.before_request = so_far;
            if notes.client == client {
                return;
            }
        }
        let now = unix_millis();
        let mut state = self.state.lock();
        let mut notes = connection.notes.lock();
        let notes = &mut *notes;
        if notes.client.address != client.address && so_far.requests > 0 {
            // The bot and the account were those of the client before.
            state.bots.detach(&mut notes.bot, so_far, now);
            state.accounts.detach(&mut notes.account, so_far, now);
        }
        notes.client = client;
        state.addresses.attribute(&mut notes.address, client.address, so_far, now);
    }

    /// Attributes the current request of a connection and what follows it to this bot, or to the one that it has.
    /// `client_name` is that bot's.
    pub(super) fn attribute_to_bot(&self, connection: &Live, bot: Option<Arc<str>>, client_name: Option<Arc<str>>) {
        let mut state = self.state.lock();
        let mut notes = connection.notes.lock();
        let so_far = notes.before_request;
        if let Some(bot) = bot {
            state.bots.attribute(&mut notes.bot, bot, so_far, unix_millis());
        }
        if let Some(client_name) = client_name {
            state.bots.name(&notes.bot, client_name);
        }
    }

    /// Attributes the current request of a connection and what follows it to this account.
    pub(super) fn attribute_to_account(&self, connection: &Live, account: Arc<str>) {
        let mut state = self.state.lock();
        let mut notes = connection.notes.lock();
        let so_far = notes.before_request;
        state.accounts.attribute(&mut notes.account, account, so_far, unix_millis());
    }

    /// Attributes the current request of a connection and what follows it to this node.
    pub(super) fn attribute_to_node(&self, connection: &Live, node: Arc<str>) {
        let mut state = self.state.lock();
        let mut notes = connection.notes.lock();
        let so_far = notes.before_request;
        state.nodes.attribute(&mut notes.by_node, node, so_far, unix_millis());
    }

    /// Attributes what a tunnel uses from now on to this node.
    pub(super) fn move_to_node(&self, connection: &Live, node: Arc<str>) {
        let mut state = self.state.lock();
        let mut notes = connection.notes.lock();
        let so_far = connection.amount();
        state.nodes.attribute(&mut notes.by_node, node, so_far, unix_millis());
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use std::sync::mpsc;
    use std::thread;
    use std::time::Duration;

    use super::*;
    use crate::config::Lavalink;
    use crate::ledger::entry::MAX_NAME;
    use crate::ledger::tests::{address, assert_adds_up, counted, pass, pass_a_second, sum};
    use crate::ledger::{AccountUsageRow, BotRow, ClientInfo, Counted, Entry, MAX_ROWS, Snapshot, Used};

    fn client(number: u32) -> ClientAddr {
        ClientAddr::new(address(number).ip(), None)
    }

    fn row(snapshot: &Snapshot, number: u32) -> &Used {
        let address = address(number).ip().to_string();
        &snapshot.usage.iter().find(|row| row.address == address).expect("no such row").used
    }

    /// A request of `client` with a head of so many bytes, and its answer.
    fn exchange(entry: &Entry, client: ClientAddr, bytes_in: usize, bytes_out: usize) {
        pass(entry, bytes_in, 0);
        entry.count_request();
        entry.attribute_to(client, bytes_in);
        pass(entry, 0, bytes_out);
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
            assert_adds_up(&ledger);
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
            assert_adds_up(&ledger);
            ledger.tick();
        }
        let check = |active| {
            let snapshot = ledger.snapshot();
            assert_adds_up(&ledger);
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
    fn a_request_of_another_client_counts_neither_for_the_account_nor_for_the_bot_before_it() {
        let ledger = Ledger::new();
        let entry = ledger.open(address(1), "proxy");
        let request = |number, bytes_in, account: Option<&str>, user_id: &str| {
            pass(&entry, bytes_in, 0);
            entry.count_request();
            entry.attribute_to(client(number), bytes_in);
            if let Some(account) = account {
                entry.note_account(&account.into());
                let info = ClientInfo { user_id: user_id.as_bytes(), client_name: b"", user_agent: b"" };
                entry.note_request(Some(Lavalink::V4), &"v4".into(), &"127.0.0.1:2333".into(), info);
            }
            pass(&entry, 0, 100);
        };
        request(9, 70_000, None, "");
        request(2, 100, Some("al"), "111");
        request(3, 60_000, None, "");
        request(3, 60_000, None, "");
        request(4, 7, Some("bo"), "");
        request(4, 7, Some("bo"), "");
        request(2, 100, Some("al"), "");
        request(2, 100, Some("al"), "111");
        let used = |bytes_in, requests| (bytes_in, requests, 100 * requests);
        let accounts = |active| {
            let mut rows: Vec<_> = (ledger.accounts().into_iter())
                .map(|row: AccountUsageRow| {
                    let Amount { requests, bytes_in, bytes_out } = row.used.traffic.amount;
                    let connections = (row.used.active, row.used.connections);
                    (row.account.to_string(), connections, (bytes_in, requests, bytes_out))
                })
                .collect();
            rows.sort_unstable();
            let expected = [("al".to_owned(), (active, 1), used(300, 3)), ("bo".to_owned(), (0, 0), used(14, 2))];
            assert_eq!(rows, expected);
            // The request of 2 that named no bot may be another one's.
            assert_eq!(bots(&ledger), [("111".to_owned(), active, 1, 2, 200, 200)]);
            assert_adds_up(&ledger);
        };
        accounts(1);
        drop(entry);
        accounts(0);
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
        assert_adds_up(&ledger);
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
        assert_eq!(
            snapshot.usage.iter().map(|row| row.used.traffic.rate_in + row.used.traffic.rate_out).sum::<u64>(),
            0
        );
    }

    #[test]
    fn addresses_of_clients_behind_a_front_are_bounded() {
        let ledger = Ledger::new();
        let entry = ledger.open(address(0), "proxy");
        for number in 1..=(MAX_ROWS as u32 + 700) {
            exchange(&entry, client(number), 1, 2);
        }
        let snapshot = ledger.snapshot();
        assert!(snapshot.usage.len() <= MAX_ROWS + 1, "{}", snapshot.usage.len());
        assert_adds_up(&ledger);
    }

    #[test]
    fn clients_of_a_shared_connection_that_were_folded_are_in_others() {
        let ledger = Ledger::bounded(2);
        let entry = ledger.open(address(1), "proxy");
        for number in 1..=5 {
            exchange(&entry, client(number), 1, 2);
        }
        assert_adds_up(&ledger);
        let snapshot = ledger.snapshot();
        let others = &snapshot.usage.iter().find(|row| row.address == "others").expect("no others").used;
        assert_eq!((others.connections, others.traffic.amount.requests), (1, 3));
        assert_adds_up(&ledger);
        // Others without any connection, which counts for the first client.
        let ledger = Ledger::bounded(2);
        let entry = ledger.open(address(1), "proxy");
        let _first = ledger.open(address(1), "proxy");
        for number in 1..=5 {
            exchange(&entry, client(number), 1, 2);
        }
        let snapshot = ledger.snapshot();
        let others = &snapshot.usage.iter().find(|row| row.address == "others").expect("no others").used;
        assert_eq!((others.connections, others.traffic.amount.requests), (0, 2));
        assert_adds_up(&ledger);
    }

    #[test]
    fn live_rows_beyond_the_bound_are_folded_when_they_are_idle() {
        let ledger = Ledger::bounded(32);
        let live: Vec<Entry> = (0..100).map(|number| ledger.open(address(number), "proxy")).collect();
        assert_eq!(ledger.snapshot().usage.len(), 100);
        drop(live);
        drop(ledger.open(address(200), "proxy"));
        for number in 201..204 {
            drop(ledger.open(address(number), "proxy"));
        }
        assert!(ledger.snapshot().usage.len() <= 33, "{}", ledger.snapshot().usage.len());
        assert_adds_up(&ledger);
    }

    /// A request that names this bot, or none, and its answer of 100 bytes.
    fn request(entry: &Entry, user_id: &str, client_name: &str, bytes_in: usize) {
        pass(entry, bytes_in, 0);
        entry.count_request();
        entry.attribute_to(entry.client(), bytes_in);
        let info = ClientInfo { user_id: user_id.as_bytes(), client_name: client_name.as_bytes(), user_agent: b"" };
        entry.note_request(Some(Lavalink::V4), &"v4".into(), &"127.0.0.1:2333".into(), info);
        pass(entry, 0, 100);
    }

    /// Bot, connections open now and ever, requests, bytes in and out.
    fn bots(ledger: &Ledger) -> Vec<(String, u64, u64, u64, u64, u64)> {
        let row = |BotRow { user_id, used, .. }: BotRow| {
            let Amount { requests, bytes_in, bytes_out } = used.traffic.amount;
            (user_id.to_string(), used.active, used.connections, requests, bytes_in, bytes_out)
        };
        let mut rows: Vec<_> = ledger.bots().into_iter().map(row).collect();
        rows.sort_unstable();
        rows
    }

    #[test]
    fn a_bot_gets_what_its_connection_used_before_it_was_named() {
        let ledger = Ledger::new();
        let entry = ledger.open(address(1), "proxy");
        pass(&entry, 28, 0);
        request(&entry, "", "", 10);
        assert_eq!(bots(&ledger), []);
        request(&entry, "42", "", 20);
        request(&entry, "", "", 30);
        assert_eq!(bots(&ledger), [("42".to_owned(), 1, 1, 3, 88, 300)]);
        drop(entry);
        assert_eq!(bots(&ledger), [("42".to_owned(), 0, 1, 3, 88, 300)]);
        let unnamed = ledger.open(address(1), "proxy");
        request(&unnamed, "", "a-name", 10);
        drop(unnamed);
        assert_eq!(bots(&ledger).len(), 1, "a connection that names no bot counts for none");
        assert_adds_up(&ledger);
    }

    #[test]
    fn a_shared_connection_counts_for_each_bot_what_it_used() {
        let ledger = Ledger::new();
        let entry = ledger.open(address(1), "proxy");
        for (bot, bytes_in) in [("1", 10), ("2", 20), ("", 5), ("1", 7)] {
            request(&entry, bot, "", bytes_in);
        }
        let first = |active| ("1".to_owned(), active, 1, 2, 17, 200);
        assert_eq!(bots(&ledger), [first(1), ("2".to_owned(), 0, 0, 2, 25, 200)]);
        drop(entry);
        assert_eq!(bots(&ledger), [first(0), ("2".to_owned(), 0, 0, 2, 25, 200)]);
    }

    #[test]
    fn each_bot_has_the_client_name_that_it_sent_last() {
        let ledger = Ledger::new();
        let names = || {
            let mut names: Vec<_> =
                ledger.bots().into_iter().map(|row| format!("{} {}", row.user_id, row.client_name)).collect();
            names.sort_unstable();
            names
        };
        let entry = ledger.open(address(1), "proxy");
        request(&entry, "", "lib/1", 1);
        request(&entry, "1", "", 1);
        assert_eq!(names(), ["1 lib/1"]);
        request(&entry, "2", "", 1);
        assert_eq!(names(), ["1 lib/1", "2 "], "the name is that of the earlier bot");
        request(&entry, "2", "lib/1", 1);
        request(&entry, "3", "lib/1", 1);
        request(&entry, "", "lib/2", 1);
        assert_eq!(names(), ["1 lib/1", "2 ", "3 lib/2"]);
        let other = ledger.open(address(2), "proxy");
        request(&other, "1", "lib/3", 1);
        request(&other, "2", "lib/3", 1);
        assert_eq!(names(), ["1 lib/3", "2 lib/3", "3 lib/2"]);
    }

    #[test]
    fn a_connection_counts_for_the_account_of_its_last_authenticated_request() {
        let ledger = Ledger::new();
        let (first, second): (Arc<str>, Arc<str>) = ("default".into(), "customer".into());
        let (entry, refused) = (ledger.open(address(1), "proxy"), ledger.open(address(2), "proxy"));
        let authenticated = |account: Option<&Arc<str>>, bytes_in| {
            pass(&entry, bytes_in, 0);
            entry.count_request();
            entry.attribute_to(entry.client(), bytes_in);
            account.into_iter().for_each(|account| entry.note_account(account));
            pass(&entry, 0, 100);
        };
        for (account, bytes_in) in
            [(None, 1), (Some(&first), 10), (Some(&first), 20), (None, 3), (Some(&second), 5), (Some(&first), 7)]
        {
            authenticated(account, bytes_in);
        }
        pass(&refused, 1000, 0);
        let rows = || -> Vec<(String, u64, Counted)> {
            let row = |row: AccountUsageRow| (row.account.to_string(), row.used.active, counted(&row.used));
            ledger.accounts().into_iter().map(row).collect()
        };
        let used = |connections, requests, bytes_in, bytes_out| Counted {
            connections,
            amount: Amount { requests, bytes_in, bytes_out },
        };
        let check = |active| {
            let (a, b) = (used(1, 5, 41, 500), used(0, 1, 5, 100));
            assert_eq!(rows(), [("default".to_owned(), active, a), ("customer".to_owned(), 0, b)]);
            assert_adds_up(&ledger);
            let totals = ledger.snapshot().totals;
            let mut sum = used(1, 0, 1000, 0);
            [a, b].into_iter().for_each(|row| sum.add(row));
            let all = Counted { connections: totals.connections, amount: totals.traffic.amount };
            assert_eq!(sum, all, "the accounts and the connection without one are all");
        };
        check(1);
        drop(entry);
        drop(refused);
        check(0);
    }

    #[test]
    fn bots_and_accounts_are_bounded_and_others_has_the_rest() {
        let ledger = Ledger::bounded(32);
        for number in 0..200 {
            let entry = ledger.open(address(1), "proxy");
            request(&entry, &number.to_string(), "", 10);
            entry.note_account(&number.to_string().into());
        }
        let (bots, accounts) = (ledger.bots(), ledger.accounts());
        let all = Counted { connections: 200, amount: Amount { requests: 200, bytes_in: 2000, bytes_out: 20_000 } };
        assert!((2..=33).contains(&bots.len()) && (2..=33).contains(&accounts.len()));
        assert_eq!((&*bots[0].user_id, &*accounts[0].account), ("others", "others"));
        assert_eq!(sum(bots.iter().map(|row| &row.used)), all);
        assert_eq!(sum(accounts.iter().map(|row| &row.used)), all);
    }

    #[test]
    fn a_bot_id_is_bounded() {
        let ledger = Ledger::new();
        let entry = ledger.open(address(1), "proxy");
        request(&entry, &"1".repeat(5000), &"x".repeat(5000), 1);
        request(&entry, &"1".repeat(6000), "", 1);
        let bots = ledger.bots();
        assert_eq!((bots.len(), bots[0].user_id.len(), bots[0].client_name.len()), (1, MAX_NAME, MAX_NAME));
    }

    #[test]
    fn rates_of_bots_and_accounts_follow_their_bytes() {
        let ledger = Ledger::new();
        let entry = ledger.open(address(1), "proxy");
        request(&entry, "1", "", 10);
        entry.note_account(&"customer".into());
        let rates = || (ledger.bots()[0].used.traffic.rate_out, ledger.accounts()[0].used.traffic.rate_out);
        pass_a_second(&ledger);
        pass(&entry, 0, 1_000_000);
        ledger.tick();
        let (bot, account) = rates();
        assert!(bot > 0 && account > 0, "{bot} {account}");
        (0..6).for_each(|_| ledger.tick());
        assert_eq!(rates(), (0, 0));
    }

    #[test]
    fn a_request_that_changes_nothing_does_not_lock_the_ledger() {
        let ledger = Ledger::new();
        let entry = ledger.open(address(1), "proxy");
        let (account, node, backend): (Arc<str>, Arc<str>, Arc<str>) = ("a".into(), "v4".into(), "b".into());
        let act = || {
            entry.count_request();
            entry.attribute_to(client(2), 0);
            entry.note_account(&account);
            let info = ClientInfo { user_id: b"4\xff2", client_name: b"na\xffme", user_agent: b"agent" };
            entry.note_request(Some(Lavalink::V4), &node, &backend, info);
        };
        act();
        let (done, is_done) = mpsc::channel();
        thread::scope(|scope| {
            let locked = ledger.state.lock();
            scope.spawn(|| {
                act();
                done.send(()).unwrap();
            });
            let ended = is_done.recv_timeout(Duration::from_secs(20));
            drop(locked);
            ended.expect("it waits for the ledger's lock");
        });
        assert_eq!(ledger.snapshot().totals.traffic.amount.requests, 2);
    }
}
