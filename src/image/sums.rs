//! What an unpacked layer must look like, in a few bytes.
//!
//! A power cut or a failing card leaves files that are empty, cut off, old or gone, on storage
//! that keeps its promises no better than it can (moby#49784: zero-byte files that look valid).
//! `shape` covers each name with all that `stat` tells; it costs no reading of content, so that
//! every layer is compared before its first use. `content` covers the bytes of the files, for
//! those who want to read everything. Both are sums over entries, in whatever order they come.
//! They find accidents; against lies the digests of the download stand.

use core::fmt;
use std::{
    collections::BTreeSet,
    fs::File,
    io::{self, Read},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use flate2::Crc;
use ring::digest::{Context, SHA256};
use rustix::{
    fs::{
        AtFlags, Dir, FileType, Mode, OFlags, Stat, fgetxattr, fstat, openat, readlinkat, statat,
    },
    io::Errno,
};

use crate::limits::LAYER_DEPTH_MAX;

const READ: OFlags = OFlags::CLOEXEC.union(OFlags::NOFOLLOW);

/// The sums of a layer, as its record holds them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sums {
    /// Unpacked bytes, for people and quotas.
    pub(super) bytes: u64,
    /// Of names and what `stat` tells of them.
    pub(super) shape: u64,
    /// Of the content of files; absent when it was not known.
    pub(super) content: Option<u64>,
}

impl fmt::Display for Sums {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.bytes, self.shape)?;
        self.content.map_or(Ok(()), |content| write!(f, " {content}"))
    }
}

impl Sums {
    /// Reads a record.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut numbers = text.split(' ').map(|word| word.parse().ok());
        let sums = Self {
            bytes: numbers.next()??,
            shape: numbers.next()??,
            content: match numbers.next() {
                Some(content) => Some(content?),
                None => None,
            },
        };
        numbers.next().is_none().then_some(sums)
    }
}

/// The part of a file in the sum of contents.
pub(super) fn of_content(crc: &Crc, size: u64) -> u64 {
    let mut hash = Context::new(&SHA256);
    hash.update(&crc.sum().to_le_bytes());
    hash.update(&size.to_le_bytes());
    head(hash)
}

/// The sum of names below the folder.
pub(super) fn shape(folder: BorrowedFd<'_>) -> io::Result<u64> {
    Ok(walk(folder, false)?.0)
}

/// Both sums; reads every file.
pub(super) fn all(folder: BorrowedFd<'_>) -> io::Result<(u64, u64)> {
    walk(folder, true)
}

fn walk(folder: BorrowedFd<'_>, read: bool) -> io::Result<(u64, u64)> {
    let mut walk = Walk { shape: 0, content: 0, read, seen: BTreeSet::new(), path: Vec::new() };
    let root = openat(folder, c".", READ | OFlags::DIRECTORY, Mode::empty())?;
    walk.shape = entry(&walk.path, &fstat(&root)?, b"");
    walk.folder(root, 0)?;
    Ok((walk.shape, walk.content))
}

struct Walk {
    shape: u64,
    content: u64,
    read: bool,
    /// Files with several names whose content was counted.
    seen: BTreeSet<u64>,
    path: Vec<u8>,
}

impl Walk {
    fn folder(&mut self, folder: OwnedFd, depth: usize) -> io::Result<()> {
        if LAYER_DEPTH_MAX < depth {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("folders lie deeper than {LAYER_DEPTH_MAX}"),
            ));
        }
        let length = self.path.len();
        let mut list = Dir::new(folder)?;
        while let Some(found) = list.read() {
            let found = found?;
            let name = found.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            self.path.push(b'/');
            self.path.extend_from_slice(name.to_bytes());
            let stat = statat(list.fd()?, name, AtFlags::SYMLINK_NOFOLLOW)?;
            let mut more = Vec::new();
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory => {
                    let flags = READ | OFlags::DIRECTORY;
                    let below = openat(list.fd()?, name, flags, Mode::empty())?;
                    more.push(u8::from(is_opaque(below.as_fd())));
                    self.folder(below, depth + 1)?;
                }
                FileType::Symlink => {
                    more = readlinkat(list.fd()?, name, Vec::new())?.into_bytes();
                }
                FileType::RegularFile if self.read => self.file(list.fd()?, name, &stat)?,
                FileType::RegularFile
                | FileType::CharacterDevice
                | FileType::BlockDevice
                | FileType::Fifo
                | FileType::Socket
                | FileType::Unknown => {}
            }
            self.shape = self.shape.wrapping_add(entry(&self.path, &stat, &more));
            self.path.truncate(length);
        }
        Ok(())
    }

    fn file(
        &mut self,
        folder: BorrowedFd<'_>,
        name: &core::ffi::CStr,
        stat: &Stat,
    ) -> io::Result<()> {
        if 1 < stat.st_nlink && !self.seen.insert(stat.st_ino) {
            return Ok(());
        }
        let mut file = File::from(openat(folder, name, READ, Mode::empty())?);
        let (mut crc, mut size) = (Crc::new(), 0_u64);
        let mut buffer = [0; 32 << 10];
        loop {
            match file.read(&mut buffer)? {
                0 => break,
                n => {
                    crc.update(buffer.get(..n).unwrap_or_default());
                    size = size.saturating_add(n as u64);
                }
            }
        }
        self.content = self.content.wrapping_add(of_content(&crc, size));
        Ok(())
    }
}

