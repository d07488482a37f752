//! When a version was up, for each of the last 90 days. Pure.
//!
//! A version is up while one of its nodes answers. Time in which lavaproxy itself did not run counts as down, from the
//! first measurement on: no bot was served then.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// How many days are kept.
const DAYS: usize = 90;
/// Slots of 10 s in a day.
const SLOTS: u64 = 24 * 3600 / 10;
/// Up to this many slots without a measurement count like the next one: a restart, also after a crash, which leaves a state that
/// may be a minute old.
const BRIDGED: u64 = 9;

/// Whether a version is up now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answering {
    /// A node answers.
    Up,
    /// None does.
    Down,
    /// None was checked yet.
    Unknown,
}

/// The up time of one version.
#[derive(Clone, Debug, Default)]
pub struct Uptime {
    last: Option<u64>,
    state: Option<(bool, u64)>,
    days: VecDeque<Day>,
}

/// One day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Day {
    /// Days since the epoch, in UTC.
    pub number: u64,
    /// Slots in which the version was up.
    pub up: u64,
    /// Slots that count.
    pub of: u64,
}

/// Its form in the state file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SavedUptime {
    /// The slot that was measured last.
    pub last: Option<u64>,
    /// Whether it is up, and since when.
    pub state: Option<(bool, u64)>,
    /// Number, slots up and slots that count, oldest first.
    pub days: Vec<[u64; 3]>,
}

impl Uptime {
    /// Takes the state at the end of this slot, which is `now` in milliseconds since the epoch.
    pub fn note(&mut self, slot: u64, answering: Answering, now: u64) {
        let is_up = match answering {
            Answering::Up => true,
            Answering::Down => false,
            Answering::Unknown => return,
        };
        if self.last.is_some_and(|last| slot <= last) {
            self.forget_from(slot);
            self.state = self.state.filter(|(_, since)| *since <= now);
        }
        let missed = self.last.map_or(0, |last| slot.saturating_sub(last).saturating_sub(1));
        let was_away = missed > BRIDGED;
        let most = SLOTS * DAYS as u64;
        for before in slot.saturating_sub(missed.min(most))..slot {
            self.count(before, is_up && !was_away);
        }
        self.count(slot, is_up);
        if was_away || self.state.is_none_or(|(was_up, _)| was_up != is_up) {
            self.state = Some((is_up, now));
        }
        self.last = Some(slot);
    }

    /// The clock was set back: this slot and those after it come again. Which of a day's slots were up is not known, so that
    /// as many as possible stay up.
    fn forget_from(&mut self, slot: u64) {
        let number = slot / SLOTS;
        self.days.retain(|day| day.number <= number);
        if let Some(day) = self.days.back_mut().filter(|day| day.number == number) {
            day.of = day.of.min(slot % SLOTS);
            day.up = day.up.min(day.of);
        }
    }

    fn count(&mut self, slot: u64, is_up: bool) {
        let number = slot / SLOTS;
        if self.days.back().is_none_or(|day| day.number != number) {
            self.days.push_back(Day { number, up: 0, of: 0 });
        }
        while self.days.len() > DAYS {
            self.days.pop_front();
        }
        if let Some(day) = self.days.back_mut() {
            day.up += u64::from(is_up);
            day.of += 1;
        }
    }

    /// The version is off: what follows is not down.
    pub fn stop(&mut self) {
        (self.last, self.state) = (None, None);
    }

    /// Whether it is up, and since when in milliseconds since the epoch.
    pub fn state(&self) -> Option<(bool, u64)> {
        self.state
    }

