//! Every bound and interval of edgeagent: unit, reason, and source where swarm fixes it.
//!
//! A bound comes with a written answer for *full*. Numbers live here and nowhere else.

/// Longest identifier, in bytes. Swarm's have 25 characters, a container's 64; a longer one is
/// refused where it is read.
pub const ID_MAX_BYTES: usize = 64;

use std::time::Duration;

/// After `exceeded rate limit count of registrations`, wait this long: managers count
/// registrations that follow each other within 8 s (swarmkit `manager/dispatcher/nodes.go`).
pub const REGISTRATION_PAUSE: Duration = Duration::from_secs(9);

// --- agent ---

/// Tasks that a node holds at once, finished ones kept as history included. A 513th is reported
/// REJECTED and not kept; a finished one that we never ran is ignored. Ours: some 4 kB each.
pub const TASKS_MAX: usize = 512;

/// Bytes of all secrets and configs together, held in memory. One more is left out, and its task
/// fails with *not found*. Ours; swarm allows 500 kB per secret and 1 MB per config.
pub const FILES_MAX_BYTES: usize = 8 * 1024 * 1024;

/// What one secret or config is charged besides its text: identifiers and tree nodes.
pub const FILE_OVERHEAD_BYTES: usize = 256;

/// Managers that are remembered; further ones of a list are left out. Swarm advises 7 at most.
pub const MANAGERS_MAX: usize = 32;

/// Longest text of an error in a task's status, in bytes; the rest is cut. It goes to flash and
/// into the managers' Raft log.
pub const TASK_ERR_MAX_BYTES: usize = 2048;

/// From [`crate::agent::Output::Connect`] to the first session message: 5 s to dial several
/// addresses, 5 s for the dispatcher (swarmkit `agent/session.go`), and slow boards.
pub const REGISTRATION_TIMEOUT: Duration = Duration::from_secs(20);

/// A heartbeat is answered within this, or the link is dead (swarmkit `agent/session.go`).
pub const HEARTBEAT_TIMEOUT: Duration = Duration::from_secs(5);

/// Shortest heartbeat period that is obeyed: a manager that says 0 must not keep us busy.
pub const HEARTBEAT_MIN: Duration = Duration::from_millis(100);

/// Longest heartbeat period that is obeyed: a dead link must be noticed some time.
pub const HEARTBEAT_MAX: Duration = Duration::from_secs(600);

/// First step of the pause between sessions; each is this plus twice the one before
/// (swarmkit `agent/agent.go`).
pub const SESSION_BACKOFF_STEP: Duration = Duration::from_millis(100);

/// Longest pause between sessions (swarmkit `agent/agent.go`).
pub const SESSION_BACKOFF_MAX: Duration = Duration::from_secs(8);

/// A removed node asks this rarely whether it was a mistake. Ours: swarm never stops asking.
pub const REMOVED_RETRY: Duration = Duration::from_secs(3600);

/// A failed operation is tried again after this, plus up to half of it (swarmkit `agent/task.go`
/// has one second and asks for jitter).
pub const OPERATION_RETRY: Duration = Duration::from_secs(1);

/// First pause before an assignments stream with a gap is opened anew; doubles up to
/// [`REWATCH_MAX`]. Ours: swarm has none.
pub const REWATCH_MIN: Duration = Duration::from_millis(500);

/// Longest such pause.
pub const REWATCH_MAX: Duration = Duration::from_secs(60);

/// Pause between the order to rotate and the renewal (swarmkit `node/node.go`).
pub const ROTATE_PAUSE: Duration = Duration::from_millis(500);

/// First pause after a failed renewal; doubles up to [`RENEWAL_BACKOFF_MAX`] (behaviour.md §6.1).
pub const RENEWAL_BACKOFF_MIN: Duration = Duration::from_secs(1);

/// Longest pause after a failed renewal, and how often the wall clock is asked whether a renewal
/// is due: it may jump.
pub const RENEWAL_BACKOFF_MAX: Duration = Duration::from_secs(3600);
