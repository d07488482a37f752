//! The corridor itself: one connection from its first request to its end, through the stages in their order.
//!
//! Here alone an error becomes an HTTP answer, and here alone the closing log line is written.

use std::io::{self, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use log::{info, warn};
use serde::Serialize;
use socket2::Socket;

use super::admit::{Admission, Permit, Phase};
use super::backend::{self, Backend, Link};
use super::client::Client;
use super::exchange::{self, Buffers, Outcome, Plan};
use super::forwarded::Source;
use super::proxy_protocol::{self, HEADER_TIME, HeaderError};
use super::tunnel::{self, Switch};
use super::{Door, Routes, Rules, Voice, forward, route};
use crate::config::Lavalink;
use crate::error::{End, Fault, is_timeout};
use crate::http::body::Framing;
use crate::http::head::{self, HeadError, ReadError, Request, Slots};
use crate::ledger::{Caller, Entry};
use crate::logfmt::Quoted;

/// A refused request's body is read up to this many bytes, so that the connection can go on.
const MAX_DISCARD: u64 = 64 * 1024;
/// How long a client that gets no place is waited for, to read its request before it reads the refusal.
const REFUSAL_TIME: Duration = Duration::from_secs(1);
/// How long a wrong password for the web pages takes: nobody types faster, and a guesser should not.
const WRONG_PASSWORD_TIME: Duration = Duration::from_secs(1);
/// A client that says nothing for so long keeps no memory of a large body.
const LARGE_TIME: Duration = Duration::from_secs(1);
/// The stack of the thread that carries a tunnel: the copy's buffer, a few frames, and in the end a log line's.
const CARRIER_STACK: usize = 96 * 1024;

/// A connection that was let in. Its row in the books is closed first, then its place is free, then its socket closed.
pub struct Visit {
    /// Its row in the books.
    pub entry: Entry,
    /// Its place.
    pub permit: Permit,
    /// Its client's socket.
    pub stream: Arc<TcpStream>,
}

/// Serves one admitted client until its connection ends, or threads of its own carry it on as a tunnel.
pub fn serve(door: &Arc<Door>, visit: Visit, buffers: &mut Buffers) {
    let visit = Arc::new(visit);
    let mut session = Session::new(door, &visit, buffers);
    if let Some(end) = session.run() {
        session.close(end);
    }
}

/// Tells a client that there is no place for it, and why. `wait` is false when not even a moment can be spared.
pub fn refuse(door: &Door, stream: &TcpStream, entry: &Entry, fault: &Fault, wait: bool, buffers: &mut Buffers) {
    let mut client = Client::new(stream, entry.meter());
    // What comes does not matter, but for whom it is from; it only must not lie unread when the connection closes.
    if wait {
        let _ = meet(&door.rules(), entry, &mut client, buffers, REFUSAL_TIME);
    }
    if wait && client.set_read_timeout(REFUSAL_TIME).is_ok() {
        let _ = head::read(&mut client, &mut buffers.client, |_, _| Ok(()));
    }
    entry.count_refusal(fault.end());
    let answered = client.write_all(&answer(door.voice, fault, &Asked::default(), true));
    if wait && answered.is_ok() {
        client.close_gently();
    }
    log_end(door, entry, fault.end(), &fault.to_string());
    entry.ends_as(fault.end());
}

struct Session<'s> {
    door: &'s Arc<Door>,
    /// Those that the present request goes by.
    rules: Arc<Rules>,
    visit: &'s Arc<Visit>,
    permit: &'s Permit,
    entry: &'s Entry,
    client: Client<'s>,
    source: Source,
    buffers: &'s mut Buffers,
    last_version: Option<Lavalink>,
    asked: Asked,
    detail: String,
}

/// What an answer of our own must know of the request it answers.
#[derive(Default)]
struct Asked {
    path: String,
    is_head: bool,
    keep_alive: bool,
    framing: Option<Framing>,
}

impl Asked {
    /// Forgets the last request but keeps its memory.
    fn clear(&mut self) {
        let mut path = std::mem::take(&mut self.path);
        path.clear();
        *self = Self { path, ..Self::default() };
    }
}

/// Where a request goes that may pass.
enum Ready {
    Exchange(Plan, Arc<Backend>),
    /// Nowhere: the door itself says whether bots are served.
    Healthz(Arc<Admission>),
}

/// How one round of the corridor ended.
enum Round {
    Again,
    Over(End),
    Tunnel(Link, Switch),
}

