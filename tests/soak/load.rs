//! What every thread of the load shares, and the loop that each of them runs.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex, RwLock, RwLockReadGuard};
use std::thread::{self, Scope};
use std::time::{Duration, Instant};

use crate::findings::Findings;
use crate::ledger::{Group, Ledger};
use crate::node::{Node, Weather};
use crate::random::{Random, mix};
use crate::wire::{Tried, Trouble};

/// How long a node is away when it restarts, in ms. A real server takes seconds. One that was back before lavaproxy could
/// read the end of its WebSockets would answer for sessions that it does not know.
const DOWN: (u64, u64) = (500, 2500);

pub struct Load {
    pub proxy: SocketAddr,
    pub web: SocketAddr,
    /// Those of v3 first.
    pub nodes: Vec<Arc<Node>>,
    pub ledger: Ledger,
    pub findings: Arc<Findings>,
    /// Connections that are open on the clients' side.
    pub open: AtomicUsize,
    /// No upgrade of lavaproxy while a reader has it.
    steady: RwLock<()>,
    /// True while an upgrade waits for its readers.
    upgrading: AtomicBool,
    /// Upgrades that have begun.
    upgrades: AtomicU64,
    over: Mutex<bool>,
    ending: Condvar,
}

/// One kind of client, and how many of them there are at once.
pub struct Kind {
    pub name: &'static str,
    pub group: Group,
    pub threads: u64,
    /// Between two of their doings, in milliseconds.
    pub pause: (u64, u64),
    pub act: fn(&Load, &mut Random) -> Tried<()>,
}

impl Load {
    pub fn new(proxy: SocketAddr, web: SocketAddr, nodes: Vec<Arc<Node>>, findings: Arc<Findings>) -> Self {
        let (ledger, open) = (Ledger::default(), AtomicUsize::new(0));
        let (steady, upgrading, upgrades) = (RwLock::default(), AtomicBool::new(false), AtomicU64::new(0));
        let (over, ending) = (Mutex::new(true), Condvar::new());
        Self { proxy, web, nodes, ledger, findings, open, steady, upgrading, upgrades, over, ending }
    }

    fn nodes_of<'l>(&'l self, version: &'l str) -> impl Iterator<Item = &'l Arc<Node>> {
        self.nodes.iter().filter(move |node| node.version == version)
    }

