//! Files: volumes, bind mounts, tmpfs, the root file system, secrets and configs.

use super::{Case, Image, case};

pub(super) const CASES: &[Case] = &[
    case("read-only", &["--read-only"]),
    case(
        "read-only-mounts",
        &[
            "--read-only", "--mount", "type=tmpfs,target=/scratch", "--mount", "type=volume,target=/data",
            "--mount", "type=bind,source=@dir/folder,target=/home/app",
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
    ),
    case(
        "tmpfs-places",
        &["--mount", "type=tmpfs,target=/run", "--mount", "type=tmpfs,target=/dev/shm,tmpfs-size=65536"],
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
    ),
    case(
        "volume-nested",
        &["--mount", "type=volume,target=/data/folder", "--mount", "type=volume,target=/data"],
    ),
    case("image-volumes", &["--user", "root"]).image(Image::Rich),
    case(
        "image-volumes-replaced",
        &[
            "--mount", "type=tmpfs,target=/data", "--mount",
            "type=bind,source=@dir/folder,target=/made/by/image",
        ],
    )
    .image(Image::Rich),
    case("image-volumes-read-only", &["--read-only", "--workdir", "/tmp"]).image(Image::Rich),
    case("bind", &["--mount", "type=bind,source=@dir/folder,target=/data"]),
    case("bind-read-only", &["--mount", "type=bind,source=@dir/folder,target=/data,readonly"]),
    case(
        "bind-files",
        &[
            "--mount", "type=bind,source=@dir/file,target=/etc/passwd,readonly",
            "--mount", "type=bind,source=@dir/file,target=/new/file",
        ],
    ),
    case(
        "bind-own-names",
        &[
            "--mount", "type=bind,source=@dir/file,target=/etc/hosts",
            "--mount", "type=bind,source=@dir/file,target=/etc/resolv.conf,readonly",
        ],
    ),
    case(
        "bind-private",
        &["--mount", "type=bind,source=@dir/folder,target=/data,bind-propagation=private"],
    ),
    case(
        "bind-plain",
        &["--mount", "type=bind,source=@dir/folder,target=/data,bind-nonrecursive"],
    ),
    case("bind-device", &["--mount", "type=bind,source=/dev/zero,target=/dev/mine"]),
    case("bind-proc", &["--mount", "type=bind,source=/proc/self/status,target=/data/status,readonly"]),
    case("bind-sys", &["--mount", "type=bind,source=/sys/class,target=/data,readonly"]),
    case("secret", &["--secret", "word"]),
    case(
        "secret-options",
        &[
            "--secret", "source=word,target=other,uid=1000,gid=2000,mode=0400",
            "--secret", "source=word,target=/etc/deep/word,mode=0444", "--user", "app",
        ],
    ),
    case("config", &["--config", "site"]),
    case(
        "config-options",
        &[
            "--config", "source=site,target=/etc/site/a.conf,uid=1000,gid=2000,mode=0640",
            "--config", "source=site,target=plain", "--read-only",
        ],
    ),
    case(
        "payload-templates",
        &[
            "--env", "A={{.Task.Slot}}b", "--env", "B=plain", "--secret", "word",
            "--config", "source=site,target=/etc/site", "--config", "source=template,target=/etc/made",
            "--secret", "hidden",
        ],
    ),
    case(
        "payloads-in-volume",
        &[
            "--mount", "type=volume,target=/data", "--mount", "type=tmpfs,target=/run",
            "--secret", "word", "--config", "source=site,target=/data/site",
        ],
    ),
];
