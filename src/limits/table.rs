//! A map by prefix with a fixed number of rows, so that no number of addresses makes it large. Pure.

use std::collections::{HashMap, VecDeque};

use super::prefix::Prefix;

/// The rows that are compared when one has to go.
const COMPARED: usize = 4;

/// A map with a fixed number of rows.
pub struct Table<V> {
    rows: HashMap<Prefix, V>,
    /// Each row's prefix, those that were compared least recently first.
    order: VecDeque<Prefix>,
    limit: usize,
}

impl<V: Default> Table<V> {
    /// A table of at most `limit` rows.
    pub fn new(limit: usize) -> Self {
        Self { rows: HashMap::new(), order: VecDeque::new(), limit }
    }

    /// The row of a prefix. In a full table a new row replaces one of a few old ones: the one that is worth the least.
    pub fn row(&mut self, prefix: Prefix, worth: impl Fn(&V) -> u64) -> &mut V {
        if !self.rows.contains_key(&prefix) {
            if self.rows.len() >= self.limit {
                self.evict(worth);
            }
            self.order.push_back(prefix);
        }
        self.rows.entry(prefix).or_default()
    }

    fn evict(&mut self, worth: impl Fn(&V) -> u64) {
        let mut least: Option<(Prefix, u64)> = None;
        for _ in 0..COMPARED {
            let Some(prefix) = self.order.pop_front() else { break };
            let worth = self.rows.get(&prefix).map_or(0, &worth);
            let kept = match least {
                Some((_, smallest)) if smallest <= worth => Some(prefix),
                _ => least.replace((prefix, worth)).map(|(prefix, _)| prefix),
            };
            self.order.extend(kept);
        }
        if let Some((prefix, _)) = least {
            self.rows.remove(&prefix);
        }
    }

    /// Every row, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (Prefix, &V)> {
        self.rows.iter().map(|(prefix, row)| (*prefix, row))
    }

    /// Removes the row of a prefix.
    pub fn remove(&mut self, prefix: Prefix) {
        if self.rows.remove(&prefix).is_some() {
            self.order.retain(|other| *other != prefix);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use std::net::Ipv4Addr;

    use super::*;

    fn prefix(number: u32) -> Prefix {
        Prefix::V4(Ipv4Addr::from_bits(number))
    }

    #[test]
    fn a_full_table_gives_up_the_least_worthy_of_a_few_old_rows() {
        let mut table = Table::new(100);
        for number in 0..100 {
            *table.row(prefix(number), |worth| *worth) = u64::from(100 + number);
        }
        *table.row(prefix(2), |worth| *worth) = 1;
        *table.row(prefix(1000), |worth| *worth) = 1000;
        assert_eq!(table.rows.len(), 100);
        assert!(!table.rows.contains_key(&prefix(2)), "it is among the oldest rows and worth the least");
        // Any number of new rows takes a quarter of the places from rows that are worth much, and not more.
        for number in 2000..20_000 {
            table.row(prefix(number), |worth| *worth);
        }
        assert_eq!((table.rows.len(), table.order.len()), (100, 100));
        let kept = (0..100).filter(|number| table.rows.contains_key(&prefix(*number))).count();
        assert!(kept >= 70, "{kept}");
    }

    #[test]
    fn rows_of_the_same_worth_go_in_the_order_that_they_came() {
        let mut table: Table<u64> = Table::new(16);
        for number in 0..17 {
            table.row(prefix(number), |_| 7);
        }
        assert!(!table.rows.contains_key(&prefix(0)) && table.rows.contains_key(&prefix(16)));
    }

    #[test]
    fn a_removed_row_makes_room() {
        let mut table: Table<u64> = Table::new(2);
        *table.row(prefix(1), |_| 0) = 1;
        *table.row(prefix(2), |_| 0) = 2;
        table.remove(prefix(1));
        table.remove(prefix(1));
        assert_eq!((table.rows.len(), table.order.len()), (1, 1));
        table.row(prefix(3), |_| 0);
        assert_eq!(*table.row(prefix(2), |_| 0), 2);
    }
}
