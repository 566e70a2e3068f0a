//! Unpacks one layer into a tree of its own, fit to be a `lowerdir` of overlayfs.
//!
//! One pass: unpack, hash, parse, write. Names resolve within the tree ([`Tree`]); whiteouts
//! become what overlayfs understands, or stay files named `.wh.…` where the storage can not hold
//! that (no overlayfs lies over such a storage; `container::plain` reads them). It refuses what
//! it does not know. Extended attributes are kept for files and folders only, and only those
//! that a container may have set: `user.*`, `security.capability` and POSIX ACLs; as with Docker
//! a storage without them goes without. Attributes of overlayfs itself would redirect names.
//! Sources: OCI image-spec `layer.md`; kernel `Documentation/filesystems/overlayfs.rst`.

use core::fmt;
use std::{
    ffi::CString,
    fs::File,
    io::{self, BufRead, BufReader, BufWriter, Read, Seek, SeekFrom, Write},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
};

use flate2::Crc;
use rustix::{
    fs::{
        AtFlags, FileType, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags, chmodat, chownat,
        fsetxattr, fstatvfs, futimens, linkat, makedev, mknodat, symlinkat, unlinkat, utimensat,
    },
    io::Errno,
};

use super::{
    digest::{Digest, HashReader},
    packing::Unpacked,
    sums::{self, Sums},
    tar::{Archive, Entry, EntryKind, TarError},
    tree::{Found, Tree, look, make_folder},
    window::nameless,
};
use crate::{
    files,
    limits::{LAYER_DEPTH_MAX, LAYER_DIRS_MAX_BYTES, LAYER_ENTRIES_MAX, LAYER_WRITE_BACK_BYTES},
};

/// Bytes for which a file system has one inode (mke2fs(8), `inode_ratio`): so many inodes stay free
/// beside the bytes.
const BYTES_PER_INODE: u64 = 16 << 10;

/// Free room is looked at after so many entries.
const ROOM_ENTRIES: u64 = 256;

/// What a folder's record has besides its path: seconds, nanoseconds, length.
const RECORD_BYTES: usize = 16;

/// How names of whiteouts begin.
const WHITEOUT: &[u8] = b".wh.";

/// The whiteout of everything below a folder.
const OPAQUE: &[u8] = b".wh..wh..opq";

/// Why a layer is not unpacked.
#[derive(Debug)]
pub(super) enum LayerError {
    /// The archive is malformed or could not be read.
    Tar(TarError),
    /// A path that climbs above the root.
    Escape {
        /// The path, made printable.
        path: String,
    },
    /// A whiteout of nothing.
    Whiteout {
        /// The path, made printable.
        path: String,
    },
    /// More than [`LAYER_ENTRIES_MAX`] entries, or too many folder names.
    TooMany,
    /// Folders in each other beyond [`LAYER_DEPTH_MAX`].
    TooDeep {
        /// The path, made printable.
        path: String,
    },
    /// More bytes than allowed: holes of sparse files count, too.
    TooLarge {
        /// The bound.
        max: u64,
    },
    /// An extended attribute that the file system has no room for in one file.
    Attribute {
        /// The path, made printable.
        path: String,
        /// The attribute's name, made printable.
        name: String,
        /// Its length in bytes.
        bytes: usize,
    },
    /// Less would be free than `image-min-free` wants.
    NoRoom,
    /// The kernel refused to make an entry.
    Entry {
        /// The path, made printable.
        path: String,
        /// Its answer.
        source: io::Error,
    },
}

