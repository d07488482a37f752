//! The hour before the start of the demo, made up so that its charts have something to show. Pure.

/// The steps of an hour, of 10 s each.
const STEPS: u32 = 360;

/// What went through one node in a step, and how the node was.
#[derive(Clone, Copy, Debug)]
pub struct PastStep {
    /// Open connections.
    pub connections: u64,
    /// Requests.
    pub requests: u64,
    /// Bytes from bots.
    pub bytes_in: u64,
    /// Bytes to bots.
    pub bytes_out: u64,
    /// Players.
    pub players: u64,
    /// From 0 to 1.
    pub load: f64,
    /// In milliseconds.
    pub response_time: f64,
}

/// The steps of the hour, the oldest first, with as many nodes each. Bots come and go in two waves.
pub fn past_hour(nodes: usize) -> Vec<Vec<PastStep>> {
    (0..STEPS).map(|step| (0..nodes).map(|node| of_node(step, node)).collect()).collect()
}

fn of_node(step: u32, node: usize) -> PastStep {
    let turn = f64::from(step) / f64::from(STEPS) * std::f64::consts::TAU;
    let wave = 1.0 + 0.4 * (2.0 * turn + node as f64).sin();
    let jitter = 1.0 + 0.08 * (f64::from(step) * (7.0 + node as f64)).sin();
    let about = |usual: f64| (usual * wave * jitter).round() as u64;
    PastStep {
        connections: (4.0 * wave).round() as u64,
        requests: about(20.0),
        bytes_in: about(6_000.0),
        bytes_out: about(40_000.0),
        players: (3.0 * wave).round() as u64,
        load: 0.1 * wave * jitter,
        response_time: 0.4 * wave * jitter,
    }
}
