//! Layers that are copied over one another, where overlayfs can not be used.
//!
//! The bytes are commands that make two layers, as a hostile archive might have left them. The
//! oracle: whatever they say, nothing outside of the merged tree changes.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{MetadataExt, symlink},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use edgeagent::{files, shim};

/// What names are made of: common ones, and marks of all kinds.
const NAMES: [&str; 12] = [
    "a",
    "b",
    "c",
    ".wh.a",
    ".wh.b",
    ".wh..wh..opq",
    ".wh.",
    ".wh..",
    ".wh...",
    ".wh..wh.a",
    ".wh..wh..",
    "...",
];

/// Where links lead.
const TARGETS: [&str; 8] =
    ["a", "..", "../..", "../../outside", "../outside", "/", "a/../../outside/kept", "."];

static COUNT: AtomicU64 = AtomicU64::new(0);

struct Place(PathBuf);

impl Drop for Place {
    fn drop(&mut self) {
        let _left = files::remove_tree(&self.0);
    }
}

/// Three bytes for each thing: its kind and layer, its name, and where it lies or leads.
pub fn run(data: &[u8]) {
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let name = format!("edgeagent-merge-{}-{number}", std::process::id());
    let place = Place(std::env::temp_dir().join(name));
    for folder in ["1", "2", "to", "outside/below"] {
        let made = fs::create_dir_all(place.0.join(folder));
        assert!(made.is_ok(), "{made:?}");
    }
    for file in ["outside/kept", "outside/below/a"] {
        let made = fs::write(place.0.join(file), "kept");
        assert!(made.is_ok(), "{made:?}");
    }
    for command in data.chunks_exact(3).take(64) {
        if let [what, name, more] = *command {
            make(&place.0, what, name, more);
        }
    }
    let before = seen(&place.0);
    let layers = [place.0.join("1"), place.0.join("2")];
    let merged = shim::merge_layers(&layers, &place.0.join("to"));
    assert_eq!(seen(&place.0), before, "{merged:?}");
    if merged.is_ok() {
        no_marks(&place.0.join("to"));
    }
}

fn pick<const N: usize>(list: [&'static str; N], number: u8) -> &'static str {
    list.get(usize::from(number) % N).copied().unwrap_or("a")
}

/// Whatever can not be made is left out.
fn make(place: &Path, what: u8, name: u8, more: u8) {
    let layer = place.join(if what & 0x80 == 0 { "1" } else { "2" });
    let folder = match more & 3 {
        0 => layer.clone(),
        1 => layer.join(pick(NAMES, more >> 2)),
        _ => layer.join("a").join(pick(NAMES, more >> 2)),
    };
    // Only folders that are ours: the making must not leave the layer either.
    let mut at = layer.clone();
    for part in folder.strip_prefix(&layer).unwrap_or_else(|_| Path::new("")) {
        at.push(part);
        let _there = fs::create_dir(&at);
        if !at.symlink_metadata().is_ok_and(|data| data.is_dir()) {
            return;
        }
    }
    let path = folder.join(pick(NAMES, name));
    let _made = match what & 7 {
        0 | 1 => fs::create_dir(&path),
        2 | 3 => symlink(pick(TARGETS, more), &path),
        4 => fs::hard_link(layer.join("a"), &path),
        _ if path.symlink_metadata().is_ok() => Ok(()),
        _ => fs::write(&path, [name, more]),
    };
}

/// Mode, inode, names, owner and content.
type About = (u32, u64, u64, u32, u32, Vec<u8>);

/// All but the tree that is merged to.
fn seen(place: &Path) -> BTreeMap<PathBuf, About> {
    let mut found = BTreeMap::new();
    let mut folders = vec![place.join("1"), place.join("2"), place.join("outside")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let Ok(data) = path.symlink_metadata() else { continue };
            if data.is_dir() {
                folders.push(path.clone());
            }
            let content = if data.is_file() { fs::read(&path) } else { Ok(Vec::new()) };
            let about = (
                data.mode(),
                data.ino(),
                data.nlink(),
                data.uid(),
                data.gid(),
                content.unwrap_or_default(),
            );
            found.insert(path, about);
        }
    }
    found
}

/// Marks say what is hidden; none of them is a file of the container.
fn no_marks(tree: &Path) {
    let mut folders = vec![tree.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let name = entry.file_name();
            assert!(!name.to_string_lossy().starts_with(".wh."), "{name:?}");
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                folders.push(entry.path());
            }
        }
    }
}
