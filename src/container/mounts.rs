//! The container's file systems.
//!
//! Everything is mounted in the container's own mount namespace, so nothing can be left behind
//! on the host. Each mount is made ready at a staging place of ours and then moved onto a
//! descriptor of its target: no path of the image is ever resolved twice.

use std::{
    collections::BTreeSet,
    ffi::{CStr, CString},
    fs, io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown, symlink},
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{
        AtFlags, FileType, Gid, Mode, OFlags, PROC_SUPER_MAGIC, Uid, chownat, fchmod, fchown,
        fstat, fstatfs, makedev, mkdirat, mknodat, openat, statat, symlinkat, unlinkat,
    },
    io::Errno,
    mount::{
        MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, mount,
        mount_bind, mount_bind_recursive, mount_change, mount_move, mount_remount, move_mount,
        open_tree, unmount,
    },
};

use super::{
    cgroup::{Cgroup, Hierarchy},
    copy, errno_text, names, plain, propagation,
    resolve::{self, Missing},
};
use crate::{
    model::{
        Bundle, BundleDevice, BundleFile, BundleMount, Denied, DeviceNode, MountKind, Propagation,
    },
    sys,
};

pub(super) const NO_DEVICES_NO_PROGRAMS: MountFlags =
    MountFlags::NOSUID.union(MountFlags::NODEV).union(MountFlags::NOEXEC);

/// Character devices of `/dev`: name, major, minor.
const NODES: [(&str, u32, u32); 6] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];

/// Links of `/dev`.
const LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

/// Of the file system with hosts, hostname and resolv.conf: the largest that was seen has some
/// kilobytes. What is too much for it fails the start, or the container's own writing.
const NAMES_OPTIONS: &CStr = c"mode=0755,size=1m,nr_inodes=16";

/// Target of the link `/dev/core`.
const CORE: &str = "/proc/kcore";

pub(super) fn failed(what: &str, error: &io::Error) -> String {
    format!("{what}: {}", errno_text(error))
}

/// Builds the whole tree and gives its root. The caller has just left the host's mount
/// namespace.
pub(crate) fn build(bundle: &Bundle, groups: &Cgroup) -> Result<OwnedFd, String> {
    propagation::check(&bundle.mounts)?;
    let shared = open_shared(bundle)?;
    let slave = bundle.mounts.iter().any(|m| {
        matches!(
            m.kind,
            MountKind::Bind { propagation: Propagation::Slave | Propagation::RSlave, .. }
        )
    });
    let how =
        if slave { MountPropagationFlags::DOWNSTREAM } else { MountPropagationFlags::PRIVATE };
    mount_change("/", how | MountPropagationFlags::REC)
        .map_err(|e| failed("make mounts private", &e.into()))?;

    let root = overlay(bundle)?;
    let tree = Tree { root, dir: &bundle.dir, bundle, groups };
    tree.prepare_stage().map_err(|e| failed("make the staging place", &e))?;
    tree.marks().map_err(|e| failed("make /.dockerenv and /etc/mtab", &e))?;
    tree.defaults()?;
    for (at, mount) in bundle.mounts.iter().enumerate() {
        let detached = shared.iter().find(|(index, _)| *index == at).map(|(_, fd)| fd.as_fd());
        tree.user(mount, detached)?;
    }
    tree.names()?;
    tree.files(&bundle.files)?;
    Ok(tree.root)
}

/// Sources of shared mounts, taken before this namespace stops being a peer of the host's.
fn open_shared(bundle: &Bundle) -> Result<Vec<(usize, OwnedFd)>, String> {
    let mut found = Vec::new();
    for (at, wanted) in bundle.mounts.iter().enumerate() {
        let MountKind::Bind { source, propagation, recursive, .. } = &wanted.kind else { continue };
        if !matches!(propagation, Propagation::Shared | Propagation::RShared) {
            continue;
        }
        let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        if *recursive {
            flags |= OpenTreeFlags::AT_RECURSIVE;
        }
        let tree = resolve::host_without_links(source)
            .and_then(|from| {
                let flags = flags | OpenTreeFlags::AT_EMPTY_PATH;
                Ok(open_tree(&from, "", flags)?)
            })
            .map_err(|e| {
                failed(&format!("mount {} shared on {}", source.display(), wanted.target), &e)
            })?;
        found.push((at, tree));
    }
    Ok(found)
}

