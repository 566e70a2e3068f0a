//! Turns a task, its image and this node into a bundle.
//!
//! Pure: no IO, no clock, no randomness; the same input gives the same bundle, so that a bundle
//! can be made again after a restart. The rules are those of dockerd's executor (moby
//! `daemon/cluster/executor/container/`, `daemon/`), read at 28.5. What this node can not do is
//! an error that says so: nothing of a spec is silently ignored. Labels of the container are the
//! exception: nothing on this node shows them.
//!
//! Whether bind sources, users and groups exist is for the runner to find out.

mod admission;
mod error;
mod expand;
mod field;
mod files;
mod health;
mod local_volume;
mod log;
mod mounts;
mod names;
mod process;
mod refuse;
mod resources;
mod seccomp;
mod security;
mod signal;
pub mod template;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

pub use admission::{admit_bind, admit_image};
pub use error::SpecError;
pub use field::Field;
pub use files::Files;
pub use log::log_attributes;
#[doc(hidden)]
pub use seccomp::build as seccomp_profile;

use crate::model::{
    Bundle, ContainerId, ContainerSpec, DnsConfig, Endpoint, LocalImage, NetworkMode, Policy,
    RootFs, Runtime, Seccomp, SeccompChoice, Task, Ulimit,
};

/// What a bundle takes from the node.
#[derive(Clone, Debug)]
pub struct NodeFacts {
    /// Host name: `.Node.Hostname`, and the name inside with host networking.
    pub hostname: String,
    /// As reported to the managers: `.Node.Platform.Architecture`.
    pub architecture: String,
    /// As reported to the managers: `.Node.Platform.OS`.
    pub os: String,
    /// `data-root`.
    pub data_root: PathBuf,
    /// `exec-root`.
    pub exec_root: PathBuf,
    /// CPUs that are online.
    pub cpus: u32,
    /// Parent of all containers' cgroups.
    pub cgroup_parent: String,
    /// `default-ulimits`.
    pub default_ulimits: Vec<Ulimit>,
    /// `dns`, `dns-search`, `dns-opts`.
    pub dns: DnsConfig,
    /// Content of the host's `/etc/resolv.conf`, or of what it stands for, for what neither task
    /// nor node say.
    pub resolv_conf: String,
    /// Run an init when the spec does not say.
    pub default_init: bool,
    /// Bytes that the log of one task may hold.
    pub log_max_bytes: u64,
    /// The owner's rules.
    pub policy: Policy,
    /// Whether the kernel can limit memory here.
    pub memory_controller: bool,
    /// The kernel's version, for what is of use on newer ones only.
    pub kernel: (u32, u32),
}

/// Checks that this node can run the task at all, before anything is done for it.
///
/// # Errors
/// [`SpecError`]; the task is to be rejected.
pub fn check(task: &Task, node: &NodeFacts) -> Result<(), SpecError> {
    let spec = container_spec(task)?;
    image(task)?;
    mounts::validate(&spec.mounts)?;
    refuse::check(task, spec)?;
    admission::check(&node.policy, spec, !bridged(task)?)?;
    seccomp(spec, node)?;
    let expanded = expand::expand(task, spec, node)?;
    mounts::admit(&expanded.mounts, &node.policy)?;
    admission::sysctls(&node.policy, security::parameters(&spec.sysctls)?.keys())?;
    resources::enforced(resources::memory(task.limits.memory_bytes)?, node)?;
    Ok(())
}

/// The reference of the task's image.
///
/// # Errors
/// [`SpecError`] when it has none.
pub fn image(task: &Task) -> Result<&str, SpecError> {
    match container_spec(task)?.image.as_str() {
        "" => Err(SpecError::NoImage),
        image => Ok(image),
    }
}

/// Whether the task's container belongs on the node's bridge.
///
/// # Errors
/// [`SpecError`] when it asks for a network that this node does not have.
pub fn bridged(task: &Task) -> Result<bool, SpecError> {
    refuse::bridged(task)
}

/// Why there is no image to run; `reason` is what came of a pull.
#[must_use]
pub fn no_image(image: &str, reason: Option<&str>) -> SpecError {
    SpecError::NotHere { image: image.to_owned(), reason: reason.map(str::to_owned) }
}

/// Why a bind mount of `path` is refused when there is nothing; `reason` is Docker's text.
#[must_use]
pub fn no_source(path: &str, reason: &'static str) -> SpecError {
    SpecError::NoSource { reason, path: path.to_owned() }
}

/// Why a device is refused that no class of this node offers.
#[must_use]
pub fn no_device(kind: &str, value: &str) -> SpecError {
    SpecError::NoDevice { kind: kind.to_owned(), value: value.to_owned() }
}

/// The container's name as Docker would give it; `.Task.Name` in templates.
#[must_use]
pub fn container_name(task: &Task) -> String {
    if !task.name.is_empty() {
        return task.name.clone();
    }
    format!("{}.{}.{}", task.service_name, slot(task), task.id)
}

