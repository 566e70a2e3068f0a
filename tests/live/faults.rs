//! What breaks: agents, managers, links. Tasks go on.

use std::{collections::BTreeSet, fs, thread, time::Duration};

use rustix::process::Signal;

use crate::{
    fixture::{Join, Service, wait_for, wait_until, world},
    services::{await_nothing_left, polite},
};

const SOON: Duration = Duration::from_secs(40);
const LONG: Duration = Duration::from_secs(90);

#[test]
#[cfg_attr(not(all(root, program = "dockerd")), ignore = "needs root and dockerd")]
fn a_killed_agent_finds_its_tasks_again() {
    let world = world();
    let mut agent = world.agent();
    let service = polite(&world, agent.name(), "survivor", &["--replicas", "3"]);
    let before = service.await_running(3, SOON);
    let pids = service.await_containers(3, SOON);
    agent.stop(Signal::KILL);
    assert_eq!(service.containers(), pids, "the containers died with the agent");
    let status = agent.json(&["status"]);
    assert_eq!((&status["state"], &status["running"]), (&"stopped".into(), &3.into()), "{status}");
    agent.start();
    wait_until("the agent to be ready", SOON, || agent.state() == "ready");
    assert_eq!(
        service.await_running(3, SOON).iter().map(|t| &t.id).collect::<BTreeSet<_>>(),
        before.iter().map(|t| &t.id).collect()
    );
    assert_eq!(service.containers(), pids);
    // It did not only survive: it is still governed.
    service.remove();
    await_nothing_left(&agent);
}

#[test]
#[cfg_attr(not(all(root, program = "dockerd")), ignore = "needs root and dockerd")]
fn ten_kills_during_a_scale_up_lose_and_double_nothing() {
    let world = world();
    let mut agent = world.agent();
    let service = polite(&world, agent.name(), "killed", &["--replicas", "0"]);
    service.scale(20);
    let mut seen = BTreeSet::new();
    for round in 0..10_usize {
        // The moment moves through the scale-up: after this many containers, wherever each other one is.
        wait_until("some containers", SOON, || service.containers().len() >= (round * 2).min(19));
        seen.extend(service.running_pids());
        agent.stop(Signal::KILL);
        agent.start();
    }
    service.await_running(20, LONG);
    let last = service.await_containers(20, SOON);
    assert!(
        last.is_superset(&seen),
        "running containers were replaced: {:?}",
        seen.difference(&last)
    );
    let tasks = service.tasks();
    assert_eq!(
        tasks.len(),
        20,
        "tasks were replaced: {:#?}",
        tasks.iter().filter(|t| !t.runs()).collect::<Vec<_>>()
    );
    for task in &tasks {
        assert!(last.contains(&u32::try_from(task.pid).unwrap()), "{task:?} is not among {last:?}");
    }
    service.remove();
    await_nothing_left(&agent);
}

#[test]
#[cfg_attr(not(all(root, program = "dockerd")), ignore = "needs root and dockerd")]
fn an_exit_while_the_agent_was_away_is_reported_with_its_code() {
    let world = world();
    let mut agent = world.agent();
    let gate = agent.dir.join("gate");
    fs::create_dir_all(&gate).unwrap();
    let mount = format!("type=bind,source={},target=/gate", gate.display());
    let service = Service::create(
        &world.manager,
        agent.name(),
        "quiet-exit",
        &[
            "--restart-condition",
            "none",
            "--mount",
            &mount,
            &world.images.busybox,
            "sh",
            "-c",
            "echo up; while [ ! -e /gate/go ]; do sleep 0.1; done; echo bye; exit 42",
        ],
    );
    service.await_running(1, SOON);
    service.await_log("up", SOON);
    agent.stop(Signal::KILL);
    fs::write(gate.join("go"), "").unwrap();
    service.await_containers(0, SOON);
    agent.start();
    let task = service.await_state("failed", SOON);
    assert_eq!(task.exit_code, 42, "{task:?}");
    assert_eq!(task.err, "task: non-zero exit (42)");
    assert_eq!(service.logs(&[]).0, "up\nbye\n", "what it wrote meanwhile is kept");
}

