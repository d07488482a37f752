//! One figure over time, in three rings: steps of 10 s, of a minute and of an hour. A step is known by its slot: the
//! number of such steps since the epoch. Pure.

use super::packed::Packed;

/// What is shown at once, and in which steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Range {
    /// 360 steps of 10 s.
    Hour,
    /// 1,440 steps of a minute.
    Day,
    /// 720 steps of an hour.
    Month,
}

impl Range {
    /// All ranges, the shortest first.
    pub const ALL: [Self; 3] = [Self::Hour, Self::Day, Self::Month];

    /// The name in the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::Hour => "1h",
            Self::Day => "24h",
            Self::Month => "30d",
        }
    }

    /// The length of a step, in seconds.
    pub fn step(self) -> u64 {
        match self {
            Self::Hour => 10,
            Self::Day => 60,
            Self::Month => 3600,
        }
    }

    /// How many steps there are.
    pub fn steps(self) -> u64 {
        match self {
            Self::Hour => 360,
            Self::Day => 1440,
            Self::Month => 720,
        }
    }

    /// How many slots of 10 s one step has.
    fn slots(self) -> u64 {
        self.step() / Self::Hour.step()
    }

    /// How many steps of this length are over once the slot of 10 s `newest` is.
    pub fn ended(self, newest: u64) -> u64 {
        newest.saturating_add(1) / self.slots()
    }

    fn index(self, slot: u64) -> usize {
        usize::try_from(slot % self.steps()).unwrap_or(0)
    }
}

/// How the value of a longer step follows from shorter ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It is their sum.
    Sum,
    /// It is their mean.
    Level,
}

/// The three rings.
pub struct Series {
    kind: Kind,
    rings: [Box<[Packed]>; 3],
}

impl Series {
    /// Without any value.
    pub fn new(kind: Kind) -> Self {
        let ring = |range: Range| vec![Packed::GAP; range.index(range.steps() - 1) + 1].into_boxed_slice();
        Self { kind, rings: Range::ALL.map(ring) }
    }

    /// Sets the value of a slot of 10 s, which must be the one after the slot that was set last. Longer steps that end
    /// with it get their values.
    pub fn put(&mut self, slot: u64, value: Packed) {
        self.set(Range::Hour, slot, value);
        for (from, to) in [(Range::Hour, Range::Day), (Range::Day, Range::Month)] {
            if slot.saturating_add(1) % to.slots() == 0 {
                let step = slot / to.slots();
                let value = self.condense(from, step, to.slots() / from.slots());
                self.set(to, step, value);
            }
        }
    }

    fn set(&mut self, range: Range, slot: u64, value: Packed) {
        self.rings[range as usize][range.index(slot)] = value;
    }

    /// The value of a step that `count` shorter ones make up; a gap when all of them are gaps.
    fn condense(&self, from: Range, step: u64, count: u64) -> Packed {
        let parts = (step * count..(step + 1) * count).filter_map(|slot| self.value(from, slot));
        let (sum, known) = parts.fold((0, 0), |(sum, known), value| (value.saturating_add(sum), known + 1));
        match (known, self.kind) {
            (0, _) => Packed::GAP,
            (_, Kind::Sum) => Packed::new(sum),
            (known, Kind::Level) => Packed::new((sum + known / 2) / known),
        }
    }

    /// The value of a slot that is still in its ring.
    pub fn value(&self, range: Range, slot: u64) -> Option<u64> {
        self.rings[range as usize][range.index(slot)].value()
    }

