//! Moments in milliseconds since the Unix epoch, as the API and the state file have them. Reads the system's clock.

use std::time::{SystemTime, UNIX_EPOCH};

/// Now.
pub fn unix_millis() -> u64 {
    millis_of(SystemTime::now())
}

/// This moment; 0 for one before the epoch.
pub fn millis_of(moment: SystemTime) -> u64 {
    u64::try_from(moment.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis()).unwrap_or(u64::MAX)
}