#[test]
#[cfg_attr(not(all(root, program = "dockerd")), ignore = "needs root and dockerd")]
fn an_upgrade_keeps_the_tasks() {
    let world = world();
    let mut agent = world.agent();
    let service = polite(&world, agent.name(), "upgraded", &["--replicas", "2"]);
    service.await_running(2, SOON);
    let pids = service.await_containers(2, SOON);
    let program = agent.dir.join("edgeagent");
    let fresh = agent.dir.join("edgeagent.new");
    fs::copy(&program, &fresh).unwrap();
    fs::rename(&fresh, &program).unwrap();
    agent.stop(Signal::TERM);
    assert_eq!(service.containers(), pids, "SIGTERM of the agent ended tasks");
    agent.start();
    wait_until("the agent to be ready", SOON, || agent.state() == "ready");
    service.await_running(2, SOON);
    assert_eq!(service.containers(), pids);
    service.scale(3);
    assert!(service.await_containers(3, SOON).is_superset(&pids));
}

#[test]
#[cfg_attr(not(all(root, program = "dockerd")), ignore = "needs root and dockerd")]
fn a_manager_that_restarts_finds_the_node_and_its_tasks_as_they_were() {
    let mut world = world();
    let agent = world.agent();
    let service = polite(&world, agent.name(), "steady", &["--replicas", "2"]);
    service.await_running(2, SOON);
    let pids = service.await_containers(2, SOON);
    // The handle borrows the manager, which is about to be changed: keep the service itself.
    std::mem::forget(service);
    world.manager.stop(Signal::TERM);
    world.manager.resume();
    world.manager.await_node(agent.name(), "ready", LONG);
    let service = Service::existing(&world.manager, "steady");
    service.await_running(2, SOON);
    assert_eq!(service.containers(), pids, "a restart of the manager restarted tasks");
    service.scale(3);
    service.await_running(3, SOON);
}

#[test]
#[cfg_attr(not(all(root, program = "dockerd")), ignore = "needs root and dockerd")]
fn a_short_cut_of_the_link_changes_nothing() {
    let world = world();
    let agent = world.agent();
    let service = polite(&world, agent.name(), "short-cut", &["--replicas", "2"]);
    service.await_running(2, SOON);
    let pids = service.await_containers(2, SOON);
    agent.host.link(false);
    thread::sleep(Duration::from_secs(8)); // the length of the fault, not a wait
    agent.host.link(true);
    service.scale(3);
    service.await_running(3, SOON);
    assert!(service.containers().is_superset(&pids));
    assert_eq!(world.manager.node_state(agent.name()), "ready");
}

#[test]
fn a_link_cut_for_half_a_minute_ends_with_the_wished_number_of_tasks() {
    // Managers replace the tasks of a node that they hold for down (behaviour.md 7.8): restarts are theirs.
    let world = world();
    let agent = world.agent();
    let service = polite(&world, agent.name(), "cut", &["--replicas", "3"]);
    service.await_running(3, SOON);
    let pids = service.await_containers(3, SOON);
    agent.host.link(false);
    world.manager.await_node(agent.name(), "down", Duration::from_secs(25));
    thread::sleep(Duration::from_secs(15)); // the rest of the fault
    assert_eq!(service.containers(), pids, "containers go on without a manager");
    agent.host.link(true);
    world.manager.await_node(agent.name(), "ready", Duration::from_secs(20));
    service.await_running(3, SOON);
    service.await_containers(3, SOON);
}

