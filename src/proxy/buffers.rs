//! The buffers of a worker, which it uses for one connection after the other.

use crate::http::buffer::Buffer;
use crate::http::head;

/// The size that a buffer keeps after a large body.
pub const HEAD_BUFFER: usize = head::MAX_READ_HEAD;

/// The buffers of one worker.
#[derive(Default)]
pub struct Buffers {
    /// Bytes from the client.
    pub client: Buffer,
    /// Bytes from the backend.
    pub backend: Buffer,
    /// The head of a load as it came, for another node.
    pub load_head: Vec<u8>,
    /// The head that is sent next, with the part of the body that is sent in the same write.
    pub head: Vec<u8>,
}

impl Buffers {
    /// Drops the bytes of the last connection.
    pub fn clear(&mut self) {
        self.client.clear();
        self.backend.clear();
        self.load_head.clear();
        self.head.clear();
        self.shrink();
    }

    /// True when a large body has made a buffer grow.
    pub fn are_large(&self) -> bool {
        self.client.capacity().max(self.backend.capacity()) > HEAD_BUFFER
    }

    /// Frees the memory that a large body took.
    pub fn shrink(&mut self) {
        self.client.shrink(HEAD_BUFFER);
        self.backend.shrink(HEAD_BUFFER);
    }
}
