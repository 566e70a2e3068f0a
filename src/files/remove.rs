//! The one way to delete a tree, however deep, wide or hostile it is.
//!
//! A container may nest folders until its storage has no inode left, so nothing here grows with
//! the depth: at most [`LEVELS`] folders are open at once. What lies deeper is moved up to the
//! folder that is being emptied, and has its turn there. No link is followed, and no mount point
//! is entered: the kernel refuses to remove one, before anything was read in it.

use core::{error::Error, fmt};
use std::{
    ffi::{CStr, CString},
    io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
        unix::ffi::{OsStrExt, OsStringExt},
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, CWD, Dir, Mode, OFlags, openat, renameat, unlinkat},
    io::Errno,
};

/// Folders that are open at once, each with a buffer of some kilobytes.
const LEVELS: usize = 8;

/// How often a folder is read again that is not empty although all that was seen in it went: some
/// storages skip entries while others go. Then something puts new ones there.
const ROUNDS: u32 = 8;

const FOLDER: OFlags = OFlags::CLOEXEC.union(OFlags::NOFOLLOW).union(OFlags::DIRECTORY);

/// What could not be removed. All else of the tree is gone.
#[derive(Debug)]
pub struct RemoveError {
    /// The first one.
    pub path: PathBuf,
    /// The kernel's answer.
    pub cause: io::Error,
    /// How many more there are, folders that are only in the way not counted.
    pub more: u64,
}

impl fmt::Display for RemoveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot remove {}", self.path.display())?;
        match self.more {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }?;
        write!(f, ": {}", self.cause)
    }
}

impl Error for RemoveError {}

impl From<RemoveError> for io::Error {
    fn from(error: RemoveError) -> Self {
        Self::new(error.cause.kind(), error)
    }
}

/// Removes whatever is at `path`, a folder with all that is in it; does nothing when nothing is
/// there. Links in the folders above are followed, none at `path` or below.
///
/// # Errors
/// [`RemoveError`] for what stays; everything else is gone then. A later call tries again.
pub fn remove_tree(path: &Path) -> Result<(), RemoveError> {
    let failed = |cause: io::Error| RemoveError { path: path.to_owned(), cause, more: 0 };
    let (Some(above), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(failed(io::ErrorKind::InvalidInput.into()));
    };
    let above = if above == Path::new("") { Path::new(".") } else { above };
    let name = CString::new(name.as_bytes()).map_err(|_| failed(Errno::INVAL.into()))?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    match openat(CWD, above, flags, Mode::empty()) {
        Ok(folder) => remove_at(folder.as_fd(), &name),
        Err(Errno::NOENT) => Ok(()),
        Err(e) => Err(failed(e.into())),
    }
}

/// Like [`remove_tree`], for `name` in an open folder.
///
/// # Errors
/// As [`remove_tree`].
pub fn remove_at(folder: BorrowedFd<'_>, name: &CStr) -> Result<(), RemoveError> {
    let failed = |e: Errno| stays(folder, name, e);
    if unlink(folder, name).map_err(failed)? {
        return Ok(());
    }
    let below = match openat(folder, name, FOLDER, Mode::empty()) {
        Ok(below) => below,
        Err(Errno::NOENT) => return Ok(()),
        Err(e) => return Err(failed(e)),
    };
    empty(below.as_fd())?;
    match unlinkat(folder, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(e) => Err(failed(e)),
    }
}

/// Removes all that is in an open folder.
///
/// # Errors
/// As [`remove_tree`].
pub fn empty(folder: BorrowedFd<'_>) -> Result<(), RemoveError> {
    Removal { stuck: None, moved: 0, movable: true, again: true }.empty(folder)
}
/// What happened while a folder is emptied.
struct Removal {
    stuck: Option<RemoveError>,
    /// How many folders were moved up so far: names of new ones.
    moved: u64,
    /// Whether anything can be; not on a storage without room for a name.
    movable: bool,
    /// Something may be left that can be removed.
    again: bool,
}

impl Removal {
    fn empty(mut self, folder: BorrowedFd<'_>) -> Result<(), RemoveError> {
        let mut rounds = 0;
        // Where nothing can be moved up, for want of room, it goes on further down for a while.
        let mut deep: Option<OwnedFd> = None;
        while self.again || deep.is_some() {
            let moved = self.moved;
            self.again = false;
            let base = deep.as_ref().map_or(folder, AsFd::as_fd);
            let found = match openat(base, c".", FOLDER, Mode::empty()) {
                Ok(open) => self.pass(base, open, 0),
                Err(e) => {
                    self.report(base, c".", e);
                    None
                }
            };
            rounds = if moved == self.moved && found.is_none() { rounds + 1 } else { 0 };
            if ROUNDS <= rounds {
                break;
            }
            // Once that is done, from the top again.
            self.again |= deep.is_some() && found.is_none() && self.stuck.is_none();
            deep = found;
        }
        self.stuck.map_or(Ok(()), Err)
    }

