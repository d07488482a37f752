//! The wire with takeovers is that without them, to the byte, as long as the nodes live: at the node and at the client.
//!
//! Each conversation is played by both ends, through four lavaproxies: with and without takeovers, with one node and with
//! two, of which one takes no connection. With two nodes the client's session ids have the node's name.
//!
//! Two things are not compared, since a takeover is what they are about: a node that ends an open session with code 1001
//! or 1012 or without a close frame, and the questions about a session that another lavaproxy had.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/nodes.rs"]
mod nodes;
#[path = "support/recorded.rs"]
mod recorded;
mod support;

use std::net::TcpListener;
use std::thread;
use std::time::Duration;

use lavaproxy::config::Lavalink::{self, V3, V4};
use nodes::{Refusing, list, text_frame};
use recorded::{AGREED, End, Recorded, Setup, Wire};
use support::{HANDSHAKE, PASSWORD};

const ID: &str = "5fr7okxwgml5cack";
const TAG: &str = "eu1.";
const STATS: &str = r#"{"op":"stats","players":0,"playingPlayers":0,"uptime":1}"#;
const UPDATE: &str =
    r#"{"op":"playerUpdate","state":{"time":1764000000000,"position":61234,"connected":true,"ping":12},"guildId":"1"}"#;
const UPDATE_OF_V3: &str =
    r#"{"op":"playerUpdate","guildId":"1","state":{"time":1764000000000,"connected":true,"position":61234}}"#;
const ENCODED: &str = "QAAAdQMACVRlc3QgVG9uZQAGVGVzdGVyAAAAAAAAo8gAAW0AAQABdQAEaHR0cAAAAAAAAAAA";
/// The opcodes of whole messages.
const TEXT: u8 = 0x81;
const BINARY: u8 = 0x82;
const CLOSE: u8 = 0x88;
const PING: u8 = 0x89;
const PONG: u8 = 0x8a;

/// What is played, and what came at both ends.
type Takes = Vec<(String, Vec<Recorded>)>;

