//! The name, default and unit of every setting.

/// What is fixed about a setting.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// The environment variable.
    pub name: &'static str,
    /// The value when the variable is unset; empty for none.
    pub default: &'static str,
    /// The form of the value.
    pub unit: &'static str,
    /// True when the value must not be shown.
    pub secret: bool,
    /// True when an empty value has a meaning of its own; otherwise it is the default.
    pub(super) empty_counts: bool,
}

impl Setting {
    pub(super) const fn new(name: &'static str, default: &'static str, unit: &'static str) -> Self {
        Self { name, default, unit, secret: false, empty_counts: false }
    }

    pub(super) const fn secret(name: &'static str, default: &'static str) -> Self {
        Self { name, default, unit: "text", secret: true, empty_counts: true }
    }

    pub(super) const fn node_host(name: &'static str, default: &'static str) -> Self {
        Self { name, default, unit: "host", secret: false, empty_counts: true }
    }
}

pub const DEFAULT_PASSWORD: &str = "DevamOP";

pub const PROXY_HOST: Setting = Setting::new("PROXY_HOST", "0.0.0.0", "host");
pub const PROXY_PORT: Setting = Setting::new("PROXY_PORT", "6923", "port");
pub const PROXY_PASSWORD: Setting = Setting::secret("PROXY_PASSWORD", DEFAULT_PASSWORD);
pub const PROXY_V3_PORT: Setting = Setting::new("PROXY_V3_PORT", "", "port");
pub const PROXY_V4_PORT: Setting = Setting::new("PROXY_V4_PORT", "", "port");
pub const PROXY_PROTOCOL: Setting = Setting::new("PROXY_PROTOCOL", "off", "off or on");
pub const TRUSTED_PROXIES: Setting = Setting::new("TRUSTED_PROXIES", "", "addresses");
pub const WEB_HOST: Setting = Setting::new("WEB_HOST", "127.0.0.1", "host");
pub const WEB_PORT: Setting = Setting::new("WEB_PORT", "6980", "port");
pub const WEB_PASSWORD: Setting = Setting::secret("WEB_PASSWORD", "");
pub const LAVALINK_V3_HOST: Setting = Setting::node_host("LAVALINK_V3_HOST", "127.0.0.1");
pub const LAVALINK_V3_PORT: Setting = Setting::new("LAVALINK_V3_PORT", "8806", "port");
pub const LAVALINK_V3_PASSWORD: Setting = Setting::secret("LAVALINK_V3_PASSWORD", "");
pub const LAVALINK_V4_HOST: Setting = Setting::node_host("LAVALINK_V4_HOST", "127.0.0.1");
pub const LAVALINK_V4_PORT: Setting = Setting::new("LAVALINK_V4_PORT", "8807", "port");
pub const LAVALINK_V4_PASSWORD: Setting = Setting::secret("LAVALINK_V4_PASSWORD", "");
pub const DEFAULT_VERSION: Setting = Setting::new("DEFAULT_VERSION", "", "v3 or v4");
pub const LOG_LEVEL: Setting = Setting::new("LOG_LEVEL", "info", "level");
pub const HEAD_TIMEOUT: Setting = Setting::new("HEAD_TIMEOUT", "10s", "duration");
pub const KEEPALIVE_TIMEOUT: Setting = Setting::new("KEEPALIVE_TIMEOUT", "75s", "duration");
pub const CONNECT_TIMEOUT: Setting = Setting::new("CONNECT_TIMEOUT", "5s", "duration");
pub const RESPONSE_TIMEOUT: Setting = Setting::new("RESPONSE_TIMEOUT", "120s", "duration");
pub const DRAIN_TIMEOUT: Setting = Setting::new("DRAIN_TIMEOUT", "10s", "duration");
pub const MAX_BODY: Setting = Setting::new("MAX_BODY", "8MiB", "size");

/// It is read where `LOG_LEVEL` is unset, as in every program that uses `env_logger`.
pub const RUST_LOG: Setting = Setting::new("RUST_LOG", LOG_LEVEL.default, LOG_LEVEL.unit);

/// Every setting, in the order of the manual.
pub const SETTINGS: [Setting; 24] = [
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
    LAVALINK_V3_HOST,
    LAVALINK_V3_PORT,
    LAVALINK_V3_PASSWORD,
    LAVALINK_V4_HOST,
    LAVALINK_V4_PORT,
    LAVALINK_V4_PASSWORD,
    DEFAULT_VERSION,
    LOG_LEVEL,
    HEAD_TIMEOUT,
    KEEPALIVE_TIMEOUT,
    CONNECT_TIMEOUT,
    RESPONSE_TIMEOUT,
    DRAIN_TIMEOUT,
    MAX_BODY,
];

/// The settings that say where the listeners are.
pub const LISTENER_SETTINGS: [Setting; 6] = [PROXY_HOST, PROXY_PORT, PROXY_V3_PORT, PROXY_V4_PORT, WEB_HOST, WEB_PORT];
