//! Figures over time: what /api/history answers, and what a restart, an upgrade and a damaged file leave of them. The
//! status page.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/process.rs"]
mod process;
#[path = "support/state.rs"]
mod state;
mod support;
#[path = "support/web.rs"]
mod web;

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use lavaproxy::config::Lavalink;
use lavaproxy::demo::{Bots, Close, Node};
use lavaproxy::history::{Answering, History, Reading, Sample, Totals};
use process::{Stray, value};
use serde_json::{Value, json};
use state::{Site, ask as ask_for, file, folder, node, request, saved};
use support::{Client, PASSWORD, Proxy, eventually};
use web::{BASIC, WEB_PASSWORD, ask, get};

/// Longer than two steps of 10 s take on a busy machine.
const STEPS: Duration = Duration::from_secs(90);

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64
}

/// Polls until `holds`: a step ends only every 10 s.
fn in_a_step(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + STEPS;
    while !holds() {
        assert!(Instant::now() < deadline, "never happened: {what}");
        thread::sleep(Duration::from_millis(100));
    }
}

fn series<'a>(answer: &'a Value, name: &str) -> &'a Value {
    let all = answer["series"].as_array().unwrap();
    all.iter().find(|row| row["name"] == name).unwrap_or_else(|| panic!("no {name} in {answer}"))
}

fn sum(values: &Value) -> f64 {
    values.as_array().unwrap().iter().filter_map(Value::as_f64).sum()
}

#[test]
fn traffic_comes_into_the_history_by_version_node_and_account() {
    let [v3, eu1] = Lavalink::ALL.map(|version| Node::start(version, PASSWORD).unwrap());
    let (v3_port, named) = (v3.address().port().to_string(), format!("eu1={}", eu1.address()));
    let proxy =
        Proxy::start(&[("LAVALINK_V3_PORT", &v3_port), ("LAVALINK_V4_NODES", &named), ("HEALTH_INTERVAL", "1s")]);
    let bots = Bots::start(proxy.address(), PASSWORD, 4).unwrap();
    let history = |by: &str| get(&proxy, &format!("/api/history?range=1h&by={by}")).json();
    in_a_step("two samples with traffic", || {
        let answer = history("version");
        !answer["series"].as_array().unwrap().is_empty() && sum(&series(&answer, "v4")["bytesOut"]) > 0.0
    });
    let answer = history("version");
    let fields: Vec<&str> = answer.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(fields, ["by", "now", "range", "refusals", "series", "start", "step"]);
    assert_eq!((&answer["step"], &answer["range"], &answer["by"]), (&json!(10), &json!("1h"), &json!("version")));
    let start = answer["start"].as_u64().unwrap();
    assert!(start % 10_000 == 0 && now().abs_diff(start + 3_600_000) < 60_000, "{start}");
    for (by, name, figures) in [
        ("version", "v3", &["bytesIn", "bytesOut", "connections", "name", "players", "requests"][..]),
        ("node", "eu1", &["bytesIn", "bytesOut", "connections", "load", "name", "players", "requests", "responseTime"]),
        ("account", "default", &["bytesIn", "bytesOut", "connections", "name", "requests"]),
    ] {
        let answer = history(by);
        let row = series(&answer, name).as_object().unwrap();
        assert_eq!(row.keys().map(String::as_str).collect::<Vec<_>>(), figures);
        let values = row.iter().filter(|(figure, _)| *figure != "name").map(|(_, values)| values.as_array().unwrap());
        for values in values {
            assert_eq!((values.len(), &values[0]), (360, &Value::Null), "nobody measured an hour ago");
        }
        assert!(sum(&row["connections"]) > 0.0, "{by}");
    }
    let node = &history("node");
    assert!(series(node, "eu1")["load"].as_array().unwrap().iter().any(Value::is_number));
    assert!(sum(&series(node, "eu1")["responseTime"]) > 0.0);
    drop(bots);
}

