//! One request and its response: sends head and body to the backend, then relays head and body to the client, or
//! switches to a tunnel. `forward` writes the heads, `http` knows the grammar, `client` and `backend` own the sockets.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::buffers::{Buffers, HEAD_BUFFER};
use super::client::Client;
use super::forward;
use super::load::LoadRetry;
use super::session_request::SessionRequest;
use super::tunnel::Switch;
use super::upload::Upload;
use crate::admission::Permit;
use crate::error::{BackendFault, End, Fault, is_timeout};
use crate::http::body::{Body, Framing};
use crate::http::buffer::Buffer;
use crate::http::head::{self, ReadError, Request, Response, Slots, Version};
use crate::nodes::backend::{Backend, Link};
use crate::sessions::configure_resuming;
use crate::sessions::seat::Visit;
use crate::sessions::table::Sessions;

mod second_load;

/// The largest size of a buffer while a large body is relayed.
const BODY_BUFFER: usize = 256 * 1024;
/// The most bytes of a body that are sent in one write with the head. Copying more costs more than a second write.
const MAX_JOINED: usize = 16 * 1024;
/// The longest wait for one side during a request body, before the other side is checked.
const TURN: Duration = Duration::from_millis(100);
/// How long the client of a handshake may be gone before that is noticed while the node is silent.
const LOOK: Duration = Duration::from_secs(1);
/// How much later than a 404 the end of the session's WebSocket may be noticed.
const NOTICE: Duration = Duration::from_millis(100);
/// The least average rate of a request body, in bytes per second. Besides, it must never pause for HEAD_TIMEOUT.
const MIN_BODY_RATE: u64 = 1024;
/// The most interim answers (1xx) to one request.
const MAX_INTERIM: usize = 16;

/// What the exchange needs of a request after its head is written and its buffer is free again.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    version: Version,
    is_head: bool,
    is_idempotent: bool,
    keep_alive: bool,
    /// True for a WebSocket handshake.
    pub upgrade: bool,
    expects_continue: bool,
}

impl Plan {
    /// The plan for this request.
    pub fn new(request: &Request<'_, '_>, upgrade: bool) -> Self {
        Self {
            version: request.version,
            is_head: request.method == "HEAD",
            is_idempotent: matches!(request.method, "GET" | "HEAD" | "OPTIONS" | "DELETE" | "PUT"),
            keep_alive: request.keep_alive,
            upgrade,
            expects_continue: request.expects_continue && !matches!(request.framing, Framing::None),
        }
    }
}

/// The bounds of one exchange.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// The largest request body, in bytes.
    pub max_body: u64,
    /// The longest pause within a request body.
    pub pause: Duration,
    /// The longest wait for the backend to answer.
    pub response: Duration,
}

/// How an exchange ended after its response had begun.
pub enum Outcome {
    /// The client's connection is ready for the next request.
    Done,
    /// The response is complete and was the connection's last.
    Last,
    /// The response broke off before its end.
    Broken {
        /// Which side broke it off, and how.
        end: End,
        /// True when a plain close would look like the proper end of the response, so that a reset is needed.
        reset: bool,
    },
    /// Both sides speak another protocol now.
    Switching(Link, Switch),
}

/// What happens to the answer of a node besides relaying it.
#[derive(Default)]
pub struct Followup {
    /// Set for a load that may be tried on another node. Its head as it came is in `Buffers::load_head`.
    pub retry: Option<Box<LoadRetry>>,
    /// Set for a request that may set the key of a v3 session.
    pub keys: Option<Arc<Sessions>>,
    /// Set for a request that changes what is kept of its session.
    pub session: Option<Box<SessionRequest>>,
    /// Set for a request about a session that can be taken over: it does not move meanwhile.
    pub visit: Option<Visit>,
}

/// A request that is ready to be sent, with a connection to its node. Its head is in `Buffers::head`.
pub struct Ready {
    /// What the exchange needs of the request.
    pub plan: Plan,
    /// Its body.
    pub upload: Upload,
    /// The backend that gets it.
    pub backend: Arc<Backend>,
    /// A connection to that backend.
    pub link: Link,
    /// What happens to the answer.
    pub followup: Followup,
}

