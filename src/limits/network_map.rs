//! Values by network, and a quick way to find those of an address. Pure.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::BitAnd;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// Values by network. A look-up costs one access for each prefix length in use.
pub struct NetworkMap<V> {
    v4: Vec<Length<u32, V>>,
    v6: Vec<Length<u128, V>>,
}

/// The networks of one prefix length; never empty.
struct Length<B, V> {
    length: u8,
    mask: B,
    rows: HashMap<B, V>,
}

impl<V> Default for NetworkMap<V> {
    fn default() -> Self {
        Self { v4: Vec::new(), v6: Vec::new() }
    }
}

impl<V> NetworkMap<V> {
    /// True when it has no network.
    pub fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }

    /// The number of networks.
    pub fn len(&self) -> usize {
        self.v4.iter().map(|length| length.rows.len()).sum::<usize>()
            + self.v6.iter().map(|length| length.rows.len()).sum::<usize>()
    }

    /// The value of each network that the address is in.
    pub fn of_address(&self, address: IpAddr) -> impl Iterator<Item = &V> {
        let (v4, v6) = match address.to_canonical() {
            IpAddr::V4(address) => (Some(address.to_bits()), None),
            IpAddr::V6(address) => (None, Some(address.to_bits())),
        };
        let in_v4 = v4.into_iter().flat_map(|bits| of_bits(&self.v4, bits));
        in_v4.chain(v6.into_iter().flat_map(|bits| of_bits(&self.v6, bits)))
    }

    /// The value of exactly this network.
    pub fn get(&self, network: IpNet) -> Option<&V> {
        match network {
            IpNet::V4(network) => get(&self.v4, network.prefix_len(), network.network().to_bits()),
            IpNet::V6(network) => get(&self.v6, network.prefix_len(), network.network().to_bits()),
        }
    }

    /// Sets the value of a network.
    pub fn insert(&mut self, network: IpNet, value: V) {
        match network {
            IpNet::V4(network) => {
                let mask = network.netmask().to_bits();
                insert(&mut self.v4, network.prefix_len(), mask, network.network().to_bits(), value);
            }
            IpNet::V6(network) => {
                let mask = network.netmask().to_bits();
                insert(&mut self.v6, network.prefix_len(), mask, network.network().to_bits(), value);
            }
        }
    }

    /// Removes the value of exactly this network.
    pub fn remove(&mut self, network: IpNet) -> Option<V> {
        match network {
            IpNet::V4(network) => remove(&mut self.v4, network.prefix_len(), network.network().to_bits()),
            IpNet::V6(network) => remove(&mut self.v6, network.prefix_len(), network.network().to_bits()),
        }
    }

    /// Removes every value that does not hold.
    pub fn retain(&mut self, holds: impl Fn(&V) -> bool) {
        retain(&mut self.v4, &holds);
        retain(&mut self.v6, &holds);
    }

    /// Every network with its value, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (IpNet, &V)> {
        let v4 = self.v4.iter().flat_map(|Length { length, rows, .. }| {
            let network = |bits: &u32| Ipv4Net::new(Ipv4Addr::from_bits(*bits), *length).ok().map(IpNet::V4);
            rows.iter().filter_map(move |(bits, value)| Some((network(bits)?, value)))
        });
        let v6 = self.v6.iter().flat_map(|Length { length, rows, .. }| {
            let network = |bits: &u128| Ipv6Net::new(Ipv6Addr::from_bits(*bits), *length).ok().map(IpNet::V6);
            rows.iter().filter_map(move |(bits, value)| Some((network(bits)?, value)))
        });
        v4.chain(v6)
    }
}

fn of_bits<B: BitAnd<Output = B> + Copy + Eq + Hash, V>(lengths: &[Length<B, V>], bits: B) -> impl Iterator<Item = &V> {
    lengths.iter().filter_map(move |length| length.rows.get(&(bits & length.mask)))
}

fn get<B: Eq + Hash, V>(lengths: &[Length<B, V>], length: u8, bits: B) -> Option<&V> {
    lengths.iter().find(|known| known.length == length)?.rows.get(&bits)
}

