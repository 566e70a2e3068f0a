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
    let Some(world) = world() else { return };
    let name = format!("vm-{}", board.debian);
    let mut device = flash(&world, &name, DeviceOptions::of(board));
    device.boot();
    world.manager.await_node(&name, "ready", SOON);
    let id = node_id(&world, &name);
    if false {
        assert_eq!(device.sh("ls /etc/edgeagent"), "agent.json", "the join file is used up");
    }
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

#[test]
#[ignore = "make vm"]
fn sixty_four_megabytes_and_a_read_only_root_are_enough() {
    let Some(world) = world() else { return };
    let options = DeviceOptions { megabytes: 64, read_only_root: true, ..DeviceOptions::of(ARM64) };
    let mut device = flash(&world, "vm-small", options);
    device.boot();
    world.manager.await_node("vm-small", "ready", SOON);
    let id = node_id(&world, "vm-small");
    assert_ne!(
        device.sh("touch /etc/edgeagent/x 2>/dev/null; echo $?"),
        "0",
        "the root is read-only"
    );
    let service = runs(&world, &device, ARM64, "aarch64");
    service.remove();

    // The join file can not be removed there, and still is not used again.
    device.cut_power();
    device.boot();
    world.manager.await_node("vm-small", "ready", SOON);
    assert_eq!(device.status()["node_id"], id.as_str());
}

#[test]
#[ignore = "make vm"]
fn a_tpm_seals_the_identity() {
    let Some(world) = world() else { return };
    let options = DeviceOptions { tpm: true, ..DeviceOptions::of(ARM64) };
    let mut device = flash(&world, "vm-tpm", options);
    device.boot();
    world.manager.await_node("vm-tpm", "ready", SOON);
    let id = node_id(&world, "vm-tpm");
    assert_eq!(device.status()["seal"], "tpm2");

    device.cut_power();
    device.boot();
    world.manager.await_node("vm-tpm", "ready", SOON);
    assert_eq!(device.status()["node_id"], id.as_str());
}

#[test]
#[ignore = "make vm"]
fn a_clock_at_1970_costs_no_identity() {
    let Some(world) = world() else { return };
    let options = DeviceOptions { clock: Some("1970-01-01"), ..DeviceOptions::of(ARM64) };
    let mut device = flash(&world, "vm-clock", options);
    device.boot();
    wait_until("the agent to say that its clock is wrong", SOON, || {
        device.status()["state"] == "clock-wrong"
    });
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    device.sh(&format!("date -s @{}", now.as_secs()));
    world.manager.await_node("vm-clock", "ready", SOON);
    let id = node_id(&world, "vm-clock");

    device.cut_power();
    device.boot();
    world.manager.await_node("vm-clock", "down", SOON);
    device.sh(&format!("date -s @{}", now.as_secs() + 60));
    world.manager.await_node("vm-clock", "ready", SOON);
    assert_eq!(device.status()["node_id"], id.as_str());
}
