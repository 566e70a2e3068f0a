//! Newer engines as managers: 26.1 (Debian trixie) and 28.5 (Debian forky).
//!
//! Not part of the default run, since they take a gigabyte: `make test-engines`. Each runs in mount, UTS
//! and network namespaces held by one process, with the folder of its release as root.

use std::{
    env, fs,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{
    fixture::{Daemon, Engine, EngineOptions, Root, Service, World, folder, wait_until, world},
    services::POLITE,
};

const SOON: Duration = Duration::from_secs(40);

#[test]
#[ignore = "make test-engines"]
fn dockerd_26_1_is_a_manager() {
    a_newer_manager("trixie", "26.1.");
}

#[test]
#[ignore = "make test-engines"]
fn dockerd_28_5_is_a_manager() {
    a_newer_manager("forky", "28.5.");
}

fn a_newer_manager(suite: &str, version: &str) {
    let world = world();
    let (_holder, manager) = engine(&world, suite);
    assert!(manager.docker(&["version", "-f", "{{.Server.Version}}"]).starts_with(version));
    manager.init_swarm();
    manager.docker(&["node", "update", "--availability", "drain", suite]);

    let mut agent = world.fresh_agent();
    agent.join_ok(&manager);
    agent.start();
    manager.await_node(agent.name(), "ready", SOON);
    let service = Service::create(
        &manager,
        agent.name(),
        "newer",
        &[
            "--replicas",
            "2",
            &world.images.busybox,
            "sh",
            "-c",
            &format!("echo hello; echo oops >&2; {POLITE}"),
        ],
    );
    service.await_running(2, SOON);
    let pids = service.await_containers(2, SOON);
    wait_until("the logs", SOON, || {
        service.logs(&[]) == ("hello\nhello\n".to_owned(), "oops\noops\n".to_owned())
    });

    let root = manager.docker(&["swarm", "ca"]);
    manager.docker(&["swarm", "ca", "--rotate", "--detach"]);
    wait_until("the rotation to finish", Duration::from_secs(90), || {
        let swarm = manager.api("/swarm");
        swarm["RootRotationInProgress"] == false
            && swarm["TLSInfo"]["TrustRoot"].as_str().unwrap().trim() != root
    });
    assert_eq!(service.containers(), pids);
    service.scale(3);
    service.await_running(3, SOON);
    service.remove();
    manager.docker(&["node", "rm", "--force", agent.name()]);
    wait_until("the agent to know that it was removed", SOON, || agent.state() == "removed");
}

/// Starts the engine of a Debian release, and the process that holds its namespaces.
fn engine(world: &World, suite: &str) -> (Daemon, Engine) {
    let base = env::var_os("EA_ENGINES")
        .map_or_else(|| PathBuf::from("/var/tmp/edgeagent-engines"), PathBuf::from);
    let root = base.join(suite);
    assert!(
        root.join(".done").exists(),
        "{} is not installed: run tests/live/engines.sh",
        root.display()
    );
    let host = world.switch.host(suite);
    let state = folder().join(suite);
    fs::create_dir_all(&state).unwrap();
    let mut command = host.command("unshare");
    command
        .args(["--mount", "--propagation", "private", "sh", "-c", HOLD, "hold"])
        .arg(&root)
        .arg(&state);
    let holder = Daemon::start("holder", &state.join("holder.log"), &mut command);
    let ready = state.join("held");
    wait_until("the holder's namespaces", SOON, || Path::new(&ready).exists());
    let pid = holder.pid();
    let engine = Engine::start(
        host,
        EngineOptions {
            registry: world.registry.clone(),
            runs_tasks: false,
            root: Root::Held(pid),
            dir: state,
        },
    );
    (holder, engine)
}

/// `pivot_root` and not chroot, since runc needs a mount point as its root; the cgroup hierarchies are
/// mounted again because a fresh sysfs hides them.
const HOLD: &str = r#"
    set -e
    root=$1 state=$2
    mount --bind "$root" "$root"
    mount -t proc proc "$root/proc"
    mount -t sysfs sysfs "$root/sys"
    mount -t tmpfs tmpfs "$root/run"
    mount --rbind /dev "$root/dev"
    if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
        mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
    else
        mount -t tmpfs tmpfs "$root/sys/fs/cgroup"
        for c in cpu cpuacct cpuset memory devices freezer blkio pids; do
            mkdir "$root/sys/fs/cgroup/$c"
            mount -t cgroup -o $c cgroup "$root/sys/fs/cgroup/$c"
        done
        mkdir "$root/sys/fs/cgroup/systemd"
        mount -t cgroup -o none,name=systemd cgroup "$root/sys/fs/cgroup/systemd"
    fi
    mkdir -p "$root$state" "$root/.old"
    mount --bind "$state" "$root$state"
    cd "$root"
    pivot_root . .old
    umount -l /.old
    touch "$state/held"
    exec sleep infinity
"#;
