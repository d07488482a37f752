//! Figures that outlive their process.

use std::thread;

use super::*;

/// A request of a client over this connection: 10 bytes, answered with 100.
fn request(entry: &Entry, client: u32, bot: &str, account: &str) {
    pass(entry, 10, 0);
    entry.count_request();
    entry.attribute_to(ClientAddr::from(address(client)), 10);
    entry.note_account(&account.into());
    let info = ClientInfo { user_id: bot.as_bytes(), client_name: b"lib/1", user_agent: b"" };
    entry.note_request(Some(Lavalink::V4), &"v4".into(), &"127.0.0.1:2333".into(), info);
    pass(entry, 0, 100);
}

fn through_json(saved: &Saved) -> Saved {
    serde_json::from_str(&serde_json::to_string(saved).unwrap()).unwrap()
}

fn used(connections: u64, requests: u64) -> Counted {
    let amount = Amount { requests, bytes_in: 10 * requests, bytes_out: 100 * requests };
    Counted { connections, amount }
}

fn of_address(ledger: &Ledger, number: u32) -> Counted {
    let address = address(number).ip().to_string();
    ledger.snapshot().usage.iter().find(|row| row.address == address).map(|row| counted(&row.used)).unwrap_or_default()
}

fn total(ledger: &Ledger) -> Counted {
    let totals = ledger.snapshot().totals;
    Counted { connections: totals.connections, amount: totals.traffic.amount }
}

fn successor_of(ledger: &Ledger, bound: usize) -> Arc<Ledger> {
    let successor = Ledger::bounded(bound);
    successor.restore(through_json(&ledger.hand_over()));
    successor
}

#[test]
fn figures_began_when_they_did_also_for_a_clock_that_is_behind() {
    let ledger = Ledger::new();
    ledger.restore(Saved { since: u64::MAX / 2, ..Saved::default() });
    assert_eq!(ledger.snapshot().since, u64::MAX / 2);
}

#[test]
fn figures_go_on_in_the_next_process() {
    let before = Ledger::new();
    before.state.lock().since = 1_700_000_000_000;
    request(&before.open(address(1), "proxy"), 1, "42", "default");
    let live = before.open(address(2), "proxy-v4");
    request(&live, 2, "43", "customer");
    live.count_refusal(End::RejectedPassword);
    let last_seen = before.save().addresses.rows.iter().map(|row| row.usage.last_seen).min().unwrap();
    let ledger = Ledger::new();
    ledger.restore(through_json(&before.save()));
    request(&ledger.open(address(2), "proxy"), 2, "43", "default");
    assert_adds_up(&ledger);
    let (snapshot, tallies) = (ledger.snapshot(), ledger.tallies());
    assert_eq!((snapshot.since, total(&ledger)), (1_700_000_000_000, used(3, 3)));
    assert!(snapshot.started_at > snapshot.since);
    assert_eq!((of_address(&ledger, 1), of_address(&ledger, 2)), (used(1, 1), used(2, 2)));
    let bots: Vec<_> =
        ledger.bots().into_iter().map(|row| (row.user_id, row.client_name, counted(&row.used))).collect();
    assert_eq!(bots, [("43".into(), "lib/1".into(), used(2, 2)), ("42".into(), "lib/1".into(), used(1, 1))]);
    let accounts: Vec<_> = ledger.accounts().into_iter().map(|row| (row.account, counted(&row.used))).collect();
    assert_eq!(accounts, [("default".into(), used(2, 2)), ("customer".into(), used(1, 1))]);
    assert_eq!(
        (snapshot.ended["internal-error"], through_json(&ledger.save()).counters.refused["rejected-password"]),
        (2, 1)
    );
    // Metrics count this process alone.
    assert_eq!((tallies.listeners["proxy"], tallies.listeners["proxy-v4"]), (1, 0));
    assert_eq!(tallies.versions.map(|tally| tally.amount.requests), [0, 0, 1]);
    assert_eq!((tallies.ended[End::InternalError as usize], tallies.refused[End::RejectedPassword as usize]), (1, 0));
    let first = snapshot.usage.iter().find(|row| row.address == "10.0.0.1").unwrap();
    assert_eq!((first.used.active, first.used.last_seen), (0, last_seen));
}

