//! The PROXY protocol, versions 1 and 2: the header in which a front sends the address of its client.
//!
//! A header is read up to its last byte and no further. Anything that is not exactly a header is an error. The grammar
//! is that of HAProxy's `proxy-protocol.txt`. Touches only the reader that it gets.

use std::fmt;
use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use crate::error::{End, is_timeout};
use crate::http::buffer::Buffer;

/// The longest time from the accept to a complete header. A front sends it at once, as it has nothing to wait for.
pub const HEADER_TIME: Duration = Duration::from_secs(3);
/// The first bytes of version 1.
const V1_START: &[u8] = b"PROXY ";
/// The longest header of version 1, its CRLF included.
const V1_MAX: usize = 107;
/// The first bytes of version 2.
const V2_START: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// The length of the fixed part of version 2: [`V2_START`], the command, the family and the length of the rest.
const V2_FIXED: usize = 16;
/// The most bytes that may follow the fixed part. Fronts send a few hundred.
const V2_MAX: usize = 4096;
/// The type of the TLV that holds the CRC32c of the header (`PP2_TYPE_CRC32C`).
const CRC32C: u8 = 0x03;

/// The client that a header names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Announced {
    /// A client at this address.
    Client(SocketAddr),
    /// The front itself, as in a health check: LOCAL in version 2.
    Itself,
    /// A client without an IP address: UNKNOWN, AF_UNSPEC, AF_UNIX.
    Unknown,
}

/// Why a connection has no valid PROXY header.
#[derive(Debug)]
pub enum HeaderError {
    /// The connection begins with something else.
    Missing,
    /// The header breaks the grammar.
    Malformed(&'static str),
    /// The connection ended within the header.
    Truncated,
    /// The header was not complete in time.
    Late,
    /// The connection ended without a byte, as that of a port check does.
    Silent,
    /// The connection was reset or failed.
    Broken(io::Error),
}

impl HeaderError {
    /// How the connection ended.
    pub fn end(&self) -> End {
        match self {
            Self::Missing | Self::Malformed(_) | Self::Truncated => End::BadRequest,
            Self::Late => End::ClientTimeout,
            Self::Silent => End::ClientClosed,
            Self::Broken(error) => End::of_client(error),
        }
    }
}

impl fmt::Display for HeaderError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => out.write_str(
                "no PROXY header from a trusted front; let it send one (send-proxy-v2), or set PROXY_PROTOCOL=off",
            ),
            Self::Malformed(why) => write!(out, "malformed PROXY header: {why}"),
            Self::Truncated => out.write_str("the connection ended within its PROXY header"),
            Self::Late => out.write_str("the PROXY header was not complete in time; a front sends it at once"),
            Self::Silent => out.write_str("the connection ended before its PROXY header"),
            Self::Broken(error) => {
                write!(out, "the connection broke off before its PROXY header was complete: {error}")
            }
        }
    }
}

/// Reads the header at the start of a connection and removes it from `buffer`. Bytes after it stay there.
///
/// Calls `before_read` before each read, which sets or checks a deadline.
///
/// # Errors
/// [`HeaderError`], as soon as further bytes cannot complete a valid header.
pub fn read<R: Read>(
    reader: &mut R,
    buffer: &mut Buffer,
    mut before_read: impl FnMut(&mut R) -> io::Result<()>,
) -> Result<Announced, HeaderError> {
    loop {
        if let Some((announced, length)) = parse(buffer.data())? {
            buffer.consume(length);
            return Ok(announced);
        }
        match before_read(reader).and_then(|()| buffer.fill(reader, V2_FIXED + V2_MAX)) {
            Ok(0) if buffer.is_empty() => return Err(HeaderError::Silent),
            Ok(0) => return Err(HeaderError::Truncated),
            Ok(_) => {}
            Err(error) if is_timeout(&error) => return Err(HeaderError::Late),
            Err(error) => return Err(HeaderError::Broken(error)),
        }
    }
}

/// The header at the start of `data` and its length; `None` while it is incomplete.
fn parse(data: &[u8]) -> Result<Option<(Announced, usize)>, HeaderError> {
    let may_be = |start: &[u8]| data.iter().zip(start).all(|(byte, expected)| byte == expected);
    if may_be(V2_START) {
        parse_v2(data)
    } else if may_be(V1_START) {
        parse_v1(data)
    } else {
        Err(HeaderError::Missing)
    }
}

fn parse_v1(data: &[u8]) -> Result<Option<(Announced, usize)>, HeaderError> {
    let window = &data[..data.len().min(V1_MAX)];
    let end = window.iter().position(|byte| !matches!(byte, b' '..=b'~')).unwrap_or(window.len());
    let line = match window[end..] {
        [] if end == V1_MAX => return Err(HeaderError::Malformed("its line is longer than 107 bytes")),
        [] => return Ok(None),
        [b'\r'] if end + 1 == V1_MAX => return Err(HeaderError::Malformed("its line is longer than 107 bytes")),
        [b'\r'] => return Ok(None),
        [b'\r', b'\n', ..] => std::str::from_utf8(&window[..end]).ok(),
        _ => None,
    };
    let line = line.ok_or(HeaderError::Malformed("its line does not end in CR and LF"))?;
    let mut words = line.split(' ').skip(1);
    let announced = match words.next() {
        // The rest of the line is ignored, as the specification says.
        Some("UNKNOWN") => Announced::Unknown,
        Some("TCP4") => Announced::Client(v1_source::<Ipv4Addr>(words)?),
        Some("TCP6") => Announced::Client(v1_source::<Ipv6Addr>(words)?),
        _ => return Err(HeaderError::Malformed("it names neither TCP4, TCP6 nor UNKNOWN")),
    };
    Ok(Some((announced, end + 2)))
}

