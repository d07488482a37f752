//! Bots that play music. Their nodes are killed, and they must not notice: no request may fail in fair weather, no track
//! may start anew, and at the end each player on its node must be as its bot has set it.
//!
//! A session whose process has a successor may end when its node is lost: the successor has the bot's requests, and
//! nobody knows all of its players.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::PASSWORD;
use crate::connection::{Connection, read_status};
use crate::ledger::Group;
use crate::load::{Load, within};
use crate::node::Weather;
use crate::random::Random;
use crate::tunnels::{HANDSHAKE, read_ready};
use crate::wire::{PATIENCE, Tried, Trouble};

/// How far a player may be from its place, and once more for each restart of a node since it was last looked at.
const SLACK: Duration = Duration::from_millis(1500);
/// A position may be an old one for so long after a change.
const LAG: Duration = Duration::from_millis(500);
const GUILDS: u64 = 5;
/// More bytes than the players of a bot are in an answer, and than a bot hears.
const MOST_PLAYERS: u64 = 64 * 1024;
const MOST_MESSAGES: u64 = 1024 * 1024;
const TEXT: u8 = 0x81;
const CLOSE: u8 = 0x88;
const PONG: u8 = 0x8a;
const SERVICE_RESTART: [u8; 2] = 1012_u16.to_be_bytes();

pub fn play(load: &Load, random: &mut Random) -> Tried<()> {
    let version = random.pick(&["v3", "v4", "v4", "v4"]);
    let mut bot = {
        let _steady = load.steady();
        let _calm = load.calm(version);
        Bot::open(load, version)?
    };
    for _ in 0..random.between(5, 60) {
        if load.pause(random.millis(50, 1000)) {
            break;
        }
        if !bot.listens()? {
            return Ok(());
        }
        bot.act(random)?;
    }
    bot.compare_and_leave()
}

/// What a bot has set of a player.
struct Set {
    track: String,
    number: u64,
    volume: u64,
    paused: bool,
    filters: Value,
    /// Where it was at this moment, when that many restarts of nodes had begun or ended.
    position: Duration,
    at: Instant,
    weather: Weather,
}

impl Set {
    fn position_now(&self) -> Duration {
        if self.paused { self.position } else { self.position + self.at.elapsed() }
    }
}

#[derive(Default)]
struct Player {
    /// `None` when there is none, or when the answer to the last change has not come.
    set: Option<Set>,
    /// The answer to the last change has not come.
    is_unknown: bool,
    changed: Option<Instant>,
    /// How often a track was to start, and how often one has.
    plays: u64,
    starts: u64,
    last_position: Option<u64>,
}

struct Bot<'l> {
    load: &'l Load,
    version: &'static str,
    session: String,
    socket: Connection<'l>,
    players: BTreeMap<u64, Player>,
    pings: u64,
    last_ping: Instant,
    /// When it was opened.
    upgrades: u64,
    /// At the last request that was answered.
    last_weather: Weather,
    last_upgrades: u64,
}

impl<'l> Bot<'l> {
    fn open(load: &'l Load, version: &'static str) -> Tried<Self> {
        let mut socket = Connection::open(load, Group::Abrupt)?;
        socket.promise(MOST_MESSAGES);
        let (upgrades, last_weather) = (load.upgrades(), load.weather(version));
        let head =
            format!("GET /{version}/websocket HTTP/1.1\r\nHost: soak\r\nAuthorization: {PASSWORD}\r\n{HANDSHAKE}\r\n");
        socket.send_raw(head.as_bytes(), true)?;
        let answer = socket.answer_head()?;
        if read_status(&answer)?.status != 101 {
            return Err(Trouble::wrong(format!("no tunnel although all nodes are up: {answer}")));
        }
        socket.all_was_read();
        let session = read_ready(&mut socket)?;
        let (last_ping, players) = (Instant::now(), BTreeMap::new());
        Ok(Self {
            load,
            version,
            session,
            socket,
            players,
            pings: 0,
            last_ping,
            upgrades,
            last_weather,
            last_upgrades: upgrades,
        })
    }

