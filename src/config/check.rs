//! What settings must not say together. Pure: it looks at values only, and resolves no names.

use std::ffi::OsString;
use std::net::IpAddr;

use super::{
    DEFAULT_VERSION, LAVALINK_V3_HOST, Lavalink, Listen, Node, PROXY_PROTOCOL, PROXY_V3_PORT, PROXY_V4_PORT, Reader,
    Setting, Trusted, WEB_HOST,
};

impl<F: Fn(&str) -> Option<OsString>> Reader<F> {
    /// The web pages show who is connected from where.
    pub fn check_web(&mut self, web: &Listen) {
        let loopback = match Place::of(&web.host) {
            Place::Localhost => true,
            Place::Ip(address) => address.is_loopback(),
            Place::Name(_) => false,
        };
        if !loopback {
            let reason = "the web pages would be open to other machines without a password \
                          (set WEB_PASSWORD, or set WEB_HOST=127.0.0.1)";
            self.fault(&WEB_HOST, &web.host, reason.to_owned());
        }
    }

    /// A PROXY header is taken from trusted fronts alone.
    pub fn check_proxy_protocol(&mut self, on: Option<bool>, trusted: Option<&Trusted>) {
        if on == Some(true) && trusted.is_some_and(Trusted::is_empty) {
            let reason = "nobody is trusted to send a PROXY header \
                          (set TRUSTED_PROXIES to the addresses of your fronts, or set PROXY_PROTOCOL=off)";
            self.fault(&PROXY_PROTOCOL, "on", reason.to_owned());
        }
    }

    /// No two doors share a port.
    pub fn check_doors(&mut self, doors: &[(&Setting, Listen)]) {
        for (index, (setting, door)) in doors.iter().enumerate() {
            for (other, taken) in &doors[..index] {
                if door.port == taken.port && door.port != 0 && Place::of(&door.host).meets(&Place::of(&taken.host)) {
                    let reason = format!("{} listens on {taken} already (give each its own port)", other.name);
                    self.fault(setting, &door.port.to_string(), reason);
                }
            }
        }
    }

    /// A node is not one of our own doors.
    pub fn check_node(&mut self, setting: &Setting, node: &Node, doors: &[(&Setting, Listen)]) {
        for (other, door) in doors {
            if node.port == door.port && Place::of(&node.host).leads_to(&Place::of(&door.host)) {
                let reason = format!(
                    "{node} is this proxy itself, by {}, and requests would go round in circles \
                     (name the port on which Lavalink listens)",
                    other.name
                );
                self.fault(setting, &node.port.to_string(), reason);
            }
        }
    }

    /// There is a node, and nothing depends on a version that has none; `off` is of v3 and v4.
    pub fn check_versions(&mut self, off: (bool, bool), default: Option<Lavalink>, pinned: [Option<u16>; 2]) {
        if off == (true, true) {
            let reason = "LAVALINK_V4_HOST is empty as well, and nothing is left to connect to (set one of the two)";
            self.fault(&LAVALINK_V3_HOST, "", reason.to_owned());
            return;
        }
        for (version, is_off, pinned_setting, pinned_port) in
            [(Lavalink::V3, off.0, &PROXY_V3_PORT, pinned[0]), (Lavalink::V4, off.1, &PROXY_V4_PORT, pinned[1])]
        {
            if !is_off {
                continue;
            }
            let host = format!("LAVALINK_{}_HOST", version.name().to_ascii_uppercase());
            if let Some(port) = pinned_port {
                let reason = format!("{version} is off, since {host} is empty (set {host}, or leave this port away)");
                self.fault(pinned_setting, &port.to_string(), reason);
            }
            if default == Some(version) {
                let reason = format!("{version} is off, since {host} is empty (set {host}, or name the other version)");
                self.fault(&DEFAULT_VERSION, version.name(), reason);
            }
        }
    }
}

/// What a host says about the place it stands for, without resolving names.
#[derive(PartialEq, Eq)]
enum Place {
    Ip(IpAddr),
    Localhost,
    Name(String),
}

impl Place {
    fn of(host: &str) -> Self {
        if let Ok(address) = host.parse::<IpAddr>() {
            return Self::Ip(address.to_canonical());
        }
        match host.trim_end_matches('.').to_ascii_lowercase() {
            name if name == "localhost" => Self::Localhost,
            name => Self::Name(name),
        }
    }

    /// True when one port cannot be bound in both places.
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

    /// True when a connection to this place surely arrives at a listener on `door`.
    fn leads_to(&self, door: &Self) -> bool {
        match (self, door) {
            // Connecting to the unspecified address reaches this machine.
            (Self::Ip(from), Self::Ip(to)) if from.is_unspecified() => to.is_loopback() || to.is_unspecified(),
            (Self::Ip(from), Self::Ip(to)) => from == to || (from.is_loopback() && to.is_unspecified()),
            (Self::Localhost, Self::Ip(address)) | (Self::Ip(address), Self::Localhost) => {
                address.is_loopback() || address.is_unspecified()
            }
            _ => self == door,
        }
    }
}