#[test]
fn restored_figures_are_no_traffic() {
    let before = Ledger::bounded(1);
    (1..4).for_each(|number| request(&before.open(address(number), "proxy"), number, "42", "default"));
    let ledger = Ledger::bounded(1);
    ledger.restore(before.save());
    pass_a_second(&ledger);
    ledger.tick();
    let rates = || {
        let snapshot = ledger.snapshot();
        let (bots, accounts) = (ledger.bots(), ledger.accounts());
        let rows = snapshot.usage.iter().map(|row| row.used.traffic.rate_out);
        let more = bots.iter().map(|row| row.used.traffic.rate_out);
        let rows = rows.chain(more).chain(accounts.iter().map(|row| row.used.traffic.rate_out));
        (snapshot.totals.traffic.rate_out, rows.sum::<u64>())
    };
    assert_eq!(rates(), (0, 0));
    let entry = ledger.open(address(3), "proxy");
    pass(&entry, 0, 1_000_000);
    ledger.tick();
    let (total, rows) = rates();
    assert!(total > 0 && rows == total, "{total} {rows}");
}

#[test]
fn names_of_another_version_are_kept() {
    let text = r#"{"since":1700000000000,"new":1,"counters":{"listeners":{"proxy":3,"proxy-v5":2},
        "versions":{"v4":{"requests":4,"bytesIn":40,"bytesOut":400},"v5":{"requests":1,"bytesIn":10,"bytesOut":100}},
        "ended":{"client-closed":1,"melted":4},"refused":{"rejected-moon":7},"new":{}},
        "addresses":{"rows":[{"key":"10.0.0.1","connections":5,"requests":5,"bytesIn":50,"bytesOut":500,"lastSeen":9}]}}"#;
    let ledger = Ledger::new();
    ledger.restore(serde_json::from_str(text).unwrap());
    assert_adds_up(&ledger);
    assert_eq!(total(&ledger), used(5, 5));
    assert_eq!(ledger.snapshot().ended["melted"], 4);
    drop(ledger.open(address(1), "proxy"));
    let saved = through_json(&ledger.save());
    assert_eq!((saved.counters.listeners["proxy"], saved.counters.listeners["proxy-v5"]), (4, 2));
    assert_eq!((saved.counters.ended["melted"], saved.counters.ended["client-closed"]), (4, 1));
    assert_eq!((saved.counters.refused["rejected-moon"], saved.counters.ended["internal-error"]), (7, 1));
    // They are handed over once.
    let successor = successor_of(&ledger, MAX_ROWS);
    successor.set_predecessor(ledger.remainder());
    assert_eq!(successor.save().counters, saved.counters);
}

#[test]
fn a_form_without_fields_restores_nothing() {
    let ledger = Ledger::new();
    ledger.restore(serde_json::from_str("{}").unwrap());
    assert_eq!((total(&ledger), ledger.snapshot().since), (Counted::default(), ledger.started_at));
    assert!(ledger.bots().is_empty() && ledger.accounts().is_empty() && ledger.snapshot().usage.is_empty());
}

#[test]
fn the_saved_form_is_plain_json() {
    let ledger = Ledger::new();
    request(&ledger.open(address(1), "proxy"), 1, "42", "default");
    let mut saved = ledger.save();
    saved.since = 5;
    saved.addresses.rows[0].usage.last_seen = 6;
    saved.bots.rows[0].usage.last_seen = 7;
    saved.accounts.rows[0].usage.last_seen = 8;
    saved.nodes.rows[0].usage.last_seen = 9;
    let figures = |key: &str, last_seen: u64| {
        format!(
            r#""key":"{key}",{}"connections":1,"requests":1,"bytesIn":10,"bytesOut":100,"lastSeen":{last_seen}"#,
            if key == "42" { r#""clientName":"lib/1","# } else { "" }
        )
    };
    let book = |key, last_seen| {
        let none = r#""connections":0,"requests":0,"bytesIn":0,"bytesOut":0,"lastSeen":0"#;
        format!(r#"{{"rows":[{{{}}}],"others":{{{none}}}}}"#, figures(key, last_seen))
    };
    let counters = r#"{"listeners":{"proxy":1},"versions":{"v4":{"requests":1,"bytesIn":10,"bytesOut":100}},"ended":{"internal-error":1},"refused":{}}"#;
    let expected = format!(
        r#"{{"since":5,"counters":{counters},"addresses":{},"bots":{},"accounts":{},"nodes":{}}}"#,
        book("10.0.0.1", 6),
        book("42", 7),
        book("default", 8),
        book("v4", 9)
    );
    assert_eq!(serde_json::to_string(&saved).unwrap(), expected);
}

#[test]
fn restored_figures_of_any_size_do_not_overflow() {
    let most = u64::MAX;
    let usage =
        format!(r#""connections":{most},"requests":{most},"bytesIn":{most},"bytesOut":{most},"lastSeen":{most}"#);
    let text = format!(
        r#"{{"since":{most},"counters":{{"listeners":{{"proxy":{most},"web":{most}}},
        "versions":{{"v3":{{"requests":{most},"bytesIn":{most},"bytesOut":{most}}},"v4":{{"requests":{most},"bytesIn":{most},"bytesOut":{most}}}}},
        "ended":{{"internal-error":{most}}},"refused":{{"bad-request":{most}}}}},
        "addresses":{{"rows":[{{"key":"10.0.0.1",{usage}}},{{"key":"10.0.0.1",{usage}}}],"others":{{{usage}}}}}}}"#
    );
    let ledger = Ledger::bounded(1);
    for _ in 0..2 {
        ledger.restore(serde_json::from_str(&text).unwrap());
    }
    for number in 1..4 {
        let entry = ledger.open(address(number), "proxy");
        request(&entry, number, "42", "default");
        entry.count_refusal(End::BadRequest);
        (0..7).for_each(|_| ledger.tick());
        drop((ledger.snapshot(), ledger.tallies(), ledger.remainder()));
    }
    drop(ledger.hand_over());
    assert_eq!(total(&ledger).connections, u64::MAX);
}

