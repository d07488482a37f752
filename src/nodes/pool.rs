//! The nodes of one version, and which of them takes a session or a request.
//!
//! It looks at what is known of the nodes and keeps whose turn it is. It touches no socket but to connect.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::backend::{Backend, Link};
use super::choice::{self, Candidate, Standing};
use super::health::NodeState;
use crate::config::{Lavalink, PerVersion};
use crate::error::Fault;

/// The pool of each version that has nodes.
pub type Pools = PerVersion<Option<Arc<Pool>>>;

/// The nodes of one version.
pub struct Pool {
    version: Lavalink,
    /// In the order of the settings; never empty.
    nodes: Vec<Arc<Backend>>,
    /// Nodes that a reload removed and that still have sessions. They get no new ones.
    leaving: Vec<Arc<Backend>>,
    /// True once this version has had several nodes: ids that name one may be about.
    has_named: bool,
    /// Counts the choices of each kind, so that equal nodes take turns. The lock makes a choice and what it counts one.
    session_turn: Mutex<usize>,
    request_turn: AtomicUsize,
}

/// What a node is wanted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A WebSocket handshake.
    Session,
    /// A request that belongs to no session.
    Request,
}

impl Pool {
    /// A pool of these nodes, which replaces `before`. `None` without a node.
    pub fn new(version: Lavalink, nodes: Vec<Arc<Backend>>, before: Option<&Self>) -> Option<Arc<Self>> {
        if nodes.is_empty() {
            return None;
        }
        let is_kept = |old: &Arc<Backend>| nodes.iter().any(|node| node.id() == old.id());
        let leaving = before.map(|before| {
            let old = before.nodes.iter().chain(&before.leaving);
            old.filter(|old| !is_kept(old) && old.load().sessions() > 0).cloned().collect()
        });
        let has_named = nodes.len() > 1 || before.is_some_and(|before| before.has_named);
        let leaving = leaving.unwrap_or_default();
        let (session_turn, request_turn) = (Mutex::default(), AtomicUsize::default());
        Some(Arc::new(Self { version, nodes, leaving, has_named, session_turn, request_turn }))
    }

    /// The nodes of the settings, in their order.
    pub fn nodes(&self) -> &[Arc<Backend>] {
        &self.nodes
    }

    /// True for a node of the settings, false for one that a reload removed.
    pub fn lists(&self, node: &Backend) -> bool {
        self.nodes.iter().any(|listed| listed.id() == node.id())
    }

    /// True when session ids get the name of their node.
    pub fn names_sessions(&self) -> bool {
        self.nodes.len() > 1
    }

    /// True when the ids that clients send may name a node.
    pub fn has_named_sessions(&self) -> bool {
        self.has_named
    }

    /// The names that ids may have, those of the settings first.
    pub fn names(&self) -> impl Iterator<Item = &str> + Clone {
        self.nodes.iter().chain(&self.leaving).map(|node| &**node.name())
    }

    /// The node with this name.
    pub fn named(&self, name: &str) -> Option<&Arc<Backend>> {
        self.nodes.iter().chain(&self.leaving).find(|node| **node.name() == *name)
    }

    /// The node with this number.
    pub fn numbered(&self, id: u64) -> Option<&Arc<Backend>> {
        self.nodes.iter().chain(&self.leaving).find(|node| node.id() == id)
    }

    /// The node for ids that name none: the first of the settings.
    pub fn first(&self) -> &Arc<Backend> {
        &self.nodes[0]
    }

    /// True when a node but this one is in rotation.
    pub fn has_other(&self, node: &Backend) -> bool {
        is_another_in_rotation(&self.nodes, node)
    }

    /// A connection to the node that fits best. A node that does not take the connection is followed by the next one,
    /// all within CONNECT_TIMEOUT: nothing was sent to it.
    ///
    /// # Errors
    /// That of the last node that was tried.
    pub fn link(&self, purpose: Purpose, preferred: Option<&Arc<Backend>>) -> Result<(Arc<Backend>, Link), Fault> {
        let preferred = preferred.filter(|node| node.health().state() != NodeState::Down || !self.has_other(node));
        if let ([node], None) = (&self.nodes[..], preferred) {
            return self.link_to(node, purpose).map(|link| (Arc::clone(node), link));
        }
        let (started, time) = (Instant::now(), self.first().connect_timeout());
        let mut tried: Vec<u64> = Vec::new();
        let mut failure = None;
        let mut next = preferred.cloned();
        while let Some(node) = next.take().or_else(|| self.choose(purpose, &tried)) {
            let left = if tried.is_empty() { time } else { time.saturating_sub(started.elapsed()) };
            match connect(&node, purpose, left / self.count_with(&node, &tried)) {
                Ok(link) => {
                    if purpose == Purpose::Session && preferred.is_some_and(|preferred| preferred.id() == node.id()) {
                        node.load().give();
                    }
                    return Ok((node, link));
                }
                // Our own shortage would meet the next node too.
                Err(fault @ (Fault::NoDescriptor | Fault::NoThread)) => return Err(fault),
                Err(fault) => {
                    failure = Some(fault);
                    tried.push(node.id());
                }
            }
        }
        Err(failure.unwrap_or(Fault::NoBackend(self.version)))
    }

