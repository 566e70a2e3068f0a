//! The reviewer's story, S1 to S12 of anchors.md §5: what listens, who may join, and what does a
//! wrong secret get?

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    process::{Child, Command, Stdio},
    rc::Rc,
    thread,
    time::{Duration, Instant},
};

use edgeagent::{
    ca::{CertificateRequest, JoinToken, PinnedRoot},
    model::{Availability, UnixTime},
    rpc::{self, Channel, JOIN_NAME},
};

use crate::{
    machine::{Agent, Done, JOINED, Lab, capture, lab_program, prefix, wait_for},
    wire::Wire,
};

const SOON: Duration = Duration::from_secs(30);

const ISSUE: &str = "NodeCA/IssueNodeCertificate";

/// A token with one character changed, counted from its end.
fn bent(token: &str, from_end: usize) -> String {
    let at = token.len() - 1 - from_end;
    let other = if token.as_bytes()[at] == b'1' { '2' } else { '1' };
    format!("{}{other}{}", &token[..at], &token[at + 1..])
}

fn refused(agent: &Agent, code: i32, words: &[&str], said: &[&str]) -> Done {
    let done = agent.cli(words);
    assert_eq!(done.code, Some(code), "{words:?}: {done:?}");
    for text in said {
        assert!(done.err.contains(text), "{text} is not said: {}", done.err);
    }
    done
}

/// An agent with a join that waits for approval; the node's entry at the lab.
fn pending(lab: &Lab, name: &str) -> (Agent, Child, serde_json::Value) {
    let before = lab.nodes().len();
    let agent = Agent::new(name);
    let join = agent.begin_join(lab);
    wait_for("the join to wait", SOON, || {
        let log = agent.join_log();
        if log.contains("waiting for the managers") { Ok(()) } else { Err(log) }
    });
    let nodes = lab.nodes();
    assert_eq!(nodes.len(), before + 1, "{nodes:?}");
    let log = agent.join_log();
    let node = nodes.into_iter().find(|node| log.contains(node["id"].as_str().unwrap())).unwrap();
    (agent, join, node)
}

