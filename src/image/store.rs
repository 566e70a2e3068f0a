//! The local image store: what is complete, verified and durable, by digest.
//!
//! ```text
//! <root>/lock                    shared by fetch children, exclusive for cleaning
//! <root>/tmp/                    work in progress; swept when nobody fetches
//! <root>/blobs/sha256/<hex>      manifests and configurations
//! <root>/layers/<hex>/           an unpacked layer, by diff id
//! <root>/layers/<hex>.size       its size in bytes, decimal
//! <root>/names/<hex>             a name record, by the digest of the reference
//! ```
//! Everything appears by a rename after its bytes are on the medium, so that whatever has its
//! final name is whole. It neither fetches nor unpacks; `child` does.

use core::fmt;
use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use super::{
    digest::Digest,
    manifest::{Configuration, Document, Manifest},
    reference::Reference,
};
use crate::{
    limits::{IMAGE_CONFIG_MAX_BYTES, MANIFEST_MAX_BYTES},
    model::LocalImage,
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
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { path, source } if source.kind() == io::ErrorKind::StorageFull => write!(
                f,
                "no space left for images in {}; free some with `edgeagent image prune`",
                path.display()
            ),
            Self::Io { path, .. } => write!(f, "image store can not use {}", path.display()),
            Self::Busy => f.write_str("images are being fetched; try again when that is done"),
        }
    }
}

impl core::error::Error for StoreError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            Self::Busy => None,
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
}

/// What [`Store::prune`] took away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Layers.
    pub layers: u64,
    /// Their unpacked size in bytes.
    pub bytes: u64,
}

