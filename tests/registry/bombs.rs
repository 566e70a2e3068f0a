//! Layers that are small as long as they are packed.

use std::{
    fs,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use edgeagent::image::{Digest, FetchEvent, FetchFailure};

use crate::{
    server::Server,
    support::{Image, Scratch, assert_failed, memory, noise, pull, run},
};

/// Packs the tar of `tree` with a command; gives the layer and its diff id.
fn packed(tree: &Path, with: &str) -> (Vec<u8>, String) {
    let tar = format!("tar --sort=name -C {} -c .", tree.display());
    let sum = run("sh", &["-c", &format!("{tar} | sha256sum")]);
    let hex = String::from_utf8(sum).unwrap();
    let layer = run("sh", &["-c", &format!("{tar} | {with}")]);
    (layer, format!("sha256:{}", hex.split_whitespace().next().unwrap()))
}

/// Pulls, and watches the child. Returns its end and the most memory that it had, in kB. One that
/// ended before it was seen is started again.
fn watched(store: &Path, name: &str) -> (FetchEvent, u64) {
    // The watcher can not tell one child from another.
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let mut seen = watched_once(store, name);
    for _ in 0..20 {
        if 0 < seen.1 {
            break;
        }
        seen = watched_once(store, name);
    }
    seen
}

fn watched_once(store: &Path, name: &str) -> (FetchEvent, u64) {
    let done = Arc::new(AtomicBool::new(false));
    let peak = Arc::new(AtomicU64::new(0));
    let watcher = {
        let (done, peak) = (Arc::clone(&done), Arc::clone(&peak));
        thread::spawn(move || {
            while !done.load(Ordering::SeqCst) {
                peak.fetch_max(memory().unwrap_or(0), Ordering::SeqCst);
                thread::sleep(Duration::from_millis(1));
            }
        })
    };
    let event = pull(store, name);
    done.store(true, Ordering::SeqCst);
    watcher.join().unwrap();
    (event, peak.load(Ordering::SeqCst))
}

#[test]
#[cfg_attr(not(all(root, program = "zstd")), ignore = "needs root and the program zstd")]
fn a_bomb_from_a_registry_ends_early_and_in_little_memory() {
    let scratch = Scratch::new("bomb");
    let tree = scratch.path("tree");
    fs::create_dir(&tree).unwrap();
    // 300 MB of zeros in 300 kB.
    fs::File::create(tree.join("zeros")).unwrap().set_len(300 << 20).unwrap();
    for (with, packing) in [("gzip -6", "+gzip"), ("zstd -q", "+zstd")] {
        let image = Image::of(vec![packed(&tree, with)], packing);
        assert!(image.size() < 400_000);
        let server = Server::good(&image);
        let store = scratch.path("store");
        let (event, peak) = watched(&store, &server.name());
        println!("{with}: {peak} kB");
        assert_failed(&event, FetchFailure::Invalid, "too many for its size");
        assert!(0 < peak && peak <= PEAK_MAX, "{with}: {peak} kB");
        let used = run("du", &["-sk", store.to_str().unwrap()]);
        let used: u64 =
            String::from_utf8(used).unwrap().split('\t').next().unwrap().parse().unwrap();
        assert!(used < 200, "{with}: {used} kB stay");
    }
}

/// The most that a fetch child may have, in kB: 8 MB of its own, whatever the layer.
const PEAK_MAX: u64 = 8_000_000 / 1024;

#[test]
#[cfg_attr(not(all(root, program = "zstd")), ignore = "needs root and the program zstd")]
fn any_layer_is_unpacked_in_little_memory() {
    let scratch = Scratch::new("memory");
    let tree = scratch.path("tree");
    fs::create_dir(&tree).unwrap();
    // It repeats what came 7.5 MB ago, so that a decoder needs the whole of a large window.
    let once = noise(7_000_000, 1);
    let all = [&once[..], &noise(500_000, 2), &once, &noise(500_000, 3), &once].concat();
    fs::write(tree.join("data"), all).unwrap();
    for (with, packing) in [
        ("cat", ""),
        ("gzip -1", "+gzip"),
        ("zstd -q -3", "+zstd"),
        // What BuildKit and Podman write, and the most that every decoder must take (RFC 8878).
        ("zstd -q -3 --zstd=wlog=23", "+zstd"),
    ] {
        let image = Image::of(vec![packed(&tree, with)], packing);
        assert_eq!(image.size() < 9_000_000, with.contains("wlog"), "{with}: {}", image.size());
        let server = Server::good(&image);
        let store = scratch.path("store");
        let (event, peak) = watched(&store, &server.name());
        println!("{with}: {peak} kB");
        assert!(matches!(event, FetchEvent::Done { .. }), "{with}: {event:?}");
        assert!(0 < peak && peak <= PEAK_MAX, "{with}: {peak} kB");
        fs::remove_dir_all(store).unwrap();
    }
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn many_folders_take_little_memory() {
    let scratch = Scratch::new("folders");
    let mut builder = tar::Builder::new(Vec::new());
    // 20 000 with long paths; their times are set at the end.
    let names: Vec<String> = noise(20_000, 1).chunks(100).map(|c| format!("{c:02x?}")).collect();
    let names: Vec<String> = names.iter().map(|n| n.replace([' ', ',', '[', ']'], "")).collect();
    for (n, name) in (0..100).flat_map(|n| names.iter().map(move |name| (n, name))) {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Directory);
        header.set_size(0);
        header.set_mode(0o755);
        header.set_mtime(1_000_000);
        let path = if n == 0 { name.clone() } else { format!("{name}/{n}") };
        builder.append_data(&mut header, path, std::io::empty()).unwrap();
    }
    let plain = builder.into_inner().unwrap();
    let diff_id = Digest::of(&plain).to_string();
    let image = Image::of(vec![(plain, diff_id)], "");
    let server = Server::good(&image);
    let store = scratch.path("store");
    let (event, peak) = watched(&store, &server.name());
    println!("{peak} kB");
    assert!(matches!(event, FetchEvent::Done { .. }), "{event:?}");
    assert!(0 < peak && peak <= 2 << 10, "{peak} kB");
    let mut layers = fs::read_dir(store.join("layers")).unwrap().map(|entry| entry.unwrap().path());
    let layer = layers.find(|path| path.is_dir()).unwrap();
    for path in [names[0].clone(), format!("{}/99", names[199])] {
        let time = std::os::unix::fs::MetadataExt::mtime(&fs::metadata(layer.join(path)).unwrap());
        assert_eq!(time, 1_000_000);
    }
}

/// `compression-level` 7 and up of BuildKit, `zstd -20`, `--long`: a window takes no memory however
/// large it is.
#[test]
#[cfg_attr(not(all(root, program = "zstd")), ignore = "needs root and the program zstd")]
fn zstd_windows_up_to_128_mib_are_read_in_the_same_memory() {
    let scratch = Scratch::new("windows");
    let tree = scratch.path("tree");
    fs::create_dir(&tree).unwrap();
    // Each repeats itself after so many bytes, which lie in the far part of the window.
    for (with, period) in [
        ("zstd -q -3 --zstd=wlog=24 --long=24", 14_000_000),
        ("zstd -q -3 --long=25", 30_000_000),
        ("zstd -q -1 --long=27", 100_000_000),
    ] {
        let once = noise(period, 1);
        let all = [&once[..], &once[..period / 2]].concat();
        fs::write(tree.join("data"), &all).unwrap();
        let image = Image::of(vec![packed(&tree, with)], "+zstd");
        let reaches_back = image.size() < period as u64 + 1_000_000;
        assert!(reaches_back, "{with}: {}", image.size());
        let server = Server::good(&image);
        let store = scratch.path("store");
        let (event, peak) = watched(&store, &server.name());
        println!("{with}: {peak} kB");
        assert!(matches!(event, FetchEvent::Done { .. }), "{with}: {event:?}");
        assert!(0 < peak && peak <= PEAK_MAX, "{with}: {peak} kB");
        fs::remove_dir_all(store).unwrap();
    }
}

#[test]
#[cfg_attr(not(all(root, program = "zstd")), ignore = "needs root and the program zstd")]
fn a_zstd_window_has_a_bound() {
    let scratch = Scratch::new("window");
    let tree = scratch.path("tree");
    fs::create_dir(&tree).unwrap();
    let text = format!("seq 1600000 > {}", tree.join("text").display());
    run("sh", &["-c", &text]);
    let image = Image::of(vec![packed(&tree, "zstd -q -3 --long=28")], "+zstd");
    let (event, peak) = watched(&scratch.path("store"), &Server::good(&image).name());
    assert_failed(&event, FetchFailure::Invalid, "zstd window of 268435456 bytes");
    assert!(0 < peak && peak <= PEAK_MAX, "{peak} kB");
}

/// What extended headers say of one entry is in memory until its file is there.
#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn extended_headers_take_little_memory() {
    let scratch = Scratch::new("headers");
    let record = |n: usize, length: usize| {
        let rest = format!(" SCHILY.xattr.user.{n}=").len() + length + 1;
        let mut all = rest + 1;
        while all != rest + all.to_string().len() {
            all += 1;
        }
        format!("{all} SCHILY.xattr.user.{n}={}\n", "x".repeat(length))
    };
    for (name, headers, records, length) in [
        ("many records", 1, 60_000, 0),
        ("many headers", 1000, 1, 60_000),
        ("one of many bytes", 1, 1, 60 << 20),
    ] {
        let mut plain = Vec::new();
        for _ in 0..headers {
            let body: String = (0..records).map(|n| record(n, length)).collect();
            let mut header = tar::Header::new_ustar();
            header.set_entry_type(tar::EntryType::XHeader);
            header.set_size(body.len() as u64);
            header.set_path("x").unwrap();
            header.set_cksum();
            plain.extend_from_slice(header.as_bytes());
            plain.extend_from_slice(body.as_bytes());
            plain.resize(plain.len().next_multiple_of(512), 0);
        }
        let diff_id = Digest::of(&plain).to_string();
        let image = Image::of(vec![(plain, diff_id)], "");
        let server = Server::good(&image);
        let (event, peak) = watched(&scratch.path("store"), &server.name());
        println!("{name}: {peak} kB");
        assert_failed(&event, FetchFailure::Invalid, "extended headers above");
        assert!(0 < peak && peak <= PEAK_MAX, "{name}: {peak} kB");
    }
}