    /// Sends a ping, and reads all messages up to its pong. False when the session has ended, and may have.
    fn listens(&mut self) -> Tried<bool> {
        self.pings += 1;
        let payload = self.pings.to_be_bytes();
        let ping = [&[0x89, 0x80 | payload.len() as u8, 0, 0, 0, 0][..], &payload].concat();
        let is_settled_since = self.last_ping;
        self.last_ping = Instant::now();
        let sent = self.socket.wire.send(&ping).map_err(Trouble::from);
        match sent.and_then(|()| self.hear(is_settled_since)) {
            Ok((PONG, pong)) if pong == payload => Ok(true),
            Err(Trouble::Wrong(what)) => Err(Trouble::Wrong(what)),
            Ok((first, frame)) if first != CLOSE || !frame.starts_with(&SERVICE_RESTART) => {
                Err(Trouble::wrong(format!("a frame that begins with {first:#x}: {frame:?}")))
            }
            _ if self.load.upgrades() > self.upgrades => {
                self.load.trouble("a session ended with its node after an upgrade");
                Ok(false)
            }
            other => Err(Trouble::wrong(format!("the session {} of {} ended: {other:?}", self.session, self.version))),
        }
    }

    /// Reads frames up to one that is no message, and looks at the messages.
    fn hear(&mut self, is_settled_since: Instant) -> Tried<(u8, Vec<u8>)> {
        loop {
            let (first, payload) = self.socket.wire.frame()?;
            if first != TEXT {
                return Ok((first, payload));
            }
            let message: Value =
                serde_json::from_slice(&payload).map_err(|error| Trouble::wrong(format!("{error} in a message")))?;
            self.note(&message, is_settled_since)?;
        }
    }

    fn note(&mut self, message: &Value, is_settled_since: Instant) -> Tried<()> {
        if message["op"] == "ready" {
            return Err(Trouble::wrong("ready came again"));
        }
        let guild = message["guildId"].as_str().and_then(|guild| guild.parse().ok());
        let Some(player) = guild.and_then(|guild: u64| self.players.get_mut(&guild)) else { return Ok(()) };
        let wrong = |what: &str| Err(Trouble::wrong(format!("{what}: {message}")));
        if message["type"] == "TrackStartEvent" {
            player.starts += 1;
            return if player.starts > player.plays { wrong("a track that nobody has started") } else { Ok(()) };
        }
        if message["type"] == "TrackEndEvent" {
            let reason = message["reason"].as_str().unwrap_or_default().to_lowercase();
            return if matches!(&*reason, "replaced" | "stopped") { Ok(()) } else { wrong("a track that has ended") };
        }
        let is_settled = player.changed.is_some_and(|changed| changed + LAG < is_settled_since);
        let playing = player.set.as_ref().filter(|set| !set.paused && is_settled);
        if message["op"] != "playerUpdate" || playing.is_none() {
            return Ok(());
        }
        let position = message["state"]["position"].as_u64().unwrap_or(0);
        if message["state"]["connected"] != true || player.last_position.is_some_and(|last| position < last) {
            return wrong(&format!("the last position was {:?}", player.last_position));
        }
        player.last_position = Some(position);
        Ok(())
    }

    /// Changes a player, or looks at one.
    fn act(&mut self, random: &mut Random) -> Tried<()> {
        let guild = random.between(1, GUILDS);
        let has_it = self.players.get(&guild).is_some_and(|player| player.set.is_some());
        match random.between(0, 9) {
            0 if has_it => self.remove(guild),
            1..=2 if has_it => self.change(guild, &json!({"volume": random.between(0, 200)})),
            3..=4 if has_it => self.change(guild, &json!({"paused": random.one_in(2)})),
            5 if has_it => self.change(guild, &json!({"position": random.between(0, 60_000)})),
            6 if has_it => self.change(guild, &json!({"filters": {"volume": random.between(1, 9)}})),
            7..=8 if has_it => self.look(guild),
            _ => self.start(guild, random),
        }
    }

    /// Sets all of a player. The voice server is the one that it has, if it has one.
    fn start(&mut self, guild: u64, random: &mut Random) -> Tried<()> {
        let voice = json!({"token": "token", "endpoint": "voice.example:443", "sessionId": format!("voice-{guild}")});
        let mut change = json!({
            "voice": voice,
            "position": random.between(0, 60_000),
            "volume": random.between(0, 200),
            "paused": random.one_in(4),
            "filters": {"rotation": {"rotationHz": random.between(1, 9)}},
        });
        let (track, number) = (format!("song {}", random.between(0, 9)), random.between(0, 999));
        match self.version {
            "v3" => change["identifier"] = track.into(),
            _ => change["track"] = json!({"identifier": track, "userData": {"number": number}}),
        }
        self.change(guild, &change)
    }

