//! Makes one container and becomes its program.
//!
//! Order, each step for a reason: a new process namespace and a copy of the shim in it; its
//! control groups, before their namespace hides them; the other namespaces; the file systems;
//! the new root; then rights are given up, most powerful last needed first. The copy reports
//! what failed through a pipe that exec closes.
//!
//! Knows nothing of tasks, logs or the agent. CVE numbers in this folder name the attack that a
//! step stops (anchors.md §4.3).

mod cgroup;
mod copy;
mod device;
mod mounts;
mod names;
mod process;
mod resolve;
mod seccomp;
mod seccomp_table;
mod user;

use std::{
    fs, io,
    io::Write as _,
    os::fd::{AsFd, OwnedFd},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    mount::{UnmountFlags, mount_move, unmount},
    pipe::{PipeFlags, pipe_with},
    process::{DumpableBehavior, Pid, Signal},
    thread::UnshareFlags,
};

pub(crate) use cgroup::{Cgroup, has_controller};
pub(crate) use process::exit_code;

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
pub(crate) struct Stdio {
    pub(crate) input: OwnedFd,
    pub(crate) output: OwnedFd,
    pub(crate) error: OwnedFd,
}

/// Why the program does not run, and the exit code that Docker gives for it.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) code: u8,
    pub(crate) text: String,
}

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
    fs::write("/proc/self/oom_score_adj", bundle.oom_score_adj.to_string())
        .map_err(|e| format!("set oom_score_adj: {}", errno_text(&e)))?;
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
            let host = net::HostSocket::route()
                .map_err(|e| format!("open netlink: {}", errno_text(&e)))?;
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
    rustix::process::umask(rustix::fs::Mode::empty());
    let root = mounts::build(bundle, cgroup)?;
    mounts::sysctls(bundle, root.as_fd())?;
    process::make_cwd(bundle, root.as_fd());
    mounts::protect(bundle, root.as_fd())?;
    enter(&root).map_err(step("change the root"))?;
    drop(root);
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    process::run(bundle, stdio)
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
