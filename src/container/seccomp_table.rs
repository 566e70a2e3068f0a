//! The calls of Docker's default seccomp profile, with their numbers.
//!
//! Names and conditions are those of moby `profiles/seccomp/default.json`, numbers those of the
//! kernel's tables. Columns: x86-64, x86, arm, and the generic table of arm64 and riscv64; `_`
//! where an architecture lacks the call or the profile leaves it out there. The calls with rules
//! for their arguments (`clone`, `clone3`, `personality`, `socket`) are in
//! [`super::seccomp`].

/// A call that is allowed when the container has one of `capabilities`, or always for 0.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call {
    pub(super) capabilities: u64,
    pub(super) x86_64: u32,
    pub(super) x86: u32,
    pub(super) arm: u32,
    pub(super) generic: u32,
}

/// Stands for a call that an architecture does not have.
pub(super) const NONE: u32 = u32::MAX;

const ALWAYS: u64 = 0;
const DAC_READ_SEARCH: u64 = 1 << 2;
const SYS_MODULE: u64 = 1 << 16;
const SYS_RAWIO: u64 = 1 << 17;
const SYS_CHROOT: u64 = 1 << 18;
/// Also decides how a probe enters.
pub(super) const SYS_PTRACE: u64 = 1 << 19;
const SYS_PACCT: u64 = 1 << 20;
/// Also decides on `clone` and `clone3`.
pub(super) const SYS_ADMIN: u64 = 1 << 21;
const SYS_BOOT: u64 = 1 << 22;
const SYS_NICE: u64 = 1 << 23;
const SYS_TIME: u64 = 1 << 25;
const SYS_TTY_CONFIG: u64 = 1 << 26;
const SYSLOG: u64 = 1 << 34;
const PERFMON: u64 = 1 << 38;
const BPF: u64 = 1 << 39;

macro_rules! number {
    (_) => {
        NONE
    };
    ($number:literal) => {
        $number
    };
}

macro_rules! calls {
    ($calls:ident $names:ident { $($capability:ident {
        $($name:ident: $x64:tt $x86:tt $arm:tt $generic:tt;)*
    })* }) => {
        pub(super) const $calls: &[Call] = &[$($(Call {
            capabilities: $capability,
            x86_64: number!($x64),
            x86: number!($x86),
            arm: number!($arm),
            generic: number!($generic),
        },)*)*];
        const $names: &str = concat!($($(stringify!($name), " ",)*)*);
    };
}

/// The call of a name; none when no architecture has it.
pub(super) fn named(name: &str) -> Option<&'static Call> {
    let at = |names: &str| names.split(' ').position(|known| known == name && !name.is_empty());
    let found = || CALLS.get(at(NAMES)?);
    found().or_else(|| OTHERS.get(at(OTHER_NAMES)?))
}

