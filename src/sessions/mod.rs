//! Lavalink sessions: what a bot opens over its WebSocket, and which node has it. No sockets, no settings, no clock. It
//! imports nothing of the proxy, which feeds it bytes and acts on its answers.

pub mod configure_resuming;
mod frame;
pub mod id;
pub mod ready;
pub mod resume;
pub mod table;
pub mod watch;
