//! How a joined node stands: the state that `status` names, and why.

use super::is_promoted;
use crate::{
    agent::{SessionPhase, SessionView, Standing},
    model::{LinkLoss, NodeId, UnixTime},
    node::CLOCK_REMEDY,
};

/// All that it depends on.
pub(super) struct Facts<'a> {
    pub(super) session: SessionView<'a>,
    pub(super) standing: Standing,
    /// Validity of the certificate in use.
    pub(super) validity: (UnixTime, UnixTime),
    /// What the clock shows, and a time that is surely past.
    pub(super) clock: UnixTime,
    pub(super) floor: UnixTime,
    /// The node that this one is about to become, and its key.
    pub(super) pending: Option<(&'a NodeId, String)>,
    /// What to say of a root CA that is not ours.
    pub(super) alarm: Option<&'a str>,
    pub(super) rejoined: Option<UnixTime>,
    pub(super) keep_when_removed: bool,
}

impl Facts<'_> {
    /// The name of the state, and the reason for it with what to do about it.
    pub(super) fn state(&self) -> (&'static str, String) {
        match self.session.phase {
            SessionPhase::Removed => self.removed(),
            SessionPhase::Ready => ("ready", self.ready()),
            SessionPhase::Left => ("leaving", self.loss()),
            SessionPhase::Connecting => self.away("connecting"),
            SessionPhase::BackingOff => self.away("backing-off"),
        }
    }

    fn loss(&self) -> String {
        self.session.last_loss.map(ToString::to_string).unwrap_or_default()
    }

    fn removed(&self) -> (&'static str, String) {
        let tasks = if self.keep_when_removed { "go on" } else { "are stopped" };
        let text = format!(
            "an operator removed this node from the swarm; its tasks {tasks}. To join again: \
             edgeagent leave, then edgeagent join"
        );
        ("removed", text)
    }

    /// It works; what is not right all the same.
    fn ready(&self) -> String {
        if self.session.node.is_some_and(is_promoted) {
            return String::from(
                "an operator promoted this node, and edgeagent is only ever a worker: it works on, \
                 but does not renew its certificate. On a manager: docker node demote",
            );
        }
        if self.is_behind() {
            return self.behind();
        }
        let (_, not_after) = self.validity;
        if not_after < self.clock {
            return format!(
                "this node's clock says {}, and the managers take a certificate that ends on \
                 {not_after}: the clock runs ahead. {CLOCK_REMEDY}",
                self.clock
            );
        }
        String::new()
    }

    fn away(&self, otherwise: &'static str) -> (&'static str, String) {
        if let Some((node, key)) = &self.pending {
            let text = format!(
                "this node's certificate expired, and it joins anew as node {node}: the managers \
                 have not signed that one's certificate yet; key {key}. Running tasks go on"
            );
            return ("pending-approval", text);
        }
        if let Some(alarm) = self.alarm {
            return ("root-changed", alarm.to_owned());
        }
        let (not_before, not_after) = self.validity;
        let expired = format!(
            "this node's certificate expired on {not_after}, and the managers refuse it. Running \
             tasks go on"
        );
        match self.standing {
            Standing::Removed => self.removed(),
            Standing::Joining => {
                ("expired", format!("{expired}; the node joins anew with its sealed token"))
            }
            Standing::NoToken => (
                "expired",
                format!(
                    "{expired}. There is no join token here that is of this swarm's root CA: seal \
                     one with edgeagent token set, or: edgeagent leave, then edgeagent join. A \
                     manager prints it: docker swarm join-token worker"
                ),
            ),
            Standing::TooSoon => (
                "expired",
                format!(
                    "{expired}. The node has used its sealed token already on {}, and does so once \
                     a day. Not to wait: edgeagent leave, then edgeagent join",
                    self.rejoined.unwrap_or_default()
                ),
            ),
            Standing::Disputed => (
                "clock-wrong",
                format!(
                    "the managers refuse this node's certificate, valid from {not_before} to \
                     {not_after}, and this node's clock says {}: most likely the clock is behind. \
                     {CLOCK_REMEDY}",
                    self.clock
                ),
            ),
            Standing::Accepted => match self.session.last_loss {
                Some(LinkLoss::WrongTime(why)) => ("clock-wrong", format!("{why}. {CLOCK_REMEDY}")),
                _ if self.is_behind() => {
                    let loss = self.loss();
                    let pause = if loss.is_empty() { "" } else { " " };
                    ("clock-wrong", format!("{}{pause}{loss}", self.behind()))
                }
                _ => (otherwise, self.loss()),
            },
        }
    }

    fn is_behind(&self) -> bool {
        self.clock < self.floor
    }

    fn behind(&self) -> String {
        format!(
            "this node's clock says {}, which is before {}, when a manager signed for it. \
             {CLOCK_REMEDY}",
            self.clock, self.floor
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEGIN: UnixTime = UnixTime::from_seconds(1_800_000_000);
    const END: UnixTime = UnixTime::from_seconds(1_807_776_000);

    fn at(days: i64) -> UnixTime {
        UnixTime::from_seconds(1_800_000_000 + days * 86_400)
    }

    fn facts<'a>(
        phase: SessionPhase,
        standing: Standing,
        clock: UnixTime,
        last_loss: Option<&'a LinkLoss>,
    ) -> Facts<'a> {
        let session = SessionView {
            phase,
            manager: None,
            session: None,
            node: None,
            last_loss,
            next_attempt: None,
        };
        Facts {
            session,
            standing,
            validity: (BEGIN, END),
            clock,
            floor: BEGIN,
            pending: None,
            alarm: None,
            rejoined: Some(at(1)),
            keep_when_removed: false,
        }
    }

    #[test]
    fn every_state_has_its_name_and_says_what_to_do() {
        use SessionPhase::{BackingOff, Connecting, Ready, Removed};
        let refused = LinkLoss::Refused(String::from("certificate expired"));
        let wrong = LinkLoss::WrongTime(String::from("not valid after 2027-01-01T00:00:00Z"));
        let broken = LinkLoss::Broken(String::from("reset"));
        let epoch = UnixTime::default();
        for (phase, standing, clock, loss, state, says) in [
            (Ready, Standing::Accepted, at(1), None, "ready", ""),
            (Ready, Standing::Accepted, at(91), None, "ready", "runs ahead"),
            (Ready, Standing::Accepted, epoch, None, "ready", "1970-01-01"),
            (Connecting, Standing::Accepted, at(1), None, "connecting", ""),
            (BackingOff, Standing::Accepted, at(1), Some(&broken), "backing-off", "reset"),
            (BackingOff, Standing::Accepted, at(100), Some(&broken), "backing-off", "reset"),
            // 1970 at boot, a clock 30 days ahead, and one that is behind the managers'.
            (Connecting, Standing::Accepted, epoch, None, "clock-wrong", "1970-01-01"),
            (BackingOff, Standing::Accepted, epoch, Some(&broken), "clock-wrong", "reset"),
            (BackingOff, Standing::Accepted, at(30), Some(&wrong), "clock-wrong", "2027"),
            (BackingOff, Standing::Disputed, at(89), Some(&refused), "clock-wrong", "behind"),
            (BackingOff, Standing::Joining, at(91), Some(&refused), "expired", "joins anew"),
            (BackingOff, Standing::NoToken, at(91), Some(&refused), "expired", "token set"),
            (BackingOff, Standing::TooSoon, at(91), Some(&refused), "expired", "once a day"),
            (BackingOff, Standing::Removed, at(91), Some(&refused), "removed", "leave"),
            (Removed, Standing::Accepted, at(91), None, "removed", "are stopped"),
        ] {
            let facts = facts(phase, standing, clock, loss);
            let (name, reason) = facts.state();
            assert_eq!(name, state, "{phase:?} {standing:?}: {reason}");
            assert!(reason.contains(says), "{phase:?} {standing:?}: {reason}");
            assert_eq!(reason.is_empty(), says.is_empty(), "{reason}");
            if name == "expired" {
                assert!(reason.contains("tasks go on"), "{reason}");
            }
        }
        let mut held = facts(BackingOff, Standing::Accepted, at(1), Some(&broken));
        held.alarm = Some("another root CA");
        assert_eq!(held.state(), ("root-changed", String::from("another root CA")));
        let node = NodeId::new("n2").unwrap();
        held.pending = Some((&node, String::from("sha256:ab")));
        let (name, reason) = held.state();
        assert_eq!(name, "pending-approval");
        assert!(reason.contains("n2") && reason.contains("sha256:ab"), "{reason}");
        let mut kept = facts(Removed, Standing::Accepted, at(1), None);
        kept.keep_when_removed = true;
        assert!(kept.state().1.contains("go on"));
    }
}
