#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use super::*;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr};

use crate::config::Lavalink;
use entry::MAX_NAME;

mod handover;
mod model;

pub(super) fn address(number: u32) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::from(0x0A00_0000 + number), 4000))
}

pub(super) fn pass(entry: &Entry, bytes_in: usize, bytes_out: usize) {
    let mut sink = vec![0; bytes_in];
    Metered::new(&vec![0u8; bytes_in][..], entry.meter()).read_exact(&mut sink).unwrap();
    Metered::new(std::io::sink(), entry.meter()).write_all(&vec![0; bytes_out]).unwrap();
}

/// The samples so far were taken a second ago, so that there are rates.
pub(super) fn pass_a_second(ledger: &Ledger) {
    ledger.state.lock().clock = Clock::new(Instant::now() - Duration::from_secs(1));
}

pub(super) fn counted(used: &Used) -> Counted {
    Counted { connections: used.connections, amount: used.traffic.amount }
}

pub(super) fn sum<'u>(rows: impl IntoIterator<Item = &'u Used>) -> Counted {
    let mut sum = Counted::default();
    rows.into_iter().for_each(|used| sum.add(counted(used)));
    sum
}

/// The rows of addresses are the totals, in a snapshot and in the saved form; bots and accounts have no more than that.
pub(super) fn assert_adds_up(ledger: &Ledger) {
    let snapshot = ledger.snapshot();
    let totals = &snapshot.totals;
    let all = Counted { connections: totals.connections, amount: totals.traffic.amount };
    assert_eq!(sum(snapshot.usage.iter().map(|row| &row.used)), all);
    assert_eq!(snapshot.usage.iter().map(|row| row.used.active).sum::<u64>(), totals.active);
    assert_eq!(snapshot.connections.len() as u64, totals.active);
    let saved = ledger.save();
    assert_saved_adds_up(&saved);
    for book in [&saved.bots, &saved.accounts, &saved.nodes] {
        assert!(saved_sum(book).less(saved_total(&saved)).is_nothing(), "{saved:?}");
    }
}

pub(super) fn assert_saved_adds_up(saved: &Saved) {
    assert_eq!(saved_sum(&saved.addresses), saved_total(saved));
}

fn saved_total(saved: &Saved) -> Counted {
    let mut total = Counted { connections: saved.counters.listeners.values().sum(), ..Counted::default() };
    saved.counters.versions.values().for_each(|amount| total.amount.add(*amount));
    total
}

fn saved_sum<K>(book: &SavedBook<K>) -> Counted {
    let mut sum = book.others.counted;
    book.rows.iter().for_each(|row| sum.add(row.usage.counted));
    sum
}

#[test]
fn bytes_count_while_live_and_stay_after_the_close() {
    let ledger = Ledger::new();
    let entry = ledger.open(address(1), "proxy");
    entry.count_request();
    pass(&entry, 10, 20);
    let live = ledger.snapshot();
    assert_eq!((live.connections.len(), live.usage[0].used.active), (1, 1));
    entry.ends_as(End::ClientClosed);
    drop(entry);
    let ended = ledger.snapshot();
    assert_eq!((ended.connections.len(), ended.usage[0].used.active), (0, 0));
    assert_eq!(ended.ended["client-closed"], 1);
    for snapshot in [live, ended] {
        assert_eq!((snapshot.totals.traffic.amount.bytes_in, snapshot.totals.traffic.amount.bytes_out), (10, 20));
        assert_eq!(
            (snapshot.usage[0].used.traffic.amount.bytes_in, snapshot.usage[0].used.traffic.amount.bytes_out),
            (10, 20)
        );
        assert_eq!((snapshot.usage[0].used.traffic.amount.requests, snapshot.usage[0].used.connections), (1, 1));
    }
}

#[test]
fn an_entry_without_a_reason_counts_as_an_internal_error() {
    let ledger = Ledger::new();
    drop(ledger.open(address(1), "proxy"));
    assert_eq!(ledger.snapshot().ended["internal-error"], 1);
    assert_eq!(ledger.snapshot().totals.active, 0);
}

