//! The node for a request, and a connection to it. It reads the request's head, the pool and the sessions, and connects.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::exchange::{Followup, Plan, Ready};
use super::forward::{Cuts, NODE_FIELD};
use super::forwarded::Trail;
use super::load::{self, LoadRetry};
use super::service::LavalinkRoutes;
use super::session_request::{self, SessionRequest};
use super::upload::{MAX_COPY, Upload};
use crate::config::Lavalink;
use crate::error::{BackendFault, Fault};
use crate::http::body::{BodyError, Framing};
use crate::http::head::{self, Request};
use crate::nodes::backend::{Backend, Link};
use crate::nodes::pool::{Pool, Purpose};
use crate::sessions::id;
use crate::sessions::kept::Kept;
use crate::sessions::resume::{self, KeyHash};
use crate::sessions::seat::{Overdue, Place, Visit};
use crate::sessions::table::Sessions;

/// How long a node that takes no connection may not be known to be lost. Its WebSockets end at once when it dies.
const LOSS_TIME: Duration = Duration::from_secs(1);

/// A request to a node of this version, with a connection to it. `note` gets the node, also when no connection is to be
/// had.
///
/// # Errors
/// 400, 413, 502, 503 or 504.
pub fn for_node(
    routes: &LavalinkRoutes,
    version: Lavalink,
    request: &Request<'_, '_>,
    trail: &Trail,
    max_body: u64,
    note: impl Fn(&Backend),
) -> Result<(Ready, Cuts), Fault> {
    let pool = routes.pools.get(version).as_ref().ok_or(Fault::NoBackend(version))?;
    let mut choice = Choice::of(request, version, pool, routes)?;
    let sets_key = version == Lavalink::V3 && choice.is_about_session && request.method == "PATCH";
    let may_retry = routes.load_retry
        && choice.is_free()
        && load::is_load(request.method, request.path(), version)
        && LoadRetry::can_repeat(request.framing);
    let session = choice.session_request(request);
    let max_copy = match &session {
        Some(_) => session_request::MAX_BODY as u64,
        None if sets_key || may_retry => MAX_COPY,
        None => 0,
    };
    let upload = Upload::new(request.framing, max_body, max_copy)?;
    let linked = choice.link(pool, &routes.sessions);
    let visit = choice.visit.take();
    note(linked.as_ref().map_or(choice.expected(pool), |(backend, _)| backend));
    let (backend, link) = linked?;
    let may_retry = may_retry && pool.has_other(&backend);
    let retry = may_retry.then(|| {
        let (trail, cuts, pool) = (trail.clone(), choice.cuts.clone(), Arc::clone(pool));
        Box::new(LoadRetry { trail, cuts, pool })
    });
    let keys = sets_key.then(|| Arc::clone(&routes.sessions));
    let plan = Plan::new(request, request.upgrade.is_some());
    Ok((Ready { plan, upload, backend, link, followup: Followup { retry, keys, session, visit } }, choice.cuts))
}

/// A request to the web pages. Only a POST may have a body there.
///
/// # Errors
/// 413, 502, 503 or 504.
pub fn for_monitor(pages: &Arc<Backend>, request: &Request<'_, '_>, max_body: u64) -> Result<Ready, Fault> {
    let has_body = !matches!(request.framing, Framing::None | Framing::Length(0));
    if has_body && request.method != "POST" {
        return Err(Fault::Body(BodyError::TooLarge, 0));
    }
    let upload = Upload::new(request.framing, max_body, 0)?;
    let link = pages.link(pages.connect_timeout())?;
    let (plan, followup) = (Plan::new(request, false), Followup::default());
    Ok(Ready { plan, upload, backend: Arc::clone(pages), link, followup })
}

/// The names that the ids of sessions may begin with.
struct Names<'p> {
    pool: Option<&'p Pool>,
    former: Arc<Vec<Arc<str>>>,
}

impl<'p> Names<'p> {
    fn of(pool: &'p Pool, sessions: &Sessions) -> Self {
        Self { pool: Some(pool).filter(|pool| pool.has_named_sessions()), former: sessions.former_names() }
    }

