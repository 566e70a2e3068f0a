//! Digests of content, SHA-256 or SHA-512, and readers that compute them on the way.
//!
//! These are the algorithms that image-spec registers (`descriptor.md`, "Registered algorithms");
//! what it has besides (BLAKE3) is refused. What has no digest yet is given one of SHA-256.

use core::fmt;
use std::{
    io::{self, Read},
    sync::mpsc::{Receiver, SyncSender, channel, sync_channel},
    thread::{self, JoinHandle},
};

use ring::digest::{Context, SHA256, SHA512};
use serde::{Deserialize, Serialize};

use crate::limits::{DIGEST_PIECE_BYTES, DIGEST_PIECES};

/// Stack of a thread that computes a digest.
const STACK_BYTES: usize = 64 << 10;

/// A digest: `sha256:` and 64 lower-case hexadecimal characters, or `sha512:` and 128. Their number
/// tells the algorithm.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(String);

/// Why a text is not a digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DigestError {
    /// It begins neither with `sha256:` nor with `sha512:`.
    Algorithm,
    /// What follows is not so many lower-case hexadecimal characters as the algorithm has.
    Value,
}

impl fmt::Display for DigestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Algorithm => {
                "digest begins neither with sha256: nor with sha512:, no other is known"
            }
            Self::Value => {
                "digest is not 64 (sha256) or 128 (sha512) lower-case hexadecimal characters"
            }
        })
    }
}

impl core::error::Error for DigestError {}

impl Digest {
    /// Reads `sha256:<hex>` or `sha512:<hex>`.
    ///
    /// # Errors
    /// [`DigestError`] for another algorithm or a malformed value.
    pub fn parse(text: &str) -> Result<Self, DigestError> {
        let (hex, length) = match (text.strip_prefix("sha256:"), text.strip_prefix("sha512:")) {
            (Some(hex), _) => (hex, 64),
            (None, Some(hex)) => (hex, 128),
            (None, None) => return Err(DigestError::Algorithm),
        };
        if hex.len() == length { Self::from_hex(hex) } else { Err(DigestError::Value) }
    }

    /// Reads the hexadecimal part alone, of either algorithm.
    ///
    /// # Errors
    /// [`DigestError::Value`] when it is malformed.
    pub fn from_hex(hex: &str) -> Result<Self, DigestError> {
        let good = |b: u8| b.is_ascii_digit() || matches!(b, b'a'..=b'f');
        if matches!(hex.len(), 64 | 128) && hex.bytes().all(good) {
            Ok(Self(hex.to_owned()))
        } else {
            Err(DigestError::Value)
        }
    }

    /// The SHA-256 digest of these bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        let mut hasher = Hasher::new();
        hasher.update(bytes);
        hasher.finish()
    }

    /// The digest of other bytes by the same algorithm.
    #[must_use]
    pub fn of_same(&self, bytes: &[u8]) -> Self {
        let mut hasher = Hasher::like(self);
        hasher.update(bytes);
        hasher.finish()
    }

    /// `sha256` or `sha512`.
    #[must_use]
    pub fn algorithm(&self) -> &'static str {
        if self.0.len() == 128 { "sha512" } else { "sha256" }
    }

    /// The hexadecimal characters: one safe path component.
    #[must_use]
    pub fn hex(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm(), self.0)
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

    /// By the algorithm of `digest`.
    pub(super) fn like(digest: &Digest) -> Self {
        Self(Context::new(if digest.algorithm() == "sha512" { &SHA512 } else { &SHA256 }))
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub(super) fn finish(self) -> Digest {
        use fmt::Write;
        let mut hex = String::with_capacity(128);
        for byte in self.0.finish().as_ref() {
            // Writing to a String has no way to fail.
            if write!(hex, "{byte:02x}").is_err() {
                break;
            }
        }
        Digest(hex)
    }
}

/// A digest that a thread of its own computes, so that a second core takes part.
struct Beside {
    piece: Vec<u8>,
    full: SyncSender<Vec<u8>>,
    empty: Receiver<Vec<u8>>,
    thread: JoinHandle<Hasher>,
}

impl Beside {
    /// None where there is no second core, or no thread.
    fn new(digest: &Digest) -> Option<Self> {
        if thread::available_parallelism().ok()?.get() < 2 {
            return None;
        }
        let (full, pieces) = sync_channel::<Vec<u8>>(DIGEST_PIECES);
        let (used, empty) = channel();
        let mut hasher = Hasher::like(digest);
        let work = move || {
            for mut piece in pieces {
                hasher.update(&piece);
                piece.clear();
                // Nobody takes the last ones back.
                drop(used.send(piece));
            }
            hasher
        };
        let thread = thread::Builder::new().stack_size(STACK_BYTES).spawn(work).ok()?;
        Some(Self { piece: Vec::with_capacity(DIGEST_PIECE_BYTES), full, empty, thread })
    }

    fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let room = DIGEST_PIECE_BYTES - self.piece.len();
            let (head, tail) = bytes.split_at(bytes.len().min(room));
            self.piece.extend_from_slice(head);
            bytes = tail;
            if self.piece.len() == DIGEST_PIECE_BYTES {
                let next = self.empty.try_recv();
                let next = next.unwrap_or_else(|_| Vec::with_capacity(DIGEST_PIECE_BYTES));
                self.hand_over(next);
            }
        }
    }

    /// A thread that is gone is noticed at the end.
    fn hand_over(&mut self, next: Vec<u8>) {
        drop(self.full.send(core::mem::replace(&mut self.piece, next)));
    }

    fn finish(mut self) -> Digest {
        self.hand_over(Vec::new());
        drop(self.full);
        // One that died takes its digest along: the empty one matches nothing.
        self.thread.join().unwrap_or_else(|_| Hasher::new()).finish()
    }
}

enum Hashing {
    Here(Hasher),
    Beside(Beside),
}

/// Passes bytes through, counts and hashes them, and fails beyond a bound.
pub(super) struct HashReader<R> {
    inner: R,
    hashing: Hashing,
    count: u64,
    max: u64,
}

impl<R: Read> HashReader<R> {
    /// At most `max` bytes may pass.
    pub(super) fn new(inner: R, max: u64) -> Self {
        Self { inner, hashing: Hashing::Here(Hasher::new()), count: 0, max }
    }

    /// The same, by the algorithm of `digest`.
    pub(super) fn like(inner: R, max: u64, digest: &Digest) -> Self {
        Self { inner, hashing: Hashing::Here(Hasher::like(digest)), count: 0, max }
    }

    /// The same for a long stream: another core computes the digest, if there is one.
    pub(super) fn beside(inner: R, max: u64, digest: &Digest) -> Self {
        let beside = Beside::new(digest);
        let hashing = beside.map_or_else(|| Hashing::Here(Hasher::like(digest)), Hashing::Beside);
        Self { inner, hashing, count: 0, max }
    }

    /// Digest and number of the bytes that passed.
    pub(super) fn finish(self) -> (Digest, u64) {
        let digest = match self.hashing {
            Hashing::Here(hasher) => hasher.finish(),
            Hashing::Beside(beside) => beside.finish(),
        };
        (digest, self.count)
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
        let bytes = buffer.get(..n).unwrap_or_default();
        match &mut self.hashing {
            Hashing::Here(hasher) => hasher.update(bytes),
            Hashing::Beside(beside) => beside.update(bytes),
        }
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

    /// The SHA-512 digest of nothing (FIPS 180-4 examples).
    fn long() -> Digest {
        let hex = "cf83e1357eefb8bdf1542850d66d8007d620e4050b5715dc83f4a921d36ce9ce\
                   47d0d13c5d85f2b0ff8318d2877eec2f63b931bd47417a81a538327af927da3e";
        Digest::parse(&format!("sha512:{hex}")).unwrap()
    }

    #[test]
    fn sha512_is_an_algorithm_of_its_own() {
        let long = long();
        assert_eq!(long.of_same(b""), long);
        assert_ne!(long.of_same(b"x"), long);
        assert_eq!(Digest::parse(&long.to_string()), Ok(long.clone()));
        assert_eq!(Digest::from_hex(long.hex()), Ok(long.clone()));
        let mut reader = HashReader::like(&b"x"[..], 1, &long);
        reader.drain().unwrap();
        assert_eq!(reader.finish(), (long.of_same(b"x"), 1));
        let short = Digest::of(b"");
        for bad in [format!("sha256:{}", long.hex()), format!("sha512:{}", short.hex())] {
            assert_eq!(Digest::parse(&bad), Err(DigestError::Value));
        }
        assert_eq!(Digest::parse("sha384:00"), Err(DigestError::Algorithm));
    }

    #[test]
    fn a_reader_stops_beyond_its_bound() {
        let mut reader = HashReader::new(&b"12345"[..], 4);
        assert!(reader.drain().is_err());
        let mut reader = HashReader::new(&b"12345"[..], 5);
        reader.drain().unwrap();
        assert_eq!(reader.finish(), (Digest::of(b"12345"), 5));
    }

    #[test]
    fn another_thread_comes_to_the_same_digest() {
        for length in [0, 1, DIGEST_PIECE_BYTES - 1, DIGEST_PIECE_BYTES, 9 * DIGEST_PIECE_BYTES + 7]
        {
            let bytes: Vec<u8> = (0..length).map(|n| n.to_le_bytes()[0]).collect();
            let mut reader = HashReader::beside(&bytes[..], u64::MAX, &Digest::of(b""));
            reader.drain().unwrap();
            assert_eq!(reader.finish(), (Digest::of(&bytes), length as u64));
            let long = long();
            let mut reader = HashReader::beside(&bytes[..], u64::MAX, &long);
            reader.drain().unwrap();
            assert_eq!(reader.finish(), (long.of_same(&bytes), length as u64));
        }
    }
}
