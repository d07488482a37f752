//! /metrics: what it says and how it is written.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;
#[path = "support/web.rs"]
mod web;

use std::collections::BTreeMap;

use lavaproxy::config::Lavalink;
use lavaproxy::demo::Node;
use lavaproxy::error::End;
use support::*;
use web::{ask, get};

type Labels = BTreeMap<String, String>;

/// The samples of one scrape, by name and labels.
struct Scrape(Vec<(String, Labels, f64)>);

impl Scrape {
    fn of(proxy: &Proxy) -> Self {
        let answer = get(proxy, "/metrics");
        assert_eq!(answer.status, 200);
        assert_eq!(answer.field("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
        Self::parse(&answer.text())
    }

    fn parse(text: &str) -> Self {
        assert!(text.ends_with('\n'));
        let samples = text.lines().filter(|line| !line.starts_with('#')).map(|line| {
            let (series, value) = line.rsplit_once(' ').unwrap();
            let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
            let labels = labels.strip_suffix('}').unwrap();
            let labels = labels.split_terminator(',').map(|label| {
                let (label, text) = label.split_once('=').unwrap();
                (label.to_owned(), text.strip_prefix('"').unwrap().strip_suffix('"').unwrap().to_owned())
            });
            (name.to_owned(), labels.collect(), value.parse().unwrap())
        });
        Self(samples.collect())
    }

    fn family(&self, name: &str) -> impl Iterator<Item = &(String, Labels, f64)> {
        self.0.iter().filter(move |(sample, ..)| sample == name)
    }

    /// The one sample of this name whose labels hold all of these.
    fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let fits = |own: &Labels| labels.iter().all(|(label, text)| own.get(*label).is_some_and(|own| own == text));
        let found: Vec<_> = self.family(name).filter(|(_, own, _)| fits(own)).collect();
        assert_eq!(found.len(), 1, "{name} {labels:?}");
        found[0].2
    }

    fn sum(&self, name: &str) -> f64 {
        self.family(name).map(|(.., value)| value).sum()
    }
}

fn before_nodes(set: &[(&str, &str)]) -> (Proxy, Node, Node) {
    let [v3, v4] = Lavalink::ALL.map(|version| Node::start(version, PASSWORD).unwrap());
    (Proxy::before(v3.address(), v4.address(), set), v3, v4)
}

#[test]
fn every_family_is_described_and_every_label_is_bounded() {
    let (proxy, _v3, _v4) = before_nodes(&[("PROXY_V3_PORT", "0")]);
    let mut bot = proxy.connect();
    bot.upgrade("/v4/websocket");
    let text = get(&proxy, "/metrics").text();
    let scrape = Scrape::parse(&text);
    assert!(!text.contains(&bot.stream.local_addr().unwrap().to_string()));
    for (name, labels, value) in &scrape.0 {
        let family = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix)).unwrap_or(name);
        for line in [format!("# HELP {family} "), format!("# TYPE {family} ")] {
            assert_eq!(text.lines().filter(|text| text.starts_with(&line)).count(), 1, "{line}");
        }
        let is_counter = text.contains(&format!("# TYPE {family} counter\n"));
        assert_eq!(is_counter, name.ends_with("_total"), "{name}");
        assert!(value.is_finite() && *value >= 0.0, "{name} {value}");
        for (label, text) in labels {
            let bounded = match label.as_str() {
                "version" if name == "lavaproxy_build_info" => text == env!("CARGO_PKG_VERSION"),
                "version" => ["none", "v3", "v4"].contains(&text.as_str()),
                "kind" => ["http", "websocket"].contains(&text.as_str()),
                "listener" => lavaproxy::process::sockets::LISTENERS.contains(&text.as_str()),
                "reason" => End::ALL.iter().any(|end| end.name() == text),
                "node" => ["v3", "v4"].contains(&text.as_str()),
                "account" => text == "default",
                "result" => ["ok", "failed", "over", "refused"].contains(&text.as_str()),
                "le" => text == "+Inf" || text.parse::<f64>().is_ok(),
                _ => false,
            };
            assert!(bounded, "{name} {label}={text:?}");
        }
    }
    for name in ["lavaproxy_connections_ended_total", "lavaproxy_refusals_total"] {
        assert_eq!(scrape.family(name).count(), End::ALL.len(), "{name}: every reason, from the start");
    }
    for name in [
        "lavaproxy_bans",
        "lavaproxy_dropped_connections_total",
        "process_cpu_seconds_total",
        "process_resident_memory_bytes",
        "process_virtual_memory_bytes",
        "process_open_fds",
        "process_max_fds",
        "process_threads",
        "process_start_time_seconds",
    ] {
        scrape.value(name, &[]);
    }
    assert_eq!(scrape.value("lavaproxy_build_info", &[]), 1.0);
    assert_eq!(scrape.value("lavaproxy_connections", &[("version", "v4"), ("kind", "websocket")]), 1.0);
    assert_eq!(scrape.sum("lavaproxy_connections"), 1.0);
    assert_eq!(scrape.value("lavaproxy_connections_total", &[("listener", "proxy")]), 1.0);
    assert_eq!(scrape.value("lavaproxy_connections_total", &[("listener", "proxy-v3")]), 0.0);
    assert!(scrape.value("lavaproxy_connections_total", &[("listener", "web")]) >= 1.0);
    for node in ["v3", "v4"] {
        for (name, value) in [("up", 1.0), ("draining", 0.0), ("sessions", if node == "v4" { 1.0 } else { 0.0 })] {
            assert_eq!(scrape.value(&format!("lavaproxy_node_{name}"), &[("node", node)]), value, "{node} {name}");
        }
        for name in ["requests", "loads_retried_total", "connect_failures_total"] {
            assert_eq!(scrape.value(&format!("lavaproxy_node_{name}"), &[("node", node)]), 0.0, "{node} {name}");
        }
        for (name, results) in [
            ("takeovers", &["ok", "failed", "over"][..]),
            ("moves", &["ok", "failed"]),
            ("players_moved", &["ok", "refused"]),
        ] {
            for result in results {
                let labels = [("node", node), ("result", result)];
                assert_eq!(scrape.value(&format!("lavaproxy_{name}_total"), &labels), 0.0, "{node} {name} {result}");
            }
        }
        assert_eq!(scrape.value("lavaproxy_takeover_duration_seconds_count", &[("node", node)]), 0.0);
        let of =
            |name: &str| scrape.value(&format!("lavaproxy_node_connect_duration_seconds_{name}"), &[("node", node)]);
        let buckets: Vec<f64> = scrape
            .family("lavaproxy_node_connect_duration_seconds_bucket")
            .filter(|(_, labels, _)| labels["node"] == node)
            .map(|(.., value)| *value)
            .collect();
        assert!(buckets.is_sorted() && buckets.last() == Some(&of("count")) && of("count") >= 1.0, "{buckets:?}");
        assert!(of("sum") > 0.0);
    }
}