    fn iter(&self) -> impl Iterator<Item = &str> {
        let present = self.pool.into_iter().flat_map(Pool::names);
        present.chain(self.former.iter().map(|name| &**name))
    }

    fn is_empty(&self) -> bool {
        self.pool.is_none() && self.former.is_empty()
    }
}

/// Which node a request is for.
struct Choice {
    wanted: Wanted,
    purpose: Purpose,
    key: Option<KeyHash>,
    /// What the node does not get of the head.
    cuts: Cuts,
    /// True for a request about a session itself, whose body may set the session's key.
    is_about_session: bool,
    /// The session in the path, if it can be taken over or was, and where its id stands.
    session: Option<(Arc<Kept>, Range<usize>)>,
    /// It is at the node that the request goes to.
    visit: Option<Visit>,
}

enum Wanted {
    /// No other node will do.
    Only(Arc<Backend>),
    /// Another one if this one does not take the connection.
    First(Arc<Backend>),
    Any,
}

impl Choice {
    /// By `Lavalink-Node`, else by the session in the path, in `Session-Id` or by v3's `Resume-Key`, else by load.
    ///
    /// # Errors
    /// 400 for the name of a node that is not there.
    fn of(request: &Request<'_, '_>, version: Lavalink, pool: &Pool, routes: &LavalinkRoutes) -> Result<Self, Fault> {
        let sessions = &routes.sessions;
        let purpose = if request.upgrade.is_some() { Purpose::Session } else { Purpose::Request };
        let (wanted, cuts) = (Wanted::Any, Cuts::default());
        let mut choice = Self { wanted, purpose, key: None, cuts, is_about_session: false, session: None, visit: None };
        let names = Names::of(pool, sessions);
        if purpose == Purpose::Session {
            await_takeover(request, version, pool, &names, sessions);
        }
        if !names.is_empty() {
            choice.find_session(request, pool, &names, sessions);
            choice.find_session_field(request, pool, &names, sessions);
        }
        if pool.has_named_sessions() {
            if version == Lavalink::V3 && purpose == Purpose::Session {
                choice.find_key(request, pool, sessions);
            }
            choice.find_named(request, pool)?;
        }
        choice.find_kept(request, pool, &names, sessions)?;
        Ok(choice)
    }

    /// The session of the request, if it can be taken over or was. What names it gets its present id. While a predecessor
    /// takes it over, waits for the end of that.
    ///
    /// # Errors
    /// 504 when that takes too long.
    fn find_kept(
        &mut self,
        request: &Request<'_, '_>,
        pool: &Pool,
        names: &Names<'_>,
        sessions: &Sessions,
    ) -> Result<(), Fault> {
        let is_of_another_node = |node: Option<&str>| match &self.wanted {
            Wanted::Only(wanted) if self.cuts.node_field => node != Some(wanted.name()),
            _ => false,
        };
        if let Some(found) =
            id::in_target(request.target.path, names.iter()).filter(|found| !is_of_another_node(found.node))
        {
            let own = &request.target.path.as_bytes()[found.own.clone()];
            let range = found.prefix.start..found.own.end;
            if let Some(kept) = sessions.kept(own, found.node) {
                self.session = Some((kept, range));
            } else {
                let awaited = sessions.await_predecessor(own, found.node, response_deadline(pool));
                awaited.map_err(|Overdue| BackendFault::ResponseTimeout)?;
                if let Some((node, id)) = moved_before(sessions, pool, own, found.node) {
                    (self.cuts.target, self.cuts.id) = (range, Some(id));
                    self.wanted = Wanted::Only(node);
                }
            }
        }
        let Some(sent) = head::values(request.fields, "session-id").next() else { return Ok(()) };
        let (node, own) = id::split(sent, names.iter());
        let place = sessions.kept(own, node).and_then(|kept| kept.seat().last_place());
        let place = place.filter(|place| place.number > 0).map(|place| (place.node, place.id));
        let Some((node, id)) = place.or_else(|| moved_before(sessions, pool, own, node)) else { return Ok(()) };
        self.cuts.session_field = Some(id);
        if let Wanted::Any | Wanted::First(_) = self.wanted {
            self.wanted = Wanted::First(node);
        }
        Ok(())
    }

