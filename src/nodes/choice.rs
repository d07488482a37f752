//! Which node takes a session or a request. Pure functions over what the pool knows of each node; the pool keeps the
//! figures, and it must choose and count what it gave under one lock.

/// What a system that is wholly busy reports as its load.
const FULL_LOAD: f64 = 1.0;

/// Where a node stands for new sessions and requests, the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// It is up, or nothing is known of it yet.
    InRotation,
    /// It is down, as far as is known. It is chosen where no node is in rotation: what is known may be old.
    Out,
    /// An operator drains it. It is chosen where all nodes drain.
    Draining,
}

/// A node as the choice sees it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    pub standing: Standing,
    /// It was tried for this request: it is not chosen again.
    pub is_tried: bool,
    /// `playingPlayers` of the node's newest stats.
    pub playing_players: u64,
    /// `cpu.systemLoad` of the node's newest stats, as it came.
    pub system_load: f64,
    /// Sessions that the node was given since these stats.
    pub given: u64,
    /// Requests under way.
    pub requests: u64,
}

/// How busy a node is, by the formula of the client libraries, plus one for each session that its newest stats do not
/// know of yet. A load that is not a number counts as full, one below 0 as none.
pub fn penalty(playing_players: u64, system_load: f64, given_since_stats: u64) -> f64 {
    let load = if system_load.is_nan() { FULL_LOAD } else { system_load.clamp(0.0, FULL_LOAD) };
    playing_players as f64 + 1.05_f64.powf(100.0 * load) * 10.0 - 10.0 + given_since_stats as f64
}

/// The node for a new session: the one with the least penalty; of equal ones, the one that was given the fewest. Among
/// those that are still equal, `turn` decides, which the pool counts up with each choice of this kind.
pub fn least_penalty(candidates: impl Iterator<Item = Candidate> + Clone, turn: usize) -> Option<usize> {
    least(candidates, turn, |node| (penalty(node.playing_players, node.system_load, node.given), node.given))
}

/// The node for a request without a session: the one with the fewest requests under way. Among equal ones `turn`
/// decides, which the pool counts up with each choice of this kind.
pub fn fewest_requests(candidates: impl Iterator<Item = Candidate> + Clone, turn: usize) -> Option<usize> {
    least(candidates, turn, |node| node.requests)
}