#[test]
fn each_node_has_its_samples() {
    let nodes = ["eu1", "us-east-1"].map(|name| Node::start_named(name, Lavalink::V4, PASSWORD).unwrap());
    let list = nodes.iter().map(|node| format!("{}={}", node.name(), node.address())).collect::<Vec<_>>().join(",");
    let proxy = Proxy::start(&[("LAVALINK_V4_NODES", &list), ("LAVALINK_V4_PORT", ""), ("LAVALINK_V3_HOST", "")]);
    let of = |name: &str, node: &str| Scrape::of(&proxy).value(&format!("lavaproxy_node_{name}"), &[("node", node)]);
    assert_eq!((of("up", "eu1"), of("up", "us-east-1")), (1.0, 1.0));
    assert_eq!(ask(&proxy, "POST", "/api/nodes/eu1/drain", "").status, 200);
    assert_eq!((of("draining", "eu1"), of("draining", "us-east-1")), (1.0, 0.0));
    assert_eq!(of("up", "eu1"), 1.0, "a node that drains is up");
    let mut bots: Vec<Client> = (0..3).map(|_| proxy.connect()).collect();
    for bot in &mut bots {
        assert_eq!(bot.upgrade("/v4/websocket").status, 101);
    }
    eventually("the sessions are counted", || of("sessions", "us-east-1") == 3.0);
    assert_eq!(of("sessions", "eu1"), 0.0, "no new sessions go to it");
    drop(bots);
    eventually("the sessions have ended", || of("sessions", "us-east-1") == 0.0);
    assert_eq!(ask(&proxy, "POST", "/api/nodes/eu1/activate", "").status, 200);
    assert_eq!(of("draining", "eu1"), 0.0);
}

#[test]
fn counters_follow_the_traffic_by_version_and_never_go_back() {
    let (proxy, _v3, _v4) = before_nodes(&[]);
    let names = ["lavaproxy_requests_total", "lavaproxy_received_bytes_total", "lavaproxy_sent_bytes_total"];
    let mut last = Scrape::of(&proxy);
    let mut bot = proxy.connect();
    for target in ["/v3/info", "/v4/info", "/v4/stats", "/v3/stats", "/v4/info"] {
        assert_eq!(bot.get(target, "").status, 200);
        let now = Scrape::of(&proxy);
        for (name, labels, value) in last.0.iter().filter(|(name, ..)| name.ends_with("_total")) {
            let labels: Vec<_> = labels.iter().map(|(label, text)| (label.as_str(), text.as_str())).collect();
            assert!(now.value(name, &labels) >= *value, "{name} {labels:?}");
        }
        last = now;
    }
    let check = |when: &str, sent: u64, received: u64| {
        let scrape = Scrape::of(&proxy);
        assert_eq!(scrape.value(names[0], &[("version", "v3")]), 2.0, "{when}");
        assert_eq!(scrape.value(names[0], &[("version", "v4")]), 3.0, "{when}");
        assert_eq!((scrape.sum(names[1]), scrape.sum(names[2])), (sent as f64, received as f64), "{when}");
        for name in &names[1..] {
            assert!(scrape.value(name, &[("version", "v3")]) > 0.0 && scrape.value(name, &[("version", "v4")]) > 0.0);
            assert_eq!(scrape.value(name, &[("version", "none")]), 0.0);
        }
        scrape
    };
    let (sent, received) = (bot.sent, bot.received);
    eventually("the last answer is counted", || Scrape::of(&proxy).sum(names[2]) == received as f64);
    check("live", sent, received);
    drop(bot);
    proxy.wait_until_empty();
    let scrape = check("ended", sent, received);
    assert_eq!(scrape.value("lavaproxy_connections_ended_total", &[("reason", "client-closed")]), 1.0);

    let mut refused = proxy.connect();
    for _ in 0..3 {
        refused.send(b"GET /v4/info HTTP/1.1\r\nHost: x\r\nAuthorization: wrong\r\n\r\n");
        assert_eq!(refused.response().status, 403);
    }
    let scrape = Scrape::of(&proxy);
    assert_eq!(scrape.value("lavaproxy_refusals_total", &[("reason", "rejected-password")]), 3.0);
    assert_eq!(scrape.value(names[0], &[("version", "none")]), 3.0, "they were never routed");
    assert_eq!(refused.get("/v4/info", "").status, 200);
    let scrape = Scrape::of(&proxy);
    assert_eq!(scrape.value(names[0], &[("version", "none")]), 3.0, "they stay with none");
    assert_eq!(scrape.value(names[0], &[("version", "v4")]), 4.0);
}