#[test]
fn a_wrong_range_or_split_is_answered_with_the_choices() {
    let proxy = Proxy::start(&[]);
    for (query, choices) in [
        ("range=2h", "1h, 24h or 30d"),
        ("range=", "1h, 24h or 30d"),
        ("by=address", "version, node or account"),
        ("range=24h&by=", "version, node or account"),
    ] {
        let response = get(&proxy, &format!("/api/history?{query}"));
        let message = response.json()["message"].to_string();
        assert!(response.status == 400 && message.contains(choices), "{query}: {message}");
    }
    for (range, steps, step) in [("1h", 360, 10), ("24h", 1440, 60), ("30d", 720, 3600)] {
        let answer = get(&proxy, &format!("/api/history?range={range}")).json();
        let start = answer["start"].as_u64().unwrap();
        assert_eq!((&answer["step"], start % (step * 1000)), (&json!(step), 0));
        assert_eq!(answer["refusals"].as_array().unwrap().len() as u64, steps);
        assert!(now().abs_diff(start + steps * step * 1000) < 2 * step * 1000 + 60_000, "{range}");
    }
    assert_eq!(ask(&proxy, "POST", "/api/history", "").status, 405);
}

/// A state whose history ends at this moment: ten minutes in which an account used 50 bytes in each step.
fn with_history(folder: &Path, port: &str) -> Value {
    let site = Site::start(folder, &[("LAVALINK_V4_PORT", port)]);
    request(site.bots);
    site.stop();
    let history = History::default();
    let end = now() / 10_000 * 10_000;
    for step in 0..=60 {
        let totals = Totals { bytes_in: 50 * step, bytes_out: 70 * step, requests: step, refusals: 0 };
        let reading = |name: &str| Reading { name: Some(name.into()), totals, connections: 3, ..Reading::default() };
        let sample = Sample {
            versions: vec![reading("v4")],
            nodes: vec![reading("v4")],
            accounts: vec![reading("default")],
            answering: vec![(Lavalink::V4, Answering::Up)],
            ..Sample::default()
        };
        history.tick(end - (60 - step) * 10_000, || sample);
    }
    let mut state = saved(folder);
    state["history"] = serde_json::to_value(history.save()).unwrap();
    state
}

fn measured(web: SocketAddr) -> usize {
    let answer = ask_for(web, "/api/history?by=account");
    let rows = answer["series"].as_array().unwrap();
    let row = rows.iter().find(|row| row["name"] == "default");
    row.map_or(0, |row| row["bytesIn"].as_array().unwrap().iter().filter(|value| **value == json!(50)).count())
}

#[test]
fn the_history_goes_on_after_a_restart_and_in_a_successor() {
    let (node, folder) = (node(), folder("history"));
    let port = node.address.port().to_string();
    let state = with_history(&folder, &port);
    fs::write(file(&folder), state.to_string()).unwrap();
    let mut site = Site::start(&folder, &[("LAVALINK_V4_PORT", &port)]);
    assert_eq!(measured(site.web), 60);
    site.running.signal("USR2");
    let successor = Stray(value(&site.running.line(&["event=upgraded "]), "successor").parse().unwrap());
    assert_eq!(measured(site.web), 60);
    process::signal(successor.0, "TERM");
    eventually("the successor has ended", || process::has_ended(successor.0));
    let next = Site::start(&folder, &[("LAVALINK_V4_PORT", &port)]);
    assert_eq!(measured(next.web), 60);
    let days = &saved(&folder)["history"]["uptime"]["v4"]["days"];
    assert!(days[0][1].as_u64().unwrap() > 0, "{days}");
}

#[test]
fn a_state_without_a_history_or_with_garbage_in_its_place_is_read_as_before() {
    let (node, folder) = (node(), folder("no-history"));
    let port = node.address.port().to_string();
    let good = with_history(&folder, &port);
    type Garble = fn(&mut Value);
    let garbled: [(&str, Garble); 5] = [
        ("none", |state| drop(state.as_object_mut().unwrap().remove("history"))),
        ("text", |state| state["history"] = json!("once upon a time")),
        ("null", |state| state["history"] = Value::Null),
        ("names", |state| state["history"]["versions"] = json!({"rows": [{"name": 7}]})),
        ("rings", |state| state["history"]["accounts"]["rows"][0]["series"]["bytesIn"] = json!(["%%", "", "AAAAA"])),
    ];
    for (name, garble) in garbled {
        let mut state = good.clone();
        garble(&mut state);
        fs::write(file(&folder), state.to_string()).unwrap();
        let site = Site::start(&folder, &[("LAVALINK_V4_PORT", &port)]);
        let is_garbage = !["none", "rings"].contains(&name);
        let copies = state::set_aside(&folder);
        assert_eq!(copies.len(), usize::from(is_garbage), "{name}");
        for copy in copies {
            assert_eq!(fs::read_to_string(&copy).unwrap(), state.to_string(), "{name}");
            fs::remove_file(copy).unwrap();
        }
        assert_eq!(site.figures_at_rest()["totals"]["requests"], 1, "{name}");
        assert_eq!(measured(site.web), 0, "{name}");
        request(site.bots);
        for page in ["/", "/health", "/data-usage"] {
            let mut client = Client::connect(site.web);
            client.send(format!("GET {page} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").as_bytes());
            assert_eq!(client.response().status, 200, "{name}");
        }
        let log = site.stop();
        for event in ["history-unreadable", "state-copied"] {
            assert_eq!(log.contains(&format!("event={event} ")), is_garbage, "{name}: {log}");
        }
        assert_eq!(saved(&folder)["ledger"]["addresses"]["rows"][0]["requests"], 2, "{name}");
    }
}