fn end(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn s01_the_lab_opens_one_port_and_every_address_only_when_told() {
    let lab = Lab::start("s01", &[]);
    assert!(lab.addr.starts_with("127.0.0.1:"), "{}", lab.addr);
    let refused = |bind: &str| {
        let dir = format!("/tmp/{}/s01-{}", prefix(), bind.len());
        let words = ["--dir", &dir, "init", "--bind", bind];
        let done = capture(Command::new(lab_program()).args(words));
        assert_eq!(done.code, Some(1), "{bind}: {done:?}");
        assert!(done.err.contains("--any-address"), "{bind}: {done:?}");
    };
    refused("0.0.0.0:0");
    refused("[::]:0");
    let any = Lab::start_in(None, "0.0.0.0:0", "s01-any", &["--any-address"]);
    assert!(any.addr.starts_with("0.0.0.0:"), "{}", any.addr);
}

/// Sockets by which somebody could come in, of everything in the device's network namespace.
fn listening(wire: &Wire) -> Vec<String> {
    let read = |file: &str| capture(wire.command("cat").arg(file)).ok();
    let mut found = Vec::new();
    for (name, state) in [("tcp", "0A"), ("tcp6", "0A"), ("udp", "07"), ("udp6", "07")] {
        let text = read(&format!("/proc/net/{name}"));
        let open =
            text.lines().skip(1).filter(|line| line.split_whitespace().nth(3) == Some(state));
        found.extend(open.map(|line| format!("{name}: {line}")));
    }
    for name in ["raw", "raw6", "packet", "udplite", "udplite6"] {
        // Not every kernel has all.
        let text = capture(wire.command("cat").arg(format!("/proc/net/{name}"))).out;
        found.extend(text.lines().skip(1).map(|line| format!("{name}: {line}")));
    }
    let text = read("/proc/net/unix");
    let open = text
        .lines()
        .filter(|line| line.split_whitespace().nth(7).is_some_and(|p| p.starts_with('@')));
    found.extend(open.map(|line| format!("abstract unix: {line}")));
    found
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn s01_a_worker_never_listens_in_any_state() {
    let wire = Wire::new("s01");
    let bind = format!("{}:0", wire.manager());
    let validity = Duration::from_secs(8);
    let options = ["--heartbeat", "1s", "--cert-validity", "8s"];
    let lab = Lab::start_in(Some(&wire.there), &bind, "s01-worker", &options);
    let mut agent = Agent::inside("edge-s01", &wire);
    let mut seen = Vec::new();
    let mut look = |state: &str| {
        let found = listening(&wire);
        assert!(found.is_empty(), "{state}: {found:#?}");
        seen.push(state.to_owned());
    };
    // The look sees what listens.
    let script = "socket(S, 2, 1, 0); listen(S, 1) or die; socket(U, 1, 1, 0); \
                  bind(U, pack('Sa*', 1, \"\\0here\")) or die; print \"up\\n\"; close STDOUT; sleep 99";
    let mut listener =
        wire.command("perl").args(["-e", script]).stdout(Stdio::piped()).spawn().unwrap();
    std::io::Read::read_to_string(&mut listener.stdout.take().unwrap(), &mut String::new())
        .unwrap();
    assert_eq!(listening(&wire).len(), 2, "{:?}", listening(&wire));
    end(listener);

    agent.start();
    agent.await_state("not-joined", SOON);
    look("fresh");
    agent.join(&lab).ok();
    agent.await_state("ready", SOON);
    look("joined");
    agent.load_image();
    lab.run(&[
        "service", "create", "--name", "quiet", "--mode", "global", "demo:1", "sleep", "999",
    ]);
    lab.await_running("quiet", 1);
    look("running");
    let logs = lab.run(&["service", "logs", "quiet"]);
    assert_eq!(logs, "");
    lab.run(&["node", "update", "--availability", "drain", "edge-s01"]);
    wait_for("the node to be drained", SOON, || {
        look("draining");
        let tasks = agent.cli(&["ps", "--json"]).out;
        if tasks.contains("running") { Err(tasks) } else { Ok(()) }
    });
    // Asleep until its certificate has ended, and no longer let in.
    agent.kill();
    thread::sleep(validity + Duration::from_secs(1));
    lab.run(&["evil", "sign-never"]);
    agent.start();
    let status = agent.await_state("pending-approval", SOON);
    assert!(status["reason"].as_str().unwrap().contains("expired"), "{status}");
    look("expired");
    lab.run(&["evil", "none"]);
    agent.await_state("ready", SOON);
    let (status, _) = agent.status();
    lab.run(&["node", "rm", "--force", status["node_id"].as_str().unwrap()]);
    agent.await_state("removed", SOON);
    look("removed");
    agent.cli(&["leave"]).ok();
    agent.await_state("not-joined", SOON);
    look("left");
    assert!(7 <= seen.len(), "{seen:?}");
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn s02_without_a_token_nothing_is_sent() {
    let wire = Wire::new("s02");
    let agent = Agent::inside("edge-s02", &wire);
    let before = wire.packets();
    let mut fastest = Duration::MAX;
    for _ in 0..5 {
        let begin = Instant::now();
        refused(&agent, 2, &["join", wire.manager()], &["docker swarm join-token worker"]);
        fastest = fastest.min(begin.elapsed());
    }
    assert_eq!(wire.packets(), before, "a packet was sent without a token");
    assert!(fastest < Duration::from_millis(50), "{fastest:?}");
    // The counter counts: with a token somebody is looked for.
    let token = format!("SWMTKN-1-{}-{}", "0".repeat(50), "0".repeat(25));
    refused(&agent, 1, &["join", "--token", &token, wire.manager()], &["no manager"]);
    assert!(before < wire.packets());
}

#[test]
fn s03_a_node_that_waits_for_approval_is_one_node_through_restarts() {
    let mut lab = Lab::start("s03", &["--heartbeat", "1s", "--approval", "manual"]);
    let (mut agent, join, node) = pending(&lab, "edge-s03");
    end(join);
    let (id, key) = (node["id"].as_str().unwrap(), node["fingerprint"].as_str().unwrap());
    for life in 0..4 {
        agent.start();
        let status = agent.await_state("pending-approval", SOON);
        assert_eq!(status["node_id"], id);
        assert!(status["reason"].as_str().unwrap().contains(key), "{status}");
        match life {
            // The manager restarts as well.
            2 => {
                agent.kill();
                lab.restart();
            }
            3 => {}
            _ => agent.kill(),
        }
    }
    let nodes = lab.nodes();
    assert_eq!(nodes.len(), 1, "{nodes:?}");
    assert_eq!((&nodes[0]["id"], &nodes[0]["csr"]), (&node["id"], &node["csr"]));
    wait_for("the agent to poll again", SOON, || {
        let calls = lab.calls("NodeCA/NodeCertificateStatus");
        if calls > 0 { Ok(()) } else { Err(agent.status().0.to_string()) }
    });
    let begin = Instant::now();
    lab.run(&["node", "accept", id]);
    agent.await_state("ready", SOON);
    assert!(begin.elapsed() < Duration::from_secs(5), "took {:?}", begin.elapsed());
    assert_eq!(lab.nodes().len(), 1);
    assert_eq!(lab.calls(ISSUE), 0, "since the lab's restart");
}

#[test]
fn s03_a_rejected_node_is_not_anew() {
    let lab = Lab::start("s03-no", &["--approval", "manual"]);
    let (mut agent, join, node) = pending(&lab, "edge-s03-no");
    end(join);
    agent.start();
    agent.await_state("pending-approval", SOON);
    lab.run(&["node", "reject", node["id"].as_str().unwrap()]);
    let status = agent.await_state("rejected", SOON);
    assert!(status["reason"].as_str().unwrap().contains("rejected by the operator"), "{status}");
    assert!(status["reason"].as_str().unwrap().contains("edgeagent leave"), "{status}");
    let polls = lab.calls("NodeCA/NodeCertificateStatus");
    let again = agent.join(&lab);
    assert_eq!(again.code, Some(3), "{again:?}");
    agent.await_state("rejected", SOON);
    assert_eq!(lab.nodes().len(), 1, "a rejected node must not come back as another");
    assert!(lab.calls("NodeCA/NodeCertificateStatus") <= polls + 3);
    assert_eq!(lab.calls(ISSUE), 1);
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn s03b_a_node_that_joins_drained_starts_nothing_before_it_is_activated() {
    let lab = Lab::start("s03b", &["--heartbeat", "1s"]);
    let mut agent = Agent::new("edge-s03b");
    agent.cli(&["join", "--token", &lab.token(), "--availability", "drain", &lab.addr]).ok();
    agent.start();
    lab.await_node("edge-s03b", "Ready");
    agent.load_image();
    let words = "service create --name all --mode global --stop-grace-period 1s demo:1 sleep 1000";
    lab.run(&words.split(' ').collect::<Vec<_>>());
    // Whatever was to come has come after two more heartbeats.
    let beats = lab.calls("Dispatcher/Heartbeat");
    wait_for("two heartbeats", SOON, || {
        let now = lab.calls("Dispatcher/Heartbeat");
        if beats + 2 <= now { Ok(()) } else { Err(now.to_string()) }
    });
    assert_eq!(agent.cli(&["ps", "--json"]).ok().trim(), "[]");
    assert_eq!(lab.nodes()[0]["availability"], "Drain");
    lab.run(&["node", "update", "--availability", "active", "edge-s03b"]);
    lab.await_running("all", 1);
}

#[test]
fn s04_accepting_one_node_never_admits_another() {
    let lab = Lab::start("s04", &["--heartbeat", "1s", "--approval", "manual"]);
    let (mut a, join_a, node_a) = pending(&lab, "edge-s04a");
    let (mut b, join_b, node_b) = pending(&lab, "edge-s04b");
    end(join_a);
    end(join_b);
    assert_ne!(node_a["fingerprint"], node_b["fingerprint"]);
    a.start();
    b.start();
    let accepted = lab.run(&["node", "accept", node_a["id"].as_str().unwrap()]);
    let key = node_a["fingerprint"].as_str().unwrap();
    assert!(accepted.contains(key) && a.join_log().contains(key), "the human compares: {accepted}");
    a.await_state("ready", SOON);
    let status = b.await_state("pending-approval", SOON);
    assert_eq!(status["node_id"], node_b["id"]);
    let other = lab.nodes().into_iter().find(|node| node["id"] == node_b["id"]).unwrap();
    assert_eq!((&other["membership"], &other["certificate"]), (&"pending".into(), &"".into()));
}

#[test]
fn s05_no_token_where_one_is_needed_is_a_usage_error() {
    let lab = Lab::start("s05", &[]);
    let agent = Agent::new("edge-s05");
    for words in [&["join", &lab.addr][..], &["join", "--token", "", &lab.addr], &["token", "set"]]
    {
        refused(&agent, 2, words, &["token"]);
    }
    assert_eq!(lab.calls("CA/GetRootCACertificate"), 0);
    assert!(lab.nodes().is_empty());
}

#[test]
fn s06_a_wrong_secret_costs_one_request_and_is_named() {
    let lab = Lab::start("s06", &[]);
    let agent = Agent::new("edge-s06");
    let token = bent(&lab.token(), 0);
    let begin = Instant::now();
    let done = refused(
        &agent,
        3,
        &["join", "--token", &token, &lab.addr],
        &[&lab.addr, "its CA was verified", "does not know this token", "join-token worker"],
    );
    assert!(begin.elapsed() < Duration::from_secs(2), "it was tried again: {:?}", begin.elapsed());
    assert_eq!((lab.calls("CA/GetRootCACertificate"), lab.calls(ISSUE)), (1, 1));
    assert!(!done.err.contains(token.rsplit('-').next().unwrap()), "the secret is shown");
    // A token that was good once.
    let old = lab.token();
    lab.run(&["join-token", "--rotate"]);
    refused(&agent, 3, &["join", "--token", &old, &lab.addr], &["rotated"]);
    assert_eq!(lab.calls(ISSUE), 2);
    assert!(lab.nodes().is_empty());
    assert_eq!(agent.status().0["state"], "not-joined");
}

#[test]
fn s07_a_wrong_digest_shows_both_and_sends_nothing_secret() {
    let (lab, other) = (Lab::start("s07", &[]), Lab::start("s07-other", &[]));
    let agent = Agent::new("edge-s07");
    let token = other.token();
    let done = refused(
        &agent,
        3,
        &["join", "--token", &token, &lab.addr],
        &["intercepting", "nothing secret was sent"],
    );
    let hexes = done.err.split(|c: char| !c.is_ascii_hexdigit()).filter(|w| w.len() == 64).count();
    assert_eq!(hexes, 2, "both digests: {}", done.err);
    assert!(!done.err.contains(token.rsplit('-').next().unwrap()), "the secret is shown");
    assert_eq!((lab.calls("CA/GetRootCACertificate"), lab.calls(ISSUE)), (1, 0));
    // The right swarm at a second address is found all the same.
    let done = agent.cli(&["join", "--token", &token, &lab.addr, &other.addr]);
    assert!(done.out.contains(JOINED), "{done:?}");
    assert_eq!(lab.calls(ISSUE), 0);
}

#[test]
fn s08_the_wrong_part_of_a_token_is_named() {
    let lab = Lab::start("s08", &[]);
    let agent = Agent::new("edge-s08");
    let good = lab.token();
    let parts: Vec<&str> = good.split('-').collect();
    let (digest, secret) = (parts[2], parts[3]);
    for (token, part) in [
        ("hello".to_owned(), "SWMTKN-"),
        (format!("SWMTKN-3-{digest}-{secret}"), "version"),
        (format!("SWMTKN-1-{digest}"), "3 parts"),
        (format!("SWMTKN-1-{}-{secret}", &digest[1..]), "digest"),
        (format!("SWMTKN-1-{digest}-{secret}x"), "secret"),
        (format!("SWMTKN-1-{}-{secret}", digest.to_uppercase()), "base 36"),
        (format!("SWMTKN-1-{digest}-{}", secret.to_uppercase()), "0-9 and a-z"),
        (format!("SWMTKN-2-7-{digest}-{secret}"), "FIPS flag"),
        (format!("SWMTKN-2-1-{digest}-{secret}"), "demands FIPS"),
    ] {
        refused(&agent, 2, &["join", "--token", &token, &lab.addr], &["invalid join token", part]);
    }
    assert_eq!(lab.calls("CA/GetRootCACertificate"), 0);
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn s09_whoever_is_not_reached_is_told_with_the_reason() {
    let wire = Wire::new("s09");
    let lab = Lab::start_in(Some(&wire.there), "10.83.0.1:2377", "s09", &["--heartbeat", "1s"]);
    let agent = Agent::inside("edge-s09", &wire);
    let token = lab.token();
    let unreachable = |addr: &str, said: &[&str]| {
        refused(&agent, 1, &["join", "--token", &token, addr], said);
    };
    unreachable("nowhere.invalid", &["nowhere.invalid:2377 can not be resolved"]);
    unreachable("10.83.0.1:9", &["no connection to 10.83.0.1:9", "refused"]);
    unreachable("10.99.0.1", &["no connection to 10.99.0.1:2377", "unreachable"]);
    wire.nft("ip saddr 10.83.0.2 drop");
    unreachable("10.83.0.1", &["no connection to 10.83.0.1:2377", "timed out"]);
    wire.nft_none();
    // Small packets pass both ways, large ones vanish on the way back.
    wire.nft_out("ip length > 600 drop");
    unreachable("10.83.0.1", &["10.83.0.1:2377 takes connections", "MTU"]);
    wire.nft_none();
    lab.run(&["evil", "cert-foreign"]);
    unreachable("10.83.0.1", &["TLS with 10.83.0.1:2377 failed"]);
    lab.run(&["evil", "none"]);
    assert!(lab.nodes().is_empty(), "no token was sent");

    // A member tells the same, and when it tries again.
    let mut agent = agent;
    agent.cli(&["join", "--token", &token, "10.83.0.1"]).ok();
    wire.nft("ip saddr 10.83.0.2 reject with tcp reset");
    agent.start();
    wait_for("the reason and the next attempt", SOON, || {
        let (status, _) = agent.status();
        let said = status["reason"].as_str().unwrap_or_default().contains("refused");
        let next = status["next_attempt_seconds"].is_u64();
        if said && next { Ok(()) } else { Err(status.to_string()) }
    });
    wire.nft_none();
    agent.await_state("ready", SOON);
}

#[test]
fn s10_joining_is_idempotent() {
    let lab = Lab::start("s10", &["--heartbeat", "1s"]);
    let mut agent = Agent::new("edge-s10");
    // At once: one joins, the others are told.
    let joins: Vec<Child> = (0..3)
        .map(|_| {
            let mut command = agent.command(&["join", "--token", &lab.token(), &lab.addr]);
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
        })
        .collect();
    let mut said = Vec::new();
    for join in joins {
        let output = join.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{output:?}");
        said.push(text);
    }
    assert_eq!(said.iter().filter(|text| text.contains(JOINED)).count(), 1, "{said:?}");
    assert_eq!(said.iter().filter(|text| text.contains("already")).count(), 2, "{said:?}");
    // Twice.
    agent.start();
    agent.await_state("ready", SOON);
    let again = agent.cli(&["join", "--token", &lab.token(), &lab.addr]).ok();
    assert!(again.contains(lab.nodes()[0]["id"].as_str().unwrap()), "{again}");
    assert_eq!((lab.nodes().len(), lab.calls(ISSUE)), (1, 1));
}

#[test]
fn s10_an_agent_goes_on_with_a_join_that_was_killed() {
    let lab = Lab::start("s10-kill", &["--heartbeat", "1s", "--approval", "manual"]);
    let mut agent = Agent::new("edge-s10-kill");
    agent.start();
    agent.await_state("not-joined", SOON);
    let join = agent.begin_join(&lab);
    // The agent knows while the command still waits.
    let status = agent.await_state("pending-approval", Duration::from_secs(3));
    end(join);
    lab.run(&["node", "accept", status["node_id"].as_str().unwrap()]);
    agent.await_state("ready", Duration::from_secs(5));
    // And of one that succeeds, both tell the same.
    assert_eq!((lab.nodes().len(), lab.calls(ISSUE)), (1, 1));
}

#[test]
fn s11_a_node_that_was_removed_knows_it_and_keeps_still() {
    let lab = Lab::start("s11", &["--heartbeat", "1s"]);
    let agent = Agent::member("edge-s11", &lab);
    let id = lab.nodes()[0]["id"].as_str().unwrap().to_owned();
    lab.run(&["node", "rm", "--force", &id]);
    let status = agent.await_state("removed", SOON);
    assert!(status["reason"].as_str().unwrap().contains("removed this node"), "{status}");
    let calls = |lab: &Lab| lab.calls("Dispatcher/Session");
    let before = calls(&lab);
    // Managers are asked again within hours, not within the 8 s of a stock worker.
    let next = agent.status().0["next_attempt_seconds"].as_u64().unwrap_or(u64::MAX);
    assert!(next > 60, "{next}");
    thread::sleep(Duration::from_secs(3));
    assert_eq!(calls(&lab), before);
    assert!(lab.nodes().is_empty(), "it must not join again");
    assert_eq!(lab.calls(ISSUE), 1);
}

#[test]
fn s12_a_thousand_joins_fill_neither_the_lab_nor_the_swarm() {
    for (name, options, joins, most) in [
        ("s12-rate", &["--heartbeat", "1s"][..], 100, 60),
        ("s12-wait", &["--join-rate", "2000", "--approval", "manual"], 1000, 128),
    ] {
        let lab = Lab::start(name, options);
        let executor = Rc::new(smol::LocalExecutor::new());
        let (taken, refusal) = smol::block_on(executor.run(flood(&executor, &lab, joins)));
        assert_eq!(taken, most, "{refusal}");
        assert!(refusal.contains("ResourceExhausted"), "{refusal}");
        assert_eq!(lab.nodes().len(), most);
        // A person is told why.
        refused(
            &Agent::new(&format!("edge-{name}")),
            1,
            &["join", "--token", &lab.token(), &lab.addr],
            &["ResourceExhausted"],
        );
    }
}

/// Asks for so many certificates over one connection; how many were taken, and the last refusal.
async fn flood(
    executor: &Rc<smol::LocalExecutor<'static>>,
    lab: &Lab,
    count: usize,
) -> (usize, String) {
    let wait = Duration::from_secs(10);
    let token = JoinToken::parse(&lab.token()).unwrap();
    let open = async |tls| Channel::open(executor, &lab.addr, tls, JOIN_NAME, wait).await.unwrap();
    let pem = open(rpc::unverified().unwrap()).await.root_ca().await.unwrap();
    let root = PinnedRoot::pin(pem, &token).unwrap();
    let channel = open(rpc::joining(&root, UnixTime::from_seconds(0)).unwrap()).await;
    let request = CertificateRequest::generate(&ring::rand::SystemRandom::new()).unwrap();
    let (mut taken, mut refusal) = (0, String::new());
    for _ in 0..count {
        let token = Some(token.expose());
        match channel.issue_certificate(&request.csr, token, Availability::Active).await {
            Ok(_) => taken += 1,
            Err(error) => refusal = error.to_string(),
        }
    }
    (taken, refusal)
}

#[test]
fn s12_an_agent_makes_one_node_however_often_its_join_is_cut_off() {
    let lab = Lab::start("s12-one", &["--heartbeat", "1s", "--approval", "manual"]);
    let agent = Agent::new("edge-s12");
    for _ in 0..3 {
        let join = agent.begin_join(&lab);
        wait_for("the join to wait", SOON, || {
            let log = agent.join_log();
            if log.contains("waiting for the managers") { Ok(()) } else { Err(log) }
        });
        end(join);
        fs::remove_file(agent.join_log_path()).unwrap();
    }
    assert_eq!((lab.nodes().len(), lab.calls(ISSUE)), (1, 1));
    let mode = fs::metadata(agent.data_root()).unwrap().permissions().mode();
    assert_eq!(mode & 0o077, 0);
}