    /// Reads `folder`, so many levels below `base`, and removes what it can. Gives a folder that
    /// was too deep and could not be moved up to `base`.
    fn pass(&mut self, base: BorrowedFd<'_>, folder: OwnedFd, level: usize) -> Option<OwnedFd> {
        let mut entries = match Dir::new(folder) {
            Ok(entries) => entries,
            Err(e) => {
                self.report(base, c".", e);
                return None;
            }
        };
        loop {
            let next = entries.read();
            let Ok(here) = entries.fd() else { return None };
            let entry = match next {
                Some(Ok(entry)) => entry,
                Some(Err(e)) => {
                    self.report(here, c".", e);
                    return None;
                }
                None => return None,
            };
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            match unlink(here, name) {
                Ok(true) => continue,
                Ok(false) => {}
                Err(e) => {
                    self.report(here, name, e);
                    continue;
                }
            }
            if LEVELS <= level + 1 {
                if self.move_up(here, name, base) {
                    continue;
                }
                if self.stuck.is_none()
                    && let Ok(deep) = openat(here, name, FOLDER, Mode::empty())
                {
                    return Some(deep);
                }
                self.report(here, name, Errno::NOTEMPTY);
                continue;
            }
            match openat(here, name, FOLDER, Mode::empty()) {
                Ok(below) => {
                    let stuck = self.told();
                    if let Some(deep) = self.pass(base, below, level + 1) {
                        return Some(deep);
                    }
                    match unlinkat(here, name, AtFlags::REMOVEDIR) {
                        Ok(()) | Err(Errno::NOENT) => {}
                        // What is in it was told of already.
                        Err(Errno::NOTEMPTY | Errno::EXIST) if stuck != self.told() => {}
                        Err(Errno::NOTEMPTY | Errno::EXIST) => self.again = true,
                        Err(e) => self.report(here, name, e),
                    }
                }
                Err(Errno::NOENT) => {}
                // It was replaced by something else.
                Err(Errno::NOTDIR | Errno::LOOP) => self.again = true,
                Err(e) => self.report(here, name, e),
            }
        }
    }

    fn move_up(&mut self, folder: BorrowedFd<'_>, name: &CStr, base: BorrowedFd<'_>) -> bool {
        while self.movable {
            let Ok(free) = CString::new(format!(".removing-{}", self.moved)) else { return false };
            self.moved += 1;
            match renameat(folder, name, base, &free) {
                Ok(()) => {
                    self.again = true;
                    return true;
                }
                // The name is taken.
                Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOTDIR) => {}
                Err(_) => return false,
            }
        }
        false
    }

    fn told(&self) -> Option<u64> {
        self.stuck.as_ref().map(|stuck| stuck.more)
    }

    fn report(&mut self, folder: BorrowedFd<'_>, name: &CStr, error: Errno) {
        match &mut self.stuck {
            Some(stuck) => stuck.more = stuck.more.saturating_add(1),
            None => self.stuck = Some(stays(folder, name, error)),
        }
    }
}

/// Removes a file, a link or an empty folder; false for a folder that is not empty.
fn unlink(folder: BorrowedFd<'_>, name: &CStr) -> rustix::io::Result<bool> {
    let refused = match unlinkat(folder, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(true),
        // How a folder answers, on Linux and by POSIX.
        Err(e @ (Errno::ISDIR | Errno::PERM)) => e,
        Err(e) => return Err(e),
    };
    match unlinkat(folder, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(true),
        Err(Errno::NOTEMPTY | Errno::EXIST) => Ok(false),
        Err(Errno::NOTDIR) => Err(refused),
        Err(e) => Err(e),
    }
}

