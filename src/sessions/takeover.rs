//! One takeover: a session whose WebSocket to its node has broken off goes on where it was, if that node has kept it. If
//! not, it is opened on another node, and its players go on there.
//!
//! The thread that copied the node's bytes to the client runs it. It connects to nodes, and sends the client what it
//! must get meanwhile.

use std::fmt;
use std::io::Read;
use std::net::Shutdown;
use std::sync::Arc;
use std::time::{Duration, Instant};

use log::{info, warn};
use socket2::Socket;

use super::attempt::{self, Attempt, Stop, Taken};
use super::context::{Context, LOOK, Made};
use super::end_resuming::end_resuming;
use super::kept::Kept;
use super::resuming::Resuming;
use super::seat::Place;
use super::watch::Watch;
use crate::logfmt::Quoted;
use crate::nodes::backend::{Backend, peek};
use crate::nodes::health::NodeState;
use crate::nodes::pool::Purpose;

/// The first and the longest pause before the nodes are tried again.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// How long a node may take to resume the session that it has lost the WebSocket of: the other nodes wait meanwhile.
const RESUME_TIME: Duration = Duration::from_secs(1);
/// A node whose WebSocket breaks off again so soon is not asked again: it cannot hold the session.
const RESUME_PAUSE: Duration = Duration::from_secs(10);
/// How much later than lavaproxy a node may notice the end of a WebSocket.
const NOTICE: Duration = Duration::from_millis(200);
/// How long a takeover waits for the requests about its session. A node that dies breaks their connections off.
const LAST_ANSWERS: Duration = Duration::from_millis(200);
/// How long a move waits for the requests about its session.
const VISITS_TIME: Duration = Duration::from_secs(5);

/// Why a session was not taken over.
#[derive(Debug)]
pub enum TakeoverError {
    /// It had no place, or cannot be taken over.
    NotOpen,
    /// The client has left, or lavaproxy ends the tunnel.
    Over,
    /// There is no other node to move it to.
    NoOther,
    /// A successor gets the requests about the session.
    Successor,
    /// No node has taken it within TAKEOVER_TIMEOUT.
    NoNode {
        /// What the last node that was tried did.
        last: String,
    },
}

impl fmt::Display for TakeoverError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotOpen => out.write_str("the session cannot be taken over"),
            Self::Over => out.write_str("the client has left"),
            Self::NoOther => out.write_str("no other node is in rotation"),
            Self::Successor => {
                out.write_str("the process that took over in an upgrade gets the requests of its client")
            }
            Self::NoNode { last } => {
                write!(out, "no node has taken the session within TAKEOVER_TIMEOUT: {last}; see the nodes on /health")
            }
        }
    }
}

impl std::error::Error for TakeoverError {}

impl From<Stop> for TakeoverError {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Over => Self::Over,
            Stop::Node(last) => Self::NoNode { last },
        }
    }
}

/// Takes the session over. When it returns, the client's stream goes on with the frames of the new node, which come
/// from the socket that is returned.
///
/// # Errors
/// [`TakeoverError`]. The session has no node then, and its tunnel must end.
pub fn run(kept: &Kept, watch: &mut Watch, context: &Context<'_>) -> Result<(Place, Arc<Socket>), TakeoverError> {
    let started = Instant::now();
    let from = kept.begin_takeover(context.client).ok_or(TakeoverError::NotOpen)?;
    let takeovers = from.node.load().takeovers();
    let _under_way = takeovers.begin();
    let taken = go_on(kept, watch, context, &from, started + context.timeout);
    let gap = started.elapsed();
    let (session, node, ms) = (&from.id, from.node.name(), gap.as_millis());
    match &taken {
        Ok((place, _, Made { made, refused })) => {
            takeovers.count_taken(gap, *made, *refused);
            let to = place.node.name();
            match place.id == from.id {
                true => info!("event=session-resumed session={session} node={node} ms={ms}"),
                false => {
                    info!(
                        "event=takeover session={session} from={node} to={to} players={made} failed={refused} ms={ms}"
                    );
                }
            }
        }
        Err(TakeoverError::Over) => {
            takeovers.count_over();
            info!("event=takeover-over session={session} from={node} ms={ms}");
        }
        Err(error) => {
            takeovers.count_failed();
            let reason = error.to_string();
            warn!("event=takeover-failed session={session} from={node} ms={ms} reason={}", Quoted(&reason));
        }
    }
    if taken.is_err() {
        // What the lost node said last is not for a client that is told to connect again.
        watch.forget_held();
        kept.end(context.client);
    }
    taken.map(|(place, socket, _)| (place, socket))
}

