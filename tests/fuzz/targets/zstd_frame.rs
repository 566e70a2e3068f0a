//! zstd frames: no bytes make the decoder fail otherwise than with an error, or give out more in one
//! go than a block; the same comes out in however small pieces it is read, and the same as out of
//! another decoder, `ruzstd`, of hostile bytes, too.

use std::io::{self, Read};

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
    match (&at_once, whole) {
        // What is beyond the most is not compared.
        (Ok(_), true) => assert_eq!(all.len(), theirs.len()),
        (Err(error), true) => assert!(is_stricter(error), "{error}"),
        // It knows checksums and sizes of blocks for small windows; digests stand for those here.
        (Ok(_), false) | (Err(_), false) => {}
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

/// Whether it is one of the things that `ruzstd` lets pass and the format does not (RFC 8878); the
/// decoder of its authors refuses them as well.
fn is_stricter(error: &io::Error) -> bool {
    let text = error.to_string();
    // The reserved bit of a frame (§3.1.1.1.1.4), and dictionaries.
    text.contains("wants what no image can have")
        // A stream of literals that does not end at its first bit (§4.2.2).
        || text.contains("the literals of a zstd block")
        // The reserved bits of the tables' modes (§3.1.1.3.2.1).
        || text.contains("the tables of a zstd block")
}
