//! What a takeover works with, and what it has made.

use std::sync::Arc;
use std::time::Duration;

use super::client_side::ClientSide;
use super::kept::Kept;
use crate::nodes::pool::Pool;

/// The longest wait before it is checked whether the takeover is still wanted.
pub(super) const LOOK: Duration = Duration::from_millis(250);

/// What a takeover works with.
pub struct Context<'t> {
    /// The client's end.
    pub client: ClientSide<'t>,
    /// TAKEOVER_TIMEOUT.
    pub timeout: Duration,
    /// The nodes as they are set now.
    pub pool: &'t (dyn Fn() -> Option<Arc<Pool>> + Sync),
    /// True when the tunnel ends for another reason than its client.
    pub is_over: &'t (dyn Fn() -> bool + Sync),
    /// True when the client has ended its side or has broken the connection off.
    pub client_left: &'t (dyn Fn() -> bool + Sync),
}

impl Context<'_> {
    pub(super) fn is_over(&self, kept: &Kept) -> bool {
        kept.client_left() || (self.client_left)() || kept.is_refused() || (self.is_over)()
    }
}

/// How many players a takeover has made anew, and how many the node has refused.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Made {
    pub(super) made: usize,
    pub(super) refused: usize,
}
