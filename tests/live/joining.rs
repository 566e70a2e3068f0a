//! Joining, and every way in which it is refused.

use std::{fs, time::Duration};

use ring::digest::{SHA256, digest};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::fixture::{Agent, Engine, JOINED, Join, Service, World, capture, wait_until, world};

const SOON: Duration = Duration::from_secs(20);

fn join_world(world: &World, agent: &Agent, token: &str) -> crate::fixture::Done {
    agent.join(Join { token, addrs: &[&world.manager.addr()] })
}

/// A token with one character changed, counted from its end.
fn bent(token: &str, from_end: usize) -> String {
    let at = token.len() - 1 - from_end;
    let other = if token.as_bytes()[at] == b'1' { '2' } else { '1' };
    format!("{}{other}{}", &token[..at], &token[at + 1..])
}

fn node_count(manager: &Engine) -> usize {
    manager.api("/nodes").as_array().unwrap().len()
}

#[test]
#[cfg_attr(not(all(root, program = "dockerd")), ignore = "needs root and dockerd")]
fn a_node_that_joined_is_ready_and_describes_itself() {
    let world = world();
    let agent = world.agent();
    let node = world.manager.node(agent.name()).unwrap();
    assert_eq!(node["Spec"]["Role"], "worker");
    assert_eq!(node["Spec"]["Availability"], "active");
    assert_eq!(node["Status"]["Addr"], agent.host.ip.as_str());

    let description = &node["Description"];
    assert_eq!(
        description["Platform"],
        json!({"Architecture": std::env::consts::ARCH, "OS": "linux"})
    );
    let cpus = std::thread::available_parallelism().unwrap().get();
    assert_eq!(description["Resources"]["NanoCPUs"], json!(cpus * 1_000_000_000));
    let total: u64 = fs::read_to_string("/proc/meminfo")
        .unwrap()
        .lines()
        .find_map(|l| l.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB")?.parse().ok())
        .unwrap();
    assert_eq!(description["Resources"]["MemoryBytes"], json!(total * 1024));
    let ours = env!("CARGO_PKG_VERSION");
    assert_eq!(description["Engine"]["Labels"], json!({"tested": "yes", "io.edgeagent": ours}));
    assert!(!description["Engine"]["EngineVersion"].as_str().unwrap().is_empty());
    let plugins = description["Engine"]["Plugins"].as_array().unwrap();
    assert!(plugins.contains(&json!({"Type": "Volume", "Name": "local"})), "{plugins:?}");
    assert!(plugins.contains(&json!({"Type": "Network", "Name": "host"})), "{plugins:?}");
    assert!(
        !plugins.contains(&json!({"Type": "Network", "Name": "overlay"})),
        "overlay is not ours to promise: {plugins:?}"
    );

    // What a root rotation waits for: our trust root and the issuer of our certificate.
    let swarm = world.manager.api("/swarm");
    assert_eq!(description["TLSInfo"], swarm["TLSInfo"]);

    let status = agent.json(&["status"]);
    assert_eq!(status["state"], "ready");
    assert_eq!(status["node_id"], node["ID"]);
    assert_eq!(status["cluster_id"], swarm["ID"]);
    assert_eq!(status["seal"], "host");
    assert_eq!(status["tasks"], 0);
}

#[test]
#[cfg_attr(not(all(root, program = "dockerd")), ignore = "needs root and dockerd")]
fn a_running_agent_picks_the_identity_up_at_once() {
    let world = world();
    let mut agent = world.fresh_agent();
    agent.start();
    wait_until("the agent to wait for a join", SOON, || agent.state() == "not-joined");
    assert_eq!(agent.host.listeners(), "");
    agent.join_ok(&world.manager);
    world.manager.await_node(agent.name(), "ready", Duration::from_secs(5));
}

#[test]
#[cfg_attr(not(all(root, program = "dockerd")), ignore = "needs root and dockerd")]
fn joining_twice_says_so_and_another_swarm_is_refused() {
    let world = world();
    let agent = world.agent();
    let nodes = node_count(&world.manager);
    let again = join_world(&world, &agent, &world.manager.token("worker"));
    assert_eq!(again.code, 0, "{}", again.text());
    assert!(again.text().contains("already"), "{}", again.text());
    assert_eq!(node_count(&world.manager), nodes, "the second join made another node");

    let other = world.engine("other", false);
    other.init_swarm();
    let refused = agent.join(Join { token: &other.token("worker"), addrs: &[&other.addr()] });
    assert_ne!(refused.code, 0, "{}", refused.text());
    assert!(refused.text().contains("leave"), "the next step is missing: {}", refused.text());
    assert_eq!(node_count(&other), 1);
    assert_eq!(world.manager.node_state(agent.name()), "ready");
}

#[test]
#[cfg_attr(not(all(root, program = "dockerd")), ignore = "needs root and dockerd")]
fn a_token_may_come_from_a_file_and_a_dead_address_is_passed_over() {
    let world = world();
    let mut agent = world.fresh_agent();
    let file = agent.dir.join("token");
    fs::write(&file, format!("{}\n", world.manager.token("worker"))).unwrap();
    let dead = format!("{}:2378", world.manager.host.ip);
    let done =
        agent.cli(&["join", "--token-file", file.to_str().unwrap(), &dead, &world.manager.host.ip]);
    assert!(done.text().contains(JOINED), "{}", done.text());
    agent.start();
    world.manager.await_node(agent.name(), "ready", SOON);
}

#[test]
#[cfg_attr(not(all(root, program = "dockerd")), ignore = "needs root and dockerd")]
fn availability_is_passed_on() {
    let world = world();
    let mut agent = world.fresh_agent();
    let addr = world.manager.addr();
    agent
        .cli(&["join", "--token", &world.manager.token("worker"), "--availability", "drain", &addr])
        .ok();
    agent.start();
    world.manager.await_node(agent.name(), "ready", SOON);
    assert_eq!(world.manager.node(agent.name()).unwrap()["Spec"]["Availability"], "drain");
}

#[test]
#[cfg_attr(not(all(root, program = "dockerd")), ignore = "needs root and dockerd")]
fn a_wrong_secret_is_told_at_once() {
    let world = world();
    let agent = world.fresh_agent();
    let nodes = node_count(&world.manager);
    let done = join_world(&world, &agent, &bent(&world.manager.token("worker"), 0));
    assert_eq!(done.code, 3, "{}", done.text());
    assert!(done.took < Duration::from_secs(3), "took {:?}: it was tried again", done.took);
    assert!(done.text().contains("token"), "{}", done.text());
    assert_eq!(node_count(&world.manager), nodes);
    assert_not_joined(&agent);
}

#[test]
#[cfg_attr(not(all(root, program = "dockerd")), ignore = "needs root and dockerd")]
fn a_wrong_digest_shows_both_and_sends_nothing_secret() {
    let world = world();
    let agent = world.fresh_agent();
    let token = world.manager.token("worker");
    let done = join_world(&world, &agent, &bent(&token, 30));
    assert_eq!(done.code, 3, "{}", done.text());
    assert!(done.took < Duration::from_secs(3), "took {:?}: it was tried again", done.took);
    let root = world.manager.docker(&["swarm", "ca"]) + "\n";
    let real: String =
        digest(&SHA256, root.as_bytes()).as_ref().iter().map(|b| format!("{b:02x}")).collect();
    assert!(done.text().contains(&real), "the manager's digest {real} is missing: {}", done.text());
    let hexes =
        done.text().split(|c: char| !c.is_ascii_hexdigit()).filter(|w| w.len() == 64).count();
    assert_eq!(hexes, 2, "both digests are to be shown: {}", done.text());
    assert!(!done.text().contains(token.rsplit('-').next().unwrap()), "the secret is shown");
    assert_not_joined(&agent);
}

#[test]
#[cfg_attr(not(all(root, program = "dockerd")), ignore = "needs root and dockerd")]
fn a_malformed_token_is_a_usage_error() {
    let world = world();
    let agent = world.fresh_agent();
    for bad in ["hello", "SWMTKN-1-abc-def", "SWMTKN-9-x-y", ""] {
        let done = join_world(&world, &agent, bad);
        assert_eq!(done.code, 2, "`{bad}`: {}", done.text());
        assert!(done.text().contains("token"), "{}", done.text());
    }
    let manager_token = world.manager.token("manager");
    let done = join_world(&world, &agent, &manager_token);
    assert_ne!(done.code, 0, "a manager token must not make a worker: {}", done.text());
    assert_not_joined(&agent);
}

#[test]
#[cfg_attr(not(all(root, program = "dockerd")), ignore = "needs root and dockerd")]
fn whoever_is_no_manager_is_named() {
    let world = world();
    let agent = world.fresh_agent();
    let token = world.manager.token("worker");
    let closed = format!("{}:9", world.manager.host.ip);
    let nobody = "10.79.200.1:2377".to_owned();
    for addr in [&closed, &nobody, &world.registry, &"no-such-host.invalid".to_owned()] {
        let done = agent.join(Join { token: &token, addrs: &[addr] });
        assert_eq!(done.code, 1, "{addr}: {}", done.text());
        assert!(
            done.text().contains(addr.split(':').next().unwrap()),
            "{addr} is not named: {}",
            done.text()
        );
        assert!(done.took < Duration::from_secs(40), "{addr} took {:?}", done.took);
        assert!(!done.text().contains("background"), "{}", done.text());
    }
    assert_not_joined(&agent);
}

#[test]
#[cfg_attr(not(all(root, program = "dockerd")), ignore = "needs root and dockerd")]
fn a_bad_configuration_names_the_key() {
    let world = world();
    let agent = world.fresh_agent();
    let good: Value = serde_json::from_slice(&fs::read(agent.config()).unwrap()).unwrap();
    for (key, value) in [
        ("data-rot", json!("/x")),
        ("insecure-registries", json!(7)),
        ("labels", json!(["no-equals"])),
    ] {
        let mut config = good.clone();
        config[key] = value;
        agent.configure(&config);
        let done = agent.cli(&["run"]);
        assert_eq!(done.code, 2, "{key}: {}", done.text());
        assert!(done.text().contains(key), "{key} is not named: {}", done.text());
    }
    fs::write(agent.config(), "{ not json").unwrap();
    let done = agent.cli(&["run"]);
    assert_eq!(done.code, 2, "{}", done.text());
    assert!(done.text().contains("agent.json"), "{}", done.text());
    fs::remove_file(agent.config()).unwrap();
    fs::create_dir(agent.config()).unwrap();
    let done = agent.cli(&["run"]);
    assert_eq!(done.code, 2, "{}", done.text());
    assert!(done.text().contains("agent.json"), "{}", done.text());
}

#[test]
#[cfg_attr(not(all(root, program = "dockerd")), ignore = "needs root and dockerd")]
fn words_that_mean_nothing_are_usage_errors() {
    let world = world();
    let agent = world.fresh_agent();
    for words in
        [&["no-such-command"][..], &["join"], &["join", "--token", "x"], &["--no-such-flag"]]
    {
        let done = agent.cli(words);
        assert_eq!(done.code, 2, "{words:?}: {}", done.text());
    }
    assert_eq!(agent.cli(&["leave"]).code, 5, "leaving without having joined");
}

#[test]
#[cfg_attr(not(all(root, program = "dockerd")), ignore = "needs root and dockerd")]
fn a_damaged_sealed_file_is_refused_and_kept() {
    let world = world();
    let mut agent = world.agent();
    agent.stop(Signal::TERM);
    let slots: Vec<_> = ["identity.a", "identity.b"]
        .map(|s| agent.data_root().join(s))
        .into_iter()
        .filter(|p| p.exists())
        .collect();
    assert!(!slots.is_empty(), "no identity in {}", agent.data_root().display());
    for slot in &slots {
        let mut bytes = fs::read(slot).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(slot, bytes).unwrap();
    }
    let before: Vec<_> = slots.iter().map(|s| fs::read(s).unwrap()).collect();
    let done = agent.cli(&["run"]);
    assert_eq!(done.code, 4, "{}", done.text());
    assert!(done.text().contains("identity"), "{}", done.text());
    let after: Vec<_> = slots.iter().map(|s| fs::read(s).unwrap()).collect();
    assert_eq!(before, after, "damage is not taken for absence: the file must stay as it is");
}

#[test]
#[cfg_attr(not(all(root, program = "dockerd")), ignore = "needs root and dockerd")]
fn a_full_disk_stops_a_join_cleanly() {
    let world = world();
    let agent = world.fresh_agent();
    let data = agent.data_root();
    fs::create_dir_all(&data).unwrap();
    capture(
        std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=64k", "ea-live"])
            .arg(&data),
    )
    .ok();
    let filler = data.join("filler");
    // Fails when the tmpfs is full, which is the aim.
    drop(fs::write(&filler, vec![0_u8; 128 * 1024]));
    let done = join_world(&world, &agent, &world.manager.token("worker"));
    assert_eq!(done.code, 1, "{}", done.text());
    assert!(done.text().to_lowercase().contains("space"), "{}", done.text());
    fs::remove_file(&filler).unwrap();
    agent.join_ok(&world.manager);
}

#[test]
#[cfg_attr(not(all(root, program = "dockerd")), ignore = "needs root and dockerd")]
fn leaving_forgets_the_swarm_and_joining_again_works() {
    let world = world();
    let mut agent = world.agent();
    let id = world.manager.node(agent.name()).unwrap()["ID"].clone();
    agent.cli(&["leave"]).ok();
    wait_until("the agent to have left", SOON, || agent.state() == "not-joined");
    assert!(agent.alive());
    for slot in ["identity.a", "identity.b"] {
        assert!(!agent.data_root().join(slot).exists(), "{slot} is still there");
    }
    world.manager.await_node(agent.name(), "down", Duration::from_secs(40));
    world.manager.docker(&["node", "rm", id.as_str().unwrap()]);
    agent.join_ok(&world.manager);
    world.manager.await_node(agent.name(), "ready", SOON);
}

#[test]
#[cfg_attr(not(all(root, program = "dockerd")), ignore = "needs root and dockerd")]
fn everybody_who_asks_to_leave_is_told_when_it_is_done() {
    let world = world();
    let agent = world.agent();
    // It ignores its stop signal, so that leaving takes a while.
    let service = Service::create(
        &world.manager,
        agent.name(),
        "stubborn",
        &[
            "--stop-grace-period",
            "3s",
            &world.images.busybox,
            "sh",
            "-c",
            "trap '' TERM; while :; do sleep 1; done",
        ],
    );
    service.await_running(1, SOON);
    let mut first = agent.command(&["leave"]).spawn().unwrap();
    wait_until("the node to be leaving", SOON, || agent.state() == "leaving");
    let second = agent.cli(&["leave"]);
    assert_eq!(second.code, 0, "{}", second.text());
    assert!(first.wait().unwrap().success());
    assert_eq!(agent.state(), "not-joined");
    service.remove();
}

#[test]
#[cfg_attr(not(all(root, program = "dockerd")), ignore = "needs root and dockerd")]
fn nobody_leaves_behind_the_back_of_an_agent_that_is_starting() {
    let world = world();
    let mut agent = world.agent();
    agent.stop(Signal::KILL);
    // A starting agent has the lock before it answers on its socket.
    let lock = fs::File::open(agent.exec_root().join("agent.lock")).unwrap();
    lock.try_lock().unwrap();
    let done = agent.cli(&["leave"]);
    assert_eq!(done.code, 1, "{}", done.text());
    assert!(done.text().contains("starting"), "{}", done.text());
    drop(lock);
    agent.start();
    wait_until("the agent to be a member still", SOON, || agent.state() == "ready");
    agent.stop(Signal::KILL);
    agent.cli(&["leave"]).ok();
    assert_eq!(agent.state(), "not-joined");
}

#[test]
#[cfg_attr(not(all(root, program = "dockerd")), ignore = "needs root and dockerd")]
fn nothing_secret_is_on_disk_in_the_clear() {
    let world = world();
    let agent = world.agent();
    let secret = world.manager.token("worker");
    let secret = secret.rsplit('-').next().unwrap();
    for needle in [secret, "PRIVATE KEY"] {
        let found = capture(
            std::process::Command::new("grep")
                .args(["-r", "-l", "-a", "-F", needle])
                .arg(agent.data_root()),
        );
        assert_eq!(found.out, "", "{needle:.8}… is in the clear");
        assert!(!agent.log().contains(needle), "{needle:.8}… is in the log");
    }
}

fn assert_not_joined(agent: &Agent) {
    for slot in ["identity.a", "identity.b"] {
        assert!(!agent.data_root().join(slot).exists(), "a refused join left {slot}");
    }
}
