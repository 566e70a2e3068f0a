//! edgeagent: a Docker Swarm worker in one small static binary.
//!
//! # The bird's eye
//!
//! ```text
//!  manager ⇄ rpc ─► Input ─► agent ─► Output ─► node ─┬─► seal            what must survive
//!                              ▲                      ├─► image ⇢ child   pull, load
//!                              │                      ├─► shim  ⇢ process one per task
//!                              └──── Settled ◄────────┘    └ container    namespaces, mounts …
//! ```
//!
//! The **agent** is the resident process (`edgeagent run`): one thread, one loop in [`node`],
//! around a core in [`mod@agent`] that never touches the world. A **shim** is one tiny process per
//! running task, the same binary under another name; it outlives the agent, so that a restart,
//! crash or upgrade of the agent never touches a container. Pulling images is the work of a
//! short-lived **fetch** child. There is no other process, and nothing listens on the network.
//!
//! # What always holds
//!
//! - Nothing secret is sent before the root CA's digest has matched the join token: only
//!   [`ca::PinnedRoot`] makes the TLS configuration that the token travels over.
//! - A task comes only over a session with a peer that shows a certificate of the pinned root
//!   *and* the name `swarm-manager`.
//! - No token, key or secret is on disk in the clear, in an argument, in the environment or in
//!   a log. What is stored is sealed ([`seal`]); bundles travel through descriptors.
//! - What the agent must not lose is stored before it matters
//!   ([`agent::Output::Persist`]); a signal needs no clean-up.
//! - A task's observed state never falls, and at most one operation per task is under way.
//! - A worker never restarts a finished task: managers do.
//! - Every buffer that outside bytes fill has a bound in [`limits`].
//!
//! # Who may use whom
//!
//! `use crate::` points down this list only; `tests/layers.rs` reads the source and fails
//! otherwise. In reading order from the bottom:

pub mod limits;
pub mod model;
// pure
pub mod agent;
pub mod spec;
// the world
#[expect(unsafe_code, reason = "the one place for system calls that rustix lacks")]
pub mod sys;

pub mod files;

mod crypto;

pub mod ca;
pub mod config;
mod container;
pub mod image;
pub mod logs;
pub mod net;
pub mod rpc;
pub mod seal;
pub mod shim;
// what holds it together
pub mod cli;
pub mod node;
