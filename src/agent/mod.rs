//! The core: a worker's decisions, without IO, clock or randomness of its own.
//!
//! The driver calls [`Agent::handle`] with what happened, drains [`Agent::poll`] and does each
//! [`Output`] in order, then waits until [`Agent::deadline`] or the next event. Every effect
//! comes back as a later [`Input`]. [`Output::Persist`] precedes what depends on it; the driver
//! may not reorder.

pub mod assignments;
mod expiry;
mod files;
mod machine;
mod memory;
mod random;
mod remotes;
mod renewal;
mod reporter;
mod session;
pub mod task;

use std::time::Duration;

use crate::model::{
    AssignmentSet, ContainerStatus, LinkLoss, Peer, PortConfig, SessionId, SessionMessage, TaskId,
    TaskRecord, TaskState, TaskStatus, UnixTime,
};

pub use expiry::Standing;
pub use machine::{Agent, Due, Start};
pub use session::{SessionPhase, SessionView};

/// What happened outside.
#[derive(Debug)]
pub enum Input {
    /// The deadline has passed.
    Timeout,
    /// The dispatcher sent a session message; the first one after [`Output::Connect`] means
    /// *registered*.
    Session(SessionMessage),
    /// A heartbeat was answered.
    HeartbeatAck {
        /// Send the next one after this.
        period: Duration,
    },
    /// The dispatcher sent assignments.
    Assignments(AssignmentSet),
    /// The dispatcher took (or knowingly dropped) a status.
    Reported {
        /// Of this task.
        task: TaskId,
        /// With this state.
        state: TaskState,
    },
    /// The link asked for by [`Output::Connect`] is gone, or never came to be.
    LinkLost(LinkLoss),
    /// An operation asked for by [`Output::Perform`] has ended.
    Settled {
        /// Of this task.
        task: TaskId,
        /// This one.
        op: Op,
        /// How.
        settlement: Settlement,
    },
    /// What the node says of itself changed: the session must carry it.
    Described,
    /// There is a (new) certificate with this validity.
    Certificate {
        /// Start of its validity.
        not_before: UnixTime,
        /// End of its validity.
        not_after: UnixTime,
    },
    /// A renewal asked for by [`Output::Renew`] failed.
    RenewalFailed,
    /// Joining anew, asked for by [`Output::Rejoin`], has made this node another one: the session
    /// begins afresh. What runs goes on until the managers have said what the new node is to run;
    /// tasks of the old one are not part of that, and are removed then.
    Rejoined {
        /// When, for the limit of once a day.
        at: UnixTime,
        /// Start of the new certificate's validity.
        not_before: UnixTime,
        /// End of its validity.
        not_after: UnixTime,
    },
    /// Joining anew failed.
    RejoinFailed {
        /// When the node last did, as it is stored: now, unless surely no manager took the token.
        rejoined: Option<UnixTime>,
    },
    /// Whether there is a join token now.
    Token(bool),
    /// The operator makes the node leave: stop and remove every task, then [`Output::Left`].
    Leave,
}

/// What to do outside.
#[derive(Debug, PartialEq)]
pub enum Output {
    /// Store this task's record durably before doing anything that follows.
    Persist(Box<TaskRecord>),
    /// Delete this task's record; its container is gone already.
    Erase(TaskId),
    /// Store this list of managers.
    Managers(Vec<Peer>),
    /// Open a link to this manager and register, resuming the session if one is named.
    Connect {
        /// The manager.
        peer: Peer,
        /// Session to resume.
        session: Option<SessionId>,
    },
    /// Tell why the link was lost. [`Output::Close`] follows.
    Lost(LinkLoss),
    /// Close the link.
    Close,
    /// Send a heartbeat on the link.
    Heartbeat,
    /// Open the assignments stream on the link, anew if there is one.
    Watch,
    /// Send this status on the link. At most one per task is under way.
    Report(TaskId, TaskStatus),
    /// Begin an operation; it ends with [`Input::Settled`]. At most one per task is under way.
    Perform(TaskId, Op),
    /// End the operation under way as soon as possible; it still settles.
    Cancel(TaskId),
    /// Renew the certificate; ends with [`Input::Certificate`] or [`Input::RenewalFailed`].
    Renew,
    /// Join anew, with a new key, as another node; ends with [`Input::Rejoined`] or
    /// [`Input::RejoinFailed`].
    Rejoin,
    /// Every task is stopped and removed after [`Input::Leave`].
    Left,
}

/// An operation on a task's container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Op {
    /// Check that this node can run the spec at all.
    Resolve,
    /// Pull the image and make all that a start needs.
    Prepare,
    /// Start the container.
    Start,
    /// Wait for the container to end.
    Wait,
    /// Stop the container, gently first.
    Shutdown,
    /// Stop it and remove every trace of it.
    Remove,
}

/// How an operation ended, and what is known of the container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settlement {
    /// How.
    pub outcome: Outcome,
    /// The container, from the start on.
    pub container: Option<ContainerStatus>,
    /// Host-mode ports that are really bound.
    pub ports: Vec<PortConfig>,
}

/// How an operation ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It did its work, or the work was done already.
    Done,
    /// [`Output::Cancel`] ended it; decide again.
    Cancelled,
    /// It failed, and may work later.
    Temporary(String),
    /// It failed for good; the text is what the operator reads.
    Fatal(String),
}
