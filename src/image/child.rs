//! The fetch child: brings one image into the store and exits.
//!
//! ```text
//! blob → digest → gunzip/unzstd → diff id → tar → folder     in one pass, bounded buffers
//! ```
//! A layer becomes visible after both digests matched, the name after all layers. It is the only
//! part that talks to registries and reads archives; it may die at any instruction.

use std::{
    cell::Cell,
    io::{self, Read, Write},
    path::Path,
    process::ExitCode,
};

use rustix::process::Signal;

use super::{
    archive::Spool,
    auth::Credentials,
    digest::{Digest, HashReader},
    layer::{LayerError, unpack},
    manifest::{Configuration, Descriptor, Document, Manifest, ManifestError},
    protocol::{FetchEvent, FetchFailure, FetchRequest, What, read_request, write_event},
    pull::PullError,
    reference::Reference,
    registry::Registry,
    store::{NameRecord, Store, StoreError},
    sums::Sums,
    tar::TarError,
};
use crate::{
    limits::{
        FETCH_PROGRESS_BYTES, IMAGE_CONFIG_MAX_BYTES, LAYER_FREE_BYTES, LAYER_MAX_BYTES,
        LAYER_MAX_PACKED_BYTES, LAYER_RATIO_MAX,
    },
    model::Platform,
};

/// The main function of a fetch child: the request on standard input, events on standard output.
/// Fails when nobody listens or the request is malformed; what happened to the image is told by
/// the last event.
#[must_use]
pub fn fetch_main() -> ExitCode {
    // The agent's death must not leave a fetch behind, and nobody may read our credentials.
    let guarded =
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).and_then(|()| {
            let never = rustix::process::DumpableBehavior::NotDumpable;
            rustix::process::set_dumpable_behavior(never)
        });
    if guarded.is_err() {
        return ExitCode::FAILURE;
    }
    // A layer without an entry for its root gets a root that everybody may enter.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    let Ok(request) = read_request(&mut io::stdin().lock()) else {
        return ExitCode::FAILURE;
    };
    let mut out = io::stdout().lock();
    let event = match run(&request, &mut out) {
        Ok((images, manifest)) => FetchEvent::Done { images, manifest: manifest.to_string() },
        Err(e) => FetchEvent::Failed { kind: e.kind(), message: e.chain() },
    };
    match write_event(&mut out, event) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn run(request: &FetchRequest, out: &mut dyn Write) -> Result<(Vec<String>, Digest), PullError> {
    let store = Store::open(&request.store).map_err(PullError::Store)?;
    let store = store.over(&request.additional_stores);
    let _lock = store.lock_to_fetch().map_err(PullError::Store)?;
    let mut install = Install {
        store: &store,
        platform: &request.platform,
        quota: request.quota_bytes,
        loaded: matches!(request.what, What::Load { .. }),
        out,
    };
    match &request.what {
        What::Pull { reference, auth, insecure_registries, ca_file } => {
            let image = Reference::parse(reference).map_err(PullError::Reference)?;
            // What a digest names is the same everywhere; a tag is the registry's to say.
            if image.digest().is_some()
                && let Some(manifest) = preloaded(request, &image, &mut install)?
            {
                return Ok((vec![image.to_string()], manifest));
            }
            let credentials = Credentials::read(auth.expose());
            let pulled =
                Registry::new(&image, credentials, insecure_registries, ca_file.as_deref())
                    .and_then(|mut registry| pull(&image, &mut registry, &mut install));
            let manifest = match pulled {
                Err(e) if e.kind() == FetchFailure::Unreachable => {
                    preloaded(request, &image, &mut install)?.ok_or(e)
                }
                result => result,
            }?;
            Ok((vec![image.to_string()], manifest))
        }
        What::Load { archive } if archive.is_dir() => Spool::layout(archive)?.install(&mut install),
        What::Load { archive } => Spool::read(archive, &store)?.install(&mut install),
    }
}

