//! Settings that contradict each other. Pure: it compares values, and resolves no names.

use std::ffi::OsString;
use std::net::IpAddr;

use super::names::{
    self, ALLOWED_ADDRESSES, BLOCKED_ADDRESSES, DEFAULT_VERSION, LAVALINK_V3_HOST, LAVALINK_V3_PATHS,
    LAVALINK_V4_PATHS, MAX_CONNECTIONS_PER_ADDRESS, PROXY_PROTOCOL, Setting, WEB_HOST,
};
use super::reader::Reader;
use super::{LOOPBACK, Lavalink, LimitSettings, Listen, Networks, Node, PerAddress, PerVersion, Secret, network_text};

impl<F: Fn(&str) -> Option<OsString>> Reader<F> {
    /// The web pages show the clients' addresses, so other machines need a password for them.
    pub fn check_web(&mut self, web: Option<&Listen>, password: Option<&Option<Secret>>) {
        let (Some(web), Some(None)) = (web, password) else { return };
        let loopback = match Host::of(&web.host) {
            Host::Localhost => true,
            Host::Ip(address) => address.is_loopback(),
            Host::Name(_) => false,
        };
        if !loopback {
            let reason = "the web pages would be open to other machines without a password \
                          (set WEB_PASSWORD, or set WEB_HOST=127.0.0.1)";
            self.fault(&WEB_HOST, &web.host, reason.to_owned());
        }
    }

    /// A PROXY header is read from trusted fronts only.
    pub fn check_proxy_protocol(&mut self, on: Option<bool>, trusted: Option<&Networks>) {
        if on == Some(true) && trusted.is_some_and(Networks::is_empty) {
            let reason = "no address is trusted to send a PROXY header \
                          (set TRUSTED_PROXIES to the addresses of your fronts, or set PROXY_PROTOCOL=off)";
            self.fault(&PROXY_PROTOCOL, "on", reason.to_owned());
        }
    }

    /// Every limit and every entry of a list has an effect.
    pub fn check_limits(&mut self, limits: Option<&LimitSettings>, trusted: Option<&Networks>) {
        let (Some(limits), Some(trusted)) = (limits, trusted) else { return };
        if let (PerAddress::Number(number), Some(total)) = (limits.connections_per_address, limits.max_connections) {
            if number > total {
                let reason = format!("it is above MAX_CONNECTIONS={total} and has no effect (write less, or off)");
                self.fault(&MAX_CONNECTIONS_PER_ADDRESS, &number.to_string(), reason);
            }
        }
        for blocked in limits.blocked.iter() {
            let reason = if LOOPBACK.iter().any(|network| network.contains(blocked)) {
                "it is this machine's loopback, which is never blocked (remove it)"
            } else if trusted.iter().any(|network| network.contains(blocked)) {
                "it is in TRUSTED_PROXIES, and a front is never blocked (remove it from one of the two)"
            } else {
                continue;
            };
            self.fault(&BLOCKED_ADDRESSES, &network_text(blocked), reason.to_owned());
        }
        for allowed in limits.allowed.iter() {
            if let Some(blocked) = limits.blocked.iter().find(|network| network.contains(allowed)) {
                let reason = format!(
                    "BLOCKED_ADDRESSES has {}, so nobody is allowed here (remove one of the two)",
                    network_text(blocked)
                );
                self.fault(&ALLOWED_ADDRESSES, &network_text(allowed), reason);
            }
        }
    }

