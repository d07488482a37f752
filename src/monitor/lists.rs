//! The JSON of /api/stats and of its slices: live connections, and what each address has used.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Serialize;

use super::VERSION;
use super::answer::{Answer, json};
use super::filter::Filter;
use super::window::{Part, Window};
use crate::ledger::{ConnectionRow, Ledger, Snapshot, Totals};

/// What is wrong with a query, and what is expected.
type Fault = Cow<'static, str>;

/// Everything that the filter takes; with a window, its connections and the totals.
///
/// # Errors
/// What is wrong with the query, and what is expected.
pub fn stats(ledger: &Ledger, query: &str) -> Result<Answer, Fault> {
    let (filter, window) = (Filter::parse(query)?, Window::parse(query)?);
    let Some(window) = window else {
        return Ok(json(200, &Stats { version: VERSION, snapshot: filtered(ledger, &filter) }));
    };
    let Snapshot { started_at, since, now, uptime, totals, connections, ended, .. } = ledger.snapshot_of_connections();
    let part = part(connections, &filter, &window);
    Ok(json(200, &StatsOfPart { version: VERSION, started_at, since, now, uptime, totals, part, ended }))
}

/// The live connections alone.
///
/// # Errors
/// What is wrong with the query, and what is expected.
pub fn connections(ledger: &Ledger, query: &str) -> Result<Answer, Fault> {
    let (filter, window) = (Filter::parse(query)?, Window::parse(query)?);
    Ok(match window {
        None => json(200, &filtered(ledger, &filter).connections),
        Some(window) => json(200, &part(ledger.snapshot_of_connections().connections, &filter, &window)),
    })
}

/// The usage by address alone.
///
/// # Errors
/// What is wrong with the query, and what is expected.
pub fn data_usage(ledger: &Ledger, query: &str) -> Result<Answer, Fault> {
    Ok(json(200, &filtered(ledger, &Filter::parse(query)?).usage))
}

fn filtered(ledger: &Ledger, filter: &Filter) -> Snapshot {
    let mut snapshot = ledger.snapshot();
    snapshot.connections.retain(|row| filter.takes_connection(row));
    snapshot.usage.retain(|row| filter.takes_usage(row));
    snapshot
}

fn part(mut connections: Vec<ConnectionRow>, filter: &Filter, window: &Window) -> Part {
    connections.retain(|row| filter.takes_connection(row));
    window.of(connections)
}

#[derive(Serialize)]
struct Stats {
    version: &'static str,
    #[serde(flatten)]
    snapshot: Snapshot,
}

/// The usage of addresses is not in it: it is as long as the list that the window cuts short.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct StatsOfPart {
    version: &'static str,
    started_at: u64,
    since: u64,
    now: u64,
    uptime: u64,
    totals: Totals,
    #[serde(flatten)]
    part: Part,
    ended: BTreeMap<String, u64>,
}