/// Takes the image out of an OCI layout of `additional-image-stores`, when one has it.
fn preloaded(
    request: &FetchRequest,
    image: &Reference,
    install: &mut Install<'_>,
) -> Result<Option<Digest>, PullError> {
    for folder in &request.additional_stores {
        if folder.join("index.json").exists()
            && let Some(manifest) = Spool::layout(folder)?.install_named(image, install)?
        {
            return Ok(Some(manifest));
        }
    }
    Ok(None)
}

fn pull(
    image: &Reference,
    registry: &mut Registry,
    install: &mut Install<'_>,
) -> Result<Digest, PullError> {
    let bytes = match (image.digest(), image.tag()) {
        (Some(digest), _) => {
            let bytes = registry.manifest(&digest.to_string())?;
            verify(digest, &bytes)?;
            bytes
        }
        (None, tag) => registry.manifest(tag.unwrap_or("latest"))?,
    };
    let target = Digest::of(&bytes);
    let (bytes, manifest) = match Document::parse(&bytes).map_err(PullError::Manifest)? {
        Document::Manifest(manifest) => (bytes, manifest),
        Document::Index(index) => {
            let chosen = index.choose(install.platform).map_err(PullError::Manifest)?;
            let digest = &chosen.manifest.digest;
            let bytes = registry.manifest(&digest.to_string())?;
            verify(digest, &bytes)?;
            match Document::parse(&bytes).map_err(PullError::Manifest)? {
                Document::Manifest(manifest) => (bytes, manifest),
                Document::Index(_) => {
                    return Err(PullError::Manifest(ManifestError::Ambiguous));
                }
            }
        }
    };
    let config = registry.small_blob(&manifest.config.digest, IMAGE_CONFIG_MAX_BYTES)?;
    let name = registry.name().to_owned();
    let id = install.image(&bytes, &manifest, &config, &mut |layer| {
        let stream: Box<dyn Read> = Box::new(registry.blob(&layer.digest)?);
        Ok(Layer { stream, registry: Some(name.clone()) })
    })?;
    install.name(&image.canonical(), target, &Digest::of(&bytes), &id)?;
    Ok(Digest::of(&bytes))
}

/// Fails unless `bytes` have this digest.
pub(super) fn verify(expected: &Digest, bytes: &[u8]) -> Result<(), PullError> {
    let found = Digest::of(bytes);
    if found == *expected {
        Ok(())
    } else {
        Err(PullError::Digest { expected: expected.clone(), found })
    }
}

/// A packed layer on its way.
pub(super) struct Layer {
    /// Its bytes.
    pub(super) stream: Box<dyn Read>,
    /// Where they come from, when from a registry.
    pub(super) registry: Option<String>,
}

/// Puts images into the store.
pub(super) struct Install<'a> {
    pub(super) store: &'a Store,
    pub(super) platform: &'a Platform,
    quota: Option<u64>,
    loaded: bool,
    out: &'a mut dyn Write,
}

