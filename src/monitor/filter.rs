//! The parameters `address=`, `version=` and `kind=` of the lists; pure.

use std::net::IpAddr;

use crate::config::Lavalink;
use crate::ledger::{ConnectionRow, UsageRow};

/// Which rows are wanted; all of them without a parameter.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Filter {
    address: Option<String>,
    version: Option<&'static str>,
    kind: Option<&'static str>,
}

const KINDS: [&str; 2] = ["http", "websocket"];

impl Filter {
    /// Reads the query of a target. Other parameters are ignored.
    ///
    /// # Errors
    /// What is wrong, and what is expected.
    pub fn parse(query: &str) -> Result<Self, &'static str> {
        let mut filter = Self::default();
        for pair in pairs(query) {
            let (name, value) = pair?;
            match name {
                "address" => filter.address = Some(address(&value).ok_or("address is an IP address, or others")?),
                "version" => filter.version = Some(version(&value).ok_or("version is v3 or v4")?),
                "kind" => filter.kind = Some(kind(&value).ok_or("kind is http or websocket")?),
                _ => {}
            }
        }
        Ok(filter)
    }

    /// True for a connection that is wanted.
    pub fn takes_connection(&self, row: &ConnectionRow) -> bool {
        let is_its = |address: &String| *address == row.address.to_string();
        self.address.as_ref().is_none_or(is_its)
            && self.version.is_none_or(|version| row.version == Some(version))
            && self.kind.is_none_or(|kind| row.kind == kind)
    }

    /// True for an address whose usage is wanted; usage is not kept by version or kind.
    pub fn takes_usage(&self, row: &UsageRow) -> bool {
        self.address.as_ref().is_none_or(|address| *address == row.address)
    }
}

/// The address as it is written in the rows.
fn address(value: &str) -> Option<String> {
    if value == "others" {
        return Some(value.to_owned());
    }
    let bare = value.trim_start_matches('[').trim_end_matches(']');
    bare.parse::<IpAddr>().ok().map(|address| address.to_canonical().to_string())
}

fn version(value: &str) -> Option<&'static str> {
    Lavalink::ALL.into_iter().map(Lavalink::name).find(|name| *name == value)
}

fn kind(value: &str) -> Option<&'static str> {
    KINDS.into_iter().find(|name| *name == value)
}

/// The names and the decoded values of a query.
///
/// # Errors
/// An item that cannot be decoded is an error that says why.
pub fn pairs(query: &str) -> impl Iterator<Item = Result<(&str, String), &'static str>> {
    query.split('&').map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        Ok((name, decode(value).ok_or("a % must be followed by two hexadecimal digits")?))
    })
}

/// Percent-decodes; a plus sign is kept, and %20 is a blank.
pub fn decode(value: &str) -> Option<String> {
    let mut bytes = value.bytes();
    let mut decoded = Vec::with_capacity(value.len());
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => {
                let mut digit = || char::from(bytes.next()?).to_digit(16);
                u8::try_from(digit()? * 16 + digit()?).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(decoded).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn an_address_is_normalised_as_in_the_rows() {
        for (query, expected) in [
            ("", None),
            ("x=1&y", None),
            ("address=10.0.0.9", Some("10.0.0.9")),
            ("address=::ffff:10.0.0.9", Some("10.0.0.9")),
            ("address=2001%3Adb8%3a%3a1", Some("2001:db8::1")),
            ("address=[2001:DB8:0::1]", Some("2001:db8::1")),
            ("address=1.1.1.1&address=2.2.2.2", Some("2.2.2.2")),
            ("address=others", Some("others")),
        ] {
            assert_eq!(Filter::parse(query).unwrap().address.as_deref(), expected, "{query}");
        }
        assert_eq!(Filter::parse("version=v4&t=%20").unwrap().version, Some("v4"));
        assert_eq!(Filter::parse("kind=http").unwrap().kind, Some("http"));
    }

    #[test]
    fn a_value_that_cannot_match_is_an_error() {
        for query in [
            "address=",
            "address=host",
            "address=1.2.3",
            "version=5",
            "version=",
            "kind=",
            "kind=HTTP",
            "address=%",
            "a=%g0",
            "a=%ff",
        ] {
            assert!(Filter::parse(query).is_err(), "{query}");
        }
    }
}
