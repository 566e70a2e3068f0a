//! Files: volumes, bind mounts, tmpfs, the root file system, secrets and configs.

use super::{Case, Image, case};

pub(super) const CASES: &[Case] = &[
    case("read-only", &["--read-only"]),
    case(
        "read-only-mounts",
        &[
            "--read-only",
            "--mount",
            "type=tmpfs,target=/scratch",
            "--mount",
            "type=volume,target=/data",
            "--mount",
            "type=bind,source=@dir/folder,target=/home/app",
        ],
    ),
    case("tmpfs", &["--mount", "type=tmpfs,target=/scratch"]),
    case(
        "tmpfs-options",
        &["--mount", "type=tmpfs,target=/scratch,tmpfs-size=1048576,tmpfs-mode=0700"],
    ),
    case(
        "tmpfs-sticky",
        &["--user", "app", "--mount", "type=tmpfs,target=/data,tmpfs-mode=1777,readonly"],
    )
    .meant(&[
        ("tree: drwx", "runc before 1.1.8 forgets tmpfs-mode where the image has the folder"),
        ("mount: /data tmpfs", "read-only is the mount, and here also its file system"),
    ]),
    case(
        "tmpfs-places",
        &[
            "--mount",
            "type=tmpfs,target=/run",
            "--mount",
            "type=tmpfs,target=/dev/shm,tmpfs-size=65536",
        ],
    ),
    case("volume", &["--mount", "type=volume,target=/data"]),
    case("volume-user", &["--user", "app", "--mount", "type=volume,target=/data/folder"]),
    case("volume-new", &["--mount", "type=volume,source=new,target=/not/there"]),
    case("volume-read-only", &["--mount", "type=volume,source=seen,target=/data,readonly"]),
    case("volume-nocopy", &["--mount", "type=volume,source=bare,target=/data,volume-nocopy"]),
    case(
        "volume-driver",
        &["--mount", "type=volume,source=driven,target=/data,volume-driver=local,volume-label=a=b"],
    ),
    case(
        "volume-options",
        &[
            "--mount",
            "type=volume,source=opts,target=/data,volume-driver=local,volume-opt=type=tmpfs,\
             volume-opt=device=tmpfs,\"volume-opt=o=size=1m,uid=1000\"",
        ],
    )
    .meant(&[("mount: /data ", "ours is also nosuid, nodev")]),
    case(
        "volume-nested",
        &["--mount", "type=volume,target=/data/folder", "--mount", "type=volume,target=/data"],
    ),
    case("image-volumes", &["--user", "root"]).image(Image::Rich),
    case(
        "image-volumes-replaced",
        &[
            "--mount",
            "type=tmpfs,target=/data",
            "--mount",
            "type=bind,source=@dir/folder,target=/made/by/image",
        ],
    )
    .image(Image::Rich)
    .meant(MODE),
    case("image-volumes-read-only", &["--read-only", "--workdir", "/tmp"]).image(Image::Rich),
    case("bind", &["--mount", "type=bind,source=@dir/folder,target=/bound"]),
    case("bind-read-only", &["--mount", "type=bind,source=@dir/folder,target=/bound,readonly"]),
    case(
        "bind-files",
        &[
            "--mount",
            "type=bind,source=@dir/file,target=/etc/passwd,readonly",
            "--mount",
            "type=bind,source=@dir/file,target=/new/file",
        ],
    ),
    case(
        "bind-own-names",
        &[
            "--mount",
            "type=bind,source=@dir/file,target=/etc/hosts",
            "--mount",
            "type=bind,source=@dir/file,target=/etc/resolv.conf,readonly",
        ],
    ),
    case(
        "bind-private",
        &["--mount", "type=bind,source=@dir/folder,target=/bound,bind-propagation=private"],
    ),
    case(
        "bind-plain",
        &["--mount", "type=bind,source=@dir/folder,target=/bound,bind-nonrecursive"],
    ),
    case("bind-device", &["--mount", "type=bind,source=/dev/zero,target=/dev/mine"]),
    case("bind-proc", &["--mount", "type=bind,source=/proc/version,target=/data/version,readonly"]),
    case("secret", &["--secret", "word"]).meant(PAYLOADS),
    case(
        "secret-options",
        &[
            "--secret",
            "source=word,target=other,uid=1000,gid=2000,mode=0400",
            "--secret",
            "source=sign,target=/etc/deep/word,mode=0444",
            "--user",
            "app",
        ],
    )
    .meant(PAYLOADS),
    case(
        "secret-twice",
        &["--secret", "source=word,target=a,mode=0400", "--secret", "source=word,target=b"],
    )
    .meant(&[
        (
            "tree: -r--",
            "dockerd keeps one file of a secret, and the last mode counts for all its names",
        ),
        ("mount: /run/secrets/", "ours is also nosuid, nodev, noexec"),
    ]),
    case("config", &["--config", "site"]).meant(PAYLOADS),
    case(
        "config-options",
        &[
            "--config",
            "source=site,target=/etc/site/a.conf,uid=1000,gid=2000,mode=0640",
            "--config",
            "source=page,target=plain",
            "--read-only",
        ],
    )
    .meant(PAYLOADS),
    case(
        "payload-templates",
        &[
            "--env",
            "A={{.Task.Slot}}b",
            "--env",
            "B=plain",
            "--secret",
            "word",
            "--config",
            "source=site,target=/etc/site",
            "--config",
            "source=template,target=/etc/made",
            "--secret",
            "hidden",
        ],
    )
    .meant(PAYLOADS),
    case(
        "payloads-in-volume",
        &[
            "--mount",
            "type=volume,target=/data",
            "--mount",
            "type=tmpfs,target=/run",
            "--secret",
            "word",
            "--config",
            "source=site,target=/data/site",
        ],
    )
    .meant(PAYLOADS),
];

const PAYLOADS: &[super::Meant] = &[
    ("mount: /run/secrets/", "ours is also nosuid, nodev, noexec"),
    ("mount: /etc/", "ours is also nosuid, nodev, noexec"),
    ("mount: /site", "ours is also nosuid, nodev, noexec"),
    ("mount: /plain", "ours is also nosuid, nodev, noexec"),
    ("mount: /data/site", "ours is also nosuid, nodev, noexec"),
];

pub(super) const MODE: &[super::Meant] = &[(
    "mount: /data tmpfs",
    "the mode of the image's folder stands in the options of ours, runc sets it afterwards",
)];
