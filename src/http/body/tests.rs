#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;
use crate::http::random::Random;

/// The outcome of a body: the bytes that are forwarded, how many were read, and whether it is complete.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Outcome {
    sent: Vec<u8>,
    taken: usize,
    done: bool,
}

/// Feeds `pieces` one after the other until the body is done or refused.
fn feed<'a>(mut body: Body, pieces: impl Iterator<Item = &'a [u8]>) -> Result<Outcome, BodyError> {
    let mut outcome = Outcome { sent: Vec::new(), taken: 0, done: body.is_done() };
    for piece in pieces {
        let mut window = piece.to_vec();
        let step = body.step(&mut window)?;
        assert!(step.produced <= step.consumed && step.consumed <= piece.len(), "{step:?} of {piece:?}");
        assert!(body.is_done() || step.consumed == piece.len(), "it stopped before its end: {step:?} of {piece:?}");
        assert_eq!(&window[step.consumed..], &piece[step.consumed..], "what follows the body was touched");
        outcome.sent.extend_from_slice(&window[..step.produced]);
        outcome.taken += step.consumed;
        outcome.done = body.is_done();
        if outcome.done {
            break;
        }
    }
    Ok(outcome)
}

/// The one outcome of `input`, however it arrives: at once, byte by byte, in every two pieces.
fn outcome(new: impl Fn() -> Body, input: &[u8]) -> Result<Outcome, BodyError> {
    let at_once = feed(new(), std::iter::once(input));
    assert_eq!(feed(new(), input.chunks(1)), at_once, "byte by byte: {}", input.escape_ascii());
    for cut in 0..=input.len() {
        let (one, two) = input.split_at(cut);
        let pieces = [one, two];
        assert_eq!(feed(new(), pieces.into_iter()), at_once, "cut at {cut}: {}", input.escape_ascii());
    }
    at_once
}

fn chunked(limit: u64) -> Body {
    Body::new(Framing::Chunked, limit).unwrap()
}

/// Feeds a chunked body both ways: with its chunk lines and without them.
fn relayed(input: &[u8]) -> Result<Outcome, BodyError> {
    let relayed = outcome(|| chunked(u64::MAX), input);
    let content = outcome(|| chunked(u64::MAX).unchunked(), input);
    match (&relayed, &content) {
        (Ok(relayed), Ok(content)) => {
            assert_eq!((relayed.taken, relayed.done), (content.taken, content.done));
            // What is forwarded has the same meaning, and nothing more is removed from it.
            let again = feed(chunked(u64::MAX), std::iter::once(relayed.sent.as_slice())).unwrap();
            assert_eq!((&again.sent, again.done), (&relayed.sent, relayed.done));
            let content_again = feed(chunked(u64::MAX).unchunked(), std::iter::once(relayed.sent.as_slice())).unwrap();
            assert_eq!(content_again.sent, content.sent);
        }
        (relayed, content) => assert_eq!(relayed, content),
    }
    relayed
}

fn refused(input: &[u8]) -> String {
    match relayed(input) {
        Err(error) => error.to_string(),
        Ok(outcome) => panic!("{} was taken: {outcome:?}", input.escape_ascii()),
    }
}

#[test]
fn a_body_with_a_length_ends_after_so_many_bytes() {
    for (length, input, taken) in [
        (0, &b""[..], 0),
        (0, b"GET / HTTP/1.1\r\n", 0),
        (1, b"x", 1),
        (5, b"hello", 5),
        (5, b"helloGET / HTTP/1.1\r\n", 5),
        (5, b"hell", 4),
        (u64::MAX, b"hello", 5),
    ] {
        let found = outcome(|| Body::new(Framing::Length(length), u64::MAX).unwrap(), input).unwrap();
        assert_eq!((found.taken, &found.sent[..]), (taken, &input[..taken]), "{length}");
        assert_eq!(found.done, taken as u64 == length);
    }
}

