//! Pulls one image from its registry, or from a mirror of it.
//!
//! ```text
//! main thread   layer 0: fetch → unpack → publish   layer 1: → unpack → publish   …
//! helper        layer 1: fetch → partial file       layer 2: fetch → partial file …
//! ```
//! One layer at a time is unpacked, so that memory stays what one decoder needs. Helpers only fill
//! partial files, at most `max-concurrent-downloads` - 1 layers ahead; when one fails, the main
//! thread goes on where it stopped and finds out why by itself.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use super::{
    auth::Credentials,
    blob::{Blob, Flow},
    child::{Install, verify},
    digest::Digest,
    layer::LayerError,
    manifest::{Descriptor, Document, INDEX_DEPTH_MAX, ManifestError},
    partial::{self, Partial},
    protocol::FetchFailure,
    pull::PullError,
    reference::{DOCKER_HUB, Reference},
    registry::Registry,
    store::Store,
    tar::TarError,
};
use crate::{
    limits::{FETCH_TURN_PAUSE, IMAGE_CONFIG_MAX_BYTES, LAYER_MAX_PACKED_BYTES, PARTIAL_SETTLES},
    model::RegistrySettings,
};

/// Stack of a helper: TLS and one read buffer.
const HELPER_STACK_BYTES: usize = 256 << 10;

/// Pulls `image` into the store at `root`. Returns the manifest's digest.
pub(super) fn pull(
    image: &Reference,
    given: Credentials,
    settings: &Arc<RegistrySettings>,
    root: &Path,
    install: &mut Install<'_>,
) -> Result<Digest, PullError> {
    if image.domain() == Some(DOCKER_HUB) {
        for url in &settings.mirrors {
            let pulled = Registry::mirror(image, url, settings)
                .and_then(|mut mirror| pull_from(image, &mut mirror, root, install));
            match pulled {
                Ok(manifest) => return Ok(manifest),
                Err(e) => match e.kind() {
                    // Another registry does not help.
                    FetchFailure::Storage | FetchFailure::WrongPlatform => return Err(e),
                    FetchFailure::NotFound
                    | FetchFailure::Denied
                    | FetchFailure::Unreachable
                    | FetchFailure::Invalid
                    | FetchFailure::Interrupted => {
                        log::warn!("mirror {url} does not give {image}: {}", e.chain());
                    }
                },
            }
        }
    }
    // What is here serves when the registry is away: no time is lost then.
    let hurry = install.store.find(image).is_ok_and(|found| found.is_some());
    pull_from(image, &mut Registry::new(image, given, settings, hurry)?, root, install)
}

fn pull_from(
    image: &Reference,
    registry: &mut Registry,
    root: &Path,
    install: &mut Install<'_>,
) -> Result<Digest, PullError> {
    let (bytes, media_type) = match (image.digest(), image.tag()) {
        (Some(digest), _) => verified(registry, digest)?,
        (None, tag) => registry.manifest(tag.unwrap_or("latest"))?,
    };
    let target = image.digest().cloned().unwrap_or_else(|| Digest::of(&bytes));
    let document = Document::served(&bytes, &media_type).map_err(PullError::Manifest)?;
    let (mut bytes, mut document, mut depth) = (bytes, document, 0);
    let manifest = loop {
        let index = match document {
            Document::Manifest(manifest) => break manifest,
            Document::Index(_) if INDEX_DEPTH_MAX <= depth => {
                return Err(PullError::Manifest(ManifestError::TooDeep));
            }
            Document::Index(index) => index,
        };
        let chosen = &install.choose(&index)?.manifest;
        let media_type;
        (bytes, media_type) = verified(registry, &chosen.digest)?;
        document = Document::served(&bytes, &media_type).map_err(PullError::Manifest)?;
        document.check_type(&chosen.media_type).map_err(PullError::Manifest)?;
        depth += 1;
    };
    let config = registry.small_blob(&manifest.config.digest, IMAGE_CONFIG_MAX_BYTES)?;
    let configuration = install.check(&manifest, &config)?;
    let mut jobs: Vec<Job> = Vec::new();
    for (layer, diff_id) in manifest.layers.iter().zip(&configuration.diff_ids) {
        let known = jobs.iter().any(|job| job.diff_id == *diff_id);
        if !known && !install.store.has_sound_layer(diff_id) {
            jobs.push(Job::new(layer, diff_id, root)?);
        }
    }
    // Before the layers: what an image still lacks is how a pull is told that will go on.
    let id = install.keep(&manifest, &bytes, &config)?;
    layers(registry, jobs, root, install)?;
    install.name(&image.canonical(), target, &Digest::of(&bytes), &id)?;
    Ok(Digest::of(&bytes))
}

fn verified(registry: &mut Registry, digest: &Digest) -> Result<(Vec<u8>, String), PullError> {
    let (bytes, media_type) = registry.manifest(&digest.to_string())?;
    verify(digest, &bytes)?;
    Ok((bytes, media_type))
}

/// A layer that is missing.
struct Job {
    layer: Descriptor,
    diff_id: Digest,
    /// An earlier process began it.
    old: bool,
    /// When this one did, in microseconds from the start of the flow.
    begun: AtomicU64,
}

const UNBEGUN: u64 = u64::MAX;

impl Job {
    fn new(layer: &Descriptor, diff_id: &Digest, root: &Path) -> Result<Self, PullError> {
        if LAYER_MAX_PACKED_BYTES < layer.size {
            let size = LAYER_MAX_PACKED_BYTES;
            return Err(PullError::Length { digest: layer.digest.clone(), size });
        }
        let old = partial::path(root, &layer.digest).exists();
        let (layer, diff_id) = (layer.clone(), diff_id.clone());
        Ok(Self { layer, diff_id, old, begun: AtomicU64::new(UNBEGUN) })
    }

