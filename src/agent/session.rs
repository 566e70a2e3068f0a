//! The session with a dispatcher: registering, heartbeats, and what follows a loss.
//!
//! ```text
//! Waiting ─► Connecting ─first message─► Ready
//!    ▲            │ lost, late             │ lost, heartbeat unanswered
//!    └────────────┴────────────────────────┘         any ─leave─► Left
//! ```
//! Every deadline lives in the state that it belongs to. Source: behaviour.md §7.

use std::time::{Duration, Instant};

use crate::{
    limits::{
        HEARTBEAT_MAX, HEARTBEAT_MIN, HEARTBEAT_TIMEOUT, REFUSED_RETRY, REGISTRATION_PAUSE,
        REGISTRATION_TIMEOUT, REMOVED_RETRY, SESSION_BACKOFF_MAX, SESSION_BACKOFF_STEP,
    },
    model::{LinkLoss, NodeRecord, Peer, SessionId},
};

use super::{Due, random::Random};

/// How the node stands with its managers, for `status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionPhase {
    /// Dialling a manager and registering there.
    Connecting,
    /// Registered.
    Ready,
    /// Waits for the next attempt.
    BackingOff,
    /// The operator removed this node; it asks once an hour whether that still holds.
    Removed,
    /// The operator made this node leave.
    Left,
}

/// What `status` shows of the session.
#[derive(Clone, Copy, Debug)]
pub struct SessionView<'a> {
    /// How the node stands with its managers.
    pub phase: SessionPhase,
    /// `host:port` of the manager that is being dialled or is connected.
    pub manager: Option<&'a str>,
    /// The session, or the one that the next attempt resumes.
    pub session: Option<&'a SessionId>,
    /// What the managers last said of this node.
    pub node: Option<&'a NodeRecord>,
    /// Why the last link was lost.
    pub last_loss: Option<&'a LinkLoss>,
    /// When the next attempt begins.
    pub next_attempt: Option<Instant>,
}

/// The machine.
#[derive(Debug)]
pub(super) struct Session {
    phase: Phase,
    resume: Option<SessionId>,
    backoff: Duration,
    removed: bool,
    /// The link at hand carries an outdated description.
    described: bool,
    node: Option<NodeRecord>,
    loss: Option<LinkLoss>,
}

#[derive(Debug)]
enum Phase {
    Waiting { until: Instant },
    Connecting { peer: Peer, until: Instant },
    Ready { peer: Peer, beat: Beat },
    Left,
}

#[derive(Clone, Copy, Debug)]
enum Beat {
    Next { at: Instant },
    Unanswered { until: Instant },
}

/// What a session message means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// It belongs to no link at hand.
    Stale,
    /// The node is registered.
    Registered,
    /// The managers tell something new.
    Update,
}

/// What the loss of a link means to the others.
#[derive(Debug)]
pub(super) struct Lost {
    /// The manager of that link.
    pub(super) peer: Peer,
    /// It did not serve well.
    pub(super) blame: bool,
    /// Membership is over, and that is news.
    pub(super) removed: bool,
}

/// What an elapsed deadline asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Elapsed {
    /// Choose a manager and connect.
    Connect,
    /// Send a heartbeat; its answer is being waited for.
    Beat,
    /// The manager did not answer: the link counts as lost for this reason.
    Dead(LinkLoss),
}

impl Session {
    pub(super) const fn new(now: Instant) -> Self {
        Self {
            phase: Phase::Waiting { until: now },
            resume: None,
            backoff: Duration::ZERO,
            removed: false,
            described: false,
            node: None,
            loss: None,
        }
    }

