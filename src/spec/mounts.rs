//! Mounts: what the spec asks for, and what the image's VOLUMEs add.

use core::fmt::Write;

use ring::digest;

use super::{Field, NodeFacts, SpecError, admission, clean, local_volume};
use crate::model::{
    BundleMount, ContainerId, Denied, ImageConfig, Mount, MountKind, MountSource, Policy,
    TmpfsOptions, VolumeOptions,
};

/// Checks the mounts before any template is expanded (moby
/// `daemon/cluster/executor/container/validate.go`), and refuses what this node can not do.
pub(super) fn validate(mounts: &[Mount]) -> Result<(), SpecError> {
    let absolute = |path: &str| path.starts_with('/');
    for mount in mounts {
        let pipe = matches!(mount.source, MountSource::NamedPipe);
        if !absolute(&mount.target) && !pipe {
            return Err(SpecError::invalid(
                Field::Mount,
                format!("invalid mount target, must be an absolute path: {}", mount.target),
            ));
        }
        match &mount.source {
            MountSource::Bind { path, .. } if !absolute(path) => {
                return Err(SpecError::invalid(
                    Field::Mount,
                    format!("invalid bind mount source, must be an absolute path: {path}"),
                ));
            }
            MountSource::Bind { options, .. } if options.create_source => {
                return Err(SpecError::unsupported(
                    Field::Mount,
                    "the bind option CreateMountpoint",
                    "make the folder on the node",
                ));
            }
            MountSource::Bind { .. } => {}
            MountSource::Volume { name, .. } if absolute(name) => {
                return Err(SpecError::invalid(
                    Field::Mount,
                    format!("invalid volume mount source, must not be an absolute path: {name}"),
                ));
            }
            MountSource::Volume { options, .. } => volume_options(options)?,
            MountSource::Tmpfs { source, .. } if !source.is_empty() => {
                return Err(SpecError::invalid(
                    Field::Tmpfs,
                    "invalid tmpfs source, source must be empty",
                ));
            }
            MountSource::Tmpfs { .. } => {}
            MountSource::NamedPipe => {
                return Err(SpecError::invalid(
                    Field::Mount,
                    "invalid mount config for type \"npipe\": mount type unknown",
                ));
            }
            MountSource::Cluster => {
                return Err(SpecError::unsupported(
                    Field::Mount,
                    "CSI cluster volumes",
                    "use a volume with driver local, or a bind mount",
                ));
            }
            MountSource::Unknown(number) => {
                return Err(SpecError::invalid(
                    Field::Mount,
                    format!("invalid mount type: {number}"),
                ));
            }
        }
    }
    Ok(())
}

fn volume_options(options: &VolumeOptions) -> Result<(), SpecError> {
    if let Some(driver) = &options.driver {
        if !matches!(driver.name.as_str(), "" | "local") {
            return Err(SpecError::unsupported(
                Field::VolumeDriver,
                format!("volume-driver {}", driver.name),
                "use the driver local, or a bind mount of what the host mounts",
            ));
        }
        if !driver.options.is_empty() && !options.subpath.is_empty() {
            return Err(SpecError::unsupported(
                Field::VolumeSubpath,
                "volume-subpath with volume-opt",
                "mount the whole volume",
            ));
        }
    }
    let leaves = options.subpath.split('/').any(|part| part == "..");
    if options.subpath.starts_with('/') || leaves || options.subpath.contains('\0') {
        return Err(SpecError::invalid(
            Field::VolumeSubpath,
            "invalid mount config for type \"volume\": subpath must be a relative path within the \
             volume",
        ));
    }
    Ok(())
}

/// The mounts of a bundle, in order of depth. `mounts` are expanded.
pub(super) fn build(
    mounts: &[Mount],
    image: &ImageConfig,
    container: &ContainerId,
    node: &NodeFacts,
) -> Result<Vec<BundleMount>, SpecError> {
    // Again: an expanded path is another path.
    validate(mounts)?;
    let mut built = Vec::<BundleMount>::new();
    for mount in mounts {
        let target = target(&mount.target, type_name(&mount.source))?;
        if built.iter().any(|other| other.target == target) {
            return Err(SpecError::invalid(
                Field::Mount,
                format!("Duplicate mount point: {target}"),
            ));
        }
        let (kind, read_only) = kind(mount, &target, container, node)?;
        built.push(BundleMount { kind, target, read_only: mount.read_only || read_only });
    }
    for path in image.volumes.iter().flat_map(|volumes| volumes.keys()) {
        let target = target(&format!("/{path}"), "volume")?;
        if !built.iter().any(|other| other.target == target) {
            let kind = anonymous(&target, true, container, node);
            built.push(BundleMount { kind, target, read_only: false });
        }
    }
    built.sort_by_key(|mount| (mount.target.matches('/').count(), mount.target.clone()));
    Ok(built)
}

/// A mount that shows something of the host, or of a driver's: it needs no container to be known.
/// Also whether it is read-only of its own.
fn of_host(mount: &Mount) -> Result<Option<(MountKind, bool)>, SpecError> {
    match &mount.source {
        MountSource::Bind { path, options } => {
            if path.contains('\0') {
                return Err(SpecError::invalid(
                    Field::Mount,
                    "invalid bind mount source: it has a zero byte",
                ));
            }
            let kind = MountKind::Bind {
                source: clean(path).into(),
                propagation: options.propagation,
                recursive: !options.nonrecursive,
                populate: false,
                denied: Denied::default(),
            };
            Ok(Some((kind, false)))
        }
        MountSource::Volume {
            name,
            options: VolumeOptions { no_copy, driver: Some(driver), .. },
        } if !driver.options.is_empty() => {
            if !name.is_empty() {
                volume_name(name)?;
            }
            local_volume::build(&driver.options, !no_copy).map(Some)
        }
        MountSource::Volume { .. }
        | MountSource::Tmpfs { .. }
        | MountSource::NamedPipe
        | MountSource::Cluster
        | MountSource::Unknown(_) => Ok(None),
    }
}

