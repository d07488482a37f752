//! Accounts: which one a password belongs to, what it may do, and what it uses now.
//!
//! Each reload makes new [`Accounts`]. What an account uses now is kept over it.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant, SystemTime};

use parking_lot::Mutex;
use subtle::ConstantTimeEq;

use super::rates::take_one;
use crate::config::{self, DEFAULT_ACCOUNT, Lavalink, PerVersion, Rate, Secret};
use crate::error::{AccountFault, Fault, Limit};

/// The id of the account of `PROXY_PASSWORD`.
const DEFAULT_ID: u64 = 0;
/// After a pause, an account may send the requests of so many seconds at once.
const BURST: u32 = 4;
const SECOND: Duration = Duration::from_secs(1);
/// A client whose account has too many connections may try again after this time, in seconds.
const RETRY_CONNECTION: u64 = 5;

/// All accounts.
pub struct Accounts {
    /// The account of `PROXY_PASSWORD` first, then those of the file in its order.
    all: Vec<Arc<Account>>,
    by_id: HashMap<u64, Arc<Account>>,
    /// In the order of a hash of the password under a key of this process, so that the time of a lookup tells nothing
    /// about the passwords. Two passwords can have the same hash.
    by_hash: Vec<(u64, Arc<Account>)>,
    hash: RandomState,
    next_id: u64,
}

impl Accounts {
    /// The account of `PROXY_PASSWORD`, whose password is `default`, and those of the file. An account that `before`
    /// has under the same name with the same password keeps its id and what it uses.
    pub fn new(default: &Secret, accounts: &[config::Account], before: Option<&Self>) -> Arc<Self> {
        let known: HashMap<&str, &Arc<Account>> =
            before.iter().flat_map(|before| before.all()).map(|account| (&**account.name(), account)).collect();
        let mut next_id = before.map_or(DEFAULT_ID + 1, |before| before.next_id);
        let usage = known.get(DEFAULT_ACCOUNT).map(|account| Arc::clone(&account.usage)).unwrap_or_default();
        let settings = without_limits(DEFAULT_ACCOUNT, default);
        let mut all = vec![Arc::new(Account { id: DEFAULT_ID, settings, usage })];
        for settings in accounts {
            let same = known.get(&*settings.name).filter(|account| account.settings.password == settings.password);
            let (id, usage) = match same {
                Some(account) => (account.id, Arc::clone(&account.usage)),
                None => (next_id, Arc::default()),
            };
            next_id = next_id.max(id + 1);
            all.push(Arc::new(Account { id, settings: settings.clone(), usage }));
        }
        let by_id = all.iter().map(|account| (account.id, Arc::clone(account))).collect();
        let hash = RandomState::new();
        let mut by_hash: Vec<_> =
            all.iter().map(|account| (hash.hash_one(account.password()), Arc::clone(account))).collect();
        by_hash.sort_by_key(|(hash, _)| *hash);
        Arc::new(Self { all, by_id, by_hash, hash, next_id })
    }

    /// The account with this password. The time that this takes depends on the length of what was sent and hardly on
    /// the number of accounts. It tells nothing about the passwords.
    pub fn find(&self, sent: &[u8]) -> Option<&Arc<Account>> {
        let sent_hash = self.hash.hash_one(sent);
        let from = self.by_hash.partition_point(|(hash, _)| *hash < sent_hash);
        let same_hash = self.by_hash[from..].iter().take_while(|(hash, _)| *hash == sent_hash);
        same_hash.map(|(_, account)| account).find(|account| account.password().ct_eq(sent).into())
    }

    /// True while the connections of the account with this id may go on: it is there under the same name and with the
    /// same password, enabled and not expired. Those of `default` may go on after a change of `PROXY_PASSWORD`, too.
    pub fn is_valid(&self, id: u64, now: SystemTime) -> bool {
        self.by_id.get(&id).is_some_and(|account| account.refusal(|| now).is_none())
    }

    /// Every account, `default` first.
    pub fn all(&self) -> &[Arc<Account>] {
        &self.all
    }
}

