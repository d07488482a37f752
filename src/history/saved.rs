//! The form of the history in the state file. The values of a ring are one text: base64 of two bytes for each. Whatever
//! a file holds is taken as far as it can be read; the rest is a gap.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use serde::{Deserialize, Serialize};

use super::packed::Packed;
use super::series::Range;
use super::uptime::SavedUptime;

/// The whole history.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Saved {
    /// The slot of 10 s that was measured last; 0 before the first.
    pub newest: u64,
    /// Of all connections together.
    pub all: SavedGroup,
    /// By version.
    pub versions: SavedGroup,
    /// By node.
    pub nodes: SavedGroup,
    /// By account.
    pub accounts: SavedGroup,
    /// Of each version.
    pub uptime: BTreeMap<String, SavedUptime>,
}

/// The figures of several names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SavedGroup {
    /// The names with figures of their own.
    pub rows: Vec<SavedRow>,
    /// All others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub others: Option<SavedRow>,
}

/// The figures of one name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedRow {
    /// The name.
    pub name: Arc<str>,
    /// What its sums were when it was measured last.
    #[serde(default)]
    pub last: Option<[u64; 4]>,
    /// Three rings for each figure. The newest value is the last one; gaps before the first value are left out.
    #[serde(default)]
    pub series: BTreeMap<String, [String; 3]>,
}

impl SavedRow {
    /// A row with these figures, whose rings are in the order of [`Range::ALL`].
    pub fn new(
        name: &Arc<str>,
        last: Option<[u64; 4]>,
        series: impl Iterator<Item = (&'static str, [Vec<Packed>; 3])>,
    ) -> Self {
        let encoded = series.map(|(figure, rings)| (figure.to_owned(), rings.map(|ring| encode(&ring))));
        Self { name: Arc::clone(name), last, series: encoded.collect() }
    }

    /// The values of a figure.
    pub fn ring(&self, figure: &str, range: Range) -> Vec<Packed> {
        self.series.get(figure).map_or_else(Vec::new, |rings| decode(&rings[range as usize]))
    }
}

fn encode(ring: &[Packed]) -> String {
    let first = ring.iter().position(|value| *value != Packed::GAP).unwrap_or(ring.len());
    let bytes: Vec<u8> = ring[first..].iter().flat_map(|value| value.to_bytes()).collect();
    STANDARD_NO_PAD.encode(bytes)
}

fn decode(text: &str) -> Vec<Packed> {
    let bytes = STANDARD_NO_PAD.decode(text).unwrap_or_default();
    bytes.chunks_exact(2).map(|pair| Packed::from_bytes([pair[0], pair[1]])).collect()
}
