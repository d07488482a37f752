//! Every setting: its name, default, unit and parser.
//!
//! Reads the process environment and one env file and changes neither. Nothing here opens a socket, resolves a name
//! or logs; all faults of all settings come back together, so that an operator mends them in one go.

mod check;
mod file;
mod value;

#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A major version of Lavalink.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lavalink {
    /// Lavalink 3, with paths under `/v3` or without a prefix.
    V3,
    /// Lavalink 4, with paths under `/v4`.
    V4,
}

impl Lavalink {
    /// Both, oldest first.
    pub const ALL: [Self; 2] = [Self::V3, Self::V4];

    /// `v3` or `v4`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::V3 => "v3",
            Self::V4 => "v4",
        }
    }
}

impl fmt::Display for Lavalink {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name())
    }
}

/// A password. It prints as `***` whichever way it is formatted.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a password.
    #[must_use]
    pub fn new(password: String) -> Self {
        Self(password)
    }

    /// The password itself, to compare it or to send it; never to print it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(HIDDEN)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(HIDDEN)
    }
}

const HIDDEN: &str = "***";

/// Where a door listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// An address (IPv6 without brackets) or a name.
    pub host: String,
    /// A TCP port; 0 lets the system choose a free one.
    pub port: u16,
}

impl fmt::Display for Listen {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_authority(out, &self.host, self.port)
    }
}

/// A Lavalink node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// An address (IPv6 without brackets) or a name.
    pub host: String,
    /// A TCP port, never 0.
    pub port: u16,
    /// What the node is sent as `Authorization`: its own password where one is set, else `PROXY_PASSWORD`.
    pub password: Secret,
}

impl fmt::Display for Node {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_authority(out, &self.host, self.port)
    }
}

fn write_authority(out: &mut fmt::Formatter<'_>, host: &str, port: u16) -> fmt::Result {
    match host.contains(':') {
        true => write!(out, "[{host}]:{port}"),
        false => write!(out, "{host}:{port}"),
    }
}

/// How long to wait for what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// From the first byte of a request head to its last.
    pub head: Duration,
    /// From an answer to the next request on the same connection.
    pub keepalive: Duration,
    /// For a TCP connection to a node.
    pub connect: Duration,
    /// From a request to the head of its answer.
    pub response: Duration,
    /// For connections to end by themselves when the proxy stops; may be zero.
    pub drain: Duration,
}

/// The value of every setting, checked each by itself and all against each other.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The bots' door.
    pub proxy: Listen,
    /// What bots send as `Authorization`; never empty.
    pub proxy_password: Secret,
    /// A further bots' door on the same host, pinned to v3.
    pub proxy_v3_port: Option<u16>,
    /// A further bots' door on the same host, pinned to v4.
    pub proxy_v4_port: Option<u16>,
    /// The people's door.
    pub web: Listen,
    /// What people are asked for; always there when `web` reaches beyond loopback.
    pub web_password: Option<Secret>,
    /// The v3 node, unless v3 is off.
    pub v3: Option<Node>,
    /// The v4 node, unless v4 is off.
    pub v4: Option<Node>,
    /// For requests that name no version; it always has a node.
    pub default_version: Lavalink,
    /// A filter that `env_logger` understands.
    pub log_level: String,
    /// Every timeout.
    pub timeouts: Timeouts,
    /// The largest request body, in bytes; never 0.
    pub max_body: u64,
}

/// What is known of a setting before anybody set it.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// The environment variable.
    pub name: &'static str,
    /// What holds when the variable is unset; empty for none.
    pub default: &'static str,
    /// What the value is written in.
    pub unit: &'static str,
    /// True when the value must not be shown.
    pub secret: bool,
    /// True when an empty value says something else than the default.
    empty_counts: bool,
}

impl Setting {
    const fn new(name: &'static str, default: &'static str, unit: &'static str) -> Self {
        Self { name, default, unit, secret: false, empty_counts: false }
    }

    const fn secret(name: &'static str, default: &'static str) -> Self {
        Self { name, default, unit: "text", secret: true, empty_counts: true }
    }

