//! Every `unsafe` block of edgeagent: system calls that rustix lacks or rightly calls unsafe.
//!
//! Each function is safe to call: it checks or establishes what its call needs. No policy here;
//! which call comes when is decided by `container` and `shim`.

use std::{
    ffi::{CStr, CString},
    io,
    mem::MaybeUninit,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
        unix::process::CommandExt,
    },
    process::{Child, Command},
    ptr,
    sync::atomic::{AtomicU64, Ordering},
};

use rustix::{
    process::{Pid, Resource, Rlimit, getrlimit, setrlimit},
    thread::{UnshareFlags, unshare_unsafe},
};

use crate::limits::DESCRIPTOR_MAX;

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn check_long(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Copies this process; `None` in the copy.
///
/// # Errors
/// `EDEADLK` when the process has more than one thread, else what `fork` says.
pub fn fork() -> io::Result<Option<Pid>> {
    if std::fs::read_dir("/proc/self/task")?.count() != 1 {
        return Err(io::Error::from_raw_os_error(libc::EDEADLK));
    }
    // SAFETY: there is one thread, so no lock of another one stays taken in the copy, and libc's
    // own fork keeps its books.
    let pid = check(unsafe { libc::fork() })?;
    Ok(Pid::from_raw(pid))
}

/// Like [`fork`], for the init of a container, which sees no `/proc/self` of ours any more and
/// descends from a single-threaded process.
///
/// # Errors
/// What `fork` says.
pub(crate) fn fork_in_container() -> io::Result<Option<Pid>> {
    // SAFETY: called only in the copy that `fork` above made, which has started no thread.
    let pid = check(unsafe { libc::fork() })?;
    Ok(Pid::from_raw(pid))
}

/// Like [`fork_in_container`], but the copy is a child of this process's parent: it is born in the
/// process namespace that this one has entered, and its parent can reap it.
///
/// # Errors
/// What `clone` says.
pub(crate) fn fork_sibling() -> io::Result<Option<Pid>> {
    let flags = libc::c_long::from(libc::CLONE_PARENT | libc::SIGCHLD);
    // SAFETY: called only in the copy that `fork` above made, which has started no thread; no
    // memory is shared, and without a stack the copy goes on with a copy of this one. The first two
    // arguments are these on every architecture but s390 and cris, the others are unused.
    let pid = check_long(unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) })?;
    let pid = i32::try_from(pid).map_err(io::Error::other)?;
    Ok(Pid::from_raw(pid))
}

/// Leaves namespaces. `FILES` is refused, for it would split the descriptor table.
///
/// # Errors
/// `EINVAL` for `FILES`, else what `unshare` says.
pub fn unshare(flags: UnshareFlags) -> io::Result<()> {
    if flags.contains(UnshareFlags::FILES) {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    // SAFETY: the descriptor table stays shared between threads; see the check above.
    unsafe { unshare_unsafe(flags) }.map_err(io::Error::from)
}

/// Descriptors that this process was given at first, once it has taken more; 0 before.
static DESCRIPTORS_GIVEN: AtomicU64 = AtomicU64::new(0);

/// Lets this process open as many descriptors as the hard limit allows, up to `most`. Programs that
/// [`spawn_with_fds`] starts get what this process was given.
///
/// # Errors
/// What `prlimit` says.
pub fn raise_descriptor_limit(most: u64) -> io::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    let most = limit.maximum.unwrap_or(u64::MAX).min(most);
    let Some(given) = limit.current.filter(|given| *given < most) else { return Ok(()) };
    setrlimit(Resource::Nofile, Rlimit { current: Some(most), maximum: limit.maximum })?;
    // The first one counts.
    let _kept = DESCRIPTORS_GIVEN.compare_exchange(0, given, Ordering::Relaxed, Ordering::Relaxed);
    Ok(())
}

