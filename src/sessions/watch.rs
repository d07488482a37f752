//! What the bytes of a node tell of a session: the id in `ready`, which gets the node's name where there are several, and
//! what the session's players do.

use std::sync::Arc;

use log::warn;

use super::kept::Kept;
use super::node_frames::{NodeFrames, Passed};
use super::ready::{Outcome, Ready, ReadyFilter};
use super::table::{Registration, Sessions};
use crate::nodes::backend::Backend;

/// Follows the bytes from a node to its client, from the first one.
pub struct Watch {
    looking: Looking,
    sessions: Arc<Sessions>,
    node: Arc<Backend>,
    kept: Option<Registration>,
}

enum Looking {
    ForReady(Box<ReadyFilter>),
    AtFrames(NodeFrames),
    No,
}

impl Watch {
    /// `names_sessions` says that the session's id gets the node's name; `kept` is what is kept of the session, if it can
    /// be taken over.
    pub fn new(sessions: &Arc<Sessions>, node: &Arc<Backend>, names_sessions: bool, kept: Option<&Arc<Kept>>) -> Self {
        let filter = match names_sessions {
            true => ReadyFilter::rewriting(node.name()),
            false => ReadyFilter::watching(),
        };
        let (sessions, node) = (Arc::clone(sessions), Arc::clone(node));
        let kept = kept.map(|kept| sessions.registration(kept));
        Self { looking: Looking::ForReady(Box::new(filter)), sessions, node, kept }
    }

    /// Takes what was read and returns what the client gets now.
    pub fn pass(&mut self, bytes: &[u8]) -> Passed<'_> {
        match &self.looking {
            Looking::No => Passed::First(bytes.len()),
            Looking::ForReady(_) => self.look_for_ready(bytes),
            Looking::AtFrames(_) => self.follow(bytes),
        }
    }

    fn look_for_ready(&mut self, bytes: &[u8]) -> Passed<'_> {
        let all = Passed::First(bytes.len());
        let Looking::ForReady(filter) = &mut self.looking else { return all };
        if filter.is_done() {
            self.looking = Looking::No;
            return all;
        }
        let is_replaced = filter.feed(bytes);
        match filter.take_outcome() {
            Some(Outcome::Ready(ready)) => {
                self.sessions.note(ready.session_id.as_bytes(), self.node.id());
                if self.kept.is_some() {
                    return self.begin_to_follow(bytes, is_replaced, &ready);
                }
            }
            Some(Outcome::NotUnderstood(why)) => {
                warn!("event=session-unknown {} reason=\"{why}\"", self.node.label());
            }
            None => {}
        }
        match &self.looking {
            Looking::ForReady(filter) if is_replaced => Passed::Others(filter.replaced()),
            _ => all,
        }
    }

    /// The session has its id, and is kept: what came behind `ready` is followed already.
    fn begin_to_follow(&mut self, bytes: &[u8], is_replaced: bool, ready: &Ready) -> Passed<'_> {
        let all = Passed::First(bytes.len());
        let (Looking::ForReady(filter), Some(registration)) = (&self.looking, &self.kept) else { return all };
        let kept = registration.kept();
        if !registration.opened(&self.node, &ready.session_id, ready.resumed) {
            self.sessions.ask_for_players(kept);
        }
        let out = if is_replaced { filter.replaced() } else { bytes };
        let (before, behind) = out.split_at(out.len() - filter.behind());
        let (frames, unchanged) = NodeFrames::behind(before, behind, is_replaced, |frame| kept.note_node_frame(frame));
        self.looking = Looking::AtFrames(frames);
        match (&self.looking, unchanged) {
            (Looking::AtFrames(frames), None) => Passed::Others(frames.out()),
            (_, Some(count)) => Passed::First(count),
            _ => all,
        }
    }

    fn follow(&mut self, bytes: &[u8]) -> Passed<'_> {
        let all = Passed::First(bytes.len());
        let Some(registration) = &self.kept else { return all };
        let kept = registration.kept();
        match &self.looking {
            Looking::AtFrames(frames) if !(kept.is_refused() && frames.holds_nothing()) => {
                if let Some(why) = frames.strange() {
                    kept.refuse(why);
                }
            }
            _ => {
                self.looking = Looking::No;
                return all;
            }
        }
        let Looking::AtFrames(frames) = &mut self.looking else { return all };
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

    /// True when the client has all of each frame that it gets the beginning of.
    pub(super) fn is_between_frames(&self) -> bool {
        matches!(&self.looking, Looking::AtFrames(frames) if frames.is_between_frames())
    }

    /// Forgets what was held back.
    pub(super) fn forget_held(&mut self) {
        if let Looking::AtFrames(frames) = &mut self.looking {
            frames.forget_held();
        }
    }

    /// This node has taken the session over, under this id. Its stream goes on behind these frames.
    pub(super) fn moved(&mut self, node: &Arc<Backend>, id: &str, frames: NodeFrames) {
        self.looking = Looking::AtFrames(frames);
        self.node = Arc::clone(node);
        self.sessions.note(id.as_bytes(), node.id());
        if let Some(registration) = &self.kept {
            registration.moved(node, id);
        }
    }

    /// The node that has the session now has its key too.
    pub(super) fn note_key(&self) {
        if let Some(key) = self.kept.as_ref().and_then(|registration| registration.kept().resume_key()) {
            self.sessions.note_key(key, self.node.name());
        }
    }
}
