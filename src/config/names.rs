//! The name, default and unit of every setting.

use super::Lavalink;

/// What is fixed about a setting.
#[derive(Clone, Copy, Debug)]
pub struct Setting<'n> {
    /// The environment variable.
    pub name: &'n str,
    /// The value when the variable is unset; empty for none.
    pub default: &'static str,
    /// The form of the value.
    pub unit: &'static str,
    /// True when the value must not be shown.
    pub secret: bool,
    /// True when an empty value has a meaning of its own; otherwise it is the default.
    pub(super) empty_counts: bool,
}

impl<'n> Setting<'n> {
    pub(super) const fn new(name: &'n str, default: &'static str, unit: &'static str) -> Self {
        Self { name, default, unit, secret: false, empty_counts: false }
    }

    pub(super) const fn secret(name: &'n str, default: &'static str) -> Self {
        Self { name, default, unit: "text", secret: true, empty_counts: true }
    }

    pub(super) const fn node_host(name: &'n str, default: &'static str) -> Self {
        Self { name, default, unit: "host", secret: false, empty_counts: true }
    }
}

pub const DEFAULT_PASSWORD: &str = "DevamOP";

pub const PROXY_HOST: Setting<'static> = Setting::new("PROXY_HOST", "0.0.0.0", "host");
pub const PROXY_PORT: Setting<'static> = Setting::new("PROXY_PORT", "6923", "port");
pub const PROXY_PASSWORD: Setting<'static> = Setting::secret("PROXY_PASSWORD", DEFAULT_PASSWORD);
pub const PROXY_V3_PORT: Setting<'static> = Setting::new("PROXY_V3_PORT", "", "port");
pub const PROXY_V4_PORT: Setting<'static> = Setting::new("PROXY_V4_PORT", "", "port");
pub const PROXY_PROTOCOL: Setting<'static> = Setting::new("PROXY_PROTOCOL", "off", "off or on");
pub const TRUSTED_PROXIES: Setting<'static> = Setting::new("TRUSTED_PROXIES", "", "addresses");
pub const WEB_HOST: Setting<'static> = Setting::new("WEB_HOST", "127.0.0.1", "host");
pub const WEB_PORT: Setting<'static> = Setting::new("WEB_PORT", "6980", "port");
pub const WEB_PASSWORD: Setting<'static> = Setting::secret("WEB_PASSWORD", "");
pub const STATUS_PAGE: Setting<'static> = Setting::new("STATUS_PAGE", "off", "off or on");
pub const LAVALINK_V3_HOST: Setting<'static> = Setting::node_host("LAVALINK_V3_HOST", "127.0.0.1");
pub const LAVALINK_V3_PORT: Setting<'static> = Setting::new("LAVALINK_V3_PORT", "8806", "port");
pub const LAVALINK_V3_PASSWORD: Setting<'static> = Setting::secret("LAVALINK_V3_PASSWORD", "");
pub const LAVALINK_V4_HOST: Setting<'static> = Setting::node_host("LAVALINK_V4_HOST", "127.0.0.1");
pub const LAVALINK_V4_PORT: Setting<'static> = Setting::new("LAVALINK_V4_PORT", "8807", "port");
pub const LAVALINK_V4_PASSWORD: Setting<'static> = Setting::secret("LAVALINK_V4_PASSWORD", "");
pub const LAVALINK_V3_NODES: Setting<'static> = Setting::new("LAVALINK_V3_NODES", "", "nodes");
pub const LAVALINK_V4_NODES: Setting<'static> = Setting::new("LAVALINK_V4_NODES", "", "nodes");
pub const LAVALINK_V3_PATHS: Setting<'static> = Setting::new("LAVALINK_V3_PATHS", "", "paths");
pub const LAVALINK_V4_PATHS: Setting<'static> = Setting::new("LAVALINK_V4_PATHS", "", "paths");
pub const HEALTH_INTERVAL: Setting<'static> = Setting::new("HEALTH_INTERVAL", "5s", "duration");
pub const FAILOVER_AFTER: Setting<'static> = Setting::new("FAILOVER_AFTER", "30s", "duration");
pub const LOAD_RETRY: Setting<'static> = Setting::new("LOAD_RETRY", "on", "on or off");
pub const DEFAULT_VERSION: Setting<'static> = Setting::new("DEFAULT_VERSION", "", "v3 or v4");
pub const LOG_LEVEL: Setting<'static> = Setting::new("LOG_LEVEL", "info", "level");
pub const HEAD_TIMEOUT: Setting<'static> = Setting::new("HEAD_TIMEOUT", "10s", "duration");
pub const KEEPALIVE_TIMEOUT: Setting<'static> = Setting::new("KEEPALIVE_TIMEOUT", "75s", "duration");
pub const CONNECT_TIMEOUT: Setting<'static> = Setting::new("CONNECT_TIMEOUT", "5s", "duration");
pub const RESPONSE_TIMEOUT: Setting<'static> = Setting::new("RESPONSE_TIMEOUT", "120s", "duration");
pub const DRAIN_TIMEOUT: Setting<'static> = Setting::new("DRAIN_TIMEOUT", "10s", "duration");
pub const MAX_BODY: Setting<'static> = Setting::new("MAX_BODY", "8MiB", "size");
pub const MAX_CONNECTIONS: Setting<'static> = Setting::new("MAX_CONNECTIONS", "", "number");
pub const MAX_CONNECTIONS_PER_ADDRESS: Setting<'static> =
    Setting::new("MAX_CONNECTIONS_PER_ADDRESS", "", "number or off");
