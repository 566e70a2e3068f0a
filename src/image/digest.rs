//! SHA-256 digests of content, and readers and writers that compute them on the way.
//!
//! Other algorithms of the OCI specification are refused: no registry in use serves them.

use core::fmt;
use std::{
    io::{self, Read},
    sync::mpsc::{Receiver, SyncSender, channel, sync_channel},
    thread::{self, JoinHandle},
};

use ring::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};

use crate::limits::{DIGEST_PIECE_BYTES, DIGEST_PIECES};

/// Stack of a thread that computes a digest.
const STACK_BYTES: usize = 64 << 10;

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

/// A digest that a thread of its own computes, so that a second core takes part.
struct Beside {
    piece: Vec<u8>,
    full: SyncSender<Vec<u8>>,
    empty: Receiver<Vec<u8>>,
    thread: JoinHandle<Hasher>,
}

impl Beside {
    /// None where there is no second core, or no thread.
    fn new() -> Option<Self> {
        if thread::available_parallelism().ok()?.get() < 2 {
            return None;
        }
        let (full, pieces) = sync_channel::<Vec<u8>>(DIGEST_PIECES);
        let (used, empty) = channel();
        let work = move || {
            let mut hasher = Hasher::new();
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

    /// The same for a long stream: another core computes the digest, if there is one.
    pub(super) fn beside(inner: R, max: u64) -> Self {
        let hashing = Beside::new().map_or_else(|| Hashing::Here(Hasher::new()), Hashing::Beside);
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
            let mut reader = HashReader::beside(&bytes[..], u64::MAX);
            reader.drain().unwrap();
            assert_eq!(reader.finish(), (Digest::of(&bytes), length as u64));
        }
    }
}
