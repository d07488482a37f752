//! The API: the fields of its answers, filters, methods, and access.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;
#[path = "support/web.rs"]
mod web;

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use lavaproxy::config::Lavalink;
use lavaproxy::demo::Node;
use lavaproxy::ledger::{ClientInfo, Metered};
use serde_json::{Value, json};
use support::*;
use web::{BASIC, WEB_PASSWORD, ask, ask_at, get, post};

const READ: [&str; 14] = [
    "/",
    "/health",
    "/data-usage",
    "/security",
    "/api/stats",
    "/api/connections",
    "/api/data-usage",
    "/api/bots",
    "/api/accounts",
    "/api/security",
    "/api/health",
    "/api/version",
    "/metrics",
    "/healthz",
];

/// In front of two pretend nodes, one of each version.
fn before_nodes(set: &[(&str, &str)]) -> (Proxy, Node, Node) {
    let nodes = Lavalink::ALL.map(|version| Node::start(version, PASSWORD).unwrap());
    let [v3, v4] = nodes;
    (Proxy::before(v3.address(), v4.address(), set), v3, v4)
}

fn keys(value: &Value) -> Vec<&str> {
    let mut keys: Vec<&str> = value.as_object().unwrap().keys().map(String::as_str).collect();
    keys.sort_unstable();
    keys
}

/// The names and the kinds of an object's values.
fn schema(value: &Value) -> Value {
    match value {
        Value::Object(fields) => fields.iter().map(|(name, value)| (name.clone(), schema(value))).collect(),
        Value::Array(items) => Value::Array(items.first().map(schema).into_iter().collect()),
        Value::String(_) => "string".into(),
        Value::Number(_) => "number".into(),
        Value::Bool(_) => "bool".into(),
        Value::Null => "null".into(),
    }
}

fn ended() -> Value {
    lavaproxy::error::End::ALL.iter().map(|end| (end.name().to_owned(), Value::from("number"))).collect()
}

#[test]
fn stats_and_its_slices_have_exactly_these_fields() {
    let (proxy, _v3, _v4) = before_nodes(&[]);
    let mut bot = proxy.connect();
    assert_eq!(bot.upgrade("/v4/websocket").status, 101);
    let stats = get(&proxy, "/api/stats").json();
    let connection = json!({
        "id": "number", "client": "string", "address": "string", "node": "string", "backend": "string",
        "version": "string", "kind": "string", "connectedAt": "number", "uptime": "number", "requests": "number", "bytesIn": "number",
        "bytesOut": "number", "rateIn": "number", "rateOut": "number", "userId": "string", "clientName": "string",
        "userAgent": "string", "takeovers": "number", "takingOver": "bool",
    });
    let usage = json!({
        "address": "string", "active": "number", "connections": "number", "requests": "number", "bytesIn": "number",
        "bytesOut": "number", "rateIn": "number", "rateOut": "number", "lastSeen": "number",
    });
    let expected = json!({
        "version": "string", "startedAt": "number", "since": "number", "now": "number", "uptime": "number",
        "totals": {
            "active": "number", "websockets": "number", "versions": {"v3": "number", "v4": "number"}, "connections": "number", "requests": "number",
            "bytesIn": "number", "bytesOut": "number", "rateIn": "number", "rateOut": "number",
        },
        "connections": [connection], "usage": [usage], "ended": ended(),
    });
    assert_eq!(schema(&stats), expected);
    assert_eq!(schema(&get(&proxy, "/api/connections").json()), json!([connection]));
    assert_eq!(schema(&get(&proxy, "/api/data-usage").json()), json!([usage]));
    assert_eq!(get(&proxy, "/api/version").json(), json!({"name": "lavaproxy", "version": env!("CARGO_PKG_VERSION")}));
}

