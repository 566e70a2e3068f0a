//! Tests of the store and of its garbage.

use std::{
    collections::BTreeSet,
    time::{Duration, SystemTime},
};

use super::*;
use crate::{
    image::garbage::{Needed, Pruned},
    limits::PARTIAL_MAX_AGE,
    model::ImageSettings,
};

struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path =
            std::env::temp_dir().join(format!("edgeagent-store-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

/// Puts an image of one layer into the store.
fn put(store: &Store, name: &str, content: &str) -> NameRecord {
    let diff_id = Digest::of(content.as_bytes());
    if !store.has_sound_layer(&diff_id) {
        let tree = store.temporary_folder().unwrap();
        fs::write(tree.join("file"), content).unwrap();
        let shape = sums::shape(File::open(&tree).unwrap().as_fd()).unwrap();
        let sums = Sums { bytes: content.len() as u64, shape, content: None };
        store.publish_layer(&tree, &diff_id, &sums).unwrap();
    }
    let config = format!(
        r#"{{"os":"linux","architecture":"amd64","config":{{"Labels":{{"n":"{content}"}}}},
        "rootfs":{{"type":"layers","diff_ids":["{diff_id}"]}}}}"#
    );
    let id = store.publish_blob(config.as_bytes()).unwrap();
    let manifest = format!(
        r#"{{"schemaVersion":2,"config":{{"digest":"{id}","size":{}}},
        "layers":[{{"digest":"{diff_id}","size":1}}]}}"#,
        config.len()
    );
    let manifest = store.publish_blob(manifest.as_bytes()).unwrap();
    let reference = Reference::parse(name).unwrap().canonical();
    let record =
        NameRecord { reference, target: Digest::of(b"index"), manifest, id, loaded: false };
    store.publish_name(&record).unwrap();
    record
}

#[test]
fn an_image_is_found_by_tag_digest_and_id() {
    let scratch = Scratch::new("find");
    let store = Store::open(&scratch.0).unwrap();
    let record = put(&store, "a/b:1", "one");
    let find = |text: &str| store.find(&Reference::parse(text).unwrap()).unwrap();
    let image = find("a/b:1").unwrap();
    assert_eq!(image.manifest, record.manifest.to_string());
    assert_eq!(image.size_bytes, 3);
    assert_eq!(fs::read(image.layers[0].join("file")).unwrap(), b"one");
    for same in [
        format!("a/b@{}", record.manifest),
        format!("a/b:other@{}", record.target),
        record.id.to_string(),
    ] {
        assert_eq!(find(&same).as_ref(), Some(&image), "{same}");
    }
    for other in ["a/b:2".to_owned(), "a/b".to_owned(), format!("a/c@{}", record.manifest)] {
        assert_eq!(find(&other), None, "{other}");
    }
    assert_eq!(store.list().unwrap().len(), 1);
}

#[test]
fn a_damaged_image_counts_as_absent() {
    let scratch = Scratch::new("damage");
    let store = Store::open(&scratch.0).unwrap();
    let record = put(&store, "a:1", "one");
    let reference = Reference::parse("a:1").unwrap();
    for path in [store.blob_path(&record.id), store.blob_path(&record.manifest)] {
        let good = fs::read(&path).unwrap();
        let mut bad = good.clone();
        bad[10] ^= 1;
        fs::write(&path, bad).unwrap();
        assert_eq!(store.find(&reference).unwrap(), None);
        fs::write(&path, good).unwrap();
        assert!(store.find(&reference).unwrap().is_some());
    }
    fs::remove_dir_all(store.layer_path(&Digest::of(b"one"))).unwrap();
    assert_eq!(store.find(&reference).unwrap(), None);
}

#[test]
fn leftovers_of_a_dead_fetch_are_swept() {
    let scratch = Scratch::new("sweep");
    let store = Store::open(&scratch.0).unwrap();
    let leftover = store.temporary_folder().unwrap();
    fs::write(leftover.join("x"), "x").unwrap();
    let first = store.lock_to_fetch().unwrap();
    assert!(!leftover.exists());
    let mine = store.temporary_folder().unwrap();
    let second = store.lock_to_fetch().unwrap();
    assert!(mine.exists(), "another fetch is at work there");
    drop((first, second));
}