/// Mounts image and writable layer on `dir/rootfs`; where overlayfs can not, a copy of the image in
/// the writable layer's place. Short links in `dir/l` stand for the layers, for all options of a
/// mount must fit into one page, and a path may hold a comma.
fn overlay(bundle: &Bundle) -> Result<OwnedFd, String> {
    // A layer that is there twice says nothing again further down, and overlayfs refuses it; by
    // the folder itself, for stores may show one in two places.
    let mut seen = BTreeSet::new();
    let is_new = |layer: &&PathBuf| {
        fs::metadata(layer).map_or(true, |folder| seen.insert((folder.dev(), folder.ino())))
    };
    let top_first = bundle.root.layers.iter().rev();
    let mut lower: Vec<PathBuf> = top_first.filter(is_new).cloned().collect();
    let empty = bundle.dir.join("empty");
    if lower.is_empty() {
        lower.push(empty.clone());
    }
    let writable = &bundle.root.writable;
    let prepare = || -> io::Result<()> {
        let links = bundle.dir.join("l");
        for dir in [&empty, &links, &bundle.dir.join("rootfs")] {
            fs::create_dir_all(dir)?;
        }
        for (number, layer) in lower.iter().enumerate() {
            symlink(layer, links.join(number.to_string()))?;
        }
        symlink(writable, links.join("w"))?;
        fs::DirBuilder::new().recursive(true).mode(0o700).create(writable.join("work"))?;
        let upper = writable.join("upper");
        fs::create_dir_all(&upper)?;
        root_folder(&upper)?;
        std::env::set_current_dir(links)
    };
    prepare().map_err(|e| failed("prepare the root file system", &e))?;
    let list: Vec<String> = (0..lower.len()).map(|n| n.to_string()).collect();
    let options = format!("lowerdir={},upperdir=w/upper,workdir=w/work", list.join(":"));
    let options = CString::new(options).map_err(|_| "bad layer path".to_owned())?;
    let root = bundle.dir.join("rootfs");
    let open = || -> io::Result<OwnedFd> {
        let fit = plain::marks(&writable.join("work"));
        let mounted = fit.and_then(|()| {
            mount("overlay", &root, "overlay", MountFlags::empty(), options.as_c_str())
        });
        std::env::set_current_dir("/")?;
        match mounted {
            Err(e) if fit.is_err() || plain::is_unfit(e) => {
                let upper = writable.join("upper");
                plain::merge(&bundle.root.layers, &upper)?;
                root_folder(&upper)?;
                mount_bind(&upper, &root)?;
            }
            result => result?,
        }
        resolve::host(&root)
    };
    open().map_err(|e| failed("mount the root file system", &e))
}

/// `/` of a container is root's and open to all, whatever a layer says of `./` (moby
/// `daemon/graphdriver/overlay2`).
fn root_folder(place: &Path) -> io::Result<()> {
    chown(place, Some(0), Some(0))?;
    fs::set_permissions(place, fs::Permissions::from_mode(0o755))
}

struct Tree<'a> {
    root: OwnedFd,
    dir: &'a Path,
    bundle: &'a Bundle,
    groups: &'a Cgroup,
}

