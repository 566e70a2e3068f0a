//! The sealed record: a header in the clear and postcard under ChaCha20-Poly1305.
//!
//! ```text
//! 0   8  magic "EDGESEAL"
//! 8   1  format version
//! 9   1  tier
//! 10  8  key id: which key, told without knowing it
//! 18  8  generation, big-endian
//! 26 12  nonce, random
//! 38  4  the first bytes of the header's SHA-256: a damaged header is not taken for a foreign one
//! 42  …  ciphertext and 16 bytes of tag
//! ```
//! The header and a *purpose* are authenticated with the ciphertext, so that no record stands in
//! for another. postcard stores fields by position: a change of a stored type needs a new version.

use core::fmt;

use ring::{
    aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce},
    digest::{SHA256, digest},
    rand::{SecureRandom, SystemRandom},
};
use serde::{Serialize, de::DeserializeOwned};
use zeroize::Zeroizing;

use super::{SealError, Sealer};

const MAGIC: &[u8; 8] = b"EDGESEAL";
const VERSION: u8 = 1;
const CHECK_AT: usize = 38;
const HEADER_BYTES: usize = 42;

/// Bytes that a sealed record has besides its content.
pub(super) const OVERHEAD_BYTES: usize = HEADER_BYTES + ring::aead::MAX_TAG_LEN;

/// Which key a record.
pub(super) type KeyId = [u8; 8];

/// Where the key comes from. The numbers are part of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tier {
    /// A random file and identifiers of the hardware: weak, and everywhere available.
    Host = 1,
    /// A key that systemd hands in.
    Credential = 2,
    /// A key that a TPM 2.0 keeps.
    Tpm2 = 3,
}

impl Tier {
    /// As shown by `status` and `check`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Credential => "credential",
            Self::Tpm2 => "tpm2",
        }
    }

    fn from_number(number: u8) -> Option<Self> {
        [Self::Host, Self::Credential, Self::Tpm2].into_iter().find(|tier| *tier as u8 == number)
    }
}

/// A value out of a record that was authentic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsealed<T> {
    /// Rises with each write of the same thing.
    pub generation: u64,
    /// The value.
    pub value: T,
}

/// Why a record does not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordError {
    /// Bytes are missing or wrong, or it is another kind of record.
    Damaged,
    /// It was sealed with another tier than this sealer's.
    OtherTier {
        /// That tier.
        tier: Tier,
    },
    /// It is sound as far as can be told, and sealed with another machine's key.
    Foreign,
    /// It is of a version or tier that this build does not have.
    Unsupported {
        /// Format version.
        version: u8,
        /// Tier number.
        tier: u8,
    },
}

impl fmt::Display for RecordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Damaged => f.write_str("the sealed record is damaged"),
            Self::Foreign => f.write_str("the sealed record is of another machine"),
            Self::OtherTier { tier } => write!(
                f,
                "the record was sealed with the tier {}, which is not the identity's; running \
                 tasks go on; `edgeagent leave`, then join again",
                tier.name()
            ),
            Self::Unsupported { version, tier } => write!(
                f,
                "the sealed record has version {version} and tier {tier}, which this edgeagent \
                 does not know: use the one that wrote it"
            ),
        }
    }
}

impl core::error::Error for RecordError {}

impl Sealer {
    /// Seals `value` as the record `purpose`, with a fresh nonce.
    ///
    /// # Errors
    /// [`SealError::TooLarge`] above `max_bytes` of record, [`SealError::NoRandom`],
    /// [`SealError::Encoding`].
    pub fn seal<T: Serialize>(
        &self,
        purpose: &str,
        generation: u64,
        value: &T,
        max_bytes: usize,
    ) -> Result<Vec<u8>, SealError> {
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce).map_err(|_| SealError::NoRandom)?;
        let header = header(self.tier(), self.key_id(), generation, &nonce);

