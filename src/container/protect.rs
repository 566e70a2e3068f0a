//! What a container must not see or change of the kernel: masked and read-only parts of `/proc` and
//! `/sys`, the root when it is read-only, and the kernel's parameters.

use std::{
    fs, io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::{
    fs::{CWD, FileType, Mode, OFlags, PROC_SUPER_MAGIC, fstat, fstatfs, makedev, openat},
    mount::{MountFlags, mount, mount_bind, mount_bind_recursive, mount_move, mount_remount},
};

use super::{
    mounts::{NO_DEVICES_NO_PROGRAMS, failed, kept_flags},
    resolve,
};
use crate::model::Bundle;

/// moby `oci/defaults.go`, `defaultLinuxMaskedPaths`.
const MASKED: [&str; 11] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
];

/// moby `oci/defaults.go`, added to the masked paths in 24.0 (power side channel).
const MASKED_POWER: &str = "/sys/devices/virtual/powercap";

/// Folder of the processors, each with a `thermal_throttle` on x86 that moby 28 masks (the same
/// side channel; moby `oci/defaults.go`, GHSA-6fw5-f8r9-fgfm).
const PROCESSORS: &str = "/sys/devices/system/cpu";

/// moby `oci/defaults.go`, `ReadonlyPaths`.
const READ_ONLY: [&str; 5] =
    ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Hides and protects parts of `/proc` and `/sys`, and makes the root read-only when asked.
/// The last step before the root is changed.
pub(crate) fn protect(bundle: &Bundle, root: BorrowedFd<'_>) -> Result<(), String> {
    let stage = bundle.dir.join("stage");
    let stage_file = bundle.dir.join("stage-file");
    let null = open_null(root).map_err(|e| failed("open /dev/null", &e))?;
    let hide = |place: &OwnedFd| -> io::Result<()> {
        if FileType::from_raw_mode(fstat(place)?.st_mode) == FileType::Directory {
            let flags = MountFlags::RDONLY | NO_DEVICES_NO_PROGRAMS;
            mount("tmpfs", &stage, "tmpfs", flags, c"size=0k")?;
            return Ok(mount_move(&stage, resolve::name_of(place.as_fd()))?);
        }
        mount_bind(resolve::name_of(null.as_fd()), &stage_file)?;
        Ok(mount_move(&stage_file, resolve::name_of(place.as_fd()))?)
    };
    let guard = |place: &OwnedFd| -> io::Result<()> {
        let folder = FileType::from_raw_mode(fstat(place)?.st_mode) == FileType::Directory;
        let stage = if folder { &stage } else { &stage_file };
        mount_bind_recursive(resolve::name_of(place.as_fd()), stage)?;
        let staged = resolve::host(stage)?;
        let flags = MountFlags::BIND | MountFlags::RDONLY | kept_flags(staged.as_fd())?;
        mount_remount(resolve::name_of(staged.as_fd()), flags, "")?;
        Ok(mount_move(stage, resolve::name_of(place.as_fd()))?)
    };
    let throttles =
        thermal_throttles(root).map_err(|e| failed(&format!("list {PROCESSORS}"), &e))?;
    for path in MASKED.into_iter().chain([MASKED_POWER]).chain(throttles.iter().map(String::as_str))
    {
        on_kernel_file(root, path, &hide).map_err(|e| failed(&format!("mask {path}"), &e))?;
    }
    for path in READ_ONLY {
        on_kernel_file(root, path, &guard)
            .map_err(|e| failed(&format!("make {path} read-only"), &e))?;
    }
    if bundle.root.read_only {
        let remount = || -> io::Result<()> {
            let flags = MountFlags::BIND | MountFlags::RDONLY | kept_flags(root)?;
            Ok(mount_remount(resolve::name_of(root), flags, "")?)
        };
        remount().map_err(|e| failed("make the root read-only", &e))?;
    }
    Ok(())
}

fn thermal_throttles(root: BorrowedFd<'_>) -> io::Result<Vec<String>> {
    let mut found = Vec::new();
    on_kernel_file(root, PROCESSORS, |folder| {
        for entry in fs::read_dir(resolve::name_of(folder.as_fd()))? {
            let name = entry?.file_name();
            let name = name.to_string_lossy();
            let number = name.strip_prefix("cpu").unwrap_or_default();
            if !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()) {
                found.push(format!("{PROCESSORS}/{name}/thermal_throttle"));
            }
        }
        Ok(())
    })?;
    Ok(found)
}

fn on_kernel_file(
    root: BorrowedFd<'_>,
    path: &str,
    mut act: impl FnMut(&OwnedFd) -> io::Result<()>,
) -> io::Result<()> {
    match resolve::without_links(root, path) {
        Ok(place) => act(&place),
        // This kernel has no such file.
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(e),
    }
}

/// `/dev/null` of the container, checked to be that device (CVE-2025-31133).
fn open_null(root: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let null = resolve::without_links(root, "/dev/null")?;
    let stat = fstat(&null)?;
    let device = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice;
    if !device || stat.st_rdev != makedev(1, 3) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is not the null device"));
    }
    Ok(null)
}

/// Writes kernel parameters through the container's procfs, after checking that it is one
/// (CVE-2025-52881).
pub(crate) fn sysctls(bundle: &Bundle, root: BorrowedFd<'_>) -> Result<(), String> {
    for (name, value) in &bundle.sysctls {
        let path = format!("/proc/sys/{}", name.replace('.', "/"));
        let write = || -> io::Result<()> {
            let place = resolve::without_links(root, &path)?;
            if fstatfs(&place)?.f_type != PROC_SUPER_MAGIC {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "/proc is not procfs"));
            }
            let flags = OFlags::WRONLY | OFlags::CLOEXEC;
            let file = openat(CWD, resolve::name_of(place.as_fd()), flags, Mode::empty())?;
            rustix::io::write(&file, value.as_bytes())?;
            Ok(())
        };
        write().map_err(|e| failed(&format!("set sysctl {name}"), &e))?;
    }
    Ok(())
}