calls! { CALLS NAMES {
    ALWAYS {
        _llseek: _ 140 140 _;
        _newselect: _ 142 142 _;
        accept: 43 _ 285 202;
        accept4: 288 364 366 242;
        access: 21 33 33 _;
        adjtimex: 159 124 124 171;
        alarm: 37 27 _ _;
        arch_prctl: 158 _ _ _;
        arm_fadvise64_64: _ _ 270 _;
        arm_sync_file_range: _ _ 341 _;
        bind: 49 361 282 200;
        breakpoint: _ _ 0xf0001 _;
        brk: 12 45 45 214;
        cacheflush: _ _ 0xf0002 _;
        cachestat: 451 451 451 451;
        capget: 125 184 184 90;
        capset: 126 185 185 91;
        chdir: 80 12 12 49;
        chmod: 90 15 15 _;
        chown: 92 182 182 _;
        chown32: _ 212 212 _;
        clock_adjtime: 305 343 372 266;
        clock_adjtime64: _ 405 405 _;
        clock_getres: 229 266 264 114;
        clock_getres_time64: _ 406 406 _;
        clock_gettime: 228 265 263 113;
        clock_gettime64: _ 403 403 _;
        clock_nanosleep: 230 267 265 115;
        clock_nanosleep_time64: _ 407 407 _;
        close: 3 6 6 57;
        close_range: 436 436 436 436;
        connect: 42 362 283 203;
        copy_file_range: 326 377 391 285;
        creat: 85 8 8 _;
        dup: 32 41 41 23;
        dup2: 33 63 63 _;
        dup3: 292 330 358 24;
        epoll_create: 213 254 250 _;
        epoll_create1: 291 329 357 20;
        epoll_ctl: 233 255 251 21;
        epoll_ctl_old: 214 _ _ _;
        epoll_pwait: 281 319 346 22;
        epoll_pwait2: 441 441 441 441;
        epoll_wait: 232 256 252 _;
        epoll_wait_old: 215 _ _ _;
        eventfd: 284 323 351 _;
        eventfd2: 290 328 356 19;
        execve: 59 11 11 221;
        execveat: 322 358 387 281;
        exit: 60 1 1 93;
        exit_group: 231 252 248 94;
        faccessat: 269 307 334 48;
        faccessat2: 439 439 439 439;
        fadvise64: 221 250 _ 223;
        fadvise64_64: _ 272 _ _;
        fallocate: 285 324 352 47;
        fanotify_mark: 301 339 368 263;
        fchdir: 81 133 133 50;
        fchmod: 91 94 94 52;
        fchmodat: 268 306 333 53;
        fchmodat2: 452 452 452 452;
        fchown: 93 95 95 55;
        fchown32: _ 207 207 _;
        fchownat: 260 298 325 54;
        fcntl: 72 55 55 25;
        fcntl64: _ 221 221 _;
        fdatasync: 75 148 148 83;
        fgetxattr: 193 231 231 10;
        flistxattr: 196 234 234 13;
        flock: 73 143 143 32;
        fork: 57 2 2 _;
        fremovexattr: 199 237 237 16;
        fsetxattr: 190 228 228 7;
        fstat: 5 108 108 80;
        fstat64: _ 197 197 _;
        fstatat64: _ 300 327 _;
        fstatfs: 138 100 100 44;
        fstatfs64: _ 269 267 _;
        fsync: 74 118 118 82;
        ftruncate: 77 93 93 46;
        ftruncate64: _ 194 194 _;
        futex: 202 240 240 98;
        futex_requeue: 456 456 456 456;
        futex_time64: _ 422 422 _;
        futex_wait: 455 455 455 455;
        futex_waitv: 449 449 449 449;
        futex_wake: 454 454 454 454;
        futimesat: 261 299 326 _;
        get_robust_list: 274 312 339 100;
        get_thread_area: 211 244 _ _;
        getcpu: 309 318 345 168;
        getcwd: 79 183 183 17;
        getdents: 78 141 141 _;
        getdents64: 217 220 217 61;
        getegid: 108 50 50 177;
        getegid32: _ 202 202 _;
        geteuid: 107 49 49 175;
        geteuid32: _ 201 201 _;
        getgid: 104 47 47 176;
        getgid32: _ 200 200 _;
        getgroups: 115 80 80 158;
        getgroups32: _ 205 205 _;
        getitimer: 36 105 105 102;
        getpeername: 52 368 287 205;
        getpgid: 121 132 132 155;
        getpgrp: 111 65 65 _;
        getpid: 39 20 20 172;
        getppid: 110 64 64 173;
        getpriority: 140 96 96 141;
        getrandom: 318 355 384 278;
        getresgid: 120 171 171 150;
        getresgid32: _ 211 211 _;
        getresuid: 118 165 165 148;
        getresuid32: _ 209 209 _;
        getrlimit: 97 76 _ 163;
        getrusage: 98 77 77 165;
        getsid: 124 147 147 156;
        getsockname: 51 367 286 204;
        getsockopt: 55 365 295 209;
        gettid: 186 224 224 178;
        gettimeofday: 96 78 78 169;
        getuid: 102 24 24 174;
        getuid32: _ 199 199 _;
        getxattr: 191 229 229 8;
        getxattrat: 464 464 464 464;
        inotify_add_watch: 254 292 317 27;
        inotify_init: 253 291 316 _;
        inotify_init1: 294 332 360 26;
        inotify_rm_watch: 255 293 318 28;
        io_cancel: 210 249 247 3;
        io_destroy: 207 246 244 1;
        io_getevents: 208 247 245 4;
        io_pgetevents: 333 385 399 292;
        io_pgetevents_time64: _ 416 416 _;
        io_setup: 206 245 243 0;
        io_submit: 209 248 246 2;
        ioctl: 16 54 54 29;
        ioprio_get: 252 290 315 31;
        ioprio_set: 251 289 314 30;
        ipc: _ 117 _ _;
        kill: 62 37 37 129;
        landlock_add_rule: 445 445 445 445;
        landlock_create_ruleset: 444 444 444 444;
        landlock_restrict_self: 446 446 446 446;
        lchown: 94 16 16 _;
        lchown32: _ 198 198 _;
        lgetxattr: 192 230 230 9;
        link: 86 9 9 _;
        linkat: 265 303 330 37;
        listen: 50 363 284 201;
        listmount: 458 458 458 458;
        listxattr: 194 232 232 11;
        listxattrat: 465 465 465 465;
        llistxattr: 195 233 233 12;
        lremovexattr: 198 236 236 15;
        lseek: 8 19 19 62;
        lsetxattr: 189 227 227 6;
        lstat: 6 107 107 _;
        lstat64: _ 196 196 _;
        madvise: 28 219 220 233;
        map_shadow_stack: 453 453 453 453;
        membarrier: 324 375 389 283;
        memfd_create: 319 356 385 279;
        memfd_secret: 447 447 _ 447;
        mincore: 27 218 219 232;
        mkdir: 83 39 39 _;
        mkdirat: 258 296 323 34;
        mknod: 133 14 14 _;
        mknodat: 259 297 324 33;
        mlock: 149 150 150 228;
        mlock2: 325 376 390 284;
        mlockall: 151 152 152 230;
        mmap: 9 90 _ 222;
        mmap2: _ 192 192 _;
        modify_ldt: 154 123 _ _;
        mprotect: 10 125 125 226;
        mq_getsetattr: 245 282 279 185;
        mq_notify: 244 281 278 184;
        mq_open: 240 277 274 180;
        mq_timedreceive: 243 280 277 183;
        mq_timedreceive_time64: _ 419 419 _;
        mq_timedsend: 242 279 276 182;
        mq_timedsend_time64: _ 418 418 _;
        mq_unlink: 241 278 275 181;
        mremap: 25 163 163 216;
        mseal: 462 462 462 462;
        msgctl: 71 402 304 187;
        msgget: 68 399 303 186;
        msgrcv: 70 401 302 188;
        msgsnd: 69 400 301 189;
        msync: 26 144 144 227;
        munlock: 150 151 151 229;
        munlockall: 152 153 153 231;
        munmap: 11 91 91 215;
        name_to_handle_at: 303 341 370 264;
        nanosleep: 35 162 162 101;
        newfstatat: 262 _ _ 79;
        open: 2 5 5 _;
        openat: 257 295 322 56;
        openat2: 437 437 437 437;
        pause: 34 29 29 _;
        pidfd_open: 434 434 434 434;
        pidfd_send_signal: 424 424 424 424;
        pipe: 22 42 42 _;
        pipe2: 293 331 359 59;
        pkey_alloc: 330 381 395 289;
        pkey_free: 331 382 396 290;
        pkey_mprotect: 329 380 394 288;
        poll: 7 168 168 _;
        ppoll: 271 309 336 73;
        ppoll_time64: _ 414 414 _;
        prctl: 157 172 172 167;
        pread64: 17 180 180 67;
        preadv: 295 333 361 69;
        preadv2: 327 378 392 286;
        prlimit64: 302 340 369 261;
        process_mrelease: 448 448 448 448;
        process_vm_readv: 310 347 376 270;
        process_vm_writev: 311 348 377 271;
        pselect6: 270 308 335 72;
        pselect6_time64: _ 413 413 _;
        ptrace: 101 26 26 117;
        pwrite64: 18 181 181 68;
        pwritev: 296 334 362 70;
        pwritev2: 328 379 393 287;
        read: 0 3 3 63;
        readahead: 187 225 225 213;
        readlink: 89 85 85 _;
        readlinkat: 267 305 332 78;
        readv: 19 145 145 65;
        recv: _ _ 291 _;
        recvfrom: 45 371 292 207;
        recvmmsg: 299 337 365 243;
        recvmmsg_time64: _ 417 417 _;
        recvmsg: 47 372 297 212;
        remap_file_pages: 216 257 253 234;
        removexattr: 197 235 235 14;
        removexattrat: 466 466 466 466;
        rename: 82 38 38 _;
        renameat: 264 302 329 38;
        renameat2: 316 353 382 276;
        restart_syscall: 219 0 0 128;
        riscv_flush_icache: _ _ _ 259;
        riscv_hwprobe: _ _ _ 258;
        rmdir: 84 40 40 _;
        rseq: 334 386 398 293;
        rt_sigaction: 13 174 174 134;
        rt_sigpending: 127 176 176 136;
        rt_sigprocmask: 14 175 175 135;
        rt_sigqueueinfo: 129 178 178 138;
        rt_sigreturn: 15 173 173 139;
        rt_sigsuspend: 130 179 179 133;
        rt_sigtimedwait: 128 177 177 137;
        rt_sigtimedwait_time64: _ 421 421 _;
        rt_tgsigqueueinfo: 297 335 363 240;
        sched_get_priority_max: 146 159 159 125;
        sched_get_priority_min: 147 160 160 126;
        sched_getaffinity: 204 242 242 123;
        sched_getattr: 315 352 381 275;
        sched_getparam: 143 155 155 121;
        sched_getscheduler: 145 157 157 120;
        sched_rr_get_interval: 148 161 161 127;
        sched_rr_get_interval_time64: _ 423 423 _;
        sched_setaffinity: 203 241 241 122;
        sched_setattr: 314 351 380 274;
        sched_setparam: 142 154 154 118;
        sched_setscheduler: 144 156 156 119;
        sched_yield: 24 158 158 124;
        seccomp: 317 354 383 277;
        select: 23 82 _ _;
        semctl: 66 394 300 191;
        semget: 64 393 299 190;
        semop: 65 _ 298 193;
        semtimedop: 220 _ 312 192;
        semtimedop_time64: _ 420 420 _;
        send: _ _ 289 _;
        sendfile: 40 187 187 71;
        sendfile64: _ 239 239 _;
        sendmmsg: 307 345 374 269;
        sendmsg: 46 370 296 211;
        sendto: 44 369 290 206;
        set_robust_list: 273 311 338 99;
        set_thread_area: 205 243 _ _;
        set_tid_address: 218 258 256 96;
        set_tls: _ _ 0xf0005 _;
        setfsgid: 123 139 139 152;
        setfsgid32: _ 216 216 _;
        setfsuid: 122 138 138 151;
        setfsuid32: _ 215 215 _;
        setgid: 106 46 46 144;
        setgid32: _ 214 214 _;
        setgroups: 116 81 81 159;
        setgroups32: _ 206 206 _;
        setitimer: 38 104 104 103;
        setpgid: 109 57 57 154;
        setpriority: 141 97 97 140;
        setregid: 114 71 71 143;
        setregid32: _ 204 204 _;
        setresgid: 119 170 170 149;
        setresgid32: _ 210 210 _;
        setresuid: 117 164 164 147;
        setresuid32: _ 208 208 _;
        setreuid: 113 70 70 145;
        setreuid32: _ 203 203 _;
        setrlimit: 160 75 75 164;
        setsid: 112 66 66 157;
        setsockopt: 54 366 294 208;
        setuid: 105 23 23 146;
        setuid32: _ 213 213 _;
        setxattr: 188 226 226 5;
        setxattrat: 463 463 463 463;
        shmat: 30 397 305 196;
        shmctl: 31 396 308 195;
        shmdt: 67 398 306 197;
        shmget: 29 395 307 194;
        shutdown: 48 373 293 210;
        sigaltstack: 131 186 186 132;
        signalfd: 282 321 349 _;
        signalfd4: 289 327 355 74;
        sigprocmask: _ 126 126 _;
        sigreturn: _ 119 119 _;
        socketcall: _ 102 _ _;
        socketpair: 53 360 288 199;
        splice: 275 313 340 76;
        stat: 4 106 106 _;
        stat64: _ 195 195 _;
        statfs: 137 99 99 43;
        statfs64: _ 268 266 _;
        statmount: 457 457 457 457;
        statx: 332 383 397 291;
        symlink: 88 83 83 _;
        symlinkat: 266 304 331 36;
        sync: 162 36 36 81;
        sync_file_range: 277 314 _ 84;
        sync_file_range2: _ _ 341 _;
        syncfs: 306 344 373 267;
        sysinfo: 99 116 116 179;
        tee: 276 315 342 77;
        tgkill: 234 270 268 131;
        time: 201 13 _ _;
        timer_create: 222 259 257 107;
        timer_delete: 226 263 261 111;
        timer_getoverrun: 225 262 260 109;
        timer_gettime: 224 261 259 108;
        timer_gettime64: _ 408 408 _;
        timer_settime: 223 260 258 110;
        timer_settime64: _ 409 409 _;
        timerfd_create: 283 322 350 85;
        timerfd_gettime: 287 326 354 87;
        timerfd_gettime64: _ 410 410 _;
        timerfd_settime: 286 325 353 86;
        timerfd_settime64: _ 411 411 _;
        times: 100 43 43 153;
        tkill: 200 238 238 130;
        truncate: 76 92 92 45;
        truncate64: _ 193 193 _;
        ugetrlimit: _ 191 191 _;
        umask: 95 60 60 166;
        uname: 63 122 122 160;
        unlink: 87 10 10 _;
        unlinkat: 263 301 328 35;
        uretprobe: 335 _ _ _;
        utime: 132 30 _ _;
        utimensat: 280 320 348 88;
        utimensat_time64: _ 412 412 _;
        utimes: 235 271 269 _;
        vfork: 58 190 190 _;
        vmsplice: 278 316 343 75;
        wait4: 61 114 114 260;
        waitid: 247 284 280 95;
        waitpid: _ 7 _ _;
        write: 1 4 4 64;
        writev: 20 146 146 66;
    }
    DAC_READ_SEARCH {
        open_by_handle_at: 304 342 371 265;
    }
    SYS_ADMIN {
        bpf: 321 357 386 280;
        fanotify_init: 300 338 367 262;
        fsconfig: 431 431 431 431;
        fsmount: 432 432 432 432;
        fsopen: 430 430 430 430;
        fspick: 433 433 433 433;
        lookup_dcookie: 212 253 249 18;
        lsm_get_self_attr: 459 459 459 459;
        lsm_list_modules: 461 461 461 461;
        lsm_set_self_attr: 460 460 460 460;
        mount: 165 21 21 40;
        mount_setattr: 442 442 442 442;
        move_mount: 429 429 429 429;
        open_tree: 428 428 428 428;
        perf_event_open: 298 336 364 241;
        quotactl: 179 131 131 60;
        quotactl_fd: 443 443 443 443;
        setdomainname: 171 121 121 162;
        sethostname: 170 74 74 161;
        setns: 308 346 375 268;
        syslog: 103 103 103 116;
        umount: _ 22 _ _;
        umount2: 166 52 52 39;
        unshare: 272 310 337 97;
    }
    SYS_BOOT {
        reboot: 169 88 88 142;
    }
    SYS_CHROOT {
        chroot: 161 61 61 51;
    }
    SYS_MODULE {
        delete_module: 176 129 129 106;
        finit_module: 313 350 379 273;
        init_module: 175 128 128 105;
    }
    SYS_PACCT {
        acct: 163 51 51 89;
    }
    SYS_PTRACE {
        kcmp: 312 349 378 272;
        pidfd_getfd: 438 438 438 438;
        process_madvise: 440 440 440 440;
    }
    SYS_RAWIO {
        ioperm: 173 101 _ _;
        iopl: 172 110 _ _;
    }
    SYS_TIME {
        clock_settime: 227 264 262 112;
        clock_settime64: _ 404 404 _;
        settimeofday: 164 79 79 170;
        stime: _ 25 _ _;
    }
    SYS_TTY_CONFIG {
        vhangup: 153 111 111 58;
    }
    SYS_NICE {
        get_mempolicy: 239 275 320 236;
        mbind: 237 274 319 235;
        set_mempolicy: 238 276 321 237;
        set_mempolicy_home_node: 450 450 450 450;
    }
    SYSLOG {
        syslog: 103 103 103 116;
    }
    BPF {
        bpf: 321 357 386 280;
    }
    PERFMON {
        perf_event_open: 298 336 364 241;
    }
}}

