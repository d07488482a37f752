//! The versions of Lavalink that are spoken.

/// A major version of Lavalink's API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lavalink {
    /// Lavalink 3.
    V3,
    /// Lavalink 4.
    V4,
}

impl Lavalink {
    /// `v3` or `v4`, as paths have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::V3 => "v3",
            Self::V4 => "v4",
        }
    }
}
