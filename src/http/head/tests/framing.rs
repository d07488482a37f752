//! Where the body ends (RFC 9112 section 6), and published ways to smuggle a request.

use super::*;

#[test]
fn each_valid_framing_is_read() {
    for (lines, framing) in [
        ("", Framing::None),
        ("Content-Length: 0\r\n", Framing::Length(0)),
        ("Content-Length: 5\r\n", Framing::Length(5)),
        ("content-length:5\r\n", Framing::Length(5)),
        ("Content-Length: \t5 \r\n", Framing::Length(5)),
        ("Content-Length: 0005\r\n", Framing::Length(5)),
        ("Content-Length: 9999999999999999\r\n", Framing::Length(9_999_999_999_999_999)),
        ("Content-Length: 0000000000000005\r\n", Framing::Length(5)),
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
fn content_length_is_digits_and_equal_when_repeated() {
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
        ("Content-Length: 00000000000000005\r\n", NUMBER),
        ("Content-Length: 00000000000000000000000000000000000000005\r\n", NUMBER),
        ("Content-Length: 10000000000000000\r\n", NUMBER),
        ("Content-Length: 18446744073709551616\r\n", NUMBER),
        ("Content-Length: 5\r\nContent-Length: 00000000000000005\r\n", NUMBER),
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
fn a_length_and_a_coding_together_are_refused() {
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
    // Ways to hide the field from one of two parsers.
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
        // A length that overflows, and one that differs in another base.
        b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 18446744073709551621\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0x10\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: +1\r\n\r\n",
        // A line that one parser ends early.
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
        // An upgrade to a protocol that is not parsed here.
        b"PRI * HTTP/2.0\r\n\r\n",
    ] {
        refused(data);
    }
    // No parser takes this field for Transfer-Encoding.
    good(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\nTransfer_Encoding: chunked\r\n\r\n", |request| {
        assert_eq!(request.framing, Framing::Length(4));
    });
}
