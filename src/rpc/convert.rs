//! Protobuf messages ⇄ the model: total, bounded, and lenient where a strict reader would lose a
//! whole message over one byte.
//!
//! Text becomes UTF-8 with replacement characters. An identifier that is none costs the change
//! that it belongs to, told in the log, and never the message. A list of changes is read one by
//! one, so that a message grows in memory no further than its changes do.
//!
//! It does not judge: whether a set applies, or a spec can be run, is decided elsewhere.

use std::{collections::BTreeMap, fmt, time::Duration};

use log::{debug, warn};
use prost::{
    DecodeError, Message,
    encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field},
};

use super::{proto, task};
use crate::{
    limits::{
        ASSIGNMENT_MAX_BYTES, ASSIGNMENTS_MAX_CHANGES, HEARTBEAT_MAX, HEARTBEAT_MIN,
        STATUS_TEXT_MAX_BYTES,
    },
    model::{
        AssignmentSet, Availability, Change, Config, ConfigId, GenericResource, IdError,
        IssuanceState, LogLine, LogOptions, LogSelector, LogStream, LogSubscription,
        NodeDescription, NodeId, NodeRecord, NodeRole, Peer, PortConfig, PortProtocol, PublishMode,
        Secret, SecretBytes, SecretId, ServiceId, SessionId, SessionMessage, SetKind, TaskId,
        TaskState, TaskStatus, UnixTime, WeightedPeer,
    },
};

/// Why a message as a whole can not be used.
#[derive(Debug)]
pub enum MessageError {
    /// It is no protobuf of this kind.
    Protobuf(DecodeError),
    /// It lacks what gives it a meaning, such as the session id.
    Missing(&'static str),
    /// It holds more of something than [`crate::limits`] allows.
    TooMany {
        /// Of what.
        what: &'static str,
        /// The limit that was passed.
        limit: usize,
    },
}

impl fmt::Display for MessageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Protobuf(_) => f.write_str("the manager sent a message that can not be decoded"),
            Self::Missing(what) => write!(f, "the manager sent a message without a valid {what}"),
            Self::TooMany { what, limit } => {
                write!(f, "the manager sent more than {limit} {what} at once")
            }
        }
    }
}

impl std::error::Error for MessageError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Protobuf(error) => Some(error),
            Self::Missing(_) | Self::TooMany { .. } => None,
        }
    }
}

impl From<DecodeError> for MessageError {
    fn from(error: DecodeError) -> Self {
        Self::Protobuf(error)
    }
}

/// Why one change is dropped.
#[derive(Debug)]
pub(super) enum Dropped {
    /// An identifier is none.
    Id(&'static str, IdError),
    /// It is no protobuf of its kind, or nothing at all.
    Undecodable,
    /// It is larger than any object that a manager can store.
    TooLarge,
    /// It holds too many of something.
    TooMany(&'static str),
}

impl fmt::Display for Dropped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(what, error) => write!(f, "bad {what}: {error}"),
            Self::Undecodable => f.write_str("can not be decoded"),
            Self::TooLarge => write!(f, "more than {ASSIGNMENT_MAX_BYTES} bytes"),
            Self::TooMany(what) => write!(f, "too many {what}"),
        }
    }
}

/// Bytes as text; what is not UTF-8 becomes replacement characters.
pub(super) fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

pub(super) fn texts(list: Vec<Vec<u8>>) -> Vec<String> {
    list.into_iter().map(text).collect()
}

/// The last of equal keys wins, as everywhere in protobuf.
pub(super) fn map(pairs: Vec<proto::Pair>) -> BTreeMap<String, String> {
    pairs.into_iter().map(|pair| (text(pair.key), text(pair.value))).collect()
}

/// Reads an identifier out of `bytes`; `what` names it in the log.
pub(super) fn id<T>(
    what: &'static str,
    bytes: &[u8],
    new: fn(&str) -> Result<T, IdError>,
) -> Result<T, Dropped> {
    let text = std::str::from_utf8(bytes).map_err(|_| Dropped::Id(what, IdError::BadCharacter))?;
    new(text).map_err(|error| Dropped::Id(what, error))
}

