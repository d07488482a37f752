//! The JSON of /api/stats and of the lists: live connections, and what each address, bot and account has used.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Serialize;

use super::accounts::{self, AccountRow};
use super::answer::{Answer, json};
use super::filter::Filter;
use super::health::Health;
use super::window::{Part, Row, Window};
use super::{Sources, VERSION};
use crate::ledger::{Amount, BotRow, ConnectionRow, Ledger, Snapshot, Totals, UsageRow, Used};

/// What is wrong with a query, and what is expected.
type Fault = Cow<'static, str>;

/// Everything that the filter takes; with a window, its connections and the totals. `health` comes along, if it is wanted.
///
/// # Errors
/// What is wrong with the query, and what is expected.
pub fn stats(ledger: &Ledger, query: &str, health: Option<Health<'_>>) -> Result<Answer, Fault> {
    let (filter, window) = (Filter::parse(query)?, Window::parse(query)?);
    let Some(window) = window else {
        return Ok(json(200, &Stats { version: VERSION, snapshot: filtered(ledger, &filter), health }));
    };
    let Snapshot { started_at, since, now, uptime, totals, connections, ended, .. } = ledger.snapshot_of_connections();
    let part = part(connections, &filter, &window);
    Ok(json(200, &StatsOfPart { version: VERSION, started_at, since, now, uptime, totals, part, ended, health }))
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
    let filter = Filter::parse(query)?;
    usage(
        query,
        |row: &UsageRow| &row.used,
        || {
            let mut rows = ledger.usage();
            rows.retain(|row| filter.takes_usage(row));
            rows
        },
    )
}

/// The usage by bot.
///
/// # Errors
/// What is wrong with the query, and what is expected.
pub fn bots(ledger: &Ledger, query: &str) -> Result<Answer, Fault> {
    usage(query, |row: &BotRow| &row.used, || ledger.bots())
}

/// The usage by account.
///
/// # Errors
/// What is wrong with the query, and what is expected.
pub fn accounts(sources: &Sources, query: &str) -> Result<Answer, Fault> {
    usage(query, AccountRow::used, || accounts::rows(sources))
}

/// All rows; with a window, its part of them and what all of them make together.
fn usage<R: Row + Serialize>(query: &str, used: fn(&R) -> &Used, rows: impl Fn() -> Vec<R>) -> Result<Answer, Fault> {
    let Some(window) = Window::parse(query)? else { return Ok(json(200, &rows())) };
    let rows = rows();
    let all = AllUsed::of(rows.iter().map(used));
    Ok(json(200, &UsagePart { part: window.of(rows), all }))
}

fn filtered(ledger: &Ledger, filter: &Filter) -> Snapshot {
    let mut snapshot = ledger.snapshot();
    snapshot.connections.retain(|row| filter.takes_connection(row));
    snapshot.usage.retain(|row| filter.takes_usage(row));
    snapshot
}

fn part(mut connections: Vec<ConnectionRow>, filter: &Filter, window: &Window<ConnectionRow>) -> Part<ConnectionRow> {
    connections.retain(|row| filter.takes_connection(row));
    window.of(connections)
}

#[derive(Serialize)]
struct Stats<'s> {
    version: &'static str,
    #[serde(flatten)]
    snapshot: Snapshot,
    #[serde(skip_serializing_if = "Option::is_none")]
    health: Option<Health<'s>>,
}

/// The usage of addresses is not in it: it is as long as the list that the window cuts short.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct StatsOfPart<'s> {
    version: &'static str,
    started_at: u64,
    since: u64,
    now: u64,
    uptime: u64,
    totals: Totals,
    #[serde(flatten)]
    part: Part<ConnectionRow>,
    ended: BTreeMap<String, u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    health: Option<Health<'s>>,
}

#[derive(Serialize)]
struct UsagePart<R: Row + Serialize> {
    #[serde(flatten)]
    part: Part<R>,
    all: AllUsed,
}

/// What all rows of a list make together, also those outside the window and those that no search finds.
#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct AllUsed {
    rows: u64,
    /// Of these, those with an open connection.
    connected: u64,
    bytes_in: u64,
    bytes_out: u64,
    /// The most of one row.
    most_bytes_in: u64,
    most_bytes_out: u64,
}

impl AllUsed {
    fn of<'u>(all: impl Iterator<Item = &'u Used>) -> Self {
        all.fold(Self::default(), |sum, used| {
            let Amount { bytes_in, bytes_out, .. } = used.traffic.amount;
            Self {
                rows: sum.rows + 1,
                connected: sum.connected + u64::from(used.active > 0),
                bytes_in: sum.bytes_in.saturating_add(bytes_in),
                bytes_out: sum.bytes_out.saturating_add(bytes_out),
                most_bytes_in: sum.most_bytes_in.max(bytes_in),
                most_bytes_out: sum.most_bytes_out.max(bytes_out),
            }
        })
    }
}
