//! One attempt of a takeover on one node: the handshake, `ready`, the players, their starts, then resuming. Or, on the node
//! that the session was on: the handshake and `ready`, where that node has kept it. An attempt ends as soon as the node
//! fails, and leaves what is kept of the session as it was.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use log::warn;
use socket2::Socket;

use super::context::{Context, LOOK, Made};
use super::end_resuming::end_resuming;
use super::events::{self, Event};
use super::frame::{Head, TEXT};
use super::kept::Kept;
use super::next_frames::NextFrames;
use super::players::Players;
use super::ready;
use super::request::patch;
use super::resuming::Resuming;
use super::seat::Place;
use super::watch::Watch;
use crate::config::Secret;
use crate::error::is_timeout;
use crate::http::buffer::Buffer;
use crate::http::peer::{Peer, Reply};
use crate::nodes::backend::{Backend, Link};
use crate::nodes::gate::Pass;

mod replays;

use replays::InFlight;

/// The longest wait for a node's answer. The first voice handshake of a fresh Java machine takes two seconds.
const ANSWER_TIME: Duration = Duration::from_secs(15);
/// How long the client's frames may wait for the answer to a replay.
const TURN: Duration = Duration::from_millis(20);
/// The longest wait for a start that the client must not get.
const START_TIME: Duration = Duration::from_millis(500);
/// The pause between two looks for it.
const SHORT: Duration = Duration::from_millis(2);
/// The largest answer, and the most bytes before `ready`.
const MAX_ANSWER: u64 = 256 * 1024;
const MAX_BEFORE_READY: usize = 64 * 1024;

/// Where the session is then, the socket that leads there, and its players.
pub(super) type Taken = (Place, Arc<Socket>, Made);

/// Why an attempt ends early.
pub(super) enum Stop {
    /// The takeover is not wanted any more.
    Over,
    /// The node has failed: how, for the log.
    Node(String),
}

impl Stop {
    fn node(what: &str, error: &io::Error) -> Self {
        Self::Node(format!("{what}: {error}"))
    }
}

/// An attempt on one node.
pub(super) struct Attempt<'a> {
    kept: &'a Kept,
    watch: &'a mut Watch,
    context: &'a Context<'a>,
    node: Arc<Backend>,
    /// It carries the handshake, and then the WebSocket.
    link: Link,
    deadline: Instant,
    /// The session's id on this node, and whether the node has kept the session.
    id: String,
    is_resumed: bool,
    next: NextFrames,
    in_flight: VecDeque<InFlight>,
    /// Connections that can carry another replay.
    free: Vec<Link>,
    made: Made,
}

impl<'a> Attempt<'a> {
    pub(super) fn new(
        kept: &'a Kept,
        watch: &'a mut Watch,
        context: &'a Context<'a>,
        node: Arc<Backend>,
        link: Link,
        deadline: Instant,
    ) -> Self {
        let (id, next, made) = (String::new(), NextFrames::default(), Made::default());
        let (in_flight, free) = (VecDeque::new(), Vec::new());
        Self { kept, watch, context, node, link, deadline, id, is_resumed: false, next, in_flight, free, made }
    }

    pub(super) fn run(mut self, number: u64) -> Result<Taken, Stop> {
        let (kept, made) = (self.kept, self.make());
        let ended = made.and_then(|()| self.complete(number));
        if ended.is_err() {
            kept.with_players(Players::put_back);
        }
        ended
    }

    /// Resumes the session that the node has under this id, with `field`. Its players have played on there. `None` when the
    /// node has not kept it, or does not know yet that its WebSocket has ended.
    pub(super) fn resume(mut self, id: &str, field: (&str, &Secret), number: u64) -> Result<Option<Taken>, Stop> {
        let behind = self.open(Some(field))?;
        // Another session may have the same key. What it has missed is not for this client.
        if !self.is_resumed || self.id != id {
            return Ok(None);
        }
        self.kept.note_resumed();
        self.take(&behind)?;
        self.complete(number).map(Some)
    }

    /// Makes the session anew, with its players.
    fn make(&mut self) -> Result<(), Stop> {
        let behind = self.open(None)?;
        self.take(&behind)?;
        self.replay()?;
        self.wait_for_starts()?;
        // The last request: until then the session ends with its WebSocket if the attempt does.
        let Some(resuming) = self.kept.resuming() else { return self.check() };
        let set = self.set_resuming(&resuming).and_then(|()| self.check());
        if set.is_err() {
            end_resuming(&self.node, &self.id, self.kept.version(), &resuming);
        }
        set
    }

