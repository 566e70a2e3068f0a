//! One task at a time: how it starts, what it sees, how it ends.

use std::{
    collections::BTreeMap,
    fs,
    time::{Duration, Instant},
};

use crate::fixture::{Service, TaskView, World, run, world};

const SOON: Duration = Duration::from_secs(30);

/// Runs one task to its end and returns what the manager knows of it.
fn ended(world: &World, node: &str, name: &str, state: &str, words: &[&str]) -> TaskView {
    let mut all = vec!["--restart-condition", "none"];
    all.extend(words);
    let service = Service::create(&world.manager, node, name, &all);
    service.await_state(state, SOON)
}

#[test]
#[cfg_attr(not(all(root, program = "dockerd")), ignore = "needs root and dockerd")]
fn exit_codes_become_states() {
    let world = world();
    let agent = world.agent();
    let image = world.images.busybox.as_str();
    let task = ended(&world, agent.name(), "exit0", "complete", &[image, "true"]);
    assert_eq!((task.exit_code, task.err.as_str(), task.message.as_str()), (0, "", "finished"));
    let task = ended(&world, agent.name(), "exit7", "failed", &[image, "sh", "-c", "exit 7"]);
    assert_eq!(task.exit_code, 7);
    assert_eq!(task.err, "task: non-zero exit (7)");
    let task = ended(
        &world,
        agent.name(),
        "sig",
        "failed",
        &[image, "sh", "-c", "kill -9 $$; sleep 9; exit 1"],
    );
    assert_ne!(task.exit_code, 0);
    let task = ended(&world, agent.name(), "default", "complete", &[image]);
    assert_eq!(task.exit_code, 0);
}

#[test]
#[cfg_attr(not(all(root, program = "dockerd")), ignore = "needs root and dockerd")]
fn a_task_that_cannot_start_says_why() {
    let world = world();
    let agent = world.agent();
    let images = &world.images;
    let task =
        ended(&world, agent.name(), "nocmd", "failed", &[&images.busybox, "/no/such/program"]);
    assert!(task.err.contains("/no/such/program"), "{task:?}");
    let task = ended(&world, agent.name(), "nodir", "failed", &[&images.busybox, "/tmp"]);
    assert!(task.err.contains("/tmp"), "{task:?}");
    let task = ended(&world, agent.name(), "noimage", "rejected", &[&images.missing, "true"]);
    assert!(task.err.contains("missing"), "{task:?}");
    let task = ended(&world, agent.name(), "foreign", "rejected", &[&images.foreign, "true"]);
    assert!(task.err.contains("s390x"), "both platforms are to be named: {task:?}");
    let task = ended(
        &world,
        agent.name(),
        "nouser",
        "failed",
        &["--user", "nobody-knows", &images.busybox, "true"],
    );
    assert!(task.err.contains("nobody-knows"), "{task:?}");
    let task = ended(
        &world,
        agent.name(),
        "nobind",
        "rejected",
        &["--mount", "type=bind,source=/no/such/folder,target=/x", &images.busybox, "true"],
    );
    assert!(task.err.contains("/no/such/folder"), "{task:?}");
    assert_eq!(agent.json(&["status"])["state"], "ready");
}

#[test]
#[cfg_attr(not(all(root, program = "dockerd")), ignore = "needs root and dockerd")]
fn a_full_disk_rejects_the_task_and_leaves_nothing_half_done() {
    let world = world();
    let mut agent = world.fresh_agent();
    let data = agent.data_root();
    fs::create_dir_all(&data).unwrap();
    let mount = |options: &str| {
        let target = data.to_str().unwrap();
        run(&["mount", "-t", "tmpfs", "-o", options, "ea-live", target]);
    };
    // Room for the identity and the packed image, not for the unpacked one.
    mount("size=1600k");
    agent.join_ok(&world.manager);
    agent.start();
    world.manager.await_node(agent.name(), "ready", SOON);
    let image = world.images.busybox.as_str();
    let task = ended(&world, agent.name(), "nospace", "rejected", &[image, "true"]);
    assert!(task.err.to_lowercase().contains("no space left"), "{task:?}");
    assert_eq!(agent.json(&["image", "ls"]).as_array().unwrap().len(), 0);
    assert_eq!(agent.json(&["status"])["state"], "ready");
    mount("remount,size=64m");
    let task = ended(&world, agent.name(), "space", "complete", &[image, "true"]);
    assert_eq!(task.err, "");
}

