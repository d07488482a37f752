//! What the load's threads and the nodes tell each other and the report: counts, what each stream came to, faults.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Condvar, Mutex};
use std::time::Instant;

use crate::wire::{PATIENCE, Tried, Trouble};

/// So many faults are kept; one is enough to fail.
const KEPT: usize = 20;

#[derive(Default)]
pub struct Findings {
    pub done: Counts,
    /// What went another way than it would in fair weather, and had to.
    pub troubles: Counts,
    wrong: Mutex<Vec<String>>,
    arrived: Mutex<HashMap<u64, u64>>,
    arrival: Condvar,
    /// How often each request came that changes something, and to which node.
    processed: Mutex<HashMap<u64, (&'static str, u64)>>,
}

#[derive(Default)]
pub struct Counts(Mutex<BTreeMap<String, u64>>);

impl Counts {
    pub fn count(&self, what: &str) {
        let mut counts = self.0.lock().unwrap();
        match counts.get_mut(what) {
            Some(count) => *count += 1,
            None => drop(counts.insert(what.to_owned(), 1)),
        }
    }

    pub fn all(&self) -> BTreeMap<String, u64> {
        self.0.lock().unwrap().clone()
    }

    pub fn sum(&self) -> u64 {
        self.0.lock().unwrap().values().sum()
    }
}

impl Findings {
    /// A fault: the run has failed.
    pub fn wrong(&self, what: String) {
        let mut wrong = self.wrong.lock().unwrap();
        if wrong.len() < KEPT {
            eprintln!("WRONG: {what}");
            wrong.push(what);
        }
    }

    pub fn all_wrong(&self) -> Vec<String> {
        self.wrong.lock().unwrap().clone()
    }

    /// A node got so many bytes of this stream, to its proper end.
    pub fn note_arrived(&self, nonce: u64, bytes: u64) {
        self.arrived.lock().unwrap().insert(nonce, bytes);
        self.arrival.notify_all();
    }

    /// Waits for a node to have got this stream to its end, and compares.
    pub fn await_arrival(&self, nonce: u64, sent: u64) -> Tried<()> {
        let deadline = Instant::now() + PATIENCE;
        let mut arrived = self.arrived.lock().unwrap();
        loop {
            match arrived.remove(&nonce) {
                Some(bytes) if bytes == sent => return Ok(()),
                Some(bytes) => return Err(Trouble::wrong(format!("{sent} bytes were sent, {bytes} arrived"))),
                None => {}
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Trouble::wrong(format!("{sent} bytes were sent, their end never arrived")));
            }
            arrived = self.arrival.wait_timeout(arrived, left).unwrap().0;
        }
    }

    /// A request that changes something came to a node, which it may so often, and never to another one.
    pub fn note_processed(&self, nonce: u64, node: &'static str, most: u64) {
        let mut processed = self.processed.lock().unwrap();
        let (first, count) = processed.entry(nonce).or_insert((node, 0));
        *count += 1;
        if *first != node || *count > most {
            self.wrong(format!("the request {nonce:x} came to {first} and {node}, {count} times"));
        }
    }
}
