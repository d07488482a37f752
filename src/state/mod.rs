//! What outlives a process: the figures of the ledger and their history, the bans, the draining nodes and where v3's
//! sessions are. One file in STATE_DIR holds it, and a predecessor sends it to its successor.
//!
//! It holds no passwords and no tokens. Of a `Resume-Key` it holds a hash.

pub mod file;
pub mod saver;

use std::fmt;
use std::sync::Arc;

use log::warn;
use serde::{Deserialize, Deserializer, Serialize};

use crate::limits::SavedBans;
use crate::logfmt::Quoted;
use crate::sessions::table::{Changing, Moved};
use crate::{history, ledger};

/// The version of the form. A form that an older lavaproxy would misread needs a higher one.
const VERSION: u64 = 1;
/// A larger state is not read, in bytes.
pub const MAX_SIZE: u64 = 64 * 1024 * 1024;

/// What a process leaves to the next one.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    version: u64,
    /// When it was written, in milliseconds since the epoch; 0 until then.
    pub saved_at: u64,
    /// All figures.
    pub ledger: ledger::Saved,
    /// The bans in force, and what decides how long the next ones last.
    pub bans: SavedBans,
    /// The names of the draining nodes.
    pub draining: Vec<Arc<str>>,
    /// Hashes of v3's resume keys, with the names of the nodes that have their sessions, oldest first.
    pub resume_keys: Vec<(String, Arc<str>)>,
    /// Sessions that another node has taken over. A form without them has none.
    #[serde(default)]
    pub moved_sessions: Vec<Moved>,
    /// Sessions that a predecessor is taking over. The file has none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changing_sessions: Vec<Changing>,
    /// What was used over time. A form without it has an empty one. `None` where it cannot be read.
    #[serde(default = "no_history", deserialize_with = "history_or_none")]
    pub history: Option<history::Saved>,
}

fn no_history() -> Option<history::Saved> {
    Some(history::Saved::default())
}

/// Charts are worth less than all the rest: where they cannot be read, the rest still is.
fn history_or_none<'d, D: Deserializer<'d>>(from: D) -> Result<Option<history::Saved>, D::Error> {
    let value = serde_json::Value::deserialize(from)?;
    let read = serde_json::from_value(value).map_err(|error| {
        let hint = "the charts and the days of the status page begin again";
        warn!("event=history-unreadable error={} hint=\"{hint}\"", Quoted(error));
    });
    Ok(read.ok())
}

/// What a predecessor reports to its successor while its last connections go on.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Remainder {
    /// What they have used since the state was handed over.
    #[serde(flatten)]
    pub ledger: ledger::Saved,
    /// Where the sessions are that were taken over. A report without them has none.
    #[serde(default)]
    pub moved_sessions: Vec<Moved>,
    /// Sessions that are being taken over. A report without them has none.
    #[serde(default)]
    pub changing_sessions: Vec<Changing>,
}

/// The field that every form has.
#[derive(Deserialize)]
struct Form {
    version: u64,
}

/// Why a text is no state.
#[derive(Debug)]
pub enum ParseError {
    /// It is not what lavaproxy writes.
    Garbled(serde_json::Error),
    /// A later lavaproxy wrote it.
    Newer(u64),
}

impl fmt::Display for ParseError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Garbled(error) => write!(out, "it is damaged: {error}"),
            Self::Newer(version) => {
                write!(out, "its form has version {version}, and this lavaproxy reads version {VERSION}")
            }
        }
    }
}

impl std::error::Error for ParseError {}

impl State {
    /// The state of this moment.
    pub fn new(
        ledger: ledger::Saved,
        bans: SavedBans,
        draining: Vec<Arc<str>>,
        resume_keys: Vec<(String, Arc<str>)>,
        moved_sessions: Vec<Moved>,
    ) -> Self {
        let (changing_sessions, history) = (Vec::new(), no_history());
        Self {
            version: VERSION,
            saved_at: 0,
            ledger,
            bans,
            draining,
            resume_keys,
            moved_sessions,
            changing_sessions,
            history,
        }
    }

    /// Reads what [`to_json`](Self::to_json) wrote.
    ///
    /// # Errors
    /// When the text is anything else.
    pub fn parse(json: &[u8]) -> Result<Self, ParseError> {
        let form: Form = serde_json::from_slice(json).map_err(ParseError::Garbled)?;
        if form.version > VERSION {
            return Err(ParseError::Newer(form.version));
        }
        serde_json::from_slice(json).map_err(ParseError::Garbled)
    }

    /// The state as one line of JSON, without a line end.
    ///
    /// # Errors
    /// When a part of it cannot be written as JSON, which is a defect in lavaproxy.
    pub fn to_json(&self) -> serde_json::Result<Vec<u8>> {
        serde_json::to_vec(self)
    }
}
