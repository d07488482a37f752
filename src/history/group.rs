//! The figures of several names, such as nodes or accounts, over time. At most so many names have figures of their own;
//! those of all others are added up as `others`. Pure.

use std::collections::HashMap;
use std::sync::Arc;

use super::packed::Packed;
use super::saved::{SavedGroup, SavedRow};
use super::series::{Kind, Range, Series};

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Figure {
    /// Open connections.
    Connections,
    /// Requests.
    Requests,
    /// Bytes from clients.
    BytesIn,
    /// Bytes to clients.
    BytesOut,
    /// Requests and connections that got an error of our own.
    Refusals,
    /// Players of all clients.
    Players,
    /// The load of a node's machine, from 0 to 1.
    Load,
    /// The time that a node takes to answer, in milliseconds.
    ResponseTime,
}

impl Figure {
    /// The name in the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::Requests => "requests",
            Self::BytesIn => "bytesIn",
            Self::BytesOut => "bytesOut",
            Self::Refusals => "refusals",
            Self::Players => "players",
            Self::Load => "load",
            Self::ResponseTime => "responseTime",
        }
    }

    fn kind(self) -> Kind {
        match self {
            Self::Requests | Self::BytesIn | Self::BytesOut | Self::Refusals => Kind::Sum,
            Self::Connections | Self::Players | Self::Load | Self::ResponseTime => Kind::Level,
        }
    }

    /// How much larger the numbers of the series are, so that means keep their fractions.
    fn scale(self) -> f64 {
        match self {
            Self::Requests | Self::BytesIn | Self::BytesOut | Self::Refusals => 1.0,
            Self::Connections | Self::Players => 10.0,
            Self::Load => 1000.0,
            Self::ResponseTime => 100.0,
        }
    }

    /// True for a figure that can be added up over names.
    fn adds_up(self) -> bool {
        !matches!(self, Self::Load | Self::ResponseTime)
    }

    /// What a number of the series means.
    pub fn shown(self, value: u64) -> f64 {
        value as f64 / self.scale()
    }
}

/// The figures of one name at one moment.
#[derive(Clone, Debug, Default)]
pub struct Reading {
    /// `None` for names that were folded together.
    pub name: Option<Arc<str>>,
    /// Sums since the figures began.
    pub totals: Totals,
    /// Open connections.
    pub connections: u64,
    /// `None` where the nodes say nothing.
    pub players: Option<u64>,
    /// From 0 to 1.
    pub load: Option<f64>,
    /// In milliseconds.
    pub response_time: Option<f64>,
}

/// What adds up over time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Requests.
    pub requests: u64,
    /// Bytes from clients.
    pub bytes_in: u64,
    /// Bytes to clients.
    pub bytes_out: u64,
    /// Requests and connections that got an error of our own.
    pub refusals: u64,
}

impl Totals {
    fn add(&mut self, other: Self) {
        self.requests = self.requests.saturating_add(other.requests);
        self.bytes_in = self.bytes_in.saturating_add(other.bytes_in);
        self.bytes_out = self.bytes_out.saturating_add(other.bytes_out);
        self.refusals = self.refusals.saturating_add(other.refusals);
    }

    fn of(self, figure: Figure) -> u64 {
        match figure {
            Figure::Requests => self.requests,
            Figure::BytesIn => self.bytes_in,
            Figure::BytesOut => self.bytes_out,
            Figure::Refusals => self.refusals,
            _ => 0,
        }
    }
}

impl Reading {
    fn add(&mut self, other: &Self) {
        self.totals.add(other.totals);
        self.connections = self.connections.saturating_add(other.connections);
        if let Some(players) = other.players {
            self.players = Some(self.players.unwrap_or(0).saturating_add(players));
        }
    }

    /// The value of a figure; a sum is what came after `last`, and is not known where it went back.
    fn value(&self, figure: Figure, last: Option<Totals>) -> Option<f64> {
        match figure {
            Figure::Connections => Some(self.connections as f64),
            Figure::Players => self.players.map(|players| players as f64),
            Figure::Load => self.load,
            Figure::ResponseTime => self.response_time,
            sum => last.and_then(|last| self.totals.of(sum).checked_sub(last.of(sum))).map(|more| more as f64),
        }
    }
}

