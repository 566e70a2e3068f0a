//! Devices of this machine that the owner lets containers use, and where bind mounts really lead.
//!
//! A class of devices is offered to the managers as named generic resources, one for each node
//! that is there when the agent starts: so `--generic-resource camera=1` brings one camera to one
//! task, and no two tasks get the same one, with managers that know nothing of devices.

use std::{
    fs,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _},
    path::Path,
};

use crate::{
    limits::DEVICES_MAX,
    model::{Bundle, BundleDevice, DeviceNode, GenericResource, MountKind, Policy, Task, matches},
    spec,
};

/// The nodes of every class, in order. The same devices give the same list.
pub(super) fn offered(policy: &Policy) -> Vec<GenericResource> {
    let mut offered = Vec::new();
    for (class, patterns) in &policy.device_classes {
        let mut nodes = Vec::new();
        for pattern in patterns {
            find(Path::new("/dev"), pattern, &mut nodes);
        }
        nodes.sort();
        nodes.dedup();
        if DEVICES_MAX < nodes.len() {
            log::warn!(
                "device class {class} has more than {DEVICES_MAX} devices, the rest is left out"
            );
            nodes.truncate(DEVICES_MAX);
        }
        let resource = |value| GenericResource::Named { kind: class.clone(), value };
        offered.extend(nodes.into_iter().map(resource));
    }
    offered
}

/// Collects the device nodes of a pattern. Goes down only where the pattern does.
fn find(folder: &Path, pattern: &str, found: &mut Vec<String>) {
    let deep = pattern.contains("**");
    let level = |path: &str| path.matches('/').count();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let (Some(text), Ok(kind)) = (path.to_str(), entry.file_type()) else { continue };
        if kind.is_dir() {
            if deep || level(text) < level(pattern) {
                find(&path, pattern, found);
            }
        } else if matches(pattern, text) && device(&path, false).is_some() {
            found.push(String::from(text));
        }
    }
}

/// The device behind a path, when there is one.
fn device(path: &Path, read_only: bool) -> Option<BundleDevice> {
    let meta = fs::metadata(path).ok()?;
    let block = meta.file_type().is_block_device();
    if !block && !meta.file_type().is_char_device() {
        return None;
    }
    let (major, minor) = (rustix::fs::major(meta.rdev()), rustix::fs::minor(meta.rdev()));
    Some(BundleDevice { block, major, minor, read_only, node: None })
}

/// Completes a bundle with what only this machine knows: follows the links of bind sources, asks
/// the owner's rules where they lead, and gives it the devices that are its.
///
/// # Errors
/// The reason for the manager: a source that does not exist, one that is not admitted, a device
/// that is gone.
pub(super) fn complete(
    bundle: &mut Bundle,
    task: &Task,
    policy: &Policy,
    missing: &'static str,
) -> Result<(), String> {
    only_offered(policy, &task.generic_resources)?;
    for mount in &mut bundle.mounts {
        let MountKind::Bind { source, .. } = &mut mount.kind else { continue };
        let Ok(real) = fs::canonicalize(&*source) else {
            return Err(spec::no_source(&source.to_string_lossy(), missing).to_string());
        };
        let text = real.to_string_lossy().into_owned();
        spec::admit_bind(policy, &text).map_err(|error| error.to_string())?;
        *source = real;
        for path in below(source) {
            let name = path.to_string_lossy();
            if policy.devices.iter().any(|pattern| matches(pattern, &name)) {
                bundle.devices.extend(device(&path, mount.read_only));
            }
        }
    }
    bundle.devices.extend(given(policy, &task.generic_resources)?);
    if DEVICES_MAX < bundle.devices.len() {
        return Err(format!("more than {DEVICES_MAX} devices for one container"));
    }
    Ok(())
}

