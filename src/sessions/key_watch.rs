//! Notes the key that a v3 client sets over its WebSocket, so that a resume finds the node that has its session.

use std::sync::Arc;

use super::configure_resuming::ConfigureResumingWatcher;
use super::kept::Kept;
use super::resume::KeyHash;
use super::table::Sessions;
use crate::nodes::backend::Backend;

/// Follows the bytes from a client to its node, from the first one.
pub struct KeyWatch {
    watcher: ConfigureResumingWatcher,
    sessions: Arc<Sessions>,
    node: Arc<Backend>,
}

impl KeyWatch {
    /// Of a session that this node opens.
    pub fn new(sessions: &Arc<Sessions>, node: &Arc<Backend>) -> Self {
        let watcher = ConfigureResumingWatcher::default();
        Self { watcher, sessions: Arc::clone(sessions), node: Arc::clone(node) }
    }

    /// Looks at the next bytes, and returns the key that they set.
    pub(super) fn look(&mut self, bytes: &[u8]) -> Option<KeyHash> {
        self.watcher.pass(bytes)
    }

    /// Notes a key that was sent to the node that has the session: its first one, unless another has taken it over.
    pub(super) fn note(&self, key: KeyHash, kept: Option<&Kept>) {
        let place = || kept.and_then(|kept| kept.seat().last_place());
        let mut noted = place();
        loop {
            let name = noted.as_ref().map_or(self.node.name(), |place| place.node.name());
            self.sessions.note_key(key, name);
            // A takeover may have ended meanwhile, and may have noted its node before.
            let now = place();
            if now.as_ref().map(|place| place.number) == noted.as_ref().map(|place| place.number) {
                return;
            }
            noted = now;
        }
    }
}
