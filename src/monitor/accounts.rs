//! The JSON of /api/accounts: what each account may use, and what it has used. No password is in it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use serde::Serialize;

use super::Sources;
use crate::config::{self, Lavalink};
use crate::error::AccountFault;
use crate::ledger::Used;
use crate::unix_time::millis_of;

/// An account, or what the ledger has of one that is gone.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AccountRow {
    account: Arc<str>,
    state: &'static str,
    versions: Vec<&'static str>,
    limits: Limits,
    /// In milliseconds since the epoch.
    expires: Option<u64>,
    enabled: bool,
    /// Its `lastSeen` is 0 where nothing was used.
    #[serde(flatten)]
    used: Used,
}

/// `null` where there is no limit.
#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Limits {
    connections: Option<usize>,
    requests_per_second: Option<u32>,
}

/// The accounts of the settings in their order, then those that only the ledger has.
pub fn rows(sources: &Sources) -> Vec<AccountRow> {
    let mut used = used(sources);
    let mut rows = of_settings(sources, &mut used);
    let mut gone: Vec<_> = used.into_iter().map(|(account, used)| AccountRow::gone(account, used)).collect();
    gone.sort_by(|one, other| one.account.cmp(&other.account));
    rows.append(&mut gone);
    rows
}

/// The accounts of the settings in their order.
pub fn current(sources: &Sources) -> Vec<AccountRow> {
    of_settings(sources, &mut used(sources))
}

fn used(sources: &Sources) -> HashMap<Arc<str>, Used> {
    sources.ledger.accounts().into_iter().map(|row| (row.account, row.used)).collect()
}

/// Takes what they used out of `used`.
fn of_settings(sources: &Sources, used: &mut HashMap<Arc<str>, Used>) -> Vec<AccountRow> {
    let now = SystemTime::now();
    let setup = sources.setup();
    let row = |account: &Arc<crate::limits::accounts::Account>| {
        let state = match account.refusal(|| now) {
            None => "active",
            Some(AccountFault::Disabled) => "disabled",
            Some(_) => "expired",
        };
        AccountRow::of(account.settings(), state, used.remove(account.name()).unwrap_or_default())
    };
    setup.accounts.all().iter().map(row).collect()
}

impl AccountRow {
    /// The account's name.
    pub fn name(&self) -> &str {
        &self.account
    }

    /// `active`, `expired`, `disabled`, or `removed` when it is no longer in the accounts file.
    pub fn state(&self) -> &'static str {
        self.state
    }

    /// What it has used.
    pub fn used(&self) -> &Used {
        &self.used
    }

    fn of(settings: &config::Account, state: &'static str, used: Used) -> Self {
        let versions = Lavalink::ALL.into_iter().filter(|version| *settings.versions.get(*version));
        Self {
            account: Arc::clone(&settings.name),
            state,
            versions: versions.map(Lavalink::name).collect(),
            limits: Limits { connections: settings.connections, requests_per_second: settings.requests_per_second },
            expires: settings.expires.map(millis_of),
            enabled: settings.enabled,
            used,
        }
    }

    fn gone(account: Arc<str>, used: Used) -> Self {
        let (versions, limits) = (Vec::new(), Limits::default());
        Self { account, state: "removed", versions, limits, expires: None, enabled: false, used }
    }
}