/// Learns from the PROXY header, where one is due, whom a connection is from.
fn meet(
    rules: &Rules,
    entry: &Entry,
    client: &mut Client<'_>,
    buffers: &mut Buffers,
    time: Duration,
) -> Result<Source, HeaderError> {
    let peer = entry.client();
    if !rules.expects_header(peer.address) {
        return Ok(Source::plain(peer));
    }
    let announced =
        proxy_protocol::read(client, &mut buffers.client, |client| match time.saturating_sub(entry.age()) {
            Duration::ZERO => Err(io::ErrorKind::TimedOut.into()),
            left => client.set_read_timeout(left),
        })?;
    let source = Source::announced(peer, announced);
    entry.hand_over(source.client(), buffers.client.data().len());
    Ok(source)
}

impl<'s> Session<'s> {
    fn new(door: &'s Arc<Door>, visit: &'s Arc<Visit>, buffers: &'s mut Buffers) -> Self {
        let Visit { entry, permit, stream } = &**visit;
        let client = Client::new(stream, entry.meter());
        let (rules, asked, detail) = (door.rules(), Asked::default(), String::new());
        let source = Source::plain(entry.client());
        Self { door, rules, visit, permit, entry, client, source, buffers, last_version: None, asked, detail }
    }

    /// Writes down why the connection is over.
    fn close(&self, end: End) {
        log_end(self.door, self.entry, end, &self.detail);
        self.entry.ends_as(end);
    }

    /// The reason of the connection's end, unless it is a tunnel now.
    fn run(&mut self) -> Option<End> {
        match meet(&self.rules, self.entry, &mut self.client, self.buffers, HEADER_TIME) {
            Ok(source) => self.source = source,
            Err(_) if self.door.admission.is_stopping() => return Some(End::Shutdown),
            // Whatever it is, an answer in HTTP is not what it waits for.
            Err(error) => {
                self.detail = error.to_string();
                return Some(error.end());
            }
        }
        loop {
            let fault = match self.round() {
                Ok(Round::Again) => continue,
                Ok(Round::Over(end)) => return Some(end),
                Ok(Round::Tunnel(link, switch)) => match self.hand_to_tunnel(link, switch) {
                    Ok(()) => return None,
                    Err(fault) => fault,
                },
                Err(fault) => fault,
            };
            let end = self.answer(&fault);
            if end.is_some() {
                return end;
            }
        }
    }

    /// One request through the stages: head, authentication, route, backend, exchange.
    fn round(&mut self) -> Result<Round, Fault> {
        let length = self.await_head()?;
        self.entry.count_request();
        let ready = self.prepare(length);
        self.buffers.client.consume(length);
        let (plan, backend) = match ready? {
            Ready::Exchange(plan, backend) => (plan, backend),
            Ready::Healthz(bots) => return self.answer_healthz(&bots),
        };
        match exchange::run(plan, self.rules.bounds(), &backend, self.permit, &mut self.client, self.buffers)? {
            Outcome::Done => Ok(Round::Again),
            Outcome::Switching(link, switch) => Ok(Round::Tunnel(link, switch)),
            Outcome::Last { unread } => {
                if unread || !self.buffers.client.is_empty() {
                    self.client.close_gently();
                }
                Ok(Round::Over(match (self.asked.keep_alive, self.permit.is_last_call()) {
                    (false, _) => End::ClientClosed,
                    (true, false) => End::BackendClosed,
                    (true, true) => End::Shutdown,
                }))
            }
            Outcome::Broken { end, reset } => {
                if reset {
                    backend::close_with_reset(self.client.stream());
                }
                Ok(Round::Over(end))
            }
        }
    }

