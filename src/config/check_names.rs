//! Where the nodes' names lead, for `--check` alone: a start and a reload resolve nothing here.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use super::names::{self, PROXY_HOST, WEB_HOST};
use super::{Fault, Faults, Lavalink, Listen, Node, Setting, Settings};

/// The longest that all names together may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// The addresses of a host, or why there are none.
type Addresses = Result<Vec<SocketAddr>, String>;

/// Resolves the hosts of the nodes and listeners. Returns a warning for each name that has no address at present.
///
/// # Errors
/// A fault for each node whose address leads back to a listener of these settings.
pub fn check_names(settings: &Settings) -> Result<Vec<String>, Faults> {
    let hosts = hosts(settings);
    let addresses = resolve(hosts.iter().map(|(_, host)| *host));
    let faults = faults(settings, &addresses, is_of_this_machine);
    if !faults.is_empty() {
        return Err(Faults(faults));
    }
    Ok(warnings(&hosts, &addresses))
}

/// The host of each node and listener, with its setting.
fn hosts(settings: &Settings) -> Vec<(&'static Setting<'static>, &str)> {
    let mut hosts = vec![(&PROXY_HOST, settings.proxy.host.as_str()), (&WEB_HOST, settings.web.host.as_str())];
    for (version, node) in nodes(settings) {
        let names = names::of(version);
        hosts.push((if node.is_listed() { &names.nodes } else { &names.host }, node.host.as_str()));
    }
    hosts
}

fn nodes(settings: &Settings) -> impl Iterator<Item = (Lavalink, &Node)> {
    Lavalink::ALL.into_iter().flat_map(|version| settings.nodes(version).iter().map(move |node| (version, node)))
}

/// Asks the system's resolver for all hosts at once, since it may take long for each. A thread that has no answer
/// after [`PATIENCE`] is left to end with the process.
fn resolve<'h>(hosts: impl Iterator<Item = &'h str>) -> HashMap<&'h str, Addresses> {
    let deadline = Instant::now() + PATIENCE;
    let mut found: HashMap<&str, Addresses> = HashMap::new();
    let (answers, inbox) = mpsc::channel();
    for host in hosts {
        if found.contains_key(host) {
            continue;
        }
        let (name, answers) = (host.to_owned(), answers.clone());
        let look_up = move || {
            let addresses = (name.as_str(), 0).to_socket_addrs().map(Iterator::collect);
            // The receiver is gone when the answer comes too late.
            let _ = answers.send((name, addresses));
        };
        let started = thread::Builder::new().name("resolver".to_owned()).spawn(look_up);
        let no_answer = started.map_or_else(|error| error.to_string(), |_| format!("no answer within {PATIENCE:?}"));
        found.insert(host, Err(no_answer));
    }
    drop(answers);
    while let Ok((name, addresses)) = inbox.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
        if let Some(found) = found.get_mut(name.as_str()) {
            *found = addresses.map_err(|error: io::Error| error.to_string());
        }
    }
    found
}

