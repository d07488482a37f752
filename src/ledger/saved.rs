//! The saved form of the ledger: plain values that add up, for a file and for a successor.
//!
//! Names that this version does not know are kept, so that a change of version loses no figure.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::traffic::{Amount, Counted};

/// The figures of a ledger, or a part of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Saved {
    /// When the figures began, in milliseconds since the epoch; 0 when that is not known.
    pub since: u64,
    /// The sums that are kept by name.
    pub counters: Counters,
    /// By client address.
    pub addresses: SavedBook<IpAddr>,
    /// By bot.
    pub bots: SavedBook<Arc<str>>,
    /// By account.
    pub accounts: SavedBook<Arc<str>>,
    /// By node.
    pub nodes: SavedBook<Arc<str>>,
}

impl Saved {
    /// What this report of a predecessor contains beyond its report `before`.
    pub(super) fn beyond(&self, before: &Self) -> Self {
        Self {
            since: self.since,
            counters: self.counters.less(&before.counters),
            addresses: self.addresses.beyond(&before.addresses),
            bots: self.bots.beyond(&before.bots),
            accounts: self.accounts.beyond(&before.accounts),
            nodes: self.nodes.beyond(&before.nodes),
        }
    }
}

/// Sums by name; a name that is missing stands for nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Counters {
    /// Connections ever opened, by listener.
    pub listeners: BTreeMap<Arc<str>, u64>,
    /// What connections used, by version: `none`, `v3` and `v4`.
    pub versions: BTreeMap<String, Amount>,
    /// Ended connections, by reason.
    pub ended: BTreeMap<String, u64>,
    /// Requests and connections that got an error of our own, by reason.
    pub refused: BTreeMap<String, u64>,
}

impl Counters {
    /// What remains after `part` is taken away.
    pub(super) fn less(&self, part: &Self) -> Self {
        Self {
            listeners: less(&self.listeners, &part.listeners, u64::saturating_sub),
            versions: less(&self.versions, &part.versions, Amount::less),
            ended: less(&self.ended, &part.ended, u64::saturating_sub),
            refused: less(&self.refused, &part.refused, u64::saturating_sub),
        }
    }
}

/// The names that are left when `part` is taken away from `all`.
fn less<N: Clone + Ord, V: Copy + Default + PartialEq>(
    all: &BTreeMap<N, V>,
    part: &BTreeMap<N, V>,
    subtract: fn(V, V) -> V,
) -> BTreeMap<N, V> {
    let rest = |(name, value): (&N, &V)| {
        let value = subtract(*value, part.get(name).copied().unwrap_or_default());
        (value != V::default()).then(|| (name.clone(), value))
    };
    all.iter().filter_map(rest).collect()
}

/// Figures by key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedBook<K> {
    /// In any order.
    pub rows: Vec<SavedRow<K>>,
    /// Those that were folded together.
    #[serde(default)]
    pub others: SavedUsage,
}

// Derived, it would want keys that have a default.
impl<K> Default for SavedBook<K> {
    fn default() -> Self {
        Self { rows: Vec::new(), others: SavedUsage::default() }
    }
}

impl<K: Clone + Eq + Hash> SavedBook<K> {
    /// What this report contains beyond the report `before`. A row that shrank was folded into `others` there, which
    /// grew by as much. What was reported for it stays with its key, and `others` counts for that much less.
    fn beyond(&self, before: &Self) -> Self {
        let mut reported: HashMap<&K, Counted> = before.rows.iter().map(|row| (&row.key, row.usage.counted)).collect();
        let mut others_before = before.others.counted;
        let mut rows = Vec::new();
        for row in &self.rows {
            let (counted, known) = (row.usage.counted, reported.remove(&row.key).unwrap_or_default());
            others_before.add(known.less(counted));
            let usage = SavedUsage { counted: counted.less(known), ..row.usage };
            if !usage.counted.is_nothing() {
                rows.push(SavedRow { key: row.key.clone(), client_name: row.client_name.clone(), usage });
            }
        }
        reported.into_values().for_each(|known| others_before.add(known));
        let others = SavedUsage { counted: self.others.counted.less(others_before), ..self.others };
        Self { rows, others }
    }
}

/// The figures of one key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SavedRow<K> {
    /// A client address, the `User-Id` of a bot, or the name of an account or a node.
    pub key: K,
    /// The `Client-Name` that a bot sent last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_name: Option<Arc<str>>,
    /// What it used.
    #[serde(flatten)]
    pub usage: SavedUsage,
}

/// What a key used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SavedUsage {
    /// Its connections, requests and bytes.
    #[serde(flatten)]
    pub counted: Counted,
    /// When it last had a connection, in milliseconds since the epoch.
    pub last_seen: u64,
}
