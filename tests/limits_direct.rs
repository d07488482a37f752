//! Limits of clients that connect without a front: connections, their rate, requests. Each test runs in a network
//! namespace of its own, as loopback has no limits.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/attack.rs"]
mod attack;
#[path = "support/direct.rs"]
mod direct;
#[path = "support/logged.rs"]
mod logged;
#[path = "support/namespace.rs"]
mod namespace;
#[path = "support/refused.rs"]
mod refused;
mod support;
#[path = "support/web.rs"]
mod web;

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use attack::while_under_fire;
use direct::*;
use logged::logged;
use refused::{assert_forbidden, assert_over, guess, last_status, request};
use support::*;

#[test]
fn an_address_has_so_many_connections() {
    namespace::run(|| {
        let site = Site::new(&[("MAX_CONNECTIONS_PER_ADDRESS", "3"), ANY_RATE]);
        let mut held: Vec<_> = (0..3).map(|_| site.served(ONE)).collect();
        for _ in 0..3 {
            let answer = site.first_answer(ONE);
            assert_over(&answer, "MAX_CONNECTIONS_PER_ADDRESS");
            assert!(answer.closes() && answer.json()["message"].to_string().contains('3'), "{}", answer.text());
        }
        let _others: Vec<_> = [OTHER, LOOPBACK, OTHER].map(|source| site.served(source)).into();
        assert!(held.iter_mut().all(|client| client.get("/v4/info", "").status == 200));
        assert_eq!(site.proxy.ended("rejected-connections"), 3);
        held.pop();
        eventually("there is room for one", || site.only_status(ONE) == Some(200));
    });
}

#[test]
fn a_connection_counts_before_its_first_request() {
    namespace::run(|| {
        let site = Site::new(&[("MAX_CONNECTIONS_PER_ADDRESS", "2"), ANY_RATE]);
        let mut half_open = [site.connect(ONE), site.connect(ONE)];
        half_open[0].send(b"GET /v4/info HTT");
        eventually("both are counted", || site.only_status(ONE) == Some(429));
        assert_eq!(site.only_status(OTHER), Some(200));
    });
}

#[test]
fn the_default_is_an_eighth_of_the_total() {
    namespace::run(|| {
        let site = Site::new(&[("MAX_CONNECTIONS", "16"), ANY_RATE]);
        let _held = [site.served(ONE), site.served(ONE)];
        assert_over(&site.first_answer(ONE), "MAX_CONNECTIONS_PER_ADDRESS");
        assert_eq!(site.only_status(OTHER), Some(200));
    });
}

#[test]
fn the_limit_of_connections_can_be_off() {
    namespace::run(|| {
        let site = Site::new(&[("MAX_CONNECTIONS", "16"), ("MAX_CONNECTIONS_PER_ADDRESS", "off"), ANY_RATE]);
        let _held: Vec<_> = (0..16).map(|_| site.served(ONE)).collect();
    });
}

#[test]
fn an_ipv6_network_of_64_bits_counts_as_one_address() {
    namespace::run(|| {
        let set = [("PROXY_HOST", "::"), ("MAX_CONNECTIONS_PER_ADDRESS", "2"), ("BAN_AFTER", "4"), ANY_RATE];
        let site = Site::new(&set);
        let _held = [site.served(of_first_network("1")), site.served(of_first_network("2"))];
        for last in ["1", "ffff:3"] {
            assert_over(&site.first_answer(of_first_network(last)), "MAX_CONNECTIONS_PER_ADDRESS");
        }
        // An IPv4 client of an IPv6 socket counts as an IPv4 client.
        let _others = [site.served(of_second_network()), site.served(ONE), site.served(OTHER), site.served(OTHER)];
        assert_over(&site.first_answer(OTHER), "MAX_CONNECTIONS_PER_ADDRESS");
        drop((_held, _others));
        site.proxy.wait_until_empty();

        drop(site.guess(of_first_network("1"), 4));
        drop(site.guess(ONE, 4));
        for (source, drops) in [
            (of_first_network("1"), true),
            (of_first_network("ffff:3"), true),
            (of_second_network(), false),
            (ONE, true),
            (OTHER, false),
            (LOOPBACK, false),
            ("::1".parse().unwrap(), false),
        ] {
            assert_eq!(site.drops(source), drops, "{source}");
        }
    });
}

