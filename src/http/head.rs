//! Request and response heads: httparse reads them, then stricter rules than its own decide what is let through.
//!
//! What two parsers could read in two ways is refused here (RFC 9112 sections 2.2, 3, 5 and 6), because a
//! proxy that forwards an ambiguous head lets one peer speak in another's name. Heads are borrowed from the
//! buffer they arrived in; nothing is copied or allocated.

use std::fmt;
use std::io::{self, Read};
use std::mem::MaybeUninit;

use super::body::Framing;
use super::buffer::Buffer;

/// The largest request head that is forwarded, in bytes: Lavalink's whole budget for request line and fields.
pub const MAX_HEAD: usize = 8192;
/// The largest head that is read from a peer, in bytes; what is removed on the way may exceed [`MAX_HEAD`].
pub const MAX_READ_HEAD: usize = 16 * 1024;
/// The most field lines that a head may have.
pub const MAX_FIELDS: usize = 100;

/// One field line.
pub type Field<'b> = httparse::Header<'b>;

/// Room for the field lines of one head, left uninitialised until the parser fills it.
pub struct Slots<'b>([MaybeUninit<Field<'b>>; MAX_FIELDS]);

impl Slots<'_> {
    /// Empty room; costs nothing until it is used.
    pub fn new() -> Self {
        Self([const { MaybeUninit::uninit() }; MAX_FIELDS])
    }
}

impl Default for Slots<'_> {
    fn default() -> Self {
        Self::new()
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
    /// Not HTTP/1.0 or HTTP/1.1: 505.
    Version,
    /// A transfer coding that is not `chunked`: 501.
    Coding,
    /// A TLS client hello where plain HTTP is spoken: 400.
    TlsHello,
    /// The preface of HTTP/2 with prior knowledge: 505.
    Http2Preface,
    /// A PROXY header where none is taken: 400.
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

/// How PROXY headers of version 1 begin; no head does.
const PROXY_V1: [&[u8]; 2] = [b"PROXY TCP", b"PROXY UNKNOWN"];

/// Where a head that arrives in pieces stands; each byte is looked at once.
#[derive(Default)]
pub struct Scan {
    checked: usize,
}

impl Scan {
    /// Looks at what came since the last call; `data` starts with the head's first byte.
    /// Returns the head's length, its empty line included, once that line is there.
    ///
    /// # Errors
    /// As soon as a byte stands where none may: a control, a CR or LF on its own (RFC 9112 section 2.2).
    pub fn advance(&mut self, data: &[u8]) -> Result<Option<usize>, HeadError> {
        const TLS_HANDSHAKE: u8 = 0x16;
        if data.first() == Some(&TLS_HANDSHAKE) {
            return Err(HeadError::TlsHello);
        }
        if PROXY_V1.iter().any(|start| data.starts_with(start)) {
            return Err(HeadError::ProxyHeader);
        }
        loop {
            self.checked += plain(&data[self.checked..]);
            let Some(&byte) = data.get(self.checked) else { return Ok(None) };
            match byte {
                b'\n' if self.checked == 0 || data[self.checked - 1] != b'\r' => {
                    return Err(HeadError::Malformed("a line ends in LF without CR"));
                }
                b'\n' if self.checked >= 3 && data[self.checked - 2] == b'\n' => {
                    return Ok(Some(self.checked + 1));
                }
                b'\n' | b'\t' => {}
                b'\r' => match data.get(self.checked + 1) {
                    None => return Ok(None),
                    Some(b'\n') => {}
                    Some(_) => return Err(HeadError::Malformed("a CR without LF")),
                },
                _ => return Err(HeadError::Malformed("a control character")),
            }
            self.checked += 1;
        }
    }
}

/// How many bytes stand before the first control. Whole pieces are looked at without a branch, which the compiler
/// makes one comparison of: heads are scanned byte by byte otherwise.
fn plain(data: &[u8]) -> usize {
    const PIECE: usize = 16;
    let has_control = |piece: &[u8]| piece.iter().fold(false, |found, byte| found | byte.is_ascii_control());
    let before = PIECE * data.chunks_exact(PIECE).take_while(|piece| !has_control(piece)).count();
    before + data[before..].iter().take_while(|byte| !byte.is_ascii_control()).count()
}

/// The protocol versions that are spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0: a connection per request, no chunked bodies, no interim answers.
    Http10,
    /// HTTP/1.1.
    Http11,
}