impl LayerError {
    /// Whether the disk is to blame. Otherwise it is the archive, whose names, links and attributes
    /// no kernel takes.
    pub(super) fn is_of_storage(&self) -> bool {
        let source = match self {
            Self::Entry { source, .. } => source,
            Self::NoRoom => return true,
            Self::Tar(_)
            | Self::Escape { .. }
            | Self::Whiteout { .. }
            | Self::TooMany
            | Self::TooDeep { .. }
            | Self::TooLarge { .. }
            | Self::Attribute { .. } => return false,
        };
        !matches!(
            Errno::from_io_error(source),
            Some(
                Errno::NAMETOOLONG
                    | Errno::LOOP
                    | Errno::NOTDIR
                    | Errno::ISDIR
                    | Errno::NOENT
                    | Errno::EXIST
                    | Errno::MLINK
                    | Errno::XDEV
                    | Errno::INVAL
                    | Errno::ILSEQ
                    | Errno::RANGE
                    | Errno::TOOBIG
            )
        )
    }
}

impl fmt::Display for LayerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tar(_) => f.write_str("layer can not be unpacked"),
            Self::Escape { path } => write!(f, "layer has an entry outside of its root: {path}"),
            Self::Whiteout { path } => write!(f, "layer has a malformed whiteout: {path}"),
            Self::TooMany => write!(f, "layer has more than {LAYER_ENTRIES_MAX} entries"),
            Self::TooDeep { path } => {
                write!(f, "layer has folders deeper than {LAYER_DEPTH_MAX}: {path}")
            }
            Self::TooLarge { max } => {
                write!(f, "layer has more than {max} bytes unpacked, too many for its size")
            }
            Self::Attribute { path, name, bytes } => write!(
                f,
                "layer entry {path} has an extended attribute {name} of {bytes} bytes, more than \
                 the file system of data-root takes; make the image without it"
            ),
            Self::NoRoom => f.write_str(
                "no space left for images: less bytes or inodes would be free than image-min-free \
                 keeps; free some with `edgeagent image prune`, or lower it",
            ),
            Self::Entry { path, .. } => write!(f, "layer entry can not be written: {path}"),
        }
    }
}

impl core::error::Error for LayerError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Tar(cause) => Some(cause),
            Self::Entry { source, .. } => Some(source),
            Self::Escape { .. }
            | Self::Whiteout { .. }
            | Self::TooMany
            | Self::TooDeep { .. }
            | Self::TooLarge { .. }
            | Self::Attribute { .. }
            | Self::NoRoom => None,
        }
    }
}

/// What a layer may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    /// Most bytes.
    pub(super) max: u64,
    /// Bytes that stay free on the file system, and inodes in proportion.
    pub(super) min_free: u64,
}

impl Room {
    /// Fails when less is free. File systems without a number of inodes bound only bytes.
    fn check(self, folder: BorrowedFd<'_>) -> Result<(), LayerError> {
        let stat = fstatvfs(folder).map_err(|e| failed(b".", e.into()))?;
        let bytes = [stat.f_bavail, stat.f_blocks].map(|n| n.saturating_mul(stat.f_frsize));
        let lacks = self.lacks(bytes, [stat.f_favail, stat.f_files]);
        if lacks { Err(LayerError::NoRoom) } else { Ok(()) }
    }

    /// Whether what is free of all bytes, or of all inodes, is too little. At most half of a file
    /// system is kept free: a small one would take no image at all.
    const fn lacks(self, [free, all]: [u64; 2], [free_inodes, inodes]: [u64; 2]) -> bool {
        let half = all / 2;
        let keep = if self.min_free < half { self.min_free } else { half };
        let half = inodes / 2;
        let wanted = self.min_free / BYTES_PER_INODE;
        let keep_inodes = if wanted < half { wanted } else { half };
        free < keep || free_inodes < keep_inodes
    }
}

/// Unpacks `source`, packed or not, into the empty folder `path`, within `room`. What does
/// not fit into memory meanwhile is in the folder above.
/// Returns the diff id, by the algorithm of `like`, and the sums of what is there now.
///
/// # Errors
/// [`LayerError`]; the folder holds a part of the layer then.
pub(super) fn unpack(
    source: impl Read,
    path: &Path,
    room: Room,
    like: &Digest,
) -> Result<(Digest, Sums), LayerError> {
    let tree = Tree::open(path).map_err(|e| failed(b".", e.into()))?;
    unpack_into(source, &tree, path.parent().unwrap_or(path), room, like)
}

