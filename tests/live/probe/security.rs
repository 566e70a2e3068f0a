//! Rights: capabilities and the parameters of the kernel.

use super::{Case, case};

pub(super) const CASES: &[Case] = &[
    case("cap-add", &["--cap-add", "NET_ADMIN", "--cap-add", "CAP_SYS_NICE"]),
    case("cap-drop-one", &["--cap-drop", "NET_RAW", "--cap-drop", "cap_mknod"]),
    case("cap-drop", &["--cap-drop", "ALL", "--cap-add", "CHOWN"]),
    case("cap-drop-all", &["--cap-drop", "ALL"]),
    case(
        "cap-both",
        &["--cap-add", "SYS_ADMIN", "--cap-drop", "SYS_CHROOT", "--cap-add", "SYSLOG"],
    ),
    case("cap-user", &["--user", "app", "--cap-add", "SYS_PTRACE", "--cap-add", "NET_ADMIN"]),
    case("cap-all", &["--cap-add", "ALL", "--cap-drop", "SYS_TIME", "--cap-drop", "SYS_RESOURCE"])
        .meant(&[(
            "status: Cap",
            "Docker 20.10 does not know the newest three capabilities of the kernel",
        )]),
    case("cap-init", &["--init", "--cap-drop", "ALL", "--user", "app"]).meant(super::process::INIT),
    case("sysctl", &["--sysctl", "net.core.somaxconn=77", "--sysctl", "kernel.msgmax=4096"]),
    case(
        "sysctl-defaults",
        &[
            "--sysctl",
            "net.ipv4.ip_unprivileged_port_start=1024",
            "--sysctl",
            "net.ipv4.ping_group_range=1 0",
            "--sysctl",
            "fs.mqueue.msg_max=20",
            "--sysctl",
            "kernel.shm_rmid_forced=1",
            "--sysctl",
            "kernel.sem=100 32000 50 64",
            "--user",
            "app",
        ],
    ),
];
