//! Images against the real things: `docker-registry`, `skopeo` and `tar` of Debian.
//!
//! The fetch child is the real binary; the registry listens on loopback and is stopped by its
//! process id. What needs root is ignored without.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests"
)]

#[path = "images/mod.rs"]
#[expect(dead_code, reason = "other tests use the rest")]
mod images;

use std::{
    fs,
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use edgeagent::{
    image::{
        Fetch, FetchEvent, FetchFailure, FetchRequest, Needed, Reference, Store, What, fetch,
        host_platform, platform_of_machine,
    },
    model::{Platform, RegistrySettings, SecretBytes},
};

use images::{listing, run};

/// A folder that goes with the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path =
            std::env::temp_dir().join(format!("edgeagent-image-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

/// A registry of our own, killed with the test.
struct Registry {
    child: Child,
    address: String,
}

impl Registry {
    fn start(scratch: &Scratch, htpasswd: Option<&Path>) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let address = format!("127.0.0.1:{port}");
        let auth = htpasswd.map_or_else(String::new, |path| {
            format!("auth:\n  htpasswd:\n    realm: test\n    path: {}\n", path.display())
        });
        let config = scratch.path(&format!("registry-{port}.yml"));
        let root = scratch.path(&format!("registry-{port}"));
        fs::write(
            &config,
            format!(
                "version: 0.1\nlog: {{level: error}}\nstorage:\n  filesystem:\n    rootdirectory: {}\n\
                 http:\n  addr: {address}\n{auth}",
                root.display()
            ),
        )
        .unwrap();
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let registry = Self { child, address };
        for _ in 0..200 {
            if std::net::TcpStream::connect(&registry.address).is_ok() {
                return registry;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("docker-registry does not listen");
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// An OCI layout in `dir` with one image per platform, each of one layer made of `tree`.
fn layout(dir: &Path, tree: &Path, platforms: &[&str], gzip: bool) {
    let blobs = dir.join("blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    let put = |bytes: &[u8]| {
        let digest = edgeagent::image::Digest::of(bytes);
        fs::write(blobs.join(digest.hex()), bytes).unwrap();
        (digest, bytes.len())
    };
    let tar = dir.join("layer.tar");
    run(
        "tar",
        &[
            "--numeric-owner",
            "--format=pax",
            "--xattrs",
            "--xattrs-include=*",
            "-C",
            tree.to_str().unwrap(),
            "-cf",
            tar.to_str().unwrap(),
            ".",
        ],
    );
    let plain = fs::read(&tar).unwrap();
    let diff_id = edgeagent::image::Digest::of(&plain);
    let (packed, media_type) = if gzip {
        run("gzip", &["-1", tar.to_str().unwrap()]);
        (fs::read(dir.join("layer.tar.gz")).unwrap(), "application/vnd.oci.image.layer.v1.tar+gzip")
    } else {
        (plain, "application/vnd.oci.image.layer.v1.tar")
    };
    let (layer, layer_size) = put(&packed);
    let manifests: Vec<String> = platforms
        .iter()
        .map(|platform| {
            let (arch, variant) = platform.split_once('/').unwrap_or((platform, ""));
            let variant = if variant.is_empty() { String::new() } else { format!(r#","variant":"{variant}""#) };
            let (config, size) = put(
                format!(
                    r#"{{"os":"linux","architecture":"{arch}"{variant},"config":{{"Cmd":["sh"],"Env":["A=b"]}},
                    "rootfs":{{"type":"layers","diff_ids":["{diff_id}"]}}}}"#
                )
                .as_bytes(),
            );
            let (manifest, manifest_size) = put(
                format!(
                    r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json",
                    "config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{config}","size":{size}}},
                    "layers":[{{"mediaType":"{media_type}","digest":"{layer}","size":{layer_size}}}]}}"#
                )
                .as_bytes(),
            );
            format!(
                r#"{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"{manifest}","size":{manifest_size},
                "platform":{{"os":"linux","architecture":"{arch}"{variant}}}}}"#
            )
        })
        .collect();
    let entry = if let [one] = &manifests[..] {
        one.replacen('{', r#"{"annotations":{"org.opencontainers.image.ref.name":"img"},"#, 1)
    } else {
        let (index, size) = put(
            format!(
                r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{}]}}"#,
                manifests.join(",")
            )
            .as_bytes(),
        );
        format!(
            r#"{{"mediaType":"application/vnd.oci.image.index.v1+json","digest":"{index}","size":{size},
            "annotations":{{"org.opencontainers.image.ref.name":"img"}}}}"#
        )
    };
    fs::write(dir.join("index.json"), format!(r#"{{"schemaVersion":2,"manifests":[{entry}]}}"#))
        .unwrap();
    fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
}

/// A tree with all that a layer can hold.
fn rich_tree(tree: &Path) {
    for folder in ["bin", "dir/deep", "sticky"] {
        fs::create_dir_all(tree.join(folder)).unwrap();
    }
    fs::copy("/usr/bin/busybox", tree.join("bin/busybox")).unwrap();
    let at = |name: &str| tree.join(name).to_str().unwrap().to_owned();
    fs::write(tree.join("dir/file"), "content").unwrap();
    fs::hard_link(tree.join("dir/file"), tree.join("dir/deep/hard")).unwrap();
    std::os::unix::fs::symlink("busybox", tree.join("bin/sh")).unwrap();
    std::os::unix::fs::symlink("/nowhere/at/all", tree.join("dangling")).unwrap();
    fs::write(tree.join(format!("dir/{}", "long".repeat(50))), "long name").unwrap();
    fs::write(tree.join("dir/ümlaut\nline"), "odd name").unwrap();
    fs::set_permissions(tree.join("sticky"), fs::Permissions::from_mode(0o1777)).unwrap();
    run("mknod", &[&at("null"), "c", "1", "3"]);
    run("mknod", &[&at("loop"), "b", "7", "300"]);
    run("mkfifo", &["-m", "0640", &at("fifo")]);
    run("chown", &["-h", "70000:3000000", &at("dir/file"), &at("bin/sh"), &at("fifo")]);
    fs::set_permissions(tree.join("dir/file"), fs::Permissions::from_mode(0o6755)).unwrap();
    fs::set_permissions(tree.join("dir/deep"), fs::Permissions::from_mode(0o2500)).unwrap();
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(tree.join("bin/busybox"), "user.note", b"a\nb\0c", flags).unwrap();
    let capability = [1, 0, 0, 2, 10, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    rustix::fs::setxattr(tree.join("bin/busybox"), "security.capability", &capability, flags)
        .unwrap();
    rustix::fs::setxattr(tree.join("dir"), "user.dir", b"x", flags).unwrap();
    run("touch", &["-h", "-d", "2001-02-03 04:05:06.789012345Z", &at("bin/sh"), &at("null")]);
    run("touch", &["-d", "1965-01-01Z", &at("dir/file")]);
    run("touch", &["-d", "2011-01-01Z", &at("dir/deep"), &at("dir"), &at("")]);
}

fn start(store: &Path, platform: Platform, what: What) -> Fetch {
    let request = FetchRequest {
        store: store.to_owned(),
        additional_stores: Vec::new(),
        quota_bytes: None,
        min_free_bytes: 0,
        any_platform: false,
        platform,
        what,
    };
    fetch(Path::new(env!("CARGO_BIN_EXE_edgeagent")), &request).unwrap()
}

fn finish(mut fetch: Fetch) -> FetchEvent {
    smol::block_on(async {
        loop {
            match fetch.next().await.unwrap() {
                FetchEvent::Progress { .. } => {}
                last @ (FetchEvent::Done { .. } | FetchEvent::Failed { .. }) => {
                    assert_eq!(fetch.next().await, None);
                    return last;
                }
            }
        }
    })
}

fn pull_with(store: &Path, platform: Platform, reference: &str, auth: &str) -> FetchEvent {
    let what = What::Pull {
        reference: reference.to_owned(),
        auth: SecretBytes::new(auth.as_bytes().to_vec()),
        registries: RegistrySettings::default(),
    };
    finish(start(store, platform, what))
}

fn pull(store: &Path, reference: &str) -> FetchEvent {
    pull_with(store, host_platform(), reference, "")
}

#[track_caller]
fn assert_failed(event: &FetchEvent, want: FetchFailure, part: &str) {
    match event {
        FetchEvent::Failed { kind, message } => {
            assert_eq!(*kind, want, "{message}");
            assert!(message.contains(part), "{message}");
        }
        FetchEvent::Done { .. } | FetchEvent::Progress { .. } => panic!("{event:?}"),
    }
}

#[track_caller]
fn assert_done(event: FetchEvent) -> (Vec<String>, String) {
    match event {
        FetchEvent::Done { images, manifest } => (images, manifest),
        FetchEvent::Failed { .. } | FetchEvent::Progress { .. } => panic!("{event:?}"),
    }
}

fn copy_to(registry: &Registry, layout: &Path, name: &str, more: &[&str]) {
    let source = format!("oci:{}:img", layout.display());
    let target = format!("docker://{}/{name}", registry.address);
    let mut args = vec!["copy", "-q", "--all", "--dest-tls-verify=false"];
    args.extend(more);
    args.extend([source.as_str(), target.as_str()]);
    run("skopeo", &args);
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn images_are_pulled_from_a_real_registry() {
    let scratch = Scratch::new("pull");
    let tree = scratch.path("tree");
    rich_tree(&tree);
    let expected = listing(&tree);
    let store_path = scratch.path("store");
    let registry = Registry::start(&scratch, None);
    layout(&scratch.path("one"), &tree, &["amd64"], true);
    layout(&scratch.path("many"), &tree, &["riscv64", "amd64", "arm/v6", "arm/v7", "arm64"], false);
    copy_to(&registry, &scratch.path("one"), "a/one:1", &[]);
    copy_to(&registry, &scratch.path("many"), "many:latest", &[]);
    copy_to(&registry, &scratch.path("one"), "schema2:1", &["--format=v2s2"]);
    let name = |rest: &str| format!("{}/{rest}", registry.address);
    let x86 = || platform_of_machine("x86_64");
    let store = Store::open(&store_path).unwrap();
    let find = |text: &str| store.find(&Reference::parse(text).unwrap()).unwrap();

    // By tag, then by the digest that the tag had.
    let one = name("a/one:1");
    assert_eq!(find(&one), None);
    let (images, manifest) = assert_done(pull_with(&store_path, x86(), &one, ""));
    assert_eq!(images, [one.as_str()]);
    let image = find(&one).unwrap();
    assert_eq!(image.manifest, manifest);
    assert_eq!(image.config.cmd.as_deref(), Some(&["sh".to_owned()][..]));
    assert_eq!(listing(&image.layers[0]), expected);
    let pinned = name(&format!("a/one@{manifest}"));
    assert_eq!(find(&pinned).as_ref(), Some(&image));
    store.remove(&Reference::parse(&one).unwrap()).unwrap();
    assert_eq!(find(&pinned), None);
    assert_done(pull_with(&store_path, x86(), &pinned, ""));
    assert_eq!(find(&pinned).as_ref(), Some(&image));
    assert_eq!(find(&image.id).as_ref(), Some(&image));

    // The right one of an index, and none.
    for (machine, want) in
        [("armv7l", "linux/arm/v7"), ("armv6l", "linux/arm/v6"), ("aarch64", "linux/arm64")]
    {
        assert_done(pull_with(&store_path, platform_of_machine(machine), &name("many"), ""));
        let found = find(&name("many")).unwrap();
        assert_eq!(edgeagent::image::platform_name(&found.platform), want);
    }
    let event = pull_with(&store_path, platform_of_machine("s390x"), &name("many"), "");
    assert_failed(&event, FetchFailure::WrongPlatform, "this device is linux/s390x");
    let event = pull_with(&store_path, platform_of_machine("armv7l"), &one, "");
    assert_failed(
        &event,
        FetchFailure::WrongPlatform,
        "image is linux/amd64, this device is linux/arm/v7",
    );
    assert_done(pull_with(&store_path, x86(), &name("schema2:1"), ""));

    // What is not there.
    let event = pull(&store_path, &name("a/one:2"));
    assert_failed(&event, FetchFailure::NotFound, "/a/one:2 (manifest unknown)");
    let missing = format!("a/one@{}", edgeagent::image::Digest::of(b"missing"));
    assert_failed(&pull(&store_path, &name(&missing)), FetchFailure::NotFound, "No such image");
    let address = registry.address.clone();
    drop(registry);
    let event = pull(&store_path, &format!("{address}/a/one:1"));
    assert_failed(
        &event,
        FetchFailure::Unreachable,
        &format!("registry {address}: connection refused"),
    );
    assert_failed(&pull(&store_path, "A:b"), FetchFailure::Invalid, "lowercase");
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn a_damaged_layer_of_a_registry_never_becomes_visible() {
    let scratch = Scratch::new("damage");
    let tree = scratch.path("tree");
    fs::create_dir_all(&tree).unwrap();
    fs::write(tree.join("file"), "x".repeat(100_000)).unwrap();
    let registry = Registry::start(&scratch, None);
    layout(&scratch.path("one"), &tree, &["amd64"], true);
    copy_to(&registry, &scratch.path("one"), "one:1", &[]);
    let port = registry.address.rsplit_once(':').unwrap().1;
    let blobs = scratch.path(&format!("registry-{port}/docker/registry/v2/blobs/sha256"));
    let mut damaged = 0;
    for folder in fs::read_dir(blobs).unwrap() {
        for blob in fs::read_dir(folder.unwrap().path()).unwrap() {
            let path = blob.unwrap().path().join("data");
            let mut bytes = fs::read(&path).unwrap();
            if bytes.starts_with(&[0x1f, 0x8b]) {
                // The time stamp of gzip: it unpacks to the same bytes, only the digest tells.
                bytes[4] ^= 1;
                fs::write(&path, bytes).unwrap();
                damaged += 1;
            }
        }
    }
    assert_eq!(damaged, 1);
    let store = scratch.path("store");
    let name = format!("{}/one:1", registry.address);
    let event = pull_with(&store, platform_of_machine("x86_64"), &name, "");
    assert_failed(&event, FetchFailure::Invalid, "image content is damaged");
    assert_eq!(fs::read_dir(store.join("layers")).unwrap().count(), 0);
    assert_eq!(fs::read_dir(store.join("names")).unwrap().count(), 0);
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn credentials_open_a_closed_registry() {
    let scratch = Scratch::new("auth");
    // The bcrypt hash of `secret`, the only kind that the registry takes.
    let hash = "user:$2b$04$VINb.9I.1iX/23sSNgxqt.JGdAJnxOvO1n8SxWUor9VOA3lhHowZ2";
    fs::write(scratch.path("htpasswd"), hash).unwrap();
    let tree = scratch.path("tree");
    fs::create_dir_all(&tree).unwrap();
    layout(&scratch.path("one"), &tree, &["amd64"], false);
    let registry = Registry::start(&scratch, Some(&scratch.path("htpasswd")));
    copy_to(&registry, &scratch.path("one"), "one:1", &["--dest-creds=user:secret"]);
    let name = format!("{}/one:1", registry.address);
    let store = scratch.path("store");
    // base64url of {"username":"user","password":"secret"} and of one with "wrong".
    let right = "eyJ1c2VybmFtZSI6InVzZXIiLCJwYXNzd29yZCI6InNlY3JldCJ9";
    let wrong = "eyJ1c2VybmFtZSI6InVzZXIiLCJwYXNzd29yZCI6Indyb25nIn0=";
    for auth in ["", wrong, "!"] {
        let event = pull_with(&store, platform_of_machine("x86_64"), &name, auth);
        assert_failed(&event, FetchFailure::Denied, "denies access");
    }
    assert_done(pull_with(&store, platform_of_machine("x86_64"), &name, right));
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn archives_are_loaded() {
    let scratch = Scratch::new("load");
    let tree = scratch.path("tree");
    rich_tree(&tree);
    let expected = listing(&tree);
    let dir = scratch.path("one");
    layout(&dir, &tree, &["amd64"], true);
    let store_path = scratch.path("store");
    let load = |archive: &Path| {
        let what = What::Load { archive: archive.to_owned() };
        finish(start(&store_path, platform_of_machine("x86_64"), what))
    };
    let source = format!("oci:{}:img", dir.display());
    let docker = scratch.path("docker.tar");
    let oci = scratch.path("oci.tar");
    run(
        "skopeo",
        &["copy", "-q", &source, &format!("docker-archive:{}:a/docker:1", docker.display())],
    );
    run("skopeo", &["copy", "-q", &source, &format!("oci-archive:{}:b/oci:2", oci.display())]);
    run("gzip", &["-1k", oci.to_str().unwrap()]);
    let store = Store::open(&store_path).unwrap();
    for (archive, name) in [
        (docker, "a/docker:1"),
        (oci.clone(), "b/oci:2"),
        (oci.with_extension("tar.gz"), "b/oci:2"),
    ] {
        let (images, manifest) = assert_done(load(&archive));
        assert_eq!(images, [name]);
        let image = store.find(&Reference::parse(name).unwrap()).unwrap().unwrap();
        assert_eq!(image.manifest, manifest);
        assert_eq!(listing(&image.layers[0]), expected, "{name}");
        store.remove(&Reference::parse(name).unwrap()).unwrap();
        store.prune(&Needed::default()).unwrap();
        assert_eq!(fs::read_dir(store_path.join("layers")).unwrap().count(), 0);
    }
    let nothing = scratch.path("nothing.tar");
    run("tar", &["-C", tree.to_str().unwrap(), "-cf", nothing.to_str().unwrap(), "bin/sh"]);
    assert_failed(&load(&nothing), FetchFailure::Invalid, "manifest.json or index.json");
    assert_failed(&load(&scratch.path("none")), FetchFailure::Invalid, "No such file");
}

#[test]
fn a_dropped_fetch_leaves_no_child() {
    let scratch = Scratch::new("drop");
    // A server that accepts and never answers holds the child in its request.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let reference = format!("{}/a", listener.local_addr().unwrap());
    let what = What::Pull {
        reference,
        auth: SecretBytes::default(),
        registries: RegistrySettings::default(),
    };
    let fetch = start(&scratch.path("store"), host_platform(), what);
    let (connection, _) = listener.accept().unwrap();
    drop(fetch);
    // The child's end of the connection closes when it is dead.
    connection.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut &connection, &mut bytes).unwrap();
}

/// JSON as Go reads it, indexes in an index, digests of SHA-512, and a layer as other writers make
/// it: all of one image.
#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn an_image_is_loaded_as_other_engines_read_it() {
    let scratch = Scratch::new("go");
    let long = edgeagent::image::Digest::parse(&format!("sha512:{}", "0".repeat(128))).unwrap();
    let dir = scratch.path("layout");
    let blobs = dir.join("blobs/sha512");
    fs::create_dir_all(&blobs).unwrap();
    let put = |bytes: &[u8]| {
        let digest = long.of_same(bytes);
        fs::write(blobs.join(digest.hex()), bytes).unwrap();
        format!(r#""Digest":"{digest}","SIZE":{}"#, bytes.len())
    };
    let mut layer = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(tar::EntryType::Directory);
    header.set_mode(0o755);
    header.set_size(512);
    header.set_path("folder").unwrap();
    header.as_old_mut().uid = *b"\0\x001750\0\0";
    header.set_cksum();
    layer.append(&header, std::io::empty()).unwrap();
    let mut header = tar::Header::new_ustar();
    header.set_mode(0o644);
    header.set_size(3);
    header.set_cksum();
    layer.append_data(&mut header, "folder/file", &b"abc"[..]).unwrap();
    let layer = layer.into_inner().unwrap();
    let diff_id = long.of_same(&layer);
    let arch = host_platform().architecture.to_uppercase();
    let config = format!(
        r#"{{"OS":"linux","Architecture":"{arch}","history":null,"config":{{"user":"1000",
        "cmd":"/bin/x","Env":null,"Labels":{{"a":null}},"user":null}},
        "RootFS":{{"Diff_IDs":["{diff_id}"]}}}}"#
    );
    let manifest = format!(
        r#"{{"SchemaVersion":2,"manifests":null,"annotations":null,"Config":{{{}}},
        "layers":[],"LAYERS":[{{{}}}]}}"#,
        put(config.as_bytes()),
        put(&layer)
    );
    let mut inner = put(manifest.as_bytes());
    for _ in 0..2 {
        let index = format!(r#"{{"schemaVersion":2,"Manifests":[{{{inner},"platform":null}}]}}"#);
        inner = put(index.as_bytes());
    }
    fs::write(
        dir.join("index.json"),
        format!(
            r#"{{"schemaVersion":2,"manifests":[{{{inner},
            "ANNOTATIONS":{{"org.opencontainers.image.ref.name":"a/go:1"}}}}]}}"#
        ),
    )
    .unwrap();
    let tar = scratch.path("image.tar");
    run("tar", &["-C", dir.to_str().unwrap(), "-cf", tar.to_str().unwrap(), "."]);
    for (n, archive) in [dir, tar.clone()].into_iter().enumerate() {
        let store = scratch.path(&format!("store{n}"));
        assert_done(finish(start(&store, host_platform(), What::Load { archive })));
        let store = Store::open(&store).unwrap();
        let image = store.find(&Reference::parse("a/go:1").unwrap()).unwrap().unwrap();
        assert_eq!(image.config.user, "1000");
        assert_eq!(image.config.cmd.unwrap(), ["/bin/x"]);
        assert!(image.id.starts_with("sha512:"), "{}", image.id);
        let id = Reference::parse(&image.id).unwrap();
        assert!(store.find(&id).unwrap().is_some(), "found by its id");
        assert_eq!(fs::read(image.layers[0].join("folder/file")).unwrap(), b"abc");
        let folder = fs::metadata(image.layers[0].join("folder")).unwrap();
        assert_eq!(std::os::unix::fs::MetadataExt::uid(&folder), 1000);
    }
    // A packing that is not read is named.
    run("xz", &["-k", tar.to_str().unwrap()]);
    let archive = scratch.path("image.tar.xz");
    let event = finish(start(&scratch.path("xz"), host_platform(), What::Load { archive }));
    assert_failed(&event, FetchFailure::Invalid, "packed with xz, which is not read");
    // One byte off, and no digest of SHA-512 fits.
    let name = blobs_of(&scratch, diff_id.hex());
    let mut bytes = fs::read(&name).unwrap();
    bytes[600] ^= 1;
    fs::write(&name, bytes).unwrap();
    let archive = scratch.path("layout");
    let event = finish(start(&scratch.path("bad"), host_platform(), What::Load { archive }));
    assert!(matches!(event, FetchEvent::Failed { kind: FetchFailure::Invalid, .. }), "{event:?}");
}

fn blobs_of(scratch: &Scratch, hex: &str) -> PathBuf {
    scratch.path("layout").join("blobs/sha512").join(hex)
}
