//! What is forwarded, byte for byte, in both directions: everything that is the peers' own, nothing that is between
//! one peer and the proxy.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::io::ErrorKind;
use std::sync::{Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use support::*;

/// The field that the proxy adds for a client on loopback.
const FORWARDED_FOR: &str = "X-Forwarded-For: 127.0.0.1\r\n";

/// A proxy before one backend for both versions, which answers `OK`.
struct Site {
    proxy: Proxy,
    backend: Backend,
}

impl Site {
    fn new(set: &[(&str, &str)]) -> Self {
        Self::answering(OK, set)
    }

    fn answering(answer: &[u8], set: &[(&str, &str)]) -> Self {
        let backend = Backend::answering(answer);
        Self { proxy: Proxy::before(backend.address, backend.address, set), backend }
    }

    /// What the backend gets of this request, but for the proxy's own `Via`.
    fn forwarded(&self, request: &str) -> String {
        without_via(&self.forwarded_whole(request))
    }

    /// The same, to the byte.
    fn forwarded_whole(&self, request: &str) -> String {
        let before = self.backend.seen().len();
        let mut client = self.proxy.connect();
        client.send(request.as_bytes());
        assert_eq!(client.response().status, 200, "{request}");
        self.backend.seen()[before..].to_owned()
    }

    /// What the backend gets beside the request line, Host, Authorization and X-Forwarded-For.
    fn fields(&self, lines: &str) -> String {
        let head = "GET /v4/info HTTP/1.1\r\nHost: bot\r\nAuthorization: DevamOP\r\n";
        let seen = self.forwarded(&format!("{head}{lines}\r\n"));
        let seen = seen.strip_prefix(head).unwrap_or_else(|| panic!("{lines:?} -> {seen:?}"));
        seen.strip_suffix(&format!("{FORWARDED_FOR}\r\n")).unwrap_or_else(|| panic!("{lines:?} -> {seen:?}")).to_owned()
    }
}

#[test]
fn hop_by_hop_fields_are_removed_and_all_others_are_forwarded() {
    let site = Site::new(&[]);
    for (sent, forwarded) in [
        // Hop by hop (RFC 9110 section 7.6.1).
        ("Connection: keep-alive\r\nKeep-Alive: timeout=5\r\n", ""),
        ("Keep-Alive: timeout=5\r\nUpgrade: h2c\r\n", ""),
        ("Proxy-Connection: keep-alive\r\nProxy-Authorization: x\r\nTE: trailers\r\nTrailer: X\r\n", ""),
        ("Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n", ""),
        // Named by Connection, in whatever case and place.
        ("Connection: X-Hop\r\nX-Hop: 1\r\nX-End: 2\r\n", "X-End: 2\r\n"),
        ("x-hop: 1\r\nX-HOP: 2\r\nconnection: close , x-Hop,,\r\n", ""),
        ("Connection: A\r\nConnection: B\r\nA: 1\r\nB: 2\r\nAB: 3\r\n", "AB: 3\r\n"),
        ("Connection: Content-Length, Transfer-Encoding\r\nContent-Length: 0\r\n", "Content-Length: 0\r\n"),
        // Not theirs to name.
        ("Connection: Authorization, Host, X-Forwarded-For\r\n", ""),
        ("Connection: close, AUTHORIZATION\r\nConnection: host\r\n", ""),
        // All else, in order, byte for byte but for the blanks around a value.
        ("Session-Id:\r\nresume-key:   \r\nX-Empty: \r\n", "Session-Id: \r\nresume-key: \r\nX-Empty: \r\n"),
        (
            "User-Id:42\r\nClient-Name: \t N\u{e4}me/1  (x; y)\t\r\n",
            "User-Id: 42\r\nClient-Name: N\u{e4}me/1  (x; y)\r\n",
        ),
        ("ACCEPT: */*\r\nAccept-Encoding: gzip\r\n", "ACCEPT: */*\r\nAccept-Encoding: gzip\r\n"),
        ("X: 1\r\nY: 2\r\nX: 3\r\n", "X: 1\r\nY: 2\r\nX: 3\r\n"),
        ("Lavalink-Version: 4\r\nCookie: a=b\r\n", "Lavalink-Version: 4\r\nCookie: a=b\r\n"),
        ("Origin: http://bot\r\nX-Forwarded: 1\r\n", "Origin: http://bot\r\nX-Forwarded: 1\r\n"),
    ] {
        assert_eq!(site.fields(sent), forwarded, "{sent:?}");
    }
    // A minimal head is enough, and the Host is the client's.
    for host in ["Host: Bot.Example:6923", "host: [::1]:80", "HOST: "] {
        let head = format!("GET / HTTP/1.1\r\n{host}\r\nauthorization:DevamOP\r\n\r\n");
        let expected = format!("GET / HTTP/1.1\r\n{host}\r\nauthorization: DevamOP\r\n{FORWARDED_FOR}\r\n");
        assert_eq!(site.forwarded(&head), expected);
    }
}

#[test]
fn the_password_is_replaced_by_that_of_the_backend() {
    let set = [("LAVALINK_V4_PASSWORD", "four"), ("PROXY_PASSWORD", "in front")];
    let site = Site::new(&set);
    for (version, expected) in [("v4", "four"), ("v3", "in front")] {
        for sent in ["in front", "Bearer in front", "Bearer   in front", " in front\t"] {
            let head = format!("GET /{version}/info HTTP/1.1\r\nHost: bot\r\n");
            let seen = site.forwarded(&format!("{head}Authorization: {sent}\r\n\r\n"));
            assert_eq!(seen, format!("{head}Authorization: {expected}\r\n{FORWARDED_FOR}\r\n"), "{sent:?}");
        }
        let handshake =
            format!("GET /{version}/websocket HTTP/1.1\r\nHost: bot\r\nAuthorization: in front\r\n{HANDSHAKE}\r\n");
        let seen = site.forwarded(&handshake);
        assert_eq!(seen.matches("Authorization").count(), 1, "{seen}");
        assert!(seen.contains(&format!("Authorization: {expected}\r\n")) && !seen.contains("in front\r\nin"), "{seen}");
    }
    assert_eq!(site.backend.seen().matches("four").count(), 5);
}

#[test]
fn forwarding_fields_of_untrusted_clients_are_dropped() {
    let site = Site::new(&[]);
    for claim in [
        "X-Forwarded-For: 192.0.2.1\r\n",
        "x-forwarded-for: 192.0.2.1, 192.0.2.2\r\n",
        "X-Forwarded-For: 127.0.0.1\r\nX-Forwarded-For: 192.0.2.2\r\n",
        "X-Forwarded-For:\r\n",
        "Connection: X-Forwarded-For\r\nX-Forwarded-For: 192.0.2.1\r\n",
        "Forwarded: for=192.0.2.1;proto=https\r\nFORWARDED: for=192.0.2.1\r\n",
        "X-Real-IP: 192.0.2.1\r\nX-Client-IP: 192.0.2.1\r\nX-Cluster-Client-IP: 192.0.2.1\r\n",
        "True-Client-IP: 192.0.2.1\r\ncf-connecting-ip: 192.0.2.1\r\n",
        "X-Forwarded-Proto: https\r\nX-FORWARDED-HOST: x\r\nX-Forwarded-Port: 443\r\nx-forwarded-prefix: /\r\nX-Forwarded-: y\r\n",
    ] {
        assert_eq!(site.fields(claim), "", "{claim:?}");
    }
    // Nor does it count.
    eventually("the ledger is empty", || site.proxy.stats()["totals"]["active"] == 0);
    let usage = site.proxy.stats()["usage"].clone();
    assert_eq!((usage.as_array().unwrap().len(), &usage[0]["address"]), (1, &"127.0.0.1".into()));
}

#[test]
fn the_client_address_is_forwarded_unless_the_head_outgrows_lavalink() {
    let site = Site::new(&[]);
    let head = "GET /v4/info HTTP/1.1\r\nHost: bot\r\nAuthorization: DevamOP\r\n";
    // A head of so many bytes as it is forwarded without our field.
    let sized = |size: usize, tail: &str| {
        let fill = size - head.len() - "X: \r\n\r\n".len() - tail.len();
        format!("{head}X: {}\r\n{tail}", "x".repeat(fill))
    };
    for (size, with_ours) in
        [(8191, false), (8192, false), (8193 - FORWARDED_FOR.len(), false), (8192 - FORWARDED_FOR.len(), true)]
    {
        let lines = sized(size, "");
        let ours = if with_ours { FORWARDED_FOR } else { "" };
        let seen = site.forwarded(&format!("{lines}\r\n"));
        assert_eq!(seen, format!("{lines}{ours}\r\n"), "{size}");
        assert!(seen.len() <= 8192);
    }
    let before = site.backend.seen().len();
    let mut client = site.proxy.connect();
    assert_eq!(client.send(format!("{}\r\n", sized(8193, "")).as_bytes()).response().status, 431);
    assert_eq!(site.backend.seen().len(), before);
    // Only what is forwarded counts: this is larger on the way in.
    let hop = format!("Connection: Hop\r\nHop: {}\r\n", "x".repeat(4000));
    let lines = sized(8192, "");
    assert_eq!(site.forwarded(&format!("{lines}{hop}\r\n")), format!("{lines}\r\n"));
    // And so it is with the number of fields.
    let many = "X: y\r\n".repeat(97);
    assert_eq!(site.forwarded(&format!("{head}{many}\r\n")), format!("{head}{many}{FORWARDED_FOR}\r\n"));
    assert_eq!(site.forwarded(&format!("{head}{many}X: y\r\n\r\n")), format!("{head}{many}X: y\r\n\r\n"));
}

#[test]
fn every_request_to_a_node_says_which_proxy_it_passed() {
    let site = Site::new(&[]);
    let head = "GET /v4/info HTTP/1.1\r\nHost: bot\r\nAuthorization: DevamOP\r\n";
    let plain = site.forwarded_whole(&format!("{head}\r\n"));
    let via = own_via(&plain).unwrap_or_else(|| panic!("{plain:?}"));
    // Always the same, also in a handshake and behind what others have said.
    let theirs = "Via: 1.0 a.example\r\nvia: 1.1 lavaproxy-0000000000000000, HTTP/2 b:80 (c)\r\n";
    for fields in ["", theirs, HANDSHAKE] {
        let seen = site.forwarded_whole(&format!("{head}{fields}\r\n"));
        assert_eq!(own_via(&seen), Some(via), "{seen}");
        assert_eq!(seen.to_lowercase().matches("via: ").count(), 1 + fields.to_lowercase().matches("via: ").count());
    }
    assert_eq!(site.fields(theirs), theirs);
    // A client cannot have it removed.
    let seen = site.forwarded_whole(&format!("{head}Connection: Via, close\r\n\r\n"));
    assert_eq!(own_via(&seen), Some(via));
}

#[test]
fn the_own_via_is_left_out_where_the_head_would_outgrow_lavalink() {
    let site = Site::new(&[]);
    let head = "GET /v4/info HTTP/1.1\r\nHost: bot\r\nAuthorization: DevamOP\r\n";
    for (size, has_via) in [(8192 - FORWARDED_FOR.len() - VIA, true), (8193 - FORWARDED_FOR.len() - VIA, false)] {
        let fill = size - head.len() - "X: \r\n\r\n".len();
        let lines = format!("{head}X: {}\r\n", "x".repeat(fill));
        let seen = site.forwarded_whole(&format!("{lines}\r\n"));
        assert!(seen.starts_with(&format!("{lines}{FORWARDED_FOR}")), "{size}");
        assert_eq!((own_via(&seen).is_some(), seen.len() <= 8192), (has_via, true), "{size}: {}", seen.len());
    }
    for (count, fields, has_via) in [(96, 100, true), (97, 100, false), (98, 100, false)] {
        let seen = site.forwarded_whole(&format!("{head}{}\r\n", "X: y\r\n".repeat(count)));
        assert_eq!(own_via(&seen).is_some(), has_via, "{count}");
        assert_eq!(seen.lines().filter(|line| line.contains(": ")).count(), fields, "{count}");
    }
}

#[test]
fn targets_are_forwarded_byte_for_byte_in_origin_form() {
    let site = Site::new(&[]);
    for (sent, forwarded) in [
        ("/v4/loadtracks?identifier=[a]|{b}^`\"<>\\", "/v4/loadtracks?identifier=[a]|{b}^`\"<>\\"),
        ("/v4/%69nfo;x=1;y?%zz%00%%&&=;+", "/v4/%69nfo;x=1;y?%zz%00%%&&=;+"),
        ("/v4/../v3//./info/", "/v4/../v3//./info/"),
        ("//v4//info?", "//v4//info?"),
        ("/v4/decodetrack?encodedTrack=QAAA+/==", "/v4/decodetrack?encodedTrack=QAAA+/=="),
        ("http://bot/v4/info?a=http://x/", "/v4/info?a=http://x/"),
        ("HTTP://BOT/v4/info", "/v4/info"),
        ("https://bot/", "/"),
        ("http://bot", "/"),
        ("http://bot//v4", "//v4"),
    ] {
        let head = |target: &str| format!("GET {target} HTTP/1.1\r\nHost: bot\r\nAuthorization: DevamOP\r\n");
        assert_eq!(site.forwarded(&format!("{}\r\n", head(sent))), format!("{}{FORWARDED_FOR}\r\n", head(forwarded)));
    }
    let options = "OPTIONS * HTTP/1.1\r\nHost: bot\r\nAuthorization: DevamOP\r\n";
    assert_eq!(site.forwarded(&format!("{options}\r\n")), format!("{options}{FORWARDED_FOR}\r\n"));
}

/// RFC 9112 section 3.2.2, RFC 3986 section 6.2.3.
#[test]
fn an_absolute_target_and_host_name_one_authority_in_different_ways() {
    let site = Site::new(&[]);
    for (sent, host, forwarded) in [
        ("http://localhost?x=1", "localhost", "/?x=1"),
        ("http://localhost:?x", "localhost", "/?x"),
        ("http://localhost:80/v4/info", "localhost", "/v4/info"),
        ("http://localhost/v4/info", "localhost:80", "/v4/info"),
        ("HTTP://LOCALHOST/", "localhost:80", "/"),
        ("https://localhost:443/", "localhost", "/"),
        ("http://[::1]:80/v4/info?a", "[::1]", "/v4/info?a"),
    ] {
        let head = |target: &str| format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nAuthorization: DevamOP\r\n");
        let seen = site.forwarded(&format!("{}\r\n", head(sent)));
        assert!(seen.starts_with(&head(forwarded)), "{sent} {host}: {seen}");
    }
    for (sent, host) in [
        ("http://localhost:8080/", "localhost"),
        ("http://localhost/", "localhost:443"),
        ("https://localhost/", "localhost:80"),
        ("http://other?x", "localhost"),
        ("http://[::1]/", "[::2]"),
        ("ws://localhost/", "localhost"),
    ] {
        let mut client = site.proxy.connect();
        client.send(format!("GET {sent} HTTP/1.1\r\nHost: {host}\r\nAuthorization: DevamOP\r\n\r\n").as_bytes());
        assert_eq!(client.response().status, 400, "{sent} {host}");
    }
}

/// Some parsers read no more than 16 digits of a chunk size.
#[test]
fn no_size_is_forwarded_with_many_leading_zeros() {
    let site = Site::new(&[]);
    let post = "POST /v4/x HTTP/1.1\r\nHost: bot\r\nAuthorization: DevamOP\r\n";
    let zeros = "0".repeat(15);
    let seen = site.forwarded(&format!("{post}Content-Length: {zeros}2\r\n\r\n[]"));
    assert!(seen.starts_with(&format!("{post}Content-Length: 2\r\n")) && seen.ends_with("\r\n\r\n[]"), "{seen}");
    let before = site.backend.seen().len();
    for zeros in [16, 40].map(|count| "0".repeat(count)) {
        for rest in [
            format!("Content-Length: {zeros}2\r\n\r\n[]"),
            format!("Transfer-Encoding: chunked\r\n\r\n{zeros}2\r\n[]\r\n0\r\n\r\n"),
        ] {
            let mut client = site.proxy.connect();
            client.send(format!("{post}{rest}").as_bytes());
            assert_eq!(client.response().status, 400, "{rest}");
        }
    }
    assert_eq!(site.backend.seen().len(), before);

    for (method, status) in [("GET", 200), ("HEAD", 200), ("GET", 304)] {
        let body = if (method, status) == ("GET", 200) { "[]" } else { "" };
        let answer = |zeros: &str| format!("HTTP/1.1 {status} x\r\nContent-Length: {zeros}2\r\n\r\n{body}");
        let request = format!("{method} /v4/x HTTP/1.1\r\nHost: bot\r\nAuthorization: DevamOP\r\n\r\n");
        let site = Site::answering(answer(&zeros).as_bytes(), &[]);
        let mut client = site.proxy.connect();
        client.send(request.as_bytes());
        let relayed = answer("");
        assert_eq!(String::from_utf8(client.exactly(relayed.len())).unwrap(), relayed, "{method} {status}");
        client.half_close();
        assert!(client.is_at_end(), "{method} {status}");
        let site = Site::answering(answer(&zeros.repeat(3)).as_bytes(), &[]);
        let mut client = site.proxy.connect();
        client.send(request.as_bytes());
        assert_eq!(client.response_to(method).status, 502, "{method} {status}");
    }
}

#[test]
fn bodies_are_forwarded_byte_for_byte_whatever_the_method() {
    let site = Site::new(&[]);
    let all: String = (0..=127_u8).map(char::from).collect();
    let long = "y".repeat(300_000);
    for method in ["GET", "DELETE", "POST", "PATCH", "PUT", "OPTIONS", "SOMETHING"] {
        for body in ["{}", "", all.as_str(), "GET / HTTP/1.1\r\n\r\n", long.as_str()] {
            let head =
                format!("{method} /v4/x HTTP/1.1\r\nHost: bot\r\nAuthorization: DevamOP\r\nContent-Type: a/b; c=d\r\n");
            let length = format!("Content-Length: {}\r\n", body.len());
            let seen = site.forwarded(&format!("{head}{length}\r\n{body}"));
            assert!(seen == format!("{head}{length}{FORWARDED_FOR}\r\n{body}"), "{method} {}", body.len());
            let coding = "Transfer-Encoding: chunked\r\n";
            let chunk = if body.is_empty() { String::new() } else { format!("{:x}\r\n{body}\r\n", body.len()) };
            let seen = site.forwarded(&format!("{head}transfer-encoding:Chunked\r\n\r\n{chunk}0\r\n\r\n"));
            assert!(seen == format!("{head}{coding}{FORWARDED_FOR}\r\n{chunk}0\r\n\r\n"), "{method} {}", body.len());
        }
    }
    // A length said twice is said once, and chunks lose what is not theirs.
    let post = "POST /v4/x HTTP/1.1\r\nHost: bot\r\nAuthorization: DevamOP\r\n";
    let seen = site.forwarded(&format!("{post}Content-Length: 02\r\nContent-Length: 2\r\n\r\n[]"));
    assert_eq!(seen, format!("{post}Content-Length: 2\r\n{FORWARDED_FOR}\r\n[]"));
    let chunks = "1;a\r\n[\r\n01 ; b=\"c;\\\"\"\r\n]\r\n00;d=e\r\nAuthorization: x\r\nContent-Length: 9\r\n\r\n";
    let seen = site.forwarded(&format!("{post}Trailer: Authorization\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}"));
    let expected = "1\r\n[\r\n01\r\n]\r\n00\r\n\r\n";
    // `00` ends a body as `0` does; the backend here reads it alike.
    assert_eq!(seen, format!("{post}Transfer-Encoding: chunked\r\n{FORWARDED_FOR}\r\n{expected}"));
}

#[test]
fn hop_by_hop_fields_of_an_answer_are_removed() {
    for (answer, relayed) in [
        (
            "HTTP/1.1 200 OK\r\nConnection: keep-alive, X-Hop\r\nKeep-Alive: timeout=60\r\nX-Hop: 1\r\nProxy-Authenticate: x\r\nTrailer: y\r\nUpgrade: h2c\r\nContent-Length: 0\r\nLavalink-Api-Version: 4\r\n\r\n",
            "HTTP/1.1 200 OK\r\nLavalink-Api-Version: 4\r\nContent-Length: 0\r\n\r\n",
        ),
        // Whether the backend's connection goes on is not the client's business.
        (
            "HTTP/1.1 404 Not  Here\r\nConnection: close\r\nContent-Length: 2\r\nX-Empty:\r\nSet-Cookie: a\r\nSet-Cookie: b\r\n\r\nno",
            "HTTP/1.1 404 Not  Here\r\nX-Empty: \r\nSet-Cookie: a\r\nSet-Cookie: b\r\nContent-Length: 2\r\n\r\nno",
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n02\r\n{}\r\n1;a=b\r\n!\r\n0;c\r\nX: trailer\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n02\r\n{}\r\n1\r\n!\r\n0\r\n\r\n",
        ),
        // RFC 9112 section 5.1: a proxy removes the blanks before a colon from a response.
        (
            "HTTP/1.1 200 OK\r\nX-A : b\r\nX-B \t : c : d\r\nX-Hop\t: 1\r\nConnection : X-Hop\r\nContent-Length : 2\r\n\r\n{}",
            "HTTP/1.1 200 OK\r\nX-A: b\r\nX-B: c : d\r\nContent-Length: 2\r\n\r\n{}",
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding : chunked\r\n\r\n2\r\n{}\r\n0\r\nX : trailer\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        ),
        // As Lavalink sends it: with neither length nor coding.
        (
            "HTTP/1.1 204 No Content\r\nLavalink-Api-Version: 3\r\n\r\n",
            "HTTP/1.1 204 No Content\r\nLavalink-Api-Version: 3\r\n\r\n",
        ),
        ("HTTP/1.1 599 \r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 599 \r\nContent-Length: 0\r\n\r\n"),
        (
            "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\nETag: \"x\"\r\n\r\n",
            "HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\nContent-Length: 9\r\n\r\n",
        ),
    ] {
        let site = Site::answering(answer.as_bytes(), &[]);
        let mut client = site.proxy.connect();
        // Twice on one connection: neither leaves anything behind.
        for _ in 0..2 {
            client.send(b"GET /v4/info HTTP/1.1\r\nHost: bot\r\nAuthorization: DevamOP\r\n\r\n");
            assert_eq!(String::from_utf8(client.exactly(relayed.len())).unwrap(), relayed);
        }
        client.half_close();
        assert!(client.is_at_end(), "{answer}");
        // One that the backend wants closed is not used again, even if it stays open.
        let connections = if answer.contains("Connection: close") { 2 } else { 1 };
        assert_eq!(site.backend.accepted(), connections, "{answer}");
    }
}

#[test]
fn an_answer_without_a_body_ends_with_its_head() {
    let backend = Backend::start(|mut client, _| {
        while let Some(request) = client.next_request() {
            let text = String::from_utf8_lossy(&request).into_owned();
            client.send(match text.split(' ').nth(1).unwrap() {
                "/v4/length" => b"HTTP/1.1 200 OK\r\nContent-Length: 397\r\n\r\n",
                "/v4/chunked" => b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
                "/v4/neither" => b"HTTP/1.1 200 OK\r\nX: y\r\n\r\n",
                "/v4/204" => b"HTTP/1.1 204 No Content\r\n\r\n",
                "/v4/304" => b"HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n",
                _ => OK,
            });
        }
    });
    let proxy = Proxy::before(backend.address, backend.address, &[]);
    let mut client = proxy.connect();
    for (method, target, status, length, coding) in [
        ("HEAD", "/v4/length", 200, Some("397"), None),
        ("HEAD", "/v4/chunked", 200, None, Some("chunked")),
        ("HEAD", "/v4/neither", 200, None, None),
        ("HEAD", "/v4/204", 204, None, None),
        ("GET", "/v4/204", 204, None, None),
        ("DELETE", "/v4/204", 204, None, None),
        ("GET", "/v4/304", 304, None, Some("chunked")),
        ("GET", "/v4/x", 200, Some("2"), None),
    ] {
        let response = client.request(method, target, "", b"");
        let found = (response.status, response.field("content-length"), response.field("transfer-encoding"));
        assert_eq!(found, (status, length, coding), "{method} {target}");
        assert!(!response.closes(), "{method} {target}");
    }
    assert_eq!(backend.accepted(), 1, "the backend's connection had to be given up");
    // Our own answers to HEAD have no body either, and say how long it would be.
    client.send(b"HEAD /v4/x HTTP/1.1\r\nHost: bot\r\n\r\n");
    let refusal = client.response_to("HEAD");
    assert_eq!(refusal.status, 401);
    assert!(refusal.field("content-length").unwrap().parse::<u32>().unwrap() > 0);
    assert_eq!(client.get("/v4/x", "").status, 200);
}

#[test]
fn an_http_1_0_client_gets_no_chunks_and_a_close() {
    let backend = Backend::start(|mut client, _| {
        while let Some(request) = client.next_request() {
            if request.starts_with(b"GET /v4/chunked ") {
                client.send(b"HTTP/1.1 103 Early Hints\r\n\r\n");
                client.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;a\r\nhello\r\n");
                client.send(b"06\r\n world\r\n0\r\nX: y\r\n\r\n");
            } else {
                client.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", request.len()).as_bytes());
                client.send(&request);
            }
        }
    });
    let proxy = Proxy::before(backend.address, backend.address, &[]);
    for version in ["1.0\r\n", "1.0\r\nConnection: keep-alive\r\n"] {
        let mut client = proxy.connect();
        client.send(format!("GET /v4/chunked HTTP/{version}Authorization: DevamOP\r\n\r\n").as_bytes());
        let expected = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello world";
        assert_eq!(String::from_utf8(client.rest()).unwrap(), expected);
    }
    // Without a Host of its own the backend's stands in; what an old client may not expect is left out.
    let mut client = proxy.connect();
    client
        .send(b"POST /v4/x HTTP/1.0\r\nAuthorization: DevamOP\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n[]");
    let response = client.response();
    assert!(response.closes() && client.is_at_end());
    let host = backend.address;
    let expected = format!(
        "POST /v4/x HTTP/1.1\r\nHost: {host}\r\nAuthorization: DevamOP\r\nContent-Length: 2\r\n{FORWARDED_FOR}\r\n[]"
    );
    assert_eq!(without_via(&response.text()), expected);
    // Chunks or not, the backend's connection is as good as before.
    assert_eq!(backend.accepted(), 1);
}

const EXPECTING: &[u8] =
    b"POST /v4/x HTTP/1.1\r\nHost: bot\r\nAuthorization: DevamOP\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n";

/// As a backend: the head of such a request.
fn next_expecting(client: &mut Client) -> bool {
    let Some(head) = client.next_head() else { return false };
    let head = String::from_utf8_lossy(&head);
    assert!(head.contains("\r\nExpect: 100-continue\r\n") && head.contains("\r\nContent-Length: 5\r\n"), "{head}");
    true
}

#[test]
fn a_client_that_expects_a_100_gets_that_of_the_backend() {
    for interim in ["HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 100 Continue\r\nContent-Length: 0\r\n\r\n"] {
        let backend = Backend::start(move |mut client, _| {
            while next_expecting(&mut client) {
                // Long enough that the proxy is waiting by then.
                thread::sleep(Duration::from_millis(20));
                client.send(interim.as_bytes());
                assert_eq!(client.exactly(5), b"hello");
                client.send(OK);
            }
        });
        let proxy = Proxy::before(backend.address, backend.address, &[]);
        let mut client = proxy.connect();
        let mut fastest = PATIENCE;
        for _ in 0..5 {
            let begun = Instant::now();
            client.send(EXPECTING);
            assert_eq!(client.exactly(25), b"HTTP/1.1 100 Continue\r\n\r\n");
            fastest = fastest.min(begun.elapsed());
            client.send(b"hello");
            let response = client.response();
            assert_eq!((response.text().as_str(), response.closes()), ("ok", false));
        }
        assert_eq!(backend.accepted(), 1);
        assert!(fastest < Duration::from_millis(80), "it waited for a body that never comes: {fastest:?}");
    }
}

#[test]
fn a_client_that_does_not_wait_for_the_100_is_served_all_the_same() {
    // With the 100 it did not wait for, with none at all, with the body at once and a moment later.
    for (interim, at_once) in [(true, true), (false, true), (false, false)] {
        let backend = Backend::start(move |mut client, _| {
            while next_expecting(&mut client) {
                if interim {
                    client.send(b"HTTP/1.1 100 Continue\r\n\r\n");
                }
                assert_eq!(client.exactly(5), b"hello");
                client.send(OK);
            }
        });
        let proxy = Proxy::before(backend.address, backend.address, &[]);
        let mut client = proxy.connect();
        for _ in 0..2 {
            if at_once {
                client.send(&[EXPECTING, b"hello"].concat());
            } else {
                client.send(EXPECTING);
                assert_eq!(client.silent_for(Duration::from_millis(200)), Some(ErrorKind::WouldBlock));
                client.send(b"hello");
            }
            if interim {
                assert_eq!(client.exactly(25), b"HTTP/1.1 100 Continue\r\n\r\n");
            }
            assert_eq!(client.response().text(), "ok");
        }
        assert_eq!(backend.accepted(), 1);
    }
}

#[test]
fn a_final_answer_instead_of_a_100_comes_at_once_and_ends_the_connection() {
    let refusal = b"HTTP/1.1 417 Expectation Failed\r\nContent-Length: 0\r\n\r\n";
    let backend = Backend::start(|mut client, number| {
        while next_expecting(&mut client) {
            if number == 1 {
                client.send(b"HTTP/1.1 100 Continue\r\n\r\n");
            }
            client.send(refusal);
            assert_eq!(client.rest_or_error(), (Vec::new(), None), "the body was never there");
        }
    });
    let proxy = Proxy::before(backend.address, backend.address, &[]);
    for number in 0..2 {
        let mut client = proxy.connect();
        client.send(EXPECTING);
        if number == 1 {
            assert_eq!(client.exactly(25), b"HTTP/1.1 100 Continue\r\n\r\n");
        }
        let response = client.response();
        assert_eq!((response.status, response.closes()), (417, true));
        assert!(client.is_at_end());
    }
    // Ours as well: whether the body follows is unknown.
    let mut client = proxy.connect();
    client.send(&EXPECTING.to_ascii_uppercase());
    let response = client.response();
    assert_eq!((response.status, response.closes()), (403, true));
    assert!(client.is_at_end());
    assert_eq!(backend.accepted(), 2);
}

#[test]
fn interim_answers_are_relayed_before_the_final_one() {
    let hints = "HTTP/1.1 103 Early Hints\r\nConnection: X\r\nX: 1\r\nLink: </a>\r\n\r\n";
    let processing = "HTTP/1.1 102 Processing\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n";
    let site = Site::answering(&[hints.as_bytes(), processing.as_bytes(), OK].concat(), &[]);
    let mut client = site.proxy.connect();
    for _ in 0..2 {
        client.send(b"GET /v4/info HTTP/1.1\r\nHost: bot\r\nAuthorization: DevamOP\r\n\r\n");
        let expected = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n";
        assert_eq!(String::from_utf8(client.exactly(expected.len())).unwrap(), expected);
        assert_eq!(client.response().text(), "ok");
    }
    assert_eq!(site.backend.accepted(), 1);
}

fn named(name: &'static str) -> Backend {
    Backend::start(move |mut client, _| {
        while let Some(request) = client.next_request() {
            let end = find(&request, b"\r\n\r\n").unwrap() + 4;
            let target = String::from_utf8_lossy(&request).split(' ').nth(1).unwrap().to_owned();
            let body = format!("{name} {target} {}", String::from_utf8_lossy(&request[end..]));
            client.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).as_bytes());
        }
    })
}

