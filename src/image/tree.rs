//! A folder that hostile names can not leave.
//!
//! All paths are resolved below the folder's descriptor: symbolic links are followed, but their
//! root is that folder. Nothing else writes there meanwhile, so looking and doing may be two
//! calls. Kernels before 5.6 have no `openat2`; there the path is walked one name at a time.

use std::{
    fs::File,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
};

use rustix::{
    fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, openat, openat2, readlinkat, statat},
    io::{Errno, Result},
};

/// Most symbolic links in one path, as in the kernel (path_resolution(7)).
const LINKS_MAX: usize = 40;

/// Opens a folder only to name things in it.
const FOLDER: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// How paths are resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Resolver {
    /// By the kernel.
    Openat2,
    /// One name at a time.
    Walk,
}

/// The folder.
#[derive(Debug)]
pub(super) struct Tree {
    root: OwnedFd,
    resolver: Resolver,
}

impl Tree {
    /// Opens `path` with the best resolver that this kernel has.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let tree = Self::with(path, Resolver::Openat2)?;
        // A seccomp filter that does not know the call answers EPERM.
        match tree.folder(&[]) {
            Err(Errno::NOSYS | Errno::PERM) => Self::with(path, Resolver::Walk),
            Ok(_) => Ok(tree),
            Err(e) => Err(e),
        }
    }

    /// Opens `path` with this resolver.
    pub(super) fn with(path: &Path, resolver: Resolver) -> Result<Self> {
        let root = rustix::fs::open(path, FOLDER, Mode::empty())?;
        Ok(Self { root, resolver })
    }

    /// The folder at `path`, for naming things in it.
    pub(super) fn folder(&self, path: &[&[u8]]) -> Result<OwnedFd> {
        match self.resolver {
            Resolver::Openat2 => {
                let joined = if path.is_empty() { b".".to_vec() } else { path.join(&b'/') };
                let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
                // A rename anywhere on the system may make it answer EAGAIN.
                let mut tries = 0;
                loop {
                    match openat2(&self.root, &joined[..], FOLDER, Mode::empty(), resolve) {
                        Err(Errno::AGAIN) if tries < 100 => tries += 1,
                        result => return result,
                    }
                }
            }
            Resolver::Walk => self.walk(path),
        }
    }

    fn walk(&self, path: &[&[u8]]) -> Result<OwnedFd> {
        let mut todo: Vec<Vec<u8>> = path.iter().rev().map(|name| name.to_vec()).collect();
        let mut real: Vec<Vec<u8>> = Vec::new();
        let mut here = self.descend(&real)?;
        let mut links = 0;
        while let Some(name) = todo.pop() {
            if name == b".." {
                real.pop();
                here = self.descend(&real)?;
                continue;
            }
            match openat(&here, &name[..], FOLDER | OFlags::NOFOLLOW, Mode::empty()) {
                Ok(folder) => {
                    here = folder;
                    real.push(name);
                }
                Err(Errno::NOTDIR | Errno::LOOP) => {
                    let target = readlinkat(&here, &name[..], Vec::new())
                        .map_err(|e| if e == Errno::INVAL { Errno::NOTDIR } else { e })?;
                    links += 1;
                    if LINKS_MAX < links {
                        return Err(Errno::LOOP);
                    }
                    let target = target.as_bytes();
                    if target.starts_with(b"/") {
                        real.clear();
                        here = self.descend(&real)?;
                    }
                    let names = target.split(|b| *b == b'/').rev();
                    todo.extend(names.filter(|n| !matches!(*n, b"" | b".")).map(<[u8]>::to_vec));
                }
                Err(e) => return Err(e),
            }
        }
        Ok(here)
    }

    fn descend(&self, names: &[Vec<u8>]) -> Result<OwnedFd> {
        let mut here = openat(&self.root, c".", FOLDER, Mode::empty())?;
        for name in names {
            here = openat(&here, &name[..], FOLDER | OFlags::NOFOLLOW, Mode::empty())?;
        }
        Ok(here)
    }

    /// Where it lies.
    pub(super) fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// The same, making the folders that lack, with mode 0755, and counting them in `made`.
    pub(super) fn folder_or_make(&self, path: &[&[u8]], made: &mut u64) -> Result<OwnedFd> {
        match self.folder(path) {
            Err(Errno::NOENT) => {}
            result => return result,
        }
        let mut here = self.folder(&[])?;
        for depth in 1..=path.len() {
            let (Some(part), Some(name)) = (path.get(..depth), path.get(depth - 1)) else { break };
            here = match self.folder(part) {
                Err(Errno::NOENT) => {
                    make_folder(here.as_fd(), name)?;
                    *made = made.saturating_add(1);
                    self.folder(part)?
                }
                result => result?,
            };
        }
        Ok(here)
    }

    /// The folder `name` in `parent`, itself and not what a link points to, for changing its
    /// attributes.
    pub(super) fn open_folder(parent: BorrowedFd<'_>, name: &[u8]) -> Result<File> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        openat(parent, name, flags, Mode::empty()).map(File::from)
    }

    /// A new file `name` in `parent`.
    pub(super) fn create_file(parent: BorrowedFd<'_>, name: &[u8]) -> Result<File> {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        openat(parent, name, flags, Mode::RUSR | Mode::WUSR).map(File::from)
    }
}

/// Makes a folder with mode 0755 whatever the umask is.
pub(super) fn make_folder(parent: BorrowedFd<'_>, name: &[u8]) -> Result<()> {
    let mode = Mode::from_raw_mode(0o755);
    rustix::fs::mkdirat(parent, name, mode)?;
    rustix::fs::chmodat(parent, name, mode, AtFlags::empty())
}

/// What is at `name` in `parent`, links not followed.
pub(super) fn look(parent: BorrowedFd<'_>, name: &[u8]) -> Result<Option<Found>> {
    match statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => Found::Folder,
            FileType::CharacterDevice if stat.st_rdev == 0 => Found::Whiteout,
            FileType::CharacterDevice
            | FileType::RegularFile
            | FileType::Symlink
            | FileType::Fifo
            | FileType::Socket
            | FileType::BlockDevice
            | FileType::Unknown => Found::Other,
        })),
        Err(Errno::NOENT) => Ok(None),
        Err(e) => Err(e),
    }
}

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// A folder.
    Folder,
    /// The mark of overlayfs that hides a lower name: device 0:0.
    Whiteout,
    /// Anything else.
    Other,
}
