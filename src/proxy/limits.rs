//! The limits of a connection and of each request on it. It asks the tables of `limits`, and keeps what a connection
//! counts for until it ends.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use super::forwarded::Trail;
use crate::admission::{Holder, Permit};
use crate::config::Lavalink;
use crate::error::Fault;
use crate::ledger::Entry;
use crate::limits::accounts::{Account, AccountHold};
use crate::limits::{Hold, Limits};

/// What a connection, or a request through a front, counts for. Given back on drop.
#[derive(Default)]
pub struct Holds {
    _address: Option<Hold>,
    account: Option<AccountHold>,
}

impl Holds {
    /// Counts one more connection of this client.
    ///
    /// # Errors
    /// 429 when it is over a limit.
    pub fn connect(limits: &Arc<Limits>, client: IpAddr) -> Result<Self, Fault> {
        Ok(Self { _address: limits.connect(client)?, account: None })
    }

    /// Counts a request through a front, whose connections carry requests of several clients. A WebSocket handshake
    /// counts as a new connection of its client.
    ///
    /// # Errors
    /// 429 when the client is over a limit.
    fn request(limits: &Arc<Limits>, client: IpAddr, is_upgrade: bool) -> Result<Self, Fault> {
        let _address = if is_upgrade { limits.connect(client)? } else { limits.hold(client)? };
        Ok(Self { _address, account: None })
    }

    /// The number of the account that they count for.
    pub fn account(&self) -> Option<u64> {
        self.account.as_ref().map(|hold| hold.account().id())
    }

    /// True when they count for this account.
    fn are_of(&self, account: &Account) -> bool {
        self.account() == Some(account.id())
    }

    /// Counts for this account from here on.
    ///
    /// # Errors
    /// 429 when the account has as many connections as it may have. Nothing has changed then.
    fn count_for(&mut self, account: &Arc<Account>) -> Result<(), Fault> {
        self.account = Some(account.hold()?);
        Ok(())
    }
}

/// Checks the client of a request. `holds` gets what a request through a front counts for.
///
/// # Errors
/// 403 when its address is banned, blocked or not allowed; 429 when it is over a limit.
pub fn check_client(
    limits: Option<&Arc<Limits>>,
    trail: &Trail,
    is_upgrade: bool,
    holds: &mut Holds,
) -> Result<(), Fault> {
    let Some(limits) = limits else { return Ok(()) };
    limits.request(trail.client.address)?;
    if trail.is_fronted {
        *holds = Holds::request(limits, trail.client.address, is_upgrade)?;
    }
    Ok(())
}

/// Counts a request for its account. `holds` are those of the connection, or those of a request through a front.
///
/// # Errors
/// 403 when the account is refused or is not for this version, 429 when it is over a limit.
pub fn count_for(
    account: &Arc<Account>,
    version: Lavalink,
    trail: &Trail,
    holds: &mut Holds,
    permit: &Permit,
    entry: &Entry,
) -> Result<(), Fault> {
    account.check(SystemTime::now, version)?;
    account.request()?;
    if holds.are_of(account) {
        return Ok(());
    }
    holds.count_for(account)?;
    entry.note_account(account.name());
    // A front's connection may carry requests of other clients next, also after a handshake that the node refuses.
    if !trail.is_fronted {
        permit.belongs_to(Holder { address: trail.client.address, account: account.id() });
    }
    Ok(())
}
