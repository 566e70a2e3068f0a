//! The unit under a real systemd, and the tarball's own installer beside it: first boot, a file to
//! join with, upgrade, watchdog, uninstall. Tasks go on through all of it.
//!
//! `boot.sh` boots this machine's systemd in namespaces of its own.

use std::{
    collections::BTreeSet,
    env, fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    fixture::{
        Daemon, Done, Host, World, capture, folder, prefix, wait_for, wait_ok, wait_until, world,
    },
    services::polite,
};

const SOON: Duration = Duration::from_secs(40);

/// Three heartbeats of 5 s: after them the manager holds a node for lost (swarmkit
/// `manager/dispatcher/dispatcher.go`).
const LOST: Duration = Duration::from_secs(15);

/// A host with systemd as its first process.
struct Machine {
    host: Host,
    folder: PathBuf,
    /// The first process, by its number outside.
    init: u32,
    log: PathBuf,
    _systemd: Daemon,
}

impl Machine {
    fn boot(world: &World, name: &str) -> Self {
        let host = world.switch.host(name);
        let folder = folder().join(name);
        fs::create_dir_all(folder.join("share")).unwrap();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/live/systemd/boot.sh");
        let mut command = host.command(script.to_str().unwrap());
        command.arg(format!("{}-{name}", prefix())).arg(&folder);
        let log = folder.join("systemd.log");
        let systemd = Daemon::start(name, &log, &mut command);
        let init = wait_for("systemd", SOON, || host.pids().into_iter().find(|pid| is_init(*pid)));
        let machine = Self { host, folder, init, log, _systemd: systemd };
        wait_until("systemd to have booted", SOON, || {
            machine.run(&["systemctl", "is-active", "multi-user.target"]).code == 0
        });
        machine
    }

    /// Runs a program of this machine on it.
    fn run(&self, words: &[&str]) -> Done {
        let mut command = Command::new("nsenter");
        command.arg("-t").arg(self.init.to_string());
        // All of it, the root folder and the place too; not the user's namespace.
        command.args(["-m", "-p", "-n", "-u", "-i", "-C", "-r", "-w", "--"]).args(words);
        capture(&mut command)
    }

    /// A property of the agent's unit.
    fn property(&self, name: &str) -> String {
        self.run(&["systemctl", "show", "--value", "-p", name, "edgeagent.service"]).ok()
    }

    /// The agent's process, by its number on the machine.
    fn main_pid(&self) -> String {
        let pid = self.property("MainPID");
        assert_ne!(pid, "0", "{}", self.said());
        pid
    }

    /// Field `state` of `edgeagent status --json`.
    fn state(&self) -> String {
        let done = self.run(&["edgeagent", "status", "--json"]);
        let status: Value = serde_json::from_str(&done.out).unwrap_or_default();
        status["state"].as_str().unwrap_or_default().to_owned()
    }

    /// Runs the installer of an unpacked tarball.
    fn install(&self, tarball: &str, words: &[&str]) -> Done {
        let script = format!("/mnt/{tarball}/install.sh");
        let mut all = vec!["sh", script.as_str()];
        all.extend(words);
        self.run(&all)
    }

    /// Packs the program under test as release `name`, and puts it unpacked where the machine sees
    /// it. `tail` makes another program of it: no loader reads behind the last section.
    fn release(&self, name: &str, tail: &[u8]) {
        let work = self.folder.join(format!("pack-{name}"));
        fs::create_dir_all(work.join("docs")).unwrap();
        fs::write(work.join("docs/THIRD-PARTY.txt"), "what is linked\n").unwrap();
        let binary = work.join("edgeagent");
        // Packing ten times as many bytes of a debug build takes ten times as long.
        let mut strip = Command::new("strip");
        capture(strip.arg(folder().join("bin/edgeagent")).arg("-o").arg(&binary)).ok();
        let mut file = fs::OpenOptions::new().append(true).open(&binary).unwrap();
        file.write_all(tail).unwrap();
        drop(file);
        let mut pack = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("targets/pack"));
        pack.arg(env::consts::ARCH).arg(&binary).arg(work.join("docs")).arg(work.join("out"));
        let tarball = capture(pack.env("SOURCE_DATE_EPOCH", "1795370000")).ok();
        let place = self.folder.join("share").join(name);
        fs::create_dir(&place).unwrap();
        let mut tar = Command::new("tar");
        tar.args(["--strip-components=1", "-xzf", &tarball, "-C"]).arg(&place);
        capture(&mut tar).ok();
    }

    /// Puts a file on the machine.
    fn write(&self, place: &str, text: &str) {
        fs::write(self.folder.join("share/file"), text).unwrap();
        // By rename, as an installer does.
        let script =
            "umask 077 && mkdir -p \"${0%/*}\" && cp /mnt/file \"$0.new\" && mv \"$0.new\" \"$0\"";
        self.run(&["sh", "-c", script, place]).ok();
    }

    /// What systemd and the agent said, for a failure.
    fn said(&self) -> String {
        let agent = self.run(&["cat", "/run/agent.log"]).out;
        format!("{}{agent}", fs::read_to_string(&self.log).unwrap_or_default())
    }
}

/// Whether a process is the first of its namespace.
fn is_init(pid: u32) -> bool {
    let comm = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let inside = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
    comm == "systemd\n" && inside.is_some_and(|ids| ids.split_whitespace().last() == Some("1"))
}

