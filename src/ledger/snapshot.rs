//! How a snapshot is taken: figures are copied while the lock is held, and the rows are made after it is released.
//!
//! What each live connection used is read once, so that the sums over all rows are the totals also while bytes pass.

use std::hash::Hash;
use std::net::IpAddr;
use std::sync::Arc;

use super::book::{Book, Copied};
use super::entry::Live;
use super::rate::Clock;
use super::rows::{AccountUsageRow, BotRow, ConnectionRow, Snapshot, Totals, UsageRow};
use super::tally::{Reasons, Versions};
use super::traffic::{Amount, Traffic, Used};
use super::{Ledger, State, millis, sum_open};
use crate::config::Lavalink;
use crate::unix_time::unix_millis;

/// The name of the row of those that were folded together.
const OTHERS: &str = "others";

impl Ledger {
    /// Connections and addresses as of now: exact counts, rates as of the last tick. Connections are in the order of
    /// their ids.
    pub fn snapshot(&self) -> Snapshot {
        let now = unix_millis();
        let mut state = self.state.lock();
        let mut live = Vec::with_capacity(state.live.len());
        let versions = state.count_open(|connection, _, so_far| live.push((Arc::clone(connection), so_far)));
        let addresses = state.addresses.copy(&state.clock, now);
        let copied = state.copy(live, versions);
        drop(state);
        let mut snapshot = self.of(copied, now);
        snapshot.connections.sort_unstable_by_key(|row| row.id);
        snapshot.usage = usage_rows(addresses);
        snapshot
    }

    /// The same without the usage of addresses, which costs less, and with the connections in any order.
    pub fn snapshot_of_connections(&self) -> Snapshot {
        let now = unix_millis();
        let state = self.state.lock();
        let mut live = Vec::with_capacity(state.live.len());
        let each = |connection: &Arc<_>, _: &mut _, so_far| live.push((Arc::clone(connection), so_far));
        let versions = sum_open(&state.live, state.versions, each);
        let copied = state.copy(live, versions);
        drop(state);
        self.of(copied, now)
    }

    fn of(&self, copied: CopiedState, now: u64) -> Snapshot {
        let CopiedState { live, clock, since, ended, mut totals } = copied;
        let row = |(connection, so_far): (Arc<_>, _)| ConnectionRow::new(&connection, so_far, &clock);
        let connections: Vec<ConnectionRow> = live.into_iter().map(row).collect();
        totals.websockets = connections.iter().filter(|row| row.kind == "websocket").count() as u64;
        for version in connections.iter().filter_map(|row| row.version) {
            *totals.versions.entry(version).or_default() += 1;
        }
        Snapshot {
            started_at: self.started_at,
            since,
            now,
            uptime: millis(self.started.elapsed()),
            totals,
            connections,
            usage: Vec::new(),
            ended: ended.all(),
        }
    }

    /// What each address used, most bytes first.
    pub fn usage(&self) -> Vec<UsageRow> {
        usage_rows(self.copy(|state| &state.addresses))
    }

    /// What each bot used, most bytes first.
    pub fn bots(&self) -> Vec<BotRow> {
        let row = |Copied { key, client_name, used }| BotRow {
            user_id: key.unwrap_or_else(|| OTHERS.into()),
            client_name: client_name.unwrap_or_default(),
            used,
        };
        let mut rows: Vec<BotRow> = self.copy(|state| &state.bots).into_iter().map(row).collect();
        sort(&mut rows, |row| (&row.used, &row.user_id));
        rows
    }

    /// What each account used, most bytes first.
    pub fn accounts(&self) -> Vec<AccountUsageRow> {
        let row = |Copied { key, used, .. }| AccountUsageRow { account: key.unwrap_or_else(|| OTHERS.into()), used };
        let mut rows: Vec<AccountUsageRow> = self.copy(|state| &state.accounts).into_iter().map(row).collect();
        sort(&mut rows, |row| (&row.used, &row.account));
        rows
    }

    fn copy<K: Eq + Hash + Clone>(&self, book: impl Fn(&State) -> &Book<K>) -> Vec<Copied<K>> {
        let now = unix_millis();
        let mut state = self.state.lock();
        state.count_open(|_, _, _| ());
        book(&state).copy(&state.clock, now)
    }
}

/// What is copied of the state for the rows of connections and the sums.
struct CopiedState {
    /// Each live connection, and what it used so far.
    live: Vec<(Arc<Live>, Amount)>,
    clock: Clock,
    since: u64,
    ended: Reasons,
    totals: Totals,
}

impl State {
    fn copy(&self, live: Vec<(Arc<Live>, Amount)>, versions: Versions) -> CopiedState {
        let totals = self.totals(versions);
        CopiedState { live, clock: self.clock, since: self.since, ended: self.ended.clone(), totals }
    }

    /// The sums over all connections, but for the numbers of WebSockets and of each version.
    fn totals(&self, versions: Versions) -> Totals {
        Totals {
            active: self.live.len() as u64,
            websockets: 0,
            versions: Lavalink::ALL.into_iter().map(|version| (version.name(), 0)).collect(),
            connections: self.listeners.values().fold(0, |sum, count| sum.saturating_add(*count)),
            traffic: Traffic::new(versions.sum(), self.rate.per_second(&self.clock)),
        }
    }
}

fn usage_rows(addresses: Vec<Copied<IpAddr>>) -> Vec<UsageRow> {
    let address = |key: Option<IpAddr>| key.map_or_else(|| OTHERS.to_owned(), |address| address.to_string());
    let row = |Copied { key, used, .. }| UsageRow { address: address(key), used };
    let mut rows: Vec<UsageRow> = addresses.into_iter().map(row).collect();
    sort(&mut rows, |row| (&row.used, &row.address));
    rows
}

/// Most bytes first, then by name.
fn sort<R>(rows: &mut [R], of: impl Fn(&R) -> (&Used, &str)) {
    rows.sort_unstable_by(|a, b| {
        let ((a, a_name), (b, b_name)) = (of(a), of(b));
        b.bytes().cmp(&a.bytes()).then_with(|| a_name.cmp(b_name))
    });
}
