//! edgeagent: a Docker Swarm worker in one small static binary.

pub mod agent;
pub mod ca;
pub mod limits;
pub mod logs;
pub mod model;
pub mod spec;
