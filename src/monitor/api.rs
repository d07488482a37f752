//! The answers: which paths there are, which methods and sources each of them allows, and the JSON of the API as in
//! Lavalink (camelCase, milliseconds). Every error is JSON, also outside /api.

use std::io::Cursor;

use serde::Serialize;
use tiny_http::{Header, Method, Request, Response};

use super::filter::Filter;
use super::health::{self, Health};
use super::process::Process;
use super::{Site, VERSION, guard, metrics, pages};
use crate::ledger::Snapshot;

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

const READ: &str = "GET, HEAD";
const ACT: &str = "POST";

/// The answer to a request.
pub fn answer(request: &Request, site: &Site) -> Answer {
    let (path, query) = request.url().split_once('?').unwrap_or((request.url(), ""));
    let field = |name| field(request, name);
    let host = field("Host").unwrap_or_default();
    if site.sources.loopback && !guard::is_loopback(host) {
        let message = "WEB_HOST is a loopback address, so the Host field must be localhost, 127.0.0.1 or [::1]; a proxy in front of lavaproxy must send one of them";
        return error(421, "Misdirected Request", message, path);
    }
    let Some(allow) = allowed(path) else {
        let message = "there is nothing here; the pages are /, /health and /data-usage, the API is /api/stats, /api/connections, /api/data-usage, /api/health, /api/nodes/NAME/drain and /activate, and /api/version, /metrics is for Prometheus and /healthz for health checks";
        return error(404, "Not Found", message, path);
    };
    let fits = match request.method() {
        Method::Get | Method::Head => allow == READ,
        Method::Post => allow == ACT,
        _ => false,
    };
    if !fits {
        let message = format!("this path does not allow this method; use {allow}");
        return with_field(error(405, "Method Not Allowed", &message, path), "Allow", allow);
    }
    if allow == ACT && !guard::is_same_origin(host, field("Origin"), field("Sec-Fetch-Site")) {
        let message = "a page of another site may not do this; use the pages of lavaproxy itself";
        return error(403, "Forbidden", message, path);
    }
    found(path, query, site)
}

/// The methods that the path allows; `None` where there is nothing.
fn allowed(path: &str) -> Option<&'static str> {
    match path {
        "/api/stats" | "/api/connections" | "/api/data-usage" | "/api/health" | "/api/version" | "/metrics" => {
            Some(READ)
        }
        "/api/health/check" => Some(ACT),
        _ if node_action(path).is_some() => Some(ACT),
        _ => pages::page(path).map(|_| READ),
    }
}

/// The node's name and what is to be done with it, in `/api/nodes/NAME/drain` and `/api/nodes/NAME/activate`.
fn node_action(path: &str) -> Option<(&str, bool)> {
    let (name, action) = path.strip_prefix("/api/nodes/")?.split_once('/')?;
    match action {
        "drain" => Some((name, true)),
        "activate" => Some((name, false)),
        _ => None,
    }
}

/// Drains a node or takes it back. Answers with the health of all.
fn act_on_node(name: &str, draining: bool, path: &str, site: &Site) -> Answer {
    let setup = site.sources.setup();
    let Some(node) = setup.nodes.iter().find(|node| **node.name() == *name) else {
        let known: Vec<&str> = setup.nodes.iter().map(|node| &**node.name()).collect();
        let message = format!("there is no node of this name; the nodes are {}", known.join(", "));
        return error(404, "Not Found", &message, path);
    };
    node.set_draining(draining, "the API");
    json(200, &Health::of(&site.sources, Process::measure(&site.load)))
}

fn found(path: &str, query: &str, site: &Site) -> Answer {
    let sources = &site.sources;
    let health = || json(200, &Health::of(sources, Process::measure(&site.load)));
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
        "/metrics" => answer_with(200, metrics::CONTENT_TYPE, metrics::text(sources, &Process::measure(&site.load))),
        _ => match (node_action(path), pages::page(path)) {
            (Some((name, draining)), _) => act_on_node(name, draining, path, site),
            (None, Some((kind, body))) => answer_with(200, kind, body.to_owned()),
            (None, None) => error(404, "Not Found", "there is nothing here", path),
        },
    }
}

/// The answer where no thread can be started.
pub fn unavailable(request: &Request) -> Answer {
    error(
        503,
        "Service Unavailable",
        "no thread can be started for this answer; try again later",
        path_of(request.url()),
    )
}

/// The answer to a request for `url` that caused a panic.
pub fn internal_error(url: &str) -> Answer {
    let message = "a defect in lavaproxy; please report it with what it logged";
    error(500, "Internal Server Error", message, path_of(url))
}

fn path_of(url: &str) -> &str {
    url.split_once('?').map_or(url, |(path, _)| path)
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
            answer_with(status, JSON, body)
        }
        Err(_) => answer_with(500, JSON, UNWRITABLE.to_owned()),
    }
}

/// An answer with this body and [`HEADERS`]. It is never chunked, whatever its size.
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
