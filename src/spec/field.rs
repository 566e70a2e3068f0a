//! What a person can say of a service, in the words of `docker service create` and of a compose
//! file: every refusal names both, and what would be right.

use core::fmt;

/// One thing that a service says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// The image.
    Image,
    /// What to run.
    Command,
    /// Environment.
    Env,
    /// Working directory.
    Workdir,
    /// User, and its group.
    User,
    /// Host name.
    Hostname,
    /// Lines of `/etc/hosts`.
    Host,
    /// Name servers.
    Dns,
    /// Search domains.
    DnsSearch,
    /// Options of the resolver.
    DnsOption,
    /// Networks.
    Network,
    /// Published ports.
    Publish,
    /// Mounts of any kind.
    Mount,
    /// How mounts travel.
    Propagation,
    /// Memory as a file system.
    Tmpfs,
    /// A volume's driver.
    VolumeDriver,
    /// Options of a volume's driver.
    VolumeOption,
    /// A folder of a volume.
    VolumeSubpath,
    /// Secrets.
    Secret,
    /// Configs.
    Config,
    /// How the content of a secret or config is filled in.
    TemplateDriver,
    /// Capabilities beside the default ones.
    CapAdd,
    /// Default capabilities that are not wanted.
    CapDrop,
    /// Kernel parameters.
    Sysctl,
    /// Resource limits of processes.
    Ulimit,
    /// Memory.
    LimitMemory,
    /// CPU time.
    LimitCpu,
    /// Processes.
    LimitPids,
    /// Devices and other named things.
    GenericResource,
    /// Whom the OOM killer prefers.
    OomScoreAdj,
    /// How to stop.
    StopSignal,
    /// What says whether it works.
    HealthCmd,
    /// Pause between probes.
    HealthInterval,
    /// Time of one probe.
    HealthTimeout,
    /// Time to begin.
    HealthStartPeriod,
    /// Pause between probes in that time.
    HealthStartInterval,
    /// Where logs go.
    LogDriver,
    /// How they are kept.
    LogOption,
    /// Windows isolation.
    Isolation,
    /// Windows credentials.
    CredentialSpec,
    /// System calls.
    Seccomp,
    /// AppArmor.
    AppArmor,
    /// SELinux.
    SeLinux,
    /// What kind of task it is.
    Runtime,
}

/// The words for one field.
struct Words {
    /// Of `docker service create`, or where else it is said.
    option: &'static str,
    /// In a compose file; absent: `docker stack deploy` has none.
    compose: Option<&'static str>,
    /// What would be right, after "takes".
    takes: &'static str,
}

const fn words(option: &'static str, compose: &'static str, takes: &'static str) -> Words {
    Words { option, compose: Some(compose), takes }
}

const fn no_key(option: &'static str, takes: &'static str) -> Words {
    Words { option, compose: None, takes }
}

impl Field {
    /// Every one of them.
    #[cfg(test)]
    pub(super) const ALL: [Self; 44] = [
        Self::Image,
        Self::Command,
        Self::Env,
        Self::Workdir,
        Self::User,
        Self::Hostname,
        Self::Host,
        Self::Dns,
        Self::DnsSearch,
        Self::DnsOption,
        Self::Network,
        Self::Publish,
        Self::Mount,
        Self::Propagation,
        Self::Tmpfs,
        Self::VolumeDriver,
        Self::VolumeOption,
        Self::VolumeSubpath,
        Self::Secret,
        Self::Config,
        Self::TemplateDriver,
        Self::CapAdd,
        Self::CapDrop,
        Self::Sysctl,
        Self::Ulimit,
        Self::LimitMemory,
        Self::LimitCpu,
        Self::LimitPids,
        Self::GenericResource,
        Self::OomScoreAdj,
        Self::StopSignal,
        Self::HealthCmd,
        Self::HealthInterval,
        Self::HealthTimeout,
        Self::HealthStartPeriod,
        Self::HealthStartInterval,
        Self::LogDriver,
        Self::LogOption,
        Self::Isolation,
        Self::CredentialSpec,
        Self::Seccomp,
        Self::AppArmor,
        Self::SeLinux,
        Self::Runtime,
    ];

