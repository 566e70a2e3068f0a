//! The fetch child: brings one image into the store and exits.
//!
//! ```text
//! blob → digest → gunzip/unzstd → diff id → tar → folder     in one pass, bounded buffers
//!   └──► partial file                                        what came is not fetched again
//! ```
//! A layer becomes visible after both digests matched, the name after all layers. Together with
//! `remote` it is the only part that talks to registries and reads archives; it may die at any
//! instruction.

use std::{
    fs::File,
    io::{self, Read, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use rustix::{io::Errno, process::Signal};

use super::{
    archive::Spool,
    auth::Credentials,
    blob::Flow,
    confine::{Need, confine},
    digest::{Digest, HashReader},
    layer::{LayerError, Room, unpack},
    manifest::{Configuration, Descriptor, Index, IndexEntry, Manifest, ManifestError},
    protocol::{FetchEvent, FetchFailure, FetchRequest, What, read_request, write_event},
    pull::PullError,
    reference::Reference,
    remote,
    store::{Ailment, NameRecord, Store, StoreError},
    sums::Sums,
    tar::TarError,
};
use crate::{
    limits::{
        FETCH_PROGRESS_PAUSE, LAYER_FREE_BYTES, LAYER_MAX_BYTES, LAYER_MAX_PACKED_BYTES,
        LAYER_RATIO_MAX,
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
    // A pipe of another process is not there any more for who is confined.
    let mut archive = None;
    if let What::Load { archive: path } = &request.what
        && !path.is_dir()
    {
        let failed = |source| PullError::Archive { path: path.clone(), source };
        archive = Some(File::open(path).map_err(failed)?);
    }
    confine(&need(request));
    let store = store.over(&request.additional_stores);
    let _lock = store.lock_to_fetch().map_err(PullError::Store)?;
    let rate = match &request.what {
        What::Pull { registries, .. } => registries.bytes_per_second,
        What::Load { .. } => None,
    };
    let mut install = Install {
        store: &store,
        platform: &request.platform,
        flow: Arc::new(Flow::new(rate)),
        told: Duration::ZERO,
        quota: request.quota_bytes,
        min_free: request.min_free_bytes,
        any_platform: request.any_platform,
        loaded: matches!(request.what, What::Load { .. }),
        out,
    };
    match &request.what {
        What::Pull { reference, auth, registries } => {
            let image = Reference::parse(reference).map_err(PullError::Reference)?;
            // What a digest names is the same everywhere; a tag is the registry's to say.
            if image.digest().is_some()
                && let Some(manifest) = preloaded(request, &image, &mut install)?
            {
                return Ok((vec![image.to_string()], manifest));
            }
            let given = Credentials::read(auth.expose());
            let settings = Arc::new(registries.clone());
            let pulled = remote::pull(&image, given, &settings, &request.store, &mut install);
            let manifest = match pulled {
                Err(e) if e.kind() == FetchFailure::Unreachable => {
                    preloaded(request, &image, &mut install)?.ok_or(e)
                }
                result => result,
            }?;
            Ok((vec![image.to_string()], manifest))
        }
        What::Load { archive } if archive.is_dir() => Spool::layout(archive)?.install(&mut install),
        What::Load { archive: path } => {
            let gone = || PullError::Archive { path: path.clone(), source: Errno::NOENT.into() };
            Spool::read(path, archive.ok_or_else(gone)?, &store)?.install(&mut install)
        }
    }
}

/// What must stay within reach.
fn need(request: &FetchRequest) -> Need<'_> {
    let mut reads: Vec<&Path> = request.additional_stores.iter().map(PathBuf::as_path).collect();
    match &request.what {
        What::Pull { registries, .. } => {
            reads.push(&registries.auth_file);
            reads.extend(registries.ca_files.values().map(PathBuf::as_path));
        }
        What::Load { archive } if archive.is_dir() => reads.push(archive),
        What::Load { .. } => {}
    }
    let network = matches!(request.what, What::Pull { .. });
    Need { store: &request.store, reads, network }
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

/// Fails unless `bytes` have this digest.
pub(super) fn verify(expected: &Digest, bytes: &[u8]) -> Result<(), PullError> {
    let found = expected.of_same(bytes);
    if found == *expected {
        Ok(())
    } else {
        Err(PullError::Digest { expected: expected.clone(), found })
    }
}

/// The error in the store's words when it is the storage below that ails: they say what helps.
fn blame(error: LayerError, store: &Store) -> PullError {
    let path = store.root().to_owned();
    match error {
        LayerError::Entry { source, .. } if Ailment::of(&source).is_some() => {
            PullError::Store(StoreError::Io { path, source })
        }
        // Reading needs room, too: a decoder may keep a file.
        LayerError::Tar(TarError::Read(source)) if Ailment::of(&source) == Some(Ailment::Full) => {
            PullError::Store(StoreError::Io { path, source })
        }
        LayerError::Entry { .. }
        | LayerError::Tar(_)
        | LayerError::Escape { .. }
        | LayerError::Whiteout { .. }
        | LayerError::TooMany
        | LayerError::TooDeep { .. }
        | LayerError::TooLarge { .. }
        | LayerError::Attribute { .. }
        | LayerError::NoRoom => PullError::Layer(error),
    }
}

/// A packed layer, opened.
type Opened = Result<Box<dyn Read>, PullError>;

/// Puts images into the store.
pub(super) struct Install<'a> {
    pub(super) store: &'a Store,
    pub(super) platform: &'a Platform,
    pub(super) flow: Arc<Flow>,
    /// When progress was last told, from the start of the flow.
    told: Duration,
    quota: Option<u64>,
    min_free: u64,
    /// The owner lets images for other platforms in.
    any_platform: bool,
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
        open: &mut dyn FnMut(&Descriptor) -> Opened,
    ) -> Result<Digest, PullError> {
        let config = self.check(manifest, config_bytes)?;
        for (layer, diff_id) in manifest.layers.iter().zip(&config.diff_ids) {
            if !self.store.has_sound_layer(diff_id) {
                self.flow.expect(layer.size);
                let flow = Arc::clone(&self.flow);
                let mut stream = Counted { inner: open(layer)?, flow };
                let unpacked = self.unpack(layer, diff_id, &mut stream)?;
                self.publish(unpacked, diff_id)?;
            }
        }
        self.keep(manifest, manifest_bytes, config_bytes)
    }

    /// The image of an index that runs here; with `any-platform` else the first.
    pub(super) fn choose<'i>(&self, index: &'i Index) -> Result<&'i IndexEntry, PullError> {
        let first = || index.entries.first().filter(|_| self.any_platform);
        let chosen = index.choose(self.platform);
        chosen.or_else(|e| first().ok_or(e)).map_err(PullError::Manifest)
    }

    /// Verifies the configuration of an image, and that it runs here.
    pub(super) fn check(
        &self,
        manifest: &Manifest,
        config_bytes: &[u8],
    ) -> Result<Configuration, PullError> {
        verify(&manifest.config.digest, config_bytes)?;
        let config = Configuration::parse(config_bytes).map_err(PullError::Manifest)?;
        match config.check(manifest, self.platform) {
            Err(ManifestError::Platform { found, host }) if self.any_platform => {
                log::warn!("image says that it is {found}, and is taken for {host} (any-platform)");
            }
            result => result.map_err(PullError::Manifest)?,
        }
        Ok(config)
    }

    /// Stores what an image has besides layers. Returns the image id.
    pub(super) fn keep(
        &self,
        manifest: &Manifest,
        manifest_bytes: &[u8],
        config_bytes: &[u8],
    ) -> Result<Digest, PullError> {
        let id = manifest.config.digest.clone();
        self.store.publish_as(&id, config_bytes).map_err(PullError::Store)?;
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

    /// Unpacks a layer and verifies both of its digests.
    pub(super) fn unpack(
        &mut self,
        layer: &Descriptor,
        diff_id: &Digest,
        stream: &mut dyn Read,
    ) -> Result<UnpackedLayer, PullError> {
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
        let result = self.unpack_into(&tree, max.min(room), layer, diff_id, stream);
        let result = match (result, self.quota) {
            (Err(PullError::Layer(LayerError::TooLarge { .. })), Some(quota)) if room < max => {
                Err(PullError::Store(StoreError::Quota { quota }))
            }
            (Err(PullError::Layer(error)), _) => Err(blame(error, self.store)),
            (result, _) => result,
        };
        match result {
            Ok(sums) => Ok(UnpackedLayer { tree, sums }),
            Err(e) => {
                // The next fetch would sweep it; until then it would fill the disk.
                self.store.discard(&tree);
                Err(e)
            }
        }
    }

    fn unpack_into(
        &mut self,
        tree: &Path,
        max: u64,
        layer: &Descriptor,
        diff_id: &Digest,
        stream: &mut dyn Read,
    ) -> Result<Sums, PullError> {
        let room = Room { max, min_free: self.min_free };
        let watched = Watched { inner: stream, install: self };
        let mut packed =
            HashReader::like(watched, layer.size.min(LAYER_MAX_PACKED_BYTES), &layer.digest);
        let (found_diff_id, sums) = unpack(&mut packed, tree, room, diff_id)
            .and_then(|unpacked| {
                let read = |e| LayerError::Tar(TarError::Read(e));
                packed.drain().map_err(read).map(|()| unpacked)
            })
            .map_err(PullError::Layer)?;
        let (digest, _) = packed.finish();
        for (expected, found) in [(&layer.digest, digest), (diff_id, found_diff_id)] {
            if *expected != found {
                return Err(PullError::Digest { expected: expected.clone(), found });
            }
        }
        Ok(sums)
    }

    /// Makes an unpacked layer durable, then visible.
    pub(super) fn publish(&self, layer: UnpackedLayer, diff_id: &Digest) -> Result<(), PullError> {
        self.store.publish_layer(&layer.tree, diff_id, &layer.sums).map_err(PullError::Store)
    }

    /// Tells how far the image is, now and then. Without a listener there is no reason to go on.
    pub(super) fn tell(&mut self) -> io::Result<()> {
        let elapsed = self.flow.elapsed();
        if self.told != Duration::ZERO && elapsed - self.told < FETCH_PROGRESS_PAUSE {
            return Ok(());
        }
        self.told = elapsed;
        let (done, total) = self.flow.progress();
        write_event(&mut self.out, FetchEvent::Progress { done, total })
            .map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

/// A layer that is verified and not visible yet.
pub(super) struct UnpackedLayer {
    tree: PathBuf,
    sums: Sums,
}

/// Counts what comes out of an archive.
struct Counted {
    inner: Box<dyn Read>,
    flow: Arc<Flow>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.flow.came(n as u64);
        Ok(n)
    }
}

/// Tells progress while a layer is read.
struct Watched<'a, 'b> {
    inner: &'a mut dyn Read,
    install: &'a mut Install<'b>,
}

impl Read for Watched<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.install.tell()?;
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::io::Errno;

    #[test]
    fn each_answer_of_the_kernel_is_told_with_what_helps() {
        use FetchFailure::{Invalid, Storage};
        let folder = std::env::temp_dir().join(format!("edgeagent-blame-{}", std::process::id()));
        let store = Store::open(&folder).unwrap();
        for (errno, kind, says) in [
            (Errno::NOSPC, Storage, "no space left for images in"),
            (Errno::DQUOT, Storage, "`edgeagent image prune`"),
            (Errno::ROFS, Storage, "is read-only; mount it writable"),
            (Errno::IO, Storage, "fails at"),
            (Errno::NODEV, Storage, "replace the card"),
            (Errno::ACCESS, Storage, "must run as root"),
            // Whatever else the kernel answers names the entry, and is the device's matter…
            (Errno::PERM, Storage, "layer entry can not be written: a/b: Operation not permitted"),
            (Errno::NOMEM, Storage, "a/b: "),
            (Errno::MFILE, Storage, "a/b: "),
            // … unless no device could make it.
            (Errno::NAMETOOLONG, Invalid, "a/b: File name too long"),
            (Errno::MLINK, Invalid, "a/b: Too many links"),
            (Errno::LOOP, Invalid, "a/b: Too many levels of symbolic links"),
            (Errno::NOTDIR, Invalid, "a/b: "),
            (Errno::INVAL, Invalid, "a/b: "),
        ] {
            let source = io::Error::from(errno);
            let error = blame(LayerError::Entry { path: "a/b".to_owned(), source }, &store);
            assert_eq!(error.kind(), kind, "{errno:?}");
            assert!(error.chain().contains(says), "{errno:?}: {}", error.chain());
        }
        let full = LayerError::Tar(TarError::Read(Errno::NOSPC.into()));
        assert_eq!(blame(full, &store).kind(), Storage, "the file of a decoder");
        let broken = LayerError::Tar(TarError::Read(io::ErrorKind::InvalidData.into()));
        assert_eq!(blame(broken, &store).kind(), Invalid);
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
