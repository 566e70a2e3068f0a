//! Values with something in every field, for tests of what is stored.

use std::{collections::BTreeMap, time::Duration};

use edgeagent::model::{
    Availability, BindOptions, ConfigId, ContainerId, ContainerSpec, ContainerStatus, DnsConfig,
    Driver, FileReference, FileTarget, GenericResource, HealthSpec, Identity, Mount, MountSource,
    NetworkAttachment, NodeCertificate, NodeId, Peer, PendingCertificate, PortConfig, PortProtocol,
    Privileges, Propagation, PublishMode, ResourceLimits, Runtime, SeccompChoice, SecretBytes,
    SecretId, ServiceId, Task, TaskId, TaskRecord, TaskState, TaskStatus, TmpfsOptions, Ulimit,
    UnixTime, VolumeOptions,
};

/// An identity in which nothing is empty.
pub(crate) fn identity() -> Identity {
    let node_id = NodeId::new("ysevbt5ruttxqod79ng3wdzce").unwrap();
    Identity {
        token: SecretBytes::new(b"SWMTKN-1-digest-secret".to_vec()),
        seeds: vec!["manager.example:2377".into()],
        managers: vec![Peer { node_id: "manager1".into(), addr: "10.0.0.1:2377".into() }],
        root_ca: b"root bundle".to_vec(),
        availability: Availability::Drain,
        pending: Some(PendingCertificate {
            node_id: node_id.clone(),
            key: SecretBytes::new(b"pending private key".to_vec()),
            csr: b"request".to_vec(),
        }),
        certificate: Some(NodeCertificate {
            node_id,
            key: SecretBytes::new(b"current private key".to_vec()),
            chain: b"chain".to_vec(),
        }),
        time_floor: UnixTime::from_seconds(1_795_361_959),
        labels: [("site".to_owned(), "hut".to_owned())].into(),
        provisioned: Some([7; 32]),
        forget_token: true,
        replaces: Some(NodeId::new("2ivku8v2gvtg4").unwrap()),
        rejoined: Some(UnixTime::from_seconds(1_795_361_960)),
    }
}

/// A task record in which nothing is empty.
pub(crate) fn task_record(id: &str) -> TaskRecord {
    let port = PortConfig {
        protocol: PortProtocol::Udp,
        target: 53,
        published: 5353,
        mode: PublishMode::Host,
    };
    let status = TaskStatus {
        at: UnixTime::from_nanos(1_795_361_959_000_000_001),
        state: TaskState::Running,
        message: "started".into(),
        err: "none".into(),
        container: Some(ContainerStatus {
            id: ContainerId::new(&"c".repeat(64)).unwrap(),
            pid: 42,
            exit_code: 137,
        }),
        ports: vec![port.clone()],
    };
    TaskRecord {
        task: Task {
            id: TaskId::new(id).unwrap(),
            service_id: ServiceId::new("service1").unwrap(),
            slot: 3,
            node_id: NodeId::new("node1").unwrap(),
            name: "web.3".into(),
            labels: pair("task", "label"),
            service_name: "web".into(),
            service_labels: pair("service", "label"),
            status: status.clone(),
            desired_state: TaskState::Shutdown,
            networks: vec![NetworkAttachment {
                network_id: "network1".into(),
                name: "host".into(),
                driver: "host".into(),
                predefined: true,
                ingress: false,
            }],
            ports: vec![port],
            log_driver: Some(Driver { name: "json-file".into(), options: pair("max-size", "1m") }),
            generic_resources: vec![
                GenericResource::Named { kind: "gpu".into(), value: "UUID1".into() },
                GenericResource::Discrete { kind: "ssd".into(), value: 2 },
            ],
            runtime: Runtime::Container(Box::new(container_spec())),
            limits: ResourceLimits { nano_cpus: 500_000_000, memory_bytes: 64 << 20 },
        },
        status,
    }
}

fn container_spec() -> ContainerSpec {
    ContainerSpec {
        image: "alpine:3".into(),
        labels: pair("container", "label"),
        command: strings(&["/bin/sh"]),
        args: strings(&["-c", "true"]),
        env: strings(&["PASSWORD=hunter2"]),
        dir: "/work".into(),
        user: "nobody".into(),
        groups: strings(&["video"]),
        mounts: mounts(),
        stop_grace_seconds: Some(-1),
        stop_signal: "SIGINT".into(),
        registry_auth: SecretBytes::new(b"registry auth".to_vec()),
        secrets: vec![FileReference {
            id: SecretId::new("secret1").unwrap(),
            name: "key".into(),
            file: Some(FileTarget {
                name: "key".into(),
                uid: "1".into(),
                gid: "2".into(),
                mode: 0o400,
            }),
        }],
        configs: vec![FileReference {
            id: ConfigId::new("config1").unwrap(),
            name: "conf".into(),
            file: None,
        }],
        tty: true,
        open_stdin: true,
        hostname: "{{.Node.Hostname}}".into(),
        dns: DnsConfig {
            nameservers: strings(&["9.9.9.9"]),
            search: strings(&["example.com"]),
            options: strings(&["ndots:1"]),
        },
        hosts: strings(&["10.0.0.2 db"]),
        health: Some(HealthSpec {
            test: strings(&["CMD", "true"]),
            interval: Duration::from_secs(30),
            timeout: Duration::from_millis(1500),
            retries: 3,
            start_period: Duration::from_secs(1),
            start_interval: Duration::from_secs(2),
        }),
        read_only: true,
        privileges: Privileges {
            credential_spec: true,
            selinux: true,
            seccomp: SeccompChoice::Custom(b"{}".to_vec()),
            apparmor_disabled: true,
            no_new_privileges: true,
        },
        init: Some(true),
        isolation: true,
        pids_limit: 100,
        sysctls: pair("net.core.somaxconn", "128"),
        capability_add: strings(&["CAP_NET_ADMIN"]),
        capability_drop: strings(&["ALL"]),
        ulimits: vec![Ulimit { name: "nofile".into(), soft: 64, hard: -1 }],
        oom_score_adj: -500,
    }
}

fn mounts() -> Vec<Mount> {
    [
        MountSource::Bind {
            path: "/srv".into(),
            options: BindOptions {
                propagation: Propagation::RSlave,
                nonrecursive: true,
                create_source: true,
            },
        },
        MountSource::Volume {
            name: "data".into(),
            options: VolumeOptions {
                no_copy: true,
                labels: pair("volume", "label"),
                driver: Some(Driver { name: "local".into(), options: BTreeMap::new() }),
                subpath: "sub".into(),
            },
        },
        MountSource::Tmpfs {
            source: String::new(),
            options: TmpfsOptions {
                size_bytes: 4096,
                mode: 0o1777,
                options: "[[\"exec\"]]".into(),
            },
        },
        MountSource::NamedPipe,
        MountSource::Cluster,
        MountSource::Unknown(9),
    ]
    .map(|source| Mount { source, target: "/mnt".into(), read_only: true })
    .into()
}

fn pair(key: &str, value: &str) -> BTreeMap<String, String> {
    [(key.to_owned(), value.to_owned())].into()
}

fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}
