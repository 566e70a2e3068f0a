//! The writing end of a ring: one per task, in its shim.

use std::{
    fs::{self, File},
    io::{self, IoSlice, Write},
    os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use super::{
    record::{self, HEADER_BYTES},
    segment,
};
use crate::{
    limits::LOG_PIECE_MAX_BYTES,
    model::{LogStream, UnixTime},
};

/// Appends a container's output to its ring; one per task, in its shim.
#[derive(Debug)]
pub struct Writer {
    dir: PathBuf,
    file: File,
    number: u64,
    /// Bytes of whole records in `file`.
    length: u64,
    /// Bytes that a segment may have.
    capacity: u64,
}

impl Writer {
    /// Opens the ring in `dir`, which holds at most `max_bytes`. Makes the folder when it is
    /// missing; goes on behind the last whole record when there is a ring.
    ///
    /// # Errors
    /// When a file can not be made, or `max_bytes` is too small for two records.
    pub fn open(dir: &Path, max_bytes: u64) -> io::Result<Self> {
        let capacity = max_bytes / 2;
        if capacity <= HEADER_BYTES as u64 {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        match fs::DirBuilder::new().mode(0o700).create(dir) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let numbers = segment::list(dir)?;
        let number = numbers.last().copied().unwrap_or(0);
        // A writer with a larger bound may have left more than this one may keep.
        let mut kept = 0_u64;
        for (age, number) in numbers.iter().rev().enumerate() {
            let bytes = fs::metadata(segment::path(dir, *number))?.len();
            if age == 0 {
                continue;
            }
            kept = kept.saturating_add(bytes);
            if 1 < age || capacity < kept {
                segment::delete(dir, *number)?;
            }
        }
        let file = open_segment(dir, number)?;
        let length = whole_records(&file)?;
        file.set_len(length)?;
        let mut writer = Self { dir: dir.to_path_buf(), file, number, length, capacity };
        if capacity < length {
            writer.rotate()?;
            segment::delete(dir, number)?;
        }
        Ok(writer)
    }

    /// Appends one line with its newline, or a piece of a long one without. More than
    /// [`LOG_PIECE_MAX_BYTES`] become several pieces.
    ///
    /// # Errors
    /// When the file can not be written; the line is lost, earlier ones are not.
    pub fn append(&mut self, at: UnixTime, stream: LogStream, data: &[u8]) -> io::Result<()> {
        let room =
            usize::try_from(self.capacity).unwrap_or(usize::MAX).saturating_sub(HEADER_BYTES);
        for piece in data.chunks(room.min(LOG_PIECE_MAX_BYTES)) {
            self.append_piece(at, stream, piece)?;
        }
        Ok(())
    }

    fn append_piece(&mut self, at: UnixTime, stream: LogStream, data: &[u8]) -> io::Result<()> {
        let header = record::encode(data.len(), at, stream).ok_or(io::ErrorKind::InvalidInput)?;
        let bytes = (HEADER_BYTES as u64).saturating_add(data.len() as u64);
        if self.capacity < self.length.saturating_add(bytes) {
            self.rotate()?;
        }
        match write_both(&mut self.file, &header, data) {
            Ok(()) => {
                self.length = self.length.saturating_add(bytes);
                Ok(())
            }
            Err(error) => {
                // Half a record must not stay in front of the next one.
                self.file.set_len(self.length)?;
                Err(error)
            }
        }
    }

    /// Begins the next segment. The oldest goes first, so that there are never three.
    fn rotate(&mut self) -> io::Result<()> {
        if let Some(older) = self.number.checked_sub(1) {
            segment::delete(&self.dir, older)?;
        }
        let next = self.number.saturating_add(1);
        self.file = open_segment(&self.dir, next)?;
        self.number = next;
        self.length = 0;
        Ok(())
    }
}

fn open_segment(dir: &Path, number: u64) -> io::Result<File> {
    File::options()
        .read(true)
        .append(true)
        .create(true)
        .mode(0o600)
        .open(segment::path(dir, number))
}

/// Bytes of the whole records that `file` begins with.
fn whole_records(file: &File) -> io::Result<u64> {
    let end = file.metadata()?.len();
    let mut at = 0_u64;
    loop {
        let mut header = [0; HEADER_BYTES];
        let body = at.saturating_add(HEADER_BYTES as u64);
        if end < body {
            return Ok(at);
        }
        file.read_exact_at(&mut header, at)?;
        let Some((length, _, _)) = record::decode(&header) else {
            return Ok(at);
        };
        let next = body.saturating_add(length as u64);
        if end < next {
            return Ok(at);
        }
        at = next;
    }
}

/// Writes header and data with one system call where the kernel takes both.
fn write_both(file: &mut File, header: &[u8], data: &[u8]) -> io::Result<()> {
    let mut parts = [IoSlice::new(header), IoSlice::new(data)];
    let mut parts = &mut parts[..];
    while !parts.is_empty() {
        match file.write_vectored(parts) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => IoSlice::advance_slices(&mut parts, count),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
