//! What the lab knows and keeps on disk: one JSON file, written anew at every change.
//!
//! Sessions, log subscriptions and connections are not here: they end with the process.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::Path,
};

use serde::{Deserialize, Serialize};

use crate::ca::Authority;

/// States of a task (swarmkit `api/types.proto`).
pub(crate) mod task_state {
    pub(crate) const PENDING: i32 = 64;
    pub(crate) const ASSIGNED: i32 = 192;
    pub(crate) const RUNNING: i32 = 512;
    pub(crate) const COMPLETE: i32 = 576;
    pub(crate) const SHUTDOWN: i32 = 640;
    pub(crate) const REMOVE: i32 = 800;

    /// The name that `service ps` shows.
    pub(crate) const fn name(state: i32) -> &'static str {
        match state {
            0..=64 => "Pending",
            65..=192 => "Assigned",
            193..=256 => "Accepted",
            257..=320 => "Preparing",
            321..=384 => "Ready",
            385..=448 => "Starting",
            449..=512 => "Running",
            513..=576 => "Complete",
            577..=640 => "Shutdown",
            641..=704 => "Failed",
            705..=768 => "Rejected",
            769..=800 => "Remove",
            _ => "Orphaned",
        }
    }
}

/// Everything that survives a restart.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct State {
    /// O of every certificate.
    pub(crate) cluster: String,
    /// The lab's own node id, and its key (PKCS#8, PEM).
    pub(crate) manager: String,
    pub(crate) manager_key: String,
    /// Where it listens. Port 0 is replaced by the port that was found.
    pub(crate) bind: String,
    /// Newcomers wait for `node accept`.
    pub(crate) manual_approval: bool,
    /// New nodes that one address may make per minute.
    pub(crate) join_rate: u32,
    /// The secret part of the join token.
    pub(crate) secret: String,
    pub(crate) validity_s: i64,
    pub(crate) heartbeat_ms: u64,
    pub(crate) root: Authority,
    /// After a rotation: the root's key certified by the root before, for members who slept.
    pub(crate) cross: Option<String>,
    /// A root rotation under way.
    pub(crate) rotation: Option<Rotation>,
    pub(crate) nodes: BTreeMap<String, Node>,
    /// Nodes that were removed: their certificates are refused.
    pub(crate) removed: BTreeSet<String>,
    pub(crate) services: BTreeMap<String, Service>,
    pub(crate) tasks: BTreeMap<String, Task>,
    /// Evil modes that are on, with their number.
    pub(crate) evil: BTreeMap<String, u64>,
}

/// A new root that not every node has a certificate of.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Rotation {
    pub(crate) next: Authority,
    /// The new key certified by the old root.
    pub(crate) cross: String,
}

/// How far a node's certificate is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Issuance {
    /// Waits for `node accept`.
    Pending,
    Issued,
    /// Rejected or unsignable; final.
    Failed,
    /// The node is told to renew at once.
    Rotate,
}

/// A node of the swarm, or one that wants to be.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Node {
    pub(crate) accepted: bool,
    pub(crate) availability: Availability,
    pub(crate) labels: BTreeMap<String, String>,
    /// The last certificate request, PEM, as it came.
    pub(crate) csr: String,
    /// SHA-256 of the key in it.
    pub(crate) fingerprint: String,
    pub(crate) issuance: Issuance,
    /// Why issuance failed.
    pub(crate) refusal: String,
    /// PEM: leaf, then intermediates.
    pub(crate) certificate: String,
    pub(crate) hostname: String,
    pub(crate) platform: (String, String),
    pub(crate) engine: String,
    pub(crate) engine_labels: BTreeMap<String, String>,
    /// Hexadecimal fingerprint of the issuer's key that the node reports.
    pub(crate) issuer: String,
    pub(crate) addr: String,
    /// Ready, Down, or Unknown after a restart of the lab.
    pub(crate) status: Liveness,
}

/// Whether a node's heart beats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Liveness {
    Unknown,
    Ready,
    Down,
}

