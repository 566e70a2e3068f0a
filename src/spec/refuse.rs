//! What this node can not do yet: each is refused by name.

use super::SpecError;
use crate::model::{ContainerSpec, NetworkMode, PublishMode, SeccompChoice, Task};

/// Refuses what the task itself asks for.
pub(super) fn check(task: &Task, spec: &ContainerSpec) -> Result<(), SpecError> {
    network(task)?;
    let no = SpecError::unsupported;
    if task.ports.iter().any(|port| port.mode == PublishMode::Host) {
        return Err(no("--publish mode=host", "use --network host, or another node"));
    }
    if spec.isolation {
        return Err(SpecError::invalid("invalid isolation on linux: it is an option of Windows"));
    }
    let privileges = &spec.privileges;
    if privileges.credential_spec {
        return Err(SpecError::invalid(
            "invalid --security-opt: \"credentialspec\" is an option of Windows",
        ));
    }
    if privileges.selinux {
        return Err(no("SELinux labels", "leave them out of the service's privileges"));
    }
    match privileges.seccomp {
        SeccompChoice::Default | SeccompChoice::Unconfined => Ok(()),
        SeccompChoice::Custom(_) => Err(custom_seccomp()),
    }
}

/// A seccomp profile of the operator's own.
pub(super) fn custom_seccomp() -> SpecError {
    SpecError::unsupported(
        "a custom seccomp profile",
        "use the default profile and add capabilities, or set it to unconfined",
    )
}

/// The container's network namespace.
pub(super) fn network(task: &Task) -> Result<NetworkMode, SpecError> {
    for network in &task.networks {
        if network.predefined && network.name == "host" {
            continue;
        }
        let option = match network.ingress {
            true => "--publish mode=ingress".to_owned(),
            false => format!("--network {} (driver {})", network.name, network.driver),
        };
        return Err(SpecError::unsupported(option, "use --network host, or another node"));
    }
    Ok(if task.networks.is_empty() { NetworkMode::Isolated } else { NetworkMode::Host })
}
