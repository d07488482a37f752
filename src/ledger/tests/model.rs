//! A chain of ledgers, each the successor of the one before, against a simple model of what they must count.

use std::array;
use std::collections::BTreeMap;

use super::*;
use crate::http::random::Random;

/// Addresses, bots and accounts.
const BOOKS: usize = 3;
/// How many keys of each there are.
const KEYS: usize = 12;

type Figures = BTreeMap<String, Counted>;

/// What one connection counts for in one book.
#[derive(Default)]
struct Part {
    key: Option<String>,
    /// What the connection takes along as long as it can move whole.
    own: Counted,
    /// Read, and still of the current key, but of the next one if the request that it belongs to has another.
    pending: Amount,
    handed_over: bool,
    /// The connection itself counts for a key.
    is_counted: bool,
    /// What is used counts for no key.
    is_detached: bool,
}

struct Connection {
    entry: Entry,
    ledger: Arc<Ledger>,
    requests: u64,
    /// Bytes that were read and that no request has taken yet.
    unread: usize,
    parts: [Part; BOOKS],
}

struct Model {
    random: Random,
    bound: usize,
    /// The oldest first. Only the last one gets new connections.
    ledgers: Vec<Arc<Ledger>>,
    connections: Vec<Connection>,
    figures: [Figures; BOOKS],
    total: Counted,
    ended: u64,
    refused: u64,
    since: u64,
}

fn requests(count: u64) -> Amount {
    Amount { requests: count, ..Amount::default() }
}

fn bytes(bytes_in: usize, bytes_out: usize) -> Amount {
    Amount { bytes_in: bytes_in as u64, bytes_out: bytes_out as u64, ..Amount::default() }
}

fn key(book: usize, number: usize) -> String {
    match book {
        0 => address(number as u32).ip().to_string(),
        1 => format!("bot-{number}"),
        _ => format!("account-{number}"),
    }
}

impl Part {
    /// Counts for the current key what is pending beyond the bytes that are unread.
    fn flush(&mut self, unread: usize, figures: &mut Figures) {
        let rest = bytes(self.pending.bytes_in.min(unread as u64) as usize, 0);
        let amount = self.pending.less(rest);
        self.pending = rest;
        self.count(amount, figures);
    }

    fn count(&mut self, amount: Amount, figures: &mut Figures) {
        if self.is_detached {
            return;
        }
        self.own.amount.add(amount);
        if let Some(key) = &self.key {
            figures.get_mut(key).unwrap().amount.add(amount);
        }
    }

    fn attribute(&mut self, key: String, is_first_request: bool, unread: usize, figures: &mut Figures) {
        if self.key.as_ref() != Some(&key) {
            let moves_whole = !self.is_counted || (is_first_request && !self.handed_over);
            let to = figures.entry(key.clone()).or_default();
            if moves_whole {
                to.add(self.own);
                if let Some(before) = self.key.take() {
                    let before = figures.get_mut(&before).unwrap();
                    *before = before.less(self.own);
                }
            }
            self.key = Some(key);
            (self.is_counted, self.is_detached) = (true, false);
        }
        self.flush(unread, figures);
    }

    /// Another client's request begins. What is pending is of that request.
    fn detach(&mut self) {
        self.key = None;
        self.own.amount = Amount::default();
        self.is_detached = true;
    }
}

impl Model {
    fn new(seed: u64, bound: usize) -> Self {
        let ledger = Ledger::bounded(bound);
        Self {
            random: Random(seed),
            bound,
            since: ledger.started_at,
            ledgers: vec![ledger],
            connections: Vec::new(),
            figures: array::from_fn(|_| Figures::new()),
            total: Counted::default(),
            ended: 0,
            refused: 0,
        }
    }

    fn newest(&self) -> &Arc<Ledger> {
        self.ledgers.last().unwrap()
    }

