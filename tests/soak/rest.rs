//! Clients of the REST API that keep to the rules: every connection of theirs is known to the byte.

use std::io::ErrorKind;
use std::time::Duration;

use crate::connection::{Answer, Connection, Request};
use crate::ledger::Group;
use crate::load::Load;
use crate::random::{Pattern, Random};
use crate::wire::{Tried, Trouble};
use crate::{MAX_BODY, V4_NODES};

/// How an exchange leaves its connection.
enum Next {
    Again,
    /// The answer was the last one.
    Closes,
    /// The node restarted under the answer, which broke off.
    BrokeOff,
}

/// A GET, mostly, of a body that comes as chunks or with its length; now and then one of those without a body.
pub fn any<'a>(random: &mut Random, most: u64, pause: &'a str, fields: &'a str) -> Request<'a> {
    let (method, length) = match random.between(0, 19) {
        0 => ("HEAD", random.size(most)),
        1 => ("DELETE", 0),
        2 => ("GET", 0),
        _ => ("GET", random.size(most)),
    };
    let query = if random.one_in(3) { "" } else { "&framing=chunked" };
    let query = if pause.is_empty() { query } else { pause };
    Request { method, version: random.pick(&["v3", "v4"]), what: "load", nonce: random.next(), length, query, fields }
}

/// An exchange that only a restart of one of the version's nodes excuses from being answered by it.
fn exchange(connection: &mut Connection<'_>, ask: &Request<'_>, body: &[u8]) -> Tried<Next> {
    exchange_after(connection, ask, body, Duration::ZERO)
}

/// The same, but nothing is read of the answer for a while.
fn exchange_after(connection: &mut Connection<'_>, ask: &Request<'_>, body: &[u8], wait: Duration) -> Tried<Next> {
    let before = connection.load.weather(ask.version);
    let each_before = connection.load.each_weather(ask.version);
    connection.send_head(ask, body)?;
    connection.load.pause(wait);
    let answered = connection.answer(ask);
    let fair = connection.load.was_fair_since(ask.version, before);
    match answered {
        Ok(Answer { status: 502, closes }) if !fair => {
            connection.check_complaint(ask, &each_before)?;
            let what = if connection.was_unreachable() { "no node" } else { "502" };
            connection.load.trouble(&format!("{what} while a {} node restarted", ask.version));
            Ok(if closes { Next::Closes } else { Next::Again })
        }
        Ok(Answer { status: 200 | 204, closes }) => Ok(if closes { Next::Closes } else { Next::Again }),
        Ok(answer) => {
            Err(Trouble::wrong(format!("{answer:?} in fair weather to {}{}", ask.head(), connection.complaint)))
        }
        Err(Trouble::Broken(error)) if !fair && error.kind() == ErrorKind::UnexpectedEof => {
            connection.load.trouble(&format!("an answer broke off while a {} node restarted", ask.version));
            Ok(Next::BrokeOff)
        }
        Err(error) => Err(error),
    }
}

/// Ends the connection as `next` leaves it.
fn end(connection: Connection<'_>, next: &Next) -> Tried<()> {
    match next {
        Next::Again => connection.close(),
        Next::Closes => connection.close_at_end(),
        Next::BrokeOff => connection.close_after_rest(),
    }
}

/// One connection for many requests, to both nodes in turn.
pub fn kept_alive(load: &Load, random: &mut Random) -> Tried<()> {
    let _steady = load.steady();
    let mut connection = Connection::open(load, Group::Clean)?;
    for left in (0..random.between(1, 50)).rev() {
        let fields = if left == 0 && random.one_in(2) { "Connection: close\r\n" } else { "" };
        let next = if random.one_in(12) {
            let length = random.size(2048);
            let nonce = random.next();
            let fields = format!("Content-Length: {length}\r\n{fields}");
            let ask =
                Request { method: "POST", version: "v4", what: "upload", nonce, length, query: "", fields: &fields };
            exchange(&mut connection, &ask, &Pattern::up(nonce).make(length))?
        } else {
            exchange(&mut connection, &any(random, 64 * 1024, "", fields), b"")?
        };
        if !matches!(next, Next::Again) {
            return end(connection, &next);
        }
        load.done("REST requests, kept alive");
        if load.pause(random.millis(20, 300)) || load.is_upgrading() {
            break;
        }
    }
    connection.close()
}