#[test]
fn a_connection_that_ended_counts_no_more() {
    type Ending = fn(Client);
    const ENDINGS: [(&str, Ending); 7] = [
        ("closed", drop::<Client>),
        ("reset", |client| client.reset()),
        ("half-closed", |mut client| {
            client.half_close();
            assert!(client.is_at_end());
        }),
        ("closed after its last answer", |mut client| {
            assert!(client.get("/v4/info", "Connection: close\r\n").closes());
            assert!(client.is_at_end());
        }),
        ("refused for its syntax", |mut client| assert_eq!(client.send(b"GET\r\n\r\n").response().status, 400)),
        ("reset within a head", |mut client| {
            client.send(b"GET /v4/info HTTP/1.1\r\nHost: ");
            client.reset();
        }),
        ("closed within a body", |mut client| {
            client.send(b"POST /v4/x HTTP/1.1\r\nHost: bot\r\nAuthorization: DevamOP\r\nContent-Length: 9\r\n\r\n123");
        }),
    ];
    namespace::run(|| {
        let site = Site::new(&[("MAX_CONNECTIONS_PER_ADDRESS", "1"), ANY_RATE]);
        for (how, end) in ENDINGS {
            let client = site.served_at_last(ONE);
            assert_eq!(site.only_status(ONE), Some(429), "{how}");
            end(client);
            eventually(how, || site.only_status(ONE) == Some(200));
        }
    });
}

#[test]
fn a_tunnel_counts_until_it_ended() {
    type Ending = fn(Client, Client);
    const ENDINGS: [(&str, Ending); 5] = [
        ("closed by the client", |client, _| drop(client)),
        ("reset by the client", |client, _| client.reset()),
        ("closed by the node", |_, node| drop(node)),
        ("reset by the node", |_, node| node.reset()),
        ("half-closed by both", |mut client, mut node| {
            client.half_close();
            assert!(node.is_at_end());
            node.half_close();
            assert!(client.is_at_end());
        }),
    ];
    namespace::run(|| {
        let (hand_over, ends) = mpsc::channel();
        let hand_over = Mutex::new(hand_over);
        let node = Backend::start(move |mut client, _| {
            while let Some(request) = client.next_request() {
                if find(&request, b"Upgrade: websocket").is_some() {
                    client.send(SWITCHING);
                    return hand_over.lock().unwrap().send(client).unwrap();
                }
                client.send(OK);
            }
        });
        let site = Site::before(node, &[("MAX_CONNECTIONS_PER_ADDRESS", "1"), ANY_RATE]);
        for (how, end) in ENDINGS {
            let mut client = site.served_at_last(ONE);
            assert_eq!(client.upgrade("/v4/websocket").status, 101, "{how}");
            let mut node = ends.recv_timeout(PATIENCE).unwrap();
            client.send(b"ping");
            assert_eq!(node.exactly(4), b"ping");
            assert_eq!(site.only_status(ONE), Some(429), "{how}");
            end(client, node);
            eventually(how, || site.only_status(ONE) == Some(200));
        }
    });
}

#[test]
fn an_address_connects_only_so_often() {
    namespace::run(|| {
        let site = Site::new(&[("CONNECTION_RATE", "1/h burst=5")]);
        for _ in 0..5 {
            drop(site.served(ONE));
        }
        let answer = site.first_answer(ONE);
        let retry_after = assert_over(&answer, "CONNECTION_RATE");
        assert!(answer.closes() && retry_after <= Duration::from_secs(3600), "{retry_after:?}");
        // A connection that stands is not affected by the limit of new ones.
        let mut kept = site.served(OTHER);
        for _ in 1..5 {
            drop(site.served(OTHER));
        }
        assert_over(&site.first_answer(OTHER), "CONNECTION_RATE");
        assert!((0..20).all(|_| kept.get("/v4/info", "").status == 200));
        assert_eq!(site.proxy.ended("rejected-connection-rate"), 2);
    });
}

#[test]
fn an_address_may_connect_again_after_the_time_that_it_was_given() {
    namespace::run(|| {
        let site = Site::new(&[("CONNECTION_RATE", "30/m burst=1")]);
        drop(site.served(ONE));
        let retry_after = assert_over(&site.first_answer(ONE), "CONNECTION_RATE");
        assert!(retry_after <= Duration::from_secs(2), "{retry_after:?}");
        thread::sleep(retry_after);
        drop(site.served(ONE));
    });
}