/// What the scheduler may do with a node; numbers are swarm's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Availability {
    Active,
    Pause,
    Drain,
}

impl Availability {
    pub(crate) const fn from_wire(number: i32) -> Self {
        match number {
            1 => Self::Pause,
            2 => Self::Drain,
            _ => Self::Active,
        }
    }

    pub(crate) const fn to_wire(self) -> i32 {
        match self {
            Self::Active => 0,
            Self::Pause => 1,
            Self::Drain => 2,
        }
    }
}

/// What to run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Spec {
    pub(crate) image: String,
    pub(crate) args: Vec<String>,
    pub(crate) env: Vec<String>,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) user: String,
    pub(crate) host_network: bool,
    /// Name and content of files in /run/secrets.
    #[serde(with = "as_text")]
    pub(crate) secrets: BTreeMap<String, Vec<u8>>,
    /// Bytes; 0 is no limit.
    pub(crate) memory: u64,
    pub(crate) stop_grace_ms: Option<u64>,
    pub(crate) constraints: Vec<String>,
    pub(crate) restart: Restart,
    pub(crate) restart_delay_ms: u64,
    /// Raised to replace tasks whose spec is otherwise the same.
    pub(crate) force: u64,
}

/// Bytes as base64: as lists of numbers, the larger secrets took the lab seconds to store.
mod as_text {
    use std::collections::BTreeMap;

    use base64::{Engine as _, engine::general_purpose::STANDARD};
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(
        secrets: &BTreeMap<String, Vec<u8>>,
        out: S,
    ) -> Result<S::Ok, S::Error> {
        let texts = secrets.iter().map(|(name, data)| (name, STANDARD.encode(data)));
        texts.collect::<BTreeMap<_, _>>().serialize(out)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        source: D,
    ) -> Result<BTreeMap<String, Vec<u8>>, D::Error> {
        let texts = BTreeMap::<String, String>::deserialize(source)?;
        let data =
            |(name, text)| Ok((name, STANDARD.decode::<String>(text).map_err(D::Error::custom)?));
        texts.into_iter().map(data).collect()
    }
}

/// When a task that ended gets a successor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Restart {
    None,
    OnFailure,
    Any,
}

/// A service: a spec, and how many of it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Service {
    pub(crate) name: String,
    /// `None` is global: one on every node.
    pub(crate) replicas: Option<u64>,
    pub(crate) spec: Spec,
    /// Raised at every change of the spec.
    pub(crate) version: u64,
}

/// One run of a service on a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Task {
    pub(crate) service: String,
    pub(crate) service_name: String,
    /// 0 for global services.
    pub(crate) slot: u64,
    /// Empty until it is assigned. A task of a global service has its node from the start.
    pub(crate) node: String,
    pub(crate) version: u64,
    pub(crate) spec: Spec,
    pub(crate) desired: i32,
    pub(crate) state: i32,
    pub(crate) message: String,
    pub(crate) err: String,
    pub(crate) pid: i32,
    pub(crate) exit_code: i32,
    /// When the state was set, milliseconds since 1970.
    pub(crate) since_ms: u64,
    /// Not assigned before.
    pub(crate) start_at_ms: u64,
}

const FILE: &str = "state.json";

/// Whether `dir` holds a lab.
pub(crate) fn exists(dir: &Path) -> bool {
    dir.join(FILE).exists()
}

/// Reads the state.
///
/// # Errors
/// The file can not be read, or is no state.
pub(crate) fn load(dir: &Path) -> io::Result<State> {
    Ok(serde_json::from_slice(&fs::read(dir.join(FILE))?)?)
}

/// Replaces the state on disk; there is the old or the new one at any time.
///
/// # Errors
/// It can not be written.
pub(crate) fn save(dir: &Path, state: &State) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true).mode(0o700).create(dir)?;
    let temporary = dir.join("state.json.new");
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    file.write_all(&serde_json::to_vec_pretty(state)?)?;
    file.sync_all()?;
    fs::rename(&temporary, dir.join(FILE))?;
    File::open(dir)?.sync_all()
}
