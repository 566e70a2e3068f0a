//! What a fetch child gives up before it reads the first byte from outside.
//!
//! ```text
//! memory    RLIMIT_AS: what it has and 32 MiB; no core file; first to die when memory ends
//! files     a mount namespace with a root of its own: the store, and read-only the files that the
//!           request names; no device can be opened there, no program run, no set-id bit counts
//! network   none to load an archive: an empty network namespace
//! user      ids of its own, no groups, and of the capabilities those that make files
//! Landlock  where there is one (5.19 and up): writing below the store alone, no listening
//! seccomp   a list of calls ([`calls`]): no process, program, namespace, mount or signal to others
//! ```
//! **Why it has capabilities at all.** A layer's files belong to any user, some are set-id, have
//! capabilities of their own or are devices, and overlayfs wants `trusted.*` attributes and device
//! nodes 0:0. That takes `CHOWN`, `FOWNER`, `FSETID`, `SETFCAP`, `MKNOD`, `SYS_ADMIN` (for
//! `trusted.*`, whatever its name) and `DAC_OVERRIDE` (folders of other users), in the first user
//! namespace: in a mapped one neither devices nor `trusted.*` are there, and what is owned by ids
//! outside of the map can not be made. So not the ids but the view of the files is what holds it:
//! this works from 4.19 on, Landlock comes on top. Its ids are its own, so that it can not touch
//! processes of root; what it makes belongs to root (`fsuid`), for that is whose store it is.
//!
//! **What is left** to who takes it over: the store of images; the files that the request names;
//! the network, for a pull. Registry and unpacking are one process: two would take twice the
//! memory, and a pipe between them every byte.
//!
//! **Where something is not to be had** the rest still is, and each gap is told: in the log by the
//! child, beforehand by `edgeagent check`. Names of registries are looked up with the
//! `resolv.conf` of the start; the next try sees a new one.

use core::fmt;
use std::{
    fs::{self, File},
    io::{self, Read as _, Write as _},
    os::{fd::AsFd, unix::fs::DirBuilderExt},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{Gid, Mode, OFlags, StatVfsMountFlags, Uid, statvfs},
    io::Errno,
    mount::{
        MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind_recursive, mount_change,
        mount_move, mount_remount, unmount,
    },
    pipe::{PipeFlags, pipe_with},
    process::{
        DumpableBehavior, Resource, Rlimit, Signal, WaitOptions, chroot, getppid, getrlimit,
        pivot_root, set_dumpable_behavior, set_parent_process_death_signal, setrlimit, waitpid,
    },
    thread::{
        CapabilitySet, CapabilitySets, UnshareFlags, capabilities, capability_is_in_bounding_set,
        clear_ambient_capability_set, remove_capability_from_bounding_set, set_capabilities,
        set_keep_capabilities, set_no_new_privs, set_thread_groups, set_thread_res_gid,
        set_thread_res_uid,
    },
};

use super::calls;
use crate::sys;

/// Address space beside what a child has at its start, in bytes: four times what it may use, for
/// stacks and read buffers are reserved before they are used.
const ADDRESS_SPACE_BYTES: u64 = 32 << 20;

/// The least `oom_score_adj` of a child: a pull can be begun anew, a task not.
const OOM_SCORE_ADJ: i32 = 500;

/// User and group of the children. Above what systemd gives to containers and below 2^31, where
/// nobody else has any.
const ID: u32 = 2_147_000_001;

/// What making a layer's files takes; see above.
const KEPT: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::MKNOD)
    .union(CapabilitySet::SETFCAP)
    .union(CapabilitySet::SYS_ADMIN);

/// Capabilities are bits of 64; those beyond the kernel's last one answer `EINVAL`.
const CAPABILITIES: u32 = 64;

/// Where the new root is mounted while it is made: there on every system, and not needed after.
const STAGE: &str = "/proc";

/// What a resolver reads.
const NAMES: [&str; 4] = ["/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf", "/etc/gai.conf"];