fn unpack_into(
    source: impl Read,
    tree: &Tree,
    scratch: &Path,
    room: Room,
    like: &Digest,
) -> Result<(Digest, Sums), LayerError> {
    let max = room.max;
    unpack_at_most(source, tree, scratch, room, like).map_err(|error| {
        let beyond = matches!(&error, LayerError::Tar(TarError::Read(e))
            if e.kind() == io::ErrorKind::FileTooLarge);
        if beyond { LayerError::TooLarge { max } } else { error }
    })
}

fn unpack_at_most(
    source: impl Read,
    tree: &Tree,
    scratch: &Path,
    room: Room,
    like: &Digest,
) -> Result<(Digest, Sums), LayerError> {
    let max = room.max;
    let read = |e| LayerError::Tar(TarError::Read(e));
    let plain = HashReader::beside(Unpacked::new(source, scratch).map_err(read)?, max, like);
    let mut archive = Archive::new(plain);
    let folders = Folders::new(scratch).map_err(|e| failed(b".", e))?;
    let mut layer =
        Layer { tree, room, here: None, folders, content: Some(0), bytes: 0, made: 0, seen: 0 };
    while let Some(entry) = archive.next_entry().map_err(LayerError::Tar)? {
        layer.made += 1;
        if layer.seen <= layer.made {
            room.check(tree.root())?;
            layer.seen = layer.made.saturating_add(ROOM_ENTRIES);
        }
        if LAYER_ENTRIES_MAX < layer.made {
            return Err(LayerError::TooMany);
        }
        layer.bytes = layer.bytes.saturating_add(entry.size);
        if max < layer.bytes {
            return Err(LayerError::TooLarge { max });
        }
        layer.apply(&entry, &mut archive)?;
    }
    layer.finish()?;
    let content = layer.content;
    let mut plain = archive.into_inner();
    plain.drain().map_err(read)?;
    let (diff_id, bytes) = plain.finish();
    let root = tree.folder(&[]).map_err(|e| failed(b".", e.into()))?;
    let shape = sums::shape(root.as_fd()).map_err(|e| {
        // The names of entries are short; links may lead on to deeper places.
        if e.kind() == io::ErrorKind::InvalidData {
            LayerError::TooDeep { path: ".".to_owned() }
        } else {
            failed(b".", e)
        }
    })?;
    Ok((diff_id, Sums { bytes, shape, content }))
}

/// A layer in the making.
struct Layer<'a> {
    tree: &'a Tree,
    /// The folder of the entry before, for the next one is likely to be there, too. Forgotten when
    /// a name goes, for its path may lead elsewhere then.
    here: Option<(Vec<u8>, OwnedFd)>,
    folders: Folders,
    /// Sum of the files' contents; lost when a file is replaced, for what it was is gone.
    content: Option<u64>,
    /// Bytes of files so far.
    bytes: u64,
    /// Entries so far, and folders above them that had none.
    made: u64,
    /// How many entries there are when free room is looked at next.
    seen: u64,
    room: Room,
}

