//! Connections to a node, or to the monitor. Connects with a deadline and keeps idle connections, which all clients
//! share. The exchange and the tunnel decide what is sent on them.

use std::fmt::Display;
use std::io::{self, Read, Write};
use std::mem::{MaybeUninit, take};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use log::error;
use parking_lot::Mutex;
use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, TcpKeepalive, Type};

use super::health::{Health, NodeState};
use super::load::Load;
use super::resolve::{self, Resolver};
use super::schedule::Schedule;
use crate::config::{Lavalink, Node, Secret, Timeouts};
use crate::error::{self, BackendFault, End, Fault};
use crate::http::head::Field;
use crate::log_limit::LogLimit;

/// The age from which a connection gets no further request. Lavalink closes one that is idle for 60 seconds. One that is
/// never idle for long would stay for ever at an address that the backend's name may not have any more.
const MAX_AGE: Duration = Duration::from_secs(30);
/// The most idle connections of one backend.
const MAX_IDLE: usize = 128;

/// The longest wait before it is checked whether a connection is still wanted.
const LOOK: Duration = Duration::from_millis(250);

/// The request fields that the monitor reads.
const MONITOR_FIELDS: [&str; 3] = ["Host", "Origin", "Sec-Fetch-Site"];

/// TCP keepalive for all sockets: it finds a dead peer after 60 s of silence and three probes, 10 s apart.
pub fn keepalive() -> TcpKeepalive {
    TcpKeepalive::new().with_time(Duration::from_secs(60)).with_interval(Duration::from_secs(10)).with_retries(3)
}

/// How long sent bytes may stay unacknowledged (RFC 5482). Keepalive takes as long to find a dead peer.
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
    made: Instant,
}

/// A connection to a backend, for one exchange or one tunnel.
pub struct Link {
    socket: Socket,
    made: Instant,
    reused: bool,
}

impl Backend {
    /// A Lavalink node. Its first health round is due after one `interval`. `before` is the same node before a change
    /// of its settings: its id, its health and its load are kept.
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

    /// Its number, unique in this process. A node that returns under its old name with another address has a new one.
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

    /// The longest time of one connect.
    pub fn connect_timeout(&self) -> Duration {
        self.timeouts.connect
    }

    /// The longest wait for its answer to a request.
    pub fn response_timeout(&self) -> Duration {
        self.timeouts.response
    }

    /// The password that this backend gets as `Authorization`, if any.
    pub fn password(&self) -> Option<&Secret> {
        self.password.as_ref()
    }

    /// Notes that the node refused its password. It is counted, and an error in the log, at most once a minute.
    pub fn password_refused(&self) -> BackendFault {
        self.health.note_password_refusal();
        let setting = self.settings.password.clone();
        if self.refusals.count().is_some() {
            error!(
                "event=password-refused {} setting={setting} hint=\"set it to the password in the node's application.yml\"",
                self.label()
            );
        }
        BackendFault::RefusesPassword { backend: self.to_string(), setting }
    }

    /// Its health.
    pub fn health(&self) -> &Health {
        &self.health
    }

    /// True when it gets new sessions: it is up, or its first health round has not ended yet.
    pub fn is_in_rotation(&self) -> bool {
        matches!(self.health.state(), NodeState::Up | NodeState::Unknown)
    }

    /// The schedule of its health rounds.
    pub fn schedule(&self) -> &Schedule {
        &self.schedule
    }

    /// Its load.
    pub fn load(&self) -> &Arc<Load> {
        &self.load
    }

    /// Takes the node out of rotation for new sessions, or back into it. False when nothing changes.
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

    /// True for a field that this backend gets. A node gets all. The monitor gets only those that it reads, as
    /// tiny_http closes the connection on some others.
    pub fn reads(&self, field: &Field<'_>) -> bool {
        let is = |name: &&str| field.name.eq_ignore_ascii_case(name);
        self.keeps_connections() || (field.value.is_ascii() && MONITOR_FIELDS.iter().any(is))
    }

    /// A connection: an idle one if there is one, else a new one.
    ///
    /// # Errors
    /// 502, 503 or 504 as a [`Fault`], within `time`.
    pub fn link(&self, time: Duration) -> Result<Link, Fault> {
        while let Some(Idle { socket, made }) = self.take_idle() {
            if made.elapsed() < MAX_AGE && stands(&socket) {
                return Ok(Link { socket, made, reused: true });
            }
        }
        self.fresh_link(time)
    }

    /// A new connection.
    ///
    /// # Errors
    /// 502, 503 or 504 as a [`Fault`], within `time`.
    pub fn fresh_link(&self, time: Duration) -> Result<Link, Fault> {
        self.fresh_link_while(time, || true)
    }

