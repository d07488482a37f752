//! The API: which paths there are, who may ask them how, and their JSON in Lavalink's manner (camelCase,
//! milliseconds).

use std::io::Cursor;

use serde::Serialize;
use tiny_http::{Header, Method, Request, Response};

use super::filter::Filter;
use super::health::{self, Health};
use super::process::Process;
use super::{Service, VERSION, guard, metrics, pages};
use crate::ledger::Snapshot;

/// A whole answer, in memory.
pub type Answer = Response<Cursor<Vec<u8>>>;

/// Everything the pages load is ours, nothing may frame them, and nothing here may be kept.
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

const READ: &str = "GET, HEAD";
const ACT: &str = "POST";

/// What this request gets.
pub fn answer(request: &Request, service: &Service) -> Answer {
    let (path, query) = request.url().split_once('?').unwrap_or((request.url(), ""));
    let field = |name| field(request, name);
    let host = field("Host").unwrap_or_default();
    if service.sources.loopback && !guard::is_loopback(host) {
        let message = "WEB_HOST is a loopback address, so only localhost, 127.0.0.1 and [::1] may be asked for; a proxy in front of this must send one of them as Host";
        return error(421, "Misdirected Request", message, path);
    }
    let Some(allow) = allowed(path) else {
        let message = "there is nothing here; the pages are /, /health and /data-usage, the API is /api/stats, /api/connections, /api/data-usage, /api/health and /api/version, /metrics is for Prometheus and /healthz for whoever asks";
        return error(404, "Not Found", message, path);
    };
    let fits = match request.method() {
        Method::Get | Method::Head => allow == READ,
        Method::Post => allow == ACT,
        _ => false,
    };
    if !fits {
        let message = format!("this method is refused here; use one of {allow}");
        return with_field(error(405, "Method Not Allowed", &message, path), "Allow", allow);
    }
    if allow == ACT && !guard::is_same_origin(host, field("Origin"), field("Sec-Fetch-Site")) {
        return error(403, "Forbidden", "another site's page may not do this; use the pages of lavaproxy itself", path);
    }
    found(path, query, service)
}

/// How the path may be asked; `None` where there is nothing.
fn allowed(path: &str) -> Option<&'static str> {
    match path {
        "/api/stats" | "/api/connections" | "/api/data-usage" | "/api/health" | "/api/version" | "/metrics" => {
            Some(READ)
        }
        "/api/health/check" => Some(ACT),
        _ => pages::page(path).map(|_| READ),
    }
}

fn found(path: &str, query: &str, service: &Service) -> Answer {
    let sources = &service.sources;
    let health = || json(200, &Health::of(sources, Process::measure(&service.load)));
    match path {
        "/api/stats" | "/api/connections" | "/api/data-usage" => match Filter::parse(query) {
            Ok(filter) => list(path, filtered(sources.ledger.snapshot(), &filter)),
            Err(message) => error(400, "Bad Request", message, path),
        },
        "/api/health" => health(),
        "/api/health/check" => {
            health::check(sources);
            health()
        }
        "/api/version" => json(200, &Version { name: env!("CARGO_PKG_NAME"), version: VERSION }),
        "/metrics" => answer_with(200, metrics::CONTENT_TYPE, metrics::text(sources, &Process::measure(&service.load))),
        _ => match pages::page(path) {
            Some((kind, body)) => answer_with(200, kind, body.to_owned()),
            None => error(404, "Not Found", "there is nothing here", path),
        },
    }
}

fn list(path: &str, snapshot: Snapshot) -> Answer {
    match path {
        "/api/connections" => json(200, &snapshot.connections),
        "/api/data-usage" => json(200, &snapshot.usage),
        _ => json(200, &Stats { version: VERSION, snapshot }),
    }
}

fn filtered(mut snapshot: Snapshot, filter: &Filter) -> Snapshot {
    snapshot.connections.retain(|row| filter.takes_connection(row));
    snapshot.usage.retain(|row| filter.takes_usage(row));
    snapshot
}

fn field<'r>(request: &'r Request, name: &'static str) -> Option<&'r str> {
    request.headers().iter().find(|header| header.field.equiv(name)).map(|header| header.value.as_str())
}

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
    error: &'p str,
    message: &'p str,
    path: &'p str,
}

fn error(status: u16, error: &str, message: &str, path: &str) -> Answer {
    json(status, &Error { status, error, message, path })
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

/// An answer with this body and the headers that all have, in one piece whatever its size.
fn answer_with(status: u16, kind: &str, body: String) -> Answer {
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