#[test]
fn restored_rows_beyond_the_bound_are_folded_oldest_first() {
    let mut saved = Saved::default();
    for number in 0..100u32 {
        let usage = SavedUsage { counted: used(1, 1), last_seen: 1000 + u64::from(number) };
        saved.addresses.rows.push(SavedRow { key: address(number).ip(), client_name: None, usage });
    }
    saved.counters.listeners.insert("proxy".into(), 100);
    saved.counters.versions.insert("v4".to_owned(), used(0, 100).amount);
    let ledger = Ledger::bounded(32);
    ledger.restore(saved);
    assert_adds_up(&ledger);
    let rows = ledger.snapshot().usage;
    assert!((20..=33).contains(&rows.len()), "{}", rows.len());
    assert!(rows.iter().all(|row| row.address == "others" || row.used.last_seen >= 1068));
    // As many as fit are kept, so that a restart folds nothing.
    let ledger = Ledger::bounded(32);
    let full = Ledger::bounded(32);
    (0..32).for_each(|number| drop(full.open(address(number), "proxy")));
    ledger.restore(full.save());
    assert_eq!(ledger.snapshot().usage.len(), 32);
}

#[test]
fn what_is_used_after_a_handover_is_counted_once() {
    let ledger = Ledger::new();
    let (idle, entry) = (ledger.open(address(1), "proxy"), ledger.open(address(2), "proxy"));
    request(&idle, 1, "41", "default");
    request(&entry, 2, "42", "customer");
    let successor = successor_of(&ledger, MAX_ROWS);
    assert_eq!(ledger.remainder().addresses.rows, []);
    request(&entry, 2, "42", "customer");
    request(&successor.open(address(2), "proxy"), 2, "42", "customer");
    let remainder = ledger.remainder();
    assert_saved_adds_up(&remainder);
    assert_eq!((remainder.addresses.rows.len(), remainder.bots.rows.len(), remainder.accounts.rows.len()), (1, 1, 1));
    assert_eq!(remainder.addresses.rows[0].usage.counted, used(0, 1));
    assert_eq!(remainder.counters.listeners, BTreeMap::new());
    for _ in 0..3 {
        successor.set_predecessor(ledger.remainder());
        assert_eq!((of_address(&successor, 2), total(&successor)), (used(2, 3), used(3, 4)));
        assert_adds_up(&successor);
    }
    drop(entry);
    drop(idle);
    successor.set_predecessor(ledger.remainder());
    successor.keep_predecessor();
    assert_eq!((of_address(&successor, 2), total(&successor)), (used(2, 3), used(3, 4)));
    assert_eq!(successor.snapshot().ended["internal-error"], 3);
    assert_eq!(counted(&successor.bots()[0].used), used(2, 3));
    assert_eq!(counted(&successor.accounts()[0].used), used(2, 3));
}

#[test]
fn a_second_predecessor_counts_beside_the_first() {
    let remainder = |requests| {
        let ledger = Ledger::new();
        let entry = ledger.open(address(1), "proxy");
        drop(ledger.hand_over());
        (0..requests).for_each(|_| request(&entry, 1, "42", "default"));
        ledger.remainder()
    };
    let ledger = Ledger::new();
    ledger.set_predecessor(remainder(3));
    ledger.keep_predecessor();
    ledger.set_predecessor(remainder(2));
    assert_eq!(total(&ledger), used(0, 5));
}

