//! When to renew the node certificate.
//!
//! A renewal hands out a certificate of the role that the managers have on record, and a node
//! with a manager's certificate can never be demoted (measured-stack.md §3.2). So none is asked
//! for unless the session at hand says that this node is, and stays, a worker.
//! Source: behaviour.md §6, §14; swarmkit `ca/renewer.go`, `node/node.go`.

use std::time::{Duration, Instant};

use crate::{
    limits::{RENEWAL_BACKOFF_MAX, RENEWAL_BACKOFF_MIN, ROTATE_PAUSE},
    model::{IssuanceState, NodeRecord, NodeRole, Now, UnixTime},
};

use super::random::Random;

/// Managers date a certificate back by this, and let it end as much later (swarmkit
/// `ca/config.go`, `CertBackdate`). Only the lab's have a shorter validity, without it.
const BACKDATE: Duration = Duration::from_hours(1);

/// Length of a validity; nothing when it ends before it begins.
fn span(not_before: UnixTime, not_after: UnixTime) -> Duration {
    let nanos = not_after.nanos().saturating_sub(not_before.nanos());
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(0))
}

fn later(time: UnixTime, by: Duration) -> UnixTime {
    let nanos = i64::try_from(by.as_nanos()).unwrap_or(i64::MAX);
    UnixTime::from_nanos(time.nanos().saturating_add(nanos))
}

/// Returns the wall-clock time from which a certificate may be renewed: uniform between 20 % and
/// 35 % of what it lasts from its issue on, for `random` uniform over all 64 bits.
///
/// Swarm's own workers wait for 50 % to 80 % (swarmkit `ca/config.go`, `calculateRandomExpiry`).
/// With 90 days this is 18 to 31 days after the issue: a device that is online one day in thirty
/// renews on the first or second such day, and has another before the end. A node that is always
/// online renews once in 18 to 31 days, 11 to 20 times a year, so that 1000 of them ask the
/// managers for a signature every 26 to 45 minutes.
fn due(not_before: UnixTime, not_after: UnixTime, random: u64) -> UnixTime {
    let (issued, lasts) = life(not_before, not_after);
    later(issued, part(lasts, random))
}

/// When a certificate was issued, and how long it lasts from then on.
fn life(not_before: UnixTime, not_after: UnixTime) -> (UnixTime, Duration) {
    let whole = span(not_before, not_after);
    let backdate = if BACKDATE * 2 <= whole { BACKDATE } else { Duration::ZERO };
    let issued = later(not_before, backdate);
    (issued, span(issued, not_after))
}

/// 20 % to 35 % of it.
fn part(lasts: Duration, random: u64) -> Duration {
    let share = u128::from(u32::try_from(random >> 32).unwrap_or(u32::MAX));
    let jitter = (lasts * 3 / 20).as_nanos() * share / u128::from(u32::MAX);
    lasts / 5 + Duration::from_nanos(u64::try_from(jitter).unwrap_or(0))
}

/// The next renewal.
#[derive(Debug)]
pub(super) struct Renewal {
    plan: Plan,
    /// What this session says of our role; without a session nothing is known.
    role: Option<NodeRole>,
    warned: bool,
    backoff: Duration,
    /// It was at least this late at that instant: a clock that stands in 1970 for months must not
    /// let a certificate expire.
    since: (Instant, UnixTime),
}

#[derive(Debug)]
enum Plan {
    /// There is no certificate to renew.
    None,
    /// When it is late enough; that is asked at `look`, and not before.
    Timed { due: UnixTime, look: Instant },
    /// At this instant: ordered, or tried before in vain.
    Soon { at: Instant },
    /// It is being done.
    UnderWay,
}

impl Renewal {
    /// For a certificate with this validity.
    pub(super) fn new(
        validity: Option<(UnixTime, UnixTime)>,
        random: &mut Random,
        now: Now,
    ) -> Self {
        let mut renewal = Self {
            plan: Plan::None,
            role: None,
            warned: false,
            backoff: Duration::ZERO,
            since: (now.mono, now.wall),
        };
        if let Some((not_before, not_after)) = validity {
            // How long ago it was issued, only the clock knows.
            let due = due(not_before, not_after, random.next());
            renewal.since = (now.mono, now.wall.max(not_before));
            renewal.plan = Plan::Timed { due, look: now.mono };
        }
        renewal
    }

