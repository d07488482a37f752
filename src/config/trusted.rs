//! The fronts that are trusted to name a request's client. Pure: it resolves no names.

use std::fmt;
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net};

/// Networks of fronts. An IPv4 address and the same one mapped into IPv6 are equal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trusted(Vec<IpNet>);

impl Trusted {
    /// Addresses and networks (`10.0.0.0/8`) with commas between; an empty text trusts no address.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        text.split(',').map(|item| network(item.trim())).collect::<Result<_, _>>().map(Self)
    }

    /// True when no address is trusted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// True for the address of a front.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }
}

impl fmt::Display for Trusted {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, network) in self.0.iter().enumerate() {
            if index > 0 {
                out.write_str(",")?;
            }
            match network.prefix_len() == network.max_prefix_len() {
                true => write!(out, "{}", network.addr())?,
                false => write!(out, "{network}")?,
            }
        }
        Ok(())
    }
}

fn network(text: &str) -> Result<IpNet, String> {
    let network = match text.parse::<IpAddr>() {
        Ok(address) => IpNet::from(address),
        Err(_) => text.parse::<IpNet>().map_err(|_| {
            "it has an entry that is neither an address nor a network \
             (write such as 10.0.0.5 or 10.0.0.0/8, with commas between; names are not looked up)"
                .to_owned()
        })?,
    };
    if network.addr() != network.network() {
        return Err(format!("it has a network with bits after its prefix (write {} for it)", network.trunc()));
    }
    Ok(unmapped(network))
}

/// The IPv4 network that a network of mapped addresses stands for.
fn unmapped(network: IpNet) -> IpNet {
    let mapped = match network.addr().to_canonical() {
        IpAddr::V4(address) if network.addr().is_ipv6() => Some(address),
        _ => None,
    };
    let prefix = network.prefix_len().checked_sub(96);
    mapped.zip(prefix).and_then(|(address, prefix)| Ipv4Net::new(address, prefix).ok()).map_or(network, IpNet::V4)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn trusted(text: &str) -> Trusted {
        Trusted::parse(text).unwrap_or_else(|reason| panic!("{text}: {reason}"))
    }

    #[test]
    fn addresses_and_networks_are_read_and_written() {
        for (text, written) in [
            ("", ""),
            ("127.0.0.1", "127.0.0.1"),
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("10.0.0.1/32", "10.0.0.1"),
            ("::1", "::1"),
            ("fd00::/8", "fd00::/8"),
            ("2001:DB8:0::7", "2001:db8::7"),
            ("10.0.0.0/8, ::1 ,192.0.2.7", "10.0.0.0/8,::1,192.0.2.7"),
            ("0.0.0.0/0,::/0", "0.0.0.0/0,::/0"),
            ("::ffff:10.0.0.1", "10.0.0.1"),
            ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
        ] {
            assert_eq!(trusted(text).to_string(), written, "{text}");
            assert_eq!(trusted(written), trusted(text), "{text}");
        }
    }

    #[test]
    fn anything_but_a_list_of_networks_is_refused() {
        for text in [
            ",",
            "10.0.0.1,",
            "10.0.0.1,,::1",
            "10.0.0.1 ::1",
            "10.0.0.1;::1",
            "front.example",
            "localhost",
            "10.0.0.1:80",
            "[::1]",
            "10.0.0.0/33",
            "10.0.0.0/",
            "10.0.0.0/-1",
            "10.0.0/8",
            "10.0.0.0/255.0.0.0",
            "010.0.0.1",
            "::/129",
            "fe80::1%eth0",
            "*",
        ] {
            let reason = Trusted::parse(text).expect_err(text);
            assert!(reason.contains("(write such as 10.0.0.5 or 10.0.0.0/8"), "{text}: {reason}");
        }
        for (text, written) in [("10.0.0.5/8", "10.0.0.0/8"), ("::1,fd00::1/8", "fd00::/8")] {
            let reason = Trusted::parse(text).expect_err(text);
            assert!(reason.contains(&format!("(write {written} for it)")), "{text}: {reason}");
        }
    }

    #[test]
    fn a_mapped_address_is_the_same_front() {
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        let some = trusted("10.0.0.0/8,192.0.2.7,fd00::/8");
        for inside in ["10.0.0.0", "10.255.255.255", "192.0.2.7", "::ffff:10.1.2.3", "::ffff:192.0.2.7", "fd12::1"] {
            assert!(some.contains(address(inside)), "{inside}");
        }
        for outside in
            ["9.255.255.255", "11.0.0.0", "192.0.2.6", "192.0.2.8", "::10.0.0.1", "fc00::1", "::ffff:9.0.0.1"]
        {
            assert!(!some.contains(address(outside)), "{outside}");
        }
        assert!(!trusted("").contains(address("127.0.0.1")));
        // All of IPv6 is not all of IPv4.
        assert!(!trusted("::/0").contains(address("::ffff:10.0.0.1")));
        assert!(trusted("0.0.0.0/0").contains(address("::ffff:10.0.0.1")));
    }
}
