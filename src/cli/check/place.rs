//! Where the agent keeps things: space, kind of file system, and whether a reboot empties what it should.

use std::{io, path::Path};

use rustix::fs::{statfs, statvfs};

use super::Finding;
use crate::{
    config::Config,
    image::{self, Lacks},
    limits::{CHECK_FREE_BYTES, CHECK_FREE_INODES},
    shim::{self, Storage},
};

/// File systems by their magic numbers (Linux `include/uapi/linux/magic.h`).
const KINDS: [(i128, &str); 10] = [
    (0xef53, "ext4"),
    (0xf2f5_2010, "f2fs"),
    (0x9123_683e, "btrfs"),
    (0x5846_5342, "xfs"),
    (0x0102_1994, "tmpfs"),
    (0x8584_58f6, "ramfs"),
    (0x794c_7630, "overlayfs"),
    (0x4d44, "vfat"),
    (0x6969, "nfs"),
    (0x2405_1905, "ubifs"),
];

pub(super) fn findings(config: &Config) -> Vec<Finding> {
    vec![
        data(&config.data_root),
        root_fs(&shim::storage(existing(&config.data_root))),
        exec(&config.exec_root),
        fetch(image::confinement_lacks(existing(&config.data_root))),
    ]
}

/// How far the process that reads images is held; without Landlock the rest holds it as well.
fn fetch(tried: io::Result<Lacks>) -> Finding {
    let what = "fetch child";
    let all = "a user, a view of files and a list of system calls of its own";
    let lacks = match tried {
        Ok(Lacks { usual, landlock }) if usual.is_empty() => {
            return match landlock {
                None => Finding::ok(what, format!("{all}, and Landlock")),
                Some(why) => Finding::ok(what, format!("{all}; {why}")),
            };
        }
        Ok(lacks) => lacks.usual.join("; "),
        Err(error) => format!("not known: {error}"),
    };
    Finding::limited(
        what,
        lacks,
        "what takes over the process that reads images and answers of registries can do more here",
        "a kernel with CONFIG_NAMESPACES, NET_NS, TMPFS and SECCOMP_FILTER, and root's rights",
    )
}

/// A folder, or the folder that it will be made in.
fn existing(path: &Path) -> &Path {
    path.ancestors().find(|path| path.exists()).unwrap_or(path)
}

fn kind(path: &Path) -> &'static str {
    // Has 32 bits, with or without a sign, in a field whose type differs between architectures.
    let magic = statfs(existing(path)).map_or(0, |fs| i128::from(fs.f_type)) & 0xffff_ffff;
    KINDS
        .iter()
        .find(|(number, _)| *number == magic)
        .map_or("another file system", |(_, name)| name)
}

fn data(path: &Path) -> Finding {
    let what = "data-root";
    let Ok(fs) = statvfs(existing(path)) else {
        return Finding::missing(what, "not readable", "nothing can be stored", "set data-root");
    };
    let kind = kind(path);
    let free = fs.f_bavail.saturating_mul(fs.f_frsize);
    let found = format!("{} on {kind}, {} MB free", path.display(), free >> 20);
    // Some file systems count no inodes.
    if free < CHECK_FREE_BYTES || (0 < fs.f_files && fs.f_ffree < CHECK_FREE_INODES) {
        return Finding::limited(
            what,
            found,
            "images will not fit",
            "edgeagent image prune, or a larger disk",
        );
    }
    match kind {
        "tmpfs" | "ramfs" | "overlayfs" => Finding::limited(
            what,
            found,
            "identity and images are gone after a reboot, and the node must join again",
            "put data-root on a disk",
        ),
        _ => Finding::ok(what, found),
    }
}

/// How a container gets its root file system.
fn root_fs(storage: &io::Result<Storage>) -> Finding {
    let what = "overlayfs";
    let found = match storage {
        Ok(Storage::Overlay) => return Finding::ok(what, "works in data-root"),
        Ok(Storage::Copy { reason }) => reason.clone(),
        Err(error) => format!("not known: {error}"),
    };
    Finding::limited(
        what,
        found,
        "each container copies its whole image: slow starts, and much space",
        "a kernel with CONFIG_OVERLAY_FS, and data-root on ext4, f2fs, btrfs or xfs",
    )
}

fn exec(path: &Path) -> Finding {
    let what = "exec-root";
    let kind = kind(path);
    let found = format!("{} on {kind}", path.display());
    match kind {
        "tmpfs" | "ramfs" => Finding::ok(what, found),
        _ => Finding::limited(
            what,
            found,
            "logs and records of running tasks go to a disk, and outlive a reboot",
            "mount a tmpfs at /run, or set exec-root",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::check::Verdict;

    #[test]
    fn a_data_root_in_memory_is_no_place_for_an_identity() {
        let finding = data(Path::new("/dev/shm/edgeagent-is-not-here"));
        assert_eq!(finding.verdict, Verdict::Limited, "{finding:?}");
        assert!(finding.found.contains("tmpfs"), "{finding:?}");
        assert_eq!(exec(Path::new("/dev/shm/x")).verdict, Verdict::Ok);
    }

    #[test]
    fn containers_that_are_copies_are_told_with_the_reason() {
        let reason = String::from("the kernel has no overlayfs: ENODEV");
        let finding = root_fs(&Ok(Storage::Copy { reason }));
        assert_eq!(finding.verdict, Verdict::Limited);
        assert!(finding.found.contains("no overlayfs"), "{finding:?}");
        assert_eq!(root_fs(&Ok(Storage::Overlay)).verdict, Verdict::Ok);
        assert_eq!(root_fs(&Err(io::Error::other("x"))).verdict, Verdict::Limited);
    }
}
