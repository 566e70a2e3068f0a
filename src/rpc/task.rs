//! A task as the dispatcher sends it → the model.
//!
//! Lists of fat messages arrive as bytes and are counted before they are decoded
//! (`swarm.proto` says why). What can not be read costs the whole task: a container without one
//! of its mounts or secrets would be another container.

use prost::Message;

use super::{
    convert::{Dropped, id, map, ports, span, state, status, text, texts},
    proto,
};
use crate::{
    limits::TASK_MAX_LIST,
    model::{
        BindOptions, ConfigId, ContainerSpec, DnsConfig, Driver, FileReference, FileTarget,
        GenericResource, HealthSpec, IdError, Mount, MountSource, NetworkAttachment, NodeId,
        Privileges, Propagation, ResourceLimits, Runtime, SeccompChoice, SecretBytes, SecretId,
        ServiceId, Task, TaskId, TmpfsOptions, Ulimit, VolumeOptions,
    },
};

pub(super) fn task(wire: proto::Task) -> Result<Task, Dropped> {
    let spec = wire.spec.unwrap_or_default();
    let limits = spec.resources.and_then(|resources| resources.limits).unwrap_or_default();
    let annotations = wire.annotations.unwrap_or_default();
    let service = wire.service_annotations.unwrap_or_default();
    Ok(Task {
        id: id("task id", &wire.id, TaskId::new)?,
        service_id: id("service id", &wire.service_id, ServiceId::new)?,
        slot: wire.slot,
        node_id: id("node id", &wire.node_id, NodeId::new)?,
        name: text(annotations.name),
        labels: map(annotations.labels),
        service_name: text(service.name),
        service_labels: map(service.labels),
        status: status(wire.status.unwrap_or_default()),
        desired_state: state(wire.desired_state),
        networks: each("networks", wire.networks, |wire| Ok(network(wire)))?,
        ports: ports(wire.endpoint.unwrap_or_default().ports),
        log_driver: wire.log_driver.map(driver),
        generic_resources: wire
            .assigned_generic_resources
            .into_iter()
            .filter_map(generic_resource)
            .collect(),
        runtime: runtime(spec.runtime)?,
        limits: ResourceLimits { nano_cpus: limits.nano_cpus, memory_bytes: limits.memory_bytes },
    })
}

/// Decodes and converts a list whose elements are fat in memory.
fn each<M: Message + Default, T>(
    what: &'static str,
    list: Vec<Vec<u8>>,
    convert: impl Fn(M) -> Result<T, Dropped>,
) -> Result<Vec<T>, Dropped> {
    if TASK_MAX_LIST < list.len() {
        return Err(Dropped::TooMany(what));
    }
    list.into_iter()
        .map(|bytes| convert(M::decode(bytes.as_slice()).map_err(|_| Dropped::Undecodable)?))
        .collect()
}

fn generic_resource(wire: proto::GenericResource) -> Option<GenericResource> {
    use proto::generic_resource::Resource;
    Some(match wire.resource? {
        Resource::Named(named) => {
            GenericResource::Named { kind: text(named.kind), value: text(named.value) }
        }
        Resource::Discrete(discrete) => {
            GenericResource::Discrete { kind: text(discrete.kind), value: discrete.value }
        }
    })
}

fn driver(wire: proto::Driver) -> Driver {
    Driver { name: text(wire.name), options: map(wire.options) }
}

fn network(wire: proto::NetworkAttachment) -> NetworkAttachment {
    let network = wire.network.unwrap_or_default();
    let spec = network.spec.unwrap_or_default();
    let annotations = spec.annotations.unwrap_or_default();
    NetworkAttachment {
        network_id: text(network.id),
        name: text(annotations.name),
        driver: text(network.driver_state.unwrap_or_default().name),
        predefined: annotations
            .labels
            .iter()
            .any(|label| label.key == b"com.docker.swarm.predefined"),
        ingress: spec.ingress,
    }
}

fn runtime(wire: Option<proto::task_spec::Runtime>) -> Result<Runtime, Dropped> {
    Ok(match wire {
        Some(proto::task_spec::Runtime::Container(spec)) => {
            Runtime::Container(Box::new(container(spec)?))
        }
        Some(proto::task_spec::Runtime::Attachment(_)) => Runtime::Attachment,
        Some(proto::task_spec::Runtime::Generic(generic)) => {
            Runtime::Generic { kind: text(generic.kind) }
        }
        None => Runtime::Unknown,
    })
}

