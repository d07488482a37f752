//! WebSocket tunnels that end properly, on one side or the other: known to the byte. Restarts leave them alone.

use std::io::{self, ErrorKind};
use std::thread;
use std::time::Duration;

use crate::books::Who;
use crate::chance::{Chance, Pattern};
use crate::load::Load;
use crate::script::{Dialogue, pour};
use crate::visit::{Ask, Visit, check_origin, read_status};
use crate::wire::{Tried, Trouble};

const HANDSHAKE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nUser-Id: 42\r\nClient-Name: soak/1\r\n";

/// A tunnel to `version`; what it is for is in `query`. `None` where its node cannot be reached.
pub fn open<'l>(load: &'l Load, who: Who, version: &str, nonce: u64, query: &str) -> Tried<Option<Visit<'l>>> {
    let mut visit = Visit::open(load, who)?;
    let ask = Ask { method: "GET", version, what: "websocket", nonce, length: 0, query, fields: HANDSHAKE };
    visit.send_head(&ask, b"")?;
    let head = visit.answer_head()?;
    let answer = read_status(&head)?;
    if answer.status != 101 {
        visit.own_error(&ask, &head, answer)?;
        return Ok(None);
    }
    check_origin(&head, &ask)?;
    visit.all_was_read();
    Ok(Some(visit))
}

fn open_clean<'l>(load: &'l Load, version: &str, nonce: u64, query: &str) -> Tried<Visit<'l>> {
    let _calm = load.node(version).calm();
    let opened = open(load, Who::Clean, version, nonce, &format!("&clean=1{query}"))?;
    opened.ok_or_else(|| Trouble::wrong("no tunnel although the node is up"))
}

/// One message and its answer.
pub fn round(visit: &mut Visit<'_>, up: &mut Pattern, down: &mut Pattern, sizes: &mut Dialogue) -> Tried<()> {
    let (message, answer) = sizes.next_round();
    visit.promise(answer);
    visit.wire.send(&up.make(message))?;
    visit.wire.expect(down, answer)?;
    visit.all_was_read();
    visit.load.done("messages and their answers");
    Ok(())
}

/// Messages of all sizes at a pace.
pub fn dialogue(load: &Load, chance: &mut Chance) -> Tried<()> {
    talk(load, chance, (50, 500), 300)
}

/// The same, but silent for long.
pub fn quiet(load: &Load, chance: &mut Chance) -> Tried<()> {
    talk(load, chance, (2000, 20_000), 20)
}

fn talk(load: &Load, chance: &mut Chance, pace: (u64, u64), most_rounds: u64) -> Tried<()> {
    let (nonce, version, rounds) = (chance.next(), chance.pick(&["v3", "v4"]), chance.between(0, most_rounds));
    let node_ends = chance.one_in(2);
    let mut visit =
        open_clean(load, version, nonce, &if node_ends { format!("&rounds={rounds}") } else { String::new() })?;
    let handshake = visit.wire.sent;
    let (mut up, mut down, mut sizes) = (Pattern::up(nonce), Pattern::down(nonce), Dialogue::new(nonce));
    let mut left = rounds;
    while left > 0 && !load.pause(chance.millis(pace.0, pace.1)) {
        round(&mut visit, &mut up, &mut down, &mut sizes)?;
        left -= 1;
    }
    if node_ends && left == 0 {
        // The other half of a half-closed tunnel still delivers.
        must_end(&mut visit)?;
        visit.wire.send(&up.make(chance.size(256 * 1024)))?;
        visit.wire.half_close()?;
    } else {
        visit.wire.half_close()?;
        must_end(&mut visit)?;
    }
    visit.close_tunnel(nonce, handshake)
}

fn must_end(visit: &mut Visit<'_>) -> Tried<()> {
    if visit.wire.is_at_end()? { Ok(()) } else { Err(Trouble::wrong("more comes than the node sent")) }
}