/// Starts `command` as leader of its own session, with `fds` as descriptors 3, 4, … and the limit of
/// descriptors from before [`raise_descriptor_limit`].
///
/// # Errors
/// When the process can not be made or its program not be run.
pub fn spawn_with_fds(command: &mut Command, fds: &[BorrowedFd<'_>]) -> io::Result<Child> {
    // Copies above all targets, so that placing one can not overwrite another.
    let mut high = Vec::with_capacity(fds.len());
    let above = RawFd::try_from(fds.len()).map_err(io::Error::other)?.saturating_add(64);
    for fd in fds {
        high.push(rustix::io::fcntl_dupfd_cloexec(fd, above)?);
    }
    let raw: Vec<RawFd> = high.iter().map(AsRawFd::as_raw_fd).collect();
    let descriptors = Some(DESCRIPTORS_GIVEN.load(Ordering::Relaxed)).filter(|given| *given != 0);
    let place = move || {
        if let Some(given) = descriptors {
            let maximum = getrlimit(Resource::Nofile).maximum;
            setrlimit(Resource::Nofile, Rlimit { current: Some(given), maximum })?;
        }
        // SAFETY: no pointers.
        check(unsafe { libc::setsid() })?;
        for (target, fd) in (3..).zip(&raw) {
            // SAFETY: both are plain numbers; `dup2` leaves the new one open across exec.
            check(unsafe { libc::dup2(*fd, target) })?;
        }
        Ok(())
    };
    // SAFETY: the closure only makes async-signal-safe calls and allocates nothing.
    let command = unsafe { command.pre_exec(place) };
    let child = command.spawn();
    drop(high);
    child
}

/// Takes over a descriptor that the parent left for us.
///
/// # Errors
/// `EBADF` when there is none with this number.
pub fn inherited_fd(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: a plain number; the call fails when it is not open.
    check(unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) })?;
    // SAFETY: it is open, and the protocol between parent and child makes us its only owner.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Makes `fds` descriptors 0, 1 and 2, open across exec.
///
/// # Errors
/// What `dup2` says.
pub fn place_stdio(fds: [BorrowedFd<'_>; 3]) -> io::Result<()> {
    for (target, fd) in (0..).zip(fds) {
        // SAFETY: both are plain numbers; the standard streams of a container's process are
        // used by nothing of ours.
        check(unsafe { libc::dup2(fd.as_raw_fd(), target) })?;
    }
    Ok(())
}

/// Replaces this process; returns only when that failed.
#[must_use]
pub fn exec(program: &CStr, argv: &[CString], env: &[CString]) -> io::Error {
    let pointers = |list: &[CString]| -> Vec<*const libc::c_char> {
        list.iter().map(|s| s.as_ptr()).chain([ptr::null()]).collect()
    };
    let (argv, env) = (pointers(argv), pointers(env));
    // SAFETY: all strings end with NUL, both arrays with a null pointer, and all outlive the call.
    unsafe { libc::execve(program.as_ptr(), argv.as_ptr(), env.as_ptr()) };
    io::Error::last_os_error()
}

/// Marks all descriptors from `first` on to be closed by exec.
pub fn close_on_exec_from(first: RawFd) {
    const CLOSE_RANGE_CLOEXEC: libc::c_long = 4;
    let first_unsigned = libc::c_long::from(first);
    let done = {
        // SAFETY: plain numbers.
        unsafe {
            libc::syscall(
                libc::SYS_close_range,
                first_unsigned,
                libc::c_long::from(i32::MAX),
                CLOSE_RANGE_CLOEXEC,
            )
        }
    };
    if done < 0 {
        for fd in first..DESCRIPTOR_MAX {
            // SAFETY: a plain number; a closed descriptor is an error that does not matter.
            unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
        }
    }
}

/// Closes all descriptors from `first` on. Only for a copy of the shim that becomes a container's
/// process and never returns to code that owns one.
pub(crate) fn close_everything_from(first: RawFd) {
    const NO_FLAGS: libc::c_long = 0;
    let (begin, last) = (libc::c_long::from(first), libc::c_long::from(i32::MAX));
    // SAFETY: plain numbers; nothing in this process uses one of these descriptors after this.
    let done = unsafe { libc::syscall(libc::SYS_close_range, begin, last, NO_FLAGS) };
    if done == 0 {
        return;
    }
    for fd in first..DESCRIPTOR_MAX {
        // SAFETY: a plain number; nothing in this process uses a descriptor after this.
        unsafe { libc::close(fd) };
    }
}

fn full_set() -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: the pointer is valid for writes.
    unsafe { libc::sigfillset(set.as_mut_ptr()) };
    // SAFETY: sigfillset wrote it.
    unsafe { set.assume_init() }
}

