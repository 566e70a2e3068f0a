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

// --- ca ---

/// Characters of the root CA's digest in a join token: 256 bits in base 36 (swarmkit
/// `ca/config.go`, `base36DigestLen`).
pub const TOKEN_DIGEST_CHARS: usize = 50;

/// Characters of the secret in a join token: 128 bits in base 36 (swarmkit `ca/config.go`,
/// `maxGeneratedSecretLength`).
pub const TOKEN_SECRET_CHARS: usize = 25;

/// Longest PEM text, in bytes, of a root CA bundle or a certificate chain. Real ones have 550 to
/// some 8000; a longer one is refused.
pub const PEM_MAX_BYTES: usize = 65_536;

/// Most certificates in a root CA bundle or a chain. Swarm sends one, or two during a rotation;
/// more are refused.
pub const PEM_MAX_CERTIFICATES: usize = 16;

// --- seal ---

/// Largest sealed identity, in bytes: token, key, chain, root bundle and manager list need some
/// 6000. A larger one is not stored, and the one before stays.
pub const IDENTITY_MAX_BYTES: usize = 262_144;

/// Largest sealed task record, in bytes: a spec of some kilobytes, or much more with long
/// environments. A larger one is not stored, and its task must be refused.
pub const TASK_RECORD_MAX_BYTES: usize = 1_048_576;

/// What is read at most, in bytes, of a file that names the hardware; real ones have up to 37.
pub const HARDWARE_ID_MAX_BYTES: usize = 256;

// --- config ---

/// Largest `agent.json`, in bytes; real ones have some hundred. A larger one is refused.
pub const CONFIG_MAX_BYTES: usize = 262_144;

/// What a task's log may hold, in bytes, when `log-opts` says nothing: it is in memory, and a
/// small device runs tens of tasks.
pub const LOG_DEFAULT_BYTES: u64 = 1_048_576;

/// The least that `log-opts.max-size` takes, in bytes: less holds no useful line.
pub const LOG_MIN_BYTES: u64 = 4096;

/// The most that `log-opts.max-file` takes, in files.
pub const LOG_MAX_FILES: u32 = 1000;
