//! A session that can be taken over: where it is, its players, and what its client is owed while it has no node.
//!
//! The two threads of its tunnel, the requests of its client and a takeover share it. Each of its locks is held for a
//! moment, and the byte path takes one only for the messages that count.

use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use log::info;
use parking_lot::Mutex;
use socket2::Socket;

use super::client_frames::ClientFrame;
use super::client_side::{ClientSide, Debt};
use super::configure_resuming;
use super::events::{self, Event};
use super::memory::Memory;
use super::node_frames::{NodeFrame, Verdict};
use super::opening::Opening;
use super::players::Players;
use super::resume::KeyHash;
use super::resuming::Resuming;
use super::seat::{OVER, Place, Seat};
use crate::config::Lavalink;
use crate::logfmt::Quoted;
use crate::nodes::backend::Backend;

/// The close codes of a node that stops: Lavalink v4 sends 1001 on SIGTERM.
const STOPPING: [u16; 2] = [1001, 1012];
/// The ping that wakes the thread that reads the node. Its payload is that of no client.
const WAKE: &[u8] = b"lavaproxy: move";
/// How often it is tried to move a session.
const MOVE_TRIES: u32 = 3;
const WAKE_HEAD: [u8; 6] = [0x89, 0x80 | WAKE.len() as u8, 0, 0, 0, 0];

/// What is known of the session besides its place.
struct Record {
    players: Players,
    resuming: Option<Resuming>,
    /// The client has set or changed it through this process, or the node has said it.
    resuming_is_known: bool,
    /// The memory that was taken for it.
    bytes: usize,
    /// The next stats are those that a node sends with `ready`, which the client has had.
    drops_stats: bool,
    /// When lavaproxy last resumed it at its node.
    resumed: Option<Instant>,
}

/// What an attempt changes of the record.
pub(super) struct Before {
    players: Players,
    drops_stats: bool,
}

/// A session that can be taken over.
pub struct Kept {
    version: Lavalink,
    opening: Opening,
    memory: Arc<Memory>,
    seat: Arc<Seat>,
    debt: Debt,
    record: Mutex<Record>,
    /// The same session after its client has resumed it: the record is there.
    heir: OnceLock<Arc<Kept>>,
    /// It is not taken over, and nothing is kept of it.
    refused: AtomicBool,
    /// Its node has said that it stops, and keeps no session.
    node_stops: AtomicBool,
    /// It is to be moved as soon as its tunnel can, or is moved now, and how often that was so.
    move_wanted: AtomicBool,
    moves_tried: AtomicU32,
    /// The ids that lead to it, of all its nodes.
    pub(super) ids: Mutex<Vec<Arc<[u8]>>>,
}

impl Kept {
    /// A session whose handshake has just been agreed to.
    pub fn new(version: Lavalink, opening: Opening, memory: &Arc<Memory>, socket: &Arc<Socket>) -> Arc<Self> {
        let players = Players::new(version);
        let record =
            Record { players, resuming: None, resuming_is_known: false, bytes: 0, drops_stats: false, resumed: None };
        Arc::new(Self {
            version,
            opening,
            memory: Arc::clone(memory),
            seat: Seat::new(socket),
            debt: Debt::default(),
            record: Mutex::new(record),
            heir: OnceLock::new(),
            refused: AtomicBool::new(false),
            node_stops: AtomicBool::new(false),
            move_wanted: AtomicBool::new(false),
            moves_tried: AtomicU32::new(0),
            ids: Mutex::default(),
        })
    }

    /// The memory that its players may take.
    pub(super) fn memory(&self) -> &Memory {
        &self.memory
    }

    /// The version of its nodes.
    pub fn version(&self) -> Lavalink {
        self.version
    }

    /// Where it is.
    pub fn seat(&self) -> &Arc<Seat> {
        &self.seat
    }

    /// The handshake that opened it.
    pub(super) fn opening(&self) -> &Opening {
        &self.opening
    }

