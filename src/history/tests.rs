#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use super::*;

/// A moment at the start of an hour, in slots.
const START: u64 = 360 * 5000;

fn reading(name: &str, connections: u64, bytes: u64) -> Reading {
    let totals = Totals { requests: bytes / 100, bytes_in: bytes, bytes_out: 2 * bytes, refusals: 0 };
    Reading {
        name: Some(name.into()),
        totals,
        connections,
        players: Some(3),
        load: Some(0.25),
        response_time: Some(1.5),
    }
}

fn sample(bytes: u64) -> Sample {
    Sample {
        all: Reading {
            name: Some("all".into()),
            totals: Totals { refusals: bytes / 10, ..Totals::default() },
            ..Reading::default()
        },
        versions: vec![reading("v3", 2, bytes), reading("v4", 5, 10 * bytes)],
        nodes: vec![reading("eu1", 5, bytes)],
        accounts: vec![reading("default", 7, bytes)],
        answering: vec![(Lavalink::V4, Answering::Up)],
    }
}

/// A sample at the end of this slot.
fn tick(history: &History, slot: u64, sample: Sample) {
    history.tick((slot + 1) * SLOT + 7, || sample);
}

fn values(history: &History, range: Range, by: By, name: &str, figure: Figure) -> Vec<Option<f64>> {
    let view = history.view(range, by, 0);
    let (_, figures) = view.series.into_iter().find(|(known, _)| known == name).unwrap_or_else(|| panic!("no {name}"));
    figures.into_iter().find(|(known, _)| *known == figure).unwrap().1
}

fn names(history: &History, by: By) -> Vec<String> {
    history.view(Range::Hour, by, 0).series.into_iter().map(|(name, _)| name).collect()
}

#[test]
fn sums_are_differences_and_levels_are_what_they_are() {
    let history = History::default();
    for slot in 0..20 {
        tick(&history, START + slot, sample(1000 + 50 * slot));
    }
    let last = |figure| values(&history, Range::Hour, By::Version, "v3", figure)[360 - 20..].to_vec();
    assert_eq!(last(Figure::BytesIn), [&[None][..], &[Some(50.0); 19]].concat(), "the first sample is no difference");
    assert_eq!(last(Figure::Connections), [Some(2.0); 20]);
    assert_eq!(last(Figure::Players), [Some(3.0); 20]);
    let of_node = |figure| values(&history, Range::Day, By::Node, "eu1", figure)[1439];
    assert_eq!((of_node(Figure::Load), of_node(Figure::ResponseTime)), (Some(0.25), Some(1.5)));
    assert_eq!(of_node(Figure::BytesOut), Some(600.0));
    let view = history.view(Range::Hour, By::Account, 0);
    assert_eq!((view.all[0].0, view.all[0].1[359]), (Figure::Refusals, Some(5.0)));
    assert_eq!(view.start, (START + 20 - 360) * SLOT);
    assert_eq!(history.uptime(Lavalink::V4).1.iter().map(|day| day.up).sum::<u64>(), 20);
    assert_eq!(history.uptime(Lavalink::V3), (None, vec![]));
}

#[test]
fn a_slot_is_sampled_once_and_a_missed_one_is_a_gap() {
    let history = History::default();
    tick(&history, START, sample(0));
    history.tick((START + 1) * SLOT + 9999, || panic!("no slot has ended"));
    tick(&history, START + 3, sample(90));
    let bytes = values(&history, Range::Hour, By::Version, "v3", Figure::BytesIn);
    assert_eq!(bytes[356..], [None, None, None, Some(90.0)]);
    let connections = values(&history, Range::Hour, By::Version, "v3", Figure::Connections);
    assert_eq!(connections[356..], [Some(2.0), None, None, Some(2.0)]);
}