#[test]
#[cfg_attr(not(all(root, program = "dockerd")), ignore = "needs root and dockerd")]
fn what_is_not_done_yet_is_rejected_with_a_reason() {
    let world = world();
    let agent = world.agent();
    let image = world.images.busybox.as_str();
    let nfs = "type=volume,source=shared,target=/v,volume-driver=local,volume-opt=type=nfs,\
               volume-opt=device=:/x,volume-opt=o=addr=192.0.2.1";
    let task =
        ended(&world, agent.name(), "nfs", "rejected", &["--mount", nfs, image, "sleep", "1000"]);
    assert!(task.err.to_lowercase().contains("nfs"), "{task:?}");
    assert_eq!(task.pid, 0, "{task:?}");
    let options = ["--log-driver", "json-file", "--log-opt", "tag=x", "--log-opt", "max-size=0.5m"];
    let task =
        ended(&world, agent.name(), "tag", "complete", &[&options[..], &[image, "true"]].concat());
    assert_eq!(task.err, "", "what means nothing here is no fault");
}

/// Says what a container sees of itself, one `key=value` a line.
const INSIDE: &str = r#"
        echo "args=$1,$2"
        echo "env=$FROM_IMAGE,$A,$B"
        echo "slot=$SLOT"
        echo "user=$(id -u),$(id -g),$(id -G)"
        echo "pwd=$(pwd)"
        echo "hostname=$(hostname)"
        echo "root=$(touch /x 2>/dev/null && echo writable || echo read-only)"
        echo "tmpfs=$(touch /scratch/x && echo writable)"
        echo "bind=$(cat /bind/file)"
        echo "bindwrite=$(touch /bind/x 2>/dev/null && echo writable || echo read-only)"
        echo "volume=$(cat /data/seed)"
        echo "secret=$(cat /run/secrets/ea-secret)"
        echo "secretmode=$(stat -c %a,%u,%g /run/secrets/renamed)"
        echo "config=$(cat /etc/the-config)"
        echo "nofile=$(ulimit -Sn),$(ulimit -Hn)"
        echo "caps=$(grep CapBnd /proc/self/status | cut -f 2)"
        echo "newprivs=$(grep NoNewPrivs /proc/self/status | cut -f 2)"
        echo "seccomp=$(grep Seccomp: /proc/self/status | cut -f 2)"
        echo "pid=$$"
        echo "links=$(ls /sys/class/net | tr '\n' ' ')"
        echo "done=yes"
        trap 'exit 0' TERM; while :; do sleep 1000 & wait; done
    "#;

