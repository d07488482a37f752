//! What limits and bans count a client by, as one subscriber has all the addresses of an IPv6 /64. Pure.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::config::network_text;

/// The bits of an IPv6 address that count.
const V6_BITS: u8 = 64;

/// One IPv4 address, or the /64 of an IPv6 address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Prefix {
    /// An IPv4 address, also one that was mapped into IPv6.
    V4(Ipv4Addr),
    /// The first 64 bits of an IPv6 address.
    V6(u64),
}

impl Prefix {
    /// The prefix of an address.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address),
            IpAddr::V6(address) => {
                let [a, b, c, d, e, f, g, h, ..] = address.octets();
                Self::V6(u64::from_be_bytes([a, b, c, d, e, f, g, h]))
            }
        }
    }

    /// All its addresses.
    #[must_use]
    pub fn network(self) -> IpNet {
        match self {
            Self::V4(address) => IpNet::V4(Ipv4Net::from(address)),
            Self::V6(bits) => {
                let address = Ipv6Addr::from(u128::from(bits) << V6_BITS);
                IpNet::V6(Ipv6Net::new(address, V6_BITS).unwrap_or_else(|_| Ipv6Net::from(address)))
            }
        }
    }

    /// The prefix whose addresses are this network, if it is one.
    #[must_use]
    pub fn of_network(network: IpNet) -> Option<Self> {
        let prefix = Self::of(network.addr());
        (prefix.network() == network).then_some(prefix)
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&network_text(&self.network()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn prefix(address: &str) -> Prefix {
        Prefix::of(address.parse().unwrap())
    }

    #[test]
    fn an_ipv4_address_stands_alone_and_an_ipv6_address_for_its_64() {
        for (address, written) in [
            ("203.0.113.7", "203.0.113.7"),
            ("::ffff:203.0.113.7", "203.0.113.7"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
            ("2001:db8:1:2::", "2001:db8:1:2::/64"),
            ("::1", "::/64"),
            ("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "ffff:ffff:ffff:ffff::/64"),
        ] {
            assert_eq!(prefix(address).to_string(), written);
            assert!(prefix(address).network().contains(&address.parse::<IpAddr>().unwrap().to_canonical()));
        }
        assert_eq!(prefix("2001:db8::1"), prefix("2001:db8::ffff:ffff:ffff:ffff"));
        assert_ne!(prefix("2001:db8::1"), prefix("2001:db8:0:1::1"));
        assert_ne!(prefix("203.0.113.7"), prefix("203.0.113.8"));
    }

    #[test]
    fn a_network_of_another_length_is_no_prefix() {
        let of = |network: &str| Prefix::of_network(crate::config::network(network).unwrap());
        assert_eq!(of("203.0.113.7"), Some(prefix("203.0.113.7")));
        assert_eq!(of("2001:db8::/64"), Some(prefix("2001:db8::1")));
        for network in ["203.0.113.0/24", "2001:db8::/63", "2001:db8::/65", "2001:db8::1"] {
            assert_eq!(of(network), None, "{network}");
        }
    }
}
