//! The two versions of Lavalink.

use std::fmt;

/// A major version of Lavalink.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lavalink {
    /// Lavalink 3, with paths under `/v3` or without a prefix.
    V3,
    /// Lavalink 4, with paths under `/v4`.
    V4,
}

impl Lavalink {
    /// Both, the older one first.
    pub const ALL: [Self; 2] = [Self::V3, Self::V4];

    /// `v3` or `v4`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::V3 => "v3",
            Self::V4 => "v4",
        }
    }
}

impl fmt::Display for Lavalink {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name())
    }
}
