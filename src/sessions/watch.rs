//! What a tunnel's bytes tell of its session, in one direction: the id in the node's `ready`, which gets the node's name
//! where there are several, and the key that a v3 client sets.

use std::sync::Arc;

use log::warn;

use super::configure_resuming::ConfigureResumingWatcher;
use super::ready::{Outcome, ReadyFilter};
use super::table::Sessions;
use crate::nodes::backend::Backend;

/// Follows one direction of a tunnel from its first byte.
pub struct Watch {
    looking: Looking,
    sessions: Arc<Sessions>,
    node: Arc<Backend>,
}

enum Looking {
    ForReady(ReadyFilter),
    ForKey(ConfigureResumingWatcher),
    No,
}

impl Watch {
    /// From the node to the client. `names_sessions` says that the session's id gets the node's name.
    pub fn down(sessions: &Arc<Sessions>, node: &Arc<Backend>, names_sessions: bool) -> Self {
        let filter = match names_sessions {
            true => ReadyFilter::rewriting(node.name()),
            false => ReadyFilter::watching(),
        };
        Self { looking: Looking::ForReady(filter), sessions: Arc::clone(sessions), node: Arc::clone(node) }
    }

    /// From the client to the node. Keys count only where there are several nodes.
    pub fn up(sessions: &Arc<Sessions>, node: &Arc<Backend>, sets_keys: bool) -> Self {
        let looking = if sets_keys { Looking::ForKey(ConfigureResumingWatcher::default()) } else { Looking::No };
        Self { looking, sessions: Arc::clone(sessions), node: Arc::clone(node) }
    }

    /// Takes what was read and returns what must be written now.
    pub fn pass<'a>(&'a mut self, bytes: &'a [u8]) -> &'a [u8] {
        let is_replaced = match &mut self.looking {
            Looking::No => return bytes,
            Looking::ForKey(watcher) => {
                if let Some(key) = watcher.pass(bytes) {
                    self.sessions.note_key(key, self.node.name());
                }
                if watcher.has_stopped() {
                    self.looking = Looking::No;
                }
                return bytes;
            }
            Looking::ForReady(filter) if filter.is_done() => {
                self.looking = Looking::No;
                return bytes;
            }
            Looking::ForReady(filter) => {
                let is_replaced = filter.feed(bytes);
                match filter.take_outcome() {
                    Some(Outcome::Ready(ready)) => self.sessions.note(ready.session_id.as_bytes(), self.node.id()),
                    Some(Outcome::NotUnderstood(why)) => {
                        warn!("event=session-unknown {} reason=\"{why}\"", self.node.label());
                    }
                    None => {}
                }
                is_replaced
            }
        };
        match &self.looking {
            Looking::ForReady(filter) if is_replaced => filter.replaced(),
            _ => bytes,
        }
    }

    /// What must still be written when the stream has ended.
    pub fn finish(&mut self) -> &[u8] {
        match &mut self.looking {
            Looking::ForReady(filter) => filter.finish(),
            _ => &[],
        }
    }
}