/// A span of time; negative ones count as none.
pub(super) fn span(wire: Option<proto::Duration>) -> Duration {
    let Some(wire) = wire else { return Duration::ZERO };
    match (u64::try_from(wire.seconds), u32::try_from(wire.nanos)) {
        (Ok(seconds), Ok(nanos)) if nanos < 1_000_000_000 => Duration::new(seconds, nanos),
        (Ok(seconds), _) => Duration::from_secs(seconds),
        (Err(_), _) => Duration::ZERO,
    }
}

fn time(wire: proto::Timestamp) -> UnixTime {
    let whole = UnixTime::from_seconds(wire.seconds);
    UnixTime::from_nanos(whole.nanos().saturating_add(i64::from(wire.nanos)))
}

const fn timestamp(at: UnixTime) -> proto::Timestamp {
    proto::Timestamp { seconds: at.seconds(), nanos: at.subsec_nanos() }
}

/// The state with this number. The numbers leave room for states between them: an unknown one
/// counts as the state below it, and one below all counts as the first.
pub(super) fn state(number: i32) -> TaskState {
    TaskState::ALL
        .into_iter()
        .rev()
        .find(|state| state.number() <= number)
        .unwrap_or(TaskState::New)
}

const fn role(number: i32) -> NodeRole {
    if number == 1 { NodeRole::Manager } else { NodeRole::Worker }
}

const fn issuance(status: Option<&proto::IssuanceStatus>) -> IssuanceState {
    let Some(status) = status else { return IssuanceState::Unknown };
    match status.state {
        1 => IssuanceState::Renew,
        2 => IssuanceState::Pending,
        3 => IssuanceState::Issued,
        4 => IssuanceState::Failed,
        5 => IssuanceState::Rotate,
        _ => IssuanceState::Unknown,
    }
}

pub(super) const fn availability_number(availability: Availability) -> i32 {
    match availability {
        Availability::Active => 0,
        Availability::Pause => 1,
        Availability::Drain => 2,
    }
}

const fn availability(number: i32) -> Availability {
    match number {
        1 => Availability::Pause,
        2 => Availability::Drain,
        _ => Availability::Active,
    }
}

/// What a manager says of a certificate that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateAnswer {
    /// How far it is.
    pub state: IssuanceState,
    /// Why it failed.
    pub err: String,
    /// The request that this answers, PEM: compare it with the one that was sent.
    pub csr: Vec<u8>,
    /// Leaf, then intermediates, PEM; empty while there is none.
    pub chain: Vec<u8>,
    /// The role that the certificate carries.
    pub role: NodeRole,
}

pub(super) fn certificate_answer(wire: proto::NodeCertificateStatusResponse) -> CertificateAnswer {
    let state = issuance(wire.status.as_ref());
    let certificate = wire.certificate.unwrap_or_default();
    CertificateAnswer {
        state,
        err: text(wire.status.unwrap_or_default().err),
        csr: certificate.csr,
        chain: certificate.certificate,
        role: role(certificate.role),
    }
}

/// Reads a SessionMessage.
///
/// # Errors
/// [`MessageError`] when it can not be decoded or has no valid session id.
pub fn session_message(data: &[u8]) -> Result<SessionMessage, MessageError> {
    let wire = proto::SessionMessage::decode(data)?;
    let session_id = id("session id", &wire.session_id, SessionId::new)
        .map_err(|_| MessageError::Missing("session id"))?;
    let node = wire.node.and_then(|node| match node_record(&node) {
        Ok(record) => Some(record),
        Err(why) => {
            warn!("node record dropped: {why}");
            None
        }
    });
    let managers = wire
        .managers
        .into_iter()
        .filter_map(|weighted| {
            let peer = weighted.peer?;
            let peer = Peer { node_id: text(peer.node_id), addr: text(peer.addr) };
            (!peer.addr.is_empty()).then_some(WeightedPeer { peer, weight: weighted.weight })
        })
        .collect();
    Ok(SessionMessage { session_id, node, managers, root_ca: wire.root_ca })
}