#[test]
fn no_body_reads_nothing_and_a_body_until_close_reads_everything() {
    let found = outcome(|| Body::new(Framing::None, 0).unwrap(), b"GET").unwrap();
    assert_eq!(found, Outcome { sent: vec![], taken: 0, done: true });
    let found = outcome(|| Body::new(Framing::UntilClose, u64::MAX).unwrap(), b"0\r\n\r\nmore").unwrap();
    assert_eq!(found, Outcome { sent: b"0\r\n\r\nmore".to_vec(), taken: 9, done: false });
}

#[test]
fn the_end_of_the_stream_is_a_valid_end_of_some_bodies_only() {
    let ends = |framing, input: &[u8]| {
        let mut body = Body::new(framing, u64::MAX).unwrap();
        body.step(&mut input.to_vec()).unwrap();
        body.may_end_here()
    };
    for (framing, input, may_end) in [
        (Framing::None, &b""[..], true),
        (Framing::UntilClose, b"", true),
        (Framing::UntilClose, b"abc", true),
        (Framing::Length(0), b"", true),
        (Framing::Length(3), b"abc", true),
        (Framing::Length(3), b"", false),
        (Framing::Length(3), b"ab", false),
    ] {
        assert_eq!(ends(framing, input), may_end, "{framing:?} {input:?}");
    }
    let whole = b"3\r\nabc\r\n0\r\nA: b\r\n\r\n";
    for end in 0..=whole.len() {
        assert_eq!(ends(Framing::Chunked, &whole[..end]), end == whole.len(), "{end}");
    }
}

#[test]
fn the_limit_is_on_the_content() {
    assert!(Body::new(Framing::Length(10), 10).is_ok());
    assert_eq!(Body::new(Framing::Length(11), 10).unwrap_err(), BodyError::TooLarge);
    assert_eq!(Body::new(Framing::Length(u64::MAX), u64::MAX - 1).unwrap_err(), BodyError::TooLarge);
    assert!(Body::new(Framing::None, 0).is_ok());
    for (limit, input, fits) in [
        (0, &b"0\r\n\r\n"[..], true),
        (0, b"1\r\nx\r\n0\r\n\r\n", false),
        (10, b"a\r\n0123456789\r\n0\r\n\r\n", true),
        (10, b"5;x=y\r\n01234\r\n5\r\n56789\r\n0\r\nT: r\r\n\r\n", true),
        (10, b"5\r\n01234\r\n6\r\n56789x\r\n0\r\n\r\n", false),
        // Refused by the size that it announces.
        (10, b"b\r\n", false),
        (10, b"ffffffffffffffff\r\n", false),
        (u64::MAX, b"5\r\n01234\r\nffffffffffffffff\r\n", false),
    ] {
        match outcome(|| chunked(limit), input) {
            Ok(found) => assert!(fits && found.done, "{}", input.escape_ascii()),
            Err(error) => assert!(!fits && error == BodyError::TooLarge, "{}", input.escape_ascii()),
        }
    }
}