/// A request head that has one meaning only.
#[derive(Debug)]
pub struct Request<'h, 'b> {
    /// The method as sent; TRACE and CONNECT are the caller's to refuse.
    pub method: &'b str,
    /// The target in origin-form, byte for byte as sent (absolute-form loses scheme and authority).
    pub target: &'b str,
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
    /// Reads a complete head, its empty line included.
    ///
    /// # Errors
    /// One of [`HeadError`], never a panic, for whatever bytes come.
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
        let version = version(parsed.version)?;
        let fields: &'h [Field<'b>] = parsed.headers;

        let host = single(fields, "host").map_err(|()| HeadError::Malformed("two Host fields"))?;
        match host {
            None if version == Version::Http11 => return Err(HeadError::Malformed("no Host field")),
            Some(host) if !is_authority(host) => return Err(HeadError::Malformed("Host is not a host and port")),
            _ => {}
        }
        let target = origin_form(method, target, host)?;
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
        self.target.split('?').next().unwrap_or(self.target)
    }
}

/// A response head that has one meaning only.
#[derive(Debug)]
pub struct Response<'h, 'b> {
    /// Three digits, from 100 to 999.
    pub status: u16,
    /// The reason phrase as sent, often empty.
    pub reason: &'b str,
    /// All field lines as sent.
    pub fields: &'h [Field<'b>],
    /// How the body ends, given the request's method.
    pub framing: Framing,
    /// True when the backend will take another request on this connection.
    pub keep_alive: bool,
    /// The value of `Upgrade` in a 101 that names it in `Connection`.
    pub upgrade: Option<&'b [u8]>,
}

impl<'h, 'b> Response<'h, 'b> {
    /// Reads a complete head; `to_head` says that the request's method was HEAD.
    ///
    /// # Errors
    /// One of [`HeadError`], never a panic, for whatever bytes come.
    pub fn parse(head: &'b [u8], slots: &'h mut Slots<'b>, to_head: bool) -> Result<Self, HeadError> {
        // httparse skips empty lines here, but one before an answer is what a misjudged body left behind.
        if !head.starts_with(b"HTTP/") {
            return Err(HeadError::Malformed("no HTTP version where one belongs"));
        }
        let mut parsed = httparse::Response::new(&mut []);
        complete(
            httparse::ParserConfig::default().parse_response_with_uninit_headers(&mut parsed, head, &mut slots.0),
            head,
        )?;
        let status = parsed.code.filter(|code| *code >= 100).ok_or(HeadError::Malformed("no status code"))?;
        let version = version(parsed.version)?;
        let fields: &'h [Field<'b>] = parsed.headers;
        let framing = response_framing(fields, version, status, to_head)?;
        let upgrade =
            single(fields, "upgrade").ok().flatten().filter(|_| status == 101 && connection_names(fields, b"upgrade"));
        Ok(Self {
            status,
            reason: parsed.reason.unwrap_or(""),
            fields,
            framing,
            keep_alive: version == Version::Http11
                && framing != Framing::UntilClose
                && !connection_names(fields, b"close"),
            upgrade,
        })
    }

    /// True for 1xx: another head follows on the same connection, but after 101.
    pub fn is_interim(&self) -> bool {
        self.status < 200
    }
}

/// The fields that travel on: all but the hop-by-hop ones of RFC 9110 section 7.6.1, those that `Connection`
/// names, and the framing fields, which whoever serialises the head writes anew.
pub fn end_to_end<'h, 'b>(fields: &'h [Field<'b>]) -> impl Iterator<Item = &'h Field<'b>> {
    let usual = |token: &[u8]| USUAL_OPTIONS.iter().any(|option| token.eq_ignore_ascii_case(option.as_bytes()));
    let nominates = connection_options(fields).any(|token| !usual(token));
    fields.iter().filter(move |field| {
        let is = |name: &str| field.name.eq_ignore_ascii_case(name);
        !HOP_BY_HOP.iter().any(|name| is(name))
            && !is("content-length")
            && (!nominates
                || NOT_NOMINABLE.iter().any(|name| is(name))
                || !connection_names(fields, field.name.as_bytes()))
    })
}

