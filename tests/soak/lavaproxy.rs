//! The real lavaproxy as a process of its own: its start, its log, its figures in /proc and in the API, its successors,
//! its stop.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::ledger::{Counted, Group, Port};
use crate::load::{Load, within};
use crate::random::Random;
use crate::support::Client;
use crate::wire::PATIENCE;

/// What a process holds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Held {
    pub threads: u64,
    pub descriptors: u64,
    /// VmRSS in KiB.
    pub memory: u64,
}

/// What its log says.
#[derive(Default)]
pub struct Log {
    /// Lines of level error and warn, those aside that trouble on purpose leads to.
    pub alarming: Vec<String>,
    pub ended: HashMap<Port, Vec<Counted>>,
    pub reasons: BTreeMap<String, u64>,
    listeners: HashMap<String, SocketAddr>,
    /// Sessions that another node has taken over, with their players, and how often lavaproxy read its settings.
    pub takeovers: u64,
    pub players: u64,
    reloads: u64,
    /// The process numbers of those that took over.
    successors: Vec<u32>,
    /// Predecessors that accept no more clients.
    closed: usize,
    /// Processes that have stopped as they should.
    stopped: usize,
}

pub struct Lavaproxy {
    set: Vec<(String, String)>,
    /// The process that was started here.
    child: Child,
    /// The one that serves now: the child, or its latest successor.
    serving: AtomicU32,
    /// Starts and upgrades so far.
    begun: AtomicU32,
    log: Arc<Mutex<Log>>,
    reader: Option<JoinHandle<()>>,
    pub proxy: SocketAddr,
    pub web: SocketAddr,
}

impl Lavaproxy {
    pub fn start(set: &[(&str, &str)]) -> Self {
        let set: Vec<_> = set.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let log = Arc::default();
        let (child, reader) = spawn(&set, &log);
        let listener = |name| log.lock().unwrap().listeners[name];
        let (proxy, web, serving) = (listener("proxy"), listener("web"), child.id().into());
        Self { set, child, serving, begun: 1.into(), log, reader: Some(reader), proxy, web }
    }

    pub fn pid(&self) -> u32 {
        self.serving.load(SeqCst)
    }

    pub fn is_running(&self) -> bool {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap_or_default();
        stat.rsplit(')').next().is_some_and(|rest| !rest.is_empty() && !rest.trim_start().starts_with(['Z', 'X']))
    }

    /// Replaces it by a successor now and then.
    pub fn upgrade_now_and_then(&self, load: &Load, seed: u64) {
        let mut random = Random::new(seed);
        while !load.pause(random.millis(1000, 4000)) {
            load.upgrade(|| self.upgrade());
        }
    }

    /// Replaces it by a successor, whose figures are never behind those that were shown before.
    fn upgrade(&self) {
        let shown = |stats: &serde_json::Value| stats["totals"]["bytesOut"].as_u64().unwrap();
        let (before, known) = (self.stats(), self.log(|log| log.successors.len()));
        self.signal(Signal::SIGUSR2);
        assert!(within(PATIENCE, || self.log(|log| log.successors.len() > known)), "no successor");
        self.serving.store(self.log(|log| log.successors[known]), SeqCst);
        self.begun.fetch_add(1, SeqCst);
        // Until then a predecessor takes new clients, for one request each.
        assert!(within(PATIENCE, || self.log(|log| log.closed > known)), "the predecessor still accepts");
        let has_taken_over = || {
            let now = self.stats();
            now["startedAt"] != before["startedAt"] && shown(&now) >= shown(&before)
        };
        assert!(within(PATIENCE, has_taken_over), "{} instead of {}", self.stats()["totals"], before["totals"]);
    }

    /// Makes it read its settings again now and then, which changes nothing.
    pub fn reload_now_and_then(&self, load: &Load, seed: u64) {
        let mut random = Random::new(seed);
        while !load.pause(random.millis(500, 3000)) {
            let (before, upgrades) = (self.log(|log| log.reloads), load.upgrades());
            // A process that has a successor reads nothing any more.
            if load.is_upgrading() {
                continue;
            }
            self.signal(Signal::SIGHUP);
            let is_done = || self.log(|log| log.reloads) > before || load.upgrades() > upgrades;
            assert!(within(PATIENCE, is_done), "it has not read its settings again");
        }
    }

    /// How often a successor took over.
    pub fn upgrades(&self) -> usize {
        self.log(|log| log.successors.len())
    }

    /// True when every process has ended but the one that serves.
    pub fn is_alone(&self) -> bool {
        self.log(|log| log.stopped) + 1 == self.begun.load(SeqCst) as usize
    }

    /// A stop and a start at the same addresses.
    pub fn restart(&mut self) {
        assert!(self.stop(), "it has not stopped as it should");
        for (name, value) in &mut self.set {
            match &**name {
                "PROXY_PORT" => *value = self.proxy.port().to_string(),
                "WEB_PORT" => *value = self.web.port().to_string(),
                _ => {}
            }
        }
        let (child, reader) = spawn(&self.set, &self.log);
        self.serving.store(child.id(), SeqCst);
        self.begun.fetch_add(1, SeqCst);
        (self.child, self.reader) = (child, Some(reader));
    }

