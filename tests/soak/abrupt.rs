//! Clients that break off, reset, stall and overdo it. What they get must be right as far as it comes; what
//! lavaproxy counts of them must be within what they can know.

use std::io::ErrorKind;

use crate::connection::{Answer, Connection, Request, check_origin};
use crate::ledger::Group;
use crate::load::Load;
use crate::random::{Pattern, Random};
use crate::rest::{any, body_fields, send_body};
use crate::wire::{Tried, Trouble, value};
use crate::{MAX_BODY, RESPONSE_TIMEOUT};

/// Ends a connection in the middle of something, with a reset or with a close that often comes to one.
fn break_off(connection: Connection<'_>, random: &mut Random) -> Tried<()> {
    if random.one_in(2) {
        connection.wire.will_reset();
    }
    Ok(())
}

/// Nothing, or a part of a head.
pub fn within_a_head(load: &Load, random: &mut Random) -> Tried<()> {
    let mut connection = Connection::open(load, Group::Abrupt)?;
    let head = any(random, 1024, "", "").head();
    let part = random.between(0, head.len() as u64 - 1);
    connection.send_raw(&head.as_bytes()[..usize::try_from(part).unwrap()], false)?;
    load.pause(random.millis(0, 300));
    break_off(connection, random)
}

/// A part of a head, and then nothing until lavaproxy has had enough.
pub fn slow_head(load: &Load, random: &mut Random) -> Tried<()> {
    let _steady = load.steady();
    let mut connection = Connection::open(load, Group::Abrupt)?;
    let (begun, rest) = (b"GET /v4/info HTTP/1.1\r\nHost: ", [b"s", b"l", b"o", b"w"]);
    connection.send_raw(begun, false)?;
    for byte in rest {
        if load.pause(random.millis(100, 2000)) || load.is_upgrading() {
            return break_off(connection, random);
        }
        connection.send_raw(byte, false)?;
    }
    match connection.refusal()? {
        Answer { status: 408, closes: true } => connection.close_at_end(),
        answer => Err(Trouble::wrong(format!("{answer:?} to a head that never came"))),
    }
}

/// A part of a body.
pub fn within_an_upload(load: &Load, random: &mut Random) -> Tried<()> {
    let mut connection = Connection::open(load, Group::Abrupt)?;
    let (length, chunked) = (random.size(MAX_BODY).max(16), random.one_in(2));
    let (nonce, version, fields) = (random.next(), random.pick(&["v3", "v4"]), body_fields(length, chunked));
    let ask = Request { method: "POST", version, what: "upload", nonce, length, query: "", fields: &fields };
    connection.send_head(&ask, b"")?;
    let part = random.between(0, length - 1);
    if chunked {
        // A chunk that says more than there will be.
        connection.wire.send(format!("{length:x}\r\n").as_bytes())?;
    }
    send_body(&mut connection, &mut Pattern::up(nonce), part, false, random)?;
    load.pause(random.millis(0, 300));
    break_off(connection, random)
}

/// More than MAX_BODY, announced by the length or found while the chunks come.
pub fn too_large(load: &Load, random: &mut Random) -> Tried<()> {
    let mut connection = Connection::open(load, Group::Abrupt)?;
    let (length, chunked, nonce) = (MAX_BODY + random.size(MAX_BODY / 4), random.one_in(2), random.next());
    let fields = body_fields(length, chunked);
    let ask = Request { method: "POST", version: "v4", what: "upload", nonce, length, query: "", fields: &fields };
    let before = load.weather("v4");
    connection.send_head(&ask, b"")?;
    let sent = send_body(&mut connection, &mut Pattern::up(nonce), length, chunked, random);
    let answer = connection.answer(&ask);
    connection.rest_may_be_unread();
    match (sent, answer) {
        (_, Ok(Answer { status: 413, closes: true })) => Ok(()),
        (_, Ok(Answer { status: 502, .. })) if !load.was_fair_since("v4", before) => Ok(()),
        // The answer may be lost to a reset over what was still being sent.
        (Err(Trouble::Broken(_)), Err(Trouble::Broken(_))) => Ok(()),
        (_, Ok(answer)) => Err(Trouble::wrong(format!("{answer:?} to an upload of {length} bytes"))),
        (_, Err(error)) => Err(error),
    }
}