    const fn node_host(name: &'static str, default: &'static str) -> Self {
        Self { name, default, unit: "host", secret: false, empty_counts: true }
    }
}

const DEFAULT_PASSWORD: &str = "DevamOP";

const PROXY_HOST: Setting = Setting::new("PROXY_HOST", "0.0.0.0", "host");
const PROXY_PORT: Setting = Setting::new("PROXY_PORT", "6923", "port");
const PROXY_PASSWORD: Setting = Setting::secret("PROXY_PASSWORD", DEFAULT_PASSWORD);
const PROXY_V3_PORT: Setting = Setting::new("PROXY_V3_PORT", "", "port");
const PROXY_V4_PORT: Setting = Setting::new("PROXY_V4_PORT", "", "port");
const WEB_HOST: Setting = Setting::new("WEB_HOST", "127.0.0.1", "host");
const WEB_PORT: Setting = Setting::new("WEB_PORT", "6980", "port");
const WEB_PASSWORD: Setting = Setting::secret("WEB_PASSWORD", "");
const LAVALINK_V3_HOST: Setting = Setting::node_host("LAVALINK_V3_HOST", "127.0.0.1");
const LAVALINK_V3_PORT: Setting = Setting::new("LAVALINK_V3_PORT", "8806", "port");
const LAVALINK_V3_PASSWORD: Setting = Setting::secret("LAVALINK_V3_PASSWORD", "");
const LAVALINK_V4_HOST: Setting = Setting::node_host("LAVALINK_V4_HOST", "127.0.0.1");
const LAVALINK_V4_PORT: Setting = Setting::new("LAVALINK_V4_PORT", "8807", "port");
const LAVALINK_V4_PASSWORD: Setting = Setting::secret("LAVALINK_V4_PASSWORD", "");
const DEFAULT_VERSION: Setting = Setting::new("DEFAULT_VERSION", "", "v3 or v4");
const LOG_LEVEL: Setting = Setting::new("LOG_LEVEL", "info", "level");
const HEAD_TIMEOUT: Setting = Setting::new("HEAD_TIMEOUT", "10s", "duration");
const KEEPALIVE_TIMEOUT: Setting = Setting::new("KEEPALIVE_TIMEOUT", "75s", "duration");
const CONNECT_TIMEOUT: Setting = Setting::new("CONNECT_TIMEOUT", "5s", "duration");
const RESPONSE_TIMEOUT: Setting = Setting::new("RESPONSE_TIMEOUT", "120s", "duration");
const DRAIN_TIMEOUT: Setting = Setting::new("DRAIN_TIMEOUT", "10s", "duration");
const MAX_BODY: Setting = Setting::new("MAX_BODY", "8MiB", "size");

/// Stands in for `LOG_LEVEL` where that is unset, as in every program that uses `env_logger`.
const RUST_LOG: Setting = Setting::new("RUST_LOG", LOG_LEVEL.default, LOG_LEVEL.unit);

/// Every setting, in the order of the manual.
pub const SETTINGS: [Setting; 22] = [
    PROXY_HOST,
    PROXY_PORT,
    PROXY_PASSWORD,
    PROXY_V3_PORT,
    PROXY_V4_PORT,
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

/// Those that say where the doors are.
const DOOR_SETTINGS: [Setting; 6] = [PROXY_HOST, PROXY_PORT, PROXY_V3_PORT, PROXY_V4_PORT, WEB_HOST, WEB_PORT];

/// What is wrong with one setting, or with the env file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The setting's name, or the file's.
    pub name: String,
    /// The value, never a secret's.
    pub value: Option<String>,
    /// What is wrong, and in brackets what mends it.
    pub reason: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            Some(value) => write!(out, "{}={value}: {}", self.name, self.reason),
            None => write!(out, "{}: {}", self.name, self.reason),
        }
    }
}

/// Everything that is wrong with the settings, never nothing; one line for each when displayed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Faults(Vec<Fault>);

