//! One bot's session: its players, the messages to it, and those that are queued while it is away.
//! It writes to the session's socket only, through an [`Outbox`].

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::frames::{CLOSE, PONG, TEXT, closing, frame};
use super::players::{Player, Playing, UPDATE_INTERVAL};
use super::wire::Wire;
use crate::config::Lavalink;

/// How often every session gets stats.
pub(super) const STATS_INTERVAL: Duration = Duration::from_secs(60);
/// How long a session that may be resumed is kept, unless the bot says otherwise.
const DEFAULT_TIMEOUT: i64 = 60;
/// The most messages that are queued for a session that is away, or for a client that does not read.
const MAX_WAITING: usize = 4096;

/// Frames on their way to a client, in the order in which threads queued them.
pub(super) struct Outbox {
    wire: Arc<Wire>,
    queue: Mutex<VecDeque<Vec<u8>>>,
    writing: Mutex<()>,
}

impl Outbox {
    pub(super) fn new(wire: &Arc<Wire>) -> Self {
        Self { wire: Arc::clone(wire), queue: Mutex::default(), writing: Mutex::new(()) }
    }

    /// Queues a message; the next flush writes it.
    pub(super) fn text(&self, text: &str) {
        self.push(frame(TEXT, text.as_bytes(), false));
    }

    pub(super) fn pong(&self, payload: &[u8]) {
        self.push(frame(PONG, payload, false));
    }

    /// Queues a close frame with its payload.
    pub(super) fn close(&self, payload: &[u8]) {
        self.push(frame(CLOSE, payload, false));
    }

    fn push(&self, frame: Vec<u8>) {
        let mut queue = self.queue.lock();
        queue.push_back(frame);
        if queue.len() > MAX_WAITING {
            self.wire.end();
        }
    }

    /// Writes what is queued, unless another thread is writing: then that thread writes it.
    pub(super) fn flush(&self) {
        while !self.queue.lock().is_empty() {
            let Some(_writing) = self.writing.try_lock() else { return };
            self.write_all();
        }
    }

    /// Writes what is queued, after another thread has finished writing.
    pub(super) fn drain(&self) {
        let _writing = self.writing.lock();
        self.write_all();
    }

    fn write_all(&self) {
        while let Some(frame) = self.pop() {
            if self.wire.send(&frame).is_err() {
                self.queue.lock().clear();
                self.wire.end();
            }
        }
    }

    fn pop(&self) -> Option<Vec<u8>> {
        self.queue.lock().pop_front()
    }
}

/// A session, connected or waiting to be resumed.
pub(super) struct Session {
    pub(super) id: String,
    pub(super) version: Lavalink,
    /// `None` while the bot is away.
    pub(super) outbox: Option<Arc<Outbox>>,
    /// The id or key that resumes the session; `None` when it cannot be resumed.
    pub(super) resume_key: Option<String>,
    /// Seconds.
    pub(super) timeout: i64,
    /// When a session whose bot is away ends; `None` also after a handshake claimed it and failed.
    pub(super) expires: Option<Instant>,
    pub(super) players: BTreeMap<i64, Player>,
    /// When something is due next, as of the last [`Self::schedule`].
    pub(super) due: Instant,
    next_stats: Instant,
    waiting: VecDeque<String>,
}

impl Session {
    pub(super) fn new(id: String, version: Lavalink, outbox: Arc<Outbox>, now: Instant) -> Self {
        Self {
            id,
            version,
            outbox: Some(outbox),
            resume_key: None,
            timeout: DEFAULT_TIMEOUT,
            expires: None,
            players: BTreeMap::new(),
            due: now + STATS_INTERVAL,
            next_stats: now + STATS_INTERVAL,
            waiting: VecDeque::new(),
        }
    }

    /// The bot is back: sends the messages that it missed, then the positions of its players.
    pub(super) fn resume(&mut self, outbox: Arc<Outbox>, now: Instant) {
        self.outbox = Some(outbox);
        self.expires = None;
        self.send_ready(true);
        for missed in std::mem::take(&mut self.waiting) {
            self.send(missed);
        }
        let guilds: Vec<i64> = self.players.keys().copied().collect();
        for guild in guilds {
            self.player(guild, now).next_update = now + UPDATE_INTERVAL;
            self.send_position(guild, now);
        }
    }

    /// The bot is away; true when the session can be resumed.
    pub(super) fn park(&mut self, now: Instant) -> bool {
        self.outbox = None;
        let timeout = Duration::from_secs(u64::try_from(self.timeout).unwrap_or(0).min(u64::from(u32::MAX)));
        self.expires = Some(now + timeout);
        self.resume_key.is_some()
    }

