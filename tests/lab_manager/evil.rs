//! Every evil mode: refused or survived as design.md §7 says, within bounds, and forgotten when
//! the manager is good again.

use std::{
    thread,
    time::{Duration, Instant},
};

use crate::machine::{Agent, Lab, wait_for};

/// How long each mode has its way.
const SPELL: Duration = Duration::from_millis(2500);
/// The agent's socket answers within this at any time; a busy machine included.
const RESPONSIVE: Duration = Duration::from_secs(3);
/// Growth of the peak while a mode is on.
const GROWTH_MAX_KB: u64 = 8 * 1024;
/// The longest pause between two attempts is 8 s, after a rate limit 9 s.
const RECOVERY: Duration = Duration::from_secs(40);

/// What a member makes of it.
#[derive(Clone, Copy, Debug)]
enum Fate {
    /// It is refused: `last_error` says this, and the node is not ready for long.
    Says(&'static str),
    /// It stays ready, or is ready again at once.
    Ready,
    /// It must only survive: what it says depends on when it looked.
    Survives,
}
use Fate::{Ready, Says, Survives};

/// Modes that meet a member of the swarm. `a:N` is mode a with number N.
const MEMBER: &[(&str, Fate)] = &[
    ("tcp-stall", Survives),
    ("tcp-close", Says("no connection")),
    ("tls11", Says("not a manager of this swarm")),
    ("no-alpn", Ready),
    ("cert-worker", Says("not a manager of this swarm")),
    ("cert-san", Says("not a manager of this swarm")),
    ("cert-no-san", Says("not a manager of this swarm")),
    ("cert-joining-name", Says("not a manager of this swarm")),
    ("cert-foreign", Says("not a manager of this swarm")),
    ("cert-self-signed", Says("not a manager of this swarm")),
    ("cert-expired", Says("not a manager of this swarm")),
    ("cert-future", Says("not a manager of this swarm")),
    ("cert-truncated", Says("not a manager of this swarm")),
    ("h2-garbage", Says("broke the protocol")),
    ("h2-http1", Says("broke the protocol")),
    ("h2-goaway", Says("link broken")),
    ("h2-rst", Survives),
    ("h2-settings", Survives),
    ("h2-ping", Survives),
    ("h2-window", Survives),
    ("h2-priority", Survives),
    ("h2-continuation", Says("broke the protocol")),
    ("h2-headers", Says("broke the protocol")),
    ("h2-informational", Survives),
    ("h2-empty-data", Survives),
    ("root-wrong", Ready),
    ("rate-limit", Says("registered too often")),
    ("not-registered", Survives),
    ("session-invalid", Survives),
    ("no-leader", Survives),
    ("leader-change", Survives),
    ("cut", Survives),
    ("period-zero", Ready),
    ("period-ages", Ready),
    ("stall", Survives),
    ("stall-heartbeat", Survives),
    ("stall-session", Survives),
    ("stall-assignments", Survives),
    ("stall-status", Survives),
    ("assign-drop", Survives),
    ("assign-duplicate", Survives),
    ("assign-reorder", Survives),
    ("assign-gap", Survives),
    ("assign-no-complete", Survives),
    ("assign-endless:50", Survives),
    ("assign-secrets", Survives),
    ("assign-many", Survives),
    ("assign-huge", Survives),
    ("assign-half", Survives),
    ("assign-malformed", Survives),
    ("session-huge", Survives),
    ("session-malformed", Survives),
    ("logs-endless", Survives),
    ("compressed", Survives),
    ("reset", Survives),
    // The last: a list of strangers is believed, and finding back takes its time.
    ("session-managers", Survives),
];

/// Modes that meet a machine that wants to join: exit code, and what is said.
const NEWCOMER: &[(&str, i32, &str)] = &[
    ("root-wrong", 3, "sha256"),
    ("root-extra", 3, "sha256"),
    ("root-huge", 1, ""),
    ("cert-worker", 1, "TLS"),
    ("cert-san", 1, "TLS"),
    ("cert-foreign", 1, "TLS"),
    ("cert-self-signed", 1, "TLS"),
    ("cert-expired", 1, "TLS"),
    ("cert-future", 1, "TLS"),
    ("cert-truncated", 1, "TLS"),
    ("sign-fails", 3, "does not want to"),
    ("sign-manager", 3, "manager"),
    ("sign-other-key", 1, ""),
    ("sign-expired", 1, ""),
    ("sign-future", 1, ""),
    ("sign-garbage", 1, ""),
];

/// Modes of the table that a test of their own looks at.
const ELSEWHERE: &[&str] = &[
    "node-removed",
    "node-not-found",
    "sign-never",
    "sign-other-csr",
    "sign-nothing",
    "sign-short",
];

#[test]
fn every_mode_has_a_test() {
    let lab = Lab::start("evil-list", &[]);
    let named = |name: &str| {
        MEMBER.iter().any(|(mode, _)| mode.split(':').next() == Some(name))
            || NEWCOMER.iter().any(|(mode, _, _)| *mode == name)
            || ELSEWHERE.contains(&name)
    };
    for line in lab.run(&["evil", "ls"]).lines() {
        let name = line.split_whitespace().next().unwrap();
        assert!(named(name), "{name}");
    }
}

#[test]
#[ignore = "issue 3: not every mode is within its bounds yet (assign-secrets, session-managers)"]
fn a_member_survives_every_evil_mode_within_bounds() {
    let lab = Lab::start("evil-member", &["--heartbeat", "1s"]);
    let agent = Agent::member("edge-member", &lab);
    let mut faults = Vec::new();
    for (mode, fate) in MEMBER {
        agent.await_state("ready", RECOVERY);
        faults.extend(spell(&lab, &agent, mode, *fate).into_iter().map(|f| format!("{mode}: {f}")));
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    agent.await_state("ready", 5 * RECOVERY);
}

/// One mode, on and off. Tells what is wrong.
fn spell(lab: &Lab, agent: &Agent, mode: &str, fate: Fate) -> Vec<String> {
    let (name, setting) = mode.split_once(':').unwrap_or((mode, "on"));
    let mut faults = Vec::new();
    agent.forget_peak();
    let before = agent.memory("VmRSS");
    lab.run(&["evil", name, setting]);
    let begin = Instant::now();
    let mut slowest = Duration::ZERO;
    let mut said = String::new();
    let mut last = String::new();
    let mut scale = (1..).map(|n| format!("moving={}", n % 3));
    if name.starts_with("assign-") {
        // Assignments move only when there is something to assign.
        lab.cli(&["service", "create", "--name", "moving", "--replicas", "0", "nothing:1"]);
    }
    while begin.elapsed() < SPELL {
        let (status, took) = agent.status();
        slowest = slowest.max(took);
        last = status["state"].as_str().unwrap_or_default().to_owned();
        said.push_str(status["last_error"].as_str().unwrap_or_default());
        if name.starts_with("assign-") {
            lab.cli(&["service", "scale", &scale.next().unwrap()]);
        }
        thread::sleep(Duration::from_millis(100));
    }
    let grown = agent.memory("VmHWM").saturating_sub(before);
    lab.run(&["evil", "none"]);
    lab.cli(&["service", "rm", "moving"]);
    if slowest > RESPONSIVE {
        faults.push(format!("status took {slowest:?}"));
    }
    if grown > GROWTH_MAX_KB {
        faults.push(format!("grew by {grown} kB"));
    }
    match fate {
        Says(text) if !said.contains(text) => faults.push(format!("said {said}")),
        Ready if last != "ready" => faults.push(format!("was {last}: {said}")),
        Says(_) | Ready | Survives => {}
    }
    faults
}

#[test]
fn a_newcomer_refuses_what_is_not_its_swarm() {
    let mut faults = Vec::new();
    for (n, (mode, code, text)) in NEWCOMER.iter().enumerate() {
        let lab = Lab::start(&format!("evil-new{n}"), &["--evil", mode]);
        let agent = Agent::new(&format!("edge-new{n}"));
        let done = agent.join(&lab);
        if done.code != Some(*code) || !done.err.contains(text) {
            faults.push(format!("{mode}: {:?} {}", done.code, done.err));
        }
        // Nobody was told the token before the root and the manager were believed.
        let believed = mode.starts_with("sign-");
        if !believed && !lab.nodes().is_empty() {
            faults.push(format!("{mode}: the token was sent"));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn a_certificate_that_is_not_ours_is_not_taken_and_the_right_one_is() {
    for mode in ["sign-never", "sign-other-csr"] {
        let lab = Lab::start(&format!("evil-{mode}"), &["--heartbeat", "1s", "--evil", mode]);
        let mut agent = Agent::new(&format!("edge-{mode}"));
        let mut join = agent.begin_join(&lab);
        wait_for("the node to wait", RECOVERY, || {
            let log = agent.join_log();
            if log.contains("sha256:") { Ok(()) } else { Err(log) }
        });
        join.kill().unwrap();
        join.wait().unwrap();
        agent.start();
        agent.await_state("pending-approval", RECOVERY);
        lab.run(&["evil", "none"]);
        agent.await_state("ready", RECOVERY);
        assert_eq!(lab.nodes().len(), 1, "one machine, one node");
    }
}

#[test]
fn sixty_second_certificates_are_renewed_in_time() {
    let lab = Lab::start("evil-short", &["--heartbeat", "1s", "--cert-validity", "60s"]);
    let agent = Agent::member("edge-short", &lab);
    let ends = |agent: &Agent| agent.status().0["certificate"]["not_after"].clone();
    let first = ends(&agent);
    wait_for("a new certificate", Duration::from_secs(60), || {
        let seen = ends(&agent);
        if seen != first && !seen.is_null() { Ok(()) } else { Err(seen.to_string()) }
    });
    agent.await_state("ready", RECOVERY);
}

#[test]
fn a_removed_node_knows_it() {
    for mode in ["node-removed", "node-not-found"] {
        let lab = Lab::start(&format!("evil-{mode}"), &["--heartbeat", "1s"]);
        let agent = Agent::member(&format!("edge-{mode}"), &lab);
        lab.run(&["evil", mode]);
        let status = agent.await_state("removed", RECOVERY);
        assert!(status["reason"].as_str().unwrap().contains("remove"), "{status}");
        assert_eq!(lab.nodes().len(), 1, "it must not join again");
    }
}
