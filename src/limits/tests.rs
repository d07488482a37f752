#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::{Duration, SystemTime};

use super::*;
use crate::config::{Settings, network};

type Pairs<'a> = &'a [(&'a str, &'a str)];

/// A front that the tests trust.
const TRUSTED: (&str, &str) = ("TRUSTED_PROXIES", "10.0.0.0/8,2001:db8:f::1");
/// Clients without limits of their own.
const EXEMPT: [&str; 6] = ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", "10.1.2.3", "2001:db8:f::1"];
/// Any client, and another one.
const CLIENT: &str = "203.0.113.7";
const OTHER: &str = "203.0.113.8";

fn settings(pairs: Pairs<'_>) -> Settings {
    let all = [pairs, &[TRUSTED]].concat();
    Settings::from_lookup(|name| all.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into())).unwrap()
}

fn limits(pairs: Pairs<'_>) -> Arc<Limits> {
    let settings = settings(pairs);
    Limits::new(&settings.limits, &settings.trusted_proxies, 80)
}

fn change(limits: &Limits, pairs: Pairs<'_>) {
    let settings = settings(pairs);
    limits.change(&settings.limits, &settings.trusted_proxies, 80);
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn ban(limits: &Limits, text: &str, duration: Option<Duration>) {
    limits.bans().ban(network(text).unwrap(), "a test", duration, By::Page).unwrap();
}

/// The connections of a thousand that are not refused, all kept open.
fn connects(limits: &Limits, client: &str) -> (Vec<Hold>, Option<Fault>) {
    let mut open = Vec::new();
    for _ in 0..1000 {
        match limits.connect(ip(client)) {
            Ok(hold) => open.extend(hold),
            Err(fault) => return (open, Some(fault)),
        }
    }
    (open, None)
}

#[test]
fn an_address_has_an_eighth_of_the_slots_at_most() {
    let limits = limits(&[]);
    assert_eq!(limits.connections_per_address(), Some(10));
    let (mut open, fault) = connects(&limits, CLIENT);
    assert_eq!(open.len(), 10);
    let fault = fault.unwrap();
    assert!(matches!(fault, Fault::OverLimit { limit: Limit::Connections(10), retry_after: 5 }), "{fault:?}");
    assert!(limits.connect(ip(OTHER)).is_ok(), "the other clients are not limited with it");
    open.pop();
    assert!(limits.connect(ip(CLIENT)).is_ok());
}

#[test]
fn the_number_of_connections_may_be_set_or_off() {
    let set = limits(&[("MAX_CONNECTIONS_PER_ADDRESS", "3"), ("CONNECTION_RATE", "off")]);
    assert_eq!(connects(&set, CLIENT).0.len(), 3);
    let off = limits(&[("MAX_CONNECTIONS_PER_ADDRESS", "off"), ("CONNECTION_RATE", "off")]);
    let (open, fault) = connects(&off, CLIENT);
    assert!(open.len() == 1000 && fault.is_none());
    // A limit that a reload sets counts what is open.
    change(&off, &[("MAX_CONNECTIONS_PER_ADDRESS", "1000"), ("CONNECTION_RATE", "off")]);
    assert!(off.connect(ip(CLIENT)).is_err());
    drop(open);
    assert!(off.connect(ip(CLIENT)).is_ok());
}

#[test]
fn connections_are_opened_no_faster_than_the_rate() {
    let limits = limits(&[("CONNECTION_RATE", "1/h burst=4"), ("MAX_CONNECTIONS_PER_ADDRESS", "6")]);
    let (open, fault) = connects(&limits, CLIENT);
    assert_eq!(open.len(), 4);
    let Some(Fault::OverLimit { limit: Limit::ConnectionRate, retry_after }) = fault else { panic!("{fault:?}") };
    assert!((3000..=3600).contains(&retry_after), "{retry_after}");
    let further: Vec<_> = (0..2).map(|_| limits.hold(ip(CLIENT)).unwrap()).collect();
    assert!(limits.hold(ip(CLIENT)).is_err(), "a hold alone has no rate, but counts");
    drop((open, further));
    assert!(limits.connect(ip(CLIENT)).is_err(), "closing connections gives no rate back");
}

#[test]
fn requests_come_no_faster_than_the_rate() {
    let limits = limits(&[("REQUEST_RATE", "1/h burst=3")]);
    let request = || limits.request(ip("2001:db8::1"));
    assert!((0..3).all(|_| request().is_ok()));
    let fault = request().unwrap_err();
    assert!(matches!(fault, Fault::OverLimit { limit: Limit::RequestRate, .. }), "{fault:?}");
    assert!(limits.request(ip("2001:db8::2")).is_err() && limits.request(ip(CLIENT)).is_ok());
    assert!(limits.connect(ip("2001:db8::1")).is_ok(), "the two rates are counted apart");
    change(&limits, &[]);
    assert!((0..1000).all(|_| request().is_ok()), "it is off by default");
}

#[test]
fn loopback_and_fronts_are_exempt() {
    let pairs = [
        ("MAX_CONNECTIONS_PER_ADDRESS", "1"),
        ("CONNECTION_RATE", "1/h burst=1"),
        ("REQUEST_RATE", "1/h burst=1"),
        ("BAN_AFTER", "1"),
        ("ALLOWED_ADDRESSES", "192.0.2.1"),
        ("BLOCKED_ADDRESSES", "10.0.0.0/7,2001:db8::/32"),
    ];
    let limits = limits(&pairs);
    for client in EXEMPT {
        let (open, fault) = connects(&limits, client);
        assert!(open.is_empty() && fault.is_none(), "{client}: {fault:?}");
        assert!((0..3).all(|_| matches!(limits.hold(ip(client)), Ok(None))), "{client}");
        assert!((0..3).all(|_| limits.request(ip(client)).is_ok()), "{client}");
        (0..3).for_each(|_| limits.note_wrong_password(ip(client)));
        assert!(!limits.drops(ip(client)), "{client}");
    }
    assert_eq!((limits.bans().count(), limits.dropped()), (0, 0));
    // The same holds for an address that was banned before it became a front.
    ban(&limits, CLIENT, None);
    assert!(limits.drops(ip(CLIENT)));
    let front = Settings::from_lookup(|name| (name == "TRUSTED_PROXIES").then(|| CLIENT.into())).unwrap();
    limits.change(&front.limits, &front.trusted_proxies, 80);
    assert!(!limits.drops(ip(CLIENT)) && limits.request(ip(CLIENT)).is_ok());
    assert!(limits.connect(ip("10.1.2.3")).is_ok_and(|hold| hold.is_some()), "it is no front any more");
}

#[test]
fn a_banned_peer_is_dropped_and_a_banned_client_gets_an_answer() {
    let limits = limits(&[]);
    assert!(!limits.drops(ip(CLIENT)) && limits.request(ip(CLIENT)).is_ok());
    ban(&limits, "203.0.113.0/29", Some(Duration::from_secs(3600)));
    ban(&limits, "2001:db8::/64", None);
    assert!(limits.drops(ip(CLIENT)) && limits.drops(ip("2001:db8::9")) && !limits.drops(ip("203.0.113.9")));
    let fault = limits.request(ip(CLIENT)).unwrap_err();
    let Fault::Banned { until: Some(until) } = fault else { panic!("{fault:?}") };
    let left = until.duration_since(SystemTime::now()).unwrap();
    assert!((Duration::from_secs(3000)..=Duration::from_secs(3600)).contains(&left), "{left:?}");
    assert!(matches!(limits.request(ip("2001:db8::9")), Err(Fault::Banned { until: None })));
    assert_eq!(limits.dropped(), 2);
    let reasons = limits.refusals().by_reason();
    assert_eq!((reasons.len(), reasons[0].reason, reasons[0].last_hour), (1, "rejected-banned", 2));
    assert_eq!(limits.refusals().most_refused(10).len(), 2);
    assert!(limits.bans().lift(network("203.0.113.0/29").unwrap(), By::Page));
    assert!(!limits.drops(ip(CLIENT)) && limits.request(ip(CLIENT)).is_ok());
}

#[test]
fn wrong_passwords_ban_the_client_alone() {
    let limits = limits(&[]);
    (0..19).for_each(|_| limits.note_wrong_password(ip(CLIENT)));
    assert!(!limits.drops(ip(CLIENT)));
    limits.note_wrong_password(ip(CLIENT));
    assert!(limits.drops(ip(CLIENT)) && !limits.drops(ip(OTHER)));
    assert!(matches!(limits.request(ip(CLIENT)), Err(Fault::Banned { until: Some(_) })));
    (0..20).for_each(|number| limits.note_wrong_password(ip(&format!("2001:db8::{number}"))));
    assert!(limits.drops(ip("2001:db8::ffff")), "they are in one /64");
    change(&limits, &[("BAN_AFTER", "off")]);
    (0..1000).for_each(|_| limits.note_wrong_password(ip(OTHER)));
    assert!(!limits.drops(ip(OTHER)) && limits.drops(ip(CLIENT)));
}

#[test]
fn blocked_addresses_are_refused() {
    let limits = limits(&[("BLOCKED_ADDRESSES", "203.0.113.7,2001:db8::/33")]);
    for client in [CLIENT, "::ffff:203.0.113.7", "2001:db8:7fff::1"] {
        assert!(limits.drops(ip(client)), "{client}");
        let fault = limits.request(ip(client)).unwrap_err();
        assert!(matches!(fault, Fault::NotAllowed { setting: "BLOCKED_ADDRESSES" }), "{client}: {fault:?}");
    }
    for client in [OTHER, "2001:db8:8000::1"] {
        assert!(!limits.drops(ip(client)) && limits.request(ip(client)).is_ok(), "{client}");
    }
    change(&limits, &[]);
    assert!(!limits.drops(ip(CLIENT)));
}

#[test]
fn only_allowed_addresses_are_served_if_there_are_any() {
    let limits = limits(&[("ALLOWED_ADDRESSES", "203.0.113.0/24,2001:db8::1"), ("BLOCKED_ADDRESSES", "203.0.113.8")]);
    for client in [CLIENT, "2001:db8::1"] {
        assert!(!limits.drops(ip(client)) && limits.request(ip(client)).is_ok(), "{client}");
    }
    for (client, by) in
        [("203.0.112.7", "ALLOWED_ADDRESSES"), ("2001:db8::2", "ALLOWED_ADDRESSES"), (OTHER, "BLOCKED_ADDRESSES")]
    {
        assert!(limits.drops(ip(client)), "{client}");
        let fault = limits.request(ip(client)).unwrap_err();
        assert!(matches!(fault, Fault::NotAllowed { setting } if setting == by), "{client}: {fault:?}");
    }
    // A ban of an allowed address holds.
    ban(&limits, CLIENT, None);
    assert!(limits.drops(ip(CLIENT)) && matches!(limits.request(ip(CLIENT)), Err(Fault::Banned { .. })));
}

#[test]
fn a_refusal_has_a_log_line_once_a_second() {
    let limits = limits(&[]);
    assert_eq!(limits.note_refusal(End::RejectedPassword, ip("2001:db8::1")), Some(1));
    let lines = (0..100).filter_map(|_| limits.note_refusal(End::RejectedPassword, ip("2001:db8::2"))).count();
    assert!(lines <= 10, "{lines}");
    assert_eq!(limits.refusals().most_refused(1)[0].last_hour, 101);
}

#[test]
fn a_reload_keeps_what_was_counted() {
    let pairs = [("CONNECTION_RATE", "1/h burst=4"), ("REQUEST_RATE", "1/h burst=1"), ("BAN_AFTER", "2")];
    let limits = limits(&pairs);
    let (open, _) = connects(&limits, CLIENT);
    limits.request(ip(CLIENT)).unwrap();
    limits.note_wrong_password(ip(CLIENT));
    ban(&limits, OTHER, None);
    change(&limits, &[pairs.as_slice(), &[("MAX_CONNECTIONS_PER_ADDRESS", "5")]].concat());
    assert!(open.len() == 4 && limits.connect(ip(CLIENT)).is_err() && limits.request(ip(CLIENT)).is_err());
    let fifth = limits.hold(ip(CLIENT)).unwrap();
    assert!(fifth.is_some() && limits.hold(ip(CLIENT)).is_err());
    assert!(limits.drops(ip(OTHER)) && !limits.drops(ip(CLIENT)));
    limits.note_wrong_password(ip(CLIENT));
    assert!(limits.drops(ip(CLIENT)));
}
