//! What a decoder may copy again: the last bytes that it gave out.
//!
//! Up to [`NEAR_BYTES`] are in memory, whatever the window. Older ones of a larger window lie in a
//! file, where the kernel keeps them as long as it has room; the file has no name, so nobody has to
//! remove it, and it is gone before anything is synced.

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{Mode, OFlags},
    io::Errno,
};

/// Bytes of a window that are in memory: what a fetch child may have besides is below 2 MB.
const NEAR_BYTES: usize = 5 << 20;

/// Most bytes that are given out between two calls of [`Window::make_room`].
pub(super) const BLOCK_MAX_BYTES: usize = 128 << 10;

/// The window of one frame.
pub(super) struct Window {
    /// The newest bytes; byte `n` of the frame is at `n` modulo its length.
    ring: Vec<u8>,
    /// Bytes of the frame so far.
    total: u64,
    /// How many of them nobody has read yet; at most a block.
    unread: usize,
    /// How far back a copy may reach.
    size: u64,
    far: Option<Far>,
    folder: PathBuf,
}

/// Older bytes, in a file.
struct Far {
    file: File,
    /// Byte `n` of the frame is at `n` modulo this.
    length: u64,
    /// Bytes of the frame that were written.
    written: u64,
}

impl Window {
    /// An empty window; a file of its own will be in `folder`.
    pub(super) fn new(folder: &Path) -> Self {
        let folder = folder.to_owned();
        Self { ring: Vec::new(), total: 0, unread: 0, size: 0, far: None, folder }
    }

    /// Begins a frame with a window of so many bytes.
    pub(super) fn begin(&mut self, size: u64) {
        let near = usize::try_from(size).unwrap_or(usize::MAX);
        let near = near.clamp(BLOCK_MAX_BYTES, NEAR_BYTES);
        // One that is larger than this frame needs will do: frames may be many and tiny.
        if self.ring.len() < near {
            // The old one goes first.
            self.ring = Vec::new();
            self.ring = vec![0; near];
        }
        (self.total, self.unread, self.size, self.far) = (0, 0, size, None);
    }

    /// Saves what the next block will write over.
    pub(super) fn make_room(&mut self) -> io::Result<()> {
        let near = self.ring.len() as u64;
        let end = (self.total + BLOCK_MAX_BYTES as u64).saturating_sub(near);
        if end == 0 || self.size <= near {
            return Ok(());
        }
        let length = self.size - near + BLOCK_MAX_BYTES as u64;
        let mut far = match self.far.take() {
            Some(far) => far,
            None => Far { file: nameless(&self.folder)?, length, written: 0 },
        };
        while far.written < end {
            let (from, to) = (index(far.written % near), index(far.written % length));
            let most = index(end - far.written).min(self.ring.len() - from);
            let most = most.min(index(length) - to);
            let bytes = self.ring.get(from..from + most).unwrap_or_default();
            far.file.write_all_at(bytes, to as u64)?;
            far.written += most as u64;
        }
        self.far = Some(far);
        Ok(())
    }

    /// Adds bytes.
    pub(super) fn push(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let to = index(self.total % self.ring.len() as u64);
            let (head, tail) = bytes.split_at(bytes.len().min(self.ring.len() - to));
            if let Some(place) = self.ring.get_mut(to..to + head.len()) {
                place.copy_from_slice(head);
            }
            self.came(head.len());
            bytes = tail;
        }
    }

    /// Adds what came `offset` bytes ago, `length` bytes of it. False when that is not known.
    pub(super) fn repeat(&mut self, offset: u64, length: usize) -> io::Result<bool> {
        if offset == 0 || self.total < offset || self.size < offset {
            return Ok(false);
        }
        let near = self.ring.len();
        let Some(offset) = usize::try_from(offset).ok().filter(|offset| *offset <= near) else {
            return self.repeat_far(offset, length);
        };
        let mut at = index(self.total % near as u64);
        let (mut left, mut step) = (length, offset);
        while 0 < left {
            let from = if step <= at { at - step } else { at + near - step };
            let n = left.min(step).min(near - from).min(near - at);
            self.ring.copy_within(from..from + n, at);
            at = if at + n == near { 0 } else { at + n };
            left -= n;
            // What was copied repeats itself, so that the next piece may be longer.
            if 2 * step <= near && 2 * step <= offset + (length - left) {
                step *= 2;
            }
        }
        self.came(length);
        Ok(true)
    }

    fn repeat_far(&mut self, offset: u64, length: usize) -> io::Result<bool> {
        let Some(far) = self.far.take() else { return Ok(false) };
        let mut from = self.total - offset;
        let mut left = length;
        let mut chunk = [0; 4096];
        while 0 < left {
            let at = from % far.length;
            let most = left.min(chunk.len()).min(index(far.length - at));
            let piece = chunk.get_mut(..most).unwrap_or_default();
            far.file.read_exact_at(piece, at)?;
            self.push(piece);
            from += most as u64;
            left -= most;
        }
        self.far = Some(far);
        Ok(true)
    }

    fn came(&mut self, bytes: usize) {
        self.total += bytes as u64;
        self.unread += bytes;
    }

    /// Bytes that nobody has read yet.
    pub(super) const fn unread(&self) -> usize {
        self.unread
    }

    /// Reads the oldest of them.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> usize {
        let from = index((self.total - self.unread as u64) % self.ring.len().max(1) as u64);
        let n = buffer.len().min(self.unread).min(self.ring.len() - from);
        if let (Some(to), Some(bytes)) = (buffer.get_mut(..n), self.ring.get(from..from + n)) {
            to.copy_from_slice(bytes);
        }
        self.unread -= n;
        n
    }
}

#[expect(clippy::cast_possible_truncation, reason = "below the length of a buffer in memory")]
const fn index(n: u64) -> usize {
    n as usize
}

/// A new file without a name, for what does not fit into memory.
pub(super) fn nameless(folder: &Path) -> io::Result<File> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    match rustix::fs::open(folder, flags, Mode::RUSR | Mode::WUSR) {
        Ok(file) => Ok(File::from(file)),
        // FAT, and others that know no such files.
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => {
            let path = folder.join(format!("window-{}", std::process::id()));
            let file = File::options().read(true).write(true).create_new(true).open(&path)?;
            std::fs::remove_file(&path)?;
            Ok(file)
        }
        Err(e) => Err(e.into()),
    }
}