/// Rights of files in Landlock, by version (Linux `include/uapi/linux/landlock.h`): all of them
/// but to run programs, which nobody has.
const LANDLOCK_FILES: [(u32, u64); 3] = [(2, 0x3fff), (3, 0x7fff), (5, 0xffff)];
const LANDLOCK_EXECUTE: u64 = 1;
const LANDLOCK_READ: u64 = 0b1100;
const LANDLOCK_BIND: u64 = 1;
const LANDLOCK_CONNECT: u64 = 2;
/// Abstract UNIX sockets and signals.
const LANDLOCK_SCOPES: u64 = 3;

/// What a child needs to do its work.
#[derive(Clone, Debug)]
pub(super) struct Need<'a> {
    /// The one folder where it writes; it is there.
    pub(super) store: &'a Path,
    /// Files and folders that it reads; those that are not there are left out.
    pub(super) reads: Vec<&'a Path>,
    /// Whether it speaks to a registry.
    pub(super) network: bool,
}

/// What of the confinement this kernel lacks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lacks {
    /// What every kernel from 4.19 on should have.
    pub usual: Vec<String>,
    /// Landlock, and why.
    pub landlock: Option<String>,
}

/// Tries the confinement of a fetch child in a copy of this process, with `store` as the store,
/// which must be a folder; nothing is changed there.
///
/// # Errors
/// `EDEADLK` when this process has several threads, else what a pipe or `fork` says, or that the
/// copy ended early.
pub fn lacks(store: &Path) -> io::Result<Lacks> {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
    let Some(pid) = sys::fork()? else {
        drop(read);
        let gaps = try_all(&Need { store, reads: Vec::new(), network: false });
        let line = |gap: &Gap| {
            let usual = if gap.part.is_usual() { '+' } else { '-' };
            format!("{usual}{}\n", gap.to_string().replace(char::is_control, " "))
        };
        let text: String = gaps.iter().map(line).collect();
        let said = File::from(write).write_all(text.as_bytes());
        #[expect(clippy::exit, reason = "a copy must not go on with what its parent does")]
        std::process::exit(i32::from(said.is_err()))
    };
    drop(write);
    let mut text = String::new();
    File::from(read).read_to_string(&mut text)?;
    let ended = waitpid(Some(pid), WaitOptions::empty())?;
    if ended.is_none_or(|(_, status)| status.exit_status() != Some(0)) {
        return Err(io::Error::other("the child that tried it ended early"));
    }
    let mut lacks = Lacks::default();
    for line in text.lines() {
        match line.split_at_checked(1) {
            Some(("+", gap)) => lacks.usual.push(gap.to_owned()),
            Some((_, gap)) => lacks.landlock = Some(gap.to_owned()),
            None => {}
        }
    }
    Ok(lacks)
}

/// A part of the confinement that is not to be had here.
#[derive(Debug)]
pub(super) struct Gap {
    /// Which part.
    pub(super) part: Part,
    /// Why.
    pub(super) cause: io::Error,
}

/// A part of the confinement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// Bounds of memory, and who dies first.
    Memory,
    /// A view of the store and little else.
    Files,
    /// No network where none is needed.
    Network,
    /// Ids of its own, few capabilities.
    User,
    /// A second bound for files, from Linux 5.19 on.
    Landlock,
    /// A list of system calls.
    Seccomp,
}

impl Part {
    /// Whether every kernel from 4.19 on has it, when it is built for containers.
    const fn is_usual(self) -> bool {
        !matches!(self, Self::Landlock)
    }
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = match self.part {
            Part::Memory => "no bound of memory",
            Part::Files => "no file system view of its own",
            Part::Network => "not without network",
            Part::User => "no user of its own",
            Part::Landlock => "no Landlock",
            Part::Seccomp => "no list of system calls",
        };
        write!(f, "{part} ({})", self.cause)
    }
}

/// Confines this process, which must have one thread. What is not to be had is logged, and the
/// rest is done all the same.
pub(super) fn confine(need: &Need<'_>) -> Vec<Gap> {
    let gaps = try_all(need);
    for gap in gaps.iter().filter(|gap| gap.part.is_usual()) {
        log::warn!(
            "images are fetched with less confinement than usual: {gap}; see edgeagent check"
        );
    }
    gaps
}

