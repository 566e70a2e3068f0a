//! A segment of a log ring: any bytes are read without panic, and always make progress.

use edgeagent::{
    limits::LOG_PIECE_MAX_BYTES,
    logs::{Parsed, Text, parse},
};

/// Reads `data` as a segment.
pub fn run(data: &[u8]) {
    let mut rest = data;
    let mut text = Text::new(true);
    let mut out = Vec::new();
    while let Parsed::Record { line, bytes } = parse(rest) {
        assert!(line.data.len() <= LOG_PIECE_MAX_BYTES);
        assert!(line.data.len() < bytes && bytes <= rest.len());
        text.push(&line, &mut out);
        rest = rest.get(bytes..).unwrap_or_default();
    }
    assert!(out.len() <= data.len().saturating_mul(4));
}
