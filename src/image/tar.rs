//! Reads tar streams: ustar, GNU long names and numbers, PAX.
//!
//! It only parses, and is strict where readers are known to disagree, for each disagreement was
//! an advisory: a PAX size always wins (RUSTSEC-2026-0068, CVE-2025-62518), a malformed or
//! truncated PAX record is an error, and so is what it does not know.
//! The `tar` crate splits PAX records at newlines, which a binary attribute may contain; this
//! reader goes by their length. Sources: POSIX.1-2017 `pax`, GNU tar manual "Basic Tar Format".

use core::fmt;
use std::io::{self, Read};

use super::sparse::{self, Extent};
use crate::limits::{LAYER_PATH_MAX_BYTES, TAR_EXTENSION_MAX_BYTES};

const BLOCK: usize = 512;

/// Why a stream is not read as a tar archive.
#[derive(Debug)]
pub enum TarError {
    /// The stream failed, or its decompression.
    Read(io::Error),
    /// The stream ends within an entry.
    Truncated,
    /// A header's checksum is wrong.
    Checksum,
    /// A field is not a number, or out of range.
    Number {
        /// Which field.
        field: &'static str,
    },
    /// An extended header is malformed, doubled or describes nothing.
    Extension,
    /// An extended header exceeds [`TAR_EXTENSION_MAX_BYTES`].
    ExtensionTooLarge,
    /// A path exceeds [`LAYER_PATH_MAX_BYTES`] or holds a zero byte.
    Path,
    /// An entry of a type that is not supported.
    Type {
        /// Its type byte.
        byte: u8,
    },
}

impl fmt::Display for TarError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(_) => f.write_str("tar archive can not be read"),
            Self::Truncated => f.write_str("tar archive ends too early"),
            Self::Checksum => f.write_str("tar header has a wrong checksum"),
            Self::Number { field } => write!(f, "tar header has a bad {field}"),
            Self::Extension => f.write_str("tar archive has a malformed extended header"),
            Self::ExtensionTooLarge => {
                write!(
                    f,
                    "tar archive has an extended header above {TAR_EXTENSION_MAX_BYTES} bytes"
                )
            }
            Self::Path => f.write_str("tar archive has a path that is too long or malformed"),
            Self::Type { byte } => {
                write!(f, "tar archive has an entry of unsupported type {:?}", char::from(*byte))
            }
        }
    }
}

impl core::error::Error for TarError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Read(cause) => Some(cause),
            Self::Truncated
            | Self::Checksum
            | Self::Number { .. }
            | Self::Extension
            | Self::ExtensionTooLarge
            | Self::Path
            | Self::Type { .. } => None,
        }
    }
}

/// What an entry makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file; its content is the entry's.
    File,
    /// A folder.
    Folder,
    /// A symbolic link.
    Symlink,
    /// Another name of an entry before it.
    HardLink,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
    /// A named pipe.
    Fifo,
}

/// One entry of an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What it makes.
    pub kind: EntryKind,
    /// Its path as written.
    pub path: Vec<u8>,
    /// Target of a link as written.
    pub link: Vec<u8>,
    /// Permission bits with set-id and sticky.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Time of last change: seconds since 1970 and nanoseconds.
    pub mtime: (i64, u32),
    /// Bytes of the file.
    pub size: u64,
    /// A sparse file's runs of data, each by its place and length in bytes, in order: only they
    /// follow as content. Absent: `size` bytes follow.
    pub sparse: Option<Vec<(u64, u64)>>,
    /// Major and minor number of a device.
    pub device: (u32, u32),
    /// Extended attributes, in the order of the archive.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// A reader of entries; it is itself the reader of the current entry's content.
#[derive(Debug)]
pub struct Archive<R> {
    inner: R,
    left: u64,
    padding: usize,
}

/// What extended headers say of the entry after them.
#[derive(Default)]
struct Extensions {
    seen: bool,
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u32>,
    gid: Option<u32>,
    mtime: Option<(i64, u32)>,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    sparse: sparse::Records,
}

impl<R: Read> Archive<R> {
    /// Reads from the start of an uncompressed stream.
    pub const fn new(inner: R) -> Self {
        Self { inner, left: 0, padding: 0 }
    }

    /// The stream, after the last entry.
    pub fn into_inner(self) -> R {
        self.inner
    }