    fn step(&mut self) {
        match self.random.below(40) {
            0..6 => self.open(),
            6..11 => self.with_connection(Self::read),
            11..24 => self.with_connection(Self::request),
            24..28 => self.with_connection(Self::pass),
            28..31 => self.with_connection(Self::close),
            31 => self.with_connection(|model, connection| {
                model.refused += 1;
                connection.entry.count_refusal(*model.random.pick(&End::ALL));
                Some(connection)
            }),
            _ => self.disturb(),
        }
    }

    /// What may happen between any two steps of a connection.
    fn disturb(&mut self) {
        match self.random.below(24) {
            0 => self.upgrade(true),
            1 => self.upgrade(false),
            2 => self.restart(),
            3..8 => self.report(),
            8..12 => self.newest().tick(),
            12..14 => drop((self.newest().save(), self.newest().snapshot())),
            14..16 => self.check(),
            _ => self.check_sums(),
        }
    }

    fn open(&mut self) {
        let number = self.random.below(KEYS);
        let ledger = Arc::clone(self.newest());
        let entry = ledger.open(address(number as u32), if number < 4 { "proxy" } else { "proxy-v4" });
        let own = Counted { connections: 1, ..Counted::default() };
        let mut parts: [Part; BOOKS] = array::from_fn(|_| Part { own, ..Part::default() });
        parts[0].attribute(key(0, number), true, 0, &mut self.figures[0]);
        self.total.connections += 1;
        let mut connection = Connection { entry, ledger, requests: 0, unread: 0, parts };
        if self.random.below(3) == 0 {
            self.read_proxy_header(&mut connection);
        }
        self.connections.push(connection);
    }

    fn read_proxy_header(&mut self, connection: &mut Connection) {
        self.read_bytes(connection, 28);
        connection.unread -= 20;
        let number = self.random.below(KEYS);
        connection.entry.attribute_to(ClientAddr::new(address(number as u32).ip(), None), connection.unread);
        let unread = connection.unread;
        for (book, part) in connection.parts.iter_mut().enumerate() {
            match book {
                0 => part.attribute(key(0, number), true, unread, &mut self.figures[0]),
                _ => part.flush(unread, &mut self.figures[book]),
            }
        }
    }

    /// The connection stays open unless `act` returns none. It is among the others while others are disturbed.
    fn with_connection(&mut self, act: impl FnOnce(&mut Self, Connection) -> Option<Connection>) {
        if self.connections.is_empty() {
            return;
        }
        let index = self.random.below(self.connections.len());
        let connection = self.connections.swap_remove(index);
        let kept = act(self, connection);
        self.connections.extend(kept);
    }

    fn read(&mut self, mut connection: Connection) -> Option<Connection> {
        let count = 1 + self.random.below(50);
        self.read_bytes(&mut connection, count);
        Some(connection)
    }

    fn read_bytes(&mut self, connection: &mut Connection, count: usize) {
        pass(&connection.entry, count, 0);
        connection.unread += count;
        self.total.amount.add(bytes(count, 0));
        connection.parts.iter_mut().for_each(|part| part.pending.add(bytes(count, 0)));
    }

    /// The body of a request, its answer, or what a tunnel carries. No body follows a head that was read after it.
    fn pass(&mut self, mut connection: Connection) -> Option<Connection> {
        let bytes_in = if connection.unread == 0 { self.random.below(200) } else { 0 };
        let amount = bytes(bytes_in, self.random.below(2000));
        pass(&connection.entry, amount.bytes_in as usize, amount.bytes_out as usize);
        self.total.amount.add(amount);
        for (part, figures) in connection.parts.iter_mut().zip(&mut self.figures) {
            part.count(amount, figures);
        }
        Some(connection)
    }

    fn close(&mut self, mut connection: Connection) -> Option<Connection> {
        self.ended += 1;
        connection.entry.ends_as(*self.random.pick(&End::ALL));
        for (part, figures) in connection.parts.iter_mut().zip(&mut self.figures) {
            part.flush(0, figures);
        }
        None
    }