/// A part of an answer.
pub fn within_an_answer(load: &Load, random: &mut Random) -> Tried<()> {
    let mut connection = Connection::open(load, Group::Abrupt)?;
    let ask = Request { method: "GET", length: random.size(4 * 1024 * 1024), ..any(random, 1, "", "") };
    connection.send_head(&ask, b"")?;
    if random.one_in(3) {
        load.pause(random.millis(0, 300));
        return break_off(connection, random);
    }
    let head = connection.answer_head()?;
    // An error of lavaproxy's own may happen to have the length that was asked for.
    let is_from_node = value(&head, "x-node").is_some();
    if is_from_node {
        check_origin(&head, &ask)?;
    }
    if is_from_node && value(&head, "content-length").is_some_and(|length| length == ask.length.to_string()) {
        connection.wire.expect(&mut Pattern::down(ask.nonce), random.between(0, ask.length))?;
    }
    break_off(connection, random)
}

/// A node whose answer breaks off: what comes must be its beginning, and must not pass for the whole.
pub fn broken_answer(load: &Load, random: &mut Random) -> Tried<()> {
    let mut connection = Connection::open(load, Group::Abrupt)?;
    let length = random.size(256 * 1024) + 1;
    let (framing, how) = (random.pick(&["chunked", "length"]), random.pick(&["reset", "close"]));
    let query = format!("&framing={framing}&stop={}&how={how}", random.between(0, length - 1));
    let version = random.pick(&["v3", "v4"]);
    let ask = Request { method: "GET", version, what: "load", nonce: random.next(), length, query: &query, fields: "" };
    match connection.exchange(&ask) {
        Err(Trouble::Broken(error)) => {
            if error.kind() == ErrorKind::UnexpectedEof {
                connection.saw_the_end();
            }
            load.trouble("an answer broke off at its node");
            Ok(())
        }
        Ok(Answer { status: 502, .. }) => {
            load.trouble("502 for an answer that broke off at its node");
            Ok(())
        }
        Ok(answer) => Err(Trouble::wrong(format!("{answer:?} where the node broke off: {query}"))),
        Err(error) => Err(error),
    }
}

/// A reader that stops, and is gone; or stays until lavaproxy is likely to have cut it off, and then reads what there
/// still is. When that is depends on the kernel: each time its buffers take a little more, RESPONSE_TIMEOUT begins anew.
pub fn stalled_reader(load: &Load, random: &mut Random) -> Tried<()> {
    let mut connection = Connection::open_with(load, Group::Abrupt, Some(64 * 1024))?;
    let (nonce, length) = (random.next(), 16 * 1024 * 1024);
    let ask = Request { method: "GET", version: "v3", what: "load", nonce, length, query: "", fields: "" };
    connection.send_head(&ask, b"")?;
    let stays = random.one_in(3);
    let wait = if stays { 4 * RESPONSE_TIMEOUT } else { random.millis(500, 4000) };
    if load.pause(wait) || !stays {
        load.trouble("a reader that stopped was gone");
        return break_off(connection, random);
    }
    match connection.answer(&ask) {
        Err(Trouble::Broken(error)) => {
            if error.kind() == ErrorKind::UnexpectedEof {
                connection.saw_the_end();
            }
            load.trouble("a reader that stopped was cut off");
            Ok(())
        }
        Ok(_) => {
            load.trouble("a reader that stopped was served after all");
            Ok(())
        }
        Err(error) => Err(error),
    }
}

/// Bytes that are no HTTP. Whether they were all read before the answer closed the connection is not known here.
pub fn garbage(load: &Load, random: &mut Random) -> Tried<()> {
    let mut connection = Connection::open(load, Group::Abrupt)?;
    let bytes = Pattern::up(random.next()).make(random.size(32 * 1024));
    let sent = connection.send_raw(&bytes, true).and_then(|()| connection.wire.half_close());
    let read = sent.and_then(|()| connection.wire.read_out());
    if read.is_ok() {
        connection.saw_the_end();
    }
    Ok(())
}