    /// The table (docker/cli `opts`, `cli/compose/convert/service.go`).
    const fn words(self) -> Words {
        match self {
            Self::Image => words("IMAGE", "image", "a name such as nginx:1.27"),
            Self::Command => {
                words("COMMAND or --entrypoint", "command or entrypoint", "a program to run")
            }
            Self::Env => words("--env", "environment", "NAME=value"),
            Self::Workdir => words("--workdir", "working_dir", "an absolute path"),
            Self::User => words("--user", "user", "a user of the image or a number, and :group"),
            Self::Hostname => words("--hostname", "hostname", "a short name without spaces"),
            Self::Host => words("--host", "extra_hosts", "NAME:ADDRESS"),
            Self::Dns => words("--dns", "dns", "IP addresses"),
            Self::DnsSearch => words("--dns-search", "dns_search", "domains"),
            Self::DnsOption => no_key("--dns-option", "options of resolv.conf(5)"),
            Self::Network => words("--network", "networks", "bridge or host"),
            Self::Publish => words("--publish", "ports", "mode=host"),
            Self::Mount => {
                words("--mount", "volumes", "an absolute target, and a source that fits its type")
            }
            Self::Propagation => words(
                "--mount bind-propagation",
                "bind.propagation of a volume",
                "rprivate, private, rslave, slave, rshared or shared",
            ),
            Self::Tmpfs => words(
                "--mount type=tmpfs",
                "volumes with type: tmpfs",
                "a target, tmpfs-size and tmpfs-mode",
            ),
            Self::VolumeDriver => words("--mount volume-driver", "driver of a volume", "local"),
            Self::VolumeOption => words(
                "--mount volume-opt",
                "driver_opts of a volume",
                "type, device and o as for mount(8)",
            ),
            Self::VolumeSubpath => words(
                "--mount volume-subpath",
                "volume.subpath of a volume",
                "a relative path in a named volume",
            ),
            Self::Secret => words(
                "--secret",
                "secrets",
                "source=NAME and, if you like, target (a file), uid and gid (numbers)",
            ),
            Self::Config => words(
                "--config",
                "configs",
                "source=NAME and, if you like, target (a file), uid and gid (numbers)",
            ),
            Self::TemplateDriver => {
                words("--template-driver of the secret or config", "template_driver", "golang")
            }
            Self::CapAdd => {
                words("--cap-add", "cap_add", "names of capabilities(7), such as NET_ADMIN, or ALL")
            }
            Self::CapDrop => words(
                "--cap-drop",
                "cap_drop",
                "names of capabilities(7), such as NET_ADMIN, or ALL",
            ),
            Self::Sysctl => words(
                "--sysctl",
                "sysctls",
                "parameters of the container's own namespaces, such as net.core.somaxconn=1024",
            ),
            Self::Ulimit => {
                words("--ulimit", "ulimits", "NAME=SOFT:HARD, such as nofile=1024:2048")
            }
            Self::LimitMemory => {
                words("--limit-memory", "deploy.resources.limits.memory", "6M or more")
            }
            Self::LimitCpu => words(
                "--limit-cpu",
                "deploy.resources.limits.cpus",
                "a number of CPUs that the node has, such as 0.5",
            ),
            Self::LimitPids => {
                words("--limit-pids", "deploy.resources.limits.pids", "a number of processes")
            }
            Self::GenericResource => words(
                "--generic-resource",
                "deploy.resources.reservations.generic_resources",
                "what docker node inspect shows of the node",
            ),
            Self::OomScoreAdj => words("--oom-score-adj", "oom_score_adj", "-1000 to 1000"),
            Self::StopSignal => {
                words("--stop-signal", "stop_signal", "a name or number of signal(7)")
            }
            Self::HealthCmd => words(
                "--health-cmd",
                "healthcheck.test",
                "a command; in a compose file a list that begins with CMD, CMD-SHELL or NONE",
            ),
            Self::HealthInterval => {
                words("--health-interval", "healthcheck.interval", "1ms or more")
            }
            Self::HealthTimeout => words("--health-timeout", "healthcheck.timeout", "1ms or more"),
            Self::HealthStartPeriod => {
                words("--health-start-period", "healthcheck.start_period", "1ms or more")
            }
            Self::HealthStartInterval => {
                words("--health-start-interval", "healthcheck.start_interval", "1ms or more")
            }
            Self::LogDriver => words("--log-driver", "logging.driver", "json-file, local or none"),
            Self::LogOption => words(
                "--log-opt",
                "logging.options",
                "max-size (such as 10m), max-file, and the others of json-file and local",
            ),
            Self::Isolation => words("--isolation", "isolation", "default, or is left out"),
            Self::CredentialSpec => {
                words("--credential-spec", "credential_spec", "nothing on Linux: leave it out")
            }
            Self::Seccomp => {
                no_key("Privileges.Seccomp of the API", "a profile as Docker documents it")
            }
            Self::AppArmor => no_key("Privileges.AppArmor of the API", "the mode default"),
            Self::SeLinux => no_key("Privileges.SELinuxContext of the API", "nothing here"),
            Self::Runtime => no_key("Runtime of the API's task", "container"),
        }
    }

    /// The option of `docker service create`, and the compose key.
    #[cfg(test)]
    pub(super) const fn names(self) -> (&'static str, Option<&'static str>) {
        let words = self.words();
        (words.option, words.compose)
    }

    /// What would be right.
    pub(super) const fn takes(self) -> &'static str {
        self.words().takes
    }
}

/// `--cap-add (compose: cap_add)`.
impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Words { option, compose, .. } = self.words();
        match compose {
            Some(key) => write!(f, "{option} (compose: {key})"),
            None => f.write_str(option),
        }
    }
}
