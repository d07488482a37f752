//! What it costs to watch sessions, so that another node can take them over: lavaproxy as it is, beside itself with
//! `SESSION_TAKEOVER=off`.

use std::io;
use std::time::Duration;

use crate::bench::{Bench, Findings, sample};
use crate::compare::{Metric, Row, Verdict};
use crate::contestant::Contestant::{Lavaproxy, Unwatching};
use crate::contestant::Running;
use crate::instructions::{self, MOST_TUNNELS};
use crate::loads::messages::PACE;
use crate::rest::{Asking, Rest};
use crate::tally::Tally;
use crate::tunnels::Tunnels;
use crate::wire;

const WATCH_GOAL: f64 = 1.1;
/// Requests that change no player are not watched. Two runs of the same program differ by as much.
const REST_GOAL: f64 = 1.03;

/// Messages of sessions, paced and as fast as they come back, requests that are not watched, and those that are.
pub fn run(bench: &Bench, findings: &mut Findings) {
    let count = bench.count(200);
    let load = format!("playerUpdate echo, {count} sessions × 5/s");
    compare(bench, findings, (&load, count), Some(WATCH_GOAL), |running, sessions| {
        let pace = PACE * count as f64 / sessions as f64;
        let mut tunnels = Tunnels::open_sessions(running.address, sessions)?;
        Ok(move |duration: Duration| tunnels.run_paced(pace, duration))
    });
    let count = bench.count(100);
    let load = format!("playerUpdate echo, {count} sessions as fast as they can");
    compare(bench, findings, (&load, count), Some(WATCH_GOAL), |running, sessions| {
        let mut tunnels = Tunnels::open_sessions(running.address, sessions)?;
        Ok(move |duration: Duration| tunnels.run_closed(duration))
    });
    compare(bench, findings, ("REST kept alive, 50 connections", 50), Some(REST_GOAL), |running, connections| {
        let asking = Asking { target: wire::SMALL, body: wire::small_body().len(), connections, is_kept: true };
        let mut rest = Rest::new(running.address, asking)?;
        Ok(move |duration: Duration| rest.run(duration))
    });
    let count = bench.count(50);
    let load = format!("PATCH of a player kept alive, {count} sessions");
    compare(bench, findings, (&load, count), None, |running, sessions| {
        let mut tunnels = Tunnels::open_sessions(running.address, sessions)?;
        tunnels.run_closed(Duration::ZERO)?;
        let mut rest = Rest::playing(running.address, &tunnels.sessions()?)?;
        Ok(move |duration: Duration| {
            // The sessions live as long as their tunnels.
            let _tunnels = &tunnels;
            rest.run(duration)
        })
    });
}

/// What an operation costs for what it costs lavaproxy without takeover; the goal is for the CPU time. `open` prepares a
/// contestant's load on so many tunnels or connections.
fn compare<L: FnMut(Duration) -> io::Result<Tally>>(
    bench: &Bench,
    findings: &mut Findings,
    (load, count): (&str, usize),
    goal: Option<f64>,
    open: impl Fn(&Running, usize) -> io::Result<L> + Sync,
) {
    let load = format!("{load}, watched");
    let mut samples = bench.measure(&load, &[Lavaproxy, Unwatching], findings, |running, _| {
        let run = open(running, count)?;
        sample(running, bench.window, run)
    });
    let few = count.min(MOST_TUNNELS);
    instructions::count(bench, &load, findings, &mut samples, |running| open(running, few));
    for metric in [Metric::Cpu, Metric::Instructions, Metric::Switches] {
        let ours = samples.median(Lavaproxy, metric).map_or("–".to_owned(), |value| metric.show(value));
        let ratio = samples.ratio(Unwatching, metric);
        let ours = format!("{ours}, {} × without", ratio.as_ref().map_or("–".to_owned(), ToString::to_string));
        let ratio = ratio.map(|ratio| ratio.median);
        let goal = goal.filter(|_| metric == Metric::Cpu);
        let verdict = goal.map(|goal| Verdict::at_most(format!("≤ {goal} × without"), ratio, goal));
        findings.rows.push(Row::alone(&load, metric.name(), ours, verdict.into_iter().collect()));
    }
    findings.raw.push((load, samples));
}