/// The bundle of a task. `image` belongs to [`image()`]; with [`Files::Unchecked`] everything is
/// checked but the secrets and configs are left out. A container that belongs on the bridge and
/// has no `endpoint` there gets loopback only.
///
/// # Errors
/// [`SpecError`], also for what [`check`] refuses.
pub fn build(
    task: &Task,
    container: &ContainerId,
    image: &LocalImage,
    node: &NodeFacts,
    endpoint: Option<Endpoint>,
    files: Files<'_>,
) -> Result<Bundle, SpecError> {
    check(task, node)?;
    let spec = container_spec(task)?;
    let expanded = expand::expand(task, spec, node)?;
    let network = match (bridged(task)?, endpoint) {
        (false, _) => NetworkMode::Host,
        (true, None) => NetworkMode::Isolated,
        (true, Some(endpoint)) => NetworkMode::Bridge(endpoint),
    };
    let hostname = names::hostname(&expanded.hostname, network, container, node)?;
    let own_signal = &spec.stop_signal;
    if !own_signal.is_empty() && signal::parse(own_signal).is_none() {
        return Err(SpecError::invalid(Field::StopSignal, format!("invalid signal: {own_signal}")));
    }
    let user = process::or(&spec.user, &image.config.user);
    admission::user(&node.policy, &user, &spec.groups)?;
    let (stop_signal, stop_grace_seconds) = stop(task, Some(image));
    let ulimits = resources::rlimits(&node.default_ulimits, &spec.ulimits)?;
    Ok(Bundle {
        task: task.id.clone(),
        container: container.clone(),
        dir: node.exec_root.join("tasks").join(task.id.as_str()),
        argv: process::argv(spec, &image.config)?,
        env: process::env(
            &expanded.env,
            spec.tty,
            &image.config,
            &hostname,
            &task.generic_resources,
        )?,
        cwd: process::cwd(&spec.dir, &image.config.working_dir)?,
        user,
        groups: spec.groups.clone(),
        hostname,
        root: RootFs {
            layers: image.layers.clone(),
            writable: node.data_root.join("containers").join(task.id.as_str()),
            read_only: spec.read_only,
        },
        mounts: mounts::build(&expanded.mounts, &image.config, container, node)?,
        devices: Vec::new(),
        files: files::build(task, spec, node, &expanded.env, files)?,
        hosts: names::hosts(&spec.hosts, network)?,
        resolv_conf: names::resolv_conf(&spec.dns, network, node)?,
        network,
        capabilities: admission::capabilities(&node.policy, spec)?,
        seccomp: seccomp(spec, node)?,
        apparmor: !spec.privileges.apparmor_disabled,
        // Who may start as some users only must not become others by a set-id program.
        no_new_privileges: spec.privileges.no_new_privileges
            || node.policy.no_new_privileges
            || node.policy.users.is_some(),
        users: node.policy.users.clone(),
        memory_bytes: resources::enforced(resources::memory(task.limits.memory_bytes)?, node)?,
        nano_cpus: resources::cpus(task.limits.nano_cpus, node.cpus)?,
        pids: admission::pids(&node.policy, spec.pids_limit)?,
        cgroup_parent: node.cgroup_parent.clone(),
        rlimits: ulimits,
        oom_score_adj: admission::oom_score_adj(&node.policy, spec.oom_score_adj)?,
        sysctls: security::sysctls(&spec.sysctls, network)?,
        tty: spec.tty,
        open_stdin: spec.open_stdin,
        init: spec.init.unwrap_or(node.default_init),
        stop_signal,
        stop_grace_seconds,
        log_max_bytes: resources::log_bytes(task.log_driver.as_ref(), node.log_max_bytes)?,
        health: health::build(spec.health.as_ref(), &image.config)?,
    })
}

fn seccomp(spec: &ContainerSpec, node: &NodeFacts) -> Result<Seccomp, SpecError> {
    match &spec.privileges.seccomp {
        SeccompChoice::Default => Ok(Seccomp::Default),
        SeccompChoice::Unconfined => Ok(Seccomp::Unconfined),
        SeccompChoice::Custom(profile) => {
            let capabilities = admission::capabilities(&node.policy, spec)?;
            seccomp::build(profile, capabilities, node.kernel)
        }
    }
}

/// How to stop the task: the first signal, and the seconds until SIGKILL (absent: wait for
/// ever). Without its image, the image's signal is not known.
#[must_use]
pub fn stop(task: &Task, image: Option<&LocalImage>) -> (i32, Option<u32>) {
    let spec = container_spec(task).ok();
    let own = spec.map_or("", |spec| &spec.stop_signal);
    let images = image.map_or("", |image| &image.config.stop_signal);
    let chosen = if own.is_empty() { images } else { own };
    let signal = signal::parse(chosen).unwrap_or(signal::SIGTERM);
    let grace = match spec.and_then(|spec| spec.stop_grace_seconds) {
        None => Some(signal::DEFAULT_GRACE_SECONDS),
        Some(negative) if negative < 0 => None,
        Some(seconds) => Some(u32::try_from(seconds).unwrap_or(u32::MAX)),
    };
    (signal, grace)
}

fn container_spec(task: &Task) -> Result<&ContainerSpec, SpecError> {
    match &task.runtime {
        Runtime::Container(spec) => Ok(spec),
        Runtime::Attachment => Err(SpecError::unsupported(
            Field::Runtime,
            "network attachments of containers that swarm does not manage",
            "start the container on another node",
        )),
        Runtime::Generic { kind } => Err(SpecError::Runtime { kind: kind.clone() }),
        Runtime::Unknown => Err(SpecError::Runtime { kind: String::new() }),
    }
}

/// The slot, or for a global service the node: `.Task.Slot`.
fn slot(task: &Task) -> String {
    match task.slot {
        0 => task.node_id.to_string(),
        slot => slot.to_string(),
    }
}

/// Whether the container has a network namespace of its own.
const fn private(network: NetworkMode) -> bool {
    match network {
        NetworkMode::Host => false,
        NetworkMode::Isolated | NetworkMode::Bridge(_) => true,
    }
}

/// Cleans an absolute path as Go's `path.Clean` does: no `.`, `..` or empty components.
fn clean(path: &str) -> String {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}
