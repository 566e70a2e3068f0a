//! First boot: a file or a credential joins the node, once; and the token that is kept.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use serde_json::json;

use crate::machine::{Agent, Lab, capture, wait_for};

const SOON: Duration = Duration::from_secs(30);
const ISSUE: &str = "NodeCA/IssueNodeCertificate";

fn provision(path: &Path, token: &str, addr: &str) {
    let file = json!({"token": token, "addresses": [addr], "labels": {"site": "hut"}});
    fs::write(path, file.to_string()).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

fn secret(token: &str) -> &str {
    token.rsplit('-').next().unwrap()
}

/// Nothing below this folder holds the text.
fn assert_nowhere(folder: &Path, text: &str) {
    let found = capture(Command::new("grep").args(["-r", "-l", "-a", "-F", text]).arg(folder));
    assert_eq!(found.out, "", "it is in the clear");
}

/// Waits until `status` gives a reason with this text.
fn await_reason(agent: &Agent, text: &str) {
    wait_for(text, SOON, || {
        let (status, _) = agent.status();
        let reason = status["reason"].as_str().unwrap_or_default();
        if reason.contains(text) { Ok(()) } else { Err(status.to_string()) }
    });
}

#[test]
fn a_provisioning_file_joins_once_and_is_gone() {
    let lab = Lab::start("prov", &["--heartbeat", "1s"]);
    let mut agent = Agent::new("edge-prov");
    let token = lab.token();
    provision(&agent.join_file(), &token, &lab.addr);
    // A second name for the content shows what becomes of it.
    let cells = agent.join_file().with_extension("cells");
    fs::hard_link(agent.join_file(), &cells).unwrap();
    agent.start();
    agent.await_state("ready", SOON);
    assert!(!agent.join_file().exists());
    assert!(fs::read(&cells).unwrap().iter().all(|byte| *byte == 0));
    fs::remove_file(&cells).unwrap();
    assert_nowhere(&agent.data_root(), secret(&token));
    assert!(!agent.said().contains(secret(&token)));
    lab.await_node("edge-prov", "Ready");
    let ours = env!("CARGO_PKG_VERSION");
    assert_eq!(lab.nodes()[0]["engine_labels"], json!({"site": "hut", "io.edgeagent": ours}));
    assert_eq!(agent.status().0["join_token"], "sealed");
    assert_eq!((lab.nodes().len(), lab.calls(ISSUE)), (1, 1));
    agent.cli(&["leave"]).ok();
    agent.await_state("not-joined", SOON);
    assert_eq!(lab.calls(ISSUE), 1);
}

#[test]
fn a_newcomer_with_a_wrong_clock_is_called_that_and_joins_once_it_is_right() {
    let lab = Lab::start("prov-clock", &["--heartbeat", "1s"]);
    let mut agent = Agent::new("edge-prov-clock");
    provision(&agent.join_file(), &lab.token(), &lab.addr);
    // Seen from here, a manager whose certificate begins tomorrow is a clock that is behind.
    lab.run(&["evil", "cert-future"]);
    agent.start();
    let status = agent.await_state("clock-wrong", SOON);
    let reason = status["reason"].as_str().unwrap();
    assert!(reason.contains("not valid before") && reason.contains("clock says"), "{status}");
    assert!(reason.contains("Set the clock"), "{status}");
    assert!(status["next_attempt_seconds"].as_u64().unwrap() <= 30, "{status}");
    assert!(agent.join_file().exists(), "it is still needed");
    lab.run(&["evil", "none"]);
    let status = agent.await_state("ready", SOON);
    assert_eq!(status["reason"], "", "{status}");
    assert_eq!((lab.nodes().len(), lab.calls(ISSUE)), (1, 1), "nothing was asked for before");
}

#[test]
fn a_file_that_can_not_be_removed_is_used_once_per_identity() {
    let lab = Lab::start("prov-ro", &["--heartbeat", "1s"]);
    let mut agent = Agent::new("edge-prov-ro");
    // systemd's credentials are not ours to remove.
    let credential = agent.with_credentials().join("edgeagent-join");
    provision(&credential, &lab.token(), &lab.addr);
    agent.start();
    agent.await_state("ready", SOON);
    agent.kill();
    agent.start();
    agent.await_state("ready", SOON);
    agent.cli(&["leave"]).ok();
    await_reason(&agent, "used once already");
    agent.kill();
    agent.start();
    await_reason(&agent, "used once already");
    assert!(credential.exists());
    assert_eq!(lab.calls(ISSUE), 1, "it must not join again behind the operator's back");
    // Another content is another wish.
    let file = json!({"token": lab.token(), "addresses": [lab.addr], "availability": "drain"});
    fs::write(&credential, file.to_string()).unwrap();
    agent.kill();
    agent.start();
    agent.await_state("ready", SOON);
    assert_eq!(lab.calls(ISSUE), 2);
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn a_read_only_medium_counts_as_one_that_can_not_be_removed() {
    let lab = Lab::start("prov-boot", &["--heartbeat", "1s"]);
    let mut agent = Agent::new("edge-prov-boot");
    let medium = agent.data_root().with_file_name("boot");
    fs::create_dir_all(&medium).unwrap();
    provision(&medium.join("join.json"), &lab.token(), &lab.addr);
    // In a mount namespace of its own, where the folder is read-only.
    let script = "mount --bind \"$0\" \"$0\" && mount -o remount,ro,bind \"$0\" && exec \"$@\"";
    agent.set_key("join-file", &medium.join("join.json"));
    let wrap = ["unshare", "-m", "sh", "-c", script, medium.to_str().unwrap()];
    agent.start_wrapped(&wrap);
    agent.await_state("ready", SOON);
    assert!(agent.said().contains("can not overwrite"), "{}", agent.said());
    agent.cli(&["leave"]).ok();
    await_reason(&agent, "used once already");
    assert_eq!(lab.calls(ISSUE), 1);
}

#[test]
fn an_unreachable_manager_is_tried_again_and_a_wrong_token_is_not() {
    let mut lab = Lab::start("prov-away", &["--heartbeat", "1s"]);
    let token = lab.token();
    let addr = lab.addr.clone();
    lab.stop();
    let mut agent = Agent::new("edge-prov-away");
    provision(&agent.join_file(), &token, &addr);
    agent.start();
    wait_for("the reason and the next attempt", SOON, || {
        let (status, _) = agent.status();
        let said = status["last_error"].as_str().unwrap_or_default().contains("refused");
        let next = status["next_attempt_seconds"].is_u64();
        let joining = status["state"] == "joining";
        if said && next && joining { Ok(()) } else { Err(status.to_string()) }
    });
    assert!(agent.join_file().exists());
    lab.restart();
    agent.await_state("ready", SOON);
    agent.cli(&["leave"]).ok();
    agent.kill();

    lab.run(&["join-token", "--rotate"]);
    let before = lab.calls(ISSUE);
    provision(&agent.join_file(), &token, &addr);
    for _ in 0..2 {
        agent.start();
        await_reason(&agent, "refused what");
        agent.kill();
    }
    assert_eq!(lab.calls(ISSUE), before + 1, "asked once, not once per start");
    assert!(agent.join_file().exists(), "kept, for the operator to look at");
    provision(&agent.join_file(), &lab.token(), &addr);
    agent.start();
    agent.await_state("ready", SOON);
}

#[test]
fn a_bad_file_is_named_in_status_and_a_good_one_is_found_after_a_join() {
    let lab = Lab::start("prov-bad", &["--heartbeat", "1s"]);
    let mut agent = Agent::new("edge-prov-bad");
    for (text, said) in [
        (json!({"tokn": "x"}).to_string(), "unknown key \"tokn\""),
        (json!({"token": "SWMTKN-1-x-y", "addresses": ["m"]}).to_string(), "digest"),
        ("x".repeat(20_000), "larger than"),
    ] {
        fs::write(agent.join_file(), text).unwrap();
        agent.start();
        await_reason(&agent, said);
        await_reason(&agent, "join.json");
        agent.kill();
    }
    fs::remove_file(agent.join_file()).unwrap();
    assert!(Command::new("mkfifo").arg(agent.join_file()).status().unwrap().success());
    agent.start();
    await_reason(&agent, "no file");
    // It does not stand in the way of a person.
    agent.join(&lab).ok();
    agent.await_state("ready", SOON);
}

/// Kills the agent at each system call that changes a file while it consumes the provisioning file,
/// and starts it again. Either the file or the identity is there at each point, and one identity
/// never becomes two.
#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn a_provisioning_file_survives_a_kill_at_every_step() {
    let lab = Lab::start("prov-cut", &["--heartbeat", "1s"]);
    // strace counts each call on its own.
    let points: Vec<usize> = ["write", "fsync", "rename", "unlink"]
        .iter()
        .map(|call| (1..40).position(|n| !cut(&lab, call, n)).unwrap())
        .collect();
    // Slot, first byte, all bytes; slot twice with its folder, both steps of the file, its folder.
    assert!(points[0] >= 3 && points[1] >= 5 && points[2] >= 1 && points[3] >= 1, "{points:?}");
}

/// Kills at the `n`th `call`; false when there were not so many until the node was a member.
fn cut(lab: &Lab, call: &str, n: usize) -> bool {
    let mut agent = Agent::new(&format!("edge-cut-{call}{n}"));
    provision(&agent.join_file(), &lab.token(), &lab.addr);
    let data = agent.data_root();
    let parent = data.with_file_name("");
    let mut watched = vec![data.clone(), parent, agent.join_file()];
    for slot in ["identity.a", "identity.b", ".identity.a.new", ".identity.b.new"] {
        watched.push(data.join(slot));
    }
    let set = if call == "fsync" { "fsync,fdatasync".to_owned() } else { format!("/^{call}") };
    let inject = format!("inject={set}:signal=KILL:when={n}");
    let trace = data.with_file_name("trace");
    // -D: the agent is our child, not strace's.
    let mut wrap = vec!["strace", "-D", "-o", trace.to_str().unwrap(), "-e", &inject];
    for path in &watched {
        wrap.extend(["-P", path.to_str().unwrap().trim_end_matches('/')]);
    }
    agent.start_wrapped(&wrap);
    let killed = wait_for("the kill or the end", SOON, || {
        if agent.ended() {
            return Ok(true);
        }
        let (status, _) = agent.status();
        if status["state"] == "ready" { Ok(false) } else { Err(status.to_string()) }
    });
    let identity = ["identity.a", "identity.b"].iter().any(|slot| data.join(slot).exists());
    let usable = fs::read(agent.join_file()).is_ok_and(|text| text.starts_with(b"{"));
    assert!(identity || usable, "{call} {n}: neither file nor identity");
    agent.kill();
    let before = lab.calls(ISSUE);
    agent.start();
    agent.await_state("ready", SOON);
    let asked = lab.calls(ISSUE) - before;
    assert_eq!(asked, u64::from(!identity), "{call} {n}: one identity became two");
    assert!(!agent.join_file().exists(), "{call} {n}: the file is there still");
    agent.kill();
    killed
}

#[test]
fn a_new_token_is_sealed_with_and_without_an_agent() {
    let lab = Lab::start("token-set", &["--heartbeat", "1s"]);
    let other = Lab::start("token-other", &[]);
    let mut agent = Agent::new("edge-token");
    let done = agent.cli(&["token", "set", "--token", &lab.token()]);
    assert_eq!(done.code, Some(5), "{done:?}");
    agent.join(&lab).ok();
    agent.start();
    agent.await_state("ready", SOON);
    let refused = |agent: &Agent| {
        let done = agent.cli(&["token", "set", "--token", &other.token()]);
        assert_eq!(done.code, Some(3), "{done:?}");
        let hexes =
            done.err.split(|c: char| !c.is_ascii_hexdigit()).filter(|w| w.len() == 64).count();
        assert_eq!(hexes, 2, "{done:?}");
    };
    let set = |agent: &Agent, token: &str| {
        let mut command = agent.command(&["token", "set", "--token-file", "-"]);
        let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), token.as_bytes()).unwrap();
        assert!(child.wait().unwrap().success());
    };
    let same = |agent: &Agent, token: &str| {
        // The very token of the identity is taken as one of this swarm, whatever its digest.
        agent.cli(&["join", "--token", token, &lab.addr]).code == Some(0)
    };
    refused(&agent);
    lab.run(&["join-token", "--rotate"]);
    set(&agent, &lab.token());
    agent.cli(&["token", "set", "--new-root", "--token", &other.token()]).ok();
    assert!(same(&agent, &other.token()), "the agent's copy was sealed");
    // A renewal or a stop does not bring the old one back.
    agent.kill();
    assert!(same(&agent, &other.token()));
    refused(&agent);
    set(&agent, &lab.token());
    assert!(!same(&agent, &other.token()), "without an agent, too");
    assert_eq!(agent.cli(&["token", "set", "--token", "x"]).code, Some(2));
    agent.start();
    agent.await_state("ready", SOON);
}

#[test]
fn a_token_that_is_to_be_forgotten_is_burnt_in_both_slots() {
    let lab = Lab::start("forget", &["--heartbeat", "1s"]);
    let mut agent = Agent::new("edge-forget");
    agent.cli(&["join", "--forget-token", "--token", &lab.token(), &lab.addr]).ok();
    let slots = ["identity.a", "identity.b"].map(|slot| agent.data_root().join(slot));
    assert_eq!(slots.iter().filter(|slot| slot.exists()).count(), 1, "the older one held it");
    let status = agent.cli(&["status"]).ok();
    assert!(status.contains("Join token:   forgotten"), "{status}");
    agent.start();
    let status = agent.await_state("ready", SOON);
    assert_eq!(status["join_token"], "forgotten");
    agent.cli(&["token", "set", "--token", &lab.token()]).ok();
    assert_eq!(agent.status().0["join_token"], "sealed");
}