/// The devices of classes that a manager gave a task.
fn given(policy: &Policy, resources: &[GenericResource]) -> Result<Vec<BundleDevice>, String> {
    let mut devices = Vec::new();
    for resource in resources {
        let GenericResource::Named { kind, value } = resource else { continue };
        if !policy.device_classes.iter().any(|(class, _)| class == kind) {
            continue;
        }
        let meta = fs::metadata(value).map_err(|e| format!("the {kind} {value} is gone: {e}"))?;
        let found = device(Path::new(value), false)
            .ok_or_else(|| format!("the {kind} {value} is no device any more"))?;
        let node = DeviceNode {
            path: value.clone(),
            mode: meta.mode() & 0o777,
            uid: meta.uid(),
            gid: meta.gid(),
        };
        devices.push(BundleDevice { node: Some(node), ..found });
    }
    Ok(devices)
}

/// Refuses what no manager was offered. A value that matches a pattern is not enough: it may lead
/// out of the folder, by `..` or by a link to a folder.
fn only_offered(policy: &Policy, resources: &[GenericResource]) -> Result<(), String> {
    let known = |kind: &String| policy.device_classes.iter().any(|(class, _)| class == kind);
    let of_class = |resource: &&GenericResource| matches!(resource, GenericResource::Named { kind, .. } if known(kind));
    let mut given = resources.iter().filter(of_class).peekable();
    if given.peek().is_none() {
        return Ok(());
    }
    let offered = offered(policy);
    match given.find(|resource| !offered.contains(resource)) {
        Some(GenericResource::Named { kind, value }) => {
            Err(spec::no_device(kind, value).to_string())
        }
        Some(GenericResource::Discrete { .. }) | None => Ok(()),
    }
}

/// What a mount brings that may be a device: the source itself, or the files of a folder of `/dev`.
fn below(source: &Path) -> Vec<std::path::PathBuf> {
    if !source.starts_with("/dev") || !source.is_dir() {
        return vec![source.to_owned()];
    }
    let entries = fs::read_dir(source).into_iter().flatten().flatten();
    let mut paths: Vec<_> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_offers_its_devices_by_name() {
        let policy = Policy {
            device_classes: vec![
                ("nothing".into(), vec!["/dev/there-is-no-such-*".into()]),
                ("sink".into(), vec!["/dev/nul*".into(), "/dev/null".into()]),
            ],
            ..Policy::default()
        };
        let sink = GenericResource::Named { kind: "sink".into(), value: "/dev/null".into() };
        assert_eq!(offered(&policy), [sink]);
    }

    #[test]
    fn only_what_was_offered_is_given() {
        let classes = vec![
            ("any".into(), vec!["/dev/**".into()]),
            ("sink".into(), vec!["/dev/nul*".into(), "/dev/fd/**".into()]),
        ];
        let policy = Policy { device_classes: classes, ..Policy::default() };
        let given = |kind: &str, value: &str| {
            let named = GenericResource::Named { kind: kind.into(), value: value.into() };
            only_offered(&policy, &[named])
        };
        assert_eq!(given("sink", "/dev/null"), Ok(()));
        assert_eq!(given("any", "/dev/null"), Ok(()));
        assert_eq!(given("other", "/dev/../etc/passwd"), Ok(()), "no class of ours");
        for (kind, value) in [
            ("any", "/dev/pts/../null"),
            ("any", "/dev/./null"),
            ("any", "/dev//null"),
            ("any", "/dev/null/"),
            ("any", "/dev/../dev/null"),
            ("any", "/dev/"),
            ("any", ""),
            ("any", "/dev/there-is-no-such"),
            ("any", "/etc/passwd"),
            ("sink", "/dev/zero"),
            // A link to a folder leads elsewhere: none of its devices is offered.
            ("sink", "/dev/fd/0"),
        ] {
            let refused = given(kind, value).unwrap_err();
            assert!(refused.starts_with(value) && refused.contains(kind), "{value}: {refused}");
            assert!(refused.contains("--generic-resource"), "{refused}");
        }
    }

    #[test]
    fn a_device_is_known_by_its_numbers_and_a_file_is_none() {
        let null = device(Path::new("/dev/null"), true).unwrap();
        assert_eq!((null.block, null.major, null.minor, null.read_only), (false, 1, 3, true));
        assert_eq!(device(Path::new("/etc/passwd"), false), None);
    }
}
