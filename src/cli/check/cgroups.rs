//! Control groups: their version, and the controllers that limits of services need.

use std::path::Path;

use super::{Finding, text_of};
use crate::{files::mountinfo, shim};

/// The way of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    None,
    V1,
    V2,
    Hybrid,
}

pub(super) fn findings(root: &Path) -> Vec<Finding> {
    let version = version(&text_of(root, "proc/self/mountinfo"));
    // The same eyes as those of the agent that applies the limits.
    let has = shim::has_controller;
    let mut found = vec![mounted(version), memory(has("memory"))];
    for (controller, costs) in [
        ("pids", "--limit-pids is not enforced, and a fork bomb is not stopped"),
        ("cpu", "--limit-cpu and --reserve-cpu are not enforced"),
    ] {
        found.push(if has(controller) {
            Finding::ok(name(controller), "on")
        } else {
            Finding::limited(name(controller), "off", costs, "a kernel with this controller")
        });
    }
    found
}

fn name(controller: &str) -> &'static str {
    if controller == "pids" { "cgroup pids" } else { "cgroup cpu" }
}

fn version(mountinfo: &str) -> Version {
    let mounts = mountinfo::parse(mountinfo.as_bytes());
    let has = |kind: &str| mounts.iter().any(|mount| mount.kind == kind);
    match (has("cgroup"), has("cgroup2")) {
        (false, false) => Version::None,
        (true, false) => Version::V1,
        (false, true) => Version::V2,
        (true, true) => Version::Hybrid,
    }
}

fn mounted(version: Version) -> Finding {
    let what = "cgroups";
    match version {
        Version::V2 => Finding::ok(what, "version 2"),
        Version::V1 => Finding::ok(what, "version 1"),
        Version::Hybrid => Finding::ok(what, "hybrid: controllers of version 1"),
        Version::None => Finding::missing(
            what,
            "not mounted",
            "no container starts",
            "mount -t cgroup2 cgroup /sys/fs/cgroup",
        ),
    }
}

/// Raspberry Pi OS switches it off unless told otherwise.
fn memory(on: bool) -> Finding {
    let what = "cgroup memory";
    if on {
        return Finding::ok(what, "on");
    }
    Finding::limited(
        what,
        "off",
        "--limit-memory is not enforced",
        "add `cgroup_enable=memory cgroup_memory=1` to the kernel's command line \
         (Raspberry Pi: /boot/firmware/cmdline.txt) and reboot",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::check::Verdict;

    #[test]
    fn a_pi_without_its_memory_controller_is_told_the_remedy() {
        let finding = memory(false);
        assert_eq!(finding.verdict, Verdict::Limited);
        assert!(finding.fix.contains("cgroup_enable=memory"));
    }

    #[test]
    fn the_version_is_read_from_the_mounts() {
        let v1 = "30 23 0:26 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu";
        let v2 = "25 22 0:23 / /sys/fs/cgroup rw - cgroup2 cgroup rw";
        assert_eq!(version(v1), Version::V1);
        assert_eq!(version(v2), Version::V2);
        assert_eq!(version(&format!("{v1}\n{v2}")), Version::Hybrid);
        assert_eq!(mounted(version("")).verdict, Verdict::Missing);
    }
}
