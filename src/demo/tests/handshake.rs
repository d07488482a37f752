//! The WebSocket handshake: its answer, its refusals, and what Lavalink accepts.
use super::socket::{KEY, UPGRADE, auth, connected, path, rest_status, wait_for};
use super::*;
use crate::demo::frames::{PING, frame};
use serde_json::Value;

#[test]
fn a_handshake_is_answered_byte_for_byte() {
    for version in BOTH {
        let node = node(version);
        let mut client = Raw::new(&node);
        let number = &version.name()[1..];
        assert_eq!(
            client.handshake(version, ""),
            format!(
                "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\
                 Sec-WebSocket-Location: ws://a/v{number}/websocket\r\nSession-Resumed: false\r\nUpgrade: WebSocket\r\n\
                 Lavalink-Api-Version: {number}\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
            )
        );
        let (first, ready) = client.frame();
        assert_eq!((first, ready.len()), (0x81, 0x3d));
        let ready = String::from_utf8(ready).unwrap();
        let id = serde_json::from_str::<Value>(&ready).unwrap()["sessionId"].as_str().unwrap().to_owned();
        assert!(id.len() == 16 && id.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()));
        let expected = match version {
            Lavalink::V3 => format!(r#"{{"resumed":false,"sessionId":"{id}","op":"ready"}}"#),
            Lavalink::V4 => format!(r#"{{"op":"ready","resumed":false,"sessionId":"{id}"}}"#),
        };
        assert_eq!(ready, expected);
        assert_eq!(client.message()["op"], "stats");
        assert_eq!(node.sessions(), 1);
    }
}

#[test]
fn refusals_are_springs_and_keep_the_connection() {
    let auth = auth();
    let (user, empty) = ("User-Id: 1\r\n", "Content-Length: 0\r\n");
    let resumed = "Session-Resumed: false\r\n";
    let cases = [
        (format!("{user}{UPGRADE}{KEY}"), 401, empty, ""),
        (format!("Authorization: no\r\n{user}{UPGRADE}{KEY}"), 401, empty, ""),
        (format!("Authorization: Bearer {PASSWORD}\r\n{user}{UPGRADE}{KEY}"), 401, empty, ""),
        (format!("{UPGRADE}{KEY}"), 401, empty, ""),
        (format!("{auth}{UPGRADE}{KEY}"), 400, empty, ""),
        (format!("{auth}{user}{UPGRADE}{KEY}Origin: http://b\r\n"), 403, empty, resumed),
        (format!("{auth}{user}{UPGRADE}"), 400, empty, resumed),
        (format!("{auth}{user}{KEY}"), 400, "Content-Length: 34\r\n", resumed),
        (format!("{auth}{user}Upgrade: websocket\r\n{KEY}"), 400, "Content-Length: 31\r\n", resumed),
        (format!("{auth}{user}Connection: Upgrade\r\nUpgrade: websocket\r\n{KEY}"), 426, empty, resumed),
    ];
    for version in BOTH {
        let node = node(version);
        let mut client = Raw::new(&node);
        for (fields, status, length, mark) in &cases {
            client.send(&format!("GET {} HTTP/1.1\r\nHost: a\r\n{fields}\r\n", path(version)));
            let (head, _) = client.answer();
            assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{fields}{head}");
            assert!(head.contains(length) && head.contains("Connection: keep-alive\r\n"), "{fields}{head}");
            assert_eq!(head.contains("Session-Resumed"), !mark.is_empty(), "{fields}{head}");
            assert_eq!(*status == 426, head.contains("Sec-WebSocket-Version: 13,8,7\r\n"), "{fields}{head}");
        }
        client.send(&format!("POST {} HTTP/1.1\r\nHost: a\r\n{auth}{user}{UPGRADE}{KEY}\r\n", path(version)));
        assert!(client.head().starts_with("HTTP/1.1 405 Method Not Allowed\r\nAllow: GET\r\n"));
        for (target, statuses) in [("/", [101, 200]), ("/v3/websocket", [101, 200]), ("/v4/websocket", [404, 101])] {
            let mut client = Raw::new(&node);
            client.send(&format!("GET {target} HTTP/1.1\r\nHost: a\r\n{auth}{user}{UPGRADE}{KEY}\r\n"));
            let status = client.head().split(' ').nth(1).unwrap().parse::<u16>().unwrap();
            assert_eq!(status, statuses[usize::from(version == Lavalink::V4)], "{target}");
        }
        client.handshake(version, "");
        assert_eq!(client.frame().0, 0x81);
    }
}

#[test]
fn unusual_fields_that_lavalink_accepts_are_accepted() {
    for version in BOTH {
        let node = node(version);
        for fields in [
            "Origin: http://a\r\n",
            "Session-Id: nobody\r\nResume-Key: nobody\r\n",
            "Sec-WebSocket-Extensions: permessage-deflate\r\nSec-WebSocket-Protocol: foo, bar\r\n",
        ] {
            let mut client = Raw::new(&node);
            let head = client.handshake(version, fields);
            assert!(head.starts_with("HTTP/1.1 101 ") && head.contains("Session-Resumed: false\r\n"), "{head}");
            assert!(!head.contains("Extensions") && !head.contains("Protocol: "), "{head}");
            assert_eq!(head.contains("Origin: http://a\r\n"), fields.starts_with("Origin"), "{head}");
        }
        let mut client = Raw::new(&node);
        client.send(&format!(
            "GET {}?a=b HTTP/1.1\r\nHost: a\r\n{}User-Id: 1\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n\
             Sec-WebSocket-Version: 8\r\nSec-WebSocket-Key: abc\r\n\r\n",
            path(version),
            auth()
        ));
        assert!(client.head().starts_with("HTTP/1.1 101 "));
        // A frame that comes with the handshake is read.
        let mut client = Raw::new(&node);
        let request =
            format!("GET {} HTTP/1.1\r\nHost: a\r\n{}User-Id: 1\r\n{UPGRADE}{KEY}\r\n", path(version), auth());
        client.0.write_all(&[request.as_bytes(), &frame(PING, b"x", true)].concat()).unwrap();
        client.head();
        assert_eq!([(); 3].map(|()| client.frame().0), [0x81, 0x81, 0x8a]);
    }
}

#[test]
fn a_user_id_that_is_no_number_closes_after_the_101() {
    for version in BOTH {
        let node = node(version);
        for (user, refused_by_v4) in [("", true), ("abc", false), ("9223372036854775808", false)] {
            let mut client = Raw::new(&node);
            let target = path(version);
            client
                .send(&format!("GET {target} HTTP/1.1\r\nHost: a\r\n{}User-Id: {user}\r\n{UPGRADE}{KEY}\r\n", auth()));
            let head = client.head();
            if refused_by_v4 && version == Lavalink::V4 {
                assert!(head.starts_with("HTTP/1.1 400 "), "{head}");
            } else {
                assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
                assert_eq!(client.bytes(4), b"\x88\x02\x03\xf3");
                assert!(client.is_at_end());
            }
        }
    }
}

#[test]
fn a_failed_handshake_with_the_key_spoils_the_header() {
    let node = node(Lavalink::V4);
    let (socket, id) = connected(&node, Lavalink::V4, "");
    let mut rest = Raw::new(&node);
    rest.patch(&format!("/v4/sessions/{id}"), r#"{"resuming":true,"timeout":60}"#);
    rest.json();
    drop(socket);
    wait_for(|| rest_status(&node, &format!("/v4/sessions/{id}/players")) == 404);
    let mut client = Raw::new(&node);
    let refused = client.handshake(Lavalink::V4, &format!("Session-Id: {id}\r\nOrigin: http://b\r\n"));
    assert!(refused.starts_with("HTTP/1.1 403 ") && refused.contains("Session-Resumed: true\r\n"), "{refused}");
    let accepted = client.handshake(Lavalink::V4, &format!("Session-Id: {id}\r\n"));
    assert!(accepted.contains("Session-Resumed: false\r\n"), "{accepted}");
    assert_eq!(client.message()["resumed"], true);
}
