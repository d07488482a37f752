//! Pretend bots: each keeps a WebSocket and calls REST now and then, the way the bot libraries it imitates do.
//! They touch the proxy's address and the threads they started.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use serde_json::Value;

use super::client::{Http, Socket};
use super::frames::{CLOSE, Incoming, PING, PONG, TEXT, closing};
use crate::config::Lavalink;
use crate::http::peer::Reply;

const STACK: usize = 256 * 1024;
/// A bot reads its WebSocket for this long, then takes one action.
const STEP: Duration = Duration::from_secs(1);
/// The first and the longest pause before a bot tries again.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How many requests go over one connection before a bot opens another.
const CALLS_PER_CONNECTION: u32 = 12;
/// How many steps the shortest WebSocket lasts; others last longer, by the bot's index.
const FEWEST_STEPS: usize = 45;

/// How many loopback addresses the bots connect from, 127.0.0.2 the first.
const ADDRESSES: usize = 5;

/// Pretend bots that come and go until this is dropped.
pub struct Bots {
    signal: Arc<Signal>,
    threads: Vec<JoinHandle<()>>,
}

impl Bots {
    /// Starts `count` bots that connect to `proxy` with `password`, v3 and v4 ones in turn. A bot that
    /// cannot connect tries again, with pauses of up to 30 seconds.
    ///
    /// # Errors
    /// When a thread cannot be had; those that were started are stopped again.
    pub fn start(proxy: SocketAddr, password: &str, count: usize) -> io::Result<Self> {
        let mut bots = Self { signal: Arc::default(), threads: Vec::with_capacity(count) };
        for index in 0..count {
            let bot = Bot {
                index,
                proxy,
                password: password.to_owned(),
                persona: &PERSONAS[index % PERSONAS.len()],
                signal: Arc::clone(&bots.signal),
                rest: None,
                session: String::new(),
                track: String::new(),
            };
            let builder = Builder::new().name(format!("demo-bot-{index}")).stack_size(STACK);
            bots.threads.push(builder.spawn(move || bot.run())?);
        }
        Ok(bots)
    }
}

impl Drop for Bots {
    /// Returns when the last bot has ended: after a second, or a little more when the proxy does not answer.
    fn drop(&mut self) {
        *self.signal.stopped.lock() = true;
        self.signal.changed.notify_all();
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                log::error!("a pretend bot panicked");
            }
        }
    }
}

/// Tells the bots to stop.
#[derive(Default)]
struct Signal {
    stopped: Mutex<bool>,
    changed: Condvar,
}

impl Signal {
    fn is_stopped(&self) -> bool {
        *self.stopped.lock()
    }

    /// Waits, but not once the bots were stopped.
    fn pause(&self, length: Duration) {
        let mut stopped = self.stopped.lock();
        if !*stopped {
            self.changed.wait_for(&mut stopped, length);
        }
    }
}

/// What a bot library sends.
struct Persona {
    version: Lavalink,
    socket: &'static str,
    /// What REST paths start with; empty in libraries of early Lavalink v3.
    prefix: &'static str,
    client: &'static str,
    agent: &'static str,
    /// It plays with ops over the WebSocket, as early Lavalink v3 had it, not over REST.
    ops: bool,
}

const PERSONAS: [Persona; 5] = [
    Persona {
        version: Lavalink::V4,
        socket: "/v4/websocket",
        prefix: "/v4",
        client: "shoukaku/4.3.0 (https://github.com/shipgirlproject/Shoukaku)",
        agent: "shoukaku/4.3.0 (https://github.com/shipgirlproject/Shoukaku)",
        ops: false,
    },
    Persona {
        version: Lavalink::V3,
        socket: "/",
        prefix: "",
        client: "WaveLink",
        agent: "Python/3.11 aiohttp/3.9.5",
        ops: true,
    },
    Persona {
        version: Lavalink::V4,
        socket: "/v4/websocket",
        prefix: "/v4",
        client: "Wavelink/3.5.2",
        agent: "Python/3.12 aiohttp/3.11.11",
        ops: false,
    },
    Persona {
        version: Lavalink::V3,
        socket: "/v3/websocket",
        prefix: "/v3",
        client: "Riffy/1.0.12",
        agent: "node",
        ops: false,
    },
    Persona {
        version: Lavalink::V4,
        socket: "/v4/websocket",
        prefix: "/v4",
        client: "Mafic/2.11.0",
        agent: "Mafic/2.11.0 (https://github.com/ooliver1/mafic)",
        ops: false,
    },
];

struct Bot {
    index: usize,
    proxy: SocketAddr,
    password: String,
    persona: &'static Persona,
    signal: Arc<Signal>,
    /// The kept-alive connection and how often it was used.
    rest: Option<(Http, u32)>,
    session: String,
    /// The last track that was loaded, encoded.
    track: String,
}

