//! Real fronts with the configurations of deploy/, TLS ended at them, between real bot libraries and the proxy.
//!
//! Only names, ports and paths are put in place of the ones that stand there. Clients come from addresses of their own
//! on loopback. Where limits are tested they come from addresses of a network namespace, as loopback has no limits. The
//! fronts connect from 127.0.0.1. Without HAProxy, nginx, Caddy or openssl a test says that it was skipped; where CI is
//! set that is a failure.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/driver.rs"]
mod driver;
#[path = "support/front.rs"]
mod front;
#[path = "support/namespace.rs"]
mod namespace;
#[path = "support/relay.rs"]
mod relay;
mod support;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use front::{Front, Workshop};
use lavaproxy::config::Lavalink;
use lavaproxy::demo::Node;
use relay::Relay;
use serde_json::Value;
use support::{PASSWORD, Proxy, eventually};

/// A client that lies about its address.
const LIAR: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 66);
/// Where the bots are.
const BOTS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 7);

impl Front {
    /// Everything that the liar can think of, with the right password and with a wrong one.
    fn lie(&self) {
        for (password, status) in [(PASSWORD, "200"), ("wrong", "403")] {
            let answer = self.ask(
                LIAR,
                &format!(
                    "GET /v4/info HTTP/1.1\r\nHost: {}\r\nAuthorization: {password}\r\nConnection: close\r\n\
                     X-Forwarded-For: 192.0.2.66\r\nForwarded: for=192.0.2.66\r\nX-Real-IP: 192.0.2.66\r\n\
                     X-Forwarded-For: 127.0.0.1, 192.0.2.67, 127.0.0.1\r\nForwarded: for=127.0.0.1, for=192.0.2.66\r\n\r\n",
                    self.address
                ),
            );
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        }
    }

    /// A bot's whole life over https:// and wss://, by way of a relay that cuts its connections.
    fn drive(&self, environment: &str, bot: &str) {
        let relay = Relay::from(BOTS, self.address, Duration::ZERO);
        let Some(mut command) = driver::library(environment, bot, relay.address.port()) else { return };
        self.secure(&mut command);
        let driven = driver::drive(&mut command, |command| {
            // To the bot a node that is killed is one more cut.
            if matches!(command, "CUT" | "KILL") {
                relay.cut();
            }
        });
        let driver::Driven { status, steps, complaints } = driven;
        let last = steps.last().map(String::as_str);
        assert!(status.success() && last == Some("play-on"), "{bot}: {status}, steps {steps:?}\n{complaints}");
    }
}

/// Both nodes and the proxy before them, as the head of each snippet says.
struct Site {
    _nodes: [Node; 2],
    proxy: Proxy,
}

impl Site {
    fn new(proxy_protocol: &str) -> Self {
        Self::limited(proxy_protocol, &[])
    }

    /// The same with these limits.
    fn limited(proxy_protocol: &str, limits: &[(&str, &str)]) -> Self {
        let nodes = Lavalink::ALL.map(|version| Node::start(version, PASSWORD).unwrap());
        let set = [("TRUSTED_PROXIES", "127.0.0.1"), ("PROXY_PROTOCOL", proxy_protocol)];
        let proxy = Proxy::before(nodes[0].address(), nodes[1].address(), &[&set, limits].concat());
        Self { _nodes: nodes, proxy }
    }

    /// What each address used, after the check that it adds up.
    fn usage(&self) -> BTreeMap<String, Value> {
        let stats = self.proxy.stats();
        let rows = stats["usage"].as_array().unwrap();
        for name in ["active", "connections", "requests", "bytesIn", "bytesOut"] {
            let sum: u64 = rows.iter().map(|row| row[name].as_u64().unwrap()).sum();
            assert_eq!(stats["totals"][name], sum, "{name} in {stats}");
        }
        rows.iter().map(|row| (row["address"].as_str().unwrap().to_owned(), row.clone())).collect()
    }

