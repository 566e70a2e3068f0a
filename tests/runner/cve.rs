//! Attacks that worked on other runtimes (anchors.md §4.3), tried on ours: one test each.

use std::{
    fs,
    os::unix::fs::{FileTypeExt, symlink},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use edgeagent::{
    model::{BundleMount, HealthCheck, HealthStatus, MountKind},
    shim,
};

use crate::{
    bench::{Bench, DEFAULT_CAPABILITIES, check, until},
    bind,
};

/// A folder beside the image that must stay empty.
fn outside(bench: &Bench) -> std::path::PathBuf {
    let outside = bench.base.join("outside");
    fs::create_dir_all(&outside).unwrap();
    outside
}

fn untouched(place: &std::path::Path) {
    assert_eq!(fs::read_dir(place).unwrap().count(), 0, "{}", place.display());
}

/// Waits for a file that a container writes, and gives its text.
fn written(bench: &Bench, name: &str) -> String {
    let path = bench.base.join("out").join(name);
    until(name, || path.exists());
    fs::read_to_string(path).unwrap()
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn cve_2019_5736_our_program_can_not_be_overwritten() {
    let mut bench = Bench::new("overwrite");
    let root = bench.base.join("exec");
    let program = shim::Program::protect(&root).unwrap();
    let error = fs::OpenOptions::new().write(true).open(program.path()).unwrap_err();
    assert!(matches!(
        error.kind(),
        std::io::ErrorKind::ReadOnlyFilesystem | std::io::ErrorKind::ExecutableFileBusy
    ));
    let own = fs::read("/proc/self/exe").unwrap();
    assert_eq!(fs::read(program.path()).unwrap().len(), own.len());
    drop(program);

    // From inside: the program of the container, and of its probe, is whatever the runtime is at
    // that moment; so is a script's interpreter.
    let real = bench.program.clone();
    let copy = bench.base.join("agent");
    fs::copy(&real, &copy).unwrap();
    bench.program = copy.clone();
    fs::write(bench.base.join("image/bin/self"), "#!/proc/self/exe\n").unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(bench.base.join("image/bin/self"), mode).unwrap();
    for argv in ["/proc/self/exe", "/bin/self", "/proc/1/exe"] {
        let mut bundle = bench.shell(
            "while :; do for p in /proc/[0-9]*; do (echo evil > $p/exe) 2> /dev/null && \
             echo > /out/won; done; done",
        );
        bundle.init = true;
        bundle.health = Some(HealthCheck {
            timeout: std::time::Duration::from_millis(200),
            retries: 5,
            ..check(&[argv], 5)
        });
        let shim = bench.start(&bundle);
        // However they end: five of them were raced with.
        smol::block_on(smol::future::or(
            async {
                shim.health(&[HealthStatus::Unhealthy], &|_| {}).await;
            },
            async {
                smol::Timer::after(std::time::Duration::from_secs(2)).await;
            },
        ));
        smol::block_on(shim.kill());
        smol::block_on(shim.wait());
        bench.remove(&bundle);
        assert!(!bench.base.join("out/won").exists(), "{argv}");
        assert!(fs::read(&copy).unwrap() == fs::read(&real).unwrap(), "{argv}: changed");
    }
    shim::remove(&root, &bench.base.join("none")).unwrap();
    bench.nothing_is_left();
}

/// Waits until the container has written a number above this into a file.
fn counted(bench: &Bench, file: &str, above: u32) {
    until(&format!("{file} above {above}"), || {
        let text = fs::read_to_string(bench.base.join("out").join(file)).unwrap_or_default();
        text.trim().parse::<u32>().is_ok_and(|number| above < number)
    });
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn cve_2016_9962_nobody_inside_looks_into_a_process_that_enters() {
    let bench = Bench::new("enter");
    // Looks for descriptors of others that lead out of the container, as fast as it can.
    let mut bundle = bench.shell(
        "n=0; while :; do for f in /proc/[0-9]*/fd/*; do case $(readlink $f 2> /dev/null) in \
         *shim.sock*|*/log/*|mnt:*|*edgeagent*) echo $f > /out/won;; esac; done; \
         n=$((n+1)); echo $n > /out/round; done",
    );
    bundle.health = Some(check(&["/bin/true"], 1));
    let shim = bench.start(&bundle);
    counted(&bench, "round", 60);
    smol::block_on(shim.kill());
    smol::block_on(shim.wait());
    bench.remove(&bundle);
    assert!(!bench.base.join("out/won").exists());
    bench.nothing_is_left();
}

/// Who has `CAP_SYS_PTRACE` may look into whatever it sees: so it sees no process that has more
/// rights than itself, or that holds anything of the host's, nor one before its filter.
#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn cve_2016_9962_who_may_trace_sees_nobody_with_more_rights() {
    const SYS_PTRACE: u64 = 1 << 19;
    let bench = Bench::new("tracer");
    let capabilities = DEFAULT_CAPABILITIES | SYS_PTRACE;
    // Without a process of its own in the loop: it must be fast.
    let mut bundle = bench.shell(&format!(
        "n=0; while :; do for p in /proc/[0-9]*; do while read k v; do case \"$k $v\" in \
         'CapPrm: {capabilities:016x}'|'Seccomp: 2') ;; \
         CapPrm:*|Seccomp:*) echo $p $k $v >> /out/won;; esac; done < $p/status; \
         done 2> /dev/null; n=$((n+1)); echo $n > /out/round; done",
    ));
    bundle.capabilities = capabilities;
    bundle.health =
        Some(check(&["/bin/sh", "-c", "echo $$ > /out/probed; exec busybox setsid true"], 1));
    let shim = bench.start(&bundle);
    counted(&bench, "round", 150);
    // Many of them, in the container's process namespace, and healthy.
    counted(&bench, "probed", 20);
    let told = std::cell::RefCell::new(String::new());
    let note = |health: &edgeagent::model::Health| told.borrow_mut().push_str(&health.output);
    let status = smol::block_on(shim.health(&[HealthStatus::Healthy], &note));
    assert_eq!(status, Some(HealthStatus::Healthy), "{told:?}");
    smol::block_on(shim.kill());
    smol::block_on(shim.wait());
    bench.remove(&bundle);
    let won = fs::read_to_string(bench.base.join("out/won")).unwrap_or_default();
    assert_eq!(won, "");

    // It is killed when it takes too long, and what it says when it can not begin is heard.
    for (argv, output) in
        [(&["sleep", "1000"][..], "exceeded timeout"), (&["/nope"], "stat /nope: no such file")]
    {
        let mut bundle = bench.shell("exec sleep 1000");
        bundle.capabilities = capabilities;
        bundle.health =
            Some(HealthCheck { timeout: std::time::Duration::from_secs(1), ..check(argv, 20) });
        let shim = bench.start(&bundle);
        let told = std::cell::RefCell::new(String::new());
        let note = |health: &edgeagent::model::Health| told.borrow_mut().push_str(&health.output);
        smol::block_on(shim.health(&[HealthStatus::Unhealthy], &note));
        assert!(told.borrow().contains(output), "{argv:?}: {told:?}");
        smol::block_on(shim.kill());
        smol::block_on(shim.wait());
        bench.remove(&bundle);
    }
    bench.nothing_is_left();
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn cve_2019_16884_and_2019_19921_and_2023_27561_nothing_replaces_proc() {
    let bench = Bench::new("proc");
    let source = bench.base.join("out");
    for target in ["/proc", "/proc/self", "/proc/sys/kernel", "/proc/self/attr", "/", "/out/.."] {
        let mut bundle = bench.bundle(&["true"]);
        bundle.mounts.push(bind(source.to_str().unwrap(), target, false));
        assert!(bench.run(&bundle).start_error.is_some(), "{target}");
        let mut bundle = bench.bundle(&["true"]);
        bundle.mounts.push(BundleMount {
            kind: MountKind::Volume {
                source: bench.base.join("volume"),
                subpath: String::new(),
                populate: true,
                anonymous: false,
            },
            target: target.to_owned(),
            read_only: false,
        });
        assert!(bench.run(&bundle).start_error.is_some(), "volume on {target}");
    }
    // Through a link of the image.
    symlink("/proc", bench.base.join("image/innocent")).unwrap();
    let mut bundle = bench.bundle(&["true"]);
    bundle.mounts.push(bind(source.to_str().unwrap(), "/innocent/sys", false));
    assert!(bench.run(&bundle).start_error.is_some());
    bench.nothing_is_left();
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn cve_2021_30465_a_target_that_changes_while_it_is_mounted_leads_nowhere() {
    // Another container swaps a folder of a shared volume for a link.
    let bench = Bench::new("race");
    let volume = bench.base.join("volume");
    let outside = outside(&bench);
    fs::create_dir_all(volume.join("swap")).unwrap();
    symlink(&outside, volume.join("link")).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let racer = std::thread::spawn({
        let (stop, volume) = (Arc::clone(&stop), volume.clone());
        move || {
            let [folder, link] = ["swap", "link"]
                .map(|n| rustix::path::Arg::into_c_str(volume.join(n)).unwrap().into_owned());
            while !stop.load(Ordering::Relaxed) {
                rustix::fs::renameat_with(
                    rustix::fs::CWD,
                    &folder,
                    rustix::fs::CWD,
                    &link,
                    rustix::fs::RenameFlags::EXCHANGE,
                )
                .unwrap();
            }
        }
    });
    for round in 0..30 {
        let mut bundle = bench.bundle(&["true"]);
        if round % 3 == 2 {
            // As a part of the volume: what it shows is never the link's target.
            fs::write(outside.join("secret"), "").unwrap();
            bundle = bench.shell("[ ! -e /volume/secret ]");
            bundle.mounts.push(BundleMount {
                kind: MountKind::Volume {
                    source: volume.clone(),
                    subpath: "swap".to_owned(),
                    populate: false,
                    anonymous: false,
                },
                target: "/volume".to_owned(),
                read_only: false,
            });
            let exit = bench.run(&bundle);
            assert!(exit.start_error.is_some() || exit.code == 0);
            fs::remove_file(outside.join("secret")).unwrap();
            continue;
        }
        bundle.mounts.push(bind(volume.to_str().unwrap(), "/volume", false));
        let source = bench.base.join("image");
        bundle.mounts.push(bind(source.to_str().unwrap(), "/volume/swap/deep", false));
        bench.run(&bundle);
        untouched(&outside);
    }
    stop.store(true, Ordering::Relaxed);
    racer.join().unwrap();
    bench.nothing_is_left();
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn cve_2024_21626_no_descriptor_leads_out() {
    let bench = Bench::new("leaky");
    // Any of them as the working folder, also through a link, of the program and of a probe.
    for number in 3..64 {
        let mut bundle = bench.bundle(&["/bin/true"]);
        bundle.cwd = format!("/proc/self/fd/{number}");
        if number % 2 == 0 {
            let link = bench.base.join("image").join(format!("cwd{number}"));
            symlink(&bundle.cwd, link).unwrap();
            bundle.cwd = format!("/cwd{number}");
        }
        let exit = bench.run(&bundle);
        assert!(exit.start_error.is_some(), "fd {number}");
    }
    let mut bundle = bench.shell(
        "rm -rf /here; n=3; while [ $n -lt 64 ]; do ln -sfn /proc/self/fd/$n /here.new; \
         mv -T /here.new /here 2> /dev/null; sleep 0.01; n=$((n+1)); done; echo > /out/over; \
         sleep 1000",
    );
    fs::create_dir(bench.base.join("image/here")).unwrap();
    bundle.cwd = "/here".to_owned();
    bundle.health = Some(HealthCheck {
        retries: u32::MAX,
        ..check(&["/bin/sh", "-c", "ls -a . >> /out/seen; exit 1"], 5)
    });
    let shim = bench.start(&bundle);
    written(&bench, "over");
    smol::block_on(shim.kill());
    smol::block_on(shim.wait());
    bench.remove(&bundle);
    let seen = fs::read_to_string(bench.base.join("out/seen")).unwrap_or_default();
    assert!(!seen.contains("shim.sock") && !seen.contains("etc"), "{seen}");
    bench.nothing_is_left();
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn cve_2022_24769_and_2022_27650_nothing_is_inheritable() {
    let bench = Bench::new("inherit");
    for user in ["", "bob"] {
        fs::set_permissions(
            bench.base.join("out"),
            std::os::unix::fs::PermissionsExt::from_mode(0o777),
        )
        .unwrap();
        let look = "grep -E '^Cap(Inh|Amb)' /proc/self/status";
        let mut bundle = bench.shell(&format!("{look} > /out/main; exec sleep 1000"));
        bundle.user = user.to_owned();
        bundle.health = Some(check(
            &["/bin/sh", "-c", &format!("{look} > /out/new; mv /out/new /out/probe")],
            20,
        ));
        let shim = bench.start(&bundle);
        for name in ["probe", "main"] {
            let text = written(&bench, name);
            assert_eq!(text, "CapInh:\t0000000000000000\nCapAmb:\t0000000000000000\n");
        }
        smol::block_on(shim.kill());
        smol::block_on(shim.wait());
        bench.remove(&bundle);
        fs::remove_file(bench.base.join("out/main")).unwrap();
        fs::remove_file(bench.base.join("out/probe")).unwrap();
    }
    bench.nothing_is_left();
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn cve_2025_31133_a_null_device_that_is_a_link_masks_nothing_else() {
    let bench = Bench::new("null");
    let target = bench.base.join("outside");
    fs::write(&target, "untouched").unwrap();
    // A /dev of the user's whose null is a link to, or a file with, what is to be reached.
    let dev = bench.base.join("dev");
    fs::create_dir(&dev).unwrap();
    for link in ["/proc/sys/kernel/core_pattern", target.to_str().unwrap()] {
        symlink(link, dev.join("null")).unwrap();
        let mut bundle = bench.bundle(&["true"]);
        bundle.mounts.push(bind(dev.to_str().unwrap(), "/dev", false));
        assert!(bench.run(&bundle).start_error.is_some(), "{link}");
        fs::remove_file(dev.join("null")).unwrap();
    }
    fs::write(dev.join("null"), "").unwrap();
    let mut bundle = bench.bundle(&["true"]);
    bundle.mounts.push(bind(dev.to_str().unwrap(), "/dev", false));
    assert!(bench.run(&bundle).start_error.is_some(), "a plain file");
    assert_eq!(fs::read_to_string(&target).unwrap(), "untouched");
    assert!(fs::metadata("/dev/null").unwrap().file_type().is_char_device());
    bench.nothing_is_left();
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn cve_2025_52881_parameters_are_written_to_procfs_only() {
    let bench = Bench::new("sysctl");
    let target = bench.base.join("outside");
    fs::write(&target, "untouched").unwrap();
    // Whatever is at /proc, in the image or brought along, is not written to.
    fs::create_dir_all(bench.base.join("image/proc/sys/kernel")).unwrap();
    symlink(&target, bench.base.join("image/proc/sys/kernel/msgmax")).unwrap();
    let mut bundle = bench.shell("[ $(cat /proc/sys/kernel/msgmax) = 4321 ]");
    bundle.sysctls.insert("kernel.msgmax".to_owned(), "4321".to_owned());
    assert_eq!(bench.run(&bundle).code, 0);
    let mut bundle = bench.bundle(&["true"]);
    bundle.sysctls.insert("kernel.msgmax".to_owned(), "4321".to_owned());
    let source = bench.base.join("image/proc");
    bundle.mounts.push(bind(source.to_str().unwrap(), "/proc", false));
    assert!(bench.run(&bundle).start_error.is_some());
    assert_eq!(fs::read_to_string(&target).unwrap(), "untouched");
    bench.nothing_is_left();
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn cve_2026_47766_links_where_default_mounts_go_are_replaced() {
    for link in ["dev", "proc", "sys"] {
        let bench = Bench::new("hostile");
        let outside = outside(&bench);
        for to in ["/", outside.to_str().unwrap()] {
            let place = bench.base.join("image").join(link);
            symlink(to, &place).unwrap();
            let script =
                format!("test -d /{link} -a ! -L /{link} && grep -q ' /{link} ' /proc/mounts");
            let exit = bench.run(&bench.shell(&script));
            assert_eq!((exit.code, exit.start_error), (0, None), "{link}");
            assert!(place.is_symlink(), "the image keeps its link");
            fs::remove_file(&place).unwrap();
        }
        untouched(&outside);
        bench.nothing_is_left();
    }
    // A mount target through a link out of the image.
    let bench = Bench::new("hostile");
    let outside = outside(&bench);
    symlink(&outside, bench.base.join("image/escape")).unwrap();
    symlink(outside.join("hosts"), bench.base.join("image/etc/hosts")).unwrap();
    let mut bundle = bench.bundle(&[]);
    let source = bench.base.join("out");
    bundle.mounts.push(bind(source.to_str().unwrap(), "/escape/deep", false));
    bench.output(&mut bundle, "true");
    untouched(&outside);
    bench.nothing_is_left();
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn a_subpath_of_a_volume_leads_nowhere_else() {
    let bench = Bench::new("subpath");
    let outside = outside(&bench);
    fs::write(outside.join("secret"), "").unwrap();
    let volume = bench.base.join("volume");
    fs::create_dir_all(volume.join("a/b")).unwrap();
    fs::write(volume.join("a/b/file"), "here").unwrap();
    symlink("a", volume.join("inner")).unwrap();
    symlink(&outside, volume.join("absolute")).unwrap();
    symlink("../outside", volume.join("climbing")).unwrap();
    symlink("/proc/self/root", volume.join("magic")).unwrap();
    let with = |subpath: &str, target: &str, script: &str| {
        let mut bundle = bench.shell(script);
        bundle.mounts.push(BundleMount {
            kind: MountKind::Volume {
                source: volume.clone(),
                subpath: subpath.to_owned(),
                populate: true,
                anonymous: false,
            },
            target: target.to_owned(),
            read_only: false,
        });
        bench.run(&bundle)
    };
    let look = "[ \"$(cat /data/below/file)\" = here ] && [ ! -e /data/below/seed ]";
    let below = "/data/below";
    assert_eq!(with("a/b", below, look).code, 0);
    assert_eq!(with("inner/b", below, look).code, 0);
    assert_eq!(with("a/b/file", "/data/f", "[ \"$(cat /data/f)\" = here ]").code, 0, "a file");
    fs::create_dir(volume.join("empty")).unwrap();
    assert_eq!(with("empty", below, "[ -e /data/below/seed ]").code, 0, "filled from the image");
    for bad in ["missing", "absolute", "climbing", "magic", "../outside", "magic/etc"] {
        let error = with(bad, below, "true").start_error.unwrap_or_default();
        assert!(error.contains("subpath"), "{bad}: {error}");
    }
    bench.nothing_is_left();
}
