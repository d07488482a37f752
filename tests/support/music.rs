//! Bots that play music through lavaproxy, and what they hear of it.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::io::Write;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use lavaproxy::config::Lavalink;
use lavaproxy::demo::Node;
use serde_json::{Value, json};

use crate::nodes::{Bot, masked};
use crate::support::{Client, Response, eventually};

/// No other text may look like it, so that a leak is found.
pub const VOICE_TOKEN: &str = "v0iCe-t0k3n-7c1d";

/// What a bot has heard over its WebSocket.
#[derive(Debug, Default)]
pub struct Heard {
    /// Messages, with the time of each.
    pub messages: Vec<(Instant, Value)>,
    pub pongs: Vec<Vec<u8>>,
    /// The code of the close frame.
    pub close: Option<u16>,
    /// The stream has ended.
    pub has_ended: bool,
    /// Bytes so far, those of the handshake included.
    pub received: u64,
}

/// A bot with players.
pub struct Musician {
    pub version: Lavalink,
    pub proxy: SocketAddr,
    pub id: String,
    pub heard: Arc<Mutex<Heard>>,
    /// Bytes so far, those of the handshake included.
    pub sent: Mutex<u64>,
    stream: TcpStream,
    reader: Option<JoinHandle<()>>,
    is_reset: bool,
}

impl Musician {
    pub fn open(proxy: SocketAddr, version: Lavalink, fields: &str) -> Self {
        let bot = Bot::open_with(proxy, version, fields);
        let Bot { client, id, .. } = bot;
        let stream = client.stream.try_clone().unwrap();
        let sent = Mutex::new(client.sent);
        client.stream.set_read_timeout(None).unwrap();
        let heard: Arc<Mutex<Heard>> = Arc::default();
        let own = Arc::clone(&heard);
        let reader = Some(thread::spawn(move || read(client, &own)));
        Self { version, proxy, id, heard, sent, stream, reader, is_reset: false }
    }

    /// `PATCH` of a player.
    pub fn patch(&self, guild: u64, query: &str, body: &Value) -> Response {
        self.rest("PATCH", &format!("/players/{guild}{query}"), &body.to_string())
    }

    /// Plays this identifier with a voice server, at a position, with more fields.
    pub fn play(&self, guild: u64, identifier: &str, more: Value) -> Value {
        let mut body = json!({"voice": voice(guild)});
        match self.version {
            Lavalink::V3 => body["identifier"] = identifier.into(),
            Lavalink::V4 => body["track"] = json!({"identifier": identifier, "userData": {"guild": guild}}),
        }
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let heard = self.count();
        let answer = self.patch(guild, "", &body);
        assert_eq!(answer.status, 200, "{}", answer.text());
        let name = guild.to_string();
        self.await_message(heard, "the start", |message| {
            is_event(message, "TrackStartEvent") && message["guildId"] == *name
        });
        answer.json()
    }