fn container(wire: proto::ContainerSpec) -> Result<ContainerSpec, Dropped> {
    let dns = wire.dns_config.unwrap_or_default();
    Ok(ContainerSpec {
        image: text(wire.image),
        labels: map(wire.labels),
        command: texts(wire.command),
        args: texts(wire.args),
        env: texts(wire.env),
        dir: text(wire.dir),
        user: text(wire.user),
        groups: texts(wire.groups),
        mounts: each("mounts", wire.mounts, |wire| Ok(mount(wire)))?,
        stop_grace_seconds: wire.stop_grace_period.map(|period| period.seconds),
        stop_signal: text(wire.stop_signal),
        registry_auth: SecretBytes::new(wire.pull_options.unwrap_or_default().registry_auth),
        secrets: each("secrets", wire.secrets, |wire| file("secret id", wire, SecretId::new))?,
        configs: each("configs", wire.configs, |wire| file("config id", wire, ConfigId::new))?,
        tty: wire.tty,
        open_stdin: wire.open_stdin,
        hostname: text(wire.hostname),
        dns: DnsConfig {
            nameservers: texts(dns.nameservers),
            search: texts(dns.search),
            options: texts(dns.options),
        },
        hosts: texts(wire.hosts),
        health: wire.healthcheck.map(|health| HealthSpec {
            test: texts(health.test),
            interval: span(health.interval),
            timeout: span(health.timeout),
            retries: u32::try_from(health.retries).unwrap_or(0),
            start_period: span(health.start_period),
            start_interval: span(health.start_interval),
        }),
        read_only: wire.read_only,
        privileges: privileges(wire.privileges.unwrap_or_default()),
        init: wire.init.map(|init| init.value),
        isolation: wire.isolation != 0,
        pids_limit: wire.pids_limit,
        sysctls: map(wire.sysctls),
        capability_add: texts(wire.capability_add),
        capability_drop: texts(wire.capability_drop),
        ulimits: wire
            .ulimits
            .into_iter()
            .map(|limit| Ulimit { name: text(limit.name), soft: limit.soft, hard: limit.hard })
            .collect(),
        oom_score_adj: wire.oom_score_adj,
    })
}

fn file<Id>(
    what: &'static str,
    wire: proto::FileReference,
    new: fn(&str) -> Result<Id, IdError>,
) -> Result<FileReference<Id>, Dropped> {
    Ok(FileReference {
        id: id(what, &wire.id, new)?,
        name: text(wire.name),
        file: wire.file.map(|file| FileTarget {
            name: text(file.name),
            uid: text(file.uid),
            gid: text(file.gid),
            mode: file.mode,
        }),
    })
}

fn mount(wire: proto::Mount) -> Mount {
    let source = match wire.r#type {
        0 => {
            let options = wire.bind_options.unwrap_or_default();
            MountSource::Bind {
                path: text(wire.source),
                options: BindOptions {
                    propagation: propagation(options.propagation),
                    nonrecursive: options.nonrecursive,
                    create_source: options.createmountpoint,
                },
            }
        }
        1 => {
            let options = wire.volume_options.unwrap_or_default();
            MountSource::Volume {
                name: text(wire.source),
                options: VolumeOptions {
                    no_copy: options.nocopy,
                    labels: map(options.labels),
                    // Managers send an empty one when nobody chose a driver.
                    driver: options
                        .driver_config
                        .map(driver)
                        .filter(|driver| *driver != Driver::default()),
                    subpath: text(options.subpath),
                },
            }
        }
        2 => {
            let options = wire.tmpfs_options.unwrap_or_default();
            MountSource::Tmpfs {
                source: text(wire.source),
                options: TmpfsOptions {
                    size_bytes: options.size_bytes,
                    mode: options.mode,
                    options: text(options.options),
                },
            }
        }
        3 => MountSource::NamedPipe,
        4 => MountSource::Cluster,
        number => MountSource::Unknown(number),
    };
    Mount { source, target: text(wire.target), read_only: wire.readonly }
}

/// Unknown ones are read as the default, under which nothing travels.
const fn propagation(number: i32) -> Propagation {
    match number {
        1 => Propagation::Private,
        2 => Propagation::RShared,
        3 => Propagation::Shared,
        4 => Propagation::RSlave,
        5 => Propagation::Slave,
        _ => Propagation::RPrivate,
    }
}

