//! The rounds: the contestants take turns, each started afresh.

use std::io;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::compare::{Goal, Metric, Row, Sample, Samples};
use crate::contestant::{Contestant, Running, Stage};
use crate::switches::Switches;
use crate::tally::Tally;

/// The contestants and the duration.
pub struct Bench {
    pub stage: Stage,
    pub contestants: Vec<Contestant>,
    pub rounds: usize,
    /// How long each contestant is measured in a round.
    pub window: Duration,
    /// Counts of tunnels are divided by it: 1, or more for a smoke test.
    pub shrink: usize,
    /// Valgrind is installed.
    pub counts_instructions: bool,
}

/// All that was found.
#[derive(Default, Serialize, Deserialize)]
pub struct Findings {
    pub rows: Vec<Row>,
    /// The samples of each load.
    pub raw: Vec<(String, Samples)>,
    /// From the fewest tunnels to the most.
    pub growth: Vec<(usize, Samples)>,
    pub failures: Vec<String>,
}

impl Findings {
    /// What is counted and does not wobble as CPU times do. The goals are for the instructions.
    pub fn note_counts(&mut self, load: &str, goals: &[Goal], samples: &Samples) {
        self.rows.push(Row::of(load, Metric::Instructions, goals, samples));
        self.rows.push(Row::of(load, Metric::Switches, &[], samples));
    }

    /// Takes what another process found.
    pub fn add(&mut self, other: Self) {
        self.rows.extend(other.rows);
        self.raw.extend(other.raw);
        self.growth.extend(other.growth);
        self.failures.extend(other.failures);
    }
}

impl Bench {
    /// So many tunnels, fewer in a smoke test.
    pub fn count(&self, full: usize) -> usize {
        (full / self.shrink).max(1)
    }

    /// Measures each of the contestants that are here, in every round.
    pub fn measure(
        &self,
        load: &str,
        contestants: &[Contestant],
        findings: &mut Findings,
        mut sample: impl FnMut(&mut Running, Contestant) -> io::Result<Sample>,
    ) -> Samples {
        let mut samples = Samples::default();
        let mut turns: Vec<_> = contestants.iter().filter(|who| self.contestants.contains(who)).collect();
        for round in 1..=self.rounds {
            eprint!("{load}, round {round} of {}:", self.rounds);
            for contestant in &turns {
                eprint!(" {}", contestant.name());
                let found = self.stage.start(**contestant).and_then(|mut running| sample(&mut running, **contestant));
                let found = found.inspect_err(|error| {
                    eprint!(" FAILED");
                    findings.failures.push(format!("{load}: {}: {error}", contestant.name()));
                });
                samples.0.entry(**contestant).or_default().push(found.ok());
            }
            eprintln!();
            // No contestant runs after the same one in every round.
            turns.rotate_left(1);
        }
        samples
    }
}

/// Lets `run` warm up and then go on for the window; what the contestant did and used meanwhile.
pub fn sample(
    running: &Running,
    window: Duration,
    mut run: impl FnMut(Duration) -> io::Result<Tally>,
) -> io::Result<Sample> {
    run(window / 4)?;
    let switches = Switches::of(running.family())?;
    let before = running.cpu()?;
    let tally = run(window)?;
    let cpu = running.cpu()?.saturating_sub(before);
    let switches = Switches::of(running.family())?.since(&switches);
    let mut sample = Sample::from([(Metric::Rate, tally.rate()), (Metric::P99, tally.p99())]);
    if !running.family().is_empty() {
        sample.insert(Metric::Cpu, cpu.as_secs_f64() / tally.operations());
        sample.insert(Metric::Switches, switches as f64 / tally.operations());
    }
    Ok(sample)
}
