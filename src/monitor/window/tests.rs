#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use std::collections::BTreeSet;
use std::sync::Arc;

use super::*;
use crate::config::Lavalink;
use crate::ledger::{ClientInfo, ConnectionRow, Entry, Ledger};

/// Open connections of these clients, with as many requests, bytes from clients and names as their place.
fn connections(clients: &[&str]) -> (Arc<Ledger>, Vec<Entry>) {
    let ledger = Ledger::new();
    let node: Arc<str> = "eu1".into();
    let open = |(place, client): (usize, &&str)| {
        let entry = ledger.open(client.parse().unwrap(), "proxy");
        (0..place).for_each(|_| entry.count_request());
        let name = format!("Bot/{place}");
        let info = ClientInfo { user_id: b"42", client_name: name.as_bytes(), user_agent: b"J\xc3\x84GER" };
        entry.note_request(Some(Lavalink::V4), &node, &"10.9.9.9:2333".into(), info);
        entry
    };
    let entries = clients.iter().enumerate().map(open).collect();
    (ledger, entries)
}

fn part(ledger: &Ledger, query: &str) -> Part<ConnectionRow> {
    Window::parse(query).unwrap().expect("no window").of(ledger.snapshot_of_connections().connections)
}

fn ids(ledger: &Ledger, query: &str) -> (usize, Vec<u64>) {
    let part = part(ledger, query);
    (part.matched, part.rows.iter().map(|row| row.id).collect())
}

const CLIENTS: [&str; 6] =
    ["10.0.0.10:9", "[2001:db8::1]:1", "10.0.0.9:10", "10.0.0.9:9", "9.0.0.1:70", "[2001:db8::a]:1"];

#[test]
fn rows_are_sorted_as_numbers_addresses_and_names() {
    let (ledger, _entries) = connections(&CLIENTS);
    for (sort, expected) in [
        ("id", [1, 2, 3, 4, 5, 6]),
        ("-id", [6, 5, 4, 3, 2, 1]),
        ("client", [5, 4, 3, 1, 2, 6]),
        ("-client", [6, 2, 1, 3, 4, 5]),
        ("-requests", [6, 5, 4, 3, 2, 1]),
        ("clientName", [1, 2, 3, 4, 5, 6]),
        // Equal ones keep the order of their ids in both directions.
        ("kind", [1, 2, 3, 4, 5, 6]),
        ("-kind", [1, 2, 3, 4, 5, 6]),
        ("-node", [1, 2, 3, 4, 5, 6]),
    ] {
        assert_eq!(ids(&ledger, &format!("sort={sort}")), (6, expected.to_vec()), "{sort}");
    }
}

#[test]
fn a_window_has_the_rows_that_the_whole_list_has_there() {
    let (ledger, _entries) = connections(&CLIENTS);
    // Uptimes grow between two lists, not all at once.
    let fields = ConnectionRow::fields().into_iter().filter(|(name, _)| *name != "uptime");
    for sort in fields.flat_map(|(name, _)| [format!("sort={name}"), format!("sort=-{name}"), String::new()]) {
        let (_, all) = ids(&ledger, &format!("{sort}&offset=0"));
        for offset in 0..8 {
            for limit in 0..8 {
                let expected: Vec<u64> = all.iter().skip(offset).take(limit).copied().collect();
                let query = format!("{sort}&offset={offset}&limit={limit}");
                assert_eq!(ids(&ledger, &query), (6, expected), "{query}");
            }
        }
    }
    assert_eq!(ids(&ledger, "offset=5"), (6, vec![6]));
    assert_eq!(ids(&ledger, &format!("offset={0}&limit={0}", usize::MAX)), (6, vec![]));
}

#[test]
fn a_search_finds_rows_that_have_all_words() {
    let (ledger, _entries) = connections(&CLIENTS);
    for (search, matched) in [
        ("", 6),
        ("%20", 6),
        ("bot/3", 1),
        ("BOT%20j%c3%a4ger", 6),
        ("bot/1%20bot/2", 0),
        ("10.0.0.9:", 2),
        ("2001:DB8", 2),
        ("eu1%2010.9.9.9%2042", 6),
        ("no-such-bot", 0),
    ] {
        assert_eq!(ids(&ledger, &format!("search={search}&limit=1")).0, matched, "{search}");
    }
}

#[test]
fn rows_outside_the_window_come_along_when_they_are_named() {
    let (ledger, _entries) = connections(&CLIENTS);
    for (query, expected) in [
        ("limit=2", None),
        ("limit=2&also=", Some(vec![])),
        ("limit=2&also=5&also=3&also=7&also=bot", Some(vec![3, 5])),
        // A row of the window is in the list already.
        ("limit=2&also=2&also=4&also=4", Some(vec![4])),
        ("also=4", Some(vec![])),
        // One that the search does not find is not wanted.
        ("search=bot/1&limit=0&also=2&also=3", Some(vec![2])),
    ] {
        // They come in any order.
        let also = part(&ledger, query).also.map(|rows| rows.iter().map(|row| row.id).collect::<BTreeSet<_>>());
        assert_eq!(also, expected.map(BTreeSet::from_iter), "{query}");
    }
}

#[test]
fn a_query_without_a_window_asks_for_none_and_a_wrong_value_is_an_error() {
    for query in ["", "version=v4", "t=1&address=::1"] {
        assert!(Window::<ConnectionRow>::parse(query).unwrap().is_none(), "{query}");
    }
    let long = format!("search={}", "x".repeat(MAX_SEARCH + 1));
    for query in
        ["sort=", "sort=-", "sort=name", "sort=--id", "limit=", "limit=-1", "limit=+1", "offset=x", "search=%", &long]
    {
        assert!(Window::<ConnectionRow>::parse(query).is_err(), "{query}");
    }
}
