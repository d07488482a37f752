//! The process and its environment: inherited listening sockets, the successor of an upgrade, and the supervisor.

pub mod notify;
pub mod sockets;
pub mod upgrade;
