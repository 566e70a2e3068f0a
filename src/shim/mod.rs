//! One small process per running task, and the agent's end of it.
//!
//! The shim (`edgeagent-shim <task>`) starts the container, keeps its output, and leaves an exit
//! record before its socket ends. It outlives the agent; the agent may die at any time and
//! [`Shim::attach`] later. State lives in the files of the task's folder and in the end of the
//! socket; the socket itself only carries requests and one event.
//!
//! Not here: what a task is for, restarts (swarm has none), health probes.

mod cleanup;
mod client;
mod frame;
mod lines;
mod process;
mod record;

pub(crate) use crate::container::has_controller;
pub use cleanup::{layers_in_use, list, remove};
pub use client::{AttachError, Program, Shim, SpawnError, StartError, never_began, spawn};
#[doc(hidden)]
pub use frame::fuzz as fuzz_frame;
pub use process::main;
pub use record::Started;
