//! zstd frames: no bytes make the decoder fail otherwise than with an error, or give out more in one
//! go than a block, and the same comes out in however small pieces it is read.

use std::io::Read as _;

use edgeagent::image::Zstd;

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
}
