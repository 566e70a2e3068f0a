//! Real software, as `docker stack deploy` brings it: nginx, redis, postgres and a Python web app.
//!
//! The images are made of Debian packages with `docker build`; the stack is `stack/stack.yml`.

use std::{
    fs,
    io::{Read as _, Write as _},
    mem::ManuallyDrop,
    net::{SocketAddr, TcpStream},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};

use crate::{
    debian,
    fixture::{
        Agent, Host, Service, World, capture, folder, inside, prefix, wait_for, wait_ok,
        wait_until, world,
    },
    services::await_nothing_left,
};

/// Databases are made and images of 100 MB unpacked, on a machine that does other things too.
const SOON: Duration = Duration::from_secs(120);

/// The services of the stack.
const NAMES: [&str; 4] = ["web", "app", "redis", "db"];

/// What all images have: a shell and the libraries of most programs.
const BASE: &[&str] = &[
    "base-files",
    "busybox-static",
    "libc6",
    "libcap2",
    "libcrypt1",
    "libgcc-s1",
    "libgcrypt20",
    "libgpg-error0",
    "liblz4-1",
    "liblzma5",
    "libssl3",
    "libstdc++6",
    "libsystemd0",
    "libzstd1",
    "zlib1g",
];

/// The packages of each image on top of that.
const IMAGES: [(&str, &[&str]); 4] = [
    ("nginx", &["libpcre2-8-0", "nginx", "nginx-common"]),
    (
        "redis",
        &["libatomic1", "libjemalloc2", "liblua5.1-0", "liblzf1", "redis-server", "redis-tools"],
    ),
    ("app", &["libexpat1", "libpython3.11-minimal", "libpython3.11-stdlib", "python3.11-minimal"]),
    (
        "postgres",
        &[
            "libaudit1",
            "libcap-ng0",
            "libcom-err2",
            "libffi8",
            "libgmp10",
            "libgnutls30",
            "libgssapi-krb5-2",
            "libhogweed6",
            "libicu72",
            "libidn2-0",
            "libk5crypto3",
            "libkeyutils1",
            "libkrb5-3",
            "libkrb5support0",
            "libldap-2.5-0",
            "libnettle8",
            "libp11-kit0",
            "libpam0g",
            "libpq5",
            "libreadline8",
            "libsasl2-2",
            "libtasn1-6",
            "libtinfo6",
            "libunistring2",
            "libuuid1",
            "libxml2",
            "postgresql-15",
            "postgresql-client-15",
        ],
    ),
];

/// What of a package no program reads while it runs.
const IDLE: [&str; 5] = [
    "usr/share/doc",
    "usr/share/locale",
    "usr/share/man",
    "usr/lib/postgresql/15/lib/bitcode",
    "usr/lib/x86_64-linux-gnu/gconv",
];

/// The files that the images and the stack are made of.
fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/live/stack")
}

