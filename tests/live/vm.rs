//! edgeagent on ARM: a device is flashed, booted in qemu, joins a real dockerd manager and runs its services.
//!
//! `make vm`. Every boot is bounded; the device's console and its agent's log are shown when a test fails.

use std::time::Duration;

use crate::fixture::{
    ARM64, ARMV7, Board, Device, DeviceOptions, Service, World, image, wait_until, world,
};

/// Emulation is some ten times slower than a device, and the machine is shared.
const SOON: Duration = Duration::from_secs(90);

const GREET: &str = "echo hello from $(uname -m); trap 'exit 0' TERM; while :; do sleep 1; done";

fn flash(world: &World, name: &str, options: DeviceOptions) -> Device {
    Device::flash(world, name, options, &world.manager.token("worker"))
}

fn node_id(world: &World, name: &str) -> String {
    let node = world.manager.node(name).unwrap();
    node["ID"].as_str().unwrap().to_owned()
}

/// Starts a service on a device and reads what it says.
fn runs<'a>(world: &'a World, device: &Device, board: Board, machine: &str) -> Service<'a> {
    let image = image(world, board);
    let name = device.host.name.clone();
    let service = Service::create(&world.manager, &name, &name, &[&image, "sh", "-c", GREET]);
    service.await_running(1, SOON);
    service.await_log(&format!("hello from {machine}"), SOON);
    service
}

fn a_device_joins_works_and_survives_a_power_cut(board: Board, machine: &str) {
    let world = world();
    let name = format!("vm-{}", board.debian);
    let mut device = flash(&world, &name, DeviceOptions::of(board));
    device.boot();
    world.manager.await_node(&name, "ready", SOON);
    let id = node_id(&world, &name);
    assert_eq!(device.sh("ls /etc/edgeagent"), "agent.json", "the join file is used up");
    let service = runs(&world, &device, board, machine);

    device.cut_power();
    world.manager.await_node(&name, "down", SOON);
    device.boot();
    world.manager.await_node(&name, "ready", SOON);
    assert_eq!(node_id(&world, &name), id);
    service.await_running(1, SOON);
    assert_eq!(device.status()["node_id"], id.as_str());
    assert_eq!(device.sh("netstat -ltun | grep -c ^[tu]"), "0", "nothing listens");
}

#[test]
#[ignore = "make vm"]
fn an_arm64_device_joins_works_and_survives_a_power_cut() {
    a_device_joins_works_and_survives_a_power_cut(ARM64, "aarch64");
}

#[test]
#[ignore = "make vm"]
fn an_armv7_device_joins_works_and_survives_a_power_cut() {
    a_device_joins_works_and_survives_a_power_cut(ARMV7, "armv7l");
}

/// One device with everything that makes small ones hard, so that it is booted twice and not eight times.
#[test]
#[ignore = "make vm"]
fn a_small_device_without_a_clock_keeps_its_identity_in_its_tpm() {
    let world = world();
    let options = DeviceOptions {
        megabytes: 64,
        read_only_root: true,
        clock: Some("1970-01-01"),
        tpm: true,
        ..DeviceOptions::of(ARM64)
    };
    let mut device = flash(&world, "vm-small", options);
    device.boot();
    wait_until("the joining agent to say that its clock is wrong", SOON, || {
        let status = device.status();
        status["state"] == "clock-wrong"
            && status["last_error"].as_str().is_some_and(|e| e.contains("this node's clock says"))
    });
    set_clock(&device);
    world.manager.await_node("vm-small", "ready", SOON);
    let id = node_id(&world, "vm-small");
    assert_eq!(device.status()["seal"], "tpm2");
    assert_ne!(device.sh("touch /etc/edgeagent/x 2>/dev/null; echo $?"), "0", "read-only root");
    let service = runs(&world, &device, ARM64, "aarch64");

    device.cut_power();
    world.manager.await_node("vm-small", "down", SOON);
    device.boot();
    wait_until("the member to say that its clock is wrong", SOON, || {
        device.status()["state"] == "clock-wrong"
    });
    set_clock(&device);
    world.manager.await_node("vm-small", "ready", SOON);
    service.await_running(1, SOON);
    // The join file could not be removed there, and still was not used again.
    assert_eq!(device.status()["node_id"], id.as_str());
}

fn set_clock(device: &Device) {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    device.sh(&format!("date -s @{}", now.as_secs()));
}
