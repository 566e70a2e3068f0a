//! Images that tasks need: from a registry with passwords, slowly, and when it is gone.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::Path,
    thread,
    time::Duration,
};

use rustix::process::Signal;
use serde_json::json;

use crate::fixture::{
    Daemon, Host, Service, World, capture, folder, inside, prefix, wait_for, wait_until, world,
};

const SOON: Duration = Duration::from_secs(40);

/// Of `user` and `secret`, as the registry has it and as `docker login` writes it.
const HTPASSWD: &str = "user:$2b$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n";
const LOGIN: &str = "dXNlcjpzZWNyZXQ=";

/// A registry that wants a password, with busybox in it under a tag. Returns the tag.
fn private(world: &World, host: &Host, dir: &Path) -> (Daemon, String) {
    fs::create_dir_all(dir).unwrap();
    fs::write(dir.join("htpasswd"), HTPASSWD).unwrap();
    let address = format!("{}:5000", host.ip);
    let (config, data) = (dir.join("config.yml"), dir.join("data"));
    let text = format!(
        "version: 0.1\nlog:\n  level: warn\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  \
         addr: {address}\nauth:\n  htpasswd:\n    realm: test\n    path: {}\n",
        data.display(),
        dir.join("htpasswd").display()
    );
    fs::write(&config, text).unwrap();
    let daemon = Daemon::start(
        "private registry",
        &dir.join("registry.log"),
        host.command("docker-registry").arg("serve").arg(&config),
    );
    let listens = || host.listeners().contains(":5000");
    wait_until("the private registry to listen", Duration::from_secs(20), listens);
    let tag = format!("{address}/busybox:1");
    let mut copy = host.command("skopeo");
    copy.args(["copy", "-q", "--src-tls-verify=false", "--dest-tls-verify=false"]);
    copy.arg("--dest-creds=user:secret");
    copy.args([format!("docker://{}", world.images.tag), format!("docker://{tag}")]);
    capture(&mut copy).ok();
    (daemon, tag)
}

#[test]
#[cfg_attr(not(all(root, program = "dockerd")), ignore = "needs root and dockerd")]
fn an_image_behind_a_password_comes_slowly_and_stays_when_its_registry_goes() {
    let world = world();
    let host = world.switch.host("private");
    let dir = folder().join("private");
    let (mut registry, tag) = private(&world, &host, &dir);
    let mut agent = world.fresh_agent();
    agent.configure(&json!({
        "data-root": agent.data_root(),
        "exec-root": agent.exec_root(),
        "cgroup-parent": agent.cgroup_parent(),
        "insecure-registries": [world.registry, format!("{}:5000", host.ip)],
        "max-download-rate": "200k",
        "registry-auth-file": dir.join("none.json"),
    }));
    agent.join_ok(&world.manager);
    agent.start();
    world.manager.await_node(agent.name(), "ready", SOON);
    let login = dir.join("docker");
    fs::create_dir_all(&login).unwrap();
    let file = json!({"auths": {format!("{}:5000", host.ip): {"auth": LOGIN}}});
    fs::write(login.join("config.json"), file.to_string()).unwrap();

    // Nobody gets in without the password.
    let refused = Service::create(
        &world.manager,
        agent.name(),
        "refused",
        &["--restart-condition", "none", &tag, "sleep", "1000"],
    );
    let task = refused.await_state("rejected", SOON);
    assert!(task.err.contains("denies access"), "{task:?}");
    refused.remove();

    // The manager hands the password on; the agent is killed on the way and loses nothing.
    let node = format!("node.hostname=={}", agent.name());
    let mark = format!("EA_MARK={}", prefix());
    let create = |name: &str| {
        world.manager.docker(&[
            "--config",
            login.to_str().unwrap(),
            "service",
            "create",
            "--detach",
            "--no-resolve-image",
            "--with-registry-auth",
            "--name",
            name,
            "--constraint",
            &node,
            "--env",
            &mark,
            &tag,
            "sleep",
            "1000",
        ]);
        Service::existing(&world.manager, name)
    };
    let service = create("private");
    let under_way = |least: u64| {
        let status = agent.json(&["status"]);
        let pull = status["pulls"].get(0)?.clone();
        assert_eq!(pull["image"], tag.as_str(), "{status}");
        let done = pull["done_bytes"].as_u64()?;
        (least <= done && done < pull["total_bytes"].as_u64()?).then_some(done)
    };
    wait_for("a pull under way", SOON, || under_way(200_000));
    assert!(agent.cli(&["status"]).ok().contains(&format!("Pulling:      {tag} ")));
    agent.stop(Signal::KILL);
    let partial = agent.data_root().join("images/partial");
    let kept = || -> Vec<u64> {
        fs::read_dir(&partial).unwrap().map(|e| e.unwrap().metadata().unwrap().len()).collect()
    };
    let before = kept();
    assert!(before.len() == 1 && 200_000 <= before[0], "{before:?}");
    agent.start();
    let first = wait_for("the pull to go on", SOON, || {
        let status = agent.json(&["status"]);
        status["pulls"].get(0)?["done_bytes"].as_u64().filter(|done| 0 < *done)
    });
    assert!(before[0] <= first, "{before:?} {first}");
    service.await_running(1, SOON);
    assert_eq!(kept(), Vec::<u64>::new());
    assert!(agent.json(&["status"])["pulls"].as_array().unwrap().is_empty());
    service.remove();

    // With the registry gone the tag that is here is used, and that is said.
    registry.end(Signal::KILL, SOON);
    let service = create("stale");
    service.await_running(1, SOON);
    let status = agent.json(&["status"]);
    assert_eq!(status["stale_images"][0]["image"], tag.as_str(), "{status}");
    let text = agent.cli(&["status"]).ok();
    assert!(text.contains("its registry can not be asked: ") && text.contains("refused"), "{text}");
    service.remove();
}