    /// There is a new certificate: plan the next renewal by its validity.
    ///
    /// It was issued just now, whatever the clock and the dates say: a clock that runs ahead, or a
    /// CA that dates far back, must not keep us renewing. For the same reason nothing happens
    /// before a fifth of the validity has passed, or an hour, although the clock may jump.
    pub(super) fn certified(
        &mut self,
        not_before: UnixTime,
        not_after: UnixTime,
        random: &mut Random,
        now: Now,
    ) {
        self.backoff = Duration::ZERO;
        self.since = (now.mono, now.wall);
        let (_, lasts) = life(not_before, not_after);
        let look = now.mono + (lasts / 5).min(RENEWAL_BACKOFF_MAX);
        self.plan = Plan::Timed { due: later(now.wall, part(lasts, random.next())), look };
    }

    /// A renewal failed: try again later.
    pub(super) fn failed(&mut self, random: &mut Random, now: Now) {
        if let Plan::UnderWay = self.plan {
            self.backoff = (self.backoff * 2).clamp(RENEWAL_BACKOFF_MIN, RENEWAL_BACKOFF_MAX);
            // At least the floor, at most the cap.
            let half = (self.backoff / 2).max(RENEWAL_BACKOFF_MIN);
            let at = now.mono + half + random.within(self.backoff.saturating_sub(half));
            self.plan = Plan::Soon { at };
        }
    }

    /// The managers said what they know of this node.
    pub(super) fn told(&mut self, node: &NodeRecord, now: Now) {
        let manager = [node.role, node.desired_role].contains(&NodeRole::Manager);
        self.role = Some(if manager { NodeRole::Manager } else { NodeRole::Worker });
        if manager && !self.warned {
            log::warn!("promoted to manager, but this node stays a worker: demote it");
        }
        self.warned = manager;
        if node.certificate == IssuanceState::Rotate {
            match self.plan {
                Plan::None | Plan::Timed { .. } => {
                    self.plan = Plan::Soon { at: now.mono + ROTATE_PAUSE };
                }
                Plan::Soon { .. } | Plan::UnderWay => {}
            }
        }
    }

    /// There is no session: what the managers think of our role is unknown.
    pub(super) const fn offline(&mut self) {
        self.role = None;
    }

    /// When to look again.
    pub(super) fn deadline(&self) -> Option<Instant> {
        if self.role != Some(NodeRole::Worker) {
            return None;
        }
        match self.plan {
            Plan::None | Plan::UnderWay => None,
            Plan::Timed { look, .. } => Some(look),
            Plan::Soon { at } => Some(at),
        }
    }

    /// Whether to renew at once; from then on it is under way.
    pub(super) fn is_due(&mut self, now: Now) -> bool {
        if self.role != Some(NodeRole::Worker) {
            return false;
        }
        let start = match self.plan {
            Plan::None | Plan::UnderWay => false,
            Plan::Soon { at } => at <= now.mono,
            Plan::Timed { look, .. } if now.mono < look => false,
            Plan::Timed { due, .. } => {
                let (start, time) = self.since;
                let counted = later(time, now.mono.saturating_duration_since(start));
                let wait = span(now.wall.max(counted), due);
                // The wall clock may jump, so it is never trusted for longer than this.
                let look = now.mono + wait.min(RENEWAL_BACKOFF_MAX);
                self.plan = Plan::Timed { due, look };
                wait.is_zero()
            }
        };
        if start {
            self.plan = Plan::UnderWay;
        }
        start
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_renewal_is_due_between_a_fifth_and_a_third_of_what_is_left_at_the_issue() {
        let at = UnixTime::from_seconds;
        // The lab's short ones are not dated back.
        assert_eq!(due(at(1_000), at(1_060), 0), at(1_012));
        assert_eq!(due(at(1_000), at(1_060), u64::MAX), at(1_021));
        // Swarm's shortest: an hour, dated back by an hour and an hour longer.
        assert_eq!(due(at(0), at(7_200), 0), at(3_600 + 720));
        let days = |n: i64| n * 86_400;
        assert_eq!(due(at(-3_600), at(days(90)), 0), at(days(18)));
        assert_eq!(due(at(-3_600), at(days(90)), u64::MAX), at(days(63) / 2));
        assert_eq!(due(at(11_000), at(1_000), u64::MAX), at(11_000), "nonsense is due at once");
    }
}