#[test]
fn health_has_exactly_these_fields_and_no_secret() {
    let set = [("PROXY_V4_PORT", "0"), ("LAVALINK_V4_PASSWORD", PASSWORD), ("PROXY_PASSWORD", "for bots alone")];
    let (proxy, _v3, v4) = before_nodes(&set);
    let answer = get(&proxy, "/api/health");
    assert!(!answer.text().contains(PASSWORD) && !answer.text().contains("for bots alone"));
    let health = answer.json();
    let v3_fails = json!({
        "name": "string", "version": "string", "address": "string", "state": "string", "draining": "bool",
        "since": "number", "responseTime": "null", "lavalinkVersion": "null", "players": "null",
        "playingPlayers": "null", "systemLoad": "null", "sessions": "number", "requests": "number",
        "loadsRetried": "number", "moving": "bool", "movesWaiting": "bool", "moved": "number", "movesFailed": "number",
        "takeovers": {"underWay": "number", "taken": "number", "failed": "number", "players": "number"},
        "error": "string",
    });
    let expected = json!({
        "status": "string", "version": "string", "startedAt": "number", "now": "number", "uptime": "number",
        "process": {
            "pid": "number", "memory": "number", "threads": "number", "descriptors": "number",
            "descriptorLimit": "number", "cpu": "number", "cpuSeconds": "number",
        },
        "limit": {"connections": "number", "rule": "string"},
        "listeners": [{"name": "string", "address": "string", "version": "null"}],
        "nodes": [v3_fails],
        "settings": [{"name": "string", "value": "string"}],
        "ended": ended(),
    });
    assert_eq!(schema(&health), expected);
    assert_eq!(keys(&health["nodes"][1]), keys(&health["nodes"][0]));

    // The v3 node's password is not the one that bots use.
    let nodes = &health["nodes"];
    assert_eq!(health["status"], "degraded");
    let shown = [0, 1].map(|index| ["name", "version", "state"].map(|field| nodes[index][field].as_str().unwrap()));
    assert_eq!(shown, [["v3", "v3", "down"], ["v4", "v4", "up"]]);
    assert!(nodes[0]["error"].as_str().unwrap().contains("LAVALINK_V3_PASSWORD"), "{nodes}");
    let v4_row = &nodes[1];
    assert_eq!(v4_row["address"], v4.address().to_string());
    assert_eq!((&v4_row["draining"], &v4_row["error"]), (&json!(false), &Value::Null));
    assert!(v4_row["lavalinkVersion"].as_str().unwrap().starts_with("4."), "{v4_row}");
    assert!(v4_row["responseTime"].as_f64().unwrap() > 0.0);
    assert!(v4_row["players"].is_u64() && v4_row["playingPlayers"].is_u64());
    assert!(v4_row["systemLoad"].as_f64().unwrap() >= 0.0);
    for count in ["sessions", "requests", "loadsRetried", "moved", "movesFailed"] {
        assert_eq!(v4_row[count], 0, "{count}");
    }
    assert!(v4_row["since"].as_u64() <= health["now"].as_u64());
    assert!(v4_row["since"].as_u64() >= health["startedAt"].as_u64());

    assert_eq!(health["process"]["pid"], std::process::id());
    assert!(health["process"]["memory"].as_u64().unwrap() > 1_000_000);
    let listeners: Vec<_> = health["listeners"]
        .as_array()
        .unwrap()
        .iter()
        .map(|listener| (&listener["name"], &listener["version"]))
        .collect();
    assert_eq!(listeners, [(&json!("proxy"), &Value::Null), (&json!("proxy-v4"), &json!("v4"))]);
    assert_eq!(health["listeners"][1]["address"], proxy.listener("proxy-v4").to_string());
    let setting = |name: &str| {
        let all = health["settings"].as_array().unwrap();
        all.iter().find(|setting| setting["name"] == name).unwrap()["value"].clone()
    };
    for (name, value) in [("PROXY_PASSWORD", "***"), ("LAVALINK_V4_PASSWORD", "***"), ("WEB_PASSWORD", "")] {
        assert_eq!(setting(name), value);
    }
    assert_eq!(setting("MAX_BODY"), "8MiB");
}