/// Answers every request with a byte now and then, for as long as somebody listens.
fn drip(mut client: TcpStream) {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        // What begins as TLS does is told by silence that there is none.
        if client.read_exact(&mut byte).is_err() || (head.is_empty() && byte != *b"G") {
            return;
        }
        head.push(byte[0]);
    }
    let mut next = &b"HTTP/1.1 200 OK\r\nContent-Length: 4000000\r\n\r\n"[..];
    while client.write_all(next).is_ok() {
        thread::sleep(Duration::from_secs(1));
        next = b" ";
    }
}

#[test]
#[cfg_attr(not(all(root, program = "dockerd")), ignore = "needs root and dockerd")]
fn registries_that_drip_hold_up_no_other() {
    let world = world();
    let host = world.switch.host("drip");
    let mut agent = world.fresh_agent();
    let drips: Vec<String> = (5001..5004).map(|port| format!("{}:{port}", host.ip)).collect();
    for address in &drips {
        let listener = inside(&host.namespace(), || TcpListener::bind(address).unwrap());
        thread::spawn(move || {
            for client in listener.incoming() {
                thread::spawn(|| drip(client.unwrap()));
            }
        });
    }
    let insecure: Vec<&String> = drips.iter().chain([&world.registry]).collect();
    agent.configure(&json!({
        "data-root": agent.data_root(),
        "exec-root": agent.exec_root(),
        "cgroup-parent": agent.cgroup_parent(),
        "insecure-registries": insecure,
    }));
    agent.join_ok(&world.manager);
    agent.start();
    world.manager.await_node(agent.name(), "ready", SOON);
    let slow: Vec<Service<'_>> = drips
        .iter()
        .zip(["drip1", "drip2", "drip3"])
        .map(|(address, name)| {
            let image = format!("{address}/x:1");
            Service::create(&world.manager, agent.name(), name, &[&image, "sleep", "1000"])
        })
        .collect();
    let pulls = || agent.json(&["status"])["pulls"].as_array().unwrap().len();
    wait_until("two pulls at a time", SOON, || pulls() == 2);
    // Three are slow, so this one waits for at most two turns of theirs.
    let words = [world.images.tag.as_str(), "sleep", "1000"];
    let good = Service::create(&world.manager, agent.name(), "good", &words);
    good.await_running(1, Duration::from_secs(120));
    assert!(pulls() <= 2, "{}", pulls());
    good.remove();
    for service in slow {
        service.remove();
    }
}
