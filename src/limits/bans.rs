//! Bans of addresses and networks: by hand, and by the rule that wrong passwords ban a client for a while.
//!
//! Their ends are times of the wall clock, so that a ban ends on time also over a restart. [`Limits`](super::Limits) asks
//! for no ban of an exempt address.

use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ipnet::IpNet;
use log::{info, warn};
use parking_lot::{Mutex, RwLock};
use serde::{Deserialize, Serialize};

use super::network_map::NetworkMap;
use super::offenders::{Offenders, Repeat};
use super::prefix::Prefix;
use crate::config::{self, LOOPBACK, Networks, network_text};
use crate::log_limit::LogLimit;
use crate::logfmt::Quoted;
use crate::unix_time::unix_millis;

/// The most bans at a time.
const MAX_BANS: usize = 20_000;
/// The longest reason, in bytes.
const MAX_REASON: usize = 200;
/// The end of the year 9999, in milliseconds since the epoch: the last that can be written as a date.
const MAX_END: u64 = 253_402_300_799_000;

/// Who made a ban, or lifted it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum By {
    /// The rule of `BAN_AFTER`.
    Rule,
    /// The form on the web page.
    Page,
    /// A request to the API.
    Api,
}

impl fmt::Display for By {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Rule => "rule",
            Self::Page => "page",
            Self::Api => "api",
        })
    }
}

/// A ban as the API and the state file have it. Times are milliseconds since the epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BanRow {
    /// An address or a network.
    pub address: String,
    /// Why.
    pub reason: String,
    /// Who made it.
    pub by: By,
    /// Its begin.
    pub since: u64,
    /// Its end; `None` until it is lifted.
    pub until: Option<u64>,
}

/// The bans for the state file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct SavedBans {
    /// The bans in force.
    pub bans: Vec<BanRow>,
    /// The prefixes whose next ban is longer.
    pub repeats: Vec<Repeat>,
}

/// Why a ban is not made. It displays as one line for the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BanError {
    /// The network shares addresses with the loopback.
    Loopback,
    /// The network shares addresses with this entry of TRUSTED_PROXIES.
    Front(String),
    /// There are as many bans as there may be.
    Full,
    /// The reason is too long.
    Reason,
}

impl fmt::Display for BanError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Loopback => out.write_str("it has addresses of this machine's loopback, which is never banned"),
            Self::Front(front) => write!(
                out,
                "it has addresses of {front} in TRUSTED_PROXIES, and a front is never banned; ban the clients behind it"
            ),
            Self::Full => write!(out, "there are {MAX_BANS} bans already; lift some, or ban a network instead"),
            Self::Reason => write!(out, "the reason is longer than {MAX_REASON} bytes; write a shorter one"),
        }
    }
}

/// Every ban, and the wrong passwords that lead to one.
pub struct Bans {
    rules: RwLock<Rules>,
    bans: RwLock<BanTable>,
    /// The number of bans, for a look-up without a lock while there is none.
    count: AtomicUsize,
    offenders: Mutex<Offenders>,
    full: LogLimit,
}

/// What the settings say.
struct Rules {
    trusted: Networks,
    /// The wrong passwords within a minute that ban a client.
    after: Option<u32>,
}

struct BanTable {
    bans: NetworkMap<Ban>,
    /// No ban ends before this time.
    next_end: u64,
}

#[derive(Clone)]
struct Ban {
    reason: Box<str>,
    by: By,
    since: u64,
    /// [`NO_END`] until it is lifted.
    until: u64,
}

/// Later than the end of every ban that has one.
const NO_END: u64 = u64::MAX;

impl Bans {
    pub(super) fn new(trusted: &Networks, after: Option<u32>) -> Self {
        Self {
            rules: RwLock::new(Rules { trusted: trusted.clone(), after }),
            bans: RwLock::new(BanTable { bans: NetworkMap::default(), next_end: NO_END }),
            count: AtomicUsize::new(0),
            offenders: Mutex::default(),
            full: LogLimit::every(Duration::from_secs(60)),
        }
    }

