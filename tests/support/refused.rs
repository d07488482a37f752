//! What a client sees that is over a limit, banned or not allowed, and how a test checks that it is the right refusal.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::time::Duration;

use crate::support::{Client, PASSWORD, Response, find};

/// A request that is fine.
pub fn request(fields: &str) -> String {
    format!("GET /v4/info HTTP/1.1\r\nHost: bot\r\nAuthorization: {PASSWORD}\r\n{fields}\r\n")
}

/// A request with a wrong password.
pub fn guess(fields: &str) -> String {
    format!("GET /v4/info HTTP/1.1\r\nHost: bot\r\nAuthorization: wrong\r\n{fields}\r\n")
}

/// Sends a request and reads to the end of the stream, however it ends. The status of the answer; `None` when the
/// connection was closed without one.
pub fn last_status(client: &mut Client, request: &str) -> Option<u16> {
    // It fails when the connection is closed already.
    let _ = client.try_send(request.as_bytes());
    let (bytes, _) = client.rest_or_error();
    let line = &bytes[..find(&bytes, b"\r\n")?];
    let status = std::str::from_utf8(line).ok()?.split(' ').nth(1)?;
    Some(status.parse().unwrap())
}

/// True when the connection was closed before a byte was sent to the client.
pub fn is_dropped(mut client: Client) -> bool {
    let _ = client.try_send(request("Connection: close\r\n").as_bytes());
    client.rest_or_error().0.is_empty()
}

/// Checks a 429: Lavalink's JSON, which names the setting, and the time after which to try again.
pub fn assert_over(answer: &Response, setting: &str) -> Duration {
    assert_refused(answer, (429, "Too Many Requests"), setting);
    let retry_after = answer.field("retry-after").unwrap_or_else(|| panic!("no Retry-After: {}", answer.head));
    let seconds: u64 = retry_after.parse().unwrap_or_else(|_| panic!("Retry-After: {retry_after}"));
    assert!(seconds >= 1, "{retry_after}");
    Duration::from_secs(seconds)
}

/// Checks a 403 that has this word in its reason.
pub fn assert_forbidden(answer: &Response, word: &str) {
    assert_refused(answer, (403, "Forbidden"), word);
    assert_eq!(answer.field("retry-after"), None);
}

fn assert_refused(answer: &Response, (status, error): (u16, &str), word: &str) {
    assert_eq!(answer.status, status, "{}", answer.text());
    assert_eq!(answer.field("content-type"), Some("application/json"));
    let json = answer.json();
    assert_eq!((&json["status"], &json["error"]), (&status.into(), &error.into()), "{json}");
    assert!(json["timestamp"].is_u64() && json["path"].is_string(), "{json}");
    let message = json["message"].as_str().unwrap();
    assert!(message.contains(word), "{message:?} has no {word}");
}
