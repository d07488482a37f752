//! Samples of rounds, and what they say about lavaproxy beside the others. Pure.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::contestant::Contestant;

const MEBIBYTE: f64 = 1024.0 * 1024.0;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Metric {
    /// Seconds of CPU time for an operation.
    Cpu,
    /// User instructions for an operation.
    Instructions,
    /// Context switches for an operation.
    Switches,
    /// Operations in a second.
    Rate,
    /// Seconds that one operation in a hundred exceeds.
    P99,
    /// The same before an attack or a storm.
    Calm,
    /// Seconds until all tunnels were open, or open again.
    Opening,
    /// Bytes for each tunnel, or for all.
    Memory,
}

impl Metric {
    pub const ALL: [Self; 8] =
        [Self::Cpu, Self::Instructions, Self::Switches, Self::Rate, Self::P99, Self::Calm, Self::Opening, Self::Memory];

    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "CPU",
            Self::Instructions => "instructions",
            Self::Switches => "switches",
            Self::Rate => "rate",
            Self::P99 => "p99",
            Self::Calm => "p99 before",
            Self::Opening => "time",
            Self::Memory => "memory",
        }
    }

    /// A value in its unit.
    pub fn show(self, value: f64) -> String {
        match self {
            Self::Cpu => format!("{:.1} µs", value * 1e6),
            Self::Instructions => format!("{value:.0}"),
            Self::Switches => format!("{value:.2}"),
            Self::Rate => format!("{value:.0}/s"),
            Self::P99 | Self::Calm | Self::Opening => format!("{:.2} ms", value * 1e3),
            Self::Memory if value >= MEBIBYTE => format!("{:.1} MiB", value / MEBIBYTE),
            Self::Memory => format!("{:.1} KiB", value / 1024.0),
        }
    }
}

/// What one contestant did in one round.
pub type Sample = BTreeMap<Metric, f64>;

/// The rounds of one load; none where a contestant failed.
#[derive(Default, Serialize, Deserialize)]
pub struct Samples(pub BTreeMap<Contestant, Vec<Option<Sample>>>);

/// The middle of some values, and how far they lie apart.
#[derive(Clone, Copy, Debug)]
pub struct Spread {
    pub median: f64,
    pub least: f64,
    pub most: f64,
}

impl Spread {
    pub fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let (least, most) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median = if values.len() % 2 == 0 { (values[middle - 1] + values[middle]) / 2.0 } else { values[middle] };
        Some(Self { median, least, most })
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = f.precision().unwrap_or(2);
        write!(f, "{:.digits$} ({:.digits$}–{:.digits$})", self.median, self.least, self.most)
    }
}

impl Samples {
    pub fn values(&self, contestant: Contestant, metric: Metric) -> Vec<f64> {
        let rounds = self.0.get(&contestant).into_iter().flatten().flatten();
        rounds.filter_map(|sample| sample.get(&metric).copied()).collect()
    }

    pub fn median(&self, contestant: Contestant, metric: Metric) -> Option<f64> {
        Spread::of(self.values(contestant, metric)).map(|spread| spread.median)
    }

    /// The p99 for that before, by round.
    pub fn to_calm(&self, contestant: Contestant) -> Option<Spread> {
        let [now, calm] = [Metric::P99, Metric::Calm].map(|metric| self.values(contestant, metric));
        Spread::of(now.into_iter().zip(calm).map(|(now, calm)| now / calm).collect())
    }

    /// Takes what is measured once and not in every round.
    pub fn add_to_first_round(&mut self, contestant: Contestant, metric: Metric, value: f64) {
        if let Some(Some(sample)) = self.0.get_mut(&contestant).and_then(|rounds| rounds.first_mut()) {
            sample.insert(metric, value);
        }
    }