fn is_opaque(folder: BorrowedFd<'_>) -> bool {
    let mut value = [0_u8; 2];
    match fgetxattr(folder, c"trusted.overlay.opaque", &mut value[..]) {
        Ok(length) => 0 < length,
        Err(Errno::NODATA | _) => false,
    }
}

fn entry(path: &[u8], stat: &Stat, more: &[u8]) -> u64 {
    let mut hash = Context::new(&SHA256);
    // Of a folder neither size nor links are the layer's: file systems count them differently.
    let folder = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
    let (size, links) = if folder { (0, 0) } else { (stat.st_size, stat.st_nlink) };
    for number in [
        i64::from(stat.st_mode),
        i64::from(stat.st_uid),
        i64::from(stat.st_gid),
        size,
        i64::try_from(links).unwrap_or(i64::MAX),
        i64::try_from(stat.st_rdev).unwrap_or(i64::MAX),
        stat.st_mtime,
        i64::try_from(stat.st_mtime_nsec).unwrap_or(i64::MAX),
        i64::try_from(more.len()).unwrap_or(i64::MAX),
    ] {
        hash.update(&number.to_le_bytes());
    }
    hash.update(more);
    hash.update(path);
    head(hash)
}

fn head(hash: Context) -> u64 {
    let digest = hash.finish();
    digest.as_ref().first_chunk().map_or(0, |head| u64::from_le_bytes(*head))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, os::unix::fs::PermissionsExt};

    #[test]
    fn a_record_is_read_as_it_was_written() {
        for content in [None, Some(3)] {
            let sums = Sums { bytes: 1, shape: u64::MAX, content };
            assert_eq!(Sums::parse(&sums.to_string()), Some(sums));
        }
        for bad in ["", "1", "1 x", "1 2 x", "1 2 3 4", "1  2", "\0\0\0"] {
            assert_eq!(Sums::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn each_accident_changes_a_sum() {
        let tree = std::env::temp_dir().join(format!("edgeagent-sums-{}", std::process::id()));
        fs::create_dir_all(tree.join("a/b")).unwrap();
        fs::write(tree.join("a/file"), "content").unwrap();
        fs::hard_link(tree.join("a/file"), tree.join("a/b/other")).unwrap();
        std::os::unix::fs::symlink("file", tree.join("a/link")).unwrap();
        let sums = || {
            let folder = File::open(&tree).unwrap();
            let (shape, content) = all(folder.as_fd()).unwrap();
            assert_eq!(super::shape(folder.as_fd()).unwrap(), shape);
            (shape, content)
        };
        let good = sums();
        let mut crc = Crc::new();
        crc.update(b"content");
        assert_eq!(good.1, of_content(&crc, 7), "two names, one content");
        let modified = fs::metadata(tree.join("a/file")).unwrap().modified().unwrap();
        let write = |content: &str| {
            fs::write(tree.join("a/file"), content).unwrap();
            let file = File::options().write(true).open(tree.join("a/file")).unwrap();
            file.set_modified(modified).unwrap();
        };
        write("c0ntent");
        assert_eq!(sums().0, good.0, "a bit that fell over is only seen by reading");
        assert_ne!(sums().1, good.1);
        write("content");
        assert_eq!(sums(), good);
        fs::set_permissions(tree.join("a"), fs::Permissions::from_mode(0o700)).unwrap();
        assert_ne!(sums().0, good.0);
        fs::set_permissions(tree.join("a"), fs::Permissions::from_mode(0o755)).unwrap();
        File::options().write(true).open(tree.join("a/file")).unwrap().set_len(0).unwrap();
        assert_ne!(sums(), good);
        fs::remove_dir_all(&tree).unwrap();
    }
}
