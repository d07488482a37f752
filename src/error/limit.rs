//! What a client may not exceed, and what an account may not do.

use std::fmt;

use super::end::End;
use crate::config::Lavalink;

/// A limit that a client is over. One address is an IPv4 address, or the /64 of an IPv6 address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// The number of connections of all addresses together.
    Total(usize),
    /// The number of connections of one address.
    Connections(usize),
    /// The rate of new connections of one address.
    ConnectionRate,
    /// The rate of requests of one address.
    RequestRate,
    /// The number of connections of one account.
    AccountConnections(usize),
    /// The number of requests per second of one account.
    AccountRequests(u32),
}

/// Why the account of a password is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccountFault {
    /// Its time is over.
    Expired,
    /// The operator has disabled it.
    Disabled,
    /// It is not for this version of Lavalink.
    Version(Lavalink),
}

impl Limit {
    pub(super) fn end(self) -> End {
        match self {
            Self::Total(_) => End::RejectedLimit,
            Self::Connections(_) => End::RejectedConnections,
            Self::ConnectionRate => End::RejectedConnectionRate,
            Self::RequestRate => End::RejectedRequestRate,
            Self::AccountConnections(_) | Self::AccountRequests(_) => End::RejectedAccount,
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Total(most) => {
                write!(out, "all {most} connections are taken (MAX_CONNECTIONS); try again later")
            }
            Self::Connections(most) => write!(
                out,
                "your address has {most} connections open already (MAX_CONNECTIONS_PER_ADDRESS); close some of them"
            ),
            Self::ConnectionRate => out.write_str(
                "your address opens connections too fast (CONNECTION_RATE); keep them open and use them again",
            ),
            Self::RequestRate => out.write_str("your address sends requests too fast (REQUEST_RATE); send fewer"),
            Self::AccountConnections(most) => write!(
                out,
                "this account has {most} connections open already (connections in ACCOUNTS_FILE); close some of them"
            ),
            Self::AccountRequests(most) => write!(
                out,
                "this account may send {most} requests per second (requestsPerSecond in ACCOUNTS_FILE); send fewer"
            ),
        }
    }
}

impl fmt::Display for AccountFault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Expired => out.write_str("has expired; ask the operator of this address"),
            Self::Disabled => out.write_str("is disabled; ask the operator of this address"),
            Self::Version(version) => write!(out, "is not for Lavalink {version}; use the other version"),
        }
    }
}