impl Faults {
    /// One after the other, in the order of the manual.
    pub fn iter(&self) -> impl Iterator<Item = &Fault> {
        self.0.iter()
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.0.iter().enumerate() {
            if index > 0 {
                out.write_str("\n")?;
            }
            fault.fmt(out)?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}

/// What [`load`] or [`reload`] found.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The settings.
    pub settings: Settings,
    /// The env file that was read, if there was one.
    pub file: Option<PathBuf>,
    /// What an operator may want to know and the settings do not suffer from, such as a misspelt name.
    pub warnings: Vec<String>,
    /// Settings that have changed and do not hold before a restart.
    pub need_restart: Vec<&'static str>,
}

const DEFAULT_FILES: [&str; 2] = ["lavaproxy.env", ".env"];

/// The settings from the process environment, which wins, and from `env_file`, else `./lavaproxy.env`, else `./.env`.
///
/// # Errors
/// All faults at once: of the settings, and of the file when it cannot be read or parsed. That neither of the two
/// default files exists is none.
pub fn load(env_file: Option<&Path>) -> Result<Loaded, Faults> {
    load_from(|name| std::env::var_os(name), env_file, &DEFAULT_FILES.map(Path::new), None)
}

/// The same again, while the doors stay where `present` has them.
///
/// # Errors
/// All faults at once, also those that the new settings would have only with the doors as they are.
pub fn reload(env_file: Option<&Path>, present: &Settings) -> Result<Loaded, Faults> {
    load_from(|name| std::env::var_os(name), env_file, &DEFAULT_FILES.map(Path::new), Some(present))
}

fn load_from(
    environment: impl Fn(&str) -> Option<OsString>,
    env_file: Option<&Path>,
    default_files: &[&Path],
    present: Option<&Settings>,
) -> Result<Loaded, Faults> {
    let file = file::find(env_file, default_files).map_err(|fault| Faults(vec![fault]))?;
    let lookup =
        |name: &str| environment(name).or_else(|| file.values.get(name).map(|value| OsString::from(value.as_str())));
    let outcome = Settings::from_lookup(lookup).and_then(|settings| match present {
        None => Ok((settings, Vec::new())),
        Some(present) => settings.with_doors_of(present, lookup),
    });
    match outcome {
        Ok((settings, need_restart)) if file.faults.is_empty() => {
            let warnings = file.warnings.iter().map(Fault::to_string).collect();
            Ok(Loaded { settings, file: file.path, warnings, need_restart })
        }
        // A misspelt name is often what the other faults come from.
        outcome => {
            let of_settings = outcome.err().map_or_else(Vec::new, |faults| faults.0);
            Err(Faults([file.faults, of_settings, file.warnings].concat()))
        }
    }
}

impl Settings {
    /// The settings as `lookup` gives them by name; unset or empty is the default, but for an empty password, and
    /// for an empty node host, which turns that version off.
    ///
    /// # Errors
    /// All faults at once.
    pub fn from_lookup(lookup: impl Fn(&str) -> Option<OsString>) -> Result<Self, Faults> {
        let mut reader = Reader { lookup, faults: Vec::new() };
        let proxy = reader.listen(&PROXY_HOST, &PROXY_PORT);
        let proxy_password = reader.read(&PROXY_PASSWORD, value::password);
        let proxy_v3_port = reader.read(&PROXY_V3_PORT, value::optional(value::port));
        let proxy_v4_port = reader.read(&PROXY_V4_PORT, value::optional(value::port));
        let web = reader.listen(&WEB_HOST, &WEB_PORT);
        let web_password = reader.read(&WEB_PASSWORD, value::optional(value::password));
        let v3 = reader.node(&LAVALINK_V3_HOST, &LAVALINK_V3_PORT, &LAVALINK_V3_PASSWORD, proxy_password.as_ref());
        let v4 = reader.node(&LAVALINK_V4_HOST, &LAVALINK_V4_PORT, &LAVALINK_V4_PASSWORD, proxy_password.as_ref());
        let default_version = reader.read(&DEFAULT_VERSION, value::optional(value::version));
        let log_level = reader.log_level();
        let timeouts = reader.timeouts();
        let max_body = reader.read(&MAX_BODY, value::size);

        if let (Some(web), Some(None)) = (&web, &web_password) {
            reader.check_web(web);
        }
        let pinned = |port: Option<Option<u16>>| Some(Listen { host: proxy.as_ref()?.host.clone(), port: port?? });
        let doors: Vec<(&Setting, Listen)> = [
            (&PROXY_PORT, proxy.clone()),
            (&PROXY_V3_PORT, pinned(proxy_v3_port)),
            (&PROXY_V4_PORT, pinned(proxy_v4_port)),
            (&WEB_PORT, web.clone()),
        ]
        .into_iter()
        .filter_map(|(setting, door)| Some((setting, door?)))
        .collect();
        reader.check_doors(&doors);
        for (setting, node) in [(&LAVALINK_V3_PORT, &v3), (&LAVALINK_V4_PORT, &v4)] {
            if let Some(Some(node)) = node {
                reader.check_node(setting, node, &doors);
            }
        }
        let off = (matches!(v3, Some(None)), matches!(v4, Some(None)));
        reader.check_versions(off, default_version.flatten(), [proxy_v3_port.flatten(), proxy_v4_port.flatten()]);

        let faults = reader.faults;
        let settings = || {
            Some(Self {
                proxy: proxy?,
                proxy_password: proxy_password?,
                proxy_v3_port: proxy_v3_port?,
                proxy_v4_port: proxy_v4_port?,
                web: web?,
                web_password: web_password?,
                default_version: default_version?.unwrap_or(if off.0 { Lavalink::V4 } else { Lavalink::V3 }),
                v3: v3?,
                v4: v4?,
                log_level: log_level?,
                timeouts: timeouts?,
                max_body: max_body?,
            })
        };
        settings().filter(|_| faults.is_empty()).ok_or(Faults(faults))
    }

