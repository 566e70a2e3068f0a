//! The local image store: what is complete, verified and durable, by digest.
//!
//! ```text
//! <root>/lock                    shared by fetch children, exclusive for cleaning
//! <root>/tmp/                    work in progress; swept when nobody fetches
//! <root>/partial/                downloads that are gone on with
//! <root>/blobs/sha256/<hex>      manifests and configurations, by their digests
//! <root>/layers/<hex>/           an unpacked layer, by diff id
//! <root>/layers/<hex>.sums       what it must look like (`sums`)
//! <root>/layers/<hex>.<n>.damaged/  one that looks otherwise, for containers that lie on it
//! <root>/names/<hex>             a name record, by the digest of the reference; its time of
//!                                change is that of the last use, to a day
//! ```
//! Everything appears by a rename after its bytes are on the medium, so that whatever has its
//! final name is whole; storage that breaks its promises is found out by the sums. Stores of the
//! same form may lie below, read-only: what they have is used where it is. It neither fetches
//! nor unpacks; `child` does, and `garbage` takes away.

use core::fmt;
use std::{
    fs::{self, File},
    io::{self, Read, Write},
    os::{
        fd::AsFd,
        unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{FlockOperation, Timespec, Timestamps, flock, futimens},
    io::Errno,
};
use serde::{Deserialize, Serialize};

use super::{
    digest::Digest,
    manifest::{Configuration, Document, Manifest},
    reference::Reference,
    sums::{self, Sums},
};
use crate::{
    files,
    limits::{IMAGE_CONFIG_MAX_BYTES, IMAGE_USE_GRAIN, MANIFEST_MAX_BYTES},
    model::{LocalImage, UnixTime},
};

/// Why the store can not do what was asked.
#[derive(Debug)]
pub enum StoreError {
    /// A file or folder of the store can not be used.
    Io {
        /// Which.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Images are being fetched; clean up later.
    Busy,
    /// Images would take more than `image-quota` allows.
    Quota {
        /// Bytes.
        quota: u64,
    },
}

/// What is wrong with the storage below a store, where the kernel's answer alone tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ailment {
    /// No room, or no room for this user.
    Full,
    /// Mounted so, or turned so by the kernel.
    ReadOnly,
    /// It does not keep or give back what it should.
    Failing,
    /// The agent may not write there.
    Forbidden,
}

impl Ailment {
    /// What the kernel's answer means, if it is about the storage as a whole.
    pub(super) fn of(answer: &io::Error) -> Option<Self> {
        match Errno::from_io_error(answer)? {
            Errno::NOSPC | Errno::DQUOT => Some(Self::Full),
            Errno::ROFS => Some(Self::ReadOnly),
            Errno::IO | Errno::NODEV | Errno::NXIO => Some(Self::Failing),
            Errno::ACCESS => Some(Self::Forbidden),
            _ => None,
        }
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { path, source } => {
                let path = path.display();
                match Ailment::of(source) {
                    Some(Ailment::Full) => write!(
                        f,
                        "no space left for images in {path}; free some with `edgeagent image prune`"
                    ),
                    Some(Ailment::ReadOnly) => write!(
                        f,
                        "images can not be written, {path} is read-only; mount it writable, and \
                         look with `dmesg` whether the kernel made it so after an error"
                    ),
                    Some(Ailment::Failing) => write!(
                        f,
                        "the storage of images fails at {path}; see `dmesg`, and replace the card \
                         or disk when it is worn out"
                    ),
                    Some(Ailment::Forbidden) => {
                        write!(f, "image store may not use {path}; edgeagent must run as root")
                    }
                    None => write!(f, "image store can not use {path}"),
                }
            }
            Self::Quota { quota } => write!(
                f,
                "images would take more than the image-quota of {quota} bytes; remove some with \
                 `edgeagent image rm` and `edgeagent image prune`, or raise it"
            ),
            Self::Busy => f.write_str("images are being fetched; try again when that is done"),
        }
    }
}

impl core::error::Error for StoreError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            Self::Busy | Self::Quota { .. } => None,
        }
    }
}

/// A name and the image that it means.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct NameRecord {
    /// [`Reference::canonical`].
    pub(super) reference: String,
    /// What the registry keeps under the name: the manifest, or the index that led to it.
    pub(super) target: Digest,
    /// The manifest.
    pub(super) manifest: Digest,
    /// The configuration: the image id.
    pub(super) id: Digest,
    /// From an archive: nothing could bring it back.
    #[serde(default)]
    pub(super) loaded: bool,
}

