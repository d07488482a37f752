#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::net::Ipv4Addr;

use super::*;
use crate::config::{Settings, network};

/// Any moment.
const NOW: u64 = 1_800_000_000_000;
const MINUTE: u64 = 60_000;
const DAY: u64 = 24 * 60 * MINUTE;

fn trusted(text: &str) -> Networks {
    let lookup = |name: &str| (name == "TRUSTED_PROXIES").then(|| text.into());
    Settings::from_lookup(lookup).unwrap().trusted_proxies
}

/// Bans with the fronts 10.0.0.0/8 and 2001:db8:f::1, after two wrong passwords.
fn bans() -> Bans {
    Bans::new(&trusted("10.0.0.0/8,2001:db8:f::1"), Some(2))
}

fn by_hand(bans: &Bans, text: &str, minutes: impl Into<Option<u64>>) -> Result<BanRow, BanError> {
    let duration = minutes.into().map(|minutes| Duration::from_secs(60 * minutes));
    bans.ban_at(network(text).unwrap(), "by hand", duration, By::Api, NOW)
}

fn has(bans: &Bans, address: &str, now: u64) -> bool {
    bans.end_at(address.parse().unwrap(), now).is_some()
}

fn addresses(bans: &Bans, now: u64) -> Vec<String> {
    bans.rows_at(now).into_iter().map(|row| row.address).collect()
}

/// The client sends as many wrong passwords as ban it.
fn guess(bans: &Bans, client: &str, now: u64) {
    (0..2).for_each(|_| bans.note_wrong_password_at(client.parse().unwrap(), now));
}

#[test]
fn a_ban_by_hand_covers_its_address_or_network_and_nothing_else() {
    for (ban, inside, outside) in [
        (
            "203.0.113.7",
            &["203.0.113.7", "::ffff:203.0.113.7"][..],
            &["203.0.113.6", "203.0.113.8", "::203.0.113.7"][..],
        ),
        ("203.0.113.0/24", &["203.0.113.0", "203.0.113.255"], &["203.0.112.255", "203.0.114.0"]),
        ("2001:db8::7", &["2001:db8::7"], &["2001:db8::8", "2001:db8::"]),
        (
            "2001:db8::/64",
            &["2001:db8::", "2001:db8::ffff:ffff:ffff:ffff"],
            &["2001:db8:0:1::", "2001:db7:ffff:ffff::"],
        ),
        ("2001:db9::/32", &["2001:db9:ffff::1"], &["2001:db8::1"]),
    ] {
        let bans = bans();
        by_hand(&bans, ban, 1).unwrap();
        assert_eq!(bans.count(), 1);
        for address in inside {
            assert!(has(&bans, address, NOW), "{address} in {ban}");
        }
        for address in outside {
            assert!(!has(&bans, address, NOW), "{address} in {ban}");
        }
    }
}

#[test]
fn a_ban_by_hand_has_an_end_or_none() {
    let bans = bans();
    let row = by_hand(&bans, "203.0.113.7", 10).unwrap();
    let expected = BanRow {
        address: "203.0.113.7".to_owned(),
        reason: "by hand".to_owned(),
        by: By::Api,
        since: NOW,
        until: Some(NOW + 10 * MINUTE),
    };
    assert_eq!(row, expected);
    assert!(has(&bans, "203.0.113.7", NOW + 10 * MINUTE - 1) && !has(&bans, "203.0.113.7", NOW + 10 * MINUTE));
    assert!(addresses(&bans, NOW + 10 * MINUTE).is_empty());
    assert_eq!(by_hand(&bans, "203.0.113.8", None).unwrap().until, None);
    assert!(has(&bans, "203.0.113.8", NOW + 100 * 365 * DAY));
    assert_eq!(bans.end("203.0.113.8".parse().unwrap()), Some(None));
    // The longest duration has an end that can be written.
    let row = bans.ban_at(network("203.0.113.9").unwrap(), "long", Some(Duration::MAX), By::Page, NOW).unwrap();
    assert_eq!(row.until, Some(MAX_END));
}

