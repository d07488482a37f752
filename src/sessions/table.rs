//! Which node has which session: ids that were seen in `ready`, v3's keys, and the sessions that can be taken over.
//! Bounded, behind locks of its own; the byte path touches it once per session.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use serde::{Deserialize, Serialize};

use super::ask_players::Askers;
use super::kept::Kept;
use super::memory::Memory;
use super::resume::{KeyHash, ResumeKeys};
use super::seat::Overdue;
use crate::nodes::backend::Backend;
use crate::unix_time::unix_millis;

/// The most ids that are remembered; then the oldest is forgotten.
const MAX_IDS: usize = 20_000;
/// The most sessions without a client that are kept.
const MAX_PARKED: usize = 10_000;
/// For so long the next processes know where a session is that no client has resumed: longer than nodes keep one.
const MOVED_KEPT: Duration = Duration::from_secs(3600);
/// The most names of removed nodes that are remembered; then the oldest is forgotten.
const MAX_FORMER: usize = 64;
/// How much longer than its node a session without a client is kept.
const PARKED_LONGER: Duration = Duration::from_secs(5);
/// The longest time that it is kept. If it is resumed later, its node is asked for its players.
const LONGEST_PARKED: Duration = Duration::from_secs(600);

/// The sessions of all versions.
#[derive(Default)]
pub struct Sessions {
    ids: Mutex<Ids>,
    keys: Mutex<ResumeKeys>,
    kept: Mutex<KeptSessions>,
    /// Those that an earlier process has taken over, by their first ids.
    moved: Mutex<HashMap<Box<[u8]>, Moved>>,
    /// The names of nodes that were removed, oldest first: a session that has left such a node keeps its id.
    former: Mutex<Arc<Vec<Arc<str>>>>,
    /// Those that a predecessor is taking over.
    predecessor: Mutex<Vec<Changing>>,
    predecessor_changed: Condvar,
    has_successor: AtomicBool,
    /// Where the end of a takeover is announced.
    news: Mutex<Option<Sender<()>>>,
    memory: Arc<Memory>,
    askers: Arc<Askers>,
}

/// A session that was taken over, for the next process. It has no secrets.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Moved {
    /// The id that the client knows, as its first node gave it.
    pub id: Arc<str>,
    /// The name of that node.
    pub node: Arc<str>,
    /// The id that the present node knows.
    pub present_id: Arc<str>,
    /// The name of the present node.
    pub present_node: Arc<str>,
    /// When it was last known to live, in milliseconds since the epoch. 0 in a form without it.
    #[serde(default)]
    pub seen: u64,
}

impl Moved {
    /// Where this session is now, if it was taken over. `id` is its first one, of this node.
    fn of(id: &str, node: &Arc<str>, kept: &Kept) -> Option<Self> {
        let place = kept.seat().last_place().filter(|place| place.number > 0)?;
        let (node, present_node) = (Arc::clone(node), Arc::clone(place.node.name()));
        Some(Self { id: id.into(), node, present_id: place.id, present_node, seen: unix_millis() })
    }
}

/// A session that is being taken over, for the next process.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Changing {
    /// The id that the client knows, as its first node gave it.
    pub id: Arc<str>,
    /// The name of that node.
    pub node: Arc<str>,
}

#[derive(Default)]
struct Ids {
    /// The numbers of the nodes' backends.
    nodes: HashMap<Arc<[u8]>, u64>,
    /// Oldest first.
    by_age: VecDeque<Arc<[u8]>>,
}

#[derive(Default)]
struct KeptSessions {
    /// By each id that a node gave them, with the name of that node.
    by_id: HashMap<Arc<[u8]>, Vec<OfNode>>,
    /// Sessions that wait for their client to resume them, and until when.
    parked: Vec<(Instant, Arc<Kept>)>,
}

/// A session that this node has given its id.
struct OfNode {
    node: Arc<str>,
    kept: Arc<Kept>,
}

