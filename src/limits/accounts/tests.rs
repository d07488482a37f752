#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::hint::black_box;

use super::*;

const NOW: SystemTime = SystemTime::UNIX_EPOCH;

fn account(name: &str, password: &str) -> config::Account {
    without_limits(name, &Secret::new(password.to_owned()))
}

fn all(default: &str, accounts: &[config::Account], before: Option<&Accounts>) -> Arc<Accounts> {
    Accounts::new(&Secret::new(default.to_owned()), accounts, before)
}

/// One account, whose password is `hunter2`.
fn one(change: impl FnOnce(&mut config::Account)) -> Arc<Account> {
    let mut settings = account("alice", "hunter2");
    change(&mut settings);
    Arc::clone(all("DevamOP", &[settings], None).find(b"hunter2").unwrap())
}

fn name_of(accounts: &Accounts, sent: &str) -> Option<String> {
    accounts.find(sent.as_bytes()).map(|account| account.name().to_string())
}

#[test]
fn a_whole_password_finds_its_account() {
    let accounts = all("DevamOP", &[account("alice", "wonderland"), account("bob", "wonder")], None);
    for (sent, name) in [("DevamOP", "default"), ("wonderland", "alice"), ("wonder", "bob")] {
        assert_eq!(name_of(&accounts, sent).as_deref(), Some(name), "{sent}");
    }
    for sent in
        ["", "w", "wonderlan", "wonderlandx", "Wonderland", "wonderlanD", "alice", "default", "DevamO", "\0", " "]
    {
        assert_eq!(name_of(&accounts, sent), None, "{sent}");
    }
    assert_eq!(accounts.find(b"wonderland\xff").map(|account| account.id()), None);
    let names: Vec<&str> = accounts.all().iter().map(|account| &**account.name()).collect();
    assert_eq!(names, ["default", "alice", "bob"]);
    assert_eq!(all("DevamOP", &[], None).all().len(), 1);
}

#[test]
fn two_passwords_with_one_hash_are_told_apart() {
    let accounts = all("DevamOP", &[account("alice", "wonderland"), account("bob", "builder")], None);
    // No pair with one 64-bit hash can be found here, so both are put in one place.
    let mut accounts = Arc::into_inner(accounts).unwrap();
    let both: Vec<_> = accounts.all[1..].to_vec();
    accounts.by_hash.clear();
    for sent in ["wonderland", "builder", "wrong"] {
        let hash = accounts.hash.hash_one(sent.as_bytes());
        accounts.by_hash.extend(both.iter().map(|account| (hash, Arc::clone(account))));
    }
    accounts.by_hash.sort_by_key(|(hash, _)| *hash);
    for (sent, name) in [("wonderland", Some("alice")), ("builder", Some("bob")), ("wrong", None)] {
        assert_eq!(name_of(&accounts, sent).as_deref(), name, "{sent}");
    }
}

#[test]
fn each_of_ten_thousand_accounts_is_found() {
    let file: Vec<_> = (0..10_000).map(|number| account(&format!("a{number}"), &format!("hunter2-{number}"))).collect();
    let accounts = all("DevamOP", &file, None);
    for number in 0..10_000 {
        assert_eq!(name_of(&accounts, &format!("hunter2-{number}")), Some(format!("a{number}")));
    }
    assert_eq!(name_of(&accounts, "hunter2-10000"), None);
    assert_eq!(name_of(&accounts, "DevamOP").as_deref(), Some("default"));
    let ids: std::collections::HashSet<u64> = accounts.all().iter().map(|account| account.id()).collect();
    assert_eq!(ids.len(), 10_001);
}

#[test]
fn an_account_keeps_its_id_and_its_use_over_a_reload() {
    let before = all("DevamOP", &[account("alice", "one"), account("bob", "two"), account("carol", "three")], None);
    let id = |accounts: &Accounts, sent: &str| accounts.find(sent.as_bytes()).unwrap().id();
    let hold = before.find(b"one").unwrap().hold().unwrap();
    let changed = before.find(b"two").unwrap().hold().unwrap();

    let mut alice = account("alice", "one");
    alice.connections = Some(1);
    let after = all("DevamOP", &[account("dave", "three"), account("bob", "other"), alice.clone()], Some(&before));
    assert_eq!(id(&after, "one"), id(&before, "one"));
    assert_eq!(after.find(b"one").unwrap().connections(), 1);
    after.find(b"one").unwrap().hold().expect_err("the connection from before the reload counts");
    assert!(after.is_valid(hold.account().id(), NOW));

    assert!(!after.is_valid(changed.account().id(), NOW), "another password is another account");
    assert_eq!(after.find(b"other").unwrap().connections(), 0);
    assert!(!after.is_valid(id(&before, "three"), NOW), "so is another name");
    let of = |accounts: &Accounts| accounts.all().iter().map(|account| account.id()).collect::<Vec<_>>();
    assert!(of(&after)[1..3].iter().all(|new| !of(&before).contains(new)), "{after:?}");

    drop((hold, changed));
    assert_eq!(after.find(b"one").unwrap().connections(), 0);

    // An account that was taken away and comes back is a new one, whose id nobody has had.
    let without = all("DevamOP", &[], Some(&after));
    assert!(!without.is_valid(id(&after, "one"), NOW));
    let again = all("DevamOP", &[alice], Some(&without));
    assert!(!of(&after).contains(&id(&again, "one")) && !of(&before).contains(&id(&again, "one")));
}

