//! dockerd is the oracle: the same service on a dockerd worker and on an edgeagent worker, and what its
//! container sees of itself (`look.sh`), and what `docker service ps` says of its task, fact for fact.
//!
//! The tables of cases lie beside this file, by theme. All cases run once, several at a time, for all tests
//! of this file; each test then compares one theme. `EA_PROBE=text` runs only the cases whose name holds it.
//!
//! What differs by nature is replaced by a word before it is compared: here what the manager knows (ids and
//! names of task, service, node and container; the worker's folder), in `look.sh` what only the container knows.
//! The chain of programs before an error of runc (`failed to create shim task: OCI runtime create failed: …:
//! unknown`) is no fact either: it differs between releases of Docker, and here is no such chain.

mod endings;
mod health;
mod limits;
mod mounts;
mod network;
mod process;
mod security;

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    fmt::Write as _,
    fs,
    path::Path,
    process::Command,
    sync::{
        Mutex, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use crate::fixture::{Agent, Engine, Service, TaskView, World, capture, folder, run, world};

/// Everything of one case must have happened within this; the machine may be busy.
const SOON: Duration = Duration::from_secs(60);
/// Cases at a time. More make dockerd slower, and fewer leave the CPUs idle while tasks are stopped.
const AT_ONCE: usize = 10;

/// A fact that differs, by the beginning of its line, and why that is meant.
type Meant = (&'static str, &'static str);

/// Which image a case runs. All but one hold the same files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Image {
    /// `CMD` is the look.
    Plain,
    /// Every instruction of a Dockerfile that a container can notice.
    Rich,
    /// `HEALTHCHECK`.
    Health,
    /// Nothing to run.
    Bare,
    /// No registry has it.
    Missing,
    /// A registry has it, for another architecture.
    Foreign,
}

/// When a case is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moment {
    /// When its task has ended.
    Ended,
    /// When its task runs and has said all.
    Running,
    /// When it ran, said `ready`, and was stopped by the manager.
    Stopped,
}

/// One row of a table.
#[derive(Clone, Copy, Debug)]
struct Case {
    name: &'static str,
    options: &'static [&'static str],
    image: Image,
    words: &'static [&'static str],
    moment: Moment,
    says: &'static str,
    meant: &'static [Meant],
}

/// A case whose container looks at itself. In the options `@dir` is a folder of the worker's own.
const fn case(name: &'static str, options: &'static [&'static str]) -> Case {
    Case {
        name,
        options,
        image: Image::Plain,
        words: &[],
        moment: Moment::Ended,
        says: "end: end",
        meant: &[],
    }
}

/// A case whose container does something else, or never starts.
const fn ending(
    name: &'static str,
    options: &'static [&'static str],
    words: &'static [&'static str],
) -> Case {
    Case { words, says: "", ..case(name, options) }
}

impl Case {
    /// The words after the image.
    const fn words(self, words: &'static [&'static str]) -> Self {
        Self { words, ..self }
    }

    const fn image(self, image: Image) -> Self {
        Self { image, ..self }
    }

    const fn moment(self, moment: Moment) -> Self {
        Self { moment, ..self }
    }

    /// The last line of its output, when it has any that is to be compared.
    const fn says(self, says: &'static str) -> Self {
        Self { says, ..self }
    }

    /// What differs here on purpose.
    const fn meant(self, meant: &'static [Meant]) -> Self {
        Self { meant, ..self }
    }
}

