//! Wrong passwords by prefix, and how long the bans that follow them are. Pure: the time is an argument, in milliseconds
//! since the epoch.

use serde::{Deserialize, Serialize};

use super::prefix::Prefix;
use super::table::Table;
use crate::config;

/// The prefixes whose wrong passwords and last bans are known.
const MAX_PREFIXES: usize = 10_000;

const MINUTE: u64 = 60_000;
const DAY: u64 = 24 * 60 * MINUTE;
/// The time in which wrong passwords count together. It begins with the first of them.
const WINDOW: u64 = MINUTE;
/// The length of the first ban.
const FIRST_BAN: u64 = 10 * MINUTE;
/// The length of no ban is more.
const LONGEST_BAN: u64 = DAY;
/// A ban that comes this soon after the end of the one before it is twice as long.
const RETURN: u64 = DAY;

/// The prefixes that sent wrong passwords.
pub struct Offenders(Table<Offender>);

#[derive(Default)]
struct Offender {
    /// Wrong passwords in the present window.
    wrong: u32,
    /// The begin of that window.
    window: u64,
    /// The bans so far, each soon after the one before it.
    bans: u32,
    /// The end of the last ban.
    until: u64,
}

/// A prefix whose next ban is longer, as the state file has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Repeat {
    /// The address, or the /64.
    pub address: String,
    /// The bans so far, each soon after the one before it.
    pub bans: u32,
    /// The end of the last one.
    pub until: u64,
}

impl Default for Offenders {
    fn default() -> Self {
        Self(Table::new(MAX_PREFIXES))
    }
}

impl Offenders {
    /// Counts a wrong password. Returns the end of the ban that follows when it is the last of `most`.
    pub fn note(&mut self, prefix: Prefix, most: u32, now: u64) -> Option<u64> {
        let row = self.0.row(prefix, |row| row.worth(now));
        if row.wrong == 0 || !in_time(row.window, WINDOW, now) {
            (row.wrong, row.window) = (0, now);
        }
        row.wrong += 1;
        if row.wrong < most {
            return None;
        }
        row.wrong = 0;
        row.bans = if row.may_return(now) { row.bans.saturating_add(1) } else { 1 };
        let doublings = (row.bans - 1).min(16);
        row.until = now + (FIRST_BAN << doublings).min(LONGEST_BAN);
        Some(row.until)
    }

    /// Forgets a prefix.
    pub fn forget(&mut self, prefix: Prefix) {
        self.0.remove(prefix);
    }

    /// The prefixes whose next ban is longer.
    pub fn repeats(&self, now: u64) -> Vec<Repeat> {
        let returns = self.0.iter().filter(|(_, row)| row.may_return(now));
        let mut repeats: Vec<_> = returns
            .map(|(prefix, row)| Repeat { address: prefix.to_string(), bans: row.bans, until: row.until })
            .collect();
        repeats.sort_by(|a, b| a.address.cmp(&b.address));
        repeats
    }

    /// Takes up what [`repeats`](Self::repeats) returned. A row that makes no sense is left out.
    pub fn restore(&mut self, repeats: Vec<Repeat>, now: u64) {
        for Repeat { address, bans, until } in repeats {
            let prefix = config::network(&address).ok().and_then(Prefix::of_network);
            let offender = Offender { bans, until: until.min(now + LONGEST_BAN), ..Offender::default() };
            if let Some(prefix) = prefix.filter(|_| offender.may_return(now)) {
                *self.0.row(prefix, |row| row.worth(now)) = offender;
            }
        }
    }
}

impl Offender {
    fn may_return(&self, now: u64) -> bool {
        self.bans > 0 && now < self.until.saturating_add(RETURN)
    }

    /// The order in which rows are given up: first those that are the same as new ones, last those with many bans.
    fn worth(&self, now: u64) -> u64 {
        let wrong = if in_time(self.window, WINDOW, now) { self.wrong } else { 0 };
        let bans = if self.may_return(now) { self.bans } else { 0 };
        u64::from(bans) << 32 | u64::from(wrong)
    }
}

