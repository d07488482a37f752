#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use super::*;

const SIGNATURE: [u8; 12] = [0x0D, 0x0A, 0x0D, 0x0A, 0x00, 0x0D, 0x0A, 0x51, 0x55, 0x49, 0x54, 0x0A];

/// A header of version 2 around `block`.
fn v2(command: u8, family: u8, block: &[u8]) -> Vec<u8> {
    let length = u16::try_from(block.len()).unwrap().to_be_bytes();
    [&SIGNATURE[..], &[command, family, length[0], length[1]], block].concat()
}

/// 203.0.113.7:49152 to 192.0.2.1:6923.
const INET: [u8; 12] = [203, 0, 113, 7, 192, 0, 2, 1, 0xC0, 0x00, 0x1B, 0x0B];

fn inet6() -> Vec<u8> {
    let octets = |text: &str| text.parse::<Ipv6Addr>().unwrap().octets();
    [&octets("2001:db8::7")[..], &octets("2001:db8::1"), &[0xC0, 0x01, 0x1B, 0x0B]].concat()
}

fn client(address: &str) -> Announced {
    Announced::Client(address.parse().unwrap())
}

/// A checksum at the end of an INET header, as HAProxy's `proxy-v2-options crc32c` has it.
fn with_checksum() -> Vec<u8> {
    let mut header = v2(0x21, 0x11, &[&INET[..], &[0x04, 0, 2, 0, 0], &[CRC32C, 0, 4, 0, 0, 0, 0]].concat());
    let at = header.len() - 4;
    let checksum = crc32c(&header, at..at + 4).to_be_bytes();
    header[at..].copy_from_slice(&checksum);
    header
}

fn good_headers() -> Vec<(Vec<u8>, Announced)> {
    let v1 = |line: &str, announced| (format!("{line}\r\n").into_bytes(), announced);
    vec![
        v1("PROXY TCP4 203.0.113.7 192.0.2.1 49152 6923", client("203.0.113.7:49152")),
        v1("PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535", client("255.255.255.255:65535")),
        v1("PROXY TCP4 0.0.0.0 0.0.0.0 0 0", client("0.0.0.0:0")),
        v1("PROXY TCP6 2001:db8::7 2001:db8::1 49153 6923", client("[2001:db8::7]:49153")),
        v1("PROXY TCP6 2001:DB8:0:0:0:0:0:7 :: 1 2", client("[2001:db8::7]:1")),
        // An IPv4-mapped address becomes the IPv4 address.
        v1("PROXY TCP6 ::ffff:203.0.113.7 ::1 1 2", client("203.0.113.7:1")),
        v1("PROXY UNKNOWN", Announced::Unknown),
        v1("PROXY UNKNOWN ", Announced::Unknown),
        v1("PROXY UNKNOWN what ever:  is said 99999", Announced::Unknown),
        v1(&format!("PROXY UNKNOWN {}", "f".repeat(107 - 16)), Announced::Unknown),
        (v2(0x21, 0x11, &INET), client("203.0.113.7:49152")),
        (v2(0x21, 0x21, &inet6()), client("[2001:db8::7]:49153")),
        (v2(0x21, 0x11, &[&INET[..], &[0xE0, 0, 3, 1, 2, 3, 0x20, 0, 0]].concat()), client("203.0.113.7:49152")),
        (with_checksum(), client("203.0.113.7:49152")),
        (v2(0x21, 0x31, &[0; 216]), Announced::Unknown),
        (v2(0x21, 0x00, &[]), Announced::Unknown),
        (v2(0x21, 0x00, &[0x04, 0, 1, 9]), Announced::Unknown),
        // Whatever follows LOCAL is ignored.
        (v2(0x20, 0x00, &[]), Announced::Itself),
        (v2(0x20, 0x11, &INET), Announced::Itself),
        (v2(0x20, 0xFF, &[0xFF; 4096]), Announced::Itself),
    ]
}

#[test]
fn a_header_is_read_up_to_its_last_byte() {
    for (header, announced) in good_headers() {
        let shown = String::from_utf8_lossy(&header);
        assert_eq!(parse(&header).unwrap(), Some((announced, header.len())), "{shown:?}");
        for behind in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"\r\n", b"\0", b"PROXY UNKNOWN\r\n", &SIGNATURE] {
            let with_more = [&header, behind].concat();
            assert_eq!(parse(&with_more).unwrap(), Some((announced, header.len())), "{shown:?} {behind:?}");
        }
    }
}

#[test]
fn an_incomplete_header_is_no_error() {
    for (header, _) in good_headers() {
        for length in 0..header.len() {
            assert_eq!(parse(&header[..length]).unwrap(), None, "{length} {:?}", String::from_utf8_lossy(&header));
        }
    }
}

