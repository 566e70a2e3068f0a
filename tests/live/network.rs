//! The network of containers: the bridge, published ports, names, and what is left of them.
//!
//! Servers and clients are threads of the test in the network namespaces of hosts and containers, so that
//! nothing depends on what an image holds.

use std::{
    fs,
    io::{self, Read as _, Write as _},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::{
    fixture::{
        Agent, Daemon, Host, Service, TaskView, World, capture, folder, inside, run, wait_for,
        wait_ok, wait_until, world,
    },
    services::await_nothing_left,
};

const SOON: Duration = Duration::from_secs(40);
/// How long something that must not arrive is waited for.
const NEVER: Duration = Duration::from_millis(700);

/// A service of one task that does nothing; and that task, once it runs.
fn idle<'a>(world: &'a World, node: &str, name: &str, words: &[&str]) -> (Service<'a>, TaskView) {
    let mut all = words.to_vec();
    all.extend([
        "--stop-grace-period",
        "0s",
        "--restart-delay",
        "100ms",
        &world.images.busybox,
        "sleep",
        "1000",
    ]);
    let service = Service::create(&world.manager, node, name, &all);
    let task = service.await_running(1, SOON).remove(0);
    (service, task)
}

/// The network namespace of a task's container.
fn namespace(task: &TaskView) -> String {
    format!("/proc/{}/ns/net", task.pid)
}

/// Answers every connection and datagram in a namespace with the address that it comes from. Holds the
/// namespace for as long as it lives.
struct Server {
    over: Arc<AtomicBool>,
    threads: Vec<thread::JoinHandle<()>>,
}

impl Server {
    fn start(namespace: &str, tcp: u16, udp: u16) -> Self {
        const LOOK: Duration = Duration::from_millis(20);
        let any = IpAddr::from([0_u16; 8]);
        let (listener, socket) = inside(namespace, || {
            // Where IPv6 is switched off there is only the other one.
            let four = IpAddr::from([0, 0, 0, 0]);
            let listener =
                TcpListener::bind((any, tcp)).or_else(|_| TcpListener::bind((four, tcp)));
            let socket = UdpSocket::bind((any, udp)).or_else(|_| UdpSocket::bind((four, udp)));
            (listener.unwrap(), socket.unwrap())
        });
        listener.set_nonblocking(true).unwrap();
        socket.set_read_timeout(Some(LOOK)).unwrap();
        let over = Arc::new(AtomicBool::new(false));
        let streams = {
            let over = Arc::clone(&over);
            move || {
                let mut streams: Vec<TcpStream> = Vec::new();
                while !over.load(Ordering::Relaxed) {
                    if let Ok((stream, _)) = listener.accept() {
                        stream.set_nonblocking(true).unwrap();
                        streams.push(stream);
                    }
                    streams.retain_mut(echo);
                    thread::sleep(LOOK / 10);
                }
            }
        };
        let datagrams = {
            let over = Arc::clone(&over);
            move || {
                while !over.load(Ordering::Relaxed) {
                    if let Ok((_, peer)) = socket.recv_from(&mut [0; 64]) {
                        drop(socket.send_to(plain(peer).to_string().as_bytes(), peer));
                    }
                }
            }
        };
        Self { over, threads: vec![thread::spawn(streams), thread::spawn(datagrams)] }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            drop(thread.join());
        }
    }
}

/// Answers what has come; false when the connection has ended.
fn echo(stream: &mut TcpStream) -> bool {
    match stream.read(&mut [0; 64]) {
        Ok(0) => false,
        Ok(_) => {
            let peer = stream.peer_addr().map(plain);
            peer.is_ok_and(|peer| stream.write_all(format!("{peer}\n").as_bytes()).is_ok())
        }
        Err(e) => e.kind() == io::ErrorKind::WouldBlock,
    }
}

fn plain(peer: SocketAddr) -> IpAddr {
    peer.ip().to_canonical()
}

fn connect(namespace: &str, address: &str, bound: Duration) -> io::Result<TcpStream> {
    let address: SocketAddr = address.parse().map_err(io::Error::other)?;
    inside(namespace, || TcpStream::connect_timeout(&address, bound))
}

