//! The listening sockets: bound here, or inherited from a supervisor or a predecessor, so that a client that connects
//! during a restart waits in the accept queue. Reads LISTEN_FDS, LISTEN_FDNAMES and LISTEN_PID (sd_listen_fds(3)).

use std::env;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, ToSocketAddrs};

use listenfd::ListenFd;
use log::info;
use socket2::SockRef;

use crate::config::{Lavalink, Listen, Settings};
use crate::error::StartError;
use crate::listener;

/// The names of the listeners, in logs and in LISTEN_FDNAMES.
pub const LISTENERS: [&str; 4] = ["proxy", "proxy-v3", "proxy-v4", WEB];
/// The listener for the web pages.
pub const WEB: &str = "web";

/// The version that the listener of this name is pinned to.
pub fn pinned(name: &str) -> Option<Lavalink> {
    match name {
        "proxy-v3" => Some(Lavalink::V3),
        "proxy-v4" => Some(Lavalink::V4),
        _ => None,
    }
}

/// More inherited sockets than this are refused.
const MAX_INHERITED: usize = 64;
const HINT: &str = "use only ListenStream= with ports in the .socket unit, and no Accept=yes";

/// Listening sockets that were open before this process.
#[derive(Default)]
pub struct Inherited {
    /// With their names; empty for a socket without one.
    sockets: Vec<(String, TcpListener)>,
    /// True when they come from another lavaproxy, whose settings may have had other addresses.
    from_predecessor: bool,
}

impl Inherited {
    /// The sockets that the environment names. To be called once and before threads are started: it removes the
    /// variables, as they are meant for this process alone.
    ///
    /// # Errors
    /// When one of them is not a TCP listener.
    pub fn from_environment(from_predecessor: bool) -> Result<Self, StartError> {
        let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut names = names.split(':');
        let count = env::var("LISTEN_FDS").ok().and_then(|count| count.parse::<usize>().ok());
        if count.is_some_and(|count| count > MAX_INHERITED) {
            let error = io::Error::new(io::ErrorKind::InvalidInput, "there are too many of them");
            return Err(StartError::new("cannot use the inherited sockets".to_owned(), error, HINT));
        }
        let mut descriptors = ListenFd::from_env();
        let mut sockets = Vec::new();
        for index in 0..descriptors.len() {
            let name = names.next().unwrap_or_default();
            let listener = descriptors.take_tcp_listener(index).and_then(|listener| match listener {
                Some(listener) if SockRef::from(&listener).is_listener()? => {
                    listener.set_nonblocking(false)?;
                    Ok(listener)
                }
                _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a TCP socket, or does not listen")),
            });
            let listener = listener.map_err(|error| {
                StartError::new(format!("cannot use the inherited socket {index} ({name})"), error, HINT)
            })?;
            sockets.push((name.to_owned(), listener));
        }
        Ok(Self { sockets, from_predecessor })
    }

    /// The socket for a listener: the one with its name, else the one on its port. A socket that a supervisor named is
    /// used at any address. One from a predecessor is used only where its address fits the settings.
    fn take(&mut self, wanted: &str, at: &Listen) -> Option<TcpListener> {
        let address = |listener: &TcpListener| listener.local_addr().ok();
        let is_still_right = |listener: &TcpListener| address(listener).is_some_and(|address| may_be_at(at, address));
        let named = self
            .sockets
            .iter()
            .position(|(name, listener)| name == wanted && (!self.from_predecessor || is_still_right(listener)));
        let on_port = || {
            self.sockets.iter().position(|(name, listener)| {
                !LISTENERS.contains(&&**name) && address(listener).is_some_and(|address| address.port() == at.port)
            })
        };
        named.or_else(on_port).map(|index| self.sockets.swap_remove(index).1)
    }

