//! The nodes of each version: from `LAVALINK_Vn_NODES`, else from `LAVALINK_Vn_HOST` and `_PORT`. Pure.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fmt;
use std::net::Ipv6Addr;
use std::sync::Arc;

use super::check::Host;
use super::names::{self, Setting};
use super::reader::Reader;
use super::settings::write_authority;
use super::{Lavalink, Secret, value};

/// A Lavalink node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its name in `LAVALINK_Vn_NODES`; `v3` or `v4` for the node that `LAVALINK_Vn_HOST` names. Unique.
    pub name: Arc<str>,
    /// An address (IPv6 without brackets) or a name.
    pub host: String,
    /// A TCP port, never 0.
    pub port: u16,
    /// What the node is sent as `Authorization`: its own password where one is set, else that of its version, else
    /// `PROXY_PASSWORD`.
    pub password: Secret,
    /// True when the password is the node's own.
    pub has_own_password: bool,
}

/// The node's host and port.
impl fmt::Display for Node {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_authority(out, &self.host, self.port)
    }
}

impl Node {
    /// The node as an entry of `LAVALINK_Vn_NODES`.
    pub(super) fn entry(&self) -> String {
        format!("{}={self}", self.name)
    }

    /// True when `LAVALINK_Vn_NODES` names the node; `v3` and `v4` are no names there.
    pub(super) fn is_listed(&self) -> bool {
        Lavalink::ALL.iter().all(|version| *self.name != *version.name())
    }
}

impl Node {
    /// The settings that hold its address, for messages.
    #[must_use]
    pub fn address_settings(&self, version: Lavalink) -> String {
        let names = names::of(version);
        match self.is_listed() {
            true => names.nodes.name.to_owned(),
            false => format!("{} and {}", names.host.name, names.port.name),
        }
    }

    /// The setting that holds its password, for messages.
    #[must_use]
    pub fn password_setting(&self, version: Lavalink) -> String {
        match self.has_own_password {
            true => password_name(version, &self.name),
            false => names::of(version).password.name.to_owned(),
        }
    }
}

/// The nodes of a version can have no more than this.
const MAX_NODES: usize = 64;
/// Of a node's name, in characters.
const MAX_NAME: usize = 16;

/// The setting of the password that this node alone has.
pub fn password_name(version: Lavalink, node: &str) -> String {
    format!("{}_{}", names::of(version).password.name, node.to_ascii_uppercase().replace('-', "_"))
}

/// The setting of every node's own password, as far as the nodes' names can be read, right or wrong.
pub fn password_names(lookup: impl Fn(&str) -> Option<OsString>) -> HashSet<String> {
    let of_version = |version| {
        let list = lookup(names::of(version).nodes.name).unwrap_or_default();
        let list = list.to_string_lossy().into_owned();
        let names: Vec<_> = list.split(',').filter_map(|entry| entry.split_once('=')).collect();
        names.into_iter().map(|(name, _)| password_name(version, name.trim())).collect::<Vec<_>>()
    };
    Lavalink::ALL.into_iter().flat_map(of_version).collect()
}

impl<F: Fn(&str) -> Option<OsString>> Reader<F> {
    /// The nodes of a version, none when it is off, and the password of those that have none of their own. `others`
    /// has the nodes of the other version.
    pub fn nodes(
        &mut self,
        version: Lavalink,
        proxy_password: Option<&Secret>,
        others: Option<&[Node]>,
    ) -> (Option<Vec<Node>>, Option<Secret>) {
        let settings = names::of(version);
        let list = self.read(&settings.nodes, |text| Ok(text.to_owned()));
        let nodes = match list.as_deref() {
            Some("") => self.single_node(version),
            Some(list) => self.listed_nodes(version, list, others.unwrap_or_default()),
            None => None,
        };
        let password = self.read(&settings.password, value::optional(value::password));
        let password = password.and_then(|own| own.or_else(|| proxy_password.cloned()));
        let with_password = |mut node: Node| {
            let own = if node.is_listed() { self.own_password(version, &node.name) } else { None };
            node.has_own_password = own.is_some();
            node.password = own.or_else(|| password.clone()).unwrap_or(node.password);
            node
        };
        let nodes = nodes.map(|nodes| nodes.into_iter().map(with_password).collect());
        (nodes, password)
    }