/// What differs on purpose, or by the version of dockerd, in every case.
const MEANT: &[Meant] = &[
    ("mount: /etc/hosts ", "on a small file system of its own, that cannot fill the host's"),
    ("mount: /etc/hostname ", "on a small file system of its own, that cannot fill the host's"),
    ("mount: /etc/resolv.conf ", "on a small file system of its own, that cannot fill the host's"),
    ("masked: /proc/interrupts ", "dockerd 28 and edgeagent mask it, 20.10 does not"),
    ("mount: /proc/interrupts ", "dockerd 28 and edgeagent mask it, 20.10 does not"),
    ("masked: /sys/devices/", "masked from dockerd 24 (powercap) and 28 (thermal_throttle) on"),
    ("mount: /sys/devices/", "masked from dockerd 24 (powercap) and 28 (thermal_throttle) on"),
    ("mount: /proc/acpi ", "an empty tmpfs; ours is also nosuid, nodev, noexec and holds nothing"),
    ("mount: /proc/scsi ", "an empty tmpfs; ours is also nosuid, nodev, noexec and holds nothing"),
    (
        "mount: /sys/firmware ",
        "an empty tmpfs; ours is also nosuid, nodev, noexec and holds nothing",
    ),
    (
        "mount: /sys/fs/cgroup tmpfs ",
        "runc leaves the folder of the v1 trees writable, ours is read-only",
    ),
    (
        "writable: /sys/fs/cgroup ",
        "runc leaves the folder of the v1 trees writable, ours is read-only",
    ),
    (
        "namespace: cgroup ",
        "ours is its own also with v1 trees, as Docker's is with the v2 tree only",
    ),
    ("cgroups: ", "ours is its own also with v1 trees, as Docker's is with the v2 tree only"),
];

/// The tables.
const THEMES: [&[Case]; 7] = [
    process::CASES,
    mounts::CASES,
    security::CASES,
    limits::CASES,
    network::CASES,
    health::CASES,
    endings::CASES,
];

/// A worker to look at.
struct Side {
    mark: &'static str,
    node: String,
    id: String,
    dir: String,
}

/// What all threads share.
struct Probe<'a> {
    manager: &'a Engine,
    images: &'a BTreeMap<Image, String>,
}

/// The facts of all cases, dockerd's and ours.
fn seen() -> &'static BTreeMap<&'static str, [String; 2]> {
    static SEEN: OnceLock<BTreeMap<&'static str, [String; 2]>> = OnceLock::new();
    SEEN.get_or_init(|| look(&world()))
}

fn look(world: &World) -> BTreeMap<&'static str, [String; 2]> {
    let docker = world.docker_worker("oracle");
    let mut agent = Agent::new(world.switch.host("probed"), &world.registry, &folder());
    agent.join_ok(&world.manager);
    agent.start();
    let images = images(world);
    payloads(&world.manager);
    let sides = [("docker", "oracle"), ("edge", "probed")].map(|(mark, node)| {
        world.manager.await_node(node, "ready", SOON);
        let id = world.manager.node(node).unwrap()["ID"].as_str().unwrap().to_owned();
        Side { mark, node: node.to_owned(), id, dir: things(mark) }
    });
    let probe = Probe { manager: &world.manager, images: &images };
    let wanted = env::var("EA_PROBE").unwrap_or_default();
    let cases: Vec<&Case> =
        THEMES.iter().copied().flatten().filter(|c| c.name.contains(&wanted)).collect();
    let next = AtomicUsize::new(0);
    let seen = Mutex::new(BTreeMap::new());
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let facts = probe.facts(case, &sides);
                    seen.lock().unwrap().insert(case.name, facts);
                }
            });
        }
    });
    drop(docker.docker_command().args(["swarm", "leave"]).output());
    world.manager.try_docker(&["node", "rm", "--force", "oracle"]);
    seen.into_inner().unwrap()
}

