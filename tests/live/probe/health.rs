//! Health checks: what a probe sees of itself, and what becomes of the task.

use super::{Case, Image, Moment, case, ending};

/// A probe that looks at itself, once, and prints through the container's first process.
const LOOK: &str = "[ -e /dev/shm/seen ] || { touch /dev/shm/seen; sh /look > /proc/1/fd/1 2>&1; }";

/// Runs until it is told to stop.
const WAIT: &[&str] = &["sh", "-c", "trap 'exit 3' TERM; while :; do sleep 1000 & wait; done"];

pub(super) const CASES: &[Case] = &[
    case(
        "health",
        &["--health-cmd", LOOK, "--health-interval", "500ms", "--health-timeout", "30s"],
    )
    .words(WAIT)
    .moment(Moment::Running),
    case(
        "health-user",
        &[
            "--health-cmd",
            LOOK,
            "--health-interval",
            "500ms",
            "--health-timeout",
            "30s",
            "--user",
            "app",
            "--env",
            "A=b",
            "--workdir",
            "/home/app",
            "--cap-add",
            "NET_ADMIN",
            "--ulimit",
            "nofile=100",
            "--group",
            "extra",
            "--tty",
        ],
    )
    .words(WAIT)
    .moment(Moment::Running),
    ending("health-image", &[], WAIT).image(Image::Health).moment(Moment::Running),
    ending("health-image-other", &["--health-cmd", "exit 1"], WAIT).image(Image::Health),
    ending("health-image-off", &["--no-healthcheck"], WAIT)
        .image(Image::Health)
        .moment(Moment::Running),
    ending(
        "health-missing",
        &["--health-cmd", "/not/there", "--health-interval", "200ms", "--health-retries", "1"],
        WAIT,
    ),
    ending(
        "health-slow",
        &[
            "--health-cmd",
            "sleep 100",
            "--health-interval",
            "200ms",
            "--health-timeout",
            "1s",
            "--health-retries",
            "1",
        ],
        WAIT,
    ),
];
