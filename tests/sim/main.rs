//! The core in conversation: transcripts with timestamps, and a seeded simulation.
//!
//! The agent is the real one; the manager obeys swarm's protocol and can misbehave; the driver
//! settles operations by seed; the clock is virtual. `EDGEAGENT_SEED=n` replays one seed.

#[cfg(test)]
mod desk;
#[cfg(test)]
mod nouns;
#[cfg(test)]
mod random;
#[cfg(test)]
mod transcripts;
#[cfg(test)]
mod transcripts_tasks;
#[cfg(test)]
mod world;
#[cfg(test)]
mod year;

use std::{env, panic};

use world::World;

const SEEDS: u64 = 150;

#[test]
fn every_task_comes_to_rest_whatever_the_manager_and_the_node_go_through() {
    let seeds = env::var("EDGEAGENT_SEED").ok().map(|seed| seed.parse::<u64>().unwrap());
    for seed in seeds.map_or(0..SEEDS, |seed| seed..seed + 1) {
        let run = panic::catch_unwind(|| World::new(seed).run());
        assert!(run.is_ok(), "replay with EDGEAGENT_SEED={seed}");
    }
}
