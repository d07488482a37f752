//! From few tunnels to many: whether a message costs the same, and what memory they take together.

use std::time::Duration;

use crate::bench::{Bench, Findings, sample};
use crate::compare::{Metric, Row, Samples, Spread, Verdict};
use crate::contestant::Contestant::{self, Direct, Lavaproxy};
use crate::footprint::{self, Footprint};
use crate::loads::messages::{PACE, SMALL};
use crate::tunnels::Tunnels;

const STEPS: [usize; 5] = [10, 100, 1000, 2500, 5000];
const GOAL: f64 = 1.15;
/// Fewer say little about the cost of one, so that few tunnels are measured for longer.
const MESSAGES: f64 = 250.0;
/// Of the messages that are due, so many must be back in time.
const HELD: f64 = 0.95;

/// Each step with 5 messages a second on every tunnel.
pub fn run(bench: &Bench, findings: &mut Findings) {
    for full in STEPS {
        let count = bench.count(full);
        let load = format!("{count} tunnels × 5/s");
        let window = bench.window.max(Duration::from_secs_f64(MESSAGES / (PACE * full as f64)) / bench.shrink as u32);
        let mut samples = bench.measure(&load, &Contestant::ALL, findings, |running, contestant| {
            let before = Footprint::of(running, bench.window)?;
            let (mut tunnels, _) = Tunnels::open(running.address, count, SMALL)?;
            let mut sample = sample(running, window, |duration| tunnels.run_paced(PACE, duration))?;
            sample.insert(Metric::Memory, before.own + Footprint::of(running, bench.window)?.since(before));
            if contestant == Direct {
                // It is here for the memory of the sockets at both ends.
                sample.retain(|metric, _| *metric == Metric::Memory);
            }
            Ok(sample)
        });
        footprint::without_direct(&mut samples);
        findings.growth.push((count, samples));
    }
    let (Some((_, few)), Some((count, many))) = (findings.growth.first(), findings.growth.last()) else { return };
    let load = format!("{count} tunnels × 5/s");
    let mut row = Row::of(&load, Metric::Cpu, &[], many);
    let offered = PACE * *count as f64;
    row.verdicts.push(Verdict::at_least("hold".to_owned(), many.median(Lavaproxy, Metric::Rate), HELD * offered));
    let growth = between(few, many);
    let goal = format!("≤ {GOAL} × the cost of {}", findings.growth[0].0);
    row.ours += &growth.map_or(String::new(), |growth| format!(", {growth} × the cost of {}", findings.growth[0].0));
    row.verdicts.push(Verdict::at_most(goal, growth.map(|growth| growth.median), GOAL));
    findings.rows.push(row);
    findings.rows.push(Row::of(&load, Metric::Switches, &[], many));
}

/// How much more lavaproxy's message costs among many tunnels than among few.
fn between(few: &Samples, many: &Samples) -> Option<Spread> {
    let costs = |samples: &Samples| samples.values(Lavaproxy, Metric::Cpu);
    Spread::of(costs(many).into_iter().zip(costs(few)).map(|(many, few)| many / few).collect())
}
