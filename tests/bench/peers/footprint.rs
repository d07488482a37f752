//! The memory that tunnels take, in the processes and in the kernel.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use crate::compare::{Metric, Samples};
use crate::contestant::{Contestant, Running};
use crate::usage;

/// The kernel frees sockets late; it is quiet when so little changed between two looks.
const QUIET: u64 = 64 * 1024;
const PAUSES: u32 = 10;

/// Bytes in use at one moment.
#[derive(Clone, Copy)]
pub struct Footprint {
    /// By the contestant's processes.
    pub own: f64,
    /// By the kernel, for everybody.
    kernel: f64,
}

impl Footprint {
    /// Looks once the kernel is quiet, or when the patience is at its end.
    pub fn of(running: &Running, patience: Duration) -> io::Result<Self> {
        let since = Instant::now();
        let mut kernel = usage::kernel_memory()?;
        loop {
            thread::sleep(patience / PAUSES);
            let now = usage::kernel_memory()?;
            if now.abs_diff(kernel) < QUIET || since.elapsed() > patience {
                return Ok(Self { own: usage::pss(running.family())? as f64, kernel: now as f64 });
            }
            kernel = now;
        }
    }

    /// What came to it, both together.
    pub fn since(self, before: Self) -> f64 {
        self.own - before.own + self.kernel - before.kernel
    }
}

/// Leaves of each contestant's memory what it takes itself: the sockets of the client and of the node, which are
/// there in direct connections too, are no proxy's doing.
pub fn without_direct(samples: &mut Samples) {
    let Some(direct) = samples.0.remove(&Contestant::Direct) else { return };
    for rounds in samples.0.values_mut() {
        for (sample, direct) in rounds.iter_mut().zip(&direct) {
            let direct = direct.as_ref().and_then(|sample| sample.get(&Metric::Memory));
            if let (Some(sample), Some(direct)) = (sample, direct) {
                sample.entry(Metric::Memory).and_modify(|memory| *memory -= direct);
            }
        }
    }
}