    /// No restart of a node of this version while this is held. Where both versions are held, v3 must come first.
    pub fn calm(&self, version: &str) -> Vec<RwLockReadGuard<'_, ()>> {
        self.nodes.iter().filter(|node| node.version == version).map(|node| node.calm()).collect()
    }

    /// No upgrade of lavaproxy while this is held. An upgrade ends connections between two of their requests.
    pub fn steady(&self) -> RwLockReadGuard<'_, ()> {
        self.steady.read().unwrap()
    }

    /// True when an upgrade waits for connections with several requests to end.
    pub fn is_upgrading(&self) -> bool {
        self.upgrading.load(SeqCst)
    }

    /// Upgrades lavaproxy once no connection with several requests is open.
    pub fn upgrade(&self, act: impl FnOnce()) {
        self.upgrading.store(true, SeqCst);
        let _nobody_wants_it_steady = self.steady.write().unwrap();
        self.upgrades.fetch_add(1, SeqCst);
        act();
        self.upgrading.store(false, SeqCst);
    }

    /// How many upgrades of lavaproxy have begun.
    pub fn upgrades(&self) -> u64 {
        self.upgrades.load(SeqCst)
    }

    /// The weather of the nodes of this version.
    pub fn weather(&self, version: &str) -> Weather {
        Weather::of(self.nodes_of(version))
    }

    /// True when no node of this version was being restarted at any time since then.
    pub fn was_fair_since(&self, version: &str, before: Weather) -> bool {
        self.weather(version).is_fair_since(before)
    }

    /// The weather of each node of this version.
    pub fn each_weather(&self, version: &str) -> Vec<Weather> {
        self.nodes_of(version).map(|node| node.weather()).collect()
    }

    /// True when one node of this version has listened all the time since then.
    pub fn had_a_node_since(&self, version: &str, before: &[Weather]) -> bool {
        self.each_weather(version).iter().zip(before).any(|(now, before)| now.is_fair_since(*before))
    }

    /// All restarts so far.
    pub fn restarts(&self) -> u64 {
        self.nodes.iter().map(|node| node.restarts()).sum()
    }

    pub fn begin(&self) {
        *self.over.lock().unwrap() = false;
    }

    pub fn end(&self) {
        *self.over.lock().unwrap() = true;
        self.ending.notify_all();
    }

    /// Waits so long, or until the load is to end: true then.
    pub fn pause(&self, time: Duration) -> bool {
        let over = self.over.lock().unwrap();
        *self.ending.wait_timeout_while(over, time, |over| !*over).unwrap().0
    }

    pub fn done(&self, what: &str) {
        self.findings.done.count(what);
    }

    pub fn trouble(&self, what: &str) {
        self.findings.troubles.count(what);
    }

    /// Starts one kind's threads; they run until the load ends.
    pub fn start<'s>(&'s self, scope: &'s Scope<'s, '_>, kind: &'s Kind, seed: u64) {
        for number in 0..kind.threads {
            let seed = mix(seed ^ mix(number));
            let run = move || self.keep_doing(kind, seed);
            thread::Builder::new().stack_size(256 * 1024).spawn_scoped(scope, run).unwrap();
        }
    }

    fn keep_doing(&self, kind: &Kind, seed: u64) {
        let mut random = Random::new(seed);
        while !self.pause(random.millis(kind.pause.0, kind.pause.1)) {
            let before = Weather::of(&self.nodes);
            match (kind.act)(self, &mut random) {
                Ok(()) => self.done(kind.name),
                Err(Trouble::Wrong(what)) => self.wrong(kind, seed, &what),
                Err(Trouble::Broken(error)) => {
                    let fair = Weather::of(&self.nodes).is_fair_since(before);
                    if kind.group == Group::Clean || fair {
                        self.wrong(kind, seed, &format!("it broke off: {error}"));
                    } else {
                        self.trouble(&format!("{} while a node restarted: {error}", kind.name));
                    }
                }
            }
        }
    }

    fn wrong(&self, kind: &Kind, seed: u64, what: &str) {
        self.findings.wrong(format!("{} (seed {seed:x}): {what}", kind.name));
    }

    /// Restarts one node of this version now and then, and often another one meanwhile or shortly after: then the second
    /// one dies while it takes sessions over. It may be the same one.
    pub fn restart_now_and_then(&self, version: &str, seed: u64) {
        let nodes: Vec<&Arc<Node>> = self.nodes_of(version).collect();
        let mut random = Random::new(seed);
        while !self.pause(random.millis(5000, 15_000) / u32::try_from(nodes.len()).unwrap()) {
            let (first, second) = (random.pick(&nodes), random.pick(&nodes));
            let later = random.one_in(2).then(|| random.millis(0, 200));
            let mut other = Random::new(random.next());
            thread::scope(|scope| {
                scope.spawn(|| {
                    let Some(later) = later else { return };
                    thread::sleep(later);
                    second.restart(other.millis(DOWN.0, DOWN.1), &mut other);
                });
                first.restart(random.millis(DOWN.0, DOWN.1), &mut random);
            });
        }
    }
}

/// Polls until `holds` or until `patience` has passed; how it ended.
pub fn within(patience: Duration, mut holds: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + patience;
    loop {
        if holds() {
            return true;
        }
        if Instant::now() > deadline {
            return false;
        }
        thread::sleep(Duration::from_millis(50));
    }
}

/// A connection that is counted as open while it lives.
pub struct Open<'l>(&'l Load);

impl<'l> Open<'l> {
    pub fn count(load: &'l Load) -> Self {
        load.open.fetch_add(1, SeqCst);
        Self(load)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, SeqCst);
    }
}
