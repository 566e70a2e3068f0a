//! `make bench`: edgeagent beside dockerd as workers of one manager, in one run; prints a table.
//!
//! Method (that of the figures in the design): states are read from the manager's API, the processes of a
//! worker are those of a cgroup of its own (so that short-lived children count), bytes are those of its
//! network interface. dockerd runs from copies of its programs, so that no page is shared with the manager.
//! The container's own processes count for neither side.

mod measure;
mod table;

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::fixture::{
    Agent, Engine, EngineOptions, Host, Root, World, folder, wait_for, wait_until, world,
};
use measure::{Group, Sample, median};
use table::{Budget, Table};

const SOON: Duration = Duration::from_secs(60);
const IDLE: Duration = Duration::from_secs(60);
const PROGRAMS: [&str; 6] =
    ["dockerd", "containerd", "containerd-shim-runc-v2", "runc", "docker-proxy", "docker-init"];

#[test]
#[ignore = "make bench"]
fn edgeagent_beside_dockerd() {
    let Some(world) = world() else { return };
    let program = fs::metadata(folder().join("bin/edgeagent")).unwrap().len();
    let docker = dockerd_worker(&world);
    let mut agent = world.fresh_agent();
    agent.start();
    let ours =
        Worker { name: agent.name().to_owned(), group: Group::around(agent.name(), agent.pid()) };
    let theirs = Worker {
        name: docker.host.name.clone(),
        group: Group::around(&docker.host.name, docker.pid()),
    };

    let mut table = Table::default();
    let docker_bytes: u64 =
        PROGRAMS.iter().filter_map(|p| find(p)).map(|p| fs::metadata(p).unwrap().len()).sum();
    table.row("programs on disk", "MB", mega(program), mega(docker_bytes), Budget::AtMost(2.0));

    let joins = (join_times(&world, &agent, 5), docker_join_times(&world, &docker, 5));
    table.row(
        "join to Ready, median of 5",
        "s",
        median(&joins.0),
        median(&joins.1),
        Budget::Ratio(0.7),
    );
    assert_eq!(agent.host.listeners(), "", "edgeagent listens");
    let sockets = |host: &Host| f64::from(u32::try_from(host.listeners().lines().count()).unwrap());
    table.row(
        "listening sockets",
        "",
        sockets(&agent.host),
        sockets(&docker.host),
        Budget::AtMost(0.0),
    );
    table.row(
        "memory idle (PSS)",
        "MB",
        mega(ours.group.pss()),
        mega(theirs.group.pss()),
        Budget::AtMost(3.0),
    );

    idle(&mut table, &world, [(&ours, &agent.host), (&theirs, &docker.host)]);
    memory(&mut table, &world, &ours, &theirs);
    for (network, runs) in [("none given", 20), ("host", 10)] {
        let a = start_stop(&world, &ours, network, runs);
        let b = start_stop(&world, &theirs, network, runs);
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
    println!("\n{}", table.render());
    println!(
        "Network `none given`: dockerd makes a bridge endpoint; edgeagent makes loopback only, its bridge is not done yet."
    );
    drop(agent);
    drop(docker);
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
        .map(|d| std::path::Path::new(d).join(program))
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

fn await_ready(manager: &Engine, name: &str, begin: Instant) -> f64 {
    loop {
        if manager.node_state(name) == "ready" {
            return begin.elapsed().as_secs_f64();
        }
        assert!(begin.elapsed() < SOON, "{name} is not Ready");
        thread::sleep(Duration::from_millis(10));
    }
}

/// The whole command counts for us, process start included; only the last join stays.
fn join_times(world: &World, agent: &Agent, runs: usize) -> Vec<f64> {
    let mut times = Vec::new();
    for run in 0..runs {
        if run > 0 {
            agent.cli(&["leave"]).ok();
            world.manager.docker(&["node", "rm", "--force", agent.name()]);
        }
        let begin = Instant::now();
        agent.join_ok(&world.manager);
        times.push(await_ready(&world.manager, agent.name(), begin));
    }
    times
}

/// Straight to its API, without the `docker` command.
fn docker_join_times(world: &World, docker: &Engine, runs: usize) -> Vec<f64> {
    let mut times = Vec::new();
    for run in 0..runs {
        if run > 0 {
            docker.docker(&["swarm", "leave"]);
            world.manager.docker(&["node", "rm", "--force", &docker.host.name]);
        }
        let token = world.manager.token("worker");
        let body = json!({"ListenAddr": "0.0.0.0:2377", "AdvertiseAddr": docker.host.ip, "RemoteAddrs": [world.manager.addr()], "JoinToken": token});
        let begin = Instant::now();
        docker.post("/swarm/join", &body);
        times.push(await_ready(&world.manager, &docker.host.name, begin));
    }
    times
}

/// Both at once, for the same minute.
fn idle(table: &mut Table, world: &World, workers: [(&Worker, &Host); 2]) {
    for (worker, _) in workers {
        wait_until("both to be ready", SOON, || world.manager.node_state(&worker.name) == "ready");
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

/// Memory with 1, 10 and 50 tasks, and what the step to 50 costs.
fn memory(table: &mut Table, world: &World, ours: &Worker, theirs: &Worker) {
    let mut columns = Vec::new();
    for worker in [ours, theirs] {
        let service = Replicas::create(world, worker, "none given");
        let idle = worker.group.pss();
        let mut pss = Vec::new();
        for count in [1, 10, 50] {
            service.set(count);
            service.await_running(count);
            thread::sleep(Duration::from_secs(2)); // start-up memory is given back
            pss.push(worker.group.pss());
        }
        service.set(0);
        service.await_gone();
        let cpu = worker.group.cpu();
        let begin = Instant::now();
        service.set(50);
        service.await_running(50);
        let took = begin.elapsed().as_secs_f64();
        let cpu = worker.group.cpu() - cpu;
        service.set(0);
        service.await_gone();
        columns.push((idle, pss, took, cpu));
    }
    let (a, b) = (&columns[0], &columns[1]);
    for (i, count) in [1, 10, 50].iter().enumerate() {
        let label = format!("memory with {count} task{} (PSS)", if *count == 1 { "" } else { "s" });
        table.row(&label, "MB", mega(a.1[i]), mega(b.1[i]), Budget::None);
    }
    let each = |c: &(u64, Vec<u64>, f64, f64)| mega(c.1[2].saturating_sub(c.0)) / 50.0;
    table.row("memory per task, of 50 (PSS)", "MB", each(a), each(b), Budget::AtMost(0.4));
    table.row("scale 0 to 50 running", "s", a.2, b.2, Budget::Ratio(0.3));
    table.row("CPU of that", "s", a.3, b.3, Budget::Ratio(0.1));
}

/// Medians of start and stop.
fn start_stop(world: &World, worker: &Worker, network: &str, runs: usize) -> (f64, f64) {
    let service = Replicas::create(world, worker, network);
    let (mut starts, mut stops) = (Vec::new(), Vec::new());
    for _ in 0..runs {
        let begin = Instant::now();
        service.set(1);
        let pid = service.await_running(1);
        starts.push(begin.elapsed().as_secs_f64());
        let begin = Instant::now();
        service.set(0);
        wait_until("the process to end", SOON, || {
            !std::path::Path::new(&format!("/proc/{pid}")).exists()
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
    fn create(world: &'a World, worker: &Worker, network: &str) -> Self {
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
        if network == "host" {
            words.extend(["--network", "host"]);
        }
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
        wait_for("running tasks", SOON, || {
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
        wait_until("tasks to end", SOON, || {
            self.tasks().iter().all(|t| t["Status"]["State"] != "running")
        });
    }
}

impl Drop for Replicas<'_> {
    fn drop(&mut self) {
        self.manager.try_docker(&["service", "rm", &self.name]);
    }
}
