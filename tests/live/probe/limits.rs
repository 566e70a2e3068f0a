//! Limits of processes and of control groups.

use super::{Case, case};

pub(super) const CASES: &[Case] = &[
    case(
        "ulimit",
        &["--ulimit", "nofile=512:1024", "--ulimit", "core=0", "--ulimit", "nproc=100:200"],
    ),
    case(
        "ulimit-all",
        &[
            "--ulimit",
            "cpu=100",
            "--ulimit",
            "data=-1",
            "--ulimit",
            "fsize=100000000",
            "--ulimit",
            "locks=10",
            "--ulimit",
            "memlock=65536:131072",
            "--ulimit",
            "msgqueue=1000",
            "--ulimit",
            "rss=1000000",
            "--ulimit",
            "rttime=1000000",
            "--ulimit",
            "sigpending=100",
            "--ulimit",
            "stack=8000000:16000000",
        ],
    ),
    case("ulimit-user", &["--user", "app", "--ulimit", "nofile=64", "--ulimit", "core=-1"]),
    case("limits", &["--limit-memory", "64M", "--limit-cpu", "0.5", "--limit-pids", "64"]),
    case("limit-cpu", &["--limit-cpu", "1.25"]),
    case("limit-memory-odd", &["--limit-memory", "33333333"]),
    case("reserve", &["--reserve-memory", "16M", "--reserve-cpu", "0.01"]),
    case(
        "reserve-and-limit",
        &[
            "--reserve-memory",
            "16M",
            "--limit-memory",
            "32M",
            "--reserve-cpu",
            "0.01",
            "--limit-cpu",
            "0.3",
        ],
    ),
    case("limit-init", &["--init", "--limit-pids", "32", "--ulimit", "nofile=100"])
        .meant(super::process::INIT),
];
