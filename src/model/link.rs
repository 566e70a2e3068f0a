//! How a link to a manager ends.

use core::fmt;

/// Why the link to a manager is gone; one variant per different reaction (behaviour.md §5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkLoss {
    /// No manager could be spoken to: name, refusal, time-out. The text is the chain of causes.
    Unreachable(String),
    /// Something answered that is no manager of this swarm: TLS refused it.
    Untrusted(String),
    /// The certificate of whoever answered is not valid at this node's time: our clock is wrong, or
    /// it is no manager of this swarm.
    WrongTime(String),
    /// The managers refuse this node's certificate as they do when it has expired. Old ones give
    /// no reason (Go before 1.21 sends `bad_certificate`), so this alone proves nothing.
    Refused(String),
    /// The dispatcher has another session of this node, or has forgotten it: register anew.
    SessionInvalid,
    /// Registered too often: wait at least
    /// [`crate::limits::REGISTRATION_PAUSE`].
    RateLimited,
    /// The operator removed this node from the swarm: membership is over.
    Removed(String),
    /// The managers refuse this node's certificate for another reason.
    Denied(String),
    /// The managers have no leader, or are stopping: try another.
    NoLeader(String),
    /// The manager broke the protocol or a bound.
    Misbehaved(String),
    /// Anything else that ended the stream.
    Broken(String),
}

impl fmt::Display for LinkLoss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(why) => write!(f, "manager unreachable: {why}"),
            Self::Untrusted(why) => write!(f, "not a manager of this swarm: {why}"),
            Self::WrongTime(why) => {
                write!(f, "not a manager of this swarm, or this node's clock is wrong: {why}")
            }
            Self::Refused(why) => {
                write!(f, "the managers refuse this node's certificate: {why}")
            }
            Self::SessionInvalid => f.write_str("the session is no longer valid"),
            Self::RateLimited => f.write_str("registered too often"),
            Self::Removed(why) => write!(f, "removed from the swarm: {why}"),
            Self::Denied(why) => write!(f, "refused by the manager: {why}"),
            Self::NoLeader(why) => write!(f, "no leader: {why}"),
            Self::Misbehaved(why) => write!(f, "manager broke the protocol: {why}"),
            Self::Broken(why) => write!(f, "link broken: {why}"),
        }
    }
}
