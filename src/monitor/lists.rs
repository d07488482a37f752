//! The JSON of /api/stats and of its slices: live connections, and what each address has used.

use serde::Serialize;

use super::VERSION;
use super::answer::{Answer, json};
use super::filter::Filter;
use crate::ledger::{Ledger, Snapshot};

/// Everything that the filter takes.
pub fn stats(ledger: &Ledger, filter: &Filter) -> Answer {
    json(200, &Stats { version: VERSION, snapshot: filtered(ledger, filter) })
}

/// The live connections alone.
pub fn connections(ledger: &Ledger, filter: &Filter) -> Answer {
    json(200, &filtered(ledger, filter).connections)
}

/// The usage by address alone.
pub fn data_usage(ledger: &Ledger, filter: &Filter) -> Answer {
    json(200, &filtered(ledger, filter).usage)
}

fn filtered(ledger: &Ledger, filter: &Filter) -> Snapshot {
    let mut snapshot = ledger.snapshot();
    snapshot.connections.retain(|row| filter.takes_connection(row));
    snapshot.usage.retain(|row| filter.takes_usage(row));
    snapshot
}

#[derive(Serialize)]
struct Stats {
    version: &'static str,
    #[serde(flatten)]
    snapshot: Snapshot,
}
