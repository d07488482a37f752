//! How a snapshot is taken: figures are copied while the lock is held, and the rows are made after it is released.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use super::entry::Live;
use super::rate::Clock;
use super::rows::{ConnectionRow, Snapshot, Totals, UsageRow};
use super::traffic::{Amount, Traffic};
use super::{Ledger, State, millis, unix_millis};
use crate::error::End;

/// What must be read under the lock, as of one moment.
struct Copied {
    clock: Clock,
    live: Vec<CopiedLive>,
    totals: Totals,
    usage: HashMap<IpAddr, UsageRow>,
    others: Option<UsageRow>,
    ended: BTreeMap<&'static str, u64>,
}

/// A live connection, and the part of it that the copied usage contains already.
struct CopiedLive {
    connection: Arc<Live>,
    address: IpAddr,
    attributed: Amount,
}

impl Ledger {
    /// Everything as of now: exact counts, rates as of the last tick.
    pub fn snapshot(&self) -> Snapshot {
        let now = unix_millis();
        let Copied { clock, live, mut totals, mut usage, others, ended } = self.state.lock().copy();
        let mut connections: Vec<ConnectionRow> = Vec::with_capacity(live.len());
        for CopiedLive { connection, address, attributed } in live {
            let row = ConnectionRow::new(&connection, &clock);
            let so_far = row.traffic.amount;
            totals.websockets += u64::from(row.kind == "websocket");
            totals.traffic.amount.add(so_far);
            if let Some(usage) = usage.get_mut(&address) {
                usage.add(so_far.less(attributed), now);
            }
            connections.push(row);
        }
        connections.sort_unstable_by_key(|row| row.id);
        Snapshot {
            started_at: self.started_at,
            now,
            uptime: millis(self.started.elapsed()),
            totals,
            connections,
            usage: sorted(usage, others),
            ended,
        }
    }
}

impl State {
    fn copy(&self) -> Copied {
        let clock = self.clock;
        // Live connections are added whole later, so the part of theirs that the sums contain is taken away here.
        let mut used_by_ended = self.versions.sum();
        let mut live = Vec::with_capacity(self.live.len());
        for connection in self.live.values() {
            let notes = connection.notes.lock();
            used_by_ended = used_by_ended.less(notes.counted_by_version);
            let (address, attributed) = (notes.client.address, notes.attributed);
            live.push(CopiedLive { connection: Arc::clone(connection), address, attributed });
        }
        // The address is written later, after the lock is released.
        let usage_row = |usage| UsageRow::new(String::new(), usage, &clock);
        Copied {
            clock,
            live,
            totals: Totals {
                active: self.live.len() as u64,
                websockets: 0,
                connections: self.listeners.values().sum(),
                traffic: Traffic::new(used_by_ended, self.rate.per_second(&clock)),
            },
            usage: self.usage.iter().map(|(address, usage)| (*address, usage_row(usage))).collect(),
            others: (self.others.connections > 0).then(|| UsageRow::new("others".to_owned(), &self.others, &clock)),
            ended: End::ALL.iter().map(|end| (end.name(), self.ended[*end as usize])).collect(),
        }
    }
}

/// The rows with their addresses, most bytes first.
fn sorted(usage: HashMap<IpAddr, UsageRow>, others: Option<UsageRow>) -> Vec<UsageRow> {
    let mut rows: Vec<UsageRow> = usage
        .into_iter()
        .map(|(address, row)| UsageRow { address: address.to_string(), ..row })
        .chain(others)
        .collect();
    rows.sort_unstable_by(|a, b| b.bytes().cmp(&a.bytes()).then_with(|| a.address.cmp(&b.address)));
    rows
}
