//! A real dockerd worker in the lab's swarm.

use std::{fs, process::Command, time::Duration};

use crate::machine::{Lab, capture, demo_image, folder, prefix, wait_for};

const SOON: Duration = Duration::from_secs(60);

fn run(words: &[&str]) {
    capture(Command::new(words[0]).args(&words[1..])).ok();
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn a_stock_dockerd_joins_runs_a_service_and_follows_a_rotation() {
    // One network namespace for both: dockerd must not meet the machine's own network.
    let dir = folder().join("engine");
    fs::create_dir_all(&dir).unwrap();
    let netns = format!("{}-engine", prefix());
    run(&["ip", "netns", "add", &netns]);
    for words in [
        "link set lo up",
        "link add eth0 type veth peer name eth1",
        "link set eth1 up",
        "addr add 10.82.0.1/24 dev eth0",
        "link set eth0 up",
    ] {
        let mut all = vec!["ip", "-n", &netns];
        all.extend(words.split(' '));
        run(&all);
    }
    let lab = Lab::start_in(Some(&netns), "10.82.0.1:2377", "engine-lab", &["--heartbeat", "1s"]);
    let socket = format!("unix://{}/docker.sock", dir.display());
    let log = fs::File::create(dir.join("log")).unwrap();
    let mut dockerd = Command::new("nsenter")
        .arg(format!("--net=/run/netns/{netns}"))
        .args(["unshare", "--uts", "sh", "-c", "hostname witness; exec \"$@\"", "sh", "dockerd"])
        .args(["--iptables=false", "--bridge=none", "-H", &socket])
        .arg("--data-root")
        .arg(dir.join("data"))
        .arg("--exec-root")
        .arg(dir.join("exec"))
        .arg("--pidfile")
        .arg(dir.join("pid"))
        .args(["--cgroup-parent", &format!("/{}-engine", prefix())])
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap();
    let docker = |words: &[&str]| capture(Command::new("docker").args(["-H", &socket]).args(words));
    wait_for("dockerd to answer", SOON, || {
        let done = docker(&["version"]);
        if done.code == Some(0) { Ok(()) } else { Err(done.err) }
    });
    docker(&["load", "-i", demo_image().to_str().unwrap()]).ok();

    docker(&["swarm", "join", "--token", &lab.token(), &lab.addr]).ok();
    lab.await_node("witness", "Ready");
    lab.run(&[
        "service",
        "create",
        "--name",
        "seen",
        "--network",
        "host",
        "demo:1",
        "sh",
        "-c",
        "echo by dockerd; sleep 1000",
    ]);
    lab.await_running("seen", 1);
    wait_for("its output", SOON, || {
        let logs = lab.run(&["service", "logs", "seen"]);
        if logs.contains("@witness    | by dockerd") { Ok(()) } else { Err(logs) }
    });
    assert!(docker(&["ps"]).ok().contains("seen.1."));

    let token = lab.token();
    lab.run(&["ca", "rotate"]);
    wait_for("the root to switch", SOON, || {
        if lab.token() == token { Err(lab.run(&["node", "ls"])) } else { Ok(()) }
    });
    lab.await_node("witness", "Ready");
    lab.await_running("seen", 1);

    lab.run(&["service", "rm", "seen"]);
    wait_for("the container to be gone", SOON, || {
        let listed = docker(&["ps", "-q"]).ok();
        if listed.is_empty() { Ok(()) } else { Err(listed) }
    });
    docker(&["swarm", "leave"]).ok();
    run(&["kill", &dockerd.id().to_string()]);
    dockerd.wait().unwrap();
}
