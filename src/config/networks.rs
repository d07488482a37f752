//! Lists of addresses and networks, such as the trusted fronts. Pure: it resolves no names.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// What every address of this machine's loopback is in.
pub const LOOPBACK: [IpNet; 2] = [
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8)),
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::LOCALHOST, 128)),
];

/// How one address or network is written.
const FORM: &str = "10.0.0.5 or 10.0.0.0/8";

/// Addresses and networks. An IPv4 address and the same one mapped into IPv6 are equal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks(Vec<IpNet>);

impl Networks {
    /// Addresses and networks (`10.0.0.0/8`) with commas between; an empty text has none.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        let form = format!("{FORM}, with commas between");
        let item = |item: &str| read(item.trim(), &form).map_err(|reason| format!("it has an entry that is {reason}"));
        text.split(',').map(item).collect::<Result<_, _>>().map(Self)
    }

    /// True when it has no entry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// True for an address in one of the networks.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }

    /// Each network, in the order of the setting.
    pub fn iter(&self) -> impl Iterator<Item = &IpNet> {
        self.0.iter()
    }
}

impl fmt::Display for Networks {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, network) in self.0.iter().enumerate() {
            if index > 0 {
                out.write_str(",")?;
            }
            out.write_str(&network_text(network))?;
        }
        Ok(())
    }
}

/// A network as [`network`] reads it: an address alone where it is the whole network.
#[must_use]
pub fn network_text(network: &IpNet) -> String {
    match network.prefix_len() == network.max_prefix_len() {
        true => network.addr().to_string(),
        false => network.to_string(),
    }
}

/// One address or network. A mapped IPv4 address is read as IPv4.
///
/// # Errors
/// What the text is instead, and in brackets what to write.
pub fn network(text: &str) -> Result<IpNet, String> {
    read(text, FORM)
}

fn read(text: &str, form: &str) -> Result<IpNet, String> {
    let network = match text.parse::<IpAddr>() {
        Ok(address) => IpNet::from(address),
        Err(_) => text
            .parse::<IpNet>()
            .map_err(|_| format!("neither an address nor a network (write such as {form}; names are not looked up)"))?,
    };
    if network.addr() != network.network() {
        return Err(format!("a network with bits after its prefix (write {} for it)", network.trunc()));
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

    fn networks(text: &str) -> Networks {
        Networks::parse(text).unwrap_or_else(|reason| panic!("{text}: {reason}"))
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
            assert_eq!(networks(text).to_string(), written, "{text}");
            assert_eq!(networks(written), networks(text), "{text}");
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
            let reason = Networks::parse(text).expect_err(text);
            assert!(reason.contains("(write such as 10.0.0.5 or 10.0.0.0/8"), "{text}: {reason}");
        }
        for (text, written) in [("10.0.0.5/8", "10.0.0.0/8"), ("::1,fd00::1/8", "fd00::/8")] {
            let reason = Networks::parse(text).expect_err(text);
            assert!(reason.contains(&format!("(write {written} for it)")), "{text}: {reason}");
        }
    }

    #[test]
    fn a_mapped_address_is_the_same_address() {
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        let some = networks("10.0.0.0/8,192.0.2.7,fd00::/8");
        for inside in ["10.0.0.0", "10.255.255.255", "192.0.2.7", "::ffff:10.1.2.3", "::ffff:192.0.2.7", "fd12::1"] {
            assert!(some.contains(address(inside)), "{inside}");
        }
        for outside in
            ["9.255.255.255", "11.0.0.0", "192.0.2.6", "192.0.2.8", "::10.0.0.1", "fc00::1", "::ffff:9.0.0.1"]
        {
            assert!(!some.contains(address(outside)), "{outside}");
        }
        assert!(!networks("").contains(address("127.0.0.1")));
        // All of IPv6 is not all of IPv4.
        assert!(!networks("::/0").contains(address("::ffff:10.0.0.1")));
        assert!(networks("0.0.0.0/0").contains(address("::ffff:10.0.0.1")));
    }
    #[test]
    fn one_network_is_read_and_written() {
        for text in ["10.0.0.5", "10.0.0.0/8", "2001:db8::7", "2001:db8::/64", "0.0.0.0/0"] {
            assert_eq!(network(text).map(|network| network_text(&network)).as_deref(), Ok(text));
        }
        for text in ["", "10.0.0.5,10.0.0.6", "10.0.0.5 ", "front.example"] {
            let reason = network(text).expect_err(text);
            assert!(
                reason.starts_with("neither an address nor a network (write such as 10.0.0.5 or"),
                "{text}: {reason}"
            );
            assert!(!reason.contains("commas"), "{text}: {reason}");
        }
        assert_eq!(
            network("2001:db8::7/64").unwrap_err(),
            "a network with bits after its prefix (write 2001:db8::/64 for it)"
        );
    }
}
