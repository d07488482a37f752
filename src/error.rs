//! Faults: what went wrong, on which side and in which phase. Ends: why a connection ended.
//!
//! The client gets a [`Fault`] as an answer with an HTTP status. The [`End`] of a connection is the reason in its
//! closing log line and in the counters. Only `proxy::connection` turns a fault into an end.

mod end;
mod limit;

use std::fmt;
use std::io;
use std::time::SystemTime;

use crate::config::Lavalink;
use crate::http::body::BodyError;
use crate::http::head::{HeadError, MAX_FIELDS, MAX_READ_HEAD};
pub use end::{End, is_timeout};
pub use limit::{AccountFault, Limit};

/// Why lavaproxy could not start.
#[derive(Debug)]
pub struct StartError {
    what: String,
    error: io::Error,
    hint: &'static str,
}

impl fmt::Display for StartError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}; {}", self.what, self.error, self.hint)
    }
}

impl std::error::Error for StartError {}

impl StartError {
    /// What could not be done, why, and what the operator can do about it.
    pub fn new(what: String, error: io::Error, hint: &'static str) -> Self {
        Self { what, error, hint }
    }
}

/// What went wrong on the side of a backend.
#[derive(Debug)]
pub enum BackendFault {
    /// Connect: its name has no address, its address is not reachable, or it refused the connection.
    Unreachable {
        /// The backend's name and address.
        backend: String,
        /// The settings that hold its address.
        settings: String,
        /// The error of the system.
        error: io::Error,
    },
    /// Connect: it did not answer in time.
    ConnectTimeout {
        /// The backend's name and address.
        backend: String,
    },
    /// Response: it broke the protocol.
    BadResponse(&'static str),
    /// Response: its head is not HTTP.
    BadResponseHead(HeadError),
    /// Response: the start of its body breaks the grammar.
    BadResponseBody(BodyError),
    /// Response: it closed or reset the connection before it answered.
    NoResponse(End),
    /// Response: the node was lost, and another one has the session or gets it.
    NodeLost,
    /// Response: it refuses the password that lavaproxy sent.
    RefusesPassword {
        /// The backend's name and address.
        backend: String,
        /// The setting that holds its password.
        setting: String,
    },
    /// Response: it did not answer in time.
    ResponseTimeout,
}

/// What went wrong with a request. The client gets it instead of a backend's response.
#[derive(Debug)]
pub enum Fault {
    /// Client, head: it is malformed or over a limit.
    Head(HeadError),
    /// Client, head: it was not complete in time.
    HeadTimeout,
    /// Client, head: the method is refused here.
    Method {
        /// The methods that are accepted, for the `Allow` field.
        allow: &'static str,
    },
    /// Client, head: the forwarded head would be over Lavalink's limit.
    ForwardedHeadTooLarge,
    /// Client, authentication: no password.
    PasswordMissing {
        /// True when the answer makes a browser ask its user for the password.
        challenge: bool,
    },
    /// Client, authentication: a wrong password. A WebSocket handshake gets 401, any other request 403.
    PasswordWrong {
        /// True for a WebSocket handshake.
        upgrade: bool,
    },
    /// Client, authentication: a wrong password for the web pages.
    WebPasswordWrong,
    /// Client, head: this process has passed the request on before.
    Loop,
    /// Client, routing: there is no node of the name in `Lavalink-Node`.
    UnknownNode {
        /// The names of the nodes of this version.
        known: String,
    },
    /// Client, routing: the requested version is off.
    NoBackend(Lavalink),
    /// Client, routing: a WebSocket handshake of Lavalink v3 while v3 is off.
    V3Handshake,
    /// Client, admission: every slot is taken.
    Full {
        /// The number of slots.
        limit: usize,
        /// The limit of the machine that this number follows from.
        rule: &'static str,
    },
    /// Client, limits: it is over a limit.
    OverLimit {
        /// The limit.
        limit: Limit,
        /// After so many seconds it may try again.
        retry_after: u64,
    },
    /// Client, limits: its address is banned.
    Banned {
        /// The end of the ban; `None` for one without an end.
        until: Option<SystemTime>,
    },
    /// Client, limits: its address is not one that may connect.
    NotAllowed {
        /// The setting that refuses it.
        setting: &'static str,
    },
    /// Client, authentication: its password belongs to an account that is refused.
    Account(AccountFault),
    /// Proxy: no thread could be started for this connection.
    NoThread,
    /// Client, body: it breaks the grammar, or is larger than the limit, which is in bytes.
    Body(BodyError, u64),
    /// Client, body: it stalled.
    BodyTimeout,
    /// Client, body: the client stopped sending before its end.
    BodyTruncated,
    /// Backend: the connection to it or its answer failed.
    Backend(BackendFault),
    /// Proxy: this process has no descriptor left.
    NoDescriptor,
    /// Client: it is gone, so that no answer can reach it.
    Gone(End),
}

impl Fault {
    /// The HTTP status of the answer.
    pub fn status(&self) -> u16 {
        match self {
            Self::Head(HeadError::Malformed(_) | HeadError::TlsHello | HeadError::ProxyHeader) => 400,
            Self::Head(HeadError::TargetTooLong) => 414,
            Self::Head(HeadError::TooLarge | HeadError::TooManyFields) | Self::ForwardedHeadTooLarge => 431,
            Self::Head(HeadError::Version | HeadError::Http2Preface) => 505,
            Self::Head(HeadError::Coding) => 501,
            Self::UnknownNode { .. } => 400,
            Self::HeadTimeout | Self::BodyTimeout => 408,
            Self::Method { .. } => 405,
            Self::PasswordMissing { .. } | Self::PasswordWrong { upgrade: true } | Self::WebPasswordWrong => 401,
            Self::PasswordWrong { upgrade: false } => 403,
            Self::OverLimit { .. } => 429,
            Self::Banned { .. } | Self::NotAllowed { .. } | Self::Account(_) => 403,
            Self::NoBackend(_) | Self::V3Handshake | Self::Full { .. } | Self::NoThread | Self::NoDescriptor => 503,
            Self::Body(BodyError::Malformed(_), _) | Self::BodyTruncated | Self::Gone(_) => 400,
            Self::Body(BodyError::TooLarge, _) => 413,
            Self::Backend(BackendFault::ConnectTimeout { .. } | BackendFault::ResponseTimeout) => 504,
            Self::Backend(_) => 502,
            Self::Loop => 508,
        }
    }

