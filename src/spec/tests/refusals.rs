//! Every refusal, in the operator's words.

use super::*;
use crate::model::{ConfigId, Driver, HealthSpec, Privileges, Propagation};

/// A refusal of every field. The table is whole: [`Field::ALL`] is gone through below.
#[expect(clippy::too_many_lines, reason = "a table")]
fn refusal(field: Field) -> SpecError {
    let refused = |change: &dyn Fn(&mut ContainerSpec)| {
        let mut spec = ContainerSpec::default();
        change(&mut spec);
        made(&task(spec), sh()).unwrap_err()
    };
    let ruled = |policy: Policy, change: &dyn Fn(&mut ContainerSpec)| {
        let mut spec = ContainerSpec::default();
        change(&mut spec);
        let facts = NodeFacts { policy, ..node() };
        check(&task(spec), &facts).unwrap_err()
    };
    let mounted = |source: MountSource| {
        refused(&|spec| {
            let target = "/x".into();
            spec.mounts = vec![Mount { source: source.clone(), target, read_only: false }];
        })
    };
    let volume =
        |options: VolumeOptions| mounted(MountSource::Volume { name: "vol".into(), options });
    let pair = |key: &str, value: &str| BTreeMap::from([(key.to_owned(), value.to_owned())]);
    let healthy = |health: HealthSpec| refused(&|spec| spec.health = Some(health.clone()));
    let quick = core::time::Duration::from_nanos(1);
    let file = FileTarget { name: "/".into(), uid: "0".into(), gid: "0".into(), mode: 0 };
    let logged = |driver: Driver| {
        let task = Task { log_driver: Some(driver), ..task(ContainerSpec::default()) };
        made(&task, sh()).unwrap_err()
    };
    let networked = |ingress| {
        let mut task = host_network(task(ContainerSpec::default()));
        let odd = NetworkAttachment { name: "o".into(), ingress, ..task.networks[0].clone() };
        task.networks = vec![odd];
        check(&task, &node()).unwrap_err()
    };
    let limited =
        |limits| made(&Task { limits, ..task(ContainerSpec::default()) }, sh()).unwrap_err();
    let none = ResourceLimits::default();
    match field {
        Field::Image => no_image("img", None),
        Field::Command => {
            made(&task(ContainerSpec::default()), ImageConfig::default()).unwrap_err()
        }
        Field::Env => refused(&|spec| spec.env = s(&["=x"])),
        Field::Workdir => refused(&|spec| spec.dir = "x".into()),
        Field::User => {
            let policy = Policy { users: Some(vec![(1, 2)]), ..Policy::default() };
            let facts = NodeFacts { policy, ..node() };
            let task = task(ContainerSpec::default());
            let (container, image) = (container(), local(sh()));
            build(&task, &container, &image, &facts, None, Files::Unchecked).unwrap_err()
        }
        Field::Hostname => refused(&|spec| spec.hostname = "a b".into()),
        Field::Host => refused(&|spec| spec.hosts = s(&["nowhere name"])),
        Field::Dns => refused(&|spec| spec.dns.nameservers = s(&["x"])),
        Field::DnsSearch => refused(&|spec| spec.dns.search = s(&["a b"])),
        Field::DnsOption => refused(&|spec| spec.dns.options = s(&["a b"])),
        Field::Network => networked(false),
        Field::Publish => networked(true),
        Field::Mount => mounted(MountSource::Cluster),
        Field::Propagation => {
            let policy = Policy { propagation: Some(Vec::new()), ..Policy::default() };
            ruled(policy, &|spec| {
                let propagation = Propagation::RShared;
                let options = BindOptions { propagation, ..BindOptions::default() };
                let source = MountSource::Bind { path: "/srv".into(), options };
                spec.mounts = vec![Mount { source, target: "/x".into(), read_only: false }];
            })
        }
        Field::Tmpfs => {
            mounted(MountSource::Tmpfs { source: "x".into(), options: TmpfsOptions::default() })
        }
        Field::VolumeDriver => volume(VolumeOptions {
            driver: Some(Driver { name: "nfs".into(), ..Driver::default() }),
            ..VolumeOptions::default()
        }),
        Field::VolumeOption => volume(VolumeOptions {
            driver: Some(Driver { options: pair("type", "nfs"), ..Driver::default() }),
            ..VolumeOptions::default()
        }),
        Field::VolumeSubpath => {
            volume(VolumeOptions { subpath: "../x".into(), ..VolumeOptions::default() })
        }
        Field::Secret => refused(&|spec| {
            let id = SecretId::new("s").unwrap();
            spec.secrets = vec![FileReference { id, name: "n".into(), file: Some(file.clone()) }];
        }),
        Field::Config => refused(&|spec| {
            let id = ConfigId::new("c").unwrap();
            spec.configs = vec![FileReference { id, name: "n".into(), file: Some(file.clone()) }];
        }),
        Field::TemplateDriver => {
            let target = FileTarget { name: "pw".into(), ..file };
            let id = SecretId::new("s").unwrap();
            let (data, templating) = (Some(SecretBytes::default()), "jinja".into());
            let secret = Secret { id: id.clone(), name: "n".into(), data, templating };
            let secrets = vec![FileReference { id, name: "n".into(), file: Some(target) }];
            let task = task(ContainerSpec { secrets, ..ContainerSpec::default() });
            let files = Files::Given { secret: &|_| Some(&secret), config: &|_| None };
            build(&task, &container(), &local(sh()), &node(), None, files).unwrap_err()
        }
        Field::CapAdd => refused(&|spec| spec.capability_add = s(&["x"])),
        Field::CapDrop => refused(&|spec| spec.capability_drop = s(&["x"])),
        Field::Sysctl => refused(&|spec| spec.sysctls = pair("vm.swappiness", "1")),
        Field::Ulimit => refused(&|spec| {
            spec.ulimits = vec![Ulimit { name: "x".into(), soft: 0, hard: 0 }];
        }),
        Field::LimitMemory => limited(ResourceLimits { memory_bytes: 1, ..none }),
        Field::LimitCpu => limited(ResourceLimits { nano_cpus: 1, ..none }),
        Field::LimitPids => {
            let policy = Policy { pids_max: Some(1), ..Policy::default() };
            ruled(policy, &|spec| spec.pids_limit = 2)
        }
        Field::GenericResource => no_device("camera", "/dev/video9"),
        Field::OomScoreAdj => refused(&|spec| spec.oom_score_adj = 1001),
        Field::StopSignal => refused(&|spec| spec.stop_signal = "NOPE".into()),
        Field::HealthCmd => healthy(HealthSpec { test: s(&["CMD"]), ..HealthSpec::default() }),
        Field::HealthInterval
        | Field::HealthTimeout
        | Field::HealthStartPeriod
        | Field::HealthStartInterval => {
            let mut health = HealthSpec { test: s(&["CMD", "x"]), ..HealthSpec::default() };
            let time = if field == Field::HealthInterval {
                &mut health.interval
            } else if field == Field::HealthTimeout {
                &mut health.timeout
            } else if field == Field::HealthStartPeriod {
                &mut health.start_period
            } else {
                &mut health.start_interval
            };
            *time = quick;
            healthy(health)
        }
        Field::LogDriver => logged(Driver { name: "syslog".into(), ..Driver::default() }),
        Field::LogOption => {
            logged(Driver { name: "local".into(), options: pair("max-size", "big") })
        }
        Field::Isolation => refused(&|spec| spec.isolation = true),
        Field::CredentialSpec => refused(&|spec| spec.privileges.credential_spec = true),
        Field::Seccomp => refused(&|spec| {
            spec.privileges.seccomp = SeccompChoice::Custom(b"{".to_vec());
        }),
        Field::AppArmor => {
            let policy = Policy { no_apparmor_unconfined: true, ..Policy::default() };
            ruled(policy, &|spec| {
                spec.privileges = Privileges { apparmor_disabled: true, ..Privileges::default() };
            })
        }
        Field::SeLinux => refused(&|spec| spec.privileges.selinux = true),
        Field::Runtime => {
            let runtime = Runtime::Generic { kind: "plugin".into() };
            check(&Task { runtime, ..task(ContainerSpec::default()) }, &node()).unwrap_err()
        }
    }
}