    /// Lavaproxy's value for each of the other's of the same round.
    pub fn ratio(&self, other: Contestant, metric: Metric) -> Option<Spread> {
        let (ours, theirs) = (self.0.get(&Contestant::Lavaproxy)?, self.0.get(&other)?);
        let value = |sample: &Option<Sample>| sample.as_ref()?.get(&metric).copied();
        let ratios = ours.iter().zip(theirs).filter_map(|(ours, theirs)| Some(value(ours)? / value(theirs)?));
        Spread::of(ratios.collect())
    }
}

/// What lavaproxy's ratio to a contestant is to be.
#[derive(Clone, Copy)]
pub enum Goal {
    AtMost(f64, Contestant),
    AtLeast(f64, Contestant),
}

impl Goal {
    fn check(self, metric: Metric, samples: &Samples) -> Verdict {
        let (sign, bound, other) = match self {
            Self::AtMost(bound, other) => ("≤", bound, other),
            Self::AtLeast(bound, other) => ("≥", bound, other),
        };
        let goal = format!("{sign} {bound} {}", other.name());
        let found = samples.ratio(other, metric).map(|ratio| ratio.median);
        match self {
            Self::AtMost(..) => Verdict::at_most(goal, found, bound),
            Self::AtLeast(..) => Verdict::at_least(goal, found, bound),
        }
    }
}

/// A goal and whether it was reached.
#[derive(Serialize, Deserialize)]
pub struct Verdict {
    pub goal: String,
    pub is_met: bool,
    pub comment: String,
}

impl Verdict {
    pub fn met(goal: &str) -> Self {
        Self { goal: goal.to_owned(), is_met: true, comment: "met".to_owned() }
    }

    pub fn missed(goal: &str, comment: String) -> Self {
        Self { goal: goal.to_owned(), is_met: false, comment }
    }

    pub fn at_most(goal: String, found: Option<f64>, bound: f64) -> Self {
        Self::judge(goal, found.map(|found| found / bound - 1.0))
    }

    pub fn at_least(goal: String, found: Option<f64>, bound: f64) -> Self {
        Self::judge(goal, found.map(|found| 1.0 - found / bound))
    }

    /// `excess` is how far the goal was missed, as a fraction of it.
    fn judge(goal: String, excess: Option<f64>) -> Self {
        let is_met = excess.is_some_and(|excess| excess <= 0.0);
        let comment = match excess {
            Some(_) if is_met => "met".to_owned(),
            Some(excess) => format!("missed by {:.0} %", excess * 100.0),
            None => "not measured".to_owned(),
        };
        Self { goal, is_met, comment }
    }
}

/// A row of the table.
#[derive(Serialize, Deserialize)]
pub struct Row {
    pub load: String,
    pub measured: String,
    /// Lavaproxy's own value.
    pub ours: String,
    /// Its ratio to each of [`Row::OTHERS`].
    pub ratios: Vec<String>,
    pub verdicts: Vec<Verdict>,
}

impl Row {
    pub const OTHERS: [Contestant; 4] = [Contestant::Haproxy, Contestant::Nginx, Contestant::Pipe, Contestant::Direct];

    pub fn of(load: &str, metric: Metric, goals: &[Goal], samples: &Samples) -> Self {
        let ratio = |other| samples.ratio(other, metric).map_or("–".to_owned(), |ratio| ratio.to_string());
        // Where no valgrind is, there are none.
        let missing = if metric == Metric::Instructions { "–" } else { "failed" };
        Self {
            load: load.to_owned(),
            measured: metric.name().to_owned(),
            ours: samples.median(Contestant::Lavaproxy, metric).map_or(missing.to_owned(), |value| metric.show(value)),
            ratios: Self::OTHERS.into_iter().map(ratio).collect(),
            verdicts: goals.iter().map(|goal| goal.check(metric, samples)).collect(),
        }
    }

    /// A row about lavaproxy alone.
    pub fn alone(load: &str, measured: &str, ours: String, verdicts: Vec<Verdict>) -> Self {
        let ratios = vec!["–".to_owned(); Self::OTHERS.len()];
        Self { load: load.to_owned(), measured: measured.to_owned(), ours, ratios, verdicts }
    }
}
