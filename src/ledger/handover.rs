//! How figures outlive their process: they are saved and restored, and a process that is replaced hands them over.
//!
//! A predecessor hands all its figures over, and from then on reports what came after that, again and again while its
//! last connections end. The successor adds what is new in each report, so that both together count everything once.
//!
//! What was reported cannot be taken back. So the bytes that a live connection has used up to a report stay with its
//! client, bot and account of that moment, even if they turn out to be the start of another client's request.

use std::mem;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::rate::Window;
use super::saved::{Counters, Saved};
use super::tally::Versions;
use super::{Ledger, State};
use crate::error::End;
use crate::unix_time::unix_millis;

impl Ledger {
    /// All figures so far, those of live connections included.
    pub fn save(&self) -> Saved {
        let mut state = self.state.lock();
        let versions = state.count_open(|_, _, _| ());
        state.figures(versions, self.refused_here())
    }

    /// Adds saved figures. To be called before the first connection: all rates are zero afterwards.
    pub fn restore(&self, saved: Saved) {
        let mut state = self.state.lock();
        // Also where the clock of this process is still behind.
        if saved.since > 0 {
            state.since = saved.since;
        }
        state.add(saved);
        state.level_rates();
    }

    /// All figures so far, for a successor. From here on [`Ledger::remainder`] is what came after them.
    pub fn hand_over(&self) -> Saved {
        let mut state = self.state.lock();
        state.close_open();
        let figures = state.figures(state.versions, self.refused_here());
        state.handed_over = figures.counters.clone();
        state.addresses.hand_over();
        state.bots.hand_over();
        state.accounts.hand_over();
        state.nodes.hand_over();
        figures
    }

    /// What came after [`Ledger::hand_over`]; rows without a difference are left out. For a successor: figures of
    /// one call are in all later ones.
    pub fn remainder(&self) -> Saved {
        let mut state = self.state.lock();
        state.close_open();
        let (now, versions) = (unix_millis(), state.versions);
        Saved {
            since: state.since,
            counters: state.counters(versions, self.refused_here()).less(&state.handed_over),
            addresses: state.addresses.remainder(now),
            bots: state.bots.remainder(now),
            accounts: state.accounts.remainder(now),
            nodes: state.nodes.remainder(now),
        }
    }

    /// Counts what a predecessor reports as its remainder instead of what it reported before.
    pub fn set_predecessor(&self, remainder: Saved) {
        let mut reported = self.predecessor.lock();
        let new = remainder.beyond(&reported);
        self.state.lock().add(new);
        *reported = remainder;
    }

    /// The predecessor is gone: what it reported last stays counted for good.
    pub fn keep_predecessor(&self) {
        mem::take(&mut *self.predecessor.lock());
    }

    /// Refusals of this process, in the order of [`End::ALL`].
    pub(super) fn refused_here(&self) -> [u64; End::ALL.len()] {
        self.refused.each_ref().map(|count| count.load(Relaxed))
    }
}

impl State {
    fn figures(&self, versions: Versions, refused_here: [u64; End::ALL.len()]) -> Saved {
        let now = unix_millis();
        Saved {
            since: self.since,
            counters: self.counters(versions, refused_here),
            addresses: self.addresses.figures(now),
            bots: self.bots.figures(now),
            accounts: self.accounts.figures(now),
            nodes: self.nodes.figures(now),
        }
    }

    fn counters(&self, versions: Versions, refused_here: [u64; End::ALL.len()]) -> Counters {
        let mut refused = self.inherited.refused.clone();
        refused.add(&refused_here);
        Counters {
            listeners: self.listeners.clone(),
            versions: versions.by_name(),
            ended: self.ended.by_name(),
            refused: refused.by_name(),
        }
    }

    /// Closes the open part of all live connections: it counts for what they count for now.
    fn close_open(&mut self) {
        self.addresses.clear_open();
        self.bots.clear_open();
        self.accounts.clear_open();
        self.nodes.clear_open();
        for connection in self.live.values() {
            let so_far = connection.amount();
            let mut notes = connection.notes.lock();
            let notes = &mut *notes;
            self.versions.count(notes, so_far);
            self.addresses.close_open(&mut notes.address, so_far);
            self.bots.close_open(&mut notes.bot, so_far);
            self.accounts.close_open(&mut notes.account, so_far);
            self.nodes.close_open(&mut notes.by_node, so_far);
        }
    }

    fn add(&mut self, saved: Saved) {
        let Saved { since, counters, addresses, bots, accounts, nodes } = saved;
        if since > 0 {
            self.since = self.since.min(since);
        }
        for (listener, count) in counters.listeners {
            for listeners in [&mut self.inherited.listeners, &mut self.listeners] {
                let sum = listeners.entry(Arc::clone(&listener)).or_default();
                *sum = sum.saturating_add(count);
            }
        }
        for versions in [&mut self.inherited.versions, &mut self.versions] {
            versions.add_by_name(&counters.versions);
        }
        self.inherited.ended.add_by_name(counters.ended.clone());
        self.ended.add_by_name(counters.ended);
        self.inherited.refused.add_by_name(counters.refused);
        self.addresses.add(addresses);
        self.bots.add(bots);
        self.accounts.add(accounts);
        self.nodes.add(nodes);
    }

    fn level_rates(&mut self) {
        self.addresses.level_rates();
        self.bots.level_rates();
        self.accounts.level_rates();
        self.rate = Window::level(self.versions.sum().bytes());
    }
}