#[test]
#[cfg_attr(
    not(all(root, program = "dockerd", program = "systemd")),
    ignore = "needs root, dockerd and systemd"
)]
fn a_device_with_systemd_is_installed_joins_is_upgraded_and_keeps_its_tasks() {
    let world = world();
    let machine = Machine::boot(&world, "unit");
    machine.release("one", b"");
    machine.release("two", b"another");
    let config = json!({ "insecure-registries": [world.registry] });
    machine.write("/etc/edgeagent/agent.json", &config.to_string());
    let log = "[Service]\nStandardError=append:/run/agent.log\n";
    machine.write("/etc/systemd/system/edgeagent.service.d/log.conf", log);

    // 1. Installed on the running device: ready as systemd understands it, in no swarm.
    let done = machine.install("one", &[]);
    assert!(done.out.contains("done, and the agent runs"), "{}\n{}", done.text(), machine.said());
    assert_eq!(machine.property("ActiveState"), "active", "{}", machine.said());
    assert_eq!(machine.property("Type"), "notify");
    assert_eq!(machine.state(), "not-joined");
    wait_until("the agent's state as the status line", SOON, || {
        machine.property("StatusText") == "not-joined, 0 of 0 tasks run"
    });

    // 2. A file to join with is noticed by the path unit; the token does not stay.
    let join =
        json!({ "token": world.manager.token("worker"), "addresses": [world.manager.addr()] });
    machine.write("/etc/edgeagent/join.json", &join.to_string());
    wait_ok("the node to be ready", SOON, || {
        if world.manager.node_state("unit") == "ready" { Ok(()) } else { Err(machine.said()) }
    });
    let service = polite(&world, "unit", "under-systemd", &["--replicas", "2"]);
    service.await_running(2, SOON);
    let pids = service.await_containers(2, SOON);
    let kept = |what: &str| {
        assert_eq!(service.containers(), pids, "{what} touched the tasks\n{}", machine.said());
    };

    // 3. The upgrade: another program in the place of the one that runs.
    let before = machine.main_pid();
    let begin = Instant::now();
    let done = machine.install("two", &[]);
    assert!(done.out.contains("/usr/bin/edgeagent"), "{}", done.text());
    kept("the upgrade");
    assert_ne!(machine.main_pid(), before, "{}", done.text());
    wait_until("the upgraded agent to be ready", SOON, || machine.state() == "ready");
    let took = begin.elapsed();
    println!("upgrade: ready again after {} ms, installer included", took.as_millis());
    if took < LOST {
        assert_eq!(world.manager.node_state("unit"), "ready", "the manager did not miss it");
    }
    let same = ["sh", "-c", "cmp /mnt/two/edgeagent /usr/bin/edgeagent"];
    machine.run(&same).ok();
    kept("the new agent");
    let again = machine.install("two", &[]);
    assert_eq!(again.ok().lines().count(), 1, "installed twice changes nothing");

    // 4. Stopped, restarted, killed.
    machine.run(&["systemctl", "restart", "edgeagent.service"]).ok();
    kept("systemctl restart");
    machine.run(&["systemctl", "stop", "edgeagent.service"]).ok();
    kept("systemctl stop");
    machine.run(&["systemctl", "start", "edgeagent.service"]).ok();
    let before = machine.main_pid();
    machine.run(&["kill", "-9", &before]).ok();
    wait_until("systemd to start a killed agent again", SOON, || {
        machine.property("MainPID") != before && machine.property("ActiveState") == "active"
    });
    kept("the death of the agent");

    // 5. A loop that stands still. The unit's minute is too long for a test.
    let drop_in = "[Service]\nWatchdogSec=5\n";
    machine.write("/etc/systemd/system/edgeagent.service.d/watchdog.conf", drop_in);
    machine.run(&["systemctl", "daemon-reload"]).ok();
    machine.run(&["systemctl", "restart", "edgeagent.service"]).ok();
    let before = machine.main_pid();
    machine.run(&["kill", "-STOP", &before]).ok();
    wait_until("the watchdog to end a stopped agent", SOON, || {
        let log = fs::read_to_string(&machine.log).unwrap_or_default();
        log.contains("edgeagent.service: Watchdog timeout")
    });
    wait_until("systemd to start it again", SOON, || {
        machine.property("MainPID") != before && machine.property("ActiveState") == "active"
    });
    kept("the watchdog");
    wait_until("the agent to be ready again", SOON, || machine.state() == "ready");
    service.await_running(2, SOON);
    service.scale(3);
    assert!(service.await_containers(3, SOON).is_superset(&pids), "and still it is governed");

    // 6. Away with it: not while it is in a swarm.
    let done = machine.install("two", &["--uninstall"]);
    assert!(done.code == 1 && done.err.contains("edgeagent leave"), "{}", done.text());
    service.remove();
    machine.run(&["edgeagent", "leave"]).ok();
    machine.install("two", &["--uninstall"]).ok();
    assert_eq!(machine.run(&["systemctl", "cat", "edgeagent.service"]).code, 1);
    assert_eq!(machine.run(&["test", "-e", "/usr/bin/edgeagent"]).code, 1);
    let left: BTreeSet<_> =
        machine.host.pids().into_iter().filter(|p| *p != machine.init).collect();
    let names = left.iter().filter_map(|p| fs::read_to_string(format!("/proc/{p}/comm")).ok());
    assert_eq!(names.filter(|n| n.contains("edgeagent")).count(), 0, "{left:?}");
}