    /// The values of a ring that ends where the slot of 10 s `newest` does, oldest first.
    pub fn values(&self, range: Range, newest: u64) -> impl Iterator<Item = Packed> + '_ {
        let end = range.ended(newest);
        let before_the_epoch = range.steps().saturating_sub(end);
        let gaps = (0..before_the_epoch).map(|_| Packed::GAP);
        let ring = &self.rings[range as usize];
        gaps.chain((end.saturating_sub(range.steps())..end).map(move |slot| ring[range.index(slot)]))
    }

    /// Takes these values as the newest ones of a ring that ends there. Older ones stay.
    pub fn restore(&mut self, range: Range, newest: u64, values: &[Packed]) {
        let end = range.ended(newest);
        let most = usize::try_from(range.steps()).unwrap_or(0);
        for (slot, value) in (0..end).rev().zip(values.iter().rev().take(most)) {
            self.set(range, slot, *value);
        }
    }

    /// Forgets all steps that end after the slot `newest` and not after `last`: the clock was set back.
    pub fn forget_after(&mut self, newest: u64, last: u64) {
        for range in Range::ALL {
            let slots = range.ended(newest)..range.ended(last);
            slots.take(range.steps() as usize).for_each(|slot| self.set(range, slot, Packed::GAP));
        }
    }

    /// Adds the values of another series; a gap adds nothing.
    pub fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.rings.iter_mut().flatten().zip(other.rings.iter().flatten()) {
            if let Some(more) = theirs.value() {
                *mine = Packed::new(mine.value().unwrap_or(0).saturating_add(more));
            }
        }
    }

    /// True while nothing was measured.
    pub fn is_empty(&self) -> bool {
        self.rings.iter().flatten().all(|value| *value == Packed::GAP)
    }

    /// What it takes in memory, in bytes.
    #[cfg(test)]
    pub fn memory(&self) -> usize {
        size_of::<Self>() + self.rings.iter().map(|ring| size_of_val(&**ring)).sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn values(series: &Series, range: Range, newest: u64) -> Vec<Option<u64>> {
        series.values(range, newest).map(Packed::value).collect()
    }

    fn put_all(series: &mut Series, slots: std::ops::Range<u64>, value: impl Fn(u64) -> Option<u64>) {
        slots.for_each(|slot| series.put(slot, value(slot).map_or(Packed::GAP, Packed::new)));
    }

    #[test]
    fn longer_steps_are_sums_or_means_of_shorter_ones() {
        for (kind, minute, hour) in [(Kind::Sum, 6 * 40, 360 * 40), (Kind::Level, 40, 40)] {
            let mut series = Series::new(kind);
            put_all(&mut series, 3600..3600 + 720, |slot| Some(30 + 20 * (slot % 2)));
            let newest = 3600 + 719;
            assert_eq!(values(&series, Range::Day, newest)[1440 - 120..], [Some(minute); 120]);
            assert_eq!(values(&series, Range::Day, newest)[1440 - 121], None);
            let hours = values(&series, Range::Month, newest);
            assert_eq!(hours[718..], [Some(Packed::new(hour).value().unwrap()); 2]);
            assert_eq!((hours.len(), hours[717]), (720, None));
        }
    }

    #[test]
    fn a_gap_stays_a_gap_and_is_no_zero() {
        let mut series = Series::new(Kind::Level);
        put_all(&mut series, 600..660, |slot| (slot >= 609).then_some(0));
        let minutes = values(&series, Range::Day, 659);
        assert_eq!(minutes[1430..], [&[None][..], &[Some(0); 9]].concat());
        let steps = values(&series, Range::Hour, 659);
        assert_eq!((steps[359], steps[359 - 50], steps[359 - 51]), (Some(0), Some(0), None));
    }

    #[test]
    fn rings_keep_the_newest_steps() {
        let mut series = Series::new(Kind::Level);
        put_all(&mut series, 7200..7200 + 400, |slot| Some(slot - 7200));
        let steps = values(&series, Range::Hour, 7599);
        assert_eq!((steps.len(), steps[0], steps[359]), (360, Some(40), Some(399)));
        series.forget_after(7590, 7599);
        assert_eq!(values(&series, Range::Hour, 7599)[350..], [&[Some(390)][..], &[None; 9]].concat());
    }

    #[test]
    fn a_series_is_restored_from_its_values() {
        let mut series = Series::new(Kind::Sum);
        put_all(&mut series, 4000..4500, |slot| Some(slot % 7));
        let mut again = Series::new(Kind::Sum);
        for range in Range::ALL {
            let all: Vec<Packed> = series.values(range, 4499).collect();
            again.restore(range, 4499, &[&[Packed::new(99)][..], &all].concat());
            assert_eq!(values(&again, range, 4499), values(&series, range, 4499));
        }
    }

    #[test]
    fn slots_at_the_ends_of_time_do_no_harm() {
        let mut series = Series::new(Kind::Sum);
        for slot in [0, u64::MAX - 1, u64::MAX] {
            series.put(slot, Packed::new(1));
            series.forget_after(0, slot);
            assert!(Range::ALL.into_iter().all(|range| values(&series, range, slot).len() as u64 == range.steps()));
        }
    }
}
