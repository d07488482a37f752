//! One client's connection: request after request, until it becomes a WebSocket or ends. It touches its socket,
//! and the node's sessions through the handlers.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::answer::{BARE_400, RequestSummary};
use super::handshake;
use super::rest::{self, Route};
use super::server::Server;
use super::websocket;
use super::wire::Wire;
use crate::config::Lavalink;
use crate::http::body::{Body, Framing};
use crate::http::buffer::Buffer;
use crate::http::head::{MAX_HEAD, Request, Scan, Slots, Version, values};

/// How long a connection may be idle between two requests.
const KEEPALIVE: Duration = Duration::from_secs(60);
/// The largest request body that is kept, in bytes; real servers were seen to take 40 MiB.
const MAX_BODY: u64 = 64 << 20;
/// How much of a body is read at once.
const WINDOW: usize = 64 * 1024;

/// What becomes of a connection after an answer.
enum Next {
    Request,
    End,
    WebSocket(handshake::Accepted),
}

/// Serves a connection until it ends.
pub(super) fn serve(server: &Arc<Server>, wire: &Arc<Wire>) {
    let mut buffer = Buffer::default();
    loop {
        match serve_request(server, wire, &mut buffer) {
            Ok(Next::Request) => {}
            Ok(Next::End) => return wire.finish(),
            Ok(Next::WebSocket(accepted)) => return websocket::serve(server, wire, buffer, &accepted),
            // The client is gone or reads nothing any more, so nothing can be answered.
            Err(_) => return,
        }
    }
}

/// Reads one request and answers it.
fn serve_request(server: &Server, wire: &Wire, buffer: &mut Buffer) -> io::Result<Next> {
    let head = match read_head(wire, buffer)? {
        Head::Complete(head) => head,
        Head::None => return Ok(Next::End),
        Head::Bad => return refuse(wire),
    };
    server.behaviour.count(|counts| counts.requests += 1);
    let mut slots = Slots::new();
    let Ok(request) = Request::parse(&head, &mut slots) else { return refuse(wire) };
    let summary = summary(server.version, &request);
    let Ok(body) = Body::new(request.framing, u64::MAX) else { return refuse(wire) };

    match rest::screen(server, &summary, &request) {
        Err(mut answer) => {
            // A client that waits for `100 Continue` may or may not send its body now, so the connection ends.
            answer.closes |= request.expects_continue;
            let ends = answer.ends(&summary);
            server.pause(server.behaviour.answer_delay());
            answer.send(wire, &summary)?;
            if !ends && !read_body(wire, buffer, body, 0, None)? {
                return Ok(Next::End);
            }
            Ok(if ends { Next::End } else { Next::Request })
        }
        Ok(Route::WebSocket) => match handshake::decide(server, &summary, &request) {
            Ok(accepted) => {
                accepted.answer().send(wire, &summary)?;
                Ok(if summary.http10 { Next::End } else { Next::WebSocket(accepted) })
            }
            Err(answer) => {
                let ends = answer.ends(&summary);
                answer.send(wire, &summary)?;
                let drained = ends || read_body(wire, buffer, body, 0, None)?;
                Ok(if ends || !drained { Next::End } else { Next::Request })
            }
        },
        Ok(route) => {
            if request.expects_continue && !body.is_done() {
                wire.send(interim(server.version))?;
            }
            let mut content = Vec::new();
            if !read_body(wire, buffer, body, MAX_BODY, Some(&mut content))? {
                return refuse(wire);
            }
            let answer = rest::answer(server, &summary, &request, &route, &content);
            let ends = answer.ends(&summary);
            server.pause(server.behaviour.answer_delay());
            answer.send(wire, &summary)?;
            Ok(if ends { Next::End } else { Next::Request })
        }
    }
}

fn refuse(wire: &Wire) -> io::Result<Next> {
    wire.send(BARE_400)?;
    Ok(Next::End)
}

/// v3 puts a length into its interim answer, which no other server does.
fn interim(version: Lavalink) -> &'static [u8] {
    match version {
        Lavalink::V3 => b"HTTP/1.1 100 Continue\r\nContent-Length: 0\r\n\r\n",
        Lavalink::V4 => b"HTTP/1.1 100 Continue\r\n\r\n",
    }
}

fn summary<'r>(version: Lavalink, request: &Request<'_, 'r>) -> RequestSummary<'r> {
    let http10 = request.version == Version::Http10;
    let keep_alive_1_0 = http10
        && values(request.fields, "connection")
            .flat_map(|value| value.split(|byte| *byte == b','))
            .any(|token| token.trim_ascii().eq_ignore_ascii_case(b"keep-alive"));
    RequestSummary {
        version,
        method: request.method,
        path: request.path(),
        http10,
        // A body that only the connection's end could end is never a request's.
        keep_alive: (request.keep_alive || keep_alive_1_0) && request.framing != Framing::UntilClose,
        trace: rest::parameter(request.target.query, "trace").as_deref() == Some("true"),
    }
}

enum Head {
    Complete(Vec<u8>),
    /// The client ended or was idle for too long.
    None,
    /// Too large, or with a byte that no head has.
    Bad,
}

/// Waits for a whole head. Only the wait for its first byte has a limit, as on the real servers.
fn read_head(wire: &Wire, buffer: &mut Buffer) -> io::Result<Head> {
    let mut scan = Scan::default();
    let mut reader = wire;
    loop {
        match scan.advance(buffer.data()) {
            Ok(Some(length)) if length > MAX_HEAD => return Ok(Head::Bad),
            Ok(Some(length)) => {
                let head = buffer.data()[..length].to_vec();
                buffer.consume(length);
                return Ok(Head::Complete(head));
            }
            Ok(None) if buffer.holds(MAX_HEAD) => return Ok(Head::Bad),
            Ok(None) => {}
            Err(_) => return Ok(Head::Bad),
        }
        wire.set_read_timeout(buffer.is_empty().then_some(KEEPALIVE))?;
        match buffer.fill(&mut reader, MAX_HEAD) {
            Ok(0) => return Ok(Head::None),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Head::None),
            Err(error) => return Err(error),
        }
    }
}

/// Reads a body to its end, into `keep` up to `limit` bytes; false when it never comes to a proper end or is larger.
fn read_body(
    wire: &Wire,
    buffer: &mut Buffer,
    body: Body,
    limit: u64,
    mut keep: Option<&mut Vec<u8>>,
) -> io::Result<bool> {
    let mut body = body.unchunked();
    let mut reader = wire;
    wire.set_read_timeout(None)?;
    loop {
        let Ok(step) = body.step(buffer.data_mut()) else { return Ok(false) };
        if let Some(keep) = &mut keep {
            keep.extend_from_slice(&buffer.data()[..step.produced]);
            if keep.len() as u64 > limit {
                return Ok(false);
            }
        }
        buffer.consume(step.consumed);
        if body.is_done() {
            buffer.shrink(MAX_HEAD);
            return Ok(true);
        }
        if buffer.fill(&mut reader, WINDOW)? == 0 {
            return Ok(false);
        }
    }
}
