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
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"HTTP/2 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
    ] {
        let registry =
            Server::start(&image, move |asked, wire| is_manifest(asked) && wire.raw(bytes));
        let event = fetch(&scratch, &registry, "");
        assert_failed(&event, FetchFailure::Unreachable, "registry 127.0.0.1");
        let asked = registry.asked().into_iter().filter(is_manifest).count();
        assert_eq!(asked, 1, "{event:?}");
    }
}

/// A login is asked for again and again on the way: from chains of every kind, and only the
/// registry itself is heard.
#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn every_kind_of_redirect_is_followed_and_none_carries_a_login() {
    let scratch = Scratch::new("chains");
    let image = Arc::new(Image::new(&[1000]));
    for status in [301, 302, 303, 307, 308] {
        let end = Server::good(&image);
        let place = format!("http://{}", end.address);
        let middle = Server::start(&image, move |asked, wire| {
            // Up and down, with a space and a fragment, which no request has.
            let to = format!("{place}/y z/../.{}#part", asked.path);
            wire.head(status, &[("Location", &to), EMPTY]);
            true
        });
        let place = format!("//{}", middle.address);
        let layer = format!("/blobs/{}", Digest::of(&image.layers[0]));
        let registry = Server::start(&image, move |asked, wire| {
            if asked.path.ends_with("/v2/") {
                return false;
            }
            let known = asked.authorization.as_deref() == Some("Basic dXNlcjpzZWNyZXQ=");
            if !known {
                wire.head(401, &[("WWW-Authenticate", "Basic realm=x"), EMPTY]);
            } else if asked.path.ends_with(&layer) {
                let to = format!("{place}{}", asked.path);
                wire.head(status, &[("Location", &to), EMPTY]);
            }
            !known || asked.path.ends_with(&layer)
        });
        assert_pulled(&scratch, &registry, &image, LOGIN);
        for asked in middle.asked().iter().chain(&end.asked()) {
            assert!(asked.authorization.is_none(), "{status} {asked:?}");
        }
        assert!(!end.asked().is_empty());
    }
}

/// Who is sent away and back again was elsewhere: the way there was not ours to choose.
#[test]
fn a_login_is_not_shown_on_the_way_back() {
    let scratch = Scratch::new("back");
    let image = Image::new(&[1000]);
    let back = Arc::new(std::sync::OnceLock::<String>::new());
    let middle = {
        let back = Arc::clone(&back);
        Server::start(&image, move |_, wire| {
            let to = format!("http://{}/v2/other/manifests/1", back.get().unwrap());
            wire.head(307, &[("Location", &to), EMPTY]);
            true
        })
    };
    let place = format!("http://{}/x", middle.address);
    let registry = Server::start(&image, move |asked, wire| {
        if asked.path.ends_with("/v2/") {
            return false;
        }
        if asked.authorization.is_none() {
            wire.head(401, &[("WWW-Authenticate", "Basic"), EMPTY]);
        } else {
            wire.head(307, &[("Location", &place), EMPTY]);
        }
        true
    });
    back.set(registry.address.clone()).unwrap();
    let event = fetch(&scratch, &registry, LOGIN);
    assert_failed(&event, FetchFailure::Unreachable, "which answers with HTTP status 401");
    let other = registry.asked().into_iter().filter(|asked| asked.path.contains("/other/"));
    assert!(other.clone().count() != 0);
    assert!(other.clone().all(|asked| asked.authorization.is_none()));
}

#[test]
fn a_place_that_is_not_safe_is_told_without_its_secrets() {
    let scratch = Scratch::new("unsafe");
    let image = Image::new(&[1000]);
    for (to, told) in [
        ("https://user:hidden@example.invalid/a?sig=hidden#hidden", "https://example.invalid/a"),
        ("http://192.0.2.1/a?sig=hidden", "http://192.0.2.1/a"),
        ("//user:hidden@127.0.0.1:1/a", "http://127.0.0.1:1/a"),
        ("ftp://127.0.0.1/a?sig=hidden", "ftp://127.0.0.1/a"),
        ("file:///a?sig=hidden", "file:///a"),
        ("http:a?sig=hidden", "http:a"),
        ("http://127.0.0.1:99999/a?sig=hidden", "http://127.0.0.1:99999/a"),
    ] {
        let registry = Server::start(&image, move |asked, wire| {
            if is_manifest(asked) {
                wire.head(307, &[("Location", to), EMPTY]);
            }
            is_manifest(asked)
        });
        let event = fetch(&scratch, &registry, "");
        assert_failed(&event, FetchFailure::Unreachable, "not safe to follow");
        assert_failed(&event, FetchFailure::Unreachable, told);
        assert!(!format!("{event:?}").contains("hidden"), "{event:?}");
        assert_eq!(registry.asked().into_iter().filter(is_manifest).count(), 1, "{to}");
    }
}

