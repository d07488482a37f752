//! Checks the password of a request. Compares it with the listener's in constant time. Pure.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use subtle::ConstantTimeEq;

use crate::config::Secret;
use crate::error::Fault;
use crate::http::head::{self, HeadError, Request};

/// How a listener authenticates its clients.
#[derive(Debug)]
pub enum Auth {
    /// Lavalink's way: the password alone is the value of `Authorization`, also after `Bearer `.
    Lavalink(Secret),
    /// HTTP Basic (RFC 7617) with any user name, or nothing at all.
    Basic(Option<Secret>),
}

impl Auth {
    /// Checks one request. Every request of a connection is checked, not only the first.
    ///
    /// # Errors
    /// The fault that Lavalink would answer with: 401 without a password, 403 with a wrong one, 401 for both on
    /// a WebSocket handshake; 400 when there are two `Authorization` fields.
    pub fn check(&self, request: &Request<'_, '_>) -> Result<(), Fault> {
        let sent = head::single(request.fields, "authorization")
            .map_err(|()| Fault::Head(HeadError::Malformed("two Authorization fields")))?;
        match (self, sent) {
            (Self::Basic(None), _) => Ok(()),
            (Self::Lavalink(_), None) => Err(Fault::PasswordMissing { challenge: false }),
            (Self::Lavalink(password), Some(sent)) => {
                let bare = sent.strip_prefix(b"Bearer ").map_or(sent, <[u8]>::trim_ascii_start);
                if equal(sent, password) | equal(bare, password) {
                    Ok(())
                } else {
                    Err(Fault::PasswordWrong { upgrade: request.upgrade.is_some() })
                }
            }
            (Self::Basic(Some(_)), None) => Err(Fault::PasswordMissing { challenge: true }),
            (Self::Basic(Some(password)), Some(sent)) => match basic_password(sent) {
                Some(sent) if equal(&sent, password) => Ok(()),
                _ => Err(Fault::WebPasswordWrong),
            },
        }
    }
}

fn equal(sent: &[u8], password: &Secret) -> bool {
    sent.ct_eq(password.expose().as_bytes()).into()
}

/// The password of `Basic base64(user ":" password)`.
fn basic_password(value: &[u8]) -> Option<Vec<u8>> {
    let (scheme, encoded) = value.split_at_checked(6)?;
    if !scheme.eq_ignore_ascii_case(b"basic ") {
        return None;
    }
    let decoded = STANDARD.decode(encoded.trim_ascii()).ok()?;
    let colon = decoded.iter().position(|byte| *byte == b':')?;
    Some(decoded[colon + 1..].to_vec())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::http::head::Slots;

    fn status(auth: &Auth, fields: &str) -> u16 {
        let head = format!("GET /v4/info HTTP/1.1\r\nHost: x\r\n{fields}\r\n");
        let mut slots = Slots::new();
        let request = Request::parse(head.as_bytes(), &mut slots).unwrap();
        auth.check(&request).map_or_else(|fault| fault.status(), |()| 200)
    }

    #[test]
    fn lavalink_passwords_get_the_status_of_lavalink() {
        let auth = Auth::Lavalink(Secret::new("DevamOP".to_owned()));
        let upgrade = "Upgrade: websocket\r\nConnection: Upgrade\r\n";
        for (fields, expected) in [
            ("", 401),
            ("Authorization: DevamOP\r\n", 200),
            ("authorization:DevamOP \r\n", 200),
            ("Authorization: Bearer DevamOP\r\n", 200),
            ("Authorization: Bearer  DevamOP\r\n", 200),
            ("Authorization: devamop\r\n", 403),
            ("Authorization: DevamOPx\r\n", 403),
            ("Authorization: DevamO\r\n", 403),
            ("Authorization: bearer DevamOP\r\n", 403),
            ("Authorization: Basic OkRldmFtT1A=\r\n", 403),
            ("Authorization:\r\n", 403),
            ("Authorization: Bearer\r\n", 403),
            ("Authorization: DevamOP\r\nAuthorization: DevamOP\r\n", 400),
            ("Authorization: x\r\nauthorization: DevamOP\r\n", 400),
        ] {
            assert_eq!(status(&auth, fields), expected, "{fields}");
            let handshake = if expected == 403 { 401 } else { expected };
            assert_eq!(status(&auth, &format!("{upgrade}{fields}")), handshake, "{fields}");
        }
    }

    #[test]
    fn a_password_may_start_with_bearer() {
        let auth = Auth::Lavalink(Secret::new("Bearer token".to_owned()));
        assert_eq!(status(&auth, "Authorization: Bearer token\r\n"), 200);
        assert_eq!(status(&auth, "Authorization: Bearer Bearer token\r\n"), 200);
        assert_eq!(status(&auth, "Authorization: token\r\n"), 403);
    }

    #[test]
    fn basic_accepts_any_user_with_the_password() {
        let auth = Auth::Basic(Some(Secret::new("se:cret".to_owned())));
        let with = |pair: &str| format!("Authorization: Basic {}\r\n", STANDARD.encode(pair));
        for (fields, expected) in [
            (String::new(), 401),
            (with("admin:se:cret"), 200),
            (with(":se:cret").replace("Basic", "bAsIc"), 200),
            (with("admin:secret"), 401),
            (with("se:cret"), 401),
            (with("nocolon"), 401),
            ("Authorization: Basic %%%\r\n".to_owned(), 401),
            ("Authorization: se:cret\r\n".to_owned(), 401),
            ("Authorization:\r\n".to_owned(), 401),
        ] {
            assert_eq!(status(&auth, &fields), expected, "{fields}");
        }
        assert_eq!(status(&Auth::Basic(None), ""), 200);
    }
}
