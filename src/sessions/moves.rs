//! Moves of all sessions of one node to others, a few a second, while an operator drains it. A thread for each node.

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use log::info;

use super::kept::Kept;
use super::table::Sessions;
use crate::nodes::backend::Backend;

/// How often a session is asked to move.
const ATTEMPTS: u32 = 3;
/// How long the last sessions may take.
const LAST: u32 = 120;
const SECOND: Duration = Duration::from_secs(1);

/// Starts to move the sessions of this node, `rate` a second, until none is left that can be moved or the node drains no
/// more. It does nothing when that is under way already.
///
/// # Errors
/// When no thread can be started.
pub fn start(sessions: &Arc<Sessions>, node: &Arc<Backend>, rate: usize) -> io::Result<()> {
    if !node.load().begin_moves() {
        return Ok(());
    }
    let (sessions, moved) = (Arc::clone(sessions), Arc::clone(node));
    let name = format!("moves-{}", node.name());
    let started = thread::Builder::new().name(name).spawn(move || {
        run(&sessions, &moved, rate);
        moved.load().end_moves();
    });
    if started.is_err() {
        node.load().end_moves();
    }
    started.map(drop)
}

fn run(sessions: &Sessions, node: &Backend, rate: usize) {
    let pause = SECOND / u32::try_from(rate.max(1)).unwrap_or(u32::MAX);
    let mut idle = 0;
    while node.health().is_draining() && idle < LAST {
        let left = sessions.kept_at(node.id());
        let waits = |kept: &&Arc<Kept>| !kept.is_asked_to_move() && kept.moves_tried() < ATTEMPTS;
        let is_asked = left.iter().filter(waits).any(|kept| kept.ask_to_move());
        let may_move = |kept: &Arc<Kept>| kept.is_asked_to_move() || kept.moves_tried() < ATTEMPTS;
        if !left.iter().any(may_move) {
            break;
        }
        idle = if is_asked { 0 } else { idle + 1 };
        thread::sleep(if is_asked { pause } else { pause.max(SECOND / 2) });
    }
    let ((moved, failed), left) = (node.load().moves(), node.load().sessions());
    info!("event=moves-ended {} moved={moved} failed={failed} left={left}", node.label());
}