#[test]
fn pipelined_requests_are_answered_in_their_order() {
    let (v3, v4) = (named("three"), named("four"));
    let proxy = Proxy::before(v3.address, v4.address, &[]);
    let mut client = proxy.connect();
    let fields = "Host: bot\r\nAuthorization: DevamOP\r\n";
    let mut requests = String::new();
    for round in 0..50 {
        requests += &format!("GET /v3/{round} HTTP/1.1\r\n{fields}\r\n");
        requests += &format!("POST /v4/{round} HTTP/1.1\r\n{fields}Content-Length: 4\r\n\r\nGET ");
        requests +=
            &format!("POST /{round} HTTP/1.1\r\n{fields}Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n");
        requests += "GET /v3/x HTTP/1.1\r\nHost: bot\r\n\r\n";
    }
    client.send(requests.as_bytes());
    for round in 0..50 {
        assert_eq!(client.response().text(), format!("three /v3/{round} "));
        assert_eq!(client.response().text(), format!("four /v4/{round} GET "));
        assert_eq!(client.response().text(), format!("four /{round} 3\r\nabc\r\n0\r\n\r\n"));
        assert_eq!(client.response().status, 401);
    }
    // All of it was sent before the client closed, so all of it is answered.
    client.send(requests.as_bytes()).half_close();
    for _ in 0..200 {
        assert!(client.response().status > 0);
    }
    assert!(client.is_at_end());
}

