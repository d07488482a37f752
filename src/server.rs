//! Puts the house together from the settings: ledgers, backends, doors, monitor; and takes it down again.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use log::{info, warn};

use crate::config::{Lavalink, Listen, Settings, Timeouts};
use crate::ledger::Ledger;
use crate::monitor::{Monitor, Sources};
use crate::proxy::admit::Admission;
use crate::proxy::auth::Auth;
use crate::proxy::backend::Backend;
use crate::proxy::capacity::{Capacity, Machine};
use crate::proxy::prober::Prober;
use crate::proxy::{self, Door, House, Nodes};

/// The web side's own share of connections, so that it can never starve the bots.
const WEB_CONNECTIONS: Capacity = Capacity { connections: 32, rule: "the share of the web pages" };
/// The largest body of a request to the web side, in bytes: nothing there takes one.
const WEB_MAX_BODY: u64 = 0;
/// The longest that the web side waits for anybody.
const WEB_PATIENCE: Duration = Duration::from_secs(10);

/// A running lavaproxy.
pub struct Server {
    doors: Vec<(&'static str, SocketAddr)>,
    ledger: Arc<Ledger>,
    bots: Arc<Admission>,
    people: Arc<Admission>,
    housekeeper: Option<(Sender<()>, JoinHandle<()>)>,
    drain: Duration,
    _monitor: Monitor,
}

/// Why the house could not be opened.
#[derive(Debug)]
pub struct StartError {
    what: String,
    error: io::Error,
    hint: &'static str,
}

impl fmt::Display for StartError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}; {}", self.what, self.error, self.hint)
    }
}

impl std::error::Error for StartError {}

/// The doors' names, as logs show them.
pub const DOORS: [&str; 4] = ["bots", "bots-v3", "bots-v4", "web"];

impl Server {
    /// Opens every door that the settings name and serves until [`stop`](Self::stop).
    ///
    /// # Errors
    /// When an address cannot be listened on, or the machine lacks threads or descriptors for the start.
    pub fn start(settings: &Settings) -> Result<Self, StartError> {
        let entrances = bots_entrances(settings)?;
        let web_listener = listen(DOORS[3], &settings.web)?;

        let nodes = Nodes { v3: node(settings, Lavalink::V3), v4: node(settings, Lavalink::V4) };
        let capacity = Machine::measure().capacity();
        info!("event=limit connections={} rule=\"{}\"", capacity.connections, capacity.rule);
        let bots = House {
            trusted: settings.trusted_proxies.clone(),
            proxy_protocol: settings.proxy_protocol,
            timeouts: settings.timeouts,
            max_body: settings.max_body,
            admission: Admission::new(capacity),
            ledger: Ledger::new(),
        };
        let people = House {
            trusted: settings.trusted_proxies.clone(),
            proxy_protocol: false,
            timeouts: web_timeouts(settings.timeouts),
            max_body: WEB_MAX_BODY,
            admission: Admission::clearing(WEB_CONNECTIONS),
            ledger: Ledger::new(),
        };
        let probers: Vec<_> = Lavalink::ALL
            .into_iter()
            .filter_map(|version| nodes.get(version).map(|node| Prober::start(Arc::clone(node), version)))
            .collect::<Result<_, _>>()
            .map_err(lacking("the probers"))?;

        let mut doors: Vec<_> = entrances.iter().map(|entrance| (entrance.name, entrance.address)).collect();
        let web = web_listener.local_addr().map_err(lacking(DOORS[3]))?;
        let monitor = Monitor::start(Sources {
            ledger: Arc::clone(&bots.ledger),
            people: Arc::clone(&people.ledger),
            probers: probers.into(),
            capacity: bots.admission.capacity().clone(),
            doors: doors.iter().map(|(name, address)| (*name, *address, pinned(name))).collect(),
            settings: settings.describe().collect(),
            loopback: web.ip().is_loopback(),
        });
        let monitor = monitor.map_err(lacking("the monitor"))?;
        let pages = Backend::monitor(monitor.address().clone(), people.timeouts);

        for Entrance { name, default, listener, address } in entrances {
            let auth = Auth::Lavalink(settings.proxy_password.clone());
            let door = Door::for_bots(name, listener, auth, (default, nodes.clone()), &bots).map_err(lacking(name))?;
            door.open().map_err(lacking(name))?;
            info!("event=listening door={name} address={address} default={default}");
        }
        let auth = Auth::Basic(settings.web_password.clone());
        let pages = (pages, Arc::clone(&bots.admission));
        let door = Door::for_people(DOORS[3], web_listener, auth, pages, &people).map_err(lacking(DOORS[3]))?;
        door.open().map_err(lacking(DOORS[3]))?;
        info!("event=listening door=web address={web} password={}", settings.web_password.is_some());
        doors.push((DOORS[3], web));

        let housekeeper = start_housekeeper(Arc::clone(&bots.ledger), nodes).map_err(lacking("the housekeeper"))?;
        Ok(Self {
            doors,
            ledger: bots.ledger,
            bots: bots.admission,
            people: people.admission,
            housekeeper: Some(housekeeper),
            drain: settings.timeouts.drain,
            _monitor: monitor,
        })
    }

