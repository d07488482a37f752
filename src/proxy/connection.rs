//! The spine: one connection from its first request to its end, through the stages in their order.
//!
//! Only here does an error of a request become an HTTP answer.

use std::io::Write;
use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant};

use log::warn;

use super::admitted::Admitted;
use super::buffers::Buffers;
use super::client::{Client, LINGER, SHORT_LINGER};
use super::exchange::{self, Outcome, Ready};
use super::forward::Cuts;
use super::forwarded::Source;
use super::limits::{self, Holds};
use super::proxy_protocol::HEADER_TIME;
use super::reply::{self, RequestSummary};
use super::service::{Routes, Rules, Service};
use super::source::read_proxy_header;
use super::takeover::Followed;
use super::tunnel::{self, Switch};
use super::upgraded::Upgraded;
use super::{choose, closing_line, forward, refuse, route, takeover};
use crate::admission::{Admission, Holder, Permit, Phase};
use crate::config::Lavalink;
use crate::error::{BackendFault, End, Fault, is_timeout};
use crate::http::body::Framing;
use crate::http::head::{self, HeadError, ReadError, Request, Slots};
use crate::ledger::{ClientInfo, Entry};
use crate::nodes::backend::{Backend, Link};
use crate::nodes::load::{Session, UnderWay};
use crate::sessions::opening::Opening;

/// A refused request's body is read up to this many bytes, so that the connection can go on.
const MAX_DISCARD: u64 = 64 * 1024;
/// The delay of the answer to a wrong password for the web pages. It slows guessing down.
const WRONG_PASSWORD_TIME: Duration = Duration::from_secs(1);
/// A client that is silent for so long keeps no memory of a large body.
const LARGE_TIME: Duration = Duration::from_secs(1);
/// A connection whose answers together have at most this many bytes may be closed without a wait for its client.
const MAX_UNWATCHED: u64 = 64 * 1024;

/// Serves one admitted client until its connection ends, or until carriers carry it on as a tunnel.
pub fn serve(service: &Arc<Service>, admitted: Admitted, holds: Holds, buffers: &mut Buffers) {
    let admitted = Arc::new(admitted);
    let mut connection = Connection::new(service, &admitted, buffers);
    connection.holds = holds;
    if let Some(end) = connection.run() {
        connection.close(end);
    }
}

struct Connection<'s> {
    service: &'s Arc<Service>,
    /// Those that hold for the present request.
    rules: Arc<Rules>,
    admitted: &'s Arc<Admitted>,
    permit: &'s Permit,
    entry: &'s Entry,
    client: Client<'s>,
    source: Source,
    buffers: &'s mut Buffers,
    /// What the connection counts for,
    holds: Holds,
    /// and the present request, where it came through a front.
    request_holds: Holds,
    last_version: Option<Lavalink>,
    summary: RequestSummary,
    /// The handshake, once one was sent to a node and sessions are taken over.
    opening: Option<Opening>,
    /// True once a node's answer was relayed.
    has_relayed: bool,
    /// True when the limits refused the connection, which has a log line of its own.
    is_refused: bool,
    detail: String,
}

/// Where a request goes that passed all checks.
enum Prepared {
    Exchange(Ready),
    /// To no backend: the service answers by itself whether the proxy listeners serve.
    Healthz(Arc<Admission>),
}

/// What follows a request.
enum Next {
    Request,
    End(End),
    Tunnel(Arc<Backend>, Link, Switch),
}

impl<'s> Connection<'s> {
    fn new(service: &'s Arc<Service>, admitted: &'s Arc<Admitted>, buffers: &'s mut Buffers) -> Self {
        let Admitted { entry, permit, stream, .. } = &**admitted;
        Self {
            service,
            rules: service.rules(),
            admitted,
            permit,
            entry,
            client: Client::new(stream, entry.meter()),
            source: Source::plain(entry.client()),
            buffers,
            holds: Holds::default(),
            request_holds: Holds::default(),
            last_version: None,
            summary: RequestSummary::default(),
            opening: None,
            has_relayed: false,
            is_refused: false,
            detail: String::new(),
        }
    }

    /// Writes the closing log line and closes the ledger row.
    fn close(&self, end: End) {
        let detail = (!self.is_refused).then_some(self.detail.as_str());
        closing_line::close(self.service, self.admitted, end, detail);
    }