/// What the server at the other end of a connection sees of us.
fn ask(stream: &mut TcpStream) -> io::Result<String> {
    stream.set_read_timeout(Some(SOON))?;
    stream.write_all(b"?")?;
    let mut buffer = [0; 64];
    let length = stream.read(&mut buffer)?;
    Ok(String::from_utf8_lossy(&buffer[..length]).trim().to_owned())
}

fn tcp(namespace: &str, address: &str) -> String {
    let mut stream = connect(namespace, address, SOON)
        .unwrap_or_else(|e| panic!("{namespace} to {address}: {e}"));
    ask(&mut stream).unwrap()
}

fn udp(namespace: &str, address: &str) -> Option<String> {
    let address: SocketAddr = address.parse().unwrap();
    let any = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = inside(namespace, || UdpSocket::bind(any)).unwrap();
    socket.set_read_timeout(Some(NEVER)).unwrap();
    socket.send_to(b"?", address).unwrap();
    let mut buffer = [0; 64];
    let (length, _) = socket.recv_from(&mut buffer).ok()?;
    Some(String::from_utf8_lossy(&buffer[..length]).into_owned())
}

fn of(host: &Host) -> String {
    host.namespace()
}

/// The container's own address.
fn address(task: &TaskView) -> String {
    let words = ["-o", "-4", "addr", "show", "dev", "eth0"];
    let text = run(&[&["nsenter", "-t", &task.pid.to_string(), "-n", "ip"][..], &words].concat());
    let mut fields = text.split_whitespace().skip_while(|word| *word != "inet");
    fields.nth(1).unwrap().split('/').next().unwrap().to_owned()
}

/// The ports that a task has, as the manager tells them.
fn ports(world: &World, task: &TaskView) -> Value {
    let task = world.manager.api(&format!("/v1.40/tasks/{}", task.id));
    task["Status"]["PortStatus"]["Ports"].clone()
}