// What Docker's profile never allows, or has rules of its own for: only profiles of operators name
// these.
calls! { OTHERS OTHER_NAMES {
    ALWAYS {
        _sysctl: 156 149 149 _;
        add_key: 248 286 309 217;
        afs_syscall: 183 137 _ _;
        bdflush: _ 134 134 _;
        break: _ 17 _ _;
        clone: 56 120 120 220;
        clone3: 435 435 435 435;
        create_module: 174 127 _ _;
        file_getattr: 468 468 468 468;
        file_setattr: 469 469 469 469;
        ftime: _ 35 _ _;
        get_kernel_syms: 177 130 _ _;
        get_tls: _ _ 0xf0006 _;
        getpmsg: 181 188 _ _;
        gtty: _ 32 _ _;
        idle: _ 112 _ _;
        io_uring_enter: 426 426 426 426;
        io_uring_register: 427 427 427 427;
        io_uring_setup: 425 425 425 425;
        kexec_file_load: 320 _ 401 294;
        kexec_load: 246 283 347 104;
        keyctl: 250 288 311 219;
        lock: _ 53 _ _;
        migrate_pages: 256 294 400 238;
        move_pages: 279 317 344 239;
        mpx: _ 56 _ _;
        nfsservctl: 180 169 169 42;
        nice: _ 34 34 _;
        oldfstat: _ 28 _ _;
        oldlstat: _ 84 _ _;
        oldolduname: _ 59 _ _;
        oldstat: _ 18 _ _;
        olduname: _ 109 _ _;
        open_tree_attr: 467 467 467 467;
        pciconfig_iobase: _ _ 271 _;
        pciconfig_read: _ _ 272 _;
        pciconfig_write: _ _ 273 _;
        personality: 135 136 136 92;
        pivot_root: 155 217 218 41;
        prof: _ 44 _ _;
        profil: _ 98 _ _;
        putpmsg: 182 189 _ _;
        query_module: 178 167 _ _;
        readdir: _ 89 _ _;
        request_key: 249 287 310 218;
        security: 185 _ _ _;
        sgetmask: _ 68 _ _;
        sigaction: _ 67 67 _;
        signal: _ 48 _ _;
        sigpending: _ 73 73 _;
        sigsuspend: _ 72 72 _;
        socket: 41 359 281 198;
        ssetmask: _ 69 _ _;
        stty: _ 31 _ _;
        swapoff: 168 115 115 225;
        swapon: 167 87 87 224;
        sysfs: 139 135 135 _;
        tuxcall: 184 _ _ _;
        ulimit: _ 58 _ _;
        uselib: 134 86 86 _;
        userfaultfd: 323 374 388 282;
        usr26: _ _ 0xf0003 _;
        usr32: _ _ 0xf0004 _;
        ustat: 136 62 62 _;
        vm86: _ 166 _ _;
        vm86old: _ 113 _ _;
        vserver: 236 273 313 _;
    }
}}

