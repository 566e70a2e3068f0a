//! A node: what it says of itself, and what managers say of it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{NodeId, SessionId};

/// What a node tells the managers of itself at registration.
///
/// A change restarts the session, so it must be byte-stable: lists are sorted, memory is the
/// total and not what is free (behaviour.md §7.7, §13).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeDescription {
    /// Host name.
    pub hostname: String,
    /// As `uname` says: `x86_64`, `aarch64`, `armv7l` and `linux`.
    pub architecture: String,
    /// What there is to hand out.
    pub resources: NodeResources,
    /// Shown as the engine's version.
    pub engine_version: String,
    /// Labels for `engine.labels.*` constraints.
    pub engine_labels: BTreeMap<String, String>,
    /// Sorted by kind, then name. Only what really works: the scheduler filters by it.
    pub plugins: Vec<Plugin>,
    /// Trust root and issuer; without it a root rotation never finishes.
    pub tls_info: TlsInfo,
}

/// Totals of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeResources {
    /// 1 CPU = 10^9.
    pub nano_cpus: i64,
    /// Bytes.
    pub memory_bytes: i64,
    /// Others, counted or named.
    pub generic: Vec<GenericResource>,
}

/// A resource that swarm only counts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum GenericResource {
    /// One of several named ones.
    Named {
        /// Kind, such as `gpu`.
        kind: String,
        /// Name, such as `UUID1`.
        value: String,
    },
    /// So many.
    Discrete {
        /// Kind.
        kind: String,
        /// How many.
        value: i64,
    },
}

/// A thing that the node can do, for the scheduler's plugin filter.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Plugin {
    /// `Log`, `Network` or `Volume`.
    pub kind: &'static str,
    /// Its name.
    pub name: &'static str,
}

/// Which CA a node trusts and which one signed its certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsInfo {
    /// Root CA bundle, PEM, exactly as received.
    pub trust_root: Vec<u8>,
    /// DER subject of the certificate that signed ours.
    pub cert_issuer_subject: Vec<u8>,
    /// DER SubjectPublicKeyInfo of the same.
    pub cert_issuer_public_key: Vec<u8>,
}

/// A manager's address.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Peer {
    /// Empty for an address that the operator gave.
    pub node_id: String,
    /// `host:port`.
    pub addr: String,
}

/// A manager and how much it should be preferred.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WeightedPeer {
    /// The manager.
    pub peer: Peer,
    /// Dispatchers always send 10.
    pub weight: i64,
}

/// What a dispatcher sends on the session stream, always whole.
#[derive(Clone, Debug, PartialEq)]
pub struct SessionMessage {
    /// The session; used in every later call.
    pub session_id: SessionId,
    /// This node's record; absent when the node was removed while its session lived.
    pub node: Option<NodeRecord>,
    /// Every manager.
    pub managers: Vec<WeightedPeer>,
    /// Root CA bundle, PEM; empty when the message has none.
    pub root_ca: Vec<u8>,
}

/// This node as the managers see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeRecord {
    /// Its identifier.
    pub id: NodeId,
    /// Reconciled role.
    pub role: NodeRole,
    /// Wished role.
    pub desired_role: NodeRole,
    /// Whether it gets new tasks. Managers act on it; a worker only shows it.
    pub availability: Availability,
    /// State of its certificate; [`IssuanceState::Rotate`] orders a renewal at once.
    pub certificate: IssuanceState,
}

/// Role of a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NodeRole {
    /// Runs tasks.
    #[default]
    Worker,
    /// Decides. We never become one.
    Manager,
}

/// Whether a node gets new tasks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Availability {
    /// Yes.
    #[default]
    Active,
    /// No new ones.
    Pause,
    /// None at all.
    Drain,
}

impl Availability {
    /// The one with the name that Docker uses: `active`, `pause` or `drain`.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "active" => Some(Self::Active),
            "pause" => Some(Self::Pause),
            "drain" => Some(Self::Drain),
            _ => None,
        }
    }
}

/// How far a certificate has come (swarmkit `api/types.proto`, `IssuanceStatus.State`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IssuanceState {
    /// Not said.
    #[default]
    Unknown,
    /// A renewal was asked for.
    Renew,
    /// Waits for the signer.
    Pending,
    /// Signed.
    Issued,
    /// The signer refused.
    Failed,
    /// The node must renew now: the root CA is being rotated.
    Rotate,
}
