//! Where a player is. A node's reports are not always true: after a seek, after a start and while a player is paused it
//! may report an old position or 0. And a node counts what it plays: with the filter timescale, more or less of the track
//! passes in that time, so that the place in the track is another one. Pure; the caller has the clock.

use std::time::{Duration, Instant};

/// How far a report may be from what is expected. A player must go on within 1.5 s of its place.
const SLACK: u64 = 1500;
/// After so long of play, a report counts although it is not what was asked for.
const LONGEST_DOUBT: Duration = Duration::from_secs(10);

/// The position of one player.
#[derive(Clone, Copy, Debug)]
pub struct Position {
    /// Milliseconds at `since`.
    base: u64,
    since: Instant,
    /// True while it plays: it has a track, is not paused, and has its voice server.
    runs: bool,
    doubt: Option<Doubt>,
    /// How much of the track passes while a second of it is played.
    pace: f64,
    /// How far the track is beyond `base`, in milliseconds.
    ahead: f64,
}

/// A position that was asked for, and that no report has confirmed yet.
#[derive(Clone, Copy, Debug)]
struct Doubt {
    asked: u64,
    /// Since when it plays from there; `None` while it does not play.
    since: Option<Instant>,
}

impl Position {
    /// A position that was asked for: by a start, a seek or a replay.
    pub fn asked(position: u64, runs: bool, now: Instant) -> Self {
        let doubt = Doubt { asked: position, since: runs.then_some(now) };
        Self { base: position, since: now, runs, doubt: Some(doubt), pace: 1.0, ahead: 0.0 }
    }

    /// The same at the pace of before.
    pub fn asked_again(&self, position: u64, runs: bool, now: Instant) -> Self {
        Self { pace: self.pace, ..Self::asked(position, runs, now) }
    }

    /// Where the player is now as the node reports it, in milliseconds.
    pub fn at(&self, now: Instant) -> u64 {
        let played = if self.runs { now.saturating_duration_since(self.since) } else { Duration::ZERO };
        self.base.saturating_add(u64::try_from(played.as_millis()).unwrap_or(u64::MAX))
    }

    /// How far the place in the track is beyond what the node reports now, in milliseconds.
    pub fn ahead(&self, now: Instant) -> i64 {
        self.ahead_at(self.at(now)) as i64
    }

    fn ahead_at(&self, position: u64) -> f64 {
        self.ahead + (position as f64 - self.base as f64) * (self.pace - 1.0)
    }

    /// Notes how much of the track passes while a second is played, from now on.
    pub fn set_pace(&mut self, pace: f64, now: Instant) {
        self.go_on_from(self.at(now), now);
        self.pace = pace;
    }

    fn go_on_from(&mut self, position: u64, now: Instant) {
        (self.ahead, self.base, self.since) = (self.ahead_at(position), position, now);
    }

    /// True while it plays.
    pub fn runs(&self) -> bool {
        self.runs
    }

    /// Notes whether it plays.
    pub fn set_runs(&mut self, runs: bool, now: Instant) {
        if runs == self.runs {
            return;
        }
        self.go_on_from(self.at(now), now);
        self.runs = runs;
        if let Some(doubt) = &mut self.doubt {
            doubt.since = runs.then_some(now);
        }
    }

