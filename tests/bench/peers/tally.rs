//! What the load counted while it ran.

use std::time::Duration;

/// Operations that were completed, and how long each took.
#[derive(Default)]
pub struct Tally {
    /// In nanoseconds, one for each operation.
    latencies: Vec<u64>,
    pub took: Duration,
}

impl Tally {
    pub fn note(&mut self, latency: Duration) {
        self.latencies.push(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX));
    }

    /// Adds what was counted in the time after.
    pub fn go_on(&mut self, next: Self) {
        self.latencies.extend(next.latencies);
        self.took += next.took;
    }

    pub fn operations(&self) -> f64 {
        self.latencies.len() as f64
    }

    /// Operations in a second.
    pub fn rate(&self) -> f64 {
        self.operations() / self.took.as_secs_f64()
    }

    /// The latency that one operation in a hundred exceeds, in seconds.
    pub fn p99(&self) -> f64 {
        let mut sorted = self.latencies.clone();
        sorted.sort_unstable();
        let at = (sorted.len() * 99 / 100).min(sorted.len().saturating_sub(1));
        sorted.get(at).map_or(f64::NAN, |nanoseconds| Duration::from_nanos(*nanoseconds).as_secs_f64())
    }
}
