//! An emulated ARM device: how long it takes to be of use, what it needs, and that it leaves its disk alone.
//!
//! Times are those of the device's own clock. Emulation is some ten times slower than a board with these
//! processors, so times say what changed and not what a user sees; memory and bytes are the real ones.

use std::time::Duration;

use super::measure::median;
use crate::fixture::{ARM64, Cable, Device, DeviceOptions, Service, World, image, world};

const SOON: Duration = Duration::from_secs(120);
const RUNS: usize = 5;
const TASKS: usize = 5;
const COUNT: f64 = 5.0;
/// How long the disk is watched.
const IDLE: Duration = Duration::from_secs(600);
const MOBILE: Cable = Cable { delay: Duration::from_millis(150), loss: 2 };

const READY: &str = r#"until edgeagent status --json 2>/dev/null | grep -q '"state": *"ready"'; do usleep 20000; done"#;
/// The agent and none of its children; Debian's BusyBox has no `pgrep`.
const AGENT: &str =
    "grep -lx '/usr/bin/edgeagent.run.' /proc/[0-9]*/cmdline 2>/dev/null | cut -d/ -f3";
const UPTIME: &str = "cut -d' ' -f1 /proc/uptime";

#[test]
#[ignore = "make bench"]
fn an_arm64_device() {
    let world = world();
    let mut rows = Vec::new();
    let mut row = |what: &str, figure: String| {
        println!("{what}: {figure}");
        rows.push(format!("| {what} | {figure} |"));
    };
    let mut device = flash(&world, "vm-bench", None);
    device.boot();
    row("first boot to Ready, with the join, s", seconds(ready(&device)));
    device.sh("sync");
    device.cut_power();
    device.boot();
    row("boot to Ready after a power cut, s", seconds(ready(&device)));
    let starts: Vec<f64> = (0..RUNS).map(|_| cold_start(&device)).collect();
    row("cold start of the agent to Ready, caches dropped, s", spread(&starts));
    row("command join to Ready, s", spread(&joins(&world, &device)));

    let image = image(&world, ARM64);
    let idle = pss(&device);
    row("memory of the idle agent (PSS), kB", idle.to_string());
    let words = [image.as_str(), "sh", "-c", "trap 'exit 0' TERM; while :; do sleep 5; done"];
    let service = Service::create(&world.manager, "vm-bench", "vm-bench", &words);
    service.scale(TASKS);
    service.await_running(TASKS, SOON);
    let busy = pss(&device);
    row(&format!("the same with what stands beside {TASKS} tasks, kB"), busy.to_string());
    row("memory per task, kB", format!("{:.0}", (busy - idle) / COUNT));
    let mut mobile = flash(&world, "vm-mobile", Some(MOBILE));
    mobile.boot();
    ready(&mobile);
    row(
        "command join to Ready, 300 ms there and back, 2 % lost each way, s",
        spread(&joins(&world, &mobile)),
    );
    drop(mobile);

    let (kernel, settled) = (settle(&device), sectors(&device));
    device.sh_within(&format!("sleep {}", IDLE.as_secs()), IDLE + SOON);
    let written = (sectors(&device) - settled) * 512;
    row(
        &format!("written to its disks in {} idle s, {TASKS} tasks, bytes", IDLE.as_secs()),
        written.to_string(),
    );
    service.await_running(TASKS, SOON);
    println!("\nedgeagent on an emulated Cortex-A53, 128 MB, Linux {kernel}\n");
    println!("| | |\n|---|---|\n{}", rows.join("\n"));
}

fn flash(world: &World, name: &str, cable: Option<Cable>) -> Device {
    let options = DeviceOptions { cable, ..DeviceOptions::of(ARM64) };
    Device::flash(world, name, options, &world.manager.token("worker"))
}

/// Waits until the node is Ready, and returns how long the device is up.
fn ready(device: &Device) -> f64 {
    number(&device.sh_within(&format!("{READY}; {UPTIME}"), SOON))
}

/// The agent is killed and comes again with nothing of it in the page cache; until it is Ready.
fn cold_start(device: &Device) -> f64 {
    // A manager refuses a node that registers again and again with less than 8 s in between.
    let script = format!(
        "sleep 9; old=$({AGENT}); echo 3 >/proc/sys/vm/drop_caches; kill -9 $old; \
         until new=$({AGENT}); [ \"${{new:-$old}}\" != $old ]; do usleep 10000; done; {READY}; {UPTIME}; \
         cut -d' ' -f22 /proc/$new/stat"
    );
    let answer = device.sh_within(&script, SOON);
    let (up, ticks) = answer.split_once('\n').unwrap_or_else(|| panic!("{answer}"));
    number(up) - number(ticks.trim()) / 100.0
}

fn joins(world: &World, device: &Device) -> Vec<f64> {
    let (token, addr) = (world.manager.token("worker"), world.manager.addr());
    device.sh(&format!("umask 077; echo {token} >/run/token"));
    let script = format!(
        "edgeagent leave >/dev/null 2>&1; sleep 1; {UPTIME}; \
         edgeagent join --token-file /run/token {addr} >/run/join.out 2>&1 || cat /run/join.out; \
         {READY}; {UPTIME}"
    );
    let one = || {
        let answer = device.sh_within(&script, SOON);
        let (before, after) = answer.split_once('\n').unwrap_or_else(|| panic!("{answer}"));
        number(after.trim()) - number(before)
    };
    (0..RUNS).map(|_| one()).collect()
}

/// Proportional memory of every process that is not BusyBox, so of ours, in kB, once it is at rest: the least of some looks.
fn pss(device: &Device) -> f64 {
    let script = "for i in 1 2 3 4 5 6; do sleep 2; for p in /proc/[0-9]*; do \
                  case $(readlink $p/exe) in */busybox) ;; ?*) grep ^Pss: $p/smaps_rollup;; esac; \
                  done; echo .; done";
    let text = device.sh_within(script, SOON);
    let sum = |look: &str| -> f64 {
        look.lines().filter_map(|l| l.split_whitespace().nth(1)).map(number).sum()
    };
    text.split('.').map(sum).filter(|sum| 0.0 < *sum).fold(f64::INFINITY, f64::min)
}

/// Waits until nothing is written any more: a file system that was just made is completed in the background.
/// Returns the kernel's version.
fn settle(device: &Device) -> String {
    device.sh("sync");
    let same = "a=; b=1; while [ \"$a\" != \"$b\" ]; do a=$b; sleep 30; b=$(cut -c1-200 /sys/block/vd?/stat); done";
    device.sh_within(same, Duration::from_secs(400));
    device.sh("uname -r")
}

/// Written to all disks since the boot, in sectors of 512 bytes.
fn sectors(device: &Device) -> u64 {
    let text = device.sh("cat /sys/block/vd?/stat");
    text.lines().map(|l| l.split_whitespace().nth(6).unwrap().parse::<u64>().unwrap()).sum()
}

fn number(text: &str) -> f64 {
    text.parse().unwrap_or_else(|_| panic!("no number: {text}"))
}

fn seconds(value: f64) -> String {
    format!("{value:.1}")
}

fn spread(values: &[f64]) -> String {
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let most = values.iter().copied().fold(0.0, f64::max);
    format!("{:.2} ({least:.2}–{most:.2} in {})", median(values), values.len())
}
