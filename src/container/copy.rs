//! Fills an empty volume with what the image has at its place.
//!
//! Keeps owners, modes, times, hard links and extended attributes, as Docker does (moby
//! `daemon/graphdriver/copy`); sockets are left out, and overlay's own marks.

use std::{
    collections::BTreeMap,
    ffi::{CStr, CString},
    fs, io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

use rustix::fs::{
    AtFlags, Dir, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid, XattrFlags,
    chownat, fchmod, fchown, fgetxattr, fgetxattr_query, flistxattr, flistxattr_query, fsetxattr,
    fstat, futimens, linkat, mkdirat, mknodat, openat, readlinkat, statat, symlinkat, utimensat,
};
use rustix::io::Errno;

use super::resolve;
use crate::{files, limits};

const READ: OFlags = OFlags::CLOEXEC.union(OFlags::NOFOLLOW);

/// What a copy remembers on its way.
#[derive(Default)]
pub(super) struct Copied {
    /// Files with several names: descriptor of the first one's folder, and its name there.
    linked: BTreeMap<(u64, u64), (OwnedFd, CString)>,
    /// Folders that are open, one in the other.
    depth: usize,
}

impl Copied {
    /// Copies one folder further down with `inner`. No layer that we unpacked is too deep; one of
    /// a store that others filled may be, and each level costs stack and descriptors.
    pub(super) fn deeper(
        &mut self,
        inner: impl FnOnce(&mut Self) -> io::Result<()>,
    ) -> io::Result<()> {
        if limits::LAYER_DEPTH_MAX < self.depth {
            let text = format!("folders lie deeper than {}", limits::LAYER_DEPTH_MAX);
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        self.depth += 1;
        let copied = inner(self);
        self.depth -= 1;
        copied
    }
}

/// Copies the content of the folder `from`, and its own owner and mode, to the folder `to`.
/// An error names the file and, when the place to copy to is full, says so.
pub(crate) fn tree(from: BorrowedFd<'_>, to: &Path) -> io::Result<()> {
    let from = openat(from, ".", READ | OFlags::DIRECTORY, Mode::empty())?;
    let to = fs::File::open(to)?;
    folder(from, to.as_fd(), &mut Copied::default())
}

/// Empties the folder `place`, which was empty before a copy that failed.
pub(crate) fn clear(place: &Path) -> io::Result<()> {
    Ok(files::empty(fs::File::open(place)?.as_fd())?)
}

fn folder(from: OwnedFd, to: BorrowedFd<'_>, copied: &mut Copied) -> io::Result<()> {
    let stat = fstat(&from)?;
    for entry in Dir::read_from(&from)? {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        one(from.as_fd(), to, name, copied).map_err(|e| named(e, from.as_fd(), name))?;
    }
    attributes(from.as_fd(), to)?;
    own(to, &stat)
}

/// Names the innermost file that could not be copied.
fn named(error: io::Error, folder: BorrowedFd<'_>, name: &CStr) -> io::Error {
    let Some(number) = error.raw_os_error() else { return error };
    let place = resolve::path_of(folder).join(std::ffi::OsStr::from_bytes(name.to_bytes()));
    let hint = if [Errno::NOSPC, Errno::DQUOT].map(Errno::raw_os_error).contains(&number) {
        "; the storage of the volume is full: free some, or mount it with volume-nocopy"
    } else {
        ""
    };
    let reason = super::errno_text(&error);
    let text = format!("copy {} to the volume: {reason}{hint}", place.display());
    io::Error::new(error.kind(), text)
}

pub(super) fn one(
    from: BorrowedFd<'_>,
    to: BorrowedFd<'_>,
    name: &CStr,
    copied: &mut Copied,
) -> io::Result<()> {
    let stat = statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let private = Mode::from_raw_mode(0o600);
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => {
            mkdirat(to, name, Mode::from_raw_mode(0o700))?;
            let below = openat(to, name, READ | OFlags::DIRECTORY, Mode::empty())?;
            let from = openat(from, name, READ | OFlags::DIRECTORY, Mode::empty())?;
            copied.deeper(|copied| folder(from, below.as_fd(), copied))
        }
        FileType::RegularFile => {
            let source = openat(from, name, READ, Mode::empty())?;
            let file = (stat.st_dev, stat.st_ino);
            if let Some((dir, first)) = copied.linked.get(&file) {
                return Ok(linkat(dir, first.as_c_str(), to, name, AtFlags::empty())?);
            }
            let flags = READ | OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
            let mut copy = fs::File::from(openat(to, name, flags, private)?);
            let mut source = fs::File::from(source);
            io::copy(&mut source, &mut copy)?;
            own(copy.as_fd(), &stat)?;
            // After the owner, whose change clears capabilities.
            attributes(source.as_fd(), copy.as_fd())?;
            if 1 < stat.st_nlink && copied.linked.len() < limits::COPY_LINKS_MAX {
                copied.linked.insert(file, (to.try_clone_to_owned()?, name.to_owned()));
            }
            Ok(())
        }
        FileType::Symlink => {
            let target = readlinkat(from, name, Vec::new())?;
            symlinkat(&target, to, name)?;
            own_name(to, name, &stat)
        }
        kind @ (FileType::CharacterDevice | FileType::BlockDevice | FileType::Fifo) => {
            mknodat(to, name, kind, Mode::from_raw_mode(stat.st_mode & 0o7777), stat.st_rdev)?;
            own_name(to, name, &stat)
        }
        FileType::Socket | FileType::Unknown => {
            let place = resolve::path_of(from).join(std::ffi::OsStr::from_bytes(name.to_bytes()));
            log::debug!("not copied to the volume: {}", place.display());
            Ok(())
        }
    }
}

/// Copies extended attributes; a storage that has none gets none.
pub(super) fn attributes(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> io::Result<()> {
    let mut names = Vec::new();
    let mut value = Vec::new();
    match read_attribute(&mut names, flistxattr_query(from), |buffer| flistxattr(from, buffer)) {
        Err(e) if no_attributes(&e) => return Ok(()),
        other => other?,
    }
    for name in names.split_inclusive(|b| *b == 0) {
        let Ok(name) = CStr::from_bytes_with_nul(name) else { continue };
        // How overlay keeps its books in a layer; no attribute of the image.
        if name.to_bytes().starts_with(b"trusted.overlay.") {
            continue;
        }
        let size = fgetxattr_query(from, name);
        match read_attribute(&mut value, size, |buffer| fgetxattr(from, name, buffer)) {
            Err(e) if no_attributes(&e) => continue,
            other => other?,
        }
        match fsetxattr(to, name, &value, XattrFlags::empty()).map_err(io::Error::from) {
            Err(e) if no_attributes(&e) => {}
            other => other?,
        }
    }
    Ok(())
}

fn no_attributes(error: &io::Error) -> bool {
    [Errno::NOTSUP, Errno::NODATA]
        .map(Errno::raw_os_error)
        .map(Some)
        .contains(&error.raw_os_error())
}

/// Reads into a buffer of the size that the kernel names.
fn read_attribute(
    buffer: &mut Vec<u8>,
    size: rustix::io::Result<usize>,
    read: impl Fn(&mut [u8]) -> rustix::io::Result<usize>,
) -> io::Result<()> {
    buffer.clear();
    buffer.resize(size?, 0);
    let size = read(buffer)?;
    buffer.truncate(size);
    Ok(())
}

pub(super) fn own(fd: BorrowedFd<'_>, stat: &Stat) -> io::Result<()> {
    fchown(fd, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))?;
    // After the owner, whose change clears set-id bits.
    fchmod(fd, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
    Ok(futimens(fd, &times(stat))?)
}

fn times(stat: &Stat) -> Timestamps {
    let modified = Timespec {
        tv_sec: stat.st_mtime,
        tv_nsec: stat.st_mtime_nsec.try_into().unwrap_or_default(),
    };
    Timestamps { last_access: modified, last_modification: modified }
}

fn own_name(dir: BorrowedFd<'_>, name: &CStr, stat: &Stat) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    chownat(dir, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(utimensat(dir, name, &times(stat), AtFlags::SYMLINK_NOFOLLOW)?)
}