#[test]
fn valid_chunks_are_relayed_without_extensions_and_trailers() {
    let many_extensions = format!("1{}\r\nx\r\n0\r\n\r\n", ";a=b".repeat(63));
    for (input, sent) in [
        // RFC 9112 section 7.1: as it is.
        (&b"0\r\n\r\n"[..], &b"0\r\n\r\n"[..]),
        (b"5\r\nhello\r\n0\r\n\r\n", b"5\r\nhello\r\n0\r\n\r\n"),
        (b"1\r\na\r\n2\r\nbc\r\n0\r\n\r\n", b"1\r\na\r\n2\r\nbc\r\n0\r\n\r\n"),
        (b"a\r\n0123456789\r\n0\r\n\r\n", b"a\r\n0123456789\r\n0\r\n\r\n"),
        (b"A\r\n0123456789\r\n0\r\n\r\n", b"A\r\n0123456789\r\n0\r\n\r\n"),
        // As Lavalink writes them: padded to an even number of digits.
        (b"0a\r\n0123456789\r\n0\r\n\r\n", b"0a\r\n0123456789\r\n0\r\n\r\n"),
        (b"000a\r\n0123456789\r\n0\r\n\r\n", b"000a\r\n0123456789\r\n0\r\n\r\n"),
        (b"02\r\n{}\r\n0\r\n\r\n", b"02\r\n{}\r\n0\r\n\r\n"),
        (b"0000\r\n\r\n", b"0000\r\n\r\n"),
        // Content is not read as anything else.
        (b"5\r\n0\r\n\r\n\r\n0\r\n\r\n", b"5\r\n0\r\n\r\n\r\n0\r\n\r\n"),
        (b"4\r\n\r\n\r\n\r\n0\r\n\r\n", b"4\r\n\r\n\r\n\r\n0\r\n\r\n"),
        (b"3\r\n\0\xff\n\r\n0\r\n\r\n", b"3\r\n\0\xff\n\r\n0\r\n\r\n"),
        // RFC 9112 section 7.1.1: extensions, with blanks where the grammar has them.
        (b"1;a\r\nx\r\n0\r\n\r\n", b"1\r\nx\r\n0\r\n\r\n"),
        (b"1;a=b\r\nx\r\n0;c\r\n\r\n", b"1\r\nx\r\n0\r\n\r\n"),
        (b"1;a;b;c=d\r\nx\r\n0\r\n\r\n", b"1\r\nx\r\n0\r\n\r\n"),
        (b"1 ; a = b\r\nx\r\n0\r\n\r\n", b"1\r\nx\r\n0\r\n\r\n"),
        (b"1\t;\ta\t=\tb\t;\tc\r\nx\r\n0\r\n\r\n", b"1\r\nx\r\n0\r\n\r\n"),
        (b"1;a=\"\"\r\nx\r\n0\r\n\r\n", b"1\r\nx\r\n0\r\n\r\n"),
        (b"1;a=\"b c;d=e\"\r\nx\r\n0\r\n\r\n", b"1\r\nx\r\n0\r\n\r\n"),
        (b"1;a=\"\\\"\\\\\\x\"\r\nx\r\n0\r\n\r\n", b"1\r\nx\r\n0\r\n\r\n"),
        (b"1;a=\"\t\x80\xff\";b\r\nx\r\n0\r\n\r\n", b"1\r\nx\r\n0\r\n\r\n"),
        (b"1;a=\"b\" ;c\r\nx\r\n0\r\n\r\n", b"1\r\nx\r\n0\r\n\r\n"),
        (b"1;!#$%&'*+-.^_`|~09azAZ=!#$%&'*+-.^_`|~09azAZ\r\nx\r\n0\r\n\r\n", b"1\r\nx\r\n0\r\n\r\n"),
        (many_extensions.as_bytes(), b"1\r\nx\r\n0\r\n\r\n"),
        // RFC 9112 section 7.1.2: trailers.
        (b"0\r\nA: b\r\n\r\n", b"0\r\n\r\n"),
        (b"0\r\nA:\r\nB:\tx y \x80\xff \r\n\r\n", b"0\r\n\r\n"),
        (b"0\r\nContent-Length: 5\r\nAuthorization: x\r\n\r\n", b"0\r\n\r\n"),
        (b"0\r\n!#$%&'*+-.^_`|~09azAZ:::\r\n\r\n", b"0\r\n\r\n"),
    ] {
        let found = relayed(input).unwrap_or_else(|error| panic!("{}: {error}", input.escape_ascii()));
        assert_eq!(found.sent.escape_ascii().to_string(), sent.escape_ascii().to_string());
        assert!(found.done && found.taken == input.len(), "{}", input.escape_ascii());
        // The next request behind it is not touched.
        let next = [input, b"GET / HTTP/1.1\r\n\r\n"].concat();
        let found = relayed(&next).unwrap();
        assert_eq!((found.taken, &found.sent[..]), (input.len(), sent));
        // No shorter part is complete.
        for end in 0..input.len() {
            let found = feed(chunked(u64::MAX), std::iter::once(&input[..end])).unwrap();
            assert!(!found.done, "{}", input[..end].escape_ascii());
        }
    }
}