/// Moves a session from a node that lives to another one. The old players play until the new ones do.
///
/// # Errors
/// When the session stays where it is. Its stream then goes on as if nothing had been.
pub fn run_move(kept: &Kept, watch: &mut Watch, context: &Context<'_>) -> Result<(Place, Arc<Socket>), TakeoverError> {
    if context.has_successor {
        return Err(TakeoverError::Successor);
    }
    let started = Instant::now();
    let (old_socket, _) = kept.seat().socket().ok_or(TakeoverError::NotOpen)?;
    let from = kept.seat().leave().ok_or(TakeoverError::NotOpen)?;
    let mut begun = Vec::new();
    let moved = try_to_move(kept, watch, context, &from, &old_socket, &mut begun);
    let (session, node, ms) = (&from.id, from.node.name(), started.elapsed().as_millis());
    match moved {
        Ok(((place, socket, Made { made, refused }), resuming)) => {
            // A node keeps the players of a session that can be resumed.
            if let Some(resuming) = resuming {
                end_resuming(&from.node, &from.id, kept.version(), &resuming);
            }
            let _ = old_socket.shutdown(Shutdown::Both);
            from.node.load().moves().count_moved(made, refused);
            kept.forget_moves_tried();
            // It was the old node that may have said so.
            kept.take_stopping();
            let to = place.node.name();
            info!("event=move session={session} from={node} to={to} players={made} failed={refused} ms={ms}");
            Ok((place, socket))
        }
        Err(error) => {
            let mut owed = kept.end_takeover(from.clone(), &old_socket);
            owed.append(&mut begun);
            // An error means that the client is gone, which the next read finds out.
            let _ = context.client.write_all(&owed);
            match error {
                // The moves wait for a node, and then the session has all its tries.
                TakeoverError::NoOther => kept.forget_moves_tried(),
                TakeoverError::Over => {}
                _ if kept.may_try_to_move() => {}
                _ => from.node.load().moves().count_failed(),
            }
            let reason = error.to_string();
            warn!("event=move-failed session={session} from={node} ms={ms} reason={}", Quoted(&reason));
            Err(error)
        }
    }
}

/// Returns too how the session was resumed at its old node.
fn try_to_move(
    kept: &Kept,
    watch: &mut Watch,
    context: &Context<'_>,
    from: &Place,
    old_socket: &Socket,
    begun: &mut Vec<u8>,
) -> Result<(Taken, Option<Resuming>), TakeoverError> {
    let started = Instant::now();
    let deadline = started + context.timeout;
    let visits_end = deadline.min(started + VISITS_TIME);
    while !kept.seat().await_visits(visits_end.min(Instant::now() + LOOK)) {
        if context.is_over(kept) {
            return Err(TakeoverError::Over);
        }
        if Instant::now() >= visits_end {
            return Err(TakeoverError::NoNode { last: "a request about the session takes too long".to_owned() });
        }
    }
    let node = (context.pool)().and_then(|pool| pool.choose(Purpose::Session, &[from.node.id()]));
    let node = node.filter(|node| node.is_in_rotation()).ok_or(TakeoverError::NoOther)?;
    hear_out(kept, watch, context, old_socket, begun, visits_end)?;
    // What the requests that were under way have changed belongs to it.
    let (before, resuming) = (kept.before_move(), kept.resuming());
    match try_node(kept, watch, context, &node, from.number + 1, deadline) {
        Ok(taken) => Ok((taken, resuming)),
        Err(stop) => {
            kept.go_back_to(before);
            Err(stop.into())
        }
    }
}

