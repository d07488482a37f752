//! deploy/prometheus: the alerts as promtool tests them, Prometheus and Alertmanager with the files there, and the
//! dashboard's queries at a real Prometheus that scrapes the demo. What lacks its program is skipped.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/process.rs"]
mod process;
#[path = "support/prometheus.rs"]
mod prometheus;
mod support;
#[path = "support/web.rs"]
mod web;

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use process::Running;
use prometheus::{Daemon, Prometheus};
use serde_json::Value;
use support::tool::{self, said};
use support::{Client, PATIENCE, eventually};
use web::{BASIC, WEB_PASSWORD, ask_at};

const PASSWORD_FILE: &str = "/etc/prometheus/lavaproxy-password";
const WEBHOOK_LINE: &str = "webhook_url_file: /etc/prometheus/discord-webhook";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/prometheus")
}

fn file(name: &str) -> String {
    fs::read_to_string(folder().join(name)).unwrap()
}

/// Replaces what is there once.
fn replace(text: &str, old: &str, new: &str) -> String {
    assert_eq!(text.matches(old).count(), 1, "{old}");
    text.replace(old, new)
}

/// Runs a program that must end well in the folder of the files.
fn run(program: &Path, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).current_dir(folder()).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", said(&output));
    said(&output)
}

/// What stands behind `key` in each line of a text.
fn entries<'a>(text: &'a str, key: &'a str) -> impl Iterator<Item = &'a str> {
    text.lines().filter_map(move |line| line.trim_start().trim_start_matches("- ").strip_prefix(key))
}

#[test]
fn each_alert_fires_in_one_case_and_not_in_another() {
    let Some(promtool) = tool::program("promtool", "prometheus") else { return };
    run(&promtool, &["check", "rules", "lavaproxy.rules.yml"]);
    run(&promtool, &["test", "rules", "lavaproxy.rules.test.yml"]);
    let (rules, cases) = (file("lavaproxy.rules.yml"), file("lavaproxy.rules.test.yml"));
    for alert in entries(&rules, "alert: ") {
        let line = format!("alertname: {alert}\n");
        let (fires, quiet): (Vec<_>, Vec<_>) = cases
            .split(&line)
            .skip(1)
            .partition(|after| after.lines().next().is_some_and(|next| next.trim() == "exp_alerts:"));
        assert!(!fires.is_empty() && !quiet.is_empty(), "{alert}: {} cases, {}", fires.len(), quiet.len());
    }
}

/// The example's folder in a place of its own, with its scrapes of `target` every 200 ms.
fn example(name: &str, target: &str) -> PathBuf {
    let directory = Daemon::directory(name);
    let password = directory.join("password");
    fs::write(&password, WEB_PASSWORD).unwrap();
    fs::write(directory.join("lavaproxy.rules.yml"), file("lavaproxy.rules.yml")).unwrap();
    let config = replace(&file("prometheus.yml"), PASSWORD_FILE, password.to_str().unwrap());
    let config = replace(&config, "127.0.0.1:6980", target);
    let config = replace(&config, "scrape_interval: 15s", "scrape_interval: 200ms\n  scrape_timeout: 200ms");
    fs::write(
        directory.join("prometheus.yml"),
        replace(&config, "evaluation_interval: 15s", "evaluation_interval: 1s"),
    )
    .unwrap();
    directory
}

/// The demo behind a password.
fn demo() -> (Running, SocketAddr) {
    let mut command = process::lavaproxy(&process::FREE);
    command.arg("--demo").env("WEB_PASSWORD", WEB_PASSWORD).stdout(Stdio::null());
    let mut demo = Running::spawn(command);
    let web = demo.listener("web");
    (demo, web)
}

/// The names of lavaproxy's metrics in a text.
fn metrics_in(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    words.filter(|word| word.starts_with("lavaproxy_") || word.starts_with("process_")).collect()
}