/// Makes the images and pushes them.
fn build(world: &World) {
    let debs = Path::new(env!("CARGO_TARGET_TMPDIR")).join("debs");
    debian::download(&debs, IMAGES.iter().flat_map(|(_, packages)| *packages).chain(BASE).copied());
    let folder = folder().join("stack");
    let base = context(&debs, &folder, "base", BASE);
    // Packages leave these to their installation.
    let root = base.join("root");
    for (name, text) in [
        (
            "etc/passwd",
            "root:x:0:0::/root:/bin/sh\nwww-data:x:33:33::/srv:/bin/sh\nredis:x:100:100::/data:/bin/sh\npostgres:x:105:105::/tmp:/bin/sh\n",
        ),
        (
            "etc/group",
            "root:x:0:\nwww-data:x:33:\nredis:x:100:\npostgres:x:105:\nnogroup:x:65534:\n",
        ),
        ("etc/ld.so.conf", "/usr/local/lib\n"),
    ] {
        fs::write(root.join(name), text).unwrap();
    }
    for applet in ["sh", "cat", "echo", "sleep", "test"] {
        symlink("busybox", root.join("bin").join(applet)).unwrap();
    }
    let base_name = format!("{}/stack-base", world.registry);
    fs::write(
        base.join("Dockerfile"),
        "FROM scratch\nCOPY root /\nENV PATH=/bin:/usr/bin:/usr/sbin\n",
    )
    .unwrap();
    world.manager.docker(&["build", "-q", "-t", &base_name, base.to_str().unwrap()]);
    for (name, packages) in IMAGES {
        let context = context(&debs, &folder, name, packages);
        fs::create_dir_all(context.join("own")).unwrap();
        for file in fs::read_dir(sources()).unwrap().flatten() {
            fs::copy(file.path(), context.join(file.file_name())).unwrap();
        }
        let image = format!("{}/stack-{name}:1", world.registry);
        let recipe = context.join(format!("{name}.Dockerfile"));
        world.manager.docker(&[
            "build",
            "-q",
            "--build-arg",
            &format!("BASE={base_name}"),
            "-t",
            &image,
            "-f",
            recipe.to_str().unwrap(),
            context.to_str().unwrap(),
        ]);
        world.manager.docker(&["push", "-q", &image]);
    }
    fs::remove_dir_all(folder).unwrap();
    // The next version of one of them.
    let of = |tag: u8| format!("{}/stack-nginx:{tag}", world.registry);
    world.manager.docker(&["tag", &of(1), &of(2)]);
    world.manager.docker(&["push", "-q", &of(2)]);
}

/// A folder to build from, with packages in `root`.
fn context(debs: &Path, folder: &Path, name: &str, packages: &[&str]) -> PathBuf {
    let context = folder.join(name);
    let root = context.join("root");
    debian::install(debs, packages, &root);
    for idle in IDLE {
        drop(fs::remove_dir_all(root.join(idle)));
    }
    context
}

/// The stack on one worker; removed when dropped.
struct Stack<'a> {
    world: &'a World,
    agent: Agent,
}

impl<'a> Stack<'a> {
    fn deploy(&self, web_tag: &str, version: &str) {
        let mut command = self.world.manager.docker_command();
        command.args(["stack", "deploy", "--resolve-image", "never", "-c"]);
        command.arg(sources().join("stack.yml")).arg("stack");
        for (name, value) in [
            ("REGISTRY", self.world.registry.as_str()),
            ("NODE", self.agent.name()),
            ("MARK", &prefix()),
            ("WEB_TAG", web_tag),
            ("VERSION", version),
        ] {
            command.env(name, value);
        }
        capture(&mut command).ok();
    }

    /// A handle that does not remove its service: it is the stack's.
    fn service(&self, name: &str) -> ManuallyDrop<Service<'a>> {
        ManuallyDrop::new(Service::existing(&self.world.manager, &format!("stack_{name}")))
    }

    /// The processes of its tasks, by service.
    fn running(&self) -> Vec<i64> {
        NAMES.map(|name| process(&self.service(name))).to_vec()
    }

    fn remove(&self) {
        self.world.manager.try_docker(&["stack", "rm", "stack"]);
    }
}

impl Drop for Stack<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            let tasks = self.world.manager.try_docker(&["stack", "ps", "--no-trunc", "stack"]);
            println!("--- the stack: {}", tasks.text());
            for name in NAMES {
                let service = format!("stack_{name}");
                let logs = self.world.manager.try_docker(&["service", "logs", &service]);
                println!("--- {name} said: {}", logs.text());
            }
        }
        self.remove();
    }
}

/// Opens a published port of a worker from another host.
fn dial(from: &Host, agent: &Agent, port: u16) -> Option<TcpStream> {
    let address: SocketAddr = format!("{}:{port}", agent.host.ip).parse().unwrap();
    let stream = inside(&from.namespace(), || TcpStream::connect_timeout(&address, SOON)).ok()?;
    stream.set_read_timeout(Some(SOON)).unwrap();
    Some(stream)
}