    /// The end of the connection if it ends with this answer.
    pub fn end(&self) -> End {
        match self {
            Self::Head(_) | Self::Method { .. } | Self::ForwardedHeadTooLarge | Self::Loop => End::BadRequest,
            Self::UnknownNode { .. } => End::BadRequest,
            Self::Body(..) | Self::BodyTruncated => End::BadRequest,
            Self::HeadTimeout | Self::BodyTimeout => End::ClientTimeout,
            Self::PasswordMissing { .. } | Self::PasswordWrong { .. } | Self::WebPasswordWrong => End::RejectedPassword,
            Self::NoBackend(_) | Self::V3Handshake => End::RejectedVersion,
            Self::Full { .. } | Self::NoDescriptor => End::RejectedLimit,
            Self::OverLimit { limit, .. } => limit.end(),
            Self::Banned { .. } | Self::NotAllowed { .. } => End::RejectedBanned,
            Self::Account(_) => End::RejectedAccount,
            Self::NoThread => End::RejectedThreads,
            Self::Backend(fault) => fault.end(),
            Self::Gone(end) => *end,
        }
    }

    /// True when the connection cannot serve another request: where that would start is unknown, or the client is gone.
    pub fn is_fatal(&self) -> bool {
        !matches!(
            self,
            Self::Method { .. }
                | Self::ForwardedHeadTooLarge
                | Self::PasswordMissing { .. }
                | Self::PasswordWrong { .. }
                | Self::WebPasswordWrong
                | Self::Loop
                | Self::UnknownNode { .. }
                | Self::NoBackend(_)
                | Self::V3Handshake
                | Self::OverLimit { .. }
                | Self::Banned { .. }
                | Self::NotAllowed { .. }
                | Self::Account(_)
                | Self::Backend(BackendFault::Unreachable { .. } | BackendFault::ConnectTimeout { .. })
                | Self::NoDescriptor
        )
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Head(error) => write!(out, "{error}"),
            Self::HeadTimeout => {
                out.write_str("the request head was not complete within HEAD_TIMEOUT; send it at once")
            }
            Self::Method { allow } => write!(out, "this method is refused here; use one of {allow}"),
            Self::ForwardedHeadTooLarge => write!(out, "{}", HeadError::TooLarge),
            Self::PasswordMissing { challenge: false } => {
                out.write_str("no password; send it in the Authorization field")
            }
            Self::PasswordMissing { challenge: true } => {
                out.write_str("these pages want the WEB_PASSWORD, with any user name")
            }
            Self::PasswordWrong { .. } => {
                out.write_str("wrong password; the Authorization field must hold exactly one PROXY_PASSWORD, or the password of an account")
            }
            Self::WebPasswordWrong => {
                out.write_str("wrong password; these pages want the WEB_PASSWORD, with any user name")
            }
            Self::Loop => out.write_str(
                "this request came back to the lavaproxy that sent it; correct the node's host and port, which lead to lavaproxy itself",
            ),
            Self::UnknownNode { known } => {
                write!(out, "there is no node of the name in Lavalink-Node; the nodes of this version are {known}")
            }
            Self::NoBackend(version) => write!(
                out,
                "there is no Lavalink {version} behind this address; set LAVALINK_{}_HOST, or use the other version",
                version.name().to_ascii_uppercase()
            ),
            Self::V3Handshake => out.write_str(
                "a WebSocket at / is Lavalink v3's, and v3 is off here; open /v4/websocket with a library for Lavalink v4, or set LAVALINK_V3_HOST",
            ),
            Self::Full { limit, rule } => {
                write!(out, "all {limit} slots are taken ({rule}); try again later, or raise that limit")
            }
            Self::OverLimit { limit, .. } => write!(out, "{limit}"),
            Self::Banned { until } => write_ban(out, *until),
            Self::NotAllowed { setting } => {
                write!(out, "your address may not connect here ({setting}); ask the operator of this address")
            }
            Self::Account(fault) => write!(out, "the account of this password {fault}"),
            Self::NoThread => {
                out.write_str("no thread could be started; try again later, or raise the limit of threads")
            }
            Self::NoDescriptor => {
                out.write_str("no file descriptor is left; try again later, or raise the limit of open files")
            }
            Self::Body(BodyError::TooLarge, 0) => out.write_str("no body is taken here; send the request without one"),
            Self::Body(BodyError::TooLarge, limit) => {
                write!(out, "the body is over {limit} bytes; send less, or raise MAX_BODY if it is for Lavalink")
            }
            Self::Body(error, _) => write!(out, "{error}"),
            Self::BodyTimeout => out.write_str("the request body stalled; send it without a pause"),
            Self::BodyTruncated => out.write_str("the request body ended before its declared length"),
            Self::Backend(fault) => write!(out, "{fault}"),
            Self::Gone(end) => write!(out, "the client is gone: {end}"),
        }
    }
}

