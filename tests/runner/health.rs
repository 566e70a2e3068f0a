//! Health probes: what they are in the container, when they count, and that they leave nothing.

use std::{fs, os::unix::fs::PermissionsExt, time::Duration};

use edgeagent::{
    model::{Bundle, Health, HealthCheck, HealthStatus},
    shim::Shim,
};

use crate::bench::{self, Bench, processes, until};

fn check(script: &str) -> Option<HealthCheck> {
    let check = bench::check(&["/bin/sh", "-c", script], 50);
    Some(HealthCheck { timeout: Duration::from_secs(10), retries: 2, ..check })
}

fn sleeper(bench: &Bench, script: &str) -> Bundle {
    let mut bundle = bench.shell("exec sleep 1000");
    bundle.health = check(script);
    bundle
}

/// Waits for a status; gives all that was told on the way.
fn hear(shim: &Shim, wanted: HealthStatus) -> Vec<Health> {
    let told = std::cell::RefCell::new(Vec::new());
    let note = |health: &Health| told.borrow_mut().push(health.clone());
    let status =
        smol::block_on(smol::future::or(async { shim.health(&[wanted], &note).await }, async {
            smol::Timer::after(Duration::from_secs(20)).await;
            None
        }));
    let told = told.into_inner();
    assert_eq!(status, Some(wanted), "{told:?}");
    told
}

