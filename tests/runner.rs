//! The real runner on the real kernel: containers made of a static busybox, as root.
//!
//! The program under test is the built binary, which acts as shim. What a test needs from inside
//! a container is written by the container into a folder that is mounted from outside.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a test ends where something unexpected happens, and waits with a bound"
)]

#[path = "runner/bench.rs"]
mod bench;
#[path = "runner/cve.rs"]
mod cve;
#[path = "runner/health.rs"]
mod health;
#[path = "runner/seccomp.rs"]
mod seccomp;
#[path = "runner/terminal.rs"]
mod terminal;

use std::{fs, path::Path, time::Duration};

use bench::{Bench, until};
use edgeagent::{
    model::{
        BundleFile, BundleMount, Denied, MountKind, NetworkMode, Propagation, Rlimit, SecretBytes,
    },
    shim::{self, Shim},
};

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn a_container_runs_and_ends_with_its_code() {
    let bench = Bench::new("code");
    for code in [0, 3, 255] {
        let exit = bench.run(&bench.shell(&format!("exit {code}")));
        assert_eq!((exit.code, exit.start_error, exit.oom_killed), (code, None, false));
    }
    bench.nothing_is_left();
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn signals_and_grace_end_a_container_as_docker_does() {
    let bench = Bench::new("signals");
    // Killed from outside.
    let sleeper = bench.shell("exec sleep 1000");
    let shim = bench.start(&sleeper);
    smol::block_on(shim.kill());
    assert_eq!(smol::block_on(shim.wait()).code, 137);
    bench.remove(&sleeper);

    // Handles the signal.
    let polite =
        bench.shell("trap 'exit 143' TERM; echo up > /out/up; while :; do sleep 0.01; done");
    let shim = bench.start(&polite);
    until("trap", || bench.base.join("out/up").exists());
    smol::block_on(shim.stop(15, Some(10)));
    assert_eq!(smol::block_on(shim.wait()).code, 143);
    bench.remove(&polite);

    // As process 1 it does not even notice, until the grace is over.
    let deaf = bench.shell("exec sleep 1000");
    let shim = bench.start(&deaf);
    let begin = std::time::Instant::now();
    smol::block_on(shim.stop(15, Some(1)));
    assert_eq!(smol::block_on(shim.wait()).code, 137);
    assert!((Duration::from_secs(1)..Duration::from_secs(5)).contains(&begin.elapsed()));
    bench.remove(&deaf);

    // No grace at all.
    let deaf = bench.shell("exec sleep 1000");
    let shim = bench.start(&deaf);
    smol::block_on(shim.stop(15, Some(0)));
    assert_eq!(smol::block_on(shim.wait()).code, 137);
    bench.remove(&deaf);

    // With an init the signal reaches the program.
    let mut tini = bench.bundle(&["sleep", "1000"]);
    tini.init = true;
    let shim = bench.start(&tini);
    smol::block_on(shim.stop(15, None));
    assert_eq!(smol::block_on(shim.wait()).code, 143);
    bench.remove(&tini);
    bench.nothing_is_left();
}

/// What the image says of the folder itself, or twice, makes no other root.
#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn the_root_folder_is_roots_whatever_the_layers_say() {
    let bench = Bench::new("rootdir");
    for (mode, owner) in [(0o700, 5), (0o555, 0), (0o777, 6)] {
        let mut bundle = bench.shell("stat -c '%a %u:%g' / > /out/seen; exit 7");
        let top = bench.base.join(format!("top-{mode:o}"));
        fs::create_dir(&top).unwrap();
        std::os::unix::fs::chown(&top, Some(owner), Some(owner)).unwrap();
        fs::set_permissions(&top, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
        // The same layer again, next to itself and further up.
        let image = bundle.root.layers.clone();
        bundle.root.layers.extend([top.clone(), top.clone()]);
        // And by another path.
        let alias = bench.base.join(format!("alias-{mode:o}"));
        std::os::unix::fs::symlink(&top, &alias).unwrap();
        bundle.root.layers.push(alias);
        bundle.root.layers.extend(image);
        bundle.root.layers.push(top);
        assert_eq!(bench.run(&bundle).code, 7, "{mode:o}");
        assert_eq!(fs::read_to_string(bench.base.join("out/seen")).unwrap(), "755 0:0\n");
    }
    bench.nothing_is_left();
}

/// What a container keeps in its session's keyring is of no other container, and of no probe's
/// neighbour.
#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn keys_of_a_container_are_its_own() {
    let bench = Bench::new("keys");
    // KEYCTL_GET_KEYRING_ID of the session's keyring, which makes none; and a key in it.
    let script = format!(
        "perl -e 'my $k = syscall({call}, 0, -3, 0); my ($t, $n, $v) = (\"user\", \"edge\", \"secret\"); \
         my $a = syscall({add}, $t, $n, $v, 6, -3); my $f = syscall({call}, 10, -3, $t, my $m = $ARGV[0], 0); \
         print \"$k $a $f\\n\"' ",
        call = libc::SYS_keyctl,
        add = libc::SYS_add_key,
    );
    let run = |wanted: &str, out: &str| {
        let mut bundle = bench.shell(&format!("{script} {wanted} > /out/{out}; exec sleep 1000"));
        bundle.seccomp = edgeagent::model::Seccomp::Unconfined;
        bundle.env = vec!["PATH=/bin:/usr/bin".to_owned()];
        for folder in ["/usr", "/lib", "/lib64"] {
            if Path::new(folder).exists() {
                let real = fs::canonicalize(folder).unwrap();
                bundle.mounts.push(bind(real.to_str().unwrap(), folder, true));
            }
        }
        let shim = bench.start(&bundle);
        let path = bench.base.join("out").join(out);
        let numbers = || -> Option<Vec<i64>> {
            let text = fs::read_to_string(&path).ok()?;
            text.ends_with('\n')
                .then(|| text.split_whitespace().map(|number| number.parse().unwrap()).collect())
        };
        until("keys", || numbers().is_some());
        (shim, bundle, numbers().unwrap())
    };
    let (first, one, keys) = run("edge", "first");
    assert!(
        keys.iter().all(|key| 0 < *key) && keys[1] == keys[2],
        "its own key is found: {keys:?}"
    );
    let (second, two, others) = run("other", "second");
    assert_ne!(keys[0], others[0], "a keyring of its own");
    assert_ne!(keys[1], others[1]);
    assert_eq!(others[2], -1, "no key that it has not made");
    for (shim, bundle) in [(first, one), (second, two)] {
        smol::block_on(shim.kill());
        smol::block_on(shim.wait());
        bench.remove(&bundle);
    }
    bench.nothing_is_left();
}

