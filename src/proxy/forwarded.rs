//! The client of a request, as trusted fronts report it hop by hop. Reports of other peers are ignored. It does no I/O.
//!
//! `X-Forwarded-For` and, where there is none, `Forwarded` (RFC 7239) are read from right to left, from the hop next
//! to us outwards. Each entry was written by the hop to its right, so it counts as long as that hop is trusted. An
//! entry that is malformed ends the way: the last hop that was read is then the client.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use super::proxy_protocol::Announced;
use crate::config::Networks;
use crate::http::head::{self, Field};
use crate::http::token::is_token;
use crate::ledger::ClientAddr;

/// Where a connection comes from, before any request on it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    /// The other end of the TCP connection.
    peer: ClientAddr,
    /// The client that its PROXY header names; without a header, the peer itself.
    announced: Announced,
}

/// The way of a request from its client to us, as far as it can be believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trail {
    /// The client that sent it.
    pub client: ClientAddr,
    /// The fronts that relayed it, the one next to us last.
    pub fronts: Vec<IpAddr>,
    /// True when a front wrote the request's fields or let them through.
    pub is_fronted: bool,
}

impl Source {
    /// A connection from `peer` without a PROXY header.
    pub fn plain(peer: ClientAddr) -> Self {
        Self { peer, announced: Announced::Itself }
    }

    /// A connection from `peer` with one.
    pub fn announced(peer: ClientAddr, announced: Announced) -> Self {
        Self { peer, announced }
    }

    /// The client of the connection itself.
    pub fn client(&self) -> ClientAddr {
        match self.announced {
            Announced::Client(client) => client.into(),
            Announced::Itself | Announced::Unknown => self.peer,
        }
    }

    /// True when a PROXY header names the client.
    pub fn is_announced(&self) -> bool {
        matches!(self.announced, Announced::Client(_))
    }

    /// Follows a request with these fields back to its client.
    pub fn trace(&self, fields: &[Field<'_>], trusted: &Networks) -> Trail {
        let mut trail = Trail { client: self.client(), fronts: Vec::new(), is_fronted: false };
        if let Announced::Client(_) = self.announced {
            trail.fronts.push(self.peer.address);
        }
        // When the front itself does not know the client, nothing about it can be believed.
        trail.is_fronted = self.announced != Announced::Unknown && trusted.contains(trail.client.address);
        if trail.is_fronted {
            if head::values(fields, "x-forwarded-for").next().is_some() {
                trail.follow(entries(fields), |entry| node(entry.trim_ascii()), trusted);
            } else {
                trail.follow(elements(fields), forwarded_for, trusted);
            }
        }
        trail
    }
}

impl Trail {
    /// Goes from hop to hop until one is not trusted, or until an entry is no address.
    fn follow<'b>(
        &mut self,
        mut entries: impl Iterator<Item = &'b [u8]>,
        read: impl Fn(&[u8]) -> Option<ClientAddr>,
        trusted: &Networks,
    ) {
        let mut behind = Vec::new();
        while trusted.contains(self.client.address) {
            let Some(client) = entries.next().and_then(&read) else { break };
            behind.push(self.client.address);
            self.client = client;
        }
        behind.reverse();
        behind.append(&mut self.fronts);
        self.fronts = behind;
    }
}

/// The entries of all `X-Forwarded-For` fields, last one first.
fn entries<'h, 'b: 'h>(fields: &'h [Field<'b>]) -> impl Iterator<Item = &'b [u8]> + 'h {
    (fields.iter().rev())
        .filter(|field| field.name.eq_ignore_ascii_case("x-forwarded-for"))
        .flat_map(|field| field.value.rsplit(|byte| *byte == b','))
}

/// The elements of all `Forwarded` fields, last one first. Empty elements do not count (RFC 9110 section 5.6.1).
fn elements<'h, 'b: 'h>(fields: &'h [Field<'b>]) -> impl Iterator<Item = &'b [u8]> + 'h {
    (fields.iter().rev())
        .filter(|field| field.name.eq_ignore_ascii_case("forwarded"))
        .flat_map(|field| Parts { rest: Some(field.value), separator: b',' })
        .map(<[u8]>::trim_ascii)
        .filter(|element| !element.is_empty())
}

