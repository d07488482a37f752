//! One connection, many requests: each is authenticated and routed for itself, and counted to the byte.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;
use std::io::Read;

use support::*;

fn answer(text: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{text}", text.len()).into_bytes()
}

#[test]
fn each_request_of_a_connection_is_routed_by_its_own_path() {
    let v3 = Backend::answering(answer("three"));
    let v4 = Backend::answering(answer("four"));
    let proxy = Proxy::before(v3.address, v4.address, &[]);
    let mut bot = proxy.connect();
    for (target, fields, expected) in [
        ("/version", "", "three"),
        ("/v4/info", "", "four"),
        ("/version", "", "four"),
        ("/version", "Lavalink-Version: 3\r\n", "three"),
        ("/v3/info?x=/v4/", "", "three"),
        ("/v4/loadtracks?identifier=a%20b", "", "four"),
        ("/loadtracks", "", "four"),
    ] {
        assert_eq!(bot.get(target, fields).text(), expected, "{target}");
    }
    assert_eq!(proxy.stats()["totals"]["connections"], 1);
}

#[test]
fn a_wrong_password_on_a_later_request_is_refused_and_the_connection_stays_open() {
    let v3 = Backend::answering(answer("three"));
    let v4 = Backend::start(|mut client, _| {
        while client.next_request().is_some_and(|request| !request.starts_with(b"GET /v4/websocket ")) {
            client.send(&answer("four"));
        }
        client.send(SWITCHING).send(b"frame");
        client.rest();
    });
    let proxy = Proxy::before(v3.address, v4.address, &[]);
    let mut bot = proxy.connect();
    assert_eq!(bot.get("/version", "").text(), "three");
    assert_eq!(bot.get("/v4/info", "").text(), "four");
    assert_eq!(bot.get("/v3/info", "").text(), "three");
    bot.send(b"GET /v4/info HTTP/1.1\r\nHost: bot\r\nAuthorization: wrong\r\n\r\n");
    let refusal = bot.response();
    assert_eq!(refusal.status, 403);
    let error = refusal.json();
    assert_eq!(
        (error["status"].as_u64(), error["error"].as_str(), error["path"].as_str()),
        (Some(403), Some("Forbidden"), Some("/v4/info"))
    );
    assert!(!refusal.text().contains(PASSWORD));
    assert_eq!(bot.upgrade("/v4/websocket").status, 101);
    assert_eq!(bot.exactly(5), b"frame");
}

#[test]
fn the_ledger_has_the_bytes_that_the_client_counts() {
    let v3 = Backend::answering(&b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n05\r\nhello\r\n0\r\n\r\n"[..]);
    let v4 = Backend::start(|mut client, _| {
        client.next_request();
        client.send(SWITCHING);
        let mut frame = [0; 100];
        while client.stream.read_exact(&mut frame).is_ok() {
            client.send(&frame).send(&frame);
        }
    });
    let proxy = Proxy::before(v3.address, v4.address, &[]);

    let mut rest = proxy.connect();
    rest.get("/v3/info", "");
    rest.request("POST", "/v3/decodetracks", "Content-Length: 3\r\n", b"[1]");
    rest.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(rest.response().status, 401);

    let mut socket = proxy.connect();
    assert_eq!(socket.upgrade("/v4/websocket").status, 101);
    for _ in 0..10 {
        socket.send(&[7; 100]);
        socket.exactly(200);
    }

    let mut refused = proxy.connect();
    refused.send(b"GET /v4/info HTTP/1.1\nHost: x\n\n");
    assert_eq!(refused.response().status, 400);
    assert!(refused.is_at_end());

    let clients = [&rest, &socket, &refused];
    let sent: u64 = clients.iter().map(|client| client.sent).sum();
    let received: u64 = clients.iter().map(|client| client.received).sum();
    let check = |when: &str| {
        let stats = proxy.stats();
        assert_eq!(stats["totals"]["bytesIn"].as_u64(), Some(sent), "{when}");
        assert_eq!(stats["totals"]["bytesOut"].as_u64(), Some(received), "{when}");
        assert_eq!(stats["usage"][0]["bytesIn"].as_u64(), Some(sent), "{when}");
        assert_eq!(stats["usage"][0]["bytesOut"].as_u64(), Some(received), "{when}");
        stats
    };
    eventually("the refused connection is closed", || proxy.stats()["totals"]["active"] == 2);
    let stats = check("live");
    for (row, client, kind) in [(0, &rest, "http"), (1, &socket, "websocket")] {
        let row = &stats["connections"][row];
        assert_eq!(row["kind"], kind);
        assert_eq!(row["bytesIn"].as_u64(), Some(client.sent));
        assert_eq!(row["bytesOut"].as_u64(), Some(client.received));
    }
    assert_eq!(stats["connections"][1]["userId"], "42");
    assert_eq!(stats["connections"][1]["clientName"], "test/1");
    drop((rest, socket, refused));
    proxy.wait_until_empty();
    let stats = check("after the end");
    assert_eq!(stats["ended"]["client-closed"], 2);
    assert_eq!(stats["ended"]["bad-request"], 1);
    assert_eq!(stats["usage"][0]["connections"], 3);
}