#[test]
fn a_clock_that_is_set_back_takes_the_later_steps_with_it() {
    let history = History::default();
    (0..1000).for_each(|slot| tick(&history, START + slot, sample(slot)));
    history.tick((START + 995) * SLOT, || panic!("a little is waited for"));
    tick(&history, START + 900, sample(2000));
    let bytes = values(&history, Range::Hour, By::Version, "v3", Figure::BytesIn);
    assert_eq!((bytes[358], bytes[359]), (Some(1.0), Some(1001.0)));
    assert_eq!(bytes.iter().flatten().count(), 261, "the steps after it have left their places");
    let minutes = values(&history, Range::Day, By::Version, "v3", Figure::Requests);
    assert_eq!(minutes.iter().flatten().count(), 150);
}

#[test]
fn a_restart_is_a_gap_and_loses_no_byte() {
    let history = History::default();
    (0..100).for_each(|slot| tick(&history, START + slot, sample(10 * slot)));
    let json = serde_json::to_string(&history.save()).unwrap();
    let next = History::default();
    next.restore(&serde_json::from_str(&json).unwrap());
    assert_eq!(next.save(), history.save());
    // The last process has used 4 more before its end, and this one 6 more.
    tick(&next, START + 130, sample(10 * 99 + 10));
    let bytes = values(&next, Range::Hour, By::Version, "v3", Figure::BytesIn);
    assert_eq!(bytes[360 - 33..], [&[Some(10.0); 2][..], &[None; 30], &[Some(10.0)]].concat());
    (131..360).for_each(|slot| tick(&next, START + slot, sample(10 * slot)));
    let hours = values(&next, Range::Month, By::Version, "v3", Figure::BytesIn);
    assert_eq!(hours[719], Some(10.0 * 359.0));
}

#[test]
fn twenty_nodes_and_a_hundred_accounts_take_less_than_a_mebibyte() {
    let history = History::default();
    let many = |kind: &str, count: u64, bytes: u64| -> Vec<Reading> {
        (0..count).map(|number| reading(&format!("{kind}-{number:03}"), number, bytes * (1000 - number))).collect()
    };
    for slot in 0..800 {
        let more = Sample {
            versions: ["none", "v3", "v4"].map(|name| reading(name, 9, slot * 1_000_000)).into(),
            nodes: many("node", 23, slot * 123_457),
            accounts: many("account", 100, slot * 7_654_321),
            ..sample(slot)
        };
        tick(&history, START + slot, more);
    }
    let state = history.state.lock();
    let memory: usize = [&state.all, &state.versions, &state.nodes, &state.accounts].map(Group::memory).iter().sum();
    drop(state);
    assert!((900 * 1024..1024 * 1024).contains(&memory), "{memory} bytes");
    let accounts = names(&history, By::Account);
    assert_eq!((accounts.len(), &*accounts[0], &*accounts[8]), (9, "account-000", "others"));
    assert_eq!(names(&history, By::Node).len(), 21);
    let others = values(&history, Range::Hour, By::Node, "others", Figure::BytesIn);
    let exact = 123_457.0 * (980 + 979 + 978) as f64;
    assert!((others[359].unwrap() / exact - 1.0).abs() < 0.001);
    assert_eq!(values(&history, Range::Hour, By::Node, "others", Figure::Load)[359], None);
}

#[test]
fn once_an_hour_the_accounts_with_the_most_bytes_get_figures_of_their_own() {
    let history = History::default();
    let accounts = |slot: u64, late: u64| {
        let mut all: Vec<Reading> =
            (0..8).map(|number| reading(&format!("a{number}"), 1, slot * (9 - number))).collect();
        all.push(reading("late", 1, late));
        all.sort_by_key(|reading| std::cmp::Reverse(reading.totals.bytes_in));
        Sample { accounts: all, ..sample(0) }
    };
    (0..359).for_each(|slot| tick(&history, START + slot, accounts(slot, 1000 * slot)));
    assert!(names(&history, By::Account).iter().all(|name| name != "late"));
    (359..400).for_each(|slot| tick(&history, START + slot, accounts(slot, 1000 * slot)));
    let now = names(&history, By::Account);
    assert!(now.contains(&"late".to_owned()) && !now.contains(&"a7".to_owned()), "{now:?}");
    let of = |name| values(&history, Range::Hour, By::Account, name, Figure::BytesIn);
    assert_eq!((of("late")[319], of("late")[320]), (None, Some(1000.0)));
    let others = of("others");
    // Before, it has what both have used; afterwards, what the account has used that lost its figures.
    assert_eq!(
        (others[300], others[319], others[320], others[359]),
        (Some(1002.0), Some(1002.0), Some(2.0), Some(2.0))
    );
}

