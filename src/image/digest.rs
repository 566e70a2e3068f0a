//! SHA-256 digests of content, and readers and writers that compute them on the way.
//!
//! Other algorithms of the OCI specification are refused: no registry in use serves them.

use core::fmt;
use std::io::{self, Read};

use ring::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};

/// A SHA-256 digest, `sha256:` and 64 lower-case hexadecimal characters.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(String);

/// Why a text is not a digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DigestError {
    /// It does not begin with `sha256:`.
    Algorithm,
    /// What follows is not 64 lower-case hexadecimal characters.
    Value,
}

impl fmt::Display for DigestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Algorithm => "digest does not begin with sha256:, no other algorithm is known",
            Self::Value => "digest is not 64 lower-case hexadecimal characters",
        })
    }
}

impl core::error::Error for DigestError {}

impl Digest {
    /// Reads `sha256:<hex>`.
    ///
    /// # Errors
    /// [`DigestError`] for another algorithm or a malformed value.
    pub fn parse(text: &str) -> Result<Self, DigestError> {
        text.strip_prefix("sha256:").ok_or(DigestError::Algorithm).and_then(Self::from_hex)
    }

    /// Reads the hexadecimal part alone.
    ///
    /// # Errors
    /// [`DigestError::Value`] when it is malformed.
    pub fn from_hex(hex: &str) -> Result<Self, DigestError> {
        let good = |b: u8| b.is_ascii_digit() || matches!(b, b'a'..=b'f');
        if hex.len() == 64 && hex.bytes().all(good) {
            Ok(Self(hex.to_owned()))
        } else {
            Err(DigestError::Value)
        }
    }

    /// The digest of these bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        let mut hasher = Hasher::new();
        hasher.update(bytes);
        hasher.finish()
    }

    /// The 64 hexadecimal characters: one safe path component.
    #[must_use]
    pub fn hex(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.0)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl TryFrom<String> for Digest {
    type Error = DigestError;
    fn try_from(text: String) -> Result<Self, DigestError> {
        Self::parse(&text)
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

/// A digest in the making.
pub(super) struct Hasher(Context);

impl Hasher {
    pub(super) fn new() -> Self {
        Self(Context::new(&SHA256))
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub(super) fn finish(self) -> Digest {
        use fmt::Write;
        let mut hex = String::with_capacity(64);
        for byte in self.0.finish().as_ref() {
            // Writing to a String has no way to fail.
            if write!(hex, "{byte:02x}").is_err() {
                break;
            }
        }
        Digest(hex)
    }
}

/// Passes bytes through, counts and hashes them, and fails beyond a bound.
pub(super) struct HashReader<R> {
    inner: R,
    hasher: Hasher,
    count: u64,
    max: u64,
}

impl<R: Read> HashReader<R> {
    /// At most `max` bytes may pass.
    pub(super) fn new(inner: R, max: u64) -> Self {
        Self { inner, hasher: Hasher::new(), count: 0, max }
    }

    /// Digest and number of the bytes that passed.
    pub(super) fn finish(self) -> (Digest, u64) {
        (self.hasher.finish(), self.count)
    }

    /// Reads what is left, so that the digest covers it.
    pub(super) fn drain(&mut self) -> io::Result<()> {
        let mut buffer = [0; 8192];
        while self.read(&mut buffer)? != 0 {}
        Ok(())
    }
}

impl<R: Read> Read for HashReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.hasher.update(buffer.get(..n).unwrap_or_default());
        self.count = self.count.saturating_add(n as u64);
        if self.max < self.count {
            return Err(io::Error::new(
                io::ErrorKind::FileTooLarge,
                format!("content exceeds {} bytes", self.max),
            ));
        }
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_of_nothing_is_the_known_one() {
        let empty = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(Digest::of(b"").to_string(), empty);
        assert_eq!(Digest::parse(empty), Ok(Digest::of(b"")));
        assert_eq!(Digest::parse(&empty.to_uppercase()), Err(DigestError::Algorithm));
        assert_eq!(Digest::parse("sha256:../../x"), Err(DigestError::Value));
    }

    #[test]
    fn a_reader_stops_beyond_its_bound() {
        let mut reader = HashReader::new(&b"12345"[..], 4);
        assert!(reader.drain().is_err());
        let mut reader = HashReader::new(&b"12345"[..], 5);
        reader.drain().unwrap();
        assert_eq!(reader.finish(), (Digest::of(b"12345"), 5));
    }
}