/// Sends the request and relays the response.
///
/// A request is sent a second time, on a fresh connection, only if it is idempotent, was sent whole on a reused
/// connection, and that connection ended without a byte of an answer (RFC 9110 section 9.2.2). A load that failed has
/// its own rule ([`LoadRetry`]).
///
/// # Errors
/// A [`Fault`] while no byte of a final response was sent to the client.
pub fn run(
    ready: Ready,
    bounds: Bounds,
    permit: &Permit,
    client: &mut Client<'_>,
    buffers: &mut Buffers,
) -> Result<Outcome, Fault> {
    let Ready { plan, mut upload, backend, link, followup } = ready;
    let Followup { retry, keys, session, visit } = followup;
    buffers.backend.clear();
    if let Err(fault) = upload.take_window(&mut buffers.client, bounds.max_body) {
        backend.give_back(link);
        return Err(fault);
    }
    upload.sent = join(&mut buffers.head, &buffers.client.data()[..upload.produced]);
    if upload.sent == upload.produced {
        upload.discard_window(&mut buffers.client);
    }

    let may_repeat = plan.is_idempotent && upload.is_complete() && link.is_reused();
    let mut exchange = Exchange { plan, bounds, backend, permit, link, client, buffers, upload };
    let mut answer = match exchange.run() {
        Err(Fault::Backend(BackendFault::NoResponse(_))) if may_repeat => {
            let fresh = exchange.backend.fresh_link(exchange.backend.connect_timeout());
            exchange.link = fresh.map_err(|_| BackendFault::NoResponse(End::BackendUnreachable))?;
            // A node that has died meanwhile and is back does not know the session.
            if visit.as_ref().is_some_and(Visit::is_taken_over) {
                return Err(BackendFault::NodeLost.into());
            }
            exchange.run()?
        }
        other => other?,
    };
    // A node that stops closes its WebSockets first, and does not know their sessions from then on.
    if answer.status == 404 && visit.as_ref().is_some_and(|visit| visit.is_too_late(NOTICE) && visit.is_taken_over()) {
        return Err(BackendFault::NodeLost.into());
    }
    // The client must not believe in a change that the next node does not get.
    if session.is_some() && visit.as_ref().is_some_and(Visit::is_over) {
        return Err(BackendFault::NodeLost.into());
    }
    if let Some(retry) = retry {
        answer = exchange.retry_load(&retry, answer);
    }
    if let Some(sessions) = keys.filter(|_| answer.status == 200) {
        if let Some(key) = exchange.upload.content().and_then(|body| configure_resuming::key_of_patch(&body)) {
            sessions.note_key(key, exchange.backend.name());
        }
    }
    if answer.switching { Ok(exchange.switch()) } else { exchange.relay_response(answer, session) }
}

/// What relaying needs of a final response. Its head is in `Buffers::head`.
struct Answer {
    status: u16,
    framing: Framing,
    keep_alive: bool,
    switching: bool,
    last: bool,
}

struct Exchange<'x, 's> {
    plan: Plan,
    bounds: Bounds,
    backend: Arc<Backend>,
    permit: &'x Permit,
    link: Link,
    client: &'x mut Client<'s>,
    buffers: &'x mut Buffers,
    upload: Upload,
}

impl Exchange<'_, '_> {
    /// Sends the request and waits for the final response. Relays interim responses.
    fn run(&mut self) -> Result<Answer, Fault> {
        // A backend that stops reading the request may still have sent an answer.
        let taken = (&self.link).write_all(&self.buffers.head);
        for interim in 0..=MAX_INTERIM {
            if taken.is_ok() && !self.upload.is_complete() {
                self.send_body(interim > 0)?;
            }
            if let Some(answer) = self.read_response_head(interim > 0)? {
                return Ok(answer);
            }
        }
        Err(BackendFault::BadResponse("too many interim answers").into())
    }

    /// Sends the rest of the request body, until it is complete or the backend answers.
    fn send_body(&mut self, continued: bool) -> Result<(), Fault> {
        let started = Instant::now();
        self.client.set_read_timeout(TURN).map_err(gone)?;
        self.link.set_write_timeout(TURN).map_err(|error| BackendFault::NoResponse(End::of_backend(&error)))?;
        if self.plan.expects_continue && !continued && self.buffers.client.is_empty() {
            // The client waits for a 100 of the backend, but only for a while (RFC 9110 section 10.1.1).
            if self.link.wait_for_news(TURN).unwrap_or(true) {
                return Ok(());
            }
        }
        let mut heard = started;
        let mut received = 0;
        loop {
            if self.send_window()? || self.upload.is_complete() || self.has_news() {
                // An error means that the backend is gone. The read of its response finds that out.
                let _ = self.link.set_write_timeout(self.bounds.response);
                return Ok(());
            }
            match self.buffers.client.fill(self.client, BODY_BUFFER) {
                Ok(0) => return Err(Fault::BodyTruncated),
                Ok(count) => {
                    heard = Instant::now();
                    received += count as u64;
                }
                Err(error) if is_timeout(&error) => {}
                Err(error) => return Err(gone(error)),
            }
            let slow = started.elapsed() > self.bounds.response + Duration::from_secs(received / MIN_BODY_RATE);
            if heard.elapsed() > self.bounds.pause || slow {
                return Err(Fault::BodyTimeout);
            }
            self.upload.take_window(&mut self.buffers.client, self.bounds.max_body)?;
        }
    }

