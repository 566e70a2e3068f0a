//! The kernel: its age, namespaces, seccomp.

use std::path::Path;

use super::{Finding, text_of};
use crate::{
    limits::KERNEL_MIN,
    shim::{self, AppArmor},
};

/// The namespaces that every container has, and what they are called in `/proc/self/ns`.
const NAMESPACES: [&str; 6] = ["cgroup", "ipc", "mnt", "net", "pid", "uts"];

pub(super) fn findings(root: &Path) -> Vec<Finding> {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    vec![
        user(rustix::process::geteuid().is_root()),
        version(&release),
        namespaces(root),
        seccomp(root),
        apparmor(root),
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

fn version(release: &str) -> Finding {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    let number = (
        numbers.next().and_then(Result::ok).unwrap_or(0),
        numbers.next().and_then(Result::ok).unwrap_or(0),
    );
    if KERNEL_MIN <= number {
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
    fn a_folder_without_a_kernel_has_neither_namespaces_nor_seccomp() {
        let nowhere = Path::new("/nowhere");
        assert_eq!(namespaces(nowhere).verdict, Verdict::Missing);
        assert_eq!(seccomp(nowhere).verdict, Verdict::Missing);
        assert_eq!(namespaces(Path::new("/")).verdict, Verdict::Ok);
    }
}
