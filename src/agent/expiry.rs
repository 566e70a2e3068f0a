//! A certificate that has expired all the same: the node joins anew, reluctantly.
//!
//! Joining anew makes another node at the managers and leaves the old one behind, so it must not
//! happen by mistake. Two witnesses are needed: our clock, never taken for earlier than the time
//! floor, says that the certificate has expired, *and* a manager that shows a chain to our root
//! refuses it in the handshake. A clock that runs ahead is contradicted by the managers, and one
//! that runs behind makes the first witness silent.
//!
//! At most once in [`REJOIN_INTERVAL`], whatever the clock does. That so much time has passed is
//! proven in one of two ways, and neither asks the wall clock of this node:
//! - the managers refuse as expired a certificate that ends an interval or more after the last
//!   time: so it is later than its end;
//! - this process has counted the interval itself, on the monotonic clock.

use std::time::{Duration, Instant};

use crate::{
    limits::{REJOIN_INTERVAL, REJOIN_JITTER, REJOIN_RETRY, RENEWAL_BACKOFF_MAX},
    model::{Identity, Now, UnixTime},
};

use super::random::Random;

/// How the node's certificate stands with the managers, for `status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// No manager has refused it.
    Accepted,
    /// The managers refuse it, and by our clock it is valid: one of the two is wrong.
    Disputed,
    /// It has expired, and the node is about to join anew.
    Joining,
    /// It has expired, and there is no join token.
    NoToken,
    /// It has expired, and the node joined anew too short a time ago.
    TooSoon,
    /// It has expired after an operator had removed the node.
    Removed,
}

/// The machine.
#[derive(Debug)]
pub(super) struct Expiry {
    not_after: Option<UnixTime>,
    /// A time that is surely past.
    floor: UnixTime,
    token: bool,
    /// When the node last joined anew…
    rejoined: Option<UnixTime>,
    /// … and since when this process has counted.
    counting: Instant,
    refused: bool,
    attempt: Attempt,
    backoff: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Attempt {
    None,
    At(Instant),
    UnderWay,
}

impl Expiry {
    pub(super) const fn new(
        validity: Option<(UnixTime, UnixTime)>,
        token: bool,
        rejoined: Option<UnixTime>,
        floor: UnixTime,
        now: Instant,
    ) -> Self {
        Self {
            not_after: match validity {
                Some((_, not_after)) => Some(not_after),
                None => None,
            },
            floor,
            token,
            rejoined,
            counting: now,
            refused: false,
            attempt: Attempt::None,
            backoff: Duration::ZERO,
        }
    }

    /// There is a new certificate.
    pub(super) fn certified(&mut self, not_before: UnixTime, not_after: UnixTime) {
        self.not_after = Some(not_after);
        self.floor = Identity::raised_floor(self.floor, not_before);
        self.accepted();
    }

    /// A manager takes the certificate: if it seems expired, it is our clock that is wrong. One
    /// that was removed is a member again.
    pub(super) fn accepted(&mut self) {
        self.refused = false;
        self.backoff = Duration::ZERO;
        if let Attempt::At(_) = self.attempt {
            self.attempt = Attempt::None;
        }
        if self.rejoined == Some(Identity::NEVER) {
            self.rejoined = None;
        }
    }

    /// An operator removed this node: it never joins on its own account.
    pub(super) fn removed(&mut self) {
        self.rejoined = Some(Identity::NEVER);
        self.attempt = Attempt::None;
    }

    /// Whether a join token is at hand now.
    pub(super) const fn token(&mut self, token: bool) {
        self.token = token;
    }

    /// A manager that we believe refuses the certificate.
    pub(super) fn refused(&mut self, random: &mut Random, now: Now) {
        self.refused = true;
        if self.attempt == Attempt::None && self.standing(now) == Standing::Joining {
            self.attempt = Attempt::At(now.mono + random.within(REJOIN_JITTER));
        }
    }

