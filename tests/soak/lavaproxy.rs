//! The real lavaproxy as a process of its own: its start, its log, its figures in /proc and in the API, its stop.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::ledger::{Counted, Group, Port};
use crate::support::Client;

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
    stopped: bool,
}

pub struct Lavaproxy {
    child: Child,
    log: Arc<Mutex<Log>>,
    reader: Option<JoinHandle<()>>,
    pub proxy: SocketAddr,
    pub web: SocketAddr,
}

impl Lavaproxy {
    pub fn start(set: &[(&str, &str)]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lavaproxy"));
        // Of what is freed glibc keeps much, in up to eight arenas a core, and a leak would hide in that: here it has one,
        // and maps each buffer by itself.
        command.env_clear().env("MALLOC_ARENA_MAX", "1").env("MALLOC_MMAP_THRESHOLD_", "4096");
        command.envs(set.iter().copied());
        command.current_dir(env!("CARGO_TARGET_TMPDIR"));
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut first = Log::default();
        while !first.listeners.contains_key("proxy") || !first.listeners.contains_key("web") {
            first.read(&lines.next().expect("it ended before its listeners were open").unwrap());
        }
        let (proxy, web) = (first.listeners["proxy"], first.listeners["web"]);
        let log = Arc::new(Mutex::new(first));
        let reader = thread::spawn({
            let log = Arc::clone(&log);
            move || lines.map_while(Result::ok).for_each(|line| log.lock().unwrap().read(&line))
        });
        Self { child, log, reader: Some(reader), proxy, web }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
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

    /// SIGTERM; how it ended, and whether its log's last word was that it did.
    pub fn stop(&mut self) -> (ExitStatus, bool) {
        kill(Pid::from_raw(self.pid() as i32), Signal::SIGTERM).unwrap();
        let status = self.child.wait().unwrap();
        self.reader.take().unwrap().join().unwrap();
        let stopped = self.log.lock().unwrap().stopped;
        (status, stopped)
    }
}

impl Drop for Lavaproxy {
    fn drop(&mut self) {
        // It has ended already unless the test failed.
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
            "stopped" => self.stopped = true,
            _ => {}
        }
        // A node that restarts is down for a while.
        let expected = event == "node-down";
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