    /// Skips what is left of the current entry and reads the next one; none at the end.
    ///
    /// # Errors
    /// [`TarError`]; the archive can not be read further then.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, TarError> {
        let mut extensions = Extensions::default();
        loop {
            self.skip_content()?;
            let Some(header) = self.header()? else {
                return if extensions.seen { Err(TarError::Extension) } else { Ok(None) };
            };
            let size = number(field(&header, 124, 12), "size")?;
            match field(&header, 156, 1).first().copied().unwrap_or_default() {
                b'x' => {
                    let data = self.extension(size)?;
                    extensions.read_pax(&data)?;
                }
                b'g' => {
                    // Global records are not applied by Docker either; they hold comments.
                    self.extension(size)?;
                }
                b'L' => {
                    let name = until_nul(&self.extension(size)?).to_vec();
                    extensions.set_path(name)?;
                }
                b'K' => {
                    let name = until_nul(&self.extension(size)?).to_vec();
                    extensions.set_link(name)?;
                }
                byte => return self.entry(&header, byte, size, extensions).map(Some),
            }
        }
    }

    fn entry(
        &mut self,
        header: &[u8; BLOCK],
        byte: u8,
        size: u64,
        extensions: Extensions,
    ) -> Result<Entry, TarError> {
        let mut path = extensions.path.unwrap_or_else(|| header_path(header));
        let kind = match byte {
            // Archives from before POSIX; as Go does, and so Docker.
            0 if path.ends_with(b"/") => EntryKind::Folder,
            b'0' | b'7' | b'S' | 0 => EntryKind::File,
            b'1' => EntryKind::HardLink,
            b'2' => EntryKind::Symlink,
            b'3' => EntryKind::CharDevice,
            b'4' => EntryKind::BlockDevice,
            b'5' => EntryKind::Folder,
            b'6' => EntryKind::Fifo,
            byte => return Err(TarError::Type { byte }),
        };
        let link = extensions.link.unwrap_or_else(|| until_nul(field(header, 157, 100)).to_vec());
        let mut size = extensions.size.unwrap_or(size);
        // Some readers skip content here, others do not.
        if kind != EntryKind::File && size != 0 {
            return Err(TarError::Number { field: "size" });
        }
        let mut map: Option<Vec<Extent>> = None;
        let sparse = if byte == b'S' {
            let sparse = sparse::old_gnu(header, size, &mut self.inner)?;
            self.begin_content(size)?;
            Some(sparse)
        } else {
            self.begin_content(size)?;
            extensions.sparse.finish(size, self)?
        };
        if let Some(sparse) = sparse {
            if kind != EntryKind::File {
                return Err(TarError::Extension);
            }
            path = sparse.name.unwrap_or(path);
            size = sparse.size;
            map = Some(sparse.map);
        }
        for text in [&path, &link] {
            if LAYER_PATH_MAX_BYTES < text.len() || text.contains(&0) {
                return Err(TarError::Path);
            }
        }
        let small = |from, length, name| {
            let value = number(field(header, from, length), name)?;
            u32::try_from(value).map_err(|_| TarError::Number { field: name })
        };
        let device = match kind {
            EntryKind::CharDevice | EntryKind::BlockDevice => {
                (small(329, 8, "device number")?, small(337, 8, "device number")?)
            }
            EntryKind::File
            | EntryKind::Folder
            | EntryKind::Symlink
            | EntryKind::HardLink
            | EntryKind::Fifo => (0, 0),
        };
        Ok(Entry {
            kind,
            path,
            link,
            mode: small(100, 8, "mode")? & 0o7777,
            uid: extensions.uid.map_or_else(|| small(108, 8, "uid"), Ok)?,
            gid: extensions.gid.map_or_else(|| small(116, 8, "gid"), Ok)?,
            mtime: match extensions.mtime {
                Some(mtime) => mtime,
                None => (signed_number(field(header, 136, 12), "mtime")?, 0),
            },
            size,
            sparse: map,
            device,
            xattrs: extensions.xattrs,
        })
    }

    fn begin_content(&mut self, size: u64) -> Result<(), TarError> {
        if i64::MAX.unsigned_abs() < size {
            return Err(TarError::Number { field: "size" });
        }
        self.left = size;
        let over = usize::try_from(size % BLOCK as u64).unwrap_or_default();
        self.padding = (BLOCK - over) % BLOCK;
        Ok(())
    }

    fn extension(&mut self, size: u64) -> Result<Vec<u8>, TarError> {
        if TAR_EXTENSION_MAX_BYTES < size {
            return Err(TarError::ExtensionTooLarge);
        }
        self.begin_content(size)?;
        let mut data = Vec::new();
        self.read_to_end(&mut data).map_err(TarError::Read)?;
        if (data.len() as u64) < size { Err(TarError::Truncated) } else { Ok(data) }
    }

    fn skip_content(&mut self) -> Result<(), TarError> {
        io::copy(&mut self.by_ref(), &mut io::sink()).map_err(TarError::Read)?;
        let mut rest = [0; BLOCK];
        let padding = rest.get_mut(..self.padding).unwrap_or_default();
        if self.left != 0 || fill(&mut self.inner, padding)? < self.padding {
            return Err(TarError::Truncated);
        }
        self.padding = 0;
        Ok(())
    }

    /// The next header; none at the end mark or at the end of the stream.
    fn header(&mut self) -> Result<Option<[u8; BLOCK]>, TarError> {
        let mut header = [0; BLOCK];
        match fill(&mut self.inner, &mut header)? {
            0 => return Ok(None),
            BLOCK => {}
            _ => return Err(TarError::Truncated),
        }
        if header.iter().all(|b| *b == 0) {
            return Ok(None);
        }
        let sum: u64 = (0..)
            .zip(header)
            .map(|(i, b)| if (148..156).contains(&i) { 32 } else { u64::from(b) })
            .sum();
        if number(field(&header, 148, 8), "checksum")? == sum {
            Ok(Some(header))
        } else {
            Err(TarError::Checksum)
        }
    }
}