/// Parses `source destination source-port destination-port` and returns the source.
fn v1_source<'l, A: FromStr + Into<IpAddr>>(
    mut words: impl Iterator<Item = &'l str>,
) -> Result<SocketAddr, HeaderError> {
    let mut address = || words.next().and_then(|word| word.parse::<A>().ok());
    let addresses = address().zip(address());
    let mut port = || words.next().and_then(v1_port);
    let ports = port().zip(port());
    match (addresses, ports, words.next()) {
        (Some((source, _)), Some((port, _)), None) => Ok(SocketAddr::new(source.into().to_canonical(), port)),
        (None, ..) => Err(HeaderError::Malformed("its addresses are not of the family that it names")),
        _ => Err(HeaderError::Malformed("it does not end in two ports")),
    }
}

fn v1_port(word: &str) -> Option<u16> {
    let canonical = word.bytes().all(|byte| byte.is_ascii_digit()) && (word == "0" || !word.starts_with('0'));
    word.parse().ok().filter(|_| canonical)
}

fn parse_v2(data: &[u8]) -> Result<Option<(Announced, usize)>, HeaderError> {
    let Some((&[.., command, family, high, low], rest)) = data.split_first_chunk::<V2_FIXED>() else {
        // A wrong command is an error already, before the rest has arrived.
        return match data.get(V2_START.len()) {
            None | Some(0x20 | 0x21) => Ok(None),
            Some(_) => Err(WRONG_COMMAND),
        };
    };
    let is_local = match command {
        0x20 => true,
        0x21 => false,
        _ => return Err(WRONG_COMMAND),
    };
    let addresses = match family {
        _ if is_local => 0,
        0x00 => 0,
        0x11 => 12,
        0x21 => 36,
        0x31 => 216,
        _ => return Err(HeaderError::Malformed("it is for neither TCP nor a Unix stream")),
    };
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length > V2_MAX {
        return Err(HeaderError::Malformed("it is longer than 4096 bytes"));
    }
    if length < addresses {
        return Err(HeaderError::Malformed("it is too short for its addresses"));
    }
    let Some(block) = rest.get(..length) else { return Ok(None) };
    let whole = &data[..V2_FIXED + length];
    if is_local {
        return Ok(Some((Announced::Itself, whole.len())));
    }
    check_tlvs(whole, V2_FIXED + addresses)?;
    let source = match family {
        0x11 => v2_source::<4>(block),
        0x21 => v2_source::<16>(block),
        _ => None,
    };
    Ok(Some((source.map_or(Announced::Unknown, Announced::Client), whole.len())))
}

/// Parses both addresses, then both ports, and returns the source's.
fn v2_source<const OCTETS: usize>(block: &[u8]) -> Option<SocketAddr>
where
    IpAddr: From<[u8; OCTETS]>,
{
    let (source, rest) = block.split_first_chunk::<OCTETS>()?;
    let (_destination, ports) = rest.split_first_chunk::<OCTETS>()?;
    let (port, _) = ports.split_first_chunk::<2>()?;
    Some(SocketAddr::new(IpAddr::from(*source).to_canonical(), u16::from_be_bytes(*port)))
}

const WRONG_COMMAND: HeaderError = HeaderError::Malformed("it is not version 2, LOCAL or PROXY");

/// Checks that the TLVs are complete, and the checksum if there is one. Ignores their other content.
fn check_tlvs(header: &[u8], mut at: usize) -> Result<(), HeaderError> {
    while at < header.len() {
        let tlv = header[at..].split_at_checked(3).and_then(|(start, rest)| {
            let length = usize::from(u16::from_be_bytes([start[1], start[2]]));
            rest.get(..length).map(|value| (start[0], value))
        });
        let (kind, value) = tlv.ok_or(HeaderError::Malformed("a TLV reaches beyond its end"))?;
        if kind == CRC32C && value != crc32c(header, at + 3..at + 7).to_be_bytes() {
            return Err(HeaderError::Malformed("its checksum is wrong"));
        }
        at += 3 + value.len();
    }
    Ok(())
}

/// The CRC32c (Castagnoli) of a header in which the bytes of the checksum itself count as zeros.
fn crc32c(header: &[u8], checksum: std::ops::Range<usize>) -> u32 {
    const REVERSED_POLYNOMIAL: u32 = 0x82F6_3B78;
    let bytes = header.iter().enumerate().map(|(at, byte)| if checksum.contains(&at) { 0 } else { *byte });
    !bytes.fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ if crc & 1 == 1 { REVERSED_POLYNOMIAL } else { 0 })
    })
}

#[cfg(test)]
mod tests;
