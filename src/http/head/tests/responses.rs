//! Responses.

use super::*;

#[test]
fn responses_of_lavalink_are_accepted() {
    use Framing::{Chunked, Length, None};
    for (data, status, framing, keep_alive, upgrades) in [
        (
            "HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nContent-Type: text/plain;charset=ISO-8859-1\r\nContent-Length: 6\r\n\
          Lavalink-Api-Version: 3\r\nDate: Mon, 23 Nov 2026 15:12:41 GMT\r\n\r\n",
            200,
            Length(6),
            true,
            false,
        ),
        (
            "HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\nContent-Type: application/json\r\n\r\n",
            200,
            Chunked,
            true,
            false,
        ),
        (
            "HTTP/1.1 401 Unauthorized\r\nConnection: keep-alive\r\nContent-Length: 0\r\nLavalink-Api-Version: 3\r\n\r\n",
            401,
            Length(0),
            true,
            false,
        ),
        ("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", 400, Length(0), false, false),
        ("HTTP/1.1 204 No Content\r\nLavalink-Api-Version: 3\r\nDate: x\r\n\r\n", 204, None, true, false),
        ("HTTP/1.1 100 Continue\r\n\r\n", 100, None, true, false),
        ("HTTP/1.1 100 Continue\r\nContent-Length: 0\r\n\r\n", 100, None, true, false),
        (
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nSec-WebSocket-Location: ws://127.0.0.1:12333/v3/websocket\r\n\
          Session-Resumed: false\r\nUpgrade: WebSocket\r\nLavalink-Api-Version: 3\r\n\
          Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
            101,
            None,
            true,
            true,
        ),
        ("HTTP/1.1 403 Forbidden\r\nSession-Resumed: false\r\nContent-Length: 0\r\n\r\n", 403, Length(0), true, false),
        (
            "HTTP/1.1 426 Upgrade Required\r\nSec-WebSocket-Version: 13,8,7\r\nContent-Length: 0\r\n\r\n",
            426,
            Length(0),
            true,
            false,
        ),
        (
            "HTTP/1.1 200 OK\r\nAllow: GET,HEAD,OPTIONS\r\nAccept-Patch: \r\nContent-Length: 0\r\n\r\n",
            200,
            Length(0),
            true,
            false,
        ),
    ] {
        response(data.as_bytes(), false, |response| {
            let seen = (response.status, response.framing, response.keep_alive, response.upgrade.is_some());
            assert_eq!(seen, (status, framing, keep_alive, upgrades), "{data}");
            assert_eq!(response.is_interim(), status < 200);
        })
        .unwrap();
    }
}

#[test]
fn a_response_ends_as_its_status_and_the_method_say() {
    use Framing::{Chunked, Length, None, UntilClose};
    for (status, lines, framing, to_head) in [
        (200, "", UntilClose, None),
        (200, "Content-Length: 5\r\n", Length(5), None),
        (200, "Content-Length: 5\r\nContent-Length: 5\r\n", Length(5), None),
        (200, "Transfer-Encoding: chunked\r\n", Chunked, None),
        (404, "Content-Length: 5\r\n", Length(5), None),
        (500, "", UntilClose, None),
        (999, "", UntilClose, None),
        (204, "", None, None),
        (204, "Content-Length: 5\r\n", None, None),
        (204, "Transfer-Encoding: chunked\r\n", None, None),
        (304, "", None, None),
        (304, "Content-Length: 5\r\n", None, None),
        (304, "Transfer-Encoding: chunked\r\n", None, None),
        (100, "Content-Length: 5\r\n", None, None),
        (103, "Link: x\r\n", None, None),
        (101, "Upgrade: websocket\r\nConnection: upgrade\r\nContent-Length: 5\r\n", None, None),
    ] {
        let data = format!("HTTP/1.1 {status} x\r\n{lines}\r\n");
        let found = |to_head| response(data.as_bytes(), to_head, |response| response.framing).unwrap();
        assert_eq!((found(false), found(true)), (framing, to_head), "{data}");
    }
}

