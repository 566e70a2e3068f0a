//! What leaves the store: what nothing needs, what nobody used for long, and what makes room.
//!
//! Images that were loaded by hand stay until they are removed by hand, for nothing could bring
//! them back. What a task or a container needs stays whatever else is said. All of it reads the
//! store and writes only when something goes, so looking costs no flash.

use std::{
    collections::BTreeSet,
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    digest::Digest,
    store::{NameRecord, Store, StoreError, at, remove_if_there, sync_folder},
};
use crate::{
    files,
    limits::PARTIAL_MAX_AGE,
    model::{ImageSettings, UnixTime},
};

/// How the name of something ends that could not be removed, and was told of.
const STUCK: &str = "stuck";

/// What was taken away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Pruned {
    /// Names.
    pub images: u64,
    /// Layers.
    pub layers: u64,
    /// Their unpacked size in bytes.
    pub bytes: u64,
}

/// What must stay.
#[derive(Clone, Debug, Default)]
pub struct Needed {
    /// Manifests of images that tasks name, `sha256:…`.
    pub manifests: BTreeSet<String>,
    /// Layers below containers, whatever their image is called by now.
    pub layers: BTreeSet<PathBuf>,
}

impl Store {
    /// Takes away layers and blobs that neither a name nor anything of `needed` needs. When a
    /// manifest in need can not be read, no layer is taken away.
    ///
    /// # Errors
    /// [`StoreError::Busy`] while images are fetched, [`StoreError::Io`] when the store can not
    /// be changed.
    pub fn prune(&self, needed: &Needed) -> Result<Pruned, StoreError> {
        let _lock = self.lock_to_clean()?.ok_or(StoreError::Busy)?;
        self.sweep()?;
        self.drop_unneeded(needed)
    }

    /// [`Self::prune`], after forgetting the names that were not used for
    /// [`ImageSettings::max_age`]; and while space is short of what the settings ask for, of the
    /// one not used for longest. Layers of a pull that broke off stay for [`PARTIAL_MAX_AGE`],
    /// unless space is short still.
    ///
    /// # Errors
    /// As [`Self::prune`].
    pub fn collect(
        &self,
        settings: &ImageSettings,
        needed: &Needed,
        now: UnixTime,
    ) -> Result<Pruned, StoreError> {
        let _lock = self.lock_to_clean()?.ok_or(StoreError::Busy)?;
        self.sweep()?;
        self.drop_partial(now, false)?;
        let mut idle = Vec::new();
        for record in self.records()? {
            if !record.loaded && !needed.manifests.contains(&record.manifest.to_string()) {
                idle.push((self.last_use(&record)?, record));
            }
        }
        idle.sort_by_key(|(used, _)| *used);
        let mut pruned = Pruned::default();
        let mut left = Vec::new();
        for (used, record) in idle {
            if settings.max_age.is_some_and(|max| is_older(now, used, max)) {
                log::info!("image was not used for long image={}", record.reference);
                self.forget(&record)?;
                pruned.images += 1;
            } else {
                left.push(record);
            }
        }
        let mut wanted = needed.clone();
        wanted.manifests.extend(self.unfinished(now)?);
        pruned = pruned.and(self.drop_unneeded(&wanted)?);
        for record in left {
            if !self.is_short(settings)? {
                break;
            }
            log::info!("image makes room image={}", record.reference);
            self.forget(&record)?;
            pruned.images += 1;
            pruned = pruned.and(self.drop_unneeded(&wanted)?);
        }
        // Last what a task waits for: its bytes would have to come again. A quota is not for them.
        if self.is_disk_short(settings)? {
            self.drop_partial(now, true)?;
        }
        if self.is_short(settings)? {
            pruned = pruned.and(self.drop_unneeded(needed)?);
        }
        Ok(pruned)
    }

    /// Manifests of images of which some layers came, and the others may still.
    fn unfinished(&self, now: UnixTime) -> Result<BTreeSet<String>, StoreError> {
        let named: BTreeSet<Digest> =
            self.records()?.into_iter().map(|record| record.manifest).collect();
        let mut unfinished = BTreeSet::new();
        for digest in self.digests_in("blobs/sha256")? {
            let path = self.blob_path(&digest);
            let begun = fs::metadata(&path).map_err(at(&path))?.mtime();
            if named.contains(&digest) || is_older(now, begun, PARTIAL_MAX_AGE) {
                continue;
            }
            if let Some((_, configuration)) = self.parts(&digest)?
                && configuration.diff_ids.iter().any(|layer| self.layer(layer).is_none())
            {
                unfinished.insert(digest.to_string());
            }
        }
        Ok(unfinished)
    }

    /// Unpacked bytes of all layers of its own: what `image-quota` bounds. Downloads that are gone
    /// on with are not: free space bounds them. Neither are stores below.
    pub(super) fn layers_bytes(&self) -> Result<u64, StoreError> {
        let layers = self.digests_in("layers")?;
        Ok(layers.iter().map(|layer| self.layer_size(layer)).fold(0, u64::saturating_add))
    }

    /// Whether less is free than should be, or more is used than may be.
    fn is_short(&self, settings: &ImageSettings) -> Result<bool, StoreError> {
        Ok(self.is_disk_short(settings)?
            || match settings.quota_bytes {
                Some(quota) => quota < self.layers_bytes()?,
                None => false,
            })
    }

