//! The listeners: which version a bot gets at each proxy listener, what the web listener serves, and that neither
//! shows a secret.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/logged.rs"]
mod logged;
mod support;

use std::thread;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use logged::lines;
use serde_json::Value;
use support::*;

fn named(name: &str) -> Backend {
    Backend::answering(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{name}", name.len()))
}

/// The name of the backend that answers each of these requests, on one connection to this listener.
fn answers(proxy: &Proxy, listener: &str, requests: &[(&str, &str)]) -> Vec<String> {
    let mut client = Client::connect(proxy.listener(listener));
    requests.iter().map(|(target, fields)| client.get(target, fields).text()).collect()
}

#[test]
fn a_request_that_names_no_version_gets_that_of_its_listener() {
    let (v3, v4) = (named("three"), named("four"));
    let pinned = [("PROXY_V3_PORT", "0"), ("PROXY_V4_PORT", "0")];
    for (set, expected) in
        [(vec![], "three"), (vec![("DEFAULT_VERSION", "v3")], "three"), (vec![("DEFAULT_VERSION", "v4")], "four")]
    {
        let proxy = Proxy::before(v3.address, v4.address, &[&pinned[..], &set].concat());
        for target in ["/version", "/", "/loadtracks?identifier=/v3/v4/", "/v33/v44", "/V3/V4", "/xv3"] {
            for (listener, expected) in [("proxy", expected), ("proxy-v3", "three"), ("proxy-v4", "four")] {
                assert_eq!(answers(&proxy, listener, &[(target, "")]), [expected], "{listener} {target}");
            }
        }
    }
    // With one version there is nothing to choose.
    let proxy = Proxy::before(v3.address, v4.address, &[("LAVALINK_V3_HOST", "")]);
    assert_eq!(answers(&proxy, "proxy", &[("/version", "")]), ["four"]);
    let proxy = Proxy::before(v3.address, v4.address, &[("LAVALINK_V4_HOST", "")]);
    assert_eq!(answers(&proxy, "proxy", &[("/version", "")]), ["three"]);
}

#[test]
fn the_version_comes_from_path_then_field_then_connection_then_listener() {
    let (v3, v4) = (named("three"), named("four"));
    let proxy = Proxy::before(v3.address, v4.address, &[("PROXY_V3_PORT", "0"), ("PROXY_V4_PORT", "0")]);
    let requests = [
        ("/v4", ""),
        ("/version", ""),
        ("/v3/info", "Lavalink-Version: 4\r\n"),
        ("/version", ""),
        ("/version", "Lavalink-Version: 4\r\n"),
        ("/version", ""),
        ("/version", "lavalink-version: v3\r\n"),
        ("/version", "Lavalink-Version: 5\r\n"),
        ("/version", "Lavalink-Version: v4\r\n"),
        ("/version", "Lavalink-Version:\r\n"),
        ("/plugin/v3", "Lavalink-Version: 4\r\n"),
        ("/version?/v4/", ""),
    ];
    let expected =
        ["four", "four", "three", "three", "four", "four", "three", "three", "four", "four", "three", "three"];
    for listener in ["proxy", "proxy-v3", "proxy-v4"] {
        assert_eq!(answers(&proxy, listener, &requests), expected, "{listener}");
    }
    // What one connection used says nothing of another.
    let mut one = Client::connect(proxy.listener("proxy"));
    let mut two = Client::connect(proxy.listener("proxy"));
    assert_eq!(one.get("/v4/info", "").text(), "four");
    assert_eq!((two.get("/version", "").text(), one.get("/version", "").text()), ("three".into(), "four".into()));
}

#[test]
fn what_a_client_of_a_front_used_says_nothing_of_the_next_one() {
    let (v3, v4) = (named("three"), named("four"));
    let proxy = Proxy::before(v3.address, v4.address, &[("TRUSTED_PROXIES", "127.0.0.1")]);
    let requests = [
        ("/v4/info", "X-Forwarded-For: 203.0.113.7\r\n"),
        ("/loadtracks?identifier=x", "X-Forwarded-For: 203.0.113.8\r\n"),
        ("/loadtracks?identifier=x", "X-Forwarded-For: 203.0.113.7\r\n"),
    ];
    assert_eq!(answers(&proxy, "proxy", &requests), ["four", "three", "three"]);
}

#[test]
fn a_version_that_is_off_is_a_503_that_says_what_to_set() {
    let backend = named("other");
    for (off, listener, target, other, setting) in [
        ("LAVALINK_V3_HOST", "proxy-v4", "/v3/info", "/v4/info", "LAVALINK_V3_HOST"),
        ("LAVALINK_V4_HOST", "proxy-v3", "/v4/info", "/v3/info", "LAVALINK_V4_HOST"),
    ] {
        let port = if listener == "proxy-v4" { "PROXY_V4_PORT" } else { "PROXY_V3_PORT" };
        let proxy = Proxy::before(backend.address, backend.address, &[(off, ""), (port, "0")]);
        for listener in ["proxy", listener] {
            let mut client = Client::connect(proxy.listener(listener));
            for _ in 0..2 {
                let refusal = client.get(target, "");
                let error = refusal.json();
                assert_eq!((refusal.status, error["status"].as_u64()), (503, Some(503)), "{listener} {target}");
                let message = error["message"].as_str().unwrap();
                assert!(message.contains(setting) && message.contains("use the other version"), "{message}");
                assert_eq!(error["path"], target);
                assert_eq!(client.get(other, "").text(), "other");
            }
            let field = format!("Lavalink-Version: {}\r\n", &target[2..3]);
            assert_eq!(client.get("/version", &field).status, 503);
            // A handshake as well.
            assert_eq!(client.get(target, HANDSHAKE).status, 503);
            // Without the password the answer does not show it.
            client.send(format!("GET {target} HTTP/1.1\r\nHost: bot\r\n\r\n").as_bytes());
            assert_eq!(client.response().status, 401);
        }
    }
}

const WEB: &str = "Host: localhost\r\n";

fn basic(pair: &str) -> String {
    format!("Authorization: Basic {}\r\n", STANDARD.encode(pair))
}

fn web(proxy: &Proxy, method: &str, target: &str, fields: &str) -> Response {
    let mut client = Client::connect(proxy.listener("web"));
    client.send(format!("{method} {target} HTTP/1.1\r\n{WEB}{fields}\r\n").as_bytes());
    client.response_to(method)
}

const PAGES: [(&str, &str, &str); 6] = [
    ("/", "text/html; charset=utf-8", include_str!("../static/index.html")),
    ("/health", "text/html; charset=utf-8", include_str!("../static/health.html")),
    ("/data-usage", "text/html; charset=utf-8", include_str!("../static/data-usage.html")),
    ("/lavaproxy.css", "text/css; charset=utf-8", include_str!("../static/lavaproxy.css")),
    ("/icon.svg", "image/svg+xml", include_str!("../static/icon.svg")),
    ("/js/connections.js", "text/javascript; charset=utf-8", include_str!("../static/js/connections.js")),
];
const API: [&str; 4] = ["/api/stats", "/api/connections", "/api/data-usage", "/api/version"];

#[test]
fn the_pages_are_served_whole_and_to_head_without_a_body() {
    let proxy = Proxy::start(&[]);
    // Many on one connection, with and without their bodies.
    let mut client = Client::connect(proxy.listener("web"));
    let pages = PAGES.map(|(target, kind, text)| (target, kind, Some(text)));
    for (target, kind, text) in pages.into_iter().chain(API.map(|target| (target, "application/json", None))) {
        for query in ["", "?x=/api/stats"] {
            client.send(format!("HEAD {target}{query} HTTP/1.1\r\n{WEB}\r\n").as_bytes());
            client.send(format!("GET {target}{query} HTTP/1.1\r\n{WEB}\r\n").as_bytes());
            let (head, whole) = (client.response_to("HEAD"), client.response());
            for response in [&head, &whole] {
                assert_eq!((response.status, response.field("content-type")), (200, Some(kind)), "{target}");
                assert_eq!(response.field("cache-control"), Some("no-store"), "{target}");
                assert_eq!(response.field("x-content-type-options"), Some("nosniff"), "{target}");
                assert!(response.field("content-security-policy").unwrap().contains("default-src 'none'"), "{target}");
            }
            match text {
                Some(text) => {
                    assert_eq!(whole.text(), text, "{target}");
                    assert_eq!(head.field("content-length"), Some(text.len().to_string().as_str()), "{target}");
                }
                None => assert!(whole.text().ends_with('\n') && !whole.json().is_null(), "{target}"),
            }
        }
    }
}

#[test]
fn every_web_request_needs_the_password() {
    let proxy = Proxy::start(&[("WEB_PASSWORD", "se:cret"), ("PROXY_PASSWORD", "front")]);
    let good = basic("anyone:se:cret");
    let pages = PAGES.map(|(target, ..)| target);
    for target in pages.iter().chain(&API).chain(&["/nothing"]) {
        assert_eq!(web(&proxy, "GET", target, "").status, 401, "{target}");
        assert_ne!(web(&proxy, "GET", target, &good).status, 401, "{target}");
    }
    // A failure is answered late, so each kind is tried at one path.
    let wrong = [
        "",
        &basic("anyone:wrong"),
        &basic("se:cret"),
        &basic("anyone:front"),
        "Authorization: se:cret\r\n",
        "Authorization: front\r\n",
        "Authorization: Bearer se:cret\r\n",
    ];
    let check = |method, fields| {
        let refusal = web(&proxy, method, "/api/stats", fields);
        assert_eq!(refusal.status, 401, "{method} {fields}");
        let challenge = refusal.field("www-authenticate").unwrap();
        assert!(challenge.starts_with("Basic realm="), "{challenge}");
        assert_eq!(refusal.field("content-type"), Some("application/json"));
        assert!(method == "HEAD" || refusal.text().contains("WEB_PASSWORD"), "{refusal:?}");
    };
    // At the same time, since each is answered late.
    thread::scope(|scope| {
        for fields in wrong {
            scope.spawn(move || check("GET", fields));
            scope.spawn(move || check("HEAD", fields));
        }
    });
    // Not only the first of a connection.
    let mut client = Client::connect(proxy.listener("web"));
    for (fields, status) in [("", 401), (good.as_str(), 200), ("", 401), (good.as_str(), 200)] {
        client.send(format!("GET /api/stats HTTP/1.1\r\n{WEB}{fields}\r\n").as_bytes());
        assert_eq!(client.response().status, status);
    }
    // The password of one listener is refused at the other.
    let mut bot = proxy.connect();
    for fields in [good.as_str(), "Authorization: se:cret\r\n", &basic("x:front")] {
        bot.send(format!("GET /v4/info HTTP/1.1\r\nHost: bot\r\n{fields}\r\n").as_bytes());
        let refusal = bot.response();
        assert_eq!((refusal.status, refusal.field("www-authenticate")), (403, None), "{fields}");
    }
}

#[test]
fn the_web_listener_refuses_other_methods_and_unknown_paths() {
    let proxy = Proxy::start(&[]);
    for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "get"] {
        let target = if method == "CONNECT" { "localhost:80" } else { "/api/stats" };
        let refusal = web(&proxy, method, target, "Content-Length: 0\r\n");
        // Refused by the listener, which allows POST and DELETE for some paths, or by the path, which does not.
        let allow = if matches!(method, "TRACE" | "CONNECT") { "GET, HEAD, POST, DELETE" } else { "GET, HEAD" };
        assert_eq!((refusal.status, refusal.field("allow")), (405, Some(allow)), "{method}");
    }
    for target in
        ["/nothing", "/api", "/api/", "/api/stats/", "/API/stats", "/../etc/passwd", "/index.html", "//", "/v4/info"]
    {
        let answer = web(&proxy, "GET", &format!("{target}?x=y"), "");
        let error = answer.json();
        assert_eq!((answer.status, answer.field("content-type")), (404, Some("application/json")), "{target}");
        assert_eq!((error["status"].as_u64(), error["error"].as_str()), (Some(404), Some("Not Found")), "{target}");
        assert_eq!(error["path"], target);
        assert!(error["message"].as_str().unwrap().contains("/api/stats"), "{error}");
    }
    // Nothing upgrades here, and no version of Lavalink is behind it.
    assert_eq!(web(&proxy, "GET", "/", HANDSHAKE).status, 200);
    assert_eq!(web(&proxy, "GET", "/version", "Lavalink-Version: 4\r\n").status, 404);
}

