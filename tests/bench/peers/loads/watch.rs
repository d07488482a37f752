//! What it costs to watch sessions, so that another node can take them over: lavaproxy as it is, beside itself with
//! `SESSION_TAKEOVER=off`.

use std::io;
use std::time::Duration;

use crate::bench::{Bench, Findings, sample};
use crate::compare::{Metric, Row, Verdict};
use crate::contestant::Contestant::{Lavaproxy, Unwatching};
use crate::contestant::Running;
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
    compare(bench, findings, &load, Some(WATCH_GOAL), |running| {
        let mut tunnels = Tunnels::open_sessions(running.address, count)?;
        Ok(move |duration: Duration| tunnels.run_paced(PACE, duration))
    });
    let count = bench.count(100);
    let load = format!("playerUpdate echo, {count} sessions as fast as they can");
    compare(bench, findings, &load, Some(WATCH_GOAL), |running| {
        let mut tunnels = Tunnels::open_sessions(running.address, count)?;
        Ok(move |duration: Duration| tunnels.run_closed(duration))
    });
    let asking = Asking { target: wire::SMALL, body: wire::small_body().len(), connections: 50, is_kept: true };
    compare(bench, findings, "REST kept alive, 50 connections", Some(REST_GOAL), |running| {
        let mut rest = Rest::new(running.address, asking)?;
        Ok(move |duration: Duration| rest.run(duration))
    });
    let count = bench.count(50);
    compare(bench, findings, &format!("PATCH of a player kept alive, {count} sessions"), None, |running| {
        let mut tunnels = Tunnels::open_sessions(running.address, count)?;
        tunnels.run_closed(Duration::ZERO)?;
        let mut rest = Rest::playing(running.address, &tunnels.sessions()?)?;
        Ok(move |duration: Duration| {
            // The sessions live as long as their tunnels.
            let _tunnels = &tunnels;
            rest.run(duration)
        })
    });
}

/// The CPU time of an operation for that of lavaproxy without takeover. `open` prepares a contestant's load.
fn compare<L: FnMut(Duration) -> io::Result<Tally>>(
    bench: &Bench,
    findings: &mut Findings,
    load: &str,
    goal: Option<f64>,
    open: impl Fn(&Running) -> io::Result<L>,
) {
    let load = format!("{load}, watched");
    let samples = bench.measure(&load, &[Lavaproxy, Unwatching], findings, |running, _| {
        let run = open(running)?;
        sample(running, bench.window, run)
    });
    let ours = samples.median(Lavaproxy, Metric::Cpu).map_or("failed".to_owned(), |value| Metric::Cpu.show(value));
    let ratio = samples.ratio(Unwatching, Metric::Cpu);
    let ours = format!("{ours}, {} × without", ratio.as_ref().map_or("–".to_owned(), ToString::to_string));
    let ratio = ratio.map(|ratio| ratio.median);
    let verdict = goal.map(|goal| Verdict::at_most(format!("≤ {goal} × without"), ratio, goal));
    findings.rows.push(Row::alone(&load, Metric::Cpu.name(), ours, verdict.into_iter().collect()));
    findings.raw.push((load, samples));
}
