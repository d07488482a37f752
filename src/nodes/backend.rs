//! Connections to a node, or to the monitor: it connects with a deadline and keeps idle connections that all clients
//! share. What is sent on them is the business of the exchange and of the tunnel.

use std::fmt::Display;
use std::io::{self, Read, Write};
use std::mem::MaybeUninit;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use log::error;
use parking_lot::Mutex;
use socket2::{Domain, SockAddr, SockRef, Socket, TcpKeepalive, Type};

use super::health::{Health, NodeState};
use super::load::Load;
use super::resolve::{self, Resolver};
use super::schedule::Schedule;
use crate::config::{Lavalink, Node, Secret, Timeouts};
use crate::error::{self, BackendFault, End, Fault};
use crate::http::head::Field;
use crate::log_limit::LogLimit;

/// Lavalink closes a connection that was idle for 60 seconds; one near that age is not used again.
const MAX_IDLE_AGE: Duration = Duration::from_secs(50);
/// Idle connections that are kept for each backend.
const MAX_IDLE: usize = 128;

/// The request fields that the monitor reads.
const MONITOR_FIELDS: [&str; 3] = ["Host", "Origin", "Sec-Fetch-Site"];

/// A peer that is gone without a word is found after 60 s of silence and three probes, 10 s apart.
pub fn keepalive() -> TcpKeepalive {
    TcpKeepalive::new().with_time(Duration::from_secs(60)).with_interval(Duration::from_secs(10)).with_retries(3)
}

/// How long sent bytes may stay unacknowledged (RFC 5482): as long as keepalive takes to find a dead peer.
pub const USER_TIMEOUT: Duration = Duration::from_secs(90);

static NEXT_ID: AtomicU64 = AtomicU64::new(0);

/// Where requests go.
pub struct Backend {
    /// Unique in this process.
    id: u64,
    name: Arc<str>,
    address: Arc<str>,
    target: Target,
    password: Option<Secret>,
    settings: SettingNames,
    timeouts: Timeouts,
    idle: Mutex<Vec<Idle>>,
    retired: AtomicBool,
    health: Arc<Health>,
    schedule: Schedule,
    load: Arc<Load>,
    refusals: LogLimit,
}

/// The settings that hold a node's address and password, for messages.
#[derive(Default)]
struct SettingNames {
    address: String,
    password: String,
}

enum Target {
    Lavalink(Lavalink, Arc<Resolver>),
    Monitor(SockAddr),
}

struct Idle {
    socket: Socket,
    since: Instant,
}

/// A connection to a backend, for one exchange or one tunnel.
pub struct Link {
    socket: Socket,
    reused: bool,
}

impl Backend {
    /// A Lavalink node. Its first health round is due after one `interval`. `before` is the same node under settings
    /// that have changed: what is known of it is kept.
    pub fn lavalink(
        version: Lavalink,
        node: &Node,
        timeouts: Timeouts,
        interval: Duration,
        before: Option<&Self>,
    ) -> Arc<Self> {
        let target = Target::Lavalink(version, Resolver::new(&node.host, node.port));
        let settings =
            SettingNames { address: node.address_settings(version), password: node.password_setting(version) };
        let password = Some(node.password.clone());
        let backend = Self::new(Arc::clone(&node.name), node.to_string(), target, timeouts, interval);
        let backend = Self { password, settings, ..backend };
        Arc::new(match before {
            Some(before) => {
                let (health, load) = (Arc::clone(&before.health), Arc::clone(&before.load));
                Self { id: before.id, health, load, ..backend }
            }
            None => backend,
        })
    }

    /// The monitor behind the web listener, on a Unix socket. It gets one connection per request.
    pub fn monitor(address: SockAddr, timeouts: Timeouts) -> Arc<Self> {
        let name = "monitor".to_owned();
        Arc::new(Self::new(name.as_str().into(), name, Target::Monitor(address), timeouts, Duration::ZERO))
    }