    /// Waits for a request and reads its head, whose length this is.
    fn await_head(&mut self) -> Result<usize, Fault> {
        self.asked.clear();
        let Self { door, rules, permit, entry, client, buffers, .. } = self;
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
            match head_timeout.saturating_sub(spent) {
                Duration::ZERO => Err(io::ErrorKind::TimedOut.into()),
                left => client.set_read_timeout(left),
            }
        });
        permit.enter(Phase::Busy);
        self.rules = door.rules();
        read.map_err(|error| match error {
            ReadError::Head(error) => Fault::Head(error),
            ReadError::Closed { .. } if door.admission.is_stopping() => Fault::Gone(End::Shutdown),
            ReadError::Closed { .. } if permit.must_go() => Fault::Gone(End::RejectedLimit),
            ReadError::Closed { partial: false } => Fault::Gone(End::ClientClosed),
            ReadError::Closed { partial: true } => Fault::Head(HeadError::Malformed("it ends before its empty line")),
            ReadError::Io { error, partial: true } if is_timeout(&error) => Fault::HeadTimeout,
            ReadError::Io { error, .. } => Fault::Gone(End::of_client(&error)),
        })
    }

    /// Authenticates and routes the request whose head is the buffer's first `length` bytes, and writes the head
    /// that its backend gets.
    fn prepare(&mut self, length: usize) -> Result<Ready, Fault> {
        let Self { door, rules, entry, source, buffers, last_version, asked, .. } = self;
        let mut slots = Slots::new();
        let request = Request::parse(&buffers.client.data()[..length], &mut slots).map_err(Fault::Head)?;
        let trail = source.trace(request.fields, &rules.trusted);
        entry.hand_over(trail.client, buffers.client.data().len());
        request.path().clone_into(&mut asked.path);
        asked.is_head = request.method == "HEAD";
        asked.keep_alive = request.keep_alive && !request.expects_continue && request.method != "CONNECT";
        asked.framing = Some(request.framing);
        door.check_method(request.method)?;
        if let Routes::Monitor { bots, .. } = &rules.routes {
            if request.path() == "/healthz" {
                if !matches!(request.method, "GET" | "HEAD") {
                    return Err(Fault::Method { allow: "GET, HEAD" });
                }
                return Ok(Ready::Healthz(Arc::clone(bots)));
            }
        }
        rules.auth.check(&request)?;
        let (backend, upgrade) = match &rules.routes {
            Routes::Lavalink { default, nodes } => {
                let version = route::version(&request, *last_version, *default);
                *last_version = Some(version);
                (nodes.get(version).ok_or(Fault::NoBackend(version))?, request.upgrade.is_some())
            }
            Routes::Monitor { pages, .. } => (pages, false),
        };
        entry.note_request(*last_version, backend.name(), caller(&request));
        forward::write_request_head(&mut buffers.head, &request, backend, &trail, upgrade)?;
        Ok(Ready::Exchange(Plan::new(&request, upgrade), Arc::clone(backend)))
    }

    /// Lets threads of the tunnel's own carry the connection on.
    fn hand_to_tunnel(&mut self, link: Link, switch: Switch) -> Result<(), Fault> {
        let backend = Arc::new(link.into_tunnel().map_err(Fault::NoResponse)?);
        tunnel::without_deadlines(self.client.stream()).map_err(|error| Fault::Gone(End::of_client(&error)))?;
        self.permit.attach(Arc::clone(&backend));
        self.permit.enter(Phase::Tunnel);
        self.entry.upgraded();
        let (door, visit) = (Arc::clone(self.door), Arc::clone(self.visit));
        let carry = move || door.contain(&visit.entry.client(), || carry(&door, &visit, &backend, &switch));
        thread::Builder::new().stack_size(CARRIER_STACK).spawn(carry).map_err(|_| Fault::NoThread)?;
        Ok(())
    }

    /// Answers in the backend's place. `None` when the connection goes on.
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
        let text = answer(self.door.voice, fault, &self.asked, close);
        self.send_own(&text, close).err().map(|closed| closed.unwrap_or(fault.end()))
    }

    /// 200 while bots are served, 503 from the moment that they are asked to go; for whoever asks, without figures.
    fn answer_healthz(&mut self, bots: &Admission) -> Result<Round, Fault> {
        let (status, word) = if bots.is_stopping() { (503, "stopping") } else { (200, "ok") };
        let close = self.must_close();
        let mut text = format!(
            "HTTP/1.1 {status} {}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\nDate: {}\r\nCache-Control: no-store\r\n{}\r\n",
            reason(status),
            word.len(),
            httpdate::fmt_http_date(SystemTime::now()),
            if close { "Connection: close\r\n" } else { "" },
        );
        if !self.asked.is_head {
            text += word;
        }
        match self.send_own(text.as_bytes(), close) {
            Ok(()) => Ok(Round::Again),
            Err(closed) => Ok(Round::Over(closed.unwrap_or(End::ClientClosed))),
        }
    }

    /// True when an answer of our own must be the connection's last.
    fn must_close(&self) -> bool {
        !self.asked.keep_alive
            || self.permit.is_last_call()
            || matches!(self.asked.framing, Some(Framing::Length(MAX_DISCARD..)))
    }

    /// Sends an answer of our own and steps over the request's body. `Err` when the connection is over, with the
    /// reason if it lies with the client.
    fn send_own(&mut self, text: &[u8], close: bool) -> Result<(), Option<End>> {
        self.client.write_all(text).map_err(|error| Some(End::of_client(&error)))?;
        let framing = self.asked.framing.unwrap_or(Framing::None);
        let time = self.rules.timeouts.head;
        if close || !exchange::discard_body(framing, MAX_DISCARD, time, &mut self.client, &mut self.buffers.client) {
            self.client.close_gently();
            return Err(None);
        }
        Ok(())
    }

    /// Makes a guesser wait, and tells the log of it now and then.
    fn slow_down(&self) {
        if let Some(count) = self.door.wrong_passwords.count() {
            let (door, client) = (self.door.name, self.entry.client());
            warn!("event=wrong-password door={door} client={client} count={count}");
        }
        self.permit.pause(WRONG_PASSWORD_TIME);
    }
}