fn insert<B: Copy + Eq + Hash, V>(lengths: &mut Vec<Length<B, V>>, length: u8, mask: B, bits: B, value: V) {
    match lengths.iter_mut().find(|known| known.length == length) {
        Some(known) => {
            known.rows.insert(bits, value);
        }
        None => lengths.push(Length { length, mask, rows: HashMap::from([(bits, value)]) }),
    }
}

fn remove<B: Eq + Hash, V>(lengths: &mut Vec<Length<B, V>>, length: u8, bits: B) -> Option<V> {
    let index = lengths.iter().position(|known| known.length == length)?;
    let removed = lengths[index].rows.remove(&bits);
    if lengths[index].rows.is_empty() {
        lengths.swap_remove(index);
    }
    removed
}

fn retain<B: Eq + Hash, V>(lengths: &mut Vec<Length<B, V>>, holds: impl Fn(&V) -> bool) {
    for length in lengths.iter_mut() {
        length.rows.retain(|_, value| holds(value));
    }
    lengths.retain(|length| !length.rows.is_empty());
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::config::{network, network_text};

    fn map(networks: &[&'static str]) -> NetworkMap<&'static str> {
        let mut map = NetworkMap::default();
        networks.iter().for_each(|text| map.insert(network(text).unwrap(), *text));
        map
    }

    fn found(map: &NetworkMap<&'static str>, address: &str) -> Vec<&'static str> {
        let mut found: Vec<_> = map.of_address(address.parse().unwrap()).copied().collect();
        found.sort_unstable();
        found
    }

    #[test]
    fn an_address_is_in_each_network_around_it() {
        let map = map(&["192.0.2.7", "192.0.2.0/24", "0.0.0.0/0", "2001:db8::/64", "2001:db8::1", "::/0"]);
        assert_eq!(map.len(), 6);
        assert_eq!(found(&map, "192.0.2.7"), ["0.0.0.0/0", "192.0.2.0/24", "192.0.2.7"]);
        assert_eq!(found(&map, "::ffff:192.0.2.7"), found(&map, "192.0.2.7"));
        assert_eq!(found(&map, "192.0.2.8"), ["0.0.0.0/0", "192.0.2.0/24"]);
        assert_eq!(found(&map, "192.0.3.7"), ["0.0.0.0/0"]);
        assert_eq!(found(&map, "2001:db8::1"), ["2001:db8::/64", "2001:db8::1", "::/0"]);
        assert_eq!(found(&map, "2001:db8::2"), ["2001:db8::/64", "::/0"]);
        assert_eq!(found(&map, "2001:db8:0:1::1"), ["::/0"]);
    }

    #[test]
    fn networks_are_replaced_removed_and_listed() {
        let networks = ["192.0.2.0/24", "192.0.2.0/25", "203.0.113.7", "2001:db8::/64", "2001:db8::/63"];
        let mut map = map(&networks);
        map.insert(network("192.0.2.0/24").unwrap(), "again");
        assert_eq!((map.len(), map.get(network("192.0.2.0/24").unwrap())), (5, Some(&"again")));
        assert_eq!(map.get(network("192.0.2.0/26").unwrap()), None);
        let mut listed: Vec<_> = map.iter().map(|(network, _)| network_text(&network)).collect();
        listed.sort_unstable();
        let mut all = networks;
        all.sort_unstable();
        assert_eq!(listed, all);
        assert_eq!(map.remove(network("192.0.2.0/25").unwrap()), Some("192.0.2.0/25"));
        assert_eq!(map.remove(network("192.0.2.0/25").unwrap()), None);
        assert_eq!(found(&map, "192.0.2.7"), ["again"]);
        map.retain(|value| *value == "2001:db8::/63");
        assert_eq!((map.len(), map.v4.len(), map.v6.len()), (1, 0, 1));
        map.remove(network("2001:db8::/63").unwrap());
        assert!(map.is_empty());
    }
}
