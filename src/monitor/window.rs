//! The parameters `search=`, `sort=`, `limit=` and `offset=` of the list of connections: which of the rows, and in
//! which order; pure.
//!
//! A list may have thousands of rows, of which a page shows some twenty. Only the rows of the window are sorted and
//! written as JSON.

use std::borrow::Cow;
use std::fmt::Write;
use std::net::IpAddr;

use serde::Serialize;

use super::filter::pairs;
use crate::ledger::ConnectionRow;

/// The longest value of `search`, in bytes.
const MAX_SEARCH: usize = 200;

/// A value that rows are compared by.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Number(u64),
    Client(IpAddr, Option<u16>),
    Text(String),
}

/// Reads it from a row.
type ReadKey = fn(&ConnectionRow) -> Key;

/// What `sort` may name, and what it compares. The first is the order without `sort`.
const FIELDS: [(&str, ReadKey); 13] = [
    ("id", |row| Key::Number(row.id)),
    ("client", |row| Key::Client(row.client.address, row.client.port)),
    ("clientName", |row| Key::Text(sortable(named(row)))),
    ("version", |row| Key::Text(row.version.unwrap_or(LAST).to_owned())),
    ("node", |row| Key::Text(by_node(row))),
    ("kind", |row| Key::Text(row.kind.to_owned())),
    ("connectedAt", |row| Key::Number(row.connected_at)),
    ("uptime", |row| Key::Number(row.uptime)),
    ("requests", |row| Key::Number(row.traffic.amount.requests)),
    ("bytesIn", |row| Key::Number(row.traffic.amount.bytes_in)),
    ("bytesOut", |row| Key::Number(row.traffic.amount.bytes_out)),
    ("rateIn", |row| Key::Number(row.traffic.rate_in)),
    ("rateOut", |row| Key::Number(row.traffic.rate_out)),
];

/// Comes after every version.
const LAST: &str = "~";

/// A part of the connections in an order.
pub struct Window {
    /// In lower case. A row has all of them in its texts.
    words: Vec<String>,
    key: ReadKey,
    descending: bool,
    limit: usize,
    offset: usize,
}

/// The rows of a window.
#[derive(Serialize)]
pub struct Part {
    /// How many there are without `limit` and `offset`.
    matched: usize,
    /// The place of the first one among these.
    offset: usize,
    #[serde(rename = "connections")]
    rows: Vec<ConnectionRow>,
}

impl Window {
    /// Reads the query of a target. `None` where it names nothing of a window. Other parameters are ignored.
    ///
    /// # Errors
    /// What is wrong, and what is expected.
    pub fn parse(query: &str) -> Result<Option<Self>, Cow<'static, str>> {
        let mut window = Self { words: Vec::new(), key: FIELDS[0].1, descending: false, limit: usize::MAX, offset: 0 };
        let mut is_asked_for = false;
        for pair in pairs(query) {
            let (name, value) = pair?;
            match name {
                "search" => window.words = words(&value)?,
                "sort" => (window.key, window.descending) = order(&value)?,
                "limit" => window.limit = number(&value).ok_or("limit is a number of rows")?,
                "offset" => window.offset = number(&value).ok_or("offset is a number of rows")?,
                _ => continue,
            }
            is_asked_for = true;
        }
        Ok(is_asked_for.then_some(window))
    }

    /// The rows of the window in its order; those that are equal in the order of their ids.
    pub fn of(&self, mut rows: Vec<ConnectionRow>) -> Part {
        if !self.words.is_empty() {
            let mut text = String::new();
            rows.retain(|row| self.is_found_in(row, &mut text));
        }
        let matched = rows.len();
        let (from, to) = (self.offset.min(matched), self.offset.saturating_add(self.limit).min(matched));
        let mut keyed: Vec<(Key, ConnectionRow)> = rows.into_iter().map(|row| ((self.key)(&row), row)).collect();
        let order = |(a, one): &(Key, ConnectionRow), (b, other): &(Key, ConnectionRow)| {
            let by_key = if self.descending { b.cmp(a) } else { a.cmp(b) };
            by_key.then(one.id.cmp(&other.id))
        };
        if to < matched {
            keyed.select_nth_unstable_by(to, order);
            keyed.truncate(to);
        }
        if 0 < from && from < to {
            keyed.select_nth_unstable_by(from, order);
        }
        keyed.drain(..from);
        keyed.sort_unstable_by(order);
        Part { matched, offset: self.offset, rows: keyed.into_iter().map(|(_, row)| row).collect() }
    }

    fn is_found_in(&self, row: &ConnectionRow, text: &mut String) -> bool {
        text.clear();
        let [node, backend] = [&row.node, &row.backend].map(|name| name.as_deref().unwrap_or_default());
        // Writing to a `String` cannot fail.
        let _ = write!(text, "{} {node} {backend} {} {} {}", row.client, row.client_name, row.user_id, row.user_agent);
        let text = text.to_lowercase();
        self.words.iter().all(|word| text.contains(word))
    }
}

fn words(value: &str) -> Result<Vec<String>, Cow<'static, str>> {
    match value.len() {
        ..=MAX_SEARCH => Ok(value.to_lowercase().split_whitespace().map(str::to_owned).collect()),
        _ => Err(format!("search has at most {MAX_SEARCH} bytes").into()),
    }
}

/// What to sort by, and whether in descending order.
fn order(value: &str) -> Result<(ReadKey, bool), Cow<'static, str>> {
    let (name, descending) = value.strip_prefix('-').map_or((value, false), |name| (name, true));
    match FIELDS.iter().find(|(known, _)| *known == name) {
        Some((_, key)) => Ok((*key, descending)),
        None => {
            let names = FIELDS.map(|(name, _)| name).join(", ");
            Err(format!("sort is one of {names}, with a - before it for descending order").into())
        }
    }
}

fn number(value: &str) -> Option<usize> {
    value.bytes().all(|byte| byte.is_ascii_digit()).then(|| value.parse().ok())?
}

/// What the page names a bot by.
fn named(row: &ConnectionRow) -> &str {
    if row.client_name.is_empty() { &row.user_agent } else { &row.client_name }
}

/// By version, then by the node's name, then by its address.
fn by_node(row: &ConnectionRow) -> String {
    let [node, backend] = [&row.node, &row.backend].map(|name| sortable(name.as_deref().unwrap_or_default()));
    format!("{} {node} {backend}", row.version.unwrap_or(LAST))
}

/// Numbers inside texts sort as numbers: eu9 before eu10.
fn sortable(text: &str) -> String {
    const DIGITS: usize = 5;
    let mut sortable = String::with_capacity(text.len() + DIGITS);
    let mut rest = text;
    while let Some(start) = rest.find(|c: char| c.is_ascii_digit()) {
        let (before, from_digit) = rest.split_at(start);
        let length = from_digit.find(|c: char| !c.is_ascii_digit()).unwrap_or(from_digit.len());
        let (digits, after) = from_digit.split_at(length);
        sortable.push_str(&before.to_lowercase());
        sortable.extend(std::iter::repeat_n('0', DIGITS.saturating_sub(length)));
        sortable.push_str(digits);
        rest = after;
    }
    sortable.push_str(&rest.to_lowercase());
    sortable
}

#[cfg(test)]
mod tests;
