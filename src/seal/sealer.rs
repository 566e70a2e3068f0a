//! The key that records are sealed with, and where it comes from.

use core::fmt;
use std::{fs, io, path::Path};

use ring::{
    aead::{CHACHA20_POLY1305, LessSafeKey, UnboundKey},
    hkdf,
    rand::{SecureRandom, SystemRandom},
};
use zeroize::Zeroizing;

use super::{
    FileError, Tier,
    files::{self, private_folder},
    hardware,
    record::KeyId,
};

const HOST_KEY: &str = "host.key";
const HOST_KEY_BYTES: usize = 32;

/// Seals and opens records with this machine's key.
#[derive(Clone)]
pub struct Sealer {
    key: LessSafeKey,
    key_id: KeyId,
}

/// Why nothing can be sealed.
#[derive(Debug)]
pub enum SealError {
    /// `data-root` or the file with the key can not be used.
    File(FileError),
    /// The file with the key has another length than the one that we make.
    HostKey {
        /// Its length in bytes.
        bytes: usize,
    },
    /// The kernel gave no random numbers.
    NoRandom,
    /// The record would be too large.
    TooLarge {
        /// Its size.
        bytes: usize,
        /// What is allowed.
        max_bytes: usize,
    },
    /// The value can not be encoded: a mistake of ours.
    Encoding,
}

impl Sealer {
    /// The sealer of this machine. Makes `data_root` (0700) and `host.key` (0600) when they are
    /// missing.
    ///
    /// # Errors
    /// [`SealError::File`], [`SealError::HostKey`], [`SealError::NoRandom`].
    pub fn open(data_root: &Path) -> Result<Self, SealError> {
        Self::on_hardware(data_root, &hardware::identifiers(Path::new("/")))
    }

    /// Like [`Self::open`], on hardware with these identifiers.
    ///
    /// # Errors
    /// As for [`Self::open`].
    pub fn on_hardware(data_root: &Path, identifiers: &[Vec<u8>]) -> Result<Self, SealError> {
        private_folder(data_root).map_err(SealError::File)?;
        Self::of_host(&host_key(data_root)?, identifiers)
    }

    /// A sealer from the content of a `host.key` and the identifiers of the hardware, in order.
    ///
    /// # Errors
    /// [`SealError::HostKey`] when the key has another length.
    pub fn of_host(host_key: &[u8], identifiers: &[Vec<u8>]) -> Result<Self, SealError> {
        if host_key.len() != HOST_KEY_BYTES {
            return Err(SealError::HostKey { bytes: host_key.len() });
        }
        let mut material = Zeroizing::new(host_key.to_vec());
        for identifier in identifiers {
            // With its length, so that no two lists give the same bytes.
            material.extend_from_slice(&u64::try_from(identifier.len()).unwrap_or(0).to_be_bytes());
            material.extend_from_slice(identifier);
        }
        let extracted =
            hkdf::Salt::new(hkdf::HKDF_SHA256, b"edgeagent seal host").extract(&material);
        let key = extracted
            .expand(&[b"key"], &CHACHA20_POLY1305)
            .map(|okm| LessSafeKey::new(UnboundKey::from(okm)))
            .map_err(|_| SealError::Encoding)?;
        let mut key_id = KeyId::default();
        extracted
            .expand(&[b"key id"], KeyIdLength)
            .and_then(|okm| okm.fill(&mut key_id))
            .map_err(|_| SealError::Encoding)?;
        Ok(Self { key, key_id })
    }

    /// Where the key comes from.
    #[must_use]
    pub const fn tier(&self) -> Tier {
        Tier::Host
    }

    pub(super) const fn key(&self) -> &LessSafeKey {
        &self.key
    }

    pub(super) const fn key_id(&self) -> KeyId {
        self.key_id
    }
}

struct KeyIdLength;

impl hkdf::KeyType for KeyIdLength {
    fn len(&self) -> usize {
        size_of::<KeyId>()
    }
}

/// The content of `host.key`, made when missing.
fn host_key(data_root: &Path) -> Result<Zeroizing<Vec<u8>>, SealError> {
    let path = data_root.join(HOST_KEY);
    let read = || files::read(&path, HOST_KEY_BYTES + 1).map_err(SealError::File);
    if let Some(key) = read()? {
        return Ok(Zeroizing::new(key));
    }
    let mut key = Zeroizing::new(vec![0; HOST_KEY_BYTES]);
    SystemRandom::new().fill(&mut key).map_err(|_| SealError::NoRandom)?;
    // `join` and `run` may both come here: a link is made by one of them, with all its bytes.
    let own = files::temporary(data_root, &format!("{HOST_KEY}.{}", std::process::id()));
    let linked = files::write_new(&own, &key).and_then(|()| fs::hard_link(&own, &path));
    files::remove(&own).map_err(SealError::File)?;
    match linked {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(SealError::File(FileError::because("write", &path)(error)));
        }
        Ok(()) | Err(_) => {}
    }
    files::sync_folder(data_root).map_err(SealError::File)?;
    read()?.map(Zeroizing::new).ok_or(SealError::HostKey { bytes: 0 })
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealer").field("tier", &self.tier()).finish_non_exhaustive()
    }
}

impl fmt::Display for SealError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(error) => error.fmt(f),
            Self::HostKey { bytes } => write!(
                f,
                "{HOST_KEY} in data-root has {bytes} bytes, {HOST_KEY_BYTES} are needed: it is \
                 damaged, and what was sealed with it is lost; remove it and join again"
            ),
            Self::NoRandom => f.write_str("the kernel gives no random numbers"),
            Self::TooLarge { bytes, max_bytes } => {
                write!(f, "the record would have {bytes} bytes, at most {max_bytes} are stored")
            }
            Self::Encoding => f.write_str("the record can not be encoded"),
        }
    }
}

impl core::error::Error for SealError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::File(error) => Some(&error.cause),
            Self::HostKey { .. } | Self::NoRandom | Self::TooLarge { .. } | Self::Encoding => None,
        }
    }
}