    /// The change that the request makes to its session.
    fn session_request(&self, request: &Request<'_, '_>) -> Option<Box<SessionRequest>> {
        let (kept, id) = self.session.as_ref()?;
        SessionRequest::of(request, &request.path()[id.end..], kept).map(Box::new)
    }

    fn find_named(&mut self, request: &Request<'_, '_>, pool: &Pool) -> Result<(), Fault> {
        let Some(name) = head::values(request.fields, NODE_FIELD).next() else { return Ok(()) };
        let named = std::str::from_utf8(name).ok().and_then(|name| pool.named(name));
        // A node that a reload removed gets requests about its sessions, but no new session.
        let named = named.filter(|node| self.purpose == Purpose::Request || pool.lists(node));
        let node = named.ok_or_else(|| {
            let known: Vec<_> = pool.nodes().iter().map(|node| &**node.name()).collect();
            Fault::UnknownNode { known: known.join(", ") }
        })?;
        self.wanted = Wanted::Only(Arc::clone(node));
        self.cuts.node_field = true;
        Ok(())
    }

    fn find_session(&mut self, request: &Request<'_, '_>, pool: &Pool, names: &Names<'_>, sessions: &Sessions) {
        let Some(found) = id::in_target(request.target.path, names.iter()) else { return };
        self.is_about_session = found.own.end == request.path().len();
        let own = &request.target.path.as_bytes()[found.own];
        self.wanted = Wanted::Only(node_of(own, found.node, pool, sessions));
        self.cuts.target = found.prefix;
    }

    fn find_session_field(&mut self, request: &Request<'_, '_>, pool: &Pool, names: &Names<'_>, sessions: &Sessions) {
        let Some(sent) = head::values(request.fields, "session-id").next().filter(|id| !id.is_empty()) else { return };
        let (node, own) = id::split(sent, names.iter());
        self.cuts.session_id = sent.len() - own.len();
        if let Wanted::Any = self.wanted {
            self.wanted = Wanted::First(node_of(own, node, pool, sessions));
        }
    }

    /// The node that has the session of the key, else the one that the key's hash leads to.
    fn find_key(&mut self, request: &Request<'_, '_>, pool: &Pool, sessions: &Sessions) {
        let sent = head::values(request.fields, "resume-key").next().unwrap_or_default();
        let Some(key) = KeyHash::of(sent) else { return };
        self.key = Some(key);
        let known = sessions.node_of_key(key, pool.names());
        let name = known.or_else(|| rendezvous_in_rotation(key, pool));
        if let (Wanted::Any, Some(node)) = (&self.wanted, name.and_then(|name| pool.named(name))) {
            self.wanted = Wanted::First(Arc::clone(node));
        }
    }

    /// True when another node will do too.
    fn is_free(&self) -> bool {
        !matches!(self.wanted, Wanted::Only(_))
    }

    /// The node that is named when no node takes the connection.
    fn expected<'p>(&'p self, pool: &'p Pool) -> &'p Backend {
        match &self.wanted {
            Wanted::Only(node) | Wanted::First(node) => node,
            Wanted::Any => pool.first(),
        }
    }

    /// A connection to the node.
    ///
    /// # Errors
    /// 502, 503 or 504 when no node takes it within CONNECT_TIMEOUT.
    fn link(&mut self, pool: &Pool, sessions: &Sessions) -> Result<(Arc<Backend>, Link), Fault> {
        if let Some(linked) = self.link_to_session(pool) {
            return linked;
        }
        let (node, link) = match &self.wanted {
            Wanted::Only(node) => {
                let link = pool.link_to(node, self.purpose)?;
                (Arc::clone(node), link)
            }
            Wanted::First(node) => pool.link(self.purpose, Some(node))?,
            Wanted::Any => pool.link(self.purpose, None)?,
        };
        if let Some(key) = self.key {
            sessions.note_key(key, node.name());
        }
        Ok((node, link))
    }

