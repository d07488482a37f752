//! What this process uses, according to the kernel. Reads /proc and touches nothing else.

use std::fs;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde::Serialize;

/// Units of CPU time in /proc: USER_HZ, which is 100 on every architecture that this runs on.
const TICKS_PER_SECOND: f64 = 100.0;
/// The time between two samples of the CPU time.
const SAMPLE: Duration = Duration::from_secs(5);

/// The figures of one moment; `None` where the kernel does not give one.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Process {
    /// The number of the process.
    pub pid: u32,
    /// Resident bytes.
    pub memory: Option<u64>,
    /// Bytes of address space.
    #[serde(skip)]
    pub address_space: Option<u64>,
    /// Threads that exist now.
    pub threads: Option<u64>,
    /// File descriptors that are open now.
    pub descriptors: Option<u64>,
    /// File descriptors that it may open (RLIMIT_NOFILE, soft).
    pub descriptor_limit: Option<u64>,
    /// The share of one core over the last 5 to 10 seconds; 2 is two cores.
    pub cpu: Option<f64>,
    /// User and system time since the start.
    pub cpu_seconds: Option<f64>,
    /// When it started, in seconds since the epoch.
    #[serde(skip)]
    pub started: Option<f64>,
}

impl Process {
    /// Reads them.
    pub fn measure(load: &Load) -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let stat = stat();
        let cpu_seconds = stat.as_deref().and_then(cpu_seconds);
        Self {
            pid: std::process::id(),
            memory: kibibytes(&status, "VmRSS:"),
            address_space: kibibytes(&status, "VmSize:"),
            threads: field(&status, "Threads:"),
            descriptors: descriptors(),
            descriptor_limit: rlimit::Resource::NOFILE.get_soft().ok(),
            cpu: cpu_seconds.map(|seconds| load.since_last(seconds)),
            cpu_seconds,
            started: stat.as_deref().and_then(started),
        }
    }
}

/// Samples of the CPU time, for the share of the last seconds.
pub struct Load(Mutex<[(Instant, f64); 2]>);

impl Load {
    /// Starts with the CPU time of now.
    pub fn new() -> Self {
        let now = (Instant::now(), stat().as_deref().and_then(cpu_seconds).unwrap_or(0.0));
        Self(Mutex::new([now; 2]))
    }

    /// Takes a sample when one is due; to be called once a second.
    pub fn tick(&self) {
        let mut samples = self.0.lock();
        if samples[1].0.elapsed() >= SAMPLE {
            if let Some(seconds) = stat().as_deref().and_then(cpu_seconds) {
                *samples = [samples[1], (Instant::now(), seconds)];
            }
        }
    }

    fn since_last(&self, seconds: f64) -> f64 {
        let (at, then) = self.0.lock()[0];
        let share = (seconds - then) / at.elapsed().as_secs_f64().max(0.001);
        (share * 10_000.0).round() / 10_000.0
    }
}

/// From Linux 6.2 on the size of the directory is the number of open descriptors (filesystems/proc.rst of the kernel).
/// Counting 10,000 of them would take longer than everything else here.
fn descriptors() -> Option<u64> {
    let size = fs::metadata("/proc/self/fd").ok()?.len();
    if size > 0 { Some(size) } else { count_descriptors() }
}

fn count_descriptors() -> Option<u64> {
    // One of them belongs to the listing itself.
    fs::read_dir("/proc/self/fd").ok().map(|list| list.count().saturating_sub(1) as u64)
}

/// The fields of /proc/self/stat after the command's name, which may contain blanks.
fn stat() -> Option<String> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    stat.rsplit_once(") ").map(|(_, fields)| fields.to_owned())
}

/// utime and stime, fields 14 and 15 of proc(5); the first one here is field 3.
fn cpu_seconds(fields: &str) -> Option<f64> {
    let mut ticks = fields.split(' ').skip(11).map_while(|field| field.parse::<f64>().ok());
    Some((ticks.next()? + ticks.next()?) / TICKS_PER_SECOND)
}

/// starttime, field 22, is relative to the boot of the machine.
fn started(fields: &str) -> Option<f64> {
    let ticks: f64 = fields.split(' ').nth(19)?.parse().ok()?;
    let machine: f64 = field(&fs::read_to_string("/proc/stat").ok()?, "btime ")?;
    Some(machine + ticks / TICKS_PER_SECOND)
}

fn field<T: std::str::FromStr>(text: &str, name: &str) -> Option<T> {
    text.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
}

fn kibibytes(status: &str, name: &str) -> Option<u64> {
    field::<u64>(status, name).map(|kib| kib * 1024)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use std::time::{SystemTime, UNIX_EPOCH};

    #[test]
    fn the_figures_of_this_process_are_plausible() {
        let process = Process::measure(&Load::new());
        assert_eq!(process.pid, std::process::id());
        assert!(process.memory.unwrap() > 100_000);
        assert!(process.address_space.unwrap() >= process.memory.unwrap());
        assert!(process.threads.unwrap() >= 1);
        assert!((1..process.descriptor_limit.unwrap()).contains(&process.descriptors.unwrap()));
        assert!(process.cpu.unwrap() >= 0.0);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
        assert!((now - 86_400.0..now + 2.0).contains(&process.started.unwrap()), "{process:?}");
    }

    #[test]
    fn both_ways_to_count_descriptors_agree() {
        // Other tests open and close some at the same time.
        let alike = || descriptors().unwrap() == count_descriptors().unwrap();
        assert!((0..1000).any(|_| alike()));
        let opened: Vec<_> = (0..500).map(|_| fs::File::open("/dev/null").unwrap()).collect();
        for count in [descriptors, count_descriptors] {
            assert!(count().unwrap() > opened.len() as u64);
        }
    }

    #[test]
    fn cpu_time_is_user_and_system() {
        let fields = "S 1 2 2 0 -1 4194560 1 0 0 0 250 50 0 0 20 0 1 0 1234 0";
        assert_eq!(cpu_seconds(fields), Some(3.0));
        assert_eq!(cpu_seconds("S 1"), None);
    }
}