#[test]
fn dangerous_requests_do_not_reach_the_monitor() {
    let proxy = Proxy::start(&[]);
    for (request, status) in [
        (format!("GET / HTTP/1.1\r\n{WEB}Content-Length: 999999999999999\r\n\r\n"), 413),
        (format!("GET / HTTP/1.1\r\n{WEB}Content-Length: 1025\r\n\r\n"), 413),
        (format!("GET / HTTP/2.0\r\n{WEB}\r\n"), 505),
        (format!("GET / HTTP/1.1\r\n{WEB}Transfer-Encoding: xchunked\r\n\r\n"), 501),
        (format!("GET / HTTP/1.1\r\n{WEB}Content-Length: 1\r\nContent-Length: 2\r\n\r\n"), 400),
        (format!("GET / HTTP/1.1\r\n{WEB}Expect: 100-continue\r\nContent-Length: 2000\r\n\r\n"), 413),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(), 505),
        ("\x16\x03\x01\x02\0\x01".to_owned(), 400),
        (format!("GET /{} HTTP/1.1\r\n{WEB}\r\n", "x".repeat(9000)), 414),
    ] {
        let mut client = Client::connect(proxy.listener("web"));
        client.send(request.as_bytes());
        let refusal = client.response();
        assert_eq!((refusal.status, refusal.closes()), (status, true), "{request}");
        assert_eq!(refusal.field("content-type"), Some("text/plain; charset=utf-8"), "{request}");
        assert!(client.is_at_end(), "{request}");
    }
    assert_eq!(web(&proxy, "GET", "/api/stats", "").status, 200);
}

