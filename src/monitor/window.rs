//! The parameters `search=`, `sort=`, `limit=`, `offset=` and `also=` of the lists: which of the rows, and in which
//! order; pure.
//!
//! A list may have thousands of rows, of which a page shows some twenty. Only the rows of the window are sorted, and only
//! they and those that are asked for by name are written as JSON.

use std::borrow::Cow;
use std::collections::HashSet;
use std::net::IpAddr;

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use super::filter::pairs;

/// The longest value of `search`, in bytes.
const MAX_SEARCH: usize = 200;

/// A value that rows are compared by.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// By value.
    Number(u64),
    /// By address, then by port.
    Client(IpAddr, Option<u16>),
    /// After all others.
    Text(String),
}

/// The name of a field in `sort`, and what reads it of a row.
pub type Field<R> = (&'static str, Box<dyn Fn(&R) -> Key>);

/// A row of a list of which parts can be asked for.
pub trait Row: Sized + 'static {
    /// The name of the list in an answer.
    const LIST: &'static str;

    /// The fields that `sort` may name.
    fn fields() -> Vec<Field<Self>>;

    /// Adds the texts that a search looks in, with blanks between them.
    fn add_texts(&self, texts: &mut String);

    /// True for a row that is asked for by its name.
    fn is_among(&self, names: &Names) -> bool;

    /// Where it stands among equal rows, and without `sort`: at its place in the list, unless that has no order.
    fn place(&self, in_list: usize) -> u64 {
        in_list as u64
    }
}

/// The names of rows that are wanted wherever they stand.
#[derive(Default)]
pub struct Names {
    texts: HashSet<String>,
    /// Those of the texts that are numbers.
    numbers: HashSet<u64>,
}

impl Names {
    /// True if the text is one of them.
    pub fn has(&self, text: &str) -> bool {
        self.texts.contains(text)
    }

    /// True if the number is one of them.
    pub fn has_number(&self, number: u64) -> bool {
        self.numbers.contains(&number)
    }

    fn add(&mut self, name: String) {
        self.numbers.extend(name.parse::<u64>());
        self.texts.insert(name);
    }
}

/// A part of a list in an order.
pub struct Window<R> {
    /// In lower case. A row has all of them in its texts.
    words: Vec<String>,
    /// What to sort by; `None` for the order of the list.
    order: Option<Order<R>>,
    limit: usize,
    offset: usize,
    also: Option<Names>,
}

struct Order<R> {
    key: Box<dyn Fn(&R) -> Key>,
    descending: bool,
}

/// The rows of a window.
pub struct Part<R> {
    /// How many there are without `limit` and `offset`.
    matched: usize,
    /// The place of the first one among these.
    offset: usize,
    rows: Vec<R>,
    /// Those asked for by name that have another place, in any order; `None` where none is asked for.
    also: Option<Vec<R>>,
}

impl<R: Row + Serialize> Serialize for Part<R> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("matched", &self.matched)?;
        map.serialize_entry("offset", &self.offset)?;
        map.serialize_entry(R::LIST, &self.rows)?;
        if let Some(also) = &self.also {
            map.serialize_entry("also", also)?;
        }
        map.end()
    }
}

impl<R: Row> Window<R> {
    /// Reads the query of a target. `None` where it names nothing of a window. Other parameters are ignored.
    ///
    /// # Errors
    /// What is wrong, and what is expected.
    pub fn parse(query: &str) -> Result<Option<Self>, Cow<'static, str>> {
        let mut window = Self { words: Vec::new(), order: None, limit: usize::MAX, offset: 0, also: None };
        let mut is_asked_for = false;
        for pair in pairs(query) {
            let (name, value) = pair?;
            match name {
                "search" => window.words = words(&value)?,
                "sort" => window.order = Some(Order::parse(&value)?),
                "limit" => window.limit = number(&value).ok_or("limit is a number of rows")?,
                "offset" => window.offset = number(&value).ok_or("offset is a number of rows")?,
                "also" => window.also.get_or_insert_default().add(value),
                _ => continue,
            }
            is_asked_for = true;
        }
        Ok(is_asked_for.then_some(window))
    }

    /// The rows of the window in its order, and those asked for by name that are not in it.
    pub fn of(&self, mut rows: Vec<R>) -> Part<R> {
        if !self.words.is_empty() {
            let mut texts = String::new();
            rows.retain(|row| self.is_found_in(row, &mut texts));
        }
        let matched = rows.len();
        let (from, to) = (self.offset.min(matched), self.offset.saturating_add(self.limit).min(matched));
        let key = |row: &R| self.order.as_ref().map(|order| (order.key)(row));
        let keyed = rows.iter().enumerate().map(|(index, row)| Keyed { key: key(row), place: row.place(index), index });
        let descending = self.order.as_ref().is_some_and(|order| order.descending);
        let indices = sorted(keyed.collect(), descending, from, to);
        let mut rows: Vec<Option<R>> = rows.into_iter().map(Some).collect();
        let in_window = indices.filter_map(|index| rows.get_mut(index)?.take()).collect();
        let also =
            self.also.as_ref().map(|names| rows.into_iter().flatten().filter(|row| row.is_among(names)).collect());
        Part { matched, offset: self.offset, rows: in_window, also }
    }

    fn is_found_in(&self, row: &R, texts: &mut String) -> bool {
        texts.clear();
        row.add_texts(texts);
        let texts = texts.to_lowercase();
        self.words.iter().all(|word| texts.contains(word))
    }
}

impl<R: Row> Order<R> {
    fn parse(value: &str) -> Result<Self, Cow<'static, str>> {
        let (name, descending) = value.strip_prefix('-').map_or((value, false), |name| (name, true));
        let mut fields = R::fields();
        match fields.iter().position(|(known, _)| *known == name) {
            Some(place) => Ok(Self { key: fields.swap_remove(place).1, descending }),
            None => {
                let names: Vec<&str> = fields.iter().map(|(name, _)| *name).collect();
                let names = names.join(", ");
                Err(format!("sort is one of {names}, with a - before it for descending order").into())
            }
        }
    }
}

/// What is compared of the row with this index.
struct Keyed {
    key: Option<Key>,
    place: u64,
    index: usize,
}

/// The indices of the rows at these places of the order. It is no part of `Window::of`, so that it is compiled once.
fn sorted(mut keyed: Vec<Keyed>, descending: bool, from: usize, to: usize) -> impl Iterator<Item = usize> {
    let order = |a: &Keyed, b: &Keyed| {
        let by_key = if descending { b.key.cmp(&a.key) } else { a.key.cmp(&b.key) };
        by_key.then(a.place.cmp(&b.place))
    };
    if to < keyed.len() {
        keyed.select_nth_unstable_by(to, order);
        keyed.truncate(to);
    }
    if 0 < from && from < to {
        keyed.select_nth_unstable_by(from, order);
    }
    keyed.drain(..from);
    keyed.sort_unstable_by(order);
    keyed.into_iter().map(|row| row.index)
}

fn words(value: &str) -> Result<Vec<String>, Cow<'static, str>> {
    match value.len() {
        ..=MAX_SEARCH => Ok(value.to_lowercase().split_whitespace().map(str::to_owned).collect()),
        _ => Err(format!("search has at most {MAX_SEARCH} bytes").into()),
    }
}

fn number(value: &str) -> Option<usize> {
    value.bytes().all(|byte| byte.is_ascii_digit()).then(|| value.parse().ok())?
}

#[cfg(test)]
mod tests;
