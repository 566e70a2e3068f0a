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

/// Returns the wall-clock time at which a certificate should be renewed: uniform between 50 %
/// and 80 % of its validity, for `random` uniform over all 64 bits.
///
/// Source: swarmkit `ca/config.go`, `calculateRandomExpiry`.
fn due(not_before: UnixTime, not_after: UnixTime, random: u64) -> UnixTime {
    let span = i128::from(not_after.nanos()) - i128::from(not_before.nanos());
    let span = span.max(0);
    let jitter = (span * 3 / 10) * i128::from(random >> 1) / i128::from(u64::MAX >> 1);
    let at = i128::from(not_before.nanos()) + span / 2 + jitter;
    UnixTime::from_nanos(i64::try_from(at).unwrap_or(i64::MAX))
}

/// The next renewal.
#[derive(Debug)]
pub(super) struct Renewal {
    plan: Plan,
    /// What this session says of our role; without a session nothing is known.
    role: Option<NodeRole>,
    warned: bool,
    backoff: Duration,
}

#[derive(Debug)]
enum Plan {
    /// There is no certificate to renew.
    None,
    /// When the wall clock says so; it is asked again at `look`.
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
        let mut renewal =
            Self { plan: Plan::None, role: None, warned: false, backoff: Duration::ZERO };
        if let Some((not_before, not_after)) = validity {
            renewal.certified(not_before, not_after, random, now);
        }
        renewal
    }

    /// There is a certificate: plan the next renewal by its validity.
    pub(super) fn certified(
        &mut self,
        not_before: UnixTime,
        not_after: UnixTime,
        random: &mut Random,
        now: Now,
    ) {
        self.backoff = Duration::ZERO;
        self.plan = Plan::Timed { due: due(not_before, not_after, random.next()), look: now.mono };
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
            Plan::Timed { due, .. } if due <= now.wall => true,
            Plan::Timed { due, look } => {
                if look <= now.mono {
                    // The wall clock may jump, so it is never trusted for longer than this.
                    let nanos = due.nanos().saturating_sub(now.wall.nanos());
                    let wait = Duration::from_nanos(u64::try_from(nanos).unwrap_or(0));
                    let look = now.mono + wait.min(RENEWAL_BACKOFF_MAX);
                    self.plan = Plan::Timed { due, look };
                }
                false
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
    fn a_renewal_is_due_between_half_and_four_fifths_of_the_validity() {
        let (from, to) = (UnixTime::from_seconds(1_000), UnixTime::from_seconds(11_000));
        assert_eq!(due(from, to, 0), UnixTime::from_seconds(6_000));
        assert_eq!(due(from, to, u64::MAX), UnixTime::from_seconds(9_000));
        assert_eq!(due(to, from, u64::MAX), to, "nonsense is due at once");
    }
}