impl Tree<'_> {
    fn stage(&self) -> PathBuf {
        self.dir.join("stage")
    }

    fn stage_file(&self) -> PathBuf {
        self.dir.join("stage-file")
    }

    fn prepare_stage(&self) -> io::Result<()> {
        fs::create_dir_all(self.stage())?;
        fs::create_dir_all(self.dir.join("secrets"))?;
        fs::write(self.stage_file(), b"")
    }

    /// What Docker adds to every root unless the image has it (moby `daemon/initlayer`): the mark
    /// by which programs know a container, and the old name of the table of mounts.
    fn marks(&self) -> io::Result<()> {
        let new = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let made = |result: rustix::io::Result<()>| match result {
            Ok(()) | Err(Errno::EXIST) => Ok(()),
            Err(e) => Err(io::Error::from(e)),
        };
        let mark = openat(&self.root, ".dockerenv", new, Mode::from_raw_mode(0o755));
        made(mark.map(drop))?;
        let etc = resolve::make(self.root.as_fd(), "/etc", Missing::Folder)?;
        made(symlinkat("/proc/mounts", &etc, "mtab"))
    }

    /// Whatever is no folder in the image where a default file system goes is replaced in the
    /// container's own layer, as moby's `daemon/initlayer` does: what a link leads to is not looked
    /// at. So is a link where a file with names goes; one that leads to itself would fail.
    fn replace_links(&self) -> io::Result<()> {
        let kind = |folder: BorrowedFd<'_>, name: &str| {
            let found = statat(folder, name, AtFlags::SYMLINK_NOFOLLOW);
            found.ok().map(|stat| FileType::from_raw_mode(stat.st_mode))
        };
        for name in ["dev", "proc", "sys"] {
            if kind(self.root.as_fd(), name).is_some_and(|kind| kind != FileType::Directory) {
                unlinkat(&self.root, name, AtFlags::empty())?;
                mkdirat(&self.root, name, Mode::from_raw_mode(0o755))?;
            }
        }
        let etc = resolve::make(self.root.as_fd(), "/etc", Missing::Folder)?;
        for name in ["hosts", "hostname", "resolv.conf"] {
            let kind = kind(etc.as_fd(), name);
            if kind.is_some_and(|kind| !matches!(kind, FileType::Directory | FileType::RegularFile))
            {
                unlinkat(&etc, name, AtFlags::empty())?;
            }
        }
        Ok(())
    }

    fn wanted_by_user(&self, target: &str) -> bool {
        self.bundle.mounts.iter().any(|m| m.target == target)
    }

    /// Docker's default mounts (moby `oci/defaults.go`).
    fn defaults(&self) -> Result<(), String> {
        let none = MountFlags::empty();
        self.replace_links().map_err(|e| failed("replace links of the image", &e))?;
        self.default_mount("proc", "/proc", NO_DEVICES_NO_PROGRAMS, c"")?;
        let dev = self.default_mount(
            "tmpfs",
            "/dev",
            MountFlags::NOSUID | MountFlags::STRICTATIME,
            c"mode=755,size=65536k",
        )?;
        if dev {
            self.devices().map_err(|e| failed("fill /dev", &e))?;
        }
        self.default_mount(
            "devpts",
            "/dev/pts",
            MountFlags::NOSUID | MountFlags::NOEXEC,
            c"newinstance,ptmxmode=0666,mode=0620,gid=5",
        )?;
        let sys = NO_DEVICES_NO_PROGRAMS | MountFlags::RDONLY;
        if self.default_mount("sysfs", "/sys", sys, c"")? {
            self.cgroups()?;
        }
        self.default_mount("mqueue", "/dev/mqueue", NO_DEVICES_NO_PROGRAMS, c"")?;
        self.default_mount(
            "tmpfs",
            "/dev/shm",
            NO_DEVICES_NO_PROGRAMS | none,
            c"mode=1777,size=67108864",
        )?;
        Ok(())
    }

    /// Mounts one of the default file systems, unless the user has one there. A link at the
    /// target, or before it, is refused (CVE-2026-47766, CVE-2019-19921); an image's own was
    /// replaced before.
    fn default_mount(
        &self,
        kind: &str,
        target: &str,
        flags: MountFlags,
        options: &CStr,
    ) -> Result<bool, String> {
        if self.wanted_by_user(target) && target != "/proc" {
            return Ok(false);
        }
        let on = || -> io::Result<()> {
            let place = resolve::make_without_links(self.root.as_fd(), target, Missing::Folder)?;
            mount(kind, self.stage(), kind, flags, options)?;
            self.place(&self.stage(), place.as_fd())
        };
        on().map_err(|e| failed(&format!("mount {kind} on {target}"), &e))?;
        Ok(true)
    }

    /// Moves what is mounted at a staging place onto its target.
    fn place(&self, stage: &Path, target: BorrowedFd<'_>) -> io::Result<()> {
        mount_move(stage, resolve::name_of(target)).map_err(|e| {
            // The next mount must find the place free.
            match unmount(stage, UnmountFlags::DETACH) {
                Ok(()) | Err(_) => io::Error::from(e),
            }
        })
    }

    fn devices(&self) -> io::Result<()> {
        let dev = resolve::without_links(self.root.as_fd(), "/dev")?;
        for (name, major, minor) in NODES {
            let mode = Mode::from_raw_mode(0o666);
            mknodat(&dev, name, FileType::CharacterDevice, mode, makedev(major, minor))?;
        }
        for device in &self.bundle.devices {
            if let Some(node) = &device.node {
                self.given_device(device, node)?;
            }
        }
        for (name, target) in LINKS {
            symlinkat(target, &dev, name)?;
        }
        // Only where the kernel has it (runc `libcontainer/rootfs_linux.go`, `setupDevSymlinks`).
        if resolve::without_links(self.root.as_fd(), CORE).is_ok() {
            symlinkat(CORE, &dev, "core")?;
        }
        Ok(())
    }

    /// A device of a class: its node, as on the host.
    fn given_device(&self, device: &BundleDevice, node: &DeviceNode) -> io::Result<()> {
        let (folder, name) = node.path.rsplit_once('/').unwrap_or(("/dev", &node.path));
        let folder = resolve::make_without_links(self.root.as_fd(), folder, Missing::Folder)?;
        let kind = if device.block { FileType::BlockDevice } else { FileType::CharacterDevice };
        let number = makedev(device.major, device.minor);
        mknodat(&folder, name, kind, Mode::from_raw_mode(node.mode), number)?;
        let (uid, gid) = (Uid::from_raw(node.uid), Gid::from_raw(node.gid));
        chownat(&folder, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
        Ok(())
    }

    /// The container's own groups, read-only: the unified tree or, on a host that has any, every
    /// v1 tree as runc shows them (`libcontainer/rootfs_linux.go`, `mountCgroupV1`), with a link
    /// for each controller of a tree that has several. The v2 tree of a hybrid host is left out.
    fn cgroups(&self) -> Result<(), String> {
        let target = "/sys/fs/cgroup";
        if self.wanted_by_user(target) {
            return Ok(());
        }
        let Ok(_) = resolve::without_links(self.root.as_fd(), target) else {
            // A kernel without cgroups.
            return Ok(());
        };
        let flags = NO_DEVICES_NO_PROGRAMS | MountFlags::RDONLY | MountFlags::RELATIME;
        let trees: Vec<&Hierarchy> = self.groups.trees().filter(|t| !t.v2).collect();
        if trees.is_empty() {
            return self.default_mount("cgroup2", target, flags, c"").map(drop);
        }
        let base = NO_DEVICES_NO_PROGRAMS;
        self.default_mount("tmpfs", target, base, c"mode=755")?;
        for tree in trees {
            let on = format!("{target}/{}", tree.name());
            let options = CString::new(tree.controllers.join(","))
                .map_err(|_| "bad controller".to_owned())?;
            self.default_mount("cgroup", &on, flags, &options)?;
            if 1 < tree.controllers.len() {
                self.controller_links(target, tree)
                    .map_err(|e| failed(&format!("link the controllers of {on}"), &e))?;
            }
        }
        // By its name again: the descriptor from before is what lies below the mount.
        let place = resolve::without_links(self.root.as_fd(), target);
        place
            .and_then(|p| {
                let flags = MountFlags::BIND | MountFlags::RDONLY | base;
                Ok(mount_remount(resolve::name_of(p.as_fd()), flags, "")?)
            })
            .map_err(|e| failed("make /sys/fs/cgroup read-only", &e))
    }

    fn controller_links(&self, target: &str, tree: &Hierarchy) -> io::Result<()> {
        let dir = resolve::without_links(self.root.as_fd(), target)?;
        for controller in &tree.controllers {
            match symlinkat(tree.name(), &dir, controller.as_str()) {
                // A tree may be mounted by the name of one of its controllers.
                Ok(()) | Err(Errno::EXIST) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Ok(())
    }

    fn user(&self, wanted: &BundleMount, shared: Option<BorrowedFd<'_>>) -> Result<(), String> {
        let source = match &wanted.kind {
            MountKind::Bind { source, .. } | MountKind::Volume { source, .. } => {
                source.display().to_string()
            }
            MountKind::Tmpfs { .. } => "tmpfs".to_owned(),
        };
        self.user_mount(wanted, shared)
            .map_err(|e| failed(&format!("mount {source} on {}", wanted.target), &e))
    }

    fn user_mount(&self, wanted: &BundleMount, shared: Option<BorrowedFd<'_>>) -> io::Result<()> {
        match &wanted.kind {
            MountKind::Bind { source, propagation, recursive, populate, denied } => {
                // The agent has followed its links, and checked where they lead.
                let from = resolve::host_without_links(source)?;
                let folder = is_folder(&from)?;
                let place = self.target(&wanted.target, folder)?;
                if *populate && folder {
                    fill(place.as_fd(), from.as_fd())?;
                }
                if let Some(tree) = shared {
                    if wanted.read_only {
                        sys::mount_read_only_recursive(tree)?;
                    }
                    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH
                        | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
                    return Ok(move_mount(tree, "", &place, "", flags)?);
                }
                self.bind(
                    from.as_fd(),
                    place.as_fd(),
                    folder,
                    &Bind {
                        recursive: *recursive,
                        private: !matches!(propagation, Propagation::Slave | Propagation::RSlave),
                        read_only: wanted.read_only,
                        flags: denied_flags(*denied),
                    },
                )
            }
            MountKind::Volume { source, subpath, populate, anonymous: _ } => {
                // The umask is 0 here.
                fs::DirBuilder::new().recursive(true).mode(0o755).create(source)?;
                let (whole, _) = open_source(source)?;
                // Whoever else uses the volume may have put links there: none leads out of it.
                let from = match subpath.as_str() {
                    "" => whole,
                    path => resolve::inside(whole.as_fd(), path).map_err(|e| {
                        let reason = errno_text(&e);
                        io::Error::new(e.kind(), format!("subpath {path} of the volume: {reason}"))
                    })?,
                };
                let folder = is_folder(&from)?;
                let place = self.target(&wanted.target, folder)?;
                if *populate && folder {
                    fill(place.as_fd(), from.as_fd())?;
                }
                self.bind(
                    from.as_fd(),
                    place.as_fd(),
                    folder,
                    &Bind {
                        recursive: true,
                        private: true,
                        read_only: wanted.read_only,
                        flags: MountFlags::empty(),
                    },
                )
            }
            MountKind::Tmpfs { size_bytes, mode, exec, owner } => {
                // What the image has there says the mode, unless the service does.
                let of_image = resolve::inside(self.root.as_fd(), &wanted.target)
                    .and_then(|there| Ok(fstat(there)?.st_mode & 0o7777));
                let place = self.target(&wanted.target, true)?;
                let mode = mode.unwrap_or_else(|| of_image.unwrap_or(0o1777));
                let mut options = format!("mode={mode:o}");
                if let Some((uid, gid)) = owner {
                    options.push_str(&format!(",uid={uid},gid={gid}"));
                }
                if let Some(bytes) = size_bytes {
                    options.push_str(&format!(",size={bytes}"));
                }
                let options = CString::new(options)?;
                let mut flags = MountFlags::NOSUID | MountFlags::NODEV;
                if !exec {
                    flags |= MountFlags::NOEXEC;
                }
                if wanted.read_only {
                    flags |= MountFlags::RDONLY;
                }
                mount("tmpfs", self.stage(), "tmpfs", flags, options.as_c_str())?;
                self.place(&self.stage(), place.as_fd())
            }
        }
    }

    /// A target for a mount of the user: anywhere but the root itself and procfs
    /// (CVE-2019-16884, CVE-2019-19921, CVE-2023-27561).
    fn target(&self, path: &str, folder: bool) -> io::Result<OwnedFd> {
        let last = if folder { Missing::Folder } else { Missing::File };
        let place = resolve::make(self.root.as_fd(), path, last)?;
        if fstatfs(&place)?.f_type == PROC_SUPER_MAGIC {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                "a mount inside /proc is not allowed",
            ));
        }
        // The kernel only says that it is invalid.
        if is_folder(&place)? != folder {
            return Err(Errno::NOTDIR.into());
        }
        let (target, root) = (fstat(&place)?, fstat(&self.root)?);
        if (target.st_dev, target.st_ino) == (root.st_dev, root.st_ino) {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                "a mount on the root folder is not allowed",
            ));
        }
        Ok(place)
    }

    fn bind(
        &self,
        from: BorrowedFd<'_>,
        to: BorrowedFd<'_>,
        folder: bool,
        how: &Bind,
    ) -> io::Result<()> {
        let stage = if folder { self.stage() } else { self.stage_file() };
        if how.recursive {
            mount_bind_recursive(resolve::name_of(from), &stage)?;
        } else {
            mount_bind(resolve::name_of(from), &stage)?;
        }
        let finish = || -> io::Result<()> {
            if how.private {
                let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
                mount_change(&stage, private)?;
            }
            if how.read_only || !how.flags.is_empty() {
                let staged = resolve::host(&stage)?;
                restrict(staged.as_fd(), how)?;
            }
            Ok(())
        };
        if let Err(e) = finish() {
            unmount(&stage, UnmountFlags::DETACH)?;
            return Err(e);
        }
        self.place(&stage, to)
    }

    /// `/etc/hosts`, `/etc/hostname` and `/etc/resolv.conf`.
    ///
    /// They lie on a small file system of their own: the container's root may write to them, and
    /// must not be able to fill the host's `exec-root` with that.
    fn names(&self) -> Result<(), String> {
        let store = self.dir.join("names");
        let mounted = fs::create_dir_all(&store).and_then(|()| {
            Ok(mount("tmpfs", &store, "tmpfs", MountFlags::empty(), NAMES_OPTIONS)?)
        });
        mounted.map_err(|e| failed("mount the tmpfs for names", &e))?;
        let of_host = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let bundle = self.bundle;
        let files = [
            ("/etc/hosts", "hosts", names::hosts(bundle, &of_host("/etc/hosts"))),
            ("/etc/hostname", "hostname", format!("{}\n", bundle.hostname)),
            (
                "/etc/resolv.conf",
                "resolv.conf",
                names::resolv_conf(bundle, &of_host("/etc/resolv.conf")),
            ),
        ];
        for (target, name, content) in files {
            if self.wanted_by_user(target) {
                continue;
            }
            let path = store.join(name);
            let on = || -> io::Result<()> {
                fs::write(&path, content)?;
                fs::set_permissions(&path, fs::Permissions::from_mode(0o644))?;
                let (from, _) = open_source(&path)?;
                let place = self.target(target, false)?;
                self.bind(
                    from.as_fd(),
                    place.as_fd(),
                    false,
                    &Bind {
                        recursive: false,
                        private: true,
                        read_only: bundle.root.read_only,
                        flags: MountFlags::empty(),
                    },
                )
            };
            on().map_err(|e| failed(&format!("mount {} on {target}", path.display()), &e))?;
        }
        Ok(())
    }

    /// Secrets and configs: written to a tmpfs that only this namespace has.
    fn files(&self, files: &[BundleFile]) -> Result<(), String> {
        if files.is_empty() {
            return Ok(());
        }
        let store = self.dir.join("secrets");
        let mount = |options| mount("tmpfs", &store, "tmpfs", NO_DEVICES_NO_PROGRAMS, options);
        match mount(c"mode=0700,noswap") {
            // Kernels before 6.4 may write it to swap, if the device has any.
            Err(Errno::INVAL) => mount(c"mode=0700"),
            mounted => mounted,
        }
        .map_err(|e| failed("mount the tmpfs for secrets", &e.into()))?;
        for (number, file) in files.iter().enumerate() {
            let on = || -> io::Result<()> {
                let path = store.join(number.to_string());
                fs::write(&path, file.data.expose())?;
                let written = fs::File::open(&path)?;
                fchown(&written, Some(Uid::from_raw(file.uid)), Some(Gid::from_raw(file.gid)))?;
                fchmod(&written, Mode::from_raw_mode(file.mode & 0o7777))?;
                let (from, _) = open_source(&path)?;
                let place = self.target(&file.target, false)?;
                self.bind(
                    from.as_fd(),
                    place.as_fd(),
                    false,
                    &Bind {
                        recursive: false,
                        private: true,
                        read_only: true,
                        flags: NO_DEVICES_NO_PROGRAMS,
                    },
                )
            };
            on().map_err(|e| failed(&format!("mount a secret or config on {}", file.target), &e))?;
        }
        Ok(())
    }
}

