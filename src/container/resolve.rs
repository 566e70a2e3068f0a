//! Opens paths inside a container's root without ever leaving it.
//!
//! An image is hostile: any component may be a link to anywhere, and another container that
//! shares a volume may swap one while we look (CVE-2021-30465). So a path becomes a descriptor
//! once, and all that follows uses the descriptor.

use std::{
    collections::VecDeque,
    io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStringExt,
    },
    path::PathBuf,
};

use rustix::{
    fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fstat, mkdirat, openat, openat2, readlinkat},
    io::Errno,
};

use crate::limits;

const PATH: OFlags = OFlags::PATH.union(OFlags::CLOEXEC);

/// What to make where a path ends and nothing is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Missing {
    /// Nothing: it is an error.
    Fail,
    /// A folder.
    Folder,
    /// An empty file.
    File,
}

/// `/proc/self/fd/N`: the name by which `mount` takes a descriptor.
pub(crate) fn name_of(fd: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

/// Opens `path` of the host as a place.
pub(crate) fn host(path: &std::path::Path) -> io::Result<OwnedFd> {
    Ok(openat(CWD, path, PATH, Mode::empty())?)
}

/// Opens `path` of the host as a place; a link anywhere is an error. For a path whose links were
/// followed before: what was checked then is what is opened now.
pub(crate) fn host_without_links(path: &std::path::Path) -> io::Result<OwnedFd> {
    match openat2(CWD, path, PATH, Mode::empty(), ResolveFlags::NO_SYMLINKS) {
        Err(Errno::NOSYS | Errno::PERM) => {
            let root = openat(CWD, "/", PATH | OFlags::DIRECTORY, Mode::empty())?;
            without_links(root.as_fd(), &path.to_string_lossy())
        }
        opened => Ok(opened?),
    }
}

/// Opens `path` below `root` as a place, following links as if `root` were `/`.
pub(crate) fn inside(root: BorrowedFd<'_>, path: &str) -> io::Result<OwnedFd> {
    let flags = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let mut tries = 0;
    loop {
        match openat2(root, path, PATH, Mode::empty(), flags) {
            Ok(fd) => return Ok(fd),
            // Something was renamed meanwhile, and the kernel can not be sure.
            Err(Errno::AGAIN) if tries < limits::RESOLVE_TRIES => tries += 1,
            // Before Linux 5.6, or refused by a seccomp filter around us.
            Err(Errno::NOSYS | Errno::PERM) => return by_hand(root, path, Missing::Fail, true),
            Err(e) => return Err(e.into()),
        }
    }
}

/// Opens `path` below `root` without following any link.
pub(crate) fn without_links(root: BorrowedFd<'_>, path: &str) -> io::Result<OwnedFd> {
    by_hand(root, path, Missing::Fail, false)
}

/// Like [`inside`], and makes what is missing: folders with mode 0755, and `last` at the end.
pub(crate) fn make(root: BorrowedFd<'_>, path: &str, last: Missing) -> io::Result<OwnedFd> {
    match inside(root, path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => by_hand(root, path, last, true),
        other => other,
    }
}

/// Like [`make`], but a link anywhere is an error.
pub(crate) fn make_without_links(
    root: BorrowedFd<'_>,
    path: &str,
    last: Missing,
) -> io::Result<OwnedFd> {
    by_hand(root, path, last, false)
}

/// Component by component, holding a descriptor of every folder on the way: `..` goes back to
/// one that we have, so nothing that moves can lead out of `root`.
fn by_hand(root: BorrowedFd<'_>, path: &str, last: Missing, follow: bool) -> io::Result<OwnedFd> {
    let mut todo: VecDeque<Vec<u8>> = split(path.as_bytes()).collect();
    let mut held: Vec<OwnedFd> = vec![openat(root, ".", PATH | OFlags::DIRECTORY, Mode::empty())?];
    let mut links = 0;
    while let Some(name) = todo.pop_front() {
        if name == b".." {
            if 1 < held.len() {
                held.pop();
            }
            continue;
        }
        let dir = held.last().ok_or(Errno::NOENT)?.as_fd();
        let found = match openat(dir, name.as_slice(), PATH | OFlags::NOFOLLOW, Mode::empty()) {
            Err(Errno::NOENT) if last != Missing::Fail => {
                create(dir, &name, if todo.is_empty() { last } else { Missing::Folder })?;
                openat(dir, name.as_slice(), PATH | OFlags::NOFOLLOW, Mode::empty())?
            }
            other => other?,
        };
        if FileType::from_raw_mode(fstat(&found)?.st_mode) != FileType::Symlink {
            held.push(found);
            continue;
        }
        links += 1;
        if !follow || limits::SYMLINKS_MAX < links {
            return Err(Errno::LOOP.into());
        }
        let target = readlinkat(&found, c"", Vec::new())?.into_bytes();
        if target.first() == Some(&b'/') {
            held.truncate(1);
        }
        let parts: Vec<Vec<u8>> = split(&target).collect();
        for part in parts.into_iter().rev() {
            todo.push_front(part);
        }
    }
    held.pop().ok_or_else(|| Errno::NOENT.into())
}

fn split(path: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    path.split(|b| *b == b'/').filter(|p| !p.is_empty() && *p != b".").map(<[u8]>::to_vec)
}

fn create(dir: BorrowedFd<'_>, name: &[u8], what: Missing) -> io::Result<()> {
    let made = match what {
        Missing::Fail => Err(Errno::NOENT),
        Missing::Folder => mkdirat(dir, name, Mode::from_raw_mode(0o755)),
        Missing::File => {
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
            openat(dir, name, flags | OFlags::NOFOLLOW, Mode::from_raw_mode(0o644)).map(drop)
        }
    };
    match made {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

/// Where a descriptor's file lies, for messages.
pub(crate) fn path_of(fd: BorrowedFd<'_>) -> PathBuf {
    rustix::fs::readlink(name_of(fd), Vec::new())
        .map(|p| PathBuf::from(std::ffi::OsString::from_vec(p.into_bytes())))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir()
                .join(format!("edgeagent-resolve-{name}-{}", std::process::id()));
            assert!(!path.exists(), "left by another run");
            std::fs::create_dir_all(path.join("root/etc")).unwrap();
            std::fs::create_dir_all(path.join("outside")).unwrap();
            Self(path)
        }

        fn root(&self) -> OwnedFd {
            host(&self.0.join("root")).unwrap()
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            std::fs::remove_dir_all(&self.0).unwrap();
        }
    }

    #[test]
    fn links_stay_inside_in_both_ways_of_resolving() {
        let folder = Folder::new("links");
        let root = folder.0.join("root");
        symlink("/etc", root.join("absolute")).unwrap();
        symlink("../../../../etc", root.join("climbing")).unwrap();
        symlink(folder.0.join("outside"), root.join("escape")).unwrap();
        let fd = folder.root();
        for name in ["absolute", "climbing", "../../etc", "/etc/.", "etc/../../etc"] {
            for way in [inside(fd.as_fd(), name), by_hand(fd.as_fd(), name, Missing::Fail, true)] {
                assert_eq!(path_of(way.unwrap().as_fd()), root.join("etc"), "{name}");
            }
        }
        assert!(inside(fd.as_fd(), "escape").is_err());
        assert!(by_hand(fd.as_fd(), "escape", Missing::Fail, true).is_err());
    }

    #[test]
    fn what_is_made_through_a_link_lies_inside() {
        let folder = Folder::new("make");
        let root = folder.0.join("root");
        symlink(folder.0.join("outside"), root.join("escape")).unwrap();
        let fd = folder.root();
        let made = make(fd.as_fd(), "/escape/a/b", Missing::File).unwrap();
        assert!(path_of(made.as_fd()).starts_with(&root));
        assert_eq!(std::fs::read_dir(folder.0.join("outside")).unwrap().count(), 0);
        assert!(make_without_links(fd.as_fd(), "/escape/c", Missing::Folder).is_err());
    }

    #[test]
    fn a_loop_of_links_ends() {
        let folder = Folder::new("loop");
        let root = folder.0.join("root");
        symlink("b", root.join("a")).unwrap();
        symlink("a", root.join("b")).unwrap();
        let error = by_hand(folder.root().as_fd(), "a", Missing::Fail, true).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(Errno::LOOP.raw_os_error()));
    }
}