#[test]
fn a_node_is_drained_and_activated() {
    let nodes = ["eu1", "eu2"].map(|name| Node::start_named(name, Lavalink::V4, PASSWORD).unwrap());
    let list = nodes.iter().map(|node| format!("{}={}", node.name(), node.address())).collect::<Vec<_>>().join(",");
    let proxy = Proxy::start(&[("LAVALINK_V4_NODES", &list), ("LAVALINK_V4_PORT", ""), ("LAVALINK_V3_HOST", "")]);
    let act = |name: &str, action: &str| {
        let answer = ask(&proxy, "POST", &format!("/api/nodes/{name}/{action}"), "");
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()
    };
    let states = |health: &Value| [0, 1].map(|index| health["nodes"][index]["state"].as_str().unwrap().to_owned());
    let mut bot = proxy.connect();
    assert_eq!(states(&get(&proxy, "/api/health").json()), ["up", "up"]);
    for _ in 0..2 {
        let health = act("eu1", "drain");
        assert_eq!((states(&health), &health["status"]), (["draining", "up"].map(str::to_owned), &json!("ok")));
        assert_eq!(keys(&health), keys(&get(&proxy, "/api/health").json()), "the answer is that of /api/health");
    }
    for _ in 0..4 {
        assert_eq!(bot.get("/v4/info", "").status, 200);
        let row = proxy.stats()["connections"][0].clone();
        assert_eq!((&row["node"], &row["backend"]), (&json!("eu2"), &json!(nodes[1].address().to_string())));
    }
    assert_eq!(states(&act("eu1", "activate")), ["up", "up"]);

    // A node that is down keeps what it was told.
    act("eu1", "drain");
    let [eu1, _eu2] = nodes;
    drop(eu1);
    eventually("it is down", || states(&ask(&proxy, "POST", "/api/health/check", "").json())[0] == "down");
    assert_eq!(get(&proxy, "/api/health").json()["nodes"][0]["draining"], true);
    assert_eq!(act("eu1", "activate")["nodes"][0]["draining"], false);

    for action in ["drain", "activate"] {
        let missing = ask(&proxy, "POST", &format!("/api/nodes/eu3/{action}"), "");
        assert_eq!(missing.status, 404);
        assert!(missing.json()["message"].as_str().unwrap().contains("eu1, eu2"), "{}", missing.text());
        for method in ["GET", "PUT", "DELETE"] {
            let refusal = ask(&proxy, method, &format!("/api/nodes/eu1/{action}"), "");
            assert_eq!((refusal.status, refusal.field("allow")), (405, Some("POST")), "{method}");
        }
        let other_site = "Origin: http://evil.example\r\nContent-Length: 0\r\n";
        assert_eq!(ask(&proxy, "POST", &format!("/api/nodes/eu2/{action}"), other_site).status, 403);
    }
    assert_eq!(get(&proxy, "/api/health").json()["nodes"][1]["draining"], false);
}

#[test]
fn lists_are_filtered_by_address_and_version() {
    let (proxy, _v3, _v4) = before_nodes(&[]);
    let ledger = proxy.server.ledger();
    let _elsewhere = ledger.open("[2001:db8::1]:4000".parse().unwrap(), "proxy");
    let mut bots = (proxy.connect(), proxy.connect());
    assert_eq!(bots.0.get("/v3/info", "").status, 200);
    assert_eq!(bots.1.get("/v4/info", "").status, 200);
    for (target, connections) in [
        ("/api/connections", 3),
        ("/api/connections?", 3),
        ("/api/connections?version=v4", 1),
        ("/api/connections?address=127.0.0.1", 2),
        ("/api/connections?address=127.0.0.1&version=v3", 1),
        ("/api/connections?address=2001:db8::1", 1),
        ("/api/connections?address=2001%3ADB8%3A0%3A%3A1", 1),
        ("/api/connections?address=2001:db8::1&version=v3", 0),
        ("/api/connections?address=10.0.0.1", 0),
        ("/api/data-usage", 2),
        ("/api/data-usage?address=127.0.0.1", 1),
        ("/api/data-usage?address=others", 0),
    ] {
        assert_eq!(get(&proxy, target).json().as_array().unwrap().len(), connections, "{target}");
    }
    let stats = get(&proxy, "/api/stats?address=::ffff:127.0.0.1&version=v4").json();
    assert_eq!(stats["connections"].as_array().unwrap().len(), 1);
    assert_eq!(stats["usage"].as_array().unwrap().len(), 1);
    assert_eq!(stats["totals"]["active"], 3, "totals are of all");
    for target in ["/api/stats?version=5", "/api/connections?address=localhost", "/api/data-usage?address=%zz"] {
        let refusal = get(&proxy, target);
        assert_eq!((refusal.status, &refusal.json()["status"]), (400, &json!(400)), "{target}");
    }
}

