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
    CredentialError, FileError, OpenError, Tier, TpmError, TpmKeyError,
    files::{self, private_folder},
    record::KeyId,
};

/// In `data-root`.
pub(super) const HOST_KEY: &str = "host.key";
const HOST_KEY_BYTES: usize = 32;

/// Seals and opens records with this machine's key.
#[derive(Clone)]
pub struct Sealer {
    tier: Tier,
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
    /// The TPM does not do its part.
    Tpm(TpmError),
    /// The file with the key that the TPM sealed is of no use.
    TpmKey(TpmKeyError),
    /// systemd handed in no key.
    Credential(CredentialError),
    /// The identity, which is to get another seal, does not open.
    Identity(Box<OpenError>),
    /// Another process joins or leaves while the seal is to be changed.
    Held,
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
    /// The tier `host` on hardware with these identifiers. Makes `data_root` (0700) and `host.key`
    /// (0600) when they are missing.
    ///
    /// # Errors
    /// [`SealError::File`], [`SealError::HostKey`], [`SealError::NoRandom`].
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
        Self::derive(Tier::Host, host_key, identifiers)
    }

    /// A sealer from a tier's secret and the identifiers of the hardware, in order.
    pub(super) fn derive(
        tier: Tier,
        secret: &[u8],
        identifiers: &[Vec<u8>],
    ) -> Result<Self, SealError> {
        let added: usize = identifiers.iter().map(|identifier| identifier.len() + 8).sum();
        // Sized beforehand: a buffer that grows leaves copies of the secret behind.
        let mut material = Zeroizing::new(Vec::with_capacity(secret.len() + added));
        material.extend_from_slice(secret);
        for identifier in identifiers {
            // With its length, so that no two lists give the same bytes.
            material.extend_from_slice(&u64::try_from(identifier.len()).unwrap_or(0).to_be_bytes());
            material.extend_from_slice(identifier);
        }
        let salt = format!("edgeagent seal {}", tier.name());
        let extracted = hkdf::Salt::new(hkdf::HKDF_SHA256, salt.as_bytes()).extract(&material);
        let key = extracted
            .expand(&[b"key"], &CHACHA20_POLY1305)
            .map(|okm| LessSafeKey::new(UnboundKey::from(okm)))
            .map_err(|_| SealError::Encoding)?;
        let mut key_id = KeyId::default();
        extracted
            .expand(&[b"key id"], KeyIdLength)
            .and_then(|okm| okm.fill(&mut key_id))
            .map_err(|_| SealError::Encoding)?;
        Ok(Self { tier, key, key_id })
    }

    /// Where the key comes from.
    #[must_use]
    pub const fn tier(&self) -> Tier {
        self.tier
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
            Self::Tpm(error) => error.fmt(f),
            Self::TpmKey(error) => error.fmt(f),
            Self::Credential(error) => error.fmt(f),
            Self::Identity(error) => error.fmt(f),
            Self::Held => f.write_str(
                "the seal can not be changed while the node is joining or leaving: try again",
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
            Self::Tpm(error) => error.source(),
            Self::Credential(error) => error.source(),
            Self::Identity(error) => error.source(),
            Self::TpmKey(_)
            | Self::Held
            | Self::HostKey { .. }
            | Self::NoRandom
            | Self::TooLarge { .. }
            | Self::Encoding => None,
        }
    }
}