/// A name of the store, as `image ls` shows it.
#[derive(Clone, Debug, PartialEq)]
pub struct Listed {
    /// The name.
    pub reference: Reference,
    /// The image id, `sha256:…`.
    pub id: String,
    /// The image; absent when it is damaged, and the next use pulls it again.
    pub image: Option<LocalImage>,
    /// The last use, to a day.
    pub used: UnixTime,
    /// It lies in a store below this one, which is never changed.
    pub read_only: bool,
}

/// The store of one `data-root`.
#[derive(Clone, Debug)]
pub struct Store {
    root: PathBuf,
    /// Stores that are read only.
    below: Vec<Self>,
}

/// Keeps [`Store::prune`] away while it lives.
#[derive(Debug)]
pub(super) struct FetchLock(#[expect(dead_code, reason = "closing it unlocks")] File);

impl Store {
    /// Opens the store in `root`, such as `/var/lib/edgeagent/images`, and makes its folders.
    ///
    /// # Errors
    /// [`StoreError::Io`] when a folder can not be made.
    pub fn open(root: &Path) -> Result<Self, StoreError> {
        let store = Self { root: root.to_owned(), below: Vec::new() };
        for folder in ["tmp", "blobs/sha256", "layers", "names"] {
            let path = root.join(folder);
            fs::DirBuilder::new().recursive(true).mode(0o700).create(&path).map_err(at(&path))?;
        }
        Ok(store)
    }

    /// Lays it over those of `folders` that are stores, too (`additional-image-stores`). Nothing
    /// is ever written there.
    #[must_use]
    pub fn over(mut self, folders: &[PathBuf]) -> Self {
        let stores = folders.iter().filter(|folder| folder.join("layers").is_dir());
        self.below = stores.map(|root| Self { root: root.clone(), below: Vec::new() }).collect();
        self
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// The image that `reference` means here, when it is complete. A damaged or incomplete one
    /// counts as absent, with a warning, so that a pull repairs it.
    ///
    /// # Errors
    /// [`StoreError::Io`] when the store can not be read.
    pub fn find(&self, reference: &Reference) -> Result<Option<LocalImage>, StoreError> {
        let records = if reference.digest().is_some() || reference.image_id().is_some() {
            self.records()?.into_iter().filter(|record| means(reference, record)).collect()
        } else {
            self.record(&self.name_path(&reference.canonical()))?.into_iter().collect::<Vec<_>>()
        };
        for record in records {
            if let Some(image) = self.image(&record)? {
                return Ok(Some(image));
            }
        }
        for store in &self.below {
            if let Some(image) = store.find(reference)? {
                return Ok(Some(image));
            }
        }
        Ok(None)
    }

    /// Every name, in order; those of the stores below after its own.
    ///
    /// # Errors
    /// [`StoreError::Io`] when the store can not be read.
    pub fn list(&self) -> Result<Vec<Listed>, StoreError> {
        let mut listed = Vec::new();
        for record in self.records()? {
            let Ok(reference) = Reference::parse(&record.reference) else { continue };
            let path = self.name_path(&record.reference);
            let used = fs::metadata(&path).map_err(at(&path))?.mtime();
            let mut image = self.image(&record)?;
            if image.as_ref().is_some_and(|image| !self.are_sound(&image.layers)) {
                image = None;
            }
            listed.push(Listed {
                reference,
                id: record.id.to_string(),
                image,
                used: UnixTime::from_seconds(used),
                read_only: false,
            });
        }
        for store in &self.below {
            listed.extend(store.list()?.into_iter().map(|one| Listed { read_only: true, ..one }));
        }
        Ok(listed)
    }

    /// Whether all these layers of its own, or of stores below, look as they must. Reads no
    /// content, but every folder. One that does not is set aside, and its images count as absent
    /// from then on, so that a pull repairs them.
    #[must_use]
    pub fn are_sound(&self, layers: &[PathBuf]) -> bool {
        let mut sound = true;
        for layer in layers {
            let store = self.below.iter().find(|store| layer.starts_with(&store.root));
            let id = layer.file_name().and_then(|name| name.to_str());
            let Some(id) = id.and_then(|id| Digest::from_hex(id).ok()) else { return false };
            sound &= match store {
                Some(store) => store.is_sound(&id, false),
                None => self.keep_if_sound(&id, false),
            };
        }
        sound
    }

    /// The same for all layers of its own, reading every file. Returns how many were set aside.
    ///
    /// # Errors
    /// [`StoreError::Io`] when the store can not be read.
    pub fn verify(&self) -> Result<usize, StoreError> {
        let layers = self.digests_in("layers")?;
        Ok(layers.iter().filter(|layer| !self.keep_if_sound(layer, true)).count())
    }

    /// Notes that an image is used. At most one write a day.
    ///
    /// # Errors
    /// [`StoreError::Io`] when the store can not be changed.
    pub fn touch(&self, image: &LocalImage, now: UnixTime) -> Result<(), StoreError> {
        for record in self.records()? {
            if record.manifest.to_string() != image.manifest {
                continue;
            }
            let path = self.name_path(&record.reference);
            let file = File::open(&path).map_err(at(&path))?;
            let used = file.metadata().map_err(at(&path))?.mtime();
            let grain = i64::try_from(IMAGE_USE_GRAIN.as_secs()).unwrap_or(i64::MAX);
            if grain <= now.seconds().saturating_sub(used) {
                let time = Timespec { tv_sec: now.seconds(), tv_nsec: 0 };
                let times = Timestamps { last_access: time, last_modification: time };
                futimens(&file, &times).map_err(|e| at(&path)(e.into()))?;
            }
        }
        Ok(())
    }

    /// Forgets a name, or all names of an image id. Layers stay until [`Self::prune`].
    /// Returns whether there was one.
    ///
    /// # Errors
    /// [`StoreError::Io`] when a record can not be removed.
    pub fn remove(&self, reference: &Reference) -> Result<bool, StoreError> {
        let by_digest = reference.digest().is_some() || reference.image_id().is_some();
        let mut removed = false;
        for record in self.records()? {
            if (by_digest && means(reference, &record)) || record.reference == reference.canonical()
            {
                let path = self.name_path(&record.reference);
                fs::remove_file(&path).map_err(at(&path))?;
                removed = true;
            }
        }
        sync_folder(&self.root.join("names"))?;
        Ok(removed)
    }

    /// Announces a fetch: waits while someone cleans, and sweeps leftovers when nobody else
    /// fetches.
    pub(super) fn lock_to_fetch(&self) -> Result<FetchLock, StoreError> {
        if let Some(lock) = self.lock_to_clean()? {
            self.sweep()?;
            drop(lock);
        }
        let (path, file) = self.lock_file()?;
        flock(&file, FlockOperation::LockShared).map_err(|e| at(&path)(e.into()))?;
        Ok(FetchLock(file))
    }

    pub(super) fn lock_to_clean(&self) -> Result<Option<FetchLock>, StoreError> {
        let (path, file) = self.lock_file()?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(FetchLock(file))),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(errno) => Err(at(&path)(errno.into())),
        }
    }

    fn lock_file(&self) -> Result<(PathBuf, File), StoreError> {
        let path = self.root.join("lock");
        let mut options = File::options();
        options.create(true).truncate(false).write(true).mode(0o600);
        let file = options.open(&path).map_err(at(&path))?;
        Ok((path, file))
    }

    /// Makes a folder of one's own below `tmp`.
    pub(super) fn temporary_folder(&self) -> Result<PathBuf, StoreError> {
        let pid = std::process::id();
        let mut n = 0_u32;
        loop {
            let path = self.root.join("tmp").join(format!("{pid}-{n}"));
            match fs::DirBuilder::new().mode(0o755).create(&path) {
                Ok(()) => return Ok(path),
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => n = n.wrapping_add(1),
                Err(e) => return Err(at(&path)(e)),
            }
        }
    }

    /// Whether the layer is here or in a store below, and looks as it must.
    pub(super) fn has_sound_layer(&self, diff_id: &Digest) -> bool {
        (self.layer_path(diff_id).is_dir() && self.keep_if_sound(diff_id, false))
            || self.below.iter().any(|store| store.is_sound(diff_id, false))
    }

    fn keep_if_sound(&self, diff_id: &Digest, read: bool) -> bool {
        let sound = self.is_sound(diff_id, read);
        if !sound && let Err(e) = self.set_aside(diff_id) {
            log::warn!("damaged layer stays layer={diff_id} error={e}");
        }
        sound
    }

    fn is_sound(&self, diff_id: &Digest, read: bool) -> bool {
        let path = self.layer_path(diff_id);
        let found = File::open(&path).and_then(|folder| {
            if read {
                sums::all(folder.as_fd()).map(|(shape, content)| (shape, Some(content)))
            } else {
                sums::shape(folder.as_fd()).map(|shape| (shape, None))
            }
        });
        let sound = match (&found, self.sums(diff_id)) {
            (Ok((shape, content)), Some(sums)) => {
                *shape == sums.shape && content.zip(sums.content).is_none_or(|(a, b)| a == b)
            }
            (Ok(_) | Err(_), _) => false,
        };
        if !sound {
            log::warn!("layer is damaged path={}", path.display());
        }
        sound
    }

    /// Takes a layer out of sight. It is not deleted: a container may lie on it.
    fn set_aside(&self, diff_id: &Digest) -> Result<(), StoreError> {
        let path = self.layer_path(diff_id);
        let mut n = 0_u32;
        loop {
            let aside = self.root.join("layers").join(format!("{}.{n}.damaged", diff_id.hex()));
            if !aside.exists() {
                fs::rename(&path, &aside).map_err(at(&path))?;
                return sync_folder(&self.root.join("layers"));
            }
            n = n.wrapping_add(1);
        }
    }

    /// Makes a verified tree visible as a layer. The tree must be of
    /// [`Self::temporary_folder`].
    pub(super) fn publish_layer(
        &self,
        tree: &Path,
        diff_id: &Digest,
        sums: &Sums,
    ) -> Result<(), StoreError> {
        let folder = File::open(tree).map_err(at(tree))?;
        self.write_durably(&self.sums_path(diff_id), sums.to_string().as_bytes())?;
        rustix::fs::syncfs(&folder).map_err(|e| at(tree)(e.into()))?;
        let path = self.layer_path(diff_id);
        match fs::rename(tree, &path) {
            Ok(()) => sync_folder(&self.root.join("layers")),
            // Another fetch was faster; both trees are of the same verified bytes.
            Err(_) if path.is_dir() => {
                self.discard(tree);
                Ok(())
            }
            Err(e) => Err(at(&path)(e)),
        }
    }

    /// Keeps a manifest or configuration.
    pub(super) fn publish_blob(&self, bytes: &[u8]) -> Result<Digest, StoreError> {
        let digest = Digest::of(bytes);
        self.publish_as(&digest, bytes)?;
        Ok(digest)
    }

    /// Keeps one under the digest that it was verified by.
    pub(super) fn publish_as(&self, digest: &Digest, bytes: &[u8]) -> Result<(), StoreError> {
        self.write_durably(&self.blob_path(digest), bytes)
    }

    /// Gives an image a name, which makes it visible to [`Self::find`].
    pub(super) fn publish_name(&self, record: &NameRecord) -> Result<(), StoreError> {
        let path = self.name_path(&record.reference);
        let json = serde_json::to_vec(record)
            .map_err(|e| at(&path)(io::Error::new(io::ErrorKind::InvalidData, e)))?;
        self.write_durably(&path, &json)
    }

    fn write_durably(&self, path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
        let folder = self.temporary_folder()?;
        let draft = folder.join("draft");
        let write = || -> io::Result<()> {
            let mut options = File::options();
            let mut file = options.create_new(true).write(true).mode(0o600).open(&draft)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&draft, path)
        };
        let written = write().map_err(at(path));
        let cleaned = files::remove_tree(&folder).map_err(|e| at(&folder)(e.into()));
        written.and(cleaned)?;
        path.parent().map_or(Ok(()), sync_folder)
    }

    fn image(&self, record: &NameRecord) -> Result<Option<LocalImage>, StoreError> {
        let Some((manifest, configuration)) = self.parts(&record.manifest)? else {
            log::warn!("image is damaged and counts as absent image={}", record.reference);
            return Ok(None);
        };
        if let Some(missing) = configuration.diff_ids.iter().find(|id| self.layer(id).is_none()) {
            log::warn!("image lacks a layer image={} layer={missing}", record.reference);
            return Ok(None);
        }
        let sizes = configuration.diff_ids.iter().map(|id| self.layer_size(id));
        let layers = configuration.diff_ids.iter().filter_map(|id| self.layer(id));
        Ok(Some(LocalImage {
            manifest: record.manifest.to_string(),
            id: manifest.config.digest.to_string(),
            size_bytes: sizes.fold(0, u64::saturating_add),
            layers: layers.collect(),
            platform: configuration.platform,
            config: configuration.config,
        }))
    }

    /// Manifest and configuration, both verified; none when one is absent or damaged.
    pub(super) fn parts(
        &self,
        digest: &Digest,
    ) -> Result<Option<(Manifest, Configuration)>, StoreError> {
        let Some(bytes) = self.blob(digest, MANIFEST_MAX_BYTES)? else { return Ok(None) };
        let Ok(Document::Manifest(manifest)) = Document::parse(&bytes) else { return Ok(None) };
        let Some(bytes) = self.blob(&manifest.config.digest, IMAGE_CONFIG_MAX_BYTES)? else {
            return Ok(None);
        };
        let configuration = Configuration::parse(&bytes).ok();
        Ok(configuration.map(|configuration| (manifest, configuration)))
    }

    fn blob(&self, digest: &Digest, max: usize) -> Result<Option<Vec<u8>>, StoreError> {
        let bytes = read_bounded(&self.blob_path(digest), max)?;
        Ok(bytes.filter(|bytes| digest.of_same(bytes) == *digest))
    }

    pub(super) fn records(&self) -> Result<Vec<NameRecord>, StoreError> {
        let folder = self.root.join("names");
        let mut records = Vec::new();
        for entry in fs::read_dir(&folder).map_err(at(&folder))? {
            let path = entry.map_err(at(&folder))?.path();
            records.extend(self.record(&path)?);
        }
        records.sort_by(|a, b| a.reference.cmp(&b.reference));
        Ok(records)
    }

    fn record(&self, path: &Path) -> Result<Option<NameRecord>, StoreError> {
        let Some(bytes) = read_bounded(path, 4096)? else { return Ok(None) };
        let record: Option<NameRecord> = serde_json::from_slice(&bytes).ok();
        // A record under another name than its own would shadow that one.
        let record = record.filter(|record| self.name_path(&record.reference) == path);
        if record.is_none() {
            log::warn!("image name record is damaged and counts as absent path={}", path.display());
        }
        Ok(record)
    }

    pub(super) fn digests_in(&self, folder: &str) -> Result<Vec<Digest>, StoreError> {
        let folder = self.root.join(folder);
        let mut digests = Vec::new();
        for entry in fs::read_dir(&folder).map_err(at(&folder))? {
            let name = entry.map_err(at(&folder))?.file_name();
            digests.extend(name.to_str().and_then(|name| Digest::from_hex(name).ok()));
        }
        Ok(digests)
    }

    /// Whether a store below has the manifest.
    pub(super) fn is_shared(&self, manifest: &str) -> Result<bool, StoreError> {
        let Ok(digest) = Digest::parse(manifest) else { return Ok(false) };
        for store in &self.below {
            if store.parts(&digest)?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The folder of a layer, its own or of a store below.
    pub(super) fn layer(&self, diff_id: &Digest) -> Option<PathBuf> {
        let path = self.layer_path(diff_id);
        if path.is_dir() {
            return Some(path);
        }
        self.below.iter().find_map(|store| store.layer(diff_id))
    }

    fn sums(&self, diff_id: &Digest) -> Option<Sums> {
        let text = read_bounded(&self.sums_path(diff_id), 128).ok()??;
        Sums::parse(core::str::from_utf8(&text).ok()?)
    }

    pub(super) fn layer_size(&self, diff_id: &Digest) -> u64 {
        match self.sums(diff_id) {
            Some(sums) => sums.bytes,
            None => self.below.iter().map(|store| store.layer_size(diff_id)).max().unwrap_or(0),
        }
    }

    pub(super) fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.root.join("blobs/sha256").join(digest.hex())
    }

    pub(super) fn layer_path(&self, diff_id: &Digest) -> PathBuf {
        self.root.join("layers").join(diff_id.hex())
    }

    pub(super) fn sums_path(&self, diff_id: &Digest) -> PathBuf {
        self.root.join("layers").join(format!("{}.sums", diff_id.hex()))
    }

    pub(super) fn name_path(&self, canonical: &str) -> PathBuf {
        self.root.join("names").join(Digest::of(canonical.as_bytes()).hex())
    }
}

