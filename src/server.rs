//! Puts lavaproxy together from the settings: ledgers, nodes, listeners, monitor. Reloads the settings and stops it.

mod housekeeper;
mod lasting;
mod past;
mod sample;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::mpsc::Sender;
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use log::{info, warn};
use parking_lot::Mutex;

use crate::admission::capacity::{Capacity, Machine};
use crate::admission::{Admission, Tunnels};
use crate::config::{Lavalink, Node, PerVersion, Settings, Timeouts};
use crate::demo;
use crate::error::StartError;
use crate::history::History;
use crate::ledger::Ledger;
use crate::limits::Limits;
use crate::limits::accounts::Accounts;
use crate::listener::Listener;
use crate::monitor::{self, Monitor, Setup, Sources};
use crate::nodes::backend::Backend;
use crate::nodes::pool::{Pool, Pools};
use crate::nodes::prober::Prober;
use crate::process::notify::Watchdog;
use crate::process::sockets::{self, Inherited, WEB};
use crate::proxy::auth::Auth;
use crate::proxy::carriers::{self, Carriers};
use crate::proxy::service::{ErrorFormat, LavalinkRoutes, Routes, Rules, Service};
use crate::sessions::table::Sessions;
use crate::state::State;
use crate::unix_time::unix_millis;
use housekeeper::Housekeeper;
pub use lasting::Lasting;

/// The slots of the web listener. They are its own, so that it cannot take those of the proxy listeners.
const WEB_CONNECTIONS: Capacity = Capacity { connections: 32, rule: "the share of the web pages" };
/// The largest request body at the web listener, in bytes: that of a ban is the only one.
const WEB_MAX_BODY: u64 = 4096;
/// The longest wait of the web listener for a client or for the monitor.
const WEB_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest wait of a stop for connections of the web listener.
const WEB_DRAIN: Duration = Duration::from_secs(1);

/// A running lavaproxy.
pub struct Server {
    listeners: Vec<Arc<Listener>>,
    lasting: Lasting,
    proxy: Arc<Admission>,
    web: Arc<Admission>,
    pages: Arc<Backend>,
    monitor: Monitor,
    /// What the machine can carry.
    machine: Capacity,
    housekeeper: Option<(Sender<()>, JoinHandle<()>)>,
}

/// What a reload replaces.
struct Current {
    drain: Duration,
    failover_after: Option<Duration>,
    nodes: Vec<NodeHandle>,
    /// Nodes that a reload removed, as long as they have sessions.
    leaving: Vec<NodeHandle>,
    pools: Pools,
    accounts: Arc<Accounts>,
}

impl Current {
    fn new(settings: &Settings, nodes: Vec<NodeHandle>, leaving: Vec<NodeHandle>, before: Option<&Self>) -> Self {
        let accounts = before.map(|before| &*before.accounts);
        let accounts = Accounts::new(&settings.proxy_password, &settings.accounts, accounts);
        let before = before.map(|before| &before.pools);
        let pools = PerVersion::new(|version| {
            let of_version = nodes.iter().filter(|node| node.version == version);
            let backends = of_version.map(|node| Arc::clone(&node.backend)).collect();
            Pool::new(version, backends, before.and_then(|before| before.get(version).as_deref()))
        });
        Self {
            drain: settings.timeouts.drain,
            failover_after: settings.failover_after,
            accounts,
            nodes,
            leaving,
            pools,
        }
    }

    /// Ends the connections of accounts that were taken away or disabled, or that have expired.
    fn end_refused_accounts(&self, proxy: &Admission) {
        let now = SystemTime::now();
        let ended = proxy.end_those(|holder| !self.accounts.is_valid(holder.account, now));
        if ended > 0 {
            info!("event=accounts-ended connections={ended}");
        }
    }

