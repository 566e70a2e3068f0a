//! Every evil mode: refused or survived as design.md §7 says, within bounds, and forgotten when
//! the manager is good again.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::machine::{Agent, Lab, wait_for};

/// How long each mode has its way.
const SPELL: Duration = Duration::from_millis(2500);
/// The agent's socket answers within this at any time.
const RESPONSIVE: Duration = Duration::from_secs(1);
const TOO_SLOW: &str = "its socket did not answer in time";
/// Spells that a slow answer is looked for in: other programs may have had the machine.
const ATTEMPTS: usize = 3;
/// Growth of the agent's own memory, at its peak, while a mode is on.
const GROWTH_MAX_KB: u64 = 8 * 1024;
/// The longest pause between two attempts is 8 s, after a rate limit 9 s, and every second one
/// goes to a manager that no list can take away.
const RECOVERY: Duration = Duration::from_secs(30);
/// A link that was cut is told of within this.
const CUT_AGAIN: Duration = Duration::from_secs(3);
/// From one mode to the next; prime, so that all have their turn.
const STEP: usize = 11;
/// Managers, each with an agent, that are evil at the same time.
const LANES: usize = 4;
/// What a member makes of it.
#[derive(Clone, Copy, Debug)]
enum Fate {
    /// The manager is none: it is never called, and `last_error` says so.
    Refused,
    /// `status` says this, as `state; last_error`.
    Says(&'static str),
    /// It is ready again although the mode is on; links may break, no other error is told.
    Comes,
}
use Fate::{Comes, Refused, Says};

/// What becomes of the container that runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tasks {
    /// Nothing: it is the same process afterwards.
    Kept,
    /// The manager said that it is gone, so it stopped; another one runs afterwards.
    Replaced,
}
use Tasks::{Kept, Replaced};

/// Modes that meet a member of the swarm. `a:N` is mode a with number N.
const MEMBER: &[(&str, Fate, Tasks)] = &[
    ("tcp-stall", Says("connecting; "), Kept),
    ("tcp-close", Says("no connection"), Kept),
    ("tls11", Refused, Kept),
    ("no-alpn", Comes, Kept),
    ("cert-worker", Refused, Kept),
    ("cert-san", Refused, Kept),
    ("cert-no-san", Refused, Kept),
    ("cert-joining-name", Refused, Kept),
    ("cert-foreign", Refused, Kept),
    ("cert-self-signed", Refused, Kept),
    ("cert-expired", Refused, Kept),
    ("cert-future", Refused, Kept),
    ("cert-truncated", Refused, Kept),
    ("h2-garbage", Says("broke the protocol"), Kept),
    ("h2-http1", Says("broke the protocol"), Kept),
    ("h2-goaway", Says("link broken"), Kept),
    ("h2-rst", Says("stream no longer needed"), Kept),
    ("h2-settings", Says("connecting; "), Kept),
    ("h2-ping", Says("connecting; "), Kept),
    ("h2-window", Says("connecting; "), Kept),
    ("h2-priority", Says("connecting; "), Kept),
    ("h2-continuation", Says("too_many_continuations"), Kept),
    ("h2-headers", Says("header_list_way_too_large"), Kept),
    ("h2-informational", Says("connecting; "), Kept),
    ("h2-empty-data", Says("broke the protocol"), Kept),
    ("root-wrong", Comes, Kept),
    ("rate-limit", Says("registered too often"), Kept),
    ("not-registered", Says("the session is no longer valid"), Kept),
    ("session-invalid", Says("the session is no longer valid"), Kept),
    ("no-leader", Says("no leader"), Kept),
    ("leader-change", Says("the session is no longer valid"), Kept),
    ("cut", Comes, Kept),
    ("period-zero", Comes, Kept),
    ("period-ages", Comes, Kept),
    ("stall", Says("connecting; "), Kept),
    ("stall-heartbeat", Comes, Kept),
    ("stall-session", Says("connecting; "), Kept),
    ("stall-assignments", Comes, Kept),
    ("stall-status", Comes, Kept),
    ("assign-drop", Comes, Kept),
    ("assign-duplicate", Comes, Kept),
    ("assign-reorder", Comes, Kept),
    ("assign-gap", Comes, Kept),
    ("assign-no-complete", Comes, Kept),
    ("assign-endless:50", Comes, Replaced),
    ("assign-secrets", Comes, Replaced),
    ("assign-full", Comes, Replaced),
    ("assign-fat", Comes, Replaced),
    ("assign-many", Says("more than 8192"), Kept),
    ("assign-huge", Says("67108864"), Kept),
    ("assign-half", Comes, Kept),
    ("assign-malformed", Says("can not be used"), Kept),
    ("session-huge", Says("passes the limit of 131072 bytes"), Kept),
    ("session-malformed", Says("can not be used"), Kept),
    ("logs-endless", Says("too_many_data_frames"), Kept),
    ("compressed", Says("it is compressed"), Kept),
    ("reset", Says("internal error"), Kept),
    ("session-empty-managers", Says("the session is no longer valid"), Kept),
    ("session-managers", Says("127.1.0.1"), Kept),
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
        MEMBER.iter().any(|(mode, ..)| mode.split(':').next() == Some(name))
            || NEWCOMER.iter().any(|(mode, _, _)| *mode == name)
            || ELSEWHERE.contains(&name)
    };
    for line in lab.run(&["evil", "ls"]).lines() {
        let name = line.split_whitespace().next().unwrap();
        assert!(named(name), "{name}");
    }
}

