//! Points in time, always passed in and never read here.

use std::time::Instant;

use serde::{Deserialize, Serialize};

/// Wall-clock time: nanoseconds since 1970-01-01 UTC. Boards without a battery clock start at 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct UnixTime {
    nanos: i64,
}

impl UnixTime {
    /// From nanoseconds since the epoch.
    #[must_use]
    pub const fn from_nanos(nanos: i64) -> Self {
        Self { nanos }
    }

    /// From whole seconds since the epoch; saturates.
    #[must_use]
    pub const fn from_seconds(seconds: i64) -> Self {
        Self { nanos: seconds.saturating_mul(1_000_000_000) }
    }

    /// Nanoseconds since the epoch.
    #[must_use]
    pub const fn nanos(self) -> i64 {
        self.nanos
    }

    /// Whole seconds since the epoch, rounded down.
    #[must_use]
    pub const fn seconds(self) -> i64 {
        self.nanos.div_euclid(1_000_000_000)
    }

    /// Nanoseconds within the second, 0..1 000 000 000.
    #[must_use]
    pub const fn subsec_nanos(self) -> i32 {
        #[expect(clippy::cast_possible_truncation, reason = "the remainder is below 10^9")]
        let nanos = self.nanos.rem_euclid(1_000_000_000) as i32;
        nanos
    }
}

/// Both clocks, sampled once per turn of the loop.
///
/// Deadlines use `mono`; certificates and status timestamps use `wall`, which may be wrong.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// Never goes back.
    pub mono: Instant,
    /// May be 1970, and may jump.
    pub wall: UnixTime,
}
