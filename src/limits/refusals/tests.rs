#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;

fn prefix(address: &str) -> Prefix {
    Prefix::of(address.parse().unwrap())
}

/// So many refusals of one prefix.
fn note(refusals: &Refusals, reason: End, address: &str, count: u32, now: Duration) {
    for _ in 0..count {
        refusals.note_at(reason, prefix(address), now);
    }
}

fn at(minutes: f64) -> Duration {
    Duration::from_secs_f64(60.0 * minutes)
}

/// The counts of the last hour by reason.
fn reasons(refusals: &Refusals, now: Duration) -> Vec<(&'static str, u64)> {
    refusals.by_reason_at(now).into_iter().map(|row| (row.reason, row.last_hour)).collect()
}

fn most(refusals: &Refusals, limit: usize, now: Duration) -> Vec<(String, u64)> {
    let rows = refusals.most_refused_at(limit, now, 0);
    rows.into_iter().map(|row| (row.address, row.last_hour)).collect()
}

#[test]
fn refusals_count_by_reason_for_an_hour() {
    let refusals = Refusals::default();
    assert!(refusals.by_reason_at(at(0.0)).is_empty());
    for (reason, minutes) in [
        (End::RejectedBanned, 0.0),
        (End::RejectedPassword, 0.5),
        (End::RejectedPassword, 30.0),
        (End::RejectedPassword, 30.9),
        (End::RejectedConnectionRate, 59.9),
    ] {
        refusals.note_at(reason, prefix("192.0.2.7"), at(minutes));
    }
    let rejected = |password, rate| [("rejected-password", password), ("rejected-connection-rate", rate)];
    assert_eq!(reasons(&refusals, at(59.9)), [rejected(3, 1).as_slice(), &[("rejected-banned", 1)]].concat());
    assert_eq!(reasons(&refusals, at(60.0)), rejected(2, 1));
    let minutes = refusals.by_reason_at(at(60.0))[0].minutes.clone();
    assert_eq!(reasons(&refusals, at(90.0)), [("rejected-connection-rate", 1)]);
    assert_eq!(reasons(&refusals, at(119.0)), []);
    // A reader may have its time from before the newest refusal.
    note(&refusals, End::RejectedAccount, "192.0.2.7", 1, at(180.0));
    assert_eq!(reasons(&refusals, at(179.9)), []);
    assert_eq!((minutes.len(), minutes[29], minutes.iter().sum::<u32>()), (60, 2, 2), "{minutes:?}");
}

#[test]
fn a_pause_longer_than_an_hour_leaves_nothing_behind() {
    let refusals = Refusals::default();
    for minute in 0..60 {
        refusals.note_at(End::RejectedPassword, prefix("192.0.2.7"), at(f64::from(minute)));
    }
    assert_eq!(reasons(&refusals, at(59.0)), [("rejected-password", 60)]);
    for later in [600.0, 1_000_000.0] {
        refusals.note_at(End::RejectedPassword, prefix("192.0.2.7"), at(later));
        assert_eq!(reasons(&refusals, at(later)), [("rejected-password", 1)]);
        assert_eq!(most(&refusals, 10, at(later)), [("192.0.2.7".to_owned(), 1)]);
    }
}

#[test]
fn the_prefixes_refused_most_come_first() {
    let refusals = Refusals::default();
    for (address, count) in [("192.0.2.1", 2), ("192.0.2.2", 5), ("2001:db8::1", 2), ("2001:db8::2", 2)] {
        note(&refusals, End::RejectedRequestRate, address, count, at(1.0));
    }
    refusals.note_at(End::RejectedBanned, prefix("192.0.2.2"), at(11.0));
    let rows =
        |rows: &[(&str, u64)]| rows.iter().map(|(address, count)| ((*address).to_owned(), *count)).collect::<Vec<_>>();
    let all = rows(&[("192.0.2.2", 6), ("2001:db8::/64", 4), ("192.0.2.1", 2)]);
    assert_eq!(most(&refusals, 10, at(11.0)), all);
    assert_eq!(most(&refusals, 2, at(11.0)), all[..2]);
    assert_eq!(most(&refusals, 10, at(60.0)), rows(&[("192.0.2.2", 1)]));
    assert_eq!(most(&refusals, 10, at(70.0)), []);
    let row = &refusals.most_refused_at(1, at(12.0), 1_800_000_000_000)[0];
    assert_eq!((row.reason, row.last_seen), ("rejected-banned", 1_800_000_000_000 - 60_000));
}

#[test]
fn the_prefixes_are_limited_and_a_frequent_one_stays() {
    let refusals = Refusals::default();
    note(&refusals, End::RejectedPassword, "192.0.2.7", 100, at(0.0));
    for number in 0..50_000 {
        refusals.note_at(End::RejectedPassword, Prefix::V6(number), at(1.0));
    }
    assert_eq!(most(&refusals, usize::MAX, at(1.0)).len(), MAX_PREFIXES);
    assert_eq!(most(&refusals, 1, at(1.0)), [("192.0.2.7".to_owned(), 100)]);
    assert_eq!(reasons(&refusals, at(1.0)), [("rejected-password", 50_100)]);
}

#[test]
fn a_prefix_gets_one_line_a_second() {
    let refusals = Refusals::default();
    let note = |address, milliseconds| {
        refusals.note_at(End::RejectedPassword, prefix(address), Duration::from_millis(milliseconds))
    };
    assert_eq!((note("192.0.2.7", 0), note("192.0.2.7", 1), note("192.0.2.7", 999)), (Some(1), None, None));
    assert_eq!((note("2001:db8::1", 999), note("2001:db8::2", 999)), (Some(1), None));
    assert_eq!(note("192.0.2.7", 1000), Some(3));
    assert_eq!((note("192.0.2.7", 1999), note("192.0.2.7", 5000)), (None, Some(2)));
}

#[test]
fn many_prefixes_share_a_number_of_lines() {
    let refusals = Refusals::default();
    let lines = |milliseconds| {
        let now = Duration::from_millis(milliseconds);
        (0..4000).filter(|number| refusals.note_at(End::RejectedPassword, Prefix::V6(*number), now).is_some()).count()
    };
    assert_eq!((lines(0), lines(500), lines(1000)), (50, 0, 50));
}

#[test]
fn rows_are_written_as_the_api_has_them() {
    let refusals = Refusals::default();
    refusals.note_at(End::RejectedBanned, prefix("192.0.2.7"), at(0.0));
    let reason = serde_json::to_value(&refusals.by_reason_at(at(0.0))[0]).unwrap();
    assert_eq!((&reason["reason"], &reason["lastHour"]), (&"rejected-banned".into(), &1.into()));
    assert_eq!(reason["minutes"].as_array().unwrap()[59], 1);
    let row = serde_json::to_value(&refusals.most_refused_at(1, at(0.0), 5000)[0]).unwrap();
    let expected =
        serde_json::json!({ "address": "192.0.2.7", "lastHour": 1, "reason": "rejected-banned", "lastSeen": 5000 });
    assert_eq!(row, expected);
}
