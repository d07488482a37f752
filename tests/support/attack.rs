//! Attacks on a web listener, one at a time, and what must hold after each.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::backtrace::Backtrace;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::support::*;
use super::web::{ask_at, get};

/// How soon the next client must be served.
pub const SOON: Duration = Duration::from_secs(2);
/// So many threads may stay for the next clients: the listener's workers, and as many that tiny_http answers them with.
const WORKERS: usize = 64 + 64;
/// What allocators keep of memory that was given back, in bytes.
const SLACK: u64 = 32 * 1024 * 1024;

/// The proxy that is attacked, and what the process held when it had served a few requests.
pub static TARGET: LazyLock<(Proxy, Held)> = LazyLock::new(|| {
    let proxy = Proxy::start(&[]);
    let listener = proxy.listener("web");
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(move || ask_at(listener, "GET", "/api/health", ""));
        }
    });
    // The panic of a test that fails reads the debug information, tens of MiB: which must not count as a leak of the next tests.
    drop(Backtrace::force_capture().to_string());
    let held = Held::now();
    (proxy, held)
});

static ALONE: Mutex<()> = Mutex::new(());

#[derive(Clone, Copy, Debug)]
pub struct Held {
    pub threads: usize,
    pub descriptors: usize,
    pub memory: u64,
}

impl Held {
    pub fn now() -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let memory = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        let memory = memory.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024;
        Self { threads: threads(), descriptors: descriptors(), memory }
    }
}

/// One attack at a time.
pub struct Attack {
    pub proxy: &'static Proxy,
    _alone: MutexGuard<'static, ()>,
}

impl Attack {
    pub fn begin() -> Self {
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        Self { proxy: &TARGET.0, _alone: alone }
    }

    pub fn connect(&self) -> Client {
        Client::connect(self.proxy.listener("web"))
    }

    /// A new client gets its answer, at the first try and soon.
    pub fn serves(&self) {
        let started = Instant::now();
        let answer = get(self.proxy, "/api/version");
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert!(started.elapsed() < SOON, "only after {:?}", started.elapsed());
    }

    /// To be called when the attackers have let go of all they held.
    pub fn leaves_no_mark(&self) {
        self.serves();
        let before = TARGET.1;
        let mut now = Held::now();
        eventually("what was held is given back", || {
            now = Held::now();
            now.descriptors <= before.descriptors && now.threads <= before.threads + WORKERS
        });
        assert!(now.memory <= before.memory + SLACK, "{before:?} {now:?}");
    }

    /// Sends these bytes on a connection of its own and returns the status of the answer.
    pub fn status(&self, bytes: &[u8]) -> u16 {
        self.connect().send(bytes).response().status
    }
}

/// Runs `check` while so many threads run `attack` again and again.
pub fn while_under_fire(attackers: usize, attack: impl Fn(usize, &AtomicBool) + Sync, check: impl FnOnce()) {
    /// Calls the attackers off, also when the check fails.
    struct CallOff<'o>(&'o AtomicBool);
    impl Drop for CallOff<'_> {
        fn drop(&mut self) {
            self.0.store(true, SeqCst);
        }
    }
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let _call_off = CallOff(&over);
        for number in 0..attackers {
            let (attack, over) = (&attack, &over);
            scope.spawn(move || {
                while !over.load(SeqCst) {
                    attack(number, over);
                }
            });
        }
        check();
    });
}
