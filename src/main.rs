//! The binary: flags, settings, start, signals and exit codes.
fn main() {}
