//! Moves of all sessions of one node to others, a few a second, while an operator drains it. A thread for each node.

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use log::{info, warn};

use super::kept::Kept;
use super::table::Sessions;
use crate::nodes::backend::Backend;
use crate::nodes::move_progress::MoveFigures;

/// How often it is looked at the last sessions, twice a second: longer than a node may take to name its players.
const LAST: u32 = 200;
const SECOND: Duration = Duration::from_secs(1);

/// Starts to move the sessions of this node, `rate` a second, until none is left that can be moved, the node drains no
/// more, they are stopped, or a successor starts, which gets the requests about the sessions. While `has_other` says that
/// there is no node to move them to, they wait. It does nothing when that is under way already.
///
/// # Errors
/// When no thread can be started.
pub fn start(
    sessions: &Arc<Sessions>,
    node: &Arc<Backend>,
    rate: usize,
    has_other: impl Fn(&Backend) -> bool + Send + 'static,
) -> io::Result<()> {
    if !node.load().moves().begin() {
        return Ok(());
    }
    let (sessions, moved) = (Arc::clone(sessions), Arc::clone(node));
    let name = format!("moves-{}", node.name());
    let started = thread::Builder::new().name(name).spawn(move || run(&sessions, &moved, rate, has_other));
    if started.is_err() {
        node.load().moves().end();
    }
    started.map(drop)
}

fn run(sessions: &Sessions, node: &Backend, rate: usize, has_other: impl Fn(&Backend) -> bool) {
    let moves = node.load().moves();
    let pause = SECOND / u32::try_from(rate.max(1)).unwrap_or(u32::MAX);
    // Those that could not be moved before may be now.
    sessions.kept_at(node.id()).iter().for_each(|kept| kept.forget_moves_tried());
    let (mut under_way, mut idle) = (Vec::new(), 0);
    while goes_on(node) {
        under_way.retain(|kept: &Arc<Kept>| kept.is_asked_to_move() && !kept.client_left());
        let left = sessions.kept_at(node.id());
        let none_is_left = under_way.is_empty() && !left.iter().any(|kept| kept.may_try_to_move());
        if idle >= LAST || sessions.has_successor() || none_is_left {
            moves.end();
            break;
        }
        if waits(node, has_other(node)) {
            idle = 0;
            thread::sleep(SECOND / 2);
            continue;
        }
        let may_be_asked = |kept: &Arc<Kept>| {
            !kept.is_asked_to_move() && kept.may_try_to_move() && kept.can_be_taken_over() && kept.ask_to_move()
        };
        let asked = left.into_iter().find(may_be_asked);
        idle = if asked.is_some() { 0 } else { idle + 1 };
        thread::sleep(if asked.is_some() { pause } else { pause.max(SECOND / 2) });
        under_way.extend(asked);
    }
    let (MoveFigures { moved, failed, .. }, left) = (moves.figures(), node.load().sessions());
    info!("event=moves-ended {} moved={moved} failed={failed} left={left}", node.label());
}

/// True while the moves are wanted. They have ended when it returns false.
fn goes_on(node: &Backend) -> bool {
    if !node.health().is_draining() {
        node.load().moves().stop();
    }
    node.load().moves().go_on()
}

/// Notes whether the moves wait for another node, which it returns.
fn waits(node: &Backend, has_other: bool) -> bool {
    if node.load().moves().set_waiting(!has_other) && !has_other {
        let hint = "no other node is in rotation; start one, or activate one that drains";
        warn!("event=moves-waiting {} hint=\"{hint}\"", node.label());
    }
    !has_other
}
