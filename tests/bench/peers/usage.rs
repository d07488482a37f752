//! What processes use, as the kernel counts it. Reads /proc and clocks, and changes nothing.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;

/// A process and all that came from it.
pub fn family(root: Pid) -> io::Result<Vec<Pid>> {
    let mut children: HashMap<i32, Vec<i32>> = HashMap::new();
    for entry in fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // A process that ended meanwhile is no child any more.
        let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
        let parent = stat.rsplit_once(") ").and_then(|(_, fields)| fields.split(' ').nth(1)?.parse().ok());
        children.entry(parent.unwrap_or_default()).or_default().push(pid);
    }
    let mut family = vec![root.as_raw()];
    let mut next = 0;
    while let Some(pid) = family.get(next) {
        family.extend(children.remove(pid).unwrap_or_default());
        next += 1;
    }
    Ok(family.into_iter().map(Pid::from_raw).collect())
}

/// User and system time of all of them, dead threads included: /proc/PID/stat's figure, which has hundredths of
/// a second, from the clock that has nanoseconds.
pub fn cpu(family: &[Pid]) -> io::Result<Duration> {
    let mut total = Duration::ZERO;
    for pid in family {
        total += Duration::from(clock_gettime(ClockId::pid_cpu_clock_id(*pid)?)?);
    }
    Ok(total)
}

/// Bytes of their own, shared pages counted by their share.
pub fn pss(family: &[Pid]) -> io::Result<u64> {
    sum(family, |pid| kibibytes(&fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?, "Pss"))
}

pub fn threads(family: &[Pid]) -> io::Result<u64> {
    sum(family, |pid| Ok(fs::read_dir(format!("/proc/{pid}/task"))?.count() as u64))
}

pub fn descriptors(family: &[Pid]) -> io::Result<u64> {
    sum(family, |pid| Ok(fs::read_dir(format!("/proc/{pid}/fd"))?.count() as u64))
}

/// What the kernel holds for all processes: stacks, slab and page tables, in bytes.
pub fn kernel_memory() -> io::Result<u64> {
    let meminfo = fs::read_to_string("/proc/meminfo")?;
    ["KernelStack", "Slab", "PageTables"].into_iter().map(|field| kibibytes(&meminfo, field)).sum()
}

fn sum(family: &[Pid], of: impl Fn(Pid) -> io::Result<u64>) -> io::Result<u64> {
    family.iter().map(|pid| of(*pid)).sum()
}

/// The bytes of a line as `Pss:   12 kB`.
fn kibibytes(text: &str, field: &str) -> io::Result<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    let number = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    number.map(|number| number * 1024).ok_or_else(|| io::Error::other(format!("the kernel does not tell {field}")))
}