impl KeptSessions {
    fn find(&self, id: &[u8], node: Option<&str>) -> Option<&Arc<Kept>> {
        let is_its = |known: &&OfNode| node.is_none_or(|node| *known.node == *node);
        self.by_id.get(id)?.iter().find(is_its).map(|known| &known.kept)
    }

    fn add(&mut self, id: &str, node: &Backend, kept: &Arc<Kept>) {
        let id: Arc<[u8]> = id.as_bytes().into();
        let mut ids = kept.ids.lock();
        if !ids.contains(&id) {
            ids.push(Arc::clone(&id));
        }
        drop(ids);
        let entries = self.by_id.entry(id).or_default();
        entries.retain(|known| known.node != *node.name());
        entries.push(OfNode { node: Arc::clone(node.name()), kept: Arc::clone(kept) });
    }

    /// Forgets the ids of a session but for the first `count`.
    fn forget_ids(&mut self, kept: &Arc<Kept>, count: usize) {
        let mut ids = kept.ids.lock();
        let kept_ids = count.min(ids.len());
        for id in ids.drain(kept_ids..) {
            if let Some(entries) = self.by_id.get_mut(&id) {
                entries.retain(|known| !Arc::ptr_eq(kept, &known.kept));
                if entries.is_empty() {
                    self.by_id.remove(&id);
                }
            }
        }
    }

    /// Where a session is that was taken over.
    fn moved(&self, kept: &Arc<Kept>) -> Option<Moved> {
        let first = kept.ids.lock().first().cloned()?;
        let node = &self.by_id.get(&first)?.iter().find(|known| Arc::ptr_eq(kept, &known.kept))?.node;
        Moved::of(std::str::from_utf8(&first).ok()?, node, kept)
    }

    fn forget(&mut self, kept: &Arc<Kept>) {
        self.forget_ids(kept, 0);
        self.parked.retain(|(_, other)| !Arc::ptr_eq(kept, other));
    }
}

impl Sessions {
    /// Notes that the backend with this number has the session.
    pub fn note(&self, id: &[u8], backend: u64) {
        let id: Arc<[u8]> = id.into();
        let mut ids = self.ids.lock();
        if ids.nodes.insert(Arc::clone(&id), backend).is_none() {
            ids.by_age.push_back(id);
        }
        if ids.by_age.len() > MAX_IDS {
            if let Some(oldest) = ids.by_age.pop_front() {
                ids.nodes.remove(&oldest);
            }
        }
    }

