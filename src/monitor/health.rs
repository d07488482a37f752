//! The JSON of /api/health: how lavaproxy, its machine and its nodes are.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::VERSION;
use super::process::Process;
use super::{Setup, Sources, named};
use crate::config::Lavalink;
use crate::nodes::health::Report;
use crate::nodes::prober::Prober;

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
    backends: Vec<Report>,
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
        let backends = reports(&setup);
        let tallies = sources.ledger.tallies();
        Self {
            status: status(&backends),
            version: VERSION,
            started_at: tallies.started_at,
            now: tallies.now,
            uptime: tallies.uptime,
            process,
            limit: Limit { connections: sources.capacity.connections, rule: sources.capacity.rule },
            listeners: sources
                .listeners
                .iter()
                .map(|(name, address, version)| Listener {
                    name,
                    address: *address,
                    version: version.map(Lavalink::name),
                })
                .collect(),
            backends,
            settings: setup.settings.iter().cloned().map(|(name, value)| Setting { name, value }).collect(),
            ended: named(&tallies.ended).collect(),
        }
    }
}

/// What is known of the nodes. The first call starts a check of those that were not checked yet.
pub fn reports(setup: &Setup) -> Vec<Report> {
    let unknown: Vec<_> = setup.probers.iter().filter(|prober| !prober.has_checked()).collect();
    for prober in &unknown {
        prober.check_now();
    }
    wait(unknown, FIRST_CHECK);
    setup.probers.iter().map(|prober| prober.report()).collect()
}

/// Starts a check of each node, unless one has just been made. Only the call that starts a check waits for it, so that
/// a slow node cannot hold many calls here.
pub fn check(sources: &Sources) {
    let setup = sources.setup();
    let started = setup.probers.iter().filter(|prober| prober.check_now()).collect();
    wait(started, CHECK);
}

fn wait(probers: Vec<&Arc<Prober>>, time: Duration) {
    let deadline = Instant::now() + time;
    probers.iter().for_each(|prober| prober.wait(deadline));
}

fn status(backends: &[Report]) -> &'static str {
    let is_down = |report: &Report| report.reachable == Some(false);
    if !backends.is_empty() && backends.iter().all(is_down) {
        "down"
    } else if backends.iter().any(|report| is_down(report) || report.error.is_some()) {
        "degraded"
    } else {
        "ok"
    }
}