/// Carries a tunnel to its end.
fn carry(door: &Arc<Door>, visit: &Arc<Visit>, backend: &Socket, switch: &Switch) {
    let is_ending = visit.permit.is_ending();
    let ended = tunnel::run(&visit.stream, visit.entry.meter(), backend, switch, is_ending);
    let mut buffers = Buffers::default();
    let mut session = Session::new(door, visit, &mut buffers);
    let end = match ended {
        Ok(_) if is_ending.load(SeqCst) => Some(End::Shutdown),
        Ok(end) => Some(end),
        Err(_) => session.answer(&Fault::NoThread),
    };
    session.close(end.unwrap_or(End::InternalError));
}

fn caller<'b>(request: &Request<'_, 'b>) -> Caller<'b> {
    let said = |name| head::values(request.fields, name).next().unwrap_or_default();
    Caller { user_id: said("user-id"), client_name: said("client-name"), user_agent: said("user-agent") }
}

/// Lavalink's error body, in its order of fields.
#[derive(Serialize)]
struct LavalinkError<'f> {
    timestamp: u128,
    status: u16,
    error: &'f str,
    message: String,
    path: &'f str,
}

/// A whole answer of our own, in the door's voice.
fn answer(voice: Voice, fault: &Fault, asked: &Asked, close: bool) -> Vec<u8> {
    let now = SystemTime::now();
    let status = fault.status();
    let error = reason(status);
    let (kind, body) = match voice {
        Voice::Lavalink => {
            let timestamp = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_millis();
            let body = LavalinkError { timestamp, status, error, message: fault.to_string(), path: &asked.path };
            ("application/json", serde_json::to_string(&body).unwrap_or_default())
        }
        Voice::Plain => ("text/plain; charset=utf-8", format!("{status} {error}: {fault}\n")),
    };
    let mut text = format!("HTTP/1.1 {status} {error}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n", body.len());
    text += &format!("Date: {}\r\n", httpdate::fmt_http_date(now));
    match fault {
        Fault::Method { allow } => text += &format!("Allow: {allow}\r\n"),
        Fault::PasswordMissing { challenge: true } | Fault::WebPasswordWrong => {
            text += "WWW-Authenticate: Basic realm=\"lavaproxy\", charset=\"UTF-8\"\r\n";
        }
        Fault::Full { .. } | Fault::NoThread | Fault::NoDescriptor => text += "Retry-After: 5\r\n",
        _ => {}
    }
    text += if close { "Connection: close\r\n\r\n" } else { "\r\n" };
    if !asked.is_head {
        text += &body;
    }
    text.into_bytes()
}

/// The reason phrases of the statuses that answers of our own can have (RFC 9110 section 15).
fn reason(status: u16) -> &'static str {
    match status {
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        200 => "OK",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        413 => "Content Too Large",
        414 => "URI Too Long",
        431 => "Request Header Fields Too Large",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "Error",
    }
}

/// One line per ended connection: who, where to, how much, how long and why.
fn log_end(door: &Door, entry: &Entry, end: End, detail: &str) {
    if !log::log_enabled!(log::Level::Info) {
        return;
    }
    let (version, backend) = entry.destination();
    info!(
        "event=ended id={} door={} client={} kind={} version={} backend={} requests={} in={} out={} ms={} reason={end}{}",
        entry.id(),
        door.name,
        entry.client(),
        if entry.is_websocket() { "websocket" } else { "http" },
        version.map_or("none", Lavalink::name),
        backend.as_deref().unwrap_or("none"),
        entry.requests(),
        entry.meter().bytes_in(),
        entry.meter().bytes_out(),
        entry.age().as_millis(),
        if detail.is_empty() { String::new() } else { format!(" detail={}", Quoted(detail)) },
    );
}