/// Refuses what the owner does not admit of mounts, before their image is here. `mounts` are
/// expanded.
pub(super) fn admit(mounts: &[Mount], policy: &Policy) -> Result<(), SpecError> {
    for mount in mounts {
        if let Some((kind, _)) = of_host(mount)? {
            admission::mount(policy, &kind, &mount.target)?;
        }
    }
    Ok(())
}

fn kind(
    mount: &Mount,
    target: &str,
    container: &ContainerId,
    node: &NodeFacts,
) -> Result<(MountKind, bool), SpecError> {
    let nameless = matches!(&mount.source, MountSource::Volume { name, .. } if name.is_empty());
    if nameless && mount.read_only {
        return Err(SpecError::invalid(
            Field::Mount,
            "invalid mount config for type \"volume\": must not set ReadOnly mode when using \
             anonymous volumes",
        ));
    }
    if let Some(found) = of_host(mount)? {
        return Ok(found);
    }
    let kind = match &mount.source {
        MountSource::Volume { options, .. } if nameless && !options.subpath.is_empty() => {
            return Err(SpecError::invalid(
                Field::VolumeSubpath,
                "invalid mount config for type \"volume\": must not set Subpath when using \
                 anonymous volumes",
            ));
        }
        MountSource::Volume { options, .. } if nameless => {
            anonymous(target, !options.no_copy, container, node)
        }
        MountSource::Volume { name, options } => {
            volume_name(name)?;
            let source = node.data_root.join("volumes").join(name).join("data");
            let subpath = options.subpath.clone();
            MountKind::Volume { source, subpath, populate: !options.no_copy, anonymous: false }
        }
        MountSource::Tmpfs { options, .. } => tmpfs(options)?,
        MountSource::Bind { .. }
        | MountSource::NamedPipe
        | MountSource::Cluster
        | MountSource::Unknown(_) => {
            return Err(SpecError::invalid(Field::Mount, "invalid mount type"));
        }
    };
    Ok((kind, false))
}

/// A volume that goes with its container. Its name follows from the container and the target, so
/// that it is found again.
fn anonymous(target: &str, populate: bool, container: &ContainerId, node: &NodeFacts) -> MountKind {
    let seed = format!("{container}\0{target}");
    let mut name = String::new();
    for byte in digest::digest(&digest::SHA256, seed.as_bytes()).as_ref() {
        // Writing to a string does not fail.
        write!(name, "{byte:02x}").unwrap_or_default();
    }
    let source = node.data_root.join("volumes").join(name).join("data");
    MountKind::Volume { source, subpath: String::new(), populate, anonymous: true }
}

/// Longest name of a file on Linux in bytes.
const FILE_NAME_MAX_BYTES: usize = 255;

fn volume_name(name: &str) -> Result<(), SpecError> {
    let wrong = |why: &str| Err(SpecError::invalid(Field::Mount, format!("create {name}: {why}")));
    if name.len() == 1 {
        return wrong(
            "volume name is too short, names should be at least two alphanumeric characters",
        );
    }
    let first = name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
    let rest = name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
    if !first || !rest || FILE_NAME_MAX_BYTES < name.len() {
        return wrong(&format!(
            "{name:?} includes invalid characters for a local volume name, only \
             \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, \
             use absolute path"
        ));
    }
    Ok(())
}

fn tmpfs(options: &TmpfsOptions) -> Result<MountKind, SpecError> {
    let mut exec = false;
    if !options.options.is_empty() {
        let words = serde_json::from_str::<Vec<Vec<String>>>(&options.options).map_err(|_| {
            SpecError::invalid(
                Field::Tmpfs,
                "invalid mount config for type \"tmpfs\": options are not a list",
            )
        })?;
        for word in words {
            exec = match word.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
                ["exec"] => true,
                ["noexec"] => false,
                other => {
                    return Err(SpecError::invalid(
                        Field::Tmpfs,
                        format!(
                            "invalid mount config for type \"tmpfs\": invalid option: {}",
                            other.join("=")
                        ),
                    ));
                }
            };
        }
    }
    Ok(MountKind::Tmpfs {
        size_bytes: u64::try_from(options.size_bytes).ok().filter(|size| 0 < *size),
        mode: Some(options.mode & 0o7777).filter(|_| options.mode != 0),
        exec,
        owner: None,
    })
}

/// The cleaned target.
fn target(path: &str, type_name: &str) -> Result<String, SpecError> {
    let target = clean(path);
    if target == "/" {
        return Err(SpecError::invalid(
            Field::Mount,
            format!(
                "invalid mount config for type {type_name:?}: invalid specification: destination \
             can't be '/'"
            ),
        ));
    }
    if target.contains('\0') {
        return Err(SpecError::invalid(Field::Mount, "invalid mount target: it has a zero byte"));
    }
    Ok(target)
}

const fn type_name(source: &MountSource) -> &'static str {
    match source {
        MountSource::Bind { .. } => "bind",
        MountSource::Volume { .. } => "volume",
        MountSource::Tmpfs { .. } => "tmpfs",
        MountSource::NamedPipe => "npipe",
        MountSource::Cluster => "cluster",
        MountSource::Unknown(_) => "unknown",
    }
}
