//! Request heads.

use super::fields::{connection_names, single, values};
use super::framing::declared_framing;
use super::target::Authority;
use super::{Field, HeadError, MAX_HEAD, Slots, Target, Version, complete};
use crate::http::body::Framing;

/// A request head that has one meaning only.
#[derive(Debug)]
pub struct Request<'h, 'b> {
    /// The method as sent. TRACE and CONNECT parse like any other.
    pub method: &'b str,
    /// The target in origin-form.
    pub target: Target<'b>,
    /// The peer's version.
    pub version: Version,
    /// All field lines as sent.
    pub fields: &'h [Field<'b>],
    /// How the body ends.
    pub framing: Framing,
    /// False when the client wants the connection closed afterwards.
    pub keep_alive: bool,
    /// The value of `Upgrade` when this is a WebSocket handshake (RFC 6455 section 4.1).
    pub upgrade: Option<&'b [u8]>,
    /// True when the client waits for `100 Continue` before it sends the body.
    pub expects_continue: bool,
}

impl<'h, 'b> Request<'h, 'b> {
    /// Parses a complete head, its empty line included.
    ///
    /// # Errors
    /// One of [`HeadError`], never a panic, for any bytes.
    pub fn parse(head: &'b [u8], slots: &'h mut Slots<'b>) -> Result<Self, HeadError> {
        if head.starts_with(b"PRI * HTTP/2.0\r\n") {
            return Err(HeadError::Http2Preface);
        }
        if head == b"\r\n\r\n" {
            // As a PROXY header of version 2 begins.
            return Err(HeadError::Malformed(
                "it has no request line; a PROXY header is taken only with PROXY_PROTOCOL=on, and from TRUSTED_PROXIES",
            ));
        }
        check_request_line(head)?;
        let mut parsed = httparse::Request::new(&mut []);
        complete(parsed.parse_with_uninit_headers(head, &mut slots.0), head)?;
        let method = parsed.method.ok_or(HeadError::Malformed("no method"))?;
        let target = parsed.path.ok_or(HeadError::Malformed("no target"))?;
        let version = Version::from_minor(parsed.version)?;
        let fields: &'h [Field<'b>] = parsed.headers;

        let target = Target::parse(method, target, host(fields, version)?)?;
        let framing = declared_framing(fields, version)?.unwrap_or(Framing::None);
        let upgrade = single(fields, "upgrade").ok().flatten().filter(|value| {
            method == "GET"
                && version == Version::Http11
                && value.eq_ignore_ascii_case(b"websocket")
                && connection_names(fields, b"upgrade")
                && matches!(framing, Framing::None | Framing::Length(0))
        });
        Ok(Self {
            method,
            target,
            version,
            fields,
            framing,
            keep_alive: version == Version::Http11 && !connection_names(fields, b"close"),
            upgrade,
            expects_continue: version == Version::Http11
                && values(fields, "expect").any(|value| value.eq_ignore_ascii_case(b"100-continue")),
        })
    }

    /// The path: the target without its query.
    pub fn path(&self) -> &'b str {
        self.target.path
    }
}

/// What Host names; only HTTP/1.0 may do without (RFC 9112 section 3.2).
fn host<'b>(fields: &[Field<'b>], version: Version) -> Result<Option<Authority<'b>>, HeadError> {
    match single(fields, "host") {
        Err(()) => Err(HeadError::Malformed("two Host fields")),
        Ok(None) if version == Version::Http11 => Err(HeadError::Malformed("no Host field")),
        Ok(None) => Ok(None),
        Ok(Some(host)) => Authority::parse(host).map(Some).ok_or(HeadError::Malformed("Host is not a host and port")),
    }
}

/// Checks what httparse reports less precisely, the version, and what it accepts in a target but must be refused.
fn check_request_line(head: &[u8]) -> Result<(), HeadError> {
    let line = head.split(|byte| *byte == b'\r').next().unwrap_or(head);
    if line.len() > MAX_HEAD {
        return Err(HeadError::TargetTooLong);
    }
    let mut words = line.split(|byte| *byte == b' ');
    let (Some(_), Some(target), Some(version), None) = (words.next(), words.next(), words.next(), words.next()) else {
        return Err(HeadError::Malformed("the request line is not `METHOD target HTTP/1.1`"));
    };
    match version {
        b"HTTP/1.1" | b"HTTP/1.0" => {}
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor] if major.is_ascii_digit() && minor.is_ascii_digit() => {
            return Err(HeadError::Version);
        }
        _ => return Err(HeadError::Malformed("the request line does not end in an HTTP version")),
    }
    if target.contains(&b'#') {
        return Err(HeadError::Malformed("the target has a fragment"));
    }
    if !target.iter().all(u8::is_ascii_graphic) {
        return Err(HeadError::Malformed("the target has a byte that must be percent-encoded"));
    }
    Ok(())
}