#[test]
#[cfg_attr(not(all(root, program = "dockerd")), ignore = "needs root and dockerd")]
fn a_container_sees_what_its_service_says() {
    let world = world();
    let agent = world.agent();
    let manager = &world.manager;
    let bind = agent.dir.join("bind");
    fs::create_dir_all(&bind).unwrap();
    fs::write(bind.join("file"), "from the host").unwrap();
    let secret = agent.dir.join("secret");
    fs::write(&secret, "s3cr3t").unwrap();
    manager.docker(&["secret", "create", "ea-secret", secret.to_str().unwrap()]);
    manager.docker(&["config", "create", "ea-config", secret.to_str().unwrap()]);

    let mount = format!("type=bind,source={},target=/bind,readonly", bind.display());
    let service = Service::create(
        manager,
        agent.name(),
        "inside",
        &[
            "--env",
            "A=1",
            "--env",
            "B=two words",
            "--env",
            "SLOT={{.Task.Slot}}",
            "--user",
            "app",
            "--workdir",
            "/home/app",
            "--hostname",
            "h-{{.Service.Name}}",
            "--read-only",
            "--mount",
            "type=tmpfs,target=/scratch,tmpfs-mode=1777",
            "--mount",
            &mount,
            "--mount",
            "type=volume,source=vol,target=/data",
            "--limit-memory",
            "64m",
            "--limit-cpu",
            "0.5",
            "--limit-pids",
            "50",
            "--secret",
            "ea-secret",
            "--secret",
            "source=ea-secret,target=renamed,mode=0400,uid=1000,gid=2000",
            "--config",
            "source=ea-config,target=/etc/the-config",
            "--ulimit",
            "nofile=100:200",
            &world.images.busybox,
            "sh",
            "-c",
            INSIDE,
            "sh",
            "one",
            "and two",
        ],
    );
    let task = service.await_running(1, SOON).remove(0);
    service.await_log("done=yes", SOON);
    let (out, err) = service.logs(&[]);
    let seen: BTreeMap<&str, &str> = out.lines().filter_map(|l| l.split_once('=')).collect();
    for (key, value) in [
        ("args", "one,and two"),
        ("env", "yes,1,two words"),
        ("slot", "1"),
        ("user", "1000,1000,1000 2000"),
        ("pwd", "/home/app"),
        ("hostname", "h-inside"),
        ("root", "read-only"),
        ("tmpfs", "writable"),
        ("bind", "from the host"),
        ("bindwrite", "read-only"),
        ("volume", "from the image"),
        ("secret", "s3cr3t"),
        ("secretmode", "400,1000,2000"),
        ("config", "s3cr3t"),
        ("nofile", "100,200"),
        ("caps", "00000000a80425fb"),
        ("newprivs", "0"),
        ("seccomp", "2"),
        ("pid", "1"),
        ("links", "eth0 lo "),
    ] {
        assert_eq!(seen.get(key), Some(&value), "{key}\n{out}{err}");
    }

    let pid = u32::try_from(task.pid).unwrap();
    assert_eq!(limit(pid, "memory", "memory.limit_in_bytes", "memory.max"), "67108864");
    assert_eq!(limit(pid, "pids", "pids.max", "pids.max"), "50");
    let quota = limit(pid, "cpu", "cpu.cfs_quota_us", "cpu.max");
    assert!(quota == "50000" || quota == "50000 100000", "{quota}");
    service.remove();
    manager.docker(&["secret", "rm", "ea-secret"]);
    manager.docker(&["config", "rm", "ea-config"]);
    crate::fixture::wait_ok("the secret to go with its task", SOON, || {
        let mut grep = std::process::Command::new("grep");
        grep.args(["-r", "-l", "-a", "s3cr3t"]).arg(agent.data_root()).arg(agent.exec_root());
        let found = crate::fixture::capture(&mut grep).out;
        if found.is_empty() { Ok(()) } else { Err(found) }
    });
}

/// A limit of the cgroup that a process is in, on whichever hierarchy this machine has.
fn limit(pid: u32, controller: &str, v1: &str, v2: &str) -> String {
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (names, path) = (fields.next().unwrap(), fields.next().unwrap());
        if names.split(',').any(|n| n == controller) {
            let file = format!("/sys/fs/cgroup/{controller}{path}/{v1}");
            return fs::read_to_string(&file)
                .unwrap_or_else(|e| panic!("{file}: {e}"))
                .trim()
                .to_owned();
        }
    }
    let path = groups.lines().find_map(|l| l.strip_prefix("0::")).unwrap();
    fs::read_to_string(format!("/sys/fs/cgroup{path}/{v2}")).unwrap().trim().to_owned()
}

#[test]
#[cfg_attr(not(all(root, program = "dockerd")), ignore = "needs root and dockerd")]
fn stopping_uses_the_signal_and_the_grace_of_the_service() {
    let world = world();
    let agent = world.agent();
    let image = world.images.busybox.as_str();
    let polite = Service::create(
        &world.manager,
        agent.name(),
        "polite",
        &[
            "--stop-signal",
            "USR1",
            "--stop-grace-period",
            "20s",
            image,
            "sh",
            "-c",
            "trap 'echo got USR1; exit 0' USR1; echo up; while :; do sleep 1000 & wait; done",
        ],
    );
    let deaf = Service::create(
        &world.manager,
        agent.name(),
        "deaf",
        &[
            "--stop-grace-period",
            "2s",
            image,
            "sh",
            "-c",
            "trap '' TERM; echo up; while :; do sleep 1; done",
        ],
    );
    for service in [&polite, &deaf] {
        service.await_running(1, SOON);
        service.await_log("up", SOON);
    }
    let begin = Instant::now();
    polite.scale(0);
    polite.await_containers(0, Duration::from_secs(10));
    assert!(begin.elapsed() < Duration::from_secs(10), "the signal did not reach it");

    let begin = Instant::now();
    deaf.scale(0);
    deaf.await_containers(0, Duration::from_secs(10));
    let took = begin.elapsed();
    assert!(
        Duration::from_secs(2) <= took && took < Duration::from_secs(8),
        "grace of 2 s, took {took:?}"
    );
}