#[test]
fn a_large_chunk_of_lavalink_passes() {
    let mut input = Vec::new();
    for _ in 0..8 {
        input.extend_from_slice(b"3fec\r\n");
        input.extend_from_slice(&[b'x'; 0x3fec]);
        input.extend_from_slice(b"\r\n");
    }
    input.extend_from_slice(b"2aed\r\n");
    input.extend_from_slice(&[b'y'; 0x2aed]);
    input.extend_from_slice(b"\r\n0\r\n\r\n");
    for size in [1, 7, 1024, 16 * 1024, 64 * 1024, input.len()] {
        let found = feed(chunked(u64::MAX), input.chunks(size)).unwrap();
        assert!(found.done && found.sent == input, "{size}");
        let found = feed(chunked(u64::MAX).unchunked(), input.chunks(size)).unwrap();
        assert!(found.done && found.sent.len() == 8 * 0x3fec + 0x2aed, "{size}");
    }
}

#[test]
fn a_chunk_size_is_hexadecimal_and_nothing_else() {
    for input in [
        &b"\r\n"[..],
        b"\n",
        b" ",
        b" 5\r\nhello",
        b"\t5\r\nhello",
        b";a\r\n",
        b"+5\r\nhello",
        b"-5\r\nhello",
        b"-0\r\n\r\n",
        b"0x5\r\nhello",
        b"0X5\r\nhello",
        b"x5\r\nhello",
        b"5h\r\nhello",
        b"5_0\r\nhello",
        b"5.0\r\nhello",
        b"5,5\r\nhello",
        b"5\0\r\nhello",
        b"\x005\r\nhello",
        b"g\r\n",
        b"\"5\"\r\n",
        b"\xef\xbc\x95\r\nhello",
        b"5\x0b\r\nhello",
        b"5\x0c\r\nhello",
        b"5\x85\r\nhello",
        // 2^64 and beyond, which would overflow to a small number.
        b"10000000000000000\r\n",
        b"10000000000000005\r\nhello",
        b"fffffffffffffffff\r\n",
        b"1ffffffffffffffff\r\n",
        b"00000000000000000000010000000000000005\r\nhello",
        // After a good chunk as well.
        b"5\r\nhello\r\n\r\n",
        b"5\r\nhello\r\n 0\r\n\r\n",
        b"5\r\nhello\r\n-0\r\n\r\n",
        b"5\r\nhello\r\nGET / HTTP/1.1\r\n",
    ] {
        let error = refused(input);
        assert!(error.contains("chunk size"), "{}: {error}", input.escape_ascii());
    }
}

#[test]
fn a_chunk_size_has_16_digits_at_most() {
    let body = |zeros: usize| format!("{0}5\r\nhello\r\n{0}0\r\n\r\n", "0".repeat(zeros));
    for zeros in 0..16 {
        let found = relayed(body(zeros).as_bytes()).unwrap();
        assert!(found.done && found.sent == body(zeros).as_bytes(), "{zeros}");
    }
    for zeros in [16, 17, 20, 40, 254, 1000] {
        let error = refused(body(zeros).as_bytes());
        assert!(error.contains("more than 16 digits"), "{zeros}: {error}");
        // It is refused as soon as the digit too many is there.
        let digits = "0".repeat(zeros + 1);
        assert!(refused(digits.as_bytes()).contains("more than 16 digits"), "{zeros}");
        let last = format!("5\r\nhello\r\n{digits}\r\n\r\n");
        assert!(refused(last.as_bytes()).contains("more than 16 digits"), "{zeros}");
    }
}