    /// These settings with the doors where `present` has them, and the names of the settings that would move one.
    fn with_doors_of(
        self,
        present: &Self,
        lookup: impl Fn(&str) -> Option<OsString>,
    ) -> Result<(Self, Vec<&'static str>), Faults> {
        let moved = DOOR_SETTINGS.map(|setting| setting.name).into_iter();
        let moved: Vec<_> = moved.filter(|name| self.text(name) != present.text(name)).collect();
        if moved.is_empty() {
            return Ok((self, moved));
        }
        let lookup = |name: &str| match DOOR_SETTINGS.iter().any(|setting| setting.name == name) {
            true => Some(present.text(name).into()),
            false => lookup(name),
        };
        let settings = Self::from_lookup(lookup).map_err(|Faults(faults)| {
            let until_restart =
                |fault: Fault| Fault { reason: format!("which holds until a restart: {}", fault.reason), ..fault };
            Faults(faults.into_iter().map(until_restart).collect())
        })?;
        Ok((settings, moved))
    }

    /// The node of a version, unless that version is off.
    #[must_use]
    pub fn node(&self, version: Lavalink) -> Option<&Node> {
        match version {
            Lavalink::V3 => self.v3.as_ref(),
            Lavalink::V4 => self.v4.as_ref(),
        }
    }

    /// True while the password is the one that everybody can read in the manual.
    #[must_use]
    pub fn default_password_stands(&self) -> bool {
        self.proxy_password.expose() == DEFAULT_PASSWORD
    }

