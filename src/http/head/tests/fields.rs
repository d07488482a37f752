//! Field lines (RFC 9112 section 5), and the options of a connection (RFC 9110 sections 7.6, 7.8 and 10.1.1).

use super::*;

#[test]
fn a_field_line_is_name_colon_value() {
    for (line, reason) in [
        (&b" A: b\r\n"[..], "field name"),
        (b"\tA: b\r\n", "field name"),
        (b"X: y\r\n folded\r\n", "field name"),
        (b"X: y\r\n\tfolded\r\n", "field name"),
        (b"X: y\r\n \r\n", "field name"),
        (b"X:\r\n y\r\n", "field name"),
        (b"A : b\r\n", "field name"),
        (b"A\t: b\r\n", "field name"),
        (b"Content-Length : 5\r\n", "field name"),
        (b"Transfer-Encoding : chunked\r\n", "field name"),
        (b"A b: c\r\n", "field name"),
        (b"A\r\n", "field name"),
        (b": b\r\n", "field name"),
        (b":\r\n", "field name"),
        (b"A(b): c\r\n", "field name"),
        (b"A/b: c\r\n", "field name"),
        (b"A=b: c\r\n", "field name"),
        (b"\"A\": c\r\n", "field name"),
        (b"{A}: c\r\n", "field name"),
        (b"A,B: c\r\n", "field name"),
        (b"\xc3\x84: c\r\n", "field name"),
        (b"A\xa0: c\r\n", "field name"),
        (b"\xef\xbb\xbfA: c\r\n", "field name"),
        (b"GET / HTTP/1.1\r\n", "field name"),
    ] {
        malformed(&with(line), reason);
        malformed(&[b"GET / HTTP/1.1\r\n", line, b"Host: h\r\n\r\n"].concat(), reason);
    }
    for (line, name, value) in [
        (&b"A:b\r\n"[..], "A", &b"b"[..]),
        (b"A: b\r\n", "A", b"b"),
        (b"A:\t b \t\r\n", "A", b"b"),
        (b"A: b  c\td\r\n", "A", b"b  c\td"),
        (b"A:\r\n", "A", b""),
        (b"A: \t \r\n", "A", b""),
        (b"A: :b:\r\n", "A", b":b:"),
        (b"A: \xe9\x80\xff\r\n", "A", b"\xe9\x80\xff"),
        (b"!#$%&'*+-.^_`|~09azAZ: b\r\n", "!#$%&'*+-.^_`|~09azAZ", b"b"),
        (b"Session-Id:\r\n", "Session-Id", b""),
        (b"session-id: abc\r\n", "session-id", b"abc"),
        (
            b"Client-Name: rainlink/[object Object] (https://github.com/x)\r\n",
            "Client-Name",
            b"rainlink/[object Object] (https://github.com/x)",
        ),
    ] {
        good(&with(line), |request| {
            let field = request.fields.last().unwrap();
            assert_eq!((field.name, field.value), (name, value));
            assert_eq!(request.fields.len(), 2);
        });
    }
}

#[test]
fn fields_and_the_request_line_have_a_limit() {
    let lines = |count: usize| "A: b\r\n".repeat(count - 1);
    good(&with(lines(MAX_FIELDS)), |request| assert_eq!(request.fields.len(), MAX_FIELDS));
    assert_eq!(refused(&with(lines(MAX_FIELDS + 1))), HeadError::TooManyFields);
    assert_eq!(refused(&with(lines(MAX_FIELDS * 3))), HeadError::TooManyFields);

    let of_length = |length: usize| get(format!("/{}", "a".repeat(length - "GET / HTTP/1.1".len())));
    good(&of_length(MAX_HEAD), |request| assert_eq!(request.target.path.len(), MAX_HEAD - "GET  HTTP/1.1".len()));
    assert_eq!(refused(&of_length(MAX_HEAD + 1)), HeadError::TargetTooLong);
    // A line that is too long is reported as that, even if it breaks another rule as well.
    assert_eq!(refused(&get(format!("/#{}", " ".repeat(MAX_HEAD)))), HeadError::TargetTooLong);
    // The fields may be larger than what is forwarded: hop-by-hop fields are not.
    good(&with(format!("Connection: x\r\nX: {}\r\n", "a".repeat(MAX_HEAD))), |request| {
        assert_eq!(names(request.fields), ["host"]);
    });
}