fn write_ban(out: &mut fmt::Formatter<'_>, until: Option<SystemTime>) -> fmt::Result {
    match until {
        None => out.write_str("your address is banned here; ask the operator of this address to lift the ban"),
        Some(until) => {
            let until = httpdate::fmt_http_date(until);
            write!(out, "your address is banned here until {until}; wait until then, or ask the operator")
        }
    }
}

impl From<BackendFault> for Fault {
    fn from(fault: BackendFault) -> Self {
        Self::Backend(fault)
    }
}

impl BackendFault {
    fn end(&self) -> End {
        match self {
            Self::Unreachable { .. } => End::BackendUnreachable,
            Self::ConnectTimeout { .. } | Self::ResponseTimeout => End::BackendTimeout,
            Self::BadResponse(_)
            | Self::BadResponseHead(_)
            | Self::BadResponseBody(_)
            | Self::RefusesPassword { .. } => End::BadResponse,
            Self::NoResponse(end) => *end,
            Self::NodeLost => End::BackendClosed,
        }
    }
}

impl fmt::Display for BackendFault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        const BREAKS: &str = "the backend's answer breaks the protocol";
        match self {
            Self::Unreachable { backend, settings, error } => {
                write!(out, "Lavalink {backend} cannot be reached ({error}); start it, or correct {settings}")
            }
            Self::ConnectTimeout { backend } => write!(
                out,
                "Lavalink {backend} did not take the connection within CONNECT_TIMEOUT; is it overloaded, or a firewall between?"
            ),
            Self::BadResponse(why) => write!(out, "{BREAKS}: {why}"),
            Self::BadResponseHead(HeadError::TooLarge | HeadError::TooManyFields | HeadError::TargetTooLong) => write!(
                out,
                "{BREAKS}: its head is larger than {MAX_READ_HEAD} bytes or has more than {MAX_FIELDS} fields"
            ),
            Self::BadResponseHead(error) => write!(out, "{BREAKS}: {error}"),
            Self::BadResponseBody(error) => write!(out, "{BREAKS}: {error}"),
            Self::NoResponse(_) => out.write_str("the backend closed the connection before it answered; see its log"),
            Self::NodeLost => {
                out.write_str("the node was lost while it had the request, and its sessions are taken over; try again")
            }
            Self::RefusesPassword { backend, setting } => write!(
                out,
                "Lavalink {backend} refuses the password of lavaproxy, not yours; the operator of this address must set {setting} to the one in the node's application.yml"
            ),
            Self::ResponseTimeout => out.write_str("the backend did not answer within RESPONSE_TIMEOUT; see its log"),
        }
    }
}