#[test]
#[cfg_attr(not(all(root, program = "dockerd")), ignore = "needs root and dockerd")]
fn three_managers_may_lose_their_leader() {
    let world = world();
    let mut first = world.engine("m1", false);
    first.init_swarm();
    let others = ["m2", "m3"].map(|name| world.engine(name, false));
    for other in &others {
        other.docker(&["swarm", "join", "--token", &first.token("manager"), &first.addr()]);
    }
    for name in ["m1", "m2", "m3"] {
        first.docker(&["node", "update", "--availability", "drain", name]);
    }
    let mut agent = world.fresh_agent();
    agent.join_ok(&first);
    agent.start();
    first.await_node(agent.name(), "ready", SOON);
    wait_until("the agent to know all managers", SOON, || {
        agent.json(&["status"])["managers"].as_array().is_some_and(|m| m.len() >= 3)
    });
    let name = "led";
    let service = Service::create(
        &first,
        agent.name(),
        name,
        &["--replicas", "2", &world.images.busybox, "sh", "-c", crate::services::POLITE],
    );
    service.await_running(2, SOON);
    let pids = service.await_containers(2, SOON);
    std::mem::forget(service);
    first.stop(Signal::KILL);

    let second = &others[0];
    second.await_quorum();
    second.await_node(agent.name(), "ready", LONG);
    let service = Service::existing(second, name);
    service.await_running(2, LONG);
    assert_eq!(service.containers(), pids, "the death of the leader restarted tasks");
    service.scale(4);
    service.await_running(4, SOON);
    assert!(service.await_containers(4, SOON).is_superset(&pids));
}

#[test]
#[cfg_attr(not(all(root, program = "dockerd")), ignore = "needs root and dockerd")]
fn a_removed_node_stops_its_tasks_and_says_so() {
    let world = world();
    let mut agent = world.agent();
    let service = polite(&world, agent.name(), "orphan", &["--replicas", "2"]);
    service.await_running(2, SOON);
    service.await_containers(2, SOON);
    world.manager.docker(&["node", "rm", "--force", agent.name()]);
    wait_until("the agent to know", SOON, || agent.state() == "removed");
    service.await_containers(0, SOON);
    assert!(agent.alive());
    assert_eq!(agent.host.listeners(), "");
    let screen = agent.cli(&["status"]).out;
    assert!(screen.contains("join"), "the next step is missing:\n{screen}");

    agent.cli(&["leave"]).ok();
    agent.join_ok(&world.manager);
    world.manager.await_node(agent.name(), "ready", SOON);
    service.await_running(2, SOON);
}

#[test]
#[cfg_attr(not(all(root, program = "dockerd")), ignore = "needs root and dockerd")]
fn a_promoted_node_stays_a_worker_and_says_so() {
    let world = world();
    let manager = world.engine("promoter", false);
    manager.init_swarm();
    manager.docker(&["node", "update", "--availability", "drain", "promoter"]);
    let mut agent = world.fresh_agent();
    agent.join_ok(&manager);
    agent.start();
    manager.await_node(agent.name(), "ready", SOON);
    manager.docker(&["node", "promote", agent.name()]);
    let reason = wait_for("the agent to say that it stays a worker", SOON, || {
        agent.log().lines().find(|l| l.contains("promoted")).map(str::to_owned)
    });
    assert!(reason.contains("worker"), "{reason}");
    let service = Service::create(
        &manager,
        agent.name(),
        "still",
        &[&world.images.busybox, "sh", "-c", crate::services::POLITE],
    );
    service.await_running(1, SOON);
    assert_eq!(agent.host.listeners(), "");
}

#[test]
#[cfg_attr(not(all(root, program = "dockerd")), ignore = "needs root and dockerd")]
fn two_nodes_never_share_an_identity_by_joining() {
    let world = world();
    let a = world.agent();
    let b = world.agent();
    let (a, b) = (a.json(&["status"])["node_id"].clone(), b.json(&["status"])["node_id"].clone());
    assert_ne!(a, b);
}

#[test]
#[cfg_attr(not(all(root, program = "dockerd")), ignore = "needs root and dockerd")]
fn an_agent_without_its_manager_waits_and_comes_back() {
    let world = world();
    let mut manager = world.engine("absent", false);
    manager.init_swarm();
    let mut agent = world.fresh_agent();
    let done = agent.join(Join { token: &manager.token("worker"), addrs: &[&manager.addr()] });
    done.ok();
    manager.stop(Signal::TERM);
    agent.start();
    wait_until("the agent to try", SOON, || {
        ["connecting", "backing-off"].contains(&agent.state().as_str())
    });
    assert_eq!(agent.host.listeners(), "");
    manager.resume();
    manager.await_node(agent.name(), "ready", LONG);
}
