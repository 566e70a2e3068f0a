//! The bridge and who is on it, in a network namespace of the test's own: what swarm's scheduler lets no
//! manager show. Needs root and `unshare`; says so otherwise.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]
#![expect(clippy::disallowed_methods, reason = "waiting for a condition has a bound")]

use std::{
    collections::BTreeMap,
    env, fs,
    net::{Ipv4Addr, TcpListener},
    process::Command,
};

use edgeagent::{
    model::{BridgeSettings, Cidr, Pool, PortConfig, PortProtocol, PublishMode, TaskId},
    net::{self, Lease, NetError, Network},
};

/// Runs this test again in a namespace of its own; true there.
fn alone(name: &str) -> bool {
    if env::var_os("EA_ALONE").is_some() {
        return true;
    }
    let program = env::current_exe().unwrap();
    let status = Command::new("unshare")
        .args(["--net", "--"])
        .arg(program)
        .args(["--exact", name, "--nocapture"])
        .env("EA_ALONE", "1")
        .status()
        .unwrap();
    assert!(status.success(), "{name}");
    false
}

fn task(name: &str) -> TaskId {
    TaskId::new(name).unwrap()
}

fn port(protocol: PortProtocol, target: u32, published: u32) -> PortConfig {
    PortConfig { protocol, target, published, mode: PublishMode::Host }
}

