//! Lavalink nodes: the sockets to them, the addresses of their names, their health and their load, and the choice of a
//! node for a session or a request.

pub mod backend;
mod choice;
pub mod gate;
pub mod health;
pub mod load;
pub mod move_progress;
pub mod pool;
pub mod prober;
mod resolve;
mod schedule;
pub mod takeovers;
