//! What travels between the load and the pretend Lavalink: the bytes both sides agree on.

use std::fmt::Write as _;

pub const PASSWORD: &str = "youshallnotpass";
/// A small answer, as most of Lavalink's are.
pub const SMALL: &str = "/v4/info";
/// An answer of [`LARGE_BODY`] bytes.
pub const LARGE: &str = "/v4/loadtracks?identifier=playlist";
pub const LARGE_BODY: usize = 1024 * 1024;
/// Lavalink's chunks hold no more.
const CHUNK: usize = 0x3fec;
/// Comes in a segment of its own, as Lavalink's does.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";
/// A player in its session. Its guild is that of the updates.
pub const PLAYER: &str = "/players/170939974227591168";
/// A track as a node names it.
const ENCODED: &str = "QAAAdQMACVRlc3QgVG9uZQAGVGVzdGVyAAAAAAAAo8gAHmh0dHA6Ly8xMjcuMC4wLjE6ODA4MC90b25lLm1wMwABAB5odHRwOi8vMTI3LjAuMC4xOjgwODAvdG9uZS5tcDMAAAAEaHR0cAADbXAzAAAAAAAAAAA=";
/// A handshake for a session that has a `ready`, before the first answer there.
pub const SESSION: &str = "/v4/websocket?ready";
/// A handshake for echoes of the v3 node.
pub const V3_ECHOES: &str = "/";
/// A handshake for echoes alone.
pub const ECHOES: &str = "/v4/websocket";
pub const MASK: [u8; 4] = [0x1f, 0x8a, 0x3c, 0x57];

/// The node's first message, before and behind the session's id.
const READY: &str = r#"{"op":"ready","resumed":false,"sessionId":""#;
const READY_END: &str = r#""}"#;

/// The first byte of a whole message.
pub const BINARY: u8 = 0x82;
pub const TEXT: u8 = 0x81;
const MASKED: u8 = 0x80;
const LENGTH_OF_TWO: u8 = 126;
const LENGTH_OF_EIGHT: u8 = 127;

/// A request as bots send it.
pub fn get(target: &str, connection: &str) -> Vec<u8> {
    get_with(PASSWORD, target, connection)
}

/// The same with this password.
pub fn get_with(password: &str, target: &str, connection: &str) -> Vec<u8> {
    format!(
        "GET {target} HTTP/1.1\r\nHost: 127.0.0.1:2333\r\nAuthorization: {password}\r\nUser-Agent: bench/1.0\r\n\
         Accept: application/json\r\nConnection: {connection}\r\n\r\n"
    )
    .into_bytes()
}

