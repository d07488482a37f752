//! What a node does with requests of bots that play: they go to a pretend Lavalink behind it, and its answers back.

use std::io::{self, ErrorKind, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread;

use crate::wire::{Tried, Trouble, Wire, value};

/// Passes a request on, and its answer back. False when the Lavalink has no whole answer.
pub fn request(client: &mut Wire, head: &str, lavalink: SocketAddr) -> Tried<bool> {
    let length = value(head, "content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
    let body = client.exactly(length)?;
    match answer(head, &body, lavalink) {
        Ok(answer) => client.send(&answer).map(|()| true).map_err(Trouble::from),
        // It has been killed.
        Err(Trouble::Broken(_)) => Ok(false),
        Err(wrong) => Err(wrong),
    }
}

fn answer(head: &str, body: &[u8], lavalink: SocketAddr) -> Tried<Vec<u8>> {
    let mut server = Wire::over(Arc::new(TcpStream::connect(lavalink)?))?;
    server.send(&[head.as_bytes(), body].concat())?;
    let answer = server.head()?.ok_or(io::Error::from(ErrorKind::UnexpectedEof))?;
    let body = server.body(&answer)?;
    let framing = "\r\nTransfer-Encoding: chunked\r\n";
    match answer.contains(framing) {
        true => {
            let head = answer.replacen(framing, &format!("\r\nContent-Length: {}\r\n", body.len()), 1);
            Ok([head.as_bytes(), &body].concat())
        }
        false => Ok([answer.as_bytes(), &body].concat()),
    }
}

/// Passes a handshake on, and from then on all bytes of both directions, until either side ends.
pub fn tunnel(client: &mut Wire, head: &str, lavalink: SocketAddr) -> Tried<()> {
    let Ok(server) = TcpStream::connect(lavalink) else { return Ok(()) };
    server.set_nodelay(true)?;
    let (bot, begun) = (Arc::clone(&client.stream), client.take_pending());
    let bot = &*bot;
    bot.set_read_timeout(None)?;
    thread::scope(|scope| {
        scope.spawn(|| {
            // An error means the same as the end.
            let _ = io::copy(&mut &server, &mut &*bot);
            let _ = bot.shutdown(Shutdown::Write);
        });
        let _ = (&server).write_all(&[head.as_bytes(), &begun].concat());
        let _ = io::copy(&mut &*bot, &mut &server);
        let _ = server.shutdown(Shutdown::Both);
    });
    Ok(())
}
