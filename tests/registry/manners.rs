//! Manners of registries that a client must bear, and those that it must not.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use edgeagent::{
    image::{Digest, FetchFailure},
    model::RegistrySettings,
};

use crate::{
    server::{Asked, Server, Wire},
    support::{Image, Scratch, assert_failed, assert_here, finish, start},
};

/// base64url of `{"username":"user","password":"secret"}` and of `{"identitytoken":"secret"}`.
const LOGIN: &str = "eyJ1c2VybmFtZSI6InVzZXIiLCJwYXNzd29yZCI6InNlY3JldCJ9";
const IDENTITY: &str = "eyJpZGVudGl0eXRva2VuIjoic2VjcmV0In0";

const EMPTY: (&str, &str) = ("Content-Length", "0");

fn is_manifest(asked: &Asked) -> bool {
    asked.path.contains("/manifests/")
}

fn text(wire: &mut Wire<'_>, text: &str) {
    wire.head(200, &[("Content-Length", &text.len().to_string())]);
    wire.body(text.as_bytes());
}

fn fetch(scratch: &Scratch, server: &Server, login: &str) -> edgeagent::image::FetchEvent {
    let store = scratch.path(&server.address.replace(':', "-"));
    finish(start(&store, &server.name(), login, &RegistrySettings::default()))
}

fn assert_pulled(scratch: &Scratch, server: &Server, image: &Image, login: &str) {
    let event = fetch(scratch, server, login);
    let store = scratch.path(&server.address.replace(':', "-"));
    assert_here(&event, &store, &server.name(), image);
}

