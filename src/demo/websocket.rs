//! A WebSocket after its 101: opens the session, reads the client's messages, answers pings and closes.
//! It reads its own socket; all writing goes through the session's outbox.

use std::sync::Arc;

use super::frames::{Broken, Incoming, Reader, closing};
use super::handshake::Accepted;
use super::ops;
use super::server::Server;
use super::session::Outbox;
use super::wire::Wire;
use crate::config::Lavalink;
use crate::http::buffer::Buffer;

/// What the handler's exceptions become: `1011` with no reason.
const SERVER_ERROR: u16 = 1011;

/// Serves a WebSocket until it ends; `buffer` holds the bytes that came with the handshake.
pub(super) fn serve(server: &Server, wire: &Arc<Wire>, buffer: Buffer, accepted: &Accepted) {
    if accepted.bad_user {
        return close(&Outbox::new(wire), wire, &closing(SERVER_ERROR, ""));
    }
    let Some((id, outbox)) = server.sessions.open(wire, accepted.resume.as_deref()) else { return };
    let close_payload = match wire.set_read_timeout(None) {
        Ok(()) => read_messages(server, wire, buffer, &id, &outbox),
        Err(_) => None,
    };
    server.sessions.close(&id);
    if let Some(payload) = close_payload {
        close(&outbox, wire, &payload);
    }
}

fn close(outbox: &Outbox, wire: &Wire, payload: &[u8]) {
    outbox.close(payload);
    outbox.drain();
    wire.finish();
}

/// Reads messages until the WebSocket ends. Returns the payload of the close frame to send, if one is due.
fn read_messages(server: &Server, wire: &Wire, buffer: Buffer, id: &str, outbox: &Outbox) -> Option<Vec<u8>> {
    let mut reader = Reader::new(buffer, true);
    let mut stream = wire;
    loop {
        match reader.next(&mut stream) {
            Ok(Incoming::Ping(payload)) => {
                outbox.pong(&payload);
                outbox.flush();
            }
            Ok(Incoming::Pong) => {}
            Ok(Incoming::Close(payload)) => return Some(payload),
            Ok(Incoming::Binary) => return Some(closing(1003, "Binary messages not supported")),
            Ok(Incoming::Text(_)) if server.version == Lavalink::V4 => {}
            Ok(Incoming::Text(text)) => {
                match server.sessions.with(id, |session, now| ops::apply(session, &text, now)) {
                    Some(Ok(())) => {}
                    Some(Err(ops::BadOp)) => return Some(closing(SERVER_ERROR, "")),
                    // The node stops.
                    None => return None,
                }
            }
            Err(Broken::Fault(code, reason)) => return Some(closing(code, &reason)),
            Err(Broken::Stream(_)) => return None,
        }
    }
}
