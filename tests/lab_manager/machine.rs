//! A lab and the agents that join it: programs in folders of their own.

use std::{
    fs::{self, File, OpenOptions},
    path::{Path, PathBuf},
    process::{self, Child, Command, Stdio},
    sync::OnceLock,
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::wire::Wire;

/// The sentence that ends a join.
pub(crate) const JOINED: &str = "This node joined a swarm as a worker.";

/// Names everything of this run.
pub(crate) fn prefix() -> String {
    format!("ea-{}", process::id())
}

/// The folder of this run; made with the process that sweeps it away.
pub(crate) fn folder() -> PathBuf {
    static SWEEPER: OnceLock<Child> = OnceLock::new();
    let dir = PathBuf::from(format!("/tmp/{}", prefix()));
    SWEEPER.get_or_init(|| {
        fs::create_dir_all(&dir).unwrap();
        let script = include_str!("../live/fixture/sweep.sh");
        Command::new("sh")
            .args(["-c", script, "sweep.sh", &prefix(), dir.to_str().unwrap()])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap()
    });
    dir
}

/// The lab's program, built on demand.
pub(crate) fn lab_program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().join("lab");
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/lab/Cargo.toml");
        let built = Command::new(env!("CARGO"))
            .args(["build", "--quiet", "--locked", "--manifest-path"])
            .arg(manifest)
            .arg("--target-dir")
            .arg(&target)
            .status()
            .unwrap();
        assert!(built.success(), "the lab does not build");
        target.join("debug/lab")
    })
}

/// Asks every 50 ms until there is an answer; the test fails after `bound`, with what was seen.
pub(crate) fn wait_for<T>(
    what: &str,
    bound: Duration,
    mut ask: impl FnMut() -> Result<T, String>,
) -> T {
    let begin = Instant::now();
    loop {
        match ask() {
            Ok(answer) => return answer,
            Err(seen) => {
                assert!(
                    begin.elapsed() < bound,
                    "waited {bound:?} in vain for {what}; seen: {seen}"
                );
            }
        }
        thread::sleep(Duration::from_millis(50));
    }
}

/// Output of a program, and how it ended.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Done {
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{}{}", self.out, self.err);
        self.out
    }
}

