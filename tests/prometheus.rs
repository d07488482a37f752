//! /metrics as promtool judges it, and as a real Prometheus scrapes it with a password. Without them each is skipped.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/prometheus.rs"]
mod prometheus;
mod support;
#[path = "support/web.rs"]
mod web;

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

use lavaproxy::config::Lavalink;
use lavaproxy::demo::Node;
use lavaproxy::error::End;
use prometheus::{Daemon, Prometheus};
use support::*;
use web::{BASIC, WEB_PASSWORD, ask, get};

fn before_nodes(set: &[(&str, &str)]) -> (Proxy, Node, Node) {
    let [v3, v4] = Lavalink::ALL.map(|version| Node::start(version, PASSWORD).unwrap());
    (Proxy::before(v3.address(), v4.address(), set), v3, v4)
}

#[test]
fn promtool_accepts_the_metrics() {
    let Some(promtool) = tool::program("promtool", "prometheus") else { return };
    let (proxy, _v3, _v4) = before_nodes(&[]);
    proxy.connect().get("/v4/info", "");
    let mut check = Command::new(promtool)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    check.stdin.take().unwrap().write_all(&get(&proxy, "/metrics").body).unwrap();
    let output = check.wait_with_output().unwrap();
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert!(output.status.success() && said.trim().is_empty(), "{said}");
}

#[test]
fn a_real_prometheus_scrapes_the_metrics() {
    let Some(program) = tool::program("prometheus", "prometheus") else { return };
    let (proxy, _v3, _v4) = before_nodes(&[("WEB_PASSWORD", WEB_PASSWORD)]);
    let mut bot = proxy.connect();
    for _ in 0..5 {
        assert_eq!(bot.get("/v4/info", "").status, 200);
    }
    let directory = Daemon::directory("prometheus");
    let job = format!(
        "scrape_configs:\n  - job_name: lavaproxy\n    scrape_interval: 200ms\n    scrape_timeout: 200ms\n    \
         basic_auth: {{ username: prometheus, password: {WEB_PASSWORD} }}\n    \
         static_configs: [{{ targets: ['{}'] }}]\n",
        proxy.listener("web")
    );
    fs::write(directory.join("prometheus.yml"), job).unwrap();
    let prometheus = Prometheus::start(&program, directory);
    eventually("Prometheus has scraped", || prometheus.query("up") == Some(1.0));
    for (expression, expected) in [
        ("lavaproxy_build_info", 1.0),
        ("lavaproxy_requests_total{version=\"v4\"}", 5.0),
        ("lavaproxy_connections{version=\"v4\",kind=\"http\"}", 1.0),
        ("sum(lavaproxy_node_up)", 2.0),
        ("sum(lavaproxy_received_bytes_total)", bot.sent as f64),
        ("sum(lavaproxy_sent_bytes_total)", bot.received as f64),
        ("count(lavaproxy_connections_ended_total)", End::ALL.len() as f64),
    ] {
        assert_eq!(prometheus.query(expression), Some(expected), "{expression}");
    }
    let quantile = "histogram_quantile(0.5,sum by (le)(lavaproxy_node_connect_duration_seconds_bucket))";
    assert!(prometheus.query(quantile).is_some_and(|seconds| seconds > 0.0 && seconds < 5.0));
    assert!(prometheus.query("process_resident_memory_bytes").is_some_and(|bytes| bytes > 1e6));
    assert_eq!(ask(&proxy, "GET", "/metrics", "").status, 401, "the password was needed");
    assert_eq!(ask(&proxy, "GET", "/metrics", BASIC).status, 200);
}
