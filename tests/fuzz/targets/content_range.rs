//! `Content-Range`: only a part that begins where the last one ended goes on.

use edgeagent::image::said::continues;

/// Reads the bytes as the header's value.
pub fn run(data: &[u8]) {
    let Ok(text) = core::str::from_utf8(data) else { return };
    for (from, size) in [(100, 1000), (1, 2), (u64::MAX - 1, u64::MAX)] {
        if continues(text, from, size) {
            let span = text.strip_prefix("bytes ").unwrap_or_default();
            let (first, rest) = span.split_once('-').unwrap_or_default();
            let last = rest.split_once('/').unwrap_or_default().0;
            let last: u64 = last.parse().unwrap_or(u64::MAX);
            assert_eq!(first.parse(), Ok(from));
            assert!(from <= last && last < size, "{text}");
        }
    }
}
