//! Layers that are not here as a whole yet: their packed bytes, in the order in which they came.
//!
//! ```text
//! <store>/partial/<hex>      the first bytes of the blob with this digest
//! ```
//! **For who cleans the store**: these files are content, kept across restarts and reboots so that
//! nothing is paid for twice. Whoever works on one holds an exclusive `flock` on it; one that can
//! be locked and was not changed (`mtime`) for long may be removed.
//!
//! Nothing here is synced. The kernel writes by itself what is half a minute old, and that is the
//! right bargain with flash: a layer that came faster is never written twice, a slow one survives
//! a power cut but for its last seconds. What a crash leaves out of the middle shows as a hole,
//! and the file counts up to there; all else shows in the digest of the whole.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{FlockOperation, SeekFrom, flock, fstatvfs},
    io::Errno,
};

use super::{digest::Digest, pull::PullError, store::StoreError};
use crate::limits::PARTIAL_ROOM;

/// The first bytes of a blob, for one owner at a time.
pub(super) struct Partial {
    path: PathBuf,
    file: File,
    len: u64,
    /// More bytes are written down. False where the room is needed for the layer itself: then a
    /// broken connection is still taken up again, but not by another process.
    keep: bool,
}

/// Where the first bytes of a blob are.
pub(super) fn path(store: &Path, digest: &Digest) -> PathBuf {
    store.join("partial").join(digest.hex())
}

/// How many of them there are.
pub(super) fn length(store: &Path, digest: &Digest) -> u64 {
    fs::metadata(path(store, digest)).map_or(0, |meta| meta.len())
}

impl Partial {
    /// Takes what there is of a blob of `size` bytes; none when somebody else works on it.
    pub(super) fn try_take(
        store: &Path,
        digest: &Digest,
        size: u64,
    ) -> Result<Option<Self>, PullError> {
        let path = path(store, digest);
        Self::open(&path, size).map_err(|source| PullError::Store(StoreError::Io { path, source }))
    }

    fn open(path: &Path, size: u64) -> io::Result<Option<Self>> {
        if let Some(folder) = path.parent() {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        }
        loop {
            let mut options = File::options();
            options.read(true).write(true).create(true).truncate(false).mode(0o600);
            let file = options.open(path)?;
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(Errno::WOULDBLOCK) => return Ok(None),
                Err(e) => return Err(e.into()),
            }
            let meta = file.metadata()?;
            // Who held it before may have finished and removed it.
            if meta.nlink() == 0 {
                continue;
            }
            let whole = match rustix::fs::seek(&file, SeekFrom::Hole(0)) {
                Ok(hole) => hole.min(meta.len()),
                // Empty, or a file system that does not tell.
                Err(_) => meta.len(),
            };
            let len = if whole <= size { whole } else { 0 };
            if len < meta.len() {
                file.set_len(len)?;
            }
            let room = fstatvfs(&file)
                .is_ok_and(|fs| PARTIAL_ROOM * size <= fs.f_bavail.saturating_mul(fs.f_frsize));
            return Ok(Some(Self { path: path.to_owned(), file, len, keep: room }));
        }
    }

    /// Bytes that are here.
    pub(super) const fn len(&self) -> u64 {
        self.len
    }

    /// Whether more bytes are written down.
    pub(super) const fn keeps(&self) -> bool {
        self.keep
    }

    /// Reads bytes that are here.
    pub(super) fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        self.file.read_at(buffer, at)
    }

    /// Writes further bytes down. What can not be written is not kept: the layer needs the disk,
    /// and says so itself when that is full.
    pub(super) fn append(&mut self, bytes: &[u8]) {
        if !self.keep {
            return;
        }
        match self.file.write_all_at(bytes, self.len) {
            Ok(()) => self.len = self.len.saturating_add(bytes.len() as u64),
            Err(e) => {
                log::debug!("{} is not continued: {e}", self.path.display());
                self.keep = false;
            }
        }
    }

    /// Forgets all bytes.
    pub(super) fn remove(&mut self) {
        self.keep = false;
        self.len = 0;
        // While it is open its pages would still be written; an empty file has none.
        if let Err(e) = self.file.set_len(0) {
            log::debug!("{} is not emptied: {e}", self.path.display());
        }
        match fs::remove_file(&self.path) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => log::warn!("{} stays: {e}", self.path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_outlive_their_owner_up_to_the_first_hole() {
        let store = std::env::temp_dir().join(format!("edgeagent-partial-{}", std::process::id()));
        let digest = Digest::of(b"x");
        let take = |size| Partial::try_take(&store, &digest, size).ok().unwrap();
        let block = [7; 64 << 10];
        let mut first = take(1 << 20).unwrap();
        assert_eq!(first.len(), 0);
        first.append(&block);
        assert!(take(1 << 20).is_none(), "one owner at a time");
        drop(first);
        let second = take(1 << 20).unwrap();
        assert_eq!(second.len(), 64 << 10);
        // As after a power cut on a file system that writes sizes before data.
        second.file.write_all_at(&block, 128 << 10).unwrap();
        drop(second);
        let mut third = take(1 << 20).unwrap();
        assert_eq!(third.len(), 64 << 10);
        third.remove();
        drop(third);
        let mut fourth = take(1 << 20).unwrap();
        assert_eq!(fourth.len(), 0);
        fourth.append(&block);
        drop(fourth);
        assert_eq!(take(100).unwrap().len(), 0, "more than the blob has is none of it");
        fs::remove_dir_all(store).unwrap();
    }
}