#[test]
fn a_window_has_the_rows_that_are_asked_for_and_their_number() {
    let (proxy, _v3, _v4) = before_nodes(&[]);
    let mut bots: Vec<Client> = (0..4).map(|_| proxy.connect()).collect();
    for (number, bot) in bots.iter_mut().enumerate() {
        let version = if number == 0 { "v3" } else { "v4" };
        for _ in 0..=number {
            assert_eq!(bot.get(&format!("/{version}/info"), &format!("Client-Name: Bot/{number}\r\n")).status, 200);
        }
    }
    assert_eq!(bots[3].upgrade("/v4/websocket").status, 101);
    for (query, matched, offset, names) in [
        ("limit=2&sort=-requests", 4, 0, &["test/1", "Bot/2"][..]),
        ("sort=requests&limit=2&offset=1", 4, 1, &["Bot/1", "Bot/2"]),
        ("search=bot/2", 1, 0, &["Bot/2"]),
        ("search=BOT%20127.0.0.1&version=v4&limit=1&sort=clientName", 2, 0, &["Bot/1"]),
        ("kind=websocket&limit=9", 1, 0, &["test/1"]),
        ("limit=0", 4, 0, &[]),
        ("offset=9", 4, 9, &[]),
    ] {
        for path in ["/api/stats", "/api/connections"] {
            let part = get(&proxy, &format!("{path}?{query}")).json();
            assert_eq!((&part["matched"], &part["offset"]), (&json!(matched), &json!(offset)), "{path}?{query}");
            let rows = part["connections"].as_array().unwrap();
            assert_eq!(
                rows.iter().map(|row| row["clientName"].as_str().unwrap()).collect::<Vec<_>>(),
                names,
                "{query}"
            );
        }
    }
    let (whole, part) = (get(&proxy, "/api/stats").json(), get(&proxy, "/api/stats?limit=1").json());
    let others: Vec<_> = keys(&whole).into_iter().filter(|key| *key != "usage").collect();
    assert_eq!(keys(&part).into_iter().filter(|key| !["matched", "offset"].contains(key)).collect::<Vec<_>>(), others);
    assert_eq!(schema(&part["connections"]), schema(&whole["connections"]));
    assert_eq!(part["totals"]["versions"], json!({"v3": 1, "v4": 3}));
    assert_eq!(get(&proxy, "/api/connections?kind=websocket").json().as_array().unwrap().len(), 1, "no window");
    let rest = get(&proxy, "/api/stats?sort=-requests&limit=2&also=1&also=4").json();
    assert_eq!(schema(&rest["also"]), schema(&whole["connections"]));
    assert_eq!(rest["also"].as_array().unwrap().iter().map(|row| &row["clientName"]).collect::<Vec<_>>(), ["Bot/0"]);
    for (query, allowed) in [
        ("kind=udp", "http or websocket"),
        ("sort=name", "clientName"),
        ("limit=-1", "limit is a number"),
        ("offset=", "offset is a number"),
        (&format!("search={}", "x".repeat(201)), "200 bytes"),
    ] {
        for path in ["/api/stats", "/api/connections"] {
            let refusal = get(&proxy, &format!("{path}?{query}"));
            assert_eq!(refusal.status, 400, "{query}");
            assert!(refusal.json()["message"].as_str().unwrap().contains(allowed), "{}", refusal.text());
        }
    }
}

#[test]
fn health_comes_along_with_the_statistics_where_it_is_asked_for() {
    let (proxy, _v3, _v4) = before_nodes(&[]);
    let alone = get(&proxy, "/api/health").json();
    for (query, without) in [("", "/api/stats"), ("limit=0&", "/api/stats?limit=0")] {
        let stats = get(&proxy, &format!("/api/stats?{query}health=true")).json();
        assert_eq!(keys(&stats["health"]), keys(&alone), "{query}");
        assert_eq!(stats["health"]["nodes"][0]["name"], alone["nodes"][0]["name"]);
        let others: Vec<_> = keys(&stats).into_iter().filter(|key| *key != "health").collect();
        assert_eq!(keys(&get(&proxy, without).json()), others);
    }
    assert_eq!(get(&proxy, "/api/stats?health=false").json().get("health"), None);
}

