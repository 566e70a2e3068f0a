//! A bundle: all that a shim needs to run one container, and how that ended.
//!
//! It plays the part of an OCI bundle, but travels through an inherited descriptor and never
//! touches a disk, for it holds secrets.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use super::{ContainerId, Endpoint, SeccompProfile, SecretBytes, TaskId, UnixTime};

/// One container, fully decided: nothing in it needs the image's or the node's defaults.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bundle {
    /// The task; names the folder in `exec-root`.
    pub task: TaskId,
    /// The container.
    pub container: ContainerId,
    /// `/exec-root/tasks/<task>`: records, log, socket, mount points.
    pub dir: PathBuf,
    /// Program and arguments, at least one.
    pub argv: Vec<String>,
    /// `NAME=value`, complete.
    pub env: Vec<String>,
    /// Absolute path inside; made when missing.
    pub cwd: String,
    /// `user[:group]` by name or number, looked up inside; empty: root.
    pub user: String,
    /// Supplementary groups by name or number.
    pub groups: Vec<String>,
    /// Host name.
    pub hostname: String,
    /// Root file system.
    pub root: RootFs,
    /// Mounts besides the default ones, in order of target depth.
    pub mounts: Vec<BundleMount>,
    /// Devices that it may use besides the default ones.
    pub devices: Vec<BundleDevice>,
    /// Secrets and configs.
    pub files: Vec<BundleFile>,
    /// `/etc/hosts` lines besides the default ones: address and name.
    pub hosts: Vec<(String, String)>,
    /// Whole content of `/etc/resolv.conf`; absent: the host's is copied.
    pub resolv_conf: Option<String>,
    /// Network namespace.
    pub network: NetworkMode,
    /// Bounding, permitted and effective capabilities, bit by number.
    pub capabilities: u64,
    /// Seccomp profile.
    pub seccomp: Seccomp,
    /// Docker's AppArmor profile, where the kernel has it.
    pub apparmor: bool,
    /// Set `no_new_privs`.
    pub no_new_privileges: bool,
    /// `admission.users`: ranges of numbers, of which the user and all groups must be once their
    /// names are resolved; absent: any.
    pub users: Option<Vec<(u32, u32)>>,
    /// Memory limit in bytes; memory and swap together get twice this.
    pub memory_bytes: Option<u64>,
    /// CPU limit, 1 CPU = 10^9.
    pub nano_cpus: Option<u64>,
    /// Limit of processes.
    pub pids: Option<u64>,
    /// Parent of the container's cgroups, relative to each hierarchy's root: `edgeagent`.
    pub cgroup_parent: String,
    /// Resource limits of processes.
    pub rlimits: Vec<Rlimit>,
    /// OOM killer preference, -1000 to 1000.
    pub oom_score_adj: i32,
    /// Kernel parameters of the container's namespaces.
    pub sysctls: BTreeMap<String, String>,
    /// Give it a terminal.
    pub tty: bool,
    /// Keep its standard input open.
    pub open_stdin: bool,
    /// Run our init as process 1.
    pub init: bool,
    /// First signal of a stop.
    pub stop_signal: i32,
    /// Seconds until SIGKILL; absent: wait for ever.
    pub stop_grace_seconds: Option<u32>,
    /// Bytes that the log of this task may hold; 0: it has none.
    pub log_max_bytes: u64,
    /// How to find out whether it works; absent: it works as long as it runs.
    pub health: Option<HealthCheck>,
}

/// A health check, complete (moby `daemon/health.go`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthCheck {
    /// Program and arguments, at least one. It is healthy when this ends with 0.
    pub argv: Vec<String>,
    /// From the end of one probe, or the start of the container, to the next.
    pub interval: Duration,
    /// After this a probe is killed and has failed.
    pub timeout: Duration,
    /// Failures in a row that make it unhealthy; at least one.
    pub retries: u32,
    /// Failures of probes that begin within this do not count until one has succeeded.
    pub start_period: Duration,
    /// The interval for as long as they do not.
    pub start_interval: Duration,
}

/// What the probes of a container say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HealthStatus {
    /// Nothing yet.
    Starting,
    /// The last ones that count succeeded.
    Healthy,
    /// As many in a row failed as the check allows.
    Unhealthy,
}

impl HealthStatus {
    /// Docker's word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
        }
    }
}

/// The health of a container, with the last probe that changed it or failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// What the probes say.
    pub status: HealthStatus,
    /// Failures in a row that counted.
    pub failing_streak: u32,
    /// Exit code of that probe; -1 when it took too long; absent before the first.
    pub exit_code: Option<i32>,
    /// What it printed, at most [`crate::limits::PROBE_OUTPUT_MAX_BYTES`].
    pub output: String,
}

