//! Small files that survive a power cut at any instruction.
//!
//! A file is replaced as a whole: temporary file, `fsync`, rename, `fsync` of the folder. Until
//! the rename the old content stands, and after it the new one.

use core::fmt;
use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use crate::limits::IDENTITY_MAX_BYTES;

/// A file or folder below `data-root` could not be used.
#[derive(Debug)]
pub struct FileError {
    /// What was tried: `read`, `write`, `remove` …
    pub action: &'static str,
    /// On this path.
    pub path: PathBuf,
    /// The kernel's answer.
    pub cause: io::Error,
}

impl FileError {
    /// For `map_err`.
    pub(super) fn because<'p>(
        action: &'static str,
        path: &'p Path,
    ) -> impl FnOnce(io::Error) -> Self + use<'p> {
        move |cause| Self { action, path: path.to_owned(), cause }
    }
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "can not {} {}", self.action, self.path.display())?;
        if matches!(self.cause.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
            f.write_str(": make room there, what was stored before is intact")?;
        }
        if self.cause.kind() == io::ErrorKind::ReadOnlyFilesystem {
            f.write_str(": set data-root to a writable place")?;
        }
        Ok(())
    }
}

impl core::error::Error for FileError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        Some(&self.cause)
    }
}

/// Makes a folder that is the owner's alone, with the folders above it.
pub(super) fn private_folder(path: &Path) -> Result<(), FileError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .and_then(|()| {
            let open = fs::metadata(path)?.permissions().mode() & 0o077 != 0;
            if open { fs::set_permissions(path, Permissions::from_mode(0o700)) } else { Ok(()) }
        })
        .map_err(FileError::because("make the folder", path))
}

/// The content; nothing when there is no such file. A file above `max_bytes` comes back cut
/// there, which no sealed record survives.
pub(super) fn read(path: &Path, max_bytes: usize) -> Result<Option<Vec<u8>>, FileError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(cause) => return Err(FileError::because("read", path)(cause)),
    };
    let mut content = Vec::new();
    file.take(u64::try_from(max_bytes).unwrap_or(u64::MAX))
        .read_to_end(&mut content)
        .map_err(FileError::because("read", path))?;
    Ok(Some(content))
}

/// The name of the temporary file on the way to `name`. No task id begins with a dot.
pub(super) fn temporary(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!(".{name}.new"))
}

/// Puts `content` into `folder/name`, durably and as a whole.
pub(super) fn replace(folder: &Path, name: &str, content: &[u8]) -> Result<(), FileError> {
    let path = folder.join(name);
    let temporary = temporary(folder, name);
    let done = write_new(&temporary, content).and_then(|()| fs::rename(&temporary, &path));
    if let Err(cause) = done {
        // Frees the space at once; the next attempt would remove it, too.
        let removed = fs::remove_file(&temporary);
        log::debug!("temporary file given up path={} {removed:?}", temporary.display());
        return Err(FileError::because("write", &path)(cause));
    }
    sync_folder(folder)
}

/// Makes a durable file that must not exist yet; a leftover of the same name is removed.
pub(super) fn write_new(path: &Path, content: &[u8]) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

/// Makes renames and removals in `folder` durable.
pub(super) fn sync_folder(folder: &Path) -> Result<(), FileError> {
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(FileError::because("flush the folder", folder))
}

/// Removes a file if it exists; the removal is durable after [`sync_folder`].
pub(super) fn remove(path: &Path) -> Result<(), FileError> {
    match fs::remove_file(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(cause) => Err(FileError::because("remove", path)(cause)),
    }
}

/// Removes a file durably, then overwrites what it held. On flash the old cells may live on; they
/// hold ciphertext only.
pub(super) fn wipe(path: &Path) -> Result<(), FileError> {
    let opened = OpenOptions::new().write(true).open(path);
    remove(path)?;
    let Ok(mut file) = opened else { return Ok(()) };
    if let Some(folder) = path.parent() {
        sync_folder(folder)?;
    }
    // The name is gone, so a power cut in here does not leave a damaged file, and a disk that
    // refuses does not keep the node from leaving.
    let overwritten = file.metadata().and_then(|metadata| {
        let bytes = usize::try_from(metadata.len()).unwrap_or(usize::MAX).min(IDENTITY_MAX_BYTES);
        file.write_all(&vec![0; bytes])?;
        file.sync_all()
    });
    if let Err(error) = overwritten {
        log::debug!("removed file not overwritten path={} error={error}", path.display());
    }
    Ok(())
}
