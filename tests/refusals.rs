//! The answers that the proxy gives itself: without a body to HEAD, as JSON under /api, and with what is wrong and who
//! can mend it where a node refuses the proxy's password or a bot speaks a version that is off.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/logged.rs"]
mod logged;
mod support;
#[path = "support/web.rs"]
mod web;

use logged::logged;
use support::*;
use web::{BASIC, WEB_PASSWORD};

/// Requests that are refused for their head, with `METHOD` for the method, and the status.
fn refused_heads() -> Vec<(String, u16)> {
    let head = "METHOD /v4/info HTTP/1.1\r\nHost: bot\r\n";
    vec![
        (format!("{head}A : b\r\n\r\n"), 400),
        ("METHOD /v4/info HTTP/1.1\r\nA: b\r\n\r\n".to_owned(), 400),
        (format!("{head}Host: other\r\n\r\n"), 400),
        (format!("{head}A: b\nB: c\r\n\r\n"), 400),
        (format!("{head}A: \x01\r\n\r\n"), 400),
        (format!("{head}Content-Length: x\r\n\r\n"), 400),
        ("METHOD /v4/info#x HTTP/1.1\r\nHost: bot\r\n\r\n".to_owned(), 400),
        ("METHOD /v4/info\r\nHost: bot\r\n\r\n".to_owned(), 400),
        ("METHOD /v4/info HTTP/2.0\r\nHost: bot\r\n\r\n".to_owned(), 505),
        ("METHOD /v4/info HTTP/1.7\r\nHost: bot\r\n\r\n".to_owned(), 505),
        (format!("METHOD /{} HTTP/1.1\r\nHost: bot\r\n\r\n", "x".repeat(9000)), 414),
        (format!("METHOD /{}", "x".repeat(20_000)), 414),
        (format!("{head}{}\r\n", "A: b\r\n".repeat(100)), 431),
        (format!("{head}A: {}\r\n\r\n", "x".repeat(20_000)), 431),
        (format!("{head}Transfer-Encoding: gzip\r\n\r\n"), 501),
        (format!("\r\n{head}\r\n"), 400),
    ]
}

#[test]
fn a_head_request_that_is_refused_gets_the_status_of_a_get_and_no_body() {
    let backend = Backend::answering(OK);
    let proxy = Proxy::before(backend.address, backend.address, &[]);
    for listener in ["proxy", "web"] {
        for (request, status) in refused_heads() {
            let case = format!("{listener} {}", request[..request.len().min(80)].escape_debug());
            let mut get = Client::connect(proxy.listener(listener));
            get.send(request.replace("METHOD", "GET").as_bytes());
            let get = get.response();
            assert_eq!((get.status, get.body.is_empty()), (status, false), "{case}");
            let mut head = Client::connect(proxy.listener(listener));
            head.send(request.replace("METHOD", "HEAD").as_bytes());
            let answer = head.response_to("HEAD");
            assert_eq!((answer.status, answer.closes()), (status, true), "{case}");
            assert!(answer.field("content-length").unwrap().parse::<usize>().unwrap() > 0, "{case}");
            assert_eq!(head.rest_or_error(), (Vec::new(), None), "{case}");
        }
    }
}

#[test]
fn a_head_request_over_the_forwarded_limit_and_one_that_is_not_complete_get_no_body() {
    let backend = Backend::answering(OK);
    let proxy = Proxy::before(backend.address, backend.address, &[("HEAD_TIMEOUT", "200ms")]);
    let long = format!("HEAD /v4/info HTTP/1.1\r\nHost: bot\r\nAuthorization: DevamOP\r\nA: {}\r\n", "x".repeat(8_193));
    for (listener, request, status) in [
        ("proxy", format!("{long}Connection: close\r\n\r\n"), 431),
        ("proxy", "HEAD /v4/info HTTP/1.1\r\nHost: bot\r\n".to_owned(), 408),
        ("web", "HEAD /api/stats HTTP/1.1\r\nHost: bot\r\n".to_owned(), 408),
        ("web", "HEAD".to_owned(), 408),
        ("web", "HEAD /api/none HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".to_owned(), 404),
        ("web", "HEAD /api/stats HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\n".to_owned(), 413),
    ] {
        let mut client = Client::connect(proxy.listener(listener));
        client.send(request.as_bytes());
        assert_eq!(client.response_to("HEAD").status, status, "{request}");
        assert_eq!(client.rest_or_error(), (Vec::new(), None), "{request}");
    }
    // The client's own end before the head's.
    let mut client = proxy.connect();
    client.send(b"HEAD /v4/info HTTP/1.1\r\n").half_close();
    assert_eq!(client.response_to("HEAD").status, 400);
    assert_eq!(client.rest_or_error(), (Vec::new(), None));
}

