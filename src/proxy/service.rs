//! What a listener offers to its connections: rules, the format of errors, slots, the ledger, threads for tunnels.
//!
//! Rules are swapped whole on a reload. Each request follows the rules that held when its head arrived.

use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use log::{error, info};
use parking_lot::Mutex;

use super::auth::Auth;
use super::carriers::Carriers;
use super::exchange::Bounds;
use super::limits::Holds;
use crate::admission::Admission;
use crate::config::{Lavalink, Networks, PerVersion, TakeoverSettings, Timeouts};
use crate::error::{End, Fault};
use crate::ledger::{ClientAddr, Ledger};
use crate::limits::Limits;
use crate::log_limit::LogLimit;
use crate::nodes::backend::Backend;
use crate::nodes::pool::Pools;
use crate::sessions::table::Sessions;

/// The format of the errors that lavaproxy answers itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorFormat {
    /// Lavalink's error JSON.
    Lavalink,
    /// A line of text; JSON under `/api`.
    Plain,
}

/// Where requests can go.
pub enum Routes {
    /// To a node.
    Lavalink(LavalinkRoutes),
    /// To the web pages.
    Monitor {
        /// The private socket of the monitor.
        pages: Arc<Backend>,
        /// The slots of the proxy listeners; `/healthz` tells whether they are stopping.
        proxy: Arc<Admission>,
    },
}

/// What the node of a request is chosen by.
pub struct LavalinkRoutes {
    /// For requests that name no version on a connection that has used none.
    pub default: Lavalink,
    /// The nodes of each version.
    pub pools: Pools,
    /// Which node has which session.
    pub sessions: Arc<Sessions>,
    /// Path prefixes that belong to a version though they do not name one.
    pub paths: PerVersion<Vec<String>>,
    /// True when a load that failed is tried on another node.
    pub load_retry: bool,
    /// What happens to sessions whose node is lost.
    pub takeover: TakeoverSettings,
}

/// What a service decides by.
pub struct Rules {
    /// The password, and how it is sent.
    pub auth: Auth,
    /// Where requests go.
    pub routes: Routes,
    /// The fronts that may name the client of a request.
    pub trusted: Networks,
    /// True when connections from trusted fronts begin with a PROXY header.
    pub proxy_protocol: bool,
    /// The longest waits.
    pub timeouts: Timeouts,
    /// The largest request body, in bytes.
    pub max_body: u64,
}

impl Rules {
    /// True when a connection from this address must begin with a PROXY header.
    pub(super) fn expects_proxy_header(&self, peer: IpAddr) -> bool {
        self.proxy_protocol && self.trusted.contains(peer)
    }

    pub(super) fn bounds(&self) -> Bounds {
        Bounds { max_body: self.max_body, pause: self.timeouts.head, response: self.timeouts.response }
    }
}

/// What one listener offers.
pub struct Service {
    name: &'static str,
    error_format: ErrorFormat,
    rules: Mutex<Arc<Rules>>,
    admission: Arc<Admission>,
    ledger: Arc<Ledger>,
    /// `None` where addresses have no limits.
    limits: Option<Arc<Limits>>,
    carriers: Arc<Carriers>,
    pub(super) wrong_passwords: LogLimit,
}

impl Service {
    /// A service with the name of its listener.
    pub fn new(
        name: &'static str,
        rules: Rules,
        error_format: ErrorFormat,
        admission: &Arc<Admission>,
        ledger: &Arc<Ledger>,
        limits: Option<&Arc<Limits>>,
        carriers: &Arc<Carriers>,
    ) -> Arc<Self> {
        Arc::new(Self {
            name,
            error_format,
            rules: Mutex::new(Arc::new(rules)),
            admission: Arc::clone(admission),
            ledger: Arc::clone(ledger),
            limits: limits.cloned(),
            carriers: Arc::clone(carriers),
            wrong_passwords: LogLimit::default(),
        })
    }

    /// The name of the listener, in logs and in the API.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The slots for connections.
    pub fn admission(&self) -> &Arc<Admission> {
        &self.admission
    }

    /// Where the use of connections is counted.
    pub fn ledger(&self) -> &Arc<Ledger> {
        &self.ledger
    }

    /// The limits of addresses.
    pub(super) fn limits(&self) -> Option<&Arc<Limits>> {
        self.limits.as_ref()
    }

    /// The threads of its tunnels.
    pub(super) fn carriers(&self) -> &Arc<Carriers> {
        &self.carriers
    }

    /// What a connection from this peer counts for. `None` when it is to be closed without an answer.
    ///
    /// # Errors
    /// 429 when the peer is over a limit.
    pub fn screen(&self, peer: SocketAddr) -> Result<Option<Holds>, Fault> {
        let Some(limits) = &self.limits else { return Ok(Some(Holds::default())) };
        let address = peer.ip().to_canonical();
        if limits.drops(address) {
            return Ok(None);
        }
        let holds = Holds::connect(limits, address);
        if let Err(fault) = &holds {
            self.note_refusal(fault.end(), peer.into(), false);
        }
        holds.map(Some)
    }

    /// True where refusals are noted by address.
    pub(super) fn notes_refusals(&self) -> bool {
        self.limits.is_some()
    }

    /// Notes that a connection or a request of this client was refused, and logs it now and then. `has_line` is true
    /// where the connection's closing line says it.
    pub(super) fn note_refusal(&self, reason: End, client: ClientAddr, has_line: bool) {
        let Some(limits) = self.limits.as_ref().filter(|_| reason.is_refusal()) else { return };
        if let Some(count) = limits.note_refusal(reason, client.address).filter(|_| !has_line) {
            info!("event=refused listener={} client={client} reason={reason} count={count}", self.name);
        }
    }

    /// The rules in force.
    pub fn rules(&self) -> Arc<Rules> {
        Arc::clone(&self.rules.lock())
    }

    /// Replaces rules that are not in force any more.
    pub(super) fn renew(&self, rules: &mut Arc<Rules>) {
        let in_force = self.rules.lock();
        if !Arc::ptr_eq(&in_force, rules) {
            *rules = Arc::clone(&in_force);
        }
    }

    /// Changes the rules. Requests under way and tunnels go on under the old ones.
    pub fn change_rules(&self, rules: Rules) {
        *self.rules.lock() = Arc::new(rules);
    }

    pub(super) fn error_format(&self) -> ErrorFormat {
        self.error_format
    }

    /// Refuses the methods that no request may have here.
    pub(super) fn check_method(&self, method: &str) -> Result<(), Fault> {
        match method {
            // TRACE would echo the password (Lavalink has it on); CONNECT is for forward proxies.
            "TRACE" | "CONNECT" => Err(Fault::Method {
                allow: match self.error_format {
                    ErrorFormat::Lavalink => "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS",
                    ErrorFormat::Plain => "GET, HEAD, POST, DELETE",
                },
            }),
            _ => Ok(()),
        }
    }

    /// Runs a task for one client. A panic ends that client's connection alone.
    pub fn contain(&self, client: &impl Display, task: impl FnOnce()) {
        if catch_unwind(AssertUnwindSafe(task)).is_err() {
            let listener = self.name;
            error!("event=panic listener={listener} client={client} hint=\"a defect in lavaproxy; please report it\"");
        }
    }
}
