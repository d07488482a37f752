//! Ends: why a connection ended, in its closing log line and in the counters.

use std::fmt;
use std::io;

/// Why a connection ended. A normal end is not an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The client closed first, or sent `Connection: close`.
    ClientClosed,
    /// The backend closed a tunnel first, or ended an answer whose length only the close shows.
    BackendClosed,
    /// The client was silent, or did not read, for too long.
    ClientTimeout,
    /// The backend was silent for too long, or did not take a connection in time.
    BackendTimeout,
    /// The client broke the connection off.
    ClientReset,
    /// The backend broke the connection off.
    BackendReset,
    /// The machine's limit of connections was reached.
    RejectedLimit,
    /// No thread could be started.
    RejectedThreads,
    /// The password was missing or wrong.
    RejectedPassword,
    /// The requested version has no backend.
    RejectedVersion,
    /// No backend accepted the connection.
    BackendUnreachable,
    /// The client broke the protocol.
    BadRequest,
    /// The backend broke the protocol.
    BadResponse,
    /// lavaproxy stopped.
    Shutdown,
    /// The address had as many connections as MAX_CONNECTIONS_PER_ADDRESS allows.
    RejectedConnections,
    /// The address opened connections faster than CONNECTION_RATE allows.
    RejectedConnectionRate,
    /// The address sent requests faster than REQUEST_RATE allows.
    RejectedRequestRate,
    /// The address is banned or blocked, or not allowed.
    RejectedBanned,
    /// The account is over its limits, has expired or is disabled, or is not for the requested version.
    RejectedAccount,
    /// lavaproxy ended it: its address was banned by hand, or its account was taken away.
    Kicked,
    /// A defect in lavaproxy itself; the log has more.
    InternalError,
}

impl End {
    /// Every reason, in the order of the counters.
    pub const ALL: [Self; 21] = [
        Self::ClientClosed,
        Self::BackendClosed,
        Self::ClientTimeout,
        Self::BackendTimeout,
        Self::ClientReset,
        Self::BackendReset,
        Self::RejectedLimit,
        Self::RejectedThreads,
        Self::RejectedPassword,
        Self::RejectedVersion,
        Self::BackendUnreachable,
        Self::BadRequest,
        Self::BadResponse,
        Self::Shutdown,
        Self::RejectedConnections,
        Self::RejectedConnectionRate,
        Self::RejectedRequestRate,
        Self::RejectedBanned,
        Self::RejectedAccount,
        Self::Kicked,
        Self::InternalError,
    ];

    /// The name in logs and in the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::ClientClosed => "client-closed",
            Self::BackendClosed => "backend-closed",
            Self::ClientTimeout => "client-timeout",
            Self::BackendTimeout => "backend-timeout",
            Self::ClientReset => "client-reset",
            Self::BackendReset => "backend-reset",
            Self::RejectedLimit => "rejected-limit",
            Self::RejectedThreads => "rejected-threads",
            Self::RejectedPassword => "rejected-password",
            Self::RejectedVersion => "rejected-version",
            Self::BackendUnreachable => "backend-unreachable",
            Self::BadRequest => "bad-request",
            Self::BadResponse => "bad-response",
            Self::Shutdown => "shutdown",
            Self::RejectedConnections => "rejected-connections",
            Self::RejectedConnectionRate => "rejected-connection-rate",
            Self::RejectedRequestRate => "rejected-request-rate",
            Self::RejectedBanned => "rejected-banned",
            Self::RejectedAccount => "rejected-account",
            Self::Kicked => "kicked",
            Self::InternalError => "internal-error",
        }
    }

    /// True when it is the reason of a refusal that lies with the client.
    pub fn is_refusal(self) -> bool {
        match self {
            Self::RejectedLimit
            | Self::RejectedPassword
            | Self::RejectedVersion
            | Self::RejectedConnections
            | Self::RejectedConnectionRate
            | Self::RejectedRequestRate
            | Self::RejectedBanned
            | Self::RejectedAccount
            | Self::BadRequest
            | Self::ClientTimeout => true,
            Self::ClientClosed
            | Self::BackendClosed
            | Self::BackendTimeout
            | Self::ClientReset
            | Self::BackendReset
            | Self::RejectedThreads
            | Self::BackendUnreachable
            | Self::BadResponse
            | Self::Shutdown
            | Self::Kicked
            | Self::InternalError => false,
        }
    }

    /// The end of a connection after a failed read from the client or write to it.
    pub fn of_client(error: &io::Error) -> Self {
        if is_timeout(error) { Self::ClientTimeout } else { Self::ClientReset }
    }

    /// The end of a connection after a failed read from the backend or write to it.
    pub fn of_backend(error: &io::Error) -> Self {
        if is_timeout(error) { Self::BackendTimeout } else { Self::BackendReset }
    }
}

impl fmt::Display for End {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name())
    }
}

/// True when a socket's deadline has passed: SO_RCVTIMEO and SO_SNDTIMEO report `WouldBlock`, TCP itself `TimedOut`.
pub fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}
