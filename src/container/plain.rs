//! A root file system without overlayfs: the layers of an image copied over one another.
//!
//! For kernels that lack overlayfs, and for storage that can not hold its marks or its upper
//! layer. It costs the whole image's bytes and their writing for each container, so it is the
//! way only where there is no other. Whiteouts are read in both forms that layers have them:
//! overlayfs's own marks, and files named `.wh.…` as in the archive (image-spec `layer.md`).

use std::{
    ffi::{CStr, CString},
    fs, io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{
        AtFlags, Dir, FileType, Mode, OFlags, Stat, XattrFlags, fgetxattr, fsetxattr, fstat,
        makedev, mkdirat, mknodat, openat, statat, unlinkat,
    },
    io::Errno,
    mount::{MountFlags, UnmountFlags, mount, unmount},
    process::{Pid, getpid, test_kill_process},
};

use super::copy::{self, Copied};
use crate::files;

const FOLDER: OFlags = OFlags::CLOEXEC.union(OFlags::NOFOLLOW).union(OFlags::DIRECTORY);

const OPAQUE: &CStr = c"trusted.overlay.opaque";

/// How the roots of containers are made on some storage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Storage {
    /// By overlayfs: the image is shared.
    Overlay,
    /// By copying the image for each container.
    Copy {
        /// What is in the way.
        reason: String,
    },
}

/// Before the process that tries; its number follows.
const TRIAL: &str = ".edgeagent-trial-";

/// Finds out what the storage of `folder` can carry, by trying. Leaves nothing behind, and removes
/// what a process left that was killed while it tried.
///
/// # Errors
/// When nothing can be made there, or nothing may be mounted.
pub fn storage(folder: &Path) -> io::Result<Storage> {
    sweep(folder)?;
    let place = folder.join(format!("{TRIAL}{}", std::process::id()));
    let tried = try_overlay(&place);
    files::remove_tree(&place)?;
    tried
}

