//! A constant load of new connections that counts what becomes of each.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread::{self, JoinHandle};

use crate::support::PATIENCE;

/// Clients that each connect, ask once, read the whole answer and begin anew, until they are called off.
pub struct Load {
    over: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    clients: Vec<JoinHandle<Vec<String>>>,
}

impl Load {
    /// `count` clients for each of the listeners and its request, whose answer ends like this.
    pub fn start(count: usize, wants: &[(SocketAddr, String, &'static str)]) -> Self {
        let (over, answered) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let clients = wants.iter().flat_map(|want| std::iter::repeat_n(want.clone(), count)).map(|want| {
            let (over, answered) = (Arc::clone(&over), Arc::clone(&answered));
            thread::spawn(move || {
                let mut lost = Vec::new();
                while !over.load(SeqCst) {
                    match ask(&want) {
                        Ok(()) => drop(answered.fetch_add(1, SeqCst)),
                        Err(why) => lost.push(why),
                    }
                }
                lost
            })
        });
        let clients = clients.collect();
        Self { over, answered, clients }
    }

    /// How many have got their answer so far.
    pub fn answered(&self) -> u64 {
        self.answered.load(SeqCst)
    }

    /// How many got their answer, and why the others did not.
    pub fn end(self) -> (u64, Vec<String>) {
        self.over.store(true, SeqCst);
        let lost = self.clients.into_iter().flat_map(|client| client.join().unwrap()).collect();
        (self.answered.load(SeqCst), lost)
    }
}

fn ask((listener, request, ending): &(SocketAddr, String, &'static str)) -> Result<(), String> {
    let mut stream = TcpStream::connect(listener).map_err(|error| format!("connect: {error}"))?;
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(request.as_bytes()).map_err(|error| format!("send: {error}"))?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(|error| format!("read: {error} after {answer:?}"))?;
    match answer.starts_with("HTTP/1.1 200 ") && answer.ends_with(ending) {
        true => Ok(()),
        false => Err(format!("answer: {answer:?}")),
    }
}