/// A request that starts a track in a player of this session, as bots send it.
pub fn play(session: &str) -> Vec<u8> {
    let body = format!(r#"{{"track":{{"encoded":"{ENCODED}","userData":{{"requester":"42"}}}},"volume":70}}"#);
    format!(
        "PATCH /v4/sessions/{session}{PLAYER}?noReplace=false HTTP/1.1\r\nHost: 127.0.0.1:2333\r\n\
         Authorization: {PASSWORD}\r\nUser-Agent: bench/1.0\r\nAccept: application/json\r\nConnection: keep-alive\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// A WebSocket handshake as bots send it.
pub fn handshake(target: &str) -> Vec<u8> {
    format!(
        "GET {target} HTTP/1.1\r\nHost: 127.0.0.1:2333\r\nAuthorization: {PASSWORD}\r\n\
         User-Id: 170939974227591168\r\nClient-Name: bench/1.0\r\nUser-Agent: bench/1.0\r\n\
         Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    .into_bytes()
}

/// The answer to a handshake, with Lavalink's fields.
pub fn switching(accept: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nSec-WebSocket-Location: \
         ws://127.0.0.1:2333/v4/websocket\r\nSession-Resumed: false\r\nUpgrade: WebSocket\r\n\
         Lavalink-Api-Version: 4\r\nSec-WebSocket-Accept: {accept}\r\nDate: Mon, 23 Nov 2026 15:12:41 GMT\r\n\r\n"
    )
    .into_bytes()
}

/// The head and the chunks of an answer, without the last one.
pub fn chunked(body: &[u8]) -> Vec<u8> {
    let mut answer = b"HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\
        Content-Type: application/json\r\nLavalink-Api-Version: 4\r\nDate: Mon, 23 Nov 2026 15:12:41 GMT\r\n\r\n"
        .to_vec();
    for chunk in body.chunks(CHUNK) {
        let digits = if chunk.len() > 0xff { 4 } else { 2 };
        answer.extend_from_slice(format!("{:0digits$x}\r\n", chunk.len()).as_bytes());
        answer.extend_from_slice(chunk);
        answer.extend_from_slice(b"\r\n");
    }
    answer
}

/// The body at [`SMALL`].
pub fn small_body() -> Vec<u8> {
    br#"{"version":{"semver":"4.2.2","major":4,"minor":2,"patch":2,"preRelease":""},"buildTime":1772380847000,"git":{"branch":"4.2.2","commit":"0000000","commitTime":1772380800000},"jvm":"17.0.15","lavaplayer":"2.2.6","sourceManagers":["http","local"],"filters":["volume","equalizer","karaoke","timescale","tremolo","vibrato","distortion","rotation","channelMix","lowPass"],"plugins":[]}"#
        .to_vec()
}

/// The body at [`PLAYER`]: the player as it is then.
pub fn player_body() -> Vec<u8> {
    let info = r#"{"identifier":"http://127.0.0.1:8080/tone.mp3","isSeekable":true,"author":"Tester","length":41928,"isStream":false,"position":0,"title":"Test Tone","uri":"http://127.0.0.1:8080/tone.mp3","sourceName":"http","artworkUrl":null,"isrc":null}"#;
    let track = format!(r#"{{"encoded":"{ENCODED}","info":{info},"pluginInfo":{{}},"userData":{{"requester":"42"}}}}"#);
    let state = r#"{"time":1763983241000,"position":0,"connected":true,"ping":12}"#;
    let voice =
        r#"{"token":"0123456789abcdef","endpoint":"voice.example:443","sessionId":"0123456789abcdef0123456789abcdef"}"#;
    format!(
        r#"{{"guildId":"170939974227591168","track":{track},"volume":70,"paused":false,"state":{state},"voice":{voice},"filters":{{}}}}"#
    )
    .into_bytes()
}

/// The body at [`LARGE`]: a playlist without end.
pub fn large_body() -> Vec<u8> {
    let mut body = String::with_capacity(LARGE_BODY + 256);
    let mut number = 0;
    while body.len() < LARGE_BODY {
        number += 1;
        let _ =
            write!(body, r#"{{"encoded":"QAAAdQMACVRlc3QgVG9uZQ{number:08}","info":{{"title":"Tone {number}"}}}},"#);
    }
    body.truncate(LARGE_BODY);
    body.into_bytes()
}

/// The node's first message.
pub fn ready(session: usize) -> Vec<u8> {
    let message = format!("{READY}{session:016}{READY_END}");
    server_frame(TEXT, message.as_bytes())
}

/// The session's id in that message.
pub fn session_id(ready: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(ready.get(2..)?).ok()?;
    text.strip_prefix(READY)?.strip_suffix(READY_END)
}

/// What a client sends: one frame.
pub fn client_frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = frame_head(first, payload.len(), MASKED);
    frame.extend_from_slice(&MASK);
    frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

/// What the node answers to it.
pub fn server_frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = frame_head(first, payload.len(), 0);
    frame.extend_from_slice(payload);
    frame
}

/// Answers a client's frame at the start of `bytes` into `echo`; its length, or none while it is not complete.
pub fn echo(bytes: &[u8], echo: &mut Vec<u8>) -> Option<usize> {
    let (head, payload) = match *bytes.get(1)? & !MASKED {
        LENGTH_OF_TWO => (4, usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?))),
        LENGTH_OF_EIGHT => (10, usize::try_from(u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?)).ok()?),
        short => (2, usize::from(short)),
    };
    let mask: [u8; 4] = bytes.get(head..head + 4)?.try_into().ok()?;
    let masked = bytes.get(head + 4..head + 4 + payload)?;
    echo.extend_from_slice(&frame_head(bytes[0], payload, 0));
    let at = echo.len();
    echo.extend_from_slice(masked);
    for (index, byte) in echo[at..].iter_mut().enumerate() {
        *byte ^= mask[index % 4];
    }
    Some(head + 4 + payload)
}

fn frame_head(first: u8, payload: usize, masked: u8) -> Vec<u8> {
    let mut head = vec![first];
    match payload {
        0..126 => head.push(masked | payload as u8),
        126..0x1_0000 => {
            head.push(masked | LENGTH_OF_TWO);
            head.extend_from_slice(&(payload as u16).to_be_bytes());
        }
        _ => {
            head.push(masked | LENGTH_OF_EIGHT);
            head.extend_from_slice(&(payload as u64).to_be_bytes());
        }
    }
    head
}
