//! Walks a tree of folders beside the one that it is copied to, however deep it is.
//!
//! At most [`LEVELS`] folders of each tree are open at once, and nothing recurses. Further up, a
//! folder is a few numbers: where its reading goes on, and which folder of the copy belongs to it.
//! The way back up is `..`, and the copy's folder must be the one from before: whoever moves it
//! meanwhile leads nowhere (CVE-2021-30465). The tree that is read is an image's own, which nobody
//! else changes.

use std::{
    collections::VecDeque,
    ffi::CStr,
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::{
    fs::{AtFlags, Dir, FileType, Mode, OFlags, SeekFrom, Stat, fstat, openat, seek, statat},
    io::Errno,
};

pub(super) const FOLDER: OFlags = OFlags::CLOEXEC.union(OFlags::NOFOLLOW).union(OFlags::DIRECTORY);

/// Folders of each tree that are open at once, each with a buffer of some kilobytes.
const LEVELS: usize = 16;

/// Deeper trees are refused; a folder on the way takes 40 bytes. A path has room for 2048.
const LEVELS_MAX: usize = 100_000;

/// What is done with what is found.
pub(super) trait Visitor {
    /// A folder is entered.
    fn enter(&mut self, from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> io::Result<()>;

    /// Whether a name is left out.
    fn skips(&self, name: &CStr) -> bool;

    /// Makes a folder in the folder `to`, unless it is there.
    fn make(&mut self, to: BorrowedFd<'_>, name: &CStr) -> io::Result<()>;

    /// Anything but a folder is found.
    fn file(
        &mut self,
        from: BorrowedFd<'_>,
        to: BorrowedFd<'_>,
        name: &CStr,
        stat: &Stat,
    ) -> io::Result<()>;

    /// All that is in a folder was visited.
    fn leave(&mut self, from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> io::Result<()>;

    /// Says where an error happened.
    fn named(&self, error: io::Error, from: BorrowedFd<'_>, name: &CStr) -> io::Error;
}

/// A folder that is being read.
struct Level {
    from: Dir,
    to: OwnedFd,
    /// Where to read on, as the storage counts.
    offset: i64,
}

/// One that was closed meanwhile.
struct Above {
    offset: i64,
    to: (u64, u64),
}

/// Visits all that is in `from`, beside `to`.
pub(super) fn walk(from: OwnedFd, to: OwnedFd, visitor: &mut impl Visitor) -> io::Result<()> {
    visitor.enter(from.as_fd(), to.as_fd())?;
    let mut open = VecDeque::from([Level { from: Dir::new(from)?, to, offset: 0 }]);
    let mut above: Vec<Above> = Vec::new();
    while let Some(level) = open.back_mut() {
        if let Some(below) = level.next(visitor)? {
            visitor.enter(below.from.fd()?, below.to.as_fd())?;
            open.push_back(below);
            if LEVELS < open.len()
                && let Some(closed) = open.pop_front()
            {
                if LEVELS_MAX <= above.len() {
                    return Err(Errno::NAMETOOLONG.into());
                }
                above.push(Above { offset: closed.offset, to: identity(closed.to.as_fd())? });
            }
            continue;
        }
        let Some(done) = open.pop_back() else { break };
        visitor.leave(done.from.fd()?, done.to.as_fd())?;
        if open.is_empty()
            && let Some(back) = above.pop()
        {
            open.push_back(reopen(&done, &back)?);
        }
    }
    Ok(())
}

impl Level {
    /// Visits what is here, up to the next folder.
    fn next(&mut self, visitor: &mut impl Visitor) -> io::Result<Option<Self>> {
        while let Some(entry) = self.from.read() {
            let entry = entry?;
            self.offset = entry.offset();
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") || visitor.skips(name) {
                continue;
            }
            let (from, to) = (self.from.fd()?, self.to.as_fd());
            let below = (|| {
                let stat = statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
                if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
                    return visitor.file(from, to, name, &stat).map(|()| None);
                }
                visitor.make(to, name)?;
                let to = openat(to, name, FOLDER, Mode::empty())?;
                let from = Dir::new(openat(from, name, FOLDER, Mode::empty())?)?;
                Ok(Some(Self { from, to, offset: 0 }))
            })();
            if let Some(below) = below.map_err(|e| visitor.named(e, from, name))? {
                return Ok(Some(below));
            }
        }
        Ok(None)
    }
}

fn reopen(below: &Level, above: &Above) -> io::Result<Level> {
    let to = openat(&below.to, c"..", FOLDER, Mode::empty())?;
    if identity(to.as_fd())? != above.to {
        return Err(io::Error::other("a folder was moved while it was copied"));
    }
    let from = openat(below.from.fd()?, c"..", FOLDER, Mode::empty())?;
    // The bits as they were: some storages count in hashes.
    seek(&from, SeekFrom::Start(above.offset.cast_unsigned()))?;
    Ok(Level { from: Dir::new(from)?, to, offset: above.offset })
}

fn identity(folder: BorrowedFd<'_>) -> io::Result<(u64, u64)> {
    let stat = fstat(folder)?;
    Ok((stat.st_dev, stat.st_ino))
}
