//! Many bots without a library, each at an address of its own: a WebSocket that is resumed whenever it ends, and random
//! requests whose answers tell which node has given them.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::fleet::mark;
use crate::music::{next_frame, voice};
use crate::support::{Client, HANDSHAKE, PASSWORD, PATIENCE, eventually, read};

/// How soon the quickest libraries connect again.
const PAUSE: Duration = Duration::from_millis(100);

pub struct Crowd {
    bots: Vec<Arc<PlainBot>>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Crowd {
    pub fn start(count: u8, front: SocketAddr) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let bots: Vec<_> = (1..=count).map(|number| Arc::new(PlainBot::new(number, front))).collect();
        let start = |bot: &Arc<PlainBot>| {
            let (bot, stop) = (Arc::clone(bot), Arc::clone(&stop));
            thread::spawn(move || {
                if let Err(why) = bot.live(&stop) {
                    bot.state.lock().unwrap().complaint = Some(why);
                }
            })
        };
        let threads = bots.iter().map(start).collect();
        Self { bots, stop, threads }
    }

    pub fn bots(&self) -> impl Iterator<Item = &PlainBot> {
        self.bots.iter().map(|bot| &**bot)
    }

    /// Fails at the first thing that was wrong.
    pub fn are_connected(&self) -> bool {
        self.bots().all(|bot| {
            let state = bot.state.lock().unwrap();
            assert!(state.complaint.is_none(), "bot {}: {}", bot.number, state.complaint.as_deref().unwrap());
            state.is_connected
        })
    }

    /// Waits until each bot has had some more answers.
    pub fn await_requests(&self) {
        let of = |bot: &PlainBot| bot.state.lock().unwrap().requests;
        let before: Vec<_> = self.bots().map(of).collect();
        eventually("each bot has more answers", || {
            self.are_connected() && self.bots().zip(&before).all(|(bot, before)| of(bot) > before + 3)
        });
    }

    /// How often bots have come back.
    pub fn comebacks(&self) -> usize {
        self.bots().map(|bot| bot.state.lock().unwrap().comebacks).sum()
    }

    /// The requests and handshakes that came to nothing since the last call: when each was begun, and why it did.
    pub fn take_failures(&self) -> Vec<(Instant, String)> {
        self.bots().flat_map(|bot| std::mem::take(&mut bot.state.lock().unwrap().failures)).collect()
    }

    /// The ids of their sessions, how many sessions they opened, and how many answers they had.
    pub fn finish(mut self) -> (Vec<String>, u64, u64) {
        assert!(self.are_connected());
        self.stop.store(true, SeqCst);
        self.threads.drain(..).for_each(|thread| thread.join().unwrap());
        let of = |bot: &PlainBot| {
            let state = bot.state.lock().unwrap();
            assert!(state.complaint.is_none(), "bot {}: {}", bot.number, state.complaint.as_deref().unwrap());
            (state.id.clone().unwrap(), (1 + state.early, state.requests))
        };
        let (ids, counts): (Vec<_>, Vec<_>) = self.bots().map(of).unzip();
        let (opened, requests): (Vec<_>, Vec<_>) = counts.into_iter().unzip();
        (ids, opened.iter().sum(), requests.iter().sum())
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.stop.store(true, SeqCst);
        self.threads.drain(..).for_each(|thread| drop(thread.join()));
    }
}

pub struct PlainBot {
    number: u8,
    front: SocketAddr,
    state: Mutex<State>,
}

struct State {
    id: Option<String>,
    is_connected: bool,
    requests: u64,
    comebacks: usize,
    early: u64,
    ended: Instant,
    back: Instant,
    failures: Vec<(Instant, String)>,
    complaint: Option<String>,
}

impl PlainBot {
    fn new(number: u8, front: SocketAddr) -> Self {
        let now = Instant::now();
        let state = State {
            id: None,
            is_connected: false,
            requests: 0,
            comebacks: 0,
            early: 0,
            ended: now,
            back: now,
            failures: Vec::new(),
            complaint: None,
        };
        Self { number, front, state: Mutex::new(state) }
    }