#[test]
fn pruning_keeps_what_a_name_or_a_task_needs() {
    let scratch = Scratch::new("prune");
    let store = Store::open(&scratch.0).unwrap();
    put(&store, "named:1", "named");
    let used = put(&store, "used:1", "used");
    put(&store, "idle:1", "idle");
    for name in ["used:1", "idle:1"] {
        assert!(store.remove(&Reference::parse(name).unwrap()).unwrap());
        assert!(!store.remove(&Reference::parse(name).unwrap()).unwrap());
    }
    let needed =
        Needed { manifests: BTreeSet::from([used.manifest.to_string()]), ..Needed::default() };
    let fetching = store.lock_to_fetch().unwrap();
    assert!(matches!(store.prune(&needed), Err(StoreError::Busy)));
    drop(fetching);
    assert_eq!(store.prune(&needed).unwrap(), Pruned { layers: 1, bytes: 4, ..Pruned::default() });
    assert!(store.find(&Reference::parse("named:1").unwrap()).unwrap().is_some());
    let layer = |content: &str| store.has_sound_layer(&Digest::of(content.as_bytes()));
    assert!(layer("named") && layer("used") && !layer("idle"));
    assert_eq!(store.digests_in("blobs/sha256").unwrap().len(), 4);
    let unknown =
        Needed { manifests: BTreeSet::from([Digest::of(b"?").to_string()]), ..Needed::default() };
    assert_eq!(store.prune(&unknown).unwrap(), Pruned::default());
    assert!(layer("used"), "nothing goes while a manifest in use is unreadable");
}

#[test]
fn pruning_keeps_what_lies_below_a_container_whose_image_lost_its_name() {
    let scratch = Scratch::new("prune-mounted");
    let store = Store::open(&scratch.0).unwrap();
    put(&store, "app:latest", "old");
    let reference = Reference::parse("app:latest").unwrap();
    let mounted = store.find(&reference).unwrap().unwrap().layers.into_iter().collect();
    put(&store, "app:latest", "new");
    assert_eq!(
        store.prune(&Needed { layers: mounted, ..Needed::default() }).unwrap(),
        Pruned::default()
    );
    assert!(store.has_sound_layer(&Digest::of(b"old")));
    let pruned = store.prune(&Needed::default()).unwrap();
    assert_eq!(
        pruned,
        Pruned { layers: 1, bytes: 3, ..Pruned::default() },
        "the container has ended"
    );
    assert!(store.has_sound_layer(&Digest::of(b"new")));
}

const DAY: i64 = 24 * 3600;

/// The names that are left.
fn names(store: &Store) -> Vec<String> {
    store.list().unwrap().iter().map(|one| one.reference.to_string()).collect()
}

/// Sets the last use, in seconds since 1970.
fn use_at(path: &Path, seconds: u64) {
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    File::open(path).unwrap().set_modified(time).unwrap();
}