#[test]
fn a_member_bears_every_evil_mode_as_it_should_and_recovers() {
    let next = AtomicUsize::new(0);
    let lanes: Vec<usize> = (0..LANES).collect();
    let faults: Vec<String> = thread::scope(|scope| {
        let lane = |number: &usize| {
            let (next, number) = (&next, *number);
            scope.spawn(move || walk(number, next))
        };
        let running: Vec<_> = lanes.iter().map(lane).collect();
        running.into_iter().flat_map(|lane| lane.join().unwrap()).collect()
    });
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// Takes one mode after the other, until none is left. Tells what is wrong.
fn walk(lane: usize, next: &AtomicUsize) -> Vec<String> {
    // The lab gives a silent node up after three heartbeats; none of the modes may take so long.
    let lab = Lab::start(&format!("evil-member{lane}"), &["--heartbeat", "10s"]);
    let agent = Agent::member(&format!("edge-member{lane}"), &lab);
    // Containers need root; what is told of the link does not.
    if cfg!(root) {
        agent.load_image();
        let script = "trap 'exit 0' TERM; sleep 1000 & wait";
        lab.run(&["service", "create", "--name", "keeper", "demo:1", "sh", "-c", script]);
        lab.await_running("keeper", 1);
    }
    // The first mode too begins with a link that was cut: `last_error` tells nothing of a mode.
    if let Err(seen) = recovered(&lab, &agent, &containers(&agent), Kept) {
        return vec![format!("before any mode: {seen}")];
    }
    let mut faults = Vec::new();
    while let Some((mode, fate, tasks)) = taken(next) {
        let before = containers(&agent);
        let mut found = spell(&lab, &agent, mode, *fate);
        for _ in 1..ATTEMPTS {
            if found == [TOO_SLOW] {
                found = spell(&lab, &agent, mode, *fate);
            }
        }
        let begin = Instant::now();
        match recovered(&lab, &agent, &before, *tasks) {
            Ok(()) => println!("{mode}: recovered after {:?}", begin.elapsed()),
            Err(seen) => {
                faults.push(format!("{mode}: not over after {RECOVERY:?}: {before:?}, {seen}"));
                return faults;
            }
        }
        faults.extend(found.into_iter().map(|fault| format!("{mode}: {fault}")));
    }
    faults
}

/// The next mode of all, in steps, so that the floods do not come all at once.
fn taken(next: &AtomicUsize) -> Option<&'static (&'static str, Fate, Tasks)> {
    let number = next.fetch_add(1, Ordering::Relaxed);
    let at = number % MEMBER.len() * STEP % MEMBER.len();
    if number < MEMBER.len() { MEMBER.get(at) } else { None }
}

