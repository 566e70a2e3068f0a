//! The last steps inside the new root: user, limits, rights, and the program itself.

use std::{
    convert::Infallible,
    ffi::CString,
    fs, io,
    io::Read as _,
    os::{
        fd::{AsFd as _, BorrowedFd, OwnedFd},
        unix::fs::{FileExt as _, OpenOptionsExt},
    },
    path::Path,
};

use rustix::{
    fs::{Access, FileType, Gid, Mode, OFlags, Uid, access, makedev},
    pipe::PipeFlags,
    process::{Pid, Signal, WaitOptions, WaitStatus},
    termios::{isatty, tcsetpgrp},
    thread::{
        CapabilitySet, CapabilitySets, remove_capability_from_bounding_set, set_capabilities,
        set_keep_capabilities, set_no_new_privs, set_thread_groups, set_thread_res_gid,
        set_thread_res_uid,
    },
};

use super::{
    CODE_NOT_FOUND, Failure,
    apparmor::Transition,
    errno_text, interpreter,
    resolve::{self, Missing},
    seccomp,
    user::{self, User},
};
use crate::{
    limits,
    model::{Bundle, Seccomp},
    sys,
};

const CODE_NOT_EXECUTABLE: u8 = 126;
/// Where Docker looks when the environment has no `PATH`.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

fn failed(what: &str, error: &io::Error) -> Failure {
    Failure::from(format!("{what}: {}", errno_text(error)))
}

/// Makes the working folder, as Docker does: of root, 0755. A read-only place shows its error
/// when the folder is entered.
pub(crate) fn make_cwd(bundle: &Bundle, root: BorrowedFd<'_>) {
    let old = rustix::process::umask(Mode::from_raw_mode(0o022));
    match resolve::make(root, &bundle.cwd, Missing::Folder) {
        Ok(_) | Err(_) => rustix::process::umask(old),
    };
}