#[test]
fn images_that_nobody_used_for_long_go_unless_they_are_needed_or_were_loaded() {
    let scratch = Scratch::new("age");
    let store = Store::open(&scratch.0).unwrap();
    let needed = put(&store, "needed:1", "a");
    let loaded = put(&store, "loaded:1", "b");
    store.publish_name(&NameRecord { loaded: true, ..loaded.clone() }).unwrap();
    let (old, new) = (put(&store, "old:1", "c"), put(&store, "new:1", "d"));
    for (record, at) in [(&needed, 1), (&loaded, 1), (&old, 1), (&new, 5)] {
        use_at(&store.name_path(&record.reference), 1_000_000 + at * 86_400);
    }
    let settings = ImageSettings {
        max_age: Some(Duration::from_secs(30 * 86_400)),
        min_free_bytes: 0,
        ..ImageSettings::default()
    };
    let needs =
        Needed { manifests: BTreeSet::from([needed.manifest.to_string()]), ..Needed::default() };
    let collect = |days: i64| {
        store.collect(&settings, &needs, UnixTime::from_seconds(1_000_000 + days * DAY)).unwrap()
    };
    assert_eq!(collect(31), Pruned::default(), "not a second longer than said");
    // A clock that is behind keeps everything.
    assert_eq!(collect(-9), Pruned::default());
    assert_eq!(collect(33), Pruned { images: 1, layers: 1, bytes: 1 });
    assert_eq!(names(&store), ["loaded:1", "needed:1", "new:1"]);
    // A use is noted, but not each one.
    let image = store.find(&Reference::parse("new:1").unwrap()).unwrap().unwrap();
    let used = || fs::metadata(store.name_path(&new.reference)).unwrap().mtime();
    store.touch(&image, UnixTime::from_seconds(1_000_000 + 5 * DAY + DAY - 1)).unwrap();
    assert_eq!(used(), 1_000_000 + 5 * DAY);
    store.touch(&image, UnixTime::from_seconds(1_000_000 + 40 * DAY)).unwrap();
    assert_eq!(used(), 1_000_000 + 40 * DAY);
    assert_eq!(collect(60), Pruned::default());
}

#[test]
fn images_make_room_in_the_order_of_their_use() {
    let scratch = Scratch::new("room");
    let store = Store::open(&scratch.0).unwrap();
    for (name, content, at) in [("b:1", "bbb", 2), ("a:1", "aaa", 3), ("c:1", "ccc", 1)] {
        let record = put(&store, name, content);
        use_at(&store.name_path(&record.reference), at * 86_400);
    }
    let now = UnixTime::from_seconds(4 * DAY);
    let mut settings =
        ImageSettings { min_free_bytes: 0, quota_bytes: Some(9), ..ImageSettings::default() };
    let collect =
        |settings: &ImageSettings| store.collect(settings, &Needed::default(), now).unwrap();
    assert_eq!(collect(&settings), Pruned::default());
    settings.quota_bytes = Some(8);
    assert_eq!(collect(&settings), Pruned { images: 1, layers: 1, bytes: 3 });
    assert_eq!(names(&store), ["a:1", "b:1"]);
    // No disk is that large: everything goes that may.
    let partial = scratch.0.join("partial");
    fs::create_dir(&partial).unwrap();
    fs::write(partial.join("half"), "").unwrap();
    settings.min_free_bytes = u64::MAX;
    assert_eq!(collect(&settings), Pruned { images: 2, layers: 2, bytes: 6 });
    assert_eq!(fs::read_dir(&partial).unwrap().count(), 0);
    assert_eq!(store.digests_in("blobs/sha256").unwrap(), []);
}

#[test]
fn downloads_that_nobody_goes_on_with_are_removed() {
    let scratch = Scratch::new("partial");
    let store = Store::open(&scratch.0).unwrap();
    let partial = scratch.0.join("partial");
    fs::create_dir(&partial).unwrap();
    for (name, at) in [("old", 0), ("new", 1000)] {
        fs::write(partial.join(name), "").unwrap();
        use_at(&partial.join(name), at);
    }
    let settings = ImageSettings { min_free_bytes: 0, ..ImageSettings::default() };
    let now = i64::try_from(PARTIAL_MAX_AGE.as_secs()).unwrap() + 1;
    store.collect(&settings, &Needed::default(), UnixTime::from_seconds(now)).unwrap();
    assert!(!partial.join("old").exists() && partial.join("new").exists());
}

