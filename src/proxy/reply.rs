//! The answers that lavaproxy gives itself, as bytes. Pure but for the clock of the `Date` field.

use std::time::SystemTime;

use serde::Serialize;

use super::service::ErrorFormat;
use crate::error::Fault;
use crate::http::body::Framing;
use crate::http::head::Request;
use crate::unix_time::millis_of;

/// What an answer of our own must know of the request it answers.
#[derive(Default)]
pub struct RequestSummary {
    /// Without the query; empty where no path could be read.
    pub path: String,
    /// True for a HEAD request, whose answer has no body.
    pub is_head: bool,
    /// True when another request may follow on the connection.
    pub keep_alive: bool,
    /// How the request's body ends; `None` where the head could not be read.
    pub framing: Option<Framing>,
}

impl RequestSummary {
    /// Forgets the last request but keeps its memory.
    pub fn clear(&mut self) {
        let mut path = std::mem::take(&mut self.path);
        path.clear();
        *self = Self { path, ..Self::default() };
    }

    /// Takes what counts from a request that could be read.
    pub fn note(&mut self, request: &Request<'_, '_>) {
        request.path().clone_into(&mut self.path);
        self.is_head = request.method == "HEAD";
        self.keep_alive = request.keep_alive && !request.expects_continue && request.method != "CONNECT";
        self.framing = Some(request.framing);
    }

    /// Takes what counts from the start of a head that was refused or is incomplete. A HEAD request gets no body even
    /// then (RFC 9110 section 9.3.2).
    pub fn guess(&mut self, head: &[u8]) {
        const MAX_PATH: usize = 1024;
        let line = head.trim_ascii_start().split(|byte| matches!(byte, b'\r' | b'\n')).next().unwrap_or_default();
        let mut words = line.split(|byte| *byte == b' ');
        self.is_head = words.next() == Some(b"HEAD");
        let target = words.next().filter(|target| target.starts_with(b"/")).unwrap_or_default();
        let path = target.split(|byte| *byte == b'?').next().unwrap_or_default();
        let end = path.iter().position(|byte| !byte.is_ascii_graphic()).unwrap_or(path.len()).min(MAX_PATH);
        self.path.clear();
        self.path.extend(path[..end].iter().map(|byte| char::from(*byte)));
    }
}

/// The error body: Lavalink's, in its order of fields, and the same without the time under the monitor's `/api`.
#[derive(Serialize)]
struct ErrorBody<'f> {
    #[serde(skip_serializing_if = "Option::is_none")]
    timestamp: Option<u64>,
    status: u16,
    error: &'f str,
    message: String,
    path: &'f str,
}

/// A whole answer to a fault.
pub fn error(format: ErrorFormat, fault: &Fault, summary: &RequestSummary, close: bool) -> Vec<u8> {
    let now = SystemTime::now();
    let status = fault.status();
    let error = reason(status);
    let json = |timestamp, end| {
        let body = ErrorBody { timestamp, status, error, message: fault.to_string(), path: &summary.path };
        ("application/json", serde_json::to_string(&body).unwrap_or_default() + end)
    };
    let (kind, body) = match format {
        ErrorFormat::Lavalink => json(Some(millis_of(now)), ""),
        ErrorFormat::Plain if summary.path == "/api" || summary.path.starts_with("/api/") => json(None, "\n"),
        ErrorFormat::Plain => ("text/plain; charset=utf-8", format!("{status} {error}: {fault}\n")),
    };
    let mut text = start(status, kind, body.len(), now);
    match fault {
        Fault::Method { allow } => text += &format!("Allow: {allow}\r\n"),
        Fault::PasswordMissing { challenge: true } | Fault::WebPasswordWrong => {
            text += "WWW-Authenticate: Basic realm=\"lavaproxy\", charset=\"UTF-8\"\r\n";
        }
        Fault::Full { .. } | Fault::NoThread | Fault::NoDescriptor => text += "Retry-After: 5\r\n",
        Fault::OverLimit { retry_after, .. } => text += &format!("Retry-After: {retry_after}\r\n"),
        _ => {}
    }
    finish(text, &body, summary, close)
}

/// The answer to `/healthz`: 200 while bots are served, 503 while the proxy listeners are stopping. No figures.
pub fn healthz(is_serving: bool, summary: &RequestSummary, close: bool) -> Vec<u8> {
    let (status, word) = if is_serving { (200, "ok") } else { (503, "stopping") };
    let mut text = start(status, "text/plain; charset=utf-8", word.len(), SystemTime::now());
    text += "Cache-Control: no-store\r\n";
    finish(text, word, summary, close)
}

fn start(status: u16, kind: &str, length: usize, now: SystemTime) -> String {
    format!(
        "HTTP/1.1 {status} {}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nDate: {}\r\n",
        reason(status),
        httpdate::fmt_http_date(now),
    )
}

fn finish(mut text: String, body: &str, summary: &RequestSummary, close: bool) -> Vec<u8> {
    text += if close { "Connection: close\r\n\r\n" } else { "\r\n" };
    if !summary.is_head {
        text += body;
    }
    text.into_bytes()
}

/// The reason phrases of the statuses that answers of our own can have (RFC 9110 section 15).
fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        413 => "Content Too Large",
        414 => "URI Too Long",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        508 => "Loop Detected",
        _ => "Error",
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::http::head::HeadError;

    fn guessed(head: &[u8]) -> RequestSummary {
        let mut summary = RequestSummary::default();
        summary.guess(head);
        summary
    }

    #[test]
    fn method_and_path_of_a_refused_head_are_guessed() {
        for (head, path, is_head) in [
            (&b"HEAD /v4/info HTTP/1.1\r\nA : b\r\n\r\n"[..], "/v4/info", true),
            (b"HEAD /v4/info?x=1 HTTP/1.1\r\n", "/v4/info", true),
            (b"\r\nHEAD / HTTP/1.1\r\n", "/", true),
            (b"HEAD /", "/", true),
            (b"HEAD", "", true),
            (b"HEAD\r\n", "", true),
            (b"HEADER /a HTTP/1.1\r\n", "/a", false),
            (b"head /a HTTP/1.1\r\n", "/a", false),
            (b"GET /a\x7fb HTTP/1.1\r\n", "/a", false),
            (b"GET http://a/b HTTP/1.1\r\n", "", false),
            (b"\x16\x03\x01", "", false),
            (b"", "", false),
        ] {
            let summary = guessed(head);
            assert_eq!((summary.path.as_str(), summary.is_head), (path, is_head), "{head:?}");
        }
        assert!(guessed(&[&b"HEAD /"[..], &[b'a'; 9000]].concat()).is_head);
    }

    #[test]
    fn every_error_under_the_api_is_json() {
        let fault = Fault::Head(HeadError::Malformed("x"));
        for (path, is_json) in
            [("/api/stats", true), ("/api/", true), ("/api", true), ("/", false), ("", false), ("/apix", false)]
        {
            let summary = RequestSummary { path: path.to_owned(), ..RequestSummary::default() };
            let text = String::from_utf8(error(ErrorFormat::Plain, &fault, &summary, true)).unwrap();
            let (head, body) = text.split_once("\r\n\r\n").unwrap();
            assert_eq!(head.contains("application/json"), is_json, "{path}");
            assert_eq!(serde_json::from_str::<serde_json::Value>(body).is_ok(), is_json, "{path}");
            assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())));
        }
    }
}
