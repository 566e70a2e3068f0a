//! The owner's last word: devices that containers may use, and what is not admitted.

use std::{fs, os::unix::fs::symlink, time::Duration};

use serde_json::{Value, json};

use crate::{
    fixture::{Agent, Service, TaskView, World, world},
    services::POLITE,
};

const SOON: Duration = Duration::from_secs(30);

/// A Ready worker whose agent.json also says `rules`.
fn agent(world: &World, rules: &Value) -> Agent {
    let mut agent = world.fresh_agent();
    let mut config: Value = serde_json::from_slice(&fs::read(agent.config()).unwrap()).unwrap();
    for (key, value) in rules.as_object().unwrap() {
        config[key] = value.clone();
    }
    agent.configure(&config);
    agent.join_ok(&world.manager);
    agent.start();
    world.manager.await_node(agent.name(), "ready", SOON);
    agent
}

/// What a container with these options prints.
fn prints(world: &World, agent: &Agent, name: &str, options: &[&str], script: &str) -> String {
    let mut words = options.to_vec();
    let script = format!("{{ {script}; }} 2>&1; echo end; {POLITE}");
    words.extend([world.images.busybox.as_str(), "sh", "-c", script.as_str()]);
    let service = Service::create(&world.manager, agent.name(), name, &words);
    service.await_running(1, SOON);
    service.await_log("end", SOON);
    let (text, _) = service.logs(&[]);
    text.trim_end_matches("end\n").to_owned()
}

/// Why a service with these options is rejected.
fn refusal(world: &World, agent: &Agent, name: &str, options: &[&str]) -> String {
    let mut words = options.to_vec();
    words.extend([world.images.busybox.as_str(), "sleep", "1000"]);
    let service = Service::create(&world.manager, agent.name(), name, &words);
    service.await_state("rejected", SOON).err
}

#[test]
#[cfg_attr(not(all(root, program = "dockerd")), ignore = "needs root and dockerd")]
fn a_bind_mount_brings_a_device_when_the_owner_lists_it() {
    let world = world();
    // Not in Docker's default list, and every kernel with loop devices has it.
    let agent = agent(&world, &json!({ "devices": ["/dev/loop-con*"] }));
    let mount = "type=bind,source=/dev/loop-control,target=/dev/x";
    let read = "(: </dev/x) && echo readable";
    assert_eq!(prints(&world, &agent, "listed", &["--mount", mount], read), "readable\n");
    let unlisted = "type=bind,source=/dev/kmsg,target=/dev/x";
    let text = prints(&world, &agent, "unlisted", &["--mount", unlisted], read);
    assert!(text.contains("Operation not permitted"), "as under Docker: {text}");
    let write = format!("{read}; (: >/dev/x) || echo not writable");
    let read_only = format!("{mount},readonly");
    let text = prints(&world, &agent, "readonly", &["--mount", &read_only], &write);
    assert!(text.starts_with("readable\n") && text.ends_with("not writable\n"), "{text}");
}

#[test]
#[cfg_attr(not(all(root, program = "dockerd")), ignore = "needs root and dockerd")]
fn a_device_class_is_a_generic_resource_that_brings_its_device() {
    let world = world();
    let agent = agent(&world, &json!({ "device-classes": { "loop": ["/dev/loop-control"] } }));
    let wish = ["--generic-resource", "loop=1"];
    let script = "echo $DOCKER_RESOURCE_LOOP; : </dev/loop-control && echo readable";
    let mut words = wish.to_vec();
    let script = format!("{script}; {POLITE}");
    words.extend([world.images.busybox.as_str(), "sh", "-c", script.as_str()]);
    let service = Service::create(&world.manager, agent.name(), "class", &words);
    service.await_log("readable", SOON);
    assert_eq!(service.logs(&[]).0, "/dev/loop-control\nreadable\n");

    // There is one, and it is taken.
    service.scale(2);
    service.await_tasks("a task that waits for the device", SOON, |tasks| {
        let waits = |task: &&TaskView| {
            task.state == "pending" && task.err.contains("insufficient resources")
        };
        tasks.iter().find(waits).map(drop)
    });
}

