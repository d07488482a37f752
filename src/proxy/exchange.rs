//! One request and its response: head and body to the backend, head and body to the client, or the switch to a
//! tunnel. The heads' content is `forward`'s, the grammar `http`'s, the sockets are `client`'s and `backend`'s.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::client::Client;
use super::forward;
use super::tunnel::Switch;
use crate::admission::Permit;
use crate::error::{BackendFault, End, Fault, is_timeout};
use crate::http::body::{Body, Framing};
use crate::http::buffer::Buffer;
use crate::http::head::{self, ReadError, Request, Response, Slots, Version};
use crate::nodes::backend::{Backend, Link};

/// What a buffer grows to while a large body flows.
const BODY_BUFFER: usize = 256 * 1024;
/// What it is trimmed to when no more of that kind comes.
const HEAD_BUFFER: usize = head::MAX_READ_HEAD;
/// So many bytes of a body leave in one write with its head: to copy more costs more than the write that it saves.
const MAX_JOINED: usize = 16 * 1024;
/// While a request body flows, how long one side is waited for before the other is looked at.
const TURN: Duration = Duration::from_millis(100);
/// A request body must come at this many bytes a second on the whole, and never pause for HEAD_TIMEOUT.
const MIN_BODY_RATE: u64 = 1024;
/// How many interim answers (1xx) one request may get.
const MAX_INTERIM: usize = 16;

/// A worker's memory, used for one connection after the other.
#[derive(Default)]
pub struct Buffers {
    /// What came from the client.
    pub client: Buffer,
    /// What came from the backend.
    pub backend: Buffer,
    /// The head on its way out, with what of the body goes in the same write.
    pub head: Vec<u8>,
}

impl Buffers {
    /// Forgets the last connection's bytes.
    pub fn clear(&mut self) {
        self.client.clear();
        self.backend.clear();
        self.head.clear();
        self.shrink();
    }

    /// True after a large body.
    pub fn are_large(&self) -> bool {
        self.client.capacity().max(self.backend.capacity()) > HEAD_BUFFER
    }

    /// Gives back what a large body took.
    pub fn shrink(&mut self) {
        self.client.shrink(HEAD_BUFFER);
        self.backend.shrink(HEAD_BUFFER);
    }
}

/// What the exchange must know of a request once its head is written out and no longer borrowed.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    version: Version,
    framing: Framing,
    is_head: bool,
    is_idempotent: bool,
    keep_alive: bool,
    upgrade: bool,
    expects_continue: bool,
}

impl Plan {
    /// Takes from the request what the exchange needs.
    pub fn new(request: &Request<'_, '_>, upgrade: bool) -> Self {
        Self {
            version: request.version,
            framing: request.framing,
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

/// Sends the request whose head is in `buffers.head` and relays what comes back.
///
/// A request that may have been processed is sent again only if it is idempotent, was sent whole on a reused connection,
/// and that died without a byte of an answer: then once, on a fresh connection (RFC 9110 section 9.2.2).
///
/// # Errors
/// A [`Fault`] as long as nothing of a final response was sent to the client.
pub fn run(
    plan: Plan,
    bounds: Bounds,
    backend: &Arc<Backend>,
    permit: &Permit,
    client: &mut Client<'_>,
    buffers: &mut Buffers,
) -> Result<Outcome, Fault> {
    let body = Body::new(plan.framing, bounds.max_body).map_err(|error| Fault::Body(error, bounds.max_body))?;
    let link = backend.link(plan.upgrade)?;
    buffers.backend.clear();
    let mut upload = Upload { body, produced: 0, sent: 0, consumed: 0 };
    upload.take_window(&mut buffers.client, bounds.max_body)?;
    upload.sent = join(&mut buffers.head, &buffers.client.data()[..upload.produced]);
    if upload.sent == upload.produced {
        upload.discard_window(&mut buffers.client);
    }

    let may_repeat = plan.is_idempotent && upload.is_complete() && link.is_reused();
    let mut exchange = Exchange { plan, bounds, backend, permit, link, client, buffers, upload };
    let answer = match exchange.run() {
        Err(Fault::Backend(BackendFault::NoResponse(_))) if may_repeat => {
            exchange.link = backend.link(true).map_err(|_| BackendFault::NoResponse(End::BackendUnreachable))?;
            exchange.run()?
        }
        other => other?,
    };
    if answer.switching { Ok(exchange.switch()) } else { exchange.relay_response(answer) }
}

/// What relaying must know of a final response, whose own head is on its way in `Buffers::head`.
struct Answer {
    framing: Framing,
    keep_alive: bool,
    switching: bool,
    last: bool,
}

struct Exchange<'x, 's> {
    plan: Plan,
    bounds: Bounds,
    backend: &'x Arc<Backend>,
    permit: &'x Permit,
    link: Link,
    client: &'x mut Client<'s>,
    buffers: &'x mut Buffers,
    upload: Upload,
}

/// A request body on its way: a window of the client's buffer was produced, part of it was sent.
struct Upload {
    body: Body,
    produced: usize,
    sent: usize,
    consumed: usize,
}

impl Upload {
    fn take_window(&mut self, buffer: &mut Buffer, limit: u64) -> Result<(), Fault> {
        let step = self.body.step(buffer.data_mut()).map_err(|error| Fault::Body(error, limit))?;
        (self.produced, self.sent, self.consumed) = (step.produced, 0, step.consumed);
        Ok(())
    }

    fn discard_window(&mut self, buffer: &mut Buffer) {
        buffer.consume(self.consumed);
        (self.produced, self.sent, self.consumed) = (0, 0, 0);
    }

    fn is_complete(&self) -> bool {
        self.body.is_done() && self.sent == self.produced
    }
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
        let (framing, keep_alive) = (response.framing, response.keep_alive);
        let last = !switching && self.is_last(framing);
        forward::write_response_head(&mut self.buffers.head, &response, self.plan.version, last);
        self.buffers.backend.consume(length);
        Ok(Some(Answer { framing, keep_alive, switching, last }))
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