    /// Ends the tunnels to nodes that have not answered for FAILOVER_AFTER, where another node can take their sessions.
    fn fail_over(&self, proxy: &Admission) {
        let Some(after) = self.failover_after else { return };
        for node in self.nodes.iter().chain(&self.leaving) {
            let backend = &node.backend;
            let is_due = backend.health().silent_for().is_some_and(|time| time >= after);
            let has_other = || self.pools.get(node.version).as_ref().is_some_and(|pool| pool.has_other(backend));
            if is_due && backend.load().sessions() > 0 && has_other() {
                let ended = proxy.end_tunnels_of(backend.id());
                if ended > 0 {
                    warn!("event=failover {} tunnels={ended}", backend.label());
                }
            }
        }
    }
}

/// A node of the settings, with its connections and its prober.
#[derive(Clone)]
struct NodeHandle {
    version: Lavalink,
    node: Node,
    timeouts: Timeouts,
    backend: Arc<Backend>,
    /// True once a reload has removed it.
    is_leaving: bool,
    /// It runs until the last handle is dropped.
    _prober: Arc<Prober>,
}

impl NodeHandle {
    fn has_sessions(&self) -> bool {
        self.backend.load().sessions() > 0
    }
}

impl Server {
    /// Opens every listener that the settings name and serves until [`stop`](Self::stop).
    ///
    /// # Errors
    /// When a listener cannot be opened, or the machine lacks threads or descriptors for the start.
    pub fn start(settings: &Settings) -> Result<Self, StartError> {
        Self::start_on(settings, Inherited::default(), None, None)
    }

    /// Like [`start`](Self::start), but uses the inherited sockets, goes on from the state that another process has
    /// left, and notifies the supervisor's watchdog.
    ///
    /// # Errors
    /// As there, and when an inherited socket fits no listener.
    pub fn start_on(
        settings: &Settings,
        inherited: Inherited,
        state: Option<State>,
        watchdog: Option<Watchdog>,
    ) -> Result<Self, StartError> {
        let sockets = sockets::listen(settings, inherited)?;
        let current = Current::new(settings, node_handles(settings, &[])?, Vec::new(), None);
        let sessions = Arc::new(Sessions::default());
        sessions.memory().set_limit(settings.takeover.memory);
        let machine = Machine::measure().capacity();
        let capacity = capacity(machine, settings);
        let (proxy, web) = (Admission::new(capacity), Admission::evicting(WEB_CONNECTIONS));
        let carriers = Carriers::new(&proxy, carriers::IDLE_TIME);
        let limits = Limits::new(&settings.limits, &settings.trusted_proxies, capacity.connections);
        let (ledger, web_ledger) = (Ledger::new(), Ledger::new());
        let history = Arc::new(History::default());
        if let Some(state) = state {
            state.history.iter().for_each(|saved| history.restore(saved));
            lasting::restore(state, &ledger, &limits, &sessions, &current.nodes);
        }

        let addresses = addresses(&sockets)?;
        let proxies = proxy_listeners(&addresses);
        let sharing = proxies.len();
        let monitor = Monitor::start(Sources {
            ledger: Arc::clone(&ledger),
            web_ledger: Arc::clone(&web_ledger),
            proxy: Arc::clone(&proxy),
            limits: Arc::clone(&limits),
            listeners: proxies,
            loopback: addresses.iter().all(|(name, address)| *name != WEB || address.ip().is_loopback()),
            sessions: Arc::clone(&sessions),
            history: Arc::clone(&history),
            demo: OnceLock::new(),
            setup: Arc::new(Mutex::new(Arc::new(setup(settings, &current)))),
        });
        let monitor = monitor.map_err(lacking("the monitor"))?;
        let pages = Backend::monitor(monitor.address().clone(), web_timeouts(settings.timeouts));

        let mut listeners = Vec::new();
        for (name, socket) in sockets {
            listeners.push(match name {
                WEB => {
                    let rules = web_rules(settings, &pages, &proxy);
                    let service = Service::new(name, rules, ErrorFormat::Plain, &web, &web_ledger, None, &carriers);
                    open(socket, service, 1)?
                }
                _ => {
                    let rules = proxy_rules(name, settings, &current, &sessions);
                    let limits = Some(&limits);
                    let service = Service::new(name, rules, ErrorFormat::Lavalink, &proxy, &ledger, limits, &carriers);
                    open(socket, service, sharing)?
                }
            });
        }
        let lasting = Lasting { ledger, limits, sessions, history, current: Arc::new(Mutex::new(current)) };
        let housekeeper = Housekeeper { lasting: lasting.clone(), proxy: Arc::clone(&proxy), watchdog };
        let housekeeper = Some(housekeeper.start().map_err(lacking("the housekeeper"))?);
        Ok(Self { listeners, lasting, proxy, web, pages, monitor, machine, housekeeper })
    }

