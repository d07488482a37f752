//! REST requests: on kept connections, on a new one each, and with large answers.

use std::io;
use std::time::Duration;

use crate::bench::{Bench, Findings, sample};
use crate::compare::Goal::{AtLeast, AtMost};
use crate::compare::{Goal, Metric, Row, Sample};
use crate::contestant::Contestant::{self, Haproxy, Nginx, Pipe};
use crate::contestant::Running;
use crate::instructions;
use crate::rest::{Asking, Rest};
use crate::switches::Switches;
use crate::tally::Tally;
use crate::wire;

/// Small answers on kept connections.
pub fn kept(bench: &Bench, findings: &mut Findings) {
    let load = "REST kept alive, 1 connection".to_owned();
    let goals = [AtMost(0.7, Haproxy), AtMost(0.7, Nginx)];
    ask(bench, findings, load, small(1, true), (Metric::Cpu, &goals, &[]));
    let load = "REST kept alive, 50 connections".to_owned();
    ask(bench, findings, load, small(50, true), (Metric::Cpu, &[AtMost(1.05, Pipe)], &[AtMost(1.5, Pipe)]));
}

/// Small answers, each on a connection of its own.
pub fn fresh(bench: &Bench, findings: &mut Findings) {
    let load = "REST, a new connection each, 50 at a time".to_owned();
    ask(bench, findings, load, small(50, false), (Metric::Rate, &[AtLeast(1.3, Haproxy), AtLeast(1.05, Nginx)], &[]));
}

/// Answers of 1 MiB on kept connections.
pub fn bodies(bench: &Bench, findings: &mut Findings) {
    for (connections, goals) in [(1, &[AtMost(0.65, Haproxy), AtMost(0.4, Nginx)][..]), (8, &[])] {
        let load = format!("1 MiB bodies, {}", plural(connections));
        let asking = Asking { target: wire::LARGE, body: wire::LARGE_BODY, connections, is_kept: true };
        ask(bench, findings, load, asking, (Metric::Cpu, goals, &[]));
    }
}

fn small(connections: usize, is_kept: bool) -> Asking {
    Asking { target: wire::SMALL, body: wire::small_body().len(), connections, is_kept }
}

fn plural(connections: usize) -> String {
    if connections == 1 { "1 connection".to_owned() } else { format!("{connections} connections") }
}

/// The goals are for the metric and for the instructions.
fn ask(
    bench: &Bench,
    findings: &mut Findings,
    load: String,
    asking: Asking,
    (metric, goals, of_instructions): (Metric, &[Goal], &[Goal]),
) {
    let open = |running: &Running| {
        let mut rest = Rest::new(running.address, asking)?;
        Ok(move |duration: Duration| rest.run(duration))
    };
    let mut samples = bench.measure(&load, &Contestant::ALL, findings, |running, _| {
        let run = open(running)?;
        if asking.is_kept { sample(running, bench.window, run) } else { sample_to_the_end(running, bench.window, run) }
    });
    instructions::count(bench, &load, findings, &mut samples, open);
    findings.rows.push(Row::of(&load, metric, goals, &samples));
    findings.note_counts(&load, of_instructions, &samples);
    findings.raw.push((load, samples));
}

/// A sample with the switches of the whole life: two threads of the toy end with each connection.
fn sample_to_the_end(
    running: &mut Running,
    window: Duration,
    mut run: impl FnMut(Duration) -> io::Result<Tally>,
) -> io::Result<Sample> {
    let (before, mut operations) = (Switches::of(running.family())?.total(), 0.0);
    let mut sample = sample(running, window, |duration| {
        let tally = run(duration)?;
        operations += tally.operations();
        Ok(tally)
    })?;
    if !running.family().is_empty() {
        sample.insert(Metric::Switches, running.end()?.saturating_sub(before) as f64 / operations);
    }
    Ok(sample)
}
