//! The request line and Host (RFC 9112 section 3).

use super::*;

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
fn a_target_is_kept_byte_for_byte() {
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
        good(&get(target), |request| assert_eq!((&*request.target.to_string(), request.path()), (target, path)));
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
    good(b"OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n", |request| {
        assert_eq!(request.target, Target { path: "*", query: "" })
    });
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
        // RFC 3986 section 6.2.3: an empty path is `/`.
        ("h", "http://h?x=1", "/?x=1"),
        ("h", "http://h?", "/?"),
        ("h", "http://h?/x?y", "/?/x?y"),
        ("h", "HTTPS://H?x", "/?x"),
        // Likewise no port and an empty one are the scheme's.
        ("h", "http://h:80/v4/info", "/v4/info"),
        ("h:80", "http://h/", "/"),
        ("h", "http://h:/", "/"),
        ("h:", "http://h/", "/"),
        ("h:", "HTTP://H:80?x", "/?x"),
        ("h:80", "http://h:?x", "/?x"),
        ("h", "https://h:443/", "/"),
        ("h:443", "https://h/", "/"),
        ("h:", "https://h:443", "/"),
        ("h:0080", "http://h/", "/"),
        ("[::1]", "http://[::1]:80/x", "/x"),
        ("[::1]:443", "https://[::1]?x", "/?x"),
        ("[fe80::A]:", "http://[FE80::a]:80/", "/"),
        ("h:08080", "http://h:8080/", "/"),
    ] {
        let data = format!("GET {absolute} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        good(data.as_bytes(), |request| assert_eq!(request.target.to_string(), target));
    }
    for (host, absolute, reason) in [
        ("h", "http://other/", "differs"),
        ("h", "http://h:443/", "differs"),
        ("h:443", "http://h/", "differs"),
        ("h", "https://h:80/", "differs"),
        ("h:80", "https://h/", "differs"),
        ("h", "http://h:8/", "differs"),
        ("h", "http://h:800/", "differs"),
        ("h:0", "http://h/", "differs"),
        ("h", "http://other?x", "differs"),
        ("h", "http://other:80/", "differs"),
        ("[::1]", "http://[::2]/", "differs"),
        ("[::1]", "http://[::1]:81/", "differs"),
        ("::1", "http://[::1]/", "Host is not"),
        ("h:1", "http://h:2/", "differs"),
        ("h", "http://h./", "differs"),
        ("", "http://h/", "differs"),
        ("h", "http://h.other/", "differs"),
        ("h", "http:///", "authority"),
        ("", "http:///x", "authority"),
        ("h", "http://", "authority"),
        ("h", "http://?x", "authority"),
        (":80", "http://:80/", "authority"),
        ("", "http://:/", "authority"),
        ("h", "http://h:080080/", "authority"),
        ("h", "http://user@h/", "authority"),
        ("h", "http://user:pass@h/", "authority"),
        ("h", "http://h:x/", "authority"),
        ("h", "http://h\\@other/", "authority"),
        ("h", "http://[h/", "authority"),
    ] {
        malformed(format!("GET {absolute} HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes(), reason);
    }
    // RFC 9112 section 3.2.4: an OPTIONS request without path and query is about the server.
    for (absolute, target) in [("http://h", "*"), ("http://h:80", "*"), ("http://h/", "/"), ("http://h?", "/?")] {
        let data = format!("OPTIONS {absolute} HTTP/1.1\r\nHost: h\r\n\r\n");
        good(data.as_bytes(), |request| assert_eq!(request.target.to_string(), target, "{data}"));
    }
    // HTTP/1.0 may do without Host.
    good(b"GET http://h/x HTTP/1.0\r\n\r\n", |request| assert_eq!(request.target.path, "/x"));
    malformed(b"GET http://user@h/x HTTP/1.0\r\n\r\n", "authority");
    malformed(b"GET http:///x HTTP/1.0\r\n\r\n", "authority");
}

#[test]
fn there_is_one_host_field_and_it_is_a_host_and_port() {
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
    good(b"GET / HTTP/1.0\r\n\r\n", |request| assert_eq!(request.target.path, "/"));
    malformed(b"GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n", "two Host");
    malformed(b"GET / HTTP/1.0\r\nHost: a/b\r\n\r\n", "Host is not");
}
