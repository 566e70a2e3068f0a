//! What a fetch child has given up by the time it reads what is not ours, and that layers come out
//! whole all the same.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use edgeagent::{
    image::{Digest, FetchEvent, FetchRequest, Reference, Store, What, fetch, platform_of_machine},
    model::RegistrySettings,
};

use crate::{
    server::Server,
    support::{Image, Scratch, assert_here, child_of, finish, program, run, start},
};

/// How long anything here may take.
const PATIENCE: Duration = Duration::from_secs(60);

fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < PATIENCE, "{what}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// The value of a line such as `Uid:` in a file of `/proc`.
fn value(text: &str, name: &str) -> String {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.unwrap_or_else(|| panic!("no {name} in {text}")).trim().to_owned()
}

/// Whose capabilities they are: CHOWN, DAC_OVERRIDE, FOWNER, FSETID, SYS_ADMIN, MKNOD, SETFCAP.
const KEPT: u64 = 1 | 1 << 1 | 1 << 3 | 1 << 4 | 1 << 21 | 1 << 27 | 1 << 31;

/// Everything that can be seen of a child from outside.
fn assert_confined(proc: &Path, store: &Path, network: bool) {
    let status = fs::read_to_string(proc.join("status")).unwrap();
    for ids in ["Uid:", "Gid:"] {
        let text = value(&status, ids);
        let ids: Vec<u32> = text.split_whitespace().map(|id| id.parse().unwrap()).collect();
        assert!(ids[0] > 65_535 && ids[..3] == [ids[0]; 3], "{text}");
    }
    assert_eq!(value(&status, "Groups:"), "");
    for set in ["CapPrm:", "CapEff:", "CapBnd:"] {
        let bits = u64::from_str_radix(&value(&status, set), 16).unwrap();
        assert_eq!(bits & !KEPT, 0, "{set} {bits:x}");
    }
    for set in ["CapInh:", "CapAmb:"] {
        assert_eq!(u64::from_str_radix(&value(&status, set), 16).unwrap(), 0, "{set}");
    }
    assert_eq!(value(&status, "NoNewPrivs:"), "1");
    assert_eq!(value(&status, "Seccomp:"), "2");
    assert_eq!(fs::read_to_string(proc.join("oom_score_adj")).unwrap().trim(), "500");
    let limits = fs::read_to_string(proc.join("limits")).unwrap();
    let space = value(&limits, "Max address space");
    let space: Vec<u64> = space.split_whitespace().take(2).map(|n| n.parse().unwrap()).collect();
    let size: u64 = value(&status, "VmSize:").trim_end_matches(" kB").parse().unwrap();
    assert!(space[0] == space[1] && space[0] <= (size << 10) + (33 << 20), "{space:?} {size}");
    // Its root has the store and a few files, nothing else.
    let root = proc.join("root");
    for here in ["etc/passwd", "etc/shadow", "proc/self", "sys/kernel", "dev/null", "bin/sh"] {
        assert!(fs::symlink_metadata(root.join(here)).is_err(), "{here} is seen");
    }
    let names: Vec<String> = fs::read_dir(root.join("etc"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let known = ["resolv.conf", "hosts", "nsswitch.conf", "gai.conf"];
    assert!(names.iter().all(|name| known.contains(&name.as_str())), "{names:?}");
    let mounts = fs::read_to_string(proc.join("mountinfo")).unwrap();
    let flags = |path: &str| -> String {
        let line = mounts.lines().rfind(|line| line.split(' ').nth(4) == Some(path));
        line.unwrap_or_else(|| panic!("no {path} in {mounts}"))
            .split(' ')
            .nth(5)
            .unwrap()
            .to_owned()
    };
    for path in ["/", store.to_str().unwrap()] {
        let flags = flags(path);
        for flag in ["nodev", "nosuid", "noexec"] {
            assert!(flags.split(',').any(|one| one == flag), "{path}: {flags}");
        }
        assert_eq!(flags.starts_with("ro"), path == "/", "{path}: {flags}");
    }
    let namespace = |proc: &Path| fs::read_link(proc.join("ns/net")).unwrap();
    assert_eq!(namespace(proc) == namespace(Path::new("/proc/self")), network);
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn a_child_that_pulls_is_confined() {
    let scratch = Scratch::new("confined");
    let image = Image::new(&[100_000]);
    let (asked, go) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let server = {
        let (image, asked, go) = (Image::new(&[100_000]), Arc::clone(&asked), Arc::clone(&go));
        Server::start(&Image::new(&[100_000]), move |request, _| {
            if request.is_layer(&image, 0) {
                asked.store(true, Ordering::SeqCst);
                wait_until("nobody looked", || go.load(Ordering::SeqCst));
            }
            false
        })
    };
    let store = scratch.path("store");
    let settings = RegistrySettings::default();
    let fetch = start(&store, &server.name(), "", &settings);
    wait_until("no layer is asked for", || asked.load(Ordering::SeqCst));
    let mut proc = None;
    wait_until("no child", || {
        proc = child_of(&store);
        proc.is_some()
    });
    assert_confined(&proc.unwrap(), &store, true);
    go.store(true, Ordering::SeqCst);
    let event = finish(fetch);
    assert_here(&event, &store, &server.name(), &image);
}

fn load(store: &Path, archive: PathBuf) -> edgeagent::image::Fetch {
    let request = FetchRequest {
        store: store.to_owned(),
        additional_stores: Vec::new(),
        quota_bytes: None,
        min_free_bytes: 0,
        platform: platform_of_machine("x86_64"),
        any_platform: false,
        what: What::Load { archive },
    };
    fetch(&program(), &request).unwrap()
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn a_child_that_loads_is_confined_and_has_no_network() {
    let scratch = Scratch::new("confined-load");
    let pipe = scratch.path("pipe");
    run("mkfifo", &[pipe.to_str().unwrap()]);
    let store = scratch.path("store");
    let fetch = load(&store, pipe.clone());
    // Opened when the child has opened it, too; it is confined after that and waits for bytes.
    let writer = fs::File::options().write(true).open(&pipe).unwrap();
    let mut proc = None;
    wait_until("no child", || {
        // The lock of the store is the first thing that it opens then.
        proc = child_of(&store);
        proc.is_some()
    });
    assert_confined(&proc.unwrap(), &store, false);
    drop(writer);
    assert!(matches!(finish(fetch), FetchEvent::Failed { .. }), "an empty archive");
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn layers_come_out_whole_from_a_confined_child() {
    let scratch = Scratch::new("confined-whole");
    let tree = scratch.path("tree");
    let at = |name: &str| tree.join(name).to_str().unwrap().to_owned();
    fs::create_dir_all(tree.join("home/deep")).unwrap();
    fs::write(tree.join("home/deep/file"), "x").unwrap();
    fs::create_dir(tree.join("opaque")).unwrap();
    fs::write(tree.join("opaque/.wh..wh..opq"), "").unwrap();
    fs::write(tree.join(".wh.gone"), "").unwrap();
    fs::write(tree.join("sudo"), "x").unwrap();
    fs::write(tree.join("ping"), "x").unwrap();
    run("mknod", &[&at("disk"), "b", "7", "99"]);
    run("mkfifo", &[&at("fifo")]);
    run("ln", &["-s", "sudo", &at("link")]);
    run("ln", &[&at("sudo"), &at("other-name")]);
    run("setcap", &["cap_net_raw+ep", &at("ping")]);
    run("chown", &["-R", "1000:1001", &at("home"), &at("ping")]);
    run("setcap", &["cap_net_raw+ep", &at("ping")]);
    run("chmod", &["4755", &at("sudo")]);
    run("chmod", &["0700", &at("home"), &at("home/deep")]);
    let tar = run(
        "tar",
        &[
            "--xattrs",
            "--xattrs-include=security.capability",
            "-C",
            tree.to_str().unwrap(),
            "-c",
            ".",
        ],
    );
    let diff_id = Digest::of(&tar).to_string();
    let image = Image::of(vec![(tar, diff_id)], "");
    let server = Server::good(&image);
    let store = scratch.path("store");
    let event = finish(start(&store, &server.name(), "", &RegistrySettings::default()));
    assert!(matches!(event, FetchEvent::Done { .. }), "{event:?}");
    let name = Reference::parse(&server.name()).unwrap();
    let found = Store::open(&store).unwrap().find(&name).unwrap().unwrap();
    let layer = &found.layers[0];
    let meta = |name: &str| fs::symlink_metadata(layer.join(name)).unwrap();
    assert_eq!((meta("sudo").mode() & 0o7777, meta("sudo").uid()), (0o4755, 0));
    assert_eq!(meta("sudo").nlink(), 2);
    for name in ["home", "home/deep", "home/deep/file", "ping"] {
        assert_eq!((meta(name).uid(), meta(name).gid()), (1000, 1001), "{name}");
    }
    assert!(meta("disk").file_type().is_block_device() && meta("fifo").file_type().is_fifo());
    assert_eq!(meta("disk").rdev(), rustix::fs::makedev(7, 99));
    let whiteout = meta("gone");
    assert!(whiteout.file_type().is_char_device() && whiteout.rdev() == 0);
    let attribute = |name: &str, attribute: &str| {
        let mut value = [0; 64];
        let length = rustix::fs::getxattr(layer.join(name), attribute, &mut value[..]).unwrap();
        value[..length].to_vec()
    };
    assert_eq!(attribute("opaque", "trusted.overlay.opaque"), b"y");
    assert_eq!(attribute("ping", "security.capability").len(), 20);
    // What the store has of its own is root's, whoever made it.
    for folder in ["names", "blobs/sha256"] {
        for entry in fs::read_dir(store.join(folder)).unwrap() {
            let meta = entry.unwrap().metadata().unwrap();
            assert_eq!((meta.uid(), meta.gid(), meta.mode() & 0o077), (0, 0, 0), "{folder}");
        }
    }
}

/// A kernel or a container without namespaces and other ids, as `setpriv` makes it.
#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn what_can_not_be_had_is_told_and_the_rest_is_done() {
    let scratch = Scratch::new("confined-less");
    let store = scratch.path("store");
    let bin = scratch.path("bin");
    fs::create_dir(&bin).unwrap();
    let program = program();
    std::os::unix::fs::symlink(&program, bin.join("edgeagent-fetch")).unwrap();
    let pipe = scratch.path("pipe");
    run("mkfifo", &[pipe.to_str().unwrap()]);
    let request = FetchRequest {
        store: store.clone(),
        additional_stores: Vec::new(),
        quota_bytes: None,
        min_free_bytes: 0,
        platform: platform_of_machine("x86_64"),
        any_platform: false,
        what: What::Load { archive: pipe.clone() },
    };
    let body = postcard::to_stdvec(&request).unwrap();
    let mut frame = u32::try_from(body.len()).unwrap().to_le_bytes().to_vec();
    frame.extend(body);
    let mut child = Command::new("setpriv")
        .args(["--bounding-set", "-sys_admin,-setuid", "--inh-caps", "-all", "edgeagent-fetch"])
        .env("PATH", format!("{}:{}", bin.display(), std::env::var("PATH").unwrap()))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(&frame).unwrap();
    let writer = fs::File::options().write(true).open(&pipe).unwrap();
    let mut proc = None;
    wait_until("no child", || {
        proc = child_of(&store);
        proc.is_some()
    });
    let status = fs::read_to_string(proc.unwrap().join("status")).unwrap();
    assert_eq!(value(&status, "Seccomp:"), "2");
    assert_eq!(value(&status, "NoNewPrivs:"), "1");
    let bits = u64::from_str_radix(&value(&status, "CapEff:"), 16).unwrap();
    assert_eq!(bits, KEPT & !(1 << 21), "{bits:x}");
    drop(writer);
    let output = child.wait_with_output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    for part in ["no file system view of its own", "not without network", "no user of its own"] {
        assert!(told.contains(part), "{part}: {told}");
    }
    assert!(output.status.success() && !output.stdout.is_empty(), "it went on: {told}");
}