/// What an image has where the container gets something else.
#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn odd_things_in_place_of_folders_and_names_are_replaced() {
    let bench = Bench::new("odd");
    let image = bench.base.join("image");
    for round in 0..3 {
        for name in ["proc", "sys", "dev", "etc/hosts", "etc/hostname", "etc/resolv.conf"] {
            let path = image.join(name);
            edgeagent::files::remove_tree(&path).unwrap();
            let target = path.file_name().unwrap();
            match round {
                // In a circle; nowhere; a pipe that nobody writes to.
                0 => std::os::unix::fs::symlink(target, &path).unwrap(),
                1 => std::os::unix::fs::symlink("/no/where", &path).unwrap(),
                _ => rustix::fs::mknodat(
                    rustix::fs::CWD,
                    &path,
                    rustix::fs::FileType::Fifo,
                    rustix::fs::Mode::RWXU,
                    0,
                )
                .unwrap(),
            }
        }
        let mut bundle = bench.bundle(&[]);
        let text = bench.output(
            &mut bundle,
            "cat /etc/hostname; tail -n 1 /etc/resolv.conf; ls /proc/self/comm /sys/fs /dev/null; \
             grep -c extra /etc/hosts; ls -l /etc/hosts | cut -c 1",
        );
        assert!(text.starts_with("box\nnameserver 192.0.2.53\n"), "{round}: {text}");
        assert!(text.ends_with("1\n-\n"), "{round}: {text}");
        let kept = fs::symlink_metadata(image.join("proc")).unwrap();
        assert!(!kept.is_dir(), "the image keeps what it has");
    }
    bench.nothing_is_left();
}

/// A device or a name that a container can change is its own (chmod, filling), and so are its keys.
#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn nothing_of_the_hosts_is_within_a_containers_reach() {
    let bench = Bench::new("reach");
    let mode = |path: &str| {
        let data = fs::metadata(path).unwrap();
        (std::os::unix::fs::MetadataExt::mode(&data), std::os::unix::fs::MetadataExt::gid(&data))
    };
    let before = mode("/dev/null");
    let bundle = bench.shell(
        "chmod 0766 /dev/stdin && chgrp 5 /proc/self/fd/0 && cat < /dev/stdin > /out/read; \
         dd if=/dev/zero bs=64k count=64 >> /etc/hosts 2> /dev/null; wc -c < /etc/hosts > /out/size",
    );
    assert_eq!(bench.run(&bundle).code, 0);
    assert_eq!(mode("/dev/null"), before, "the host's null device");
    assert_eq!(fs::read(bench.base.join("out/read")).unwrap(), b"");
    let size = fs::read_to_string(bench.base.join("out/size")).unwrap();
    assert!(size.trim().parse::<u32>().unwrap() <= 1 << 20, "{size}");

    fs::set_permissions(
        bench.base.join("out"),
        std::os::unix::fs::PermissionsExt::from_mode(0o777),
    )
    .unwrap();
    for user in ["", "bob"] {
        let mut named =
            bench.shell("cat /proc/1/comm > /out/comm; cat /proc/1/cmdline > /out/line; exit 7");
        (named.init, named.user) = (true, user.to_owned());
        assert_eq!(bench.run(&named).code, 7);
        let written = |name| fs::read_to_string(bench.base.join("out").join(name)).unwrap();
        assert_eq!(written("comm"), "docker-init\n");
        let line = written("line");
        // As long as the room that the shim's own arguments have, which its place decides.
        let (wanted, cut) = ("/sbin/docker-init\0--\0/bin/sh\0", line.trim_end_matches('\0'));
        assert!(line.starts_with(wanted) || wanted.starts_with(cut), "{line:?}");
        assert!(line.starts_with("/sbin/docker-init\0"), "{line:?}");
        assert!(!line.contains("edgeagent"), "{line:?}");
        for name in ["comm", "line"] {
            fs::remove_file(bench.base.join("out").join(name)).unwrap();
        }
    }
    bench.nothing_is_left();
}

/// `admission.users` is about who the process really is.
#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn an_image_makes_nobody_of_another_number() {
    let bench = Bench::new("admitted");
    let etc = bench.base.join("image/etc");
    fs::create_dir_all(&etc).unwrap();
    fs::write(etc.join("passwd"), "1000:x:0:0::/:\n1001:x:1001:0::/:\napp:x:1002:1002::/:\n")
        .unwrap();
    fs::write(etc.join("group"), "root:x:0:app\napp:x:1002:\nlow:x:5:\n").unwrap();
    for (user, group, refused) in [
        ("1000", "", "user 0"),
        ("1001", "", "group 0"),
        ("app", "", "group 0"),
        ("1500", "", "group 0"),
        ("1500:low", "", "group 5"),
        ("1500:1500", "low", "group 5"),
        ("1500:1500", "", ""),
        ("app:app", "", ""),
    ] {
        let mut bundle = bench.bundle(&["true"]);
        bundle.user = String::from(user);
        bundle.groups = if group.is_empty() { vec![] } else { vec![String::from(group)] };
        bundle.users = Some(vec![(1000, 1999)]);
        let exit = bench.run(&bundle);
        let error = exit.start_error.unwrap_or_default();
        assert_eq!(error.is_empty(), refused.is_empty(), "{user}: {error}");
        assert!(error.contains(refused), "{user}: {error}");
        assert!(refused.is_empty() || error.contains("admission.users"), "{error}");
    }
    bench.nothing_is_left();
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn a_test_that_fails_leaves_nothing_behind() {
    let seen = std::cell::Cell::new(None);
    let failed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let bench = Bench::new("failed");
        let _running = bench.start(&bench.shell("exec sleep 1000"));
        let starting = bench.spawn(&bench.shell("exec sleep 1000"));
        drop(starting);
        seen.set(Some((bench.base.clone(), bench.cgroups())));
        panic!("this is the failure that is meant");
    }));
    assert!(failed.is_err());
    let (base, groups) = seen.into_inner().unwrap();
    assert!(!groups.is_empty(), "there was something to leave");
    until("end of all processes", || bench::processes("failed").is_empty());
    assert!(!base.exists());
    assert!(groups.iter().all(|group| !group.exists()), "{groups:?}");
}

/// What a container prints costs its shim no more than the container may use itself.
#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn a_container_with_little_of_the_processor_keeps_its_shim_as_quiet() {
    let bench = Bench::new("pace");
    // Both its output and that of a probe.
    for probed in [false, true] {
        let mut bundle = bench.shell(if probed { "exec sleep 1000" } else { "exec yes" });
        bundle.nano_cpus = Some(50_000_000);
        if probed {
            bundle.health = Some(bench::check(&["/bin/busybox", "yes"], 1));
        }
        let shim = bench.start(&bundle);
        let used = || -> u64 {
            let of = |process: &std::path::PathBuf| {
                let stat = fs::read_to_string(process.join("stat")).unwrap_or_default();
                let fields: Vec<u64> = stat
                    .rsplit_once(") ")
                    .map(|(_, fields)| fields.split(' ').filter_map(|f| f.parse().ok()).collect())
                    .unwrap_or_default();
                // utime and stime, in hundredths of a second; the state is no number.
                fields.get(10).zip(fields.get(11)).map_or(0, |(user, system)| user + system)
            };
            bench::processes("pace").iter().map(of).sum()
        };
        let (begin, before) = (std::time::Instant::now(), used());
        std::thread::sleep(Duration::from_secs(4));
        let (taken, elapsed) = (used() - before, begin.elapsed());
        // A twentieth, and one second's worth that was saved: 0.25 s; much above is the fault.
        let most = u64::try_from(elapsed.as_millis()).unwrap() / 100 + 10;
        assert!(taken < most, "{taken} hundredths of a second in {elapsed:?}, probed: {probed}");
        // It hears what it is told all the same.
        let begin = std::time::Instant::now();
        smol::block_on(shim.stop(15, Some(0)));
        assert_eq!(smol::block_on(shim.wait()).code, 137);
        assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
        bench.remove(&bundle);
    }
    bench.nothing_is_left();
}

