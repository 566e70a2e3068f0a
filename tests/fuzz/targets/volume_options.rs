//! Options of a volume of the driver `local`, which may name any place of the host: what is made
//! of them keeps to the owner's folders, and what is refused says where it was asked for.

#![expect(clippy::expect_used, reason = "the fuzzer reports a panic")]

use std::collections::BTreeMap;

use edgeagent::{
    model::{
        ContainerId, ContainerSpec, DnsConfig, Driver, ImageConfig, LocalImage, Mount, MountKind,
        MountSource, NodeId, Platform, Policy, Propagation, ResourceLimits, Runtime, ServiceId,
        Task, TaskId, TaskState, TaskStatus, VolumeOptions,
    },
    spec::{self, Files, NodeFacts},
};

/// Name of the volume, `type`, `o`, `device`, target and one more option, split at zero bytes.
pub fn run(data: &[u8]) {
    let Ok(text) = core::str::from_utf8(data) else { return };
    let mut parts = text.splitn(6, '\0');
    let mut next = || parts.next().unwrap_or_default().to_owned();
    let (name, kind, words, device, target) = (next(), next(), next(), next(), next());
    let more = next();
    let mut options = BTreeMap::new();
    for (key, value) in [("type", kind), ("o", words), ("device", device)] {
        if !value.is_empty() {
            options.insert(key.to_owned(), value);
        }
    }
    if let Some((key, value)) = more.split_once('=') {
        options.insert(key.to_owned(), value.to_owned());
    }
    let target = if target.is_empty() { "/volume".to_owned() } else { target };
    let task = task(name, options, target);
    let container = ContainerId::new(&"0123456789abcdef".repeat(4)).expect("an identifier");
    let first = build(&task, &container);
    assert!(first == build(&task, &container), "the same options give the same mount");
    match first {
        Ok(mounts) => {
            for (source, propagation) in mounts {
                let parts: Vec<&str> = source.split('/').skip(1).collect();
                let plain = |part: &&str| !matches!(*part, "" | "." | "..") && !part.contains('\0');
                assert!(parts.iter().all(plain), "{source:?}");
                assert_eq!(parts.first(), Some(&"srv"), "{source:?}");
                assert_eq!(propagation, Propagation::RPrivate);
            }
        }
        Err(text) => assert!(text.contains("; --mount"), "{text}"),
    }
}

/// The places of the host that the container would see.
fn build(task: &Task, container: &ContainerId) -> Result<Vec<(String, Propagation)>, String> {
    let platform =
        Platform { os: "linux".into(), architecture: "arm64".into(), variant: String::new() };
    let config = ImageConfig { cmd: Some(vec!["sh".to_owned()]), ..ImageConfig::default() };
    let (manifest, id, layers) = (String::new(), String::new(), Vec::new());
    let image = LocalImage { manifest, id, platform, layers, size_bytes: 0, config };
    let bundle = spec::build(task, container, &image, &node(), None, Files::Unchecked)
        .map_err(|error| error.to_string())?;
    let bind = |mount: edgeagent::model::BundleMount| match mount.kind {
        MountKind::Bind { source, propagation, .. } => {
            Some((source.to_string_lossy().into_owned(), propagation))
        }
        MountKind::Volume { source, .. } => {
            assert!(source.starts_with("/data/volumes"), "{source:?}");
            None
        }
        MountKind::Tmpfs { .. } => None,
    };
    Ok(bundle.mounts.into_iter().filter_map(bind).collect())
}

fn task(name: String, options: BTreeMap<String, String>, target: String) -> Task {
    let driver = Some(Driver { name: "local".to_owned(), options });
    let options = VolumeOptions { driver, ..VolumeOptions::default() };
    let source = MountSource::Volume { name, options };
    let mounts = vec![Mount { source, target, read_only: false }];
    let spec = ContainerSpec { image: "img".to_owned(), mounts, ..ContainerSpec::default() };
    Task {
        id: TaskId::new("task").expect("an identifier"),
        service_id: ServiceId::new("service").expect("an identifier"),
        slot: 1,
        node_id: NodeId::new("node").expect("an identifier"),
        name: String::new(),
        labels: BTreeMap::new(),
        service_name: "web".to_owned(),
        service_labels: BTreeMap::new(),
        status: TaskStatus::default(),
        desired_state: TaskState::Running,
        networks: Vec::new(),
        ports: Vec::new(),
        log_driver: None,
        generic_resources: Vec::new(),
        runtime: Runtime::Container(Box::new(spec)),
        limits: ResourceLimits::default(),
    }
}

fn node() -> NodeFacts {
    NodeFacts {
        hostname: "pi".into(),
        architecture: "aarch64".into(),
        os: "linux".into(),
        data_root: "/data".into(),
        exec_root: "/run/e".into(),
        cpus: 2,
        cgroup_parent: "edgeagent".into(),
        default_ulimits: Vec::new(),
        dns: DnsConfig::default(),
        resolv_conf: String::new(),
        default_init: false,
        log_max_bytes: 1 << 20,
        policy: Policy { bind_sources: Some(vec!["/srv".to_owned()]), ..Policy::default() },
        memory_controller: true,
        kernel: (6, 1),
    }
}