#[test]
fn a_chunk_extension_follows_the_grammar() {
    for input in [
        // A blank that nothing follows: some parsers skip it, others do not.
        &b"5 \r\nhello"[..],
        b"5\t\r\nhello",
        b"5;a=b \r\nhello",
        b"5;a \r\nhello",
        b"5;\r\nhello",
        b"5; \r\nhello",
        b"5;;\r\nhello",
        b"5;a;\r\nhello",
        b"5;a=\r\nhello",
        b"5;a= \r\nhello",
        b"5;a=;b\r\nhello",
        b"5;=b\r\nhello",
        b"5;a==b\r\nhello",
        b"5;a b\r\nhello",
        b"5;a=b c\r\nhello",
        b"5 5\r\nhello",
        b"5 a\r\nhello",
        b"5;a,b\r\nhello",
        b"5;a=b=c\r\nhello",
        b"5;a=b\"c\"\r\nhello",
        b"5;\"a\"\r\nhello",
        b"5;a=\"b\"c\r\nhello",
        b"5;a=\"b\"\"c\"\r\nhello",
        b"5;a=\"b\"=c\r\nhello",
        b"5;a=\"b\r\nhello",
        b"5;a=\"b\\\r\nhello",
        b"5;a=\"\0\"\r\nhello",
        b"5;a=\"\x7f\"\r\nhello",
        b"5;a=\"\\\0\"\r\nhello",
        b"5;a=\"\n\"\r\nhello",
        b"5;a\0\r\nhello",
        b"5;a\x80\r\nhello",
        b"5;a=\x80\r\nhello",
        b"5;[a]\r\nhello",
        // A line that ends in LF alone for one parser and goes on for another (such as CVE-2024-24791).
        b"5;a\nhello",
        b"5;\nhello",
        b"5;a=b\nhello",
        b"5;a=\nhello",
        b"5;a=\"b\"\nhello",
        b"5;a\nx\r\n",
        b"5 \nhello",
        b"5;a \nhello",
        b"2;\nxx\r\n4c\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\n",
    ] {
        let error = refused(input);
        assert!(error.contains("extension"), "{}: {error}", input.escape_ascii());
    }
}

#[test]
fn lines_end_in_cr_lf() {
    for (input, reason) in [
        (&b"5\nhello"[..], "chunk size"),
        (b"0\n\n", "chunk size"),
        (b"5\r\r\nhello", "CR without LF"),
        (b"5\rhello", "CR without LF"),
        (b"5\r\0\nhello", "CR without LF"),
        (b"5;a\rb\r\nhello", "CR without LF"),
        (b"5;a=\"b\"\rx", "CR without LF"),
        (b"0\r\r\n", "CR without LF"),
        (b"5\r\nhello\n0\r\n\r\n", "longer"),
        (b"5\r\nhello\r\r\n0\r\n\r\n", "longer"),
        (b"5\r\nhello\rx", "longer"),
        (b"5\r\nhello0\r\n\r\n", "longer"),
        (b"5\r\nhello!\r\n0\r\n\r\n", "longer"),
        (b"5\r\nhello\0\r\n", "longer"),
        (b"4\r\nhello\r\n0\r\n\r\n", "longer"),
        // One too many in the size, and the content's CR is read as content.
        (b"6\r\nhello\r\n0\r\n\r\n", "longer"),
    ] {
        let error = refused(input);
        assert!(error.contains(reason), "{}: {error}", input.escape_ascii());
    }
}