fn stays(folder: BorrowedFd<'_>, name: &CStr, error: Errno) -> RemoveError {
    let link = format!("/proc/self/fd/{}", folder.as_raw_fd());
    // Longer than a path may be, it has none.
    let place = rustix::fs::readlink(link, Vec::new())
        .map(|path| PathBuf::from(std::ffi::OsString::from_vec(path.into_bytes())))
        .unwrap_or_default();
    let path = match name.to_bytes() {
        b"." => place,
        name => place.join(std::ffi::OsStr::from_bytes(name)),
    };
    RemoveError { path, cause: error.into(), more: 0 }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::symlink,
        sync::atomic::{AtomicU32, Ordering},
    };

    use rustix::fs::mkdirat;

    use super::*;

    fn scratch() -> PathBuf {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path =
            std::env::temp_dir().join(format!("edgeagent-files-{}-{number}", std::process::id()));
        fs::create_dir(&path).unwrap();
        path
    }

    /// A chain of folders of this name, a file in each.
    fn chain(top: &Path, name: &CStr, levels: u32) -> OwnedFd {
        let mut at = openat(CWD, top, FOLDER, Mode::empty()).unwrap();
        let new = OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC;
        for level in 0..levels {
            mkdirat(&at, name, Mode::RWXU).unwrap();
            if level % 100 == 0 {
                openat(&at, c"file", new, Mode::RUSR).unwrap();
            }
            at = openat(&at, name, FOLDER, Mode::empty()).unwrap();
        }
        at
    }

    #[test]
    fn a_tree_of_any_depth_goes_with_few_descriptors_and_little_stack() {
        for (name, levels) in [(c"d".to_owned(), 20_000), (CString::new([b'n'; 255]).unwrap(), 600)]
        {
            let top = scratch();
            chain(&top, &name, levels);
            std::thread::Builder::new()
                .stack_size(64 * 1024)
                .spawn({
                    let top = top.clone();
                    move || remove_tree(&top).unwrap()
                })
                .unwrap()
                .join()
                .unwrap();
            assert!(!top.exists());
        }
    }

    #[test]
    fn a_wide_and_branching_tree_goes() {
        let top = scratch();
        for wide in 0..300 {
            let folder = top.join(format!("w{wide}"));
            fs::create_dir(&folder).unwrap();
            for name in [c"a", c"b"] {
                chain(&folder, name, 30);
            }
            fs::write(folder.join("file"), "").unwrap();
        }
        remove_tree(&top).unwrap();
        assert!(!top.exists());
    }

    #[test]
    fn a_storage_without_room_for_a_name_is_emptied_too() {
        let top = scratch();
        chain(&top, c"d", 1000);
        for wide in 0..20 {
            let folder = top.join(format!("w{wide}"));
            fs::create_dir(&folder).unwrap();
            chain(&folder, c"d", 30);
        }
        let open = openat(CWD, &top, FOLDER, Mode::empty()).unwrap();
        let removal = Removal { stuck: None, moved: 0, movable: false, again: true };
        removal.empty(open.as_fd()).unwrap();
        fs::remove_dir(&top).unwrap();
    }

    #[test]
    fn names_that_a_removal_would_take_are_no_obstacle() {
        let top = scratch();
        for number in 0..20 {
            fs::create_dir_all(top.join(format!(".removing-{number}/full"))).unwrap();
        }
        fs::write(top.join(".removing-20"), "").unwrap();
        chain(&top, c"d", 500);
        remove_tree(&top).unwrap();
        assert!(!top.exists());
    }

    #[test]
    fn links_are_removed_and_never_followed() {
        let (top, outside) = (scratch(), scratch());
        fs::write(outside.join("kept"), "").unwrap();
        symlink(&outside, top.join("link")).unwrap();
        let deep = chain(&top, c"d", 50);
        rustix::fs::symlinkat(&outside, &deep, c"link").unwrap();
        remove_tree(&top).unwrap();
        assert!(!top.exists() && outside.join("kept").exists());
        // The tree itself as a link.
        symlink(&outside, &top).unwrap();
        remove_tree(&top).unwrap();
        assert!(fs::symlink_metadata(&top).is_err() && outside.join("kept").exists());
        remove_tree(&outside).unwrap();
    }

    #[test]
    fn nothing_and_a_single_file_are_removed_and_the_root_is_not() {
        let top = scratch();
        remove_tree(&top.join("missing/below")).unwrap();
        fs::write(top.join("file"), "").unwrap();
        remove_tree(&top.join("file")).unwrap();
        assert_eq!(fs::read_dir(&top).unwrap().count(), 0);
        empty(openat(CWD, &top, FOLDER, Mode::empty()).unwrap().as_fd()).unwrap();
        remove_tree(&top).unwrap();
        assert!(remove_tree(Path::new("/")).is_err());
        assert!(remove_tree(Path::new("/proc/self/..")).is_err());
    }
}
