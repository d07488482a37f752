//! A request that comes back to the proxy that sent it: it is answered with 508 at once and holds no slot. What only
//! looks alike passes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use support::*;

const GET: &str = "GET /v4/info HTTP/1.1\r\nHost: bot\r\nAuthorization: DevamOP\r\n";

/// A proxy before a backend that keeps what it is sent.
fn site() -> (Proxy, Backend) {
    let backend = Backend::answering(OK);
    (Proxy::before(backend.address, backend.address, &[]), backend)
}

/// The name that this process has in `Via`.
fn own_name(proxy: &Proxy, backend: &Backend) -> String {
    assert_eq!(proxy.connect().get("/v4/info", "").status, 200);
    let seen = backend.seen();
    own_via(&seen).expect("no Via").trim_end().strip_prefix("Via: 1.1 ").unwrap().to_owned()
}

fn check_loop(response: &Response, path: &str) {
    assert_eq!(response.status, 508, "{}", response.text());
    assert!(response.head.starts_with("HTTP/1.1 508 Loop Detected\r\n"), "{}", response.head);
    assert_eq!(response.field("content-type"), Some("application/json"));
    let error = response.json();
    assert_eq!(
        (&error["status"], &error["error"], &error["path"]),
        (&508.into(), &"Loop Detected".into(), &path.into())
    );
    assert!(error["message"].as_str().unwrap().contains("correct the node's host and port"), "{error}");
}

#[test]
fn a_request_with_the_own_via_is_answered_with_508_and_goes_nowhere() {
    let (proxy, backend) = site();
    let own = own_name(&proxy, &backend);
    let known = backend.seen().len();
    let mut client = proxy.connect();
    for via in [
        format!("Via: 1.1 {own}\r\n"),
        format!("vIA:1.1 {own}\r\n"),
        format!("Via: 1.1 {own}, 1.1 other\r\n"),
        format!("Via: 1.0 first,1.1 {own} (a comment) , HTTP/1.1 other:80\r\n"),
        format!("Via: 1.0 first\r\nVia: 1.1 other, 1.1 {own}\r\n"),
        format!("Via: 1.1 other\r\nConnection: Via\r\nVia: 1.1 {own}\r\n"),
    ] {
        client.send(format!("{GET}{via}\r\n").as_bytes());
        let response = client.response();
        check_loop(&response, "/v4/info");
        assert!(!response.closes(), "{via}");
        // A handshake too, and a request with a body.
        client.send(format!("{GET}{HANDSHAKE}{via}\r\n").as_bytes());
        check_loop(&client.response(), "/v4/info");
        client.send(
            format!("POST /v4/x HTTP/1.1\r\nHost: bot\r\nAuthorization: DevamOP\r\n{via}Content-Length: 2\r\n\r\n[]")
                .as_bytes(),
        );
        check_loop(&client.response(), "/v4/x");
    }
    // It is not said to clients without a password.
    client.send(format!("GET /v4/info HTTP/1.1\r\nHost: bot\r\nVia: 1.1 {own}\r\n\r\n").as_bytes());
    assert_eq!(client.response().status, 401);
    assert_eq!(&backend.seen()[known..], "");
}

#[test]
fn the_via_of_others_passes() {
    let (proxy, backend) = site();
    let own = own_name(&proxy, &backend);
    let other = if own.ends_with('0') { "1" } else { "0" };
    let another = format!("{}{other}", &own[..own.len() - 1]);
    let mut client = proxy.connect();
    for via in [format!("Via: 1.1 {another}\r\n"), "Via: 1.1 lavaproxy\r\n".to_owned(), "Via:\r\n".to_owned()] {
        assert_eq!(client.get("/v4/info", &via).status, 200, "{via}");
    }
    // What is said elsewhere is no Via.
    assert_eq!(client.get(&format!("/v4/info?{own}"), &format!("X-Via: 1.1 {own}\r\n")).status, 200);
}

/// Passes each request on with a `Via` of its own, as a proxy does that joins them in one field.
struct Detour {
    backend: Backend,
    target: Arc<Mutex<Option<SocketAddr>>>,
    last: Arc<Mutex<String>>,
}

impl Detour {
    fn start() -> Self {
        let target: Arc<Mutex<Option<SocketAddr>>> = Arc::default();
        let last: Arc<Mutex<String>> = Arc::default();
        let (leads, kept) = (Arc::clone(&target), Arc::clone(&last));
        let backend = Backend::start(move |mut client, _| {
            while let Some(request) = client.next_request() {
                let request = String::from_utf8(request).unwrap();
                let via = own_via(&request).expect("no Via").trim_end();
                let request = request.replacen(via, &format!("{via}, 1.1 detour:80 (squid)"), 1);
                kept.lock().unwrap().clone_from(&request);
                let Some(target) = *leads.lock().unwrap() else { return };
                let mut onward = Client::over(TcpStream::connect(target).unwrap());
                onward.send(request.as_bytes());
                let response = onward.response();
                let whole = [response.head.as_bytes(), &response.body].concat();
                if client.stream.write_all(&whole).is_err() {
                    return;
                }
            }
        });
        Self { backend, target, last }
    }
}

/// Checks that a request to this proxy, whose node is itself, is answered at once and leaves nothing behind.
fn check_answers_at_once(proxy: &Proxy) {
    for _ in 0..3 {
        let begun = Instant::now();
        let mut client = proxy.connect();
        check_loop(&client.get("/v4/info", ""), "/v4/info");
        check_loop(&client.upgrade("/v4/websocket"), "/v4/websocket");
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
        drop(client);
    }
    // A connection to itself is idle until it is closed. There are no more of them than were needed at a time.
    let active = || proxy.server.ledger().snapshot().totals.active;
    eventually("the slots are free", || active() <= 2);
}

#[test]
fn a_node_setting_that_leads_back_is_found_out() {
    let proxy = Proxy::start(&[("PROXY_V4_PORT", "0")]);
    for (host, listener) in [("localhost", "proxy"), ("127.0.0.1", "proxy-v4")] {
        let port = proxy.listener(listener).port().to_string();
        let set = [("PROXY_V4_PORT", "0"), ("LAVALINK_V4_HOST", host), ("LAVALINK_V4_PORT", port.as_str())];
        proxy.server.reload(&settings(&set)).unwrap();
        check_answers_at_once(&proxy);
        // As a crowd, which would take every slot if each request took another.
        thread::scope(|scope| {
            for _ in 0..16 {
                scope.spawn(|| check_loop(&proxy.connect().get("/v4/info", ""), "/v4/info"));
            }
        });
    }
}

#[test]
fn a_detour_through_another_proxy_is_found_out() {
    let detour = Detour::start();
    let proxy = Proxy::before(detour.backend.address, detour.backend.address, &[]);
    *detour.target.lock().unwrap() = Some(proxy.address());
    check_loop(&proxy.connect().get("/v4/info", ""), "/v4/info");
    assert!(detour.last.lock().unwrap().contains(", 1.1 detour:80 (squid)\r\n"));
    assert_eq!(detour.backend.accepted(), 1, "it came round once");
}