    pub fn held(&self) -> Held {
        let own = format!("/proc/{}", self.pid());
        let status = fs::read_to_string(format!("{own}/status")).unwrap_or_default();
        let figure = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
            line.trim_matches([':', '\t', ' ', 'k', 'B']).parse().unwrap_or(0)
        };
        let descriptors = fs::read_dir(format!("{own}/fd")).map_or(0, |files| files.count() as u64);
        Held { threads: figure("Threads"), descriptors, memory: figure("VmRSS") }
    }

    /// User and system time so far, in seconds.
    pub fn cpu_seconds(&self) -> f64 {
        self.metric("process_cpu_seconds_total")
    }

    /// How many loads failed on these nodes and were tried on another one.
    pub fn loads_retried(&self, nodes: &[&str]) -> f64 {
        let of_node = |node| format!("lavaproxy_node_loads_retried_total{{node=\"{node}\"}}");
        nodes.iter().map(|node| self.metric(&of_node(node))).sum()
    }

    fn metric(&self, name: &str) -> f64 {
        let metrics = self.ask("/metrics").text();
        let figure = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        figure.and_then(|figure| figure.parse().ok()).unwrap_or_else(|| panic!("no {name} in {metrics}"))
    }

    fn ask(&self, path: &str) -> crate::support::Response {
        let mut client = Client::connect(self.web);
        client.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").as_bytes());
        client.response()
    }

    pub fn stats(&self) -> serde_json::Value {
        self.ask("/api/stats").json()
    }

    /// Looks at what the log has said so far.
    pub fn log<T>(&self, look: impl FnOnce(&Log) -> T) -> T {
        look(&self.log.lock().unwrap())
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid() as i32), signal).unwrap();
    }

    /// SIGTERM; whether every process has ended well, and its log's last word was that it did.
    pub fn stop(&mut self) -> bool {
        self.signal(Signal::SIGTERM);
        let status = self.child.wait().unwrap();
        // The log ends with the last process.
        self.reader.take().unwrap().join().unwrap();
        status.success() && self.log(|log| log.stopped) == self.begun.load(SeqCst) as usize
    }
}

/// Starts the process and the thread that reads its log. Returns once its listeners are open.
fn spawn(set: &[(String, String)], log: &Arc<Mutex<Log>>) -> (Child, JoinHandle<()>) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lavaproxy"));
    // Of what is freed glibc keeps much, in up to eight arenas a core and in lists of each thread, and a leak would hide
    // in that: here it has one arena and no such lists, and maps each buffer by itself.
    command.env_clear().env("MALLOC_ARENA_MAX", "1").env("MALLOC_MMAP_THRESHOLD_", "4096");
    command.env("GLIBC_TUNABLES", "glibc.malloc.tcache_count=0");
    command.envs(set.iter().map(|(name, value)| (name, value))).current_dir(env!("CARGO_TARGET_TMPDIR"));
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    log.lock().unwrap().listeners.clear();
    while log.lock().unwrap().listeners.len() < 2 {
        let line = lines.next().expect("it ended before its listeners were open").unwrap();
        log.lock().unwrap().read(&line);
    }
    let log = Arc::clone(log);
    (child, thread::spawn(move || lines.map_while(Result::ok).for_each(|line| log.lock().unwrap().read(&line))))
}

impl Drop for Lavaproxy {
    fn drop(&mut self) {
        // They have ended already unless the test failed.
        let _ = kill(Pid::from_raw(self.pid() as i32), Signal::SIGKILL);
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Log {
    fn read(&mut self, line: &str) {
        let value = |key: &str| {
            let (_, rest) = line.split_once(&format!(" {key}="))?;
            rest.split_whitespace().next()
        };
        let number = |key: &str| value(key).and_then(|text| text.parse().ok()).unwrap_or(u64::MAX);
        let event = value("event").unwrap_or_default();
        match event {
            "listening" => {
                let listener = value("listener").unwrap_or_default().to_owned();
                self.listeners.insert(listener, value("address").unwrap().parse().unwrap());
            }
            "ended" if value("listener") == Some("proxy") => {
                let client: SocketAddr = value("client").unwrap().parse().unwrap();
                let counted =
                    Counted { requests: number("requests"), bytes_in: number("in"), bytes_out: number("out") };
                if let Some(group) = Group::of(client.ip()) {
                    self.ended.entry((group, client.port())).or_default().push(counted);
                }
                *self.reasons.entry(value("reason").unwrap_or_default().to_owned()).or_default() += 1;
            }
            "takeover" => {
                self.takeovers += 1;
                self.players += number("players");
            }
            "reload" => self.reloads += 1,
            "upgraded" => self.successors.push(value("successor").unwrap().parse().unwrap()),
            "listeners-closed" => self.closed += 1,
            "stopped" => self.stopped += 1,
            _ => {}
        }
        // A node that restarts is down for a while. A process with a successor takes no session over.
        let is_after_upgrade = event == "takeover-failed" && line.contains("in an upgrade");
        let expected = event == "node-down" || is_after_upgrade;
        if !matches!(value("level"), Some("info")) && !expected {
            self.alarming.push(line.to_owned());
        }
    }

    pub fn connections(&self, group: Group) -> u64 {
        self.ended.iter().filter(|(port, _)| port.0 == group).map(|(_, counted)| counted.len() as u64).sum()
    }

    pub fn sum(&self, group: Group) -> Counted {
        let all = self.ended.iter().filter(|(port, _)| port.0 == group).flat_map(|(_, counted)| counted);
        all.fold(Counted::default(), |sum, one| sum + *one)
    }
}