#[test]
#[cfg_attr(not(all(root, program = "dockerd")), ignore = "needs root and dockerd")]
fn published_ports_lead_from_everywhere_to_the_container() {
    let world = world();
    let agent = world.agent();
    let outside = world.switch.host("out1");
    let publish = [
        "--publish",
        "mode=host,target=80,published=8080",
        "--publish",
        "mode=host,protocol=udp,target=53,published=5353",
        "--publish",
        "mode=host,protocol=sctp,target=90,published=9090",
    ];
    // A client that asks before there is a server, and never pauses, is heard in the end: what the kernel
    // remembers of it would lead nowhere for ever.
    let early = inside(&of(&outside), || UdpSocket::bind(("0.0.0.0", 0)).unwrap());
    let there: SocketAddr = format!("{}:5353", agent.host.ip).parse().unwrap();
    early.send_to(b"?", there).unwrap();
    let (service, task) = idle(&world, agent.name(), "published", &publish);
    let inner_server = Server::start(&namespace(&task), 80, 53);
    early.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    wait_until("the early client to be answered", SOON, || {
        drop(early.send_to(b"?", there));
        early.recv_from(&mut [0; 64]).is_ok()
    });

    let (host, inner) = (agent.host.ip.clone(), address(&task));
    assert_eq!(inner, "172.17.0.2");
    let at_host = format!("{host}:8080");
    assert_eq!(tcp(&of(&outside), &at_host), outside.ip, "the client keeps its address");
    assert_eq!(udp(&of(&outside), &format!("{host}:5353")), Some(outside.ip.clone()));
    assert_eq!(tcp(&of(&agent.host), &at_host), "172.17.0.1");
    assert_eq!(tcp(&of(&agent.host), "127.0.0.1:8080"), "172.17.0.1");
    assert_eq!(udp(&of(&agent.host), "127.0.0.1:5353").unwrap(), "172.17.0.1");
    assert_eq!(tcp(&namespace(&task), &at_host), "172.17.0.1", "through the host to itself");
    let (neighbours, neighbour) = idle(&world, agent.name(), "neighbour", &[]);
    assert_eq!(tcp(&namespace(&neighbour), &at_host), "172.17.0.1");
    assert_eq!(tcp(&namespace(&neighbour), &format!("{inner}:80")), address(&neighbour));

    // The other way: as the host.
    let outer_server = Server::start(&of(&outside), 7000, 7001);
    assert_eq!(tcp(&namespace(&task), &format!("{}:7000", outside.ip)), host);
    assert_eq!(udp(&namespace(&task), &format!("{}:7001", outside.ip)), Some(host.clone()));

    // Who has a route to the container reaches what is published and nothing else.
    outside.ip(&["route", "add", "172.17.0.0/16", "via", &host]);
    assert!(connect(&of(&outside), &format!("{inner}:80"), NEVER).is_err());
    // What listens on the host's loopback stays there.
    let loopback_server = Server::start(&of(&agent.host), 6000, 6001);
    run(&[
        "nsenter",
        "-t",
        &task.pid.to_string(),
        "-n",
        "sh",
        "-c",
        "ip addr del 127.0.0.1/8 dev lo; ip route add 127.0.0.1/32 via 172.17.0.1; \
         echo 1 > /proc/sys/net/ipv4/conf/all/route_localnet",
    ]);
    assert!(connect(&namespace(&task), "127.0.0.1:6000", NEVER).is_err(), "CVE-2020-8558");

    let status = wait_for("the ports to be told", SOON, || {
        Some(ports(&world, &task)).filter(|ports| ports.is_array())
    });
    let port = |protocol: &str, target: u16, published: u16| json!({"Protocol": protocol, "TargetPort": target, "PublishedPort": published, "PublishMode": "host"});
    let wanted = json!([port("tcp", 80, 8080), port("udp", 53, 5353), port("sctp", 90, 9090)]);
    assert_eq!(status, wanted);
    let shown = world.manager.docker(&["service", "ps", "--format", "{{.Ports}}", &service.name]);
    assert!(shown.contains("*:8080->80/tcp"), "{shown}");
    let rules = run_on(&agent.host, &["nft", "list", "chain", "ip", "edgeagent", "ports"]);
    assert!(rules.contains("9090 dnat to 172.17.0.2:90"), "{rules}");
    // Held, but by nobody who listens: translation is the kernel's.
    drop(loopback_server);
    let listening = agent.host.listeners();
    let ours = |l: &&str| !l.contains("\"live-") && !l.contains("0.0.0.0:5353 ");
    assert_eq!(listening.lines().find(ours), None);
    let taken = inside(&of(&agent.host), || TcpListener::bind(("0.0.0.0", 8080)));
    assert_eq!(taken.unwrap_err().kind(), io::ErrorKind::AddrInUse);

    drop((inner_server, outer_server));
    neighbours.remove();
    service.remove();
    await_nothing_left(&agent);
    assert!(connect(&of(&outside), &at_host, NEVER).is_err());
    inside(&of(&agent.host), || TcpListener::bind(("0.0.0.0", 8080))).unwrap();
    // A node that leaves takes its bridge along.
    let mut agent = agent;
    agent.cli(&["leave"]).ok();
    agent.stop(Signal::TERM);
    let left = agent.host.ip(&["-o", "link"]) + &run_on(&agent.host, &["nft", "list", "ruleset"]);
    assert!(!left.contains("edgeagent"), "{left}");
}

fn run_on(host: &Host, words: &[&str]) -> String {
    capture(host.command(words[0]).args(&words[1..])).ok()
}

#[test]
#[cfg_attr(not(all(root, program = "dockerd")), ignore = "needs root and dockerd")]
fn a_port_that_is_taken_is_told_before_the_start() {
    let world = world();
    let agent = world.agent();
    let taken = inside(&of(&agent.host), || TcpListener::bind(("0.0.0.0", 8080)).unwrap());
    let image = world.images.busybox.as_str();
    let words = [
        "--restart-condition",
        "none",
        "--publish",
        "mode=host,target=80,published=8080",
        image,
        "true",
    ];
    let service = Service::create(&world.manager, agent.name(), "clash", &words);
    let task = service.await_state("failed", SOON);
    assert!(
        task.err.starts_with("starting container failed: driver failed programming external connectivity on endpoint clash.1."),
        "{task:?}"
    );
    assert!(task.err.contains("0.0.0.0:8080/tcp: Address already in use"), "{task:?}");
    service.remove();
    drop(taken);

    // Any free one is chosen, and told; one of another protocol is another.
    let (service, task) = idle(
        &world,
        agent.name(),
        "any-port",
        &[
            "--publish",
            "mode=host,target=80",
            "--publish",
            "mode=host,protocol=udp,target=80,published=8080",
        ],
    );
    let _inner_server = Server::start(&namespace(&task), 80, 80);
    let told = wait_for("the ports to be told", SOON, || {
        Some(ports(&world, &task)).filter(|ports| ports.is_array())
    });
    let port = told[0]["PublishedPort"].as_u64().unwrap();
    assert!(port >= 1024, "{told}");
    tcp(&of(&agent.host), &format!("{}:{port}", agent.host.ip));
    service.remove();
}

