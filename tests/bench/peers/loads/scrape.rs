//! What it costs to be watched: /metrics and /api/stats each second, with every tunnel busy.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use crate::bench::{Bench, Findings};
use crate::compare::{Row, Spread, Verdict};
use crate::contestant::Contestant::Lavaproxy;
use crate::contestant::Running;
use crate::loads::messages::{PACE, SMALL};
use crate::tunnels::Tunnels;

const GOAL: f64 = 1.02;
const EACH: Duration = Duration::from_secs(1);

pub fn run(bench: &Bench, findings: &mut Findings) {
    let count = bench.count(5000);
    let load = format!("a scrape each second at {count} tunnels × 5/s");
    match compare(bench, count) {
        Ok(ratio) => {
            let median = ratio.map(|ratio| ratio.median);
            let ours = ratio.map_or("failed".to_owned(), |ratio| format!("{ratio:.3} × without"));
            let verdict = Verdict::at_most(format!("≤ {GOAL} × without"), median, GOAL);
            findings.rows.push(Row::alone(&load, "CPU", ours, vec![verdict]));
        }
        Err(error) => findings.failures.push(format!("{load}: {error}")),
    }
}

/// The CPU time with scrapes for that without, by round.
fn compare(bench: &Bench, count: usize) -> io::Result<Option<Spread>> {
    let running = bench.stage.start(Lavaproxy)?;
    let (mut tunnels, _) = Tunnels::open(running.address, count, SMALL)?;
    tunnels.run_paced(PACE, bench.window)?;
    let mut ratios = Vec::new();
    for round in 1..=bench.rounds {
        eprintln!("a scrape each second, round {round} of {}", bench.rounds);
        // Whole seconds, so that each window has as many scrapes; the order changes with the round.
        let window = bench.window * 2;
        let mut cpu = |scrapes| cpu_of(&running, &mut tunnels, window, scrapes);
        let (with, without) = if round % 2 == 0 {
            let with = cpu(true)?;
            (with, cpu(false)?)
        } else {
            let without = cpu(false)?;
            (cpu(true)?, without)
        };
        ratios.push(with / without);
    }
    Ok(Spread::of(ratios))
}

/// CPU time for a message, with or without scrapes meanwhile.
fn cpu_of(running: &Running, tunnels: &mut Tunnels, window: Duration, scrapes: bool) -> io::Result<f64> {
    let web = running.web;
    let before = running.cpu()?;
    let (stop, stopped) = mpsc::channel::<()>();
    let scraper = scrapes.then(|| {
        thread::spawn(move || {
            loop {
                get(web, "/metrics")?;
                get(web, "/api/stats")?;
                if stopped.recv_timeout(EACH) != Err(RecvTimeoutError::Timeout) {
                    return Ok(());
                }
            }
        })
    });
    let tally = tunnels.run_paced(PACE, window)?;
    drop(stop);
    if let Some(scraper) = scraper {
        scraper.join().unwrap_or_else(|_| Err(io::Error::other("the scraper panicked")))?;
    }
    Ok(running.cpu()?.saturating_sub(before).as_secs_f64() / tally.operations())
}

fn get(web: SocketAddr, path: &str) -> io::Result<()> {
    let mut stream = TcpStream::connect(web)?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let is_fine = answer.starts_with(b"HTTP/1.1 200 ");
    if is_fine { Ok(()) } else { Err(io::Error::other(format!("{path} is not answered"))) }
}
