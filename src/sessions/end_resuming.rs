//! Lets a session end with its WebSocket at a node that it leaves, or that fails before it has it: the node would keep its
//! players for a client that resumes it.

use std::time::{Duration, Instant};

use log::warn;

use super::request::patch;
use super::resuming::Resuming;
use crate::config::Lavalink;
use crate::http::peer::Peer;
use crate::nodes::backend::Backend;

/// The longest time for it: the frames of the client's present node wait meanwhile.
const TIME: Duration = Duration::from_secs(1);
/// The largest answer.
const MAX_ANSWER: u64 = 64 * 1024;

/// Asks the node that knows the session by this id. Its WebSocket must still be open: Lavalink knows it no more after that.
pub(super) fn end_resuming(node: &Backend, id: &str, version: Lavalink, resuming: &Resuming) {
    let request = patch(node, &format!("/{version}/sessions/{id}"), &resuming.end_request(version));
    let until = Instant::now() + TIME;
    let linked = node.fresh_link_while(node.connect_timeout(), || Instant::now() < until);
    let asked = linked.map(|link| {
        let answer = Peer::new(&link).ask(&request, MAX_ANSWER, |link| link.read_until(until));
        answer.map(|reply| reply.status)
    });
    if !matches!(asked, Ok(Ok(200))) {
        let hint = "the node ends it after its timeout";
        warn!("event=old-session-kept {} session={id} hint=\"{hint}\"", node.label());
    }
}
