//! Puts the house together from the settings: ledgers, backends, doors, monitor. Changes what can be changed while it
//! stands, and takes it down again.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use log::{info, warn};
use parking_lot::Mutex;

use crate::config::{Lavalink, Node, Settings, Timeouts};
use crate::error::StartError;
use crate::ledger::Ledger;
use crate::monitor::{Monitor, Setup, Sources};
use crate::notify::Watchdog;
use crate::proxy::admit::{Admission, Tunnels};
use crate::proxy::auth::Auth;
use crate::proxy::backend::Backend;
use crate::proxy::capacity::{Capacity, Machine};
use crate::proxy::prober::Prober;
use crate::proxy::{Door, House, Nodes, Routes, Rules, Voice};
use crate::sockets::{self, Inherited, WEB};

/// The web side's own share of connections, so that it can never starve the bots.
const WEB_CONNECTIONS: Capacity = Capacity { connections: 32, rule: "the share of the web pages" };
/// The largest body of a request to the web side, in bytes: nothing there takes one.
const WEB_MAX_BODY: u64 = 0;
/// The longest that the web side waits for anybody.
const WEB_PATIENCE: Duration = Duration::from_secs(10);
/// The longest that stopping waits for the web side.
const WEB_DRAIN: Duration = Duration::from_secs(1);

/// A running lavaproxy.
pub struct Server {
    doors: Vec<Arc<Door>>,
    ledger: Arc<Ledger>,
    bots: Arc<Admission>,
    people: Arc<Admission>,
    pages: Arc<Backend>,
    monitor: Monitor,
    present: Arc<Mutex<Present>>,
    housekeeper: Option<(Sender<()>, JoinHandle<()>)>,
}

/// What holds until the settings change.
struct Present {
    drain: Duration,
    stations: Vec<Station>,
}

/// A version's node: where the settings have it, the way there, and who asks how it is.
#[derive(Clone)]
struct Station {
    version: Lavalink,
    node: Node,
    timeouts: Timeouts,
    backend: Arc<Backend>,
    prober: Arc<Prober>,
}

impl Server {
    /// Opens every door that the settings name and serves until [`stop`](Self::stop).
    ///
    /// # Errors
    /// When an address cannot be listened on, or the machine lacks threads or descriptors for the start.
    pub fn start(settings: &Settings) -> Result<Self, StartError> {
        Self::start_on(settings, Inherited::default(), None)
    }

    /// The same, on listening sockets that were open before this process, and with a supervisor to keep content.
    ///
    /// # Errors
    /// As above, and when an inherited socket fits no door.
    pub fn start_on(settings: &Settings, inherited: Inherited, watchdog: Option<Watchdog>) -> Result<Self, StartError> {
        let listeners = sockets::listen(settings, inherited)?;
        let stations = stations(settings, &[])?;
        let capacity = Machine::measure().capacity();
        info!("event=limit connections={} rule=\"{}\"", capacity.connections, capacity.rule);
        let places = Admission::new(capacity.clone());
        let bots = House { voice: Voice::Lavalink, admission: places, ledger: Ledger::new() };
        let places = Admission::clearing(WEB_CONNECTIONS);
        let people = House { voice: Voice::Plain, admission: places, ledger: Ledger::new() };

        let addresses: Vec<_> = listeners
            .iter()
            .map(|(name, listener)| Ok((*name, listener.local_addr().map_err(lacking(name))?)))
            .collect::<Result<_, StartError>>()?;
        let monitor = Monitor::start(Sources {
            ledger: Arc::clone(&bots.ledger),
            people: Arc::clone(&people.ledger),
            capacity,
            doors: addresses
                .iter()
                .filter(|(name, _)| *name != WEB)
                .map(|(name, address)| (*name, *address, sockets::pinned(name)))
                .collect(),
            loopback: addresses.iter().all(|(name, address)| *name != WEB || address.ip().is_loopback()),
            setup: Mutex::new(Arc::new(setup(settings, &stations))),
        });
        let monitor = monitor.map_err(lacking("the monitor"))?;
        let pages = Backend::monitor(monitor.address().clone(), web_timeouts(settings.timeouts));

        let mut doors = Vec::new();
        for (name, listener) in listeners {
            let (rules, house) = match name {
                WEB => (rules_for_people(settings, &pages, &bots.admission), &people),
                _ => (rules_for_bots(name, settings, &stations), &bots),
            };
            doors.push(open(name, listener, rules, house)?);
        }
        let present = Arc::new(Mutex::new(Present { drain: settings.timeouts.drain, stations }));
        let housekeeper = start_housekeeper(Arc::clone(&bots.ledger), Arc::clone(&present), watchdog);
        Ok(Self {
            doors,
            ledger: bots.ledger,
            bots: bots.admission,
            people: people.admission,
            pages,
            monitor,
            present,
            housekeeper: Some(housekeeper.map_err(lacking("the housekeeper"))?),
        })
    }

