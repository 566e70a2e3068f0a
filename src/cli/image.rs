//! `image ls|pull|load|rm|prune`.

use std::{
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use smol::future;

use super::{
    Failure, ImageCommand, ImageLoad, ImageLs, ImagePrune, ImagePull, ImageRm, print, print_json,
};
use crate::{
    config::Config,
    image::{self, FetchEvent, FetchRequest, Reference, Store, What},
    model::{LocalImage, SecretBytes, chain},
    node,
    seal::{Machine, Sealer, TaskStore},
};

/// Characters of a progress bar.
const BAR_WIDTH: u64 = 40;

pub(super) fn image(config: &Config, command: ImageCommand) -> Result<(), Failure> {
    node::make_private_dir(&config.data_root)?;
    let store = node::image_store(config)
        .map_err(|error| Failure::failed("the image store can not be used", &error))?;
    match command {
        ImageCommand::Ls(ImageLs { json, verify }) => list(&store, json, verify),
        ImageCommand::Pull(ImagePull { image }) => pull(config, &image),
        ImageCommand::Load(ImageLoad { input }) => load(config, &input),
        ImageCommand::Rm(ImageRm { images }) => remove(&store, &images),
        ImageCommand::Prune(ImagePrune { json }) => prune(config, &store, json),
    }
}

/// An image, as `image ls --json` prints it.
#[derive(serde::Serialize)]
struct ImageReport {
    reference: String,
    id: String,
    /// `whole`, or `damaged`: the next use pulls it again.
    state: &'static str,
    /// To a day.
    last_use: String,
    read_only: bool,
    image: Option<LocalImage>,
}

fn list(store: &Store, json: bool, verify: bool) -> Result<(), Failure> {
    let failed = |error| Failure::failed("cannot list the images", &error);
    if verify {
        store.verify().map_err(failed)?;
    }
    let images = store.list().map_err(failed)?.into_iter().map(|one| ImageReport {
        reference: one.reference.to_string(),
        id: one.id,
        state: if one.image.is_some() { "whole" } else { "damaged" },
        last_use: one.used.to_string(),
        read_only: one.read_only,
        image: one.image,
    });
    if json {
        return print_json(&images.collect::<Vec<_>>());
    }
    for ImageReport { reference, id, state, image, .. } in images {
        let id = id.strip_prefix("sha256:").unwrap_or(&id);
        let short = id.get(..12).unwrap_or(id);
        match image {
            Some(image) => {
                let megabytes = image.size_bytes / 1_000_000;
                print(format_args!("{short}  {megabytes:>6} MB  {reference}\n"))?;
            }
            None => print(format_args!("{short}  {state:>9}  {reference}\n"))?,
        }
    }
    Ok(())
}

fn reference(text: &str) -> Result<Reference, Failure> {
    Reference::parse(text).map_err(|error| Failure::usage(chain(&error)))
}

fn pull(config: &Config, text: &str) -> Result<(), Failure> {
    let name = reference(text)?;
    let platform = image::host_platform();
    fetch(&node::pull_request(config, &platform, &name, SecretBytes::default()))
}

fn load(config: &Config, input: &Path) -> Result<(), Failure> {
    let archive = if input == Path::new("-") {
        PathBuf::from(format!("/proc/{}/fd/0", std::process::id()))
    } else {
        fs::canonicalize(input)
            .map_err(|error| Failure::failed(&format!("cannot open {}", input.display()), &error))?
    };
    fetch(&FetchRequest {
        store: config.data_root.join("images"),
        additional_stores: config.images.additional_stores.clone(),
        quota_bytes: config.images.quota_bytes,
        min_free_bytes: config.images.min_free_bytes,
        any_platform: config.images.any_platform,
        platform: image::host_platform(),
        what: What::Load { archive },
    })
}

/// Runs the fetch child and shows how it gets on.
fn fetch(request: &FetchRequest) -> Result<(), Failure> {
    let program = std::env::current_exe()
        .map_err(|error| Failure::failed("cannot find our own program", &error))?;
    let mut fetch = image::fetch(&program, request)
        .map_err(|error| Failure::failed("cannot start the fetch", &error))?;
    let mut bar = Bar::new();
    future::block_on(async {
        while let Some(event) = fetch.next().await {
            match event {
                FetchEvent::Progress { done, total } => bar.show(done, total),
                FetchEvent::Done { images, .. } => {
                    bar.clear();
                    for name in images {
                        print(format_args!("{name}\n"))?;
                    }
                    return Ok(());
                }
                FetchEvent::Failed { message, .. } => {
                    bar.clear();
                    return Err(Failure::plain(message));
                }
            }
        }
        Err(Failure::plain("the process that fetches it was killed"))
    })
}

/// How far a fetch is, on standard error: one line that changes on a terminal, elsewhere a line
/// per tenth.
struct Bar {
    terminal: bool,
    tenths: u64,
}

impl Bar {
    fn new() -> Self {
        Self { terminal: rustix::termios::isatty(io::stderr()), tenths: 0 }
    }

    fn show(&mut self, done: u64, total: u64) {
        let bytes = megabytes_of(done, total);
        let tenths = percent(done, total) / 10;
        if self.terminal {
            let width = usize::try_from(percent(done, total) * BAR_WIDTH / 100).unwrap_or_default();
            let rest = usize::try_from(BAR_WIDTH).unwrap_or_default() - width;
            Self::write(format_args!("\r\x1b[K[{:=<width$}{:rest$}] {bytes}", "", ""));
        } else if self.tenths != tenths {
            Self::write(format_args!("{bytes}\n"));
        }
        self.tenths = tenths;
    }

    fn clear(&self) {
        if self.terminal {
            Self::write(format_args!("\r\x1b[K"));
        }
    }

    /// A fetch goes on also when nobody can be told how far it is.
    fn write(text: core::fmt::Arguments<'_>) {
        let mut out = io::stderr().lock();
        let _unseen = out.write_fmt(text).and_then(|()| out.flush());
    }
}

fn percent(done: u64, total: u64) -> u64 {
    done.min(total).saturating_mul(100) / total.max(1)
}

/// `12.3 of 100.0 MB (12 %)`.
pub(super) fn megabytes_of(done: u64, total: u64) -> String {
    if total == 0 {
        return String::from("(size not known yet)");
    }
    let tenths = |bytes: u64| (bytes / 1_000_000, bytes / 100_000 % 10);
    let ((a, b), (c, d)) = (tenths(done.min(total)), tenths(total));
    format!("{a}.{b} of {c}.{d} MB ({} %)", percent(done, total))
}

fn remove(store: &Store, images: &[String]) -> Result<(), Failure> {
    if images.is_empty() {
        return Err(Failure::usage("name the image to remove"));
    }
    for text in images {
        let name = reference(text)?;
        let removed = store
            .remove(&name)
            .map_err(|error| Failure::failed(&format!("cannot remove {name}"), &error))?;
        if removed {
            print(format_args!("{name}\n"))?;
            continue;
        }
        return Err(match store.find(&name) {
            Ok(Some(_)) => Failure::plain(format!(
                "{name} lies in one of additional-image-stores, which are never changed"
            )),
            Ok(None) | Err(_) => Failure::plain(format!("No such image: {name}")),
        });
    }
    Ok(())
}

/// Removes what no task record names and no container lies on: a tag may have moved on, or been
/// removed, since a container was started from it.
fn prune(config: &Config, store: &Store, json: bool) -> Result<(), Failure> {
    let sealer = Sealer::open(&config.data_root, &Machine::this(), &config.seal)?;
    let stored = TaskStore::open(&config.data_root, sealer)?.load_all()?;
    if let Some(damaged) = stored.damaged.first() {
        return Err(Failure::sealed(format!(
            "the task record {} can not be opened, so it is not known which images are in use: {}. \
             A running agent replaces it as soon as it has reached a manager",
            damaged.path.display(),
            damaged.error
        )));
    }
    let tasks = stored.records.iter().map(|record| &record.task);
    let needed = node::needed(config, store, tasks)
        .map_err(|error| Failure::failed("it is not known which images are in use", &error))?;
    let pruned =
        store.prune(&needed).map_err(|error| Failure::failed("cannot prune the images", &error))?;
    if json {
        return print_json(&pruned);
    }
    let megabytes = pruned.bytes / 1_000_000;
    print(format_args!("{} layers removed, {megabytes} MB freed\n", pruned.layers))
}
