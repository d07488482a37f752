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
    /// True when a successor gets the requests about the session: what its players do is not known here.
    pub has_successor: bool,
    /// The nodes as they are set now.
    pub pool: &'t (dyn Fn() -> Option<Arc<Pool>> + Sync),
    /// True when the tunnel ends for another reason than its client.
    pub is_over: &'t (dyn Fn() -> bool + Sync),
    /// True when the client has ended its side or has broken the connection off.
    pub client_left: &'t (dyn Fn() -> bool + Sync),
    /// True for a move, which ends when the client leaves or the node takes no player. The takeover of a session that can be
    /// resumed goes on then.
    pub is_move: bool,
    /// Gives back what such a client has taken. It may be called more than once.
    pub let_client_go: &'t (dyn Fn() + Sync),
}

impl Context<'_> {
    /// True when it is not wanted any more. A client that has left is let go at once.
    pub(super) fn is_over(&self, kept: &Kept) -> bool {
        if (self.client_left)() {
            kept.seat().note_client_left();
        }
        if kept.is_refused() || (self.is_over)() {
            return true;
        }
        if kept.client_left() && !self.is_move && kept.can_be_resumed() {
            kept.answer_pings(self.client);
            self.client.close();
            (self.let_client_go)();
            return false;
        }
        kept.client_left()
    }
}

/// How many players a takeover has made anew, and how many the node has refused.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Made {
    pub(super) made: usize,
    pub(super) refused: usize,
}
