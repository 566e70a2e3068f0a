//! The kernel: its age, namespaces, seccomp.

use std::path::Path;

use super::{Finding, text_of};
use crate::{
    limits::KERNEL_MIN,
    shim::{self, AppArmor},
};

/// The namespaces that every container has, and what they are called in `/proc/self/ns`.
const NAMESPACES: [&str; 6] = ["cgroup", "ipc", "mnt", "net", "pid", "uts"];

/// From here on tmpfs knows `noswap` (Linux 6.4, `mm/shmem.c`).
const TMPFS_WITHOUT_SWAP: (u32, u32) = (6, 4);

pub(super) fn findings(root: &Path) -> Vec<Finding> {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    vec![
        user(rustix::process::geteuid().is_root()),
        version(&release),
        namespaces(root),
        seccomp(root),
        apparmor(root),
        swap(root, &release),
    ]
}

fn user(root: bool) -> Finding {
    if root {
        Finding::ok("user", "root")
    } else {
        Finding::missing(
            "user",
            "not root",
            "containers need root's rights, and the rest of this list is not reliable without",
            "run it as root",
        )
    }
}

/// The first two numbers of a release.
fn number(release: &str) -> (u32, u32) {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    let mut next = || numbers.next().and_then(Result::ok).unwrap_or(0);
    (next(), next())
}

/// Whether secrets can reach a disk by way of swap. What lies in memory compressed does not, unless
/// it has a device to go on to; what a disk holds in cipher is lost with the power.
fn swap(root: &Path, release: &str) -> Finding {
    let what = "swap";
    let swaps = text_of(root, "proc/swaps");
    let names = swaps.lines().skip(1).filter_map(|line| line.split_whitespace().next());
    let of_block = |name: &str, file: &str| {
        let name = name.rsplit('/').next().unwrap_or_default();
        text_of(root, &format!("sys/block/{name}/{file}"))
    };
    let reaches_disk = |name: &&str| {
        let in_memory = name.starts_with("/dev/zram")
            && matches!(of_block(name, "backing_dev").trim(), "" | "none");
        !in_memory && !of_block(name, "dm/uuid").starts_with("CRYPT-")
    };
    let open: Vec<&str> = names.filter(reaches_disk).collect();
    if open.is_empty() {
        let any = 1 < swaps.lines().count();
        return Finding::ok(what, if any { "in memory or in cipher" } else { "off" });
    }
    let found = format!("on {}", open.join(", "));
    if TMPFS_WITHOUT_SWAP <= number(release) {
        return Finding::ok(what, format!("{found}; files of secrets are kept out of it"));
    }
    Finding::limited(
        what,
        format!(
            "{found}, and Linux before {}.{} cannot keep files out of it",
            TMPFS_WITHOUT_SWAP.0, TMPFS_WITHOUT_SWAP.1
        ),
        "secrets of running tasks may be written there in the clear",
        "swapoff -a, swap on zram or dm-crypt, or a newer kernel",
    )
}

fn version(release: &str) -> Finding {
    if KERNEL_MIN <= number(release) {
        return Finding::ok("kernel", release);
    }
    Finding::limited(
        "kernel",
        format!("{release}, older than {}.{}", KERNEL_MIN.0, KERNEL_MIN.1),
        "nobody has tried edgeagent on it",
        "take a newer kernel",
    )
}

fn namespaces(root: &Path) -> Finding {
    let lacking: Vec<&str> = NAMESPACES
        .into_iter()
        .filter(|name| root.join("proc/self/ns").join(name).symlink_metadata().is_err())
        .collect();
    if lacking.is_empty() {
        return Finding::ok("namespaces", NAMESPACES.join(" "));
    }
    Finding::missing(
        "namespaces",
        format!("the kernel lacks {}", lacking.join(", ")),
        "no container starts",
        "a kernel with CONFIG_NAMESPACES and CONFIG_{PID,NET,UTS,IPC}_NS, CONFIG_CGROUPS",
    )
}

fn seccomp(root: &Path) -> Finding {
    let known = text_of(root, "proc/sys/kernel/seccomp/actions_avail");
    if known.contains("errno") {
        return Finding::ok("seccomp", "filters");
    }
    Finding::missing(
        "seccomp",
        "the kernel takes no seccomp filters",
        "only services with --security-opt seccomp=unconfined would start",
        "a kernel with CONFIG_SECCOMP_FILTER",
    )
}

/// Not there is no gap: Docker on that kernel would do without, too.
fn apparmor(root: &Path) -> Finding {
    let what = "apparmor";
    match shim::apparmor(root) {
        AppArmor::Absent => Finding::ok(what, "not in use by this kernel"),
        AppArmor::Default => Finding::ok(what, "docker-default"),
        AppArmor::NoProfile => Finding::limited(
            what,
            "on, but the profile docker-default is not loaded",
            "containers run without a profile of AppArmor",
            "load docker-default with apparmor_parser when the device boots",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::check::Verdict;

    #[test]
    fn the_oldest_kernel_that_is_supported_is_ok() {
        assert_eq!(version("4.19.0-rpi").verdict, Verdict::Ok);
        assert_eq!(version("6.1").verdict, Verdict::Ok);
        assert_eq!(version("4.18.99").verdict, Verdict::Limited);
        assert_eq!(version("strange").verdict, Verdict::Limited);
    }

    #[test]
    fn swap_on_a_disk_is_told_where_secrets_can_reach_it() {
        let root = std::env::temp_dir().join(format!("edgeagent-swap-{}", std::process::id()));
        let write = |path: &str, text: &str| {
            let path = root.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        let head = "Filename\tType\tSize\tUsed\tPriority\n";
        let told = |lines: &str, release| {
            write("proc/swaps", &format!("{head}{lines}"));
            swap(&root, release)
        };
        write("sys/block/dm-1/dm/uuid", "CRYPT-PLAIN-swap\n");
        write("sys/block/zram1/backing_dev", "/dev/mmcblk0p3\n");
        for (line, held) in [
            ("", true),
            ("/dev/zram0 partition 1 0 100\n", true),
            ("/dev/dm-1 partition 1 0 100\n", true),
            ("/dev/zram0 partition 1 0 100\n/swapfile file 1 0 -2\n", false),
            ("/dev/zram1 partition 1 0 100\n", false),
            ("/dev/mmcblk0p2 partition 1 0 -2\n", false),
        ] {
            assert_eq!(told(line, "6.12.1").verdict, Verdict::Ok, "{line}");
            let old = told(line, "6.3.0-rpi");
            assert_eq!(old.verdict == Verdict::Ok, held, "{line}");
        }
        assert!(told("/swapfile file 1 0 -2\n", "6.1").found.contains("/swapfile"));
        crate::files::remove_tree(&root).unwrap();
    }

    #[test]
    fn a_folder_without_a_kernel_has_neither_namespaces_nor_seccomp() {
        let nowhere = Path::new("/nowhere");
        assert_eq!(namespaces(nowhere).verdict, Verdict::Missing);
        assert_eq!(seccomp(nowhere).verdict, Verdict::Missing);
        assert_eq!(namespaces(Path::new("/")).verdict, Verdict::Ok);
    }
}