fn try_all(need: &Need<'_>) -> Vec<Gap> {
    let parent = getppid();
    let mut gaps = Vec::new();
    let mut part = |part, done: io::Result<()>| {
        gaps.extend(done.err().map(|cause| Gap { part, cause }));
    };
    part(Part::Memory, memory());
    if !need.network {
        part(Part::Network, sys::unshare(UnshareFlags::NEWNET));
    }
    part(Part::Files, files(need));
    part(Part::User, user());
    // A change of ids forgets this.
    let end = set_parent_process_death_signal(Some(Signal::KILL))
        .and_then(|()| set_dumpable_behavior(DumpableBehavior::NotDumpable))
        .and_then(|()| set_no_new_privs(true));
    if end.is_err() || getppid() != parent {
        // The agent's death must not leave a fetch behind. None of these calls can fail.
        std::process::abort();
    }
    part(Part::Landlock, landlock(need));
    part(Part::Seccomp, seccomp(need.network));
    gaps
}

fn memory() -> io::Result<()> {
    let path = "/proc/self/oom_score_adj";
    let score = fs::read_to_string(path)?.trim().parse().unwrap_or(0);
    if score < OOM_SCORE_ADJ {
        fs::write(path, OOM_SCORE_ADJ.to_string())?;
    }
    let status = fs::read_to_string("/proc/self/status")?;
    let size = status.lines().find_map(|line| line.strip_prefix("VmSize:"));
    let size = size.and_then(|size| size.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    let size = size.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?;
    let bytes = size.saturating_mul(1024).saturating_add(ADDRESS_SPACE_BYTES);
    for (resource, most) in [(Resource::As, bytes), (Resource::Core, 0)] {
        let most = getrlimit(resource).maximum.map_or(most, |own| own.min(most));
        setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) })?;
    }
    Ok(())
}

fn files(need: &Need<'_>) -> io::Result<()> {
    sys::unshare(UnshareFlags::NEWNS)?;
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", private)?;
    mount("tmpfs", STAGE, "tmpfs", bare(MountFlags::empty()), c"mode=0755,size=64k")?;
    let done = fill(need).and_then(|()| enter());
    if done.is_err() {
        // The old root is still the root, and is whole again.
        unmount(STAGE, UnmountFlags::DETACH)?;
    }
    done
}

const fn bare(more: MountFlags) -> MountFlags {
    MountFlags::NODEV.union(MountFlags::NOSUID).union(MountFlags::NOEXEC).union(more)
}

/// Everything keeps the path that it has.
fn fill(need: &Need<'_>) -> io::Result<()> {
    let mut places: Vec<(&Path, bool)> = need.reads.iter().map(|path| (*path, false)).collect();
    places.extend(NAMES.iter().map(|path| (Path::new(path), false)));
    places.push((need.store, true));
    // Folders come before what lies in them, and the store covers whatever has its path.
    places.sort();
    for (path, writes) in places {
        if path.exists() {
            place(path, writes)?;
        } else if writes {
            return Err(io::ErrorKind::NotFound.into());
        }
    }
    Ok(mount_remount(STAGE, bare(MountFlags::RDONLY | MountFlags::BIND), c"")?)
}

