//! dockerd is the oracle: the same services on both, and what the containers see of themselves.
//!
//! The services of all cases run side by side, once for all tests of this file; each test then
//! compares one case, so that a failure names the option.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::OnceLock,
    time::Duration,
};

use crate::fixture::{Service, world};

const SOON: Duration = Duration::from_secs(40);

/// Prints everything that a program could notice, one fact a line, without what differs by nature
/// (ids, devices, times).
const LOOK: &str = r#"
    cd . ; here=$(pwd); ls -d . > /dev/null || echo "cwd: broken"
    echo "fds: $(ls /proc/self/fd | tr '\n' ' ')"
    part() { part=$1; shift; "$@" 2>&1 | sed "s|^|$part: |"; }
    mounts() {
        # place, kind and options of all mounts, in no order
        awk '{ print $5 " " $6 " " $0 }' /proc/1/mountinfo |
            sed -E -e 's/^([^ ]+) ([^ ]+) .* - ([^ ]+) [^ ]+ (.*)$/\1 \3 \2 \4/' \
                -e 's/(lowerdir|upperdir|workdir|index|xino|redirect_dir|metacopy|size=[0-9]+k,nr_inodes)=[^,]*,?//g' \
                -e 's/,inode64//' -e 's/,uuid=[a-z]+//' -e 's/,+$//' | sort
    }
    modes() { find "$1" -xdev -exec stat -c '%A %u:%g %t,%T %n' {} + | grep -v -e '/dev/pts/[0-9]' | sort; }
    files() { for f in "$@"; do
        [ -e $f ] || [ -L $f ] || { echo "$f none"; continue; }
        echo "$f $(stat -c '%A %u:%g %s' $f | sed -E -e 's/^(d.*) [0-9]+$/\1/' -e "s|^(.*) [0-9]+$|$( case $f in /etc/host*) echo '\1' ;; *) echo '&' ;; esac )|")"
    done; }
    values() { for f in "$@"; do
        echo "$f $(cat $f 2>&1 | sed -E -e "s|$HOSTNAME|HOST|g" -e 's|^cat: [^:]*: ||' | tr '\n' '|')"
    done; }
    writable() { for f in "$@"; do
        [ -e $f ] || continue
        if [ -d $f ]; then (echo x > $f/.probe) 2> /dev/null; else (true >> $f) 2> /dev/null; fi &&
            echo "$f yes" || echo "$f no"
    done; }
    part env env | grep -v -e '^env: EA_' -e '^env: HOSTNAME=' | sort
    part home sh -c 'echo ~; echo $HOME'
    part cwd echo "$here"
    part id id
    part umask umask
    part groups sh -c 'grep ^Groups /proc/1/status | tr "\t" " "'
    part status sh -c 'grep -e ^Cap -e ^Seccomp: -e ^NoNewPrivs -e ^Sig[IB] -e ^Umask -e ^Uid -e ^Gid /proc/1/status | tr -s "\t " " "'
    part stat sh -c 'sed "s/.*) //" /proc/1/stat | cut -d " " -f 2-6'
    part limits sed -e 's/  */ /g' /proc/1/limits
    part oom cat /proc/1/oom_score_adj
    part tty tty
    part stdin sh -c 'readlink /proc/1/fd/0; stat -L -c "%A %t,%T" /proc/1/fd/0'
    part output sh -c 'for n in 1 2; do readlink /proc/1/fd/$n | sed "s/[0-9]*//g"; stat -L -c "%A %u:%g" /proc/1/fd/$n; done'
    part mount mounts
    part dev modes /dev
    part links sh -c 'for f in /dev/*; do [ -L $f ] && echo $f $(readlink $f); done'
    part cgroup sh -c 'ls -l /sys/fs/cgroup | awk "{ print \$1, \$3, \$4, \$9, \$10, \$11 }"'
    part files files / /dev /proc /sys /tmp /etc /etc/hosts /etc/hostname /etc/resolv.conf /etc/mtab /.dockerenv /run /run/secrets
    # the bridges of both are alike; only the place on it and the name differ
    place() { sed -E -e 's/^(links: )[0-9]+: /\1/' -e 's/@if[0-9]+//' -e 's/172[.]17[.]0[.]([2-9]|[1-9][0-9]+)/PLACE/g' \
        -e 's/02:42:ac:11:..:../MAC/' -e 's/ link-netnsid [0-9]+//' -e "s/$HOSTNAME/HOST/"; }
    own_network() { ip addr show dev eth0 | grep -q 172.17.0; }
    if own_network; then
        part links sh -c 'ip addr; ip route; ip -6 route' | place
        part v6 values /proc/sys/net/ipv6/conf/all/disable_ipv6 /proc/sys/net/ipv6/conf/lo/disable_ipv6 \
            /proc/sys/net/ipv6/conf/eth0/disable_ipv6 /proc/sys/net/ipv4/ip_forward
    fi
    part hosts place < /etc/hosts
    part names sh -c '[ "$(cat /etc/hostname)" = "$(hostname)" ] && echo same; [ "$(hostname)" = "$HOSTNAME" ] && echo env; hostname | grep -q -x -E "[0-9a-f]{12}|box.example|oracle|a[0-9]+" && echo form'
    part resolv grep -v -e '^#' /etc/resolv.conf
    part writable writable / /etc /etc/hosts /etc/hostname /etc/resolv.conf /proc/sys/kernel/shmmax /proc/sysrq-trigger /proc/irq \
        /proc/bus /proc/fs /sys /sys/fs/cgroup /sys/fs/cgroup/memory /dev /dev/shm /dev/mqueue /tmp /run /scratch /data
    part masked sh -c 'for f in /proc/acpi /proc/asound /proc/interrupts /proc/kcore /proc/keys /proc/latency_stats /proc/timer_list \
        /proc/timer_stats /proc/sched_debug /proc/scsi /sys/firmware /sys/devices/virtual/powercap \
        /sys/devices/system/cpu/cpu0/thermal_throttle; do
        [ -e $f ] || continue
        if [ -d $f ]; then echo "$f $(ls $f | wc -l)"; else echo "$f $(stat -c %t,%T $f) $(head -c 1 $f | wc -c)"; fi
    done'
    part sysctl values /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/net/ipv4/ping_group_range \
        /proc/sys/net/core/somaxconn /proc/sys/kernel/shmmax /proc/sys/kernel/msgmax \
        /proc/sys/kernel/shm_rmid_forced /proc/sys/fs/mqueue/msg_max /proc/sys/kernel/hostname
    part values values /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory/memory.memsw.limit_in_bytes \
        /sys/fs/cgroup/memory/memory.soft_limit_in_bytes /sys/fs/cgroup/memory/memory.swappiness \
        /sys/fs/cgroup/memory/memory.kmem.limit_in_bytes /sys/fs/cgroup/memory/memory.use_hierarchy \
        /sys/fs/cgroup/cpu/cpu.cfs_quota_us /sys/fs/cgroup/cpu/cpu.cfs_period_us /sys/fs/cgroup/cpu/cpu.shares \
        /sys/fs/cgroup/pids/pids.max /sys/fs/cgroup/cpuset/cpuset.cpus \
        /sys/fs/cgroup/cpuset/cpuset.mems /sys/fs/cgroup/blkio/blkio.bfq.weight /sys/fs/cgroup/freezer/freezer.state \
        /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory.swap.max /sys/fs/cgroup/cpu.max /sys/fs/cgroup/pids.max
    part devices sort /sys/fs/cgroup/devices/devices.list
    part oomkill sh -c 'head -n 1 /sys/fs/cgroup/memory/memory.oom_control'
    part first sh -c 'cat /proc/1/comm'
    part calls sh -c 'for c in "unshare -U true" "unshare -m true" "mount -t tmpfs x /tmp" "mknod /tmp/kmsg c 1 11" "cat /tmp/kmsg" \
        "mknod /tmp/disk b 8 0" "hostname x" "chroot / true" "chown 1:1 /tmp/kmsg" "ping -c 1 -W 1 127.0.0.1" "nice -n -5 true" \
        "dmesg" "swapoff /x" "cat /proc/1/environ" "ls /proc/1/cwd/" "ls /proc/1/map_files"; do
        $c > /dev/null 2>&1; echo "$c -> $?"
    done'
    part lo sh -c 'ip addr show lo | grep -c -e LOOPBACK,UP'
    part data sh -c 'ls -lnR /data | grep -v ^total | awk "{ print \$1, \$2, \$3, \$4, \$5, \$9, \$10, \$11 }"'
    echo end: end