#[test]
fn the_default_account_stays_valid_when_its_password_changes() {
    let before = all("DevamOP", &[], None);
    let hold = before.find(b"DevamOP").unwrap().hold().unwrap();
    let after = all("other", &[], Some(&before));
    let id = hold.account().id();
    assert_eq!((after.find(b"other").unwrap().id(), after.find(b"DevamOP").is_none()), (id, true));
    assert!(before.is_valid(id, NOW) && after.is_valid(id, NOW));
    assert_eq!(after.find(b"other").unwrap().connections(), 1);
    drop(hold);
    assert_eq!(after.find(b"other").unwrap().connections(), 0);
}

#[test]
fn a_rate_is_kept_over_a_reload() {
    let mut alice = account("alice", "hunter2");
    alice.requests_per_second = Some(1);
    let before = all("DevamOP", &[alice.clone()], None);
    let now = Instant::now();
    for _ in 0..4 {
        before.find(b"hunter2").unwrap().request_at(|| now).unwrap();
    }
    let after = all("DevamOP", &[alice], Some(&before));
    after.find(b"hunter2").unwrap().request_at(|| now).expect_err("the burst is used up");
}

#[test]
fn an_account_is_refused_while_disabled_or_expired() {
    let end = NOW + SECOND;
    let is_valid = |settings: &config::Account, now| {
        let accounts = all("DevamOP", std::slice::from_ref(settings), None);
        let account = accounts.find(b"hunter2").unwrap();
        let valid = accounts.is_valid(account.id(), now);
        assert_eq!(valid, account.refusal(|| now).is_none());
        assert_eq!(valid, account.check(|| now, Lavalink::V4).is_ok());
        valid
    };
    let mut settings = account("alice", "hunter2");
    assert!(is_valid(&settings, NOW));
    settings.expires = Some(end);
    assert!(is_valid(&settings, end - Duration::from_nanos(1)));
    assert!(!is_valid(&settings, end));
    assert!(matches!(one(|account| account.expires = Some(end)).refusal(|| end), Some(AccountFault::Expired)));
    settings.enabled = false;
    assert!(!is_valid(&settings, NOW));
    let disabled = one(|account| (account.enabled, account.expires) = (false, Some(end)));
    assert!(matches!(disabled.refusal(|| end), Some(AccountFault::Disabled)));
    assert!(!all("DevamOP", &[], None).is_valid(7, NOW));
}

#[test]
fn an_account_is_for_its_versions_only() {
    for version in Lavalink::ALL {
        let account = one(|account| account.versions = PerVersion::new(|of| of == version));
        account.check(|| NOW, version).unwrap();
        let other = if version == Lavalink::V3 { Lavalink::V4 } else { Lavalink::V3 };
        let fault = account.check(|| NOW, other).unwrap_err();
        assert!(matches!(fault, Fault::Account(AccountFault::Version(refused)) if refused == other), "{fault}");
        assert_eq!(fault.status(), 403);
    }
    let both = one(|_| ());
    Lavalink::ALL.into_iter().for_each(|version| both.check(|| NOW, version).unwrap());
}

#[test]
fn connections_are_counted_until_their_hold_is_dropped() {
    let account = one(|account| account.connections = Some(2));
    let first = account.hold().unwrap();
    let second = account.hold().unwrap();
    let fault = account.hold().unwrap_err();
    assert!(matches!(fault, Fault::OverLimit { limit: Limit::AccountConnections(2), retry_after: 5 }), "{fault:?}");
    assert_eq!(account.connections(), 2);
    drop(first);
    let third = account.hold().unwrap();
    assert_eq!((account.connections(), &**third.account().name()), (2, "alice"));
    drop((second, third));
    assert_eq!(account.connections(), 0);

    let unlimited = one(|_| ());
    let holds: Vec<_> = (0..1000).map(|_| unlimited.hold().unwrap()).collect();
    assert_eq!(unlimited.connections(), holds.len());
}