impl Probe<'_> {
    /// Runs a case on both workers at once.
    fn facts(&self, case: &Case, sides: &[Side; 2]) -> [String; 2] {
        let services = sides.each_ref().map(|side| (side, self.create(case, side)));
        services.each_ref().map(|(side, service)| match service {
            Ok(service) => self.collect(case, side, service),
            Err(why) => format!("create: {why}\n"),
        })
    }

    fn create(&self, case: &Case, side: &Side) -> Result<Service<'_>, String> {
        let options: Vec<String> =
            case.options.iter().map(|word| word.replace("@dir", &side.dir)).collect();
        let mut words = vec!["--restart-condition", "none"];
        words.extend(options.iter().map(String::as_str));
        words.push(&self.images[&case.image]);
        words.extend(case.words);
        let name = format!("{}-{}", case.name, side.mark);
        Service::try_create(self.manager, &side.node, &name, &words)
    }

    /// Waits for a task's moment and tells all that is known of it.
    fn collect(&self, case: &Case, side: &Side, service: &Service<'_>) -> String {
        let id = self.manager.docker(&["service", "inspect", "-f", "{{.ID}}", &service.name]);
        let ended = |task: &TaskView| {
            ["complete", "failed", "rejected", "shutdown"].contains(&task.state.as_str())
        };
        let first = match case.moment {
            Moment::Ended => ask(|| service.tasks().into_iter().find(ended)),
            Moment::Running | Moment::Stopped => {
                ask(|| service.tasks().into_iter().find(|t| t.runs() || ended(t)))
            }
        };
        let Some(mut task) = first else {
            return format!("task: late {:#?}\n", service.tasks());
        };
        let started = !task.container.is_empty();
        if started && !case.says.is_empty() {
            ask(|| said(service).contains(case.says).then_some(()));
        }
        if case.moment == Moment::Stopped {
            service.update(&["--constraint-add", "node.labels.there==no"]);
            let old = task.id.clone();
            let now = ask(|| service.tasks().into_iter().find(|t| t.id == old && ended(t)));
            task = now.unwrap_or(task);
        }
        let mut text = self.status(&task);
        for runtimes in [
            "failed to create shim task: OCI runtime create failed: ",
            "runc create failed: ",
            "unable to start container process: ",
            "error during container init: ",
            ": unknown\n",
        ] {
            text = text.replace(runtimes, if runtimes.ends_with('\n') { "\n" } else { "" });
        }
        if started && !case.says.is_empty() {
            text.push_str(&said(service));
        }
        let short = task.container.get(..12).unwrap_or("none so far");
        for (random, word) in [
            (task.container.as_str(), "CONTAINER"),
            (short, "CONTAINER"),
            (&task.id, "TASK"),
            (&id, "SERVICE_ID"),
            (&service.name, "SERVICE"),
            (&side.id, "NODE_ID"),
            (&side.dir, "DIR"),
            (&side.node, "NODE"),
        ] {
            if !random.is_empty() {
                text = text.replace(random, word);
            }
        }
        text
    }

    /// What `docker service ps` and `docker inspect` of the task say.
    fn status(&self, task: &TaskView) -> String {
        let mut text = format!(
            "task: state {}\ntask: exit {}\ntask: message {}\ntask: error {}\ntask: alive {}\n",
            task.state,
            task.exit_code,
            task.message,
            task.err,
            task.pid > 0
        );
        let record = self.manager.api(&format!("/v1.40/tasks/{}", task.id));
        for port in record["Status"]["PortStatus"]["Ports"].as_array().into_iter().flatten() {
            writeln!(text, "task: port {port}").unwrap();
        }
        text
    }
}

/// Asks until there is an answer or it is too late; a case that is late is a difference and not the end of all.
fn ask<T>(mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let begin = Instant::now();
    while begin.elapsed() < SOON {
        if let Some(answer) = ask() {
            return Some(answer);
        }
        thread::sleep(Duration::from_millis(100));
    }
    None
}

/// Both outputs of a service; lines of the second say so.
fn said(service: &Service<'_>) -> String {
    let (out, err) = service.logs(&[]);
    err.lines().fold(out.replace('\r', ""), |all, line| format!("{all}stderr: {line}\n"))
}

