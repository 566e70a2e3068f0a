//! Images made by hand, and all that can be seen of a tree.

use std::{
    fs,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::{Path, PathBuf},
    process::Command,
};

use edgeagent::image::Digest;

/// Runs a program that must succeed; gives what it prints.
pub(crate) fn run(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {args:?}: {text}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A folder that goes with the test.
pub(crate) struct Scratch(pub(crate) PathBuf);

impl Scratch {
    /// In memory: what is written here is written thousands of times.
    pub(crate) fn in_memory(name: &str) -> Self {
        let path = Path::new("/dev/shm").join(format!("edgeagent-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

/// The tar of a tree, with all that GNU tar keeps.
pub(crate) fn tar(tree: &Path, to: &Path) -> PathBuf {
    let (tree, file) = (tree.to_str().unwrap(), to.to_str().unwrap());
    let keep = ["--numeric-owner", "--format=pax", "--xattrs", "--xattrs-include=*"];
    let rest = ["--sort=name", "-C", tree, "-cf", file, "."];
    run("tar", &[&keep[..], &rest[..]].concat());
    to.to_owned()
}

/// An archive as `docker save` writes it, of one image with these layers.
pub(crate) fn docker_archive(to: &Path, name: &str, layers: &[PathBuf]) {
    let folder = to.with_extension("parts");
    fs::create_dir_all(&folder).unwrap();
    let mut files = Vec::new();
    let mut diff_ids = Vec::new();
    for layer in layers {
        let bytes = fs::read(layer).unwrap();
        let digest = Digest::of(&bytes);
        files.push(format!("{}.tar", digest.hex()));
        diff_ids.push(digest.to_string());
        fs::write(folder.join(files.last().unwrap()), bytes).unwrap();
    }
    let (os, arch) = ("linux", edgeagent::image::host_platform().architecture);
    let history = vec![r#"{"created_by":"test"}"#; layers.len()].join(",");
    let config = format!(
        r#"{{"os":"{os}","architecture":"{arch}","created":"2020-01-01T00:00:00Z","config":{{"Cmd":["sh"]}},"history":[{history}],"rootfs":{{"type":"layers","diff_ids":{diff_ids:?}}}}}"#
    );
    let config_name = format!("{}.json", Digest::of(config.as_bytes()).hex());
    fs::write(folder.join(&config_name), config).unwrap();
    let manifest =
        format!(r#"[{{"Config":"{config_name}","RepoTags":["{name}"],"Layers":{files:?}}}]"#);
    fs::write(folder.join("manifest.json"), manifest).unwrap();
    run("tar", &["-C", folder.to_str().unwrap(), "-cf", to.to_str().unwrap(), "."]);
    fs::remove_dir_all(&folder).unwrap();
}

/// Everything that can be seen of a tree, one line per entry, the folder itself first.
pub(crate) fn listing(tree: &Path) -> Vec<String> {
    fn visit(root: &Path, path: &Path, lines: &mut Vec<String>) {
        let meta = fs::symlink_metadata(path).unwrap();
        let kind = meta.file_type();
        let name = path.strip_prefix(root).unwrap();
        if kind.is_char_device() && meta.rdev() == 0 {
            // Nobody sees more of it than that it is there.
            lines.push(format!("{name:?} whiteout"));
            return;
        }
        let content = if kind.is_symlink() {
            fs::read_link(path).unwrap().display().to_string()
        } else if kind.is_file() {
            format!("{} {}", meta.len(), Digest::of(&fs::read(path).unwrap()))
        } else {
            assert!(
                kind.is_dir() || kind.is_fifo() || kind.is_char_device() || kind.is_block_device()
            );
            String::new()
        };
        let mut buffer = [0_u8; 4096];
        let n = rustix::fs::llistxattr(path, &mut buffer[..]).unwrap_or_default();
        let mut xattrs: Vec<String> = buffer[..n]
            .split(|b| *b == 0)
            .filter(|name| !name.is_empty())
            .map(|name| {
                let mut value = [0_u8; 1024];
                let n = rustix::fs::lgetxattr(path, name, &mut value[..]).unwrap();
                format!("{}={}", name.escape_ascii(), value[..n].escape_ascii())
            })
            .collect();
        xattrs.sort();
        lines.push(format!(
            "{name:?} {:o} {}:{} links={} dev={} mtime={}.{} {content} {xattrs:?}",
            meta.mode(),
            meta.uid(),
            meta.gid(),
            if kind.is_dir() { 0 } else { meta.nlink() },
            meta.rdev(),
            meta.mtime(),
            meta.mtime_nsec(),
        ));
        if kind.is_dir() {
            let mut names: Vec<_> =
                fs::read_dir(path).unwrap().map(|e| e.unwrap().path()).collect();
            names.sort();
            for name in names {
                visit(root, &name, lines);
            }
        }
    }
    let mut lines = Vec::new();
    visit(tree, tree, &mut lines);
    lines
}
