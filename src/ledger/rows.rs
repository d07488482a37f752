//! The ledger at one moment, as the API shows it: plain values, no locks. Times are milliseconds since the epoch,
//! durations milliseconds, rates bytes per second.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use serde::Serialize;

use super::entry::Live;
use super::rate::Clock;
use super::traffic::{Amount, Traffic, Used};
use super::{ClientAddr, millis};
use crate::config::Lavalink;

/// The whole ledger.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Snapshot {
    /// When the process began to count.
    pub started_at: u64,
    /// When the figures began: earlier than that where those of earlier processes were restored.
    pub since: u64,
    /// When the snapshot was taken.
    pub now: u64,
    /// The time between the start and then, by a clock that is never set.
    pub uptime: u64,
    /// All connections, live and ended.
    pub totals: Totals,
    /// The live ones, oldest first.
    pub connections: Vec<ConnectionRow>,
    /// Per client address, most bytes first.
    pub usage: Vec<UsageRow>,
    /// How many connections ended for each reason.
    pub ended: BTreeMap<String, u64>,
}

/// Sums over all connections since the figures began.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Totals {
    /// Open now.
    pub active: u64,
    /// Of these, tunnels.
    pub websockets: u64,
    /// Of these, by the version of the last request; those that have sent none are in neither.
    pub versions: BTreeMap<&'static str, u64>,
    /// Ever opened.
    pub connections: u64,
    /// Of all of them.
    #[serde(flatten)]
    pub traffic: Traffic,
}

/// A live connection.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ConnectionRow {
    /// Unique since the start.
    pub id: u64,
    /// Address and port of the last request's client; the address alone where a front gave no port.
    pub client: ClientAddr,
    /// Address alone.
    pub address: IpAddr,
    /// The name of the node that the last request went to.
    pub node: Option<Arc<str>>,
    /// The node's address.
    pub backend: Option<Arc<str>>,
    /// `v3` or `v4`, of the last request.
    pub version: Option<&'static str>,
    /// `http`, or `websocket` once it is a tunnel.
    pub kind: &'static str,
    /// When it was accepted.
    pub connected_at: u64,
    /// Since then.
    pub uptime: u64,
    /// Of this connection alone.
    #[serde(flatten)]
    pub traffic: Traffic,
    /// The `User-Id` it sent last, or empty.
    pub user_id: Arc<str>,
    /// The `Client-Name` it sent last, or empty.
    pub client_name: Arc<str>,
    /// The `User-Agent` it sent last, or empty.
    pub user_agent: Arc<str>,
    /// How often another node has taken over its session.
    pub takeovers: u64,
    /// True while its session has no node.
    pub taking_over: bool,
}

impl ConnectionRow {
    pub(super) fn new(connection: &Live, so_far: Amount, clock: &Clock) -> Self {
        let notes = connection.notes.lock();
        Self {
            id: connection.id,
            client: notes.client,
            address: notes.client.address,
            node: notes.node.clone(),
            backend: notes.backend.clone(),
            version: notes.version.map(Lavalink::name),
            kind: if connection.websocket.load(Relaxed) { "websocket" } else { "http" },
            connected_at: connection.connected_at,
            uptime: millis(connection.opened.elapsed()),
            traffic: Traffic::new(so_far, notes.rate.per_second(clock)),
            user_id: notes.bot.key.clone().unwrap_or_default(),
            client_name: notes.client_name.clone().unwrap_or_default(),
            user_agent: notes.user_agent.clone(),
            takeovers: connection.takeovers.load(Relaxed),
            taking_over: connection.taking_over.load(Relaxed),
        }
    }
}

/// What one client address used since the figures began.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UsageRow {
    /// The address, or `others` for those that were folded together.
    pub address: String,
    /// What it used.
    #[serde(flatten)]
    pub used: Used,
}

/// What one bot used since the figures began.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BotRow {
    /// The `User-Id` that it sends, or `others` for those that were folded together.
    pub user_id: Arc<str>,
    /// The `Client-Name` it sent last, or empty.
    pub client_name: Arc<str>,
    /// What it used.
    #[serde(flatten)]
    pub used: Used,
}

/// What one account used since the figures began.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AccountUsageRow {
    /// Its name, or `others` for those that were folded together.
    pub account: Arc<str>,
    /// What it used.
    #[serde(flatten)]
    pub used: Used,
}
