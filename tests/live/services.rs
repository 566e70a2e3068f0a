//! What managers do with many tasks: scale, update, roll back, drain, pause, global services, jobs.

use std::{fs, time::Duration};

use crate::fixture::{Agent, Service, TaskView, World, wait_ok, wait_until, world};

const SOON: Duration = Duration::from_secs(40);

/// A command that runs until it is told to stop, and then stops at once.
pub(crate) const POLITE: &str = "trap 'exit 0' TERM; while :; do sleep 1000 & wait; done";

/// A service whose tasks end at once when they are stopped.
pub(crate) fn polite<'a>(world: &'a World, node: &str, name: &str, words: &[&str]) -> Service<'a> {
    let mut all = words.to_vec();
    all.extend(["--restart-delay", "100ms", &world.images.busybox, "sh", "-c", POLITE]);
    Service::create(&world.manager, node, name, &all)
}

/// Waits until nothing of any task is left on the machine.
pub(crate) fn await_nothing_left(agent: &Agent) {
    wait_ok("nothing to be left behind", SOON, || {
        let left = agent.leftovers();
        if left.is_empty() { Ok(()) } else { Err(format!("{left:#?}")) }
    });
}

/// Number of containers whose environment holds `NAME=value`.
fn with_env(service: &Service<'_>, wanted: &str) -> usize {
    let holds = |pid: &u32| {
        let environ = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environ.split(|b| *b == 0).any(|e| e == wanted.as_bytes())
    };
    service.containers().iter().filter(|pid| holds(pid)).count()
}

#[test]
#[cfg_attr(not(all(root, program = "dockerd")), ignore = "needs root and dockerd")]
fn twenty_tasks_come_and_go_and_leave_nothing() {
    let world = world();
    let agent = world.agent();
    let service = polite(&world, agent.name(), "twenty", &["--replicas", "1"]);
    service.await_running(1, SOON);
    let first = service.await_containers(1, SOON);
    service.scale(20);
    service.await_running(20, SOON);
    let all = service.await_containers(20, SOON);
    assert!(all.is_superset(&first), "scaling up restarted the first task");
    assert_eq!(agent.json(&["status"])["tasks"], 20);
    assert_eq!(agent.host.listeners(), "");

    service.scale(1);
    service.await_running(1, SOON);
    service.await_containers(1, SOON);
    service.remove();
    await_nothing_left(&agent);
}

#[test]
#[cfg_attr(not(all(root, program = "dockerd")), ignore = "needs root and dockerd")]
fn an_update_rolls_and_is_rolled_back() {
    let world = world();
    let agent = world.agent();
    let service = polite(
        &world,
        agent.name(),
        "rolling",
        &[
            "--replicas",
            "3",
            "--env",
            "VERSION=1",
            "--update-parallelism",
            "1",
            "--update-monitor",
            "500ms",
            "--rollback-monitor",
            "500ms",
            "--rollback-parallelism",
            "0",
        ],
    );
    service.await_running(3, SOON);
    service.update(&["--env-add", "VERSION=2"]);
    wait_until("the update to complete", SOON, || service.update_state() == "completed");
    service.await_containers(3, SOON);
    assert_eq!(with_env(&service, "VERSION=2"), 3);

    world.manager.docker(&["service", "rollback", "--detach", "--quiet", &service.name]);
    wait_until("the rollback to complete", SOON, || service.update_state() == "rollback_completed");
    service.await_containers(3, SOON);
    assert_eq!(with_env(&service, "VERSION=1"), 3);
    assert!(
        service.tasks().iter().all(|t| t.state != "failed" && t.state != "rejected"),
        "{:#?}",
        service.tasks()
    );
}

#[test]
#[cfg_attr(not(all(root, program = "dockerd")), ignore = "needs root and dockerd")]
fn an_update_that_fails_is_rolled_back_by_the_manager() {
    let world = world();
    let agent = world.agent();
    let service = polite(
        &world,
        agent.name(),
        "failing",
        &[
            "--replicas",
            "2",
            "--update-failure-action",
            "rollback",
            "--update-monitor",
            "3s",
            "--rollback-monitor",
            "500ms",
        ],
    );
    service.await_running(2, SOON);
    service.update(&["--image", &world.images.missing]);
    wait_until("the rollback to complete", SOON, || service.update_state() == "rollback_completed");
    service.await_running(2, SOON);
    service.await_containers(2, SOON);
}

#[test]
#[cfg_attr(not(all(root, program = "dockerd")), ignore = "needs root and dockerd")]
fn a_start_first_update_overlaps() {
    let world = world();
    let agent = world.agent();
    let service = polite(
        &world,
        agent.name(),
        "overlap",
        &["--update-order", "start-first", "--update-monitor", "500ms"],
    );
    service.await_running(1, SOON);
    let old = service.await_containers(1, SOON);
    service.update(&["--force"]);
    wait_until("the update to complete", SOON, || service.update_state() == "completed");
    let new = service.await_containers(1, SOON);
    assert!(old.is_disjoint(&new));
}

