//! Answers as Undertow writes them: field order, chunk sizes and what has a length. It writes to a [`Wire`] only.

use std::fmt::Write as _;
use std::io;
use std::time::SystemTime;

use super::text::{epoch_millis, quoted, stack_trace};
use super::wire::Wire;
use crate::config::Lavalink;

/// Undertow's answer to a request that it cannot parse. Lavalink never sees such a request; the connection ends.
pub(super) const BARE_400: &[u8] = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

/// The largest chunk that Undertow writes, in bytes: a 16 KiB buffer less room for the chunk's own lines.
const CHUNK: usize = 0x3fec;
/// What is left of the second buffer of a pair, which v3 fills and then starts over.
const SECOND_CHUNK_OF_V3: usize = 0x1c72;

/// The order in which Undertow's header table is walked; fields of one row keep the order they were set in.
const ORDER: [&[&str]; 9] = [
    &["Allow"],
    &["Connection", "Accept"],
    &["Sec-WebSocket-Version"],
    &["Sec-WebSocket-Location"],
    &["Session-Resumed"],
    &["Upgrade", "Origin"],
    &["Transfer-Encoding"],
    &["Content-Type", "Content-Length"],
    &["Lavalink-Api-Version", "Sec-WebSocket-Accept"],
];

/// How an answer's body goes out.
pub(super) enum Content {
    /// None, and no length either: 101 and 204.
    Absent,
    /// With a Content-Length; the type is left out for bodies that have none.
    Sized(Option<&'static str>, Vec<u8>),
    /// JSON, chunked.
    Json(String),
    /// Generated while it is sent, chunked, in memory that does not grow with it.
    Stream(super::loading::Large),
}

/// An answer that is ready to be sent.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) fields: Vec<(&'static str, String)>,
    pub(super) content: Content,
    /// The connection ends with it even if the client would go on.
    pub(super) closes: bool,
}

/// The parts of a request that its answer depends on.
#[derive(Clone, Copy)]
pub(super) struct RequestSummary<'r> {
    pub(super) version: Lavalink,
    pub(super) method: &'r str,
    /// The target's path as sent, for error bodies.
    pub(super) path: &'r str,
    /// HTTP/1.0 peers cannot read chunks.
    pub(super) http10: bool,
    /// The client wants to go on.
    pub(super) keep_alive: bool,
    /// `?trace=true`: error bodies carry a stack trace.
    pub(super) trace: bool,
}

impl Answer {
    pub(super) fn new(status: u16, content: Content) -> Self {
        Self { status, fields: Vec::new(), content, closes: false }
    }

    /// An empty body with its `Content-Length: 0`.
    pub(super) fn empty(status: u16) -> Self {
        Self::new(status, Content::Sized(None, Vec::new()))
    }

    pub(super) fn text(status: u16, text: &str) -> Self {
        Self::new(status, Content::Sized(None, text.as_bytes().to_vec()))
    }

    pub(super) fn json(body: String) -> Self {
        Self::new(200, Content::Json(body))
    }

    /// Lavalink's error body: <https://lavalink.dev/api/rest#error-responses>.
    pub(super) fn error(summary: &RequestSummary<'_>, status: u16, message: &str) -> Self {
        let trace =
            if summary.trace { format!(r#""trace":{},"#, quoted(&stack_trace(message))) } else { String::new() };
        let body = format!(
            r#"{{"timestamp":{},"status":{status},"error":{},{trace}"message":{},"path":{}}}"#,
            epoch_millis(),
            quoted(reason(status)),
            quoted(message),
            quoted(summary.path)
        );
        Self::new(status, Content::Json(body))
    }

    pub(super) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.fields.push((name, value.into()));
        self
    }

    /// True when the connection ends after it.
    pub(super) fn ends(&self, summary: &RequestSummary<'_>) -> bool {
        self.closes || !summary.keep_alive
    }

    /// Sends it; the last chunk is a write of its own, as in Undertow.
    ///
    /// # Errors
    /// When the client is gone or takes nothing any more.
    pub(super) fn send(self, wire: &Wire, summary: &RequestSummary<'_>) -> io::Result<()> {
        let head = self.head(summary);
        if summary.method == "HEAD" {
            return wire.send(&head);
        }
        match self.content {
            Content::Absent => wire.send(&head),
            Content::Sized(_, body) => wire.send(&[head, body].concat()),
            Content::Json(body) => {
                let mut out = Chunks::new(wire, head, summary);
                out.push(body.as_bytes())?;
                out.finish()
            }
            Content::Stream(large) => {
                let mut out = Chunks::new(wire, head, summary);
                large.each_piece(|piece| out.push(piece.as_bytes()))?;
                out.finish()
            }
        }
    }

    fn head(&self, summary: &RequestSummary<'_>) -> Vec<u8> {
        let mut fields: Vec<(&str, &str)> = self.fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
        if fields.iter().any(|(name, _)| *name == "Connection") {
            // A 101 has its own.
        } else if self.ends(summary) {
            fields.push(("Connection", "close"));
        } else if !matches!(self.content, Content::Absent) {
            fields.push(("Connection", "keep-alive"));
        }
        let mut length = None;
        match &self.content {
            Content::Absent => {}
            Content::Sized(kind, body) => {
                fields.extend(kind.map(|kind| ("Content-Type", kind)));
                length = Some(body.len());
            }
            Content::Json(body) if summary.method == "HEAD" && summary.version == Lavalink::V3 => {
                fields.push(("Content-Type", "application/json"));
                length = Some(body.len());
            }
            Content::Json(_) | Content::Stream(_) => {
                fields.push(("Content-Type", "application/json"));
                if !summary.http10 {
                    fields.push(("Transfer-Encoding", "chunked"));
                }
            }
        }
        let length = length.map(|length| length.to_string());
        fields.extend(length.as_deref().map(|length| ("Content-Length", length)));
        let api = match summary.version {
            Lavalink::V3 => "3",
            Lavalink::V4 => "4",
        };
        fields.insert(0, ("Lavalink-Api-Version", api));
        fields.sort_by_key(|(name, _)| ORDER.iter().position(|row| row.contains(name)).unwrap_or(ORDER.len()));

        let mut head = format!("HTTP/1.1 {} {}\r\n", self.status, reason(self.status));
        for (name, value) in fields {
            // Writing to a String cannot fail.
            let _ = write!(head, "{name}: {value}\r\n");
        }
        let _ = write!(head, "Date: {}\r\n\r\n", httpdate::fmt_http_date(SystemTime::now()));
        head.into_bytes()
    }
}

/// A chunked body under way, or a bare one for HTTP/1.0; each chunk is one write, the head goes with the first.
struct Chunks<'w> {
    wire: &'w Wire,
    /// The head, until the first chunk has taken it along.
    head: Vec<u8>,
    data: Vec<u8>,
    sizes: [usize; 2],
    bare: bool,
}