/// Removes the trials of processes that are gone.
fn sweep(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix(TRIAL)?.parse().ok());
        let Some(process) = number.and_then(Pid::from_raw) else { continue };
        if test_kill_process(process) != Err(Errno::SRCH) && process != getpid() {
            continue;
        }
        match unmount(entry.path().join("merged"), UnmountFlags::DETACH) {
            // Nothing was mounted yet, or nothing was made yet.
            Ok(()) | Err(Errno::INVAL | Errno::NOENT) => files::remove_tree(&entry.path())?,
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

fn try_overlay(place: &Path) -> io::Result<Storage> {
    for name in ["lower", "upper", "work", "merged"] {
        fs::create_dir_all(place.join(name))?;
    }
    let copy = |what: &str, e: Errno| {
        let reason = format!("{what}: {}", super::errno_text(&e.into()));
        Ok(Storage::Copy { reason })
    };
    if let Err(e) = marks(&place.join("lower")) {
        return copy("it can not hold the marks of overlayfs", e);
    }
    // By a short name: all options must fit into one page, and a path may hold a comma.
    let before = std::env::current_dir()?;
    std::env::set_current_dir(place)?;
    let options = c"lowerdir=lower,upperdir=upper,workdir=work";
    let mounted = mount("overlay", "merged", "overlay", MountFlags::empty(), options)
        .and_then(|()| unmount("merged", UnmountFlags::DETACH));
    std::env::set_current_dir(before)?;
    match mounted {
        Ok(()) => Ok(Storage::Overlay),
        Err(Errno::NODEV) => copy("the kernel has no overlayfs", Errno::NODEV),
        Err(e) if is_unfit(e) => copy("it can not be the upper layer of overlayfs", e),
        Err(e) => Err(e.into()),
    }
}

/// Whether overlayfs said so because of where it should lie.
pub(super) const fn is_unfit(error: Errno) -> bool {
    matches!(error, Errno::NODEV | Errno::INVAL | Errno::NOTSUP)
}

/// Makes both marks of overlayfs in `folder` and removes them: storage without them holds layers
/// that overlayfs would misread.
pub(super) fn marks(folder: &Path) -> rustix::io::Result<()> {
    let folder = rustix::fs::open(folder, FOLDER, Mode::empty())?;
    mknodat(&folder, "mark", FileType::CharacterDevice, Mode::empty(), makedev(0, 0))?;
    unlinkat(&folder, "mark", AtFlags::empty())?;
    fsetxattr(&folder, OPAQUE, b"y", XattrFlags::empty())?;
    rustix::fs::fremovexattr(&folder, OPAQUE)
}

/// Copies the layers, lowest first, over one another into the folder `to`.
pub(super) fn merge(layers: &[PathBuf], to: &Path) -> io::Result<()> {
    let to = rustix::fs::open(to, FOLDER, Mode::empty())?;
    for layer in layers {
        let from = rustix::fs::open(layer, FOLDER, Mode::empty())?;
        folder(from, to.as_fd(), &mut Copied::default()).map_err(|e| {
            let text = format!("copy layer {}: {}", layer.display(), super::errno_text(&e));
            io::Error::new(e.kind(), text)
        })?;
    }
    Ok(())
}

fn folder(from: OwnedFd, to: BorrowedFd<'_>, copied: &mut Copied) -> io::Result<()> {
    let stat = fstat(&from)?;
    let mut names = Vec::new();
    for entry in Dir::read_from(&from)? {
        let name = entry?.file_name().to_owned();
        if !matches!(name.to_bytes(), b"." | b"..") {
            names.push(name);
        }
    }
    let mut value = [0_u8; 2];
    let opaque = fgetxattr(&from, OPAQUE, &mut value[..]).is_ok_and(|length| 0 < length);
    if opaque || names.iter().any(|name| name.to_bytes() == b".wh..wh..opq") {
        files::empty(to)?;
    }
    // What hides lower names first: the layer itself may have a new thing of that name.
    for name in &names {
        if let Some(hidden) = name.to_bytes().strip_prefix(b".wh.") {
            files::remove_at(to, &CString::new(hidden)?)?;
        }
    }
    for name in names.iter().filter(|name| !name.to_bytes().starts_with(b".wh.")) {
        entry(from.as_fd(), to, name, copied).map_err(|e| {
            let Some(_) = e.raw_os_error() else { return e };
            let name = std::ffi::OsStr::from_bytes(name.to_bytes()).display();
            io::Error::new(e.kind(), format!("{name}: {}", super::errno_text(&e)))
        })?;
    }
    copy::attributes(from.as_fd(), to)?;
    copy::own(to, &stat)
}

fn entry(
    from: BorrowedFd<'_>,
    to: BorrowedFd<'_>,
    name: &CStr,
    copied: &mut Copied,
) -> io::Result<()> {
    let stat = statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
    if is_folder(&stat) {
        let below = statat(to, name, AtFlags::SYMLINK_NOFOLLOW);
        if !below.is_ok_and(|below| is_folder(&below)) {
            files::remove_at(to, name)?;
            mkdirat(to, name, Mode::RWXU)?;
        }
        let to = openat(to, name, FOLDER, Mode::empty())?;
        let from = openat(from, name, FOLDER, Mode::empty())?;
        return copied.deeper(|copied| folder(from, to.as_fd(), copied));
    }
    files::remove_at(to, name)?;
    let whiteout = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice
        && stat.st_rdev == makedev(0, 0);
    if whiteout { Ok(()) } else { copy::one(from, to, name, copied) }
}

fn is_folder(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_layers_replace_hide_and_add() {
        let root = std::env::temp_dir().join(format!("edgeagent-plain-{}", std::process::id()));
        let layer = |n: u32, files: &[&str]| {
            let layer = root.join(n.to_string());
            for file in files {
                let path = layer.join(file);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, n.to_string()).unwrap();
            }
            layer
        };
        let layers = [
            layer(
                1,
                &["both", "gone", "tree/a", "full/old/deep", "again/old", "to-file/x", "to-folder"],
            ),
            layer(
                2,
                &[
                    "both",
                    ".wh.gone",
                    "tree/b",
                    "full/.wh..wh..opq",
                    "full/new",
                    ".wh.again",
                    "again/new",
                    "to-file",
                    "to-folder/y",
                    ".wh.never",
                ],
            ),
        ];
        let to = root.join("to");
        fs::create_dir(&to).unwrap();
        merge(&layers, &to).unwrap();
        let mut found = Vec::new();
        let mut folders = vec![to.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    let name = path.strip_prefix(&to).unwrap().display().to_string();
                    found.push(format!("{name}={}", fs::read_to_string(&path).unwrap()));
                }
            }
        }
        found.sort();
        let want = [
            "again/new=2",
            "both=2",
            "full/new=2",
            "to-file=2",
            "to-folder/y=2",
            "tree/a=1",
            "tree/b=2",
        ];
        assert_eq!(found, want);
        fs::remove_dir_all(&root).unwrap();
    }
}
