//! The lock on `data-root`: at most one process changes what is stored there.

use core::fmt;
use std::{
    fs::{File, OpenOptions, TryLockError},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use super::{FileError, files::private_folder};

/// Held until dropped, or until the process ends.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// Why the lock is not ours.
#[derive(Debug)]
pub enum LockError {
    /// Another process has it.
    Held,
    /// The file can not be used.
    File(FileError),
}

impl Lock {
    /// Takes the lock, without waiting. Makes `data_root` when it is missing.
    ///
    /// # Errors
    /// [`LockError::Held`] when another holder lives, in this process or another.
    pub fn exclusive(data_root: &Path) -> Result<Self, LockError> {
        private_folder(data_root).map_err(LockError::File)?;
        let path = data_root.join("lock");
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(|cause| LockError::File(FileError::because("open", &path)(cause)))?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => Err(LockError::Held),
            Err(TryLockError::Error(cause)) => {
                Err(LockError::File(FileError::because("lock", &path)(cause)))
            }
        }
    }
}

impl fmt::Display for LockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Held => f.write_str("another edgeagent is changing this node's membership"),
            Self::File(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for LockError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Held => None,
            Self::File(error) => Some(&error.cause),
        }
    }
}