    /// When its WebSocket was opened last.
    pub fn last_back(&self) -> Instant {
        self.state.lock().unwrap().back
    }

    /// How long it had no WebSocket the last time.
    pub fn last_absence(&self) -> Duration {
        let state = self.state.lock().unwrap();
        state.back - state.ended
    }

    fn source(&self) -> Ipv4Addr {
        Ipv4Addr::new(127, 0, 3, self.number)
    }

    fn guild(&self) -> String {
        format!("9000{}", self.number)
    }

    fn title(&self) -> String {
        format!("track of bot {} (1)", self.number)
    }

    fn live(&self, stop: &AtomicBool) -> Result<(), String> {
        let mut random = u64::from(self.number).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        while !stop.load(SeqCst) {
            let mut socket = self.connect(stop)?;
            while !stop.load(SeqCst) {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let begun = Instant::now();
                if let Err(why) = self.ask(random >> 33) {
                    // Only what was asked through a lavaproxy that ended then may come to nothing.
                    if !has_ended(&mut socket, PATIENCE / 2) {
                        return Err(why);
                    }
                    // The node does not answer about a session whose WebSocket has ended.
                    if !why.contains("Session not found") {
                        self.state.lock().unwrap().failures.push((begun, why));
                    }
                    break;
                }
                self.state.lock().unwrap().requests += 1;
                if has_ended(&mut socket, Duration::from_millis(20 + (random >> 40) % 200)) {
                    break;
                }
            }
            drop(socket);
            if !stop.load(SeqCst) {
                let mut state = self.state.lock().unwrap();
                (state.is_connected, state.ended) = (false, Instant::now());
                drop(state);
                thread::sleep(PAUSE);
            }
        }
        Ok(())
    }

    /// Opens its session, or resumes it; tries again until it can.
    fn connect(&self, stop: &AtomicBool) -> Result<Client, String> {
        let id = self.state.lock().unwrap().id.clone();
        loop {
            let begun = Instant::now();
            match self.handshake(id.as_deref()) {
                Ok((socket, ready)) => {
                    let got = ready["sessionId"].as_str().unwrap_or_default().to_owned();
                    if id.as_ref().is_some_and(|id| node_of(id) != node_of(&got)) {
                        return Err(format!("{id:?} was answered by {ready}"));
                    }
                    if id.as_ref().is_some_and(|id| *id != got) {
                        // On a busy machine its node may not have seen the end of the last WebSocket yet.
                        self.state.lock().unwrap().early += 1;
                        drop(socket);
                        thread::sleep(PAUSE);
                        continue;
                    }
                    self.state.lock().unwrap().id = Some(got);
                    if id.is_none() {
                        self.begin()?;
                    }
                    let mut state = self.state.lock().unwrap();
                    state.comebacks += usize::from(id.is_some());
                    (state.is_connected, state.back) = (true, Instant::now());
                    return Ok(socket);
                }
                Err(why) if stop.load(SeqCst) => return Err(why),
                Err(why) => self.state.lock().unwrap().failures.push((begun, why)),
            }
            thread::sleep(PAUSE);
        }
    }

    fn handshake(&self, id: Option<&str>) -> Result<(Client, Value), String> {
        let mut client = self.open()?;
        let resume = id.map_or(String::new(), |id| format!("Session-Id: {id}\r\n"));
        let head =
            format!("GET /v4/websocket HTTP/1.1\r\nHost: bot\r\nAuthorization: {PASSWORD}\r\n{HANDSHAKE}{resume}\r\n");
        client.try_send(head.as_bytes()).map_err(|error| format!("handshake: {error}"))?;
        let answer = client.next_head().ok_or("no answer to a handshake")?;
        if !answer.starts_with(b"HTTP/1.1 101 ") {
            return Err(String::from_utf8_lossy(&answer).into_owned());
        }
        loop {
            let (_, payload) = next_frame(&mut client).ok_or("the end before ready")?;
            let message: Value = serde_json::from_slice(&payload).map_err(|error| error.to_string())?;
            if message["op"] == "ready" {
                return Ok((client, message));
            }
        }
    }