#[test]
fn addresses_are_bounded_and_the_totals_are_still_exact() {
    let ledger = Ledger::new();
    let live = ledger.open(address(0), "proxy");
    for number in 1..=(MAX_ROWS as u32 + 2000) {
        pass(&ledger.open(address(number), "proxy"), 1, 2);
    }
    let snapshot = ledger.snapshot();
    assert!(snapshot.usage.len() <= MAX_ROWS + 1, "{}", snapshot.usage.len());
    assert!(snapshot.usage.iter().any(|row| row.address == "others"));
    assert!(snapshot.usage.iter().any(|row| row.address == live.client().address.to_string()));
    assert_eq!(
        snapshot.usage.iter().map(|row| row.used.traffic.amount.bytes_in).sum::<u64>(),
        snapshot.totals.traffic.amount.bytes_in
    );
    assert_eq!(
        snapshot.usage.iter().map(|row| row.used.traffic.amount.bytes_out).sum::<u64>(),
        snapshot.totals.traffic.amount.bytes_out
    );
    assert_eq!(snapshot.usage.iter().map(|row| row.used.connections).sum::<u64>(), snapshot.totals.connections);
}

#[test]
fn an_ipv4_mapped_address_counts_as_the_ipv4_address() {
    let ledger = Ledger::new();
    let _v6 = ledger.open("[::ffff:10.0.0.9]:1".parse().unwrap(), "proxy");
    let _v4 = ledger.open("10.0.0.9:2".parse().unwrap(), "proxy");
    let snapshot = ledger.snapshot();
    assert_eq!(snapshot.usage.len(), 1);
    assert_eq!(snapshot.connections[0].client.to_string(), "10.0.0.9:1");
}

#[test]
fn rates_follow_the_bytes_of_live_and_of_ended_connections() {
    let ledger = Ledger::new();
    pass_a_second(&ledger);
    pass(&ledger.open(address(1), "proxy"), 1000, 5000);
    let live = ledger.open(address(1), "proxy");
    pass(&live, 1000, 5000);
    ledger.tick();
    let Traffic { rate_in, rate_out, .. } = ledger.snapshot().totals.traffic;
    assert!(rate_in > 0 && rate_out > rate_in, "{rate_in} {rate_out}");
    for _ in 0..6 {
        ledger.tick();
    }
    assert_eq!(ledger.snapshot().totals.traffic.rate_out, 0);
    assert_eq!(ledger.snapshot().usage[0].used.traffic.rate_in, 0);
}

#[test]
fn the_last_client_info_is_kept_and_bounded() {
    let ledger = Ledger::new();
    let entry = ledger.open(address(1), "proxy");
    let backend: Arc<str> = "127.0.0.1:8807".into();
    let long = vec![b'x'; 10_000];
    entry.note_request(
        Some(Lavalink::V4),
        &"eu1".into(),
        &backend,
        ClientInfo { user_id: b"42", client_name: &long, user_agent: b"bot/\xff" },
    );
    entry.note_request(Some(Lavalink::V4), &"eu1".into(), &backend, ClientInfo::default());
    let row = &ledger.snapshot().connections[0];
    assert_eq!((&*row.user_id, row.client_name.len(), &*row.user_agent), ("42", MAX_NAME, "bot/\u{fffd}"));
    assert_eq!((row.version, row.backend.as_deref(), row.kind), (Some("v4"), Some("127.0.0.1:8807"), "http"));
}

