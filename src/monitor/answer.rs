//! Answers of the monitor: their fields, JSON as in Lavalink's API (camelCase, milliseconds), and errors, which are
//! JSON everywhere.

use std::borrow::Cow;
use std::io::Cursor;

use serde::Serialize;
use tiny_http::{Header, Request, Response};

/// A complete answer, in memory.
pub type Answer = Response<Cursor<Vec<u8>>>;

/// The fields of all answers: the pages load only our own files, no page may frame them, and no cache may keep them.
const HEADERS: [(&str, &str); 6] = [
    ("Server", "lavaproxy"),
    ("Cache-Control", "no-store"),
    (
        "Content-Security-Policy",
        "default-src 'none'; connect-src 'self'; script-src 'self'; style-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
];

const JSON: &str = "application/json";
/// The body where a value cannot be written as JSON, which would be a defect.
const UNWRITABLE: &str = concat!(
    r#"{"status":500,"error":"Internal Server Error","message":"#,
    r#""the answer cannot be written as JSON: a defect in lavaproxy, please report it","path":""}"#,
    "\n"
);

/// Why a request is not answered as it was meant.
#[derive(Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The HTTP status.
    pub status: u16,
    /// What is wrong, and what to do.
    pub message: Cow<'static, str>,
    /// The methods that are allowed, where the request has another one.
    allow: Option<&'static str>,
}

impl Refusal {
    /// A refusal with this status.
    pub fn new(status: u16, message: impl Into<Cow<'static, str>>) -> Self {
        Self { status, message: message.into(), allow: None }
    }

    /// A request whose method is none of these.
    pub fn of_method(allow: &'static str) -> Self {
        let message = format!("this path does not allow this method; use {allow}");
        Self { status: 405, message: message.into(), allow: Some(allow) }
    }

    /// As the answer to a request for `path`.
    pub fn answer(&self, path: &str) -> Answer {
        let answer = error(self.status, &self.message, path);
        match self.allow {
            Some(allow) => with_field(answer, "Allow", allow),
            None => answer,
        }
    }
}

/// The answer where no thread can be started.
pub fn unavailable(request: &Request) -> Answer {
    error(503, "no thread can be started for this answer; try again later", path_of(request.url()))
}

/// The answer to a request for `url` that caused a panic.
pub fn internal_error(url: &str) -> Answer {
    error(500, "a defect in lavaproxy; please report it with what it logged", path_of(url))
}

fn path_of(url: &str) -> &str {
    url.split_once('?').map_or(url, |(path, _)| path)
}

#[derive(Serialize)]
struct Error<'p> {
    status: u16,
    error: &'p str,
    message: &'p str,
    path: &'p str,
}

fn error(status: u16, message: &str, path: &str) -> Answer {
    json(status, &Error { status, error: reason(status), message, path })
}

/// The reason phrases of the statuses that refusals can have (RFC 9110 section 15).
fn reason(status: u16) -> &'static str {
    match status {
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        409 => "Conflict",
        413 => "Content Too Large",
        421 => "Misdirected Request",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        _ => "Error",
    }
}

/// A value as JSON.
pub fn json(status: u16, value: &impl Serialize) -> Answer {
    match serde_json::to_string(value) {
        Ok(mut body) => {
            body.push('\n');
            with_body(status, JSON, body)
        }
        Err(_) => with_body(500, JSON, UNWRITABLE.to_owned()),
    }
}

/// An answer with this body and [`HEADERS`]. It is never chunked, whatever its size.
pub fn with_body(status: u16, kind: &str, body: String) -> Answer {
    let answer = Response::from_data(body).with_status_code(status).with_chunked_threshold(usize::MAX);
    HEADERS
        .into_iter()
        .chain([("Content-Type", kind)])
        .fold(answer, |answer, (name, value)| with_field(answer, name, value))
}

fn with_field(answer: Answer, name: &str, value: &str) -> Answer {
    match Header::from_bytes(name, value) {
        Ok(header) => answer.with_header(header),
        Err(()) => answer,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    /// A value that cannot be written.
    struct Unwritable;

    impl Serialize for Unwritable {
        fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom("no"))
        }
    }

    #[test]
    fn an_internal_error_is_json() {
        for (answer, path) in [(json(200, &Unwritable), ""), (internal_error("/api/stats?a=b"), "/api/stats")] {
            assert_eq!(answer.status_code().0, 500);
            let kind = answer.headers().iter().find(|header| header.field.equiv("Content-Type")).unwrap();
            assert_eq!(kind.value, JSON);
            let body: serde_json::Value = serde_json::from_reader(answer.into_reader()).unwrap();
            let fields: Vec<_> = body.as_object().unwrap().keys().map(String::as_str).collect();
            assert_eq!(fields, ["error", "message", "path", "status"]);
            assert_eq!((&body["status"], &body["path"]), (&500.into(), &path.into()));
        }
    }
}