    /// A new connection, as long as it is wanted: that is checked four times a second.
    ///
    /// # Errors
    /// 502, 503 or 504 as a [`Fault`], within `time`, and soon after it is not wanted any more.
    pub fn fresh_link_while(&self, time: Duration, is_wanted: impl Fn() -> bool) -> Result<Link, Fault> {
        let started = Instant::now();
        let linked = self.connect(started + time, &is_wanted);
        let linked = linked.map(|socket| Link { socket, made: started, reused: false });
        let linked = linked.map_err(|error| self.fault(error));
        // The health of the monitor is not kept. A connect that was given up says nothing of the node.
        let counts = matches!(self.target, Target::Lavalink(..)) && (linked.is_ok() || is_wanted());
        if counts && self.health.note_connect(started.elapsed(), linked.as_ref().err()) {
            self.schedule.ask_for_another();
        }
        linked
    }

    /// Keeps a connection for a later request. Its last exchange must have ended cleanly.
    pub fn give_back(&self, link: Link) {
        let Link { socket, made, .. } = link;
        if !self.keeps_connections() {
            return;
        }
        let mut idle = self.idle.lock();
        if idle.len() < MAX_IDLE && !self.retired.load(Relaxed) {
            idle.push(Idle { socket, made });
        }
    }

    /// Closes the idle connections that get no further request. Must be called every few seconds.
    pub fn sweep(&self) {
        let mut idle = self.idle.lock();
        let (young, old): (Vec<_>, Vec<_>) =
            take(&mut *idle).into_iter().partition(|idle| idle.made.elapsed() < MAX_AGE);
        *idle = young;
        drop(idle);
        drop(old);
    }

    /// Closes the idle connections and keeps none from now on: the settings do not name this backend any more.
    pub fn retire(&self) {
        let mut idle = self.idle.lock();
        self.retired.store(true, Relaxed);
        let closed = take(&mut *idle);
        drop(idle);
        drop(closed);
    }

    fn take_idle(&self) -> Option<Idle> {
        self.idle.lock().pop()
    }

