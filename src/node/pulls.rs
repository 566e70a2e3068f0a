//! The image of a task: what is here, what must be pulled, and which child does that.

use std::collections::BTreeMap;

use smol::{Timer, future};

use super::{
    clock,
    control::PullReport,
    images,
    perform::Context,
    turns::{LOOK, Pace, Turn},
};
use crate::{
    config::Config,
    image::{self, FetchEvent, FetchFailure, FetchRequest, Reference, What},
    limits::PULLED_MAX,
    model::{LocalImage, Platform, PullPolicy, Runtime, SecretBytes, Task, chain},
    spec,
};

/// The image of a task as it is here, whoever has a newer one.
pub(super) fn local(context: &Context, task: &Task) -> Option<LocalImage> {
    reference(task).ok().and_then(|name| find(context, &name))
}

pub(super) fn reference(task: &Task) -> Result<Reference, String> {
    let text = spec::image(task).map_err(|error| chain(&error))?;
    Reference::parse(text).map_err(|error| chain(&error))
}

pub(super) fn find(context: &Context, name: &Reference) -> Option<LocalImage> {
    match context.store.find(name) {
        Ok(image) => image,
        Err(error) => {
            log::warn!("cannot look for image {name}: {}", chain(&error));
            None
        }
    }
}

/// The image of a task, pulled when it must be (executor.md §6): one that is named by digest and
/// is here is used as it is; a tag is always asked for unless the operator says otherwise, and
/// what is here serves when that fails.
pub(super) async fn ensure_image(context: &Context, task: &Task) -> Result<LocalImage, String> {
    let name = reference(task)?;
    let local = match find(context, &name) {
        Some(image) => images::sound(context, image).await,
        None => None,
    };
    let immutable = name.digest().is_some() || name.image_id().is_some();
    let policy = context.config.pull_policy;
    if (immutable || policy != PullPolicy::Always)
        && let Some(image) = local
    {
        return Ok(image);
    }
    if policy == PullPolicy::Never {
        return Err(spec::no_image(&name.to_string(), Some("pull-policy is never")).to_string());
    }
    let failure = ask(context, task, &name).await;
    match (find(context, &name), failure) {
        (Some(image), None) => {
            context.stale.borrow_mut().remove(&name.to_string());
            Ok(image)
        }
        (Some(image), Some(reason)) => {
            log::warn!("using the local image {name}, it may be stale: {reason}");
            remember(&mut context.stale.borrow_mut(), name.to_string(), reason);
            Ok(image)
        }
        (None, reason) => Err(spec::no_image(&name.to_string(), reason.as_deref()).to_string()),
    }
}

/// Pulls an image, or shares the outcome of a pull that began after this was asked for. Returns
/// what went wrong.
async fn ask(context: &Context, task: &Task, name: &Reference) -> Option<String> {
    let asked = clock().mono;
    let registry = name.domain().unwrap_or_default();
    loop {
        let turn = context.pulling.take(registry).await;
        let key = name.to_string();
        if let Some((at, failure)) = context.pulled.borrow().get(&key)
            && asked <= *at
        {
            return failure.clone();
        }
        let failure = match pull(context, task, name, turn).await {
            Ok(()) => None,
            Err(Stop::Failed(_, reason)) => Some(reason),
            Err(Stop::Yielded) => {
                log::info!("the pull of {name} brings little and lets others go first");
                continue;
            }
        };
        if failure.is_none() {
            context.tidy();
        }
        remember(&mut context.pulled.borrow_mut(), key, (clock().mono, failure.clone()));
        return failure;
    }
}

/// Why a pull ended before the image was here.
enum Stop {
    Failed(FetchFailure, String),
    /// Others wait, and it brought next to nothing.
    Yielded,
}

/// Only what happened a moment ago matters, so a full map is emptied.
fn remember<T>(map: &mut BTreeMap<String, T>, key: String, value: T) {
    if PULLED_MAX <= map.len() {
        map.clear();
    }
    map.insert(key, value);
}