fn warnings(hosts: &[(&Setting<'_>, &str)], addresses: &HashMap<&str, Addresses>) -> Vec<String> {
    let warning = |(setting, host): &(&Setting<'_>, &str)| {
        let reason = addresses.get(host)?.as_ref().err()?;
        Some(format!("{}: {host} has no address at present: {reason} (is it misspelt?)", setting.name))
    };
    hosts.iter().filter_map(warning).collect()
}

/// One fault for each node at most.
fn faults(
    settings: &Settings,
    addresses: &HashMap<&str, Addresses>,
    is_ours: impl Fn(SocketAddr) -> bool,
) -> Vec<Fault> {
    let listeners = settings.listeners();
    let of = |host: &str| addresses.get(host).into_iter().flatten().flatten().copied();
    let leads_back = |node: &Node| {
        listeners.iter().filter(|(_, listen)| listen.port == node.port).find_map(|(setting, listen)| {
            let at = of(&node.host).find(|to| of(&listen.host).any(|at| arrives(*to, at, &is_ours)))?;
            Some((*setting, listen, at.ip()))
        })
    };
    let fault = |(version, node): (Lavalink, &Node)| {
        let (other, listen, ip) = leads_back(node)?;
        let names = names::of(version);
        let (setting, value) = match node.is_listed() {
            true => (&names.nodes, node.entry()),
            false => (&names.port, node.port.to_string()),
        };
        let reason = loop_reason(node, ip, other, listen);
        Some(Fault { name: setting.name.to_owned(), value: Some(value), reason })
    };
    nodes(settings).filter_map(fault).collect()
}

fn loop_reason(node: &Node, ip: IpAddr, other: &Setting<'_>, listen: &Listen) -> String {
    format!(
        "{node} leads to {ip}, an address of this machine, and lavaproxy listens on {listen} by {}, so requests would go \
         round in circles (set the host and port on which Lavalink listens)",
        other.name
    )
}

/// True when a connection to `to` arrives at a listener on `at` with the same port.
fn arrives(to: SocketAddr, at: SocketAddr, is_ours: impl Fn(SocketAddr) -> bool) -> bool {
    let (to_ip, at_ip) = (to.ip().to_canonical(), at.ip().to_canonical());
    if to_ip.is_unspecified() {
        // A connection to the unspecified address reaches this machine over its loopback.
        return at_ip.is_loopback() || at_ip.is_unspecified();
    }
    match at_ip {
        // A listener on `::` takes IPv4 as well.
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => is_ours(to),
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => to_ip.is_ipv4() && is_ours(to),
        _ => to_ip == at_ip,
    }
}

/// True when this machine has the address, as far as a socket can be bound to it.
fn is_of_this_machine(address: SocketAddr) -> bool {
    // These are for documentation (RFC 5737, RFC 3849). Where they can be bound, every address can, which then says
    // nothing: net.ipv4.ip_nonlocal_bind allows it.
    const OF_NO_MACHINE: [IpAddr; 2] =
        [IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1))];
    let can_bind = |address: SocketAddr| UdpSocket::bind(address).is_ok();
    let binds_anything = || OF_NO_MACHINE.into_iter().any(|ip| can_bind(SocketAddr::new(ip, 0)));
    address.ip().to_canonical().is_loopback() || (can_bind(address) && !binds_anything())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    /// The faults of a v4 node at `node`, where `name.example` has the address `means` and this machine has 10.0.0.7
    /// and 2001:db8::7 besides its loopback.
    fn faults_of(listener: &str, node: &str, means: &str) -> Vec<Fault> {
        let pairs = [("PROXY_HOST", listener), ("PROXY_V4_PORT", "7000"), ("LAVALINK_V4_HOST", node)];
        let pairs = [pairs.as_slice(), &[("LAVALINK_V4_PORT", "7000")]].concat();
        let lookup = |name: &str| pairs.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into());
        let settings = Settings::from_lookup(lookup).unwrap();
        let address = |host: &str| match host {
            "name.example" => SocketAddr::new(means.parse().unwrap(), 0),
            host => SocketAddr::new(host.parse().unwrap(), 0),
        };
        let addresses = hosts(&settings).into_iter().map(|(_, host)| (host, Ok(vec![address(host)]))).collect();
        let ours: [IpAddr; 2] = ["10.0.0.7".parse().unwrap(), "2001:db8::7".parse().unwrap()];
        faults(&settings, &addresses, |address| {
            let ip = address.ip().to_canonical();
            ip.is_loopback() || ours.contains(&ip)
        })
    }

    #[test]
    fn a_node_that_resolves_to_a_listener_is_a_fault() {
        for (listener, node, means) in [
            ("0.0.0.0", "name.example", "127.0.0.1"),
            ("0.0.0.0", "name.example", "127.0.1.1"),
            ("0.0.0.0", "name.example", "10.0.0.7"),
            ("0.0.0.0", "name.example", "::ffff:10.0.0.7"),
            ("0.0.0.0", "name.example", "0.0.0.0"),
            ("0.0.0.0", "10.0.0.7", ""),
            ("::", "name.example", "10.0.0.7"),
            ("::", "name.example", "2001:db8::7"),
            ("::", "2001:db8::7", ""),
            ("10.0.0.7", "name.example", "10.0.0.7"),
            ("name.example", "10.0.0.7", "10.0.0.7"),
            ("127.0.0.1", "name.example", "0.0.0.0"),
        ] {
            let faults = faults_of(listener, node, means);
            assert_eq!(faults.len(), 1, "{listener} {node} {means}: {faults:?}");
            let text = faults[0].to_string();
            assert!(text.starts_with("LAVALINK_V4_PORT=7000: ") && text.contains("PROXY_V4_PORT"), "{text}");
            assert!(text.ends_with(')'), "{text}");
        }
    }

    #[test]
    fn a_node_that_resolves_elsewhere_is_none() {
        for (listener, node, means) in [
            ("0.0.0.0", "name.example", "10.0.0.8"),
            ("0.0.0.0", "name.example", "2001:db8::7"),
            ("0.0.0.0", "name.example", "::1"),
            ("::", "name.example", "2001:db8::8"),
            ("10.0.0.7", "name.example", "127.0.0.1"),
            ("10.0.0.7", "name.example", "0.0.0.0"),
            ("127.0.0.1", "name.example", "10.0.0.7"),
            ("127.0.0.1", "10.0.0.7", ""),
        ] {
            assert_eq!(faults_of(listener, node, means), [], "{listener} {node} {means}");
        }
    }

    #[test]
    fn each_listed_node_that_leads_back_is_a_fault() {
        let list = "a=elsewhere.example:6923,b=here.example:6923,c=here.example:6980,d=here.example:2333";
        let lookup = |name: &str| (name == "LAVALINK_V4_NODES").then(|| list.into());
        let settings = Settings::from_lookup(lookup).unwrap();
        let address = |host: &str| match host {
            "elsewhere.example" => "192.0.2.1:0".parse().unwrap(),
            "here.example" => "127.0.1.1:0".parse().unwrap(),
            host => SocketAddr::new(host.parse().unwrap(), 0),
        };
        let addresses = hosts(&settings).into_iter().map(|(_, host)| (host, Ok(vec![address(host)]))).collect();
        let faults = faults(&settings, &addresses, |address| address.ip().is_loopback());
        // WEB_HOST is 127.0.0.1, to which 127.0.1.1 does not lead.
        assert_eq!(faults.len(), 1, "{faults:?}");
        assert!(faults[0].to_string().starts_with("LAVALINK_V4_NODES=b=here.example:6923: "), "{faults:?}");
    }

    #[test]
    fn a_name_without_an_address_is_a_warning_and_never_a_fault() {
        let pairs = [("LAVALINK_V4_HOST", "gone.example"), ("LAVALINK_V4_PORT", "6923")];
        let lookup = |name: &str| pairs.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into());
        let settings = Settings::from_lookup(lookup).unwrap();
        let hosts = hosts(&settings);
        let mut addresses = resolve(hosts.iter().map(|(_, host)| *host).filter(|host| *host != "gone.example"));
        assert!(addresses.values().all(Result::is_ok), "{addresses:?}");
        addresses.insert("gone.example", Err("no such name".to_owned()));
        assert_eq!(faults(&settings, &addresses, is_of_this_machine), []);
        let warnings = warnings(&hosts, &addresses);
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(warnings[0].starts_with("LAVALINK_V4_HOST: gone.example "), "{warnings:?}");
    }

    #[test]
    fn a_name_that_the_resolver_refuses_has_no_address() {
        // No label may be this long, so the resolver asks no server.
        let host = "x".repeat(64);
        let addresses = resolve([host.as_str(), "127.0.0.1", host.as_str()].into_iter());
        assert!(addresses[host.as_str()].is_err() && addresses["127.0.0.1"].is_ok(), "{addresses:?}");
    }

    #[test]
    fn loopback_is_of_this_machine() {
        assert!(is_of_this_machine("127.0.0.1:0".parse().unwrap()));
        assert!(is_of_this_machine("127.3.2.1:0".parse().unwrap()));
        assert!(!is_of_this_machine("192.0.2.99:0".parse().unwrap()));
    }
}