fn node_record(wire: &proto::Node) -> Result<NodeRecord, Dropped> {
    let spec = wire.spec.unwrap_or_default();
    Ok(NodeRecord {
        id: id("node id", &wire.id, NodeId::new)?,
        role: role(wire.role),
        desired_role: role(spec.desired_role),
        availability: availability(spec.availability),
        certificate: issuance(wire.certificate.as_ref().and_then(|c| c.status.as_ref())),
    })
}

/// The pause until the next heartbeat, kept between [`HEARTBEAT_MIN`] and [`HEARTBEAT_MAX`].
pub(super) fn heartbeat_period(wire: &proto::HeartbeatResponse) -> Duration {
    span(wire.period).clamp(HEARTBEAT_MIN, HEARTBEAT_MAX)
}

pub(super) fn description(node: &NodeDescription) -> proto::NodeDescription {
    let bytes = |text: &str| text.as_bytes().to_vec();
    let generic = |resource: &GenericResource| proto::GenericResource {
        resource: Some(match resource {
            GenericResource::Named { kind, value } => {
                proto::generic_resource::Resource::Named(proto::NamedGenericResource {
                    kind: bytes(kind),
                    value: bytes(value),
                })
            }
            GenericResource::Discrete { kind, value } => {
                proto::generic_resource::Resource::Discrete(proto::DiscreteGenericResource {
                    kind: bytes(kind),
                    value: *value,
                })
            }
        }),
    };
    proto::NodeDescription {
        hostname: bytes(&node.hostname),
        platform: Some(proto::Platform {
            architecture: bytes(&node.architecture),
            os: bytes("linux"),
        }),
        resources: Some(proto::Resources {
            nano_cpus: node.resources.nano_cpus,
            memory_bytes: node.resources.memory_bytes,
            generic: node.resources.generic.iter().map(generic).collect(),
        }),
        // Never absent: a node without an engine makes managers fail on label filters.
        engine: Some(proto::EngineDescription {
            engine_version: bytes(&node.engine_version),
            labels: node
                .engine_labels
                .iter()
                .map(|(key, value)| proto::Pair { key: bytes(key), value: bytes(value) })
                .collect(),
            plugins: node
                .plugins
                .iter()
                .map(|plugin| proto::PluginDescription {
                    r#type: bytes(plugin.kind),
                    name: bytes(plugin.name),
                })
                .collect(),
        }),
        tls_info: Some(proto::NodeTlsInfo {
            trust_root: node.tls_info.trust_root.clone(),
            cert_issuer_subject: node.tls_info.cert_issuer_subject.clone(),
            cert_issuer_public_key: node.tls_info.cert_issuer_public_key.clone(),
        }),
    }
}