/// True from `begin` on for `length`; the clock may have been set back.
fn in_time(begin: u64, length: u64, now: u64) -> bool {
    now >= begin && now - begin < length
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    /// Any moment.
    const NOW: u64 = 1_800_000_000_000;

    fn prefix(address: &str) -> Prefix {
        Prefix::of(address.parse().unwrap())
    }

    /// The length of the ban that follows so many wrong passwords at once.
    fn ban(offenders: &mut Offenders, address: &str, most: u32, now: u64) -> Option<u64> {
        let ends: Vec<_> = (0..most).map(|_| offenders.note(prefix(address), most, now)).collect();
        let (last, before) = ends.split_last().unwrap();
        assert!(before.iter().all(Option::is_none), "{ends:?}");
        last.map(|end| end - now)
    }

    #[test]
    fn the_last_wrong_password_within_a_minute_bans() {
        let mut offenders = Offenders::default();
        assert_eq!(ban(&mut offenders, "192.0.2.7", 20, NOW), Some(10 * MINUTE));
        assert_eq!(ban(&mut offenders, "192.0.2.8", 1, NOW), Some(10 * MINUTE));
    }

    #[test]
    fn the_window_is_a_minute_from_the_first_wrong_password() {
        let mut offenders = Offenders::default();
        let mut note = |seconds: u64| offenders.note(prefix("192.0.2.7"), 3, NOW + seconds * 1000);
        assert_eq!((note(0), note(59)), (None, None));
        assert_eq!((note(60), note(119)), (None, None), "a new window begins");
        assert_eq!(note(119), Some(NOW + 119_000 + 10 * MINUTE));
    }

    #[test]
    fn a_slow_guesser_is_not_banned() {
        let mut offenders = Offenders::default();
        let ends = (0..1000).map(|number| offenders.note(prefix("192.0.2.7"), 20, NOW + number * MINUTE / 19));
        assert_eq!(ends.flatten().next(), None);
    }

    #[test]
    fn each_return_doubles_the_ban_up_to_a_day() {
        let mut offenders = Offenders::default();
        let mut now = NOW;
        for minutes in [10, 20, 40, 80, 160, 320, 640, 1280, 1440, 1440] {
            assert_eq!(ban(&mut offenders, "2001:db8::1", 2, now), Some(minutes * MINUTE));
            now += minutes * MINUTE;
        }
        for _ in 0..100 {
            assert_eq!(ban(&mut offenders, "2001:db8::1", 2, now), Some(DAY));
        }
        assert_eq!(ban(&mut offenders, "2001:db8:0:1::1", 2, now), Some(10 * MINUTE), "it is another /64");
    }

    #[test]
    fn a_day_after_its_end_a_ban_is_forgotten() {
        for (pause, minutes) in [(DAY - 1, 20), (DAY, 10)] {
            let mut offenders = Offenders::default();
            ban(&mut offenders, "192.0.2.7", 5, NOW);
            let back = NOW + 10 * MINUTE + pause;
            assert_eq!(ban(&mut offenders, "192.0.2.7", 5, back), Some(minutes * MINUTE), "{pause}");
        }
    }

    #[test]
    fn repeats_are_saved_and_restored() {
        let mut offenders = Offenders::default();
        ban(&mut offenders, "192.0.2.7", 2, NOW);
        ban(&mut offenders, "192.0.2.7", 2, NOW + 10 * MINUTE);
        ban(&mut offenders, "2001:db8::1", 2, NOW);
        offenders.note(prefix("192.0.2.8"), 2, NOW);
        let saved = offenders.repeats(NOW + 30 * MINUTE);
        let repeat =
            |address: &str, bans, minutes| Repeat { address: address.into(), bans, until: NOW + minutes * MINUTE };
        assert_eq!(saved, [repeat("192.0.2.7", 2, 30), repeat("2001:db8::/64", 1, 10)]);

        let mut restored = Offenders::default();
        let nonsense = ["192.0.2.0/24", "2001:db8::/63", "node"].map(|address| repeat(address, 1, 10));
        let never = Repeat { address: "192.0.2.9".to_owned(), bans: 0, until: NOW + DAY };
        let for_ever = Repeat { address: "192.0.2.10".to_owned(), bans: 1, until: u64::MAX };
        restored.restore([saved, nonsense.to_vec(), vec![never, for_ever]].concat(), NOW + 30 * MINUTE);
        assert_eq!(restored.0.iter().count(), 3);
        assert_eq!(ban(&mut restored, "192.0.2.7", 2, NOW + 30 * MINUTE), Some(40 * MINUTE));
        assert_eq!(ban(&mut restored, "2001:db8::1", 2, NOW + 30 * MINUTE), Some(20 * MINUTE));
        assert_eq!(ban(&mut restored, "192.0.2.9", 2, NOW + 30 * MINUTE), Some(10 * MINUTE));
        assert!(restored.repeats(NOW + 3 * DAY).is_empty(), "none is kept for ever");
    }

    #[test]
    fn a_forgotten_prefix_begins_again() {
        let mut offenders = Offenders::default();
        ban(&mut offenders, "192.0.2.7", 2, NOW);
        offenders.note(prefix("192.0.2.7"), 2, NOW);
        offenders.forget(prefix("192.0.2.7"));
        assert_eq!(ban(&mut offenders, "192.0.2.7", 2, NOW), Some(10 * MINUTE));
    }

    #[test]
    fn addresses_with_one_wrong_password_push_no_repeat_out() {
        let mut offenders = Offenders::default();
        ban(&mut offenders, "192.0.2.7", 2, NOW);
        assert!((0..30_000).all(|number| offenders.note(Prefix::V6(number), 2, NOW).is_none()));
        assert_eq!(offenders.0.iter().count(), MAX_PREFIXES);
        assert_eq!(ban(&mut offenders, "192.0.2.7", 2, NOW), Some(20 * MINUTE));
    }

    #[test]
    fn a_clock_that_is_set_back_begins_a_new_window() {
        let mut offenders = Offenders::default();
        assert_eq!(offenders.note(prefix("192.0.2.7"), 2, NOW), None);
        assert_eq!(offenders.note(prefix("192.0.2.7"), 2, NOW - DAY), None);
        assert_eq!(offenders.note(prefix("192.0.2.7"), 2, NOW - DAY), Some(NOW - DAY + 10 * MINUTE));
    }
}