/// The figures of several names.
pub struct Group {
    figures: &'static [Figure],
    most: usize,
    has_readings: bool,
    rows: Vec<Row>,
    others: Option<Row>,
}

/// The figures of one name.
pub struct Row {
    /// The name.
    pub name: Arc<str>,
    /// What its sums were at the last reading. `None` before the first.
    last: Option<Totals>,
    figures: &'static [Figure],
    series: Vec<Series>,
}

impl Row {
    /// A row without any value.
    pub fn new(name: &str, figures: &'static [Figure], last: Option<Totals>) -> Self {
        let series = figures.iter().map(|figure| Series::new(figure.kind())).collect();
        Self { name: name.into(), last, figures, series }
    }

    fn put(&mut self, slot: u64, reading: &Reading) {
        for (figure, series) in self.figures.iter().zip(&mut self.series) {
            let value = reading.value(*figure, self.last);
            // A cast of a float never fails: it has the nearest number.
            series.put(slot, value.map_or(Packed::GAP, |value| Packed::new((value * figure.scale()).round() as u64)));
        }
        self.last = Some(reading.totals);
    }

    fn skip(&mut self, slot: u64) {
        self.series.iter_mut().for_each(|series| series.put(slot, Packed::GAP));
    }

    fn is_empty(&self) -> bool {
        self.series.iter().all(Series::is_empty)
    }

    /// Adds the figures of a row that ends.
    fn fold(&mut self, row: &Self) {
        for ((figure, mine), theirs) in self.figures.iter().zip(&mut self.series).zip(&row.series) {
            if figure.adds_up() {
                mine.add(theirs);
            }
        }
    }

    /// Its figures with their values in this range, oldest first.
    pub fn values(&self, range: Range, newest: u64) -> Vec<(Figure, Vec<Option<f64>>)> {
        let of = |(figure, series): (&Figure, &Series)| {
            let shown = |value: Packed| value.value().map(|value| figure.shown(value));
            (*figure, series.values(range, newest).map(shown).collect())
        };
        self.figures.iter().zip(&self.series).map(of).collect()
    }

    fn save(&self, newest: u64) -> SavedRow {
        let Totals { requests, bytes_in, bytes_out, refusals } = self.last.unwrap_or_default();
        let last = self.last.map(|_| [requests, bytes_in, bytes_out, refusals]);
        let rings = |series: &Series| Range::ALL.map(|range| series.values(range, newest).collect::<Vec<_>>());
        let series = self.figures.iter().zip(&self.series).map(|(figure, series)| (figure.name(), rings(series)));
        SavedRow::new(&self.name, last, series)
    }

    fn restored(saved: &SavedRow, figures: &'static [Figure], newest: u64) -> Self {
        let last =
            |[requests, bytes_in, bytes_out, refusals]: [u64; 4]| Totals { requests, bytes_in, bytes_out, refusals };
        let mut row = Self::new(&saved.name, figures, saved.last.map(last));
        for (figure, series) in figures.iter().zip(&mut row.series) {
            for range in Range::ALL {
                series.restore(range, newest, &saved.ring(figure.name(), range));
            }
        }
        row
    }
}

impl Group {
    /// For so many names at the most, beside `others`.
    pub fn new(figures: &'static [Figure], most: usize) -> Self {
        Self { figures, most, has_readings: false, rows: Vec::new(), others: None }
    }

    /// Every name with figures of its own, and `others` where there are any.
    pub fn rows(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter().chain(&self.others)
    }

    /// Takes the readings of a slot of 10 s, those first whose names shall have figures of their own.
    pub fn put(&mut self, slot: u64, readings: &[Reading]) {
        let by_name: HashMap<&str, &Reading> =
            readings.iter().filter_map(|reading| Some((reading.name.as_deref()?, reading))).collect();
        self.add_rows(readings);
        for row in &mut self.rows {
            match by_name.get(&*row.name) {
                Some(reading) => row.put(slot, reading),
                None => row.skip(slot),
            }
        }
        let others = self.others_of(readings);
        if others.is_some() || self.others.is_some() {
            let last = self.has_readings.then(Totals::default);
            let row = self.others.get_or_insert_with(|| Row::new("others", self.figures, last));
            row.put(slot, &others.unwrap_or_default());
        }
        self.has_readings = true;
        if Range::Month.ended(slot) > Range::Month.ended(slot.saturating_sub(1)) {
            self.rank(readings);
        }
    }

