//! The requests that change what is kept of a session: which these are, and what their answers say. Pure but for the
//! session that it tells.

use std::sync::Arc;

use crate::http::body::{Body, Framing};
use crate::http::head::Request;
use crate::sessions::kept::{Kept, PlayerRequest};
use crate::sessions::resuming::Resuming;

/// The most bytes of a request or of an answer that are kept.
pub const MAX_BODY: usize = 64 * 1024;

/// A request that changes what is kept of a session.
pub struct SessionRequest {
    change: Change,
    /// The answer's body so far, with its chunk lines; `None` once it is too large.
    answer: Option<Vec<u8>>,
}

enum Change {
    Player(PlayerRequest),
    Removal(PlayerRequest),
    Resuming(Arc<Kept>),
}

impl SessionRequest {
    /// The change that this request makes, if it makes one. `behind` is the part of its path behind the session's id.
    pub fn of(request: &Request<'_, '_>, behind: &str, kept: &Arc<Kept>) -> Option<Self> {
        if kept.is_refused() {
            return None;
        }
        let mut segments = behind.split('/').filter(|segment| !segment.is_empty());
        let (first, second, third) = (segments.next(), segments.next(), segments.next());
        let player = |guild: &str| Some(kept.begin_request(guild.parse().ok()?, is_no_replace(request.target.query)));
        let change = match (request.method, first, second, third) {
            ("PATCH", None, ..) => Change::Resuming(Arc::clone(kept)),
            ("PATCH", Some("players"), Some(guild), None) => Change::Player(player(guild)?),
            ("DELETE", Some("players"), Some(guild), None) => Change::Removal(player(guild)?),
            _ => return None,
        };
        Some(Self { change, answer: Some(Vec::new()) })
    }

    /// Takes the next bytes of the answer's body, as the client gets them.
    pub fn take(&mut self, bytes: &[u8]) {
        // Chunk lines take a part of the room.
        if self.answer.as_ref().is_some_and(|answer| answer.len() + bytes.len() > MAX_BODY) {
            self.answer = None;
        }
        if let Some(answer) = &mut self.answer {
            answer.extend_from_slice(bytes);
        }
    }

    /// The answer is complete. `request` is the content of the request, if it was small enough to be kept.
    pub fn finish(self, status: u16, framing: Framing, request: Option<Vec<u8>>) {
        let content = |mut answer: Vec<u8>| {
            let step = Body::new(framing, u64::MAX).ok()?.of_response().unchunked().step(&mut answer).ok()?;
            answer.truncate(step.produced);
            Some(answer)
        };
        let answer = self.answer.and_then(content);
        match (self.change, status) {
            (Change::Player(player), 200) => match (request, answer) {
                (Some(request), Some(answer)) => player.answered(&request, &answer),
                _ => player.cannot_be_kept(),
            },
            (Change::Removal(player), 200..=299) => player.removed(),
            (Change::Resuming(kept), 200) => {
                kept.note_resuming(answer.and_then(|answer| Resuming::of_answer(&answer)));
            }
            _ => {}
        }
    }
}

fn is_no_replace(query: &str) -> bool {
    let pairs = query.trim_start_matches('?').split('&');
    pairs
        .filter_map(|pair| pair.split_once('='))
        .any(|(name, value)| name == "noReplace" && value.eq_ignore_ascii_case("true"))
}
