//! What a shim gives up once its container runs: rights and system calls that it has no more use for.
//!
//! It lives for as long as its container, reads every byte that this prints, and was root with
//! everything until then. Only a shim that will not probe: a probe is a process that it starts in
//! the container, which must get all that the container may have, and what a process has given up
//! its children do not have either. For the same reason the agent gives up nothing.

use std::io;

use rustix::{
    io::Errno,
    thread::{CapabilitySet, CapabilitySets, set_capabilities},
};

use crate::{
    container,
    model::{SeccompAction, SeccompProfile, SeccompRule},
    sys,
};

/// What is not allowed answers as a kernel that lacks it, so that a C library falls back.
const ENOSYS: u16 = 38;

/// To wait, to read and write what is open or lies in a folder of its own, to end others and
/// itself. No process, program, namespace, mount, socket or device; names of all C libraries and
/// machines that it is built for.
const CALLS: &str = "read readv pread64 preadv write writev pwrite64 pwritev \
    poll ppoll ppoll_time64 accept accept4 recv recvfrom recvmsg send sendto sendmsg shutdown \
    getsockopt getsockname close fcntl fcntl64 dup ioctl \
    open openat mkdir mkdirat rename renameat renameat2 unlink unlinkat rmdir ftruncate \
    ftruncate64 lseek _llseek stat stat64 lstat lstat64 fstat fstat64 newfstatat fstatat64 statx \
    access faccessat readlink readlinkat getdents getdents64 fchmod fsync fdatasync \
    kill tgkill tkill wait4 waitid getpid gettid getuid geteuid \
    brk mmap mmap2 munmap mremap madvise mprotect \
    rt_sigaction rt_sigprocmask rt_sigreturn sigreturn sigaltstack restart_syscall \
    futex futex_time64 sched_yield nanosleep clock_nanosleep clock_nanosleep_time64 \
    clock_gettime clock_gettime64 gettimeofday time getrandom exit exit_group";

/// Gives it up. What the kernel can not take stays; the rest goes.
///
/// # Errors
/// What the kernel says of the first that stays.
pub(super) fn confine() -> io::Result<()> {
    let calls = restrict_calls();
    // What runs in the container may be of any user.
    let rights = CapabilitySet::KILL;
    let sets = CapabilitySets {
        effective: rights,
        permitted: rights,
        inheritable: CapabilitySet::empty(),
    };
    let rights = set_capabilities(None, sets).map_err(io::Error::from);
    calls.and(rights)
}

fn restrict_calls() -> io::Result<()> {
    let program =
        container::seccomp_program(&profile(), std::env::consts::ARCH).map_err(io::Error::other)?;
    match sys::load_seccomp(&program, sys::SECCOMP_SPECULATION) {
        // Before Linux 4.17.
        Err(e) if Errno::from_io_error(&e) == Some(Errno::INVAL) => sys::load_seccomp(&program, 0),
        done => done,
    }
}

fn profile() -> SeccompProfile {
    // Not to lose its rights would need one more.
    let names = format!("{CALLS} capset");
    SeccompProfile {
        default: SeccompAction::Errno(ENOSYS),
        architectures: Vec::new(),
        rules: vec![SeccompRule { names, action: SeccompAction::Allow, conditions: Vec::new() }],
        log: false,
        speculation: true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_call_of_the_list_is_one_and_stands_there_once() {
        let mut names: Vec<&str> = CALLS.split(' ').collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
        let program = |names: &str| {
            let action = SeccompAction::Allow;
            let rules =
                vec![SeccompRule { names: names.to_owned(), action, conditions: Vec::new() }];
            let profile = SeccompProfile { rules, ..profile() };
            ["x86_64", "aarch64", "arm", "riscv64"]
                .map(|machine| container::seccomp_program(&profile, machine).unwrap())
        };
        let none = program("");
        for name in names {
            assert_ne!(program(name), none, "{name} is no call");
        }
    }
}
