//! WebSocket messages and their echoes: paced, as fast as they come back, and large ones.

use std::time::Duration;

use crate::bench::{Bench, Findings, sample};
use crate::compare::Goal::{AtLeast, AtMost};
use crate::compare::{Goal, Metric, Row};
use crate::contestant::Contestant::{self, Haproxy, Nginx};
use crate::contestant::Running;
use crate::instructions::{self, MOST_TUNNELS};
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
    let open = |running: &Running, tunnels: usize| {
        let pace = PACE * count as f64 / tunnels as f64;
        let (mut tunnels, _) = Tunnels::open(running.address, tunnels, SMALL)?;
        Ok(move |duration: Duration| tunnels.run_paced(pace, duration))
    };
    let mut samples = bench
        .measure(&load, &Contestant::ALL, findings, |running, _| sample(running, bench.window, open(running, count)?));
    let few = count.min(MOST_TUNNELS);
    instructions::count(bench, &load, findings, &mut samples, |running| open(running, few));
    findings.rows.push(Row::of(&load, Metric::Cpu, &[AtMost(0.85, Haproxy), AtMost(1.15, Nginx)], &samples));
    findings.note_counts(&load, &[], &samples);
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
    let open = |running: &Running| {
        let (mut tunnels, _) = Tunnels::open(running.address, count, payload)?;
        Ok(move |duration: Duration| tunnels.run_closed(duration))
    };
    let mut samples =
        bench.measure(&load, &Contestant::ALL, findings, |running, _| sample(running, bench.window, open(running)?));
    if count <= MOST_TUNNELS {
        instructions::count(bench, &load, findings, &mut samples, open);
    }
    findings.rows.push(Row::of(&load, metric, goals, &samples));
    if count <= MOST_TUNNELS {
        findings.rows.push(Row::of(&load, Metric::Instructions, &[], &samples));
    }
    findings.rows.push(Row::of(&load, Metric::Switches, &[], &samples));
    findings.raw.push((load, samples));
}
