//! WebSocket messages and their echoes: paced, as fast as they come back, and large ones.

use crate::bench::{Bench, Findings, sample};
use crate::compare::Goal::{AtLeast, AtMost};
use crate::compare::{Goal, Metric, Row};
use crate::contestant::Contestant::{self, Haproxy, Nginx};
use crate::tunnels::Tunnels;

/// About what Lavalink sends.
pub const SMALL: usize = 256;
const LARGE: usize = 16 * 1024;
/// Messages in a second on each tunnel.
pub const PACE: f64 = 5.0;

/// 200 tunnels, each with 5 messages a second.
pub fn echo(bench: &Bench, findings: &mut Findings) {
    let count = bench.count(200);
    let load = format!("WebSocket echo 256 B, {count} tunnels × 5/s");
    let samples = bench.measure(&load, &Contestant::ALL, findings, |running, _| {
        let (mut tunnels, _) = Tunnels::open(running.address, count, SMALL)?;
        sample(running, bench.window, |duration| tunnels.run_paced(PACE, duration))
    });
    findings.rows.push(Row::of(&load, Metric::Cpu, &[AtMost(1.0, Haproxy), AtMost(1.3, Nginx)], &samples));
    findings.rows.push(Row::of(&load, Metric::P99, &[AtMost(1.0, Haproxy)], &samples));
    findings.raw.push((load, samples));
}

/// 1 to 1,000 tunnels, each with one message under way.
pub fn closed(bench: &Bench, findings: &mut Findings) {
    for (full, goals) in [(1, &[][..]), (10, &[]), (100, &[AtLeast(0.7, Haproxy)]), (1000, &[])] {
        let count = bench.count(full);
        let tunnels = if count == 1 { "tunnel" } else { "tunnels" };
        let load = format!("WebSocket echo 256 B, {count} {tunnels} closed loop");
        saturate(bench, findings, load, (count, SMALL), (Metric::Rate, goals));
    }
}

/// 8 tunnels with large messages.
pub fn large(bench: &Bench, findings: &mut Findings) {
    let load = "WebSocket echo 16 KiB, 8 tunnels closed loop".to_owned();
    let goals = [AtMost(0.65, Haproxy), AtMost(0.4, Nginx)];
    saturate(bench, findings, load, (8, LARGE), (Metric::Cpu, &goals));
}

fn saturate(
    bench: &Bench,
    findings: &mut Findings,
    load: String,
    (count, payload): (usize, usize),
    (metric, goals): (Metric, &[Goal]),
) {
    let samples = bench.measure(&load, &Contestant::ALL, findings, |running, _| {
        let (mut tunnels, _) = Tunnels::open(running.address, count, payload)?;
        sample(running, bench.window, |duration| tunnels.run_closed(duration))
    });
    findings.rows.push(Row::of(&load, metric, goals, &samples));
    findings.raw.push((load, samples));
}