/// Blocks every signal that can be blocked.
///
/// # Errors
/// Never in practice.
pub fn block_signals() -> io::Result<()> {
    let set = full_set();
    // SAFETY: `set` is initialised; no old set is asked for.
    check(unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const set, ptr::null_mut()) })
        .map(drop)
}

/// Blocks every signal and gives a descriptor that is readable while one is pending.
///
/// # Errors
/// When there are no descriptors left.
pub fn signal_fd() -> io::Result<OwnedFd> {
    block_signals()?;
    let set = full_set();
    // SAFETY: `set` is initialised; -1 asks for a new descriptor.
    let fd = check(unsafe {
        libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK)
    })?;
    // SAFETY: just made, owned by nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Holds back SIGTERM and SIGINT, and gives a descriptor that is readable when one has come.
/// To be called before there are threads; programs that are started later get neither held back.
///
/// # Errors
/// When there are no descriptors left.
pub fn termination_fd() -> io::Result<OwnedFd> {
    let mut set = MaybeUninit::uninit();
    // SAFETY: the pointer is valid for writes.
    unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    for signal in [libc::SIGTERM, libc::SIGINT] {
        // SAFETY: sigemptyset wrote the set.
        check(unsafe { libc::sigaddset(set.as_mut_ptr(), signal) })?;
    }
    // SAFETY: sigemptyset wrote the set; no old one is asked for.
    check(unsafe { libc::sigprocmask(libc::SIG_BLOCK, set.as_ptr(), ptr::null_mut()) })?;
    // SAFETY: the set is initialised; -1 asks for a new descriptor.
    let fd =
        check(unsafe { libc::signalfd(-1, set.as_ptr(), libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) })?;
    // SAFETY: just made, owned by nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Waits for a blocked signal and gives its number.
#[must_use]
pub fn wait_for_signal() -> i32 {
    let set = full_set();
    // SAFETY: `set` is initialised; no information is asked for.
    unsafe { libc::sigwaitinfo(&raw const set, ptr::null_mut()) }
}

/// Default action for all signals, and none blocked: what a new program expects.
pub fn reset_signals() {
    for signal in 1..=64 {
        // SAFETY: SIG_DFL is no function of ours; numbers that can not be set are refused.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    let mut set = MaybeUninit::uninit();
    // SAFETY: the pointer is valid for writes.
    unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    // SAFETY: sigemptyset wrote it; no old set is asked for.
    unsafe { libc::sigprocmask(libc::SIG_SETMASK, set.as_ptr(), ptr::null_mut()) };
}

/// Gives back the memory of code that has run and may never run again, such as all that starts a
/// container; what does run is mapped anew from the page cache.
///
/// # Errors
/// When the list of mappings can not be read or `madvise` fails.
pub fn forget_code() -> io::Result<()> {
    let maps = std::fs::read_to_string("/proc/self/maps")?;
    for (begin, length) in code_mappings(&maps) {
        let address = ptr::with_exposed_provenance_mut(begin);
        // SAFETY: a private mapping of a file that can be run and was never writable, so its
        // pages read from the file again are the same; the kernel's own vdso is not among them.
        check(unsafe { libc::madvise(address, length, libc::MADV_DONTNEED) })?;
    }
    Ok(())
}

/// Begin and length of the mappings of files that can be run and not be written.
fn code_mappings(maps: &str) -> Vec<(usize, usize)> {
    let mapping = |line: &str| {
        let mut fields = line.split_ascii_whitespace();
        let (begin, end) = fields.next()?.split_once('-')?;
        let number = |text: &str| usize::from_str_radix(text, 16).ok();
        let (begin, end) = (number(begin)?, number(end)?);
        let code = fields.next()? == "r-xp" && fields.nth(2)? != "0";
        if code { Some((begin, end.checked_sub(begin)?)) } else { None }
    };
    maps.lines().filter_map(mapping).collect()
}

/// Sends any signal, real-time ones included, to one process.
///
/// # Errors
/// `ESRCH` when it is gone, `EINVAL` for no signal.
pub fn kill(pid: Pid, signal: i32) -> io::Result<()> {
    // SAFETY: plain numbers.
    check(unsafe { libc::kill(pid.as_raw_nonzero().get(), signal) }).map(drop)
}

/// Asks the kernel to begin to write a file to its storage. It neither waits nor promises anything, so
/// that a storage which can not do it is none the worse.
pub(crate) fn start_write_back(file: impl AsFd) {
    let file = file.as_fd().as_raw_fd();
    // SAFETY: takes numbers only; the descriptor is open as long as it is borrowed.
    unsafe { libc::sync_file_range(file, 0, 0, libc::SYNC_FILE_RANGE_WRITE) };
}

/// Sets a resource limit by its number.
///
/// # Errors
/// What `prlimit` says.
pub fn set_rlimit(resource: u32, soft: u64, hard: u64) -> io::Result<()> {
    const THIS_PROCESS: libc::c_long = 0;
    let limit = [soft, hard];
    // SAFETY: `limit` has the layout of `struct rlimit64`, two 64-bit numbers; no old value is
    // asked for.
    check_long(unsafe {
        libc::syscall(
            libc::SYS_prlimit64,
            THIS_PROCESS,
            libc::c_ulong::from(resource),
            limit.as_ptr(),
            ptr::null_mut::<u64>(),
        )
    })
    .map(drop)
}

/// Brings the loopback interface of this network namespace up.
///
/// # Errors
/// What the socket or its ioctl says.
pub fn loopback_up() -> io::Result<()> {
    // SIOCSIFFLAGS, whose type differs between C libraries.
    const SET_FLAGS: libc::Ioctl = 0x8914;
    // SAFETY: plain numbers.
    let fd =
        check(unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) })?;
    // SAFETY: just made, owned by nobody else.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: an all-zero ifreq is valid.
    let mut request: libc::ifreq = unsafe { MaybeUninit::zeroed().assume_init() };
    for (to, from) in request.ifr_name.iter_mut().zip(c"lo".to_bytes()) {
        *to = libc::c_char::try_from(*from).unwrap_or_default();
    }
    let flags = libc::IFF_UP | libc::IFF_RUNNING;
    request.ifr_ifru.ifru_flags = libc::c_short::try_from(flags).unwrap_or_default();
    // SAFETY: the request is valid and names an interface; the kernel only reads it.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), SET_FLAGS, &raw const request) }).map(drop)
}