    /// Asks the node of a session that was resumed for its players, which this process does not know.
    pub(super) fn ask_for_players(&self, kept: &Arc<Kept>) {
        self.askers.ask(kept);
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

    /// The sessions that this process has taken over, and those of earlier ones, for the next one.
    pub fn save_moved(&self) -> Vec<Moved> {
        let now = unix_millis();
        let mut saved = Vec::new();
        self.for_each(|id, node, kept| saved.extend(Moved::of(id, node, kept)));
        let mut earlier = self.moved.lock();
        earlier.retain(|_, moved| u128::from(now.saturating_sub(moved.seen)) < MOVED_KEPT.as_millis());
        saved.extend(earlier.values().cloned());
        drop(earlier);
        // Of the same session, what this process knows comes first.
        saved.sort_by(|one: &Moved, other| one.id.cmp(&other.id));
        saved.dedup_by(|one, other| one.id == other.id && one.node == other.node);
        saved.truncate(MAX_IDS);
        saved
    }

    /// The sessions that this process is taking over, and those of its predecessor, for the next one. To be called before
    /// [`save_moved`](Self::save_moved): a takeover that ends in between is in both.
    pub fn save_changing(&self) -> Vec<Changing> {
        let mut saved = self.predecessor.lock().clone();
        self.for_each(|id, node, kept| {
            if kept.seat().is_away() {
                saved.push(Changing { id: id.into(), node: Arc::clone(node) });
            }
        });
        saved.truncate(MAX_IDS);
        saved
    }

    /// Calls this with each session, its first id, and the name of its first node.
    fn for_each(&self, mut work: impl FnMut(&str, &Arc<str>, &Kept)) {
        let all = self.kept.lock();
        for (id, known) in all.by_id.iter().flat_map(|(id, known)| known.iter().map(move |known| (id, known))) {
            let is_first = known.kept.ids.lock().first() == Some(id);
            if let Some(id) = std::str::from_utf8(id).ok().filter(|_| is_first) {
                work(id, &known.node, &known.kept);
            }
        }
    }

    /// Notes what [`save_moved`](Self::save_moved) returned in another process.
    pub fn restore_moved(&self, saved: Vec<Moved>) {
        saved.iter().for_each(|session| self.note_former(&session.node));
        let now = unix_millis();
        let known = |session: Moved| match session.seen {
            0 => Moved { seen: now, ..session },
            _ => session,
        };
        let mut moved = self.moved.lock();
        moved.extend(saved.into_iter().take(MAX_IDS).map(known).map(|session| (session.id.as_bytes().into(), session)));
    }

    /// Notes that the node of this name is removed, or may be.
    pub fn note_former(&self, name: &Arc<str>) {
        let mut former = self.former.lock();
        if former.contains(name) {
            return;
        }
        let names = Arc::make_mut(&mut former);
        names.push(Arc::clone(name));
        if names.len() > MAX_FORMER {
            names.remove(0);
        }
    }

    /// The names of removed nodes that ids may still have.
    pub fn former_names(&self) -> Arc<Vec<Arc<str>>> {
        Arc::clone(&self.former.lock())
    }

    /// Notes where the sessions of a predecessor are, by its newest report: those that it has taken over, and those that it
    /// is taking over. Its last one is empty.
    pub fn set_predecessor(&self, moved: Vec<Moved>, changing: Vec<Changing>) {
        self.restore_moved(moved);
        *self.predecessor.lock() = changing;
        self.predecessor_changed.notify_all();
        self.announce();
    }

    /// Waits while a predecessor takes the session with this id over, of this node if one is named.
    ///
    /// # Errors
    /// When the takeover has not ended by `deadline`.
    pub fn await_predecessor(&self, id: &[u8], node: Option<&str>, deadline: Instant) -> Result<(), Overdue> {
        let is_it = |one: &Changing| one.id.as_bytes() == id && node.is_none_or(|node| *one.node == *node);
        let mut predecessor = self.predecessor.lock();
        while predecessor.iter().any(is_it) {
            if self.predecessor_changed.wait_until(&mut predecessor, deadline).timed_out() {
                return Err(Overdue);
            }
        }
        Ok(())
    }

    /// From now on the end of each takeover is announced there. `None` ends that.
    pub fn announce_to(&self, news: Option<Sender<()>>) {
        *self.news.lock() = news;
    }

    /// A takeover has ended, here or in a predecessor.
    pub fn announce(&self) {
        if let Some(news) = &*self.news.lock() {
            // An error means that nobody reports any more.
            let _ = news.send(());
        }
    }

    /// From now on a successor may get the requests about the sessions that this process has. What their players do is
    /// not known here then. False takes it back: there is no successor.
    pub fn note_successor(&self, is_there: bool) {
        self.has_successor.store(is_there, SeqCst);
    }

    /// True when a successor may get the requests about the sessions that this process has.
    pub fn has_successor(&self) -> bool {
        self.has_successor.load(SeqCst)
    }

    /// Where a session is that an earlier process has taken over.
    pub fn moved(&self, id: &[u8], node: Option<&str>) -> Option<Moved> {
        let moved = self.moved.lock();
        moved.get(id).filter(|moved| node.is_none_or(|node| *moved.node == *node)).cloned()
    }

    /// The memory of the sessions that can be taken over.
    pub fn memory(&self) -> &Arc<Memory> {
        &self.memory
    }

    /// The session with this id, of this node if one is named, if it can be taken over or was.
    pub fn kept(&self, id: &[u8], node: Option<&str>) -> Option<Arc<Kept>> {
        self.kept.lock().find(id, node).cloned()
    }

    /// The session with this key, if a takeover of it is under way or its client is just leaving.
    pub fn changing_with_key(&self, key: KeyHash) -> Option<Arc<Kept>> {
        let all = self.kept.lock();
        let mut known = all.by_id.values().flatten().map(|known| &known.kept);
        known.find(|kept| kept.seat().is_changing() && kept.resume_key() == Some(key)).cloned()
    }

    /// The sessions with a client at the node with this number that can be taken over now, or as soon as their players
    /// are known.
    pub(super) fn kept_at(&self, node: u64) -> Vec<Arc<Kept>> {
        let all = self.kept.lock();
        let is_there = |kept: &&Arc<Kept>| {
            kept.is_followed() && kept.seat().last_place().is_some_and(|place| place.node.id() == node)
        };
        let of_all_ids = all.by_id.values().flatten().map(|known| &known.kept);
        let mut found: Vec<Arc<Kept>> = of_all_ids.filter(is_there).cloned().collect();
        found.sort_unstable_by_key(Arc::as_ptr);
        found.dedup_by(|one, other| Arc::ptr_eq(one, other));
        found
    }

    /// Registers a session with its first id and each later one, until the guard is dropped.
    pub(super) fn registration(self: &Arc<Self>, kept: &Arc<Kept>) -> Registration {
        Registration { sessions: Arc::clone(self), kept: Arc::clone(kept) }
    }

    /// Forgets the sessions that no client has resumed in time, and others without a client while the memory is scarce:
    /// it is worth more to those that have one. Must be called every few seconds.
    pub fn sweep(&self) {
        let now = Instant::now();
        let mut all = self.kept.lock();
        let expired: Vec<_> =
            all.parked.iter().filter(|(until, _)| *until <= now).map(|(_, kept)| Arc::clone(kept)).collect();
        expired.iter().for_each(|kept| self.forget_parked(&mut all, kept));
        drop(expired);
        while self.memory.is_scarce() {
            let next = all.parked.iter().min_by_key(|(until, _)| *until).map(|(_, kept)| Arc::clone(kept));
            let Some(next) = next else { return };
            self.forget_parked(&mut all, &next);
        }
    }

    /// Its node may keep it for longer: where it is stays known.
    fn forget_parked(&self, all: &mut KeptSessions, kept: &Arc<Kept>) {
        if let Some(moved) = all.moved(kept) {
            let mut known = self.moved.lock();
            if known.len() < MAX_IDS {
                known.insert(moved.id.as_bytes().into(), moved);
            }
        }
        all.forget(kept);
    }
}

/// A session in the table.
pub(super) struct Registration {
    sessions: Arc<Sessions>,
    kept: Arc<Kept>,
}

impl Registration {
    pub(super) fn kept(&self) -> &Arc<Kept> {
        &self.kept
    }