    pub(super) fn change(&self, trusted: &Networks, after: Option<u32>) {
        *self.rules.write() = Rules { trusted: trusted.clone(), after };
    }

    /// Bans a network for a while, or until the ban is lifted. A ban of the same network is replaced.
    ///
    /// # Errors
    /// Why there is no such ban.
    pub fn ban(&self, network: IpNet, reason: &str, duration: Option<Duration>, by: By) -> Result<BanRow, BanError> {
        self.ban_at(network, reason, duration, by, unix_millis())
    }

    fn ban_at(
        &self,
        network: IpNet,
        reason: &str,
        duration: Option<Duration>,
        by: By,
        now: u64,
    ) -> Result<BanRow, BanError> {
        let end = |duration: Duration| {
            let milliseconds = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
            now.saturating_add(milliseconds).min(MAX_END)
        };
        let ban = Ban { reason: reason.into(), by, since: now, until: duration.map_or(NO_END, end) };
        self.add(network, ban.clone(), now)?;
        log_ban(network, &ban);
        Ok(ban.row(network))
    }

    /// Lifts the ban of exactly this network; false where there is none. The next ban by the rule is then a first one.
    pub fn lift(&self, network: IpNet, by: By) -> bool {
        self.lift_at(network, by, unix_millis())
    }

    fn lift_at(&self, network: IpNet, by: By, now: u64) -> bool {
        let lifted = {
            let mut table = self.bans.write();
            let lifted = table.bans.remove(network);
            self.count.store(table.bans.len(), Ordering::Release);
            lifted.is_some_and(|ban| ban.until > now)
        };
        if let Some(prefix) = Prefix::of_network(network) {
            self.offenders.lock().forget(prefix);
        }
        if lifted {
            info!("event=lift address={} by={by}", network_text(&network));
        }
        lifted
    }

    /// The bans in force, the newest first.
    pub fn rows(&self) -> Vec<BanRow> {
        self.rows_at(unix_millis())
    }

    fn rows_at(&self, now: u64) -> Vec<BanRow> {
        let table = self.bans.read();
        let in_force = table.bans.iter().filter(|(_, ban)| ban.until > now);
        let mut rows: Vec<_> = in_force.map(|(network, ban)| ban.row(network)).collect();
        drop(table);
        rows.sort_by(|a, b| b.since.cmp(&a.since).then_with(|| a.address.cmp(&b.address)));
        rows
    }