/// Gives up what the container must not have, and becomes its program.
pub(super) fn run(
    bundle: &Bundle,
    stdio: [BorrowedFd<'_>; 3],
    confined: Transition,
    entry: Entry,
) -> Result<Infallible, Failure> {
    if bundle.init {
        // Without its name an init works as well.
        let _unnamed = show_as_init(&bundle.argv);
    }
    sys::join_new_session_keyring().map_err(|e| failed("make a session keyring", &e))?;
    let user = user::resolve(
        &bundle.user,
        &bundle.groups,
        &account_file("/etc/passwd"),
        &account_file("/etc/group"),
    )?;
    admit(bundle, &user)?;
    let mut env = bundle.env.clone();
    if !env.iter().any(|v| v.starts_with("HOME=") && v != "HOME=") {
        env.retain(|v| v != "HOME=");
        env.push(format!("HOME={}", user.home));
    }
    for limit in &bundle.rlimits {
        sys::set_rlimit(limit.resource, limit.soft, limit.hard)
            .map_err(|e| failed(&format!("set resource limit {}", limit.resource), &e))?;
    }
    place_stdio(stdio, &user)?;
    // As root a folder that the user may not enter, as the user one that root may not (NFS).
    let entered = enter_cwd(&bundle.cwd);
    give_up_rights(bundle, &user)?;
    if entered.is_err() {
        enter_cwd(&bundle.cwd)?;
    }

    let program = look_up(bundle, &env)?;
    let c = |text: &str| CString::new(text).map_err(|_| Failure::from("NUL in argv".to_owned()));
    let path = c(&program)?;
    let argv = bundle.argv.iter().map(|a| c(a)).collect::<Result<Vec<_>, _>>()?;
    let env = env.iter().map(|v| c(v)).collect::<Result<Vec<_>, _>>()?;
    sys::close_on_exec_from(3);
    confined.on_exec().map_err(|e| failed("apply the AppArmor profile", &e))?;
    close(bundle, &user)?;
    if bundle.init {
        become_init(bundle.tty)?;
    }
    if entry == Entry::Sibling {
        leave_sibling()?;
    }
    sys::reset_signals();
    let error = sys::exec(&path, &argv, &env);
    Err(not_run(&program, &error))
}

/// Holds the owner's `admission.users` against whom the image's account files make of a user: they
/// may give a number, or a group, that nobody asked for.
fn admit(bundle: &Bundle, user: &User) -> Result<(), Failure> {
    let Some(ranges) = &bundle.users else { return Ok(()) };
    let admitted = |id: u32| ranges.iter().any(|(from, to)| (*from..=*to).contains(&id));
    let what = if !admitted(user.uid) {
        format!("user {}", user.uid)
    } else if let Some(gid) = user.groups.iter().find(|gid| !admitted(**gid)) {
        format!("group {gid} of user {}", user.uid)
    } else {
        return Ok(());
    };
    Err(Failure::from(format!(
        "{what}, which {:?} is in this image, is not admitted by this device (rule \
         admission.users): name user and group by number, as --user (compose: user) 1000:1000",
        bundle.user
    )))
}

fn account_file(path: &str) -> String {
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    let open = fs::OpenOptions::new()
        .read(true)
        .custom_flags(i32::try_from(flags.bits()).unwrap_or_default())
        .open(path);
    let mut bytes = Vec::new();
    // No file, or an unreadable one, is an empty one; only a regular file is read.
    if let Ok(file) = open
        && file.metadata().is_ok_and(|m| m.is_file())
        && file.take(limits::ACCOUNT_FILE_MAX_BYTES).read_to_end(&mut bytes).is_err()
    {
        bytes.clear();
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The user must be able to open `/dev/stdout` again. What belongs to the host keeps its owner,
/// and its null device stays outside: who has it can change its mode (`chmod /dev/stdin`).
fn place_stdio(given: [BorrowedFd<'_>; 3], user: &User) -> Result<(), Failure> {
    let own = own_null().map_err(|e| failed("open /dev/null", &e))?;
    let all = given.map(|fd| if is_null(fd) { own.as_fd() } else { fd });
    for fd in all {
        let pipe = rustix::fs::fstat(fd)
            .is_ok_and(|s| FileType::from_raw_mode(s.st_mode) == FileType::Fifo);
        if pipe || isatty(fd) {
            rustix::fs::fchown(fd, Some(Uid::from_raw(user.uid)), None)
                .map_err(|e| failed("give the output to the user", &e.into()))?;
        }
    }
    sys::place_stdio(all).map_err(|e| failed("place input and output", &e))
}

fn is_null(fd: BorrowedFd<'_>) -> bool {
    rustix::fs::fstat(fd).is_ok_and(|stat| {
        FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice
            && stat.st_rdev == makedev(1, 3)
    })
}

/// The null device of this root. A container may have removed its own before a probe enters: then
/// a pipe that nobody writes to, which reads as empty too.
fn own_null() -> io::Result<OwnedFd> {
    let flags =
        OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    if let Ok(null) = rustix::fs::open("/dev/null", flags, Mode::empty())
        && is_null(null.as_fd())
    {
        rustix::fs::fcntl_setfl(&null, OFlags::RDWR)?;
        return Ok(null);
    }
    let (reading, _) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
    Ok(reading)
}

fn give_up_rights(bundle: &Bundle, user: &User) -> Result<(), Failure> {
    let step = |what: &'static str| move |e: rustix::io::Errno| failed(what, &e.into());
    let last: u32 = 63;
    for number in 0..=last {
        let bit = 1_u64 << number;
        if bundle.capabilities & bit == 0 {
            match remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(bit)) {
                Ok(()) => {}
                // Above what this kernel knows.
                Err(rustix::io::Errno::INVAL) => break,
                Err(e) => return Err(step("drop a capability")(e)),
            }
        }
    }
    if bundle.no_new_privileges {
        set_no_new_privs(true).map_err(step("set no_new_privs"))?;
    }
    let groups: Vec<Gid> = user.groups.iter().map(|g| Gid::from_raw(*g)).collect();
    set_thread_groups(&groups).map_err(step("set groups"))?;
    // Until the filter is loaded, whoever the user is; ends with exec.
    set_keep_capabilities(true).map_err(step("keep capabilities"))?;
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    set_thread_res_gid(gid, gid, gid).map_err(step("set the group"))?;
    set_thread_res_uid(uid, uid, uid).map_err(step("set the user"))?;
    let have = if user.uid == 0 { bundle.capabilities } else { 0 };
    set_capabilities(None, rights(have | FILTER_LOADER)?).map_err(step("set capabilities"))
}

/// Takes on the seccomp profile and gives up the last rights. Nothing but `capset` and what starts
/// the program comes after it, for that is all that an operator's profile has to allow.
fn close(bundle: &Bundle, user: &User) -> Result<(), Failure> {
    let load = |filter: &[sys::Instruction], flags| {
        sys::load_seccomp(filter, flags).map_err(|e| failed("load the seccomp filter", &e))
    };
    // A change of user made the kernel forget it.
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(|e| failed("tie to the shim", &e.into()))?;
    let last = rights(if user.uid == 0 { bundle.capabilities } else { 0 })?;
    match &bundle.seccomp {
        Seccomp::Default => load(&seccomp::default_filter(bundle.capabilities), 0)?,
        Seccomp::Custom(profile) => {
            let log = if profile.log { sys::SECCOMP_LOG } else { 0 };
            let speculation = if profile.speculation { sys::SECCOMP_SPECULATION } else { 0 };
            load(&seccomp::custom_filter(profile)?, log | speculation)?;
        }
        Seccomp::Unconfined => {}
    }
    set_capabilities(None, last).map_err(|e| failed("set capabilities", &e.into()))
}

/// What loading a filter takes: `CAP_SYS_ADMIN`.
const FILTER_LOADER: u64 = 1 << 21;

fn rights(capabilities: u64) -> Result<CapabilitySets, Failure> {
    let permitted = rustix::thread::capabilities(None)
        .map_err(|e| failed("read capabilities", &e.into()))?
        .permitted;
    let set = CapabilitySet::from_bits_retain(capabilities) & permitted;
    // Inheritable stays empty, and with it ambient (CVE-2022-24769).
    Ok(CapabilitySets { effective: set, permitted: set, inheritable: CapabilitySet::empty() })
}

/// Enters the working folder, and makes sure that it lies in this root
/// (CVE-2024-21626).
fn enter_cwd(cwd: &str) -> Result<(), Failure> {
    let enter = || -> io::Result<()> {
        std::env::set_current_dir(cwd)?;
        let here = rustix::process::getcwd(Vec::new())?;
        if here.to_bytes().first() != Some(&b'/') {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, "it is outside the root"));
        }
        Ok(())
    };
    enter().map_err(|e| failed(&format!("chdir to cwd ({cwd:?})"), &e))
}

/// Finds the program as a shell would, with the container's `PATH`.
fn look_up(bundle: &Bundle, env: &[String]) -> Result<String, Failure> {
    let name = bundle.argv.first().map_or("", String::as_str);
    if name.contains('/') {
        return match executable(Path::new(name)) {
            Ok(()) => Ok(name.to_owned()),
            Err(e) => Err(not_run(name, &e)),
        };
    }
    let path = env.iter().find_map(|v| v.strip_prefix("PATH=")).unwrap_or(DEFAULT_PATH);
    let mut denied = None;
    for dir in path.split(':').filter(|_| !name.is_empty()) {
        let candidate = Path::new(if dir.is_empty() { "." } else { dir }).join(name);
        match executable(&candidate) {
            Ok(()) => return Ok(candidate.display().to_string()),
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => denied = Some(e),
            Err(_) => {}
        }
    }
    match denied {
        Some(e) => Err(not_run(name, &e)),
        None => Err(Failure {
            code: CODE_NOT_FOUND,
            text: format!("exec: {name:?}: executable file not found in $PATH"),
        }),
    }
}

fn executable(path: &Path) -> io::Result<()> {
    let meta = fs::metadata(path)?;
    if meta.is_dir() {
        return Err(io::Error::from(io::ErrorKind::IsADirectory));
    }
    Ok(access(path, Access::EXEC_OK)?)
}

fn not_run(program: &str, error: &io::Error) -> Failure {
    let kind = error.kind();
    let (code, text) = if kind == io::ErrorKind::NotFound
        && let Some(needed) = interpreter::missing(Path::new(program))
    {
        // As it stands there, for a carriage return at its end is a common cause.
        (CODE_NOT_FOUND, format!("its interpreter {needed:?} is not in the image"))
    } else if kind == io::ErrorKind::NotFound {
        (CODE_NOT_FOUND, format!("stat {program}: {}", errno_text(error)))
    } else if matches!(kind, io::ErrorKind::PermissionDenied | io::ErrorKind::IsADirectory) {
        (CODE_NOT_EXECUTABLE, errno_text(error))
    } else {
        (super::CODE_NOT_STARTED, errno_text(error))
    };
    Failure { code, text: format!("exec: {program:?}: {text}") }
}

/// Who becomes the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    /// The process that prepared.
    Itself,
    /// A copy of it in the process namespace that it has entered.
    Sibling,
}

