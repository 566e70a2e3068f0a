//! Tasks of a hostile manager on their way to a bundle: refused with a reason, or a container that
//! stays where it belongs.

use edgeagent::{
    model::{
        Bundle, Change, ContainerId, DnsConfig, ImageConfig, LocalImage, MountKind, Platform,
        Policy, Task,
    },
    rpc,
    spec::{self, Files, NodeFacts},
};

/// Reads `data` as an AssignmentsMessage and builds each of its tasks.
pub fn run(data: &[u8]) {
    let Ok(set) = rpc::assignments(data) else { return };
    let (node, image) = (node(), image());
    let container = ContainerId::new(&"0123456789abcdef".repeat(4)).expect("an identifier");
    for change in set.changes {
        let Change::UpdateTask(task) = change else { continue };
        let build = || spec::build(&task, &container, &image, &node, None, Files::Unchecked);
        let first = build();
        assert!(first == build(), "a function of the task");
        match first {
            Ok(bundle) => {
                assert_eq!(spec::check(&task, &node), Ok(()));
                sound(&task, &bundle);
            }
            Err(fault) => assert!(!fault.to_string().is_empty()),
        }
        let _signal = spec::stop(&task, Some(&image));
        assert!(spec::container_name(&task).len() <= 3 * data.len() + 64);
    }
}

fn sound(task: &Task, bundle: &Bundle) {
    let inside = |path: &str| {
        path.starts_with('/') && path.split('/').all(|part| !matches!(part, "." | ".."))
    };
    assert_eq!(bundle.task, task.id);
    assert_eq!(bundle.dir.parent(), Some("/run/e/tasks".as_ref()));
    assert_eq!(bundle.root.writable.parent(), Some("/data/containers".as_ref()));
    assert!(!bundle.argv.is_empty() && bundle.cwd.starts_with('/'));
    assert!((-1000..=1000).contains(&bundle.oom_score_adj));
    assert!(bundle.env.iter().all(|pair| pair.contains('=')), "{:?}", bundle.env);
    for mount in &bundle.mounts {
        assert!(inside(&mount.target) && mount.target != "/", "{:?}", mount.target);
        match &mount.kind {
            MountKind::Volume { source, subpath, .. } => {
                let volume = source.strip_prefix("/data/volumes").expect("a volume's folder");
                assert_eq!(volume.components().count(), 2, "{source:?}");
                assert!(!subpath.starts_with('/') && !subpath.split('/').any(|p| p == ".."));
            }
            // Whether the owner admits it is asked of where its links lead, in `node`.
            MountKind::Bind { source, .. } => assert!(inside(&source.to_string_lossy())),
            MountKind::Tmpfs { .. } => {}
        }
    }
    for file in &bundle.files {
        assert!(inside(&file.target), "{:?}", file.target);
    }
    for (address, name) in &bundle.hosts {
        assert!(!format!("{address} {name}").contains(char::is_control), "{address} {name}");
    }
    let one_line = |name: &&String| !name.contains('/') && !name.contains("..");
    assert!(bundle.sysctls.keys().all(|name| one_line(&name)), "{:?}", bundle.sysctls);
}

fn image() -> LocalImage {
    let platform =
        Platform { os: "linux".into(), architecture: "arm64".into(), variant: String::new() };
    let config = ImageConfig { cmd: Some(vec!["sh".to_owned()]), ..ImageConfig::default() };
    let (manifest, id, layers) = (String::new(), String::new(), Vec::new());
    LocalImage { manifest, id, platform, layers, size_bytes: 0, config }
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