    /// The number of bans, those included whose end was less than a second ago.
    pub fn count(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    /// The end of the ban that the address is in, if it is in one; `Some(None)` when that ban has no end.
    pub(super) fn end(&self, address: IpAddr) -> Option<Option<SystemTime>> {
        if self.count() == 0 {
            return None;
        }
        let end = self.end_at(address, unix_millis())?;
        Some((end != NO_END).then(|| UNIX_EPOCH + Duration::from_millis(end)))
    }

    /// The last end among the bans that the address is in.
    fn end_at(&self, address: IpAddr, now: u64) -> Option<u64> {
        self.bans.read().bans.of_address(address).map(|ban| ban.until).filter(|until| *until > now).max()
    }

    /// Counts a wrong password, which may ban the client.
    pub(super) fn note_wrong_password(&self, client: IpAddr) {
        self.note_wrong_password_at(client, unix_millis());
    }

    fn note_wrong_password_at(&self, client: IpAddr, now: u64) {
        let Some(after) = self.rules.read().after else { return };
        // Other requests of the client may be under way when it is banned.
        if self.end_at(client, now).is_some() {
            return;
        }
        let prefix = Prefix::of(client);
        let Some(until) = self.offenders.lock().note(prefix, after, now) else { return };
        let reason = format!("{after} wrong passwords within a minute").into();
        let ban = Ban { reason, by: By::Rule, since: now, until };
        let (network, added) = match self.add(prefix.network(), ban.clone(), now) {
            // A front may have an address in the same /64.
            Err(BanError::Front(_) | BanError::Loopback) => (client.into(), self.add(client.into(), ban.clone(), now)),
            added => (prefix.network(), added),
        };
        match added {
            Ok(()) => log_ban(network, &ban),
            Err(error) => {
                if let Some(count) = self.full.count() {
                    let (address, error) = (network_text(&network), Quoted(error));
                    warn!("event=ban-refused address={address} count={count} reason={error}");
                }
            }
        }
    }

    /// Checks whether the network may be banned at all.
    ///
    /// # Errors
    /// [`BanError::Loopback`] or [`BanError::Front`].
    pub fn check(&self, network: IpNet) -> Result<(), BanError> {
        let share = |one: &IpNet, other: &IpNet| one.contains(other) || other.contains(one);
        if LOOPBACK.iter().any(|loopback| share(loopback, &network)) {
            return Err(BanError::Loopback);
        }
        if let Some(front) = self.rules.read().trusted.iter().find(|front| share(front, &network)) {
            return Err(BanError::Front(network_text(front)));
        }
        Ok(())
    }

    /// Adds a ban, or replaces the one of the same network.
    fn add(&self, network: IpNet, ban: Ban, now: u64) -> Result<(), BanError> {
        if ban.reason.len() > MAX_REASON {
            return Err(BanError::Reason);
        }
        self.check(network)?;
        let mut table = self.bans.write();
        if table.bans.len() >= MAX_BANS && table.bans.get(network).is_none() {
            table.remove_ended(now);
            if table.bans.len() >= MAX_BANS {
                return Err(BanError::Full);
            }
        }
        table.next_end = table.next_end.min(ban.until);
        table.bans.insert(network, ban);
        self.count.store(table.bans.len(), Ordering::Release);
        Ok(())
    }

    /// Removes the bans that have ended.
    pub(super) fn tick(&self) {
        self.tick_at(unix_millis());
    }

    fn tick_at(&self, now: u64) {
        if self.count() > 0 {
            let mut table = self.bans.write();
            table.remove_ended(now);
            self.count.store(table.bans.len(), Ordering::Release);
        }
    }

    /// What the state file keeps.
    pub fn save(&self) -> SavedBans {
        self.save_at(unix_millis())
    }

    fn save_at(&self, now: u64) -> SavedBans {
        SavedBans { bans: self.rows_at(now), repeats: self.offenders.lock().repeats(now) }
    }

    /// Takes up what [`save`](Self::save) returned. A ban that the settings do not permit is left out with a warning.
    pub fn restore(&self, saved: SavedBans) {
        self.restore_at(saved, unix_millis());
    }

    fn restore_at(&self, saved: SavedBans, now: u64) {
        for BanRow { address, reason, by, since, until } in saved.bans {
            let until = until.map_or(NO_END, |until| until.min(MAX_END));
            if until <= now {
                continue;
            }
            let ban = Ban { reason: reason.into(), by, since, until };
            let added = config::network(&address)
                .and_then(|network| self.add(network, ban, now).map_err(|error| error.to_string()));
            if let Err(reason) = added {
                warn!("event=ban-refused address={} reason={}", Quoted(address), Quoted(reason));
            }
        }
        self.offenders.lock().restore(saved.repeats, now);
    }
}

impl BanTable {
    fn remove_ended(&mut self, now: u64) {
        if self.next_end <= now {
            self.bans.retain(|ban| ban.until > now);
            self.next_end = self.bans.iter().map(|(_, ban)| ban.until).min().unwrap_or(NO_END);
        }
    }
}

impl Ban {
    fn row(&self, network: IpNet) -> BanRow {
        BanRow {
            address: network_text(&network),
            reason: self.reason.to_string(),
            by: self.by,
            since: self.since,
            until: (self.until != NO_END).then_some(self.until),
        }
    }
}

fn log_ban(network: IpNet, ban: &Ban) {
    let until = match ban.until {
        NO_END => "never".to_owned(),
        until => httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_millis(until)),
    };
    let (address, until, reason) = (network_text(&network), Quoted(until), Quoted(&ban.reason));
    info!("event=ban address={address} until={until} reason={reason} by={}", ban.by);
}

#[cfg(test)]
mod tests;