#[test]
fn trailers_follow_the_grammar() {
    for input in [
        &b"0\r\n\n"[..],
        b"0\r\n\r\r",
        b"0\r\n\rx",
        b"0\r\n\0",
        b"0\r\n A: b\r\n\r\n",
        b"0\r\n\tA: b\r\n\r\n",
        b"0\r\n: b\r\n\r\n",
        b"0\r\nA\r\n\r\n",
        b"0\r\nA b\r\n\r\n",
        b"0\r\nA : b\r\n\r\n",
        b"0\r\nA\0: b\r\n\r\n",
        b"0\r\n\x80: b\r\n\r\n",
        b"0\r\nA: b\n\r\n",
        b"0\r\nA: b\n\n",
        b"0\r\nA: b\rX\r\n\r\n",
        b"0\r\nA: b\r\r\n\r\n",
        b"0\r\nA: \0\r\n\r\n",
        b"0\r\nA: \x7f\r\n\r\n",
        b"0\r\nA: \x1b\r\n\r\n",
        b"0\r\nA: b\r\n c\r\n\r\n",
        b"0\r\nA: b\r\n\tc\r\n\r\n",
        b"0\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n",
    ] {
        let error = refused(input);
        assert!(error.contains("trailer"), "{}: {error}", input.escape_ascii());
    }
}

/// RFC 9112 section 5.1: an error in a request, removed from a response. Here the whole trailer is.
#[test]
fn a_response_trailer_may_have_blanks_before_its_colon() {
    let of_response = |input: &[u8]| outcome(|| chunked(u64::MAX).of_response(), input);
    for input in [&b"0\r\nA : b\r\n\r\n"[..], b"0\r\nA: b\r\nC \t :\r\n\r\n", b"0\r\nA\t\t:b\r\n\r\n"] {
        let found = of_response(input).unwrap_or_else(|error| panic!("{}: {error}", input.escape_ascii()));
        assert!(found.done && found.sent == b"0\r\n\r\n", "{}", input.escape_ascii());
        assert!(refused(input).contains("trailer"), "{}", input.escape_ascii());
    }
    for input in [
        &b"0\r\n A: b\r\n\r\n"[..],
        b"0\r\n : b\r\n\r\n",
        b"0\r\nA b: c\r\n\r\n",
        b"0\r\nA b : c\r\n\r\n",
        b"0\r\nA \r\n\r\n",
        b"0\r\nA \r\n: b\r\n\r\n",
        b"0\r\nA :\r\n b\r\n\r\n",
    ] {
        assert!(of_response(input).is_err(), "{}", input.escape_ascii());
    }
}

#[test]
fn chunk_lines_and_trailers_have_a_maximum_length() {
    let line = |length: usize| format!("5;{}\r\nhello\r\n0\r\n\r\n", "a".repeat(length - 4));
    let longest = usize::from(MAX_CHUNK_LINE);
    assert!(relayed(line(longest).as_bytes()).unwrap().done);
    assert!(refused(line(longest + 1).as_bytes()).contains("too long"));
    let blank = |length: usize| format!("5{};a\r\nhello\r\n", " ".repeat(length));
    assert!(refused(blank(longest).as_bytes()).contains("too long"));
    // Each line by itself.
    let lines = line(longest).repeat(2).replace("0\r\n\r\n", "") + "0\r\n\r\n";
    assert!(feed(chunked(u64::MAX), std::iter::once(lines.as_bytes())).unwrap().done);

    let longest = usize::from(MAX_TRAILERS);
    let section = |length: usize| format!("0\r\nA:{}\r\n\r\n", "b".repeat(length - 6));
    assert!(feed(chunked(u64::MAX), std::iter::once(section(longest).as_bytes())).unwrap().done);
    let error = feed(chunked(u64::MAX), std::iter::once(section(longest + 1).as_bytes())).unwrap_err();
    assert_eq!(error, BodyError::Malformed("the trailer section is too long"));
    let many = format!("0\r\n{}\r\n", "A:b\r\n".repeat(longest));
    let error = feed(chunked(u64::MAX), many.as_bytes().chunks(3)).unwrap_err();
    assert_eq!(error, BodyError::Malformed("the trailer section is too long"));
}

/// The grammar of RFC 9112 section 7.1 once more, written for a whole message in memory.
mod oracle {
    pub struct Found {
        pub content: Vec<u8>,
        pub length: usize,
    }