/// RFC 9112 section 5.1.
#[test]
fn blanks_before_a_colon_are_removed_from_a_response() {
    for blanks in [" ", "\t", "   ", " \t \t"] {
        let data = |lines: &str| format!("HTTP/1.1 200 OK\r\n{}\r\n", lines.replace(':', &format!("{blanks}:")));
        for (lines, framing, keep_alive) in [
            ("Content-Length: 5\r\n", Framing::Length(5), true),
            ("A:\r\nContent-Length:5\r\n", Framing::Length(5), true),
            ("Transfer-Encoding: chunked\r\n", Framing::Chunked, true),
            ("Content-Length: 5\r\nConnection: close\r\n", Framing::Length(5), false),
            ("A: b\r\n", Framing::UntilClose, false),
        ] {
            let data = data(lines);
            let found = response(data.as_bytes(), false, |response| (response.framing, response.keep_alive));
            assert_eq!(found, Ok((framing, keep_alive)), "{data:?}");
        }
        let data = data("X-A: b\r\nX-B: x : y\r\nX-C:\r\nConnection: X-Hop\r\nX-Hop: 1\r\n");
        response(data.as_bytes(), false, |response| {
            let forwarded: Vec<_> = end_to_end(response.fields).map(|field| (field.name, field.value)).collect();
            let value = format!("x {blanks}: y");
            assert_eq!(forwarded, [("X-A", &b"b"[..]), ("X-B", value.as_bytes()), ("X-C", b"")], "{data:?}");
        })
        .unwrap();
        let switch = format!("HTTP/1.1 101 x\r\nUpgrade{blanks}: websocket\r\nConnection{blanks}: Upgrade\r\n\r\n");
        assert_eq!(response(switch.as_bytes(), false, |response| response.upgrade.is_some()), Ok(true));
    }
}

#[test]
fn a_response_without_a_body_may_declare_one() {
    use Framing::{Chunked, Length, None, UntilClose};
    for (status, lines, declared) in [
        (200, "Content-Length: 5\r\n", Length(5)),
        (304, "Content-Length: 5\r\n", Length(5)),
        (304, "Content-Length: 0000000000000005\r\nContent-Length: 5\r\n", Length(5)),
        (304, "Transfer-Encoding: Chunked\r\n", Chunked),
        (304, "", UntilClose),
        (204, "Content-Length: 5\r\n", None),
        (100, "Transfer-Encoding: chunked\r\n", None),
    ] {
        let data = format!("HTTP/1.1 {status} x\r\n{lines}\r\n");
        let found = response(data.as_bytes(), true, |response| (response.framing, response.declared));
        assert_eq!(found, Ok((None, declared)), "{data}");
    }
}