pub const CONNECTION_RATE: Setting<'static> = Setting::new("CONNECTION_RATE", "50/s", "rate or off");
pub const REQUEST_RATE: Setting<'static> = Setting::new("REQUEST_RATE", "off", "rate or off");
pub const BAN_AFTER: Setting<'static> = Setting::new("BAN_AFTER", "20", "number or off");
pub const ALLOWED_ADDRESSES: Setting<'static> = Setting::new("ALLOWED_ADDRESSES", "", "addresses");
pub const BLOCKED_ADDRESSES: Setting<'static> = Setting::new("BLOCKED_ADDRESSES", "", "addresses");
pub const ACCOUNTS_FILE: Setting<'static> = Setting::new("ACCOUNTS_FILE", "", "path");
pub const STATE_DIR: Setting<'static> = Setting::new("STATE_DIR", "", "path");
pub const SESSION_TAKEOVER: Setting<'static> = Setting::new("SESSION_TAKEOVER", "on", "on or off");
pub const TAKEOVER_TIMEOUT: Setting<'static> = Setting::new("TAKEOVER_TIMEOUT", "60s", "duration");
pub const SESSION_MEMORY: Setting<'static> = Setting::new("SESSION_MEMORY", "64MiB", "size");
pub const MOVE_RATE: Setting<'static> = Setting::new("MOVE_RATE", "5", "number");

/// It is read where `LOG_LEVEL` is unset, as in every program that uses `env_logger`.
pub const RUST_LOG: Setting<'static> = Setting::new("RUST_LOG", LOG_LEVEL.default, LOG_LEVEL.unit);

/// systemd sets it for `StateDirectory=`. It is read where `STATE_DIR` is unset, and may have several paths with colons
/// between.
pub const STATE_DIRECTORY: Setting<'static> = Setting::new("STATE_DIRECTORY", STATE_DIR.default, STATE_DIR.unit);

/// Every setting, in the order of the manual.
pub const SETTINGS: [Setting<'static>; 45] = [
    PROXY_HOST,
    PROXY_PORT,
    PROXY_PASSWORD,
    PROXY_V3_PORT,
    PROXY_V4_PORT,
    PROXY_PROTOCOL,
    TRUSTED_PROXIES,
    WEB_HOST,
    WEB_PORT,
    WEB_PASSWORD,
    STATUS_PAGE,
    LAVALINK_V3_HOST,
    LAVALINK_V3_PORT,
    LAVALINK_V3_PASSWORD,
    LAVALINK_V4_HOST,
    LAVALINK_V4_PORT,
    LAVALINK_V4_PASSWORD,
    LAVALINK_V3_NODES,
    LAVALINK_V4_NODES,
    DEFAULT_VERSION,
    LAVALINK_V3_PATHS,
    LAVALINK_V4_PATHS,
    HEALTH_INTERVAL,
    FAILOVER_AFTER,
    LOAD_RETRY,
    LOG_LEVEL,
    HEAD_TIMEOUT,
    KEEPALIVE_TIMEOUT,
    CONNECT_TIMEOUT,
    RESPONSE_TIMEOUT,
    DRAIN_TIMEOUT,
    MAX_BODY,
    MAX_CONNECTIONS,
    MAX_CONNECTIONS_PER_ADDRESS,
    CONNECTION_RATE,
    REQUEST_RATE,
    BAN_AFTER,
    ALLOWED_ADDRESSES,
    BLOCKED_ADDRESSES,
    ACCOUNTS_FILE,
    STATE_DIR,
    SESSION_TAKEOVER,
    TAKEOVER_TIMEOUT,
    SESSION_MEMORY,
    MOVE_RATE,
];

/// The settings that say where the listeners are.
pub const LISTENER_SETTINGS: [Setting<'static>; 6] =
    [PROXY_HOST, PROXY_PORT, PROXY_V3_PORT, PROXY_V4_PORT, WEB_HOST, WEB_PORT];

/// The settings that each version has.
#[derive(Clone, Copy, Debug)]
pub struct VersionSettings {
    pub host: Setting<'static>,
    pub port: Setting<'static>,
    pub password: Setting<'static>,
    pub nodes: Setting<'static>,
    pub paths: Setting<'static>,
    /// The port of the listener that is pinned to this version.
    pub listener_port: Setting<'static>,
}

/// The settings of this version.
pub const fn of(version: Lavalink) -> &'static VersionSettings {
    match version {
        Lavalink::V3 => &VersionSettings {
            host: LAVALINK_V3_HOST,
            port: LAVALINK_V3_PORT,
            password: LAVALINK_V3_PASSWORD,
            nodes: LAVALINK_V3_NODES,
            paths: LAVALINK_V3_PATHS,
            listener_port: PROXY_V3_PORT,
        },
        Lavalink::V4 => &VersionSettings {
            host: LAVALINK_V4_HOST,
            port: LAVALINK_V4_PORT,
            password: LAVALINK_V4_PASSWORD,
            nodes: LAVALINK_V4_NODES,
            paths: LAVALINK_V4_PATHS,
            listener_port: PROXY_V4_PORT,
        },
    }
}
