//! Where a session is: its node, its id there and the socket to it. Requests about the session, and a client that resumes
//! it, wait here while it has no node, and a move waits for the requests that are under way.

use std::net::Shutdown;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use socket2::Socket;

use crate::nodes::backend::Backend;

/// The generation of a session that gets no node any more. It is odd.
pub(super) const OVER: u64 = u64::MAX;

/// How long a resume waits until the node has seen the end of the session's WebSocket, and how long a node may take to end
/// the WebSocket of a session whose client has left during a takeover.
pub const CLOSING_TIME: Duration = Duration::from_secs(5);

/// Where a session is.
#[derive(Clone)]
pub struct Place {
    /// Its node.
    pub node: Arc<Backend>,
    /// Its id as this node knows it.
    pub id: Arc<str>,
    /// How many nodes it has had before.
    pub number: u64,
}

enum State {
    /// The node has not said `ready` yet.
    Opening,
    At(Place),
    /// A takeover or a move is under way. This was its place.
    Away(Place),
    /// A takeover has failed, or its tunnel has ended.
    Over,
}

struct Inner {
    state: State,
    /// True while it is away because its node is lost, not because it moves.
    is_lost: bool,
    /// True once the players are made anew on another node: what the lost one still answers does not count.
    is_closed: bool,
    /// Requests about the session that its node may still get, or has not answered.
    visits: usize,
}

/// The place of one session.
pub struct Seat {
    inner: Mutex<Inner>,
    changed: Condvar,
    /// The socket to the present node, as long as the tunnel stands.
    socket: Mutex<Option<Arc<Socket>>>,
    /// Twice the number of the place, and one more while there is no node.
    generation: AtomicU64,
    /// The client has sent a close frame, or has ended its side.
    client_left: AtomicBool,
    /// True while the node has a part of a frame of the client. Held by the thread that writes to the node.
    pub(super) is_within_frame: Mutex<bool>,
}

/// A takeover has not ended in time.
#[derive(Debug)]
pub struct Overdue;

/// A request about a session, until it is answered.
pub struct Visit {
    seat: Arc<Seat>,
    /// Where it goes.
    place: Place,
}

impl Visit {
    /// True once the session has left the place that the request goes to, or leaves it within this time.
    pub fn is_too_late(&self, time: Duration) -> bool {
        self.seat.has_left(self.place.number, time)
    }

    /// True where the node of this place is lost, and another one has the session or gets it. A move waits for the request.
    pub fn is_taken_over(&self) -> bool {
        let inner = self.seat.inner.lock();
        match &inner.state {
            State::At(now) => now.number != self.place.number,
            State::Away(_) => inner.is_lost,
            State::Opening | State::Over => false,
        }
    }

    /// True where the answer of this place comes too late for the next one. A node that has resumed the session has it still.
    pub fn is_over(&self) -> bool {
        let inner = self.seat.inner.lock();
        match &inner.state {
            State::At(now) => now.id != self.place.id || now.node.id() != self.place.node.id(),
            State::Away(_) => inner.is_closed,
            State::Opening | State::Over => false,
        }
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        self.seat.inner.lock().visits -= 1;
        self.seat.changed.notify_all();
    }
}

impl Seat {
    /// A session whose node has agreed to its handshake.
    pub(super) fn new(socket: &Arc<Socket>) -> Arc<Self> {
        Arc::new(Self {
            inner: Mutex::new(Inner { state: State::Opening, is_lost: false, is_closed: false, visits: 0 }),
            changed: Condvar::new(),
            socket: Mutex::new(Some(Arc::clone(socket))),
            generation: AtomicU64::new(0),
            client_left: AtomicBool::new(false),
            is_within_frame: Mutex::new(false),
        })
    }

    /// The node has given the session its id.
    pub(super) fn open(&self, node: &Arc<Backend>, id: &str) {
        self.inner.lock().state = State::At(Place { node: Arc::clone(node), id: id.into(), number: 0 });
    }