/// Waits until the node is ready and runs what it ran before, and nothing else; then has the link
/// cut once more, so that `last_error` tells nothing of this mode to the next.
fn recovered(lab: &Lab, agent: &Agent, before: &[Container], tasks: Tasks) -> Result<(), String> {
    let begin = Instant::now();
    // A cut that comes when there is no link, for `ready` may be a moment old, cuts nothing.
    let mut cut: Option<Instant> = None;
    loop {
        let (status, _) = agent.status();
        let all = containers(agent);
        let right = match tasks {
            Kept => all == before,
            Replaced => {
                let new = before.is_empty() || all != before;
                new && all.len() == before.len()
                    && all.iter().all(|(_, state, _)| state == "running")
            }
        };
        if status["state"] == "ready" && right {
            if cut.is_some()
                && status["last_error"].as_str().is_some_and(|e| e.starts_with("link broken"))
            {
                return Ok(());
            }
            if cut.is_none_or(|at| CUT_AGAIN < at.elapsed()) {
                lab.run(&["evil", "none"]);
                cut = Some(Instant::now());
            }
        }
        if RECOVERY < begin.elapsed() {
            return Err(format!("{status} {all:?}"));
        }
        thread::sleep(Duration::from_millis(50));
    }
}

/// Task, state, process.
type Container = (String, String, String);

/// The tasks of the node that are not over.
fn containers(agent: &Agent) -> Vec<Container> {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let tasks: Vec<Value> =
        serde_json::from_str(&agent.cli(&["ps", "--json"]).out).unwrap_or_default();
    let over = ["complete", "shutdown", "failed", "rejected", "remove", "orphaned"];
    tasks
        .iter()
        .map(|task| (text(&task["id"]), text(&task["state"]), text(&task["pid"])))
        .filter(|(_, state, _)| !over.contains(&state.as_str()))
        .collect()
}

/// One mode, on and off. Tells what is wrong.
fn spell(lab: &Lab, agent: &Agent, mode: &str, fate: Fate) -> Vec<String> {
    let (name, setting) = mode.split_once(':').unwrap_or((mode, "on"));
    let mut faults = Vec::new();
    agent.forget_peak();
    let before = agent.memory("RssAnon");
    lab.run(&["evil", name, setting]);
    let begin = Instant::now();
    let mut slowest = Duration::ZERO;
    // Each state that was seen, and each error.
    let mut said = BTreeSet::new();
    let mut last = String::new();
    let mut running = 0;
    let mut scale = (1..).map(|n| format!("moving={}", n % 3));
    let moves = name.starts_with("assign-");
    if moves {
        // Assignments move only when there is something to assign.
        lab.cli(&["service", "create", "--name", "moving", "--replicas", "0", "nothing:1"]);
    }
    // Links that break one after the other make the pauses longer.
    let late = |last: &str| matches!(fate, Comes) && last != "ready" && begin.elapsed() < RECOVERY;
    while begin.elapsed() < SPELL || late(&last) {
        let (status, took) = agent.status();
        slowest = slowest.max(took);
        last = status["state"].as_str().unwrap_or_default().to_owned();
        said.insert(format!("{last}; {}", status["last_error"].as_str().unwrap_or_default()));
        running = running.max(status["running"].as_u64().unwrap_or_default());
        if moves {
            lab.cli(&["service", "scale", &scale.next().unwrap()]);
        }
        thread::sleep(Duration::from_millis(100));
    }
    // What is mapped from the program's file is no growth.
    let peak = agent.memory("VmHWM").saturating_sub(agent.memory("RssFile"));
    let grown = peak.saturating_sub(before);
    let calls = lab.run(&["calls"]);
    lab.run(&["evil", "none"]);
    if moves {
        lab.cli(&["service", "rm", "moving"]);
    }
    println!("{mode}: grew {grown} kB, status in {slowest:?}, {last}; {said:?}");
    if slowest > RESPONSIVE {
        faults.push(TOO_SLOW.to_owned());
    }
    if grown > GROWTH_MAX_KB {
        faults.push(format!("grew by {grown} kB"));
    }
    if running > 1 {
        faults.push(format!("{running} containers at once"));
    }
    let told = |text: &str| said.iter().any(|line| line.contains(text));
    let good = match fate {
        Refused => {
            told("not a manager of this swarm") && last != "ready" && asked_for_a_root(&calls)
        }
        Says(text) => told(text),
        Comes => last == "ready" && said.iter().all(|line| line.contains("link broken")),
    };
    if !good {
        faults.push(format!("was {last}, said {said:?}, called {calls}"));
    }
    faults
}

/// A refused peer may be asked which root certificate it has, which is believed only when our own
/// certificate leads to it. Nothing else is ever asked of it.
fn asked_for_a_root(calls: &str) -> bool {
    let calls: BTreeMap<String, u64> = serde_json::from_str(calls).unwrap();
    calls.keys().all(|method| method == "CA/GetRootCACertificate")
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