/// Passes on what the old node has said by now: it tells what a request has caused before it answers it. `begun` gets a
/// frame that has not come whole, as the client must get nothing else within it.
///
/// # Errors
/// When the client is too slow for it, or the node is within a frame.
fn hear_out(
    kept: &Kept,
    watch: &mut Watch,
    context: &Context<'_>,
    mut socket: &Socket,
    begun: &mut Vec<u8>,
    until: Instant,
) -> Result<(), TakeoverError> {
    let mut piece = [0; 4096];
    // An end of the stream is for the next read, if the session stays.
    while matches!(peek(socket), Ok(1..)) {
        if kept.owes_too_much(context.client) || Instant::now() >= until {
            return Err(TakeoverError::NoNode { last: "the client reads too slowly".to_owned() });
        }
        let Ok(count) = socket.read(&mut piece) else { break };
        begun.extend_from_slice(watch.pass(&piece[..count]).of(&piece));
        if watch.is_between_frames() {
            kept.owe(begun, context.client);
            begun.clear();
        }
    }
    match watch.is_between_frames() {
        true => Ok(()),
        false => Err(TakeoverError::NoNode { last: "its node is within a frame".to_owned() }),
    }
}

fn go_on(
    kept: &Kept,
    watch: &mut Watch,
    context: &Context<'_>,
    from: &Place,
    deadline: Instant,
) -> Result<Taken, TakeoverError> {
    if context.has_successor {
        return Err(TakeoverError::Successor);
    }
    match resume(kept, watch, context, from, deadline.min(Instant::now() + RESUME_TIME)) {
        Ok(Some(taken)) => return Ok(taken),
        Err(Stop::Over) => return Err(TakeoverError::Over),
        Ok(None) | Err(Stop::Node(_)) => {}
    }
    // A node that has kept the session may still answer the requests about it: only the next node gets no such change.
    kept.seat().close_visits(Instant::now() + LAST_ANSWERS);
    try_nodes(kept, watch, context, from, deadline)
}

/// Resumes the session where it was, if its node lives and has kept it.
fn resume(
    kept: &Kept,
    watch: &mut Watch,
    context: &Context<'_>,
    from: &Place,
    deadline: Instant,
) -> Result<Option<Taken>, Stop> {
    let node = &from.node;
    let is_hopeless = kept.take_stopping() || node.health().state() == NodeState::Down;
    let resuming = kept.resuming().filter(|_| kept.can_be_resumed() && !kept.was_resumed_within(RESUME_PAUSE));
    let field = resuming.filter(|_| !is_hopeless).and_then(|resuming| resuming.field(kept.version(), &from.id));
    let Some((name, value)) = field else { return Ok(None) };
    let mut ask = || {
        let link = attempt::connect(node, kept, context, deadline)?;
        let attempt = Attempt::new(kept, watch, context, Arc::clone(node), link, deadline);
        attempt.resume(&from.id, (name, &value), from.number + 1)
    };
    match ask()? {
        None => {
            wait(kept, context, NOTICE)?;
            ask()
        }
        taken => Ok(taken),
    }
}

fn try_nodes(
    kept: &Kept,
    watch: &mut Watch,
    context: &Context<'_>,
    from: &Place,
    deadline: Instant,
) -> Result<Taken, TakeoverError> {
    let mut pause = FIRST_PAUSE;
    // The node that is lost is tried after the others.
    let mut tried = vec![from.node.id()];
    let mut last = "no node has been tried".to_owned();
    loop {
        let Some(node) = (context.pool)().and_then(|pool| pool.choose(Purpose::Session, &tried)) else {
            if Instant::now() + pause >= deadline {
                return Err(TakeoverError::NoNode { last });
            }
            tried.clear();
            wait(kept, context, pause)?;
            pause = LONGEST_PAUSE.min(2 * pause);
            continue;
        };
        tried.push(node.id());
        last = match try_node(kept, watch, context, &node, from.number + 1, deadline) {
            Ok(taken) => return Ok(taken),
            Err(Stop::Over) => return Err(TakeoverError::Over),
            Err(Stop::Node(why)) => why,
        };
    }
}

fn try_node(
    kept: &Kept,
    watch: &mut Watch,
    context: &Context<'_>,
    node: &Arc<Backend>,
    number: u64,
    deadline: Instant,
) -> Result<Taken, Stop> {
    if context.is_over(kept) {
        return Err(Stop::Over);
    }
    let link = attempt::connect(node, kept, context, deadline)?;
    Attempt::new(kept, watch, context, Arc::clone(node), link, deadline).run(number)
}

/// Waits for so long, unless the takeover is not wanted any more.
fn wait(kept: &Kept, context: &Context<'_>, time: Duration) -> Result<(), Stop> {
    let until = Instant::now() + time;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if context.is_over(kept) {
            return Err(Stop::Over);
        }
        if left.is_zero() {
            return Ok(());
        }
        kept.seat().pause(LOOK.min(left));
    }
}