    /// The session is on this node from now on.
    fn complete(self, number: u64) -> Result<Taken, Stop> {
        let Self { kept, watch, context, node, link, id, next, made, .. } = self;
        let lost = |error: &io::Error| Stop::node("the node's WebSocket has ended", error);
        link.set_waiting(true).map_err(|error| lost(&error))?;
        let socket = link.into_tunnel().map_err(|end| Stop::Node(format!("the node's WebSocket has ended: {end}")))?;
        let socket = Arc::new(socket);
        let (frames, mut waiting) = next.into_parts();
        kept.with_players(Players::forget_aside);
        watch.moved(&node, &id, frames);
        let place = Place { node, id: id.into(), number };
        let mut owed = kept.end_takeover(place.clone(), &socket);
        owed.append(&mut waiting);
        watch.note_key();
        // An error means that the client is gone, which the tunnel finds out.
        let _ = context.client.write_all(&owed);
        Ok((place, socket, made))
    }

    /// Waits for room at the node's gate.
    fn enter(&mut self) -> Result<Pass, Stop> {
        loop {
            self.check()?;
            if let Some(pass) = self.node.load().gate().enter(Instant::now() + LOOK) {
                return Ok(pass);
            }
        }
    }

    fn check(&self) -> Result<(), Stop> {
        if self.context.is_over(self.kept) {
            return Err(Stop::Over);
        }
        match Instant::now() < self.deadline {
            true => Ok(()),
            false => Err(Stop::Node("TAKEOVER_TIMEOUT has passed while it was made ready".to_owned())),
        }
    }

    /// The handshake, in its turn, and the messages up to `ready`. Returns what has come besides `ready`.
    fn open(&mut self, resume: Option<(&str, &Secret)>) -> Result<Vec<u8>, Stop> {
        let _pass = self.enter()?;
        let head = self.kept.opening().head(self.node.password(), resume);
        let (reply, buffer) = self.ask(&head, None, ANSWER_TIME)?;
        if matches!(reply.status, 401 | 403) {
            self.node.password_refused();
        }
        if reply.status != 101 {
            return Err(Stop::Node(format!("{} answers the handshake with {}", self.node, reply.status)));
        }
        self.await_ready(buffer)
    }

    fn await_ready(&mut self, buffer: Buffer) -> Result<Vec<u8>, Stop> {
        let until = self.deadline.min(Instant::now() + ANSWER_TIME);
        let mut bytes = buffer.data().to_vec();
        let mut rest = Vec::new();
        let mut had_stats = false;
        while !self.take_frames(&mut bytes, &mut rest, &mut had_stats)? {
            self.check()?;
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || bytes.len() + rest.len() > MAX_BEFORE_READY {
                return Err(Stop::Node(format!("{} sends no ready", self.node)));
            }
            if self.link.wait_for_news(LOOK.min(left)).unwrap_or(true) {
                let mut piece = [0; 2048];
                match (&self.link).read(&mut piece) {
                    Ok(count @ 1..) => bytes.extend_from_slice(&piece[..count]),
                    _ => return Err(Stop::Node(format!("{} closes before it sends ready", self.node))),
                }
            }
        }
        self.link.set_waiting(false).map_err(|error| Stop::node("the node's WebSocket has ended", &error))?;
        // A session that is resumed gets the stats that it has missed, and then those of the next minute.
        self.kept.drop_next_stats(!had_stats && !self.is_resumed);
        rest.append(&mut bytes);
        Ok(rest)
    }

    /// Looks at each whole frame up to `ready`; true when that has come. The client does not get it, nor the stats.
    fn take_frames(&mut self, bytes: &mut Vec<u8>, rest: &mut Vec<u8>, had_stats: &mut bool) -> Result<bool, Stop> {
        loop {
            let Some(head) = Head::parse(bytes) else { return Ok(false) };
            let length =
                usize::try_from(head.payload).map_or(usize::MAX, |payload| head.length.saturating_add(payload));
            if bytes.len() < length {
                return Ok(false);
            }
            let frame: Vec<u8> = bytes.drain(..length).collect();
            let payload = &frame[head.length..];
            if head.opcode == TEXT && head.fin {
                if let Ok(Some((_, ready))) = ready::find_ready(payload) {
                    (self.id, self.is_resumed) = (ready.session_id, ready.resumed);
                    return Ok(true);
                }
                if matches!(events::read(self.kept.version(), payload), Some(Event::Stats)) {
                    *had_stats = true;
                    continue;
                }
            }
            rest.extend_from_slice(&frame);
        }
    }

    /// Lets the client resume the session on this node as on the one before.
    fn set_resuming(&mut self, resuming: &Resuming) -> Result<(), Stop> {
        let version = self.kept.version();
        let request = patch(&self.node, &format!("/{version}/sessions/{}", self.id), &resuming.request(version));
        let _pass = self.enter_and_read()?;
        let link = self.connect()?;
        let (reply, _) = self.ask(&request, Some(&link), ANSWER_TIME)?;
        if reply.status != 200 {
            warn!("event=resuming-refused {} session={} status={}", self.node.label(), self.id, reply.status);
        }
        if reply.keep_alive {
            self.free.push(link);
        }
        Ok(())
    }

