//! Why this node can not run a task.

use core::fmt;

use super::template::TemplateError;
use crate::limits::FILES_MAX_BYTES;

/// Why a task can not become a bundle. The texts reach the operator through `docker service ps`;
/// where Docker has a text of its own, it is that one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SpecError {
    /// The task is for a runtime other than containers.
    Runtime {
        /// `plugin` or another kind; empty when not even that is known.
        kind: String,
    },
    /// The spec names no image.
    NoImage,
    /// Neither spec nor image says what to run.
    NoCommand,
    /// Docker can do it, this node can not.
    Unsupported {
        /// What was asked for, as `docker service create` names it.
        option: String,
        /// What the operator can do.
        remedy: &'static str,
    },
    /// The spec, or what it becomes with this image, is wrong on any node.
    Invalid {
        /// What is wrong: Docker's text where there is one.
        reason: String,
    },
    /// A template of the spec does not expand.
    Expand {
        /// `env`, `mounts` or `hostname`.
        part: &'static str,
        /// Which one.
        item: String,
        /// Why.
        source: TemplateError,
    },
    /// A secret or config is a template that does not expand.
    Payload {
        /// `secret` or `config`.
        kind: &'static str,
        /// Its identifier.
        id: String,
        /// Why.
        source: TemplateError,
    },
    /// A secret or config has not arrived at this node.
    NotFound {
        /// `secret` or `config`.
        kind: &'static str,
        /// Its identifier.
        id: String,
    },
    /// A secret or config was left out, see [`FILES_MAX_BYTES`].
    NoRoom {
        /// `secret` or `config`.
        kind: &'static str,
        /// Its identifier.
        id: String,
    },
    /// More than this node has.
    Cpus {
        /// CPUs of this node.
        available: u32,
    },
    /// The owner of this device does not want it here.
    NotAdmitted {
        /// The rule below `admission` in `agent.json`.
        rule: &'static str,
        /// What was asked for.
        what: String,
    },
    /// A limit of memory on a kernel that can not enforce any, and the owner wants none unenforced.
    NoMemoryController,
    /// Less memory than a container can live with.
    Memory,
}

impl SpecError {
    pub(super) fn unsupported(option: impl Into<String>, remedy: &'static str) -> Self {
        Self::Unsupported { option: option.into(), remedy }
    }

    pub(super) fn invalid(reason: impl Into<String>) -> Self {
        Self::Invalid { reason: reason.into() }
    }
}

impl fmt::Display for SpecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Runtime { kind } if kind.is_empty() => f.write_str("unsupported runtime"),
            Self::Runtime { kind } if kind == "plugin" => {
                f.write_str("runtime type \"plugin\" only supported in experimental")
            }
            Self::Runtime { kind } => write!(f, "unsupported runtime type: {kind:?}"),
            Self::NoImage => f.write_str("dockerexec: image required"),
            Self::NoCommand => f.write_str("no command specified"),
            Self::Unsupported { option, remedy } => {
                write!(f, "this node runs edgeagent, which can not do {option} yet: {remedy}")
            }
            Self::Invalid { reason } => f.write_str(reason),
            Self::Expand { part, item, .. } => write!(f, "expanding {part} failed: {item}"),
            Self::Payload { kind, id, .. } => {
                write!(f, "failed to expand templated {kind} {id}")
            }
            Self::NotFound { kind, id } => {
                write!(f, "unable to get {kind} from {kind} store: {kind} {id} not found")
            }
            Self::NoRoom { kind, id } => write!(
                f,
                "{kind} {id} is left out: this node holds at most {} kB of secrets and configs in \
                 all: give it fewer or smaller ones",
                FILES_MAX_BYTES / 1024
            ),
            Self::Cpus { available } => write!(
                f,
                "range of CPUs is from 0.01 to {available}.00, as there are only {available} CPUs available"
            ),
            Self::NotAdmitted { rule, what } => {
                write!(f, "{what} is not admitted by this device (rule admission.{rule})")
            }
            Self::NoMemoryController => f.write_str(
                "this device's kernel can not limit memory, and its limits-without-controller says \
                 reject: boot with cgroup_enable=memory, or leave out --limit-memory",
            ),
            Self::Memory => f.write_str("Minimum memory limit allowed is 6MB"),
        }
    }
}

impl core::error::Error for SpecError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Expand { source, .. } | Self::Payload { source, .. } => Some(source),
            Self::Runtime { .. }
            | Self::NoImage
            | Self::NoCommand
            | Self::Unsupported { .. }
            | Self::Invalid { .. }
            | Self::NotFound { .. }
            | Self::NoRoom { .. }
            | Self::Cpus { .. }
            | Self::NotAdmitted { .. }
            | Self::NoMemoryController
            | Self::Memory => None,
        }
    }
}