#[test]
#[cfg_attr(not(all(root, program = "dockerd")), ignore = "needs root and dockerd")]
fn a_task_is_not_restarted_when_its_service_says_so() {
    let world = world();
    let agent = world.agent();
    let service = Service::create(
        &world.manager,
        agent.name(),
        "once",
        &["--restart-condition", "none", &world.images.busybox, "sh", "-c", "exit 3"],
    );
    service.await_state("failed", SOON);
    let shell = Service::create(
        &world.manager,
        agent.name(),
        "again",
        &[
            "--restart-delay",
            "100ms",
            "--restart-max-attempts",
            "2",
            &world.images.busybox,
            "sh",
            "-c",
            "exit 3",
        ],
    );
    shell.await_tasks("3 failed tasks", SOON, |t| {
        (t.iter().filter(|t| t.state == "failed").count() == 3).then_some(())
    });
    assert_eq!(service.tasks().len(), 1);
}

#[test]
#[cfg_attr(not(all(root, program = "dockerd")), ignore = "needs root and dockerd")]
fn finished_tasks_are_kept_until_they_are_removed_and_then_leave_nothing() {
    let world = world();
    let agent = world.agent();
    let service = Service::create(
        &world.manager,
        agent.name(),
        "kept",
        &[
            "--restart-condition",
            "none",
            &world.images.busybox,
            "sh",
            "-c",
            "echo last words; exit 4",
        ],
    );
    let task = service.await_state("failed", SOON);
    let ps = agent.json(&["ps"]);
    assert_eq!(ps[0]["id"], task.id.as_str());
    assert_eq!(ps[0]["state"], "failed");
    assert_eq!(ps[0]["exit_code"], 4);
    assert_eq!(service.logs(&[]).0, "last words\n");
    service.remove();
    crate::fixture::wait_ok("nothing to be left", SOON, || {
        let left = agent.leftovers();
        let known = agent.json(&["ps"]).as_array().map_or(0, Vec::len);
        if left.is_empty() && known == 0 {
            Ok(())
        } else {
            Err(format!("{left:#?}, {known} tasks in ps"))
        }
    });
}

#[test]
#[cfg_attr(not(all(root, program = "dockerd")), ignore = "needs root and dockerd")]
fn an_image_may_be_named_by_tag() {
    let world = world();
    let agent = world.agent();
    let task = ended(&world, agent.name(), "tagged", "complete", &[&world.images.tag, "true"]);
    assert_eq!(task.exit_code, 0);
}

#[test]
#[cfg_attr(not(all(root, program = "dockerd")), ignore = "needs root and dockerd")]
fn the_words_of_the_local_driver_are_those_of_dockerd() {
    let world = world();
    let docker = world.docker_worker("words");
    world.manager.await_node("words", "ready", SOON);
    let agent = world.agent();
    let folder = crate::fixture::folder().join("words");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("there"), "").unwrap();
    let seen = |node: &str, number: usize, words: &str| {
        let mount = format!(
            "type=volume,source=words-{number},target=/v,volume-opt=type=none,\
             volume-opt=device={},\"volume-opt=o={words}\"",
            folder.display()
        );
        let script = "ls /v; touch /v/there 2>/dev/null && echo written; exit 0";
        let image = world.images.busybox.as_str();
        let words = ["--restart-condition", "none", "--mount", &mount, image, "sh", "-c", script];
        let service = Service::create(&world.manager, node, "words", &words);
        service.await_state("complete", SOON);
        service.await_log("there", SOON);
        service.logs(&[]).0
    };
    for (number, words) in
        ["bind", "bind,ro", "ro,rbind", "bind,ro,rw", "bind,defaults,noatime", "rbind,nosuid,nodev"]
            .into_iter()
            .enumerate()
    {
        let expected = seen("words", number, words);
        assert_eq!(seen(agent.name(), number, words), expected, "{words}");
        assert_eq!(expected.contains("written"), !words.contains("ro") || words.contains("rw"));
    }
    drop(docker.docker_command().args(["swarm", "leave"]).output());
    world.manager.try_docker(&["node", "rm", "--force", "words"]);
}
