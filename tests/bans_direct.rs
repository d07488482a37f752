//! Bans, blocked and allowed addresses of clients that connect without a front, and the clients that neither bans nor
//! limits hold for. Each test runs in a network namespace of its own, as loopback is one of them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/direct.rs"]
mod direct;
#[path = "support/logged.rs"]
mod logged;
#[path = "support/namespace.rs"]
mod namespace;
#[path = "support/refused.rs"]
mod refused;
mod support;

use std::ffi::OsString;
use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::time::Instant;

use direct::*;
use logged::{lines, logged};
use refused::{assert_forbidden, assert_over, guess};
use support::*;

#[test]
fn an_address_is_banned_for_twenty_wrong_passwords_on_a_connection() {
    namespace::run(|| {
        let site = Site::new(&[ANY_RATE]);
        let mut kept = site.served(ONE);
        let requests = site.requests();
        let mut guesser = site.guess(ONE, 20);
        for client in [&mut guesser, &mut kept] {
            let answer = client.get("/v4/info", "");
            assert_forbidden(&answer, "banned");
            // Otherwise it could go on to send requests on connections that it has kept.
            assert!(answer.closes() && client.is_at_end(), "{}", answer.head);
        }
        for _ in 0..3 {
            assert!(site.drops(ONE));
        }
        assert_eq!(site.requests(), requests, "no request of a banned client reaches a node");
        assert_eq!((site.only_status(OTHER), site.only_status(LOOPBACK)), (Some(200), Some(200)));
    });
}

#[test]
fn an_address_is_banned_for_twenty_wrong_passwords_on_as_many_connections() {
    namespace::run(|| {
        let site = Site::new(&[ANY_RATE]);
        for number in 0..20 {
            let mut client = site.connect(ONE);
            // A handshake counts as well.
            let (fields, status) = if number % 2 == 0 { ("", 403) } else { (HANDSHAKE, 401) };
            client.send(guess(fields).as_bytes());
            assert_eq!(client.response().status, status, "{number}");
        }
        assert!(site.drops(ONE));
        assert_eq!(site.only_status(OTHER), Some(200));
    });
}

#[test]
fn nineteen_wrong_passwords_ban_nobody() {
    namespace::run(|| {
        let site = Site::new(&[ANY_RATE]);
        let mut guesser = site.guess(ONE, 19);
        // A missing password is not a guess.
        for _ in 0..30 {
            guesser.send(b"GET /v4/info HTTP/1.1\r\nHost: bot\r\n\r\n");
            assert_eq!(guesser.response().status, 401);
        }
        assert_eq!(guesser.get("/v4/info", "").status, 200);
        assert_eq!(site.only_status(ONE), Some(200));
        drop(site.guess(OTHER, 19));
        drop(site.guess(ONE, 1));
        assert_eq!((site.drops(ONE), site.drops(OTHER)), (true, false));
    });
}

#[test]
fn bans_can_be_off() {
    namespace::run(|| {
        for off in ["off", "0"] {
            let site = Site::new(&[("BAN_AFTER", off), ANY_RATE]);
            drop(site.guess(ONE, 50));
            assert_eq!(site.only_status(ONE), Some(200));
        }
    });
}

#[test]
fn blocked_addresses_are_closed_without_a_byte() {
    namespace::run(|| {
        let blocked = "203.0.113.11, 203.0.113.128/25, 2001:db8:1::/64";
        let site = Site::new(&[("BLOCKED_ADDRESSES", blocked), ("PROXY_HOST", "::")]);
        for (source, drops) in [
            (ONE, true),
            (OTHER, false),
            ("203.0.113.127".parse().unwrap(), false),
            ("203.0.113.128".parse().unwrap(), true),
            (of_first_network("1"), true),
            (of_first_network("ffff:3"), true),
            (of_second_network(), false),
            (LOOPBACK, false),
        ] {
            assert_eq!(site.drops(source), drops, "{source}");
        }
        // The close does not wait for a request.
        assert!(site.try_connect(ONE).is_none_or(|mut client| client.rest_or_error().0.is_empty()));
    });
}

#[test]
fn with_allowed_addresses_all_others_are_closed_without_a_byte() {
    namespace::run(|| {
        let set = [
            ("ALLOWED_ADDRESSES", "203.0.113.8/29, 2001:db8:2::/48"),
            ("BLOCKED_ADDRESSES", "203.0.113.12"),
            ("PROXY_HOST", "::"),
        ];
        let site = Site::new(&set);
        for (source, drops) in [
            (ONE, false),
            // Blocked among the allowed ones.
            (OTHER, true),
            ("203.0.113.16".parse().unwrap(), true),
            (of_first_network("1"), true),
            (of_second_network(), false),
            (LOOPBACK, false),
        ] {
            assert_eq!(site.drops(source), drops, "{source}");
        }
    });
}

/// The workers of the proxy listener, which have its name.
fn workers() -> usize {
    let name = |id: OsString| fs::read_to_string(Path::new("/proc/self/task").join(id).join("comm"));
    thread_ids().into_iter().filter_map(|id| name(id).ok()).filter(|name| name == "proxy\n").count()
}

