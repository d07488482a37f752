//! The settings written out again: for `--check`, for the web pages, and to see what a reload has changed.

use std::fmt;

use super::names::SETTINGS;
use super::{Node, Secret, Settings, value};

impl Settings {
    /// Every setting with its value in the form that it is written in: `***` for a secret, empty for none.
    pub fn describe(&self) -> impl Iterator<Item = (&'static str, String)> + '_ {
        SETTINGS.iter().map(|setting| (setting.name, self.text(setting.name)))
    }

    /// The names of the settings whose values differ, in the order of the manual.
    pub fn differences(&self, other: &Self) -> Vec<&'static str> {
        fn secret(settings: &Settings, name: &str) -> Option<Secret> {
            let of_node = |node: &Option<Node>| node.as_ref().map(|node| node.password.clone());
            match name {
                "PROXY_PASSWORD" => Some(settings.proxy_password.clone()),
                "WEB_PASSWORD" => settings.web_password.clone(),
                "LAVALINK_V3_PASSWORD" => of_node(&settings.v3),
                "LAVALINK_V4_PASSWORD" => of_node(&settings.v4),
                _ => None,
            }
        }
        let differ = |name: &&str| self.text(name) != other.text(name) || secret(self, name) != secret(other, name);
        SETTINGS.iter().map(|setting| setting.name).filter(differ).collect()
    }

    pub(super) fn text(&self, name: &str) -> String {
        fn or_none(value: Option<impl fmt::Display>) -> String {
            value.map_or_else(String::new, |value| value.to_string())
        }
        let (v3, v4, timeouts) = (self.v3.as_ref(), self.v4.as_ref(), &self.timeouts);
        match name {
            "PROXY_HOST" => self.proxy.host.clone(),
            "PROXY_PORT" => self.proxy.port.to_string(),
            "PROXY_PASSWORD" => self.proxy_password.to_string(),
            "PROXY_V3_PORT" => or_none(self.proxy_v3_port),
            "PROXY_V4_PORT" => or_none(self.proxy_v4_port),
            "PROXY_PROTOCOL" => if self.proxy_protocol { "on" } else { "off" }.to_owned(),
            "TRUSTED_PROXIES" => self.trusted_proxies.to_string(),
            "WEB_HOST" => self.web.host.clone(),
            "WEB_PORT" => self.web.port.to_string(),
            "WEB_PASSWORD" => or_none(self.web_password.as_ref()),
            "LAVALINK_V3_HOST" => or_none(v3.map(|node| &node.host)),
            "LAVALINK_V3_PORT" => or_none(v3.map(|node| node.port)),
            "LAVALINK_V3_PASSWORD" => or_none(v3.map(|node| &node.password)),
            "LAVALINK_V4_HOST" => or_none(v4.map(|node| &node.host)),
            "LAVALINK_V4_PORT" => or_none(v4.map(|node| node.port)),
            "LAVALINK_V4_PASSWORD" => or_none(v4.map(|node| &node.password)),
            "DEFAULT_VERSION" => self.default_version.to_string(),
            "LOG_LEVEL" => self.log_level.clone(),
            "HEAD_TIMEOUT" => value::duration_text(timeouts.head),
            "KEEPALIVE_TIMEOUT" => value::duration_text(timeouts.keepalive),
            "CONNECT_TIMEOUT" => value::duration_text(timeouts.connect),
            "RESPONSE_TIMEOUT" => value::duration_text(timeouts.response),
            "DRAIN_TIMEOUT" => value::duration_text(timeouts.drain),
            "MAX_BODY" => value::size_text(self.max_body),
            _ => String::new(),
        }
    }
}
