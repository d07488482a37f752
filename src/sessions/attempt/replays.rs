//! The players of an attempt: each is made anew by a request of its own, a few at once.

use std::collections::VecDeque;
use std::fmt::Display;
use std::io::Write;
use std::time::{Duration, Instant};

use log::warn;

use super::{ANSWER_TIME, Attempt, Stop, TURN};
use crate::http::peer::Reply;
use crate::nodes::backend::Link;
use crate::nodes::gate::Pass;
use crate::sessions::context::Made;
use crate::sessions::replay::{self, Replay};
use crate::sessions::request::{get, patch};

/// The most replays at once.
const AT_ONCE: usize = 4;
/// The longest wait for a sign that a node lives which has answered no replay.
const SIGN_TIME: Duration = Duration::from_secs(5);

/// A replay whose answer is awaited.
pub(super) struct InFlight {
    link: Link,
    replay: Replay,
    until: Instant,
    pass: Pass,
}

impl Attempt<'_> {
    /// Makes all players anew, those that play first.
    pub(super) fn replay(&mut self) -> Result<(), Stop> {
        let mut waiting: VecDeque<u64> = self.kept.with_players(|players| replay::order(players)).into();
        loop {
            while self.in_flight.len() < AT_ONCE && !waiting.is_empty() {
                // Who has passed the gate does not wait there again.
                let pass = match self.in_flight.is_empty() {
                    true => Some(self.enter_and_read()?),
                    false => self.node.load().gate().try_enter(),
                };
                let (Some(pass), Some(guild)) = (pass, waiting.front().copied()) else { break };
                waiting.pop_front();
                self.send_replay(guild, pass)?;
            }
            if self.in_flight.is_empty() {
                return self.check_moved();
            }
            match self.answered()? {
                Some(answered) => self.finish_replay(answered)?,
                None => self.leave_silent()?,
            }
        }
    }

    /// A session stays where its players play rather than move to a node that takes none of them.
    fn check_moved(&self) -> Result<(), Stop> {
        match self.made {
            Made { made: 0, refused: 1.. } if self.context.is_move => {
                Err(Stop::Node(format!("{} refuses all players", self.node)))
            }
            _ => Ok(()),
        }
    }

    /// Waits for the answer to a replay. `None` when the time of the oldest one is over.
    fn answered(&mut self) -> Result<Option<InFlight>, Stop> {
        loop {
            self.check()?;
            self.read_frames()?;
            if let Some(at) = self.in_flight.iter().position(|replay| replay.link.has_news()) {
                return Ok(self.in_flight.remove(at));
            }
            match self.in_flight.front() {
                Some(oldest) if Instant::now() < oldest.until => {
                    oldest.link.wait_for_news(TURN).map_err(|error| Stop::node("the node does not answer", &error))?
                }
                _ => return Ok(None),
            };
        }
    }

    /// Gives up the oldest replay, which a node may never answer: Lavalink waits without end where a voice server cannot be
    /// reached. A node that has answered none at all has failed, unless it still answers something else.
    fn leave_silent(&mut self) -> Result<(), Stop> {
        let Some(InFlight { replay, .. }) = self.in_flight.pop_front() else { return Ok(()) };
        if self.made.made + self.made.refused == 0 {
            let link = self.connect()?;
            self.ask(&get(&self.node, "/version"), Some(&link), SIGN_TIME)?;
        }
        self.drop_player(replay.guild, "none");
        Ok(())
    }

    fn send_replay(&mut self, guild: u64, pass: Pass) -> Result<(), Stop> {
        let link = self.connect()?;
        let now = Instant::now();
        let replay = self.kept.with_players(|players| {
            let replay = replay::request(players, guild, now)?;
            players.begin_replay(guild, replay.span, now);
            Some(replay)
        });
        let Some(replay) = replay else { return Ok(()) };
        let target = format!("/{}/sessions/{}/players/{guild}", self.kept.version(), self.id);
        let request = patch(&self.node, &target, &replay.body);
        (&link).write_all(&request).map_err(|error| Stop::node("the node takes no request", &error))?;
        self.in_flight.push_back(InFlight { link, replay, until: Instant::now() + ANSWER_TIME, pass });
        Ok(())
    }

    fn finish_replay(&mut self, answered: InFlight) -> Result<(), Stop> {
        let InFlight { link, replay, pass, .. } = answered;
        let (reply, _) = self.ask(b"", Some(&link), ANSWER_TIME)?;
        drop(pass);
        if reply.keep_alive {
            self.free.push(link);
        }
        let now = Instant::now();
        if reply.status == 200 {
            self.made.made += 1;
            self.kept.with_players(|players| players.end_replay(replay.guild, replay.span.position, &reply.body, now));
            return Ok(());
        }
        if is_session_gone(&reply) {
            return Err(Stop::Node(format!("{} has lost the session again", self.node)));
        }
        self.drop_player(replay.guild, reply.status);
        Ok(())
    }

    fn drop_player(&mut self, guild: u64, status: impl Display) {
        self.made.refused += 1;
        self.kept.with_players(|players| players.set_aside(guild));
        warn!("event=player-refused {} session={} guild={guild} status={status}", self.node.label(), self.id);
    }
}

/// True when the node does not know the session.
fn is_session_gone(reply: &Reply) -> bool {
    const GONE: &[u8] = b"Session not found";
    reply.status == 404 && reply.body.windows(GONE.len()).any(|window| window == GONE)
}