/// The parts between separators that are not in a quoted string (RFC 9110 section 5.6.4), last one first.
///
/// A front appends its element to what the client sent. Reading from the right gives that element as the front wrote
/// it, whatever stands to its left: a quote that the client opened cannot draw it into a string.
struct Parts<'b> {
    rest: Option<&'b [u8]>,
    separator: u8,
}

impl<'b> Iterator for Parts<'b> {
    type Item = &'b [u8];

    fn next(&mut self) -> Option<&'b [u8]> {
        let rest = self.rest.take()?;
        let mut in_string = false;
        for (place, byte) in rest.iter().enumerate().rev() {
            match *byte {
                b'"' if in_string => in_string = is_escaped(&rest[..place]),
                b'"' => in_string = true,
                byte if byte == self.separator && !in_string => {
                    self.rest = Some(&rest[..place]);
                    return Some(&rest[place + 1..]);
                }
                _ => {}
            }
        }
        Some(rest)
    }
}

/// True when the byte after these is escaped: they end in an odd number of backslashes.
fn is_escaped(before: &[u8]) -> bool {
    before.iter().rev().take_while(|byte| **byte == b'\\').count() % 2 == 1
}

/// The `for` of one element of `Forwarded` (RFC 7239 section 4). `None` unless there is exactly one, it is an address,
/// and no other parameter is malformed.
fn forwarded_for(element: &[u8]) -> Option<ClientAddr> {
    let mut found = None;
    for pair in (Parts { rest: Some(element), separator: b';' }).map(<[u8]>::trim_ascii) {
        if pair.is_empty() {
            continue;
        }
        let equals = pair.iter().position(|byte| *byte == b'=')?;
        let (name, value) = (&pair[..equals], Value::parse(&pair[equals + 1..])?);
        if !is_token(name) || (name.eq_ignore_ascii_case(b"for") && found.replace(value).is_some()) {
            return None;
        }
    }
    match found? {
        Value::Quoted(text) => forwarded_node(&unescaped(text)),
        // Brackets and colons need quotes.
        Value::Bare(text) => Some(text).filter(|text| is_token(text)).and_then(node),
    }
}

/// The value of a parameter of `Forwarded`.
#[derive(Clone, Copy)]
enum Value<'b> {
    /// What stands between the quotes, with its escapes.
    Quoted(&'b [u8]),
    /// A token, or what fronts write without the quotes that it needs, such as `host=example.org:6923`.
    Bare(&'b [u8]),
}

impl<'b> Value<'b> {
    /// `None` when a quoted string does not begin and end where the value does.
    fn parse(value: &'b [u8]) -> Option<Self> {
        match value {
            [b'"', text @ .., b'"'] => {
                let ends_early = (text.iter().enumerate()).any(|(at, byte)| *byte == b'"' && !is_escaped(&text[..at]));
                (!ends_early && !is_escaped(text)).then_some(Self::Quoted(text))
            }
            text => (!text.iter().any(|byte| matches!(byte, b'"' | b'\\'))).then_some(Self::Bare(text)),
        }
    }
}

/// The text of a quoted string without the backslashes of its escapes.
fn unescaped(text: &[u8]) -> Vec<u8> {
    let mut bytes = text.iter();
    std::iter::from_fn(|| match bytes.next() {
        Some(b'\\') => bytes.next(),
        other => other,
    })
    .copied()
    .collect()
}

/// An address as `Forwarded` has it: also with an obfuscated port, `[2001:db8::1]:_obf` (RFC 7239 section 6.3).
fn forwarded_node(text: &[u8]) -> Option<ClientAddr> {
    let Some(colon) = text.windows(2).rposition(|pair| pair == b":_") else { return node(text) };
    let (address, port) = (&text[..colon], &text[colon + 2..]);
    let is_obfuscated =
        !port.is_empty() && port.iter().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(byte));
    // An IPv6 address in front of a port needs brackets.
    let can_have_port = address.last() == Some(&b']') || !address.contains(&b':');
    node(address).filter(|_| is_obfuscated && can_have_port)
}