/// Reads an AssignmentsMessage.
///
/// Changes that can not be used are dropped with a warning; volumes of CSI drivers are dropped
/// silently, for this node offers none.
///
/// # Errors
/// [`MessageError`] when it can not be decoded, or holds more than [`ASSIGNMENTS_MAX_CHANGES`].
pub fn assignments(mut data: &[u8]) -> Result<AssignmentSet, MessageError> {
    let mut set = AssignmentSet {
        kind: SetKind::Complete,
        applies_to: String::new(),
        results_in: String::new(),
        changes: Vec::new(),
    };
    let mut seen = 0_usize;
    while !data.is_empty() {
        let (tag, wire_type) = decode_key(&mut data)?;
        match (tag, wire_type) {
            (1, WireType::Varint) => {
                // An unknown kind is read as a set that must fit to the one before.
                let complete = decode_varint(&mut data)? == 0;
                set.kind = if complete { SetKind::Complete } else { SetKind::Incremental };
            }
            (2, WireType::LengthDelimited) => set.applies_to = text(field(&mut data)?.to_vec()),
            (3, WireType::LengthDelimited) => set.results_in = text(field(&mut data)?.to_vec()),
            (4, WireType::LengthDelimited) => {
                let bytes = field(&mut data)?;
                seen += 1;
                if ASSIGNMENTS_MAX_CHANGES < seen {
                    return Err(MessageError::TooMany {
                        what: "assignments",
                        limit: ASSIGNMENTS_MAX_CHANGES,
                    });
                }
                match change(bytes) {
                    Ok(Some(change)) => set.changes.push(change),
                    Ok(None) => debug!("assignment of an unknown kind dropped"),
                    Err(why) => warn!("assignment dropped: {why}"),
                }
            }
            (
                _,
                WireType::Varint
                | WireType::LengthDelimited
                | WireType::SixtyFourBit
                | WireType::ThirtyTwoBit
                | WireType::StartGroup
                | WireType::EndGroup,
            ) => skip_field(wire_type, tag, &mut data, DecodeContext::default())?,
        }
    }
    Ok(set)
}

/// Takes a length and as many bytes off the front of `data`.
fn field<'a>(data: &mut &'a [u8]) -> Result<&'a [u8], MessageError> {
    let length = usize::try_from(decode_varint(data)?).unwrap_or(usize::MAX);
    let (field, rest) =
        data.split_at_checked(length).ok_or(MessageError::Missing("length of a field"))?;
    *data = rest;
    Ok(field)
}

/// One change; nothing when it is about something that this node does not deal in.
fn change(data: &[u8]) -> Result<Option<Change>, Dropped> {
    use proto::assignment::Item;

    if ASSIGNMENT_MAX_BYTES < data.len() {
        return Err(Dropped::TooLarge);
    }
    let wire = proto::AssignmentChange::decode(data).map_err(|_| Dropped::Undecodable)?;
    let Some(item) = wire.assignment.and_then(|assignment| assignment.item) else {
        return Ok(None);
    };
    let change = match (wire.action, item) {
        (0, Item::Task(wire)) => Change::UpdateTask(Box::new(task::task(wire)?)),
        (1, Item::Task(wire)) => Change::RemoveTask(id("task id", &wire.id, TaskId::new)?),
        (0, Item::Secret(wire)) => {
            let id = id("secret id", &wire.id, SecretId::new)?;
            let (name, data, templating) = payload(wire);
            Change::UpdateSecret(Secret { id, name, data, templating })
        }
        (1, Item::Secret(wire)) => Change::RemoveSecret(id("secret id", &wire.id, SecretId::new)?),
        (0, Item::Config(wire)) => {
            let id = id("config id", &wire.id, ConfigId::new)?;
            let (name, data, templating) = payload(wire);
            Change::UpdateConfig(Config { id, name, data, templating })
        }
        (1, Item::Config(wire)) => Change::RemoveConfig(id("config id", &wire.id, ConfigId::new)?),
        (_, Item::Task(_) | Item::Secret(_) | Item::Config(_) | Item::Volume(_)) => {
            return Ok(None);
        }
    };
    Ok(Some(change))
}

/// Name, content and template language of a secret or config.
fn payload(wire: proto::Secret) -> (String, SecretBytes, String) {
    let spec = wire.spec.unwrap_or_default();
    (
        text(spec.annotations.unwrap_or_default().name),
        SecretBytes::new(spec.data),
        text(spec.templating.unwrap_or_default().name),
    )
}

pub(super) fn ports(list: Vec<proto::PortConfig>) -> Vec<PortConfig> {
    list.into_iter()
        .filter_map(|wire| {
            let protocol = match wire.protocol {
                0 => PortProtocol::Tcp,
                1 => PortProtocol::Udp,
                2 => PortProtocol::Sctp,
                number => {
                    warn!("port of an unknown protocol dropped protocol={number}");
                    return None;
                }
            };
            let mode =
                if wire.publish_mode == 1 { PublishMode::Host } else { PublishMode::Ingress };
            Some(PortConfig {
                protocol,
                target: wire.target_port,
                published: wire.published_port,
                mode,
            })
        })
        .collect()
}

