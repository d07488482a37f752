//! What a client gets from its node, as the thread that writes to the client reads it: the node's bytes, which are
//! watched. When the node is lost, or the session is to move, the read goes on at the next node.

use std::io::{self, ErrorKind, Read};
use std::sync::Arc;

use socket2::Socket;

use super::kept::Kept;
use super::node_frames::Passed;
use super::watch::Watch;

/// Brings the session to another node, and returns the socket to the node that has it then.
pub type TakeOver<'t> = &'t (dyn Fn(&Arc<Kept>, &mut Watch) -> Option<Arc<Socket>> + Sync);

/// Where the client's bytes come from.
pub struct FromNode<'t> {
    watch: &'t mut Watch,
    socket: Arc<Socket>,
    take_over: TakeOver<'t>,
    /// What the client gets before anything else is read.
    pending: Vec<u8>,
    has_ended: bool,
}

impl<'t> FromNode<'t> {
    /// From the first node, which has sent `first` already.
    pub fn new(watch: &'t mut Watch, socket: &Arc<Socket>, first: &[u8], take_over: TakeOver<'t>) -> Self {
        let pending = watch.pass(first).of(first).to_vec();
        Self { watch, socket: Arc::clone(socket), take_over, pending, has_ended: false }
    }

    /// True when another node has the session now.
    #[cold]
    fn changes_node(&mut self) -> bool {
        let Some(kept) = self.watch.session_to_take_over() else { return false };
        let Some(socket) = (self.take_over)(&kept, self.watch) else { return false };
        self.socket = socket;
        true
    }

    fn take_pending(&mut self, buffer: &mut [u8]) -> usize {
        let count = self.pending.len().min(buffer.len());
        buffer[..count].copy_from_slice(&self.pending[..count]);
        match count == self.pending.len() {
            true => self.pending = Vec::new(),
            false => drop(self.pending.drain(..count)),
        }
        count
    }
}

impl Read for FromNode<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if !self.pending.is_empty() {
                return Ok(self.take_pending(buffer));
            }
            if self.has_ended {
                return Ok(0);
            }
            // The client has all that came before.
            if self.watch.is_due() {
                self.changes_node();
            }
            let count = match (&*self.socket).read(buffer) {
                Ok(count @ 1..) => count,
                Err(error) if error.kind() == ErrorKind::Interrupted => return Err(error),
                _ if self.changes_node() => continue,
                Ok(_) => {
                    self.has_ended = true;
                    self.pending = self.watch.finish().to_vec();
                    continue;
                }
                Err(error) => return Err(error),
            };
            match self.watch.pass(&buffer[..count]) {
                Passed::First(0) | Passed::Others([]) => {}
                Passed::First(count) => return Ok(count),
                Passed::Others(others) => {
                    let count = others.len().min(buffer.len());
                    buffer[..count].copy_from_slice(&others[..count]);
                    self.pending.extend_from_slice(&others[count..]);
                    return Ok(count);
                }
            }
        }
    }
}
