//! A load that has failed on one node, tried on another one. The first answer waits meanwhile.

use std::time::{Duration, Instant};

use super::{Answer, Exchange};
use crate::http::body::Body;
use crate::nodes::load::UnderWay;
use crate::nodes::pool::Purpose;
use crate::proxy::buffers::{Buffers, HEAD_BUFFER};
use crate::proxy::load::{self, LoadRetry, Loaded};

/// The longest wait for the second answer. The bot waits for the first one.
const SECOND_LOAD: Duration = Duration::from_secs(10);

impl Exchange<'_, '_> {
    /// If the load failed, tries another node in rotation. If that fails too, or answers nothing for [`SECOND_LOAD`], the
    /// first answer is relayed: until then its unread part stays in its socket.
    pub(super) fn retry_load(&mut self, retry: &LoadRetry, first: Answer) -> Answer {
        if self.loaded(&first) != Loaded::Failed {
            return first;
        }
        let other = retry.pool.choose(Purpose::Request, &[self.backend.id()]);
        let Some(other) = other.filter(|other| other.is_in_rotation()) else { return first };
        let Ok(link) = other.fresh_link(other.connect_timeout()) else { return first };
        if link.read_until(Instant::now() + SECOND_LOAD.min(other.response_timeout())).is_err() {
            return first;
        }
        self.backend.load().count_load_retried();
        let _under_way = UnderWay::at(other.load());
        let first_head = std::mem::take(&mut self.buffers.head);
        let first_body = std::mem::take(&mut self.buffers.backend);
        let first_link = std::mem::replace(&mut self.link, link);
        let first_node = std::mem::replace(&mut self.backend, other);
        let body = self.upload.content().unwrap_or_default();
        let Buffers { head, load_head, .. } = &mut *self.buffers;
        let written = retry.write_request(head, load_head, &self.backend, &body);
        let second = written.and_then(|()| self.run());
        match second {
            Ok(second) if second.status == 200 && self.has_loaded(&second) => second,
            _ => {
                (self.link, self.backend) = (first_link, first_node);
                (self.buffers.head, self.buffers.backend) = (first_head, first_body);
                first
            }
        }
    }

    /// True when the answer to the second load may be relayed. From then on its node has the usual time.
    fn has_loaded(&mut self, second: &Answer) -> bool {
        let usual = Instant::now() + self.backend.response_timeout();
        self.loaded(second) == Loaded::Fine && self.link.read_until(usual).is_ok()
    }

    /// Reads the start of the body and returns whether the load failed. `Undecided` when the body breaks off before
    /// that is known.
    fn loaded(&mut self, answer: &Answer) -> Loaded {
        const WINDOW: usize = 512;
        if answer.status != 200 {
            return Loaded::Fine;
        }
        loop {
            let data = self.buffers.backend.data();
            let mut start = [0; WINDOW];
            let count = data.len().min(WINDOW);
            start[..count].copy_from_slice(&data[..count]);
            let body = Body::new(answer.framing, u64::MAX).map(|body| body.of_response().unchunked());
            let Ok(mut body) = body else { return Loaded::Undecided };
            let Ok(step) = body.step(&mut start[..count]) else { return Loaded::Undecided };
            match load::loaded(&start[..step.produced]) {
                Loaded::Undecided if count == WINDOW || body.is_done() => return Loaded::Fine,
                Loaded::Undecided => {}
                decided => return decided,
            }
            match self.buffers.backend.fill(&mut &self.link, HEAD_BUFFER) {
                Ok(1..) => {}
                Ok(0) if body.may_end_here() => return Loaded::Fine,
                _ => return Loaded::Undecided,
            }
        }
    }
}