    /// Joining anew failed. `rejoined` is what is stored now: no longer what it was, unless
    /// surely no manager took the token.
    pub(super) fn failed(&mut self, rejoined: Option<UnixTime>, random: &mut Random, now: Now) {
        if self.rejoined != Some(Identity::NEVER) {
            self.rejoined = rejoined;
        }
        self.backoff = (self.backoff * 2).clamp(REJOIN_RETRY, RENEWAL_BACKOFF_MAX);
        self.attempt = Attempt::At(now.mono + self.backoff / 2 + random.within(self.backoff / 2));
    }

    /// The node is another one now, with a certificate of its own.
    pub(super) fn rejoined(&mut self, at: UnixTime, now: Now) {
        self.rejoined = Some(at);
        self.counting = now.mono;
        self.attempt = Attempt::None;
    }

    pub(super) fn standing(&self, now: Now) -> Standing {
        let Some(not_after) = self.not_after.filter(|_| self.refused) else {
            return Standing::Accepted;
        };
        if now.wall.max(self.floor).seconds() <= not_after.seconds() {
            Standing::Disputed
        } else if self.rejoined == Some(Identity::NEVER) {
            Standing::Removed
        } else if !self.token {
            Standing::NoToken
        } else if self.rejoined.is_some_and(|at| !self.has_passed(at, not_after, now.mono)) {
            Standing::TooSoon
        } else {
            Standing::Joining
        }
    }

    /// An interval has passed since `at`, for sure.
    fn has_passed(&self, at: UnixTime, not_after: UnixTime, now: Instant) -> bool {
        let proven = Duration::from_nanos(
            u64::try_from(not_after.nanos().saturating_sub(at.nanos())).unwrap_or(0),
        );
        REJOIN_INTERVAL <= proven || REJOIN_INTERVAL <= now.saturating_duration_since(self.counting)
    }

    pub(super) const fn deadline(&self) -> Option<Instant> {
        match self.attempt {
            Attempt::At(at) => Some(at),
            Attempt::None | Attempt::UnderWay => None,
        }
    }