    /// Goes by these settings from the next request on; requests under way and tunnels go on as they began. Addresses
    /// and ports of the doors stay as they are.
    ///
    /// # Errors
    /// When the pages would lose their password where others can reach them, or a thread cannot be had; nothing has
    /// changed then.
    pub fn reload(&self, settings: &Settings) -> Result<(), StartError> {
        self.doors.iter().try_for_each(|door| sockets::check_pages(door.name(), door.address(), settings))?;
        let before = self.present.lock().stations.clone();
        let stations = stations(settings, &before)?;
        for door in &self.doors {
            door.change_rules(match door.name() {
                WEB => rules_for_people(settings, &self.pages, &self.bots),
                name => rules_for_bots(name, settings, &stations),
            });
        }
        self.monitor.change_setup(setup(settings, &stations));
        let is_kept = |old: &Station| stations.iter().any(|new| Arc::ptr_eq(&new.backend, &old.backend));
        for old in before.iter().filter(|old| !is_kept(old)) {
            old.backend.retire();
        }
        *self.present.lock() = Present { drain: settings.timeouts.drain, stations };
        Ok(())
    }

    /// Where the door of this name, one of [`sockets::DOORS`], listens.
    pub fn address(&self, door: &str) -> Option<SocketAddr> {
        self.doors.iter().find(|known| known.name() == door).map(|door| door.address())
    }

    /// The sockets of the open doors, with the doors' names.
    pub fn listeners(&self) -> Vec<(&'static str, Arc<TcpListener>)> {
        self.doors.iter().filter_map(|door| Some((door.name(), door.listener()?))).collect()
    }

    /// The bots' ledger.
    pub fn ledger(&self) -> &Arc<Ledger> {
        &self.ledger
    }

    /// Lets nobody in any more, lets requests finish within DRAIN_TIMEOUT, then ends the tunnels. The web pages are
    /// there until then, and /healthz says that bots are not served any more.
    pub fn stop(&self) {
        let deadline = self.drain_deadline();
        self.bots.begin_to_stop();
        self.close(|name| name != WEB);
        let bots = self.bots.drain(deadline, Tunnels::End);
        self.close_web(bots);
    }

    /// Leaves the doors to another process that listens on the same sockets: lets requests finish and tunnels live
    /// within DRAIN_TIMEOUT.
    pub fn hand_over(&self) {
        let deadline = self.drain_deadline();
        self.close(|_| true);
        info!("event=doors-closed");
        self.bots.begin_to_stop();
        let bots = self.bots.drain(deadline, Tunnels::Keep);
        self.close_web(bots);
    }

    /// Lets a [`hand_over`](Self::hand_over) that is under way end its tunnels now.
    pub fn hurry(&self) {
        self.bots.hurry();
    }

    fn drain_deadline(&self) -> Instant {
        Instant::now() + self.present.lock().drain
    }

    fn close_web(&self, bots_left: usize) {
        self.people.begin_to_stop();
        self.close(|_| true);
        let left = bots_left + self.people.drain(Instant::now() + WEB_DRAIN, Tunnels::End);
        if left > 0 {
            warn!("event=drained left={left}");
        }
    }

    fn close(&self, which: impl Fn(&str) -> bool) {
        let doors = || self.doors.iter().filter(|door| which(door.name()));
        doors().for_each(|door| door.close());
        doors().for_each(|door| door.wait_until_deserted());
    }
}

impl Drop for Server {
    /// Ends at once what was not stopped before.
    fn drop(&mut self) {
        self.close(|_| true);
        for inside in [&self.bots, &self.people] {
            inside.begin_to_stop();
            inside.drain(Instant::now(), Tunnels::End);
        }
        if let Some((stop, thread)) = self.housekeeper.take() {
            drop(stop);
            // A panic was logged where it happened.
            let _ = thread.join();
        }
    }
}

