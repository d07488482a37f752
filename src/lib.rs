//! lavaproxy: one address for Discord music bots in front of Lavalink v3 and v4.
//!
//! ```text
//! accept -> admit -> [ read head -> authenticate -> route -> connect -> exchange ]* -> tunnel -> account
//!                    one round per HTTP request of a kept-alive connection      after a 101
//! ```
//!
//! [`proxy`] is that corridor, one file per stage. Bots come in by doors that speak Lavalink's way, people by a
//! door to the [`monitor`]; both lead through the same corridor. [`http`] knows the protocol and nothing else,
//! [`ledger`] counts and knows neither HTTP nor sockets. Dependencies point one way:
//! `running` -> `server` -> `monitor` -> `proxy` -> `ledger`, `http` -> `error`, `config`; the monitor reads and nothing needs it.
//! [`running`] obeys signals, with [`sockets`] and [`upgrade`] so that nobody notices a restart, and [`notify`] so that a
//! supervisor does.

pub mod config;
pub mod demo;
pub mod error;
pub mod healthcheck;
pub mod http;
pub mod ledger;
pub mod logfmt;
pub mod monitor;
pub mod notify;
pub mod proxy;
pub mod running;
pub mod server;
pub mod sockets;
pub mod upgrade;