    /// Whether to join anew at once; from then on it is under way.
    pub(super) fn is_due(&mut self, now: Now) -> bool {
        match self.attempt {
            Attempt::At(at) if at <= now.mono => {}
            Attempt::None | Attempt::At(_) | Attempt::UnderWay => return false,
        }
        let join = self.standing(now) == Standing::Joining;
        self.attempt = if join { Attempt::UnderWay } else { Attempt::None };
        join
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400;
    const WALL: i64 = 1_700_000_000;

    struct Bench {
        expiry: Expiry,
        random: Random,
        epoch: Instant,
    }

    impl Bench {
        /// A certificate from `WALL` on, for `validity` seconds.
        fn new(validity: i64, token: bool, rejoined: Option<i64>) -> Self {
            #[expect(clippy::disallowed_methods, reason = "an origin; only differences count")]
            let epoch = Instant::now();
            let at = |seconds| UnixTime::from_seconds(WALL + seconds);
            let validity = Some((at(0), at(validity)));
            let expiry = Expiry::new(validity, token, rejoined.map(at), at(0), epoch);
            Self { expiry, random: Random::new(1), epoch }
        }

        /// `up` seconds after the start of the process, with a clock that shows `wall`.
        fn now(&self, up: u64, wall: i64) -> Now {
            let mono = self.epoch + Duration::from_secs(up);
            Now { mono, wall: UnixTime::from_seconds(WALL + wall) }
        }

        fn refused(&mut self, up: u64, wall: i64) -> Standing {
            let now = self.now(up, wall);
            self.expiry.refused(&mut self.random, now);
            self.expiry.standing(now)
        }

        /// Whether it joins within the jitter.
        fn joins(&mut self, up: u64, wall: i64) -> bool {
            let now = self.now(up + REJOIN_JITTER.as_secs(), wall);
            self.expiry.is_due(now)
        }
    }

    #[test]
    fn both_the_clock_and_a_manager_must_say_that_it_expired() {
        let mut bench = Bench::new(90 * DAY, true, None);
        assert_eq!(bench.expiry.standing(bench.now(0, 100 * DAY)), Standing::Accepted);
        assert!(!bench.joins(0, 100 * DAY), "the clock alone");
        for wall in [-WALL, 0, 89 * DAY, 90 * DAY] {
            assert_eq!(bench.refused(1, wall), Standing::Disputed);
            assert!(!bench.joins(1, wall), "the manager alone");
        }
        assert_eq!(bench.refused(2, 90 * DAY + 1), Standing::Joining);
        assert!(bench.joins(2, 90 * DAY + 1));
        assert!(!bench.joins(100, 91 * DAY), "it is under way");

        let mut bench = Bench::new(90 * DAY, true, None);
        bench.refused(1, 91 * DAY);
        bench.expiry.accepted();
        assert!(!bench.joins(1, 91 * DAY), "another manager took it: our clock runs ahead");
        bench.refused(2, 91 * DAY);
        assert!(!bench.joins(2, 10 * DAY), "the clock came right before it was due");
    }

    #[test]
    fn a_second_time_within_a_day_is_never_whatever_the_clock_says() {
        // Certificates of an hour: their end proves nothing, so the process must count a day.
        for wall in [3_601, DAY + 1, 30 * DAY, 4_000 * DAY] {
            let mut bench = Bench::new(3_600, true, Some(0));
            for up in [1, 3_600, 86_399] {
                assert_eq!(bench.refused(up, wall), Standing::TooSoon);
                assert!(!bench.joins(up.saturating_sub(5), wall));
            }
            assert_eq!(bench.refused(86_400, wall), Standing::Joining);
            assert!(bench.joins(86_400, wall));
        }
        // Noted by a clock that ran a year ahead: counting still ends it.
        let mut bench = Bench::new(3_600, true, Some(365 * DAY));
        assert_eq!(bench.refused(86_399, 400 * DAY), Standing::TooSoon);
        assert_eq!(bench.refused(86_400, 400 * DAY), Standing::Joining);
        // A certificate of 90 days that the managers call expired is proof enough after a reboot.
        let mut bench = Bench::new(90 * DAY, true, Some(0));
        assert_eq!(bench.refused(0, 91 * DAY), Standing::Joining);
    }

    #[test]
    fn a_failure_that_may_have_used_the_token_counts_and_another_does_not() {
        let mut bench = Bench::new(3_600, true, None);
        bench.refused(1, 3_700);
        assert!(bench.joins(1, 3_700));
        let now = bench.now(10, 3_710);
        bench.expiry.failed(None, &mut bench.random, now);
        assert!(!bench.joins(10, 3_710), "not at once");
        assert!(bench.joins(10 + REJOIN_RETRY.as_secs(), 3_800));
        let now = bench.now(100, 3_810);
        bench.expiry.failed(Some(now.wall), &mut bench.random, now);
        assert!(!bench.joins(100 + 2 * REJOIN_RETRY.as_secs(), 4_000));
        assert_eq!(bench.expiry.standing(now), Standing::TooSoon);
    }

    #[test]
    fn a_removed_node_and_one_without_a_token_never_join() {
        let mut bench = Bench::new(90 * DAY, false, None);
        assert_eq!(bench.refused(1, 91 * DAY), Standing::NoToken);
        assert!(!bench.joins(1, 91 * DAY));
        bench.expiry.token(true);
        assert_eq!(bench.refused(2, 91 * DAY), Standing::Joining);
        bench.expiry.removed();
        assert!(!bench.joins(2, 91 * DAY));
        for up in [3, 100 * 86_400] {
            assert_eq!(bench.refused(up, 1_000 * DAY), Standing::Removed);
            assert!(!bench.joins(up, 1_000 * DAY));
        }
        bench.expiry.accepted();
        assert_eq!(bench.refused(4, 91 * DAY), Standing::Joining, "it was a mistake");
    }
}