    /// The reason of the connection's end, unless it is a tunnel now.
    fn run(&mut self) -> Option<End> {
        match read_proxy_header(&self.rules, self.entry, &mut self.client, self.buffers, HEADER_TIME) {
            Ok(source) => self.source = source,
            Err(_) if self.service.admission().is_stopping() => return Some(End::Shutdown),
            // A peer that sends no PROXY header where one is due may not speak HTTP either: it gets no answer.
            Err(error) => {
                self.detail = error.to_string();
                return Some(error.end());
            }
        }
        if let Err(fault) = self.count_announced() {
            self.is_refused = true;
            refuse::announced(self.service, &mut self.client, self.entry, &fault, self.buffers);
            return Some(fault.end());
        }
        loop {
            let fault = match self.serve_request() {
                Ok(Next::Request) => continue,
                Ok(Next::End(end)) => return Some(self.finish(end)),
                Ok(Next::Tunnel(node, link, switch)) => match self.hand_to_tunnel(node, link, switch) {
                    Ok(()) => return None,
                    Err(fault) => fault,
                },
                Err(fault) => fault,
            };
            if let Some(end) = self.answer(&fault) {
                return Some(self.finish(end));
            }
        }
    }

    /// Counts the connection for the client that its PROXY header names.
    fn count_announced(&mut self) -> Result<(), Fault> {
        let address = self.source.client().address;
        self.permit.belongs_to(Holder { address, account: 0 });
        if let Some(limits) = self.service.limits().filter(|_| self.source.is_announced()) {
            limits.check(address)?;
            self.holds = Holds::connect(limits, address)?;
        }
        Ok(())
    }

    /// Ends our side of the connection so that all that was sent arrives.
    fn finish(&mut self, end: End) -> End {
        if self.has_relayed && self.is_through() {
            return end;
        }
        let is_running = self.permit.enter(Phase::Lingering);
        self.client.linger(if self.has_relayed && is_running { LINGER } else { SHORT_LINGER });
        end
    }

    /// True when the client has said that its request is its last, nothing may follow that request, and its answer is
    /// small. Then the close of the socket does no harm: nothing comes that would make it a reset. Old clients send an
    /// empty line behind a body, and a large answer is on its way for long (RFC 9112 sections 2.2 and 9.6).
    fn is_through(&self) -> bool {
        !self.summary.keep_alive
            && self.summary.framing == Some(Framing::None)
            && self.buffers.client.is_empty()
            && self.entry.meter().bytes_out() <= MAX_UNWATCHED
    }

    /// One request through the stages: head, authentication, route, backend, exchange.
    fn serve_request(&mut self) -> Result<Next, Fault> {
        let length = self.await_head()?;
        self.entry.count_request();
        let prepared = self.prepare(length);
        self.buffers.client.consume(length);
        let ready = match prepared? {
            Prepared::Exchange(ready) => ready,
            Prepared::Healthz(proxy) => return self.answer_healthz(&proxy),
        };
        self.opening = takeover::opening(&self.rules, &ready.plan, &self.buffers.head);
        let node = Arc::clone(&ready.backend);
        let under_way = UnderWay::at(node.load());
        let outcome = exchange::run(ready, self.rules.bounds(), self.permit, &mut self.client, self.buffers)?;
        drop(under_way);
        if !matches!(outcome, Outcome::Switching(..)) {
            self.request_holds = Holds::default();
        }
        self.has_relayed = true;
        match outcome {
            Outcome::Done => Ok(Next::Request),
            Outcome::Switching(link, switch) => Ok(Next::Tunnel(node, link, switch)),
            Outcome::Last => Ok(Next::End(match (self.summary.keep_alive, self.permit.is_last_call()) {
                (false, _) => End::ClientClosed,
                (true, false) => End::BackendClosed,
                (true, true) => End::Shutdown,
            })),
            Outcome::Broken { end, reset } => {
                if reset {
                    self.client.reset();
                }
                Ok(Next::End(end))
            }
        }
    }