impl<'w> Chunks<'w> {
    fn new(wire: &'w Wire, head: Vec<u8>, summary: &RequestSummary<'_>) -> Self {
        let second = if summary.version == Lavalink::V3 { SECOND_CHUNK_OF_V3 } else { CHUNK };
        Self { wire, head, data: Vec::new(), sizes: [CHUNK, second], bare: summary.http10 }
    }

    fn push(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let count = bytes.len().min(self.sizes[0] - self.data.len());
            self.data.extend_from_slice(&bytes[..count]);
            bytes = &bytes[count..];
            if self.data.len() == self.sizes[0] {
                self.write_chunk()?;
            }
        }
        Ok(())
    }

    fn write_chunk(&mut self) -> io::Result<()> {
        let mut out = std::mem::take(&mut self.head);
        if self.bare {
            out.append(&mut self.data);
        } else {
            out.extend_from_slice(size_line(self.data.len()).as_bytes());
            out.append(&mut self.data);
            out.extend_from_slice(b"\r\n");
        }
        self.sizes.swap(0, 1);
        self.wire.send(&out)
    }

    fn finish(mut self) -> io::Result<()> {
        if !self.data.is_empty() {
            self.write_chunk()?;
        }
        if self.bare { Ok(()) } else { self.wire.send(b"0\r\n\r\n") }
    }
}

/// A chunk's size in lower-case hexadecimal, padded to an even number of digits.
fn size_line(size: usize) -> String {
    let digits = format!("{size:x}");
    let pad = if digits.len() % 2 == 1 { "0" } else { "" };
    format!("{pad}{digits}\r\n")
}

fn reason(status: u16) -> &'static str {
    match status {
        101 => "Switching Protocols",
        200 => "OK",
        204 => "No Content",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        415 => "Unsupported Media Type",
        426 => "Upgrade Required",
        _ => "Internal Server Error",
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn summary(version: Lavalink, method: &str) -> RequestSummary<'_> {
        RequestSummary { version, method, path: "/v4/info", http10: false, keep_alive: true, trace: false }
    }

    fn head(answer: &Answer, summary: &RequestSummary<'_>) -> String {
        let head = String::from_utf8(answer.head(summary)).unwrap();
        let (before, after) = head.split_once("Date: ").unwrap();
        assert!(after.ends_with(" GMT\r\n\r\n"), "{after}");
        format!("{before}\r\n")
    }

    #[test]
    fn heads_are_lavalinks_byte_for_byte() {
        let version = Answer::new(200, Content::Sized(Some("text/plain;charset=ISO-8859-1"), b"3.7.13".to_vec()));
        assert_eq!(
            head(&version, &summary(Lavalink::V3, "GET")),
            "HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nContent-Type: text/plain;charset=ISO-8859-1\r\n\
             Content-Length: 6\r\nLavalink-Api-Version: 3\r\n\r\n"
        );
        assert_eq!(
            head(&Answer::empty(401), &summary(Lavalink::V3, "GET")),
            "HTTP/1.1 401 Unauthorized\r\nConnection: keep-alive\r\nContent-Length: 0\r\nLavalink-Api-Version: 3\r\n\r\n"
        );
        assert_eq!(
            head(&Answer::empty(403), &summary(Lavalink::V4, "GET")),
            "HTTP/1.1 403 Forbidden\r\nConnection: keep-alive\r\nContent-Length: 0\r\nLavalink-Api-Version: 4\r\n\r\n"
        );
        assert_eq!(
            head(&Answer::new(204, Content::Absent), &summary(Lavalink::V3, "DELETE")),
            "HTTP/1.1 204 No Content\r\nLavalink-Api-Version: 3\r\n\r\n"
        );
        assert_eq!(
            head(&Answer::json("{}".into()), &summary(Lavalink::V4, "HEAD")),
            "HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\
             Content-Type: application/json\r\nLavalink-Api-Version: 4\r\n\r\n"
        );
        assert_eq!(
            head(&Answer::json("{}".into()), &summary(Lavalink::V3, "HEAD")),
            "HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nContent-Type: application/json\r\n\
             Content-Length: 2\r\nLavalink-Api-Version: 3\r\n\r\n"
        );
    }

    #[test]
    fn chunk_sizes_have_an_even_number_of_digits() {
        let lines = [2, 0x64, 0x18d, 0x3fec].map(size_line);
        assert_eq!(lines, ["02\r\n", "64\r\n", "018d\r\n", "3fec\r\n"]);
    }
}
