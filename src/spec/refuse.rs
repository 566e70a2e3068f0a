//! What this node can not do yet: each is refused by name, here or where it is read.
//!
//! | option | why |
//! |---|---|
//! | a seccomp profile that notifies | a program that answers belongs to it, and Docker has none either |
//! | SELinux labels | containers get no label, and one that was asked for must not be missing |
//! | credential spec, isolation, named pipes | options of Windows: Docker refuses them on Linux too |
//! | `CreateMountpoint` of a bind | Docker's own API does not pass it to swarm |
//! | CSI volumes, drivers other than `local`, `type=nfs` and disks | the host mounts them, a bind mount shows them |
//! | log drivers other than `json-file`, `local` and `none` | logs are in memory |
//! | runtime `plugin`, network attachments | managers of plugins and other engines use them |

use super::{Field, SpecError};
use crate::model::{ContainerSpec, Task};

/// Refuses what the task itself asks for.
pub(super) fn check(task: &Task, spec: &ContainerSpec) -> Result<(), SpecError> {
    bridged(task)?;
    if spec.isolation {
        return Err(SpecError::invalid(
            Field::Isolation,
            "invalid isolation on linux: it is an option of Windows",
        ));
    }
    let privileges = &spec.privileges;
    if privileges.credential_spec {
        return Err(SpecError::invalid(
            Field::CredentialSpec,
            "invalid --security-opt: \"credentialspec\" is an option of Windows",
        ));
    }
    if privileges.selinux {
        return Err(SpecError::unsupported(
            Field::SeLinux,
            "SELinux labels",
            "leave them out of the service's privileges",
        ));
    }
    Ok(())
}

/// Whether the container belongs on the bridge; otherwise it has the host's network.
pub(super) fn bridged(task: &Task) -> Result<bool, SpecError> {
    for network in &task.networks {
        if network.predefined && matches!(network.name.as_str(), "host" | "bridge") {
            continue;
        }
        let (field, option, remedy) = match network.ingress {
            true => (
                Field::Publish,
                "--publish mode=ingress".to_owned(),
                "use --publish mode=host (compose: ports with mode: host)",
            ),
            false => (
                Field::Network,
                format!("--network {} (driver {})", network.name, network.driver),
                "use the network bridge or host, or another node",
            ),
        };
        return Err(SpecError::unsupported(field, option, remedy));
    }
    // The first one counts, as in Docker.
    Ok(task.networks.first().is_none_or(|network| network.name == "bridge"))
}