#[test]
#[cfg_attr(not(all(root, program = "dockerd")), ignore = "needs root and dockerd")]
fn a_drained_node_gets_rid_of_its_tasks_and_takes_them_back() {
    let world = world();
    let agent = world.agent();
    let service = polite(&world, agent.name(), "drained", &["--replicas", "2"]);
    service.await_containers(2, SOON);
    world.manager.docker(&["node", "update", "--availability", "drain", agent.name()]);
    service.await_containers(0, SOON);
    world.manager.docker(&["node", "update", "--availability", "active", agent.name()]);
    service.await_running(2, SOON);
    service.await_containers(2, SOON);
}

#[test]
#[cfg_attr(not(all(root, program = "dockerd")), ignore = "needs root and dockerd")]
fn a_paused_node_keeps_its_tasks_and_gets_no_new_ones() {
    let world = world();
    let agent = world.agent();
    let service = polite(&world, agent.name(), "paused", &["--replicas", "1"]);
    let before = service.await_containers(1, SOON);
    world.manager.docker(&["node", "update", "--availability", "pause", agent.name()]);
    service.scale(2);
    service.await_tasks("a pending task with a reason", SOON, |tasks| {
        tasks
            .iter()
            .any(|t| t.state == "pending" && t.err.contains("no suitable node"))
            .then_some(())
    });
    assert_eq!(service.containers(), before);
    world.manager.docker(&["node", "update", "--availability", "active", agent.name()]);
    service.await_running(2, SOON);
    assert!(service.await_containers(2, SOON).is_superset(&before));
}

#[test]
#[cfg_attr(not(all(root, program = "dockerd")), ignore = "needs root and dockerd")]
fn services_stay_on_such_nodes_or_off_them() {
    let world = world();
    let agent = world.agent();
    let label = concat!("engine.labels.io.edgeagent==", env!("CARGO_PKG_VERSION"));
    let on = polite(&world, agent.name(), "on", &["--constraint", label]);
    on.await_running(1, SOON);
    let off = polite(&world, agent.name(), "off", &["--constraint", &label.replace("==", "!=")]);
    off.await_tasks("a pending task with a reason", SOON, |tasks| {
        let unsuitable = |t: &TaskView| t.state == "pending" && t.err.contains("no suitable node");
        tasks.iter().any(unsuitable).then_some(())
    });
}

#[test]
#[cfg_attr(not(all(root, program = "dockerd")), ignore = "needs root and dockerd")]
fn a_global_service_runs_once_here() {
    let world = world();
    let agent = world.agent();
    let service = polite(&world, agent.name(), "global", &["--mode", "global"]);
    service.await_running(1, SOON);
    service.await_containers(1, SOON);
}

#[test]
#[cfg_attr(not(all(root, program = "dockerd")), ignore = "needs root and dockerd")]
fn a_job_runs_to_completion() {
    let world = world();
    let agent = world.agent();
    let service = Service::create(
        &world.manager,
        agent.name(),
        "job",
        &[
            "--mode",
            "replicated-job",
            "--replicas",
            "5",
            "--max-concurrent",
            "2",
            "--env",
            "SLOT={{.Task.Slot}}",
            &world.images.busybox,
            "sh",
            "-c",
            "echo done $SLOT",
        ],
    );
    service.await_tasks("5 completed tasks", SOON, |tasks| {
        (tasks.iter().filter(|t| t.state == "complete").count() == 5).then_some(())
    });
    let (out, _) = service.logs(&[]);
    let mut lines: Vec<&str> = out.lines().collect();
    lines.sort_unstable();
    // A slot of zero shows as the node's id, as in dockerd.
    let node = world.manager.node(agent.name()).unwrap()["ID"].as_str().unwrap().to_owned();
    let last = format!("done {node}");
    let mut expected = ["done 1", "done 2", "done 3", "done 4", &last];
    expected.sort_unstable();
    assert_eq!(lines, expected);
}

#[test]
fn a_task_waits_for_its_turn_at_ready() {
    // The replacement of a failed task is prepared at once and started after the delay of the service.
    let world = world();
    let agent = world.agent();
    let service = Service::create(
        &world.manager,
        agent.name(),
        "delayed",
        &[
            "--restart-delay",
            "4s",
            "--restart-max-attempts",
            "1",
            &world.images.busybox,
            "sh",
            "-c",
            "exit 1",
        ],
    );
    service.await_tasks("a replacement that is ready", SOON, |tasks| {
        (tasks.iter().any(|t| t.state == "ready") && tasks.iter().any(|t| t.state == "failed"))
            .then_some(())
    });
    service.await_tasks("2 failed tasks", SOON, |tasks| {
        (tasks.iter().filter(|t| t.state == "failed").count() == 2).then_some(())
    });
}