#[test]
fn whatever_a_file_holds_does_no_harm() {
    let history = History::default();
    (0..100).for_each(|slot| tick(&history, START + slot, sample(10 * slot)));
    let mut saved = history.save();
    let row = &mut saved.versions.rows[0];
    row.series.insert("bytesIn".to_owned(), ["!!".to_owned(), "AAA".repeat(99_999), String::new()]);
    row.last = Some([u64::MAX; 4]);
    saved.versions.rows = vec![saved.versions.rows[0].clone(); 50];
    saved.nodes.rows.clear();
    for newest in [0, START + 99, u64::MAX] {
        saved.newest = newest;
        let next = History::default();
        next.restore(&saved);
        started_long_ago(&next);
        assert!(Range::ALL.into_iter().all(|range| next.view(range, By::Version, 0).series.len() == MAX_VERSIONS));
        (100..110).for_each(|slot| tick(&next, START + slot, sample(10 * slot)));
        assert_eq!(values(&next, Range::Hour, By::Node, "eu1", Figure::Connections)[359], Some(5.0));
        next.save();
    }
}

/// No clock is waited for any more.
fn started_long_ago(history: &History) {
    history.state.lock().restored = None;
}

#[test]
fn a_clock_that_is_behind_at_the_start_is_waited_for() {
    let history = History::default();
    (0..100).for_each(|slot| tick(&history, START + slot, sample(10 * slot)));
    for behind in [START - 5, START - 300 * 360, 1] {
        let next = History::default();
        next.restore(&history.save());
        (0..5).for_each(|slot| tick(&next, behind + slot, sample(1000)));
        assert_eq!(next.save(), history.save(), "{behind}");
        tick(&next, START + 102, sample(1000));
        let connections = values(&next, Range::Hour, By::Node, "eu1", Figure::Connections);
        assert_eq!(connections[356..], [Some(5.0), None, None, Some(5.0)], "what was before is there");

        // It was set back for good.
        started_long_ago(&next);
        tick(&next, behind, sample(1000));
        assert_eq!(next.save().newest, behind);
    }
}

/// So many names whose rings are full.
fn full(figures: &[Figure], names: usize, others: bool) -> saved::SavedGroup {
    let ring = |range: Range| (0..range.steps()).map(|step| packed::Packed::new(step * 7919)).collect();
    let row = |name: &str| {
        let series = figures.iter().map(|figure| (figure.name(), Range::ALL.map(ring)));
        saved::SavedRow::new(&name.into(), Some([u64::MAX; 4]), series)
    };
    let rows = (0..names).map(|number| row(&format!("name-{number}"))).collect();
    saved::SavedGroup { rows, others: others.then(|| row("others")) }
}

#[test]
fn the_saved_form_is_small() {
    for (nodes, accounts, others, bound) in [(2, 1, false, 250_000), (MAX_NODES, MAX_ACCOUNTS, true, 1_400_000)] {
        let saved = Saved {
            newest: START,
            all: full(OF_ALL, 1, false),
            versions: full(OF_VERSION, MAX_VERSIONS, false),
            nodes: full(OF_NODE, nodes, others),
            accounts: full(OF_ACCOUNT, accounts, others),
            uptime: std::collections::BTreeMap::new(),
        };
        let history = History::default();
        history.restore(&saved);
        let size = serde_json::to_vec(&history.save()).unwrap().len();
        assert!(size < bound, "{nodes} nodes and {accounts} accounts: {size} bytes");
        println!("{nodes} nodes and {accounts} accounts: {size} bytes");
    }
}