    pub(super) fn view(&self) -> SessionView<'_> {
        let (phase, manager, next_attempt) = match &self.phase {
            Phase::Waiting { until } => (SessionPhase::BackingOff, None, Some(*until)),
            Phase::Connecting { peer, .. } => (SessionPhase::Connecting, Some(peer), None),
            Phase::Ready { peer, .. } => (SessionPhase::Ready, Some(peer), None),
            Phase::Left => (SessionPhase::Left, None, None),
        };
        let removed = self.removed && phase != SessionPhase::Left;
        SessionView {
            phase: if removed { SessionPhase::Removed } else { phase },
            manager: manager.map(|peer| peer.addr.as_str()),
            session: self.resume.as_ref(),
            node: self.node.as_ref(),
            last_loss: self.loss.as_ref(),
            next_attempt,
        }
    }

    pub(super) const fn is_ready(&self) -> bool {
        matches!(self.phase, Phase::Ready { .. })
    }

    pub(super) fn deadline(&self) -> Option<(Instant, Due)> {
        match &self.phase {
            Phase::Waiting { until } => Some((*until, Due::Connect)),
            Phase::Connecting { until, .. } => Some((*until, Due::Registration)),
            Phase::Ready { beat: Beat::Next { at }, .. } => Some((*at, Due::Heartbeat)),
            Phase::Ready { beat: Beat::Unanswered { until }, .. } => {
                Some((*until, Due::HeartbeatAnswer))
            }
            Phase::Left => None,
        }
    }

    /// The deadline has passed, if it has.
    pub(super) fn elapsed(&mut self, now: Instant) -> Option<Elapsed> {
        match &mut self.phase {
            Phase::Waiting { until } if *until <= now => Some(Elapsed::Connect),
            Phase::Connecting { until, .. } if *until <= now => {
                let why = "no session message came in time".to_owned();
                Some(Elapsed::Dead(LinkLoss::Unreachable(why)))
            }
            Phase::Ready { beat, .. } => match *beat {
                Beat::Next { at } if at <= now => {
                    *beat = Beat::Unanswered { until: now + HEARTBEAT_TIMEOUT };
                    Some(Elapsed::Beat)
                }
                Beat::Unanswered { until } if until <= now => {
                    let why = "the heartbeat was not answered in time".to_owned();
                    Some(Elapsed::Dead(LinkLoss::Broken(why)))
                }
                Beat::Next { .. } | Beat::Unanswered { .. } => None,
            },
            Phase::Waiting { .. } | Phase::Connecting { .. } | Phase::Left => None,
        }
    }

    /// A link to `peer` is being asked for; returns the session to resume.
    pub(super) fn connecting(&mut self, peer: Peer, now: Instant) -> Option<SessionId> {
        self.described = false;
        self.phase = Phase::Connecting { peer, until: now + REGISTRATION_TIMEOUT };
        self.resume.clone()
    }

    /// There is no manager to connect to.
    pub(super) fn nobody(&mut self, random: &mut Random, now: Instant) {
        self.loss = Some(LinkLoss::Unreachable("no manager is known".to_owned()));
        self.backoff = SESSION_BACKOFF_MAX;
        let pause = if self.removed { REMOVED_RETRY } else { SESSION_BACKOFF_MAX };
        self.phase = Phase::Waiting { until: now + pause + random.within(SESSION_BACKOFF_STEP) };
    }

    /// A session message came.
    pub(super) fn message(
        &mut self,
        id: &SessionId,
        node: Option<NodeRecord>,
        now: Instant,
    ) -> Arrival {
        let arrival = match &self.phase {
            Phase::Waiting { .. } | Phase::Left => return Arrival::Stale,
            Phase::Ready { .. } => Arrival::Update,
            Phase::Connecting { peer, .. } => {
                // The first heartbeat goes out at once.
                let beat = Beat::Unanswered { until: now + HEARTBEAT_TIMEOUT };
                self.phase = Phase::Ready { peer: peer.clone(), beat };
                self.resume = Some(id.clone());
                self.backoff = Duration::ZERO;
                self.removed = false;
                Arrival::Registered
            }
        };
        if node.is_some() {
            self.node = node;
        }
        arrival
    }

    /// The manager at the other end of a registered link.
    pub(super) const fn manager(&self) -> Option<&Peer> {
        match &self.phase {
            Phase::Ready { peer, .. } => Some(peer),
            Phase::Waiting { .. } | Phase::Connecting { .. } | Phase::Left => None,
        }
    }

    /// The node is another one now: nothing of the old session is worth anything. Returns whether
    /// there was a link, which is to be closed.
    pub(super) fn renamed(&mut self, now: Instant) -> bool {
        let linked = match self.phase {
            Phase::Connecting { .. } | Phase::Ready { .. } => true,
            Phase::Waiting { .. } => false,
            Phase::Left => return false,
        };
        *self = Self::new(now);
        linked
    }

    /// A heartbeat was answered.
    pub(super) fn answered(&mut self, period: Duration, now: Instant) {
        if let Phase::Ready { beat, .. } = &mut self.phase {
            match *beat {
                Beat::Unanswered { .. } => {
                    let at = now + period.clamp(HEARTBEAT_MIN, HEARTBEAT_MAX);
                    *beat = Beat::Next { at };
                }
                Beat::Next { .. } => {}
            }
        }
    }

    /// The description of this node changed. A registration under way is not disturbed.
    pub(super) const fn describe(&mut self) {
        self.described = true;
    }

    /// The registered manager that still has an outdated description.
    pub(super) fn outdated(&self) -> Option<Peer> {
        if self.described { self.manager().cloned() } else { None }
    }

    /// The link is gone; plans the next attempt. Absent when there was none.
    pub(super) fn lost(
        &mut self,
        loss: LinkLoss,
        random: &mut Random,
        now: Instant,
    ) -> Option<Lost> {
        let peer = match &self.phase {
            Phase::Connecting { peer, .. } | Phase::Ready { peer, .. } => peer.clone(),
            Phase::Waiting { .. } | Phase::Left => return None,
        };
        let was_removed = self.removed;
        let mut least = Duration::ZERO;
        let blame = match &loss {
            LinkLoss::SessionInvalid => {
                self.resume = None;
                false
            }
            LinkLoss::RateLimited => {
                least = REGISTRATION_PAUSE;
                false
            }
            LinkLoss::Removed(_) => {
                self.resume = None;
                self.removed = true;
                false
            }
            LinkLoss::Refused(_) => {
                least = REFUSED_RETRY;
                true
            }
            LinkLoss::Unreachable(_)
            | LinkLoss::Untrusted(_)
            | LinkLoss::WrongTime(_)
            | LinkLoss::Denied(_)
            | LinkLoss::NoLeader(_)
            | LinkLoss::Misbehaved(_)
            | LinkLoss::Broken(_) => true,
        };
        self.loss = Some(loss);
        self.backoff = (SESSION_BACKOFF_STEP + self.backoff * 2).min(SESSION_BACKOFF_MAX);
        if self.removed {
            least = REMOVED_RETRY;
        }
        let until = now + least + random.within(self.backoff);
        self.phase = Phase::Waiting { until };
        Some(Lost { peer, blame, removed: self.removed && !was_removed })
    }

    /// The operator makes the node leave; returns whether there was a link.
    pub(super) fn leave(&mut self) -> bool {
        let linked = match self.phase {
            Phase::Connecting { .. } | Phase::Ready { .. } => true,
            Phase::Waiting { .. } | Phase::Left => false,
        };
        self.phase = Phase::Left;
        self.resume = None;
        linked
    }
}
