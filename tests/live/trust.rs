//! Certificates: renewal and rotation of the root, with a node that runs tasks.

use std::time::Duration;

use rustix::process::Signal;

use crate::{
    fixture::{Service, wait_until, world},
    services::POLITE,
};

const SOON: Duration = Duration::from_secs(40);

#[test]
#[cfg_attr(not(all(root, program = "dockerd")), ignore = "needs root and dockerd")]
fn a_root_rotation_finishes_and_tasks_go_on() {
    let world = world();
    let manager = world.engine("rotator", false);
    manager.init_swarm();
    manager.docker(&["node", "update", "--availability", "drain", "rotator"]);
    let mut agent = world.fresh_agent();
    agent.join_ok(&manager);
    agent.start();
    manager.await_node(agent.name(), "ready", SOON);
    let service = Service::create(
        &manager,
        agent.name(),
        "rotated",
        &[&world.images.busybox, "sh", "-c", POLITE],
    );
    service.await_running(1, SOON);
    let pids = service.await_containers(1, SOON);
    let before = agent.json(&["status"])["certificate"].clone();
    let old_root = manager.docker(&["swarm", "ca"]);

    // Twice: the second rotation starts from what the first has left.
    let mut root = old_root;
    for round in 0..2 {
        manager.docker(&["swarm", "ca", "--rotate", "--detach"]);
        wait_until(&format!("rotation {round} to finish"), Duration::from_secs(90), || {
            let swarm = manager.api("/swarm");
            swarm["RootRotationInProgress"] == false
                && swarm["TLSInfo"]["TrustRoot"].as_str().unwrap().trim() != root
        });
        root = manager.docker(&["swarm", "ca"]);
    }
    wait_until("the node to report the new root", SOON, || {
        manager.node(agent.name()).unwrap()["Description"]["TLSInfo"]
            == manager.api("/swarm")["TLSInfo"]
    });
    let after = agent.json(&["status"])["certificate"].clone();
    assert_ne!(before, after, "the certificate was not renewed");
    assert_eq!(service.containers(), pids, "a rotation restarted tasks");

    // The new identity is on disk, and the old root counts no more.
    agent.stop(Signal::KILL);
    agent.start();
    wait_until("the agent to be ready again", SOON, || agent.state() == "ready");
    manager.await_node(agent.name(), "ready", SOON);
    assert_eq!(service.containers(), pids);
}

#[test]
#[cfg_attr(not(all(root, program = "dockerd")), ignore = "needs root and dockerd")]
fn a_short_lived_certificate_is_shown_and_taken_at_its_word() {
    let world = world();
    let mut manager = world.engine("hourly", false);
    manager.init_swarm();
    manager.docker(&["swarm", "update", "--cert-expiry", "1h"]);
    // dockerd 20.10 takes the new expiry up only when it starts.
    manager.stop(Signal::TERM);
    manager.resume();
    manager.await_quorum();
    let mut agent = world.fresh_agent();
    agent.join_ok(&manager);
    agent.start();
    manager.await_node(agent.name(), "ready", SOON);
    let certificate = agent.json(&["status"])["certificate"].clone();
    let (begin, end) =
        (certificate["not_before"].as_str().unwrap(), certificate["not_after"].as_str().unwrap());
    let seconds = |at: &str| -> i64 {
        let out = crate::fixture::run(&["date", "-u", "-d", at, "+%s"]);
        out.parse().unwrap()
    };
    assert_eq!(
        seconds(end) - seconds(begin),
        2 * 3600,
        "back-dated by one hour, valid for another: {certificate}"
    );
}