#[test]
fn under_a_flood_refusals_may_lack_an_answer_and_nobody_else_waits() {
    const FLOOD: usize = 400;
    namespace::run(|| {
        let site = Site::new(&[("CONNECTION_RATE", "1/h burst=5")]);
        for _ in 0..5 {
            drop(site.served(ONE));
        }
        let mut flood = Vec::new();
        for number in 0..FLOOD {
            if let Some(mut client) = site.try_connect(ONE) {
                let _ = client.try_send(request("").as_bytes());
                flood.push(client);
            }
            if number % 100 == 0 {
                assert_eq!(site.only_status(OTHER), Some(200));
            }
        }
        let statuses: Vec<_> = flood.iter_mut().map(|client| last_status(client, "")).collect();
        let answered = statuses.iter().flatten().count();
        assert!(answered > 0 && statuses.iter().flatten().all(|status| *status == 429), "{statuses:?}");
        drop(flood);
        site.proxy.wait_until_empty();
        assert_eq!(site.only_status(OTHER), Some(200));
    });
}

#[test]
fn an_address_has_so_many_requests() {
    namespace::run(|| {
        let site = Site::new(&[("REQUEST_RATE", "1/h burst=4"), ANY_RATE]);
        let mut first = site.served(ONE);
        let mut second = site.served(ONE);
        assert_eq!(first.request("PATCH", "/v4/x", "Content-Length: 2\r\n", b"{}").status, 200);
        assert_eq!(second.get("/v4/info", "").status, 200);
        for client in [&mut first, &mut second] {
            // The connection goes on, also after a request with a body.
            for _ in 0..3 {
                let answer = client.request("PATCH", "/v4/x", "Content-Length: 2\r\n", b"{}");
                assert!(assert_over(&answer, "REQUEST_RATE") <= Duration::from_secs(3600));
                assert!(!answer.closes(), "{}", answer.head);
            }
            assert_over(&client.upgrade("/v4/websocket"), "REQUEST_RATE");
        }
        assert_over(&site.first_answer(ONE), "REQUEST_RATE");
        assert_eq!(site.requests(), 4, "no refused request reaches a node");
        let mut other = site.connect(OTHER);
        assert_eq!(other.upgrade("/v4/websocket").status, 101);
        other.send(b"ping");
        assert_eq!(other.exactly(4), b"ping");
        drop((first, second, other));
        site.proxy.wait_until_empty();
    });
}

#[test]
fn refused_connections_are_logged_at_most_once_a_second() {
    namespace::run(|| {
        logged(&[]);
        let site = Site::new(&[("CONNECTION_RATE", "1/h burst=1")]);
        assert_eq!(site.only_status(ONE), Some(200));
        let begun = Instant::now();
        for _ in 0..100 {
            assert_eq!(site.only_status(ONE), Some(429));
        }
        site.proxy.wait_until_empty();
        let seconds = begun.elapsed().as_secs() as usize;
        let count = logged(&["203.0.113.11", "rejected-connection-rate"]);
        assert!((1..=seconds + 2).contains(&count), "{count} lines in {seconds} s");
        assert_eq!(site.proxy.ended("rejected-connection-rate"), 100);
    });
}

#[test]
fn requests_that_are_sent_at_once_are_answered_in_their_order() {
    namespace::run(|| {
        let site = Site::new(&[("REQUEST_RATE", "1/h burst=4"), ANY_RATE]);
        let mut client = site.connect(ONE);
        client.send(request("").repeat(7).as_bytes());
        let statuses: Vec<_> = (0..7).map(|_| client.response().status).collect();
        assert_eq!(statuses, [200, 200, 200, 200, 429, 429, 429]);
        client.send(b"HEAD /v4/info HTTP/1.1\r\nHost: bot\r\nAuthorization: DevamOP\r\n\r\n");
        let answer = client.response_to("HEAD");
        assert!(answer.status == 429 && answer.field("retry-after").is_some(), "{}", answer.head);
        assert_over(&client.get("/v4/info", ""), "REQUEST_RATE");
    });
}

#[test]
fn there_are_so_many_connections_in_all() {
    namespace::run(|| {
        logged(&[]);
        let set = [("MAX_CONNECTIONS", "4"), ("MAX_CONNECTIONS_PER_ADDRESS", "off"), ANY_RATE];
        let site = Site::new(&set);
        let mut held: Vec<_> = [ONE, OTHER, ONE, LOOPBACK].map(|source| site.served(source)).into();
        for source in [OTHER, LOOPBACK] {
            let answer = site.first_answer(source);
            assert_over(&answer, "MAX_CONNECTIONS");
            assert!(!answer.text().contains("PER_ADDRESS"), "{}", answer.text());
        }
        held.pop();
        eventually("there is room for one", || site.only_status(OTHER) == Some(200));
        eventually("a refusal is logged", || logged(&["event=refused", "reason=rejected-limit"]) > 0);
    });
}