#[test]
fn every_refusal_names_the_field_in_both_words_and_what_to_do() {
    for field in Field::ALL {
        let error = refusal(field);
        assert_eq!(error.field(), field, "{error}");
        let text = error.to_string();
        let (option, compose) = field.names();
        let named = match compose {
            Some(key) => format!("; {option} (compose: {key})"),
            None => format!("; {option}"),
        };
        let (cause, rest) = text.split_once(&named).unwrap_or_else(|| panic!("{named}: {text}"));
        assert!(!cause.is_empty(), "{text}");
        // A remedy: what it takes, or what to do.
        let remedy = rest.strip_prefix(": ").or_else(|| rest.strip_prefix(" takes "));
        assert!(remedy.is_some_and(|remedy| 4 < remedy.len()), "{text}");
    }
}

/// Refusals that no field has alone.
#[test]
fn refusals_of_the_node_name_the_field_too() {
    let text = no_source("/no/such", "Docker's words").to_string();
    assert!(text.starts_with("Docker's words: /no/such; --mount (compose: volumes): make it"));
    let text = no_image("reg/x:1", Some("registry reg: refused")).to_string();
    assert!(text.starts_with("registry reg: refused (No such image: reg/x:1); IMAGE (compose: "));
    let text = no_image("reg/x:1", Some("No such image: reg/x:1 (unknown)")).to_string();
    assert_eq!(text.matches("reg/x:1").count(), 1, "{text}");
    assert!(
        text.starts_with("No such image: reg/x:1 (unknown); IMAGE (compose: image): "),
        "{text}"
    );
    let images = Policy { images: Some(Vec::new()), digests_only: false, ..Policy::default() };
    let binds = Policy { bind_sources: Some(Vec::new()), ..Policy::default() };
    for (error, text) in [
        (admit_image(&images, "x", true), "(rule admission.images); IMAGE (compose: image): "),
        (admit_bind(&binds, "/x"), "(rule admission.bind-sources); --mount (compose: volumes): "),
    ] {
        let error = error.unwrap_err().to_string();
        assert!(error.contains(text), "{error}");
    }
    let facts = NodeFacts {
        policy: Policy { reject_unenforced: true, ..Policy::default() },
        memory_controller: false,
        ..node()
    };
    let mut limited = task(ContainerSpec::default());
    limited.limits.memory_bytes = 64 << 20;
    let text = check(&limited, &facts).unwrap_err().to_string();
    let names = "; --limit-memory (compose: deploy.resources.limits.memory): boot with";
    assert!(text.contains(names), "{text}");
}

#[test]
fn what_belongs_to_docker_is_told_apart_from_a_folder_that_is_missing() {
    let told = |path: &str| no_source(path, "source path not found").to_string();
    for path in [
        "/var/run/docker.sock",
        "/run/docker.sock",
        "/var/lib/docker",
        "/var/lib/docker/containers",
        "/var/lib/docker/volumes/data/_data",
        "/run/containerd/containerd.sock",
        "/etc/docker/daemon.json",
    ] {
        let text = told(path);
        assert!(text.starts_with(path) && text.contains("runs edgeagent"), "{text}");
        assert!(text.contains("--constraint (compose: deploy.placement.constraints)"), "{text}");
    }
    for path in ["/var/lib/dockers", "/srv/docker.sock", "/var/run/docker.sock.d/x", "/"] {
        assert!(told(path).starts_with("source path not found: "), "{path}");
    }
}