#[test]
fn the_ban_of_a_network_is_replaced_by_a_new_one_by_hand() {
    let bans = bans();
    by_hand(&bans, "203.0.113.7", None).unwrap();
    by_hand(&bans, "203.0.113.7", 1).unwrap();
    assert_eq!((bans.count(), addresses(&bans, NOW)), (1, vec!["203.0.113.7".to_owned()]));
    assert!(!has(&bans, "203.0.113.7", NOW + MINUTE));
}

#[test]
fn the_last_end_of_several_bans_counts() {
    let bans = bans();
    by_hand(&bans, "203.0.113.7", 10).unwrap();
    by_hand(&bans, "203.0.113.0/24", 30).unwrap();
    by_hand(&bans, "203.0.0.0/16", 20).unwrap();
    assert_eq!(bans.end_at("203.0.113.7".parse().unwrap(), NOW), Some(NOW + 30 * MINUTE));
}

#[test]
fn a_lifted_ban_is_gone() {
    let bans = bans();
    let lift = |text: &str, now| bans.lift_at(network(text).unwrap(), By::Page, now);
    by_hand(&bans, "203.0.113.0/24", None).unwrap();
    by_hand(&bans, "203.0.113.7", 1).unwrap();
    assert!(!lift("203.0.113.0/25", NOW) && !lift("203.0.113.8", NOW));
    assert!(lift("203.0.113.0/24", NOW) && !lift("203.0.113.0/24", NOW));
    assert!(has(&bans, "203.0.113.7", NOW) && !has(&bans, "203.0.113.8", NOW));
    assert!(!lift("203.0.113.7", NOW + MINUTE), "it has ended by itself");
    assert_eq!(bans.count(), 0);
}

#[test]
fn a_ban_lifted_by_hand_is_no_reason_for_a_longer_one() {
    let bans = bans();
    guess(&bans, "2001:db8::7", NOW);
    assert!(bans.lift_at(network("2001:db8::/64").unwrap(), By::Page, NOW));
    guess(&bans, "2001:db8::7", NOW);
    assert_eq!(bans.rows_at(NOW)[0].until, Some(NOW + 10 * MINUTE));
}

#[test]
fn nothing_bans_the_loopback() {
    for text in ["127.0.0.1", "127.9.9.9", "127.0.0.0/8", "126.0.0.0/7", "0.0.0.0/0", "::1", "::/64", "::/0"] {
        let error = by_hand(&bans(), text, None).unwrap_err();
        assert_eq!(error, BanError::Loopback, "{text}");
        assert!(error.to_string().contains("loopback"), "{error}");
    }
    let all_of_ipv4_mapped = "::ffff:0.0.0.0/96";
    assert_eq!(by_hand(&bans(), all_of_ipv4_mapped, None), Err(BanError::Loopback));
}

#[test]
fn nothing_bans_a_front() {
    for (text, front) in [
        ("10.0.0.5", "10.0.0.0/8"),
        ("10.0.0.0/8", "10.0.0.0/8"),
        ("10.0.0.0/7", "10.0.0.0/8"),
        ("2001:db8:f::1", "2001:db8:f::1"),
        ("2001:db8:f::/64", "2001:db8:f::1"),
        ("2001:db8::/32", "2001:db8:f::1"),
    ] {
        let error = by_hand(&bans(), text, None).unwrap_err();
        assert_eq!(error, BanError::Front(front.to_owned()), "{text}");
        assert!(error.to_string().contains(front), "{error}");
    }
    let bans = bans();
    by_hand(&bans, "2001:db8:f::2", None).unwrap();
    by_hand(&bans, "11.0.0.0/8", None).unwrap();
    bans.change(&trusted("11.0.0.7"), Some(2));
    assert_eq!(by_hand(&bans, "11.0.0.0/8", None), Err(BanError::Front("11.0.0.7".to_owned())));
    by_hand(&bans, "10.0.0.5", None).unwrap();
}