/// Much both ways at once; each direction ends by itself.
pub fn flood(load: &Load, chance: &mut Chance) -> Tried<()> {
    let (nonce, version) = (chance.next(), chance.pick(&["v3", "v4"]));
    let (up, down) = (chance.size(4 * 1024 * 1024), chance.size(4 * 1024 * 1024));
    let mut visit = open_clean(load, version, nonce, &format!("&down={down}"))?;
    let handshake = visit.wire.sent;
    let stream = visit.wire.stream.clone();
    let mut pattern = Pattern::down(nonce);
    let (read, poured) = thread::scope(|scope| {
        let writer = scope.spawn(move || pour(&stream, Pattern::up(nonce), up, !nonce));
        (visit.wire.expect_all(&mut pattern), writer.join().unwrap())
    });
    visit.wire.sent += poured?;
    read?;
    if pattern.at() != down {
        return Err(Trouble::wrong(format!("{} of {down} bytes came", pattern.at())));
    }
    visit.close_tunnel(nonce, handshake)
}

/// A tunnel that nothing spares: cut by a reset from here or from the node, or by a restart. What came before that
/// must be right, and a reset must come as one.
pub fn cut(load: &Load, chance: &mut Chance) -> Tried<()> {
    let (nonce, version, rounds) = (chance.next(), chance.pick(&["v3", "v4"]), chance.between(0, 60));
    let end = chance.pick(&["node-resets", "client-resets", "client-closes"]);
    let before = load.node(version).weather();
    let Some(mut visit) = open(load, Who::Violent, version, nonce, &format!("&rounds={rounds}&end={end}"))? else {
        load.trouble("no tunnel while the node restarted");
        return Ok(());
    };
    let (mut up, mut down, mut sizes) = (Pattern::up(nonce), Pattern::down(nonce), Dialogue::new(nonce));
    let last = rounds + u64::from(end == "node-resets");
    for _ in 0..last {
        match round(&mut visit, &mut up, &mut down, &mut sizes) {
            Err(Trouble::Broken(error)) => {
                return was_cut(visit, &error, end, load.node(version).was_fair_since(before));
            }
            other => other?,
        }
        load.pause(chance.millis(20, 300));
    }
    // In the middle of a message, or between two.
    let (message, answer) = sizes.next_round();
    visit.promise(answer);
    let sent = visit.wire.send(&up.make(chance.between(0, message)));
    if end == "client-resets" {
        visit.wire.will_reset();
    }
    load.trouble("a tunnel was cut by its client");
    Ok(sent?)
}

/// The other side, or a restart, has ended a tunnel.
fn was_cut(mut visit: Visit<'_>, error: &io::Error, end: &str, fair: bool) -> Tried<()> {
    let is_end = error.kind() == ErrorKind::UnexpectedEof;
    if is_end {
        visit.saw_the_end();
    }
    let what = match (end, fair) {
        ("node-resets", true) if is_end => return Err(Trouble::wrong("a node's reset came as a proper end")),
        ("node-resets", true) => "a tunnel was reset by its node",
        (_, true) => return Err(Trouble::wrong(format!("a tunnel broke off in fair weather: {error}"))),
        (_, false) => "a tunnel was cut by a restart",
    };
    visit.load.trouble(what);
    Ok(())
}

/// Much is under way both ways when the client breaks off.
pub fn cut_flood(load: &Load, chance: &mut Chance) -> Tried<()> {
    let (nonce, version, down) = (chance.next(), chance.pick(&["v3", "v4"]), 2 * 1024 * 1024);
    let Some(mut visit) = open(load, Who::Violent, version, nonce, &format!("&down={down}"))? else {
        load.trouble("no tunnel while the node restarted");
        return Ok(());
    };
    visit.promise(down);
    visit.wire.send(&Pattern::up(nonce).make(chance.size(64 * 1024)))?;
    visit.wire.expect(&mut Pattern::down(nonce), chance.size(down / 2))?;
    load.pause(Duration::from_millis(chance.between(0, 500)));
    if chance.one_in(2) {
        visit.wire.will_reset();
    }
    load.trouble("a tunnel was cut by its client");
    Ok(())
}
