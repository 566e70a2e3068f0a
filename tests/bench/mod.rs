//! `make bench`: edgeagent beside dockerd as workers of one manager, in one run; prints a table.
//!
//! Method (that of the figures in the design): states are read from the manager's API, the processes of a
//! worker are those of a cgroup of its own (so that short-lived children count), bytes are those of its
//! network interface. dockerd runs from copies of its programs, so that no page is shared with the manager.
//! The container's own processes count for neither side. Both have their run-time state on a tmpfs, as `/run`
//! is, and log as much as they do by default. Joins are timed from the start of the command on both sides
//! (`edgeagent join`, `docker swarm join`), scaling from the call of the manager's API.
//!
//! | variable | meaning |
//! |---|---|
//! | `EA_BUILD` | how `EDGEAGENT_BIN` was built, for the head of the table |

mod device;
mod images;
mod measure;
mod table;

use std::{
    env, fs,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::fixture::{
    Agent, Engine, EngineOptions, Host, JOINED, Join, Root, World, capture, folder, run, world,
};
use measure::{Group, Sample, median, pss_of};
use table::{Budget, Table};

const SOON: Duration = Duration::from_secs(60);
const IDLE: Duration = Duration::from_secs(60);
/// How long health probes are watched.
const PROBED: Duration = Duration::from_secs(20);
/// Between two looks at a state.
const LOOK: Duration = Duration::from_millis(5);
/// The same while many tasks are looked at: the manager's answer takes processor time from the workers.
const LOOK_AT_MANY: Duration = Duration::from_millis(50);
const COUNTS: [usize; 3] = [1, 10, 50];
const PROGRAMS: [&str; 6] =
    ["dockerd", "containerd", "containerd-shim-runc-v2", "runc", "docker-proxy", "docker-init"];

#[test]
#[ignore = "make bench"]
fn edgeagent_beside_dockerd() {
    let world = world();
    let begin = Instant::now();
    let build = env::var("EA_BUILD").unwrap_or_else(|_| "as given".to_owned());
    let program = fs::metadata(folder().join("bin/edgeagent")).unwrap().len();
    let docker = dockerd_worker(&world);
    let mut agent = world.fresh_agent();
    on_tmpfs(&agent.exec_root());
    agent.start_quiet();
    let ours =
        Worker { name: agent.name().to_owned(), group: Group::around(agent.name(), agent.pid()) };
    let theirs = Worker {
        name: docker.host.name.clone(),
        group: Group::around(&docker.host.name, docker.pid()),
    };
    let versions = (
        run(&["uname", "-mr"]),
        docker.docker(&["version", "-f", "{{.Server.Version}}"]),
        thread::available_parallelism().unwrap(),
    );
    let mut table = Table::new(&format!(
        "edgeagent, {build}, beside dockerd {}; Linux {}, {} processors",
        versions.1, versions.0, versions.2
    ));

    let docker_bytes: u64 =
        PROGRAMS.iter().filter_map(|p| find(p)).map(|p| fs::metadata(p).unwrap().len()).sum();
    table.row("programs on disk", "MB", mega(program), mega(docker_bytes), size_budget(&build));

    let joins = (join_times(&world, &agent, 7), docker_join_times(&world, &docker, 7));
    let (a, b) = (median(&joins.0), median(&joins.1));
    table.row("command join to Ready, median of 7", "s", a, b, Budget::Ratio(0.7));
    let sockets = |host: &Host| f64::from(u32::try_from(host.listeners().lines().count()).unwrap());
    table.row(
        "listening sockets",
        "",
        sockets(&agent.host),
        sockets(&docker.host),
        Budget::AtMost(0.0),
    );

    idle(&mut table, &world, [(&ours, &agent.host), (&theirs, &docker.host)]);
    table.row(
        "memory idle (PSS)",
        "MB",
        mega(ours.group.pss()),
        mega(theirs.group.pss()),
        Budget::AtMost(3.0),
    );
    memory(&mut table, &world, [(&ours, agent.pid()), (&theirs, docker.pid())]);
    for (network, options, runs) in
        [("none given", &[][..], 20), ("host", &["--network", "host"], 20)]
    {
        let a = start_stop(&world, &ours, options, runs);
        let b = start_stop(&world, &theirs, options, runs);
        table.row(
            &format!("scale 0 to 1 running, network {network}, median of {runs}"),
            "s",
            a.0,
            b.0,
            Budget::Ratio(0.5),
        );
        table.row(
            &format!("stop to gone, network {network}, median of {runs}"),
            "s",
            a.1,
            b.1,
            Budget::Ratio(0.3),
        );
    }
    // Both run the first probe after one interval.
    let checked = &["--health-cmd", "true", "--health-interval", "500ms"];
    table.row(
        "scale 0 to 1 healthy, probed every 0.5 s, median of 10",
        "s",
        start_stop(&world, &ours, checked, 10).0,
        start_stop(&world, &theirs, checked, 10).0,
        Budget::None,
    );
    table.row(
        "health probes, CPU of one container probed every 30 s",
        "s/hour",
        probe_cpu(&world, &ours),
        probe_cpu(&world, &theirs),
        Budget::Ratio(1.0),
    );
    println!("\n{}", table.render());
    println!("Network `none given`: an endpoint on the default bridge, on both sides.");
    println!("The whole run took {} s.", begin.elapsed().as_secs());
    drop(agent);
    drop(docker);
}

/// What the table's file for this machine's architecture promises; it is for the build that ships.
fn size_budget(build: &str) -> Budget {
    let file = format!("{}/targets/{}.target", env!("CARGO_MANIFEST_DIR"), env::consts::ARCH);
    let text = fs::read_to_string(file).unwrap_or_default();
    let bytes = text.lines().find_map(|l| l.strip_prefix("size_budget=")?.parse().ok());
    match bytes {
        Some(bytes) if build.contains("static") => Budget::AtMost(mega(bytes)),
        Some(_) | None => Budget::None,
    }
}

/// `/run` is one on every real system; the folder of a test run is not.
fn on_tmpfs(folder: &Path) {
    fs::create_dir_all(folder).unwrap();
    run(&["mount", "-t", "tmpfs", "-o", "mode=0700", "tmpfs", folder.to_str().unwrap()]);
}

/// Looks until there is an answer.
fn await_answer<T>(what: &str, pause: Duration, mut ask: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(begin.elapsed() < SOON, "waited {SOON:?} in vain for: {what}");
        thread::sleep(pause);
    }
}

