//! Tar streams: what is accepted is bounded and the same in however small pieces it comes.

use std::io::{self, Read};

use edgeagent::{
    image::{Archive, Digest, Entry},
    limits::LAYER_PATH_MAX_BYTES,
};

/// Gives one byte at a time.
struct Drip<'a>(&'a [u8]);

impl Read for Drip<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match buffer.first_mut() {
            Some(byte) => self.0.read(core::slice::from_mut(byte)),
            None => Ok(0),
        }
    }
}

/// Reads the bytes as a tar archive.
pub fn run(data: &[u8]) {
    let at_once = entries(data);
    assert_eq!(at_once, entries(Drip(data)));
    for (entry, content) in at_once.unwrap_or_default() {
        assert!(entry.path.len() <= LAYER_PATH_MAX_BYTES && !entry.path.contains(&0));
        assert!(entry.link.len() <= LAYER_PATH_MAX_BYTES && !entry.link.contains(&0));
        assert!(entry.mode <= 0o7777 && entry.mtime.1 < 1_000_000_000);
        assert!(content.1 <= entry.size && content.1 <= data.len() as u64);
    }
}

/// Digest and length.
type Content = (Digest, u64);

/// Entries with digest and length of their content, or the error's text.
fn entries(stream: impl Read) -> Result<Vec<(Entry, Content)>, String> {
    let mut archive = Archive::new(stream);
    let mut all = Vec::new();
    while let Some(entry) = archive.next_entry().map_err(|e| e.to_string())? {
        let mut content = Vec::new();
        archive.read_to_end(&mut content).map_err(|e| e.to_string())?;
        all.push((entry, (Digest::of(&content), content.len() as u64)));
    }
    Ok(all)
}