    /// True when the backend has sent bytes that were not parsed yet, or has closed.
    fn has_news(&self) -> bool {
        !self.buffers.backend.is_empty() || self.link.has_news()
    }

    /// Sends the part of the body that is ready. True when the backend answers, or is gone, before it has taken all.
    fn send_window(&mut self) -> Result<bool, Fault> {
        let deadline = Instant::now() + self.bounds.response;
        while self.upload.sent < self.upload.produced {
            let window = &self.buffers.client.data()[self.upload.sent..self.upload.produced];
            match (&self.link).write(window) {
                Ok(count) => self.upload.sent += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if !is_timeout(&error) || self.has_news() => return Ok(true),
                Err(_) if Instant::now() > deadline => return Err(BackendFault::ResponseTimeout.into()),
                Err(_) => {}
            }
        }
        self.upload.discard_window(&mut self.buffers.client);
        Ok(false)
    }

    /// Reads one response head. Writes a final one into `Buffers::head`. Relays an interim one and returns `None`.
    fn read_response_head(&mut self, answered: bool) -> Result<Option<Answer>, Fault> {
        let mut deadline = None;
        let mut ended = None;
        let bound = self.bounds.response;
        let read = head::read(&mut &self.link, &mut self.buffers.backend, |link, partial| {
            match deadline {
                None if partial => deadline = Some(Instant::now() + bound),
                Some(deadline) if Instant::now() > deadline => return Err(io::ErrorKind::TimedOut.into()),
                _ => {}
            }
            if self.plan.upgrade {
                ended = await_news(link, self.client, bound)?;
            }
            if ended.is_some() { Err(io::ErrorKind::ConnectionAborted.into()) } else { Ok(()) }
        });
        if let Some(end) = ended {
            return Err(Fault::Gone(end));
        }
        let length = read.map_err(|error| match error {
            ReadError::Head(error) => BackendFault::BadResponseHead(error),
            ReadError::Closed { partial: false } if !answered => BackendFault::NoResponse(End::BackendClosed),
            ReadError::Closed { .. } => BackendFault::BadResponse("it ends within its head"),
            ReadError::Io { error, .. } if is_timeout(&error) => BackendFault::ResponseTimeout,
            ReadError::Io { partial: false, .. } if !answered => BackendFault::NoResponse(End::BackendReset),
            ReadError::Io { .. } => BackendFault::BadResponse("it breaks off within its head"),
        })?;
        let mut slots = Slots::new();
        let response = Response::parse(&self.buffers.backend.data()[..length], &mut slots, self.plan.is_head)
            .map_err(BackendFault::BadResponseHead)?;
        if forward::refuses_password(&response) {
            self.backend.schedule().ask();
            return Err(self.backend.password_refused().into());
        }
        let switching = response.status == 101;
        if switching {
            let agreed = response.upgrade.is_some_and(|protocol| protocol.eq_ignore_ascii_case(b"websocket"));
            if !(self.plan.upgrade && agreed) {
                return Err(
                    BackendFault::BadResponse("it switches to a protocol that the client did not ask for").into()
                );
            }
        } else if response.is_interim() {
            if self.plan.version == Version::Http11 {
                forward::write_response_head(&mut self.buffers.head, &response, self.plan.version, false);
                self.client.write_all(&self.buffers.head).map_err(gone)?;
            }
            self.buffers.backend.consume(length);
            return Ok(None);
        }
        let (status, framing, keep_alive) = (response.status, response.framing, response.keep_alive);
        let last = !switching && self.is_last(framing);
        forward::write_response_head(&mut self.buffers.head, &response, self.plan.version, last);
        self.buffers.backend.consume(length);
        Ok(Some(Answer { status, framing, keep_alive, switching, last }))
    }

    /// True when the client's connection cannot serve another request after a response with this framing.
    fn is_last(&self, framing: Framing) -> bool {
        let can_go_on = self.plan.keep_alive && !self.permit.is_last_call();
        !can_go_on || framing == Framing::UntilClose || !self.upload.is_complete()
    }

