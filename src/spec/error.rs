//! Why this node can not run a task.

use core::fmt;

use super::{Field, template::TemplateError};
use crate::limits::FILES_MAX_BYTES;

/// Why a task cannot become a bundle. The texts reach the operator through `docker service ps`:
/// the cause, in Docker's words where it has some; then the [`Field`] in the operator's words and
/// what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SpecError {
    /// The task is for a runtime other than containers.
    Runtime {
        /// `plugin` or another kind; empty when not even that is known.
        kind: String,
    },
    /// The spec names no image.
    NoImage,
    /// The image is neither here nor could it be pulled.
    NotHere {
        /// Its reference.
        image: String,
        /// What came of the pull.
        reason: Option<String>,
    },
    /// Neither spec nor image says what to run.
    NoCommand,
    /// Docker can do it, this node cannot.
    Unsupported {
        /// Where it was asked for.
        field: Field,
        /// What was asked for, as `docker service create` names it.
        option: String,
        /// What the operator can do.
        remedy: &'static str,
    },
    /// The spec, or what it becomes with this image, is wrong on any node.
    Invalid {
        /// Where.
        field: Field,
        /// What is wrong: Docker's text where there is one.
        reason: String,
    },
    /// A template of the spec does not expand.
    Expand {
        /// `env`, `mounts` or `hostname`.
        part: &'static str,
        /// The same, for the operator.
        field: Field,
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
    /// A bind mount's source is not there.
    NoSource {
        /// Docker's text for the stage of the task.
        reason: &'static str,
        /// The source.
        path: String,
    },
    /// A device that was assigned is none of those that this node offers.
    NoDevice {
        /// The class.
        kind: String,
        /// What was assigned.
        value: String,
    },
    /// The owner of this device does not want it here.
    NotAdmitted {
        /// Where it was asked for.
        field: Field,
        /// The rule below `admission` in `agent.json`.
        rule: &'static str,
        /// What was asked for.
        what: String,
        /// What the operator can do.
        remedy: &'static str,
    },
    /// A limit of memory on a kernel that can not enforce any, and the owner wants none unenforced.
    NoMemoryController,
    /// Less memory than a container can live with.
    Memory,
}

impl SpecError {
    pub(super) fn unsupported(
        field: Field,
        option: impl Into<String>,
        remedy: &'static str,
    ) -> Self {
        Self::Unsupported { field, option: option.into(), remedy }
    }

    pub(super) fn invalid(field: Field, reason: impl Into<String>) -> Self {
        Self::Invalid { field, reason: reason.into() }
    }

    /// What the operator would change.
    pub(super) fn field(&self) -> Field {
        match self {
            Self::Unsupported { field, .. }
            | Self::Invalid { field, .. }
            | Self::Expand { field, .. }
            | Self::NotAdmitted { field, .. } => *field,
            Self::Runtime { .. } => Field::Runtime,
            Self::NoImage | Self::NotHere { .. } => Field::Image,
            Self::NoCommand => Field::Command,
            Self::Payload { kind, .. }
            | Self::NotFound { kind, .. }
            | Self::NoRoom { kind, .. } => {
                if *kind == "config" {
                    Field::Config
                } else {
                    Field::Secret
                }
            }
            Self::NoSource { .. } => Field::Mount,
            Self::NoDevice { .. } => Field::GenericResource,
            Self::Cpus { .. } => Field::LimitCpu,
            Self::NoMemoryController | Self::Memory => Field::LimitMemory,
        }
    }