    fn new(name: Arc<str>, address: String, target: Target, timeouts: Timeouts, interval: Duration) -> Self {
        Self {
            id: NEXT_ID.fetch_add(1, Relaxed),
            name,
            address: address.into(),
            target,
            password: None,
            settings: SettingNames::default(),
            timeouts,
            idle: Mutex::default(),
            retired: AtomicBool::new(false),
            health: Arc::default(),
            schedule: Schedule::new(interval),
            load: Arc::default(),
            refusals: LogLimit::every(Duration::from_secs(60)),
        }
    }

    /// Its number, unique in this process: a node that comes back under its name with another address has another one.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The node's name.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Its address as configured.
    pub fn address(&self) -> &Arc<str> {
        &self.address
    }

    /// The version of a node; `None` for the monitor.
    pub fn version(&self) -> Option<Lavalink> {
        match self.target {
            Target::Lavalink(version, _) => Some(version),
            Target::Monitor(_) => None,
        }
    }

    /// The time that one connect may take.
    pub fn connect_timeout(&self) -> Duration {
        self.timeouts.connect
    }

    /// What this backend takes as its `Authorization`, if anything.
    pub fn password(&self) -> Option<&Secret> {
        self.password.as_ref()
    }

    /// Notes that the node refused its password: an error in the log, at most once a minute.
    pub fn password_refused(&self) -> BackendFault {
        let setting = self.settings.password.clone();
        if self.refusals.count().is_some() {
            error!(
                "event=password-refused {} setting={setting} hint=\"set it to the password in the node's application.yml\"",
                self.label()
            );
        }
        BackendFault::RefusesPassword { backend: self.to_string(), setting }
    }

    /// What is known of its health.
    pub fn health(&self) -> &Health {
        &self.health
    }

    /// True when it takes new sessions: it is up, or nothing is known of it yet.
    pub fn is_in_rotation(&self) -> bool {
        matches!(self.health.state(), NodeState::Up | NodeState::Unknown)
    }

    /// When it is asked how it is.
    pub fn schedule(&self) -> &Schedule {
        &self.schedule
    }

    /// What it has to do.
    pub fn load(&self) -> &Load {
        &self.load
    }

    /// Takes the node out of rotation for new sessions, or back into it. False when it was so already.
    pub fn set_draining(&self, draining: bool, by: &str) -> bool {
        self.health.set_draining(self.label(), draining, by)
    }

    /// The node in log lines.
    pub fn label(&self) -> impl Display {
        format!("node={} backend={self}", self.name)
    }

    /// True when a connection may serve more than one request.
    pub fn keeps_connections(&self) -> bool {
        matches!(self.target, Target::Lavalink(..))
    }

    /// True for a field that this backend is to get: a node gets all, the monitor those it has a use for, as
    /// tiny_http hangs up on some others.
    pub fn reads(&self, field: &Field<'_>) -> bool {
        let is = |name: &&str| field.name.eq_ignore_ascii_case(name);
        self.keeps_connections() || (field.value.is_ascii() && MONITOR_FIELDS.iter().any(is))
    }

    /// A connection: an idle one that still stands, else a new one.
    ///
    /// # Errors
    /// 502, 503 or 504 as a [`Fault`], within `time`.
    pub fn link(&self, time: Duration) -> Result<Link, Fault> {
        while let Some(idle) = self.take_idle() {
            if stands(&idle.socket) {
                return Ok(Link { socket: idle.socket, reused: true });
            }
        }
        self.fresh_link(time)
    }

    /// A new connection.
    ///
    /// # Errors
    /// 502, 503 or 504 as a [`Fault`], within `time`.
    pub fn fresh_link(&self, time: Duration) -> Result<Link, Fault> {
        let started = Instant::now();
        let linked = self.connect(started + time);
        let linked = linked.map(|socket| Link { socket, reused: false }).map_err(|error| self.fault(error));
        // The monitor tells by itself when it cannot go on.
        let is_node = matches!(self.target, Target::Lavalink(..));
        if is_node && self.health.note_connect(started.elapsed(), linked.as_ref().err()) {
            self.schedule.ask_for_another();
        }
        linked
    }