#[test]
fn the_status_page_alone_needs_no_password() {
    let on = [("WEB_PASSWORD", WEB_PASSWORD), ("STATUS_PAGE", "on")];
    let proxy = Proxy::start(&on);
    for path in ["/status", "/status?from=somewhere", "/lavaproxy.css", "/icon.svg", "/healthz"] {
        assert_eq!(get(&proxy, path).status, 200, "{path}");
    }
    assert_eq!(ask(&proxy, "HEAD", "/status", "").status, 200);
    assert_eq!(ask(&proxy, "POST", "/status", "").status, 405);
    for path in [
        "/",
        "/health",
        "/data-usage",
        "/security",
        "/status/",
        "/status.html",
        "//status",
        "/%73tatus",
        "/js/chart.js",
        "/metrics",
        "/api/stats",
        "/api/history",
        "/api/health",
        "/api/status",
        "/nothing",
    ] {
        assert_eq!(get(&proxy, path).status, 401, "{path}");
        assert_ne!(ask(&proxy, "GET", path, BASIC).status, 401, "{path}");
    }
    for set in [&[("WEB_PASSWORD", WEB_PASSWORD)][..], &[("WEB_PASSWORD", WEB_PASSWORD), ("STATUS_PAGE", "off")]] {
        let proxy = Proxy::start(set);
        for path in ["/status", "/lavaproxy.css", "/icon.svg"] {
            assert_eq!(get(&proxy, path).status, 401, "{path}");
        }
        assert_eq!(ask(&proxy, "GET", "/status", BASIC).status, 404);
    }
}

#[test]
fn a_reload_opens_and_closes_the_status_page() {
    let proxy = Proxy::start(&[("WEB_PASSWORD", WEB_PASSWORD)]);
    for (switch, status) in [("on", 200), ("off", 401)] {
        let set = [("WEB_PASSWORD", WEB_PASSWORD), ("STATUS_PAGE", switch)];
        proxy.server.reload(&support::settings(&set)).unwrap();
        assert_eq!(get(&proxy, "/status").status, status);
    }
}

#[test]
fn the_status_page_names_versions_and_nothing_else() {
    let v4 = Node::start(Lavalink::V4, PASSWORD).unwrap();
    let named = format!("frankfurt={}", v4.address());
    let set =
        [("LAVALINK_V3_HOST", ""), ("LAVALINK_V4_NODES", &*named), ("STATUS_PAGE", "on"), ("HEALTH_INTERVAL", "100ms")];
    let proxy = Proxy::start(&set);
    let bots = Bots::start(proxy.address(), PASSWORD, 3).unwrap();
    let page = || get(&proxy, "/status").text();
    eventually("v4 is up", || page().contains("Everything works"));
    in_a_step("the first measurement", || page().contains("100 % up"));
    let text = page();
    assert!(text.contains("Lavalink v4 <span class=\"pill up\">Up since ") && !text.contains("Lavalink v3"), "{text}");
    for secret in [
        "127.0.0.1",
        "frankfurt",
        &v4.address().port().to_string(),
        PASSWORD,
        "shoukaku",
        "default",
        env!("CARGO_PKG_VERSION"),
    ] {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
    assert!(!text.contains('{') && !text.contains("<script"), "{text}");
    v4.die(Close::Fin);
    eventually("v4 is down", || page().contains("<h1>Down</h1>"));
    in_a_step("the measurement of it", || page().contains("pill down\">Down since "));
    assert!(page().contains("Days with an interruption"));
    drop(bots);
}