/// The root file system: read-only layers and one writable folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootFs {
    /// Unpacked layers, lowest first.
    pub layers: Vec<PathBuf>,
    /// `/data-root/containers/<task>`: holds `upper` and `work` of the overlay.
    pub writable: PathBuf,
    /// Mount the whole root read-only.
    pub read_only: bool,
}

/// A mount of a bundle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BundleMount {
    /// What is mounted.
    pub kind: MountKind,
    /// Absolute path inside, cleaned.
    pub target: String,
    /// No writes, nor below it.
    pub read_only: bool,
}

/// What a mount of a bundle shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MountKind {
    /// A path of the host; must exist.
    Bind {
        /// Path on the host.
        source: PathBuf,
        /// How mounts travel.
        propagation: Propagation,
        /// With the mounts below it.
        recursive: bool,
        /// Fill it from the image while it is empty, for it stands for a volume.
        populate: bool,
        /// What it takes from the host's mount.
        denied: Denied,
    },
    /// A folder that is made when missing, and filled from the image while it is empty.
    Volume {
        /// `/data-root/volumes/<name>/data`.
        source: PathBuf,
        /// What of it is shown, relative and without `..`; empty: all. Must exist.
        subpath: String,
        /// Fill it from the image.
        populate: bool,
        /// Delete it with the container.
        anonymous: bool,
    },
    /// Memory, always nosuid and nodev.
    Tmpfs {
        /// Size limit in bytes.
        size_bytes: Option<u64>,
        /// Permission bits; absent: those of the image's folder at this place, else 01777.
        mode: Option<u32>,
        /// Allow programs.
        exec: bool,
        /// Owner and group of its root; absent: root's.
        owner: Option<(u32, u32)>,
    },
}

/// What does not work on a mount.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Denied {
    /// Programs, `noexec`.
    pub programs: bool,
    /// Set-id bits and file capabilities, `nosuid`.
    pub set_id: bool,
    /// Device nodes, `nodev`.
    pub devices: bool,
}

/// A device that a container may use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BundleDevice {
    /// A block device; else a character device.
    pub block: bool,
    /// Its numbers.
    pub major: u32,
    /// Its numbers.
    pub minor: u32,
    /// No writes.
    pub read_only: bool,
    /// The node to make; absent when a mount brings one.
    pub node: Option<DeviceNode>,
}

/// A device node in a container's `/dev`, as it is on the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceNode {
    /// Absolute path below `/dev`.
    pub path: String,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// How mounts travel between host and container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Propagation {
    /// Not at all, recursively.
    #[default]
    RPrivate,
    /// Not at all.
    Private,
    /// Both ways, recursively.
    RShared,
    /// Both ways.
    Shared,
    /// Into the container, recursively.
    RSlave,
    /// Into the container.
    Slave,
}

impl Propagation {
    const ALL: [Self; 6] =
        [Self::RPrivate, Self::Private, Self::RShared, Self::Shared, Self::RSlave, Self::Slave];

    /// Docker's word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::RPrivate => "rprivate",
            Self::Private => "private",
            Self::RShared => "rshared",
            Self::Shared => "shared",
            Self::RSlave => "rslave",
            Self::Slave => "slave",
        }
    }

    /// What a word of Docker's stands for.
    #[must_use]
    pub fn named(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|this| this.name() == word)
    }
}

/// A secret or config as a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BundleFile {
    /// Absolute path inside, cleaned.
    pub target: String,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Permission bits.
    pub mode: u32,
    /// Content.
    pub data: SecretBytes,
}

/// Network of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NetworkMode {
    /// The host's own namespace.
    Host,
    /// A namespace of its own, with loopback only.
    Isolated,
    /// A namespace of its own, with an interface on the node's bridge.
    Bridge(Endpoint),
}

/// Seccomp profile of a bundle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Seccomp {
    /// Docker's default profile, compiled for this machine and the capabilities at hand.
    Default,
    /// No filter.
    Unconfined,
    /// A profile of the operator's.
    Custom(SeccompProfile),
}

/// A resource limit of processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rlimit {
    /// `RLIMIT_*` number of the target machine.
    pub resource: u32,
    /// Soft limit; `u64::MAX`: unlimited.
    pub soft: u64,
    /// Hard limit; `u64::MAX`: unlimited.
    pub hard: u64,
}

/// How a container ended; the content of the exit record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// Exit code, or 128 + signal.
    pub code: i32,
    /// When.
    pub at: UnixTime,
    /// The kernel killed it for want of memory.
    pub oom_killed: bool,
    /// It never ran: why not.
    pub start_error: Option<String>,
}
