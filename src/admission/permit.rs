//! A connection's hold on its slot, as the connection uses it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering::SeqCst};
use std::time::{Duration, Instant};

use socket2::Socket;

use super::Admission;
use super::slot::{Holder, Phase, Slot, Tunnel};

/// A slot, given back on drop.
pub struct Permit {
    pub(super) admission: Arc<Admission>,
    pub(super) key: u64,
    pub(super) slot: Arc<Slot>,
}

impl Permit {
    /// Notes the phase that the connection enters. False when lavaproxy is stopping and an idle connection should end.
    pub fn enter(&self, phase: Phase) -> bool {
        self.slot.phase.store(phase as u8, SeqCst);
        self.note_phase()
    }

    /// Notes the start of a request. False when a stop has ended the connection already: the request gets no answer.
    pub fn begin_request(&self) -> bool {
        let is_over = self.slot.phase.swap(Phase::Busy as u8, SeqCst) == Phase::Lingering as u8;
        self.note_phase();
        !is_over
    }

    fn note_phase(&self) -> bool {
        if self.admission.evicts {
            self.slot.since.store(self.admission.millis(), SeqCst);
        }
        let stopping = self.admission.is_stopping();
        if stopping {
            // With the lock taken, the waiter has either seen the new phase or waits for the notification.
            drop(self.admission.table.lock());
            self.admission.left.notify_all();
        }
        !stopping
    }

    /// True when a new client waits for a slot: this connection should end after its answer.
    pub fn is_wanted(&self) -> bool {
        self.admission.evicts && !self.admission.table.lock().queue.is_empty()
    }

    /// The close code if lavaproxy ends this tunnel; 0 until then.
    pub fn close_code(&self) -> &AtomicU16 {
        &self.slot.close_code
    }

    /// True when this connection may not serve a further request.
    pub fn is_last_call(&self) -> bool {
        self.admission.is_stopping()
    }

    /// True when this slot was given to another connection.
    pub fn is_evicted(&self) -> bool {
        self.slot.is_evicted()
    }

    /// True once the connection was ended because its holder may not go on.
    pub fn is_kicked(&self) -> bool {
        self.slot.is_kicked()
    }

    /// Notes whom the connection belongs to.
    pub fn belongs_to(&self, holder: Holder) {
        *self.slot.holder.lock() = Some(holder);
    }

    /// Waits for `time`, or until the connection is evicted or lavaproxy stops.
    pub fn pause(&self, time: Duration) {
        let deadline = Instant::now() + time;
        let mut table = self.admission.table.lock();
        while !self.is_evicted() && !self.admission.is_stopping() {
            if self.admission.left.wait_until(&mut table, deadline).timed_out() {
                return;
            }
        }
    }

    /// Notes the backend side of a tunnel, so that a stop can end it.
    pub fn attach(&self, backend: Arc<Socket>, node: u64) {
        *self.slot.tunnel.lock() = Some(Tunnel { backend, node });
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut table = self.admission.table.lock();
        table.slots.remove(&self.key);
        // Checked under the lock: the slot of an evicted connection belongs to another connection already.
        if !self.is_evicted() {
            self.admission.taken.fetch_sub(1, SeqCst);
        }
        drop(table);
        self.admission.left.notify_all();
    }
}

/// Permission to linger for one refused client, given back on drop.
pub struct LingerPermit<'a>(pub(super) &'a Admission);

impl Drop for LingerPermit<'_> {
    fn drop(&mut self) {
        self.0.lingering.fetch_sub(1, SeqCst);
    }
}