/// The nodes that the settings name; those of `before` that they leave as they were are kept, with their idle
/// connections and what is known of their health.
fn stations(settings: &Settings, before: &[Station]) -> Result<Vec<Station>, StartError> {
    let mut stations = Vec::new();
    for version in Lavalink::ALL {
        let Some(node) = settings.node(version) else { continue };
        let timeouts = settings.timeouts;
        let same = |old: &&Station| old.version == version && old.node == *node && old.timeouts == timeouts;
        if let Some(old) = before.iter().find(same) {
            stations.push(old.clone());
            continue;
        }
        let backend = Backend::lavalink(version, node, timeouts);
        info!("event=backend version={version} address={}", backend.name());
        let prober = Prober::start(Arc::clone(&backend), version).map_err(lacking("the probers"))?;
        stations.push(Station { version, node: node.clone(), timeouts, backend, prober: Arc::new(prober) });
    }
    Ok(stations)
}

fn setup(settings: &Settings, stations: &[Station]) -> Setup {
    let probers = stations.iter().map(|station| Arc::clone(&station.prober)).collect();
    Setup { probers, settings: settings.describe().collect() }
}

fn rules_for_bots(door: &str, settings: &Settings, stations: &[Station]) -> Rules {
    let of = |version| stations.iter().find(|station| station.version == version);
    let backend = |version| of(version).map(|station| Arc::clone(&station.backend));
    let nodes = Nodes { v3: backend(Lavalink::V3), v4: backend(Lavalink::V4) };
    Rules {
        auth: Auth::Lavalink(settings.proxy_password.clone()),
        routes: Routes::Lavalink { default: sockets::pinned(door).unwrap_or(settings.default_version), nodes },
        trusted: settings.trusted_proxies.clone(),
        proxy_protocol: settings.proxy_protocol,
        timeouts: settings.timeouts,
        max_body: settings.max_body,
    }
}

fn rules_for_people(settings: &Settings, pages: &Arc<Backend>, bots: &Arc<Admission>) -> Rules {
    Rules {
        auth: Auth::Basic(settings.web_password.clone()),
        routes: Routes::Monitor { pages: Arc::clone(pages), bots: Arc::clone(bots) },
        trusted: settings.trusted_proxies.clone(),
        proxy_protocol: false,
        timeouts: web_timeouts(settings.timeouts),
        max_body: WEB_MAX_BODY,
    }
}

fn web_timeouts(bots: Timeouts) -> Timeouts {
    Timeouts { connect: WEB_PATIENCE, response: WEB_PATIENCE, head: bots.head.min(WEB_PATIENCE), ..bots }
}

fn open(name: &'static str, listener: TcpListener, rules: Rules, house: &House) -> Result<Arc<Door>, StartError> {
    let address = listener.local_addr().map_err(lacking(name))?;
    let of_door = match (&rules.routes, &rules.auth) {
        (Routes::Lavalink { default, .. }, _) => format!("default={default}"),
        (_, Auth::Basic(password)) => format!("password={}", password.is_some()),
        _ => String::new(),
    };
    let door = Door::new(name, listener, rules, house).map_err(lacking(name))?;
    door.open().map_err(lacking(name))?;
    info!("event=listening door={name} address={address} {of_door}");
    Ok(door)
}

fn lacking(what: &str) -> impl FnOnce(io::Error) -> StartError {
    let what = format!("cannot start {what}");
    move |error| StartError::new(what, error, "raise the limits of open files and threads")
}

/// Once a second: samples for the rates, idle connections to backends that are about to go stale, and a sign of life
/// for the supervisor. It comes last, so that it fails to come when the books are stuck.
fn start_housekeeper(
    ledger: Arc<Ledger>,
    present: Arc<Mutex<Present>>,
    mut watchdog: Option<Watchdog>,
) -> io::Result<(Sender<()>, JoinHandle<()>)> {
    let (stop, stopped) = mpsc::channel();
    let thread = thread::Builder::new().name("housekeeper".to_owned()).spawn(move || {
        while stopped.recv_timeout(Duration::from_secs(1)) == Err(RecvTimeoutError::Timeout) {
            ledger.tick();
            present.lock().stations.iter().for_each(|station| station.backend.sweep());
            if let Some(watchdog) = &mut watchdog {
                watchdog.tick();
            }
        }
    })?;
    Ok((stop, thread))
}
