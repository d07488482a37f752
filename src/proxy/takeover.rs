//! What a tunnel needs so that another node can take its session over: the handshake, the watches of both directions, and
//! the takeover itself, after which the tunnel counts for the other node.

use std::sync::Arc;

use parking_lot::Mutex;
use socket2::Socket;

use super::admitted::Admitted;
use super::exchange::Plan;
use super::service::{Routes, Rules, Service};
use super::tunnel::Watches;
use crate::config::Lavalink;
use crate::nodes::backend::Backend;
use crate::nodes::load::Session;
use crate::nodes::pool::Pool;
use crate::sessions::client_side::ClientSide;
use crate::sessions::context::Context;
use crate::sessions::kept::Kept;
use crate::sessions::opening::Opening;
use crate::sessions::takeover;
use crate::sessions::watch::Watch;

/// The handshake whose head this is, kept for another node. `None` when sessions are not taken over.
pub fn opening(rules: &Rules, plan: &Plan, head: &[u8]) -> Option<Opening> {
    match &rules.routes {
        Routes::Lavalink(routes) if routes.takeover.on && plan.upgrade => Some(Opening::of(head)),
        _ => None,
    }
}

/// What looks at the frames of a tunnel to this node.
pub fn watches(rules: &Rules, node: &Arc<Backend>, socket: &Arc<Socket>, opening: Option<Opening>) -> Option<Watches> {
    let Routes::Lavalink(routes) = &rules.routes else { return None };
    let version = node.version()?;
    let names_sessions = routes.pools.get(version).as_ref().is_some_and(|pool| pool.names_sessions());
    let sets_keys = names_sessions && version == Lavalink::V3;
    let kept = opening.map(|opening| Kept::new(version, opening, routes.sessions.memory(), socket));
    let down = Watch::down(&routes.sessions, node, names_sessions, kept.as_ref());
    let up = Watch::up(&routes.sessions, node, sets_keys);
    Some(Watches { down, up, kept })
}

/// Finds another node for the session of a tunnel, and notes that the tunnel leads there. A session that was to be moved
/// and stays where it is gets the socket that it has.
pub fn take_over(
    service: &Service,
    admitted: &Admitted,
    session: &Mutex<Session>,
    kept: &Kept,
    down: &mut Watch,
    is_over: &(dyn Fn() -> bool + Sync),
) -> Option<Arc<Socket>> {
    let rules = service.rules();
    let Routes::Lavalink(routes) = &rules.routes else { return None };
    let pool = || -> Option<Arc<Pool>> {
        let Routes::Lavalink(routes) = &service.rules().routes else { return None };
        routes.pools.get(kept.version()).clone()
    };
    let client = ClientSide { stream: &admitted.stream, meter: admitted.entry.meter() };
    let context = Context { client, timeout: routes.takeover.timeout, pool: &pool, is_over };
    let (place, socket) = if kept.take_move() {
        match takeover::run_move(kept, down, &context) {
            Ok(moved) => moved,
            Err(_) => return kept.seat().socket().map(|(socket, _)| socket),
        }
    } else {
        let taking_over = admitted.entry.begin_takeover();
        let taken = takeover::run(kept, down, &context).ok()?;
        taking_over.count();
        taken
    };
    admitted.permit.attach(Arc::clone(&socket), place.node.id());
    admitted.entry.note_node(place.node.name(), place.node.address());
    *session.lock() = Session::at(place.node.load());
    Some(socket)
}