    /// The wait is long, because a thousand sessions may wait here: no answer is under way, and the gate wakes in turn.
    fn enter_and_read(&mut self) -> Result<Pass, Stop> {
        loop {
            self.check()?;
            self.read_frames()?;
            if let Some(pass) = self.node.load().gate().enter(Instant::now() + LOOK) {
                return Ok(pass);
            }
        }
    }

    /// The starts that the replays have caused come before their answers, but on another connection.
    fn wait_for_starts(&mut self) -> Result<(), Stop> {
        let until = Instant::now() + START_TIME;
        self.read_frames()?;
        while self.kept.with_players(|players| players.awaits_start()) && Instant::now() < until {
            self.kept.seat().pause(SHORT);
            self.check()?;
            self.read_frames()?;
        }
        Ok(())
    }

    /// Passes on what has come from the node, unless the client reads too slowly.
    fn read_frames(&mut self) -> Result<(), Stop> {
        let mut piece = [0; 4096];
        while !self.kept.owes_too_much(self.context.client) {
            match (&self.link).read(&mut piece) {
                Ok(0) => return Err(Stop::Node(format!("{} has closed the WebSocket", self.node))),
                Ok(count) => self.take(&piece[..count])?,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if is_timeout(&error) => return Ok(()),
                Err(error) => return Err(Stop::node("the node's WebSocket has ended", &error)),
            }
        }
        Ok(())
    }

    fn take(&mut self, bytes: &[u8]) -> Result<(), Stop> {
        let taken = self.next.take(bytes, |frame| self.kept.note_node_frame(frame));
        // When a move fails, the client's players play on elsewhere: it must not have heard of these. Otherwise what came
        // before a failure is noted of its players, and is for it.
        if !self.context.is_move {
            self.kept.owe(&self.next.take_whole(), self.context.client);
        }
        taken.map_err(|error| Stop::Node(format!("{} {error}", self.node)))
    }

    fn connect(&mut self) -> Result<Link, Stop> {
        while let Some(link) = self.free.pop() {
            if !link.has_news() {
                return Ok(link);
            }
        }
        connect(&self.node, self.kept, self.context, self.deadline)
    }

    /// Sends a request, if there is one to be sent, and reads the answer, within `time`. `link` is another connection than
    /// the WebSocket's. The client gets its frames meanwhile.
    fn ask(&mut self, request: &[u8], link: Option<&Link>, time: Duration) -> Result<(Reply, Buffer), Stop> {
        let until = self.deadline.min(Instant::now() + time);
        let failed = |error: &io::Error| Stop::node("the node does not answer", error);
        if !request.is_empty() {
            let mut link = link.unwrap_or(&self.link);
            link.write_all(request).map_err(|error| failed(&error))?;
        }
        loop {
            self.check()?;
            if link.is_some() {
                self.read_frames()?;
            }
            let wait = if link.is_some() { TURN } else { LOOK };
            if link.unwrap_or(&self.link).wait_for_news(wait).map_err(|error| failed(&error))? {
                break;
            }
            if Instant::now() >= until {
                return Err(Stop::Node(format!("{} does not answer within {}s", self.node, time.as_secs())));
            }
        }
        let mut peer = Peer::new(link.unwrap_or(&self.link));
        let reply = peer.ask(b"", MAX_ANSWER, |link| self.await_news(link, until));
        self.check()?;
        let reply = reply.map_err(|error| failed(&error))?;
        let (_, buffer) = peer.into_parts();
        Ok((reply, buffer))
    }

    /// Waits for more of an answer.
    ///
    /// # Errors
    /// When none has come by `until`, or the takeover is not wanted any more.
    fn await_news(&self, link: &Link, until: Instant) -> io::Result<()> {
        while Instant::now() < until && self.check().is_ok() {
            if link.wait_for_news(LOOK)? {
                return link.read_until(until);
            }
        }
        Err(ErrorKind::TimedOut.into())
    }
}

/// A connection to the node, as long as the takeover is wanted.
pub(super) fn connect(node: &Backend, kept: &Kept, context: &Context<'_>, until: Instant) -> Result<Link, Stop> {
    let time = node.connect_timeout().min(until.saturating_duration_since(Instant::now()));
    let linked = node.fresh_link_while(time, || !context.is_over(kept));
    linked.map_err(|fault| if context.is_over(kept) { Stop::Over } else { Stop::Node(fault.to_string()) })
}