#[test]
fn a_header_in_two_pieces_leaves_the_bytes_after_it() {
    for (header, announced) in good_headers().into_iter().filter(|(header, _)| header.len() < 300) {
        let sent = [&header[..], b"GET"].concat();
        for split in 0..=sent.len() {
            let (first, second) = sent.split_at(split);
            let mut buffer = Buffer::default();
            let mut reads = 0;
            let found = read(&mut first.chain(second), &mut buffer, |_| {
                reads += 1;
                Ok(())
            });
            assert_eq!(found.unwrap(), announced);
            let left =
                if split < header.len() || split == sent.len() { &b"GET"[..] } else { &sent[header.len()..split] };
            assert_eq!(
                (buffer.data(), reads),
                (left, if 0 < split && split < header.len() { 2 } else { 1 }),
                "{split}"
            );
        }
    }
}

#[test]
fn a_connection_that_ends_early_is_truncated_or_silent() {
    for (header, _) in good_headers() {
        for length in (0..header.len()).filter(|length| *length < 40 || length % 97 == 0) {
            let outcome = read(&mut &header[..length], &mut Buffer::default(), |_| Ok(()));
            match length {
                0 => assert!(matches!(outcome, Err(HeaderError::Silent)), "{outcome:?}"),
                _ => assert!(matches!(outcome, Err(HeaderError::Truncated)), "{outcome:?}"),
            }
        }
    }
    let late = read(&mut io::empty(), &mut Buffer::default(), |_| Err(io::ErrorKind::TimedOut.into())).unwrap_err();
    assert_eq!((late.end(), matches!(late, HeaderError::Late)), (End::ClientTimeout, true));
    let reset =
        read(&mut io::empty(), &mut Buffer::default(), |_| Err(io::ErrorKind::ConnectionReset.into())).unwrap_err();
    assert_eq!(reset.end(), End::ClientReset);
}

#[test]
fn a_missing_header_is_found_at_its_first_wrong_byte() {
    for start in [
        &b"G"[..],
        b"GET /version HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01",
        b"proxy",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"PROXY\t",
        b"PROXYTCP4",
        b" PROXY TCP4 1.2.3.4 1.2.3.4 1 2\r\n",
        b"\r\nPROXY UNKNOWN\r\n",
        b"\r\n\r\n\0\r\nQUIT\r",
        b"\n",
        b"\0",
    ] {
        assert!(matches!(parse(start), Err(HeaderError::Missing)), "{:?}", String::from_utf8_lossy(start));
    }
    let said = HeaderError::Missing.to_string();
    assert!(said.contains("send-proxy-v2") && said.contains("PROXY_PROTOCOL=off"));
    assert_eq!(HeaderError::Missing.end(), End::BadRequest);
}

#[test]
fn malformed_lines_are_refused() {
    for line in [
        "PROXY \r\n",
        "PROXY  TCP4 1.2.3.4 5.6.7.8 1 2\r\n",
        "PROXY TCP 1.2.3.4 5.6.7.8 1 2\r\n",
        "PROXY TCP5 1.2.3.4 5.6.7.8 1 2\r\n",
        "PROXY tcp4 1.2.3.4 5.6.7.8 1 2\r\n",
        "PROXY UDP4 1.2.3.4 5.6.7.8 1 2\r\n",
        "PROXY unknown\r\n",
        "PROXY UNKNOWNX\r\n",
        "PROXY TCP4\r\n",
        "PROXY TCP4 \r\n",
        "PROXY TCP4 1.2.3.4\r\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8\r\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 1\r\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 1 \r\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 1 2 \r\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 1 2 3\r\n",
        "PROXY TCP4  1.2.3.4 5.6.7.8 1 2\r\n",
        "PROXY TCP4 1.2.3.4  5.6.7.8 1 2\r\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8  1 2\r\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 1  2\r\n",
        "PROXY TCP4 1.2.3.256 5.6.7.8 1 2\r\n",
        "PROXY TCP4 1.2.3.04 5.6.7.8 1 2\r\n",
        "PROXY TCP4 1.2.3 5.6.7.8 1 2\r\n",
        "PROXY TCP4 1.2.3.4 5.6.7 1 2\r\n",
        "PROXY TCP4 ::1 ::1 1 2\r\n",
        "PROXY TCP4 1.2.3.4 ::1 1 2\r\n",
        "PROXY TCP6 1.2.3.4 5.6.7.8 1 2\r\n",
        "PROXY TCP6 ::1 5.6.7.8 1 2\r\n",
        "PROXY TCP6 ::1%lo ::1 1 2\r\n",
        "PROXY TCP6 [::1] [::1] 1 2\r\n",
        "PROXY TCP6 ::1::2 ::1 1 2\r\n",
        "PROXY TCP4 localhost 5.6.7.8 1 2\r\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 65536 2\r\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 1 65536\r\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 01 2\r\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 1 02\r\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 00 2\r\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 +1 2\r\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 -1 2\r\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 1 0x2\r\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 a 2\r\n",
        "PROXY TCP4\t1.2.3.4 5.6.7.8 1 2\r\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 1 2\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\r\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 1 2\rGET",
        "PROXY TCP4 1.2.3.4 5.6.7.8 1 2\0\r\n",
        "PROXY UNKNOWN \u{e9}\r\n",
        "PROXY UNKNOWN \u{7f}\r\n",
    ] {
        assert!(matches!(parse(line.as_bytes()), Err(HeaderError::Malformed(_))), "{line:?}");
    }
    // A line of more than 107 bytes is refused, complete or not.
    for tail in ["", "\r", "\r\n", "f\r\n"] {
        let line = format!("PROXY UNKNOWN {}{tail}", "f".repeat(107 - 15));
        let outcome = parse(line.as_bytes());
        match line.len() {
            106 => assert!(matches!(outcome, Ok(None)), "{line:?}"),
            _ => assert!(matches!(outcome, Err(HeaderError::Malformed(why)) if why.contains("107")), "{line:?}"),
        }
    }
}

