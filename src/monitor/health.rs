//! The JSON of /api/health: how lavaproxy, its machine and its nodes are.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::VERSION;
use super::answer::Refusal;
use super::process::Process;
use super::{Setup, Sources, named};
use crate::admission::capacity::Capacity;
use crate::config::Lavalink;
use crate::nodes::backend::Backend;
use crate::nodes::health::{NodeState, Report};
use crate::nodes::takeovers::Figures;
use crate::sessions::moves;

/// How long the first call waits for the nodes' answers.
const FIRST_CHECK: Duration = Duration::from_millis(500);
/// How long `/api/health/check` waits; then it answers with what is known.
const CHECK: Duration = Duration::from_secs(8);

/// All of it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Health<'s> {
    status: &'static str,
    version: &'static str,
    started_at: u64,
    now: u64,
    uptime: u64,
    process: Process,
    limit: Limit,
    listeners: Vec<Listener<'s>>,
    nodes: Vec<NodeRow>,
    settings: Vec<Setting>,
    ended: BTreeMap<&'static str, u64>,
}

#[derive(Serialize)]
struct Limit {
    connections: usize,
    rule: &'static str,
}

#[derive(Serialize)]
struct Listener<'s> {
    name: &'s str,
    address: SocketAddr,
    version: Option<&'static str>,
}

#[derive(Serialize)]
struct Setting {
    name: String,
    value: String,
}

impl<'s> Health<'s> {
    /// As of now.
    pub fn of(sources: &'s Sources, process: Process) -> Self {
        let setup = sources.setup();
        let nodes = rows(&setup);
        let tallies = sources.ledger.tallies();
        let Capacity { connections, rule } = sources.proxy.capacity();
        Self {
            status: status(&nodes),
            version: VERSION,
            started_at: tallies.started_at,
            now: tallies.now,
            uptime: tallies.uptime,
            process,
            limit: Limit { connections, rule },
            listeners: sources
                .listeners
                .iter()
                .map(|(name, address, version)| Listener {
                    name,
                    address: *address,
                    version: version.map(Lavalink::name),
                })
                .collect(),
            nodes,
            settings: setup.settings.iter().cloned().map(|(name, value)| Setting { name, value }).collect(),
            ended: named(&tallies.ended).collect(),
        }
    }
}

/// A node, as the API shows it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeRow {
    name: Arc<str>,
    version: Option<&'static str>,
    address: Arc<str>,
    state: NodeState,
    draining: bool,
    since: u64,
    response_time: Option<f64>,
    lavalink_version: Option<String>,
    players: Option<u64>,
    playing_players: Option<u64>,
    system_load: Option<f64>,
    sessions: u64,
    requests: u64,
    loads_retried: u64,
    takeovers: TakeoverRow,
    /// True while the sessions of a draining node are moved to others; `sessions` is what is left.
    moving: bool,
    /// True while they wait for another node in rotation.
    moves_waiting: bool,
    moved: u64,
    moves_failed: u64,
    error: Option<String>,
}

/// What has become of the sessions of a node that was lost.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TakeoverRow {
    /// Sessions that have no node at present.
    under_way: u64,
    taken: u64,
    failed: u64,
    players: u64,
}

impl TakeoverRow {
    fn of(node: &Backend) -> Self {
        let Figures { under_way, taken, failed, players, .. } = node.load().takeovers().figures();
        Self { under_way, taken, failed, players }
    }
}

impl NodeRow {
    fn of(node: &Backend) -> Self {
        let Report { state, since, seen, error } = node.health().report();
        let load = node.load();
        let moves = load.moves().figures();
        Self {
            name: Arc::clone(node.name()),
            version: node.version().map(Lavalink::name),
            address: Arc::clone(node.address()),
            state,
            draining: node.health().is_draining(),
            since,
            response_time: seen.response_time,
            lavalink_version: seen.lavalink_version,
            players: seen.stats.map(|stats| stats.players),
            playing_players: seen.stats.map(|stats| stats.playing_players),
            system_load: seen.stats.map(|stats| stats.cpu.system_load),
            sessions: load.sessions(),
            requests: load.requests(),
            loads_retried: load.loads_retried(),
            takeovers: TakeoverRow::of(node),
            moving: moves.under_way,
            moves_waiting: moves.waiting,
            moved: moves.moved,
            moves_failed: moves.failed,
            error,
        }
    }
}

/// What is known of the nodes. The very first call has them asked.
fn rows(setup: &Setup) -> Vec<NodeRow> {
    ask_unknown(setup);
    setup.shown().map(|node| NodeRow::of(node)).collect()
}

/// Has the nodes asked that were not asked yet.
pub fn ask_unknown(setup: &Setup) {
    let unknown: Vec<_> = setup.nodes.iter().filter(|node| !node.schedule().has_ended_one()).collect();
    for node in &unknown {
        node.schedule().ask();
    }
    wait(&unknown, FIRST_CHECK);
}

/// Starts a check of each node, unless one has just been made. Only the call that starts a check waits for it, so that
/// a slow node cannot hold many calls here.
pub fn check(sources: &Sources) {
    let setup = sources.setup();
    let asked: Vec<_> = setup.nodes.iter().filter(|node| node.schedule().ask()).collect();
    wait(&asked, CHECK);
}

/// Drains a node of the settings, or takes it back. With `moves` its sessions are moved to other nodes; without, moves
/// that are under way stop.
pub fn set_draining(sources: &Sources, name: &str, draining: bool, moves: bool) -> Result<(), Refusal> {
    let setup = sources.setup();
    let Some(node) = setup.nodes.iter().find(|node| **node.name() == *name) else {
        let known: Vec<&str> = setup.nodes.iter().map(|node| &**node.name()).collect();
        let message = format!("there is no node of this name; the nodes are {}", known.join(", "));
        return Err(Refusal::new(404, message));
    };
    if moves && !setup.takeover.on {
        return Err(Refusal::new(400, "no session can be moved; set SESSION_TAKEOVER to on"));
    }
    node.set_draining(draining, "the API");
    if !moves {
        node.load().moves().stop();
        return Ok(());
    }
    let setups = Arc::clone(&sources.setup);
    let has_other = move |node: &Backend| setups.lock().has_other(node);
    moves::start(&sources.sessions, node, setup.takeover.move_rate, has_other)
        .map_err(|_| Refusal::new(503, "no thread can be started for the moves; try again later"))
}

fn wait(nodes: &[&Arc<Backend>], time: Duration) {
    let deadline = Instant::now() + time;
    nodes.iter().for_each(|node| node.schedule().wait(deadline));
}

fn status(nodes: &[NodeRow]) -> &'static str {
    let is_down = |node: &NodeRow| node.state == NodeState::Down;
    if !nodes.is_empty() && nodes.iter().all(is_down) {
        "down"
    } else if nodes.iter().any(|node| is_down(node) || node.error.is_some()) {
        "degraded"
    } else {
        "ok"
    }
}