    /// What happened and why.
    fn cause(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Runtime { kind } if kind.is_empty() => f.write_str("unsupported runtime"),
            Self::Runtime { kind } if kind == "plugin" => {
                f.write_str("runtime type \"plugin\" only supported in experimental")
            }
            Self::Runtime { kind } => write!(f, "unsupported runtime type: {kind:?}"),
            Self::NoImage => f.write_str("dockerexec: image required"),
            // Why the pull failed is what to mend; most reasons name the image.
            Self::NotHere { image, reason } => match reason {
                Some(reason) if reason.contains(image.as_str()) => f.write_str(reason),
                Some(reason) => write!(f, "{reason} (No such image: {image})"),
                None => write!(f, "No such image: {image}"),
            },
            Self::NoCommand => f.write_str("no command specified"),
            Self::Unsupported { option, .. } => {
                write!(f, "this node runs edgeagent, which cannot do {option}")
            }
            Self::Invalid { reason, .. } => f.write_str(reason),
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
                 all",
                FILES_MAX_BYTES / 1024
            ),
            Self::Cpus { available } => write!(
                f,
                "range of CPUs is from 0.01 to {available}.00, as there are only {available} CPUs available"
            ),
            Self::NoSource { path, .. } if of_docker(path) => write!(
                f,
                "{path} is not there: this node runs edgeagent, which has neither Docker's socket \
                 nor its files"
            ),
            Self::NoSource { reason, path } => write!(f, "{reason}: {path}"),
            Self::NoDevice { kind, value } => {
                write!(f, "{value} is no device of the class {kind} that this node offers")
            }
            Self::NotAdmitted { rule, what, .. } => {
                write!(f, "{what} is not admitted by this device (rule admission.{rule})")
            }
            Self::NoMemoryController => f.write_str(
                "this device's kernel cannot limit memory, and its limits-without-controller says \
                 reject",
            ),
            Self::Memory => f.write_str("Minimum memory limit allowed is 6MB"),
        }
    }
}

impl fmt::Display for SpecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.cause(f)?;
        let field = self.field();
        match self {
            // Why it does not expand follows, and is what to mend.
            Self::Expand { .. } | Self::Payload { .. } => write!(f, "; {field}"),
            Self::Unsupported { remedy, .. } | Self::NotAdmitted { remedy, .. } => {
                write!(f, "; {field}: {remedy}")
            }
            Self::NotFound { kind, .. } => write!(
                f,
                "; {field}: it has not arrived from the manager; see docker {kind} ls there, and \
                 update the service"
            ),
            Self::NotHere { .. } => write!(
                f,
                "; {field}: name one that its registry has, or load it on this node with edgeagent \
                 image load"
            ),
            Self::NoRoom { .. } => write!(f, "; {field}: give it fewer or smaller ones"),
            Self::NoSource { path, .. } if of_docker(path) => write!(
                f,
                "; {field}: keep the service on nodes that run dockerd, with --constraint \
                 (compose: deploy.placement.constraints) engine.labels.io.edgeagent!={}",
                env!("CARGO_PKG_VERSION")
            ),
            Self::NoSource { .. } => write!(
                f,
                "; {field}: make it on this node, name what is there, or use a volume, which is made"
            ),
            Self::NoDevice { .. } => {
                write!(f, "; {field}: plug it in, or see device-classes in agent.json")
            }
            Self::NoMemoryController => {
                write!(f, "; {field}: boot with cgroup_enable=memory, or leave the limit out")
            }
            Self::Runtime { .. } => write!(f, "; {field}: run it on another node"),
            Self::NoImage
            | Self::NoCommand
            | Self::Invalid { .. }
            | Self::Cpus { .. }
            | Self::Memory => write!(f, "; {field} takes {}", field.takes()),
        }
    }
}

/// Whether a path of the host belongs to a Docker engine, so that it is not a folder that somebody
/// forgot to make.
fn of_docker(path: &str) -> bool {
    const OWN: [&str; 9] = [
        "/var/run/docker.sock",
        "/run/docker.sock",
        "/var/lib/docker",
        "/var/run/docker",
        "/run/docker",
        "/var/run/containerd",
        "/run/containerd",
        "/var/lib/containerd",
        "/etc/docker",
    ];
    OWN.iter().any(|own| {
        path.strip_prefix(own).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    })
}

impl core::error::Error for SpecError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Expand { source, .. } | Self::Payload { source, .. } => Some(source),
            Self::Runtime { .. }
            | Self::NoImage
            | Self::NotHere { .. }
            | Self::NoCommand
            | Self::Unsupported { .. }
            | Self::Invalid { .. }
            | Self::NotFound { .. }
            | Self::NoRoom { .. }
            | Self::Cpus { .. }
            | Self::NotAdmitted { .. }
            | Self::NoSource { .. }
            | Self::NoDevice { .. }
            | Self::NoMemoryController
            | Self::Memory => None,
        }
    }
}