#[test]
fn malformed_headers_of_version_2_are_refused_early() {
    // Other versions and commands are refused at their own byte.
    for command in (0..=255).filter(|command| !matches!(command, 0x20 | 0x21)) {
        let header = v2(command, 0x11, &INET);
        assert!(matches!(parse(&header[..13]), Err(HeaderError::Malformed(_))), "{command:#x}");
        assert!(matches!(parse(&header), Err(HeaderError::Malformed(_))), "{command:#x}");
    }
    // Datagrams, and families and transports that do not exist, are refused after the fixed part.
    for family in (0..=255).filter(|family| !matches!(family, 0x00 | 0x11 | 0x21 | 0x31)) {
        assert!(matches!(parse(&v2(0x21, family, &[0; 300])[..16]), Err(HeaderError::Malformed(_))), "{family:#x}");
    }
    // Too short for the addresses of the family.
    for (family, least) in [(0x11, 12), (0x21, 36), (0x31, 216)] {
        for length in 0..least {
            let header = v2(0x21, family, &vec![0; length]);
            assert!(matches!(parse(&header), Err(HeaderError::Malformed(_))), "{family:#x} {length}");
        }
    }
    // Longer than the limit.
    for command in [0x20, 0x21] {
        let header = v2(command, 0x00, &vec![0; 4097]);
        assert!(matches!(parse(&header[..16]), Err(HeaderError::Malformed(_))), "{command:#x}");
    }
    // TLVs that do not end with the header.
    for tlvs in
        [&[0x04][..], &[0x04, 0], &[0x04, 0, 1], &[0x04, 0, 0, 0x04], &[0x04, 0xFF, 0xFF, 0], &[0x04, 0, 0, 1, 0]]
    {
        let header = v2(0x21, 0x11, &[&INET[..], tlvs].concat());
        assert!(matches!(parse(&header), Err(HeaderError::Malformed(_))), "{tlvs:?}");
    }
    // A checksum of the wrong size.
    for tlv in [&[CRC32C, 0, 0][..], &[CRC32C, 0, 3, 0, 0, 0], &[CRC32C, 0, 5, 0, 0, 0, 0, 0]] {
        let header = v2(0x21, 0x11, &[&INET[..], tlv].concat());
        assert!(matches!(parse(&header), Err(HeaderError::Malformed(_))), "{tlv:?}");
    }
}

#[test]
fn the_checksum_gives_published_values() {
    // The check value of CRC-32C, and one of RFC 3720 section B.4.
    assert_eq!(crc32c(b"123456789", 0..0), 0xE306_9283);
    assert_eq!(crc32c(&[0; 32], 0..0), 0x8A91_36AA);
    assert_eq!(crc32c(b"\xFF\xFF\xFF\xFF", 0..4), crc32c(&[0; 4], 0..0));
}

#[test]
fn a_header_with_a_flipped_bit_fails_its_checksum() {
    let header = with_checksum();
    // Except in the TLV's type: with another type it is no checksum.
    let kind = header.len() - 7;
    for bit in (0..header.len() * 8).filter(|bit| bit / 8 != kind) {
        let mut flipped = header.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        // The checksum of LOCAL is not checked. Any other header is refused, or is incomplete because its length has grown.
        match parse(&flipped) {
            Ok(Some((announced, _))) => assert_eq!((announced, flipped[12]), (Announced::Itself, 0x20), "bit {bit}"),
            Ok(None) => assert!(flipped[14..16] > header[14..16], "bit {bit}"),
            Err(_) => {}
        }
    }
}

#[test]
fn a_changed_byte_never_reads_beyond_the_header() {
    for (header, _) in good_headers() {
        for at in 0..header.len().min(300) {
            for byte in 0..=255 {
                let mut changed = header.clone();
                changed[at] = byte;
                if let Ok(Some((_, length))) = parse(&changed) {
                    assert!(length <= changed.len());
                    // The header ends at the same byte without the bytes after it.
                    assert!(matches!(parse(&changed[..length]), Ok(Some((_, same))) if same == length));
                    assert!(matches!(parse(&changed[..length - 1]), Ok(None)));
                }
            }
        }
    }
}
