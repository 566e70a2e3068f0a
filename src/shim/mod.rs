//! One small process per running task, and the agent's end of it.
//!
//! The shim (`edgeagent-shim <task>`) starts the container, keeps its output, and leaves an exit
//! record before its socket ends. It outlives the agent; the agent may die at any time and
//! [`Shim::attach`] later. State lives in the files of the task's folder and in the end of the
//! socket; the socket itself only carries requests and events.
//!
//! Health probes run in the shim, one process each, straight in the container's namespaces, and
//! write nothing anywhere; what they say goes over the socket, to an agent that comes back too.
//!
//! Not here: what a task is for, restarts (swarm has none), what to do with a sick container.

mod cleanup;
mod client;
mod confine;
mod frame;
mod health;
mod lines;
mod pace;
mod probe;
mod process;
mod record;
mod stat;

pub(crate) use crate::container::has_controller;
pub use crate::container::{AppArmor, Storage, apparmor, storage};
pub use cleanup::{Left, layers_in_use, list, remove};
pub use client::{AttachError, Program, Shim, SpawnError, StartError, never_began, spawn};
#[doc(hidden)]
pub use frame::fuzz as fuzz_frame;
pub use process::main;
pub use record::Started;

/// For the fuzzer: what a program needs to be run.
#[doc(hidden)]
pub fn fuzz_interpreter(data: &[u8]) {
    crate::container::fuzz_interpreter(data);
}

/// For the fuzzer: layers copied over one another, lowest first.
///
/// # Errors
/// What could not be copied.
#[doc(hidden)]
pub fn merge_layers(layers: &[std::path::PathBuf], to: &std::path::Path) -> std::io::Result<()> {
    crate::container::merge_layers(layers, to)
}

/// For the fuzzer: a profile as a program for a machine.
///
/// # Errors
/// When it would be too long.
#[doc(hidden)]
pub fn seccomp_program(
    profile: &crate::model::SeccompProfile,
    machine: &str,
) -> Result<Vec<crate::sys::Instruction>, String> {
    crate::container::seccomp_program(profile, machine)
}

/// For the fuzzer: who a container's process becomes.
#[doc(hidden)]
pub fn fuzz_user(data: &[u8]) {
    crate::container::fuzz_user(data);
}