    /// The session was resumed: what was known of it goes on to be known.
    pub(super) fn adopt(self: &Arc<Self>, before: &Self) {
        let mut old = before.record.lock();
        // The answer to a request may come later.
        let _ = before.heir.set(Arc::clone(self));
        let mut record = self.record.lock();
        record.players = std::mem::replace(&mut old.players, Players::new(self.version));
        (record.resuming, record.bytes) = (old.resuming.take(), std::mem::take(&mut old.bytes));
        record.resuming_is_known = old.resuming_is_known;
    }

    /// The session was resumed: says whether this process knows its players. If not, it cannot be taken over before
    /// [`note_list`](Self::note_list).
    pub(super) fn knows_players(&self, was_adopted: bool) -> bool {
        let mut record = self.record.lock();
        let knows = was_adopted && record.players.are_whole();
        if !knows {
            record.players.miss_list();
        }
        knows
    }

    /// The node has said how the session is resumed. What the client has set meanwhile is newer.
    pub(super) fn note_resuming_of_node(&self, resuming: Option<Resuming>) {
        let mut record = self.record.lock();
        if !record.resuming_is_known && !self.is_refused() {
            (record.resuming, record.resuming_is_known) = (resuming, true);
        }
    }

    /// The node has answered with the list of its players. Returns how many are known then, or `None` when the list is
    /// not understood.
    pub(super) fn note_list(&self, list: &[u8]) -> Option<usize> {
        self.with_players(|players| players.listed(list, Instant::now()).then_some(players.of.len()))
    }

    /// From now on the session is not taken over, and nothing is kept of it.
    pub fn refuse(&self, why: &str) {
        if self.refused.swap(true, SeqCst) {
            return;
        }
        let mut record = self.record.lock();
        record.players.clear();
        record.resuming = None;
        self.memory.change(record.bytes, 0);
        record.bytes = 0;
        drop(record);
        if let Some(place) = self.seat.last_place() {
            info!("event=session-not-kept session={} {} reason={}", place.id, place.node.label(), Quoted(why));
        }
    }

    /// True when nothing is kept of it.
    pub fn is_refused(&self) -> bool {
        self.refused.load(SeqCst)
    }

    /// True when a takeover may be tried if the node is lost now.
    pub fn can_be_taken_over(&self) -> bool {
        self.is_followed() && self.record.lock().players.are_whole()
    }

    /// True when it can be taken over now, or as soon as its players are known.
    pub(super) fn is_followed(&self) -> bool {
        self.seat.is_open() && !self.is_refused() && !self.client_left()
    }

    /// True once the client has closed the WebSocket or ended its side.
    pub fn client_left(&self) -> bool {
        self.seat.client_left()
    }

    /// The node is lost. Ends the socket to it, and answers the pings that it left unanswered. Returns where the
    /// session was.
    pub(super) fn begin_takeover(&self, client: ClientSide<'_>) -> Option<Place> {
        let place = self.seat.lose()?;
        self.seat.shut();
        self.answer_pings(client);
        Some(place)
    }

    /// True when the node that is lost has said that it stops. It is true once.
    pub(super) fn take_stopping(&self) -> bool {
        self.node_stops.swap(false, SeqCst)
    }

    /// Lavaproxy has resumed the session at its node.
    pub(super) fn note_resumed(&self) {
        self.record.lock().resumed = Some(Instant::now());
    }

    /// True when lavaproxy has resumed the session less than this time ago.
    pub(super) fn was_resumed_within(&self, time: Duration) -> bool {
        self.record.lock().resumed.is_some_and(|when| when.elapsed() < time)
    }

    /// The session has a node again, which may be the one that it was to leave. The client first gets all that it is owed;
    /// the bytes that are returned are the rest of that.
    pub(super) fn end_takeover(&self, place: Place, socket: &Arc<Socket>) -> Vec<u8> {
        let owed = self.debt.take(|| self.seat.lead_to(place.number, socket));
        self.seat.settle(place);
        owed
    }

    /// The takeover has failed, or is not wanted any more. The client gets all that it is owed; requests about the
    /// session do not wait any more.
    pub(super) fn end(&self, client: ClientSide<'_>) {
        self.answer_pings(client);
        let owed = self.debt.take(|| self.seat.end());
        // An error means that the client is gone.
        let _ = client.write_all(&owed);
    }

