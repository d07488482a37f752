//! The Lavalink version that a request is for. Reads the request and the settings of the listener. Pure.

use super::forward::NODE_FIELD;
use super::service::LavalinkRoutes;
use crate::config::{Lavalink, PerVersion};
use crate::error::Fault;
use crate::http::head::{self, Request};
use crate::nodes::pool::{Pool, Pools};

/// The version that a request is for. The first match wins: a path segment, the field `Lavalink-Version`, a path prefix
/// of the settings, the version of the node in `Lavalink-Node`, the connection's last version, the listener's default.
/// The query never counts.
///
/// # Errors
/// When the request is a WebSocket handshake of v3 and v3 is off.
pub fn version(request: &Request<'_, '_>, routes: &LavalinkRoutes, last: Option<Lavalink>) -> Result<Lavalink, Fault> {
    if routes.pools.v3.is_none() && is_v3_handshake(request) {
        return Err(Fault::V3Handshake);
    }
    let named = || by_node(request, &routes.pools);
    Ok(stated(request, &routes.paths).or_else(named).or(last).unwrap_or(routes.default))
}

/// The version that the request itself states.
fn stated(request: &Request<'_, '_>, prefixes: &PerVersion<Vec<String>>) -> Option<Lavalink> {
    let path = request.path();
    in_path(path).or_else(|| in_field(request)).or_else(|| by_prefix(path, prefixes))
}

/// The version of the node that `Lavalink-Node` names.
fn by_node(request: &Request<'_, '_>, pools: &Pools) -> Option<Lavalink> {
    let name = std::str::from_utf8(head::values(request.fields, NODE_FIELD).next()?).ok()?;
    let has = |pool: &Pool| pool.has_named_sessions() && pool.named(name).is_some();
    Lavalink::ALL.into_iter().find(|version| pools.get(*version).as_deref().is_some_and(has))
}

/// The version with a path prefix in the settings that matches this path, in whole segments.
fn by_prefix(path: &str, prefixes: &PerVersion<Vec<String>>) -> Option<Lavalink> {
    let has = |prefix: &String| {
        path.strip_prefix(&**prefix)
            .is_some_and(|rest| rest.is_empty() || prefix.ends_with('/') || rest.starts_with(['/', ';']))
    };
    Lavalink::ALL.into_iter().find(|version| prefixes.get(*version).iter().any(has))
}

/// True for a WebSocket handshake at `/`. Only Lavalink v3 has one there; Lavalink v4 answers it with an empty 200.
fn is_v3_handshake(request: &Request<'_, '_>) -> bool {
    request.upgrade.is_some() && request.path() == "/"
}

fn in_path(path: &str) -> Option<Lavalink> {
    let mut segments = path.as_bytes().split(|byte| *byte == b'/');
    segments.find_map(|segment| Lavalink::ALL.into_iter().find(|version| segment == version.name().as_bytes()))
}

fn in_field(request: &Request<'_, '_>) -> Option<Lavalink> {
    match head::values(request.fields, "lavalink-version").next()? {
        b"3" | b"v3" => Some(Lavalink::V3),
        b"4" | b"v4" => Some(Lavalink::V4),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::http::head::Slots;
    use Lavalink::{V3, V4};

    #[test]
    fn the_first_match_decides_the_version() {
        for (target, field, last, default, expected) in [
            ("/v4/websocket", "", None, V3, V4),
            ("/v3/loadtracks", "", Some(V4), V4, V3),
            ("/v4", "3", Some(V3), V3, V4),
            ("/v4?x=/v3/", "", None, V3, V4),
            ("/loadtracks?identifier=/v4/", "", None, V3, V3),
            ("/plugin/v4/x", "", None, V3, V4),
            ("/v3/v4", "", None, V4, V3),
            ("/V4/info", "", None, V3, V3),
            ("/v44/info", "", None, V3, V3),
            ("/xv4/info", "", None, V3, V3),
            ("/", "", None, V3, V3),
            ("/", "", None, V4, V4),
            ("/", "", Some(V4), V3, V4),
            ("/version", "4", Some(V3), V3, V4),
            ("/version", "v3", Some(V4), V4, V3),
            ("/version", "v4", None, V3, V4),
            ("/version", "5", Some(V4), V3, V4),
            ("/version", "", Some(V3), V4, V3),
            ("//v4//info", "", None, V3, V4),
            ("http://x/v4/info", "", None, V3, V4),
        ] {
            let field = if field.is_empty() { String::new() } else { format!("Lavalink-Version: {field}\r\n") };
            let head = format!("GET {target} HTTP/1.1\r\nHost: x\r\n{field}\r\n");
            let mut slots = Slots::new();
            let request = Request::parse(head.as_bytes(), &mut slots).unwrap();
            let found = stated(&request, &PerVersion::default()).or(last).unwrap_or(default);
            assert_eq!(found, expected, "{head}");
        }
    }

    #[test]
    fn a_path_prefix_matches_whole_segments() {
        let prefixes = PerVersion { v3: vec!["/old".to_owned()], v4: vec!["/youtube".to_owned(), "/p/".to_owned()] };
        for (target, expected) in [
            ("/youtube", Some(V4)),
            ("/youtube/oauth?x=/old", Some(V4)),
            ("/youtube;x=1", Some(V4)),
            ("/youtubes", None),
            ("/x/youtube", None),
            ("/p/x", Some(V4)),
            ("/p", None),
            ("/old/v4", Some(V3)),
            ("/", None),
        ] {
            assert_eq!(by_prefix(target.split('?').next().unwrap(), &prefixes), expected, "{target}");
        }
        let head = b"GET /youtube HTTP/1.1\r\nHost: x\r\nLavalink-Version: 3\r\n\r\n";
        let mut slots = Slots::new();
        let request = Request::parse(head, &mut slots).unwrap();
        assert_eq!(stated(&request, &prefixes), Some(V3));
    }
}