    /// Waits for a request and reads its head, whose length this is.
    fn await_head(&mut self) -> Result<usize, Fault> {
        self.summary.clear();
        self.request_holds = Holds::default();
        let Self { service, rules, permit, entry, client, buffers, summary, .. } = self;
        let first = entry.requests() == 0;
        if !permit.enter(if first { Phase::New } else { Phase::Idle }) && !first {
            return Err(Fault::Gone(End::Shutdown));
        }
        if !first && permit.is_wanted() {
            return Err(Fault::Gone(End::RejectedLimit));
        }
        if buffers.are_large() && buffers.client.is_empty() && client.is_silent_for(LARGE_TIME) {
            buffers.shrink();
        }
        let (head_timeout, keepalive_timeout) = (rules.timeouts.head, rules.timeouts.keepalive);
        let mut begun = None;
        let read = head::read(client, &mut buffers.client, |client, partial| {
            if !partial {
                return client.set_read_timeout(if first { head_timeout } else { keepalive_timeout });
            }
            let spent = if first { entry.age() } else { begun.get_or_insert_with(Instant::now).elapsed() };
            client.set_time_left(head_timeout.saturating_sub(spent))
        });
        if !permit.begin_request() {
            return Err(Fault::Gone(End::Shutdown));
        }
        service.renew(rules);
        read.map_err(|error| {
            summary.guess(buffers.client.data());
            match error {
                ReadError::Head(error) => Fault::Head(error),
                ReadError::Closed { .. } if service.admission().is_stopping() => Fault::Gone(End::Shutdown),
                ReadError::Closed { .. } if permit.is_evicted() => Fault::Gone(End::RejectedLimit),
                ReadError::Closed { partial: false } => Fault::Gone(End::ClientClosed),
                ReadError::Closed { partial: true } => {
                    Fault::Head(HeadError::Malformed("it ends before its empty line"))
                }
                ReadError::Io { error, partial: true } if is_timeout(&error) => Fault::HeadTimeout,
                ReadError::Io { error, .. } => Fault::Gone(End::of_client(&error)),
            }
        })
    }

    /// Authenticates and routes the request whose head is the buffer's first `length` bytes, and writes the head
    /// that its backend gets.
    fn prepare(&mut self, length: usize) -> Result<Prepared, Fault> {
        let Self {
            service, rules, permit, entry, source, buffers, holds, request_holds, last_version, summary, ..
        } = self;
        let mut slots = Slots::new();
        let head = &buffers.client.data()[..length];
        let request = Request::parse(head, &mut slots).map_err(|error| {
            summary.guess(head);
            Fault::Head(error)
        })?;
        let trail = source.trace(request.fields, &rules.trusted);
        entry.attribute_to(trail.client, buffers.client.data().len());
        summary.note(&request);
        service.check_method(request.method)?;
        if let Some(proxy) = asks_for_healthz(rules, &request)? {
            return Ok(Prepared::Healthz(proxy));
        }
        limits::check_client(service.limits(), &trail, request.upgrade.is_some(), request_holds).inspect_err(
            |fault| {
                // A client without a front must not go on over connections that it has kept.
                summary.keep_alive &= trail.is_fronted || fault.end() != End::RejectedBanned;
            },
        )?;
        let account = rules.auth.check(&request).inspect_err(|fault| {
            if let (Fault::PasswordWrong { .. }, Some(limits)) = (fault, service.limits()) {
                limits.note_wrong_password(trail.client.address);
            }
        })?;
        forward::check_loop(&request)?;
        let info = client_info(&request);
        let (ready, cuts) = match &rules.routes {
            Routes::Lavalink(routes) => {
                // The last request on a front's connection may have been another client's.
                let version = route::version(&request, routes, last_version.filter(|_| !trail.is_fronted))?;
                if let Some(account) = &account {
                    let holds = if trail.is_fronted { request_holds } else { holds };
                    limits::count_for(account, version, &trail, holds, permit, entry)?;
                }
                let chosen = choose::for_node(routes, version, &request, &trail, rules.max_body, |node| {
                    entry.note_request(Some(version), node.name(), node.address(), info);
                })?;
                *last_version = Some(version);
                chosen
            }
            Routes::Monitor { pages, .. } => {
                entry.note_request(None, pages.name(), pages.address(), info);
                (choose::for_monitor(pages, &request, rules.max_body)?, Cuts::default())
            }
        };
        let Ready { plan, backend, followup, .. } = &ready;
        if followup.retry.is_some() {
            buffers.load_head.clear();
            buffers.load_head.extend_from_slice(head);
        }
        let written = forward::write_request_head(&mut buffers.head, &request, backend, &trail, &cuts, plan.upgrade);
        if let Err(fault) = written {
            ready.backend.give_back(ready.link);
            return Err(fault);
        }
        Ok(Prepared::Exchange(ready))
    }