impl<R: Read> Read for Archive<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = (&mut self.inner).take(self.left).read(buffer)?;
        self.left = self.left.saturating_sub(n as u64);
        Ok(n)
    }
}

impl Extensions {
    fn set_path(&mut self, path: Vec<u8>) -> Result<(), TarError> {
        self.seen = true;
        if self.path.replace(path).is_some() { Err(TarError::Extension) } else { Ok(()) }
    }

    fn set_link(&mut self, link: Vec<u8>) -> Result<(), TarError> {
        self.seen = true;
        if self.link.replace(link).is_some() { Err(TarError::Extension) } else { Ok(()) }
    }

    /// Records are `<length> <key>=<value>\n`, the length counting all of it.
    fn read_pax(&mut self, mut data: &[u8]) -> Result<(), TarError> {
        self.seen = true;
        while !data.is_empty() {
            let space = data.iter().position(|b| *b == b' ').ok_or(TarError::Extension)?;
            let digits = data.get(..space).unwrap_or_default();
            let length = usize::try_from(decimal(digits).ok_or(TarError::Extension)?)
                .map_err(|_| TarError::Extension)?;
            let record = data.get(space + 1..length).ok_or(TarError::Extension)?;
            data = data.get(length..).unwrap_or_default();
            let record = record.strip_suffix(b"\n").ok_or(TarError::Extension)?;
            let equals = record.iter().position(|b| *b == b'=').ok_or(TarError::Extension)?;
            let (key, value) = record.split_at(equals);
            self.pax_record(key, value.get(1..).unwrap_or_default())?;
        }
        Ok(())
    }

    fn pax_record(&mut self, key: &[u8], value: &[u8]) -> Result<(), TarError> {
        let bad = TarError::Extension;
        let id = |value| decimal(value).and_then(|n| u32::try_from(n).ok());
        match key {
            b"path" => return self.set_path(value.to_vec()),
            b"linkpath" => return self.set_link(value.to_vec()),
            b"size" => self.size = Some(decimal(value).ok_or(bad)?),
            b"uid" => self.uid = Some(id(value).ok_or(bad)?),
            b"gid" => self.gid = Some(id(value).ok_or(bad)?),
            b"mtime" => self.mtime = Some(time(value).ok_or(bad)?),
            key => {
                if let Some(key) = key.strip_prefix(b"GNU.sparse.") {
                    self.sparse.take(key, value)?;
                } else if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                    self.xattrs.push((name.to_vec(), value.to_vec()));
                }
            }
        }
        Ok(())
    }
}

fn header_path(header: &[u8; BLOCK]) -> Vec<u8> {
    let name = until_nul(field(header, 0, 100));
    let prefix = until_nul(field(header, 345, 155));
    // GNU headers keep other things in the place of the prefix.
    if field(header, 257, 6) == b"ustar\0" && !prefix.is_empty() {
        [prefix, b"/", name].concat()
    } else {
        name.to_vec()
    }
}

