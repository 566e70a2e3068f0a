//! The container's control groups: limits, the device rule, counting and killing its processes.
//!
//! Knows the three ways of a host: v1 (one tree per controller), v2 (one tree), and hybrid (v1
//! controllers, and a v2 tree for tracking). Does not watch usage.

use std::{
    fs, io,
    os::fd::AsFd,
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::process::Pid;

use super::device;
use crate::{
    files::mountinfo::{self, Mount},
    limits,
    model::{Bundle, BundleDevice},
    sys,
};

/// Controllers of v1 trees (Linux `include/linux/cgroup_subsys.h`). A container has a group in
/// every tree, as from runc, also where swarm can ask for nothing: so it sees and counts as itself.
const CONTROLLERS: [&str; 14] = [
    "blkio",
    "cpu",
    "cpuacct",
    "cpuset",
    "devices",
    "freezer",
    "hugetlb",
    "memory",
    "misc",
    "net_cls",
    "net_prio",
    "perf_event",
    "pids",
    "rdma",
];

/// One mounted tree of control groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hierarchy {
    /// Where.
    pub(crate) mount: PathBuf,
    /// v1: its controllers, or `name=…` for a tree without any.
    pub(crate) controllers: Vec<String>,
    /// The unified tree.
    pub(crate) v2: bool,
}

impl Hierarchy {
    /// What a container calls it: the last part of where it is mounted.
    pub(crate) fn name(&self) -> &str {
        self.mount.file_name().and_then(|name| name.to_str()).unwrap_or("cgroup")
    }

    fn has(&self, controller: &str) -> bool {
        self.controllers.iter().any(|c| c == controller)
    }
}

/// The trees of this host.
fn hierarchies() -> io::Result<Vec<Hierarchy>> {
    Ok(trees_of(mountinfo::mounts()?))
}

fn trees_of(mounts: Vec<Mount>) -> Vec<Hierarchy> {
    let mut found: Vec<Hierarchy> = Vec::new();
    for mount in mounts {
        let v2 = mount.kind == "cgroup2";
        if mount.root != Path::new("/") || !(v2 || mount.kind == "cgroup") {
            continue;
        }
        let known = |option: &&str| CONTROLLERS.contains(option) || option.starts_with("name=");
        let controllers: Vec<String> = if v2 {
            Vec::new()
        } else {
            mount.options.split(',').filter(known).map(String::from).collect()
        };
        let new = Hierarchy { mount: mount.place, controllers, v2 };
        let same = |h: &Hierarchy| h.v2 == v2 && h.controllers == new.controllers;
        if (v2 || !new.controllers.is_empty()) && !found.iter().any(same) {
            found.push(new);
        }
    }
    found
}

/// Whether the kernel offers a controller here, in any of the ways.
pub(crate) fn has_controller(name: &str) -> bool {
    let offers = |tree: &Hierarchy| {
        let listed = || fs::read_to_string(tree.mount.join("cgroup.controllers"));
        tree.has(name)
            || tree.v2 && listed().is_ok_and(|list| list.split_whitespace().any(|c| c == name))
    };
    // Not to know is no reason to refuse a limit: setting it says more.
    hierarchies().map_or(true, |trees| trees.iter().any(offers))
}

/// The control groups of one container, one in each tree.
#[derive(Debug)]
pub(crate) struct Cgroup {
    groups: Vec<(Hierarchy, PathBuf)>,
}

impl Cgroup {
    /// Names them without touching them.
    pub(crate) fn of(parent: &str, container: &str) -> io::Result<Self> {
        let parent = parent.trim_matches('/');
        let safe = |part: &str| !matches!(part, "" | "." | "..");
        if !parent.split('/').all(safe) || !safe(container) || container.contains('/') {
            return Err(io::Error::from(io::ErrorKind::InvalidInput));
        }
        let groups = hierarchies()?.into_iter().map(|h| {
            let path = h.mount.join(parent).join(container);
            (h, path)
        });
        Ok(Self { groups: groups.collect() })
    }

    /// The trees that they are in.
    pub(crate) fn trees(&self) -> impl Iterator<Item = &Hierarchy> {
        self.groups.iter().map(|(tree, _)| tree)
    }

