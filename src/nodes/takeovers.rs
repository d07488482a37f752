//! How the sessions of a lost node went on elsewhere: counters for the metrics and the API. It touches no socket.

use std::time::Duration;

use parking_lot::Mutex;

/// The upper bounds of the buckets for the time without a node, in seconds.
pub const GAP_BOUNDS: [f64; 9] = [0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0];

/// The figures of one node.
#[derive(Default)]
pub struct Takeovers(Mutex<Figures>);

/// What has become of the sessions of a node.
#[derive(Clone, Copy, Debug, Default)]
pub struct Figures {
    /// Sessions that have no node at present.
    pub under_way: u64,
    /// Sessions that another node has, or the same one again.
    pub taken: u64,
    /// Sessions that no node has taken in time.
    pub failed: u64,
    /// Sessions whose client has left meanwhile.
    pub over: u64,
    /// Players that play on.
    pub players: u64,
    /// Players that the next node has refused.
    pub refused: u64,
    /// The number of takeovers up to each of [`GAP_BOUNDS`], without those of the bucket before.
    pub buckets: [u64; GAP_BOUNDS.len()],
    /// The sum of their times, in seconds.
    pub sum: f64,
}

/// A takeover that is under way, until it is dropped.
pub struct UnderWay<'t>(&'t Takeovers);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.0.lock().under_way -= 1;
    }
}

impl Takeovers {
    /// A session has lost its node.
    pub fn begin(&self) -> UnderWay<'_> {
        self.0.lock().under_way += 1;
        UnderWay(self)
    }

    /// Another node has a session, after this time.
    pub fn count_taken(&self, gap: Duration, players: usize, refused: usize) {
        let mut figures = self.0.lock();
        let seconds = gap.as_secs_f64();
        figures.taken += 1;
        figures.players += players as u64;
        figures.refused += refused as u64;
        figures.sum += seconds;
        if let Some(bucket) = GAP_BOUNDS.iter().position(|bound| seconds <= *bound) {
            figures.buckets[bucket] += 1;
        }
    }

    /// No node has taken a session.
    pub fn count_failed(&self) {
        self.0.lock().failed += 1;
    }

    /// The client of a session has left before a node had it.
    pub fn count_over(&self) {
        self.0.lock().over += 1;
    }

    /// All figures.
    pub fn figures(&self) -> Figures {
        *self.0.lock()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_takeover_is_counted_in_the_bucket_of_its_time() {
        let takeovers = Takeovers::default();
        takeovers.count_taken(Duration::from_millis(90), 3, 1);
        takeovers.count_taken(Duration::from_secs(3600), 2, 0);
        takeovers.count_failed();
        takeovers.count_over();
        let under_way = takeovers.begin();
        let figures = takeovers.figures();
        drop(under_way);
        assert_eq!((figures.under_way, figures.over, takeovers.figures().under_way), (1, 1, 0));
        assert_eq!((figures.taken, figures.failed, figures.players, figures.refused), (2, 1, 5, 1));
        assert_eq!(figures.buckets, [0, 1, 0, 0, 0, 0, 0, 0, 0]);
    }
}
