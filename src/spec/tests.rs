use std::{collections::BTreeMap, net::Ipv4Addr};

use super::*;
use crate::model::{
    BindOptions, Cidr, Empty, FileReference, FileTarget, ImageConfig, Mount, MountKind,
    MountSource, NetworkAttachment, NodeId, Platform, ResourceLimits, Secret, SecretBytes,
    SecretId, ServiceId, TaskId, TaskState, TaskStatus, TmpfsOptions, VolumeOptions,
};

mod refusals;

fn s(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn task(spec: ContainerSpec) -> Task {
    Task {
        id: TaskId::new("task").unwrap(),
        service_id: ServiceId::new("svc").unwrap(),
        slot: 2,
        node_id: NodeId::new("node").unwrap(),
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
        runtime: Runtime::Container(Box::new(ContainerSpec { image: "img".to_owned(), ..spec })),
        limits: ResourceLimits::default(),
    }
}

fn local(config: ImageConfig) -> LocalImage {
    let platform =
        Platform { os: "linux".into(), architecture: "arm64".into(), variant: String::new() };
    let (manifest, id) = (String::new(), String::new());
    LocalImage { manifest, id, platform, layers: Vec::new(), size_bytes: 0, config }
}

fn sh() -> ImageConfig {
    ImageConfig { cmd: Some(s(&["sh"])), ..ImageConfig::default() }
}

fn node() -> NodeFacts {
    NodeFacts {
        policy: Policy::default(),
        memory_controller: true,
        kernel: (6, 1),
        hostname: "pi".into(),
        architecture: "aarch64".into(),
        os: "linux".into(),
        data_root: "/data".into(),
        exec_root: "/run/e".into(),
        cpus: 2,
        cgroup_parent: "edgeagent".into(),
        default_ulimits: Vec::new(),
        dns: DnsConfig::default(),
        resolv_conf: "nameserver 10.0.0.1\nsearch lan\n".into(),
        default_init: false,
        log_max_bytes: 1 << 20,
    }
}

fn container() -> ContainerId {
    ContainerId::new(&"0123456789abcdef".repeat(4)).unwrap()
}

fn made(task: &Task, config: ImageConfig) -> Result<Bundle, SpecError> {
    build(task, &container(), &local(config), &node(), None, Files::Unchecked)
}

fn host_network(mut task: Task) -> Task {
    task.networks.push(NetworkAttachment {
        network_id: "n".into(),
        name: "host".into(),
        driver: "host".into(),
        predefined: true,
        ingress: false,
    });
    task
}

#[test]
fn arguments_merge_as_in_docker() {
    let image = ImageConfig {
        entrypoint: Some(s(&["entry"])),
        cmd: Some(s(&["cmd"])),
        ..ImageConfig::default()
    };
    let table: [(&[&str], &[&str], &[&str]); 6] = [
        (&[], &[], &["entry", "cmd"]),
        (&[], &["a"], &["entry", "a"]),
        (&["c"], &[], &["c"]),
        (&["c"], &["a"], &["c", "a"]),
        (&[""], &["a"], &["a"]),
        (&[""], &[], &[]),
    ];
    for (command, args, expected) in table {
        let spec = ContainerSpec { command: s(command), args: s(args), ..ContainerSpec::default() };
        let argv = made(&task(spec), image.clone()).map(|bundle| bundle.argv);
        match expected {
            [] => assert_eq!(argv.unwrap_err(), SpecError::NoCommand),
            expected => assert_eq!(argv.unwrap(), s(expected)),
        }
    }
}

#[test]
fn the_environment_is_dockers() {
    let spec = ContainerSpec {
        env: s(&["A=spec", "T={{.Task.Name}}={{.Task.Slot}}", "GONE", "HOSTNAME"]),
        ..ContainerSpec::default()
    };
    let image =
        ImageConfig { env: Some(s(&["PATH=/bin", "A=image", "B=image", "GONE=1"])), ..sh() };
    let bundle = made(&task(spec), image).unwrap();
    assert_eq!(bundle.env, s(&["PATH=/bin", "A=spec", "T=web.2.task=2", "B=image"]));
    assert_eq!(bundle.hostname, "0123456789ab");
    let bundle =
        made(&task(ContainerSpec { tty: true, ..ContainerSpec::default() }), sh()).unwrap();
    assert_eq!(bundle.env.last().unwrap(), "TERM=xterm");
    let bad = ContainerSpec { env: s(&["=x"]), ..ContainerSpec::default() };
    let error = made(&task(bad), sh()).unwrap_err().to_string();
    assert!(error.starts_with("invalid environment variable: =x; --env "), "{error}");
}

#[test]
fn host_networking_takes_the_hosts_name_and_no_network_defaults() {
    let bundle = made(&host_network(task(ContainerSpec::default())), sh()).unwrap();
    assert_eq!((bundle.network, bundle.hostname.as_str()), (NetworkMode::Host, "pi"));
    assert!(bundle.sysctls.is_empty());
    assert_eq!(bundle.resolv_conf, None);
    let dns = DnsConfig { options: s(&["ndots:2"]), ..DnsConfig::default() };
    let spec = ContainerSpec { dns, ..ContainerSpec::default() };
    let text = made(&task(spec), sh()).unwrap().resolv_conf.unwrap();
    assert_eq!(text, "nameserver 10.0.0.1\nsearch lan\noptions ndots:2\n");
}

fn endpoint(v6: bool) -> Endpoint {
    let v4 = |last| Ipv4Addr::new(172, 17, 0, last);
    let v6 = v6.then(|| {
        let address = "fd00:7::2".parse().unwrap();
        (Cidr { address, prefix: 64 }, "fd00:7::1".parse().unwrap())
    });
    Endpoint {
        v4: Cidr { address: v4(2), prefix: 16 },
        gateway: v4(1),
        v6,
        mtu: 1500,
        isolated: false,
    }
}

#[test]
fn the_bridge_is_the_network_of_those_who_name_none_or_it() {
    let none = task(ContainerSpec::default());
    let mut bridge = host_network(none.clone());
    bridge.networks[0].name = "bridge".into();
    for task in [&none, &bridge] {
        assert!(bridged(task).unwrap());
        let files = Files::Unchecked;
        let endpoint = endpoint(false);
        let bundle =
            build(task, &container(), &local(sh()), &node(), Some(endpoint), files).unwrap();
        assert_eq!(bundle.network, NetworkMode::Bridge(endpoint));
        assert_eq!(bundle.hostname, "0123456789ab");
        assert_eq!(made(task, sh()).unwrap().network, NetworkMode::Isolated);
    }
    assert!(!bridged(&host_network(none)).unwrap());
}

#[test]
fn name_servers_that_only_the_host_reaches_are_left_out() {
    let own = |nameserver: &str| ContainerSpec {
        dns: DnsConfig { nameservers: s(&[nameserver]), ..DnsConfig::default() },
        ..ContainerSpec::default()
    };
    let public = "nameserver 8.8.8.8\nnameserver 8.8.4.4\n";
    let both = "nameserver 8.8.8.8\nnameserver 8.8.4.4\nnameserver 2001:4860:4860::8888\n\
                nameserver 2001:4860:4860::8844\n";
    for (host, v6, spec, expected) in [
        ("nameserver 10.0.0.1\n", false, None, "nameserver 10.0.0.1\n"),
        ("nameserver 127.0.0.1\nnameserver 10.0.0.1\n", false, None, "nameserver 10.0.0.1\n"),
        ("nameserver 127.0.0.53\n", false, None, public),
        ("", false, None, public),
        ("nameserver ::1\nsearch lan\n", true, None, &*format!("{both}search lan\n")),
        ("nameserver fd00::1\n", false, None, public),
        ("nameserver fd00::1\n", true, None, "nameserver fd00::1\n"),
        ("nameserver fe80::1%eth0\n", true, None, both),
        // Whoever asks for one gets it.
        ("nameserver 10.0.0.1\n", false, Some(own("127.0.0.1")), "nameserver 127.0.0.1\n"),
    ] {
        let node = NodeFacts { resolv_conf: host.into(), ..node() };
        let task = task(spec.unwrap_or_default());
        let (place, files) = (Some(endpoint(v6)), Files::Unchecked);
        let bundle = build(&task, &container(), &local(sh()), &node, place, files).unwrap();
        assert_eq!(bundle.resolv_conf.unwrap(), expected, "{host:?}");
    }
}

#[test]
fn other_lines_of_the_hosts_resolver_are_kept() {
    let host = "search old\ndomain lan\noptions ndots:1\nsortlist 10.0.0.0\noptions rotate\n\
                nameserver 10.0.0.1\n";
    let node = NodeFacts { resolv_conf: host.into(), ..node() };
    let (place, files) = (Some(endpoint(false)), Files::Unchecked);
    let of = |spec| {
        let bundle = build(&task(spec), &container(), &local(sh()), &node, place, files).unwrap();
        bundle.resolv_conf.unwrap()
    };
    assert_eq!(
        of(ContainerSpec::default()),
        "nameserver 10.0.0.1\nsearch lan\noptions ndots:1 rotate\nsortlist 10.0.0.0\n"
    );
    let dns = DnsConfig { search: s(&["."]), ..DnsConfig::default() };
    assert_eq!(
        of(ContainerSpec { dns, ..ContainerSpec::default() }),
        "nameserver 10.0.0.1\noptions ndots:1 rotate\nsortlist 10.0.0.0\n"
    );
}

#[test]
fn the_hosts_gateway_is_an_address() {
    let hosts = s(&["host-gateway host.docker.internal", "10.1.2.3 db"]);
    let spec = || ContainerSpec { hosts: hosts.clone(), ..ContainerSpec::default() };
    let name = String::from("host.docker.internal");
    let (place, files) = (Some(endpoint(true)), Files::Unchecked);
    let bundle = build(&task(spec()), &container(), &local(sh()), &node(), place, files).unwrap();
    assert_eq!(bundle.hosts.first(), Some(&(String::from("172.17.0.1"), name.clone())));
    let bundle = made(&host_network(task(spec())), sh()).unwrap();
    assert_eq!(bundle.hosts.first(), Some(&(String::from("127.0.0.1"), name)));
    let error = made(&task(spec()), sh()).unwrap_err().to_string();
    assert!(error.contains("host.docker.internal:host-gateway"), "{error}");
}

#[test]
fn mounts_are_cleaned_ordered_and_completed_from_the_image() {
    let mount = |source, target: &str| Mount { source, target: target.into(), read_only: false };
    let bind = MountSource::Bind { path: "/a/../b".into(), options: BindOptions::default() };
    let named =
        MountSource::Volume { name: "v{{.Task.Slot}}".into(), options: VolumeOptions::default() };
    let options =
        TmpfsOptions { mode: 0o1777, options: "[[\"exec\"]]".into(), ..TmpfsOptions::default() };
    let tmpfs = MountSource::Tmpfs { source: String::new(), options };
    let mounts = vec![mount(bind, "/x/y/./z/"), mount(named, "/vol"), mount(tmpfs, "/t")];
    let volumes = ["/vol/", "/anon"].map(|path| (path.to_owned(), Empty {}));
    let image = ImageConfig { volumes: Some(BTreeMap::from(volumes)), ..sh() };
    let task = task(ContainerSpec { mounts, ..ContainerSpec::default() });
    let built = made(&task, image.clone()).unwrap().mounts;
    let targets: Vec<_> = built.iter().map(|mount| mount.target.as_str()).collect();
    assert_eq!(targets, ["/anon", "/t", "/vol", "/x/y/z"]);
    let MountKind::Volume { source, anonymous: true, populate: true, .. } = &built[0].kind else {
        panic!("{:?}", built[0]);
    };
    assert_eq!(source.to_str().unwrap().len(), "/data/volumes//data".len() + 64);
    assert_eq!(
        built[1].kind,
        MountKind::Tmpfs { size_bytes: None, mode: Some(0o1777), exec: true, owner: None }
    );
    let source = "/data/volumes/v2/data".into();
    assert_eq!(
        built[2].kind,
        MountKind::Volume { source, subpath: String::new(), populate: true, anonymous: false }
    );
    assert!(
        matches!(&built[3].kind, MountKind::Bind { source, recursive: true, .. } if source.as_os_str() == "/b")
    );
    assert_eq!(made(&task, image).unwrap().mounts, built, "the same again");
}

#[test]
fn wrong_mounts_are_refused_with_dockers_texts() {
    let bind =
        |path: &str| MountSource::Bind { path: path.into(), options: BindOptions::default() };
    let volume =
        |name: &str| MountSource::Volume { name: name.into(), options: VolumeOptions::default() };
    let table = [
        (bind("/a"), "rel", "invalid mount target, must be an absolute path: rel"),
        (bind("a"), "/t", "invalid bind mount source, must be an absolute path: a"),
        (volume("/v"), "/t", "invalid volume mount source, must not be an absolute path: /v"),
        (
            volume("../v"),
            "/t",
            "create ../v: \"../v\" includes invalid characters for a local volume name",
        ),
        (volume("v"), "/t", "create v: volume name is too short"),
        (bind("/a"), "/x/..", "invalid mount config for type \"bind\": invalid specification"),
        (MountSource::Cluster, "/t", "this node runs edgeagent, which cannot do CSI"),
    ];
    for (source, target, text) in table {
        let mounts = vec![Mount { source, target: target.into(), read_only: false }];
        let spec = ContainerSpec { mounts, ..ContainerSpec::default() };
        let error = made(&task(spec), sh()).unwrap_err().to_string();
        assert!(error.starts_with(text), "{error}");
    }
}

#[test]
fn a_subpath_stays_within_a_named_volume() {
    let with = |name: &str, subpath: &str| {
        let options = VolumeOptions { subpath: subpath.into(), ..VolumeOptions::default() };
        let source = MountSource::Volume { name: name.into(), options };
        let mounts = vec![Mount { source, target: "/t".into(), read_only: false }];
        made(&task(ContainerSpec { mounts, ..ContainerSpec::default() }), sh())
    };
    let built = with("vol", "a/b").unwrap().mounts;
    assert!(matches!(&built[0].kind, MountKind::Volume { subpath, .. } if subpath == "a/b"));
    for (name, subpath) in [("vol", "/a"), ("vol", "a/../.."), ("vol", "..")] {
        let error = with(name, subpath).unwrap_err().to_string();
        assert!(error.contains("subpath must be a relative path within the volume; "), "{error}");
    }
    let error = with("", "a").unwrap_err().to_string();
    assert!(error.contains("must not set Subpath when using anonymous volumes; "), "{error}");
}

#[test]
fn what_this_node_can_not_do_is_refused_by_name() {
    let default = ContainerSpec::default;
    let mut tasks = vec![(task(ContainerSpec { isolation: true, ..default() }), "isolation")];
    for (ingress, option) in [(true, "mode=ingress"), (false, "--network lan (driver host)")] {
        let mut other = host_network(task(default()));
        other.networks[0] =
            NetworkAttachment { name: "lan".into(), ingress, ..other.networks[0].clone() };
        tasks.push((other, option));
    }
    for (task, option) in tasks {
        let error = check(&task, &node()).unwrap_err().to_string();
        assert!(error.contains(option), "{error}");
    }
}

#[test]
fn secrets_appear_where_they_should_and_only_when_known() {
    let id = SecretId::new("sec").unwrap();
    let target = FileTarget { name: "pw".into(), uid: "1".into(), gid: "2".into(), mode: 0o444 };
    let file = |target| FileReference { id: id.clone(), name: "n".into(), file: Some(target) };
    let with = |target| task(ContainerSpec { secrets: vec![file(target)], ..Default::default() });
    let container = ContainerId::new("c").unwrap();
    let text =
        b"{{.Task.Slot}} {{.Node.Hostname}} {{.Node.Platform.OS}}/{{.Node.Platform.Architecture}}"
            .to_vec();
    let data = Some(SecretBytes::new(text));
    let secret = Secret { id: id.clone(), name: "n".into(), data, templating: "golang".into() };
    let known = |_: &SecretId| Some(&secret);
    let files = Files::Given { secret: &known, config: &|_| None };
    let bundle =
        build(&with(target.clone()), &container, &local(sh()), &node(), None, files).unwrap();
    let [file] = bundle.files.as_slice() else { panic!() };
    assert_eq!((file.target.as_str(), file.uid, file.gid), ("/run/secrets/pw", 1, 2));
    let facts = node();
    let (hostname, os, architecture) = (&facts.hostname, &facts.os, &facts.architecture);
    let filled = format!("2 {hostname} {os}/{architecture}");
    assert!(!hostname.is_empty() && !os.is_empty() && !architecture.is_empty());
    assert_eq!(file.data.expose(), filled.as_bytes(), "dockerd leaves the node's fields empty");
    let files = Files::Given { secret: &|_| None, config: &|_| None };
    let error =
        build(&with(target.clone()), &container, &local(sh()), &node(), None, files).unwrap_err();
    let text = "unable to get secret from secret store: secret sec not found";
    assert!(error.to_string().starts_with(text), "{error}");
    assert!(made(&with(target.clone()), sh()).unwrap().files.is_empty());
    assert!(made(&with(FileTarget { uid: "root".into(), ..target }), sh()).is_err());
}

#[test]
fn stopping_follows_spec_then_image_then_default() {
    let image = local(ImageConfig { stop_signal: "SIGQUIT".into(), ..sh() });
    let with = |signal: &str, grace| {
        let stop_signal = signal.to_owned();
        task(ContainerSpec { stop_signal, stop_grace_seconds: grace, ..Default::default() })
    };
    assert_eq!(stop(&with("", None), None), (15, Some(10)));
    assert_eq!(stop(&with("", Some(0)), Some(&image)), (3, Some(0)));
    assert_eq!(stop(&with("USR1", Some(-1)), Some(&image)), (10, None));
    assert!(made(&with("NOPE", None), sh()).is_err());
}

#[test]
fn a_limit_that_the_kernel_can_not_enforce_is_dropped_or_refused_by_policy() {
    let mut task = task(ContainerSpec::default());
    task.limits.memory_bytes = 64 << 20;
    let facts = NodeFacts { memory_controller: false, ..node() };
    let bundle =
        |facts: &NodeFacts| build(&task, &container(), &local(sh()), facts, None, Files::Unchecked);
    assert_eq!(bundle(&node()).unwrap().memory_bytes, Some(64 << 20));
    assert_eq!(bundle(&facts).unwrap().memory_bytes, None);
    let policy = Policy { reject_unenforced: true, ..Policy::default() };
    let strict = NodeFacts { policy, ..facts };
    assert_eq!(bundle(&strict).unwrap_err(), SpecError::NoMemoryController);
    assert_eq!(check(&task, &strict).unwrap_err(), SpecError::NoMemoryController);
}

#[test]
fn the_owners_rules_shape_the_bundle() {
    let policy = Policy {
        capabilities: Some(0),
        withheld_capabilities: 1 << 13,
        no_new_privileges: true,
        oom_score_min: Some(200),
        pids_max: Some(50),
        ..Policy::default()
    };
    let facts = NodeFacts { policy, ..node() };
    let of = |spec, image| {
        build(&task(spec), &container(), &local(image), &facts, None, Files::Unchecked)
    };
    let bundle = of(ContainerSpec::default(), sh()).unwrap();
    assert_eq!(bundle.capabilities, 0xa804_25fb & !(1 << 13));
    assert!(bundle.no_new_privileges);
    assert_eq!((bundle.oom_score_adj, bundle.pids), (200, Some(50)));
    let plain = made(&task(ContainerSpec::default()), sh()).unwrap();
    assert!(!plain.no_new_privileges);
    assert_eq!((plain.oom_score_adj, plain.pids), (0, None));
    assert_eq!(plain.capabilities, 0xa804_25fb);
}

#[test]
fn a_volume_that_stands_for_a_folder_is_held_to_the_rules_of_binds() {
    let policy = Policy { bind_sources: Some(vec!["/srv".into()]), ..Policy::default() };
    let facts = NodeFacts { policy, ..node() };
    let checked = |device: &str, words: &str| {
        let options = [("type", "none"), ("o", words), ("device", device)];
        let options = options.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        let driver = Some(crate::model::Driver { name: "local".into(), options });
        let options = VolumeOptions { driver, ..VolumeOptions::default() };
        let source = MountSource::Volume { name: "vol".into(), options };
        let mounts = vec![Mount { source, target: "/x".into(), read_only: false }];
        let task = task(ContainerSpec { mounts, ..ContainerSpec::default() });
        check(&task, &facts).map_err(|error| error.to_string())
    };
    assert_eq!(checked("/srv/a", "bind,ro"), Ok(()));
    assert_eq!(checked("/srv/../srv/a", "bind"), Ok(()));
    for (device, words) in [("/etc", "bind,ro"), ("/srv/../etc", "rbind"), ("/srv2", "bind")] {
        let error = checked(device, words).unwrap_err();
        assert!(error.contains("(rule admission.bind-sources)"), "{error}");
    }
    let node = node();
    let mounts = |words: &str, read_only| {
        let options = [("type", "none"), ("o", words), ("device", "/srv")];
        let options = options.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        let driver = Some(crate::model::Driver { name: "local".into(), options });
        let options = VolumeOptions { driver, ..VolumeOptions::default() };
        let source = MountSource::Volume { name: "vol".into(), options };
        let mount = Mount { source, target: "/x".into(), read_only };
        mounts::build(&[mount], &sh(), &container(), &node).unwrap()[0].read_only
    };
    assert!(mounts("bind,ro", false) && mounts("bind", true) && !mounts("bind", false));
}

#[test]
fn log_options_name_labels_and_variables_that_lines_carry() {
    let attributes = |options: &[(&str, &str)], with_image: bool| {
        let options = options.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let name = "json-file".to_owned();
        let labels = [("team", "roof"), ("own", "spec"), ("com.docker.swarm.task.id", "forged")];
        let labels = labels.map(|(k, v)| (k.to_owned(), v.to_owned())).into();
        let spec = ContainerSpec {
            labels,
            env: s(&["A=spec", "T={{.Task.Slot}}", "BIG="]),
            ..ContainerSpec::default()
        };
        let log_driver = Some(crate::model::Driver { name, options });
        let task = Task { log_driver, ..task(spec) };
        let labels = [("own", "image"), ("vendor", "image")];
        let config = ImageConfig {
            labels: Some(labels.map(|(k, v)| (k.to_owned(), v.to_owned())).into()),
            env: Some(s(&["A=image", "B=image"])),
            ..sh()
        };
        let image = local(config);
        let found = log_attributes(&task, with_image.then_some(&image), &node());
        found.into_iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>()
    };
    assert_eq!(attributes(&[("max-size", "1m")], true), s(&[]));
    assert_eq!(
        attributes(&[("labels", "team,own,vendor,none")], true),
        s(&["own=spec", "team=roof", "vendor=image"])
    );
    assert_eq!(attributes(&[("labels", "vendor,own")], false), s(&["own=spec"]));
    assert_eq!(attributes(&[("env", "T,A,B,NONE,")], true), s(&["A=spec", "B=image", "T=2"]));
    assert_eq!(attributes(&[("env", "B,BIG"), ("labels", "")], false), s(&["BIG="]));
    assert_eq!(attributes(&[("env", "PATH,HOSTNAME")], true), s(&[]), "what every container has");
    let system = "com.docker.swarm.task.id,com.docker.swarm.service.name";
    assert_eq!(
        attributes(&[("labels", system), ("env", "A")], true),
        s(&["A=spec", "com.docker.swarm.service.name=web", "com.docker.swarm.task.id=task"])
    );
    // The rest means nothing here.
    assert_eq!(
        attributes(&[("labels-regex", ".*"), ("env-regex", "."), ("tag", "x")], true),
        s(&[])
    );
}

#[test]
fn what_lines_carry_has_a_bound() {
    let long = |letter: &str| letter.repeat(3000);
    let env = vec![format!("A={}", long("a")), format!("B={}", long("b")), "C=c".to_owned()];
    let options = BTreeMap::from([("env".to_owned(), "A,B,C".to_owned())]);
    let log_driver = Some(crate::model::Driver { name: String::new(), options });
    let task = Task { log_driver, ..task(ContainerSpec { env, ..ContainerSpec::default() }) };
    let names: Vec<String> =
        log_attributes(&task, None, &node()).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["A", "C"]);
}
