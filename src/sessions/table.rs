//! Which node has which session: ids that were seen in `ready`, and v3's keys. Bounded, behind locks of its own; the
//! byte path touches it once per session.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;

use super::resume::{KeyHash, ResumeKeys};

/// The most ids that are remembered; then the oldest is forgotten.
const MAX_IDS: usize = 20_000;

/// The sessions of all versions.
#[derive(Default)]
pub struct Sessions {
    ids: Mutex<Ids>,
    keys: Mutex<ResumeKeys>,
}

#[derive(Default)]
struct Ids {
    /// The numbers of the nodes' backends.
    nodes: HashMap<Box<[u8]>, u64>,
    /// Oldest first.
    by_age: VecDeque<Box<[u8]>>,
}

impl Sessions {
    /// Notes that the backend with this number has the session.
    pub fn note(&self, id: &[u8], backend: u64) {
        let mut ids = self.ids.lock();
        if ids.nodes.insert(id.into(), backend).is_none() {
            ids.by_age.push_back(id.into());
        }
        if ids.by_age.len() > MAX_IDS {
            if let Some(oldest) = ids.by_age.pop_front() {
                ids.nodes.remove(&oldest);
            }
        }
    }

    /// The number of the backend that has the session.
    pub fn backend_of(&self, id: &[u8]) -> Option<u64> {
        self.ids.lock().nodes.get(id).copied()
    }

    /// Notes that the node of this name has the session of a key.
    pub fn note_key(&self, key: KeyHash, node: &Arc<str>) {
        self.keys.lock().remember(key, node);
    }

    /// The node that has the session of a key, if one is remembered that is still among `names`.
    pub fn node_of_key<'n>(&self, key: KeyHash, names: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
        self.keys.lock().known(key, names)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_ids_are_remembered() {
        let sessions = Sessions::default();
        for number in 0..MAX_IDS + 10 {
            sessions.note(number.to_string().as_bytes(), 7);
        }
        assert_eq!(sessions.backend_of(b"9"), None);
        assert_eq!(sessions.backend_of(b"10"), Some(7));
        sessions.note(b"10", 8);
        assert_eq!(sessions.backend_of(b"10"), Some(8));
        assert_eq!(sessions.ids.lock().nodes.len(), MAX_IDS);
    }
}