async fn pull<'a>(
    context: &'a Context,
    task: &Task,
    name: &Reference,
    mut turn: Turn<'a>,
) -> Result<(), Stop> {
    let auth = match &task.runtime {
        Runtime::Container(spec) => spec.registry_auth.clone(),
        Runtime::Attachment | Runtime::Generic { .. } | Runtime::Unknown => SecretBytes::default(),
    };
    let request = pull_request(&context.config, &context.platform, name, auth);
    let shown = Shown::new(context, name);
    let result = fetch(context, &request, &shown, &turn).await;
    let Err(Stop::Failed(FetchFailure::Storage, reason)) = &result else { return result };
    log::warn!("image {name} finds no room: {reason}");
    let packed = shown.change(|pull| pull.total_bytes).unwrap_or(0);
    // Nothing is removed while anybody fetches: what that one needs is not known yet.
    drop(turn);
    turn = context.pulling.take_alone(name.domain().unwrap_or_default()).await;
    if images::make_room(context, packed).await {
        return fetch(context, &request, &shown, &turn).await;
    }
    result
}

/// A pull that `status` shows; dropped when it ends or is cancelled.
struct Shown<'a> {
    context: &'a Context,
    image: String,
}

impl<'a> Shown<'a> {
    fn new(context: &'a Context, name: &Reference) -> Self {
        let image = name.to_string();
        let report = PullReport { image: image.clone(), ..PullReport::default() };
        context.pulls.borrow_mut().insert(image.clone(), report);
        Self { context, image }
    }

    fn change<T>(&self, change: impl FnOnce(&mut PullReport) -> T) -> Option<T> {
        self.context.pulls.borrow_mut().get_mut(&self.image).map(change)
    }
}

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        self.context.pulls.borrow_mut().remove(&self.image);
    }
}

/// A request to pull `name`.
pub(crate) fn pull_request(
    config: &Config,
    platform: &Platform,
    name: &Reference,
    auth: SecretBytes,
) -> FetchRequest {
    FetchRequest {
        store: config.data_root.join("images"),
        additional_stores: config.images.additional_stores.clone(),
        quota_bytes: config.images.quota_bytes,
        min_free_bytes: config.images.min_free_bytes,
        any_platform: config.images.any_platform,
        platform: platform.clone(),
        what: What::Pull {
            reference: name.to_string(),
            auth,
            registries: config.registries.clone(),
        },
    }
}

async fn fetch(
    context: &Context,
    request: &FetchRequest,
    shown: &Shown<'_>,
    turn: &Turn<'_>,
) -> Result<(), Stop> {
    let mut fetch = image::fetch(context.program.path(), request)
        .map_err(|error| Stop::Failed(FetchFailure::Interrupted, chain(&error)))?;
    let mut pace = Pace::new(clock().mono, context.config.registries.bytes_per_second);
    let mut look = Timer::interval(LOOK);
    let (mut here, mut all) = (0, 0);
    loop {
        let came = async { Some(fetch.next().await) };
        let looked = async {
            future::poll_fn(|cx| {
                smol::stream::Stream::poll_next(std::pin::Pin::new(&mut look), cx)
            })
            .await;
            None
        };
        match future::or(came, looked).await {
            Some(Some(FetchEvent::Progress { done, total })) => {
                (here, all) = (done, total);
                shown.change(|pull| (pull.done_bytes, pull.total_bytes) = (done, total));
            }
            Some(Some(FetchEvent::Done { .. })) => return Ok(()),
            Some(Some(FetchEvent::Failed { kind, message })) => {
                return Err(Stop::Failed(kind, message));
            }
            Some(None) => {
                let killed = String::from("the process that pulls it was killed");
                return Err(Stop::Failed(FetchFailure::Interrupted, killed));
            }
            None => {
                if pace.is_slow(here, all, clock().mono) && turn.is_wanted() {
                    return Err(Stop::Yielded);
                }
            }
        }
    }
}