    /// Applies these settings to all later requests. Requests under way and tunnels keep the old ones. The addresses of
    /// the listeners do not change.
    ///
    /// # Errors
    /// When the pages would have no password although other machines can reach them, or when a thread cannot be
    /// started. Nothing has changed then.
    pub fn reload(&self, settings: &Settings) -> Result<(), StartError> {
        self.listeners
            .iter()
            .try_for_each(|listener| sockets::check_pages(listener.name(), listener.address(), settings))?;
        let before: Vec<_> = {
            let current = self.lasting.current.lock();
            current.nodes.iter().chain(&current.leaving).cloned().collect()
        };
        let nodes = node_handles(settings, &before)?;
        let is_kept = |old: &NodeHandle| nodes.iter().any(|new| new.backend.id() == old.backend.id());
        let removed = before.iter().filter(|old| !is_kept(old) && old.has_sessions()).cloned();
        let leaving: Vec<_> = removed.map(|old| NodeHandle { is_leaving: true, ..old }).collect();
        for node in &leaving {
            node.backend.set_draining(true, "a reload that removed it");
        }
        // Held to the end: the housekeeper must not end connections of an account that the listeners know already.
        let mut current = self.lasting.current.lock();
        *current = Current::new(settings, nodes, leaving, Some(&current));
        let capacity = capacity(self.machine, settings);
        self.proxy.change_capacity(capacity);
        self.lasting.limits.change(&settings.limits, &settings.trusted_proxies, capacity.connections);
        self.lasting.sessions.memory().set_limit(settings.takeover.memory);
        for listener in &self.listeners {
            listener.change_rules(match listener.name() {
                WEB => web_rules(settings, &self.pages, &self.proxy),
                name => proxy_rules(name, settings, &current, &self.lasting.sessions),
            });
        }
        self.monitor.change_setup(setup(settings, &current));
        let is_kept = |old: &NodeHandle| current.nodes.iter().any(|new| Arc::ptr_eq(&new.backend, &old.backend));
        for old in before.iter().filter(|old| !is_kept(old)) {
            self.lasting.sessions.note_former(old.backend.name());
            old.backend.retire();
        }
        Ok(())
    }

    /// The address of the listener with this name, one of [`sockets::LISTENERS`].
    pub fn address(&self, name: &str) -> Option<SocketAddr> {
        self.listeners.iter().find(|listener| listener.name() == name).map(|listener| listener.address())
    }

    /// The sockets of the open listeners, with their names.
    pub fn listeners(&self) -> Vec<(&'static str, Arc<TcpListener>)> {
        self.listeners.iter().filter_map(|listener| Some((listener.name(), listener.socket()?))).collect()
    }

    /// What the next process goes on from.
    pub fn lasting(&self) -> Lasting {
        self.lasting.clone()
    }

    /// Lets the API kill the pretend nodes of `--demo` and start them again, and fills the hour before the start in the
    /// charts.
    pub fn show_demo(&self, nodes: &Arc<Vec<demo::Node>>) {
        past::fill(&self.lasting.history, nodes, unix_millis());
        self.monitor.show_demo(nodes);
    }

    /// The ledger of the proxy listeners.
    pub fn ledger(&self) -> &Arc<Ledger> {
        &self.lasting.ledger
    }

    /// What was used over time.
    pub fn history(&self) -> &History {
        &self.lasting.history
    }