#[test]
fn rows_that_a_predecessor_folds_are_counted_once() {
    let ledger = Ledger::bounded(2);
    drop(ledger.open(address(1), "proxy"));
    let entry = ledger.open(address(2), "proxy");
    let successor = successor_of(&ledger, MAX_ROWS);
    for number in [2, 3, 4, 3, 5, 1, 6, 2, 2] {
        request(&entry, number, &number.to_string(), &number.to_string());
        successor.set_predecessor(ledger.remainder());
        assert_adds_up(&ledger);
        assert_adds_up(&successor);
    }
    assert_eq!((total(&successor), total(&ledger)), (used(2, 9), used(2, 9)));
    for (number, requests) in [(1, 1), (2, 3), (3, 2), (4, 1), (5, 1), (6, 1)] {
        let most = used(u64::from(number < 3), requests);
        assert!(of_address(&successor, number).less(most).is_nothing(), "{number}");
    }
}

#[test]
fn a_client_that_is_named_after_the_handover_leaves_the_connection_with_the_front() {
    let ledger = Ledger::new();
    let entry = ledger.open(address(1), "proxy");
    pass(&entry, 4, 0);
    let successor = successor_of(&ledger, MAX_ROWS);
    request(&entry, 2, "42", "default");
    for _ in 0..2 {
        successor.set_predecessor(ledger.remainder());
        assert_adds_up(&successor);
        let front = Counted { connections: 1, amount: Amount { bytes_in: 4, ..Amount::default() } };
        assert_eq!((of_address(&successor, 1), of_address(&successor, 2)), (front, used(0, 1)));
        let mut whole = front;
        whole.add(used(0, 1));
        assert_eq!(counted(&successor.bots()[0].used), whole, "a connection without a bot goes to its first one whole");
    }
}

#[test]
fn a_head_that_is_read_during_the_handover_is_counted_once() {
    let ledger = Ledger::new();
    let entry = ledger.open(address(1), "proxy");
    request(&entry, 1, "41", "first");
    pass(&entry, 10, 0);
    let successor = successor_of(&ledger, MAX_ROWS);
    entry.count_request();
    entry.attribute_to(ClientAddr::from(address(2)), 10);
    entry.note_account(&"second".into());
    pass(&entry, 0, 100);
    entry.count_request();
    entry.attribute_to(ClientAddr::from(address(3)), 0);
    let mut whole = used(1, 2);
    whole.amount.requests += 1;
    for _ in 0..2 {
        successor.set_predecessor(ledger.remainder());
        assert_adds_up(&successor);
        assert_eq!(total(&successor), whole);
        assert_eq!(sum(successor.accounts().iter().map(|row| &row.used)), used(1, 2));
    }
}

#[test]
fn a_change_of_version_after_the_handover_is_counted_once() {
    let ledger = Ledger::new();
    let entry = ledger.open(address(1), "proxy");
    request(&entry, 1, "42", "default");
    entry.count_request();
    let successor = successor_of(&ledger, MAX_ROWS);
    entry.note_request(Some(Lavalink::V3), &"v3".into(), &"127.0.0.1:2333".into(), ClientInfo::default());
    successor.set_predecessor(ledger.remainder());
    assert_adds_up(&successor);
    drop(entry);
    successor.set_predecessor(ledger.remainder());
    assert_adds_up(&successor);
    assert_eq!(total(&successor).amount.requests, 2);
}

#[test]
fn figures_add_up_while_bytes_pass() {
    let ledger = Ledger::new();
    let entries: Vec<Entry> = (1..5).map(|number| ledger.open(address(number), "proxy")).collect();
    thread::scope(|scope| {
        let client = |(entry, number): (&Entry, u32)| {
            let bot = number.to_string();
            for _ in 0..3000 {
                request(entry, number, &bot, "default");
                request(entry, number + 1, "42", &bot);
            }
        };
        let threads: Vec<_> = entries.iter().zip(1..).map(|one| scope.spawn(move || client(one))).collect();
        let mut rounds = 0;
        while !threads.iter().all(|thread| thread.is_finished()) {
            assert_adds_up(&ledger);
            rounds += 1;
            if rounds == 10 {
                drop(ledger.hand_over());
            }
        }
    });
    assert_adds_up(&ledger);
}