/// The queries of a dashboard's panels, each with its panel's title, with values in the place of variables.
fn queries(dashboard: &Value) -> Vec<(String, String)> {
    let mut queries = Vec::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        let title = panel["title"].as_str().unwrap();
        let targets = panel["targets"].as_array().map_or(&[][..], Vec::as_slice);
        assert_eq!(targets.is_empty(), panel["type"] == "row", "{title}");
        for target in targets {
            let expression = target["expr"].as_str().unwrap().replace("$instance", ".*");
            let expression = expression.replace("$__rate_interval", "1m").replace("$__range", "1h");
            assert!(!expression.contains('$'), "{title}: {expression}");
            queries.push((title.to_owned(), expression));
        }
    }
    queries
}

#[test]
fn every_panel_of_the_dashboard_shows_the_demo() {
    let Some(program) = tool::program("prometheus", "prometheus") else { return };
    let dashboard: Value = serde_json::from_str(&file("grafana-dashboard.json")).unwrap();
    let (demo, web) = demo();
    let prometheus = Prometheus::start(&program, example("dashboard", &web.to_string()));
    eventually("Prometheus has scraped", || prometheus.query("up{job=\"lavaproxy\"}") == Some(1.0));
    eventually("the pretend bots are connected", || {
        prometheus.query("sum(lavaproxy_node_sessions)").is_some_and(|sessions| sessions >= 8.0)
    });
    // Time of takeovers has figures once there was one.
    assert_eq!(ask_at(web, "POST", "/api/demo/eu1/kill", BASIC).status, 200);
    for (title, expression) in queries(&dashboard) {
        eventually(&format!("a number for {title}: {expression}"), || {
            prometheus.values(&expression).iter().any(|value| value.is_finite())
        });
    }
    eventually("the alert about eu1 is pending", || {
        prometheus.query("ALERTS{alertname=\"LavaproxyNodeDown\",node=\"eu1\"}") == Some(1.0)
    });
    drop(demo);
}

#[test]
fn rules_and_dashboard_name_only_metrics_that_there_are() {
    let (_demo, web) = demo();
    let metrics = || ask_at(web, "GET", "/metrics", BASIC).text();
    eventually("the nodes are known", || metrics().contains("lavaproxy_node_up{node=\"eu1\",version=\"v4\"} 1\n"));
    let text = metrics();
    let known: BTreeSet<&str> = text.lines().filter_map(|line| line.split([' ', '{']).next()).collect();
    let files = [file("lavaproxy.rules.yml"), file("lavaproxy.rules.test.yml"), file("grafana-dashboard.json")];
    for name in files.iter().flat_map(|text| metrics_in(text)) {
        assert!(known.contains(name), "{name} is no metric");
    }
}

#[test]
fn the_panels_of_the_dashboard_lie_side_by_side() {
    let dashboard: Value = serde_json::from_str(&file("grafana-dashboard.json")).unwrap();
    let mut taken = BTreeSet::new();
    let mut ids = BTreeSet::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{panel}");
        let [x, y, w, h] = ["x", "y", "w", "h"].map(|side| panel["gridPos"][side].as_u64().unwrap());
        assert!(x + w <= 24, "{panel}");
        for cell in (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y))) {
            assert!(taken.insert(cell), "{} lies on another panel", panel["title"]);
        }
    }
}

#[test]
fn promtool_accepts_the_example() {
    let Some(promtool) = tool::program("promtool", "prometheus") else { return };
    let directory = example("example", "127.0.0.1:6980");
    run(&promtool, &["check", "config", directory.join("prometheus.yml").to_str().unwrap()]);
    fs::remove_dir_all(directory).unwrap();
}

/// A running Alertmanager.
struct Alertmanager(Daemon);

impl Alertmanager {
    fn start(program: &Path, directory: PathBuf) -> Self {
        let alone = ["--cluster.listen-address="];
        let daemon = Daemon::start(program, directory, "alertmanager.yml", "--storage.path", &alone);
        eventually("Alertmanager answers", || TcpStream::connect(daemon.address).is_ok());
        Self(daemon)
    }

