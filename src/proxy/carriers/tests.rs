#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::HashSet;
use std::sync::Barrier;
use std::sync::mpsc;
use std::thread::ThreadId;

use super::*;
use crate::admission::capacity::Capacity;

/// Longer than any test may take.
const FOR_EVER: Duration = Duration::from_secs(600);
const PATIENCE: Duration = Duration::from_secs(30);

fn carriers(slots: usize, idle_time: Duration) -> Arc<Carriers> {
    let capacity = Capacity { connections: slots, rule: "a test" };
    Carriers::new(&Admission::new(capacity), idle_time)
}

fn eventually(what: &str, is_true: impl Fn() -> bool) {
    let started = Instant::now();
    while !is_true() {
        assert!(started.elapsed() < PATIENCE, "not in time: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

fn idle(pool: &Carriers) -> usize {
    pool.idle.lock().len()
}

/// Runs so many jobs at the same time. Their threads.
fn run_together(pool: &Arc<Carriers>, count: usize) -> HashSet<ThreadId> {
    let (sender, receiver) = mpsc::channel();
    let all_run = Arc::new(Barrier::new(count));
    for _ in 0..count {
        let (sender, all_run) = (sender.clone(), Arc::clone(&all_run));
        pool.run(move || {
            sender.send(thread::current().id()).unwrap();
            all_run.wait();
        })
        .unwrap();
    }
    (0..count).map(|_| receiver.recv_timeout(PATIENCE).unwrap()).collect()
}

#[test]
fn the_next_jobs_run_on_the_threads_of_those_that_ended() {
    let pool = carriers(100, FOR_EVER);
    let first = run_together(&pool, 10);
    assert_eq!(first.len(), 10);
    for _ in 0..3 {
        eventually("all are idle", || idle(&pool) == 10);
        assert_eq!(run_together(&pool, 10), first);
    }
}

#[test]
fn no_more_stay_than_there_are_free_slots() {
    let pool = carriers(3, FOR_EVER);
    run_together(&pool, 10);
    // Each carrier has a weak reference.
    eventually("the others have ended", || Arc::weak_count(&pool) == 3);
    assert_eq!(idle(&pool), 3);
}

#[test]
fn idle_carriers_end_after_a_while() {
    let pool = carriers(100, Duration::from_millis(20));
    run_together(&pool, 5);
    eventually("all have ended", || Arc::weak_count(&pool) == 0);
    assert_eq!(idle(&pool), 0);
    assert_eq!(run_together(&pool, 5).len(), 5, "others can be started");
}

#[test]
fn a_job_is_done_though_its_carrier_is_about_to_end() {
    let pool = carriers(100, Duration::from_micros(50));
    let (sender, receiver) = mpsc::channel();
    for number in 0..2000 {
        let sender = sender.clone();
        pool.run(move || sender.send(number).unwrap()).unwrap();
        assert_eq!(receiver.recv_timeout(PATIENCE), Ok(number));
        thread::sleep(Duration::from_micros(number % 100));
    }
}

#[test]
fn idle_carriers_end_with_the_pool() {
    let pool = carriers(100, FOR_EVER);
    run_together(&pool, 5);
    eventually("all are idle", || idle(&pool) == 5);
    let seats: Vec<_> = pool.idle.lock().iter().map(Arc::downgrade).collect();
    drop(pool);
    eventually("all have ended", || seats.iter().all(|seat| seat.strong_count() == 0));
}

#[test]
fn a_panic_in_a_job_leaves_the_others_alone() {
    let pool = carriers(100, FOR_EVER);
    run_together(&pool, 2);
    eventually("both are idle", || idle(&pool) == 2);
    pool.run(|| panic!("the job was set to")).unwrap();
    eventually("its thread has ended", || Arc::weak_count(&pool) == 1);
    assert_eq!(idle(&pool), 1);
    assert_eq!(run_together(&pool, 2).len(), 2);
}