    /// Gives names rows of their own while there is room. A name that comes later than the first readings has used
    /// nothing before.
    fn add_rows(&mut self, readings: &[Reading]) {
        let last = self.has_readings.then(Totals::default);
        for name in readings.iter().filter_map(|reading| reading.name.as_ref()) {
            if self.rows.len() >= self.most {
                return;
            }
            if !self.has(name) {
                self.rows.push(Row::new(name, self.figures, last));
            }
        }
    }

    fn has(&self, name: &str) -> bool {
        self.rows.iter().any(|row| *row.name == *name)
    }

    /// The sum of all readings without a row.
    fn others_of(&self, readings: &[Reading]) -> Option<Reading> {
        let is_other = |reading: &&Reading| reading.name.as_ref().is_none_or(|name| !self.has(name));
        readings.iter().filter(is_other).fold(None, |sum: Option<Reading>, reading| {
            let mut sum = sum.unwrap_or_default();
            sum.add(reading);
            Some(sum)
        })
    }

    /// Gives the first names of the readings rows of their own. Rows of other names that are in the way become a part
    /// of `others`, and rows without a value end.
    fn rank(&mut self, readings: &[Reading]) {
        self.rows.retain(|row| !row.is_empty());
        let named: Vec<(&Arc<str>, &Reading)> =
            readings.iter().filter_map(|reading| Some((reading.name.as_ref()?, reading))).take(self.most).collect();
        for (name, reading) in &named {
            if self.has(name) {
                continue;
            }
            let is_unwanted = |row: &Row| named.iter().all(|(name, _)| **name != row.name);
            if let Some(at) = self.rows.iter().position(is_unwanted).filter(|_| self.rows.len() >= self.most) {
                let folded = self.rows.swap_remove(at);
                let others = self.others.get_or_insert_with(|| Row::new("others", self.figures, None));
                others.fold(&folded);
            }
            self.rows.push(Row::new(name, self.figures, Some(reading.totals)));
        }
        let totals = self.others_of(readings).unwrap_or_default().totals;
        if let Some(others) = &mut self.others {
            others.last = Some(totals);
        }
    }

    /// Nothing was measured in this slot.
    pub fn skip(&mut self, slot: u64) {
        self.each_row(|row| row.skip(slot));
    }

    /// Forgets what is later than the slot `newest`, up to `last`.
    pub fn forget_after(&mut self, newest: u64, last: u64) {
        self.each_row(|row| row.series.iter_mut().for_each(|series| series.forget_after(newest, last)));
    }

    fn each_row(&mut self, each: impl FnMut(&mut Row)) {
        self.rows.iter_mut().chain(&mut self.others).for_each(each);
    }

    /// All of it, for the state file.
    pub fn save(&self, newest: u64) -> SavedGroup {
        let rows = self.rows.iter().map(|row| row.save(newest)).collect();
        SavedGroup { rows, others: self.others.as_ref().map(|row| row.save(newest)) }
    }

    /// Goes on from what was saved.
    pub fn restore(&mut self, saved: &SavedGroup, newest: u64) {
        let restored = |row: &SavedRow| Row::restored(row, self.figures, newest);
        self.rows = saved.rows.iter().take(self.most).map(restored).collect();
        self.others = saved.others.as_ref().map(restored);
        self.has_readings = !self.rows.is_empty() || self.others.is_some();
    }

    /// What it takes in memory, in bytes.
    #[cfg(test)]
    pub fn memory(&self) -> usize {
        let of = |row: &Row| size_of::<Row>() + row.name.len() + row.series.iter().map(Series::memory).sum::<usize>();
        self.rows().map(of).sum()
    }
}
