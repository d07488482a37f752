//! The way of a connection, one file per stage, in their order:
//!
//! ```text
//! connection: source (proxy_protocol), [ head (client) -> forwarded -> limits -> auth -> route -> forward
//!     -> choose (a node and a connection to it) -> exchange (upload, load) ]* -> upgraded (tunnel, frames, ending) -> ledger
//! ```
//!
//! [`connection`] is the spine and calls the stages. [`service`] is what a listener offers, [`carriers`] are the threads of
//! tunnels. `refuse` turns whole connections away, `reply` writes lavaproxy's own answers. Nothing here knows a listener.

pub mod admitted;
pub mod auth;
mod buffers;
pub mod carriers;
mod choose;
mod client;
mod closing_line;
pub mod connection;
mod ending;
mod exchange;
mod forward;
mod forwarded;
mod frames;
pub mod limits;
mod load;
mod proxy_protocol;
pub mod refuse;
mod reply;
mod route;
pub mod service;
mod session_request;
mod source;
mod takeover;
mod tunnel;
mod upgraded;
mod upload;

pub use buffers::Buffers;
