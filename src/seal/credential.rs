//! A key that systemd hands in: `LoadCredentialEncrypted=edgeagent-seal-key`.

use core::fmt;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::{FileError, files};
use crate::limits::{CREDENTIAL_MAX_BYTES, CREDENTIAL_MIN_BYTES};

const NAME: &str = "edgeagent-seal-key";

/// Why there is no key from systemd.
#[derive(Debug)]
pub enum CredentialError {
    /// This process was given no such credential.
    Missing,
    /// It is too short to be a key, or too long.
    Size {
        /// The file.
        path: PathBuf,
        /// Its size in bytes, [`CREDENTIAL_MAX_BYTES`] and one for all above.
        bytes: usize,
    },
    /// It can not be read.
    File(FileError),
}

/// The folder with this process's credentials. The only place that reads the variable.
pub(super) fn folder() -> Option<PathBuf> {
    std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from)
}

/// The key among the credentials in `folder`.
pub(super) fn read(folder: Option<&Path>) -> Result<Zeroizing<Vec<u8>>, CredentialError> {
    let path = folder.ok_or(CredentialError::Missing)?.join(NAME);
    let key = files::read(&path, CREDENTIAL_MAX_BYTES + 1).map_err(CredentialError::File)?;
    let key = Zeroizing::new(key.ok_or(CredentialError::Missing)?);
    if (CREDENTIAL_MIN_BYTES..=CREDENTIAL_MAX_BYTES).contains(&key.len()) {
        Ok(key)
    } else {
        Err(CredentialError::Size { path, bytes: key.len() })
    }
}

impl fmt::Display for CredentialError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => write!(
                f,
                "systemd handed in no credential {NAME}: put \
                 LoadCredentialEncrypted={NAME} into the unit, and run a command by hand with \
                 `systemd-run --pty -p LoadCredentialEncrypted={NAME} edgeagent …`"
            ),
            Self::Size { path, bytes } => write!(
                f,
                "the credential {} has {bytes} bytes, {CREDENTIAL_MIN_BYTES} to \
                 {CREDENTIAL_MAX_BYTES} are needed: make one with `head -c32 /dev/urandom | \
                 systemd-creds encrypt --name={NAME} - /etc/credstore.encrypted/{NAME}`",
                path.display()
            ),
            Self::File(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for CredentialError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::File(error) => Some(&error.cause),
            Self::Missing | Self::Size { .. } => None,
        }
    }
}
