//! The proxy itself is killed and started anew at the same port, as by a supervisor: all its bots connect again at once,
//! and it has no thread, no connection and no memory from before.

use std::io;
use std::time::{Duration, Instant};

use crate::bench::{Bench, Findings};
use crate::compare::Goal::AtMost;
use crate::compare::{Metric, Row, Sample};
use crate::contestant::Contestant::{self, Haproxy, Lavaproxy, Nginx};
use crate::contestant::Running;
use crate::loads::storm::BOTS;
use crate::tunnels::Tunnels;

pub fn run(bench: &Bench, findings: &mut Findings) {
    let count = bench.count(BOTS);
    let load = format!("{count} bots connect again to a restarted proxy");
    let samples = bench.measure(&load, &[Lavaproxy, Haproxy, Nginx], findings, |running, contestant| {
        restart(bench, running, contestant, count)
    });
    findings.rows.push(Row::of(&load, Metric::Opening, &[AtMost(1.0, Haproxy)], &samples));
    findings.rows.push(Row::of(&load, Metric::Cpu, &[AtMost(1.2, Haproxy)], &samples));
    findings.raw.push((load, samples));
}

/// From the kill until the last bot has its `ready`.
fn restart(bench: &Bench, running: &mut Running, contestant: Contestant, count: usize) -> io::Result<Sample> {
    let mut bots = Tunnels::open_sessions_from_many(running.address, count)?;
    bots.run_closed(Duration::ZERO)?;
    let start = Instant::now();
    bench.stage.restart(running, contestant)?;
    bots.wait_until_closed()?;
    Tunnels::open_sessions_from_many(running.address, count)?.run_closed(Duration::ZERO)?;
    let took = start.elapsed();
    let cpu = running.cpu()?.as_secs_f64() / count as f64;
    Ok(Sample::from([(Metric::Opening, took.as_secs_f64()), (Metric::Cpu, cpu)]))
}