    /// Makes them and sets the limits of `bundle`.
    pub(crate) fn create(&self, bundle: &Bundle) -> Result<(), String> {
        let only_v2 = self.groups.iter().all(|(h, _)| h.v2);
        for (hierarchy, path) in &self.groups {
            if only_v2 {
                enable_controllers(&hierarchy.mount, path);
            }
            fs::create_dir_all(path)
                .map_err(|e| failed(&format!("make cgroup {}", path.display()), &e))?;
            if hierarchy.has("cpuset") {
                fill_cpuset(&hierarchy.mount, path)?;
            }
        }
        if let Some(bytes) = bundle.memory_bytes {
            let both = bytes.saturating_mul(2);
            if let Some(group) = self.v1("memory") {
                set(group, "memory.limit_in_bytes", &bytes.to_string())?;
                // Absent when the kernel does not count swap.
                set_if_there(group, "memory.memsw.limit_in_bytes", &both.to_string())?;
            } else {
                let group = self.v2().ok_or_else(|| no_controller("memory"))?;
                set(group, "memory.max", &bytes.to_string())?;
                set_if_there(group, "memory.swap.max", &bytes.to_string())?;
            }
        }
        if let Some(nano) = bundle.nano_cpus {
            let period = limits::CPU_PERIOD_MICROSECONDS;
            let quota = nano.saturating_mul(period) / 1_000_000_000;
            if let Some(group) = self.v1("cpu") {
                set(group, "cpu.cfs_period_us", &period.to_string())?;
                set(group, "cpu.cfs_quota_us", &quota.to_string())?;
            } else {
                let group = self.v2().ok_or_else(|| no_controller("cpu"))?;
                set(group, "cpu.max", &format!("{quota} {period}"))?;
            }
        }
        if let Some(pids) = bundle.pids {
            let group =
                self.v1("pids").or_else(|| self.v2()).ok_or_else(|| no_controller("pids"))?;
            set(group, "pids.max", &pids.to_string())?;
        }
        self.restrict_devices(&bundle.devices)
    }

    fn restrict_devices(&self, devices: &[BundleDevice]) -> Result<(), String> {
        if let Some(group) = self.v1("devices") {
            set(group, "devices.deny", "a")?;
            for rule in device::rules(devices) {
                set(group, "devices.allow", &rule.to_string())?;
            }
            return Ok(());
        }
        let group = self.v2().ok_or_else(|| no_controller("devices"))?;
        let attach = || {
            let dir = fs::File::open(group)?;
            sys::attach_device_program(dir.as_fd(), &device::program(devices))
        };
        attach().map_err(|e| failed("attach the device program", &e))
    }

    /// Moves the calling process into them.
    pub(crate) fn join(&self) -> Result<(), String> {
        for (_, path) in &self.groups {
            set(path, "cgroup.procs", "0")?;
        }
        Ok(())
    }

    /// The kernel killed one of its processes for want of memory.
    pub(crate) fn oom_killed(&self) -> bool {
        let file = match (self.v1("memory"), self.v2()) {
            (Some(group), _) => group.join("memory.oom_control"),
            (None, Some(group)) => group.join("memory.events"),
            (None, None) => return false,
        };
        let text = fs::read_to_string(file).unwrap_or_default();
        text.lines()
            .filter_map(|line| line.strip_prefix("oom_kill "))
            .any(|count| count.trim() != "0")
    }

    /// Kills whatever is left in them and waits, with a bound, until they are empty.
    pub(crate) fn kill(&self) -> io::Result<()> {
        for _ in 0..limits::CGROUP_KILL_ROUNDS {
            let mut left = false;
            for (_, path) in &self.groups {
                left |= kill_all(path)?;
            }
            if !left {
                return Ok(());
            }
            std::thread::sleep(limits::CGROUP_KILL_PAUSE);
        }
        Err(io::Error::from(io::ErrorKind::TimedOut))
    }

    /// Removes them; fine when they are gone.
    pub(crate) fn remove(&self) -> io::Result<()> {
        for (_, path) in &self.groups {
            remove_all(path)?;
        }
        Ok(())
    }

    fn v1(&self, controller: &str) -> Option<&Path> {
        self.groups.iter().find(|(h, _)| h.has(controller)).map(|(_, path)| path.as_path())
    }

    fn v2(&self) -> Option<&Path> {
        self.groups.iter().find(|(h, _)| h.v2).map(|(_, path)| path.as_path())
    }
}

/// A new v1 cpuset is empty and takes no process: every level gets what the one above it has.
fn fill_cpuset(root: &Path, group: &Path) -> Result<(), String> {
    let mut levels: Vec<&Path> =
        group.ancestors().take_while(|dir| dir.starts_with(root) && *dir != root).collect();
    levels.reverse();
    let mut above = root;
    for dir in levels {
        for file in ["cpuset.cpus", "cpuset.mems"] {
            let read = |dir: &Path| {
                let path = dir.join(file);
                fs::read_to_string(&path)
                    .map_err(|e| failed(&format!("read {}", path.display()), &e))
            };
            if read(dir)?.trim().is_empty() {
                set(dir, file, read(above)?.trim())?;
            }
        }
        above = dir;
    }
    Ok(())
}

/// Hands the controllers down from the root of the tree to the parent of `group`. What is not
/// there is noticed when a limit that needs it is set.
fn enable_controllers(root: &Path, group: &Path) {
    let mut above: Vec<&Path> =
        group.ancestors().skip(1).take_while(|dir| dir.starts_with(root)).collect();
    above.reverse();
    for dir in above {
        if let Err(e) = fs::create_dir_all(dir) {
            log::debug!("make cgroup {}: {e}", dir.display());
        }
        for controller in ["cpu", "memory", "pids"] {
            let file = dir.join("cgroup.subtree_control");
            if let Err(e) = fs::write(&file, format!("+{controller}")) {
                log::debug!("enable {controller} in {}: {e}", file.display());
            }
        }
    }
}