#[test]
fn keep_alive_is_what_the_version_and_connection_say() {
    for (version, lines, keep_alive) in [
        ("1.1", "", true),
        ("1.1", "Connection: keep-alive\r\n", true),
        ("1.1", "Connection: close\r\n", false),
        ("1.1", "connection:CLOSE\r\n", false),
        ("1.1", "Connection: keep-alive, close\r\n", false),
        ("1.1", "Connection: ,\tclose ,x\r\n", false),
        ("1.1", "Connection: keep-alive\r\nConnection: x, close\r\n", false),
        ("1.1", "Connection: closed\r\n", true),
        ("1.1", "Connection: not close\r\n", true),
        ("1.1", "X-Connection: close\r\n", true),
        ("1.0", "", false),
        ("1.0", "Connection: keep-alive\r\n", false),
    ] {
        let data = format!("GET / HTTP/{version}\r\nHost: h\r\n{lines}\r\n");
        good(data.as_bytes(), |request| assert_eq!(request.keep_alive, keep_alive, "{data}"));
    }
}

#[test]
fn an_upgrade_is_a_websocket_handshake_and_nothing_else() {
    for (line, lines, upgrades) in [
        ("GET / HTTP/1.1", "Connection: Upgrade\r\nUpgrade: websocket\r\n", true),
        ("GET / HTTP/1.1", "connection: keep-alive, upgrade\r\nupgrade: WebSocket\r\n", true),
        ("GET / HTTP/1.1", "Connection: keep-alive\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n", true),
        ("GET / HTTP/1.1", "Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 0\r\n", true),
        ("GET / HTTP/1.1", "Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 1\r\n", false),
        ("GET / HTTP/1.1", "Connection: Upgrade\r\nUpgrade: websocket\r\nTransfer-Encoding: chunked\r\n", false),
        ("GET / HTTP/1.1", "Upgrade: websocket\r\n", false),
        ("GET / HTTP/1.1", "Connection: keep-alive\r\nUpgrade: websocket\r\n", false),
        ("GET / HTTP/1.1", "Connection: upgraded\r\nUpgrade: websocket\r\n", false),
        ("GET / HTTP/1.1", "Connection: Upgrade\r\n", false),
        ("GET / HTTP/1.1", "Connection: Upgrade\r\nUpgrade:\r\n", false),
        ("GET / HTTP/1.1", "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n", false),
        ("GET / HTTP/1.1", "Connection: Upgrade\r\nUpgrade: TLS/1.0\r\n", false),
        ("GET / HTTP/1.1", "Connection: Upgrade\r\nUpgrade: websocket, h2c\r\n", false),
        ("GET / HTTP/1.1", "Connection: Upgrade\r\nUpgrade: websocket/13\r\n", false),
        ("GET / HTTP/1.1", "Connection: Upgrade\r\nUpgrade: websocket\r\nUpgrade: websocket\r\n", false),
        ("GET / HTTP/1.1", "Connection: Upgrade\r\nUpgrade: websocket\r\nUpgrade: h2c\r\n", false),
        ("POST / HTTP/1.1", "Connection: Upgrade\r\nUpgrade: websocket\r\n", false),
        ("get / HTTP/1.1", "Connection: Upgrade\r\nUpgrade: websocket\r\n", false),
        ("GET / HTTP/1.0", "Connection: Upgrade\r\nUpgrade: websocket\r\n", false),
    ] {
        let data = format!("{line}\r\nHost: h\r\n{lines}\r\n");
        good(data.as_bytes(), |request| {
            assert_eq!(request.upgrade.is_some(), upgrades, "{data}");
            assert!(!names(request.fields).iter().any(|name| name == "upgrade" || name == "connection"), "{data}");
        });
    }
}