    /// True once it has its id, and until it is over.
    pub(super) fn is_open(&self) -> bool {
        matches!(self.inner.lock().state, State::At(_) | State::Away(_))
    }

    /// True once the client has closed the WebSocket or ended its side.
    pub(super) fn client_left(&self) -> bool {
        self.client_left.load(SeqCst)
    }

    /// Notes that the client ends its session.
    pub(super) fn note_client_left(&self) {
        self.client_left.store(true, SeqCst);
        self.changed.notify_all();
    }

    /// Where the session is now, for one request. While a takeover is under way, waits for its end until `deadline`.
    ///
    /// # Errors
    /// When the takeover has not ended by then.
    pub fn visit(self: &Arc<Self>, deadline: Instant) -> Result<Option<(Place, Visit)>, Overdue> {
        let mut inner = self.inner.lock();
        loop {
            match &inner.state {
                State::At(place) => {
                    let place = place.clone();
                    inner.visits += 1;
                    let visit = Visit { seat: Arc::clone(self), place: place.clone() };
                    return Ok(Some((place, visit)));
                }
                State::Opening | State::Over => return Ok(None),
                State::Away(_) => {}
            }
            if self.changed.wait_until(&mut inner, deadline).timed_out() {
                return Err(Overdue);
            }
        }
    }

    /// Where the session is, or was last.
    pub fn last_place(&self) -> Option<Place> {
        match &self.inner.lock().state {
            State::At(place) | State::Away(place) => Some(place.clone()),
            State::Opening | State::Over => None,
        }
    }

    /// Waits until the session has left the place with this number, for at most `time`. False when it is still there.
    fn has_left(&self, number: u64, time: Duration) -> bool {
        let deadline = Instant::now() + time;
        let mut inner = self.inner.lock();
        while matches!(&inner.state, State::At(now) if now.number == number) {
            if self.changed.wait_until(&mut inner, deadline).timed_out() {
                return false;
            }
        }
        true
    }

    /// Waits for `time`, or until the client leaves meanwhile.
    pub(super) fn pause(&self, time: Duration) {
        let deadline = Instant::now() + time;
        let had_left = self.client_left();
        let mut inner = self.inner.lock();
        while self.client_left() == had_left && !self.changed.wait_until(&mut inner, deadline).timed_out() {}
    }

    /// Waits until the session can be resumed at its node: until no takeover is under way, for which it waits until
    /// `deadline`, and until the node has seen the end of a client that has left.
    pub fn await_resumable(&self, deadline: Instant) {
        let mut inner = self.inner.lock();
        while matches!(inner.state, State::Away(_)) {
            if self.changed.wait_until(&mut inner, deadline).timed_out() {
                return;
            }
        }
        let deadline = deadline.min(Instant::now() + CLOSING_TIME);
        while self.is_closing() && !self.changed.wait_until(&mut inner, deadline).timed_out() {}
    }

    /// True while a takeover is under way, or a client that has left still has its socket to the node.
    pub(super) fn is_changing(&self) -> bool {
        self.is_away() || self.is_closing()
    }

    /// True while a takeover or a move is under way.
    pub(super) fn is_away(&self) -> bool {
        matches!(self.inner.lock().state, State::Away(_))
    }

    fn is_closing(&self) -> bool {
        self.client_left() && self.socket.lock().is_some()
    }

    /// The session leaves its place, which this was, to move. Requests about it wait from now on.
    pub(super) fn leave(&self) -> Option<Place> {
        self.go_away(false)
    }

    /// The same, because its node is lost.
    pub(super) fn lose(&self) -> Option<Place> {
        self.go_away(true)
    }