    /// Makes the session one that can be resumed, with a player that is this bot's alone.
    fn begin(&self) -> Result<(), String> {
        self.request("PATCH", "/v4/sessions/ID", "", &json!({"resuming": true, "timeout": 60}).to_string())?;
        let track = json!({"identifier": format!("track of bot {}", self.number)});
        let body = json!({"track": track, "voice": voice(u64::from(self.number))});
        let path = format!("/v4/sessions/ID/players/{}", self.guild());
        self.request("PATCH", &path, "", &body.to_string()).map(drop)
    }

    /// One of three requests; each answer says who has given it.
    fn ask(&self, random: u64) -> Result<(), String> {
        let is_own =
            |player: &Value| player["guildId"] == *self.guild() && player["track"]["info"]["title"] == *self.title();
        let (answer, is_right) = match random % 3 {
            0 => {
                let players = self.request("GET", "/v4/sessions/ID/players", "", "")?;
                let is_right = players.as_array().is_some_and(|players| players.len() == 1 && is_own(&players[0]));
                (players, is_right)
            }
            1 => {
                let (path, volume) = (format!("/v4/sessions/ID/players/{}", self.guild()), random / 3 % 1000);
                let player = self.request("PATCH", &path, "", &json!({"volume": volume}).to_string())?;
                let is_right = is_own(&player) && player["volume"] == volume;
                (player, is_right)
            }
            _ => {
                let node = ["eu1", "eu2", "eu3"][(random / 3 % 3) as usize];
                let stats = self.request("GET", "/v4/stats", &format!("Lavalink-Node: {node}\r\n"), "")?;
                let is_right = stats["players"] == mark(node);
                (stats, is_right)
            }
        };
        if is_right { Ok(()) } else { Err(format!("a wrong answer: {answer}")) }
    }

    /// A request on a connection of its own; ID stands for the session's.
    fn request(&self, method: &str, path: &str, fields: &str, body: &str) -> Result<Value, String> {
        let id = self.state.lock().unwrap().id.clone().unwrap_or_default();
        let path = path.replace("ID", &id);
        let mut client = self.open()?;
        // A body of HTTP/1.0 has no chunks.
        let head = format!("{method} {path} HTTP/1.0\r\nHost: bot\r\nAuthorization: {PASSWORD}\r\n{fields}");
        let length = match body {
            "" => String::new(),
            _ => format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len()),
        };
        client.try_send(format!("{head}{length}\r\n{body}").as_bytes()).map_err(|error| format!("{path}: {error}"))?;
        let (answer, error) = client.rest_or_error();
        let answer = String::from_utf8_lossy(&answer).into_owned();
        match answer.split_once("\r\n\r\n") {
            Some((head, body)) if head.split(' ').nth(1) == Some("200") && error.is_none() => {
                serde_json::from_str(body).map_err(|error| format!("{path}: {error}: {answer}"))
            }
            _ => Err(format!("{method} {path}: {error:?} {answer}")),
        }
    }

    fn open(&self) -> Result<Client, String> {
        Client::try_connect_from(self.source(), self.front).map_err(|error| format!("connect: {error}"))
    }
}

fn node_of(id: &str) -> &str {
    id.split_once('.').map_or("", |(node, _)| node)
}

/// Whether the WebSocket ends within this time; what comes on it is dropped.
fn has_ended(socket: &mut Client, time: Duration) -> bool {
    let (since, mut piece) = (Instant::now(), [0; 4096]);
    loop {
        let left = time.saturating_sub(since.elapsed()).max(Duration::from_millis(1));
        socket.stream.set_read_timeout(Some(left)).unwrap();
        match read(&socket.stream, &mut piece) {
            Ok(0) => return true,
            Ok(_) if since.elapsed() < time => {}
            Ok(_) => return false,
            Err(error) => return !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
        }
    }
}
