//! The number of connections that this machine can carry, and the limit that it follows from. Reads /proc and cgroups;
//! the arithmetic is pure.
//!
//! std aborts the process when a new thread cannot map its stacks. The number of slots must therefore stay below what
//! the kernel allows.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{Fault, Limit};

/// Threads of one connection once it is a tunnel. Idle carriers are counted among them: they are as many as there are free
/// slots at most.
const THREADS: u64 = 2;
/// Mappings of one thread: its stack and its signal stack, each with a guard page.
const MAPPINGS_PER_THREAD: u64 = 4;
/// Descriptors of one connection: the client's socket and the backend's.
const DESCRIPTORS: u64 = 2;
/// Address space of one connection: the mapped stacks, and the share of the allocator's arenas.
const ADDRESS_SPACE: u64 = 480 * 1024;
/// Memory of one connection, generously: 72 KiB were measured for an idle tunnel.
const MEMORY: u64 = 128 * 1024;

/// What the process needs besides its clients: listeners, idle workers and backend connections, monitor, log.
const DESCRIPTORS_KEPT: u64 = 384;
const THREADS_KEPT: u64 = 384;
const MAPPINGS_KEPT: u64 = 2048;

/// The rule of a number that the operator has set.
const SETTING: &str = "MAX_CONNECTIONS";
/// When a client without a slot may try again, in seconds.
const RETRY_AFTER: u64 = 5;

/// A number of connections, and the limit that it follows from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// At least 1.
    pub connections: usize,
    /// The limit, in words for the log and for a refused client.
    pub rule: &'static str,
}

impl Capacity {
    /// The same, but at most as many connections as the setting MAX_CONNECTIONS has.
    #[must_use]
    pub fn at_most(self, setting: Option<usize>) -> Self {
        match setting {
            Some(connections) if connections < self.connections => Self { connections, rule: SETTING },
            _ => self,
        }
    }

    /// What a client without a slot gets.
    pub fn fault(self) -> Fault {
        match self {
            Self { connections, rule: SETTING } => {
                Fault::OverLimit { limit: Limit::Total(connections), retry_after: RETRY_AFTER }
            }
            Self { connections, rule } => Fault::Full { limit: connections, rule },
        }
    }
}

/// The limits of this machine, as far as they could be read.
#[derive(Clone, Debug, Default)]
pub struct Machine {
    /// Open files of this process (RLIMIT_NOFILE, soft).
    pub descriptors: Option<u64>,
    /// vm.max_map_count.
    pub mappings: Option<u64>,
    /// kernel.threads-max.
    pub threads: Option<u64>,
    /// kernel.pid_max.
    pub pids: Option<u64>,
    /// pids.max of the control group, or the tightest above it.
    pub group_pids: Option<u64>,
    /// RLIMIT_NPROC, soft; unlimited for root.
    pub processes: Option<u64>,
    /// Bytes of address space (RLIMIT_AS, soft).
    pub address_space: Option<u64>,
    /// Bytes: the machine's memory or the control group's, whichever is less.
    pub memory: Option<u64>,
}

impl Machine {
    /// Raises the soft limit of open files to the hard one, then reads the limits.
    pub fn measure() -> Self {
        let descriptors = rlimit::increase_nofile_limit(u64::MAX)
            .or_else(|_| rlimit::Resource::NOFILE.get_soft())
            .ok()
            .filter(|limit| *limit != rlimit::INFINITY);
        let soft = |resource: rlimit::Resource| resource.get_soft().ok().filter(|limit| *limit != rlimit::INFINITY);
        let groups = control_groups();
        let in_groups = |file: &str| groups.iter().filter_map(|group| number(&group.join(file))).min();
        let total = fs::read_to_string("/proc/meminfo").ok().and_then(|text| memory_total(&text));
        Self {
            descriptors,
            mappings: number(Path::new("/proc/sys/vm/max_map_count")),
            threads: number(Path::new("/proc/sys/kernel/threads-max")),
            pids: number(Path::new("/proc/sys/kernel/pid_max")),
            group_pids: in_groups("pids.max"),
            processes: soft(rlimit::Resource::NPROC),
            address_space: soft(rlimit::Resource::AS),
            memory: [total, in_groups("memory.max")].into_iter().flatten().min(),
        }
    }

