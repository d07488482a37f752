//! Storms: many bots of one node lose it at the same moment, and all of them come back at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::Instant;

use crate::ledger::Group;
use crate::load::{Load, within};
use crate::random::{Pattern, Random};
use crate::script::Dialogue;
use crate::tunnels::{open, round, was_cut};
use crate::wire::{PATIENCE, Tried, Trouble};

const BOTS: usize = 200;

/// Bots of v3, whose only node restarts once all of them have their tunnel.
pub fn reconnect(load: &Load, random: &mut Random) -> Tried<()> {
    let node = load.nodes.iter().find(|node| node.version == "v3").map(Arc::clone);
    let node = node.ok_or_else(|| Trouble::wrong("no node of v3"))?;
    let opened = AtomicUsize::new(0);
    let ended = thread::scope(|scope| {
        let bots: Vec<_> = (0..BOTS)
            .map(|_| {
                let (mut random, opened) = (Random::new(random.next()), &opened);
                let bot = move || lose_and_come_back(load, &mut random, opened);
                thread::Builder::new().stack_size(256 * 1024).spawn_scoped(scope, bot).unwrap()
            })
            .collect();
        // A bot that failed says so at its end.
        within(PATIENCE, || opened.load(SeqCst) == BOTS || bots.iter().any(|bot| bot.is_finished()));
        node.restart(random.millis(50, 500), random);
        bots.into_iter().map(|bot| bot.join().unwrap()).collect::<Tried<Vec<()>>>()
    });
    ended.map(drop)
}

fn lose_and_come_back(load: &Load, random: &mut Random, opened: &AtomicUsize) -> Tried<()> {
    tunnel(load, random, |rounds| {
        opened.fetch_add(usize::from(rounds == 0), SeqCst);
        true
    })?;
    tunnel(load, random, |rounds| rounds == 0)
}

/// A tunnel as soon as one is to be had, and messages on it while `goes_on`, which gets the number of those so far.
fn tunnel(load: &Load, random: &mut Random, mut goes_on: impl FnMut(u64) -> bool) -> Tried<()> {
    let since = Instant::now();
    loop {
        let (nonce, before) = (random.next(), load.weather("v3"));
        let opened = match open(load, Group::Abrupt, "v3", nonce, "&end=client-closes") {
            Err(Trouble::Broken(error)) if !load.was_fair_since("v3", before) => Err(error.to_string()),
            other => other?,
        };
        let Ok((mut connection, _)) = opened else {
            load.trouble("no tunnel in a storm");
            if since.elapsed() > PATIENCE {
                return Err(Trouble::wrong("no tunnel long after a storm"));
            }
            thread::sleep(random.millis(20, 200));
            continue;
        };
        let (mut up, mut down, mut sizes) = (Pattern::up(nonce), Pattern::down(nonce), Dialogue::new(nonce));
        let mut rounds = 0;
        while goes_on(rounds) {
            match round(&mut connection, &mut up, &mut down, &mut sizes) {
                Err(Trouble::Broken(error)) => {
                    let is_fair = load.was_fair_since("v3", before);
                    return was_cut(connection, &error, "client-closes", is_fair);
                }
                other => other?,
            }
            rounds += 1;
            thread::sleep(random.millis(50, 300));
        }
        return Ok(());
    }
}