    /// No two listeners share a port.
    pub fn check_listeners(&mut self, listeners: &[(&Setting<'_>, Listen)]) {
        for (index, (setting, listen)) in listeners.iter().enumerate() {
            for (other, taken) in &listeners[..index] {
                let meet = || Host::of(&listen.host).meets(&Host::of(&taken.host));
                if listen.port == taken.port && listen.port != 0 && meet() {
                    let reason = format!("{} listens on {taken} already (give each its own port)", other.name);
                    self.fault(setting, &listen.port.to_string(), reason);
                }
            }
        }
    }

    /// No node is one of our own listeners.
    pub fn check_nodes(&mut self, version: Lavalink, nodes: &[Node], listeners: &[(&Setting<'_>, Listen)]) {
        for node in nodes {
            let leads_to = |listen: &Listen| Host::of(&node.host).leads_to(&Host::of(&listen.host));
            for (other, _) in listeners.iter().filter(|(_, listen)| listen.port == node.port && leads_to(listen)) {
                let reason = format!(
                    "{node} is lavaproxy itself, by {}, so requests would go round in circles \
                     (set the port on which Lavalink listens)",
                    other.name
                );
                match node.is_listed() {
                    true => self.fault(&names::of(version).nodes, &node.entry(), reason),
                    false => self.fault(&names::of(version).port, &node.port.to_string(), reason),
                }
            }
        }
    }

    /// No request belongs to both versions by its path.
    pub fn check_paths(&mut self, v3: &[String], v4: &[String]) {
        let is_below = |path: &str, prefix: &str| {
            path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        for path in v4 {
            if let Some(other) = v3.iter().find(|other| is_below(path, other) || is_below(other, path)) {
                let reason = format!(
                    "{} has {other}, so a request could belong to both (remove one of the two)",
                    LAVALINK_V3_PATHS.name
                );
                self.fault(&LAVALINK_V4_PATHS, path, reason);
            }
        }
    }

    /// At least one version has a node, and no setting needs a version that has none.
    pub fn check_versions(
        &mut self,
        is_off: &PerVersion<bool>,
        default: Option<Lavalink>,
        pinned: &PerVersion<Option<u16>>,
        paths: &PerVersion<Option<Vec<String>>>,
    ) {
        if is_off.v3 && is_off.v4 {
            let reason = "LAVALINK_V4_HOST is empty as well, so there is no node to connect to (set one of the two)";
            self.fault(&LAVALINK_V3_HOST, "", reason.to_owned());
            return;
        }
        for version in Lavalink::ALL.into_iter().filter(|version| *is_off.get(*version)) {
            let settings = names::of(version);
            let off = format!("{version} is off, since {0} is empty (set {0}", settings.host.name);
            if let Some(port) = pinned.get(version) {
                self.fault(&settings.listener_port, &port.to_string(), format!("{off}, or remove this port)"));
            }
            if default == Some(version) {
                self.fault(&DEFAULT_VERSION, version.name(), format!("{off}, or name the other version)"));
            }
            if let Some(paths) = paths.get(version).as_ref().filter(|paths| !paths.is_empty()) {
                self.fault(&settings.paths, &paths.join(","), format!("{off}, or remove these paths)"));
            }
        }
    }
}

/// A host as far as it is known without resolving names.
#[derive(PartialEq, Eq)]
pub enum Host {
    Ip(IpAddr),
    Localhost,
    Name(String),
}

impl Host {
    pub fn of(host: &str) -> Self {
        if let Ok(address) = host.parse::<IpAddr>() {
            return Self::Ip(address.to_canonical());
        }
        match host.trim_end_matches('.').to_ascii_lowercase() {
            name if name == "localhost" => Self::Localhost,
            name => Self::Name(name),
        }
    }

    /// True when one port cannot be bound on both hosts.
    fn meets(&self, other: &Self) -> bool {
        // A listener on `::` takes IPv4 as well.
        fn covers(wide: &IpAddr, narrow: &IpAddr) -> bool {
            wide.is_unspecified() && (wide.is_ipv6() || narrow.is_ipv4() || narrow.is_unspecified())
        }
        match (self, other) {
            (Self::Ip(one), Self::Ip(two)) => one == two || covers(one, two) || covers(two, one),
            (Self::Localhost, Self::Ip(address)) | (Self::Ip(address), Self::Localhost) => {
                address.is_loopback() || address.is_unspecified()
            }
            (Self::Name(_), Self::Ip(address)) | (Self::Ip(address), Self::Name(_)) => address.is_unspecified(),
            _ => self == other,
        }
    }

    /// True when a connection to this host certainly arrives at a listener on `listener`.
    fn leads_to(&self, listener: &Self) -> bool {
        match (self, listener) {
            // Connecting to the unspecified address reaches this machine.
            (Self::Ip(from), Self::Ip(to)) if from.is_unspecified() => to.is_loopback() || to.is_unspecified(),
            (Self::Ip(from), Self::Ip(to)) => from == to || (from.is_loopback() && to.is_unspecified()),
            (Self::Localhost, Self::Ip(address)) | (Self::Ip(address), Self::Localhost) => {
                address.is_loopback() || address.is_unspecified()
            }
            _ => self == listener,
        }
    }
}
