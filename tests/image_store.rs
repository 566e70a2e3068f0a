//! The image store under power cuts, damage, quotas and read-only stores below it.
//!
//! The cuts are real: `strace` kills the fetch child, and `image prune`, before each system call
//! that changes something. What a cut may take beyond that is told by the trace: data that was
//! not synced, and names that were not. The store is in memory, where no sync costs anything.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test ends where something unexpected happens"
)]
#![expect(clippy::print_stdout, reason = "cuts are counted")]

#[path = "images/mod.rs"]
mod images;

use std::{
    collections::BTreeSet,
    fs,
    io::Write as _,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use edgeagent::{
    image::{FetchEvent, FetchFailure, FetchRequest, Reference, Store, What, host_platform},
    model::RegistrySettings,
};
use images::{Scratch, docker_archive, listing, run, tar};

const PROGRAM: &str = env!("CARGO_BIN_EXE_edgeagent");

/// Calls that change something.
const CHANGES: &str = "write,pwrite64,ftruncate,fsync,fdatasync,syncfs,rename,renameat,renameat2,\
     link,linkat,unlink,unlinkat,rmdir,mkdir,mkdirat,mknodat,symlinkat,fchmod,fchown,fsetxattr,utimensat";

/// An archive with an image of two small layers that hold one of everything.
fn archive(scratch: &Scratch, name: &str, own: &str) -> PathBuf {
    let base = scratch.path("base");
    if !base.exists() {
        fs::create_dir_all(base.join("dir/deep")).unwrap();
        fs::write(base.join("dir/file"), "content".repeat(100)).unwrap();
        fs::hard_link(base.join("dir/file"), base.join("dir/hard")).unwrap();
        symlink("file", base.join("dir/link")).unwrap();
        run("mkfifo", &[base.join("fifo").to_str().unwrap()]);
        run("mknod", &[base.join("null").to_str().unwrap(), "c", "1", "3"]);
        tar(&base, &scratch.path("base.tar"));
    }
    let top = scratch.path(&format!("top-{own}"));
    fs::create_dir_all(top.join("dir")).unwrap();
    fs::write(top.join("dir/.wh.file"), "").unwrap();
    fs::write(top.join("own"), own).unwrap();
    let file = scratch.path(&format!("{own}.tar"));
    let layers = [scratch.path("base.tar"), tar(&top, &scratch.path(&format!("top-{own}.tar")))];
    docker_archive(&file, name, &layers);
    file
}

fn request(store: &Path, archive: &Path) -> FetchRequest {
    FetchRequest {
        store: store.to_owned(),
        additional_stores: Vec::new(),
        quota_bytes: None,
        min_free_bytes: 0,
        any_platform: false,
        platform: host_platform(),
        what: What::Load { archive: archive.to_owned() },
    }
}

/// Runs a fetch child to its end, behind `before`; gives what it told.
fn fetch(scratch: &Scratch, request: &FetchRequest, before: &[String]) -> Vec<u8> {
    let bin = scratch.path("bin");
    if !bin.exists() {
        fs::create_dir(&bin).unwrap();
        symlink(PROGRAM, bin.join("edgeagent-fetch")).unwrap();
    }
    let body = postcard::to_stdvec(request).unwrap();
    let mut frame = u32::try_from(body.len()).unwrap().to_le_bytes().to_vec();
    frame.extend(body);
    let mut words = before.to_vec();
    words.push("edgeagent-fetch".to_owned());
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let mut child = Command::new(&words[0])
        .args(&words[1..])
        .env("PATH", path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // One that is cut off early does not listen.
    drop(child.stdin.take().unwrap().write_all(&frame));
    child.wait_with_output().unwrap().stdout
}

fn find(store: &Path, name: &str) -> Option<edgeagent::model::LocalImage> {
    Store::open(store).unwrap().find(&Reference::parse(name).unwrap()).unwrap()
}

/// `strace` that kills before the `n`th call of this name; never, without one.
fn strace(log: &Path, cut: Option<(&str, usize)>) -> Vec<String> {
    let mut words: Vec<String> =
        ["strace", "-f", "-y", "-s", "0", "-o", log.to_str().unwrap(), "-e"]
            .map(str::to_owned)
            .into();
    words.push(format!("trace={CHANGES},openat,open"));
    if let Some((call, n)) = cut {
        words.extend(["-e".to_owned(), format!("inject={call}:signal=KILL:when={n}")]);
    }
    words
}

/// The name of the call in a line of a trace.
fn call_of(line: &str) -> &str {
    let call = line.split_whitespace().nth(1).unwrap_or_default();
    call.split('(').next().unwrap_or_default()
}

/// Every call that changed something, each with its number among those of its name; and one that
/// never comes.
fn steps(log: &Path) -> Vec<(String, usize)> {
    let mut counts = std::collections::BTreeMap::new();
    let mut steps = Vec::new();
    for line in fs::read_to_string(log).unwrap().lines() {
        let call = call_of(line);
        if line.contains('(') && CHANGES.split(',').any(|change| change == call) {
            let count = counts.entry(call.to_owned()).or_insert(0_usize);
            *count += 1;
            steps.push((call.to_owned(), *count));
        }
    }
    steps.push(("fsync".to_owned(), 60_000));
    steps
}

/// What a power cut may take, by a trace that ends at the cut.
#[derive(Default)]
struct Unsynced {
    data: BTreeSet<PathBuf>,
    names: BTreeSet<PathBuf>,
}

impl Unsynced {
    fn read(log: &Path, root: &Path) -> Self {
        let mut unsynced = Self::default();
        for line in fs::read_to_string(log).unwrap().lines() {
            unsynced.call(line);
        }
        unsynced.data.retain(|path| path.starts_with(root) && path.is_file());
        unsynced.names.retain(|path| path.starts_with(root) && fs::symlink_metadata(path).is_ok());
        unsynced
    }

    /// One line: `<pid> call(arguments) = result`.
    fn call(&mut self, line: &str) {
        let Some((head, result)) = line.rsplit_once(" = ") else { return };
        if result.starts_with('-') || result.starts_with('?') {
            return;
        }
        let name = call_of(line);
        let arguments = head.split_once('(').map_or("", |(_, rest)| rest);
        let opened: Vec<PathBuf> = arguments
            .split('<')
            .skip(1)
            .filter_map(|part| part.split('>').next())
            .map(PathBuf::from)
            .collect();
        let quoted: Vec<&str> = arguments.split('"').skip(1).step_by(2).collect();
        // Relative names belong to the descriptor before them.
        let path = |n: usize| {
            let text = quoted.get(n).copied().unwrap_or_default();
            opened.get(n).map_or_else(|| PathBuf::from(text), |dir| dir.join(text))
        };
        match name {
            "open" | "openat" if arguments.contains("O_CREAT") => {
                let made = result.split('<').nth(1).and_then(|p| p.split('>').next()).unwrap();
                self.names.insert(made.into());
                self.data.insert(made.into());
            }
            "mkdir" | "mkdirat" | "mknodat" => {
                self.names.insert(path(0));
            }
            "symlinkat" => {
                self.names.insert(opened[0].join(quoted[1]));
            }
            "linkat" => {
                self.names.insert(path(1));
            }
            "rename" | "renameat" | "renameat2" => {
                let (from, to) = (path(0), path(1));
                for set in [&mut self.data, &mut self.names] {
                    *set = set
                        .iter()
                        .map(|p| {
                            p.strip_prefix(&from).map_or_else(|_| p.clone(), |rest| to.join(rest))
                        })
                        .map(|p| p.components().collect())
                        .collect();
                }
                self.names.insert(to);
            }
            "write" | "pwrite64" | "ftruncate" => {
                self.data.insert(opened[0].clone());
            }
            "fsync" | "fdatasync" => {
                self.data.remove(&opened[0]);
                self.names.retain(|path| path.parent() != Some(&opened[0]));
            }
            "syncfs" => *self = Self::default(),
            _ => {}
        }
    }

    /// Takes the data: all of it, or what it was.
    fn lose_data(&self, zeroed: bool) {
        for path in &self.data {
            let length = fs::metadata(path).unwrap().len();
            fs::write(path, vec![0; if zeroed { usize::try_from(length).unwrap() } else { 0 }])
                .unwrap();
        }
    }

    /// Takes the names, with what lies below.
    fn lose_names(&self) {
        for path in &self.names {
            match fs::symlink_metadata(path) {
                Ok(meta) if meta.is_dir() => fs::remove_dir_all(path).unwrap(),
                Ok(_) => fs::remove_file(path).unwrap(),
                Err(_) => {}
            }
        }
    }
}

fn copy(from: &Path, to: &Path) {
    if to.exists() {
        fs::remove_dir_all(to).unwrap();
    }
    run("cp", &["-a", from.to_str().unwrap(), to.to_str().unwrap()]);
}

/// Whether the image is there as it must be; when it is there, it must be so, or be noticed.
fn is_whole(store: &Path, name: &str, want: &[Vec<String>]) -> bool {
    let Some(image) = find(store, name) else { return false };
    if !Store::open(store).unwrap().are_sound(&image.layers) {
        assert_eq!(find(store, name), None, "what is damaged is out of sight");
        return false;
    }
    let found: Vec<Vec<String>> = image.layers.iter().map(|layer| listing(layer)).collect();
    assert_eq!(found, want);
    true
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn a_power_cut_at_any_step_of_a_fetch_leaves_a_store_that_heals() {
    let scratch = Scratch::in_memory("cuts");
    let archive = archive(&scratch, "app:1", "one");
    let (store, log, lost) = (scratch.path("store"), scratch.path("log"), scratch.path("lost"));
    fetch(&scratch, &request(&store, &archive), &strace(&log, None));
    let image = find(&store, "app:1").unwrap();
    let want: Vec<Vec<String>> = image.layers.iter().map(|layer| listing(layer)).collect();
    let (steps, mut whole) = (steps(&log), 0);
    for (call, n) in &steps {
        if store.exists() {
            fs::remove_dir_all(&store).unwrap();
        }
        let told = fetch(&scratch, &request(&store, &archive), &strace(&log, Some((call, *n))));
        let unsynced = Unsynced::read(&log, &store);
        let done = !fs::read_to_string(&log).unwrap().contains("killed by SIGKILL");
        for variant in 0..4 {
            if store.exists() {
                copy(&store, &lost);
            } else {
                fs::create_dir_all(&lost).unwrap();
            }
            // The copy lies elsewhere.
            let there = |paths: &BTreeSet<PathBuf>| {
                paths.iter().map(|p| lost.join(p.strip_prefix(&store).unwrap())).collect()
            };
            let taken = Unsynced { data: there(&unsynced.data), names: there(&unsynced.names) };
            match variant {
                0 => {}
                1 | 2 => taken.lose_data(variant == 2),
                _ => taken.lose_names(),
            }
            let found = is_whole(&lost, "app:1", &want);
            assert!(found || !done, "what was told to be done is durable, {call} {n} {variant}");
            whole += u32::from(found);
            fetch(&scratch, &request(&lost, &archive), &[]);
            assert!(is_whole(&lost, "app:1", &want), "a second try heals, {call} {n} {variant}");
            assert_eq!(fs::read_dir(lost.join("tmp")).unwrap().count(), 0, "{call} {n} {variant}");
        }
        assert_eq!(done, *n == 60_000, "{call} {n} was cut");
        assert!(!done || !told.is_empty());
    }
    let cuts = steps.len() - 1;
    println!("{cuts} cuts, each with 4 losses; the image was there after {whole}");
    assert!(60 < cuts, "every step was cut: {cuts}");
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn a_power_cut_at_any_step_of_pruning_takes_nothing_that_is_needed() {
    let scratch = Scratch::in_memory("prune-cuts");
    let config = scratch.path("agent.json");
    let data = scratch.path("data");
    let text = format!(
        r#"{{"data-root": "{}", "exec-root": "{}"}}"#,
        data.display(),
        scratch.path("run").display()
    );
    fs::write(&config, text).unwrap();
    let config = config.to_str().unwrap();
    for (name, own) in [("keep:1", "one"), ("drop:1", "two")] {
        let file = archive(&scratch, name, own);
        run(PROGRAM, &["--config", config, "image", "load", "-i", file.to_str().unwrap()]);
    }
    let store = data.join("images");
    let image = find(&store, "keep:1").unwrap();
    let want: Vec<Vec<String>> = image.layers.iter().map(|layer| listing(layer)).collect();
    run(PROGRAM, &["--config", config, "image", "rm", "drop:1"]);
    run(PROGRAM, &["--config", config, "image", "ls"]);
    let before = scratch.path("before");
    copy(&data, &before);
    let log = scratch.path("log");
    let prune = |cut: Option<(&str, usize)>| {
        let words = strace(&log, cut);
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).args([PROGRAM, "--config", config, "image", "prune"]);
        drop(command.output().unwrap());
    };
    prune(None);
    let steps = steps(&log);
    for (call, n) in &steps {
        copy(&before, &data);
        prune(Some((call, *n)));
        let done = !fs::read_to_string(&log).unwrap().contains("killed by SIGKILL");
        assert_eq!(done, *n == 60_000, "{call} {n} was cut");
        Unsynced::read(&log, &store).lose_names();
        assert!(is_whole(&store, "keep:1", &want), "{call} {n}");
        run(PROGRAM, &["--config", config, "image", "prune"]);
        assert!(is_whole(&store, "keep:1", &want), "{call} {n}");
        let layers = fs::read_dir(store.join("layers")).unwrap();
        let folders = layers.filter(|entry| entry.as_ref().unwrap().path().is_dir()).count();
        let left = fs::read_dir(store.join("tmp")).unwrap().count();
        assert_eq!((folders, left), (2, 0), "{call} {n}");
    }
    println!("{} cuts", steps.len() - 1);
    assert!(12 < steps.len(), "every step was cut");
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn damage_is_shown_and_the_next_fetch_repairs_it() {
    let scratch = Scratch::in_memory("rot");
    let archive = archive(&scratch, "app:1", "one");
    let (config, data) = (scratch.path("agent.json"), scratch.path("data"));
    let text = format!(
        r#"{{"data-root": "{}", "exec-root": "{}"}}"#,
        data.display(),
        scratch.path("run").display()
    );
    fs::write(&config, text).unwrap();
    let cli = |words: &[&str]| {
        run(PROGRAM, &[&["--config", config.to_str().unwrap(), "image"], words].concat())
    };
    let load = || cli(&["load", "-i", archive.to_str().unwrap()]);
    let state = |words: &[&str]| {
        let json: serde_json::Value = serde_json::from_str(&cli(words)).unwrap();
        json[0]["state"].as_str().unwrap().to_owned()
    };
    load();
    let store = data.join("images");
    let file = || find(&store, "app:1").unwrap().layers[0].join("dir/file");
    let listed = listing(&find(&store, "app:1").unwrap().layers[0]);
    // Empty, as after a power cut on storage that lies.
    fs::File::options().write(true).open(file()).unwrap().set_len(0).unwrap();
    assert_eq!(state(&["ls", "--json"]), "damaged");
    assert!(cli(&["ls"]).contains("damaged  app:1"));
    load();
    assert_eq!(state(&["ls", "--json"]), "whole");
    assert_eq!(listing(&find(&store, "app:1").unwrap().layers[0]), listed);
    // A bit that fell over, which only reading everything can tell.
    let path = file();
    let modified = fs::metadata(&path).unwrap().modified().unwrap();
    let mut bytes = fs::read(&path).unwrap();
    bytes[3] ^= 1;
    fs::write(&path, bytes).unwrap();
    fs::File::options().write(true).open(&path).unwrap().set_modified(modified).unwrap();
    assert_eq!(state(&["ls", "--json"]), "whole");
    assert_eq!(state(&["ls", "--json", "--verify"]), "damaged");
    load();
    assert_eq!(state(&["ls", "--json", "--verify"]), "whole");
    // A container may lie on the damaged ones, so they went only out of sight; until nobody does.
    let damaged = || {
        let layers = fs::read_dir(store.join("layers")).unwrap();
        layers
            .filter(|e| e.as_ref().unwrap().path().extension().is_some_and(|x| x == "damaged"))
            .count()
    };
    assert_eq!(damaged(), 2);
    let pruned: serde_json::Value = serde_json::from_str(&cli(&["prune", "--json"])).unwrap();
    assert_eq!((damaged(), pruned["layers"].as_u64()), (0, Some(0)));
    // A configuration whose bytes changed.
    let id = find(&store, "app:1").unwrap().id;
    let blob = store.join("blobs/sha256").join(id.strip_prefix("sha256:").unwrap());
    fs::write(&blob, "{}").unwrap();
    assert_eq!(state(&["ls", "--json"]), "damaged");
    load();
    assert_eq!(state(&["ls", "--json"]), "whole");
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn stores_below_are_used_where_they_are_and_never_written() {
    let scratch = Scratch::in_memory("below");
    let archive = archive(&scratch, "app:1", "one");
    // An unpacked store on a read-only partition.
    let made = scratch.path("made");
    fetch(&scratch, &request(&made, &archive), &[]);
    let partition = scratch.path("partition");
    fs::create_dir(&partition).unwrap();
    run("mount", &["--bind", made.to_str().unwrap(), partition.to_str().unwrap()]);
    run("mount", &["-o", "remount,ro,bind", partition.to_str().unwrap()]);
    let store = scratch.path("store");
    let over = || Store::open(&store).unwrap().over(std::slice::from_ref(&partition));
    let name = Reference::parse("app:1").unwrap();
    let image = over().find(&name).unwrap().unwrap();
    assert!(image.layers.iter().all(|layer| layer.starts_with(&partition)), "{image:?}");
    assert!(over().are_sound(&image.layers));
    let listed = over().list().unwrap();
    assert!(listed.len() == 1 && listed[0].read_only && listed[0].image.as_ref() == Some(&image));
    assert!(!over().remove(&name).unwrap());
    over().prune(&edgeagent::image::Needed::default()).unwrap();
    // Another image on the same base takes only its own layer.
    let other = self::archive(&scratch, "other:1", "two");
    let mut wish = request(&store, &other);
    wish.additional_stores = vec![partition.clone()];
    fetch(&scratch, &wish, &[]);
    let other = over().find(&Reference::parse("other:1").unwrap()).unwrap().unwrap();
    assert_eq!(other.layers[0], image.layers[0]);
    assert!(other.layers[1].starts_with(&store));
    run("umount", &[partition.to_str().unwrap()]);

    // An OCI layout: by digest without any registry, by tag when the registry does not answer.
    let layout = scratch.path("layout");
    run(
        "skopeo",
        &[
            "copy",
            "-q",
            &format!("docker-archive:{}", archive.display()),
            &format!("oci:{}:localhost:1/app:1", layout.display()),
        ],
    );
    let index: serde_json::Value =
        serde_json::from_slice(&fs::read(layout.join("index.json")).unwrap()).unwrap();
    let digest = index["manifests"][0]["digest"].as_str().unwrap();
    for reference in [format!("localhost:1/app@{digest}"), "localhost:1/app:1".to_owned()] {
        let store = scratch.path("layout-store");
        let mut wish = request(&store, &archive);
        wish.additional_stores = vec![layout.clone()];
        wish.what = What::Pull {
            reference: reference.clone(),
            auth: edgeagent::model::SecretBytes::default(),
            registries: RegistrySettings::default(),
        };
        let told = fetch(&scratch, &wish, &[]);
        let told = String::from_utf8_lossy(&told);
        assert!(find(&store, &reference).is_some(), "{reference}: {told}");
        fs::remove_dir_all(&store).unwrap();
    }
    // And as it is for `image load`.
    let store = scratch.path("loaded");
    fetch(&scratch, &request(&store, &layout), &[]);
    assert!(find(&store, "localhost:1/app:1").is_some());
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn bombs_and_quotas_end_a_fetch_before_they_fill_the_disk() {
    let scratch = Scratch::in_memory("bombs");
    let store = scratch.path("store");
    let refused = |archive: &Path, quota: Option<u64>, want: &str| {
        let mut wish = request(&store, archive);
        wish.quota_bytes = quota;
        let told = fetch(&scratch, &wish, &[]);
        let told = String::from_utf8_lossy(&told);
        assert!(told.contains(want), "{want}: {told}");
        let used = run("du", &["-sk", store.to_str().unwrap()]);
        let used: u64 = used.split_whitespace().next().unwrap().parse().unwrap();
        assert!(used < 200, "{want}: {used} kB stay");
    };
    // 300 MB of zeros in 300 kB.
    let bomb = scratch.path("bomb.tar");
    let tree = scratch.path("tree");
    fs::create_dir_all(&tree).unwrap();
    fs::File::create(tree.join("zeros")).unwrap().set_len(300 << 20).unwrap();
    run(
        "sh",
        &["-c", &format!("tar -C {} -c zeros | gzip -9 > {}", tree.display(), bomb.display())],
    );
    let layout = scratch.path("bomb-layout");
    oci_layout(
        &layout,
        &bomb,
        &run("sh", &["-c", &format!("gzip -dc {} | sha256sum", bomb.display())]),
    );
    refused(&layout, None, "too many for its size");
    // A hole of a terabyte in a few bytes.
    fs::remove_file(tree.join("zeros")).unwrap();
    fs::File::create(tree.join("hole")).unwrap().set_len(1 << 40).unwrap();
    let sparse = scratch.path("sparse.tar");
    run(
        "tar",
        &[
            "--format=pax",
            "-S",
            "-C",
            tree.to_str().unwrap(),
            "-cf",
            sparse.to_str().unwrap(),
            "hole",
        ],
    );
    let hole = scratch.path("hole.tar");
    docker_archive(&hole, "hole:1", &[sparse]);
    refused(&hole, None, "too many for its size");
    // More than may be used in all.
    fs::remove_file(tree.join("hole")).unwrap();
    fs::write(tree.join("data"), vec![7; 3 << 20]).unwrap();
    let big = scratch.path("big.tar");
    docker_archive(&big, "big:1", &[tar(&tree, &scratch.path("data.tar"))]);
    refused(&big, Some(2 << 20), "image-quota of 2097152 bytes");
    fetch(&scratch, &FetchRequest { quota_bytes: Some(4 << 20), ..request(&store, &big) }, &[]);
    assert!(find(&store, "big:1").is_some());
}

/// The number of the first call of this name, among those of its name, whose line has `part`.
fn number_of(log: &Path, call: &str, part: &str) -> usize {
    let trace = fs::read_to_string(log).unwrap();
    let mut calls = trace.lines().filter(|line| line.contains('(') && call_of(line) == call);
    1 + calls.position(|line| line.contains(part)).unwrap()
}

/// The last event that a fetch child told.
fn last_event(mut told: &[u8]) -> FetchEvent {
    let mut last = None;
    while let Some((length, rest)) = told.split_first_chunk::<4>() {
        let (body, rest) = rest.split_at(u32::from_le_bytes(*length) as usize);
        last = postcard::from_bytes(body).ok();
        told = rest;
    }
    last.unwrap()
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn what_the_kernel_refuses_is_told_with_what_helps() {
    let scratch = Scratch::in_memory("refusals");
    let archive = archive(&scratch, "app:1", "one");
    let (store, log) = (scratch.path("store"), scratch.path("log"));
    fetch(&scratch, &request(&store, &archive), &strace(&log, None));
    let faults = [
        ("write", "dir/file", "ENOSPC", "`edgeagent image prune`"),
        ("write", "dir/file", "EDQUOT", "no space left for images in"),
        ("mkdirat", "dir", "EROFS", "is read-only; mount it writable"),
        ("mkdir", "/tmp/", "EROFS", "is read-only; mount it writable"),
        ("fchown", "dir/file", "EIO", "the storage of images fails"),
        ("syncfs", "", "EIO", "the storage of images fails"),
        ("fsync", "draft", "EIO", "the storage of images fails"),
        ("rename", "layers", "ENOSPC", "no space left for images in"),
        ("mknodat", "null", "EPERM", "null: Operation not permitted"),
        ("linkat", "hard", "EMLINK", "hard: Too many links"),
        ("symlinkat", "link", "ENAMETOOLONG", "link: File name too long"),
    ];
    let places: Vec<usize> =
        faults.iter().map(|(call, part, ..)| number_of(&log, call, part)).collect();
    for ((call, _, answer, want), n) in faults.iter().zip(places) {
        fs::remove_dir_all(&store).unwrap();
        let mut words = strace(&log, None);
        words.extend(["-e".to_owned(), format!("inject={call}:error={answer}:when={n}")]);
        let told = last_event(&fetch(&scratch, &request(&store, &archive), &words));
        let FetchEvent::Failed { kind, message } = &told else { panic!("{call}: {told:?}") };
        assert!(message.contains(want), "{call} {answer}: {message}");
        let of_image = ["EMLINK", "ENAMETOOLONG"].contains(answer);
        let right = if of_image { FetchFailure::Invalid } else { FetchFailure::Storage };
        assert_eq!(*kind, right, "{call} {answer}: {message}");
        assert_eq!(find(&store, "app:1"), None, "{call} {answer}");
        let told = last_event(&fetch(&scratch, &request(&store, &archive), &[]));
        assert!(matches!(told, FetchEvent::Done { .. }), "after {call} {answer}: {told:?}");
        assert_eq!(fs::read_dir(store.join("tmp")).unwrap().count(), 0, "{call} {answer}");
    }
}

/// A layout of one image with one packed layer.
fn oci_layout(folder: &Path, layer: &Path, diff_id: &str) {
    let blobs = folder.join("blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    let put = |bytes: &[u8]| {
        let digest = edgeagent::image::Digest::of(bytes);
        fs::write(blobs.join(digest.hex()), bytes).unwrap();
        format!(r#""digest":"{digest}","size":{}"#, bytes.len())
    };
    let layer = put(&fs::read(layer).unwrap());
    let arch = host_platform().architecture;
    let diff_id = diff_id.split_whitespace().next().unwrap();
    let config = put(format!(r#"{{"os":"linux","architecture":"{arch}","rootfs":{{"type":"layers","diff_ids":["sha256:{diff_id}"]}}}}"#).as_bytes());
    let manifest = put(format!(r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{{"mediaType":"application/vnd.oci.image.config.v1+json",{config}}},"layers":[{{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip",{layer}}}]}}"#).as_bytes());
    fs::write(folder.join("index.json"), format!(r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"application/vnd.oci.image.manifest.v1+json",{manifest}}}]}}"#)).unwrap();
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn a_tree_too_deep_for_descriptors_is_refused_and_swept() {
    let scratch = Scratch::in_memory("deep");
    // Each link leads 200 folders further down, so that no single path is long.
    let mut builder = ::tar::Builder::new(Vec::new());
    let mut add = |path: String, kind: ::tar::EntryType, link: &str| {
        let mut header = ::tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(0);
        header.set_mode(0o755);
        if kind == ::tar::EntryType::Symlink {
            builder.append_link(&mut header, path, link).unwrap();
        } else {
            builder.append_data(&mut header, path, &[][..]).unwrap();
        }
    };
    let down = "d/".repeat(200);
    add(down.clone(), ::tar::EntryType::Directory, "");
    add("l0".to_owned(), ::tar::EntryType::Symlink, &down);
    for n in 0..9 {
        add(format!("l{n}/{down}"), ::tar::EntryType::Directory, "");
        add(format!("l{}", n + 1), ::tar::EntryType::Symlink, &format!("l{n}/{down}"));
    }
    let layer = scratch.path("layer.tar");
    fs::write(&layer, builder.into_inner().unwrap()).unwrap();
    let archive = scratch.path("deep.tar");
    docker_archive(&archive, "deep:1", &[layer]);
    let store = scratch.path("store");
    let told = fetch(&scratch, &request(&store, &archive), &[]);
    let told = String::from_utf8_lossy(&told);
    assert!(told.contains("folders deeper than 256"), "{told}");
    assert_eq!(find(&store, "deep:1"), None);
    let good = self::archive(&scratch, "app:1", "one");
    fetch(&scratch, &request(&store, &good), &[]);
    assert_eq!(fs::read_dir(store.join("tmp")).unwrap().count(), 0);
}

/// Each layer is a tree of its own, so the link of one is not followed by the next; and the
/// container sees what Docker shows.
#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn a_layer_does_not_write_through_a_link_of_the_one_below() {
    let scratch = Scratch::in_memory("planted");
    let outside = scratch.path("outside");
    fs::create_dir(&outside).unwrap();
    let (low, top) = (scratch.path("low"), scratch.path("top"));
    for tree in [&low, &top] {
        fs::create_dir(tree).unwrap();
    }
    let up = format!("{}{}", "../".repeat(20), outside.strip_prefix("/").unwrap().display());
    for (name, to) in
        [("away", outside.to_str().unwrap()), ("up", up.as_str()), ("beside", "../../layers")]
    {
        symlink(to, low.join(name)).unwrap();
        fs::create_dir(top.join(name)).unwrap();
        fs::write(top.join(name).join("file"), name).unwrap();
        fs::write(top.join(name).join(".wh.gone"), "").unwrap();
    }
    let archive = scratch.path("planted.tar");
    let tars = [tar(&low, &scratch.path("low.tar")), scratch.path("top.tar")];
    // Without entries for the folders themselves: only the names lead there.
    let top = top.to_str().unwrap();
    run("sh", &["-c", &format!("cd {top} && tar -cf {} */file */.wh.gone", tars[1].display())]);
    docker_archive(&archive, "planted:1", &tars);
    let store = scratch.path("store");
    fetch(&scratch, &request(&store, &archive), &[]);
    let layers = find(&store, "planted:1").unwrap().layers;
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    assert_eq!(fs::read_dir(store.join("layers")).unwrap().count(), 4, "two, and their sums");
    for name in ["away", "up", "beside"] {
        assert!(layers[0].join(name).is_symlink());
        assert!(fs::symlink_metadata(layers[1].join(name)).unwrap().is_dir());
        assert_eq!(fs::read(layers[1].join(name).join("file")).unwrap(), name.as_bytes());
    }
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn kernels_without_openat2_unpack_the_same() {
    let scratch = Scratch::in_memory("no-openat2");
    let archive = archive(&scratch, "app:1", "one");
    let mut trees = Vec::new();
    for (name, before) in [
        ("with", vec![]),
        (
            "without",
            ["strace", "-f", "-o", "/dev/null", "-e", "inject=openat2:error=ENOSYS"]
                .map(str::to_owned)
                .to_vec(),
        ),
        (
            "forbidden",
            ["strace", "-f", "-o", "/dev/null", "-e", "inject=openat2:error=EPERM"]
                .map(str::to_owned)
                .to_vec(),
        ),
    ] {
        let store = scratch.path(name);
        fetch(&scratch, &request(&store, &archive), &before);
        let image = find(&store, "app:1").unwrap();
        trees.push(image.layers.iter().map(|layer| listing(layer)).collect::<Vec<_>>());
    }
    assert!(trees[0] == trees[1] && trees[0] == trees[2]);
    assert_eq!(
        fs::metadata(scratch.path("with/layers")).unwrap().permissions().mode() & 0o777,
        0o700
    );
}