    fn change(&mut self, guild: u64, change: &Value) -> Tried<()> {
        let starts = change.get("identifier").or(change["track"].get("identifier")).is_some();
        let player = self.players.entry(guild).or_default();
        (player.is_unknown, player.changed, player.last_position) = (true, Some(Instant::now()), None);
        player.plays += u64::from(starts);
        let before = player.set.take();
        // A restart may begin between the node's answer and its arrival here.
        let weather = self.load.weather(self.version);
        let Some(answer) = self.ask("PATCH", &format!("/players/{guild}"), &change.to_string(), 200)? else {
            return Ok(());
        };
        let now = Instant::now();
        let position = change["position"].as_u64().map(Duration::from_millis);
        let position = position.or_else(|| before.as_ref().map(Set::position_now)).unwrap_or_default();
        let set = Set {
            track: answer["track"]["info"]["identifier"].to_string(),
            number: answer["track"]["userData"]["number"].as_u64().unwrap_or(0),
            volume: answer["volume"].as_u64().unwrap_or(u64::MAX),
            paused: answer["paused"] == true,
            filters: answer["filters"].clone(),
            position,
            at: now,
            weather: before.as_ref().filter(|_| !starts).map_or(weather, |set| set.weather),
        };
        for (field, value) in change.as_object().into_iter().flatten() {
            if matches!(&**field, "volume" | "paused" | "filters") && answer[field] != *value {
                return Err(Trouble::wrong(format!("{field} of {answer} after {change}")));
            }
        }
        // A change keeps the rest as it was.
        if let Some(before) = before.filter(|_| !starts) {
            let rest = |set: &Set| (set.track.clone(), set.number);
            if rest(&set) != rest(&before) {
                return Err(Trouble::wrong(format!("{answer} after {change}, the track was {}", before.track)));
            }
        }
        let player = self.players.entry(guild).or_default();
        (player.set, player.is_unknown, player.changed) = (Some(set), false, Some(now));
        self.load.done("changes of players");
        Ok(())
    }

    fn remove(&mut self, guild: u64) -> Tried<()> {
        let player = self.players.entry(guild).or_default();
        (player.set, player.is_unknown, player.last_position) = (None, true, None);
        if self.ask("DELETE", &format!("/players/{guild}"), "", 204)?.is_some() {
            self.players.entry(guild).or_default().is_unknown = false;
        }
        Ok(())
    }

    /// Compares a player with what it must be.
    fn look(&mut self, guild: u64) -> Tried<()> {
        let asked_in = self.load.weather(self.version);
        let Some(answer) = self.ask("GET", &format!("/players/{guild}"), "", 200)? else { return Ok(()) };
        self.compare(guild, &answer, asked_in)
    }

    fn compare(&mut self, guild: u64, player: &Value, asked_in: Weather) -> Tried<()> {
        let weather = self.load.weather(self.version);
        let Some(Player { set: Some(set), changed, .. }) = self.players.get_mut(&guild) else { return Ok(()) };
        let found = (
            player["track"]["info"]["identifier"].to_string(),
            player["track"]["userData"]["number"].as_u64().unwrap_or(0),
            player["volume"].as_u64().unwrap_or(u64::MAX),
            player["paused"] == true,
            player["filters"].clone(),
        );
        let expected = (set.track.clone(), set.number, set.volume, set.paused, set.filters.clone());
        let wrong = |what: &str| Err(Trouble::wrong(format!("{what}, {expected:?} was set: {player}")));
        if found != expected {
            return wrong("another player");
        }
        // v3 does not tell, nor does a player that is paused.
        let is_told = !set.paused && changed.is_some_and(|changed| changed.elapsed() > LAG);
        let Some(position) = player["state"]["position"].as_u64().filter(|_| is_told) else { return Ok(()) };
        let (position, expected_position) = (Duration::from_millis(position), set.position_now());
        if position.abs_diff(expected_position) > SLACK + SLACK * weather.restarts_since(set.weather) {
            return wrong(&format!("the position is not {expected_position:?}"));
        }
        (set.position, set.at, set.weather) = (position, Instant::now(), asked_in);
        Ok(())
    }