    /// The days that were measured, oldest first.
    pub fn days(&self) -> impl Iterator<Item = Day> + '_ {
        self.days.iter().copied()
    }

    /// For the state file.
    pub fn save(&self) -> SavedUptime {
        let days = self.days.iter().map(|day| [day.number, day.up, day.of]).collect();
        SavedUptime { last: self.last, state: self.state, days }
    }

    /// Goes on from what was saved. Days that cannot be are left out.
    pub fn restored(saved: &SavedUptime) -> Self {
        let mut days: VecDeque<Day> = VecDeque::new();
        for [number, up, of] in saved.days.iter().copied() {
            let is_later = days.back().is_none_or(|day| day.number < number);
            if is_later && up <= of && of <= SLOTS && days.len() < DAYS {
                days.push_back(Day { number, up, of });
            }
        }
        Self { last: saved.last, state: saved.state, days }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Answering::{Down, Unknown, Up};

    fn days(uptime: &Uptime) -> Vec<(u64, u64, u64)> {
        uptime.days().map(|day| (day.number, day.up, day.of)).collect()
    }

    fn note_all(uptime: &mut Uptime, slots: std::ops::Range<u64>, answering: Answering) {
        slots.for_each(|slot| uptime.note(slot, answering, (slot + 1) * 10_000));
    }

    #[test]
    fn ups_and_downs_are_counted_by_day() {
        let mut uptime = Uptime::default();
        note_all(&mut uptime, 10 * SLOTS - 4..10 * SLOTS, Unknown);
        assert_eq!((days(&uptime), uptime.state()), (vec![], None));
        note_all(&mut uptime, 10 * SLOTS - 4..10 * SLOTS + 6, Up);
        note_all(&mut uptime, 10 * SLOTS + 6..10 * SLOTS + 10, Down);
        assert_eq!(days(&uptime), [(9, 4, 4), (10, 6, 10)]);
        assert_eq!(uptime.state(), Some((false, (10 * SLOTS + 7) * 10_000)));
    }

    #[test]
    fn time_without_lavaproxy_is_down_and_a_restart_is_not() {
        let mut uptime = Uptime::default();
        note_all(&mut uptime, 0..10, Up);
        uptime.note(19, Up, 200_000);
        assert_eq!((days(&uptime), uptime.state()), (vec![(0, 20, 20)], Some((true, 10_000))));
        let later = 2 * SLOTS + 99;
        uptime.note(later, Up, 7);
        assert_eq!(days(&uptime), [(0, 20, SLOTS), (1, 0, SLOTS), (2, 1, 100)]);
        assert_eq!(uptime.state(), Some((true, 7)));
    }

    #[test]
    fn a_version_that_was_off_was_not_down() {
        let mut uptime = Uptime::default();
        note_all(&mut uptime, 0..10, Up);
        uptime.stop();
        uptime.note(3 * SLOTS, Up, 0);
        assert_eq!(days(&uptime), [(0, 10, 10), (3, 1, 1)]);
    }

    #[test]
    fn ninety_days_are_kept_whatever_the_clock_does() {
        let mut uptime = Uptime::default();
        uptime.note(5 * SLOTS, Up, 0);
        uptime.note(1_000_000 * SLOTS, Up, 0);
        assert_eq!((uptime.days().count(), uptime.days().last().map(|day| day.number)), (DAYS, Some(1_000_000)));
        uptime.note(7 * SLOTS, Up, 0);
        assert_eq!(days(&uptime), [(7, 1, 1)]);
        uptime.note(u64::MAX, Down, 0);
        assert_eq!(uptime.days().count(), DAYS);
    }

    #[test]
    fn hours_that_come_again_count_once() {
        let mut uptime = Uptime::default();
        note_all(&mut uptime, 0..1000, Up);
        // An hour ahead, and back.
        uptime.note(1360, Up, 0);
        assert_eq!(days(&uptime), [(0, 1001, 1361)]);
        note_all(&mut uptime, 1001..SLOTS, Up);
        assert_eq!(days(&uptime), [(0, SLOTS, SLOTS)]);
        // Back over a day's end.
        note_all(&mut uptime, SLOTS..SLOTS + 10, Down);
        note_all(&mut uptime, SLOTS - 20..SLOTS, Up);
        assert_eq!(days(&uptime), [(0, SLOTS, SLOTS)]);
        assert_eq!(days(&Uptime::restored(&uptime.save())), [(0, SLOTS, SLOTS)]);
    }

    #[test]
    fn only_days_that_can_be_are_restored() {
        let mut saved = SavedUptime {
            days: vec![[5, 1, 2], [4, 1, 2], [6, 3, 2], [7, 1, SLOTS + 1], [8, 2, 2]],
            ..SavedUptime::default()
        };
        assert_eq!(days(&Uptime::restored(&saved)), [(5, 1, 2), (8, 2, 2)]);
        saved.days = (0..200).map(|number| [number, 1, 1]).collect();
        assert_eq!(Uptime::restored(&saved).days().count(), DAYS);
        assert_eq!(Uptime::restored(&Uptime::restored(&saved).save()).days().count(), DAYS);
    }
}