fn place(path: &Path, writes: bool) -> io::Result<()> {
    let below = path.strip_prefix("/").map_err(io::Error::other)?;
    let target: PathBuf = Path::new(STAGE).join(below);
    let mut folders = fs::DirBuilder::new();
    folders.recursive(true).mode(0o755);
    if path.is_dir() {
        folders.create(&target)?;
    } else if !target.exists() {
        folders.create(target.parent().unwrap_or(&target))?;
        File::create_new(&target)?;
    }
    mount_bind_recursive(path, &target)?;
    let mut flags = sys::MOUNT_NO_DEVICES | sys::MOUNT_NO_SET_ID | sys::MOUNT_NO_PROGRAMS;
    if !writes {
        flags |= sys::MOUNT_READ_ONLY;
    }
    let mounted = rustix::fs::open(&target, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    match sys::restrict_mount_recursive(mounted.as_fd(), flags) {
        // Before Linux 5.12: the mount itself, and what is below it stays as it is.
        Err(e) if matches!(Errno::from_io_error(&e), Some(Errno::NOSYS | Errno::PERM)) => {
            remount(&target, writes)
        }
        done => done,
    }
}

/// Sets the flags of one mount; those that it has stay.
fn remount(target: &Path, writes: bool) -> io::Result<()> {
    let has = statvfs(target)?.f_flag;
    let mut flags = bare(MountFlags::BIND);
    for (own, flag) in [
        (StatVfsMountFlags::NOATIME, MountFlags::NOATIME),
        (StatVfsMountFlags::NODIRATIME, MountFlags::NODIRATIME),
        (StatVfsMountFlags::RELATIME, MountFlags::RELATIME),
    ] {
        if has.contains(own) {
            flags |= flag;
        }
    }
    if !writes || has.contains(StatVfsMountFlags::RDONLY) {
        flags |= MountFlags::RDONLY;
    }
    Ok(mount_remount(target, flags, c"")?)
}

/// Makes the stage the root.
fn enter() -> io::Result<()> {
    std::env::set_current_dir(STAGE)?;
    match pivot_root(".", ".") {
        // Now the old root lies over the new one.
        Ok(()) => unmount(".", UnmountFlags::DETACH)?,
        // The system runs in its initramfs, which nobody can leave so. Without `CAP_SYS_CHROOT`
        // nobody comes back from here either.
        Err(Errno::INVAL) => {
            mount_move(".", "/")?;
            chroot(".")?;
        }
        Err(e) => return Err(e.into()),
    }
    std::env::set_current_dir("/")
}

fn user() -> io::Result<()> {
    let has = capabilities(None)?.permitted;
    let own = ids(has);
    // Whether or not that could be done.
    set_capabilities(None, exactly(KEPT & has))?;
    own
}

fn ids(has: CapabilitySet) -> io::Result<()> {
    let change = CapabilitySet::SETUID | CapabilitySet::SETGID;
    if !has.contains(change | CapabilitySet::SETPCAP) {
        return Err(Errno::PERM.into());
    }
    clear_ambient_capability_set()?;
    for n in 0..CAPABILITIES {
        let one = CapabilitySet::from_bits_retain(1 << n);
        if !KEPT.contains(one) && capability_is_in_bounding_set(one).unwrap_or(false) {
            remove_capability_from_bounding_set(one)?;
        }
    }
    let (uid, gid) = (Uid::from_raw(ID), Gid::from_raw(ID));
    set_keep_capabilities(true)?;
    set_thread_groups(&[])?;
    set_thread_res_gid(gid, gid, gid)?;
    set_thread_res_uid(uid, uid, uid)?;
    // A change of ids takes the effective ones away.
    set_capabilities(None, exactly((KEPT & has) | change))?;
    sys::set_file_ids(0, 0)
}

const fn exactly(set: CapabilitySet) -> CapabilitySets {
    CapabilitySets { effective: set, permitted: set, inheritable: CapabilitySet::empty() }
}

/// Version 1 can not be used: it knows no way to allow a rename from one folder to another.
fn landlock(need: &Need<'_>) -> io::Result<()> {
    let version = sys::landlock_version()?;
    let files = LANDLOCK_FILES.iter().rev().find(|(first, _)| *first <= version);
    let (_, files) = files.ok_or_else(|| io::Error::from(Errno::OPNOTSUPP))?;
    let network = if need.network { LANDLOCK_BIND } else { LANDLOCK_BIND | LANDLOCK_CONNECT };
    let handled = [*files, network, LANDLOCK_SCOPES];
    let known = match version {
        ..=3 => 1,
        4..=5 => 2,
        6.. => 3,
    };
    let ruleset = sys::landlock_ruleset(handled.get(..known).unwrap_or_default())?;
    let open = |path: &Path| rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
    for (path, rights) in [(Path::new("/"), LANDLOCK_READ), (need.store, files & !LANDLOCK_EXECUTE)]
    {
        sys::landlock_allow(ruleset.as_fd(), open(path)?.as_fd(), rights)?;
    }
    sys::landlock_restrict(ruleset.as_fd())
}

fn seccomp(network: bool) -> io::Result<()> {
    let filter = calls::filter(network).ok_or_else(|| io::Error::from(Errno::OPNOTSUPP))?;
    match sys::load_seccomp(&filter, sys::SECCOMP_SPECULATION) {
        // Before Linux 4.17.
        Err(e) if Errno::from_io_error(&e) == Some(Errno::INVAL) => sys::load_seccomp(&filter, 0),
        done => done,
    }
}
