//! Lavalink nodes: the sockets to them, the addresses of their names, and what is known of their health.

pub mod backend;
pub mod health;
pub mod prober;
mod resolve;