/// Makes the images of the cases: the busybox of the world with more files, and the look.
fn images(world: &World) -> BTreeMap<Image, String> {
    let tree = folder().join("probe");
    fs::create_dir_all(&tree).unwrap();
    let script = "
        tar -xf $0/rootfs.tar -C $0/probe && cd $0/probe && install -m 755 $1/look.sh look &&
        cc -static -O1 -s -o trace $1/trace.c &&
        mkdir -p data/folder made/by && chmod 750 data/folder && echo inner > data/folder/inner &&
        chown -R 1000:2000 data/folder && chmod 4711 data/folder/inner && ln -s folder/inner data/link &&
        touch -h -d @1000000000 data/link &&
        echo '#!/no/such/shell' > odd && echo 'echo no first line' > plain && chmod 755 odd plain &&
        touch -d @1000000000 data/seed data/folder/inner && tar -cf $0/probe.tar .";
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/live/probe");
    capture(Command::new("sh").args(["-euc", script]).arg(folder()).arg(sources)).ok();
    let tar = folder().join("probe.tar");
    let base = ["ENV PATH=/bin FROM_IMAGE=yes", "WORKDIR /tmp"];
    let plain = [&base[..], &["CMD [\"sh\", \"/look\"]"]].concat();
    let rich = [
        "ENV PATH=/bin FROM_IMAGE=yes EMPTY= HOME=/data",
        "WORKDIR /not/there",
        "USER app:extra",
        "VOLUME /data /made/by/image",
        "EXPOSE 80/tcp",
        "LABEL a=b",
        "ENTRYPOINT [\"sh\", \"/look\", \"entry\"]",
        "CMD [\"one\", \"two\"]",
    ];
    let health =
        [&plain[..], &["HEALTHCHECK --interval=200ms --retries=2 CMD test -d /tmp"]].concat();
    let make = |name: &str, changes: &[&str]| {
        let name = format!("{}/{name}", world.registry);
        let mut words = vec!["import"];
        words.extend(changes.iter().flat_map(|change| ["-c", *change]));
        words.extend([tar.to_str().unwrap(), &name]);
        world.manager.docker(&words);
        world.manager.docker(&["push", "-q", &name]);
        world.manager.docker(&["image", "inspect", "-f", "{{index .RepoDigests 0}}", &name])
    };
    // `docker import` takes no STOPSIGNAL, so a container that never runs brings it.
    let unsignalled = make("probe-rich", &rich);
    let engine = &world.manager;
    let made =
        engine.docker(&["create", "--stop-signal", "SIGUSR1", "--network", "none", &unsignalled]);
    let name = format!("{}/probe-rich", world.registry);
    engine.docker(&["commit", &made, &name]);
    engine.docker(&["rm", &made]);
    engine.docker(&["push", "-q", &name]);
    let rich = engine.docker(&["image", "inspect", "-f", "{{index .RepoDigests 0}}", &name]);
    BTreeMap::from([
        (Image::Plain, make("probe", &plain)),
        (Image::Rich, rich),
        (Image::Health, make("probe-health", &health)),
        (Image::Bare, make("probe-bare", &base)),
        (Image::Missing, world.images.missing.clone()),
        (Image::Foreign, world.images.foreign.clone()),
    ])
}

/// Secrets and configs of the cases.
fn payloads(manager: &Engine) {
    let file = folder().join("payload");
    let make = |kind: &str, name: &str, text: &str, options: &[&str]| {
        fs::write(&file, text).unwrap();
        let mut words = vec![kind, "create"];
        words.extend(options);
        words.extend([name, file.to_str().unwrap()]);
        manager.docker(&words);
    };
    make("secret", "word", "open sesame\n", &[]);
    make("secret", "sign", "a fish\n", &[]);
    make("config", "site", "listen 80;\n", &[]);
    make("config", "page", "<html>\n", &[]);
    // Not the node's name, which dockerd leaves empty and we fill.
    let template = "{{.Service.Name}} {{.Task.Slot}} {{env \"A\"}} {{secret \"word\"}}\
                    {{config \"/etc/site\"}}{{.Node.ID}}|";
    make("config", "template", template, &["--template-driver", "golang"]);
    make("secret", "hidden", "{{.Task.Name}} {{env \"B\"}}\n", &["--template-driver", "golang"]);
}