/// The store of one `data-root`.
#[derive(Debug)]
pub struct Store {
    root: PathBuf,
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
        let store = Self { root: root.to_owned() };
        for folder in ["tmp", "blobs/sha256", "layers", "names"] {
            let path = root.join(folder);
            fs::DirBuilder::new().recursive(true).mode(0o700).create(&path).map_err(at(&path))?;
        }
        Ok(store)
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
        Ok(None)
    }

    /// Every name with its image, in order of names. Damaged images are left out.
    ///
    /// # Errors
    /// [`StoreError::Io`] when the store can not be read.
    pub fn list(&self) -> Result<Vec<(Reference, LocalImage)>, StoreError> {
        let mut images = Vec::new();
        for record in self.records()? {
            let Ok(reference) = Reference::parse(&record.reference) else { continue };
            if let Some(image) = self.image(&record)? {
                images.push((reference, image));
            }
        }
        Ok(images)
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

    /// Takes away layers and blobs that neither a name nor a manifest of `in_use`
    /// (`sha256:…`) needs, and that are not `mounted`. When a manifest in use can not be read, no
    /// layer is taken away.
    ///
    /// # Errors
    /// [`StoreError::Busy`] while images are fetched, [`StoreError::Io`] when the store can not
    /// be changed.
    pub fn prune(
        &self,
        in_use: &BTreeSet<String>,
        mounted: &BTreeSet<PathBuf>,
    ) -> Result<Pruned, StoreError> {
        let _lock = self.lock_to_clean()?.ok_or(StoreError::Busy)?;
        self.sweep()?;
        let mut blobs = BTreeSet::new();
        // By name only: a folder above may have two paths.
        let mut layers: BTreeSet<Digest> = mounted
            .iter()
            .filter_map(|layer| Digest::from_hex(layer.file_name()?.to_str()?).ok())
            .collect();
        let named = self.records()?.into_iter().map(|record| record.manifest.to_string());
        for manifest in named.chain(in_use.iter().cloned()) {
            let parts = match Digest::parse(&manifest) {
                Ok(digest) => self.parts(&digest)?.map(|parts| (digest, parts)),
                Err(_) => None,
            };
            match parts {
                Some((digest, (manifest, configuration))) => {
                    blobs.insert(digest);
                    blobs.insert(manifest.config.digest);
                    layers.extend(configuration.diff_ids);
                }
                None if in_use.contains(&manifest) => {
                    log::warn!("nothing pruned, an image in use is damaged manifest={manifest}");
                    return Ok(Pruned::default());
                }
                None => {}
            }
        }
        self.drop_unused(&blobs, &layers)
    }

    fn drop_unused(
        &self,
        blobs: &BTreeSet<Digest>,
        layers: &BTreeSet<Digest>,
    ) -> Result<Pruned, StoreError> {
        let mut pruned = Pruned::default();
        for digest in self.digests_in("layers")? {
            if !layers.contains(&digest) {
                let size = self.layer_size(&digest);
                // Renamed first: a half-deleted layer must not look whole.
                let doomed = self.root.join("tmp").join(digest.hex());
                let path = self.layer_path(&digest);
                fs::rename(&path, &doomed).map_err(at(&path))?;
                sync_folder(&self.root.join("layers"))?;
                remove_if_there(&self.size_path(&digest))?;
                pruned.layers += 1;
                pruned.bytes = pruned.bytes.saturating_add(size);
            }
        }
        for digest in self.digests_in("blobs/sha256")? {
            if !blobs.contains(&digest) {
                remove_if_there(&self.blob_path(&digest))?;
            }
        }
        self.sweep()?;
        Ok(pruned)
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

    fn lock_to_clean(&self) -> Result<Option<FetchLock>, StoreError> {
        let (path, file) = self.lock_file()?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(FetchLock(file))),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
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

    fn sweep(&self) -> Result<(), StoreError> {
        let tmp = self.root.join("tmp");
        for entry in fs::read_dir(&tmp).map_err(at(&tmp))? {
            let path = entry.map_err(at(&tmp))?.path();
            // A leftover that resists must not stop the fetches to come.
            if let Err(e) = fs::remove_dir_all(&path) {
                log::warn!("leftover of a fetch stays path={} error={e}", path.display());
            }
        }
        Ok(())
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

    /// Whether the layer is complete.
    pub(super) fn has_layer(&self, diff_id: &Digest) -> bool {
        self.layer_path(diff_id).is_dir()
    }

    /// Makes a verified tree visible as a layer. The tree must be of
    /// [`Self::temporary_folder`].
    pub(super) fn publish_layer(
        &self,
        tree: &Path,
        diff_id: &Digest,
        bytes: u64,
    ) -> Result<(), StoreError> {
        let folder = File::open(tree).map_err(at(tree))?;
        self.write_durably(&self.size_path(diff_id), bytes.to_string().as_bytes())?;
        rustix::fs::syncfs(&folder).map_err(|e| at(tree)(e.into()))?;
        let path = self.layer_path(diff_id);
        match fs::rename(tree, &path) {
            Ok(()) => sync_folder(&self.root.join("layers")),
            // Another fetch was faster; both trees are of the same verified bytes.
            Err(_) if path.is_dir() => fs::remove_dir_all(tree).map_err(at(tree)),
            Err(e) => Err(at(&path)(e)),
        }
    }

    /// Keeps a manifest or configuration.
    pub(super) fn publish_blob(&self, bytes: &[u8]) -> Result<Digest, StoreError> {
        let digest = Digest::of(bytes);
        self.write_durably(&self.blob_path(&digest), bytes)?;
        Ok(digest)
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
        let cleaned = fs::remove_dir_all(&folder).map_err(at(&folder));
        written.and(cleaned)?;
        path.parent().map_or(Ok(()), sync_folder)
    }

    fn image(&self, record: &NameRecord) -> Result<Option<LocalImage>, StoreError> {
        let Some((manifest, configuration)) = self.parts(&record.manifest)? else {
            log::warn!("image is damaged and counts as absent image={}", record.reference);
            return Ok(None);
        };
        if let Some(missing) = configuration.diff_ids.iter().find(|id| !self.has_layer(id)) {
            log::warn!("image lacks a layer image={} layer={missing}", record.reference);
            return Ok(None);
        }
        let sizes = configuration.diff_ids.iter().map(|id| self.layer_size(id));
        Ok(Some(LocalImage {
            manifest: record.manifest.to_string(),
            id: manifest.config.digest.to_string(),
            size_bytes: sizes.fold(0, u64::saturating_add),
            layers: configuration.diff_ids.iter().map(|id| self.layer_path(id)).collect(),
            platform: configuration.platform,
            config: configuration.config,
        }))
    }

    /// Manifest and configuration, both verified; none when one is absent or damaged.
    fn parts(&self, digest: &Digest) -> Result<Option<(Manifest, Configuration)>, StoreError> {
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
        Ok(bytes.filter(|bytes| Digest::of(bytes) == *digest))
    }

    fn records(&self) -> Result<Vec<NameRecord>, StoreError> {
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

    fn digests_in(&self, folder: &str) -> Result<Vec<Digest>, StoreError> {
        let folder = self.root.join(folder);
        let mut digests = Vec::new();
        for entry in fs::read_dir(&folder).map_err(at(&folder))? {
            let name = entry.map_err(at(&folder))?.file_name();
            digests.extend(name.to_str().and_then(|name| Digest::from_hex(name).ok()));
        }
        Ok(digests)
    }

    fn layer_size(&self, diff_id: &Digest) -> u64 {
        let text = read_bounded(&self.size_path(diff_id), 32).ok().flatten().unwrap_or_default();
        core::str::from_utf8(&text).ok().and_then(|text| text.parse().ok()).unwrap_or(0)
    }

    fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.root.join("blobs/sha256").join(digest.hex())
    }

    fn layer_path(&self, diff_id: &Digest) -> PathBuf {
        self.root.join("layers").join(diff_id.hex())
    }

    fn size_path(&self, diff_id: &Digest) -> PathBuf {
        self.root.join("layers").join(format!("{}.size", diff_id.hex()))
    }

    fn name_path(&self, canonical: &str) -> PathBuf {
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

fn at(path: &Path) -> impl Fn(io::Error) -> StoreError + use<> {
    let path = path.to_owned();
    move |source| StoreError::Io { path: path.clone(), source }
}

fn sync_folder(path: &Path) -> Result<(), StoreError> {
    File::open(path).and_then(|folder| folder.sync_all()).map_err(at(path))
}

fn remove_if_there(path: &Path) -> Result<(), StoreError> {
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
mod tests {
    use super::*;

    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let path =
                std::env::temp_dir().join(format!("edgeagent-store-{name}-{}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    /// Puts an image of one layer into the store.
    fn put(store: &Store, name: &str, content: &str) -> NameRecord {
        let diff_id = Digest::of(content.as_bytes());
        if !store.has_layer(&diff_id) {
            let tree = store.temporary_folder().unwrap();
            fs::write(tree.join("file"), content).unwrap();
            store.publish_layer(&tree, &diff_id, content.len() as u64).unwrap();
        }
        let config = format!(
            r#"{{"os":"linux","architecture":"amd64","config":{{"Labels":{{"n":"{content}"}}}},
            "rootfs":{{"type":"layers","diff_ids":["{diff_id}"]}}}}"#
        );
        let id = store.publish_blob(config.as_bytes()).unwrap();
        let manifest = format!(
            r#"{{"schemaVersion":2,"config":{{"digest":"{id}","size":{}}},
            "layers":[{{"digest":"{diff_id}","size":1}}]}}"#,
            config.len()
        );
        let manifest = store.publish_blob(manifest.as_bytes()).unwrap();
        let reference = Reference::parse(name).unwrap().canonical();
        let record = NameRecord { reference, target: Digest::of(b"index"), manifest, id };
        store.publish_name(&record).unwrap();
        record
    }

    #[test]
    fn an_image_is_found_by_tag_digest_and_id() {
        let scratch = Scratch::new("find");
        let store = Store::open(&scratch.0).unwrap();
        let record = put(&store, "a/b:1", "one");
        let find = |text: &str| store.find(&Reference::parse(text).unwrap()).unwrap();
        let image = find("a/b:1").unwrap();
        assert_eq!(image.manifest, record.manifest.to_string());
        assert_eq!(image.size_bytes, 3);
        assert_eq!(fs::read(image.layers[0].join("file")).unwrap(), b"one");
        for same in [
            format!("a/b@{}", record.manifest),
            format!("a/b:other@{}", record.target),
            record.id.to_string(),
        ] {
            assert_eq!(find(&same).as_ref(), Some(&image), "{same}");
        }
        for other in ["a/b:2".to_owned(), "a/b".to_owned(), format!("a/c@{}", record.manifest)] {
            assert_eq!(find(&other), None, "{other}");
        }
        assert_eq!(store.list().unwrap().len(), 1);
    }

    #[test]
    fn a_damaged_image_counts_as_absent() {
        let scratch = Scratch::new("damage");
        let store = Store::open(&scratch.0).unwrap();
        let record = put(&store, "a:1", "one");
        let reference = Reference::parse("a:1").unwrap();
        for path in [store.blob_path(&record.id), store.blob_path(&record.manifest)] {
            let good = fs::read(&path).unwrap();
            let mut bad = good.clone();
            bad[10] ^= 1;
            fs::write(&path, bad).unwrap();
            assert_eq!(store.find(&reference).unwrap(), None);
            fs::write(&path, good).unwrap();
            assert!(store.find(&reference).unwrap().is_some());
        }
        fs::remove_dir_all(store.layer_path(&Digest::of(b"one"))).unwrap();
        assert_eq!(store.find(&reference).unwrap(), None);
    }

    #[test]
    fn pruning_keeps_what_a_name_or_a_task_needs() {
        let scratch = Scratch::new("prune");
        let store = Store::open(&scratch.0).unwrap();
        put(&store, "named:1", "named");
        let used = put(&store, "used:1", "used");
        put(&store, "idle:1", "idle");
        for name in ["used:1", "idle:1"] {
            assert!(store.remove(&Reference::parse(name).unwrap()).unwrap());
            assert!(!store.remove(&Reference::parse(name).unwrap()).unwrap());
        }
        let in_use = BTreeSet::from([used.manifest.to_string()]);
        let none = BTreeSet::new();
        let fetching = store.lock_to_fetch().unwrap();
        assert!(matches!(store.prune(&in_use, &none), Err(StoreError::Busy)));
        drop(fetching);
        assert_eq!(store.prune(&in_use, &none).unwrap(), Pruned { layers: 1, bytes: 4 });
        assert!(store.find(&Reference::parse("named:1").unwrap()).unwrap().is_some());
        let layer = |content: &str| store.has_layer(&Digest::of(content.as_bytes()));
        assert!(layer("named") && layer("used") && !layer("idle"));
        assert_eq!(store.digests_in("blobs/sha256").unwrap().len(), 4);
        let unknown = BTreeSet::from([Digest::of(b"?").to_string()]);
        assert_eq!(store.prune(&unknown, &none).unwrap(), Pruned::default());
        assert!(layer("used"), "nothing goes while a manifest in use is unreadable");
    }

    #[test]
    fn pruning_keeps_what_lies_below_a_container_whose_image_lost_its_name() {
        let scratch = Scratch::new("prune-mounted");
        let store = Store::open(&scratch.0).unwrap();
        put(&store, "app:latest", "old");
        let reference = Reference::parse("app:latest").unwrap();
        let mounted = store.find(&reference).unwrap().unwrap().layers.into_iter().collect();
        put(&store, "app:latest", "new");
        assert_eq!(store.prune(&BTreeSet::new(), &mounted).unwrap(), Pruned::default());
        assert!(store.has_layer(&Digest::of(b"old")));
        let pruned = store.prune(&BTreeSet::new(), &BTreeSet::new()).unwrap();
        assert_eq!(pruned, Pruned { layers: 1, bytes: 3 }, "the container has ended");
        assert!(store.has_layer(&Digest::of(b"new")));
    }

    #[test]
    fn leftovers_of_a_dead_fetch_are_swept() {
        let scratch = Scratch::new("sweep");
        let store = Store::open(&scratch.0).unwrap();
        let leftover = store.temporary_folder().unwrap();
        fs::write(leftover.join("x"), "x").unwrap();
        let first = store.lock_to_fetch().unwrap();
        assert!(!leftover.exists());
        let mine = store.temporary_folder().unwrap();
        let second = store.lock_to_fetch().unwrap();
        assert!(mine.exists(), "another fetch is at work there");
        drop((first, second));
    }
}
