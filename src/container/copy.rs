//! Fills an empty volume with what the image has at its place.
//!
//! Keeps owners, modes and times; hard links become copies, sockets are left out.

use std::{
    fs, io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

use rustix::fs::{
    AtFlags, Dir, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid, chownat, fchmod,
    fchown, fstat, futimens, mkdirat, mknodat, openat, readlinkat, statat, symlinkat,
};

use super::resolve;

const READ: OFlags = OFlags::CLOEXEC.union(OFlags::NOFOLLOW);

/// Copies the content of the folder `from`, and its own owner and mode, to the folder `to`.
pub(crate) fn tree(from: BorrowedFd<'_>, to: &Path) -> io::Result<()> {
    let from = openat(from, ".", READ | OFlags::DIRECTORY, Mode::empty())?;
    let to = fs::File::open(to)?;
    folder(from, to.as_fd())
}

fn folder(from: OwnedFd, to: BorrowedFd<'_>) -> io::Result<()> {
    let stat = fstat(&from)?;
    for entry in Dir::read_from(&from)? {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        one(from.as_fd(), to, name)?;
    }
    own(to, &stat)
}

fn one(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &std::ffi::CStr) -> io::Result<()> {
    let stat = statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let private = Mode::from_raw_mode(0o600);
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => {
            mkdirat(to, name, Mode::from_raw_mode(0o700))?;
            let below = openat(to, name, READ | OFlags::DIRECTORY, Mode::empty())?;
            folder(openat(from, name, READ | OFlags::DIRECTORY, Mode::empty())?, below.as_fd())
        }
        FileType::RegularFile => {
            let mut source = fs::File::from(openat(from, name, READ, Mode::empty())?);
            let flags = READ | OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
            let mut copy = fs::File::from(openat(to, name, flags, private)?);
            io::copy(&mut source, &mut copy)?;
            own(copy.as_fd(), &stat)
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

fn own(fd: BorrowedFd<'_>, stat: &Stat) -> io::Result<()> {
    fchown(fd, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))?;
    // After the owner, whose change clears set-id bits.
    fchmod(fd, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
    let modified = Timespec {
        tv_sec: i64::try_from(stat.st_mtime).unwrap_or_default(),
        tv_nsec: stat.st_mtime_nsec.try_into().unwrap_or_default(),
    };
    Ok(futimens(fd, &Timestamps { last_access: modified, last_modification: modified })?)
}

fn own_name(dir: BorrowedFd<'_>, name: &std::ffi::CStr, stat: &Stat) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    Ok(chownat(dir, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?)
}