pub(super) fn status(wire: proto::TaskStatus) -> TaskStatus {
    TaskStatus {
        at: wire.timestamp.map(time).unwrap_or_default(),
        state: state(wire.state),
        message: text(wire.message),
        err: text(wire.err),
        container: wire.container.and_then(|container| {
            // What the managers know of a container is only shown; an odd id is no container.
            let id = id("container id", &container.container_id, crate::model::ContainerId::new);
            Some(crate::model::ContainerStatus {
                id: id.ok()?,
                pid: container.pid,
                exit_code: container.exit_code,
            })
        }),
        ports: ports(wire.port_status.unwrap_or_default().ports),
    }
}

/// A part of a character may be lost at the cut; managers do not check.
fn bounded(text: &str) -> Vec<u8> {
    text.bytes().take(STATUS_TEXT_MAX_BYTES).collect()
}

pub(super) fn status_update(task: &TaskId, status: &TaskStatus) -> proto::TaskStatusUpdate {
    let port = |port: &PortConfig| proto::PortConfig {
        protocol: match port.protocol {
            PortProtocol::Tcp => 0,
            PortProtocol::Udp => 1,
            PortProtocol::Sctp => 2,
        },
        target_port: port.target,
        published_port: port.published,
        publish_mode: match port.mode {
            PublishMode::Ingress => 0,
            PublishMode::Host => 1,
        },
    };
    proto::TaskStatusUpdate {
        task_id: task.as_str().into(),
        status: Some(proto::TaskStatus {
            timestamp: Some(timestamp(status.at)),
            state: status.state.number(),
            message: bounded(&status.message),
            err: bounded(&status.err),
            container: status.container.as_ref().map(|container| proto::ContainerStatus {
                container_id: container.id.as_str().into(),
                pid: container.pid,
                exit_code: container.exit_code,
            }),
            port_status: (TaskState::Starting <= status.state)
                .then(|| proto::PortStatus { ports: status.ports.iter().map(port).collect() }),
        }),
    }
}

/// Reads a SubscriptionMessage of the LogBroker.
///
/// # Errors
/// [`MessageError`] when it can not be decoded or names no subscription.
pub fn subscription(data: &[u8]) -> Result<LogSubscription, MessageError> {
    let wire = proto::SubscriptionMessage::decode(data)?;
    if wire.id.is_empty() {
        return Err(MessageError::Missing("subscription id"));
    }
    let selector = wire.selector.unwrap_or_default();
    let options = wire.options.unwrap_or_default();
    let (stdout, stderr) = (options.streams.contains(&1), options.streams.contains(&2));
    let both = !stdout && !stderr;
    Ok(LogSubscription {
        id: text(wire.id),
        close: wire.close,
        selector: LogSelector {
            services: ids("service id", &selector.service_ids, ServiceId::new),
            nodes: ids("node id", &selector.node_ids, NodeId::new),
            tasks: ids("task id", &selector.task_ids, TaskId::new),
        },
        options: LogOptions {
            stdout: stdout || both,
            stderr: stderr || both,
            follow: options.follow,
            // -1: none, -(n+1): the last n, 0: all. Docker refuses positive ones, which would
            // count from the start; they are read as all.
            tail: (options.tail < 0).then(|| options.tail.unsigned_abs() - 1),
            since: options.since.map(time),
        },
    })
}

fn ids<T>(what: &'static str, list: &[Vec<u8>], new: fn(&str) -> Result<T, IdError>) -> Vec<T> {
    list.iter()
        .filter_map(|bytes| match id(what, bytes, new) {
            Ok(id) => Some(id),
            Err(why) => {
                warn!("log selector entry dropped: {why}");
                None
            }
        })
        .collect()
}