fn fields(value: &Value) -> Vec<&str> {
    value.as_object().unwrap_or_else(|| panic!("{value}")).keys().map(String::as_str).collect()
}

fn sorted<const N: usize>(mut names: [&str; N]) -> [&str; N] {
    names.sort_unstable();
    names
}

#[test]
fn the_stats_have_the_documented_fields_and_no_others() {
    let v3 = named("three");
    let v4 = Backend::start(|mut client, _| {
        client.next_request();
        client.send(SWITCHING).echo();
    });
    let proxy = Proxy::before(v3.address, v4.address, &[]);
    let mut http = proxy.connect();
    http.get("/v3/info", "User-Agent: agent/1\r\n");
    let mut socket = proxy.connect();
    assert_eq!(socket.upgrade("/v4/websocket").status, 101);
    eventually("the tunnel is counted", || proxy.stats()["totals"]["websockets"] == 1);

    let stats = proxy.stats();
    let mut top = fields(&stats);
    top.sort_unstable();
    let names = ["version", "startedAt", "since", "now", "uptime", "totals", "connections", "usage", "ended"];
    assert_eq!(top, sorted(names));
    let rates = ["bytesIn", "bytesOut", "rateIn", "rateOut"];
    let check = |value: &Value, names: &[&str]| {
        let mut found = fields(value);
        let mut names = [names, &rates].concat();
        found.sort_unstable();
        names.sort_unstable();
        assert_eq!(found, names);
        for name in rates {
            assert!(value[name].is_u64(), "{name}: {value}");
        }
    };
    check(&stats["totals"], &["active", "websockets", "connections", "requests", "versions"]);
    let names = ["id", "client", "address", "backend", "version", "kind", "node", "connectedAt", "uptime"];
    let more = ["requests", "userId", "clientName", "userAgent", "takeovers", "takingOver"];
    for row in stats["connections"].as_array().unwrap() {
        check(row, &[&names[..], &more].concat());
    }
    check(&stats["usage"][0], &["address", "active", "connections", "requests", "lastSeen"]);
    assert!(stats["ended"].as_object().unwrap().contains_key("client-closed"));
    assert!(stats["ended"].as_object().unwrap().values().all(Value::is_u64));

    let (now, started) = (stats["now"].as_u64().unwrap(), stats["startedAt"].as_u64().unwrap());
    assert!(started > 1_700_000_000_000 && now >= started && stats["uptime"].as_u64().unwrap() < 120_000);
    assert_eq!(stats["version"], env!("CARGO_PKG_VERSION"));
    let rows = &stats["connections"];
    assert_eq!((&rows[0]["kind"], &rows[1]["kind"]), (&"http".into(), &"websocket".into()));
    assert_eq!((&rows[0]["version"], &rows[1]["version"]), (&"v3".into(), &"v4".into()));
    assert_eq!(rows[0]["backend"], v3.address.to_string());
    assert_eq!(rows[0]["client"], http.stream.local_addr().unwrap().to_string());
    assert_eq!((&rows[0]["address"], &rows[0]["userAgent"]), (&"127.0.0.1".into(), &"agent/1".into()));
    assert_eq!((&rows[1]["userId"], &rows[1]["clientName"]), (&"42".into(), &"test/1".into()));
    assert_eq!((&stats["usage"][0]["active"], &stats["totals"]["active"]), (&2.into(), &2.into()));

    // The slices are the same rows; requests at the web listener are not in the ledger.
    let slice = |target: &str| web(&proxy, "GET", target, "").json();
    assert_eq!(slice("/api/connections")[1]["id"], rows[1]["id"]);
    check(&slice("/api/connections")[0], &[&names[..], &more].concat());
    check(&slice("/api/data-usage")[0], &["address", "active", "connections", "requests", "lastSeen"]);
    assert_eq!(slice("/api/version")["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(proxy.stats()["totals"]["connections"], 2);
}

#[test]
fn no_answer_and_no_log_line_of_either_listener_holds_a_secret() {
    lines();
    let secrets = ["Hush-front", "Hush-three", "Hush-four", "Hush-web"];
    let backend = Backend::start(|mut client, _| {
        while let Some(request) = client.next_request() {
            let text = String::from_utf8_lossy(&request).into_owned();
            match text.split(' ').nth(1).unwrap() {
                "/v4/ok" => drop(client.send(OK)),
                "/v4/bad" => drop(client.send(b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n")),
                "/v4/silent" => drop(client.rest_or_error()),
                "/v4/websocket" => return client.send(SWITCHING).echo(),
                _ => return,
            }
        }
    });
    let port = backend.address.port().to_string();
    let set = [
        ("LAVALINK_V4_PORT", port.as_str()),
        ("PROXY_PASSWORD", secrets[0]),
        ("LAVALINK_V3_PASSWORD", secrets[1]),
        ("LAVALINK_V4_PASSWORD", secrets[2]),
        ("WEB_PASSWORD", secrets[3]),
        ("RESPONSE_TIMEOUT", "300ms"),
        ("HEAD_TIMEOUT", "300ms"),
        ("MAX_BODY", "1KiB"),
    ];
    let proxy = Proxy::start(&set);
    let bot = |line: &str, rest: &str| format!("{line}\r\nHost: bot\r\nAuthorization: {}\r\n{rest}", secrets[0]);
    let web = |line: &str, rest: &str| format!("{line}\r\nHost: localhost\r\n{}{rest}", basic("me:Hush-web"));
    let long = "x".repeat(9000);
    let query = "?password=Hush-front&pass=Hush-web";
    let mut everything = Vec::new();
    for (listener, request, status) in [
        ("proxy", bot("GET /v4/ok HTTP/1.1", "\r\n"), 200),
        ("proxy", bot(&format!("GET /v3/info{query} HTTP/1.1"), "\r\n"), 502),
        ("proxy", bot(&format!("GET /v4/closes{query} HTTP/1.1"), "\r\n"), 502),
        ("proxy", bot("GET /v4/bad HTTP/1.1", "\r\n"), 502),
        ("proxy", bot("GET /v4/silent HTTP/1.1", "\r\n"), 504),
        ("proxy", bot("GET /v4/websocket HTTP/1.1", &format!("{HANDSHAKE}\r\n")), 101),
        ("proxy", format!("GET /v4/ok{query} HTTP/1.1\r\nHost: bot\r\n\r\n"), 401),
        ("proxy", bot("GET /v4/ok HTTP/1.1", "\r\n").replace("front", "four"), 403),
        ("proxy", bot("GET /v4/ok HTTP/1.1", "Authorization: Hush-front\r\n\r\n"), 400),
        ("proxy", bot("GET /v4/ok HTTP/1.1", "Authorization Hush-front\r\n\r\n"), 400),
        ("proxy", bot("TRACE /v4/ok HTTP/1.1", "\r\n"), 405),
        ("proxy", bot("GET /v4/ok HTTP/1.1", ""), 408),
        ("proxy", bot("POST /v4/ok HTTP/1.1", "Content-Length: 5\r\n\r\n"), 408),
        ("proxy", bot("POST /v4/ok HTTP/1.1", "Content-Length: 5000\r\n\r\n"), 413),
        ("proxy", bot(&format!("GET /{long} HTTP/1.1"), "\r\n"), 414),
        ("proxy", bot("GET /v4/ok HTTP/1.1", &format!("X: {long}\r\n\r\n")), 431),
        ("proxy", bot("GET /v4/ok HTTP/1.1", "Transfer-Encoding: gzip\r\n\r\n"), 501),
        ("proxy", bot("GET /v4/ok HTTP/2.0", "\r\n"), 505),
        ("web", web("GET / HTTP/1.1", "\r\n"), 200),
        ("web", web("GET /health HTTP/1.1", "\r\n"), 200),
        ("web", web("GET /js/connections.js HTTP/1.1", "\r\n"), 200),
        ("web", web("GET /api/stats HTTP/1.1", "\r\n"), 200),
        ("web", web("GET /api/connections HTTP/1.1", "\r\n"), 200),
        ("web", web("GET /api/version HTTP/1.1", "\r\n"), 200),
        ("web", web(&format!("GET /api/nothing{query} HTTP/1.1"), "\r\n"), 404),
        ("web", web("POST /api/stats HTTP/1.1", "\r\n"), 405),
        ("web", format!("GET /api/stats{query} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Hush-web\r\n\r\n"), 401),
        ("web", web("GET / HTTP/1.1", &basic("me:Hush-web")) + "\r\n", 400),
    ] {
        let mut client = Client::connect(proxy.listener(listener));
        client.send(request.as_bytes());
        let response = client.response();
        assert_eq!(response.status, status, "{listener} {request}");
        everything.push(format!("{}{}", response.head, response.text()));
    }
    let has_detail = |line: &&String| line.contains("event=ended") && line.contains("detail=");
    eventually("each refusal is logged", || lines().iter().filter(has_detail).count() >= 19);
    drop(proxy);
    let lines = lines();
    for text in everything.iter().chain(&lines) {
        assert!(!text.contains("Hush-"), "{text}");
        assert!(!text.contains(&STANDARD.encode("me:Hush-web")) && !text.contains(&STANDARD.encode("Hus")), "{text}");
    }
}
