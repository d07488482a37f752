//! A worker's memory, used for one connection after the other.

use crate::http::buffer::Buffer;
use crate::http::head;

/// What a buffer is trimmed to when no more large bodies come.
pub const HEAD_BUFFER: usize = head::MAX_READ_HEAD;

/// The buffers of one worker.
#[derive(Default)]
pub struct Buffers {
    /// What came from the client.
    pub client: Buffer,
    /// What came from the backend.
    pub backend: Buffer,
    /// The head on its way out, with what of the body goes in the same write.
    pub head: Vec<u8>,
}

impl Buffers {
    /// Forgets the last connection's bytes.
    pub fn clear(&mut self) {
        self.client.clear();
        self.backend.clear();
        self.head.clear();
        self.shrink();
    }

    /// True after a large body.
    pub fn are_large(&self) -> bool {
        self.client.capacity().max(self.backend.capacity()) > HEAD_BUFFER
    }

    /// Gives back what a large body took.
    pub fn shrink(&mut self) {
        self.client.shrink(HEAD_BUFFER);
        self.backend.shrink(HEAD_BUFFER);
    }
}