#[test]
fn a_response_is_as_strict_as_a_request() {
    for (data, error) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", "both"),
        ("HTTP/1.1 304 x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", "both"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n", "differ"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\n", "not a number"),
        ("HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "not a number"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 00000000000000005\r\n\r\n", "16 digits or fewer"),
        ("HTTP/1.1 304 x\r\nContent-Length: 00000000000000005\r\n\r\n", "16 digits or fewer"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", "coding"),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
            "two Transfer-Encoding",
        ),
        ("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "HTTP/1.0"),
        ("HTTP/1.1 200 OK\r\nA b: c\r\n\r\n", "field name"),
        ("HTTP/1.1 200 OK\r\nA b : c\r\n\r\n", "field name"),
        ("HTTP/1.1 200 OK\r\nA \r\n\r\n", "field name"),
        ("HTTP/1.1 200 OK\r\n : b\r\n\r\n", "field name"),
        ("HTTP/1.1 200 OK\r\n: b\r\n\r\n", "field name"),
        ("HTTP/1.1 200 OK\r\nA :\r\n b\r\n\r\n", "field name"),
        ("HTTP/1.1 200 OK\r\nA \r\n : b\r\n\r\n", "field name"),
        ("HTTP/1.1 200 OK\r\nContent-Length : 5\r\nTransfer-Encoding: chunked\r\n\r\n", "both"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding : chunked\r\n\r\n", "both"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length\t: 6\r\n\r\n", "differ"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding : gzip\r\n\r\n", "coding"),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding : chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
            "two Transfer-Encoding",
        ),
        ("HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n", "field name"),
        ("HTTP/1.1 200 OK\r\n A: b\r\n\r\n", "field name"),
        ("HTTP/1.1 200 OK\r\nA: b\nC: d\r\n\r\n", "LF without CR"),
        ("HTTP/1.1 200 OK\r\nA: b\rC: d\r\n\r\n", "CR without LF"),
        ("HTTP/1.1 200 O\0K\r\n\r\n", "control"),
        ("HTTP/1.1 200 OK\r\nA: \0\r\n\r\n", "control"),
        ("HTTP/1.1 099 x\r\n\r\n", "status"),
        ("HTTP/1.1 000 x\r\n\r\n", "status"),
        ("HTTP/1.1 20 x\r\n\r\n", "status"),
        ("HTTP/1.1 2000 x\r\n\r\n", "status"),
        ("HTTP/1.1 +20 x\r\n\r\n", "status"),
        ("HTTP/1.1 abc x\r\n\r\n", "status"),
        ("HTTP/1.1  200 x\r\n\r\n", "status"),
        ("HTTP/1.1\r\n\r\n", "version"),
        ("HTTP/2.0 200 OK\r\n\r\n", "version"),
        ("HTTP/1.2 200 OK\r\n\r\n", "version"),
        ("http/1.1 200 OK\r\n\r\n", "version"),
        (" HTTP/1.1 200 OK\r\n\r\n", "version"),
        ("ICY 200 OK\r\n\r\n", "version"),
        ("{\"error\": 1}\r\n\r\n", "version"),
        // A line end left over from the response before is the trace of a body that was misjudged.
        ("\r\nHTTP/1.1 200 OK\r\n\r\n", "version"),
        ("\r\n\r\n", "version"),
    ] {
        for to_head in [false, true] {
            let found = response(data.as_bytes(), to_head, |_| ()).expect_err(data).to_string();
            assert!(found.contains(error), "{data}: {found}");
        }
    }
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "A: b\r\n".repeat(MAX_FIELDS + 1));
    assert_eq!(response(many.as_bytes(), false, |_| ()), Err(HeadError::TooManyFields));
    for (data, reason) in [
        ("HTTP/1.1 200 \r\n\r\n", ""),
        ("HTTP/1.1 200\r\n\r\n", ""),
        ("HTTP/1.1 200 O K\t!\r\n\r\n", "O K\t!"),
        ("HTTP/1.1 200 \u{e9}\r\n\r\n", ""),
    ] {
        assert_eq!(response(data.as_bytes(), false, |response| response.reason.to_owned()).as_deref(), Ok(reason));
    }
}

#[test]
fn a_backend_connection_is_kept_only_if_it_can_be() {
    for (data, keep_alive) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", true),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", true),
        ("HTTP/1.1 204 x\r\n\r\n", true),
        ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: Close\r\n\r\n", false),
        ("HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", false),
        ("HTTP/1.0 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n", false),
        // The body ends with the connection.
        ("HTTP/1.1 200 OK\r\n\r\n", false),
    ] {
        assert_eq!(response(data.as_bytes(), false, |response| response.keep_alive), Ok(keep_alive), "{data}");
    }
}

#[test]
fn an_upgrade_is_recognised_only_in_a_101_that_names_it() {
    for (data, upgrade) in [
        ("HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n", Some(&b"websocket"[..])),
        ("HTTP/1.1 101 x\r\nUpgrade: h2c\r\nConnection: x, upgrade\r\n\r\n", Some(b"h2c")),
        ("HTTP/1.1 101 x\r\nUpgrade: websocket\r\n\r\n", None),
        ("HTTP/1.1 101 x\r\nConnection: Upgrade\r\n\r\n", None),
        ("HTTP/1.1 101 x\r\nUpgrade: websocket\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n", None),
        ("HTTP/1.1 200 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n", None),
        ("HTTP/1.1 426 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n", None),
    ] {
        response(data.as_bytes(), false, |response| assert_eq!(response.upgrade, upgrade, "{data}")).unwrap();
    }
}