    /// A request, which may be one of several that were read at once. It is refused before it has an account, or before
    /// it names its bot, or it names none.
    fn request(&mut self, mut connection: Connection) -> Option<Connection> {
        let head = 1 + self.random.below(40);
        let missing = head.saturating_sub(connection.unread);
        self.read_bytes(&mut connection, missing);
        connection.entry.count_request();
        connection.requests += 1;
        self.total.amount.add(requests(1));
        connection.parts.iter_mut().for_each(|part| part.pending.add(requests(1)));
        let before = connection.unread;
        connection.unread -= head;
        let keys: [usize; BOOKS] = array::from_fn(|_| self.random.below(KEYS));
        let (index, noted) = (self.connections.len(), 1 + self.random.below(BOOKS));
        self.connections.push(connection);
        // The books in the order in which connections note them.
        for book in [0, 2, 1].into_iter().take(noted) {
            if self.random.below(8) == 0 {
                self.disturb();
            }
            self.note(index, book, keys[book], before);
        }
        // A restart has ended it.
        let connection = self.connections.get_mut(index)?;
        for (part, figures) in connection.parts.iter_mut().zip(&mut self.figures) {
            part.flush(connection.unread, figures);
        }
        None
    }

    fn note(&mut self, index: usize, book: usize, number: usize, unread: usize) {
        let Some(connection) = self.connections.get_mut(index) else { return };
        let (node, backend) = ("v4".into(), "127.0.0.1:2333".into());
        let name = key(book, number);
        match book {
            0 => connection.entry.attribute_to(ClientAddr::new(address(number as u32).ip(), None), unread),
            2 => connection.entry.note_account(&name.as_str().into()),
            _ => {
                let version = [None, Some(Lavalink::V3), Some(Lavalink::V4)][number % 3];
                let info = ClientInfo { user_id: name.as_bytes(), client_name: b"library/1", user_agent: b"" };
                connection.entry.note_request(version, &node, &backend, info);
            }
        }
        let is_first = connection.requests == 1;
        if book == 0 && !is_first && connection.parts[0].key.as_ref() != Some(&name) {
            connection.parts[1..].iter_mut().for_each(Part::detach);
        }
        connection.parts[book].attribute(name, is_first, connection.unread, &mut self.figures[book]);
    }

    /// Hands over to a new ledger, which takes the place of this one unless it fails.
    fn upgrade(&mut self, succeeds: bool) {
        if self.ledgers.len() > 3 {
            return;
        }
        let handed = self.newest().hand_over();
        self.close_open(self.ledgers.len() - 1);
        if succeeds {
            let successor = Ledger::bounded(self.bound);
            successor.restore(through_json(&handed));
            self.ledgers.push(successor);
        }
    }

    /// What a ledger has handed over or reported cannot move any more.
    fn close_open(&mut self, index: usize) {
        for connection in self.connections.iter_mut().filter(|one| Arc::ptr_eq(&one.ledger, &self.ledgers[index])) {
            let parts = connection.parts.iter_mut().zip(&mut self.figures);
            for (part, figures) in parts.filter(|(part, _)| part.key.is_some()) {
                part.flush(0, figures);
                part.handed_over = true;
            }
        }
    }

    /// Everything is saved, and all connections are lost with their process.
    fn restart(&mut self) {
        if self.ledgers.len() > 1 || self.random.below(4) > 0 {
            return;
        }
        let ledger = Ledger::bounded(self.bound);
        ledger.restore(through_json(&self.newest().save()));
        for mut connection in self.connections.drain(..) {
            for (part, figures) in connection.parts.iter_mut().zip(&mut self.figures) {
                part.flush(0, figures);
            }
        }
        self.ledgers = vec![ledger];
    }

    /// A predecessor reports to its successor; without a connection it is the last report of the oldest one.
    fn report(&mut self) {
        if self.ledgers.len() == 1 {
            return;
        }
        let index = self.random.below(self.ledgers.len() - 1);
        self.report_of(index);
        if index == 0 && !self.connections.iter().any(|one| Arc::ptr_eq(&one.ledger, &self.ledgers[0])) {
            self.ledgers[1].keep_predecessor();
            self.ledgers.remove(0);
        }
    }