pub(super) fn log_message(context: &proto::LogContext, line: LogLine) -> proto::LogMessage {
    proto::LogMessage {
        context: Some(context.clone()),
        timestamp: Some(timestamp(line.at)),
        stream: match line.stream {
            LogStream::Stdout => 1,
            LogStream::Stderr => 2,
        },
        data: line.data,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(tag: u32, bytes: &[u8], out: &mut Vec<u8>) {
        prost::encoding::bytes::encode(tag, &bytes.to_vec(), out);
    }

    fn set(changes: &[proto::AssignmentChange]) -> Vec<u8> {
        let mut data = Vec::new();
        for change in changes {
            put(4, &change.encode_to_vec(), &mut data);
        }
        data
    }

    fn secret(id: &str, action: i32) -> proto::AssignmentChange {
        let secret = proto::Secret { id: id.into(), spec: None };
        let item = Some(proto::assignment::Item::Secret(secret));
        proto::AssignmentChange { assignment: Some(proto::Assignment { item }), action }
    }

    #[test]
    fn one_bad_change_costs_only_itself() {
        let mut data = set(&[secret("a/b", 0), secret("good", 1), secret("odd", 7)]);
        put(4, b"\xff\xff", &mut data);
        put(4, &[], &mut data);
        put(4, &vec![0; ASSIGNMENT_MAX_BYTES + 1], &mut data);
        put(99, b"from the future", &mut data);
        put(3, b"2", &mut data);
        let set = assignments(&data).unwrap();
        assert_eq!(set.changes, [Change::RemoveSecret(SecretId::new("good").unwrap())]);
        assert_eq!((set.kind, &*set.results_in), (SetKind::Complete, "2"));
    }

    #[test]
    fn a_set_of_too_many_changes_is_refused() {
        let data = b"\x22\0".repeat(ASSIGNMENTS_MAX_CHANGES);
        assert!(assignments(&data).unwrap().changes.is_empty());
        let data = b"\x22\0".repeat(ASSIGNMENTS_MAX_CHANGES + 1);
        assert!(matches!(assignments(&data), Err(MessageError::TooMany { .. })));
    }

    #[test]
    fn a_set_cut_anywhere_is_an_error_or_a_shorter_set() {
        let whole = set(&[secret("one", 0), secret("two", 0)]);
        let mut errors = 0;
        for end in 0..whole.len() {
            match assignments(whole.get(..end).unwrap()) {
                Ok(set) => assert!(set.changes.len() < 2),
                Err(_) => errors += 1,
            }
        }
        assert_eq!(errors, whole.len() - 2);
        // A length that no memory could hold.
        assert!(assignments(b"\x22\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01").is_err());
    }

    #[test]
    fn a_session_message_needs_its_id_and_nothing_else() {
        let wire = proto::SessionMessage {
            session_id: b"s1".to_vec(),
            node: Some(proto::Node { id: b"not an id".to_vec(), ..Default::default() }),
            managers: vec![proto::WeightedPeer::default()],
            root_ca: Vec::new(),
        };
        let message = session_message(&wire.encode_to_vec()).unwrap();
        assert_eq!(message.node, None);
        assert!(message.managers.is_empty(), "a manager without an address is none");
        let wire = proto::SessionMessage::default();
        assert!(matches!(session_message(&wire.encode_to_vec()), Err(MessageError::Missing(_))));
    }

    #[test]
    fn an_order_to_rotate_is_seen() {
        let certificate = proto::Certificate {
            status: Some(proto::IssuanceStatus { state: 5, err: Vec::new() }),
            ..Default::default()
        };
        let node = proto::Node {
            id: b"n1".to_vec(),
            spec: Some(proto::NodeSpec { desired_role: 1, availability: 2 }),
            certificate: Some(certificate),
            role: 0,
        };
        let record = node_record(&node).unwrap();
        assert_eq!(record.certificate, IssuanceState::Rotate);
        assert_eq!((record.role, record.desired_role), (NodeRole::Worker, NodeRole::Manager));
        assert_eq!(record.availability, Availability::Drain);
    }

    #[test]
    fn an_unknown_state_counts_as_the_one_below() {
        assert_eq!(state(512), TaskState::Running);
        assert_eq!(state(600), TaskState::Complete);
        assert_eq!(state(-1), TaskState::New);
        assert_eq!(state(i32::MAX), TaskState::Orphaned);
    }

    #[test]
    fn a_heartbeat_is_never_a_busy_loop_nor_forgotten() {
        let period = |seconds, nanos| {
            let period = Some(proto::Duration { seconds, nanos });
            heartbeat_period(&proto::HeartbeatResponse { period })
        };
        assert_eq!(period(5, 250_000_000), Duration::from_millis(5250));
        assert_eq!(period(-5, 0), HEARTBEAT_MIN);
        assert_eq!(period(i64::MAX, i32::MAX), HEARTBEAT_MAX);
        assert_eq!(heartbeat_period(&proto::HeartbeatResponse::default()), HEARTBEAT_MIN);
    }

    #[test]
    fn log_options_are_read_as_docker_means_them() {
        let read = |streams: Vec<i32>, tail| {
            let options = proto::LogSubscriptionOptions {
                streams,
                tail,
                follow: true,
                since: Some(proto::Timestamp { seconds: 1, nanos: 5 }),
            };
            let wire = proto::SubscriptionMessage {
                id: b"sub".to_vec(),
                options: Some(options),
                ..Default::default()
            };
            subscription(&wire.encode_to_vec()).unwrap().options
        };
        for (tail, lines) in
            [(0, None), (-1, Some(0)), (-11, Some(10)), (3, None), (i64::MIN, Some((1 << 63) - 1))]
        {
            assert_eq!(read(vec![], tail).tail, lines, "{tail}");
        }
        let options = read(vec![2], 0);
        assert_eq!((options.stdout, options.stderr), (false, true));
        assert_eq!(options.since, Some(UnixTime::from_nanos(1_000_000_005)));
        let options = read(vec![], 0);
        assert_eq!((options.stdout, options.stderr), (true, true));
        // The unpacked form, which older encoders send.
        let mut data = Vec::new();
        put(1, b"sub", &mut data);
        put(3, b"\x08\x01\x08\x02", &mut data);
        let options = subscription(&data).unwrap().options;
        assert_eq!((options.stdout, options.stderr), (true, true));
        assert!(subscription(&[]).is_err());
    }

    #[test]
    fn a_status_keeps_its_numbers_and_bounds_its_text() {
        let status = TaskStatus {
            at: UnixTime::from_nanos(-1),
            state: TaskState::Failed,
            message: "started".to_owned(),
            err: "x".repeat(STATUS_TEXT_MAX_BYTES + 1),
            container: None,
            ports: Vec::new(),
        };
        let wire = status_update(&TaskId::new("t1").unwrap(), &status).status.unwrap();
        let at = wire.timestamp.unwrap();
        assert_eq!((at.seconds, at.nanos, wire.state), (-1, 999_999_999, 704));
        assert_eq!(wire.err.len(), STATUS_TEXT_MAX_BYTES);
        assert_eq!(super::status(wire).at, status.at);
    }

    #[test]
    fn a_node_always_describes_an_engine() {
        let node = NodeDescription {
            hostname: "edge".to_owned(),
            architecture: "armv7l".to_owned(),
            resources: crate::model::NodeResources::default(),
            engine_version: String::new(),
            engine_labels: BTreeMap::new(),
            plugins: Vec::new(),
            tls_info: crate::model::TlsInfo::default(),
        };
        let request =
            proto::SessionRequest { description: Some(description(&node)), session_id: Vec::new() };
        let read = proto::SessionRequest::decode(&*request.encode_to_vec()).unwrap();
        assert!(read.description.unwrap().engine.is_some());
    }
}
