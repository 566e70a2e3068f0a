//! What dockerd extracts from an image, and what we do: entry for entry the same.
//!
//! The images are made of real Debian packages, in layers that also change, hide and replace what
//! lies below; each goes as one archive to `docker load` and to `image load`, and the folder of
//! each layer is compared with that of Docker's overlay2. dockerd runs in a network namespace of
//! its own and is stopped by its process id.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test ends where something unexpected happens"
)]
#![expect(clippy::print_stdout, reason = "it tells how much was compared")]
#![expect(clippy::disallowed_methods, reason = "dockerd is waited for with a bound")]

#[path = "images/debian.rs"]
mod debian;
#[path = "images/mod.rs"]
mod images;

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, symlink},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use edgeagent::image::{Reference, Store};
use images::{Scratch, docker_archive, listing, run, tar};

const PROGRAM: &str = env!("CARGO_BIN_EXE_edgeagent");

/// The packages of each image, on the base that is the first one.
const IMAGES: [(&str, &[&str]); 4] = [
    ("nginx", &["nginx", "nginx-common", "libpcre2-8-0", "libssl3"]),
    ("redis", &["redis-server", "redis-tools", "libjemalloc2", "liblua5.1-0"]),
    ("python", &["python3.11-minimal", "libpython3.11-minimal", "libpython3.11-stdlib"]),
    ("busybox", &["busybox-static"]),
];

/// The essential part of Debian that makes a shell work.
const BASE: &[&str] = &[
    "base-files",
    "base-passwd",
    "bash",
    "coreutils",
    "dash",
    "debianutils",
    "diffutils",
    "dpkg",
    "findutils",
    "grep",
    "hostname",
    "libacl1",
    "libc6",
    "libgcc-s1",
    "libselinux1",
    "libtinfo6",
    "login",
    "passwd",
    "sed",
    "sysvinit-utils",
    "tar",
    "zlib1g",
];

/// A dockerd that has no network.
struct Docker {
    child: Child,
    folder: PathBuf,
}

