//! How a session is resumed after its client has lost its WebSocket: what a takeover must set again. Pure.

use serde::Deserialize;

use super::resume::KeyHash;
use crate::config::{Lavalink, Secret};

/// What a client has set. v3's key takes the session over, and cannot be printed.
#[derive(Clone)]
pub struct Resuming {
    /// v3's key; v4 has none.
    key: Option<Secret>,
    /// In seconds.
    timeout: i64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    #[serde(default)]
    resuming: bool,
    #[serde(default)]
    resuming_key: Option<String>,
    timeout: i64,
}

impl Resuming {
    /// By v3's op `configureResuming`.
    pub fn by_key(key: String, timeout: i64) -> Self {
        Self { key: Some(Secret::new(key)), timeout }
    }

    /// What a node's answer to `PATCH /vN/sessions/ID` says. `None` when the session is not resumed.
    pub fn of_answer(body: &[u8]) -> Option<Self> {
        let Answer { resuming, resuming_key, timeout } = serde_json::from_slice(body).ok()?;
        let key = resuming_key.filter(|key| !key.is_empty());
        (resuming || key.is_some()).then(|| Self { key: key.map(Secret::new), timeout })
    }

    /// The body of the PATCH that sets it again.
    pub fn request(&self, version: Lavalink) -> Secret {
        let timeout = self.timeout;
        let key = self.key.as_ref().map_or("", Secret::expose);
        let body = match version {
            Lavalink::V3 => serde_json::json!({ "resumingKey": key, "timeout": timeout }),
            Lavalink::V4 => serde_json::json!({ "resuming": true, "timeout": timeout }),
        };
        Secret::new(body.to_string())
    }

    /// The body of the PATCH after which the session cannot be resumed.
    pub fn end_request(&self, version: Lavalink) -> Secret {
        let body = match version {
            Lavalink::V3 => r#"{"resumingKey":null}"#,
            Lavalink::V4 => r#"{"resuming":false}"#,
        };
        Secret::new(body.to_owned())
    }

    /// The field of a handshake that resumes the session with this id, and its value. `None` where a field cannot have it.
    pub fn field(&self, version: Lavalink, id: &str) -> Option<(&'static str, Secret)> {
        let (name, value) = match version {
            Lavalink::V3 => ("Resume-Key", self.key.as_ref()?.expose()),
            Lavalink::V4 => ("Session-Id", id),
        };
        let fits = value.trim_ascii() == value && value.bytes().all(|byte| matches!(byte, b' '..=b'~'));
        fits.then(|| (name, Secret::new(value.to_owned())))
    }

    /// What stands for v3's key.
    pub fn key(&self) -> Option<KeyHash> {
        KeyHash::of(self.key.as_ref()?.expose().as_bytes())
    }

    /// How long the node keeps the session without its WebSocket, in seconds.
    pub fn seconds(&self) -> u64 {
        u64::try_from(self.timeout).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use Lavalink::{V3, V4};

    #[test]
    fn a_session_is_resumed_by_its_id_or_by_its_key() {
        let field = |resuming: &Resuming, version| {
            let (name, value) = resuming.field(version, "abc")?;
            Some(format!("{name}: {}", value.expose()))
        };
        let v4 = Resuming { key: None, timeout: 60 };
        assert_eq!(field(&v4, V4).as_deref(), Some("Session-Id: abc"));
        assert_eq!(field(&v4, V3), None);
        let by_key = |key: &str| field(&Resuming::by_key(key.to_owned(), 60), V3);
        assert_eq!(by_key("my key").as_deref(), Some("Resume-Key: my key"));
        for key in ["a\r\nAuthorization: b", "a\n", " a", "a\t", "\u{e9}"] {
            assert_eq!(by_key(key), None, "{key:?}");
        }
    }

    #[test]
    fn an_answer_becomes_the_request_that_sets_it_again() {
        let v4 = Resuming::of_answer(br#"{"resuming":true,"timeout":90}"#).unwrap();
        assert_eq!(v4.request(V4).expose(), r#"{"resuming":true,"timeout":90}"#);
        let v3 = Resuming::of_answer(br#"{"resumingKey":"a \"key\"","timeout":10}"#).unwrap();
        assert_eq!(v3.request(V3).expose(), r#"{"resumingKey":"a \"key\"","timeout":10}"#);
        for off in [r#"{"resuming":false,"timeout":60}"#, r#"{"resumingKey":null,"timeout":60}"#, "", "{}"] {
            assert!(Resuming::of_answer(off.as_bytes()).is_none(), "{off}");
        }
    }
}
