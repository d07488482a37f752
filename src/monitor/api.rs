//! The paths: which ones there are, which methods and sources each of them allows, and who answers.

use serde::Serialize;
use tiny_http::Request;

use super::answer::{Answer, Refusal, json, with_body};
use super::health::{self, Health};
use super::process::Process;
use super::{Site, VERSION, bans, demo, guard, history, lists, metrics, pages, security, status};

const READ: &str = "GET, HEAD";
const ACT: &str = "POST";
const READ_OR_ADD: &str = "GET, HEAD, POST";
const REMOVE: &str = "DELETE";

/// What there is at a path.
enum Resource<'p> {
    Stats,
    Connections,
    DataUsage,
    Bots,
    Accounts,
    Security,
    Bans,
    /// The ban of this address or network, percent-encoded.
    Ban(&'p str),
    History,
    Health,
    HealthCheck,
    /// The node of this name, and whether it is to drain.
    Node(&'p str, bool),
    /// The pretend node of this name, and whether it is to die.
    DemoNode(&'p str, bool),
    Version,
    Metrics,
    Status,
    /// The type and the text of a page or of a file that a page loads.
    Page(&'static str, &'static str),
}

impl<'p> Resource<'p> {
    fn at(path: &'p str) -> Option<Self> {
        Some(match path {
            "/api/stats" => Self::Stats,
            "/api/connections" => Self::Connections,
            "/api/data-usage" => Self::DataUsage,
            "/api/bots" => Self::Bots,
            "/api/accounts" => Self::Accounts,
            "/api/security" => Self::Security,
            "/api/bans" => Self::Bans,
            "/api/history" => Self::History,
            "/api/health" => Self::Health,
            "/api/health/check" => Self::HealthCheck,
            "/api/version" => Self::Version,
            "/metrics" => Self::Metrics,
            status::PATH => Self::Status,
            _ => return Self::named_in(path),
        })
    }

    fn named_in(path: &'p str) -> Option<Self> {
        if let Some(ban) = path.strip_prefix("/api/bans/") {
            return (!ban.is_empty()).then_some(Self::Ban(ban));
        }
        if let Some(node) = path.strip_prefix("/api/nodes/") {
            return match node.split_once('/')? {
                (name, "drain") => Some(Self::Node(name, true)),
                (name, "activate") => Some(Self::Node(name, false)),
                _ => None,
            };
        }
        if let Some(node) = path.strip_prefix("/api/demo/") {
            return match node.split_once('/')? {
                (name, "kill") => Some(Self::DemoNode(name, true)),
                (name, "revive") => Some(Self::DemoNode(name, false)),
                _ => None,
            };
        }
        pages::page(path).map(|(kind, text)| Self::Page(kind, text))
    }

    /// The methods that it allows.
    fn allow(&self) -> &'static str {
        match self {
            Self::HealthCheck | Self::Node(..) | Self::DemoNode(..) => ACT,
            Self::Bans => READ_OR_ADD,
            Self::Ban(_) => REMOVE,
            _ => READ,
        }
    }

    /// True for a request with this method that changes what the next process goes on from.
    fn changes_state(&self, method: &str) -> bool {
        matches!(self, Self::Node(..) | Self::Ban(_)) || (matches!(self, Self::Bans) && method == ACT)
    }
}

/// The answer to a request.
pub fn answer(request: &mut Request, site: &Site) -> Answer {
    let url = request.url().to_owned();
    let (path, query) = url.split_once('?').unwrap_or((&url, ""));
    let answer =
        check(request, path, site.sources.loopback).and_then(|resource| respond(request, &resource, query, site));
    answer.unwrap_or_else(|refusal| refusal.answer(path))
}

/// What the request is for, if it may have it.
fn check<'p>(request: &Request, path: &'p str, loopback: bool) -> Result<Resource<'p>, Refusal> {
    let host = guard::field(request, "Host").unwrap_or_default();
    if loopback && !guard::is_loopback(host) {
        let message = "WEB_HOST is a loopback address, so the Host field must be localhost, 127.0.0.1 or [::1]; a proxy in front of lavaproxy must send one of them";
        return Err(Refusal::new(421, message));
    }
    let Some(resource) = Resource::at(path) else {
        let message = "there is nothing here; the pages are /, /health, /data-usage and /security, the API is /api/stats, /api/connections, /api/data-usage, /api/bots, /api/accounts, /api/security, /api/bans, /api/history, /api/health, /api/nodes/NAME/drain and /activate, and /api/version, /metrics is for Prometheus and /healthz for health checks";
        return Err(Refusal::new(404, message));
    };
    let allow = resource.allow();
    let method = request.method().as_str();
    if !allow.split(", ").any(|allowed| allowed == method) {
        return Err(Refusal::of_method(allow));
    }
    let changes = !READ.split(", ").any(|safe| safe == method);
    let (origin, fetch_site) = (guard::field(request, "Origin"), guard::field(request, "Sec-Fetch-Site"));
    if changes && !guard::is_same_origin(host, origin, fetch_site) {
        let message = "a page of another site may not do this; use the pages of lavaproxy itself";
        return Err(Refusal::new(403, message));
    }
    let takes_body = matches!(resource, Resource::Bans) && changes;
    if !takes_body && request.body_length().is_some_and(|length| length > 0) {
        return Err(Refusal::new(413, "no body is taken here; send the request without one"));
    }
    Ok(resource)
}