    /// How many nodes share the time that is left: this one, and those that may be tried after it.
    fn count_with(&self, node: &Backend, tried: &[u64]) -> u32 {
        let worst = standing(node);
        let may_follow =
            |other: &&Arc<Backend>| other.id() != node.id() && !tried.contains(&other.id()) && standing(other) <= worst;
        u32::try_from(self.nodes.iter().filter(may_follow).count()).unwrap_or(u32::MAX).saturating_add(1)
    }

    /// A connection to this node.
    ///
    /// # Errors
    /// 502, 503 or 504 when it does not take it within CONNECT_TIMEOUT.
    pub fn link_to(&self, node: &Backend, purpose: Purpose) -> Result<Link, Fault> {
        if purpose == Purpose::Session {
            node.load().give();
        }
        connect(node, purpose, node.connect_timeout())
    }

    /// The best node but those that were tried. With none tried there is always one.
    pub fn choose(&self, purpose: Purpose, tried: &[u64]) -> Option<Arc<Backend>> {
        // A second choice for the same request takes no turn: else a node that fails would get the next request too.
        let taken = usize::from(tried.is_empty());
        let chosen = match purpose {
            Purpose::Session => {
                let mut turn = self.session_turn.lock();
                *turn = turn.wrapping_add(taken);
                let candidates: Vec<Candidate> = self.nodes.iter().map(|node| for_session(node, tried)).collect();
                let node = self.nodes.get(choice::least_penalty(candidates.into_iter(), *turn)?)?;
                node.load().give();
                node
            }
            Purpose::Request => {
                let turn = self.request_turn.fetch_add(taken, Relaxed).wrapping_add(taken);
                let candidates = self.nodes.iter().map(|node| for_request(node, tried));
                self.nodes.get(choice::fewest_requests(candidates, turn)?)?
            }
        };
        Some(Arc::clone(chosen))
    }
}

/// True when one of these nodes but this one is in rotation.
pub fn is_another_in_rotation<'n>(nodes: impl IntoIterator<Item = &'n Arc<Backend>>, node: &Backend) -> bool {
    nodes.into_iter().any(|other| other.id() != node.id() && other.is_in_rotation())
}

/// A handshake gets a connection of its own.
fn connect(node: &Backend, purpose: Purpose, time: Duration) -> Result<Link, Fault> {
    match purpose {
        Purpose::Session => node.fresh_link(time),
        Purpose::Request => node.link(time),
    }
}

fn for_session(node: &Backend, tried: &[u64]) -> Candidate {
    let stats = node.health().stats();
    Candidate {
        playing_players: stats.map_or(0, |stats| stats.playing_players),
        system_load: stats.map_or(0.0, |stats| stats.cpu.system_load),
        given: node.load().given(),
        ..for_request(node, tried)
    }
}

/// Only what counts for a request: each one passes here.
fn for_request(node: &Backend, tried: &[u64]) -> Candidate {
    Candidate {
        standing: standing(node),
        is_tried: tried.contains(&node.id()),
        playing_players: 0,
        system_load: 0.0,
        given: 0,
        requests: node.load().requests(),
    }
}

