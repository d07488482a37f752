//! The players of a session while they are made anew on another node. Those that it does not take are set aside: if the
//! attempt fails, the next node gets them too.

use std::time::Instant;

use super::json::{PlayerObject, read};
use super::{Heard, Player, Players, Settling, Span};

impl Players {
    /// This player is being made anew at this position, on a node that knows nothing of it.
    pub fn begin_replay(&mut self, guild: u64, span: Span, now: Instant) {
        if let Some(player) = self.of.get_mut(&guild) {
            player.connected = false;
            // Should this node fail too, the next one makes up for the time that it took.
            player.position = player.position.asked_again(span.position, player.position.runs(), now);
            if let Some(track) = &mut player.track {
                track.end = span.end;
            }
            let heard = player.track.as_ref().filter(|track| track.heard == Heard::Start);
            player.settling = Some(Settling { since: now, start: heard.map(|track| track.id) });
        }
    }

    /// The new node has made the player.
    pub fn end_replay(&mut self, guild: u64, position: u64, answer: &[u8], now: Instant) {
        let version = self.version;
        let Some(player) = self.of.get_mut(&guild) else { return };
        if let Some(answer) = read::<PlayerObject>(answer) {
            player.connected |= answer.is_connected(version);
        }
        player.position = player.position.asked_again(position, player.runs(), now);
        if let Some(settling) = &mut player.settling {
            settling.since = now;
        }
    }

    /// True while a start is expected that the client must not get.
    pub fn awaits_start(&self) -> bool {
        self.of.values().any(|player| player.settling.as_ref().is_some_and(|settling| settling.start.is_some()))
    }

    /// The new node does not take this player.
    pub fn set_aside(&mut self, guild: u64) {
        if let Some(player) = self.of.remove(&guild) {
            self.aside.insert(guild, player);
        }
    }

    /// The attempt has failed: those that were set aside are players as before.
    pub fn put_back(&mut self) {
        self.of.append(&mut self.aside);
    }

    /// A move has failed: the players are what they were before it. The client's requests waited meanwhile.
    pub fn go_back_to(&mut self, before: Self) {
        let mut under_way = std::mem::take(&mut self.under_way);
        under_way.values_mut().for_each(|waiting| (waiting.started, waiting.ended) = (None, None));
        *self = Self { under_way, ..before };
    }

    /// The attempt has succeeded: those that were set aside are gone.
    pub fn forget_aside(&mut self) {
        let gone = std::mem::take(&mut self.aside);
        self.bytes -= gone.values().map(Player::bytes).sum::<usize>();
    }
}
