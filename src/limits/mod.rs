//! Who may use lavaproxy, and how much of it: limits by address, bans, refusals, [`accounts`].
//!
//! One [`Limits`] serves all proxy listeners. It keeps its own tables, each with a fixed number of rows, behind locks of
//! their own: a connection takes one of them at its begin, at its end and at each request, and never between two bytes.
//! A client counts by its [`Prefix`]. Loopback and trusted fronts have no limits by address and are never banned.

pub mod accounts;
mod bans;
mod holds;
mod network_map;
mod offenders;
mod prefix;
mod rates;
mod refusals;
mod table;

#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use log::info;
use parking_lot::RwLock;

pub use bans::{BanError, BanRow, Bans, By, SavedBans};
pub use holds::Hold;
pub use offenders::Repeat;
pub use prefix::Prefix;
pub use refusals::{ReasonRow, Refusals, RefusedRow};

use crate::config::{LimitSettings, Networks, Rate};
use crate::error::{End, Fault, Limit};
use holds::Holds;
use network_map::NetworkMap;
use rates::Rates;

/// The seconds after which a client with too many connections may try again.
const RETRY_CONNECTIONS: u64 = 5;

/// The limits by address, and the bans.
pub struct Limits {
    rules: RwLock<Rules>,
    holds: Arc<Holds>,
    connections: Rates,
    requests: Rates,
    bans: Bans,
    refusals: Refusals,
    dropped: AtomicU64,
}

/// What the settings say.
struct Rules {
    connections: Option<usize>,
    connection_rate: Option<Rate>,
    request_rate: Option<Rate>,
    trusted: Networks,
    allowed: NetworkMap<()>,
    blocked: NetworkMap<()>,
}

impl Rules {
    fn new(settings: &LimitSettings, trusted: &Networks, total: usize) -> Self {
        let map = |networks: &Networks| {
            let mut map = NetworkMap::default();
            networks.iter().for_each(|network| map.insert(*network, ()));
            map
        };
        Self {
            connections: settings.connections_per_address.of(total),
            connection_rate: settings.connection_rate,
            request_rate: settings.request_rate,
            trusted: trusted.clone(),
            allowed: map(&settings.allowed),
            blocked: map(&settings.blocked),
        }
    }

    fn is_exempt(&self, address: IpAddr) -> bool {
        address.to_canonical().is_loopback() || self.trusted.contains(address)
    }

    /// The setting that refuses the address, if one does.
    fn refuses(&self, address: IpAddr) -> Option<&'static str> {
        let is_in = |networks: &NetworkMap<()>| networks.of_address(address).next().is_some();
        if is_in(&self.blocked) {
            return Some("BLOCKED_ADDRESSES");
        }
        (!self.allowed.is_empty() && !is_in(&self.allowed)).then_some("ALLOWED_ADDRESSES")
    }
}

impl Limits {
    /// The limits of these settings; `total` is the number of slots.
    pub fn new(settings: &LimitSettings, trusted: &Networks, total: usize) -> Arc<Self> {
        Arc::new(Self {
            rules: RwLock::new(Rules::new(settings, trusted, total)),
            holds: Arc::default(),
            connections: Rates::default(),
            requests: Rates::default(),
            bans: Bans::new(trusted, settings.ban_after),
            refusals: Refusals::default(),
            dropped: AtomicU64::new(0),
        })
    }

    /// Other settings from here on. What was counted so far stays.
    pub fn change(&self, settings: &LimitSettings, trusted: &Networks, total: usize) {
        *self.rules.write() = Rules::new(settings, trusted, total);
        self.bans.change(trusted, settings.ban_after);
    }

    /// True when a connection from this peer is closed before a byte is read: it is banned, blocked or not allowed. Such
    /// a connection is counted, and logged at most once a second and prefix.
    pub fn drops(&self, peer: IpAddr) -> bool {
        let reason = {
            let rules = self.rules.read();
            if rules.is_exempt(peer) {
                return false;
            }
            if self.bans.end(peer).is_some() { Some("banned") } else { rules.refuses(peer) }
        };
        let Some(reason) = reason else { return false };
        self.dropped.fetch_add(1, Ordering::Relaxed);
        let prefix = Prefix::of(peer);
        if let Some(count) = self.refusals.note(End::RejectedBanned, prefix) {
            info!("event=dropped address={prefix} count={count} reason={reason}");
        }
        true
    }