    fn is_disk_short(&self, settings: &ImageSettings) -> Result<bool, StoreError> {
        let root = self.root();
        let stat = rustix::fs::statvfs(root).map_err(|e| at(root)(e.into()))?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize) < settings.min_free_bytes)
    }

    fn last_use(&self, record: &NameRecord) -> Result<i64, StoreError> {
        let path = self.name_path(&record.reference);
        fs::metadata(&path).map(|meta| meta.mtime()).map_err(at(&path))
    }

    fn forget(&self, record: &NameRecord) -> Result<(), StoreError> {
        remove_if_there(&self.name_path(&record.reference))?;
        sync_folder(&self.root().join("names"))
    }

    /// Downloads that nobody went on with; all of them when space is short.
    fn drop_partial(&self, now: UnixTime, all: bool) -> Result<(), StoreError> {
        let folder = self.root().join("partial");
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(at(&folder)(e)),
        };
        for entry in entries {
            let entry = entry.map_err(at(&folder))?;
            let path = entry.path();
            let meta = entry.metadata().map_err(at(&path))?;
            if all || is_older(now, meta.mtime(), PARTIAL_MAX_AGE) {
                self.discard(&path);
            }
        }
        Ok(())
    }

    fn drop_unneeded(&self, needed: &Needed) -> Result<Pruned, StoreError> {
        let mut blobs = BTreeSet::new();
        // By name only: a folder above may have two paths.
        let mut layers: BTreeSet<Digest> =
            needed.layers.iter().filter_map(|layer| layer_of(layer)).collect();
        let mounted = layers.clone();
        let named = self.records()?.into_iter().map(|record| record.manifest.to_string());
        for manifest in named.chain(needed.manifests.iter().cloned()) {
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
                None if needed.manifests.contains(&manifest) && !self.is_shared(&manifest)? => {
                    log::warn!("nothing pruned, an image in use is damaged manifest={manifest}");
                    return Ok(Pruned::default());
                }
                None => {}
            }
        }
        let mut pruned = Pruned::default();
        for digest in self.digests_in("layers")? {
            if !layers.contains(&digest) {
                let size = self.layer_size(&digest);
                self.doom(&self.layer_path(&digest))?;
                remove_if_there(&self.sums_path(&digest))?;
                pruned.layers += 1;
                pruned.bytes = pruned.bytes.saturating_add(size);
            }
        }
        for damaged in self.damaged()? {
            // A container may lie on it still.
            if layer_of(&damaged).is_none_or(|layer| !mounted.contains(&layer)) {
                self.doom(&damaged)?;
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

    /// Moves a layer to where it is swept: half-deleted it must not look whole.
    fn doom(&self, path: &Path) -> Result<(), StoreError> {
        let name = path.file_name().unwrap_or_default();
        fs::rename(path, self.root().join("tmp").join(name)).map_err(at(path))?;
        sync_folder(&self.root().join("layers"))
    }

    /// Layers that were set aside.
    fn damaged(&self) -> Result<Vec<PathBuf>, StoreError> {
        let folder = self.root().join("layers");
        let mut found = Vec::new();
        for entry in fs::read_dir(&folder).map_err(at(&folder))? {
            let path = entry.map_err(at(&folder))?.path();
            if path.extension().is_some_and(|extension| extension == "damaged") {
                found.push(path);
            }
        }
        Ok(found)
    }

    /// Removes what fetches left behind.
    pub(super) fn sweep(&self) -> Result<(), StoreError> {
        let tmp = self.root().join("tmp");
        for entry in fs::read_dir(&tmp).map_err(at(&tmp))? {
            let path = entry.map_err(at(&tmp))?.path();
            self.discard(&path);
        }
        Ok(())
    }

    /// Removes what nothing needs, or tells once that it stays: what resists must not stop the
    /// fetches to come. It gets a name by which the sweeps, each of which tries again, know that
    /// it was told of.
    pub(super) fn discard(&self, path: &Path) {
        let Err(stuck) = files::remove_tree(path) else { return };
        if path.extension().is_some_and(|ending| ending == STUCK) {
            log::debug!("{stuck}");
            return;
        }
        log::warn!("{stuck}; nothing needs it, and it is tried again whenever images are tidied");
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(".");
        name.push(STUCK);
        if let Err(e) = fs::rename(path, self.root().join("tmp").join(name)) {
            log::debug!("{} keeps its name: {e}", path.display());
        }
    }
}

impl Pruned {
    const fn and(self, more: Self) -> Self {
        Self {
            images: self.images + more.images,
            layers: self.layers + more.layers,
            bytes: self.bytes.saturating_add(more.bytes),
        }
    }
}

/// Whether a time, in seconds since 1970, is longer ago than `max`. What lies ahead is not.
fn is_older(now: UnixTime, time: i64, max: Duration) -> bool {
    let age = u64::try_from(now.seconds().saturating_sub(time)).unwrap_or(0);
    max.as_secs() < age
}

/// The layer in a folder, also in one that was set aside.
fn layer_of(path: &Path) -> Option<Digest> {
    Digest::from_hex(path.file_name()?.to_str()?.split('.').next()?).ok()
}