    /// Keeps a connection for a later request. Only for one whose last exchange ended cleanly.
    pub fn give_back(&self, link: Link) {
        if !self.keeps_connections() {
            return;
        }
        let mut idle = self.idle.lock();
        if idle.len() < MAX_IDLE && !self.retired.load(Relaxed) {
            idle.push(Idle { socket: link.socket, since: Instant::now() });
        }
    }

    /// Closes idle connections before the backend does; to be called every few seconds.
    pub fn sweep(&self) {
        let mut old = Vec::new();
        let mut idle = self.idle.lock();
        let young = idle.partition_point(|idle| idle.since.elapsed() >= MAX_IDLE_AGE);
        old.extend(idle.drain(..young));
        drop(idle);
    }

    /// Closes the idle connections and keeps none any more: the settings name another backend now.
    pub fn retire(&self) {
        let mut idle = self.idle.lock();
        self.retired.store(true, Relaxed);
        let closed = std::mem::take(&mut *idle);
        drop(idle);
        drop(closed);
    }

    fn take_idle(&self) -> Option<Idle> {
        let mut idle = self.idle.lock();
        idle.pop().filter(|idle| idle.since.elapsed() < MAX_IDLE_AGE)
    }

    fn connect(&self, deadline: Instant) -> io::Result<Socket> {
        let socket = match &self.target {
            Target::Monitor(address) => {
                let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
                socket.set_write_timeout(Some(self.timeouts.connect))?;
                socket.connect(address)?;
                socket
            }
            Target::Lavalink(_, resolver) => {
                let socket = Socket::from(connect_to_any(resolver, deadline)?);
                socket.set_tcp_nodelay(true)?;
                socket.set_tcp_keepalive(&keepalive())?;
                socket.set_tcp_user_timeout(Some(USER_TIMEOUT))?;
                socket
            }
        };
        socket.set_read_timeout(Some(self.timeouts.response))?;
        socket.set_write_timeout(Some(self.timeouts.response))?;
        Ok(socket)
    }

    fn fault(&self, error: io::Error) -> Fault {
        let backend = self.to_string();
        match error.raw_os_error() {
            Some(libc::EMFILE | libc::ENFILE) => Fault::NoDescriptor,
            _ if error.kind() == resolve::NO_THREAD => Fault::NoThread,
            _ if error::is_timeout(&error) => BackendFault::ConnectTimeout { backend }.into(),
            _ => BackendFault::Unreachable { backend, settings: self.settings.address.clone(), error }.into(),
        }
    }

    /// The setting that holds its password.
    pub fn password_setting(&self) -> &str {
        &self.settings.password
    }

    /// The settings that hold its address.
    pub fn address_settings(&self) -> &str {
        &self.settings.address
    }
}

impl std::fmt::Display for Backend {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.target {
            Target::Lavalink(version, _) => write!(out, "{version}@{}", self.address),
            Target::Monitor(_) => out.write_str(&self.address),
        }
    }
}