    /// Sends the client these bytes, as far as it takes them at once. The rest waits.
    pub(super) fn owe(&self, bytes: &[u8], client: ClientSide<'_>) {
        self.debt.add(bytes, client);
    }

    /// True when the client reads so slowly that it is sent nothing more for now.
    pub(super) fn owes_too_much(&self, client: ClientSide<'_>) -> bool {
        self.debt.is_too_large(client)
    }

    /// Answers the client's pings and its close frame in the node's stead. False while there is a node, which must get
    /// them.
    pub(super) fn answer_pings(&self, client: ClientSide<'_>) -> bool {
        // Nothing follows the end of the session.
        self.seat.generation() == OVER || self.debt.answer(client, || self.seat.generation() % 2 == 1)
    }

    /// True when the messages of the client count. Lavalink v4 ignores them.
    pub(super) fn looks_at_messages(&self) -> bool {
        self.version == Lavalink::V3
    }

    /// Takes a frame of the client, before the node gets it.
    pub(super) fn note_client_frame(&self, frame: ClientFrame<'_>) {
        match frame {
            ClientFrame::Ping(payload) => self.debt.note_ping(payload),
            ClientFrame::Close(payload) => {
                self.debt.note_close(payload);
                self.seat.note_client_left();
            }
            ClientFrame::Strange => self.refuse("the client sends a frame that is not understood"),
            ClientFrame::Message(_) if !self.looks_at_messages() => {}
            ClientFrame::Message(message) => match message.and_then(configure_resuming::setting_of_message) {
                Some(resuming) => self.note_resuming(Some(resuming)),
                None => self.refuse("the client plays over its WebSocket"),
            },
        }
    }

    /// Takes a frame of the node, and says what happens to it.
    pub(super) fn note_node_frame(&self, frame: NodeFrame<'_>) -> Verdict {
        match frame {
            NodeFrame::Text(payload) => match events::read(self.version, payload) {
                Some(event) if self.note_event(&event) => Verdict::Drop,
                _ => Verdict::Pass,
            },
            NodeFrame::Pong(WAKE) => Verdict::Drop,
            NodeFrame::Pong(payload) => {
                self.debt.note_pong(payload);
                Verdict::Pass
            }
            NodeFrame::Close([high, low, ..]) if STOPPING.contains(&u16::from_be_bytes([*high, *low])) => {
                if !self.can_be_taken_over() {
                    return Verdict::Pass;
                }
                self.node_stops.store(true, SeqCst);
                // The node waits for the client's answer, which does not come. The takeover begins at the end of stream.
                self.seat.shut();
                Verdict::Keep
            }
            NodeFrame::Close(_) => {
                // The node ends this session alone, or answers the client's close.
                self.seat.note_client_left();
                Verdict::Pass
            }
            NodeFrame::Other => Verdict::Pass,
        }
    }

    fn note_event(&self, event: &Event<'_>) -> bool {
        let mut record = self.record.lock();
        if let Event::Stats = event {
            return std::mem::take(&mut record.drops_stats);
        }
        record.players.note(event, Instant::now())
    }

    /// Works on the players, and accounts for the memory that they then take.
    pub(super) fn with_players<T>(&self, work: impl FnOnce(&mut Players) -> T) -> T {
        let mut record = self.record.lock();
        if let Some(heir) = self.heir.get() {
            drop(record);
            return heir.with_players(work);
        }
        let result = work(&mut record.players);
        if self.is_refused() {
            record.players.clear();
        }
        let bytes = record.players.bytes();
        let fits = self.memory.change(record.bytes, bytes);
        if fits {
            record.bytes = bytes;
        }
        drop(record);
        if !fits {
            self.refuse("SESSION_MEMORY is used up");
        }
        result
    }

    /// Notes how the session is resumed.
    pub fn note_resuming(&self, resuming: Option<Resuming>) {
        if !self.is_refused() {
            let mut record = self.record.lock();
            (record.resuming, record.resuming_is_known) = (resuming, true);
        }
    }