fn end(bench: &Bench, shim: &Shim, bundle: &Bundle) {
    smol::block_on(shim.kill());
    assert_eq!(smol::block_on(shim.wait()).code, 137);
    bench.remove(bundle);
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn a_probe_is_a_process_of_the_container_with_the_same_rights() {
    let bench = Bench::new("probe");
    fs::set_permissions(bench.base.join("out"), fs::Permissions::from_mode(0o777)).unwrap();
    let look = "id; pwd; umask; env | grep -v -e SHLVL -e '^_='; cat /proc/self/oom_score_adj; \
        cat /proc/self/cgroup; grep -E '^(Cap|Seccomp:|NoNewPrivs|Uid|Gid|Groups|SigBlk|SigIgn)' \
        /proc/self/status; ulimit -n; for n in pid mnt net uts ipc cgroup user; do \
        readlink /proc/self/ns/$n; done; cat /proc/self/mountinfo; ls /proc/self/fd | wc -l";
    for user in ["", "bob"] {
        let mut bundle = bench.shell(&format!("{{ {look}; }} > /out/main 2>&1; exec sleep 1000"));
        bundle.user = user.to_owned();
        bundle.groups = vec!["500".to_owned()];
        bundle.cwd = "/made/here".to_owned();
        bundle.no_new_privileges = true;
        bundle.oom_score_adj = 77;
        bundle.rlimits = vec![edgeagent::model::Rlimit { resource: 7, soft: 512, hard: 1024 }];
        bundle.health = check(&format!(
            "[ -s /out/main ] || exit 1; {{ {look}; }} > /out/probe.new 2>&1; \
             mv /out/probe.new /out/probe"
        ));
        let shim = bench.start(&bundle);
        assert!(shim.has_check());
        hear(&shim, HealthStatus::Healthy);
        let [main, probe] =
            ["main", "probe"].map(|n| fs::read_to_string(bench.base.join("out").join(n)).unwrap());
        assert_eq!(main, probe);
        assert!(probe.contains("/made/here"), "{probe}");
        end(&bench, &shim, &bundle);
        fs::remove_file(bench.base.join("out/main")).unwrap();
        fs::remove_file(bench.base.join("out/probe")).unwrap();
    }
    bench.nothing_is_left();
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn failures_are_told_and_an_agent_that_comes_back_hears_of_them() {
    let bench = Bench::new("sick");
    let bundle = sleeper(&bench, "echo so sick; echo oh >&2; exit 3");
    let shim = bench.start(&bundle);
    let files = |dir: &std::path::Path| {
        let mut names: Vec<_> = fs::read_dir(dir)
            .unwrap()
            .map(|e| e.unwrap())
            .map(|e| (e.file_name(), e.metadata().unwrap().modified().unwrap()))
            .collect();
        names.sort();
        names
    };
    let before = (files(&bundle.dir), files(&bundle.root.writable));
    let told = hear(&shim, HealthStatus::Unhealthy);
    let last = told.last().unwrap();
    assert_eq!((last.exit_code, last.failing_streak), (Some(3), 2));
    assert_eq!(last.output, "so sick\noh\n");
    assert_eq!(told.first().unwrap().status, HealthStatus::Starting);
    assert_eq!((files(&bundle.dir), files(&bundle.root.writable)), before, "nothing was written");
    drop(shim);
    let again = Shim::attach(&bundle.dir).unwrap();
    smol::block_on(again.started()).unwrap();
    assert!(again.has_check());
    let told = hear(&again, HealthStatus::Unhealthy);
    assert_eq!(told.last().unwrap().output, "so sick\noh\n");
    end(&bench, &again, &bundle);

    // A program that is not there is a failure with a reason.
    let mut bundle = sleeper(&bench, "");
    bundle.health.as_mut().unwrap().argv = vec!["/nope".to_owned()];
    let shim = bench.start(&bundle);
    let told = hear(&shim, HealthStatus::Unhealthy);
    let last = told.last().unwrap();
    assert_eq!(last.exit_code, Some(127));
    assert_eq!(last.output, "exec: \"/nope\": stat /nope: no such file or directory");
    end(&bench, &shim, &bundle);
    bench.nothing_is_left();
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn a_probe_that_takes_too_long_is_killed_with_its_children() {
    let bench = Bench::new("slow");
    let mut bundle = sleeper(&bench, "echo waiting; sleep 1001 & sleep 1002");
    bundle.health.as_mut().unwrap().timeout = Duration::from_millis(200);
    bundle.health.as_mut().unwrap().interval = Duration::from_millis(300);
    bundle.health.as_mut().unwrap().retries = 1;
    let shim = bench.start(&bundle);
    let told = hear(&shim, HealthStatus::Unhealthy);
    let last = told.last().unwrap();
    assert_eq!(last.exit_code, Some(-1));
    assert_eq!(last.output, "Health check exceeded timeout: waiting\n");
    let members = || -> usize {
        let groups = bench.cgroups();
        let lists = groups.iter().filter_map(|g| fs::read_to_string(g.join("cgroup.procs")).ok());
        lists.map(|l| l.lines().count()).max().unwrap()
    };
    until("only process 1", || members() == 1);
    end(&bench, &shim, &bundle);

    // More output than is kept, one that is closed early, and children that keep it open.
    for script in [
        "yes | head -c 1000000",
        "exec > /dev/null 2>&1; exec 0<&1; sleep 0.2",
        "exec >&- 2>&-; sleep 0.2",
        "sleep 1003 & exit 0",
    ] {
        let bundle = sleeper(&bench, script);
        let shim = bench.start(&bundle);
        let told = hear(&shim, HealthStatus::Healthy);
        assert!(told.last().unwrap().output.len() <= edgeagent::limits::PROBE_OUTPUT_MAX_BYTES);
        end(&bench, &shim, &bundle);
    }
    bench.nothing_is_left();
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn a_container_is_stopped_and_ends_while_it_is_probed() {
    let bench = Bench::new("probed");
    let begun = bench.base.join("out/begun");
    for way in 0..4 {
        let mut bundle = sleeper(&bench, "echo > /out/begun; exec sleep 1000");
        bundle.health.as_mut().unwrap().timeout = Duration::from_secs(1000);
        if way == 3 {
            bundle.argv = ["/bin/sh", "-c", "until [ -e /out/begun ]; do sleep 0.01; done; exit 4"]
                .map(String::from)
                .into();
        }
        let shim = bench.start(&bundle);
        until("probe", || begun.exists());
        let begin = std::time::Instant::now();
        let code = match way {
            0 => {
                smol::block_on(shim.kill());
                137
            }
            1 => {
                smol::block_on(shim.stop(9, Some(10)));
                137
            }
            2 => {
                // Process 1 does not notice this one.
                smol::block_on(shim.stop(15, Some(0)));
                137
            }
            _ => 4,
        };
        assert_eq!(smol::block_on(shim.wait()).code, code, "{way}");
        assert!(begin.elapsed() < Duration::from_secs(5), "{way}");
        bench.remove(&bundle);
        fs::remove_file(&begun).unwrap();
    }
    bench.nothing_is_left();
}

/// CPU of probes; a release build by `EDGEAGENT_BIN=…` for numbers that count.
#[test]
#[ignore = "prints times; run it by hand"]
fn times_of_probes() {
    let bench = Bench::new("probing");
    let mut bundle = sleeper(&bench, "");
    let check = bundle.health.as_mut().unwrap();
    check.argv = vec!["/bin/true".to_owned()];
    check.interval = Duration::from_millis(20);
    let shim = bench.start(&bundle);
    // Not by name: a probe that has not become its program yet has the shim's.
    let [process] = processes("probing").try_into().unwrap();
    let ticks = || -> u64 {
        let stat = fs::read_to_string(process.join("stat")).unwrap();
        let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
        [11, 12, 13, 14].iter().map(|n| fields.get(*n).unwrap().parse::<u64>().unwrap()).sum()
    };
    let switches = || -> u64 {
        let text = fs::read_to_string(process.join("status")).unwrap();
        let line = text.lines().find_map(|l| l.strip_prefix("voluntary_ctxt_switches:")).unwrap();
        line.trim().parse().unwrap()
    };
    let (cpu, before) = (ticks(), switches());
    std::thread::sleep(Duration::from_secs(10));
    // Two or three wake-ups per probe: its time has come, its output ended, it ended.
    println!("10 s: {} ticks of 10 ms, {} switches", ticks() - cpu, switches() - before);
    end(&bench, &shim, &bundle);
}