impl Install<'_> {
    /// Verifies and stores one image; `open` gives its packed layers. Returns the image id.
    pub(super) fn image(
        &mut self,
        manifest_bytes: &[u8],
        manifest: &Manifest,
        config_bytes: &[u8],
        open: &mut dyn FnMut(&Descriptor) -> Result<Layer, PullError>,
    ) -> Result<Digest, PullError> {
        verify(&manifest.config.digest, config_bytes)?;
        let config = Configuration::parse(config_bytes).map_err(PullError::Manifest)?;
        config.check(manifest, self.platform).map_err(PullError::Manifest)?;
        for (number, (layer, diff_id)) in (0..).zip(manifest.layers.iter().zip(&config.diff_ids)) {
            if !self.store.has_sound_layer(diff_id) {
                let source = open(layer)?;
                self.layer(number, layer, diff_id, source)?;
            }
        }
        let id = self.store.publish_blob(config_bytes).map_err(PullError::Store)?;
        self.store.publish_blob(manifest_bytes).map_err(PullError::Store)?;
        Ok(id)
    }

    /// Makes a stored image visible under a name.
    pub(super) fn name(
        &self,
        canonical: &str,
        target: Digest,
        manifest: &Digest,
        id: &Digest,
    ) -> Result<(), PullError> {
        let record = NameRecord {
            reference: canonical.to_owned(),
            target,
            manifest: manifest.clone(),
            id: id.clone(),
            loaded: self.loaded,
        };
        self.store.publish_name(&record).map_err(PullError::Store)
    }

    fn layer(
        &mut self,
        number: u32,
        layer: &Descriptor,
        diff_id: &Digest,
        source: Layer,
    ) -> Result<(), PullError> {
        let room = match self.quota {
            Some(quota) => {
                let used = self.store.layers_bytes().map_err(PullError::Store)?;
                quota.saturating_sub(used)
            }
            None => u64::MAX,
        };
        let ratio = layer.size.saturating_mul(LAYER_RATIO_MAX).max(LAYER_FREE_BYTES);
        let max = ratio.min(LAYER_MAX_BYTES);
        let tree = self.store.temporary_folder().map_err(PullError::Store)?;
        let result = self.unpack(number, layer, diff_id, source, (&tree, max.min(room)));
        let result = match (result, self.quota) {
            (Err(PullError::Layer(LayerError::TooLarge { .. })), Some(quota)) if room < max => {
                Err(PullError::Store(StoreError::Quota { quota }))
            }
            (result, _) => result,
        };
        match result {
            Ok(sums) => self.store.publish_layer(&tree, diff_id, &sums).map_err(PullError::Store),
            Err(e) => {
                // The next fetch would sweep it; until then it would fill the disk.
                if let Err(leftover) = self.store.remove_tree(&tree) {
                    log::warn!("leftover of a fetch stays path={} {leftover}", tree.display());
                }
                Err(e)
            }
        }
    }

    /// Unpacks a layer and compares both digests.
    fn unpack(
        &mut self,
        number: u32,
        layer: &Descriptor,
        diff_id: &Digest,
        source: Layer,
        (tree, max): (&Path, u64),
    ) -> Result<Sums, PullError> {
        let failed = Cell::new(false);
        let watched = Watched {
            inner: source.stream,
            failed: &failed,
            progress: Progress { number, done: 0, told: 0, total: layer.size },
            out: &mut *self.out,
        };
        let mut packed = HashReader::new(watched, layer.size.min(LAYER_MAX_PACKED_BYTES));
        let unpacked = unpack(&mut packed, tree, max).and_then(|unpacked| {
            let read = |e| LayerError::Tar(TarError::Read(e));
            packed.drain().map_err(read).map(|()| unpacked)
        });
        let (found_diff_id, sums) = unpacked.map_err(|source_error| match source.registry {
            Some(registry) if failed.get() => PullError::Broken { registry, source: source_error },
            Some(_) | None => PullError::Layer(source_error),
        })?;
        let (digest, _) = packed.finish();
        for (expected, found) in [(&layer.digest, digest), (diff_id, found_diff_id)] {
            if *expected != found {
                return Err(PullError::Digest { expected: expected.clone(), found });
            }
        }
        Ok(sums)
    }
}

#[derive(Clone, Copy)]
struct Progress {
    number: u32,
    done: u64,
    told: u64,
    total: u64,
}

/// Tells progress, and remembers whether it was the source that failed.
struct Watched<'a> {
    inner: Box<dyn Read>,
    failed: &'a Cell<bool>,
    progress: Progress,
    out: &'a mut dyn Write,
}

impl Read for Watched<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer).inspect_err(|_| self.failed.set(true))?;
        let progress = &mut self.progress;
        progress.done = progress.done.saturating_add(n as u64);
        let news = FETCH_PROGRESS_BYTES <= progress.done - progress.told;
        if news || (n == 0 && progress.told < progress.done) {
            progress.told = progress.done;
            let Progress { number: layer, done, total, .. } = *progress;
            let event = FetchEvent::Progress { layer, done, total };
            // Without a listener there is no reason to go on.
            write_event(&mut self.out, event).map_err(|_| io::ErrorKind::BrokenPipe)?;
        }
        Ok(n)
    }
}