impl Layer<'_> {
    fn apply(&mut self, entry: &Entry, content: &mut impl Read) -> Result<(), LayerError> {
        // What has no name makes nothing.
        if entry.path.is_empty() {
            return Ok(());
        }
        let names = clean(&entry.path)?;
        // In copy mode whiteouts are files, and what is below one would be a path through it.
        let is_mark = |name: &&[u8]| name.starts_with(WHITEOUT);
        let parents = names.split_last().map(|(_, parents)| parents).unwrap_or_default();
        let aufs = names.first().is_some_and(|first| first.starts_with(b".wh..wh."));
        if !aufs && parents.iter().any(is_mark) {
            return Err(LayerError::Whiteout { path: printable(&entry.path) });
        }
        if LAYER_DEPTH_MAX < names.len() {
            return Err(LayerError::TooDeep { path: printable(&entry.path) });
        }
        let Some((name, parents)) = names.split_last() else {
            return if entry.kind == EntryKind::Folder {
                self.root(entry)
            } else {
                Err(LayerError::Escape { path: printable(&entry.path) })
            };
        };
        let fail = |e: Errno| failed(&entry.path, e.into());
        if *name == OPAQUE {
            let parent = self.tree.folder_or_make(parents, &mut self.made).map_err(fail)?;
            return set_opaque(parent.as_fd()).map_err(fail);
        }
        // Bookkeeping of AUFS.
        if aufs {
            return Ok(());
        }
        if let Some(hidden) = name.strip_prefix(WHITEOUT) {
            if matches!(hidden, b"" | b"." | b"..") {
                return Err(LayerError::Whiteout { path: printable(&entry.path) });
            }
            let parent = self.tree.folder_or_make(parents, &mut self.made).map_err(fail)?;
            return hide(parent.as_fd(), hidden).map_err(fail);
        }
        let path = parents.join(&b'/');
        let parent = match self.here.take() {
            Some((here, parent)) if here == path => parent,
            Some(_) | None => self.tree.folder_or_make(parents, &mut self.made).map_err(fail)?,
        };
        let replaced = self.make(entry, parent.as_fd(), name, content)?;
        if !replaced {
            self.here = Some((path, parent));
        }
        if entry.kind == EntryKind::Folder {
            self.remember(&names, entry)?;
        }
        Ok(())
    }

    fn root(&mut self, entry: &Entry) -> Result<(), LayerError> {
        let fail = |e: Errno| failed(&entry.path, e.into());
        let here = self.tree.folder(&[]).map_err(fail)?;
        let folder = Tree::open_folder(here.as_fd(), b".").map_err(fail)?;
        attributes(&folder, entry)?;
        self.remember(&[], entry)
    }

    fn remember(&mut self, names: &[&[u8]], entry: &Entry) -> Result<(), LayerError> {
        let fits = self.folders.add(&names.join(&b'/'), entry.mtime);
        if fits.map_err(|e| failed(&entry.path, e))? { Ok(()) } else { Err(LayerError::TooMany) }
    }

    /// Makes one entry. Returns whether something was there and went.
    fn make(
        &mut self,
        entry: &Entry,
        parent: BorrowedFd<'_>,
        name: &[u8],
        content: &mut impl Read,
    ) -> Result<bool, LayerError> {
        let fail = |e: Errno| failed(&entry.path, e.into());
        // A link's target is looked up before its own name is cleared.
        let target = match entry.kind {
            EntryKind::HardLink => {
                let names = clean(&entry.link)?;
                let escape = || LayerError::Escape { path: printable(&entry.link) };
                let (target, folders) = names.split_last().ok_or_else(escape)?;
                let folder = self.tree.folder(folders).map_err(fail)?;
                Some((folder, target.to_vec()))
            }
            EntryKind::File
            | EntryKind::Folder
            | EntryKind::Symlink
            | EntryKind::CharDevice
            | EntryKind::BlockDevice
            | EntryKind::Fifo => None,
        };
        // Most entries are new files.
        if entry.kind == EntryKind::File {
            match Tree::create_file(parent, name) {
                Ok(file) => return self.fill(file, entry, content).map(|()| false),
                Err(Errno::EXIST) => {}
                Err(e) => return Err(fail(e)),
            }
        }
        let found = look(parent, name).map_err(fail)?;
        let keep = found == Some(Found::Folder) && entry.kind == EntryKind::Folder;
        let replaced = found.is_some() && !keep;
        if replaced {
            clear(parent, name, found).map_err(|e| failed(&entry.path, e))?;
            self.content = None;
        }
        let device = |kind| {
            let (major, minor) = entry.device;
            mknodat(parent, name, kind, mode(entry), makedev(major, minor))?;
            chownat(parent, name, uid(entry), gid(entry), AtFlags::SYMLINK_NOFOLLOW)?;
            chmodat(parent, name, mode(entry), AtFlags::empty())?;
            utimensat(parent, name, &times(entry.mtime), AtFlags::SYMLINK_NOFOLLOW)
        };
        match entry.kind {
            EntryKind::File => {
                let file = Tree::create_file(parent, name).map_err(fail)?;
                self.fill(file, entry, content)
            }
            EntryKind::Folder => {
                if !keep {
                    make_folder(parent, name).map_err(fail)?;
                }
                let folder = Tree::open_folder(parent, name).map_err(fail)?;
                // A folder in the place of a whiteout hides what is below, too.
                if found == Some(Found::Whiteout) {
                    mark_opaque(&folder).map_err(fail)?;
                }
                attributes(&folder, entry)
            }
            EntryKind::Symlink => symlinkat(&entry.link[..], parent, name)
                .and_then(|()| {
                    chownat(parent, name, uid(entry), gid(entry), AtFlags::SYMLINK_NOFOLLOW)
                })
                .and_then(|()| {
                    utimensat(parent, name, &times(entry.mtime), AtFlags::SYMLINK_NOFOLLOW)
                })
                .map_err(fail),
            EntryKind::HardLink => target.map_or(Ok(()), |(folder, target)| {
                linkat(&folder, &target[..], parent, name, AtFlags::empty()).map_err(fail)
            }),
            EntryKind::CharDevice => device(FileType::CharacterDevice).map_err(fail),
            EntryKind::BlockDevice => device(FileType::BlockDevice).map_err(fail),
            EntryKind::Fifo => device(FileType::Fifo).map_err(fail),
        }?;
        Ok(replaced)
    }

    /// Gives a new file its content and attributes.
    fn fill(
        &mut self,
        mut file: File,
        entry: &Entry,
        content: &mut impl Read,
    ) -> Result<(), LayerError> {
        let sum = copy(content, &mut file, entry, self.room)?;
        self.content = self.content.map(|content| content.wrapping_add(sum));
        attributes(&file, entry)?;
        futimens(&file, &times(entry.mtime)).map_err(|e| failed(&entry.path, e.into()))
    }

    /// Sets the times of folders that are still folders.
    fn finish(&mut self) -> Result<(), LayerError> {
        let mut records = self.folders.read().map_err(|e| failed(b".", e))?;
        while let Some((path, mtime)) = next_folder(&mut records).map_err(|e| failed(b".", e))? {
            let names: Vec<&[u8]> =
                path.split(|b| *b == b'/').filter(|name| !name.is_empty()).collect();
            let folder = match names.split_last() {
                Some((name, parents)) => self
                    .tree
                    .folder(parents)
                    .and_then(|parent| Tree::open_folder(parent.as_fd(), name)),
                None => self.tree.folder(&[]).and_then(|d| Tree::open_folder(d.as_fd(), b".")),
            };
            match folder.and_then(|folder| futimens(&folder, &times(mtime))) {
                Ok(()) | Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
                Err(e) => return Err(failed(&path, e.into())),
            }
        }
        Ok(())
    }
}

