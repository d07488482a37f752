//! `--healthcheck`: one GET of /healthz at a running lavaproxy, for container engines. Opens one connection.

use std::fmt::Display;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use crate::config::Listen;
use crate::error::is_timeout;
use crate::http::peer::Peer;

/// How long the whole check may take; container engines wait for 30 seconds.
const PATIENCE: Duration = Duration::from_secs(5);
/// The largest answer that is read, in bytes.
const MAX_ANSWER: u64 = 1024;

/// Checks the lavaproxy whose web listener is at `web`. For a wildcard host it connects to the loopback address.
/// Returns one line to print.
///
/// # Errors
/// One line with the reason why it is not healthy.
pub fn ask(web: &Listen) -> Result<String, String> {
    let deadline = Instant::now() + PATIENCE;
    let address = address(web)?;
    let failed = |why: &dyn Display| {
        format!(
            "no answer from lavaproxy at {address}: {why}; is it running, and are WEB_HOST and WEB_PORT the same as its own?"
        )
    };
    let stream = TcpStream::connect_timeout(&address, PATIENCE).map_err(|error| failed(&error))?;
    let request = format!("GET /healthz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    let reply = Peer::new(stream).ask(request.as_bytes(), MAX_ANSWER, |stream| {
        // A timeout of zero is refused by the system.
        let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        stream.set_read_timeout(Some(left))
    });
    let reply = reply.map_err(|error| match is_timeout(&error) {
        true => failed(&format!("no answer within {}s", PATIENCE.as_secs())),
        false => failed(&error),
    })?;
    match (reply.status, &*String::from_utf8_lossy(&reply.body)) {
        (200, "ok") => Ok(format!("lavaproxy at {address}: ok")),
        (503, "stopping") => Err(format!("lavaproxy at {address}: stopping")),
        (status, _) => Err(format!("the server at {address} is not lavaproxy, or is not healthy: status {status}")),
    }
}

fn address(web: &Listen) -> Result<SocketAddr, String> {
    if web.port == 0 {
        return Err("WEB_PORT=0 lets the system choose a port: set the port of the running lavaproxy".to_owned());
    }
    let found = (web.host.trim_matches(['[', ']']), web.port).to_socket_addrs();
    let mut address = found
        .ok()
        .and_then(|mut addresses| addresses.next())
        .ok_or_else(|| format!("WEB_HOST={} has no address", web.host))?;
    if address.ip().is_unspecified() {
        address.set_ip(match address.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    Ok(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_address_becomes_loopback() {
        for (host, expected) in [
            ("0.0.0.0", Ok("127.0.0.1:6980")),
            ("::", Ok("[::1]:6980")),
            ("127.0.0.2", Ok("127.0.0.2:6980")),
            ("::1", Ok("[::1]:6980")),
            ("no-such-host.invalid", Err(())),
        ] {
            let found = address(&Listen { host: host.to_owned(), port: 6980 });
            assert_eq!(found.map(|address| address.to_string()).map_err(drop), expected.map(str::to_owned));
        }
        assert!(address(&Listen { host: "127.0.0.1".to_owned(), port: 0 }).is_err());
    }
}