#[test]
fn usage_comes_in_parts_with_what_all_of_it_makes() {
    let proxy = Proxy::start(&[]);
    let ledger = proxy.server.ledger();
    let entries: Vec<_> = [9, 10, 11]
        .map(|host: u8| {
            let entry = ledger.open((std::net::Ipv4Addr::new(10, 0, 0, host), 4000).into(), "proxy");
            let (user_id, client_name) = (format!("{host}"), format!("Bot/{host}"));
            let info = ClientInfo { user_id: user_id.as_bytes(), client_name: client_name.as_bytes(), user_agent: b"" };
            entry.note_request(Some(Lavalink::V4), &"eu1".into(), &"127.0.0.1:1".into(), info);
            let sent = vec![0; usize::from(host)];
            io::copy(&mut Metered::new(&sent[..], entry.meter()), &mut io::sink()).unwrap();
            entry
        })
        .into();
    let all = json!({"rows": 3, "connected": 3, "bytesIn": 30, "bytesOut": 0, "mostBytesIn": 11, "mostBytesOut": 0});
    for (path, list, name, query, matched, rows) in [
        ("/api/data-usage", "usage", "address", "limit=2", 3, &["10.0.0.11", "10.0.0.10"][..]),
        ("/api/data-usage", "usage", "address", "sort=address", 3, &["10.0.0.9", "10.0.0.10", "10.0.0.11"]),
        ("/api/data-usage", "usage", "address", "sort=-bytes&offset=1&limit=1", 3, &["10.0.0.10"]),
        ("/api/data-usage", "usage", "address", "search=0.1&sort=bytesIn", 2, &["10.0.0.10", "10.0.0.11"]),
        ("/api/bots", "bots", "clientName", "sort=clientName&limit=2", 3, &["Bot/9", "Bot/10"]),
        ("/api/bots", "bots", "userId", "search=bot%2011", 1, &["11"]),
    ] {
        let part = get(&proxy, &format!("{path}?{query}")).json();
        let found: Vec<_> = part[list].as_array().unwrap().iter().map(|row| row[name].as_str().unwrap()).collect();
        assert_eq!((&part["matched"], &found[..]), (&json!(matched), rows), "{path}?{query}");
        assert_eq!(part["all"], all, "{path}?{query}");
    }
    assert_eq!(
        schema(&get(&proxy, "/api/data-usage?limit=1").json()["usage"]),
        schema(&get(&proxy, "/api/data-usage").json())
    );
    for (path, name, also) in [
        ("/api/data-usage", "address", "10.0.0.9"),
        ("/api/bots", "userId", "9"),
        ("/api/accounts", "account", "default"),
    ] {
        let part = get(&proxy, &format!("{path}?limit=0&also={also}")).json();
        assert_eq!((&part["also"][0][name], part["also"].as_array().unwrap().len()), (&json!(also), 1), "{path}");
    }
    let accounts = get(&proxy, "/api/accounts?search=default%20active&sort=account").json();
    assert_eq!((&accounts["matched"], &accounts["accounts"][0]["account"]), (&json!(1), &json!("default")));
    for path in ["/api/data-usage", "/api/bots", "/api/accounts"] {
        let refusal = get(&proxy, &format!("{path}?sort=uptime"));
        assert_eq!(refusal.status, 400, "{path}");
        assert!(refusal.json()["message"].as_str().unwrap().contains(", bytes, bytesIn, "), "{}", refusal.text());
    }
    drop(entries);
}

