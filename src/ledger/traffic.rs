//! Connections, requests, bytes and rates: the figures that the rows, the sums and the counters share.
//!
//! Sums saturate: a restored figure may be any number, and no file may stop lavaproxy.

use serde::{Deserialize, Serialize};

/// Requests and bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Amount {
    /// Requests read.
    pub requests: u64,
    /// Bytes from clients.
    pub bytes_in: u64,
    /// Bytes to clients.
    pub bytes_out: u64,
}

impl Amount {
    /// What remains after `other` is taken away.
    pub(super) fn less(self, other: Self) -> Self {
        Self {
            requests: self.requests.saturating_sub(other.requests),
            bytes_in: self.bytes_in.saturating_sub(other.bytes_in),
            bytes_out: self.bytes_out.saturating_sub(other.bytes_out),
        }
    }

    /// The greater value of each figure.
    pub(super) fn at_least(self, other: Self) -> Self {
        Self {
            requests: self.requests.max(other.requests),
            bytes_in: self.bytes_in.max(other.bytes_in),
            bytes_out: self.bytes_out.max(other.bytes_out),
        }
    }

    /// Bytes in and bytes out.
    pub(super) fn bytes(self) -> (u64, u64) {
        (self.bytes_in, self.bytes_out)
    }

    pub(super) fn add(&mut self, other: Self) {
        self.requests = self.requests.saturating_add(other.requests);
        self.bytes_in = self.bytes_in.saturating_add(other.bytes_in);
        self.bytes_out = self.bytes_out.saturating_add(other.bytes_out);
    }
}

/// What adds up over connections: their number, and what they used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Counted {
    /// Connections ever opened.
    pub connections: u64,
    /// Of all of them.
    #[serde(flatten)]
    pub amount: Amount,
}

impl Counted {
    /// What remains after `other` is taken away.
    pub(super) fn less(self, other: Self) -> Self {
        Self { connections: self.connections.saturating_sub(other.connections), amount: self.amount.less(other.amount) }
    }

    pub(super) fn add(&mut self, other: Self) {
        self.connections = self.connections.saturating_add(other.connections);
        self.amount.add(other.amount);
    }

    /// True when there is nothing to count.
    pub(super) fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}

/// Requests and bytes so far, and the rates of the last seconds. Its fields are fields of the rows in JSON.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Traffic {
    /// So far.
    #[serde(flatten)]
    pub amount: Amount,
    /// Bytes per second from clients.
    pub rate_in: u64,
    /// Bytes per second to clients.
    pub rate_out: u64,
}

impl Traffic {
    pub(super) fn new(amount: Amount, (rate_in, rate_out): (u64, u64)) -> Self {
        Self { amount, rate_in, rate_out }
    }
}

/// What one address, bot or account used. Its fields are fields of the rows in JSON.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Used {
    /// Connections open now.
    pub active: u64,
    /// Connections ever opened.
    pub connections: u64,
    /// Of all its connections.
    #[serde(flatten)]
    pub traffic: Traffic,
    /// When it last opened or closed a connection; now while one is open.
    pub last_seen: u64,
}

impl Used {
    pub(super) fn new(active: u64, counted: Counted, rates: (u64, u64), last_seen: u64) -> Self {
        let Counted { connections, amount } = counted;
        Self { active, connections, traffic: Traffic::new(amount, rates), last_seen }
    }

    /// Bytes in both directions, for the order of the rows.
    pub fn bytes(&self) -> u64 {
        self.traffic.amount.bytes_in.saturating_add(self.traffic.amount.bytes_out)
    }
}
