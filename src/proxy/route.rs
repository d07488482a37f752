//! The Lavalink version that a request is for: by its path, else its header, else what went before. Pure.

use crate::config::Lavalink;
use crate::http::head::{self, Request};

/// The version a request is for; the first that matches wins, the query never counts:
/// a path segment, the field `Lavalink-Version`, the connection's last version, the listener's default.
pub fn version(request: &Request<'_, '_>, last: Option<Lavalink>, default: Lavalink) -> Lavalink {
    in_path(request.path()).or_else(|| in_field(request)).or(last).unwrap_or(default)
}

/// True for a WebSocket handshake at `/`. Only Lavalink v3 has one there; Lavalink v4 answers it with an empty 200.
pub fn is_v3_handshake(request: &Request<'_, '_>) -> bool {
    request.upgrade.is_some() && request.path() == "/"
}

fn in_path(path: &str) -> Option<Lavalink> {
    path.split('/').find_map(|segment| Lavalink::ALL.into_iter().find(|version| segment == version.name()))
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
    fn first_match_wins() {
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
            assert_eq!(version(&request, last, default), expected, "{head}");
        }
    }
}
