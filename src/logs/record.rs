//! One record of a segment: `u32` length, `i64` nanoseconds, `u8` stream, data; little-endian.
//!
//! There is no checksum: the file is on tmpfs, and only a writer that was killed leaves half a
//! record, at the very end.

use crate::{
    limits::LOG_PIECE_MAX_BYTES,
    model::{LogLine, LogStream, UnixTime},
};

/// Bytes before a record's data.
pub(super) const HEADER_BYTES: usize = 13;

/// What a segment's bytes begin with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// A whole record.
    Record {
        /// The line, or piece of one.
        line: LogLine,
        /// Bytes that it takes in the segment.
        bytes: usize,
    },
    /// The beginning of a record, or nothing: it may be written later.
    Incomplete,
    /// No record: nothing from here on can be read.
    Damaged,
}

/// Reads the first record of `bytes`.
#[must_use]
pub fn parse(bytes: &[u8]) -> Parsed {
    let Some((header, rest)) = bytes.split_first_chunk::<HEADER_BYTES>() else {
        return Parsed::Incomplete;
    };
    let Some((length, at, stream)) = decode(header) else {
        return Parsed::Damaged;
    };
    match rest.get(..length) {
        Some(data) => Parsed::Record {
            line: LogLine { at, stream, data: data.to_vec() },
            bytes: HEADER_BYTES.saturating_add(length),
        },
        None => Parsed::Incomplete,
    }
}

/// Length of the data, time and stream of a header; nothing when no writer made it.
pub(super) fn decode(header: &[u8; HEADER_BYTES]) -> Option<(usize, UnixTime, LogStream)> {
    let [l0, l1, l2, l3, t0, t1, t2, t3, t4, t5, t6, t7, stream] = *header;
    let length = usize::try_from(u32::from_le_bytes([l0, l1, l2, l3])).ok()?;
    let at = UnixTime::from_nanos(i64::from_le_bytes([t0, t1, t2, t3, t4, t5, t6, t7]));
    let stream = match stream {
        1 => LogStream::Stdout,
        2 => LogStream::Stderr,
        _ => return None,
    };
    (length <= LOG_PIECE_MAX_BYTES).then_some((length, at, stream))
}

/// The header of a record with `length` bytes of data; nothing when that is too many.
pub(super) fn encode(length: usize, at: UnixTime, stream: LogStream) -> Option<[u8; HEADER_BYTES]> {
    if LOG_PIECE_MAX_BYTES < length {
        return None;
    }
    let [l0, l1, l2, l3] = u32::try_from(length).ok()?.to_le_bytes();
    let [t0, t1, t2, t3, t4, t5, t6, t7] = at.nanos().to_le_bytes();
    let stream = match stream {
        LogStream::Stdout => 1,
        LogStream::Stderr => 2,
    };
    Some([l0, l1, l2, l3, t0, t1, t2, t3, t4, t5, t6, t7, stream])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_reads_back_and_no_part_of_it_does() {
        let at = UnixTime::from_nanos(-1_234_567_890_123);
        let mut bytes = encode(6, at, LogStream::Stderr).unwrap().to_vec();
        bytes.extend_from_slice(b"hello\n");
        let line = LogLine { at, stream: LogStream::Stderr, data: b"hello\n".to_vec() };
        assert_eq!(parse(&bytes), Parsed::Record { line, bytes: 19 });
        for cut in 0..bytes.len() {
            assert_eq!(parse(&bytes[..cut]), Parsed::Incomplete, "{cut}");
        }
    }

    #[test]
    fn what_no_writer_makes_is_damage() {
        let mut header = encode(1, UnixTime::default(), LogStream::Stdout).unwrap();
        header[12] = 3;
        assert_eq!(parse(&header), Parsed::Damaged);
        header[12] = 1;
        header[3] = 1;
        assert_eq!(parse(&header), Parsed::Damaged);
        assert_eq!(encode(LOG_PIECE_MAX_BYTES + 1, UnixTime::default(), LogStream::Stdout), None);
    }
}
