//! WebSocket tunnels that end properly, on one side or the other: known to the byte. Restarts leave them alone.

use std::io::{self, ErrorKind};
use std::thread;
use std::time::Duration;

use crate::connection::{Connection, Request, check_origin, read_status};
use crate::ledger::Group;
use crate::load::Load;
use crate::random::{Pattern, Random};
use crate::rest;
use crate::script::{Dialogue, STRANGE, pour, session_id};
use crate::wire::{Tried, Trouble, value};

pub const HANDSHAKE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nUser-Id: 42\r\nClient-Name: soak/1\r\n";

/// A tunnel, and the id of its session.
pub type Opened<'l> = (Connection<'l>, String);

/// A tunnel to `version`; what it is for is in `query`. Without one, what lavaproxy has answered.
pub fn open<'l>(
    load: &'l Load,
    group: Group,
    version: &str,
    nonce: u64,
    query: &str,
) -> Tried<Result<Opened<'l>, String>> {
    let mut connection = Connection::open(load, group)?;
    let ask = Request { method: "GET", version, what: "websocket", nonce, length: 0, query, fields: HANDSHAKE };
    let before = load.each_weather(version);
    connection.send_head(&ask, b"")?;
    let head = connection.answer_head()?;
    let answer = read_status(&head)?;
    if answer.status != 101 {
        connection.own_error(&ask, &head, answer)?;
        connection.check_complaint(&ask, &before)?;
        return Ok(Err(format!("{head} {}", connection.complaint)));
    }
    check_origin(&head, &ask)?;
    connection.all_was_read();
    let session = read_ready(&mut connection)?;
    if connection.wire.exactly(STRANGE.len())? != STRANGE {
        return Err(Trouble::wrong("another frame than the strange one behind ready"));
    }
    let own = session_id(nonce);
    let expected = match (version, value(&head, "x-name")) {
        ("v4", Some(node)) => format!("{node}.{own}"),
        _ => own,
    };
    match session == expected {
        true => Ok(Ok((connection, session))),
        false => Err(Trouble::wrong(format!("the session {session} instead of {expected}"))),
    }
}

/// Reads frames up to `ready`, before which there may be stats: the session's id.
pub fn read_ready(connection: &mut Connection<'_>) -> Tried<String> {
    for op in ["stats", "ready"] {
        let message = connection.wire.text_frame()?;
        let message: serde_json::Value =
            serde_json::from_slice(&message).map_err(|error| Trouble::wrong(format!("{error} in a frame")))?;
        match message["sessionId"].as_str() {
            Some(session) if message["op"] == "ready" => return Ok(session.to_owned()),
            _ if message["op"] == op => {}
            _ => return Err(Trouble::wrong(format!("{message} instead of {op}"))),
        }
    }
    Err(Trouble::wrong("no ready"))
}

fn open_clean<'l>(load: &'l Load, version: &str, nonce: u64, query: &str) -> Tried<Opened<'l>> {
    let _calm = load.calm(version);
    let opened = open(load, Group::Clean, version, nonce, &format!("&clean=1{query}"))?;
    opened.map_err(|answer| Trouble::wrong(format!("no tunnel although the node is up: {answer}")))
}

/// One message and its answer.
pub fn round(connection: &mut Connection<'_>, up: &mut Pattern, down: &mut Pattern, sizes: &mut Dialogue) -> Tried<()> {
    let (message, answer) = sizes.next_round();
    connection.promise(answer);
    connection.wire.send(&up.make(message))?;
    connection.wire.expect(down, answer)?;
    connection.all_was_read();
    connection.load.done("messages and their answers");
    Ok(())
}

/// Messages of all sizes at a pace.
pub fn dialogue(load: &Load, random: &mut Random) -> Tried<()> {
    talk(load, random, (50, 500), 300)
}

/// The same, but silent for long.
pub fn quiet(load: &Load, random: &mut Random) -> Tried<()> {
    talk(load, random, (2000, 20_000), 20)
}

fn talk(load: &Load, random: &mut Random, pace: (u64, u64), most_rounds: u64) -> Tried<()> {
    let (nonce, version, rounds) = (random.next(), random.pick(&["v3", "v4"]), random.between(0, most_rounds));
    let node_ends = random.one_in(2);
    let (mut connection, session) =
        open_clean(load, version, nonce, &if node_ends { format!("&rounds={rounds}") } else { String::new() })?;
    if random.one_in(3) {
        rest::about_session(load, version, &session, random)?;
    }
    let handshake = connection.wire.sent;
    let (mut up, mut down, mut sizes) = (Pattern::up(nonce), Pattern::down(nonce), Dialogue::new(nonce));
    let mut left = rounds;
    while left > 0 && !load.pause(random.millis(pace.0, pace.1)) {
        round(&mut connection, &mut up, &mut down, &mut sizes)?;
        left -= 1;
    }
    if node_ends && left == 0 {
        // The other half of a half-closed tunnel still delivers.
        must_end(&mut connection)?;
        connection.wire.send(&up.make(random.size(256 * 1024)))?;
        connection.wire.half_close()?;
    } else {
        connection.wire.half_close()?;
        must_end(&mut connection)?;
    }
    connection.close_tunnel(nonce, handshake)
}

