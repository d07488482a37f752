//! Tunnels without traffic: how long it takes to open them, what they cost, and whether all is given back.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use crate::bench::{Bench, Findings};
use crate::compare::Goal::AtMost;
use crate::compare::{Metric, Row, Sample, Verdict};
use crate::contestant::Contestant::{self, Direct, Haproxy, Lavaproxy};
use crate::contestant::Running;
use crate::footprint::{self, Footprint};
use crate::instructions;
use crate::loads::messages::SMALL;
use crate::switches::Switches;
use crate::tunnels::Tunnels;
use crate::usage;

/// What the short turn opens when instructions are counted.
const FEW: usize = 10;
const MEMORY_GOAL: f64 = 75.0 * 1024.0;
/// How many windows to wait for everything to be given back: lavaproxy's idle carriers end after thirty seconds.
const PATIENCE: u32 = 20;

/// 2,000 tunnels, all opened at once as after a restart.
pub fn run(bench: &Bench, findings: &mut Findings) {
    let count = bench.count(2000);
    let load = format!("idle tunnels, {count}");
    let mut remains = None;
    let mut samples = bench.measure(&load, &Contestant::ALL, findings, |running, contestant| {
        let before = Footprint::of(running, bench.window)?;
        let held = Held::by(running)?;
        let switches = Switches::of(running.family())?;
        let (tunnels, took) = Tunnels::open(running.address, count, SMALL)?;
        let switches = Switches::of(running.family())?.since(&switches) as f64 / count as f64;
        let memory = Footprint::of(running, bench.window)?.since(before) / count as f64;
        drop(tunnels);
        if contestant == Lavaproxy && remains.is_none() {
            remains = Some(held.wait_for_return(running, bench.window * PATIENCE)?);
        }
        let mut sample = Sample::from([(Metric::Opening, took.as_secs_f64()), (Metric::Memory, memory)]);
        if contestant != Direct {
            sample.insert(Metric::Switches, switches);
        }
        Ok(sample)
    });
    let opening = format!("opening {count} tunnels");
    instructions::count_turns(bench, &opening, findings, &mut samples, |running, further| {
        // Each costs thousands of instructions, so that a few say enough.
        let count = FEW + further / 10;
        let (tunnels, _) = Tunnels::open(running.address, count, SMALL)?;
        Ok((count as f64, tunnels))
    });
    findings.rows.push(Row::of(&opening, Metric::Opening, &[AtMost(1.3, Haproxy)], &samples));
    findings.note_counts(&opening, &[], &samples);
    footprint::without_direct(&mut samples);
    let mut row = Row::of(&load, Metric::Memory, &[], &samples);
    let memory = samples.median(Lavaproxy, Metric::Memory);
    row.verdicts.push(Verdict::at_most("≤ 75 KiB".to_owned(), memory, MEMORY_GOAL));
    row.verdicts.push(remains.unwrap_or_else(|| Verdict::missed("all gone after", "not measured".to_owned())));
    findings.rows.push(row);
    findings.raw.push((load, samples));
}

/// Threads and descriptors.
#[derive(Clone, Copy)]
struct Held {
    threads: u64,
    descriptors: u64,
}

impl Held {
    fn by(running: &Running) -> io::Result<Self> {
        let family = running.family();
        Ok(Self { threads: usage::threads(family)?, descriptors: usage::descriptors(family)? })
    }

    /// Waits until no more than this is held again.
    fn wait_for_return(self, running: &Running, patience: Duration) -> io::Result<Verdict> {
        let goal = "all gone after";
        let since = Instant::now();
        loop {
            let now = Self::by(running)?;
            let threads = now.threads.saturating_sub(self.threads);
            let descriptors = now.descriptors.saturating_sub(self.descriptors);
            if threads + descriptors == 0 {
                return Ok(Verdict::met(goal));
            }
            if since.elapsed() > patience {
                let left = format!("missed: {threads} threads and {descriptors} descriptors are left");
                return Ok(Verdict::missed(goal, left));
            }
            thread::sleep(Duration::from_millis(100));
        }
    }
}
