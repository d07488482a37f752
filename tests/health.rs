//! How lavaproxy says how its nodes are, and how it is itself.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;
#[path = "support/web.rs"]
mod web;

use std::io::Read;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use lavaproxy::config::Lavalink;
use lavaproxy::demo::{Close, Node};
use serde_json::{Value, json};
use support::*;
use web::{WEB_PASSWORD, ask, get};

fn node_row(proxy: &Proxy) -> Value {
    get(proxy, "/api/health").json()["nodes"][0].clone()
}

/// In front of one node of version 4.
fn proxy_before(node: SocketAddr, set: &[(&str, &str)]) -> Proxy {
    let port = node.port().to_string();
    let mut all = vec![("LAVALINK_V4_PORT", port.as_str()), ("LAVALINK_V3_HOST", "")];
    all.extend_from_slice(set);
    Proxy::start(&all)
}

/// Lavalink's answer to GET /version.
const VERSION_4: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n4.0.8";

fn check(proxy: &Proxy) -> Value {
    let answer = ask(proxy, "POST", "/api/health/check", "");
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

#[test]
fn nodes_are_checked_when_health_is_read_and_at_most_once_a_second() {
    let node = Backend::answering(VERSION_4);
    let proxy = proxy_before(node.address, &[("HEALTH_INTERVAL", "10m")]);
    proxy.stats();
    get(&proxy, "/healthz");
    assert_eq!(node.accepted(), 0);
    let started = Instant::now();
    let health = get(&proxy, "/api/health").json();
    assert_eq!(health["nodes"].as_array().unwrap().len(), 1, "v3 is off");
    let row = &health["nodes"][0];
    assert_eq!((&row["state"], &row["lavalinkVersion"]), (&json!("up"), &json!("4.0.8")), "one good round is enough");
    assert_eq!(health["status"], "ok");
    assert_eq!(node.accepted(), 2, "GET /version and GET /v4/stats");
    for _ in 0..10 {
        check(&proxy);
        get(&proxy, "/api/health");
    }
    let rounds = 1 + started.elapsed().as_secs() as usize;
    assert!(node.accepted() <= 2 * rounds, "{} connections in {:?}", node.accepted(), started.elapsed());
    for line in ["GET /version HTTP/1.1\r\n", "GET /v4/stats HTTP/1.1\r\n", &format!("Authorization: {PASSWORD}\r\n")] {
        assert!(node.seen().contains(line), "{}", node.seen());
    }
}

#[test]
fn nodes_are_checked_in_every_interval() {
    let node = Backend::answering(VERSION_4);
    let started = Instant::now();
    let _proxy = proxy_before(node.address, &[("HEALTH_INTERVAL", "400ms")]);
    eventually("three rounds of two requests", || node.accepted() >= 6);
    assert!(started.elapsed() >= Duration::from_millis(1200), "{:?}: the first is due after one", started.elapsed());
}

#[test]
fn check_now_sees_a_node_go_and_come_back() {
    let node = Node::start(Lavalink::V4, PASSWORD).unwrap();
    let proxy = proxy_before(node.address(), &[("HEALTH_INTERVAL", "10m")]);
    assert_eq!(check(&proxy)["status"], "ok");
    let since = node_row(&proxy)["since"].as_u64();
    node.die(Close::Fin);
    eventually("the node is seen to be gone", || check(&proxy)["status"] == "down");
    let row = node_row(&proxy);
    assert_eq!(row["state"], "down");
    for figure in ["responseTime", "players", "playingPlayers", "systemLoad"] {
        assert_eq!(row[figure], Value::Null, "{figure}");
    }
    assert!(row["since"].as_u64() > since);
    assert!(row["error"].as_str().unwrap().contains("LAVALINK_V4_HOST"), "{row}");
    node.revive().unwrap();
    eventually("it is seen to be back", || check(&proxy)["nodes"][0]["state"] == "up");
    assert!(node_row(&proxy)["since"].as_u64() > row["since"].as_u64());
}

#[test]
fn health_says_what_is_wrong_with_a_node() {
    for (answer, first, then, expected) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n3.7.13", "up", "up", "Lavalink 3.7.13"),
        ("HTTP/1.1 403 \r\nContent-Length: 0\r\n\r\n", "down", "down", "LAVALINK_V4_PASSWORD"),
        ("HTTP/1.1 500 \r\nContent-Length: 0\r\n\r\n", "up", "up", "500"),
        ("SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n\r\n", "unknown", "down", "does not answer as Lavalink does"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n", "unknown", "down", "does not answer as Lavalink does"),
    ] {
        let node = Backend::answering(answer);
        let proxy = proxy_before(node.address, &[("HEALTH_INTERVAL", "10m")]);
        let is_told = |health: &Value| {
            let row = &health["nodes"][0];
            let error = row["error"].as_str().unwrap();
            assert!(error.contains(expected) && !error.contains(PASSWORD), "{error}");
            assert_eq!(health["status"], if row["state"] == "down" { "down" } else { "degraded" });
        };
        let health = check(&proxy);
        assert_eq!(health["nodes"][0]["state"], first, "{health}");
        is_told(&health);
        let before = node.accepted();
        eventually("another round has ended", || {
            let health = check(&proxy);
            is_told(&health);
            node.accepted() > before && health["nodes"][0]["state"] == then
        });
    }
}

#[test]
fn a_connection_for_a_client_updates_the_health_of_its_node() {
    let node = Node::start(Lavalink::V4, PASSWORD).unwrap();
    let proxy = proxy_before(node.address(), &[("HEALTH_INTERVAL", "10m")]);
    assert_eq!(node_row(&proxy)["state"], "up");
    // It keeps its port: another program's node there would answer the round.
    node.die(Close::Fin);
    assert_eq!(proxy.connect().get("/v4/info", "").status, 502);
    eventually("the round that the failed connect causes makes it down", || node_row(&proxy)["state"] == "down");
    let metrics = get(&proxy, "/metrics").text();
    assert!(metrics.contains("lavaproxy_node_up{node=\"v4\",version=\"v4\"} 0\n"), "{metrics}");
    let failures =
        metrics.lines().find_map(|line| line.strip_prefix("lavaproxy_node_connect_failures_total{node=\"v4\"} "));
    assert!(failures.unwrap().parse::<u64>().unwrap() >= 2, "the client's and that of the round: {failures:?}");
}

#[test]
fn healthz_says_when_lavaproxy_stops() {
    let gate = Arc::new((Mutex::new(false), Condvar::new()));
    let its_gate = Arc::clone(&gate);
    let node = Backend::start(move |mut client, _| {
        client.next_request();
        let (open, changed) = &*its_gate;
        drop(changed.wait_while(open.lock().unwrap(), |open| !*open).unwrap());
        client.send(OK);
    });
    let proxy = Proxy::before(node.address, node.address, &[("DRAIN_TIMEOUT", "20s")]);
    let mut watcher = Client::connect(proxy.listener("web"));
    let mut ask = || {
        watcher.send(b"GET /healthz HTTP/1.1\r\nHost: anything\r\n\r\n");
        let answer = watcher.response();
        (answer.status, answer.text())
    };
    assert_eq!(ask(), (200, "ok".to_owned()));
    let mut bot = proxy.connect();
    bot.send(format!("GET /v4/info HTTP/1.1\r\nHost: x\r\nAuthorization: {PASSWORD}\r\n\r\n").as_bytes());
    eventually("the request is with the node", || node.accepted() == 1);
    thread::scope(|scope| {
        scope.spawn(|| proxy.server.stop());
        eventually("it says that it stops", || ask() == (503, "stopping".to_owned()));
        *gate.0.lock().unwrap() = true;
        gate.1.notify_all();
        assert_eq!(bot.response().status, 200, "what was under way is finished");
    });
    let mut rest = Vec::new();
    assert_eq!(bot.stream.read_to_end(&mut rest).unwrap(), 0);
}

#[test]
fn the_healthcheck_flag_asks_the_running_process() {
    let proxy = Proxy::start(&[("WEB_PASSWORD", WEB_PASSWORD)]);
    let run = |host: &str, port: u16| {
        let output = Command::new(env!("CARGO_BIN_EXE_lavaproxy"))
            .args(["--healthcheck", "--env-file", "/dev/null"])
            .env_clear()
            .envs([("WEB_HOST", host), ("WEB_PORT", &port.to_string()), ("WEB_PASSWORD", "another")])
            .output()
            .unwrap();
        let lines = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert_eq!(lines.lines().count(), 1, "{lines}");
        (output.status.code(), lines)
    };
    let port = proxy.listener("web").port();
    for host in ["127.0.0.1", "0.0.0.0", "localhost"] {
        assert_eq!(run(host, port), (Some(0), format!("lavaproxy at 127.0.0.1:{port}: ok\n")));
    }
    let (code, line) = run("127.0.0.1", 1);
    assert_eq!(code, Some(1));
    assert!(line.contains("refused") && line.contains("WEB_PORT"), "{line}");
    let (code, line) = run("127.0.0.1", proxy.address().port());
    assert_eq!(code, Some(1), "{line}");
    let other = Backend::answering("SSH-2.0-x\r\n\r\n");
    assert_eq!(run("127.0.0.1", other.address.port()).0, Some(1));
}
