//! A root file system without overlayfs: the layers of an image copied over one another.
//!
//! For kernels that lack overlayfs, and for storage that can not hold its marks or its upper
//! layer. It costs the whole image's bytes and their writing for each container, so it is the
//! way only where there is no other. Whiteouts are read in both forms that layers have them:
//! overlayfs's own marks, and files named `.wh.…` as in the archive (image-spec `layer.md`).

use std::{
    ffi::{CStr, CString},
    fs, io,
    os::{fd::BorrowedFd, unix::ffi::OsStrExt},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{
        AtFlags, Dir, FileType, Mode, Stat, XattrFlags, fgetxattr, fsetxattr, fstat, makedev,
        mkdirat, mknodat, statat, unlinkat,
    },
    io::Errno,
    mount::{MountFlags, UnmountFlags, mount, unmount},
    process::{Pid, getpid, test_kill_process},
};

use super::{
    copy::{self, Linked},
    resolve,
    walk::{FOLDER, Visitor, walk},
};
use crate::files;

const OPAQUE: &CStr = c"trusted.overlay.opaque";

/// Before a name that a layer hides, where the storage has no marks of overlayfs.
const HIDDEN: &[u8] = b".wh.";
/// Hides all that lower layers have in a folder.
const OPAQUE_NAME: &[u8] = b".wh..wh..opq";

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
pub(crate) fn merge(layers: &[PathBuf], to: &Path) -> io::Result<()> {
    let to = rustix::fs::open(to, FOLDER, Mode::empty())?;
    for layer in layers {
        let from = rustix::fs::open(layer, FOLDER, Mode::empty())?;
        let to = to.try_clone()?;
        walk(from, to, &mut Merge::default()).map_err(|e| {
            let text = format!("copy layer {}: {}", layer.display(), super::errno_text(&e));
            io::Error::new(e.kind(), text)
        })?;
    }
    Ok(())
}

/// One layer over what is there.
#[derive(Default)]
struct Merge {
    linked: Linked,
}

impl Visitor for Merge {
    /// What hides lower names goes first: the layer itself may have a new thing of that name.
    fn enter(&mut self, from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> io::Result<()> {
        let mut value = [0_u8; 2];
        let mut opaque = fgetxattr(from, OPAQUE, &mut value[..]).is_ok_and(|length| 0 < length);
        for entry in Dir::read_from(from)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name == OPAQUE_NAME {
                opaque = true;
            } else if let Some(hidden) = name.strip_prefix(HIDDEN) {
                // No such name is in a folder, and each leads out of it.
                if matches!(hidden, b"" | b"." | b"..") {
                    return Err(io::Error::new(
                        io::ErrorKind::InvalidData,
                        format!("{} hides no name", String::from_utf8_lossy(name)),
                    ));
                }
                files::remove_at(to, &CString::new(hidden)?)?;
            }
        }
        if opaque { Ok(files::empty(to)?) } else { Ok(()) }
    }

    fn skips(&self, name: &CStr) -> bool {
        name.to_bytes().starts_with(HIDDEN)
    }

    fn make(&mut self, to: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
        match statat(to, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(below) if is_folder(&below) => Ok(()),
            Ok(_) | Err(_) => {
                files::remove_at(to, name)?;
                Ok(mkdirat(to, name, Mode::RWXU)?)
            }
        }
    }

    fn file(
        &mut self,
        from: BorrowedFd<'_>,
        to: BorrowedFd<'_>,
        name: &CStr,
        stat: &Stat,
    ) -> io::Result<()> {
        files::remove_at(to, name)?;
        let whiteout = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice
            && stat.st_rdev == makedev(0, 0);
        if whiteout { Ok(()) } else { copy::one(from, to, name, stat, &mut self.linked) }
    }

    fn leave(&mut self, from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> io::Result<()> {
        copy::attributes(from, to)?;
        copy::own(to, &fstat(from)?)
    }

    fn named(&self, error: io::Error, from: BorrowedFd<'_>, name: &CStr) -> io::Error {
        let place = resolve::path_of(from).join(std::ffi::OsStr::from_bytes(name.to_bytes()));
        let reason = super::errno_text(&error);
        io::Error::new(error.kind(), format!("{}: {reason}", place.display()))
    }
}

fn is_folder(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}

#[cfg(test)]
mod tests {
    use rustix::fs::openat;

    use super::*;

    /// Runs with little stack, as a test of depth should.
    fn with_little_stack(run: impl FnOnce() + Send + 'static) {
        std::thread::Builder::new().stack_size(256 * 1024).spawn(run).unwrap().join().unwrap();
    }

    #[test]
    fn layers_of_any_depth_are_copied_with_few_descriptors_and_little_stack() {
        let root = std::env::temp_dir().join(format!("edgeagent-deep-{}", std::process::id()));
        let names = [c"a", c"d", c"z"];
        let levels = 5000;
        for layer in ["1", "2", "to"] {
            fs::create_dir_all(root.join(layer)).unwrap();
        }
        for layer in ["1", "2"] {
            let mut at = rustix::fs::open(root.join(layer), FOLDER, Mode::empty()).unwrap();
            for level in 0..levels {
                // Some of a name before and behind the one that goes on.
                for name in names {
                    if name == c"d" || level % 50 == 0 {
                        mkdirat(&at, name, Mode::RWXU).unwrap();
                    }
                }
                at = openat(&at, c"d", FOLDER, Mode::empty()).unwrap();
            }
            mkdirat(&at, layer, Mode::RWXU).unwrap();
        }
        let (from, to) = ([root.join("1"), root.join("2")], root.join("to"));
        with_little_stack({
            let to = to.clone();
            move || merge(&from, &to).unwrap()
        });
        let mut at = rustix::fs::open(&to, FOLDER, Mode::empty()).unwrap();
        for level in 0..levels {
            for name in [c"a", c"z"] {
                let there = openat(&at, name, FOLDER, Mode::empty()).is_ok();
                assert_eq!(there, level % 50 == 0, "{level}");
            }
            at = openat(&at, c"d", FOLDER, Mode::empty()).unwrap();
        }
        for layer in ["1", "2"] {
            assert!(openat(&at, layer, FOLDER, Mode::empty()).is_ok(), "of layer {layer}");
        }
        files::remove_tree(&root).unwrap();
    }

    #[test]
    fn a_mark_that_names_no_entry_of_its_folder_is_refused() {
        let root = std::env::temp_dir().join(format!("edgeagent-mark-{}", std::process::id()));
        for (at, name) in [".wh.", ".wh..", ".wh..."].into_iter().enumerate() {
            let (layer, to) = (root.join(format!("{at}/layer")), root.join(format!("{at}/to")));
            fs::create_dir_all(layer.join("x")).unwrap();
            fs::write(layer.join("x").join(name), "").unwrap();
            fs::create_dir_all(to.join("x/inside")).unwrap();
            fs::write(to.join("kept"), "").unwrap();
            assert!(merge(&[layer], &to).unwrap_err().to_string().contains(name));
            assert!(to.join("kept").exists() && to.join("x/inside").exists(), "{name}");
        }
        files::remove_tree(&root).unwrap();
    }

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