#[test]
fn an_address_that_is_closed_again_and_again_keeps_no_workers() {
    namespace::run(|| {
        let site = Site::new(&[ANY_RATE, ("BLOCKED_ADDRESSES", "203.0.113.11")]);
        let crowd: Vec<_> = (0..50).map(|_| site.connect(OTHER)).collect();
        eventually("each has a worker", || workers() > 50);
        drop(crowd);
        eventually("the idle workers have left", || (0..20).all(|_| site.drops(ONE)) && workers() == 1);
        assert_eq!(site.only_status(OTHER), Some(200));
    });
}

#[test]
fn loopback_and_trusted_fronts_are_never_limited() {
    namespace::run(|| {
        let front: IpAddr = "203.0.113.99".parse().unwrap();
        let site = Site::new(&[
            ("TRUSTED_PROXIES", "203.0.113.99"),
            ("PROXY_HOST", "::"),
            ("MAX_CONNECTIONS_PER_ADDRESS", "1"),
            ("CONNECTION_RATE", "1/h burst=1"),
            ("REQUEST_RATE", "1/h burst=1"),
            ("BAN_AFTER", "1"),
            ("ALLOWED_ADDRESSES", "203.0.113.11"),
            ("BLOCKED_ADDRESSES", "203.0.113.12"),
        ]);
        let sources = [LOOPBACK, "127.0.0.1".parse().unwrap(), "::1".parse().unwrap(), front];
        for source in sources {
            drop(site.guess(source, 5));
            let mut held: Vec<_> = (0..5).map(|_| site.served(source)).collect();
            assert!(held.iter_mut().all(|client| client.get("/v4/info", "").status == 200), "{source}");
        }
        // The limits hold for everybody else.
        let mut kept = site.served(ONE);
        assert_over(&kept.get("/v4/info", ""), "REQUEST_RATE");
        assert!(site.drops(OTHER));
    });
}

#[test]
fn only_a_trusted_front_names_the_client_that_is_limited() {
    namespace::run(|| {
        let site = Site::new(&[("REQUEST_RATE", "1/h burst=3"), ("BAN_AFTER", "2"), ANY_RATE]);
        let mut liar = site.connect(ONE);
        for number in 0..3 {
            let claim = format!("X-Forwarded-For: 203.0.113.12\r\nForwarded: for=203.0.113.{number}\r\n");
            assert_eq!(liar.get("/v4/info", &claim).status, 200);
        }
        assert_over(&liar.get("/v4/info", "X-Forwarded-For: 203.0.113.77\r\n"), "REQUEST_RATE");
        assert_eq!(site.only_status(OTHER), Some(200));
        // The peer that guesses is banned, not the address that it names.
        let other = of_first_network("1");
        let site = Site::new(&[("PROXY_HOST", "::"), ("BAN_AFTER", "2"), ANY_RATE]);
        let mut liar = site.connect(other);
        for _ in 0..2 {
            liar.send(guess("X-Forwarded-For: 203.0.113.12\r\n").as_bytes());
            assert_eq!(liar.response().status, 403);
        }
        assert_eq!((site.drops(other), site.drops(OTHER)), (true, false));
    });
}

#[test]
fn a_front_is_served_from_the_moment_that_it_is_trusted() {
    namespace::run(|| {
        let site = Site::new(&[("BAN_AFTER", "3"), ANY_RATE]);
        drop(site.guess(ONE, 3));
        assert!(site.drops(ONE));
        let port = site.backend.address.port().to_string();
        let nodes = [("LAVALINK_V3_PORT", port.as_str()), ("LAVALINK_V4_PORT", port.as_str()), ANY_RATE];
        let trusted = [&nodes[..], &[("TRUSTED_PROXIES", "203.0.113.11"), ("BAN_AFTER", "3")]].concat();
        site.proxy.server.reload(&settings(&trusted)).unwrap();
        assert_eq!(site.only_status(ONE), Some(200));
    });
}

#[test]
fn a_ban_and_its_refusals_are_logged() {
    namespace::run(|| {
        logged(&[]);
        let site = Site::new(&[ANY_RATE]);
        let begun = Instant::now();
        drop(site.guess(ONE, 20));
        let mut dropped = 0;
        eventually("a dropped connection is logged", || {
            assert!(site.drops(ONE));
            dropped += 1;
            dropped >= 100 && logged(&["event=dropped ", "address=203.0.113.11 ", "count="]) > 0
        });
        let seconds = begun.elapsed().as_secs() as usize;
        let ban = ["event=ban ", "address=203.0.113.11 ", "until=", "reason=", "by=rule"];
        assert_eq!((logged(&["event=ban "]), logged(&ban)), (1, 1), "{:?}", lines());
        // At most one a second, whatever was refused.
        let refusals = logged(&["event=refused"]) + logged(&["event=dropped"]);
        assert!(refusals <= seconds + 2, "{refusals} lines in {seconds} s");
    });
}
