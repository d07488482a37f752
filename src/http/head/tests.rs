#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;
use crate::http::random::Random;

/// What a scan says of `data` when it arrives up to each of `ends`.
fn arriving(data: &[u8], ends: impl Iterator<Item = usize>) -> Result<Option<usize>, HeadError> {
    let mut scan = Scan::default();
    for end in ends {
        if let Some(length) = scan.advance(&data[..end])? {
            assert!(length <= end);
            return Ok(Some(length));
        }
    }
    Ok(None)
}

/// The one outcome of a scan, however `data` arrives: at once, byte by byte, in every two pieces.
fn scanned(data: &[u8]) -> Result<Option<usize>, HeadError> {
    let at_once = arriving(data, std::iter::once(data.len()));
    assert_eq!(arriving(data, 0..=data.len()), at_once, "byte by byte: {}", data.escape_ascii());
    // A large head in every two pieces costs the square of its size.
    let step = data.len() / 1000 + 1;
    for cut in (0..=data.len()).step_by(step) {
        let ends = [cut, data.len()];
        assert_eq!(arriving(data, ends.into_iter()), at_once, "cut at {cut}: {}", data.escape_ascii());
    }
    at_once
}

/// Runs `check` on the request that is the whole of `data`.
fn request<T>(data: &[u8], check: impl FnOnce(&Request<'_, '_>) -> T) -> Result<T, HeadError> {
    let length = scanned(data)?.unwrap_or_else(|| panic!("no end: {}", data.escape_ascii()));
    let mut slots = Slots::new();
    Request::parse(&data[..length], &mut slots).map(|request| check(&request))
}

/// Runs `check` on the response that is the whole of `data`.
fn response<T>(data: &[u8], to_head: bool, check: impl FnOnce(&Response<'_, '_>) -> T) -> Result<T, HeadError> {
    let length = scanned(data)?.unwrap_or_else(|| panic!("no end: {}", data.escape_ascii()));
    let mut slots = Slots::new();
    Response::parse(&data[..length], &mut slots, to_head).map(|response| check(&response))
}

fn good<T>(data: &[u8], check: impl FnOnce(&Request<'_, '_>) -> T) -> T {
    request(data, check).unwrap_or_else(|error| panic!("{}: {error}", data.escape_ascii()))
}

fn refused(data: &[u8]) -> HeadError {
    match request(data, |request| format!("{request:?}")) {
        Err(error) => error,
        Ok(request) => panic!("{} was taken: {request}", data.escape_ascii()),
    }
}

/// Checks that the head is refused as malformed, for this reason and no other.
fn malformed(data: &[u8], reason: &str) {
    match refused(data) {
        HeadError::Malformed(found) => assert!(found.contains(reason), "{}: {found}", data.escape_ascii()),
        error => panic!("{}: {error:?}", data.escape_ascii()),
    }
}

/// A good request with these field lines added, each with its line end.
fn with(lines: impl AsRef<[u8]>) -> Vec<u8> {
    [b"POST /v4/decodetracks HTTP/1.1\r\nHost: h\r\n", lines.as_ref(), b"\r\n"].concat()
}

fn get(target: impl AsRef<[u8]>) -> Vec<u8> {
    [b"GET ", target.as_ref(), b" HTTP/1.1\r\nHost: h:1\r\n\r\n"].concat()
}

fn names(fields: &[Field<'_>]) -> Vec<String> {
    end_to_end(fields).map(|field| field.name.to_ascii_lowercase()).collect()
}

// ---- Scan: where a head ends, and which bytes may stand in it (RFC 9112 section 2.2) ----

#[test]
fn a_head_ends_with_its_empty_line_and_not_before() {
    for head in [
        &b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"[..],
        b"GET / HTTP/1.1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA:\r\n\r\n",
        b"HTTP/1.1 204 \r\n\r\n",
    ] {
        assert_eq!(scanned(head), Ok(Some(head.len())));
        for end in 0..head.len() {
            assert_eq!(scanned(&head[..end]), Ok(None), "{}", head[..end].escape_ascii());
        }
        // What follows is not looked at, be it the next head, a frame or garbage.
        for next in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"\x81\x85\0\0\0\0", b"\n\n", b"\r", b"\x16", b"\r\n\r\n"] {
            assert_eq!(scanned(&[head, next].concat()), Ok(Some(head.len())));
        }
    }
}

#[test]
fn a_line_ends_in_cr_lf_only() {
    for (data, reason) in [
        (&b"\n"[..], "LF without CR"),
        (b"GET / HTTP/1.1\nHost: h\r\n\r\n", "LF without CR"),
        (b"GET / HTTP/1.1\r\nHost: h\n\r\n", "LF without CR"),
        (b"GET / HTTP/1.1\r\nHost: h\r\n\n", "LF without CR"),
        (b"GET / HTTP/1.1\r\nHost: h\n\n", "LF without CR"),
        (b"GET / HTTP/1.1\r\nHost: h\r\nA: b\nContent-Length: 5\r\n\r\n", "LF without CR"),
        (b"\r\r\n", "CR without LF"),
        (b"GET / HTTP/1.1\rHost: h\r\n\r\n", "CR without LF"),
        (b"GET / HTTP/1.1\r\nHost: h\r\nA: b\rContent-Length: 5\r\n\r\n", "CR without LF"),
        (b"GET / HTTP/1.1\r\nHost: h\r\r\n\r\n", "CR without LF"),
        (b"GET / HTTP/1.1\r\nHost: h\r\n\r\r\n", "CR without LF"),
        (b"GET / HTTP/1.1\r\nHost: h\r\n\rGET", "CR without LF"),
    ] {
        match scanned(data) {
            Err(HeadError::Malformed(found)) => assert!(found.contains(reason), "{}: {found}", data.escape_ascii()),
            other => panic!("{}: {other:?}", data.escape_ascii()),
        }
    }
}