/// An address, also in brackets or with a port: `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]:80`.
fn node(text: &[u8]) -> Option<ClientAddr> {
    let text = std::str::from_utf8(text).ok()?;
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(ClientAddr::new(address, None));
    }
    if let Some(bare) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return bare.parse::<Ipv6Addr>().ok().map(|address| ClientAddr::new(address.into(), None));
    }
    text.parse::<SocketAddr>().ok().map(ClientAddr::from)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::config::Settings;
    use crate::http::random::Random;

    /// Fronts are 10.0.0.0/8 and fd00::/8.
    fn trusted() -> Networks {
        let lookup = |name: &str| (name == "TRUSTED_PROXIES").then(|| "10.0.0.0/8,fd00::/8".into());
        Settings::from_lookup(lookup).unwrap().trusted_proxies
    }

    fn fields<'b>(lines: &[(&'b str, &'b str)]) -> Vec<Field<'b>> {
        lines.iter().map(|(name, value)| Field { name, value: value.as_bytes() }).collect()
    }

    fn peer(address: &str) -> Source {
        Source::plain(ClientAddr::new(address.parse().unwrap(), Some(4000)))
    }

    /// `client < front < front`
    fn traced(source: Source, lines: &[(&str, &str)]) -> String {
        shown(&source.trace(&fields(lines), &trusted()))
    }

    fn shown(trail: &Trail) -> String {
        std::iter::once(trail.client.to_string())
            .chain(trail.fronts.iter().map(IpAddr::to_string))
            .collect::<Vec<_>>()
            .join(" < ")
    }

    #[test]
    fn only_a_trusted_front_is_believed() {
        for source in ["203.0.113.7", "127.0.0.1", "::1", "11.0.0.1", "::ffff:203.0.113.7"] {
            for (name, value) in [("X-Forwarded-For", "192.0.2.1"), ("Forwarded", "for=192.0.2.1")] {
                let trail = peer(source).trace(&fields(&[(name, value), ("X-Real-IP", "192.0.2.1")]), &trusted());
                assert_eq!(trail.client, peer(source).client(), "{source} {name}");
                assert!(trail.fronts.is_empty() && !trail.is_fronted, "{source} {name}");
            }
        }
        // Without TRUSTED_PROXIES no front is.
        let trail = peer("10.0.0.1").trace(&fields(&[("X-Forwarded-For", "192.0.2.1")]), &Networks::default());
        assert_eq!(trail.client.to_string(), "10.0.0.1:4000");
    }

    #[test]
    fn the_first_from_the_right_that_is_no_front_is_the_client() {
        for (value, expected) in [
            ("192.0.2.1", "192.0.2.1 < 10.0.0.1"),
            ("198.51.100.1, 192.0.2.1", "192.0.2.1 < 10.0.0.1"),
            ("198.51.100.1, 192.0.2.1, 10.0.0.2", "192.0.2.1 < 10.0.0.2 < 10.0.0.1"),
            ("192.0.2.1,10.0.0.3,\t10.0.0.2 ", "192.0.2.1 < 10.0.0.3 < 10.0.0.2 < 10.0.0.1"),
            // A client may pretend to be a front's client, or a front.
            ("10.0.0.9, 192.0.2.1, 10.0.0.2", "192.0.2.1 < 10.0.0.2 < 10.0.0.1"),
            // All are fronts: the client is the one furthest out.
            ("10.0.0.3, 10.0.0.2", "10.0.0.3 < 10.0.0.2 < 10.0.0.1"),
            ("10.0.0.2", "10.0.0.2 < 10.0.0.1"),
            // Other forms of an address.
            ("::ffff:192.0.2.1", "192.0.2.1 < 10.0.0.1"),
            ("2001:DB8::7, fd00::2", "2001:db8::7 < fd00::2 < 10.0.0.1"),
            ("[2001:db8::7]", "2001:db8::7 < 10.0.0.1"),
            ("192.0.2.1:5000", "192.0.2.1:5000 < 10.0.0.1"),
            ("[2001:db8::7]:5000, [fd00::2]:80", "[2001:db8::7]:5000 < fd00::2 < 10.0.0.1"),
            ("192.0.2.1, ::ffff:10.0.0.2", "192.0.2.1 < 10.0.0.2 < 10.0.0.1"),
        ] {
            assert_eq!(traced(peer("10.0.0.1"), &[("X-Forwarded-For", value)]), expected, "{value}");
        }
        // Several fields are one list.
        let three = [("x-forwarded-for", "192.0.2.1"), ("Host", "x"), ("X-FORWARDED-FOR", "10.0.0.3, 10.0.0.2")];
        assert_eq!(traced(peer("10.0.0.1"), &three), "192.0.2.1 < 10.0.0.3 < 10.0.0.2 < 10.0.0.1");
        assert_eq!(traced(peer("fd00::1"), &[("X-Forwarded-For", "192.0.2.1")]), "192.0.2.1 < fd00::1");
    }

    #[test]
    fn an_entry_that_is_no_address_ends_the_way_at_the_last_that_was_one() {
        for bad in [
            "",
            " ",
            "unknown",
            "_hidden",
            "192.0.2",
            "192.0.2.1.1",
            "192.0.2.01",
            "192.0.2.1:",
            "192.0.2.1:99999",
            "[192.0.2.1]",
            "[::1",
            "::1]",
            "::1%lo",
            "[::1%lo]",
            "\"192.0.2.1\"",
            "for=192.0.2.1",
            "192.0.2.1 192.0.2.2",
            "192.0.2.1;",
            "\u{e9}",
            "front.example",
        ] {
            for (value, expected) in [
                (bad.to_owned(), "10.0.0.1:4000"),
                (format!("192.0.2.9, {bad}"), "10.0.0.1:4000"),
                (format!("192.0.2.9, {bad}, 10.0.0.3, 10.0.0.2"), "10.0.0.3 < 10.0.0.2 < 10.0.0.1"),
                (format!("{bad}, 192.0.2.9, 10.0.0.2"), "192.0.2.9 < 10.0.0.2 < 10.0.0.1"),
            ] {
                assert_eq!(traced(peer("10.0.0.1"), &[("X-Forwarded-For", &value)]), expected, "{value:?}");
            }
        }
        // A field that is not UTF-8.
        let raw = [Field { name: "X-Forwarded-For", value: b"192.0.2.9, \xFF\xFE" }];
        assert_eq!(peer("10.0.0.1").trace(&raw, &trusted()).client.to_string(), "10.0.0.1:4000");
    }

    /// RFC 7239 section 4.
    #[test]
    fn forwarded_is_read_likewise() {
        for (value, expected) in [
            ("for=192.0.2.1", "192.0.2.1 < 10.0.0.1"),
            ("For=192.0.2.1;proto=https;by=10.0.0.1", "192.0.2.1 < 10.0.0.1"),
            ("proto=https; FOR=192.0.2.1 ;host=x", "192.0.2.1 < 10.0.0.1"),
            ("for=\"192.0.2.1\"", "192.0.2.1 < 10.0.0.1"),
            ("for=\"192.0.2.1:80\"", "192.0.2.1:80 < 10.0.0.1"),
            ("for=\"[2001:db8::7]\"", "2001:db8::7 < 10.0.0.1"),
            ("for=\"[2001:db8::7]:80\"", "[2001:db8::7]:80 < 10.0.0.1"),
            ("for=198.51.100.1, for=192.0.2.1, for=10.0.0.2;by=10.0.0.1", "192.0.2.1 < 10.0.0.2 < 10.0.0.1"),
            // Obfuscated ports.
            ("for=\"[2001:db8::7]:_obf\"", "2001:db8::7 < 10.0.0.1"),
            ("for=\"192.0.2.1:_a.B-9_\"", "192.0.2.1 < 10.0.0.1"),
            ("for=192.0.2.1, for=\"10.0.0.2:__\"", "192.0.2.1 < 10.0.0.2 < 10.0.0.1"),
            // Empty parameters and elements.
            ("for=192.0.2.1;", "192.0.2.1 < 10.0.0.1"),
            (";for=192.0.2.1", "192.0.2.1 < 10.0.0.1"),
            ("; ;\tproto=https;;for=192.0.2.1; ;", "192.0.2.1 < 10.0.0.1"),
            ("for=192.0.2.1,", "192.0.2.1 < 10.0.0.1"),
            (", ,for=192.0.2.1,\t, for=10.0.0.2 , ,", "192.0.2.1 < 10.0.0.2 < 10.0.0.1"),
            // Quoted strings, with separators and escapes in them.
            ("secret=\"a;b\";for=192.0.2.1", "192.0.2.1 < 10.0.0.1"),
            ("for=192.0.2.1;secret=\"a,b;c=d\"", "192.0.2.1 < 10.0.0.1"),
            ("for=192.0.2.1;x=\"a, for=198.51.100.1\"", "192.0.2.1 < 10.0.0.1"),
            ("for=192.0.2.1;x=\"\\\", for=198.51.100.1;\\\"\";y=\"\\\\\"", "192.0.2.1 < 10.0.0.1"),
            ("x=\"\\\\\\\"\";for=192.0.2.1;y=\"\"", "192.0.2.1 < 10.0.0.1"),
            ("for=\"192\\.0.2.\\1\"", "192.0.2.1 < 10.0.0.1"),
            ("for=\"\\[2001:db8::7\\]:\\_o\"", "2001:db8::7 < 10.0.0.1"),
            ("x=\"\u{e9}\t\";for=192.0.2.1", "192.0.2.1 < 10.0.0.1"),
            // What fronts write without the quotes that it needs.
            ("for=192.0.2.1;host=lava.example:6923;by=[fd00::1]", "192.0.2.1 < 10.0.0.1"),
            ("for=192.0.2.1;proto=", "192.0.2.1 < 10.0.0.1"),
            ("for=\"2001:db8::7\"", "2001:db8::7 < 10.0.0.1"),
        ] {
            assert_eq!(traced(peer("10.0.0.1"), &[("Forwarded", value)]), expected, "{value}");
        }
        // Several fields are one list.
        let fields =
            [("forwarded", "for=192.0.2.1,"), ("Host", "x"), ("FORWARDED", ""), ("Forwarded", ", for=10.0.0.2;")];
        assert_eq!(traced(peer("10.0.0.1"), &fields), "192.0.2.1 < 10.0.0.2 < 10.0.0.1");
    }

    #[test]
    fn an_element_that_names_no_address_ends_the_way() {
        for bad in [
            ";",
            "proto=https",
            "192.0.2.1",
            "for",
            "for=",
            "for=unknown",
            "for=\"unknown:80\"",
            "for=_hidden",
            "for=\"_hidden:_p\"",
            "for=\"\"",
            "for=[2001:db8::7]",
            "for=2001:db8::7",
            "for=192.0.2.1:80",
            "for=192.0.2.1:_p",
            "for=\"192.0.2.1:\"",
            "for=\"192.0.2.1:_\"",
            "for=\"192.0.2.1:_a b\"",
            "for=\"192.0.2.1:_a:_b\"",
            "for=\"192.0.2.1:80:_b\"",
            "for=\"192.0.2.1:99999\"",
            "for=\"2001:db8::7:_p\"",
            "for=\"[192.0.2.1]:_p\"",
            "for=\" 192.0.2.1\"",
            "for =192.0.2.1",
            "for= 192.0.2.1",
            "=x;for=192.0.2.1",
            "a b=c;for=192.0.2.1",
            "for=192.0.2.1;for=192.0.2.1",
            "for=192.0.2.1;For=\"192.0.2.1\"",
            "for=192.0.2.1;x",
            // Quoted strings that do not begin or end where the value does.
            "for=\"",
            "for=192.0.2.1\"",
            "for=\"192.0.2.1\"x",
            "for=x\"192.0.2.1\"",
            "for=\"192.0.2.1\"\"\"",
            "for=\"192.0.2.1\\\"",
            "for=192.0.2.1;x=\"",
            "for=192.0.2.1;x=a\"b\"",
            "for=192.0.2.1;x=\"a\"b",
            "for=192.0.2.1;x=\\\"a\\\"",
            "x=\"a;for=192.0.2.1\"",
            "'for'=192.0.2.1;x='",
        ] {
            for (value, expected) in [
                (bad.to_owned(), "10.0.0.1:4000"),
                (format!("{bad}, for=10.0.0.2"), "10.0.0.2 < 10.0.0.1"),
                (format!("{bad}, for=192.0.2.9, for=\"10.0.0.2\""), "192.0.2.9 < 10.0.0.2 < 10.0.0.1"),
            ] {
                assert_eq!(traced(peer("10.0.0.1"), &[("Forwarded", &value)]), expected, "{value}");
            }
            let lines = [("Forwarded", "for=192.0.2.9"), ("Forwarded", bad)];
            assert_eq!(traced(peer("10.0.0.1"), &lines), "10.0.0.1:4000", "{bad}");
        }
        for empty in ["", " ", ",", " ,\t,"] {
            assert_eq!(traced(peer("10.0.0.1"), &[("Forwarded", empty)]), "10.0.0.1:4000", "{empty:?}");
        }
    }

    /// A front appends its own element to a field that the client may have filled with anything.
    #[test]
    fn nothing_that_a_client_sends_changes_what_its_front_says() {
        const BY_FRONT: [&str; 5] = [
            "for=192.0.2.1",
            "for=\"192.0.2.1:80\";proto=http",
            "by=\"[fd00::1]\";for=192.0.2.1;host=\"h:80\"",
            // The front quotes what the client sent it as Host.
            "for=192.0.2.1;host=\", for=203.0.113.66;x=\"",
            "host=\";for=203.0.113.66;x=\\\"\\\\\";for=192.0.2.1",
        ];
        const FRAGMENTS: [&str; 14] = [
            "\"",
            "\\",
            ",",
            ";",
            "=",
            "for=203.0.113.66",
            "for=\"203.0.113.66\"",
            "for=",
            "x=\"",
            "x=\"\\",
            "10.0.0.2",
            "for=10.0.0.2",
            " ",
            "\u{e9}",
        ];
        let trusted = trusted();
        let mut random = Random(0x6a09_e667_f3bc_c909);
        for _ in 0..5000 {
            let forged: String = (0..random.below(8)).map(|_| *random.pick(&FRAGMENTS)).collect();
            let front = *random.pick(&BY_FRONT);
            let port = if front.contains(":80\";proto") { ":80" } else { "" };
            let appended = format!("{forged}, {front}");
            for lines in [&[("Forwarded", &*appended)][..], &[("Forwarded", &*forged), ("Forwarded", front)]] {
                let trail = peer("10.0.0.1").trace(&fields(lines), &trusted);
                assert_eq!(shown(&trail), format!("192.0.2.1{port} < 10.0.0.1"), "{lines:?}");
            }
        }
    }

    #[test]
    fn any_bytes_are_an_address_or_none() {
        let trusted = trusted();
        let mut random = Random(0xbb67_ae85_84ca_a73b);
        for _ in 0..20_000 {
            let value: Vec<u8> = (0..random.below(40))
                .map(|_| if random.below(4) == 0 { random.byte() } else { *random.pick(b"for=\"\\,;[]:_.1a \t") })
                .collect();
            for name in ["Forwarded", "X-Forwarded-For"] {
                let fields = [Field { name, value: &value }];
                let trail = peer("10.0.0.1").trace(&fields, &trusted);
                assert_eq!(trail.fronts.is_empty(), trail.client == peer("10.0.0.1").client(), "{value:?}");
            }
        }
    }

    #[test]
    fn x_forwarded_for_counts_when_both_are_there() {
        let both = |value| [("Forwarded", "for=198.51.100.1"), ("X-Forwarded-For", value)];
        assert_eq!(traced(peer("10.0.0.1"), &both("192.0.2.1")), "192.0.2.1 < 10.0.0.1");
        for silent in ["", "unknown"] {
            assert_eq!(traced(peer("10.0.0.1"), &both(silent)), "10.0.0.1:4000", "{silent:?}");
        }
    }

    #[test]
    fn a_proxy_header_is_the_first_hop() {
        let front = ClientAddr::new("10.0.0.1".parse().unwrap(), Some(4000));
        let by = |announced| Source::announced(front, announced);
        let client = |address: &str| by(Announced::Client(address.parse().unwrap()));
        let spoofed = [("X-Forwarded-For", "192.0.2.66"), ("Forwarded", "for=192.0.2.66")];
        assert_eq!(traced(client("203.0.113.7:80"), &[]), "203.0.113.7:80 < 10.0.0.1");
        assert_eq!(traced(client("203.0.113.7:80"), &spoofed), "203.0.113.7:80 < 10.0.0.1");
        assert!(!client("203.0.113.7:80").trace(&fields(&spoofed), &trusted()).is_fronted);
        // One front in front of another.
        let behind = [("X-Forwarded-For", "198.51.100.1, 192.0.2.1")];
        assert_eq!(traced(client("10.0.0.2:80"), &behind), "192.0.2.1 < 10.0.0.2 < 10.0.0.1");
        assert_eq!(traced(client("10.0.0.2:80"), &[]), "10.0.0.2:80 < 10.0.0.1");
        // The front itself, and a client that the front does not know.
        assert_eq!(traced(by(Announced::Itself), &behind), "192.0.2.1 < 10.0.0.1");
        assert_eq!(traced(by(Announced::Unknown), &behind), "10.0.0.1:4000");
        assert!(!by(Announced::Unknown).trace(&fields(&behind), &trusted()).is_fronted);
    }
}
