//! Pretend Lavalink nodes and pretend bots, for `--demo` and for the tests.
//!
//! They put on the wire what Lavalink 3.7.13 and 4.2.2 and the bots in front of them do, down to the order of
//! header fields and the size of chunks, so that a test against them says something about real servers. Nothing
//! here plays audio: a voice server counts as connected a moment after a bot has named it.
//!
//! The module may use `http` and the name of a Lavalink version; the proxy and the ledger do not import it.
//! A node is, from the socket inwards:
//! - `node`: the listener, its threads, start, stop and faults; `behaviour`: the faults and the counters;
//!   `server`: what the threads share; `wire`: one accepted socket;
//! - `connection`: the keep-alive loop of one client; `answer`: what it writes back;
//! - `rest`: paths, password, methods; `loading`, `players`, `about`: what the handlers say; `patch`: updates;
//!   `track`: Lavaplayer's tracks; `text`: pieces of JSON;
//! - `handshake`, `websocket`, `frames`, `ops`: from the upgrade to the ops of Lavalink v3;
//! - `sessions`, `session`: the connected bots, their players, resuming, and the messages that are due by time.
//!
//! The bots are in `bots`, which holds what they do, and `client`, their side of HTTP and WebSocket. `past` makes up the
//! hour before the start.

mod about;
mod answer;
mod behaviour;
mod bots;
mod client;
mod connection;
mod frames;
mod handshake;
mod loading;
mod node;
mod ops;
mod past;
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

pub use behaviour::{Counts, ReportedLoad};
pub use bots::Bots;
pub use node::{Close, Node};
pub use past::{PastStep, past_hour};
