//! How tasks end or never begin: state, exit code, message and error.

use super::{Case, Image, Moment, case, ending};

pub(super) const CASES: &[Case] = &[
    ending("exit-0", &[], &["sh", "-c", "echo out; echo err >&2; exit 0"]).says("err"),
    ending("exit-1", &[], &["sh", "-c", "echo out; exit 1"]).says("out"),
    ending("exit-126", &[], &["sh", "-c", "exit 126"]),
    ending("exit-127", &[], &["not-there"]).image(Image::Rich),
    ending("exit-255", &[], &["sh", "-c", "exit 255"]),
    // The stack overflows: a fault that even a first process dies of.
    ending("exit-139", &[], &["sh", "-c", "f() { f; }; f"]),
    ending("exit-init-139", &["--init"], &["sh", "-c", "kill -SEGV $$"]),
    ending("exit-init-137", &["--init"], &["sh", "-c", "kill -KILL $$"]),
    ending("exit-self-kill", &[], &["sh", "-c", "kill -KILL $$; echo immortal; exit 7"])
        .says("immortal"),
    ending("oom", &["--limit-memory", "8M"], &["awk", "BEGIN { x = \"x\"; while (1) x = x x }"]),
    ending(
        "oom-child",
        &["--limit-memory", "16M"],
        &["sh", "-c", "awk 'BEGIN { x = \"x\"; while (1) x = x x }' || echo $?; exit 5"],
    )
    .says("137"),
    ending("pids", &["--limit-pids", "2"], &["sh", "-c", "true | true | true; exit 6"]),
    ending(
        "stop",
        &[],
        &["sh", "-c", "trap 'echo got TERM; exit 9' TERM; echo ready; while :; do sleep 0.1; done"],
    )
    .says("ready")
    .moment(Moment::Stopped),
    ending(
        "stop-deaf",
        &["--stop-grace-period", "1s"],
        &["sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.1; done"],
    )
    .says("ready")
    .moment(Moment::Stopped),
    ending(
        "stop-signal",
        &["--stop-signal", "SIGUSR2"],
        &["sh", "-c", "trap 'echo got USR2; exit 0' USR2; echo ready; while :; do sleep 0.1; done"],
    )
    .says("ready")
    .moment(Moment::Stopped),
    ending(
        "stop-signal-image",
        &["--entrypoint", "sh"],
        &["-c", "trap 'echo got USR1; exit 0' USR1; echo ready; while :; do sleep 0.1; done"],
    )
    .image(Image::Rich)
    .says("ready")
    .moment(Moment::Stopped),
    ending("stop-init", &["--init"], &["sh", "-c", "echo ready; exec sleep 1000"])
        .says("ready")
        .moment(Moment::Stopped),
    ending(
        "stop-now",
        &["--stop-grace-period", "0s"],
        &["sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.1; done"],
    )
    .says("ready")
    .moment(Moment::Stopped),
    ending("image-missing", &[], &[])
        .image(Image::Missing)
        .meant(&[("task: error ", "ours also says why it was not pulled, as Docker 29.7")]),
    ending("image-foreign", &[], &["true"]).image(Image::Foreign).meant(&[
        ("task: error ", "a program of another architecture can not run, so it is refused"),
        ("task: message ", "a program of another architecture can not run, so it is refused"),
        ("task: state ", "a program of another architecture can not run, so it is refused"),
    ]),
    ending("image-bare", &[], &[])
        .image(Image::Bare)
        .meant(&[("task: error ", "older Docker begins this text with a capital letter")]),
    ending("command-missing", &[], &["not-there", "x"]),
    ending("command-path-missing", &[], &["/not/there"]),
    ending("command-folder", &[], &["/data"]).meant(&[("task: error ", "ours says what is wrong")]),
    ending("command-not-executable", &[], &["/etc/passwd"]),
    ending("command-no-interpreter", &[], &["/odd"]).meant(&[
        ("task: error ", "runc 1.1 calls it started, and says why in the log only"),
        ("task: exit ", "runc 1.1 calls it started, and says why in the log only"),
        ("task: message ", "runc 1.1 calls it started, and says why in the log only"),
    ]),
    ending("command-no-format", &[], &["/plain"]).meant(&[
        ("task: error ", "runc 1.1 calls it started, and says why in the log only"),
        ("task: exit ", "runc 1.1 calls it started, and says why in the log only"),
        ("task: message ", "runc 1.1 calls it started, and says why in the log only"),
    ]),
    ending("command-empty", &["--entrypoint", ""], &[]),
    ending("command-init-missing", &["--init"], &["not-there"]).meant(&[
        ("task: error ", "our init looks for the program before the container counts as started"),
        ("task: message ", "our init looks for the program before the container counts as started"),
    ]),
    ending("command-user-forbidden", &["--user", "12345"], &["/data/folder/inner"])
        .meant(&[("task: error ", "ours leaves out the call that failed")]),
    ending("user-missing", &["--user", "nobody"], &["true"]),
    ending("user-group-missing", &["--user", "app:nobody"], &["true"]),
    ending("user-groups-missing", &["--group", "nobody"], &["true"])
        .meant(&[("task: error ", "older Docker begins this text with a capital letter")]),
    ending("user-too-large", &["--user", "4294967296"], &["true"]),
    ending("workdir-file", &["--workdir", "/etc/passwd"], &["true"]).meant(&[
        (
            "task: error ",
            "the folders of an image are looked at when the container starts, not when it is made",
        ),
        (
            "task: exit ",
            "the folders of an image are looked at when the container starts, not when it is made",
        ),
        (
            "task: message ",
            "the folders of an image are looked at when the container starts, not when it is made",
        ),
        (
            "task: state ",
            "the folders of an image are looked at when the container starts, not when it is made",
        ),
    ]),
    ending("workdir-relative", &["--workdir", "relative"], &["true"]),
    ending("workdir-forbidden", &["--workdir", "/data/folder", "--user", "12345"], &["true"]),
    ending("bind-missing", &["--mount", "type=bind,source=@dir/nothing,target=/data"], &["true"]),
    ending("bind-root", &["--mount", "type=bind,source=@dir/folder,target=/"], &["true"]),
    ending(
        "bind-file-on-folder",
        &["--mount", "type=bind,source=@dir/file,target=/data"],
        &["true"],
    )
    .meant(&[("task: error ", "runc tells the flags of its system call")]),
    ending(
        "bind-folder-on-file",
        &["--mount", "type=bind,source=@dir/folder,target=/etc/passwd"],
        &["true"],
    )
    .meant(&[("task: error ", "runc tells the flags of its system call")]),
    ending(
        "bind-shared",
        &["--mount", "type=bind,source=@dir/folder,target=/data,bind-propagation=shared"],
        &["true"],
    ),
    ending(
        "bind-rslave",
        &["--mount", "type=bind,source=@dir/folder,target=/data,bind-propagation=rslave"],
        &["true"],
    ),
    ending(
        "bind-in-proc",
        &["--mount", "type=bind,source=@dir/file,target=/proc/version"],
        &["true"],
    )
    .meant(&[("task: error ", "runc tells the flags of its system call")]),
    ending("mount-relative", &["--mount", "type=volume,target=data"], &["true"]),
    ending("volume-root", &["--mount", "type=volume,target=/"], &["true"]),
    ending("volume-name", &["--mount", "type=volume,source=a b,target=/data"], &["true"]),
    ending(
        "volume-option-bad",
        &["--mount", "type=volume,source=odd,target=/data,volume-driver=local,volume-opt=nope=1"],
        &["true"],
    )
    .meant(&[
        ("task: error ", "dockerd says the name of the volume, too"),
        ("task: message ", "refused before the image is fetched"),
    ]),
    ending("cap-unknown", &["--cap-add", "NOPE"], &["true"])
        .meant(&[("task: message ", "refused before the image is fetched")]),
    ending("cap-drop-unknown", &["--cap-drop", "NOPE"], &["true"])
        .meant(&[("task: message ", "refused before the image is fetched")]),
    ending("sysctl-unknown", &["--sysctl", "net.ipv4.nope=1"], &["true"]).meant(&[
        ("task: error ", "ours names the sysctl, runc its file"),
        ("task: exit ", "dockerd takes 127 for it, which is for programs not found"),
    ]),
    ending("sysctl-forbidden", &["--sysctl", "vm.swappiness=1"], &["true"]).meant(&[
        ("task: error ", "refused before anything is started"),
        ("task: exit ", "refused before anything is started"),
        ("task: message ", "refused before anything is started"),
        ("task: state ", "refused before anything is started"),
    ]),
    ending("sysctl-value", &["--sysctl", "net.core.somaxconn=lots"], &["true"])
        .meant(&[("task: error ", "ours names the sysctl, runc its file")]),
    ending(
        "sysctl-host-network",
        &["--network", "host", "--sysctl", "net.core.somaxconn=77"],
        &["true"],
    )
    .meant(&[
        ("task: error ", "refused before anything is started"),
        ("task: exit ", "refused before anything is started"),
        ("task: message ", "refused before anything is started"),
        ("task: state ", "refused before anything is started"),
    ]),
    ending("ulimit-too-high", &["--ulimit", "nofile=2000000000"], &["true"])
        .meant(&[("task: error ", "ours names the limit by its number")]),
    ending("limit-memory-small", &["--limit-memory", "5M"], &["true"])
        .meant(&[("task: message ", "refused before the image is fetched")]),
    ending("limit-cpu-many", &["--limit-cpu", "1000"], &["true"])
        .meant(&[("task: error ", "older Docker begins this text with a capital letter")]),
    ending("host-name-bad", &["--hostname", "under_score"], &["true"]),
    ending(
        "host-name-too-long",
        &["--hostname", "a-name-of-sixty-five-letters-is-longer-than-what-the-kernel-takes"],
        &["true"],
    )
    .meant(&[
        ("task: error ", "refused before anything is started"),
        ("task: exit ", "refused before anything is started"),
        ("task: message ", "refused before anything is started"),
        ("task: state ", "refused before anything is started"),
    ]),
    ending("isolation", &["--isolation", "process"], &["true"]).meant(&[
        ("task: error ", "ours says that it is of Windows"),
        ("task: message ", "refused before the image is fetched"),
    ]),
    ending("credential", &["--credential-spec", "file://x.json"], &["true"]).meant(&[
        ("task: error ", "ours says that it is of Windows"),
        ("task: message ", "refused before the image is fetched"),
    ]),
    ending("log-driver-none", &["--log-driver", "none"], &["sh", "-c", "echo unheard; exit 3"]),
    ending("log-driver-none-running", &["--log-driver", "none"], &["sleep", "1000"])
        .moment(Moment::Running),
    ending("secret-in-proc", &["--secret", "source=word,target=/proc/x"], &["true"])
        .meant(&[("task: error ", "dockerd tells its own folders, ours what is mounted")]),
    case("last", &[]).words(&["sh", "-c", "echo end: end"]),
];