/// A worker and the cgroup around its processes.
#[derive(Debug)]
struct Worker {
    name: String,
    group: Group,
}

fn mega(bytes: u64) -> f64 {
    measure::float(bytes) / 1e6
}

fn find(program: &str) -> Option<std::path::PathBuf> {
    ["/usr/sbin", "/usr/bin", "/usr/libexec/docker"]
        .iter()
        .map(|d| Path::new(d).join(program))
        .find(|p| p.exists())
}

fn dockerd_worker(world: &World) -> Engine {
    let copies = folder().join("copies");
    fs::create_dir_all(&copies).unwrap();
    for program in PROGRAMS {
        if let Some(path) = find(program) {
            fs::copy(path, copies.join(program)).unwrap();
        }
    }
    on_tmpfs(&folder().join("docker/exec"));
    Engine::start(
        world.switch.host("docker"),
        EngineOptions {
            registry: world.registry.clone(),
            runs_tasks: true,
            root: Root::Copy(copies),
            dir: folder().join("docker"),
        },
    )
}

fn await_ready(manager: &Engine, name: &str) {
    await_answer(&format!("{name} to be Ready"), LOOK, || {
        (manager.node_state(name) == "ready").then_some(())
    });
}

/// From the start of the command; the last join stays.
fn join_times(world: &World, agent: &Agent, runs: usize) -> Vec<f64> {
    let manager = &world.manager;
    let (token, addr) = (manager.token("worker"), manager.addr());
    let mut times = Vec::new();
    for run in 0..runs {
        if run > 0 {
            agent.cli(&["leave"]).ok();
            manager.docker(&["node", "rm", "--force", agent.name()]);
        }
        let begin = Instant::now();
        let done = agent.join(Join { token: &token, addrs: &[&addr] });
        await_ready(manager, agent.name());
        times.push(begin.elapsed().as_secs_f64());
        assert!(done.ok().contains(JOINED));
    }
    times
}

/// The same with the `docker` command.
fn docker_join_times(world: &World, docker: &Engine, runs: usize) -> Vec<f64> {
    let manager = &world.manager;
    let (token, addr) = (manager.token("worker"), manager.addr());
    let mut times = Vec::new();
    for run in 0..runs {
        if run > 0 {
            docker.docker(&["swarm", "leave"]);
            manager.docker(&["node", "rm", "--force", &docker.host.name]);
        }
        let mut command = docker.docker_command();
        command.args(["swarm", "join", "--token", &token, &addr]);
        command.args(["--advertise-addr", &docker.host.ip]);
        let begin = Instant::now();
        let done = capture(&mut command);
        await_ready(manager, &docker.host.name);
        times.push(begin.elapsed().as_secs_f64());
        assert!(done.ok().contains(JOINED));
    }
    times
}

