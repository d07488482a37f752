//! What the rows of each list can be sorted by, searched for and named by; pure.

use std::fmt::Write;
use std::net::IpAddr;

use super::accounts::AccountRow;
use super::window::{Field, Key, Names, Row};
use crate::ledger::{BotRow, ConnectionRow, UsageRow, Used};

/// Comes after every version.
const LAST: &str = "~";

impl Row for ConnectionRow {
    const LIST: &'static str = "connections";

    fn fields() -> Vec<Field<Self>> {
        vec![
            ("id", Box::new(|row| Key::Number(row.id))),
            ("client", Box::new(|row| Key::Client(row.client.address, row.client.port))),
            ("clientName", Box::new(|row| Key::Text(sortable(named(row))))),
            ("version", Box::new(|row| Key::Text(row.version.unwrap_or(LAST).to_owned()))),
            ("node", Box::new(|row| Key::Text(by_node(row)))),
            ("kind", Box::new(|row| Key::Text(row.kind.to_owned()))),
            ("connectedAt", Box::new(|row| Key::Number(row.connected_at))),
            ("uptime", Box::new(|row| Key::Number(row.uptime))),
            ("requests", Box::new(|row| Key::Number(row.traffic.amount.requests))),
            ("bytesIn", Box::new(|row| Key::Number(row.traffic.amount.bytes_in))),
            ("bytesOut", Box::new(|row| Key::Number(row.traffic.amount.bytes_out))),
            ("rateIn", Box::new(|row| Key::Number(row.traffic.rate_in))),
            ("rateOut", Box::new(|row| Key::Number(row.traffic.rate_out))),
        ]
    }

    fn add_texts(&self, texts: &mut String) {
        let [node, backend] = [&self.node, &self.backend].map(|name| name.as_deref().unwrap_or_default());
        // Writing to a `String` cannot fail.
        let _ =
            write!(texts, "{} {node} {backend} {} {} {}", self.client, self.client_name, self.user_id, self.user_agent);
    }

    fn is_among(&self, names: &Names) -> bool {
        names.has_number(self.id)
    }

    fn place(&self, _: usize) -> u64 {
        self.id
    }
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

impl Row for UsageRow {
    const LIST: &'static str = "usage";

    fn fields() -> Vec<Field<Self>> {
        // `others` is no address.
        let address = |row: &Self| match row.address.parse::<IpAddr>() {
            Ok(address) => Key::Client(address, None),
            Err(_) => Key::Text(row.address.clone()),
        };
        with_used(("address", Box::new(address)), |row| &row.used)
    }

    fn add_texts(&self, texts: &mut String) {
        texts.push_str(&self.address);
    }

    fn is_among(&self, names: &Names) -> bool {
        names.has(&self.address)
    }
}

impl Row for BotRow {
    const LIST: &'static str = "bots";

    fn fields() -> Vec<Field<Self>> {
        let name = |row: &Self| {
            let name = if row.client_name.is_empty() { &row.user_id } else { &row.client_name };
            Key::Text(sortable(name))
        };
        with_used(("clientName", Box::new(name)), |row| &row.used)
    }

    fn add_texts(&self, texts: &mut String) {
        let _ = write!(texts, "{} {}", self.client_name, self.user_id);
    }

    fn is_among(&self, names: &Names) -> bool {
        names.has(&self.user_id)
    }
}

impl Row for AccountRow {
    const LIST: &'static str = "accounts";

    fn fields() -> Vec<Field<Self>> {
        with_used(("account", Box::new(|row| Key::Text(sortable(row.name())))), Self::used)
    }

    fn add_texts(&self, texts: &mut String) {
        let _ = write!(texts, "{} {}", self.name(), self.state());
    }

    fn is_among(&self, names: &Names) -> bool {
        names.has(self.name())
    }
}

/// The field of a row's own, and those of what was used.
fn with_used<R: 'static>(own: Field<R>, used: fn(&R) -> &Used) -> Vec<Field<R>> {
    let number =
        |read: fn(&Used) -> u64| -> Box<dyn Fn(&R) -> Key> { Box::new(move |row| Key::Number(read(used(row)))) };
    vec![
        own,
        ("bytes", number(Used::bytes)),
        ("bytesIn", number(|used| used.traffic.amount.bytes_in)),
        ("bytesOut", number(|used| used.traffic.amount.bytes_out)),
        ("rateIn", number(|used| used.traffic.rate_in)),
        ("rateOut", number(|used| used.traffic.rate_out)),
        ("active", number(|used| used.active)),
        ("connections", number(|used| used.connections)),
        ("requests", number(|used| used.traffic.amount.requests)),
        ("lastSeen", number(|used| used.last_seen)),
    ]
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
mod tests {
    use super::*;

    #[test]
    fn numbers_in_names_sort_as_numbers() {
        for pair in [["eu9", "eu10"], ["a", "B"], ["bot/1.9", "bot/1.10"], ["", "0"]] {
            let [less, more] = pair.map(sortable);
            assert!(less < more, "{pair:?}");
        }
        assert_eq!(sortable("Ä1b22"), "ä00001b00022");
    }
}
