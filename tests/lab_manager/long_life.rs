//! A long life: expiry, root rotations that were slept through, removal, clocks, new tokens.

use std::{fs, thread, time::Duration};

use serde_json::Value;

use crate::machine::{Agent, Lab, folder, wait_for};

/// Long enough for a busy machine, and for the agent's longest pause.
const SOON: Duration = Duration::from_secs(40);

fn pids(agent: &Agent) -> Vec<i64> {
    let tasks: Vec<Value> = serde_json::from_str(&agent.cli(&["ps", "--json"]).ok()).unwrap();
    tasks.iter().filter_map(|task| task["pid"].as_i64()).collect()
}

fn is_alive(pid: i64) -> bool {
    fs::metadata(format!("/proc/{pid}")).is_ok()
}

fn ids(lab: &Lab) -> Vec<String> {
    lab.nodes().iter().map(|node| node["id"].as_str().unwrap().to_owned()).collect()
}

/// Until the certificate that an agent had when it was killed has ended.
fn outlive(validity: Duration) {
    thread::sleep(validity + Duration::from_secs(1));
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn an_expired_node_keeps_its_tasks_and_joins_anew_once_a_day() {
    let validity = Duration::from_secs(8);
    let lab = Lab::start("expiry", &["--heartbeat", "1s", "--cert-validity", "8s"]);
    let mut agent = Agent::member("edge-expiry", &lab);
    agent.load_image();
    lab.run(&["service", "create", "--name", "kept", "--mode", "global", "demo:1", "sleep", "999"]);
    lab.await_running("kept", 1);
    let before = pids(&agent);
    assert_eq!(before.len(), 1);
    let old = ids(&lab).remove(0);

    agent.kill();
    outlive(validity);
    // While it still waits to be let in, nothing is stopped.
    lab.run(&["evil", "sign-never"]);
    agent.start();
    let status = agent.await_state("pending-approval", SOON);
    assert!(status["reason"].as_str().unwrap().contains("expired"), "{status}");
    assert!(is_alive(before[0]), "the task must go on");
    let both = ids(&lab);
    assert_eq!(both.len(), 2);
    // It goes on with the same request after a crash, and the managers see no third node.
    agent.kill();
    agent.start();
    agent.await_state("pending-approval", SOON);
    assert!(is_alive(before[0]), "the task must go on");
    lab.run(&["evil", "none"]);
    let status = agent.await_state("ready", SOON);
    assert_eq!(ids(&lab), both, "no third node");
    assert_eq!(status["replaces"], old.as_str());
    assert_ne!(status["node_id"], old.as_str());
    let screen = agent.cli(&["status"]).ok();
    assert!(screen.contains(&format!("docker node rm {old}")), "{screen}");
    let nodes = lab.nodes();
    let new = nodes.iter().find(|node| node["id"] == status["node_id"]).unwrap();
    assert_eq!(new["engine_labels"]["replaces"], old.as_str(), "{new}");
    // The managers gave the new node a task of its own, and the old one's is gone.
    wait_for("the task of the new node alone", SOON, || {
        let now = pids(&agent);
        let settled = now.len() == 1 && now != before && !is_alive(before[0]);
        if settled { Ok(()) } else { Err(format!("{now:?}")) }
    });

    // Once more within the day: it is held, and its tasks run on.
    let before = pids(&agent);
    agent.kill();
    outlive(validity);
    agent.start();
    let status = agent.await_state("expired", SOON);
    assert!(status["reason"].as_str().unwrap().contains("once a day"), "{status}");
    thread::sleep(Duration::from_secs(8));
    assert_eq!(agent.status().0["state"], "expired");
    assert_eq!(ids(&lab), both, "no third node");
    assert!(is_alive(before[0]), "the task must go on");
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn a_removed_node_stops_its_tasks_and_never_joins_again() {
    let validity = Duration::from_secs(8);
    let lab = Lab::start("removal", &["--heartbeat", "1s", "--cert-validity", "8s"]);
    let mut agent = Agent::member("edge-removal", &lab);
    agent.load_image();
    lab.run(&["service", "create", "--name", "gone", "--mode", "global", "demo:1", "sleep", "999"]);
    lab.await_running("gone", 1);
    let before = pids(&agent);
    lab.run(&["node", "rm", "--force", "edge-removal"]);
    let status = agent.await_state("removed", SOON);
    let next = status["next_attempt_seconds"].as_u64().unwrap();
    assert!(3500 < next, "{status}");
    wait_for("the task to stop", SOON, || {
        if is_alive(before[0]) { Err(String::from("it lives")) } else { Ok(()) }
    });
    // Its certificate expires, and it starts anew: it remembers.
    agent.kill();
    outlive(validity);
    agent.start();
    let status = agent.await_state("removed", SOON);
    assert!(status["reason"].as_str().unwrap().contains("edgeagent join"), "{status}");
    thread::sleep(Duration::from_secs(7));
    assert_eq!(agent.status().0["state"], "removed");
    assert!(lab.nodes().is_empty(), "it must not join again");
}

#[test]
fn a_clock_that_contradicts_the_managers_is_named_and_nothing_is_lost() {
    let lab = Lab::start("clock", &["--heartbeat", "1s"]);
    let agent = Agent::member("edge-clock", &lab);
    // Seen from here, a manager whose certificate ended yesterday is a clock that is ahead, and
    // one of tomorrow a clock that is behind.
    for (mode, says) in [("cert-expired", "not valid after"), ("cert-future", "not valid before")] {
        lab.run(&["evil", mode]);
        let status = agent.await_state("clock-wrong", SOON);
        let reason = status["reason"].as_str().unwrap();
        assert!(reason.contains(says) && reason.contains("clock says"), "{status}");
        lab.run(&["evil", "none"]);
        let status = agent.await_state("ready", SOON);
        assert_eq!(status["reason"], "", "{status}");
        assert_eq!(lab.nodes().len(), 1, "the same node as before");
    }
    // A newcomer is told the same.
    lab.run(&["evil", "cert-future"]);
    let done = Agent::new("edge-clock2").join(&lab);
    assert!(done.err.contains("clock says") && done.err.contains("synchronised"), "{done:?}");
}

/// What the lab keeps in its file, changed while it does not run.
fn change_lab(lab: &mut Lab, name: &str, change: impl FnOnce(&mut Value)) {
    let path = folder().join(name).join("state.json");
    let mut state: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(&mut state);
    fs::write(&path, state.to_string()).unwrap();
    lab.restart();
}

#[test]
fn a_root_rotation_that_was_slept_through_is_followed_if_the_certificate_leads_to_it() {
    let mut lab = Lab::start("asleep", &["--heartbeat", "1s"]);
    let mut sleeper = Agent::member("edge-asleep", &lab);
    // Another node that never comes back keeps the rotation from ending.
    let mut other = Agent::member("edge-other", &lab);
    other.kill();
    let root = |agent: &Agent| agent.status().0["certificate"]["root_ca"].clone();
    let before = root(&sleeper);
    lab.run(&["ca", "rotate"]);
    let issuer = |lab: &Lab, name: &str| {
        let nodes = lab.nodes();
        nodes.iter().find(|node| node["hostname"] == name).unwrap()["issuer"].clone()
    };
    let old = issuer(&lab, "edge-other");
    wait_for("the new issuer", SOON, || {
        let seen = issuer(&lab, "edge-asleep");
        if seen == old { Err(seen.to_string()) } else { Ok(()) }
    });
    // Falls asleep in the middle; the rotation ends, and later the managers have only the new root
    // to show.
    sleeper.kill();
    lab.run(&["node", "rm", "--force", "edge-other"]);
    change_lab(&mut lab, "asleep", |state| {
        assert!(state["rotation"].is_null(), "the rotation must have ended");
        state["cross"] = Value::Null;
    });
    sleeper.start();
    sleeper.await_state("ready", SOON);
    assert_ne!(root(&sleeper), before);
    assert_eq!(lab.nodes().len(), 1, "the same node as before");
}

#[test]
fn a_root_that_nothing_leads_to_is_held_off_with_an_alarm() {
    let lab = Lab::start("strange", &["--heartbeat", "1s"]);
    let agent = Agent::member("edge-strange", &lab);
    // Someone else at the manager's place, with a root of his own; and one with the right root
    // and his beside it.
    for mode in ["root-wrong", "root-extra"] {
        lab.run(&["evil", "cert-foreign"]);
        lab.run(&["evil", mode]);
        let status = agent.await_state("root-changed", Duration::from_secs(80));
        let reason = status["reason"].as_str().unwrap();
        assert!(reason.contains("intercepting") && reason.contains("edgeagent join"), "{status}");
        thread::sleep(Duration::from_secs(2));
        assert_eq!(lab.nodes().len(), 1, "no token was used");
        lab.run(&["evil", "none"]);
        agent.await_state("ready", SOON);
    }
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn a_new_join_token_comes_as_a_secret() {
    let validity = Duration::from_secs(8);
    let lab = Lab::start("token", &["--heartbeat", "1s", "--cert-validity", "8s"]);
    let mut agent = Agent::member("edge-token", &lab);
    agent.load_image();
    let file = folder().join("token-secret");
    let name = "edgeagent-join-token";
    let secret = format!("{name}={}", file.display());
    // Not of this swarm, and no token at all: both are refused, and the sealed one stays.
    let old = lab.token();
    let foreign = Lab::start("token-foreign", &[]).token();
    fs::write(&file, &foreign).unwrap();
    let mut words = vec!["service", "create", "--name", "tokens", "--mode", "global"];
    words.extend(["--secret", &secret, "demo:1", "sleep", "999"]);
    lab.run(&words);
    lab.await_running("tokens", 1);
    let said = |what: &str| {
        wait_for(what, SOON, || {
            let (status, _) = agent.status();
            let error = status["last_error"].as_str().unwrap_or_default();
            if error.contains(what) { Ok(status) } else { Err(status.to_string()) }
        })
    };
    let status = said("another root CA");
    assert_eq!(status["join_token"], "sealed", "{status}");
    assert!(!status.to_string().contains(&foreign[60..]), "{status}");
    fs::write(&file, "hunter2").unwrap();
    lab.run(&["service", "update", "--secret", &secret, "tokens"]);
    said("SWMTKN");

    // The token is rotated, and the new one delivered: it is the one that a node which expired
    // joins with.
    lab.run(&["join-token", "--rotate"]);
    assert_ne!(lab.token(), old);
    fs::write(&file, lab.token() + "\n").unwrap();
    lab.run(&["service", "update", "--secret", &secret, "tokens"]);
    wait_for("the token to be sealed", SOON, || {
        let log = agent.log_text();
        let times = log.matches("sealed the join token").count();
        assert!(times <= 1 && !log.contains(&lab.token()[60..]), "{log}");
        if times == 1 { Ok(()) } else { Err(log) }
    });
    agent.kill();
    outlive(validity);
    agent.start();
    agent.await_state("ready", SOON);
    assert_eq!(ids(&lab).len(), 2, "it joined anew with the new token");
}

#[test]
fn a_manager_that_dies_is_told_in_a_sentence_of_ours() {
    // The lab gives up after three periods, later than we do after 5 s without an answer.
    let mut lab = Lab::start("death", &["--heartbeat", "4s"]);
    let agent = Agent::member("edge-death", &lab);
    lab.restart();
    let error = wait_for("the loss to be told", SOON, || {
        let (status, _) = agent.status();
        status["last_error"].as_str().map(str::to_owned).ok_or_else(|| status.to_string())
    });
    assert!(!error.contains("http"), "{error}");
    agent.await_state("ready", SOON);
    lab.run(&["evil", "stall-heartbeat"]);
    wait_for("the dead heartbeat to be told", SOON, || {
        let (status, _) = agent.status();
        let error = status["last_error"].as_str().unwrap_or_default();
        if error.contains("in time") { Ok(()) } else { Err(status.to_string()) }
    });
}
