//! The settings written out again: for `--check`, for the web pages, and to see what a reload has changed.

use std::fmt;
use std::path::Path;

use super::names::{self, ACCOUNTS_FILE, SETTINGS};
use super::{Lavalink, Node, Secret, Settings, nodes, value};

/// The value of a setting. It displays in the form that it is written in: `***` for a secret, empty for none.
#[derive(PartialEq)]
pub(super) enum Value<'s> {
    Text(String),
    Secret(&'s Secret),
}

impl fmt::Display for Value<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => out.write_str(text),
            Self::Secret(secret) => secret.fmt(out),
        }
    }
}

impl<'s> Value<'s> {
    fn text(value: impl fmt::Display) -> Self {
        Self::Text(value.to_string())
    }

    fn optional(value: Option<impl fmt::Display>) -> Self {
        value.map_or_else(Self::none, Self::text)
    }

    fn switch(on: bool) -> Self {
        Self::text(if on { "on" } else { "off" })
    }

    fn secret(secret: Option<&'s Secret>) -> Self {
        secret.map_or_else(Self::none, Value::Secret)
    }

    fn none() -> Self {
        Self::Text(String::new())
    }
}

impl Settings {
    /// Every setting with its value in the form that it is written in: `***` for a secret, empty for none.
    pub fn describe(&self) -> Vec<(String, String)> {
        self.values().into_iter().map(|(name, value)| (name, value.to_string())).collect()
    }

    /// The names of the settings whose values differ, in the order of the manual; those that are set only in `other`
    /// come last. `ACCOUNTS_FILE` is one of them when the accounts differ.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let (here, there) = (self.values(), other.values());
        let is_in = |values: &[(String, Value<'_>)], name: &str| values.iter().any(|(known, _)| known == name);
        let gone = there.iter().filter(|(name, _)| !is_in(&here, name));
        let other_accounts = self.accounts != other.accounts;
        let differs = |setting: &&(String, Value<'_>)| {
            !there.contains(setting) || (other_accounts && setting.0 == ACCOUNTS_FILE.name)
        };
        here.iter().filter(differs).chain(gone).map(|(name, _)| name.clone()).collect()
    }

    /// Every setting, and behind the list of nodes each password that a node has for itself.
    fn values(&self) -> Vec<(String, Value<'_>)> {
        let mut values = Vec::new();
        for setting in &SETTINGS {
            values.push((setting.name.to_owned(), self.value(setting.name)));
            for version in Lavalink::ALL.into_iter().filter(|version| names::of(*version).nodes.name == setting.name) {
                let inherited = self.node_passwords.get(version);
                let with_own = |node: &&Node| node.is_listed() && node.password != *inherited;
                let password = |node: &'_ Node| nodes::password_name(version, &node.name);
                let own = self.nodes(version).iter().filter(with_own);
                values.extend(own.map(|node| (password(node), Value::Secret(&node.password))));
            }
        }
        values
    }

    pub(super) fn value(&self, name: &str) -> Value<'_> {
        let timeouts = &self.timeouts;
        match name {
            "PROXY_HOST" => Value::text(&self.proxy.host),
            "PROXY_PORT" => Value::text(self.proxy.port),
            "PROXY_PASSWORD" => Value::Secret(&self.proxy_password),
            "PROXY_V3_PORT" => Value::optional(self.proxy_v3_port),
            "PROXY_V4_PORT" => Value::optional(self.proxy_v4_port),
            "PROXY_PROTOCOL" => Value::switch(self.proxy_protocol),
            "TRUSTED_PROXIES" => Value::text(&self.trusted_proxies),
            "WEB_HOST" => Value::text(&self.web.host),
            "WEB_PORT" => Value::text(self.web.port),
            "WEB_PASSWORD" => Value::secret(self.web_password.as_ref()),
            "DEFAULT_VERSION" => Value::text(self.default_version),
            "HEALTH_INTERVAL" => Value::Text(value::duration_text(self.health_interval)),
            "FAILOVER_AFTER" => Value::Text(value::duration_text(self.failover_after.unwrap_or_default())),
            "STATUS_PAGE" => Value::switch(self.status_page),
            "LOAD_RETRY" => Value::switch(self.load_retry),
            "LOG_LEVEL" => Value::text(&self.log_level),
            "HEAD_TIMEOUT" => Value::Text(value::duration_text(timeouts.head)),
            "KEEPALIVE_TIMEOUT" => Value::Text(value::duration_text(timeouts.keepalive)),
            "CONNECT_TIMEOUT" => Value::Text(value::duration_text(timeouts.connect)),
            "RESPONSE_TIMEOUT" => Value::Text(value::duration_text(timeouts.response)),
            "DRAIN_TIMEOUT" => Value::Text(value::duration_text(timeouts.drain)),
            "MAX_BODY" => Value::Text(value::size_text(self.max_body)),
            "SESSION_TAKEOVER" => Value::switch(self.takeover.on),
            "TAKEOVER_TIMEOUT" => Value::Text(value::duration_text(self.takeover.timeout)),
            "SESSION_MEMORY" => Value::Text(value::size_text(self.takeover.memory)),
            "MOVE_RATE" => Value::text(self.takeover.move_rate),
            "ACCOUNTS_FILE" => Value::optional(self.accounts_file.as_deref().map(Path::display)),
            "STATE_DIR" => Value::optional(self.state_dir.as_deref().map(Path::display)),
            name => self.value_of_limit(name).unwrap_or_else(|| self.value_of_version(name)),
        }
    }

    fn value_of_limit(&self, name: &str) -> Option<Value<'_>> {
        let limits = &self.limits;
        let or_off = |value: Option<String>| Value::Text(value.unwrap_or_else(|| "off".to_owned()));
        Some(match name {
            "MAX_CONNECTIONS" => Value::optional(limits.max_connections),
            "MAX_CONNECTIONS_PER_ADDRESS" => Value::text(limits.connections_per_address),
            "CONNECTION_RATE" => or_off(limits.connection_rate.map(|rate| rate.to_string())),
            "REQUEST_RATE" => or_off(limits.request_rate.map(|rate| rate.to_string())),
            "BAN_AFTER" => or_off(limits.ban_after.map(|number| number.to_string())),
            "ALLOWED_ADDRESSES" => Value::text(&limits.allowed),
            "BLOCKED_ADDRESSES" => Value::text(&limits.blocked),
            _ => return None,
        })
    }

    fn value_of_version(&self, name: &str) -> Value<'_> {
        for version in Lavalink::ALL {
            let (settings, nodes) = (names::of(version), self.nodes(version));
            let single = nodes.first().filter(|node| !node.is_listed());
            let value = match name {
                name if name == settings.host.name => Value::optional(single.map(|node| &node.host)),
                name if name == settings.port.name => Value::optional(single.map(|node| node.port)),
                name if name == settings.password.name => {
                    Value::secret(nodes.first().map(|_| self.node_passwords.get(version)))
                }
                name if name == settings.nodes.name => {
                    let listed = nodes.iter().filter(|node| node.is_listed());
                    Value::Text(listed.map(Node::entry).collect::<Vec<_>>().join(", "))
                }
                name if name == settings.paths.name => Value::Text(self.paths.get(version).join(",")),
                _ => continue,
            };
            return value;
        }
        Value::none()
    }
}