pub(super) fn field(header: &[u8; BLOCK], from: usize, length: usize) -> &[u8] {
    header.get(from..from + length).unwrap_or_default()
}

fn until_nul(bytes: &[u8]) -> &[u8] {
    bytes.split(|b| *b == 0).next().unwrap_or_default()
}

/// Octal text, or GNU's base 256, which is marked by the highest bit.
fn signed_number(bytes: &[u8], field: &'static str) -> Result<i64, TarError> {
    let bad = TarError::Number { field };
    match bytes.split_first() {
        Some((first, rest)) if 0x80 <= *first => {
            let start = if *first & 0x40 == 0 {
                i128::from(first & 0x7f)
            } else {
                i128::from(*first) - 256
            };
            let value = rest
                .iter()
                .try_fold(start, |sum, b| sum.checked_mul(256).map(|sum| sum + i128::from(*b)));
            value.and_then(|value| i64::try_from(value).ok()).ok_or(bad)
        }
        Some(_) | None => {
            let text = until_nul(bytes).trim_ascii();
            let value = text.iter().try_fold(0_i64, |sum, b| match b {
                b'0'..=b'7' => sum.checked_mul(8).map(|sum| sum + i64::from(b - b'0')),
                _ => None,
            });
            value.ok_or(bad)
        }
    }
}

pub(super) fn number(bytes: &[u8], field: &'static str) -> Result<u64, TarError> {
    u64::try_from(signed_number(bytes, field)?).map_err(|_| TarError::Number { field })
}

pub(super) fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u64, |sum, b| match b {
        b'0'..=b'9' => sum.checked_mul(10)?.checked_add(u64::from(b - b'0')),
        _ => None,
    })
}

/// `[-]seconds[.fraction]`.
fn time(value: &[u8]) -> Option<(i64, u32)> {
    let (negative, value) = match value.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, value),
    };
    let mut parts = value.splitn(2, |b| *b == b'.');
    let seconds = i64::try_from(decimal(parts.next()?)?).ok()?;
    let fraction = parts.next().unwrap_or_default();
    let digits = fraction.iter().copied().chain(core::iter::repeat(b'0')).take(9);
    let nanos = u32::try_from(decimal(&digits.collect::<Vec<_>>())?).ok()?;
    match (negative, nanos) {
        (false, _) => Some((seconds, nanos)),
        (true, 0) => Some((-seconds, 0)),
        (true, _) => Some((-seconds - 1, 1_000_000_000 - nanos)),
    }
}