/// Whose files this thread makes and may use; its other ids stay. What it may do by its
/// capabilities stays, too.
///
/// # Errors
/// `EPERM` when the kernel does not change them: each must be one of the thread's ids, or it has
/// `CAP_SETUID` and `CAP_SETGID`.
pub fn set_file_ids(uid: u32, gid: u32) -> io::Result<()> {
    // What is no id changes nothing and tells what is set.
    const ASK: u32 = u32::MAX;
    // SAFETY: plain numbers.
    unsafe { libc::setfsgid(gid) };
    // SAFETY: as above.
    unsafe { libc::setfsuid(uid) };
    // SAFETY: as above.
    let gid_now = unsafe { libc::setfsgid(ASK) };
    // SAFETY: as above.
    let uid_now = unsafe { libc::setfsuid(ASK) };
    if (u32::try_from(uid_now), u32::try_from(gid_now)) == (Ok(uid), Ok(gid)) {
        Ok(())
    } else {
        Err(io::Error::from_raw_os_error(libc::EPERM))
    }
}

/// The same number on every architecture (Linux `scripts/syscall.tbl`).
const LANDLOCK_CREATE_RULESET: libc::c_long = 444;
const LANDLOCK_ADD_RULE: libc::c_long = 445;
const LANDLOCK_RESTRICT_SELF: libc::c_long = 446;