    /// The node has given the session its id. False when it was resumed and the node must be asked for its players.
    pub(super) fn opened(&self, node: &Arc<Backend>, id: &str, resumed: bool) -> bool {
        let mut all = self.sessions.kept.lock();
        let before = all.find(id.as_bytes(), Some(node.name())).filter(|_| resumed).cloned();
        if let Some(before) = &before {
            self.kept.adopt(before);
            all.forget(before);
        }
        let is_known = !resumed || self.kept.knows_players(before.is_some());
        self.kept.opened(node, id);
        all.add(id, node, &self.kept);
        is_known
    }

    /// Another node has given it another id. The client knows it by the first one.
    pub(super) fn moved(&self, node: &Backend, id: &str) {
        let mut all = self.sessions.kept.lock();
        all.forget_ids(&self.kept, 1);
        all.add(id, node, &self.kept);
    }
}

impl Drop for Registration {
    /// The tunnel has ended. A session that its client can resume is kept as long as its node keeps it.
    fn drop(&mut self) {
        self.kept.seat().note_client_left();
        let resuming = self.kept.resuming().filter(|_| self.kept.seat().last_place().is_some());
        let mut all = self.sessions.kept.lock();
        let until = resuming.and_then(|resuming| {
            let time = Duration::from_secs(resuming.seconds()).saturating_add(PARKED_LONGER);
            Instant::now().checked_add(time.min(LONGEST_PARKED))
        });
        match until.filter(|_| all.parked.len() < MAX_PARKED) {
            Some(until) => all.parked.push((until, Arc::clone(&self.kept))),
            None => all.forget(&self.kept),
        }
        drop(all);
        self.kept.seat().release();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use socket2::Socket;

    use super::*;
    use crate::config::Lavalink;
    use crate::sessions::opening::Opening;

    #[test]
    fn moved_sessions_are_known_in_the_next_process() {
        let moved = Moved {
            id: "abc".into(),
            node: "eu1".into(),
            present_id: "xyz".into(),
            present_node: "eu2".into(),
            seen: 0,
        };
        let before = Sessions::default();
        before.restore_moved(vec![moved]);
        let saved = before.save_moved();
        let moved = saved.first().unwrap();
        assert!(moved.seen > 0);
        let next = Sessions::default();
        next.restore_moved(saved.clone());
        assert_eq!(next.save_moved(), saved, "the process after the next one needs it too");
        let old = Moved { seen: moved.seen - MOVED_KEPT.as_millis() as u64 - 1, id: "old".into(), ..moved.clone() };
        next.restore_moved(vec![old]);
        assert_eq!(next.save_moved(), saved);
        for node in [None, Some("eu1")] {
            assert_eq!(next.moved(b"abc", node), Some(moved.clone()));
        }
        assert_eq!((next.moved(b"abc", Some("eu2")), next.moved(b"xyz", None)), (None, None));
    }

    #[test]
    fn sessions_without_a_client_make_room() {
        let sessions = Arc::new(Sessions::default());
        sessions.memory().set_limit(100);
        let socket = Arc::new(Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap());
        let until = Instant::now() + Duration::from_secs(60);
        for _ in 0..3 {
            let kept = Kept::new(Lavalink::V4, Opening::of(b""), sessions.memory(), &socket);
            sessions.kept.lock().parked.push((until, kept));
        }
        for (used, left) in [(75, 3), (76, 0)] {
            assert!(sessions.memory().change(0, used));
            sessions.sweep();
            assert_eq!(sessions.kept.lock().parked.len(), left);
            assert!(sessions.memory().change(used, 0));
        }
    }

    #[test]
    fn what_waits_for_a_predecessor_goes_on_with_its_next_report() {
        let next = Arc::new(Sessions::default());
        let changing = |id: &str| vec![Changing { id: id.into(), node: "eu1".into() }];
        let own = Sessions::default();
        own.set_predecessor(Vec::new(), changing("abc"));
        next.set_predecessor(own.save_moved(), own.save_changing());
        assert!(next.await_predecessor(b"abc", Some("eu1"), Instant::now()).is_err());
        assert!(next.await_predecessor(b"abc", None, Instant::now()).is_err());
        for (id, node) in [(&b"abc"[..], "eu2"), (b"xyz", "eu1")] {
            assert!(next.await_predecessor(id, Some(node), Instant::now()).is_ok());
        }
        let other = Arc::clone(&next);
        let waiting = std::thread::spawn(move || {
            other.await_predecessor(b"abc", None, Instant::now() + Duration::from_secs(20)).is_ok()
        });
        next.set_predecessor(Vec::new(), changing("xyz"));
        assert!(waiting.join().unwrap());
    }

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
