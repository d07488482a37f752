//! The ledger over sockets: usage per address outlives its connections, and rates follow what passes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;
#[path = "support/tunnels.rs"]
mod tunnels;

use std::net::{Ipv4Addr, SocketAddr};

use serde_json::Value;
use socket2::{Domain, Socket, Type};
use support::*;
use tunnels::Tunnels;

fn connect_from(ip: Ipv4Addr, proxy: &Proxy) -> Client {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((ip, 0)).into()).unwrap();
    socket.connect(&proxy.address().into()).unwrap();
    Client::over(socket.into())
}

fn row<'s>(stats: &'s Value, address: &str) -> &'s Value {
    let rows = stats["usage"].as_array().unwrap();
    rows.iter().find(|row| row["address"] == address).unwrap_or_else(|| panic!("no row for {address} in {rows:?}"))
}

#[test]
fn each_address_keeps_its_counts_after_its_connections_end() {
    let backend = Backend::answering(OK);
    let proxy = Proxy::before(backend.address, backend.address, &[]);
    let mut expected = Vec::new();
    for (last, connections) in [(2, 1), (3, 3)] {
        let ip = Ipv4Addr::new(127, 0, 0, last);
        let (mut sent, mut received) = (0, 0);
        for connection in 0..connections {
            let mut client = connect_from(ip, &proxy);
            for _ in 0..=connection {
                assert_eq!(client.get("/v4/info", "").status, 200);
            }
            (sent, received) = (sent + client.sent, received + client.received);
        }
        expected.push((ip.to_string(), connections, sent, received));
    }
    proxy.wait_until_empty();
    let stats = proxy.stats();
    for (address, connections, sent, received) in expected {
        let row = row(&stats, &address);
        assert_eq!((row["active"].as_u64(), row["connections"].as_u64()), (Some(0), Some(connections)));
        assert_eq!(row["requests"].as_u64(), Some(connections * (connections + 1) / 2));
        assert_eq!((row["bytesIn"].as_u64(), row["bytesOut"].as_u64()), (Some(sent), Some(received)));
        assert!(row["lastSeen"].as_u64().unwrap() >= stats["startedAt"].as_u64().unwrap());
    }
}

#[test]
fn rates_appear_while_bytes_flow() {
    let tunnels = Tunnels::start(&[]);
    let (mut client, mut backend) = tunnels.open();
    let mut quiet = connect_from(Ipv4Addr::new(127, 0, 0, 2), &tunnels.proxy);
    quiet.send(b"GET ");
    eventually("the quiet client is there", || tunnels.proxy.stats()["usage"].as_array().unwrap().len() == 2);
    eventually("there is a rate wherever it belongs", || {
        client.send(&[1; 100]);
        backend.exactly(100);
        backend.send(&[2; 1000]);
        client.exactly(1000);
        let stats = tunnels.proxy.stats();
        let flows = |row: &Value| {
            let (rate_in, rate_out) = (row["rateIn"].as_u64().unwrap(), row["rateOut"].as_u64().unwrap());
            rate_in > 100 && rate_out > 2 * rate_in
        };
        assert!(!flows(row(&stats, "127.0.0.2")), "a rate where nothing flows");
        flows(&stats["totals"]) && flows(&stats["connections"][0]) && flows(row(&stats, "127.0.0.1"))
    });
}