/// Ends; the copy is what returns from here. It has nothing that its program will not have, but
/// for memory of the shim's, which holds no secrets.
fn leave_sibling() -> Result<(), Failure> {
    if sys::fork_sibling().map_err(|e| failed("start the program", &e))?.is_some() {
        #[expect(clippy::exit, reason = "this process has done its part")]
        std::process::exit(0)
    }
    // Best effort, for an operator's filter may refuse them: a group of its own to be killed with,
    // and an end when the shim ends.
    let _refused = rustix::process::setsid();
    let _refused = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
    Ok(())
}

/// Writes over our own arguments, which `ps` shows, what Docker's init is called with; cut to the
/// room that they have. Nobody reads ours again.
fn show_as_init(argv: &[String]) -> io::Result<()> {
    // Begin and end of the arguments: fields 48 and 49 (proc_pid_stat(5)); the third is the first
    // behind the name.
    let stat = fs::read_to_string("/proc/self/stat")?;
    let fields = stat.rsplit_once(") ").map(|(_, fields)| fields).unwrap_or_default();
    let mut fields = fields.split(' ').skip(48 - 3).map(|field| field.trim().parse::<u64>());
    let (Some(Ok(begin)), Some(Ok(end))) = (fields.next(), fields.next()) else {
        return Err(io::ErrorKind::InvalidData.into());
    };
    let room = usize::try_from(end.saturating_sub(begin)).unwrap_or_default();
    let words = ["/sbin/docker-init", "--"].into_iter().chain(argv.iter().map(String::as_str));
    let mut text: Vec<u8> = words.flat_map(|word| word.bytes().chain([0])).collect();
    text.resize(room, 0);
    if let Some(last) = text.last_mut() {
        *last = 0;
    }
    let memory = fs::OpenOptions::new().write(true).open("/proc/self/mem")?;
    memory.write_all_at(&text, begin)
}

