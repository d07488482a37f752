//! Whom a request is from: what trusted fronts say of it, hop by hop, and nothing that anybody else claims; pure.
//!
//! `X-Forwarded-For` and, where there is none, `Forwarded` (RFC 7239) are read from right to left, from the hop next
//! to us outwards. Each entry was written by the hop to its right, so it counts as long as that hop is trusted.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use super::proxy_protocol::Announced;
use crate::config::Trusted;
use crate::http::head::{self, Field};
use crate::ledger::ClientAddr;

/// Where a connection comes from, before any request on it has spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    /// The other end of the TCP connection.
    peer: ClientAddr,
    /// Whom its PROXY header spoke for; without a header, itself.
    announced: Announced,
}

/// How a request came, as far as that can be believed.
#[derive(Debug, PartialEq, Eq)]
pub struct Trail {
    /// Whom it is from.
    pub client: ClientAddr,
    /// The fronts that it came through, the one next to us last.
    pub fronts: Vec<IpAddr>,
    /// True when the request's fields were written or let through by a front.
    pub is_fronted: bool,
}

impl Source {
    /// A connection from `peer` without a PROXY header.
    pub fn plain(peer: ClientAddr) -> Self {
        Self { peer, announced: Announced::Itself }
    }

    /// The same with one.
    pub fn announced(peer: ClientAddr, announced: Announced) -> Self {
        Self { peer, announced }
    }

    /// Whom the connection itself is from.
    pub fn client(&self) -> ClientAddr {
        match self.announced {
            Announced::Client(client) => client.into(),
            Announced::Itself | Announced::Unknown => self.peer,
        }
    }

