//! A connection that has become a tunnel: what its two carriers share, and what the last of them does at the end.
//!
//! Each carrier copies one direction. The one whose direction ends first is free for another tunnel.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use parking_lot::Mutex;
use socket2::Socket;

use super::admitted::Admitted;
use super::buffers::Buffers;
use super::ending::{Ending, Wake};
use super::service::Service;
use super::takeover::{self, Followed, Sent};
use super::tunnel::{self, Switch};
use super::{closing_line, refuse};
use crate::admission::{GOING_AWAY, SERVICE_RESTART};
use crate::error::{End, Fault};
use crate::nodes::load::Session;
use crate::sessions::client_side::ClientSide;
use crate::sessions::from_node::FromNode;
use crate::sessions::kept::Kept;
use crate::sessions::to_node::ToNode;
use crate::sessions::watch::Watch;

/// What both carriers share. On drop the session leaves its node first, and the slot is freed last.
pub struct Upgraded {
    session: Mutex<Session>,
    ending: Ending,
    admitted: Arc<Admitted>,
    service: Arc<Service>,
}

impl Upgraded {
    /// A tunnel to this backend.
    pub fn new(service: &Arc<Service>, admitted: &Arc<Admitted>, backend: &Arc<Socket>, session: Session) -> Arc<Self> {
        Arc::new(Self {
            session: Mutex::new(session),
            ending: Ending::new(admitted, backend),
            admitted: Arc::clone(admitted),
            service: Arc::clone(service),
        })
    }

    /// Lets two carriers copy one direction each. The worker starts the first one, which starts the second one and only then
    /// sends the 101: without a thread for each direction the client gets a 503.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn carry(self: Arc<Self>, backend: Arc<Socket>, switch: Switch, followed: Followed) -> io::Result<()> {
        let Switch { answer, from_backend, from_client } = switch;
        let Followed { watch, sent } = followed;
        // On the heap: on a carrier's stack they would cost another page for as long as the tunnel stands.
        let (mut watch, mut sent) = (Box::new(watch), Box::new(sent));
        let (other, socket) = (Arc::clone(&self), Arc::clone(&backend));
        let copy_to_node = move || {
            other.contain(|| other.copy_to_node(&socket, &from_client, &mut sent));
            drop((sent, socket));
            other.leave();
        };
        let carriers = Arc::clone(self.service.carriers());
        carriers.run(move || {
            if self.service.carriers().run(copy_to_node).is_err() {
                return self.contain(|| self.refuse());
            }
            self.contain(|| self.copy_to_client(&backend, &answer, &from_backend, &mut watch));
            drop((watch, backend));
            self.leave();
        })
    }

    fn contain(&self, task: impl FnOnce()) {
        self.service.contain(&self.admitted.entry.client(), || {
            let _wake_the_other = Wake(&self.ending);
            task();
        });
    }

    fn client(&self) -> ClientSide<'_> {
        ClientSide { stream: &self.admitted.stream, meter: self.admitted.entry.meter() }
    }

    fn copy_to_client(&self, backend: &Arc<Socket>, answer: &[u8], first: &[u8], watch: &mut Watch) {
        let Self { service, admitted, session, ending, .. } = self;
        let take_over =
            |kept: &Arc<Kept>, watch: &mut Watch| takeover::take_over(service, admitted, session, ending, kept, watch);
        let from_node = FromNode::new(watch, backend, first, &take_over);
        tunnel::to_client(ending, self.client(), answer, from_node);
    }

    fn copy_to_node(&self, backend: &Arc<Socket>, first: &[u8], sent: &mut Sent) {
        let to_node = ToNode::new(backend, &mut sent.keys, sent.kept.as_ref(), self.client());
        tunnel::to_backend(&self.ending, self.client(), first, to_node);
    }

    /// A carrier has done its part. The last one closes the tunnel.
    fn leave(self: Arc<Self>) {
        if let Some(tunnel) = Arc::into_inner(self) {
            tunnel.contain(|| tunnel.close());
        }
    }

    /// Answers in place of the node: there is no thread for one direction.
    #[cold]
    #[inline(never)]
    fn refuse(&self) {
        let Admitted { stream, entry, .. } = &*self.admitted;
        refuse::connection(&self.service, stream, entry, &Fault::NoThread, false, &mut Buffers::default());
    }

    /// Writes the closing line and closes the ledger row. It is a function of its own so that what it needs takes no
    /// stack while the tunnel stands.
    #[inline(never)]
    fn close(&self) {
        let end = match (self.ending.settle(), self.admitted.permit.close_code().load(SeqCst)) {
            (_, GOING_AWAY) => End::Shutdown,
            (_, SERVICE_RESTART) => End::BackendTimeout,
            (end, _) => end,
        };
        closing_line::close(&self.service, &self.admitted, end, Some(""));
    }
}
