//! Many sessions lose their node at once: the next node is not swamped, and new sessions are opened meanwhile.
//!
//! A process of its own, since it counts its threads.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/music.rs"]
mod music;
#[path = "support/nodes.rs"]
mod nodes;
#[path = "support/storm.rs"]
mod storm;
mod support;

#[test]
fn a_storm_of_takeovers_starves_no_new_session() {
    storm::run(150);
}