/// A folder's path and its time of change, in seconds and nanoseconds.
type Record = (Vec<u8>, (i64, u32));

/// Times of folders, set at the end because each new name in them changes them. They are in a file:
/// a layer may have hundred thousands.
struct Folders {
    file: BufWriter<File>,
    bytes: usize,
}

impl Folders {
    fn new(scratch: &Path) -> io::Result<Self> {
        Ok(Self { file: BufWriter::new(nameless(scratch)?), bytes: 0 })
    }

    /// False when there are too many.
    fn add(&mut self, path: &[u8], (seconds, nanos): (i64, u32)) -> io::Result<bool> {
        let length = u32::try_from(path.len()).unwrap_or(u32::MAX);
        self.bytes += RECORD_BYTES + path.len();
        self.file.write_all(&seconds.to_le_bytes())?;
        self.file.write_all(&nanos.to_le_bytes())?;
        self.file.write_all(&length.to_le_bytes())?;
        self.file.write_all(path)?;
        Ok(self.bytes <= LAYER_DIRS_MAX_BYTES)
    }

    /// All records from the first one on.
    fn read(&mut self) -> io::Result<BufReader<&File>> {
        self.file.rewind()?;
        Ok(BufReader::new(self.file.get_ref()))
    }
}

fn next_folder(records: &mut impl BufRead) -> io::Result<Option<Record>> {
    if records.fill_buf()?.is_empty() {
        return Ok(None);
    }
    let (mut seconds, mut nanos, mut length) = ([0; 8], [0; 4], [0; 4]);
    records.read_exact(&mut seconds)?;
    records.read_exact(&mut nanos)?;
    records.read_exact(&mut length)?;
    let mut path = vec![0; u32::from_le_bytes(length) as usize];
    records.read_exact(&mut path)?;
    Ok(Some((path, (i64::from_le_bytes(seconds), u32::from_le_bytes(nanos)))))
}

