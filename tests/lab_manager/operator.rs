//! What an operator meets: a card in another machine, a task that can not be removed, more secrets
//! than a node holds.

use std::{fs, path::Path, process::Command, time::Duration};

use serde_json::Value;

use crate::machine::{Agent, Lab, capture, folder, wait_for};

const SOON: Duration = Duration::from_secs(30);

fn pids(agent: &Agent) -> Vec<i64> {
    let tasks: Vec<Value> = serde_json::from_str(&agent.cli(&["ps", "--json"]).ok()).unwrap();
    tasks.iter().filter_map(|task| task["pid"].as_i64()).collect()
}

/// What names a machine, and what stands for it in `tests/support/build.rs`.
const NUMBERS: [&str; 3] =
    ["/sys/class/dmi/id/product_uuid", "/proc/device-tree/serial-number", "/etc/machine-id"];

#[test]
#[cfg_attr(not(all(root, machine_id)), ignore = "needs root and a machine that something names")]
fn a_card_in_another_machine_is_refused_with_a_remedy_and_its_tasks_go_on() {
    let lab = Lab::start("card", &["--heartbeat", "1s"]);
    let mut agent = Agent::member("edge-card", &lab);
    agent.load_image();
    lab.run(&["service", "create", "--name", "kept", "--mode", "global", "demo:1", "sleep", "999"]);
    lab.await_running("kept", 1);
    let before = pids(&agent);
    agent.kill();

    // Other hardware, in a mount namespace of its own: whatever names this machine has another name.
    let name = folder().join("other-machine");
    fs::write(&name, "0123456789abcdef0123456789abcdef\n").unwrap();
    let script = format!(
        "name=$1; shift; for file in {}; do \
         test ! -e $file || mount --bind $name $file; done; exec timeout 60 \"$@\"",
        NUMBERS.join(" ")
    );
    let elsewhere = ["unshare", "-m", "sh", "-c", &script, "sh", name.to_str().unwrap()];
    let node = |agent: &Agent| fs::read(agent.data_root().join("identity.a")).unwrap();
    let sealed = node(&agent);
    for words in [&["run"][..], &["join", "--token", &lab.token(), &lab.addr]] {
        let command = agent.command(words);
        let mut wrapped = Command::new(elsewhere[0]);
        wrapped.args(&elsewhere[1..]).arg(command.get_program()).args(command.get_args());
        let done = capture(&mut wrapped);
        assert_eq!(done.code, Some(4), "{words:?}: {done:?}");
        assert!(done.err.contains("edgeagent leave"), "{words:?}: no remedy: {}", done.err);
    }
    assert_eq!(node(&agent), sealed, "nothing may be written over it");
    for pid in &before {
        assert!(fs::metadata(format!("/proc/{pid}")).is_ok(), "the task must go on");
    }
    assert_eq!(lab.nodes().len(), 1, "it must not join as another");

    // Back in its own machine everything is as it was.
    agent.start();
    agent.await_state("ready", SOON);
    assert_eq!(pids(&agent), before);
}

/// Takes the mount away, whatever becomes of the test.
struct Mounted(String);

impl Drop for Mounted {
    fn drop(&mut self) {
        capture(Command::new("umount").arg(&self.0));
    }
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn files_that_cannot_be_removed_keep_no_node_from_leaving() {
    let lab = Lab::start("stuck", &["--heartbeat", "1s"]);
    let mut agent = Agent::member("edge-stuck", &lab);
    agent.load_image();
    lab.run(&[
        "service", "create", "--name", "stuck", "--mode", "global", "demo:1", "sleep", "999",
    ]);
    lab.await_running("stuck", 1);
    let tasks: Vec<Value> = serde_json::from_str(&agent.cli(&["ps", "--json"]).ok()).unwrap();
    let task = tasks[0]["id"].as_str().unwrap();
    let busy = agent.data_root().join("containers").join(task).join("upper");
    let busy = busy.to_str().unwrap();
    capture(Command::new("mount").args(["-t", "tmpfs", "none", busy])).ok();
    let mounted = Mounted(busy.to_owned());

    agent.cli(&["leave"]).ok();
    agent.await_state("not-joined", SOON);
    assert!(!agent.data_root().join("identity.a").exists());
    assert_eq!(agent.cli(&["leave"]).code, Some(5));
    assert!(!agent.ended());
    // What stays is told with its path, and goes when the node works again.
    let said = agent.log_text();
    assert!(said.contains(busy) && said.contains("busy"), "{said}");
    assert!(Path::new(busy).exists());
    drop(mounted);
    agent.join(&lab).ok();
    agent.await_state("ready", SOON);
    wait_for("the files to go", SOON, || {
        if Path::new(busy).exists() { Err(String::from(busy)) } else { Ok(()) }
    });
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn more_secrets_than_a_node_holds_cost_one_service_and_no_other() {
    let lab = Lab::start("many-secrets", &["--heartbeat", "10s"]);
    let agent = Agent::member("edge-many", &lab);
    agent.load_image();
    let file = folder().join("large");
    let create = |name: &str, count: usize| {
        let mut words = vec!["service", "create", "--name", name];
        let options: Vec<String> =
            (0..count).map(|n| format!("{name}{n}={}", file.display())).collect();
        for option in &options {
            words.extend(["--secret", option]);
        }
        let script = "wc -c /run/secrets/* | tail -n 1; trap 'exit 0' TERM; sleep 1000 & wait";
        words.extend(["demo:1", "sh", "-c", script]);
        lab.run(&words);
    };
    fs::write(&file, vec![b'x'; 500 << 10]).unwrap();
    create("four", 4);
    lab.await_running("four", 1);
    wait_for("the container to see its secrets", SOON, || {
        let logs = lab.run(&["service", "logs", "four"]);
        if logs.contains("2048000") { Ok(()) } else { Err(logs) }
    });
    let before = pids(&agent);
    create("more", 2);
    wait_for("the reason", SOON, || {
        let tasks = lab.run(&["service", "ps", "--json", "more"]);
        let told = tasks.contains("left out") && tasks.contains("2048 kB");
        if told { Ok(()) } else { Err(tasks) }
    });
    // After a new session the whole set comes at once, and is 3 MB: the same.
    lab.run(&["evil", "cut"]);
    lab.run(&["evil", "none"]);
    let (status, _) = wait_for("a new session", SOON, || {
        let (status, took) = agent.status();
        if status["state"] == "ready" { Ok((status, took)) } else { Err(status.to_string()) }
    });
    assert!(pids(&agent).starts_with(&before), "{status}");
    lab.run(&["service", "rm", "more"]);
    lab.run(&["service", "rm", "four"]);
    create("again", 4);
    lab.await_running("again", 1);
}
