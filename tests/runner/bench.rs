//! A place of its own for each test: image root, folders, and a look at what is left behind.

use std::{
    cell::Cell,
    collections::BTreeMap,
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use edgeagent::{
    model::{
        Bundle, BundleMount, ContainerId, Denied, Exit, HealthCheck, MountKind, NetworkMode,
        Propagation, RootFs, Seccomp, TaskId,
    },
    shim::{self, Shim},
};

/// Docker's default capabilities.
pub(crate) const DEFAULT_CAPABILITIES: u64 = 0xa804_25fb;

/// Waits for a condition, with a bound.
pub(crate) fn until(what: &str, mut done: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !done() {
        assert!(begin.elapsed() < Duration::from_secs(20), "no {what} within 20 s");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A check that is made again after so many milliseconds, and believed at once.
pub(crate) fn check(argv: &[&str], pause_ms: u64) -> HealthCheck {
    let pause = Duration::from_millis(pause_ms);
    HealthCheck {
        argv: argv.iter().map(|word| (*word).to_owned()).collect(),
        interval: pause,
        timeout: Duration::from_secs(5),
        retries: 1,
        start_period: Duration::ZERO,
        start_interval: pause,
    }
}

pub(crate) struct Bench {
    pub(crate) base: PathBuf,
    pub(crate) program: PathBuf,
    name: &'static str,
    count: Cell<u32>,
}

impl Bench {
    pub(crate) fn new(name: &'static str) -> Self {
        let base = PathBuf::from(format!("/tmp/edgeagent-runner-{}-{name}", std::process::id()));
        fs::create_dir_all(base.join("out")).unwrap();
        let image = base.join("image");
        for dir in ["bin", "etc", "tmp", "data/below", "home"] {
            fs::create_dir_all(image.join(dir)).unwrap();
        }
        fs::copy("/bin/busybox", image.join("bin/busybox")).unwrap();
        for applet in ["sh", "sleep", "cat", "id", "true", "ls", "env", "stat", "mount", "kill"] {
            std::os::unix::fs::symlink("busybox", image.join("bin").join(applet)).unwrap();
        }
        fs::write(
            image.join("etc/passwd"),
            "root:x:0:0:root:/root:/bin/sh\nbob:x:1000:1001::/home/bob:/bin/sh\n",
        )
        .unwrap();
        fs::write(image.join("etc/group"), "root:x:0:\nbob:x:1001:\naudio:x:29:bob\n").unwrap();
        fs::write(image.join("data/below/seed"), "from the image").unwrap();
        let program = std::env::var_os("EDGEAGENT_BIN")
            .map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_edgeagent")), PathBuf::from);
        Self { base, program, name, count: Cell::new(0) }
    }

    /// A bundle that runs `argv`.
    pub(crate) fn bundle(&self, argv: &[&str]) -> Bundle {
        let number = self.count.get();
        self.count.set(number + 1);
        let id = format!("{}-{}-{number}", self.name, std::process::id());
        Bundle {
            devices: Vec::new(),
            task: TaskId::new(&id).unwrap(),
            container: ContainerId::new(&format!("c-{id}")).unwrap(),
            dir: self.base.join("run/tasks").join(&id),
            argv: argv.iter().map(|a| (*a).to_owned()).collect(),
            env: vec!["PATH=/bin".to_owned()],
            cwd: "/".to_owned(),
            user: String::new(),
            groups: Vec::new(),
            hostname: "box".to_owned(),
            root: RootFs {
                layers: vec![self.base.join("image")],
                writable: self.base.join("containers").join(&id),
                read_only: false,
            },
            mounts: vec![BundleMount {
                kind: MountKind::Bind {
                    source: self.base.join("out"),
                    propagation: Propagation::RPrivate,
                    recursive: true,
                    populate: false,
                    denied: Denied::default(),
                },
                target: "/out".to_owned(),
                read_only: false,
            }],
            files: Vec::new(),
            hosts: vec![("10.0.0.1".to_owned(), "extra".to_owned())],
            resolv_conf: Some("nameserver 192.0.2.53\n".to_owned()),
            network: NetworkMode::Isolated,
            capabilities: DEFAULT_CAPABILITIES,
            seccomp: Seccomp::Default,
            apparmor: true,
            no_new_privileges: false,
            users: None,
            memory_bytes: None,
            nano_cpus: None,
            pids: None,
            cgroup_parent: format!("edgeagent-test-{}-{}", self.name, std::process::id()),
            rlimits: Vec::new(),
            oom_score_adj: 0,
            sysctls: BTreeMap::new(),
            tty: false,
            open_stdin: false,
            init: false,
            stop_signal: 15,
            stop_grace_seconds: Some(10),
            log_max_bytes: 1 << 20,
            health: None,
        }
    }

    pub(crate) fn shell(&self, script: &str) -> Bundle {
        self.bundle(&["/bin/sh", "-c", script])
    }

    pub(crate) fn spawn(&self, bundle: &Bundle) -> Shim {
        shim::spawn(&self.program, bundle, &[]).unwrap()
    }

    /// Spawns and waits until the program runs.
    pub(crate) fn start(&self, bundle: &Bundle) -> Shim {
        let shim = self.spawn(bundle);
        smol::block_on(shim.started()).unwrap();
        shim
    }

    /// Runs to the end and removes.
    pub(crate) fn run(&self, bundle: &Bundle) -> Exit {
        let exit = smol::block_on(self.spawn(bundle).wait());
        self.remove(bundle);
        exit
    }

    /// Runs a script and gives what it printed.
    pub(crate) fn output(&self, bundle: &mut Bundle, script: &str) -> String {
        bundle.argv = ["/bin/sh", "-c", &format!("{{ {script}\n}} > /out/text 2>&1")]
            .map(String::from)
            .into();
        let exit = self.run(bundle);
        let text = fs::read_to_string(self.base.join("out/text")).unwrap_or_default();
        assert_eq!((exit.code, exit.start_error), (0, None), "{script}: {text}");
        text
    }

    pub(crate) fn remove(&self, bundle: &Bundle) {
        shim::remove(&bundle.dir, &bundle.root.writable).unwrap();
        assert!(!bundle.dir.exists() && !bundle.root.writable.exists());
    }

    pub(crate) fn cgroups(&self) -> Vec<PathBuf> {
        let parent = format!("edgeagent-test-{}-{}", self.name, std::process::id());
        let mut found = Vec::new();
        for tree in fs::read_dir("/sys/fs/cgroup").unwrap().flatten() {
            if let Ok(groups) = fs::read_dir(tree.path().join(&parent)) {
                found.extend(groups.flatten().map(|g| g.path()).filter(|p| p.is_dir()));
            }
        }
        found
    }

    /// No mounts, groups or processes of this bench.
    pub(crate) fn nothing_is_left(&self) {
        let base = self.base.to_str().unwrap();
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let left: Vec<&str> = mounts.lines().filter(|l| l.contains(base)).collect();
        assert!(left.is_empty(), "mounts left: {left:?}");
        assert_eq!(self.cgroups(), Vec::<PathBuf>::new(), "groups left");
        until("end of all processes", || processes(self.name).is_empty());
    }
}

/// Processes that are shims of this bench, zombies included.
pub(crate) fn processes(name: &str) -> Vec<PathBuf> {
    let wanted = format!("edgeagent-shim\0{name}-{}-", std::process::id());
    let all = fs::read_dir("/proc").unwrap().flatten().map(|e| e.path());
    all.filter(|p| fs::read(p.join("cmdline")).is_ok_and(|c| c.starts_with(wanted.as_bytes())))
        .collect()
}

/// Also when the test has failed: nothing of it must be in the way of another one.
impl Drop for Bench {
    fn drop(&mut self) {
        // Its container dies with a shim.
        for process in processes(self.name) {
            let pid = process.file_name().and_then(|name| name.to_str()?.parse().ok());
            if let Some(pid) = pid.and_then(rustix::process::Pid::from_raw) {
                let _ended = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
        let begin = Instant::now();
        let empty = |group: &PathBuf| fs::remove_dir(group).is_ok() || !group.exists();
        while !self.cgroups().iter().all(empty) && begin.elapsed() < Duration::from_secs(10) {
            std::thread::sleep(Duration::from_millis(2));
        }
        let parent = format!("edgeagent-test-{}-{}", self.name, std::process::id());
        for tree in fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
            // Most trees have none of ours.
            let _gone = fs::remove_dir(tree.path().join(&parent));
        }
        let _left = edgeagent::files::remove_tree(&self.base);
    }
}
