//! Reads the settings one after the other and collects their faults.

use std::ffi::OsString;
use std::path::PathBuf;

use super::names::{
    self, ALLOWED_ADDRESSES, BAN_AFTER, BLOCKED_ADDRESSES, CONNECT_TIMEOUT, CONNECTION_RATE, DRAIN_TIMEOUT,
    HEAD_TIMEOUT, KEEPALIVE_TIMEOUT, LOG_LEVEL, MAX_CONNECTIONS, MAX_CONNECTIONS_PER_ADDRESS, MOVE_RATE, REQUEST_RATE,
    RESPONSE_TIMEOUT, RUST_LOG, SESSION_MEMORY, SESSION_TAKEOVER, STATE_DIR, STATE_DIRECTORY, Setting,
    TAKEOVER_TIMEOUT,
};
use super::secret::HIDDEN;
use super::{Fault, Lavalink, LimitSettings, Listen, Networks, TakeoverSettings, Timeouts, limits, value};

/// Reads one setting after the other and collects their faults.
///
/// Its methods return `None` after a fault, so that settings which depend on a faulty one are not reported as well.
pub struct Reader<F> {
    lookup: F,
    pub faults: Vec<Fault>,
}

impl<F: Fn(&str) -> Option<OsString>> Reader<F> {
    pub fn new(lookup: F) -> Self {
        Self { lookup, faults: Vec::new() }
    }

    /// The value as it is set; an empty one counts only where it has a meaning of its own.
    pub fn raw(&self, setting: &Setting<'_>) -> Option<OsString> {
        (self.lookup)(setting.name).filter(|raw| setting.empty_counts || !raw.is_empty())
    }

    pub fn read<T>(&mut self, setting: &Setting<'_>, parse: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        let raw = self.raw(setting).unwrap_or_else(|| setting.default.into());
        let parsed = match raw.to_str() {
            Some(text) => parse(text),
            None => Err("it is not UTF-8 (write it again, in plain ASCII)".to_owned()),
        };
        match parsed {
            Ok(value) => Some(value),
            Err(reason) => {
                self.fault(setting, &raw.to_string_lossy(), reason);
                None
            }
        }
    }

    pub fn fault(&mut self, setting: &Setting<'_>, value: &str, reason: String) {
        const MAX_SHOWN: usize = 100;
        // An `@` in a host comes after `user:password`.
        let value = if setting.secret || value.contains('@') {
            HIDDEN.to_owned()
        } else if value.chars().count() > MAX_SHOWN {
            let start: String = value.chars().take(MAX_SHOWN).collect();
            format!("{}...", start.escape_debug())
        } else {
            value.escape_debug().to_string()
        };
        self.faults.push(Fault { name: setting.name.to_owned(), value: Some(value), reason });
    }

    pub fn listen(&mut self, host: &Setting<'_>, port: &Setting<'_>) -> Option<Listen> {
        let host = self.read(host, value::host);
        let port = self.read(port, value::port);
        Some(Listen { host: host?, port: port? })
    }

    pub fn log_level(&mut self) -> Option<String> {
        let named = (self.lookup)(LOG_LEVEL.name).is_some_and(|level| !level.is_empty());
        self.read(if named { &LOG_LEVEL } else { &RUST_LOG }, value::log_level)
    }

    pub fn timeouts(&mut self) -> Option<Timeouts> {
        let head = self.read(&HEAD_TIMEOUT, value::timeout);
        let keepalive = self.read(&KEEPALIVE_TIMEOUT, value::timeout);
        let connect = self.read(&CONNECT_TIMEOUT, value::timeout);
        let response = self.read(&RESPONSE_TIMEOUT, value::timeout);
        let drain = self.read(&DRAIN_TIMEOUT, value::duration);
        Some(Timeouts { head: head?, keepalive: keepalive?, connect: connect?, response: response?, drain: drain? })
    }
    pub fn limits(&mut self) -> Option<LimitSettings> {
        let max_connections = self.read(&MAX_CONNECTIONS, value::optional(value::number));
        let connections_per_address = self.read(&MAX_CONNECTIONS_PER_ADDRESS, limits::per_address);
        let connection_rate = self.read(&CONNECTION_RATE, limits::rate);
        let request_rate = self.read(&REQUEST_RATE, limits::rate);
        let ban_after = self.read(&BAN_AFTER, limits::ban_after);
        let allowed = self.read(&ALLOWED_ADDRESSES, Networks::parse);
        let blocked = self.read(&BLOCKED_ADDRESSES, Networks::parse);
        Some(LimitSettings {
            max_connections: max_connections?,
            connections_per_address: connections_per_address?,
            connection_rate: connection_rate?,
            request_rate: request_rate?,
            ban_after: ban_after?,
            allowed: allowed?,
            blocked: blocked?,
        })
    }

    pub fn takeover(&mut self) -> Option<TakeoverSettings> {
        let on = self.read(&SESSION_TAKEOVER, value::switch);
        let timeout = self.read(&TAKEOVER_TIMEOUT, value::timeout);
        let memory = self.read(&SESSION_MEMORY, value::size);
        let move_rate = self.read(&MOVE_RATE, value::number);
        Some(TakeoverSettings { on: on?, timeout: timeout?, memory: memory?, move_rate: move_rate? })
    }

    /// The port of the listener that is pinned to this version.
    pub fn port_of_listener(&mut self, version: Lavalink) -> Option<Option<u16>> {
        self.read(&names::of(version).listener_port, value::optional(value::port))
    }

    /// `STATE_DIR`, else the first path of `STATE_DIRECTORY`.
    pub fn state_dir(&mut self) -> Option<Option<PathBuf>> {
        if self.raw(&STATE_DIR).is_some() {
            return self.read(&STATE_DIR, value::optional(value::file));
        }
        let first = |text: &str| value::optional(value::file)(text.split(':').next().unwrap_or_default());
        self.read(&STATE_DIRECTORY, first)
    }
}
