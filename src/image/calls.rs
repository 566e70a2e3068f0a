//! The system calls that a fetch child may make, as a seccomp program.
//!
//! A list of what is allowed; all else answers `ENOSYS`, as a kernel that lacks it, so that every C
//! library falls back where it can. No process, no program, no namespace, no mount, no signal to
//! others, no memory that runs; sockets of IP alone, and none where no network is wanted. Numbers
//! are those of the kernel's tables; columns: x86-64, arm, and the generic table of arm64 and
//! riscv64; `_` where an architecture lacks the call. What is of glibc and what is of musl is not
//! told apart. Pure.

use crate::sys::Instruction;

const LOAD: u16 = 0x20;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_AT_LEAST: u16 = 0x35;
const JUMP_ANY_BIT: u16 = 0x45;
const RETURN: u16 = 0x06;

const ALLOW: u32 = 0x7fff_0000;
const ERRNO: u32 = 0x0005_0000;
const KILL_PROCESS: u32 = 0x8000_0000;
const EPERM: u32 = 1;
const ENOTTY: u32 = 25;
const ENOSYS: u32 = 38;
const EAFNOSUPPORT: u32 = 97;

/// Offsets in `struct seccomp_data`; the low half of an argument comes first, for all of ours are
/// little-endian.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: [u32; 3] = [16, 24, 32];

const CLONE_THREAD: u32 = 0x1_0000;
const PROT_EXEC: u32 = 4;
const PR_SET_NAME: u32 = 15;
/// `FIONBIO`, `FIONREAD`; `TCGETS` and `TIOCGWINSZ`, by which a terminal is told.
const IOCTLS: [u32; 4] = [0x5421, 0x541b, 0x5401, 0x5413];
/// IPv4 and IPv6.
const FAMILIES: [u32; 2] = [2, 10];
/// Numbers from here on are of x32.
const X32: u32 = 0x4000_0000;

/// One call: its numbers on x86-64, arm, and arm64 or riscv64.
type Call = [Option<u32>; 3];

macro_rules! number {
    (_) => {
        None
    };
    ($number:literal) => {
        Some($number)
    };
}

macro_rules! calls {
    ($($list:ident { $($name:ident: $x64:tt $arm:tt $generic:tt;)* })*) => {
        $(const $list: &[Call] = &[$([number!($x64), number!($arm), number!($generic)],)*];)*
        #[cfg(test)]
        const NAMES: &[(&str, Call)] = &[$($(
            (stringify!($name), [number!($x64), number!($arm), number!($generic)]),
        )*)*];
    };
}

