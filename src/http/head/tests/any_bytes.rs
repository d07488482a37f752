//! Any bytes: they are parsed or refused, and never misread.

use super::*;
use crate::http::random::Random;

/// Parses without a scan before it: a head that was not scanned must not panic either.
fn unscanned(data: &[u8]) {
    let _ = Request::parse(data, &mut Slots::new()).map(|request| request.path().len());
    let _ = Response::parse(data, &mut Slots::new(), false).map(|response| response.status);
}

/// Checks what must hold of every head that is accepted.
fn check(data: &[u8]) {
    let at_once = arriving(data, std::iter::once(data.len()));
    assert_eq!(arriving(data, 0..=data.len()), at_once, "byte by byte: {}", data.escape_ascii());
    let Ok(Some(length)) = at_once else { return };
    assert!(length <= data.len() && data[..length].ends_with(b"\r\n\r\n"));
    check_request(&data[..length]);
    check_response(&data[..length]);
}

fn check_request(head: &[u8]) {
    let mut slots = Slots::new();
    let Ok(request) = Request::parse(head, &mut slots) else { return };
    let text = head.escape_ascii().to_string();
    let Target { path, query } = request.target;
    assert!(path.starts_with('/') || path == "*" || request.method == "CONNECT", "{text}");
    assert!(!path.contains('?') && (query.is_empty() || query.starts_with('?')), "{text}");
    assert!(path.bytes().chain(query.bytes()).all(|byte| byte.is_ascii_graphic() && byte != b'#'), "{text}");
    assert!(request.method.bytes().all(|byte| byte.is_ascii_graphic()), "{text}");
    let count = |name: &str| values(request.fields, name).count();
    assert!(count("host") == 1 || (count("host") == 0 && request.version == Version::Http10), "{text}");
    check_framing(request.framing, request.fields, &text);
    assert_ne!(request.framing, Framing::UntilClose, "{text}");
    // Each line of the head is one field.
    assert_eq!(head.split(|byte| *byte == b'\n').count() - 3, request.fields.len(), "{text}");
    let again = written(&format!("{} {} HTTP/1.1", request.method, request.target), request.fields);
    if request.version == Version::Http11 {
        let mut slots = Slots::new();
        let second = Request::parse(&again, &mut slots).unwrap_or_else(|error| panic!("{text}: {error}"));
        let found = (second.method, second.target, second.framing);
        assert_eq!(found, (request.method, request.target, Framing::None), "{text}");
        check_same(second.fields, request.fields, &text);
    }
}

fn check_response(head: &[u8]) {
    let mut slots = Slots::new();
    let Ok(response) = Response::parse(head, &mut slots, false) else { return };
    let text = head.escape_ascii().to_string();
    check_framing(response.declared, response.fields, &text);
    assert_eq!(head.split(|byte| *byte == b'\n').count() - 3, response.fields.len(), "{text}");
    let again = written(&format!("HTTP/1.1 {} {}", response.status, response.reason), response.fields);
    let mut slots = Slots::new();
    let second = Response::parse(&again, &mut slots, false).unwrap_or_else(|error| panic!("{text}: {error}"));
    assert_eq!((second.status, second.reason), (response.status, response.reason), "{text}");
    check_same(second.fields, response.fields, &text);
}

fn check_framing(framing: Framing, fields: &[Field<'_>], text: &str) {
    let found = ["transfer-encoding", "content-length"].map(|name| values(fields, name).count());
    match framing {
        Framing::None | Framing::UntilClose => {
            assert!(found == [0, 0] || text.starts_with("HTTP/1.1 1") || text.starts_with("HTTP/1.1 204"), "{text}");
        }
        Framing::Length(_) => assert!(found[0] == 0 && found[1] > 0, "{text}"),
        Framing::Chunked => assert_eq!(found, [1, 0], "{text}"),
    }
}

/// The head as it is forwarded, but for the fields that the proxy adds.
fn written(start: &str, fields: &[Field<'_>]) -> Vec<u8> {
    let mut head = format!("{start}\r\n").into_bytes();
    for field in end_to_end(fields) {
        assert!(field.value.iter().all(|byte| *byte == b'\t' || (*byte >= b' ' && *byte != 127)), "{field:?}");
        head.extend_from_slice(&[field.name.as_bytes(), b": ", field.value, b"\r\n"].concat());
    }
    head.extend_from_slice(b"\r\n");
    head
}

/// Checks that a written head has the fields that were forwarded and no others.
fn check_same(written: &[Field<'_>], fields: &[Field<'_>], text: &str) {
    let of = |field: &Field<'_>| (field.name.to_owned(), field.value.to_owned());
    let forwarded: Vec<_> = end_to_end(fields).map(of).collect();
    assert_eq!(written.iter().map(of).collect::<Vec<_>>(), forwarded, "{text}");
}

const SEEDS: [&[u8]; 8] = [
    b"GET /v4/info?x=y HTTP/1.1\r\nHost: h:80\r\nAuthorization: p\r\n\r\n",
    b"POST http://h/v3 HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nConnection: close, X\r\nX: y\r\n\r\nhello",
    b"PATCH / HTTP/1.1\r\nHost: [::1]:80\r\nTransfer-Encoding: chunked\r\nA:\r\n\r\n0\r\n\r\n",
    b"GET /v4/websocket HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    b"OPTIONS * HTTP/1.0\r\nExpect: 100-continue\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n",
    b"GET http://h:80?x HTTP/1.1\r\nHost: h\r\n\r\n",
    b"HTTP/1.1 304 x\r\nContent-Length : 5\r\nX-A\t: b\r\nX-B: : c\r\n\r\n",
];

#[test]
fn heads_with_one_changed_byte_are_never_misread() {
    for seed in SEEDS {
        for place in 0..seed.len() {
            for byte in 0..=255 {
                let mut data = seed.to_vec();
                data[place] = byte;
                unscanned(&data);
                check(&data);
            }
        }
    }
}

#[test]
fn random_heads_are_never_misread() {
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
        check(&data);
    }
    for _ in 0..2000 {
        let data: Vec<u8> = (0..random.below(200)).map(|_| random.byte()).collect();
        unscanned(&data);
        check(&data);
    }
}
