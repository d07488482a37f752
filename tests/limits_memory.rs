//! The memory of the limits and bans while more addresses come than the tables have rows. It is the resident memory of
//! this process, so this file has one test only.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use lavaproxy::config::{Settings, network};
use lavaproxy::error::End;
use lavaproxy::limits::{By, Limits};

/// Half of them IPv4, half IPv6.
const ADDRESSES: u32 = 1_000_000;
/// The most bans by hand that leave room for one by the rule.
const BANS: u32 = 19_999;
/// What README.md states, in KiB.
const MOST: u64 = 16 * 1024;

/// The resident memory of this process, in KiB.
fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

fn limits() -> std::sync::Arc<Limits> {
    let set = [("CONNECTION_RATE", "1/m burst=1"), ("REQUEST_RATE", "1/m burst=1"), ("BAN_AFTER", "3")];
    let value = |name: &str| set.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into());
    let settings = Settings::from_lookup(value).unwrap();
    Limits::new(&settings.limits, &settings.trusted_proxies, 8000)
}

/// Everything that an address can leave a trace with.
fn come(limits: &Limits, client: IpAddr) {
    assert!(!limits.drops(client), "{client}");
    limits.connect(client).unwrap();
    limits.request(client).unwrap();
    limits.note_wrong_password(client);
    limits.note_refusal(End::RejectedPassword, client);
}

#[test]
fn a_million_addresses_stay_within_the_memory_and_lift_no_ban() {
    let before = resident();
    let limits = limits();
    let banned = |number: u32| IpAddr::from(Ipv4Addr::from_bits(0xC600_0000 + number));
    for number in 0..BANS {
        let network = network(&banned(number).to_string()).unwrap();
        limits.bans().ban(network, "a reason of the usual length, in words", None, By::Api).unwrap();
    }
    let guesser = "2001:db8::7".parse().unwrap();
    (0..3).for_each(|_| limits.note_wrong_password(guesser));
    let with_bans = resident();

    let mut largest = with_bans;
    for number in 0..ADDRESSES / 2 {
        come(&limits, Ipv4Addr::from_bits(0x1400_0000 + number).into());
        come(&limits, Ipv6Addr::from_bits(0x2600 << 112 | u128::from(number) << 64 | 1).into());
        if number % 50_000 == 0 {
            largest = largest.max(resident());
        }
    }
    largest = largest.max(resident());
    println!("before {before} KiB, with {} bans {with_bans} KiB, at most {largest} KiB", BANS + 1);
    assert!(largest - before <= MOST, "{} KiB", largest - before);

    let rows = limits.bans().rows();
    assert_eq!(rows.len(), BANS as usize + 1);
    assert!((0..BANS).all(|number| limits.drops(banned(number))));
    assert!(limits.drops(guesser));
}