const HOP_BY_HOP: [&str; 9] = [
    "connection",
    "proxy-connection",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "proxy-authorization",
    "proxy-authenticate",
];

/// What `Connection` says without naming a field that would travel on.
const USUAL_OPTIONS: [&str; 3] = ["keep-alive", "close", "upgrade"];

/// What a peer cannot have removed by naming it in `Connection`.
const NOT_NOMINABLE: [&str; 4] = ["authorization", "host", "x-forwarded-for", "forwarded"];

/// Every value of the field `name`.
pub fn values<'b>(fields: &[Field<'b>], name: &str) -> impl Iterator<Item = &'b [u8]> {
    fields.iter().filter(move |field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value)
}

/// The value of a field that may stand once at the most; `Err` when it stands twice.
#[expect(clippy::result_unit_err, reason = "the caller says which field it was")]
pub fn single<'b>(fields: &[Field<'b>], name: &str) -> Result<Option<&'b [u8]>, ()> {
    let mut found = values(fields, name);
    let first = found.next();
    if found.next().is_some() { Err(()) } else { Ok(first) }
}

/// Each item of `Connection` (RFC 9110 section 7.6.1).
fn connection_options<'b>(fields: &[Field<'b>]) -> impl Iterator<Item = &'b [u8]> {
    values(fields, "connection").flat_map(|value| value.split(|byte| *byte == b',')).map(<[u8]>::trim_ascii)
}

/// True when `Connection` names `token`.
fn connection_names(fields: &[Field<'_>], token: &[u8]) -> bool {
    connection_options(fields).any(|option| option.eq_ignore_ascii_case(token))
}

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

/// What httparse would say less precisely: the version's own status, and targets it is too lenient with.
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

fn version(minor: Option<u8>) -> Result<Version, HeadError> {
    match minor {
        Some(0) => Ok(Version::Http10),
        Some(1) => Ok(Version::Http11),
        _ => Err(HeadError::Version),
    }
}

/// RFC 9112 section 3.2: origin-form as it is, absolute-form without scheme and authority, `*` for OPTIONS.
fn origin_form<'b>(method: &str, target: &'b str, host: Option<&[u8]>) -> Result<&'b str, HeadError> {
    if target.starts_with('/') || (target == "*" && method == "OPTIONS") || method == "CONNECT" {
        return Ok(target);
    }
    let rest = ["http://", "https://"]
        .iter()
        .find_map(|scheme| {
            let (start, rest) = target.split_at_checked(scheme.len())?;
            start.eq_ignore_ascii_case(scheme).then_some(rest)
        })
        .ok_or(HeadError::Malformed("the target is neither a path nor an http URI"))?;
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    if authority.is_empty() || !is_authority(authority.as_bytes()) {
        return Err(HeadError::Malformed("the target's authority is not a host and port"));
    }
    if host.is_some_and(|host| !host.eq_ignore_ascii_case(authority.as_bytes())) {
        return Err(HeadError::Malformed("the target's authority differs from Host"));
    }
    match path {
        "" => Ok("/"),
        path if path.starts_with('/') => Ok(path),
        _ => Err(HeadError::Malformed("the target has a query but no path")),
    }
}