/// A group and all below it, each after the one above. A container that may mount can nest them.
fn with_all_below(path: &Path) -> io::Result<Vec<PathBuf>> {
    let mut all = vec![path.to_owned()];
    let mut at = 0;
    while let Some(group) = all.get(at) {
        all.extend(children(group)?);
        at += 1;
    }
    Ok(all)
}

fn kill_all(path: &Path) -> io::Result<bool> {
    let mut left = false;
    for group in with_all_below(path)? {
        left |= kill_in(&group)?;
    }
    Ok(left)
}

fn kill_in(path: &Path) -> io::Result<bool> {
    let text = match fs::read_to_string(path.join("cgroup.procs")) {
        Ok(text) => text,
        Err(e) if gone(&e) => return Ok(false),
        Err(e) => return Err(e),
    };
    if text.is_empty() {
        return Ok(false);
    }
    if fs::write(path.join("cgroup.kill"), "1").is_err() {
        // Before Linux 5.14, and on v1, one by one.
        for pid in text.lines().filter_map(|l| l.trim().parse().ok()).filter_map(Pid::from_raw) {
            match sys::kill(pid, 9) {
                Ok(()) => {}
                Err(e) if gone(&e) => {}
                Err(e) => return Err(e),
            }
        }
    }
    Ok(true)
}

fn remove_all(path: &Path) -> io::Result<()> {
    with_all_below(path)?.iter().rev().try_for_each(|group| remove_one(group))
}

fn remove_one(path: &Path) -> io::Result<()> {
    for _ in 0..limits::CGROUP_KILL_ROUNDS {
        match fs::remove_dir(path) {
            Ok(()) => return Ok(()),
            Err(e) if gone(&e) => return Ok(()),
            // Dead processes stay for a moment.
            Err(e) if e.kind() == io::ErrorKind::ResourceBusy => {
                std::thread::sleep(Duration::from_millis(1));
            }
            Err(e) => return Err(e),
        }
    }
    Err(io::Error::from(io::ErrorKind::ResourceBusy))
}

fn children(path: &Path) -> io::Result<Vec<PathBuf>> {
    let list = match fs::read_dir(path) {
        Ok(list) => list,
        Err(e) if gone(&e) => return Ok(Vec::new()),
        Err(e) => return Err(e),
    };
    let dirs = list.filter_map(Result::ok).filter(|e| e.file_type().is_ok_and(|t| t.is_dir()));
    Ok(dirs.map(|e| e.path()).collect())
}

fn gone(error: &io::Error) -> bool {
    // ENOENT, or ENODEV and ESRCH while the kernel takes it away.
    error.kind() == io::ErrorKind::NotFound || matches!(error.raw_os_error(), Some(19 | 3))
}

fn set(group: &Path, file: &str, value: &str) -> Result<(), String> {
    fs::write(group.join(file), value)
        .map_err(|e| failed(&format!("write {value} to {}", group.join(file).display()), &e))
}

fn set_if_there(group: &Path, file: &str, value: &str) -> Result<(), String> {
    if group.join(file).exists() { set(group, file, value) } else { Ok(()) }
}

fn no_controller(name: &str) -> String {
    format!("this host has no {name} cgroup controller; `edgeagent check` tells what to enable")
}

fn failed(what: &str, error: &io::Error) -> String {
    format!("{what}: {}", super::errno_text(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime shared:3 - cgroup cgroup rw,memory
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
99 31 0:32 /inner /mnt rw,relatime - cgroup cgroup rw,memory
";

    #[test]
    fn the_trees_of_a_hybrid_host_are_found_once_each() {
        let found = trees_of(mountinfo::parse(HYBRID.as_bytes()));
        let mounts: Vec<_> = found.iter().map(|h| h.mount.to_str().unwrap()).collect();
        assert_eq!(
            mounts,
            [
                "/sys/fs/cgroup/cpu,cpuacct",
                "/sys/fs/cgroup/memory",
                "/sys/fs/cgroup/systemd",
                "/sys/fs/cgroup/unified"
            ]
        );
        assert_eq!((found[0].name(), found[2].name()), ("cpu,cpuacct", "systemd"));
        assert_eq!(found[2].controllers, ["name=systemd"]);
        assert!(found[0].has("cpu") && found[0].has("cpuacct") && !found[0].has("memory"));
        assert!(found[3].v2);
    }

    #[test]
    fn a_pure_v2_host_has_one_tree() {
        let list = b"30 24 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n";
        let found = trees_of(mountinfo::parse(list));
        assert_eq!(found.len(), 1);
        assert!(found[0].v2);
    }

    #[test]
    fn a_group_never_lies_outside_its_tree() {
        for (parent, id) in [("..", "a"), ("a/../b", "a"), ("a", ".."), ("a", "b/c"), ("", "a")] {
            assert!(Cgroup::of(parent, id).is_err(), "{parent} {id}");
        }
    }
}
