//! Lavalink sessions: what a bot opens over its WebSocket, which node has it, and how another node takes it over. It
//! imports nothing of the proxy, which feeds it bytes and acts on its answers.
//!
//! - `frame`, `ready`, `configure_resuming`, `node_frames`, `client_frames`, `events`: the bytes of a WebSocket, pure;
//! - `id`, `resume`, `table`: which node has which session;
//! - `players`, `position`, `replay`, `resuming`, `opening`: what is kept of a session, pure; `memory` bounds it;
//! - `from_node` and `to_node`: what a tunnel reads from in its node's place, and writes to; `watch` and `key_watch` look at
//!   what passes there;
//! - `kept`: the session that a tunnel, its client's requests and a takeover share; `seat` is where it is, `client_side`
//!   what its client is owed;
//! - `ask_players`: asks a node for the players of a session that was resumed and is not known here;
//! - `takeover`: how a session comes to another node, with one `attempt` on each, which makes its players anew and whose
//!   frames `next_frames` follows; `end_resuming`: a node that it leaves; `moves`: all sessions of a node;
//! - `request`: the requests of our own that these send to nodes.

mod ask_players;
mod attempt;
mod client_frames;
pub mod client_side;
pub mod configure_resuming;
pub mod context;
mod end_resuming;
mod events;
pub mod frame;
pub mod from_node;
pub mod id;
pub mod kept;
pub mod key_watch;
pub mod memory;
pub mod moves;
mod next_frames;
mod node_frames;
pub mod opening;
mod players;
mod position;
pub mod ready;
mod replay;
mod request;
pub mod resume;
pub mod resuming;
pub mod seat;
pub mod table;
pub mod takeover;
pub mod to_node;
pub mod watch;
