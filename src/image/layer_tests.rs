//! Layers with names and links that lead elsewhere, in other orders, and without end.

use super::*;
use crate::image::tree::Resolver;
use std::{
    fs,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::PathBuf,
};

/// An outer folder with a file that must not change, and the layer's folder in it.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path =
            std::env::temp_dir().join(format!("edgeagent-layer-{name}-{}", std::process::id()));
        fs::create_dir_all(path.join("root")).unwrap();
        fs::write(path.join("outside"), "untouched").unwrap();
        Self(path)
    }

    fn root(&self) -> PathBuf {
        self.0.join("root")
    }

    fn assert_shape(&self, sums: Sums) {
        let root = fs::File::open(self.root()).unwrap();
        assert_eq!(sums::shape(root.as_fd()).unwrap(), sums.shape);
    }

    fn assert_untouched(&self) {
        assert_eq!(fs::read(self.0.join("outside")).unwrap(), b"untouched");
        assert_eq!(fs::read_dir(&self.0).unwrap().count(), 2);
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

enum Item<'a> {
    File(&'a str, &'a str),
    Folder(&'a str),
    Symlink(&'a str, &'a str),
    Hard(&'a str, &'a str),
}
use Item::{File, Folder, Hard, Symlink};

/// A tar stream with names exactly as given, which the builder of the `tar` crate refuses.
fn stream(items: &[Item<'_>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for item in items {
        let (name, kind, link, content) = match *item {
            File(name, content) => (name, tar::EntryType::Regular, "", content),
            Folder(name) => (name, tar::EntryType::Directory, "", ""),
            Symlink(name, to) => (name, tar::EntryType::Symlink, to, ""),
            Hard(name, to) => (name, tar::EntryType::Link, to, ""),
        };
        let mut header = tar::Header::new_gnu();
        let raw = header.as_old_mut();
        raw.name[..name.len()].copy_from_slice(name.as_bytes());
        raw.linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(kind);
        header.set_size(content.len() as u64);
        header.set_mode(0o755);
        header.set_uid(rustix::process::getuid().as_raw().into());
        header.set_gid(rustix::process::getgid().as_raw().into());
        header.set_mtime(1);
        header.set_cksum();
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend_from_slice(content.as_bytes());
        bytes.resize(bytes.len().next_multiple_of(512), 0);
    }
    bytes.resize(bytes.len() + 1024, 0);
    bytes
}

const fn room(max: u64) -> Room {
    Room { max, min_free: 0 }
}

fn apply(scratch: &Scratch, resolver: Resolver, items: &[Item<'_>]) -> Result<(), LayerError> {
    let bytes = stream(items);
    let tree = Tree::with(&scratch.root(), resolver).map_err(|e| failed(b".", e.into()))?;
    let (diff_id, sums) =
        unpack_into(&bytes[..], &tree, &scratch.0, room(1 << 30), &Digest::of(b""))?;
    assert_eq!((diff_id, sums.bytes), (Digest::of(&bytes), bytes.len() as u64));
    scratch.assert_shape(sums);
    Ok(())
}

#[test]
fn nothing_is_written_outside_of_the_root() {
    for resolver in [Resolver::Openat2, Resolver::Walk] {
        let scratch = Scratch::new(&format!("escape-{resolver:?}"));
        let up = "../".repeat(20);
        let outside = scratch.0.join("outside");
        let outside = outside.to_str().unwrap();
        for items in [
            vec![File("../outside", "bad")],
            vec![File("a/../../outside", "bad")],
            vec![Folder("..")],
            vec![File(".", "bad")],
            vec![File("/.", "bad")],
            vec![File("x", "y"), Hard("h", "../outside")],
            vec![File("../.wh.outside", "")],
        ] {
            let result = apply(&scratch, resolver, &items);
            assert!(matches!(result, Err(LayerError::Escape { .. })), "{result:?}");
            scratch.assert_untouched();
        }
        // Planted links lead to places below the root, or nowhere.
        let climbing = format!("{up}etc");
        for items in [
            vec![Symlink("l", ".."), File("l/outside", "in")],
            vec![Symlink("m", "../.."), Symlink("n", "m/.."), File("n/outside", "in")],
            vec![File("/outside", "in")],
            vec![Symlink("o", outside), File("o", "in")],
            vec![Folder("etc"), Symlink("p", &climbing), File("p/passwd", "in")],
            vec![Symlink("q", "/"), Symlink("q/r", "/"), File("q/r/q/outside", "in")],
        ] {
            apply(&scratch, resolver, &items).unwrap();
            scratch.assert_untouched();
        }
        assert_eq!(fs::read(scratch.root().join("outside")).unwrap(), b"in");
        assert_eq!(fs::read(scratch.root().join("etc/passwd")).unwrap(), b"in");
        assert!(fs::symlink_metadata(scratch.root().join("o")).unwrap().is_file());
        for items in [
            vec![Symlink("s", outside), Hard("t", "s/x")],
            vec![Hard("u", outside)],
            vec![Symlink("v", "v"), File("v/x", "bad")],
            vec![Symlink("w", "/proc/self/root"), File("w/x", "bad")],
            vec![File("file", "x"), File("file/x", "bad")],
        ] {
            let result = apply(&scratch, resolver, &items);
            assert!(matches!(result, Err(LayerError::Entry { .. })), "{result:?}");
            scratch.assert_untouched();
        }
        // A link to a link is a link, so nothing outside gets another name.
        apply(&scratch, resolver, &[Symlink("y", outside), Hard("z", "y")]).unwrap();
        assert!(fs::symlink_metadata(scratch.root().join("z")).unwrap().is_symlink());
        assert_eq!(fs::metadata(outside).unwrap().nlink(), 1);
    }
}

#[test]
fn later_entries_replace_earlier_ones() {
    let scratch = Scratch::new("replace");
    let items = [
        Folder("d"),
        File("d/a", "1"),
        File("d/a", "2"),
        Folder("e"),
        File("e/x/y", "1"),
        Symlink("e", "d"),
        Folder("d"),
        File("f", "1"),
        Folder("f"),
    ];
    apply(&scratch, Resolver::Openat2, &items).unwrap();
    let root = scratch.root();
    assert_eq!(fs::read(root.join("d/a")).unwrap(), b"2");
    assert_eq!(fs::read_link(root.join("e")).unwrap(), Path::new("d"));
    assert!(root.join("f").is_dir());
    assert_eq!(fs::metadata(root.join("d")).unwrap().mtime(), 1);
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn whiteouts_become_those_of_overlayfs_in_any_order() {
    let scratch = Scratch::new("whiteout");
    let items = [
        File("gone/.wh.a", ""),
        Folder("opaque"),
        File("opaque/new", "n"),
        File("opaque/.wh..wh..opq", ""),
        // Both orders of hiding a lower folder and making a new one.
        File(".wh.first", ""),
        Folder("first"),
        Folder("last"),
        File(".wh.last", ""),
        File(".wh.file", ""),
        File("file", "new"),
        File("other", "new"),
        File(".wh.other", ""),
        File(".wh..wh.plnk/1.2", "aufs"),
    ];
    apply(&scratch, Resolver::Openat2, &items).unwrap();
    let root = scratch.root();
    let device = fs::symlink_metadata(root.join("gone/a")).unwrap();
    assert!(device.file_type().is_char_device() && device.rdev() == 0);
    let opaque = |name: &str| {
        let mut value = [0_u8; 8];
        rustix::fs::lgetxattr(root.join(name), "trusted.overlay.opaque", &mut value[..])
            .is_ok_and(|n| value[..n] == *b"y")
    };
    assert!(opaque("opaque") && opaque("first") && opaque("last") && !opaque("gone"));
    assert_eq!(fs::read(root.join("file")).unwrap(), b"new");
    assert_eq!(fs::read(root.join("other")).unwrap(), b"new");
    assert_eq!(fs::read_dir(&root).unwrap().count(), 6);
    for name in [".wh.", ".wh..", ".wh...", "a/.wh..."] {
        let result = apply(&scratch, Resolver::Openat2, &[File(name, "")]);
        assert!(matches!(result, Err(LayerError::Whiteout { .. })), "{name} {result:?}");
    }
}

#[test]
fn the_bytes_of_a_layer_have_a_bound() {
    let scratch = Scratch::new("bounds");
    let bytes = stream(&[File("a", "four"), File("b", "more")]);
    let tree = Tree::open(&scratch.root()).unwrap();
    let result = unpack_into(&bytes[..], &tree, &scratch.0, room(1000), &Digest::of(b""));
    assert!(matches!(result, Err(LayerError::TooLarge { max: 1000 })), "{result:?}");
    scratch.assert_untouched();
}

/// That it is asked while a layer comes is shown on a small disk, in `tests/registry/full.rs`.
#[test]
fn enough_bytes_and_inodes_stay_free() {
    const MB: u64 = 1 << 20;
    let room = Room { max: MB, min_free: 64 * MB };
    let inodes = [1 << 20, 1 << 20];
    for (bytes, inodes, lacks) in [
        ([64 * MB, 1000 * MB], inodes, false),
        ([64 * MB - 1, 1000 * MB], inodes, true),
        ([64 * MB, 1000 * MB], [4096, 1 << 20], false),
        ([64 * MB, 1000 * MB], [4095, 1 << 20], true),
        // A small disk keeps half of what it has.
        ([24 * MB, 48 * MB], inodes, false),
        ([24 * MB - 1, 48 * MB], inodes, true),
        ([64 * MB, 1000 * MB], [50, 100], false),
        ([64 * MB, 1000 * MB], [49, 100], true),
        // File systems without a number of inodes bound only bytes.
        ([64 * MB, 1000 * MB], [0, 0], false),
    ] {
        assert_eq!(room.lacks(bytes, inodes), lacks, "{bytes:?} {inodes:?}");
    }
    assert!(!Room { max: MB, min_free: 0 }.lacks([0, 1000], [0, 1000]), "0 keeps nothing");
    assert!(LayerError::NoRoom.is_of_storage());
}

#[test]
fn folders_that_no_entry_names_count() {
    let scratch = Scratch::new("implied");
    let tree = Tree::open(&scratch.root()).unwrap();
    let mut made = 0;
    for (path, want) in [(&[&b"a"[..], b"b", b"c"][..], 3), (&[b"a", b"b", b"d"], 4)] {
        tree.folder_or_make(path, &mut made).unwrap();
        assert_eq!(made, want);
    }
}

#[test]
fn nothing_is_below_a_whiteout_and_what_has_no_name_makes_nothing() {
    let scratch = Scratch::new("marks");
    for path in [".wh.../x", ".wh../x", "a/.wh.b/c", ".wh.x/.wh.y", "a/.wh..wh.x/f", ".wh./x"] {
        let result = apply(&scratch, Resolver::Openat2, &[File(path, "")]);
        assert!(matches!(result, Err(LayerError::Whiteout { .. })), "{path} {result:?}");
    }
    assert_eq!(fs::read_dir(scratch.root()).unwrap().count(), 0);
    apply(&scratch, Resolver::Openat2, &[File("", "x"), Folder(""), File("a", "")]).unwrap();
    assert_eq!(fs::read_dir(scratch.root()).unwrap().count(), 1);
}

#[test]
fn attributes_of_overlayfs_are_not_taken_from_a_layer() {
    for name in ["trusted.overlay.redirect", "user.overlay.opaque", "security.selinux", "trusted.x"]
    {
        assert!(!is_kept(name.as_bytes()), "{name}");
    }
    for name in ["user.x", "security.capability", "system.posix_acl_default"] {
        assert!(is_kept(name.as_bytes()), "{name}");
    }
}