    fn report_of(&mut self, index: usize) {
        let remainder = self.ledgers[index].remainder();
        self.close_open(index);
        super::assert_saved_adds_up(&remainder);
        self.ledgers[index + 1].set_predecessor(through_json(&remainder));
    }

    /// In every ledger the rows are the totals, also when a predecessor has more to report.
    fn check_sums(&self) {
        for ledger in &self.ledgers {
            super::assert_adds_up(ledger);
        }
    }

    /// After all have reported, the newest ledger has exactly the model's figures.
    fn check(&mut self) {
        (0..self.ledgers.len() - 1).for_each(|index| self.report_of(index));
        self.check_sums();
        let newest = self.newest();
        let (snapshot, saved) = (newest.snapshot(), newest.save());
        assert_eq!((saved.since, snapshot.since), (self.since, self.since));
        let totals = &snapshot.totals;
        assert_eq!(Counted { connections: totals.connections, amount: totals.traffic.amount }, self.total);
        assert_eq!(snapshot.ended.values().sum::<u64>(), self.ended);
        assert_eq!(saved.counters.refused.values().sum::<u64>(), self.refused);
        let shown = |rows: Vec<(String, Used)>| -> Figures {
            let counted = |used: Used| Counted { connections: used.connections, amount: used.traffic.amount };
            rows.into_iter().map(|(name, used)| (name, counted(used))).collect()
        };
        self.check_book(0, &shown(snapshot.usage.into_iter().map(|row| (row.address, row.used)).collect()));
        self.check_book(1, &shown(newest.bots().into_iter().map(|row| (row.user_id.to_string(), row.used)).collect()));
        self.check_book(
            2,
            &shown(newest.accounts().into_iter().map(|row| (row.account.to_string(), row.used)).collect()),
        );
    }

    fn check_book(&self, book: usize, shown: &Figures) {
        let mut expected = self.figures[book].clone();
        for part in self.connections.iter().map(|connection| &connection.parts[book]) {
            if let Some(key) = &part.key {
                expected.get_mut(key).unwrap().amount.add(part.pending);
            }
        }
        expected.retain(|_, counted| !counted.is_nothing());
        if !shown.contains_key("others") {
            let mut shown = shown.clone();
            shown.retain(|_, counted| !counted.is_nothing());
            assert_eq!(shown, expected);
            return;
        }
        let sum = |figures: &Figures| {
            let mut sum = Counted::default();
            figures.values().for_each(|counted| sum.add(*counted));
            sum
        };
        assert_eq!(sum(shown), sum(&expected));
        for (key, counted) in shown.iter().filter(|(key, _)| *key != "others") {
            let most = expected.get(key).copied().unwrap_or_default();
            assert!(counted.less(most).is_nothing(), "{key} has {counted:?} of {most:?}");
        }
    }

    fn end(&mut self) {
        while !self.connections.is_empty() {
            self.with_connection(Self::close);
        }
        while self.ledgers.len() > 1 {
            self.report();
        }
        self.check();
    }
}

fn through_json(saved: &Saved) -> Saved {
    let text = serde_json::to_string(saved).unwrap();
    let read: Saved = serde_json::from_str(&text).unwrap();
    assert_eq!(read, *saved, "{text}");
    read
}

/// Runs of seeds that never change and of one that does.
fn run(bound: usize) {
    let changing = unix_millis() | 1;
    for seed in (1..=24u64).map(|number| number.wrapping_mul(0x9E37_79B9_7F4A_7C15)).chain([changing]) {
        println!("bound {bound}, seed {seed}");
        let mut model = Model::new(seed, bound);
        (0..500).for_each(|_| model.step());
        model.end();
    }
}

#[test]
fn ledgers_that_follow_each_other_count_what_happened() {
    run(MAX_ROWS);
}

#[test]
fn ledgers_that_fold_and_follow_each_other_count_what_happened() {
    run(5);
}
