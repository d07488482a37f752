//! Refuses requests of other web sites' scripts where the browser's own rules do not suffice. It reads the fields of a request.
//!
//! No answer has a CORS field, so a page of another origin cannot read one. But such a page can let its own host name
//! resolve to 127.0.0.1, and so become the same origin (DNS rebinding), or send a POST without reading the answer.

use std::net::Ipv4Addr;

use tiny_http::Request;

/// True when the value of the Host field can only mean this machine.
pub fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix("[::1]") {
        Some(port) => return port.is_empty() || port.starts_with(':'),
        None => host.split(':').next().unwrap_or(host),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<Ipv4Addr>().is_ok_and(|address| address.is_loopback())
}

/// True when a request that changes something comes from one of our own pages, or from no page at all.
///
/// A browser says so itself in Sec-Fetch-Site, which no page can set (W3C Fetch Metadata), and it knows the host that it asked
/// where a front has put another one into the request. Without it, as at http beyond loopback, the origin's authority must
/// be `host`. Its scheme may be http or https, as a front may terminate TLS.
pub fn is_same_origin(host: &str, origin: Option<&str>, fetch_site: Option<&str>) -> bool {
    let same = |origin: &str| {
        ["http://", "https://"]
            .iter()
            .find_map(|scheme| origin.strip_prefix(scheme))
            .is_some_and(|authority| authority.eq_ignore_ascii_case(host))
    };
    fetch_site.map_or_else(|| origin.is_none_or(same), |site| matches!(site, "same-origin" | "none"))
}

/// The value of a field, if the request has it.
pub fn field<'r>(request: &'r Request, name: &'static str) -> Option<&'r str> {
    request.headers().iter().find(|header| header.field.equiv(name)).map(|header| header.value.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_machine_are_loopback() {
        for host in ["localhost", "LocalHost:6980", "127.0.0.1", "127.0.0.1:80", "127.9.8.7:1", "[::1]", "[::1]:6980"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in [
            "",
            ":6980",
            "evil.example",
            "evil.example:6980",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "127.1",
            "128.0.0.1",
            "[::1]x",
            "[::2]",
            "::1",
            "0.0.0.0",
        ] {
            assert!(!is_loopback(host), "{host}");
        }
    }

    #[test]
    fn a_page_of_another_origin_may_not_act() {
        let host = "lava.example:6980";
        for (origin, site, expected) in [
            (None, None, true),
            (Some("http://lava.example:6980"), Some("same-origin"), true),
            (Some("https://LAVA.example:6980"), None, true),
            (None, Some("none"), true),
            (Some("http://lava.example"), None, false),
            (Some("http://evil.example"), None, false),
            (Some("https://behind.a.front.example"), Some("same-origin"), true),
            (Some("https://behind.a.front.example"), None, false),
            (Some("http://evil.example"), Some("cross-site"), false),
            (Some("http://evil.example"), Some(""), false),
            (Some("null"), None, false),
            (Some(""), None, false),
            (Some("ftp://lava.example:6980"), None, false),
            (Some("http://lava.example:6980"), Some("cross-site"), false),
            (Some("http://lava.example:6980"), Some("same-site"), false),
            (None, Some("cross-site"), false),
        ] {
            assert_eq!(is_same_origin(host, origin, site), expected, "{origin:?} {site:?}");
        }
    }
}