"#;

/// A case: its name, and the options of its service.
struct Case {
    name: &'static str,
    options: &'static [&'static str],
}

const fn case(name: &'static str, options: &'static [&'static str]) -> Case {
    Case { name, options }
}

/// What is looked at. A test below names each one.
const CASES: [Case; 23] = [
    case("plain", &[]),
    case("env", &["--env", "A=1", "--env", "HOME=/here", "--env", "PATH=/bin:/usr/bin"]),
    case("host-network", &["--network", "host"]),
    case("bridge-network", &["--network", "bridge"]),
    case("read-only", &["--read-only"]),
    case("user", &["--user", "1000:1001"]),
    case("user-name", &["--user", "app", "--group", "extra", "--group", "4242"]),
    case("workdir", &["--workdir", "/made/here"]),
    case("tmpfs", &["--mount", "type=tmpfs,target=/scratch"]),
    case(
        "tmpfs-options",
        &["--mount", "type=tmpfs,target=/scratch,tmpfs-size=1048576,tmpfs-mode=0700"],
    ),
    case("volume", &["--mount", "type=volume,target=/data"]),
    case("volume-read-only", &["--mount", "type=volume,source=seen,target=/data,readonly"]),
    case("bind", &["--mount", "type=bind,source=/usr/share/misc,target=/data,readonly"]),
    case("init", &["--init"]),
    case("tty", &["--tty"]),
    case("tty-user", &["--tty", "--user", "app"]),
    case(
        "ulimit",
        &["--ulimit", "nofile=512:1024", "--ulimit", "core=0", "--ulimit", "nproc=100:200"],
    ),
    case("cap-add", &["--cap-add", "NET_ADMIN", "--cap-add", "CAP_SYS_TIME"]),
    case("cap-drop-one", &["--cap-drop", "NET_RAW"]),
    case("cap-drop", &["--cap-drop", "ALL", "--cap-add", "CHOWN"]),
    case("limits", &["--limit-memory", "64M", "--limit-cpu", "0.5", "--limit-pids", "64"]),
    case(
        "names",
        &[
            "--hostname",
            "box.example",
            "--host",
            "db:10.9.8.7",
            "--dns",
            "192.0.2.1",
            "--dns-search",
            "example.org",
            "--dns-option",
            "ndots:3",
        ],
    ),
    case("sysctl", &["--sysctl", "net.core.somaxconn=77", "--sysctl", "kernel.msgmax=4096"]),
];

/// The facts of all cases: dockerd's and ours.
fn seen() -> Option<&'static BTreeMap<&'static str, [String; 2]>> {
    static SEEN: OnceLock<Option<BTreeMap<&'static str, [String; 2]>>> = OnceLock::new();
    SEEN.get_or_init(look).as_ref()
}

fn look() -> Option<BTreeMap<&'static str, [String; 2]>> {
    let world = world()?;
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
    let mut services = Vec::new();
    for case in &CASES {
        for (node, mark) in [("oracle", "docker"), (agent.name(), "us")] {
            let mut words = vec!["--restart-condition", "none"];
            words.extend(case.options);
            words.extend([world.images.busybox.as_str(), "sh", "-c", LOOK]);
            let name = format!("seen-{}-by-{mark}", case.name);
            services.push((case, Service::create(&world.manager, node, &name, &words)));
        }
    }
    let mut seen = BTreeMap::<&str, [String; 2]>::new();
    for (at, (case, service)) in services.iter().enumerate() {
        let both = seen.entry(case.name).or_default();
        // One that fails is a fact of its case, and not the end of all others.
        let ended = ["complete", "failed", "rejected"];
        let task = service.await_tasks("an ended task", SOON, |tasks| {
            tasks.iter().find(|t| ended.contains(&t.state.as_str())).cloned()
        });
        if task.state == "complete" {
            service.await_log("end: end", SOON);
            both[at % 2] = service.logs(&[]).0;
        } else {
            both[at % 2] = format!("{}: {}", task.state, task.err);
        }
    }
    drop(services);
    drop(docker.docker_command().args(["swarm", "leave"]).output());
    world.manager.try_docker(&["node", "rm", "--force", "oracle"]);
    Some(seen)
}