#[test]
#[cfg_attr(not(all(root, program = "dockerd")), ignore = "needs root and dockerd")]
fn connections_survive_the_agent_and_nothing_survives_the_death_of_all() {
    let world = world();
    let mut agent = world.agent();
    let outside = world.switch.host("out2");
    let publish = ["--publish", "mode=host,target=80,published=8080"];
    let (service, task) = idle(&world, agent.name(), "lasting", &publish);
    let inner_server = Server::start(&namespace(&task), 80, 53);
    let there = format!("{}:8080", agent.host.ip);
    let mut stream = connect(&of(&outside), &there, SOON).unwrap();
    assert_eq!(ask(&mut stream).unwrap(), outside.ip);
    agent.stop(Signal::KILL);
    assert_eq!(ask(&mut stream).unwrap(), outside.ip);
    tcp(&of(&outside), &there);
    agent.start();
    wait_until("the agent to be ready", SOON, || agent.state() == "ready");
    assert_eq!(ask(&mut stream).unwrap(), outside.ip);
    // Another program flushed all rules meanwhile: an agent that begins writes them again.
    agent.stop(Signal::TERM);
    run_on(&agent.host, &["nft", "flush", "ruleset"]);
    agent.start();
    wait_until("the agent to be ready", SOON, || agent.state() == "ready");
    tcp(&of(&outside), &there);
    assert!(ports(&world, &task).is_array(), "a restarted agent knows the ports");
    let (second, other) = idle(&world, agent.name(), "second", &[]);
    assert_eq!((address(&task), address(&other)), ("172.17.0.2".into(), "172.17.0.3".into()));
    second.remove();

    drop((stream, inner_server));
    // Agent, shim and container at once, as by the OOM killer; then an agent that finds the remains.
    agent.stop(Signal::KILL);
    for pid in agent.host.pids() {
        capture(Command::new("kill").args(["-9", &pid.to_string()]));
    }
    wait_until("the interface to go", SOON, || !agent.host.ip(&["-o", "link"]).contains("veth"));
    agent.start();
    wait_until("a successor", SOON, || {
        service.tasks().iter().any(|t| t.runs() && t.pid != task.pid)
    });
    let next = service.await_running(1, SOON).remove(0);
    let next_server = Server::start(&namespace(&next), 80, 53);
    assert_eq!(tcp(&of(&outside), &there), outside.ip);
    drop(next_server);
    service.remove();
    await_nothing_left(&agent);
}