    /// Where the door of this name, one of [`DOORS`], listens.
    pub fn address(&self, door: &str) -> Option<SocketAddr> {
        self.doors.iter().find(|(name, _)| *name == door).map(|(_, address)| *address)
    }

    /// The bots' ledger.
    pub fn ledger(&self) -> &Arc<Ledger> {
        &self.ledger
    }

    /// Stops to accept, lets requests finish within DRAIN_TIMEOUT, then ends the tunnels.
    pub fn stop(&self) {
        let left = self.bots.drain(self.drain) + self.people.drain(Duration::ZERO);
        if left > 0 {
            warn!("event=drained left={left}");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
        if let Some((stop, thread)) = self.housekeeper.take() {
            drop(stop);
            // A panic was logged where it happened.
            let _ = thread.join();
        }
    }
}

/// The version that the door of this name is for alone.
fn pinned(door: &str) -> Option<Lavalink> {
    match door {
        "bots-v3" => Some(Lavalink::V3),
        "bots-v4" => Some(Lavalink::V4),
        _ => None,
    }
}

/// A bots' door whose address is taken but that nobody serves yet.
struct Entrance {
    name: &'static str,
    default: Lavalink,
    listener: TcpListener,
    address: SocketAddr,
}

fn bots_entrances(settings: &Settings) -> Result<Vec<Entrance>, StartError> {
    let at = |port: u16| Listen { host: settings.proxy.host.clone(), port };
    let wanted = [
        Some((DOORS[0], settings.proxy.clone(), settings.default_version)),
        settings.proxy_v3_port.map(|port| (DOORS[1], at(port), Lavalink::V3)),
        settings.proxy_v4_port.map(|port| (DOORS[2], at(port), Lavalink::V4)),
    ];
    let open = |(name, at, default): (&'static str, Listen, Lavalink)| {
        let listener = listen(name, &at)?;
        let address = listener.local_addr().map_err(lacking(name))?;
        Ok(Entrance { name, default, listener, address })
    };
    wanted.into_iter().flatten().map(open).collect()
}

fn node(settings: &Settings, version: Lavalink) -> Option<Arc<Backend>> {
    let node = settings.node(version)?;
    let backend = Backend::lavalink(version, node, settings.timeouts);
    info!("event=backend version={version} address={}", backend.name());
    Some(backend)
}

fn web_timeouts(bots: Timeouts) -> Timeouts {
    Timeouts { connect: WEB_PATIENCE, response: WEB_PATIENCE, head: bots.head.min(WEB_PATIENCE), ..bots }
}

fn listen(name: &str, at: &Listen) -> Result<TcpListener, StartError> {
    let addresses = (at.host.trim_matches(['[', ']']), at.port).to_socket_addrs();
    let bound = addresses.and_then(|mut addresses| {
        let address = addresses.next().ok_or(io::Error::new(io::ErrorKind::NotFound, "the name has no address"))?;
        proxy::listen(address)
    });
    bound.map_err(|error| StartError {
        what: format!("cannot listen on {}:{} for the door `{name}`", at.host, at.port),
        hint: match error.kind() {
            io::ErrorKind::AddrInUse => "another process has this port: stop it or set another port",
            io::ErrorKind::PermissionDenied => "ports below 1024 need a privilege: set a higher port",
            io::ErrorKind::AddrNotAvailable => "this machine has no such address: set one that it has, or 0.0.0.0",
            _ => "set a host and port that can be listened on",
        },
        error,
    })
}

fn lacking(what: &str) -> impl FnOnce(io::Error) -> StartError {
    let what = format!("cannot start {what}");
    move |error| StartError { what, error, hint: "raise the limits of open files and threads" }
}

/// Once a second: samples for the rates, and idle connections to backends that are about to go stale.
fn start_housekeeper(ledger: Arc<Ledger>, nodes: Nodes) -> io::Result<(Sender<()>, JoinHandle<()>)> {
    let (stop, stopped) = mpsc::channel();
    let thread = thread::Builder::new().name("housekeeper".to_owned()).spawn(move || {
        while stopped.recv_timeout(Duration::from_secs(1)) == Err(RecvTimeoutError::Timeout) {
            ledger.tick();
            nodes.iter().for_each(|node| node.sweep());
        }
    })?;
    Ok((stop, thread))
}