/// A shim that will start nothing more keeps the right to end processes, and the calls for it.
#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn a_shim_gives_up_what_it_has_no_use_for() {
    let bench = Bench::new("rightless");
    fs::set_permissions(
        bench.base.join("out"),
        std::os::unix::fs::PermissionsExt::from_mode(0o777),
    )
    .unwrap();
    let held = |field: &str| {
        let shims = bench::processes("rightless");
        let text = fs::read_to_string(shims.first().unwrap().join("status")).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(field)).unwrap();
        line.trim().to_owned()
    };
    for (tty, user) in [(false, "bob"), (true, "bob"), (false, "")] {
        let script = "trap 'exit 9' TERM; i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); \
                      done; echo > /out/printed; while :; do sleep 0.01; done";
        let mut bundle = bench.shell(script);
        (bundle.tty, bundle.user) = (tty, user.to_owned());
        // Small enough to go round.
        bundle.log_max_bytes = 32 << 10;
        let shim = bench.start(&bundle);
        until("output", || bench.base.join("out/printed").exists());
        until("rights", || held("CapEff:") == "0000000000000020");
        assert_eq!(
            (held("CapPrm:").as_str(), held("Seccomp:").as_str()),
            ("0000000000000020", "2")
        );
        let last = || {
            let segments = fs::read_dir(bundle.dir.join("log")).unwrap().flatten();
            segments
                .map(|file| fs::read(file.path()).unwrap())
                .any(|bytes| bytes.windows(9).any(|part| part == b"line 2999"))
        };
        until("last line", last);
        // Another process of the task hears of it as well.
        let again = Shim::attach(&bundle.dir).unwrap();
        smol::block_on(again.started()).unwrap();
        assert!(!bench.cgroups().is_empty());
        smol::block_on(again.stop(15, Some(20)));
        assert_eq!(smol::block_on(shim.wait()).code, 9);
        assert!(bundle.dir.join("exit").exists());
        assert_eq!(bench.cgroups(), Vec::<std::path::PathBuf>::new(), "by the shim itself");
        bench.remove(&bundle);
        fs::remove_file(bench.base.join("out/printed")).unwrap();
    }
    // One that probes keeps what a probe may need.
    let mut bundle = bench.shell("exec sleep 1000");
    bundle.health = Some(bench::check(&["/bin/true"], 1));
    let shim = bench.start(&bundle);
    assert_eq!(held("Seccomp:"), "0");
    smol::block_on(shim.kill());
    assert_eq!(smol::block_on(shim.wait()).code, 137);
    bench.remove(&bundle);
    bench.nothing_is_left();
}

/// Folders in folders cost their maker nothing; removing them must not cost us a descriptor or a
/// stack frame each.
#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn a_container_that_nests_folders_is_removed() {
    let bench = Bench::new("nested");
    let script = "mkdir /top; cd /top; i=0; while [ $i -lt 3000 ]; do mkdir d && cd d; i=$((i+1)); \
                  done 2>/dev/null; echo $i > /out/levels";
    let bundle = bench.shell(script);
    assert_eq!(bench.run(&bundle).code, 0);
    assert_eq!(fs::read_to_string(bench.base.join("out/levels")).unwrap(), "3000\n");
    bench.nothing_is_left();
}

