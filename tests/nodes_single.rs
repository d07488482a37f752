//! With one node of a version nothing on the wire is different, whichever setting names it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/nodes.rs"]
mod nodes;
mod support;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use lavaproxy::config::Lavalink::{self, V3, V4};
use nodes::{FakeNode, list, masked, ok, text_frame};
use support::{Client, PASSWORD, SWITCHING};

const READY: [&str; 2] = [
    r#"{"op":"ready","resumed":false,"sessionId":"5fr7okxwgml5cack"}"#,
    r#"{"resumed":false,"sessionId":"05rzx9zxnw0cbiz9","op":"ready"}"#,
];
const STATS: &str = r#"{"op":"stats","players":0}"#;
const FAILED: &str = r#"{"loadType":"error","data":{"message":"blocked"}}"#;

/// What came to a node and to its client, to the byte.
#[derive(Debug, PartialEq, Eq)]
struct Wire {
    to_node: Vec<String>,
    frames_to_node: String,
    to_client: Vec<String>,
}

/// Every kind of request that several nodes would treat otherwise.
fn talk(version: Lavalink, settings: &dyn Fn(&str) -> Vec<(String, String)>) -> Wire {
    let frames: Arc<Mutex<Vec<u8>>> = Arc::default();
    let own = Arc::clone(&frames);
    let ready = READY[usize::from(version == V3)];
    let node = FakeNode::start(move |client, request| {
        let text = String::from_utf8_lossy(request);
        if text.contains("\r\nUpgrade:") {
            let answer = [SWITCHING, &text_frame(STATS), &text_frame(ready), &text_frame("{}")].concat();
            answer.chunks(7).for_each(|piece| drop(client.try_send(piece)));
            // A node that ends first is lost, and its session is taken over.
            own.lock().unwrap().extend(client.rest());
            return false;
        }
        let answer = if text.contains("/loadtracks") { ok(FAILED) } else { ok("{}") };
        client.try_send(&answer).is_ok()
    });
    let set = settings(&node.address().to_string());
    let set: Vec<(&str, &str)> = set.iter().map(|(name, value)| (&**name, &**value)).collect();
    let proxy = nodes::start(&set);
    let to_client = clients(proxy.address(), version);
    proxy.wait_until_empty();
    // Another process' name and another port would differ for no reason.
    let without_via = |request: String| {
        request.split("\r\n").filter(|line| !line.starts_with("Via: ")).collect::<Vec<_>>().join("\r\n")
    };
    let to_node = node.requests().into_iter().map(without_via);
    let frames_to_node = frames.lock().unwrap().escape_ascii().to_string();
    Wire { to_node: to_node.collect(), frames_to_node, to_client }
}

fn clients(proxy: SocketAddr, version: Lavalink) -> Vec<String> {
    let v = version.name();
    let mut got = Vec::new();
    let mut client = Client::connect(proxy);
    for (method, target, fields, body) in [
        ("GET", format!("/{v}/info"), "Lavalink-Node: eu1\r\n", ""),
        ("GET", format!("/{v}/info"), "Lavalink-Node: nowhere\r\n", ""),
        ("GET", format!("/{v}/sessions/eu1.abc/players?x=eu1.y"), "Session-Id: eu1.abc\r\n", ""),
        ("GET", format!("/{v}/sessions/{v}.abc/players"), "session-id: v4.abc\r\n", ""),
        ("PATCH", format!("/{v}/sessions/a.b.c"), "Content-Length: 19\r\n", r#"{"resumingKey":"k"}"#),
        ("GET", format!("/{v}/loadtracks?identifier=x"), "Resume-Key: eu1.k\r\n", ""),
    ] {
        let answer = client.request(method, &target, fields, body.as_bytes());
        got.push(format!("{}{}", answer.head, answer.text()));
    }
    for fields in ["", "Session-Id: eu1.abc\r\nLavalink-Node: eu1\r\n", "Resume-Key: k\r\nLavalink-Node: nowhere\r\n"] {
        let mut client = Client::connect(proxy);
        let op = masked(0x81, br#"{"op":"configureResuming","key":"k"}"#);
        let head = format!(
            "GET /{v}/websocket HTTP/1.1\r\nHost: bot\r\nAuthorization: {PASSWORD}\r\n{}{fields}\r\n",
            support::HANDSHAKE
        );
        client.send(&[head.as_bytes(), &op].concat());
        let answer = client.response();
        client.send(&op).half_close();
        got.push(format!("{}{}", answer.head, client.rest().escape_ascii()));
    }
    got
}

#[test]
fn one_node_changes_nothing_whichever_setting_names_it() {
    for version in [V4, V3] {
        let number = version.name().to_ascii_uppercase();
        let off = format!("LAVALINK_{}_HOST", if version == V4 { "V3" } else { "V4" });
        let by_host = |address: &str| {
            let (host, port) = address.split_once(':').unwrap();
            vec![
                (off.clone(), String::new()),
                (format!("LAVALINK_{number}_HOST"), host.to_owned()),
                (format!("LAVALINK_{number}_PORT"), port.to_owned()),
            ]
        };
        let by_name = |address: &str| {
            vec![
                (off.clone(), String::new()),
                (format!("LAVALINK_{number}_NODES"), list(&[("eu1", address.parse().unwrap())])),
            ]
        };
        let expected = talk(version, &by_host);
        assert_eq!(talk(version, &by_name), expected);
        let without_takeovers = |address: &str| {
            let off = ("SESSION_TAKEOVER".to_owned(), "off".to_owned());
            by_name(address).into_iter().chain([off]).collect()
        };
        assert_eq!(talk(version, &without_takeovers), expected);
        // And the same as ever: nothing is taken off, nothing is put in.
        let v = version.name();
        assert!(expected.to_node[0].starts_with(&format!("GET /{v}/info HTTP/1.1\r\n")));
        for (index, part) in [
            (0, "\r\nLavalink-Node: eu1\r\n"),
            (1, "\r\nLavalink-Node: nowhere\r\n"),
            (2, "/sessions/eu1.abc/players?x=eu1.y HTTP/1.1\r\n"),
            (2, "\r\nSession-Id: eu1.abc\r\n"),
            (3, &format!("/sessions/{v}.abc/players HTTP/1.1\r\n")),
            (3, "\r\nsession-id: v4.abc\r\n"),
            (4, "/sessions/a.b.c HTTP/1.1\r\n"),
            (5, "\r\nResume-Key: eu1.k\r\n"),
            (7, "\r\nSession-Id: eu1.abc\r\nLavalink-Node: eu1\r\n"),
            (8, "\r\nResume-Key: k\r\nLavalink-Node: nowhere\r\n"),
        ] {
            assert!(expected.to_node[index].contains(part), "{part} is not in {}", expected.to_node[index]);
        }
        assert_eq!(expected.to_node.len(), 9, "the load was not tried again");
        assert!(expected.to_client[5].ends_with(FAILED));
        let frames = [text_frame(STATS), text_frame(READY[usize::from(version == V3)]), text_frame("{}")].concat();
        let head = "HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\
                    Connection: Upgrade\r\nUpgrade: WebSocket\r\n\r\n";
        for got in &expected.to_client[6..] {
            assert_eq!(*got, format!("{head}{}", frames.escape_ascii()));
        }
        let op = masked(0x81, br#"{"op":"configureResuming","key":"k"}"#);
        assert_eq!(expected.frames_to_node, op.repeat(6).escape_ascii().to_string());
    }
}