/// Tries every address; each gets its share of the time that is left.
fn connect_to_any(resolver: &Arc<Resolver>, deadline: Instant) -> io::Result<TcpStream> {
    let addresses = resolver.addresses(deadline)?;
    let mut failure = io::Error::from(io::ErrorKind::TimedOut);
    for (tried, address) in addresses.iter().enumerate() {
        let left = deadline.saturating_duration_since(Instant::now());
        let share = left / u32::try_from(addresses.len() - tried).unwrap_or(u32::MAX);
        if share.is_zero() {
            break;
        }
        match TcpStream::connect_timeout(address, share) {
            Ok(stream) => return Ok(stream),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

/// True for an idle connection that is neither closed nor has bytes that nobody asked for.
fn stands(socket: &Socket) -> bool {
    matches!(peek(socket), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
}

/// Looks at what has come without waiting and without taking it; 0 is the end of the stream.
pub fn peek(socket: &Socket) -> io::Result<usize> {
    socket.recv_with_flags(&mut [MaybeUninit::uninit()], libc::MSG_PEEK | libc::MSG_DONTWAIT)
}

impl Link {
    /// True when it served another request before this one.
    pub fn is_reused(&self) -> bool {
        self.reused
    }

    /// True when bytes of the backend have arrived, or its end.
    pub fn has_news(&self) -> bool {
        !stands(&self.socket)
    }

    /// Waits for bytes of the backend or its end, for `time` at the most.
    pub fn wait_for_news(&self, time: Duration) -> io::Result<bool> {
        let usual = self.socket.read_timeout()?;
        self.socket.set_read_timeout(Some(time))?;
        let peeked = self.socket.peek(&mut [MaybeUninit::uninit()]);
        self.socket.set_read_timeout(usual)?;
        Ok(!matches!(peeked, Err(error) if error::is_timeout(&error)))
    }

    /// Lets the next read wait until `deadline` and no longer.
    ///
    /// # Errors
    /// `TimedOut` when that has passed.
    pub fn read_until(&self, deadline: Instant) -> io::Result<()> {
        match deadline.saturating_duration_since(Instant::now()) {
            Duration::ZERO => Err(io::ErrorKind::TimedOut.into()),
            left => self.socket.set_read_timeout(Some(left)),
        }
    }

    /// How long one write may wait for the backend to read.
    pub fn set_write_timeout(&self, time: Duration) -> io::Result<()> {
        self.socket.set_write_timeout(Some(time))
    }

    /// The socket, for a tunnel: without deadlines, as Lavalink may be silent for a minute and more.
    ///
    /// # Errors
    /// When the backend is gone already.
    pub fn into_tunnel(self) -> Result<Socket, End> {
        let endless = self.socket.set_read_timeout(None).and_then(|()| self.socket.set_write_timeout(None));
        endless.map(|()| self.socket).map_err(|error| End::of_backend(&error))
    }
}

impl Read for &Link {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        (&self.socket).read(buffer)
    }
}

impl Write for &Link {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        (&self.socket).write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Makes the close of a socket a reset, so that its peer can tell that it was no proper end.
pub fn close_with_reset<'s>(socket: impl Into<SockRef<'s>>) {
    // Fails on a socket that is dead already, which is what was wanted.
    let _ = socket.into().set_linger(Some(Duration::ZERO));
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use std::iter;
    use std::net::{SocketAddr, TcpListener};

    use super::*;

    const TIME: Duration = Duration::from_secs(2);

    fn open() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    /// Nobody listens where nobody can.
    fn refusing() -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 1))
    }

    /// A listener that is too busy to take anybody, with those it keeps waiting.
    fn deaf() -> (Socket, Vec<TcpStream>, SocketAddr) {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        socket.listen(0).unwrap();
        let address = socket.local_addr().unwrap().as_socket().unwrap();
        let connect = || TcpStream::connect_timeout(&address, Duration::from_millis(200)).ok();
        let waiting = iter::from_fn(connect).take(16).collect();
        (socket, waiting, address)
    }

    fn connect(addresses: &[SocketAddr]) -> io::Result<SocketAddr> {
        connect_to_any(&Resolver::knowing(addresses.to_vec()), Instant::now() + TIME)?.peer_addr()
    }

    #[test]
    fn every_address_of_a_name_has_its_turn() {
        let ((_listener, open), (_socket, _waiting, deaf)) = (open(), deaf());
        let started = Instant::now();
        assert_eq!(connect(&[refusing(), open]).unwrap(), open);
        assert_eq!(connect(&[deaf, open]).unwrap(), open);
        assert_eq!(connect(&[deaf, refusing(), open]).unwrap(), open);
        assert!(started.elapsed() < 2 * TIME, "a deaf address takes its share of the time, not all of it");
    }

    #[test]
    fn the_deadline_holds_for_all_addresses_together() {
        let (_socket, _waiting, deaf) = deaf();
        let started = Instant::now();
        assert!(error::is_timeout(&connect(&[deaf, deaf, deaf]).unwrap_err()));
        assert!(started.elapsed() < TIME + TIME / 2, "{:?}", started.elapsed());
        assert_eq!(connect(&[refusing(), refusing()]).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    }
}
