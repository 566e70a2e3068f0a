//! What this node can not do yet: each is refused by name.

use super::SpecError;
use crate::model::{ContainerSpec, ImageConfig, SeccompChoice, Task};

/// Refuses what the task itself asks for.
pub(super) fn check(task: &Task, spec: &ContainerSpec) -> Result<(), SpecError> {
    bridged(task)?;
    let no = SpecError::unsupported;
    if spec.tty {
        return Err(no("--tty", "leave it out"));
    }
    if spec.health.as_ref().is_some_and(|health| probes(&health.test)) {
        return Err(no("--health-cmd", "use --no-healthcheck"));
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

/// Refuses what the image brings along.
pub(super) fn image(spec: &ContainerSpec, image: &ImageConfig) -> Result<(), SpecError> {
    let own = spec.health.as_ref().map(|health| health.test.as_slice()).unwrap_or_default();
    let images = image.healthcheck.as_ref().and_then(|health| health.test.as_deref());
    if own.is_empty() && probes(images.unwrap_or_default()) {
        return Err(SpecError::unsupported(
            "the image's HEALTHCHECK",
            "switch it off with --no-healthcheck",
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
        let (option, remedy) = match network.ingress {
            true => ("--publish mode=ingress".to_owned(), "use --publish mode=host"),
            false => (
                format!("--network {} (driver {})", network.name, network.driver),
                "use --network bridge or host, or another node",
            ),
        };
        return Err(SpecError::unsupported(option, remedy));
    }
    // The first one counts, as in Docker.
    Ok(task.networks.first().is_none_or(|network| network.name == "bridge"))
}

/// Whether a health check's test is one.
fn probes(test: &[String]) -> bool {
    test.first().is_some_and(|word| word != "NONE")
}
