//! v3's `Resume-Key`, the client's own word for its session, and the node that a key leads to. A key is a secret, as
//! it takes a session over: only a hash of it is kept, and nothing prints it. Pure; the table is bounded.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use sha1_smol::Sha1;

/// The most keys that are remembered; then the oldest is forgotten.
pub const MAX_KEYS: usize = 10_000;

/// What stands for a key: the same in every process and on every machine.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyHash(u128);

impl KeyHash {
    /// The first 128 bits of the key's SHA-1. `None` for an empty key, which some clients send when they have none.
    pub fn of(key: &[u8]) -> Option<Self> {
        let start = |digest: [u8; 20]| digest[..16].iter().fold(0, |hash, byte| hash << 8 | u128::from(*byte));
        (!key.is_empty()).then(|| Self(start(Sha1::from(key).digest().bytes())))
    }

    /// For a state file.
    pub fn to_hex(self) -> String {
        format!("{:032x}", self.0)
    }

    /// From a state file.
    pub fn from_hex(text: &str) -> Option<Self> {
        let is_hash = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_hash.then(|| u128::from_str_radix(text, 16).ok().map(Self)).flatten()
    }
}

/// The node that a key leads to when nothing is known of it, by rendezvous hashing: every lavaproxy with the same
/// names chooses the same one, and a node that is removed moves only its own keys.
pub fn rendezvous<'n>(key: KeyHash, names: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    names.into_iter().max_by_key(|name| (weight(key, name), *name))
}

fn weight(key: KeyHash, name: &str) -> [u8; 20] {
    let mut hash = Sha1::from(key.0.to_be_bytes());
    hash.update(name.as_bytes());
    hash.digest().bytes()
}

/// Which node has the session of a key, for keys that a session used or set.
#[derive(Default)]
pub struct ResumeKeys {
    nodes: HashMap<KeyHash, Known>,
    /// Oldest first.
    by_age: BTreeMap<u64, KeyHash>,
    next_age: u64,
}

struct Known {
    node: Arc<str>,
    age: u64,
}

impl ResumeKeys {
    /// Notes that this node has the session of the key. What was known of the key before is forgotten.
    pub fn remember(&mut self, key: KeyHash, node: &Arc<str>) {
        let age = self.next_age;
        self.next_age += 1;
        if let Some(before) = self.nodes.insert(key, Known { node: Arc::clone(node), age }) {
            self.by_age.remove(&before.age);
        }
        self.by_age.insert(age, key);
        if self.nodes.len() > MAX_KEYS {
            if let Some((_, oldest)) = self.by_age.pop_first() {
                self.nodes.remove(&oldest);
            }
        }
    }

    /// The node that is remembered for a key, if it is still one of `names`.
    pub fn known<'n>(&self, key: KeyHash, names: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
        let known = self.nodes.get(&key)?;
        names.into_iter().find(|name| *name == &*known.node)
    }

    /// All keys that are remembered with their nodes, oldest first. They can be remembered again in this order.
    pub fn iter(&self) -> impl Iterator<Item = (KeyHash, &Arc<str>)> {
        self.by_age.values().filter_map(|key| Some((*key, &self.nodes.get(key)?.node)))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const NAMES: [&str; 3] = ["eu1", "eu2", "us1"];

    fn key(number: usize) -> KeyHash {
        KeyHash::of(format!("key-{number}").as_bytes()).unwrap()
    }

    #[test]
    fn a_hash_is_the_same_in_every_process_and_survives_a_file() {
        let hash = KeyHash::of(b"my-key-1").unwrap();
        // printf my-key-1 | sha1sum
        assert_eq!(hash.to_hex(), "f003d06dfa43bf53387632175005bc23");
        assert!(KeyHash::from_hex(&hash.to_hex()) == Some(hash));
        assert!(KeyHash::of(b"").is_none());
        for text in ["", "12", "+2345678901234567890123456789012", "g2345678901234567890123456789012", &"0".repeat(33)]
        {
            assert!(KeyHash::from_hex(text).is_none(), "{text}");
        }
    }

    #[test]
    fn keys_spread_evenly_over_the_nodes() {
        let mut counts = HashMap::new();
        for number in 0..9000 {
            *counts.entry(rendezvous(key(number), NAMES).unwrap()).or_insert(0) += 1;
        }
        assert!(counts.len() == 3 && counts.values().all(|count| (2800..=3200).contains(count)), "{counts:?}");
    }

    #[test]
    fn a_node_that_is_removed_moves_only_its_own_keys() {
        for number in 0..3000 {
            let before = rendezvous(key(number), NAMES);
            let after = rendezvous(key(number), ["eu1", "us1"]);
            assert!(before == after || before == Some("eu2"), "key {number}: {before:?} to {after:?}");
        }
    }

    #[test]
    fn the_order_of_the_settings_does_not_matter() {
        for number in 0..100 {
            assert_eq!(rendezvous(key(number), NAMES), rendezvous(key(number), ["us1", "eu1", "eu2"]));
        }
        assert_eq!(rendezvous(key(0), []), None);
    }

    #[test]
    fn another_version_of_the_program_must_choose_the_same_nodes() {
        let chosen: Vec<_> = (0..8).map(|number| rendezvous(key(number), NAMES).unwrap()).collect();
        assert_eq!(chosen, ["eu2", "us1", "eu1", "us1", "eu2", "us1", "eu2", "eu1"]);
    }

    #[test]
    fn a_remembered_key_leads_to_its_node_while_there_is_that_node() {
        let mut keys = ResumeKeys::default();
        let hashed = rendezvous(key(1), NAMES).unwrap();
        let other = NAMES.into_iter().find(|name| *name != hashed).unwrap();
        assert_eq!(keys.known(key(1), NAMES), None);
        keys.remember(key(1), &other.into());
        assert_eq!(keys.known(key(1), NAMES), Some(other));
        assert_eq!(keys.known(key(1), [hashed]), None);
        keys.remember(key(1), &hashed.into());
        assert_eq!(keys.known(key(1), NAMES), Some(hashed));
        assert_eq!(keys.iter().count(), 1);
    }

    #[test]
    fn the_oldest_key_is_forgotten_first() {
        let mut keys = ResumeKeys::default();
        let node: Arc<str> = "eu1".into();
        (0..MAX_KEYS).for_each(|number| keys.remember(key(number), &node));
        keys.remember(key(0), &node);
        (0..5).for_each(|number| keys.remember(key(MAX_KEYS + number), &node));
        assert_eq!((keys.nodes.len(), keys.by_age.len()), (MAX_KEYS, MAX_KEYS));
        let known = |number| keys.nodes.contains_key(&key(number));
        assert!(known(0) && (1..=5).all(|number| !known(number)) && known(6) && known(MAX_KEYS + 4));

        let mut again = ResumeKeys::default();
        keys.iter().for_each(|(key, node)| again.remember(key, node));
        assert!(again.iter().eq(keys.iter()));
        assert!(again.iter().next().unwrap().0 == key(6));
    }
}
