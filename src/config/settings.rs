//! The values of the settings, and how they are read and checked together.

use std::ffi::OsString;
use std::fmt;
use std::time::Duration;

use super::names::{
    DEFAULT_PASSWORD, DEFAULT_VERSION, LAVALINK_V3_HOST, LAVALINK_V3_PASSWORD, LAVALINK_V3_PORT, LAVALINK_V4_HOST,
    LAVALINK_V4_PASSWORD, LAVALINK_V4_PORT, LISTENER_SETTINGS, MAX_BODY, PROXY_HOST, PROXY_PASSWORD, PROXY_PORT,
    PROXY_PROTOCOL, PROXY_V3_PORT, PROXY_V4_PORT, Setting, TRUSTED_PROXIES, WEB_HOST, WEB_PASSWORD, WEB_PORT,
};
use super::reader::Reader;
use super::{Fault, Faults, Lavalink, Secret, Trusted, value};

/// Where a listener listens.
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

/// The longest that each phase of a connection may take.
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

/// The value of every setting; each was checked, alone and together with the others.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The `proxy` listener.
    pub proxy: Listen,
    /// What clients send as `Authorization`; never empty.
    pub proxy_password: Secret,
    /// The port of the listener `proxy-v3`, on the host of `proxy`.
    pub proxy_v3_port: Option<u16>,
    /// The port of the listener `proxy-v4`, on the host of `proxy`.
    pub proxy_v4_port: Option<u16>,
    /// True when connections from `trusted_proxies` begin with a PROXY header; `trusted_proxies` is then never empty.
    pub proxy_protocol: bool,
    /// The fronts that may name the client of a request.
    pub trusted_proxies: Trusted,
    /// The `web` listener.
    pub web: Listen,
    /// The password of the web pages; always set when `web` is reachable from other machines.
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

impl Settings {
    /// The settings as `lookup` gives them by name. An unset or empty setting has its default, except for an empty
    /// password, and for an empty node host, which turns that version off.
    ///
    /// # Errors
    /// All faults at once.
    pub fn from_lookup(lookup: impl Fn(&str) -> Option<OsString>) -> Result<Self, Faults> {
        let mut reader = Reader::new(lookup);
        let settings = Self::read(&mut reader);
        settings.filter(|_| reader.faults.is_empty()).ok_or(Faults(reader.faults))
    }

    /// Reads every setting before the first fault makes it return, so that all faults are found.
    fn read(reader: &mut Reader<impl Fn(&str) -> Option<OsString>>) -> Option<Self> {
        let proxy = reader.listen(&PROXY_HOST, &PROXY_PORT);
        let proxy_password = reader.read(&PROXY_PASSWORD, value::password);
        let proxy_v3_port = reader.read(&PROXY_V3_PORT, value::optional(value::port));
        let proxy_v4_port = reader.read(&PROXY_V4_PORT, value::optional(value::port));
        let proxy_protocol = reader.read(&PROXY_PROTOCOL, value::switch);
        let trusted_proxies = reader.read(&TRUSTED_PROXIES, Trusted::parse);
        let web = reader.listen(&WEB_HOST, &WEB_PORT);
        let web_password = reader.read(&WEB_PASSWORD, value::optional(value::password));
        let v3 = reader.node(&LAVALINK_V3_HOST, &LAVALINK_V3_PORT, &LAVALINK_V3_PASSWORD, proxy_password.as_ref());
        let v4 = reader.node(&LAVALINK_V4_HOST, &LAVALINK_V4_PORT, &LAVALINK_V4_PASSWORD, proxy_password.as_ref());
        let default_version = reader.read(&DEFAULT_VERSION, value::optional(value::version));
        let log_level = reader.log_level();
        let timeouts = reader.timeouts();
        let max_body = reader.read(&MAX_BODY, value::size);

        reader.check_proxy_protocol(proxy_protocol, trusted_proxies.as_ref());
        reader.check_web(web.as_ref(), web_password.as_ref());
        let pinned = [proxy_v3_port.flatten(), proxy_v4_port.flatten()];
        let listeners = listeners(proxy.as_ref(), pinned, web.as_ref());
        reader.check_listeners(&listeners);
        for (setting, node) in [(&LAVALINK_V3_PORT, &v3), (&LAVALINK_V4_PORT, &v4)] {
            if let Some(Some(node)) = node {
                reader.check_node(setting, node, &listeners);
            }
        }
        let v3_is_off = matches!(v3, Some(None));
        reader.check_versions([v3_is_off, matches!(v4, Some(None))], default_version.flatten(), pinned);

        Some(Self {
            proxy: proxy?,
            proxy_password: proxy_password?,
            proxy_v3_port: proxy_v3_port?,
            proxy_v4_port: proxy_v4_port?,
            proxy_protocol: proxy_protocol?,
            trusted_proxies: trusted_proxies?,
            web: web?,
            web_password: web_password?,
            default_version: default_version?.unwrap_or(if v3_is_off { Lavalink::V4 } else { Lavalink::V3 }),
            v3: v3?,
            v4: v4?,
            log_level: log_level?,
            timeouts: timeouts?,
            max_body: max_body?,
        })
    }

    /// These settings with the listeners of `present`, and the names of the settings that would move a listener.
    pub(super) fn with_listeners_of(
        self,
        present: &Self,
        lookup: impl Fn(&str) -> Option<OsString>,
    ) -> Result<(Self, Vec<&'static str>), Faults> {
        let is_of_a_listener = |name: &str| LISTENER_SETTINGS.iter().any(|setting| setting.name == name);
        let mut moved = self.differences(present);
        moved.retain(|name| is_of_a_listener(name));
        if moved.is_empty() {
            return Ok((self, moved));
        }
        let lookup = |name: &str| match is_of_a_listener(name) {
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

    /// True while the password is the one in the manual.
    #[must_use]
    pub fn default_password_stands(&self) -> bool {
        self.proxy_password.expose() == DEFAULT_PASSWORD
    }

    /// Every listener, with the setting that has its port.
    pub(super) fn listeners(&self) -> Vec<(&'static Setting, Listen)> {
        listeners(Some(&self.proxy), [self.proxy_v3_port, self.proxy_v4_port], Some(&self.web))
    }
}

/// Every listener that is known; `pinned` has the ports for v3 and v4.
fn listeners(
    proxy: Option<&Listen>,
    pinned: [Option<u16>; 2],
    web: Option<&Listen>,
) -> Vec<(&'static Setting, Listen)> {
    let at_proxy_host = |port: Option<u16>| Some(Listen { host: proxy?.host.clone(), port: port? });
    let [v3, v4] = pinned.map(at_proxy_host);
    [(&PROXY_PORT, proxy.cloned()), (&PROXY_V3_PORT, v3), (&PROXY_V4_PORT, v4), (&WEB_PORT, web.cloned())]
        .into_iter()
        .filter_map(|(setting, listen)| Some((setting, listen?)))
        .collect()
}