#[test]
fn a_long_reason_is_refused() {
    let ban = |length| bans().ban_at(network("203.0.113.7").unwrap(), &"x".repeat(length), None, By::Page, NOW);
    assert!(ban(MAX_REASON).is_ok());
    assert_eq!(ban(MAX_REASON + 1), Err(BanError::Reason));
}

#[test]
fn wrong_passwords_ban_an_ipv4_address_or_a_64() {
    let bans = bans();
    bans.note_wrong_password_at("203.0.113.7".parse().unwrap(), NOW);
    assert_eq!(bans.count(), 0);
    bans.note_wrong_password_at("203.0.113.7".parse().unwrap(), NOW);
    guess(&bans, "2001:db8:1:2:3:4:5:6", NOW + 1);
    assert_eq!(addresses(&bans, NOW + 1), ["2001:db8:1:2::/64", "203.0.113.7"], "the newest first");
    assert!(has(&bans, "2001:db8:1:2::9", NOW + 1) && !has(&bans, "2001:db8:1:3::9", NOW + 1));
    let row = &bans.rows_at(NOW + 1)[1];
    assert_eq!((row.by, &*row.reason), (By::Rule, "2 wrong passwords within a minute"));
    assert_eq!(row.until, Some(NOW + 10 * MINUTE));
}

#[test]
fn a_return_is_banned_for_longer() {
    let bans = bans();
    guess(&bans, "203.0.113.7", NOW);
    // Requests that were under way when the ban began count for nothing.
    guess(&bans, "203.0.113.7", NOW + 1);
    assert_eq!(bans.end_at("203.0.113.7".parse().unwrap(), NOW + 1), Some(NOW + 10 * MINUTE));
    guess(&bans, "203.0.113.7", NOW + 11 * MINUTE);
    assert_eq!(bans.end_at("203.0.113.7".parse().unwrap(), NOW + 11 * MINUTE), Some(NOW + 31 * MINUTE));
}

#[test]
fn the_rule_never_shortens_a_ban_by_hand() {
    let bans = bans();
    by_hand(&bans, "203.0.113.7", None).unwrap();
    guess(&bans, "203.0.113.7", NOW);
    assert_eq!(bans.rows_at(NOW)[0].until, None);
}

#[test]
fn a_client_in_the_64_of_a_front_is_banned_alone() {
    let bans = bans();
    guess(&bans, "2001:db8:f::2", NOW);
    assert_eq!(addresses(&bans, NOW), ["2001:db8:f::2"]);
}

#[test]
fn no_wrong_password_bans_while_the_rule_is_off() {
    let bans = Bans::new(&Networks::default(), None);
    guess(&bans, "203.0.113.7", NOW);
    assert_eq!(bans.count(), 0);
    bans.change(&Networks::default(), Some(1));
    guess(&bans, "203.0.113.7", NOW);
    assert_eq!(bans.count(), 1);
}

/// As many bans as there may be, of which every tenth is a network.
fn full() -> Bans {
    let bans = bans();
    for number in 0..u32::try_from(MAX_BANS).unwrap() {
        let address = Ipv4Addr::from_bits(0xC000_0000 + (number << 8));
        let network = if number % 10 == 0 { format!("{address}/24") } else { address.to_string() };
        by_hand(&bans, &network, 10).unwrap();
    }
    bans
}

#[test]
fn the_number_of_bans_is_limited_and_none_is_lifted_for_another() {
    let bans = full();
    assert_eq!(by_hand(&bans, "203.0.113.7", None), Err(BanError::Full));
    guess(&bans, "203.0.113.7", NOW);
    assert!(!has(&bans, "203.0.113.7", NOW));
    assert_eq!((bans.count(), bans.rows_at(NOW).len()), (MAX_BANS, MAX_BANS));
    by_hand(&bans, "192.0.1.0", 5).expect("a ban that is there is replaced");
    // Bans that have ended make room, though nothing has removed them yet.
    let network = network("203.0.113.7").unwrap();
    bans.ban_at(network, "", None, By::Page, NOW + 10 * MINUTE).unwrap();
    assert_eq!(bans.count(), 1);
}