    /// The chunked body at the start of `input`, if there is a whole and valid one.
    pub fn chunked_body(input: &[u8]) -> Option<Found> {
        let mut content = Vec::new();
        let mut rest = input;
        loop {
            let line;
            (line, rest) = line_of(rest)?;
            if line.len() + 2 > usize::from(super::MAX_CHUNK_LINE) {
                return None;
            }
            let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
            if digits > usize::from(super::MAX_SIZE_DIGITS) {
                return None;
            }
            let size = std::str::from_utf8(&line[..digits]).ok()?;
            let size = usize::try_from(u64::from_str_radix(size, 16).ok()?).ok()?;
            extensions(&line[digits..])?;
            if size == 0 {
                break;
            }
            content.extend_from_slice(rest.get(..size)?);
            rest = rest.get(size..)?.strip_prefix(b"\r\n")?;
        }
        let trailers = rest.len();
        loop {
            let line;
            (line, rest) = line_of(rest)?;
            if trailers - rest.len() > usize::from(super::MAX_TRAILERS) {
                return None;
            }
            if line.is_empty() {
                return Some(Found { content, length: input.len() - rest.len() });
            }
            let (_, value) = token(line)?;
            let text = |byte: &u8| *byte == b'\t' || (*byte >= b' ' && *byte != 0x7f);
            value.strip_prefix(b":")?.iter().all(text).then_some(())?;
        }
    }

    fn line_of(input: &[u8]) -> Option<(&[u8], &[u8])> {
        let end = input.windows(2).position(|pair| pair == b"\r\n")?;
        Some((&input[..end], &input[end + 2..]))
    }

    fn extensions(mut rest: &[u8]) -> Option<()> {
        while !rest.is_empty() {
            rest = blanks(blanks(rest).strip_prefix(b";")?);
            (_, rest) = token(rest)?;
            if let Some(value) = blanks(rest).strip_prefix(b"=") {
                let value = blanks(value);
                rest = match value.strip_prefix(b"\"") {
                    Some(quoted) => quoted_end(quoted)?,
                    None => token(value)?.1,
                };
            }
        }
        Some(())
    }

    fn quoted_end(mut rest: &[u8]) -> Option<&[u8]> {
        let text = |byte: u8| byte == b'\t' || (byte >= b' ' && byte != 0x7f);
        loop {
            rest = match rest {
                [b'"', rest @ ..] => return Some(rest),
                [b'\\', byte, rest @ ..] | [byte, rest @ ..] if text(*byte) => rest,
                _ => return None,
            };
        }
    }

    fn blanks(input: &[u8]) -> &[u8] {
        &input[input.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count()..]
    }

    fn token(input: &[u8]) -> Option<(&[u8], &[u8])> {
        let end =
            input.iter().take_while(|byte| byte.is_ascii_graphic() && !b"\"(),/:;<=>?@[\\]{}".contains(byte)).count();
        (end > 0).then(|| input.split_at(end))
    }
}

fn agrees_with_oracle(input: &[u8]) {
    let found = feed(chunked(u64::MAX).unchunked(), std::iter::once(input));
    let same = feed(chunked(u64::MAX), std::iter::once(input));
    assert_eq!(same.as_ref().map(|same| same.taken), found.as_ref().map(|found| found.taken));
    match (oracle::chunked_body(input), found) {
        (Some(expected), Ok(found)) => {
            assert!(found.done, "{}", input.escape_ascii());
            assert_eq!((found.sent, found.taken), (expected.content, expected.length), "{}", input.escape_ascii());
        }
        (Some(_), Err(error)) => panic!("{error}: {}", input.escape_ascii()),
        (None, found) => assert!(!found.is_ok_and(|found| found.done), "{}", input.escape_ascii()),
    }
}

