//! Settings that contradict each other. Pure: it compares values, and resolves no names.

use std::ffi::OsString;
use std::net::IpAddr;

use super::names::{
    DEFAULT_VERSION, LAVALINK_V3_HOST, PROXY_PROTOCOL, PROXY_V3_PORT, PROXY_V4_PORT, Setting, WEB_HOST,
};
use super::reader::Reader;
use super::{Lavalink, Listen, Node, Secret, Trusted};

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
    pub fn check_proxy_protocol(&mut self, on: Option<bool>, trusted: Option<&Trusted>) {
        if on == Some(true) && trusted.is_some_and(Trusted::is_empty) {
            let reason = "no address is trusted to send a PROXY header \
                          (set TRUSTED_PROXIES to the addresses of your fronts, or set PROXY_PROTOCOL=off)";
            self.fault(&PROXY_PROTOCOL, "on", reason.to_owned());
        }
    }

    /// No two listeners share a port.
    pub fn check_listeners(&mut self, listeners: &[(&Setting, Listen)]) {
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

    /// A node is not one of our own listeners.
    pub fn check_node(&mut self, setting: &Setting, node: &Node, listeners: &[(&Setting, Listen)]) {
        for (other, listen) in listeners {
            if node.port == listen.port && Host::of(&node.host).leads_to(&Host::of(&listen.host)) {
                let reason = format!(
                    "{node} is lavaproxy itself, by {}, so requests would go round in circles \
                     (set the port on which Lavalink listens)",
                    other.name
                );
                self.fault(setting, &node.port.to_string(), reason);
            }
        }
    }

    /// At least one version has a node, and no setting needs a version that has none. `off` and `pinned` have v3 first.
    pub fn check_versions(&mut self, off: [bool; 2], default: Option<Lavalink>, pinned: [Option<u16>; 2]) {
        if off == [true, true] {
            let reason = "LAVALINK_V4_HOST is empty as well, so there is no node to connect to (set one of the two)";
            self.fault(&LAVALINK_V3_HOST, "", reason.to_owned());
            return;
        }
        for (version, is_off, pinned_setting, pinned_port) in
            [(Lavalink::V3, off[0], &PROXY_V3_PORT, pinned[0]), (Lavalink::V4, off[1], &PROXY_V4_PORT, pinned[1])]
        {
            if !is_off {
                continue;
            }
            let host = format!("LAVALINK_{}_HOST", version.name().to_ascii_uppercase());
            if let Some(port) = pinned_port {
                let reason = format!("{version} is off, since {host} is empty (set {host}, or remove this port)");
                self.fault(pinned_setting, &port.to_string(), reason);
            }
            if default == Some(version) {
                let reason = format!("{version} is off, since {host} is empty (set {host}, or name the other version)");
                self.fault(&DEFAULT_VERSION, version.name(), reason);
            }
        }
    }
}

/// A host as far as it is known without resolving names.
#[derive(PartialEq, Eq)]
enum Host {
    Ip(IpAddr),
    Localhost,
    Name(String),
}

impl Host {
    fn of(host: &str) -> Self {
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
