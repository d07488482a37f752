//! The handshake of a client, kept so that its session can be opened again on another node. Pure. Its secrets are left
//! out: the password is the node's own, and a session's id or key belongs to the session that is lost.

use crate::config::Secret;

/// Fields that the next node does not get as the first one got them.
const LEFT_OUT: [&[u8]; 4] = [b"authorization", b"session-id", b"resume-key", b"sec-websocket-extensions"];

/// The head of a handshake as a node got it, without its secrets and without its empty line.
pub struct Opening(Vec<u8>);

impl Opening {
    /// What is kept of this head.
    pub fn of(head: &[u8]) -> Self {
        let mut kept = Vec::with_capacity(head.len());
        for line in head.split_inclusive(|byte| *byte == b'\n') {
            let name = line.split(|byte| *byte == b':').next().unwrap_or_default();
            let is_left_out = LEFT_OUT.iter().any(|field| name.eq_ignore_ascii_case(field));
            if !is_left_out && !line.trim_ascii().is_empty() {
                kept.extend_from_slice(line);
            }
        }
        Self(kept)
    }

    /// The head for a node with this password. `resume` is the field that resumes a session there, if one is to be.
    pub fn head(&self, password: Option<&Secret>, resume: Option<(&str, &Secret)>) -> Vec<u8> {
        let mut head = self.0.clone();
        let password = password.map(|password| ("Authorization", password));
        for (name, value) in password.into_iter().chain(resume) {
            for part in [name, ": ", value.expose(), "\r\n"] {
                head.extend_from_slice(part.as_bytes());
            }
        }
        head.extend_from_slice(b"\r\n");
        head
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_and_the_old_session_are_left_out() {
        let head = b"GET /v4/websocket HTTP/1.1\r\nHost: bot\r\nauthorization: hidden\r\nUser-Id: 42\r\nSession-Id: abc\r\nResume-Key: k\r\nSec-WebSocket-Extensions: permessage-deflate\r\nConnection: Upgrade\r\n\r\n";
        let opening = Opening::of(head);
        let other = Secret::new("other".to_owned());
        let expected =
            "GET /v4/websocket HTTP/1.1\r\nHost: bot\r\nUser-Id: 42\r\nConnection: Upgrade\r\nAuthorization: other\r\n";
        let again = opening.head(Some(&other), None);
        assert_eq!(String::from_utf8_lossy(&again), format!("{expected}\r\n"));
        let again = opening.head(Some(&other), Some(("Session-Id", &Secret::new("def".to_owned()))));
        assert_eq!(String::from_utf8_lossy(&again), format!("{expected}Session-Id: def\r\n\r\n"));
    }
}