impl fmt::Debug for Accounts {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_list().entries(self.all.iter().map(|account| account.name())).finish()
    }
}

fn without_limits(name: &str, password: &Secret) -> config::Account {
    config::Account {
        name: name.into(),
        password: password.clone(),
        versions: PerVersion { v3: true, v4: true },
        connections: None,
        requests_per_second: None,
        expires: None,
        enabled: true,
    }
}

/// A password, what it allows, and what is in use.
#[derive(Debug)]
pub struct Account {
    id: u64,
    settings: config::Account,
    /// Shared with the same account before and after a reload.
    usage: Arc<Usage>,
}

#[derive(Debug)]
struct Usage {
    connections: AtomicUsize,
    start: Instant,
    /// Nanoseconds after `start` at which the whole burst of requests is free again.
    free: Mutex<u64>,
}

impl Default for Usage {
    fn default() -> Self {
        Self { connections: AtomicUsize::new(0), start: Instant::now(), free: Mutex::new(0) }
    }
}

impl Account {
    /// Another password has another id, though the account has the same name.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Its name.
    pub fn name(&self) -> &Arc<str> {
        &self.settings.name
    }

    /// What it allows, as the accounts file has it.
    pub fn settings(&self) -> &config::Account {
        &self.settings
    }

    /// The number of its open connections.
    pub fn connections(&self) -> usize {
        self.usage.connections.load(Relaxed)
    }

    /// Why no client may use it at this time, which is read only if the account can expire.
    pub fn refusal(&self, now: impl FnOnce() -> SystemTime) -> Option<AccountFault> {
        match self.settings.expires {
            _ if !self.settings.enabled => Some(AccountFault::Disabled),
            Some(end) if now() >= end => Some(AccountFault::Expired),
            _ => None,
        }
    }

    /// Checks whether a request of this version may use it now.
    ///
    /// # Errors
    /// When it is disabled, has expired, or is not for this version.
    pub fn check(&self, now: impl FnOnce() -> SystemTime, version: Lavalink) -> Result<(), Fault> {
        let wrong_version = || (!self.settings.versions.get(version)).then_some(AccountFault::Version(version));
        self.refusal(now).or_else(wrong_version).map_or(Ok(()), |fault| Err(Fault::Account(fault)))
    }

    /// Counts one more request.
    ///
    /// # Errors
    /// When it is over the rate of the account; it is not counted then.
    pub fn request(&self) -> Result<(), Fault> {
        self.request_at(Instant::now)
    }

    fn request_at(&self, now: impl FnOnce() -> Instant) -> Result<(), Fault> {
        let Some(count) = self.settings.requests_per_second else { return Ok(()) };
        let rate = Rate { count, period: SECOND, burst: count.saturating_mul(BURST) };
        let now = now().saturating_duration_since(self.usage.start);
        let fault = |retry_after| Fault::OverLimit { limit: Limit::AccountRequests(count), retry_after };
        take_one(&mut self.usage.free.lock(), rate, now).map_err(fault)
    }

    /// Counts one more connection until the hold is dropped.
    ///
    /// # Errors
    /// When the account has as many as it may have.
    pub fn hold(self: &Arc<Self>) -> Result<AccountHold, Fault> {
        let limit = self.settings.connections.unwrap_or(usize::MAX);
        let one_more = |open: usize| (open < limit).then_some(open + 1);
        match self.usage.connections.fetch_update(Relaxed, Relaxed, one_more) {
            Ok(_) => Ok(AccountHold(Arc::clone(self))),
            Err(_) => Err(Fault::OverLimit { limit: Limit::AccountConnections(limit), retry_after: RETRY_CONNECTION }),
        }
    }

    fn password(&self) -> &[u8] {
        self.settings.password.expose().as_bytes()
    }
}

/// One open connection of an account. It is counted until it is dropped.
#[derive(Debug)]
pub struct AccountHold(Arc<Account>);

impl AccountHold {
    /// The account as it was when the connection was counted.
    pub fn account(&self) -> &Arc<Account> {
        &self.0
    }
}

impl Drop for AccountHold {
    fn drop(&mut self) {
        self.0.usage.connections.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests;
