//! The open connections of each prefix. A prefix without one has no row, so the slots bound the rows.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use parking_lot::Mutex;

use super::prefix::Prefix;

/// The number of open connections by prefix.
#[derive(Default)]
pub struct Holds {
    counts: Mutex<HashMap<Prefix, usize>>,
}

impl Holds {
    /// One more connection.
    ///
    /// # Errors
    /// `most`, where there are as many already.
    pub fn take(self: &Arc<Self>, prefix: Prefix, most: Option<usize>) -> Result<Hold, usize> {
        let mut counts = self.counts.lock();
        match (most, counts.get(&prefix)) {
            (Some(most), Some(open)) if *open >= most => return Err(most),
            _ => *counts.entry(prefix).or_default() += 1,
        }
        Ok(Hold { holds: Arc::clone(self), prefix })
    }
}

/// One open connection of a prefix. Dropping it gives it back.
pub struct Hold {
    holds: Arc<Holds>,
    prefix: Prefix,
}

impl Drop for Hold {
    fn drop(&mut self) {
        if let Entry::Occupied(mut count) = self.holds.counts.lock().entry(self.prefix) {
            match *count.get() {
                0 | 1 => drop(count.remove()),
                open => *count.get_mut() = open - 1,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn prefix(address: &str) -> Prefix {
        Prefix::of(address.parse().unwrap())
    }

    #[test]
    fn a_hold_is_given_back_when_it_is_dropped() {
        let holds = Arc::new(Holds::default());
        let take = |address| holds.take(prefix(address), Some(2));
        let (first, second) = (take("192.0.2.7").ok(), take("192.0.2.7").ok());
        assert!(first.is_some() && second.is_some());
        assert_eq!((take("192.0.2.7").err(), take("192.0.2.7").err()), (Some(2), Some(2)));
        let other = take("192.0.2.8").ok();
        assert!(other.is_some(), "another address has its own number");
        drop(first);
        let third = take("192.0.2.7").ok();
        assert!(third.is_some() && take("192.0.2.7").is_err());
        drop((second, third, other));
        assert!(holds.counts.lock().is_empty(), "a prefix without a connection has no row");
    }

    #[test]
    fn addresses_of_one_64_count_together() {
        let holds = Arc::new(Holds::default());
        let _one = holds.take(prefix("2001:db8::1"), Some(1)).ok().unwrap();
        assert!(holds.take(prefix("2001:db8::2"), Some(1)).is_err());
        assert!(holds.take(prefix("2001:db8:0:1::1"), Some(1)).is_ok());
    }

    #[test]
    fn connections_count_also_while_there_is_no_limit() {
        let holds = Arc::new(Holds::default());
        let _open: Vec<_> = (0..3).map(|_| holds.take(prefix("192.0.2.7"), None).ok().unwrap()).collect();
        assert_eq!(holds.take(prefix("192.0.2.7"), Some(3)).err(), Some(3));
    }

    #[test]
    fn threads_that_open_and_close_leave_nothing() {
        let holds = Arc::new(Holds::default());
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..1000).for_each(|_| drop(holds.take(prefix("192.0.2.7"), Some(2)))));
            }
        });
        assert!(holds.counts.lock().is_empty());
    }
}
