//! The image of a task: what is here, what must be pulled, and which child does that.

use std::collections::BTreeMap;

use super::{clock, control::PullReport, images, perform::Context};
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
    // The semaphore is never closed.
    let _turn = context.pulling.acquire().await;
    let key = name.to_string();
    if let Some((at, failure)) = context.pulled.borrow().get(&key)
        && asked <= *at
    {
        return failure.clone();
    }
    let failure = pull(context, task, name).await.err();
    if failure.is_none() {
        context.tidy();
    }
    remember(&mut context.pulled.borrow_mut(), key, (clock().mono, failure.clone()));
    failure
}

/// Only what happened a moment ago matters, so a full map is emptied.
fn remember<T>(map: &mut BTreeMap<String, T>, key: String, value: T) {
    if PULLED_MAX <= map.len() {
        map.clear();
    }
    map.insert(key, value);
}

async fn pull(context: &Context, task: &Task, name: &Reference) -> Result<(), String> {
    let auth = match &task.runtime {
        Runtime::Container(spec) => spec.registry_auth.clone(),
        Runtime::Attachment | Runtime::Generic { .. } | Runtime::Unknown => SecretBytes::default(),
    };
    let request = pull_request(&context.config, &context.platform, name, auth);
    let _shown = Shown::new(context, name);
    let mut result = fetch(context, &request).await;
    if let Err((FetchFailure::Storage, reason)) = &result {
        log::warn!("image {name} finds no room: {reason}");
        let packed = context.pull.borrow().as_ref().map_or(0, |pull| pull.total_bytes);
        if images::make_room(context, packed).await {
            result = fetch(context, &request).await;
        }
    }
    result.map_err(|(_, reason)| reason)
}

/// A pull that `status` shows; dropped when it ends or is cancelled.
struct Shown<'a>(&'a Context);

impl<'a> Shown<'a> {
    fn new(context: &'a Context, name: &Reference) -> Self {
        let image = name.to_string();
        *context.pull.borrow_mut() = Some(PullReport { image, ..PullReport::default() });
        Self(context)
    }
}

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        *self.0.pull.borrow_mut() = None;
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
        platform: platform.clone(),
        what: What::Pull {
            reference: name.to_string(),
            auth,
            registries: config.registries.clone(),
        },
    }
}

async fn fetch(context: &Context, request: &FetchRequest) -> Result<(), (FetchFailure, String)> {
    let mut fetch = image::fetch(context.program.path(), request)
        .map_err(|error| (FetchFailure::Interrupted, chain(&error)))?;
    while let Some(event) = fetch.next().await {
        match event {
            FetchEvent::Progress { done, total } => {
                if let Some(pull) = context.pull.borrow_mut().as_mut() {
                    (pull.done_bytes, pull.total_bytes) = (done, total);
                }
            }
            FetchEvent::Done { .. } => return Ok(()),
            FetchEvent::Failed { kind, message } => return Err((kind, message)),
        }
    }
    Err((FetchFailure::Interrupted, String::from("the process that pulls it was killed")))
}