fn respond(request: &mut Request, resource: &Resource<'_>, query: &str, site: &Site) -> Result<Answer, Refusal> {
    let sources = &site.sources;
    if resource.changes_state(request.method().as_str()) && sources.sessions.has_successor() {
        let message = "an upgrade is under way, and the next process would not know of this; send it again in a second";
        return Err(Refusal::new(503, message));
    }
    let bad_request = |fault| Refusal::new(400, fault);
    let health_of = || Health::of(sources, Process::measure(&site.load));
    let health = || json(200, &health_of());
    let asks = |parameter| query.split('&').any(|pair| pair == parameter);
    Ok(match *resource {
        Resource::Stats => {
            let health = asks("health=true").then(health_of);
            lists::stats(&sources.ledger, query, health).map_err(bad_request)?
        }
        Resource::Connections => lists::connections(&sources.ledger, query).map_err(bad_request)?,
        Resource::DataUsage => lists::data_usage(&sources.ledger, query).map_err(bad_request)?,
        Resource::Bots => lists::bots(&sources.ledger, query).map_err(bad_request)?,
        Resource::Accounts => lists::accounts(sources, query).map_err(bad_request)?,
        Resource::Security => json(200, &security::Security::of(sources)),
        Resource::Bans if request.method().as_str() == ACT => bans::add(request, sources)?,
        Resource::Bans => json(200, &sources.limits.bans().rows()),
        Resource::Ban(named) => bans::lift(named, bans::by(request), sources)?,
        Resource::History => history::answer(&sources.history, query)?,
        Resource::Health => health(),
        Resource::HealthCheck => {
            health::check(sources);
            health()
        }
        Resource::Node(name, draining) => {
            let moves = draining && asks("move=true");
            health::set_draining(sources, name, draining, moves)?;
            health()
        }
        Resource::DemoNode(name, dies) => {
            demo::act(sources, name, dies)?;
            health()
        }
        Resource::Version => json(200, &Version { name: env!("CARGO_PKG_NAME"), version: VERSION }),
        Resource::Metrics => {
            with_body(200, metrics::CONTENT_TYPE, metrics::text(sources, &Process::measure(&site.load)))
        }
        Resource::Status => status::answer(sources)?,
        Resource::Page(kind, text) => with_body(200, kind, text.to_owned()),
    })
}

#[derive(Serialize)]
struct Version {
    name: &'static str,
    version: &'static str,
}