    /// Relays the final response. Keeps the backend's connection if the whole exchange was regular.
    fn relay_response(mut self, answer: Answer, session: Option<Box<SessionRequest>>) -> Result<Outcome, Fault> {
        let mut body = Body::new(answer.framing, u64::MAX).map_err(BackendFault::BadResponseBody)?.of_response();
        let unchunk = self.plan.version == Version::Http10 && answer.framing == Framing::Chunked;
        if unchunk {
            body = body.unchunked();
        }
        let framing = if unchunk { Framing::UntilClose } else { answer.framing };
        let mut session = session.map(|session| (session, answer.status, framing));
        if let Some(end) = self.relay_body(&mut body, &mut session)? {
            return Ok(Outcome::Broken { end, reset: unchunk || answer.framing == Framing::UntilClose });
        }
        let complete = self.upload.is_complete();
        if answer.keep_alive && complete && !self.plan.upgrade && self.buffers.backend.is_empty() {
            self.backend.give_back(self.link);
        }
        Ok(if answer.last { Outcome::Last } else { Outcome::Done })
    }

    /// Sends the head and the first bytes of the body in one write, then the rest as it arrives. Returns how the
    /// response broke off, if it did.
    fn relay_body(
        &mut self,
        body: &mut Body,
        session: &mut Option<(Box<SessionRequest>, u16, Framing)>,
    ) -> Result<Option<End>, Fault> {
        let mut first = true;
        loop {
            let step = match body.step(self.buffers.backend.data_mut()) {
                Ok(step) => step,
                Err(error) if first => return Err(BackendFault::BadResponseBody(error).into()),
                Err(_) => return Ok(Some(End::BadResponse)),
            };
            let mut window = &self.buffers.backend.data()[..step.produced];
            if let Some((request, ..)) = session {
                request.take(window);
            }
            if body.is_done() {
                // The client may send its next request as soon as it has the last byte.
                if let Some((request, status, framing)) = session.take() {
                    request.finish(status, framing, self.upload.content());
                }
            }
            if first {
                let joined = join(&mut self.buffers.head, window);
                if let Err(error) = self.client.write_all(&self.buffers.head) {
                    return Ok(Some(End::of_client(&error)));
                }
                window = &window[joined..];
            }
            if let Err(error) = self.client.write_all(window) {
                return Ok(Some(End::of_client(&error)));
            }
            self.buffers.backend.consume(step.consumed);
            if body.is_done() {
                break;
            }
            first = false;
            match self.buffers.backend.fill(&mut &self.link, BODY_BUFFER) {
                Ok(0) if body.may_end_here() => break,
                Ok(0) => return Ok(Some(End::BackendClosed)),
                Ok(_) => {}
                Err(error) => return Ok(Some(End::of_backend(&error))),
            }
        }
        Ok(None)
    }

    fn switch(self) -> Outcome {
        let switch = Switch {
            answer: self.buffers.head.clone(),
            from_backend: self.buffers.backend.data().to_vec(),
            from_client: self.buffers.client.data().to_vec(),
        };
        Outcome::Switching(self.link, switch)
    }
}

/// Appends the start of a body to its head, for one write. Returns how many bytes it has appended.
fn join(head: &mut Vec<u8>, body: &[u8]) -> usize {
    let joined = body.len().min(MAX_JOINED);
    head.extend_from_slice(&body[..joined]);
    joined
}

/// Waits for the node's answer to a handshake. Returns how the client has ended its side, if it has: without it there is
/// no tunnel. Any other client may end its side after its request.
///
/// # Errors
/// `TimedOut` after `time`.
fn await_news(link: &Link, client: &Client<'_>, time: Duration) -> io::Result<Option<End>> {
    let deadline = Instant::now() + time;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        // An error means that the node is gone. The read of its answer finds that out.
        if link.wait_for_news(left.min(LOOK)).unwrap_or(true) {
            return Ok(None);
        }
        if let Some(end) = client.end() {
            return Ok(Some(end));
        }
    }
}

fn gone(error: io::Error) -> Fault {
    Fault::Gone(End::of_client(&error))
}

/// Reads and drops a request body that is not forwarded, so that the next request of the connection can be read.
/// False when it is over `limit` bytes, malformed, or not complete within `time`.
pub fn discard_body(
    framing: Framing,
    limit: u64,
    time: Duration,
    client: &mut Client<'_>,
    buffer: &mut Buffer,
) -> bool {
    let deadline = Instant::now() + time;
    let Ok(mut body) = Body::new(framing, limit) else { return false };
    loop {
        let Ok(step) = body.step(buffer.data_mut()) else { return false };
        buffer.consume(step.consumed);
        if body.is_done() {
            return true;
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() || client.set_read_timeout(left).is_err() {
            return false;
        }
        if !matches!(buffer.fill(client, HEAD_BUFFER), Ok(1..)) {
            return false;
        }
    }
}
