//! Notes the key that a v3 client sets over its WebSocket, so that a resume finds the node that has its session.

use std::sync::Arc;

use super::configure_resuming::ConfigureResumingWatcher;
use super::table::Sessions;
use crate::nodes::backend::Backend;

/// Follows the bytes from a client to its node, from the first one.
pub struct KeyWatch {
    watcher: ConfigureResumingWatcher,
    sessions: Arc<Sessions>,
    node: Arc<Backend>,
}

impl KeyWatch {
    /// Of a session at this node.
    pub fn new(sessions: &Arc<Sessions>, node: &Arc<Backend>) -> Self {
        let watcher = ConfigureResumingWatcher::default();
        Self { watcher, sessions: Arc::clone(sessions), node: Arc::clone(node) }
    }

    /// Looks at the next bytes.
    pub(super) fn look(&mut self, bytes: &[u8]) {
        if let Some(key) = self.watcher.pass(bytes) {
            self.sessions.note_key(key, self.node.name());
        }
    }
}
