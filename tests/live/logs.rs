//! Logs: through the manager and on the node.

use std::{fs, time::Duration};

use crate::fixture::{Daemon, Service, wait_ok, wait_until, world};

const SOON: Duration = Duration::from_secs(30);

#[test]
#[cfg_attr(not(all(root, program = "dockerd")), ignore = "needs root and dockerd")]
fn docker_service_logs_shows_what_was_written() {
    let world = world();
    let agent = world.agent();
    let gate = agent.dir.join("gate");
    fs::create_dir_all(&gate).unwrap();
    let mount = format!("type=bind,source={},target=/gate", gate.display());
    let service = Service::create(&world.manager, agent.name(), "talker", &[
        "--mount", &mount, &world.images.busybox, "sh", "-c",
        "echo one; echo two; echo err >&2; printf 'no newline'; while [ ! -e /gate/go ]; do sleep 0.1; done;
         echo; sleep 0.1; echo three; trap 'exit 0' TERM; while :; do sleep 1000 & wait; done",
    ]);
    service.await_running(1, SOON);
    service.await_log("two", SOON);
    wait_until("standard error", SOON, || service.logs(&[]).1 == "err\n");
    assert!(service.logs(&[]).0.starts_with("one\ntwo\n"));

    // Follow: what is there, then what comes.
    let followed = agent.dir.join("followed");
    let mut follow = world.manager.docker_command();
    follow.args(["service", "logs", "--raw", "--follow", "talker"]);
    let follower = Daemon::start("docker service logs", &followed, &mut follow);
    let shown =
        |line: &str| fs::read_to_string(&followed).unwrap_or_default().lines().any(|l| l == line);
    wait_until("the follower to show the past", SOON, || shown("two"));
    assert!(!shown("three"));
    fs::write(gate.join("go"), "").unwrap();
    wait_until("the follower to show the present", SOON, || shown("three"));
    drop(follower);

    assert_eq!(service.logs(&["--tail", "1"]).0, "three\n");
    assert!(service.logs(&["--tail", "3"]).0.ends_with("no newline\nthree\n"));
    let (stamped, _) = service.logs(&["--timestamps"]);
    let (at, line) = stamped.lines().last().unwrap().split_once(' ').unwrap();
    assert_eq!(line, "three");
    assert!(at.starts_with("20") && at.ends_with('Z'), "{at}");
    assert_eq!(service.logs(&["--since", at]).0, "three\n");
}

#[test]
#[cfg_attr(not(all(root, program = "dockerd")), ignore = "needs root and dockerd")]
fn all_lines_arrive_in_order() {
    let world = world();
    let agent = world.agent();
    let service = Service::create(
        &world.manager,
        agent.name(),
        "many",
        &[
            "--restart-condition",
            "none",
            &world.images.busybox,
            "sh",
            "-c",
            "i=0; while [ $i -lt 5000 ]; do echo line $i; i=$((i+1)); done; head -c 40000 /dev/zero | tr '\\0' x; echo",
        ],
    );
    service.await_state("complete", SOON);
    let (out, _) = service.logs(&[]);
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines.len(), 5001, "lines were lost");
    for (i, line) in lines[..5000].iter().enumerate() {
        assert_eq!(*line, format!("line {i}"));
    }
    assert_eq!(lines[5000].len(), 40000, "a long line arrives whole");
}

