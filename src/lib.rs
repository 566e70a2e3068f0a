//! edgeagent: a Docker Swarm worker in one small static binary.

pub mod limits;
pub mod model;
pub mod agent;