    /// Takes a position that the node reports. False when it is not believed.
    pub fn report(&mut self, position: u64, runs: bool, now: Instant) -> bool {
        self.set_runs(runs, now);
        if let Some(Doubt { asked, since }) = self.doubt {
            let Some(since) = since else { return false };
            let fits = position >= asked && position <= self.at(now).saturating_add(SLACK);
            if !fits {
                if now.saturating_duration_since(since) < LONGEST_DOUBT {
                    return false;
                }
                *self = self.asked_again(position, runs, now);
            }
        }
        // A node whose filters have gone may report the place in the track again.
        let expected = self.at(now);
        let place = expected.saturating_add_signed(self.ahead(now));
        let jumps = position.abs_diff(expected) > SLACK && position.abs_diff(place) <= SLACK;
        self.go_on_from(position, now);
        if jumps {
            self.ahead = 0.0;
        }
        self.doubt = None;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(start: Instant, millis: u64) -> Instant {
        start + Duration::from_millis(millis)
    }

    #[test]
    fn a_position_moves_only_while_the_player_plays() {
        let start = Instant::now();
        let mut position = Position::asked(1000, true, start);
        assert_eq!(position.at(after(start, 500)), 1500);
        position.set_runs(false, after(start, 500));
        assert_eq!(position.at(after(start, 9000)), 1500);
        position.set_runs(true, after(start, 9000));
        assert_eq!(position.at(after(start, 9100)), 1600);
    }

    #[test]
    fn an_old_position_after_a_seek_is_not_believed() {
        let start = Instant::now();
        for (asked, old) in [(60_000, 10_000), (10_000, 60_000), (10_000, 0)] {
            let mut position = Position::asked(asked, true, start);
            assert!(!position.report(old, true, after(start, 100)), "{asked} {old}");
            assert_eq!(position.at(after(start, 200)), asked + 200);
            assert!(position.report(asked + 4900, true, after(start, 5000)));
            assert_eq!(position.at(after(start, 5100)), asked + 5000);
        }
    }

    #[test]
    fn a_player_that_is_paused_keeps_the_position_that_was_asked_for() {
        let start = Instant::now();
        let mut position = Position::asked(30_000, false, start);
        for time in [100, 5000, 60_000] {
            assert!(!position.report(0, false, after(start, time)));
            assert_eq!(position.at(after(start, time)), 30_000);
        }
        // Its first report after the pause may be old.
        assert!(!position.report(0, true, after(start, 61_000)));
        assert!(position.report(30_200, true, after(start, 61_300)));
        assert_eq!(position.at(after(start, 61_400)), 30_300);
    }

    #[test]
    fn a_pause_after_a_confirmed_position_reports_where_it_is() {
        let start = Instant::now();
        let mut position = Position::asked(0, true, start);
        assert!(position.report(5000, true, after(start, 5000)));
        assert!(position.report(7000, false, after(start, 7100)));
        assert_eq!(position.at(after(start, 20_000)), 7000);
    }

    #[test]
    fn a_track_that_is_played_faster_is_ahead_of_its_reports() {
        let start = Instant::now();
        let mut position = Position::asked(10_000, true, start);
        assert!(position.report(20_000, true, after(start, 10_000)));
        assert_eq!(position.ahead(after(start, 10_000)), 0);
        position.set_pace(1.5, after(start, 10_000));
        assert!(position.report(30_100, true, after(start, 20_000)));
        assert_eq!((position.at(after(start, 20_900)), position.ahead(after(start, 20_900))), (31_000, 5500));
        // A pause, and a report during it.
        position.set_runs(false, after(start, 21_900));
        assert_eq!(position.ahead(after(start, 60_000)), 6000);
        assert!(position.report(32_000, false, after(start, 60_000)));
        assert_eq!((position.at(after(start, 70_000)), position.ahead(after(start, 70_000))), (32_000, 6000));
        // Back at the usual pace it stays ahead.
        position.set_pace(1.0, after(start, 70_000));
        assert!(position.report(42_000, true, after(start, 80_000)));
        assert_eq!(position.ahead(after(start, 90_000)), 6000);
        // The node looks at the track's own time again.
        assert!(position.report(58_100, true, after(start, 90_000)));
        assert_eq!((position.at(after(start, 90_000)), position.ahead(after(start, 90_000))), (58_100, 0));
    }

    #[test]
    fn a_track_that_is_played_slower_is_behind_its_reports_until_a_seek() {
        let start = Instant::now();
        let mut position = Position::asked(0, true, start);
        position.set_pace(0.5, start);
        assert!(position.report(8000, true, after(start, 8000)));
        assert_eq!(position.ahead(after(start, 10_000)), -5000);
        let seeked = position.asked_again(60_000, true, after(start, 10_000));
        assert_eq!((seeked.at(after(start, 14_000)), seeked.ahead(after(start, 14_000))), (64_000, -2000));
    }

    #[test]
    fn a_node_that_insists_is_believed_in_the_end() {
        let start = Instant::now();
        let mut position = Position::asked(60_000, true, start);
        assert!(!position.report(3000, true, after(start, 5000)));
        assert!(position.report(8000, true, after(start, 10_000)));
        assert_eq!(position.at(after(start, 10_000)), 8000);
    }
}
