//! Makes one container and becomes its program.
//!
//! Order, each step for a reason: a new process namespace and a copy of the shim in it; its
//! control groups, before their namespace hides them; the other namespaces; the file systems;
//! the new root; then rights are given up, most powerful last needed first. The copy reports
//! what failed through a pipe that exec closes.
//!
//! Knows nothing of tasks, logs or the agent. CVE numbers in this folder name the attack that a
//! step stops (anchors.md §4.3).

mod apparmor;
mod cgroup;
mod copy;
mod device;
mod interpreter;
mod mounts;
mod names;
mod plain;
mod process;
mod propagation;
mod protect;
mod resolve;
mod seccomp;
mod seccomp_table;
mod terminal;
mod user;
mod walk;

use std::{
    fs, io,
    io::Write as _,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{Mode, OFlags},
    mount::{UnmountFlags, mount_move, unmount},
    pipe::{PipeFlags, pipe_with},
    process::{DumpableBehavior, Pid, Signal, ioctl_tiocsctty},
    thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space},
};

use apparmor::Transition;
pub use apparmor::{AppArmor, apparmor};
pub(crate) use cgroup::{Cgroup, has_controller};
pub(crate) use interpreter::fuzz as fuzz_interpreter;
pub(crate) use plain::merge as merge_layers;
pub use plain::{Storage, storage};
use process::Entry;
pub(crate) use process::exit_code;
pub(crate) use seccomp::custom_program as seccomp_program;
pub(crate) use terminal::receive as receive_terminal;
pub(crate) use user::fuzz as fuzz_user;

use crate::{
    limits,
    model::{Bundle, NetworkMode},
    net, sys,
};

/// A container on its way.
#[derive(Debug)]
pub(crate) struct Starting {
    /// Its process 1.
    pub(crate) pid: Pid,
    /// Holds the code and text of a failure; empty and closed once the program runs.
    pub(crate) report: OwnedFd,
}

/// Standard input, output and error of the program.
#[derive(Debug)]
pub(crate) enum Stdio {
    /// In this order.
    Files([OwnedFd; 3]),
    /// A terminal of the container's own; [`receive_terminal`] gives its other end once the
    /// program runs.
    Terminal(UnixStream),
}

/// Why the program does not run, and the exit code that Docker gives for it.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) code: u8,
    pub(crate) text: String,
}

/// Docker's exit code for a program that is not there.
const CODE_NOT_FOUND: u8 = 127;
/// Docker's exit code for a container that could not be started (moby `daemon/start.go`).
pub(crate) const CODE_NOT_STARTED: u8 = 128;

impl From<String> for Failure {
    fn from(text: String) -> Self {
        Self { code: CODE_NOT_STARTED, text }
    }
}

/// Starts the container's first process; returns while it is still preparing.
pub(crate) fn start(bundle: &Bundle, cgroup: &Cgroup, stdio: Stdio) -> io::Result<Starting> {
    sys::unshare(UnshareFlags::NEWPID)?;
    let (report, failed) = pipe_with(PipeFlags::CLOEXEC)?;
    if let Some(pid) = sys::fork()? {
        return Ok(Starting { pid, report });
    }
    drop(report);
    let Err(failure) = become_container(bundle, cgroup, &stdio, &failed);
    let mut text = failure.text.into_bytes();
    text.truncate(limits::START_ERROR_MAX_BYTES);
    text.insert(0, failure.code);
    let mut pipe = fs::File::from(failed);
    let code = if pipe.write_all(&text).is_ok() { i32::from(failure.code) } else { 1 };
    #[expect(clippy::exit, reason = "a copy must never return into the shim's loop")]
    std::process::exit(code)
}

