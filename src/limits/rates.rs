//! Rates of events, each with a burst: by prefix, and the arithmetic of one rate. Reads a clock.
//!
//! A row is one number: the moment at which the whole burst is free again. Each event moves it one interval further, and
//! is refused where it would then be more than the burst away (the generic cell rate algorithm).

use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::prefix::Prefix;
use super::table::Table;
use crate::config::Rate;

/// The prefixes whose rates are known. A prefix that is forgotten may send its whole burst again.
const MAX_PREFIXES: usize = 10_000;

/// The events of one kind.
pub struct Rates {
    start: Instant,
    /// Nanoseconds after `start` at which the whole burst of a prefix is free again.
    free: Mutex<Table<u64>>,
}

impl Default for Rates {
    fn default() -> Self {
        Self { start: Instant::now(), free: Mutex::new(Table::new(MAX_PREFIXES)) }
    }
}

impl Rates {
    /// Counts one event.
    ///
    /// # Errors
    /// The seconds until the next one is within the rate, at least 1. The event is then not counted.
    pub fn take(&self, prefix: Prefix, rate: Rate) -> Result<(), u64> {
        self.take_at(prefix, rate, self.start.elapsed())
    }

    fn take_at(&self, prefix: Prefix, rate: Rate, now: Duration) -> Result<(), u64> {
        let mut free = self.free.lock();
        // What is free again is worth the least: a new row would be the same.
        take_one(free.row(prefix, |free| *free), rate, now)
    }
}

/// Counts one event at `now`, where `free` has the nanosecond at which the whole burst is free again.
///
/// # Errors
/// The seconds until the next one is within the rate, at least 1. The event is then not counted.
pub(super) fn take_one(free: &mut u64, rate: Rate, now: Duration) -> Result<(), u64> {
    const SECOND: u64 = 1_000_000_000;
    let nanoseconds = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    let now = nanoseconds(now);
    let interval = nanoseconds(rate.period) / u64::from(rate.count.max(1));
    let burst = interval.saturating_mul(u64::from(rate.burst));
    // A reload may have made the burst smaller.
    *free = (*free).min(now.saturating_add(burst));
    let next = now.max(*free).saturating_add(interval);
    let over = (next - now).saturating_sub(burst);
    if over > 0 {
        return Err(over.div_ceil(SECOND));
    }
    *free = next;
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn rate(count: u32, seconds: u64, burst: u32) -> Rate {
        Rate { count, period: Duration::from_secs(seconds), burst }
    }

    fn prefix(address: &str) -> Prefix {
        Prefix::of(address.parse().unwrap())
    }

    /// The events at this moment until one is refused, or 1,000.
    fn passed(rates: &Rates, rate: Rate, now: Duration) -> usize {
        (0..1000).take_while(|_| rates.take_at(prefix("192.0.2.7"), rate, now).is_ok()).count()
    }

    #[test]
    fn a_burst_passes_at_once_and_then_the_rate() {
        let (rates, rate) = (Rates::default(), rate(50, 1, 200));
        assert_eq!(passed(&rates, rate, 5 * SECOND), 200);
        assert_eq!(passed(&rates, rate, 5 * SECOND + Duration::from_millis(19)), 0);
        assert_eq!(passed(&rates, rate, 5 * SECOND + Duration::from_millis(20)), 1);
        assert_eq!(passed(&rates, rate, 6 * SECOND), 49);
        assert_eq!(passed(&rates, rate, 8 * SECOND), 100);
        assert_eq!(passed(&rates, rate, 100 * SECOND), 200, "a pause gives the burst back and no more");
    }

    #[test]
    fn the_rate_holds_over_every_longer_time() {
        let (rates, rate) = (Rates::default(), rate(3, 60, 2));
        let all: usize = (0..3600).map(|second| passed(&rates, rate, second * SECOND)).sum();
        assert_eq!(all, 2 + 3 * 60 - 1);
    }

    #[test]
    fn a_refusal_says_when_the_next_event_may_come() {
        let (rates, rate) = (Rates::default(), rate(2, 60, 1));
        let take = |now: f64| rates.take_at(prefix("192.0.2.7"), rate, Duration::from_secs_f64(now));
        assert_eq!(take(0.0), Ok(()));
        assert_eq!((take(0.0), take(0.5), take(28.5), take(29.9)), (Err(30), Err(30), Err(2), Err(1)));
        assert_eq!(take(30.0), Ok(()));
        assert_eq!(take(59.0), Err(1), "what was refused did not count");
        assert_eq!(take(60.0), Ok(()));
    }

    #[test]
    fn each_prefix_has_a_rate_of_its_own() {
        let (rates, rate) = (Rates::default(), rate(1, 1, 1));
        let take = |address| rates.take_at(prefix(address), rate, SECOND);
        for address in ["192.0.2.7", "192.0.2.8", "2001:db8::1", "2001:db8:0:1::1"] {
            assert_eq!((take(address), take(address)), (Ok(()), Err(1)), "{address}");
        }
        assert_eq!(take("2001:db8::2"), Err(1), "it is in the /64 of another address");
    }

    #[test]
    fn a_smaller_burst_holds_from_the_reload_on() {
        let rates = Rates::default();
        assert_eq!(passed(&rates, rate(1, 3600, 1000), SECOND), 1000);
        assert_eq!(passed(&rates, rate(10, 1, 5), SECOND), 0);
        assert_eq!(passed(&rates, rate(10, 1, 5), 2 * SECOND), 5);
    }

    #[test]
    fn no_rate_overflows() {
        for rate in [rate(1, 3600, 1_000_000), rate(1_000_000, 1, 1_000_000)] {
            for now in [0, 1 << 30, u64::MAX] {
                assert_eq!(passed(&Rates::default(), rate, Duration::from_secs(now)), 1000, "{rate} at {now}");
            }
        }
    }

    #[test]
    fn an_address_over_its_rate_is_not_forgotten_for_new_ones() {
        let (rates, rate) = (Rates::default(), rate(1, 60, 3));
        assert_eq!(passed(&rates, rate, SECOND), 3);
        for number in 0..30_000_u32 {
            rates.take_at(Prefix::V6(number.into()), rate, SECOND).unwrap();
        }
        assert_eq!(passed(&rates, rate, SECOND), 0);
        assert_eq!(rates.free.lock().iter().count(), MAX_PREFIXES);
    }
}