#[test]
#[cfg_attr(not(all(root, program = "dockerd")), ignore = "needs root and dockerd")]
fn a_dockerd_on_the_same_host_keeps_its_network_and_leaves_us_ours() {
    let world = world();
    let mut agent = world.fresh_agent();
    let outside = world.switch.host("out3");
    // Then dockerd switches it on, and lets nothing through that it does not know.
    run_on(&agent.host, &["sysctl", "-qw", "net.ipv4.ip_forward=0"]);
    let docker = Beside::start(&world, &agent);
    let policy = run_on(&agent.host, &["iptables", "-S", "FORWARD"]);
    assert!(policy.contains("-P FORWARD DROP"), "{policy}");
    docker.docker(&[
        "run",
        "-d",
        "--name",
        "theirs",
        "-p",
        "8081:80",
        &world.images.busybox,
        "sleep",
        "1000",
    ]);
    let pid = docker.docker(&["inspect", "-f", "{{.State.Pid}}", "theirs"]);
    let theirs = format!("/proc/{pid}/ns/net");
    let _their_server = Server::start(&theirs, 80, 53);

    agent.join_ok(&world.manager);
    agent.start();
    world.manager.await_node(agent.name(), "ready", SOON);
    let publish = ["--publish", "mode=host,target=80,published=8080"];
    let (service, task) = idle(&world, agent.name(), "beside", &publish);
    let _inner_server = Server::start(&namespace(&task), 80, 53);
    let _outer_server = Server::start(&of(&outside), 7000, 7001);
    assert!(address(&task).starts_with("172.18."), "docker0 has the first network");
    let host = agent.host.ip.clone();
    let both_work = || {
        assert_eq!(tcp(&of(&outside), &format!("{host}:8080")), outside.ip);
        assert_eq!(tcp(&of(&outside), &format!("{host}:8081")), outside.ip);
        for from in [namespace(&task), theirs.clone()] {
            assert_eq!(tcp(&from, &format!("{}:7000", outside.ip)), host);
        }
    };
    both_work();
    // Once, and in a form that iptables reads.
    let rules = run_on(&agent.host, &["iptables", "-S", "FORWARD"]);
    for rule in ["-A FORWARD -i edgeagent0 -j ACCEPT", "-A FORWARD -o edgeagent0 -j ACCEPT"] {
        assert_eq!(rules.matches(rule).count(), 1, "{rules}");
    }
    agent.stop(Signal::KILL);
    agent.start();
    wait_until("the agent to be ready", SOON, || agent.state() == "ready");
    both_work();
    assert_eq!(run_on(&agent.host, &["iptables", "-S", "FORWARD"]), rules);
    // Each one's port is the other's clash.
    let clash = docker.try_docker(&["run", "--rm", "-p", "8080:80", &world.images.busybox, "true"]);
    assert!(clash.contains("address already in use"), "{clash}");
    service.remove();
    agent.cli(&["leave"]).ok();
    let rules = run_on(&agent.host, &["iptables", "-S", "FORWARD"]);
    assert!(!rules.contains("edgeagent0"), "{rules}");
    assert_eq!(tcp(&of(&outside), &format!("{host}:8081")), outside.ip);
}

/// A dockerd on the host of an agent.
struct Beside {
    dir: std::path::PathBuf,
    _daemon: Daemon,
}

impl Beside {
    fn start(world: &World, agent: &Agent) -> Self {
        let dir = folder().join(format!("beside-{}", agent.name()));
        fs::create_dir_all(&dir).unwrap();
        let mut command = agent.host.command("dockerd");
        for (option, file) in
            [("--data-root", "data"), ("--exec-root", "exec"), ("--pidfile", "pid")]
        {
            command.arg(option).arg(dir.join(file));
        }
        command.arg("-H").arg(format!("unix://{}", dir.join("docker.sock").display()));
        command.args(["--insecure-registry", &world.registry]);
        command.args(["--cgroup-parent", &format!("/{}-beside", crate::fixture::prefix())]);
        let daemon = Daemon::start("beside", &dir.join("log"), &mut command);
        let docker = Self { dir, _daemon: daemon };
        wait_ok("dockerd to answer", SOON, || {
            let done = capture(docker.command().arg("version"));
            if done.code == 0 { Ok(()) } else { Err(done.text()) }
        });
        docker
    }

    fn command(&self) -> Command {
        let mut command = Command::new("docker");
        command.arg("-H").arg(format!("unix://{}", self.dir.join("docker.sock").display()));
        command
    }

    fn docker(&self, words: &[&str]) -> String {
        capture(self.command().args(words)).ok().trim().to_owned()
    }

    fn try_docker(&self, words: &[&str]) -> String {
        capture(self.command().args(words)).text()
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        drop(capture(self.command().args(["rm", "-f", "theirs"])));
    }
}