fn become_container(
    bundle: &Bundle,
    cgroup: &Cgroup,
    stdio: &Stdio,
    report: &OwnedFd,
) -> Result<std::convert::Infallible, Failure> {
    let step = |what: &'static str| {
        move |e: rustix::io::Errno| format!("{what}: {}", errno_text(&e.into()))
    };
    rustix::process::setsid().map_err(step("make a session"))?;
    die_with_shim(report).map_err(step("tie to the shim"))?;
    // Nothing in this container may look into us before exec (CVE-2016-9962).
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(step("forbid dumps"))?;
    set_oom_score(bundle)?;
    let confined = Transition::prepare(bundle.apparmor)?;
    cgroup.join()?;
    let mut namespaces =
        UnshareFlags::NEWNS | UnshareFlags::NEWIPC | UnshareFlags::NEWUTS | UnshareFlags::NEWCGROUP;
    if bundle.network != NetworkMode::Host {
        namespaces |= UnshareFlags::NEWNET;
    }
    let bridge = match &bundle.network {
        NetworkMode::Host | NetworkMode::Isolated => None,
        // Opened while this is still the host's namespace: it stays a way into it.
        NetworkMode::Bridge(endpoint) => {
            let host =
                net::Host::open().map_err(|e| format!("open netlink: {}", errno_text(&e)))?;
            Some((host, endpoint))
        }
    };
    sys::unshare(namespaces).map_err(|e| format!("make namespaces: {}", errno_text(&e)))?;
    if bundle.network != NetworkMode::Host {
        sys::loopback_up().map_err(|e| format!("bring up loopback: {}", errno_text(&e)))?;
    }
    if let Some((host, endpoint)) = bridge {
        net::attach(&host, &bundle.container, endpoint)?;
    }
    rustix::system::sethostname(bundle.hostname.as_bytes()).map_err(step("set the host name"))?;
    rustix::process::umask(Mode::empty());
    let root = mounts::build(bundle, cgroup).map_err(mount_failure)?;
    let terminal = match stdio {
        Stdio::Files(_) => None,
        Stdio::Terminal(shim) => Some(
            terminal::make(bundle, root.as_fd(), shim)
                .map_err(|e| format!("make the terminal: {}", errno_text(&e)))?,
        ),
    };
    protect::sysctls(bundle, root.as_fd())?;
    process::make_cwd(bundle, root.as_fd());
    protect::protect(bundle, root.as_fd())?;
    enter(&root).map_err(step("change the root"))?;
    drop(root);
    rustix::process::umask(Mode::from_raw_mode(0o022));
    let terminal = terminal.as_ref().map(AsFd::as_fd);
    match (stdio, terminal) {
        (Stdio::Files([input, output, error]), _) => process::run(
            bundle,
            [input.as_fd(), output.as_fd(), error.as_fd()],
            confined,
            Entry::Itself,
        ),
        (Stdio::Terminal(_), Some(terminal)) => {
            ioctl_tiocsctty(terminal).map_err(step("take the terminal"))?;
            process::run(bundle, [terminal; 3], confined, Entry::Itself)
        }
        (Stdio::Terminal(_), None) => Err(Failure::from("no terminal".to_owned())),
    }
}

/// Runs `bundle.argv` in the container whose process 1 is `init`, with what the bundle gives to a
/// process of it; what it prints goes to `output`, also why it could not be run. It is the leader
/// of a process group.
///
/// Only for the process that started the container: its children are born in the container's
/// process namespace, and die with it. Where [`enters_in_two_steps`], this is the first of two
/// processes: the program is a sibling of it that it leaves behind, another child of the caller.
pub(crate) fn probe(
    bundle: &Bundle,
    cgroup: &Cgroup,
    init: Pid,
    output: OwnedFd,
) -> io::Result<Pid> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    let input = rustix::fs::open("/dev/null", flags, Mode::empty())?;
    if enters_in_two_steps(bundle) {
        let own = rustix::fs::open("/proc/self/ns/pid", OFlags::CLOEXEC, Mode::empty())?;
        move_into_link_name_space(own.as_fd(), Some(LinkNameSpaceType::ProcessID))?;
    }
    if let Some(pid) = sys::fork()? {
        return Ok(pid);
    }
    let Err(failure) = become_probe(bundle, cgroup, init, [input.as_fd(), output.as_fd()]);
    // Nobody may read it.
    let _unheard = io::stderr().write_all(failure.text.as_bytes());
    #[expect(clippy::exit, reason = "a copy must never return into the shim's loop")]
    std::process::exit(failure.code.into())
}