#[test]
fn every_error_under_api_is_json_and_pages_get_text() {
    let open = Proxy::start(&[("HEAD_TIMEOUT", "200ms")]);
    let closed = Proxy::start(&[("WEB_PASSWORD", WEB_PASSWORD)]);
    let head = |line: &str, fields: &str| format!("{line} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n");
    for (proxy, request, status, path) in [
        (&open, head("POST /api/health/check", "Content-Length: 2\r\n") + "{}", 413, "/api/health/check"),
        (&open, head("GET /api/stats", "Transfer-Encoding: chunked\r\n") + "1\r\nx\r\n0\r\n\r\n", 413, "/api/stats"),
        (&open, head("POST /api/bans", "Content-Length: 4097\r\n"), 413, "/api/bans"),
        (&open, head("POST /api/bans", "Content-Length: 2\r\n") + "{}", 400, "/api/bans"),
        (&open, head("DELETE /api/bans/10.0.0.1", "Content-Length: 2\r\n") + "{}", 413, "/api/bans/10.0.0.1"),
        (&open, head("TRACE /api/stats?x=1", ""), 405, "/api/stats"),
        (&open, head("PUT /api/stats", ""), 405, "/api/stats"),
        (&open, head("GET /api/health/check", ""), 405, "/api/health/check"),
        (&open, head("POST /api/health/check", "Origin: http://evil.example\r\n"), 403, "/api/health/check"),
        (&open, head("GET /api/none", ""), 404, "/api/none"),
        (&open, head("GET /api", ""), 404, "/api"),
        (&open, head("GET /api/", ""), 404, "/api/"),
        (&open, head("GET /api/stats?version=5", ""), 400, "/api/stats"),
        (&open, head("GET /api/stats", "").replace("localhost", "evil.example"), 421, "/api/stats"),
        (&open, head("GET /api/stats", "A : b\r\n"), 400, "/api/stats"),
        (&open, head("GET /api/stats", "Transfer-Encoding: gzip\r\n"), 501, "/api/stats"),
        (&open, head("GET /api/stats", "").replace("HTTP/1.1", "HTTP/2.0"), 505, "/api/stats"),
        (&open, head("GET /api/stats", &format!("A: {}\r\n", "x".repeat(20_000))), 431, "/api/stats"),
        (&open, "GET /api/stats HTTP/1.1\r\n".to_owned(), 408, "/api/stats"),
        (&closed, head("GET /api/stats", ""), 401, "/api/stats"),
        (&closed, head("GET /api/none", ""), 401, "/api/none"),
        (&closed, head("GET /api", ""), 401, "/api"),
        (&closed, head("POST /api/health/check", "Content-Length: 2\r\n") + "{}", 401, "/api/health/check"),
        (&closed, head("GET /api/stats", &BASIC.replace("YWRtaW46", "YWRtaW47")), 401, "/api/stats"),
    ] {
        let case = request[..request.len().min(100)].escape_debug().to_string();
        let mut client = Client::connect(proxy.listener("web"));
        client.send(request.as_bytes());
        let response = client.response();
        assert_eq!(response.status, status, "{case}: {}", response.text());
        assert_eq!(response.field("content-type"), Some("application/json"), "{case}");
        let error = response.json();
        assert_eq!((&error["status"], &error["path"]), (&status.into(), &path.into()), "{case}: {error}");
        assert!(error["error"].is_string() && error["message"].is_string(), "{case}: {error}");
        assert_eq!(error.as_object().unwrap().len(), 4, "{case}: {error}");
    }
    for (proxy, request, status) in [
        (&open, head("TRACE /health", ""), 405),
        (&open, head("GET /", "Content-Length: 2\r\n") + "{}", 413),
        (&open, head("GET /apiary", "A : b\r\n"), 400),
        (&open, "GET /".to_owned(), 408),
        (&closed, head("GET /", ""), 401),
        (&closed, head("GET /metrics?/api/", ""), 401),
    ] {
        let mut client = Client::connect(proxy.listener("web"));
        client.send(request.as_bytes());
        let response = client.response();
        assert_eq!(response.status, status, "{request}");
        assert_eq!(response.field("content-type"), Some("text/plain; charset=utf-8"), "{request}");
        assert!(response.text().starts_with(&format!("{status} ")), "{}", response.text());
    }
}

/// A node that wants another password, and refuses in Lavalink's way: 401 to a handshake, 403 to anything else.
fn refusing() -> Backend {
    Backend::start(|mut client, _| {
        while let Some(request) = client.next_request() {
            let request = String::from_utf8_lossy(&request).into_owned();
            client.send(match request.split(' ').nth(1).unwrap() {
                "/v4/plugin" => b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno",
                "/v4/chunked" => b"HTTP/1.1 401 Unauthorized\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n",
                "/v4/origin" => b"HTTP/1.1 403 Forbidden\r\nSession-Resumed: false\r\nContent-Length: 0\r\n\r\n",
                "/v4/404" => b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
                "/v3/none" => b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n",
                _ if request.contains("\r\nUpgrade: ") => b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n",
                _ => &b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"[..],
            });
        }
    })
}

