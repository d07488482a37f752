//! Request and response heads, read strictly.
//!
//! httparse reads the grammar. The rules here are stricter: they refuse what two parsers could read in two ways
//! (RFC 9112 sections 2.2, 3, 5 and 6), because a proxy that forwards an ambiguous head lets one peer speak in
//! another's name. A parsed head borrows from the buffer that it arrived in; nothing is copied or allocated.
//!
//! `scan` finds where a head ends. `request` and `response` parse it, with `target` for the request target, `fields`
//! for the field lines and `framing` for where the body ends.

use std::fmt;
use std::mem::MaybeUninit;

mod fields;
mod framing;
mod request;
mod response;
mod scan;
mod target;

pub use fields::{end_to_end, single, values};
pub use request::Request;
pub use response::Response;
pub use scan::{ReadError, Scan, read};
pub use target::Target;

/// The largest request head that is forwarded, in bytes: Lavalink's whole budget for request line and fields.
pub const MAX_HEAD: usize = 8192;
/// The largest head that is read from a peer, in bytes. It may exceed [`MAX_HEAD`] by the fields that are not forwarded.
pub const MAX_READ_HEAD: usize = 16 * 1024;
/// The most field lines that a head may have.
pub const MAX_FIELDS: usize = 100;

/// One field line.
pub type Field<'b> = httparse::Header<'b>;

/// Room for the field lines of one head. It stays uninitialised until the parser fills it.
pub struct Slots<'b>([MaybeUninit<Field<'b>>; MAX_FIELDS]);

impl Slots<'_> {
    /// Empty room, which costs nothing until it is used.
    pub fn new() -> Self {
        Self([const { MaybeUninit::uninit() }; MAX_FIELDS])
    }
}

impl Default for Slots<'_> {
    fn default() -> Self {
        Self::new()
    }
}

/// The protocol versions that lavaproxy speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0: one request per connection, no chunked bodies, no interim responses.
    Http10,
    /// HTTP/1.1.
    Http11,
}

impl Version {
    fn from_minor(minor: Option<u8>) -> Result<Self, HeadError> {
        match minor {
            Some(0) => Ok(Self::Http10),
            Some(1) => Ok(Self::Http11),
            _ => Err(HeadError::Version),
        }
    }
}

/// Why a head is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadError {
    /// It breaks the grammar or is ambiguous: 400.
    Malformed(&'static str),
    /// The request line alone is over [`MAX_HEAD`]: 414.
    TargetTooLong,
    /// The head is over its size: 431.
    TooLarge,
    /// More than [`MAX_FIELDS`] field lines: 431.
    TooManyFields,
    /// Neither HTTP/1.0 nor HTTP/1.1: 505.
    Version,
    /// A transfer coding other than `chunked`: 501.
    Coding,
    /// A TLS client hello on a plain port: 400.
    TlsHello,
    /// The preface of HTTP/2 with prior knowledge: 505.
    Http2Preface,
    /// A PROXY header on a listener that takes none: 400.
    ProxyHeader,
}

impl fmt::Display for HeadError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(why) => write!(out, "malformed head: {why}"),
            Self::TargetTooLong => write!(out, "the request line is longer than the {MAX_HEAD} bytes that Lavalink reads; shorten the identifier or use POST"),
            Self::TooLarge => write!(out, "the head is larger than the {MAX_HEAD} bytes that Lavalink reads; send fewer or shorter fields"),
            Self::TooManyFields => write!(out, "the head has more than {MAX_FIELDS} fields; send fewer"),
            Self::Version => out.write_str("only HTTP/1.1 and HTTP/1.0 are spoken here"),
            Self::Coding => out.write_str("the only transfer coding understood is chunked; send the body with it or with a Content-Length"),
            Self::TlsHello => out.write_str("this is a TLS hello on a plain port; use http:// and ws:// here (secure: false), or put a TLS front before it"),
            Self::ProxyHeader => out.write_str("this is a PROXY header; it is taken only with PROXY_PROTOCOL=on, and from TRUSTED_PROXIES"),
            Self::Http2Preface => out.write_str("this is the HTTP/2 preface; speak HTTP/1.1 here"),
        }
    }
}

/// Checks that httparse understood the head and ended where the scan did.
fn complete(parsed: httparse::Result<usize>, head: &[u8]) -> Result<(), HeadError> {
    use httparse::{Error, Status};
    match parsed {
        Ok(Status::Complete(length)) if length == head.len() => Ok(()),
        Ok(_) => Err(HeadError::Malformed("the head does not end where its empty line is")),
        Err(Error::TooManyHeaders) => Err(HeadError::TooManyFields),
        Err(Error::Version) => Err(HeadError::Malformed("no HTTP version where one belongs")),
        Err(Error::HeaderName) => Err(HeadError::Malformed("a field name is not a token, or a line is folded")),
        Err(Error::HeaderValue) => Err(HeadError::Malformed("a field value has a character it may not have")),
        Err(Error::Status) => Err(HeadError::Malformed("the status line has no status code")),
        Err(Error::Token | Error::NewLine) => Err(HeadError::Malformed("the start line breaks the grammar")),
    }
}

#[cfg(test)]
mod tests;
