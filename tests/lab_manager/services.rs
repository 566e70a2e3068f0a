//! Services on edgeagent, approval, and a lab that restarts.

use std::time::Duration;

use crate::machine::{Agent, Lab, wait_for};

/// Long enough for a busy machine, and for the agent's longest pause of 8 s.
const SOON: Duration = Duration::from_secs(30);

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn edgeagent_joins_and_services_run_scale_update_log_and_end() {
    let lab = Lab::start("services", &["--heartbeat", "1s"]);
    let agent = Agent::member("edge-services", &lab);
    agent.load_image();
    let words = "service create --name hello --replicas 2 --env WHO=world demo:1 sh -c";
    let mut words: Vec<&str> = words.split(' ').collect();
    words.push("trap 'exit 0' TERM; echo hello $WHO; sleep 1000 & wait");
    lab.run(&words);
    lab.await_running("hello", 2);
    let said = |text: &str, times: usize| {
        wait_for(text, SOON, || {
            let logs = lab.run(&["service", "logs", "hello"]);
            if logs.matches(text).count() == times { Ok(()) } else { Err(logs) }
        });
    };
    said("hello world", 2);

    lab.run(&["service", "scale", "hello=3"]);
    let before = lab.await_running("hello", 3);
    lab.run(&["service", "update", "--env-add", "WHO=moon", "hello"]);
    let after = lab.await_running("hello", 3);
    assert!(after.iter().all(|new| before.iter().all(|old| old["id"] != new["id"])));
    said("hello moon", 3);
    assert!(lab.run(&["service", "logs", "--tail", "0", "hello"]).is_empty());

    lab.run(&["service", "rm", "hello"]);
    wait_for("the tasks to be gone", SOON, || {
        let tasks = agent.cli(&["ps", "--json"]).ok();
        if tasks.trim() == "[]" { Ok(()) } else { Err(tasks) }
    });
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn a_drained_node_loses_its_tasks_and_an_active_one_gets_global_ones() {
    let lab = Lab::start("drain", &["--heartbeat", "1s"]);
    let agent = Agent::member("edge-drain", &lab);
    agent.load_image();
    lab.run(&[
        "service",
        "create",
        "--name",
        "everywhere",
        "--mode",
        "global",
        "demo:1",
        "sleep",
        "1000",
    ]);
    lab.await_running("everywhere", 1);
    lab.run(&["node", "update", "--availability", "drain", "edge-drain"]);
    wait_for("the task to stop", SOON, || {
        let (status, _) = agent.status();
        if status["running"] == 0 { Ok(()) } else { Err(status.to_string()) }
    });
    lab.run(&["node", "update", "--availability", "active", "edge-drain"]);
    lab.await_running("everywhere", 1);
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn a_lab_that_restarts_keeps_nodes_and_services() {
    let mut lab = Lab::start("restart", &["--heartbeat", "1s"]);
    let agent = Agent::member("edge-restart", &lab);
    agent.load_image();
    lab.run(&["service", "create", "--name", "kept", "demo:1", "sleep", "1000"]);
    let before = lab.await_running("kept", 1);
    let (node, token) = (lab.nodes()[0]["id"].clone(), lab.token());

    lab.restart();
    lab.await_node("edge-restart", "Ready");
    assert_eq!(lab.nodes()[0]["id"], node);
    assert_eq!(lab.token(), token);
    let after = lab.await_running("kept", 1);
    assert_eq!(after[0]["id"], before[0]["id"], "the task must not be replaced");
    assert_eq!(after[0]["pid"], before[0]["pid"], "nor its process");
}

#[test]
fn a_newcomer_waits_for_approval_and_keeps_its_key() {
    let lab = Lab::start("approval", &["--heartbeat", "1s", "--approval", "manual"]);
    let mut agent = Agent::new("edge-approval");
    let mut join = agent.begin_join(&lab);
    let node = wait_for("a node that waits", SOON, || {
        let nodes = lab.nodes();
        nodes.first().cloned().ok_or_else(|| format!("{nodes:?}"))
    });
    assert_eq!(node["membership"], "pending");
    let (id, key) = (node["id"].as_str().unwrap(), node["fingerprint"].as_str().unwrap());
    wait_for("the key to be shown", SOON, || {
        let log = agent.join_log();
        if log.contains(id) && log.contains(key) { Ok(()) } else { Err(log) }
    });
    // Through a killed join, and two lives of the agent: the same node and the same key.
    join.kill().unwrap();
    join.wait().unwrap();
    for _ in 0..2 {
        agent.start();
        let status = agent.await_state("pending-approval", SOON);
        assert_eq!(status["node_id"], id);
        assert!(status["reason"].as_str().unwrap().contains(key), "{status}");
        agent.kill();
    }
    agent.start();
    agent.await_state("pending-approval", SOON);
    let accepted = lab.run(&["node", "accept", id]);
    assert!(accepted.contains(key), "{accepted}");
    agent.await_state("ready", SOON);
    assert_eq!(lab.nodes().len(), 1, "one machine, one node");
}

#[test]
fn a_newcomer_that_is_rejected_is_told() {
    let lab = Lab::start("rejection", &["--approval", "manual"]);
    let agent = Agent::new("edge-rejection");
    let mut join = agent.begin_join(&lab);
    wait_for("a node that waits", SOON, || lab.nodes().first().map(drop).ok_or_else(String::new));
    let id = lab.nodes()[0]["id"].as_str().unwrap().to_owned();
    lab.run(&["node", "reject", &id]);
    let code = join.wait().unwrap().code();
    assert_eq!(code, Some(3), "{}", agent.join_log());
    assert!(agent.join_log().contains("rejected by the operator"), "{}", agent.join_log());
    assert!(lab.cli(&["node", "accept", &id]).code != Some(0), "a rejection is final");
}

#[test]
fn the_root_is_rotated_under_a_member() {
    let lab = Lab::start("rotation", &["--heartbeat", "1s"]);
    let agent = Agent::member("edge-rotation", &lab);
    let root = |agent: &Agent| agent.status().0["certificate"]["root_ca"].clone();
    let (before, token) = (root(&agent), lab.token());
    lab.run(&["ca", "rotate"]);
    wait_for("the new root", SOON, || {
        let seen = root(&agent);
        if seen != before && lab.token() != token { Ok(()) } else { Err(seen.to_string()) }
    });
    lab.await_node("edge-rotation", "Ready");
    agent.await_state("ready", SOON);
}
