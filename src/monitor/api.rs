//! The JSON of /api/*: slices of one snapshot, in Lavalink's manner (camelCase, milliseconds).

use std::io::Cursor;

use serde::Serialize;
use tiny_http::{Header, Response};

use crate::ledger::{Ledger, Snapshot};

/// A whole answer, in memory.
pub type Answer = Response<Cursor<Vec<u8>>>;

/// Everything the pages load is ours, and nothing may frame them.
const HEADERS: [(&str, &str); 5] = [
    ("Cache-Control", "no-store"),
    (
        "Content-Security-Policy",
        "default-src 'none'; connect-src 'self'; script-src 'self'; style-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
];

/// The answer of the endpoint at `path`, if there is one.
pub fn answer(path: &str, ledger: &Ledger) -> Option<Answer> {
    Some(match path {
        "/api/stats" => json(200, &Stats { version: VERSION, snapshot: ledger.snapshot() }),
        "/api/connections" => json(200, &ledger.snapshot().connections),
        "/api/data-usage" => json(200, &ledger.snapshot().usage),
        "/api/version" => json(200, &Version { name: env!("CARGO_PKG_NAME"), version: VERSION }),
        _ => return None,
    })
}

/// What an unknown path gets.
pub fn not_found(path: &str) -> Answer {
    json(
        404,
        &Error {
            status: 404,
            error: "Not Found",
            message: "there is nothing here; the pages are /, /health and /data-usage, the API is /api/stats",
            path,
        },
    )
}

/// An answer with this body and the headers that all have.
pub fn answer_with(status: u16, kind: &str, body: String) -> Answer {
    let mut response = Response::from_data(body).with_status_code(status);
    for (name, value) in HEADERS.into_iter().chain([("Content-Type", kind)]) {
        if let Ok(header) = Header::from_bytes(name, value) {
            response.add_header(header);
        }
    }
    response
}

const VERSION: &str = env!("CARGO_PKG_VERSION");

#[derive(Serialize)]
struct Stats {
    version: &'static str,
    #[serde(flatten)]
    snapshot: Snapshot,
}

#[derive(Serialize)]
struct Version {
    name: &'static str,
    version: &'static str,
}

#[derive(Serialize)]
struct Error<'p> {
    status: u16,
    error: &'static str,
    message: &'static str,
    path: &'p str,
}

fn json(status: u16, value: &impl Serialize) -> Answer {
    match serde_json::to_string(value) {
        Ok(mut body) => {
            body.push('\n');
            answer_with(status, "application/json", body)
        }
        Err(error) => answer_with(500, "text/plain; charset=utf-8", format!("cannot be written as JSON: {error}\n")),
    }
}