    /// Runs a bot and the liar through a front, and checks the addresses in the ledger.
    fn goes_through(&self, front: &Front, bots: &[(&str, &str)]) {
        front.lie();
        for (environment, bot) in bots {
            front.drive(environment, bot);
        }
        front.lie();
        eventually("the tunnels are closed", || self.proxy.stats()["totals"]["websockets"] == 0);
        let usage = self.usage();
        // A front may hold a connection ready on which it never sends a request. That one is its own.
        let has_asked = |row: &&Value| row["requests"].as_u64() > Some(0);
        let addresses: Vec<_> = usage.values().filter(has_asked).map(|row| row["address"].as_str().unwrap()).collect();
        assert_eq!(addresses, [LIAR.to_string(), BOTS.to_string()].as_slice(), "{usage:?}");
        assert_eq!(usage[&LIAR.to_string()]["requests"], 4);
        let bots = &usage[&BOTS.to_string()];
        assert!(bots["requests"].as_u64() >= Some(10) && bots["bytesOut"].as_u64() > Some(1000), "{bots}");
        assert_eq!(self.proxy.ended("bad-request"), 0);
    }
}

const SHOUKAKU: (&str, &str) = ("node", "node/shoukaku.mjs");
const LAVALINK_PY: (&str, &str) = ("python/v4", "python/lavalink_bot.py");

#[test]
fn haproxy_with_a_proxy_header_of_version_2() {
    let Some(workshop) = Workshop::of("haproxy", "haproxy-v2") else { return };
    let site = Site::new("on");
    // Its own checks come as LOCAL. They leave only the front's row, which has no requests.
    let checked = [("send-proxy-v2", "send-proxy-v2 check inter 100ms")];
    let front = workshop.haproxy("haproxy.cfg", site.proxy.address(), &checked);
    eventually("HAProxy has checked three times", || site.proxy.stats()["totals"]["connections"].as_u64() > Some(2));
    assert_eq!(site.proxy.ended("bad-request"), 0);
    drop(front);
    site.proxy.wait_until_empty();
    let site = Site::new("on");
    let front = workshop.haproxy("haproxy.cfg", site.proxy.address(), &[]);
    site.goes_through(&front, &[SHOUKAKU, LAVALINK_PY]);
}

#[test]
fn haproxy_with_a_proxy_header_of_version_1() {
    let Some(workshop) = Workshop::of("haproxy", "haproxy-v1") else { return };
    let site = Site::new("on");
    let front = workshop.haproxy("haproxy.cfg", site.proxy.address(), &[("send-proxy-v2", "send-proxy")]);
    site.goes_through(&front, &[SHOUKAKU]);
}

#[test]
fn haproxy_with_a_checksum_and_more_in_its_header() {
    let Some(workshop) = Workshop::of("haproxy", "haproxy-options") else { return };
    let site = Site::new("on");
    let more = "send-proxy-v2 proxy-v2-options ssl,cert-cn,ssl-cipher,authority,crc32c,unique-id";
    let front = workshop.haproxy("haproxy.cfg", site.proxy.address(), &[("send-proxy-v2", more)]);
    front.lie();
    assert_eq!(site.usage()[&LIAR.to_string()]["requests"], 2);
}

#[test]
fn haproxy_in_http_mode() {
    let Some(workshop) = Workshop::of("haproxy", "haproxy-http") else { return };
    let site = Site::new("off");
    let front = workshop.haproxy("haproxy-http.cfg", site.proxy.address(), &[]);
    site.goes_through(&front, &[SHOUKAKU, LAVALINK_PY]);
}

#[test]
fn nginx_in_http_mode() {
    let Some(workshop) = Workshop::of("nginx", "nginx") else { return };
    let site = Site::new("off");
    let front = workshop.nginx("nginx.conf", site.proxy.address());
    site.goes_through(&front, &[SHOUKAKU, LAVALINK_PY]);
}

#[test]
fn nginx_shares_its_connections_among_clients() {
    let Some(workshop) = Workshop::of("nginx", "nginx-shared") else { return };
    let site = Site::new("off");
    let front = workshop.nginx("nginx.conf", site.proxy.address());
    let clients = [Ipv4Addr::new(127, 0, 0, 10), Ipv4Addr::new(127, 0, 0, 11)];
    let request = format!(
        "GET /v4/info HTTP/1.1\r\nHost: lava.example\r\nAuthorization: {PASSWORD}\r\nConnection: close\r\n\r\n"
    );
    for _ in 0..3 {
        for client in clients {
            assert!(front.ask(client, &request).starts_with("HTTP/1.1 200 "));
        }
    }
    let stats = site.proxy.stats();
    assert_eq!((&stats["totals"]["connections"], &stats["totals"]["active"]), (&1.into(), &1.into()), "{stats}");
    let usage = site.usage();
    let figures = clients
        .map(|client| ["requests", "active", "bytesIn"].map(|name| usage[&client.to_string()][name].as_u64().unwrap()));
    assert_eq!(figures[0][2], figures[1][2], "{figures:?}");
    assert_eq!(figures.map(|[requests, active, _]| [requests, active]), [[3, 0], [3, 1]]);
    assert_eq!(usage.len(), 2, "{usage:?}");
}