/// The index of a candidate with the best standing and the least `cost`. Equal ones take turns. `None` when all were tried,
/// or when those that are left drain and one that was tried does not.
///
/// The candidates may change while they are compared. There is a choice all the same: each is looked at once for that.
fn least<C: PartialOrd>(
    candidates: impl Iterator<Item = Candidate> + Clone,
    turn: usize,
    cost: impl Fn(&Candidate) -> C,
) -> Option<usize> {
    let costs = |(index, node): (usize, Candidate)| (!node.is_tried).then(|| (index, (node.standing, cost(&node))));
    let untried = || candidates.clone().enumerate().filter_map(costs);
    let (first, least) = untried().reduce(|least, next| if next.1 < least.1 { next } else { least })?;
    if least.0 == Standing::Draining
        && candidates.clone().any(|node| node.is_tried && node.standing != Standing::Draining)
    {
        return None;
    }
    let equal = || untried().filter(|(_, cost)| *cost == least).map(|(index, _)| index);
    equal().nth(turn % equal().count().max(1)).or(Some(first))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const IDLE: Candidate = Candidate {
        standing: Standing::InRotation,
        is_tried: false,
        playing_players: 0,
        system_load: 0.0,
        given: 0,
        requests: 0,
    };
    const TRIED: Candidate = Candidate { is_tried: true, ..IDLE };
    const OUT: Candidate = Candidate { standing: Standing::Out, ..IDLE };
    const DRAINING: Candidate = Candidate { standing: Standing::Draining, ..IDLE };

    /// How many of `count` sessions each node gets when none of them sends new stats meanwhile.
    fn give_sessions(mut nodes: Vec<Candidate>, count: usize) -> Vec<u64> {
        for turn in 0..count {
            let chosen = least_penalty(nodes.iter().copied(), turn).unwrap();
            nodes[chosen].given += 1;
        }
        nodes.iter().map(|node| node.given).collect()
    }

    #[test]
    fn the_penalty_is_the_one_of_the_client_libraries() {
        let expected = [
            ((0, 0.0, 0), 0.0),
            ((7, 0.0, 0), 7.0),
            ((7, 0.0, 5), 12.0),
            ((0, 0.5, 0), 104.674),
            ((3, 0.25, 1), 27.864),
            ((0, 1.0, 0), 1305.013),
        ];
        for ((players, load, given), expected) in expected {
            let penalty = penalty(players, load, given);
            assert!((penalty - expected).abs() < 0.001, "{players} {load} {given}: {penalty}");
        }
    }

    #[test]
    fn a_load_that_makes_no_sense_counts_as_none_or_as_full() {
        for (load, like) in [
            (-1.0, 0.0),
            (-0.0, 0.0),
            (f64::NEG_INFINITY, 0.0),
            (f64::MIN, 0.0),
            (f64::NAN, 1.0),
            (-f64::NAN, 1.0),
            (f64::INFINITY, 1.0),
            (f64::MAX, 1.0),
            (1.5, 1.0),
        ] {
            assert_eq!(penalty(3, load, 2), penalty(3, like, 2), "{load}");
        }
        let sane = Candidate { system_load: 0.9, ..IDLE };
        for load in [f64::NAN, f64::INFINITY] {
            assert_eq!(least_penalty([Candidate { system_load: load, ..IDLE }, sane].into_iter(), 0), Some(1));
        }
        assert!(penalty(u64::MAX, f64::MAX, u64::MAX).is_finite());
    }

    #[test]
    fn a_thousand_sessions_spread_evenly_over_equal_nodes() {
        for node in [IDLE, Candidate { playing_players: 40, system_load: 0.3, ..IDLE }] {
            for count in give_sessions(vec![node; 3], 1000) {
                assert!((300..=367).contains(&count), "{count}");
            }
        }
    }

    #[test]
    fn a_node_with_twice_the_load_gets_fewer_sessions() {
        let busy = Candidate { system_load: 0.6, ..IDLE };
        let calm = Candidate { system_load: 0.3, ..IDLE };
        let given = give_sessions(vec![calm, busy, calm], 1000);
        assert!(given[1] < given[0] && given[1] < given[2], "{given:?}");
        assert!(given[0].abs_diff(given[2]) <= 1, "{given:?}");

        let crowded = Candidate { playing_players: 200, ..IDLE };
        let given = give_sessions(vec![Candidate { playing_players: 100, ..IDLE }, crowded], 1000);
        assert_eq!(given, [550, 450]);
    }

    #[test]
    fn of_equal_penalties_the_node_that_was_given_fewer_is_chosen() {
        let new_stats = Candidate { playing_players: 5, ..IDLE };
        let old_stats = Candidate { given: 5, ..IDLE };
        for turn in 0..4 {
            assert_eq!(least_penalty([old_stats, new_stats].into_iter(), turn), Some(1));
        }
    }

    #[test]
    fn requests_go_where_the_fewest_are_under_way() {
        let with = |requests| Candidate { requests, ..IDLE };
        for turn in 0..4 {
            assert_eq!(fewest_requests([with(3), with(1), with(2)].into_iter(), turn), Some(1));
        }
    }

    #[test]
    fn equal_nodes_take_turns_also_beside_others() {
        for nodes in
            [vec![IDLE; 3], vec![IDLE, OUT, IDLE, IDLE], vec![OUT, IDLE, Candidate { requests: 9, ..IDLE }, IDLE, IDLE]]
        {
            let mut counts = vec![0; nodes.len()];
            (0..300).for_each(|turn| counts[fewest_requests(nodes.iter().copied(), turn).unwrap()] += 1);
            for (node, count) in nodes.iter().zip(&counts) {
                let expected = if *node == IDLE { 100 } else { 0 };
                assert_eq!(*count, expected, "{counts:?}");
            }
        }
    }

    #[test]
    fn a_turn_count_may_wrap() {
        assert!(fewest_requests([IDLE; 3].into_iter(), usize::MAX).is_some());
    }

    #[test]
    fn a_node_of_better_standing_is_chosen_whatever_it_costs() {
        let busy = Candidate { playing_players: 1000, system_load: 1.0, given: 1000, requests: 1000, ..IDLE };
        let busy_and_out = Candidate { standing: Standing::Out, ..busy };
        for (nodes, chosen) in [
            (vec![OUT, busy, DRAINING, TRIED], Some(1)),
            (vec![DRAINING, busy_and_out, TRIED], Some(1)),
            (vec![DRAINING, busy_and_out], Some(1)),
            (vec![Candidate { is_tried: true, ..DRAINING }, DRAINING], Some(1)),
            (vec![TRIED, DRAINING], None),
            (vec![Candidate { is_tried: true, ..OUT }, DRAINING], None),
            (vec![TRIED, TRIED], None),
            (vec![], None),
        ] {
            assert_eq!(least_penalty(nodes.iter().copied(), 7), chosen, "{nodes:?}");
            assert_eq!(fewest_requests(nodes.iter().copied(), 7), chosen, "{nodes:?}");
        }
    }

    #[test]
    fn there_is_a_choice_while_nodes_change() {
        const STANDINGS: [Standing; 3] = [Standing::InRotation, Standing::Draining, Standing::Out];
        let looks = std::cell::Cell::new(0_usize);
        let look = |place: usize| {
            looks.set(looks.get() + 1);
            Candidate { standing: STANDINGS[(looks.get() + place) % 3], requests: looks.get() as u64 % 5, ..IDLE }
        };
        for turn in 0..1000 {
            assert!(fewest_requests((0..3).map(look), turn).is_some());
        }
    }
}