/// A token server that gives everybody the token `t`.
fn tokens(image: &Image) -> Server {
    Server::start(image, |asked, wire| {
        let token = asked.path.starts_with("/token");
        if token {
            text(wire, r#"{"token":"t"}"#);
        }
        token
    })
}

/// CVE-2020-15157 and its kin: whoever a registry sends us to asks for a login.
#[test]
fn only_the_registry_itself_may_ask_for_a_login() {
    let scratch = Scratch::new("elsewhere");
    let image = Image::new(&[1000]);
    for (login, scheme) in [(LOGIN, "Bearer"), (IDENTITY, "Bearer"), (LOGIN, "Basic")] {
        for of_layer in [false, true] {
            let thief = tokens(&image);
            let steal = format!("{scheme} realm=\"http://{}/token\"", thief.address);
            let second = Server::start(&image, move |_, wire| {
                wire.head(401, &[("WWW-Authenticate", &steal), EMPTY]);
                true
            });
            let place = format!("http://{}/x?sig=hidden", second.address);
            let layer = format!("/blobs/{}", Digest::of(&image.layers[0]));
            let registry = Server::start(&image, move |asked, wire| {
                let away = if of_layer { asked.path.ends_with(&layer) } else { is_manifest(asked) };
                if away {
                    wire.head(307, &[("Location", &place), EMPTY]);
                }
                away
            });
            let event = fetch(&scratch, &registry, login);
            assert_failed(&event, FetchFailure::Unreachable, &second.address);
            assert!(!format!("{event:?}").contains("hidden"), "{event:?}");
            assert!(thief.asked().is_empty(), "{scheme}: {:?}", thief.asked());
            let asked = second.asked();
            assert!(asked.iter().all(|asked| asked.authorization.is_none()), "{asked:?}");
            assert!(asked.iter().all(|asked| asked.body.is_empty()), "{asked:?}");
            assert!(2 <= asked.len(), "an address may have expired: asked once more");
        }
    }
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn a_signed_address_that_expired_is_asked_for_again() {
    let scratch = Scratch::new("signed");
    let image = Arc::new(Image::new(&[1000]));
    let store = {
        let image = Arc::clone(&image);
        Server::start(&Arc::clone(&image), move |asked, wire| {
            if asked.path.ends_with("sig=1") {
                wire.head(403, &[EMPTY]);
            } else {
                wire.blob(&image.layers[0], asked.from);
            }
            true
        })
    };
    let place = format!("http://{}/layer", store.address);
    let count = AtomicUsize::new(0);
    let layer = format!("/blobs/{}", Digest::of(&image.layers[0]));
    let registry = Server::start(&image, move |asked, wire| {
        let away = asked.path.ends_with(&layer);
        if away {
            let n = 1 + count.fetch_add(1, Ordering::SeqCst);
            let signed = format!("{place}?sig={n}");
            wire.head(307, &[("Location", &signed), EMPTY]);
        }
        away
    });
    assert_pulled(&scratch, &registry, &image, "");
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn relative_addresses_are_followed() {
    let scratch = Scratch::new("relative");
    let image = Arc::new(Image::new(&[1000]));
    for to in ["?sig=1", "../blobs/signed", "./signed/../signed", "signed"] {
        let layer = format!("/blobs/{}", Digest::of(&image.layers[0]));
        let content = Arc::clone(&image);
        let registry = Server::start(&image, move |asked, wire| {
            if asked.path.ends_with(&layer) {
                wire.head(302, &[("Location", to), EMPTY]);
                return true;
            }
            let signed = asked.path.ends_with("?sig=1") || asked.path == "/v2/x/blobs/signed";
            if signed {
                wire.blob(&content.layers[0], asked.from);
            }
            signed
        });
        assert_pulled(&scratch, &registry, &image, "");
    }
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn of_several_challenges_the_one_that_can_be_met_is_taken() {
    let scratch = Scratch::new("challenges");
    let image = Image::new(&[1000]);
    let server = tokens(&image);
    let bearer = format!("Bearer realm=\"http://{}/token\" , service=reg", server.address);
    for header in [
        format!("Basic realm=\"x\", {bearer}"),
        format!("{bearer}, Basic realm=\"x, y\""),
        format!("Negotiate, {bearer}"),
    ] {
        let registry = Server::start(&image, move |asked, wire| {
            let known = asked.authorization.as_deref() == Some("Bearer t");
            if !known {
                wire.head(401, &[("WWW-Authenticate", &header), EMPTY]);
            }
            !known
        });
        assert_pulled(&scratch, &registry, &image, "");
    }
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn token_servers_differ() {
    let scratch = Scratch::new("tokens");
    let image = Image::new(&[1000]);
    let no_post: fn(&Asked, &mut Wire<'_>) -> bool = |asked, wire| {
        if asked.method == "POST" {
            wire.head(if asked.path.len() % 2 == 0 { 404 } else { 405 }, &[EMPTY]);
        } else {
            text(wire, r#"{"token":"t"}"#);
        }
        true
    };
    let null: fn(&Asked, &mut Wire<'_>) -> bool = |_, wire| {
        text(wire, r#"{"token":null,"access_token":"t","expires_in":null}"#);
        true
    };
    for (behave, path, login) in [
        (null, "token", LOGIN),
        (null, "token", IDENTITY),
        (no_post, "token", IDENTITY),
        (no_post, "tokens", IDENTITY),
    ] {
        let server = Server::start(&image, behave);
        let challenge = format!("Bearer realm=\"http://{}/{path}\"", server.address);
        let registry = Server::start(&image, move |asked, wire| {
            let known = asked.authorization.as_deref() == Some("Bearer t");
            if !known {
                wire.head(401, &[("WWW-Authenticate", &challenge), EMPTY]);
            }
            !known
        });
        assert_pulled(&scratch, &registry, &image, login);
    }
}

/// A token that is good for the manifest only is followed by one for what the registry asks for.
#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn a_wider_scope_is_asked_for() {
    let scratch = Scratch::new("scope");
    let image = Image::new(&[1000]);
    let server = Server::start(&image, |asked, wire| {
        let wide = asked.path.contains("scope=repository%3Ax%3Apull%2Cdeep");
        text(wire, if wide { r#"{"token":"wide"}"# } else { r#"{"token":"narrow"}"# });
        true
    });
    let realm = format!("Bearer realm=\"http://{}/token\"", server.address);
    let registry = Server::start(&image, move |asked, wire| {
        let token = asked.authorization.as_deref();
        let narrow = is_manifest(asked) || asked.path.ends_with("/v2/");
        if token == Some("Bearer wide") || (narrow && token == Some("Bearer narrow")) {
            return false;
        }
        let more = format!("{realm},error=\"insufficient_scope\",scope=\"repository:x:pull,deep\"");
        let challenge = if narrow { &realm } else { &more };
        wire.head(401, &[("WWW-Authenticate", challenge), EMPTY]);
        true
    });
    assert_pulled(&scratch, &registry, &image, "");
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn a_part_that_is_not_to_be_had_is_fetched_from_the_beginning() {
    let scratch = Scratch::new("parts");
    let image = Arc::new(Image::new(&[1_000_000]));
    let content = Arc::clone(&image);
    let first = AtomicUsize::new(0);
    let registry = Server::start(&image, move |asked, wire| {
        if !asked.is_layer(&content, 0) {
            return false;
        }
        match asked.from {
            Some(_) => wire.head(416, &[EMPTY]),
            None if first.fetch_add(1, Ordering::SeqCst) == 0 => {
                wire.cut(&content.layers[0], None, 500_000);
            }
            None => wire.blob(&content.layers[0], None),
        }
        true
    });
    assert_pulled(&scratch, &registry, &image, "");
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn a_registry_is_left_alone_for_as_long_as_it_says() {
    let scratch = Scratch::new("later");
    let image = Image::new(&[1000]);
    let count = AtomicUsize::new(0);
    let registry = Server::start(&image, move |asked, wire| {
        let busy = is_manifest(asked) && count.fetch_add(1, Ordering::SeqCst) == 0;
        if busy {
            wire.head(429, &[("Retry-After", "3"), EMPTY]);
        }
        busy
    });
    let began = Instant::now();
    assert_pulled(&scratch, &registry, &image, "");
    assert!(Duration::from_secs(3) <= began.elapsed(), "{:?}", began.elapsed());
}

/// What is wrong in its form would be so again: it is told at once.
#[test]
fn an_answer_that_is_no_http_is_not_asked_for_again() {
    let scratch = Scratch::new("form");
    let image = Image::new(&[1000]);
    for bytes in [
        &b"SSH-2.0-x\r\n\r\n"[..],
        b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ] {
        let registry =
            Server::start(&image, move |asked, wire| is_manifest(asked) && wire.raw(bytes));
        let event = fetch(&scratch, &registry, "");
        assert_failed(&event, FetchFailure::Unreachable, "registry 127.0.0.1");
        let asked = registry.asked().into_iter().filter(is_manifest).count();
        assert_eq!(asked, 1, "{event:?}");
    }
}
