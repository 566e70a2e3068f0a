//! Protobuf messages ⇄ the model: total, bounded, and lenient where a strict reader would lose a
//! whole message over one byte.
//!
//! Text becomes UTF-8 with replacement characters. An identifier that is none costs the change
//! that it belongs to, told in the log, and never the message. Assignments are read in
//! `assignments.rs`, tasks in `task.rs`.
//!
//! It does not judge: whether a set applies, or a spec can be run, is decided elsewhere.

use std::{collections::BTreeMap, fmt, time::Duration};

use log::warn;
use prost::{DecodeError, Message};

use super::proto;
use crate::{
    limits::{HEARTBEAT_MAX, HEARTBEAT_MIN, MANAGERS_MAX, STATUS_TEXT_MAX_BYTES},
    model::{
        Availability, ContainerId, ContainerStatus, GenericResource, IdError, IssuanceState,
        LogLine, LogOptions, LogSelector, LogStream, LogSubscription, NodeDescription, NodeId,
        NodeRecord, NodeRole, Peer, PortConfig, PortProtocol, PublishMode, ServiceId, SessionId,
        SessionMessage, TaskId, TaskState, TaskStatus, UnixTime, WeightedPeer,
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
    /// It has more bytes than this.
    TooLarge(usize),
    /// It holds too many of something.
    TooMany(&'static str),
}

impl fmt::Display for Dropped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(what, error) => write!(f, "bad {what}: {error}"),
            Self::Undecodable => f.write_str("can not be decoded"),
            Self::TooLarge(limit) => write!(f, "more than {limit} bytes"),
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

/// Reads a NodeCertificateStatusResponse.
///
/// # Errors
/// [`MessageError`] when it can not be decoded.
pub fn certificate_answer(data: &[u8]) -> Result<CertificateAnswer, MessageError> {
    let wire = proto::NodeCertificateStatusResponse::decode(data)?;
    let state = issuance(wire.status.as_ref());
    let certificate = wire.certificate.unwrap_or_default();
    Ok(CertificateAnswer {
        state,
        err: text(wire.status.unwrap_or_default().err),
        csr: certificate.csr,
        chain: certificate.certificate,
        role: role(certificate.role),
    })
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
        .iter()
        .filter_map(|weighted| {
            let weighted = proto::WeightedPeer::decode(weighted.as_slice()).ok()?;
            let peer = weighted.peer?;
            let peer = Peer { node_id: text(peer.node_id), addr: text(peer.addr) };
            (!peer.addr.is_empty()).then_some(WeightedPeer { peer, weight: weighted.weight })
        })
        // One more than is remembered, so that it is told.
        .take(MANAGERS_MAX + 1)
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
            let id = id("container id", &container.container_id, ContainerId::new);
            Some(ContainerStatus {
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

pub(super) fn log_message(
    context: &proto::LogContext,
    attributes: &[proto::Pair],
    line: LogLine,
) -> proto::LogMessage {
    proto::LogMessage {
        context: Some(context.clone()),
        timestamp: Some(timestamp(line.at)),
        stream: match line.stream {
            LogStream::Stdout => 1,
            LogStream::Stderr => 2,
        },
        data: line.data,
        attrs: attributes.to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(tag: u32, bytes: &[u8], out: &mut Vec<u8>) {
        prost::encoding::bytes::encode(tag, &bytes.to_vec(), out);
    }

    #[test]
    fn a_session_message_needs_its_id_and_nothing_else() {
        let wire = proto::SessionMessage {
            session_id: b"s1".to_vec(),
            node: Some(proto::Node { id: b"not an id".to_vec(), ..Default::default() }),
            managers: vec![Vec::new(), b"no peer".to_vec()],
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
