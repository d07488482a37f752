//! Pretend Lavalink nodes and pretend bots, for `--demo` and for the tests.
//!
//! They put on the wire what Lavalink 3.7.13 and 4.2.2 and the bots in front of them do, down to the order of
//! header fields and the size of chunks, because a test against something merely convenient proves nothing
//! about a real server. Nothing here plays audio: a voice server that is named counts as connected.
//!
//! The module may use `http` and the name of a Lavalink version; the proxy, the ledger and the monitor know
//! nothing of it. A node is, from the socket inwards:
//! - `node`: the listener, its threads, start and stop; `server`: what these share; `wire`: one accepted socket;
//! - `connection`: the keep-alive loop of one client; `answer`: what it writes back;
//! - `rest`: paths, password, methods; `loading`, `players`, `about`: what the handlers say; `patch`: updates;
//!   `track`: Lavaplayer's tracks; `text`: pieces of JSON;
//! - `handshake`, `websocket`, `frames`, `ops`: from the upgrade to the ops of Lavalink v3;
//! - `sessions`, `session`: who is connected, their players, resuming, and what falls due with time.
//!
//! The bots are `bots`, what they do, and `client`, how they speak.

mod about;
mod answer;
mod bots;
mod client;
mod connection;
mod frames;
mod handshake;
mod loading;
mod node;
mod ops;
mod patch;
mod players;
mod rest;
mod server;
mod session;
mod sessions;
mod text;
mod track;
mod websocket;
mod wire;

#[cfg(test)]
mod tests;

pub use bots::Bots;
pub use node::Node;
