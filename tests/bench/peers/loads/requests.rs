//! REST requests: on kept connections, on a new one each, and with large answers.

use crate::bench::{Bench, Findings, sample};
use crate::compare::Goal::{AtLeast, AtMost};
use crate::compare::{Goal, Metric, Row};
use crate::contestant::Contestant::{self, Haproxy, Nginx};
use crate::rest::{Asking, Rest};
use crate::wire;

/// Small answers on kept connections.
pub fn kept(bench: &Bench, findings: &mut Findings) {
    for (connections, bound) in [(1, 0.7), (50, 1.0)] {
        let load = format!("REST kept alive, {}", plural(connections));
        let goals = [AtMost(bound, Haproxy), AtMost(bound, Nginx)];
        ask(bench, findings, load, small(connections, true), (Metric::Cpu, &goals));
    }
}

/// Small answers, each on a connection of its own.
pub fn fresh(bench: &Bench, findings: &mut Findings) {
    let load = "REST, a new connection each, 50 at a time".to_owned();
    ask(bench, findings, load, small(50, false), (Metric::Rate, &[AtLeast(1.4, Haproxy), AtLeast(1.05, Nginx)]));
}

/// Answers of 1 MiB on kept connections.
pub fn bodies(bench: &Bench, findings: &mut Findings) {
    for (connections, goals) in [(1, &[AtMost(0.65, Haproxy), AtMost(0.4, Nginx)][..]), (8, &[])] {
        let load = format!("1 MiB bodies, {}", plural(connections));
        let asking = Asking { target: wire::LARGE, body: wire::LARGE_BODY, connections, is_kept: true };
        ask(bench, findings, load, asking, (Metric::Cpu, goals));
    }
}

fn small(connections: usize, is_kept: bool) -> Asking {
    Asking { target: wire::SMALL, body: wire::small_body().len(), connections, is_kept }
}

fn plural(connections: usize) -> String {
    if connections == 1 { "1 connection".to_owned() } else { format!("{connections} connections") }
}

fn ask(bench: &Bench, findings: &mut Findings, load: String, asking: Asking, (metric, goals): (Metric, &[Goal])) {
    let samples = bench.measure(&load, &Contestant::ALL, findings, |running, _| {
        let mut rest = Rest::new(running.address, asking)?;
        sample(running, bench.window, |duration| rest.run(duration))
    });
    findings.rows.push(Row::of(&load, metric, goals, &samples));
    findings.raw.push((load, samples));
}
