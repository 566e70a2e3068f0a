//! gRPC's framing: one byte of flags, four of length, then the message.
//!
//! Memory grows with what has really arrived and never with what a header announces.

use std::mem;

use zeroize::Zeroizing;

/// Bytes before each message.
const HEAD: usize = 5;

/// Why a stream of frames can not go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameError {
    /// The message is compressed, which was not offered.
    Compressed,
    /// The message is larger than the limit.
    TooLarge {
        /// Its length in bytes.
        bytes: u32,
        /// The limit in bytes.
        limit: usize,
    },
}

/// Puts messages together out of pieces of any size.
#[derive(Debug)]
pub struct FrameReader {
    limit: usize,
    head: heapless::Vec<u8, HEAD>,
    body: Zeroizing<Vec<u8>>,
}

impl FrameReader {
    /// Takes messages of up to `limit` bytes.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { limit, head: heapless::Vec::new(), body: Zeroizing::new(Vec::new()) }
    }

    /// Takes bytes off the front of `piece` until a message is complete or the piece is used up.
    /// The message may hold secrets and is overwritten when dropped.
    ///
    /// # Errors
    /// [`FrameError`]; the stream is of no use after that.
    pub fn take(&mut self, piece: &mut &[u8]) -> Result<Option<Zeroizing<Vec<u8>>>, FrameError> {
        while let Some((byte, rest)) = piece.split_first() {
            // A push fails only on a full head, which is checked below.
            if self.head.push(*byte).is_err() {
                break;
            }
            *piece = rest;
            if self.head.is_full() {
                break;
            }
        }
        let [flags, length @ ..] = self.head.as_slice() else { return Ok(None) };
        let Ok(length) = <[u8; 4]>::try_from(length) else { return Ok(None) };
        if *flags != 0 {
            return Err(FrameError::Compressed);
        }
        let bytes = u32::from_be_bytes(length);
        let length = usize::try_from(bytes).unwrap_or(usize::MAX);
        if self.limit < length {
            return Err(FrameError::TooLarge { bytes, limit: self.limit });
        }
        let missing = length.saturating_sub(self.body.len());
        let (part, rest) = piece.split_at_checked(missing).unwrap_or((*piece, &[]));
        let needed = self.body.len() + part.len();
        if self.body.capacity() < needed {
            // A vector that grows by itself leaves its content behind.
            let mut wider = Zeroizing::new(Vec::with_capacity(length.min(2 * needed)));
            wider.extend_from_slice(&self.body);
            self.body = wider;
        }
        self.body.extend_from_slice(part);
        *piece = rest;
        if self.body.len() < length {
            return Ok(None);
        }
        self.head.clear();
        Ok(Some(mem::take(&mut self.body)))
    }

    /// Whether no message has begun.
    #[must_use]
    pub fn is_between(&self) -> bool {
        self.head.is_empty()
    }
}

/// Puts the head before a message, which [`crate::limits::REQUEST_MAX_BYTES`] bounds.
pub(super) fn frame(message: &impl prost::Message) -> Zeroizing<Vec<u8>> {
    let length = message.encoded_len();
    let mut framed = Zeroizing::new(Vec::with_capacity(HEAD + length));
    framed.push(0);
    framed.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
    message.encode_raw(&mut *framed);
    framed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(reader: &mut FrameReader, stream: &[u8], step: usize) -> Vec<Vec<u8>> {
        let mut messages = Vec::new();
        for mut piece in stream.chunks(step) {
            while let Some(message) = reader.take(&mut piece).unwrap() {
                messages.push(message.to_vec());
            }
            assert!(piece.is_empty());
        }
        messages
    }

    #[test]
    fn frames_split_at_any_byte_are_put_together() {
        let stream = b"\0\0\0\0\x03abc\0\0\0\0\0\0\0\0\0\x01z";
        for step in 1..=stream.len() {
            let mut reader = FrameReader::new(3);
            let messages = all(&mut reader, stream, step);
            assert_eq!(messages, [b"abc".to_vec(), vec![], b"z".to_vec()], "step {step}");
            assert!(reader.is_between());
        }
    }

    #[test]
    fn an_announced_length_reserves_no_memory() {
        let mut reader = FrameReader::new(64 << 20);
        assert_eq!(reader.take(&mut &b"\0\x03\xff\xff\xffabc"[..]), Ok(None));
        assert!(reader.body.capacity() < 1024);
        assert!(!reader.is_between());
    }

    #[test]
    fn too_large_and_compressed_ones_are_refused_at_their_head() {
        let mut reader = FrameReader::new(3);
        let error = reader.take(&mut &b"\0\0\0\0\x04"[..]);
        assert_eq!(error, Err(FrameError::TooLarge { bytes: 4, limit: 3 }));
        let mut reader = FrameReader::new(3);
        assert_eq!(reader.take(&mut &b"\x01\0\0\0\x01a"[..]), Err(FrameError::Compressed));
    }
}