// The first are the most frequent: the program goes through them in this order.
calls! {
PLAIN {
    read: 0 3 63;
    write: 1 4 64;
    pwrite64: 18 181 68;
    pread64: 17 180 67;
    futex: 202 240 98;
    openat: 257 322 56;
    openat2: 437 437 437;
    close: 3 6 57;
    fchown: 93 95 55;
    fchmod: 91 94 52;
    fsetxattr: 190 228 7;
    readv: 19 145 65;
    writev: 20 146 66;
    preadv: 295 361 69;
    pwritev: 296 362 70;
    lseek: 8 19 62;
    _llseek: _ 140 _;
    close_range: 436 436 436;
    fcntl: 72 55 25;
    fcntl64: _ 221 _;
    dup: 32 41 23;
    dup2: 33 63 _;
    dup3: 292 358 24;
    pipe: 22 42 _;
    pipe2: 293 359 59;
    ftruncate: 77 93 46;
    ftruncate64: _ 194 _;
    truncate: 76 92 45;
    truncate64: _ 193 _;
    fallocate: 285 352 47;
    fsync: 74 118 82;
    fdatasync: 75 148 83;
    sync: 162 36 81;
    sync_file_range: 277 _ 84;
    sync_file_range2: _ 341 _;
    arm_sync_file_range: _ 341 _;
    syncfs: 306 373 267;
    copy_file_range: 326 391 285;
    sendfile: 40 187 71;
    sendfile64: _ 239 _;
    splice: 275 340 76;
    fadvise64: 221 _ 223;
    arm_fadvise64_64: _ 270 _;
    flock: 73 143 32;
    open: 2 5 _;
    stat: 4 106 _;
    stat64: _ 195 _;
    lstat: 6 107 _;
    lstat64: _ 196 _;
    fstat: 5 108 80;
    fstat64: _ 197 _;
    newfstatat: 262 _ 79;
    fstatat64: _ 327 _;
    statx: 332 397 291;
    statfs: 137 99 43;
    statfs64: _ 266 _;
    fstatfs: 138 100 44;
    fstatfs64: _ 267 _;
    getdents: 78 141 _;
    getdents64: 217 217 61;
    access: 21 33 _;
    faccessat: 269 334 48;
    faccessat2: 439 439 439;
    readlink: 89 85 _;
    readlinkat: 267 332 78;
    getcwd: 79 183 17;
    umask: 95 60 166;
    mkdir: 83 39 _;
    mkdirat: 258 323 34;
    rmdir: 84 40 _;
    unlink: 87 10 _;
    unlinkat: 263 328 35;
    rename: 82 38 _;
    renameat: 264 329 38;
    renameat2: 316 382 276;
    link: 86 9 _;
    linkat: 265 330 37;
    symlink: 88 83 _;
    symlinkat: 266 331 36;
    mknod: 133 14 _;
    mknodat: 259 324 33;
    chmod: 90 15 _;
    fchmodat: 268 333 53;
    fchmodat2: 452 452 452;
    chown: 92 182 _;
    chown32: _ 212 _;
    lchown: 94 16 _;
    lchown32: _ 198 _;
    fchown32: _ 207 _;
    fchownat: 260 325 54;
    utimensat: 280 348 88;
    utimensat_time64: _ 412 _;
    utimes: 235 269 _;
    futimesat: 261 326 _;
    setxattr: 188 226 5;
    lsetxattr: 189 227 6;
    getxattr: 191 229 8;
    lgetxattr: 192 230 9;
    fgetxattr: 193 231 10;
    listxattr: 194 232 11;
    flistxattr: 196 234 13;
    munmap: 11 91 215;
    mremap: 25 163 216;
    madvise: 28 220 233;
    brk: 12 45 214;
    membarrier: 324 389 283;
    futex_time64: _ 422 _;
    set_robust_list: 273 338 99;
    rseq: 334 398 293;
    set_tid_address: 218 256 96;
    sched_yield: 24 158 124;
    sched_getaffinity: 204 242 123;
    gettid: 186 224 178;
    getpid: 39 20 172;
    getppid: 110 64 173;
    exit: 60 1 93;
    exit_group: 231 248 94;
    tgkill: 234 268 131;
    rt_sigaction: 13 174 134;
    rt_sigprocmask: 14 175 135;
    rt_sigreturn: 15 173 139;
    sigreturn: _ 119 _;
    sigaltstack: 131 186 132;
    restart_syscall: 219 0 128;
    clock_gettime: 228 263 113;
    clock_gettime64: _ 403 _;
    clock_getres: 229 264 114;
    clock_getres_time64: _ 406 _;
    clock_nanosleep: 230 265 115;
    clock_nanosleep_time64: _ 407 _;
    nanosleep: 35 162 101;
    gettimeofday: 96 78 169;
    time: 201 _ _;
    poll: 7 168 _;
    ppoll: 271 336 73;
    ppoll_time64: _ 414 _;
    select: 23 _ _;
    _newselect: _ 142 _;
    pselect6: 270 335 72;
    pselect6_time64: _ 413 _;
    epoll_create: 213 250 _;
    epoll_create1: 291 357 20;
    epoll_ctl: 233 251 21;
    epoll_wait: 232 252 _;
    epoll_pwait: 281 346 22;
    epoll_pwait2: 441 441 441;
    eventfd: 284 351 _;
    eventfd2: 290 356 19;
    timerfd_create: 283 350 85;
    timerfd_settime: 286 353 86;
    timerfd_settime64: _ 411 _;
    getrandom: 318 384 278;
    uname: 63 122 160;
    sysinfo: 99 116 179;
    getrlimit: 97 _ 163;
    ugetrlimit: _ 191 _;
    prlimit64: 302 369 261;
    getuid: 102 24 174;
    getuid32: _ 199 _;
    geteuid: 107 49 175;
    geteuid32: _ 201 _;
    getgid: 104 47 176;
    getgid32: _ 200 _;
    getegid: 108 50 177;
    getegid32: _ 202 _;
}
NETWORK {
    connect: 42 283 203;
    bind: 49 282 200;
    getsockname: 51 286 204;
    getpeername: 52 287 205;
    getsockopt: 55 295 209;
    setsockopt: 54 294 208;
    sendto: 44 290 206;
    recvfrom: 45 292 207;
    sendmsg: 46 296 211;
    recvmsg: 47 297 212;
    sendmmsg: 307 374 269;
    recvmmsg: 299 365 243;
    recvmmsg_time64: _ 417 _;
    shutdown: 48 293 210;
}
SOCKET {
    socket: 41 281 198;
}
CLONE {
    clone: 56 120 220;
}
PRCTL {
    prctl: 157 172 167;
}
IOCTL {
    ioctl: 16 54 29;
}
MEMORY {
    mmap: 9 _ 222;
    mmap2: _ 192 _;
    mprotect: 10 125 226;
}
}