/// A connection for each request.
pub fn one_shot(load: &Load, random: &mut Random) -> Tried<()> {
    let mut connection = Connection::open(load, Group::Clean)?;
    let fields = random.pick(&["", "Connection: close\r\n"]);
    let next = exchange(&mut connection, &any(random, 16 * 1024, "", fields), b"")?;
    end(connection, &next)
}

/// A node that takes its time, for the head and between the pieces of the body.
pub fn slow_node(load: &Load, random: &mut Random) -> Tried<()> {
    let mut connection = Connection::open(load, Group::Clean)?;
    let pause = format!("&framing=chunked&pause={}", random.between(50, 800));
    let next = exchange(&mut connection, &any(random, 32 * 1024, &pause, ""), b"")?;
    end(connection, &next)
}

/// A reader that stops in the middle of much, and goes on after a while.
pub fn slow_reader(load: &Load, random: &mut Random) -> Tried<()> {
    let mut connection = Connection::open_with(load, Group::Clean, Some(64 * 1024))?;
    let (nonce, length) = (random.next(), random.between(1024 * 1024, 6 * 1024 * 1024));
    let query = random.pick(&["", "&framing=chunked"]);
    let ask = Request { method: "GET", version: "v4", what: "load", nonce, length, query, fields: "" };
    let next = exchange_after(&mut connection, &ask, b"", random.millis(200, 2000))?;
    end(connection, &next)
}

/// Several requests at once on one connection; their answers come in order.
pub fn pipelined(load: &Load, random: &mut Random) -> Tried<()> {
    let _steady = load.steady();
    let (_calm3, _calm4) = (load.calm("v3"), load.calm("v4"));
    let mut connection = Connection::open(load, Group::Clean)?;
    let asks: Vec<Request<'_>> = (0..random.between(2, 12)).map(|_| any(random, 4096, "", "")).collect();
    for ask in &asks {
        connection.send_head(ask, b"")?;
    }
    for ask in &asks {
        if !matches!(connection.answer(ask)?, Answer { status: 200 | 204, closes: false }) {
            return Err(Trouble::wrong(format!("no answer to the pipelined {}", ask.head())));
        }
    }
    connection.close()
}

/// A load that fails on one node and is tried on the other, unless that one is away.
pub fn failing_load(load: &Load, random: &mut Random) -> Tried<()> {
    let mut connection = Connection::open(load, Group::Clean)?;
    let query = format!("&fails={}", random.pick(&V4_NODES));
    let (nonce, length) = (random.next(), random.size(64 * 1024));
    let ask = Request { method: "GET", version: "v4", what: "loadtracks", nonce, length, query: &query, fields: "" };
    let next = exchange(&mut connection, &ask, b"")?;
    end(connection, &next)
}

/// A request about a session, whose id says which node has it.
pub fn about_session(load: &Load, version: &str, session: &str, random: &mut Random) -> Tried<()> {
    let mut connection = Connection::open(load, Group::Clean)?;
    let (what, nonce, length) = (format!("sessions/{session}/load"), random.next(), random.size(4096));
    let ask = Request { method: "GET", version, what: &what, nonce, length, query: "", fields: "" };
    let next = exchange(&mut connection, &ask, b"")?;
    load.done("requests about a session");
    end(connection, &next)
}

