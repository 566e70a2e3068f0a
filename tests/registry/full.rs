//! Pulls onto a disk that is too small.

use std::{
    fs,
    process::{Command, Output},
};

use edgeagent::image::{Reference, Store};

use crate::{
    server::Server,
    support::{Image, Scratch, alone, partial_bytes, program, run},
};

const MB: usize = 1_000_000;

/// The disk is a small one of the test's own.
#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn a_full_disk_is_said_and_the_pull_goes_on_when_there_is_room() {
    if !alone("full::a_full_disk_is_said_and_the_pull_goes_on_when_there_is_room") {
        return;
    }
    let scratch = Scratch::new("full");
    let data = scratch.path("data");
    fs::create_dir(&data).unwrap();
    run("mount", &["-t", "tmpfs", "-o", "size=24m", "none", data.to_str().unwrap()]);
    let config = scratch.path("agent.json");
    // Down to the last byte.
    let text = serde_json::json!({
        "data-root": data, "exec-root": scratch.path("run"), "image-min-free": "0"
    });
    fs::write(&config, text.to_string()).unwrap();
    let cli = |words: &[&str]| -> Output {
        let mut command = Command::new(program());
        command.args(["--config", config.to_str().unwrap(), "image"]).args(words);
        command.output().unwrap()
    };
    let (first, second) = (Image::new(&[10 * MB]), Image::new(&[4 * MB, 12 * MB]));
    let (one, two) = (Server::good(&first), Server::good(&second));
    let done = cli(&["pull", &one.name()]);
    assert!(done.status.success(), "{done:?}");
    for _ in 0..2 {
        let full = cli(&["pull", &two.name()]);
        let told = String::from_utf8_lossy(&full.stderr);
        assert!(!full.status.success() && told.contains("no space left for images in"), "{told}");
        assert!(told.contains("edgeagent image prune"), "{told}");
    }
    let store = data.join("images");
    assert_eq!(fs::read_dir(store.join("tmp")).unwrap().count(), 0, "nothing half done stays");
    let find =
        |name: &str| Store::open(&store).unwrap().find(&Reference::parse(name).unwrap()).unwrap();
    let found = find(&one.name()).unwrap();
    assert!(find(&two.name()).is_none());
    // Room is made; what fitted is not fetched again.
    let removed = cli(&["rm", &one.name()]);
    assert!(removed.status.success(), "{removed:?}");
    fs::remove_dir_all(&found.layers[0]).unwrap();
    let before = two.asked().len();
    let done = cli(&["pull", &two.name()]);
    assert!(done.status.success(), "{done:?}");
    assert!(find(&two.name()).is_some());
    assert!(two.asked()[before..].iter().all(|asked| !asked.is_layer(&second, 0)));
    assert_eq!(partial_bytes(&store), 0);
    run("umount", &[data.to_str().unwrap()]);

    // An agent that is told nothing keeps half of such a disk free.
    run("mount", &["-t", "tmpfs", "-o", "size=24m", "none", data.to_str().unwrap()]);
    let text = serde_json::json!({"data-root": data, "exec-root": scratch.path("run")});
    fs::write(&config, text.to_string()).unwrap();
    let third = Image::new(&[11 * MB, 11 * MB]);
    let kept = cli(&["pull", &Server::good(&third).name()]);
    let told = String::from_utf8_lossy(&kept.stderr);
    assert!(!kept.status.success() && told.contains("than image-min-free keeps"), "{told}");
    run("umount", &[data.to_str().unwrap()]);
}
