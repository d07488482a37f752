//! Asks the kernel in how many segments a socket's data came (sock_diag(7)), since reads cannot tell: they may find
//! two segments or one all the same.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

const NETLINK_SOCK_DIAG: i32 = 4;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLM_F_REQUEST: u16 = 1;
const INET_DIAG_INFO: u16 = 2;
/// Lengths of nlmsghdr and inet_diag_msg, which come before the attributes.
const BEFORE_ATTRIBUTES: usize = 16 + 72;
/// Where tcp_info has tcpi_data_segs_in.
const DATA_SEGMENTS_IN: usize = 152;

/// Segments with data that this IPv4 socket has received.
pub fn data_segments_in(stream: &TcpStream) -> u32 {
    let mut netlink =
        Socket::new(Domain::from(libc::AF_NETLINK), Type::DGRAM, Some(Protocol::from(NETLINK_SOCK_DIAG))).unwrap();
    netlink.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    netlink.send(&question(stream.local_addr().unwrap(), stream.peer_addr().unwrap())).unwrap();
    let mut answer = [0; 4096];
    let length = netlink.read(&mut answer).unwrap();
    let mut attributes = answer[..length].get(BEFORE_ATTRIBUTES..).expect("the kernel refuses to tell of this socket");
    while attributes.len() >= 4 {
        let length = usize::from(u16::from_ne_bytes([attributes[0], attributes[1]]));
        let kind = u16::from_ne_bytes([attributes[2], attributes[3]]);
        if kind == INET_DIAG_INFO {
            let at = 4 + DATA_SEGMENTS_IN;
            return u32::from_ne_bytes(attributes[at..at + 4].try_into().unwrap());
        }
        attributes = attributes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    panic!("the kernel says nothing of segments");
}

/// nlmsghdr and inet_diag_req_v2.
fn question(local: SocketAddr, peer: SocketAddr) -> Vec<u8> {
    let mut body = vec![libc::AF_INET as u8, libc::IPPROTO_TCP as u8, 1 << (INET_DIAG_INFO - 1), 0];
    body.extend(u32::MAX.to_ne_bytes());
    body.extend(local.port().to_be_bytes());
    body.extend(peer.port().to_be_bytes());
    for address in [local, peer] {
        let SocketAddr::V4(address) = address else { panic!("{address} is not IPv4") };
        let ip: &Ipv4Addr = address.ip();
        body.extend(ip.octets());
        body.extend([0; 12]);
    }
    // Any interface, any cookie.
    body.extend([0; 4]);
    body.extend([0xff; 8]);

    let mut message = Vec::new();
    message.extend(u32::try_from(16 + body.len()).unwrap().to_ne_bytes());
    message.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    message.extend(NLM_F_REQUEST.to_ne_bytes());
    message.extend([0; 8]);
    message.extend(body);
    message
}