        // Sized beforehand: a buffer that grows leaves copies of the plaintext behind.
        let size =
            postcard::experimental::serialized_size(value).map_err(|_| SealError::Encoding)?;
        let bytes = size.saturating_add(OVERHEAD_BYTES);
        if max_bytes < bytes {
            return Err(SealError::TooLarge { bytes, max_bytes });
        }
        let mut body = Zeroizing::new(vec![0; size]);
        postcard::to_slice(value, &mut body).map_err(|_| SealError::Encoding)?;
        let tag = self
            .key()
            .seal_in_place_separate_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(associated(&header, purpose)),
                &mut body,
            )
            .map_err(|_| SealError::Encoding)?;
        let mut record = Vec::with_capacity(bytes);
        record.extend_from_slice(&header);
        record.extend_from_slice(&body);
        record.extend_from_slice(tag.as_ref());
        Ok(record)
    }

    /// Opens a record that was sealed as `purpose`.
    ///
    /// # Errors
    /// [`RecordError`].
    pub fn unseal<T: DeserializeOwned>(
        &self,
        purpose: &str,
        record: &[u8],
    ) -> Result<Unsealed<T>, RecordError> {
        let (header, body) =
            record.split_first_chunk::<HEADER_BYTES>().ok_or(RecordError::Damaged)?;
        let Header { generation, nonce } = read_header(header, self.tier(), self.key_id())?;
        let mut body = Zeroizing::new(body.to_vec());
        let plain = open(self.key(), nonce, &associated(header, purpose), &mut body)?;
        let (value, rest) = postcard::take_from_bytes(plain).map_err(|_| RecordError::Damaged)?;
        if rest.is_empty() { Ok(Unsealed { generation, value }) } else { Err(RecordError::Damaged) }
    }
}

fn open<'b>(
    key: &LessSafeKey,
    nonce: [u8; NONCE_LEN],
    associated: &[u8],
    body: &'b mut [u8],
) -> Result<&'b [u8], RecordError> {
    debug_assert_eq!(key.algorithm(), &CHACHA20_POLY1305);
    key.open_in_place(Nonce::assume_unique_for_key(nonce), Aad::from(associated), body)
        .map(|plain| &*plain)
        .map_err(|_| RecordError::Damaged)
}

fn associated(header: &[u8; HEADER_BYTES], purpose: &str) -> Vec<u8> {
    [header, purpose.as_bytes()].concat()
}

fn check(start: &[u8]) -> [u8; HEADER_BYTES - CHECK_AT] {
    let mut check = [0; HEADER_BYTES - CHECK_AT];
    for (to, from) in check.iter_mut().zip(digest(&SHA256, start).as_ref()) {
        *to = *from;
    }
    check
}

fn header(
    tier: Tier,
    key_id: KeyId,
    generation: u64,
    nonce: &[u8; NONCE_LEN],
) -> [u8; HEADER_BYTES] {
    let start =
        [&MAGIC[..], &[VERSION, tier as u8], &key_id, &generation.to_be_bytes(), nonce].concat();
    let mut header = [0; HEADER_BYTES];
    for (to, from) in header.iter_mut().zip(start.iter().chain(&check(&start))) {
        *to = *from;
    }
    header
}

/// What a sound header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Label {
    /// Which tier sealed it.
    pub(super) tier: Tier,
    /// Which key of that tier.
    pub(super) key_id: KeyId,
    /// Which write.
    pub(super) generation: u64,
}

/// The label of a record, told without its key; nothing when the header is damaged or of a format
/// that is not known.
pub(super) fn label(record: &[u8]) -> Option<Label> {
    let header = record.first_chunk::<HEADER_BYTES>()?;
    parse(header).ok().map(|(label, _)| label)
}

struct Header {
    generation: u64,
    nonce: [u8; NONCE_LEN],
}

fn parse(header: &[u8; HEADER_BYTES]) -> Result<(Label, [u8; NONCE_LEN]), RecordError> {
    let damaged = RecordError::Damaged;
    let (start, written) = header.split_at(CHECK_AT);
    let (magic, rest) = start.split_first_chunk::<8>().ok_or(damaged)?;
    let ([version, tier], rest) = rest.split_first_chunk::<2>().ok_or(damaged)?;
    let (key_id, rest) = rest.split_first_chunk::<8>().ok_or(damaged)?;
    let (generation, rest) = rest.split_first_chunk::<8>().ok_or(damaged)?;
    let nonce = <[u8; NONCE_LEN]>::try_from(rest).map_err(|_| damaged)?;
    if magic != MAGIC || check(start) != written {
        return Err(damaged);
    }
    let unsupported = RecordError::Unsupported { version: *version, tier: *tier };
    let tier = Tier::from_number(*tier).filter(|_| *version == VERSION).ok_or(unsupported)?;
    let generation = u64::from_be_bytes(*generation);
    Ok((Label { tier, key_id: *key_id, generation }, nonce))
}

fn read_header(
    header: &[u8; HEADER_BYTES],
    our_tier: Tier,
    our_key: KeyId,
) -> Result<Header, RecordError> {
    let (Label { tier, key_id, generation }, nonce) = parse(header)?;
    if tier != our_tier {
        return Err(RecordError::OtherTier { tier });
    }
    if key_id != our_key {
        return Err(RecordError::Foreign);
    }
    Ok(Header { generation, nonce })
}
