//! The request target and the authority that it and `Host` name (RFC 9112 section 3.2).

use std::fmt;

use super::HeadError;

/// A request target in origin-form. Both parts are as sent, byte for byte; absolute-form loses its scheme and
/// authority, and its empty path becomes `/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target<'b> {
    /// The path; `*` for an OPTIONS request about the server, the authority for CONNECT.
    pub path: &'b str,
    /// The query with its `?`, or nothing.
    pub query: &'b str,
}

impl<'b> Target<'b> {
    /// Reads the target of a request whose Host field has this value.
    pub(super) fn parse(method: &str, target: &'b str, host: Option<Authority<'_>>) -> Result<Self, HeadError> {
        if target.starts_with('/') || (target == "*" && method == "OPTIONS") || method == "CONNECT" {
            return Ok(Self::split(target));
        }
        let (default_port, rest) = [("http://", 80), ("https://", 443)]
            .iter()
            .find_map(|(scheme, port)| {
                let (start, rest) = target.split_at_checked(scheme.len())?;
                start.eq_ignore_ascii_case(scheme).then_some((*port, rest))
            })
            .ok_or(HeadError::Malformed("the target is neither a path nor an http URI"))?;
        let (authority, rest) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let authority = Authority::parse(authority.as_bytes())
            .filter(|authority| !authority.host.is_empty())
            .ok_or(HeadError::Malformed("the target's authority is not a host and port"))?;
        if host.is_some_and(|host| !host.is_same(authority, default_port)) {
            return Err(HeadError::Malformed("the target's authority differs from Host"));
        }
        let split = Self::split(rest);
        Ok(match (split.path, split.query) {
            // RFC 9112 section 3.2.4: an OPTIONS request without a path is about the server.
            ("", "") if method == "OPTIONS" => Self { path: "*", query: "" },
            ("", query) => Self { path: "/", query },
            _ => split,
        })
    }

    fn split(target: &'b str) -> Self {
        let (path, query) = target.split_at(target.find('?').unwrap_or(target.len()));
        Self { path, query }
    }
}

impl fmt::Display for Target<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.path)?;
        out.write_str(self.query)
    }
}

/// `host [":" port]` of RFC 3986 section 3.2, without user information.
#[derive(Clone, Copy, Debug)]
pub(super) struct Authority<'b> {
    /// A name, an IPv4 address or an IPv6 address in brackets.
    host: &'b [u8],
    /// Up to five digits.
    port: &'b [u8],
}

impl<'b> Authority<'b> {
    /// `None` when the value is no authority. The host may be empty (RFC 9110 section 7.2).
    pub fn parse(value: &'b [u8]) -> Option<Self> {
        let is_literal = value.first() == Some(&b'[');
        let end = match is_literal {
            true => value.iter().position(|byte| *byte == b']')? + 1,
            false => value.iter().position(|byte| *byte == b':').unwrap_or(value.len()),
        };
        let (host, rest) = value.split_at(end);
        let name = if is_literal { &host[1..end - 1] } else { host };
        let host_fits = name.iter().all(|byte| match byte {
            b':' => is_literal,
            _ => byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=".contains(byte),
        });
        let port = match rest {
            [] => rest,
            [b':', digits @ ..] if digits.len() <= 5 && digits.iter().all(u8::is_ascii_digit) => digits,
            _ => return None,
        };
        host_fits.then_some(Self { host, port })
    }

    /// True when both name the same host and port; no port and an empty one mean the default (RFC 3986 section 6.2.3).
    fn is_same(self, other: Authority<'_>, default_port: u32) -> bool {
        self.host.eq_ignore_ascii_case(other.host) && self.port(default_port) == other.port(default_port)
    }

    fn port(self, default: u32) -> u32 {
        match self.port {
            [] => default,
            digits => digits.iter().fold(0, |port, digit| port * 10 + u32::from(digit - b'0')),
        }
    }
}