/// Runs a program to its end.
pub(crate) fn capture(command: &mut Command) -> Done {
    let output = command.stdin(Stdio::null()).output().unwrap();
    Done {
        code: output.status.code(),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

fn append(path: &Path) -> File {
    OpenOptions::new().append(true).create(true).open(path).unwrap()
}

fn kill(child: &mut Child) {
    // It may have ended by itself.
    drop(child.kill());
    child.wait().unwrap();
}

/// A running lab.
#[derive(Debug)]
pub(crate) struct Lab {
    dir: PathBuf,
    child: Child,
    /// Where it listens.
    pub(crate) addr: String,
    /// A network namespace, if not ours.
    netns: Option<String>,
}

impl Lab {
    /// `lab init` on a free port of loopback.
    pub(crate) fn start(name: &str, options: &[&str]) -> Self {
        Self::start_in(None, "127.0.0.1:0", name, options)
    }

    pub(crate) fn start_in(netns: Option<&str>, bind: &str, name: &str, options: &[&str]) -> Self {
        let dir = folder().join(name);
        let mut words = vec!["init", "--bind", bind];
        words.extend(options);
        let netns = netns.map(str::to_owned);
        let (child, addr) = Self::spawn(netns.as_deref(), &dir, &words);
        Self { dir, child, addr, netns }
    }

    fn spawn(netns: Option<&str>, dir: &Path, words: &[&str]) -> (Child, String) {
        let log = dir.with_extension("log");
        drop(fs::remove_file(&log));
        let mut command = netns.map_or_else(
            || Command::new(lab_program()),
            |netns| {
                let mut command = Command::new("nsenter");
                command.arg(format!("--net=/run/netns/{netns}")).arg(lab_program());
                command
            },
        );
        let child = command
            .arg("--dir")
            .arg(dir)
            .args(words)
            .env("EA_MARK", prefix())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(append(&log))
            .spawn()
            .unwrap();
        let addr = wait_for("the lab to serve", Duration::from_secs(10), || {
            let text = fs::read_to_string(&log).unwrap_or_default();
            let rest = text.split("serving on ").nth(1).ok_or_else(|| text.clone())?;
            Ok(rest.split(". To").next().unwrap().to_owned())
        });
        (child, addr)
    }

    /// Kills it.
    pub(crate) fn stop(&mut self) {
        kill(&mut self.child);
    }

    /// Kills it, and lets it serve the same swarm again.
    pub(crate) fn restart(&mut self) {
        kill(&mut self.child);
        let addr;
        (self.child, addr) = Self::spawn(self.netns.as_deref(), &self.dir, &["serve"]);
        assert_eq!(addr, self.addr, "it must come back where it was");
    }

    /// A command, however it ends.
    pub(crate) fn cli(&self, words: &[&str]) -> Done {
        capture(Command::new(lab_program()).arg("--dir").arg(&self.dir).args(words))
    }

    /// A command that must succeed.
    pub(crate) fn run(&self, words: &[&str]) -> String {
        self.cli(words).ok()
    }

    /// A command that prints JSON.
    pub(crate) fn json(&self, words: &[&str]) -> Vec<Value> {
        serde_json::from_str(&self.run(words)).unwrap()
    }

    pub(crate) fn token(&self) -> String {
        self.run(&["join-token"]).trim().to_owned()
    }

    /// How often this method was called since the lab's start.
    pub(crate) fn calls(&self, method: &str) -> u64 {
        let calls: Value = serde_json::from_str(&self.run(&["calls"])).unwrap();
        calls[method].as_u64().unwrap_or(0)
    }

    /// The nodes.
    pub(crate) fn nodes(&self) -> Vec<Value> {
        self.json(&["node", "ls", "--json"])
    }

    pub(crate) fn await_node(&self, hostname: &str, status: &str) {
        wait_for(&format!("{hostname} to be {status}"), Duration::from_secs(30), || {
            let nodes = self.nodes();
            let found = nodes.iter().any(|n| n["hostname"] == hostname && n["status"] == status);
            if found { Ok(()) } else { Err(format!("{nodes:?}")) }
        });
    }

    /// Tasks of a service that should run.
    pub(crate) fn tasks(&self, service: &str) -> Vec<Value> {
        let mut tasks = self.json(&["service", "ps", "--json", service]);
        tasks.retain(|task| task["desired"] == "Running");
        tasks
    }

    /// Waits until so many tasks of a service run, and no other.
    pub(crate) fn await_running(&self, service: &str, count: usize) -> Vec<Value> {
        let what = format!("{count} tasks of {service} to run");
        wait_for(&what, Duration::from_secs(30), || {
            let tasks = self.tasks(service);
            let all = tasks.len() == count && tasks.iter().all(|task| task["state"] == "Running");
            if all { Ok(tasks) } else { Err(self.run(&["service", "ps", service])) }
        })
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        kill(&mut self.child);
        if thread::panicking() {
            let log = fs::read_to_string(self.dir.with_extension("log"));
            println!("--- the lab said:\n{}", log.unwrap_or_default());
        }
    }
}

/// A machine with edgeagent.
#[derive(Debug)]
pub(crate) struct Agent {
    name: String,
    dir: PathBuf,
    child: Option<Child>,
    /// A network namespace, if not ours.
    netns: Option<String>,
    /// The folder that stands for systemd's credentials, if any.
    credentials: Option<PathBuf>,
}

impl Agent {
    /// Nothing but a configuration.
    pub(crate) fn new(name: &str) -> Self {
        let dir = folder().join(name);
        fs::create_dir_all(&dir).unwrap();
        let config = serde_json::json!({
            "join-file": dir.join("join.json"),
            "data-root": dir.join("data"),
            "exec-root": dir.join("run"),
            "cgroup-parent": format!("{}-{name}", prefix()),
            "hostname": name,
            // It runs in the machine's own network namespace, which a test must leave as it is.
            "bridge": "none",
        });
        fs::write(dir.join("agent.json"), config.to_string()).unwrap();
        Self { name: name.to_owned(), dir, child: None, netns: None, credentials: None }
    }

    /// On the device's end of a wire.
    pub(crate) fn inside(name: &str, wire: &Wire) -> Self {
        let mut agent = Self::new(name);
        agent.netns = Some(wire.here.clone());
        agent
    }

    /// Joined, running and Ready.
    pub(crate) fn member(name: &str, lab: &Lab) -> Self {
        let mut agent = Self::new(name);
        agent.join(lab).ok();
        agent.start();
        lab.await_node(name, "Ready");
        agent
    }

    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let program = env!("CARGO_BIN_EXE_edgeagent");
        let mut command = match &self.netns {
            None => Command::new(program),
            Some(netns) => {
                let mut command = Command::new("nsenter");
                command.arg(format!("--net=/run/netns/{netns}")).arg(program);
                command
            }
        };
        if let Some(credentials) = &self.credentials {
            command.env("CREDENTIALS_DIRECTORY", credentials);
        }
        command.arg("--config").arg(self.dir.join("agent.json")).args(words);
        command.env("EA_MARK", prefix());
        command
    }

    pub(crate) fn cli(&self, words: &[&str]) -> Done {
        capture(&mut self.command(words))
    }

    /// `edgeagent join`, however it ends.
    pub(crate) fn join(&self, lab: &Lab) -> Done {
        let done = self.cli(&["join", "--token", &lab.token(), &lab.addr]);
        assert_eq!(done.code == Some(0), done.out.contains(JOINED), "{done:?}");
        done
    }

    /// `edgeagent join`, left to itself.
    pub(crate) fn begin_join(&self, lab: &Lab) -> Child {
        let words = ["join", "--token", &lab.token(), &lab.addr];
        let log = append(&self.dir.join("join.log"));
        self.command(&words)
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .stdin(Stdio::null())
            .spawn()
            .unwrap()
    }

    /// What a join that was left to itself has said.
    pub(crate) fn join_log(&self) -> String {
        fs::read_to_string(self.join_log_path()).unwrap_or_default()
    }

    pub(crate) fn join_log_path(&self) -> PathBuf {
        self.dir.join("join.log")
    }

    pub(crate) fn data_root(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// Where the provisioning file is.
    pub(crate) fn join_file(&self) -> PathBuf {
        self.dir.join("join.json")
    }

    /// Gives it systemd credentials, in a folder.
    pub(crate) fn with_credentials(&mut self) -> PathBuf {
        let folder = self.dir.join("credentials");
        fs::create_dir_all(&folder).unwrap();
        self.credentials = Some(folder.clone());
        folder
    }

    /// Starts `edgeagent run`.
    pub(crate) fn start(&mut self) {
        let log = append(&self.log());
        let mut command = self.command(&["run"]);
        let command = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.child = Some(command.spawn().unwrap());
    }

    /// Starts `edgeagent run` as the last words of another command.
    pub(crate) fn start_wrapped(&mut self, words: &[&str]) {
        let log = append(&self.log());
        let inner = self.command(&["run"]);
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).arg(inner.get_program()).args(inner.get_args());
        command.env("EA_MARK", prefix());
        let command = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.child = Some(command.spawn().unwrap());
    }

    /// Whether the agent has ended by itself.
    pub(crate) fn ended(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| child.try_wait().unwrap().is_some())
    }

    /// Sets a key of the configuration to a path.
    pub(crate) fn set_key(&self, key: &str, path: &Path) {
        let file = self.dir.join("agent.json");
        let mut config: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        config[key] = path.to_str().into();
        fs::write(file, config.to_string()).unwrap();
    }

    /// [`Self::start`] with cores allowed, which would be written to the machine's folder.
    pub(crate) fn start_with_cores(&mut self) {
        let mut command = Command::new("sh");
        command.args(["-c", "ulimit -c unlimited; exec \"$0\" --config \"$1\" run"]);
        command.arg(env!("CARGO_BIN_EXE_edgeagent")).arg(self.dir.join("agent.json"));
        command.current_dir(&self.dir).env("EA_MARK", prefix());
        let command = command.stdin(Stdio::null()).stdout(Stdio::null());
        self.child = Some(command.stderr(append(&self.log())).spawn().unwrap());
    }

    /// Where everything of this machine is.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The agent's process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    /// Sends a signal to the agent and waits for its end.
    pub(crate) fn signal(&mut self, signal: rustix::process::Signal) {
        rustix::process::kill_process(
            rustix::process::Pid::from_child(self.child.as_ref().unwrap()),
            signal,
        )
        .unwrap();
        self.child.take().unwrap().wait().unwrap();
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            kill(&mut child);
        }
    }

    /// What `edgeagent run` has said.
    pub(crate) fn log_text(&self) -> String {
        fs::read_to_string(self.log()).unwrap_or_default()
    }

    fn log(&self) -> PathBuf {
        self.dir.join("log")
    }

    /// What the agent has said so far.
    pub(crate) fn said(&self) -> String {
        fs::read_to_string(self.log()).unwrap_or_default()
    }

    /// `edgeagent status --json`, and how long it took.
    pub(crate) fn status(&self) -> (Value, Duration) {
        let begin = Instant::now();
        let done = self.cli(&["status", "--json"]);
        let status = serde_json::from_str(&done.out)
            .unwrap_or_else(|_| serde_json::json!({ "state": "silent", "reason": done.err }));
        (status, begin.elapsed())
    }

    pub(crate) fn await_state(&self, state: &str, bound: Duration) -> Value {
        wait_for(&format!("{} to be {state}", self.name), bound, || {
            let (status, _) = self.status();
            if status["state"] == state { Ok(status) } else { Err(status.to_string()) }
        })
    }

    /// A line such as `VmRSS` of the agent's /proc/PID/status, in kB.
    pub(crate) fn memory(&self, line: &str) -> u64 {
        let pid = self.child.as_ref().unwrap().id();
        let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = text.lines().find(|found| found.starts_with(line)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// Lets the kernel measure the peak anew.
    pub(crate) fn forget_peak(&self) {
        let pid = self.child.as_ref().unwrap().id();
        fs::write(format!("/proc/{pid}/clear_refs"), "5").unwrap();
    }

    /// Loads `demo:1`: busybox and nothing else.
    pub(crate) fn load_image(&self) {
        self.cli(&["image", "load", "-i", demo_image().to_str().unwrap()]).ok();
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if thread::panicking() {
            let log = fs::read_to_string(self.log()).unwrap_or_default();
            println!("--- the agent {} said:\n{log}", self.name);
        }
        if self.child.is_some() {
            // Takes the tasks away as well; the sweeper takes what it leaves.
            self.cli(&["leave"]);
        }
        self.kill();
    }
}

/// An archive as `docker save` writes it.
pub(crate) fn demo_image() -> PathBuf {
    static IMAGE: OnceLock<PathBuf> = OnceLock::new();
    IMAGE
        .get_or_init(|| {
            let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/lab/image.sh");
            let file = folder().join("demo.tar");
            capture(Command::new("sh").arg(script).arg(&file)).ok();
            file
        })
        .clone()
}
