//! Context switches, voluntary and not, of all threads of a contestant's processes. The kernel counts them for each
//! thread (/proc/PID/task/TID/status) and adds up the threads of a process only for the process that waits for its end
//! (`getrusage`). So there are two ways:
//!
//! - [`Switches`] before and after a load. A thread that starts meanwhile counts whole. One that ends takes its count
//!   along, so this is for loads in which no thread of any contestant ends.
//! - [`of_the_dead`] before and after the end of a contestant, for loads in which threads end.

use std::collections::HashMap;
use std::fs;
use std::io;

use nix::sys::resource::{UsageWho, getrusage};
use nix::unistd::Pid;

/// What each living thread has, by its id.
pub struct Switches(HashMap<String, u64>);

impl Switches {
    pub fn of(family: &[Pid]) -> io::Result<Self> {
        let mut threads = HashMap::new();
        for pid in family {
            for task in fs::read_dir(format!("/proc/{pid}/task"))? {
                let task = task?;
                // A thread that ended meanwhile has no file any more.
                let Ok(status) = fs::read_to_string(task.path().join("status")) else { continue };
                threads.insert(task.file_name().to_string_lossy().into_owned(), of_thread(&status)?);
            }
        }
        Ok(Self(threads))
    }

    /// Those that came since then.
    pub fn since(&self, before: &Self) -> u64 {
        let earlier = |thread| before.0.get(thread).copied().unwrap_or_default();
        self.0.iter().map(|(thread, count)| count.saturating_sub(earlier(thread))).sum()
    }

    pub fn total(&self) -> u64 {
        self.0.values().sum()
    }
}

/// Of all processes that the bench has waited for, with all the threads that they ever had.
pub fn of_the_dead() -> io::Result<u64> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let total = usage.voluntary_context_switches() + usage.involuntary_context_switches();
    u64::try_from(total).map_err(io::Error::other)
}

fn of_thread(status: &str) -> io::Result<u64> {
    let value = |line: &str| {
        let (field, value) = line.split_once(':')?;
        if field.ends_with("voluntary_ctxt_switches") { value.trim().parse::<u64>().ok() } else { None }
    };
    let counts: Vec<_> = status.lines().filter_map(value).collect();
    match counts[..] {
        [voluntary, involuntary] => Ok(voluntary + involuntary),
        _ => Err(io::Error::other("the kernel does not tell context switches")),
    }
}