    /// Follows a request with these fields back to its client.
    pub fn trace(&self, fields: &[Field<'_>], trusted: &Trusted) -> Trail {
        let mut trail = Trail { client: self.client(), fronts: Vec::new(), is_fronted: false };
        if let Announced::Client(_) = self.announced {
            trail.fronts.push(self.peer.address);
        }
        // Of somebody whom the front itself does not know, nothing can be believed.
        trail.is_fronted = self.announced != Announced::Unknown && trusted.contains(trail.client.address);
        if trail.is_fronted {
            let said = |name: &str| head::values(fields, name).next().is_some();
            if said("x-forwarded-for") {
                trail.follow(entries(fields, "x-forwarded-for"), |entry| node(entry.trim_ascii()), trusted);
            } else {
                trail.follow(entries(fields, "forwarded"), forwarded_for, trusted);
            }
        }
        trail
    }
}

impl Trail {
    /// Goes from hop to hop until one is not trusted, or what one says is no address.
    fn follow<'b>(
        &mut self,
        mut entries: impl Iterator<Item = &'b [u8]>,
        read: impl Fn(&[u8]) -> Option<ClientAddr>,
        trusted: &Trusted,
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

/// The entries of a list that may be spread over several fields, last one first.
///
/// A comma in a quoted string parts entries too: no address has one, so neither half is read as an address.
fn entries<'h, 'b: 'h>(fields: &'h [Field<'b>], name: &'h str) -> impl Iterator<Item = &'b [u8]> + 'h {
    (fields.iter().rev())
        .filter(move |field| field.name.eq_ignore_ascii_case(name))
        .flat_map(|field| field.value.rsplit(|byte| *byte == b','))
}

/// The `for` of one element of `Forwarded`; `None` unless there is exactly one and it is an address.
fn forwarded_for(element: &[u8]) -> Option<ClientAddr> {
    let mut found = None;
    for pair in element.split(|byte| *byte == b';') {
        let pair = pair.trim_ascii();
        let equals = pair.iter().position(|byte| *byte == b'=')?;
        let (name, value) = (&pair[..equals], &pair[equals + 1..]);
        if name.eq_ignore_ascii_case(b"for") && found.replace(value).is_some() {
            return None;
        }
    }
    match found? {
        [b'"', quoted @ .., b'"'] => node(quoted),
        // Brackets and colons need quotes.
        token => node(token).filter(|_| !token.contains(&b':')),
    }
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

    /// Fronts are 10.0.0.0/8 and fd00::/8.
    fn trusted() -> Trusted {
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
        let trail = source.trace(&fields(lines), &trusted());
        std::iter::once(trail.client.to_string())
            .chain(trail.fronts.iter().map(IpAddr::to_string))
            .collect::<Vec<_>>()
            .join(" < ")
    }

    #[test]
    fn nobody_but_a_front_is_believed() {
        for source in ["203.0.113.7", "127.0.0.1", "::1", "11.0.0.1", "::ffff:203.0.113.7"] {
            for (name, value) in [("X-Forwarded-For", "192.0.2.1"), ("Forwarded", "for=192.0.2.1")] {
                let trail = peer(source).trace(&fields(&[(name, value), ("X-Real-IP", "192.0.2.1")]), &trusted());
                assert_eq!(trail.client, peer(source).client(), "{source} {name}");
                assert!(trail.fronts.is_empty() && !trail.is_fronted, "{source} {name}");
            }
        }
        // Nor is anybody when nobody is trusted.
        let trail = peer("10.0.0.1").trace(&fields(&[("X-Forwarded-For", "192.0.2.1")]), &Trusted::default());
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
            // All are fronts: the one furthest out it is.
            ("10.0.0.3, 10.0.0.2", "10.0.0.3 < 10.0.0.2 < 10.0.0.1"),
            ("10.0.0.2", "10.0.0.2 < 10.0.0.1"),
            // Other ways to write an address.
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
    fn what_is_no_address_ends_the_way_at_the_last_that_was_one() {
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
        // A field that is no text at all.
        let raw = [Field { name: "X-Forwarded-For", value: b"192.0.2.9, \xFF\xFE" }];
        assert_eq!(peer("10.0.0.1").trace(&raw, &trusted()).client.to_string(), "10.0.0.1:4000");
    }

    #[test]
    fn forwarded_is_read_alike() {
        for (value, expected) in [
            ("for=192.0.2.1", "192.0.2.1 < 10.0.0.1"),
            ("For=192.0.2.1;proto=https;by=10.0.0.1", "192.0.2.1 < 10.0.0.1"),
            ("proto=https; FOR=192.0.2.1 ;host=x", "192.0.2.1 < 10.0.0.1"),
            ("for=\"192.0.2.1\"", "192.0.2.1 < 10.0.0.1"),
            ("for=\"192.0.2.1:80\"", "192.0.2.1:80 < 10.0.0.1"),
            ("for=\"[2001:db8::7]\"", "2001:db8::7 < 10.0.0.1"),
            ("for=\"[2001:db8::7]:80\"", "[2001:db8::7]:80 < 10.0.0.1"),
            ("for=198.51.100.1, for=192.0.2.1, for=10.0.0.2;by=10.0.0.1", "192.0.2.1 < 10.0.0.2 < 10.0.0.1"),
            // These end the way.
            ("", "10.0.0.1:4000"),
            ("for=unknown", "10.0.0.1:4000"),
            ("for=_hidden", "10.0.0.1:4000"),
            ("for=", "10.0.0.1:4000"),
            ("for=\"\"", "10.0.0.1:4000"),
            ("for=\"", "10.0.0.1:4000"),
            ("for=[2001:db8::7]", "10.0.0.1:4000"),
            ("for=2001:db8::7", "10.0.0.1:4000"),
            ("for=192.0.2.1:80", "10.0.0.1:4000"),
            ("for =192.0.2.1", "10.0.0.1:4000"),
            ("for= 192.0.2.1", "10.0.0.1:4000"),
            ("for=192.0.2.1;for=192.0.2.1", "10.0.0.1:4000"),
            ("for=192.0.2.1;", "10.0.0.1:4000"),
            ("proto=https", "10.0.0.1:4000"),
            ("192.0.2.1", "10.0.0.1:4000"),
            ("for=192.0.2.9, proto=https, for=10.0.0.2", "10.0.0.2 < 10.0.0.1"),
            // A quoted string with a comma or a semicolon in it hides no address.
            ("for=192.0.2.9;x=\"a, for=192.0.2.1\"", "10.0.0.1:4000"),
            ("x=\"a;for=192.0.2.1\"", "10.0.0.1:4000"),
        ] {
            assert_eq!(traced(peer("10.0.0.1"), &[("Forwarded", value)]), expected, "{value}");
        }
    }

    #[test]
    fn x_forwarded_for_counts_where_both_are_there() {
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
        // The front itself, and somebody of whom it knows nothing.
        assert_eq!(traced(by(Announced::Itself), &behind), "192.0.2.1 < 10.0.0.1");
        assert_eq!(traced(by(Announced::Unknown), &behind), "10.0.0.1:4000");
        assert!(!by(Announced::Unknown).trace(&fields(&behind), &trusted()).is_fronted);
    }
}
