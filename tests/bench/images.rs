//! Pull and unpack from a registry: edgeagent, dockerd, and skopeo with umoci.
//!
//! Seconds are those of the command from its start to its end. Memory is the largest resident size
//! that a process reached (`VmHWM`): of the fetch child; of dockerd, its containerd and its unpacking
//! children, each from its size before the pull; of the larger of skopeo and umoci. Bytes written
//! are those that processes caused (`/proc/*/io`), and under them those of the whole device, where
//! neighbours count, too.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use super::{
    dockerd_worker, find, mega,
    table::{Budget, Table},
};
use crate::fixture::{folder, run, world};

/// What one pull cost.
#[derive(Clone, Copy, Debug)]
struct Cost {
    seconds: f64,
    peak: u64,
    written: u64,
    device: u64,
}

#[test]
#[ignore = "make bench"]
fn pulling_and_unpacking() {
    let world = world();
    let docker = dockerd_worker(&world);
    let agent = world.fresh_agent();
    let base = folder().join("pulls");
    assert!(find("umoci").is_some(), "umoci is missing: run tests/install-packages");
    let mut table = Table::new("pull and unpack, edgeagent beside dockerd");
    let mut other = Table::beside("pull and unpack, edgeagent beside skopeo and umoci", "umoci");
    for (name, script) in [
        ("100 MB incompressible", "head -c 100M /dev/urandom > data"),
        (
            "200 MB compressible",
            "for n in 1 2 3 4 5 6 7 8; do seq -f 'line %.0f of some text' 1000000 | head -c 25M > text$n; done",
        ),
        (
            "20 000 files",
            "for d in $(seq 100); do mkdir d$d; seq 200 | (cd d$d; split -l 1 -a 3); done",
        ),
    ] {
        let tree = base.join("tree");
        fs::create_dir_all(&tree).unwrap();
        run(&["sh", "-c", &format!("cd {} && {script}", tree.display())]);
        let tar = base.join("layer.tar");
        run(&["tar", "-C", tree.to_str().unwrap(), "-cf", tar.to_str().unwrap(), "."]);
        let image = format!("{}/pull-{}:1", world.registry, name.replace(' ', "-").to_lowercase());
        world.manager.docker(&["import", tar.to_str().unwrap(), &image]);
        world.manager.docker(&["push", &image]);
        // The tree stays meanwhile: ext4 gives inodes of names that went a moment ago to nobody, and
        // looks for others at length.
        let kept = folder().join(format!("kept-{}", name.replace(' ', "-")));
        fs::rename(&base, &kept).unwrap();
        let theirs = cost(&[docker.pid()], {
            let mut command = docker.docker_command();
            command.args(["pull", "-q", &image]);
            command
        });
        let ours = cost(&[], agent.command(&["image", "pull", &image]));
        let to = folder().join("umoci");
        fs::create_dir_all(&to).unwrap();
        let script = format!(
            "skopeo copy -q --src-tls-verify=false docker://{image} oci:{0}/oci:x && umoci unpack --image {0}/oci:x {0}/bundle",
            to.display()
        );
        let mut command = agent.host.command("sh");
        command.args(["-c", &script]);
        let umoci = cost(&[], command);
        for (table, theirs, share) in
            [(&mut table, theirs, Budget::Ratio(0.7)), (&mut other, umoci, Budget::None)]
        {
            table.row(name, "s", ours.seconds, theirs.seconds, share);
            table.row(
                "… peak memory",
                "MB",
                mega(ours.peak),
                mega(theirs.peak),
                Budget::AtMost(8.0),
            );
            table.row("… written", "MB", mega(ours.written), mega(theirs.written), Budget::None);
            table.row(
                "… of the device",
                "MB",
                mega(ours.device),
                mega(theirs.device),
                Budget::None,
            );
        }
        fs::rename(&to, folder().join(format!("umoci-{}", name.replace(' ', "-")))).unwrap();
    }
    println!("\n{}\n{}", table.render(), other.render());
}

/// Runs the command and watches its processes, and those of the daemons.
fn cost(daemons: &[u32], mut command: Command) -> Cost {
    run(&["sync"]);
    let device = sectors();
    let mut seen: BTreeMap<u32, (u64, u64)> = BTreeMap::new();
    let mut before: BTreeMap<u32, (u64, u64)> = BTreeMap::new();
    for pid in daemons.iter().flat_map(|pid| family(*pid)) {
        // Only what it reaches from now on.
        drop(fs::write(format!("/proc/{pid}/clear_refs"), "5"));
        before.insert(pid, state(pid));
    }
    let begin = Instant::now();
    let mut child = command.spawn().unwrap();
    let status = loop {
        for pid in daemons.iter().copied().chain([child.id()]).flat_map(family) {
            let (peak, written) = state(pid);
            let entry = seen.entry(pid).or_default();
            *entry = (entry.0.max(peak), entry.1.max(written));
        }
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        thread::sleep(Duration::from_millis(2));
    };
    let seconds = begin.elapsed().as_secs_f64();
    assert!(status.success());
    run(&["sync"]);
    let written = seen.iter().map(|(pid, (_, written))| {
        written.saturating_sub(before.get(pid).map_or(0, |(_, before)| *before))
    });
    let peaks = seen.values().map(|(peak, _)| *peak);
    let peak = if daemons.is_empty() { peaks.max().unwrap_or(0) } else { peaks.sum() };
    Cost { seconds, peak, written: written.sum(), device: (sectors() - device) * 512 }
}

fn family(pid: u32) -> Vec<u32> {
    let mut all = vec![pid];
    for thread in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
        let text = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
        all.extend(text.split_whitespace().filter_map(|c| c.parse().ok()).flat_map(family));
    }
    all
}

/// Largest resident size and bytes written, of one process so far.
fn state(pid: u32) -> (u64, u64) {
    let number = |file: &str, name: &str| -> u64 {
        let text = fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|l| l.split_whitespace().next()?.parse().ok()).unwrap_or(0)
    };
    // What was taken back before it reached the device was not written.
    let written = number("io", "write_bytes:");
    let written = written.saturating_sub(number("io", "cancelled_write_bytes:"));
    (number("status", "VmHWM:") * 1024, written)
}

/// Sectors written to the device of the test's folder.
fn sectors() -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    let device = fs::metadata(Path::new("/tmp")).unwrap().dev();
    let stat = PathBuf::from(format!(
        "/sys/dev/block/{}:{}/stat",
        rustix::fs::major(device),
        rustix::fs::minor(device)
    ));
    let text = fs::read_to_string(stat).unwrap_or_default();
    text.split_whitespace().nth(6).and_then(|n| n.parse().ok()).unwrap_or(0)
}
