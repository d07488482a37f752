//! Writes the heads that lavaproxy forwards, in either direction: which fields pass, which are replaced. Writes to
//! memory only.

use std::hash::{BuildHasher as _, RandomState};
use std::io::Write as _;
use std::net::IpAddr;
use std::ops::Range;
use std::sync::{Arc, LazyLock};

use super::forwarded::Trail;
use crate::error::Fault;
use crate::http::body::Framing;
use crate::http::head::{self, MAX_FIELDS, MAX_HEAD, Request, Response, Version};
use crate::nodes::backend::Backend;

/// The name of this process in `Via` (RFC 9110 section 7.6.3). No other process has it.
static NAME: LazyLock<String> = LazyLock::new(|| format!("lavaproxy-{:016x}", RandomState::new().hash_one(())));
static VIA: LazyLock<String> = LazyLock::new(|| format!("1.1 {}", *NAME));

/// Refuses a request that this process has passed on before.
///
/// # Errors
/// 508 when `Via` has this process's name.
pub fn check_loop(request: &Request<'_, '_>) -> Result<(), Fault> {
    let name = NAME.as_bytes();
    match head::values(request.fields, "via").any(|value| value.windows(name.len()).any(|part| part == name)) {
        true => Err(Fault::Loop),
        false => Ok(()),
    }
}

/// The field in which a client names a node.
pub const NODE_FIELD: &str = "lavalink-node";

/// The parts of a request head that are for lavaproxy only. They are not forwarded, or something else takes their place.
#[derive(Clone, Debug, Default)]
pub struct Cuts {
    /// The part of the path that names the node of a session; all of the session's id where `id` takes its place.
    pub target: Range<usize>,
    /// The id of a session that was taken over, as its present node knows it.
    pub id: Option<Arc<str>>,
    /// How many bytes at the start of `Session-Id` name a node.
    pub session_id: usize,
    /// The id that takes the place of all of `Session-Id`.
    pub session_field: Option<Arc<str>>,
    /// True when the field `Lavalink-Node` is removed.
    pub node_field: bool,
}

/// Writes the head that the backend gets.
///
/// # Errors
/// 431 when the head would be larger than Lavalink accepts.
pub fn write_request_head(
    out: &mut Vec<u8>,
    request: &Request<'_, '_>,
    backend: &Backend,
    trail: &Trail,
    cuts: &Cuts,
    upgrade: bool,
) -> Result<(), Fault> {
    out.clear();
    let path = request.target.path;
    let (start, end) = (&path[..cuts.target.start], &path[cuts.target.end..]);
    let id = cuts.id.as_deref().unwrap_or_default();
    for part in [request.method, " ", start, id, end, request.target.query, " HTTP/1.1\r\n"] {
        out.extend_from_slice(part.as_bytes());
    }
    if head::values(request.fields, "host").next().is_none() {
        write_field(out, "Host", backend.address().as_bytes());
    }
    for field in head::end_to_end(request.fields) {
        let is = |name: &str| field.name.eq_ignore_ascii_case(name);
        if let Some(id) = cuts.session_field.as_ref().filter(|_| is("session-id")) {
            write_field(out, field.name, id.as_bytes());
        } else if cuts.session_id > 0 && is("session-id") {
            write_field(out, field.name, field.value.get(cuts.session_id..).unwrap_or_default());
        } else if cuts.node_field && is(NODE_FIELD) {
            continue;
        } else if is("authorization") {
            if let Some(password) = backend.password() {
                write_field(out, field.name, password.expose().as_bytes());
            }
        } else if backend.reads(field)
            && may_tell(field.name, trail)
            && (!is("expect") || request.version == Version::Http11)
        {
            write_field(out, field.name, field.value);
        }
    }
    write_framing(out, request.framing);
    match request.upgrade {
        Some(protocol) if upgrade => {
            write_field(out, "Connection", b"Upgrade");
            write_field(out, "Upgrade", protocol);
        }
        _ if !backend.keeps_connections() => write_field(out, "Connection", b"close"),
        _ => {}
    }
    let room = MAX_FIELDS.saturating_sub(request.fields.len());
    if room >= 1 {
        write_if_it_fits(out, |out| write_forwarded_for(out, trail));
    }
    if room >= 2 && backend.keeps_connections() {
        write_if_it_fits(out, |out| write_field(out, "Via", VIA.as_bytes()));
    }
    out.extend_from_slice(b"\r\n");
    if out.len() > MAX_HEAD { Err(Fault::ForwardedHeadTooLarge) } else { Ok(()) }
}

/// Writes a field, unless the head would then be larger than Lavalink accepts.
fn write_if_it_fits(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let without = out.len();
    write(out);
    if out.len() + 2 > MAX_HEAD {
        out.truncate(without);
    }
}

/// Other fields that name a client. They are removed: lavaproxy writes `X-Forwarded-For` with the addresses that it
/// trusts, and many fronts pass these fields on as the client sent them.
const TELLTALES: [&str; 7] = [
    "x-forwarded-for",
    "forwarded",
    "x-real-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "true-client-ip",
    "cf-connecting-ip",
];

