//! One address for Discord music bots in front of Lavalink v3 and v4.
pub mod config;
pub mod http;
pub mod ledger;
pub mod logfmt;
pub mod monitor;
pub mod proxy;
pub mod server;
