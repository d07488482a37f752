//! One request and its response: head and body to the backend, head and body to the client, or the switch to a
//! tunnel. The heads' content is `forward`'s, the grammar `http`'s, the sockets are `client`'s and `backend`'s.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::buffers::{Buffers, HEAD_BUFFER};
use super::client::Client;
use super::forward;
use super::load::{self, LoadRetry, Loaded};
use super::tunnel::Switch;
use super::upload::Upload;
use crate::admission::Permit;
use crate::error::{BackendFault, End, Fault, is_timeout};
use crate::http::body::{Body, Framing};
use crate::http::buffer::Buffer;
use crate::http::head::{self, ReadError, Request, Response, Slots, Version};
use crate::nodes::backend::{Backend, Link};
use crate::nodes::load::UnderWay;
use crate::nodes::pool::Purpose;
use crate::sessions::configure_resuming;
use crate::sessions::table::Sessions;

/// What a buffer grows to while a large body flows.
const BODY_BUFFER: usize = 256 * 1024;
/// So many bytes of a body leave in one write with its head: to copy more costs more than the write that it saves.
const MAX_JOINED: usize = 16 * 1024;
/// While a request body flows, how long one side is waited for before the other is looked at.
const TURN: Duration = Duration::from_millis(100);
/// A request body must come at this many bytes a second on the whole, and never pause for HEAD_TIMEOUT.
const MIN_BODY_RATE: u64 = 1024;
/// How many interim answers (1xx) one request may get.
const MAX_INTERIM: usize = 16;

/// What the exchange must know of a request once its head is written out and no longer borrowed.
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
    /// Takes from the request what the exchange needs.
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
    /// The response broke off; `reset` says that only a reset can tell the client so.
    Broken {
        /// Who broke it off.
        end: End,
        /// True when a plain close would look like the response's proper end.
        reset: bool,
    },
    /// Both sides speak another protocol now.
    Switching(Link, Switch),
}

/// What to do with the answer of a node besides relaying it.
#[derive(Default)]
pub struct Followup {
    /// For a load that may be tried on another node.
    pub retry: Option<LoadRetry>,
    /// For a request that may set the key of a v3 session.
    pub keys: Option<Arc<Sessions>>,
}

/// A request that is ready to be sent, with the connection that it goes out on. Its head is in `Buffers::head`.
pub struct Ready {
    /// What is known of the request.
    pub plan: Plan,
    /// Its body.
    pub upload: Upload,
    /// Where it goes.
    pub backend: Arc<Backend>,
    /// A connection there.
    pub link: Link,
    /// What to do with the answer.
    pub followup: Followup,
}

/// Sends the request and relays what comes back.
///
/// A request that may have been processed is sent again only if it is idempotent, was sent whole on a reused connection,
/// and that died without a byte of an answer: then once, on a fresh connection (RFC 9110 section 9.2.2). A load that
/// failed has its own rule ([`LoadRetry`]).
///
/// # Errors
/// A [`Fault`] as long as nothing of a final response was sent to the client.
pub fn run(
    ready: Ready,
    bounds: Bounds,
    permit: &Permit,
    client: &mut Client<'_>,
    buffers: &mut Buffers,
) -> Result<Outcome, Fault> {
    let Ready { plan, mut upload, backend, link, followup } = ready;
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
            exchange.run()?
        }
        other => other?,
    };
    if let Some(retry) = followup.retry {
        answer = exchange.retry_load(&retry, answer);
    }
    if let Some(sessions) = followup.keys.filter(|_| answer.status == 200) {
        if let Some(key) = exchange.upload.copy.as_deref().and_then(configure_resuming::key_of_patch) {
            sessions.note_key(key, exchange.backend.name());
        }
    }
    if answer.switching { Ok(exchange.switch()) } else { exchange.relay_response(answer) }
}

