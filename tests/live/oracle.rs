//! dockerd is the oracle: the same service on both, and what the two containers see of themselves.

use std::time::Duration;

use crate::fixture::{Service, world};

const SOON: Duration = Duration::from_secs(30);

/// Prints everything that a program could notice, without what differs by nature (ids, addresses, devices).
const LOOK: &str = r#"
    cd /
    echo "=== env"; env | grep -v -e ^EA_ -e ^HOSTNAME= | sort
    echo "=== id"; id; umask
    echo "=== status"; grep -e ^Cap -e ^Seccomp: -e ^NoNewPrivs /proc/self/status | tr -s '\t ' ' '
    echo "=== limits"; ulimit -c; ulimit -s; ulimit -l
    echo "=== mounts"
    sed -e 's/^[^ ]* //' /proc/mounts | cut -d ' ' -f 1,2 | sort -u
    echo "=== mount options"
    awk '{ print $2, $4 }' /proc/mounts | grep -e '^/proc' -e '^/dev' -e '^/sys ' | sed -e 's/,size=[0-9]*k//' -e 's/,inode64//' | sort -u
    echo "=== dev"; ls -l /dev | awk '{ print $1, $3, $4, $NF }' | grep -v total | sort
    echo "=== files"; ls -d /etc/hosts /etc/hostname /etc/resolv.conf /.dockerenv 2>/dev/null
    echo "=== proc"; for f in /proc/kcore /proc/keys /proc/timer_list /proc/sysrq-trigger /proc/sys/kernel/hostname; do
        printf '%s ' $f; ls -ld $f 2>/dev/null | cut -c 1; (echo x > $f) 2>/dev/null && echo writable; done
    echo "=== tty"; tty
    echo "=== signals"; grep -e ^SigIgn -e ^SigBlk /proc/1/status
    echo "=== hostname"; hostname | wc -c
    echo "=== oom"; cat /proc/1/oom_score_adj
    echo "=== end"
"#;

#[test]
fn two_containers_see_the_same() {
    let Some(world) = world() else { return };
    let docker = world.engine("oracle", true);
    docker.docker(&[
        "swarm",
        "join",
        "--token",
        &world.manager.token("worker"),
        &world.manager.addr(),
    ]);
    world.manager.await_node("oracle", "ready", SOON);
    let agent = world.agent();
    let mut seen = Vec::new();
    for (node, name) in [("oracle", "seen-by-docker"), (agent.name(), "seen-by-us")] {
        let service = Service::create(
            &world.manager,
            node,
            name,
            &[
                "--restart-condition",
                "none",
                "--env",
                "A=1",
                "--mount",
                "type=tmpfs,target=/scratch",
                "--mount",
                "type=volume,target=/data",
                &world.images.busybox,
                "sh",
                "-c",
                LOOK,
            ],
        );
        service.await_state("complete", SOON);
        seen.push(service.logs(&[]).0);
    }
    drop(docker.docker_command().args(["swarm", "leave"]).output());
    world.manager.try_docker(&["node", "rm", "--force", "oracle"]);
    let (docker, ours) = (seen.remove(0), seen.remove(0));
    let missing: Vec<_> =
        docker.lines().filter(|l| !ours.lines().any(|o| o == *l) && !known(l)).collect();
    let extra: Vec<_> =
        ours.lines().filter(|l| !docker.lines().any(|d| d == *l) && !known(l)).collect();
    assert!(
        missing.is_empty() && extra.is_empty(),
        "only docker: {missing:#?}\nonly edgeagent: {extra:#?}\n{docker}"
    );
}

/// Differences that are meant, or that depend on the version of dockerd.
fn known(line: &str) -> bool {
    // dockerd 28 and edgeagent mask it, 20.10 does not.
    line.starts_with("/proc/interrupts ")
        // A read-only tmpfs; ours carries more flags.
        || line.starts_with("/proc/acpi ro,")
        // A link to /proc/kcore, which this kernel may lack.
        || line.ends_with(" /proc/kcore")
        // Not done yet: on cgroup v1 dockerd shows every hierarchy, edgeagent the unified one.
        || line.starts_with("/sys/fs/cgroup")
        // A mark of Docker's own that edgeagent does not set.
        || line == "/.dockerenv"
}