#[test]
fn no_more_connections_than_allowed_when_many_come_at_once() {
    const ALLOWED: usize = 2;
    let account = one(|account| account.connections = Some(ALLOWED));
    let start = std::sync::Barrier::new(4);
    let most = || {
        start.wait();
        let open = |_| account.hold().map_or(0, |hold| hold.account().connections());
        (0..20_000).map(open).max().unwrap()
    };
    let most = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(most)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).max().unwrap()
    });
    assert!(most <= ALLOWED, "{most} were open at once");
    assert_eq!(account.connections(), 0);
}

#[test]
fn requests_have_a_rate_and_a_burst_of_four_seconds() {
    let account = one(|account| account.requests_per_second = Some(3));
    let start = Instant::now();
    let refused = |at: Instant| match account.request_at(|| at) {
        Ok(()) => None,
        Err(Fault::OverLimit { limit: Limit::AccountRequests(3), retry_after }) => Some(retry_after),
        Err(fault) => panic!("{fault:?}"),
    };
    for request in 0..12 {
        assert_eq!(refused(start), None, "{request}");
    }
    for _ in 0..100 {
        assert_eq!(refused(start), Some(1), "a refused request is not counted");
    }
    // One more each third of a second.
    for number in 1..=30 {
        let at = start + SECOND * number / 3;
        assert_eq!(refused(at), None, "{number}");
        assert_eq!(refused(at), Some(1), "{number}");
    }
    let later = start + SECOND * 3600;
    assert_eq!((0..100).filter(|_| refused(later).is_none()).count(), 12, "a pause gives no more than a burst");
    assert!(refused(start).is_some(), "a clock that goes back is no fault");

    let slow = one(|account| account.requests_per_second = Some(1));
    assert_eq!((0..100).filter(|_| slow.request_at(|| start).is_ok()).count(), 4);
    let unlimited = one(|_| ());
    assert!((0..10_000).all(|_| unlimited.request().is_ok()));
    let fastest = one(|account| account.requests_per_second = Some(u32::MAX));
    assert!((0..10_000).all(|_| fastest.request_at(|| start).is_ok()));
}

#[test]
fn no_format_shows_a_password() {
    let accounts = all("hunter2-default", &[account("alice", "hunter2")], None);
    let hold = accounts.find(b"hunter2").unwrap().hold().unwrap();
    let shown = format!("{accounts:?} {accounts:#?} {hold:?} {:?}", accounts.all());
    assert!(shown.contains("alice") && !shown.contains("hunter2"), "{shown}");
}

/// The shortest time of a lookup in many batches. Other work on the machine makes some batches longer and none shorter,
/// so the shortest one is that of a lookup alone.
fn shortest(accounts: &Accounts, sent: &[u8]) -> Duration {
    const BATCHES: u32 = 300;
    const LOOKUPS: u32 = 10;
    let batch = || {
        let start = Instant::now();
        for _ in 0..LOOKUPS {
            black_box(accounts.find(black_box(sent)));
        }
        start.elapsed() / LOOKUPS
    };
    (0..BATCHES).map(|_| batch()).min().unwrap()
}

/// Measures lookups with 1 and with 10,000 accounts of the file: of a right password, and of wrong ones of the same
/// length that share nothing or all but the last byte with it. A search through all accounts, or a comparison that ends
/// at the first wrong byte of these long passwords, takes many times as long in one case as in another. The factor of 3
/// leaves room for the caches of the processor. A right password may take longer than a wrong one: the answer tells
/// which it is anyway.
#[test]
fn the_time_of_a_lookup_does_not_depend_on_the_passwords() {
    const LENGTH: usize = 1000;
    let password = |number: usize| format!("{}{number:06}", "x".repeat(LENGTH - 6));
    let file: Vec<_> = (0..10_000).map(|number| account(&format!("a{number}"), &password(number))).collect();
    let few = all("DevamOP", &file[9_999..], None);
    let many = all("DevamOP", &file, None);
    let right = password(9_999);
    let far = "y".repeat(LENGTH);
    let near = format!("{}y", &right[..LENGTH - 1]);
    let (mut times_of_right, mut times_of_wrong) = (Vec::new(), Vec::new());
    for (accounts, count) in [(&few, 1), (&many, 10_000)] {
        assert_eq!(name_of(accounts, &right).as_deref(), Some("a9999"));
        assert!(accounts.find(far.as_bytes()).is_none() && accounts.find(near.as_bytes()).is_none());
        times_of_right.push((shortest(accounts, right.as_bytes()), "right", count));
        for (kind, sent) in [("far", &far), ("near", &near)] {
            times_of_wrong.push((shortest(accounts, sent.as_bytes()), kind, count));
        }
    }
    for times in [times_of_right, times_of_wrong] {
        let (fastest, slowest) = (times.iter().min().unwrap(), times.iter().max().unwrap());
        assert!(slowest.0 < fastest.0 * 3, "{times:?}");
    }
}
