//! edgeagent: a Docker Swarm worker in one small static binary.

pub mod agent;
pub mod ca;
mod container;
pub mod limits;
pub mod logs;
pub mod model;
pub mod shim;
#[expect(unsafe_code, reason = "the one file that may; see its head")]
pub mod sys;
