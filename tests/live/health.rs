//! Health checks: what managers make of them, and that dockerd says the same.

use std::time::Duration;

use crate::fixture::{Service, TaskView, wait_until, world};

const SOON: Duration = Duration::from_secs(40);

/// Runs until it is told to stop; then its code says that it was.
const STUBBORN: &str = "trap 'exit 3' TERM; while :; do sleep 1000 & wait; done";

/// `--health-cmd` and its manners.
fn probed<'a>(script: &'a str, retries: &'a str) -> Vec<&'a str> {
    vec![
        "--health-cmd",
        script,
        "--health-interval",
        "100ms",
        "--health-timeout",
        "5s",
        "--health-retries",
        retries,
    ]
}

#[test]
#[cfg_attr(not(all(root, program = "dockerd")), ignore = "needs root and dockerd")]
fn a_task_is_starting_until_it_is_healthy_and_an_agent_that_comes_back_goes_on() {
    let world = world();
    let mut agent = world.agent();
    let node = agent.name().to_owned();
    let script = format!("until [ -e /tmp/ok ]; do sleep 0.05; done; {STUBBORN}");
    let mut words = probed("[ -e /tmp/ok ]", "100000");
    words.extend([world.images.busybox.as_str(), "sh", "-c", &script]);
    let service = Service::create(&world.manager, &node, "slow", &words);
    let pid = service.await_containers(1, SOON).pop_first().unwrap();
    let health = |agent: &crate::fixture::Agent| {
        let tasks = agent.json(&["ps"]);
        tasks.as_array().unwrap().iter().find_map(|task| {
            let ours = task["service"] == "slow" && !task["health"].is_null();
            ours.then(|| task["health"].clone())
        })
    };
    wait_until("a failed probe", SOON, || {
        health(&agent).is_some_and(|h| h["status"] == "starting" && h["exit_code"] == 1)
    });
    assert_eq!(service.await_state("starting", SOON).message, "starting");
    agent.stop(rustix::process::Signal::KILL);
    agent.start();
    wait_until("the agent to know it again", SOON, || {
        health(&agent).is_some_and(|h| h["status"] == "starting")
    });
    std::fs::write(format!("/proc/{pid}/root/tmp/ok"), "").unwrap();
    let task = service.await_running(1, SOON).remove(0);
    assert_eq!(task.pid, i64::from(pid), "the same container all the time");
    wait_until("health", SOON, || health(&agent).is_some_and(|h| h["status"] == "healthy"));
    // It is sick by the time that an agent is there again. The number of retries makes that long.
    drop(service);
    let mut words = probed("[ ! -e /tmp/ill ]", "1");
    words.extend(["--restart-condition", "none"]);
    words.extend([world.images.busybox.as_str(), "sh", "-c", STUBBORN]);
    let service = Service::create(&world.manager, &node, "ill", &words);
    service.await_running(1, SOON);
    let pid = service.await_containers(1, SOON).pop_first().unwrap();
    agent.stop(rustix::process::Signal::KILL);
    std::fs::write(format!("/proc/{pid}/root/tmp/ill"), "").unwrap();
    std::thread::sleep(Duration::from_millis(400)); // some probes; nobody else is to be asked
    agent.start();
    let task = service.await_state("failed", SOON);
    assert_eq!(task.err, "task: non-zero exit (3): dockerexec: unhealthy container");
}

#[test]
#[cfg_attr(not(all(root, program = "dockerd")), ignore = "needs root and dockerd")]
fn an_update_waits_for_health_and_goes_back_when_it_does_not_come() {
    let world = world();
    let agent = world.agent();
    let mut words = vec![
        "--replicas",
        "2",
        "--update-order",
        "start-first",
        "--update-failure-action",
        "rollback",
        "--update-monitor",
        "1s",
        "--rollback-monitor",
        "200ms",
        "--restart-delay",
        "100ms",
    ];
    words.extend(probed("true", "2"));
    words.extend([world.images.busybox.as_str(), "sh", "-c", STUBBORN]);
    let service = Service::create(&world.manager, agent.name(), "gated", &words);
    service.await_running(2, SOON);
    let old = service.await_containers(2, SOON);

    service.update(&["--health-cmd", "exit 9"]);
    wait_until("the rollback to complete", SOON, || service.update_state() == "rollback_completed");
    let failed = service.await_state("failed", SOON);
    assert_eq!(failed.err, "task: non-zero exit (3): dockerexec: unhealthy container");
    assert_eq!(failed.message, "starting");
    service.await_running(2, SOON);
    let now = service.await_containers(2, SOON);
    assert!(!old.is_disjoint(&now), "the old ones ran on: {old:?} {now:?}");

    service.update(&["--health-cmd", "test -d /tmp"]);
    wait_until("the update to complete", SOON, || service.update_state() == "completed");
    assert!(old.is_disjoint(&service.await_containers(2, SOON)));
}

#[test]
#[cfg_attr(not(all(root, program = "dockerd")), ignore = "needs root and dockerd")]
fn dockerd_says_the_same_of_the_sick() {
    let world = world();
    let docker = world.docker_worker("doctor");
    world.manager.await_node("doctor", "ready", SOON);
    let agent = world.agent();
    // Healthy at first, sick later.
    let relapse = "[ -e /tmp/was ] && exit 1; touch /tmp/was";
    // Sick for as long as failures do not count.
    let slow = "[ -e /tmp/n3 ] && exit 0; [ -e /tmp/n2 ] && touch /tmp/n3; [ -e /tmp/n1 ] && \
                touch /tmp/n2; touch /tmp/n1; exit 1";
    let polite = crate::services::POLITE;
    let cases: [(&str, Vec<&str>, &str, &str); 7] = [
        ("never", probed("exit 9", "2"), STUBBORN, "failed"),
        ("politely", probed("exit 9", "2"), polite, "complete"),
        ("relapse", probed(relapse, "1"), STUBBORN, "failed"),
        ("ends", probed("exit 9", "1000"), "sleep 1.2; exit 4", "failed"),
        ("ends-well", probed("exit 9", "1000"), "sleep 1", "complete"),
        (
            "period",
            [probed(slow, "1"), vec!["--health-start-period", "30s"]].concat(),
            STUBBORN,
            "running",
        ),
        ("off", vec!["--no-healthcheck"], STUBBORN, "running"),
    ];
    let mut services = Vec::new();
    for (name, options, script, state) in &cases {
        for (node, mark) in [("doctor", "docker"), (agent.name(), "us")] {
            let mut words = vec!["--restart-condition", "none"];
            words.extend(options);
            words.extend([world.images.busybox.as_str(), "sh", "-c", script]);
            let name = format!("{name}-by-{mark}");
            services.push((Service::create(&world.manager, node, &name, &words), *state));
        }
    }
    let seen: Vec<TaskView> =
        services.iter().map(|(service, state)| service.await_state(state, SOON)).collect();
    for (pair, (name, ..)) in seen.chunks(2).zip(&cases) {
        let facts = |t: &TaskView| (t.state.clone(), t.message.clone(), t.err.clone(), t.exit_code);
        assert_eq!(facts(&pair[1]), facts(&pair[0]), "{name}");
    }
    drop(services);
    drop(docker.docker_command().args(["swarm", "leave"]).output());
    world.manager.try_docker(&["node", "rm", "--force", "doctor"]);
}
