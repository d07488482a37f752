//! The toy, a process of its own: two threads that copy bytes between a client and the v4 node. It reads no HTTP,
//! checks no password, routes nothing, limits nothing and counts nothing.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread;

const STACK: usize = 64 * 1024;
const BUFFER: usize = 16 * 1024;

/// Serves until it is killed.
pub fn run(port: u16, node: u16) -> io::Result<()> {
    rlimit::increase_nofile_limit(u64::MAX)?;
    let listener = lavaproxy::listener::bind((Ipv4Addr::LOCALHOST, port).into())?;
    loop {
        let (client, _) = listener.accept()?;
        thread::Builder::new().stack_size(STACK).spawn(move || serve(client, (Ipv4Addr::LOCALHOST, node).into()))?;
    }
}

fn serve(client: TcpStream, node: SocketAddr) {
    let Ok(node) = TcpStream::connect(node) else { return };
    if client.set_nodelay(true).and(node.set_nodelay(true)).is_err() {
        return;
    }
    let ends = Arc::new((client, node));
    let other = Arc::clone(&ends);
    let back = thread::Builder::new().stack_size(STACK).spawn(move || copy(&other.1, &other.0));
    if let Ok(back) = back {
        copy(&ends.0, &ends.1);
        let _ = back.join();
    }
}

/// Copies until the end or a failure, and passes it on.
fn copy(mut from: &TcpStream, mut to: &TcpStream) {
    let mut buffer = [0; BUFFER];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
    let _ = from.shutdown(Shutdown::Read);
}