/// Files of a worker to mount.
fn things(mark: &str) -> String {
    let dir = folder().join("things").join(mark);
    fs::create_dir_all(dir.join("folder/below")).unwrap();
    fs::write(dir.join("folder/file"), "of the host\n").unwrap();
    fs::write(dir.join("file"), "root:x:0:0::/data:/bin/sh\n").unwrap();
    run(&["chmod", "640", dir.join("file").to_str().unwrap()]);
    run(&["chown", "-R", "1000:2000", dir.join("folder").to_str().unwrap()]);
    dir.to_str().unwrap().to_owned()
}

/// Compares a theme.
fn same(cases: &[Case]) {
    let seen = seen();
    let mut text = String::new();
    for case in cases {
        let Some([docker, ours]) = seen.get(case.name) else { continue };
        let meant =
            |line: &&str| MEANT.iter().chain(case.meant).all(|(fact, _)| !line.starts_with(fact));
        let facts = |text: &'static str| text.lines().filter(meant).collect::<BTreeSet<_>>();
        // Ours says what dockerd does, and behind it which option and compose key to change.
        let words = |line: &'static str| match line.split_once("; --") {
            Some((words, _)) if line.starts_with("task: error ") => words,
            Some(_) | None => line,
        };
        let docker = facts(docker);
        let ours: BTreeSet<_> = facts(ours).into_iter().map(words).collect();
        for line in docker.difference(&ours) {
            writeln!(text, "{}: only dockerd   {line}", case.name).unwrap();
        }
        for line in ours.difference(&docker) {
            writeln!(text, "{}: only edgeagent {line}", case.name).unwrap();
        }
    }
    assert!(text.is_empty(), "{text}");
}

#[test]
fn processes() {
    same(process::CASES);
}

#[test]
fn files() {
    same(mounts::CASES);
}

#[test]
fn rights() {
    same(security::CASES);
}

#[test]
fn resources() {
    same(limits::CASES);
}

#[test]
fn names_and_networks() {
    same(network::CASES);
}

#[test]
fn health_checks() {
    same(health::CASES);
}

#[test]
fn ends() {
    same(endings::CASES);
}

#[test]
#[cfg_attr(not(all(root, program = "dockerd")), ignore = "needs root and dockerd")]
fn every_case_says_what_it_should_and_has_a_name_of_its_own() {
    let seen = seen();
    let all: Vec<&Case> = THEMES.iter().copied().flatten().collect();
    let names: BTreeSet<&str> = all.iter().map(|case| case.name).collect();
    assert_eq!(names.len(), all.len());
    let differing: BTreeSet<&str> = seen
        .values()
        .flat_map(|[a, b]| {
            let (a, b): (BTreeSet<&str>, BTreeSet<&str>) =
                (a.lines().collect(), b.lines().collect());
            a.symmetric_difference(&b).copied().collect::<Vec<_>>()
        })
        .collect();
    for case in all {
        let Some([docker, _]) = seen.get(case.name) else { continue };
        assert!(!docker.starts_with("create: "), "{}: {docker}", case.name);
        assert!(!docker.starts_with("task: late"), "{}: {docker}", case.name);
        assert!(docker.contains(case.says), "{}: {docker}", case.name);
        if env::var_os("EA_PROBE").is_some() {
            continue; // some differences show in other cases
        }
        for (fact, why) in case.meant {
            let differs = differing.iter().any(|line| line.starts_with(fact));
            assert!(differs, "{}: nothing differs in `{fact}` any more, though {why}", case.name);
        }
    }
}
