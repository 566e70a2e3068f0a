//! The image store of a running agent: room is made in it, it heals, and it rests.

use std::{
    fs,
    io::Read as _,
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::process::Signal;
use serde_json::json;

use crate::fixture::{Agent, Service, World, folder, run, wait_until, world};

const SOON: Duration = Duration::from_secs(40);

/// Pushes an image with busybox and so many bytes that can not be packed. Returns its name by
/// digest.
fn image(world: &World, dir: &Path, name: &str, bytes: u64) -> String {
    let root = dir.join(name);
    fs::create_dir_all(root.join("bin")).unwrap();
    fs::copy("/bin/busybox", root.join("bin/sleep")).unwrap();
    let mut noise = Vec::new();
    fs::File::open("/dev/urandom").unwrap().take(bytes).read_to_end(&mut noise).unwrap();
    fs::write(root.join("data"), noise).unwrap();
    let tar = dir.join(format!("{name}.tar"));
    run(&["tar", "-C", root.to_str().unwrap(), "-cf", tar.to_str().unwrap(), "."]);
    let tag = format!("{}/{name}:1", world.registry);
    world.manager.docker(&["import", tar.to_str().unwrap(), &tag]);
    world.manager.docker(&["push", "-q", &tag]);
    world.manager.docker(&["image", "inspect", "-f", "{{index .RepoDigests 0}}", &tag])
}

/// Names of images here, without their tags and digests.
fn names(agent: &Agent) -> Vec<String> {
    let images = agent.json(&["image", "ls"]);
    let name = |image: &serde_json::Value| {
        let text = image["reference"].as_str().unwrap();
        let last = text.rsplit('/').next().unwrap();
        last.split(['@', ':']).next().unwrap().to_owned()
    };
    images.as_array().unwrap().iter().map(name).collect()
}

fn layers(data: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(data.join("images/layers")).unwrap();
    entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()).collect()
}

#[test]
#[ignore = "two minutes: make test-long"]
fn a_small_disk_holds_what_tasks_need_and_the_agent_keeps_it_so() {
    let world = world();
    let dir = folder().join("store");
    let big = image(&world, &dir, "big", 20 << 20);
    let idle = image(&world, &dir, "idle", 22 << 20);
    fs::remove_dir_all(&dir).unwrap();
    let mut agent = world.fresh_agent();
    let data = agent.data_root();
    fs::create_dir_all(&data).unwrap();
    run(&["mount", "-t", "tmpfs", "-o", "size=40m,mode=700", "none", data.to_str().unwrap()]);
    agent.configure(&json!({
        "data-root": data,
        "exec-root": agent.exec_root(),
        "cgroup-parent": agent.cgroup_parent(),
        "insecure-registries": [world.registry],
        "image-min-free": "0",
    }));
    agent.join_ok(&world.manager);
    agent.start_quiet();
    world.manager.await_node(agent.name(), "ready", SOON);

    // What nobody uses leaves for what a task needs.
    agent.cli(&["image", "pull", &idle]).ok();
    let node = agent.name().to_owned();
    let sleeper = |name: &str| {
        let words = ["--restart-condition", "none", &big, "/bin/sleep", "1000"];
        Service::create(&world.manager, &node, name, &words)
    };
    let service = sleeper("roomy");
    service.await_running(1, SOON);
    assert_eq!(names(&agent), ["big"]);
    assert!(agent.log().contains("image makes room"), "{}", agent.log());

    // Nothing happens, nothing is written.
    let state =
        || run(&["sh", "-c", &format!("find {} -printf '%p %C@ %i\\n' | sort", data.display())]);
    let before = state();
    std::thread::sleep(Duration::from_secs(11));
    assert_eq!(state(), before, "two heartbeats and no write");

    // When a task goes, images that nobody used for long go with it.
    agent.cli(&["image", "pull", &world.images.tag]).ok();
    assert_eq!(names(&agent), ["big", "busybox"]);
    let records = data.join("images/names");
    let age = format!("grep -rl busybox {} | xargs touch -d '40 days ago'", records.display());
    run(&["sh", "-c", &age]);
    let other = sleeper("passing");
    other.await_running(1, SOON);
    other.remove();
    wait_until("the old image to go", SOON, || names(&agent) == ["big"]);
    assert_eq!(layers(&data).len(), 1);
    service.remove();
    wait_until("all but the disk to be gone", SOON, || agent.leftovers().len() == 1);

    // A layer that lost its bytes in a power cut comes again, though its digest is here.
    agent.stop(Signal::KILL);
    let file = layers(&data)[0].join("data");
    fs::File::options().write(true).open(&file).unwrap().set_len(0).unwrap();
    agent.start_quiet();
    wait_until("the agent to be ready", SOON, || agent.state() == "ready");
    let service = sleeper("healed");
    service.await_running(1, SOON);
    assert_eq!(fs::metadata(&file).unwrap().len(), 20 << 20);
    service.remove();
    wait_until("all but the disk to be gone", SOON, || agent.leftovers().len() == 1);
}
