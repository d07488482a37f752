//! The JSON of /api/security: who was refused, who is banned, and which limits and accounts there are.

use serde::Serialize;

use super::accounts::{self, AccountRow};
use super::{Setup, Sources};
use crate::config;
use crate::limits::{BanRow, Bans, ReasonRow, RefusedRow};
use crate::unix_time::unix_millis;

/// How many of the addresses that were refused most are listed.
const MOST_REFUSED: usize = 10;
/// The settings that limit by their value; those of numbers of connections have more to say.
const PLAIN: [&str; 6] =
    ["CONNECTION_RATE", "REQUEST_RATE", "BAN_AFTER", "ALLOWED_ADDRESSES", "BLOCKED_ADDRESSES", "TRUSTED_PROXIES"];

/// All of it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Security {
    now: u64,
    refusals: Refusals,
    /// Connections that were closed without an answer, since the start.
    dropped: u64,
    bans: Vec<BanRow>,
    limits: Vec<Limit>,
    accounts: Vec<AccountRow>,
    accounts_file: Option<String>,
    state_dir: Option<String>,
}

/// Of the last hour.
#[derive(Serialize)]
struct Refusals {
    reasons: Vec<ReasonRow>,
    addresses: Vec<AddressRow>,
}

/// An address that was refused.
#[derive(Serialize)]
struct AddressRow {
    #[serde(flatten)]
    row: RefusedRow,
    /// False for this machine and for trusted fronts, which are never banned.
    bannable: bool,
}

impl AddressRow {
    fn of(row: RefusedRow, bans: &Bans) -> Self {
        let bannable = config::network(&row.address).is_ok_and(|network| bans.check(network).is_ok());
        Self { row, bannable }
    }
}

/// What holds now, and the setting that it comes from.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Limit {
    name: &'static str,
    value: String,
    /// What it comes from where the setting does not name it.
    why: Option<&'static str>,
}

impl Security {
    /// As of now.
    pub fn of(sources: &Sources) -> Self {
        let (setup, limits) = (sources.setup(), &sources.limits);
        let addresses = limits.refusals().most_refused(MOST_REFUSED);
        let set = |name| Some(setup.setting(name).to_owned()).filter(|value| !value.is_empty());
        Self {
            now: unix_millis(),
            refusals: Refusals {
                reasons: limits.refusals().by_reason(),
                addresses: addresses.into_iter().map(|row| AddressRow::of(row, limits.bans())).collect(),
            },
            dropped: limits.dropped(),
            bans: limits.bans().rows(),
            limits: limits_of(sources, &setup),
            accounts: accounts::current(sources),
            accounts_file: set("ACCOUNTS_FILE"),
            state_dir: set("STATE_DIR"),
        }
    }
}

fn limits_of(sources: &Sources, setup: &Setup) -> Vec<Limit> {
    let capacity = sources.proxy.capacity();
    let per_address = sources.limits.connections_per_address();
    let is_share = setup.setting("MAX_CONNECTIONS_PER_ADDRESS").is_empty();
    let numbers = [
        Limit {
            name: "MAX_CONNECTIONS",
            value: capacity.connections.to_string(),
            why: Some(capacity.rule).filter(|rule| *rule != "MAX_CONNECTIONS"),
        },
        Limit {
            name: "MAX_CONNECTIONS_PER_ADDRESS",
            value: per_address.map_or_else(|| "off".to_owned(), |most| most.to_string()),
            why: is_share.then_some("an eighth of all"),
        },
    ];
    let plain = PLAIN.map(|name| {
        let value = match setup.setting(name) {
            "" if name == "ALLOWED_ADDRESSES" => "all",
            "" => "none",
            value => value,
        };
        Limit { name, value: value.replace(',', ", "), why: None }
    });
    numbers.into_iter().chain(plain).collect()
}
