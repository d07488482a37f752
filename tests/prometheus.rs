//! /metrics as promtool judges it, and as a real Prometheus scrapes it with a password. Without them each is skipped.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;
#[path = "support/web.rs"]
mod web;

use std::fs;
use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use lavaproxy::config::Lavalink;
use lavaproxy::demo::Node;
use lavaproxy::error::End;
use serde_json::Value;
use support::*;
use web::{BASIC, WEB_PASSWORD, ask, ask_at, get};

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

/// A running Prometheus, ended and forgotten when dropped.
struct Prometheus {
    process: Child,
    address: SocketAddr,
    directory: PathBuf,
}

impl Prometheus {
    fn scraping(program: &Path, target: SocketAddr) -> Self {
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("prometheus-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let config = directory.join("prometheus.yml");
        let job = format!(
            "scrape_configs:\n  - job_name: lavaproxy\n    scrape_interval: 200ms\n    scrape_timeout: 200ms\n    \
             basic_auth: {{ username: prometheus, password: {WEB_PASSWORD} }}\n    \
             static_configs: [{{ targets: ['{target}'] }}]\n"
        );
        fs::write(&config, job).unwrap();
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let process = Command::new(program)
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", directory.join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .stdout(Stdio::null())
            .stderr(fs::File::create(directory.join("log")).unwrap())
            .spawn()
            .unwrap();
        Self { process, address, directory }
    }

    /// The value of an expression that has one.
    fn query(&self, expression: &str) -> Option<f64> {
        TcpStream::connect(self.address).ok()?;
        let answer = ask_at(self.address, "GET", &format!("/api/v1/query?query={expression}"), "");
        if answer.status != 200 {
            return None;
        }
        let value = &answer.json()["data"]["result"][0]["value"][1];
        Value::as_str(value)?.parse().ok()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if std::thread::panicking() {
            eprintln!("{}", fs::read_to_string(self.directory.join("log")).unwrap_or_default());
        }
        let _ = fs::remove_dir_all(&self.directory);
    }
}

#[test]
fn a_real_prometheus_scrapes_the_metrics() {
    let Some(program) = tool::program("prometheus", "prometheus") else { return };
    let (proxy, _v3, _v4) = before_nodes(&[("WEB_PASSWORD", WEB_PASSWORD)]);
    let mut bot = proxy.connect();
    for _ in 0..5 {
        assert_eq!(bot.get("/v4/info", "").status, 200);
    }
    let prometheus = Prometheus::scraping(&program, proxy.listener("web"));
    eventually("Prometheus has scraped", || prometheus.query("up") == Some(1.0));
    for (expression, expected) in [
        ("lavaproxy_build_info", 1.0),
        ("lavaproxy_requests_total%7Bversion=%22v4%22%7D", 5.0),
        ("lavaproxy_connections%7Bversion=%22v4%22,kind=%22http%22%7D", 1.0),
        ("sum(lavaproxy_node_up)", 2.0),
        ("sum(lavaproxy_received_bytes_total)", bot.sent as f64),
        ("sum(lavaproxy_sent_bytes_total)", bot.received as f64),
        ("count(lavaproxy_connections_ended_total)", End::ALL.len() as f64),
    ] {
        assert_eq!(prometheus.query(expression), Some(expected), "{expression}");
    }
    let quantile = "histogram_quantile(0.5,sum%20by%20(le)(lavaproxy_node_connect_duration_seconds_bucket))";
    assert!(prometheus.query(quantile).is_some_and(|seconds| seconds > 0.0 && seconds < 5.0));
    assert!(prometheus.query("process_resident_memory_bytes").is_some_and(|bytes| bytes > 1e6));
    assert_eq!(ask(&proxy, "GET", "/metrics", "").status, 401, "the password was needed");
    assert_eq!(ask(&proxy, "GET", "/metrics", BASIC).status, 200);
}