/// The program for the machine that this is built for; none where its numbers are not known.
pub(super) fn filter(network: bool) -> Option<Vec<Instruction>> {
    program(std::env::consts::ARCH, network)
}

fn program(machine: &str, network: bool) -> Option<Vec<Instruction>> {
    let (architecture, column) = match machine {
        "x86_64" => (0xc000_003e, 0),
        "arm" => (0x4000_0028, 1),
        "aarch64" => (0xc000_00b7, 2),
        "riscv64" => (0xc000_00f3, 2),
        _ => return None,
    };
    let mut code = vec![
        load(ARCHITECTURE),
        jump(JUMP_EQUAL, architecture, 1, 0),
        end(KILL_PROCESS),
        load(NUMBER),
    ];
    if machine == "x86_64" {
        code.extend([jump(JUMP_AT_LEAST, X32, 0, 1), end(ERRNO | ENOSYS)]);
    }
    let mut add = |calls: &[Call], body: &[Instruction]| {
        for number in calls.iter().filter_map(|call| call.get(column).copied().flatten()) {
            let skip = u8::try_from(body.len()).unwrap_or(u8::MAX);
            code.push(jump(JUMP_EQUAL, number, 0, skip));
            code.extend_from_slice(body);
        }
    };
    add(PLAIN, &[end(ALLOW)]);
    // A thread, no process. `clone3` tells its flags in memory, which no filter sees.
    add(CLONE, &if_any_bit(ARGUMENTS[0], CLONE_THREAD, ALLOW, ERRNO | EPERM));
    add(PRCTL, &if_one_of(ARGUMENTS[0], &[PR_SET_NAME], ERRNO | EPERM));
    add(IOCTL, &if_one_of(ARGUMENTS[1], &IOCTLS, ERRNO | ENOTTY));
    add(MEMORY, &if_any_bit(ARGUMENTS[2], PROT_EXEC, ERRNO | EPERM, ALLOW));
    if network {
        add(NETWORK, &[end(ALLOW)]);
        add(SOCKET, &if_one_of(ARGUMENTS[0], &FAMILIES, ERRNO | EAFNOSUPPORT));
    }
    code.push(end(ERRNO | ENOSYS));
    Some(code)
}

fn if_any_bit(argument: u32, bits: u32, then: u32, otherwise: u32) -> Vec<Instruction> {
    vec![load(argument), jump(JUMP_ANY_BIT, bits, 0, 1), end(then), end(otherwise)]
}

fn if_one_of(argument: u32, values: &[u32], otherwise: u32) -> Vec<Instruction> {
    let mut code = vec![load(argument)];
    for value in values {
        code.extend([jump(JUMP_EQUAL, *value, 0, 1), end(ALLOW)]);
    }
    code.push(end(otherwise));
    code
}

const fn load(offset: u32) -> Instruction {
    Instruction { code: LOAD, jump_true: 0, jump_false: 0, operand: offset }
}

const fn jump(code: u16, operand: u32, jump_true: u8, jump_false: u8) -> Instruction {
    Instruction { code, jump_true, jump_false, operand }
}