const SEEDS: [&[u8]; 6] = [
    b"5\r\nhello\r\n0\r\n\r\n",
    b"01;a=b;c=\"d\\\"e\" ; f\r\nx\r\n0\r\nA: b\r\nC:\r\n\r\n",
    b"A\t;\tq\r\n0123456789\r\n00 ; z = y\r\n\r\nGET / HTTP/1.1\r\n\r\n",
    b"2\r\n\r\n\r\n3\r\n0\r\n\r\n0\r\n\r\n",
    b"0000000000000001\r\nx\r\n0\r\nTrailer-Name:\tvalue \r\n\r\n",
    b"ffffffffffffffff;x\r\n",
];

#[test]
fn bodies_with_one_changed_byte_are_read_as_the_grammar_says() {
    for seed in SEEDS {
        for place in 0..seed.len() {
            for byte in 0..=255 {
                let mut input = seed.to_vec();
                input[place] = byte;
                agrees_with_oracle(&input);
                input.insert(place, seed[place]);
                agrees_with_oracle(&input);
            }
            let mut input = seed.to_vec();
            input.remove(place);
            agrees_with_oracle(&input);
        }
    }
}

#[test]
fn random_bodies_are_read_as_the_grammar_says() {
    const FRAGMENTS: [&[u8]; 24] = [
        b"\r\n",
        b"\n",
        b"\r",
        b"0",
        b"1",
        b"5",
        b"a",
        b"F",
        b";",
        b"=",
        b"\"",
        b"\\",
        b" ",
        b"\t",
        b":",
        b"x",
        b"\0",
        b"\x80",
        b"\x7f",
        b"hello",
        b"0\r\n\r\n",
        b"1;a=b\r\nx\r\n",
        b"A: b\r\n",
        b"10000000000000000",
    ];
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for _ in 0..20_000 {
        let mut input = match random.below(3) {
            0 => Vec::new(),
            _ => random.pick(&SEEDS).to_vec(),
        };
        for _ in 0..random.below(6) {
            let place = random.below(input.len() + 1);
            match random.below(3) {
                0 => {
                    let fragment = random.pick(&FRAGMENTS);
                    input.splice(place..place, fragment.iter().copied());
                }
                1 if place < input.len() => input[place] = random.byte(),
                _ => {
                    let end = (place + random.below(4)).min(input.len());
                    input.drain(place..end);
                }
            }
        }
        agrees_with_oracle(&input);
        let at_once = feed(chunked(64), std::iter::once(input.as_slice()));
        let size = 1 + random.below(9);
        assert_eq!(feed(chunked(64), input.chunks(size)), at_once, "in {size}s: {}", input.escape_ascii());
    }
}

#[test]
fn random_valid_bodies_keep_their_content() {
    const EXTENSIONS: [&str; 5] = ["", ";a", " ; a = b", ";a=\"\\\"\r\"", ";a=\"b;c\";d"];
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    for _ in 0..500 {
        let mut wire = Vec::new();
        let mut content = Vec::new();
        for _ in 0..random.below(8) {
            let data: Vec<u8> = (0..=random.below(300)).map(|_| random.byte()).collect();
            let extension = random.pick(&EXTENSIONS).replace('\r', "");
            wire.extend_from_slice(
                format!("{:0width$x}{extension}\r\n", data.len(), width = random.below(5)).as_bytes(),
            );
            wire.extend_from_slice(&data);
            wire.extend_from_slice(b"\r\n");
            content.extend_from_slice(&data);
        }
        wire.extend_from_slice(random.pick(&["0\r\n\r\n", "0;a\r\nB: c\r\n\r\n"]).as_bytes());
        let length = wire.len();
        wire.extend_from_slice(b"5\r\nnext!\r\n");
        for size in [1, 1 + random.below(50), wire.len()] {
            let found = feed(chunked(content.len() as u64).unchunked(), wire.chunks(size)).unwrap();
            assert_eq!((&found.sent, found.taken, found.done), (&content, length, true));
            let found = feed(chunked(content.len() as u64), wire.chunks(size)).unwrap();
            let again = feed(chunked(u64::MAX).unchunked(), std::iter::once(found.sent.as_slice())).unwrap();
            assert_eq!((&again.sent, again.done), (&content, true));
        }
    }
}
