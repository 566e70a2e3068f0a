//! Reads tar streams: ustar, GNU long names and numbers, PAX.
//!
//! It only parses, and reads what Go's `archive/tar` reads, as Docker does, with these exceptions:
//! a size beyond 63 bits, an extended header that describes nothing, and a type that no engine
//! makes anything of are errors, for other readers take what follows for something else; so
//! are names with a zero byte. A PAX size always wins (RUSTSEC-2026-0068, CVE-2025-62518). What is
//! said of one entry has a bound, in bytes and in headers, for it is in memory.
//! The `tar` crate splits PAX records at newlines, which a binary attribute may contain; this
//! reader goes by their length. Sources: POSIX.1-2017 `pax`, GNU tar manual "Basic Tar Format".

use core::fmt;
use std::io::{self, Read};

use super::sparse::{self, Extent};
use crate::limits::{LAYER_PATH_MAX_BYTES, TAR_EXTENSION_MAX_BYTES};

const BLOCK: usize = 512;

/// Most extended headers of one entry. Writers make three at most. More fail the layer.
const EXTENSIONS_MAX: usize = 16;

/// Most extended attributes of one entry; real ones have some three. More fail the layer.
const XATTRS_MAX: usize = 256;

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
    /// An extended header is malformed or describes nothing.
    Extension,
    /// The extended headers of one entry exceed [`TAR_EXTENSION_MAX_BYTES`] together, or are too
    /// many.
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
                    "tar archive has an entry with extended headers above \
                     {TAR_EXTENSION_MAX_BYTES} bytes, or too many"
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
    /// Owner; `u32::MAX`, which is -1, leaves it as it is.
    pub uid: u32,
    /// Group, likewise.
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
    /// How many headers.
    seen: usize,
    /// Their bytes together.
    bytes: u64,
    /// GNU's, which win over all others.
    long_path: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<i64>,
    gid: Option<i64>,
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
                return if extensions.seen == 0 { Ok(None) } else { Err(TarError::Extension) };
            };
            let size = signed_number(field(&header, 124, 12), "size")?;
            let size = u64::try_from(size);
            let size = size.map_err(|_| TarError::Number { field: "size" });
            let byte = field(&header, 156, 1).first().copied().unwrap_or_default();
            if !matches!(byte, b'x' | b'g' | b'L' | b'K') {
                return self.entry(&header, byte, size, extensions).map(Some);
            }
            let data = self.extension(size?, &mut extensions)?;
            match byte {
                b'x' => extensions.read_pax(&data)?,
                // Global records are not applied by Docker either; they hold comments.
                b'g' => extensions.seen -= 1,
                b'L' => extensions.long_path = until_named(&data),
                _ => extensions.long_link = until_named(&data),
            }
        }
    }

    fn entry(
        &mut self,
        header: &[u8; BLOCK],
        byte: u8,
        size: Result<u64, TarError>,
        extensions: Extensions,
    ) -> Result<Entry, TarError> {
        let path = extensions.long_path.or(extensions.path);
        let mut path = path.unwrap_or_else(|| header_path(header));
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
        let link = extensions.long_link.or(extensions.link);
        let link = link.unwrap_or_else(|| until_nul(field(header, 157, 100)).to_vec());
        // Types of POSIX that are a header alone: no content follows, whatever size they name.
        let mut size = if kind == EntryKind::File { extensions.size.map_or(size, Ok)? } else { 0 };
        let mut map: Option<Vec<Extent>> = None;
        let sparse = if byte == b'S' {
            let sparse = sparse::old_gnu(header, size, &mut self.inner)?;
            self.begin_content(size)?;
            Some(sparse)
        } else {
            self.begin_content(size)?;
            if kind == EntryKind::File { extensions.sparse.finish(size, self)? } else { None }
        };
        if let Some(sparse) = sparse {
            path = sparse.name.unwrap_or(path);
            size = sparse.size;
            map = Some(sparse.map);
        }
        for text in [&path, &link] {
            if LAYER_PATH_MAX_BYTES < text.len() || text.contains(&0) {
                return Err(TarError::Path);
            }
        }
        let raw = |from, length, name| signed_number(field(header, from, length), name);
        // Other headers than POSIX's and GNU's have something else there, or nothing.
        let device = if field(header, 257, 5) == b"ustar" {
            let device = |from| raw(from, 8, "device number").map(low_bits);
            (device(329)?, device(337)?)
        } else {
            (0, 0)
        };
        let device = match kind {
            EntryKind::CharDevice | EntryKind::BlockDevice => device,
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
            mode: low_bits(raw(100, 8, "mode")?) & 0o7777,
            uid: owner(extensions.uid, raw(108, 8, "uid")?, "uid")?,
            gid: owner(extensions.gid, raw(116, 8, "gid")?, "gid")?,
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

    fn extension(&mut self, size: u64, extensions: &mut Extensions) -> Result<Vec<u8>, TarError> {
        extensions.seen += 1;
        extensions.bytes = extensions.bytes.saturating_add(size);
        if TAR_EXTENSION_MAX_BYTES < extensions.bytes || EXTENSIONS_MAX < extensions.seen {
            return Err(TarError::ExtensionTooLarge);
        }
        self.begin_content(size)?;
        let mut data = Vec::new();
        self.read_to_end(&mut data).map_err(TarError::Read)?;
        if (data.len() as u64) < size { Err(TarError::Truncated) } else { Ok(data) }
    }

    /// The padding after the last content may lack.
    fn skip_content(&mut self) -> Result<(), TarError> {
        io::copy(&mut self.by_ref(), &mut io::sink()).map_err(TarError::Read)?;
        if self.left != 0 {
            return Err(TarError::Truncated);
        }
        let mut rest = [0; BLOCK];
        fill(&mut self.inner, rest.get_mut(..self.padding).unwrap_or_default())?;
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
        let bytes = || (0..).zip(header).map(|(i, b)| if (148..156).contains(&i) { 32 } else { b });
        let sum: i64 = bytes().map(i64::from).sum();
        // Some old programs summed signed characters.
        let signed: i64 = bytes().map(|b| i64::from(b.cast_signed())).sum();
        let found = octal(field(&header, 148, 8)).ok_or(TarError::Checksum)?;
        if found == sum || found == signed { Ok(Some(header)) } else { Err(TarError::Checksum) }
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
    /// Records are `<length> <key>=<value>\n`, the length counting all of it.
    fn read_pax(&mut self, mut data: &[u8]) -> Result<(), TarError> {
        // The last header counts, as a whole.
        let old = core::mem::take(self);
        let (long_path, long_link) = (old.long_path, old.long_link);
        *self = Self { seen: old.seen, bytes: old.bytes, long_path, long_link, ..Self::default() };
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
            if key.contains(&0) {
                return Err(TarError::Extension);
            }
            self.pax_record(key, value.get(1..).unwrap_or_default())?;
        }
        Ok(())
    }

    /// An empty value takes back what was said before, and leaves what the header says.
    fn pax_record(&mut self, key: &[u8], value: &[u8]) -> Result<(), TarError> {
        let bad = TarError::Extension;
        let said = (!value.is_empty()).then_some(value);
        let read = |said: Option<&[u8]>| match said {
            Some(value) => signed_decimal(value).map(Some).ok_or(TarError::Extension),
            None => Ok(None),
        };
        match key {
            b"path" => self.path = said.map(<[u8]>::to_vec),
            b"linkpath" => self.link = said.map(<[u8]>::to_vec),
            b"size" => {
                self.size = match said {
                    Some(value) => Some(decimal(value).ok_or(bad)?),
                    None => None,
                }
            }
            b"uid" => self.uid = read(said)?,
            b"gid" => self.gid = read(said)?,
            b"mtime" => {
                self.mtime = match said {
                    Some(value) => Some(time(value).ok_or(bad)?),
                    None => None,
                }
            }
            key => {
                if let Some(key) = key.strip_prefix(b"GNU.sparse.") {
                    self.sparse.take(key, value)?;
                } else if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                    self.xattrs.retain(|(old, _)| old != name);
                    if said.is_some() {
                        if XATTRS_MAX <= self.xattrs.len() {
                            return Err(TarError::ExtensionTooLarge);
                        }
                        self.xattrs.push((name.to_vec(), value.to_vec()));
                    }
                }
            }
        }
        Ok(())
    }
}