/// A token server that must not be asked, or that is none.
#[test]
fn a_token_server_that_will_not_do_is_named() {
    let scratch = Scratch::new("realms");
    let image = Image::new(&[1000]);
    let broken = Server::start(&image, |asked, wire| {
        match asked.path.split('?').next().unwrap_or_default() {
            "/html" => text(wire, "<html>hello</html>"),
            "/empty" => text(wire, "{}"),
            "/null" => text(wire, r#"{"token":null}"#),
            "/missing" => wire.head(404, &[EMPTY]),
            _ => wire.head(401, &[("WWW-Authenticate", "Basic"), EMPTY]),
        }
        true
    });
    let at = broken.address;
    for (realm, login, told) in [
        (String::from("http://192.0.2.1/token?x=hidden"), LOGIN, "not safe to follow"),
        (format!("http://u:hidden@{at}/token"), LOGIN, "not safe to follow"),
        (String::from("token"), LOGIN, "not safe to follow"),
        (format!("http://{at}/html"), "", "answers without one"),
        (format!("http://{at}/empty"), "", "answers without one"),
        (format!("http://{at}/null"), IDENTITY, "answers without one"),
        (format!("http://{at}/missing"), IDENTITY, "answers with HTTP status 404"),
        (format!("http://{at}/denied"), LOGIN, "denies access"),
    ] {
        let challenge = format!("Bearer realm=\"{realm}\"");
        let registry = Server::start(&image, move |asked, wire| {
            if is_manifest(asked) {
                wire.head(401, &[("WWW-Authenticate", &challenge), EMPTY]);
            }
            is_manifest(asked)
        });
        let event = fetch(&scratch, &registry, login);
        let text = format!("{event:?}");
        assert!(text.contains(told) && !text.contains("hidden"), "{realm}: {text}");
        assert!(!text.contains("unknown"), "{text}");
    }
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn where_a_token_is_not_to_be_had_a_password_may_do() {
    let scratch = Scratch::new("either");
    let image = Image::new(&[1000]);
    let registry = Server::start(&image, move |asked, wire| {
        let known = asked.authorization.as_deref() == Some("Basic dXNlcjpzZWNyZXQ=");
        if !known && !asked.path.ends_with("/v2/") {
            let all = "Negotiate abc==, Bearer realm=http://192.0.2.1/t, Basic realm=\"a, \\\"b\"";
            wire.head(401, &[("WWW-Authenticate", all), EMPTY]);
            return true;
        }
        false
    });
    assert_pulled(&scratch, &registry, &image, LOGIN);
}

/// RFC 6750 has 403 for a token that is for too little.
#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn a_wider_scope_may_be_asked_for_with_403() {
    let scratch = Scratch::new("scope403");
    let image = Image::new(&[1000]);
    let server = Server::start(&image, |asked, wire| {
        let wide = asked.path.contains("wide");
        text(wire, if wide { r#"{"token":"wide"}"# } else { r#"{"token":"narrow"}"# });
        true
    });
    let realm = format!("Bearer realm=\"http://{}/token\"", server.address);
    let registry = Server::start(&image, move |asked, wire| {
        match asked.authorization.as_deref() {
            Some("Bearer wide") => return false,
            Some(_) => {
                let more = format!("{realm},error=insufficient_scope,scope=\"wide\"");
                wire.head(403, &[("WWW-Authenticate", &more), EMPTY]);
            }
            None => wire.head(401, &[("WWW-Authenticate", &realm), EMPTY]),
        }
        true
    });
    assert_pulled(&scratch, &registry, &image, "");
}

/// Of a layer as well, and by the server's own clock.
#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn pauses_hold_everywhere() {
    let scratch = Scratch::new("pauses");
    let image = Arc::new(Image::new(&[1000]));
    let layer = format!("/blobs/{}", Digest::of(&image.layers[0]));
    let count = AtomicUsize::new(0);
    let registry = Server::start(&image, move |asked, wire| {
        if !asked.path.ends_with(&layer) {
            return false;
        }
        let n = count.fetch_add(1, Ordering::SeqCst);
        let date = ("Date", "Sun, 06 Nov 1994 08:49:37 GMT");
        match n {
            0 => wire.head(429, &[("Retry-After", "2"), EMPTY]),
            1 => {
                let until = ("Retry-After", "Sun, 06 Nov 1994 08:49:40 GMT");
                wire.head(503, &[date, until, EMPTY]);
            }
            _ => return false,
        }
        true
    });
    let began = Instant::now();
    assert_pulled(&scratch, &registry, &image, "");
    assert!(Duration::from_secs(5) <= began.elapsed(), "{:?}", began.elapsed());
}

/// What RFC 9112 lets a server say, and ours did not bear once.
#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn heads_and_bodies_come_in_every_lawful_form() {
    let scratch = Scratch::new("lawful");
    let image = Arc::new(Image::new(&[1000]));
    let length = image.manifest.len();
    let chunked = |bytes: &[u8]| {
        let mut all = Vec::new();
        for chunk in bytes.chunks(100) {
            all.extend(format!("{:X};a=\"b\"\r\n", chunk.len()).bytes());
            all.extend(chunk);
            all.extend(b"\r\n");
        }
        all.extend(b"0\r\nTrailer: x\r\n\r\n");
        all
    };
    let type_ = "Content-Type: application/vnd.oci.image.manifest.v1+json";
    let both =
        String::from("HTTP/1.1 200 OK\r\nContent-Length: 7\r\nTransfer-Encoding: chunked\r\n\r\n");
    let folded = format!(
        "HTTP/1.1 200 OK\r\n{type_};\r\n charset=utf-8\r\nX: a\r\n\tb\r\nContent-Length: {length}\r\n\r\n"
    );
    let early = format!(
        "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200\r\ncontent-length:{length}\r\n\r\n"
    );
    let twice =
        format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nContent-Length: {length}\r\n\r\n");
    let old = String::from("HTTP/1.0 200 OK\r\nServer: \u{e9}\r\n\r\n");
    for (head, body) in [
        (both, chunked(&image.manifest)),
        (folded, image.manifest.clone()),
        (early, image.manifest.clone()),
        (twice, image.manifest.clone()),
        (old, image.manifest.clone()),
    ] {
        let answer = [head.as_bytes(), &body].concat();
        let registry =
            Server::start(&image, move |asked, wire| is_manifest(asked) && wire.raw(&answer));
        assert_pulled(&scratch, &registry, &image, "");
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    packer.write_all(bytes).unwrap();
    packer.finish().unwrap()
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn content_that_a_server_packs_is_unpacked_or_named() {
    let scratch = Scratch::new("codings");
    let image = Arc::new(Image::new(&[200_000]));
    let serve = |coding: &'static str, packed: bool, sized: bool| {
        let image = Arc::clone(&image);
        Server::start(&Arc::clone(&image), move |asked, wire| {
            let content = if is_manifest(asked) {
                &image.manifest
            } else if asked.is_layer(&image, 0) {
                &image.layers[0]
            } else {
                return false;
            };
            let content = if packed { gzip(content) } else { content.clone() };
            let length = content.len().to_string();
            let mut headers = vec![("Content-Encoding", coding)];
            if sized {
                headers.push(("Content-Length", &length));
            }
            wire.head(200, &headers);
            wire.body(&content);
            true
        })
    };
    for (coding, packed, sized) in [
        ("gzip", true, true),
        ("X-GZIP", true, false),
        ("identity", false, true),
        // The packing of the layer itself, told as one of the transfer.
        ("gzip", false, true),
    ] {
        assert_pulled(&scratch, &serve(coding, packed, sized), &image, "");
    }
    for coding in ["br", "gzip, gzip", "zstd"] {
        let event = fetch(&scratch, &serve(coding, false, true), "");
        assert_failed(&event, FetchFailure::Unreachable, &format!("encoding {coding:?}"));
    }
    // Little that becomes much.
    let bomb = gzip(&vec![b' '; 64 << 20]);
    let registry = Server::start(&image, move |asked, wire| {
        if is_manifest(asked) {
            wire.head(200, &[("Content-Encoding", "gzip")]);
            wire.body(&bomb);
        }
        is_manifest(asked)
    });
    let event = fetch(&scratch, &registry, "");
    assert_failed(&event, FetchFailure::Invalid, "exceeds 4194304 bytes");
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn a_manifest_must_be_what_the_registry_calls_it() {
    let scratch = Scratch::new("types");
    let image = Arc::new(Image::new(&[1000]));
    for (kind, good) in [
        ("application/vnd.oci.image.manifest.v1+json; charset=utf-8", true),
        ("application/json", true),
        ("application/vnd.docker.distribution.manifest.v2+json", false),
        ("application/vnd.oci.image.index.v1+json", false),
    ] {
        let content = Arc::clone(&image);
        let registry = Server::start(&image, move |asked, wire| {
            if is_manifest(asked) {
                let length = content.manifest.len().to_string();
                wire.head(200, &[("Content-Type", kind), ("Content-Length", &length)]);
                wire.body(&content.manifest);
            }
            is_manifest(asked)
        });
        if good {
            assert_pulled(&scratch, &registry, &image, "");
        } else {
            let event = fetch(&scratch, &registry, "");
            assert_failed(&event, FetchFailure::Invalid, "media type");
        }
    }
}