    fn alert(&self, alerts: &Value) {
        let body = alerts.to_string();
        let mut client = Client::connect(self.0.address);
        let head = format!(
            "POST /api/v2/alerts HTTP/1.1\r\nHost: alerts\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        client.send(head.as_bytes()).send(body.as_bytes());
        let answer = client.response_to("POST");
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
}

/// The example's folder with the webhook's address in its file. An Alertmanager before 0.28 knows no such file: for it
/// the address stands in its configuration.
fn alertmanager_example(amtool: &Path, webhook: &str) -> PathBuf {
    let directory = Daemon::directory("alertmanager");
    let (secret, path) = (directory.join("discord-webhook"), directory.join("alertmanager.yml"));
    fs::write(&secret, webhook).unwrap();
    let config = replace(&file("alertmanager.yml"), "group_wait: 30s", "group_wait: 1s");
    let with_file = format!("webhook_url_file: {}", secret.display());
    fs::write(&path, replace(&config, WEBHOOK_LINE, &with_file)).unwrap();
    let check = || Command::new(amtool).arg("check-config").arg(&path).output().unwrap();
    let mut output = check();
    if said(&output).contains("field webhook_url_file not found") {
        fs::write(&path, replace(&config, WEBHOOK_LINE, &format!("webhook_url: {webhook}"))).unwrap();
        output = check();
    }
    assert!(output.status.success(), "{}", said(&output));
    directory
}

/// The body of the next request.
fn posted(listener: &TcpListener) -> Value {
    listener.set_nonblocking(true).unwrap();
    let mut accepted = None;
    eventually("a request comes", || {
        accepted = listener.accept().ok();
        accepted.is_some()
    });
    let (stream, _) = accepted.unwrap();
    stream.set_nonblocking(false).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut reader = BufReader::new(stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        if let Some((_, value)) = line.split_once(':').filter(|(name, _)| name.eq_ignore_ascii_case("content-length")) {
            length = value.trim().parse().unwrap();
        }
        if line.trim().is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    reader.get_mut().write_all(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n").unwrap();
    serde_json::from_slice(&body).unwrap()
}

#[test]
fn alertmanager_posts_one_message_to_discord() {
    let package = "prometheus-alertmanager";
    let Some(amtool) = tool::program("amtool", package) else { return };
    let Some(program) = tool::program("prometheus-alertmanager", package) else { return };
    let discord = TcpListener::bind("127.0.0.1:0").unwrap();
    let webhook = format!("http://{}/api/webhooks/1/token", discord.local_addr().unwrap());
    let alertmanager = Alertmanager::start(&program, alertmanager_example(&amtool, &webhook));
    let alert = |name: &str, node: Option<&str>, summary: &str| {
        let mut labels = serde_json::json!({
            "alertname": name, "instance": "a:6980", "job": "lavaproxy", "severity": "critical", "version": "v4"
        });
        if let Some(node) = node {
            labels["node"] = node.into();
        }
        serde_json::json!({ "labels": labels, "annotations": { "summary": summary, "description": "Do this." } })
    };
    alertmanager.alert(&serde_json::json!([
        alert("LavaproxyVersionDown", None, "No Lavalink v4 node of a:6980 is up"),
        alert("LavaproxyNodeDown", Some("eu1"), "Lavalink node eu1 of a:6980 is down"),
        alert("LavaproxyRestarts", None, "lavaproxy at a:6980 started 3 times in half an hour"),
    ]));
    let message = posted(&discord);
    let [title, text] = ["title", "description"].map(|part| message["embeds"][0][part].as_str().unwrap_or_default());
    assert_eq!(title, "2 firing: a:6980", "{message}");
    assert!(text.contains("**critical**: No Lavalink v4 node of a:6980 is up\nDo this.\n"), "{text}");
    assert!(text.contains("**critical**: lavaproxy at a:6980 started 3 times in half an hour\n"), "{text}");
    assert!(!text.contains("eu1"), "the version says it for its nodes: {text}");
}