impl Docker {
    fn start(folder: &Path) -> Self {
        fs::create_dir_all(folder).unwrap();
        let at = |name: &str| folder.join(name).to_str().unwrap().to_owned();
        let log = fs::File::create(folder.join("log")).unwrap();
        let words = [
            "-n",
            "dockerd",
            "--bridge=none",
            "--iptables=false",
            "--ip-forward=false",
            "--storage-driver=overlay2",
        ];
        let child = Command::new("unshare")
            .args(words)
            .args(["--data-root", &at("data"), "--exec-root", &at("exec"), "--pidfile", &at("pid")])
            .args(["-H", &format!("unix://{}", at("sock"))])
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let docker = Self { child, folder: folder.to_owned() };
        let begin = Instant::now();
        while !docker.command(&["version"]).status.success() {
            let log = || fs::read_to_string(folder.join("log")).unwrap();
            assert!(
                begin.elapsed() < Duration::from_secs(60),
                "dockerd does not answer: {}",
                log()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
        docker
    }

    fn command(&self, words: &[&str]) -> std::process::Output {
        let socket = format!("unix://{}", self.folder.join("sock").display());
        Command::new("docker").args(["-H", &socket]).args(words).output().unwrap()
    }

    fn ok(&self, words: &[&str]) -> String {
        let output = self.command(words);
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// The folders of an image's layers, lowest first.
    fn layers(&self, image: &str) -> Vec<PathBuf> {
        let format = "{{.GraphDriver.Data.LowerDir}}:{{.GraphDriver.Data.UpperDir}}";
        let text = self.ok(&["image", "inspect", "-f", format, image]);
        let mut words: Vec<&str> =
            text.trim().split(':').filter(|word| *word != "<no value>").collect();
        let top = words.pop().unwrap();
        words.reverse();
        words.push(top);
        words.into_iter().map(PathBuf::from).collect()
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        self.child.wait().unwrap();
    }
}

/// Loads the archive into both, and compares.
fn compare(scratch: &Scratch, docker: &Docker, archive: &Path, name: &str) {
    docker.ok(&["load", "-q", "-i", archive.to_str().unwrap()]);
    let config = scratch.path("agent.json");
    let (data, run_dir) = (scratch.path("edge"), scratch.path("run"));
    let text =
        format!(r#"{{"data-root": "{}", "exec-root": "{}"}}"#, data.display(), run_dir.display());
    fs::write(&config, text).unwrap();
    run(
        PROGRAM,
        &["--config", config.to_str().unwrap(), "image", "load", "-i", archive.to_str().unwrap()],
    );
    let store = Store::open(&data.join("images")).unwrap();
    let image = store.find(&Reference::parse(name).unwrap()).unwrap().unwrap();
    let theirs = docker.layers(name);
    assert_eq!(image.layers.len(), theirs.len(), "{theirs:?}");
    let mut entries = 0;
    for (number, (ours, theirs)) in image.layers.iter().zip(&theirs).enumerate() {
        // Docker makes the root folder of a layer itself; ours is the archive's.
        let (ours, theirs) = (listing(ours).split_off(1), listing(theirs).split_off(1));
        entries += ours.len();
        for (a, b) in ours.iter().zip(&theirs) {
            assert_eq!(a, b, "{name} layer {number}");
        }
        assert_eq!(ours.len(), theirs.len(), "{name} layer {number}");
    }
    println!("{name}: {} layers, {entries} entries are the same", theirs.len());
    fs::remove_file(archive).unwrap();
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn images_of_debian_packages_unpack_as_docker_unpacks_them() {
    let scratch = Scratch::in_memory("docker");
    let docker = Docker::start(&scratch.path("docker"));
    let debs = scratch.path("debs");
    debian::download(&debs, IMAGES.iter().flat_map(|(_, packages)| *packages).chain(BASE).copied());
    let minbase = scratch.path("minbase");
    debian::install(&debs, BASE, &minbase);
    // What packages set only while they are configured.
    let at = |tree: &Path, name: &str| tree.join(name).to_str().unwrap().to_owned();
    let capability = [1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(at(&minbase, "bin/ls"), "security.capability", &capability, flags)
        .unwrap();
    rustix::fs::setxattr(at(&minbase, "bin/ls"), "user.note", b"a\nb\0c", flags).unwrap();
    run("chown", &["-R", "100:65534", &at(&minbase, "var")]);
    run("chmod", &["2755", &at(&minbase, "var/local")]);
    fs::create_dir_all(minbase.join("dev")).unwrap();
    run("mknod", &[&at(&minbase, "dev/null"), "c", "1", "3"]);
    run("mkfifo", &["-m", "0640", &at(&minbase, "dev/initctl")]);
    fs::hard_link(minbase.join("bin/cp"), minbase.join("usr/other-cp")).unwrap();
    fs::write(minbase.join(format!("usr/{}", "long".repeat(60))), "long name").unwrap();
    let base_tar = tar(&minbase, &scratch.path("minbase.tar"));
    for (name, packages) in IMAGES {
        let tree = scratch.path(name);
        debian::install(&debs, packages, &tree);
        let own = tar(&tree, &scratch.path(&format!("{name}.tar")));
        // A layer that hides files and folders, replaces some by other types, and one anew.
        let cut = scratch.path(&format!("{name}-cut"));
        for folder in ["usr/share/doc", "usr/share", "etc", "bin", "var/lib"] {
            fs::create_dir_all(cut.join(folder)).unwrap();
        }
        for hidden in
            ["usr/share/.wh.man", "etc/.wh.passwd", "bin/.wh.bash", "usr/share/doc/.wh..wh..opq"]
        {
            fs::write(cut.join(hidden), "").unwrap();
        }
        fs::write(cut.join("usr/share/doc/README"), name).unwrap();
        fs::write(cut.join("var/lib/dpkg"), "a file now").unwrap();
        symlink("ls", cut.join("bin/cat")).unwrap();
        let cut = tar(&cut, &scratch.path(&format!("{name}-cut.tar")));
        let archive = scratch.path(&format!("{name}-image.tar"));
        let tag = format!("test/{name}:1");
        docker_archive(&archive, &tag, &[base_tar.clone(), own, cut]);
        compare(&scratch, &docker, &archive, &tag);
        fs::remove_dir_all(tree).unwrap();
    }
    formats(&scratch, &docker);
}

/// The other forms of tar that Docker reads.
fn formats(scratch: &Scratch, docker: &Docker) {
    let tree = scratch.path("forms");
    fs::create_dir_all(tree.join("dir")).unwrap();
    fs::write(tree.join(format!("dir/{}", "n".repeat(150))), "long").unwrap();
    symlink("x".repeat(200), tree.join("dir/link")).unwrap();
    fs::write(tree.join("dir/file"), "content").unwrap();
    run("touch", &["-d", "2011-01-01 01:02:03.5Z", tree.join("dir/file").to_str().unwrap()]);
    run("chown", &["3000000:3000001", tree.join("dir/file").to_str().unwrap()]);
    // Data at both ends and in the middle of holes.
    let mut file = fs::File::create(tree.join("dir/sparse")).unwrap();
    for at in [0_u64, 1 << 20, 5 << 20] {
        use std::io::{Seek as _, SeekFrom, Write as _};
        file.seek(SeekFrom::Start(at)).unwrap();
        file.write_all(format!("data at {at}").as_bytes()).unwrap();
    }
    file.set_len(8 << 20).unwrap();
    let folder = tree.to_str().unwrap();
    let mut layers = Vec::new();
    for (n, words) in [
        vec!["--format=gnu"],
        vec!["--format=pax", "-S", "--sparse-version=0.0"],
        vec!["--format=pax", "-S", "--sparse-version=0.1"],
        vec!["--format=pax", "-S", "--sparse-version=1.0"],
    ]
    .into_iter()
    .enumerate()
    {
        let to = scratch.path(&format!("form-{n}.tar"));
        let rest =
            ["--numeric-owner", "--sort=name", "-C", folder, "-cf", to.to_str().unwrap(), "."];
        run("tar", &[&words[..], &rest[..]].concat());
        layers.push(to);
    }
    let archive = scratch.path("forms-image.tar");
    docker_archive(&archive, "test/forms:1", &layers);
    compare(scratch, docker, &archive, "test/forms:1");
    // GNU's own type, which Docker refuses; here it is the same file.
    let own = scratch.path("gnu-sparse.tar");
    run(
        "tar",
        &[
            "--format=gnu",
            "-S",
            "--numeric-owner",
            "--sort=name",
            "-C",
            folder,
            "-cf",
            own.to_str().unwrap(),
            ".",
        ],
    );
    let archive = scratch.path("gnu-image.tar");
    docker_archive(&archive, "test/gnu:1", &[own]);
    let config = scratch.path("agent.json");
    run(
        PROGRAM,
        &["--config", config.to_str().unwrap(), "image", "load", "-i", archive.to_str().unwrap()],
    );
    let store = Store::open(&scratch.path("edge/images")).unwrap();
    let find = |name: &str| store.find(&Reference::parse(name).unwrap()).unwrap().unwrap();
    let (gnu, pax) = (find("test/gnu:1"), find("test/forms:1"));
    let read = |image: &edgeagent::model::LocalImage| {
        fs::read(image.layers[0].join("dir/sparse")).unwrap()
    };
    assert!(read(&gnu) == read(&pax));
    assert_eq!(listing(&gnu.layers[0]).len(), listing(&pax.layers[0]).len());
    let holes = fs::metadata(gnu.layers[0].join("dir/sparse")).unwrap();
    assert!(holes.blocks() * 512 < 1 << 20, "holes stay holes");
}