/// False for a field about the client that no trusted front has set.
fn may_tell(name: &str, trail: &Trail) -> bool {
    const OF_FRONTS: &str = "x-forwarded-";
    let of_fronts = name.get(..OF_FRONTS.len()).is_some_and(|start| start.eq_ignore_ascii_case(OF_FRONTS));
    !TELLTALES.iter().any(|telltale| name.eq_ignore_ascii_case(telltale)) && (trail.is_fronted || !of_fronts)
}

/// Writes the client, then the fronts between it and lavaproxy.
fn write_forwarded_for(out: &mut Vec<u8>, trail: &Trail) {
    out.extend_from_slice(b"X-Forwarded-For: ");
    write_address(out, trail.client.address);
    for front in &trail.fronts {
        out.extend_from_slice(b", ");
        write_address(out, *front);
    }
    out.extend_from_slice(b"\r\n");
}

// Each request passes here: `format_args` would take a tenth of lavaproxy's own instructions.

fn write_address(out: &mut Vec<u8>, address: IpAddr) {
    match address {
        IpAddr::V4(address) => {
            let [first, rest @ ..] = address.octets();
            write_number(out, first.into());
            for octet in rest {
                out.push(b'.');
                write_number(out, octet.into());
            }
        }
        // Writing to memory does not fail.
        IpAddr::V6(address) => drop(write!(out, "{address}")),
    }
}

fn write_number(out: &mut Vec<u8>, number: u64) {
    if number >= 10 {
        write_number(out, number / 10);
    }
    out.push(b'0' + (number % 10) as u8);
}

fn write_field(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

fn write_framing(out: &mut Vec<u8>, framing: Framing) {
    match framing {
        Framing::Length(length) => {
            out.extend_from_slice(b"Content-Length: ");
            write_number(out, length);
            out.extend_from_slice(b"\r\n");
        }
        Framing::Chunked => write_field(out, "Transfer-Encoding", b"chunked"),
        Framing::None | Framing::UntilClose => {}
    }
}

/// True when Lavalink refuses the password. Such an answer has no body, unlike the answers of plugins, and no
/// `Session-Resumed`, unlike the 403 to a foreign Origin.
pub fn refuses_password(response: &Response<'_, '_>) -> bool {
    let is_empty = match response.framing {
        // In answer to HEAD.
        Framing::None => head::values(response.fields, "content-length").eq([b"0"]),
        framing => framing == Framing::Length(0),
    };
    matches!(response.status, 401 | 403)
        && is_empty
        && head::values(response.fields, "session-resumed").next().is_none()
}

fn write_status_line(out: &mut Vec<u8>, response: &Response<'_, '_>) {
    out.extend_from_slice(b"HTTP/1.1 ");
    write_number(out, response.status.into());
    out.push(b' ');
    out.extend_from_slice(response.reason.as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Writes the head for a client of this HTTP version. `close` says that the connection ends after this response.
pub fn write_response_head(out: &mut Vec<u8>, response: &Response<'_, '_>, version: Version, close: bool) {
    out.clear();
    write_status_line(out, response);
    for field in head::end_to_end(response.fields) {
        write_field(out, field.name, field.value);
    }
    if (response.declared, version) != (Framing::Chunked, Version::Http10) {
        write_framing(out, response.declared);
    }
    match response.upgrade {
        Some(protocol) if response.status == 101 => {
            write_field(out, "Connection", b"Upgrade");
            write_field(out, "Upgrade", protocol);
        }
        _ if close => write_field(out, "Connection", b"close"),
        _ => {}
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use socket2::SockAddr;

    use super::*;
    use crate::config::{Lavalink, Settings};
    use crate::http::head::Slots;

    #[test]
    fn numbers_and_addresses_are_written_as_display_writes_them() {
        for number in [0, 1, 9, 10, 99, 100, 200, 65535, u64::MAX - 1, u64::MAX] {
            let mut out = Vec::new();
            write_number(&mut out, number);
            assert_eq!(String::from_utf8(out).unwrap(), number.to_string());
        }
        for address in ["0.0.0.0", "192.0.2.1", "10.200.30.4", "255.255.255.255", "::1", "2001:db8::7", "fd00::"] {
            let mut out = Vec::new();
            write_address(&mut out, address.parse().unwrap());
            assert_eq!(String::from_utf8(out).unwrap(), address);
        }
    }

    #[test]
    fn nodes_get_via_and_the_monitor_does_not() {
        let settings = Settings::from_lookup(|_| None).unwrap();
        let node = Backend::lavalink(
            Lavalink::V4,
            &settings.nodes(Lavalink::V4)[0],
            settings.timeouts,
            settings.health_interval,
            None,
        );
        let monitor = Backend::monitor(SockAddr::unix("/nowhere").unwrap(), settings.timeouts);
        let client = std::net::SocketAddr::from(([192, 0, 2, 1], 80)).into();
        let trail = Trail { client, fronts: Vec::new(), is_fronted: false };
        let mut slots = Slots::new();
        let request = Request::parse(b"GET / HTTP/1.1\r\nHost: a\r\nVia: 1.1 b\r\n\r\n", &mut slots).unwrap();
        for (backend, count) in [(node, 2), (monitor, 0)] {
            let mut head = Vec::new();
            write_request_head(&mut head, &request, &backend, &trail, &Cuts::default(), false).unwrap();
            let head = String::from_utf8(head).unwrap();
            assert_eq!(head.matches("\r\nVia: 1.1 ").count(), count, "{head}");
        }
    }
}
