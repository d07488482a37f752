//! Where a head ends, which bytes may stand in it (RFC 9112 section 2.2), and how it is read from a peer.

use std::io::{self, Read};

use super::*;
use crate::http::buffer::Buffer;

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
        // What follows is not checked: the next head, a frame or garbage.
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
fn a_control_character_in_a_head_is_refused() {
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
        // It is refused at once, before the head is complete.
        assert_eq!(scanned(&[b"GET /", &[byte][..]].concat()).is_err(), is_control);
    }
}

#[test]
fn other_protocols_are_recognised() {
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
fn a_head_that_ends_elsewhere_than_its_empty_line_is_refused() {
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
fn a_head_is_read_in_any_pieces_and_what_follows_is_kept() {
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
        // The next head begins with the bytes that are there; no read comes before they are checked.
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
fn a_read_error_says_whether_a_head_had_begun() {
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
    // A head that cannot become valid is refused before it is complete.
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
fn a_head_has_a_maximum_size() {
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
