//! The owner's last word: what a manager may not have run here, although this node could.

use super::SpecError;
use crate::model::{ContainerSpec, Mount, MountSource, Policy, SeccompChoice, matches};

fn refused(rule: &'static str, what: impl Into<String>) -> SpecError {
    SpecError::NotAdmitted { rule, what: what.into() }
}

/// Refuses an image; `canonical` is its whole reference.
///
/// # Errors
/// [`SpecError::NotAdmitted`].
pub fn admit_image(policy: &Policy, canonical: &str, by_digest: bool) -> Result<(), SpecError> {
    if policy.digests_only && !by_digest {
        return Err(refused("digests-only", format!("image {canonical} without a digest")));
    }
    match &policy.images {
        Some(images) if !images.iter().any(|pattern| matches(pattern, canonical)) => {
            Err(refused("images", format!("image {canonical}")))
        }
        Some(_) | None => Ok(()),
    }
}

/// Refuses a path of this host, links already followed.
///
/// # Errors
/// [`SpecError::NotAdmitted`].
pub fn admit_bind(policy: &Policy, source: &str) -> Result<(), SpecError> {
    let Some(folders) = &policy.bind_sources else { return Ok(()) };
    let inside = |folder: &String| {
        source
            .strip_prefix(folder.as_str())
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    // A device that the owner lets containers use may be brought to them.
    let device = policy.devices.iter().any(|pattern| matches(pattern, source));
    if device || folders.iter().any(inside) {
        Ok(())
    } else {
        Err(refused("bind-sources", format!("bind mount of {source}")))
    }
}

/// Refuses what the task itself asks for.
pub(super) fn check(
    policy: &Policy,
    spec: &ContainerSpec,
    host_network: bool,
    mounts: &[Mount],
) -> Result<(), SpecError> {
    if policy.no_host_network && host_network {
        return Err(refused("host-network", "--network host"));
    }
    if policy.no_unconfined && !matches!(spec.privileges.seccomp, SeccompChoice::Default) {
        return Err(refused("unconfined", "another seccomp profile than the default"));
    }
    if let Some(allowed) = &policy.capabilities {
        for name in &spec.capability_add {
            let upper = name.to_ascii_uppercase();
            let short = upper.strip_prefix("CAP_").unwrap_or(&upper);
            if !allowed.iter().any(|name| name == short) {
                return Err(refused("capabilities", format!("--cap-add {short}")));
            }
        }
    }
    mounts
        .iter()
        .filter_map(|mount| match &mount.source {
            MountSource::Bind { path, .. } => Some(path),
            MountSource::Volume { .. }
            | MountSource::Tmpfs { .. }
            | MountSource::NamedPipe
            | MountSource::Cluster
            | MountSource::Unknown(_) => None,
        })
        .try_for_each(|path| admit_bind(policy, &super::clean(path)))
}

/// Refuses a user. A name is refused too, for only the image knows its number.
pub(super) fn user(policy: &Policy, user: &str) -> Result<(), SpecError> {
    let Some(ranges) = &policy.users else { return Ok(()) };
    let name = user.split(':').next().unwrap_or_default();
    let number = if matches!(name, "" | "root") { Ok(0) } else { name.parse::<u32>() };
    match number {
        Ok(number) if ranges.iter().any(|(from, to)| (*from..=*to).contains(&number)) => Ok(()),
        Ok(number) => Err(refused("users", format!("user {number}"))),
        Err(_) => Err(refused("users", format!("user {name:?}, which is not a number"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(result: Result<(), SpecError>) -> &'static str {
        match result {
            Ok(()) => "",
            Err(SpecError::NotAdmitted { rule, .. }) => rule,
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn images_are_admitted_by_pattern_and_digest() {
        let policy = Policy {
            images: Some(vec!["docker.io/library/*".into()]),
            digests_only: true,
            ..Policy::default()
        };
        assert_eq!(rule(admit_image(&policy, "docker.io/library/nginx@sha256:00", true)), "");
        assert_eq!(rule(admit_image(&policy, "docker.io/library/nginx:1", false)), "digests-only");
        assert_eq!(rule(admit_image(&policy, "docker.io/evil/nginx@sha256:00", true)), "images");
        assert_eq!(rule(admit_image(&Policy::default(), "x", false)), "");
    }

    #[test]
    fn a_folder_admits_what_is_below_it_and_not_its_neighbours() {
        let policy = Policy {
            bind_sources: Some(vec!["/srv".into()]),
            devices: vec!["/dev/video*".into()],
            ..Policy::default()
        };
        assert_eq!(rule(admit_bind(&policy, "/srv")), "");
        assert_eq!(rule(admit_bind(&policy, "/srv/web/data")), "");
        assert_eq!(rule(admit_bind(&policy, "/srv2")), "bind-sources");
        assert_eq!(rule(admit_bind(&policy, "/")), "bind-sources");
        assert_eq!(rule(admit_bind(&policy, "/dev/video0")), "");
        let none = Policy { bind_sources: Some(Vec::new()), ..Policy::default() };
        assert_eq!(rule(admit_bind(&none, "/srv")), "bind-sources");
    }

    #[test]
    fn the_task_itself_is_looked_at() {
        let spec = ContainerSpec {
            capability_add: vec!["cap_sys_time".into()],
            ..ContainerSpec::default()
        };
        let policy = Policy {
            capabilities: Some(vec!["NET_ADMIN".into()]),
            no_host_network: true,
            ..Policy::default()
        };
        let plain = ContainerSpec::default();
        assert_eq!(rule(check(&policy, &spec, false, &[])), "capabilities");
        assert_eq!(rule(check(&policy, &plain, true, &[])), "host-network");
        assert_eq!(rule(check(&policy, &plain, false, &[])), "");
    }

    #[test]
    fn a_user_is_admitted_by_number_only() {
        let policy = Policy { users: Some(vec![(1000, 1999)]), ..Policy::default() };
        assert_eq!(rule(user(&policy, "1000:5")), "");
        for refused in ["", "root", "0", "999", "app", "2000"] {
            assert_eq!(rule(user(&policy, refused)), "users", "{refused}");
        }
        assert_eq!(rule(user(&Policy::default(), "")), "");
    }
}