#[test]
fn a_connection_closes_after_the_request_that_asked_for_it() {
    let site = Site::new(&[]);
    let mut client = site.proxy.connect();
    assert!(!client.get("/v4/1", "Connection: keep-alive\r\n").closes());
    let fields = "Host: bot\r\nAuthorization: DevamOP\r\n";
    let last = format!("GET /v4/2 HTTP/1.1\r\n{fields}Connection: Close\r\n\r\n");
    client.send(format!("{last}GET /v4/never HTTP/1.1\r\n{fields}\r\n").as_bytes());
    assert!(client.response().closes() && client.is_at_end());
    drop(client);
    site.proxy.wait_until_empty();
    assert!(site.backend.seen().contains("/v4/2") && !site.backend.seen().contains("never"));
    assert_eq!((site.proxy.ended("client-closed"), site.backend.accepted()), (1, 1));
}

/// A backend that upgrades at `/v4/websocket` and refuses to elsewhere, in Lavalink's ways; it says on which of its
/// connections it is.
fn upgrading() -> Backend {
    Backend::start(|mut client, number| {
        while let Some(request) = client.next_request() {
            let request = String::from_utf8_lossy(&request).into_owned();
            match request.split(' ').nth(1).unwrap() {
                "/v4/websocket" => {
                    assert!(request.contains("\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\n"), "{request}");
                    assert_eq!(client.silent_for(Duration::from_millis(100)), Some(ErrorKind::WouldBlock), "held back");
                    client.send(SWITCHING);
                    return client.send(&[b'0' + u8::try_from(number).unwrap()]).echo();
                }
                "/" => drop(client.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")),
                "/v4/426" => drop(client.send(b"HTTP/1.1 426 Upgrade Required\r\nSec-WebSocket-Version: 13,8,7\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nContent-Length: 0\r\n\r\n")),
                "/v4/403" => drop(client.send(b"HTTP/1.1 403 Forbidden\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n")),
                _ => drop(client.send(format!("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{number}").as_bytes())),
            }
        }
    })
}

const UPGRADE: &str = "GET /v4/websocket HTTP/1.1\r\nHost: bot\r\nAuthorization: DevamOP\r\nupgrade: WebSocket\r\nConnection: keep-alive, upgrade\r\n\r\n";

#[test]
fn an_upgrade_may_be_any_request_of_a_connection_and_gets_a_backend_connection_of_its_own() {
    let backend = upgrading();
    let proxy = Proxy::before(backend.address, backend.address, &[("DEFAULT_VERSION", "v4")]);
    let mut client = proxy.connect();
    assert_eq!((client.get("/v4/info", "").text(), client.get("/version", "").text()), ("0".into(), "0".into()));
    // What is sent behind the handshake waits for the 101.
    client.send(format!("{UPGRADE}frame").as_bytes());
    let switching = client.response();
    assert_eq!(
        (switching.status, switching.field("upgrade"), switching.field("connection")),
        (101, Some("WebSocket"), Some("Upgrade"))
    );
    assert_eq!(client.exactly(6), b"1frame");
    client.send(b"GET /v4/info HTTP/1.1\r\n\r\n");
    assert_eq!(client.exactly(25), b"GET /v4/info HTTP/1.1\r\n\r\n");
    // The idle one is still there for the next.
    assert_eq!(proxy.connect().get("/v4/info", "").text(), "0");
    let mut other = proxy.connect();
    other.send(UPGRADE.as_bytes());
    assert_eq!((other.response().status, other.exactly(1)), (101, b"2".to_vec()));
    assert_eq!(backend.accepted(), 3);
}

#[test]
fn a_refused_upgrade_leaves_an_ordinary_connection() {
    let backend = upgrading();
    let proxy = Proxy::before(backend.address, backend.address, &[("DEFAULT_VERSION", "v4")]);
    let mut client = proxy.connect();
    for (target, status) in [("/", 200), ("/v4/426", 426), ("/v4/403", 403)] {
        let refusal = client.upgrade(target);
        assert_eq!((refusal.status, refusal.closes(), refusal.field("upgrade")), (status, false, None), "{target}");
        assert_eq!(client.get("/v4/info", "").status, 200, "{target}");
    }
    // A wrong password is refused here, with Lavalink's status for a handshake.
    client.send(UPGRADE.replace("DevamOP", "wrong").as_bytes());
    assert_eq!(client.response().status, 401);
    // What came behind a refused handshake is a request like any other: without a password it gets nowhere.
    client.send(
        format!("{}GET /v4/info HTTP/1.1\r\nHost: bot\r\n\r\n", UPGRADE.replace("/v4/websocket", "/v4/426")).as_bytes(),
    );
    assert_eq!((client.response().status, client.response().status), (426, 401));
    client.send(UPGRADE.as_bytes());
    assert_eq!(client.response().status, 101);
}

#[test]
fn a_request_that_only_looks_like_an_upgrade_is_forwarded_as_an_ordinary_one() {
    let site = Site::new(&[]);
    let fields = "Host: bot\r\nAuthorization: DevamOP\r\n";
    for (line, upgrade, body) in [
        ("POST /v4/websocket HTTP/1.1", "Upgrade: websocket\r\nConnection: Upgrade\r\n", ""),
        ("GET /v4/websocket HTTP/1.0", "Upgrade: websocket\r\nConnection: Upgrade\r\n", ""),
        ("GET /v4/websocket HTTP/1.1", "Upgrade: websocket\r\n", ""),
        ("GET /v4/websocket HTTP/1.1", "Upgrade: websocket\r\nConnection: keep-alive\r\n", ""),
        ("GET /v4/websocket HTTP/1.1", "Connection: Upgrade\r\n", ""),
        ("GET /v4/websocket HTTP/1.1", "Upgrade: h2c\r\nConnection: Upgrade\r\n", ""),
        ("GET /v4/websocket HTTP/1.1", "Upgrade: websocket, h2c\r\nConnection: Upgrade\r\n", ""),
        ("GET /v4/websocket HTTP/1.1", "Upgrade: websocket\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n", ""),
        ("GET /v4/websocket HTTP/1.1", "Upgrade: websocket\r\nConnection: Upgrade\r\n", "{}"),
    ] {
        let length = if body.is_empty() { "" } else { "Content-Length: 2\r\n" };
        let seen = site.forwarded(&format!("{line}\r\n{fields}{upgrade}{length}\r\n{body}"));
        let line = line.replace("1.0", "1.1");
        assert_eq!(seen, format!("{line}\r\n{fields}{length}{FORWARDED_FOR}\r\n{body}"), "{line} {upgrade}");
    }
}

#[test]
fn idle_backend_connections_are_shared_by_all_clients() {
    let (v3, v4) = (named("three"), named("four"));
    let proxy = Proxy::before(v3.address, v4.address, &[("PROXY_V4_PORT", "0")]);
    for round in 0..3 {
        for (target, name) in [("/v3/info", "three"), ("/v4/info", "four")] {
            // Also by another listener.
            for listener in ["proxy", "proxy-v4"] {
                assert_eq!(
                    Client::connect(proxy.listener(listener)).get(target, "").text(),
                    format!("{name} {target} ")
                );
                proxy.wait_until_empty();
            }
        }
        assert_eq!((v3.accepted(), v4.accepted()), (1, 1), "{round}");
    }
}

#[test]
fn two_requests_at_a_time_never_share_a_backend_connection() {
    let (sender, go) = mpsc::channel::<()>();
    let go = Mutex::new(go);
    let backend = Backend::start(move |mut client, number| {
        while client.next_request().is_some() {
            if number == 0 {
                go.lock().unwrap().recv().unwrap();
            }
            client.send(format!("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{number}").as_bytes());
        }
    });
    let proxy = Proxy::before(backend.address, backend.address, &[]);
    let (mut first, mut second) = (proxy.connect(), proxy.connect());
    first.send(b"GET /v4/info HTTP/1.1\r\nHost: bot\r\nAuthorization: DevamOP\r\n\r\n");
    eventually("the first request is under way", || backend.accepted() == 1);
    assert_eq!(second.get("/v4/info", "").text(), "1");
    sender.send(()).unwrap();
    assert_eq!(first.response().text(), "0");
}
