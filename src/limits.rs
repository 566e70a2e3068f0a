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

// --- logs ---

/// Bytes of one log record's data: the shim cuts longer lines into such pieces, as Docker does
/// (moby `daemon/logger/copier.go`); a longer record in a file is damage.
pub const LOG_PIECE_MAX_BYTES: usize = 16 * 1024;

/// Bytes that a log reader fetches at once: two whole records, small enough to hold one per
/// follower.
pub const LOG_READ_BYTES: usize = 2 * LOG_PIECE_MAX_BYTES;

// --- spec ---

/// Least memory limit of a container (moby `daemon/daemon_unix.go`, `linuxMinMemory`).
pub const CONTAINER_MEMORY_MIN_BYTES: u64 = 6 * 1024 * 1024;

/// Least CPU limit: 0.01 CPU, for the kernel takes no quota below 1 ms.
pub const CONTAINER_NANO_CPUS_MIN: u64 = 10_000_000;

/// Bytes that one template may expand to, and any value within it: more than the largest secret
/// or config (1000 KiB, swarmkit `manager/controlapi/config.go`). A longer one is an error.
pub const TEMPLATE_MAX_BYTES: usize = 1024 * 1024;

/// Work that one template may do, one per step and per byte made: some tens of milliseconds on a
/// small device. More is an error.
pub const TEMPLATE_MAX_WORK: usize = 8 * 1024 * 1024;

/// Blocks and parentheses within each other in a template; deeper is an error, before the stack
/// ends.
pub const TEMPLATE_MAX_DEPTH: usize = 50;