/// Whether somebody in the container may look into a process that enters it, for nothing stops who
/// has `CAP_SYS_PTRACE` (CVE-2016-9962). Then the process that enters stays in the process
/// namespace of the host, where they can not see it, until it has no more rights than they do; its
/// sibling is born in theirs and becomes the program at once.
pub(crate) const fn enters_in_two_steps(bundle: &Bundle) -> bool {
    bundle.capabilities & seccomp_table::SYS_PTRACE != 0
}

/// The namespaces of a container that a probe enters; it is born in that of processes.
const NAMESPACES: [&str; 5] = ["ipc", "uts", "net", "cgroup", "mnt"];

fn become_probe(
    bundle: &Bundle,
    cgroup: &Cgroup,
    init: Pid,
    [input, output]: [BorrowedFd<'_>; 2],
) -> Result<std::convert::Infallible, Failure> {
    let step = |what: &'static str| {
        move |e: rustix::io::Errno| format!("{what}: {}", errno_text(&e.into()))
    };
    sys::place_stdio([input, output, output]).map_err(|e| errno_text(&e))?;
    // Nothing of the shim's comes along (CVE-2016-9962).
    sys::close_everything_from(3);
    rustix::process::setsid().map_err(step("make a session"))?;
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(step("forbid dumps"))?;
    set_oom_score(bundle)?;
    let confined = Transition::prepare(bundle.apparmor)?;
    cgroup.join()?;
    let mut held = Vec::new();
    let own_processes = enters_in_two_steps(bundle).then_some("pid");
    for name in NAMESPACES.into_iter().chain(own_processes) {
        let path = format!("/proc/{}/ns/{name}", init.as_raw_nonzero());
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        held.push(rustix::fs::open(path, flags, Mode::empty()).map_err(step("find a namespace"))?);
    }
    for namespace in held {
        move_into_link_name_space(namespace.as_fd(), None).map_err(step("enter a namespace"))?;
    }
    rustix::process::umask(Mode::from_raw_mode(0o022));
    let (input, output, error) = (io::stdin(), io::stdout(), io::stderr());
    let entry = if enters_in_two_steps(bundle) { Entry::Sibling } else { Entry::Itself };
    process::run(bundle, [input.as_fd(), output.as_fd(), error.as_fd()], confined, entry)
}

/// Docker's exit code for a file that was to be mounted on a folder, or the other way round (moby
/// `daemon/errors.go`), which goes by the kernel's words, too.
fn mount_failure(text: String) -> Failure {
    let code = if text.ends_with("not a directory") { CODE_NOT_FOUND } else { CODE_NOT_STARTED };
    Failure { code, text }
}

fn set_oom_score(bundle: &Bundle) -> Result<(), String> {
    fs::write("/proc/self/oom_score_adj", bundle.oom_score_adj.to_string())
        .map_err(|e| format!("set oom_score_adj: {}", errno_text(&e)))
}

/// The program dies when its shim does. The shim may have died before we asked for that: then
/// nobody reads the report.
fn die_with_shim(report: &OwnedFd) -> rustix::io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    let mut fds = [PollFd::new(report, PollFlags::OUT)];
    poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))?;
    let gone = fds.iter().any(|fd| fd.revents().contains(PollFlags::ERR));
    if gone { Err(rustix::io::Errno::PIPE) } else { Ok(()) }
}

/// Makes `root` the root of this namespace and forgets the host's.
fn enter(root: &OwnedFd) -> rustix::io::Result<()> {
    rustix::process::fchdir(root)?;
    match rustix::process::pivot_root(".", ".") {
        // The old root lies over the new one.
        Ok(()) => unmount(".", UnmountFlags::DETACH)?,
        // The host runs from an initramfs, which can not be pivoted.
        Err(rustix::io::Errno::INVAL) => {
            mount_move(".", "/")?;
            rustix::process::chroot(".")?;
        }
        Err(e) => return Err(e),
    }
    rustix::process::chdir("/")
}

/// An error of the kernel as Docker writes it: lower case, no number.
pub(crate) fn errno_text(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_read_as_dockers() {
        assert_eq!(errno_text(&io::Error::from_raw_os_error(2)), "no such file or directory");
        assert_eq!(errno_text(&io::Error::from_raw_os_error(13)), "permission denied");
    }
}
