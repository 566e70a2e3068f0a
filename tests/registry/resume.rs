//! Layers that come in pieces.

use std::{
    fs,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use edgeagent::{
    image::{Digest, FetchEvent, FetchFailure},
    model::RegistrySettings,
};

use crate::{
    server::Server,
    support::{
        Image, Scratch, assert_failed, assert_here, finish, partial_bytes, partials, program, pull,
        start,
    },
};

const MB: usize = 1_000_000;

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn a_layer_goes_on_at_the_byte_where_it_broke() {
    let scratch = Scratch::new("cut");
    let image = Arc::new(Image::new(&[MB]));
    let size = image.layers[0].len();
    let cuts = [1, 1, 511, 300_000, 400_000, usize::MAX];
    let next = Arc::new(AtomicUsize::new(0));
    let server = {
        let image = Arc::clone(&image);
        Server::start(&Arc::clone(&image), move |asked, wire| {
            let layer = asked.is_layer(&image, 0);
            if layer {
                let n = next.fetch_add(1, Ordering::SeqCst);
                wire.cut(&image.layers[0], asked.from, cuts[n.min(cuts.len() - 1)]);
            }
            layer
        })
    };
    let store = scratch.path("store");
    let event = pull(&store, &server.name());
    assert_here(&event, &store, &server.name(), &image);
    let from: Vec<Option<u64>> = server
        .asked()
        .iter()
        .filter(|asked| asked.is_layer(&image, 0))
        .map(|asked| asked.from)
        .collect();
    assert_eq!(from, [None, Some(1), Some(2), Some(513), Some(300_513), Some(700_513)]);
    let documents = image.manifest.len() + image.config.len();
    assert_eq!(server.sent(), (size + documents) as u64, "no byte came twice");
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn a_killed_fetch_is_gone_on_with_by_the_next_one() {
    let scratch = Scratch::new("kill");
    let image = Arc::new(Image::new(&[4 * MB, 2 * MB]));
    let server = {
        let image = Arc::clone(&image);
        Server::start(&Arc::clone(&image), move |asked, wire| {
            for n in 0..2 {
                if asked.is_layer(&image, n) && asked.from.is_none() {
                    wire.cut(&image.layers[n], None, MB);
                    // The connection stays, and brings nothing.
                    thread::sleep(Duration::from_secs(20));
                    return true;
                }
            }
            false
        })
    };
    let store = scratch.path("store");
    let fetch = start(&store, &server.name(), "", &RegistrySettings::default());
    let began = Instant::now();
    while partial_bytes(&store) < 2 * MB as u64 {
        assert!(began.elapsed() < Duration::from_secs(10), "{}", partial_bytes(&store));
        thread::sleep(Duration::from_millis(10));
    }
    // Kills it with SIGKILL.
    drop(fetch);
    let event = pull(&store, &server.name());
    assert_here(&event, &store, &server.name(), &image);
    let documents = 2 * (image.manifest.len() + image.config.len()) as u64;
    assert_eq!(server.sent(), image.size() + documents, "no byte of a layer came twice");
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn what_is_left_of_a_power_cut_is_used_as_far_as_it_is_right() {
    let scratch = Scratch::new("power");
    let image = Image::new(&[MB]);
    let layer = &image.layers[0];
    let server = Server::good(&image);
    let half = layer[..MB / 2].to_vec();
    let mut wrong = half.clone();
    wrong[MB / 2 - 4096..].fill(0);
    let longer = [&layer[..], b"x"].concat();
    for (name, left, whole) in [
        ("half", half, false),
        ("wrong", wrong, true),
        ("longer", longer, true),
        ("all", layer.clone(), false),
    ] {
        let store = scratch.path(name);
        fs::create_dir_all(store.join("partial")).unwrap();
        fs::write(store.join("partial").join(Digest::of(layer).hex()), left).unwrap();
        let before = server.asked().len();
        let event = pull(&store, &server.name());
        assert_here(&event, &store, &server.name(), &image);
        let fetched = server.asked()[before..]
            .iter()
            .any(|asked| asked.is_layer(&image, 0) && asked.from.is_none());
        assert_eq!(fetched, whole, "{name}");
    }
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn a_registry_without_ranges_or_with_wrong_ones_is_made_do_with() {
    let scratch = Scratch::new("ranges");
    let image = Arc::new(Image::new(&[MB]));
    for kind in ["none", "header", "content"] {
        let first = Arc::new(AtomicUsize::new(0));
        let server = {
            let image = Arc::clone(&image);
            Server::start(&Arc::clone(&image), move |asked, wire| {
                if !asked.is_layer(&image, 0) {
                    return false;
                }
                let layer = &image.layers[0];
                let length = layer.len();
                if first.fetch_add(1, Ordering::SeqCst) == 0 {
                    wire.cut(layer, None, MB / 2);
                    return true;
                }
                match (kind, asked.from) {
                    ("header", Some(_)) => {
                        let range = format!("bytes 0-{}/{length}", length - 1);
                        let length = length.to_string();
                        wire.head(206, &[("Content-Range", &range), ("Content-Length", &length)]);
                        wire.body(layer);
                    }
                    // The right header, and other bytes.
                    ("content", Some(from)) => {
                        let mut other = layer.clone();
                        other[MB * 3 / 4] ^= 1;
                        wire.blob(&other, Some(from));
                    }
                    _ => wire.blob(layer, None),
                }
                true
            })
        };
        let store = scratch.path(kind);
        let event = pull(&store, &server.name());
        assert_here(&event, &store, &server.name(), &image);
        let requests = server.asked().iter().filter(|asked| asked.is_layer(&image, 0)).count();
        assert_eq!(requests, if kind == "none" { 2 } else { 3 }, "{kind}");
    }
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn wrong_content_is_not_kept_and_asked_for_once() {
    let scratch = Scratch::new("wrong");
    let image = Arc::new(Image::new(&[MB]));
    let server = {
        let image = Arc::clone(&image);
        Server::start(&Arc::clone(&image), move |asked, wire| {
            let layer = asked.is_layer(&image, 0);
            if layer {
                let mut other = image.layers[0].clone();
                // Its time stamp: it unpacks to the same bytes.
                other[4] ^= 1;
                wire.blob(&other, asked.from);
            }
            layer
        })
    };
    let store = scratch.path("store");
    let event = pull(&store, &server.name());
    assert_failed(&event, FetchFailure::Invalid, "image content is damaged");
    assert_eq!(partials(&store).len(), 0);
    assert_eq!(fs::read_dir(store.join("layers")).unwrap().count(), 0);
    let requests = server.asked().iter().filter(|asked| asked.is_layer(&image, 0)).count();
    assert_eq!(requests, 1);
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn layers_come_side_by_side_and_at_the_rate_that_is_allowed() {
    let scratch = Scratch::new("side");
    let image = Arc::new(Image::new(&[MB, MB, MB]));
    for (at_once, most) in [(1, 1), (2, 2), (3, 3)] {
        let busy = Arc::new(AtomicUsize::new(0));
        let peak = Arc::new(AtomicUsize::new(0));
        let server = {
            let (image, peak) = (Arc::clone(&image), Arc::clone(&peak));
            Server::start(&Arc::clone(&image), move |asked, wire| {
                let Some(n) = (0..3).find(|n| asked.is_layer(&image, *n)) else { return false };
                peak.fetch_max(busy.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                thread::sleep(Duration::from_millis(500));
                wire.blob(&image.layers[n], asked.from);
                busy.fetch_sub(1, Ordering::SeqCst);
                true
            })
        };
        let store = scratch.path(&at_once.to_string());
        let settings = RegistrySettings { layers_at_once: at_once, ..Default::default() };
        let event = finish(start(&store, &server.name(), "", &settings));
        assert_here(&event, &store, &server.name(), &image);
        assert_eq!(peak.load(Ordering::SeqCst), most, "{at_once} at once");
    }
    let server = Server::good(&image);
    let store = scratch.path("slow");
    let rate = RegistrySettings { bytes_per_second: Some(1_500_000), ..Default::default() };
    let began = Instant::now();
    let event = finish(start(&store, &server.name(), "", &rate));
    assert!(matches!(event, FetchEvent::Done { .. }), "{event:?}");
    let took = began.elapsed();
    assert!(Duration::from_millis(1900) < took && took < Duration::from_secs(6), "{took:?}");
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn a_person_sees_how_far_a_pull_is() {
    let scratch = Scratch::new("bar");
    let image = Image::new(&[2 * MB]);
    let server = Server::good(&image);
    for terminal in [false, true] {
        let folder = |name: &str| scratch.path(&format!("{name}-{terminal}"));
        let config = folder("agent.json");
        let text = serde_json::json!({
            "data-root": folder("data"), "exec-root": folder("run"), "max-download-rate": "1m",
        });
        fs::write(&config, text.to_string()).unwrap();
        let words = ["--config", config.to_str().unwrap(), "image", "pull", &server.name()];
        let output = if terminal {
            let line = format!("{} {}", program().display(), words.join(" "));
            Command::new("script").args(["-qec", &line, "/dev/null"]).output().unwrap()
        } else {
            Command::new(program()).args(words).output().unwrap()
        };
        assert!(output.status.success(), "{output:?}");
        let out = String::from_utf8(output.stdout).unwrap();
        let err = String::from_utf8(output.stderr).unwrap();
        if terminal {
            assert!(out.contains("\r\x1b[K[====") && out.contains(" of 2.0 MB ("), "{out:?}");
            assert!(out.ends_with(&format!("\r\x1b[K{}\r\n", server.name())), "{out:?}");
        } else {
            assert_eq!(out, format!("{}\n", server.name()));
            assert!(err.lines().count() < 12 && err.contains(" of 2.0 MB ("), "{err:?}");
            assert!(err.chars().all(|c| c == '\n' || !c.is_control()), "{err:?}");
        }
    }
}