/// Stays behind as process 1: reaps, forwards signals, and ends as the program does, which is
/// the copy that returns from here.
fn become_init(tty: bool) -> Result<(), Failure> {
    sys::block_signals().map_err(|e| failed("block signals", &e))?;
    let child = sys::fork_in_container().map_err(|e| failed("start the program", &e))?;
    let Some(child) = child else {
        // Of its own, so that a signal to the group does not come back to init.
        rustix::process::setpgid(None, None).map_err(|e| failed("set the group", &e.into()))?;
        if tty {
            // Who is not in the group of the terminal can not read from it.
            tcsetpgrp(io::stdin(), rustix::process::getpgrp())
                .map_err(|e| failed("take the terminal", &e.into()))?;
        }
        return Ok(());
    };
    sys::close_everything_from(0);
    // What `ps` calls Docker's. Without its name an init works as well.
    let _unnamed = rustix::thread::set_name(c"docker-init");
    let code = loop {
        let signal = sys::wait_for_signal();
        if signal == Signal::CHILD.as_raw() {
            if let Some(code) = reap(child) {
                break code;
            }
        } else if 0 < signal {
            // It may be gone; then SIGCHLD is pending.
            match sys::kill(child, signal) {
                Ok(()) | Err(_) => {}
            }
        }
    };
    #[expect(clippy::exit, reason = "process 1 of the container ends with its program")]
    std::process::exit(code)
}

/// Reaps all that ended; the exit code once the program is among them.
fn reap(program: Pid) -> Option<i32> {
    let mut code = None;
    while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
        if pid == program {
            code = exit_code(status);
        }
    }
    code
}

/// The exit code of an ended process: 128 + signal when one killed it.
pub(crate) fn exit_code(status: WaitStatus) -> Option<i32> {
    status.exit_status().or_else(|| status.terminating_signal().map(|s| 128 + s))
}