    /// Closes the proxy listeners, lets requests finish within DRAIN_TIMEOUT, then ends the tunnels. Serves the web
    /// pages until then; /healthz reports that lavaproxy is stopping.
    pub fn stop(&self) {
        let deadline = self.drain_deadline();
        self.proxy.begin_to_stop();
        self.close(|name| name != WEB);
        let left = self.proxy.drain(deadline, Tunnels::End);
        self.close_web(left);
    }

    /// Leaves the listening sockets to the successor. Requests may finish and tunnels may go on within DRAIN_TIMEOUT.
    pub fn hand_over(&self) {
        let deadline = self.drain_deadline();
        self.proxy.note_successor();
        self.close(|_| true);
        info!("event=listeners-closed");
        self.proxy.begin_to_stop();
        let left = self.proxy.drain(deadline, Tunnels::Keep);
        self.close_web(left);
    }

    /// Makes a [`hand_over`](Self::hand_over) that is under way end its tunnels now.
    pub fn hurry(&self) {
        self.proxy.hurry();
    }

    fn drain_deadline(&self) -> Instant {
        Instant::now() + self.lasting.current.lock().drain
    }

    fn close_web(&self, proxy_left: usize) {
        self.web.begin_to_stop();
        self.close(|_| true);
        let left = proxy_left + self.web.drain(Instant::now() + WEB_DRAIN, Tunnels::End);
        if left > 0 {
            warn!("event=drained left={left}");
        }
    }

    fn close(&self, which: impl Fn(&str) -> bool) {
        let chosen = || self.listeners.iter().filter(|listener| which(listener.name()));
        chosen().for_each(|listener| listener.close());
        chosen().for_each(|listener| listener.wait_until_deserted());
    }
}

impl Drop for Server {
    /// Ends at once everything that was not stopped before.
    fn drop(&mut self) {
        self.close(|_| true);
        for admission in [&self.proxy, &self.web] {
            admission.begin_to_stop();
            admission.drain(Instant::now(), Tunnels::End);
        }
        if let Some((stop, thread)) = self.housekeeper.take() {
            drop(stop);
            // A panic was logged where it happened.
            let _ = thread.join();
        }
    }
}