/// Which Landlock this kernel has.
///
/// # Errors
/// `ENOSYS` before Linux 5.13 or without it, `EOPNOTSUPP` when it is switched off.
pub fn landlock_version() -> io::Result<u32> {
    const VERSION: libc::c_ulong = 1;
    const NOTHING: libc::c_ulong = 0;
    // SAFETY: without attributes nothing is read.
    let version = check_long(unsafe {
        libc::syscall(LANDLOCK_CREATE_RULESET, ptr::null::<u64>(), NOTHING, VERSION)
    })?;
    u32::try_from(version).map_err(io::Error::other)
}

/// A Landlock ruleset; `handled` are the rights that it takes: of files, of TCP (version 4), and
/// what is scoped (version 6).
///
/// # Errors
/// `E2BIG` or `EINVAL` for more than the kernel's version knows.
pub fn landlock_ruleset(handled: &[u64]) -> io::Result<OwnedFd> {
    const NO_FLAGS: libc::c_ulong = 0;
    // SAFETY: `handled` has the layout of the first fields of `struct landlock_ruleset_attr`, its
    // size is passed, and it outlives the call.
    let fd = check_long(unsafe {
        let size = libc::c_ulong::try_from(size_of_val(handled)).unwrap_or_default();
        libc::syscall(LANDLOCK_CREATE_RULESET, handled.as_ptr(), size, NO_FLAGS)
    })?;
    let fd = RawFd::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: just made, owned by nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Gives rights of files back for what lies below a folder.
///
/// # Errors
/// `EINVAL` for rights that the ruleset does not take.
pub fn landlock_allow(
    ruleset: BorrowedFd<'_>,
    folder: BorrowedFd<'_>,
    rights: u64,
) -> io::Result<()> {
    const PATH_BENEATH: libc::c_ulong = 1;
    const NO_FLAGS: libc::c_ulong = 0;
    #[repr(C, packed)]
    struct PathBeneath {
        rights: u64,
        folder: i32,
    }
    let rule = PathBeneath { rights, folder: folder.as_raw_fd() };
    let ruleset = libc::c_long::from(ruleset.as_raw_fd());
    // SAFETY: `rule` has the layout of `struct landlock_path_beneath_attr` and outlives the call.
    check_long(unsafe {
        libc::syscall(LANDLOCK_ADD_RULE, ruleset, PATH_BENEATH, &raw const rule, NO_FLAGS)
    })
    .map(drop)
}

/// From now on this thread keeps to the ruleset.
///
/// # Errors
/// `EPERM` without `no_new_privs` and `CAP_SYS_ADMIN`.
pub fn landlock_restrict(ruleset: BorrowedFd<'_>) -> io::Result<()> {
    const NO_FLAGS: libc::c_ulong = 0;
    let ruleset = libc::c_long::from(ruleset.as_raw_fd());
    // SAFETY: takes numbers only.
    check_long(unsafe { libc::syscall(LANDLOCK_RESTRICT_SELF, ruleset, NO_FLAGS) }).map(drop)
}

/// One classic BPF instruction, as the kernel lays it out.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// Operation.
    pub code: u16,
    /// Instructions to skip when true.
    pub jump_true: u8,
    /// Instructions to skip when false.
    pub jump_false: u8,
    /// Operand.
    pub operand: u32,
}

#[repr(C)]
struct Program {
    length: u16,
    instructions: *const Instruction,
}

/// The largest segment that a TCP connection sends, in bytes: what both ends agreed on.
///
/// # Errors
/// What `getsockopt` says.
pub fn tcp_segment(stream: impl AsFd) -> io::Result<u32> {
    let mut segment: u32 = 0;
    let mut length: libc::socklen_t = 4;
    // SAFETY: the kernel writes at most `length` bytes, the size of `segment`, and both outlive
    // the call.
    check(unsafe {
        libc::getsockopt(
            stream.as_fd().as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_MAXSEG,
            (&raw mut segment).cast(),
            &raw mut length,
        )
    })?;
    Ok(segment)
}