    /// Whoever is first counts what is here already.
    fn begin(&self, flow: &Flow, partial: &Partial) {
        let now = micros(flow.elapsed());
        let order = Ordering::Relaxed;
        if self.begun.compare_exchange(UNBEGUN, now, order, order).is_ok() {
            flow.came(partial.len());
        }
    }

    /// Whether its packed bytes came so fast that none of them is on flash yet.
    fn is_young(&self, flow: &Flow) -> bool {
        let age = micros(flow.elapsed()).saturating_sub(self.begun.load(Ordering::Relaxed));
        !self.old && age < micros(PARTIAL_SETTLES)
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// What the threads of a pull share.
struct Work {
    jobs: Vec<Job>,
    /// The job that the main thread is at.
    current: AtomicUsize,
    /// How many layers are fetched at a time.
    width: usize,
    flow: Arc<Flow>,
    root: PathBuf,
}

fn layers(
    registry: &mut Registry,
    jobs: Vec<Job>,
    root: &Path,
    install: &mut Install<'_>,
) -> Result<(), PullError> {
    let width = registry.layers_at_once().min(jobs.len());
    // Each pull has a flow of its own: what was counted for a mirror does not count again.
    let flow = Arc::new(install.flow.again());
    install.flow = Arc::clone(&flow);
    for job in &jobs {
        flow.expect(job.layer.size);
    }
    let current = AtomicUsize::new(0);
    let work = Arc::new(Work { jobs, current, width, flow, root: root.to_owned() });
    for _ in 1..width {
        let (work, registry) = (Arc::clone(&work), registry.clone());
        let helper = thread::Builder::new().stack_size(HELPER_STACK_BYTES);
        // Nobody waits for helpers: they end with the process, or when the work is stopped.
        if let Err(e) = helper.spawn(move || help(&work, registry)) {
            log::debug!("one layer at a time: {e}");
        }
    }
    let done = work.jobs.iter().enumerate().try_for_each(|(n, job)| {
        work.current.store(n, Ordering::Relaxed);
        one(registry, &work, job, install)
    });
    work.flow.stop();
    done
}

/// Brings one layer into the store.
fn one(
    registry: &mut Registry,
    work: &Work,
    job: &Job,
    install: &mut Install<'_>,
) -> Result<(), PullError> {
    let Job { layer, diff_id, .. } = job;
    let mut again = false;
    loop {
        let mut partial = take(work, layer, install)?;
        // Another process may have brought it meanwhile.
        if install.store.has_sound_layer(diff_id) {
            return Ok(());
        }
        job.begin(&work.flow, &partial);
        let mut blob = Blob::new(registry, &work.flow, &layer.digest, layer.size, &mut partial);
        let e = match install.unpack(layer, diff_id, &mut blob) {
            Ok(unpacked) => {
                // A young file is removed before everything is synced, so that it never costs a
                // write; an old one only when it is not needed any more.
                if job.is_young(&work.flow) {
                    partial.remove();
                }
                install.publish(unpacked, diff_id)?;
                partial.remove();
                return Ok(());
            }
            Err(e) => e,
        };
        if let Some(failure) = blob.take_failure() {
            return Err(failure);
        }
        if !is_content(&e) {
            return Err(e);
        }
        let suspect = blob.is_spliced() && !again;
        blob.discard();
        if !suspect {
            return Err(e);
        }
        // One of the parts was wrong, and nobody can say which.
        log::warn!("layer {} is fetched anew: {}", layer.digest, e.chain());
        again = true;
    }
}

/// Waits until nobody else works on the layer.
fn take(work: &Work, layer: &Descriptor, install: &mut Install<'_>) -> Result<Partial, PullError> {
    loop {
        if let Some(partial) = Partial::try_take(&work.root, &layer.digest, layer.size)? {
            return Ok(partial);
        }
        let closed = |e| PullError::Layer(LayerError::Tar(TarError::Read(e)));
        install.tell().map_err(closed)?;
        thread::sleep(FETCH_TURN_PAUSE);
    }
}

/// Whether it is the layer's bytes that are to blame, not the disk, and not that nobody listens
/// any more.
fn is_content(e: &PullError) -> bool {
    if let PullError::Layer(LayerError::Tar(TarError::Read(source))) = e
        && source.kind() == io::ErrorKind::BrokenPipe
    {
        return false;
    }
    if let PullError::Layer(cause) = e {
        return !cause.is_of_storage();
    }
    matches!(e, PullError::Digest { .. })
}

/// Fetches layers ahead of the main thread.
fn help(work: &Work, mut registry: Registry) {
    let Ok(store) = Store::open(&work.root) else { return };
    while !work.flow.is_stopped() {
        let first = work.current.load(Ordering::Relaxed) + 1;
        let mut ahead = work.jobs.iter().skip(first).take(work.width - 1);
        if first >= work.jobs.len() {
            return;
        }
        let fetched = ahead.try_for_each(|job| prefetch(work, job, &mut registry, &store));
        if fetched.is_err() {
            return;
        }
        thread::sleep(FETCH_TURN_PAUSE);
    }
}

fn prefetch(work: &Work, job: &Job, registry: &mut Registry, store: &Store) -> io::Result<()> {
    let Descriptor { digest, size, .. } = &job.layer;
    if partial::length(&work.root, digest) == *size || store.has_sound_layer(&job.diff_id) {
        return Ok(());
    }
    let taken = Partial::try_take(&work.root, digest, *size);
    let Some(mut partial) = taken.map_err(|e| io::Error::other(e.chain()))? else {
        return Ok(());
    };
    job.begin(&work.flow, &partial);
    Blob::new(registry, &work.flow, digest, *size, &mut partial).store()
}