#[test]
#[cfg_attr(not(all(root, program = "dockerd")), ignore = "needs root and dockerd")]
fn the_bridge_is_as_the_configuration_says() {
    let world = world();
    let mut agent = world.fresh_agent();
    let outside = world.switch.host("out4");
    let mut config: Value = serde_json::from_slice(&fs::read(agent.config()).unwrap()).unwrap();
    for (key, value) in [
        ("bip", json!("10.99.0.1/24")),
        ("mtu", json!(1400)),
        ("icc", json!(false)),
        ("ipv6", json!(true)),
        ("fixed-cidr-v6", json!("fd00:99::/64")),
    ] {
        config[key] = value;
    }
    agent.configure(&config);
    agent.host.ip(&["addr", "add", "fd00:79::1/64", "dev", "eth0", "nodad"]);
    outside.ip(&["addr", "add", "fd00:79::2/64", "dev", "eth0", "nodad"]);
    agent.join_ok(&world.manager);
    agent.start();
    world.manager.await_node(agent.name(), "ready", SOON);
    let publish = [
        "--publish",
        "mode=host,target=80,published=8080",
        "--publish",
        "mode=host,protocol=udp,target=53,published=5353",
    ];
    let (service, task) = idle(&world, agent.name(), "configured", &publish);
    let (others, other) = idle(&world, agent.name(), "apart", &[]);
    let inner_server = Server::start(&namespace(&task), 80, 53);
    assert_eq!(address(&task), "10.99.0.2");
    let pid = task.pid.to_string();
    let link = run(&["nsenter", "-t", &pid, "-n", "ip", "addr", "show", "dev", "eth0"]);
    for part in ["mtu 1400", "brd 10.99.0.255", "fd00:99::242:a63:2/64", "02:42:0a:63:00:02"] {
        assert!(link.contains(part), "{part}: {link}");
    }
    // Apart, but for what is published.
    assert!(connect(&namespace(&other), "10.99.0.2:80", NEVER).is_err(), "icc");
    assert_eq!(tcp(&namespace(&other), &format!("{}:8080", agent.host.ip)), "10.99.0.1");

    assert_eq!(tcp(&of(&outside), "[fd00:79::1]:8080"), "fd00:79::2");
    assert_eq!(udp(&of(&outside), "[fd00:79::1]:5353").unwrap(), "fd00:79::2");
    assert_eq!(tcp(&of(&outside), &format!("{}:8080", agent.host.ip)), outside.ip);
    assert_eq!(tcp(&of(&agent.host), "[fd00:79::1]:8080"), "fd00:99::1");
    let outer_server = Server::start(&of(&outside), 7000, 7001);
    assert_eq!(tcp(&namespace(&task), "[fd00:79::2]:7000"), "fd00:79::1");
    let hosts = run(&["cat", &format!("/proc/{pid}/root/etc/hosts")]);
    let name = &task.container[..12];
    let own = format!("10.99.0.2\t{name}\nfd00:99::242:a63:2\t{name}");
    assert!(hosts.contains(&own), "{hosts}");
    let told = wait_for("the ports to be told", SOON, || {
        Some(ports(&world, &task)).filter(|ports| ports.is_array())
    });
    assert_eq!(told.as_array().unwrap().len(), 4, "once for each IP: {told}");
    drop((inner_server, outer_server));
    others.remove();
    service.remove();
    await_nothing_left(&agent);

    // Without a bridge there is none, and who needs it is told or goes elsewhere.
    agent.stop(Signal::TERM);
    config["bridge"] = json!("none");
    agent.configure(&config);
    agent.start();
    wait_until("the description to be known", SOON, || {
        let node = world.manager.node(agent.name()).unwrap();
        !node["Description"]["Engine"]["Plugins"].to_string().contains("bridge")
    });
    let (service, task) = idle(&world, agent.name(), "alone", &[]);
    let links = run(&["nsenter", "-t", &task.pid.to_string(), "-n", "ip", "-o", "link"]);
    assert_eq!(links.lines().count(), 1, "{links}");
    service.remove();
    let mut words = vec!["--restart-condition", "none"];
    words.extend(publish);
    words.extend([world.images.busybox.as_str(), "true"]);
    let service = Service::create(&world.manager, agent.name(), "unpublished", &words);
    let task = service.await_state("rejected", SOON);
    assert!(task.err.contains("\"bridge\": \"none\""), "{task:?}");
}