    /// How the session is resumed.
    pub(super) fn resuming(&self) -> Option<Resuming> {
        self.record.lock().resuming.clone()
    }

    /// True when its client can resume it.
    pub(super) fn can_be_resumed(&self) -> bool {
        self.record.lock().resuming.as_ref().is_some_and(|resuming| resuming.seconds() > 0)
    }

    /// What stands for the key by which its client can resume it.
    pub(super) fn resume_key(&self) -> Option<KeyHash> {
        self.record.lock().resuming.as_ref()?.key()
    }

    /// The next stats are not for the client.
    pub(super) fn drop_next_stats(&self, drops: bool) {
        self.record.lock().drops_stats = drops;
    }

    /// A request of the client that changes this player.
    pub fn begin_request(self: &Arc<Self>, guild: u64, no_replace: bool) -> PlayerRequest {
        self.with_players(|players| players.begin_request(guild));
        PlayerRequest { kept: Arc::clone(self), guild, no_replace }
    }

    /// Asks the thread that reads the node to move the session: the node's answer to a ping wakes it. False when the
    /// client's own frame is under way to the node; then it must be asked again.
    pub(super) fn ask_to_move(&self) -> bool {
        let Some(is_within_frame) = self.seat.is_within_frame.try_lock() else { return false };
        let Some((socket, generation)) = self.seat.socket() else { return false };
        if *is_within_frame || generation % 2 == 1 {
            return false;
        }
        self.move_wanted.store(true, SeqCst);
        self.moves_tried.fetch_add(1, SeqCst);
        let ping = [&WAKE_HEAD, WAKE].concat();
        match socket.send_with_flags(&ping, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) {
            Ok(sent) => (&*socket).write_all(&ping[sent..]).is_ok(),
            Err(_) => false,
        }
    }

    /// True while it has not been asked to move too often.
    pub(super) fn may_try_to_move(&self) -> bool {
        self.moves_tried.load(SeqCst) < MOVE_TRIES
    }

    /// It may be asked to move as often as one that never was.
    pub(super) fn forget_moves_tried(&self) {
        self.moves_tried.store(0, SeqCst);
    }

    /// True from the time when it is asked to move until that move has ended.
    pub fn is_asked_to_move(&self) -> bool {
        self.move_wanted.load(SeqCst)
    }

    /// The move has ended, well or not, and is counted.
    pub fn end_move(&self) {
        self.move_wanted.store(false, SeqCst);
    }

    /// What a move that fails must go back to.
    pub(super) fn before_move(&self) -> Before {
        let record = self.record.lock();
        Before { players: record.players.clone(), drops_stats: record.drops_stats }
    }

    /// The move has failed.
    pub(super) fn go_back_to(&self, before: Before) {
        self.with_players(|players| players.go_back_to(before.players));
        self.drop_next_stats(before.drops_stats);
    }

    /// The node has given the session its id.
    pub(super) fn opened(&self, node: &Arc<Backend>, id: &str) {
        self.seat.open(node, id);
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        let bytes = self.record.get_mut().bytes;
        self.memory.change(bytes, 0);
    }
}

/// A request that changes a player, until its answer is known.
pub struct PlayerRequest {
    kept: Arc<Kept>,
    guild: u64,
    no_replace: bool,
}

impl PlayerRequest {
    /// The node has answered with the whole player.
    pub fn answered(&self, request: &[u8], answer: &[u8]) {
        let (guild, no_replace) = (self.guild, self.no_replace);
        let answered = |players: &mut Players| players.answered(guild, request, no_replace, answer, Instant::now());
        if !self.kept.with_players(answered) {
            self.cannot_be_kept();
        }
    }

    /// The node has answered with a player that cannot be kept, and another node would not get it.
    pub fn cannot_be_kept(&self) {
        self.kept.refuse("the node's answer is not understood, or a player is over 64 KiB");
    }

    /// The player is gone.
    pub fn removed(&self) {
        self.kept.with_players(|players| players.remove(self.guild));
    }
}

impl Drop for PlayerRequest {
    fn drop(&mut self) {
        self.kept.with_players(|players| players.end_request(self.guild));
    }
}