/// Flag of [`load_seccomp`]: the kernel logs what is not allowed.
pub const SECCOMP_LOG: u32 = 2;

/// Flag of [`load_seccomp`]: the processor's speculation stays as it is.
pub const SECCOMP_SPECULATION: u32 = 4;

/// Gives this process a session keyring of its own, so that it sees nobody else's keys
/// (keyctl(2), `KEYCTL_JOIN_SESSION_KEYRING`). Kernels without keys have none to see.
///
/// # Errors
/// What the kernel says, such as `EDQUOT` when this user has too many.
pub(crate) fn join_new_session_keyring() -> io::Result<()> {
    const JOIN: libc::c_long = 1;
    const ANONYMOUS: libc::c_long = 0;
    // SAFETY: keyctl reads no memory of ours: the name is a null pointer.
    let joined = unsafe { libc::syscall(libc::SYS_keyctl, JOIN, ANONYMOUS) };
    match joined {
        -1 => match io::Error::last_os_error() {
            e if e.raw_os_error() == Some(libc::ENOSYS) => Ok(()),
            e => Err(e),
        },
        _ => Ok(()),
    }
}

/// Installs a seccomp filter on this thread.
///
/// # Errors
/// `EINVAL` when the kernel refuses the program or a flag, or it is too long, `EACCES` without
/// `no_new_privs` and `CAP_SYS_ADMIN`.
pub fn load_seccomp(filter: &[Instruction], flags: u32) -> io::Result<()> {
    const SET_MODE_FILTER: libc::c_ulong = 1;
    let length =
        u16::try_from(filter.len()).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    let program = Program { length, instructions: filter.as_ptr() };
    // SAFETY: `program` has the layout of `struct sock_fprog` and points to `length` instructions
    // that outlive the call.
    let done = unsafe {
        let flags = libc::c_ulong::from(flags);
        libc::syscall(libc::SYS_seccomp, SET_MODE_FILTER, flags, &raw const program)
    };
    check(i32::try_from(done).unwrap_or(-1)).map(drop)
}

/// Makes a mount and all below it read-only.
///
/// # Errors
/// `ENOSYS` before Linux 5.12.
pub fn mount_read_only_recursive(mount: BorrowedFd<'_>) -> io::Result<()> {
    restrict_mount_recursive(mount, MOUNT_READ_ONLY)
}

/// Flag of [`restrict_mount_recursive`]: nothing is written.
pub const MOUNT_READ_ONLY: u64 = 1;

/// Flag of [`restrict_mount_recursive`]: set-id bits mean nothing.
pub const MOUNT_NO_SET_ID: u64 = 2;

/// Flag of [`restrict_mount_recursive`]: devices can not be opened.
pub const MOUNT_NO_DEVICES: u64 = 4;

/// Flag of [`restrict_mount_recursive`]: programs can not be run.
pub const MOUNT_NO_PROGRAMS: u64 = 8;

/// Adds flags to a mount and all below it; those that are set stay.
///
/// # Errors
/// `ENOSYS` before Linux 5.12.
pub fn restrict_mount_recursive(mount: BorrowedFd<'_>, flags: u64) -> io::Result<()> {
    // `struct mount_attr`: set, clear, propagation, user namespace.
    let attributes: [u64; 4] = [flags, 0, 0, 0];
    let flags = libc::AT_EMPTY_PATH | libc::AT_RECURSIVE;
    // SAFETY: the path is an empty string, the structure is valid and its size is passed.
    check_long(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::c_long::from(mount.as_raw_fd()),
            c"".as_ptr(),
            libc::c_long::from(flags),
            attributes.as_ptr(),
            size_of_val(&attributes),
        )
    })
    .map(drop)
}

