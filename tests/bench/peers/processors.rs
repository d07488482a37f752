//! Which processors the programs of the load `attack` run on. The attacker stands for another machine, so it has a
//! processor of its own and takes none from anybody.

use std::io;

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// Keeps this process, and what it starts from now on, off the last processor that it may use. That one is the result.
/// The attacker and all others share a sole processor.
pub fn leave_one() -> io::Result<usize> {
    let this = Pid::from_raw(0);
    let allowed = sched_getaffinity(this)?;
    let mut processors: Vec<_> =
        (0..CpuSet::count()).filter(|processor| allowed.is_set(*processor) == Ok(true)).collect();
    let last = processors.pop().ok_or_else(|| io::Error::other("no processor"))?;
    if !processors.is_empty() {
        let mut others = allowed;
        others.unset(last)?;
        sched_setaffinity(this, &others)?;
    }
    Ok(last)
}