/// Managers send empty parts for options that nobody set, so only their content counts.
fn privileges(wire: proto::Privileges) -> Privileges {
    let seccomp = wire.seccomp.unwrap_or_default();
    Privileges {
        credential_spec: wire
            .credential_spec
            .is_some_and(|spec| spec != proto::CredentialSpec::default()),
        selinux: wire
            .selinux_context
            .is_some_and(|context| context != proto::SelinuxContext::default()),
        seccomp: match seccomp.mode {
            1 => SeccompChoice::Unconfined,
            2 => SeccompChoice::Custom(seccomp.profile),
            _ => SeccompChoice::Default,
        },
        apparmor_disabled: wire.apparmor.is_some_and(|apparmor| apparmor.mode == 1),
        no_new_privileges: wire.no_new_privileges,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire() -> proto::Task {
        proto::Task {
            id: b"task1".to_vec(),
            service_id: b"service1".to_vec(),
            node_id: b"node1".to_vec(),
            ..proto::Task::default()
        }
    }

    fn with(container: proto::ContainerSpec) -> proto::Task {
        let runtime = Some(proto::task_spec::Runtime::Container(container));
        proto::Task { spec: Some(proto::TaskSpec { runtime, resources: None }), ..wire() }
    }

    fn container_of(wire: proto::Task) -> ContainerSpec {
        let Runtime::Container(spec) = task(wire).unwrap().runtime else { panic!() };
        *spec
    }

    #[test]
    fn a_task_of_nothing_but_identifiers_is_a_task() {
        let task = task(wire()).unwrap();
        assert_eq!(task.runtime, Runtime::Unknown);
        assert!(task.networks.is_empty() && task.ports.is_empty() && task.log_driver.is_none());
    }

    #[test]
    fn text_that_is_no_utf8_costs_no_task() {
        let env = vec![b"A=\xff".to_vec()];
        let spec = container_of(with(proto::ContainerSpec { env, ..Default::default() }));
        assert_eq!(spec.env, ["A=\u{fffd}"]);
    }

    #[test]
    fn absent_and_empty_parts_are_told_apart() {
        let spec = container_of(with(proto::ContainerSpec::default()));
        assert_eq!((spec.init, spec.stop_grace_seconds, spec.health), (None, None, None));
        let spec = container_of(with(proto::ContainerSpec {
            init: Some(proto::BoolValue::default()),
            stop_grace_period: Some(proto::Duration::default()),
            healthcheck: Some(proto::HealthConfig { retries: -1, ..Default::default() }),
            privileges: Some(proto::Privileges {
                credential_spec: Some(proto::CredentialSpec::default()),
                selinux_context: Some(proto::SelinuxContext::default()),
                ..Default::default()
            }),
            ..Default::default()
        }));
        assert_eq!((spec.init, spec.stop_grace_seconds), (Some(false), Some(0)));
        assert_eq!(spec.health, Some(HealthSpec::default()));
        assert_eq!(spec.privileges, Privileges::default());
    }

    #[test]
    fn unknown_numbers_have_a_safe_meaning() {
        let mounts = vec![proto::Mount { r#type: 9, ..Default::default() }.encode_to_vec()];
        let spec = container_of(with(proto::ContainerSpec {
            mounts,
            privileges: Some(proto::Privileges {
                seccomp: Some(proto::SeccompOpts { mode: 9, profile: Vec::new() }),
                apparmor: Some(proto::ApparmorOpts { mode: 9 }),
                ..Default::default()
            }),
            ..Default::default()
        }));
        assert_eq!(spec.mounts.first().unwrap().source, MountSource::Unknown(9));
        assert_eq!(spec.privileges, Privileges::default());
        assert_eq!(propagation(9), Propagation::RPrivate);
    }

    #[test]
    fn a_container_that_would_lack_a_mount_or_secret_is_no_task() {
        let secret = proto::FileReference { id: b"../etc".to_vec(), ..Default::default() };
        for container in [
            proto::ContainerSpec { secrets: vec![secret.encode_to_vec()], ..Default::default() },
            proto::ContainerSpec { mounts: vec![b"\xff".to_vec()], ..Default::default() },
            proto::ContainerSpec {
                mounts: vec![Vec::new(); TASK_MAX_LIST + 1],
                ..Default::default()
            },
        ] {
            assert!(task(with(container)).is_err());
        }
    }
}
