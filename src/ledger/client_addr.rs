//! The address of a client. It may come from the socket or from a front, and a front may give no port.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use serde::{Serialize, Serializer};

/// The address of a client, and its port where that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientAddr {
    /// An IPv4-mapped IPv6 address is kept as the IPv4 address.
    pub address: IpAddr,
    /// `None` where a front gave the address alone.
    pub port: Option<u16>,
}

impl ClientAddr {
    /// An address, and its port where that is known.
    pub fn new(address: IpAddr, port: Option<u16>) -> Self {
        Self { address: address.to_canonical(), port }
    }
}

impl From<SocketAddr> for ClientAddr {
    fn from(client: SocketAddr) -> Self {
        Self::new(client.ip(), Some(client.port()))
    }
}

impl fmt::Display for ClientAddr {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => SocketAddr::new(self.address, port).fmt(out),
            None => self.address.fmt(out),
        }
    }
}

impl Serialize for ClientAddr {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn an_address_is_written_with_its_port_where_that_is_known() {
        for (client, written) in [
            (ClientAddr::from("203.0.113.7:80".parse::<SocketAddr>().unwrap()), "203.0.113.7:80"),
            (ClientAddr::from("[::ffff:203.0.113.7]:80".parse::<SocketAddr>().unwrap()), "203.0.113.7:80"),
            (ClientAddr::from("[2001:db8::7]:80".parse::<SocketAddr>().unwrap()), "[2001:db8::7]:80"),
            (ClientAddr::new("203.0.113.7".parse().unwrap(), None), "203.0.113.7"),
            (ClientAddr::new("::ffff:203.0.113.7".parse().unwrap(), None), "203.0.113.7"),
            (ClientAddr::new("2001:db8::7".parse().unwrap(), None), "2001:db8::7"),
        ] {
            assert_eq!(client.to_string(), written);
            assert_eq!(serde_json::to_string(&client).unwrap(), format!("\"{written}\""));
        }
    }
}
