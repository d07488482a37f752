//! Checks the password of a request, and finds the account that it belongs to. The time that this takes tells nothing
//! about the passwords. Pure.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use subtle::ConstantTimeEq;

use crate::config::Secret;
use crate::error::Fault;
use crate::http::head::{self, HeadError, Request};
use crate::limits::accounts::{Account, Accounts};

/// How a listener authenticates its clients.
#[derive(Debug)]
pub enum Auth {
    /// Lavalink's way: the password of an account alone is the value of `Authorization`, also after `Bearer `.
    Lavalink(Arc<Accounts>),
    /// HTTP Basic (RFC 7617) with any user name, or nothing at all where there is no password, and for some paths.
    Basic {
        /// What must be sent.
        password: Option<Secret>,
        /// The paths that need no password.
        open: &'static [&'static str],
    },
}

impl Auth {
    /// Checks one request. Every request of a connection is checked, not only the first. Returns its account, which
    /// may be one that is refused; there is none at a listener with HTTP Basic.
    ///
    /// # Errors
    /// The fault that Lavalink would answer with: 401 without a password, 403 with a wrong one, 401 for both on
    /// a WebSocket handshake; 400 when there are two `Authorization` fields.
    pub fn check(&self, request: &Request<'_, '_>) -> Result<Option<Arc<Account>>, Fault> {
        let sent = head::single(request.fields, "authorization")
            .map_err(|()| Fault::Head(HeadError::Malformed("two Authorization fields")))?;
        match (self, sent) {
            (Self::Basic { password: None, .. }, _) => Ok(None),
            (Self::Basic { open, .. }, _) if open.contains(&request.path()) => Ok(None),
            (Self::Lavalink(_), None) => Err(Fault::PasswordMissing { challenge: false }),
            (Self::Lavalink(accounts), Some(sent)) => {
                let after_scheme = || accounts.find(sent.strip_prefix(b"Bearer ")?.trim_ascii_start());
                match accounts.find(sent).or_else(after_scheme) {
                    Some(account) => Ok(Some(Arc::clone(account))),
                    None => Err(Fault::PasswordWrong { upgrade: request.upgrade.is_some() }),
                }
            }
            (Self::Basic { password: Some(_), .. }, None) => Err(Fault::PasswordMissing { challenge: true }),
            (Self::Basic { password: Some(password), .. }, Some(sent)) => match basic_password(sent) {
                Some(sent) if sent.ct_eq(password.expose().as_bytes()).into() => Ok(None),
                _ => Err(Fault::WebPasswordWrong),
            },
        }
    }
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
    use crate::config::{self, PerVersion};
    use crate::http::head::Slots;

    fn status(auth: &Auth, fields: &str) -> u16 {
        let head = format!("GET /v4/info HTTP/1.1\r\nHost: x\r\n{fields}\r\n");
        let mut slots = Slots::new();
        let request = Request::parse(head.as_bytes(), &mut slots).unwrap();
        auth.check(&request).map_or_else(|fault| fault.status(), |_| 200)
    }

    fn basic(password: Option<&str>, open: &'static [&'static str]) -> Auth {
        Auth::Basic { password: password.map(|password| Secret::new(password.to_owned())), open }
    }

    fn lavalink(default: &str) -> Auth {
        Auth::Lavalink(Accounts::new(&Secret::new(default.to_owned()), &[], None))
    }

    #[test]
    fn lavalink_passwords_get_the_status_of_lavalink() {
        let auth = lavalink("DevamOP");
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
        let auth = lavalink("Bearer token");
        assert_eq!(status(&auth, "Authorization: Bearer token\r\n"), 200);
        assert_eq!(status(&auth, "Authorization: Bearer Bearer token\r\n"), 200);
        assert_eq!(status(&auth, "Authorization: token\r\n"), 403);
    }

    #[test]
    fn a_password_names_its_account() {
        let account = |name: &str, password: &str| config::Account {
            name: name.into(),
            password: Secret::new(password.to_owned()),
            versions: PerVersion { v3: true, v4: true },
            connections: None,
            requests_per_second: None,
            expires: None,
            enabled: true,
        };
        let of_file = [account("alice", "wonderland"), account("bob", "builder")];
        let auth = Auth::Lavalink(Accounts::new(&Secret::new("DevamOP".to_owned()), &of_file, None));
        for (sent, expected) in [
            ("DevamOP", Some("default")),
            ("wonderland", Some("alice")),
            ("Bearer wonderland", Some("alice")),
            ("builder", Some("bob")),
            ("Bearer builde", None),
            ("alice", None),
        ] {
            let head = format!("GET /v4/info HTTP/1.1\r\nHost: x\r\nAuthorization: {sent}\r\n\r\n");
            let mut slots = Slots::new();
            let request = Request::parse(head.as_bytes(), &mut slots).unwrap();
            let found = auth.check(&request).ok().flatten();
            assert_eq!(found.as_ref().map(|account| &**account.name()), expected, "{sent}");
        }
    }

    #[test]
    fn basic_accepts_any_user_with_the_password() {
        let auth = basic(Some("se:cret"), &[]);
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
        assert_eq!(status(&basic(None, &[]), ""), 200);
    }

    #[test]
    fn only_an_open_path_itself_needs_no_password() {
        let auth = basic(Some("secret"), &["/status", "/a.css"]);
        for (target, expected) in [
            ("/status", 200),
            ("/status?at=now", 200),
            ("/a.css", 200),
            ("/", 401),
            ("/status/", 401),
            ("/status/../health", 401),
            ("//status", 401),
            ("/Status", 401),
            ("/%73tatus", 401),
            ("/health?/status", 401),
            ("/statusx", 401),
        ] {
            let head = format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n");
            let mut slots = Slots::new();
            let request = Request::parse(head.as_bytes(), &mut slots).unwrap();
            assert_eq!(auth.check(&request).map_or_else(|fault| fault.status(), |_| 200), expected, "{target}");
        }
    }
}
