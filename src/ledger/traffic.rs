//! Requests, bytes and rates: the figures that the rows, the sums and the counters share.

use serde::Serialize;

/// Requests and bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
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

    /// Bytes in and bytes out.
    pub(super) fn bytes(self) -> (u64, u64) {
        (self.bytes_in, self.bytes_out)
    }

    pub(super) fn add(&mut self, other: Self) {
        self.requests += other.requests;
        self.bytes_in += other.bytes_in;
        self.bytes_out += other.bytes_out;
    }
}

/// Requests and bytes since the start, and the rates of the last seconds. Its fields are fields of the rows in JSON.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Traffic {
    /// Since the start.
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