#[test]
fn expect_100_continue_is_recognised() {
    for (version, lines, expects) in [
        ("1.1", "Expect: 100-continue\r\n", true),
        ("1.1", "expect:100-Continue \r\n", true),
        ("1.1", "", false),
        ("1.1", "Expect:\r\n", false),
        ("1.1", "Expect: 200-ok\r\n", false),
        ("1.1", "Expect: 100-continued\r\n", false),
        // RFC 9110 section 10.1.1: ignored in HTTP/1.0.
        ("1.0", "Expect: 100-continue\r\n", false),
    ] {
        let data = format!("POST / HTTP/{version}\r\nHost: h\r\nContent-Length: 2\r\n{lines}\r\n");
        good(data.as_bytes(), |request| assert_eq!(request.expects_continue, expects, "{data}"));
    }
}

#[test]
fn hop_by_hop_fields_are_not_forwarded() {
    for (lines, passed) in [
        ("", &["host"][..]),
        ("A: b\r\nC: d\r\nA: e\r\n", &["host", "a", "c", "a"]),
        ("Connection: close\r\nKeep-Alive: timeout=5\r\nTE: trailers\r\nTrailer: X\r\n", &["host"]),
        ("Proxy-Connection: x\r\nProxy-Authorization: x\r\nProxy-Authenticate: x\r\nUpgrade: h2c\r\n", &["host"]),
        ("Content-Length: 5\r\n", &["host"]),
        ("TRANSFER-ENCODING: chunked\r\n", &["host"]),
        // RFC 9110 section 7.6.1: what Connection names.
        ("Connection: X-A, x-b ,\tX-C\r\nX-A: 1\r\nX-B: 2\r\nx-c: 3\r\nX-D: 4\r\n", &["host", "x-d"]),
        ("X-A: 1\r\nConnection: y\r\nConnection: x-a\r\nX-A: 2\r\n", &["host"]),
        ("Connection: x\r\nX-Y: 1\r\n", &["host", "x-y"]),
        ("Connection:\r\nA: b\r\n", &["host", "a"]),
        // Fields that Connection cannot remove.
        ("Connection: Authorization, Host\r\nAuthorization: x\r\n", &["host", "authorization"]),
        (
            "Connection: close, X-Forwarded-For, forwarded\r\nX-Forwarded-For: 1\r\nForwarded: for=1\r\n",
            &["host", "x-forwarded-for", "forwarded"],
        ),
        // Fields with similar names.
        ("Connections: X-A\r\nX-A: 1\r\nTE-X: 1\r\n", &["host", "connections", "x-a", "te-x"]),
        (
            "User-Id: 1\r\nClient-Name: x\r\nSession-Id:\r\nSec-WebSocket-Key: k\r\nSec-WebSocket-Version: 13\r\n",
            &["host", "user-id", "client-name", "session-id", "sec-websocket-key", "sec-websocket-version"],
        ),
        ("Expect: 100-continue\r\nContent-Type: application/json\r\n", &["host", "expect", "content-type"]),
    ] {
        good(&with(lines), |request| assert_eq!(names(request.fields), passed, "{lines}"));
    }
}

#[test]
fn values_are_found_by_name_in_any_case() {
    good(&with("A: 1\r\na: 2\r\nAB: 3\r\nB:\r\n"), |request| {
        assert_eq!(values(request.fields, "a").collect::<Vec<_>>(), [b"1", b"2"]);
        assert_eq!(single(request.fields, "A"), Err(()));
        assert_eq!(single(request.fields, "aB"), Ok(Some(&b"3"[..])));
        assert_eq!(single(request.fields, "b"), Ok(Some(&b""[..])));
        assert_eq!(single(request.fields, "c"), Ok(None));
    });
}