/// What a web server answers: head and body; empty when nobody does.
fn get(from: &Host, agent: &Agent, port: u16, request: &str) -> String {
    let mut text = Vec::new();
    if let Some(mut stream) = dial(from, agent, port)
        && stream.write_all(format!("GET {request}\r\n\r\n").as_bytes()).is_ok()
    {
        drop(stream.read_to_end(&mut text));
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// Waits for an answer that holds a text, and gives it.
fn await_page(from: &Host, agent: &Agent, request: &str, wanted: &str) -> String {
    wait_ok(&format!("{request} to answer {wanted:?}"), SOON, || {
        let text = get(from, agent, 8080, request);
        if text.contains(wanted) { Ok(text) } else { Err(text) }
    })
}

/// Says something to redis; one line of its answer.
fn redis(stream: &mut TcpStream, words: &str) -> String {
    stream.write_all(format!("{words}\r\n").as_bytes()).unwrap();
    let mut line = Vec::new();
    while !line.ends_with(b"\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        line.extend(byte);
    }
    String::from_utf8_lossy(&line).trim().to_owned()
}

/// A connection to redis that has said the password.
fn redis_client(from: &Host, agent: &Agent) -> TcpStream {
    let mut stream = wait_for("redis", SOON, || dial(from, agent, 6379));
    assert_eq!(redis(&mut stream, "AUTH redis-secret"), "+OK");
    stream
}

/// The process of the only running task.
fn process(service: &Service<'_>) -> i64 {
    service.await_running(1, SOON)[0].pid
}

/// Asks the database in its container.
fn sql(pid: i64, words: &str) -> String {
    let mut command = Command::new("nsenter");
    command.env("PGPASSWORD", "postgres-secret").args(["-t", &pid.to_string(), "-a"]);
    command.args(["/usr/lib/postgresql/15/bin/psql", "-h", "127.0.0.1", "-U", "postgres", "-Atc"]);
    capture(command.arg(words)).ok()
}

#[test]
#[ignore = "makes four images and takes minutes: make test-long runs it"]
fn a_stack_of_real_software_is_deployed_updated_killed_and_removed() {
    let world = world();
    build(&world);
    let outside = world.switch.host("out5");
    let mut stack = Stack { world: &world, agent: world.agent() };
    stack.deploy("1", "one");
    is_served(&stack, &outside);
    data_survives(&stack, &outside);
    is_updated(&stack, &outside);
    is_started_again(&stack, &outside);
    for (name, line) in [
        ("web", "\"GET /app HTTP/1.0\" 200"),
        ("app", "serving version two"),
        ("redis", "Ready to accept connections"),
        ("db", "database system is ready to accept connections"),
    ] {
        wait_ok(&format!("the logs of {name}"), SOON, || {
            let (out, err) = stack.service(name).logs(&[]);
            let text = out + &err;
            if text.contains(line) { Ok(()) } else { Err(text) }
        });
    }

    // The agent may go and come; nobody who is connected notices.
    let mut client = redis_client(&outside, &stack.agent);
    let pids = stack.running();
    stack.agent.stop(Signal::KILL);
    assert_eq!(redis(&mut client, "PING"), "+PONG");
    stack.agent.start();
    wait_until("the agent to be ready", SOON, || stack.agent.state() == "ready");
    assert_eq!(redis(&mut client, "PING"), "+PONG");
    await_page(&outside, &stack.agent, "/app HTTP/1.0", "version two");
    assert_eq!(stack.running(), pids);

    drop(client);
    stack.remove();
    await_nothing_left(&stack.agent);
    assert!(dial(&outside, &stack.agent, 8080).is_none());
}

/// Everything is there, and a database is Running only when it answers.
fn is_served(stack: &Stack<'_>, outside: &Host) {
    let db = stack.service("db");
    db.await_state("starting", SOON);
    let pid = db.await_containers(1, SOON).pop_first().unwrap();
    fs::write(format!("/proc/{pid}/root/tmp/go"), "").unwrap();
    let pid = process(&db);
    let made = sql(pid, "create table kept as select 7 as number");
    assert_eq!(made, "SELECT 1", "Running before it answered");

    // A page that is a config; one behind a password that is a secret; the app behind the proxy.
    let agent = &stack.agent;
    let page = await_page(outside, agent, "/ HTTP/1.0", "This page is a config of the stack.");
    assert!(page.starts_with("HTTP/1.1 200 OK"), "{page}");
    await_page(outside, agent, "/private HTTP/1.0", "401 Unauthorized");
    // "reader:a secret of the stack"
    let reader = "Basic cmVhZGVyOmEgc2VjcmV0IG9mIHRoZSBzdGFjaw==";
    let request = format!("/private HTTP/1.0\r\nAuthorization: {reader}");
    await_page(outside, agent, &request, "This page is a config");
    await_page(outside, agent, "/app HTTP/1.0", "version one, visit 1\n");
}

/// What is in named volumes outlives the containers.
fn data_survives(stack: &Stack<'_>, outside: &Host) {
    for name in ["redis", "db"] {
        let service = stack.service(name);
        let old = process(&service);
        service.update(&["--force"]);
        wait_until("the update to complete", SOON, || service.update_state() == "completed");
        assert_ne!(process(&service), old);
    }
    await_page(outside, &stack.agent, "/app HTTP/1.0", "version one, visit 2\n");
    assert_eq!(sql(process(&stack.service("db")), "select number from kept"), "7");
}

/// A new image and a new environment arrive; a version that does not start is taken back.
fn is_updated(stack: &Stack<'_>, outside: &Host) {
    let [web, app, redis] = ["web", "app", "redis"].map(|name| stack.service(name));
    let untouched = process(&redis);
    stack.deploy("2", "two");
    for service in [&web, &app] {
        wait_until("the update to complete", SOON, || service.update_state() == "completed");
    }
    assert_eq!(process(&redis), untouched, "what did not change runs on");
    let images = stack.world.manager.docker(&[
        "stack",
        "ps",
        "--format",
        "{{.Image}}",
        "-f",
        "desired-state=running",
        "stack",
    ]);
    assert!(images.contains("stack-nginx:2") && !images.contains("stack-nginx:1"), "{images}");
    await_page(outside, &stack.agent, "/app HTTP/1.0", "version two");

    stack.deploy("2", "broken");
    wait_until("the rollback", SOON, || app.update_state() == "rollback_completed");
    let failed = app.await_state("failed", SOON);
    assert_eq!((failed.exit_code, failed.err.as_str()), (1, "task: non-zero exit (1)"));
    process(&app);
    await_page(outside, &stack.agent, "/app HTTP/1.0", "version two");
}

/// The manager replaces what was killed, and nothing is lost.
fn is_started_again(stack: &Stack<'_>, outside: &Host) {
    let visits = || redis(&mut redis_client(outside, &stack.agent), "INCRBY visits 0");
    let before = visits();
    let old = stack.running();
    for pid in &old {
        kill_process(Pid::from_raw(i32::try_from(*pid).unwrap()).unwrap(), Signal::KILL).unwrap();
    }
    for name in NAMES {
        let service = stack.service(name);
        service.await_tasks("a successor", SOON, |tasks| {
            let lost = tasks.iter().any(|task| task.state == "failed" && task.exit_code == 137);
            let next = tasks.iter().any(|task| task.runs() && !old.contains(&task.pid));
            (lost && next).then_some(())
        });
    }
    assert_eq!(visits(), before);
    assert_eq!(sql(process(&stack.service("db")), "select number from kept"), "7");
    await_page(outside, &stack.agent, "/app HTTP/1.0", "version two");
}
