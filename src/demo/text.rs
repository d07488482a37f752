//! Pieces of Lavalink's JSON that more than one handler writes; pure.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Milliseconds since the epoch, as all of Lavalink's timestamps are.
pub(super) fn epoch_millis() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_millis()
}

/// A string as JSON has it.
pub(super) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// As long as a Spring stack trace, because bots that ask for it get one with every error.
pub(super) fn stack_trace(message: &str) -> String {
    const FRAME: &str =
        "\n\tat org.springframework.web.servlet.DispatcherServlet.doDispatch(DispatcherServlet.java:1089)";
    const FRAMES: usize = 96;
    format!("org.springframework.web.server.ResponseStatusException: {message}{}", FRAME.repeat(FRAMES))
}