/// What relaying must know of a final response, whose own head is on its way in `Buffers::head`.
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
    /// Sends the request and waits for the final response; interim ones are relayed on the way.
    fn run(&mut self) -> Result<Answer, Fault> {
        // A backend that does not take the request may still have said why.
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

    /// Sends the rest of the request body until it is complete or the backend speaks up, whichever is first.
    fn send_body(&mut self, continued: bool) -> Result<(), Fault> {
        let started = Instant::now();
        self.client.set_read_timeout(TURN).map_err(gone)?;
        self.link.set_write_timeout(TURN).map_err(|error| BackendFault::NoResponse(End::of_backend(&error)))?;
        if self.plan.expects_continue && !continued && self.buffers.client.is_empty() {
            // The client waits for the backend's word, though not for ever (RFC 9110 section 10.1.1).
            if self.link.wait_for_news(TURN).unwrap_or(true) {
                return Ok(());
            }
        }
        let mut heard = started;
        let mut received = 0;
        loop {
            if self.send_window()? || self.upload.is_complete() || self.has_news() {
                // One that is dead is found out by the read that follows.
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

    /// True when the backend has said something that was not looked at yet, or has closed.
    fn has_news(&self) -> bool {
        !self.buffers.backend.is_empty() || self.link.has_news()
    }

    /// Sends what is ready of the body. True when the backend speaks, or is gone, before all of it was taken.
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

    /// Reads one response head. The final one is written out but not sent; an interim one is relayed: `None`.
    fn read_response_head(&mut self, answered: bool) -> Result<Option<Answer>, Fault> {
        let mut deadline = None;
        let bound = self.bounds.response;
        let length = head::read(&mut &self.link, &mut self.buffers.backend, |_, partial| {
            let now = Instant::now();
            match deadline {
                None if partial => deadline = Some(now + bound),
                Some(deadline) if now > deadline => return Err(io::ErrorKind::TimedOut.into()),
                _ => {}
            }
            Ok(())
        })
        .map_err(|error| match error {
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

    /// True when the client's connection cannot go on after a response that ends like this.
    fn is_last(&self, framing: Framing) -> bool {
        let can_go_on = self.plan.keep_alive && !self.permit.is_last_call();
        !can_go_on || framing == Framing::UntilClose || !self.upload.is_complete()
    }

    /// Relays the final response and keeps the backend's connection if nothing about it was irregular.
    fn relay_response(mut self, answer: Answer) -> Result<Outcome, Fault> {
        let mut body = Body::new(answer.framing, u64::MAX).map_err(BackendFault::BadResponseBody)?.of_response();
        let unchunk = self.plan.version == Version::Http10 && answer.framing == Framing::Chunked;
        if unchunk {
            body = body.unchunked();
        }
        if let Some(end) = self.relay_body(&mut body)? {
            return Ok(Outcome::Broken { end, reset: unchunk || answer.framing == Framing::UntilClose });
        }
        let complete = self.upload.is_complete();
        if answer.keep_alive && complete && !self.plan.upgrade && self.buffers.backend.is_empty() {
            self.backend.give_back(self.link);
        }
        Ok(if answer.last { Outcome::Last } else { Outcome::Done })
    }

    /// Head and the body's first bytes leave in one write, the rest as it comes. Why it broke off, if it did.
    fn relay_body(&mut self, body: &mut Body) -> Result<Option<End>, Fault> {
        let mut first = true;
        loop {
            let step = match body.step(self.buffers.backend.data_mut()) {
                Ok(step) => step,
                Err(error) if first => return Err(BackendFault::BadResponseBody(error).into()),
                Err(_) => return Ok(Some(End::BadResponse)),
            };
            let mut window = &self.buffers.backend.data()[..step.produced];
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

    /// Where the load failed, asks another node in rotation. The first answer is relayed if that fails too. It waits in
    /// its socket meanwhile, but for what was read of it with its head.
    fn retry_load(&mut self, retry: &LoadRetry, first: Answer) -> Answer {
        if !self.has_failed_to_load(&first) {
            return first;
        }
        let other = retry.pool.choose(Purpose::Request, &[self.backend.id()]);
        let Some(other) = other.filter(|other| other.is_in_rotation()) else { return first };
        let Ok(link) = other.link(other.connect_timeout()) else { return first };
        self.backend.load().count_load_retried();
        let _under_way = UnderWay::at(&other);
        let first_head = std::mem::take(&mut self.buffers.head);
        let first_body = std::mem::take(&mut self.buffers.backend);
        let first_link = std::mem::replace(&mut self.link, link);
        let first_node = std::mem::replace(&mut self.backend, other);
        let body = self.upload.copy.as_deref().unwrap_or_default();
        let written = retry.write_request(&mut self.buffers.head, &self.backend, body);
        let second = written.and_then(|()| self.run());
        match second {
            Ok(second) if second.status == 200 && !self.has_failed_to_load(&second) => second,
            _ => {
                (self.link, self.backend) = (first_link, first_node);
                (self.buffers.head, self.buffers.backend) = (first_head, first_body);
                first
            }
        }
    }

    /// Reads as much of a body as says whether the load failed.
    fn has_failed_to_load(&mut self, answer: &Answer) -> bool {
        const WINDOW: usize = 512;
        if answer.status != 200 {
            return false;
        }
        loop {
            let data = self.buffers.backend.data();
            let mut start = [0; WINDOW];
            let count = data.len().min(WINDOW);
            start[..count].copy_from_slice(&data[..count]);
            let body = Body::new(answer.framing, u64::MAX).map(|body| body.of_response().unchunked());
            let Ok(step) = body.and_then(|mut body| body.step(&mut start[..count])) else { return false };
            match load::loaded(&start[..step.produced]) {
                Loaded::Failed => return true,
                Loaded::Fine => return false,
                Loaded::Undecided if count == WINDOW => return false,
                Loaded::Undecided => {}
            }
            if !matches!(self.buffers.backend.fill(&mut &self.link, HEAD_BUFFER), Ok(1..)) {
                return false;
            }
        }
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

/// Puts the beginning of a body behind its head, for one write; returns how much of it.
fn join(head: &mut Vec<u8>, body: &[u8]) -> usize {
    let joined = body.len().min(MAX_JOINED);
    head.extend_from_slice(&body[..joined]);
    joined
}

fn gone(error: io::Error) -> Fault {
    Fault::Gone(End::of_client(&error))
}

/// Reads and forgets a request body that nobody will get, so that the next request on the connection can be found.
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