    fn connect(&self, deadline: Instant, is_wanted: &dyn Fn() -> bool) -> io::Result<Socket> {
        let socket = match &self.target {
            Target::Monitor(address) => {
                let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
                socket.set_write_timeout(Some(self.timeouts.connect))?;
                socket.connect(address)?;
                socket
            }
            Target::Lavalink(_, resolver) => {
                let socket = connect_to_any(resolver, deadline, is_wanted)?;
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

/// Tries every address in turn. Each gets an equal share of the time that is left.
fn connect_to_any(resolver: &Arc<Resolver>, deadline: Instant, is_wanted: &dyn Fn() -> bool) -> io::Result<Socket> {
    let addresses = loop {
        match resolver.addresses(deadline.min(Instant::now() + LOOK)) {
            Err(error) if error::is_timeout(&error) && Instant::now() < deadline && is_wanted() => {}
            found => break found?,
        }
    };
    let mut failure = io::Error::from(io::ErrorKind::TimedOut);
    for (tried, address) in addresses.iter().enumerate() {
        let left = deadline.saturating_duration_since(Instant::now());
        let share = left / u32::try_from(addresses.len() - tried).unwrap_or(u32::MAX);
        if share.is_zero() || !is_wanted() {
            break;
        }
        match connect_to(*address, Instant::now() + share, is_wanted) {
            Ok(socket) => return Ok(socket),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

/// Connects until `deadline`. Another call of connect(2) goes on to wait for a connect that is under way.
fn connect_to(address: SocketAddr, deadline: Instant, is_wanted: &dyn Fn() -> bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    let address = SockAddr::from(address);
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() || !is_wanted() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        // It is the longest wait of a connect, too.
        socket.set_write_timeout(Some(measurable(left.min(LOOK))))?;
        match socket.connect(&address) {
            Ok(()) => return Ok(socket),
            Err(error) if is_under_way(&error) => {}
            Err(error) => return Err(error),
        }
    }
}

/// This time, or a little more if it is very short: less than a microsecond is zero to the kernel, which is no limit at
/// all.
fn measurable(time: Duration) -> Duration {
    time.max(Duration::from_millis(1))
}

fn is_under_way(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINPROGRESS | libc::EALREADY | libc::EINTR))
}

/// True for an idle connection that its peer has not closed and that has no unread bytes.
fn stands(socket: &Socket) -> bool {
    matches!(peek(socket), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
}

/// Checks a socket for unread bytes. Does not wait and leaves them there. 1 if there are any, 0 at the end of the
/// stream.
pub fn peek(socket: &Socket) -> io::Result<usize> {
    socket.recv_with_flags(&mut [MaybeUninit::uninit()], libc::MSG_PEEK | libc::MSG_DONTWAIT)
}

impl Link {
    /// True when it has served another request before.
    pub fn is_reused(&self) -> bool {
        self.reused
    }

    /// True when bytes from the backend, or its end, have arrived.
    pub fn has_news(&self) -> bool {
        !stands(&self.socket)
    }

    /// Waits for bytes from the backend, or its end, for at most `time`.
    pub fn wait_for_news(&self, time: Duration) -> io::Result<bool> {
        let usual = self.socket.read_timeout()?;
        self.socket.set_read_timeout(Some(measurable(time)))?;
        let peeked = self.socket.peek(&mut [MaybeUninit::uninit()]);
        self.socket.set_read_timeout(usual)?;
        Ok(!matches!(peeked, Err(error) if error::is_timeout(&error) || error.kind() == io::ErrorKind::Interrupted))
    }

    /// Makes the next read wait until `deadline` at most.
    ///
    /// # Errors
    /// `TimedOut` when `deadline` has passed.
    pub fn read_until(&self, deadline: Instant) -> io::Result<()> {
        match deadline.saturating_duration_since(Instant::now()) {
            Duration::ZERO => Err(io::ErrorKind::TimedOut.into()),
            left => self.socket.set_read_timeout(Some(measurable(left))),
        }
    }

    /// Sets how long one write may wait for the backend to read.
    pub fn set_write_timeout(&self, time: Duration) -> io::Result<()> {
        self.socket.set_write_timeout(Some(time))
    }

    /// The socket of a WebSocket whose frames are read as they come: no read or write waits. See
    /// [`into_tunnel`](Self::into_tunnel) for the time after that.
    ///
    /// # Errors
    /// When the backend is gone already.
    pub fn set_waiting(&self, waits: bool) -> io::Result<()> {
        self.socket.set_nonblocking(!waits)
    }

    /// The socket for a tunnel. It has no deadlines, as Lavalink may be silent for more than a minute.
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

/// Makes the close of a socket a reset, which shows its peer that this is no proper end.
pub fn close_with_reset<'s>(socket: impl Into<SockRef<'s>>) {
    // An error means that the socket is dead already.
    let _ = socket.into().set_linger(Some(Duration::ZERO));
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use std::cell::Cell;
    use std::net::{TcpListener, TcpStream};
    use std::{iter, thread};

    use super::*;
    use crate::config::Settings;

    const TIME: Duration = Duration::from_secs(2);

    fn open() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    /// An address that refuses connections: no process listens there.
    fn refusing() -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 1))
    }

    /// A listener that accepts no connection, with the connections that fill its queue.
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
        let connected = connect_to_any(&Resolver::knowing(addresses.to_vec()), Instant::now() + TIME, &|| true)?;
        connected.peer_addr().map(|address| address.as_socket().unwrap())
    }

    #[test]
    fn the_shortest_wait_is_no_endless_one() {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        for time in [Duration::from_nanos(1), Duration::from_nanos(999), Duration::from_micros(1)] {
            socket.set_read_timeout(Some(measurable(time))).unwrap();
            assert!(socket.read_timeout().unwrap().is_some(), "{time:?}");
        }
        assert_eq!(measurable(TIME), TIME);
    }

    #[test]
    fn an_idle_connection_serves_again_until_it_is_old() {
        let (_listener, address) = open();
        let port = address.port().to_string();
        let settings = Settings::from_lookup(|name| (name == "LAVALINK_V4_PORT").then(|| port.clone().into())).unwrap();
        let Settings { timeouts, health_interval, .. } = settings;
        let node = Backend::lavalink(Lavalink::V4, &settings.nodes(Lavalink::V4)[0], timeouts, health_interval, None);
        let link = node.link(TIME).unwrap();
        let made = link.made;
        node.give_back(link);
        let mut link = node.link(TIME).unwrap();
        assert_eq!((link.is_reused(), link.made), (true, made));
        link.made = made.checked_sub(MAX_AGE).unwrap();
        let old = link.made;
        node.give_back(link);
        let link = node.link(TIME).unwrap();
        assert!(!link.is_reused());
        node.give_back(link);
        node.give_back(Link { made: old, ..node.fresh_link(TIME).unwrap() });
        node.sweep();
        assert_eq!(node.idle.lock().len(), 1, "a sweep closes the old one alone");
    }

    #[test]
    fn every_address_of_a_name_is_tried() {
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

    #[test]
    fn a_connect_that_is_not_wanted_any_more_ends() {
        let (_socket, _waiting, deaf) = deaf();
        let looks = Cell::new(0);
        let is_wanted = || looks.replace(looks.get() + 1) < 4;
        let resolver = Resolver::knowing(vec![deaf]);
        assert!(connect_to_any(&resolver, Instant::now() + Duration::from_secs(3600), &is_wanted).is_err());
    }

    #[test]
    fn a_connect_that_takes_longer_than_one_look_succeeds() {
        let (socket, waiting, deaf) = deaf();
        let connecting = thread::spawn(move || connect_to(deaf, Instant::now() + Duration::from_secs(60), &|| true));
        thread::sleep(2 * LOOK);
        for _ in &waiting {
            socket.accept().unwrap();
        }
        assert!(connecting.join().unwrap().is_ok());
    }
}