struct Bind {
    recursive: bool,
    private: bool,
    read_only: bool,
    flags: MountFlags,
}

const fn denied_flags(denied: Denied) -> MountFlags {
    let mut flags = MountFlags::empty();
    if denied.programs {
        flags = flags.union(MountFlags::NOEXEC);
    }
    if denied.set_id {
        flags = flags.union(MountFlags::NOSUID);
    }
    if denied.devices {
        flags = flags.union(MountFlags::NODEV);
    }
    flags
}

/// Takes rights from a mount; with the ones below it where the kernel can.
fn restrict(mounted: BorrowedFd<'_>, how: &Bind) -> io::Result<()> {
    if how.read_only && how.recursive {
        match sys::mount_read_only_recursive(mounted) {
            Ok(()) if how.flags.is_empty() => return Ok(()),
            Ok(()) => {}
            // Before Linux 5.12 only the mount itself.
            Err(e) if e.raw_os_error() == Some(Errno::NOSYS.raw_os_error()) => {}
            Err(e) => return Err(e),
        }
    }
    let mut flags = MountFlags::BIND | how.flags | kept_flags(mounted)?;
    if how.read_only {
        flags |= MountFlags::RDONLY;
    }
    Ok(mount_remount(resolve::name_of(mounted), flags, "")?)
}

