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
