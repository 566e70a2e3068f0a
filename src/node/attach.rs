//! A task's place on the network: what the spec wants, the node's bridge, and the task's folder
//! put together.

use std::{collections::BTreeMap, fs, io::Read as _, net::IpAddr, os::fd::OwnedFd};

use super::perform::{Context, task_dir};
use crate::{
    agent::Agent,
    config::Config,
    limits::RESOLV_CONF_MAX_BYTES,
    model::{ContainerId, PublishMode, ResolvConf, Task, TaskId, chain},
    net::{Lease, Network},
    spec,
};

/// The bridge, with the leases of all containers that may run since an earlier agent.
pub(super) fn network(config: &Config, agent: &Agent) -> Network {
    let running = agent.records().filter(|record| !record.status.state.is_terminal());
    let leases: BTreeMap<TaskId, Lease> = running
        .filter_map(|record| {
            let task = &record.task.id;
            Lease::read(&task_dir(&config.exec_root, task)).map(|lease| (task.clone(), lease))
        })
        .collect();
    let network = Network::new(config.bridge.clone(), leases);
    if let Err(error) = network.restore() {
        log::warn!("the network of containers can not be restored: {}", chain(&error));
    }
    network
}

/// Whether the task can have the network that it asks for, before anything else is done for it.
pub(super) fn check(context: &Context, task: &Task) -> Result<(), String> {
    if !spec::bridged(task).map_err(|error| chain(&error))? {
        return Ok(());
    }
    let network = context.network.borrow();
    if network.enabled() {
        return network.ready().map_err(|error| chain(&error));
    }
    if task.ports.iter().any(|port| port.mode == PublishMode::Host) {
        return Err(String::from(
            "--publish mode=host needs the bridge, which \"bridge\": \"none\" in agent.json \
             switches off: use --network host, or another node",
        ));
    }
    Ok(())
}

/// Gives the task's container its address and ports; nothing when it needs none. The sockets hold
/// the ports and belong to its shim.
pub(super) fn join(
    context: &Context,
    task: &Task,
    container: &ContainerId,
) -> Result<Option<(Lease, Vec<OwnedFd>)>, String> {
    let mut network = context.network.borrow_mut();
    if !spec::bridged(task).map_err(|error| chain(&error))? || !network.enabled() {
        return Ok(None);
    }
    network.lease(&task.id, &task.ports).map(Some).map_err(|error| {
        format!(
            "driver failed programming external connectivity on endpoint {} ({container}): {}",
            spec::container_name(task),
            chain(&error)
        )
    })
}

/// Where systemd-resolved says whom it asks itself.
const UPSTREAM: &str = "/run/systemd/resolve/resolv.conf";

/// The host's name servers, as they are at this moment; empty when there are none to read. For a
/// container with a network of its own, systemd-resolved's stub stands for those behind it (moby
/// `libnetwork/internal/resolvconf`, `Path`).
pub(super) fn resolv_conf(own_network: bool) -> String {
    let text = read("/etc/resolv.conf");
    if own_network && only_stub(&text) { read(UPSTREAM) } else { text }
}

fn only_stub(text: &str) -> bool {
    let stub = IpAddr::from([127, 0, 0, 53]);
    matches!(ResolvConf::read(text).nameservers[..], [only] if only.parse() == Ok(stub))
}

fn read(path: &str) -> String {
    let mut text = String::new();
    let read = fs::File::open(path)
        .and_then(|file| file.take(RESOLV_CONF_MAX_BYTES).read_to_string(&mut text));
    match read {
        Ok(_) => text,
        Err(error) => {
            log::debug!("cannot read {path}: {error}");
            String::new()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_lone_stub_stands_for_others() {
        assert!(only_stub("# x\nnameserver 127.0.0.53\noptions edns0\n"));
        for other in
            ["", "nameserver 127.0.0.1", "nameserver 127.0.0.53\nnameserver 9.9.9.9", "nameserver"]
        {
            assert!(!only_stub(other), "{other:?}");
        }
    }
}
