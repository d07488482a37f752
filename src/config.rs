//! stub
#![allow(missing_docs)]
use std::fmt;
use std::time::Duration;
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lavalink {
    V3,
    V4,
}
impl Lavalink {
    pub const ALL: [Self; 2] = [Self::V3, Self::V4];
    pub fn name(self) -> &'static str {
        match self {
            Self::V3 => "v3",
            Self::V4 => "v4",
        }
    }
}
impl fmt::Display for Lavalink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
#[derive(Clone)]
pub struct Secret(String);
impl Secret {
    pub fn new(s: String) -> Self {
        Self(s)
    }
    pub fn expose(&self) -> &str {
        &self.0
    }
}
impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}
#[derive(Clone, Debug)]
pub struct Listen {
    pub host: String,
    pub port: u16,
}
#[derive(Clone, Debug)]
pub struct Node {
    pub host: String,
    pub port: u16,
    pub password: Secret,
}
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    pub head: Duration,
    pub keepalive: Duration,
    pub connect: Duration,
    pub response: Duration,
    pub drain: Duration,
}
#[derive(Clone, Debug)]
pub struct Settings {
    pub proxy: Listen,
    pub proxy_password: Secret,
    pub proxy_v3_port: Option<u16>,
    pub proxy_v4_port: Option<u16>,
    pub web: Listen,
    pub web_password: Option<Secret>,
    pub v3: Option<Node>,
    pub v4: Option<Node>,
    pub default_version: Lavalink,
    pub log_level: String,
    pub timeouts: Timeouts,
    pub max_body: u64,
}
impl Settings {
    pub fn node(&self, v: Lavalink) -> Option<&Node> {
        match v {
            Lavalink::V3 => self.v3.as_ref(),
            Lavalink::V4 => self.v4.as_ref(),
        }
    }
}