/// Both at once, for the same minute.
fn idle(table: &mut Table, world: &World, workers: [(&Worker, &Host); 2]) {
    for (worker, _) in workers {
        await_ready(&world.manager, &worker.name);
    }
    thread::sleep(Duration::from_secs(10)); // what the joins have left to do is not idleness
    let before = workers.map(|(w, h)| Sample::of(&w.group, h));
    thread::sleep(IDLE);
    let spent: Vec<Sample> =
        workers.iter().zip(&before).map(|((w, h), b)| Sample::of(&w.group, h).since(b)).collect();
    let per_second = |n: u64| measure::float(n) / IDLE.as_secs_f64();
    table.row("CPU idle", "s/hour", spent[0].cpu * 60.0, spent[1].cpu * 60.0, Budget::AtMost(1.0));
    table.row(
        "context switches idle",
        "/s",
        per_second(spent[0].switches),
        per_second(spent[1].switches),
        Budget::AtMost(3.0),
    );
    let kilo = |n: u64| measure::float(n) / 1e3;
    table.row("sent idle", "kB/min", kilo(spent[0].sent), kilo(spent[1].sent), Budget::Ratio(0.25));
    table.row(
        "received idle",
        "kB/min",
        kilo(spent[0].received),
        kilo(spent[1].received),
        Budget::Ratio(0.25),
    );
    table.row(
        "written to storage idle",
        "kB/min",
        kilo(spent[0].written),
        kilo(spent[1].written),
        Budget::AtMost(0.0),
    );
}

/// What memory and the step to 50 tasks cost one worker.
#[derive(Debug)]
struct Crowd {
    /// Memory before the first task.
    idle: u64,
    /// Memory of the daemon alone, of everything, and the processes, for each of [`COUNTS`].
    counts: Vec<(u64, u64, usize)>,
    /// Seconds until 20 run, from none.
    twenty: f64,
    /// Seconds until 50 run, from none.
    took: f64,
    /// CPU seconds of that, until all is quiet.
    cpu: f64,
    /// Seconds until the 50 are gone.
    gone: f64,
}

/// Memory with 1, 10 and 50 tasks, and what the steps from none to 20 and to 50 cost.
fn memory(table: &mut Table, world: &World, workers: [(&Worker, u32); 2]) {
    let [a, b] = workers.map(|(worker, daemon)| crowd(world, worker, daemon));
    for (i, count) in COUNTS.iter().enumerate() {
        let label = format!("memory with {count} task{} (PSS)", if *count == 1 { "" } else { "s" });
        table.row(&label, "MB", mega(a.counts[i].1), mega(b.counts[i].1), Budget::None);
        table.row(
            "… of it agent, dockerd",
            "MB",
            mega(a.counts[i].0),
            mega(b.counts[i].0),
            Budget::None,
        );
        let rest = |c: &Crowd| mega(c.counts[i].1.saturating_sub(c.counts[i].0));
        table.row("… of it shims, containerd", "MB", rest(&a), rest(&b), Budget::None);
    }
    let each = |c: &Crowd| mega(c.counts[2].1.saturating_sub(c.idle)) / 50.0;
    table.row("memory per task, of 50 (PSS)", "MB", each(&a), each(&b), Budget::AtMost(0.4));
    let processes = |c: &Crowd| f64::from(u32::try_from(c.counts[2].2).unwrap());
    table.row("processes with 50 tasks", "", processes(&a), processes(&b), Budget::None);
    table.row("scale 0 to 20 running", "s", a.twenty, b.twenty, Budget::None);
    table.row("scale 0 to 50 running", "s", a.took, b.took, Budget::Ratio(0.3));
    table.row("CPU of that", "s", a.cpu, b.cpu, Budget::Ratio(0.1));
    table.row("50 tasks to gone", "s", a.gone, b.gone, Budget::None);
}

fn crowd(world: &World, worker: &Worker, daemon: u32) -> Crowd {
    let service = Replicas::create(world, worker, &[]);
    let idle = worker.group.pss();
    let mut counts = Vec::new();
    for count in COUNTS {
        service.set(count);
        service.await_running(count);
        thread::sleep(Duration::from_secs(3)); // start-up memory is given back
        counts.push((pss_of(daemon), worker.group.pss(), worker.group.processes()));
    }
    let from_none = |count: usize| {
        service.set(0);
        service.await_gone();
        thread::sleep(Duration::from_secs(5)); // both clear away in the background
        let (begin, before) = (Instant::now(), worker.group.cpu());
        service.set(count);
        service.await_running(count);
        (begin.elapsed().as_secs_f64(), before)
    };
    let (twenty, _) = from_none(20);
    let (took, before) = from_none(50);
    thread::sleep(Duration::from_secs(1));
    let cpu = worker.group.cpu() - before;
    let begin = Instant::now();
    service.set(0);
    service.await_gone();
    let gone = begin.elapsed().as_secs_f64();
    Crowd { idle, counts, twenty, took, cpu, gone }
}

