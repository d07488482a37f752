//! Lavalink nodes: the sockets to them, the addresses of their names, what is known of their health, and which of them
//! a session or a request goes to.

pub mod backend;
mod choice;
pub mod health;
pub mod load;
pub mod pool;
pub mod prober;
mod resolve;
mod schedule;