/// The low bits, as a cast keeps them.
const fn low_bits(value: i64) -> u32 {
    let [a, b, c, d, ..] = value.to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

/// An owner; a negative one is its low bits. One beyond 32 bits would come down to another, and
/// that one may be root: it is refused, though Go takes it.
fn owner(pax: Option<i64>, header: i64, field: &'static str) -> Result<u32, TarError> {
    let owner = pax.unwrap_or(header);
    match i32::try_from(owner) {
        Ok(_) => Ok(low_bits(owner)),
        Err(_) => u32::try_from(owner).map_err(|_| TarError::Number { field }),
    }
}

/// The text of a GNU long name, if there is any.
fn until_named(data: &[u8]) -> Option<Vec<u8>> {
    Some(until_nul(data).to_vec()).filter(|name| !name.is_empty())
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
        Some(_) | None => octal(bytes).ok_or(bad),
    }
}

/// Octal text between zeros and spaces, and up to a zero; nothing is 0.
fn octal(bytes: &[u8]) -> Option<i64> {
    let around = |b: &u8| matches!(b, 0 | b' ');
    let start = bytes.iter().position(|b| !around(b)).unwrap_or(bytes.len());
    let end = bytes.iter().rposition(|b| !around(b)).map_or(start, |last| last + 1);
    let text = until_nul(bytes.get(start..end).unwrap_or_default());
    let value = text.iter().try_fold(0_u64, |sum, b| match b {
        b'0'..=b'7' => sum.checked_mul(8).map(|sum| sum + u64::from(b - b'0')),
        _ => None,
    });
    value.map(u64::cast_signed)
}