/// The proxy listeners with their addresses, and the version that one is pinned to.
fn proxy_listeners(addresses: &[(&'static str, SocketAddr)]) -> Vec<(&'static str, SocketAddr, Option<Lavalink>)> {
    let of_proxy = addresses.iter().filter(|(name, _)| *name != WEB);
    of_proxy.map(|(name, address)| (*name, *address, sockets::pinned(name))).collect()
}

/// The nodes of the settings. A node of `before` whose settings are unchanged is kept, with its idle connections, its
/// health and its load.
fn node_handles(settings: &Settings, before: &[NodeHandle]) -> Result<Vec<NodeHandle>, StartError> {
    let mut nodes = Vec::new();
    for version in Lavalink::ALL {
        for node in settings.nodes(version) {
            nodes.push(node_handle(settings, version, node, before)?);
        }
    }
    Ok(nodes)
}

/// The node with these settings. A node with another address is a new node, though it has the same name.
fn node_handle(
    settings: &Settings,
    version: Lavalink,
    node: &Node,
    before: &[NodeHandle],
) -> Result<NodeHandle, StartError> {
    let timeouts = settings.timeouts;
    let is_same = |old: &&NodeHandle| {
        let Node { name, host, port, .. } = &old.node;
        old.version == version && (name, host, port) == (&node.name, &node.host, &node.port)
    };
    let same = before.iter().find(is_same);
    if let Some(old) = same.filter(|old| old.node == *node && old.timeouts == timeouts && !old.is_leaving) {
        old.backend.schedule().set_interval(settings.health_interval);
        return Ok(old.clone());
    }
    let before = same.map(|old| &*old.backend);
    let backend = Backend::lavalink(version, node, timeouts, settings.health_interval, before);
    info!("event=node {}", backend.label());
    if same.is_some_and(|old| old.is_leaving) {
        backend.set_draining(false, "a reload that names it again");
    }
    let prober = Prober::start(&backend, version).map_err(lacking("the probers"))?;
    Ok(NodeHandle { version, node: node.clone(), timeouts, backend, is_leaving: false, _prober: Arc::new(prober) })
}

/// How many connections the proxy listeners may have.
fn capacity(machine: Capacity, settings: &Settings) -> Capacity {
    let capacity = machine.at_most(settings.limits.max_connections);
    info!("event=limit connections={} rule=\"{}\"", capacity.connections, capacity.rule);
    if settings.limits.max_connections.is_some_and(|wanted| wanted > machine.connections) {
        warn!("event=settings warning=\"MAX_CONNECTIONS is more than this machine carries ({})\"", machine.rule);
    }
    capacity
}

fn setup(settings: &Settings, current: &Current) -> Setup {
    let backends = |nodes: &[NodeHandle]| nodes.iter().map(|node| Arc::clone(&node.backend)).collect();
    Setup {
        nodes: backends(&current.nodes),
        leaving: backends(&current.leaving),
        accounts: Arc::clone(&current.accounts),
        takeover: settings.takeover,
        settings: settings.describe(),
    }
}

fn proxy_rules(name: &str, settings: &Settings, current: &Current, sessions: &Arc<Sessions>) -> Rules {
    let routes = LavalinkRoutes {
        default: sockets::pinned(name).unwrap_or(settings.default_version),
        pools: current.pools.clone(),
        sessions: Arc::clone(sessions),
        paths: settings.paths.clone(),
        load_retry: settings.load_retry,
        takeover: settings.takeover,
    };
    Rules {
        auth: Auth::Lavalink(Arc::clone(&current.accounts)),
        routes: Routes::Lavalink(routes),
        trusted: settings.trusted_proxies.clone(),
        proxy_protocol: settings.proxy_protocol,
        timeouts: settings.timeouts,
        max_body: settings.max_body,
    }
}

fn web_rules(settings: &Settings, pages: &Arc<Backend>, proxy: &Arc<Admission>) -> Rules {
    Rules {
        auth: Auth::Basic {
            password: settings.web_password.clone(),
            open: if settings.status_page { &monitor::OPEN_WITH_STATUS_PAGE } else { &[] },
        },
        routes: Routes::Monitor { pages: Arc::clone(pages), proxy: Arc::clone(proxy) },
        trusted: settings.trusted_proxies.clone(),
        proxy_protocol: false,
        timeouts: web_timeouts(settings.timeouts),
        max_body: WEB_MAX_BODY,
    }
}

fn web_timeouts(proxy: Timeouts) -> Timeouts {
    Timeouts { connect: WEB_TIMEOUT, response: WEB_TIMEOUT, head: proxy.head.min(WEB_TIMEOUT), ..proxy }
}

/// The addresses of the listeners.
fn addresses(sockets: &[(&'static str, TcpListener)]) -> Result<Vec<(&'static str, SocketAddr)>, StartError> {
    sockets.iter().map(|(name, socket)| Ok((*name, socket.local_addr().map_err(lacking(name))?))).collect()
}

/// Starts a listener, one of `sharing` with the same slots.
fn open(socket: TcpListener, service: Arc<Service>, sharing: usize) -> Result<Arc<Listener>, StartError> {
    let name = service.name();
    let rules = service.rules();
    let details = match (&rules.routes, &rules.auth) {
        (Routes::Lavalink(routes), _) => format!("default={}", routes.default),
        (_, Auth::Basic { password, .. }) => format!("password={}", password.is_some()),
        _ => String::new(),
    };
    let listener = Listener::new(socket, service, sharing).map_err(lacking(name))?;
    listener.open().map_err(lacking(name))?;
    info!("event=listening listener={name} address={} {details}", listener.address());
    Ok(listener)
}

fn lacking(what: &str) -> impl FnOnce(io::Error) -> StartError {
    let what = format!("cannot start {what}");
    move |error| StartError::new(what, error, "raise the limits of open files and threads")
}
