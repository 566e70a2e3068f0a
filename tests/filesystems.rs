//! The same image and the same container on each file system that this machine has.
//!
//! ext4 and btrfs are real ones in files, mounted by loop devices; where overlayfs can not lie
//! (over overlayfs, or on one without attributes) the image is copied.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test ends where something unexpected happens"
)]
#![expect(clippy::print_stdout, reason = "what is left out is said")]
#![expect(clippy::disallowed_methods, reason = "the bench waits with a bound")]

#[path = "runner/bench.rs"]
#[expect(dead_code, reason = "the runner's tests use the rest")]
mod bench;
#[path = "images/mod.rs"]
#[expect(dead_code, reason = "other tests use the rest")]
mod images;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use bench::Bench;
use edgeagent::{
    image::{Reference, Store},
    shim::{Storage, storage},
};
use images::{docker_archive, run, tar};

/// A mounted file system.
struct Disk(PathBuf);

impl Drop for Disk {
    fn drop(&mut self) {
        run("umount", &[self.0.to_str().unwrap()]);
    }
}

/// Mounts one of this kind; none when this machine can not.
fn disk(base: &Path, kind: &str) -> Option<Disk> {
    let at = |name: &str| base.join(format!("{kind}-{name}")).to_str().unwrap().to_owned();
    let place = at("disk");
    fs::create_dir(&place).unwrap();
    let known = fs::read_to_string("/proc/filesystems").unwrap();
    let maker = format!("mkfs.{kind}");
    let has = |program: &str| {
        ["/usr/sbin", "/sbin", "/usr/bin"].iter().any(|dir| Path::new(dir).join(program).exists())
    };
    match kind {
        "ramfs" | "tmpfs" => drop(run("mount", &["-t", kind, kind, &place])),
        "overlay" => {
            for name in ["lower", "upper", "work"] {
                fs::create_dir(at(name)).unwrap();
            }
            let options =
                format!("lowerdir={},upperdir={},workdir={}", at("lower"), at("upper"), at("work"));
            run("mount", &["-t", "overlay", "-o", &options, "overlay", &place]);
        }
        _ if known.lines().any(|line| line.trim() == kind) && has(&maker) => {
            fs::File::create(at("image")).unwrap().set_len(160 << 20).unwrap();
            run(&maker, &["-q", &at("image")]);
            let mounted = Command::new("mount").args(["-o", "loop", &at("image"), &place]).output();
            let mounted = mounted.unwrap();
            if !mounted.status.success() {
                println!("no {kind} here: {}", String::from_utf8_lossy(&mounted.stderr));
                return None;
            }
        }
        _ => {
            println!("no {kind} here: not in the kernel, or no {maker}");
            return None;
        }
    }
    Some(Disk(place.into()))
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn images_and_containers_are_the_same_on_every_file_system() {
    let bench = Bench::new("filesystems");
    let base = bench.base.join("image");
    for path in ["gone/file", "opaque/old", "replaced/old", "kept/old"] {
        fs::create_dir_all(base.join(path).parent().unwrap()).unwrap();
        fs::write(base.join(path), "old").unwrap();
    }
    fs::hard_link(base.join("kept/old"), base.join("kept/other")).unwrap();
    run("chown", &["1000:1001", base.join("kept/old").to_str().unwrap()]);
    let top = bench.base.join("top");
    for path in ["opaque/new", "replaced", "kept/new", "opaque/.wh..wh..opq", ".wh.gone"] {
        fs::create_dir_all(top.join(path).parent().unwrap()).unwrap();
        fs::write(top.join(path), "new").unwrap();
    }
    let archive = bench.base.join("archive.tar");
    let layers = [tar(&base, &bench.base.join("base.tar")), tar(&top, &bench.base.join("top.tar"))];
    docker_archive(&archive, "app:1", &layers);
    for (kind, copies) in [
        ("ext4", false),
        ("btrfs", false),
        ("f2fs", false),
        ("tmpfs", false),
        ("overlay", true),
        ("ramfs", true),
    ] {
        let Some(disk) = disk(&bench.base, kind) else { continue };
        let data = disk.0.join("data");
        let config = bench.base.join("agent.json");
        let text = format!(
            r#"{{"data-root": "{}", "exec-root": "{}"}}"#,
            data.display(),
            bench.base.join("run").display()
        );
        fs::write(&config, text).unwrap();
        let program = bench.program.to_str().unwrap();
        run(
            program,
            &[
                "--config",
                config.to_str().unwrap(),
                "image",
                "load",
                "-i",
                archive.to_str().unwrap(),
            ],
        );
        let found = storage(&data).unwrap();
        println!("{kind}: {found:?}");
        assert_eq!(matches!(found, Storage::Copy { .. }), copies, "{kind} {found:?}");
        let store = Store::open(&data.join("images")).unwrap();
        let image = store.find(&Reference::parse("app:1").unwrap()).unwrap().unwrap();
        assert!(store.are_sound(&image.layers), "{kind}");
        let mut bundle = bench.bundle(&[]);
        bundle.root.layers = image.layers.clone();
        bundle.root.writable = data.join("containers/app");
        let text = bench.output(
            &mut bundle,
            "cd /; test -e gone && echo gone; ls -d opaque/* replaced kept/*; cat replaced; \
             stat -c '%u:%g %h' kept/old; echo mine > opaque/new && cat opaque/new; id -u",
        );
        let want =
            "kept/new\nkept/old\nkept/other\nopaque/new\nreplaced\nnew1000:1001 2\nmine\n0\n";
        assert_eq!(text, want, "{kind}");
        assert!(store.are_sound(&image.layers), "the container changed nothing of the image");
    }
    bench.nothing_is_left();
}

/// A process that was killed while it tried the storage leaves a mount, which would stay for ever.
#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn what_a_killed_trial_left_is_removed() {
    let bench = Bench::new("trial");
    let mut dead = Command::new("true").spawn().unwrap();
    let left = bench.base.join(format!(".edgeagent-trial-{}", dead.id()));
    dead.wait().unwrap();
    for name in ["lower", "upper", "work", "merged"] {
        fs::create_dir_all(left.join(name)).unwrap();
    }
    let at = |name: &str| left.join(name).to_str().unwrap().to_owned();
    let options =
        format!("lowerdir={},upperdir={},workdir={}", at("lower"), at("upper"), at("work"));
    run("mount", &["-t", "overlay", "-o", &options, "none", &at("merged")]);
    let foreign = bench.base.join(".edgeagent-trial-x");
    fs::create_dir(&foreign).unwrap();
    storage(&bench.base).unwrap();
    assert!(!left.exists(), "the mount and its folders are gone");
    assert!(foreign.exists(), "what is not ours stays");
}