/// Owner before mode, for a change of owner clears set-id bits and capabilities.
fn attributes(file: &File, entry: &Entry) -> Result<(), LayerError> {
    rustix::fs::fchown(file, uid(entry), gid(entry))
        .and_then(|()| rustix::fs::fchmod(file, mode(entry)))
        .map_err(|e| failed(&entry.path, e.into()))?;
    for (name, value) in &entry.xattrs {
        if is_kept(name) {
            match fsetxattr(file, &name[..], value, XattrFlags::empty()) {
                // moby `pkg/archive/archive.go`, `createTarFile`.
                Ok(()) | Err(Errno::NOTSUP) => {}
                // A file has room for so many; the disk may have plenty.
                Err(Errno::NOSPC | Errno::TOOBIG | Errno::RANGE) if !is_full(file) => {
                    return Err(LayerError::Attribute {
                        path: printable(&entry.path),
                        name: printable(name),
                        bytes: value.len(),
                    });
                }
                Err(e) => return Err(failed(&entry.path, e.into())),
            }
        }
    }
    Ok(())
}

/// Whether the file system has no block left.
fn is_full(file: &File) -> bool {
    fstatvfs(file).is_ok_and(|stat| stat.f_bavail == 0)
}

fn is_kept(name: &[u8]) -> bool {
    (name.starts_with(b"user.") && !name.starts_with(b"user.overlay."))
        || matches!(
            name,
            b"security.capability" | b"system.posix_acl_access" | b"system.posix_acl_default"
        )
}

/// Hides everything of lower layers in the folder.
fn mark_opaque(folder: &File) -> Result<(), Errno> {
    match fsetxattr(folder, c"trusted.overlay.opaque", b"y", XattrFlags::empty()) {
        Err(Errno::NOTSUP | Errno::PERM) => mark(folder.as_fd(), OPAQUE),
        result => result,
    }
}

fn set_opaque(folder: BorrowedFd<'_>) -> Result<(), Errno> {
    mark_opaque(&Tree::open_folder(folder, b".")?)
}

/// Hides `name` of lower layers. What this layer itself has there stays: whiteouts are about
/// lower layers only, in whatever order they come (image-spec `layer.md`, "Whiteouts").
fn hide(parent: BorrowedFd<'_>, name: &[u8]) -> Result<(), Errno> {
    match look(parent, name)? {
        None => {
            let kind = FileType::CharacterDevice;
            match mknodat(parent, name, kind, Mode::empty(), makedev(0, 0)) {
                // FAT; overlayfs itself.
                Err(Errno::PERM | Errno::OPNOTSUPP | Errno::INVAL) => {
                    mark(parent, &[WHITEOUT, name].concat())
                }
                result => result,
            }
        }
        Some(Found::Folder) => mark_opaque(&Tree::open_folder(parent, name)?),
        Some(Found::Whiteout | Found::Other) => Ok(()),
    }
}

/// Leaves a mark as a file, for a storage without the marks of overlayfs.
fn mark(folder: BorrowedFd<'_>, name: &[u8]) -> Result<(), Errno> {
    match Tree::create_file(folder, name) {
        Ok(_) | Err(Errno::EXIST) => Ok(()),
        Err(e) => Err(e),
    }
}

