//! The loads, one file for each kind, in the order in which they run.

pub mod attack;
mod crowd;
mod fleet;
mod growth;
mod idle;
mod messages;
mod requests;
mod restart;
mod scrape;
mod storm;
mod watch;

use crate::bench::{Bench, Findings};

/// A name for LOADS, and what it runs.
pub struct Load {
    pub name: &'static str,
    pub run: fn(&Bench, &mut Findings),
}

/// What runs only when it is named.
pub const ON_REQUEST: [Load; 1] = [Load { name: "fleet", run: fleet::run }];

/// The others. Memory comes first, before the kernel's caches have grown by the other loads.
pub const LOADS: [Load; 14] = [
    Load { name: "idle", run: idle::run },
    Load { name: "storm", run: storm::run },
    Load { name: "restart", run: restart::run },
    Load { name: "echo", run: messages::echo },
    Load { name: "closed", run: messages::closed },
    Load { name: "large", run: messages::large },
    Load { name: "watch", run: watch::run },
    Load { name: "rest", run: requests::kept },
    Load { name: "connect", run: requests::fresh },
    Load { name: "bodies", run: requests::bodies },
    Load { name: "growth", run: growth::run },
    Load { name: "crowd", run: crowd::run },
    Load { name: "scrape", run: scrape::run },
    Load { name: "attack", run: attack::run },
];
