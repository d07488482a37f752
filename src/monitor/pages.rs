//! The files of static/, embedded in the binary.

/// The kind and the text of the page or asset at `path`, if there is one.
pub fn page(path: &str) -> Option<(&'static str, &'static str)> {
    Some(match path {
        "/" => ("text/html; charset=utf-8", include_str!("../../static/index.html")),
        "/health" => ("text/html; charset=utf-8", include_str!("../../static/health.html")),
        "/data-usage" => ("text/html; charset=utf-8", include_str!("../../static/data-usage.html")),
        "/lavaproxy.css" => ("text/css; charset=utf-8", include_str!("../../static/lavaproxy.css")),
        "/lavaproxy.js" => ("text/javascript; charset=utf-8", include_str!("../../static/lavaproxy.js")),
        _ => return None,
    })
}