fn ready(version: Lavalink, id: &str, resumed: bool) -> String {
    match version {
        V3 => format!(r#"{{"resumed":{resumed},"sessionId":"{id}","op":"ready"}}"#),
        V4 => format!(r#"{{"op":"ready","resumed":{resumed},"sessionId":"{id}"}}"#),
    }
}

/// A session's PATCH, and the answer to it.
fn resuming(version: Lavalink) -> &'static str {
    match version {
        V3 => r#"{"resumingKey":"my-key","timeout":60}"#,
        V4 => r#"{"resuming":true,"timeout":60}"#,
    }
}

fn track() -> String {
    let info = r#"{"identifier":"m","isSeekable":true,"author":"Tester","length":41928,"isStream":false,"position":0,"title":"Test Tone","uri":"u","sourceName":"http"}"#;
    format!(r#"{{"encoded":"{ENCODED}","info":{info},"pluginInfo":{{}},"userData":{{"a":1}}}}"#)
}

fn player() -> String {
    let voice = r#"{"token":"t","endpoint":"e","sessionId":"s"}"#;
    let state = r#"{"time":1,"position":0,"connected":true,"ping":1}"#;
    let track = track();
    format!(
        r#"{{"guildId":"1","track":{track},"volume":100,"paused":false,"state":{state},"voice":{voice},"filters":{{}}}}"#
    )
}

fn event(kind: &str) -> String {
    let (track, v3) = (track(), format!(r#""encodedTrack":"{ENCODED}""#));
    format!(r#"{{"op":"event","guildId":"1","type":"{kind}",{v3},"track":{track},"reason":"finished"}}"#)
}

/// A frame with a length of `digits` bytes, and with a mask that changes nothing, if it is a client's.
fn frame_of(first: u8, payload: &[u8], digits: usize, is_masked: bool) -> Vec<u8> {
    let mask = if is_masked { 0x80 } else { 0 };
    let length = (payload.len() as u64).to_be_bytes();
    let mut frame = match digits {
        1 => vec![first, mask | length[7]],
        2 => [&[first, mask | 126], &length[6..]].concat(),
        _ => [&[first, mask | 127][..], &length].concat(),
    };
    frame.extend_from_slice(if is_masked { &[0; 4] } else { &[] });
    frame.extend_from_slice(payload);
    frame
}

fn frame(first: u8, payload: &[u8], is_masked: bool) -> Vec<u8> {
    let digits = match payload.len() {
        0..126 => 1,
        126..0x1_0000 => 2,
        _ => 8,
    };
    frame_of(first, payload, digits, is_masked)
}

/// Frames of every kind that either end may send.
fn frames(is_masked: bool) -> Vec<Vec<u8>> {
    let one = |first: u8, payload: &[u8]| frame(first, payload, is_masked);
    let text = |payload: &str| one(TEXT, payload.as_bytes());
    let (half, rest) = UPDATE.split_at(40);
    let parts = |first: u8, between: &[u8]| [one(first, half.as_bytes()), between.to_vec(), one(0x80, rest.as_bytes())];
    let mut all = Vec::new();
    let kinds = ["TrackStartEvent", "TrackEndEvent", "TrackStuckEvent", "WebSocketClosedEvent", "SegmentsLoaded"];
    all.extend(kinds.map(|kind| text(&event(kind))));
    all.extend(
        [STATS, UPDATE, UPDATE_OF_V3, r#"{"op":"news"}"#, r#"{"op":"playerUpdate"}"#, "{", "", "\u{20ac}"].map(text),
    );
    all.extend(
        [r#"{"op":"configureResuming","key":"k","timeout":60}"#, r#"{"op":"play","guildId":"1","track":"x"}"#]
            .map(text),
    );
    all.extend([ready(V3, ID, false), ready(V4, ID, false), ready(V4, "another", true)].map(|ready| text(&ready)));
    all.extend([&b""[..], b"beat", &[7; 125]].map(|payload| one(PING, payload)));
    all.extend([&b""[..], b"beat"].map(|payload| one(PONG, payload)));
    all.extend([&b""[..], UPDATE.as_bytes(), &[0xff; 300], &[b'x'; 70_000]].map(|payload| one(BINARY, payload)));
    all.push(text(&event("TrackStartEvent").replace("\"a\":1", &format!("\"a\":\"{}\"", "y".repeat(66_000)))));
    // In two frames, with a ping between them, and compressed.
    all.extend([parts(0x01, b""), parts(0x01, &one(PING, b"between")), parts(0x41, b"")].map(|parts| parts.concat()));
    all.extend([0xc1, 0xc2, 0xa1, 0x83, 0x8b].map(|first| one(first, UPDATE.as_bytes())));
    // Longer lengths than are needed, and the mask of the other end.
    all.extend([2, 8].map(|digits| frame_of(TEXT, b"{}", digits, is_masked)));
    all.push(frame(TEXT, b"{}", !is_masked));
    all
}

/// The head of a request with the password.
fn head(line: &str, fields: &str) -> Vec<u8> {
    format!("{line} HTTP/1.1\r\nHost: bot\r\nAuthorization: {PASSWORD}\r\n{fields}\r\n").into_bytes()
}

/// A WebSocket whose node has sent these bytes with its agreement.
fn open(wire: &Wire<'_>, fields: &str, first: &[u8]) -> (End, End) {
    let target = format!("GET /{}/websocket", wire.setup.version.name());
    let mut client = wire.connect();
    client.send(&head(&target, &format!("{HANDSHAKE}{fields}")));
    let mut node = wire.accept();
    node.hear(b"\r\n\r\n").send(&[AGREED, first].concat());
    client.hear(b"\r\n\r\n");
    (client, node)
}

/// A WebSocket whose session has its id.
fn open_session(wire: &Wire<'_>, fields: &str) -> (End, End) {
    let version = wire.setup.version;
    let (mut client, node) = open(wire, fields, &text_frame(&ready(version, ID, false)));
    client.hear(b"sessionId").hear(b"}");
    (client, node)
}

/// The client ends its side, then the node.
fn leave(wire: &mut Wire<'_>, mut client: End, mut node: End) {
    client.half_close();
    node.hear_end();
    wire.keep("node", node);
    client.hear_end();
    wire.keep("client", client);
}

/// Where the id of a session stands in a request.
fn id(wire: &Wire<'_>) -> String {
    format!("{}{ID}", wire.setup.tag)
}

fn handshakes(setup: &Setup, takes: &mut Takes) {
    let known = format!("Session-Id: {}{ID}\r\n", setup.tag);
    let odd = "sEsSiOn-iD: \r\nX-Odd:\t a \r\nx-odd: b\r\nrESUME-kEY:\r\nX-Bytes: \u{fc}\r\nConnection: X-Odd\r\n";
    let compressed = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n";
    let unknown = "Session-Id: eu9.zzz\r\n";
    for fields in ["", &known, unknown, "Resume-Key: my-key\r\n", "Resume-Key: \r\nSession-Id: x\r\n", odd, compressed]
    {
        let recorded = Wire::record(setup, |wire| {
            let (client, node) = open_session(wire, fields);
            leave(wire, client, node);
        });
        takes.push((format!("handshake {fields:?}"), recorded));
    }
    for status in ["400 Bad Request", "404 Not Found", "500 Internal Server Error", "200 OK", "204 No Content"] {
        let recorded = Wire::record(setup, |wire| {
            let target = format!("GET /{}/websocket", wire.setup.version.name());
            let mut client = wire.connect();
            client.send(&head(&target, HANDSHAKE));
            let mut node = wire.accept();
            let body = if status.starts_with("204") { "" } else { "Content-Length: 2\r\n\r\nno" };
            let end = if body.is_empty() { "\r\n\r\n" } else { "\r\n\r\nno" };
            node.hear(b"\r\n\r\n").send(format!("HTTP/1.1 {status}\r\n{body}").as_bytes());
            if body.is_empty() {
                node.send(b"\r\n");
            }
            client.hear(end.as_bytes());
            leave(wire, client, node);
        });
        takes.push((format!("a handshake that is answered {status}"), recorded));
    }
}

/// `ready` with what is around it arrives in two pieces, cut in each place, and byte by byte.
fn cuts(setup: &Setup, takes: &mut Takes) {
    let ready = ready(setup.version, ID, false);
    let pongs = frame(PONG, b"", false);
    for order in [vec![STATS, &ready, UPDATE], vec![&ready, STATS, UPDATE], vec![UPDATE, STATS, &ready, UPDATE]] {
        let frames = order.iter().map(|text| text_frame(text)).collect::<Vec<_>>().join(&pongs[..]);
        let all = [AGREED, &frames].concat();
        let play = |wire: &mut Wire<'_>, pieces: Vec<&[u8]>| {
            let mut client = wire.connect();
            client.send(&head(&format!("GET /{}/websocket", wire.setup.version.name()), HANDSHAKE));
            let mut node = wire.accept();
            node.hear(b"\r\n\r\n");
            for piece in pieces {
                node.send(piece);
                // Time for lavaproxy to read it alone. It may not; then the cut is another one.
                thread::sleep(Duration::from_micros(300));
            }
            node.send(&text_frame("the last"));
            client.hear(b"the last");
            leave(wire, client, node);
        };
        let last = (all.len() - 100).min(AGREED.len() + 190);
        for cut in AGREED.len() - 2..last {
            let recorded = Wire::record(setup, |wire| play(wire, vec![&all[..cut], &all[cut..]]));
            takes.push((format!("{order:?} cut at {cut}"), recorded));
        }
        let recorded = Wire::record(setup, |wire| play(wire, all.chunks(1).collect()));
        takes.push((format!("{order:?} byte by byte"), recorded));
    }
}

fn messages(setup: &Setup, takes: &mut Takes) {
    for (number, sent) in frames(false).into_iter().enumerate() {
        let recorded = Wire::record(setup, |wire| {
            let (mut client, mut node) = open_session(wire, "");
            let behind = [UPDATE, &event("TrackEndEvent"), STATS, "the last"].map(text_frame).concat();
            node.send(&[sent, behind].concat());
            client.hear(b"the last");
            leave(wire, client, node);
        });
        takes.push((format!("frame {number} of the node"), recorded));
    }
    for (number, sent) in frames(true).into_iter().enumerate() {
        let recorded = Wire::record(setup, |wire| {
            let (mut client, mut node) = open_session(wire, "");
            let behind = [frame(PING, b"alive", true), frame(TEXT, b"the last", true)].concat();
            let (before, rest) = sent.split_at(sent.len() / 2);
            client.send(before);
            thread::sleep(Duration::from_micros(300));
            client.send(&[rest, &behind].concat());
            node.hear(b"the last").send(&[frame(PONG, b"alive", false), text_frame(UPDATE)].concat());
            client.hear(UPDATE.as_bytes());
            leave(wire, client, node);
        });
        takes.push((format!("frame {number} of the client"), recorded));
    }
}

/// What ends a WebSocket.
fn ends(setup: &Setup, takes: &mut Takes) {
    let mut take = |name: &str, play: &dyn Fn(&mut Wire<'_>)| {
        takes.push((name.to_owned(), Wire::record(setup, play)));
    };
    let reason = [&4006_u16.to_be_bytes()[..], b"your session is gone"].concat();
    let normal = 1000_u16.to_be_bytes();
    for (name, payload) in [("without a code", &b""[..]), ("1000", &normal), ("with a reason", &reason), ("cut", &[3])]
    {
        take(&format!("the client closes: {name}"), &|wire| {
            let (mut client, mut node) = open_session(wire, "");
            client.send(&frame(CLOSE, payload, true));
            node.hear(&frame(CLOSE, payload, true)).send(&text_frame(UPDATE)).send(&frame(CLOSE, payload, false));
            wire.keep("node", node);
            client.hear_end();
            wire.keep("client", client);
        });
        take(&format!("the node closes: {name}"), &|wire| {
            let (mut client, mut node) = open_session(wire, "");
            node.send(&text_frame(UPDATE)).send(&frame(CLOSE, payload, false));
            client.hear(&frame(CLOSE, payload, false)).send(&frame(CLOSE, payload, true));
            node.hear(&frame(CLOSE, payload, true));
            wire.keep("node", node);
            client.hear_end();
            wire.keep("client", client);
        });
        take(&format!("the node closes and resets: {name}"), &|wire| {
            let (mut client, mut node) = open_session(wire, "");
            node.send(&frame(CLOSE, payload, false));
            client.hear(&frame(CLOSE, payload, false));
            wire.keep_and_reset("node", node);
            client.hear_end();
            wire.keep("client", client);
        });
    }
    take("the node writes on after the client's end", &|wire| {
        let (mut client, mut node) = open_session(wire, "");
        client.send(&frame(TEXT, b"{}", true)).half_close();
        node.hear_end();
        node.send(&[text_frame(UPDATE), text_frame(STATS), text_frame(&event("TrackEndEvent"))].concat());
        wire.keep("node", node);
        client.hear_end();
        wire.keep("client", client);
    });
    take("the client resets", &|wire| {
        let (mut client, mut node) = open_session(wire, "");
        client.send(&frame(TEXT, b"{}", true));
        node.hear(&frame(TEXT, b"{}", true));
        wire.keep_and_reset("client", client);
        node.hear_end();
        wire.keep("node", node);
    });
    let half_ready = text_frame(&ready(setup.version, ID, false));
    // A reset may take with it what came just before.
    let ways =
        [("before ready", &[][..], false), ("before ready", &[], true), ("within ready", &half_ready[..20], false)];
    for (name, first, resets) in ways {
        take(&format!("the node ends {name}, with a reset: {resets}"), &|wire| {
            let (mut client, node) = open(wire, "", &[text_frame(STATS), first.to_vec()].concat());
            client.hear(STATS.as_bytes());
            match resets {
                true => wire.keep_and_reset("node", node),
                false => wire.keep("node", node),
            }
            client.hear_end();
            wire.keep("client", client);
        });
    }
    // The client has the first half.
    take("the node ends within a frame", &|wire| {
        let (mut client, mut node) = open_session(wire, "");
        node.send(&[text_frame(STATS), frame(BINARY, &[1; 40], false)[..30].to_vec()].concat());
        client.hear(STATS.as_bytes()).hear(&[1; 20]);
        wire.keep("node", node);
        client.hear_end();
        wire.keep("client", client);
    });
}

/// A request, and what it ends with at the node.
struct Asked {
    bytes: Vec<u8>,
    end: Vec<u8>,
    is_head: bool,
}

fn request(line: &str, fields: &str, body: &str) -> Asked {
    let bytes = [head(line, fields), body.as_bytes().to_vec()].concat();
    let end = match body {
        "" => "\r\n\r\n",
        // Extensions and trailers do not arrive.
        chunked if chunked.contains("\r\n0\r\n") => "}\r\n0\r\n\r\n",
        sized => sized,
    };
    Asked { bytes, end: end.into(), is_head: line.starts_with("HEAD ") }
}

fn requests(version: Lavalink, id: &str) -> Vec<Asked> {
    let at = format!("/{}/sessions/{id}", version.name());
    let json = |line: &str, body: &str| {
        let fields = format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len());
        request(line, &fields, body)
    };
    let play =
        r#"{"track":{"encoded":"QAAA","userData":{"a":1}},"encodedTrack":"QAAA","position":30000,"endTime":60000}"#;
    let session = resuming(version);
    let chunked = "cOnTeNt-TyPe: application/json\r\nTRANSFER-ENCODING: chunked\r\nX-Empty:\r\n";
    let odd =
        format!("content-LENGTH:  {} \r\nX-a: \u{fc}\r\nx-A:\tb\r\nConnection: x-A\r\nuser-agent:\r\n", play.len());
    let mut all: Vec<Asked> = [
        format!("GET {at}/players"),
        format!("GET {at}/players/1?trace=true"),
        format!("HEAD {at}/players/1"),
        format!("OPTIONS {at}/players/1"),
        format!("DELETE {at}/players/1"),
        format!("GET /{}/stats?x=eu1.y", version.name()),
        format!("GET /{0}//sessions/{id}/players/", version.name()),
    ]
    .iter()
    .map(|line| request(line, "", ""))
    .collect();
    all.extend([
        json(&format!("PATCH {at}/players/1?noReplace=true"), play),
        json(&format!("PATCH {at}/players/1"), r#"{"paused":true,"filters":{"volume":0.5},"volume":7}"#),
        json(&format!("PATCH {at}/players/not-a-guild"), play),
        json(&format!("PATCH {at}/players/1/more"), play),
        json(&format!("PATCH {at}"), session),
        json(&format!("DELETE {at}/players/1"), "{}"),
        json(&format!("PUT {at}/players/1"), "{"),
        json(&format!("POST {at}/players/1"), &format!("{{\"x\":\"{}\"}}", "z".repeat(70_000))),
        json(&format!("PATCH {at}/players/1"), &format!("{{\"x\":\"{}\"}}", "z".repeat(70_000))),
        request(
            &format!("PATCH {at}/players/1"),
            chunked,
            "5;a=b\r\n{\"vol\r\n00008\r\nume\":50}\r\n0\r\nX-T: 1\r\n\r\n",
        ),
        request(&format!("PATCH {at}"), chunked, &format!("{:x}\r\n{session}\r\n0\r\n\r\n", session.len())),
        request(&format!("DELETE {at}/players/1"), chunked, "2\r\n{}\r\n0\r\n\r\n"),
        request(&format!("PATCH {at}/players/1"), &odd, play),
    ]);
    all
}

/// What a node answers.
struct Answer {
    head: String,
    body: String,
    /// What its body ends with at the client.
    end: String,
    closes: bool,
}

fn answers(version: Lavalink) -> Vec<Answer> {
    let (player, session) = (player(), resuming(version));
    let sized = |status: &str, body: &str| {
        let fields =
            format!("Content-Type: application/json\r\ncontent-length: {}\r\nlavalink-API-version: 4", body.len());
        let head = format!("HTTP/1.1 {status}\r\n{fields}\r\n\r\n");
        Answer { head, body: body.to_owned(), end: body.to_owned(), closes: false }
    };
    let chunked = |body: &str| {
        let (first, rest) = body.split_at(body.len() / 2);
        let chunks = format!("{:x}\r\n{first}\r\n{:X};a=b\r\n{rest}\r\n0\r\nX-T: 1\r\n\r\n", first.len(), rest.len());
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Type: application/json\r\n\r\n".to_owned();
        Answer { head, body: chunks, end: format!("{rest}\r\n0\r\n\r\n"), closes: false }
    };
    let empty = |head: &str, closes| Answer { head: head.to_owned(), body: String::new(), end: String::new(), closes };
    let error = r#"{"timestamp":1764000000000,"status":404,"error":"Not Found","path":"/v4"}"#;
    let large = player.replace("\"a\":1", &format!("\"a\":\"{}\"", "y".repeat(80_000)));
    let (mut interim, mut last) = (sized("200 OK", &player), sized("200 OK", session));
    interim.head.insert_str(0, "HTTP/1.1 102 Processing\r\n\r\n");
    (last.head, last.closes) = (last.head.replacen("\r\n", "\r\nConnection: close\r\n", 1), true);
    let mut until_close = empty("HTTP/1.0 200 OK\r\nX-Odd:\r\n\r\n", true);
    (until_close.body, until_close.end) = (player.clone(), player.clone());
    vec![
        sized("200 OK", &player),
        chunked(&player),
        sized("200 OK", session),
        chunked(session),
        empty("HTTP/1.1 204 No Content\r\n\r\n", false),
        sized("400 Bad Request", error),
        sized("404 Not Found", error),
        sized("500 Internal Server Error", error),
        sized("200 OK", "[not JSON}"),
        sized("200 OK", &large),
        interim,
        last,
        until_close,
    ]
}

/// Each request with each answer, about a session that lives, on connections that are kept as long as they may be.
fn rest(setup: &Setup, takes: &mut Takes) {
    for (number, answer) in answers(setup.version).into_iter().enumerate() {
        let recorded = Wire::record(setup, |wire| {
            let (socket, node) = open_session(wire, "");
            let (mut client, mut link) = (None::<End>, None::<End>);
            for asked in requests(wire.setup.version, &id(wire)) {
                let mut asking = client.take().unwrap_or_else(|| wire.connect());
                asking.send(&asked.bytes);
                let mut answering = link.take().unwrap_or_else(|| wire.accept());
                answering.hear(&asked.end).send(answer.head.as_bytes());
                asking
                    .hear(if answer.head.contains(" 102 ") { b" 200 OK\r\n" } else { b"HTTP/1.1 " })
                    .hear(b"\r\n\r\n");
                if !asked.is_head {
                    answering.send(answer.body.as_bytes());
                }
                match answer.closes {
                    true => wire.keep("node", answering),
                    false => link = Some(answering),
                }
                if !asked.is_head {
                    asking.hear(answer.end.as_bytes());
                }
                match answer.closes {
                    true => {
                        asking.half_close().hear_end();
                        wire.keep("client", asking);
                    }
                    false => client = Some(asking),
                }
            }
            for (who, end) in [("client", client), ("node", link)] {
                end.into_iter().for_each(|end| wire.keep(who, end));
            }
            leave(wire, socket, node);
        });
        takes.push((format!("REST, answer {number}"), recorded));
    }
}

/// Answers that break off.
fn broken_answers(setup: &Setup, takes: &mut Takes) {
    let player = player();
    let whole = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{player}", player.len());
    for length in [0, 10, whole.len() - player.len(), whole.len() - 1] {
        for resets in [false, true] {
            let recorded = Wire::record(setup, |wire| {
                let (socket, node) = open_session(wire, "");
                let mut client = wire.connect();
                let patch = format!("PATCH /{}/sessions/{}/players/1", wire.setup.version.name(), id(wire));
                client.send(&head(&patch, "Content-Length: 2\r\n"));
                let mut link = wire.accept();
                link.hear(b"\r\n\r\n");
                client.send(b"{}");
                link.hear(b"{}").send(&whole.as_bytes()[..length]);
                if length > 10 {
                    client.hear(b"\r\n\r\n").hear(&whole.as_bytes()[whole.len() - player.len()..length]);
                }
                match resets {
                    true => wire.keep_and_reset("node", link),
                    false => wire.keep("node", link),
                }
                client.half_close().hear_end();
                wire.keep("client", client);
                leave(wire, socket, node);
            });
            takes.push((format!("an answer that breaks off after {length} bytes, with a reset: {resets}"), recorded));
        }
    }
}

/// A client leaves and resumes its session.
fn resumes(setup: &Setup, takes: &mut Takes) {
    let recorded = Wire::record(setup, |wire| {
        let version = wire.setup.version;
        let (socket, node) = open_session(wire, "");
        let id = id(wire);
        let body = resuming(version);
        let field = match version {
            V3 => "Resume-Key: my-key\r\n".to_owned(),
            V4 => format!("Session-Id: {id}\r\n"),
        };
        let mut client = wire.connect();
        let fields = format!("Content-Length: {}\r\n", body.len());
        client.send(&request(&format!("PATCH /{}/sessions/{id}", version.name()), &fields, body).bytes);
        let mut link = wire.accept();
        link.hear(b"}").send(&nodes::ok(body));
        client.hear(b"}");
        wire.keep("client", client);
        wire.keep("node", link);
        leave(wire, socket, node);
        let missed = [&ready(version, ID, true), &event("TrackEndEvent"), UPDATE].map(text_frame).concat();
        let (mut client, mut node) = open(wire, &field, &missed);
        client.hear(UPDATE.as_bytes()).send(&frame(PING, b"", true));
        node.hear(&frame(PING, b"", true)).send(&frame(PONG, b"", false)).send(&text_frame("the last"));
        client.hear(b"the last");
        leave(wire, client, node);
    });
    takes.push(("a session is resumed".to_owned(), recorded));
}

/// A session whose node is lost is opened anew, or ends with it.
fn lose_node(setup: &Setup, is_taken_over: bool) {
    Wire::record(setup, |wire| {
        let (mut client, node) = open_session(wire, "");
        drop(node);
        if is_taken_over {
            wire.accept().hear(b"/websocket HTTP/1.1\r\n");
            client.half_close();
        }
        client.hear_end();
    });
}

fn play_all(version: Lavalink, has_two: bool, takeover: &str) -> Takes {
    let node = TcpListener::bind("127.0.0.1:0").unwrap();
    node.set_nonblocking(true).unwrap();
    let (own, dead) = (node.local_addr().unwrap(), Refusing::start());
    let both = [("eu1", own), ("eu2", dead.address())];
    let list = list(if has_two { &both } else { &both[..1] });
    let set = nodes::of(version, &list, &[("HEALTH_INTERVAL", "1h"), ("SESSION_TAKEOVER", takeover)]);
    let setup = Setup { proxy: nodes::start(&set), node, version, tag: if has_two { TAG } else { "" } };
    let mut takes = Takes::new();
    for play in [handshakes, cuts, messages, ends, rest, broken_answers, resumes] {
        play(&setup, &mut takes);
    }
    lose_node(&setup, takeover == "on");
    takes
}

/// As if the client's session ids had no node's name: in `ready`, and in the path of an answer of lavaproxy's own.
fn without_names(version: Lavalink, takes: Takes) -> Takes {
    let frame = |id: &str, resumed| text_frame(&ready(version, id, resumed));
    let named_id = format!("{TAG}{ID}");
    let replace = |bytes: &mut Vec<u8>, named: &[u8], plain: &[u8]| {
        let at = support::find(bytes, named);
        at.map(|at| bytes.splice(at..at + named.len(), plain.iter().copied())).is_some()
    };
    let plain = |mut recorded: Recorded| {
        let bytes = &mut recorded.bytes;
        for resumed in [false, true] {
            replace(bytes, &frame(&named_id, resumed), &frame(ID, resumed));
        }
        if replace(bytes, named_id.as_bytes(), ID.as_bytes()) {
            let field = b"Content-Length: ";
            let start = support::find(bytes, field).unwrap() + field.len();
            let digits = bytes[start..].iter().take_while(|byte| byte.is_ascii_digit()).count();
            let length: usize = std::str::from_utf8(&bytes[start..start + digits]).unwrap().parse().unwrap();
            bytes.splice(start..start + digits, (length - TAG.len()).to_string().bytes());
        }
        recorded
    };
    takes.into_iter().map(|(name, ends)| (name, ends.into_iter().map(plain).collect())).collect()
}

fn compare(what: &str, one: &Takes, other: &Takes) {
    for ((name, one), (_, other)) in one.iter().zip(other) {
        for (one, other) in one.iter().zip(other) {
            assert_eq!(one, other, "{what}: {name}");
        }
        assert_eq!(one.len(), other.len(), "{what}: {name}");
    }
    assert_eq!(one.len(), other.len());
}

fn takeovers_change_no_byte(version: Lavalink) {
    let [one_on, one_off, two_on, two_off] = thread::scope(|scope| {
        let play = |(has_two, takeover)| scope.spawn(move || play_all(version, has_two, takeover));
        let playing = [(false, "on"), (false, "off"), (true, "on"), (true, "off")].map(play);
        playing.map(|playing| playing.join().unwrap())
    });
    compare("one node", &one_on, &one_off);
    compare("two nodes", &two_on, &two_off);
    compare("two nodes beside one", &without_names(version, two_on), &one_off);
}

#[test]
fn takeovers_change_no_byte_of_v4() {
    takeovers_change_no_byte(V4);
}

#[test]
fn takeovers_change_no_byte_of_v3() {
    takeovers_change_no_byte(V3);
}
