//! Registries that lie, stall, flood, or lead astray.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use edgeagent::{
    image::{Digest, FetchFailure},
    model::RegistrySettings,
};

use crate::{
    server::{Asked, Server, Wire},
    support::{Image, Scratch, assert_failed, assert_here, finish, pull, start},
};

const MB: usize = 1_000_000;

/// base64url of `{"username":"user","password":"secret"}`.
const LOGIN: &str = "eyJ1c2VybmFtZSI6InVzZXIiLCJwYXNzd29yZCI6InNlY3JldCJ9";
const BASIC: &str = "Basic dXNlcjpzZWNyZXQ=";

type Behave = fn(&Asked, &mut Wire<'_>) -> bool;

fn is_manifest(asked: &Asked) -> bool {
    asked.path.contains("/manifests/")
}

#[test]
fn a_bad_answer_fails_the_pull_at_once() {
    let scratch = Scratch::new("bad");
    let image = Image::new(&[1000]);
    let endless: Behave = |asked, wire| {
        if is_manifest(asked) {
            wire.head(200, &[]);
            while wire.body(&[b' '; 16 << 10]) {}
        }
        is_manifest(asked)
    };
    let huge: Behave = |asked, wire| {
        if is_manifest(asked) {
            wire.head(200, &[("Content-Length", "5000000")]);
            wire.body(&vec![b' '; 5_000_000]);
        }
        is_manifest(asked)
    };
    let header: Behave = |asked, wire| {
        if is_manifest(asked) {
            wire.raw(b"HTTP/1.1 200 OK\r\n");
            while wire.raw(b"X-More: and more and more and more\r\n") {}
        }
        is_manifest(asked)
    };
    let garbage: Behave = |asked, wire| is_manifest(asked) && wire.raw(b"SSH-2.0-x\r\n\r\n");
    let status: Behave = |asked, wire| {
        if is_manifest(asked) {
            wire.head(418, &[("Content-Length", "0")]);
        }
        is_manifest(asked)
    };
    let index: Behave = |asked, wire| {
        if is_manifest(asked) {
            // A manifest that the registry calls an index (CVE-2021-41190).
            let text = r#"{"schemaVersion":2,"config":{"digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","size":0},"layers":[]}"#;
            let kind = "application/vnd.oci.image.index.v1+json";
            wire.head(200, &[("Content-Type", kind), ("Content-Length", &text.len().to_string())]);
            wire.body(text.as_bytes());
        }
        is_manifest(asked)
    };
    let plain: Behave = |asked, wire| {
        if is_manifest(asked) {
            let place = "http://192.0.2.1/elsewhere";
            wire.head(307, &[("Location", place), ("Content-Length", "0")]);
        }
        is_manifest(asked)
    };
    let circle: Behave = |asked, wire| {
        if is_manifest(asked) {
            wire.head(307, &[("Location", &asked.path), ("Content-Length", "0")]);
        }
        is_manifest(asked)
    };
    for (behave, kind, part) in [
        (endless, FetchFailure::Invalid, "exceeds 4194304 bytes"),
        (huge, FetchFailure::Invalid, "exceeds 4194304 bytes"),
        (header, FetchFailure::Unreachable, "registry 127.0.0.1"),
        (garbage, FetchFailure::Unreachable, "registry 127.0.0.1"),
        (status, FetchFailure::Unreachable, "HTTP status 418"),
        (index, FetchFailure::Invalid, "media type"),
        (plain, FetchFailure::Unreachable, "192.0.2.1/elsewhere"),
        (circle, FetchFailure::Unreachable, "not safe to follow"),
    ] {
        let server = Server::start(&image, behave);
        let began = Instant::now();
        let event = pull(&scratch.path("store"), &server.name());
        assert_failed(&event, kind, part);
        assert!(began.elapsed() < Duration::from_secs(10), "{part}");
    }
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn a_layer_of_another_length_is_refused_before_it_comes() {
    let scratch = Scratch::new("length");
    let image = Arc::new(Image::new(&[MB]));
    for wrong in [image.layers[0].len() - 1, image.layers[0].len() + 1] {
        let server = {
            let image = Arc::clone(&image);
            Server::start(&Arc::clone(&image), move |asked, wire| {
                let layer = asked.is_layer(&image, 0);
                if layer {
                    wire.head(200, &[("Content-Length", &wrong.to_string())]);
                    wire.body(&image.layers[0]);
                }
                layer
            })
        };
        let event = pull(&scratch.path("store"), &server.name());
        assert_failed(&event, FetchFailure::Invalid, "bytes it must have");
    }
    // Without a length the stream ends where it must, however much follows.
    let server = {
        let image = Arc::clone(&image);
        Server::start(&Arc::clone(&image), move |asked, wire| {
            let layer = asked.is_layer(&image, 0);
            if layer {
                wire.head(200, &[]);
                wire.body(&image.layers[0]);
                while wire.body(&[0; 16 << 10]) {}
            }
            layer
        })
    };
    let event = pull(&scratch.path("store"), &server.name());
    assert_here(&event, &scratch.path("store"), &server.name(), &image);
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn credentials_stay_with_their_registry() {
    let scratch = Scratch::new("astray");
    let mut image = Image::new(&[MB]);
    // What another host gets to see: a layer that the registry redirects to.
    let elsewhere = Server::good(&image);
    // Nobody asks where a foreign layer claims to be (CVE-2020-15157).
    let foreign = Server::good(&image);
    let plain = "layer.v1.tar+gzip\"";
    let urls =
        format!("layer.nondistributable.v1.tar+gzip\",\"urls\":[\"http://{}/x\"]", foreign.address);
    let manifest = String::from_utf8(image.manifest).unwrap();
    assert!(manifest.contains(plain));
    image.manifest = manifest.replace(plain, &urls).into_bytes();
    let image = Arc::new(image);
    let server = {
        let (image, to) = (Arc::clone(&image), elsewhere.address.clone());
        Server::start(&Arc::clone(&image), move |asked, wire| {
            if asked.path.ends_with("/v2/") {
                return false;
            }
            if asked.authorization.as_deref() != Some(BASIC) {
                wire.head(
                    401,
                    &[("WWW-Authenticate", "Basic realm=\"x\""), ("Content-Length", "0")],
                );
                return true;
            }
            let layer = asked.is_layer(&image, 0);
            if layer {
                let place = format!("http://{to}{}", asked.path);
                wire.head(307, &[("Location", &place), ("Content-Length", "0")]);
            }
            layer
        })
    };
    let store = scratch.path("store");
    let event = finish(start(&store, &server.name(), LOGIN, &RegistrySettings::default()));
    assert_here(&event, &store, &server.name(), &image);
    let seen = elsewhere.asked();
    assert!(seen.iter().any(|asked| asked.is_layer(&image, 0)));
    assert!(seen.iter().all(|asked| asked.authorization.is_none()), "{seen:?}");
    assert_eq!(foreign.asked().len(), 0);
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn a_token_that_expires_within_a_pull_is_renewed() {
    let scratch = Scratch::new("token");
    let image = Arc::new(Image::new(&[MB, MB]));
    let uses = Arc::new(AtomicUsize::new(0));
    let server = {
        Server::start(&Arc::clone(&image), move |asked, wire| {
            if asked.path.ends_with("/v2/") {
                return false;
            }
            let n = uses.load(Ordering::SeqCst);
            if asked.path.starts_with("/token?") {
                let text = format!(r#"{{"access_token":"t{}"}}"#, n / 2);
                wire.head(200, &[("Content-Length", &text.len().to_string())]);
                wire.body(text.as_bytes());
                return true;
            }
            // Each token is good for two requests.
            if asked.authorization == Some(format!("Bearer t{}", n / 2)) {
                uses.fetch_add(1, Ordering::SeqCst);
                return false;
            }
            wire.head(401, &[("WWW-Authenticate", &challenge(asked)), ("Content-Length", "0")]);
            true
        })
    };
    // The realm is at the server itself, whose port it only knows now.
    REALM.get_or_init(|| server.address.clone());
    let store = scratch.path("store");
    let settings = RegistrySettings { layers_at_once: 1, ..Default::default() };
    let event = finish(start(&store, &server.name(), LOGIN, &settings));
    assert_here(&event, &store, &server.name(), &image);
    let tokens: Vec<Asked> =
        server.asked().into_iter().filter(|asked| asked.path.starts_with("/token?")).collect();
    assert_eq!(tokens.len(), 2);
    for asked in tokens {
        assert_eq!(asked.authorization.as_deref(), Some(BASIC));
        assert!(asked.path.contains("service=reg"), "{asked:?}");
        assert!(asked.path.contains("scope=repository%3Ax%3Apull"), "{asked:?}");
    }
}

static REALM: std::sync::OnceLock<String> = std::sync::OnceLock::new();

fn challenge(_asked: &Asked) -> String {
    let realm = REALM.get().map_or("", String::as_str);
    format!("Bearer realm=\"http://{realm}/token\",service=\"reg\"")
}

/// Three registries that take their time, side by side, for each costs half a minute.
#[test]
#[ignore = "a minute: make test-long"]
fn a_registry_that_takes_for_ever_is_given_up_or_asked_again() {
    let image = Arc::new(Image::new(&[MB]));
    let slow = |kind: &'static str, image: &Arc<Image>| {
        let (image, first) = (Arc::clone(image), AtomicUsize::new(0));
        Server::start(&Arc::clone(&image), move |asked, wire| {
            if kind == "header" && is_manifest(asked) {
                wire.raw(b"HTTP/1.1 200 OK\r\n");
                while wire.raw(b"X: y\r\n") {
                    thread::sleep(Duration::from_millis(500));
                }
                return true;
            }
            if !asked.is_layer(&image, 0) || first.fetch_add(1, Ordering::SeqCst) != 0 {
                return false;
            }
            let first = if kind == "stall" { MB / 2 } else { 1000 };
            wire.cut(&image.layers[0], None, first);
            let mut rest = image.layers[0][first..].iter();
            // A byte now and then, or none and the connection open.
            while kind == "stall" || rest.next().is_some_and(|byte| wire.body(&[*byte])) {
                thread::sleep(Duration::from_millis(500));
            }
            true
        })
    };
    let began = Instant::now();
    thread::scope(|scope| {
        for kind in ["header", "stall", "trickle"] {
            let image = &image;
            scope.spawn(move || {
                let scratch = Scratch::new(kind);
                let server = slow(kind, image);
                let store = scratch.path("store");
                let event = pull(&store, &server.name());
                println!("{kind}: {:?}", began.elapsed());
                if kind == "header" {
                    return assert_failed(&event, FetchFailure::Unreachable, "registry 127.0.0.1");
                }
                assert_here(&event, &store, &server.name(), image);
                let from = server.asked().last().and_then(|asked| asked.from);
                assert!(from.is_some_and(|from| 1000 <= from), "{kind} {from:?}");
            });
        }
    });
    assert!(began.elapsed() < Duration::from_secs(50), "{:?}", began.elapsed());
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn an_overloaded_registry_is_asked_again() {
    let scratch = Scratch::new("busy");
    let image = Image::new(&[1000]);
    let count = AtomicUsize::new(0);
    let server = Server::start(&image, move |asked, wire| {
        let busy =
            !asked.path.ends_with("/v2/") && count.fetch_add(1, Ordering::SeqCst).is_multiple_of(2);
        if busy {
            let status = if is_manifest(asked) { 429 } else { 503 };
            wire.head(status, &[("Content-Length", "0")]);
        }
        busy
    });
    let store = scratch.path("store");
    let event = pull(&store, &server.name());
    assert_here(&event, &store, &server.name(), &image);
}

#[test]
fn a_manifest_by_digest_must_have_it() {
    let scratch = Scratch::new("digest");
    let image = Image::new(&[1000]);
    let server = Server::good(&image);
    let other = Digest::of(b"other");
    let event = pull(&scratch.path("store"), &format!("{}/x@{other}", server.address));
    assert_failed(&event, FetchFailure::Invalid, "image content is damaged");
}