/// What resists is told with its path, keeps nothing else, and goes when it can.
#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn files_that_cannot_be_removed_are_told_and_keep_nothing_else() {
    let bench = Bench::new("stuck");
    let bundle = bench.shell("mkdir -p /a/held /b/c; touch /a/file /b/file; exec sleep 1000");
    let shim = bench.start(&bundle);
    let upper = bundle.root.writable.join("upper");
    until("files", || upper.join("b/file").exists());
    smol::block_on(shim.kill());
    smol::block_on(shim.wait());
    let held = upper.join("a/held");
    let mounted = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "held", held.to_str().unwrap()])
        .status()
        .unwrap();
    assert!(mounted.success());
    for _ in 0..2 {
        let left = shim::remove(&bundle.dir, &bundle.root.writable).unwrap_err();
        assert!(matches!(left, shim::Left::Files(_)), "{left:?}");
        assert!(left.to_string().contains("a/held"), "{left}");
        assert!(!upper.join("a/file").exists() && !upper.join("b").exists());
    }
    rustix::mount::unmount(&held, rustix::mount::UnmountFlags::empty()).unwrap();
    bench.remove(&bundle);
    bench.nothing_is_left();
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn an_init_reaps_orphans_and_passes_the_code_on() {
    let bench = Bench::new("init");
    let mut bundle = bench.shell(
        "(sleep 0.05 & ) ; sleep 0.3; \
         for p in /proc/[0-9]*; do cat $p/stat; done > /out/stat; \
         cat /proc/1/exe > /out/exe; ls -l /proc/1/fd > /out/fds; exit 7",
    );
    bundle.init = true;
    assert_eq!(bench.run(&bundle).code, 7);
    let stat = fs::read_to_string(bench.base.join("out/stat")).unwrap();
    assert!(!stat.contains(") Z "), "{stat}");
    // Our binary can not be read, and init holds nothing open.
    assert_eq!(fs::read(bench.base.join("out/exe")).unwrap(), b"");
    assert_eq!(fs::read_to_string(bench.base.join("out/fds")).unwrap().trim(), "total 0");
    bench.nothing_is_left();
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn a_program_that_can_not_run_says_why() {
    let bench = Bench::new("missing");
    fs::write(bench.base.join("image/bin/plain"), "no program").unwrap();
    for (name, text) in
        [("script", "#!/bin/bash\n"), ("dos", "#!/bin/sh\r\n"), ("outer", "#! /bin/script -x\n")]
    {
        let path = bench.base.join("image/bin").join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    }
    for (argv, user, code, text) in [
        ("nope", "", 127, "exec: \"nope\": executable file not found in $PATH"),
        ("/nope", "", 127, "exec: \"/nope\": stat /nope: no such file or directory"),
        ("/bin/plain", "", 126, "exec: \"/bin/plain\": permission denied"),
        ("/etc", "", 126, "exec: \"/etc\": is a directory"),
        ("true", "bob2", 128, "unable to find user bob2: no matching entries in passwd file"),
        (
            "/bin/script",
            "",
            127,
            "exec: \"/bin/script\": its interpreter \"/bin/bash\" is not in the image",
        ),
        (
            "/bin/dos",
            "",
            127,
            "exec: \"/bin/dos\": its interpreter \"/bin/sh\\r\" is not in the image",
        ),
        (
            "/bin/outer",
            "",
            127,
            "exec: \"/bin/outer\": its interpreter \"/bin/bash\" is not in the image",
        ),
    ] {
        let mut bundle = bench.bundle(&[argv]);
        user.clone_into(&mut bundle.user);
        let shim = bench.spawn(&bundle);
        let error = smol::block_on(shim.started()).unwrap_err();
        // Docker's words, and then what to do where that is not said by them.
        assert!(error.message.starts_with(text), "{}", error.message);
        let exit = smol::block_on(shim.wait());
        assert_eq!((exit.code, exit.start_error), (code, Some(error.message)));
        bench.remove(&bundle);
    }
    let mut bundle = bench.bundle(&["/nope"]);
    bundle.init = true;
    assert_eq!(
        bench.run(&bundle).start_error.unwrap(),
        "exec: \"/nope\": stat /nope: no such file or directory"
    );
    let mut bundle = bench.bundle(&["true"]);
    bundle.mounts.push(bind("/nonexistent/source", "/target", false));
    let error = smol::block_on(bench.spawn(&bundle).started()).unwrap_err().message;
    assert!(error.contains("/nonexistent/source") && error.contains("/target"), "{error}");
    bench.remove(&bundle);
    bench.nothing_is_left();
}

fn bind(source: &str, target: &str, read_only: bool) -> BundleMount {
    BundleMount {
        kind: MountKind::Bind {
            source: source.into(),
            propagation: Propagation::RPrivate,
            recursive: true,
            populate: false,
            denied: Denied::default(),
        },
        target: target.to_owned(),
        read_only,
    }
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn a_program_gets_its_arguments_environment_folder_and_user() {
    let bench = Bench::new("process");
    let mut bundle = bench.bundle(&[]);
    bundle.env.push("WORD=a b".to_owned());
    bundle.cwd = "/made/for/it".to_owned();
    bundle.user = "bob".to_owned();
    bundle.groups = vec!["500".to_owned()];
    // Its output folder belongs to root.
    fs::set_permissions(
        bench.base.join("out"),
        std::os::unix::fs::PermissionsExt::from_mode(0o777),
    )
    .unwrap();
    let text = bench.output(
        &mut bundle,
        "pwd; id; echo $WORD $HOME; cat /proc/self/cmdline | tr '\\0' '|'; stat -c '%u %a' /made; \
         hostname",
    );
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("/made/for/it"));
    assert_eq!(
        lines.next(),
        Some("uid=1000(bob) gid=1001(bob) groups=29(audio),500,1001(bob)"),
        "{text}"
    );
    assert_eq!(lines.next(), Some("a b /home/bob"));
    assert_eq!(lines.next(), Some("cat|/proc/self/cmdline|0 755"));
    assert_eq!(lines.next(), Some("box"));
    // The pipes that we made belong to the user, who can open them anew.
    let mut bundle = bench.shell("echo x > /dev/stdout && echo x > /dev/stderr");
    bundle.user = "bob".to_owned();
    assert_eq!(bench.run(&bundle).code, 0);
    bench.nothing_is_left();
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn rights_are_dockers_default() {
    let bench = Bench::new("rights");
    let mut bundle = bench.bundle(&[]);
    let keys = "grep -E '^(Cap|Seccomp:|NoNewPrivs)' /proc/1/status | tr '\\t' ' '";
    let text = bench.output(&mut bundle, keys);
    assert_eq!(
        text,
        "CapInh: 0000000000000000\nCapPrm: 00000000a80425fb\nCapEff: 00000000a80425fb\n\
         CapBnd: 00000000a80425fb\nCapAmb: 0000000000000000\nNoNewPrivs: 0\nSeccomp: 2\n"
    );
    // Not root: nothing but the bound; and no new privileges.
    let mut bundle = bench.bundle(&[]);
    bundle.user = "1000".to_owned();
    bundle.no_new_privileges = true;
    fs::set_permissions(
        bench.base.join("out"),
        std::os::unix::fs::PermissionsExt::from_mode(0o777),
    )
    .unwrap();
    fs::remove_file(bench.base.join("out/text")).unwrap();
    let text = bench.output(&mut bundle, keys);
    assert_eq!(
        text,
        "CapInh: 0000000000000000\nCapPrm: 0000000000000000\nCapEff: 0000000000000000\n\
         CapBnd: 00000000a80425fb\nCapAmb: 0000000000000000\nNoNewPrivs: 1\nSeccomp: 2\n"
    );
    // What the filter refuses, and what the device rules refuse.
    let mut bundle = bench.bundle(&[]);
    let text = bench.output(
        &mut bundle,
        "unshare -U true; echo $?; unshare -m true; echo $?; \
         mknod /kmsg c 1 11; cat /kmsg; echo $?; cat /dev/null; echo $?; \
         mount -t tmpfs x /tmp; echo $?",
    );
    assert_eq!(
        text.matches("not permitted").count() + text.matches("permission denied").count(),
        4,
        "{text}"
    );
    bench.nothing_is_left();
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn limits_are_in_the_control_groups() {
    let bench = Bench::new("limits");
    let mut bundle = bench.shell("sleep 1000");
    bundle.memory_bytes = Some(64 << 20);
    bundle.nano_cpus = Some(500_000_000);
    bundle.pids = Some(50);
    bundle.oom_score_adj = 321;
    // RLIMIT_NOFILE.
    bundle.rlimits = vec![Rlimit { resource: 7, soft: 512, hard: 1024 }];
    let shim = bench.spawn(&bundle);
    let started = smol::block_on(shim.started()).unwrap();
    let groups = bench.cgroups();
    let value = |v1: &str, v2: &str| {
        let found = groups.iter().flat_map(|g| [g.join(v1), g.join(v2)]);
        let texts: Vec<String> = found.filter_map(|f| fs::read_to_string(f).ok()).collect();
        texts.first().cloned().unwrap_or_default().trim().to_owned()
    };
    assert_eq!(value("memory.limit_in_bytes", "memory.max"), (64 << 20).to_string());
    let quota = value("cpu.cfs_quota_us", "cpu.max");
    assert!(quota == "50000" || quota == "50000 100000", "{quota}");
    assert_eq!(value("pids.max", "pids.max"), "50");
    let proc = |name: &str| fs::read_to_string(format!("/proc/{}/{name}", started.pid)).unwrap();
    assert_eq!(proc("oom_score_adj").trim(), "321");
    let files = proc("limits");
    let files = files.lines().find(|l| l.starts_with("Max open files")).unwrap();
    assert_eq!(files.split_whitespace().skip(3).take(2).collect::<Vec<_>>(), ["512", "1024"]);
    // Every process of the container is in every group of it, and sees itself at the top.
    let lines = proc("cgroup");
    assert!(lines.lines().filter(|l| l.contains(bundle.container.as_str())).count() >= 1);
    smol::block_on(shim.kill());
    smol::block_on(shim.wait());
    bench.remove(&bundle);
    bench.nothing_is_left();
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn a_container_that_eats_its_memory_is_reported_as_such() {
    let bench = Bench::new("oom");
    let mut bundle = bench.shell("exec cat /dev/zero | exec tail -c 200000000 > /dev/null");
    bundle.argv = ["/bin/busybox", "tail", "-c", "200000000", "/dev/zero"].map(String::from).into();
    bundle.memory_bytes = Some(16 << 20);
    let exit = bench.run(&bundle);
    assert_eq!((exit.code, exit.oom_killed), (137, true));
    bench.nothing_is_left();
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn the_file_systems_are_dockers() {
    let bench = Bench::new("mounts");
    let mut bundle = bench.bundle(&[]);
    let text = bench.output(
        &mut bundle,
        "cat /proc/mounts; ls -l /dev; cat /etc/hosts /etc/hostname /etc/resolv.conf",
    );
    for line in [
        "proc /proc proc rw,nosuid,nodev,noexec,relatime 0 0",
        "tmpfs /dev tmpfs rw,nosuid,size=65536k,mode=755",
        "devpts /dev/pts devpts rw,nosuid,noexec,relatime,gid=5,mode=620,ptmxmode=666 0 0",
        "sysfs /sys sysfs ro,nosuid,nodev,noexec,relatime 0 0",
        "mqueue /dev/mqueue mqueue rw,nosuid,nodev,noexec,relatime 0 0",
        "tmpfs /dev/shm tmpfs rw,nosuid,nodev,noexec,relatime,size=65536k",
        "proc /proc/sys proc ro,nosuid,nodev,noexec,relatime 0 0",
        "tmpfs /proc/acpi tmpfs ro",
        "tmpfs /proc/keys tmpfs rw,nosuid,size=65536k,mode=755",
        "tmpfs /sys/firmware tmpfs ro",
        " -> /proc/self/fd/1",
        "pts/ptmx",
        "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n",
        "10.0.0.1\textra\nbox\nnameserver 192.0.2.53\n",
    ] {
        let known = line
            .split(' ')
            .nth(1)
            .is_some_and(|p| p.starts_with("/proc/acpi") || p.starts_with("/sys/firmware"));
        let there = !known || Path::new(line.split(' ').nth(1).unwrap()).exists();
        assert!(!there || text.contains(line), "{line} not in\n{text}");
    }
    // Nothing of the host's tree shines through.
    assert!(!text.contains("edgeagent-runner-") || text.matches("edgeagent-runner-").count() <= 2);

    let mut bundle = bench.bundle(&[]);
    let text = bench.output(
        &mut bundle,
        "echo x > /proc/sys/kernel/hostname; echo x > /proc/sysrq-trigger; cat /proc/kcore; \
         echo x > /sys/kernel/mm/ksm/run; ls /proc/scsi /sys/firmware; \
         ls /proc/self/fd; ls -l /dev/fd; ip addr show lo 2>/dev/null; \
         cat /proc/self/cgroup; ls /sys/fs/cgroup; mkdir /sys/fs/cgroup/x; true",
    );
    assert!(text.matches("Read-only file system").count() >= 3, "{text}");
    assert!(!text.contains(&bundle.cgroup_parent), "{text}");
    bench.nothing_is_left();
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn no_descriptor_of_ours_reaches_the_program() {
    let bench = Bench::new("fds");
    let mut bundle = bench.bundle(&[]);
    // 0, 1, 2, and the folder that ls reads.
    let text = bench.output(&mut bundle, "exec ls /proc/self/fd");
    assert_eq!(text, "0\n1\n2\n3\n");
    bench.nothing_is_left();
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn a_read_only_root_is_read_only_and_its_mounts_keep_their_mode() {
    let bench = Bench::new("readonly");
    let mut bundle = bench.bundle(&[]);
    bundle.root.read_only = true;
    bundle.mounts.push(bind(bench.base.join("out").to_str().unwrap(), "/out-ro", true));
    bundle.mounts.push(BundleMount {
        kind: MountKind::Tmpfs {
            size_bytes: Some(1 << 20),
            mode: Some(0o700),
            exec: false,
            owner: None,
        },
        target: "/scratch".to_owned(),
        read_only: false,
    });
    let text = bench.output(
        &mut bundle,
        "touch /x; touch /etc/hosts; touch /out-ro/x; touch /out/y /scratch/z /dev/shm/z; \
         grep scratch /proc/mounts; stat -c %a /scratch",
    );
    assert_eq!(text.matches("Read-only file system").count(), 3, "{text}");
    assert!(
        text.contains("tmpfs /scratch tmpfs rw,nosuid,nodev,noexec,relatime,size=1024k,mode=700")
    );
    assert!(text.ends_with("700\n"), "{text}");
    assert!(bench.base.join("out/y").exists());
    bench.nothing_is_left();
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn volumes_are_made_filled_and_deleted_when_anonymous() {
    let bench = Bench::new("volumes");
    let volume = |name: &str, anonymous| BundleMount {
        kind: MountKind::Volume {
            source: bench.base.join("volumes").join(name).join("data"),
            subpath: String::new(),
            populate: true,
            anonymous,
        },
        target: "/data".to_owned(),
        read_only: false,
    };
    let image = bench.base.join("image/data");
    std::os::unix::fs::chown(image.join("below"), Some(1000), Some(29)).unwrap();
    fs::hard_link(image.join("below/seed"), image.join("again")).unwrap();
    for (path, attribute) in [("below", "user.folder"), ("below/seed", "user.file")] {
        let none = rustix::fs::XattrFlags::empty();
        rustix::fs::setxattr(image.join(path), attribute, b"kept", none).unwrap();
    }
    for round in 0..2 {
        let mut bundle = bench.bundle(&[]);
        bundle.mounts.push(volume("named", false));
        let text = bench.output(
            &mut bundle,
            "cat /data/below/seed /data/below/mine; stat -c '%u %g' /data/below; echo kept > /data/below/mine",
        );
        let kept = if round == 0 {
            "cat: can't open '/data/below/mine': No such file or directory\n"
        } else {
            "kept\n"
        };
        assert_eq!(text, format!("from the image{kept}1000 29\n"));
    }
    let filled = bench.base.join("volumes/named/data");
    assert!(filled.join("below/mine").exists());
    let number =
        |name: &str| std::os::unix::fs::MetadataExt::ino(&fs::metadata(filled.join(name)).unwrap());
    assert_eq!(number("again"), number("below/seed"), "a hard link stays one");
    for (path, attribute) in [("below", "user.folder"), ("below/seed", "user.file")] {
        let mut value = [0; 8];
        let size = rustix::fs::getxattr(filled.join(path), attribute, &mut value).unwrap();
        assert_eq!(value.get(..size).unwrap(), b"kept", "{attribute}");
    }
    assert_eq!(rustix::fs::listxattr_query(&filled).unwrap(), 0, "nothing of overlay's own");
    let mut bundle = bench.bundle(&[]);
    bundle.mounts.push(volume("anonymous", true));
    bench.output(&mut bundle, "cat /data/below/seed");
    assert!(!bench.base.join("volumes/anonymous/data").exists());
    bench.nothing_is_left();
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn a_volume_without_room_for_the_image_says_so_and_stays_empty() {
    let bench = Bench::new("full");
    fs::write(bench.base.join("image/data/large"), vec![1; 1 << 20]).unwrap();
    let full = bench.base.join("full");
    fs::create_dir(&full).unwrap();
    let flags = rustix::mount::MountFlags::empty();
    rustix::mount::mount("tmpfs", &full, "tmpfs", flags, c"size=64k").unwrap();
    let mut bundle = bench.bundle(&["true"]);
    bundle.mounts.push(BundleMount {
        kind: MountKind::Volume {
            source: full.join("data"),
            subpath: String::new(),
            populate: true,
            anonymous: false,
        },
        target: "/data".to_owned(),
        read_only: false,
    });
    let exit = bench.run(&bundle);
    let left = fs::read_dir(full.join("data")).unwrap().count();
    rustix::mount::unmount(&full, rustix::mount::UnmountFlags::DETACH).unwrap();
    let error = exit.start_error.unwrap();
    assert!(error.contains("/data/large") && error.contains("no space left"), "{error}");
    assert!(error.contains("volume-nocopy"), "{error}");
    assert_eq!(left, 0, "half an image would be taken for a filled volume");
    bench.nothing_is_left();
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn secrets_are_files_in_memory_that_nobody_else_sees() {
    let bench = Bench::new("secrets");
    let mut bundle = bench.bundle(&[]);
    bundle.files.push(BundleFile {
        target: "/run/secrets/key".to_owned(),
        uid: 1000,
        gid: 29,
        mode: 0o440,
        data: SecretBytes::new(b"hunter2-secret".to_vec()),
    });
    bundle.argv = ["/bin/sh", "-c", "cat /run/secrets/key > /out/got; stat -c '%u %g %a' /run/secrets/key >> /out/got; \
        echo x > /run/secrets/key; echo $? >> /out/got; grep secrets/key /proc/mounts >> /out/got; touch /out/done; exec sleep 1000"].map(String::from).into();
    let shim = bench.spawn(&bundle);
    let started = smol::block_on(shim.started()).unwrap();
    until("secret", || bench.base.join("out/done").exists());
    let got = fs::read_to_string(bench.base.join("out/got")).unwrap();
    assert!(got.starts_with("hunter2-secret1000 29 440\n1\n"), "{got}");
    assert!(got.contains("/run/secrets/key tmpfs ro,nosuid,nodev,noexec"), "{got}");
    fs::remove_file(bench.base.join("out/got")).unwrap();
    // Neither on disk, nor in the shim's command line or environment, nor in its memory.
    let shim_process = bench::processes("secrets").pop().unwrap();
    for name in ["cmdline", "environ"] {
        let bytes = fs::read(shim_process.join(name)).unwrap();
        assert!(!contains(&bytes, b"hunter2"), "{name}");
    }
    assert!(!memory_contains(&shim_process, b"hunter2-secret"), "the shim keeps the secret");
    assert!(!tree_contains(&bench.base, b"hunter2-secret"));
    assert!(started.pid > 1);
    smol::block_on(shim.kill());
    smol::block_on(shim.wait());
    bench.remove(&bundle);
    bench.nothing_is_left();
}

fn contains(bytes: &[u8], wanted: &[u8]) -> bool {
    bytes.windows(wanted.len()).any(|w| w == wanted)
}

fn memory_contains(process: &Path, wanted: &[u8]) -> bool {
    use std::os::unix::fs::FileExt as _;
    let memory = fs::File::open(process.join("mem")).unwrap();
    let maps = fs::read_to_string(process.join("maps")).unwrap();
    maps.lines().filter(|l| l.contains(" rw-p ")).any(|line| {
        let (from, to) = line.split(' ').next().unwrap().split_once('-').unwrap();
        let from = u64::from_str_radix(from, 16).unwrap();
        let to = u64::from_str_radix(to, 16).unwrap();
        let mut bytes = vec![0; usize::try_from(to - from).unwrap()];
        memory.read_exact_at(&mut bytes, from).is_ok() && contains(&bytes, wanted)
    })
}

fn tree_contains(dir: &Path, wanted: &[u8]) -> bool {
    fs::read_dir(dir).unwrap().flatten().any(|entry| {
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            tree_contains(&entry.path(), wanted)
        } else {
            kind.is_file() && contains(&fs::read(entry.path()).unwrap(), wanted)
        }
    })
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn a_start_that_was_cut_off_is_told_from_a_shim_that_ran() {
    let bench = Bench::new("cutoff");
    let cut = bench.shell("exit 0");
    fs::create_dir_all(&cut.dir).unwrap();
    assert!(shim::never_began(&cut.dir).unwrap(), "a folder alone");
    drop(std::os::unix::net::UnixListener::bind(cut.dir.join("shim.sock")).unwrap());
    assert!(shim::never_began(&cut.dir).unwrap(), "a socket that nobody holds");
    shim::remove(&cut.dir, &cut.root.writable).unwrap();

    let bundle = bench.shell("exec sleep 1000");
    let running = bench.spawn(&bundle);
    assert!(!shim::never_began(&bundle.dir).unwrap(), "a shim that has just been begun");
    smol::block_on(running.started()).unwrap();
    assert!(!shim::never_began(&bundle.dir).unwrap(), "a running container");
    smol::block_on(running.kill());
    smol::block_on(running.wait());
    assert!(!shim::never_began(&bundle.dir).unwrap(), "an ended container");
    bench.remove(&bundle);
    bench.nothing_is_left();
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn an_agent_that_comes_back_finds_its_containers() {
    let bench = Bench::new("attach");
    let running = bench.shell("exec sleep 1000");
    let started = smol::block_on(bench.spawn(&running).started()).unwrap();
    // The Shim was dropped with its Child: the container does not care.
    let ended = bench.shell("exit 9");
    let shim = bench.spawn(&ended);
    smol::block_on(shim.started()).unwrap();
    until("exit record", || ended.dir.join("exit").exists());
    drop(shim);

    let mut names = shim::list(&bench.base.join("run")).unwrap();
    names.sort();
    assert_eq!(names, [running.task.clone(), ended.task.clone()]);
    let again = Shim::attach(&running.dir).unwrap();
    assert_eq!(smol::block_on(again.started()).unwrap(), started);
    // Waiting is given up and taken up again without loss.
    smol::block_on(smol::future::or(
        async {
            again.wait().await;
        },
        async {
            smol::Timer::after(Duration::from_millis(20)).await;
        },
    ));
    smol::block_on(again.kill());
    assert_eq!(smol::block_on(again.wait()).code, 137);
    let over = Shim::attach(&ended.dir).unwrap();
    assert!(smol::block_on(over.started()).is_ok());
    assert_eq!(smol::block_on(over.wait()).code, 9);
    assert!(Shim::attach(&bench.base.join("run/tasks/none")).is_err());
    bench.remove(&running);
    bench.remove(&ended);
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn a_killed_shim_takes_its_container_with_it() {
    let bench = Bench::new("killed");
    // The program changed its user, which makes the kernel forget to whom it was tied.
    let bundle =
        bench.bundle(&["/bin/busybox", "su", "-s", "/bin/sh", "bob", "-c", "exec sleep 1000"]);
    let shim = bench.spawn(&bundle);
    let started = smol::block_on(shim.started()).unwrap();
    until("change of user", || {
        let status = fs::read_to_string(format!("/proc/{}/status", started.pid)).unwrap();
        status.contains("Uid:\t1000") && status.contains("Name:\tsleep")
    });
    let process = bench::processes("killed").pop().unwrap();
    kill(&process);
    let exit = smol::block_on(shim.wait());
    assert_eq!((exit.code, exit.start_error), (137, None));
    until("end of the container", || !Path::new(&format!("/proc/{}", started.pid)).exists());
    bench.remove(&bundle);
    bench.nothing_is_left();

    // At any moment of its start; nobody attached in between.
    for delay in 0..30 {
        let bundle = bench.shell("exec sleep 1000");
        let shim = bench.spawn(&bundle);
        std::thread::sleep(Duration::from_micros(delay * 700));
        if let Some(process) = bench::processes("killed").pop() {
            kill(&process);
        }
        if delay % 2 == 0 {
            let exit = smol::block_on(shim.wait());
            assert_eq!(exit.code, 137, "{exit:?}");
        } else {
            smol::block_on(shim.wait());
        }
        drop(shim);
        bench.remove(&bundle);
        assert_eq!(bench.cgroups().len(), 0);
    }
    bench.nothing_is_left();
}

fn kill(process: &Path) {
    let pid: i32 = process.file_name().unwrap().to_str().unwrap().parse().unwrap();
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(pid).unwrap(),
        rustix::process::Signal::KILL,
    )
    .unwrap();
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn twenty_containers_start_at_once() {
    let bench = Bench::new("many");
    let bundles: Vec<_> = (0..20).map(|n| bench.shell(&format!("exit {n}"))).collect();
    let shims: Vec<_> = bundles.iter().map(|b| bench.spawn(b)).collect();
    for (wanted, shim) in (0..).zip(&shims) {
        let exit = smol::block_on(shim.wait());
        assert_eq!((exit.code, exit.start_error), (wanted, None));
    }
    for bundle in &bundles {
        bench.remove(bundle);
    }
    bench.nothing_is_left();
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn networks_and_kernel_parameters_are_the_containers_own() {
    let bench = Bench::new("network");
    let mut bundle = bench.bundle(&[]);
    bundle.sysctls.insert("net.ipv4.ip_unprivileged_port_start".into(), "0".into());
    let text = bench.output(
        &mut bundle,
        "cat /proc/sys/net/ipv4/ip_unprivileged_port_start; cat /proc/net/dev | tail -n +3 | cut -d: -f1; \
         cat /sys/class/net/lo/flags; readlink /proc/self/ns/net",
    );
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    assert_eq!(lines[..3], ["0", "lo", "0x9"], "{text}");
    let own = fs::read_link("/proc/self/ns/net").unwrap();
    assert_ne!(Path::new(lines[3]), own);
    let mut bundle = bench.bundle(&[]);
    bundle.network = NetworkMode::Host;
    let text = bench.output(&mut bundle, "readlink /proc/self/ns/net");
    assert_eq!(Path::new(text.trim()), own);
    let mut bundle = bench.bundle(&["true"]);
    bundle.sysctls.insert("net.no_such_thing".into(), "0".into());
    assert!(bench.run(&bundle).start_error.unwrap().contains("net.no_such_thing"));
    bench.nothing_is_left();
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn an_image_of_many_layers_mounts() {
    let bench = Bench::new("layers");
    let mut bundle = bench.bundle(&[]);
    for number in 0..120 {
        let name = format!("sha256:{number:064},odd");
        let layer = bench.base.join("layers").join(name);
        fs::create_dir_all(&layer).unwrap();
        fs::write(layer.join(format!("from-{number}")), "").unwrap();
        fs::write(layer.join("top"), number.to_string()).unwrap();
        bundle.root.layers.push(layer);
    }
    let text = bench.output(&mut bundle, "cat /top; echo; ls -d /from-* | wc -l");
    assert_eq!(text, "119\n120\n");
    bench.nothing_is_left();
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn mounts_travel_as_far_as_the_propagation_says() {
    use rustix::mount::{self, MountFlags, MountPropagationFlags, UnmountFlags};
    let bench = Bench::new("travel");
    let place = bench.base.join("place");
    fs::create_dir_all(place.join("inner")).unwrap();
    fs::create_dir_all(place.join("outer")).unwrap();
    mount::mount_bind(&place, &place).unwrap();
    mount::mount_change(&place, MountPropagationFlags::SHARED).unwrap();
    let admin = 1 << 21;
    for (number, (propagation, out, into)) in [
        (Propagation::RShared, true, true),
        (Propagation::RSlave, false, true),
        (Propagation::RPrivate, false, false),
    ]
    .into_iter()
    .enumerate()
    {
        let mut bundle = bench.shell(&format!(
            "mount -t tmpfs inner{number} /place/inner; touch /out/ready; \
             while ! [ -e /out/go ]; do sleep 0.01; done; \
             cat /proc/mounts > /out/seen",
        ));
        bundle.capabilities |= admin;
        bundle.mounts.push(BundleMount {
            kind: MountKind::Bind {
                source: place.clone(),
                propagation,
                recursive: true,
                populate: false,
                denied: Denied::default(),
            },
            target: "/place".to_owned(),
            read_only: false,
        });
        let shim = bench.start(&bundle);
        until("inner mount", || bench.base.join("out/ready").exists());
        let host = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert_eq!(host.contains(&format!("inner{number} ")), out, "{propagation:?}");
        let outer = place.join("outer");
        mount::mount("outer", &outer, "tmpfs", MountFlags::empty(), None).unwrap();
        fs::write(bench.base.join("out/go"), "").unwrap();
        assert_eq!(smol::block_on(shim.wait()).code, 0);
        let seen = fs::read_to_string(bench.base.join("out/seen")).unwrap();
        assert_eq!(seen.contains("outer /place/outer"), into, "{propagation:?}\n{seen}");
        mount::unmount(&outer, UnmountFlags::DETACH).unwrap();
        if out {
            mount::unmount(place.join("inner"), UnmountFlags::DETACH).unwrap();
        }
        for name in ["ready", "go", "seen"] {
            fs::remove_file(bench.base.join("out").join(name)).unwrap();
        }
        bench.remove(&bundle);
    }
    mount::unmount(&place, UnmountFlags::DETACH).unwrap();
    bench.nothing_is_left();
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn a_bind_denies_what_its_options_say() {
    let bench = Bench::new("denied");
    let source = bench.base.join("source");
    fs::create_dir_all(&source).unwrap();
    fs::copy(bench.base.join("image/bin/busybox"), source.join("busybox")).unwrap();
    let none = Denied::default();
    let programs = Denied { programs: true, ..none };
    let all = Denied { programs: true, set_id: true, devices: true };
    let mut bundle = bench.bundle(&[]);
    let cases = [
        ("plain", none, false, false, "rw", ""),
        ("ro", none, true, false, "ro", ""),
        ("noexec", programs, false, true, "rw", "noexec"),
        ("all", all, true, true, "ro", "nosuid,nodev,noexec"),
        ("one", all, true, false, "ro", "nosuid,nodev,noexec"),
    ];
    for (name, denied, read_only, recursive, ..) in cases {
        let source = source.clone();
        let propagation = Propagation::RPrivate;
        bundle.mounts.push(BundleMount {
            kind: MountKind::Bind { source, propagation, recursive, populate: false, denied },
            target: format!("/{name}"),
            read_only,
        });
    }
    let script = "cat /proc/mounts; for m in plain ro noexec all one; do \
                  /$m/busybox true 2>/dev/null && echo $m runs; \
                  touch /$m/x 2>/dev/null && echo $m is written; done; true";
    let text = bench.output(&mut bundle, script);
    for (name, _, read_only, _, access, flags) in cases {
        let line = text.lines().find(|line| line.contains(&format!(" /{name} "))).unwrap();
        let options: Vec<&str> = line.split(' ').nth(3).unwrap().split(',').collect();
        for flag in flags.split(',').filter(|flag| !flag.is_empty()).chain([access]) {
            assert!(options.contains(&flag), "{flag}: {line}");
        }
        let runs = !flags.contains("noexec");
        assert_eq!(text.contains(&format!("{name} runs\n")), runs, "{name}: {text}");
        assert_eq!(text.contains(&format!("{name} is written\n")), !read_only, "{name}: {text}");
    }
    bench.nothing_is_left();
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn a_read_only_bind_covers_what_is_mounted_below() {
    use rustix::mount::{self, MountFlags, UnmountFlags};
    let bench = Bench::new("below");
    let place = bench.base.join("place");
    fs::create_dir_all(place.join("sub")).unwrap();
    mount::mount("below", place.join("sub"), "tmpfs", MountFlags::empty(), None).unwrap();
    let mut bundle = bench.bundle(&[]);
    bundle.mounts.push(bind(place.to_str().unwrap(), "/place", true));
    let text = bench.output(&mut bundle, "touch /place/x; touch /place/sub/x; true");
    assert_eq!(text.matches("Read-only file system").count(), 2, "{text}");
    fs::write(place.join("sub/host"), "").unwrap();
    mount::unmount(place.join("sub"), UnmountFlags::DETACH).unwrap();
    bench.nothing_is_left();
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn output_flows_and_does_not_stop_a_container_that_writes_much() {
    let bench = Bench::new("output");
    let script = "i=0; while [ $i -lt 2000 ]; do echo line $i; echo error $i >&2; i=$((i+1)); done";
    assert_eq!(bench.run(&bench.shell(script)).code, 0);
    // Standard input: nothing to read, or open until the end.
    assert_eq!(bench.run(&bench.shell("read x; exit $?")).code, 1);
    let mut open = bench.shell("read x; exit $?");
    open.open_stdin = true;
    let shim = bench.start(&open);
    std::thread::sleep(Duration::from_millis(100));
    assert!(!open.dir.join("exit").exists(), "its input ended");
    smol::block_on(shim.kill());
    assert_eq!(smol::block_on(shim.wait()).code, 137);
    bench.remove(&open);
    bench.nothing_is_left();
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn removing_a_living_container_ends_it_first() {
    let bench = Bench::new("remove");
    for round in 0..20 {
        let bundle = bench.shell("exec sleep 1000");
        let shim = bench.spawn(&bundle);
        if round % 2 == 0 {
            smol::block_on(shim.started()).unwrap();
        } else {
            // Anywhere in its start.
            std::thread::sleep(Duration::from_micros(round * 500));
        }
        bench.remove(&bundle);
        smol::block_on(shim.wait());
        bench.nothing_is_left();
    }
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn layers_are_in_use_as_long_as_their_container_lives() {
    let bench = Bench::new("layers");
    let exec_root = bench.base.join("run");
    let bundle = bench.shell("exec sleep 1000");
    let shim = bench.spawn(&bundle);
    let in_use = || shim::layers_in_use(&exec_root).unwrap();
    assert_eq!(in_use(), bundle.root.layers.iter().cloned().collect(), "from before its start");
    smol::block_on(shim.started()).unwrap();
    assert_eq!(in_use().len(), bundle.root.layers.len());
    smol::block_on(shim.kill());
    smol::block_on(shim.wait());
    assert!(in_use().is_empty());
    bench.remove(&bundle);
}

#[test]
#[ignore = "prints times; run it by hand"]
fn times_of_a_short_container() {
    let bench = Bench::new("times");
    let mut times: Vec<[Duration; 3]> = (0..50)
        .map(|_| {
            let bundle = bench.bundle(&["true"]);
            let begin = std::time::Instant::now();
            let shim = bench.spawn(&bundle);
            smol::block_on(shim.started()).unwrap();
            let started = begin.elapsed();
            smol::block_on(shim.wait());
            let ended = begin.elapsed();
            bench.remove(&bundle);
            [started, ended, begin.elapsed()]
        })
        .collect();
    times.sort_unstable();
    #[expect(clippy::print_stderr, reason = "what this is for")]
    {
        eprintln!("median of 50, spawn to started, ended, removed: {:?}", times[25]);
    }
}

/// Memory of the shims of running containers; a release build by `EDGEAGENT_BIN=…` for numbers
/// that count.
#[test]
#[ignore = "prints sizes; run it by hand"]
fn sizes_of_shims() {
    let bench = Bench::new("sizes");
    let bundles: Vec<_> = (0..20).map(|_| bench.shell("exec sleep 1000")).collect();
    let mut shims = Vec::new();
    for count in [1, 20] {
        shims.extend(bundles.iter().take(count).skip(shims.len()).map(|b| bench.start(b)));
        let sum = |field: &str| -> u64 {
            let of = |process: &std::path::PathBuf| {
                let text = fs::read_to_string(process.join("smaps_rollup")).unwrap();
                let line = text.lines().find_map(|l| l.strip_prefix(field)).unwrap();
                line.split_whitespace().next().unwrap().parse::<u64>().unwrap()
            };
            bench::processes("sizes").iter().map(of).sum()
        };
        for field in ["Rss:", "Pss:", "Pss_Anon:", "Pss_File:", "Private_Dirty:", "Anonymous:"] {
            println!(
                "{count} shims, each: {field} {} kB",
                sum(field) / u64::try_from(count).unwrap()
            );
        }
        if count == 1 {
            for process in bench::processes("sizes") {
                println!("{}", fs::read_to_string(process.join("smaps")).unwrap());
            }
        }
    }
    for (shim, bundle) in shims.iter().zip(&bundles) {
        smol::block_on(shim.kill());
        smol::block_on(shim.wait());
        bench.remove(bundle);
    }
    bench.nothing_is_left();
}