impl Bot {
    fn run(mut self) {
        // The bots do not all act in the same instant.
        self.signal.pause(Duration::from_millis((self.index as u64 * 137) % 1000 + 1));
        let mut pause = FIRST_PAUSE;
        while !self.signal.is_stopped() {
            match self.live() {
                Ok(()) => {
                    pause = FIRST_PAUSE;
                    self.signal.pause(pause);
                }
                Err(error) => {
                    log::debug!("pretend bot {}: {error}", self.index);
                    self.rest = None;
                    self.signal.pause(pause);
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }

    /// One WebSocket from handshake to close.
    fn live(&mut self) -> io::Result<()> {
        let mut socket = self.handshake()?;
        let steps = FEWEST_STEPS + self.index % 7 * 10;
        for step in 0..steps {
            if self.signal.is_stopped() {
                break;
            }
            if self.receive(&mut socket)? {
                return Ok(());
            }
            self.act(&mut socket, step)?;
        }
        socket.send(CLOSE, &closing(1000, "reconnecting"))
    }

    fn handshake(&mut self) -> io::Result<Socket> {
        let mut http = Http::connect(self.proxy, self.source())?;
        let Persona { socket, client, .. } = self.persona;
        let user = 100_000_000_000_000_000_u64 + self.index as u64;
        let request = self.head("GET", socket)
            + &format!("User-Id: {user}\r\nClient-Name: {client}\r\n")
            + "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            + "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            + "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n";
        match http.call(request.as_bytes())?.status {
            101 => Ok(http.into_socket()),
            status => Err(io::Error::other(format!("the handshake was answered {status}"))),
        }
    }

    /// The loopback address that the bot connects from, so that the bots are several clients to the proxy.
    fn source(&self) -> Option<Ipv4Addr> {
        let last = u8::try_from(self.index % ADDRESSES).unwrap_or(0) + 2;
        self.proxy.ip().is_loopback().then_some(Ipv4Addr::new(127, 0, 0, last))
    }

    fn head(&self, method: &str, target: &str) -> String {
        let Self { proxy, password, persona, .. } = self;
        let agent = persona.agent;
        format!("{method} {target} HTTP/1.1\r\nHost: {proxy}\r\nAuthorization: {password}\r\nUser-Agent: {agent}\r\n")
    }

    /// Reads the WebSocket for one step; true when the server closed it.
    fn receive(&mut self, socket: &mut Socket) -> io::Result<bool> {
        let until = Instant::now() + STEP;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(false);
            }
            match socket.receive(left)? {
                Some(Incoming::Text(text)) => {
                    let message: Value = serde_json::from_str(&text).unwrap_or_default();
                    if let Some(id) = message.get("sessionId").and_then(Value::as_str) {
                        self.session = id.to_owned();
                    }
                }
                Some(Incoming::Ping(payload)) => socket.send(PONG, &payload)?,
                Some(Incoming::Close(payload)) => {
                    socket.send(CLOSE, &payload)?;
                    return Ok(true);
                }
                Some(Incoming::Pong | Incoming::Binary) | None => {}
            }
        }
    }

    /// Takes one action, chosen by step and bot, so that every run of the demo is the same.
    fn act(&mut self, socket: &mut Socket, step: usize) -> io::Result<()> {
        let Persona { version, prefix, ops, .. } = *self.persona;
        let guild = 900_000_000_000_000_000_u64 + self.index as u64;
        let player = format!("/{}/sessions/{}/players/{guild}", version.name(), self.session);
        let action = if self.track.is_empty() { 0 } else { (step + self.index) % 8 };
        match action {
            0 => {
                let reply = self.call("GET", &format!("{prefix}/loadtracks?identifier=ytsearch%3Asong{step}"), None)?;
                self.track = first_track(&reply.body).unwrap_or_default();
            }
            1 if ops => socket.send(TEXT, op("play", guild, &format!(r#""track":"{}""#, self.track)).as_bytes())?,
            1 if version == Lavalink::V4 => {
                let update = format!(r#"{{"track":{{"encoded":"{}"}}}}"#, self.track);
                self.call("PATCH", &format!("{player}?noReplace=false"), Some(&update))?;
            }
            1 => {
                let update = format!(r#"{{"encodedTrack":"{}"}}"#, self.track);
                self.call("PATCH", &player, Some(&update))?;
            }
            2 if ops => {
                let voice = r#""sessionId":"demo","event":{"endpoint":"eu.discord.invalid","token":"demo"}"#;
                socket.send(TEXT, op("voiceUpdate", guild, voice).as_bytes())?;
            }
            2 => {
                let voice = r#"{"voice":{"token":"demo","endpoint":"eu.discord.invalid","sessionId":"demo"}}"#;
                self.call("PATCH", &player, Some(voice))?;
            }
            3 => {
                self.call("GET", &format!("/{}/stats", version.name()), None)?;
            }
            4 if ops => socket.send(TEXT, op("volume", guild, &format!(r#""volume":{}"#, step % 100)).as_bytes())?,
            4 => {
                self.call("PATCH", &player, Some(&format!(r#"{{"volume":{}}}"#, step % 100)))?;
            }
            5 => socket.send(PING, b"demo")?,
            6 => {
                self.call("GET", "/version", None)?;
            }
            _ => {
                self.call("GET", &format!("{prefix}/loadtracks?identifier=playlist{step}"), None)?;
            }
        }
        Ok(())
    }

    /// One REST call, on the connection of the last call unless that has carried enough.
    fn call(&mut self, method: &str, target: &str, body: Option<&str>) -> io::Result<Reply> {
        let mut request = self.head(method, target);
        if let Some(body) = body {
            request += &format!("Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        } else {
            request += "\r\n";
        }
        let (mut http, used) = match self.rest.take() {
            Some((http, used)) if used < CALLS_PER_CONNECTION => (http, used),
            _ => (Http::connect(self.proxy, self.source())?, 0),
        };
        let reply = http.call(request.as_bytes())?;
        if reply.keep_alive {
            self.rest = Some((http, used + 1));
        }
        Ok(reply)
    }
}

fn op(name: &str, guild: u64, members: &str) -> String {
    format!(r#"{{"op":"{name}","guildId":"{guild}",{members}}}"#)
}

/// The first track of a search, in either version's shape.
fn first_track(result: &[u8]) -> Option<String> {
    let result: Value = serde_json::from_slice(result).ok()?;
    let track = result.pointer("/tracks/0/track").or_else(|| result.pointer("/data/0/encoded"))?;
    track.as_str().map(str::to_owned)
}
