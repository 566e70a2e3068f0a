//! `tpm.key`: the sealing key, as only this machine's TPM can read it.
//!
//! ```text
//! 0  8  magic "EDGETPM1"
//! 8  2  size of the private area, big-endian, and the area
//!    2  size of the public area, big-endian, and the area
//!   32  SHA-256 of all before: a damaged file is not taken for another TPM's
//! ```

use core::fmt;
use std::{fs, io, path::Path};

use ring::{
    digest::{SHA256, digest},
    rand::{SecureRandom, SystemRandom},
};
use zeroize::Zeroizing;

use super::{
    FileError, SealError,
    files::{self, sync_folder},
    tpm::{Tpm, TpmBlob},
};
use crate::limits::TPM_AREA_MAX_BYTES;

/// In `data-root`.
pub(super) const TPM_KEY: &str = "tpm.key";
const MAGIC: &[u8; 8] = b"EDGETPM1";
const KEY_BYTES: usize = 32;
const CHECK_BYTES: usize = 32;
const FILE_MAX_BYTES: usize = 2 * TPM_AREA_MAX_BYTES + 64;

/// Why `tpm.key` gives no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TpmKeyError {
    /// There are sealed records, and the file is gone.
    Missing,
    /// Bytes are missing or wrong.
    Damaged,
    /// Another TPM made it, or this one before it was cleared.
    Foreign,
}

/// The key. When nothing is `needed` that was sealed with it, a missing or useless file is made
/// anew.
pub(super) fn open(
    data_root: &Path,
    tpm: &mut Tpm,
    needed: bool,
) -> Result<Zeroizing<Vec<u8>>, SealError> {
    let stored = match read(data_root, tpm)? {
        Err(_) if !needed => make(data_root, tpm)?,
        stored => stored,
    };
    stored.map_err(SealError::TpmKey)
}

/// Outer errors may pass, inner ones are the file's.
type Stored = Result<Zeroizing<Vec<u8>>, TpmKeyError>;

fn read(data_root: &Path, tpm: &mut Tpm) -> Result<Stored, SealError> {
    let file = files::read(&data_root.join(TPM_KEY), FILE_MAX_BYTES).map_err(SealError::File)?;
    let Some(file) = file else { return Ok(Err(TpmKeyError::Missing)) };
    let Some(blob) = TpmBlob::parse(&file) else { return Ok(Err(TpmKeyError::Damaged)) };
    match tpm.unseal(&blob) {
        Ok(key) if key.len() == KEY_BYTES => Ok(Ok(key)),
        Ok(_) => Ok(Err(TpmKeyError::Damaged)),
        Err(error) if error.is_foreign() => Ok(Err(TpmKeyError::Foreign)),
        Err(error) => Err(SealError::Tpm(error)),
    }
}

/// Makes the file, and opens it again: nothing is sealed with a key that does not come back.
fn make(data_root: &Path, tpm: &mut Tpm) -> Result<Stored, SealError> {
    let path = data_root.join(TPM_KEY);
    let mut key = Zeroizing::new(vec![0; KEY_BYTES]);
    SystemRandom::new().fill(&mut key).map_err(|_| SealError::NoRandom)?;
    let file = tpm.seal(&key).map_err(SealError::Tpm)?.to_file();
    // Useless, or it would have been opened.
    files::remove(&path).map_err(SealError::File)?;
    // `join` and `run` may both come here: a link is made by one of them, with all its bytes.
    let own = files::temporary(data_root, &format!("{TPM_KEY}.{}", std::process::id()));
    let linked = files::write_new(&own, &file).and_then(|()| fs::hard_link(&own, &path));
    files::remove(&own).map_err(SealError::File)?;
    match linked {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(SealError::File(FileError::because("write", &path)(error)));
        }
        Ok(()) | Err(_) => {}
    }
    sync_folder(data_root).map_err(SealError::File)?;
    read(data_root, tpm)
}

impl TpmBlob {
    /// The content of `tpm.key`.
    #[must_use]
    pub fn to_file(&self) -> Vec<u8> {
        let mut file = MAGIC.to_vec();
        for area in [&self.private, &self.public] {
            // A TPM's areas have at most TPM_AREA_MAX_BYTES.
            file.extend_from_slice(&u16::try_from(area.len()).unwrap_or(0).to_be_bytes());
            file.extend_from_slice(area);
        }
        let check = digest(&SHA256, &file);
        file.extend_from_slice(check.as_ref());
        file
    }

    /// Reads such content; nothing when it is damaged.
    #[must_use]
    pub fn parse(file: &[u8]) -> Option<Self> {
        let (start, check) = file.split_at_checked(file.len().checked_sub(CHECK_BYTES)?)?;
        if digest(&SHA256, start).as_ref() != check {
            return None;
        }
        let rest = start.strip_prefix(MAGIC)?;
        let (private, rest) = area(rest)?;
        let (public, rest) = area(rest)?;
        rest.is_empty().then(|| Self { private: private.to_vec(), public: public.to_vec() })
    }
}

fn area(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (size, rest) = bytes.split_first_chunk::<2>()?;
    let size = usize::from(u16::from_be_bytes(*size));
    if TPM_AREA_MAX_BYTES < size { None } else { rest.split_at_checked(size) }
}

impl fmt::Display for TpmKeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => {
                write!(f, "{TPM_KEY} in data-root is gone, and what was sealed with it is lost")?;
            }
            Self::Damaged => {
                write!(
                    f,
                    "{TPM_KEY} in data-root is damaged, and what was sealed with it is lost"
                )?;
            }
            Self::Foreign => write!(
                f,
                "{TPM_KEY} in data-root was sealed by another TPM: the disk was moved or copied, \
                 or the TPM was cleared"
            )?,
        }
        f.write_str("; running tasks go on; `edgeagent leave`, then join this machine")
    }
}

impl core::error::Error for TpmKeyError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_survives_and_no_damage_does() {
        let blob = TpmBlob { private: vec![1; 120], public: vec![2; 78] };
        let file = blob.to_file();
        assert_eq!(TpmBlob::parse(&file), Some(blob));
        for at in 0..file.len() {
            for bit in 0..8 {
                let mut flipped = file.clone();
                flipped[at] ^= 1 << bit;
                assert_eq!(TpmBlob::parse(&flipped), None, "bit {bit} of byte {at}");
            }
            assert_eq!(TpmBlob::parse(&file[..at]), None, "cut at {at}");
        }
        assert_eq!(TpmBlob::parse(&[&file[..], &[0]].concat()), None);
    }

    #[test]
    fn sizes_that_lie_are_damage_even_with_a_right_checksum() {
        for body in [&[0_u8, 5, 1][..], &[4, 1], &[0, 0, 0, 1], &[0, 0, 0, 0, 9], &[]] {
            let mut file = [&MAGIC[..], body].concat();
            let check = digest(&SHA256, &file);
            file.extend_from_slice(check.as_ref());
            assert_eq!(TpmBlob::parse(&file), None, "{body:?}");
        }
    }
}