/// One entry of a tar, with what stands before it.
fn entry(kind: u8, name: &str, size: usize, content: &[u8]) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::new(kind));
    let bytes = name.as_bytes();
    header.as_old_mut().name[..bytes.len().min(100)]
        .copy_from_slice(&bytes[..bytes.len().min(100)]);
    header.set_size(size as u64);
    header.set_mode(0o755);
    header.set_cksum();
    let mut all = header.as_bytes().to_vec();
    all.extend_from_slice(content);
    all.resize(512 + content.len().div_ceil(512) * 512, 0);
    all
}

/// Whatever a layer holds, and whether or not it is taken.
#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn hostile_layers_take_little_memory() {
    let scratch = Scratch::new("hostile");
    let long = |kind, name: &[u8]| entry(kind, "././@LongLink", name.len(), name);
    let deep = vec!["d"; 2000].join("/");
    let parents: Vec<String> =
        (0..300).map(|n| format!("{n}/{}", vec!["d"; 200].join("/"))).collect();
    let sparse = "a".repeat(1 << 19);
    let layers: Vec<(&str, Vec<u8>)> = vec![
        ("many entries", (0..30_000).flat_map(|n| entry(b'0', &format!("f{n}"), 0, b"")).collect()),
        ("one deep path", [long(b'L', deep.as_bytes()), entry(b'0', "x", 0, b"")].concat()),
        (
            "many deep parents",
            parents
                .iter()
                .flat_map(|path| [long(b'L', path.as_bytes()), entry(b'0', "x", 0, b"")].concat())
                .collect(),
        ),
        (
            "huge names",
            (0..40)
                .flat_map(|_| {
                    [long(b'L', sparse.as_bytes()), long(b'K', sparse.as_bytes())].concat()
                })
                .chain(entry(b'2', "x", 0, b""))
                .collect(),
        ),
        (
            "many whiteouts",
            (0..20_000).flat_map(|n| entry(b'0', &format!(".wh.{n}"), 0, b"")).collect(),
        ),
    ];
    for (what, mut plain) in layers {
        plain.extend([0; 1024]);
        let diff_id = Digest::of(&plain).to_string();
        let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut packer, &plain).unwrap();
        let image = Image::of(vec![(packer.finish().unwrap(), diff_id)], "+gzip");
        let server = Server::good(&image);
        let store = scratch.path("store");
        let (event, peak) = watched(&store, &server.name());
        println!("{what}: {peak} kB of {} packed bytes: {event:?}", image.size());
        assert!(0 < peak && peak <= PEAK_MAX, "{what}: {peak} kB");
        if let FetchEvent::Failed { kind, .. } = event {
            assert_eq!(kind, FetchFailure::Invalid, "{what}");
        }
        fs::remove_dir_all(store).unwrap();
    }
}