/// A body of any size up to the largest, with its length or in chunks. A restart would leave open how much of it was
/// read, so there is none meanwhile.
pub fn upload(load: &Load, random: &mut Random) -> Tried<()> {
    let version = random.pick(&["v3", "v4"]);
    let _steady = load.steady();
    let _calm = load.calm(version);
    let mut connection = Connection::open(load, Group::Clean)?;
    for _ in 0..random.between(1, 4) {
        let length = if random.one_in(10) { MAX_BODY } else { random.size(MAX_BODY) };
        let chunked = random.one_in(2);
        let fields = body_fields(length, chunked);
        let ask = Request {
            method: "POST",
            version,
            what: "upload",
            nonce: random.next(),
            length,
            query: "",
            fields: &fields,
        };
        connection.send_head(&ask, b"")?;
        send_body(&mut connection, &mut Pattern::up(ask.nonce), length, chunked, random)?;
        match connection.answer(&ask)? {
            Answer { status: 200, closes: false } => {}
            answer => return Err(Trouble::wrong(format!("{answer:?} to an upload of {length} bytes"))),
        }
    }
    connection.close()
}

pub fn body_fields(length: u64, chunked: bool) -> String {
    if chunked { "Transfer-Encoding: chunked\r\n".to_owned() } else { format!("Content-Length: {length}\r\n") }
}

/// Sends so much of a body in pieces of all sizes, and its end if it is in chunks.
pub fn send_body(
    connection: &mut Connection<'_>,
    body: &mut Pattern,
    length: u64,
    chunked: bool,
    random: &mut Random,
) -> Tried<()> {
    while body.at() < length {
        let piece = random.size(64 * 1024).max(length / 128).min(length - body.at());
        let bytes = body.make(piece);
        match chunked {
            true => connection.wire.send(&[format!("{piece:x}\r\n").as_bytes(), &bytes, b"\r\n"].concat())?,
            false => connection.wire.send(&bytes)?,
        }
        if random.one_in(64) {
            connection.load.pause(Duration::from_millis(20));
        }
    }
    if chunked {
        connection.wire.send(b"0\r\n\r\n")?;
    }
    Ok(())
}

/// A request that is refused on a connection that goes on, with the right one behind it; or one that is its last.
pub fn refused(load: &Load, random: &mut Random) -> Tried<()> {
    const UPGRADE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    const GO_ON: [(&str, &str, u16); 4] = [
        ("Authorization: wrong\r\n", "", 403),
        ("", "", 401),
        ("Authorization: wrong\r\n", UPGRADE, 401),
        ("", UPGRADE, 401),
    ];
    /// The bytes, the status, and whether a head was complete.
    const LAST: [(&[u8], u16, bool); 8] = [
        (b"\x16\x03\x01\x02\x00\x01", 400, false),
        (b"GET /v4/info HTTP/1.1\nHost: soak\n\n", 400, false),
        (b"GET /v4/info HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400, true),
        (
            b"POST /v4/x HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
            true,
        ),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, true),
        (b"GET /v4/info HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", 501, true),
        (b"GET  /v4/info HTTP/1.1\r\nHost: a\r\n\r\n", 400, true),
        (b"GET /v4/\x01 HTTP/1.1\r\nHost: a\r\n\r\n", 400, false),
    ];
    let _steady = load.steady();
    let mut connection = Connection::open(load, Group::Clean)?;
    if random.one_in(3) {
        let (bytes, status, counts) = random.pick(&LAST);
        connection.send_raw(bytes, counts)?;
        let answer = connection.refusal()?;
        if answer.status != status {
            return Err(Trouble::wrong(format!("{answer:?} to {:?}", String::from_utf8_lossy(bytes))));
        }
        return connection.close_at_end();
    }
    for _ in 0..random.between(1, 5) {
        let (password, fields, status) = random.pick(&GO_ON);
        connection
            .send_raw(format!("GET /v4/info HTTP/1.1\r\nHost: soak\r\n{password}{fields}\r\n").as_bytes(), true)?;
        let answer = connection.refusal()?;
        if answer != (Answer { status, closes: false }) {
            return Err(Trouble::wrong(format!("{answer:?} instead of {status} to a wrong password")));
        }
    }
    let next = exchange(&mut connection, &any(random, 1024, "", ""), b"")?;
    end(connection, &next)
}