fn standing(node: &Backend) -> Standing {
    if node.is_in_rotation() {
        Standing::InRotation
    } else if node.health().is_draining() {
        Standing::Draining
    } else {
        Standing::Out
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use std::net::TcpListener;

    use super::*;
    use crate::config::{Node, Secret, Timeouts};

    const SECOND: Duration = Duration::from_secs(1);

    fn node_at(name: &str, port: u16) -> Arc<Backend> {
        let password = Secret::new("password".to_owned());
        let host = "127.0.0.1".to_owned();
        let node = Node { name: name.into(), host, port, password, has_own_password: false };
        let timeouts = Timeouts { head: SECOND, keepalive: SECOND, connect: SECOND, response: SECOND, drain: SECOND };
        Backend::lavalink(Lavalink::V4, &node, timeouts, SECOND, None)
    }

    /// Nodes that refuse every connection.
    fn pool(names: &[&str]) -> Arc<Pool> {
        Pool::new(Lavalink::V4, names.iter().map(|name| node_at(name, 1)).collect(), None).unwrap()
    }

    fn chosen(pool: &Pool, purpose: Purpose) -> Option<Arc<str>> {
        pool.choose(purpose, &[]).map(|node| Arc::clone(node.name()))
    }

    #[test]
    fn a_thousand_handshakes_are_shared_evenly() {
        let pool = pool(&["a", "b", "c"]);
        (0..1000).for_each(|_| drop(pool.choose(Purpose::Session, &[])));
        for node in pool.nodes() {
            assert!((300..=367).contains(&node.load().given()), "{} has {}", node.name(), node.load().given());
        }
    }

    #[test]
    fn a_draining_node_gets_nothing_until_there_is_no_other() {
        let pool = pool(&["a", "b"]);
        pool.named("a").unwrap().set_draining(true, "test");
        for purpose in [Purpose::Session, Purpose::Request] {
            (0..4).for_each(|_| assert_eq!(chosen(&pool, purpose).as_deref(), Some("b")));
        }
        pool.named("b").unwrap().set_draining(true, "test");
        assert!(chosen(&pool, Purpose::Session).is_some());
    }

    #[test]
    fn there_is_a_node_while_the_nodes_change_their_states() {
        let pool = pool(&["a", "b"]);
        std::thread::scope(|scope| {
            let choosing = [Purpose::Session, Purpose::Request].map(|purpose| {
                let pool = &pool;
                scope.spawn(move || (0..100_000).filter(|_| pool.choose(purpose, &[]).is_none()).count())
            });
            let mut drains_first = true;
            while choosing.iter().any(|thread| !thread.is_finished()) {
                pool.nodes()[0].set_draining(drains_first, "test");
                pool.nodes()[1].set_draining(!drains_first, "test");
                drains_first = !drains_first;
            }
            assert_eq!(choosing.map(|thread| thread.join().unwrap()), [0, 0]);
        });
    }

    #[test]
    fn requests_go_to_the_node_with_the_fewest_under_way() {
        let pool = pool(&["a", "b"]);
        let _under_way = super::super::load::UnderWay::at(pool.first().load());
        (0..4).for_each(|_| assert_eq!(chosen(&pool, Purpose::Request).as_deref(), Some("b")));
    }

    #[test]
    fn a_second_choice_takes_no_turn() {
        let pool = pool(&["a", "b"]);
        let names: Vec<_> = (0..10)
            .map(|_| {
                let first = pool.choose(Purpose::Request, &[]).unwrap();
                assert!(pool.choose(Purpose::Request, &[first.id()]).is_some());
                first.id()
            })
            .collect();
        let first = pool.first().id();
        assert_eq!(names.iter().filter(|id| **id == first).count(), 5, "each is the first choice in its turn");
    }

    #[test]
    fn a_refused_connect_goes_on_to_the_next_node() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let open = node_at("open", listener.local_addr().unwrap().port());
        let nodes = vec![node_at("a", 1), open, node_at("c", 1)];
        let pool = Pool::new(Lavalink::V4, nodes, None).unwrap();
        for purpose in [Purpose::Session, Purpose::Request] {
            for preferred in [None, Some(pool.first())] {
                assert_eq!(&**pool.link(purpose, preferred).ok().unwrap().0.name(), "open");
            }
        }
        drop(listener);
        assert!(pool.link(Purpose::Request, None).is_err());
    }

    #[test]
    fn a_removed_node_keeps_its_sessions_and_gets_no_new_ones() {
        let before = pool(&["a", "b"]);
        let session = super::super::load::Session::at(before.named("b").unwrap().load());
        let after = |before: &Pool| Pool::new(Lavalink::V4, vec![Arc::clone(&before.nodes()[0])], Some(before));
        let pool = after(&before).unwrap();
        assert!(pool.named("b").is_some() && !pool.names_sessions() && pool.has_named_sessions());
        (0..4).for_each(|_| assert_eq!(chosen(&pool, Purpose::Session).as_deref(), Some("a")));
        drop(session);
        assert!(after(&pool).unwrap().named("b").is_none());
        assert!(Pool::new(Lavalink::V4, Vec::new(), Some(&pool)).is_none());
    }
}
