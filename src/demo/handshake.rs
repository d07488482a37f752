//! The WebSocket handshake (RFC 6455 section 4.2) with the checks and the refusals of Spring, in Spring's order.
//! It may claim a session that waits to be resumed; it writes nothing.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha1_smol::Sha1;

use super::answer::{Answer, Content, RequestSummary};
use super::rest;
use super::server::Server;
use crate::config::Lavalink;
use crate::http::head::{Request, values};

/// What RFC 6455 section 1.3 appends to a key.
const MAGIC: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
const VERSIONS: [&str; 3] = ["13", "8", "7"];

/// A handshake that passed.
pub(super) struct Accepted {
    /// The id or key under which the client would resume.
    pub(super) resume: Option<String>,
    /// The user id is no number, which Lavalink notices only after its 101.
    pub(super) bad_user: bool,
    resumed: bool,
    location: String,
    origin: Option<String>,
    accept: String,
}

impl Accepted {
    /// The 101.
    pub(super) fn answer(&self) -> Answer {
        let answer = Answer::new(101, Content::Absent)
            .with("Connection", "Upgrade")
            .with("Sec-WebSocket-Location", self.location.as_str())
            .with("Session-Resumed", self.resumed.to_string())
            .with("Upgrade", "WebSocket")
            .with("Sec-WebSocket-Accept", self.accept.as_str());
        match &self.origin {
            Some(origin) => answer.with("Origin", origin.as_str()),
            None => answer,
        }
    }
}

/// Checks a request to the WebSocket's path, whatever it is.
pub(super) fn decide(
    server: &Server,
    summary: &RequestSummary<'_>,
    request: &Request<'_, '_>,
) -> Result<Accepted, Answer> {
    let first =
        |name: &str| values(request.fields, name).next().map(|value| String::from_utf8_lossy(value).into_owned());
    if rest::authorise(server, request).is_err() {
        return Err(Answer::empty(401));
    }
    let user = first("User-Id").ok_or_else(|| Answer::empty(400))?;
    if server.version == Lavalink::V4 && (user.is_empty() || user == "0") {
        return Err(Answer::empty(400));
    }
    let resume = first(match server.version {
        Lavalink::V3 => "Resume-Key",
        Lavalink::V4 => "Session-Id",
    })
    .filter(|key| !key.is_empty());
    let resumed = resume.as_deref().is_some_and(|key| server.sessions.claim(key));
    let refusal = |answer: Answer| answer.with("Session-Resumed", resumed.to_string());

    let host = first("Host").unwrap_or_default();
    let origin = first("Origin");
    if origin.as_deref().is_some_and(|origin| !is_same_origin(origin, &host)) {
        return Err(refusal(Answer::empty(403)));
    }
    if summary.method != "GET" {
        return Err(refusal(Answer::empty(405).with("Allow", "GET")));
    }
    if !first("Upgrade").is_some_and(|upgrade| upgrade.eq_ignore_ascii_case("websocket")) {
        return Err(refusal(Answer::text(400, r#"Can "Upgrade" only to "WebSocket"."#)));
    }
    let mut tokens = values(request.fields, "Connection").flat_map(|value| value.split(|byte| *byte == b','));
    if !tokens.any(|token| token.trim_ascii().eq_ignore_ascii_case(b"upgrade")) {
        return Err(refusal(Answer::text(400, r#""Connection" must be "upgrade"."#)));
    }
    if !first("Sec-WebSocket-Version").is_some_and(|version| VERSIONS.contains(&version.as_str())) {
        return Err(refusal(Answer::empty(426).with("Sec-WebSocket-Version", VERSIONS.join(","))));
    }
    let Some(key) = first("Sec-WebSocket-Key") else { return Err(refusal(Answer::empty(400))) };
    Ok(Accepted {
        resume,
        bad_user: user.parse::<i64>().is_err(),
        resumed,
        location: format!("ws://{host}{}", request.target),
        origin,
        accept: accept_key(&key),
    })
}

/// The answer to `Sec-WebSocket-Key` (RFC 6455 section 4.2.2).
pub(super) fn accept_key(key: &str) -> String {
    let mut hash = Sha1::from(key);
    hash.update(MAGIC);
    STANDARD.encode(hash.digest().bytes())
}

/// Whether a page at `origin` came from this server, as far as Lavalink can see: forwarded headers do not count.
fn is_same_origin(origin: &str, host: &str) -> bool {
    let without_port = |authority: &str| authority.strip_suffix(":80").unwrap_or(authority).to_ascii_lowercase();
    origin.strip_prefix("http://").is_some_and(|authority| without_port(authority) == without_port(host))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_answered_as_in_the_rfc() {
        assert_eq!(accept_key("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn the_default_port_may_be_left_out_of_an_origin() {
        assert!(is_same_origin("http://a:80", "A"));
        assert!(is_same_origin("http://a:2333", "a:2333"));
        assert!(!is_same_origin("https://a:2333", "a:2333"));
        assert!(!is_same_origin("http://b", "a"));
    }
}