    pub fn rest(&self, method: &str, path: &str, body: &str) -> Response {
        let mut client = Client::connect(self.proxy);
        let target = format!("/{}/sessions/{}{path}", self.version.name(), self.id);
        let fields = match body {
            "" => String::new(),
            _ => format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len()),
        };
        client.request(method, &target, &fields, body.as_bytes())
    }

    /// The player as the node has it.
    pub fn player(&self, guild: u64) -> Value {
        let answer = self.rest("GET", &format!("/players/{guild}"), "");
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()
    }

    pub fn send(&self, bytes: &[u8]) {
        (&self.stream).write_all(bytes).unwrap();
        *self.sent.lock().unwrap() += bytes.len() as u64;
    }

    /// Sends a ping and waits for its pong.
    pub fn ping(&self, payload: &str) {
        self.send(&masked(0x89, payload.as_bytes()));
        self.await_pong(payload);
    }

    pub fn await_pong(&self, payload: &str) {
        eventually(&format!("a pong {payload}"), || {
            self.heard.lock().unwrap().pongs.iter().any(|pong| pong == payload.as_bytes())
        });
    }

    /// How many messages have come so far.
    pub fn count(&self) -> usize {
        self.heard.lock().unwrap().messages.len()
    }

    /// The messages from the `start`th on.
    pub fn since(&self, start: usize) -> Vec<Value> {
        self.heard.lock().unwrap().messages[start..].iter().map(|(_, message)| message.clone()).collect()
    }

    /// Waits for a message from the `start`th on.
    pub fn await_message(&self, start: usize, what: &str, is_it: impl Fn(&Value) -> bool) -> Value {
        let mut found = None;
        eventually(what, || {
            found = self.since(start).into_iter().find(|message| is_it(message));
            found.is_some()
        });
        found.unwrap()
    }

    pub fn is_open(&self) -> bool {
        let heard = self.heard.lock().unwrap();
        heard.close.is_none() && !heard.has_ended
    }

    pub fn await_end(&self) -> Option<u16> {
        eventually("the WebSocket ends", || self.heard.lock().unwrap().has_ended);
        self.heard.lock().unwrap().close
    }

    pub fn half_close(&self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }

    /// Closes with a reset.
    pub fn reset(mut self) {
        crate::support::reset(&self.stream);
        self.is_reset = true;
    }
}

impl Drop for Musician {
    fn drop(&mut self) {
        // Ending the writing side would send a proper end before the reset.
        let _ = self.stream.shutdown(if self.is_reset { Shutdown::Read } else { Shutdown::Both });
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

fn read(mut client: Client, heard: &Mutex<Heard>) {
    loop {
        let Some((first, payload)) = next_frame(&mut client) else {
            heard.lock().unwrap().has_ended = true;
            return;
        };
        let mut heard = heard.lock().unwrap();
        heard.received = client.received - client.pending.len() as u64;
        match first {
            0x81 => {
                let message = serde_json::from_slice(&payload).unwrap_or_else(|error| {
                    panic!("{error}: {}", String::from_utf8_lossy(&payload));
                });
                heard.messages.push((Instant::now(), message));
            }
            0x8a => heard.pongs.push(payload),
            0x88 => heard.close = Some(payload.get(..2).map_or(0, |code| u16::from_be_bytes([code[0], code[1]]))),
            other => panic!("a frame that begins with {other:#x}"),
        }
    }
}

/// The next frame; `None` at the end of the stream.
pub fn next_frame(client: &mut Client) -> Option<(u8, Vec<u8>)> {
    let head = exactly(client, 2)?;
    let length = match head[1] {
        126 => u16::from_be_bytes(exactly(client, 2)?.try_into().unwrap()) as usize,
        127 => u64::from_be_bytes(exactly(client, 8)?.try_into().unwrap()) as usize,
        short => usize::from(short),
    };
    Some((head[0], exactly(client, length)?))
}

fn exactly(client: &mut Client, count: usize) -> Option<Vec<u8>> {
    while client.pending.len() < count {
        client.try_fill()?;
    }
    Some(client.pending.drain(..count).collect())
}

pub fn voice(guild: u64) -> Value {
    json!({"token": VOICE_TOKEN, "endpoint": "voice.example:443", "sessionId": format!("voice-{guild}")})
}

/// A position in a player or in a message.
pub fn position(value: &Value) -> i64 {
    value["state"]["position"].as_i64().unwrap_or_else(|| panic!("no position in {value}"))
}

pub fn is_event(message: &Value, kind: &str) -> bool {
    message["op"] == "event" && message["type"] == kind
}

/// The node but this one that has a session.
pub fn await_sessions(node: &Node, count: usize) {
    eventually(&format!("{} has {count} sessions", node.name()), || node.sessions() == count);
}

/// Waits for so long: music needs time to play.
pub fn listen_for(time: Duration) {
    thread::sleep(time);
}