/// CPU seconds of an hour of probes of one container, one every 30 s: of ten containers with one every
/// second, less what the worker costs without them.
fn probe_cpu(world: &World, worker: &Worker) -> f64 {
    let spent = |options: &[&str]| {
        let service = Replicas::create(world, worker, options);
        service.set(10);
        service.await_running(10);
        thread::sleep(Duration::from_secs(3)); // what the starts have left to do
        let before = worker.group.cpu();
        thread::sleep(PROBED);
        let cpu = worker.group.cpu() - before;
        service.set(0);
        service.await_gone();
        thread::sleep(Duration::from_secs(5)); // both clear away in the background
        cpu
    };
    let probed = spent(&["--health-cmd", "true", "--health-interval", "1s"]);
    let probes = 10.0 * PROBED.as_secs_f64();
    (probed - spent(&[])).max(0.0) / probes * 120.0
}

/// Medians of start and stop.
///
/// The manager writes statuses down ten times a second, and a run begins when the one before was seen to
/// end: each run waits for another part of that period first, or all would meet the same moment of it.
fn start_stop(world: &World, worker: &Worker, options: &[&str], runs: usize) -> (f64, f64) {
    let service = Replicas::create(world, worker, options);
    let (mut starts, mut stops) = (Vec::new(), Vec::new());
    for run in 0..runs {
        let phase = |part: usize| Duration::from_millis(u64::try_from(part % 100).unwrap());
        thread::sleep(phase(run * 37));
        let begin = Instant::now();
        service.set(1);
        let pid = service.await_running(1);
        starts.push(begin.elapsed().as_secs_f64());
        thread::sleep(phase(run * 37 + 50));
        let begin = Instant::now();
        service.set(0);
        await_answer("the process to end", LOOK, || {
            (!Path::new(&format!("/proc/{pid}")).exists()).then_some(())
        });
        service.await_gone();
        stops.push(begin.elapsed().as_secs_f64());
    }
    (median(&starts), median(&stops))
}

/// A service whose number of replicas is set through the API, without the start of a command in the way.
struct Replicas<'a> {
    manager: &'a Engine,
    name: String,
}

impl<'a> Replicas<'a> {
    fn create(world: &'a World, worker: &Worker, options: &[&str]) -> Self {
        let name = format!("bench-{}", worker.name);
        let constraint = format!("node.hostname=={}", worker.name);
        let mark = format!("EA_MARK={}", crate::fixture::prefix());
        let mut words = vec![
            "service",
            "create",
            "--detach",
            "--no-resolve-image",
            "--name",
            &name,
            "--replicas",
            "0",
            "--constraint",
            &constraint,
            "--env",
            &mark,
        ];
        words.extend(options);
        words.extend([world.images.busybox.as_str(), "sh", "-c", crate::services::POLITE]);
        world.manager.docker(&words);
        let service = Self { manager: &world.manager, name };
        // Once before it counts: the image is there from then on.
        service.set(1);
        service.await_running(1);
        service.set(0);
        service.await_gone();
        service
    }

    fn set(&self, count: usize) {
        let service = self.manager.api(&format!("/services/{}", self.name));
        let mut spec = service["Spec"].clone();
        spec["Mode"]["Replicated"]["Replicas"] = json!(count);
        self.manager.post(
            &format!("/services/{}/update?version={}", self.name, service["Version"]["Index"]),
            &spec,
        );
    }

    fn tasks(&self) -> Vec<Value> {
        let filter = format!("%7B%22service%22%3A%7B%22{}%22%3Atrue%7D%7D", self.name);
        self.manager.api(&format!("/tasks?filters={filter}")).as_array().unwrap().clone()
    }

    /// Waits for so many running tasks; the process id of one of them.
    fn await_running(&self, count: usize) -> i64 {
        let pause = if count == 1 { LOOK } else { LOOK_AT_MANY };
        await_answer("running tasks", pause, || {
            let tasks = self.tasks();
            let running: Vec<_> = tasks
                .iter()
                .filter(|t| t["Status"]["State"] == "running" && t["DesiredState"] == "running")
                .collect();
            (running.len() == count)
                .then(|| running[0]["Status"]["ContainerStatus"]["PID"].as_i64().unwrap())
        })
    }

    /// Waits until no task runs any more.
    fn await_gone(&self) {
        let pause = if self.tasks().len() == 1 { LOOK } else { LOOK_AT_MANY };
        await_answer("tasks to end", pause, || {
            self.tasks().iter().all(|t| t["Status"]["State"] != "running").then_some(())
        });
    }
}

impl Drop for Replicas<'_> {
    fn drop(&mut self) {
        self.manager.try_docker(&["service", "rm", &self.name]);
    }
}