/// Loads a program of type `BPF_PROG_TYPE_CGROUP_DEVICE` and attaches it to a cgroup (v2).
///
/// # Errors
/// What `bpf` says; `ENOSYS` or `EINVAL` when the kernel was built without it.
pub fn attach_device_program(cgroup: BorrowedFd<'_>, program: &[u64]) -> io::Result<()> {
    const PROG_LOAD: libc::c_long = 5;
    const PROG_ATTACH: libc::c_long = 8;
    const TYPE_CGROUP_DEVICE: u32 = 15;
    const ATTACH_CGROUP_DEVICE: u32 = 6;

    #[repr(C)]
    struct Load {
        kind: u32,
        count: u32,
        instructions: u64,
        license: u64,
        log_level: u32,
        log_size: u32,
        log: u64,
        kernel: u32,
        flags: u32,
    }
    #[repr(C)]
    struct Attach {
        target: u32,
        program: u32,
        kind: u32,
        flags: u32,
    }

    let count = u32::try_from(program.len()).map_err(io::Error::other)?;
    let load = Load {
        kind: TYPE_CGROUP_DEVICE,
        count,
        instructions: program.as_ptr().addr() as u64,
        license: c"Apache-2.0".as_ptr().addr() as u64,
        log_level: 0,
        log_size: 0,
        log: 0,
        kernel: 0,
        flags: 0,
    };
    // SAFETY: `load` has the layout of the first fields of `union bpf_attr`, its size is passed,
    // and its pointers outlive the call.
    let fd = check_long(unsafe {
        libc::syscall(libc::SYS_bpf, PROG_LOAD, &raw const load, size_of::<Load>())
    })?;
    let fd = RawFd::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: just made, owned by nobody else.
    let loaded = unsafe { OwnedFd::from_raw_fd(fd) };
    let attach = Attach {
        target: u32::try_from(cgroup.as_raw_fd()).map_err(io::Error::other)?,
        program: u32::try_from(loaded.as_raw_fd()).map_err(io::Error::other)?,
        kind: ATTACH_CGROUP_DEVICE,
        flags: 0,
    };
    // SAFETY: as above; both descriptors are open.
    check_long(unsafe {
        libc::syscall(libc::SYS_bpf, PROG_ATTACH, &raw const attach, size_of::<Attach>())
    })
    .map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unsharing_the_descriptor_table_is_refused() {
        let error = unshare(UnshareFlags::FILES).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
    }

    #[test]
    fn what_is_started_keeps_the_limit_that_this_process_was_given() {
        let given = getrlimit(Resource::Nofile);
        let most = given.maximum.unwrap_or(4096).min(4096);
        let low = Rlimit { current: Some(most - 1), maximum: given.maximum };
        setrlimit(Resource::Nofile, low).unwrap();
        raise_descriptor_limit(most).unwrap();
        raise_descriptor_limit(most).unwrap();
        assert_eq!(getrlimit(Resource::Nofile).current, Some(most));
        let mut command = Command::new("/bin/sh");
        let command = command.args(["-c", "ulimit -Sn"]).stdout(std::process::Stdio::piped());
        let output = spawn_with_fds(command, &[]).unwrap().wait_with_output().unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("{}\n", most - 1));
    }

    #[test]
    fn a_descriptor_that_is_not_open_can_not_be_taken_over() {
        let error = inherited_fd(60_000).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EBADF));
    }

    #[test]
    fn only_code_of_files_is_forgotten() {
        let maps = "\
1000-3000 r--p 00000000 fe:00 7                    /bin/x
3000-8000 r-xp 00002000 fe:00 7                    /bin/x
8000-9000 rw-p 00007000 fe:00 7                    /bin/x
9000-a000 rwxp 00007000 fe:00 7                    /bin/x
a000-b000 r-xp 00000000 00:00 0                    [vdso]
";
        assert_eq!(code_mappings(maps), [(0x3000, 0x5000)]);
        forget_code().unwrap();
    }

    #[test]
    fn a_process_with_threads_is_not_copied() {
        // The test harness runs each test in a thread of its own.
        assert_eq!(fork().unwrap_err().raw_os_error(), Some(libc::EDEADLK));
    }
}
