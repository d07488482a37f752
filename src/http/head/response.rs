//! Response heads.

use super::fields::{connection_names, single};
use super::framing::declared_framing;
use super::{Field, HeadError, Slots, Version, complete};
use crate::http::body::Framing;

/// A response head that has one meaning only.
#[derive(Debug)]
pub struct Response<'h, 'b> {
    /// Three digits, from 100 to 999.
    pub status: u16,
    /// The reason phrase as sent, often empty.
    pub reason: &'b str,
    /// All field lines as sent, but for blanks between a name and its colon.
    pub fields: &'h [Field<'b>],
    /// How the body ends, given the request's method.
    pub framing: Framing,
    /// What the fields say of the body. It differs from `framing` in a response to HEAD and in a 304: neither has a
    /// body, and both may say what the body of a 200 to a GET would be.
    pub declared: Framing,
    /// True when the backend takes another request on this connection.
    pub keep_alive: bool,
    /// The value of `Upgrade` in a 101 that names it in `Connection`.
    pub upgrade: Option<&'b [u8]>,
}

impl<'h, 'b> Response<'h, 'b> {
    /// Parses a complete head; `to_head` says that the request's method was HEAD.
    ///
    /// # Errors
    /// One of [`HeadError`], never a panic, for any bytes.
    pub fn parse(head: &'b [u8], slots: &'h mut Slots<'b>, to_head: bool) -> Result<Self, HeadError> {
        // httparse skips empty lines here. But one before a response is the trace of a body that was misjudged.
        if !head.starts_with(b"HTTP/") {
            return Err(HeadError::Malformed("no HTTP version where one belongs"));
        }
        let mut parsed = httparse::Response::new(&mut []);
        complete(
            httparse::ParserConfig::default()
                // RFC 9112 section 5.1: a proxy removes such blanks from a response, and from a response only.
                .allow_spaces_after_header_name_in_responses(true)
                .parse_response_with_uninit_headers(&mut parsed, head, &mut slots.0),
            head,
        )?;
        let status = parsed.code.filter(|code| *code >= 100).ok_or(HeadError::Malformed("no status code"))?;
        let version = Version::from_minor(parsed.version)?;
        let fields: &'h [Field<'b>] = parsed.headers;
        let declared = match status {
            // RFC 9112 section 6.3, rule 1: no body, whatever the fields say. Lavalink v3 puts a length into its 100.
            100..=199 | 204 => Framing::None,
            _ => declared_framing(fields, version)?.unwrap_or(Framing::UntilClose),
        };
        let framing = if to_head || status == 304 { Framing::None } else { declared };
        let upgrade =
            single(fields, "upgrade").ok().flatten().filter(|_| status == 101 && connection_names(fields, b"upgrade"));
        Ok(Self {
            status,
            reason: parsed.reason.unwrap_or(""),
            fields,
            framing,
            declared,
            keep_alive: version == Version::Http11
                && framing != Framing::UntilClose
                && !connection_names(fields, b"close"),
            upgrade,
        })
    }

    /// True for 1xx: another head follows on the same connection, except after 101.
    pub fn is_interim(&self) -> bool {
        self.status < 200
    }
}
