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

// --- runner: sys, container, shim ---

/// Period of CPU limits, microseconds: Docker's (moby `daemon/daemon_unix.go`).
pub const CPU_PERIOD_MICROSECONDS: u64 = 100_000;

/// How often processes of a dying container are killed anew. Those that fork meanwhile are
/// caught by a later round; then removing fails and is tried again by the caller.
pub const CGROUP_KILL_ROUNDS: u32 = 500;

/// Pause between two such rounds.
pub const CGROUP_KILL_PAUSE: Duration = Duration::from_millis(2);

/// Links followed while a path is resolved by hand; as the kernel. One more is `ELOOP`.
pub const SYMLINKS_MAX: usize = 40;

/// Tries of `openat2` while something is renamed around it; then it is an error.
pub const RESOLVE_TRIES: u32 = 32;

/// Bytes read of a container's `/etc/passwd` or `/etc/group`; the rest is not looked at.
pub const ACCOUNT_FILE_MAX_BYTES: u64 = 1 << 20;

/// Bytes of the reason why a container did not start; the rest is cut off.
pub const START_ERROR_MAX_BYTES: usize = 2048;

/// Bytes of a frame between agent and shim without its length; a longer one ends the connection.
pub const SHIM_FRAME_MAX_BYTES: usize = 4096;

/// Bytes of a bundle: 64 secrets and configs of the largest allowed size. More is refused.
pub const BUNDLE_MAX_BYTES: u64 = 64 << 20;

/// Bytes of a record file of a task: an exit record holds one start error.
pub const SHIM_RECORD_MAX_BYTES: u64 = 64 << 10;

/// Connections that a shim serves; a further one is closed at once. The agent needs one, a
/// restarted agent a second while the first dies.
pub const SHIM_CONNECTIONS_MAX: usize = 4;

/// Longest line of a container's output that is kept in one piece, bytes; Docker's (moby
/// `daemon/logger/copier.go`).
pub const LOG_PIECE_BYTES: usize = 16 << 10;

/// After the container's init ended, output is read for at most this long: something outside
/// may hold the pipe open.
pub const DRAIN_TIME: Duration = Duration::from_secs(2);

/// How long the agent waits for a shim that closed its socket, or was told to kill, to be gone:
/// longer than [`DRAIN_TIME`]. Then it is killed, or removing fails and is tried again.
pub const SHIM_EXIT_TIME: Duration = Duration::from_secs(4);

/// Highest descriptor that is closed one by one before Linux 5.11, which lacks `close_range`: a
/// shim holds a few dozen, all close-on-exec anyway.
pub const DESCRIPTOR_MAX: i32 = 4096;