#[test]
fn five_thousand_connections_are_listed() {
    let proxy = Proxy::start(&[]);
    let ledger = proxy.server.ledger();
    let _entries: Vec<_> = (0..5000u32)
        .map(|number| ledger.open((std::net::Ipv4Addr::from(0x0A00_0000 + number), 4000).into(), "proxy"))
        .collect();
    let stats = get(&proxy, "/api/stats");
    assert_eq!(stats.field("content-length").unwrap().parse(), Ok(stats.body.len()));
    let stats = stats.json();
    for list in ["connections", "usage"] {
        assert_eq!(stats[list].as_array().unwrap().len(), 5000);
    }
    assert!(get(&proxy, "/metrics").text().contains("lavaproxy_connections{version=\"none\",kind=\"http\"} 5000"));
}

#[test]
fn every_path_has_its_methods_and_no_answer_is_cached() {
    let proxy = Proxy::start(&[]);
    for path in READ {
        let got = get(&proxy, path);
        assert_eq!((got.status, got.field("cache-control")), (200, Some("no-store")), "{path}");
        let head = ask(&proxy, "HEAD", path, "");
        assert_eq!(head.status, 200, "{path}");
        assert!(head.body.is_empty());
        assert!(head.field("content-length").is_some() && head.field("content-type") == got.field("content-type"));
        for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "BREW"] {
            let refusal = ask(&proxy, method, path, "Content-Length: 0\r\n");
            assert_eq!((refusal.status, refusal.field("allow")), (405, Some("GET, HEAD")), "{method} {path}");
        }
    }
    for method in ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"] {
        let refusal = ask(&proxy, method, "/api/health/check", "");
        assert_eq!((refusal.status, refusal.field("allow")), (405, Some("POST")), "{method}");
    }
    for method in ["TRACE", "CONNECT"] {
        assert!([400, 405].contains(&ask(&proxy, method, "/api/stats", "").status), "{method}");
    }
    for path in ["/api", "/api/", "/api/stats/", "/API/stats", "/metrics/", "/index.html", "/../etc/passwd", "/%2e%2e"]
    {
        for method in ["GET", "POST"] {
            let missing = ask(&proxy, method, path, "");
            assert_eq!((missing.status, missing.field("content-type")), (404, Some("application/json")), "{path}");
            let error = missing.json();
            assert_eq!(keys(&error), ["error", "message", "path", "status"]);
            assert_eq!((&error["status"], &error["path"]), (&json!(404), &json!(path)));
        }
    }
    let refusal = post(&proxy, "/api/health/check", "", "{}");
    assert_eq!((refusal.status, refusal.text().contains("no body is taken here")), (413, true));
}

#[test]
fn other_fields_of_a_browser_change_nothing() {
    let proxy = Proxy::start(&[]);
    let fields = "User-Agent: caf\u{e9} \u{1F3B5}\r\nX-Empty:\r\nExpect: the unexpected\r\nTE: chunked;q=0.5\r\nConnection: upgrade\r\nUpgrade: websocket\r\n";
    assert_eq!(ask(&proxy, "GET", "/api/version", fields).status, 200);
}

#[test]
fn a_page_of_another_site_can_neither_read_nor_act() {
    let proxy = Proxy::start(&[]);
    let here = proxy.listener("web");
    for path in READ.iter().chain(&["/api/health/check", "/nowhere"]) {
        for method in ["GET", "POST", "OPTIONS"] {
            let answer = ask(&proxy, method, path, "Origin: http://evil.example\r\nSec-Fetch-Site: cross-site\r\n");
            assert!(!answer.head.to_ascii_lowercase().contains("access-control-"), "{}", answer.head);
        }
    }
    for (fields, status) in [
        (String::new(), 200),
        (format!("Origin: http://{here}\r\n"), 200),
        (format!("Origin: http://{here}\r\nSec-Fetch-Site: same-origin\r\n"), 200),
        ("Sec-Fetch-Site: none\r\n".to_owned(), 200),
        // A front has changed Host, and the browser knows better.
        ("Origin: https://lava.example\r\nSec-Fetch-Site: same-origin\r\n".to_owned(), 200),
        ("Origin: null\r\n".to_owned(), 403),
        ("Origin: http://evil.example\r\n".to_owned(), 403),
        (format!("Origin: http://evil.example\r\nX: http://{here}\r\n"), 403),
        (format!("Origin: http://localhost:{}\r\n", here.port()), 403),
        ("Sec-Fetch-Site: cross-site\r\n".to_owned(), 403),
        ("Sec-Fetch-Site: same-site\r\n".to_owned(), 403),
    ] {
        let answer = ask(&proxy, "POST", "/api/health/check", &format!("{fields}Content-Length: 0\r\n"));
        assert_eq!(answer.status, status, "{fields}");
    }
}

