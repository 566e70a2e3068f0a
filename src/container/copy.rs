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
    AtFlags, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid, XattrFlags, chownat,
    fchmod, fchown, fgetxattr, fgetxattr_query, flistxattr, flistxattr_query, fsetxattr, fstat,
    futimens, linkat, mkdirat, mknodat, openat, readlinkat, symlinkat, utimensat,
};
use rustix::io::Errno;

use super::{
    resolve,
    walk::{Visitor, walk},
};
use crate::{files, limits};

const READ: OFlags = OFlags::CLOEXEC.union(OFlags::NOFOLLOW);

/// Copies of files with several names: descriptor of the first one's folder, and its name there.
pub(super) type Linked = BTreeMap<(u64, u64), (OwnedFd, CString)>;

/// Copies the content of the folder `from`, and its own owner and mode, to the folder `to`.
/// An error names the file and, when the place to copy to is full, says so.
pub(crate) fn tree(from: BorrowedFd<'_>, to: &Path) -> io::Result<()> {
    let from = openat(from, ".", READ | OFlags::DIRECTORY, Mode::empty())?;
    walk(from, fs::File::open(to)?.into(), &mut Fill::default())
}

/// Empties the folder `place`, which was empty before a copy that failed.
pub(crate) fn clear(place: &Path) -> io::Result<()> {
    Ok(files::empty(fs::File::open(place)?.as_fd())?)
}

/// An image's folder into a volume.
#[derive(Default)]
struct Fill {
    linked: Linked,
}

impl Visitor for Fill {
    fn enter(&mut self, _from: BorrowedFd<'_>, _to: BorrowedFd<'_>) -> io::Result<()> {
        Ok(())
    }

    fn skips(&self, _name: &CStr) -> bool {
        false
    }

    fn make(&mut self, to: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
        Ok(mkdirat(to, name, Mode::from_raw_mode(0o700))?)
    }

    fn file(
        &mut self,
        from: BorrowedFd<'_>,
        to: BorrowedFd<'_>,
        name: &CStr,
        stat: &Stat,
    ) -> io::Result<()> {
        one(from, to, name, stat, &mut self.linked)
    }

    fn leave(&mut self, from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> io::Result<()> {
        attributes(from, to)?;
        own(to, &fstat(from)?)
    }

    fn named(&self, error: io::Error, from: BorrowedFd<'_>, name: &CStr) -> io::Error {
        named(error, from, name)
    }
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

/// Copies anything but a folder.
pub(super) fn one(
    from: BorrowedFd<'_>,
    to: BorrowedFd<'_>,
    name: &CStr,
    stat: &Stat,
    linked: &mut Linked,
) -> io::Result<()> {
    let private = Mode::from_raw_mode(0o600);
    match FileType::from_raw_mode(stat.st_mode) {
        // The walk's.
        FileType::Directory => Err(Errno::ISDIR.into()),
        FileType::RegularFile => {
            let source = openat(from, name, READ, Mode::empty())?;
            let file = (stat.st_dev, stat.st_ino);
            if let Some((dir, first)) = linked.get(&file) {
                return Ok(linkat(dir, first.as_c_str(), to, name, AtFlags::empty())?);
            }
            let flags = READ | OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
            let mut copy = fs::File::from(openat(to, name, flags, private)?);
            let mut source = fs::File::from(source);
            io::copy(&mut source, &mut copy)?;
            own(copy.as_fd(), stat)?;
            // After the owner, whose change clears capabilities.
            attributes(source.as_fd(), copy.as_fd())?;
            if 1 < stat.st_nlink && linked.len() < limits::COPY_LINKS_MAX {
                linked.insert(file, (to.try_clone_to_owned()?, name.to_owned()));
            }
            Ok(())
        }
        FileType::Symlink => {
            let target = readlinkat(from, name, Vec::new())?;
            symlinkat(&target, to, name)?;
            own_name(to, name, stat)
        }
        kind @ (FileType::CharacterDevice | FileType::BlockDevice | FileType::Fifo) => {
            mknodat(to, name, kind, Mode::from_raw_mode(stat.st_mode & 0o7777), stat.st_rdev)?;
            own_name(to, name, stat)
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
