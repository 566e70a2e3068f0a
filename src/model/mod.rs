//! Swarm's nouns, as plain data.
//!
//! Everything that crosses a module boundary is one of these types. Protobuf types stop at
//! [`crate::rpc`], which translates them into these; nothing here does IO, reads a clock or
//! allocates beyond its own fields. Names and numbers are swarm's
//! (swarmkit `api/{types,specs,objects,dispatcher}.proto`).

mod assignment;
mod bundle;
mod capability;
mod chain;
mod identity;
mod ids;
mod image;
mod link;
mod logs;
mod network;
mod node;
mod policy;
mod registry;
mod resolv;
mod seal;
mod seccomp;
mod secret;
mod size;
mod spec;
mod task;
mod time;

pub use assignment::{AssignmentSet, Change, Config, Secret, SetKind};
pub use bundle::{
    Bundle, BundleDevice, BundleFile, BundleMount, Denied, DeviceNode, Exit, Health, HealthCheck,
    HealthStatus, MountKind, NetworkMode, Propagation, Rlimit, RootFs, Seccomp,
};
pub use capability::{EVERY_CAPABILITY, capability_bit, capability_name, default_capabilities};
pub use chain::chain;
pub use identity::{Identity, NodeCertificate, PendingCertificate};
pub use ids::{ConfigId, ContainerId, IdError, NodeId, SecretId, ServiceId, SessionId, TaskId};
pub use image::{Empty, ImageConfig, ImageHealth, ImageSettings, LocalImage, Platform};
pub use link::LinkLoss;
pub use logs::{LogLine, LogOptions, LogSelector, LogStream, LogSubscription};
pub use network::{BridgeSettings, Cidr, Endpoint, Pool};
pub use node::{
    Availability, GenericResource, IssuanceState, NodeDescription, NodeRecord, NodeResources,
    NodeRole, Peer, Plugin, SessionMessage, TlsInfo, WeightedPeer,
};
pub use policy::{Policy, matches};
pub use registry::{PullPolicy, RegistrySettings, is_loopback};
pub use resolv::ResolvConf;
pub use seal::{SealChoice, SealSettings};
pub use seccomp::{
    SeccompAction, SeccompArchitecture, SeccompComparison, SeccompCondition, SeccompProfile,
    SeccompRule,
};
pub use secret::SecretBytes;
pub use size::byte_size;
pub use spec::{
    BindOptions, ContainerSpec, DnsConfig, Driver, FileReference, FileTarget, HealthSpec, Mount,
    MountSource, NetworkAttachment, Privileges, ResourceLimits, SeccompChoice, TmpfsOptions,
    Ulimit, VolumeOptions,
};
pub use task::{
    ContainerStatus, PortConfig, PortProtocol, PublishMode, Runtime, Task, TaskRecord, TaskState,
    TaskStatus,
};
pub use time::{Now, UnixTime};