#[test]
#[cfg_attr(not(all(root, program = "dockerd")), ignore = "needs root and dockerd")]
fn the_node_shows_its_own_logs_and_tasks() {
    let world = world();
    let agent = world.agent();
    let service = Service::create(
        &world.manager,
        agent.name(),
        "local",
        &[
            &world.images.busybox,
            "sh",
            "-c",
            "echo a; echo b; echo c >&2; trap 'exit 0' TERM; while :; do sleep 1000 & wait; done",
        ],
    );
    let task = service.await_running(1, SOON).remove(0);
    let got = wait_ok("the lines on the node", SOON, || {
        let done = agent.cli(&["logs", &task.id]);
        if done.out.lines().count() == 2 && done.err.contains('c') {
            Ok(done)
        } else {
            Err(done.text())
        }
    });
    assert_eq!((got.out.as_str(), got.err.as_str()), ("a\nb\n", "c\n"));
    assert!(agent.cli(&["logs", "--tail", "1", &task.id]).text().contains('c'));
    assert_eq!(agent.cli(&["logs", "no-such-task"]).code, 1);

    let ps = agent.json(&["ps"]);
    let row = &ps[0];
    assert_eq!(row["id"], task.id.as_str());
    assert_eq!(row["service"], "local");
    assert_eq!(row["slot"], 1);
    assert_eq!(row["state"], "running");
    assert_eq!(row["desired"], "running");
    assert_eq!(row["pid"], task.pid);
    assert_eq!(row["container_id"], task.container.as_str());
    assert_eq!(row["image"], world.images.busybox.as_str());
    let table = agent.cli(&["ps"]).ok();
    assert!(table.contains("local.1") && table.contains("running"), "{table}");
    let screen = agent.cli(&["status"]).ok();
    assert!(screen.contains(&world.manager.addr()) && screen.contains("ready"), "{screen}");
}

#[test]
#[cfg_attr(not(all(root, program = "dockerd")), ignore = "needs root and dockerd")]
fn whoever_follows_does_not_keep_the_logs_of_removed_tasks_open() {
    let world = world();
    let agent = world.agent();
    let service = Service::create(
        &world.manager,
        agent.name(),
        "followed",
        &[
            "--replicas",
            "2",
            &world.images.busybox,
            "sh",
            "-c",
            "echo up; trap 'exit 0' TERM; while :; do sleep 1000 & wait; done",
        ],
    );
    service.await_running(2, SOON);
    let open_logs = || {
        let files = fs::read_dir(format!("/proc/{}/fd", agent.pid())).unwrap();
        let files = files.flatten().filter_map(|file| fs::read_link(file.path()).ok());
        files.filter(|file| file.to_string_lossy().contains("/log/")).count()
    };
    let mut follower = world.manager.docker_command();
    follower.args(["service", "logs", "--follow", "followed"]).stdout(std::process::Stdio::null());
    let mut follower = follower.spawn().unwrap();
    wait_until("both logs to be read", SOON, || open_logs() == 2);
    service.scale(1);
    wait_until("one of them to be closed", SOON, || open_logs() == 1);
    follower.kill().unwrap();
    follower.wait().unwrap();
    wait_until("all of them to be closed", SOON, || open_logs() == 0);
    service.remove();
}

#[test]
#[cfg_attr(not(all(root, program = "dockerd")), ignore = "needs root and dockerd")]
fn details_are_those_of_dockerd() {
    let world = world();
    let docker = world.docker_worker("scribe");
    world.manager.await_node("scribe", "ready", SOON);
    let agent = world.agent();
    let options = [
        "--log-driver",
        "json-file",
        "--log-opt",
        "labels=team,none,com.docker.swarm.service.name",
        "--log-opt",
        "env=A,T,HOSTNAME,NONE",
        "--log-opt",
        "max-size=0.5m",
        "--container-label",
        "team=roof, east",
        "--container-label",
        "other=1",
        "--hostname",
        "box",
        "--env",
        "A=a=b",
        "--env",
        "T={{.Task.Slot}}",
        "--restart-condition",
        "none",
    ];
    let details = |node: &str| {
        let name = "detailed";
        let words = [&options[..], &[world.images.busybox.as_str(), "echo", "line"]].concat();
        let service = Service::create(&world.manager, node, name, &words);
        service.await_state("complete", SOON);
        service.await_log("line", SOON);
        let text = service.logs(&["--details"]).0;
        // What managers add of themselves is another for each node and service.
        let (attributes, line) = text.trim_end().rsplit_once(' ').unwrap();
        let mut rest: Vec<String> = attributes.split(',').map(str::to_owned).collect();
        rest.retain(|pair| !pair.contains(".id="));
        (rest, line.to_owned())
    };
    let expected = details("scribe");
    assert!(expected.0.iter().any(|pair| pair.contains("team=")), "{expected:?}");
    assert_eq!(details(agent.name()), expected);
    drop(docker.docker_command().args(["swarm", "leave"]).output());
    world.manager.try_docker(&["node", "rm", "--force", "scribe"]);
}