#[test]
fn nginx_with_a_proxy_header() {
    let Some(workshop) = Workshop::of("nginx", "nginx-stream") else { return };
    let site = Site::new("on");
    let front = workshop.nginx("nginx-stream.conf", site.proxy.address());
    site.goes_through(&front, &[SHOUKAKU]);
}

#[test]
fn caddy() {
    let Some(workshop) = Workshop::of("caddy", "caddy") else { return };
    let site = Site::new("off");
    let front = workshop.caddy(site.proxy.address());
    site.goes_through(&front, &[SHOUKAKU, LAVALINK_PY]);
}

/// Clients whose addresses have limits.
const GUESSER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 66);
const EAGER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 67);
const HONEST: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 7);

/// Behind a front, each limit and each ban is that of the client, and neither the front nor another client notices.
fn limits_hold_behind(front: impl Fn(SocketAddr) -> Front, proxy_protocol: &str) {
    let site = Site::limited(proxy_protocol, &[("BAN_AFTER", "3"), ("REQUEST_RATE", "1/h burst=5")]);
    let running = front(site.proxy.address());
    for _ in 0..3 {
        assert_eq!(running.get(GUESSER, "wrong").0, 403);
    }
    let (status, answer) = running.get(GUESSER, PASSWORD);
    assert!(status == 403 && answer.contains("banned"), "{answer}");
    for _ in 0..5 {
        assert_eq!(running.get(EAGER, PASSWORD).0, 200);
    }
    let (status, answer) = running.get(EAGER, PASSWORD);
    assert!(status == 429 && answer.contains("REQUEST_RATE"), "{answer}");
    assert!(answer.to_ascii_lowercase().contains("\r\nretry-after: "), "{answer}");
    for _ in 0..5 {
        assert_eq!(running.get(HONEST, PASSWORD).0, 200);
    }
    drop(running);

    let site = Site::limited(proxy_protocol, &[("MAX_CONNECTIONS_PER_ADDRESS", "1")]);
    let running = front(site.proxy.address());
    let handshake = format!(
        "GET /v4/websocket HTTP/1.1\r\nHost: {}\r\nAuthorization: {PASSWORD}\r\n{}\r\n",
        running.address,
        support::HANDSHAKE
    );
    let mut tunnel = running.send(EAGER, &handshake);
    let head = tunnel.head();
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    let (status, answer) = running.get(EAGER, PASSWORD);
    assert!(status == 429 && answer.contains("MAX_CONNECTIONS_PER_ADDRESS"), "{answer}");
    assert_eq!(running.get(HONEST, PASSWORD).0, 200);
    drop(tunnel);
    eventually("the tunnel is over", || running.get(EAGER, PASSWORD).0 == 200);
}

#[test]
fn limits_behind_haproxy_in_http_mode() {
    namespace::run(|| {
        let Some(workshop) = Workshop::of("haproxy", "haproxy-http-limits") else { return };
        limits_hold_behind(|proxy| workshop.haproxy("haproxy-http.cfg", proxy, &[]), "off");
    });
}

#[test]
fn limits_behind_haproxy_with_a_proxy_header() {
    namespace::run(|| {
        let Some(workshop) = Workshop::of("haproxy", "haproxy-limits") else { return };
        limits_hold_behind(|proxy| workshop.haproxy("haproxy.cfg", proxy, &[]), "on");
    });
}

#[test]
fn limits_behind_nginx_in_http_mode() {
    namespace::run(|| {
        let Some(workshop) = Workshop::of("nginx", "nginx-limits") else { return };
        limits_hold_behind(|proxy| workshop.nginx("nginx.conf", proxy), "off");
    });
}

#[test]
fn limits_behind_nginx_with_a_proxy_header() {
    namespace::run(|| {
        let Some(workshop) = Workshop::of("nginx", "nginx-stream-limits") else { return };
        limits_hold_behind(|proxy| workshop.nginx("nginx-stream.conf", proxy), "on");
    });
}

#[test]
fn limits_behind_caddy() {
    namespace::run(|| {
        let Some(workshop) = Workshop::of("caddy", "caddy-limits") else { return };
        limits_hold_behind(|proxy| workshop.caddy(proxy), "off");
    });
}
