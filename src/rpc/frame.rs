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
    /// Bytes of the message that were handed out as parts.
    read: usize,
    body: Zeroizing<Vec<u8>>,
}

/// A part of a message.
pub(super) struct Part<'a> {
    pub(super) bytes: &'a [u8],
    /// The next one is of another message.
    pub(super) last: bool,
}

impl FrameReader {
    /// Takes messages of up to `limit` bytes.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { limit, head: heapless::Vec::new(), read: 0, body: Zeroizing::new(Vec::new()) }
    }

    /// Takes bytes off the front of `piece` until a message is complete or the piece is used up.
    /// The message may hold secrets and is overwritten when dropped.
    ///
    /// # Errors
    /// [`FrameError`]; the stream is of no use after that.
    pub fn take(&mut self, piece: &mut &[u8]) -> Result<Option<Zeroizing<Vec<u8>>>, FrameError> {
        let Some(part) = self.part(piece)? else { return Ok(None) };
        append(&mut self.body, part.bytes, self.limit);
        Ok(part.last.then(|| mem::take(&mut self.body)))
    }

    /// Takes what belongs to one message off the front of `piece`; nothing when there is none.
    ///
    /// # Errors
    /// As [`Self::take`].
    pub(super) fn part<'a>(
        &mut self,
        piece: &mut &'a [u8],
    ) -> Result<Option<Part<'a>>, FrameError> {
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
        let missing = length.saturating_sub(self.read);
        let (bytes, rest) = piece.split_at_checked(missing).unwrap_or((*piece, &[]));
        *piece = rest;
        self.read += bytes.len();
        let last = self.read == length;
        if last {
            self.head.clear();
            self.read = 0;
        }
        Ok(Some(Part { bytes, last }))
    }

    /// Whether no message has begun.
    #[must_use]
    pub fn is_between(&self) -> bool {
        self.head.is_empty()
    }
}

/// Puts `bytes` behind what may be secret and becomes `limit` bytes at most: a vector that grows by
/// itself leaves its content behind.
pub(super) fn append(buffer: &mut Zeroizing<Vec<u8>>, bytes: &[u8], limit: usize) {
    let needed = buffer.len() + bytes.len();
    if buffer.capacity() < needed {
        let mut wider = Zeroizing::new(Vec::with_capacity(limit.min(2 * needed).max(needed)));
        wider.extend_from_slice(buffer);
        *buffer = wider;
    }
    buffer.extend_from_slice(bytes);
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