#[test]
fn a_change_of_version_keeps_the_sums_of_the_old_one() {
    let ledger = Ledger::new();
    let backend: Arc<str> = "127.0.0.1:8807".into();
    let shares = || ledger.tallies().versions.map(|tally| tally.amount);
    let amount = |requests, bytes_in, bytes_out| Amount { requests, bytes_in, bytes_out };
    let entry = ledger.open(address(1), "proxy");
    let exchange = |version, bytes_in, bytes_out| {
        pass(&entry, bytes_in, 0);
        entry.count_request();
        entry.note_request(Some(version), &"eu1".into(), &backend, ClientInfo::default());
        pass(&entry, 0, bytes_out);
    };
    exchange(Lavalink::V3, 10, 100);
    exchange(Lavalink::V3, 10, 100);
    assert_eq!(shares(), [amount(0, 0, 0), amount(2, 20, 200), amount(0, 0, 0)]);
    exchange(Lavalink::V4, 0, 1000);
    assert_eq!(shares(), [amount(0, 0, 0), amount(2, 20, 200), amount(1, 0, 1000)]);
    exchange(Lavalink::V3, 0, 1);
    entry.upgraded();
    let live = ledger.tallies();
    assert_eq!((live.versions[1].http, live.versions[1].websockets), (0, 1));
    let shares_live = shares();
    assert_eq!(shares_live, [amount(0, 0, 0), amount(3, 20, 201), amount(1, 0, 1000)]);
    entry.count_refusal(End::RejectedPassword);
    entry.ends_as(End::ClientClosed);
    drop(entry);
    assert_eq!(shares(), shares_live);
    let ended = ledger.tallies();
    assert_eq!(ended.refused[End::RejectedPassword as usize], 1);
    assert_eq!(ended.ended[End::ClientClosed as usize], 1);
    assert_eq!(ended.listeners["proxy"], 1);
}

#[test]
fn a_connection_without_a_version_counts_for_none() {
    let ledger = Ledger::new();
    let entry = ledger.open(address(1), "proxy");
    pass(&entry, 5, 7);
    assert_eq!(ledger.tallies().versions[0].http, 1);
    drop(entry);
    let none = ledger.tallies().versions[0];
    assert_eq!((none.amount.bytes_in, none.amount.bytes_out, none.http), (5, 7, 0));
}

#[test]
fn the_fields_of_the_json_keep_their_order() {
    let ledger = Ledger::new();
    let _entry = ledger.open(address(1), "proxy");
    let snapshot = ledger.snapshot();
    let names = |json: String| -> Vec<String> {
        json.split('"')
            .skip(1)
            .step_by(2)
            .filter(|text| json.contains(&format!("\"{text}\":")))
            .map(str::to_owned)
            .collect()
    };
    let traffic = ["requests", "bytesIn", "bytesOut", "rateIn", "rateOut"];
    let totals = [&["active", "websockets", "versions", "v3", "v4", "connections"][..], &traffic].concat();
    assert_eq!(names(serde_json::to_string(&snapshot.totals).unwrap()), totals);
    let before = ["id", "client", "address", "node", "backend", "version", "kind", "connectedAt", "uptime"];
    let after = ["userId", "clientName", "userAgent", "takeovers", "takingOver"];
    let connection = [&before[..], &traffic, &after].concat();
    assert_eq!(names(serde_json::to_string(&snapshot.connections[0]).unwrap()), connection);
    let usage = [&["address", "active", "connections"][..], &traffic, &["lastSeen"]].concat();
    assert_eq!(names(serde_json::to_string(&snapshot.usage[0]).unwrap()), usage);
}

#[test]
fn totals_are_exact_across_versions_and_ends() {
    let ledger = Ledger::new();
    let backend: Arc<str> = "127.0.0.1:8807".into();
    let (first, second) = (ledger.open(address(1), "proxy"), ledger.open(address(2), "proxy-v4"));
    for version in [Lavalink::V3, Lavalink::V4, Lavalink::V3] {
        pass(&first, 10, 0);
        first.count_request();
        first.note_request(Some(version), &"eu1".into(), &backend, ClientInfo::default());
        pass(&first, 0, 100);
    }
    pass(&second, 5, 7);
    let check = |active| {
        let totals = ledger.snapshot().totals;
        assert_eq!((totals.active, totals.connections), (active, 2));
        assert_eq!(totals.traffic.amount, Amount { requests: 3, bytes_in: 35, bytes_out: 307 });
    };
    check(2);
    drop(first);
    check(1);
    drop(second);
    check(0);
}
