//! What becomes of a provisioning file: it is erased once its identity is sealed, and where that
//! is impossible its digest is remembered.
//!
//! The digests stand in `data-root/provisioned`, not in the identity: `leave` forgets that one, and
//! a file on a read-only medium must not make the node join again behind the operator's back. They
//! are not sealed, for the SHA-256 of a file with 128 secret bits tells nothing, and they must be
//! readable when the seal is lost. Whoever empties `data-root` starts anew.

use std::{
    fs::{self, OpenOptions},
    io::{Seek as _, SeekFrom, Write as _},
    path::Path,
};

use super::{FileError, files};
use crate::limits::{JOIN_FILE_MAX_BYTES, JOIN_FILES_REMEMBERED};

const NAME: &str = "provisioned";
/// A fate and a digest.
const ENTRY_BYTES: usize = 33;

/// Why the content of a provisioning file is not used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// An identity was made from it.
    Used = 1,
    /// The managers refused it.
    Refused = 2,
}

/// What is remembered of the file with this digest.
///
/// # Errors
/// [`FileError`] when it can not be read.
pub fn fate(data_root: &Path, digest: &[u8; 32]) -> Result<Option<Fate>, FileError> {
    Ok(entries(data_root)?.chunks_exact(ENTRY_BYTES).rev().find_map(|entry| {
        match entry.split_first() {
            Some((1, of)) if of == digest => Some(Fate::Used),
            Some((2, of)) if of == digest => Some(Fate::Refused),
            Some(_) | None => None,
        }
    }))
}

/// Remembers a digest durably; the oldest of more than [`JOIN_FILES_REMEMBERED`] is forgotten.
///
/// # Errors
/// [`FileError`]; what was remembered before is intact.
pub fn remember(data_root: &Path, digest: &[u8; 32], what: Fate) -> Result<(), FileError> {
    if fate(data_root, digest)? == Some(what) {
        return Ok(());
    }
    let mut known = entries(data_root)?;
    known.push(what as u8);
    known.extend_from_slice(digest);
    let surplus = known.len().saturating_sub(JOIN_FILES_REMEMBERED * ENTRY_BYTES);
    files::replace(data_root, NAME, known.get(surplus..).unwrap_or_default())
}

fn entries(data_root: &Path) -> Result<Vec<u8>, FileError> {
    let limit = JOIN_FILES_REMEMBERED * ENTRY_BYTES;
    let mut known = files::read(&data_root.join(NAME), limit)?.unwrap_or_default();
    known.truncate(known.len() / ENTRY_BYTES * ENTRY_BYTES);
    Ok(known)
}

/// True when an [`erase`] of the file with this content was cut off.
#[must_use]
pub fn is_half_erased(content: &[u8]) -> bool {
    content.first() == Some(&0)
}

/// Overwrites a plaintext file in place and removes it, durably. A missing file is success.
///
/// The first byte goes alone: whatever a power cut leaves either is the whole file still or begins
/// with a zero, which no JSON does. Flash may keep old cells; who fears that keeps the file on a
/// medium that is taken out.
///
/// # Errors
/// [`FileError`], on a read-only medium for one.
pub fn erase(path: &Path) -> Result<(), FileError> {
    if !path.exists() {
        return Ok(());
    }
    overwrite(path).map_err(FileError::because("overwrite", path))?;
    fs::remove_file(path).map_err(FileError::because("remove", path))?;
    path.parent().map_or(Ok(()), files::sync_folder)
}

fn overwrite(path: &Path) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).open(path)?;
    let bytes = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX);
    let zeros = vec![0; bytes.min(JOIN_FILE_MAX_BYTES)];
    file.write_all(zeros.get(..1).unwrap_or_default())?;
    file.sync_all()?;
    file.seek(SeekFrom::Start(0))?;
    file.write_all(&zeros)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Folder(std::path::PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let dir = std::env::temp_dir().join(format!("ea-{name}-{}", std::process::id()));
            fs::create_dir_all(&dir).unwrap();
            Self(dir)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            drop(fs::remove_dir_all(&self.0));
        }
    }

    #[test]
    fn digests_are_remembered_and_the_oldest_of_too_many_is_forgotten() {
        let folder = Folder::new("provisioned");
        assert_eq!(fate(&folder.0, &[0; 32]).unwrap(), None);
        for n in 0..=8 {
            let what = if n % 2 == 0 { Fate::Used } else { Fate::Refused };
            remember(&folder.0, &[n; 32], what).unwrap();
            remember(&folder.0, &[n; 32], what).unwrap();
            assert_eq!(fate(&folder.0, &[n; 32]).unwrap(), Some(what));
        }
        assert_eq!(fate(&folder.0, &[0; 32]).unwrap(), None);
        assert_eq!(fate(&folder.0, &[1; 32]).unwrap(), Some(Fate::Refused));
        // A file that was cut keeps what is whole.
        let path = folder.0.join(NAME);
        let content = fs::read(&path).unwrap();
        fs::write(&path, &content[..40]).unwrap();
        assert_eq!(fate(&folder.0, &[1; 32]).unwrap(), Some(Fate::Refused));
        assert_eq!(fate(&folder.0, &[2; 32]).unwrap(), None);
    }

    #[test]
    fn an_erased_file_is_zeros_before_it_is_gone() {
        let folder = Folder::new("erased");
        let (path, link) = (folder.0.join("join.json"), folder.0.join("copy"));
        fs::write(&path, b"{\"token\": \"secret\"}").unwrap();
        // A second name shows what the cells hold.
        fs::hard_link(&path, &link).unwrap();
        erase(&path).unwrap();
        erase(&path).unwrap();
        assert!(!path.exists());
        assert_eq!(fs::read(&link).unwrap(), vec![0; 19]);
        assert!(is_half_erased(&fs::read(&link).unwrap()));
        assert!(!is_half_erased(b"{}") && !is_half_erased(b""));
    }
}