    /// The number of connections that follows from these limits.
    pub fn capacity(&self) -> Capacity {
        let threads = |limit: u64| limit.saturating_sub(THREADS_KEPT) / THREADS;
        // Other processes have threads too: a quarter of a shared limit is left to them.
        let shared_threads = |limit: u64| threads(limit / 4 * 3);
        let rules = [
            (self.descriptors.map(|n| n.saturating_sub(DESCRIPTORS_KEPT) / DESCRIPTORS), "open files, ulimit -n"),
            (
                self.mappings.map(|n| n.saturating_sub(MAPPINGS_KEPT) / (MAPPINGS_PER_THREAD * THREADS)),
                "memory mappings, vm.max_map_count",
            ),
            (self.threads.map(shared_threads), "threads, kernel.threads-max"),
            (self.pids.map(shared_threads), "thread numbers, kernel.pid_max"),
            (self.group_pids.map(threads), "tasks of the control group, pids.max or TasksMax"),
            (self.processes.map(threads), "threads of this user, ulimit -u"),
            (self.address_space.map(|n| n / 2 / ADDRESS_SPACE), "address space, ulimit -v"),
            (self.memory.map(|n| n / 4 * 3 / MEMORY), "memory"),
        ];
        let (connections, rule) = rules
            .into_iter()
            .filter_map(|(limit, rule)| Some((limit?, rule)))
            .min_by_key(|(limit, _)| *limit)
            .unwrap_or((1024, "nothing known of this machine"));
        Capacity { connections: usize::try_from(connections).unwrap_or(usize::MAX).max(1), rule }
    }
}

/// The control group of this process and all above it, nearest first (cgroup v2).
fn control_groups() -> Vec<PathBuf> {
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let own = own.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or("");
    Path::new("/sys/fs/cgroup")
        .join(own)
        .ancestors()
        .take_while(|path| path.starts_with("/sys/fs/cgroup"))
        .map(Path::to_path_buf)
        .collect()
}

/// The number in a file; `None` for `max` and anything else.
fn number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn memory_total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tightest_limit_decides() {
        let vast = Machine {
            descriptors: Some(1 << 20),
            mappings: Some(65_530),
            threads: Some(192_730),
            pids: Some(4_194_304),
            group_pids: None,
            processes: None,
            address_space: None,
            memory: Some(24 << 30),
        };
        let rule = |machine: Machine| machine.capacity();
        assert_eq!(rule(vast.clone()), Capacity { connections: 7935, rule: "memory mappings, vm.max_map_count" });
        assert_eq!(rule(Machine { descriptors: Some(1024), ..vast.clone() }).connections, 320);
        assert_eq!(rule(Machine { group_pids: Some(512), ..vast.clone() }).connections, 64);
        assert_eq!(rule(Machine { pids: Some(8192), ..vast.clone() }).connections, 2880);
        assert_eq!(rule(Machine { memory: Some(512 << 20), ..vast.clone() }).connections, 3072);
        assert_eq!(rule(Machine { address_space: Some(1_536_000_000), ..vast.clone() }).connections, 1562);
        assert_eq!(rule(Machine { descriptors: Some(20), ..vast }).connections, 1);
        assert_eq!(rule(Machine::default()).connections, 1024);
    }

    #[test]
    fn the_setting_lowers_the_number_and_never_raises_it() {
        let machine = Capacity { connections: 100, rule: "memory" };
        for (setting, expected) in [(None, machine), (Some(100), machine), (Some(101), machine)] {
            assert_eq!(machine.at_most(setting), expected, "{setting:?}");
        }
        let lowered = machine.at_most(Some(99));
        assert_eq!(lowered, Capacity { connections: 99, rule: "MAX_CONNECTIONS" });
        assert_eq!((lowered.fault().status(), machine.fault().status()), (429, 503));
    }

    #[test]
    fn the_total_memory_is_read_in_bytes() {
        assert_eq!(memory_total("MemTotal:         498756 kB\nMemFree: 1 kB\n"), Some(498_756 * 1024));
        assert_eq!(memory_total("nonsense"), None);
    }

    #[test]
    fn this_machine_can_be_measured() {
        assert!(Machine::measure().capacity().connections >= 1);
    }
}
