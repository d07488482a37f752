//! One address for Discord music bots in front of Lavalink v3 and v4.
pub mod config;
pub mod demo;
pub mod http;