    /// A supervisor's socket that fits no listener is an error, because clients may wait in its accept queue.
    fn check_rest(self) -> Result<(), StartError> {
        let Some((name, listener)) = self.sockets.first().filter(|_| !self.from_predecessor) else { return Ok(()) };
        let address = listener.local_addr().map_or_else(|_| "no address".to_owned(), |address| address.to_string());
        let hint = "set ListenStream= to the port of PROXY_PORT, PROXY_V3_PORT, PROXY_V4_PORT or WEB_PORT, \
                    or FileDescriptorName= to one of proxy, proxy-v3, proxy-v4, web";
        let error = io::Error::new(io::ErrorKind::InvalidInput, "no listener of the settings is at this address");
        Err(StartError::new(format!("cannot use the inherited socket {name} at {address}"), error, hint))
    }
}

/// True when a listener with these settings may be at `address`.
fn may_be_at(at: &Listen, address: SocketAddr) -> bool {
    let is_elsewhere = at.host.parse::<IpAddr>().is_ok_and(|ip| ip != address.ip());
    !is_elsewhere && (at.port == 0 || at.port == address.port())
}

/// A listening socket for each listener that the settings name, the web listener last.
///
/// # Errors
/// When an address cannot be listened on, or an inherited socket is left over.
pub fn listen(settings: &Settings, mut inherited: Inherited) -> Result<Vec<(&'static str, TcpListener)>, StartError> {
    let at = |port: u16| Listen { host: settings.proxy.host.clone(), port };
    let wanted = [
        Some(settings.proxy.clone()),
        settings.proxy_v3_port.map(at),
        settings.proxy_v4_port.map(at),
        Some(settings.web.clone()),
    ];
    let mut listeners = Vec::new();
    for (name, at) in LISTENERS.into_iter().zip(wanted) {
        let Some(at) = at else { continue };
        let listener = match inherited.take(name, &at) {
            Some(listener) => check(name, listener, settings)?,
            None => bind(name, &at)?,
        };
        listeners.push((name, listener));
    }
    inherited.check_rest()?;
    Ok(listeners)
}

fn check(name: &str, listener: TcpListener, settings: &Settings) -> Result<TcpListener, StartError> {
    let address = listener.local_addr().map_err(|error| {
        StartError::new(format!("cannot use the inherited socket for the listener `{name}`"), error, HINT)
    })?;
    check_pages(name, address, settings)?;
    info!("event=inherited listener={name} address={address}");
    Ok(listener)
}

/// Refuses to show the pages to other machines without a password. The settings were checked with WEB_HOST, but an
/// inherited socket may have another address.
///
/// # Errors
/// When these settings have no password and `address` is not loopback.
pub fn check_pages(name: &str, address: SocketAddr, settings: &Settings) -> Result<(), StartError> {
    if name != WEB || settings.web_password.is_some() || address.ip().to_canonical().is_loopback() {
        return Ok(());
    }
    let error = io::Error::new(io::ErrorKind::PermissionDenied, "other machines can reach this address");
    let hint = "set WEB_PASSWORD, or set ListenStream= to a port of 127.0.0.1";
    Err(StartError::new(format!("cannot show the web pages at {address} without a WEB_PASSWORD"), error, hint))
}

fn bind(name: &str, at: &Listen) -> Result<TcpListener, StartError> {
    let addresses = (at.host.trim_matches(['[', ']']), at.port).to_socket_addrs();
    let bound = addresses.and_then(|mut addresses| {
        let address = addresses.next().ok_or(io::Error::new(io::ErrorKind::NotFound, "the name has no address"))?;
        listener::bind(address)
    });
    bound.map_err(|error| {
        let hint = match error.kind() {
            io::ErrorKind::AddrInUse => "another process has this port: stop it or set another port",
            io::ErrorKind::PermissionDenied => "ports below 1024 need a privilege: set a higher port",
            io::ErrorKind::AddrNotAvailable => {
                "this machine does not have this address: set one that it has, or 0.0.0.0"
            }
            _ => "set a host and port that can be listened on",
        };
        StartError::new(format!("cannot listen on {}:{} for the listener `{name}`", at.host, at.port), error, hint)
    })
}