#[test]
fn a_reload_changes_the_limits_of_connections_that_stand() {
    namespace::run(|| {
        let site = Site::new(&[("MAX_CONNECTIONS_PER_ADDRESS", "2"), ANY_RATE]);
        let port = site.backend.address.port().to_string();
        let reload = |set: &[(&str, &str)]| {
            let nodes = [("LAVALINK_V3_PORT", port.as_str()), ("LAVALINK_V4_PORT", port.as_str()), ANY_RATE];
            site.proxy.server.reload(&settings(&[&nodes, set].concat())).unwrap();
        };
        let mut held = vec![site.served(ONE), site.served(ONE)];
        assert_eq!(site.only_status(ONE), Some(429));
        reload(&[("MAX_CONNECTIONS_PER_ADDRESS", "3")]);
        held.push(site.served(ONE));
        assert_eq!(site.only_status(ONE), Some(429), "what stood before the reload counts");
        reload(&[("MAX_CONNECTIONS_PER_ADDRESS", "3"), ("REQUEST_RATE", "1/h burst=1")]);
        assert_eq!(held[0].get("/v4/info", "").status, 200);
        assert_over(&held[0].get("/v4/info", ""), "REQUEST_RATE");
        reload(&[("BLOCKED_ADDRESSES", "203.0.113.11")]);
        assert_forbidden(&held[1].get("/v4/info", ""), "BLOCKED_ADDRESSES");
        assert!(site.drops(ONE) && !site.drops(OTHER));
        reload(&[("ALLOWED_ADDRESSES", "203.0.113.12")]);
        assert_forbidden(&held[2].get("/v4/info", ""), "ALLOWED_ADDRESSES");
        assert!(site.drops(ONE) && !site.drops(OTHER));
        reload(&[]);
        assert_eq!(site.only_status(ONE), Some(200));
    });
}

/// What one address can do to a listener, again and again; each kind of attack from an address of its own.
fn attack_as(kind: u8, site: &Site, over: &AtomicBool) {
    let mut held = VecDeque::new();
    while !over.load(SeqCst) {
        let Some(mut client) = site.try_connect(attacker(kind)) else { continue };
        match kind {
            0 => client.reset(),
            1 => {
                let _ = client.try_send(b"GET /v4/info HTTP/1.1\r\nHost:");
                held.push_back(client);
                if held.len() > 50 {
                    held.pop_front().unwrap().reset();
                }
            }
            // It does not wait for its answer.
            GUESSER => {
                let _ = client.try_send(guess("").as_bytes());
                client.reset();
            }
            _ => drop(last_status(&mut client, &request("Connection: close\r\n"))),
        }
    }
}

const GUESSER: u8 = 2;

fn attacker(kind: u8) -> IpAddr {
    IpAddr::from([203, 0, 113, 20 + kind])
}

#[test]
fn an_attack_from_a_few_addresses_costs_others_nothing() {
    namespace::run(|| {
        // Four attackers take half of the slots at most.
        let site = Site::new(&[("MAX_CONNECTIONS", "128"), ("BAN_AFTER", "20")]);
        let only_the_tunnel = || site.proxy.server.ledger().snapshot().totals.active == 1;
        let mut tunnel = site.connect(OTHER);
        assert_eq!(tunnel.upgrade("/v4/websocket").status, 101);
        assert_eq!(site.only_status(OTHER), Some(200));
        eventually("the tunnel is left", only_the_tunnel);
        let before = descriptors();
        /// Both ends of idle connections to the node, one for each of the attackers' and the client's connections.
        const IDLE: usize = 2 * 128;
        let attack = |number: usize, over: &AtomicBool| attack_as(number as u8, &site, over);
        while_under_fire(4, attack, || {
            for number in 0..50 {
                let answer = site.connect(OTHER).get("/v4/info", "Connection: close\r\n");
                assert_eq!(answer.status, 200, "{number}: {}", answer.text());
                tunnel.send(b"ping");
                assert_eq!(tunnel.exactly(4), b"ping");
            }
            eventually("wrong passwords have banned the guesser", || site.drops(attacker(GUESSER)));
        });
        eventually("the tunnel is left", only_the_tunnel);
        eventually("what was held is given back", || descriptors() <= before + IDLE);
    });
}
