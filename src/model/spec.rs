//! What a task's container should be (swarmkit `api/specs.proto`, `ContainerSpec`).

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use super::{ConfigId, Propagation, SecretBytes, SecretId};

/// A container as the operator described it. Empty fields fall back to the image's values.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ContainerSpec {
    /// Reference, usually `name:tag@sha256:…`.
    pub image: String,
    /// Labels of the container.
    pub labels: BTreeMap<String, String>,
    /// Replaces the image's entrypoint.
    pub command: Vec<String>,
    /// Replaces the image's command.
    pub args: Vec<String>,
    /// `NAME=value`; values are templates.
    pub env: Vec<String>,
    /// Working directory.
    pub dir: String,
    /// `user[:group]`, by name or number.
    pub user: String,
    /// Supplementary groups, by name or number.
    pub groups: Vec<String>,
    /// Mounts besides the default ones.
    pub mounts: Vec<Mount>,
    /// How long to wait between the stop signal and SIGKILL. Absent: 10 s. Only whole seconds
    /// count; negative means for ever.
    pub stop_grace_seconds: Option<i64>,
    /// Signal name or number; empty: the image's, else SIGTERM.
    pub stop_signal: String,
    /// Base64url JSON with the registry's credentials.
    pub registry_auth: SecretBytes,
    /// Secrets to show inside.
    pub secrets: Vec<FileReference<SecretId>>,
    /// Configs to show inside.
    pub configs: Vec<FileReference<ConfigId>>,
    /// Give it a terminal.
    pub tty: bool,
    /// Keep its standard input open.
    pub open_stdin: bool,
    /// Host name; a template.
    pub hostname: String,
    /// Name resolution.
    pub dns: DnsConfig,
    /// `IP name alias…` lines for `/etc/hosts`.
    pub hosts: Vec<String>,
    /// Health check; absent: the image's.
    pub health: Option<HealthSpec>,
    /// Mount the root file system read-only.
    pub read_only: bool,
    /// Security options.
    pub privileges: Privileges,
    /// Run an init as process 1. Absent: no.
    pub init: Option<bool>,
    /// Windows isolation other than `default` was asked for.
    pub isolation: bool,
    /// Limit of processes; 0 or less: none.
    pub pids_limit: i64,
    /// Kernel parameters of the container's namespaces.
    pub sysctls: BTreeMap<String, String>,
    /// Capabilities to add.
    pub capability_add: Vec<String>,
    /// Capabilities to drop.
    pub capability_drop: Vec<String>,
    /// Resource limits of processes.
    pub ulimits: Vec<Ulimit>,
    /// OOM killer preference.
    pub oom_score_adj: i64,
}

/// A driver's name and options.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Driver {
    /// Its name.
    pub name: String,
    /// Its options.
    pub options: BTreeMap<String, String>,
}

/// A mount.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// What is mounted, with what belongs to that kind.
    pub source: MountSource,
    /// Absolute path inside; a template.
    pub target: String,
    /// No writes.
    pub read_only: bool,
}

/// What a mount shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MountSource {
    /// A path of the host.
    Bind {
        /// The path; a template.
        path: String,
        /// How.
        options: BindOptions,
    },
    /// A volume.
    Volume {
        /// Its name; empty: anonymous. A template.
        name: String,
        /// How.
        options: VolumeOptions,
    },
    /// Memory.
    Tmpfs {
        /// Must be empty.
        source: String,
        /// How.
        options: TmpfsOptions,
    },
    /// A Windows named pipe.
    NamedPipe,
    /// A CSI volume.
    Cluster,
    /// A kind with this number, which this version does not know.
    Unknown(i32),
}

/// Options of a bind mount.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BindOptions {
    /// How mounts travel.
    pub propagation: Propagation,
    /// Leave mounts below the source out.
    pub nonrecursive: bool,
    /// Make the source when it is missing.
    pub create_source: bool,
}

/// Options of a volume mount.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeOptions {
    /// Do not fill an empty volume from the image.
    pub no_copy: bool,
    /// Labels; values are templates.
    pub labels: BTreeMap<String, String>,
    /// Driver; absent: `local`. Option values are templates.
    pub driver: Option<Driver>,
    /// A folder inside the volume.
    pub subpath: String,
}

/// Options of a tmpfs mount.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TmpfsOptions {
    /// Size limit in bytes; 0: none.
    pub size_bytes: i64,
    /// Permission bits; 0: the kernel's default.
    pub mode: u32,
    /// JSON array of arrays; only `exec` and `noexec` are accepted.
    pub options: String,
}

/// A secret or config as a container refers to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileReference<Id> {
    /// Which one.
    pub id: Id,
    /// Its name at the managers.
    pub name: String,
    /// Where it appears; absent: not as a file.
    pub file: Option<FileTarget>,
}

/// Where and how a secret or config appears.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileTarget {
    /// Absolute, or relative to `/run/secrets` (secrets) or `/` (configs).
    pub name: String,
    /// Owner, a decimal string.
    pub uid: String,
    /// Group, a decimal string.
    pub gid: String,
    /// Permission bits.
    pub mode: u32,
}

/// Name resolution inside the container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DnsConfig {
    /// `nameserver` lines.
    pub nameservers: Vec<String>,
    /// `search` domains.
    pub search: Vec<String>,
    /// `options`.
    pub options: Vec<String>,
}

/// A health check as the operator wrote it. Zero and empty fields fall back to the image's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthSpec {
    /// `["NONE"]`, `["CMD", …]`, `["CMD-SHELL", s]`, or empty.
    pub test: Vec<String>,
    /// Between the end of one probe and the start of the next.
    pub interval: Duration,
    /// Of one probe.
    pub timeout: Duration,
    /// Failures in a row that make it unhealthy.
    pub retries: u32,
    /// Failures before this do not count.
    pub start_period: Duration,
    /// Interval during the start period.
    pub start_interval: Duration,
}

/// Security options.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Privileges {
    /// A Windows credential spec was given.
    pub credential_spec: bool,
    /// SELinux labels were given.
    pub selinux: bool,
    /// Seccomp.
    pub seccomp: SeccompChoice,
    /// AppArmor was switched off.
    pub apparmor_disabled: bool,
    /// No new privileges through set-id programs.
    pub no_new_privileges: bool,
}

/// Which seccomp profile.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum SeccompChoice {
    /// The engine's default profile.
    #[default]
    Default,
    /// None.
    Unconfined,
    /// This JSON profile.
    Custom(Vec<u8>),
}

/// A resource limit of processes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ulimit {
    /// `nofile`, `nproc` …
    pub name: String,
    /// Soft limit; -1: unlimited.
    pub soft: i64,
    /// Hard limit; -1: unlimited.
    pub hard: i64,
}

/// A network of a task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkAttachment {
    /// Its identifier.
    pub network_id: String,
    /// Its name.
    pub name: String,
    /// `driver_state.name`: `host`, `bridge`, `overlay` …
    pub driver: String,
    /// It carries the label `com.docker.swarm.predefined`.
    pub predefined: bool,
    /// It is the routing mesh.
    pub ingress: bool,
}

/// Limits of a task's container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResourceLimits {
    /// CPU time, 1 CPU = 10^9; 0: none.
    pub nano_cpus: i64,
    /// Memory in bytes; 0: none.
    pub memory_bytes: i64,
}
