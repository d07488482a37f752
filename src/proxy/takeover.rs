//! What a tunnel needs so that another node can take its session over: the handshake, what is followed of the session, and
//! the takeover itself, after which the tunnel counts for the other node.

use std::sync::Arc;

use parking_lot::Mutex;
use socket2::Socket;

use super::admitted::Admitted;
use super::ending::Ending;
use super::exchange::Plan;
use super::service::{Routes, Rules, Service};
use crate::config::Lavalink;
use crate::nodes::backend::Backend;
use crate::nodes::load::Session;
use crate::nodes::pool::Pool;
use crate::sessions::client_side::ClientSide;
use crate::sessions::context::Context;
use crate::sessions::kept::Kept;
use crate::sessions::key_watch::KeyWatch;
use crate::sessions::opening::Opening;
use crate::sessions::seat::Place;
use crate::sessions::takeover;
use crate::sessions::watch::Watch;

/// The handshake whose head this is, kept for another node. `None` when sessions are not taken over.
pub fn opening(rules: &Rules, plan: &Plan, head: &[u8]) -> Option<Opening> {
    match &rules.routes {
        Routes::Lavalink(routes) if routes.takeover.on && plan.upgrade => Some(Opening::of(head)),
        _ => None,
    }
}

/// What is followed of a tunnel's session.
pub struct Followed {
    /// What its node sends.
    pub watch: Watch,
    /// What its client sends.
    pub sent: Sent,
}

/// What is followed of what a client sends.
pub struct Sent {
    /// Where clients name their sessions themselves.
    pub keys: Option<KeyWatch>,
    /// If the session can be taken over.
    pub kept: Option<Arc<Kept>>,
}

impl Followed {
    /// Of the session that this node has just agreed to open. `None` when it is no Lavalink node.
    pub fn at(rules: &Rules, node: &Arc<Backend>, socket: &Arc<Socket>, opening: Option<Opening>) -> Option<Self> {
        let Routes::Lavalink(routes) = &rules.routes else { return None };
        let (version, sessions) = (node.version()?, &routes.sessions);
        let names_sessions = routes.pools.get(version).as_ref().is_some_and(|pool| pool.names_sessions());
        let kept = opening.map(|opening| Kept::new(version, opening, sessions.memory(), socket));
        let watch = Watch::new(sessions, node, names_sessions, kept.as_ref());
        let has_keys = names_sessions && version == Lavalink::V3;
        let keys = has_keys.then(|| KeyWatch::new(sessions, node));
        Some(Self { watch, sent: Sent { keys, kept } })
    }
}

/// Finds another node for the session of a tunnel whose node is lost, or that is to move, and notes that the tunnel leads
/// there. A session that was to move and stays where it is gets the socket that it has.
pub fn take_over(
    service: &Service,
    admitted: &Admitted,
    session: &Mutex<Session>,
    ending: &Ending,
    kept: &Kept,
    watch: &mut Watch,
) -> Option<Arc<Socket>> {
    if ending.is_over() || ending.client_left() {
        return None;
    }
    if !is_on(service) {
        match kept.is_asked_to_move() {
            true => kept.end_move(),
            false => kept.refuse("SESSION_TAKEOVER is off"),
        }
        return None;
    }
    let taken = find_node(service, admitted, ending, kept, watch);
    match &taken {
        Some((socket, place)) => {
            if let Some(Place { node, .. }) = place {
                admitted.permit.attach(Arc::clone(socket), node.id());
                admitted.entry.note_node(node.name(), node.address());
                *session.lock() = Session::at(node.load());
            }
            ending.lead_to(socket);
        }
        None => ending.note_loss(kept.client_left()),
    }
    if let Routes::Lavalink(routes) = &service.rules().routes {
        routes.sessions.announce();
    }
    taken.map(|(socket, _)| socket)
}

/// False once a reload has turned takeovers off.
fn is_on(service: &Service) -> bool {
    matches!(&service.rules().routes, Routes::Lavalink(routes) if routes.takeover.on)
}

/// The socket to the node that has the session now, and the session's place there if that is another one.
fn find_node(
    service: &Service,
    admitted: &Admitted,
    ending: &Ending,
    kept: &Kept,
    watch: &mut Watch,
) -> Option<(Arc<Socket>, Option<Place>)> {
    let rules = service.rules();
    let Routes::Lavalink(routes) = &rules.routes else { return None };
    let pool = || -> Option<Arc<Pool>> {
        let Routes::Lavalink(routes) = &service.rules().routes else { return None };
        routes.pools.get(kept.version()).clone()
    };
    let client = ClientSide { stream: &admitted.stream, meter: admitted.entry.meter() };
    let (is_over, client_left) = (|| ending.is_over(), || ending.client_left());
    let (timeout, is_move) = (routes.takeover.timeout, kept.is_asked_to_move());
    let context = Context {
        client,
        timeout,
        has_successor: routes.sessions.has_successor(),
        pool: &pool,
        is_over: &is_over,
        client_left: &client_left,
        is_move,
        let_client_go: &|| admitted.let_client_go(ending.client_end()),
    };
    if !is_move {
        let taking_over = admitted.entry.begin_takeover();
        let (place, socket) = takeover::run(kept, watch, &context).ok()?;
        taking_over.count();
        return Some((socket, Some(place)));
    }
    let moved = takeover::run_move(kept, watch, &context);
    kept.end_move();
    match moved {
        Ok((place, socket)) => Some((socket, Some(place))),
        Err(_) => kept.seat().socket().map(|(socket, _)| (socket, None)),
    }
}