/// Every name.
#[cfg(test)]
pub(super) fn all_names() -> impl Iterator<Item = &'static str> {
    NAMES.split(' ').chain(OTHER_NAMES.split(' ')).filter(|name| !name.is_empty())
}

/// x86-64 calls that have another number in the x32 table.
pub(super) const X32_DIFFERS: &[(u32, u32)] = &[
    (13, 512),
    (15, 513),
    (16, 514),
    (19, 515),
    (20, 516),
    (45, 517),
    (46, 518),
    (47, 519),
    (59, 520),
    (101, 521),
    (127, 522),
    (128, 523),
    (129, 524),
    (131, 525),
    (222, 526),
    (244, 527),
    (246, 528),
    (247, 529),
    (273, 530),
    (274, 531),
    (278, 532),
    (279, 533),
    (295, 534),
    (296, 535),
    (297, 536),
    (299, 537),
    (307, 538),
    (310, 539),
    (311, 540),
    (54, 541),
    (55, 542),
    (206, 543),
    (209, 544),
    (322, 545),
    (327, 546),
    (328, 547),
];

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, fs};

    use super::*;

    /// The numbers of a header of Debian's `linux-libc-dev`.
    fn header(name: &str) -> Option<BTreeMap<String, u32>> {
        let folder = "/usr/include/x86_64-linux-gnu/asm";
        let text = fs::read_to_string(format!("{folder}/{name}")).ok()?;
        let numbers = text.lines().filter_map(|line| {
            let (name, number) = line.strip_prefix("#define __NR_")?.split_once(' ')?;
            let number = number.trim_matches(['(', ')']);
            let number = number.strip_prefix("__X32_SYSCALL_BIT + ").unwrap_or(number);
            Some((name.to_owned(), number.parse().ok()?))
        });
        Some(numbers.collect())
    }

    #[test]
    fn every_call_of_the_kernels_headers_is_known_by_its_number() {
        type Column = fn(&Call) -> u32;
        let x32: Column = |call| {
            let differs = X32_DIFFERS.iter().find(|(usual, _)| *usual == call.x86_64);
            differs.map_or(call.x86_64, |(_, x32)| *x32)
        };
        let columns: [(&str, Column); 3] = [
            ("unistd_64.h", |call| call.x86_64),
            ("unistd_32.h", |call| call.x86),
            ("unistd_x32.h", x32),
        ];
        for (file, column) in columns {
            for (name, number) in header(file).unwrap_or_default() {
                // The profile has it for the 64 bits only, whose 32-bit one is of no use.
                if (file, name.as_str()) == ("unistd_32.h", "arch_prctl") {
                    continue;
                }
                let call = named(&name).unwrap_or_else(|| panic!("{file}: {name} is unknown"));
                assert_eq!(column(call), number, "{file}: {name}");
            }
        }
    }

    #[test]
    fn names_find_their_own_calls() {
        assert_eq!(named("read").map(|call| (call.x86_64, call.arm)), Some((0, 3)));
        assert_eq!(named("perf_event_open").map(|call| call.generic), Some(241));
        assert_eq!(named("vserver").map(|call| call.x86), Some(273));
        assert!(named("").is_none() && named("nope").is_none());
        assert_eq!(all_names().count(), CALLS.len() + OTHERS.len());
    }
}