const fn end(verdict: u32) -> Instruction {
    Instruction { code: RETURN, jump_true: 0, jump_false: 0, operand: verdict }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARCHITECTURES: [(&str, u32); 4] = [
        ("x86_64", 0xc000_003e),
        ("arm", 0x4000_0028),
        ("aarch64", 0xc000_00b7),
        ("riscv64", 0xc000_00f3),
    ];

    /// Runs a program as the kernel would.
    fn verdict(code: &[Instruction], architecture: u32, number: u32, arguments: [u32; 3]) -> u32 {
        let (mut at, mut loaded) = (0_usize, 0);
        loop {
            let Instruction { code: op, jump_true, jump_false, operand } = code[at];
            at += 1;
            let test = match op {
                LOAD => {
                    loaded = match operand {
                        NUMBER => number,
                        ARCHITECTURE => architecture,
                        offset => {
                            let found = ARGUMENTS.iter().position(|known| *known == offset);
                            arguments[found.unwrap()]
                        }
                    };
                    continue;
                }
                RETURN => return operand,
                JUMP_EQUAL => loaded == operand,
                JUMP_AT_LEAST => loaded >= operand,
                JUMP_ANY_BIT => loaded & operand != 0,
                other => panic!("operation {other:#x}"),
            };
            at += usize::from(if test { jump_true } else { jump_false });
        }
    }

    fn number_of(name: &str, machine: &str) -> Option<u32> {
        let column = match machine {
            "x86_64" => 0,
            "arm" => 1,
            _ => 2,
        };
        NAMES.iter().find(|(known, _)| *known == name).and_then(|(_, numbers)| numbers[column])
    }

    #[test]
    fn what_is_not_listed_is_not_there() {
        for (machine, architecture) in ARCHITECTURES {
            for network in [true, false] {
                let code = program(machine, network).unwrap();
                assert!(code.len() < 4096, "the kernel's limit");
                let known: Vec<u32> =
                    NAMES.iter().filter_map(|(name, _)| number_of(name, machine)).collect();
                for number in (0..600).filter(|n| !known.contains(n)).chain([X32 + 1, u32::MAX]) {
                    let found = verdict(&code, architecture, number, [0; 3]);
                    assert_eq!(found, ERRNO | ENOSYS, "{machine} {number}");
                }
                let other = if machine == "arm" { 0xc000_00b7 } else { 0x4000_0028 };
                assert_eq!(verdict(&code, other, 3, [0; 3]), KILL_PROCESS);
                let call = |name, arguments| {
                    let number = number_of(name, machine).unwrap();
                    verdict(&code, architecture, number, arguments)
                };
                let socket = |family| call("socket", [family, 1, 0]);
                assert_eq!(socket(2) == ALLOW, network);
                assert_eq!(socket(10) == ALLOW, network);
                // UNIX, NETLINK, PACKET, ALG, VSOCK.
                assert!([1, 16, 17, 38, 40].into_iter().all(|family| socket(family) != ALLOW));
                assert_eq!(call("connect", [3, 0, 0]) == ALLOW, network);
                assert_eq!(call("clone", [0x3d_0f00, 0, 0]), ALLOW, "a thread");
                assert_eq!(call("clone", [17, 0, 0]), ERRNO | EPERM, "a process");
                assert_eq!(call("mprotect", [0, 4096, 3]), ALLOW);
                assert_eq!(call("mprotect", [0, 4096, 5]), ERRNO | EPERM, "memory that runs");
                assert_eq!(call("prctl", [PR_SET_NAME, 0, 0]), ALLOW);
                assert_eq!(call("prctl", [4, 1, 0]), ERRNO | EPERM, "dumpable");
                assert_eq!(call("ioctl", [3, 0x5421, 0]), ALLOW);
                assert_eq!(call("ioctl", [3, 0x8914, 0]), ERRNO | ENOTTY);
            }
        }
        assert!(program("sparc", true).is_none());
    }

    #[test]
    fn numbers_are_those_of_the_system_that_this_is_built_for() {
        let machine = std::env::consts::ARCH;
        for (name, number) in [
            ("read", libc::SYS_read),
            ("openat", libc::SYS_openat),
            ("openat2", libc::SYS_openat2),
            ("statx", libc::SYS_statx),
            ("getdents64", libc::SYS_getdents64),
            ("mknodat", libc::SYS_mknodat),
            ("fsetxattr", libc::SYS_fsetxattr),
            ("fchownat", libc::SYS_fchownat),
            ("renameat2", libc::SYS_renameat2),
            ("flock", libc::SYS_flock),
            ("syncfs", libc::SYS_syncfs),
            ("futex", libc::SYS_futex),
            ("clone", libc::SYS_clone),
            ("mprotect", libc::SYS_mprotect),
            ("socket", libc::SYS_socket),
            ("connect", libc::SYS_connect),
            ("exit_group", libc::SYS_exit_group),
            ("getrandom", libc::SYS_getrandom),
            ("ppoll", libc::SYS_ppoll),
        ] {
            assert_eq!(number_of(name, machine), u32::try_from(number).ok(), "{name}");
        }
        let code = filter(true).unwrap();
        let native = ARCHITECTURES.iter().find(|(name, _)| *name == machine).unwrap().1;
        for refused in [
            libc::SYS_mount,
            libc::SYS_umount2,
            libc::SYS_chroot,
            libc::SYS_pivot_root,
            libc::SYS_unshare,
            libc::SYS_setns,
            libc::SYS_execve,
            libc::SYS_execveat,
            libc::SYS_clone3,
            libc::SYS_ptrace,
            libc::SYS_process_vm_readv,
            libc::SYS_kill,
            libc::SYS_bpf,
            libc::SYS_keyctl,
            libc::SYS_perf_event_open,
            libc::SYS_open_by_handle_at,
            libc::SYS_userfaultfd,
            libc::SYS_io_uring_setup,
            libc::SYS_setresuid,
            libc::SYS_capset,
            libc::SYS_init_module,
            libc::SYS_swapon,
            libc::SYS_sethostname,
            libc::SYS_quotactl,
        ] {
            let found = verdict(&code, native, u32::try_from(refused).unwrap(), [0; 3]);
            assert_eq!(found, ERRNO | ENOSYS, "{refused}");
        }
    }
}