#[test]
fn no_control_stands_in_a_head() {
    for byte in (0..=255_u8).filter(|byte| !b"\r\n".contains(byte)) {
        let is_control = (byte < 32 && byte != b'\t') || byte == 127;
        let inside = [b"GET / HTTP/1.1\r\nHost: h\r\nA: b", &[byte][..], b"c\r\n\r\n"].concat();
        assert_eq!(request(&inside, |_| ()).is_err(), is_control, "{byte:#04x}");
        for (before, after) in
            [("GE", "T / HTTP/1.1\r\nHost: h\r\n\r\n"), ("GET / HTTP/1.1\r\nHost: h\r\nA", ": b\r\n\r\n")]
        {
            let data = [before.as_bytes(), &[byte], after.as_bytes()].concat();
            let expected =
                if is_control { Err(HeadError::Malformed("a control character")) } else { Ok(Some(data.len())) };
            assert_eq!(scanned(&data), expected, "{byte:#04x}");
        }
        // At once, not only when the head is complete.
        assert_eq!(scanned(&[b"GET /", &[byte][..]].concat()).is_err(), is_control);
    }
}

#[test]
fn other_protocols_are_told_by_their_name() {
    assert_eq!(scanned(b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03"), Err(HeadError::TlsHello));
    assert_eq!(scanned(b"\x16"), Err(HeadError::TlsHello));
    assert_eq!(scanned(b"PROXY TCP4 192.0.2.1 "), Err(HeadError::ProxyHeader));
    assert_eq!(scanned(b"PROXY UNKNOWN\r\nGET / HTTP/1.1\r\n"), Err(HeadError::ProxyHeader));
    malformed(b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c", "PROXY_PROTOCOL=on");
    assert_eq!(refused(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), HeadError::Http2Preface);
    for data in [
        &b"GET / HTTP/2.0\r\nHost: h\r\n\r\n"[..],
        b"GET / HTTP/2.0\r\n\r\n",
        b"PRI / HTTP/2.0\r\nHost: h\r\n\r\n",
        b"GET / HTTP/3.0\r\nHost: h\r\n\r\n",
        b"GET / HTTP/1.2\r\nHost: h\r\n\r\n",
        b"GET / HTTP/0.9\r\nHost: h\r\n\r\n",
        b"GET / HTTP/9.9\r\nHost: h\r\n\r\n",
    ] {
        assert_eq!(refused(data), HeadError::Version, "{}", data.escape_ascii());
    }
    for data in
        [&b"\x80\x2e\x01\0\x02"[..], b"\x05\x01\0", b"\x04\x01", b"*1\r\n$4\r\nPING\r\n\r\n", b"SSH-2.0-x\r\n\r\n"]
    {
        match scanned(data) {
            Ok(None) => panic!("{}", data.escape_ascii()),
            Ok(Some(_)) => malformed(data, "request line"),
            Err(error) => assert!(matches!(error, HeadError::Malformed(_))),
        }
    }
}

#[test]
fn a_parser_that_stops_elsewhere_than_the_scan_is_not_believed() {
    for (data, request) in [
        ("GET / HTTP/1.1\r\nHost: h\r\n\r\nGET /smuggled HTTP/1.1\r\n\r\n", true),
        ("GET / HTTP/1.1\r\nHost: h\n\nGET /smuggled HTTP/1.1\r\n\r\n", true),
        ("GET / HTTP/1.1\r\nHost: h\r\n", true),
        ("HTTP/1.1 200 OK\r\nA: b\n\nHTTP/1.1 200 OK\r\n\r\n", false),
        ("HTTP/1.1 200 OK\r\n", false),
    ] {
        let error = match request {
            true => Request::parse(data.as_bytes(), &mut Slots::new()).map(|_| ()),
            false => Response::parse(data.as_bytes(), &mut Slots::new(), false).map(|_| ()),
        };
        assert_eq!(error, Err(HeadError::Malformed("the head does not end where its empty line is")), "{data}");
    }
}

// ---- The request line (RFC 9112 section 3) ----

#[test]
fn the_request_line_has_three_words() {
    for (data, reason) in [
        (&b"\r\n\r\n"[..], "request line"),
        (b"\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n", "request line"),
        (b"GET\r\nHost: h\r\n\r\n", "request line"),
        (b"GET /\r\nHost: h\r\n\r\n", "request line"),
        (b"GET / \r\nHost: h\r\n\r\n", "HTTP version"),
        (b"GET  HTTP/1.1\r\nHost: h\r\n\r\n", "start line"),
        (b"GET  / HTTP/1.1\r\nHost: h\r\n\r\n", "request line"),
        (b"GET /  HTTP/1.1\r\nHost: h\r\n\r\n", "request line"),
        (b"GET / HTTP/1.1 \r\nHost: h\r\n\r\n", "request line"),
        (b" GET / HTTP/1.1\r\nHost: h\r\n\r\n", "request line"),
        (b" / HTTP/1.1\r\nHost: h\r\n\r\n", "start line"),
        (b"GET\t/\tHTTP/1.1\r\nHost: h\r\n\r\n", "request line"),
        (b"GET\t/ HTTP/1.1\r\nHost: h\r\n\r\n", "request line"),
        (b"GET /\tHTTP/1.1 HTTP/1.1\r\nHost: h\r\n\r\n", "byte"),
        (b"GET / HTTP/1.1 HTTP/1.1\r\nHost: h\r\n\r\n", "request line"),
        (b"GET /a b HTTP/1.1\r\nHost: h\r\n\r\n", "request line"),
        (b"GET / HTTP/1.1x\r\nHost: h\r\n\r\n", "HTTP version"),
        (b"GET / http/1.1\r\nHost: h\r\n\r\n", "HTTP version"),
        (b"GET / HTTP/1\r\nHost: h\r\n\r\n", "HTTP version"),
        (b"GET / HTTP/11.1\r\nHost: h\r\n\r\n", "HTTP version"),
        (b"GET / HTTP/1.10\r\nHost: h\r\n\r\n", "HTTP version"),
        (b"GET / HTTP/01.1\r\nHost: h\r\n\r\n", "HTTP version"),
        (b"GET / HTTP/+.1\r\nHost: h\r\n\r\n", "HTTP version"),
        (b"GET / HTTP 1.1\r\nHost: h\r\n\r\n", "request line"),
        (b"GET / HTTPS/1.1\r\nHost: h\r\n\r\n", "HTTP version"),
        (b"GET / ICE/1.0\r\nHost: h\r\n\r\n", "HTTP version"),
        (b"G(T / HTTP/1.1\r\nHost: h\r\n\r\n", "start line"),
        (b"GET: / HTTP/1.1\r\nHost: h\r\n\r\n", "start line"),
        (b"G\xc3\x89T / HTTP/1.1\r\nHost: h\r\n\r\n", "start line"),
        (b"HTTP/1.1 200 OK\r\nHost: h\r\n\r\n", "HTTP version"),
    ] {
        malformed(data, reason);
    }
    for method in
        ["GET", "POST", "PATCH", "DELETE", "HEAD", "OPTIONS", "PUT", "TRACE", "QUERY", "get", "M-SEARCH", "!x"]
    {
        let data = format!("{method} / HTTP/1.1\r\nHost: h\r\n\r\n");
        good(data.as_bytes(), |request| assert_eq!((request.method, request.path()), (method, "/")));
    }
    good(b"CONNECT h:443 HTTP/1.1\r\nHost: h:443\r\n\r\n", |request| assert_eq!(request.method, "CONNECT"));
    good(b"GET / HTTP/1.0\r\nHost: h\r\n\r\n", |request| assert_eq!(request.version, Version::Http10));
    good(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n", |request| assert_eq!(request.version, Version::Http11));
}

#[test]
fn a_target_is_passed_byte_for_byte() {
    for (target, path) in [
        ("/", "/"),
        ("/?", "/"),
        ("/v4/websocket", "/v4/websocket"),
        ("/v4/info?", "/v4/info"),
        ("/v4/loadtracks?identifier=ytsearch%3Aa+b&x=[y]", "/v4/loadtracks"),
        ("/loadtracks?identifier=https://www.youtube.com/watch?v=dQw4w9WgXcQ&list=/v3/", "/loadtracks"),
        ("/v4/decodetrack?encodedTrack=QAAAdQMA+/==", "/v4/decodetrack"),
        ("//version", "//version"),
        ("/v3//info", "/v3//info"),
        ("/v3/x/../info", "/v3/x/../info"),
        ("/v4/%69nfo", "/v4/%69nfo"),
        ("/%zz%", "/%zz%"),
        ("/v4/info;x=1", "/v4/info;x=1"),
        ("/v3:80@h/{a}|b^c`d\"e<f>\\g", "/v3:80@h/{a}|b^c`d\"e<f>\\g"),
        ("//h:1/", "//h:1/"),
        ("/http://h:1/", "/http://h:1/"),
    ] {
        good(&get(target), |request| assert_eq!((request.target, request.path()), (target, path)));
    }
    for (target, reason) in [
        (&b"/#"[..], "fragment"),
        (b"/v4/info#x", "fragment"),
        (b"/v4/info?a#/../v3", "fragment"),
        (b"http://h:1/#x", "fragment"),
        (b"#", "fragment"),
        (b"/\x80", "percent-encoded"),
        (b"/caf\xc3\xa9", "percent-encoded"),
        (b"/a\tb", "percent-encoded"),
        (b"/\xff", "percent-encoded"),
        (b"v4/info", "neither"),
        (b"?a", "neither"),
        (b"*", "neither"),
        (b"h:1", "neither"),
        (b"h", "neither"),
        (b"\\v4\\info", "neither"),
        (b".", "neither"),
        (b"@h/", "neither"),
        (b"ftp://h:1/", "neither"),
        (b"ws://h:1/", "neither"),
        (b"file:///etc/passwd", "neither"),
        (b"http:/h:1/", "neither"),
        (b"http:h:1", "neither"),
        (b"http", "neither"),
        (b"https:/", "neither"),
    ] {
        malformed(&get(target), reason);
    }
    good(b"OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n", |request| assert_eq!((request.target, request.path()), ("*", "*")));
    malformed(b"OPTIONS *x HTTP/1.1\r\nHost: h\r\n\r\n", "neither");
}

#[test]
fn an_absolute_target_becomes_a_path_and_agrees_with_host() {
    for (host, absolute, target) in [
        ("h:1", "http://h:1/version", "/version"),
        ("h:1", "http://h:1", "/"),
        ("h:1", "http://h:1/", "/"),
        ("h:1", "HTTP://H:1/V3?x", "/V3?x"),
        ("h:1", "https://h:1/v4/info", "/v4/info"),
        ("H:1", "http://h:1//x", "//x"),
        ("h", "http://h/http://other/", "/http://other/"),
        ("h", "http://h/@other/", "/@other/"),
        ("[::1]:80", "http://[::1]:80/", "/"),
    ] {
        let data = format!("GET {absolute} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        good(data.as_bytes(), |request| assert_eq!(request.target, target));
    }
    for (host, absolute, reason) in [
        ("h", "http://other/", "differs"),
        ("h", "http://h:80/", "differs"),
        ("h:80", "http://h/", "differs"),
        ("h:1", "http://h:2/", "differs"),
        ("h", "http://h./", "differs"),
        ("", "http://h/", "differs"),
        ("h", "http://h.other/", "differs"),
        ("h", "http:///", "authority"),
        ("", "http:///x", "authority"),
        ("h", "http://", "authority"),
        ("h", "http://?x", "authority"),
        ("h", "http://user@h/", "authority"),
        ("h", "http://user:pass@h/", "authority"),
        ("h", "http://h:x/", "authority"),
        ("h", "http://h\\@other/", "authority"),
        ("h", "http://[h/", "authority"),
        ("h", "http://h?x", "no path"),
        ("h", "http://h?/x", "no path"),
    ] {
        malformed(format!("GET {absolute} HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes(), reason);
    }
    // HTTP/1.0 may do without Host.
    good(b"GET http://h/x HTTP/1.0\r\n\r\n", |request| assert_eq!(request.target, "/x"));
    malformed(b"GET http://user@h/x HTTP/1.0\r\n\r\n", "authority");
    malformed(b"GET http:///x HTTP/1.0\r\n\r\n", "authority");
}

#[test]
fn there_is_one_host_and_it_is_a_host() {
    for (fields, reason) in [
        ("", "no Host"),
        ("X-Host: h\r\n", "no Host"),
        ("Host: h\r\nHost: h\r\n", "two Host"),
        ("Host: h\r\nhost: other\r\n", "two Host"),
        ("Host: h\r\nA: b\r\nHOST:\r\n", "two Host"),
        ("Host: a b\r\n", "Host is not"),
        ("Host: a\tb\r\n", "Host is not"),
        ("Host: h/\r\n", "Host is not"),
        ("Host: http://h\r\n", "Host is not"),
        ("Host: user@h\r\n", "Host is not"),
        ("Host: h#x\r\n", "Host is not"),
        ("Host: h?x\r\n", "Host is not"),
        ("Host: h\\x\r\n", "Host is not"),
        ("Host: h:x\r\n", "Host is not"),
        ("Host: h:-1\r\n", "Host is not"),
        ("Host: h:+1\r\n", "Host is not"),
        ("Host: h:0x50\r\n", "Host is not"),
        ("Host: h:1 \t:2\r\n", "Host is not"),
        ("Host: h:123456\r\n", "Host is not"),
        ("Host: h:1:2\r\n", "Host is not"),
        ("Host: ::1\r\n", "Host is not"),
        ("Host: [::1\r\n", "Host is not"),
        ("Host: ::1]\r\n", "Host is not"),
        ("Host: [::1]x\r\n", "Host is not"),
        ("Host: [::1]]\r\n", "Host is not"),
        ("Host: [::1]80\r\n", "Host is not"),
        ("Host: [::1]:x\r\n", "Host is not"),
        ("Host: [[::1]]\r\n", "Host is not"),
        ("Host: \"h\"\r\n", "Host is not"),
        ("Host: <h>\r\n", "Host is not"),
        ("Host: h\u{e9}\r\n", "Host is not"),
    ] {
        malformed(format!("GET / HTTP/1.1\r\n{fields}\r\n").as_bytes(), reason);
    }
    for host in [
        "",
        "h",
        "h:1",
        "h:65535",
        "h:",
        "H.example",
        "127.0.0.1:6923",
        "[::1]",
        "[::1]:6923",
        "[fe80::1%25eth0]",
        "a_b-c.d",
        "xn--bcher-kva.example:443",
        "a%20b",
    ] {
        good(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes(), |request| {
            assert_eq!(single(request.fields, "host"), Ok(Some(host.as_bytes())));
        });
    }
    good(b"GET / HTTP/1.0\r\n\r\n", |request| assert_eq!(request.target, "/"));
    malformed(b"GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n", "two Host");
    malformed(b"GET / HTTP/1.0\r\nHost: a/b\r\n\r\n", "Host is not");
}

// ---- Field lines (RFC 9112 section 5) ----

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
    good(&of_length(MAX_HEAD), |request| assert_eq!(request.target.len(), MAX_HEAD - "GET  HTTP/1.1".len()));
    assert_eq!(refused(&of_length(MAX_HEAD + 1)), HeadError::TargetTooLong);
    // What is too long is told as that, even if it breaks another rule as well.
    assert_eq!(refused(&get(format!("/#{}", " ".repeat(MAX_HEAD)))), HeadError::TargetTooLong);
    // Fields alone may be more than goes on, until hop-by-hop ones are gone.
    good(&with(format!("Connection: x\r\nX: {}\r\n", "a".repeat(MAX_HEAD))), |request| {
        assert_eq!(names(request.fields), ["host"]);
    });
}

// ---- Where the body ends (RFC 9112 section 6) ----

#[test]
fn framing_is_said_once_and_clearly() {
    for (lines, framing) in [
        ("", Framing::None),
        ("Content-Length: 0\r\n", Framing::Length(0)),
        ("Content-Length: 5\r\n", Framing::Length(5)),
        ("content-length:5\r\n", Framing::Length(5)),
        ("Content-Length: \t5 \r\n", Framing::Length(5)),
        ("Content-Length: 0005\r\n", Framing::Length(5)),
        ("Content-Length: 18446744073709551615\r\n", Framing::Length(u64::MAX)),
        ("Content-Length: 5\r\nContent-Length: 5\r\n", Framing::Length(5)),
        ("Transfer-Encoding: chunked\r\n", Framing::Chunked),
        ("transfer-encoding:CHUNKED\r\n", Framing::Chunked),
        ("Transfer-Encoding: \t chunked \t\r\n", Framing::Chunked),
        ("Transfer-Encodings: chunked\r\n", Framing::None),
        ("X-Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", Framing::Length(5)),
        ("TE: chunked\r\n", Framing::None),
    ] {
        for method in ["POST", "GET", "DELETE", "PATCH"] {
            let data = format!("{method} / HTTP/1.1\r\nHost: h\r\n{lines}\r\n");
            good(data.as_bytes(), |request| assert_eq!(request.framing, framing, "{lines}"));
        }
    }
}

#[test]
fn a_length_is_digits_and_the_same_throughout() {
    const NUMBER: &str = "not a number";
    for (lines, reason) in [
        ("Content-Length:\r\n", NUMBER),
        ("Content-Length: \r\n", NUMBER),
        ("Content-Length: -1\r\n", NUMBER),
        ("Content-Length: +5\r\n", NUMBER),
        ("Content-Length: 0x5\r\n", NUMBER),
        ("Content-Length: 5.0\r\n", NUMBER),
        ("Content-Length: 1e1\r\n", NUMBER),
        ("Content-Length: 5 5\r\n", NUMBER),
        ("Content-Length: 5\t5\r\n", NUMBER),
        ("Content-Length: 5;\r\n", NUMBER),
        ("Content-Length: 1_0\r\n", NUMBER),
        ("Content-Length: 5, 5\r\n", NUMBER),
        ("Content-Length: 5,6\r\n", NUMBER),
        ("Content-Length: ,5\r\n", NUMBER),
        ("Content-Length: \"5\"\r\n", NUMBER),
        ("Content-Length: five\r\n", NUMBER),
        ("Content-Length: \u{665}\r\n", NUMBER),
        ("Content-Length: 18446744073709551616\r\n", NUMBER),
        ("Content-Length: 99999999999999999999999\r\n", NUMBER),
        ("Content-Length: 5\r\nContent-Length:\r\n", NUMBER),
        ("Content-Length: 5\r\nContent-Length: x\r\n", NUMBER),
        ("Content-Length: 5\r\nContent-Length: 6\r\n", "differ"),
        ("Content-Length: 0\r\ncontent-length: 44\r\n", "differ"),
        ("Content-Length: 5\r\nA: b\r\nContent-Length: 5\r\nContent-Length: 0\r\n", "differ"),
    ] {
        malformed(&with(lines), reason);
        malformed(format!("POST / HTTP/1.0\r\n{lines}\r\n").as_bytes(), reason);
    }
    malformed(&with(b"Content-Length: 5\xff\r\n"), NUMBER);
}

#[test]
fn a_length_and_a_coding_do_not_go_together() {
    for lines in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 0\r\n",
        "Content-Length: 5\r\nTransfer-Encoding: gzip\r\n",
        "Content-Length: 5\r\nTransfer-Encoding:\r\n",
        "Content-Length: 5\r\nTransfer-Encoding: identity\r\n",
        "Content-Length: 5\r\nTransfer-Encoding: xchunked\r\n",
        "Content-Length: 5\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n",
    ] {
        malformed(&with(lines), "both");
    }
    malformed(&with("Transfer-Encoding: chunked\r\nContent-Length: x\r\n"), "not a number");
    malformed(&with("Transfer-Encoding: chunked\r\nContent-Length: 5\r\nContent-Length: 6\r\n"), "differ");
    for version in ["1.0", "1.1"] {
        let data =
            format!("POST / HTTP/{version}\r\nHost: h\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n");
        malformed(data.as_bytes(), "both");
    }
}

#[test]
fn the_only_coding_is_chunked() {
    for value in [
        &b""[..],
        b"identity",
        b"gzip",
        b"gzip, chunked",
        b"chunked, gzip",
        b"chunked, identity",
        b"chunked, chunked",
        b"chunked,",
        b",chunked",
        b", chunked",
        b"chunked;q=1",
        b"chunked;",
        b"xchunked",
        b"chunkedx",
        b"chunke",
        b"\"chunked\"",
        b"'chunked'",
        b"chunked chunked",
        b"chu\tnked",
        b"cow",
        b"\xa0chunked",
        b"chunked\xff",
        b"chun\xe2\x84\xaaed",
        b"x: chunked",
    ] {
        assert_eq!(refused(&with([b"Transfer-Encoding: ", value, b"\r\n"].concat())), HeadError::Coding, "{value:?}");
    }
    for lines in [
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-encoding: x\r\n",
        "Transfer-Encoding: identity\r\ntransfer-encoding: chunked\r\n",
        "Transfer-Encoding:\r\nTransfer-Encoding: chunked\r\n",
    ] {
        malformed(&with(lines), "two Transfer-Encoding");
    }
    // Ways to hide the field from one of two readers.
    for lines in [
        "Transfer-Encoding : chunked\r\n",
        " Transfer-Encoding: chunked\r\n",
        "X: y\r\n Transfer-Encoding: chunked\r\n",
        "Transfer-Encoding:\r\n chunked\r\n",
        "Transfer-Encoding: x\r\n\tchunked\r\n",
        "X: y\rTransfer-Encoding: chunked\r\n",
        "X: y\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding\0: chunked\r\n",
        "Transfer-Encoding: \x0bchunked\r\n",
        "Transfer-Encoding: chunked\x0c\r\n",
        "Transfer-Encoding: chunked\0\r\n",
        "Transfer-Encoding\r\n: chunked\r\n",
    ] {
        assert!(matches!(refused(&with(lines)), HeadError::Malformed(_)), "{lines:?}");
        assert!(
            matches!(refused(&with(format!("Content-Length: 5\r\n{lines}"))), HeadError::Malformed(_)),
            "{lines:?}"
        );
    }
    malformed(b"POST / HTTP/1.0\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n", "HTTP/1.0");
    malformed(b"POST / HTTP/1.0\r\nHost: h\r\nTransfer-Encoding: gzip\r\n\r\n", "HTTP/1.0");
}

// ---- Connection, upgrades, expectations (RFC 9110 sections 7.6, 7.8, 10.1.1; RFC 6455 section 4) ----

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
fn an_expectation_is_seen() {
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
fn hop_by_hop_fields_stay_on_their_hop() {
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
        // What nobody names away.
        ("Connection: Authorization, Host\r\nAuthorization: x\r\n", &["host", "authorization"]),
        (
            "Connection: close, X-Forwarded-For, forwarded\r\nX-Forwarded-For: 1\r\nForwarded: for=1\r\n",
            &["host", "x-forwarded-for", "forwarded"],
        ),
        // What looks like them is not them.
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

// ---- Smuggling as it was published, whole messages ----

#[test]
fn known_ways_to_smuggle_a_request_are_refused() {
    for data in [
        // CL.TE and TE.CL.
        &b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 13\r\nTransfer-Encoding: chunked\r\n\r\n"[..],
        b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n",
        // TE.TE: one of the two is hidden.
        b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\nTransfer-Encoding: xchunked\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\nTransfer-Encoding : chunked\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding:[tab]chunked\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: h\r\n Transfer-Encoding: chunked\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: h\r\nX: X[\n]Transfer-Encoding: chunked\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding\n: chunked\r\n\r\n",
        // CL.CL.
        b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 8\r\nContent-Length: 7\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 8, 7\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\nContent-Length: 1, 0\r\n\r\n",
        // A length that wraps around, and one that another base makes different.
        b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 18446744073709551621\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0x10\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: +1\r\n\r\n",
        // A line that one reader ends early.
        b"GET / HTTP/1.1\r\nHost: h\r\nX: \r\n\x00Content-Length: 5\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: h\r\nX: y\n\nGET /smuggled HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: h\r\nX: y\r\rGET /smuggled HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: h\r\n\x0b\r\n\r\n",
        // Another host, or another request line, for one of the two.
        b"GET http://other/ HTTP/1.1\r\nHost: h\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: h\r\nHost: other\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: h\r\n Host: other\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: h@other\r\n\r\n",
        b"GET http://h@other/ HTTP/1.1\r\nHost: h\r\n\r\n",
        b"GET /x HTTP/1.1 /y HTTP/1.1\r\nHost: h\r\n\r\n",
        b"GET @other/ HTTP/1.1\r\nHost: h\r\n\r\n",
        // HTTP/1.0 and 0.9, where the rules differ.
        b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"GET /\r\n\r\n",
        // Upgrades that would turn the connection into something unread.
        b"PRI * HTTP/2.0\r\n\r\n",
    ] {
        refused(data);
    }
    // One that is hidden from nobody: the fields are not ours, and no coding is applied.
    good(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\nTransfer_Encoding: chunked\r\n\r\n", |request| {
        assert_eq!(request.framing, Framing::Length(4));
    });
}

// ---- What bots send ----

#[test]
fn what_bot_libraries_send_passes() {
    // Each with its path, its number of end-to-end fields, whether it is a handshake, and its framing.
    for (data, path, passed, upgrades, framing) in [
        (
            // shoukaku 4 on ws.
            "GET /v4/websocket HTTP/1.1\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             Connection: Upgrade\r\nUpgrade: websocket\r\nClient-Name: shoukaku/4.3.0 (https://github.com/shipgirlproject/Shoukaku)\r\n\
             User-Agent: Shoukaku/4.3.0\r\nAuthorization: youshallnotpass\r\nUser-Id: 123456789012345678\r\n\
             Session-Id: 5fr7okxwgml5cack\r\nSec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\
             Host: proxy.example:6923\r\n\r\n",
            "/v4/websocket",
            9,
            true,
            Framing::None,
        ),
        (
            // aiohttp, as wavelink 3 and mafic 2 use it; mafic sends an empty Session-Id.
            "GET /v4/websocket HTTP/1.1\r\nHost: 127.0.0.1:6923\r\nAuthorization: youshallnotpass\r\nUser-Id: 1\r\n\
             Client-Name: Mafic/2.11.0\r\nSession-Id: \r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nAccept: */*\r\n\
             Accept-Encoding: gzip, deflate\r\nUser-Agent: Python/3.12 aiohttp/3.9.5\r\n\r\n",
            "/v4/websocket",
            10,
            true,
            Framing::None,
        ),
        (
            // rainlink 1: lower case throughout.
            "GET /v4/websocket HTTP/1.1\r\nhost: h\r\nsec-websocket-version: 13\r\nsec-websocket-key: x\r\nconnection: Upgrade\r\n\
             upgrade: websocket\r\nauthorization: p\r\nuser-id: 1\r\nclient-name: rainlink/[object Object] (https://x)\r\n\
             session-id: \r\nuser-agent: rainlink\r\n\r\n",
            "/v4/websocket",
            8,
            true,
            Framing::None,
        ),
        (
            // lavaclient 4 and erela 2: the root, a Resume-Key, no User-Agent.
            "GET / HTTP/1.1\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Authorization: p\r\nNum-Shards: 1\r\nUser-Id: 1\r\nClient-Name: lavaclient\r\nResume-Key: my-key-1\r\nHost: h:1\r\n\r\n",
            "/",
            8,
            true,
            Framing::None,
        ),
        (
            // undici's fetch: GET.
            "GET /v4/loadtracks?identifier=ytsearch%3Anever%20gonna HTTP/1.1\r\nhost: h:6923\r\nconnection: keep-alive\r\n\
             Authorization: youshallnotpass\r\nUser-Agent: Shoukaku/4.3.0\r\naccept: */*\r\naccept-language: *\r\n\
             sec-fetch-mode: cors\r\naccept-encoding: gzip, deflate\r\n\r\n",
            "/v4/loadtracks",
            7,
            false,
            Framing::None,
        ),
        (
            // erela 2 on undici's pool: hardly a field.
            "GET /loadtracks?identifier=https%3A%2F%2Fx HTTP/1.1\r\nhost: h\r\nconnection: keep-alive\r\nAuthorization: p\r\n\r\n",
            "/loadtracks",
            2,
            false,
            Framing::None,
        ),
        (
            // pomice 2: GET and DELETE with a body.
            "GET /version HTTP/1.1\r\nHost: h:1\r\nAuthorization: p\r\nUser-Id: 1\r\nClient-Name: Pomice/2.9.0\r\n\
             Accept: */*\r\nContent-Length: 2\r\nContent-Type: application/json\r\n\r\n",
            "/version",
            6,
            false,
            Framing::Length(2),
        ),
        (
            "DELETE /v4/sessions/5fr7okxwgml5cack/players/1234567890123 HTTP/1.1\r\nHost: h:1\r\nAuthorization: p\r\n\
             Content-Length: 2\r\nContent-Type: application/json\r\n\r\n",
            "/v4/sessions/5fr7okxwgml5cack/players/1234567890123",
            3,
            false,
            Framing::Length(2),
        ),
        (
            "PATCH /v4/sessions/5fr7okxwgml5cack/players/1?noReplace=false&trace=true HTTP/1.1\r\nhost: h\r\nconnection: keep-alive\r\n\
             content-type: application/json\r\nauthorization: p\r\ncontent-length: 61\r\n\r\n",
            "/v4/sessions/5fr7okxwgml5cack/players/1",
            3,
            false,
            Framing::Length(61),
        ),
        (
            // lavalink.py 5.
            "GET /v4/info HTTP/1.1\r\nHost: h\r\nAuthorization: p\r\nConnection: close\r\nUser-Agent: Lavalink.py/5.11.1\r\n\r\n",
            "/v4/info",
            3,
            false,
            Framing::None,
        ),
        (
            "DELETE /v4/sessions/x/players/1 HTTP/1.1\r\nHost: h\r\nAuthorization: p\r\nContent-Length: 0\r\n\r\n",
            "/v4/sessions/x/players/1",
            2,
            false,
            Framing::Length(0),
        ),
        (
            // curl.
            "POST /v4/decodetracks HTTP/1.1\r\nHost: h\r\nUser-Agent: curl/8.5.0\r\nAccept: */*\r\nAuthorization: p\r\n\
             Content-Type: application/json\r\nContent-Length: 20000\r\nExpect: 100-continue\r\n\r\n",
            "/v4/decodetracks",
            6,
            false,
            Framing::Length(20_000),
        ),
    ] {
        good(data.as_bytes(), |request| {
            assert_eq!(
                (request.path(), request.framing, request.upgrade.is_some()),
                (path, framing, upgrades),
                "{data}"
            );
            assert_eq!(end_to_end(request.fields).count(), passed, "{data}");
            assert!(single(request.fields, "authorization").unwrap().is_some());
            assert_eq!(request.keep_alive, !data.contains("Connection: close"));
        });
    }
}

// ---- Responses ----

#[test]
fn what_lavalink_answers_passes() {
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

#[test]
fn a_response_is_as_strict_as_a_request() {
    for (data, error) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", "both"),
        ("HTTP/1.1 304 x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", "both"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n", "differ"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\n", "not a number"),
        ("HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "not a number"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", "coding"),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
            "two Transfer-Encoding",
        ),
        ("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "HTTP/1.0"),
        ("HTTP/1.1 200 OK\r\nA : b\r\n\r\n", "field name"),
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
        // A line end left over from the answer before is the trace of a body that was misjudged.
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
        // Its body ends with the connection.
        ("HTTP/1.1 200 OK\r\n\r\n", false),
    ] {
        assert_eq!(response(data.as_bytes(), false, |response| response.keep_alive), Ok(keep_alive), "{data}");
    }
}

#[test]
fn a_switch_is_seen_only_when_it_is_one() {
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

// ---- Whatever comes ----

/// Parses without a scan before it: a head that was not scanned must not panic either.
fn unscanned(data: &[u8]) {
    let _ = Request::parse(data, &mut Slots::new()).map(|request| request.path().len());
    let _ = Response::parse(data, &mut Slots::new(), false).map(|response| response.status);
}

/// What must hold of every request that is let through, checked on its bytes.
fn holds(data: &[u8]) {
    let at_once = arriving(data, std::iter::once(data.len()));
    assert_eq!(arriving(data, 0..=data.len()), at_once, "byte by byte: {}", data.escape_ascii());
    let Ok(Some(length)) = at_once else { return };
    assert!(length <= data.len() && data[..length].ends_with(b"\r\n\r\n"));
    let mut slots = Slots::new();
    let Ok(request) = Request::parse(&data[..length], &mut slots) else { return };
    let text = data[..length].escape_ascii().to_string();
    assert!(request.target.starts_with('/') || request.target == "*" || request.method == "CONNECT", "{text}");
    assert!(request.target.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#'), "{text}");
    assert!(request.method.bytes().all(|byte| byte.is_ascii_graphic()), "{text}");
    let count = |name: &str| values(request.fields, name).count();
    assert!(count("host") == 1 || (count("host") == 0 && request.version == Version::Http10), "{text}");
    let coded = count("transfer-encoding");
    match request.framing {
        Framing::None => assert_eq!((coded, count("content-length")), (0, 0), "{text}"),
        Framing::Length(_) => assert!(coded == 0 && count("content-length") > 0, "{text}"),
        Framing::Chunked => assert!(coded == 1 && count("content-length") == 0, "{text}"),
        Framing::UntilClose => panic!("{text}"),
    }
    // Every line of the head is one field, and written again it is read the same.
    assert_eq!(data[..length].split(|byte| *byte == b'\n').count() - 3, request.fields.len(), "{text}");
    let mut again = format!("{} {} HTTP/1.1\r\n", request.method, request.target).into_bytes();
    for field in end_to_end(request.fields) {
        assert!(field.value.iter().all(|byte| *byte == b'\t' || (*byte >= b' ' && *byte != 127)), "{text}");
        again.extend_from_slice(&[field.name.as_bytes(), b": ", field.value, b"\r\n"].concat());
    }
    again.extend_from_slice(b"\r\n");
    if request.version == Version::Http11 {
        let mut slots = Slots::new();
        let second = Request::parse(&again, &mut slots).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(
            (second.method, second.target, second.framing),
            (request.method, request.target, Framing::None),
            "{text}"
        );
        assert_eq!(names(second.fields), names(request.fields), "{text}");
    }
}

const SEEDS: [&[u8]; 6] = [
    b"GET /v4/info?x=y HTTP/1.1\r\nHost: h:80\r\nAuthorization: p\r\n\r\n",
    b"POST http://h/v3 HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nConnection: close, X\r\nX: y\r\n\r\nhello",
    b"PATCH / HTTP/1.1\r\nHost: [::1]:80\r\nTransfer-Encoding: chunked\r\nA:\r\n\r\n0\r\n\r\n",
    b"GET /v4/websocket HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    b"OPTIONS * HTTP/1.0\r\nExpect: 100-continue\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n",
];

#[test]
fn every_byte_in_every_place_is_judged() {
    for seed in SEEDS {
        for place in 0..seed.len() {
            for byte in 0..=255 {
                let mut data = seed.to_vec();
                data[place] = byte;
                unscanned(&data);
                holds(&data);
            }
        }
    }
}

#[test]
fn whatever_comes_is_taken_or_refused_and_never_misread() {
    const FRAGMENTS: [&[u8]; 28] = [
        b"\r\n",
        b"\n",
        b"\r",
        b"\r\n\r\n",
        b" ",
        b"\t",
        b":",
        b",",
        b"#",
        b"?",
        b"/",
        b"http://",
        b"h",
        b"@",
        b"[",
        b"]",
        b"\0",
        b"\x80",
        b"HTTP/1.1",
        b"HTTP/1.0",
        b"Host: h\r\n",
        b"Content-Length: 5\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Connection: Host\r\n",
        b"Content-Length: 6\r\n",
        b"Transfer-Encoding",
        b"chunked",
        b"X: y\r\n",
    ];
    let mut random = Random(0x1234_5678_9abc_def1);
    for _ in 0..20_000 {
        let mut data = random.pick(&SEEDS).to_vec();
        for _ in 0..=random.below(5) {
            let place = random.below(data.len() + 1);
            match random.below(4) {
                0 if place < data.len() => data[place] = random.byte(),
                1 => drop(data.drain(place..(place + random.below(6)).min(data.len()))),
                2 => {
                    // A piece of another head.
                    let other = random.pick(&SEEDS);
                    let start = random.below(other.len());
                    let end = start + random.below(other.len() - start + 1);
                    data.splice(place..place, other[start..end].iter().copied());
                }
                _ => drop(data.splice(place..place, random.pick(&FRAGMENTS).iter().copied())),
            }
        }
        unscanned(&data);
        holds(&data);
    }
    for _ in 0..2000 {
        let data: Vec<u8> = (0..random.below(200)).map(|_| random.byte()).collect();
        unscanned(&data);
        holds(&data);
    }
}

// ---- Reading a head ----

/// A peer that sends each piece by itself, then what `end` says: its end of stream, or a timeout.
struct Peer<'a> {
    pieces: Vec<&'a [u8]>,
    end: Option<io::ErrorKind>,
}

impl Read for Peer<'_> {
    fn read(&mut self, window: &mut [u8]) -> io::Result<usize> {
        let Some(piece) = self.pieces.first_mut() else {
            return self.end.map_or(Ok(0), |kind| Err(kind.into()));
        };
        let count = piece.read(window)?;
        if piece.is_empty() {
            self.pieces.remove(0);
        }
        Ok(count)
    }
}

#[test]
fn a_head_is_read_however_it_arrives_and_what_follows_is_kept() {
    let data = b"GET / HTTP/1.1\r\nHost: h\r\n\r\nGET /next HTTP/1.1\r\n";
    let length = 27;
    for size in 1..=data.len() {
        let mut peer = Peer { pieces: data.chunks(size).collect(), end: None };
        let mut buffer = Buffer::default();
        let mut begun = Vec::new();
        let found = read(&mut peer, &mut buffer, |_, partial| {
            begun.push(partial);
            Ok(())
        });
        assert_eq!(found.unwrap(), length, "in {size}s");
        assert_eq!(begun.len(), length.div_ceil(size), "no read more than it takes");
        assert!(!begun[0] && begun[1..].iter().all(|begun| *begun), "{begun:?}");
        assert!(data.starts_with(buffer.data()) && buffer.data().len() >= length);
        // The next head begins with what is there already, and no read comes before a look at it.
        buffer.consume(length);
        let partial = !buffer.is_empty();
        peer.pieces.push(b"\r\n");
        let mut first = None;
        let found = read(&mut peer, &mut buffer, |_, begun| {
            first.get_or_insert(begun);
            Ok(())
        });
        assert_eq!((found.unwrap(), first), (data.len() - length + 2, Some(partial)), "in {size}s");
    }
}

#[test]
fn a_head_that_does_not_come_says_how_far_it_came() {
    let outcome = |pieces: &[&'static [u8]], end| {
        let mut peer = Peer { pieces: pieces.to_vec(), end };
        match read(&mut peer, &mut Buffer::default(), |_, _| Ok(())).unwrap_err() {
            ReadError::Head(error) => error.to_string(),
            ReadError::Closed { partial } => format!("closed {partial}"),
            ReadError::Io { error, partial } => format!("{:?} {partial}", error.kind()),
        }
    };
    assert_eq!(outcome(&[], None), "closed false");
    assert_eq!(outcome(&[b"G"], None), "closed true");
    assert_eq!(outcome(&[b"GET / HTTP/1.1\r\n", b"Host: h\r\n\r"], None), "closed true");
    assert_eq!(outcome(&[], Some(io::ErrorKind::WouldBlock)), "WouldBlock false");
    assert_eq!(outcome(&[b"GET"], Some(io::ErrorKind::ConnectionReset)), "ConnectionReset true");
    // A head that cannot become good is refused before it is complete.
    assert_eq!(
        outcome(&[b"GET / HTTP/1.1\n"], Some(io::ErrorKind::WouldBlock)),
        "malformed head: a line ends in LF without CR"
    );
    assert_eq!(outcome(&[b"\x16\x03\x01"], Some(io::ErrorKind::WouldBlock)), HeadError::TlsHello.to_string());

    let mut peer = Peer { pieces: vec![b"GET / HTTP/1.1\r\n\r\n"], end: None };
    let deadline = |_: &mut Peer<'_>, _| Err(io::ErrorKind::TimedOut.into());
    let error = read(&mut peer, &mut Buffer::default(), deadline).unwrap_err();
    assert!(matches!(error, ReadError::Io { partial: false, .. }), "{error:?}");
    assert_eq!(peer.pieces.len(), 1, "nothing is read past a deadline");
}

#[test]
fn a_head_has_a_largest() {
    let head = |length: usize| {
        let (start, end) = ("GET / HTTP/1.1\r\nHost: h\r\nA: ", "\r\n\r\n");
        format!("{start}{}{end}", "a".repeat(length - start.len() - end.len()))
    };
    // As large as a body may have made the buffer before.
    for capacity in [0, 64 * 1024] {
        for size in [1000, 64 * 1024] {
            let outcome = |data: &str| {
                let mut buffer = Buffer::default();
                while !buffer.holds(capacity) {
                    buffer.fill(&mut io::repeat(b'a'), capacity).unwrap();
                }
                buffer.clear();
                let mut peer = Peer { pieces: data.as_bytes().chunks(size).collect(), end: None };
                match read(&mut peer, &mut buffer, |_, _| Ok(())) {
                    Ok(length) => Ok(length),
                    Err(ReadError::Head(error)) => Err(error),
                    Err(error) => panic!("{error:?}"),
                }
            };
            assert_eq!(outcome(&head(MAX_READ_HEAD)), Ok(MAX_READ_HEAD));
            assert_eq!(outcome(&head(MAX_READ_HEAD + 1)), Err(HeadError::TooLarge));
            assert_eq!(outcome(&head(MAX_READ_HEAD * 3)), Err(HeadError::TooLarge));
            assert_eq!(outcome(&format!("GET /{}", "a".repeat(MAX_READ_HEAD))), Err(HeadError::TargetTooLong));
        }
    }
}
