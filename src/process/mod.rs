//! The process among others: its listening sockets, its successor and its supervisor.

pub mod notify;
pub mod sockets;
pub mod upgrade;
