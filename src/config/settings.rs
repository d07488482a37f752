//! The values of the settings, and how they are read and checked together.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::names::{
    self, ACCOUNTS_FILE, DEFAULT_PASSWORD, DEFAULT_VERSION, FAILOVER_AFTER, HEALTH_INTERVAL, LISTENER_SETTINGS,
    LOAD_RETRY, MAX_BODY, PROXY_HOST, PROXY_PASSWORD, PROXY_PORT, PROXY_PROTOCOL, PROXY_V3_PORT, PROXY_V4_PORT,
    STATE_DIR, STATUS_PAGE, Setting, TRUSTED_PROXIES, WEB_HOST, WEB_PASSWORD, WEB_PORT,
};
use super::reader::Reader;
use super::{Account, Fault, Faults, Lavalink, LimitSettings, Networks, Node, PerVersion, Secret, value};

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

pub(super) fn write_authority(out: &mut fmt::Formatter<'_>, host: &str, port: u16) -> fmt::Result {
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

/// How sessions are taken over from nodes that are lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TakeoverSettings {
    /// False when no session is taken over, and nothing is kept of any.
    pub on: bool,
    /// The longest time until another node has a session.
    pub timeout: Duration,
    /// For what is kept of all sessions, in bytes; never 0.
    pub memory: u64,
    /// How many sessions of a node that drains are moved in a second; never 0.
    pub move_rate: usize,
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
    pub trusted_proxies: Networks,
    /// The `web` listener.
    pub web: Listen,
    /// The password of the web pages; always set when `web` is reachable from other machines.
    pub web_password: Option<Secret>,
    /// True when `/status` needs no password.
    pub status_page: bool,
    /// The nodes of each version, in the order of the settings; none for a version that is off.
    pub nodes: PerVersion<Vec<Node>>,
    /// What a node without a password of its own is sent.
    pub(super) node_passwords: PerVersion<Secret>,
    /// For requests that name no version; it always has a node.
    pub default_version: Lavalink,
    /// Path prefixes that belong to a version though they do not name one. No prefix is below one of the other version.
    pub paths: PerVersion<Vec<String>>,
    /// From one check of a node to the next.
    pub health_interval: Duration,
    /// How long a node may be down before its tunnels are closed; `None` to leave them open.
    pub failover_after: Option<Duration>,
    /// True to repeat a load that failed on one node on another.
    pub load_retry: bool,
    /// A filter that `env_logger` understands.
    pub log_level: String,
    /// Every timeout.
    pub timeouts: Timeouts,
    /// The largest request body, in bytes; never 0.
    pub max_body: u64,
    /// How much clients may use, and which of them.
    pub limits: LimitSettings,
    /// The file with the accounts.
    pub accounts_file: Option<PathBuf>,
    /// The accounts of that file. Only [`load`](super::load) and [`reload`](super::reload) read it.
    pub accounts: Vec<Account>,
    /// The folder for the state that outlasts the process.
    pub state_dir: Option<PathBuf>,
    /// What happens to sessions whose node is lost.
    pub takeover: TakeoverSettings,
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
        let ports = PerVersion::new(|version| reader.port_of_listener(version));
        let [proxy_protocol, status_page] = [&PROXY_PROTOCOL, &STATUS_PAGE].map(|set| reader.read(set, value::switch));
        let trusted_proxies = reader.read(&TRUSTED_PROXIES, Networks::parse);
        let web = reader.listen(&WEB_HOST, &WEB_PORT);
        let web_password = reader.read(&WEB_PASSWORD, value::optional(value::password));
        let (v3, v3_password) = reader.nodes(Lavalink::V3, proxy_password.as_ref(), None);
        let (v4, v4_password) = reader.nodes(Lavalink::V4, proxy_password.as_ref(), v3.as_deref());
        let default_version = reader.read(&DEFAULT_VERSION, value::optional(value::version));
        let paths = PerVersion::new(|version| reader.read(&names::of(version).paths, value::paths));
        let health_interval = reader.read(&HEALTH_INTERVAL, value::timeout);
        let failover_after = reader.read(&FAILOVER_AFTER, value::duration);
        let load_retry = reader.read(&LOAD_RETRY, value::switch);
        let (log_level, timeouts) = (reader.log_level(), reader.timeouts());
        let max_body = reader.read(&MAX_BODY, value::size);
        let limits = reader.limits();
        let accounts_file = reader.read(&ACCOUNTS_FILE, value::optional(value::file));
        let state_dir = reader.state_dir();
        let takeover = reader.takeover();
        reader.check_proxy_protocol(proxy_protocol, trusted_proxies.as_ref());
        reader.check_limits(limits.as_ref(), trusted_proxies.as_ref());
        reader.check_web(web.as_ref(), web_password.as_ref());
        let pinned = PerVersion { v3: ports.v3.flatten(), v4: ports.v4.flatten() };
        let listeners = listeners(proxy.as_ref(), &pinned, web.as_ref());
        reader.check_listeners(&listeners);
        reader.check_nodes(Lavalink::V3, v3.as_deref().unwrap_or_default(), &listeners);
        reader.check_nodes(Lavalink::V4, v4.as_deref().unwrap_or_default(), &listeners);
        let is_off = PerVersion { v3: is_off(v3.as_deref()), v4: is_off(v4.as_deref()) };
        reader.check_versions(&is_off, default_version.flatten(), &pinned, &paths);
        reader.check_paths(paths.v3.as_deref().unwrap_or_default(), paths.v4.as_deref().unwrap_or_default());

        Some(Self {
            proxy: proxy?,
            proxy_password: proxy_password?,
            proxy_v3_port: ports.v3?,
            proxy_v4_port: ports.v4?,
            proxy_protocol: proxy_protocol?,
            trusted_proxies: trusted_proxies?,
            web: web?,
            web_password: web_password?,
            status_page: status_page?,
            nodes: PerVersion { v3: v3?, v4: v4? },
            node_passwords: PerVersion { v3: v3_password?, v4: v4_password? },
            default_version: default_version?.unwrap_or(if is_off.v3 { Lavalink::V4 } else { Lavalink::V3 }),
            paths: PerVersion { v3: paths.v3?, v4: paths.v4? },
            health_interval: health_interval?,
            failover_after: failover_after.map(|after| (!after.is_zero()).then_some(after))?,
            load_retry: load_retry?,
            log_level: log_level?,
            timeouts: timeouts?,
            max_body: max_body?,
            limits: limits?,
            accounts_file: accounts_file?,
            accounts: Vec::new(),
            state_dir: state_dir?,
            takeover: takeover?,
        })
    }

    /// These settings with the listeners and the state's folder of `present`, and the names of the settings that would
    /// move one of them.
    pub(super) fn with_fixed_of(
        self,
        present: &Self,
        lookup: impl Fn(&str) -> Option<OsString>,
    ) -> Result<(Self, Vec<&'static str>), Faults> {
        let is_of_a_listener = |name: &str| LISTENER_SETTINGS.iter().any(|setting| setting.name == name);
        let is_moved = |name: &&str| self.value(name) != present.value(name);
        let fixed = LISTENER_SETTINGS.iter().chain([&STATE_DIR]).map(|setting| setting.name);
        let moved: Vec<_> = fixed.filter(is_moved).collect();
        if moved.is_empty() {
            return Ok((self, moved));
        }
        let lookup = |name: &str| match is_of_a_listener(name) {
            true => Some(present.value(name).to_string().into()),
            false => lookup(name),
        };
        let settings = Self::from_lookup(lookup).map_err(|Faults(faults)| {
            let until_restart =
                |fault: Fault| Fault { reason: format!("which holds until a restart: {}", fault.reason), ..fault };
            Faults(faults.into_iter().map(until_restart).collect())
        })?;
        Ok((Self { state_dir: present.state_dir.clone(), ..settings }, moved))
    }

    /// The nodes of a version, none when it is off.
    #[must_use]
    pub fn nodes(&self, version: Lavalink) -> &[Node] {
        self.nodes.get(version)
    }

    /// True while the password is the one in the manual.
    #[must_use]
    pub fn default_password_stands(&self) -> bool {
        self.proxy_password.expose() == DEFAULT_PASSWORD
    }

    /// Every listener, with the setting that has its port.
    pub(super) fn listeners(&self) -> Vec<(&'static Setting<'static>, Listen)> {
        let pinned = PerVersion { v3: self.proxy_v3_port, v4: self.proxy_v4_port };
        listeners(Some(&self.proxy), &pinned, Some(&self.web))
    }
}

fn is_off(nodes: Option<&[Node]>) -> bool {
    nodes.is_some_and(<[Node]>::is_empty)
}

/// Every listener that is known.
fn listeners(
    proxy: Option<&Listen>,
    pinned: &PerVersion<Option<u16>>,
    web: Option<&Listen>,
) -> Vec<(&'static Setting<'static>, Listen)> {
    let at_proxy_host = |port: Option<u16>| Some(Listen { host: proxy?.host.clone(), port: port? });
    [
        (&PROXY_PORT, proxy.cloned()),
        (&PROXY_V3_PORT, at_proxy_host(pinned.v3)),
        (&PROXY_V4_PORT, at_proxy_host(pinned.v4)),
        (&WEB_PORT, web.cloned()),
    ]
    .into_iter()
    .filter_map(|(setting, listen)| Some((setting, listen?)))
    .collect()
}
