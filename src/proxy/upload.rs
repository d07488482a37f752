//! A request body on its way to a node. It touches the client's buffer and no socket.

use crate::error::Fault;
use crate::http::body::{Body, Framing};
use crate::http::buffer::Buffer;

/// The largest body of a load, or of a change of a session, of which a copy is of use, in bytes.
pub const MAX_COPY: u64 = 2048;

/// A request body on its way: a window of the client's buffer was produced, part of it was sent.
pub struct Upload {
    body: Body,
    /// Bytes at the start of the client's buffer that are to be sent.
    pub produced: usize,
    /// Of these, how many were sent.
    pub sent: usize,
    consumed: usize,
    framing: Framing,
    /// A copy of a small body that is looked at once it was answered, with its chunk lines; `None` when it is too large.
    copy: Option<Vec<u8>>,
    max_copy: u64,
}

impl Upload {
    /// A body with this framing. Of no more than `max_copy` bytes of it a copy is kept; 0 keeps none.
    ///
    /// # Errors
    /// 413 when it is declared larger than `limit`.
    pub fn new(framing: Framing, limit: u64, max_copy: u64) -> Result<Self, Fault> {
        let body = Body::new(framing, limit).map_err(|error| Fault::Body(error, limit))?;
        Ok(Self { body, produced: 0, sent: 0, consumed: 0, framing, copy: (max_copy > 0).then(Vec::new), max_copy })
    }

    /// Takes what of the body is in the client's buffer; `limit` is for the error.
    pub fn take_window(&mut self, buffer: &mut Buffer, limit: u64) -> Result<(), Fault> {
        let step = self.body.step(buffer.data_mut()).map_err(|error| Fault::Body(error, limit))?;
        (self.produced, self.sent, self.consumed) = (step.produced, 0, step.consumed);
        if self.copy.as_ref().is_some_and(|copy| (copy.len() + step.produced) as u64 > self.max_copy) {
            self.copy = None;
        }
        if let Some(copy) = &mut self.copy {
            copy.extend_from_slice(&buffer.data()[..step.produced]);
        }
        Ok(())
    }

    /// The content of the body, if a copy of all of it was kept.
    pub fn content(&self) -> Option<Vec<u8>> {
        let mut content = self.copy.clone()?;
        let step = Body::new(self.framing, u64::MAX).ok()?.unchunked().step(&mut content).ok()?;
        content.truncate(step.produced);
        Some(content)
    }

    /// Forgets what was sent.
    pub fn discard_window(&mut self, buffer: &mut Buffer) {
        buffer.consume(self.consumed);
        (self.produced, self.sent, self.consumed) = (0, 0, 0);
    }

    /// True when the whole body was sent.
    pub fn is_complete(&self) -> bool {
        self.body.is_done() && self.sent == self.produced
    }
}
