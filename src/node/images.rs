//! The image store of this node: what tasks need of it, and when it is tidied.
//!
//! Reading a layer's folders takes a second on a slow card, deleting it more: both happen on a
//! thread of their own, for the loop has heartbeats to send.

use std::{io, rc::Rc};

use smol::{Timer, channel::Receiver, future};

use super::{clock, perform::Context};
use crate::{
    config::Config,
    image::{Needed, Pruned, Reference, Store, StoreError},
    limits::{IMAGE_COLLECT_PERIOD, PARTIAL_ROOM},
    model::{ImageSettings, LocalImage, Runtime, Task, chain},
    shim,
};

/// The store that `agent.json` describes.
pub(crate) fn store(config: &Config) -> Result<Store, StoreError> {
    let store = Store::open(&config.data_root.join("images"))?;
    Ok(store.over(&config.images.additional_stores))
}

/// What these tasks, and all containers, need of the store.
pub(crate) fn needed<'a>(
    config: &Config,
    store: &Store,
    tasks: impl Iterator<Item = &'a Task>,
) -> io::Result<Needed> {
    let mut needed =
        Needed { layers: shim::layers_in_use(&config.exec_root)?, ..Needed::default() };
    for task in tasks {
        let Runtime::Container(spec) = &task.runtime else { continue };
        let Ok(name) = Reference::parse(&spec.image) else { continue };
        if let Ok(Some(image)) = store.find(&name) {
            needed.manifests.insert(image.manifest);
        }
    }
    Ok(needed)
}

/// The image, unless a layer of it is damaged: after a power cut a file may be empty or gone
/// whatever the storage promised. Each is looked at once while this agent runs.
pub(super) async fn sound(context: &Context, image: LocalImage) -> Option<LocalImage> {
    if context.sound.borrow().contains(&image.manifest) {
        return Some(image);
    }
    let (store, now) = ((*context.store).clone(), clock().wall);
    let (image, sound) = smol::unblock(move || {
        let sound = store.are_sound(&image.layers);
        if sound && let Err(error) = store.touch(&image, now) {
            log::warn!("the use of image {} is not noted: {}", image.id, chain(&error));
        }
        (image, sound)
    })
    .await;
    if !sound {
        return None;
    }
    context.sound.borrow_mut().insert(image.manifest.clone());
    Some(image)
}

/// Takes away what nobody needs, whenever asked to and once a day.
pub(super) async fn keep_tidy(context: Rc<Context>, asked: Receiver<()>) {
    loop {
        let day = async {
            Timer::after(IMAGE_COLLECT_PERIOD).await;
        };
        let request = async {
            if asked.recv().await.is_err() {
                future::pending().await
            }
        };
        future::or(day, request).await;
        // A use that is older than a day is noted again.
        context.sound.borrow_mut().clear();
        match tidy(&context, context.config.images.clone()).await {
            Ok(Pruned { images: 0, layers: 0, .. }) => {}
            Ok(Pruned { images, layers, bytes }) => {
                log::info!("images tidied images={images} layers={layers} bytes={bytes}");
            }
            // The end of that fetch asks again.
            Err(StoreError::Busy) => {}
            Err(error) => log::warn!("images can not be tidied: {}", chain(&error)),
        }
    }
}

/// Makes room for an image of so many packed bytes, at the cost of images that no task uses, the
/// one not used for longest first. Returns whether one went.
pub(super) async fn make_room(context: &Context, packed: u64) -> bool {
    let room = packed.saturating_mul(PARTIAL_ROOM);
    let mut settings = context.config.images.clone();
    settings.min_free_bytes = settings.min_free_bytes.max(room);
    settings.quota_bytes = settings.quota_bytes.map(|quota| quota.saturating_sub(room));
    match tidy(context, settings).await {
        Ok(pruned) => 0 < pruned.images,
        Err(error) => {
            log::warn!("no room can be made for an image: {}", chain(&error));
            false
        }
    }
}

async fn tidy(context: &Context, settings: ImageSettings) -> Result<Pruned, StoreError> {
    let needed = {
        let agent = context.agent.borrow();
        let tasks = agent.records().map(|record| &record.task);
        needed(&context.config, &context.store, tasks)
            .map_err(|source| StoreError::Io { path: context.config.exec_root.clone(), source })?
    };
    let (store, now) = ((*context.store).clone(), clock().wall);
    smol::unblock(move || store.collect(&settings, &needed, now)).await
}