/// Fills `buffer` as far as the stream goes; returns how far.
pub(super) fn fill(reader: &mut impl Read, buffer: &mut [u8]) -> Result<usize, TarError> {
    let mut done = 0;
    while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
        match reader.read(rest) {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(TarError::Read(e)),
        }
    }
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A header with a right checksum.
    pub(super) fn header(name: &str, kind: u8, size: u64) -> Vec<u8> {
        let mut h = vec![0_u8; BLOCK];
        h[..name.len()].copy_from_slice(name.as_bytes());
        h[100..108].copy_from_slice(b"0000644\0");
        h[108..116].copy_from_slice(b"0000001\0");
        h[116..124].copy_from_slice(b"0000002\0");
        h[124..136].copy_from_slice(format!("{size:011o}\0").as_bytes());
        h[136..148].copy_from_slice(b"00000000012\0");
        h[156] = kind;
        h[257..265].copy_from_slice(b"ustar\x0000");
        h[148..156].copy_from_slice(b"        ");
        let sum: u32 = h.iter().map(|b| u32::from(*b)).sum();
        h[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        h
    }

    fn content(bytes: &[u8]) -> Vec<u8> {
        let mut all = bytes.to_vec();
        all.resize(bytes.len().next_multiple_of(BLOCK), 0);
        all
    }

    fn pax(records: &[(&str, &[u8])]) -> Vec<u8> {
        let mut data = Vec::new();
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            let mut length = rest + 1;
            while rest + length.to_string().len() != length {
                length += 1;
            }
            data.extend_from_slice(format!("{length} {key}=").as_bytes());
            data.extend_from_slice(value);
            data.push(b'\n');
        }
        [header("pax", b'x', data.len() as u64), content(&data)].concat()
    }

    fn entries(bytes: &[u8]) -> Result<Vec<Entry>, TarError> {
        let mut archive = Archive::new(bytes);
        let mut all = Vec::new();
        while let Some(entry) = archive.next_entry()? {
            all.push(entry);
        }
        Ok(all)
    }

    #[test]
    fn pax_records_go_by_their_length_and_win_over_the_header() {
        let bytes = [
            pax(&[
                ("path", b"a\nb"),
                ("size", b"3"),
                ("uid", b"70000"),
                ("mtime", b"-1.25"),
                ("SCHILY.xattr.user.x", b"1\n9 size=9\n"),
            ]),
            header("short", b'0', 0),
            content(b"abc"),
            header("next", b'0', 0),
        ]
        .concat();
        let all = entries(&bytes).unwrap();
        assert_eq!(all.len(), 2);
        assert_eq!(all[0].path, b"a\nb");
        assert_eq!((all[0].size, all[0].uid, all[0].gid), (3, 70000, 2));
        assert_eq!(all[0].mtime, (-2, 750_000_000));
        assert_eq!(all[0].xattrs, [(b"user.x".to_vec(), b"1\n9 size=9\n".to_vec())]);
        assert_eq!(all[1].path, b"next");
        assert_eq!(all[1].mtime, (10, 0));
    }

    #[test]
    fn what_readers_disagree_about_is_an_error() {
        let with = |data: &[u8]| {
            [header("p", b'x', data.len() as u64), content(data), header("a", b'0', 0)].concat()
        };
        assert!(entries(&with(b"9 path=a\n")).is_ok());
        for bad in [
            &b"11 path=a\n"[..],
            b"8 path=a\n",
            b"1 path=a\n",
            b"x path=a\n",
            b"9 pathaa\n",
            b"11 size=-1\n",
            b"8 size=\n",
            b"99999999999999999999999 a=b\n",
            b"22 GNU.sparse.major=1\n",
        ] {
            assert!(entries(&with(bad)).is_err(), "{}", bad.escape_ascii());
        }
        let doubled = [pax(&[("path", b"a")]), pax(&[("path", b"b")]), header("c", b'0', 0)];
        assert!(matches!(entries(&doubled.concat()), Err(TarError::Extension)));
        assert!(matches!(entries(&pax(&[("path", b"a")])), Err(TarError::Extension)));
        assert!(matches!(entries(&header("s", b'V', 0)), Err(TarError::Type { byte: b'V' })));
        assert!(matches!(entries(&header("s", b'0', 5)), Err(TarError::Truncated)));
        assert!(matches!(entries(&header("s", b'0', 0)[..100]), Err(TarError::Truncated)));
        assert!(matches!(entries(&header("L", b'L', 1 << 30)), Err(TarError::ExtensionTooLarge)));
        let mut wrong = header("a", b'0', 0);
        wrong[0] = b'b';
        assert!(matches!(entries(&wrong), Err(TarError::Checksum)));
    }

    #[test]
    fn gnu_long_names_and_numbers_are_read() {
        let long = "d/".repeat(120) + "f";
        let mut body = long.clone().into_bytes();
        body.push(0);
        let mut big = header("x", b'0', 0);
        big[108..116].copy_from_slice(&[0x80, 0, 0, 0, 0, 1, 0, 0]);
        big[136..148].copy_from_slice(&[0xff; 12]);
        big[148..156].copy_from_slice(b"        ");
        let sum: u32 = big.iter().map(|b| u32::from(*b)).sum();
        big[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        let bytes = [header("L", b'L', body.len() as u64), content(&body), big].concat();
        let all = entries(&bytes).unwrap();
        assert_eq!(all[0].path, long.as_bytes());
        assert_eq!((all[0].uid, all[0].mtime.0), (65536, -1));
    }

    #[test]
    fn content_is_read_or_skipped() {
        let bytes = [
            header("a", b'0', 5),
            content(b"hello"),
            header("b", b'0', 3),
            content(b"abc"),
            vec![0; 1024],
        ]
        .concat();
        let mut archive = Archive::new(&bytes[..]);
        archive.next_entry().unwrap().unwrap();
        assert_eq!(archive.next_entry().unwrap().unwrap().path, b"b");
        let mut text = String::new();
        archive.read_to_string(&mut text).unwrap();
        assert_eq!(text, "abc");
        assert_eq!(archive.next_entry().unwrap(), None);
    }
}