    /// Sends a message, or keeps it for when the bot comes back.
    pub(super) fn send(&mut self, text: String) {
        match &self.outbox {
            Some(outbox) => outbox.text(&text),
            None if self.waiting.len() < MAX_WAITING => self.waiting.push_back(text),
            None => {}
        }
    }

    /// <https://lavalink.dev/api/websocket#ready-op>; v3 has the op last.
    pub(super) fn send_ready(&mut self, resumed: bool) {
        let members = format!(r#""resumed":{resumed},"sessionId":"{}""#, self.id);
        self.send(match self.version {
            Lavalink::V3 => format!(r#"{{{members},"op":"ready"}}"#),
            Lavalink::V4 => format!(r#"{{"op":"ready",{members}}}"#),
        });
    }

    /// Sends `playerUpdate` for a guild, making its player if there is none.
    pub(super) fn send_position(&mut self, guild: i64, now: Instant) {
        let version = self.version;
        let message = self.player(guild, now).update_message(version, now);
        self.send(message);
    }

    /// The voice server of a player has answered: reports it.
    pub(super) fn finish_voice(&mut self, guild: i64, now: Instant) {
        self.player(guild, now).finish_voice(now);
        self.send_position(guild, now);
    }

    /// The guild's player, made if there is none.
    pub(super) fn player(&mut self, guild: i64, now: Instant) -> &mut Player {
        self.players.entry(guild).or_insert_with(|| Player::new(guild, now))
    }

    /// Plays a track, or stops with `None`, and reports what ended and what started. `connects` also ends the player's
    /// voice handshake.
    pub(super) fn play(&mut self, guild: i64, next: Option<Playing>, connects: bool, now: Instant) {
        let version = self.version;
        let reason = if next.is_some() { "replaced" } else { "stopped" };
        let player = self.player(guild, now);
        let ended = player.playing.as_ref().map(|last| player.end_message(version, last, reason, now));
        let started = next.as_ref().map(|next| player.start_message(version, next));
        player.set_track(next, now);
        if let Some(ended) = ended {
            self.send(ended);
        }
        if connects {
            self.player(guild, now).finish_voice(now);
        }
        if let Some(started) = started {
            self.send_position(guild, now);
            self.send(started);
            self.send_position(guild, now);
        }
    }

    /// Removes a guild's player and ends its voice connection.
    pub(super) fn destroy(&mut self, guild: i64, now: Instant) {
        if !self.players.contains_key(&guild) {
            return;
        }
        self.play(guild, None, false, now);
        let version = self.version;
        let player = self.player(guild, now);
        if player.close_voice() {
            let closed = player.voice_closed_message(version);
            self.send(closed);
            self.send_position(guild, now);
        }
        self.players.remove(&guild);
    }

    /// True when the stats message is due.
    pub(super) fn wants_stats(&self, now: Instant) -> bool {
        self.next_stats <= now
    }

    /// Sends what is due; `stats` is the stats message.
    pub(super) fn tick(&mut self, now: Instant, stats: &str) {
        if self.wants_stats(now) {
            self.send(stats.to_owned());
            while self.next_stats <= now {
                self.next_stats += STATS_INTERVAL;
            }
        }
        let (version, away) = (self.version, self.outbox.is_none());
        let mut messages = Vec::new();
        for player in self.players.values_mut() {
            if player.ends_at().is_some_and(|end| end <= now) {
                if let Some(last) = &player.playing {
                    messages.push(player.end_message(version, last, "finished", now));
                    player.set_track(None, now);
                }
            } else if !away && player.playing.is_some() && player.next_update <= now {
                messages.push(player.update_message(version, now));
                while player.next_update <= now {
                    player.next_update += UPDATE_INTERVAL;
                }
            }
        }
        messages.into_iter().for_each(|message| self.send(message));
    }

    /// Notes when something is due next, after a change.
    pub(super) fn schedule(&mut self) {
        let away = self.outbox.is_none();
        let updates = self.players.values().filter(|player| !away && player.playing.is_some());
        self.due = updates
            .map(|player| player.next_update)
            .chain(self.players.values().filter_map(Player::ends_at))
            .chain(self.expires)
            .fold(self.next_stats, Instant::min);
    }

    /// Sends a close frame with a code and no reason.
    pub(super) fn send_close(&self, code: u16) {
        if let Some(outbox) = &self.outbox {
            outbox.close(&closing(code, ""));
        }
    }
}
