//! zstd frames: no bytes make the decoder fail otherwise than with an error, or give out more in one
//! go than a block; the same comes out in however small pieces it is read, and the same as out of
//! another decoder, `ruzstd`, of hostile bytes, too.

use std::io::Read;

use edgeagent::image::Zstd;
use ruzstd::decoding::{
    StreamingDecoder,
    errors::{FrameDecoderError, ReadFrameHeaderError},
};

/// Most bytes that are looked at: a few packed ones may stand for gigabytes.
const MOST: u64 = 1 << 20;

/// Decodes the bytes as zstd frames.
pub fn run(data: &[u8]) {
    let folder = std::env::temp_dir();
    let mut all = Vec::new();
    let at_once = Zstd::new(data, &folder).take(MOST).read_to_end(&mut all);
    let mut again = Vec::new();
    let mut reader = Zstd::new(data, &folder).take(MOST);
    let mut piece = [0; 7];
    let in_pieces = loop {
        match reader.read(&mut piece) {
            Ok(0) => break true,
            Ok(n) => again.extend_from_slice(piece.get(..n).unwrap_or_default()),
            Err(_) => break false,
        }
    };
    assert!(all == again && at_once.is_ok() == in_pieces);

    let mut theirs = Vec::new();
    let whole = other(data, &mut theirs);
    let both = all.len().min(theirs.len());
    assert!(all.get(..both) == theirs.get(..both), "the bytes differ within {both}");
    // Only what both take can be compared further. Each refuses what the other lets pass: `ruzstd`
    // wrong checksums and blocks larger than a small window, we streams that do not end where they
    // must and reserved bits.
    if at_once.is_ok() && whole {
        assert_eq!(all.len(), theirs.len());
    }
}

/// What `ruzstd` makes of them; false when they are malformed.
fn other(mut data: &[u8], out: &mut Vec<u8>) -> bool {
    while !data.is_empty() {
        match StreamingDecoder::new(&mut data) {
            Ok(frame) => {
                let left = MOST.saturating_sub(out.len() as u64);
                if frame.take(left).read_to_end(out).is_err() {
                    return false;
                }
                if out.len() as u64 >= MOST {
                    return true;
                }
            }
            Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                length,
                ..
            })) => match data.get(length as usize..) {
                Some(rest) => data = rest,
                None => return false,
            },
            Err(_) => return false,
        }
    }
    true
}