    fn go_away(&self, is_lost: bool) -> Option<Place> {
        let mut inner = self.inner.lock();
        let (State::At(place) | State::Away(place)) = &inner.state else { return None };
        let place = place.clone();
        (inner.state, inner.is_lost, inner.is_closed) = (State::Away(place.clone()), is_lost, false);
        drop(inner);
        self.generation.store(2 * place.number + 1, SeqCst);
        self.changed.notify_all();
        Some(place)
    }

    /// Waits until no request about the session is under way. False when that is not so by `deadline`.
    pub(super) fn await_visits(&self, deadline: Instant) -> bool {
        let mut inner = self.inner.lock();
        while inner.visits > 0 {
            if self.changed.wait_until(&mut inner, deadline).timed_out() {
                return false;
            }
        }
        true
    }

    /// Waits for what the lost node has answered already, at most until `deadline`. Nothing counts that it answers later.
    pub(super) fn close_visits(&self, deadline: Instant) {
        self.await_visits(deadline);
        self.inner.lock().is_closed = true;
    }

    /// Ends the socket to the node that the session leaves. It wakes a thread that waits for that node.
    pub(super) fn shut(&self) {
        if let Some(socket) = &*self.socket.lock() {
            // An error means that the socket is dead.
            let _ = socket.shutdown(Shutdown::Both);
        }
    }

    /// The tunnel has ended: its socket is closed with it.
    pub(super) fn release(&self) {
        let inner = self.inner.lock();
        *self.socket.lock() = None;
        drop(inner);
        self.changed.notify_all();
    }

    /// The bytes of the client go to this socket from now on.
    pub(super) fn lead_to(&self, number: u64, socket: &Arc<Socket>) {
        *self.socket.lock() = Some(Arc::clone(socket));
        self.generation.store(2 * number, SeqCst);
    }

    /// The session has a place again, which may be the one that it has left.
    pub(super) fn settle(&self, place: Place) {
        self.inner.lock().state = State::At(place);
        self.changed.notify_all();
    }

    /// The session gets no node any more.
    pub(super) fn end(&self) {
        self.generation.store(OVER, SeqCst);
        self.inner.lock().state = State::Over;
        self.changed.notify_all();
    }

    /// The socket to the present node, and its generation. `None` when the tunnel has ended.
    pub fn socket(&self) -> Option<(Arc<Socket>, u64)> {
        let socket = self.socket.lock();
        socket.as_ref().map(|socket| (Arc::clone(socket), self.generation()))
    }

    /// Changes with each node. It is odd while there is none.
    pub(super) fn generation(&self) -> u64 {
        self.generation.load(SeqCst)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use socket2::{Domain, Type};

    use super::*;
    use crate::config::{Lavalink, Settings};

    #[test]
    fn a_request_loses_its_place_with_the_node_but_not_to_a_move() {
        let settings = Settings::from_lookup(|_| None).unwrap();
        let Settings { timeouts, health_interval, .. } = settings;
        let node = Backend::lavalink(Lavalink::V4, &settings.nodes(Lavalink::V4)[0], timeouts, health_interval, None);
        let seat = Seat::new(&Arc::new(Socket::new(Domain::IPV4, Type::STREAM, None).unwrap()));
        seat.open(&node, "first");
        let (place, visit) = seat.visit(Instant::now()).unwrap().unwrap();
        assert!(!visit.is_taken_over());
        seat.leave();
        assert!(!visit.is_taken_over(), "the move waits for the request");
        seat.settle(place.clone());
        assert!(!visit.is_taken_over());
        seat.lose();
        assert!(visit.is_taken_over() && !visit.is_over());
        seat.close_visits(Instant::now());
        assert!(visit.is_over());
        seat.settle(Place { number: 1, ..place.clone() });
        assert!(visit.is_taken_over() && !visit.is_over(), "the node has resumed the session");
        seat.settle(Place { number: 1, id: "second".into(), ..place });
        assert!(visit.is_taken_over() && visit.is_over());
        seat.end();
        assert!(!visit.is_taken_over(), "nobody has the session");
    }
}
