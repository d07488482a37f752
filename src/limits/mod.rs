//! Who may use how much.

pub mod accounts;