/// Whether `reference`, by digest or image id, means the image of `record`. A name that was
/// pulled by tag is also known by the digest that the tag had.
fn means(reference: &Reference, record: &NameRecord) -> bool {
    if let Some(id) = reference.image_id() {
        return record.id == *id;
    }
    let same_repository = Reference::parse(&record.reference).is_ok_and(|named| {
        named.domain() == reference.domain() && named.path() == reference.path()
    });
    same_repository
        && reference.digest().is_some_and(|d| record.target == *d || record.manifest == *d)
}

pub(super) fn at(path: &Path) -> impl Fn(io::Error) -> StoreError + use<> {
    let path = path.to_owned();
    move |source| StoreError::Io { path: path.clone(), source }
}

pub(super) fn sync_folder(path: &Path) -> Result<(), StoreError> {
    File::open(path).and_then(|folder| folder.sync_all()).map_err(at(path))
}

pub(super) fn remove_if_there(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(at(path)(e)),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// The whole file; none when it is absent or larger than `max` bytes.
fn read_bounded(path: &Path, max: usize) -> Result<Option<Vec<u8>>, StoreError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(at(path)(e)),
    };
    let mut bytes = Vec::new();
    file.take(max as u64 + 1).read_to_end(&mut bytes).map_err(at(path))?;
    Ok((bytes.len() <= max).then_some(bytes))
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
