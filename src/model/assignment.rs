//! What a dispatcher assigns to this node: tasks, and the secrets and configs that they need.

use super::{ConfigId, SecretBytes, SecretId, Task, TaskId};

/// One message of the assignments stream (swarmkit `api/dispatcher.proto`).
#[derive(Clone, Debug, PartialEq)]
pub struct AssignmentSet {
    /// Everything, or what changed.
    pub kind: SetKind,
    /// For [`SetKind::Incremental`]: the `results_in` of the message before.
    pub applies_to: String,
    /// The name of the state after this message; opaque.
    pub results_in: String,
    /// In no particular order.
    pub changes: Vec<Change>,
}

/// Whether a set stands alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetKind {
    /// All assignments of this node; what is not listed is to be removed.
    Complete,
    /// Changes to the state named by `applies_to`.
    Incremental,
}

/// One change of an assignment.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// A new or changed task.
    UpdateTask(Box<Task>),
    /// A task to forget.
    RemoveTask(TaskId),
    /// A task that this node can not take. One that it has already goes on.
    RefuseTask {
        /// Which.
        id: TaskId,
        /// Why, for its status.
        why: String,
    },
    /// A task that was over before it came here. One that this node has stays as it is.
    KeepTask(TaskId),
    /// A new or repeated secret.
    UpdateSecret(Secret),
    /// A secret that no task here needs any more.
    RemoveSecret(SecretId),
    /// A new or repeated config.
    UpdateConfig(Config),
    /// A config that no task here needs any more.
    RemoveConfig(ConfigId),
}

/// A secret. Held in memory only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Secret {
    /// Its identifier.
    pub id: SecretId,
    /// Its name.
    pub name: String,
    /// Its content; absent when this node has no room for it.
    pub data: Option<SecretBytes>,
    /// `golang` when the content is a template; empty otherwise.
    pub templating: String,
}

/// A config. Treated like a secret, for operators put passwords there too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Its identifier.
    pub id: ConfigId,
    /// Its name.
    pub name: String,
    /// Its content; absent when this node has no room for it.
    pub data: Option<SecretBytes>,
    /// `golang` when the content is a template; empty otherwise.
    pub templating: String,
}