#[test]
fn layers_of_a_pull_that_broke_off_stay_for_the_next_one() {
    let scratch = Scratch::new("unfinished");
    let store = Store::open(&scratch.0).unwrap();
    let (here, missing) = (Digest::of(b"here"), Digest::of(b"missing"));
    let begin = || {
        put(&store, "here:1", "here");
        store.remove(&Reference::parse("here:1").unwrap()).unwrap();
        let config = format!(
            r#"{{"os":"linux","architecture":"amd64",
            "rootfs":{{"type":"layers","diff_ids":["{here}","{missing}"]}}}}"#
        );
        let id = store.publish_blob(config.as_bytes()).unwrap();
        let manifest = format!(
            r#"{{"schemaVersion":2,"config":{{"digest":"{id}","size":{}}},
            "layers":[{{"digest":"{here}","size":1}},{{"digest":"{missing}","size":1}}]}}"#,
            config.len()
        );
        let manifest = store.publish_blob(manifest.as_bytes()).unwrap();
        use_at(&store.blob_path(&manifest), 0);
    };
    let mut settings = ImageSettings { min_free_bytes: 0, ..ImageSettings::default() };
    let week = i64::try_from(PARTIAL_MAX_AGE.as_secs()).unwrap();
    let collect = |settings: &ImageSettings, now: i64| {
        store.collect(settings, &Needed::default(), UnixTime::from_seconds(now)).unwrap().layers
    };
    begin();
    assert_eq!(collect(&settings, week), 0);
    assert!(store.has_sound_layer(&here));
    assert_eq!(collect(&settings, week + 1), 1, "nobody goes on with it");
    begin();
    settings.min_free_bytes = u64::MAX;
    assert_eq!(collect(&settings, week), 1, "room is worth more");
}

#[test]
fn a_quota_bounds_own_layers_and_leaves_downloads_and_stores_below_alone() {
    let scratch = Scratch::new("quota");
    let preloaded = scratch.0.join("preloaded");
    let below = Store::open(&preloaded).unwrap();
    put(&below, "base:1", &"x".repeat(1000));
    let held = put(&below, "held:1", "held");
    use_at(&below.name_path(&held.reference), 0);
    let store = Store::open(&scratch.0.join("own")).unwrap().over(&[preloaded]);
    for (name, content, at) in [("old:1", "old", 1), ("new:1", "new", 2), ("used:1", "use", 0)] {
        let record = put(&store, name, content);
        use_at(&store.name_path(&record.reference), at * 86_400);
    }
    let loaded = NameRecord { loaded: true, ..put(&store, "loaded:1", "loa") };
    store.publish_name(&loaded).unwrap();
    use_at(&store.name_path(&loaded.reference), 0);
    // The same image as below, under a name of its own: it takes nothing here.
    put(&store, "same:1", "held");
    let partial = store.root().join("partial/half");
    fs::create_dir(partial.parent().unwrap()).unwrap();
    fs::write(&partial, [7; 5000]).unwrap();

    let used = store.find(&Reference::parse("used:1").unwrap()).unwrap().unwrap();
    let base = store.find(&Reference::parse("base:1").unwrap()).unwrap().unwrap();
    let manifests = BTreeSet::from([used.manifest, base.manifest]);
    let needed = Needed { manifests, layers: BTreeSet::new() };
    let now = UnixTime::from_seconds(3 * DAY);
    let mut settings = ImageSettings { min_free_bytes: 0, ..ImageSettings::default() };
    let mut collect = |quota: u64, free: u64| {
        (settings.quota_bytes, settings.min_free_bytes) = (Some(quota), free);
        store.collect(&settings, &needed, now).unwrap();
        let own = names(&store);
        (
            own.into_iter().filter(|name| name != "base:1" && name != "held:1").collect::<Vec<_>>(),
            partial.exists(),
        )
    };
    let mut there = vec!["loaded:1", "new:1", "old:1", "same:1", "used:1"];
    let mut expect = |gone: &str| {
        there.retain(|name| *name != gone);
        there.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(store.layers_bytes().unwrap(), 12, "four layers of its own, of three bytes each");
    assert_eq!(collect(12, 0), (expect(""), true), "5000 bytes of a download do not count");
    assert_eq!(collect(11, 0), (expect("old:1"), true), "the one not used for longest");
    // What is needed or was loaded stays even so, and a download is not sacrificed in vain.
    expect("same:1");
    assert_eq!(collect(1, 0), (expect("new:1"), true));
    assert_eq!(collect(1, u64::MAX), (expect(""), false), "room on the disk is worth more");
    assert_eq!(names(&below), ["base:1", "held:1"], "nothing below is ever touched");
    assert!(
        store.are_sound(&base.layers) && base.layers[0].starts_with(scratch.0.join("preloaded"))
    );
}
