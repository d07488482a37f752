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

/// One value for each version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PerVersion<T> {
    /// The value for v3.
    pub v3: T,
    /// The value for v4.
    pub v4: T,
}

impl<T> PerVersion<T> {
    /// The value that `of` returns for each version, for v3 first.
    pub fn new(mut of: impl FnMut(Lavalink) -> T) -> Self {
        Self { v3: of(Lavalink::V3), v4: of(Lavalink::V4) }
    }

    /// The value for this version.
    #[must_use]
    pub fn get(&self, version: Lavalink) -> &T {
        match version {
            Lavalink::V3 => &self.v3,
            Lavalink::V4 => &self.v4,
        }
    }
}
