//! A task: one run of one container, ordered by a manager, reported by us.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    ContainerId, ContainerSpec, Driver, GenericResource, NetworkAttachment, NodeId, ResourceLimits,
    ServiceId, TaskId, UnixTime,
};

/// How far a task has come, or should come. The order is meaningful: an observed state never
/// falls (swarmkit `api/types.proto`, `TaskState`; behaviour.md §9.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum TaskState {
    /// Made by an orchestrator; never sent to a worker.
    #[default]
    New = 0,
    /// Waits for the scheduler; never sent to a worker.
    Pending = 64,
    /// Given to this node: where a worker begins.
    Assigned = 192,
    /// The worker understands the spec.
    Accepted = 256,
    /// The image is being pulled, the bundle made.
    Preparing = 320,
    /// Prepared; waits for the order to start.
    Ready = 384,
    /// The container is being started, or is not healthy yet.
    Starting = 448,
    /// The container runs.
    Running = 512,
    /// The container ended with exit code 0.
    Complete = 576,
    /// The container was stopped because a manager wished it.
    Shutdown = 640,
    /// The container could not be started, or ended with another exit code.
    Failed = 704,
    /// The task could not be prepared here.
    Rejected = 768,
    /// Only ever desired: stop, then forget.
    Remove = 800,
    /// Set by managers for tasks of a lost node.
    Orphaned = 832,
}

impl TaskState {
    /// Every state, in order.
    pub const ALL: [Self; 14] = [
        Self::New,
        Self::Pending,
        Self::Assigned,
        Self::Accepted,
        Self::Preparing,
        Self::Ready,
        Self::Starting,
        Self::Running,
        Self::Complete,
        Self::Shutdown,
        Self::Failed,
        Self::Rejected,
        Self::Remove,
        Self::Orphaned,
    ];

    /// The wire number.
    #[must_use]
    pub const fn number(self) -> i32 {
        self as i32
    }

    /// The state with this wire number.
    #[must_use]
    pub fn from_number(number: i32) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.number() == number)
    }

    /// The task will never run again.
    #[must_use]
    pub fn is_terminal(self) -> bool {
        Self::Complete <= self
    }

    /// The name as `docker service ps` shows it, in lower case.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Pending => "pending",
            Self::Assigned => "assigned",
            Self::Accepted => "accepted",
            Self::Preparing => "preparing",
            Self::Ready => "ready",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Complete => "complete",
            Self::Shutdown => "shutdown",
            Self::Failed => "failed",
            Self::Rejected => "rejected",
            Self::Remove => "remove",
            Self::Orphaned => "orphaned",
        }
    }
}

/// A task as a manager describes it (swarmkit `api/objects.proto`, `Task`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Task {
    /// Its identifier; also the name of its folder in `exec-root`.
    pub id: TaskId,
    /// The service it belongs to.
    pub service_id: ServiceId,
    /// Position within a replicated service, from 1; 0 for a global service.
    pub slot: u64,
    /// The node it was given to.
    pub node_id: NodeId,
    /// `annotations.name`; normally empty, then a name is made of service, slot and id.
    pub name: String,
    /// `annotations.labels`.
    pub labels: BTreeMap<String, String>,
    /// `service_annotations.name`.
    pub service_name: String,
    /// `service_annotations.labels`.
    pub service_labels: BTreeMap<String, String>,
    /// What the managers last knew; a starting point only when there is no local record.
    pub status: TaskStatus,
    /// How far the task should come. Never decreases.
    pub desired_state: TaskState,
    /// Networks to attach to; empty means the engine's default bridge.
    pub networks: Vec<NetworkAttachment>,
    /// `endpoint.ports`: the ports to publish, host mode and ingress alike.
    pub ports: Vec<PortConfig>,
    /// The log driver, cluster default merged in.
    pub log_driver: Option<Driver>,
    /// Generic resources that the scheduler assigned.
    pub generic_resources: Vec<GenericResource>,
    /// What to run.
    pub runtime: Runtime,
    /// `resources.limits` and what belongs to them.
    pub limits: ResourceLimits,
}

/// A task and our own status of it: what is persisted, sealed, for each task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskRecord {
    /// As the manager last sent it.
    pub task: Task,
    /// Ours; what the manager says of it does not count.
    pub status: TaskStatus,
}

/// What a task runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Runtime {
    /// A container. Boxed, because tables of tasks have room for more than they hold.
    Container(Box<ContainerSpec>),
    /// A network attachment for a container that swarm does not manage.
    Attachment,
    /// Something generic, such as `plugin`.
    Generic {
        /// Its kind.
        kind: String,
    },
    /// Nothing that this version knows.
    Unknown,
}

/// What we tell the managers of a task (swarmkit `api/types.proto`, `TaskStatus`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskStatus {
    /// When anything but the timestamp last changed.
    pub at: UnixTime,
    /// How far the task has come.
    pub state: TaskState,
    /// What happened, in a word: `prepared`, `started`.
    pub message: String,
    /// What went wrong; the ERROR column of `docker service ps`.
    pub err: String,
    /// The container, from STARTING on.
    pub container: Option<ContainerStatus>,
    /// Host-mode ports that are really bound.
    pub ports: Vec<PortConfig>,
}

/// The container of a task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerStatus {
    /// Full identifier.
    pub id: ContainerId,
    /// Process id on the host; 0 when it does not run.
    pub pid: i32,
    /// Exit code; 0 while it runs.
    pub exit_code: i32,
}

/// A published port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortConfig {
    /// Transport.
    pub protocol: PortProtocol,
    /// Inside the container.
    pub target: u32,
    /// On the host; 0 asks for any free one.
    pub published: u32,
    /// Where it is published.
    pub mode: PublishMode,
}

/// Transport of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PortProtocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

/// Where a port is published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PublishMode {
    /// On every node, through the routing mesh.
    Ingress,
    /// On the task's own host.
    Host,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_swarms_and_rise_in_order() {
        assert!(TaskState::ALL.is_sorted());
        for state in TaskState::ALL {
            assert_eq!(TaskState::from_number(state.number()), Some(state));
        }
        assert_eq!(TaskState::Running.number(), 512);
        assert_eq!(TaskState::from_number(513), None);
    }
}