    /// A connection to the node that has the session now. While a takeover is under way, waits for its end. `None` when
    /// nothing is known of the session.
    fn link_to_session(&mut self, pool: &Pool) -> Option<Result<(Arc<Backend>, Link), Fault>> {
        let (kept, range) = self.session.take()?;
        let deadline = response_deadline(pool);
        loop {
            let (Place { node, id, number }, visit) = match kept.seat().visit(deadline) {
                Ok(place) => place?,
                Err(Overdue) => return Some(Err(BackendFault::ResponseTimeout.into())),
            };
            // A reload may have changed its settings.
            let node = pool.numbered(node.id()).cloned().unwrap_or(node);
            let linked = pool.link_to(&node, self.purpose);
            // A connect may take so long that the node has died and is back, but does not know the session any more.
            let is_too_late = match &linked {
                Ok(_) => visit.is_taken_over(),
                Err(Fault::Backend(_)) => kept.can_be_taken_over() && visit.is_too_late(LOSS_TIME),
                Err(_) => false,
            };
            if is_too_late {
                continue;
            }
            if number > 0 {
                (self.cuts.target, self.cuts.id) = (range, Some(id));
            }
            self.wanted = Wanted::Only(Arc::clone(&node));
            self.visit = Some(visit);
            return Some(linked.map(|link| (node, link)));
        }
    }
}

/// The node that the table knows for a session, else the one that its id names, else the first. A node that moved to
/// another address has its old sessions under its name too; apart from that, an id that names another node than the
/// table knows is another session.
fn node_of(own: &[u8], named: Option<&str>, pool: &Pool, sessions: &Sessions) -> Arc<Backend> {
    let known = sessions.backend_of(own).and_then(|id| pool.numbered(id));
    let known = known.filter(|node| named.is_none_or(|name| **node.name() == *name));
    let node = known.or_else(|| named.and_then(|name| pool.named(name))).unwrap_or(pool.first());
    Arc::clone(node)
}

/// A session that is being taken over is resumed after that, at the node that has it then.
fn await_takeover(request: &Request<'_, '_>, version: Lavalink, pool: &Pool, names: &Names<'_>, sessions: &Sessions) {
    let sent = |name| head::values(request.fields, name).next();
    let (node, id) = id::split(sent("session-id").unwrap_or_default(), names.iter());
    let with_key = || {
        let key = sent("resume-key").filter(|_| version == Lavalink::V3).and_then(KeyHash::of)?;
        sessions.changing_with_key(key)
    };
    match sessions.kept(id, node).or_else(with_key) {
        Some(kept) => kept.seat().await_resumable(response_deadline(pool)),
        // A takeover that takes longer has failed.
        None => drop(sessions.await_predecessor(id, node, response_deadline(pool))),
    }
}

/// How long a request may wait for the end of a takeover.
fn response_deadline(pool: &Pool) -> Instant {
    Instant::now() + pool.first().response_timeout()
}

/// Where a session is that an earlier process has taken over.
fn moved_before(sessions: &Sessions, pool: &Pool, own: &[u8], node: Option<&str>) -> Option<(Arc<Backend>, Arc<str>)> {
    let moved = sessions.moved(own, node)?;
    Some((Arc::clone(pool.named(&moved.present_node)?), moved.present_id))
}

/// The node that the hash of an unknown key leads to; if that node takes no sessions, the next one by hash. Every
/// lavaproxy with the same settings chooses the same.
fn rendezvous_in_rotation(key: KeyHash, pool: &Pool) -> Option<&str> {
    let names =
        |fits: fn(&Backend) -> bool| pool.nodes().iter().filter(move |node| fits(node)).map(|node| &**node.name());
    resume::rendezvous(key, names(Backend::is_in_rotation)).or_else(|| resume::rendezvous(key, names(|_| true)))
}