fn show(words: &[&str]) -> String {
    let output = Command::new(words[0]).args(&words[1..]).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn small() -> BridgeSettings {
    let pool = |third| Pool {
        base: Cidr { address: Ipv4Addr::new(10, 9, third, 0), prefix: 29 },
        size: 29,
    };
    BridgeSettings { pools: vec![pool(1), pool(2)], ..BridgeSettings::default() }
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn addresses_and_ports_are_given_once_and_come_back() {
    if !alone("addresses_and_ports_are_given_once_and_come_back") {
        return;
    }
    let mut network = Network::new(small(), BTreeMap::new());
    let ports = [port(PortProtocol::Tcp, 80, 8080), port(PortProtocol::Udp, 80, 8080)];
    let (first, held) = network.lease(&task("a"), &ports).unwrap();
    assert_eq!(first.endpoint.v4.address, Ipv4Addr::new(10, 9, 1, 2));
    assert_eq!(held.len(), 2);
    let error = network.lease(&task("b"), &ports[..1]).unwrap_err();
    assert_eq!(error.to_string(), "Bind for 0.0.0.0:8080 failed: port is already allocated");
    assert!(network.of(&task("b")).is_none());
    for name in ["c", "d", "e", "f"] {
        network.lease(&task(name), &[]).unwrap();
    }
    assert!(matches!(network.lease(&task("g"), &[]), Err(NetError::NoAddress)));

    // Another program's socket is in the way only once ours is gone, and the other way round.
    network.release(&task("a"));
    assert!(!show(&["nft", "list", "ruleset"]).contains("dnat to"), "rules go with the container");
    assert!(TcpListener::bind(("0.0.0.0", 8080)).is_err(), "the shim still holds it");
    drop(held);
    let other = TcpListener::bind(("0.0.0.0", 8080)).unwrap();
    assert!(matches!(network.lease(&task("a"), &ports), Err(NetError::Port { .. })));
    assert!(network.of(&task("a")).is_none(), "nothing of a failed start is kept");
    drop(other);
    let many: Vec<PortConfig> = (1..=257).map(|n| port(PortProtocol::Tcp, n, 20_000 + n)).collect();
    assert!(matches!(network.lease(&task("a"), &many), Err(NetError::TooManyPorts)));
    let (all, _held) = network.lease(&task("a"), &many[..256]).unwrap();
    assert_eq!(
        show(&["nft", "list", "chain", "ip", "edgeagent", "ports"]).matches("dnat to").count(),
        256
    );
    assert!(postcard::to_stdvec(&all).unwrap().len() < 8192, "its record is read whole");
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn a_new_agent_goes_on_where_the_last_one_ended() {
    if !alone("a_new_agent_goes_on_where_the_last_one_ended") {
        return;
    }
    let dir = env::temp_dir().join(format!("edgeagent-net-{}", std::process::id()));
    fs::create_dir_all(&dir).unwrap();
    let published = [port(PortProtocol::Tcp, 80, 0)];
    let mut network = Network::new(small(), BTreeMap::new());
    let (lease, _held) = network.lease(&task("a"), &published).unwrap();
    lease.write(&dir).unwrap();
    assert_eq!(Lease::read(&dir), Some(lease.clone()));
    assert!(1024 <= lease.ports.first().unwrap().published, "0 asks for any free one");
    drop(network);

    // The configuration has changed; who runs decides.
    show(&["nft", "flush", "ruleset"]);
    let bip = Cidr { address: Ipv4Addr::new(10, 7, 7, 1), prefix: 24 };
    let settings = BridgeSettings { bip: Some(bip), ..small() };
    let known = BTreeMap::from([(task("a"), lease.clone())]);
    let mut network = Network::new(settings, known);
    network.restore().unwrap();
    let rule = format!("tcp dport {} dnat to 10.9.1.2:80", lease.ports.first().unwrap().published);
    assert!(show(&["nft", "list", "ruleset"]).contains(&rule), "{rule}");
    let (second, _) = network.lease(&task("b"), &[]).unwrap();
    assert_eq!(second.endpoint.v4.address, Ipv4Addr::new(10, 9, 1, 3));
    network.release(&task("a"));
    network.release(&task("b"));
    let (third, _) = network.lease(&task("c"), &[]).unwrap();
    assert_eq!(third.endpoint.gateway, bip.address);
    let addresses = show(&["ip", "-o", "-4", "addr", "show", "dev", net::BRIDGE]);
    assert!(addresses.contains("10.7.7.1/24") && !addresses.contains("10.9.1"), "{addresses}");
    network.release(&task("c"));

    // Pools that are in use are passed over.
    net::remove();
    show(&["ip", "link", "add", "lan0", "type", "bridge"]);
    show(&["ip", "addr", "add", "10.9.1.0/24", "dev", "lan0"]);
    show(&["ip", "link", "set", "lan0", "up"]);
    let mut network = Network::new(small(), BTreeMap::new());
    let (elsewhere, _) = network.lease(&task("d"), &[]).unwrap();
    assert_eq!(elsewhere.endpoint.gateway, Ipv4Addr::new(10, 9, 2, 1));
    network.release(&task("d"));
    net::remove();
    assert!(!show(&["ip", "link"]).contains(net::BRIDGE));
    assert_eq!(show(&["nft", "list", "ruleset"]), "");
    show(&["ip", "addr", "add", "10.9.2.0/24", "dev", "lan0"]);
    let error = network.ready().unwrap_err();
    assert!(error.to_string().contains("set \"bip\" in agent.json"), "{error}");
    fs::remove_dir_all(&dir).unwrap();
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn a_kernel_that_refuses_is_told_with_what_it_needs() {
    if !alone("a_kernel_that_refuses_is_told_with_what_it_needs") {
        return;
    }
    // As root without the right to administer networks: what a kernel without bridges says differs in
    // the cause alone.
    let bounded = rustix::thread::CapabilitySet::NET_ADMIN;
    let mut sets = rustix::thread::capabilities(None).unwrap();
    sets.effective -= bounded;
    rustix::thread::set_capabilities(None, sets).unwrap();
    let error = Network::new(small(), BTreeMap::new()).ready().unwrap_err();
    let text = edgeagent::model::chain(&error);
    assert!(
        text.contains("the kernel needs CONFIG_BRIDGE") && text.contains("--network host"),
        "{text}"
    );
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn a_port_with_connections_that_have_ended_is_free() {
    if !alone("a_port_with_connections_that_have_ended_is_free") {
        return;
    }
    show(&["ip", "link", "set", "lo", "up"]);
    let listener = TcpListener::bind(("0.0.0.0", 8080)).unwrap();
    let client = std::net::TcpStream::connect(("127.0.0.1", 8080)).unwrap();
    // The side that closes first is the one that waits.
    drop(listener.accept().unwrap());
    let mut network = Network::new(small(), BTreeMap::new());
    let ports = [port(PortProtocol::Tcp, 80, 8080)];
    let error = network.lease(&task("a"), &ports).unwrap_err();
    assert!(matches!(error, NetError::Port { .. }), "somebody listens: {error}");
    drop(listener);
    drop(client);
    let until = std::time::Instant::now() + std::time::Duration::from_secs(20);
    // Port 8080, state TIME_WAIT.
    while !fs::read_to_string("/proc/net/tcp").unwrap().lines().any(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        fields[1].ends_with(":1F90") && fields[3] == "06"
    }) {
        assert!(std::time::Instant::now() < until);
        std::thread::yield_now();
    }
    let (_, held) = network.lease(&task("a"), &ports).unwrap();
    assert!(TcpListener::bind(("0.0.0.0", 8080)).is_err(), "it is held as ever");
    assert!(TcpListener::bind(("127.0.0.1", 8080)).is_err());
    network.release(&task("a"));
    drop(held);
    drop(TcpListener::bind(("0.0.0.0", 8080)).unwrap());
}