/// `host [":" port]` of RFC 3986 section 3.2, without user information; empty is allowed (RFC 9110 section 7.2).
fn is_authority(value: &[u8]) -> bool {
    let (host, port) = match value {
        [b'[', rest @ ..] => match rest.iter().position(|byte| *byte == b']') {
            Some(end) => (&rest[..end], &rest[end + 1..]),
            None => return false,
        },
        _ => value.split_at(value.iter().position(|byte| *byte == b':').unwrap_or(value.len())),
    };
    let literal = value.first() == Some(&b'[');
    let host_fits = host.iter().all(|byte| match byte {
        b':' => literal,
        _ => byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=".contains(byte),
    });
    let port_fits = match port {
        [] => true,
        [b':', digits @ ..] => digits.len() <= 5 && digits.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    host_fits && port_fits
}

fn response_framing(fields: &[Field<'_>], version: Version, status: u16, to_head: bool) -> Result<Framing, HeadError> {
    if status < 200 || status == 204 {
        // RFC 9112 section 6.3, rule 1: no body whatever the fields say; Lavalink v3 puts a length into its 100.
        return Ok(Framing::None);
    }
    let framing = declared_framing(fields, version)?.unwrap_or(Framing::UntilClose);
    Ok(if to_head || status == 304 { Framing::None } else { framing })
}

/// What Transfer-Encoding or Content-Length say, if either is there (RFC 9112 section 6.3); never both.
fn declared_framing(fields: &[Field<'_>], version: Version) -> Result<Option<Framing>, HeadError> {
    let coding =
        single(fields, "transfer-encoding").map_err(|()| HeadError::Malformed("two Transfer-Encoding fields"))?;
    match (coding, content_length(fields)?) {
        (None, length) => Ok(length.map(Framing::Length)),
        (Some(_), Some(_)) => Err(HeadError::Malformed("both Content-Length and Transfer-Encoding")),
        (Some(_), None) if version == Version::Http10 => Err(HeadError::Malformed("Transfer-Encoding in HTTP/1.0")),
        (Some(coding), None) if coding.eq_ignore_ascii_case(b"chunked") => Ok(Some(Framing::Chunked)),
        (Some(_), None) => Err(HeadError::Coding),
    }
}

/// The declared length; equal repetitions count once (RFC 9110 section 8.6), anything else is refused.
fn content_length(fields: &[Field<'_>]) -> Result<Option<u64>, HeadError> {
    let mut found = None;
    for value in values(fields, "content-length") {
        let length = std::str::from_utf8(value)
            .ok()
            .filter(|text| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()))
            .and_then(|text| text.parse::<u64>().ok())
            .ok_or(HeadError::Malformed("Content-Length is not a number of bytes"))?;
        if found.is_some_and(|known| known != length) {
            return Err(HeadError::Malformed("two Content-Length fields that differ"));
        }
        found = Some(length);
    }
    Ok(found)
}

/// Why no head could be read.
#[derive(Debug)]
pub enum ReadError {
    /// What came is no head, or too much of one.
    Head(HeadError),
    /// The peer closed; `partial` says whether a head had begun.
    Closed {
        /// True when bytes of a head had come.
        partial: bool,
    },
    /// The read failed or timed out; `partial` as above.
    Io {
        /// What the system said.
        error: io::Error,
        /// True when bytes of a head had come.
        partial: bool,
    },
}

/// Reads until `buffer` starts with a complete head and returns that head's length in bytes.
///
/// `before_read` is called before each read with the reader and whether the head has begun, to set or check a
/// deadline.
///
/// # Errors
/// [`ReadError`]; the buffer then holds what had come.
pub fn read<R: Read>(
    reader: &mut R,
    buffer: &mut Buffer,
    mut before_read: impl FnMut(&mut R, bool) -> io::Result<()>,
) -> Result<usize, ReadError> {
    let mut scan = Scan::default();
    loop {
        match scan.advance(buffer.data()).map_err(ReadError::Head)? {
            Some(length) if length <= MAX_READ_HEAD => return Ok(length),
            None if !buffer.holds(MAX_READ_HEAD) => {}
            _ if buffer.data().contains(&b'\n') => return Err(ReadError::Head(HeadError::TooLarge)),
            _ => return Err(ReadError::Head(HeadError::TargetTooLong)),
        }
        let partial = !buffer.is_empty();
        let count = before_read(reader, partial).and_then(|()| buffer.fill(reader, MAX_READ_HEAD));
        match count {
            Ok(0) => return Err(ReadError::Closed { partial }),
            Ok(_) => {}
            Err(error) => return Err(ReadError::Io { error, partial }),
        }
    }
}

#[cfg(test)]
mod tests;