#[test]
fn a_tick_removes_what_has_ended() {
    let bans = bans();
    by_hand(&bans, "203.0.113.7", 1).unwrap();
    by_hand(&bans, "203.0.113.8", 2).unwrap();
    by_hand(&bans, "203.0.113.9", None).unwrap();
    for (minutes, count) in [(0, 3), (1, 2), (2, 1), (1000, 1)] {
        bans.tick_at(NOW + minutes * MINUTE);
        assert_eq!(bans.count(), count, "after {minutes} minutes");
        assert_eq!(bans.bans.read().bans.len(), count, "after {minutes} minutes");
    }
}

#[test]
fn saved_bans_end_on_time_after_a_restart() {
    let before = bans();
    by_hand(&before, "203.0.113.0/24", 10).unwrap();
    by_hand(&before, "2001:db8::/64", None).unwrap();
    by_hand(&before, "203.0.113.7", 1).unwrap();
    guess(&before, "198.51.100.7", NOW);
    let text = serde_json::to_string(&before.save_at(NOW)).unwrap();
    let saved: SavedBans = serde_json::from_str(&text).unwrap();
    assert_eq!(saved, before.save_at(NOW));

    let after = bans();
    let start = NOW + 5 * MINUTE;
    after.restore_at(saved, start);
    assert_eq!(after.rows_at(start), before.rows_at(start));
    assert_eq!(after.count(), 3, "the one that has ended is not restored");
    assert!(has(&after, "203.0.113.7", NOW + 10 * MINUTE - 1) && !has(&after, "203.0.113.7", NOW + 10 * MINUTE));
    after.tick_at(NOW + 10 * MINUTE);
    assert_eq!(addresses(&after, NOW + 10 * MINUTE), ["2001:db8::/64"]);
    // A return is recognised also over a restart.
    guess(&after, "198.51.100.7", NOW + 10 * MINUTE);
    assert_eq!(after.end_at("198.51.100.7".parse().unwrap(), NOW + 10 * MINUTE), Some(NOW + 30 * MINUTE));
}

#[test]
fn saved_bans_that_the_settings_forbid_are_left_out() {
    let row = |address: &str, until| BanRow {
        address: address.to_owned(),
        reason: String::new(),
        by: By::Page,
        since: NOW,
        until,
    };
    let bad = ["127.0.0.1", "10.0.0.7", "node.example", "", "203.0.113.7/24"].map(|address| row(address, None));
    let good = [row("203.0.113.8", None), row("203.0.113.9", Some(u64::MAX))];
    let long = BanRow { reason: "x".repeat(MAX_REASON + 1), ..row("203.0.113.10", None) };
    let bans = bans();
    bans.restore_at(SavedBans { bans: [&bad[..], &good, &[long]].concat(), repeats: Vec::new() }, NOW);
    assert_eq!(addresses(&bans, NOW), ["203.0.113.8", "203.0.113.9"]);
    assert_eq!(bans.rows_at(NOW)[1].until, Some(MAX_END));
}

#[test]
fn a_row_is_written_as_the_api_has_it() {
    let row = by_hand(&bans(), "2001:db8::/64", 10).unwrap();
    let expected = serde_json::json!({
        "address": "2001:db8::/64", "reason": "by hand", "by": "api", "since": NOW, "until": NOW + 10 * MINUTE,
    });
    assert_eq!(serde_json::to_value(row).unwrap(), expected);
    let row = by_hand(&bans(), "203.0.113.7", None).unwrap();
    assert_eq!(serde_json::to_value(row).unwrap()["until"], serde_json::Value::Null);
}