/// A remount would clear what the source's mount has set.
pub(super) fn kept_flags(mounted: BorrowedFd<'_>) -> io::Result<MountFlags> {
    let have = rustix::fs::fstatvfs(mounted)?.f_flag;
    let mut flags = MountFlags::empty();
    for (has, flag) in [
        (rustix::fs::StatVfsMountFlags::RDONLY, MountFlags::RDONLY),
        (rustix::fs::StatVfsMountFlags::NOSUID, MountFlags::NOSUID),
        (rustix::fs::StatVfsMountFlags::NODEV, MountFlags::NODEV),
        (rustix::fs::StatVfsMountFlags::NOEXEC, MountFlags::NOEXEC),
        (rustix::fs::StatVfsMountFlags::NOATIME, MountFlags::NOATIME),
        (rustix::fs::StatVfsMountFlags::NODIRATIME, MountFlags::NODIRATIME),
        (rustix::fs::StatVfsMountFlags::RELATIME, MountFlags::RELATIME),
    ] {
        if have.contains(has) {
            flags |= flag;
        }
    }
    Ok(flags)
}

fn open_source(path: &Path) -> io::Result<(OwnedFd, bool)> {
    let fd = resolve::host(path)?;
    let folder = is_folder(&fd)?;
    Ok((fd, folder))
}

fn is_folder(fd: &impl AsFd) -> io::Result<bool> {
    Ok(FileType::from_raw_mode(fstat(fd)?.st_mode) == FileType::Directory)
}

/// Copies what the image has at `image` to the folder `volume`, if that is empty.
fn fill(image: BorrowedFd<'_>, volume: BorrowedFd<'_>) -> io::Result<()> {
    let volume = PathBuf::from(resolve::name_of(volume));
    if !is_folder(&image)? || fs::read_dir(&volume)?.next().is_some() {
        return Ok(());
    }
    copy::tree(image, &volume).or_else(|e| {
        // Half a copy would be taken for a filled volume the next time.
        copy::clear(&volume)?;
        Err(e)
    })
}