/// One test, as it counts lines of the log that the whole process writes to.
#[test]
fn a_node_that_refuses_the_proxys_password_is_the_operators_matter() {
    logged(&[]);
    let node = refusing();
    let lines = |port: u16, setting: &str| {
        let (backend, setting) = (format!(":{port} "), format!("setting={setting} "));
        logged(&["event=password-refused", &backend, &setting, "application.yml"])
    };

    // The prober alone finds it out.
    let port = node.address.port();
    let set = [("LAVALINK_V4_PASSWORD", "a secret"), ("LAVALINK_V3_PASSWORD", "another secret")];
    let proxy = Proxy::before(node.address, node.address, &set);
    assert_eq!(lines(port, "LAVALINK_V4_PASSWORD"), 0);
    assert_eq!(web::ask(&proxy, "POST", "/api/health/check", "").status, 200);
    assert_eq!((lines(port, "LAVALINK_V4_PASSWORD"), lines(port, "LAVALINK_V3_PASSWORD")), (1, 1));
    drop(proxy);

    // A bot does, and is told that it is not its own password.
    let proxy = Proxy::before(node.address, node.address, &set);
    for (method, target, version) in
        [("GET", "/v4/info", "V4"), ("PATCH", "/v4/x", "V4"), ("GET", "/v3/info", "V3"), ("GET", "/v3/none", "V3")]
    {
        let response = proxy.connect().request(method, target, "", b"");
        assert_eq!(response.status, 502, "{method} {target}");
        check_operators(&response, version);
    }
    check_operators(&proxy.connect().upgrade("/v4/websocket"), "V4");
    assert_eq!(proxy.connect().request("HEAD", "/v4/info", "", b"").status, 502);
    // Each node's line again, as these settings are new; no more than one a minute.
    assert_eq!((lines(port, "LAVALINK_V4_PASSWORD"), lines(port, "LAVALINK_V3_PASSWORD")), (2, 2));
    assert_eq!(logged(&["a secret"]) + logged(&["another secret"]), 0);

    // What is not about the password passes.
    for (target, status, body) in [("/v4/plugin", 403, "no"), ("/v4/chunked", 401, "no"), ("/v4/404", 404, "")] {
        let response = proxy.connect().get(target, "");
        assert_eq!((response.status, response.text().as_str()), (status, body), "{target}");
    }
    let foreign = proxy.connect().get("/v4/origin", &format!("{HANDSHAKE}Origin: http://evil.example\r\n"));
    assert_eq!((foreign.status, foreign.field("session-resumed"), foreign.closes()), (403, Some("false"), false));
    proxy.wait_until_empty();
    assert_eq!(proxy.ended("rejected-password"), 0);
    assert!(proxy.ended("bad-response") >= 5);
}

fn check_operators(response: &Response, version: &str) {
    let error = response.json();
    let message = error["message"].as_str().unwrap();
    assert_eq!(error["status"], 502, "{error}");
    for says in ["refuses the password of lavaproxy, not yours", &format!("set LAVALINK_{version}_PASSWORD")] {
        assert!(message.contains(says), "{message}");
    }
    assert!(!message.contains("secret"), "{message}");
}

#[test]
fn a_v3_handshake_is_refused_where_v3_is_off() {
    let node = Backend::start(|mut client, _| {
        while let Some(request) = client.next_request() {
            // As Lavalink v4 does, which knows no handshake at `/`.
            let is_handshake = String::from_utf8_lossy(&request).starts_with("GET /v4/websocket");
            client.send(if is_handshake { SWITCHING } else { OK });
        }
    });
    let port = node.address.port().to_string();
    let off = [("LAVALINK_V3_HOST", ""), ("LAVALINK_V4_PORT", &*port), ("PROXY_V4_PORT", "0")];
    let proxy = Proxy::start(&off);
    for listener in ["proxy", "proxy-v4"] {
        for target in ["/", "/?x=1", "http://bot/"] {
            for fields in ["", "Lavalink-Version: 4\r\n"] {
                let known = node.accepted();
                let mut client = Client::connect(proxy.listener(listener));
                let response = client.get(target, &format!("{HANDSHAKE}{fields}"));
                let error = response.json();
                assert_eq!((response.status, &error["path"]), (503, &"/".into()), "{listener} {target}");
                let message = error["message"].as_str().unwrap();
                assert!(message.contains("v3 is off here") && message.contains("LAVALINK_V3_HOST"), "{message}");
                assert_eq!(node.accepted(), known, "{listener} {target}");
                // The connection goes on, and what is no v3 handshake is relayed.
                assert_eq!(client.get("/", "").text(), "ok");
                assert_eq!(client.upgrade("/v4/websocket").status, 101);
            }
        }
        // A wrong password comes first.
        let mut client = Client::connect(proxy.listener(listener));
        client.send(format!("GET / HTTP/1.1\r\nHost: bot\r\nAuthorization: wrong\r\n{HANDSHAKE}\r\n").as_bytes());
        assert_eq!(client.response().status, 401);
    }
    // With v3 on, a handshake at `/` goes where it did.
    let v3 = Backend::answering(SWITCHING);
    let proxy = Proxy::before(v3.address, node.address, &[("PROXY_V4_PORT", "0")]);
    assert_eq!(proxy.connect().upgrade("/").status, 101);
    assert_eq!(Client::connect(proxy.listener("proxy-v4")).upgrade("/").status, 200);
    assert_eq!(v3.accepted(), 1);
}