    /// Every setting with the value that holds, as one would write it: secrets as `***`, empty for none.
    pub fn describe(&self) -> impl Iterator<Item = (&'static str, String)> + '_ {
        SETTINGS.iter().map(|setting| (setting.name, self.text(setting.name)))
    }

    fn text(&self, name: &str) -> String {
        fn or_none(value: Option<impl fmt::Display>) -> String {
            value.map_or_else(String::new, |value| value.to_string())
        }
        let (v3, v4, timeouts) = (self.v3.as_ref(), self.v4.as_ref(), &self.timeouts);
        match name {
            "PROXY_HOST" => self.proxy.host.clone(),
            "PROXY_PORT" => self.proxy.port.to_string(),
            "PROXY_PASSWORD" => self.proxy_password.to_string(),
            "PROXY_V3_PORT" => or_none(self.proxy_v3_port),
            "PROXY_V4_PORT" => or_none(self.proxy_v4_port),
            "WEB_HOST" => self.web.host.clone(),
            "WEB_PORT" => self.web.port.to_string(),
            "WEB_PASSWORD" => or_none(self.web_password.as_ref()),
            "LAVALINK_V3_HOST" => or_none(v3.map(|node| &node.host)),
            "LAVALINK_V3_PORT" => or_none(v3.map(|node| node.port)),
            "LAVALINK_V3_PASSWORD" => or_none(v3.map(|node| &node.password)),
            "LAVALINK_V4_HOST" => or_none(v4.map(|node| &node.host)),
            "LAVALINK_V4_PORT" => or_none(v4.map(|node| node.port)),
            "LAVALINK_V4_PASSWORD" => or_none(v4.map(|node| &node.password)),
            "DEFAULT_VERSION" => self.default_version.to_string(),
            "LOG_LEVEL" => self.log_level.clone(),
            "HEAD_TIMEOUT" => value::duration_text(timeouts.head),
            "KEEPALIVE_TIMEOUT" => value::duration_text(timeouts.keepalive),
            "CONNECT_TIMEOUT" => value::duration_text(timeouts.connect),
            "RESPONSE_TIMEOUT" => value::duration_text(timeouts.response),
            "DRAIN_TIMEOUT" => value::duration_text(timeouts.drain),
            "MAX_BODY" => value::size_text(self.max_body),
            _ => String::new(),
        }
    }
}

/// Reads one setting after the other and keeps what is wrong with them.
///
/// Its methods return `None` after a fault, so that what depends on a faulty setting is not blamed as well.
struct Reader<F> {
    lookup: F,
    faults: Vec<Fault>,
}

impl<F: Fn(&str) -> Option<OsString>> Reader<F> {
    fn read<T>(&mut self, setting: &Setting, parse: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        let raw = (self.lookup)(setting.name)
            .filter(|raw| setting.empty_counts || !raw.is_empty())
            .unwrap_or_else(|| setting.default.into());
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

    fn fault(&mut self, setting: &Setting, value: &str, reason: String) {
        const MAX_SHOWN: usize = 100;
        // An `@` in a host is what stands behind `user:password`.
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

    fn listen(&mut self, host: &Setting, port: &Setting) -> Option<Listen> {
        let host = self.read(host, value::host);
        let port = self.read(port, value::port);
        Some(Listen { host: host?, port: port? })
    }

    /// `Some(None)` for a version that is off.
    fn node(
        &mut self,
        host: &Setting,
        port: &Setting,
        password: &Setting,
        fallback: Option<&Secret>,
    ) -> Option<Option<Node>> {
        let host = self.read(host, value::optional(value::host));
        let port = self.read(port, value::node_port);
        let password = self.read(password, value::optional(value::password));
        let Some(host) = host? else {
            return Some(None);
        };
        // Without a fallback there is a fault already, and this placeholder goes nowhere.
        let password = password?.or_else(|| fallback.cloned()).unwrap_or_else(|| Secret::new(String::new()));
        Some(Some(Node { host, port: port?, password }))
    }

    fn log_level(&mut self) -> Option<String> {
        let named = (self.lookup)(LOG_LEVEL.name).is_some_and(|level| !level.is_empty());
        self.read(if named { &LOG_LEVEL } else { &RUST_LOG }, value::log_level)
    }

    fn timeouts(&mut self) -> Option<Timeouts> {
        let head = self.read(&HEAD_TIMEOUT, value::timeout);
        let keepalive = self.read(&KEEPALIVE_TIMEOUT, value::timeout);
        let connect = self.read(&CONNECT_TIMEOUT, value::timeout);
        let response = self.read(&RESPONSE_TIMEOUT, value::timeout);
        let drain = self.read(&DRAIN_TIMEOUT, value::duration);
        Some(Timeouts { head: head?, keepalive: keepalive?, connect: connect?, response: response?, drain: drain? })
    }
}
