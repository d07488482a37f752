//! Three lavaproxies behind HAProxy beside one alone, on one machine: what they hold, what it takes, and how fast
//! messages are. Load, node and all of the fleet share the machine.

use std::cell::RefCell;

use crate::bench::{Bench, Findings, sample};
use crate::compare::{Metric, Row, Sample, Samples};
use crate::contestant::Contestant::{Direct, Fleet, Lavaproxy};
use crate::footprint::{self, Footprint};
use crate::loads::messages::{PACE, SMALL};
use crate::message::Message;
use crate::tunnels::{Opening, Tunnels};

/// More than one lavaproxy holds where nothing of the kernel was raised, and what one HAProxy holds with 20,000
/// descriptors.
const ASKED: usize = 9_900;

pub fn run(bench: &Bench, findings: &mut Findings) {
    hold(bench, findings);
    for full in [100, 1000] {
        let count = bench.count(full);
        let load = format!("fleet: WebSocket echo 256 B, {count} tunnels closed loop");
        let samples = bench.measure(&load, &[Lavaproxy, Fleet], findings, |running, _| {
            let (mut tunnels, _) = Tunnels::open_from_many(running.address, count, SMALL)?;
            sample(running, bench.window, |duration| tunnels.run_closed(duration))
        });
        note(findings, load, &[Metric::Rate, Metric::Cpu], samples);
    }
    let count = bench.count(2000);
    let load = format!("fleet: WebSocket echo 256 B, {count} tunnels × 5/s");
    let mut samples = bench.measure(&load, &[Lavaproxy, Fleet, Direct], findings, |running, _| {
        let before = Footprint::of(running, bench.window)?;
        let (mut tunnels, took) = Tunnels::open_from_many(running.address, count, SMALL)?;
        let memory = Footprint::of(running, bench.window)?.since(before) / count as f64;
        let mut sample = sample(running, bench.window, |duration| tunnels.run_paced(PACE, duration))?;
        sample.extend([(Metric::Opening, took.as_secs_f64()), (Metric::Memory, memory)]);
        Ok(sample)
    });
    footprint::without_direct(&mut samples);
    note(findings, load, &[Metric::Opening, Metric::Memory, Metric::Cpu, Metric::P99], samples);
}

/// How many of the tunnels that are asked for stand.
fn hold(bench: &Bench, findings: &mut Findings) {
    let count = bench.count(ASKED);
    let load = format!("fleet: {count} tunnels asked for");
    let held = RefCell::new(Vec::new());
    bench.measure(&load, &[Lavaproxy, Fleet], findings, |running, contestant| {
        let opening = Opening::ask_from_many(running.address, count, Message::binary(SMALL))?;
        let (stand, refused) = (opening.tunnels.count(), opening.refusals.len());
        let lost = opening.broken.map_or(0, |(_, count)| count);
        held.borrow_mut().push(format!("{}: {stand} stand, {refused} refused, {lost} lost", contestant.name()));
        Ok(Sample::new())
    });
    let mut held = held.into_inner();
    held.sort();
    held.dedup();
    findings.rows.push(Row::alone(&load, "held", held.join("; "), Vec::new()));
}

fn note(findings: &mut Findings, load: String, metrics: &[Metric], samples: Samples) {
    for metric in metrics {
        let show = |who| samples.median(who, *metric).map_or("failed".to_owned(), |value| metric.show(value));
        let ratio = samples.ratio(Fleet, *metric).map_or("–".to_owned(), |ratio| ratio.to_string());
        let found = format!("{} alone, {} in a fleet, {ratio} × that", show(Lavaproxy), show(Fleet));
        findings.rows.push(Row::alone(&load, metric.name(), found, Vec::new()));
    }
    findings.raw.push((load, samples));
}
