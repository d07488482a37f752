//! lavaproxy: one address for Discord music bots in front of Lavalink v3 and v4.
//!
//! ```text
//! accept -> admit -> [ read head -> limits -> authenticate -> route -> choose a node -> exchange ]* -> tunnel -> account
//!                    one round per HTTP request of a keep-alive connection                after a 101
//! ```
//!
//! Each module has a floor. No module imports from a floor above its own, and the imports form no circle:
//!
//! | floor | modules | |
//! |---|---|---|
//! | 8 | [`signals`] | what a running lavaproxy does on a signal |
//! | 7 | [`server`] | puts everything together from the settings |
//! | 6 | [`process`], [`state`] | inherited sockets, the successor, the supervisor; what outlives a process |
//! | 5 | [`listener`] | the accept loops |
//! | 4 | [`proxy`], [`monitor`] | the stages of a connection; the web pages and the API |
//! | 3 | [`sessions`], [`admission`], [`limits`] | Lavalink sessions and their nodes; slots for connections; limits, bans, accounts |
//! | 2 | [`nodes`], [`ledger`], [`history`] | Lavalink nodes; connections and their traffic; figures over time |
//! | 1 | [`error`], [`demo`], [`healthcheck`] | faults, and ends of connections; pretend nodes and bots; `--healthcheck` |
//! | 0 | [`http`], [`config`], [`log_limit`], [`logfmt`], [`unix_time`] | the protocol; the settings; log lines; the system's clock |
//!
//! The proxy never reads a number back from the ledger. Without [`monitor`] lavaproxy is a proxy without pages.

pub mod admission;
pub mod config;
pub mod demo;
pub mod error;
pub mod healthcheck;
pub mod history;
pub mod http;
pub mod ledger;
pub mod limits;
pub mod listener;
pub mod log_limit;
pub mod logfmt;
pub mod monitor;
pub mod nodes;
pub mod process;
pub mod proxy;
pub mod server;
pub mod sessions;
pub mod signals;
pub mod state;
pub mod unix_time;