#[test]
fn on_loopback_only_names_of_loopback_are_answered() {
    let proxy = Proxy::start(&[]);
    let port = proxy.listener("web").port();
    for host in ["localhost", "127.0.0.1", "[::1]", "127.0.0.53"] {
        for host in [host.to_owned(), format!("{host}:{port}"), format!("{host}:8080")] {
            assert_eq!(ask(&proxy, "GET", "/api/stats", &format!("Host: {host}\r\n")).status, 200, "{host}");
        }
    }
    for host in ["evil.example", "localhost.evil.example", "10.0.0.1", "lavaproxy", "[::2]:1"] {
        for path in ["/", "/api/stats", "/metrics", "/nowhere"] {
            let answer = ask(&proxy, "GET", path, &format!("Host: {host}\r\n"));
            assert_eq!(answer.status, 421, "{host}");
            assert!(answer.text().contains("WEB_HOST"), "{}", answer.text());
        }
        // It shows no figure, and orchestrators request it under names of their own.
        assert_eq!(ask(&proxy, "GET", "/healthz", &format!("Host: {host}\r\n")).status, 200);
    }
}

#[test]
fn a_wrong_password_is_answered_late_and_the_right_one_at_once() {
    let proxy = Proxy::start(&[("WEB_PASSWORD", WEB_PASSWORD)]);
    assert_eq!(get(&proxy, "/healthz").text(), "ok");
    for path in READ.iter().filter(|path| **path != "/healthz") {
        let refusal = get(&proxy, path);
        assert_eq!(refusal.status, 401, "{path}");
        assert!(refusal.field("www-authenticate").unwrap().starts_with("Basic realm="));
        assert!(!refusal.text().contains(WEB_PASSWORD));
    }
    let listener = proxy.listener("web");
    let guesser = || {
        thread::spawn(move || {
            let started = Instant::now();
            let refusal = ask_at(listener, "GET", "/api/stats", "Authorization: Basic YWRtaW46d3Jvbmc=\r\n");
            (refusal.status, refusal.field("www-authenticate").is_some(), started.elapsed())
        })
    };
    let guessers: Vec<_> = (0..24).map(|_| guesser()).collect();
    let started = Instant::now();
    for _ in 0..10 {
        assert_eq!(ask(&proxy, "GET", "/api/stats", BASIC).status, 200);
    }
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    for guesser in guessers {
        let (status, challenge, time) = guesser.join().unwrap();
        assert_eq!((status, challenge), (401, true));
        assert!(time >= Duration::from_millis(900), "{time:?}");
    }
}

#[test]
fn every_error_under_api_is_json() {
    let proxy = Proxy::start(&[]);
    let locked = Proxy::start(&[("WEB_PASSWORD", WEB_PASSWORD)]);
    for (proxy, method, target, fields, status) in [
        (&proxy, "GET", "/api/nothing", "", 404),
        (&proxy, "DELETE", "/api/stats", "", 405),
        (&proxy, "TRACE", "/api/stats", "", 405),
        (&proxy, "GET", "/api/health/check", "", 405),
        (&proxy, "GET", "/api/stats?version=5", "", 400),
        (&proxy, "GET", "/api/stats", "Host: evil.example\r\n", 421),
        (&proxy, "POST", "/api/health/check", "Origin: http://evil.example\r\nContent-Length: 0\r\n", 403),
        (&proxy, "POST", "/api/health/check", "Content-Length: 4097\r\n", 413),
        (&locked, "GET", "/api/stats", "", 401),
    ] {
        let answer = ask(proxy, method, target, fields);
        assert_eq!((answer.status, answer.field("content-type")), (status, Some("application/json")), "{target}");
        assert_eq!(answer.json()["status"], status, "{method} {target}");
    }
}