#[test]
#[cfg_attr(not(all(root, program = "dockerd")), ignore = "needs root and dockerd")]
fn what_the_owner_does_not_admit_is_rejected_with_the_rule() {
    let world = world();
    let outside = crate::fixture::folder().join("outside");
    let inside = crate::fixture::folder().join("inside");
    fs::create_dir_all(&outside).unwrap();
    fs::create_dir_all(&inside).unwrap();
    symlink(&outside, inside.join("out")).unwrap();
    let agent = agent(
        &world,
        &json!({
            "admission": {
                "images": [format!("{}/busybox@*", world.registry)],
                "digests-only": true,
                "bind-sources": [inside],
                "capabilities": ["NET_ADMIN"],
                "host-network": false,
                "unconfined": false,
                "users": ["1000-2000"],
            }
        }),
    );
    let user = ["--user", "1000:1000"];
    let bind = |path: &std::path::Path| format!("type=bind,source={},target=/x", path.display());
    let (outside, inside, link) = (bind(&outside), bind(&inside), bind(&inside.join("out")));
    for (rule, options) in [
        ("bind-sources", vec!["--mount", outside.as_str()]),
        ("bind-sources", vec!["--mount", link.as_str()]),
        ("capabilities", vec!["--cap-add", "SYS_TIME"]),
        ("host-network", vec!["--network", "host"]),
    ] {
        let mut options = options;
        options.extend(user);
        let why = refusal(&world, &agent, "refused", &options);
        assert!(why.contains(&format!("(rule admission.{rule})")), "{options:?}: {why}");
    }
    let why = refusal(&world, &agent, "root", &[]);
    assert!(why.contains("(rule admission.users)"), "{why}");
    let tag = world.images.tag.as_str();
    let service =
        Service::create(&world.manager, agent.name(), "tag", &["--user", "1000:1000", tag, "true"]);
    let why = service.await_state("rejected", SOON).err;
    assert!(why.contains("(rule admission.digests-only)"), "{why}");
    let foreign = world.images.foreign.as_str();
    let service = Service::create(
        &world.manager,
        agent.name(),
        "other",
        &["--user", "1000:1000", foreign, "true"],
    );
    let why = service.await_state("rejected", SOON).err;
    assert!(why.contains("(rule admission.images)"), "{why}");

    let allowed = ["--user", "1000:1000", "--mount", &inside, "--cap-add", "NET_ADMIN"];
    assert_eq!(prints(&world, &agent, "admitted", &allowed, "id -u"), "1000\n");
}

#[test]
#[cfg_attr(not(all(root, program = "dockerd")), ignore = "needs root and dockerd")]
fn what_a_process_gets_keeps_to_the_owners_rules() {
    let world = world();
    let agent = agent(
        &world,
        &json!({
            "admission": {
                "capabilities": ["NET_ADMIN", "-NET_RAW"],
                "no-new-privileges": true,
                "oom-score": 100,
                "pids-limit": 64,
                "propagation": [],
                "sysctls": ["net.core.*"],
            }
        }),
    );
    let folder = crate::fixture::folder().join("travels");
    fs::create_dir_all(&folder).unwrap();
    let travels =
        format!("type=bind,source={},target=/x,bind-propagation=rslave", folder.display());
    for (rule, words, options) in [
        ("capabilities", "--cap-add (compose: cap_add)", ["--cap-add", "NET_RAW"]),
        ("capabilities", "--cap-add (compose: cap_add)", ["--cap-add", "ALL"]),
        (
            "pids-limit",
            "--limit-pids (compose: deploy.resources.limits.pids)",
            ["--limit-pids", "65"],
        ),
        ("propagation", "--mount bind-propagation (compose: ", ["--mount", travels.as_str()]),
        ("sysctls", "--sysctl (compose: sysctls)", ["--sysctl", "kernel.msgmax=9000"]),
    ] {
        let why = refusal(&world, &agent, "ruled", &options);
        assert!(why.contains(&format!("(rule admission.{rule})")), "{options:?}: {why}");
        assert!(why.contains(words), "{options:?}: {why}");
    }
    let script = "sed -n 's/^\\(CapBnd\\|NoNewPrivs\\):[[:space:]]*/\\1 /p' /proc/self/status; \
                  cat /proc/self/oom_score_adj /proc/sys/net/core/somaxconn; \
                  cat /sys/fs/cgroup/pids/pids.max /sys/fs/cgroup/pids.max 2>/dev/null";
    let asked = ["--sysctl", "net.core.somaxconn=321", "--cap-add", "NET_ADMIN"];
    let text = prints(&world, &agent, "kept", &asked, script);
    let bounds = (0xa804_25fb_u64 | 1 << 12) & !(1 << 13);
    assert_eq!(text, format!("CapBnd {bounds:016x}\nNoNewPrivs 1\n100\n321\n64\n"));
}

#[test]
#[cfg_attr(not(all(root, program = "dockerd")), ignore = "needs root and dockerd")]
fn what_belongs_to_docker_names_edgeagent_and_what_to_do() {
    let world = world();
    let agent = world.agent();
    let path = "/var/lib/docker/containers/ea-no-such";
    let mount = format!("type=bind,source={path},target=/x");
    let why = refusal(&world, &agent, "hands", &["--mount", &mount]);
    assert!(why.starts_with(path) && why.contains("runs edgeagent"), "{why}");
    assert!(why.contains("--constraint (compose: deploy.placement.constraints)"), "{why}");
}