/// A decimal number with or without a sign, of 64 bits.
fn signed_decimal(text: &[u8]) -> Option<i64> {
    core::str::from_utf8(text).ok()?.parse().ok()
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
            b"9 uid=x1\n",
            b"9 a\0b=a\n",
            b"99999999999999999999999 a=b\n",
            b"22 GNU.sparse.major=1\n",
        ] {
            assert!(entries(&with(bad)).is_err(), "{}", bad.escape_ascii());
        }
        assert!(matches!(entries(&pax(&[("path", b"a")])), Err(TarError::Extension)));
        assert!(matches!(entries(&header("s", b'V', 0)), Err(TarError::Type { byte: b'V' })));
        assert!(matches!(entries(&header("s", b'0', 5)), Err(TarError::Truncated)));
        assert!(matches!(entries(&header("s", b'0', 0)[..100]), Err(TarError::Truncated)));
        assert!(matches!(entries(&header("L", b'L', 1 << 30)), Err(TarError::ExtensionTooLarge)));
        let mut wrong = header("a", b'0', 0);
        wrong[0] = b'b';
        assert!(matches!(entries(&wrong), Err(TarError::Checksum)));
    }

    /// Puts bytes into a header and mends its checksum, by signed characters if wanted.
    fn with(at: usize, bytes: &[u8], signed: bool) -> Vec<u8> {
        let mut h = header("a", b'0', 0);
        h[at..at + bytes.len()].copy_from_slice(bytes);
        h[148..156].copy_from_slice(b"        ");
        let value = |b: &u8| if signed { i32::from(b.cast_signed()) } else { i32::from(*b) };
        let sum: i32 = h.iter().map(value).sum();
        h[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        h
    }

    fn one(bytes: &[u8]) -> Entry {
        let all = entries(bytes).unwrap();
        assert_eq!(all.len(), 1);
        all[0].clone()
    }

    #[test]
    fn numbers_are_read_as_go_reads_them() {
        for (text, uid) in [
            (&[0xff; 8][..], u32::MAX),
            (&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe], u32::MAX - 1),
            (&[0x80, 0, 0, 0, 0, 0, 3, 0xe8], 1000),
            (b"\0\x001750\0", 1000),
            (b"  1750 \0", 1000),
            (b"\0 1750\0 ", 1000),
            (b"00001750", 1000),
            (b"1750\0zzz", 1000),
            (&[0; 8], 0),
            (b"        ", 0),
        ] {
            assert_eq!(one(&with(108, text, false)).uid, uid, "{}", text.escape_ascii());
        }
        for bad in [&b"17x0\0\0\0\0"[..], b"8\0\0\0\0\0\0\0", b"-1\0\0\0\0\0\0", b"1 7\0\0\0\0\0"] {
            for at in [100, 108, 116, 329] {
                let bytes = with(at, bad, false);
                assert!(matches!(entries(&bytes), Err(TarError::Number { .. })), "{at}");
            }
        }
        // A negative mode, of which the low bits are taken.
        assert_eq!(one(&with(100, &[0xff; 8], false)).mode, 0o7777);
        // Sizes can not be negative, nor wrap.
        for bad in [[0xff; 12], *b"\x80\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"] {
            assert!(entries(&with(124, &bad, false)).is_err());
        }
        assert_eq!(one(&with(0, b"\xe4\xf6\xfc", true)).path, b"\xe4\xf6\xfc");
        assert_eq!(one(&with(0, b"\xe4\xf6\xfc", false)).path, b"\xe4\xf6\xfc");
    }

    #[test]
    fn extended_headers_are_read_as_go_reads_them() {
        let entry = one(&[pax(&[("path", b"x"), ("path", b"")]), header("a", b'0', 0)].concat());
        assert_eq!(entry.path, b"a", "an empty value leaves the header's");
        let all: &[(&str, &[u8])] =
            &[("uid", b""), ("gid", b""), ("size", b""), ("mtime", b""), ("linkpath", b"")];
        let entry = one(&[pax(all), header("a", b'0', 0)].concat());
        assert_eq!((entry.uid, entry.gid, entry.mtime), (1, 2, (10, 0)));
        let entry = one(&[pax(&[("uid", b"-1")]), header("a", b'0', 0)].concat());
        assert_eq!(entry.uid, u32::MAX);
        // The last one counts: a header of either kind, and a record in it.
        let long = |name: &str| {
            let body = [name.as_bytes(), b"\0"].concat();
            [header("L", b'L', body.len() as u64), content(&body)].concat()
        };
        let entry = one(&[long("one"), long("two"), header("a", b'0', 0)].concat());
        assert_eq!(entry.path, b"two");
        let entry = one(&[pax(&[("path", b"one")]), long("two"), header("a", b'0', 0)].concat());
        assert_eq!(entry.path, b"two");
        let entry = one(&[long("two"), pax(&[("path", b"one")]), header("a", b'0', 0)].concat());
        assert_eq!(entry.path, b"two", "GNU's name wins");
        let entry = one(&[long(""), header("a", b'0', 0)].concat());
        assert_eq!(entry.path, b"a");
        for big in [&b"4294967296"[..], b"-4294967296"] {
            let bytes = [pax(&[("uid", big)]), header("a", b'0', 0)].concat();
            assert!(matches!(entries(&bytes), Err(TarError::Number { field: "uid" })));
        }
        let both = [pax(&[("uid", b"7")]), pax(&[("path", b"b")]), header("a", b'0', 0)];
        let entry = one(&both.concat());
        assert_eq!((&entry.path[..], entry.uid), (&b"b"[..], 1));
        let x: &[(&str, &[u8])] = &[("SCHILY.xattr.user.a", b"1"), ("SCHILY.xattr.user.a", b"2")];
        let entry = one(&[pax(x), header("a", b'0', 0)].concat());
        assert_eq!(entry.xattrs, [(b"user.a".to_vec(), b"2".to_vec())]);
    }

    #[test]
    fn a_header_without_content_has_no_size() {
        for kind in b'1'..=b'6' {
            let after = header("next", b'0', 0);
            let bytes = [header("a", kind, 512), after.clone()].concat();
            assert_eq!(entries(&bytes).unwrap().len(), 2, "{kind}");
            let bytes = [pax(&[("size", b"512")]), header("a", kind, 0), after].concat();
            let all = entries(&bytes).unwrap();
            assert_eq!((all.len(), all[0].size), (2, 0), "{kind}");
        }
    }

    #[test]
    fn the_last_block_may_be_cut_short() {
        let bytes = [header("a", b'0', 3), b"abc".to_vec()].concat();
        assert_eq!(one(&bytes).size, 3);
        assert!(entries(&bytes[..bytes.len() - 1]).is_err(), "but not the content");
    }

    #[test]
    fn what_is_said_of_an_entry_has_a_bound() {
        let name = |n: usize| format!("SCHILY.xattr.user.{n}");
        let names: Vec<String> = (0..=XATTRS_MAX).map(name).collect();
        let many: Vec<(&str, &[u8])> = names.iter().map(|n| (n.as_str(), &b"1"[..])).collect();
        let bytes = [pax(&many), header("a", b'0', 0)].concat();
        assert!(matches!(entries(&bytes), Err(TarError::ExtensionTooLarge)));
        let bytes = [pax(&many[1..]), header("a", b'0', 0)].concat();
        assert_eq!(one(&bytes).xattrs.len(), XATTRS_MAX);
        // In one header or in many.
        let half = vec![b'x'; 600 << 10];
        let half = pax(&[("SCHILY.xattr.user.a", &half)]);
        let bytes = [half.clone(), half, header("a", b'0', 0)].concat();
        assert!(matches!(entries(&bytes), Err(TarError::ExtensionTooLarge)));
        for kind in [b'x', b'L', b'K'] {
            let small = [header("e", kind, 9), content(b"9 path=a\n")].concat();
            let flood = [small.repeat(EXTENSIONS_MAX + 1), header("a", b'0', 0)].concat();
            assert!(matches!(entries(&flood), Err(TarError::ExtensionTooLarge)), "{kind}");
        }
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
