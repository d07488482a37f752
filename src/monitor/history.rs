//! The JSON of /api/history: figures over time, by version, node or account.

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};

use super::answer::{Answer, Refusal, json};
use super::filter::pairs;
use crate::history::{By, History, Range, Values};
use crate::unix_time::unix_millis;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Answered {
    range: &'static str,
    by: &'static str,
    now: u64,
    /// When the first step began.
    start: u64,
    /// Seconds.
    step: u64,
    series: Vec<Row>,
    #[serde(flatten)]
    all: Figures,
}

#[derive(Serialize)]
struct Row {
    name: String,
    #[serde(flatten)]
    figures: Figures,
}

/// A field for each figure.
struct Figures(Values);

impl Serialize for Figures {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut map = to.serialize_map(Some(self.0.len()))?;
        for (figure, values) in &self.0 {
            map.serialize_entry(figure.name(), &Numbers(values))?;
        }
        map.end()
    }
}

/// Whole numbers are written as such, which halves the answer.
struct Numbers<'v>(&'v [Option<f64>]);

impl Serialize for Numbers<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(self.0.iter().map(|value| value.map(Number)))
    }
}

struct Number(f64);

impl Serialize for Number {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self.0.fract() == 0.0 {
            true => to.serialize_u64(self.0 as u64),
            false => to.serialize_f64(self.0),
        }
    }
}

/// The range and the split that a query asks for; an hour by version where it names none.
///
/// # Errors
/// What is wrong, and what there is to choose.
fn parse(query: &str) -> Result<(Range, By), &'static str> {
    let (mut range, mut by) = (Range::Hour, By::Version);
    for pair in pairs(query) {
        let (name, value) = pair?;
        match name {
            "range" => {
                let known = Range::ALL.into_iter().find(|range| range.name() == value);
                range = known.ok_or("range is 1h, 24h or 30d")?;
            }
            "by" => {
                let known = By::ALL.into_iter().find(|by| by.name() == value);
                by = known.ok_or("by is version, node or account")?;
            }
            _ => {}
        }
    }
    Ok((range, by))
}

/// The answer to a request with this query.
pub fn answer(history: &History, query: &str) -> Result<Answer, Refusal> {
    let (range, by) = parse(query).map_err(|message| Refusal::new(400, message))?;
    let now = unix_millis();
    let view = history.view(range, by, now);
    let series = view.series.into_iter().map(|(name, figures)| Row { name, figures: Figures(figures) });
    Ok(json(
        200,
        &Answered {
            range: range.name(),
            by: by.name(),
            now,
            start: view.start,
            step: range.step(),
            series: series.collect(),
            all: Figures(view.all),
        },
    ))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_query_names_a_range_and_a_split() {
        for (query, expected) in [
            ("", (Range::Hour, By::Version)),
            ("range=24h", (Range::Day, By::Version)),
            ("by=account&range=30d", (Range::Month, By::Account)),
            ("by=n%6fde&t=1", (Range::Hour, By::Node)),
        ] {
            assert_eq!(parse(query), Ok(expected), "{query}");
        }
        for query in ["range=", "range=1H", "range=7d", "by=", "by=address", "by=%", "range"] {
            assert!(parse(query).is_err(), "{query}");
        }
    }

    #[test]
    fn numbers_are_short_and_gaps_are_null() {
        let values = [Some(3.0), None, Some(0.25), Some(4e12)];
        assert_eq!(serde_json::to_string(&Numbers(&values)).unwrap(), "[3,null,0.25,4000000000000]");
    }
}