fn must_end(connection: &mut Connection<'_>) -> Tried<()> {
    if connection.wire.is_at_end()? { Ok(()) } else { Err(Trouble::wrong("more comes than the node sent")) }
}

/// Much both ways at once; each direction ends by itself.
pub fn flood(load: &Load, random: &mut Random) -> Tried<()> {
    let (nonce, version) = (random.next(), random.pick(&["v3", "v4"]));
    let (up, down) = (random.size(4 * 1024 * 1024), random.size(4 * 1024 * 1024));
    let (mut connection, _) = open_clean(load, version, nonce, &format!("&down={down}"))?;
    let handshake = connection.wire.sent;
    let stream = connection.wire.stream.clone();
    let mut pattern = Pattern::down(nonce);
    let (read, poured) = thread::scope(|scope| {
        let writer = scope.spawn(move || pour(&stream, Pattern::up(nonce), up, !nonce));
        (connection.wire.expect_all(&mut pattern), writer.join().unwrap())
    });
    connection.wire.sent += poured?;
    read?;
    if pattern.at() != down {
        return Err(Trouble::wrong(format!("{} of {down} bytes came", pattern.at())));
    }
    connection.close_tunnel(nonce, handshake)
}

/// A tunnel that nothing spares: cut by a reset from here or from the node, or by a restart. What came before that
/// must be right, and a reset must come as one.
pub fn cut(load: &Load, random: &mut Random) -> Tried<()> {
    let (nonce, version, rounds) = (random.next(), random.pick(&["v3", "v4"]), random.between(0, 60));
    let end = random.pick(&["node-resets", "client-resets", "client-closes"]);
    let before = load.weather(version);
    let Ok((mut connection, _)) = open(load, Group::Abrupt, version, nonce, &format!("&rounds={rounds}&end={end}"))?
    else {
        load.trouble(&format!("no tunnel while a {version} node restarted"));
        return Ok(());
    };
    let (mut up, mut down, mut sizes) = (Pattern::up(nonce), Pattern::down(nonce), Dialogue::new(nonce));
    let last = rounds + u64::from(end == "node-resets");
    for _ in 0..last {
        match round(&mut connection, &mut up, &mut down, &mut sizes) {
            Err(Trouble::Broken(error)) => {
                return was_cut(connection, &error, end, load.was_fair_since(version, before));
            }
            other => other?,
        }
        load.pause(random.millis(20, 300));
    }
    // In the middle of a message, or between two.
    let (message, answer) = sizes.next_round();
    connection.promise(answer);
    let sent = connection.wire.send(&up.make(random.between(0, message)));
    if end == "client-resets" {
        connection.wire.will_reset();
    }
    load.trouble("a tunnel was cut by its client");
    Ok(sent?)
}

/// The other side, or a restart, has ended a tunnel.
pub fn was_cut(mut connection: Connection<'_>, error: &io::Error, end: &str, fair: bool) -> Tried<()> {
    let is_end = error.kind() == ErrorKind::UnexpectedEof;
    if is_end {
        connection.saw_the_end();
    }
    let what = match (end, fair) {
        ("node-resets", true) if is_end => return Err(Trouble::wrong("a node's reset came as a proper end")),
        ("node-resets", true) => "a tunnel was reset by its node",
        (_, true) => return Err(Trouble::wrong(format!("a tunnel broke off in fair weather: {error}"))),
        (_, false) => "a tunnel was cut by a restart",
    };
    connection.load.trouble(what);
    Ok(())
}

/// Much is under way both ways when the client breaks off.
pub fn cut_flood(load: &Load, random: &mut Random) -> Tried<()> {
    let (nonce, version, down) = (random.next(), random.pick(&["v3", "v4"]), 2 * 1024 * 1024);
    let Ok((mut connection, _)) = open(load, Group::Abrupt, version, nonce, &format!("&down={down}"))? else {
        load.trouble(&format!("no tunnel while a {version} node restarted"));
        return Ok(());
    };
    connection.promise(down);
    connection.wire.send(&Pattern::up(nonce).make(random.size(64 * 1024)))?;
    connection.wire.expect(&mut Pattern::down(nonce), random.size(down / 2))?;
    load.pause(Duration::from_millis(random.between(0, 500)));
    if random.one_in(2) {
        connection.wire.will_reset();
    }
    load.trouble("a tunnel was cut by its client");
    Ok(())
}