    fn own_password(&mut self, version: Lavalink, node: &str) -> Option<Secret> {
        let name = password_name(version, node);
        self.read(&Setting::secret(&name, ""), value::optional(value::password)).flatten()
    }

    /// None of them for an empty host.
    fn single_node(&mut self, version: Lavalink) -> Option<Vec<Node>> {
        let settings = names::of(version);
        let host = self.read(&settings.host, value::optional(value::host));
        let port = self.read(&settings.port, value::node_port);
        let Some(host) = host? else {
            return Some(Vec::new());
        };
        Some(vec![without_password(version.name(), host, port?)])
    }

    /// The entries that have no fault.
    fn listed_nodes(&mut self, version: Lavalink, list: &str, others: &[Node]) -> Option<Vec<Node>> {
        let settings = names::of(version);
        for setting in [&settings.host, &settings.port] {
            if let Some(value) = self.raw(setting) {
                let reason = format!("{0} is set as well (remove {1} or {0})", settings.nodes.name, setting.name);
                self.fault(setting, &value.to_string_lossy(), reason);
            }
        }
        let entries: Vec<&str> = list.split(',').map(str::trim).collect();
        if entries.len() > MAX_NODES {
            let reason = format!("it has {} nodes (write {MAX_NODES} at most)", entries.len());
            self.fault(&settings.nodes, list, reason);
            return None;
        }
        let mut nodes = Vec::new();
        for entry in entries {
            match node(entry).and_then(|node| unique(node, &nodes, others)) {
                Ok(node) => nodes.push(node),
                Err(reason) => self.fault(&settings.nodes, entry, reason),
            }
        }
        // Without one good entry it is not known which nodes there are, and the version is not off.
        (!nodes.is_empty()).then_some(nodes)
    }
}

/// The node has a password only after its settings were read.
fn without_password(name: &str, host: String, port: u16) -> Node {
    Node { name: name.into(), host, port, password: Secret::new(String::new()), has_own_password: false }
}

/// `eu1=10.0.0.5:2333`, `eu2=[2001:db8::6]:2333`, `eu3=lavalink.example:2333`.
fn node(entry: &str) -> Result<Node, String> {
    const FORM: &str = "write NAME=HOST:PORT, such as eu1=10.0.0.5:2333";
    if entry.is_empty() {
        return Err(format!("it has an empty entry ({FORM}, with a comma between two nodes)"));
    }
    let (name, address) = entry.split_once('=').ok_or_else(|| format!("it has a node without a name ({FORM})"))?;
    check_name(name)?;
    let (host, port) = address
        .rsplit_once(':')
        .filter(|(_, port)| !port.contains(']'))
        .ok_or_else(|| format!("the node {name} has no port ({FORM})"))?;
    if host.parse::<Ipv6Addr>().is_ok() {
        return Err(format!("the node {name} has an IPv6 address without brackets (write such as [::1]:2333)"));
    }
    let of_node = |reason| format!("the node {name}: {reason}");
    Ok(without_password(name, value::host(host).map_err(of_node)?, value::node_port(port).map_err(of_node)?))
}

fn check_name(name: &str) -> Result<(), String> {
    let is_letter_or_digit = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let fits = (1..=MAX_NAME).contains(&name.len())
        && name.bytes().all(|byte| is_letter_or_digit(byte) || byte == b'-')
        && !name.starts_with('-');
    if !fits {
        return Err(format!(
            "it has a node whose name is not valid (write {MAX_NAME} characters at most: a-z, 0-9 and -, but no - first)"
        ));
    }
    match Lavalink::ALL.into_iter().find(|version| name == version.name()) {
        Some(version) => {
            let host = names::of(version).host.name;
            Err(format!("{name} is the name of the node that {host} names (write another name)"))
        }
        None => Ok(()),
    }
}

/// The node, unless another node of either version has its name, or another one of its own version its address.
fn unique(node: Node, nodes: &[Node], others: &[Node]) -> Result<Node, String> {
    if nodes.iter().chain(others).any(|known| known.name == node.name) {
        return Err(format!("there are two nodes with the name {} (write another name)", node.name));
    }
    let is_there = |known: &&Node| known.port == node.port && Host::of(&known.host) == Host::of(&node.host);
    match nodes.iter().find(is_there) {
        Some(known) => Err(format!("the node {} has the same address (remove one of the two)", known.name)),
        None => Ok(node),
    }
}