fn clear(parent: BorrowedFd<'_>, name: &[u8], found: Option<Found>) -> io::Result<()> {
    if found == Some(Found::Folder) {
        Ok(files::remove_at(parent, &CString::new(name)?)?)
    } else {
        unlinkat(parent, name, AtFlags::empty()).map_err(io::Error::from)
    }
}

/// Writes a file's content; gives its part of the layer's sum.
fn copy(
    content: &mut impl Read,
    file: &mut File,
    entry: &Entry,
    room: Room,
) -> Result<u64, LayerError> {
    let whole = [(0, entry.size)];
    let mut buffer = [0; 32 << 10];
    let (mut crc, mut at, mut waiting) = (Crc::new(), 0, 0);
    for (offset, length) in entry.sparse.as_deref().unwrap_or(&whole) {
        skip(&mut crc, offset.saturating_sub(at));
        if at != *offset {
            file.seek(SeekFrom::Start(*offset)).map_err(|e| failed(&entry.path, e))?;
        }
        let mut left = *length;
        while 0 < left {
            let most = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
            let n = match content.read(buffer.get_mut(..most).unwrap_or_default()) {
                Ok(0) => return Err(LayerError::Tar(TarError::Truncated)),
                Ok(n) => n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(LayerError::Tar(TarError::Read(e))),
            };
            let bytes = buffer.get(..n).unwrap_or_default();
            crc.update(bytes);
            file.write_all(bytes).map_err(|e| failed(&entry.path, e))?;
            left = left.saturating_sub(n as u64);
            waiting += n;
            if LAYER_WRITE_BACK_BYTES <= waiting {
                waiting = 0;
                crate::sys::start_write_back(&*file);
                room.check(file.as_fd())?;
            }
        }
        at = offset.saturating_add(*length);
    }
    if entry.sparse.is_some() {
        skip(&mut crc, entry.size.saturating_sub(at));
        // The hole at the end.
        file.set_len(entry.size).map_err(|e| failed(&entry.path, e))?;
    }
    Ok(sums::of_content(&crc, entry.size))
}

/// Counts the zeros of a hole.
fn skip(crc: &mut Crc, mut zeros: u64) {
    const ZEROS: [u8; 4096] = [0; 4096];
    while 0 < zeros {
        let n = usize::try_from(zeros).unwrap_or(usize::MAX).min(ZEROS.len());
        crc.update(ZEROS.get(..n).unwrap_or_default());
        zeros = zeros.saturating_sub(n as u64);
    }
}

/// The names of a path from the root; `..` is resolved as text, as Docker does.
fn clean(path: &[u8]) -> Result<Vec<&[u8]>, LayerError> {
    let mut names: Vec<&[u8]> = Vec::new();
    for name in path.split(|b| *b == b'/') {
        match name {
            b"" | b"." => {}
            b".." => {
                names.pop().ok_or_else(|| LayerError::Escape { path: printable(path) })?;
            }
            name => names.push(name),
        }
    }
    Ok(names)
}

fn times((seconds, nanos): (i64, u32)) -> Timestamps {
    let time = Timespec { tv_sec: seconds, tv_nsec: nanos.into() };
    Timestamps { last_access: time, last_modification: time }
}

const fn mode(entry: &Entry) -> Mode {
    Mode::from_bits_truncate(entry.mode)
}

/// None leaves it as it is, as -1 does for the kernel.
fn uid(entry: &Entry) -> Option<Uid> {
    (entry.uid != u32::MAX).then(|| Uid::from_raw(entry.uid))
}

fn gid(entry: &Entry) -> Option<Gid> {
    (entry.gid != u32::MAX).then(|| Gid::from_raw(entry.gid))
}

fn printable(path: &[u8]) -> String {
    path.escape_ascii().to_string().chars().take(200).collect()
}

fn failed(path: &[u8], source: io::Error) -> LayerError {
    LayerError::Entry { path: printable(path), source }
}

#[cfg(test)]
#[path = "layer_tests.rs"]
mod tests;