    /// A request about the session. `None` when it failed, which only a restart or an upgrade excuses.
    fn ask(&mut self, method: &str, path: &str, body: &str, expected: u16) -> Tried<Option<Value>> {
        let Self { version, session, .. } = self;
        let head = format!(
            "{method} /{version}/sessions/{session}{path} HTTP/1.1\r\nHost: soak\r\nAuthorization: {PASSWORD}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut connection = Connection::open(self.load, Group::Abrupt)?;
        let answered = exchange(&mut connection, head.as_bytes());
        if let Ok((_, _, closes)) = &answered {
            if *closes { connection.close_at_end()? } else { connection.close()? }
        }
        let weather = self.load.weather(self.version);
        let upgrades = self.load.upgrades();
        match answered {
            Ok((status, body, _)) if status == expected => {
                (self.last_weather, self.last_upgrades) = (weather, upgrades);
                Ok(Some(serde_json::from_str(&body).unwrap_or_default()))
            }
            Err(Trouble::Wrong(what)) => Err(Trouble::Wrong(what)),
            // The predecessor finishes a takeover, and tells within a second where the session is.
            Ok((404, ..)) if upgrades > self.upgrades => {
                self.load.trouble("a request came before the place of its session was known after an upgrade");
                Ok(None)
            }
            _ if weather.is_fair_since(self.last_weather) && upgrades == self.last_upgrades => {
                Err(Trouble::wrong(format!("{answered:?} in fair weather to {head}")))
            }
            Ok((404, ..)) => Err(Trouble::wrong(format!("{answered:?} without an upgrade to {head}"))),
            _ => {
                self.load.trouble("a request about a player failed while a node restarted");
                Ok(None)
            }
        }
    }

    /// All nodes are up: the players must be as they were set. Then the bot leaves in order.
    fn compare_and_leave(mut self) -> Tried<()> {
        let load = self.load;
        let _steady = load.steady();
        let _calm = load.calm(self.version);
        if !self.listens()? {
            return Ok(());
        }
        self.compare_all()?;
        // Where those that are paused are shows when they play on.
        for guild in self.known(|player| player.set.as_ref().is_some_and(|set| set.paused)) {
            self.change(guild, &json!({"paused": false}))?;
        }
        thread::sleep(2 * LAG);
        self.compare_all()?;
        if self.listens()? { self.leave() } else { Ok(()) }
    }

    fn compare_all(&mut self) -> Tried<()> {
        let asked_in = self.load.weather(self.version);
        let mut list = Ok(None);
        // After an upgrade, its predecessor tells where a session is once a second.
        let may_fail = self.load.upgrades() > self.upgrades;
        within(if may_fail { PATIENCE } else { Duration::ZERO }, || {
            list = self.ask("GET", "/players", "", 200);
            !matches!(list, Ok(None)) || (may_fail && !matches!(self.listens(), Ok(true)))
        });
        let Some(list) = list? else {
            // Its node was lost after an upgrade.
            return match may_fail && !self.listens()? {
                true => Ok(()),
                false => Err(Trouble::wrong("its players are not to be had although the nodes are up")),
            };
        };
        let mut found: BTreeMap<u64, Value> = BTreeMap::new();
        for player in list.as_array().into_iter().flatten() {
            let guild = player["guildId"].as_str().and_then(|guild| guild.parse().ok());
            found.insert(guild.unwrap_or(0), player.clone());
        }
        for guild in self.known(|_| true) {
            let is_set = self.players[&guild].set.is_some();
            match found.get(&guild) {
                Some(player) if is_set => self.compare(guild, player, asked_in)?,
                None if !is_set => {}
                other => return Err(Trouble::wrong(format!("the player {guild} is {other:?} in {list}"))),
            }
            self.load.done("players compared");
        }
        Ok(())
    }

    /// The players of which is known what they are.
    fn known(&self, is_it: impl Fn(&Player) -> bool) -> Vec<u64> {
        self.players.iter().filter(|(_, player)| !player.is_unknown && is_it(player)).map(|(guild, _)| *guild).collect()
    }

    fn leave(mut self) -> Tried<()> {
        self.socket.wire.send(&[&[CLOSE, 0x82, 0, 0, 0, 0][..], &1000_u16.to_be_bytes()].concat())?;
        let now = Instant::now();
        let (first, code) = self.hear(now)?;
        if first != CLOSE || code != 1000_u16.to_be_bytes() {
            return Err(Trouble::wrong(format!("{first:#x} {code:?} to a close frame")));
        }
        self.socket.close_at_end()
    }
}

/// The status, the body, and whether the connection closes.
fn exchange(connection: &mut Connection<'_>, request: &[u8]) -> Tried<(u16, String, bool)> {
    connection.promise(MOST_PLAYERS);
    connection.send_raw(request, true)?;
    let head = connection.answer_head()?;
    let answer = read_status(&head)?;
    let body = if answer.status == 204 { Vec::new() } else { connection.wire.body(&head)? };
    connection.all_was_answered();
    Ok((answer.status, String::from_utf8_lossy(&body).into_owned(), answer.closes))
}