    /// One more connection of this client. `None` for an exempt client, which is not counted.
    ///
    /// # Errors
    /// [`Fault::OverLimit`] when it has opened too many in a short time, or has too many open.
    pub fn connect(&self, client: IpAddr) -> Result<Option<Hold>, Fault> {
        let (rate, most) = {
            let rules = self.rules.read();
            if rules.is_exempt(client) {
                return Ok(None);
            }
            (rules.connection_rate, rules.connections)
        };
        if let Some(rate) = rate {
            let fault = |retry_after| Fault::OverLimit { limit: Limit::ConnectionRate, retry_after };
            self.connections.take(Prefix::of(client), rate).map_err(fault)?;
        }
        self.hold_up_to(most, client).map(Some)
    }

    /// One more open connection of this client, whose rate does not count, such as one that a front shares among clients.
    ///
    /// # Errors
    /// [`Fault::OverLimit`] when it has too many open.
    pub fn hold(&self, client: IpAddr) -> Result<Option<Hold>, Fault> {
        let most = {
            let rules = self.rules.read();
            if rules.is_exempt(client) {
                return Ok(None);
            }
            rules.connections
        };
        self.hold_up_to(most, client).map(Some)
    }

    fn hold_up_to(&self, most: Option<usize>, client: IpAddr) -> Result<Hold, Fault> {
        let fault = |most| Fault::OverLimit { limit: Limit::Connections(most), retry_after: RETRY_CONNECTIONS };
        self.holds.take(Prefix::of(client), most).map_err(fault)
    }

    /// Checks whether this client may connect at all.
    ///
    /// # Errors
    /// [`Fault::Banned`] or [`Fault::NotAllowed`].
    pub fn check(&self, client: IpAddr) -> Result<(), Fault> {
        let rules = self.rules.read();
        if rules.is_exempt(client) { Ok(()) } else { self.check_by(&rules, client) }
    }

    fn check_by(&self, rules: &Rules, client: IpAddr) -> Result<(), Fault> {
        if let Some(until) = self.bans.end(client) {
            return Err(Fault::Banned { until });
        }
        rules.refuses(client).map_or(Ok(()), |setting| Err(Fault::NotAllowed { setting }))
    }

    /// One more request of this client.
    ///
    /// # Errors
    /// As for [`check`](Self::check), and [`Fault::OverLimit`] when it has sent too many in a short time.
    pub fn request(&self, client: IpAddr) -> Result<(), Fault> {
        let rate = {
            let rules = self.rules.read();
            if rules.is_exempt(client) {
                return Ok(());
            }
            self.check_by(&rules, client)?;
            rules.request_rate
        };
        let fault = |retry_after| Fault::OverLimit { limit: Limit::RequestRate, retry_after };
        rate.map_or(Ok(()), |rate| self.requests.take(Prefix::of(client), rate).map_err(fault))
    }

    /// A wrong password of this client, which may ban it.
    pub fn note_wrong_password(&self, client: IpAddr) {
        let is_exempt = self.rules.read().is_exempt(client);
        if !is_exempt {
            self.bans.note_wrong_password(client);
        }
    }

    /// Notes a refusal. When a log line is due for the client, returns its refusals since its last line.
    pub fn note_refusal(&self, reason: End, client: IpAddr) -> Option<u64> {
        self.refusals.note(reason, Prefix::of(client))
    }

    /// The bans.
    pub fn bans(&self) -> &Bans {
        &self.bans
    }

    /// The refusals of the last hour.
    pub fn refusals(&self) -> &Refusals {
        &self.refusals
    }

    /// The connections that were closed before a byte was read.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// The most connections of one client at present.
    pub fn connections_per_address(&self) -> Option<usize> {
        self.rules.read().connections
    }

    /// Removes the bans that have ended; to be called once a second.
    pub fn tick(&self) {
        self.bans.tick();
    }
}
