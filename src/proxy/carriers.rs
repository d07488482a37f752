//! The threads that carry tunnels. A tunnel that ends leaves its two for the next one, so that bots that all connect again
//! at once wait for no thread to start.
//!
//! A carrier that stays keeps the pages of its stack that it has ever touched; a takeover touches the most. Idle carriers
//! end after a while, or at once when the pool is dropped. The pool knows nothing of what they carry.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Weak};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::admission::Admission;

/// The stack of a carrier: the copy's buffer, a few frames, and what the search for another node needs. Only what is used
/// of it takes memory.
const STACK: usize = 192 * 1024;
/// How long an idle carrier stays.
pub const IDLE_TIME: Duration = Duration::from_secs(30);

type Job = Box<dyn FnOnce() + Send>;

/// The idle carriers.
pub struct Carriers {
    /// The one that has been idle for the longest time comes first. The last one is taken first: its stack is in the caches.
    idle: Mutex<VecDeque<Arc<Seat>>>,
    idle_time: Duration,
    admission: Arc<Admission>,
}

/// Where an idle carrier waits for its next job.
struct Seat {
    job: Mutex<Option<Job>>,
    thread: Thread,
}

impl Seat {
    fn give(&self, job: Job) {
        *self.job.lock() = Some(job);
        self.thread.unpark();
    }

    /// The job, unless there is none for so long.
    fn wait(&self, time: Duration) -> Option<Job> {
        let begun = Instant::now();
        loop {
            let job = self.job.lock().take();
            let left = time.saturating_sub(begun.elapsed());
            if job.is_some() || left.is_zero() {
                return job;
            }
            thread::park_timeout(left);
        }
    }
}

impl Carriers {
    /// No carriers yet. `admission` counts the slots, whose number bounds that of the idle carriers.
    pub fn new(admission: &Arc<Admission>, idle_time: Duration) -> Arc<Self> {
        Arc::new(Self { idle: Mutex::default(), idle_time, admission: Arc::clone(admission) })
    }

    /// Gives the job to an idle carrier, or to a new one. The job must contain its panics: one that gets out ends the
    /// thread.
    ///
    /// # Errors
    /// When none is idle and no thread can be started. The job is dropped then.
    pub fn run(self: &Arc<Self>, job: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let idle = self.idle.lock().pop_back();
        if let Some(seat) = idle {
            seat.give(Box::new(job));
            return Ok(());
        }
        let pool = Arc::downgrade(self);
        // Without a name: that would take three allocations, behind a lock that all threads share, and a system call.
        let thread = thread::Builder::new().stack_size(STACK);
        thread.spawn(move || work(job, &pool)).map(drop)
    }

    /// Lets a carrier without a job stay, for a time that this returns. No more stay than there are free slots, so that
    /// there are never more than two threads for each slot: two for a tunnel, a worker for any other connection.
    fn keep(&self, seat: &Arc<Seat>) -> Option<Duration> {
        let mut idle = self.idle.lock();
        (idle.len() < self.admission.free()).then(|| {
            idle.push_back(Arc::clone(seat));
            self.idle_time
        })
    }

    /// True when a carrier may end: it is idle, and gets no job from now on.
    fn let_go(&self, seat: &Arc<Seat>) -> bool {
        let mut idle = self.idle.lock();
        let at = idle.iter().position(|other| Arc::ptr_eq(other, seat));
        at.and_then(|at| idle.remove(at)).is_some()
    }
}

impl Drop for Carriers {
    /// Wakes the idle carriers. They find no pool and end.
    fn drop(&mut self) {
        self.idle.get_mut().drain(..).for_each(|seat| seat.give(Box::new(|| ())));
    }
}

/// A carrier's life.
fn work(first: impl FnOnce(), pool: &Weak<Carriers>) {
    first();
    let seat = Arc::new(Seat { job: Mutex::new(None), thread: thread::current() });
    while let Some(job) = next(&seat, pool) {
        job();
    }
}

/// The next job. `None` when the carrier is to end.
fn next(seat: &Arc<Seat>, pool: &Weak<Carriers>) -> Option<Job> {
    let idle_time = pool.upgrade()?.keep(seat)?;
    let job = seat.wait(idle_time);
    if job.is_some() || pool.upgrade().is_some_and(|pool| pool.let_go(seat)) {
        return job;
    }
    // It was taken just now, or the pool is being dropped. Both are about to give it a job.
    seat.wait(Duration::MAX)
}

#[cfg(test)]
mod tests;
