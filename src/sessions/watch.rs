//! What a tunnel's bytes tell of its session, in one direction: the id in the node's `ready`, which gets the node's name
//! where there are several, the key that a v3 client sets, and what its players do.

use std::sync::Arc;

use log::warn;

use super::configure_resuming::ConfigureResumingWatcher;
use super::kept::Kept;
use super::node_frames::NodeFrames;
use super::ready::{Outcome, Ready, ReadyFilter};
use super::table::{Registration, Sessions};
use crate::nodes::backend::Backend;

/// Follows one direction of a tunnel from its first byte.
pub struct Watch {
    looking: Looking,
    sessions: Arc<Sessions>,
    node: Arc<Backend>,
    kept: Option<Registration>,
    /// The bytes in which `ready` came, as the client gets them.
    first: Vec<u8>,
}

enum Looking {
    ForReady(ReadyFilter),
    ForKey(ConfigureResumingWatcher),
    AtFrames(NodeFrames),
    No,
}

impl Watch {
    /// From the node to the client. `names_sessions` says that the session's id gets the node's name; `kept` is what
    /// is kept of the session, if it can be taken over.
    pub fn down(sessions: &Arc<Sessions>, node: &Arc<Backend>, names_sessions: bool, kept: Option<&Arc<Kept>>) -> Self {
        let filter = match names_sessions {
            true => ReadyFilter::rewriting(node.name()),
            false => ReadyFilter::watching(),
        };
        let kept = kept.map(|kept| sessions.registration(kept));
        Self { kept, ..Self::new(Looking::ForReady(filter), sessions, node) }
    }

    /// From the client to the node. Keys count only where there are several nodes.
    pub fn up(sessions: &Arc<Sessions>, node: &Arc<Backend>, sets_keys: bool) -> Self {
        let looking = if sets_keys { Looking::ForKey(ConfigureResumingWatcher::default()) } else { Looking::No };
        Self::new(looking, sessions, node)
    }

    fn new(looking: Looking, sessions: &Arc<Sessions>, node: &Arc<Backend>) -> Self {
        Self { looking, sessions: Arc::clone(sessions), node: Arc::clone(node), kept: None, first: Vec::new() }
    }

    /// Takes what was read and returns what must be written now.
    pub fn pass<'a>(&'a mut self, bytes: &'a [u8]) -> &'a [u8] {
        match &mut self.looking {
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
            Looking::ForReady(_) => return self.look_for_ready(bytes),
            Looking::AtFrames(_) => {}
        }
        self.follow(bytes)
    }

    fn look_for_ready<'a>(&'a mut self, bytes: &'a [u8]) -> &'a [u8] {
        let Looking::ForReady(filter) = &mut self.looking else { return bytes };
        if filter.is_done() {
            self.looking = Looking::No;
            return bytes;
        }
        let is_replaced = filter.feed(bytes);
        match filter.take_outcome() {
            Some(Outcome::Ready(ready)) => return self.begin_to_follow(bytes, is_replaced, &ready),
            Some(Outcome::NotUnderstood(why)) => {
                warn!("event=session-unknown {} reason=\"{why}\"", self.node.label());
            }
            None => {}
        }
        match &self.looking {
            Looking::ForReady(filter) if is_replaced => filter.replaced(),
            _ => bytes,
        }
    }

    /// The session has its id. What came behind `ready` is followed already, if the session is kept.
    fn begin_to_follow<'a>(&'a mut self, bytes: &'a [u8], is_replaced: bool, ready: &Ready) -> &'a [u8] {
        let Looking::ForReady(filter) = &self.looking else { return bytes };
        let out = if is_replaced { filter.replaced() } else { bytes };
        self.sessions.note(ready.session_id.as_bytes(), self.node.id());
        let Some(registration) = &self.kept else {
            self.first = out.to_vec();
            self.looking = Looking::No;
            return &self.first;
        };
        registration.opened(&self.node, &ready.session_id, ready.resumed);
        let mut frames = NodeFrames::default();
        let (before, behind) = out.split_at(out.len() - filter.behind());
        self.first = before.to_vec();
        let kept = registration.kept();
        self.first.extend_from_slice(frames.pass(behind, |frame| kept.note_node_frame(frame)));
        self.looking = Looking::AtFrames(frames);
        &self.first
    }

    fn follow<'a>(&'a mut self, bytes: &'a [u8]) -> &'a [u8] {
        let Some(registration) = &self.kept else { return bytes };
        let kept = registration.kept();
        self.first = Vec::new();
        match &mut self.looking {
            Looking::AtFrames(frames) if !(kept.is_refused() && frames.holds_nothing()) => {
                if let Some(why) = frames.strange() {
                    kept.refuse(why);
                }
            }
            _ => {
                self.looking = Looking::No;
                return bytes;
            }
        }
        let Looking::AtFrames(frames) = &mut self.looking else { return bytes };
        frames.pass(bytes, |frame| kept.note_node_frame(frame))
    }

    /// What must still be written when the stream has ended for good.
    pub fn finish(&mut self) -> &[u8] {
        match &mut self.looking {
            Looking::ForReady(filter) => filter.finish(),
            Looking::AtFrames(frames) => frames.finish(),
            _ => &[],
        }
    }

    /// The session, if another node can take it over now: the client has all of each frame, and has not left.
    pub fn session_to_take_over(&self) -> Option<Arc<Kept>> {
        let (Looking::AtFrames(frames), Some(registration)) = (&self.looking, &self.kept) else { return None };
        let kept = registration.kept();
        (frames.is_between_frames() && kept.can_be_taken_over()).then(|| Arc::clone(kept))
    }

    /// True when the session is to be moved, and can be now: the client and the node have all of each frame.
    pub fn is_due(&self) -> bool {
        let (Looking::AtFrames(frames), Some(registration)) = (&self.looking, &self.kept) else { return false };
        registration.kept().is_asked_to_move() && frames.holds_nothing() && frames.is_between_frames()
    }

    /// The stream of another node begins.
    pub(super) fn restart(&mut self) {
        if let Looking::AtFrames(frames) = &mut self.looking {
            frames.restart();
        }
    }

    /// This node has taken the session over, under this id.
    pub(super) fn moved(&mut self, node: &Arc<Backend>, id: &str) {
        self.node = Arc::clone(node);
        self.sessions.note(id.as_bytes(), node.id());
        if let Some(registration) = &self.kept {
            registration.moved(node, id);
            if let Some(key) = registration.kept().resuming().and_then(|resuming| resuming.key()) {
                self.sessions.note_key(key, node.name());
            }
        }
    }
}
