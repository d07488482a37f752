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

    /// The hashes of all keys with the names of their nodes, oldest first, for the next process.
    pub fn save_keys(&self) -> Vec<(String, Arc<str>)> {
        self.keys.lock().iter().map(|(key, node)| (key.to_hex(), Arc::clone(node))).collect()
    }

    /// Notes what [`save_keys`](Self::save_keys) returned in another process. What is no hash is left out.
    pub fn restore_keys(&self, keys: &[(String, Arc<str>)]) {
        let mut known = self.keys.lock();
        for (hex, node) in keys {
            if let Some(key) = KeyHash::from_hex(hex) {
                known.remember(key, node);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
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

    #[test]
    fn keys_are_the_same_in_the_next_process() {
        let (before, after) = (Sessions::default(), Sessions::default());
        let key = |text: &str| KeyHash::of(text.as_bytes()).unwrap();
        before.note_key(key("one"), &"eu1".into());
        before.note_key(key("two"), &"eu2".into());
        let mut saved = before.save_keys();
        assert!(!saved.iter().any(|(hex, _)| hex.contains("one")));
        saved.push(("no hash".to_owned(), "eu1".into()));
        after.restore_keys(&saved);
        assert_eq!(after.save_keys(), before.save_keys());
        assert_eq!(after.node_of_key(key("two"), ["eu1", "eu2"]), Some("eu2"));
    }
}