    /// Lets two carriers carry the connection on as a tunnel.
    fn hand_to_tunnel(&mut self, node: Arc<Backend>, link: Link, switch: Switch) -> Result<(), Fault> {
        let backend = Arc::new(link.into_tunnel().map_err(BackendFault::NoResponse)?);
        let followed = Followed::at(&self.rules, &node, &backend, self.opening.take());
        let followed = followed.ok_or(BackendFault::NoResponse(End::InternalError))?;
        tunnel::without_deadlines(self.client.stream()).map_err(|error| Fault::Gone(End::of_client(&error)))?;
        self.claim()?;
        self.permit.attach(Arc::clone(&backend), node.id());
        self.permit.enter(Phase::Tunnel);
        self.entry.upgraded();
        *self.admitted.holds.lock() = [mem::take(&mut self.holds), mem::take(&mut self.request_holds)];
        let session = Session::at(node.load());
        let tunnel = Upgraded::new(self.service, self.admitted, &backend, session);
        tunnel.carry(backend, switch, followed).map_err(|_| Fault::NoThread)
    }

    /// A front's connection belongs to the client whose tunnel it becomes.
    fn claim(&self) -> Result<(), Fault> {
        let Some(account) = self.request_holds.account() else { return Ok(()) };
        let address = self.entry.client().address;
        self.permit.belongs_to(Holder { address, account });
        // A ban ends what belongs to its clients at that moment. It may have come while the node was asked.
        let is_banned = self.service.limits().is_some_and(|limits| limits.check(address).is_err());
        if is_banned { Err(Fault::Gone(End::Kicked)) } else { Ok(()) }
    }

    /// Answers in the backend's stead. `None` when the connection goes on.
    fn answer(&mut self, fault: &Fault) -> Option<End> {
        if let Fault::Gone(end) = fault {
            return Some(*end);
        }
        if matches!(fault, Fault::WebPasswordWrong) {
            self.slow_down();
        }
        self.entry.count_refusal(fault.end());
        self.detail = fault.to_string();
        let close = fault.is_fatal() || self.must_close();
        self.service.note_refusal(fault.end(), self.entry.client(), close);
        let text = reply::error(self.service.error_format(), fault, &self.summary, close);
        self.send_own(&text, close).err().map(|closed| closed.unwrap_or(fault.end()))
    }

    fn answer_healthz(&mut self, proxy: &Admission) -> Result<Next, Fault> {
        let close = self.must_close();
        let text = reply::healthz(proxy.is_serving(), &self.summary, close);
        match self.send_own(&text, close) {
            Ok(()) => Ok(Next::Request),
            Err(closed) => Ok(Next::End(closed.unwrap_or(End::ClientClosed))),
        }
    }

    /// True when an answer of our own must be the connection's last.
    fn must_close(&self) -> bool {
        !self.summary.keep_alive
            || self.permit.is_last_call()
            || matches!(self.summary.framing, Some(Framing::Length(MAX_DISCARD..)))
    }

    /// Sends an answer of our own and steps over the request's body. `Err` when the connection is over, with the
    /// reason if it lies with the client.
    fn send_own(&mut self, text: &[u8], close: bool) -> Result<(), Option<End>> {
        self.client.write_all(text).map_err(|error| Some(End::of_client(&error)))?;
        let framing = self.summary.framing.unwrap_or(Framing::None);
        let time = self.rules.timeouts.head;
        match close || !exchange::discard_body(framing, MAX_DISCARD, time, &mut self.client, &mut self.buffers.client) {
            true => Err(None),
            false => Ok(()),
        }
    }

    /// Delays the answer to a wrong password and logs it now and then.
    fn slow_down(&self) {
        if let Some(count) = self.service.wrong_passwords.count() {
            let (listener, client) = (self.service.name(), self.entry.client());
            warn!("event=wrong-password listener={listener} client={client} count={count}");
        }
        self.permit.pause(WRONG_PASSWORD_TIME);
    }
}

/// The slots that `/healthz` tells of, where the request is for that path.
fn asks_for_healthz(rules: &Rules, request: &Request<'_, '_>) -> Result<Option<Arc<Admission>>, Fault> {
    match &rules.routes {
        Routes::Monitor { proxy, .. } if request.path() == "/healthz" => match request.method {
            "GET" | "HEAD" => Ok(Some(Arc::clone(proxy))),
            _ => Err(Fault::Method { allow: "GET, HEAD" }),
        },
        _ => Ok(None),
    }
}

fn client_info<'b>(request: &Request<'_, 'b>) -> ClientInfo<'b> {
    let sent = |name| head::values(request.fields, name).next().unwrap_or_default();
    ClientInfo { user_id: sent("user-id"), client_name: sent("client-name"), user_agent: sent("user-agent") }
}