/// Compares the facts of one case.
fn same(name: &str) {
    let Some(seen) = seen() else { return };
    let [docker, ours] = &seen[name];
    let facts = |text: &str| -> BTreeSet<String> {
        text.lines().filter(|line| known(name, line).is_none()).map(String::from).collect()
    };
    let (docker_facts, our_facts) = (facts(docker), facts(ours));
    let missing: Vec<_> = docker_facts.difference(&our_facts).collect();
    let extra: Vec<_> = our_facts.difference(&docker_facts).collect();
    assert!(
        missing.is_empty() && extra.is_empty(),
        "{name}: only docker: {missing:#?}\nonly edgeagent: {extra:#?}"
    );
}

/// Why a difference is meant, or depends on the version of dockerd.
fn known(case: &str, line: &str) -> Option<&'static str> {
    let begins = |text: &str| line.starts_with(text);
    if begins("masked: /proc/interrupts ") || begins("mount: /proc/interrupts ") {
        return Some("dockerd 28 and edgeagent mask it, 20.10 does not");
    }
    if begins("masked: /sys/devices/") || begins("mount: /sys/devices/") {
        return Some("masked from dockerd 24 (powercap) and 28 (thermal_throttle) on");
    }
    if begins("mount: /proc/acpi ")
        || begins("mount: /proc/scsi ")
        || begins("mount: /sys/firmware ")
    {
        return Some("an empty tmpfs; ours is also nosuid, nodev, noexec and holds nothing");
    }
    if begins("mount: /sys/fs/cgroup tmpfs ") || begins("writable: /sys/fs/cgroup ") {
        return Some("runc leaves the folder of the v1 trees writable, ours is read-only");
    }
    if case == "init" {
        let ours =
            ["first: ", "output: ", "stdin: ", "status: SigIgn", "mount: /sbin/docker-init "];
        if ours.iter().any(|fact| begins(fact)) {
            return Some(
                "our init is no file of the container, holds nothing open, ignores nothing",
            );
        }
        if begins("calls: cat /proc/1/environ") || begins("calls: ls /proc/1/cwd/") {
            return Some("our init may not be looked into (CVE-2016-9962)");
        }
    }
    None
}

macro_rules! cases {
    ($($test:ident $name:literal)*) => {
        $(
            #[test]
            fn $test() {
                same($name);
            }
        )*

        #[test]
        fn every_case_has_a_test() {
            assert!(CASES.iter().map(|c| c.name).eq([$($name),*]));
        }
    };
}

cases! {
    plain "plain"
    env "env"
    host_network "host-network"
    bridge_network "bridge-network"
    read_only "read-only"
    user "user"
    user_name "user-name"
    workdir "workdir"
    tmpfs "tmpfs"
    tmpfs_options "tmpfs-options"
    volume "volume"
    volume_read_only "volume-read-only"
    bind "bind"
    init "init"
    tty "tty"
    tty_user "tty-user"
    ulimit "ulimit"
    cap_add "cap-add"
    cap_drop_one "cap-drop-one"
    cap_drop "cap-drop"
    limits "limits"
    names "names"
    sysctl "sysctl"
}
